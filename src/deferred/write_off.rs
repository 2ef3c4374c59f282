//! How messages leave a user's list: written off together, one tombstone for the users of a whole turn, and gone when it is durable.
//!
//! ```text
//!   in the list ──written off──▶ retiring, for nobody any more ──tombstone durable──▶ gone, its octets free
//!                                     └──the log refuses──▶ offered again every second
//! ```
//! A message of which a copy is under way (`forward`) is named by both places; a copy that is not appended yet is not made.

use super::cx::{Commit, Cx, Timer};
use super::policy::Afterwards;
use super::users::Users;
use crate::store::directory::UserId;
use crate::store::log::Refused;
use crate::store::record::{Extent, Flags, Locator, Place};
use std::time::Duration;

/// A log that refuses tombstones is asked again after this.
const WRITE_OFF_AGAIN: Duration = Duration::from_secs(1);

/// Places in one record: 8 KiB, which every group has room for. A hundred thousand expiries a second are two hundred such records.
const PLACES_A_RECORD: usize = 512;

/// Messages that leave the queue, or stay in it as had, once the log says so.
#[derive(Clone, Debug)]
pub struct WrittenOff {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub gone: Vec<Locator>,
    /// They are had, and stay (`after_push = "retain"`), or their time is over and they wait to be fetched.
    pub kept: bool,
}

/// What one record of tombstones, or of marks, says.
#[derive(Clone, Default, Debug)]
pub struct Batch {
    /// Whose messages.
    pub offs: Vec<WrittenOff>,
    /// Records that are in nobody's list: twins, old states, what was copied, and copies that came too late.
    pub others: Vec<Extent>,
    places: usize,
}

impl Users {
    /// These were acknowledged by their user's client.
    ///
    // A message leaves the store only here, after the client acknowledged it: promise 2 of `manual::faults`.
    pub fn delivered(&mut self, cx: &mut Cx, user: UserId, gone: Vec<Locator>) -> bool {
        let kept = cx.policy.after_push == Afterwards::Retain;
        self.retire_later(cx, WrittenOff { user, gone, kept })
    }

    /// Deleted or expired.
    pub fn write_off(&mut self, cx: &mut Cx, user: UserId, gone: Vec<Locator>) {
        self.retire_later(cx, WrittenOff { user, gone, kept: false });
    }

    /// From now on nobody is sent them again; they leave the list when the record is durable. False when it never will be, and
    /// they are gone already.
    pub(super) fn retire_later(&mut self, cx: &mut Cx, off: WrittenOff) -> bool {
        if off.gone.is_empty() {
            return false;
        }
        // For good: to wait for it would hold the push for ever. They come once more after a restart.
        if cx.log.is_poisoned() {
            self.retire(cx, &off, false);
            return false;
        }
        for locator in &off.gone {
            if self.retiring.insert(locator.place()) && !off.kept && self.waiting.contains_key(&off.user) {
                let doomed = self.doomed.entry(off.user).or_default();
                doomed.0 += 1;
                doomed.1 += locator.octets();
            }
        }
        self.due.push(off);
        true
    }

