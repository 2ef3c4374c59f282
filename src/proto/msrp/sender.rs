//! Frames messages as chunks and settles them (RFC 4975 5.1, 7.1).
//!
//! Knows messages, chunks and the window. Does not know why a session begins or what an answer means for it: that is
//! [`super::session`].

use super::chunk::{CHUNK_MIN, WHOLE_MAX};
use super::message::{Fate, Message};
use super::patience::Patience;
use super::session::{Outgoing, SessionSetup};
use super::transactions::{Carries, Transaction, Transactions};
use super::window::{IN_TIME, Window};
use crate::base::clock::Tick;
use crate::base::dice::Dice;
use crate::base::gather::{COPY_BELOW, Gather, Held, PIECES_MAX};
use crate::wire::msrp::head::ByteRange;
use crate::wire::msrp::write::{END_LEN, HeadTemplate, MESSAGE_ID_LEN, Tid, end_line};
use bytes::Bytes;
use std::collections::VecDeque;

/// Messages remembered at one time. Only a relay that reports late lets them gather: 200 octets each, pages released.
pub const MESSAGES_MAX: usize = 4096;

/// Pieces left free in a gather: a chunk takes three at most, and others may want to add theirs.
const PIECES_SPARE: usize = 8;

/// Numbers tried for a transaction whose id may not occur in a body. The session's part is random and unknown to the
/// author, so one collision is already a chance of 2^-64 per place.
const NUMBERS_TRIED: usize = 64;

/// How far a message is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nothing of it has gone out.
    Waits,
    /// Some of it has.
    Begun,
    /// All of it has, and not all of that is answered.
    Whole,
}

/// An answer, matched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answered {
    /// No transaction of ours, or answered before.
    Unknown,
    /// The binding SEND's, or that of a message given up.
    Idle(Carries),
    /// A chunk's; its message is still under way.
    Chunk(u64),
    /// The last one missing of this message.
    Message(u64),
}

/// The sending side of a session.
#[derive(Debug)]
pub(super) struct Sender {
    template: HeadTemplate,
    chunk_max: usize,
    /// REPORTs are asked for and waited for: relays stand between.
    relayed: bool,
    window: Window,
    /// Not settled, or behind one that is not. The first has number `base`.
    messages: VecDeque<Message>,
    base: u64,
    /// Number of the message to be framed next, or being framed.
    cursor: u64,
    transactions: Transactions,
    messages_in_flight: u32,
    octets_waiting: usize,
    patience: Patience,
    /// Refused by ourselves, with the status to be told at the next turn.
    pub(super) rejected: Vec<(u64, u16)>,
    pub(super) copied: u64,
    pub(super) chunks: u64,
}

impl Sender {
    pub(super) fn new(setup: &SessionSetup, relayed: bool, dice: &mut Dice) -> Sender {
        Sender {
            template: HeadTemplate::new(&setup.peer_path, &setup.local_path, relayed),
            chunk_max: setup.chunk_max.max(CHUNK_MIN),
            relayed,
            window: Window::new(setup.window_messages, setup.window_octets, setup.cautious),
            messages: VecDeque::new(),
            base: 0,
            cursor: 0,
            transactions: Transactions::new(dice.hex()),
            messages_in_flight: 0,
            octets_waiting: 0,
            patience: Patience::new(setup.tx_timeout),
            rejected: Vec::new(),
            copied: 0,
            chunks: 0,
        }
    }

    pub(super) fn prefix(&self) -> [u8; 16] {
        self.transactions.prefix()
    }

