//! What waits for each user whose home this core is.
//!
//! Other cores leave locators in a user's inbox; only the home takes them out, sorts them into the user's private list and
//! decides: so two arrivals never race, and none is missed.

use super::cx::{Commit, Cx, Timer};
use super::inquiry::Waiting as Standing;
use super::policy::{Afterwards, Expired, OverQuota};
use super::refusals::{Refusal, Refusals};
use crate::base::clock::{Tick, Wall};
use crate::base::spread::{SpreadMap, SpreadSet};
use crate::base::timers::TimerKey;
use crate::store::directory::{Arrival, UserId};
use crate::store::log::Refused;
use crate::store::queue::Queue;
use crate::store::record::{Flags, Locator, Place};
use crate::store::seen::Seen;
use crate::store::stamp::Stamp;
use std::cell::Cell;
use std::time::Duration;

/// A log that refuses tombstones is asked again after this.
const WRITE_OFF_AGAIN: Duration = Duration::from_secs(1);

/// A user's list, and the one timer for its earliest expiry.
#[derive(Debug, Default)]
struct Waiting {
    queue: Queue,
    expiry: Option<(TimerKey, u32)>,
    /// Nothing stamped below is to be pushed: what is retained is not looked over again and again.
    new_from: Cell<Stamp>,
    /// Messages and octets of those written off whose tombstones are not durable yet.
    doomed: (u32, u64),
}

/// Messages that leave the queue, or stay in it as had, once the log says so.
#[derive(Debug)]
pub struct WrittenOff {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub gone: Vec<Locator>,
    /// They are had, and stay (`after_push = "retain"`).
    pub kept: bool,
}

/// The lists of all users at home on this core.
pub struct Users {
    waiting: SpreadMap<UserId, Waiting>,
    seen: Seen,
    /// Written off, and the tombstone not durable yet: in the list still, and for nobody any more.
    retiring: SpreadSet<Place>,
    /// Refused by clients, and how often.
    refusals: Refusals,
    /// Tombstones that the log refused for the moment.
    unwritten: Vec<WrittenOff>,
    ready: Vec<UserId>,
    drained: Vec<Arrival>,
}

impl Users {
    /// No users yet; remembers at most `dedupe_entries` fingerprints of what was taken in.
    pub fn new(dedupe_entries: usize) -> Users {
        Users {
            waiting: SpreadMap::default(),
            seen: Seen::new(dedupe_entries),
            retiring: SpreadSet::default(),
            refusals: Refusals::default(),
            unwritten: Vec::new(),
            ready: Vec::new(),
            drained: Vec::new(),
        }
    }

    /// What recovery found for a user.
    pub fn adopt(&mut self, cx: &mut Cx, user: UserId, queue: Queue) {
        let mut waiting = Waiting { queue, ..Waiting::default() };
        let earliest = waiting.queue.earliest_expiry();
        self.waiting.insert(user, waiting);
        if let Some(earliest) = earliest {
            self.watch(cx, user, earliest);
        }
    }

    /// A fingerprint that recovery found.
    pub fn remember(&mut self, cx: &Cx, fingerprint: u64) {
        self.seen.insert(fingerprint, cx.now.tick);
    }

    /// Twins that recovery found: never in a list, and now written off.
    pub fn bury(&mut self, cx: &mut Cx, twins: &[Locator]) {
        for batch in twins.chunks(1024) {
            let places: Vec<Place> = batch.iter().map(|twin| twin.place()).collect();
            // If the log refuses, the next start finds them again.
            if let Ok(seq) = cx.log.append_tombstones(&places) {
                cx.commit(seq, Commit::Note);
            }
        }
    }

