//! What every use case may ask of the core it runs on, and the time it is.
//!
//! A use case never does I/O and never knows which core asked: it says `cx.respond(..)`, `cx.dial(..)`, `cx.commit(..)` and is
//! told later what became of it. What has to leave the core is an [`Ask`]; `engine` carries them out.

use super::forward::Moved;
use super::identity::Address;
use super::owed::{Owed, Recorded};
use super::policy::Policy;
use super::states::StateWritten;
use super::summary::Subscribed;
use super::users::{Batch, Buried};
use crate::base::arena::Key;
use crate::base::clock::{Now, Tick};
use crate::base::dice::Dice;
use crate::base::inbox::Nodes;
use crate::base::net::{ConnId, CoreId, Flow, SocketId};
use crate::base::timers::{TimerKey, Timers};
use crate::proto::sip::endpoint::{Endpoint, ServerKey};
use crate::store::directory::{Directory, UserId};
use crate::store::disk::DiskOp;
use crate::store::loader::Loader;
use crate::store::log::{Log, Seq};
use crate::store::record::{Extent, Locator};
use crate::store::segments::Segments;
use crate::store::stamp::Stamps;
use crate::store::states::States;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where the answer to a request goes: the core that owns the transaction may be another than the one that decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reply {
    /// Owner of the server transaction.
    pub core: CoreId,
    /// Which transaction there.
    pub txn: ServerKey,
}

/// A timer of a use case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Timer {
    /// A push has something to do.
    Push(Key),
    /// A session in which a large message comes has something to do.
    Large(Key),
    /// A user's publications, or the next attempt to push.
    Presence(Address),
    /// There may be room for pushes that wait for their turn.
    Line,
    /// Messages expire.
    Expiry,
    /// Tombstones that the log refused are tried again.
    WriteOff,
    /// What is alive in wanted segments is looked for, or looked for again.
    Forward,
    /// It is looked whether segments can be had back.
    Reclaim,
    /// A delivery report is due.
    Report,
    /// Something in the DELETE bin is to be purged.
    Bin,
    /// Housekeeping of connections.
    Sweep,
    /// A question that concerns all users goes on.
    Inquiry,
    /// A subscription has something to say, or is over.
    Summary(Key),
}

/// Who asked the loader for records: its job's number says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// A push or a retrieval.
    Push(Key),
    /// A REFER that looks for what it names.
    Deletion(Key),
    /// Messages that go, and owe reports.
    Dismissal(Key),
    /// A retrieval that looks for what it names.
    Retrieval(Key),
    /// A push or a retrieval that is sending a large message.
    Feed(Key),
    /// A summary that names what came.
    Summary(Key),
}

impl Reader {
    /// The three highest bits of a key's index, which no arena here reaches: sessions and requests are bounded far below 2^29.
    const SHIFT: u32 = 29;

    /// As a job's number.
    pub fn to_u64(self) -> u64 {
        let (which, key) = match self {
            Reader::Push(key) => (0, key),
            Reader::Deletion(key) => (1, key),
            Reader::Dismissal(key) => (2, key),
            Reader::Retrieval(key) => (3, key),
            Reader::Feed(key) => (4, key),
            Reader::Summary(key) => (5, key),
        };
        key.to_u64() | which << Reader::SHIFT
    }

    /// Back from [`Reader::to_u64`].
    pub fn from_u64(job: u64) -> Reader {
        let key = Key::from_u64(job & !(7 << Reader::SHIFT));
        match job >> Reader::SHIFT & 7 {
            0 => Reader::Push(key),
            1 => Reader::Deletion(key),
            2 => Reader::Dismissal(key),
            3 => Reader::Retrieval(key),
            4 => Reader::Feed(key),
            _ => Reader::Summary(key),
        }
    }
}

/// Something that leaves the core.
#[derive(Debug)]
pub enum Ask {
    /// A response to a transaction of another core.
    Respond {
        /// Whose.
        reply: Reply,
        /// Its status, for the transaction.
        status: u16,
        /// The response.
        octets: Bytes,
    },
    /// A session has something to send on this connection.
    Pump(ConnId),
    /// No session uses this connection any more.
    Hangup(ConnId),
    /// Something waits for another core in shared memory.
    Ring(CoreId),
}

/// A connection to be opened, for a push session or to the SIP/IP core.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// Its name from now on.
    pub conn: ConnId,
    /// Where to.
    pub to: SocketAddr,
    /// Our end, where the peer checks it.
    pub bind: Option<SocketAddr>,
    /// True for MSRP.
    pub msrp: bool,
}

