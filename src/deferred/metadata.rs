//! The metadata document of a user (12.1.2, 12.2.2.8): what waits for them, as the deferred-list of IM XDM.
//!
//! It is stored nowhere. Whoever asks gets it made from the messages in the list, as they lie in the log; so it cannot disagree with
//! them, and a deposit, a push or a deletion costs nothing for it. Knows lists and records; what a `<history>` says stands in
//! [`entry`], who may read it is not known here.
//!
//! ```text
//!   question ──▶ first batch ──▶ ... a batch a turn ... ──▶ every message of the list is in it ──▶ answer
//!                    ▲                                          │ what came meanwhile
//!                    └──────────────────────────────────────────┘
//! ```
//! What is answered is the list as it is at that moment, whatever happened while records were read.

pub mod changes;
pub mod entry;
pub mod revisions;

pub use revisions::Revision;

use super::cx::Cx;
use super::identity::Address;
use super::inquiry::Answer;
use super::users::Users;
use crate::base::spread::SpreadMap;
use crate::store::loader::Loaded;
use crate::store::queue::Queue;
use crate::store::record::{Locator, Stamp};
use bytes::Bytes;
use revisions::Revisions;
use std::collections::VecDeque;

/// Messages read for a document in one turn: to check and to write them is a quarter of a millisecond at 2 us each.
const BATCH: usize = 128;

/// Octets of their records likewise, so that long messages do not make a turn long: a tenth of a millisecond to be checked.
const BATCH_OCTETS: u64 = 1 << 20;

/// Documents made at one time; further questions wait. With [`DOCUMENT_OCTETS_MAX`] each this bounds what they hold at 128 MiB, and
/// at 20 MiB with what 10,000 usual messages come to.
const MADE_AT_ONCE: usize = 4;

/// Octets of one document, at which it ends: 10,000 messages with a subject of a line each are 5 MiB.
pub const DOCUMENT_OCTETS_MAX: usize = 32 << 20;

/// How often what came meanwhile is read before the asker is told to come again: then more arrives in each turn than is read in one.
const ROUNDS_MAX: u32 = 64;

/// A document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its entity tag.
    pub revision: Revision,
    /// Its `<history>` elements, by ascending stamp.
    pub histories: Vec<Bytes>,
    /// Messages that are not in it: beyond what was asked for, or beyond [`DOCUMENT_OCTETS_MAX`].
    pub left_out: u64,
}

/// A document that is being made.
#[derive(Debug)]
struct Making {
    ticket: u64,
    job: u64,
    owner: Address,
    asked: usize,
    /// Messages it has at most: what was asked for, or less where they are too long.
    most: usize,
    /// By stamp. Empty: the record cannot be read, and is in no document.
    entries: Vec<(Stamp, Bytes)>,
    octets: usize,
    /// What was read from the front to the end ends here.
    next: Stamp,
    rounds: u32,
}

/// The documents of one core's users.
#[derive(Debug, Default)]
pub struct Documents {
    revisions: Revisions,
    /// Those that have something to read at the next turn.
    ready: VecDeque<Making>,
    /// Those whose records are being read.
    loading: SpreadMap<u64, Making>,
    waiting: VecDeque<Making>,
    answers: VecDeque<(u64, Answer)>,
}

impl Documents {
    /// The next answer.
    pub(super) fn answer(&mut self) -> Option<(u64, Answer)> {
        self.answers.pop_front()
    }

    /// True for a job of the loader that is a document's.
    pub(super) fn owns(&self, job: u64) -> bool {
        self.loading.contains_key(&job)
    }

