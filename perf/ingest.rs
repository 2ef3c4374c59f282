//! The scenario `ingest`: durable SIP MESSAGEs, answered after their commit.
//!
//! ```text
//!   warm up │ limit │ daemon, peak │ limit │ daemon at half of the peak, open loop
//! ```
//! The limit runs before and after the daemon, on its processors, so that a machine that slows down slows both. A last run of it writes into
//! new pages of memory, as the daemon does: what memory costs lies between the two.

use crate::capture;
use crate::daemon::{Daemon, Scratch};
use crate::deposit::{self, Deposited, Pace, Plan};
use crate::limit_disk::Pages;
use crate::limit_ingest::Sink;
use crate::outcome::{Failure, Latency, Outcome, Progress, Request, Series, Transport};
use crate::pin::Places;
use crate::sip;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// Messages of the peak without --messages: some seconds at 200,000 a second, and 3 GiB of log.
const MESSAGES: u64 = 1_500_000;
/// Users without --users: 150 messages each, far below anybody's quota.
const USERS: u64 = 10_000;
/// A phase ends then, whatever is left of its messages.
const PHASE_S: f64 = 12.0;
/// The phase of the given rate.
const PACED_S: f64 = 5.0;
/// Messages of the warm-up: code and pages are there, the first segment is in use.
const WARM_UP: u32 = 20_000;

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let places = Places::of(request.cores);
    let cpus = if request.pin { places.daemon.as_slice() } else { &[] };
    let mut daemon = Daemon::start(&with_room(request), cpus)?;
    let found = measure(request, progress, &places, &daemon);
    let found = found.map_err(|failure| daemon.with_log(failure));
    daemon.stop();
    found
}

/// A transaction over UDP lives 32 s after its answer: the default bound is 2,048 requests a second.
fn with_room(request: &Request) -> Request {
    let mut request = request.clone();
    if request.transport == Transport::Udp && !request.config.iter().any(|line| line.starts_with("limits.transactions"))
    {
        request.config.push("limits.transactions = 8000000".into());
    }
    request
}