    /// Our ids have this part from now on. For tests that force a collision.
    #[cfg(test)]
    pub(super) fn force_prefix(&mut self, prefix: [u8; 16]) {
        self.transactions = Transactions::new(prefix);
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn offer(&mut self, outgoing: Outgoing) {
        let end = outgoing.body.end().max(outgoing.content_type.end());
        assert!(end <= outgoing.page.len(), "a body and its type lie inside their page");
        self.octets_waiting += outgoing.len();
        self.messages.push_back(Message::new(outgoing));
    }

    /// The message being framed, and how many octets of it may be brought.
    pub(super) fn hungry(&self) -> Option<(u64, usize)> {
        let message = self.messages.get((self.cursor - self.base) as usize)?;
        let wants = message.supply.as_ref().filter(|_| message.fate == Fate::Open)?.wants();
        (wants > 0).then_some((message.outgoing.token, wants))
    }

    /// Octets of a message that are brought while it is sent.
    pub(super) fn supply(&mut self, token: u64, piece: Bytes) {
        let wanted = |message: &&mut Message| message.outgoing.token == token && message.fate == Fate::Open;
        if let Some(supply) = self.messages.iter_mut().find(wanted).and_then(|message| message.supply.as_mut()) {
            supply.push(piece);
        }
    }

    /// Messages that could be used: free places of the window and half a window ahead, less what waits already.
    pub(super) fn wants(&self) -> usize {
        if self.messages.len() >= MESSAGES_MAX || self.octets_waiting >= self.window.octets() {
            return 0;
        }
        let window = self.window.messages();
        let free = window.saturating_sub(self.messages_in_flight) as usize;
        let ahead = (window / 2).max(4) as usize;
        (free + ahead).saturating_sub(self.waiting()).min(MESSAGES_MAX - self.messages.len())
    }

    /// Free places of the window, less what waits already. At least one octet of the window must be free, too.
    pub(super) fn room(&self) -> usize {
        if self.octets_waiting + self.transactions.octets() >= self.window.octets() {
            return 0;
        }
        let free = self.window.messages().saturating_sub(self.messages_in_flight) as usize;
        free.saturating_sub(self.waiting()).min(MESSAGES_MAX.saturating_sub(self.messages.len()))
    }

    /// Messages that are not wholly framed.
    pub(super) fn waiting(&self) -> usize {
        (self.base + self.messages.len() as u64 - self.cursor) as usize
    }

    /// Nothing to frame and nothing unanswered. Messages that wait for their REPORTs only do not count.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting() == 0 && self.transactions.is_empty()
    }

    /// Messages that are not settled: under way, or answered and not reported.
    pub(super) fn unsettled(&self) -> usize {
        self.messages.iter().filter(|message| message.fate != Fate::Settled).count()
    }

    /// Writes the SEND that binds a connection.
    pub(super) fn bind(&mut self, now: Tick, gather: &mut Gather, message_id: &[u8; MESSAGE_ID_LEN]) {
        let tid = self.transactions.next_tid();
        gather.make(|out| self.template.write_bodiless(out, &tid, message_id));
        self.messages_in_flight += 1;
        self.open(now, Carries::Binding, 0);
    }

