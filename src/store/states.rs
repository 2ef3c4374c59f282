//! The states of the users at home on one core: where the record of each lies. Knows no value and no protocol.
//!
//! A state is written as a record of its own; the one before it is then written off like a message, so one rule frees all octets. A
//! state that ends is written off too: an empty value is never written.
//!
//! ```text
//!   set ──▶ appended ──durable──▶ held ──next one durable, or ended──▶ written off
//!                 └──failed──▶ (the one before stays)
//! ```

use super::record::{Extent, Place, Stamp, StateKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which state.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StateKey {
    /// Whose business.
    pub kind: StateKind,
    /// Whose.
    pub owner: Box<[u8]>,
    /// Which of the owner's.
    pub key: Box<[u8]>,
}

/// What is known of one state.
#[derive(Debug, Default)]
struct Held {
    /// Its record, once one is durable.
    durable: Option<(Extent, Stamp)>,
    /// Records appended and not durable yet.
    pending: u32,
    /// It is over: the record that is pending is written off when it is durable.
    over: bool,
}

/// The states of one home.
#[derive(Debug, Default)]
pub struct States {
    held: BTreeMap<Arc<StateKey>, Held>,
    /// The durable ones, by where they lie.
    places: BTreeMap<Place, Arc<StateKey>>,
}

impl States {
    /// None.
    pub fn new() -> States {
        States::default()
    }

    /// Its record is durable: recovery found it, or it was written together with others, or for another core.
    pub fn adopt(&mut self, key: StateKey, extent: Extent, stamp: Stamp) {
        let key = Arc::new(key);
        self.places.insert(extent.place, key.clone());
        self.held.insert(key, Held { durable: Some((extent, stamp)), ..Held::default() });
    }

    /// A record of it was appended.
    pub fn set(&mut self, key: &StateKey) {
        let held = match self.held.get_mut(key) {
            Some(held) => held,
            None => self.held.entry(Arc::new(key.clone())).or_default(),
        };
        held.pending += 1;
        held.over = false;
    }

    /// A record of it is durable; what is to be written off for it.
    pub fn durable(&mut self, key: &StateKey, extent: Extent, stamp: Stamp) -> Vec<Extent> {
        let mut off = Vec::new();
        let Some((name, _)) = self.held.get_key_value(key) else { return vec![extent] };
        let name = name.clone();
        let Some(held) = self.held.get_mut(key) else { return vec![extent] };
        held.pending = held.pending.saturating_sub(1);
        if let Some((before, _)) = held.durable.replace((extent, stamp)) {
            self.places.remove(&before.place);
            off.push(before);
        }
        if held.over && held.pending == 0 {
            off.push(extent);
            self.held.remove(key);
        } else {
            self.places.insert(extent.place, name);
        }
        off
    }

    /// A record of it never will be durable; what is to be written off for it.
    pub fn failed(&mut self, key: &StateKey) -> Option<Extent> {
        let held = self.held.get_mut(key)?;
        held.pending = held.pending.saturating_sub(1);
        if held.pending > 0 || held.durable.is_some() && !held.over {
            return None;
        }
        let off = self.held.remove(key)?.durable.map(|(extent, _)| extent);
        off.iter().for_each(|extent| _ = self.places.remove(&extent.place));
        off
    }

    /// It is over; what is to be written off for it.
    pub fn end(&mut self, key: &StateKey) -> Option<Extent> {
        let held = self.held.get_mut(key)?;
        if held.pending > 0 {
            held.over = true;
            return None;
        }
        let off = self.held.remove(key)?.durable.map(|(extent, _)| extent);
        off.iter().for_each(|extent| _ = self.places.remove(&extent.place));
        off
    }

    /// The durable records that lie in the segment of this place, from it on.
    pub fn since(&self, from: Place) -> impl Iterator<Item = (Extent, Stamp)> {
        let to = Place { offset: u32::MAX, ..from };
        self.places.range(from..=to).filter_map(|(_, key)| self.held.get(key)?.durable)
    }

    /// A copy of the record at `from` is durable at `to`. True when it has taken its place, which is then to be written off;
    /// false when the state is another or none by now.
    pub fn moved(&mut self, from: Place, to: Extent) -> bool {
        let Some(key) = self.places.remove(&from) else { return false };
        if let Some(held) = self.held.get_mut(&key)
            && let Some((extent, _)) = &mut held.durable
        {
            *extent = to;
        }
        self.places.insert(to.place, key);
        true
    }

    /// True when the record at this place holds.
    pub fn holds(&self, place: Place) -> bool {
        self.places.contains_key(&place)
    }

    /// True when there is one, durable or on its way, that is not over.
    pub fn has(&self, key: &StateKey) -> bool {
        self.held.get(key).is_some_and(|held| !held.over)
    }

    /// True when a record of it is durable, and it is not over.
    pub fn is_durable(&self, key: &StateKey) -> bool {
        self.held.get(key).is_some_and(|held| held.durable.is_some() && !held.over)
    }

    /// Who has a state of a kind, one owner after the other; of several of one owner, as often.
    pub fn owners(&self, kind: StateKind) -> impl Iterator<Item = &[u8]> {
        let first = StateKey { kind, owner: Box::default(), key: Box::default() };
        self.held.range(first..).map(|(key, _)| key).take_while(move |key| key.kind == kind).map(|key| &*key.owner)
    }

    /// How many there are, those under way included.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SegmentNo;

    fn key() -> StateKey {
        StateKey { kind: StateKind::Settings, owner: (*b"sip:a@x").into(), key: (*b"").into() }
    }

    fn at(segment: u32, offset: u32) -> Extent {
        Extent { place: Place { segment: SegmentNo(segment), offset }, octets: 80 }
    }

    #[test]
    fn a_newer_record_writes_the_older_off_when_it_is_durable_and_not_before() {
        let mut states = States::new();
        states.set(&key());
        assert_eq!(states.durable(&key(), at(1, 8), Stamp(1)), []);
        states.set(&key());
        assert!(states.holds(at(1, 8).place));
        assert_eq!(states.durable(&key(), at(2, 8), Stamp(2)), [at(1, 8)]);
        assert!(!states.holds(at(1, 8).place) && states.holds(at(2, 8).place));
        assert_eq!(states.since(at(2, 0).place).collect::<Vec<_>>(), [(at(2, 8), Stamp(2))]);
        assert_eq!(states.since(at(2, 9).place).count(), 0);
        assert_eq!(states.end(&key()), Some(at(2, 8)));
        assert!(states.is_empty() && states.places.is_empty());
    }

    #[test]
    fn a_state_that_ends_while_its_record_is_under_way_is_written_off_when_that_is_durable() {
        let mut states = States::new();
        states.adopt(key(), at(1, 8), Stamp(1));
        states.set(&key());
        assert_eq!(states.end(&key()), None);
        assert_eq!(states.durable(&key(), at(2, 8), Stamp(2)), [at(1, 8), at(2, 8)]);
        assert!(states.is_empty() && states.places.is_empty());
    }

    #[test]
    fn a_state_that_ends_and_begins_again_holds() {
        let mut states = States::new();
        states.set(&key());
        states.end(&key());
        states.set(&key());
        assert_eq!(states.durable(&key(), at(2, 8), Stamp(2)), []);
        assert_eq!(states.durable(&key(), at(2, 16), Stamp(3)), [at(2, 8)]);
        assert!(states.holds(at(2, 16).place));
    }

    #[test]
    fn when_a_record_fails_the_one_before_it_stays() {
        let mut states = States::new();
        states.adopt(key(), at(1, 8), Stamp(1));
        states.set(&key());
        assert_eq!(states.failed(&key()), None);
        assert!(states.holds(at(1, 8).place));
        states.set(&key());
        assert_eq!(states.end(&key()), None);
        assert_eq!(states.failed(&key()), Some(at(1, 8)));
        assert!(states.is_empty() && states.places.is_empty());
    }

    #[test]
    fn a_copy_takes_the_place_of_what_it_was_copied_from_unless_that_is_over() {
        let mut states = States::new();
        states.adopt(key(), at(1, 8), Stamp(1));
        assert!(states.moved(at(1, 8).place, at(5, 8)));
        assert!(states.holds(at(5, 8).place) && !states.holds(at(1, 8).place));
        assert!(!states.moved(at(1, 8).place, at(6, 8)));
        assert_eq!(states.end(&key()), Some(at(5, 8)));
    }
}
