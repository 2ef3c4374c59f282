//! What the disk says, and what happens because of it: a record that is durable, or never will be, ends what waited for it.

use super::core::Core;
use crate::deferred::cx::Commit;
use crate::store::disk::DiskDone;
use crate::store::log::{self, LogEvent};

impl Core {
    pub(super) fn disk(&mut self, done: DiskDone) {
        if log::is_loader_ticket(done.ticket()) {
            let mut ended = self.cx.loader.done(done);
            while let Some(loaded) = ended {
                if self.inquiries.owns(loaded.job) {
                    self.inquired(loaded.job, loaded.records);
                } else {
                    self.pushes.loaded(&mut self.cx, loaded.job, loaded.records);
                }
                ended = self.cx.loader.ended();
            }
            self.cx.loader.ask(&mut self.cx.disk);
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
            Commit::Deposit(done) => self.deposits.durable(&mut self.cx, *done),
            Commit::Publish(done) => {
                self.presences.durable(&mut self.cx, &self.users, &mut self.pushes, *done);
            }
            Commit::Retire(off) => {
                self.users.retire(&mut self.cx, &off);
                self.pushes.retired(&off);
            }
            Commit::Note => {}
        }
    }

    fn failed(&mut self, commit: Commit) {
        match commit {
            Commit::Deposit(lost) => self.deposits.failed(&mut self.cx, *lost),
            Commit::Publish(lost) => self.presences.failed(&mut self.cx, *lost),
            // Delivered, and the tombstone is lost: it is not sent again while we live, and once more after a restart.
            Commit::Retire(off) => {
                self.users.retire(&mut self.cx, &off);
                self.pushes.retired(&off);
            }
            Commit::Note => {}
        }
    }
}
