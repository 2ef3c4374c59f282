//! Publications and registrations on their way to the disk: what was known before each, in case it never gets there.

use super::Presence;
use crate::base::clock::Wall;
use crate::base::net::Flow;
use crate::deferred::bindings::Bindings;
use crate::proto::sip::publication::Publications;

/// What a publication changes about a user.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) publications: Publications,
    pub(super) flow: Option<Flow>,
    pub(super) wish: Option<(bool, Wall)>,
    pub(super) bindings: Bindings,
}

/// What was known before each publication that is neither durable nor lost, in order. As many as the log has commits under way.
#[derive(Default, Debug)]
pub(super) struct Pending {
    before: Vec<(u64, Known)>,
    editions: u64,
}

impl Pending {
    /// True when all is durable.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    fn begin(&mut self, before: Known) -> u64 {
        self.editions += 1;
        self.before.push((self.editions, before));
        self.editions
    }

    /// It is on the disk.
    pub(super) fn durable(&mut self, edition: u64) {
        self.before.retain(|&(pending, _)| pending != edition);
    }

    /// It never will be. What is to be known again; `None` where a later one has been built on it, which now stands on what was
    /// before both.
    fn lost(&mut self, edition: u64) -> Option<Known> {
        let at = self.before.iter().position(|&(pending, _)| pending == edition)?;
        let (_, before) = self.before.remove(at);
        match self.before.get_mut(at) {
            Some((_, later)) => {
                *later = before;
                None
            }
            None => Some(before),
        }
    }
}

impl Presence {
    /// From now on this is known, unless the disk does not take it. The number to say so by.
    pub(super) fn know(&mut self, now: Known) -> u64 {
        let publications = std::mem::replace(&mut self.publications, now.publications);
        let before = Known {
            publications,
            flow: std::mem::replace(&mut self.flow, now.flow),
            wish: std::mem::replace(&mut self.wish, now.wish),
            bindings: std::mem::replace(&mut self.bindings, now.bindings),
        };
        self.pending.begin(before)
    }

    /// The disk did not take it.
    pub(super) fn take_back(&mut self, edition: u64) {
        if let Some(Known { publications, flow, wish, bindings }) = self.pending.lost(edition) {
            (self.publications, self.flow, self.wish, self.bindings) = (publications, flow, wish, bindings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(at: u64) -> Known {
        Known {
            publications: Publications::new(),
            flow: None,
            wish: Some((true, Wall(at))),
            bindings: Bindings::default(),
        }
    }

    fn wish(user: &Presence) -> Option<u64> {
        user.wish.map(|(_, when)| when.0)
    }

    #[test]
    fn what_the_disk_did_not_take_was_not_whatever_was_built_on_it() {
        let mut user = Presence::unknown();
        let (first, second) = (user.know(known(1)), user.know(known(2)));
        user.take_back(first);
        assert_eq!(wish(&user), Some(2), "the second may still be taken");
        user.take_back(second);
        assert_eq!(wish(&user), None);
        let (third, fourth) = (user.know(known(3)), user.know(known(4)));
        user.pending.durable(third);
        user.take_back(fourth);
        assert_eq!((wish(&user), user.pending.is_empty()), (Some(3), true));
        let (fifth, sixth) = (user.know(known(5)), user.know(known(6)));
        user.take_back(fifth);
        user.pending.durable(sixth);
        assert_eq!((wish(&user), user.pending.is_empty()), (Some(6), true));
        user.take_back(sixth);
        assert_eq!(wish(&user), Some(6), "once");
    }
}
