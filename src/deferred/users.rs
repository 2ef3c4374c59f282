//! What waits for each user whose home this core is.
//!
//! Other cores leave locators in a user's inbox; only the home takes them out, sorts them into the user's private list and
//! decides: so two arrivals never race, and none is missed.

use super::bin::{Binned, Laid};
use super::cx::{Cx, Timer};
use super::expiries::{Expiries, Links};
use super::inquiry::Waiting as Standing;
use super::lists::{Lists, NOBODY};
use super::metadata::changes::Changes;
use super::payload::Unfit;
use super::policy::{Afterwards, Expired, OverQuota};
use super::refusals::{Refusal, Refusals, Refused};
pub use super::write_off::{Batch, Buried, Durable, WrittenOff};
use crate::base::clock::{Tick, Wall};
use crate::base::spread::{SpreadMap, SpreadSet};
use crate::base::timers::TimerKey;
use crate::store::directory::{Arrival, Directory, UserId};
use crate::store::queue::{Depth, Queue};
use crate::store::reason::Reason;
use crate::store::record::{Extent, Flags, Locator, Place, extents_of};
use crate::store::seen::Seen;
use crate::store::stamp::Stamp;
use crate::store::tally::Tally;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// A user's list. A million of them are no rarity: what few users have stands in tables beside it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) queue: Queue,
    /// Whose.
    pub(super) user: UserId,
    /// Nothing stamped below is to be pushed: what is retained is not looked over again and again.
    pub(super) new_from: Cell<Stamp>,
    /// When its earliest message expires, and its place among those of that second; 0: it is not watched.
    pub(super) expiry_s: u32,
    pub(super) links: Links,
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting {
            queue: Queue::default(),
            user: NOBODY,
            new_from: Cell::default(),
            expiry_s: 0,
            links: Links::default(),
        }
    }
}

const _: () = assert!(
    size_of::<Waiting>() <= 56,
    "limits.users of these, and what the directory has of them, are to stay below 200 octets each"
);

/// A twin that comes later than this is a message of its own.
const TWINS_FOR: Duration = Duration::from_secs(24 * 3_600);

/// Users whose messages expire at one time are looked after this many a turn, so that a turn stays short: a hundred thousand a second
/// are four hundred turns.
const EXPIRIES_A_TURN: usize = 256;

/// The lists of all users at home on this core.
pub struct Users {
    pub(super) waiting: Lists,
    /// Messages and octets of those written off whose tombstones are not durable yet, of the users who have such.
    pub(super) doomed: SpreadMap<UserId, (u32, u64)>,
    /// Whose earliest message expires when. A timer each would cost more than all else that is known of a user.
    expiries: Expiries,
    /// The one timer for the earliest of all, and its second.
    alarm: Option<(TimerKey, u32)>,
    seen: Seen,
    /// Written off, and the tombstone not durable yet: in the list still, and for nobody any more.
    pub(super) retiring: SpreadSet<Place>,
    /// Of those, what was to be deleted and its client acknowledged in the meantime, and what is to become of it should the deletion fail.
    pub(super) contested: SpreadMap<Place, Afterwards>,
    /// Refused by clients, and how often.
    pub(super) refusals: Refusals,
    /// Records that are being copied forward, by the place they still count under; the copy, once it is appended.
    pub(super) moving: SpreadMap<Place, Option<Extent>>,
    /// The parts of large messages in the lists, by the message's place.
    pub(super) parts: SpreadMap<Place, Vec<Locator>>,
    /// Written off in this turn.
    pub(super) due: Vec<WrittenOff>,
    /// Records buried in this turn that go together.
    pub(super) whole: Vec<Batch>,
    /// Tombstones that the log refused for the moment.
    pub(super) unwritten: Vec<Batch>,
    ready: Vec<UserId>,
    drained: Vec<Arrival>,
    /// Users whose arrivals somebody wants to hear of one by one.
    watched: SpreadSet<UserId>,
    /// Of theirs, what came since it was last asked.
    came: Vec<(UserId, Stamp)>,
    /// Taken in before their turn, and nobody was told yet.
    early: Vec<(UserId, Stamp)>,
    /// Whose metadata has changed, where somebody wants to know.
    pub(super) changes: Option<Box<Changes>>,
    /// Of what has landed in this turn and nobody was told of: the oldest stamp, the earliest expiry.
    landed: SpreadMap<UserId, (Stamp, u32)>,
}

