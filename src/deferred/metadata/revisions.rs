//! Entity tags that move with the store (RFC 4825 8.5): a tag is kept while its user's list is the same, and none is given twice.
//!
//! Nothing tells us when a list changes: it is looked at when somebody asks. The tag that was told last is remembered together with a
//! fingerprint of the list; a list that looks otherwise gets a new one. A tag is a stamp, which only rises, and a number drawn by lot,
//! so that one of an earlier life of the daemon is not given again even if its clock was set back. What is forgotten costs a client
//! one answer in full.

use crate::base::spread::SpreadMap;
use crate::deferred::cx::Cx;
use crate::deferred::identity::Address;
use crate::store::queue::Queue;
use crate::store::record::{Locator, Stamp};
use std::fmt;

/// Users whose last tag is remembered, twice: those of whom somebody asked lately, and those before them. 32 octets each, 4 MiB a core;
/// clients ask every few minutes at most, so these are the clients of a hundred questions a second.
const REMEMBERED: usize = 65_536;

/// Which version of a user's document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revision {
    stamp: Stamp,
    chance: u64,
}

/// As the inside of an entity tag: 32 hexadecimal digits.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.stamp.0, self.chance)
    }
}

#[derive(Clone, Copy, Debug)]
struct Told {
    list: u64,
    revision: Revision,
}

/// The tags of one core's users. By the keyed hash of the address: whoever is taken for another gets a new tag.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    lately: SpreadMap<u64, Told>,
    before: SpreadMap<u64, Told>,
    scratch: Vec<u8>,
}

impl Revisions {
    /// The tag of a user whose list is this, of which a document has the first `most`.
    pub(super) fn of(&mut self, cx: &mut Cx, owner: &Address, queue: Option<&Queue>, most: usize) -> Revision {
        let stamps = queue.into_iter().flat_map(Queue::iter).take(most).map(Locator::stamp);
        self.scratch.clear();
        stamps.for_each(|stamp| self.scratch.extend_from_slice(&stamp.0.to_le_bytes()));
        let (user, list) = (cx.directory.hash(owner), cx.directory.hash(&self.scratch));
        let told = self.find(user).filter(|told| told.list == list);
        let told = told.unwrap_or_else(|| {
            let mut chance = [0; 8];
            cx.dice.fill(&mut chance);
            let revision = Revision { stamp: cx.stamps.next(cx.now), chance: u64::from_le_bytes(chance) };
            Told { list, revision }
        });
        self.tell(user, told);
        told.revision
    }

    /// The next tag of this user is a new one.
    pub(super) fn forget(&mut self, cx: &Cx, owner: &Address) {
        let user = cx.directory.hash(owner);
        self.lately.remove(&user);
        self.before.remove(&user);
    }

    fn find(&self, user: u64) -> Option<Told> {
        self.lately.get(&user).or_else(|| self.before.get(&user)).copied()
    }

    fn tell(&mut self, user: u64, told: Told) {
        if self.lately.len() >= REMEMBERED && !self.lately.contains_key(&user) {
            self.before = std::mem::take(&mut self.lately);
        }
        self.lately.insert(user, told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_remembered_and_memory_has_its_bound() {
        let told = |n: u64| Told { list: n, revision: Revision { stamp: Stamp(n), chance: n } };
        let mut revisions = Revisions::default();
        for n in 0..3 * REMEMBERED as u64 {
            // One of them asks again and again.
            revisions.tell(7, told(7));
            revisions.tell(n, told(n));
        }
        assert!(revisions.find(7).is_some_and(|told| told.list == 7));
        assert!(revisions.find(8).is_none());
        assert!(revisions.lately.len() + revisions.before.len() <= 2 * REMEMBERED);
        assert_eq!(told(0xab).revision.to_string(), "00000000000000ab00000000000000ab");
    }
}
