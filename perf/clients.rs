//! The client population: users who come back, and take everything that waits for them.
//!
//! Knows who they are, what they have to get and how long that took; [`crate::population`] is how one thread plays them.

use crate::deposit::{Pace, SAMPLE, STALL, histogram};
use crate::outcome::{Failure, Progress, Setup};
use crate::pin;
use crate::population::Population;
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How a session comes to be.
#[derive(Clone, Debug)]
pub enum Way {
    /// PUBLISH, INVITE, ACK, BYE.
    Sip,
    /// The client connects at once and binds: what the limit of `push` sends to. All sessions have the same two paths, so that the
    /// frames can be made beforehand, and message numbers begin again after `cycle`.
    Direct { addr: SocketAddr, their_path: Vec<u8>, our_path: Vec<u8>, cycle: u32 },
}

/// Users who come back.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// SIP of the daemon, or of what stands in for it.
    pub to: SocketAddr,
    pub way: Way,
    pub first_user: u32,
    pub users: u32,
    /// What waits for each: so many messages, the first with this number.
    pub first_seq: u32,
    pub each: u32,
    /// Connections that carry the SIP of all of them, as those of a SIP/IP core do.
    pub sip_connections: usize,
    pub setup: Setup,
    /// Shares of those that read 80 KB a second, and of those that never answer a SEND. Nobody waits for them at the end.
    pub slow: f64,
    pub silent: f64,
    /// When they PUBLISH: at once, or so many a second.
    pub pace: Pace,
    /// Told apart from an earlier PUBLISH of the same users.
    pub publish_seq: u32,
    pub cpus: Vec<usize>,
    pub pin: bool,
    /// What came is kept, for the limits.
    pub keep: bool,
}

/// What a capture keeps.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// SIP messages as they came, in order.
    pub sip: Vec<Vec<u8>>,
    /// SENDs with content, as they came.
    pub frames: Vec<u8>,
    pub their_path: Vec<u8>,
    pub our_path: Vec<u8>,
}

/// What became of a crowd.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Users who got everything and their BYE.
    pub users: u64,
    /// Messages received whole by those who were waited for, and the octets of their bodies, wrapping included.
    pub messages: u64,
    pub octets: u64,
    /// Messages out of order, twice, missing or of somebody else, frames that are none, refused PUBLISHes.
    pub errors: u64,
    pub first_error: Option<String>,
    /// From the first PUBLISH to the last BYE.
    pub seconds: f64,
    /// From when a PUBLISH was due to the user's first SEND with content; and to its BYE. Microseconds.
    pub first_send_us: Histogram<u64>,
    pub bye_us: Histogram<u64>,
    /// Messages and users a second, over time.
    pub message_rate: Vec<(f64, f64)>,
    pub user_rate: Vec<(f64, f64)>,
    /// Reads of MSRP connections.
    pub reads: u64,
    /// Share of the time that the load's threads were running: near 1, the load may be the limit.
    pub load_busy: f64,
    pub kept: Kept,
}

/// What the threads of a crowd share.
pub(crate) struct Shared {
    pub(crate) began: Instant,
    pub(crate) messages: AtomicU64,
    pub(crate) users: AtomicU64,
    pub(crate) cancelled: AtomicBool,
}

/// What one thread found.
pub(crate) struct Share {
    pub(crate) octets: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) began_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) cpu: Duration,
    pub(crate) first_send_us: Histogram<u64>,
    pub(crate) bye_us: Histogram<u64>,
    pub(crate) reads: u64,
    pub(crate) kept: Kept,
}

impl Share {
    pub(crate) fn new() -> Share {
        Share {
            octets: 0,
            errors: 0,
            first_error: None,
            began_ns: u64::MAX,
            ended_ns: 0,
            cpu: Duration::ZERO,
            first_send_us: histogram(),
            bye_us: histogram(),
            reads: 0,
            kept: Kept::default(),
        }
    }

    pub(crate) fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(what());
        }
    }
}

/// Lets them come back and waits until all of them have everything.
///
/// # Errors
/// A connection that cannot be made, or nothing new for [`STALL`]: then with what was waited for.
pub fn run(crowd: &Crowd, progress: &dyn Progress) -> Result<Pushed, Failure> {
    run_with(crowd, progress, || Ok(()))
}

