//! The one clock of the daemon.

use crate::base::clock::{Now, Tick, Wall};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Counts from the daemon's start; all cores hold copies of one, so ticks compare across cores.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock at tick 0.
    pub fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    /// Both times, now. A wall clock set before 1970 reads as 1970.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { tick: Tick(micros(self.started.elapsed())), wall: Wall(micros(wall)) }
    }

    /// The instant of `tick`; `None` for one beyond the system's range, such as [`Tick::NEVER`].
    pub fn instant(&self, tick: Tick) -> Option<Instant> {
        // Ten years ahead is never: it keeps arithmetic of timers below us in range.
        const HORIZON_US: u64 = 10 * 365 * 86_400 * 1_000_000;
        if tick.0 > HORIZON_US {
            return None;
        }
        self.started.checked_add(Duration::from_micros(tick.0))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_clock_agree_and_never_is_no_instant() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.now();
        let second = copy.now();
        assert!(second.tick >= first.tick);
        assert!(first.wall.seconds() > 1_600_000_000);
        assert!(clock.instant(Tick::NEVER).is_none());
        assert!(clock.instant(Tick(5)).is_some());
    }
}
