//! Fingerprints seen lately: how a message deposited twice is recognised. Bounded; the oldest fall out.

use crate::base::clock::Tick;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

/// A fingerprint is the output of a keyed hash already: it is its own hash.
#[derive(Clone, Copy, Default, Debug)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(*octet);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Set = HashSet<u64, BuildHasherDefault<Itself>>;

/// A set of fingerprints in two generations. When the young one is full or old enough, it becomes the old one and the old one is
/// forgotten: what is remembered is never more than `entries`, never less than the last half of them, and where those suffice,
/// everything for at least `horizon`.
#[derive(Debug)]
pub struct Seen {
    young: Set,
    old: Set,
    half: usize,
    horizon: Duration,
    /// When the young generation began.
    since: Tick,
}

impl Seen {
    /// Room for `entries` fingerprints, about 16 octets each; forgotten only for want of room.
    pub fn new(entries: usize) -> Seen {
        Seen::with_horizon(entries, Duration::MAX)
    }

    /// Room for `entries` fingerprints, each remembered between one and two `horizon`s.
    pub fn with_horizon(entries: usize, horizon: Duration) -> Seen {
        Seen { young: Set::default(), old: Set::default(), half: (entries / 2).max(1), horizon, since: Tick(0) }
    }

    /// True when it was inserted and is still remembered. Zero is nobody's.
    pub fn check(&self, fingerprint: u64) -> bool {
        fingerprint != 0 && (self.young.contains(&fingerprint) || self.old.contains(&fingerprint))
    }

    /// Remembers it; false when it was remembered already.
    pub fn insert(&mut self, fingerprint: u64, now: Tick) -> bool {
        self.turn(now);
        if fingerprint == 0 || self.old.contains(&fingerprint) {
            return fingerprint == 0;
        }
        self.young.insert(fingerprint)
    }

    /// Forgets it: what it stood for was not stored after all.
    pub fn remove(&mut self, fingerprint: u64) {
        self.young.remove(&fingerprint);
        self.old.remove(&fingerprint);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn turn(&mut self, now: Tick) {
        if self.young.len() >= self.half || now - self.since >= self.horizon {
            // The old set's memory serves the new young one.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_fingerprints_fall_out_and_the_bound_holds() {
        let mut seen = Seen::new(100);
        for n in 1..=1_000u64 {
            assert!(seen.insert(n, Tick(0)));
            assert!(!seen.insert(n, Tick(0)));
            assert!(seen.len() <= 100);
            assert!((n.saturating_sub(49).max(1)..=n).all(|late| seen.check(late)));
        }
        assert!(!seen.check(1));
        assert!(!seen.check(0) && seen.insert(0, Tick(0)) && !seen.check(0));
        seen.remove(1_000);
        assert!(!seen.check(1_000));
    }

    #[test]
    fn the_horizon_is_kept_and_not_twice_exceeded() {
        let mut seen = Seen::with_horizon(100, Duration::from_secs(32));
        let at = |s: u64| Tick(s * 1_000_000);
        seen.insert(1, at(1));
        seen.insert(2, at(33));
        assert!(seen.check(1));
        seen.insert(3, at(66));
        assert!(!seen.check(1) && seen.check(2) && seen.check(3));
    }
}
