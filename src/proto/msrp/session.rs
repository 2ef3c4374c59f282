//! One MSRP session of ours: it pushes messages, answers the peer's requests, and says when it is over.
//!
//! Knows what every answer means (RFC 4975 10) and who speaks first (RFC 4975 5.4, 6135). Knows no socket and no dialog.

use super::receiver::{OWED_MAX, Receiver};
pub use super::receiver::{respond_fault, respond_stateless};
pub use super::sender::Reach;
use super::sender::{Answered, Sender};
use super::transactions::Carries;
use crate::base::clock::Tick;
use crate::base::dice::Dice;
use crate::base::gather::Gather;
use crate::base::span::Span;
use crate::wire::msrp::head::{Method, RequestHead};
use crate::wire::msrp::uri;
use crate::wire::msrp::write::MESSAGE_ID_LEN;
use bytes::Bytes;
use std::time::Duration;

/// What a session is told at its birth.
#[derive(Clone, Debug)]
pub struct SessionSetup {
    /// Our URI, as it stands in our offer.
    pub local_path: Bytes,
    /// All URIs of the peer's `a=path`, literally, one space between them.
    pub peer_path: Bytes,
    /// We connect.
    pub active: bool,
    /// Largest chunk, octets of body; at least [`CHUNK_MIN`](super::chunk::CHUNK_MIN) whatever it says.
    pub chunk_max: usize,
    /// Most unanswered messages.
    pub window_messages: u32,
    /// Most unanswered octets of body.
    pub window_octets: usize,
    /// An answer must have come by then, counted from the chunk or from the last answer, whichever is later.
    pub tx_timeout: Duration,
    /// Largest message the peer wants, octets (`a=max-size`). Larger ones are refused here, with 413.
    pub max_size: Option<u64>,
    /// One message at a time: this user's last session had late answers.
    pub cautious: bool,
}

/// A message to be pushed: octets that lie ready in a page.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Comes back in the events.
    pub token: u64,
    /// Message-ID, the same at every attempt.
    pub message_id: [u8; MESSAGE_ID_LEN],
    /// Where the Content-Type with its parameters lies in the page.
    pub content_type: Span,
    /// The buffer that holds both.
    pub page: Bytes,
    /// Where in it.
    pub body: Span,
    /// Octets of the body that are not in the page: they are brought with [`Session::supply`] while it is sent.
    pub more: usize,
    /// `-------` occurs in the body.
    pub has_dash7: bool,
    /// The body is text in UTF-8: chunk borders keep its characters whole.
    pub text: bool,
}

impl Outgoing {
    /// Octets of the body.
    pub fn len(&self) -> usize {
        self.body.len() + self.more
    }

    /// True when it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What happened to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// The peer's first request came, or it answered ours: octets flow.
    Bound,
    /// Every octet of the message was acknowledged.
    Delivered {
        /// Which.
        token: u64,
    },
    /// The peer does not take this message; the others go on.
    Refused {
        /// Which.
        token: u64,
        /// 400, 413, 415 or 423.
        status: u16,
    },
    /// The session is over: BYE. Everything not delivered is undelivered.
    Failed(SessionFailure),
    /// The peer asked for something it does not get here.
    Unwanted {
        /// What it was answered.
        status: u16,
    },
}

/// Why a session is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SessionFailure {
    /// No answer within `tx_timeout`.
    TimedOut,
    /// An answer that ends sessions: 403, 408, 481, 501, 506, or one nobody knows.
    Answered(u16),
    /// A REPORT of failure: octets the peer did not get (RFC 4975 7.3.2).
    Reported(u16),
    /// The peer sends requests and does not read our responses.
    Flooded,
}

/// What a session has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SessionCounters {
    /// Chunks framed.
    pub chunks: u64,
    /// Octets of bodies that were copied because they are few; all others went out by reference.
    pub copied: u64,
    /// Responses that answer nothing of ours.
    pub strangers: u64,
    /// REPORTs that confirm or refuse nothing of ours.
    pub idle_reports: u64,
}

