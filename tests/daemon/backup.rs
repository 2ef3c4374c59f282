//! A backup is taken of a daemon that works, brought back elsewhere, and served from.

use crate::{
    deferctl::{CAROL, DEFERCTL, ids, printed, refused, said},
    kill_nine::hardy,
};
use deferd_kit::{
    chance::Chance,
    daemon::{Daemon, DaemonOptions},
    ledger::Ledger,
    load::{Load, LoadOptions},
    log::Log,
    peer::Transport,
    phone::{Mood, Phone, Weather},
    scene::{ALICE, BOB, Scene},
    sip::SipMessage,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

fn restore(from: &Path, to: &Path, further: &[&str]) -> Output {
    Command::new(DEFERCTL).arg("restore").arg(from).arg("--to").arg(to).args(further).output().expect("deferctl runs")
}

#[track_caller]
fn restored(from: &Path, to: &Path) {
    let output = restore(from, to, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A daemon on what was restored.
fn scene_on(data_dir: &Path, cores: usize) -> Scene {
    let mut options = hardy(cores);
    options.data_dir = Some(data_dir.to_path_buf());
    Scene::with(options)
}

#[test]
fn what_was_accepted_before_a_backup_is_in_it_whatever_the_daemon_does_meanwhile() {
    let seed = Chance::seed("DEFERD_SEED");
    println!("DEFERD_SEED={seed:#x}");
    let mut chance = Chance::new(seed);
    let mut scene = Scene { log: Log::new(), daemon: Daemon::start(hardy(2)) };
    let alice = scene.alice_tcp();
    let home = tempfile::tempdir().expect("a directory");
    // Deposits, pushes, confirmations and reclaiming for others, all the time.
    let (ledger, weather) = (Ledger::new(), Weather::new(Mood::Steady));
    let users: Vec<String> = ["dave", "erin"].map(|user| format!("sip:{user}@example.org")).into();
    let phone = |user: &String| Phone::start(&ledger, &weather, Transport::Tcp, user, scene.sip(), Chance::new(seed));
    let phones: Vec<Phone> = users.iter().map(phone).collect();
    let options =
        LoadOptions { to: scene.sip(), users: users.clone(), tcp: 2, udp: 0, pipelined: 16, body_max: 40_000 };
    let load = Load::start(&ledger, &options, &mut chance);
    load.grant(u64::MAX);
    let mut waiting: Vec<SipMessage> = Vec::new();
    let mut carol = scene.client(Transport::Tcp, CAROL, scene.sip());
    let mut place = PathBuf::new();
    for round in 0..3 {
        waiting.extend((0..20).map(|number| alice.message(BOB, &format!("{round}.{number}"))));
        let delivered: Vec<SipMessage> = (0..5).map(|number| alice.message(CAROL, &format!("{number}"))).collect();
        scene.push_brings(&mut carol, &delivered);
        carol.publish_presence(false);
        let before = ledger.sums().accepted;
        assert!(ledger.wait(Duration::from_secs(20), |sums| sums.accepted > before + 200), "a load");
        place = home.path().join(format!("backup-{round}"));
        let made = said(&scene, &["backup", text(&place)]);
        assert_eq!(made["damaged"], 0);
        assert!(made["messages"].as_u64() >= Some(waiting.len() as u64), "{made}");
    }
    // Accepted after the last backup began: not asked for, and no harm.
    ledger.death(|| scene.kill9());
    weather.turn(Mood::Off);
    drop(load);
    phones.into_iter().for_each(Phone::join);

    let data = home.path().join("data");
    restored(&place, &data);
    let mut second = scene_on(&data, 3);
    let mut bob = second.bob();
    second.push_brings(&mut bob, &waiting);
    let mut carol = second.client(Transport::Tcp, CAROL, second.sip());
    carol.publish_presence(true);
    assert!(carol.invite_within(Duration::from_millis(500)).is_none(), "delivered before the backup, and pushed again");
    // It goes on as any other, through a kill and another number of cores.
    let more: Vec<SipMessage> =
        (0..300).map(|number| second.alice_tcp().message(BOB, &format!("{number}{}", "x".repeat(9_000)))).collect();
    second.assert_alive();
    drop(bob);
    second.kill9();
    second.restart(1);
    let mut bob = second.bob();
    second.push_brings(&mut bob, &more);
    assert_eq!(said(&second, &["status"])["phase"], "ready");
}

/// What is kept beyond its time is known to have been missed, by the index of a segment as well, in a backup as in the original.
#[test]
fn what_was_missed_is_reported_from_a_backup_too() {
    let keeps = |options: DaemonOptions| options.line("policy", "expired = \"keep\"");
    let scene = Scene::with(keeps(hardy(1)));
    let alice = scene.alice();
    let body = format!(
        "From: <{ALICE}>\r\nTo: <{BOB}>\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: missed\r\n\
         imdn.Disposition-Notification: negative-delivery\r\n\r\nContent-Type: text/plain\r\n\r\nhello"
    );
    alice.deposit(alice.text(BOB, "").with("Expires", "1").with_body("message/cpim", body));
    crate::until("its expiry", || said(&scene, &["queue", BOB])["entries"][0]["standing"] == "retained");
    // Behind it so much that its segment is left, and has its index.
    let tcp = scene.alice_tcp();
    (0..150).for_each(|number| _ = tcp.message(CAROL, &format!("{number}{}", "x".repeat(9_000))));
    let home = tempfile::tempdir().expect("a directory");
    let (place, data) = (home.path().join("backup"), home.path().join("data"));
    crate::until("an index", || {
        crate::deferctl::segments(scene.data_dir()).iter().any(|path| path.with_extension("hint").exists())
    });
    said(&scene, &["backup", text(&place)]);
    restored(&place, &data);
    let mut options = keeps(hardy(1));
    options.data_dir = Some(data);
    let mut second = Scene::with(options);
    let report = |second: &Scene| {
        let mut alice = second.client(Transport::Udp, ALICE, second.sip());
        alice.publish_presence(true);
        let bob = second.bob();
        let refer = bob.request_to("REFER", "sip:Delete@mailserver.example.org").with("Contact", bob.contact.clone());
        let refer = refer.with("Refer-To", "<sip:Deferred@mailserver.example.org>").with("Refer-Sub", "false");
        assert_eq!(bob.exchange(&refer).code(), 200);
        let received = alice.inbox.find(Duration::from_secs(5), |message| message.method() == "MESSAGE")?;
        alice.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "x"));
        Some(String::from_utf8_lossy(&received.message.body).into_owned())
    };
    let told = report(&second).expect("a report");
    assert!(told.contains("<message-id>missed</message-id>") && told.contains("<failed/>"), "{told}");
    let taken = "deferd_reports_sent_total{core=\"0\"}";
    crate::until("the end of the report", || crate::quota::metric(second.http(), taken) == Some(1));
    second.restart(1);
    assert_eq!(report(&second), None, "once");
}

#[test]
fn a_backup_without_a_daemon_is_made_under_the_lock() {
    let mut scene = Scene::with(hardy(1));
    let waiting = [scene.alice().message(BOB, "waits")];
    scene.kill9();
    let home = tempfile::tempdir().expect("a directory");
    let (place, data) = (home.path().join("backup"), home.path().join("data"));
    assert!(printed(&scene, &["backup", text(&place)]).contains("1 messages of 1 users"));
    restored(&place, &data);
    let second = scene_on(&data, 1);
    let mut bob = second.bob();
    second.push_brings(&mut bob, &waiting);
}

#[test]
fn what_is_no_backup_or_no_place_for_one_is_refused() {
    let scene = Scene::with(hardy(1));
    scene.alice().message(BOB, "a mark: XYZZY");
    let home = tempfile::tempdir().expect("a directory");
    let (place, data) = (home.path().join("backup"), home.path().join("data"));
    fs::create_dir(&place).expect("made");
    fs::write(place.join("something"), "else").expect("written");
    assert!(refused(&scene, &["backup", text(&place)]).contains("is not empty"));
    fs::remove_file(place.join("something")).expect("removed");
    said(&scene, &["backup", text(&place)]);
    let refusal = |from: &Path, to: &Path| {
        let output = restore(from, to, &[]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refusal(&place, scene.data_dir()).contains("in use by another deferd"));
    assert!(refusal(scene.data_dir(), &data).contains("not a backup"));
    assert!(refusal(&place, home.path()).contains("is not empty"));
    // An octet of the message is rotten: named, and refused unless asked for.
    let segments = crate::deferctl::segments(&place);
    let rotten =
        segments.iter().find(|path| fs::read(path).is_ok_and(|octets| mark(&octets).is_some())).expect("it is");
    let mut octets = fs::read(rotten).expect("readable");
    let at = mark(&octets).expect("it is there");
    octets[at] ^= 1;
    fs::write(rotten, octets).expect("written");
    let said = refusal(&place, &data);
    assert!(said.contains("1 records of this backup are damaged") && said.contains("not readable: Body"), "{said}");
    assert!(!data.exists());
    assert!(restore(&place, &data, &["--accept-damage"]).status.success());
    assert!(refusal(&place, &data).contains("is not empty"));
    // One that was never finished.
    fs::remove_file(place.join("manifest")).expect("removed");
    assert!(refusal(&place, &home.path().join("other")).contains("never finished"));
}

fn mark(octets: &[u8]) -> Option<usize> {
    octets.windows(5).position(|window| window == b"XYZZY")
}

/// The lease is the connection: one at a time, and over when it ends however that happens.
#[test]
fn segments_are_held_back_as_long_as_the_connection_lives() {
    let scene = Scene::with(hardy(1));
    scene.alice().message(BOB, "waits");
    let socket = scene.config().with_file_name("control.sock");
    let ask = |stream: &UnixStream, what: &str| -> Value {
        (&mut &*stream).write_all(format!("{}\n", json!({ "do": what })).as_bytes()).expect("sent");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    };
    let (one, other) =
        (UnixStream::connect(&socket).expect("it listens"), UnixStream::connect(&socket).expect("it does"));
    let begun = ask(&one, "backup-begin");
    assert_eq!(begun["ok"], true);
    let segments = begun["segments"].as_array().expect("segments");
    assert!(segments.iter().any(|segment| segment["durable"].as_u64() < segment["octets"].as_u64()), "{begun}");
    assert_eq!(ask(&one, "backup-hold")["ok"], true);
    assert!(ask(&other, "backup-begin")["error"].as_str().is_some_and(|error| error.contains("under way already")));
    assert!(ask(&other, "backup-end")["error"].as_str().is_some_and(|error| error.contains("no backup is under way")));
    drop(one);
    crate::until("the end of the lease", || ask(&other, "backup-begin")["ok"] == true);
    assert_eq!(ask(&other, "backup-end")["ok"], true);
    assert_eq!(ids(&said(&scene, &["queue", BOB])).len(), 1);
}
