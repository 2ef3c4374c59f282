//! Copying forward: what is alive in a segment that is to go is written once more by its home, and then counts from there.
//!
//! Home alone decides about its users' records, on one thread, so a record is never copied and deleted by two minds. Knows places;
//! which segments are to go, and what becomes of their files, is `store::reclaim`'s.
//!
//! ```text
//!   generation seen ──▶ look at everybody, a little every millisecond ──▶ all seen ──nothing left behind──▶ rest
//!                            │                                              └──something held──▶ look again later
//!                            └─ load ──▶ append the copy ──durable──▶ the list names the copy ──▶ the original is written off
//! ```
//! What is with a client, or being written off, is not touched: its segment waits for it. Of segments that are only skimmed the states and
//! the bin are copied, which are found by where they lie: nobody is looked at for them.

use super::bin::Bin;
use super::carry::Carry;
use super::cx::{Commit, Cx, Timer};
use super::refusals::Refusal;
use super::users::Users;
use crate::base::clock::Tick;
use crate::base::spread::SpreadMap;
use crate::base::timers::TimerKey;
use crate::store::directory::UserId;
use crate::store::disk::SegmentNo;
use crate::store::loader::{Damage, LoadDone};
use crate::store::reason::Reason;
use crate::store::record::{Extent, Flags, Locator, Place, Stamp};
use std::time::Duration;

/// Users and messages looked at in one step. At some 20 ns each a step is 40 us: deposits do not notice.
const LOOKS_A_STEP: usize = 2_048;

/// A step a millisecond: two million messages a second.
const STEP: Duration = Duration::from_millis(1);

/// Octets being copied at one time, at most: what a disk writes in about a millisecond beside everything else. Never more than an
/// eighth of what the log may hold waiting.
const COPY_OCTETS: u64 = 1 << 20;

/// Records of one load.
const RECORDS_A_LOAD: usize = 256;

/// When something was left behind, everybody is looked at again after this, then after twice as long, and so on.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Whose record it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A message in this user's list.
    Message(UserId),
    /// A state.
    State,
    /// A message in the DELETE bin.
    Binned,
}

/// A copy on its way to being durable.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    subject: Subject,
    /// As the list has it.
    from: Locator,
    to: Extent,
}

impl Moved {
    /// Of a large message, whose parts [`Carry`] knows. It counts for nothing under way.
    pub(super) fn of_large(subject: Subject, from: Locator, to: Extent) -> Moved {
        Moved { subject, from, to }
    }

    fn is_large(&self) -> bool {
        !matches!(self.subject, Subject::State) && self.from.flags().has(Flags::LARGE)
    }
}

/// Where the look stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    Resting,
    /// What is in nobody's list: the states and what is in the bin, from this place on.
    Besides(Place),
    /// The next user, and the first of their messages not looked at.
    At(u32, Stamp),
}

/// Wanted segments in which something is alive, by number.
fn still_wanted(cx: &Cx) -> Vec<SegmentNo> {
    let mut wanted = cx.segments.wanted();
    wanted.retain(|number| cx.segments.find(*number).is_some_and(|state| !state.is_spent()));
    wanted
}

/// One core's copying.
#[derive(Debug)]
pub struct Forward {
    generation: u64,
    /// How many segments were gone when it was looked last.
    gone: u64,
    wanted: Vec<SegmentNo>,
    /// What is in nobody's list is looked for in these: what is wanted, and what is skimmed.
    skimmed: Vec<SegmentNo>,
    look: Look,
    /// How it goes on after what is in nobody's list.
    then: Look,
    again: Duration,
    /// The timer, and when it fires.
    armed: Option<(TimerKey, Tick)>,
    jobs: SpreadMap<u64, Vec<(Subject, Locator)>>,
    job: u64,
    /// Octets loaded or appended and not durable.
    under_way: u64,
    /// Copies that are durable while a client has the original.
    ready: Vec<Moved>,
    /// Large messages.
    carry: Carry,
}