    /// Takes in what other cores (and this one) left; the users that have something new, and the oldest stamp of it.
    pub fn collect(&mut self, cx: &mut Cx) -> Vec<(UserId, Stamp)> {
        let mut ready = std::mem::take(&mut self.ready);
        cx.directory.take_ready(cx.core, &mut ready);
        let mut arrived = Vec::new();
        for user in ready.drain(..) {
            if let Some(oldest) = self.take_in(cx, user) {
                arrived.push((user, oldest));
            } else {
                // On the list for nothing: only now can an empty user be let go.
                self.close_if_empty(cx, user);
            }
        }
        self.ready = ready;
        arrived
    }

    /// One user's inbox into their list; the oldest stamp of what is new.
    pub fn take_in(&mut self, cx: &mut Cx, user: UserId) -> Option<Stamp> {
        let mut drained = std::mem::take(&mut self.drained);
        cx.directory.drain(user, &mut drained);
        let mut twins = Vec::new();
        let mut new: Option<(Stamp, u32)> = None;
        for Arrival { locator, fingerprint } in drained.drain(..) {
            // A twin was answered 202 by a core that could not know of the first: it is dropped here.
            if !self.seen.insert(fingerprint, cx.now.tick) {
                cx.counts.duplicates += 1;
                twins.push(locator);
                continue;
            }
            let waiting = self.waiting.entry(user).or_default();
            waiting.queue.insert(locator);
            let (stamp, expiry_s) = (locator.stamp(), locator.expiry_s());
            waiting.new_from.set(waiting.new_from.get().min(stamp));
            let (oldest, earliest) = new.unwrap_or((stamp, expiry_s));
            new = Some((oldest.min(stamp), earliest.min(expiry_s)));
        }
        self.drained = drained;
        if !twins.is_empty() {
            let places: Vec<Place> = twins.iter().map(|twin| twin.place()).collect();
            // A twin that cannot be written off now is still dropped: after a restart the home sees both and drops it again.
            if let Ok(seq) = cx.log.append_tombstones(&places) {
                cx.commit(seq, Commit::Note);
            }
            let octets = twins.iter().map(|twin| twin.octets()).sum();
            cx.directory.release(user, twins.len() as u32, octets);
        }
        let (oldest, earliest) = new?;
        self.watch(cx, user, earliest);
        Some(oldest)
    }

    /// True when the user has something to be pushed.
    pub fn has_new(&self, user: UserId) -> bool {
        let Some(waiting) = self.waiting.get(&user) else { return false };
        let first = waiting.queue.from(waiting.new_from.get()).find(|locator| self.is_new(locator));
        // What was not new stays so: only an arrival can be below, and it says so.
        let after_all = || waiting.queue.last().map_or(Stamp(0), |last| Stamp(last.stamp().0 + 1));
        waiting.new_from.set(first.map_or_else(after_all, Locator::stamp));
        first.is_some()
    }

    /// Messages of a user to be pushed, oldest first.
    pub fn new_messages(&self, user: UserId) -> impl Iterator<Item = Locator> {
        self.new_from(user, Stamp(0))
    }

    /// Those of them stamped at `from` or later.
    pub fn new_from(&self, user: UserId, from: Stamp) -> impl Iterator<Item = Locator> {
        self.waiting
            .get(&user)
            .into_iter()
            .flat_map(move |waiting| waiting.queue.from(from.max(waiting.new_from.get())))
            .copied()
            .filter(|l| self.is_new(l))
    }

    /// What is with a message of a user that no push has.
    pub fn standing(&self, user: UserId, locator: &Locator) -> Standing {
        let place = locator.place();
        let now = self.queue(user).and_then(|queue| queue.at(locator.stamp()));
        if now.is_none() || self.retiring.contains(&place) {
            Standing::Leaving
        } else if now.is_some_and(|locator| locator.flags().has(Flags::RETAINED)) {
            Standing::Retained
        } else if self.refusals.is_poison(place) {
            Standing::Refused
        } else {
            Standing::New
        }
    }

    /// The list of one user.
    pub fn queue(&self, user: UserId) -> Option<&Queue> {
        self.waiting.get(&user).map(|waiting| &waiting.queue)
    }

