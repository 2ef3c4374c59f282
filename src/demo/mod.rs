//! `deferd demo`: the main job of the daemon on real sockets, with nothing to set up.
//!
//! People write to bob, who is offline; bob comes back and has everything pushed to him; every octet is compared with
//! what was sent. The exit code is 0 only if all is right.

mod agents;
mod daemon;
mod fake;
mod ladder;
mod letters;
mod story;

use agents::{Failure, random_hex};
use daemon::Daemon;
use ladder::{Ladder, Look, Tone, grouped, spoken};
use std::io;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

/// Threads of the demo's daemon: two, where the machine has them, so that the parts really have to work together.
const CORES_MAX: u16 = 2;

/// Runs the demo on standard output.
pub fn run() -> ExitCode {
    let mut ladder = Ladder::new(Look::of_environment(), Instant::now(), Box::new(io::stdout()));
    match perform(&mut ladder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ladder.say("\n  The demo failed.", Tone::Bad);
            ladder.fact("expected", &failure.expected);
            ladder.fact("came", &failure.came);
            ExitCode::FAILURE
        }
    }
}

fn perform(ladder: &mut Ladder) -> Result<(), Failure> {
    let cores = available_parallelism().map_or(1, |cores| cores.get() as u16).min(CORES_MAX);
    let this =
        std::env::current_exe().map_err(|error| Failure::new("the path of this executable", error.to_string()))?;
    let mut daemon = Daemon::start(&this, cores, &random_hex(6))?;
    let ready = ladder.elapsed();
    ladder.say(
        &format!(
            "\n  deferd: process {}, {cores} core(s), SIP at {}, ready after {}",
            daemon.pid(),
            daemon.sip(),
            spoken(ready)
        ),
        Tone::Ask,
    );
    let played = story::play(daemon.sip(), ladder).map_err(|failure| daemon.with_log(failure))?;
    let (files, octets) = daemon.data_size();
    let stopped = daemon.stop().map_err(|failure| daemon.with_log(failure))?;

    let mut accepts = played.accepts.clone();
    accepts.sort_unstable();
    ladder.chapter("all is right");
    ladder.fact(
        "deposited",
        &format!(
            "{} messages, {} octets of body, for bob, who was offline",
            played.messages,
            grouped(played.body_octets)
        ),
    );
    ladder.fact(
        "durable and answered",
        &format!(
            "median {}, slowest {}",
            spoken(accepts.get(accepts.len() / 2).copied().unwrap_or_default()),
            spoken(accepts.last().copied().unwrap_or_default())
        ),
    );
    ladder.fact(
        "pushed",
        &format!(
            "{} messages in {} chunks over one MSRP session, in the order of their arrival",
            played.messages, played.chunks
        ),
    );
    ladder.fact("octets identical", &format!("yes, all {}", grouped(played.compared_octets)));
    ladder.fact("PUBLISH to first SEND", &spoken(played.publish_to_first_send));
    ladder.fact("PUBLISH to BYE", &spoken(played.publish_to_bye));
    ladder.fact(
        "data was in",
        &format!("{} ({files} files, {} octets; removed now)", daemon.data().display(), grouped(octets)),
    );
    ladder.fact("ended", &format!("by SIGTERM, exit code 0, after {}", spoken(stopped)));
    daemon.clean();
    Ok(())
}