impl Default for Forward {
    fn default() -> Forward {
        Forward {
            generation: 0,
            gone: 0,
            wanted: Vec::new(),
            skimmed: Vec::new(),
            look: Look::Resting,
            then: Look::Resting,
            again: AGAIN.0,
            armed: None,
            jobs: SpreadMap::default(),
            job: 0,
            under_way: 0,
            ready: Vec::new(),
            carry: Carry::default(),
        }
    }
}

impl Forward {
    /// Looks whether segments are wanted that were not before, or have gone. Costs two loads when there are none.
    pub fn turn(&mut self, cx: &mut Cx) {
        let gone = cx.segments.gone();
        if gone != self.gone {
            self.gone = gone;
            // What is lent of them keeps their files, and those of others that nobody needs from being written anew.
            cx.loader.forget_gone();
        }
        let generation = cx.segments.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let before = std::mem::take(&mut self.wanted);
        self.wanted = still_wanted(cx);
        // A look over everybody that is under way, or put off, is not begun anew for what is only skimmed: that may come many times
        // a second, and nobody behind the first would ever be looked at.
        let is_new = |number: &SegmentNo| before.binary_search(number).is_err();
        if self.wanted.iter().any(is_new) {
            return self.begin(cx);
        }
        self.then = if let Look::Besides(_) = self.look { self.then } else { self.look };
        self.skim(cx);
    }

    /// Looks at everything, from the beginning.
    fn begin(&mut self, cx: &mut Cx) {
        self.wanted = still_wanted(cx);
        self.again = AGAIN.0;
        self.then = if self.wanted.is_empty() { Look::Resting } else { Look::At(0, Stamp(0)) };
        self.skim(cx);
    }

    fn skim(&mut self, cx: &mut Cx) {
        self.skimmed = cx.segments.skimmed();
        self.skimmed.extend_from_slice(&self.wanted);
        self.skimmed.sort_unstable();
        if self.skimmed.is_empty() {
            self.look = Look::Resting;
            return;
        }
        self.look = Look::Besides(Place::default());
        self.arm(cx, STEP);
    }

    /// Sets the timer, unless it is set for that or an earlier time: what is wanted now does not wait for what was left behind.
    fn arm(&mut self, cx: &mut Cx, after: Duration) {
        let at = cx.now.tick + after;
        match self.armed {
            Some((_, armed)) if armed <= at => return,
            Some((timer, _)) => _ = cx.timers.cancel(timer),
            None => {}
        }
        self.armed = Some((cx.timer_at(at, Timer::Forward), at));
    }

    /// The timer fired: a little more is looked at. `held`: a client knows the message by its place.
    pub fn step(&mut self, cx: &mut Cx, users: &mut Users, bin: &mut Bin, held: impl Fn(UserId, Place) -> bool) {
        self.armed = None;
        // The daemon ends: nothing new begins.
        if cx.stopping {
            return;
        }
        let ready = std::mem::take(&mut self.ready);
        self.moved(cx, users, bin, ready, &held);
        self.carry(cx, users, bin, &held);
        if self.look == Look::Resting {
            if !self.carry.is_resting() {
                return self.arm(cx, if self.carry.is_busy() { STEP } else { AGAIN.0 });
            }
            if !self.wanted.is_empty() {
                let again = (self.again * 2).min(AGAIN.1);
                self.begin(cx);
                self.again = again;
            }
            return;
        }
        let budget = COPY_OCTETS.min(cx.log.commit_octets() as u64 / 8);
        // Deposits go first: copies wait while the log has half of what it may hold.
        if self.under_way >= budget || cx.log.waiting_octets() >= cx.log.commit_octets() / 2 {
            return self.arm(cx, STEP);
        }
        let mut batch = Vec::new();
        self.besides(cx, users, bin, &mut batch, budget);
        self.messages(cx, users, &mut batch, budget, &held);
        // By place, as the disk likes it; users have their numbers by chance.
        batch.sort_unstable_by_key(|(_, locator)| locator.place());
        if !batch.is_empty() {
            self.load(cx, users, batch);
        }
        match self.look {
            Look::Besides(_) | Look::At(..) => self.arm(cx, STEP),
            // Not at once: what is under way takes a moment, and what is held longer.
            Look::Resting => {
                let again = self.again;
                self.arm(cx, again);
            }
        }
    }

