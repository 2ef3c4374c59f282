//! The DELETE bin (12.1.3.1): what a user deleted stays in the log for a while, out of everybody's sight, and is then purged.
//!
//! Nobody can address it. A deleted message leaves its user's list, counts and quota at once; only its tombstone waits. Where
//! `policy.bin_retention` is zero there is no bin, and the tombstone is the deletion.

use super::cx::{Commit, Cx, Timer};
use super::identity::Address;
use super::users;
use crate::base::clock::Wall;
use crate::store::record::{Locator, Place, Stamp, StateDraft, StateKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// Messages in the bin of one core: 8 octets each, 8 MiB. What is deleted beyond them is purged at once.
pub const BINNED_MAX: usize = 1 << 20;

/// A log that takes no tombstones is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Version of the octets of a state's value.
const VERSION: u8 = 1;

/// Messages that went into the bin together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binned {
    owner: Address,
    /// Tells it from the owner's others: the stamp it was decided at.
    key: [u8; 8],
    stamp: Stamp,
    /// When it is purged, in seconds since 1970.
    until_s: u64,
    /// `version, until_s, places`.
    value: Vec<u8>,
}

impl Binned {
    /// These messages of one user, from now on.
    pub fn new(cx: &mut Cx, owner: &Address, gone: &[Locator]) -> Binned {
        let stamp = cx.stamps.next(cx.now);
        let until_s = cx.now.wall.seconds().saturating_add(cx.policy.bin_retention.as_secs());
        Binned::of(owner, stamp, until_s, gone.iter().map(Locator::place))
    }

    fn of(owner: &Address, stamp: Stamp, until_s: u64, places: impl Iterator<Item = Place>) -> Binned {
        let mut value = vec![VERSION];
        value.extend_from_slice(&until_s.to_le_bytes());
        places.for_each(|place| value.extend_from_slice(&place.to_u64().to_le_bytes()));
        Binned { owner: owner.clone(), key: stamp.0.to_le_bytes(), stamp, until_s, value }
    }

    /// What recovery found.
    pub fn recovered(owner: &[u8], key: &[u8], stamp: Stamp, value: &[u8]) -> Option<Binned> {
        let (&version, rest) = value.split_first()?;
        let (until_s, places) = rest.split_first_chunk::<8>()?;
        if version != VERSION || places.len() % 8 != 0 {
            return None;
        }
        let (owner, key) = (Address::from_canonical(owner), key.try_into().ok()?);
        Some(Binned { owner, key, stamp, until_s: u64::from_le_bytes(*until_s), value: value.to_vec() })
    }

    /// For the record that says so.
    pub fn draft(&self) -> StateDraft<'_> {
        StateDraft { kind: StateKind::Bin, stamp: self.stamp, owner: &self.owner, key: &self.key, value: &self.value }
    }

    /// Whose they were.
    pub fn owner(&self) -> &Address {
        &self.owner
    }

    /// Which messages.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let places = self.value.get(9..).unwrap_or_default();
        places.as_chunks::<8>().0.iter().map(|place| Place::from_u64(u64::from_le_bytes(*place)))
    }
}

/// The bin of one core.
#[derive(Default)]
pub struct Bin {
    kept: BTreeMap<(u64, [u8; 8]), Binned>,
    messages: usize,
}

impl Bin {
    /// True when what is deleted now goes into the bin.
    pub fn is_open(&self, cx: &Cx) -> bool {
        !cx.policy.bin_retention.is_zero() && self.messages < BINNED_MAX
    }

    /// Its record is durable: from now on it waits to be purged.
    pub fn keep(&mut self, cx: &mut Cx, binned: Binned) {
        self.messages += binned.places().count();
        let at = users::tick_of(cx, Wall(binned.until_s.saturating_mul(1_000_000)));
        cx.timer_at(at, Timer::Bin);
        self.kept.insert((binned.until_s, binned.key), binned);
    }

    /// Purges what is due: tombstones, and the end of the state, in one record.
    //= 12.1.3.1: deleting results in an item transferred into a "DELETE bin" or Garbage collector bin
    pub fn turn(&mut self, cx: &mut Cx) {
        while let Some(first) = self.kept.first_entry() {
            if first.get().until_s > cx.now.wall.seconds() {
                break;
            }
            let binned = first.get();
            let places: Vec<Place> = binned.places().collect();
            let end = StateDraft { stamp: cx.stamps.next(cx.now), value: b"", ..binned.draft() };
            match cx.log.append_tombstones_owing(&places, &[end]) {
                Ok(seq) => {
                    cx.commit(seq, Commit::Note);
                    cx.counts.purged += places.len() as u64;
                    self.messages -= places.len();
                    first.remove();
                }
                Err(_) => {
                    cx.timer(AGAIN, Timer::Bin);
                    return;
                }
            }
        }
        // The next one's time; also where the wall clock was set back since this timer was set.
        if let Some((&(until_s, _), _)) = self.kept.first_key_value() {
            let at = users::tick_of(cx, Wall(until_s.saturating_mul(1_000_000)));
            cx.timer_at(at, Timer::Bin);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_strange_octets_are_not() {
        let places = [Place::from_u64(7), Place::from_u64(u64::MAX)];
        let binned = Binned::of(&Address::from_canonical(b"sip:bob@h"), Stamp(77), 99, places.into_iter());
        let draft = binned.draft();
        let read = Binned::recovered(draft.owner, draft.key, draft.stamp, draft.value).unwrap();
        assert_eq!(read, binned);
        assert_eq!(read.places().collect::<Vec<_>>(), places);
        for bad in [&b""[..], b"\x01short", b"\x02\0\0\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0\0\0odd"] {
            assert_eq!(Binned::recovered(b"sip:bob@h", draft.key, Stamp(1), bad), None);
        }
        assert_eq!(Binned::recovered(b"sip:bob@h", b"key", Stamp(1), draft.value), None);
    }
}
