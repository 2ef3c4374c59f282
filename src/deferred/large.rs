//! Receiving SIP INVITE for deferred Large Message (12.2.2.1): a session is answered in its user's name, and what comes over it is
//! kept.
//!
//! This file holds the life of such a session. What its INVITE must say is in `judge`, the requests within its dialog in `within`, its
//! MSRP side in `media`; one message while it comes in `incoming`, its end in `whole`, the form in which it is kept in `wrap`.
//!
//! ```text
//!   INVITE ──200──▶ waiting ──first SEND──▶ open ──BYE from either side, 60 s of silence, a lost connection──▶ ending ──▶ (gone)
//!                      └──30 s──────────────────────────────────────────────────────────────────────────────────▲
//! ```
//! The user's home decides, so that whoever is told of a message and whoever keeps it is one.

mod hyphens;
mod incoming;
mod judge;
mod media;
mod pieces;
mod whole;
mod within;
pub(super) mod wrap;

pub use judge::{Asked, is_large};

use super::cx::{Ask, Cx, Reply, Timer};
use super::identity::{Address, LARGE_PREFIX};
use super::invite;
use super::within::Unacked;
use crate::base::arena::{Arena, Key};
use crate::base::clock::Tick;
use crate::base::net::{ConnId, Flow};
use crate::base::spread::SpreadMap;
use crate::base::timers::TimerKey;
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::endpoint::ClientKey;
use crate::proto::sip::offer::Offer;
use crate::proto::sip::session_timer::{SessionTimer, Wish};
use crate::store::directory::UserId;
use crate::store::stamp::Stamp;
use crate::wire::sip::names::Method;
use bytes::Bytes;
use incoming::{Answer, Incoming, Unfit};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use wrap::Head;

/// Nothing came for so long: the sender is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// 64*T1: nobody waits longer for an ACK before a BYE, and for the answer to that (RFC 3261 13.3.1.4, 17.1.2.2).
const GOODBYE: Duration = Duration::from_secs(32);

/// Messages of one session that may be under way at one time. Senders send one after the other; a relay may mix a few.
const UNDER_WAY_MAX: usize = 4;

/// Message-IDs of a session that are remembered as refused: their chunks are refused too.
const REFUSED_MAX: usize = 16;

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Answered; nobody has connected.
    Waiting,
    /// Chunks come.
    Open,
    /// BYE was sent, or will be when the ACK has come.
    Ending,
}

/// Which transaction of a session a response belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Refresh,
    /// A re-INVITE of ours that was accepted: each 2xx that comes again is acknowledged again.
    Refreshed,
    Bye,
}

/// The chunk that is being read.
#[derive(Debug)]
struct Chunk {
    /// Which message; `None`: its content is nobody's.
    message: Option<u64>,
    /// Where its next octets belong.
    at: u64,
    answer: Answer,
    /// What it will be answered, whatever comes.
    status: Option<u16>,
}

struct Session {
    owner: Address,
    sender: Address,
    /// Held until the session is over.
    user: UserId,
    flow: Flow,
    dialog: Dialog,
    contact: Vec<u8>,
    offer: Offer,
    /// Our answer, for a re-INVITE without an offer.
    sdp: Vec<u8>,
    session_id: Bytes,
    local_path: Bytes,
    peer_path: Vec<u8>,
    refresh: Option<SessionTimer>,
    /// What the refresh under way or refused with 422 asks for.
    refresh_wish: Option<Wish>,
    /// An offer of ours is on its way, and has no answer.
    offering: bool,
    /// The last re-INVITE of ours that was accepted, and its ACK.
    refreshed: Option<(ClientKey, Bytes)>,
    head: Arc<Head>,
    stage: Stage,
    until: Tick,
    /// Our last 2xx to an INVITE of the sender's, as long as its ACK has not come: the session is over without.
    unacked: Option<Unacked>,
    /// It was asked for by way of another core, and may yet be taken back there.
    revocable: Option<Reply>,
    conn: Option<ConnId>,
    chunk: Option<Chunk>,
    /// Serial numbers of its messages that are under way.
    messages: Vec<u64>,
    refused: VecDeque<Vec<u8>>,
    /// Its messages that are kept.
    stored: Vec<Stamp>,
    armed: Option<(TimerKey, Tick)>,
}

/// All sessions of this core in which large messages come.
pub struct Larges {
    live: Arena<Session>,
    by_session: SpreadMap<Bytes, Key>,
    /// Those that may yet be taken back: from their 200 to its ACK.
    by_reply: SpreadMap<Reply, Key>,
    by_txn: SpreadMap<ClientKey, (Key, Role)>,
    links: SpreadMap<ConnId, Vec<Key>>,
    /// Messages that are coming or being written, by serial number.
    messages: SpreadMap<u64, Incoming>,
    /// Whose record is not durable yet, by fingerprint: the same that came again meanwhile and waits for that.
    twins: SpreadMap<u64, Vec<u64>>,
    serial: u64,
    /// Messages that the log has no room for now.
    waiting: Vec<u64>,
    /// Connections that are not read for their sake.
    stalled: Vec<ConnId>,
    /// Responses and REPORTs to be sent.
    out: Vec<(ConnId, Bytes)>,
    /// What BYEs say of messages that are kept.
    byes: Vec<(UserId, Stamp, Vec<u8>)>,
    sessions_max: usize,
    bind_timeout: Duration,
}