    /// The states and what is in the bin, in wanted and skimmed segments: they are found by where they lie.
    fn besides(&mut self, cx: &Cx, users: &Users, bin: &Bin, batch: &mut Vec<(Subject, Locator)>, budget: u64) {
        let Look::Besides(from) = self.look else { return };
        for &segment in self.skimmed.iter().filter(|&&segment| segment >= from.segment) {
            let from = from.max(Place { segment, offset: 0 });
            let state = |(extent, stamp): (Extent, Stamp)| {
                let locator = Locator::new(extent.place, stamp, 0, extent.octets, Flags::default());
                (Subject::State, locator)
            };
            let states = cx.states.since(from).map(state);
            let mut found: Vec<(Subject, Locator)> = states.take(RECORDS_A_LOAD + 1).collect();
            found.extend(bin.since(from).map(|locator| (Subject::Binned, *locator)).take(RECORDS_A_LOAD + 1));
            found.sort_unstable_by_key(|(_, locator)| locator.place());
            // Two lists were begun: only up to where both are known to be whole.
            for (count, (subject, locator)) in found.into_iter().enumerate() {
                let place = locator.place();
                if count >= RECORDS_A_LOAD || self.under_way >= budget || batch.len() >= RECORDS_A_LOAD {
                    self.look = Look::Besides(place);
                    return;
                }
                let is_large = matches!(subject, Subject::Binned) && locator.flags().has(Flags::LARGE);
                if !is_large && !users.moving.contains_key(&place) && !users.refusals.is_poison(place) {
                    self.under_way += locator.octets();
                    batch.push((subject, locator));
                }
            }
        }
        for message in bin.large_in(&self.wanted) {
            self.carry.want(Subject::Binned, message, Vec::new());
        }
        self.look = self.then;
    }

    /// Goes on with the large messages.
    fn carry(&mut self, cx: &mut Cx, users: &mut Users, bin: &Bin, held: &impl Fn(UserId, Place) -> bool) {
        let is_held = |subject: &Subject, place: Place| match subject {
            Subject::Message(user) => held(*user, place),
            // It may have been copied, or purged, since it was queued.
            Subject::Binned => !bin.has(place),
            Subject::State => false,
        };
        self.carry.step(cx, users, &self.wanted, &mut self.job, is_held);
    }

    /// A large message is kept already, and its sender's BYE says more of it.
    pub fn amend(&mut self, cx: &mut Cx, user: UserId, message: Locator, lines: Vec<u8>) {
        self.carry.want(Subject::Message(user), message, lines);
        self.arm(cx, STEP);
    }

    /// A copied part is durable, or never will be.
    pub fn part_moved(&mut self, cx: &Cx, serial: u64, copy: Extent, durable: bool) {
        match durable {
            true => self.carry.part_durable(cx, serial, copy),
            false => self.carry.part_failed(serial),
        }
    }

