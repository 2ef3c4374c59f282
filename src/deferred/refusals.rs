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

/// Refused messages remembered at one time: 65,536 entries of 16 octets and their share of a table are 1 MiB a core. Beyond
/// them nothing is counted; such a message is tried at every trigger, which costs its own client's time and nothing else.
pub const REFUSALS_MAX: usize = 65_536;

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 400 or 423: the client made nothing of it.
    Unintelligible,
    /// The store has not what was accepted: no client is sent it.
    Damaged,
    /// Another status: this client did not take it, the next may. Not held against the message, and told to who asks.
    Declined(u16),
    /// It was not sent: the last client does not take it, too large or of another type. Told like one that was declined.
    Unfit(Unfit),
}

/// How often a message was refused, and why the last time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// How often that counts; at [`ATTEMPTS_MAX`] it is left alone.
    pub attempts: u8,
    /// The last time.
    pub last: Refusal,
}

/// How often which messages were refused, and why the last client was not sent them.
#[derive(Debug, Default)]
pub struct Refusals {
    refused: HashMap<Place, Refused>,
}

impl Refusals {
    /// Counts a refusal. True when the message is left alone from now on.
    //= RFC 4975 10.2: 400: the request was unintelligible; the same octets will not do better for ever, so three times and no more
    pub fn count(&mut self, place: Place, refusal: Refusal) -> bool {
        // What is only told to who asks leaves room for what counts.
        let room =
            if matches!(refusal, Refusal::Declined(_) | Refusal::Unfit(_)) { REFUSALS_MAX / 2 } else { REFUSALS_MAX };
        if self.refused.len() >= room && !self.refused.contains_key(&place) {
            return false;
        }
        let refused = self.refused.entry(place).or_insert(Refused { attempts: 0, last: refusal });
        refused.last = refusal;
        refused.attempts = match refusal {
            Refusal::Unintelligible => refused.attempts.saturating_add(1),
            Refusal::Damaged => ATTEMPTS_MAX,
            Refusal::Declined(_) | Refusal::Unfit(_) => refused.attempts,
        };
        refused.attempts >= ATTEMPTS_MAX
    }

    /// What became of a message, if anything is held against it.
    pub fn of(&self, place: Place) -> Option<Refused> {
        self.refused.get(&place).copied()
    }

    /// Why the last client that was to have a message was not sent it.
    pub fn unfit(&self, place: Place) -> Option<Unfit> {
        match self.of(place)?.last {
            Refusal::Unfit(unfit) => Some(unfit),
            _ => None,
        }
    }

    /// True when a message is not to be pushed.
    #[inline]
    pub fn is_poison(&self, place: Place) -> bool {
        !self.refused.is_empty() && self.refused.get(&place).is_some_and(|refused| refused.attempts >= ATTEMPTS_MAX)
    }

    /// A message lies elsewhere now.
    pub fn moved(&mut self, from: Place, to: Place) {
        if !self.refused.is_empty()
            && let Some(refused) = self.refused.remove(&from)
        {
            self.refused.insert(to, refused);
        }
    }

    /// A message is gone.
    pub fn forget(&mut self, place: Place) {
        if !self.refused.is_empty() {
            self.refused.remove(&place);
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
    fn what_one_client_declined_is_told_and_not_held_against_the_message() {
        let (mut refusals, place) = (Refusals::default(), Place::from_u64(7));
        (0..9).for_each(|_| assert!(!refusals.count(place, Refusal::Declined(413))));
        assert!(!refusals.is_poison(place));
        assert_eq!(refusals.of(place), Some(Refused { attempts: 0, last: Refusal::Declined(413) }));
        assert_eq!(refusals.of(Place::from_u64(8)), None);
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut refusals = Refusals::default();
        (0..REFUSALS_MAX as u64 + 100).for_each(|n| {
            refusals.count(Place::from_u64(n), Refusal::Unintelligible);
        });
        assert_eq!(refusals.refused.len(), REFUSALS_MAX);
        refusals.count(Place::from_u64(0), Refusal::Unintelligible);
        assert!(refusals.count(Place::from_u64(0), Refusal::Unintelligible));
    }
}