impl Users {
    /// None of the directory's users yet; remembers at most `dedupe_entries` fingerprints of what was taken in.
    pub fn new(directory: Arc<Directory>, dedupe_entries: usize) -> Users {
        Users {
            waiting: Lists::new(directory),
            doomed: SpreadMap::default(),
            expiries: Expiries::default(),
            alarm: None,
            seen: Seen::with_horizon(dedupe_entries, TWINS_FOR),
            retiring: SpreadSet::default(),
            contested: SpreadMap::default(),
            refusals: Refusals::default(),
            moving: SpreadMap::default(),
            parts: SpreadMap::default(),
            due: Vec::new(),
            whole: Vec::new(),
            unwritten: Vec::new(),
            ready: Vec::new(),
            drained: Vec::new(),
            watched: SpreadSet::default(),
            came: Vec::new(),
            early: Vec::new(),
            changes: None,
            landed: SpreadMap::default(),
        }
    }

    /// What recovery found for a user.
    pub fn adopt(&mut self, cx: &mut Cx, user: UserId, queue: Queue) {
        if let Some(domain) = cx.directory.domains().of(&cx.directory.address(user)) {
            let (messages, octets) = (queue.len() as u64, self.octets_of(&queue));
            cx.directory.domains().add(cx.core, domain, messages, octets);
        }
        let waiting = self.waiting.or_new(user);
        waiting.queue = queue;
        if let Some(earliest) = waiting.queue.earliest_expiry() {
            self.watch(cx, user, earliest);
        }
    }

    /// What the messages of a list count together.
    fn octets_of(&self, queue: &Queue) -> u64 {
        if self.parts.is_empty() {
            return queue.octets();
        }
        queue.iter().map(|locator| self.weight(locator)).sum()
    }

    /// A fingerprint that recovery found.
    pub fn remember(&mut self, cx: &Cx, fingerprint: u64) {
        self.seen.insert(fingerprint, cx.now.tick);
    }

    /// The parts of a large message that recovery found.
    pub fn adopt_parts(&mut self, message: Place, parts: Vec<Locator>) {
        self.parts.insert(message, parts);
    }

    /// What recovery found in the DELETE bin: it is in nobody's list, and counts for nobody.
    pub fn unlist(&mut self, cx: &mut Cx, binned: Binned, extent: Extent) -> Laid {
        let mut laid = Laid { binned, extent, messages: Vec::new(), parts: Vec::new() };
        let Some(user) = cx.directory.find(laid.binned.owner()) else { return laid };
        let Some(queue) = self.queue(user) else { return laid };
        let gone = laid.binned.stamps().filter_map(|stamp| queue.at(stamp)).copied().collect();
        (laid.messages, laid.parts) = self.retire(cx, &WrittenOff::of(user, gone, Reason::Purged), false);
        laid
    }

    /// Takes in what other cores (and this one) left; the users that have something new, and the oldest stamp of it.
    pub fn collect(&mut self, cx: &mut Cx) -> Vec<(UserId, Stamp)> {
        let mut ready = std::mem::take(&mut self.ready);
        cx.directory.take_ready(cx.core, &mut ready);
        let mut arrived = std::mem::take(&mut self.early);
        for user in ready.drain(..) {
            if let Some(oldest) = self.take_in(cx, user) {
                arrived.push((user, oldest));
            } else {
                // On the list for nothing: only now can an empty user be let go.
                self.close_if_empty(cx, user);
            }
        }
        self.ready = ready;
        let mut landed = std::mem::take(&mut self.landed);
        for (user, (oldest, earliest)) in landed.drain() {
            self.watch(cx, user, earliest);
            arrived.push((user, oldest));
        }
        self.landed = landed;
        arrived
    }

    /// Takes in what this core itself has made durable: nobody else has a hand in it, so it needs no inbox. False for a twin, which
    /// is dropped.
    pub fn land(&mut self, cx: &mut Cx, user: UserId, arrival: Arrival) -> bool {
        let is_new = self.insert(cx, user, arrival);
        if !is_new {
            self.drop_twins(cx, user, &[arrival.locator]);
        }
        is_new
    }

    /// The same for a large message, with its parts.
    pub fn land_large(&mut self, cx: &mut Cx, user: UserId, arrival: Arrival, parts: Vec<Locator>) -> bool {
        let (locator, extents) = (arrival.locator, extents_of(&parts));
        if self.insert(cx, user, arrival) {
            self.parts.insert(locator.place(), parts);
            return true;
        }
        // A twin: without a message in a list that names them its parts are nobody's.
        cx.release(user, 0, extents.iter().map(|extent| extent.octets).sum());
        cx.freed(&extents);
        self.drop_twins(cx, user, &[locator]);
        false
    }

