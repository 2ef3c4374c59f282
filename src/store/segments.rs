//! Which segment belongs to which log, and the next number. Shared by all cores; nobody asks it twice about the same segment.

use super::disk::SegmentNo;
use crate::base::net::CoreId;
use siphasher::sip::SipHasher13;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// What is to be known of a segment before it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Whose log it is in.
    pub log: CoreId,
    /// What its checksums begin with.
    pub salt: u32,
}

/// All segments of the data directory.
///
/// A lock is taken once per segment and core (64 MiB of log): the callers keep what they were told.
#[derive(Debug)]
pub struct Segments {
    known: RwLock<HashMap<SegmentNo, Segment>>,
    next: AtomicU64,
    reserved_to: AtomicU64,
    key: [u8; 16],
}

impl Segments {
    /// `next`: the lowest number never used; below `reserved_to` the manifest allows. `key`: the manifest's.
    pub fn new(next: u32, reserved_to: u32, key: [u8; 16]) -> Segments {
        Segments {
            known: RwLock::default(),
            next: AtomicU64::new(u64::from(next)),
            reserved_to: AtomicU64::new(u64::from(reserved_to)),
            key,
        }
    }

    /// A number never used before; `None` when the reservation is used up (see [`Segments::is_low`]).
    pub fn fresh(&self) -> Option<SegmentNo> {
        let allowed = self.reserved_to.load(Ordering::Acquire);
        let next =
            self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| (next < allowed).then_some(next + 1));
        next.ok().map(|number| SegmentNo(number as u32))
    }

    /// True when the manifest should be written with a higher `reserved_to`.
    pub fn is_low(&self) -> bool {
        let left = self.reserved_to.load(Ordering::Relaxed).saturating_sub(self.next.load(Ordering::Relaxed));
        left < u64::from(super::manifest::RESERVATION / 4)
    }

    /// The manifest has been written with this `reserved_to`, and is durable.
    pub fn extend(&self, reserved_to: u32) {
        self.reserved_to.fetch_max(u64::from(reserved_to), Ordering::Release);
    }

    /// The lowest number not given out.
    pub fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed).min(u64::from(u32::MAX)) as u32
    }

    /// The salt of a new segment: secret, so that nobody can send a body that looks like a group or a record.
    pub fn salt(&self, segment: SegmentNo) -> u32 {
        salt_of(&self.key, segment)
    }

    /// Makes a segment known.
    pub fn insert(&self, number: SegmentNo, segment: Segment) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(number, segment);
    }

    /// Forgets a segment: its file is gone.
    pub fn remove(&self, number: SegmentNo) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// What is known of a segment.
    pub fn find(&self, number: SegmentNo) -> Option<Segment> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&number).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

pub(super) fn salt_of(key: &[u8; 16], segment: SegmentNo) -> u32 {
    let mut name = *b"segment\0\0\0\0\0";
    name[8..].copy_from_slice(&segment.0.to_le_bytes());
    SipHasher13::new_with_key(key).hash(&name) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_with_the_reservation_and_go_on_after_it_was_extended() {
        let segments = Segments::new(10, 12, [0; 16]);
        assert_eq!(
            (segments.fresh(), segments.fresh(), segments.fresh()),
            (Some(SegmentNo(10)), Some(SegmentNo(11)), None)
        );
        assert!(segments.is_low());
        segments.extend(10_000);
        assert_eq!(segments.fresh(), Some(SegmentNo(12)));
        assert!(!segments.is_low());
    }
}
