//! The scenario `storm`: everyone comes back. Each user has three messages; all PUBLISH at once, over the few connections of a SIP
//! core; each gets an INVITE, a connection, its messages and a BYE.
//!
//! ```text
//!   capture │ deposit │ limit │ all at once │ limit │ others at half of that rate, open loop
//! ```

use crate::clients::{self, Crowd, Pushed};
use crate::daemon::{Daemon, Scratch};
use crate::deposit::Pace;
use crate::ingest::{percentiles, rounded};
use crate::limit_storm::{Peer, Script};
use crate::outcome::{Failure, Latency, Outcome, Progress, Request, Series};
use crate::pin::Places;
use crate::push::{SIP_CONNECTIONS, captured, crowd, deposited, plan, processors};
use serde_json::json;

/// Messages of each user.
const EACH: u64 = 3;
/// Users without --users: a second or so of the peak, and below the 16,384 sessions that a core has at one time.
const USERS: u64 = 15_000;
/// How long the paced phase lasts.
const PACED_S: f64 = 4.0;

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let places = Places::of(request.cores);
    let mut daemon = Daemon::start(request, processors(request, &places))?;
    let found = measure(request, progress, &places, &daemon).map_err(|failure| daemon.with_log(failure));
    daemon.stop();
    found
}

fn measure(request: &Request, progress: &dyn Progress, places: &Places, daemon: &Daemon) -> Result<Outcome, Failure> {
    let bounded = |number: u64| number.clamp(1, u64::from(u32::MAX / 4)) as u32;
    let users = bounded(request.users.unwrap_or_else(|| request.messages.map_or(USERS, |all| all.div_ceil(EACH))));
    let each = bounded(request.messages.map_or(EACH, |all| all.div_ceil(u64::from(users))));
    let cpus = processors(request, places);
    progress.phase("capture", 1);
    let kept = captured(request, places, daemon, progress)?;
    let script = Script::of(&kept, 0, users, each)?;
    deposited(&plan(request, places, daemon, users, each), progress)?;

    let scratch = Scratch::new(request.data_dir.as_deref(), "limit")?;
    let peer = Peer::start(&scratch, cpus, request.cores, &script, &kept)?;
    let all = crowd(request, places, daemon, users, each);
    let to_peer = Crowd { to: peer.addr, slow: 0.0, silent: 0.0, ..all.clone() };
    let total = u64::from(users) * u64::from(each);
    progress.phase("limit", total);
    let before = clients::run(&to_peer, progress)?;
    let cpu = daemon.cpu();
    progress.phase("storm", total);
    let peak = clients::run(&all, progress)?;
    let cpu_us = (daemon.cpu() - cpu).as_micros() as f64 / peak.users.max(1) as f64;
    progress.phase("limit", total);
    let after = clients::run(&Crowd { publish_seq: 1, ..to_peer }, progress)?;
    peer.end()?;

    let per_second = |done: &Pushed| done.users as f64 / done.seconds;
    let rate = request.rate.unwrap_or(per_second(&peak) / 2.0);
    let others = bounded((rate * PACED_S) as u64).min(users);
    let first_user = users;
    deposited(&crate::deposit::Plan { first_user, ..plan(request, places, daemon, others, each) }, progress)?;
    progress.phase("half of the peak", u64::from(others) * u64::from(each));
    let paced = clients::run(&Crowd { first_user, users: others, pace: Pace::Rate(rate), ..all }, progress)?;

    let limit = (before.users + after.users) as f64 / (before.seconds + after.seconds);
    let mut notes = vec![format!(
        "{users} users with {each} messages each, {others} more in the paced phase, over {} SIP connections; {}",
        SIP_CONNECTIONS,
        places.told()
    )];
    notes.push(
        "The limit's peer syncs each PUBLISH and each user's end, in groups as they come, like the daemon".into(),
    );
    if before.load_busy.max(after.load_busy) > 0.95 {
        notes.push("The clients' processor was full in the limit: with more of them the limit may be higher".into());
    }
    if !places.apart() {
        notes.push("Load and daemon share a processor: the figures say little".into());
    }
    for (part, done) in [("storm", &peak), ("limit", &before), ("limit", &after), ("paced phase", &paced)] {
        notes.extend(done.first_error.as_ref().map(|error| format!("The first error of the {part}: {error}")));
    }
    let to_4 = |number: f64| json!((number * 1e4).round() / 1e4);
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages: peak.messages,
        size: request.size,
        seconds: peak.seconds,
        durable: true,
        errors: peak.errors + before.errors + after.errors + paced.errors,
        keys: vec![
            ("users", json!(peak.users)),
            ("users_per_s", rounded(per_second(&peak))),
            ("messages_per_s", rounded(peak.messages as f64 / peak.seconds)),
            ("limit_users_per_s", rounded(limit)),
            ("ratio", to_4(per_second(&peak) / limit)),
            ("publish_to_first_send_us", percentiles(&paced.first_send_us)),
            ("publish_to_first_send_peak_us", percentiles(&peak.first_send_us)),
            ("paced_per_s", rounded(rate)),
            ("limit_before_per_s", rounded(per_second(&before))),
            ("limit_after_per_s", rounded(per_second(&after))),
            ("daemon_cpu_us_per_user", to_4(cpu_us)),
            ("load_busy", to_4(peak.load_busy)),
            ("limit_load_busy", to_4(before.load_busy)),
        ],
        series: vec![
            Series { name: "drained".into(), unit: "users/s", points: peak.user_rate },
            Series { name: "limit".into(), unit: "users/s", points: before.user_rate },
        ],
        latencies: vec![
            Latency { name: "publish_to_first_send_us", histogram_us: paced.first_send_us },
            Latency { name: "publish_to_first_send_peak_us", histogram_us: peak.first_send_us },
            Latency { name: "publish_to_bye_us", histogram_us: paced.bye_us },
        ],
        notes,
    })
}
