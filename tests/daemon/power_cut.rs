//! The power fails: what was in memory is gone, the page cache with it. Promise 1, over a real file system and a real block device.
//!
//! A daemon that is killed leaves its page cache to the next; so no `kill -9` shows a sync that was left out. Here the file system is
//! told to forget everything that it has not written, and the disk's flushes are counted. As root, on any Debian with `mkfs.ext4` and perl;
//! elsewhere these tests are skipped, and say so.

use std::{fs, time::Duration};

use deferd_kit::{
    chance::Chance,
    daemon::Daemon,
    ledger::Ledger,
    load::{Load, LoadOptions},
    peer::Transport,
    phone::{Mood, Phone, Weather},
    scene::{BOB, Scene},
};

use crate::{
    deferctl::refused,
    kill_nine::{drained, hardy},
    soak::measure,
    volume::Volume,
};

/// Power cuts in one run; more with `DEFERD_CUTS`.
///
/// 0x7a2da0f2, 25 cuts, "stored twice": what a life on two cores had stored was delivered by one on a single core, which had the
/// segment back at once; with it went the fingerprints, and a later life took the sender's repetition for a new message. Mended by
/// keeping the hint of what was had back (`uring::gone`, D66).
///
/// 0x2, 25 cuts, "stored twice": a core that was not home had stored a repetition of what was being delivered, and the power failed before
/// home could write that off. Mended by what tombstones say (D101).
const CUTS: usize = 3;

/// Deposits and deletions that are looked at one by one.
const ALONE: usize = 20;

/// How long a disk must have been left alone to be called quiet.
const QUIET: Duration = Duration::from_millis(400);

#[test]
fn whoever_hears_of_it_hears_after_the_disk_was_flushed() {
    let Some(volume) = Volume::mount(false) else { return };
    let mut options = hardy(1);
    options.data_dir = Some(volume.at().join("data"));
    let scene = Scene::with(options);
    let (alice, bob) = (scene.alice_tcp(), scene.bob());
    alice.message(BOB, "the first");
    crate::until("a quiet disk", || {
        let before = volume.flushes();
        std::thread::sleep(QUIET);
        volume.flushes() == before
    });
    let (begin, groups) = (volume.flushes(), measure(scene.http(), "deferd_log_groups_total"));
    for number in 0..ALONE {
        let before = volume.flushes();
        alice.message(BOB, &format!("message {number}"));
        let after = volume.flushes();
        assert!(after > before, "deposit {number} was answered 202 after {before} flushes, and there are {after}");
    }
    for number in 0..ALONE {
        alice.message(BOB, "to be deleted");
        let request = bob
            .request_to("REFER", "sip:Delete@mailserver.example.org")
            .with("Contact", bob.contact.clone())
            .with("Refer-To", "<sip:Deferred@mailserver.example.org>")
            .with("Refer-Sub", "false");
        let before = volume.flushes();
        assert_eq!(bob.exchange(&request).code(), 200);
        let after = volume.flushes();
        assert!(after > before, "deletion {number} was answered 200 after {before} flushes, and there are {after}");
    }
    let (flushes, groups) = (volume.flushes() - begin, measure(scene.http(), "deferd_log_groups_total") - groups);
    println!("{flushes} flushes for {groups} groups");
    assert!(groups >= 3 * ALONE as u64 && flushes >= groups, "{flushes} flushes for {groups} groups");
}