/// As [`run`]; `when_ready` is called when every client of a [`Way::Direct`] crowd has been told to connect.
pub fn run_with(
    crowd: &Crowd,
    progress: &dyn Progress,
    meanwhile: impl FnOnce() -> Result<(), Failure> + Send,
) -> Result<Pushed, Failure> {
    let threads = crowd.cpus.len().clamp(1, 64) as u32;
    let threads = threads.min(crowd.users.max(1));
    let shared = Shared {
        began: Instant::now(),
        messages: AtomicU64::new(0),
        users: AtomicU64::new(0),
        cancelled: AtomicBool::new(false),
    };
    let (mut message_rate, mut user_rate) = (Vec::new(), Vec::new());
    let shares: Vec<Result<Share, Failure>> = thread::scope(|scope| {
        let shared = &shared;
        let mut workers: Vec<_> = (0..threads)
            .map(|number| {
                let (from, until) = (crowd.users / threads * number, crowd.users / threads * (number + 1));
                let until = if number + 1 == threads { crowd.users } else { until };
                scope.spawn(move || {
                    if crowd.pin {
                        pin::pin(&crowd.cpus[number as usize % crowd.cpus.len().max(1)..][..1]);
                    }
                    let share = Population::new(crowd, shared, from..until, threads).and_then(Population::run);
                    if share.is_err() {
                        shared.cancelled.store(true, Ordering::Relaxed);
                    }
                    share
                })
            })
            .collect();
        workers.push(scope.spawn(move || {
            let end = meanwhile();
            if end.is_err() {
                shared.cancelled.store(true, Ordering::Relaxed);
            }
            end.map(|()| Share::new())
        }));
        let done = || workers.iter().all(|worker| worker.is_finished());
        watch(shared, progress, &mut message_rate, &mut user_rate, done);
        let panicked = || Err(Failure("a thread of the load panicked: please report it".into()));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| panicked())).collect()
    });
    let mut whole = Share::new();
    // What stopped the others is told first.
    let mut failures: Vec<Failure> = Vec::new();
    for share in shares {
        match share {
            Ok(share) => add(&mut whole, share),
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(failure) = failures.into_iter().next_back() {
        return Err(failure);
    }
    let span_ns = whole.ended_ns.saturating_sub(whole.began_ns).max(1);
    Ok(Pushed {
        users: shared.users.load(Ordering::Relaxed),
        messages: shared.messages.load(Ordering::Relaxed),
        octets: whole.octets,
        errors: whole.errors,
        first_error: whole.first_error,
        seconds: span_ns as f64 / 1e9,
        first_send_us: whole.first_send_us,
        bye_us: whole.bye_us,
        message_rate,
        user_rate,
        reads: whole.reads,
        load_busy: whole.cpu.as_nanos() as f64 / span_ns as f64 / f64::from(threads),
        kept: whole.kept,
    })
}

fn add(whole: &mut Share, share: Share) {
    whole.octets += share.octets;
    whole.errors += share.errors;
    whole.first_error = whole.first_error.take().or(share.first_error);
    whole.began_ns = whole.began_ns.min(share.began_ns);
    whole.ended_ns = whole.ended_ns.max(share.ended_ns);
    whole.cpu += share.cpu;
    let _ = whole.first_send_us.add(&share.first_send_us);
    let _ = whole.bye_us.add(&share.bye_us);
    whole.reads += share.reads;
    if !share.kept.sip.is_empty() || !share.kept.frames.is_empty() {
        whole.kept = share.kept;
    }
}

/// Samples what has come until the threads are done, or nothing has moved for [`STALL`].
fn watch(
    shared: &Shared,
    progress: &dyn Progress,
    message_rate: &mut Vec<(f64, f64)>,
    user_rate: &mut Vec<(f64, f64)>,
    done: impl Fn() -> bool,
) {
    let (mut last, mut moved, mut sampled) = ((0, 0), Instant::now(), Instant::now());
    while !done() {
        thread::sleep(Duration::from_millis(2));
        let span = sampled.elapsed();
        if span < SAMPLE {
            continue;
        }
        let now = (shared.messages.load(Ordering::Relaxed), shared.users.load(Ordering::Relaxed));
        let at = shared.began.elapsed().as_secs_f64();
        message_rate.push((at, (now.0 - last.0) as f64 / span.as_secs_f64()));
        user_rate.push((at, (now.1 - last.1) as f64 / span.as_secs_f64()));
        sampled = Instant::now();
        progress.done(now.0);
        if now != last {
            (last, moved) = (now, Instant::now());
        } else if moved.elapsed() > STALL {
            shared.cancelled.store(true, Ordering::Relaxed);
        }
    }
}