fn measure(request: &Request, progress: &dyn Progress, places: &Places, daemon: &Daemon) -> Result<Outcome, Failure> {
    let users = request.users.unwrap_or(USERS).min(u64::from(u32::MAX)) as u32;
    let messages = request.messages.unwrap_or(MESSAGES);
    let phase = Duration::from_secs_f64(request.seconds.unwrap_or(PHASE_S));
    let plan = Plan {
        to: daemon.sip,
        transport: request.transport,
        connections: request.connections,
        first_user: 0,
        users,
        first_seq: 0,
        each: messages.div_ceil(u64::from(users)).min(u64::from(u32::MAX)) as u32,
        interleave: request.interleave,
        size: request.size,
        life_s: None,
        pace: Pace::Peak,
        at_most: Some(phase),
        cpus: places.load.clone(),
        pin: request.pin,
    };
    let message = sip::message("TCP", request.size, None);
    let answer = capture::answer(daemon.sip, &message)?;
    if sip::status(&answer) != 202 {
        return Err(Failure(format!("the daemon refuses: {}; look at --size and --config", deposit::said(&answer))));
    }
    let scratch = Scratch::new(request.data_dir.as_deref(), "limit")?;
    let cpus = if request.pin { places.daemon.as_slice() } else { &[] };
    let answer = capture::template(answer);
    let sink = Sink::start(&scratch, cpus, request.cores, &message, &answer, Pages::Known)?;
    // The limit is TCP's, whatever carries the load of the daemon.
    let to_sink = Plan {
        to: sink.addr,
        transport: Transport::Tcp,
        at_most: Some(phase.min(Duration::from_secs(6))),
        each: (plan.each / 2).max(1),
        ..plan.clone()
    };

    progress.phase("warm up", u64::from(WARM_UP));
    let warm_each = (WARM_UP / users).clamp(1, WARM_UP);
    let warm = Plan { each: warm_each, users: users.min(WARM_UP), ..plan.clone() };
    deposit::run(&warm, progress)?;
    deposit::run(&Plan { to: sink.addr, transport: Transport::Tcp, ..warm }, progress)?;

    progress.phase("limit", u64::from(to_sink.each) * u64::from(users));
    let before = deposit::run(&to_sink, progress)?;
    let metrics = daemon.metrics()?;
    let cpu = daemon.cpu();
    progress.phase("peak", u64::from(plan.each) * u64::from(users));
    let peak = deposit::run(&Plan { first_seq: warm_each, ..plan.clone() }, progress)?;
    let cpu_us = (daemon.cpu() - cpu).as_micros() as f64 / peak.accepted.max(1) as f64;
    let syncs = daemon.metrics()?.of("deferd_log_groups_total") - metrics.of("deferd_log_groups_total");
    progress.phase("limit", u64::from(to_sink.each) * u64::from(users));
    let after = deposit::run(&to_sink, progress)?;

    let rate = request.rate.unwrap_or(peak.per_second() / 2.0);
    let paced_each = (rate * PACED_S / f64::from(users)).ceil() as u32 + 1;
    progress.phase("half of the peak", (rate * PACED_S) as u64);
    let paced = deposit::run(
        &Plan {
            first_seq: warm_each + plan.each,
            each: paced_each,
            pace: Pace::Rate(rate),
            at_most: Some(Duration::from_secs_f64(PACED_S)),
            ..plan.clone()
        },
        progress,
    )?;
    let limit_groups = sink.groups();
    sink.end()?;

    // The last: what it leaves in memory is in nobody's way.
    progress.phase("limit with new pages", u64::from(to_sink.each) * u64::from(users));
    let room = u64::from(to_sink.each) * u64::from(users) * message.len() as u64;
    let sink = Sink::start(&scratch, cpus, request.cores, &message, &answer, Pages::New(room.max(64 << 20)))?;
    let new_pages = deposit::run(&Plan { to: sink.addr, ..to_sink.clone() }, progress)?;
    sink.end()?;
    let limit = (before.accepted + after.accepted) as f64 / (before.seconds + after.seconds);
    let both = before.accepted + after.accepted;
    let ratio = peak.per_second() / limit;
    let mut notes = vec![format!(
        "{} SIP connections, {} MESSAGEs in flight on each at most, {} users in turn; {}",
        plan.connections,
        deposit::window(&plan, message.len()),
        users,
        places.told()
    )];
    if !places.apart() {
        notes.push("Load and daemon share a processor: the figures say little".into());
    }
    refusals(&mut notes, "the peak", &peak);
    refusals(&mut notes, "the paced phase", &paced);
    let limit_notes = both as f64 / limit_groups.max(1) as f64;
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages: peak.accepted,
        size: request.size,
        seconds: peak.seconds,
        durable: true,
        errors: peak.refused + paced.refused,
        keys: vec![
            ("messages_per_s", rounded(peak.per_second())),
            ("limit_messages_per_s", rounded(limit)),
            ("ratio", json!((ratio * 1e4).round() / 1e4)),
            ("limit_new_pages_per_s", rounded(new_pages.per_second())),
            ("ratio_new_pages", json!((peak.per_second() / new_pages.per_second() * 1e4).round() / 1e4)),
            ("accept_us", percentiles(&paced.accept_us)),
            ("syncs", json!(syncs)),
            ("group_mean", json!((peak.accepted as f64 / syncs.max(1) as f64 * 10.0).round() / 10.0)),
            ("accept_peak_us", percentiles(&peak.accept_us)),
            ("paced_per_s", rounded(rate)),
            ("limit_before_per_s", rounded(before.per_second())),
            ("limit_after_per_s", rounded(after.per_second())),
            ("limit_group_mean", json!((limit_notes * 10.0).round() / 10.0)),
            ("daemon_cpu_us_per_message", json!((cpu_us * 1e3).round() / 1e3)),
        ],
        series: vec![
            Series { name: "accepted".into(), unit: "messages/s", points: peak.rate },
            Series { name: "limit".into(), unit: "messages/s", points: before.rate },
        ],
        latencies: vec![
            Latency { name: "accept_us", histogram_us: paced.accept_us },
            Latency { name: "accept_peak_us", histogram_us: peak.accept_us },
        ],
        notes,
    })
}

fn refusals(notes: &mut Vec<String>, phase: &str, done: &Deposited) {
    if let Some(status) = done.first_refusal {
        let why = if status == 0 {
            "not sent: the daemon was too far behind".to_owned()
        } else {
            format!("the first with {status}")
        };
        notes.push(format!("{} MESSAGEs of {phase} were refused, {why}", done.refused));
    }
}

/// A rate without false precision.
pub fn rounded(rate: f64) -> Value {
    json!(rate.round())
}

/// `{p50, p99, p999}` of a distribution, microseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| histogram.value_at_quantile(quantile);
    json!({ "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": histogram.max() })
}
