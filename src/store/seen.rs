//! Fingerprints seen lately: how a message deposited twice is recognised. Bounded in number and in time; the oldest are forgotten
//! first, one by one.

use crate::base::clock::Tick;
use std::collections::VecDeque;
use std::time::Duration;

/// Times are kept for this share of the horizon together: an entry for each would double the memory.
const GRAINS: u32 = 64;

/// The last `entries` fingerprints of the last `horizon`.
///
/// A ring in the order of insertion, and a table that finds a fingerprint's place in it: open addressing, at most three quarters full.
/// 8 octets in the ring and between 5 and 11 in the table each.
#[derive(Debug)]
pub struct Seen {
    /// Oldest first; zero for one that was removed.
    ring: VecDeque<u64>,
    /// Number of the ring's first; numbers rise by one and go round.
    first: u32,
    /// Number of a fingerprint in the ring, plus one; 0: free. As many as a power of two.
    table: Vec<u32>,
    /// How many are in the table.
    count: usize,
    /// When a stretch of the ring began, and how many it has.
    times: VecDeque<(Tick, u32)>,
    entries: usize,
    /// Fingerprints that come within this stand under one time, in microseconds.
    grain_us: u64,
    /// What is older is forgotten: the horizon, and a grain.
    most_us: u64,
}

impl Seen {
    /// Room for `entries` fingerprints; forgotten only for want of room.
    pub fn new(entries: usize) -> Seen {
        Seen::with_horizon(entries, Duration::MAX)
    }

    /// Room for `entries` fingerprints, each remembered for `horizon` and at most a 64th of it longer.
    pub fn with_horizon(entries: usize, horizon: Duration) -> Seen {
        // Half of what a number can tell apart.
        let entries = entries.clamp(1, 1 << 30);
        let (ring, table, times) = (VecDeque::new(), vec![0; 16], VecDeque::new());
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let grain = horizon / GRAINS;
        let (grain_us, most_us) = (us(grain), us(horizon.saturating_add(grain)));
        Seen { ring, first: 0, table, count: 0, times, entries, grain_us, most_us }
    }

    /// True when it was inserted and is still remembered. Zero is nobody's.
    pub fn check(&self, fingerprint: u64) -> bool {
        fingerprint != 0 && self.find(fingerprint).is_some()
    }

