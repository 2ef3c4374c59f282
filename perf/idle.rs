//! The scenario `idle`: what a daemon costs that has users stored and no traffic.
//!
//! ```text
//!   deposit │ wait until it is calm │ count its time on a processor
//! ```

use crate::daemon::Daemon;
use crate::outcome::{Failure, Outcome, Progress, Request, Series};
use crate::pin::Places;
use crate::push;
use crate::stock;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// Users without --users.
const USERS: u64 = 100_000;
/// The window without --seconds.
const WINDOW_S: f64 = 20.0;
/// A point of the series each.
const SAMPLE: Duration = Duration::from_millis(500);
/// What follows a deposit (transactions that end, segments that are prefilled) is over by then.
const CALM_AT_MOST: Duration = Duration::from_secs(45);
/// Below this share of a core, it is calm.
const CALM: f64 = 0.02;

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let places = Places::of(request.cores);
    let mut daemon = Daemon::start(request, push::processors(request, &places))?;
    let found = measure(request, progress, &places, &daemon).map_err(|failure| daemon.with_log(failure));
    daemon.stop();
    found
}

fn measure(request: &Request, progress: &dyn Progress, places: &Places, daemon: &Daemon) -> Result<Outcome, Failure> {
    let users = request.users.unwrap_or(USERS);
    let (users, each) = stock::spread(request.messages.unwrap_or(users).max(users), Some(users), 1);
    let messages = u64::from(users) * u64::from(each);
    stock::must_fit(daemon, request, messages)?;
    push::deposited(&push::plan(request, places, daemon, users, each), progress)?;

    progress.phase("until it is calm", 0);
    let began = Instant::now();
    let mut last = Used::of(daemon)?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = Used::of(daemon)?;
        let share = now.since(&last).share();
        last = now;
        if share < CALM || began.elapsed() > CALM_AT_MOST {
            break;
        }
    }
    let calm_after = began.elapsed().as_secs_f64();

    let window = request.seconds.unwrap_or(WINDOW_S);
    progress.phase("idle", (window * 10.0) as u64);
    let first = Used::of(daemon)?;
    let (mut last, mut points) = (first.clone(), Vec::new());
    while first.at.elapsed().as_secs_f64() < window {
        std::thread::sleep(SAMPLE.min(Duration::from_secs_f64(window)));
        let now = Used::of(daemon)?;
        let at = (now.at - first.at).as_secs_f64();
        points.push((at, now.since(&last).share() * 100.0));
        progress.done((at * 10.0) as u64);
        last = now;
    }
    let used = last.since(&first);
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages,
        size: request.size,
        seconds: used.wall_s,
        durable: true,
        errors: 0,
        keys: vec![
            ("cpu_percent", json!((used.share() * 1e6).round() / 1e4)),
            ("wakeups_per_s", json!((used.wakeups as f64 / used.wall_s * 10.0).round() / 10.0)),
            ("users", json!(users)),
            ("calm_after_seconds", json!((calm_after * 10.0).round() / 10.0)),
            ("rss_bytes", json!(daemon.rss_octets())),
        ],
        series: vec![Series { name: "the daemon".into(), unit: "% of a core", points }],
        latencies: Vec::new(),
        notes: vec![format!(
            "{users} users with {each} messages each, no traffic; time of all threads as the scheduler counts it; {}",
            places.told()
        )],
    })
}

/// What all threads of the daemon had used by then.
#[derive(Clone, Debug)]
struct Used {
    at: Instant,
    on_processor_ns: u64,
    /// Times that a thread waited by itself and was woken.
    wakeups: u64,
}

/// Between two of them.
struct Span {
    wall_s: f64,
    on_processor_s: f64,
    wakeups: u64,
}

impl Span {
    fn share(&self) -> f64 {
        self.on_processor_s / self.wall_s.max(1e-9)
    }
}

impl Used {
    fn of(daemon: &Daemon) -> Result<Used, Failure> {
        let gone = || Failure("the daemon's threads cannot be read from /proc; has it ended?".into());
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).map_err(|_| gone())?;
        let mut used = Used { at: Instant::now(), on_processor_ns: 0, wakeups: 0 };
        let mut threads = 0;
        for task in tasks.flatten() {
            // A thread that ends meanwhile, as workers of a ring do, is left out.
            let Ok(scheduled) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            used.on_processor_ns += on_processor_ns(&scheduled).unwrap_or_default();
            used.wakeups += wakeups(&status).unwrap_or_default();
            threads += 1;
        }
        if threads > 0 { Ok(used) } else { Err(gone()) }
    }

    fn since(&self, earlier: &Used) -> Span {
        Span {
            wall_s: (self.at - earlier.at).as_secs_f64(),
            on_processor_s: self.on_processor_ns.saturating_sub(earlier.on_processor_ns) as f64 / 1e9,
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
        }
    }
}

/// The first of three numbers: time on a processor, time runnable, time slices.
fn on_processor_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

fn wakeups(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_of_a_thread_is_read() {
        assert_eq!(on_processor_ns("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(on_processor_ns(""), None);
        let status = "Name:\tdeferd\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(wakeups(status), Some(150));
    }

    #[test]
    fn a_share_is_of_one_core() {
        let at = Instant::now();
        let first = Used { at, on_processor_ns: 1_000_000_000, wakeups: 10 };
        let last = Used { at: at + Duration::from_secs(10), on_processor_ns: 1_050_000_000, wakeups: 40 };
        let span = last.since(&first);
        assert!((span.share() - 0.005).abs() < 1e-12);
        assert_eq!(span.wakeups, 30);
    }
}
