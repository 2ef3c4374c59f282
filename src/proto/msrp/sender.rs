//! Frames messages as chunks and matches answers with them (RFC 4975 5.1, 7.1, spec 7.5).
//!
//! Knows transactions, chunks and the window. Does not know why a session begins or what an answer means for it: that is
//! [`super::session`].

use super::coverage::Coverage;
use super::session::{Outgoing, SessionSetup};
use super::window::{IN_TIME, Window};
use crate::base::clock::Tick;
use crate::base::dice::Dice;
use crate::base::gather::{COPY_BELOW, Gather, Held, PIECES_MAX};
use crate::wire::msrp::head::ByteRange;
use crate::wire::msrp::write::{END_LEN, HeadTemplate, MESSAGE_ID_LEN, Tid, end_line};
use bytes::Bytes;
use memchr::memmem;
use std::collections::VecDeque;
use std::time::Duration;

/// Longest body that goes out as one chunk that cannot be interrupted (RFC 4975 7.1.1).
pub const WHOLE_MAX: usize = 2048;

/// Shortest chunk_max: every chunk but the last has 2,048 octets at least, and up to 3 go to a UTF-8 border.
pub const CHUNK_MIN: usize = WHOLE_MAX + 4;

/// Transactions remembered at one time, answered ones behind an unanswered one included. 1 MiB in chunks of 2 KiB is 512,
/// 1,024 messages are 1,024; eight times that leaves room for answers out of order, and 16 bits count them safely.
const TRANSACTIONS_MAX: usize = 8192;

/// Messages remembered at one time. Only a relay that reports late lets them gather: 200 octets each, pages released.
pub const MESSAGES_MAX: usize = 4096;

/// Pieces left free in a gather: a chunk takes three at most, and others may want to add theirs.
const PIECES_SPARE: usize = 8;

/// Numbers tried for a transaction whose id may not occur in a body. The session's part is random and unknown to the
/// author, so one collision is already a chance of 2^-64 per place.
const NUMBERS_TRIED: usize = 64;

/// What a transaction carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carries {
    /// Nothing: the SEND that binds the connection.
    Binding,
    /// The empty chunk that gives a message up.
    GivingUp,
    /// A chunk of the message with this number.
    Chunk(u64),
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    /// `None` once answered, or never used.
    carries: Option<Carries>,
    octets: u32,
    /// Submitted.
    at: Tick,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Being sent, or waiting for it.
    Open,
    /// Refused in the middle: an empty chunk with `#` is due.
    GivenUp,
    /// Delivered or refused; nothing more is due.
    Settled,
}

#[derive(Debug)]
struct Message {
    outgoing: Outgoing,
    /// Octets framed.
    sent: usize,
    /// All octets framed.
    framed: bool,
    /// Chunks not answered.
    unanswered: u32,
    /// Number of its first transaction, and how many there are from there on.
    first: u16,
    transactions: u32,
    /// The session's part of our ids stands behind hyphens in the body: each id is looked for before it is used.
    careful: bool,
    /// Takes a place of the window.
    in_flight: bool,
    fate: Fate,
    reported: Coverage,
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
    prefix: [u8; 16],
    chunk_max: usize,
    tx_timeout: Duration,
    /// REPORTs are asked for and waited for: relays stand between.
    relayed: bool,
    window: Window,
    /// Not settled, or behind one that is not. The first has number `base`.
    messages: VecDeque<Message>,
    base: u64,
    /// Number of the message to be framed next, or being framed.
    cursor: u64,
    /// Open transactions. The first has number `first`.
    transactions: VecDeque<Transaction>,
    first: u16,
    messages_in_flight: u32,
    octets_in_flight: usize,
    octets_waiting: usize,
    last_answer: Tick,
    /// The window fell for the answer that is now missing.
    lagging: bool,
    /// And for this transaction, overtaken by younger ones.
    overtaken: Option<u16>,
    pub(super) copied: u64,
    pub(super) chunks: u64,
}

