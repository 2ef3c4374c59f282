//! Time as a value. Nobody below `uring/` reads a clock; `now` is an argument.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Monotonic time in microseconds since the daemon started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Tick(pub u64);

/// Wall-clock time in microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Wall(pub u64);

/// Both clocks, read together once a turn.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Now {
    /// For timers and latencies.
    pub tick: Tick,
    /// For `Date`, expiry and stamps.
    pub wall: Wall,
}

impl Tick {
    /// A time that never comes.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// Microseconds since `earlier`; zero when it is not earlier.
    pub fn since_us(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Tick {
    type Output = Tick;
    fn add(self, by: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Tick> for Tick {
    type Output = Duration;
    fn sub(self, earlier: Tick) -> Duration {
        Duration::from_micros(self.since_us(earlier))
    }
}

impl Wall {
    /// Whole seconds since 1970-01-01 UTC.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole milliseconds since 1970-01-01 UTC.
    pub fn millis(self) -> u64 {
        self.0 / 1_000
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, by: Duration) -> Wall {
        Wall(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_add_and_subtract_without_wrapping() {
        assert_eq!(Tick(5) + Duration::from_millis(1), Tick(1_005));
        assert_eq!(Tick::NEVER + Duration::from_secs(1), Tick::NEVER);
        assert_eq!(Tick(1) - Tick(2), Duration::ZERO);
        assert_eq!(Wall(1_999_999).seconds(), 1);
    }
}
