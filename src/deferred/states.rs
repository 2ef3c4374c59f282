//! What use cases keep and give back: states, set and ended under one rule for the octets of what was before; reservations.

use super::cx::Cx;
use super::write_off::Buried;
use crate::store::directory::UserId;
use crate::store::log::{Refused, Seq};
use crate::store::reason::Reason;
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
        self.bury(off, Reason::Superseded);
    }

    /// A state's record never will be durable: the one before it holds.
    pub fn state_failed(&mut self, written: &StateWritten) {
        let off = self.states.failed(&written.key);
        self.bury(off, Reason::Over);
    }

    /// A state is over. If the daemon dies before its tombstone is durable it is found once more.
    pub fn end_state(&mut self, key: &StateKey) {
        let off = self.states.end(key);
        self.bury(off, Reason::Over);
    }

    /// These records go with the next tombstone.
    pub fn bury(&mut self, extents: impl IntoIterator<Item = Extent>, reason: Reason) {
        self.buried.extend(extents.into_iter().map(|extent| Buried { extent, reason }));
    }

    /// Gives back what messages of a user had reserved, of the user's quota and of the domain's.
    pub fn release(&self, user: UserId, messages: u32, octets: u64) {
        if let Some(domain) = self.directory.domains().of(&self.directory.address(user)) {
            self.directory.domains().sub(self.core, domain, messages.into(), octets);
        }
        self.directory.release(user, messages, octets);
    }

    /// Gives back the reservation of one message that was never shown to its user.
    pub fn give_up(&self, user: UserId, octets: u64) {
        if let Some(domain) = self.directory.domains().of(&self.directory.address(user)) {
            self.directory.domains().sub(self.core, domain, 1, octets);
        }
        self.directory.give_up(user, octets);
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
