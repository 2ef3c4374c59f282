//! Extents of segments that are lent: which are here, which are on their way, which are not worth asking for. Knows nothing
//! of records and jobs but their numbers.
//!
//! Messages of many users lie in the log as they came, in turns. When all these users come back, every stretch of the log is
//! wanted by hundreds of pushes, a record each: a read for each of them would be most of the push. So what is asked for a second
//! time is lent whole, without a copy, and serves everybody. What is asked for once, by a user who comes back alone, stays a read
//! of its own: a disk should not be read through for one message.

use super::disk::SegmentNo;
use super::record::Locator;
use crate::base::clock::Tick;
use crate::base::spread::SpreadMap;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// How long an extent is: 700 messages of 1 KiB for one visit to the disk; a disk of 1 GB/s gives it in a millisecond.
const EXTENT: u64 = 1024 * 1024;

/// So much is lent behind its end: a record of pager mode that begins in an extent lies in it whole. Longer ones that cross the
/// border are read, and are long enough to be worth it.
const TAIL: u64 = 64 * 1024;

/// Who wants so many octets of an extent has it lent at the first time of asking: as many more come with a disk's read anyway.
const WORTH_IT: u64 = 32 * 1024;

/// Extents remembered: 4 GiB of log at 100 octets each. What is lent costs us no memory but its pages' table (2 KiB).
const KNOWN_MAX: usize = 4096;

/// What was lent so long ago is asked for again: the system may have given its memory to others meanwhile, and to touch it
/// would make the core wait for the disk.
const FRESH: Duration = Duration::from_secs(10);

/// Which.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Extent {
    pub(super) segment: SegmentNo,
    number: u32,
}

impl Extent {
    /// Where a record lies; `None` when no extent has it whole.
    pub(super) fn of(locator: &Locator) -> Option<Extent> {
        let place = locator.place();
        let number = place.octets() / EXTENT;
        let end = place.octets() + locator.octets();
        let number = (end <= (number + 1) * EXTENT + TAIL).then_some(number)?;
        Some(Extent { segment: place.segment, number: u32::try_from(number).ok()? })
    }

    /// Where it begins in its segment.
    pub(super) fn at(self) -> u64 {
        u64::from(self.number) * EXTENT
    }

    /// How many octets of it are lent.
    pub(super) const LEN: u32 = (EXTENT + TAIL) as u32;
}

/// Records of one job that wait for an extent.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Wait {
    pub(super) job: u64,
    /// Indices into the job's list.
    pub(super) which: Vec<u32>,
}

#[derive(Debug)]
enum State {
    /// One record was read out of it.
    AskedOnce,
    Coming(Vec<Wait>),
    Here(Bytes),
    /// The disk does not lend it.
    Refused,
}

/// What to do with records of an extent.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Look at them.
    Here(Bytes),
    /// Have it lent and [`Extents::wait`].
    Ask,
    /// It is on its way: [`Extents::wait`].
    Coming,
    /// Read them.
    Read,
}

/// The extents that one core knows.
///
/// ```text
///   (unknown) ──a record──▶ asked once ──another──▶ coming ──▶ here ──10 s, doubt──▶ (unknown)
///       └──── 32 KiB of it at once ───────────────────▲  └──▶ refused ──10 s──▶ (unknown)
/// ```
#[derive(Debug, Default)]
pub(super) struct Extents {
    known: SpreadMap<Extent, (State, Tick)>,
    order: VecDeque<Extent>,
}

impl Extents {
    /// Records of so many octets together are wanted out of this extent.
    pub(super) fn find(&mut self, extent: Extent, octets: u64, now: Tick) -> Found {
        if let Some((state, since)) = self.known.get_mut(&extent) {
            let fresh = now - *since < FRESH;
            match state {
                State::Coming(_) => return Found::Coming,
                State::Here(page) if fresh => return Found::Here(page.clone()),
                State::Refused if fresh => return Found::Read,
                State::Here(_) | State::Refused | State::AskedOnce => {
                    let again = fresh && matches!(state, State::AskedOnce) || octets >= WORTH_IT;
                    *since = now;
                    *state = if again { State::Coming(Vec::new()) } else { State::AskedOnce };
                    return if again { Found::Ask } else { Found::Read };
                }
            }
        }
        self.make_room();
        let state = if octets >= WORTH_IT { State::Coming(Vec::new()) } else { State::AskedOnce };
        self.known.insert(extent, (state, now));
        self.order.push_back(extent);
        if octets >= WORTH_IT { Found::Ask } else { Found::Read }
    }

    /// These records wait for it.
    pub(super) fn wait(&mut self, extent: Extent, wait: Wait) {
        if let Some((State::Coming(waiting), _)) = self.known.get_mut(&extent) {
            waiting.push(wait);
        }
    }

    /// The disk has lent it, or not; who waited.
    pub(super) fn arrived(&mut self, extent: Extent, page: Option<Bytes>, now: Tick) -> Vec<Wait> {
        let Some((state, since)) = self.known.get_mut(&extent) else { return Vec::new() };
        *since = now;
        match std::mem::replace(state, page.map_or(State::Refused, State::Here)) {
            State::Coming(waiting) => waiting,
            _ => Vec::new(),
        }
    }

