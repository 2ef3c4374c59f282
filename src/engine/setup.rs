//! All that a core is told at its birth.

use crate::base::inbox::Nodes;
use crate::base::limits::Limits;
use crate::base::net::CoreId;
use crate::deferred::policy::Policy;
use crate::store::directory::Directory;
use crate::store::recovery::HomeRecovered;
use crate::store::segments::Segments;
use crate::store::stamp::Stamps;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How SIP travels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

/// An address to listen on or to send to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SipAddress {
    /// How.
    pub transport: Transport,
    /// Where.
    pub addr: SocketAddr,
}

/// The `[sip]` section.
#[derive(Clone, PartialEq, Debug)]
pub struct SipSetup {
    /// Where we listen, with the ports that were really bound. UDP socket n is the n-th UDP entry.
    pub listen: Vec<SipAddress>,
    /// `host[:port]` in Via and Contact when listening on a wildcard.
    pub advertise: Option<String>,
    /// The SIP/IP core.
    pub outbound_proxy: Option<SipAddress>,
    /// Peers whose P-Asserted-Identity is believed.
    pub trusted: Vec<IpNet>,
}

/// The `[msrp]` section.
#[derive(Clone, PartialEq, Debug)]
pub struct MsrpSetup {
    /// Where this core listens: its own ports already (the configured one plus the core's number).
    pub listen: Vec<SocketAddr>,
    /// `host` in our paths when listening on a wildcard.
    pub advertise: Option<String>,
    /// Networks we may connect to when the client is passive.
    pub connect_allow: Vec<IpNet>,
    /// Bind our listening port when connecting.
    pub bind_source: bool,
    /// Largest chunk, octets of body.
    pub chunk_max: usize,
    /// Most unanswered messages of one session.
    pub window_messages: u32,
    /// Most unanswered octets of one session.
    pub window_octets: usize,
    /// The client must have connected and sent its first request by then.
    pub bind_timeout: Duration,
    /// A SEND must have been answered by then.
    pub tx_timeout: Duration,
}

/// Everything one core needs to know that does not change while it runs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which core this is.
    pub core: CoreId,
    /// Of how many.
    pub cores: u16,
    /// SIP.
    pub sip: SipSetup,
    /// MSRP.
    pub msrp: MsrpSetup,
    /// The operator's choices.
    pub policy: Policy,
    /// The bounds.
    pub limits: Limits,
    /// Where this core's chance comes from.
    pub seed: [u8; 32],
}

/// What a core begins with: its log where recovery left it, and its users.
pub struct Birth {
    /// This core's log.
    pub log: crate::store::log::Log,
    /// The users of all cores.
    pub directory: Arc<Directory>,
    /// This core's nodes for inboxes.
    pub nodes: Nodes,
    /// Which log a segment belongs to.
    pub segments: Arc<Segments>,
    /// Stamps above all that were found.
    pub stamps: Stamps,
    /// What is at home here.
    pub home: HomeRecovered,
}
