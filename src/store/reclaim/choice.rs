//! Which segments are worth having back: those that are too many, and those of which next to nothing is alive. Knows how much of each
//! is alive and how large it is; not what.

use super::LOOK;
use crate::base::clock::Tick;
use crate::store::disk::SegmentNo;
use crate::store::segments::SegmentState;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Segments are wanted when the files have more than this many hundredths of what is alive in them. The bound that is promised
/// is 150: the rest is for what passes while copies are made.
const FILES_PERCENT: u64 = 135;

/// And are not wanted any more below this: so that it is done in a few large steps.
const ENOUGH_PERCENT: u64 = 120;

/// Whatever is alive, so many segments are left alone.
const FIXED_SEGMENTS: u64 = 2;

/// Segments of one log that are wanted at one time and not spent: 16 of 64 MiB are a gibibyte to be copied at most.
const WANTED_MAX: usize = 16;

/// A segment of which no more than this share is alive, and for a while the same, is skimmed: a user's presence weighs some hundred
/// octets, and would keep a segment after everybody's messages in it are gone.
const NEXT_TO_NOTHING: u64 = 64;

/// How much there is, of the logs this core looks after.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Octets of all segment files.
    pub disk_octets: u64,
    /// Octets of records that somebody needs.
    pub live_octets: u64,
    /// Segments that are written no more.
    pub sealed: u64,
    /// Of those, the ones being copied out of.
    pub wanted: u64,
    /// Segments that are written, or wait to be.
    pub open: u64,
    /// Octets of the sealed segments' files.
    pub sealed_octets: u64,
    /// Octets alive in them.
    pub sealed_live: u64,
}

impl Usage {
    /// Of these.
    pub(super) fn of(own: &[(SegmentNo, Arc<SegmentState>)]) -> Usage {
        let mut usage = Usage::default();
        for (_, state) in own {
            usage.disk_octets += state.segment.octets;
            usage.live_octets += state.live();
            usage.sealed += u64::from(state.is_sealed());
            usage.wanted += u64::from(state.is_wanted());
            usage.open += u64::from(!state.is_sealed());
            if state.is_sealed() {
                usage.sealed_octets += state.segment.octets;
                usage.sealed_live += state.live();
            }
        }
        usage
    }

    /// There is more than is to be kept.
    pub(super) fn is_too_much(&self, segment_octets: u64) -> bool {
        self.sealed_octets > self.sealed_live * ENOUGH_PERCENT / 100 + FIXED_SEGMENTS * segment_octets
    }
}

/// Which segments are to be copied out of: those with the least alive in them, until the rest is dense enough.
pub(super) fn victims(own: &[(SegmentNo, Arc<SegmentState>)], segment_octets: u64) -> Vec<SegmentNo> {
    let busy = own.iter().filter(|(_, state)| state.is_wanted() && !state.is_spent()).count();
    let mut sealed: Vec<(u64, u64, SegmentNo)> = own
        .iter()
        .filter(|(_, state)| state.is_sealed() && !state.is_wanted())
        .map(|(number, state)| (state.live(), state.segment.octets, *number))
        .collect();
    let (mut live, mut files) = sealed.iter().fold((0, 0), |sum, (live, octets, _)| (sum.0 + live, sum.1 + octets));
    let fixed = FIXED_SEGMENTS * segment_octets;
    let above = |percent: u64, live: u64, files: u64| files.saturating_sub(fixed) > live.saturating_mul(percent) / 100;
    if !above(FILES_PERCENT, live, files) {
        return Vec::new();
    }
    // By the share that is alive, compared without dividing.
    sealed.sort_unstable_by(|a, b| {
        (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1))).then(a.2.cmp(&b.2))
    });
    let mut victims = Vec::new();
    for (alive, octets, number) in sealed {
        if !above(ENOUGH_PERCENT, live, files) || busy + victims.len() >= WANTED_MAX {
            break;
        }
        // What is alive of it is alive elsewhere then.
        (live, files) = (live.saturating_sub(alive), files.saturating_sub(octets));
        victims.push(number);
    }
    victims
}