/// One MSRP session (RFC 4975 5.4, 7).
///
/// ```text
///   waiting ──connected: we connect──────▶ open ──answers──▶ open ──403 408 481 501 506, 30 s──▶ over
///      └────── first request: it connects ──▲  └── abort ──▶ closing
/// ```
///
/// The contract: `offer` while `wants` says so; `fill` whenever the connection can take octets and after every other call;
/// hand in what the connection's cut yields; `turn` at `deadline`. Events are appended to the caller's list. After
/// [`SessionEvent::Failed`] there are no further ones.
#[derive(Debug)]
pub struct Session {
    local_path: Bytes,
    active: bool,
    max_size: Option<u64>,
    sender: Sender,
    receiver: Receiver,
    /// Message-ID of the SEND that binds.
    binding_id: [u8; MESSAGE_ID_LEN],
    /// The connection is ours to write messages on.
    is_open: bool,
    /// The SEND that binds has to be sent.
    binding_due: bool,
    bound: bool,
    paused: bool,
    closing: bool,
    /// Nothing more is begun.
    hushed: bool,
    over: bool,
    counters: SessionCounters,
}

impl Session {
    /// A session whose connection is not there yet. Draws the session's part of the transaction ids.
    pub fn new(setup: SessionSetup, dice: &mut Dice) -> Session {
        //= RFC 4975 7.1.2: hop by hop, a response says nothing of the peer: Success-Report yes behind relays, and only there
        let relayed = uri::uris(&setup.peer_path).count() > 1;
        Session {
            sender: Sender::new(&setup, relayed, dice),
            receiver: Receiver::new(),
            binding_id: dice.hex(),
            local_path: setup.local_path,
            active: setup.active,
            max_size: setup.max_size,
            is_open: false,
            binding_due: false,
            bound: false,
            paused: false,
            closing: false,
            hushed: false,
            over: false,
            counters: SessionCounters::default(),
        }
    }

    /// The first 16 octets of every transaction id of this session, for its whole life: a connection finds the session of a
    /// response by them.
    pub fn tid_prefix(&self) -> [u8; 16] {
        self.sender.prefix()
    }

    /// The connection we asked for is there. The next fill begins with a SEND without content: one widely used client
    /// fails on a first SEND with content (`manual::peers`).
    //= RFC 4975 5.4: the active endpoint MUST immediately issue a SEND request
    pub fn connected(&mut self, _now: Tick) {
        if self.active && !self.is_open {
            self.is_open = true;
            self.binding_due = true;
        }
    }

    /// Queues a message. In order of the calls they go out.
    pub fn offer(&mut self, outgoing: Outgoing) {
        if self.max_size.is_some_and(|most| outgoing.len() as u64 > most) {
            self.sender.rejected.push((outgoing.token, 413));
        } else if !self.over && !self.closing && !self.hushed {
            self.sender.offer(outgoing);
        }
    }

    /// How far a message is that was offered and is not settled.
    pub fn reach(&self, token: u64) -> Option<Reach> {
        self.sender.reach(token)
    }

    /// Takes a message back that its owner does not want delivered any more: what is not sent is not, what is begun ends with
    /// `#`. No event follows for it. Messages with REPORTs outstanding are forgotten too.
    pub fn withdraw(&mut self, token: u64) {
        self.sender.withdraw(token);
    }

    /// Takes back all messages that are not begun: their numbers, in order. No event follows for them.
    pub fn recall(&mut self) -> Vec<u64> {
        self.sender.recall()
    }

    /// The message that is being sent, and how many octets of it may be brought now: none of it is sent before.
    pub fn hungry(&self) -> Option<(u64, usize)> {
        if self.over || self.closing || self.paused { None } else { self.sender.hungry() }
    }

    /// The next octets of a message whose body is not all in its page. One that is not sent any more wants none.
    pub fn supply(&mut self, token: u64, piece: Bytes) {
        self.sender.supply(token, piece);
    }

    /// How many more messages it can use now.
    pub fn wants(&self) -> usize {
        if self.over || self.closing || self.paused || self.hushed { 0 } else { self.sender.wants() }
    }

    /// How many more messages it could begin at once.
    pub fn room(&self) -> usize {
        if self.over || self.closing || self.paused || self.hushed { 0 } else { self.sender.room() }
    }

    /// True when nothing is queued, nothing unanswered and no response owed. Messages that wait only for REPORTs from
    /// behind a relay do not keep it busy: see [`Session::unreported`].
    pub fn is_idle(&self) -> bool {
        let quiet = match (self.over, self.closing) {
            (true, _) => true,
            (_, true) => self.sender.waiting() == 0,
            _ => self.sender.is_quiet() && !self.binding_due && self.sender.rejected.is_empty(),
        };
        quiet && self.receiver.owed().is_empty()
    }

