//! What waits for each user whose home this core is.
//!
//! Other cores leave locators in a user's inbox; only the home takes them out, sorts them into the user's private list and
//! decides: so two arrivals never race, and none is missed.

use super::cx::{Commit, Cx, Timer};
use super::policy::Expired;
use super::refusals::{Refusal, Refusals};
use crate::base::clock::{Tick, Wall};
use crate::base::spread::{SpreadMap, SpreadSet};
use crate::base::timers::TimerKey;
use crate::store::directory::{Arrival, UserId};
use crate::store::queue::Queue;
use crate::store::record::{Flags, Locator, Place};
use crate::store::seen::Seen;
use crate::store::stamp::Stamp;
use std::time::Duration;

/// A log that refuses tombstones is asked again after this.
const WRITE_OFF_AGAIN: Duration = Duration::from_secs(1);

/// A user's list, and the one timer for its earliest expiry.
#[derive(Debug, Default)]
struct Waiting {
    queue: Queue,
    expiry: Option<(TimerKey, u32)>,
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
    unwritten: Vec<(UserId, Vec<Place>)>,
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
        self.waiting.insert(user, Waiting { queue, expiry: None });
        self.watch(cx, user);
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

    /// Takes in what other cores (and this one) left; the users that have something new.
    pub fn collect(&mut self, cx: &mut Cx) -> Vec<UserId> {
        let mut ready = std::mem::take(&mut self.ready);
        cx.directory.take_ready(cx.core, &mut ready);
        let mut arrived = Vec::new();
        for user in ready.drain(..) {
            if self.take_in(cx, user) {
                arrived.push(user);
            } else {
                // On the list for nothing: only now can an empty user be let go.
                self.close_if_empty(cx, user);
            }
        }
        self.ready = ready;
        arrived
    }

