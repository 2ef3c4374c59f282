//! The DELETE bin (12.1.3.1): what a user deleted stays in the log for a while, out of everybody's sight, and is then purged.
//!
//! Nobody can address it. A deleted message leaves its user's list, counts and quota at once; only its tombstone waits. Where
//! `policy.bin_retention` is zero there is no bin, and the tombstone is the deletion.
//!
//! A message in the bin is named by its stamp, which it keeps wherever it is copied to; where it lies now only memory knows.

use super::cx::{Cx, Timer};
use super::identity::Address;
use super::users::{self, Buried, Users};
use crate::base::clock::{Tick, Wall};
use crate::store::disk::SegmentNo;
use crate::store::reason::Reason;
use crate::store::record::{Extent, Flags, Locator, Place, Stamp, StateDraft, StateKind};
use crate::store::states::StateKey;
use std::collections::BTreeMap;
use std::time::Duration;

/// Messages in the bin of one core: some 64 octets each, 16 MiB. What is deleted beyond them is purged at once.
pub const BINNED_MAX: usize = 1 << 18;

/// Deletions purged in one turn, a record of tombstones each: about as many as other timers may be due.
const PURGES_A_TURN: usize = 256;

/// The rest of them a little later.
const SOON: Duration = Duration::from_millis(1);

/// Version of the octets of a state's value. The first had no reason: what it holds was deleted by its user.
const VERSION: u8 = 2;

/// Octets of a value before the stamps: version, reason, second of the purge.
const FIXED: usize = 10;

/// Messages that went into the bin together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binned {
    owner: Address,
    /// Tells it from the owner's others: the stamp it was decided at.
    key: [u8; 8],
    stamp: Stamp,
    /// When it is purged, in seconds since 1970.
    until_s: u64,
    /// `version, reason, until_s, stamps`.
    value: Vec<u8>,
}

impl Binned {
    /// These messages of one user, from now on.
    pub fn new(cx: &mut Cx, owner: &Address, gone: &[Locator], reason: Reason) -> Binned {
        let stamp = cx.stamps.next(cx.now);
        let until_s = cx.now.wall.seconds().saturating_add(cx.policy.bin_retention.as_secs());
        Binned::of(owner, stamp, until_s, reason, gone.iter().map(Locator::stamp))
    }

    fn of(
        owner: &Address,
        stamp: Stamp,
        until_s: u64,
        reason: Reason,
        messages: impl Iterator<Item = Stamp>,
    ) -> Binned {
        let mut value = vec![VERSION, reason as u8];
        value.extend_from_slice(&until_s.to_le_bytes());
        messages.for_each(|message| value.extend_from_slice(&message.0.to_le_bytes()));
        Binned { owner: owner.clone(), key: stamp.0.to_le_bytes(), stamp, until_s, value }
    }

    /// What recovery found.
    pub fn recovered(owner: &[u8], key: &[u8], stamp: Stamp, value: &[u8]) -> Option<Binned> {
        let (reason, rest) = match value {
            [1, rest @ ..] => (Reason::DeletedByUser, rest),
            [VERSION, reason, rest @ ..] => (Reason::from_u8(*reason), rest),
            _ => return None,
        };
        let (until_s, messages) = rest.split_first_chunk::<8>()?;
        if messages.len() % 8 != 0 {
            return None;
        }
        let (owner, key) = (Address::from_canonical(owner), key.try_into().ok()?);
        let stamps = messages.as_chunks::<8>().0.iter().map(|stamp| Stamp(u64::from_le_bytes(*stamp)));
        let binned = Binned::of(&owner, stamp, u64::from_le_bytes(*until_s), reason, stamps);
        Some(Binned { key, ..binned })
    }

    /// For the record that says so.
    pub fn draft(&self) -> StateDraft<'_> {
        StateDraft { kind: StateKind::Bin, stamp: self.stamp, owner: &self.owner, key: &self.key, value: &self.value }
    }

    /// Its name among the states.
    pub fn state(&self) -> StateKey {
        StateKey { kind: StateKind::Bin, owner: (&self.owner[..]).into(), key: self.key.into() }
    }

    /// Whose they were.
    pub fn owner(&self) -> &Address {
        &self.owner
    }

    /// When it was decided.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Who deleted them.
    pub fn reason(&self) -> Reason {
        Reason::from_u8(self.value.get(1).copied().unwrap_or(0))
    }

    /// When they are purged, in seconds since 1970.
    pub fn until_s(&self) -> u64 {
        self.until_s
    }

    /// Which messages.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        let messages = self.value.get(FIXED..).unwrap_or_default();
        messages.as_chunks::<8>().0.iter().map(|message| Stamp(u64::from_le_bytes(*message)))
    }
}

/// What goes into the bin: its record is durable, and the messages are in nobody's list any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Laid {
    /// What the record says.
    pub binned: Binned,
    /// Where it lies.
    pub extent: Extent,
    /// The messages, where they lie.
    pub messages: Vec<Locator>,
    /// The parts of large ones.
    pub parts: Vec<Extent>,
}

/// A deletion in the order of its purge.
type Due = (u64, [u8; 8]);

#[derive(Debug)]
struct Kept {
    state: StateKey,
    messages: Vec<Place>,
    parts: Vec<Extent>,
}

/// The bin of one core.
#[derive(Default, Debug)]
pub struct Bin {
    kept: BTreeMap<Due, Kept>,
    messages: BTreeMap<Place, (Locator, Due)>,
}

