//! The scenario `scale`: whether push and ingest are as fast with much stored as with little.
//!
//! ```text
//!   a daemon with 10 thousand messages, one with 1 million, one with as many more as fit
//!   round after round, each in turn:   50,000 more come (ingest) │ they are pushed (push)
//! ```
//! Before that a million messages at least have passed through each. What is stored belongs to users who stay away. All daemons run at the same time, and only one has something to do, so that a
//! machine that slows down slows all of them. Each rate is the median of its rounds; flatness is the worst divided by the best.

use crate::clients::{self, Crowd};
use crate::daemon::Daemon;
use crate::deposit::{self, Plan};
use crate::outcome::{Failure, Outcome, Progress, Request, Series};
use crate::pin::Places;
use crate::push;
use crate::runs::median;
use crate::stock;
use serde_json::json;
use std::time::Instant;

/// Stored messages of the first points.
const POINTS: [u64; 2] = [10_000, 1_000_000];
/// Stored messages of the last point without --messages, if they fit.
const TOP: u64 = 10_000_000;
/// Of each user.
const EACH: u32 = 1_000;
/// Users of a round: 50,000 messages take a quarter of a second to come and a tenth to go.
const ROUND_USERS: u32 = 50;
/// Messages that each daemon has taken in before its rounds, at least: where fewer are stored, the others came and were pushed. What a
/// daemon remembers of those of the last half minute (fingerprints, ended transactions) takes as much memory everywhere then, and the
/// points differ in what is stored alone.
const PASSED: u64 = 1_000_000;
/// Measured rounds: an odd number has a median of its own.
const ROUNDS: u32 = 11;
/// Rounds before those: code and pages are there, windows have grown.
const WARM_UP: u32 = 2;

/// One point.
struct Point {
    daemon: Daemon,
    stored: u64,
    /// The first user of the next round.
    next_user: u32,
    /// Of what passed before the rounds.
    errors: u64,
    /// When a round ended, in seconds since the first began, and its rate.
    ingest_per_s: Vec<(f64, f64)>,
    push_per_s: Vec<(f64, f64)>,
}

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let places = Places::of(request.cores);
    let mut points: Vec<Point> = Vec::new();
    let mut notes = Vec::new();
    for stored in sizes(request.messages.unwrap_or(TOP)) {
        let daemon = Daemon::start(request, push::processors(request, &places))?;
        let extra = u64::from(ROUNDS + WARM_UP) * u64::from(ROUND_USERS) * u64::from(EACH);
        if request.messages.is_none() && stored > POINTS[POINTS.len() - 1] {
            // As many as fit, a fifth of the room left to others.
            let room = stock::room(&daemon.data())?;
            let fitting = fitting(room - room / 5, extra * (POINTS.len() as u64 + 1), request.size);
            if fitting < stored {
                notes.push(format!("{fitting} messages fit the disk, {stored} were wished"));
            }
            points.push(filled(request, progress, &places, daemon, stored.min(fitting))?);
        } else {
            stock::must_fit(&daemon, request, stored.max(PASSED) + extra)?;
            points.push(filled(request, progress, &places, daemon, stored)?);
        }
    }
    let began = Instant::now();
    let mut errors = points.iter().map(|point| point.errors).sum();
    progress.phase("rounds", u64::from(ROUNDS + WARM_UP) * points.len() as u64);
    let of = points.len() as u64;
    for round in 0..ROUNDS + WARM_UP {
        for (at, point) in points.iter_mut().enumerate() {
            let done = u64::from(round) * of + at as u64 + 1;
            errors += one_round(request, &places, point, (round >= WARM_UP).then_some(began))?;
            progress.done(done);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    points.iter_mut().for_each(|point| point.daemon.stop());

    let push: Vec<f64> = points.iter().map(|point| middle(&point.push_per_s)).collect();
    let ingest: Vec<f64> = points.iter().map(|point| middle(&point.ingest_per_s)).collect();
    let rows: Vec<_> = points
        .iter()
        .zip(push.iter().zip(&ingest))
        .map(|(point, (push, ingest))| {
            json!({"messages": point.stored, "push_per_s": push.round(), "ingest_per_s": ingest.round()})
        })
        .collect();
    let to_4 = |number: f64| json!((number * 1e4).round() / 1e4);
    notes.push(format!(
        "{ROUNDS} rounds of {} messages to each of {} daemons in turn; {}",
        ROUND_USERS * EACH,
        points.len(),
        places.told()
    ));
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages: points.iter().map(|point| point.stored).max().unwrap_or_default(),
        size: request.size,
        seconds,
        durable: true,
        errors,
        keys: vec![
            ("points", json!(rows)),
            ("flatness", to_4(flatness(&push).min(flatness(&ingest)))),
            ("flatness_push", to_4(flatness(&push))),
            ("flatness_ingest", to_4(flatness(&ingest))),
        ],
        series: points.iter().flat_map(rounds).collect(),
        latencies: Vec::new(),
        notes,
    })
}