    /// Messages of an idle session whose REPORTs have not come: wait up to `report_wait` before BYE. Not delivered until
    /// then (RFC 4975 7.1.2). Always 0 without relays.
    pub fn unreported(&self) -> usize {
        if self.sender.is_quiet() { self.sender.unsettled() } else { 0 }
    }

    /// True when the connection should be given a chance to write: responses are owed, or messages may go out.
    pub fn owes(&self) -> bool {
        self.binding_due || !self.receiver.owed().is_empty()
    }

    /// True when answers were late or lost: the user's next session is to be `cautious`.
    pub fn was_cautious(&self) -> bool {
        self.sender.window().fell()
    }

    /// Messages that may be unanswered now.
    pub fn window(&self) -> u32 {
        self.sender.window().messages()
    }

    /// What it has done so far.
    pub fn counters(&self) -> SessionCounters {
        SessionCounters { chunks: self.sender.chunks, copied: self.sender.copied, ..self.counters }
    }

    /// Frames what may be sent now: owed responses first, then the SEND that binds, then as many chunks as the window,
    /// the gather's pieces and `budget` allow. Returns the octets added. All frames are whole, so sessions that share a
    /// connection may alternate between calls. An empty gather takes one chunk even beyond the budget.
    pub fn fill(&mut self, now: Tick, gather: &mut Gather, budget: usize) -> usize {
        let before = gather.len();
        //= RFC 4975 7.1.1: SENDs MUST be interrupted for pending responses
        if !self.receiver.owed().is_empty() {
            gather.put(self.receiver.owed());
            self.receiver.paid();
        }
        if self.is_open && !self.over {
            if std::mem::replace(&mut self.binding_due, false) {
                self.sender.bind(now, gather, &self.binding_id);
            }
            let spent = gather.len() - before;
            if !self.paused && (spent == 0 || spent < budget) {
                self.sender.fill(now, gather, budget - spent.min(budget));
            }
        }
        gather.len() - before
    }

    /// A response came on this session's connection. Matched by the number in the id's last four digits, then compared
    /// whole; a stranger is counted and ignored.
    pub fn response(&mut self, now: Tick, tid: &[u8], status: u16, events: &mut Vec<SessionEvent>) {
        if self.over {
            return;
        }
        match self.sender.answered(now, tid) {
            Answered::Unknown => self.counters.strangers += 1,
            Answered::Idle(Carries::Binding) => {
                // Some stacks dislike the empty SEND and say 400 or 415: they have read it, and that is all it is for.
                if !matches!(status, 200..=299 | 400 | 413 | 415 | 423) {
                    return self.fail(SessionFailure::Answered(status), events);
                }
                self.bind(events);
            }
            Answered::Idle(_) => {}
            Answered::Message(seq) if is_success(status) => {
                events.extend(self.sender.confirm(seq).map(|token| SessionEvent::Delivered { token }));
            }
            Answered::Chunk(_) if is_success(status) => {}
            Answered::Chunk(seq) | Answered::Message(seq) => self.refused(seq, status, events),
        }
    }

    /// What an error answer to a message means (RFC 4975 10).
    fn refused(&mut self, seq: u64, status: u16, events: &mut Vec<SessionEvent>) {
        match status {
            //= RFC 4975 10.5: 413: MUST NOT send any further chunks with the same Message-ID
            // Frames are whole, so no chunk is open that `#` could end: nothing more of it is sent.
            413 => events.extend(self.sender.refuse(seq, false).map(|token| SessionEvent::Refused { token, status })),
            // 415 is about a type: whether the session has another is for its owner to say.
            400 | 415 | 423 => {
                events.extend(self.sender.refuse(seq, true).map(|token| SessionEvent::Refused { token, status }));
            }
            _ => self.fail(SessionFailure::Answered(status), events),
        }
    }

    fn bind(&mut self, events: &mut Vec<SessionEvent>) {
        if !std::mem::replace(&mut self.bound, true) {
            events.push(SessionEvent::Bound);
        }
    }

    fn fail(&mut self, failure: SessionFailure, events: &mut Vec<SessionEvent>) {
        if !std::mem::replace(&mut self.over, true) {
            self.sender.abort();
            events.push(SessionEvent::Failed(failure));
        }
    }

