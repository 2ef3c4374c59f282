//! Is the daemon alive, and is it ready? One answer for probes, metrics and the page.
//!
//! Knows the meters of all cores, the clock and the daemon's phase. Knows no HTTP.
//!
//! ```text
//!   starting ──ready──▶ ready ◀──▶ drained ──SIGTERM──▶ stopping
//! ```
//! A core is *silent* when its last turn is longer ago than [`PATIENCE`]. A core without work sleeps and would be silent with
//! good reason, so somebody has to ring it now and then: [`BEAT`] says how often, `admin` does it.

use super::stored::Stored;
use crate::base::clock::Tick;
use crate::base::net::CoreId;
use crate::engine::meter::{Meter, Reading};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often each core is rung. An empty turn is about a microsecond: a second of rest costs nothing.
pub const BEAT: Duration = Duration::from_secs(1);

/// A core that has not turned for this long does not work: five beats, and 5,000 of the longest turns.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Where the daemon is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// What is stored is being read, or cores are being started.
    Starting,
    /// Every listener accepts and every log has recovered.
    Ready,
    /// An operator moves the deposits elsewhere: nobody new should be sent here.
    Drained,
    /// SIGTERM has come: sessions say good-bye.
    Stopping,
}

impl Phase {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Drained => "drained",
            Phase::Stopping => "stopping",
        }
    }
}

/// One core that does not turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Silent {
    /// Which.
    pub core: CoreId,
    /// For how long.
    pub since: Duration,
}

/// What everybody who asks about the daemon looks at.
#[derive(Debug)]
pub struct Health {
    meters: Vec<Arc<Meter>>,
    phase: AtomicU8,
    /// Cores are expected to turn from then on.
    ready_at: AtomicU64,
    stored: OnceLock<Stored>,
    /// When the message was taken in that has waited longest, in seconds since 1970; 0: none waits.
    oldest_s: AtomicU64,
}

impl Health {
    /// The daemon starts; one meter per core, in their order.
    pub fn new(meters: Vec<Arc<Meter>>) -> Arc<Health> {
        Arc::new(Health {
            meters,
            phase: AtomicU8::new(Phase::Starting as u8),
            ready_at: AtomicU64::new(Tick::NEVER.0),
            stored: OnceLock::new(),
            oldest_s: AtomicU64::new(0),
        })
    }

    /// What is stored has been read.
    pub fn watch(&self, stored: Stored) {
        let _ = self.stored.set(stored);
    }

    /// What is stored, once that is known.
    pub fn stored(&self) -> Option<&Stored> {
        self.stored.get()
    }

    /// Since when, in seconds since 1970, the message waits that has waited longest; `None`: none does.
    pub fn saw_oldest(&self, since_s: Option<u64>) {
        self.oldest_s.store(since_s.unwrap_or(0), Ordering::Relaxed);
    }

    /// The same, as of the last look.
    pub fn oldest_s(&self) -> Option<u64> {
        Some(self.oldest_s.load(Ordering::Relaxed)).filter(|since_s| *since_s > 0)
    }

