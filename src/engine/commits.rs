//! What the disk says, and what happens because of it: a record that is durable, or never will be, ends what waited for it.

use super::core::Core;
use crate::base::net::CoreId;
use crate::deferred::cx::{Ask, Commit, Deposited, Reader, Timer};
use crate::store::disk::DiskDone;
use crate::store::loader::Loaded;
use crate::store::log::{self, LogEvent};
use crate::store::queue::Depth;
use crate::store::reclaim::{self, Wish};
use std::time::Duration;

/// A timer's grain: what is due now is due then.
const GRAIN: Duration = Duration::from_millis(1);

/// So many commits behind the next one what a deposit's end needs is fetched from memory, step by step: where a step leads is known when the
/// one before has come. An end takes half a microsecond, memory a third of one.
const AHEAD: [usize; 5] = [6, 5, 4, 3, 2];

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
                    self.loaded(Reader::from_u64(loaded.job), loaded.records);
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
                        self.foresee();
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
            Reader::Feed(key) => self.pushes.fed(&mut self.cx, key, records),
            Reader::Summary(key) => self.summaries.loaded(&mut self.cx, &mut self.users, key, records),
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

    /// A group of thousands is gone through: what the next ones need comes from memory while one is ended.
    fn foresee(&self) {
        let deposit = |ahead: usize| match self.cx.commits.get(ahead) {
            Some((_, Commit::Deposit(done))) => Some(done),
            _ => None,
        };
        let [entry, list, blocks, block, end] = AHEAD.map(deposit);
        if let Some(done) = entry {
            self.cx.directory.foresee_user(done.user);
        }
        let is_home = |done: &&Deposited| self.cx.directory.home_of_user(done.user) == self.cx.core;
        match list {
            Some(done) if is_home(&done) => self.users.foresee_landing(done.user, done.fingerprint),
            Some(done) => self.deposits.foresee_elsewhere(done.fingerprint),
            None => {}
        }
        for (done, depth) in [(blocks, Depth::Blocks), (block, Depth::Block), (end, Depth::End)] {
            if let Some(done) = done.filter(is_home) {
                self.users.foresee_end(done.user, depth);
            }
        }
    }

    fn durable(&mut self, commit: Commit) {
        match commit {
            Commit::Deposit(mut done) => {
                let stored = done.stored.take();
                let landing = self.deposits.durable(&mut self.cx, done);
                // Of a twin its sender was told already.
                let is_new = landing.is_none_or(|(user, arrival)| self.users.land(&mut self.cx, user, arrival));
                let stored = stored.filter(|_| is_new);
                stored.into_iter().for_each(|owed| self.promise(*owed));
            }
            Commit::Publish(done) => {
                let owner = (!self.summaries.is_empty()).then(|| done.owner.clone());
                self.presences.durable(&mut self.cx, &self.users, &mut self.pushes, *done);
                owner.into_iter().for_each(|owner| self.summaries.reached(&self.cx, &owner));
            }
            Commit::Part(serial, extent) => self.larges.part_durable(&self.cx, serial, extent),
            Commit::Large(serial) => {
                let stored = self.larges.durable(&mut self.cx, &mut self.users, serial);
                stored.into_iter().for_each(|owed| self.promise(owed));
            }
            Commit::PartMoved(serial, copy) => self.forward.part_moved(&self.cx, serial, copy, true),
            Commit::Retire(batch) => self.written_off(*batch),
            Commit::Owe(recorded) => self.owe(*recorded),
            Commit::Moved(moved) => {
                let pushes = &self.pushes;
                let held = |user, place| pushes.holds(user, place);
                self.forward.durable(&mut self.cx, &mut self.users, &mut self.bin, moved, held);
            }
            Commit::Carried => self.carried(true),
            Commit::State(written) => self.cx.state_durable(&written),
            Commit::Subscribe(done) => self.summaries.durable(&mut self.cx, &mut self.users, *done),
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
            Commit::Retire(batch) => {
                let lost = self.users.failed(&mut self.cx, *batch);
                self.not_written_off(lost);
            }
            Commit::Part(serial, _) => self.larges.part_failed(&mut self.cx, serial),
            Commit::Large(serial) => self.larges.failed(&mut self.cx, serial),
            Commit::Owe(_) => self.cx.counts.reports_given_up += 1,
            Commit::Moved(moved) => self.forward.failed(&self.cx, &mut self.users, moved),
            Commit::PartMoved(serial, copy) => self.forward.part_moved(&self.cx, serial, copy, false),
            Commit::Carried => self.carried(false),
            Commit::State(lost) => self.cx.state_failed(&lost),
            Commit::Subscribe(lost) => self.summaries.failed(&mut self.cx, &mut self.users, *lost),
            Commit::Note => {}
        }
    }
}