    /// What a message counts for its user.
    fn weight(&self, locator: &Locator) -> u64 {
        weight(&self.parts, locator)
    }

    /// Says that [`Users::has_seen`] will be asked for this fingerprint.
    pub fn foresee(&self, fingerprint: u64) {
        self.seen.foresee(fingerprint);
    }

    /// Says that [`Users::land`] will be called for this user, who is at home here, and this fingerprint.
    pub fn foresee_landing(&self, user: UserId, fingerprint: u64) {
        self.seen.foresee_insertion(fingerprint);
        self.waiting.foresee(user);
    }

    /// A while later, the same for the user's list.
    pub fn foresee_end(&self, user: UserId, depth: Depth) {
        if let Some(queue) = self.queue(user) {
            queue.foresee(depth);
        }
    }

    /// True for the fingerprint of a message that was taken in, as far as is remembered.
    pub fn has_seen(&self, fingerprint: u64, now: Tick) -> bool {
        self.seen.check(fingerprint, now)
    }

    /// Into the list; false for a twin.
    fn insert(&mut self, cx: &mut Cx, user: UserId, Arrival { locator, fingerprint }: Arrival) -> bool {
        // A twin was answered 202 by a core that could not know of the first: it is dropped here.
        if !self.seen.insert(fingerprint, cx.now.tick) {
            cx.counts.duplicates += 1;
            return false;
        }
        let waiting = self.waiting.or_new(user);
        waiting.queue.insert(locator);
        let (stamp, expiry_s) = (locator.stamp(), locator.expiry_s());
        waiting.new_from.set(waiting.new_from.get().min(stamp));
        let (oldest, earliest) = self.landed.entry(user).or_insert((stamp, expiry_s));
        (*oldest, *earliest) = ((*oldest).min(stamp), (*earliest).min(expiry_s));
        if let Some(changes) = &mut self.changes {
            changes.changed(user);
        }
        if !self.watched.is_empty() && self.watched.contains(&user) {
            self.came.push((user, stamp));
        }
        true
    }

    /// From now on somebody wants to hear of this user's arrivals, or nobody any more.
    pub fn listen(&mut self, user: UserId, wanted: bool) {
        if wanted {
            self.watched.insert(user);
        } else {
            self.watched.remove(&user);
        }
    }

    /// What came for those users since the last call.
    pub fn take_came(&mut self) -> Vec<(UserId, Stamp)> {
        std::mem::take(&mut self.came)
    }

    /// How many of a user's messages are of which kind.
    pub fn tally(&self, user: UserId) -> Tally {
        self.queue(user).map(Queue::tally).unwrap_or_default()
    }

    /// A twin that cannot be written off now is dropped all the same: after a restart the home sees both and drops it again.
    fn drop_twins(&mut self, cx: &mut Cx, user: UserId, twins: &[Locator]) {
        cx.bury(twins.iter().map(Locator::extent), Reason::Twin);
        let octets = twins.iter().map(|twin| twin.octets()).sum();
        cx.release(user, twins.len() as u32, octets);
    }

    /// The oldest stamp of what has landed for a user and nobody was told of.
    fn notice(&mut self, cx: &mut Cx, user: UserId) -> Option<Stamp> {
        let (oldest, earliest) = self.landed.remove(&user)?;
        self.watch(cx, user, earliest);
        Some(oldest)
    }

    /// One user's inbox into their list, for somebody who wants to see all that was answered 202 until now. What is new is told
    /// by the next [`Users::collect`].
    pub fn look(&mut self, cx: &mut Cx, user: UserId) -> Option<&Queue> {
        if let Some(oldest) = self.take_in(cx, user) {
            self.early.push((user, oldest));
        }
        self.queue(user)
    }