/// Segments of which next to nothing is alive.
#[derive(Debug, Default)]
pub(super) struct Faint {
    /// How much, and since when.
    seen: BTreeMap<SegmentNo, (u64, Tick)>,
}

impl Faint {
    /// Those of which it was so, and just as much, a look before. Each is said once and then to be skimmed.
    pub(super) fn ripe(&mut self, now: Tick, own: &[(SegmentNo, Arc<SegmentState>)]) -> Vec<SegmentNo> {
        let mut before = std::mem::take(&mut self.seen);
        let mut ripe = Vec::new();
        for (number, state) in own {
            let (live, most) = (state.live(), state.segment.octets / NEXT_TO_NOTHING);
            if state.is_sealed() && !state.is_wanted() && !state.is_skimmed() && (1..=most).contains(&live) {
                match before.remove(number) {
                    Some((then, since)) if then == live && now - since >= LOOK => ripe.push(*number),
                    Some((then, since)) if then == live => _ = self.seen.insert(*number, (live, since)),
                    _ => _ = self.seen.insert(*number, (live, now)),
                }
            }
        }
        ripe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::net::CoreId;
    use crate::store::segments::{Segment, Segments};

    fn table(shares: &[(u64, u64)]) -> (Segments, Vec<(SegmentNo, Arc<SegmentState>)>) {
        let segments = Segments::new(100, 1_000, [0; 16]);
        for (number, (live, octets)) in shares.iter().enumerate() {
            let segment = Segment { log: CoreId(0), salt: 0, octets: *octets };
            let state = segments.insert(SegmentNo(number as u32), segment);
            state.add_live(*live);
            state.seal();
        }
        let list = segments.list();
        (segments, list)
    }

    #[test]
    fn what_is_dense_is_left_alone() {
        let (_, list) = table(&[(90, 100); 20]);
        assert_eq!(victims(&list, 100), []);
        let (_, list) = table(&[(0, 100), (1, 100)]);
        assert_eq!(victims(&list, 100), [], "so much is always left alone");
    }

    #[test]
    fn the_emptiest_go_first_and_no_more_than_needed() {
        let mut shares = vec![(95, 100); 20];
        shares.extend([(10, 100), (20, 100), (5, 100), (30, 100), (0, 100), (1, 100), (2, 100), (3, 100), (4, 100)]);
        let (segments, list) = table(&shares);
        let chosen = victims(&list, 100);
        assert_eq!(chosen[..3], [SegmentNo(24), SegmentNo(25), SegmentNo(26)]);
        assert!(chosen.len() < 9 && chosen.iter().all(|number| number.0 >= 20), "{chosen:?}");
        segments.want(&chosen);
        assert_eq!(victims(&segments.list(), 100), [], "those under way count no more");
    }

    #[test]
    fn what_is_next_to_nothing_is_skimmed_once_and_not_while_it_becomes_less() {
        let (segments, list) = table(&[(0, 6_400), (101, 6_400), (90, 6_400), (90, 6_400)]);
        let mut faint = Faint::default();
        let at = |ms: u64| Tick(0) + std::time::Duration::from_millis(ms);
        assert_eq!(faint.ripe(at(0), &list), []);
        list[3].1.sub_live(10);
        assert_eq!(faint.ripe(at(100), &list), [], "one becomes less, and the other has not been so for long");
        assert_eq!(faint.ripe(at(250), &list), [SegmentNo(2)]);
        segments.skim(&[SegmentNo(2)]);
        list[3].1.sub_live(10);
        assert_eq!(faint.ripe(at(600), &list), []);
        assert_eq!(faint.ripe(at(900), &list), [SegmentNo(3)]);
        list[1].1.sub_live(1);
        assert_eq!(faint.ripe(at(1_200), &list), []);
        assert_eq!(faint.ripe(at(1_500), &list), [SegmentNo(1), SegmentNo(3)], "nobody has skimmed the last");
    }
}
