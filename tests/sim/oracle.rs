//! What must be true, looked at in what the daemon says and hears, and in what its disk holds; nothing of its inside.
//!
//! For every message: sent, stored, accepted (a 202 has left), begun and ended in a session, acknowledged. A violation is kept
//! and ends the run: the seed replays it.

mod erasing;
mod media;
mod rot;
mod signalling;

pub(crate) use erasing::call_id as erasing_call_id;

use crate::cores::Alive;
use crate::msrp::Reader;
use bytes::BytesMut;
use deferd::base::net::{ConnId, CoreId};
use deferd::store::disk::SegmentNo;
use deferd::wire::sip::cut::Cut;
use memchr::memmem;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// An acknowledged message whose tombstone is not durable after this has been forgotten about.
const TOMBSTONE_US: u64 = 5_000_000;

/// What is known of one message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    number: u32,
    user: usize,
    body: Vec<u8>,
    /// Not before this, by the daemon's wall clock, may it vanish undelivered.
    pub(crate) expires_us: Option<u64>,
    /// It comes in chunks, and is kept in parts.
    pub(crate) large: bool,
    /// Sent in more than one transaction.
    twin: bool,
    /// When, in the order of what was observed.
    sent: u64,
    accepted: Option<u64>,
    /// Everything durable that names it: records of it and of its twins.
    stored: Vec<Rc<[u8]>>,
    /// Message-ID and body of its first push.
    pushed: Option<(String, Vec<u8>)>,
    /// Delivered as far as the daemon must know: when.
    acknowledged: Option<u64>,
    /// And the session in which it was has had its last word: nobody waits for a tombstone any more.
    settled: bool,
    /// Delivered as far as the daemon may know, in this life.
    perhaps: bool,
    /// Its client has answered for all of it, at least once.
    delivered: bool,
    /// A start found it waiting, and since then it has not been answered for.
    again: bool,
    /// How often its client could not read it: after three times nobody sends it any more.
    unread: u32,
    /// Its tombstone was found durable.
    gone: bool,
    /// Its user has asked for it to be deleted: it may vanish.
    erased: bool,
    /// And was told that it is: it must not come.
    deleted: bool,
    /// Segments that rotted where it lay: it may be lost.
    rotten: BTreeSet<SegmentNo>,
}

impl Message {
    /// One that is about to be sent.
    pub(crate) fn new(number: u32, user: usize, body: Vec<u8>) -> Message {
        Message {
            number,
            user,
            body,
            expires_us: None,
            large: false,
            twin: false,
            sent: 0,
            accepted: None,
            stored: Vec::new(),
            pushed: None,
            acknowledged: None,
            settled: false,
            perhaps: false,
            delivered: false,
            again: false,
            unread: 0,
            gone: false,
            erased: false,
            deleted: false,
            rotten: BTreeSet::new(),
        }
    }
}

/// A session as its frames show it.
#[derive(Debug, Default)]
struct Session {
    user: usize,
    /// Octets so far, by Message-ID.
    open: BTreeMap<String, Vec<u8>>,
    begun: BTreeSet<u32>,
    /// Outstanding chunks by transaction, and which message they are of.
    chunks: BTreeMap<String, u32>,
    /// Messages of which every chunk has been framed.
    framed: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    /// Its client does not take the first form of messages. Large ones have no other, and are passed over from then on.
    other_form: bool,
    /// The daemon may not count what comes from now on.
    over: bool,
}

/// A call: an INVITE of the daemon's and what became of it.
#[derive(Debug)]
struct Call {
    user: usize,
    cseq: u32,
    open: bool,
    tried: u64,
    answered: bool,
    /// Its user said BYE.
    left: bool,
    /// The connection it came by is gone: its BYE needs another.
    orphan: bool,
    /// The connection its INVITE went out on: with it an attempt ends.
    via: Option<(CoreId, ConnId)>,
}