    /// How many are asked for.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.loading.len() + self.waiting.len()
    }

    /// True when no turn is wanted.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && (self.waiting.is_empty() || self.loading.len() >= MADE_AT_ONCE)
    }

    /// The entity tag of a document of at most `most` messages, as it would be now.
    ///
    //= RFC 4825 8.5: effectively, there is a single etag for the entire document
    pub(super) fn revision(&mut self, cx: &mut Cx, users: &mut Users, owner: &Address, most: usize) -> Revision {
        let user = cx.directory.find(owner);
        let queue = user.and_then(|user| users.look(cx, user));
        self.revisions.of(cx, owner, queue, most)
    }

    /// A document is asked for: `id` is the ticket of the question and the loader's job.
    pub(super) fn ask(&mut self, cx: &mut Cx, users: &mut Users, id: (u64, u64), owner: Address, most: usize) {
        let making = Making {
            ticket: id.0,
            job: id.1,
            owner,
            asked: most,
            most,
            entries: Vec::new(),
            octets: 0,
            next: Stamp(0),
            rounds: 0,
        };
        if self.ready.len() + self.loading.len() < MADE_AT_ONCE {
            self.advance(cx, users, making);
        } else {
            self.waiting.push_back(making);
        }
    }

    /// Goes on with one of them.
    pub(super) fn turn(&mut self, cx: &mut Cx, users: &mut Users) {
        while self.ready.len() + self.loading.len() < MADE_AT_ONCE
            && let Some(making) = self.waiting.pop_front()
        {
            self.ready.push_back(making);
        }
        if let Some(making) = self.ready.pop_front() {
            self.advance(cx, users, making);
        }
    }

    /// Records that a document needs are there.
    pub(super) fn loaded(&mut self, cx: &mut Cx, users: &mut Users, job: u64, records: Vec<Loaded>) {
        if let Some(making) = self.loading.remove(&job) {
            self.take(cx, users, making, records);
        }
    }

    /// Reads the next batch, or answers.
    fn advance(&mut self, cx: &mut Cx, users: &mut Users, mut making: Making) {
        // Whoever was answered 202 until now is seen.
        let user = cx.directory.find(&making.owner);
        let queue = user.and_then(|user| users.look(cx, user));
        let batch = queue.map(|queue| making.missing(queue)).unwrap_or_default();
        if batch.is_empty() {
            return self.finish(cx, users, making);
        }
        if making.rounds > ROUNDS_MAX {
            return self.answers.push_back((making.ticket, Answer::Busy));
        }
        match cx.loader.load_owned(making.job, &making.owner, &batch, &mut cx.disk) {
            Some(done) => self.take(cx, users, making, done.records),
            None => _ = self.loading.insert(making.job, making),
        }
    }

    fn take(&mut self, cx: &mut Cx, users: &mut Users, mut making: Making, records: Vec<Loaded>) {
        let user = cx.directory.find(&making.owner);
        let queue = user.and_then(|user| users.queue(user));
        making.add(&cx.policy.hostname, queue, records);
        // Most users have less than a batch: theirs is whole, and needs no further turn.
        if queue.is_none_or(|queue| making.is_whole(queue)) {
            self.advance(cx, users, making);
        } else {
            self.ready.push_back(making);
        }
    }

    fn finish(&mut self, cx: &mut Cx, users: &mut Users, making: Making) {
        let user = cx.directory.find(&making.owner);
        let queue = user.and_then(|user| users.queue(user));
        let revision = self.revisions.of(cx, &making.owner, queue, making.asked);
        let mut histories = Vec::with_capacity(making.entries.len());
        let mut entries = making.entries.into_iter().peekable();
        let mut damaged = false;
        let len = queue.map_or(0, Queue::len);
        for locator in queue.into_iter().flat_map(Queue::iter).take(making.most) {
            while entries.next_if(|(stamp, _)| *stamp < locator.stamp()).is_some() {}
            let Some((_, history)) = entries.next_if(|(stamp, _)| *stamp == locator.stamp()) else { continue };
            if history.is_empty() {
                damaged = true;
            } else {
                histories.push(history);
            }
        }
        if damaged {
            // Whether it can be read is not known from the list: the next document has a tag of its own.
            self.revisions.forget(cx, &making.owner);
        }
        let left_out = len.saturating_sub(making.most) as u64;
        self.answers.push_back((making.ticket, Answer::Document(Box::new(Document { revision, histories, left_out }))));
    }
}

impl Making {
    /// The next of what it has not read yet: on to the end of the list, then whatever came in between.
    fn missing(&mut self, queue: &Queue) -> Vec<Locator> {
        let on: Vec<Locator> =
            queue.from(self.next).take(self.most.saturating_sub(self.entries.len())).take(BATCH).copied().collect();
        if !on.is_empty() {
            let on = within(on.into_iter());
            self.next = on.last().map_or(self.next, |last| Stamp(last.stamp().0 + 1));
            return on;
        }
        // A walk along both: they are in the same order.
        let mut entries = self.entries.iter().map(|(stamp, _)| *stamp).peekable();
        let missing = queue.iter().take(self.most).filter(|locator| {
            while entries.next_if(|stamp| *stamp < locator.stamp()).is_some() {}
            entries.next_if_eq(&locator.stamp()).is_none()
        });
        let missing = within(missing.take(BATCH).copied());
        self.rounds += u32::from(!missing.is_empty());
        missing
    }

    /// True when the end of the list was reached.
    fn is_whole(&self, queue: &Queue) -> bool {
        self.entries.len() >= self.most || queue.last().is_none_or(|last| last.stamp() < self.next)
    }