/// What happens when a record is durable, in the order in which the records were appended.
#[derive(Debug)]
pub enum Commit {
    /// A message: show it to its user, answer 202.
    Deposit(Deposited),
    /// A publication: answer 200, and see whether it triggers a push.
    Publish(Box<Published>),
    /// Messages that were delivered, deleted or have expired: take them off the queue, or mark them as had.
    Retire(Box<Batch>),
    /// A report that no tombstone owes: from now on it is to be sent.
    Owe(Box<Recorded>),
    /// A part of a large message, by the message's serial number on this core.
    Part(u64, Extent),
    /// A large message: show it to its user, answer its last chunk.
    Large(u64),
    /// A copied part of a large message, by the serial number of its copying.
    PartMoved(u64, Extent),
    /// Copies of records in wanted segments.
    Moved(Vec<Moved>),
    /// What a segment about to go says of others is in the log once more.
    Carried,
    /// A state.
    State(StateWritten),
    /// A subscription: answer 200, and tell how things stand.
    Subscribe(Box<Subscribed>),
    /// Nobody waits for it.
    Note,
}

/// A message on its way to being durable.
#[derive(Debug)]
pub struct Deposited {
    /// Who is answered: a transaction of this core, with which the 202 lies ready.
    pub txn: ServerKey,
    /// Whose message.
    pub user: UserId,
    /// Where it lies.
    pub locator: Locator,
    /// Its fingerprint, against duplicates.
    pub fingerprint: u64,
    /// Octets reserved of its quota.
    pub octets: u64,
    /// What its sender is told of its being stored, where that was asked for.
    pub stored: Option<Box<Owed>>,
}

/// A publication, or a registration, on its way to being durable.
#[derive(Debug)]
pub struct Published {
    /// Who is answered.
    pub reply: Reply,
    /// With what.
    pub accepted: Bytes,
    /// With what if the disk fails.
    pub refused: Bytes,
    /// Whose publication.
    pub owner: Address,
    /// It carried a document: a fresh trigger even for a user who declined.
    pub fresh: bool,
    /// Its record.
    pub state: StateWritten,
    /// Which of the user's publications, as long as it is not durable.
    pub edition: u64,
    /// False for a removal and a document that says "closed": nothing is pushed for it.
    pub triggers: bool,
    /// It is a reason for a push only after this: a REGISTER's client has more to do first.
    pub after: Duration,
}

/// How peers reach us, as it is written into Via, Contact and SDP.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Per UDP socket: `host:port`.
    pub udp: Vec<(SocketAddr, String)>,
    /// Per TCP listener: `host:port`.
    pub tcp: Vec<(SocketAddr, String)>,
    /// Per MSRP listener of this core: address, and the host to write.
    pub msrp: Vec<(SocketAddr, String)>,
    /// The SIP/IP core over UDP: which socket reaches it.
    pub proxy_udp: Option<(SocketId, SocketAddr)>,
    /// The SIP/IP core over TCP.
    pub proxy_tcp: Option<SocketAddr>,
}

