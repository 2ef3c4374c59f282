//! The scenario `reclaim`: how much later a deposit is answered while segments are had back.
//!
//! ```text
//!   a daemon whose messages all stay            half of the load │ the other half
//!   one in which every second message expires   half of the load │ the other half, 3 s to live:
//!                                               each segment is half dead soon, what is alive in it is copied forward
//! ```
//! The load is the same in both, at one rate, whatever the answers do. Segments are small, so that many are had back in seconds.

use crate::daemon::Daemon;
use crate::deposit::{self, Deposited, Pace, Plan};
use crate::ingest::percentiles;
use crate::outcome::{Failure, Latency, Outcome, Progress, Request};
use crate::pin::Places;
use crate::push;
use serde_json::json;
use std::time::Duration;

/// MESSAGEs a second without --rate.
const RATE: f64 = 5_000.0;
/// Seconds of load without --seconds.
const SECONDS: f64 = 20.0;
/// Users of each half without --users.
const USERS: u64 = 500;
/// What a mortal message has to live.
const LIFE_S: u32 = 3;
/// Octets of a segment, as the configuration writes it.
const SEGMENT: &str = "limits.segment_octets = \"8MiB\"";

/// What one daemon did.
struct Phase {
    half: Deposited,
    other: Deposited,
    expired: u64,
    had_back: u64,
    copied: u64,
}

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let without = phase(request, progress, "all stay", None)?;
    let with = phase(request, progress, "every second expires", Some(LIFE_S))?;
    let sum = |phase: &Phase| {
        let mut all = phase.half.accept_us.clone();
        all.add(&phase.other.accept_us).map_err(|error| Failure(format!("two histograms do not add: {error}")))?;
        Ok::<_, Failure>(all)
    };
    let (alone_us, reclaiming_us) = (sum(&without)?, sum(&with)?);
    let ratio = reclaiming_us.value_at_quantile(0.99) as f64 / alone_us.value_at_quantile(0.99).max(1) as f64;
    let refused = |phase: &Phase| phase.half.refused + phase.other.refused;
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages: with.half.accepted + with.other.accepted,
        size: request.size,
        seconds: with.half.seconds,
        durable: true,
        errors: refused(&without) + refused(&with),
        keys: vec![
            ("p99_ratio", json!((ratio * 100.0).round() / 100.0)),
            ("accept_us", percentiles(&reclaiming_us)),
            ("accept_alone_us", percentiles(&alone_us)),
            ("segments_had_back", json!(with.had_back)),
            ("copied_bytes", json!(with.copied)),
            ("paced_per_s", json!(request.rate.unwrap_or(RATE))),
        ],
        series: Vec::new(),
        latencies: vec![
            Latency { name: "accept_us, reclaiming", histogram_us: reclaiming_us },
            Latency { name: "accept_us, all stay", histogram_us: alone_us },
        ],
        notes: vec![format!(
            "{} messages expired, {} segments of 8 MiB had back, {} MiB copied forward; {}",
            with.expired,
            with.had_back,
            with.copied >> 20,
            Places::of(request.cores).told()
        )],
    })
}

fn phase(request: &Request, progress: &dyn Progress, name: &str, life_s: Option<u32>) -> Result<Phase, Failure> {
    let places = Places::of(request.cores);
    let mut request = request.clone();
    request.config.push(SEGMENT.into());
    let mut daemon = Daemon::start(&request, push::processors(&request, &places))?;
    let found = load(&request, progress, &places, &daemon, (name, life_s)).map_err(|failure| daemon.with_log(failure));
    daemon.stop();
    found
}

fn load(
    request: &Request,
    progress: &dyn Progress,
    places: &Places,
    daemon: &Daemon,
    (name, life_s): (&str, Option<u32>),
) -> Result<Phase, Failure> {
    let users = request.users.unwrap_or(USERS).clamp(1, 1 << 24) as u32;
    let seconds = request.seconds.unwrap_or(SECONDS);
    let rate = request.rate.unwrap_or(RATE) / 2.0;
    let half = Plan {
        connections: (request.connections / 2).max(1),
        interleave: true,
        pace: Pace::Rate(rate),
        at_most: Some(Duration::from_secs_f64(seconds)),
        ..push::plan(request, places, daemon, users, (rate * seconds / f64::from(users)).ceil() as u32 + 1)
    };
    let other = Plan { first_user: users, life_s, ..half.clone() };
    // The first messages find everything cold.
    let warm = Plan { first_user: 2 * users, users: 50, each: 40, pace: Pace::Peak, ..half.clone() };
    progress.phase("warm up", 2_000);
    deposit::run(&warm, progress)?;
    progress.phase(name, (2.0 * rate * seconds) as u64);
    let (half, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| deposit::run(&other, &Unseen));
        let half = deposit::run(&half, progress);
        (half, other.join())
    });
    let other = other.map_err(|_| Failure("the second half of the load broke; run it again".into()))??;
    let metrics = daemon.metrics()?;
    Ok(Phase {
        half: half?,
        other,
        expired: metrics.of("deferd_messages_expired_total"),
        had_back: metrics.of("deferd_segments_reclaimed_total"),
        copied: metrics.of("deferd_store_copied_bytes_total"),
    })
}

/// One half tells for both.
struct Unseen;

impl Progress for Unseen {
    fn phase(&self, _name: &str, _total: u64) {}
    fn done(&self, _done: u64) {}
}
