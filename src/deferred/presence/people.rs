//! Everybody of whom something is known, by address; and, by a number that the directory has at hand, whether that is so at all.
//!
//! Many a message comes for somebody who has long been away and of whom nothing is known. That is seen here by the hash in their entry
//! of the directory: their address need not be fetched, and not hashed anew.

use super::Presence;
use crate::base::split::{SplitMap, SpreadSplitMap};
use crate::deferred::identity::Address;
use crate::store::directory::Directory;

/// All of them.
#[derive(Default)]
pub(super) struct People {
    known: SplitMap<Address, Presence>,
    /// How many of them have this hash in the directory: one, but for chance.
    hashes: SpreadSplitMap<u64, u32>,
}

impl People {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// True when there is nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// False: nothing is known of anybody whose address has this hash in the directory.
    pub(super) fn may_know(&self, hash: u64) -> bool {
        self.hashes.contains_key(&hash)
    }

    /// True when something is known of a user.
    pub(super) fn contains_key(&self, owner: &Address) -> bool {
        self.known.contains_key(owner)
    }

    /// What is known of a user.
    pub(super) fn get(&self, owner: &Address) -> Option<&Presence> {
        self.known.get(owner)
    }

    /// The same, to change.
    pub(super) fn get_mut(&mut self, owner: &Address) -> Option<&mut Presence> {
        self.known.get_mut(owner)
    }

    /// What is known of a user, nothing if they are new here.
    pub(super) fn or_new(&mut self, directory: &Directory, owner: Address) -> &mut Presence {
        let (hash, hashes) = (directory.hash(&owner), &mut self.hashes);
        self.known.get_or_insert_with(owner, || {
            *hashes.get_or_insert_with(hash, || 0) += 1;
            Presence::unknown()
        })
    }

    /// Nothing is known of a user any more; what was.
    pub(super) fn remove(&mut self, directory: &Directory, owner: &Address) -> Option<Presence> {
        let removed = self.known.remove(owner)?;
        let hash = directory.hash(owner);
        if let Some(count) = self.hashes.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.hashes.remove(&hash);
            }
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_known_may_be_known_and_who_was_forgotten_is_not() {
        let directory = Directory::new(10, 1, [1; 16]);
        let address = |number: u32| Address::from_canonical(format!("sip:{number}@example.org").as_bytes());
        let may_know = |people: &People, number| people.may_know(directory.hash(&address(number)));
        let mut people = People::default();
        for number in 0..100 {
            assert!(!may_know(&people, number));
            people.or_new(&directory, address(number)).failures = number as usize;
            // Not counted twice.
            assert_eq!(people.or_new(&directory, address(number)).failures, number as usize);
            assert!(may_know(&people, number));
        }
        for number in (0..100).step_by(3) {
            assert!(
                people.remove(&directory, &address(number)).is_some_and(|removed| removed.failures == number as usize)
            );
            assert!(people.remove(&directory, &address(number)).is_none());
        }
        for number in 0..100 {
            let known = people.get(&address(number)).map(|presence| presence.failures as u32);
            assert_eq!(known, (number % 3 != 0).then_some(number));
            assert_eq!(may_know(&people, number), known.is_some());
        }
        assert_eq!((people.len(), people.hashes.len(), people.is_empty()), (66, 66, false));
    }
}
