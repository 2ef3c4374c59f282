//! What is known of a user's client and of the next push, for an operator.

use super::{Cause, Hold, Presences};
use crate::base::clock::{Tick, Wall};
use crate::deferred::cx::Cx;
use crate::deferred::identity::Address;
use crate::deferred::inquiry::Seen;
use crate::deferred::push::{End, Pushes};
use crate::deferred::users::Users;

/// An ended push in a few words.
pub(super) fn in_words(end: End) -> &'static str {
    match end {
        End::Completed => "everything was delivered",
        End::Transient(_) => "failed on the way",
        End::Busy(_) => "the user declined",
        End::GiveUp => "the client or the network refused",
        End::Unfit => "the client takes no form in which messages can be sent",
        End::Glare => "crossed with a request of the client",
    }
}

/// The wall clock's time of a tick.
fn wall(cx: &Cx, at: Tick) -> Wall {
    let (now, at) = (cx.now.tick.0, at.0);
    Wall(if at >= now { cx.now.wall.0.saturating_add(at - now) } else { cx.now.wall.0.saturating_sub(now - at) })
}

impl Presences {
    /// What is known of a user; `None` when nothing was published.
    pub fn seen(&self, cx: &Cx, owner: &Address) -> Option<Seen> {
        let user = self.users.get(owner)?;
        let next = match user.hold {
            Hold::Until { at, .. } => Some(at),
            _ => None,
        };
        let least = user.last_attempt.map(|last| last + cx.policy.push_min_interval).filter(|&at| at > cx.now.tick);
        Some(Seen {
            online: user.is_online(cx.now.wall),
            wants: user.wants_delivery(&cx.policy, cx.now.wall),
            failures: u32::try_from(user.failures).unwrap_or(u32::MAX),
            last_attempt: user.last_attempt.map(|at| wall(cx, at)),
            last_outcome: user.last_outcome,
            next_attempt: next.max(least).map(|at| wall(cx, at)),
            waits_for_trigger: matches!(user.hold, Hold::Trigger | Hold::Document),
        })
    }

    /// An operator wants a push now: what holds it back is forgotten, as a new PUBLISH would do. False when none began: nobody is
    /// there, or the user wants none.
    pub fn push_now(&mut self, cx: &mut Cx, users: &Users, pushes: &mut Pushes, owner: &Address) -> bool {
        let Some(user) = self.users.get_mut(owner) else { return false };
        user.last_attempt = None;
        self.evaluate(cx, users, pushes, owner, Cause::Fresh);
        cx.directory.find(owner).is_some_and(|id| pushes.is_running(id))
    }
}
