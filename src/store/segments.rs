//! Which segments there are, whose they are, and how much of each is still alive. Shared by all cores; nobody asks it twice about
//! the same segment.
//!
//! ```text
//!   written ──left by its log, all durable──▶ sealed ──little of it alive──▶ wanted ──nothing alive──▶ removed or recycled
//!                                                ├─────next to nothing─────▶ skimmed ─nothing alive──────▲
//!                                                └───────────nothing alive──────────────────────────────▲
//! ```
//! *Live* are the octets of records that somebody still needs. The log that writes a record adds it when its group is durable,
//! before anybody is told; the home of its user takes it off when the tombstone is durable. So the count never falls early, and a
//! sealed segment whose count is zero is needed by nobody, for good.

use super::disk::SegmentNo;
use crate::base::net::CoreId;
use siphasher::sip::SipHasher13;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What is to be known of a segment before it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Whose log it is in.
    pub log: CoreId,
    /// What its checksums begin with.
    pub salt: u32,
    /// Octets of its file.
    pub octets: u64,
}

/// A segment as all cores share it.
#[derive(Debug)]
pub struct SegmentState {
    /// What never changes.
    pub segment: Segment,
    live: AtomicU64,
    sealed: AtomicBool,
    wanted: AtomicBool,
    skimmed: AtomicBool,
}

impl SegmentState {
    /// Octets of records that somebody needs.
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// Records became durable here. For the log's owner.
    pub fn add_live(&self, octets: u64) {
        self.live.fetch_add(octets, Ordering::AcqRel);
    }

    /// Nobody needs these any more: their tombstone is durable, or a durable copy has taken their place and theirs is.
    pub fn sub_live(&self, octets: u64) {
        let less = |live: u64| Some(live.saturating_sub(octets));
        let before = self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        debug_assert!(before.is_ok_and(|before| before >= octets), "a record dies once: {octets} of {before:?}");
    }

    /// Nothing is written into it any more.
    pub fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// True when nothing is written into it any more.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// True when what is alive in it is to be copied forward.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// True when what is easily found of it is to be copied forward, or was.
    pub fn is_skimmed(&self) -> bool {
        self.skimmed.load(Ordering::Acquire)
    }

    /// True when nobody needs anything of it, and nobody ever will.
    pub fn is_spent(&self) -> bool {
        // In this order: what is sealed takes nothing in, so a zero seen afterwards is final.
        self.is_sealed() && self.live() == 0
    }
}

/// All segments of the data directory.
///
/// A lock is taken once per segment and core (64 MiB of log): the callers keep what they were told.
#[derive(Debug)]
pub struct Segments {
    known: RwLock<BTreeMap<SegmentNo, Arc<SegmentState>>>,
    /// Grows with every new set of wanted segments.
    generation: AtomicU64,
    /// How many were removed.
    gone: AtomicU64,
    next: AtomicU64,
    reserved_to: AtomicU64,
    key: [u8; 16],
    hold: AtomicU8,
    /// Logs that the disk has no room for.
    short: AtomicU32,
}

/// Nobody copies the files.
const FREE: u8 = 0;
/// Somebody does: none of them goes.
const HELD: u8 = 1;
/// Somebody does, and one of them had to go.
const BROKEN: u8 = 2;

impl Segments {
    /// `next`: the lowest number never used; below `reserved_to` the manifest allows. `key`: the manifest's.
    pub fn new(next: u32, reserved_to: u32, key: [u8; 16]) -> Segments {
        Segments {
            known: RwLock::default(),
            generation: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            next: AtomicU64::new(u64::from(next)),
            reserved_to: AtomicU64::new(u64::from(reserved_to)),
            key,
            hold: AtomicU8::new(FREE),
            short: AtomicU32::new(0),
        }
    }

    /// One log more has no room on the disk, or one less.
    pub fn set_short(&self, more: bool) {
        match more {
            true => self.short.fetch_add(1, Ordering::AcqRel),
            false => self.short.fetch_sub(1, Ordering::AcqRel),
        };
    }

