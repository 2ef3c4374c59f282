//! The usual scene of a test: one daemon, one record of what happens, alice who sends and bob who is offline.

use std::{
    net::SocketAddr,
    ops::{Deref, DerefMut},
};

use crate::{
    agents::{Client, Sender, SipCore},
    daemon::{Daemon, DaemonOptions},
    log::Log,
    msrp::MsrpMessage,
    payload,
    peer::Transport,
    sip::SipMessage,
};

/// The one who sends.
pub const ALICE: &str = "sip:alice@example.org";
/// The one who is offline.
pub const BOB: &str = "sip:bob@example.org";

/// A daemon and the record of the test's traffic.
pub struct Scene {
    /// Where everything is written down.
    pub log: Log,
    /// The daemon.
    pub daemon: Daemon,
}

impl Scene {
    /// A daemon as users run it, but without a pause between two pushes to a user.
    #[track_caller]
    pub fn new(binary: &str) -> Scene {
        Scene::with(DaemonOptions::new(binary))
    }

    /// The same with options; `policy.push_min_interval` is 0 unless they say otherwise.
    #[track_caller]
    pub fn with(mut options: DaemonOptions) -> Scene {
        options.lines.insert(0, ("policy".into(), "push_min_interval = \"0s\"".into()));
        Scene { log: Log::new(), daemon: Daemon::start(options) }
    }

    /// The same behind a SIP/IP core.
    #[track_caller]
    pub fn behind_core(binary: &str, transport: Transport, record_route: bool) -> (Scene, SipCore) {
        let log = Log::new();
        let core = SipCore::new(&log, transport, record_route);
        let mut options = DaemonOptions::new(binary).line("policy", "push_min_interval = \"0s\"");
        options.outbound_proxy = Some(core.proxy());
        (Scene { log, daemon: Daemon::start(options) }, core)
    }

    /// Alice over UDP.
    #[track_caller]
    pub fn alice(&self) -> Sender {
        Sender::new(&self.log, Transport::Udp, ALICE, self.daemon.sip())
    }

    /// Alice over TCP.
    #[track_caller]
    pub fn alice_tcp(&self) -> Sender {
        Sender::new(&self.log, Transport::Tcp, ALICE, self.daemon.sip())
    }

    /// A client of bob's over TCP.
    #[track_caller]
    pub fn bob(&self) -> Client {
        self.client(Transport::Tcp, BOB, self.daemon.sip())
    }

    /// A client of bob's over UDP.
    #[track_caller]
    pub fn bob_udp(&self) -> Client {
        self.client(Transport::Udp, BOB, self.daemon.sip())
    }

    /// Any client.
    #[track_caller]
    pub fn client(&self, transport: Transport, aor: &str, to: SocketAddr) -> Client {
        Client::new(&self.log, transport, aor, to)
    }

    /// Bob comes online and takes what waits: exactly these deposits, in this order, each unaltered.
    #[track_caller]
    pub fn push_brings(&self, bob: &mut Client, deposits: &[SipMessage]) -> Vec<MsrpMessage> {
        bob.publish_presence(true);
        let pushed = bob.take_push(deposits.len());
        self.same(&pushed, deposits);
        pushed
    }

    /// Insists that pushed messages are these deposits, in this order, each unaltered; returns the requests inside.
    #[track_caller]
    pub fn same(&self, pushed: &[MsrpMessage], deposits: &[SipMessage]) -> Vec<SipMessage> {
        if pushed.len() != deposits.len() {
            self.log.fail(format!("{} messages were deposited and {} pushed", deposits.len(), pushed.len()));
        }
        let judged = pushed.iter().zip(deposits).map(|(message, deposit)| match payload::pager_is(message, deposit) {
            Ok(inner) => inner,
            Err(why) => self.log.fail(format!("{}: {why}", message.message_id)),
        });
        judged.collect()
    }

    /// Insists that nothing is pushed to this user: a marker deposited last is all that comes.
    #[track_caller]
    pub fn nothing_waits(&self, bob: &mut Client) {
        let marker = self.alice().message(&bob.aor, "nothing stands before me");
        self.push_brings(bob, &[marker]);
    }
}

impl Deref for Scene {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}
