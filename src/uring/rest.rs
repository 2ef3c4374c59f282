//! What a burst leaves behind is given back when it is over: memory that is kept for the next one, by the mind and by the allocator.
//!
//! The allocator looks for memory to give back when it is asked for some, so a thread that falls silent keeps what its last burst had: 100 MB
//! and more after a hundred thousand deposits a second. Who sees the daemon from outside takes that for what it needs. So a core that has worked
//! hard and has nothing to do lets go of it, once.
//!
//! Until then little is given back ([`keep_for_a_minute`]): what the allocator gives back between two allocations of a core that is busy stops
//! it for milliseconds, and is had again, page by page, a moment later.

#![allow(unsafe_code)]

use crate::engine::input::Input;
use crate::store::disk::DiskDone;
use std::time::{Duration, Instant};

/// How long a core is looked at before it is called busy or idle.
const LOOK: Duration = Duration::from_millis(500);

/// Work in that time that makes it busy: so many completions, or 4 MB, a hundredth of what it can do. Below, temporaries are few.
const BUSY: u32 = 1_000;

/// Octets that count as much as a completion. Where the disk is slow a hundred thousand deposits a second come and go in a few hundred
/// completions, and leave the largest buffers of all.
const OCTETS: usize = 4 * 1024;

/// What a connection that has ended counts: its buffers were lent until then.
const ENDED: u32 = 64;

/// Not more often: giving back costs a millisecond (ten million messages stored), and what is given back is cleared by the kernel when it is
/// had again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a burst over UDP leaves: its transactions keep their answers for 64*T1 = 32 s (RFC 3261 17.2.2), and end one by one. A little later
/// memory is given back once more.
const LATE: Duration = Duration::from_secs(35);

/// When a core gives back.
#[derive(Debug)]
pub(super) struct Rest {
    since: Instant,
    work: u32,
    /// It has been busy, or has just recovered, and nothing was given back since.
    burst: bool,
    again: Instant,
    /// When what the last burst left for a while is free, too.
    late: Option<Instant>,
}

impl Rest {
    /// Of a core that has just recovered.
    pub(super) fn new(now: Instant) -> Rest {
        Rest { since: now, work: 0, burst: true, again: now, late: None }
    }

    /// It took a completion in.
    pub(super) fn worked(&mut self, input: &Input) {
        let octets = match input {
            Input::Received { outcome: Ok(octets), .. } => *octets,
            Input::Sent { gather, .. } | Input::Disk(DiskDone::Committed { gather, .. }) => gather.len(),
            Input::Disk(DiskDone::Read { buffer, .. }) => buffer.len(),
            Input::Closed { .. } => return self.count(ENDED),
            _ => 0,
        };
        self.count(1 + u32::try_from(octets / OCTETS).unwrap_or(u32::MAX - 1));
    }

    fn count(&mut self, work: u32) {
        self.work = self.work.saturating_add(work);
    }

    /// When [`Rest::is_over`] is to be asked again, whatever else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let watched = self.burst || self.work >= BUSY;
        let at = if watched { Some(self.again) } else { self.late };
        // Not before it can be answered: who is woken for nothing asks again at once.
        at.map(|at| at.max(self.since + LOOK))
    }

    /// The core is about to sleep: true when a burst has just come to its end.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) < LOOK {
            return false;
        }
        let busy = self.work >= BUSY;
        (self.since, self.work) = (now, 0);
        self.burst |= busy;
        let is_late = self.late.is_some_and(|late| now >= late);
        if busy || !self.burst && !is_late || now < self.again {
            return false;
        }
        self.late = self.burst.then_some(now + LATE);
        (self.burst, self.again) = (false, now + AGAIN);
        true
    }
}

/// The allocator's option `purge_delay`: for how long memory that is nobody's is kept, in milliseconds. The bindings do not name it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// So long memory that is nobody's is kept while no core rests: a minute, from the first of it on. Then all of it is given back at once, on
/// the thread that asks for memory next: 3 to 4 ms, sixty times as seldom as by the allocator's own choice.
const KEPT_MS: std::ffi::c_long = 60_000;

/// Has the allocator keep what nobody uses for longer. Where `MIMALLOC_PURGE_DELAY` is set, that is what holds. To be called before
/// there are threads.
pub fn keep_for_a_minute() {
    // SAFETY: an option is a number; no other thread reads it yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT_MS) };
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
    use crate::base::net::ConnId;
    use bytes::BytesMut;

    /// The number of an option is nowhere but in the allocator's own header.
    #[test]
    fn the_option_is_the_one_that_is_meant() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
            return;
        }
        // SAFETY: a number is read; this process has one test.
        let before = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(before, 1_000, "the allocator's own: a second");
        keep_for_a_minute();
        // SAFETY: the same.
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, KEPT_MS);
    }

    #[test]
    fn memory_is_given_back_once_after_each_burst_and_not_in_it() {
        let begin = Instant::now();
        let mut rest = Rest::new(begin);
        let at = |ms: u64| begin + Duration::from_millis(ms);
        assert!(!rest.is_over(at(499)) && rest.is_over(at(500)), "after recovery");
        assert!(!rest.is_over(at(600)));
        assert_eq!(rest.deadline(), Some(at(35_500)), "nothing but what is kept for a while");
        rest.count(BUSY);
        assert!(!rest.is_over(at(700)));
        assert_eq!(rest.deadline(), Some(at(1_500)), "not so soon after the last time");
        assert!(!rest.is_over(at(1_000)), "busy");
        assert!(!rest.is_over(at(1_499)), "too soon");
        rest.count(BUSY);
        assert!(!rest.is_over(at(1_600)), "busy again");
        assert!(rest.is_over(at(2_100)) && !rest.is_over(at(30_000)));
        assert!(!rest.is_over(at(36_900)) && !rest.is_over(at(37_100)));
        assert_eq!(rest.deadline(), Some(at(37_400)), "a look is not over yet");
        assert!(rest.is_over(at(37_400)) && !rest.is_over(at(40_000)), "once more, when transactions have ended");
        assert_eq!(rest.deadline(), None, "nothing is to be seen to");
        rest.count(BUSY - 1);
        assert!(!rest.is_over(at(50_000)), "a little work leaves nothing behind");
    }

    /// A disk that takes a tenth of a second for a commit: few completions and nothing given back, for good.
    #[test]
    fn large_completions_make_a_burst_as_many_do() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let over = |count: usize, octets: usize| {
            let mut rest = Rest::new(begin);
            assert!(rest.is_over(at(500)));
            for number in 0..count {
                rest.worked(&Input::Received {
                    conn: ConnId(number as u64),
                    buffer: BytesMut::new(),
                    outcome: Ok(octets),
                });
            }
            assert!(!rest.is_over(at(1_000)), "busy until now, or never");
            rest.is_over(at(1_500))
        };
        assert!(over(16, 256 * 1024) && over(1_000, 10), "a burst");
        assert!(!over(1, 1 << 20) && !over(900, 300), "and none");
        let mut rest = Rest::new(begin);
        assert!(rest.is_over(at(500)));
        (0..16).for_each(|number| rest.worked(&Input::Closed { conn: ConnId(number) }));
        assert!(!rest.is_over(at(1_000)) && rest.is_over(at(1_500)), "what they had been lent");
    }
}