    /// True while some log has no room: what another keeps for later is wanted now.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire) > 0
    }

    /// From now on no segment is removed or used again: somebody copies the files. Those that are on their way out may still go
    /// ([`Reclaim::is_going`](super::reclaim::Reclaim::is_going)).
    pub fn hold(&self) {
        self.hold.store(HELD, Ordering::Release);
    }

    /// Ends a hold. False when there is none, or it was broken.
    pub fn let_go(&self) -> bool {
        self.hold.swap(FREE, Ordering::AcqRel) == HELD
    }

    /// True while no segment may go.
    pub fn is_held(&self) -> bool {
        self.hold.load(Ordering::Acquire) == HELD
    }

    /// Room is needed more urgently than a copy of the files.
    pub fn break_hold(&self) {
        let _ = self.hold.compare_exchange(HELD, BROKEN, Ordering::AcqRel, Ordering::Relaxed);
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

    /// Makes a segment known: not sealed, and nothing alive in it.
    pub fn insert(&self, number: SegmentNo, segment: Segment) -> Arc<SegmentState> {
        let state = Arc::new(SegmentState {
            segment,
            live: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            skimmed: AtomicBool::new(false),
        });
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(number, state.clone());
        state
    }

    /// Forgets a segment: its file is gone, durably. From now on a tombstone that names a place in it says nothing.
    pub fn remove(&self, number: SegmentNo) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.gone.fetch_add(1, Ordering::AcqRel);
    }

    /// Another number than before: segments were forgotten.
    pub fn gone(&self) -> u64 {
        self.gone.load(Ordering::Relaxed)
    }

    /// What is known of a segment.
    pub fn find(&self, number: SegmentNo) -> Option<Arc<SegmentState>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// All of them, by number.
    pub fn list(&self) -> Vec<(SegmentNo, Arc<SegmentState>)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(number, state)| (*number, state.clone())).collect()
    }

    /// What is alive in these is to be copied forward by whoever is home to it.
    pub fn want(&self, numbers: &[SegmentNo]) {
        self.mark(numbers, |state| &state.wanted);
    }

    /// What is alive in these and found without looking through everybody's messages (states, and what is in the bin) is to be
    /// copied forward by whoever is home to it.
    pub fn skim(&self, numbers: &[SegmentNo]) {
        self.mark(numbers, |state| &state.skimmed);
    }

    fn mark(&self, numbers: &[SegmentNo], with: impl Fn(&SegmentState) -> &AtomicBool) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for state in numbers.iter().filter_map(|number| known.get(number)) {
            with(state).store(true, Ordering::Release);
        }
        drop(known);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Another number than before: [`Segments::wanted`] or [`Segments::skimmed`] has changed.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Those that are wanted and still there, by number.
    pub fn wanted(&self) -> Vec<SegmentNo> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter(|(_, state)| state.is_wanted()).map(|(number, _)| *number).collect()
    }

    /// Those that are skimmed, not wanted, not spent and still there, by number.
    pub fn skimmed(&self) -> Vec<SegmentNo> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_skimmed = |state: &SegmentState| state.is_skimmed() && !state.is_wanted() && !state.is_spent();
        known.iter().filter(|(_, state)| is_skimmed(state)).map(|(number, _)| *number).collect()
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
    #[test]
    fn a_segment_is_spent_when_it_is_sealed_and_nothing_in_it_is_alive() {
        let segments = Segments::new(0, 10, [0; 16]);
        let state = segments.insert(SegmentNo(3), Segment { log: CoreId(0), salt: 0, octets: 4_096 });
        assert!(!state.is_spent(), "a log may still write into it");
        state.add_live(24);
        state.seal();
        assert!(!state.is_spent());
        state.sub_live(24);
        assert!(state.is_spent());
    }

    #[test]
    fn wanting_a_segment_is_seen_by_whoever_asks_for_the_generation() {
        let segments = Segments::new(0, 10, [0; 16]);
        for number in [1, 2, 3] {
            segments.insert(SegmentNo(number), Segment { log: CoreId(0), salt: 0, octets: 4_096 });
        }
        let before = segments.generation();
        segments.want(&[SegmentNo(3), SegmentNo(1), SegmentNo(9)]);
        assert_ne!(segments.generation(), before);
        assert_eq!(segments.wanted(), [SegmentNo(1), SegmentNo(3)]);
        segments.remove(SegmentNo(1));
        assert_eq!((segments.wanted(), segments.len()), (vec![SegmentNo(3)], 2));
        let before = segments.generation();
        segments.skim(&[SegmentNo(2), SegmentNo(3)]);
        assert_ne!(segments.generation(), before);
        assert_eq!(segments.skimmed(), [SegmentNo(2)], "all of the other is wanted anyway");
    }
}
