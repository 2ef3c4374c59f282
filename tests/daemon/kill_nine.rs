//! `kill -9` under load, again and again, with another number of cores each time.
//!
//! Promises 1, 2, 3 and 7 of the fault model, over sockets and a disk: what the ledger of the kit judges. Users are sent messages, take
//! them, and have them deleted; messages expire, so that segments are had back, and some stay to the end, so that records are copied
//! forward. `DEFERD_ROUNDS=100 cargo test --test daemon every_kill` has a hundred lives, `DEFERD_SEED` those of a run before.

use std::time::Duration;

use deferd_kit::{
    agents::{Client, Sender},
    chance::Chance,
    daemon::{Daemon, DaemonOptions},
    ledger::Ledger,
    load::{Load, LoadOptions},
    log::Log,
    payload,
    peer::Transport,
    phone::{Mood, Phone, Weather},
};

use crate::{DEFERD, soak::measure};

/// Lives of the daemon; more with `DEFERD_ROUNDS`.
const ROUNDS: usize = 20;

/// Messages that may be sent in one life: about as many as a small machine stores and delivers in a quarter of a second, so that
/// most kills hit both.
const PER_ROUND: u64 = 100;

/// Messages of 20 KB in every life that nobody comes for, and that expire soon: a segment is filled in two lives.
const MORTAL: usize = 25;

/// Small segments are passed often; short patience lets a silent client's push end before the next kill.
pub(crate) fn hardy(cores: usize) -> DaemonOptions {
    let mut options = DaemonOptions::new(DEFERD)
        .line("policy", "push_min_interval = \"0s\"")
        .line("msrp", "tx_timeout = \"2s\"")
        .line("msrp", "bind_timeout = \"2s\"")
        .line("limits", "segment_octets = \"1MiB\"");
    options.cores = cores;
    options
}

/// Everybody comes online and takes what waits; then the ledger judges.
pub(crate) fn drained(ledger: &Ledger, weather: &Weather, phones: Vec<Phone>, daemon: &mut Daemon, seed: u64) {
    weather.turn(Mood::Steady);
    let quiet = ledger.wait(Duration::from_secs(40), |sums| sums.waiting == 0 && sums.alive == 0);
    weather.turn(Mood::Off);
    phones.into_iter().for_each(Phone::join);
    daemon.assert_alive();
    match ledger.judge() {
        Ok(sums) => println!("{sums}"),
        Err(faults) => {
            let whys: Vec<String> =
                ["bob", "carol", "dave", "erin", "frank"].iter().map(|user| why(daemon, user)).collect();
            let (whys, stderr) = (whys.join("\n"), daemon.stderr());
            panic!("DEFERD_SEED={seed:#x}: {faults}\nall quiet: {quiet}\n{whys}\nstderr:\n{stderr}");
        }
    }
}

/// What the daemon says of a user who still has messages.
fn why(daemon: &Daemon, user: &str) -> String {
    let asked = std::process::Command::new(env!("CARGO_BIN_EXE_deferctl"))
        .arg("--config")
        .arg(daemon.config())
        .args(["why", &format!("sip:{user}@example.org")])
        .output();
    asked.map_or_else(|error| error.to_string(), |answer| String::from_utf8_lossy(&answer.stdout).into_owned())
}

#[test]
fn what_was_accepted_survives_every_kill_and_comes_once() {
    let seed = Chance::seed("DEFERD_SEED");
    let rounds = std::env::var("DEFERD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS).max(1);
    println!("DEFERD_SEED={seed:#x} DEFERD_ROUNDS={rounds}");
    let mut chance = Chance::new(seed);
    let (ledger, weather) = (Ledger::new(), Weather::new(Mood::Wild));
    let mut daemon = Daemon::start(hardy(1));
    let users: Vec<String> = ["bob", "carol", "dave", "erin", "frank"].map(|u| format!("sip:{u}@example.org")).into();
    let phones: Vec<Phone> = users
        .iter()
        .zip([Transport::Tcp, Transport::Udp].into_iter().cycle())
        .enumerate()
        .map(|(number, (user, transport))| {
            // The last two tidy up.
            let switched_on = if number > 2 { Phone::tidy } else { Phone::start };
            switched_on(&ledger, &weather, transport, user, daemon.sip(), chance.fork())
        })
        .collect();
    let options =
        LoadOptions { to: daemon.sip(), users: users.clone(), tcp: 3, udp: 2, pipelined: 8, body_max: 12_288 };
    let load = Load::start(&ledger, &options, &mut chance);
    let (log, mut kept, mut had_back, mut copied) = (Log::new(), Vec::new(), 0, 0);
    for round in 0..rounds {
        let before = ledger.sums().accepted;
        load.grant(PER_ROUND);
        let enough = before + 1 + chance.below(PER_ROUND) as usize / 2;
        let alive = ledger.wait(Duration::from_secs(20), |sums| sums.accepted >= enough);
        let alice = Sender::new(&log, Transport::Tcp, "sip:alice@example.org", daemon.sip());
        kept.push(alice.message("sip:zoe@example.org", &format!("{round} {}", "k".repeat(3_000))));
        for _ in 0..MORTAL {
            alice.exchange(alice.text("sip:nobody@example.org", &"m".repeat(20_000)).with("Expires", "1"));
        }
        // Mostly while messages still come in; now and then in the quiet after them.
        let most = if chance.one_in(4) { 600 } else { 120 };
        std::thread::sleep(chance.millis(most));
        if !alive || !ledger.is_sound() {
            break;
        }
        daemon.assert_alive();
        had_back += measure(daemon.http(), "deferd_segments_reclaimed_total");
        copied += measure(daemon.http(), "deferd_store_copied_bytes_total");
        ledger.death(|| daemon.kill9());
        daemon.restart([2, 3, 1][round % 3]);
    }
    load.finish();
    drained(&ledger, &weather, phones, &mut daemon, seed);
    let sums = ledger.sums();
    assert!(sums.confirmed > 0 && sums.ended > 0 && sums.deleted > 0, "nothing happened: {sums}");
    println!("{had_back} segments had back, {copied} octets copied forward");
    assert!(
        rounds < ROUNDS || had_back > 3 && copied > 0,
        "{had_back} segments had back, {copied} octets copied forward"
    );
    // Whoever was away all the time has all of theirs, in order, from whichever segment they lie in by now.
    let mut zoe = Client::new(&log, Transport::Tcp, "sip:zoe@example.org", daemon.sip());
    zoe.publish_presence(true);
    let pushed = zoe.take_push(kept.len());
    for (message, deposit) in pushed.iter().zip(&kept) {
        payload::pager_is(message, deposit).unwrap_or_else(|why| panic!("{}: {why}", deposit.call_id()));
    }
}