    /// What wants a person, a sentence each with its remedy; none: all is well.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        for (core, reading) in self.readings().iter().enumerate() {
            if reading.log_poisoned > 0 {
                troubles.push(format!(
                    "core {core}: its log failed, deposits there get 503 and pushes go on; look at the kernel's log and the disk below data_dir, then restart"
                ));
            }
            if reading.disk_full > 0 {
                troubles.push(format!(
                    "core {core}: the disk is full, deposits there get 503, pushes and deletions go on; make room below data_dir"
                ));
            }
            if reading.records_damaged > 0 {
                troubles.push(format!(
                    "core {core}: {} stored records were damaged and are skipped; stop the daemon and run deferctl verify, the disk lies",
                    reading.records_damaged
                ));
            }
        }
        troubles
    }

    /// True when no core takes a deposit in: whoever sends them here should not.
    pub fn is_refusing(&self) -> bool {
        let readings = self.readings();
        !readings.is_empty() && readings.iter().all(|reading| reading.log_poisoned > 0 || reading.disk_full > 0)
    }

    /// All cores listen.
    pub fn ready(&self, now: Tick) {
        self.ready_at.store(now.0, Ordering::Relaxed);
        self.phase.store(Phase::Ready as u8, Ordering::Release);
    }

    /// SIGTERM has come; cores end one by one from now on.
    pub fn stopping(&self) {
        self.phase.store(Phase::Stopping as u8, Ordering::Release);
    }

    /// An operator has begun or ended draining. Says nothing to a daemon that starts or stops.
    pub fn drained(&self, on: bool) {
        let (from, to) = if on { (Phase::Ready, Phase::Drained) } else { (Phase::Drained, Phase::Ready) };
        let _ = self.phase.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Where the daemon is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            phase if phase == Phase::Drained as u8 => Phase::Drained,
            phase if phase == Phase::Stopping as u8 => Phase::Stopping,
            _ => Phase::Starting,
        }
    }

    /// Every core's numbers, in the order of cores.
    pub fn readings(&self) -> Vec<Reading> {
        self.meters.iter().map(|meter| meter.reading()).collect()
    }

    /// How long ago each core turned, in the order of cores; zero before the daemon is ready.
    pub fn rests(&self, now: Tick) -> Vec<Duration> {
        let ready_at = Tick(self.ready_at.load(Ordering::Relaxed));
        self.meters.iter().map(|meter| now - meter.turned().max(ready_at)).collect()
    }

    /// Cores that do not work. None while starting, for they are not there yet, and while stopping, for they may have ended.
    pub fn silent(&self, now: Tick) -> Vec<Silent> {
        if !matches!(self.phase(), Phase::Ready | Phase::Drained) {
            return Vec::new();
        }
        let rests = (0..).map(CoreId).zip(self.rests(now));
        rests.filter(|(_, since)| *since > PATIENCE).map(|(core, since)| Silent { core, since }).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::meter::Publisher;

    fn second(count: u64) -> Tick {
        Tick(count * 1_000_000)
    }

    #[test]
    fn a_core_that_does_not_turn_for_five_seconds_is_silent() {
        let meters = vec![Meter::new(), Meter::new()];
        let mut works = Publisher::new(meters[0].clone());
        let health = Health::new(meters);
        health.ready(second(100));
        works.publish(second(106), &Reading::default());
        assert_eq!(health.silent(second(105)), []);
        assert_eq!(health.silent(second(106)), [Silent { core: CoreId(1), since: Duration::from_secs(6) }]);
        assert_eq!(health.rests(second(107)), [Duration::from_secs(1), Duration::from_secs(7)]);
    }

    #[test]
    fn a_failed_log_and_a_full_disk_are_said_and_refuse_when_no_core_is_left() {
        let meters = vec![Meter::new(), Meter::new()];
        let mut cores: Vec<Publisher> = meters.iter().map(|meter| Publisher::new(meter.clone())).collect();
        let health = Health::new(meters);
        assert_eq!((health.troubles().len(), health.is_refusing()), (0, false));
        cores[0].publish(second(1), &Reading { log_poisoned: 1, ..Reading::default() });
        assert!(health.troubles()[0].starts_with("core 0: its log failed") && !health.is_refusing());
        cores[1].publish(second(1), &Reading { disk_full: 1, records_damaged: 2, ..Reading::default() });
        assert_eq!((health.troubles().len(), health.is_refusing()), (3, true));
    }

    #[test]
    fn nobody_is_silent_before_ready_or_after_the_end() {
        let health = Health::new(vec![Meter::new()]);
        assert_eq!(health.phase(), Phase::Starting);
        assert_eq!(health.silent(second(1_000)), []);
        assert_eq!(health.rests(second(1_000)), [Duration::ZERO]);
        health.ready(second(1_000));
        assert_eq!((health.phase(), health.silent(second(2_000)).len()), (Phase::Ready, 1));
        health.stopping();
        assert_eq!((health.phase(), health.silent(second(2_000)).len()), (Phase::Stopping, 0));
    }
}