impl Larges {
    /// None yet; at most `sessions_max` at one time.
    pub fn new(sessions_max: usize, bind_timeout: Duration) -> Larges {
        Larges {
            live: Arena::new(),
            by_session: SpreadMap::default(),
            by_reply: SpreadMap::default(),
            by_txn: SpreadMap::default(),
            links: SpreadMap::default(),
            messages: SpreadMap::default(),
            twins: SpreadMap::default(),
            serial: 0,
            waiting: Vec::new(),
            stalled: Vec::new(),
            out: Vec::new(),
            byes: Vec::new(),
            sessions_max,
            bind_timeout,
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// True when there is none, and nothing is being written.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.messages.is_empty()
    }

    /// How many sessions there are for a user.
    pub fn of(&self, user: UserId) -> u32 {
        self.live.iter().filter(|(_, session)| session.user == user).count() as u32
    }

    /// True when a session uses this connection.
    pub fn uses(&self, conn: ConnId) -> bool {
        self.links.contains_key(&conn)
    }

    /// What is to be sent, and over which connection.
    pub fn take_out(&mut self) -> Vec<(ConnId, Bytes)> {
        std::mem::take(&mut self.out)
    }

    /// What BYEs said of messages that are kept already: whose, which, and the lines to be kept with it.
    pub fn take_byes(&mut self) -> Vec<(UserId, Stamp, Vec<u8>)> {
        std::mem::take(&mut self.byes)
    }

    /// The daemon ends: everybody hears BYE. What is not whole was never promised.
    pub fn stop(&mut self, cx: &mut Cx) {
        let keys: Vec<Key> = self.live.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.hang_up(cx, key);
        }
    }

    /// Ends a session: what is not whole is forgotten, and BYE goes out as soon as the ACK has come.
    fn hang_up(&mut self, cx: &mut Cx, key: Key) {
        self.forget_messages(cx, key);
        let Some(session) = self.live.get_mut(key).filter(|session| session.stage != Stage::Ending) else { return };
        session.stage = Stage::Ending;
        session.until = cx.now.tick + GOODBYE;
        self.unlink(cx, key);
        //= RFC 3261 15: the callee MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx
        if self.live.get(key).is_some_and(|session| session.unacked.is_none()) {
            self.bye(cx, key);
        }
        self.arm(cx, key);
    }

    fn bye(&mut self, cx: &mut Cx, key: Key) {
        let Some(session) = self.live.get_mut(key) else { return };
        session.flow = cx.flow_to(Some(session.flow)).unwrap_or(session.flow);
        let octets = invite::within(cx, &mut session.dialog, Method::Bye, &session.flow).finish();
        session.until = cx.now.tick + GOODBYE;
        match cx.sip.request(cx.now.tick, Method::Bye, octets, session.flow) {
            Ok(txn) => _ = self.by_txn.insert(txn, (key, Role::Bye)),
            Err(_) => self.finish(cx, key),
        }
    }

    /// A session is over.
    fn finish(&mut self, cx: &mut Cx, key: Key) {
        self.forget_messages(cx, key);
        self.unlink(cx, key);
        let Some(session) = self.live.remove(key) else { return };
        if let Some((timer, _)) = session.armed {
            cx.timers.cancel(timer);
        }
        self.by_session.remove(&session.session_id);
        if let Some(reply) = session.revocable {
            self.by_reply.remove(&reply);
        }
        if let Some((txn, _)) = session.refreshed {
            self.by_txn.remove(&txn);
        }
        tracing::debug!(owner = ?session.owner, stored = session.stored.len(), "a session for large messages ended");
        cx.directory.leave(session.user);
        cx.directory.close(session.user);
    }

    /// Its sender has taken the INVITE back at another core, before it heard our 200: it knows of no session that could be ended.
    pub fn cancel(&mut self, cx: &mut Cx, reply: Reply) {
        if let Some(key) = self.by_reply.remove(&reply) {
            self.finish(cx, key);
        }
    }

    /// It does not use its connection any more.
    fn unlink(&mut self, cx: &mut Cx, key: Key) {
        let Some(conn) = self.live.get_mut(key).and_then(|session| session.conn.take()) else { return };
        if let Some(keys) = self.links.get_mut(&conn) {
            keys.retain(|&other| other != key);
            if keys.is_empty() {
                self.links.remove(&conn);
                cx.asks.push_back(Ask::Hangup(conn));
            }
        }
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, cx: &mut Cx, conn: ConnId) {
        self.stalled.retain(|&stalled| stalled != conn);
        for key in self.links.remove(&conn).unwrap_or_default() {
            if let Some(session) = self.live.get_mut(key) {
                session.conn = None;
            }
            self.hang_up(cx, key);
        }
    }

