//! The scenario `memory`: what a stored message and a user with a queue cost in resident memory, allocator and all.
//!
//! ```text
//!   bytes_per_message = (RSS with N messages over N / 1,000 users - RSS empty) / N
//!   bytes_per_user    = (RSS with N / 10 users of 1 message - RSS empty) / (N / 10) - bytes_per_message
//! ```
//! N is 10 million, or `--messages`. Three daemons, one after the other, of the same configuration; resident is what the kernel
//! says, once it no longer moves.

use crate::daemon::Daemon;
use crate::outcome::{Failure, Outcome, Progress, Request};
use crate::pin::Places;
use crate::push;
use crate::stock;
use serde_json::json;
use std::time::{Duration, Instant};

/// Messages without --messages.
const MESSAGES: u64 = 10_000_000;
/// Messages of a user with many.
const EACH: u64 = 1_000;
/// So many messages for one user of one message.
const PER_LONE_USER: u64 = 10;
/// Users that a daemon has room for unless told otherwise, with a margin.
const USERS_BY_DEFAULT: u64 = 1_000_000;

/// Memory is at rest when it stayed within a hundredth for so long.
const REST: Duration = Duration::from_millis(1_500);
/// After so long it is taken as it is.
const REST_AT_MOST: Duration = Duration::from_secs(15);

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let messages = request.messages.unwrap_or(MESSAGES);
    let lone = (messages / PER_LONE_USER).max(1);
    let mut request = request.clone();
    let asks_for_users = request.config.iter().any(|line| line.starts_with("limits.users"));
    if lone > USERS_BY_DEFAULT && !asks_for_users {
        request.config.push(format!("limits.users = {}", lone + lone / 20));
    }
    let (users, each) = stock::spread(messages, request.users, EACH);
    let messages = u64::from(users) * u64::from(each);
    let lone = stock::spread(lone, Some(lone), 1).0;

    let empty = resident(&request, progress, "empty", None)?;
    let full = resident(&request, progress, "messages", Some((users, each)))?;
    let wide = resident(&request, progress, "users", Some((lone, 1)))?;
    let per_message = (full as f64 - empty as f64) / messages as f64;
    let per_user = (wide as f64 - empty as f64) / f64::from(lone) - per_message;
    let to_10th = |octets: f64| json!((octets * 10.0).round() / 10.0);
    let mut notes = vec![format!(
        "{users} users with {each} messages each, then {lone} users with 1; each in a daemon of its own, as it is after the deposits"
    )];
    if messages < MESSAGES {
        notes.push("What a daemon holds for its work, whatever is stored, weighs more on so few messages".into());
    }
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages,
        size: request.size,
        seconds: began.elapsed().as_secs_f64(),
        durable: true,
        errors: 0,
        keys: vec![
            ("bytes_per_message", to_10th(per_message)),
            ("bytes_per_user", to_10th(per_user)),
            ("rss_empty_bytes", json!(empty)),
            ("rss_messages_bytes", json!(full)),
            ("rss_users_bytes", json!(wide)),
            ("users", json!(users)),
            ("users_of_one", json!(lone)),
        ],
        series: Vec::new(),
        latencies: Vec::new(),
        notes,
    })
}

/// Resident octets of a daemon that has those users, with so many messages each.
fn resident(
    request: &Request,
    progress: &dyn Progress,
    what: &str,
    stored: Option<(u32, u32)>,
) -> Result<u64, Failure> {
    let places = Places::of(request.cores);
    let mut daemon = Daemon::start(request, push::processors(request, &places))?;
    let found = (|| {
        if let Some((users, each)) = stored {
            stock::must_fit(&daemon, request, u64::from(users) * u64::from(each))?;
            push::deposited(&push::plan(request, &places, &daemon, users, each), progress)?;
        }
        progress.phase(&format!("memory at rest: {what}"), 0);
        Ok(at_rest(|| daemon.rss_octets()))
    })();
    let found = found.map_err(|failure| daemon.with_log(failure));
    daemon.stop();
    found
}

/// What `read` gives when it no longer moves.
fn at_rest(read: impl Fn() -> u64) -> u64 {
    let began = Instant::now();
    let (mut value, mut since) = (read(), Instant::now());
    while since.elapsed() < REST && began.elapsed() < REST_AT_MOST {
        std::thread::sleep(Duration::from_millis(50));
        let now = read();
        if now.abs_diff(value) > value / 100 {
            (value, since) = (now, Instant::now());
        }
    }
    read()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn memory_that_still_falls_is_waited_for() {
        let reads = Cell::new(0u64);
        let value = at_rest(|| {
            reads.set(reads.get() + 1);
            1_000_000u64.saturating_sub(reads.get() * 100_000).max(500_000)
        });
        assert_eq!(value, 500_000);
        assert!(reads.get() > 6);
    }
}
