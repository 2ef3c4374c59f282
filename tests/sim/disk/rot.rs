//! Rot: some bits of one sector of what is durable turn over, at rest or while the daemon runs.

use super::{Disk, Name, SECTOR, overlap};
use deferd::base::dice::Dice;
use deferd::base::net::CoreId;
use deferd::store::disk::{DiskOp, SegmentNo};
use std::ops::Range;

/// Where the head of a segment ends and its groups begin.
const GROUPS_FROM: u64 = 4_096;

/// A sector that is to rot.
#[derive(Clone, Debug)]
pub(crate) struct Rotten {
    pub(crate) log: CoreId,
    pub(crate) segment: SegmentNo,
    pub(crate) sector: Range<u64>,
    /// What cannot be read any more, at most, if what rots is more than a record's: a group of which nobody can say that it was
    /// durable is cut whole, and without its head a group or a segment is not found.
    pub(crate) may_take: Range<u64>,
    /// Nothing there counts: a tail that was cut, or what was in the file before it was recycled.
    pub(crate) idle: bool,
}

impl Disk {
    /// Any sector with something in it.
    pub(crate) fn ripe(&self, dice: &mut Dice) -> Option<Rotten> {
        let files: Vec<Name> = self.files.keys().copied().collect();
        let &(log, segment) = files.get(dice.between(0, files.len().checked_sub(1)? as u64) as usize)?;
        let file = self.files.get(&(log, segment))?;
        let durable = file.durable.as_ref()?;
        let is_used =
            |at: &usize| durable.get(*at..*at + SECTOR).is_some_and(|sector| sector.iter().any(|&octet| octet > 0));
        let used: Vec<usize> = (0..durable.len()).step_by(SECTOR).filter(is_used).collect();
        let at = *used.get(dice.between(0, used.len().checked_sub(1)? as u64) as usize)? as u64;
        let sector = at..at + SECTOR as u64;
        // What is on its way there is written after the rot, not before.
        let is_written = self.under_way.values().any(|other| match &other.op {
            DiskOp::Commit { log: of, segment: into, .. } => (*of, *into) == (log, segment),
            DiskOp::Prepare { segment: into, .. } => *into == segment,
            DiskOp::Remove { segment: old, .. } | DiskOp::Recycle { old, .. } => *old == segment,
            DiskOp::Read { .. } | DiskOp::Lend { .. } | DiskOp::WriteHint { .. } | DiskOp::ReadHint { .. } => false,
        });
        if is_written {
            return None;
        }
        let all = 0..durable.len() as u64;
        let is_last = self.written.get(&log) == Some(&segment);
        let group = file.groups.iter().enumerate().find(|(_, (from, len))| (*from..from + len).contains(&at));
        let may_take = match group {
            _ if at < GROUPS_FROM => all,
            Some((number, &(from, len))) if from == at || is_last && number + 1 == file.groups.len() => {
                from..from + len
            }
            _ => sector.clone(),
        };
        let idle = group.is_none() && at >= GROUPS_FROM;
        Some(Rotten { log, segment, sector, may_take, idle })
    }

    /// It rots: up to eight of its bits turn over, in both images.
    pub(crate) fn rot(&mut self, rotten: &Rotten, dice: &mut Dice) {
        let Some(file) = self.files.get_mut(&(rotten.log, rotten.segment)) else { return };
        self.rots += 1;
        self.rotten.push((rotten.segment, rotten.sector.clone()));
        for _ in 0..dice.between(1, 8) {
            let at = dice.between(rotten.sector.start, rotten.sector.end - 1) as usize;
            let bit = 1 << dice.between(0, 7);
            for image in [Some(&mut file.live), file.durable.as_mut()].into_iter().flatten() {
                image[at] ^= bit;
            }
        }
    }

    /// True when some of these octets have rotted.
    pub(crate) fn is_rotten(&self, segment: SegmentNo, octets: Range<u64>) -> bool {
        self.rotten.iter().any(|(of, sector)| *of == segment && overlap(sector, &octets))
    }

    /// An octet of a hint rots: a start reads the segment instead.
    pub(crate) fn rot_a_hint(&mut self, dice: &mut Dice) {
        let mut hints: Vec<_> = self.files.values_mut().filter_map(|file| file.hint.as_mut()).collect();
        if let Some(last) = hints.len().checked_sub(1) {
            let hint = &mut hints[dice.between(0, last as u64) as usize];
            let mut octets = hint.to_vec();
            if let Some(end) = octets.len().checked_sub(1) {
                octets[dice.between(0, end as u64) as usize] ^= 1 << dice.between(0, 7);
            }
            **hint = octets.into();
        }
    }
}
