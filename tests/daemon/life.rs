//! How a daemon begins, ends and remembers: SIGTERM, what is in the way of a start, what a restart does not forget.

use std::{
    fs,
    io::Read,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use deferd_kit::{
    daemon::{Daemon, DaemonOptions},
    msrp_client::Reply,
    peer::Transport,
    scene::{BOB, Scene},
    sdp::Setup,
    sip::SipMessage,
};

use crate::DEFERD;

/// How long nothing is waited for where nothing may come: a push begins within milliseconds.
const NOTHING: Duration = Duration::from_millis(600);

fn deposits(scene: &Scene, count: usize) -> Vec<SipMessage> {
    let alice = scene.alice_tcp();
    (0..count).map(|number| alice.message(BOB, &format!("number {number}"))).collect()
}

#[test]
fn sigterm_during_a_push_says_bye_and_loses_nothing() {
    let mut scene = Scene::with(DaemonOptions::new(DEFERD).line("server", "stop_timeout = \"5s\""));
    let deposited = deposits(&scene, 12);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|number, _| vec![if number < 3 { Reply::Status(200) } else { Reply::Silence }]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(4);
    let begun = Instant::now();
    scene.signal_term();
    call.expect_bye();
    assert_eq!(scene.terminate(), 0, "{}", scene.stderr());
    assert!(begun.elapsed() < Duration::from_secs(7), "stop_timeout is 5 s: {:?}", begun.elapsed());
    scene.restart(1);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposited[3..]);
    scene.nothing_waits(&mut bob);
}

#[test]
fn sigterm_ends_an_idle_daemon_at_once() {
    let mut scene = Scene::new(DEFERD);
    let begun = Instant::now();
    assert_eq!(scene.terminate(), 0, "{}", scene.stderr());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    scene.restart(2);
    let (_alice, _bob) = (scene.alice_tcp(), scene.bob());
    let begun = Instant::now();
    assert_eq!(scene.terminate(), 0, "{}", scene.stderr());
    assert!(begun.elapsed() < Duration::from_secs(2), "with two quiet connections: {:?}", begun.elapsed());
}

#[test]
fn a_client_that_says_nothing_holds_up_no_stop() {
    let options = DaemonOptions::new(DEFERD).line("server", "stop_timeout = \"1s\"");
    let mut scene = Scene::with(options);
    let deposited = deposits(&scene, 1);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    let begun = Instant::now();
    // The BYE is seen and never answered.
    scene.signal_term();
    call.expect_in_dialog("BYE");
    assert_eq!(scene.terminate(), 0, "{}", scene.stderr());
    assert!(begun.elapsed() < Duration::from_secs(3), "stop_timeout is 1 s: {:?}", begun.elapsed());
    scene.restart(1);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposited);
}

#[test]
fn sigterm_says_bye_to_the_clients_of_every_core() {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 4;
    let mut scene = Scene::with(options);
    let alice = scene.alice_tcp();
    let users: Vec<String> = (0..12).map(|number| format!("sip:user{number}@example.org")).collect();
    let mut calls = Vec::new();
    for (number, user) in users.iter().enumerate() {
        alice.message(user, "hello");
        let transport = if number % 2 == 0 { Transport::Tcp } else { Transport::Udp };
        // A connection or port each: which core gets it is the kernel's choice, and seldom the user's home.
        let mut client = scene.client(transport, user, scene.sip());
        client.publish_presence(true);
        let (call, msrp) = (client.expect_invite(), client.msrp(Setup::Active));
        msrp.set_policy(|_, _| vec![Reply::Silence]);
        call.answer(&msrp, Setup::Active);
        msrp.expect_sends(1);
        calls.push((client, call, msrp));
    }
    let begun = Instant::now();
    scene.signal_term();
    calls.iter().for_each(|(_, call, _)| drop(call.expect_bye()));
    assert_eq!(scene.terminate(), 0, "{}", scene.stderr());
    assert!(begun.elapsed() < Duration::from_secs(4), "stop_timeout is not needed: {:?}", begun.elapsed());
}

