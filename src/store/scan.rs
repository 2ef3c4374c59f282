//! Reads one segment as it lies on the disk: which groups are there, which are broken, where nothing readable is. Judges no
//! break: whether it is damage or a torn tail only the whole log can say (`recovery`).

use super::disk::SegmentNo;
use super::layout::{self, GROUP_HEAD, GroupHead, SEGMENT_HEAD, TEAR_UNIT, View};
use super::record::Place;

/// A group whose header passed.
#[derive(Clone, Debug)]
pub(super) struct FoundGroup {
    pub(super) head: GroupHead,
    pub(super) at: u64,
    /// Where the next one may begin.
    pub(super) end: u64,
    /// All records passed, and together they are the group that was written.
    pub(super) whole: bool,
}

/// A stretch without a readable group header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) at: u64,
    /// The group before it in this segment; 0: none.
    pub(super) after: u64,
    /// There is a group behind it.
    pub(super) inside: bool,
}

/// What a segment holds.
#[derive(Clone, Default, Debug)]
pub(super) struct Scan {
    pub(super) groups: Vec<FoundGroup>,
    pub(super) gaps: Vec<Gap>,
}

/// Walks the groups of a segment.
pub(super) fn groups(octets: &[u8], segment: SegmentNo, salt: u32) -> Scan {
    let mut scan = Scan::default();
    let mut at = SEGMENT_HEAD;
    let mut after = 0;
    while at + GROUP_HEAD <= octets.len() {
        if let Some(head) = group_at(octets, at, segment, salt) {
            let declared = (at as u64 + u64::from(head.length)).next_multiple_of(TEAR_UNIT);
            let whole = declared <= octets.len() as u64 && is_whole(octets, at, &head, segment, salt);
            // A broken group's length is believed: its header passed. One that leads out of the file ends the scan.
            scan.groups.push(FoundGroup { head, at: at as u64, end: declared, whole });
            after = head.number;
            at = usize::try_from(declared.max(at as u64 + TEAR_UNIT)).unwrap_or(octets.len());
            continue;
        }
        // Zeros are room not written yet: mostly all of it, so they are passed over in large steps.
        let is_zero = |unit: &&[u8]| unit.iter().fold(0, |any, octet| any | octet) == 0;
        let gap = at as u64;
        at += octets[at..].chunks(TEAR_UNIT as usize).take_while(is_zero).map(<[u8]>::len).sum::<usize>();
        if at >= octets.len() {
            break;
        }
        // Resynchronise at the next multiple of the tear unit that holds a header.
        while at + GROUP_HEAD <= octets.len() && group_at(octets, at, segment, salt).is_none() {
            at += TEAR_UNIT as usize;
        }
        scan.gaps.push(Gap { at: gap, after, inside: at + GROUP_HEAD <= octets.len() });
    }
    scan
}

fn group_at(octets: &[u8], at: usize, segment: SegmentNo, salt: u32) -> Option<GroupHead> {
    let head = GroupHead::decode(octets.get(at..)?, || layout::seed(salt, segment, (at / 8) as u32))?;
    (head.length as usize >= GROUP_HEAD && head.number > 0).then_some(head)
}

fn is_whole(octets: &[u8], at: usize, head: &GroupHead, segment: SegmentNo, salt: u32) -> bool {
    let (mut count, mut sum, mut broken) = (0, 0, false);
    records(octets, at, head, segment, salt, |_, found| match found {
        Ok(view) => {
            count += 1;
            sum = view.sums.fold(sum);
        }
        Err(_) => broken = true,
    });
    !broken && count == head.count && sum == head.sum
}

/// Calls `visit` with every record of a group, passed or not. Where a head is broken the next record is looked for at each multiple of
/// 8: the head's own checksum says where it is.
pub(super) fn records(
    octets: &[u8],
    at: usize,
    head: &GroupHead,
    segment: SegmentNo,
    salt: u32,
    mut visit: impl FnMut(Place, Result<View, layout::Damage>),
) {
    let end = (at + head.length as usize).min(octets.len());
    let group = &octets[..end];
    let mut at = at + GROUP_HEAD;
    let mut lost = false;
    while at + layout::RECORD_HEAD <= end {
        let place = Place { segment, offset: (at / 8) as u32 };
        let step = match layout::read_record(group, at, salt, place) {
            Ok(view) => {
                lost = false;
                let octets = view.octets;
                visit(place, Ok(view));
                octets
            }
            Err(broken) => {
                // One finding for a stretch, however many places in it were tried.
                if !lost {
                    visit(place, Err(broken.damage));
                }
                lost = broken.octets.is_none();
                broken.octets.unwrap_or(8)
            }
        };
        at = at.saturating_add(usize::try_from(step.max(8)).unwrap_or(usize::MAX));
    }
}
