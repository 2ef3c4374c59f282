//! Fingerprints seen lately: how a message deposited twice is recognised. Bounded in number and in time; the oldest are forgotten
//! first.
//!
//! ```text
//!   fingerprint ──▶ piece ──▶ table: taken │ its lowest 18 bits │ number ──▶ ring: the fingerprint, in the order of insertion
//! ```
//! In pieces for the reason of [`crate::base::split`]: one table of a million stands still for ten milliseconds when it grows, and for as
//! long when what has come within one grain of time is forgotten together.

use crate::base::clock::Tick;
use crate::base::prefetch::prefetch_value;
use std::collections::VecDeque;
use std::time::Duration;

/// Times are kept for this share of the horizon together: an entry for each would double the memory.
const GRAINS: u32 = 64;

/// Fingerprints of a piece at most, and half as many at least where there is more than one: they move together when its table grows, in some
/// 30 us.
const PIECE: usize = 1 << 12;

/// Bits of a slot that number a fingerprint: twice as many as a ring has, so that the numbers of its ends never meet.
const NUMBER_BITS: u32 = 13;
const NUMBERS: u32 = 1 << NUMBER_BITS;

/// The bit of a slot that is not free.
const TAKEN: u32 = 1 << 31;

/// Bits of the fingerprint that a slot has: those that chose it, and five more at least. One in 32 of the others at the same place is
/// looked at in the ring for nothing.
const TAG: u32 = (TAKEN - 1) >> NUMBER_BITS;

/// The last `entries` fingerprints of the last `horizon`.
///
/// By their hash in pieces, and each piece keeps its share: with more than 4,096 the first may be forgotten some percent sooner, because more
/// than an equal part of what came was the piece's. What is older than the horizon is not known any more; its room is had back when something
/// new comes into its piece.
///
/// 8 octets in the ring and between 5 and 11 in the table each, and of each piece a kilobyte of times at most.
#[derive(Debug)]
pub struct Seen {
    /// As many as a power of two.
    pieces: Box<[Piece]>,
    /// How many are remembered.
    count: usize,
    bounds: Bounds,
}

/// The same for all pieces.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Of one piece.
    entries: usize,
    /// Fingerprints that come within this stand under one time, in microseconds.
    grain_us: u64,
    /// What is older is forgotten: the horizon, and a grain.
    most_us: u64,
}

/// A ring in the order of insertion, and a table that finds a fingerprint's place in it: open addressing, at most three quarters full.
#[derive(Debug, Default)]
struct Piece {
    /// Oldest first; zero for one that was removed.
    ring: VecDeque<u64>,
    /// Number of the ring's first; numbers rise by one and go round at [`NUMBERS`].
    first: u32,
    /// [`TAKEN`], [`TAG`] and number, or 0: free. As many as a power of two, or none.
    table: Vec<u32>,
    /// How many are in the table.
    count: usize,
    /// When a stretch of the ring began, and how many it has.
    times: VecDeque<(Tick, u32)>,
}

impl Seen {
    /// Room for `entries` fingerprints; forgotten only for want of room.
    pub fn new(entries: usize) -> Seen {
        Seen::with_horizon(entries, Duration::MAX)
    }

    /// Room for `entries` fingerprints, each remembered for `horizon` at least.
    pub fn with_horizon(entries: usize, horizon: Duration) -> Seen {
        // 16 GB of them.
        let entries = entries.clamp(1, 1 << 30);
        let pieces = entries.div_ceil(PIECE).next_power_of_two();
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let grain = horizon / GRAINS;
        let (grain_us, most_us) = (us(grain), us(horizon.saturating_add(grain)));
        let bounds = Bounds { entries: entries / pieces, grain_us, most_us };
        let pieces = std::iter::repeat_with(Piece::default).take(pieces).collect();
        Seen { pieces, count: 0, bounds }
    }

    /// A fingerprint is the output of a keyed hash already: it is its own hash. The lowest bits are the tables'.
    fn piece_of(&self, fingerprint: u64) -> usize {
        (fingerprint >> 32) as usize & (self.pieces.len() - 1)
    }

    /// Says that this fingerprint will be asked for soon: its place in the table comes from memory meanwhile.
    #[inline]
    pub fn foresee(&self, fingerprint: u64) {
        self.pieces[self.piece_of(fingerprint)].foresee(fingerprint);
    }