/// The oracle.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    messages: BTreeMap<u32, Message>,
    sessions: BTreeMap<String, Session>,
    on_conn: BTreeMap<(CoreId, ConnId), BTreeSet<String>>,
    down: BTreeMap<(CoreId, ConnId), Reader>,
    up: BTreeMap<(CoreId, ConnId), Reader>,
    heard: BTreeMap<(CoreId, ConnId), (Cut, BytesMut)>,
    calls: BTreeMap<Vec<u8>, Call>,
    /// Order of what was observed.
    count: u64,
    violations: Vec<String>,
    wall_max: u64,
    /// A log of this life has failed: what it must not lose it still must not, but it need not forget.
    pub(crate) disk_hurt: bool,
    /// A read has failed: what it was to bring is passed over until the next session.
    pub(crate) unreadable: bool,
    /// There is no SIP core to go through: with a user's connection the way to the user is gone, for a BYE too.
    pub(crate) flows_die: bool,
    /// What is over is kept, until its user deletes it.
    pub(crate) keeps: bool,
    pub(crate) max_sizes: BTreeMap<String, u64>,
    /// Chunks of large messages whose answer says that the message is kept.
    large: BTreeMap<String, u32>,
    /// Users' deletions that are not over, by their number.
    erasing: BTreeMap<u32, erasing::Erasing>,
    erasings: u32,
    /// Deletions whose 200 has just left.
    to_judge: Vec<u32>,
    rot: rot::Rot,
}

