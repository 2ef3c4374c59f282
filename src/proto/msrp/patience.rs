//! When an answer is late, lost or overdue (RFC 4975 7.1.1; [`crate::manual::peers`]).
//!
//! Counts from the chunk or from the last answer, whichever is later: a slow link that answers steadily is not a dead one.

use super::transactions::Transaction;
use super::window::IN_TIME;
use crate::base::clock::Tick;
use std::time::Duration;

/// How long a session has waited and may wait.
#[derive(Debug)]
pub struct Patience {
    tx_timeout: Duration,
    last_answer: Tick,
    /// The answer that is missing now has been called late already.
    lagging: bool,
    /// The transaction that was called lost.
    lost: Option<u16>,
}

impl Patience {
    /// For answers that must come within `tx_timeout`.
    pub fn new(tx_timeout: Duration) -> Patience {
        Patience { tx_timeout, last_answer: Tick::default(), lagging: false, lost: None }
    }

    /// True, once, when the oldest transaction's answer is late.
    pub fn is_late(&mut self, now: Tick, oldest: Option<(u16, &Transaction)>) -> bool {
        let late = oldest.is_some_and(|(_, oldest)| now > self.since(oldest) + IN_TIME);
        late && !std::mem::replace(&mut self.lagging, true)
    }

    /// An answer came.
    pub fn answered(&mut self, now: Tick) {
        self.last_answer = now;
        self.lagging = false;
    }

    /// True, once for each, when the oldest transaction was overtaken: one that was sent more than a second later, at
    /// `at`, has been answered.
    pub fn is_lost(&mut self, at: Tick, oldest: Option<(u16, &Transaction)>) -> bool {
        let Some((number, _)) = oldest.filter(|(_, oldest)| at > oldest.at + IN_TIME) else { return false };
        self.lost.replace(number) != Some(number)
    }

    /// True when the oldest transaction has waited for too long.
    //= RFC 4975 7.1.1: no 200 within 30 seconds from the last byte: the request probably failed
    pub fn is_over(&self, now: Tick, oldest: Option<(u16, &Transaction)>) -> bool {
        oldest.is_some_and(|(_, oldest)| now >= self.since(oldest) + self.tx_timeout)
    }

    /// When to look again.
    pub fn deadline(&self, oldest: Option<(u16, &Transaction)>) -> Option<Tick> {
        let late = if self.lagging { Duration::MAX } else { IN_TIME + Duration::from_millis(1) };
        oldest.map(|(_, oldest)| self.since(oldest) + self.tx_timeout.min(late))
    }

    fn since(&self, oldest: &Transaction) -> Tick {
        oldest.at.max(self.last_answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::msrp::transactions::Carries;

    #[test]
    fn late_is_said_once_and_overdue_counts_from_the_last_answer() {
        let oldest = Transaction { carries: Carries::Binding, octets: 0, at: Tick(0) };
        let oldest = Some((7, &oldest));
        let mut patience = Patience::new(Duration::from_secs(30));
        assert_eq!(patience.deadline(oldest), Some(Tick(1_001_000)));
        assert!(!patience.is_late(Tick(1_000_000), oldest));
        assert!(patience.is_late(Tick(1_001_000), oldest));
        assert!(!patience.is_late(Tick(1_001_000), oldest));
        assert_eq!(patience.deadline(oldest), Some(Tick(30_000_000)));
        patience.answered(Tick(29_000_000));
        assert!(!patience.is_over(Tick(58_999_999), oldest));
        assert!(patience.is_over(Tick(59_000_000), oldest));
        assert!(patience.is_lost(Tick(1_000_001), oldest));
        assert!(!patience.is_lost(Tick(2_000_001), oldest));
        assert_eq!(patience.deadline(None), None);
    }
}
