//! Clients that lie, stall or flood cost their own session, and nobody else anything (promises 5 and 6).

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use deferd_kit::{
    agents::Client,
    call::Call,
    daemon::DaemonOptions,
    msrp,
    msrp_client::{MsrpClient, Reply},
    peer::Transport,
    scene::{BOB, Scene},
    sdp::Setup,
    sip::SipMessage,
    unique,
};

use crate::DEFERD;

const CAROL: &str = "sip:carol@example.org";

/// One core, so that everybody shares it, and little patience with a silent session.
fn options() -> DaemonOptions {
    DaemonOptions::new(DEFERD).line("msrp", "tx_timeout = \"2s\"").line("msrp", "bind_timeout = \"2s\"")
}

fn deposits(scene: &Scene, user: &str, count: usize, octets: usize) -> Vec<SipMessage> {
    let alice = scene.alice_tcp();
    (0..count).map(|number| alice.message(user, &format!("number {number} {}", "x".repeat(octets)))).collect()
}

/// Bob's push, accepted with this behaviour; the binding stands.
fn bad_bob(
    scene: &Scene,
    policy: impl FnMut(usize, &msrp::Frame) -> Vec<Reply> + Send + 'static,
) -> (Client, Call, MsrpClient) {
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(policy);
    call.answer(&msrp, Setup::Active);
    (bob, call, msrp)
}

/// Another user's whole push, while whatever is going on goes on.
#[track_caller]
fn carol_is_served(scene: &Scene) {
    let deposited = deposits(scene, CAROL, 20, 2_000);
    let mut carol = scene.client(Transport::Tcp, CAROL, scene.sip());
    scene.push_brings(&mut carol, &deposited);
}

/// What a bad client did not acknowledge comes to a good one.
#[track_caller]
fn bob_gets(scene: &mut Scene, deposited: &[SipMessage]) {
    scene.assert_alive();
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, deposited);
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_client_that_stops_reading_holds_up_nobody() {
    let mut scene = Scene::with(options());
    // 12 MB: more than the window and every socket buffer between.
    let deposited = deposits(&scene, BOB, 60, 200_000);
    let (_bob, call, msrp) = bad_bob(&scene, |_, _| vec![Reply::StopReading]);
    msrp.expect_sends(1);
    carol_is_served(&scene);
    call.expect_bye();
    msrp.cut();
    bob_gets(&mut scene, &deposited);
}

#[test]
fn a_client_that_never_acknowledges_loses_its_session_and_no_message() {
    let mut scene = Scene::with(options());
    let deposited = deposits(&scene, BOB, 20, 100);
    let (_bob, call, msrp) = bad_bob(&scene, |_, _| vec![Reply::Silence]);
    msrp.expect_sends(1);
    carol_is_served(&scene);
    call.expect_bye();
    bob_gets(&mut scene, &deposited);
}

#[test]
fn a_client_that_acknowledges_what_was_not_sent_loses_its_session_and_no_message() {
    let mut scene = Scene::with(options());
    let deposited = deposits(&scene, BOB, 20, 100);
    let (_bob, call, _msrp) = bad_bob(&scene, |_, send| {
        let mut lie = send.clone();
        lie.tid = unique();
        vec![Reply::Raw(msrp::response(&lie, 200, "OK"))]
    });
    carol_is_served(&scene);
    call.expect_bye();
    bob_gets(&mut scene, &deposited);
}

#[test]
fn a_client_that_answers_with_rubbish_loses_its_session_and_no_message() {
    let rubbish: [&[u8]; 4] =
        [b"HTTP/1.1 200 OK\r\n\r\n", b"\0\0\0\0\0\0\0\0\r\n\r\n", b"MSRP x\r\n", &[b'-'; 100_000]];
    let mut scene = Scene::with(options());
    let deposited = deposits(&scene, BOB, 8, 100);
    for octets in rubbish {
        let (_bob, call, _msrp) = bad_bob(&scene, |_, _| vec![Reply::Raw(octets.to_vec())]);
        carol_is_served(&scene);
        call.expect_bye();
    }
    bob_gets(&mut scene, &deposited);
}

#[test]
fn a_client_that_never_connects_loses_its_session_and_no_message() {
    let mut scene = Scene::with(options());
    let deposited = deposits(&scene, BOB, 3, 100);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.send(&call.accept_with(&deferd_kit::sdp::Answer::new(msrp.path(), Setup::Active).write()));
    call.expect_ack();
    carol_is_served(&scene);
    call.expect_bye();
    bob_gets(&mut scene, &deposited);
}

#[test]
fn a_full_mailbox_refuses_with_480_and_says_when_to_come_back() {
    let mut scene = Scene::with(options().line("policy.quota", "messages = 3"));
    let deposited = deposits(&scene, BOB, 3, 10);
    let alice = scene.alice();
    let refusal = alice.exchange(alice.text(BOB, "one too many")).response;
    assert_eq!(refusal.code(), 480, "{refusal:?}");
    let after: u64 =
        refusal.header("Retry-After").and_then(|value| value.parse().ok()).expect("Retry-After in seconds");
    assert!(after > 0);
    // Others have a quota of their own; a restart does not forget what is used.
    carol_within_quota(&scene);
    scene.kill9();
    scene.restart(2);
    let alice = scene.alice();
    assert_eq!(alice.exchange(alice.text(BOB, "one too many")).response.code(), 480);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposited);
    let alice = scene.alice();
    crate::until("room after the push", || alice.exchange(alice.text(BOB, "now")).response.code() == 202);
}