    /// A request of the peer's begins on this session's connection. `data` and `end` follow. The caller has found the
    /// session by the request's To-Path; what does not match it whole is answered 481 here.
    pub fn request(&mut self, _now: Tick, head: &RequestHead, buf: &[u8], events: &mut Vec<SessionEvent>) {
        //= RFC 4975 7.3: To-Path will have exactly one URI, which MUST map to an existing session, else 481
        if !uri::same(head.to_path.of(buf), &self.local_path) {
            return self.receiver.begin(head, buf, Some(481));
        }
        self.receiver.begin(head, buf, None);
        if self.over {
            return;
        }
        match head.method {
            Method::Report => self.report(head, buf, events),
            //= RFC 4975 5.4: the first SEND binds the connection to the session
            Method::Send if !self.active => {
                self.is_open = true;
                self.bind(events);
            }
            Method::Send | Method::Auth | Method::Other => {}
        }
    }

    /// The peer's first request came, and was answered 200, before its SIP answer made this session: octets may flow.
    pub fn bound_early(&mut self) {
        self.is_open = true;
        self.bound = true;
    }

    /// Content of the peer's current request. It is dropped: we offered `sendonly`.
    pub fn data(&mut self, octets: &[u8]) {
        self.receiver.data(octets);
    }

    /// The peer's current request is over; `flag` as in its end-line.
    pub fn end(&mut self, _now: Tick, _flag: u8, events: &mut Vec<SessionEvent>) {
        if let Some(status) = self.receiver.end(&self.local_path)
            && status != 200
            && !self.over
        {
            events.push(SessionEvent::Unwanted { status });
        }
        if self.receiver.owed().len() > OWED_MAX {
            self.fail(SessionFailure::Flooded, events);
            self.receiver.paid();
        }
    }

    //= RFC 4975 7.3.2: a REPORT with namespace 000 means what a response with its code means
    fn report(&mut self, head: &RequestHead, buf: &[u8], events: &mut Vec<SessionEvent>) {
        let Some(status) = head.status else {
            self.counters.idle_reports += 1;
            return;
        };
        let message_id = head.message_id.of(buf);
        if is_success(status) {
            // On a direct path a REPORT alone confirms nothing: the response does.
            match self.sender.reported(message_id, head.byte_range) {
                Some(token) => events.push(SessionEvent::Delivered { token }),
                None => self.counters.idle_reports += 1,
            }
            return;
        }
        let Some(seq) = self.sender.find(message_id) else {
            self.counters.idle_reports += 1;
            return;
        };
        match status {
            413 => self.refused(seq, status, events),
            _ => {
                if matches!(status, 400 | 423) {
                    self.refused(seq, status, events);
                }
                //= RFC 4975 7.3.2: octets reported as not received: MUST treat the session as failed
                self.fail(SessionFailure::Reported(status), events);
            }
        }
    }

    /// No more messages for now: the peer holds the session. Chunks are whole, so the current one has ended with `+`.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// They go on.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// True while the peer holds the session.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// No more messages at all: the next fill ends the one that is begun with `#`. Nothing is waited for any more.
    pub fn abort(&mut self) {
        if !self.closing {
            self.closing = true;
            self.paused = false;
            self.binding_due = false;
            self.sender.abort();
        }
    }

    /// Sends nothing more that is not begun; the answers to what is under way count. Idle when they are there.
    pub fn hush(&mut self) {
        self.hushed = true;
        self.sender.recall();
    }

    /// Looks at the time.
    pub fn turn(&mut self, now: Tick, events: &mut Vec<SessionEvent>) {
        events.extend(self.sender.rejected.drain(..).map(|(token, status)| SessionEvent::Refused { token, status }));
        if !self.over && !self.closing && self.sender.is_timed_out(now) {
            self.fail(SessionFailure::TimedOut, events);
        }
    }

    /// When `turn` is wanted.
    pub fn deadline(&self) -> Option<Tick> {
        if !self.sender.rejected.is_empty() {
            return Some(Tick(0));
        }
        if self.over || self.closing { None } else { self.sender.deadline() }
    }

    /// For tests that force a collision.
    #[cfg(test)]
    pub(super) fn force_prefix(&mut self, prefix: [u8; 16]) {
        self.sender.force_prefix(prefix);
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}