    /// What has not come whole never will: a message whose record is being written is not touched.
    fn forget_messages(&mut self, cx: &mut Cx, key: Key) {
        let Some(session) = self.live.get_mut(key) else { return };
        session.chunk = None;
        for serial in std::mem::take(&mut session.messages) {
            if self.messages.get(&serial).is_some_and(|message| message.last.is_none())
                && let Some(message) = self.messages.remove(&serial)
            {
                cx.counts.large_discarded += 1;
                message.discard(cx);
            }
        }
    }

    /// Takes a message out, whatever becomes of it.
    fn take_message(&mut self, serial: u64) -> Option<Incoming> {
        let message = self.messages.remove(&serial)?;
        self.waiting.retain(|&waiting| waiting != serial);
        if let Some(session) = self.live.get_mut(message.session) {
            session.messages.retain(|&other| other != serial);
        }
        Some(message)
    }

    /// A message is not taken in: its sender is told as soon as there is something to answer, and again for what still comes of it.
    fn refuse(&mut self, cx: &mut Cx, serial: u64, unfit: Unfit) {
        let Some(message) = self.take_message(serial) else { return };
        let status = match unfit {
            Unfit::Senseless => 400,
            Unfit::Type => 415,
            Unfit::TooLarge | Unfit::Storage => 413,
        };
        let answer = match message.last.clone() {
            Some(last) => Some(last),
            None => self.live.get_mut(message.session).and_then(|session| {
                let chunk = session.chunk.as_mut().filter(|chunk| chunk.message == Some(serial))?;
                chunk.message = None;
                // Answered now: the rest of the chunk may be long, and nobody wants it (RFC 4975 10.5).
                let answered = Answer { success: false, failure: false, ..chunk.answer.clone() };
                Some(std::mem::replace(&mut chunk.answer, answered))
            }),
        };
        self.answer(message.conn, &message.local_path, answer.as_ref(), status);
        tracing::info!(owner = ?message.owner, ?unfit, "a large message is refused");
        cx.counts.refused += 1;
        cx.counts.large_discarded += 1;
        if unfit == Unfit::Storage {
            cx.counts.overloads += 1;
        }
        let key = message.session;
        if let Some(session) = self.live.get_mut(key) {
            session.refused.push_back(message.message_id.clone());
            if session.refused.len() > REFUSED_MAX {
                session.refused.pop_front();
            }
        }
        message.discard(cx);
        if unfit == Unfit::Storage {
            self.hang_up(cx, key);
        }
    }

    /// Sets a session's one timer to the earliest of what it waits for.
    fn arm(&mut self, cx: &mut Cx, key: Key) {
        let Some(session) = self.live.get_mut(key) else { return };
        let mut at = session.until;
        if let Some(unacked) = &session.unacked {
            at = at.min(unacked.until);
        }
        if let Some(refresh) = session.refresh.as_ref().filter(|_| session.stage != Stage::Ending) {
            at = at.min(refresh.deadline());
        }
        match session.armed {
            Some((_, armed)) if armed <= at => return,
            Some((timer, _)) => _ = cx.timers.cancel(timer),
            None => {}
        }
        session.armed = Some((cx.timer_at(at, Timer::Large(key)), at));
    }

    /// The timer fired; one that fires early does no harm.
    pub fn timer(&mut self, cx: &mut Cx, key: Key) {
        let now = cx.now.tick;
        let Some(session) = self.live.get_mut(key) else { return };
        session.armed = None;
        //= RFC 3261 14.2: a 2xx whose ACK is never received: SHOULD generate a BYE to terminate the dialog
        let unacked = session.unacked.take_if(|unacked| unacked.until <= now).is_some();
        match session.stage {
            Stage::Ending if unacked => self.bye(cx, key),
            Stage::Ending if session.until <= now => self.finish(cx, key),
            Stage::Ending => {}
            _ if unacked || session.until <= now => self.hang_up(cx, key),
            _ => self.session_timer(cx, key),
        }
        self.arm(cx, key);
    }
}

/// `sip:defer-` core (4 hex) key (16 hex) `@` us: requests of the dialog find their core and their session.
fn contact(cx: &Cx, key: Key, flow: &Flow) -> Vec<u8> {
    let (transport, sent_by) = cx.addresses.sent_by(flow);
    let name = format!("{:04x}{:016x}@{sent_by}", cx.core.0, key.to_u64());
    let transport = if transport == "TCP" { ";transport=tcp" } else { "" };
    [b"sip:", LARGE_PREFIX, name.as_bytes(), transport.as_bytes()].concat()
}

/// The same as the value of Contact.
fn contact_value(contact: &[u8]) -> Vec<u8> {
    [b"<", contact, b">;+g.oma.sip-im;automata"].concat()
}