    /// Frames chunks until the queue, the window, `budget` octets or the gather's pieces are used up. An empty gather
    /// takes one chunk even beyond the budget.
    pub(super) fn fill(&mut self, now: Tick, gather: &mut Gather, budget: usize) {
        let start = gather.len();
        let mut held: Option<(*const u8, usize, Held)> = None;
        while gather.pieces() + PIECES_SPARE < PIECES_MAX && !self.transactions.is_full() {
            let Some(message) = self.messages.get_mut((self.cursor - self.base) as usize) else { break };
            match message.fate {
                Fate::Open => {}
                Fate::GivenUp => {
                    self.give_up(now, gather);
                    continue;
                }
                Fate::Settled => {
                    self.sweep();
                    continue;
                }
            }
            let (total, sent) = (message.outgoing.len(), message.sent);
            let Some(len) = message.next_chunk(self.chunk_max) else { break };
            let last = sent + len == total;
            if sent == 0 && self.messages_in_flight >= self.window.messages() {
                break;
            }
            if self.transactions.octets() > 0 && self.transactions.octets() + len > self.window.octets() {
                break;
            }
            let cost = self.template.len_max(message.outgoing.content_type.len()) + len + END_LEN;
            if !gather.is_empty() && gather.len() - start + cost > budget {
                break;
            }
            if sent == 0 || message.supply.is_some() {
                message.careful = message.has_hyphens(last) && message.closes_early(len, &self.transactions.prefix());
            }
            let copied = match message.supply.as_ref().map(|supply| supply.count(len) * 2) {
                // Many short pieces: they are made one, where they would not fit at all, or go with the next gather.
                Some(pieces) if gather.pieces() + pieces + PIECES_SPARE > PIECES_MAX => {
                    if !gather.is_empty() {
                        break;
                    }
                    true
                }
                _ => false,
            };
            let tid = if message.careful { self.careful_tid(len) } else { Some(self.transactions.next_tid()) };
            let Some(tid) = tid else {
                // No id is left that its body does not contain: nobody can carry it.
                if let Some(token) = self.refuse(self.cursor, true) {
                    self.rejected.push((token, 400));
                }
                continue;
            };
            // Borrowed anew: the search above needed all of us.
            let Some(message) = self.messages.get_mut((self.cursor - self.base) as usize) else { break };
            //= RFC 4975 7.1.1: a chunk with a body larger than 2048 octets has `*` in range-end
            let end = (len <= WHOLE_MAX).then_some((sent + len) as u64);
            let range = ByteRange { start: sent as u64 + 1, end, total: Some(total as u64) };
            let page = &message.outgoing.page;
            gather.make(|out| {
                let content_type = message.outgoing.content_type.of(page);
                self.template.write(out, &tid, &message.outgoing.message_id, range, content_type);
            });
            let at = message.outgoing.body.at() + sent;
            if let Some(supply) = &mut message.supply {
                let mut short = 0;
                supply.take(len, |piece| {
                    if copied || piece.len() < COPY_BELOW {
                        short += piece.len() as u64;
                        gather.put(&piece);
                    } else {
                        gather.push(piece);
                    }
                });
                self.copied += short;
            } else if len < COPY_BELOW {
                gather.put(page.get(at..at + len).unwrap_or_default());
                self.copied += len as u64;
            } else {
                let key = (page.as_ptr(), page.len());
                let held = match held {
                    Some((start, len, held)) if (start, len) == key => held,
                    _ => {
                        // The last chunk needs the page no more than the gather does.
                        let page = if last { std::mem::take(&mut message.outgoing.page) } else { page.clone() };
                        let new = gather.hold(page);
                        held = Some((key.0, key.1, new));
                        new
                    }
                };
                gather.refer(held, at, len);
            }
            if last {
                message.let_go();
            }
            gather.make(|out| end_line(out, &tid.0, if last { b'$' } else { b'+' }));
            if !std::mem::replace(&mut message.in_flight, true) {
                self.messages_in_flight += 1;
            }
            message.unanswered += 1;
            message.sent += len;
            message.framed = last;
            self.chunks += 1;
            self.octets_waiting -= len;
            let carries = Carries::Chunk(self.cursor);
            if last {
                self.cursor += 1;
            }
            self.open(now, carries, len);
        }
    }

    /// The empty chunk that says: no more of this message.
    //= RFC 4975 7.1: a sender that gives up an incomplete message ends it with `#`
    fn give_up(&mut self, now: Tick, gather: &mut Gather) {
        let tid = self.transactions.next_tid();
        if let Some(message) = self.messages.get_mut((self.cursor - self.base) as usize) {
            let (start, total) = (message.sent as u64 + 1, Some(message.outgoing.len() as u64));
            let range = ByteRange { start, end: None, total };
            let outgoing = &message.outgoing;
            gather.make(|out| {
                let content_type = outgoing.content_type.of(&outgoing.page);
                self.template.write(out, &tid, &outgoing.message_id, range, content_type);
                end_line(out, &tid.0, b'#');
            });
            message.let_go();
            message.fate = Fate::Settled;
            self.open(now, Carries::GivingUp, 0);
        }
        self.sweep();
    }

