//! Messages that go for good before their user had them: deleted by the user, expired, or made room (12.2.2.7, 12.2.2.6).
//!
//! From the first moment they are for nobody any more; those whose sender wants to hear of it are read once more, and then
//! tombstones and reports owed become durable in one record, a batch at a time. Knows nobody's reasons.

use super::bin::Binned;
use super::cx::{Cx, Reader};
use super::identity::Address;
use super::owed::{Owed, Recorded};
use super::push::Pushes;
use super::report::Reports;
use super::users::{Users, WrittenOff};
use super::write_off::{OWED_A_RECORD, PLACES_A_RECORD};
use crate::base::arena::{Arena, Key};
use crate::store::directory::UserId;
use crate::store::loader::{LoadDone, Loaded};
use crate::store::reason::Reason;
use crate::store::record::{Flags, Locator};
use crate::wire::imdn::Disposition;
use std::collections::VecDeque;

/// Octets read at one time for reports.
pub(super) const READ_OCTETS: u64 = 256 * 1024;

/// Messages read at one time: half of what one record of tombstones names.
pub(super) const READ_MESSAGES: usize = 256;

/// Whose wish it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Because {
    /// The user's, by a REFER that waits to hear of it.
    Asked(Key),
    /// Policy: expired, or made room.
    Policy,
    /// The operator's, who waits to hear of it.
    Operator {
        /// Of the question.
        ticket: u64,
        /// The sender is to hear of it, where they asked for that.
        report: bool,
    },
}

/// Messages that are to go.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub gone: Vec<Locator>,
    /// Why, for the tombstones.
    pub reason: Reason,
    /// By whose wish.
    pub because: Because,
    /// Into the DELETE bin.
    pub binned: bool,
}

/// How a dismissal ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dismissed {
    /// Whose messages.
    pub user: UserId,
    /// Whose wish it was.
    pub because: Because,
    /// Everything is durable. False: the disk failed, and what was not written off is its user's again.
    pub durable: bool,
    /// Reports that are durable with it, and to be sent.
    pub owed: Vec<Recorded>,
}

#[derive(Debug)]
struct Dismissal {
    /// Held until it is over.
    user: UserId,
    owner: Address,
    reason: Reason,
    because: Because,
    /// What goes is kept in the bin for a while.
    binned: bool,
    to_read: VecDeque<Locator>,
    /// A batch is being read.
    reading: bool,
    /// Records that are not durable yet.
    writing: usize,
    failed: bool,
    /// Durable, and held back until whoever asked has been answered.
    owed: Vec<Recorded>,
}

/// All dismissals under way on this core.
#[derive(Default)]
pub struct Dismissals {
    live: Arena<Dismissal>,
    done: Vec<Dismissed>,
}

impl Dismissals {
    /// Lets messages of a user go. What is being sent is withdrawn; what is gone already, or about to be, is passed over.
    ///
    //= 12.2.2.7-1: shall delete the Deferred Message(s) from the Storage
    pub fn begin(&mut self, cx: &mut Cx, users: &mut Users, pushes: &mut Pushes, reports: &Reports, leaving: Leaving) {
        let Leaving { user, gone, reason, because, binned } = leaving;
        let owner = Address::from_canonical(&cx.directory.address(user));
        // Pinned, so that nobody else gets the place of a user whose last message this is.
        let Ok(user) = cx.directory.enter(&owner) else {
            cx.counts.overloads += 1;
            self.done.push(Dismissed { user, because, durable: false, owed: Vec::new() });
            return;
        };
        let reported = match because {
            Because::Asked(_) => cx.policy.report_user_delete,
            Because::Policy => true,
            Because::Operator { report, .. } => report,
        };
        // What its user's client has acknowledged is delivered, and about to be written off as that.
        let delivered = |locator: &Locator| pushes.has_delivered(user, locator.place());
        let now = gone.iter().filter_map(|locator| users.now(user, locator).filter(|now| !delivered(now)));
        let now: Vec<Locator> = now.collect();
        let gone: Vec<Locator> = now.into_iter().filter(|locator| users.doom(user, locator)).collect();
        pushes.withdraw(user, &gone);
        // Who had it was not failed (RFC 5438: never after delivery); for whom it was kept beyond its time, was.
        let owes = |locator: &Locator| reported && locator.flags().has(Flags::REPORT) && !locator.flags().is_had();
        let room = !reports.is_full();
        let (to_read, plain): (Vec<Locator>, Vec<Locator>) = gone.iter().partition(|locator| room && owes(locator));
        if !room {
            cx.counts.reports_given_up += gone.iter().filter(|locator| owes(locator)).count() as u64;
        }
        let to_read = VecDeque::from(to_read);
        let key = self.live.insert(Dismissal {
            user,
            owner,
            reason,
            because,
            binned,
            to_read,
            reading: false,
            writing: 0,
            failed: false,
            owed: Vec::new(),
        });
        for batch in plain.chunks(PLACES_A_RECORD) {
            self.write(cx, users, key, batch.to_vec(), Vec::new());
        }
        self.go_on(cx, users, key);
    }

