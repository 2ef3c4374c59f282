//! What the disk says, and what happens because of it: a record that is durable, or never will be, ends what waited for it.

use super::core::Core;
use crate::base::net::CoreId;
use crate::deferred::cx::{Ask, Commit, Timer};
use crate::store::disk::DiskDone;
use crate::store::log::{self, LogEvent};
use crate::store::reclaim::{self, Wish};
use std::time::Duration;

/// A timer's grain: what is due now is due then.
const GRAIN: Duration = Duration::from_millis(1);

impl Core {
    pub(super) fn disk(&mut self, done: DiskDone) {
        if log::is_loader_ticket(done.ticket()) {
            let mut ended = self.cx.loader.done(done);
            while let Some(loaded) = ended {
                if loaded.raw {
                    self.forward.loaded(&mut self.cx, &mut self.users, loaded);
                } else if self.inquiries.owns(loaded.job) {
                    self.inquired(loaded.job, loaded.records);
                } else {
                    self.pushes.loaded(&mut self.cx, loaded.job, loaded.records);
                }
                ended = self.cx.loader.ended();
            }
            self.cx.loader.ask(&mut self.cx.disk);
            return;
        }
        if reclaim::is_reclaim_ticket(done.ticket()) {
            let now = self.cx.now.tick;
            let wish = self.reclaim.done(now, done, &mut self.cx.log, &mut self.cx.disk);
            self.grant(wish);
            self.reclaim();
            return;
        }
        match self.cx.log.done(done) {
            Some(LogEvent::Durable { up_to }) => {
                while self.cx.commits.front().is_some_and(|&(seq, _)| seq <= up_to) {
                    if let Some((_, commit)) = self.cx.commits.pop_front() {
                        self.durable(commit);
                    }
                }
            }
            Some(LogEvent::Failed { after, up_to, fault }) => {
                tracing::error!(
                    ?fault,
                    core = self.cx.core.0,
                    final_ = self.cx.log.is_poisoned(),
                    "the log failed: deposits on this core are refused until the disk is sound again"
                );
                let start = self.cx.commits.partition_point(|&(seq, _)| seq <= after);
                let end = self.cx.commits.partition_point(|&(seq, _)| seq <= up_to);
                let failed: Vec<Commit> = self.cx.commits.drain(start..end).map(|(_, commit)| commit).collect();
                for commit in failed {
                    self.failed(commit);
                }
            }
            None => {}
        }
    }

    fn durable(&mut self, commit: Commit) {
        match commit {
            Commit::Deposit(done) => {
                if let Some((user, arrival)) = self.deposits.durable(&mut self.cx, done) {
                    self.users.land(&mut self.cx, user, arrival);
                }
            }
            Commit::Publish(done) => {
                self.presences.durable(&mut self.cx, &self.users, &mut self.pushes, *done);
            }
            Commit::Retire(batch) => {
                self.users.durable(&mut self.cx, &batch);
                batch.offs.iter().for_each(|off| self.pushes.retired(off));
            }
            Commit::Moved(moved) => {
                let pushes = &self.pushes;
                let held = |user, place| pushes.holds(user, place);
                self.forward.durable(&mut self.cx, &mut self.users, moved, held);
            }
            Commit::Carried => self.carried(true),
            Commit::State(written) => self.cx.state_durable(&written),
            Commit::Note => {}
        }
    }

    /// Looks whether segments can be had back, and comes back when there is something to look at again.
    pub(super) fn reclaim(&mut self) {
        let now = self.cx.now.tick;
        let wish = self.reclaim.turn(now, &mut self.cx.log, &mut self.cx.disk);
        self.grant(wish);
        if let Some(timer) = self.reclaiming.take() {
            self.cx.timers.cancel(timer);
        }
        let at = self.reclaim.deadline().max(now + GRAIN);
        self.reclaiming = Some(self.cx.timer_at(at, Timer::Reclaim));
        self.cx.counts.reclaimed = self.reclaim.reclaimed();
    }

    fn carried(&mut self, durable: bool) {
        let now = self.cx.now.tick;
        self.reclaim.carried(now, durable, &self.cx.log, &mut self.cx.disk);
    }

    fn grant(&mut self, wish: Option<Wish>) {
        match wish {
            Some(Wish::Ring) => {
                let others = (0..self.cores).map(CoreId).filter(|&core| core != self.cx.core);
                self.cx.asks.extend(others.map(Ask::Ring));
            }
            Some(Wish::Tell(seq)) => self.cx.commit(seq, Commit::Carried),
            None => {}
        }
    }

    fn failed(&mut self, commit: Commit) {
        match commit {
            Commit::Deposit(lost) => self.deposits.failed(&mut self.cx, &lost),
            Commit::Publish(lost) => self.presences.failed(&mut self.cx, *lost),
            // Delivered, and the tombstone is lost: it is not sent again while we live, and at worst once more after a restart.
            Commit::Retire(batch) => {
                if !self.users.failed(&mut self.cx, &batch) {
                    batch.offs.iter().for_each(|off| self.pushes.retired(off));
                }
            }
            Commit::Moved(moved) => self.forward.failed(&mut self.users, moved),
            Commit::Carried => self.carried(false),
            Commit::State(lost) => self.cx.state_failed(&lost),
            Commit::Note => {}
        }
    }
}
