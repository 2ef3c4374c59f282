//! Sectors that rotted: which messages may be lost with them, and that nobody keeps quiet about it.

use super::Oracle;
use deferd::store::disk::SegmentNo;
use deferd::store::recovery::RecoveryReport;
use std::collections::BTreeSet;

/// What rot may have done.
#[derive(Debug, Default)]
pub(super) struct Rot {
    /// Some octet has rotted.
    pub(super) happened: bool,
    /// Among what rotted may be tombstones or states: what was forgotten may come back, and a publication may be gone.
    pub(super) forgets: bool,
    /// Segments in which damage was counted, or a tail cut.
    named: BTreeSet<SegmentNo>,
    /// Records that did not pass when they were to be sent or copied.
    met: u64,
}

impl Oracle {
    /// A sector rots. `hit`: the messages that may be lost by it; `forgets`: and perhaps other records.
    pub(crate) fn rotted(&mut self, segment: SegmentNo, hit: &BTreeSet<u32>, forgets: bool) {
        self.rot.happened = true;
        self.rot.forgets |= forgets;
        for number in hit {
            if let Some(message) = self.messages.get_mut(number) {
                message.rotten.insert(segment);
            }
        }
    }

    /// True when something has rotted.
    pub(crate) fn has_rotted(&self) -> bool {
        self.rot.happened
    }

    /// What a start says of what is broken.
    pub(crate) fn named(&mut self, report: &RecoveryReport) {
        if report.damaged > 0 && !self.rot.happened {
            self.violation(format!("recovery finds damage on a sound disk: {:?}", report.damage));
        }
        self.rot.named.extend(report.damage.iter().map(|found| found.place.segment));
        self.rot.named.extend(report.torn.iter().map(|(_, place)| place.segment));
    }

    /// How many records of one life did not pass.
    pub(crate) fn met(&mut self, damaged: u64) {
        if damaged > 0 && !self.rot.happened {
            self.violation("a record is found damaged on a sound disk".into());
        }
        self.rot.met = self.rot.met.max(damaged);
    }

    /// Segments in which damage was counted, and records that did not pass when they were wanted.
    pub(crate) fn damage_counted(&self) -> u64 {
        self.rot.named.len() as u64 + self.rot.met
    }

    /// At the end: what rotted and is not there any more was counted, with its place. `listed`: so many are there still, and nobody
    /// has looked at them.
    pub(crate) fn judge_rotten(&mut self, alive: &BTreeSet<u32>, listed: usize) {
        let lost = |number: &u32, rotten: &BTreeSet<SegmentNo>| {
            !alive.contains(number) && rotten.is_disjoint(&self.rot.named) && self.rot.met == 0
        };
        let unsaid = self.messages.values().filter(|message| {
            !message.rotten.is_empty()
                && message.accepted.is_some()
                && !message.delivered
                && !self.may_have_expired(message)
                && lost(&message.number, &message.rotten)
        });
        let unsaid: Vec<u32> = unsaid.map(|message| message.number).collect();
        if unsaid.len() > listed {
            self.violation(format!("rotted, gone, and nobody said so: {unsaid:?}"));
        }
    }
}