    fn messages(
        &mut self,
        cx: &Cx,
        users: &Users,
        batch: &mut Vec<(Subject, Locator)>,
        budget: u64,
        held: impl Fn(UserId, Place) -> bool,
    ) {
        let Look::At(mut number, mut from) = self.look else { return };
        let mut looks = LOOKS_A_STEP;
        let end = cx.directory.numbers();
        while number < end {
            let user = UserId(number);
            for locator in users.queue(user).into_iter().flat_map(|queue| queue.from(from)) {
                if looks == 0 || self.under_way >= budget || batch.len() >= RECORDS_A_LOAD {
                    self.look = Look::At(number, locator.stamp());
                    return;
                }
                looks -= 1;
                let place = locator.place();
                let is_large = locator.flags().has(Flags::LARGE);
                let of_part = |part: &Locator| self.wanted.binary_search(&part.place().segment).is_ok();
                let wanted = self.wanted.binary_search(&place.segment).is_ok()
                    || is_large && users.parts.get(&place).is_some_and(|parts| parts.iter().any(of_part));
                if !wanted || users.refusals.is_poison(place) {
                    continue;
                }
                if is_large {
                    self.carry.want(Subject::Message(user), *locator, Vec::new());
                    continue;
                }
                if users.retiring.contains(&place) || users.moving.contains_key(&place) || held(user, place) {
                    continue;
                }
                self.under_way += locator.octets();
                batch.push((Subject::Message(user), *locator));
            }
            (number, from) = (number + 1, Stamp(0));
            looks = looks.saturating_sub(1);
            if looks == 0 {
                self.look = Look::At(number, from);
                return;
            }
        }
        self.look = Look::Resting;
    }

    fn load(&mut self, cx: &mut Cx, users: &mut Users, batch: Vec<(Subject, Locator)>) {
        let locators: Vec<Locator> = batch.iter().map(|(_, locator)| *locator).collect();
        users.moving.extend(locators.iter().map(|locator| (locator.place(), None)));
        self.job += 1;
        self.jobs.insert(self.job, batch);
        let mut ops = Vec::new();
        let missing = cx.loader.load_raw(self.job, &locators, &mut ops);
        cx.disk.extend(ops);
        if let Some(done) = missing {
            self.loaded(cx, users, done);
        }
    }

    /// The disk gave what was asked for: what is still alive is appended.
    pub fn loaded(&mut self, cx: &mut Cx, users: &mut Users, done: LoadDone) {
        if self.carry.owns(done.job) {
            return self.carry.loaded(cx, users, &self.wanted, done);
        }
        let Some(batch) = self.jobs.remove(&done.job) else { return };
        let mut moved = Vec::new();
        let mut last = None;
        for ((subject, from), loaded) in batch.into_iter().zip(done.records) {
            let place = from.place();
            // Written off meanwhile: nothing is to be copied.
            let alive = users.moving.get(&place) == Some(&None) && !users.retiring.contains(&place);
            let copied = match loaded.outcome {
                Ok(record) if alive => cx.log.append_copy(&record, self.flags(users, subject, &from), None, None).ok(),
                Ok(_) => None,
                Err(damage) => {
                    if alive && !matches!(damage, Damage::Unreadable(_)) {
                        cx.counts.damaged += 1;
                        tracing::error!(?place, ?damage, "a stored record is damaged; its segment stays for it");
                        users.refused(place, Refusal::Damaged);
                    }
                    None
                }
            };
            match copied {
                Some((to, seq)) => {
                    users.moving.insert(place, Some(to));
                    cx.counts.copied_octets += to.octets;
                    moved.push(Moved { subject, from, to });
                    last = Some(seq);
                }
                None => {
                    self.under_way = self.under_way.saturating_sub(from.octets());
                    if users.moving.get(&place) == Some(&None) {
                        users.moving.remove(&place);
                    }
                }
            }
        }
        if let Some(seq) = last {
            cx.commit(seq, Commit::Moved(moved));
        }
    }

    /// A message as its list has it now: a mark may have come since it was written.
    fn flags(&self, users: &Users, subject: Subject, from: &Locator) -> Flags {
        match subject {
            Subject::Message(user) => {
                users.queue(user).and_then(|queue| queue.at(from.stamp())).map_or(from.flags(), Locator::flags)
            }
            Subject::State => Flags::default(),
            Subject::Binned => from.flags(),
        }
    }

