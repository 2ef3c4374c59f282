//! Large messages copied forward: the parts that lie in wanted segments first, then the record that names them all, one message
//! after the other.
//!
//! ```text
//!   queue ──▶ record read ──▶ parts read and copied, 256 KiB at a time ──▶ record copied, naming the copies ──durable──▶ in the list
//! ```
//! A copied part is dead until the copied record names it; the original's parts are alive until the copied record has taken its
//! place. All of it lies in one log in this order, so a record that is durable names parts that are. What is said of a message when
//! it is kept already, by the BYE of its session, is added in the same way: its record is copied with a longer envelope.

use super::cx::{Commit, Cx};
use super::forward::{Moved, Subject};
use super::refusals::Refusal;
use super::users::Users;
use crate::base::spread::SpreadMap;
use crate::store::disk::SegmentNo;
use crate::store::loader::{Damage, LoadDone, Loaded, Record};
use crate::store::log::Refused;
use crate::store::record::{Extent, Flags, Locator, Place};
use std::collections::VecDeque;

/// Octets of parts read at one time.
const LOAD_OCTETS: u64 = 256 * 1024;

/// Messages that wait for their turn; those beyond are found again by the next look.
const QUEUE_MAX: usize = 1_024;

/// One that waits.
#[derive(Debug)]
struct Waiting {
    subject: Subject,
    from: Locator,
    /// Lines to be added to its envelope.
    lines: Vec<u8>,
}

/// The one under way.
#[derive(Debug)]
struct Active {
    serial: u64,
    subject: Subject,
    from: Locator,
    lines: Vec<u8>,
    /// What the loader was asked for last; `None`: the log is waited for.
    job: Option<u64>,
    record: Option<Record>,
    todo: VecDeque<Locator>,
    landing: Landing,
}

/// What changes for a message when the copy of its record is durable.
#[derive(Default, Debug)]
pub(super) struct Landing {
    serial: u64,
    /// Its parts from then on.
    pub(super) parts: Vec<Locator>,
    /// Records of parts that nobody needs then.
    pub(super) replaced: Vec<Extent>,
    /// Copies, by what they were copied from.
    copies: SpreadMap<Place, Extent>,
    /// Copies that are durable.
    pub(super) durable: Vec<Extent>,
    /// One of them never will be.
    pub(super) failed: bool,
}

/// The copying of large messages of one core.
#[derive(Default, Debug)]
pub(super) struct Carry {
    queue: VecDeque<Waiting>,
    active: Option<Active>,
    landings: SpreadMap<Place, Landing>,
    serial: u64,
}

impl Carry {
    /// True when nothing waits and nothing is under way.
    pub(super) fn is_resting(&self) -> bool {
        self.queue.is_empty() && self.active.is_none()
    }

    /// A message some of whose records are to be copied; `lines` go into its envelope. False when it is found again later.
    pub(super) fn want(&mut self, subject: Subject, from: Locator, lines: Vec<u8>) -> bool {
        if self.queue.len() >= QUEUE_MAX || lines.is_empty() && self.queue.iter().any(|waiting| waiting.from == from) {
            return false;
        }
        self.queue.push_back(Waiting { subject, from, lines });
        true
    }

    /// True for a job of the loader's that was given here.
    pub(super) fn owns(&self, job: u64) -> bool {
        self.active.as_ref().is_some_and(|active| active.job == Some(job))
    }

    /// A little more is copied. `job`: numbers of the loader's jobs. `is_held`: a client knows the message by its place.
    pub(super) fn step(
        &mut self,
        cx: &mut Cx,
        users: &mut Users,
        wanted: &[SegmentNo],
        job: &mut u64,
        is_held: impl Fn(&Subject, Place) -> bool,
    ) {
        let mut held = VecDeque::new();
        while self.active.is_none() {
            let Some(Waiting { subject, from, lines }) = self.queue.pop_front() else { break };
            let now = match subject {
                Subject::Message(user) => users.now(user, &from),
                _ => Some(from),
            };
            let Some(from) = now.filter(|now| !users.refusals.is_poison(now.place())) else { continue };
            // With a client, or being copied: the next look finds it, but for what nobody would find again.
            if users.moving.contains_key(&from.place()) || is_held(&subject, from.place()) {
                if !lines.is_empty() {
                    held.push_back(Waiting { subject, from, lines });
                }
                continue;
            }
            users.moving.insert(from.place(), None);
            self.serial += 1;
            let landing = Landing { serial: self.serial, ..Landing::default() };
            let todo = VecDeque::new();
            self.active =
                Some(Active { serial: self.serial, subject, from, lines, job: None, record: None, todo, landing });
        }
        self.queue.append(&mut held);
        self.load(cx, users, wanted, job);
    }

    /// True while one is under way; those that wait then wait for clients.
    pub(super) fn is_busy(&self) -> bool {
        self.active.is_some()
    }

    /// Asks for what is to be copied next, unless it is on its way.
    fn load(&mut self, cx: &mut Cx, users: &mut Users, wanted: &[SegmentNo], job: &mut u64) {
        loop {
            let Some(active) = self.active.as_mut().filter(|active| active.job.is_none()) else { return };
            // Deposits go first.
            if cx.log.waiting_octets() >= cx.log.commit_octets() / 4 {
                return;
            }
            let mut batch = Vec::new();
            if active.record.is_none() {
                batch.push(active.from);
            } else {
                let mut octets = 0;
                for part in &active.todo {
                    octets += part.octets();
                    if !batch.is_empty() && octets > LOAD_OCTETS {
                        break;
                    }
                    batch.push(*part);
                }
            }
            if batch.is_empty() {
                return self.join(cx, users);
            }
            *job += 1;
            active.job = Some(*job);
            let mut ops = Vec::new();
            let at_once = cx.loader.load_raw(*job, &batch, &mut ops);
            cx.disk.extend(ops);
            let Some(done) = at_once else { return };
            self.loaded(cx, users, wanted, done);
        }
    }

