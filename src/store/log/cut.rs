//! What of a log is durable right now, segment by segment: for whoever copies its files while it is being written.
//!
//! A segment that is sealed is copied whole, and needs nobody to say so. Of the others only what was durable at one moment is:
//! what lies behind may be half there, and where it ends nobody could tell later.

use super::{Log, Room};
use crate::store::disk::SegmentNo;

/// How much of a segment that is not sealed is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurableEnd {
    /// Which.
    pub segment: SegmentNo,
    /// Where its last durable group ends, in octets.
    pub at: u64,
    /// The number of that group.
    pub group: u64,
}

/// The segments of a log that are not sealed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Cut {
    /// Those with something durable in them.
    pub ends: Vec<DurableEnd>,
    /// Those with nothing: to be written next, or kept back.
    pub blank: Vec<SegmentNo>,
}

impl Log {
    /// What is durable now.
    pub fn cut(&self) -> Cut {
        let prepared = [self.active, self.next, self.reserve].into_iter().flatten().map(|seg| seg.room.segment);
        let spare = self.spare.iter().map(|room| room.segment);
        let begun = |segment: &SegmentNo| self.ends.iter().any(|end| end.segment == *segment);
        let blank = prepared.chain(spare).chain(self.leaving.iter().copied()).filter(|segment| !begun(segment));
        Cut { ends: self.ends.clone(), blank: blank.collect() }
    }

    /// Everything up to here was found by a start.
    pub(super) fn found_end(active: Option<Room>, group: u64) -> Vec<DurableEnd> {
        let written = active.filter(|room| room.at > crate::store::layout::SEGMENT_HEAD as u64);
        written.map(|room| DurableEnd { segment: room.segment, at: room.at, group }).into_iter().collect()
    }

    /// A group is durable.
    pub(super) fn note_end(&mut self, durable: DurableEnd) {
        match self.ends.iter_mut().find(|end| end.segment == durable.segment) {
            Some(end) => *end = durable,
            None => self.ends.push(durable),
        }
    }
}
