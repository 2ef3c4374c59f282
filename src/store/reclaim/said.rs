//! What a segment says of records in others: its tombstones and marks. They must outlive it as long as those are there.

use crate::store::disk::SegmentNo;
use crate::store::hint::Hint;
use crate::store::reason::{self, Ending};
use crate::store::record::{Kind, Place};
use crate::store::scan;
use crate::store::segments::Segments;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What a place costs with why and when: eight octets and five.
const ENDING_OCTETS: u64 = 13;

/// What a segment's tombstones and marks say, of whichever segments.
#[derive(Default)]
pub(super) struct Said {
    pub(super) dead: Vec<Ending>,
    pub(super) retained: Vec<Ending>,
}

impl Said {
    /// What its hint says that it says.
    pub(super) fn of_hint(hint: &Hint) -> Said {
        Said { dead: hint.endings().collect(), retained: hint.marks().collect() }
    }

    /// What it takes to say it again.
    pub(super) fn octets(&self) -> u64 {
        (self.dead.len() + self.retained.len()) as u64 * ENDING_OCTETS
    }

    /// Of those in other segments that are still there, each once, and that with its reason where there is one.
    pub(super) fn of_others(self, number: SegmentNo, segments: &Segments) -> Said {
        let there: BTreeSet<SegmentNo> = segments.list().into_iter().map(|(number, _)| number).collect();
        // Of two of one place the higher is kept. A reason that is known is above one that is not.
        let sift = |mut endings: Vec<Ending>, rank: fn(&Ending) -> (Place, bool, Ending)| {
            endings.retain(|ending| ending.place.segment != number && there.contains(&ending.place.segment));
            endings.sort_unstable_by_key(|ending| Reverse(rank(ending)));
            endings.dedup_by_key(|ending| ending.place);
            endings
        };
        let dead = sift(self.dead, |ending| (ending.place, true, *ending));
        // What was kept beyond its time and had later was had.
        let retained = sift(self.retained, |ending| (ending.place, ending.reason.is_had(), *ending));
        Said { dead, retained }
    }
}

/// What a segment without a hint says.
pub(super) fn said(page: &[u8], number: SegmentNo, salt: u32) -> Said {
    let mut said = Said::default();
    for group in scan::groups(page, number, salt).groups {
        let at = usize::try_from(group.at).unwrap_or(usize::MAX);
        // Of a broken group, what is readable: as recovery does.
        scan::records(page, at, &group.head, number, salt, |_, record| {
            let Ok(view) = record else { return };
            let into = match view.head.kind {
                Kind::Tombstones => &mut said.dead,
                Kind::Retained => &mut said.retained,
                _ => return,
            };
            into.extend(reason::endings(view.label.of(page), view.envelope.of(page), view.head.stamp));
        });
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::net::CoreId;
    use crate::store::reason::Reason;
    use crate::store::segments::Segment;

    #[test]
    fn what_is_carried_over_of_marks_says_had_where_one_of_them_does() {
        let segments = Segments::new(100, 1_000, [0; 16]);
        for number in 0..3 {
            segments.insert(SegmentNo(number), Segment { log: CoreId(0), salt: 0, octets: 100 });
        }
        let of = |offset, reason, at_s| Ending { place: Place { segment: SegmentNo(1), offset }, reason, at_s };
        let own = Ending { place: Place { segment: SegmentNo(0), offset: 9 }, reason: Reason::Expired, at_s: 1 };
        let (missed, had, unsaid) = (Reason::Expired, Reason::Delivered, Reason::Unknown);
        let retained = vec![
            of(1, missed, 8),
            of(2, had, 9),
            of(2, missed, 8),
            of(3, missed, 8),
            of(3, unsaid, 0),
            of(4, unsaid, 0),
            of(4, had, 9),
            own,
        ];
        let dead = vec![of(5, unsaid, 0), of(5, missed, 8), of(5, had, 9), own];
        let Said { dead, mut retained } = Said { dead, retained }.of_others(SegmentNo(0), &segments);
        assert_eq!(dead, [of(5, missed, 8)], "of tombstones any that is known will do");
        retained.sort_unstable();
        assert_eq!(retained, [of(1, missed, 8), of(2, had, 9), of(3, unsaid, 0), of(4, had, 9)]);
    }
}