    /// The disk gave what was asked for.
    pub(super) fn loaded(&mut self, cx: &mut Cx, users: &mut Users, wanted: &[SegmentNo], done: LoadDone) {
        let Some(active) = self.active.as_mut().filter(|active| active.job == Some(done.job)) else { return };
        active.job = None;
        let place = active.from.place();
        let alive = users.moving.get(&place) == Some(&None) && !users.retiring.contains(&place);
        if !alive {
            return self.give_up(cx, users, None);
        }
        for Loaded { locator, outcome } in done.records {
            let record = match outcome {
                Ok(record) => record,
                Err(damage) => return self.give_up(cx, users, Some(damage)),
            };
            if active.record.is_none() {
                active.landing.parts = record.parts().collect();
                let is_wanted = |part: &&Locator| wanted.binary_search(&part.place().segment).is_ok();
                let mut todo: Vec<Locator> = active.landing.parts.iter().filter(is_wanted).copied().collect();
                todo.sort_unstable_by_key(Locator::place);
                todo.dedup_by_key(|part| part.place());
                let nothing = todo.is_empty() && active.lines.is_empty();
                if nothing && wanted.binary_search(&place.segment).is_err() {
                    return self.give_up(cx, users, None);
                }
                active.todo = todo.into();
                active.record = Some(record);
                return;
            }
            match cx.log.append_copy(&record, Flags::default(), None, None) {
                Ok((copy, seq)) => {
                    cx.counts.copied_octets += copy.octets;
                    active.landing.copies.insert(locator.place(), copy);
                    active.landing.replaced.push(locator.extent());
                    active.todo.pop_front();
                    cx.commit(seq, Commit::PartMoved(active.serial, copy));
                }
                // Once more, when the log has room.
                Err(Refused::Full | Refused::DiskFull) => return,
                Err(Refused::Poisoned | Refused::TooLarge) => return self.give_up(cx, users, None),
            }
        }
    }

    /// All its parts are copied: so is its record, which names the copies.
    fn join(&mut self, cx: &mut Cx, users: &mut Users) {
        let Some(active) = &mut self.active else { return };
        let (Some(record), place) = (&active.record, active.from.place()) else { return };
        let alive = users.moving.get(&place) == Some(&None) && !users.retiring.contains(&place);
        if !alive || active.landing.failed {
            return self.give_up(cx, users, None);
        }
        let copies = &active.landing.copies;
        let now = |part: &Locator| copies.get(&part.place()).map_or(*part, |copy| part.at(copy.place));
        let parts: Vec<Locator> = active.landing.parts.iter().map(now).collect();
        let mut envelope = record.envelope.of(&record.page).to_vec();
        envelope.extend_from_slice(&active.lines);
        let flags = match active.subject {
            Subject::Message(user) => users.now(user, &active.from).map_or(active.from.flags(), |now| now.flags()),
            _ => active.from.flags(),
        };
        match cx.log.append_copy(record, flags, Some(&parts), Some(&envelope)) {
            Ok((to, seq)) => {
                cx.counts.copied_octets += to.octets;
                users.moving.insert(place, Some(to));
                cx.commit(seq, Commit::Moved(vec![Moved::of_large(active.subject, active.from, to)]));
                if let Some(active) = self.active.take() {
                    self.landings.insert(place, Landing { parts, ..active.landing });
                }
            }
            Err(Refused::Full | Refused::DiskFull) => {}
            Err(Refused::Poisoned | Refused::TooLarge) => self.give_up(cx, users, None),
        }
    }

    /// It stays where it is. What was copied of it is nobody's.
    fn give_up(&mut self, cx: &mut Cx, users: &mut Users, damage: Option<Damage>) {
        let Some(active) = self.active.take() else { return };
        let place = active.from.place();
        if users.moving.get(&place) == Some(&None) {
            users.moving.remove(&place);
        }
        cx.freed(&active.landing.durable);
        if let Some(damage) = damage.filter(|damage| !matches!(damage, Damage::Unreadable(_))) {
            cx.counts.damaged += 1;
            tracing::error!(?place, ?damage, "a stored large message is damaged; its segments stay for it");
            users.refused(place, Refusal::Damaged);
        }
    }

    /// A copied part is durable.
    pub(super) fn part_durable(&mut self, cx: &Cx, serial: u64, copy: Extent) {
        match self.landing(serial) {
            Some(landing) => landing.durable.push(copy),
            None => cx.freed(&[copy]),
        }
    }

    /// A copied part never will be.
    pub(super) fn part_failed(&mut self, serial: u64) {
        if let Some(landing) = self.landing(serial) {
            landing.failed = true;
        }
    }

    fn landing(&mut self, serial: u64) -> Option<&mut Landing> {
        let active = self.active.as_mut().map(|active| &mut active.landing);
        active.into_iter().chain(self.landings.values_mut()).find(|landing| landing.serial == serial)
    }

    /// What changes with the copy of the message that lay at `from`; asked for once.
    pub(super) fn land(&mut self, from: Place) -> Option<Landing> {
        self.landings.remove(&from)
    }
}