impl Addresses {
    /// `(transport, sent-by)` for a Via or Contact on this flow.
    pub fn sent_by(&self, flow: &Flow) -> (&'static str, &str) {
        let same = |entries: &'_ [(SocketAddr, String)]| {
            let is_v4 = flow.peer().ip().to_canonical().is_ipv4();
            entries.iter().position(|(addr, _)| addr.is_ipv4() == is_v4).or(if entries.is_empty() {
                None
            } else {
                Some(0)
            })
        };
        match flow {
            Flow::Datagram { socket, .. } => {
                ("UDP", self.udp.get(usize::from(socket.0)).map_or("", |(_, text)| text.as_str()))
            }
            // One that listens for datagrams only is reached there, whatever connection it opened to the SIP/IP core.
            Flow::Stream { .. } => {
                let tcp = same(&self.tcp).and_then(|at| self.tcp.get(at));
                let any = tcp.or_else(|| same(&self.udp).and_then(|at| self.udp.get(at)));
                ("TCP", any.map_or("", |(_, text)| text.as_str()))
            }
        }
    }

    /// True when a Via with this sent-by is one of ours.
    pub fn is_own_via(&self, host: &[u8], port: Option<u16>) -> bool {
        const SIP_PORT: u16 = 5060;
        self.udp.iter().chain(&self.tcp).any(|(_, text)| {
            let (own, own_port) = match text.rsplit_once(':').map(|(own, port)| (own, port.parse().ok())) {
                Some((own, Some(port))) => (own, port),
                _ => (text.as_str(), SIP_PORT),
            };
            host.eq_ignore_ascii_case(own.as_bytes()) && port.unwrap_or(SIP_PORT) == own_port
        })
    }

    /// True when a SIP/IP core carries what is for users.
    pub fn has_core(&self) -> bool {
        self.proxy_udp.is_some() || self.proxy_tcp.is_some()
    }

    /// True when `host` (without port) is how we call ourselves.
    pub fn is_own_host(&self, host: &[u8]) -> bool {
        self.udp.iter().chain(&self.tcp).any(|(_, text)| {
            let own = match text.rsplit_once(':') {
                Some((own, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => own,
                _ => text,
            };
            host.eq_ignore_ascii_case(own.as_bytes())
                || host.eq_ignore_ascii_case(own.trim_start_matches('[').trim_end_matches(']').as_bytes())
        })
    }
}

/// One core, as its use cases see it.
pub struct Cx {
    /// Which core this is.
    pub core: CoreId,
    /// The time of this turn.
    pub now: Now,
    /// The operator's choices.
    pub policy: Arc<Policy>,
    /// How peers reach us.
    pub addresses: Addresses,
    /// Chance.
    pub dice: Dice,
    /// The SIP transaction layer.
    pub sip: Endpoint,
    /// This core's log.
    pub log: Log,
    /// Reads from all logs.
    pub loader: Loader,
    /// Which segments there are, and what is alive in them.
    pub segments: Arc<Segments>,
    /// The states of the users at home here.
    pub states: States,
    /// Records that nobody needs any more, for the next tombstone.
    pub buried: Vec<Buried>,
    /// The users of all cores.
    pub directory: Arc<Directory>,
    /// This core's nodes for other cores' inboxes.
    pub nodes: Nodes,
    /// Order of arrival.
    pub stamps: Stamps,
    /// Timers of the use cases.
    pub timers: Timers<Timer>,
    /// What leaves the core.
    pub asks: VecDeque<Ask>,
    /// Connections to be opened before anything is sent.
    pub dials: VecDeque<Dial>,
    /// What waits for its record to be durable.
    pub commits: VecDeque<(Seq, Commit)>,
    /// Counters.
    pub counts: Counts,
    /// The connection to the SIP/IP core, where it is TCP and open or being opened.
    pub proxy: Option<ConnId>,
    /// Connections opened so far.
    pub dialled: u64,
    /// What User-Agent and Server say.
    pub product: Vec<u8>,
    /// What this core wants of the disk.
    pub disk: Vec<DiskOp>,
    /// The daemon is ending: nothing new begins.
    pub stopping: bool,
    /// The operator wants no more deposits here; pushes go on.
    pub draining: bool,
}

/// What one core counted since its start. Plain numbers: they are published by `control`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Messages answered 202, or their last chunk 200, after their commit.
    pub accepted: u64,
    /// Of those, large messages: their last chunk was answered 200.
    pub large_accepted: u64,
    /// Octets of content of large messages received, whatever became of them.
    pub large_octets: u64,
    /// Large messages that were begun and came to nothing: given up, cut off, refused.
    pub large_discarded: u64,
    /// Messages recognised as duplicates.
    pub duplicates: u64,
    /// Messages refused, any status.
    pub refused: u64,
    /// Publications accepted.
    pub publications: u64,
    /// Registrations accepted, of cores and of users.
    pub registrations: u64,
    /// Messages of our own pushes that came back over the SIP/IP core and went on.
    pub forwarded: u64,
    /// Push INVITEs sent, repetitions for 422 and the like not counted.
    pub pushes: u64,
    /// Pushes that had to wait for their turn, because many clients were being rung.
    pub pushes_in_line: u64,
    /// Pushes that ended with BYE after the last message.
    pub pushes_completed: u64,
    /// Pushes that ended otherwise.
    pub pushes_failed: u64,
    /// Messages delivered: acknowledged by their user's client.
    pub delivered: u64,
    /// Octets of stored messages copied by us on their way to a socket: short bodies, marks of expiry, other forms.
    pub push_octets_copied: u64,
    /// Messages sent in another form than they are stored in.
    pub rewrapped: u64,
    /// Octets written anew for them.
    pub rewrapped_octets: u64,
    /// Messages delivered as SIP MESSAGEs, without a session.
    pub paged: u64,
    /// Messages passed over in a session: too large for its client, or of no type that it takes.
    pub unfit: u64,
    /// Messages that expired undelivered.
    pub expired: u64,
    /// Messages that made room for later ones of their user (`policy.quota.policy = "drop_oldest"`).
    pub dropped: u64,
    /// Sessions in which users retrieved messages of their choice.
    pub retrievals: u64,
    /// Messages that their users deleted.
    pub deleted: u64,
    /// Messages refused because their receiver has as much as the quota allows.
    pub over_quota: u64,
    /// Messages refused because their receiver's domain has.
    pub over_domain_quota: u64,
    /// Messages refused because the disk is full or the log has failed.
    pub without_storage: u64,
    /// Messages that the operator deleted.
    pub deleted_by_operator: u64,
    /// Messages purged from the DELETE bin.
    pub purged: u64,
    /// Delivery reports that somebody took.
    pub reports_sent: u64,
    /// Delivery reports that nobody took, or for which there was no room.
    pub reports_given_up: u64,
    /// NOTIFYs of message summaries that were taken.
    pub summaries: u64,
    /// Subscriptions that ended because a NOTIFY failed.
    pub subscriptions_lost: u64,
    /// Malformed SIP.
    pub sip_faults: u64,
    /// Malformed MSRP.
    pub msrp_faults: u64,
    /// Records that failed their check when they were to be pushed.
    pub damaged: u64,
    /// Connections out that `connect_allow` forbade.
    pub connects_forbidden: u64,
    /// Refusals because a bound was reached.
    pub overloads: u64,
    /// Octets of records copied forward out of wanted segments.
    pub copied_octets: u64,
    /// Segments had back.
    pub reclaimed: u64,
}