impl Bin {
    /// True when what is deleted now goes into the bin.
    pub fn is_open(&self, cx: &Cx) -> bool {
        !cx.policy.bin_retention.is_zero() && self.messages.len() < BINNED_MAX
    }

    /// From now on it waits to be purged.
    pub fn keep(&mut self, cx: &mut Cx, laid: Laid) {
        let Laid { binned, messages, parts, .. } = laid;
        let due = (binned.until_s, binned.key);
        self.messages.extend(messages.iter().map(|message| (message.place(), (*message, due))));
        let messages = messages.iter().map(Locator::place).collect();
        self.kept.insert(due, Kept { state: binned.state(), messages, parts });
        cx.timer_at(due_at(cx, due), Timer::Bin);
    }

    /// Purges what is due: its tombstones and the end of its state are one record.
    //= 12.1.3.1: deleting results in an item transferred into a "DELETE bin" or Garbage collector bin
    pub fn turn(&mut self, cx: &mut Cx, users: &mut Users) {
        for _ in 0..PURGES_A_TURN {
            let Some(first) = self.kept.first_entry().filter(|first| first.key().0 <= cx.now.wall.seconds()) else {
                break;
            };
            let Kept { state, messages, parts } = first.remove();
            let mut gone: Vec<Buried> = Vec::with_capacity(messages.len() + 1);
            let purged = messages.iter().filter_map(|place| self.messages.remove(place));
            gone.extend(purged.map(|(message, _)| Buried { extent: message.extent(), reason: Reason::Purged }));
            cx.counts.purged += gone.len() as u64;
            gone.extend(cx.states.end(&state).map(|extent| Buried { extent, reason: Reason::Over }));
            users.bury_together(gone, parts);
        }
        // The next one's time; also where the wall clock was set back since this timer was set.
        if let Some((&due, _)) = self.kept.first_key_value() {
            let at = due_at(cx, due).max(cx.now.tick + SOON);
            cx.timer_at(at, Timer::Bin);
        }
    }

    /// The messages that lie in the segment of this place, from it on.
    pub fn since(&self, from: Place) -> impl Iterator<Item = &Locator> {
        self.messages.range(from..=Place { offset: u32::MAX, ..from }).map(|(_, (message, _))| message)
    }

    /// True while a message of the bin lies there.
    pub(super) fn has(&self, place: Place) -> bool {
        self.messages.contains_key(&place)
    }

    /// The large messages some of whose parts lie in these segments.
    pub(super) fn large_in(&self, wanted: &[SegmentNo]) -> impl Iterator<Item = Locator> {
        let lies_there = |part: &Extent| wanted.binary_search(&part.place.segment).is_ok();
        let kept = self.kept.values().filter(move |kept| kept.parts.iter().any(lies_there));
        let messages = kept.flat_map(|kept| &kept.messages).filter_map(|place| self.messages.get(place));
        messages.map(|(message, _)| *message).filter(|message| message.flags().has(Flags::LARGE))
    }

    /// Parts of the message at `of` lie elsewhere now.
    pub(super) fn parts_moved(&mut self, of: Place, from: &[Extent], to: &[Extent]) {
        let Some((_, due)) = self.messages.get(&of) else { return };
        if let Some(kept) = self.kept.get_mut(due) {
            kept.parts.retain(|part| !from.contains(part));
            kept.parts.extend_from_slice(to);
        }
    }

    /// A copy of the message at `from` is durable at `to`; where the original lies, which is then to be written off. `None` when it
    /// is not here any more.
    pub fn moved(&mut self, from: Place, to: Extent) -> Option<Extent> {
        let (before, due) = self.messages.remove(&from)?;
        let copy = Locator::new(to.place, before.stamp(), before.expiry_s(), to.octets, before.flags());
        self.messages.insert(to.place, (copy, due));
        let kept = self.kept.get_mut(&due).into_iter().flat_map(|kept| &mut kept.messages);
        kept.filter(|place| **place == from).for_each(|place| *place = to.place);
        Some(before.extent())
    }

    /// How many messages are in it.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

fn due_at(cx: &Cx, due: Due) -> Tick {
    users::tick_of(cx, Wall(due.0.saturating_mul(1_000_000)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_strange_octets_are_not() {
        let stamps = [Stamp(7), Stamp(u64::MAX)];
        let binned = Binned::of(
            &Address::from_canonical(b"sip:bob@h"),
            Stamp(77),
            99,
            Reason::DeletedByOperator,
            stamps.into_iter(),
        );
        let draft = binned.draft();
        let read = Binned::recovered(draft.owner, draft.key, draft.stamp, draft.value).unwrap();
        assert_eq!(read, binned);
        assert_eq!((read.stamps().collect::<Vec<_>>(), read.reason()), (stamps.to_vec(), Reason::DeletedByOperator));
        // As the first version wrote it.
        let first = Binned::recovered(draft.owner, draft.key, draft.stamp, b"\x01\x63\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0")
            .unwrap();
        assert_eq!((first.until_s(), first.reason()), (99, Reason::DeletedByUser));
        assert_eq!(first.stamps().collect::<Vec<_>>(), [Stamp(7)]);
        for bad in [&b""[..], b"\x01short", b"\x03\0\0\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0\0\0odd"] {
            assert_eq!(Binned::recovered(b"sip:bob@h", draft.key, Stamp(1), bad), None);
        }
        assert_eq!(Binned::recovered(b"sip:bob@h", b"key", Stamp(1), draft.value), None);
    }
}
