//! The scenario `expiry`: how soon a message is gone whose time is over, when a hundred thousand a second are.
//!
//! ```text
//!   deposit, each with the same time to live │ wait │ every second a second's deposits expire at once: watch them go
//! ```
//! A record's expiry is a second of the wall clock. So whatever was taken in within one second expires together, and how long after
//! the turn of a second the last of them is gone is the lag. It is seen in the daemon's own counter, which moves when a message is for
//! nobody any more.

use crate::daemon::Daemon;
use crate::deposit;
use crate::outcome::{Failure, Latency, Outcome, Progress, Request, Series};
use crate::pin::Places;
use crate::push;
use crate::stock;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Messages without --messages.
const MESSAGES: u64 = 400_000;
/// Of each user, without --users.
const EACH: u64 = 20;
/// Time to live without --seconds: longer than the deposits take.
const LIFE_S: f64 = 15.0;
/// Between two looks at the counter.
const LOOK: Duration = Duration::from_millis(5);
/// After the last could have expired.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let places = Places::of(request.cores);
    let life_s = request.seconds.unwrap_or(LIFE_S).max(2.0).round() as u64;
    let mut request = request.clone();
    request.config.push(format!("policy.expire.default_pager = \"{life_s}s\""));
    let mut daemon = Daemon::start(&request, push::processors(&request, &places))?;
    let found = measure(&request, progress, &places, &daemon, life_s).map_err(|failure| daemon.with_log(failure));
    daemon.stop();
    found
}

fn measure(
    request: &Request,
    progress: &dyn Progress,
    places: &Places,
    daemon: &Daemon,
    life_s: u64,
) -> Result<Outcome, Failure> {
    let (users, each) = stock::spread(request.messages.unwrap_or(MESSAGES), request.users, EACH);
    let messages = u64::from(users) * u64::from(each);
    stock::must_fit(daemon, request, messages)?;
    let began = Instant::now();
    push::deposited(&push::plan(request, places, daemon, users, each), progress)?;
    let took = began.elapsed();

    progress.phase("expiry", messages);
    let mut looks = vec![look(daemon)?];
    let until = Instant::now() + Duration::from_secs(life_s) + PATIENCE;
    while looks.last().is_some_and(|look| look.expired < messages) && Instant::now() < until {
        std::thread::sleep(LOOK);
        let look = look(daemon)?;
        progress.done(look.expired);
        looks.push(look);
    }
    let lags = Lags::of(&looks);
    let expired = looks.last().map_or(0, |look| look.expired);
    let at = |quantile: f64| json!((lags.histogram_us.value_at_quantile(quantile) as f64 / 10.0).round() / 100.0);
    let mut notes = vec![format!(
        "{users} users with {each} messages each, deposited in {:.1} s, {life_s} s to live; {} turns of a second brought expiries; the \
         counter was looked at every {} ms or so; {}",
        took.as_secs_f64(),
        lags.bursts,
        LOOK.as_millis(),
        places.told()
    )];
    if took.as_secs() >= life_s {
        notes.push(
            "Deposits went on while the first expired: ask for fewer --messages or more --seconds to live".into(),
        );
    }
    let first = looks.iter().find(|look| look.expired > 0).map_or(0.0, |look| look.at_s);
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages,
        size: request.size,
        seconds: looks.last().map_or(0.0, |last| last.at_s - first),
        durable: true,
        errors: messages.saturating_sub(expired),
        keys: vec![
            ("expiries_in_a_second", json!(lags.most_in_a_second)),
            ("expiry_lag_ms", json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0) })),
            ("users", json!(users)),
        ],
        series: vec![Series {
            name: "messages expired".into(),
            unit: "",
            points: looks
                .iter()
                .filter(|look| look.expired > 0)
                .map(|look| (look.at_s - first, look.expired as f64))
                .collect(),
        }],
        latencies: vec![Latency { name: "lag behind the second", histogram_us: lags.histogram_us }],
        notes,
    })
}

/// The counter at a time of the wall clock.
#[derive(Clone, Copy, Debug)]
struct Look {
    at_s: f64,
    expired: u64,
}

fn look(daemon: &Daemon) -> Result<Look, Failure> {
    let expired = daemon.metrics()?.of("deferd_messages_expired_total");
    // After the answer: what is counted was gone by then.
    let at_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Ok(Look { at_s, expired })
}

/// How long after a turn of a second messages were gone.
struct Lags {
    histogram_us: hdrhistogram::Histogram<u64>,
    /// Turns of a second that brought expiries.
    bursts: u64,
    /// Most messages that went between two turns.
    most_in_a_second: u64,
}

impl Lags {
    /// Of looks in their order. A message seen gone belongs to the last turn of a second at which the counter stood still before it
    /// moved: a burst that lasts longer than a second is one burst, and its lag grows beyond a second.
    fn of(looks: &[Look]) -> Lags {
        let mut lags = Lags { histogram_us: deposit::histogram(), bursts: 0, most_in_a_second: 0 };
        let (mut turn, mut moving, mut second, mut in_second) = (0.0, false, 0, 0);
        for pair in looks.windows(2) {
            let (before, now) = (pair[0], pair[1]);
            let gone = now.expired.saturating_sub(before.expired);
            if now.at_s as u64 != second {
                (second, in_second) = (now.at_s as u64, 0);
            }
            if gone > 0 {
                if !moving {
                    turn = now.at_s.floor();
                    lags.bursts += 1;
                }
                let lag_us = ((now.at_s - turn) * 1e6) as u64;
                let _ = lags.histogram_us.record_n(lag_us.max(1), gone);
                in_second += gone;
                lags.most_in_a_second = lags.most_in_a_second.max(in_second);
            }
            moving = gone > 0;
        }
        lags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(list: &[(f64, u64)]) -> Vec<Look> {
        list.iter().map(|&(at_s, expired)| Look { at_s, expired }).collect()
    }

    #[test]
    fn a_lag_is_counted_from_the_turn_of_the_second() {
        let lags = Lags::of(&looks(&[
            (10.9, 0),
            (11.1, 60),
            (11.2, 100),
            (11.3, 100),
            (11.9, 100),
            (12.05, 150),
            (12.1, 150),
        ]));
        assert_eq!((lags.bursts, lags.most_in_a_second), (2, 100));
        assert_eq!(lags.histogram_us.len(), 150);
        let max = lags.histogram_us.max() as f64 / 1e6;
        assert!((0.19..0.21).contains(&max), "{max}");
    }

    #[test]
    fn a_burst_that_does_not_end_within_its_second_is_late() {
        let lags = Lags::of(&looks(&[(10.9, 0), (11.1, 60), (11.6, 100), (12.1, 160), (12.2, 160)]));
        assert_eq!(lags.bursts, 1);
        assert!(lags.histogram_us.max() > 1_000_000, "{}", lags.histogram_us.max());
    }
}