impl Cx {
    /// Answers a request, on whichever core its transaction lives.
    pub fn respond(&mut self, reply: Reply, status: u16, octets: Bytes) {
        if reply.core == self.core {
            self.sip.respond(self.now.tick, reply.txn, status, octets);
        } else {
            self.asks.push_back(Ask::Respond { reply, status, octets });
        }
    }

    /// A new connection: its name at once, its fate later.
    pub fn dial(&mut self, to: SocketAddr, bind: Option<SocketAddr>, msrp: bool) -> ConnId {
        self.dialled += 1;
        let conn = ConnId(self.dialled * 2 + 1);
        self.dials.push_back(Dial { conn, to, bind, msrp });
        conn
    }

    /// Remembers what to do when the record `seq` is durable.
    pub fn commit(&mut self, seq: Seq, then: Commit) {
        self.commits.push_back((seq, then));
    }

    /// The way to a user's client: through the SIP/IP core where there is one, else back over the flow of their last
    /// publication.
    pub fn flow_to(&mut self, users_own: Option<Flow>) -> Option<Flow> {
        if let Some((socket, peer)) = self.addresses.proxy_udp {
            return Some(Flow::Datagram { socket, peer });
        }
        if let Some(peer) = self.addresses.proxy_tcp {
            let conn = match self.proxy {
                Some(conn) => conn,
                None => self.dial(peer, None, false),
            };
            self.proxy = Some(conn);
            return Some(Flow::Stream { core: self.core, conn, peer });
        }
        users_own
    }

    /// Sets a timer `after` from now.
    pub fn timer(&mut self, after: Duration, timer: Timer) -> TimerKey {
        self.timers.set(self.now.tick + after, timer)
    }

    /// Sets a timer at `at`.
    pub fn timer_at(&mut self, at: Tick, timer: Timer) -> TimerKey {
        self.timers.set(at, timer)
    }

    /// A fresh tag: the core's number, then 64 random bits, so that an in-dialog request that lands elsewhere finds us.
    pub fn tag(&mut self) -> [u8; 20] {
        let mut tag = [0u8; 20];
        let core = self.core.0;
        for (at, octet) in tag[..4].iter_mut().enumerate() {
            *octet = b"0123456789abcdef"[usize::from(core >> (12 - 4 * at)) & 15];
        }
        tag[4..].copy_from_slice(&self.dice.hex::<16>());
        tag
    }

    /// `IM-serv/OMA1.0 deferd/0.1.0`: the release version of Appendix F, then ours.
    pub fn product_line(policy: &Policy) -> Vec<u8> {
        format!("IM-serv/{} deferd/{}", policy.release_version, env!("CARGO_PKG_VERSION")).into_bytes()
    }
}