    fn write(&mut self, cx: &mut Cx, users: &mut Users, key: Key, gone: Vec<Locator>, owed: Vec<Owed>) {
        let Some(dismissal) = self.live.get_mut(key) else { return };
        let binned = dismissal.binned && !gone.is_empty();
        let bin = binned.then(|| Binned::new(cx, &dismissal.owner, &gone, dismissal.reason));
        let (user, reason) = (dismissal.user, dismissal.reason);
        let off = WrittenOff { owed, bin, dismissal: Some(key), ..WrittenOff::of(user, gone, reason) };
        if users.write_off(cx, off) {
            dismissal.writing += 1;
        } else {
            dismissal.failed = true;
        }
    }

    /// Asks for the next batch of those whose sender is to hear of it, or ends when all is written.
    fn go_on(&mut self, cx: &mut Cx, users: &mut Users, key: Key) {
        while let Some(LoadDone { records, .. }) = self.step(cx, users, key) {
            self.take(cx, users, key, records);
        }
    }

    /// The batch, where the disk gave it at once.
    fn step(&mut self, cx: &mut Cx, users: &mut Users, key: Key) -> Option<LoadDone> {
        let dismissal = self.live.get_mut(key).filter(|dismissal| !dismissal.reading)?;
        if dismissal.failed {
            let gone: Vec<Locator> = dismissal.to_read.drain(..).collect();
            users.spare(cx, dismissal.user, &gone);
        }
        let batch = next_batch(&mut dismissal.to_read);
        if !batch.is_empty() {
            dismissal.reading = true;
            let mut ops = Vec::new();
            let job = Reader::Dismissal(key).to_u64();
            let at_once = cx.loader.load_owned(job, &dismissal.owner, &batch, &mut ops);
            cx.disk.extend(ops);
            return at_once;
        }
        if dismissal.writing > 0 {
            return None;
        }
        if let Some(over) = self.live.remove(key) {
            cx.directory.leave(over.user);
            users.close_if_empty(cx, over.user);
            let Dismissal { user, because, failed, owed, .. } = over;
            self.done.push(Dismissed { user, because, durable: !failed, owed });
        }
        None
    }

    /// The disk gave a batch.
    pub fn loaded(&mut self, cx: &mut Cx, users: &mut Users, key: Key, records: Vec<Loaded>) {
        self.take(cx, users, key, records);
        self.go_on(cx, users, key);
    }

    /// The reports of a batch are made, and it is written off. A message that cannot be read goes without.
    fn take(&mut self, cx: &mut Cx, users: &mut Users, key: Key, records: Vec<Loaded>) {
        let Some(dismissal) = self.live.get_mut(key) else { return };
        dismissal.reading = false;
        let owner = dismissal.owner.clone();
        let (mut gone, mut owed, mut octets) = (Vec::with_capacity(records.len()), Vec::new(), 0);
        for Loaded { locator, outcome } in records {
            let report = match outcome {
                Ok(record) => Owed::about(cx, &owner, &record, Disposition::Failed),
                Err(damage) => {
                    tracing::error!(?owner, ?damage, "a deleted message owes a report and cannot be read");
                    None
                }
            };
            let more = report.as_ref().map_or(0, Owed::octets);
            if octets > 0 && octets + more > OWED_A_RECORD {
                // A message and its report stay together, and this group is full.
                self.write(cx, users, key, std::mem::take(&mut gone), std::mem::take(&mut owed));
                octets = 0;
            }
            octets += more;
            gone.push(locator);
            owed.extend(report);
        }
        self.write(cx, users, key, gone, owed);
    }

    /// A record of a dismissal is durable, with the reports that it owes; `None`: it never will be.
    pub fn written(&mut self, cx: &mut Cx, users: &mut Users, key: Key, owed: Option<Vec<Recorded>>) {
        if let Some(dismissal) = self.live.get_mut(key) {
            dismissal.writing -= 1;
            dismissal.failed |= owed.is_none();
            dismissal.owed.extend(owed.into_iter().flatten());
        }
        self.go_on(cx, users, key);
    }

    /// True when [`Dismissals::take_done`] has something.
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Those that ended since the last call.
    pub fn take_done(&mut self) -> Vec<Dismissed> {
        std::mem::take(&mut self.done)
    }
}

/// The next messages to be read at one time: at least one, if there is one.
pub(super) fn next_batch(to_read: &mut VecDeque<Locator>) -> Vec<Locator> {
    let mut octets = 0;
    let mut batch = Vec::new();
    while let Some(next) = to_read.front() {
        octets += next.octets();
        if batch.len() == READ_MESSAGES || !batch.is_empty() && octets > READ_OCTETS {
            break;
        }
        batch.extend(to_read.pop_front());
    }
    batch
}
