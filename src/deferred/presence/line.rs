//! Who is rung next when everybody comes back at once.
//!
//! ```text
//!   evaluate ──▶ room among the young? ──yes──▶ INVITE ──▶ young ──bound, over, or a while later──▶ not young
//!                       └──no──▶ in line ──▶ evaluated again when there is room, first come first served
//! ```
//! A client answers an INVITE and connects at once. Invited all in the same instant, fifteen thousand clients knock in the same
//! instant: the listener's backlog overflows, and whoever was turned away comes back after TCP's second. So the core has a bounded
//! number of *young* pushes: those whose INVITE left a moment ago and whose client has not connected yet. Only young ones count: a
//! phone that needs seconds to wake up holds nobody back.

use super::{Cause, Presences};
use crate::base::arena::Key;
use crate::base::clock::Tick;
use crate::deferred::cx::{Cx, Timer};
use crate::deferred::identity::Address;
use crate::deferred::push::Pushes;
use crate::deferred::users::Users;
use std::collections::VecDeque;
use std::time::Duration;

/// Young pushes of one core. The kernel's own bound on a backlog is 4,096 (`net.core.somaxconn`); a quarter of it is full twice
/// as fast as a core sets sessions up, with room for other cores' clients that land here.
const YOUNG_MAX: usize = 1_024;

/// How long a push is young: a client that is awake has answered and connected. With nobody answering, 1,024 in this time are
/// still 4,000 INVITEs a second.
const YOUNG_FOR: Duration = Duration::from_millis(250);

/// Pushes whose clients may knock at any moment.
#[derive(Debug, Default)]
pub(in crate::deferred) struct Young {
    order: VecDeque<(Tick, Key)>,
    len: usize,
}

impl Young {
    /// The first INVITE of a push leaves.
    pub(in crate::deferred) fn begin(&mut self, now: Tick, key: Key) {
        self.order.push_back((now + YOUNG_FOR, key));
        self.len += 1;
    }

    /// One that was young is bound, or over.
    pub(in crate::deferred) fn end(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    /// The next whose time is over.
    fn grown(&mut self, now: Tick) -> Option<Key> {
        self.order.front().filter(|(until, _)| *until <= now)?;
        self.order.pop_front().map(|(_, key)| key)
    }
}

impl Pushes {
    /// True while one more client may be asked to connect.
    pub fn may_ring(&self) -> bool {
        self.young.len < YOUNG_MAX
    }

    /// This push's client has connected, or will not: it makes room.
    pub(in crate::deferred) fn grown_up(&mut self, key: Key) {
        if let Some(push) = self.live.get_mut(key)
            && std::mem::take(&mut push.young)
        {
            self.young.end();
        }
    }

    /// Those that are not young any more.
    fn grow(&mut self, now: Tick) {
        while let Some(key) = self.young.grown(now) {
            self.grown_up(key);
        }
    }

    /// When the next one is not young any more.
    fn next_grown(&self) -> Option<Tick> {
        self.young.order.front().map(|(until, _)| *until)
    }
}

/// Users whose push waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// At most once each, so bounded as the users are who have published.
    waiting: VecDeque<Address>,
    /// A timer is set.
    armed: bool,
}

impl Presences {
    /// True when a push may begin without passing others by. Those whose turn it is are in front of the line.
    pub(super) fn may_begin(&self, pushes: &Pushes, cause: Cause) -> bool {
        pushes.may_ring() && (cause == Cause::Turn || self.line.waiting.is_empty())
    }

    /// A user's push waits for its turn.
    pub(super) fn stand_in_line(&mut self, cx: &mut Cx, pushes: &Pushes, owner: &Address) {
        if let Some(user) = self.users.get_mut(owner)
            && !std::mem::replace(&mut user.in_line, true)
        {
            self.line.waiting.push_back(owner.clone());
            cx.counts.pushes_in_line += 1;
        }
        self.look_again(cx, pushes);
    }

    /// Begins the pushes that have waited longest, as many as there is room for.
    pub fn next_in_line(&mut self, cx: &mut Cx, users: &Users, pushes: &mut Pushes) {
        if self.line.waiting.is_empty() {
            return;
        }
        pushes.grow(cx.now.tick);
        while pushes.may_ring()
            && let Some(owner) = self.line.waiting.pop_front()
        {
            let Some(user) = self.users.get_mut(&owner) else { continue };
            user.in_line = false;
            // What has happened meanwhile counts: they may have left again, or been pushed to for another reason.
            self.evaluate(cx, users, pushes, &owner, Cause::Turn);
        }
        self.look_again(cx, pushes);
    }

    /// The timer of the line has fired.
    pub fn line_timer(&mut self) {
        self.line.armed = false;
    }

    /// Sets the timer for when there will be room, whatever clients do.
    fn look_again(&mut self, cx: &mut Cx, pushes: &Pushes) {
        if self.line.waiting.is_empty() || self.line.armed {
            return;
        }
        let at = pushes.next_grown().unwrap_or(cx.now.tick);
        cx.timer_at(at, Timer::Line);
        self.line.armed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_young_until_it_is_bound_or_its_time_is_over() {
        let mut young = Young::default();
        let mut arena = crate::base::arena::Arena::new();
        let keys: Vec<Key> = (0..3).map(|n| arena.insert_with(|_| n)).collect();
        for (at, key) in keys.iter().enumerate() {
            young.begin(Tick(at as u64), *key);
        }
        assert_eq!((young.len, young.grown(Tick(0))), (3, None));
        let first = Tick(0) + YOUNG_FOR;
        assert_eq!((young.grown(first), young.grown(first)), (Some(keys[0]), None));
        young.end();
        young.end();
        assert_eq!(young.len, 1);
    }
}