    /// A record was not in it as it should be: what was lent may be older than the record.
    pub(super) fn doubt(&mut self, extent: Extent) {
        if let Some((state, _)) = self.known.get_mut(&extent)
            && matches!(state, State::Here(_))
        {
            *state = State::AskedOnce;
        }
    }

    /// Its file is gone. What is on its way will be answered.
    pub(super) fn forget(&mut self, segment: SegmentNo) {
        let gone = |extent: &Extent, state: &State| extent.segment == segment && !matches!(state, State::Coming(_));
        let known = &mut self.known;
        self.order.retain(|extent| {
            let gone = known.get(extent).is_none_or(|(state, _)| gone(extent, state));
            if gone {
                known.remove(extent);
            }
            !gone
        });
    }

    /// The one that was asked for first goes, unless somebody waits for it.
    fn make_room(&mut self) {
        for _ in 0..self.order.len() {
            if self.order.len() < KNOWN_MAX {
                break;
            }
            let Some(oldest) = self.order.pop_front() else { break };
            match self.known.get(&oldest) {
                Some((State::Coming(_), _)) => self.order.push_back(oldest),
                _ => _ = self.known.remove(&oldest),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::{Flags, Place, Stamp};

    fn locator(at: u64, octets: u64) -> Locator {
        let place = Place { segment: SegmentNo(3), offset: (at / 8) as u32 };
        Locator::new(place, Stamp(1), 9, octets, Flags::default())
    }

    fn first() -> Option<Extent> {
        Extent::of(&locator(4096, 1000))
    }

    #[test]
    fn a_record_belongs_to_the_extent_it_begins_in_unless_it_is_long_and_crosses_the_border() {
        assert_eq!(first().map(Extent::at), Some(0));
        assert_eq!(Extent::of(&locator(EXTENT - 8, TAIL)).map(Extent::at), Some(0));
        assert_eq!(Extent::of(&locator(EXTENT, TAIL)).map(Extent::at), Some(EXTENT));
        assert_eq!(Extent::of(&locator(EXTENT - 8, TAIL + 16)), None);
    }

    #[test]
    fn what_is_asked_for_once_is_read_and_what_is_asked_for_twice_is_lent_to_everybody() {
        let (mut extents, extent) = (Extents::default(), first().unwrap_or_else(|| panic!("one")));
        assert_eq!(extents.find(extent, 8, Tick(0)), Found::Read);
        assert_eq!(extents.find(extent, 8, Tick(0)), Found::Ask);
        extents.wait(extent, Wait { job: 1, which: vec![0] });
        assert_eq!(extents.find(extent, 8, Tick(0)), Found::Coming);
        extents.wait(extent, Wait { job: 2, which: vec![5] });
        let page = Bytes::from_static(b"page");
        let waited = extents.arrived(extent, Some(page.clone()), Tick(0));
        assert_eq!(waited.iter().map(|wait| wait.job).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(extents.find(extent, 8, Tick(1)), Found::Here(page));
        extents.doubt(extent);
        assert_eq!(extents.find(extent, 8, Tick(1)), Found::Ask);
        assert!(extents.arrived(extent, None, Tick(1)).is_empty());
        assert_eq!(extents.find(extent, WORTH_IT, Tick(1)), Found::Read, "refused");
    }

    #[test]
    fn what_was_lent_long_ago_or_refused_is_asked_for_anew() {
        let (mut extents, extent) = (Extents::default(), first().unwrap_or_else(|| panic!("one")));
        let late = Tick(0) + FRESH;
        for page in [Some(Bytes::new()), None] {
            assert_eq!(extents.find(extent, WORTH_IT, Tick(0)), Found::Ask);
            extents.arrived(extent, page, Tick(0));
            assert_eq!(extents.find(extent, WORTH_IT, late), Found::Ask);
            extents.arrived(extent, None, Tick(0));
            extents.forget(SegmentNo(3));
        }
        assert_eq!(extents.find(extent, 8, late), Found::Read);
        assert_eq!(extents.find(extent, 8, late + FRESH), Found::Read, "asked once, long ago");
    }

    #[test]
    fn the_table_has_a_bound_and_keeps_what_somebody_waits_for() {
        let mut extents = Extents::default();
        for number in 0..3 * KNOWN_MAX as u32 {
            let extent = Extent { segment: SegmentNo(number), number: 0 };
            extents.find(extent, if number == 0 { WORTH_IT } else { 8 }, Tick(0));
        }
        assert!(extents.known.len() <= KNOWN_MAX && extents.order.len() == extents.known.len());
        assert!(extents.known.contains_key(&Extent { segment: SegmentNo(0), number: 0 }));
        extents.forget(SegmentNo(0));
        assert!(extents.known.contains_key(&Extent { segment: SegmentNo(0), number: 0 }), "it will be answered");
    }
}
