//! Users' deletions: what was answered 202 before the request left is not on the disk any more when its 200 leaves, and is not
//! pushed once its user has been told.

use super::Oracle;
use std::collections::BTreeSet;

/// A user's request that everything be deleted.
#[derive(Debug)]
pub(super) struct Erasing {
    user: usize,
    /// What it must reach.
    must: BTreeSet<u32>,
    /// Its 200 has left.
    told: bool,
}

/// Its name.
pub(crate) fn call_id(request: u32) -> String {
    format!("e{request:06}@sim")
}

fn number(call_id: &[u8]) -> Option<u32> {
    let digits = call_id.strip_prefix(b"e")?.strip_suffix(b"@sim")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Oracle {
    /// A request leaves: what has been sent so far may vanish, and what is sent before it is over; what was answered 202 must.
    pub(crate) fn erasing(&mut self, user: usize) -> u32 {
        let mut must = BTreeSet::new();
        for message in self.messages.values_mut().filter(|message| message.user == user) {
            message.erased = true;
            if message.accepted.is_some() && !message.twin {
                must.insert(message.number);
            }
        }
        self.erasings += 1;
        self.erasing.insert(self.erasings, Erasing { user, must, told: false });
        self.erasings
    }

    /// True while a request of this user's is not over.
    pub(super) fn is_erasing(&self, user: usize) -> bool {
        self.erasing.values().any(|erasing| erasing.user == user)
    }

    /// The daemon says that it is done: from here on no crash may bring back what it must have reached.
    pub(super) fn erasure_told(&mut self, call_id: &[u8]) {
        if let Some(request) = number(call_id)
            && let Some(erasing) = self.erasing.get_mut(&request)
            && !std::mem::replace(&mut erasing.told, true)
        {
            self.to_judge.push(request);
        }
    }

    /// Requests whose 200 left since the last call.
    pub(crate) fn take_told(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.to_judge)
    }

    /// What a start would find the moment the 200 left.
    pub(crate) fn judge_told(&mut self, request: u32, alive: &BTreeSet<u32>) {
        let Some(erasing) = self.erasing.get(&request) else { return };
        let has_twin = |number: &u32| self.messages.get(number).is_none_or(|message| message.twin);
        let left: Vec<u32> = erasing.must.intersection(alive).filter(|number| !has_twin(number)).copied().collect();
        if !left.is_empty() && !self.rot.forgets {
            self.violation(format!("a REFER was answered 200, and the disk still holds {left:?}"));
        }
    }

    /// The answer has come. Without one the request may come to pass at any time.
    pub(crate) fn erased(&mut self, request: u32, status: u16) {
        match status {
            200 => {
                let Some(erasing) = self.erasing.remove(&request) else { return };
                for number in erasing.must {
                    if let Some(message) = self.messages.get_mut(&number) {
                        message.deleted = true;
                    }
                }
            }
            408 | 503 => {}
            _ => self.violation(format!("a REFER was answered {status}")),
        }
    }
}
