//! How messages leave a user's list: written off together, one tombstone for the users of a whole turn, and gone when it is durable.
//!
//! ```text
//!   in the list ──written off──▶ retiring, for nobody any more ──tombstone durable──▶ gone, its octets free
//!                                     │                         └─in the DELETE bin──▶ gone, its octets kept
//!                                     └──the log refuses──▶ offered again every second
//! ```
//! Reports that this owes, and what goes into the DELETE bin, are records of the same group: all of it is durable, or nothing. A message
//! of which a copy is under way (`forward`) is named by both places; a copy that is not appended yet is not made.

use super::bin::{Binned, Laid};
use super::cx::{Commit, Cx, Timer};
use super::owed::{Owed, Recorded};
use super::policy::Afterwards;
use super::users::{Users, weight};
use crate::base::arena::Key;
use crate::store::directory::UserId;
use crate::store::log::{Refused, Seq};
use crate::store::reason::Reason;
use crate::store::record::{Extent, Flags, Locator, Place, StateDraft, extents_of};
use std::time::Duration;

/// A log that refuses tombstones is asked again after this.
const WRITE_OFF_AGAIN: Duration = Duration::from_secs(1);

/// Places in one record: 8 KiB with as many copies, which every group has room for. A hundred thousand expiries a second are two
/// hundred such records.
pub(super) const PLACES_A_RECORD: usize = 512;

/// Octets of reports in one group, at most, but for a single one that is longer: with 8 KiB of places they fit into the smallest
/// segment there is.
pub(super) const OWED_A_RECORD: usize = 16 * 1024;

/// Messages that leave the queue, or stay in it as had, once the log says so.
#[derive(Clone, Debug)]
pub struct WrittenOff {
    /// Whose.
    pub user: UserId,
    /// Which. Those of a dismissal are one record's, so at most as many as that holds.
    pub gone: Vec<Locator>,
    /// Why, for whoever asks later.
    pub reason: Reason,
    /// They are had, and stay (`after_push = "retain"`), or their time is over and they wait to be fetched: `reason` says which.
    pub kept: bool,
    /// Reports that this owes their senders.
    pub owed: Vec<Owed>,
    /// They go into the DELETE bin, and their tombstones come later.
    pub bin: Option<Binned>,
    /// Of a dismissal, which waits to hear of it.
    pub dismissal: Option<Key>,
    /// Of a session, which waits to hear of it.
    pub session: Option<Key>,
}

impl WrittenOff {
    /// These messages go, and that is all.
    pub fn of(user: UserId, gone: Vec<Locator>, reason: Reason) -> WrittenOff {
        WrittenOff { user, gone, reason, kept: false, owed: Vec::new(), bin: None, dismissal: None, session: None }
    }

    /// True when all of it must lie in one record, or one group.
    fn is_whole(&self) -> bool {
        self.dismissal.is_some() || self.bin.is_some() || !self.owed.is_empty()
    }

    fn owed_octets(&self) -> usize {
        self.owed.iter().map(Owed::octets).sum()
    }

    /// In the order in which [`Users::durable`] hears where they lie.
    fn states(&self) -> impl Iterator<Item = StateDraft<'_>> {
        self.owed.iter().map(Owed::draft).chain(self.bin.iter().map(Binned::draft))
    }
}

/// The flags of a message that stays, for this reason.
fn marked(flags: Flags, why: Reason) -> Flags {
    if why.is_had() { flags.had() } else { flags.missed() }
}

/// A record that nobody needs any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buried {
    /// Where it lies.
    pub extent: Extent,
    /// Why it is no more.
    pub reason: Reason,
}

/// What one record of tombstones, or of marks, says.
#[derive(Clone, Default, Debug)]
pub struct Batch {
    /// Whose messages.
    pub offs: Vec<WrittenOff>,
    /// Records that are in nobody's list: twins, old states, what was copied, copies that came too late, and what is purged.
    pub others: Vec<Buried>,
    /// Records that go with those, and nothing needs to name: the parts of large messages.
    along: Vec<Extent>,
    /// Where the states of `offs` lie, once they are appended.
    states: Vec<Extent>,
    places: usize,
    owed_octets: usize,
}

/// A write-off that is durable.
#[derive(Debug)]
pub struct Durable {
    /// What was written off; what it owes is below.
    pub off: WrittenOff,
    /// Its reports.
    pub owed: Vec<Recorded>,
    /// What is in the DELETE bin now.
    pub laid: Option<Laid>,
}

impl Users {
    /// These were acknowledged by their user's client.
    ///
    // A message leaves the store only here, after the client acknowledged it: promise 2 of `manual::faults`.
    pub fn delivered(&mut self, cx: &mut Cx, then: Afterwards, off: WrittenOff) -> bool {
        self.retire_later(cx, WrittenOff { kept: then == Afterwards::Retain, ..off })
    }

