//! What the disk says, and what happens because of it: a record that is durable, or never will be, ends what waited for it.

use super::core::Core;
use crate::deferred::cx::{Commit, Reader};
use crate::deferred::owed::Owed;
use crate::store::disk::DiskDone;
use crate::store::loader::Loaded;
use crate::store::log::{self, LogEvent};

impl Core {
    pub(super) fn disk(&mut self, done: DiskDone) {
        if log::is_loader_ticket(done.ticket()) {
            if let Some(loaded) = self.cx.loader.done(done) {
                if self.inquiries.owns(loaded.job) {
                    self.inquired(loaded.job, loaded.records);
                } else {
                    self.loaded(Reader::from_u64(loaded.job), loaded.records);
                }
            }
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

    fn loaded(&mut self, reader: Reader, records: Vec<Loaded>) {
        match reader {
            Reader::Push(key) => self.pushes.loaded(&mut self.cx, key, records),
            Reader::Dismissal(key) => self.dismissals.loaded(&mut self.cx, &mut self.users, key, records),
            Reader::Deletion(key) => {
                let (deletions, house, cx) = self.house();
                deletions.loaded(cx, house, key, records);
            }
            Reader::Retrieval(key) => {
                let (cx, users, pushes) = (&mut self.cx, &mut self.users, &mut self.pushes);
                self.retrievals.loaded(cx, users, pushes, key, records);
            }
        }
    }

    fn durable(&mut self, commit: Commit) {
        match commit {
            Commit::Deposit(mut done) => {
                let stored = done.stored.take();
                self.deposits.durable(&mut self.cx, *done);
                stored.into_iter().for_each(|owed| self.promise(owed));
            }
            Commit::Publish(done) => {
                self.presences.durable(&mut self.cx, &self.users, &mut self.pushes, *done);
            }
            Commit::Retire(off) => {
                self.users.retire(&mut self.cx, &off);
                self.pushes.retired(&off);
                if let Some(binned) = off.bin {
                    self.bin.keep(&mut self.cx, binned);
                }
                if let Some(dismissal) = off.dismissal {
                    self.dismissals.written(&mut self.cx, &mut self.users, dismissal, Some(off.owed));
                }
            }
            Commit::Owe(owed) => self.owe(*owed),
            Commit::Note => {}
        }
    }

    /// A report that nothing durable owes yet.
    fn promise(&mut self, owed: Box<Owed>) {
        let draft = owed.draft();
        if self.reports.is_full() {
            self.cx.counts.reports_given_up += 1;
            return;
        }
        match self.cx.log.append_state(draft.kind, draft.stamp, draft.owner, draft.key, draft.value) {
            Ok(seq) => self.cx.commit(seq, Commit::Owe(owed)),
            Err(_) => self.cx.counts.reports_given_up += 1,
        }
    }

    fn failed(&mut self, commit: Commit) {
        match commit {
            Commit::Deposit(lost) => self.deposits.failed(&mut self.cx, *lost),
            Commit::Publish(lost) => self.presences.failed(&mut self.cx, *lost),
            // Delivered, and the tombstone is lost: it is not sent again while we live, and once more after a restart.
            Commit::Retire(off) => match off.dismissal {
                None => {
                    self.users.retire(&mut self.cx, &off);
                    self.pushes.retired(&off);
                }
                // Not delivered, and not deleted either: it is its user's again.
                Some(dismissal) => {
                    self.users.spare(&off);
                    self.dismissals.written(&mut self.cx, &mut self.users, dismissal, None);
                }
            },
            Commit::Owe(_) | Commit::Note => {}
        }
    }
}