/// Runs a daemon that should not start; its exit code and what it said.
#[track_caller]
fn refused(config: &Path) -> (i32, String) {
    let mut child = Command::new(DEFERD)
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("deferd runs");
    let mut pipe = child.stderr.take().expect("stderr is piped");
    let reader = thread::spawn(move || {
        let mut said = String::new();
        pipe.read_to_string(&mut said).ok();
        said
    });
    let deadline = Instant::now() + deferd_kit::WAIT;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return (status.code().unwrap_or(-1), reader.join().unwrap_or_default());
        }
        if Instant::now() > deadline {
            child.kill().ok();
            child.wait().ok();
            panic!("a daemon that should not start runs:\n{}", reader.join().unwrap_or_default());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The configuration of a second daemon beside this one: every port and path its own, but for what `change` shares again.
fn beside(scene: &Scene, change: impl Fn(String) -> String) -> PathBuf {
    let text = fs::read_to_string(scene.config()).expect("the kit wrote it");
    let (sip, http, msrp) = (scene.sip().port(), scene.http().port(), scene.msrp_port());
    let home = scene.config().with_file_name("second");
    fs::create_dir_all(&home).expect("a directory");
    let own = text
        .replace(&format!(":{sip}\""), &format!(":{}\"", sip + 2))
        .replace(&format!(":{http}\""), &format!(":{}\"", sip + 3))
        .replace(&format!(":{msrp}\""), &format!(":{}\"", sip + 24))
        .replace(&format!("{:?}", scene.data_dir()), &format!("{:?}", home.join("data")))
        .replace("control.sock", "second.sock");
    let path = home.join("deferd.toml");
    fs::write(&path, change(own)).expect("a file");
    path
}

#[test]
fn what_is_occupied_is_named_and_ends_the_start_with_2() {
    let scene = Scene::new(DEFERD);
    let (sip, second) = (scene.sip().port(), scene.sip().port() + 2);
    let cases = [
        (format!("udp:127.0.0.1:{second}"), format!("udp:127.0.0.1:{sip}"), format!("udp:127.0.0.1:{sip}")),
        (format!("tcp:127.0.0.1:{second}"), format!("tcp:127.0.0.1:{sip}"), format!("tcp:127.0.0.1:{sip}")),
        (
            format!("\"127.0.0.1:{}\"", sip + 24),
            format!("\"127.0.0.1:{}\"", scene.msrp_port()),
            format!("127.0.0.1:{}", scene.msrp_port()),
        ),
        (
            format!("{:?}", scene.config().with_file_name("second").join("data")),
            format!("{:?}", scene.data_dir()),
            scene.data_dir().display().to_string(),
        ),
    ];
    for (own, shared, named) in cases {
        let (code, said) = refused(&beside(&scene, |text| {
            assert!(text.contains(&own), "{own} stands in\n{text}");
            text.replace(&own, &shared)
        }));
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(&named), "{named} is named in: {said}");
    }
    // A stranger in the place is no different from a second deferd.
    let udp = UdpSocket::bind(("127.0.0.1", sip + 4)).expect("a port of the daemon's block");
    let tcp = TcpListener::bind(("127.0.0.1", sip + 5)).expect("a port of the daemon's block");
    for (transport, port) in
        [("udp", udp.local_addr().map(|at| at.port())), ("tcp", tcp.local_addr().map(|at| at.port()))]
    {
        let (own, strange) = (format!("{transport}:127.0.0.1:{second}"), format!("127.0.0.1:{}", port.unwrap_or(0)));
        let (code, said) = refused(&beside(&scene, |text| text.replace(&own, &format!("{transport}:{strange}"))));
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(&strange), "{strange} is named in: {said}");
    }
    // The first one noticed nothing.
    let deposit = scene.alice().message(BOB, "still here");
    scene.push_brings(&mut scene.bob(), &[deposit]);
}

#[test]
fn a_core_s_own_msrp_port_is_asked_for_too() {
    let scene = Scene::new(DEFERD);
    let third = TcpListener::bind(("127.0.0.1", scene.sip().port() + 26)).expect("a port of the daemon's block");
    let config = beside(&scene, |text| text.replace("cores = 1", "cores = 3"));
    let (code, said) = refused(&config);
    assert_eq!(code, 2, "{said}");
    let named = third.local_addr().expect("it is bound").to_string();
    assert!(said.contains(&named), "{named} is named in: {said}");
}

#[test]
fn a_wrong_configuration_ends_with_2_and_the_line() {
    let scene = Scene::new(DEFERD);
    let (code, said) = refused(Path::new("/nonexistent/deferd.toml"));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("/nonexistent/deferd.toml"), "{said}");
    let config = beside(&scene, |text| text.replace("[server]\n", "[server]\ncolour = \"blue\"\n"));
    let (code, said) = refused(&config);
    assert_eq!(code, 2, "{said}");
    let text = fs::read_to_string(&config).expect("it was written");
    let line = 1 + text.lines().position(|line| line.starts_with("colour")).expect("it is there");
    let place = format!("{}:{line}: ", config.display());
    assert!(said.contains(&place) && said.contains("colour"), "{place} stands in: {said}");
    let config = beside(&scene, |text| format!("{text}\nthis is no TOML\n"));
    let (code, said) = refused(&config);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains(&format!("{}:", config.display())), "{said}");
}