    /// One user's inbox into their list; true when something new is in it.
    pub fn take_in(&mut self, cx: &mut Cx, user: UserId) -> bool {
        let mut drained = std::mem::take(&mut self.drained);
        cx.directory.drain(user, &mut drained);
        let mut twins = Vec::new();
        let mut new = false;
        for Arrival { locator, fingerprint } in drained.drain(..) {
            // A twin was answered 202 by a core that could not know of the first: it is dropped here.
            if !self.seen.insert(fingerprint, cx.now.tick) {
                cx.counts.duplicates += 1;
                twins.push(locator);
                continue;
            }
            self.waiting.entry(user).or_default().queue.insert(locator);
            new = true;
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
        if new {
            self.watch(cx, user);
        }
        new
    }

    /// True when the user has something to be pushed.
    pub fn has_new(&self, user: UserId) -> bool {
        self.new_messages(user).next().is_some()
    }

    /// Messages of a user to be pushed, oldest first.
    pub fn new_messages(&self, user: UserId) -> impl Iterator<Item = Locator> {
        self.waiting.get(&user).into_iter().flat_map(|waiting| waiting.queue.iter()).copied().filter(|l| self.is_new(l))
    }

    /// Those of them stamped at `from` or later.
    pub fn new_from(&self, user: UserId, from: Stamp) -> impl Iterator<Item = Locator> {
        self.waiting
            .get(&user)
            .into_iter()
            .flat_map(move |waiting| waiting.queue.from(from))
            .copied()
            .filter(|l| self.is_new(l))
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

    /// Delivered, deleted or expired: one tombstone record for all of `places`. From now on nobody is sent them again; they
    /// leave the list when the record is durable.
    ///
    // A message leaves the store only here, after the client acknowledged it: promise 2 of `manual::faults`.
    pub fn write_off(&mut self, cx: &mut Cx, user: UserId, places: Vec<Place>) {
        if places.is_empty() {
            return;
        }
        self.retiring.extend(places.iter().copied());
        match cx.log.append_tombstones(&places) {
            Ok(seq) => cx.commit(seq, Commit::Retire { user, places }),
            Err(_) => {
                cx.counts.overloads += 1;
                if self.unwritten.is_empty() {
                    cx.timer(WRITE_OFF_AGAIN, Timer::WriteOff);
                }
                self.unwritten.push((user, places));
            }
        }
    }

    /// The log may take now what it refused.
    pub fn write_off_again(&mut self, cx: &mut Cx) {
        for (user, places) in std::mem::take(&mut self.unwritten) {
            self.write_off(cx, user, places);
        }
    }

    /// Lets a user go who has nothing here and whom nobody holds.
    pub fn close_if_empty(&mut self, cx: &mut Cx, user: UserId) {
        if !self.waiting.contains_key(&user) {
            cx.directory.close(user);
        }
    }

    /// Their tombstones are durable: the messages are gone.
    pub fn retire(&mut self, cx: &mut Cx, user: UserId, places: &[Place]) {
        for place in places {
            self.retiring.remove(place);
            self.refusals.forget(*place);
        }
        let Some(waiting) = self.waiting.get_mut(&user) else { return };
        let (mut messages, mut octets) = (0u32, 0u64);
        for &place in places {
            if let Some(locator) = waiting.queue.remove(place) {
                messages += 1;
                octets += locator.octets();
            }
        }
        cx.directory.release(user, messages, octets);
        if waiting.queue.is_empty() {
            if let Some((timer, _)) = waiting.expiry.take() {
                cx.timers.cancel(timer);
            }
            self.waiting.remove(&user);
            self.close_if_empty(cx, user);
        }
    }

    /// One timer per user, for the earliest expiry.
    fn watch(&mut self, cx: &mut Cx, user: UserId) {
        let Some(waiting) = self.waiting.get_mut(&user) else { return };
        if cx.policy.expired != Expired::Delete {
            return;
        }
        let Some(earliest) = waiting.queue.earliest_expiry() else { return };
        match waiting.expiry {
            Some((_, at)) if at <= earliest => return,
            Some((timer, _)) => {
                cx.timers.cancel(timer);
            }
            None => {}
        }
        let at = tick_of(cx, second(earliest));
        waiting.expiry = Some((cx.timer_at(at, Timer::Expiry(user)), earliest));
    }

    /// The earliest expiry has come: what is over and not being sent right now is deleted.
    ///
    //= 12.2.2.4: the expired message is deleted undelivered to the destination User (local policy)
    pub fn expire(&mut self, cx: &mut Cx, user: UserId, in_flight: impl Fn(Place) -> bool) {
        let Some(waiting) = self.waiting.get_mut(&user) else { return };
        waiting.expiry = None;
        let Some(waiting) = self.waiting.get(&user) else { return };
        let now_s = cx.now.wall.seconds();
        let over: Vec<Place> = waiting
            .queue
            .iter()
            .filter(|locator| u64::from(locator.expiry_s()) <= now_s)
            .filter(|locator| !in_flight(locator.place()) && !self.retiring.contains(&locator.place()))
            .map(|locator| locator.place())
            .collect();
        cx.counts.expired += over.len() as u64;
        self.write_off(cx, user, over);
        // What is in flight or under way to its tombstone is looked at again in a second.
        let waiting = self.waiting.get_mut(&user);
        let Some(waiting) = waiting else { return };
        if let Some(earliest) = waiting.queue.earliest_expiry() {
            let at = tick_of(cx, second(earliest)).max(cx.now.tick + Duration::from_secs(1));
            waiting.expiry = Some((cx.timer_at(at, Timer::Expiry(user)), earliest));
        }
    }
}

fn second(second: u32) -> Wall {
    Wall(u64::from(second) * 1_000_000)
}

/// When a wall-clock time comes, on the monotonic clock.
pub fn tick_of(cx: &Cx, at: Wall) -> Tick {
    cx.now.tick + Duration::from_micros(at.0.saturating_sub(cx.now.wall.0))
}