    /// Says that it will be inserted soon: the ring's end comes, too, and the place in the table of the one that makes room.
    pub fn foresee_insertion(&self, fingerprint: u64) {
        let piece = &self.pieces[self.piece_of(fingerprint)];
        piece.foresee(fingerprint);
        piece.ring.back().into_iter().for_each(prefetch_value);
        if piece.ring.len() >= self.bounds.entries
            && let Some(&oldest) = piece.ring.front()
        {
            piece.foresee(oldest);
        }
    }

    /// True when it was inserted and is still remembered. Zero is nobody's.
    pub fn check(&self, fingerprint: u64, now: Tick) -> bool {
        let piece = &self.pieces[self.piece_of(fingerprint)];
        let slot = piece.find(fingerprint).filter(|_| fingerprint != 0);
        slot.is_some_and(|slot| now.since_us(piece.since(piece.place(slot))) < self.bounds.most_us)
    }

    /// Remembers it; false when it was remembered already.
    pub fn insert(&mut self, fingerprint: u64, now: Tick) -> bool {
        if fingerprint == 0 {
            return true;
        }
        let at = self.piece_of(fingerprint);
        let piece = &mut self.pieces[at];
        let before = piece.count;
        let is_new = piece.insert(fingerprint, now, &self.bounds);
        self.count = self.count - before + piece.count;
        is_new
    }

    /// Forgets it: what it stood for was not stored after all.
    pub fn remove(&mut self, fingerprint: u64) {
        let at = self.piece_of(fingerprint);
        if fingerprint != 0 && self.pieces[at].remove(fingerprint) {
            self.count -= 1;
        }
    }

    /// How many have a place, those among them whose time is over and whose room nobody has needed yet.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Piece {
    fn foresee(&self, fingerprint: u64) {
        if let Some(slot) = self.table.get(fingerprint as usize & self.table.len().wrapping_sub(1)) {
            prefetch_value(slot);
        }
    }

    fn insert(&mut self, fingerprint: u64, now: Tick, bounds: &Bounds) -> bool {
        while let Some(&(since, count)) = self.times.front()
            && now.since_us(since) >= bounds.most_us
        {
            self.pop(count);
        }
        if self.find(fingerprint).is_some() {
            return false;
        }
        if self.ring.len() >= bounds.entries {
            self.pop(1);
        }
        if (self.count + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let number = self.first.wrapping_add(self.ring.len() as u32);
        match self.times.back_mut().filter(|(since, _)| now.since_us(*since) < bounds.grain_us) {
            Some((_, count)) => *count += 1,
            None => self.times.push_back((now, 1)),
        }
        self.ring.push_back(fingerprint);
        self.enter(fingerprint, number);
        self.count += 1;
        true
    }

    fn remove(&mut self, fingerprint: u64) -> bool {
        let Some(slot) = self.find(fingerprint) else { return false };
        let at = self.place(slot);
        self.leave(slot);
        if let Some(place) = self.ring.get_mut(at) {
            *place = 0;
        }
        true
    }

    /// Forgets the oldest, which are of one stretch of time.
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

    /// When the stretch of time began in which this place of the ring was taken.
    fn since(&self, place: usize) -> Tick {
        let mut end = 0;
        let is_behind = |&&(_, count): &&(Tick, u32)| {
            end += count as usize;
            place < end
        };
        self.times.iter().find(is_behind).map_or(Tick(0), |&(since, _)| since)
    }

    /// Where in the table whatever has these bits belongs.
    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.table.len() - 1)
    }

    /// Where in the ring the fingerprint of a slot stands.
    fn place(&self, slot: usize) -> usize {
        (self.table[slot].wrapping_sub(self.first) & (NUMBERS - 1)) as usize
    }

    fn next(&self, slot: usize) -> usize {
        (slot + 1) & (self.table.len() - 1)
    }

    fn find(&self, fingerprint: u64) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let tag = fingerprint as u32 & TAG;
        let mut slot = self.home(tag);
        while self.table[slot] != 0 {
            if tag_of(self.table[slot]) == tag && self.ring.get(self.place(slot)) == Some(&fingerprint) {
                return Some(slot);
            }
            slot = self.next(slot);
        }
        None
    }

    fn enter(&mut self, fingerprint: u64, number: u32) {
        let tag = fingerprint as u32 & TAG;
        let mut slot = self.home(tag);
        while self.table[slot] != 0 {
            slot = self.next(slot);
        }
        self.table[slot] = TAKEN | tag << NUMBER_BITS | number & (NUMBERS - 1);
    }

    /// Empties a slot, and moves up what stands behind it because it was taken.
    fn leave(&mut self, mut free: usize) {
        self.count -= 1;
        let mut slot = self.next(free);
        while self.table[slot] != 0 {
            let home = self.home(tag_of(self.table[slot]));
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
        self.table = vec![0; (self.table.len() * 2).max(16)];
        for at in 0..self.ring.len() {
            let fingerprint = self.ring[at];
            if fingerprint != 0 {
                self.enter(fingerprint, self.first.wrapping_add(at as u32));
            }
        }
    }
}