#[test]
fn settings_and_publications_survive_a_restart() {
    let mut scene = Scene::new(DEFERD);
    let mut bob = scene.bob_udp();
    bob.publish_settings(false);
    bob.publish_presence(true);
    let deposit = scene.alice().message(BOB, "for later");
    scene.kill9();
    scene.restart(2);
    // The kit's PUBLISH carries the tag from before, and insists on 200.
    bob.publish_presence(true);
    assert!(bob.invite_within(NOTHING).is_none(), "delivery was switched off before the restart");
    bob.refresh("poc-settings");
    assert!(bob.invite_within(NOTHING).is_none(), "delivery was switched off before the restart");
    scene.kill9();
    scene.restart(1);
    bob.publish_settings(true);
    let pushed = bob.take_push(1);
    scene.same(&pushed, &[deposit]);
}

#[test]
fn a_removed_publication_stays_removed() {
    let mut scene = Scene::new(DEFERD);
    let mut bob = scene.bob_udp();
    bob.publish_presence(true);
    let tag = bob.tag("presence").expect("a tag").to_string();
    let gone = bob.publication("presence").set("Expires", "0");
    bob.publish(gone);
    scene.kill9();
    scene.restart(1);
    scene.alice().message(BOB, "nobody is there");
    assert!(bob.invite_within(NOTHING).is_none(), "bob is offline");
    let stale = bob.exchange(&bob.publication("presence").with("SIP-If-Match", tag));
    assert_eq!(stale.code(), 412, "{stale:?}");
}

#[test]
fn a_udp_user_who_was_online_is_pushed_after_a_restart_without_another_publish() {
    for cores in [1, 3] {
        let mut scene = Scene::new(DEFERD);
        let mut bob = scene.bob_udp();
        bob.publish_presence(true);
        // Deposited after the restart.
        scene.kill9();
        scene.restart(cores);
        let deposit = scene.alice().message(BOB, "after the restart");
        let pushed = bob.take_push(1);
        scene.same(&pushed, &[deposit]);
        // Deposited before it: the INVITE is seen, not answered, and dies with the daemon.
        let deposit = scene.alice().message(BOB, "before the restart");
        bob.expect_invite();
        scene.kill9();
        scene.restart(1);
        let pushed = bob.take_push(1);
        scene.same(&pushed, &[deposit]);
    }
}

#[test]
fn a_message_sent_again_after_a_restart_is_stored_once() {
    let mut scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let first = alice.text(BOB, "once");
    alice.deposit(first.clone());
    scene.kill9();
    scene.restart(2);
    // Its sender never saw the 202: the same message in a new transaction.
    alice.deposit(first.clone().set("Via", alice.peer.via()));
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, std::slice::from_ref(&first));
    // The same after it was delivered.
    let mut scene = scene;
    scene.kill9();
    scene.restart(1);
    scene.alice().deposit(first.clone().set("Via", alice.peer.via()));
    let mut bob = scene.bob();
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_daemon_starts_twenty_times_in_a_row_on_the_same_directory() {
    let mut daemon = Daemon::start(DaemonOptions::new(DEFERD).line("limits", "segment_octets = \"1MiB\""));
    for round in 0..20 {
        daemon.restart(1 + round % 3);
    }
    assert_eq!(daemon.terminate(), 0);
}

/// A log file lay on the disk that was full: the subscriber complained about its own failure on stderr, which panicked.
#[test]
fn who_cannot_write_its_log_serves_on_and_a_hangup_is_no_end() {
    let scene = Scene::new(DEFERD);
    let config = beside(&scene, |text| text);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    let mut child = Command::new(DEFERD)
        .args(["run", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(full)
        .spawn()
        .expect("deferd runs");
    let sip = (scene.sip().ip(), scene.sip().port() + 2);
    crate::until("a daemon that listens", || {
        assert!(child.try_wait().expect("a child can be waited for").is_none(), "it ended");
        std::net::TcpStream::connect(sip).is_ok()
    });
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {name}");
    };
    signal("-HUP");
    thread::sleep(Duration::from_millis(100));
    assert!(std::net::TcpStream::connect(sip).is_ok(), "SIGHUP ended it");
    signal("-TERM");
    assert_eq!(child.wait().expect("a child can be waited for").code(), Some(0));
}
