//! Many timers, each set and usually cancelled: a hierarchical wheel.
//!
//! Six levels of 64 slots; a slot of level 0 is one millisecond, a slot of level n is 64 times one of level n-1, so the
//! wheel spans 2^36 ms, more than two years. Setting and cancelling touch one slot; an occupancy word per level says
//! where the next deadline is without looking at empty slots. The order of timers due in the same millisecond is the order in
//! which they were set: runs are repeatable.

use super::arena::{Arena, Key};
use super::clock::Tick;

const LEVELS: usize = 6;
const SLOTS: usize = 64;
/// Microseconds of a slot of level 0.
const GRAIN_US: u64 = 1_000;

/// A set timer. Stale once it fired or was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerKey(Key);

#[derive(Debug)]
struct Entry<K> {
    /// In grains, rounded up: a timer never fires early.
    due: u64,
    order: u64,
    key: K,
    level: u8,
    slot: u8,
    /// Position inside the slot's list.
    place: u32,
}

/// A wheel of timers that carry a `K` each.
#[derive(Debug)]
pub struct Timers<K> {
    entries: Arena<Entry<K>>,
    slots: Vec<Vec<Key>>,
    occupied: [u64; LEVELS],
    /// The wheel has been turned up to here, in grains.
    turned: u64,
    /// Due, in order, not yet handed out.
    ready: std::collections::VecDeque<Key>,
    order: u64,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers::new()
    }
}

const READY: u8 = u8::MAX;

impl<K> Timers<K> {
    /// A wheel at tick 0.
    pub fn new() -> Timers<K> {
        Timers {
            entries: Arena::new(),
            slots: (0..LEVELS * SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; LEVELS],
            turned: 0,
            ready: std::collections::VecDeque::new(),
            order: 0,
        }
    }

    /// Sets a timer for `at`. One in the past fires at the next turn.
    pub fn set(&mut self, at: Tick, key: K) -> TimerKey {
        self.order += 1;
        let due = at.0.div_ceil(GRAIN_US);
        let entry = Entry { due, order: self.order, key, level: 0, slot: 0, place: 0 };
        let id = self.entries.insert(entry);
        self.file(id);
        TimerKey(id)
    }

    /// Takes a timer back; `None` when it has fired already.
    pub fn cancel(&mut self, timer: TimerKey) -> Option<K> {
        let entry = self.entries.get(timer.0)?;
        let (level, slot, place) = (entry.level, entry.slot, entry.place as usize);
        if level != READY {
            let index = usize::from(level) * SLOTS + usize::from(slot);
            let list = &mut self.slots[index];
            list.swap_remove(place);
            if let Some(&moved) = list.get(place)
                && let Some(entry) = self.entries.get_mut(moved)
            {
                entry.place = place as u32;
            }
            if self.slots[index].is_empty() {
                self.occupied[usize::from(level)] &= !(1 << slot);
            }
        }
        self.entries.remove(timer.0).map(|entry| entry.key)
    }

    /// The next timer that is due at `now`, if any. Call until `None`.
    pub fn expire(&mut self, now: Tick) -> Option<K> {
        loop {
            while let Some(id) = self.ready.pop_front() {
                if let Some(entry) = self.entries.remove(id) {
                    return Some(entry.key);
                }
            }
            let until = now.0 / GRAIN_US;
            let next = self.next_slot_start()?;
            if next > until {
                // Nothing between: the wheel may stand still, its hands are relative to `turned`.
                return None;
            }
            self.turn_to(next);
        }
    }

