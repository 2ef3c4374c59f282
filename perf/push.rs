//! The scenario `push`: deep queues, from the log to clients that read and answer every SEND.
//!
//! ```text
//!   capture │ deposit │ limit │ kill, start anew │ PUBLISH all ... last BYE │ limit │ limit from a log
//! ```
//! The daemon is killed before it pushes, so that nothing of the messages is in its process; the page cache stays as the deposits
//! left it. The limit runs before and after it on its processors.

use crate::capture::MARKED;
use crate::clients::{self, Crowd, Kept, Way};
use crate::daemon::Daemon;
use crate::deposit::{self, Pace, Plan};
use crate::ingest::{percentiles, rounded};
use crate::limit_log::Stored;
use crate::limit_push::{self, Batch};
use crate::outcome::{Failure, Latency, Outcome, Progress, Request, Series, Transport};
use crate::pin::Places;
use serde_json::{Value, json};

/// Messages of each user without --messages.
const EACH: u64 = 1_000;
/// Users without --users.
const USERS: u64 = 500;
/// Connections that carry everybody's SIP.
pub const SIP_CONNECTIONS: usize = 4;

/// Runs it once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let places = Places::of(request.cores);
    let mut daemon = Daemon::start(request, processors(request, &places))?;
    let found = measure(request, progress, &places, &mut daemon).map_err(|failure| daemon.with_log(failure));
    daemon.stop();
    found
}

/// The daemon's processors, or none where nothing is to be tied.
pub fn processors<'a>(request: &Request, places: &'a Places) -> &'a [usize] {
    if request.pin { &places.daemon } else { &[] }
}

/// Users, and messages of each.
fn shape(request: &Request) -> (u32, u32) {
    let (users, each) = match (request.users, request.messages) {
        (Some(users), messages) => (users, messages.map_or(EACH, |messages| messages.div_ceil(users))),
        (None, Some(messages)) => (messages.div_ceil(EACH), EACH.min(messages)),
        (None, None) => (USERS, EACH),
    };
    let bounded = |number: u64| number.clamp(1, u64::from(u32::MAX)) as u32;
    (bounded(users), bounded(each))
}

/// Messages for users who are away: the part of a run that nobody measures.
pub fn plan(request: &Request, places: &Places, daemon: &Daemon, users: u32, each: u32) -> Plan {
    Plan {
        to: daemon.sip,
        // Over UDP a user's messages may change places on their way, and then the push would be blamed for it.
        transport: Transport::Tcp,
        connections: request.connections,
        first_user: 0,
        users,
        first_seq: 0,
        each,
        interleave: request.interleave,
        size: request.size,
        life_s: None,
        pace: Pace::Peak,
        at_most: None,
        cpus: places.load.clone(),
        pin: request.pin,
    }
}

/// Those users, when they come back.
pub fn crowd(request: &Request, places: &Places, daemon: &Daemon, users: u32, each: u32) -> Crowd {
    Crowd {
        to: daemon.sip,
        way: Way::Sip,
        first_user: 0,
        users,
        first_seq: 0,
        each,
        sip_connections: SIP_CONNECTIONS,
        setup: request.setup,
        slow: request.slow,
        silent: request.silent,
        pace: Pace::Peak,
        publish_seq: 0,
        cpus: places.load.clone(),
        pin: request.pin,
        keep: false,
    }
}

/// The daemon's own octets of one whole push.
pub fn captured(request: &Request, places: &Places, daemon: &Daemon, progress: &dyn Progress) -> Result<Kept, Failure> {
    let one =
        Plan { first_user: MARKED[0], first_seq: MARKED[1], connections: 1, ..plan(request, places, daemon, 1, 1) };
    let done = deposit::run(&one, progress)?;
    if let Some(status) = done.first_refusal {
        return Err(Failure(format!("the daemon refuses a MESSAGE with {status}; look at --size and --config")));
    }
    let crowd = Crowd {
        first_user: MARKED[0],
        first_seq: MARKED[1],
        slow: 0.0,
        silent: 0.0,
        keep: true,
        sip_connections: 1,
        publish_seq: MARKED[1],
        ..crowd(request, places, daemon, 1, 1)
    };
    let pushed = clients::run(&crowd, progress)?;
    match pushed.first_error {
        Some(error) => {
            Err(Failure(format!("the daemon's push of one message is not right: {error}; please report it")))
        }
        None => Ok(pushed.kept),
    }
}

/// Deposits a plan whole.
pub fn deposited(plan: &Plan, progress: &dyn Progress) -> Result<(), Failure> {
    progress.phase("deposit", u64::from(plan.users) * u64::from(plan.each));
    let done = deposit::run(plan, progress)?;
    match done.first_refusal {
        Some(status) => Err(Failure(format!(
            "{} of {} MESSAGEs were refused, the first with {status}; quotas are policy.quota, bounds are limits: see --config",
            done.refused,
            done.refused + done.accepted
        ))),
        None => Ok(()),
    }
}