/// The points of a run up to `top`, in ascending order.
fn sizes(top: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> = POINTS.into_iter().filter(|size| *size < top).collect();
    sizes.push(top);
    sizes
}

/// Messages that `room` octets hold beside `extra` ones.
fn fitting(room: u64, extra: u64, size: usize) -> u64 {
    let one = stock::octets(1, size) - stock::octets(0, size);
    room.saturating_sub(stock::octets(extra, size)) / one / 1_000 * 1_000
}

fn filled(
    request: &Request,
    progress: &dyn Progress,
    places: &Places,
    daemon: Daemon,
    stored: u64,
) -> Result<Point, Failure> {
    let (users, each) = stock::spread(stored, None, u64::from(EACH));
    push::deposited(&push::plan(request, places, &daemon, users, each), progress)?;
    let stored = u64::from(users) * u64::from(each);
    let mut point =
        Point { daemon, stored, next_user: users, errors: 0, ingest_per_s: Vec::new(), push_per_s: Vec::new() };
    let passing = PASSED.saturating_sub(stored).div_ceil(u64::from(EACH * ROUND_USERS));
    progress.phase("passing", passing);
    for round in 0..passing {
        point.errors += one_round(request, places, &mut point, None)?;
        progress.done(round + 1);
    }
    Ok(point)
}

/// Messages come for users of their own, and are pushed; it counts if it is told when the first round began. Returns the errors.
fn one_round(request: &Request, places: &Places, point: &mut Point, began: Option<Instant>) -> Result<u64, Failure> {
    let first_user = point.next_user;
    point.next_user += ROUND_USERS;
    let plan = Plan { first_user, ..push::plan(request, places, &point.daemon, ROUND_USERS, EACH) };
    let came = deposit::run(&plan, &Unseen)?;
    let crowd = Crowd { first_user, ..push::crowd(request, places, &point.daemon, ROUND_USERS, EACH) };
    let went = clients::run(&crowd, &Unseen).map_err(|failure| point.daemon.with_log(failure))?;
    if let Some(began) = began {
        let at = began.elapsed().as_secs_f64();
        point.ingest_per_s.push((at, came.per_second()));
        point.push_per_s.push((at, went.messages as f64 / went.seconds.max(1e-9)));
    }
    Ok(came.refused + went.errors)
}

/// The rate that as many rounds exceed as fall short of.
fn middle(rounds: &[(f64, f64)]) -> f64 {
    median(&rounds.iter().map(|(_, rate)| *rate).collect::<Vec<_>>()).unwrap_or_default()
}

/// Worst divided by best.
fn flatness(rates: &[f64]) -> f64 {
    let best = rates.iter().copied().fold(0.0, f64::max);
    if best > 0.0 { rates.iter().copied().fold(f64::INFINITY, f64::min) / best } else { 0.0 }
}

/// The rates of a point, round after round.
fn rounds(point: &Point) -> [Series; 2] {
    let series = |what: &str, unit, rounds: &[(f64, f64)]| Series {
        name: format!("{what}, {} stored", crate::report::grouped(point.stored as f64)),
        unit,
        points: rounds.to_vec(),
    };
    [
        series("push", "pushed messages/s, round by round", &point.push_per_s),
        series("ingest", "accepted messages/s, round by round", &point.ingest_per_s),
    ]
}

/// A part of a phase tells nobody how far it is.
struct Unseen;

impl Progress for Unseen {
    fn phase(&self, _name: &str, _total: u64) {}
    fn done(&self, _done: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_points_end_with_what_was_asked_for() {
        assert_eq!(sizes(10_000_000), [10_000, 1_000_000, 10_000_000]);
        assert_eq!(sizes(1_000_000), [10_000, 1_000_000]);
        assert_eq!(sizes(5_000), [5_000]);
    }

    #[test]
    fn the_worst_rate_counts() {
        assert_eq!(flatness(&[100.0, 80.0, 90.0]), 0.8);
        assert_eq!(flatness(&[100.0]), 1.0);
        assert_eq!(flatness(&[0.0, 0.0]), 0.0);
        assert_eq!(flatness(&[]), 0.0);
    }

    #[test]
    fn what_fits_needs_no_more_than_the_room() {
        let room = 40 << 30;
        let messages = fitting(room, 2_000_000, 1024);
        assert!(messages > 0 && stock::octets(messages + 2_000_000, 1024) <= room);
        assert_eq!(fitting(1 << 20, 2_000_000, 1024), 0);
    }
}
