//! How a use case keeps a state: set it, end it, and one rule for the octets of what was before.

use super::cx::Cx;
use crate::store::log::{Refused, Seq};
use crate::store::record::{Extent, Stamp};
use crate::store::states::StateKey;

/// A record of a state on its way to being durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateWritten {
    /// Which state.
    pub key: StateKey,
    /// Where its record lies.
    pub extent: Extent,
    /// When it was decided.
    pub stamp: Stamp,
}

impl Cx {
    /// Appends the newest record of a state. [`Cx::state_durable`] or [`Cx::state_failed`] is owed for it, by whoever answers for
    /// the commit of `Seq`; [`Commit::State`](super::cx::Commit::State) does it where nobody waits.
    ///
    /// # Errors
    /// The log does not take it now.
    pub fn set_state(&mut self, key: StateKey, value: &[u8]) -> Result<(Seq, StateWritten), Refused> {
        let stamp = self.stamps.next(self.now);
        let (extent, seq) = self.log.append_state(key.kind, stamp, &key.owner, &key.key, value)?;
        self.states.set(&key);
        Ok((seq, StateWritten { key, extent, stamp }))
    }

    /// A state's record is durable: the one before it is written off.
    pub fn state_durable(&mut self, written: &StateWritten) {
        let off = self.states.durable(&written.key, written.extent, written.stamp);
        self.buried.extend(off);
    }

    /// A state's record never will be durable: the one before it holds.
    pub fn state_failed(&mut self, written: &StateWritten) {
        let off = self.states.failed(&written.key);
        self.buried.extend(off);
    }

    /// A state is over. If the daemon dies before its tombstone is durable it is found once more.
    pub fn end_state(&mut self, key: &StateKey) {
        let off = self.states.end(key);
        self.buried.extend(off);
    }

    /// Nobody needs these records any more, durably: their segments may go the sooner.
    pub fn freed(&self, extents: &[Extent]) {
        for run in extents.chunk_by(|a, b| a.place.segment == b.place.segment) {
            if let Some(first) = run.first()
                && let Some(state) = self.segments.find(first.place.segment)
            {
                state.sub_live(run.iter().map(|extent| extent.octets).sum());
            }
        }
    }
}
