//! Between the use cases of what goes: a dismissal that is over is answered, the reports it owes find their home, and what recovery
//! found of all this goes to whose business it is.

use super::core::Core;
use super::effect::Effect;
use super::letters::Letter;
use crate::deferred::bin::Binned;
use crate::deferred::cx::Cx;
use crate::deferred::delete::{Deletions, House};
use crate::deferred::dismiss::{Because, Dismissed, Leaving};
use crate::deferred::identity::Address;
use crate::deferred::owed::Owed;
use crate::store::directory::UserId;
use crate::store::record::{Locator, StateKind};
use crate::store::recovery::StateRecovered;

impl Core {
    /// A state that recovery found goes to whose business it is. `turn` paces the pushes that are due.
    pub(super) fn adopt_state(&mut self, state: StateRecovered, turn: &mut u32) {
        let StateRecovered { kind, owner, key, value, stamp } = state;
        match kind {
            StateKind::Publication => {
                *turn += 1;
                self.presences.adopt(&mut self.cx, Address::from_canonical(&owner), &value, *turn);
            }
            StateKind::Report => match Owed::recovered(&owner, &key, stamp, &value) {
                Some(owed) => self.reports.owe(&mut self.cx, owed),
                None => tracing::error!("a stored delivery report cannot be read; it is forgotten"),
            },
            StateKind::Bin => match Binned::recovered(&owner, &key, stamp, &value) {
                Some(binned) => {
                    self.users.unlist(&mut self.cx, &binned);
                    self.bin.keep(&mut self.cx, binned);
                }
                None => tracing::error!("a part of the DELETE bin cannot be read; its messages are their user's again"),
            },
            StateKind::Settings | StateKind::Subscription => {}
        }
    }

    /// Messages go by policy.
    pub(super) fn dismiss(&mut self, user: UserId, gone: Vec<Locator>) {
        if !gone.is_empty() {
            let (cx, users, pushes) = (&mut self.cx, &mut self.users, &mut self.pushes);
            let leaving = Leaving { user, gone, because: Because::Policy, binned: false };
            self.dismissals.begin(cx, users, pushes, &self.reports, leaving);
        }
    }

    /// Answers those who asked for a deletion that is over, and sends what it owes.
    pub(super) fn dismissed(&mut self) {
        let done = self.dismissals.take_done();
        let owes = done.iter().any(|done| !done.owed.is_empty());
        for Dismissed { because, durable, owed } in done {
            if let Because::Asked(asked) = because {
                self.deletions.dismissed(&mut self.cx, &mut self.users, asked, durable);
            }
            //= 12.2.2.7-3: shall act according to 12.2.2.6 after the 200 OK
            owed.into_iter().for_each(|owed| self.owe(owed));
        }
        if owes {
            self.reports.turn(&mut self.cx, &self.presences);
        }
        self.deletions.notify(&mut self.cx);
    }

    /// What a REFER is carried out with.
    pub(super) fn house(&mut self) -> (&mut Deletions, House<'_>, &mut Cx) {
        let house = House {
            users: &mut self.users,
            pushes: &mut self.pushes,
            dismissals: &mut self.dismissals,
            reports: &self.reports,
            bin: &self.bin,
        };
        (&mut self.deletions, house, &mut self.cx)
    }

    /// A report is owed, and durable: the home of whom it is for sends it.
    pub(super) fn owe(&mut self, owed: Owed) {
        let home = self.cx.directory.home(&owed.to);
        if home == self.cx.core {
            self.reports.owe(&mut self.cx, owed);
        } else {
            self.effects.push_back(Effect::Letter { to: home, letter: Letter::Owed(Box::new(owed)) });
        }
    }
}