    /// Copies are durable.
    pub fn durable(
        &mut self,
        cx: &mut Cx,
        users: &mut Users,
        bin: &mut Bin,
        moved: Vec<Moved>,
        held: impl Fn(UserId, Place) -> bool,
    ) {
        let small = moved.iter().filter(|moved| !moved.is_large());
        let octets: u64 = small.map(|moved| moved.from.octets()).sum();
        self.under_way = self.under_way.saturating_sub(octets);
        self.moved(cx, users, bin, moved, &held);
    }

    /// Each durable copy takes its original's place where nobody knows that by its place; the original is written off.
    fn moved(
        &mut self,
        cx: &mut Cx,
        users: &mut Users,
        bin: &mut Bin,
        moved: Vec<Moved>,
        held: &impl Fn(UserId, Place) -> bool,
    ) {
        for copy in moved {
            let place = copy.from.place();
            // A write-off in between has named both places, and took the copy along.
            if users.moving.get(&place) != Some(&Some(copy.to)) {
                let copies = self.carry.land(place).map(|landing| landing.durable);
                cx.freed(&copies.unwrap_or_default());
                continue;
            }
            let is_waiting = |user| users.retiring.contains(&place) || held(user, place);
            if let Subject::Message(user) = copy.subject
                && is_waiting(user)
            {
                self.ready.push(copy);
                self.arm(cx, AGAIN.0);
                continue;
            }
            let landing = self.carry.land(place);
            if landing.as_ref().is_some_and(|landing| landing.failed) {
                // It names a part that is not there: the original holds.
                users.moving.remove(&place);
                cx.bury([copy.to], Reason::Late);
                cx.freed(&landing.map(|landing| landing.durable).unwrap_or_default());
                continue;
            }
            let taken = match copy.subject {
                Subject::State => cx.states.moved(place, copy.to).then_some(copy.from.extent()),
                // It may have gone into the bin since it was read.
                Subject::Message(user) => {
                    users.relocate(user, &copy.from, copy.to).or_else(|| bin.moved(place, copy.to))
                }
                Subject::Binned => bin.moved(place, copy.to),
            };
            users.moving.remove(&place);
            if let Some(landing) = landing {
                if taken.is_none() {
                    cx.freed(&landing.durable);
                } else {
                    bin.parts_moved(copy.to.place, &landing.replaced, &landing.durable);
                    if let Some(parts) = users.parts.get_mut(&copy.to.place) {
                        *parts = landing.parts;
                    }
                    cx.freed(&landing.replaced);
                }
            }
            // The original is written off, or the copy that came too late.
            let reason = if taken.is_some() { Reason::Superseded } else { Reason::Late };
            cx.bury([taken.unwrap_or(copy.to)], reason);
        }
    }

    /// Copies never will be durable.
    pub fn failed(&mut self, cx: &Cx, users: &mut Users, moved: Vec<Moved>) {
        for copy in moved {
            if !copy.is_large() {
                self.under_way = self.under_way.saturating_sub(copy.from.octets());
            }
            cx.freed(&self.carry.land(copy.from.place()).map(|landing| landing.durable).unwrap_or_default());
            if users.moving.get(&copy.from.place()) == Some(&Some(copy.to)) {
                users.moving.remove(&copy.from.place());
            }
        }
    }

    /// True when nothing is being copied.
    pub fn is_resting(&self) -> bool {
        self.look == Look::Resting && self.jobs.is_empty() && self.ready.is_empty() && self.carry.is_resting()
    }
}

impl Users {
    /// A message lies at `to` now; where it lay, unless it is no more there.
    fn relocate(&mut self, user: UserId, from: &Locator, to: Extent) -> Option<Extent> {
        let waiting = self.waiting.get_mut(&user)?;
        let before = *waiting.queue.at(from.stamp()).filter(|now| now.place() == from.place())?;
        let copy = Locator::new(to.place, before.stamp(), before.expiry_s(), to.octets, before.flags());
        waiting.queue.replace(copy);
        self.refusals.moved(from.place(), to.place);
        if let Some(parts) = self.parts.remove(&from.place()) {
            self.parts.insert(to.place, parts);
        }
        Some(before.extent())
    }
}
