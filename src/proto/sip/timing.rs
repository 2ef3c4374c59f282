//! The timers of RFC 3261 table 4 and RFC 6026, by their letters. Knows durations, not transactions.

use crate::base::clock::Tick;
use std::time::Duration;

/// The three times from which every SIP timer follows (RFC 3261 17.1.1.1 and table 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// An estimate of the round-trip time: 500 ms.
    pub t1: Duration,
    /// The longest interval between two repetitions of a non-INVITE request or an INVITE response: 4 s.
    pub t2: Duration,
    /// The longest time a message stays in the network: 5 s.
    pub t4: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

/// An INVITE that rings is answered 100 by us when nobody has said anything by then (RFC 3261 17.2.1).
pub const TRYING_AFTER: Duration = Duration::from_millis(200);

/// Timer D is at least this long over datagrams, whatever T1 is here: the peer's T1 is not known (RFC 3261 17.1.1.2).
const TIMER_D_MIN: Duration = Duration::from_secs(32);

/// Nobody upstream waits longer for the final answer to an INVITE: a proxy's timer C is a little over 3 minutes
/// (RFC 3261 16.6-11).
pub const INVITE_ANSWER_MAX: Duration = Duration::from_secs(180);

impl Timing {
    /// 64*T1, 32 s by default: timers B, F, H, L, M, and J over datagrams.
    pub fn patience(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// Timer D: how long an INVITE client absorbs repeated final responses.
    pub fn d(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.patience().max(TIMER_D_MIN) }
    }

    /// Timer I: how long an INVITE server absorbs repeated ACKs.
    pub fn i(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t4 }
    }

    /// Timer J: how long a server repeats its final response.
    pub fn j(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.patience() }
    }

    /// Timer K: how long a client absorbs repeated final responses.
    pub fn k(&self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t4 }
    }

    /// When a client's timer E has reached T2, counted from its request: 0.5 + 1 + 2 = 3.5 s by default.
    ///
    //= RFC 4320 4.1: MUST NOT respond 100 over an unreliable transport before Timer E is reset to T2
    pub fn e_reaches_t2(&self) -> Duration {
        // Asked with every request, so counted in whole microseconds, as ticks are: a `Duration` costs more to add and compare.
        let micros = |duration: Duration| {
            duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
        };
        let (mut sum, mut interval, t2) = (0u64, micros(self.t1), micros(self.t2));
        // T1 of zero would never grow; 32 doublings take any other beyond any T2.
        for _ in 0..32 {
            if interval >= t2 {
                break;
            }
            sum = sum.saturating_add(interval);
            interval = interval.saturating_mul(2);
        }
        Duration::from_micros(sum)
    }
}

/// A message that goes out again and again at growing intervals: timers A, E, G and the repetition of a 2xx.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repeat {
    at: Tick,
    interval: Duration,
}

impl Repeat {
    /// First repetition one `interval` from `now`. No interval is shorter than the wheel can tell, or repeating would not end.
    pub fn starting(now: Tick, interval: Duration) -> Repeat {
        let interval = interval.max(Duration::from_millis(1));
        Repeat { at: now + interval, interval }
    }

    /// No repetition: the transport does that.
    pub fn never() -> Repeat {
        Repeat { at: Tick::NEVER, interval: Duration::ZERO }
    }

    /// From the next repetition on, one each `interval`.
    pub fn settle(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// When the next one is due.
    pub fn at(&self) -> Tick {
        self.at
    }

    /// True when it is to go out now. Then [`Repeat::again`].
    pub fn is_due(&self, now: Tick) -> bool {
        self.at <= now && self.at != Tick::NEVER
    }

    /// It has gone out: the next interval is twice as long, `most` at the longest.
    ///
    /// Counted from `now` and not from when it was due: a core that was late does not send a volley.
    pub fn again(&mut self, now: Tick, most: Duration) {
        self.interval = self.interval.saturating_mul(2).min(most.max(Duration::from_millis(1)));
        self.at = now + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Tick {
        Tick(ms * 1_000)
    }

    #[test]
    fn the_timers_have_the_lengths_of_table_4() {
        let timing = Timing::default();
        assert_eq!(timing.patience(), Duration::from_secs(32));
        assert_eq!(timing.e_reaches_t2(), Duration::from_millis(3_500));
        assert_eq!(timing.d(false), Duration::from_secs(32));
        assert_eq!(timing.j(false), Duration::from_secs(32));
        assert_eq!((timing.i(false), timing.k(false)), (Duration::from_secs(5), Duration::from_secs(5)));
        for zero in [timing.d(true), timing.i(true), timing.j(true), timing.k(true)] {
            assert_eq!(zero, Duration::ZERO);
        }
        let quick = Timing { t1: Duration::from_millis(10), ..timing };
        assert_eq!(quick.d(false), Duration::from_secs(32), "the peer's T1 is not known");
        assert_eq!(Timing { t1: Duration::ZERO, ..timing }.e_reaches_t2(), Duration::ZERO);
    }

    #[test]
    fn a_repetition_doubles_its_interval_up_to_the_most() {
        let mut repeat = Repeat::starting(ms(0), Duration::from_millis(500));
        let mut at = Vec::new();
        for now in (0..16_000).step_by(100) {
            if repeat.is_due(ms(now)) {
                repeat.again(ms(now), Duration::from_secs(4));
                at.push(now);
            }
        }
        assert_eq!(at, [500, 1_500, 3_500, 7_500, 11_500, 15_500]);
        assert!(!Repeat::never().is_due(Tick::NEVER));
    }

    #[test]
    fn a_late_core_repeats_once_and_not_a_volley() {
        let mut repeat = Repeat::starting(ms(0), Duration::from_millis(500));
        assert!(repeat.is_due(ms(9_000)));
        repeat.again(ms(9_000), Duration::from_secs(4));
        assert!(!repeat.is_due(ms(9_000)));
        assert_eq!(repeat.at(), ms(10_000));
    }
}