    /// An id that stands nowhere behind seven hyphens in the message at the cursor, whatever follows it; where that is brought while
    /// it is sent, in its next `len` octets.
    //= RFC 4975 7.1: the sender MUST choose a new transaction identifier that is not present in the body
    fn careful_tid(&mut self, len: usize) -> Option<Tid> {
        for _ in 0..NUMBERS_TRIED {
            let tid = self.transactions.next_tid();
            let message = self.messages.get((self.cursor - self.base) as usize)?;
            if !message.closes_early(len, &tid.0) {
                return Some(tid);
            }
            self.transactions.skip();
        }
        None
    }

    fn open(&mut self, now: Tick, carries: Carries, octets: usize) {
        self.transactions.open(Transaction { carries, octets, at: now });
    }

    /// An answer came, whatever it says. Its place in the window is free afterwards.
    pub(super) fn answered(&mut self, now: Tick, tid: &[u8]) -> Answered {
        self.look_for_lag(now);
        let Some(Transaction { carries, octets, at }) = self.transactions.answered(tid) else {
            return Answered::Unknown;
        };
        self.patience.answered(now);
        let (answered, messages) = match carries {
            Carries::Binding => {
                self.messages_in_flight -= 1;
                (Answered::Idle(carries), 0)
            }
            Carries::GivingUp => (Answered::Idle(carries), 0),
            Carries::Chunk(seq) => match self.message_mut(seq) {
                None => (Answered::Idle(carries), 0),
                Some(message) => {
                    message.unanswered -= 1;
                    if message.framed && message.unanswered == 0 {
                        (Answered::Message(seq), 1)
                    } else {
                        (Answered::Chunk(seq), 0)
                    }
                }
            },
        };
        self.window.answered(messages, octets, now.since_us(at) <= IN_TIME.as_micros() as u64);
        if self.patience.is_lost(at, self.transactions.oldest()) {
            self.window.fall();
        }
        answered
    }

    fn message_mut(&mut self, seq: u64) -> Option<&mut Message> {
        self.messages.get_mut(usize::try_from(seq.checked_sub(self.base)?).ok()?)
    }

    /// All of the message's chunks were answered well. Its token, when that settles it; with relays the REPORTs do.
    pub(super) fn confirm(&mut self, seq: u64) -> Option<u64> {
        let relayed = self.relayed;
        let message = self.message_mut(seq)?;
        if message.fate != Fate::Open {
            return None;
        }
        let token = message.outgoing.token;
        let settled = !relayed || message.reported.covers(message.outgoing.len() as u64);
        if settled {
            self.settle(seq, Fate::Settled);
        } else {
            message.let_go();
            self.land(seq);
        }
        settled.then_some(token)
    }

    /// The peer refused the message. Its token, the first time. `say_so`: what was begun is ended with `#`.
    pub(super) fn refuse(&mut self, seq: u64, say_so: bool) -> Option<u64> {
        let message = self.message_mut(seq)?;
        if message.fate != Fate::Open {
            return None;
        }
        let token = message.outgoing.token;
        let left = if message.framed { 0 } else { message.outgoing.len() - message.sent };
        let begun = message.sent > 0 && !message.framed;
        // Nobody waits for the other chunks' answers: a client that has refused a message may well forget them.
        message.unanswered = 0;
        self.octets_waiting -= left;
        self.transactions.release(seq);
        self.settle(seq, if begun && say_so { Fate::GivenUp } else { Fate::Settled });
        Some(token)
    }

    /// How far the message with this token is; `None` when it is settled, or was never offered.
    pub(super) fn reach(&self, token: u64) -> Option<Reach> {
        let open = |message: &&Message| message.fate == Fate::Open && message.outgoing.token == token;
        self.messages.iter().find(open).map(|message| match message {
            Message { framed: true, .. } => Reach::Whole,
            Message { sent: 0, .. } => Reach::Waits,
            Message { .. } => Reach::Begun,
        })
    }