#[track_caller]
fn carol_within_quota(scene: &Scene) {
    let deposited = deposits(scene, CAROL, 3, 10);
    let mut carol = scene.client(Transport::Tcp, CAROL, scene.sip());
    scene.push_brings(&mut carol, &deposited);
}

#[test]
fn a_quota_in_octets_counts_octets() {
    let options = options().line("policy.quota", "octets = \"64KiB\"").line("policy", "max_message_size = \"32KiB\"");
    let scene = Scene::with(options);
    let alice = scene.alice_tcp();
    let codes: Vec<u16> =
        (0..5).map(|_| alice.exchange(alice.text(BOB, &"x".repeat(20_000))).response.code()).collect();
    assert_eq!(codes[..3], [202, 202, 202]);
    assert_eq!(codes[4], 480, "{codes:?}");
    assert_eq!(alice.exchange(alice.text(BOB, &"x".repeat(40_000))).response.code(), 413);
}

#[test]
fn a_body_above_the_limit_is_413_and_harms_nobody() {
    let mut scene = Scene::with(options().line("limits", "sip_body_octets = \"8KiB\""));
    let fits = scene.alice_tcp().message(BOB, &"y".repeat(8_000));
    let alice = scene.alice_tcp();
    let refusal = alice.exchange(alice.text(BOB, &"z".repeat(9_000))).response;
    assert_eq!(refusal.code(), 413, "{refusal:?}");
    // A body that nobody measures: as bad, and as clear.
    let alice = scene.alice_tcp();
    let endless = alice.text(BOB, "");
    let octets = String::from_utf8(endless.write()).expect("text").replace("Content-Length: 0\r\n", "");
    alice.send_raw(octets.as_bytes());
    assert_eq!(alice.peer.expect_final(&endless).code(), 400);
    bob_gets(&mut scene, &[fits]);
}

/// Whether the other side has ended the stream, or ends it within the limit.
fn ends(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(deferd_kit::WAIT)).expect("a timeout can be set");
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(count) if count > 0 => {}
            end => return ended(&end),
        }
    }
}

/// FIN or reset, and not only nothing to read.
fn ended(read: &std::io::Result<usize>) -> bool {
    match read {
        Ok(count) => *count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn heads_without_end_are_cut_off() {
    let mut scene = Scene::with(options());
    let sip = [&b"MESSAGE sip:bob@example.org SIP/2.0\r\n"[..], &b"X-Long: aaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(4_000)]
        .concat();
    let msrp = [&b"MSRP abcd1234 SEND\r\n"[..], &b"X-Long: aaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(4_000)].concat();
    for (port, octets) in [(scene.sip().port(), sip), (scene.msrp_port(), msrp)] {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        (&stream).write_all(&octets).ok();
        assert!(ends(&stream), "a head of {} octets at port {port}", octets.len());
    }
    scene.assert_alive();
    carol_is_served(&scene);
}

#[test]
fn thousands_of_idle_and_dribbling_connections_harm_nobody() {
    const IDLE: usize = 3_000;
    let mut scene = Scene::with(options());
    let msrp = SocketAddr::from(([127, 0, 0, 1], scene.msrp_port()));
    let heads: [&[u8]; 4] =
        [b"", b"MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP x", b"MSRP abcd1234 SEND\r\nTo-Pa", b"\r\n"];
    let mut streams = Vec::new();
    for number in 0..IDLE {
        let to = if number % 4 == 2 { msrp } else { scene.sip() };
        let stream = TcpStream::connect(to).unwrap_or_else(|error| panic!("connection {number}: {error}"));
        (&stream).write_all(heads[number % 4]).expect("room for a few octets");
        streams.push(stream);
    }
    carol_is_served(&scene);
    // An octet each, again and again, between everything that others do.
    for octet in b"z9hG4bK" {
        for mut stream in &streams {
            // One that the daemon has lost patience with.
            stream.write_all(&[*octet]).ok();
        }
        carol_is_served(&scene);
    }
    scene.assert_alive();
    drop(streams);
    let deposited = deposits(&scene, BOB, 3, 100);
    bob_gets(&mut scene, &deposited);
}

#[test]
fn connections_beyond_the_limit_are_refused_and_those_inside_served() {
    let mut scene = Scene::with(options().line("limits", "connections = 64"));
    let deposited = deposits(&scene, BOB, 3, 100);
    let flood: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(scene.sip()).ok()).collect();
    let turned_away = flood.iter().filter(|&open| {
        let mut stream: &TcpStream = open;
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        ended(&stream.read(&mut [0; 16]))
    });
    assert!(turned_away.count() >= 100, "about 64 of {} find room", flood.len());
    // Datagrams need no connection.
    let alice = scene.alice();
    let fourth = alice.message(BOB, "over UDP");
    drop(flood);
    scene.assert_alive();
    let all: Vec<SipMessage> = deposited.into_iter().chain([fourth]).collect();
    // The daemon hears of the 64 ends when it hears of them; a client knocks until it is let in.
    crate::until("room for a client", || {
        let stream = TcpStream::connect(scene.sip()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
        !ended(&(&stream).read(&mut [0; 16]))
    });
    let mut bob = scene.bob_udp();
    scene.push_brings(&mut bob, &all);
}