    /// How many users have something here.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when nobody has.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn is_new(&self, locator: &Locator) -> bool {
        !locator.flags().has(Flags::RETAINED)
            && (self.retiring.is_empty() || !self.retiring.contains(&locator.place()))
            && !self.refusals.is_poison(locator.place())
    }

    /// A client refused a message, or the store could not give it. True when it is not pushed any more.
    pub fn refused(&mut self, place: Place, refusal: Refusal) -> bool {
        self.refusals.count(place, refusal)
    }

    /// These were acknowledged by their user's client.
    ///
    // A message leaves the store only here, after the client acknowledged it: promise 2 of `manual::faults`.
    pub fn delivered(&mut self, cx: &mut Cx, user: UserId, gone: Vec<Locator>) -> bool {
        let kept = cx.policy.after_push == Afterwards::Retain;
        self.append(cx, WrittenOff { user, gone, kept })
    }

    /// Deleted or expired.
    pub fn write_off(&mut self, cx: &mut Cx, user: UserId, gone: Vec<Locator>) {
        self.append(cx, WrittenOff { user, gone, kept: false });
    }

    /// One record for all of them. From now on nobody is sent them again; they leave the list when the record is durable.
    /// False when it never will be, and they are gone already.
    fn append(&mut self, cx: &mut Cx, off: WrittenOff) -> bool {
        if off.gone.is_empty() {
            return false;
        }
        let places: Vec<Place> = off.gone.iter().map(Locator::place).collect();
        for locator in &off.gone {
            if self.retiring.insert(locator.place())
                && !off.kept
                && let Some(waiting) = self.waiting.get_mut(&off.user)
            {
                waiting.doomed.0 += 1;
                waiting.doomed.1 += locator.octets();
            }
        }
        let appended = match off.kept {
            true => cx.log.append_retained(&places),
            false => cx.log.append_tombstones(&places),
        };
        match appended {
            Ok(seq) => cx.commit(seq, Commit::Retire(off)),
            // For good: to wait for it would hold the push for ever. They come once more after a restart.
            Err(Refused::Poisoned) => {
                self.retire(cx, &off);
                return false;
            }
            Err(_) => {
                cx.counts.overloads += 1;
                if self.unwritten.is_empty() {
                    cx.timer(WRITE_OFF_AGAIN, Timer::WriteOff);
                }
                self.unwritten.push(off);
            }
        }
        true
    }

    /// The log may take now what it refused.
    pub fn write_off_again(&mut self, cx: &mut Cx) {
        for off in std::mem::take(&mut self.unwritten) {
            self.append(cx, off);
        }
    }

    /// The owner's oldest messages make room for what came beyond the quota, where the operator wants that.
    pub fn make_room(&mut self, cx: &mut Cx, user: UserId, in_flight: impl Fn(Place) -> bool) {
        if cx.policy.over_quota != OverQuota::DropOldest {
            return;
        }
        let Some(waiting) = self.waiting.get(&user) else { return };
        let mut messages = (waiting.queue.len() as u32).saturating_sub(waiting.doomed.0);
        let mut octets = waiting.queue.octets().saturating_sub(waiting.doomed.1);
        let mut gone = Vec::new();
        for locator in waiting.queue.iter() {
            if messages <= cx.policy.quota_messages && octets <= cx.policy.quota_octets {
                break;
            }
            let place = locator.place();
            if self.retiring.contains(&place) || in_flight(place) {
                continue;
            }
            messages -= 1;
            octets -= locator.octets();
            gone.push(*locator);
        }
        cx.counts.dropped += gone.len() as u64;
        self.write_off(cx, user, gone);
    }

    /// Lets a user go who has nothing here and whom nobody holds.
    pub fn close_if_empty(&mut self, cx: &mut Cx, user: UserId) {
        if !self.waiting.contains_key(&user) {
            cx.directory.close(user);
        }
    }

    /// Their tombstones are durable: the messages are gone, or had.
    pub fn retire(&mut self, cx: &mut Cx, off: &WrittenOff) {
        let (mut messages, mut octets) = (0u32, 0u64);
        let mut waiting = self.waiting.get_mut(&off.user);
        for locator in &off.gone {
            let was_retiring = self.retiring.remove(&locator.place());
            self.refusals.forget(locator.place());
            let Some(waiting) = &mut waiting else { continue };
            if off.kept {
                waiting.queue.mark(locator.stamp(), locator.flags().with(Flags::RETAINED));
                continue;
            }
            if was_retiring {
                waiting.doomed.0 = waiting.doomed.0.saturating_sub(1);
                waiting.doomed.1 = waiting.doomed.1.saturating_sub(locator.octets());
            }
            if let Some(locator) = waiting.queue.remove_stamp(locator.stamp()) {
                messages += 1;
                octets += locator.octets();
            }
        }
        let Some(waiting) = waiting else { return };
        cx.directory.release(off.user, messages, octets);
        if waiting.queue.is_empty() {
            if let Some((timer, _)) = waiting.expiry.take() {
                cx.timers.cancel(timer);
            }
            self.waiting.remove(&off.user);
            self.close_if_empty(cx, off.user);
        }
    }

    /// One timer per user, for the earliest expiry. `earliest_s` is that of what is new in the list.
    fn watch(&mut self, cx: &mut Cx, user: UserId, earliest_s: u32) {
        let Some(waiting) = self.waiting.get_mut(&user) else { return };
        if cx.policy.expired == Expired::DeliverMarked {
            return;
        }
        match waiting.expiry {
            Some((_, at)) if at <= earliest_s => return,
            Some((timer, _)) => {
                cx.timers.cancel(timer);
            }
            None => {}
        }
        let at = tick_of(cx, second(earliest_s));
        waiting.expiry = Some((cx.timer_at(at, Timer::Expiry(user)), earliest_s));
    }

    /// The earliest expiry has come: what is over and not being sent right now is deleted, or not pushed any more.
    ///
    //= 12.2.2.4: the expired message is deleted undelivered to the destination User (local policy)
    pub fn expire(&mut self, cx: &mut Cx, user: UserId, in_flight: impl Fn(Place) -> bool) {
        let Some(waiting) = self.waiting.get_mut(&user) else { return };
        waiting.expiry = None;
        let now_s = cx.now.wall.seconds();
        let keep = cx.policy.expired == Expired::Keep;
        let mut over = Vec::new();
        let mut next: Option<u32> = None;
        for locator in waiting.queue.iter() {
            let place = locator.place();
            if self.retiring.contains(&place) || keep && locator.flags().has(Flags::RETAINED) {
                continue;
            }
            if u64::from(locator.expiry_s()) <= now_s && !in_flight(place) {
                over.push(*locator);
            } else {
                next = Some(next.map_or(locator.expiry_s(), |next| next.min(locator.expiry_s())));
            }
        }
        if let Some(next) = next {
            // What is in flight is looked at again in a second.
            let at = tick_of(cx, second(next)).max(cx.now.tick + Duration::from_secs(1));
            waiting.expiry = Some((cx.timer_at(at, Timer::Expiry(user)), next));
        }
        if keep {
            // To be retrieved, like what was had. Not written down: a restart finds it expired again.
            for locator in over {
                waiting.queue.mark(locator.stamp(), locator.flags().with(Flags::RETAINED));
            }
            return;
        }
        cx.counts.expired += over.iter().filter(|locator| !locator.flags().has(Flags::RETAINED)).count() as u64;
        self.write_off(cx, user, over);
    }
}

fn second(second: u32) -> Wall {
    Wall(u64::from(second) * 1_000_000)
}

/// When a wall-clock time comes, on the monotonic clock.
pub fn tick_of(cx: &Cx, at: Wall) -> Tick {
    cx.now.tick + Duration::from_micros(at.0.saturating_sub(cx.now.wall.0))
}
