//! Messages that clients did not take, why, and those that are left alone for it (RFC 4975 10.2).
//!
//! Memory only, like everything about attempts: after a restart whatever was not confirmed simply waits again. Knows
//! places; the message itself stays in its user's list and in the store, retrievable and deletable as before.

use super::payload::Unfit;
use crate::store::record::Place;
use std::collections::HashMap;

/// Attempts after which a message is not pushed any more: a client that could not read the same octets three times will
/// not read them the fourth.
pub const ATTEMPTS_MAX: u8 = 3;

/// Refused messages remembered at one time: 65,536 entries of 10 octets and their share of a table are 1 MiB a core. Beyond
/// them nothing is counted; such a message is tried at every trigger, which costs its own client's time and nothing else.
pub const REFUSALS_MAX: usize = 65_536;

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 400 or 423: the client made nothing of it.
    Unintelligible,
    /// The store has not what was accepted: no client is sent it.
    Damaged,
    /// The last client does not take it: too large, or of another type. Says nothing about the next one.
    Unfit(Unfit),
}

/// What is held against one message.
#[derive(Clone, Copy, Default, Debug)]
struct Record {
    attempts: u8,
    unfit: Option<Unfit>,
}

/// How often which messages were refused, and why the last client was not sent them.
#[derive(Debug, Default)]
pub struct Refusals {
    records: HashMap<Place, Record>,
}

impl Refusals {
    /// Counts a refusal. True when the message is left alone from now on.
    //= RFC 4975 10.2: 400: the request was unintelligible; the same octets will not do better for ever, so three times and no more
    pub fn count(&mut self, place: Place, refusal: Refusal) -> bool {
        if self.records.len() >= REFUSALS_MAX && !self.records.contains_key(&place) {
            return false;
        }
        let record = self.records.entry(place).or_default();
        match refusal {
            Refusal::Unintelligible => record.attempts = record.attempts.saturating_add(1),
            Refusal::Damaged => record.attempts = ATTEMPTS_MAX,
            Refusal::Unfit(unfit) => record.unfit = Some(unfit),
        }
        record.attempts >= ATTEMPTS_MAX
    }

    /// Why the last client that was to have a message was not sent it.
    pub fn unfit(&self, place: Place) -> Option<Unfit> {
        self.records.get(&place)?.unfit
    }

    /// True when a message is not to be pushed.
    #[inline]
    pub fn is_poison(&self, place: Place) -> bool {
        !self.records.is_empty() && self.records.get(&place).is_some_and(|record| record.attempts >= ATTEMPTS_MAX)
    }

    /// A message lies elsewhere now.
    pub fn moved(&mut self, from: Place, to: Place) {
        if !self.records.is_empty()
            && let Some(record) = self.records.remove(&from)
        {
            self.records.insert(to, record);
        }
    }

    /// A message is gone.
    pub fn forget(&mut self, place: Place) {
        if !self.records.is_empty() {
            self.records.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_refusal_is_the_last() {
        let (mut refusals, place) = (Refusals::default(), Place::from_u64(7));
        assert!(!refusals.count(place, Refusal::Unintelligible));
        assert!(!refusals.count(place, Refusal::Unintelligible));
        assert!(!refusals.is_poison(place));
        assert!(refusals.count(place, Refusal::Unintelligible));
        assert!(refusals.is_poison(place) && !refusals.is_poison(Place::from_u64(8)));
        (0..300).for_each(|_| assert!(refusals.count(place, Refusal::Unintelligible)));
        refusals.forget(place);
        assert!(!refusals.is_poison(place));
    }

    #[test]
    fn a_damaged_message_is_left_alone_at_once() {
        let mut refusals = Refusals::default();
        assert!(refusals.count(Place::from_u64(1), Refusal::Damaged));
        assert!(refusals.is_poison(Place::from_u64(1)));
    }

    #[test]
    fn what_one_client_does_not_take_is_noted_and_goes_to_the_next() {
        let (mut refusals, place, there) = (Refusals::default(), Place::from_u64(7), Place::from_u64(9));
        for _ in 0..5 {
            assert!(!refusals.count(place, Refusal::Unfit(Unfit::TooLarge)));
        }
        assert!(!refusals.is_poison(place));
        assert_eq!(refusals.unfit(place), Some(Unfit::TooLarge));
        refusals.moved(place, there);
        assert_eq!((refusals.unfit(place), refusals.unfit(there)), (None, Some(Unfit::TooLarge)));
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut refusals = Refusals::default();
        (0..REFUSALS_MAX as u64 + 100).for_each(|n| {
            refusals.count(Place::from_u64(n), Refusal::Unintelligible);
        });
        assert_eq!(refusals.records.len(), REFUSALS_MAX);
        refusals.count(Place::from_u64(0), Refusal::Unintelligible);
        assert!(refusals.count(Place::from_u64(0), Refusal::Unintelligible));
    }
}