fn measure(
    request: &Request,
    progress: &dyn Progress,
    places: &Places,
    daemon: &mut Daemon,
) -> Result<Outcome, Failure> {
    let (users, each) = shape(request);
    let total = u64::from(users) * u64::from(each);
    let cpus = processors(request, places);
    progress.phase("capture", 1);
    let kept = captured(request, places, daemon, progress)?;
    let batch = Batch::of(&kept)?;
    deposited(&plan(request, places, daemon, users, each), progress)?;

    let crowd = crowd(request, places, daemon, users, each);
    progress.phase("limit", total);
    let (limit_clients, before_s) = limit_push::run(&crowd, &kept, &batch, cpus, request.cores, progress)?;
    daemon.restart()?;
    let syscalls = daemon.count_syscalls();
    let cpu = daemon.cpu();
    progress.phase("push", total);
    let pushed = clients::run(&crowd, progress)?;
    let cpu_us = (daemon.cpu() - cpu).as_micros() as f64 / pushed.messages.max(1) as f64;
    let syscalls = syscalls.end().map(|count| count as f64 / pushed.messages.max(1) as f64);
    progress.phase("limit", total);
    let (second, after_s) = limit_push::run(&crowd, &kept, &batch, cpus, request.cores, progress)?;
    progress.phase("limit from a log", total);
    let stored = Stored::write(daemon.scratch(), &crowd, &batch, request.interleave)?;
    let (from_log, from_log_s) = stored.run(&crowd, &kept, cpus, request.cores, progress)?;
    drop(stored);
    let from_log_rate = from_log.messages as f64 / from_log_s;

    let limit = (limit_clients.messages + second.messages) as f64 / (before_s + after_s);
    let rate = pushed.messages as f64 / pushed.seconds;
    let mut notes = vec![
        format!(
            "{users} users with {each} messages each, deposited {}; killed and started anew before the push; {}",
            if request.interleave { "over all users in turn" } else { "user after user" },
            places.told()
        ),
        format!(
            "The limit writes the daemon's own frames, {} octets a message on the wire, {} messages a write",
            batch.message_octets(),
            batch.messages()
        ),
        "The limit from a log sends bodies out of a mapped file, where they lie as they were deposited, and checks each".into(),
    ];
    if !places.apart() {
        notes.push("Load and daemon share a processor: the figures say little".into());
    }
    if request.slow + request.silent > 0.0 {
        notes.push("Slow and silent clients are not waited for and not counted; the limit has none".into());
    }
    notes.push(match syscalls {
        Some(_) => "System calls counted by `perf stat -e raw_syscalls:sys_enter` in the measured phase".into(),
        None => "System calls could not be counted: `perf stat -e raw_syscalls:sys_enter` does not work here".into(),
    });
    for (part, error) in [
        ("push", &pushed.first_error),
        ("limit", &limit_clients.first_error),
        ("limit", &second.first_error),
        ("limit from a log", &from_log.first_error),
    ] {
        notes.extend(error.as_ref().map(|error| format!("The first error of the {part}: {error}")));
    }
    let to_4 = |number: f64| json!((number * 1e4).round() / 1e4);
    Ok(Outcome {
        scenario: request.scenario,
        cores: request.cores,
        messages: pushed.messages,
        size: request.size,
        seconds: pushed.seconds,
        durable: true,
        errors: pushed.errors + limit_clients.errors + second.errors + from_log.errors,
        keys: vec![
            ("messages_per_s", rounded(rate)),
            ("limit_messages_per_s", rounded(limit)),
            ("ratio", to_4(rate / limit)),
            ("limit_from_log_per_s", rounded(from_log_rate)),
            ("ratio_from_log", to_4(rate / from_log_rate)),
            ("users", json!(pushed.users)),
            ("body_octets", json!(pushed.octets)),
            ("octets_per_s", rounded(pushed.octets as f64 / pushed.seconds)),
            ("syscalls_per_message", syscalls.map_or(Value::Null, to_4)),
            ("daemon_cpu_us_per_message", to_4(cpu_us)),
            ("messages_per_read", to_4(pushed.messages as f64 / pushed.reads.max(1) as f64)),
            ("load_busy", to_4(pushed.load_busy)),
            ("limit_load_busy", to_4(limit_clients.load_busy)),
            ("limit_before_per_s", rounded(limit_clients.messages as f64 / before_s)),
            ("limit_after_per_s", rounded(second.messages as f64 / after_s)),
            ("publish_to_first_send_us", percentiles(&pushed.first_send_us)),
            ("restart_seconds", to_4(daemon.ready_after.as_secs_f64())),
        ],
        series: vec![
            Series { name: "pushed".into(), unit: "messages/s", points: pushed.message_rate },
            Series { name: "limit".into(), unit: "messages/s", points: limit_clients.message_rate },
        ],
        latencies: vec![
            Latency { name: "publish_to_first_send_us", histogram_us: pushed.first_send_us },
            Latency { name: "publish_to_bye_us", histogram_us: pushed.bye_us },
        ],
        notes,
    })
}