#[test]
fn what_was_accepted_survives_every_power_cut_and_comes_once() {
    let Some(volume) = Volume::mount(false) else { return };
    let seed = Chance::seed("DEFERD_SEED");
    let cuts = std::env::var("DEFERD_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(CUTS).max(1);
    println!("DEFERD_SEED={seed:#x} DEFERD_CUTS={cuts}");
    let mut chance = Chance::new(seed);
    let (ledger, weather) = (Ledger::new(), Weather::new(Mood::Wild));
    let mut options = hardy(1);
    options.data_dir = Some(volume.at().join("data"));
    let mut daemon = Daemon::start(options);
    let users: Vec<String> = ["bob", "carol", "dave", "erin"].map(|user| format!("sip:{user}@example.org")).into();
    let phones: Vec<Phone> = users
        .iter()
        .zip([Transport::Tcp, Transport::Udp].into_iter().cycle())
        .enumerate()
        .map(|(number, (user, transport))| {
            let switched_on = if number > 2 { Phone::tidy } else { Phone::start };
            switched_on(&ledger, &weather, transport, user, daemon.sip(), chance.fork())
        })
        .collect();
    let options =
        LoadOptions { to: daemon.sip(), users: users.clone(), tcp: 3, udp: 1, pipelined: 8, body_max: 12_288 };
    let load = Load::start(&ledger, &options, &mut chance);
    for round in 0..cuts {
        let witness = volume.at().join(format!("witness-{round}"));
        let before = ledger.sums().accepted;
        load.grant(100);
        let enough = before + 1 + chance.below(50) as usize;
        let alive = ledger.wait(Duration::from_secs(20), |sums| sums.accepted >= enough);
        std::thread::sleep(chance.millis(120));
        if !alive || !ledger.is_sound() {
            break;
        }
        daemon.assert_alive();
        ledger.death(|| {
            // The processors stop first: an error that the daemon could still tell anybody would be no power cut.
            daemon.signal("STOP");
            fs::write(&witness, "nobody has synced me").expect("room for a few octets");
            volume.cut();
            daemon.kill9();
        });
        volume.again();
        // Its name may be there, if the journal was written for somebody else in that moment; its octets are not.
        let remembered = fs::read(&witness).unwrap_or_default();
        assert!(remembered.is_empty(), "the page cache outlived the power cut: nothing is proven");
        daemon.restart([2, 1][round % 2]);
    }
    load.finish();
    drained(&ledger, &weather, phones, &mut daemon, seed);
    let sums = ledger.sums();
    assert!(sums.confirmed > 0 && sums.ended > 0, "nothing happened: {sums}");
}

/// The disk takes nothing more, and says so at the sync: that is final for the log (the page cache may lie), and for nothing else.
fn sync_fails(after_push: &str) {
    let Some(volume) = Volume::mount(true) else { return };
    let mut options = hardy(1).line("policy", "push_min_interval = \"3s\"");
    options = options.line("policy", &format!("after_push = \"{after_push}\""));
    options.data_dir = Some(volume.at().join("data"));
    let mut scene = Scene::with(options);
    let alice = scene.alice_tcp();
    let mut bob = scene.bob();
    // Bob is there; what comes now waits for his next push.
    let first = alice.message(BOB, "the first");
    scene.push_brings(&mut bob, &[first]);
    let mut waiting: Vec<_> = (0..5).map(|number| alice.message(BOB, &format!("number {number}"))).collect();
    let ballast = volume.starve();
    let refusal = loop {
        assert!(waiting.len() < 2_000, "the disk takes everything");
        let exchange = alice.exchange(alice.text(BOB, &"x".repeat(20_000)));
        match exchange.response.code() {
            202 => waiting.push(exchange.request),
            _ => break exchange.response,
        }
    };
    assert_eq!(refusal.code(), 503, "{refusal:?}");
    assert!(refusal.header("Retry-After").is_some(), "{refusal:?}");
    assert_eq!(measure(scene.http(), "deferd_log_poisoned"), 1, "a sync has failed");
    let pushed = bob.take_push(waiting.len());
    scene.same(&pushed, &waiting);
    // What was acknowledged is had, though nobody can write that down: in this life it is not pushed again, asked for or not.
    assert!(refused(&scene, &["push", BOB]).contains("nothing waits"));
    // Room alone does not bring the log back: only a start looks at what the disk really holds.
    fs::remove_file(&ballast).expect("it is ours");
    assert_eq!(alice.exchange(alice.text(BOB, "once more")).response.code(), 503);
    scene.assert_alive();
    scene.kill9();
    volume.again();
    scene.restart(1);
    let carol = "sip:carol@example.org";
    let deposit = scene.alice_tcp().message(carol, "a sound disk");
    let mut client = scene.client(Transport::Tcp, carol, scene.sip());
    scene.push_brings(&mut client, &[deposit]);
}

#[test]
fn a_failed_sync_refuses_deposits_and_pushes_go_on() {
    sync_fails("delete");
}

#[test]
fn a_failed_sync_refuses_deposits_and_pushes_go_on_where_had_messages_are_kept() {
    sync_fails("retain");
}