    /// Appends what was written off in this turn. What is returned is gone already: the log will never take it.
    #[must_use]
    pub fn flush(&mut self, cx: &mut Cx) -> Vec<WrittenOff> {
        let mut lost = Vec::new();
        if self.due.is_empty() && cx.buried.is_empty() {
            return lost;
        }
        let (mut gone, mut kept) = (Batch::default(), Batch::default());
        for mut off in std::mem::take(&mut self.due) {
            while !off.gone.is_empty() {
                let batch = if off.kept { &mut kept } else { &mut gone };
                let rest = off.gone.split_off(off.gone.len().min(PLACES_A_RECORD - batch.places));
                batch.places += off.gone.len();
                let user = off.user;
                if !off.kept {
                    // A copy under way goes with it.
                    batch.others.extend(off.gone.iter().filter_map(|gone| self.moving.remove(&gone.place()).flatten()));
                }
                batch.offs.push(WrittenOff { gone: std::mem::replace(&mut off.gone, rest), user, kept: off.kept });
                if batch.places >= PLACES_A_RECORD {
                    let full = std::mem::take(batch);
                    self.append(cx, full, &mut lost);
                }
            }
        }
        for extent in std::mem::take(&mut cx.buried) {
            gone.others.extend(self.moving.remove(&extent.place).flatten());
            gone.others.push(extent);
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
        let messages = batch.offs.iter().flat_map(|off| off.gone.iter().map(Locator::place));
        let others = batch.others.iter().map(|extent| extent.place);
        let kept = batch.offs.first().is_some_and(|off| off.kept);
        let appended = if kept {
            // A mark names the copy under way as well, which goes on to take the message's place.
            let copies = messages.clone().filter_map(|place| self.moving.get(&place).copied().flatten());
            let places: Vec<Place> = messages.chain(copies.map(|copy| copy.place)).collect();
            cx.log.append_retained(&places)
        } else {
            cx.log.append_tombstones(&messages.chain(others).collect::<Vec<Place>>())
        };
        match appended {
            Ok(seq) => cx.commit(seq, Commit::Retire(Box::new(batch))),
            Err(Refused::Poisoned) => {
                batch.offs.iter().for_each(|off| self.retire(cx, off, false));
                lost.append(&mut batch.offs);
            }
            Err(_) => {
                cx.counts.overloads += 1;
                self.put_off(cx, batch);
            }
        }
    }

    /// Keeps a batch until the log takes it. Bounded by what is stored: everything in it is in the store still.
    fn put_off(&mut self, cx: &mut Cx, batch: Batch) {
        if self.unwritten.is_empty() {
            cx.timer(WRITE_OFF_AGAIN, Timer::WriteOff);
        }
        self.unwritten.push(batch);
    }

    /// The log may take now what it refused.
    pub fn write_off_again(&mut self, cx: &mut Cx) -> Vec<WrittenOff> {
        let mut lost = Vec::new();
        for batch in std::mem::take(&mut self.unwritten) {
            self.append(cx, batch, &mut lost);
        }
        lost
    }

    /// A batch is durable: the messages are gone, or had, and their octets are free.
    pub fn durable(&mut self, cx: &mut Cx, batch: &Batch) {
        cx.freed(&batch.others);
        batch.offs.iter().for_each(|off| self.retire(cx, off, true));
    }

    /// A batch was lost with the segment it was to lie in; true when it is offered again. Else nobody is sent these messages while
    /// we live, and they come once more after a restart.
    pub fn failed(&mut self, cx: &mut Cx, batch: &Batch) -> bool {
        if !cx.log.is_poisoned() {
            self.put_off(cx, batch.clone());
            return true;
        }
        batch.offs.iter().for_each(|off| self.retire(cx, off, false));
        false
    }

    /// These are gone, or had. `durable`: their tombstones are.
    fn retire(&mut self, cx: &mut Cx, off: &WrittenOff, durable: bool) {
        let (mut messages, mut octets) = (0u32, 0u64);
        let mut free = Vec::new();
        let mut waiting = self.waiting.get_mut(&off.user);
        for locator in &off.gone {
            let was_retiring = self.retiring.remove(&locator.place());
            self.refusals.forget(locator.place());
            let Some(waiting) = &mut waiting else { continue };
            if off.kept {
                waiting.queue.mark(locator.stamp(), locator.flags().with(Flags::RETAINED));
                continue;
            }
            if was_retiring && let Some(doomed) = self.doomed.get_mut(&off.user) {
                doomed.0 = doomed.0.saturating_sub(1);
                doomed.1 = doomed.1.saturating_sub(locator.octets());
            }
            if let Some(locator) = waiting.queue.remove_stamp(locator.stamp()) {
                messages += 1;
                octets += locator.octets();
                free.push(locator.extent());
                free.extend(self.parts.remove(&locator.place()).into_iter().flatten().map(|part| part.extent()));
            }
        }
        if durable {
            cx.freed(&free);
        }
        let Some(waiting) = waiting else { return };
        cx.release(off.user, messages, octets);
        let is_empty = waiting.queue.is_empty();
        if is_empty || self.doomed.get(&off.user).is_some_and(|doomed| doomed.0 == 0) {
            self.doomed.remove(&off.user);
        }
        if is_empty {
            if let Some(waiting) = self.waiting.remove(&off.user) {
                self.unwatch(off.user, &waiting);
            }
            self.close_if_empty(cx, off.user);
        }
    }
}
