//! Whose document has changed, for an XDMS elsewhere that is kept up to date (12.2.2.8). Off, and free of cost, until somebody asks.
//!
//! There is no journal of changes: a document is made from the store, so all that must survive a crash is *whose* document may be
//! wrong. Those who have messages are known from the store. Those who have none any more, and of whom the XDMS may list some, have a
//! *mark*: a state, durable before the first message of theirs is ever listed there, and ended when an empty list has been taken.
//!
//! ```text
//!   mark durable ──▶ lists are written ──▶ ... ──▶ the empty one is taken ──▶ mark ended
//! ```
//! After a start everybody with messages or with a mark has changed, until the XDMS was looked at.

use crate::base::spread::SpreadSet;
use crate::deferred::cx::{Commit, Cx};
use crate::deferred::identity::Address;
use crate::deferred::inquiry::Answer;
use crate::deferred::users::Users;
use crate::store::directory::UserId;
use crate::store::log::Refused;
use crate::store::record::StateKind;
use crate::store::states::StateKey;
use std::collections::BTreeSet;

/// Users told in one answer.
pub const CHANGES_MAX: usize = 256;

/// What a mark says: version 1 of nothing else.
const MARK: &[u8] = &[1];

/// The users of one core whose documents have changed. Everybody is in it once at most, so `limits.users` bounds it.
#[derive(Debug, Default)]
pub struct Changes {
    /// Lately, and they have messages.
    fresh: SpreadSet<UserId>,
    /// Lately, and they have none any more; their number may be another user's by now.
    empty: BTreeSet<Address>,
    /// Before the daemon was started, perhaps.
    stale: SpreadSet<UserId>,
    stale_empty: Vec<Address>,
}

impl Changes {
    /// Everybody, as after a start.
    pub fn everybody(cx: &Cx, users: impl Iterator<Item = UserId>) -> Changes {
        let stale: SpreadSet<UserId> = users.collect();
        let marked = cx.states.owners(StateKind::Metadata).map(Address::from_canonical);
        let gone = marked.filter(|owner| cx.directory.find(owner).is_none_or(|user| !stale.contains(&user)));
        Changes { stale_empty: gone.collect(), stale, ..Changes::default() }
    }

    /// Something came for a user, or went and something is left.
    pub fn changed(&mut self, user: UserId) {
        self.stale.remove(&user);
        self.fresh.insert(user);
    }

    /// Nothing is left for a user. Who has no mark is listed nowhere.
    pub fn emptied(&mut self, cx: &Cx, user: UserId) {
        self.stale.remove(&user);
        self.fresh.remove(&user);
        let owner = Address::from_canonical(&cx.directory.address(user));
        if cx.states.has(&key(&owner)) {
            self.empty.insert(owner);
        }
    }

    /// Some of them, who are not in it any more; those who changed lately first.
    fn take(&mut self, cx: &Cx) -> Vec<Address> {
        let mut taken = Vec::new();
        while taken.len() < CHANGES_MAX
            && let Some(owner) = self.empty.pop_first()
        {
            taken.push(owner);
        }
        for set in [&mut self.fresh, &mut self.stale] {
            let some: Vec<UserId> = set.iter().take(CHANGES_MAX - taken.len()).copied().collect();
            some.iter().for_each(|user| _ = set.remove(user));
            taken.extend(some.into_iter().map(|user| Address::from_canonical(&cx.directory.address(user))));
        }
        let rest = self.stale_empty.len().saturating_sub(CHANGES_MAX - taken.len());
        taken.extend(self.stale_empty.drain(rest..));
        taken
    }
}

fn key(owner: &Address) -> StateKey {
    StateKey { kind: StateKind::Metadata, owner: owner.as_bytes().into(), key: Box::default() }
}

/// Who has changed since this was asked last; from the first time on it is kept.
pub(in crate::deferred) fn changes(cx: &Cx, users: &mut Users) -> Answer {
    Answer::Changes(users.changes(cx).take(cx))
}

/// A document of this user is about to be written elsewhere. `Done`: it may be. `Unknown`: there is nothing to be said of them, and
/// nothing was. `Busy`: the mark is not durable yet.
pub(in crate::deferred) fn mark(cx: &mut Cx, users: &mut Users, owner: &Address) -> Answer {
    let key = key(owner);
    if cx.states.is_durable(&key) {
        return Answer::Done;
    }
    if !cx.states.has(&key) {
        let user = cx.directory.find(owner);
        if user.and_then(|user| users.look(cx, user)).is_none_or(|queue| queue.is_empty()) {
            return Answer::Unknown;
        }
        match cx.set_state(key, MARK) {
            Ok((seq, written)) => cx.commit(seq, Commit::State(written)),
            // Nothing is written any more until a restart, which looks at everybody who has messages; that there may be a list of
            // somebody who has none is the lesser evil.
            Err(Refused::Poisoned) => return Answer::Done,
            Err(_) => {}
        }
    }
    Answer::Busy
}

/// An empty document of this user was taken elsewhere.
pub(in crate::deferred) fn settled(cx: &mut Cx, users: &mut Users, owner: &Address) -> Answer {
    let user = cx.directory.find(owner);
    if user.and_then(|user| users.look(cx, user)).is_none_or(|queue| queue.is_empty()) {
        cx.end_state(&key(owner));
    }
    Answer::Done
}