    fn add(&mut self, hostname: &str, queue: Option<&Queue>, records: Vec<Loaded>) {
        let mut text = Vec::new();
        let mut read = Vec::with_capacity(records.len());
        for Loaded { locator, outcome } in records {
            let begins = text.len();
            match outcome {
                Ok(record) => _ = entry::write(&mut text, &record, &locator, hostname),
                Err(_) => {
                    // Copied forward while it was read: it is missing still, and read where it is now. Or it is gone.
                    let now = queue.and_then(|queue| queue.at(locator.stamp()));
                    if now.is_none_or(|now| now.place() != locator.place()) {
                        continue;
                    }
                }
            }
            read.push((locator.stamp(), begins..text.len()));
        }
        let text = Bytes::from(text);
        for (stamp, range) in read {
            let at = match self.entries.last() {
                Some((last, _)) if *last >= stamp => self.entries.partition_point(|(other, _)| *other < stamp),
                _ => self.entries.len(),
            };
            if self.entries.get(at).is_none_or(|(other, _)| *other != stamp) {
                self.octets += range.len();
                self.entries.insert(at, (stamp, text.slice(range)));
            }
        }
        if self.octets >= DOCUMENT_OCTETS_MAX {
            self.most = self.most.min(self.entries.len());
        }
    }
}

/// As many as a turn reads.
fn within(locators: impl Iterator<Item = Locator>) -> Vec<Locator> {
    let mut octets = 0;
    let mut batch = Vec::new();
    for locator in locators {
        octets += locator.octets();
        if !batch.is_empty() && octets > BATCH_OCTETS {
            break;
        }
        batch.push(locator);
    }
    batch
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::disk::SegmentNo;
    use crate::store::loader::Damage;
    use crate::store::record::{Flags, Place};

    fn locator(stamp: u64, offset: u32, octets: u64) -> Locator {
        Locator::new(Place { segment: SegmentNo(1), offset }, Stamp(stamp), 9, octets, Flags::default())
    }

    fn making(most: usize) -> Making {
        Making {
            ticket: 1,
            job: 1,
            owner: Address::from_canonical(b"sip:bob@example.org"),
            asked: most,
            most,
            entries: Vec::new(),
            octets: 0,
            next: Stamp(0),
            rounds: 0,
        }
    }

    fn unreadable(batch: &[Locator]) -> Vec<Loaded> {
        batch.iter().map(|locator| Loaded { locator: *locator, outcome: Err(Damage::Missing) }).collect()
    }

    #[test]
    fn a_list_is_read_to_its_end_and_then_what_came_in_between() {
        let mut queue = Queue::of(&(1..=300).map(|n| locator(n * 10, n as u32, 64)).collect::<Vec<_>>());
        let mut making = making(10_000);
        let mut read = 0;
        for expected in [128, 128, 44] {
            let batch = making.missing(&queue);
            assert_eq!(batch.len(), expected);
            read += batch.len();
            making.add("h", Some(&queue), unreadable(&batch));
        }
        assert!(making.is_whole(&queue) && read == making.entries.len());
        // Of another core, stamped before what was read last; and one that is gone leaves no trace.
        queue.insert(locator(55, 999, 64));
        queue.remove_stamp(Stamp(100));
        let batch = making.missing(&queue);
        assert_eq!(batch.iter().map(|locator| locator.stamp().0).collect::<Vec<_>>(), [55]);
        making.add("h", Some(&queue), unreadable(&batch));
        assert!(making.missing(&queue).is_empty());
        assert!(making.entries.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn what_was_copied_forward_while_it_was_read_is_read_again() {
        let mut queue = Queue::of(&[locator(10, 1, 64), locator(20, 2, 64)]);
        let mut making = making(10_000);
        let batch = making.missing(&queue);
        queue.replace(locator(20, 77, 64));
        making.add("h", Some(&queue), unreadable(&batch));
        let again = making.missing(&queue);
        assert_eq!(again.iter().map(|locator| locator.place().offset).collect::<Vec<_>>(), [77]);
        making.add("h", Some(&queue), unreadable(&again));
        assert!(making.missing(&queue).is_empty(), "it is damaged where it lies: once is enough");
    }

    #[test]
    fn a_document_has_the_oldest_and_no_turn_reads_too_much() {
        let queue = Queue::of(&(1..=50).map(|n| locator(n, n as u32, 400 << 10)).collect::<Vec<_>>());
        let mut making = making(5);
        let sizes = std::iter::from_fn(|| {
            let batch = making.missing(&queue);
            making.add("h", Some(&queue), unreadable(&batch));
            Some(batch.len()).filter(|len| *len > 0)
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [2, 2, 1]);
    }
}