    /// One user's inbox into their list; the oldest stamp of what is new there.
    pub fn take_in(&mut self, cx: &mut Cx, user: UserId) -> Option<Stamp> {
        let mut drained = std::mem::take(&mut self.drained);
        cx.directory.drain(user, &mut drained);
        let mut twins = Vec::new();
        for arrival in drained.drain(..) {
            if !self.insert(cx, user, arrival) {
                twins.push(arrival.locator);
            }
        }
        self.drained = drained;
        if !twins.is_empty() {
            self.drop_twins(cx, user, &twins);
        }
        self.notice(cx, user)
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
        let now = self.queue(user).and_then(|queue| queue.at(locator.stamp()));
        let place = now.map_or(locator.place(), Locator::place);
        if now.is_none() || self.retiring.contains(&place) {
            Standing::Leaving
        } else if now.is_some_and(|locator| locator.flags().has(Flags::RETAINED)) {
            Standing::Retained
        } else if self.refusals.is_poison(place) {
            Standing::Refused
        } else {
            match self.refusals.unfit(place) {
                None => Standing::New,
                Some(Unfit::TooLarge) => Standing::TooLarge,
                Some(Unfit::Type) => Standing::Unaccepted,
            }
        }
    }

    /// What clients made of a message of a user, if anything is held against it.
    pub fn refusal(&self, user: UserId, locator: &Locator) -> Option<Refused> {
        let now = self.queue(user).and_then(|queue| queue.at(locator.stamp()))?;
        self.refusals.of(now.place())
    }

    /// Whose metadata has changed: everybody's, when it was not asked for before.
    pub(super) fn changes(&mut self, cx: &Cx) -> &mut Changes {
        let users = self.waiting.keys();
        self.changes.get_or_insert_with(|| Box::new(Changes::everybody(cx, users)))
    }

    /// The list of one user.
    pub fn queue(&self, user: UserId) -> Option<&Queue> {
        self.waiting.get(&user).map(|waiting| &waiting.queue)
    }

    /// How many fingerprints are remembered.
    pub fn fingerprints(&self) -> usize {
        self.seen.len()
    }