    /// Deleted or expired. False when that will never be written.
    pub fn write_off(&mut self, cx: &mut Cx, off: WrittenOff) -> bool {
        self.retire_later(cx, off)
    }

    /// From now on nobody is sent them again; they leave the list when the record is durable. False when it never will be: those
    /// of a dismissal are their user's again, others are gone already.
    pub(super) fn retire_later(&mut self, cx: &mut Cx, mut off: WrittenOff) -> bool {
        if off.gone.is_empty() {
            return false;
        }
        let poisoned = cx.log.is_poisoned();
        let (mut messages, mut octets) = (0, 0);
        if let Some(waiting) = self.waiting.get_mut(&off.user) {
            let (retiring, parts, to_go) = (&mut self.retiring, &self.parts, !off.kept && !poisoned);
            // Whoever gave them may have read their places before they were copied forward.
            waiting.queue.refresh(&mut off.gone, |now| {
                if to_go && retiring.insert(now.place()) {
                    (messages, octets) = (messages + 1, octets + weight(parts, now));
                }
            });
            for now in off.gone.iter().filter(|_| off.kept) {
                // Had from now on, also where that will never be written: whoever retrieves or deletes it meanwhile sees it so, and so does
                // a copy.
                waiting.queue.mark(now.stamp(), marked(now.flags(), off.reason));
            }
        }
        // For good: to wait for it would hold the push for ever. They come once more after a restart.
        if poisoned {
            self.lose(cx, &off);
            return false;
        }
        if messages > 0 {
            let doomed = self.doomed.entry(off.user).or_default();
            (doomed.0, doomed.1) = (doomed.0 + messages, doomed.1 + octets);
        }
        self.due.push(off);
        true
    }

    /// In one record with the next tombstones, so that none of them is gone without the others; at most as many as were written off
    /// together. `along` is free with them.
    pub fn bury_together(&mut self, others: Vec<Buried>, along: Vec<Extent>) {
        let places = others.len();
        self.whole.push(Batch { others, along, places, ..Batch::default() });
    }

    /// True when nothing waits for [`Users::flush`].
    pub fn is_flushed(&self, cx: &Cx) -> bool {
        self.due.is_empty() && self.whole.is_empty() && cx.buried.is_empty()
    }

    /// Appends what was written off in this turn. What is returned never will be: the log takes nothing any more.
    #[must_use]
    pub fn flush(&mut self, cx: &mut Cx) -> Vec<WrittenOff> {
        let mut lost = Vec::new();
        if self.is_flushed(cx) {
            return lost;
        }
        let (mut gone, mut kept) = (Batch::default(), Batch::default());
        for mut off in std::mem::take(&mut self.due) {
            let (whole, owed) = (off.is_whole(), off.owed_octets());
            let batch = if off.kept { &mut kept } else { &mut gone };
            let fits = batch.places + off.gone.len() <= PLACES_A_RECORD && batch.owed_octets + owed <= OWED_A_RECORD;
            if whole && !fits && batch.places > 0 {
                let full = std::mem::take(batch);
                self.append(cx, full, &mut lost);
            }
            while !off.gone.is_empty() {
                let batch = if off.kept { &mut kept } else { &mut gone };
                let room = if whole { usize::MAX } else { PLACES_A_RECORD - batch.places };
                let rest = off.gone.split_off(off.gone.len().min(room));
                if !off.kept && off.bin.is_none() {
                    // A copy under way goes with it. What is in the bin has its copies there.
                    let under_way = if self.moving.is_empty() { &[][..] } else { &off.gone[..] };
                    let copies = under_way.iter().filter_map(|gone| self.moving.remove(&gone.place()).flatten());
                    batch.others.extend(copies.map(|extent| Buried { extent, reason: off.reason }));
                }
                batch.places += off.gone.len();
                batch.owed_octets += owed;
                let next = WrittenOff { gone: rest, ..WrittenOff::of(off.user, Vec::new(), off.reason) };
                let next = WrittenOff { kept: off.kept, session: off.session, ..next };
                batch.offs.push(std::mem::replace(&mut off, next));
                if batch.places >= PLACES_A_RECORD {
                    let full = std::mem::take(batch);
                    self.append(cx, full, &mut lost);
                }
            }
        }
        for mut batch in std::mem::take(&mut self.whole) {
            let copy = |other: &Buried| Some(Buried { extent: self.moving.remove(&other.extent.place)??, ..*other });
            let copies: Vec<Buried> = batch.others.iter().filter_map(copy).collect();
            batch.others.extend(copies);
            self.append(cx, batch, &mut lost);
        }
        for buried in std::mem::take(&mut cx.buried) {
            let copy = self.moving.remove(&buried.extent.place).flatten();
            gone.others.extend(copy.map(|extent| Buried { extent, ..buried }));
            gone.others.push(buried);
            gone.places += 1;
            if gone.places >= PLACES_A_RECORD {
                self.append(cx, std::mem::take(&mut gone), &mut lost);
            }
        }
        for batch in [gone, kept].into_iter().filter(|batch| batch.places > 0) {
            self.append(cx, batch, &mut lost);
        }
        lost
    }

