//! Whose earliest message expires when: for each second the users of whom that is true, in a chain that goes through their lists.
//!
//! An ordered set of pairs cost some 20 octets a user, as its nodes are half full where seconds come in their order; a chain costs eight, and a
//! node for each second.

use super::lists::{Lists, NOBODY};
use crate::store::directory::UserId;
use std::collections::BTreeMap;

/// A place in a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: UserId,
    after: UserId,
}

impl Default for Links {
    fn default() -> Links {
        Links { before: NOBODY, after: NOBODY }
    }
}

/// All chains. A list's own `expiry_s` says which it stands in; 0: none.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    /// The first of each second.
    firsts: BTreeMap<u32, UserId>,
}

impl Expiries {
    /// The earliest second in which somebody is due.
    pub(super) fn earliest(&self) -> Option<u32> {
        self.firsts.first_key_value().map(|(second, _)| *second)
    }

    /// Puts a user who stands in no chain into that of this second. Nothing where the user has no list.
    pub(super) fn insert(&mut self, lists: &mut Lists, user: UserId, second: u32) {
        let Some(waiting) = lists.get_mut(&user) else { return };
        debug_assert_eq!(waiting.expiry_s, 0, "in one chain at most");
        let after = std::mem::replace(self.firsts.entry(second).or_insert(NOBODY), user);
        (waiting.expiry_s, waiting.links) = (second, Links { before: NOBODY, after });
        if let Some(next) = lists.get_mut(&after) {
            next.links.before = user;
        }
    }

    /// Takes a user out.
    pub(super) fn remove(&mut self, lists: &mut Lists, user: UserId) {
        let Some(waiting) = lists.get_mut(&user).filter(|waiting| waiting.expiry_s > 0) else { return };
        let second = std::mem::take(&mut waiting.expiry_s);
        let Links { before, after } = std::mem::take(&mut waiting.links);
        if let Some(next) = lists.get_mut(&after) {
            next.links.before = before;
        }
        match lists.get_mut(&before) {
            Some(previous) => previous.links.after = after,
            None if after == NOBODY => _ = self.firsts.remove(&second),
            None => _ = self.firsts.insert(second, after),
        }
    }

    /// Takes one out whose second is not after `now_s`.
    pub(super) fn pop_due(&mut self, lists: &mut Lists, now_s: u64) -> Option<UserId> {
        let (_, &user) = self.firsts.first_key_value().filter(|(second, _)| u64::from(**second) <= now_s)?;
        self.remove(lists, user);
        Some(user)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::directory::Directory;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn it_agrees_with_an_ordered_set(steps in proptest::collection::vec((0u32..12, 0u32..5, any::<bool>()), 1..300)) {
            let directory = Arc::new(Directory::new(20, 1, [1; 16]));
            let enter = |number: u32| directory.enter(format!("sip:{number}@example.org").as_bytes()).unwrap();
            let users: Vec<UserId> = (0..12).map(enter).collect();
            let (mut lists, mut expiries) = (Lists::new(directory.clone()), Expiries::default());
            let mut set = BTreeSet::new();
            for (number, second, in_it) in steps {
                let user = users[number as usize];
                match (in_it, second) {
                    (true, 0) => {
                        let due = expiries.pop_due(&mut lists, 2);
                        let known = due.and_then(|due| set.iter().find(|(at, user)| *user == due && *at <= 2).copied());
                        prop_assert_eq!(due.is_some(), set.iter().any(|(at, _)| *at <= 2));
                        prop_assert_eq!(known.is_some(), due.is_some());
                        known.into_iter().for_each(|known| _ = set.remove(&known));
                    }
                    (true, second) => {
                        lists.or_new(user);
                        expiries.remove(&mut lists, user);
                        set.retain(|(_, other)| *other != user);
                        expiries.insert(&mut lists, user, second);
                        set.insert((second, user));
                    }
                    (false, _) => {
                        expiries.remove(&mut lists, user);
                        set.retain(|(_, other)| *other != user);
                        lists.remove(&user);
                    }
                }
                prop_assert_eq!(expiries.earliest(), set.first().map(|(second, _)| *second));
            }
            let mut left = Vec::new();
            while let Some(user) = expiries.pop_due(&mut lists, 9) {
                left.push(user);
            }
            prop_assert_eq!(left.len(), set.len());
            prop_assert!(expiries.earliest().is_none());
        }
    }
}