    /// The message with this token is not to be delivered any more.
    pub(super) fn withdraw(&mut self, token: u64) {
        let open = |message: &Message| message.fate == Fate::Open && message.outgoing.token == token;
        if let Some(at) = self.messages.iter().position(open) {
            self.refuse(self.base + at as u64, true);
        }
    }

    fn settle(&mut self, seq: u64, fate: Fate) {
        self.land(seq);
        if let Some(message) = self.message_mut(seq) {
            message.fate = fate;
            if fate == Fate::Settled {
                message.let_go();
            }
        }
        self.sweep();
    }

    /// The message leaves the window.
    fn land(&mut self, seq: u64) {
        if let Some(message) = self.message_mut(seq)
            && std::mem::replace(&mut message.in_flight, false)
        {
            self.messages_in_flight -= 1;
        }
    }

    /// Moves the cursor past settled messages and forgets those in front of it.
    fn sweep(&mut self) {
        let settled = |message: &Message| message.fate == Fate::Settled;
        while self.messages.get((self.cursor - self.base) as usize).is_some_and(settled) {
            self.cursor += 1;
        }
        while self.base < self.cursor && self.messages.front().is_some_and(settled) {
            self.messages.pop_front();
            self.base += 1;
        }
    }

    /// A REPORT of success for `start..end` of a message. Its token, when that settles it.
    pub(super) fn reported(&mut self, message_id: &[u8], range: Option<ByteRange>) -> Option<u64> {
        if !self.relayed {
            return None;
        }
        let seq = self.find(message_id)?;
        let message = self.message_mut(seq)?;
        let total = message.outgoing.len() as u64;
        let (start, end) = match range {
            Some(range) => (range.start - 1, range.end.or(range.total).unwrap_or(total).min(total)),
            None => (0, total),
        };
        message.reported.add(start, end);
        let done = message.framed && message.unanswered == 0 && message.fate == Fate::Open;
        if done { self.confirm(seq) } else { None }
    }

    /// Number of the message with this Message-ID that is not settled.
    pub(super) fn find(&self, message_id: &[u8]) -> Option<u64> {
        let at = self
            .messages
            .iter()
            .position(|message| message.fate == Fate::Open && message.outgoing.message_id == message_id)?;
        Some(self.base + at as u64)
    }

    /// Gives everything up: the message that is begun is ended with `#` by the next fill, the rest is forgotten.
    pub(super) fn abort(&mut self) {
        let begun = self
            .messages
            .get((self.cursor - self.base) as usize)
            .is_some_and(|message| message.fate == Fate::GivenUp || (message.fate == Fate::Open && message.sent > 0));
        self.messages.truncate((self.cursor - self.base) as usize + usize::from(begun));
        self.messages.drain(..(self.cursor - self.base) as usize);
        self.base = self.cursor;
        for message in &mut self.messages {
            message.fate = Fate::GivenUp;
        }
        self.transactions.release_all();
        self.messages_in_flight = 0;
        self.octets_waiting = 0;
    }

    /// Takes back what is not begun: the tokens, in order. What is under way is finished, and its answers count.
    pub(super) fn recall(&mut self) -> Vec<u64> {
        let begun = self.messages.get((self.cursor - self.base) as usize).is_some_and(|message| message.sent > 0);
        let keep = ((self.cursor - self.base) as usize + usize::from(begun)).min(self.messages.len());
        let mut tokens = Vec::new();
        for message in self.messages.drain(keep..).filter(|message| message.fate == Fate::Open) {
            self.octets_waiting -= message.outgoing.len();
            tokens.push(message.outgoing.token);
        }
        tokens
    }

    /// True when an answer has been missing for too long.
    pub(super) fn is_timed_out(&mut self, now: Tick) -> bool {
        self.look_for_lag(now);
        self.patience.is_over(now, self.transactions.oldest())
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.patience.deadline(self.transactions.oldest())
    }

    fn look_for_lag(&mut self, now: Tick) {
        if self.patience.is_late(now, self.transactions.oldest()) {
            self.window.fall();
        }
    }
}
