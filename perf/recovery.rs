//! The scenario `recovery`: how long a start takes with everything stored.
//!
//! ```text
//!   deposit │ kill, sync, drop the files from the page cache │ start ... first TCP accept
//! ```
//! Ready is what the contract says it is: the first TCP port accepts. Every octet then comes from the disk; how many did is told.

use crate::daemon::Daemon;
use crate::outcome::{Failure, Outcome, Progress, Request};
use crate::pin::Places;
use crate::push;
use crate::stock;
use serde_json::json;
use std::time::{Duration, Instant};

/// Messages without --messages.
const MESSAGES: u64 = 10_000_000;
/// Of each user, without --users.
const EACH: u64 = 1_000;
/// After it is ready, the daemon's numbers are there within a turn.
const TOLD: Duration = Duration::from_secs(10);

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let places = Places::of(request.cores);
    let mut daemon = Daemon::start(request, push::processors(request, &places))?;
    let found = measure(request, progress, &places, &mut daemon).map_err(|failure| daemon.with_log(failure));
    daemon.stop();
    found
}

fn measure(
    request: &Request,
    progress: &dyn Progress,
    places: &Places,
    daemon: &mut Daemon,
) -> Result<Outcome, Failure> {
    let (users, each) = stock::spread(request.messages.unwrap_or(MESSAGES), request.users, EACH);
    let messages = u64::from(users) * u64::from(each);
    stock::must_fit(daemon, request, messages)?;
    push::deposited(&push::plan(request, places, daemon, users, each), progress)?;

    progress.phase("dropping the files from memory", 0);
    daemon.kill();
    let bytes = stock::forget(&daemon.data())?;
    progress.phase("recovery", 0);
    daemon.restart()?;
    let ready = daemon.ready_after.as_secs_f64();
    let fetched = stock::fetched_octets(daemon.pid());

    // It says who is back; a user who is not is an error.
    let until = Instant::now() + TOLD;
    let mut back = 0;
    while back < u64::from(users) && Instant::now() < until {
        back = daemon.metrics()?.of("deferd_users_waiting");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut notes = vec![format!(
        "{users} users with {each} messages each; killed, its files synced and dropped from the page cache; {}",
        places.told()
    )];
    match fetched {
        Some(fetched) => notes.push(format!(
            "Until it was ready the daemon fetched {:.2} GiB of {:.2} GiB from the disk",
            fetched as f64 / (1u64 << 30) as f64,
            bytes as f64 / (1u64 << 30) as f64,
        )),
        None => notes.push("This kernel does not count what a process fetches from the disk".into()),
    }
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages,
        size: request.size,
        seconds: ready,
        durable: true,
        errors: u64::from(users).saturating_sub(back),
        keys: vec![
            ("records_per_s", json!((messages as f64 / ready).round())),
            ("ready_seconds", json!((ready * 1e4).round() / 1e4)),
            ("bytes", json!(bytes)),
            ("users", json!(users)),
            ("fetched_bytes", json!(fetched)),
            ("rss_bytes", json!(daemon.rss_octets())),
        ],
        series: Vec::new(),
        latencies: Vec::new(),
        notes,
    })
}