fn tag_of(word: u32) -> u32 {
    word >> NUMBER_BITS & TAG
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
            assert!((n.saturating_sub(99).max(1)..=n).all(|late| seen.check(late, Tick(0))));
            assert!(!seen.check(n.saturating_sub(100), Tick(0)));
        }
        assert!(!seen.check(0, Tick(0)) && seen.insert(0, Tick(0)) && !seen.check(0, Tick(0)));
        seen.remove(1_000);
        assert!(!seen.check(1_000, Tick(0)));
    }

    #[test]
    fn the_horizon_is_kept_and_hardly_exceeded() {
        let mut seen = Seen::with_horizon(100, Duration::from_secs(32));
        let at = |s: u64| Tick(s * 1_000_000);
        seen.insert(1, at(1));
        seen.insert(2, at(32));
        seen.insert(3, at(33));
        assert!(seen.check(1, at(33)) && !seen.check(1, at(34)), "whether or not anything comes");
        seen.insert(4, at(34));
        assert!(!seen.check(1, at(34)) && seen.check(2, at(34)));
        seen.insert(5, at(66));
        assert!(!seen.check(2, at(66)) && !seen.check(3, at(66)) && seen.check(4, at(66)), "{seen:?}");
        assert_eq!(seen.len(), 2);
    }

    /// Nothing new comes into most pieces, and nothing in them is known for longer than it is to be.
    #[test]
    fn the_horizon_is_kept_in_pieces_that_nothing_comes_into() {
        let mut seen = Seen::with_horizon(1 << 20, Duration::from_secs(32));
        let at = |s: u64| Tick(s * 1_000_000);
        let known = |seen: &Seen, s: u64| (0..1_000).filter(|&n| seen.check(spread(n), at(s))).count();
        assert!((0..1_000).all(|n| seen.insert(spread(n), at(1 + n / 500))));
        assert_eq!((known(&seen, 2), known(&seen, 33), known(&seen, 34), known(&seen, 35)), (1_000, 1_000, 500, 0));
        assert!((0..1_000).all(|n| seen.insert(spread(n), at(35))), "new once more");
        assert_eq!((known(&seen, 35), seen.len()), (1_000, 1_000), "and their room was had back");
    }

    #[test]
    fn numbers_go_round() {
        let mut seen = Seen::new(10);
        seen.pieces[0].first = u32::MAX - 25;
        for n in 1..=100u64 {
            assert!(seen.insert(n, Tick(n)) && !seen.insert(n, Tick(n)));
            assert!((n.saturating_sub(8).max(1)..=n).all(|late| seen.check(late, Tick(n))), "{n}");
        }
    }

    /// As the keyed hash would have them.
    fn spread(n: u64) -> u64 {
        (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
    }

    #[test]
    fn many_are_kept_in_pieces_and_hardly_fewer_for_it() {
        let entries = 100_000;
        let (mut seen, now) = (Seen::new(entries), Tick(1_000_000));
        assert_eq!(seen.pieces.len(), 32);
        for n in 0..1_000_000 {
            assert!(seen.insert(spread(n), Tick(n)) && !seen.insert(spread(n), Tick(n)));
            assert!(n < 10 || seen.check(spread(n - 10), Tick(n)));
        }
        let kept = (0..1_000_000u64).filter(|&n| seen.check(spread(n), now)).count();
        assert_eq!(kept, seen.len());
        assert!((entries - 32..=entries).contains(&kept), "{kept}");
        // The pieces' shares differ by chance.
        assert!((1_000_000 - 92_000..1_000_000u64).all(|n| seen.check(spread(n), now)));
        assert!((0..1_000_000 - 108_000u64).all(|n| !seen.check(spread(n), now)));
        assert!(seen.pieces.iter().all(|piece| piece.ring.len() <= PIECE && piece.table.len() <= 2 * PIECE));
        for n in 900_000..1_000_000 {
            seen.remove(spread(n));
        }
        assert!(seen.len() < 5_000 && !seen.check(spread(999_999), now));
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
                prop_assert!(list.back().is_none_or(|(last, at)| *last == 0 || now - at >= 640 || seen.check(*last, Tick(now))));
            }
        }
    }
}
