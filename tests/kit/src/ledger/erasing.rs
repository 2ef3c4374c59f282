//! Users who have everything deleted that waits for them: what was accepted before the request left is not delivered any more once its
//! 200 has come, and what was sent before it was over may be gone.

use super::{Book, Ledger};
use std::time::Duration;

/// A request in the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Erasure(usize);

/// A user's request that everything be deleted.
pub(super) struct Erasing {
    user: String,
    /// What it must reach.
    must: Vec<String>,
    /// Its answer has come, or the daemon that it was sent to is dead.
    over: bool,
}

impl Ledger {
    /// Write this down before the first octet leaves.
    pub fn erasing(&self, user: &str) -> Erasure {
        let mut book = self.book();
        let theirs = book.sent.iter_mut().filter(|(_, sent)| sent.user == user);
        let must = theirs.filter_map(|(key, sent)| {
            sent.may_vanish = true;
            sent.accepted.is_some().then(|| key.clone())
        });
        let must = must.collect();
        book.erasings.push(Erasing { user: user.into(), must, over: false });
        Erasure(book.erasings.len() - 1)
    }

    /// Its 200 came.
    pub fn erased(&self, erasure: Erasure) {
        let now = self.now();
        let mut book = self.book();
        let erasing = &mut book.erasings[erasure.0];
        erasing.over = true;
        for key in std::mem::take(&mut erasing.must) {
            if let Some(sent) = book.sent.get_mut(&key) {
                sent.deleted.get_or_insert(now);
            }
        }
        self.0.news.notify_all();
    }

    /// It was refused: nothing of it will come to pass.
    pub fn not_erased(&self, erasure: Erasure) {
        self.book().erasings[erasure.0].over = true;
    }
}

impl Book {
    /// True while a request of this user's may yet come to pass.
    pub(super) fn is_erasing(&self, user: &str) -> bool {
        self.erasings.iter().any(|erasing| !erasing.over && erasing.user == user)
    }

    /// The daemon is dead, and what it had not done it will not do.
    pub(super) fn erasings_end(&mut self) {
        self.erasings.iter_mut().for_each(|erasing| erasing.over = true);
    }

    /// Nothing is pushed in a session that began after its deletion was answered.
    pub(super) fn judge_deletions(&self, faults: &mut Vec<String>) {
        for push in &self.pushes {
            for heard in &push.heard {
                let deleted: Option<Duration> = self.sent.get(&heard.key).and_then(|sent| sent.deleted);
                if let Some(at) = deleted.filter(|at| *at < push.invited) {
                    faults.push(format!(
                        "deleted: {} to {}, deletion answered at {at:?}, pushed at {:?}",
                        heard.key, push.user, push.invited
                    ));
                }
            }
        }
    }
}