    /// When `expire` has work again; never early by more than a slot of a higher level.
    pub fn deadline(&self) -> Option<Tick> {
        if !self.ready.is_empty() {
            return Some(Tick(0));
        }
        self.next_slot_start().map(|grains| Tick(grains.saturating_mul(GRAIN_US)))
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Files an entry under the level at which its due time first differs from the wheel's.
    fn file(&mut self, id: Key) {
        let turned = self.turned;
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.due <= turned {
            entry.level = READY;
            self.ready.push_back(id);
            return;
        }
        let span = (1u64 << (6 * LEVELS)) - 1;
        // A timer beyond the wheel waits in its last slot and is filed again when that comes round.
        let due = if entry.due - turned > span { turned + span } else { entry.due };
        let differs = 63 - (due ^ turned).leading_zeros() as usize;
        let level = (differs / 6).min(LEVELS - 1);
        let slot = (due >> (6 * level)) as usize % SLOTS;
        let list = &mut self.slots[level * SLOTS + slot];
        entry.level = level as u8;
        entry.slot = slot as u8;
        entry.place = list.len() as u32;
        list.push(id);
        self.occupied[level] |= 1 << slot;
    }

    /// Start, in grains, of the earliest occupied slot.
    fn next_slot_start(&self) -> Option<u64> {
        // A lower level always lies before the current slot of a higher one ends, so the first occupied level wins.
        (0..LEVELS).find_map(|level| {
            let occupied = self.occupied[level];
            if occupied == 0 {
                return None;
            }
            let hand = (self.turned >> (6 * level)) as u32 % SLOTS as u32;
            let ahead = occupied.rotate_right(hand).trailing_zeros();
            // The top level wraps round; below it a slot behind the hand cannot be occupied.
            let turns = (self.turned >> (6 * level)) + u64::from(ahead);
            Some(turns << (6 * level))
        })
    }

    /// Turns the wheel to the start of an occupied slot and empties it: due entries become ready, others move down.
    fn turn_to(&mut self, grains: u64) {
        self.turned = self.turned.max(grains);
        let mut due = Vec::new();
        for level in 0..LEVELS {
            let slot = (self.turned >> (6 * level)) as usize % SLOTS;
            if self.occupied[level] & (1 << slot) != 0 {
                self.occupied[level] &= !(1 << slot);
                due.append(&mut self.slots[level * SLOTS + slot]);
            }
        }
        due.sort_unstable_by_key(|&id| self.entries.get(id).map_or(0, |entry| entry.order));
        for id in due {
            self.file(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Tick {
        Tick(ms * 1_000)
    }

    #[test]
    fn timers_fire_in_order_and_never_early() {
        let mut timers = Timers::new();
        timers.set(ms(500), 'b');
        timers.set(ms(3), 'a');
        let gone = timers.set(ms(400), 'x');
        timers.set(ms(70_000), 'c');
        assert_eq!(timers.cancel(gone), Some('x'));
        assert_eq!(timers.cancel(gone), None);
        assert_eq!(timers.expire(ms(2)), None);
        assert_eq!(timers.expire(ms(600)), Some('a'));
        assert_eq!(timers.expire(ms(600)), Some('b'));
        assert_eq!(timers.expire(ms(69_999)), None);
        assert_eq!(timers.expire(ms(70_000)), Some('c'));
        assert!(timers.is_empty());
        assert_eq!(timers.deadline(), None);
    }

    #[test]
    fn a_timer_set_for_the_past_fires_at_the_next_turn() {
        let mut timers = Timers::new();
        timers.set(ms(10), 1);
        assert_eq!(timers.expire(ms(20)), Some(1));
        timers.set(ms(5), 2);
        assert!(timers.deadline().is_some_and(|at| at <= ms(20)));
        assert_eq!(timers.expire(ms(20)), Some(2));
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_list(
            steps in proptest::collection::vec((0u64..300_000_000, 0u64..5_000_000, any::<bool>()), 1..200)
        ) {
            let mut wheel = Timers::new();
            let mut list: Vec<(u64, usize, TimerKey)> = Vec::new();
            let mut now = 0u64;
            for (n, (ahead, pass, cancel)) in steps.into_iter().enumerate() {
                let due = now + ahead;
                let key = wheel.set(ms(due), n);
                list.push((due, n, key));
                if cancel && n % 3 == 0 {
                    let (_, id, key) = list.swap_remove(n % list.len());
                    prop_assert_eq!(wheel.cancel(key), Some(id));
                }
                now += pass;
                if let (Some(at), Some(&(due, ..))) = (wheel.deadline(), list.iter().min_by_key(|e| e.0)) {
                    prop_assert!(at <= ms(due));
                }
                let mut fired = Vec::new();
                while let Some(id) = wheel.expire(ms(now)) {
                    fired.push(id);
                }
                let mut expected: Vec<(u64, usize)> =
                    list.iter().filter(|e| e.0 <= now).map(|e| (e.0, e.1)).collect();
                list.retain(|e| e.0 > now);
                expected.sort_unstable();
                let expected: Vec<usize> = expected.into_iter().map(|e| e.1).collect();
                prop_assert_eq!(fired, expected);
            }
        }
    }
}
