//! Messages that clients could not read, and those that are left alone for it (RFC 4975 10.2).
//!
//! Memory only, like everything about attempts: after a restart whatever was not confirmed simply waits again. Knows
//! places; the message itself stays in its user's list and in the store, retrievable and deletable as before.

use crate::store::record::Place;
use std::collections::HashMap;

/// Attempts after which a message is not pushed any more: a client that could not read the same octets three times will
/// not read them the fourth.
pub const ATTEMPTS_MAX: u8 = 3;

/// Refused messages remembered at one time: 65,536 entries of 9 octets and their share of a table are 1 MiB a core. Beyond
/// them nothing is counted; such a message is tried at every trigger, which costs its own client's time and nothing else.
pub const REFUSALS_MAX: usize = 65_536;

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 400 or 423: the client made nothing of it.
    Unintelligible,
    /// The store has not what was accepted: no client is sent it.
    Damaged,
}

/// How often which messages were refused.
#[derive(Debug, Default)]
pub struct Refusals {
    attempts: HashMap<Place, u8>,
}

impl Refusals {
    /// Counts a refusal. True when the message is left alone from now on.
    //= RFC 4975 10.2: 400: the request was unintelligible; the same octets will not do better for ever, so three times and no more
    pub fn count(&mut self, place: Place, refusal: Refusal) -> bool {
        if self.attempts.len() >= REFUSALS_MAX && !self.attempts.contains_key(&place) {
            return false;
        }
        let attempts = self.attempts.entry(place).or_insert(0);
        *attempts = match refusal {
            Refusal::Unintelligible => attempts.saturating_add(1),
            Refusal::Damaged => ATTEMPTS_MAX,
        };
        *attempts >= ATTEMPTS_MAX
    }

    /// True when a message is not to be pushed.
    #[inline]
    pub fn is_poison(&self, place: Place) -> bool {
        !self.attempts.is_empty() && self.attempts.get(&place).is_some_and(|&attempts| attempts >= ATTEMPTS_MAX)
    }

    /// A message lies elsewhere now.
    pub fn moved(&mut self, from: Place, to: Place) {
        if !self.attempts.is_empty()
            && let Some(attempts) = self.attempts.remove(&from)
        {
            self.attempts.insert(to, attempts);
        }
    }

    /// A message is gone.
    pub fn forget(&mut self, place: Place) {
        if !self.attempts.is_empty() {
            self.attempts.remove(&place);
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
    fn its_memory_is_bounded() {
        let mut refusals = Refusals::default();
        (0..REFUSALS_MAX as u64 + 100).for_each(|n| {
            refusals.count(Place::from_u64(n), Refusal::Unintelligible);
        });
        assert_eq!(refusals.attempts.len(), REFUSALS_MAX);
        refusals.count(Place::from_u64(0), Refusal::Unintelligible);
        assert!(refusals.count(Place::from_u64(0), Refusal::Unintelligible));
    }
}