    fn append(&mut self, cx: &mut Cx, mut batch: Batch, lost: &mut Vec<WrittenOff>) {
        let appended = match self.offer(cx, &batch) {
            Err(Refused::TooLarge) if batch.owed_octets > 0 => {
                // One report that no group holds: its message goes without it.
                let owed = batch.offs.iter_mut().map(|off| std::mem::take(&mut off.owed).len() as u64);
                cx.counts.reports_given_up += owed.sum::<u64>();
                batch.owed_octets = 0;
                self.offer(cx, &batch)
            }
            appended => appended,
        };
        match appended {
            Ok((states, seq)) => {
                batch.states = states;
                cx.commit(seq, Commit::Retire(Box::new(batch)));
            }
            Err(Refused::Poisoned) => {
                batch.offs.iter().for_each(|off| self.lose(cx, off));
                lost.append(&mut batch.offs);
            }
            Err(_) => {
                cx.counts.overloads += 1;
                self.put_off(cx, batch);
            }
        }
    }

    fn offer(&self, cx: &mut Cx, batch: &Batch) -> Result<(Vec<Extent>, Seq), Refused> {
        let stamp = cx.stamps.next(cx.now);
        if batch.offs.first().is_some_and(|off| off.kept) {
            // Where they lie now; and the copy under way as well, which goes on to take the message's place.
            let now = |off: &WrittenOff| {
                let (queue, reason) = (self.queue(off.user), off.reason);
                let place = move |gone: &Locator| queue?.at(gone.stamp()).map(|now| (now.place(), reason));
                off.gone.iter().filter_map(place).collect::<Vec<_>>()
            };
            let messages: Vec<(Place, Reason)> = batch.offs.iter().flat_map(now).collect();
            let copy = |(place, reason): &(Place, Reason)| Some((self.moving.get(place).copied()??.place, *reason));
            let marks: Vec<(Place, Reason)> =
                messages.iter().filter_map(copy).chain(messages.iter().copied()).collect();
            return cx.log.append_marks(stamp, &marks).map(|seq| (Vec::new(), seq));
        }
        let dead = batch.offs.iter().filter(|off| off.bin.is_none());
        let messages = dead.flat_map(|off| off.gone.iter().map(|gone| (gone.place(), off.reason)));
        let others = batch.others.iter().map(|buried| (buried.extent.place, buried.reason));
        let endings: Vec<(Place, Reason)> = messages.chain(others).collect();
        let states: Vec<StateDraft<'_>> = batch.offs.iter().flat_map(WrittenOff::states).collect();
        cx.log.append_endings(stamp, &endings, &states)
    }

    /// Keeps a batch until the log takes it. Bounded by what is stored: everything in it is in the store still.
    fn put_off(&mut self, cx: &mut Cx, batch: Batch) {
        if self.unwritten.is_empty() {
            cx.timer(WRITE_OFF_AGAIN, Timer::WriteOff);
        }
        self.unwritten.push(batch);
    }

    /// The log may take now what it refused. What is returned it never will.
    #[must_use]
    pub fn write_off_again(&mut self, cx: &mut Cx) -> Vec<WrittenOff> {
        let mut lost = Vec::new();
        for batch in std::mem::take(&mut self.unwritten) {
            self.append(cx, batch, &mut lost);
        }
        lost
    }

    /// A batch is durable: the messages are gone, or had, or in the bin, and their octets are free but for those in the bin.
    #[must_use]
    pub fn durable(&mut self, cx: &mut Cx, batch: Batch) -> Vec<Durable> {
        let others: Vec<Extent> = batch.others.iter().map(|buried| buried.extent).collect();
        cx.freed(&others);
        cx.freed(&batch.along);
        let mut states = batch.states.into_iter();
        let mut done = Vec::with_capacity(batch.offs.len());
        for mut off in batch.offs {
            let (messages, parts) = self.retire(cx, &off, true);
            let owed = std::mem::take(&mut off.owed).into_iter().zip(states.by_ref());
            let owed = owed.map(|(owed, extent)| Recorded { owed, extent }).collect();
            let laid = match off.bin.take() {
                Some(binned) => states.next().map(|extent| {
                    let laid = Laid { binned, extent, messages, parts };
                    cx.states.adopt(laid.binned.state(), extent, laid.binned.stamp());
                    laid
                }),
                None => None,
            };
            done.push(Durable { off, owed, laid });
        }
        done
    }