impl Sender {
    pub(super) fn new(setup: &SessionSetup, relayed: bool, dice: &mut Dice) -> Sender {
        Sender {
            template: HeadTemplate::new(&setup.peer_path, &setup.local_path, relayed),
            prefix: dice.hex(),
            chunk_max: setup.chunk_max.max(CHUNK_MIN),
            tx_timeout: setup.tx_timeout,
            relayed,
            window: Window::new(setup.window_messages, setup.window_octets, setup.cautious),
            messages: VecDeque::new(),
            base: 0,
            cursor: 0,
            transactions: VecDeque::new(),
            first: 0,
            messages_in_flight: 0,
            octets_in_flight: 0,
            octets_waiting: 0,
            last_answer: Tick::default(),
            lagging: false,
            overtaken: None,
            copied: 0,
            chunks: 0,
        }
    }

    pub(super) fn prefix(&self) -> [u8; 16] {
        self.prefix
    }

    /// Our ids have this part from now on. For tests that force a collision.
    #[cfg(test)]
    pub(super) fn force_prefix(&mut self, prefix: [u8; 16]) {
        self.prefix = prefix;
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn offer(&mut self, outgoing: Outgoing) {
        assert!(outgoing.body.end() <= outgoing.page.len(), "a body lies inside its page");
        self.octets_waiting += outgoing.body.len();
        self.messages.push_back(Message {
            outgoing,
            sent: 0,
            framed: false,
            unanswered: 0,
            first: 0,
            transactions: 0,
            careful: false,
            in_flight: false,
            fate: Fate::Open,
            reported: Coverage::default(),
        });
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

    /// Messages that are not wholly framed.
    fn waiting(&self) -> usize {
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
        let tid = Tid::new(self.prefix, self.next_number());
        gather.make(|out| self.template.write_bodiless(out, &tid, message_id));
        self.messages_in_flight += 1;
        self.open(now, Carries::Binding, 0);
    }

    /// Frames chunks until the queue, the window, `budget` octets or the gather's pieces are used up. An empty gather
    /// takes one chunk even beyond the budget.
    pub(super) fn fill(&mut self, now: Tick, gather: &mut Gather, budget: usize) {
        let start = gather.len();
        let mut held: Option<(*const u8, usize, Held)> = None;
        while gather.pieces() + PIECES_SPARE < PIECES_MAX && self.transactions.len() < TRANSACTIONS_MAX {
            let Some(message) = self.messages.get_mut((self.cursor - self.base) as usize) else { break };
            match message.fate {
                Fate::Open => {}
                Fate::GivenUp => {
                    self.give_up(now, gather);
                    continue;
                }
                Fate::Settled => {
                    self.cursor += 1;
                    self.sweep();
                    continue;
                }
            }
            let body = message.outgoing.body;
            let sent = message.sent;
            let len = chunk_len(&message.outgoing, sent, self.chunk_max);
            if sent == 0 && self.messages_in_flight >= self.window.messages() {
                break;
            }
            if self.octets_in_flight > 0 && self.octets_in_flight + len > self.window.octets() {
                break;
            }
            let cost = self.template.len_max(&message.outgoing.content_type) + len + END_LEN;
            if !gather.is_empty() && gather.len() - start + cost > budget {
                break;
            }
            if sent == 0 {
                message.careful = message.outgoing.has_dash7
                    && memmem::find(body.of(&message.outgoing.page), &behind_dashes(&self.prefix)).is_some();
            }
            let careful = message.careful;
            let Some(tid) =
                (if careful { self.careful_tid() } else { Some(Tid::new(self.prefix, self.next_number())) })
            else {
                break;
            };
            // Borrowed anew: the search above needed all of us.
            let number = self.next_number();
            let Some(message) = self.messages.get_mut((self.cursor - self.base) as usize) else { break };
            let total = body.len();
            let last = sent + len == total;
            //= RFC 4975 7.1.1: a chunk with a body larger than 2048 octets has `*` in range-end
            let end = (len <= WHOLE_MAX).then_some((sent + len) as u64);
            let range = ByteRange { start: sent as u64 + 1, end, total: Some(total as u64) };
            gather.make(|out| {
                self.template.write(out, &tid, &message.outgoing.message_id, range, &message.outgoing.content_type);
            });
            let page = &message.outgoing.page;
            let at = body.at() + sent;
            if len < COPY_BELOW {
                gather.put(page.get(at..at + len).unwrap_or_default());
                self.copied += len as u64;
            } else {
                let key = (page.as_ptr(), page.len());
                let held = match held {
                    Some((start, len, held)) if (start, len) == key => held,
                    _ => {
                        let new = gather.hold(page.clone());
                        held = Some((key.0, key.1, new));
                        new
                    }
                };
                gather.refer(held, at, len);
            }
            gather.make(|out| end_line(out, &tid.0, if last { b'$' } else { b'+' }));
            if message.transactions == 0 {
                message.first = number;
                message.in_flight = true;
                self.messages_in_flight += 1;
            }
            message.transactions = u32::from(number.wrapping_sub(message.first)) + 1;
            message.unanswered += 1;
            message.sent += len;
            message.framed = last;
            self.chunks += 1;
            self.octets_waiting -= len;
            self.octets_in_flight += len;
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
        let tid = Tid::new(self.prefix, self.next_number());
        if let Some(message) = self.messages.get_mut((self.cursor - self.base) as usize) {
            message.fate = Fate::Settled;
            let (start, total) = (message.sent as u64 + 1, Some(message.outgoing.body.len() as u64));
            let range = ByteRange { start, end: None, total };
            let outgoing = &message.outgoing;
            gather.make(|out| {
                self.template.write(out, &tid, &outgoing.message_id, range, &outgoing.content_type);
                end_line(out, &tid.0, b'#');
            });
            self.open(now, Carries::GivingUp, 0);
        }
    }

    fn next_number(&self) -> u16 {
        self.first.wrapping_add(self.transactions.len() as u16)
    }

    /// An id that stands nowhere behind seven hyphens in the message at the cursor, whatever follows it.
    //= RFC 4975 7.1: the sender MUST choose a new transaction identifier that is not present in the body
    fn careful_tid(&mut self) -> Option<Tid> {
        for _ in 0..NUMBERS_TRIED {
            let tid = Tid::new(self.prefix, self.next_number());
            let message = self.messages.get((self.cursor - self.base) as usize)?;
            let body = message.outgoing.body.of(&message.outgoing.page);
            if memmem::find(body, &behind_dashes(&tid.0)).is_none() {
                return Some(tid);
            }
            // The number is used up without a transaction.
            self.transactions.push_back(Transaction { carries: None, octets: 0, at: Tick::default() });
        }
        self.retire();
        None
    }

    fn open(&mut self, now: Tick, carries: Carries, octets: usize) {
        self.transactions.push_back(Transaction { carries: Some(carries), octets: octets as u32, at: now });
        self.retire();
    }

    /// An answer came, whatever it says. Its place in the window is free afterwards.
    pub(super) fn answered(&mut self, now: Tick, tid: &[u8]) -> Answered {
        let Some(number) = Tid::number_of(tid) else { return Answered::Unknown };
        let Some(transaction) = self.transactions.get_mut(usize::from(number.wrapping_sub(self.first))) else {
            return Answered::Unknown;
        };
        if transaction.carries.is_none() || !tid.starts_with(&self.prefix) {
            return Answered::Unknown;
        }
        let (at, octets) = (transaction.at, transaction.octets as usize);
        let Some(carries) = transaction.carries.take() else { return Answered::Unknown };
        self.look_for_lag(now);
        self.last_answer = now;
        self.lagging = false;
        self.octets_in_flight -= octets;
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
        self.retire();
        self.look_for_overtaken(at);
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
        let settled = !relayed || message.reported.covers(message.outgoing.body.len() as u64);
        if settled {
            self.settle(seq, Fate::Settled);
        } else {
            message.outgoing.page = Bytes::new();
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
        let left = if message.framed { 0 } else { message.outgoing.body.len() - message.sent };
        let begun = message.transactions > 0 && !message.framed;
        // Nobody waits for the other chunks' answers: a client that has refused a message may well forget them.
        let (first, count) = (message.first, message.transactions);
        message.unanswered = 0;
        self.octets_waiting -= left;
        let skip = usize::from(first.wrapping_sub(self.first));
        let mut freed = 0;
        if skip < TRANSACTIONS_MAX {
            for transaction in self.transactions.iter_mut().skip(skip).take(count as usize) {
                if transaction.carries == Some(Carries::Chunk(seq)) {
                    transaction.carries = None;
                    freed += transaction.octets as usize;
                }
            }
        } else {
            // Its first transactions are gone already; those left are at the front.
            for transaction in self.transactions.iter_mut().take(count as usize) {
                if transaction.carries == Some(Carries::Chunk(seq)) {
                    transaction.carries = None;
                    freed += transaction.octets as usize;
                }
            }
        }
        self.octets_in_flight -= freed;
        self.retire();
        self.settle(seq, if begun && say_so { Fate::GivenUp } else { Fate::Settled });
        Some(token)
    }

    fn settle(&mut self, seq: u64, fate: Fate) {
        self.land(seq);
        if let Some(message) = self.message_mut(seq) {
            message.fate = fate;
            message.outgoing.page = Bytes::new();
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

    /// Forgets settled messages in front of the cursor.
    fn sweep(&mut self) {
        while self.base < self.cursor && self.messages.front().is_some_and(|message| message.fate == Fate::Settled) {
            self.messages.pop_front();
            self.base += 1;
        }
    }

    /// Forgets answered transactions in front of the first that is not.
    fn retire(&mut self) {
        while self.transactions.front().is_some_and(|transaction| transaction.carries.is_none()) {
            self.transactions.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// A REPORT of success for `start..end` of a message. Its token, when that settles it.
    pub(super) fn reported(&mut self, message_id: &[u8], range: Option<ByteRange>) -> Option<u64> {
        if !self.relayed {
            return None;
        }
        let seq = self.find(message_id)?;
        let message = self.message_mut(seq)?;
        let total = message.outgoing.body.len() as u64;
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
            message.outgoing.page = Bytes::new();
        }
        self.first = self.next_number();
        self.transactions.clear();
        self.messages_in_flight = 0;
        self.octets_in_flight = 0;
        self.octets_waiting = 0;
    }

    /// When the oldest answer was last to be expected: counted from its SEND or from the last answer, so that a slow link
    /// is not a dead one (spec 7).
    fn waiting_since(&self) -> Option<Tick> {
        self.transactions.front().map(|oldest| oldest.at.max(self.last_answer))
    }

    /// True when an answer has been missing for too long.
    pub(super) fn is_timed_out(&mut self, now: Tick) -> bool {
        self.look_for_lag(now);
        self.waiting_since().is_some_and(|since| now >= since + self.tx_timeout)
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Tick> {
        let since = self.waiting_since()?;
        Some(
            since
                + if self.lagging { self.tx_timeout } else { self.tx_timeout.min(IN_TIME + Duration::from_millis(1)) },
        )
    }

    fn look_for_lag(&mut self, now: Tick) {
        if !self.lagging && self.waiting_since().is_some_and(|since| now > since + IN_TIME) {
            self.lagging = true;
            self.window.fall();
        }
    }

    /// A chunk sent at `at` was answered while one that is older by more than a second was not: that answer is lost.
    fn look_for_overtaken(&mut self, at: Tick) {
        let first = self.first;
        if self.transactions.front().is_some_and(|oldest| at > oldest.at + IN_TIME) && self.overtaken != Some(first) {
            self.overtaken = Some(first);
            self.window.fall();
        }
    }
}

/// `-------` and an id, or the beginning of one.
fn behind_dashes(id: &[u8]) -> Vec<u8> {
    [b"-------", id].concat()
}

/// How many octets the next chunk takes.
//= RFC 4975 7.1.1: chunks SHOULD NOT be smaller than 2048 octets, except for the last
//= 21.7: never a border inside a UTF-8 sequence of a text body
fn chunk_len(outgoing: &Outgoing, sent: usize, chunk_max: usize) -> usize {
    let left = outgoing.body.len() - sent;
    if left <= chunk_max {
        return left;
    }
    if !outgoing.text {
        return chunk_max;
    }
    let rest = outgoing.body.of(&outgoing.page).get(sent..).unwrap_or_default();
    // A sequence has at most three octets behind its first; more of them are no UTF-8 and no reason to move.
    (chunk_max - 3..=chunk_max)
        .rev()
        .find(|&at| rest.get(at).is_some_and(|octet| octet & 0xc0 != 0x80))
        .unwrap_or(chunk_max)
}
