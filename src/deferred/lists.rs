//! The lists of the users at home here, one beside the other: a million of them are no rarity. The directory keeps, in an entry that is
//! looked at anyway, where a user's stands.
//!
//! A hash table would hold its places between two and one times as often as it needs them, 57 octets each; here a list costs its own.

use super::users::Waiting;
use crate::base::prefetch::prefetch_value;
use crate::store::directory::{Directory, UserId};
use std::sync::Arc;

/// Lists that get their memory together: 48 KiB, so that a daemon with few users holds little, and nothing is ever moved.
const TOGETHER: usize = 1024;

/// Nobody: more than any directory has entries.
pub(super) const NOBODY: UserId = UserId(u32::MAX);

/// All of them.
pub(super) struct Lists {
    directory: Arc<Directory>,
    blocks: Vec<Box<[Waiting]>>,
    /// Places that were had before.
    free: Vec<u32>,
    /// Places that were ever had.
    fresh: u32,
    len: usize,
}

impl Lists {
    /// Nobody has one yet.
    pub(super) fn new(directory: Arc<Directory>) -> Lists {
        Lists { directory, blocks: Vec::new(), free: Vec::new(), fresh: 0, len: 0 }
    }

    /// How many users have one.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// True when nobody has.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Everybody who has one.
    pub(super) fn keys(&self) -> impl Iterator<Item = UserId> {
        self.blocks.iter().flatten().map(|waiting| waiting.user).filter(|&user| user != NOBODY)
    }

    /// Where a user's stands. What the directory says may be left over from whoever had the number before, at another home: the
    /// place itself says whose it is.
    fn place(&self, user: UserId) -> Option<(usize, usize)> {
        if user == NOBODY {
            // Free places are nobody's.
            return None;
        }
        let place = self.directory.list_of(user) as usize;
        let (block, at) = (place / TOGETHER, place % TOGETHER);
        (self.blocks.get(block)?.get(at)?.user == user).then_some((block, at))
    }

    /// A user's.
    pub(super) fn get(&self, user: &UserId) -> Option<&Waiting> {
        let (block, at) = self.place(*user)?;
        self.blocks.get(block)?.get(at)
    }

    /// A user's, to be changed.
    pub(super) fn get_mut(&mut self, user: &UserId) -> Option<&mut Waiting> {
        let (block, at) = self.place(*user)?;
        self.blocks.get_mut(block)?.get_mut(at)
    }

    /// Says that a user's will be asked for soon.
    pub(super) fn foresee(&self, user: UserId) {
        let place = self.directory.list_of(user) as usize;
        if let Some(waiting) = self.blocks.get(place / TOGETHER).and_then(|block| block.get(place % TOGETHER)) {
            prefetch_value(&waiting.user);
            prefetch_value(&waiting.queue);
        }
    }

    /// True when the user has one.
    pub(super) fn contains_key(&self, user: &UserId) -> bool {
        self.place(*user).is_some()
    }

    /// A user's, an empty one if there was none.
    pub(super) fn or_new(&mut self, user: UserId) -> &mut Waiting {
        let (block, at) = match self.place(user) {
            Some(place) => place,
            None => self.make(user),
        };
        &mut self.blocks[block][at]
    }

    /// A place for a user who has none.
    fn make(&mut self, user: UserId) -> (usize, usize) {
        let place = self.free.pop().unwrap_or_else(|| {
            if self.fresh as usize == self.blocks.len() * TOGETHER {
                self.blocks.push((0..TOGETHER).map(|_| Waiting::default()).collect());
            }
            self.fresh += 1;
            self.fresh - 1
        });
        let (block, at) = (place as usize / TOGETHER, place as usize % TOGETHER);
        self.blocks[block][at].user = user;
        self.directory.set_list_of(user, place);
        self.len += 1;
        (block, at)
    }

    /// Takes a user's away.
    pub(super) fn remove(&mut self, user: &UserId) -> Option<Waiting> {
        let (block, at) = self.place(*user)?;
        self.free.push((block * TOGETHER + at) as u32);
        self.len -= 1;
        Some(std::mem::take(&mut self.blocks[block][at]))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn users(directory: &Directory, count: u32) -> Vec<UserId> {
        (0..count).map(|number| directory.enter(format!("sip:{number}@example.org").as_bytes()).unwrap()).collect()
    }

    #[test]
    fn everybody_finds_their_own_and_places_are_had_again() {
        let directory = Arc::new(Directory::new(5_000, 1, [1; 16]));
        let users = users(&directory, 3_000);
        let mut lists = Lists::new(directory);
        assert!(lists.get(&NOBODY).is_none() && lists.is_empty() && users.iter().all(|user| lists.get(user).is_none()));
        for (number, &user) in users.iter().enumerate() {
            lists.or_new(user).expiry_s = number as u32;
        }
        assert_eq!((lists.len(), lists.blocks.len()), (3_000, 3));
        let third = |list: &[UserId]| list.iter().copied().step_by(3).collect::<Vec<_>>();
        for user in third(&users) {
            assert!(lists.remove(&user).is_some() && lists.remove(&user).is_none() && !lists.contains_key(&user));
        }
        assert_eq!((lists.len(), lists.keys().count()), (2_000, 2_000));
        assert!(lists.get(&NOBODY).is_none(), "a free place is no user's");
        for (number, user) in users.iter().enumerate() {
            let found = lists.get(user).map(|waiting| waiting.expiry_s);
            assert_eq!(found, (number % 3 != 0).then_some(number as u32));
        }
        for user in third(&users) {
            assert_eq!(lists.or_new(user).expiry_s, 0, "it is a new one");
        }
        assert_eq!((lists.len(), lists.blocks.len()), (3_000, 3));
    }

    /// Two homes have one user each, in the first place; then the first's number comes to the second.
    #[test]
    fn what_is_left_over_of_another_home_is_nobodys() {
        let directory = Arc::new(Directory::new(10, 2, [1; 16]));
        let users = users(&directory, 2);
        let (mut one, mut other) = (Lists::new(directory.clone()), Lists::new(directory));
        one.or_new(users[0]).expiry_s = 7;
        one.remove(&users[0]);
        other.or_new(users[1]).expiry_s = 8;
        assert!(other.get(&users[0]).is_none() && one.get(&users[0]).is_none());
        assert_eq!(other.or_new(users[0]).expiry_s, 0);
        assert_eq!(other.get(&users[1]).unwrap().expiry_s, 8);
    }
}