    /// Remembers it; false when it was remembered already.
    pub fn insert(&mut self, fingerprint: u64, now: Tick) -> bool {
        self.forget(now);
        if fingerprint == 0 {
            return true;
        }
        if self.find(fingerprint).is_some() {
            return false;
        }
        if self.ring.len() >= self.entries {
            self.pop(1);
        }
        if (self.count + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let mut number = self.first.wrapping_add(self.ring.len() as u32);
        if number == u32::MAX {
            // Its number plus one would mean: free.
            self.push(0, now);
            number = 0;
        }
        self.push(fingerprint, now);
        self.enter(fingerprint, number);
        self.count += 1;
        true
    }

    /// Forgets it: what it stood for was not stored after all.
    pub fn remove(&mut self, fingerprint: u64) {
        let Some(slot) = self.find(fingerprint).filter(|_| fingerprint != 0) else { return };
        let at = self.table[slot].wrapping_sub(1).wrapping_sub(self.first) as usize;
        self.leave(slot);
        if let Some(place) = self.ring.get_mut(at) {
            *place = 0;
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets what is older than the horizon.
    fn forget(&mut self, now: Tick) {
        while let Some(&(since, count)) = self.times.front()
            && now.since_us(since) >= self.most_us
        {
            self.pop(count);
        }
    }

    fn push(&mut self, fingerprint: u64, now: Tick) {
        let grain_us = self.grain_us;
        match self.times.back_mut().filter(|(since, count)| now.since_us(*since) < grain_us && *count < u32::MAX) {
            Some((_, count)) => *count += 1,
            None => self.times.push_back((now, 1)),
        }
        self.ring.push_back(fingerprint);
    }

    /// Forgets the oldest; all of one stretch of time.
    fn pop(&mut self, count: u32) {
        for _ in 0..count {
            let Some(fingerprint) = self.ring.front().copied() else { break };
            if fingerprint != 0
                && let Some(slot) = self.find(fingerprint)
            {
                self.leave(slot);
            }
            self.ring.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        if let Some((_, left)) = self.times.front_mut() {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.times.pop_front();
            }
        }
    }

    /// A fingerprint is the output of a keyed hash already: it is its own hash.
    fn home(&self, fingerprint: u64) -> usize {
        fingerprint as usize & (self.table.len() - 1)
    }

    fn at(&self, slot: usize) -> u64 {
        let number = self.table[slot].wrapping_sub(1);
        self.ring.get(number.wrapping_sub(self.first) as usize).copied().unwrap_or_default()
    }

    fn next(&self, slot: usize) -> usize {
        (slot + 1) & (self.table.len() - 1)
    }

    fn find(&self, fingerprint: u64) -> Option<usize> {
        let mut slot = self.home(fingerprint);
        while self.table[slot] != 0 {
            if self.at(slot) == fingerprint {
                return Some(slot);
            }
            slot = self.next(slot);
        }
        None
    }

    fn enter(&mut self, fingerprint: u64, number: u32) {
        let mut slot = self.home(fingerprint);
        while self.table[slot] != 0 {
            slot = self.next(slot);
        }
        self.table[slot] = number.wrapping_add(1);
    }

    /// Empties a slot, and moves up what stands behind it because it was taken.
    fn leave(&mut self, mut free: usize) {
        self.count -= 1;
        let mut slot = self.next(free);
        while self.table[slot] != 0 {
            let home = self.home(self.at(slot));
            // It may stand at the free place unless its home lies behind that, on the way round.
            let mask = self.table.len() - 1;
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(free) & mask {
                self.table[free] = self.table[slot];
                free = slot;
            }
            slot = self.next(slot);
        }
        self.table[free] = 0;
    }

    fn grow(&mut self) {
        self.table = vec![0; self.table.len() * 2];
        for at in 0..self.ring.len() {
            let fingerprint = self.ring[at];
            if fingerprint != 0 {
                self.enter(fingerprint, self.first.wrapping_add(at as u32));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_fall_out_one_by_one_and_the_bound_holds() {
        let mut seen = Seen::new(100);
        for n in 1..=1_000u64 {
            assert!(seen.insert(n, Tick(0)));
            assert!(!seen.insert(n, Tick(0)));
            assert!(seen.len() <= 100);
            assert!((n.saturating_sub(99).max(1)..=n).all(|late| seen.check(late)));
            assert!(!seen.check(n.saturating_sub(100)));
        }
        assert!(!seen.check(0) && seen.insert(0, Tick(0)) && !seen.check(0));
        seen.remove(1_000);
        assert!(!seen.check(1_000));
    }

    #[test]
    fn the_horizon_is_kept_and_hardly_exceeded() {
        let mut seen = Seen::with_horizon(100, Duration::from_secs(32));
        let at = |s: u64| Tick(s * 1_000_000);
        seen.insert(1, at(1));
        seen.insert(2, at(32));
        seen.insert(3, at(33));
        assert!(seen.check(1));
        seen.insert(4, at(34));
        assert!(!seen.check(1) && seen.check(2));
        seen.insert(5, at(66));
        assert!(!seen.check(2) && !seen.check(3) && seen.check(4), "{seen:?}");
    }

    #[test]
    fn numbers_go_round() {
        let mut seen = Seen::new(10);
        seen.first = u32::MAX - 25;
        for n in 1..=100u64 {
            assert!(seen.insert(n, Tick(n)) && !seen.insert(n, Tick(n)));
            assert!((n.saturating_sub(8).max(1)..=n).all(|late| seen.check(late)), "{n}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list(steps in proptest::collection::vec((0u64..60, 0u8..4, 0u64..9), 1..400)) {
            let (mut seen, mut list, mut now) = (Seen::with_horizon(20, Duration::from_micros(640)), VecDeque::new(), 0u64);
            for (n, what, later) in steps {
                now += later;
                // Many that meet in the table.
                let fingerprint = (n << 40) | (n % 3);
                if what == 0 {
                    seen.remove(fingerprint);
                    list.iter_mut().filter(|(other, _)| *other == fingerprint).for_each(|entry| entry.0 = 0);
                } else if fingerprint != 0 {
                    let known = list.iter().any(|(other, at)| *other == fingerprint && now - at < 640);
                    let new = seen.insert(fingerprint, Tick(now));
                    prop_assert!(!new || !known, "remembered for the horizon");
                    if new {
                        list.retain(|(other, _)| *other != fingerprint);
                        list.push_back((fingerprint, now));
                        if list.len() > 20 {
                            list.pop_front();
                        }
                    }
                }
                // A removed one keeps its place in the ring, so those before it may go a little earlier for want of room.
                prop_assert!(seen.len() <= 20);
                prop_assert!(list.back().is_none_or(|(last, at)| *last == 0 || now - at >= 640 || seen.check(*last)));
            }
        }
    }
}
