//! What a burst leaves behind is given back when it is over: memory that is kept for the next one, by the mind and by the allocator.
//!
//! The allocator looks for memory to give back when it is asked for some, so a thread that falls silent keeps what its last burst had: 100 MB
//! and more after a hundred thousand deposits a second. Who sees the daemon from outside takes that for what it needs. So a core that has worked
//! hard and has nothing to do lets go of it, once.

#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// How long a core is looked at before it is called busy or idle.
const LOOK: Duration = Duration::from_millis(500);

/// Completions in that time that make it busy: at a hundredth of what it can do, temporaries are few.
const BUSY: u32 = 1_000;

/// Not more often: giving back costs a millisecond (ten million messages stored), and what is given back is cleared by the kernel when it is
/// had again.
const AGAIN: Duration = Duration::from_secs(1);

/// When a core gives back.
#[derive(Debug)]
pub(super) struct Rest {
    since: Instant,
    completions: u32,
    /// It has been busy, or has just recovered, and nothing was given back since.
    burst: bool,
    again: Instant,
}

impl Rest {
    /// Of a core that has just recovered.
    pub(super) fn new(now: Instant) -> Rest {
        Rest { since: now, completions: 0, burst: true, again: now }
    }

    /// It took a completion in.
    pub(super) fn worked(&mut self) {
        self.completions = self.completions.saturating_add(1);
    }

    /// When [`Rest::is_over`] is to be asked again, whatever else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let watched = self.burst || self.completions >= BUSY;
        watched.then(|| (self.since + LOOK).max(self.again))
    }

    /// The core is about to sleep: true when a burst has just come to its end.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) < LOOK {
            return false;
        }
        let busy = self.completions >= BUSY;
        (self.since, self.completions) = (now, 0);
        self.burst |= busy;
        if busy || !self.burst || now < self.again {
            return false;
        }
        (self.burst, self.again) = (false, now + AGAIN);
        true
    }
}

/// Gives back to the system what nobody uses.
pub(super) fn give_back() {
    let began = Instant::now();
    // SAFETY: it may be called at any time on any thread; it looks at this thread's heap and at memory that is nobody's. Where another
    // allocator is in use it finds nothing.
    unsafe { libmimalloc_sys::mi_collect(true) };
    tracing::debug!(took_us = began.elapsed().as_micros() as u64, "memory of the last burst given back");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_each_burst_and_not_in_it() {
        let begin = Instant::now();
        let mut rest = Rest::new(begin);
        let at = |ms: u64| begin + Duration::from_millis(ms);
        assert!(!rest.is_over(at(499)) && rest.is_over(at(500)), "after recovery");
        assert!(!rest.is_over(at(600)));
        assert_eq!(rest.deadline(), None, "nothing is to be seen to");
        (0..BUSY).for_each(|_| rest.worked());
        assert!(!rest.is_over(at(700)));
        assert_eq!(rest.deadline(), Some(at(1_500)), "not so soon after the last time");
        assert!(!rest.is_over(at(1_000)), "busy");
        assert!(!rest.is_over(at(1_499)), "too soon");
        (0..BUSY).for_each(|_| rest.worked());
        assert!(!rest.is_over(at(1_600)), "busy again");
        assert!(rest.is_over(at(2_100)) && !rest.is_over(at(30_000)));
        (1..BUSY).for_each(|_| rest.worked());
        assert!(!rest.is_over(at(40_000)), "a little work leaves nothing behind");
    }
}