/// `m000123@sim` to 123.
fn number(call_id: &[u8]) -> Option<u32> {
    let digits = call_id.strip_prefix(b"m")?.strip_suffix(b"@sim")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The messages named by the Call-ID lines of some octets.
fn named(octets: &[u8]) -> Vec<u32> {
    let mark = b"\r\nCall-ID: m";
    memmem::find_iter(octets, mark)
        .filter_map(|at| number(octets.get(at + mark.len() - 1..at + mark.len() + 10)?))
        .collect()
}

impl Oracle {
    /// Says what is wrong.
    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The first thing that is wrong.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.violations.first().map_or(Ok(()), |first| Err(first.clone()))
    }

    /// A message leaves its sender for the first time.
    pub(crate) fn sent(&mut self, _now: u64, mut message: Message) {
        self.count += 1;
        message.sent = self.count;
        message.erased = self.is_erasing(message.user);
        self.messages.insert(message.number, message);
    }

    /// A large message is about to be sent; the 200 to this chunk is what a 202 is to others.
    pub(crate) fn large(&mut self, tid: String, number: u32) {
        self.large.insert(tid, number);
    }

    /// It leaves once more, in a transaction of its own.
    pub(crate) fn sent_again(&mut self, number: u32, expires_us: Option<u64>) {
        if let Some(message) = self.messages.get_mut(&number) {
            message.twin = true;
            message.expires_us = message.expires_us.min(expires_us);
        }
    }

    /// Octets became durable.
    pub(crate) fn durable(&mut self, octets: &[u8]) {
        let names = named(octets);
        if names.is_empty() {
            return;
        }
        let octets: Rc<[u8]> = octets.into();
        for name in names {
            if let Some(message) = self.messages.get_mut(&name) {
                message.stored.push(octets.clone());
            }
        }
    }

    /// The daemon has died.
    pub(crate) fn died(&mut self) {
        self.down.clear();
        self.up.clear();
        self.on_conn.clear();
        self.heard.clear();
        for call in self.calls.values_mut() {
            call.open = false;
        }
        for session in self.sessions.values_mut() {
            session.over = true;
        }
    }

    /// Recovery found these waiting: nothing accepted may be missing, and what is not there is gone for good.
    pub(crate) fn recovered(&mut self, now: u64, alive: &Alive<'_>) {
        let mut wrong = Vec::new();
        let hurt = std::mem::take(&mut self.disk_hurt);
        self.unreadable = false;
        for number in alive.keys() {
            match self.messages.get(number) {
                None => wrong.push(format!("recovery finds message {number}, which nobody sent")),
                Some(message) if self.rot.forgets || !message.rotten.is_empty() => {}
                Some(message) if message.deleted && !message.twin => {
                    wrong.push(format!("message {number} waits again after its deletion was answered"));
                }
                Some(message) if message.gone => {
                    wrong.push(format!("message {number} waits again after a start that found it deleted"));
                }
                // The second of two that came by different ways may have been heard just before the end.
                Some(message)
                    if !hurt
                        && !message.twin
                        && !message.erased
                        && (message.settled || message.acknowledged.is_some_and(|at| at + TOMBSTONE_US < now)) =>
                {
                    let when = if message.settled { "in a session that has ended" } else { "long ago" };
                    wrong.push(format!("message {number} was acknowledged {when} and waits again"));
                }
                Some(_) => {}
            }
        }
        let numbers: Vec<u32> = self.messages.keys().copied().collect();
        for number in numbers {
            let expired = self.messages.get(&number).is_some_and(|message| self.may_be_gone(message));
            let Some(message) = self.messages.get_mut(&number) else { continue };
            if let Some((_, record)) = alive.get(&number) {
                // A commit that was under way may be there whole: it is as good as one that was answered.
                message.stored.push((*record).into());
                message.acknowledged = None;
                message.settled = false;
                message.perhaps = false;
                message.again = true;
                if self.rot.forgets || !message.rotten.is_empty() {
                    (message.gone, message.deleted) = (false, false);
                }
                continue;
            }
            if message.accepted.is_some() && !message.delivered && !expired && message.rotten.is_empty() {
                wrong.push(format!("message {number} was accepted, never delivered, and recovery does not find it"));
            }
            // One that was only in flight to the disk may come later; one that was accepted is gone.
            message.again = false;
            message.gone |= message.accepted.is_some();
        }
        self.violations.extend(wrong);
    }

    /// Time passes.
    pub(crate) fn wall(&mut self, wall: u64) {
        self.wall_max = self.wall_max.max(wall);
    }

    /// Nobody need push it any more.
    fn may_have_expired(&self, message: &Message) -> bool {
        message.erased || message.expires_us.is_some_and(|at| self.wall_max + 2_000_000 >= at)
    }

    /// Nor need it be there.
    fn may_be_gone(&self, message: &Message) -> bool {
        if self.keeps { message.erased } else { self.may_have_expired(message) }
    }

    /// A report about it has come: it has failed its sender.
    pub(crate) fn reported(&mut self, number: Option<u32>) {
        let told = number.and_then(|number| self.messages.get(&number));
        if !told.is_some_and(|message| self.may_be_gone(message)) {
            self.violation(format!("a report about message {number:?}, which nobody deleted"));
        }
    }

    /// True while something of a user's is not delivered.
    pub(crate) fn waits_for(&self, user: usize, _wall: u64) -> bool {
        self.messages.values().any(|message| {
            let again = message.again && message.rotten.is_empty() && !self.may_have_expired(message);
            message.user == user && (again || self.is_missing(message))
        })
    }

    fn is_missing(&self, message: &Message) -> bool {
        let owed = message.accepted.is_some() && !message.delivered;
        owed && message.unread < 3 && message.rotten.is_empty() && !self.may_have_expired(message)
    }

    /// At the end: everything accepted has arrived.
    pub(crate) fn finished(&mut self) {
        let missing: Vec<u32> =
            self.messages.values().filter(|message| self.is_missing(message)).map(|message| message.number).collect();
        if !missing.is_empty() {
            self.violation(format!("accepted and never delivered: {missing:?}"));
        }
    }

    /// True when something was answered for so late that the daemon may have it waiting still, or was refused too often, or was
    /// perhaps deleted.
    pub(crate) fn is_unsure(&self) -> bool {
        // Its client has answered for it too late, and then its user asked for it to be deleted and does not wait for it.
        let left = |message: &Message| message.again && message.erased && !message.deleted;
        let unsure = |message: &Message| {
            message.perhaps && message.acknowledged.is_none() || message.unread > 0 || left(message)
        };
        self.messages.values().any(unsure) || self.may_be_trying() || self.rot.happened
    }

    /// True when a deletion may not have come to pass: its user does not wait for what it named, and the daemon may be trying.
    pub(crate) fn may_be_trying(&self) -> bool {
        self.messages.values().any(|message| message.erased && !message.deleted && !message.delivered)
    }

    /// Sent, accepted, delivered.
    pub(crate) fn figures(&self) -> (usize, usize, usize) {
        let all = self.messages.values();
        (
            all.clone().count(),
            all.clone().filter(|message| message.accepted.is_some()).count(),
            all.filter(|message| message.delivered).count(),
        )
    }
}