    /// A batch was lost with the segment it was to lie in, and is offered again. What is returned is lost for good: nobody is sent
    /// these messages while we live, and they come once more after a restart; those of a dismissal are their user's again.
    #[must_use]
    pub fn failed(&mut self, cx: &mut Cx, mut batch: Batch) -> Vec<WrittenOff> {
        if !cx.log.is_poisoned() {
            batch.states.clear();
            self.put_off(cx, batch);
            return Vec::new();
        }
        batch.offs.iter().for_each(|off| self.lose(cx, off));
        batch.offs
    }

    /// What was not delivered, and cannot be deleted either, is its user's again.
    fn lose(&mut self, cx: &mut Cx, off: &WrittenOff) {
        match off.dismissal {
            Some(_) => self.spare(cx, off.user, &off.gone),
            None => drop(self.retire(cx, off, false)),
        }
    }

    /// Takes out of what a client has acknowledged what is being deleted already, or is gone; those that are not gone yet. They are
    /// delivered should the deletion fail.
    pub(super) fn contest(&mut self, user: UserId, then: Afterwards, delivered: &mut Vec<Locator>) -> Vec<Locator> {
        let (mut contested, mut free) = (Vec::new(), Vec::with_capacity(delivered.len()));
        for had in delivered.drain(..) {
            let Some(now) = self.queue(user).and_then(|queue| queue.at(had.stamp())).copied() else { continue };
            if self.retiring.contains(&now.place()) {
                self.contested.insert(now.place(), then);
                contested.push(had);
            } else {
                free.push(had);
            }
        }
        *delivered = free;
        contested
    }

    /// They could not be written off: they are their user's again, but for what the client has acknowledged meanwhile.
    pub fn spare(&mut self, cx: &mut Cx, user: UserId, gone: &[Locator]) {
        let mut delivered = Vec::new();
        for locator in gone {
            if !self.retiring.contains(&locator.place()) {
                continue;
            }
            let then = self.contested.remove(&locator.place());
            if then == Some(Afterwards::Delete) {
                delivered.push(*locator);
                continue;
            }
            self.retiring.remove(&locator.place());
            self.undoom(user, 1, weight(&self.parts, locator));
            if let Some(waiting) = self.waiting.get_mut(&user) {
                if then == Some(Afterwards::Retain) {
                    waiting.queue.mark(locator.stamp(), locator.flags().had());
                }
                waiting.new_from.set(waiting.new_from.get().min(locator.stamp()));
            }
        }
        if !delivered.is_empty() {
            drop(self.retire(cx, &WrittenOff::of(user, delivered, Reason::Delivered), false));
        }
    }

    /// These are gone, or had; the messages that left the list, and the parts of large ones. `durable`: their tombstones are, so
    /// that their octets are free, but for those in the bin.
    pub(super) fn retire(&mut self, cx: &mut Cx, off: &WrittenOff, durable: bool) -> (Vec<Locator>, Vec<Extent>) {
        let (mut left, mut parts) = (Vec::new(), Vec::new());
        let (mut messages, mut octets) = (0, 0);
        for locator in &off.gone {
            self.refusals.forget(locator.place());
            if !off.kept && self.retiring.remove(&locator.place()) {
                self.contested.remove(&locator.place());
                (messages, octets) = (messages + 1, octets + weight(&self.parts, locator));
            }
        }
        self.undoom(off.user, messages, octets);
        let mut waiting = self.waiting.get_mut(&off.user);
        if let Some(waiting) = waiting.as_mut().filter(|_| !off.kept) {
            left.reserve(off.gone.len());
            waiting.queue.remove_all(&off.gone, &mut left);
            for locator in left.iter().filter(|locator| locator.flags().has(Flags::LARGE)) {
                parts.extend(self.parts.remove(&locator.place()).iter().flat_map(|parts| extents_of(parts)));
            }
        }
        if durable && off.bin.is_none() {
            let free: Vec<Extent> = left.iter().map(Locator::extent).collect();
            cx.freed(&free);
            cx.freed(&parts);
        }
        let Some(waiting) = waiting else { return (left, parts) };
        let octets = left.iter().map(Locator::octets).chain(parts.iter().map(|part| part.octets)).sum();
        cx.release(off.user, left.len() as u32, octets);
        if let Some(changes) = self.changes.as_mut().filter(|_| !left.is_empty()) {
            match waiting.queue.is_empty() {
                true => changes.emptied(cx, off.user),
                false => changes.changed(off.user),
            }
        }
        if waiting.queue.is_empty() {
            self.doomed.remove(&off.user);
            self.unwatch(off.user);
            self.waiting.remove(&off.user);
            self.close_if_empty(cx, off.user);
        }
        (left, parts)
    }
}