    /// Messages written off whose tombstone is not durable yet.
    pub fn tombstones_waiting(&self) -> usize {
        self.retiring.len()
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

    /// From now on this message is for nobody any more. False when it is not there, or was so already.
    pub fn doom(&mut self, user: UserId, locator: &Locator) -> bool {
        let Some(waiting) = self.waiting.get_mut(&user) else { return false };
        let there = waiting.queue.at(locator.stamp()).is_some_and(|found| found.place() == locator.place());
        if !there || !self.retiring.insert(locator.place()) {
            return false;
        }
        let octets = self.weight(locator);
        let doomed = self.doomed.entry(user).or_default();
        (doomed.0, doomed.1) = (doomed.0 + 1, doomed.1 + octets);
        true
    }

    /// They are gone, or spared: nobody counts on them any more.
    pub(super) fn undoom(&mut self, user: UserId, messages: u32, octets: u64) {
        let Some(doomed) = self.doomed.get_mut(&user) else { return };
        (doomed.0, doomed.1) = (doomed.0.saturating_sub(messages), doomed.1.saturating_sub(octets));
        if doomed.0 == 0 {
            self.doomed.remove(&user);
        }
    }

    /// A message of a user as the list has it now, wherever it was copied to since; `None` when it is written off, or about to be.
    pub fn now(&self, user: UserId, locator: &Locator) -> Option<Locator> {
        let found = self.waiting.get(&user).and_then(|waiting| waiting.queue.at(locator.stamp()));
        found.filter(|found| !self.retiring.contains(&found.place())).copied()
    }

    /// The owner's oldest messages that make room for what came beyond the quota, where the operator wants that.
    #[must_use]
    pub fn make_room(&mut self, cx: &mut Cx, user: UserId, in_flight: impl Fn(Place) -> bool) -> Vec<Locator> {
        if cx.policy.over_quota != OverQuota::DropOldest {
            return Vec::new();
        }
        let Some(waiting) = self.waiting.get(&user) else { return Vec::new() };
        let doomed = self.doomed.get(&user).copied().unwrap_or_default();
        let mut messages = (waiting.queue.len() as u32).saturating_sub(doomed.0);
        let mut octets = self.octets_of(&waiting.queue).saturating_sub(doomed.1);
        // Of a domain that has too much, whoever gets more gives room: all but the message that came last.
        let domain = cx.directory.domains().of(&cx.directory.address(user));
        let (mut all, mut all_octets) = domain.map_or((0, 0), |domain| cx.directory.domains().usage(domain));
        (all, all_octets) = (all.saturating_sub(doomed.0.into()), all_octets.saturating_sub(doomed.1));
        let last = waiting.queue.last().map(Locator::stamp);
        let mut gone = Vec::new();
        for locator in waiting.queue.iter() {
            let over_own = messages > cx.policy.quota_messages || octets > cx.policy.quota_octets;
            let over_domain = cx.policy.is_over_domain((all, all_octets)) && Some(locator.stamp()) != last;
            if !over_own && !over_domain {
                break;
            }
            let place = locator.place();
            if self.retiring.contains(&place) || in_flight(place) {
                continue;
            }
            (messages, all) = (messages - 1, all.saturating_sub(1));
            let weight = self.weight(locator);
            octets = octets.saturating_sub(weight);
            all_octets = all_octets.saturating_sub(weight);
            gone.push(*locator);
        }
        cx.counts.dropped += gone.len() as u64;
        gone
    }

    /// Lets a user go who has nothing here and whom nobody holds.
    pub fn close_if_empty(&mut self, cx: &mut Cx, user: UserId) {
        if !self.waiting.contains_key(&user) {
            cx.directory.close(user);
        }
    }

    /// Watches a user's earliest expiry. `earliest_s` is that of what is new in the list.
    fn watch(&mut self, cx: &mut Cx, user: UserId, earliest_s: u32) {
        let Some(waiting) = self.waiting.get(&user) else { return };
        if cx.policy.expired == Expired::DeliverMarked {
            return;
        }
        // Zero means nobody; what expired in 1970 may as well have in the second after.
        let earliest_s = earliest_s.max(1);
        match waiting.expiry_s {
            0 => {}
            at if at <= earliest_s => return,
            _ => self.expiries.remove(&mut self.waiting, user),
        }
        self.expiries.insert(&mut self.waiting, user, earliest_s);
        self.wake(cx);
    }

    /// A user has nothing left that could expire.
    pub(super) fn unwatch(&mut self, user: UserId) {
        self.expiries.remove(&mut self.waiting, user);
    }

    /// Sets the alarm for the earliest expiry of all, unless it is set for that or an earlier time.
    fn wake(&mut self, cx: &mut Cx) {
        let Some(earliest_s) = self.expiries.earliest() else { return };
        match self.alarm {
            Some((_, at)) if at <= earliest_s => return,
            Some((timer, _)) => _ = cx.timers.cancel(timer),
            None => {}
        }
        let at = tick_of(cx, second(earliest_s));
        self.alarm = Some((cx.timer_at(at, Timer::Expiry), earliest_s));
    }

    /// The alarm: users whose earliest expiry has come, for [`Users::expire`]. There may be more: the alarm then comes again at once.
    pub fn due(&mut self, cx: &mut Cx) -> Vec<UserId> {
        self.alarm = None;
        let now_s = cx.now.wall.seconds();
        let mut due = Vec::new();
        while due.len() < EXPIRIES_A_TURN
            && let Some(user) = self.expiries.pop_due(&mut self.waiting, now_s)
        {
            due.push(user);
        }
        self.wake(cx);
        due
    }

    /// The earliest expiry has come: what is over and not being sent right now is to be deleted, or not pushed any more.
    ///
    //= 12.2.2.4: the expired message is deleted undelivered to the destination User (local policy)
    #[must_use]
    pub fn expire(&mut self, cx: &mut Cx, user: UserId, in_flight: impl Fn(Place) -> bool) -> Vec<Locator> {
        let Some(waiting) = self.waiting.get(&user) else { return Vec::new() };
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
            let soonest_s = u32::try_from(now_s).unwrap_or(u32::MAX).saturating_add(1);
            self.watch(cx, user, next.max(soonest_s));
        }
        if keep {
            // To be retrieved, like what was had; written down, so that a clock set back does not push it after all.
            self.retire_later(cx, WrittenOff { kept: true, ..WrittenOff::of(user, over, Reason::Expired) });
            return Vec::new();
        }
        cx.counts.expired += over.iter().filter(|locator| !locator.flags().is_had()).count() as u64;
        over
    }
}

/// What a message counts for its user: its record, and those of its parts.
pub(super) fn weight(parts: &SpreadMap<Place, Vec<Locator>>, locator: &Locator) -> u64 {
    if !locator.flags().has(Flags::LARGE) {
        return locator.octets();
    }
    let of_parts = parts.get(&locator.place()).map(|parts| extents_of(parts));
    locator.octets() + of_parts.unwrap_or_default().iter().map(|extent| extent.octets).sum::<u64>()
}

fn second(second: u32) -> Wall {
    Wall(u64::from(second) * 1_000_000)
}

/// When a wall-clock time comes, on the monotonic clock.
pub fn tick_of(cx: &Cx, at: Wall) -> Tick {
    cx.now.tick + Duration::from_micros(at.0.saturating_sub(cx.now.wall.0))
}
