//! Between the use cases of what goes: a write-off that is durable, or never will be, is told to those who wait for it, a dismissal
//! that is over is answered, the reports it owes find their home, and what recovery found of all this goes to whose business it is.

use super::core::Core;
use super::effect::Effect;
use super::letters::Letter;
use crate::deferred::bin::Binned;
use crate::deferred::cx::{Commit, Cx};
use crate::deferred::delete::{Deletions, House};
use crate::deferred::dismiss::{Because, Dismissed, Leaving};
use crate::deferred::identity::Address;
use crate::deferred::inquiry::Answer;
use crate::deferred::owed::{Owed, Recorded};
use crate::deferred::users::{Batch, Durable, WrittenOff};
use crate::store::directory::UserId;
use crate::store::reason::Reason;
use crate::store::record::{Locator, StateKind};
use crate::store::recovery::StateRecovered;
use crate::store::states::StateKey;
use std::time::Duration;

impl Core {
    /// A state that recovery found goes to whose business it is. `turn` paces the pushes that are due.
    pub(super) fn adopt_state(&mut self, state: StateRecovered, turn: &mut u32) {
        let StateRecovered { kind, owner, key, value, stamp, extent } = state;
        let named = StateKey { kind, owner: owner.clone(), key: key.clone() };
        self.cx.states.adopt(named.clone(), extent, stamp);
        match kind {
            StateKind::Publication => {
                *turn += 1;
                self.presences.adopt(&mut self.cx, Address::from_canonical(&owner), &value, *turn);
            }
            StateKind::Report => match Owed::recovered(&owner, &key, stamp, &value) {
                Some(owed) => self.reports.owe(&mut self.cx, Recorded { owed, extent }),
                None => {
                    tracing::error!("a stored delivery report cannot be read; it is forgotten");
                    self.cx.end_state(&named);
                }
            },
            StateKind::Bin => match Binned::recovered(&owner, &key, stamp, &value) {
                Some(binned) => {
                    let laid = self.users.unlist(&mut self.cx, binned, extent);
                    self.bin.keep(&mut self.cx, laid);
                }
                None => {
                    tracing::error!("a part of the DELETE bin cannot be read; its messages are their user's again");
                    self.cx.end_state(&named);
                }
            },
            StateKind::Subscription => {
                let owner = Address::from_canonical(&owner);
                let at = Duration::from_millis(u64::from(self.summaries.len() as u32));
                self.summaries.adopt(&mut self.cx, &mut self.users, owner, &key, &value, at);
            }
            StateKind::Settings | StateKind::Metadata => {}
        }
    }

    /// Messages go by policy.
    pub(super) fn dismiss(&mut self, user: UserId, gone: Vec<Locator>, reason: Reason) {
        if !gone.is_empty() {
            let (cx, users, pushes) = (&mut self.cx, &mut self.users, &mut self.pushes);
            let leaving = Leaving { user, gone, reason, because: Because::Policy, binned: false };
            self.dismissals.begin(cx, users, pushes, &self.reports, leaving);
        }
    }

    /// Answers those who asked for a deletion that is over, and sends what it owes.
    pub(super) fn dismissed(&mut self) {
        let done = self.dismissals.take_done();
        let owes = done.iter().any(|done| !done.owed.is_empty());
        for Dismissed { user, because, durable, owed } in done {
            if !durable {
                self.pushes.look_at(user);
            }
            match because {
                Because::Asked(asked) => {
                    let (deletions, house, cx) = self.house();
                    deletions.dismissed(cx, house, asked, durable);
                }
                Because::Operator { ticket, .. } => {
                    self.answer(ticket, if durable { Answer::Done } else { Answer::Failed })
                }
                Because::Policy => {}
            }
            //= 12.2.2.7-3: shall act according to 12.2.2.6 after the 200 OK
            owed.into_iter().for_each(|owed| self.owe(owed));
        }
        loop {
            let (deletions, house, cx) = self.house();
            if !deletions.resume(cx, house) {
                break;
            }
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
    pub(super) fn owe(&mut self, recorded: Recorded) {
        let home = self.cx.directory.home(&recorded.owed.to);
        if home == self.cx.core {
            self.reports.owe(&mut self.cx, recorded);
        } else {
            self.effects.push_back(Effect::Letter { to: home, letter: Letter::Owed(Box::new(recorded)) });
        }
    }

    /// What a batch said is durable: whoever waited for it hears of it.
    pub(super) fn written_off(&mut self, batch: Batch) {
        for Durable { off, owed, laid } in self.users.durable(&mut self.cx, batch) {
            self.pushes.retired(&off);
            self.summaries.changed(off.user);
            if let Some(laid) = laid {
                self.bin.keep(&mut self.cx, laid);
            }
            if let Some(dismissal) = off.dismissal {
                self.pushes.dismissed(off.user, &off.gone);
                self.dismissals.written(&mut self.cx, &mut self.users, dismissal, Some(owed));
            }
        }
    }

    /// These never will be written off. What was delivered is not sent again while we live, and at worst once more after a restart;
    /// what was to be deleted is its user's again.
    pub(super) fn not_written_off(&mut self, lost: Vec<WrittenOff>) {
        for off in lost {
            self.pushes.retired(&off);
            self.summaries.changed(off.user);
            if let Some(dismissal) = off.dismissal {
                self.dismissals.written(&mut self.cx, &mut self.users, dismissal, None);
            }
        }
    }

    /// A report that nothing durable owes yet.
    pub(super) fn promise(&mut self, owed: Owed) {
        let draft = owed.draft();
        if self.reports.is_full() {
            self.cx.counts.reports_given_up += 1;
            return;
        }
        match self.cx.log.append_state(draft.kind, draft.stamp, draft.owner, draft.key, draft.value) {
            Ok((extent, seq)) => self.cx.commit(seq, Commit::Owe(Box::new(Recorded { owed, extent }))),
            Err(_) => self.cx.counts.reports_given_up += 1,
        }
    }
}
