//! Bad MSRP, from strangers and from the client of a session: answered in the protocol, counted, and nobody else's session
//! notices.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use deferd_kit::{
    call::Call,
    msrp,
    msrp_client::{MsrpClient, Reply},
    scene::{BOB, Scene},
    sdp::Setup,
    unique,
};

use crate::DEFERD;

/// Writes octets to the MSRP port and returns what comes until the daemon closes; `None` when it does not within the limit.
fn stranger(scene: &Scene, octets: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", scene.msrp_port())).unwrap();
    stream.set_read_timeout(Some(deferd_kit::WAIT)).unwrap();
    stream.write_all(octets).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        _ => Some(answer),
    }
}

#[track_caller]
fn push_still_works(scene: &mut Scene) {
    scene.assert_alive();
    let deposit = scene.alice().message(BOB, "still here");
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[deposit]);
}

/// A session with one message that waits for its answer.
fn waiting(scene: &Scene) -> (deferd_kit::agents::Client, Call, MsrpClient) {
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    (bob, call, msrp)
}

fn answer_the_send(msrp: &MsrpClient) {
    let send = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    msrp.write(&msrp::response(&send, 200, "OK"));
}

#[test]
fn rubbish_from_strangers_is_cut_off() {
    let mut scene = Scene::new(DEFERD);
    let long_line = [&b"MSRP "[..], &[b'a'; 100_000]].concat();
    let long_head = [&b"MSRP abcd1234 SEND\r\n"[..], &b"X: y\r\n".repeat(20_000)].concat();
    let cases: [&[u8]; 8] = [
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"MSRP",
        b"MSRP a SEND\r\n-------a$\r\n",
        b"MSRP abcd1234 SEND\r\nTo-Path: nonsense\r\nFrom-Path: nonsense\r\n-------abcd1234$\r\n",
        &long_line,
        &long_head,
    ];
    for octets in cases {
        assert!(stranger(&scene, octets).is_some(), "not closed: {}", deferd_kit::shown(octets, 60));
    }
    push_still_works(&mut scene);
}

//= RFC 4975 5.4: if no match exists, the node MUST reject the request with a 481 response
//= RFC 4975 7.3: a session-id that matches no session: 481
#[test]
fn an_unknown_session_is_481() {
    let scene = Scene::new(DEFERD);
    let ours = format!("msrp://127.0.0.1:{}/nobodyknowsthis00;tcp", scene.msrp_port());
    let answer = stranger(&scene, &msrp::binding_send("abcd1234", &ours, "msrp://127.0.0.1:9/me0;tcp")).unwrap();
    let frames = msrp::read_all(&answer).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!((frames.len(), frames[0].status(), frames[0].tid.as_str()), (1, 481, "abcd1234"));
}

//= RFC 4975 5.4: if the session is already in use, it MUST reject the request with a 506 response
#[test]
fn a_second_connection_to_a_session_is_506() {
    let scene = Scene::new(DEFERD);
    let (_bob, call, msrp) = waiting(&scene);
    let answer = stranger(&scene, &msrp::binding_send("abcd1234", &call.offered_path(), msrp.path())).unwrap();
    assert_eq!(msrp::read_all(&answer).unwrap()[0].status(), 506);
    answer_the_send(&msrp);
    call.expect_bye();
}

//= RFC 4975 7.2: an answer to nothing is ignored
#[test]
fn answers_to_what_was_never_sent_confirm_nothing() {
    let scene = Scene::new(DEFERD);
    let (mut bob, mut call, msrp) = waiting(&scene);
    let send = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    let mut forged = send.clone();
    for index in 0..8 {
        forged.tid = format!("{}{index:04x}", &"0123456789abcdef"[..16]);
        msrp.write(&msrp::response(&forged, 200, "OK"));
    }
    let report = format!(
        "MSRP rep0rt01 REPORT\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: {}\r\nByte-Range: 1-{length}/{length}\r\nStatus: 000 200 OK\r\n-------rep0rt01$\r\n",
        call.offered_path(),
        msrp.path(),
        send.header("Message-ID").unwrap(),
        length = send.data_len()
    );
    msrp.write(report.as_bytes());
    call.bye();
    bob.publish_presence(true);
    assert_eq!(bob.take_push(1).len(), 1, "a message nobody confirmed is still there");
}

//= RFC 4975 7.2: an unknown method is answered 501
#[test]
fn an_unknown_method_is_501() {
    let scene = Scene::new(DEFERD);
    let (_bob, call, msrp) = waiting(&scene);
    let tid = unique();
    msrp.write(
        format!(
            "MSRP {tid} NICKNAME\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: {tid}\r\n-------{tid}$\r\n",
            call.offered_path(),
            msrp.path()
        )
        .as_bytes(),
    );
    let answer = msrp.expect_status("the answer to NICKNAME", 501);
    assert_eq!(answer.tid, tid);
    answer_the_send(&msrp);
    call.expect_bye();
}

/// The session is sendonly: content from the peer is refused, unless it asked for no answer.
#[test]
fn content_on_a_sendonly_session_is_403_or_silence() {
    let scene = Scene::new(DEFERD);
    let (_bob, call, msrp) = waiting(&scene);
    let (quiet, loud) = (unique(), unique());
    let send = |tid: &str| msrp::send(tid, &call.offered_path(), msrp.path(), tid, "text/plain", b"hello");
    let silent = String::from_utf8(send(&quiet)).unwrap().replace("Byte-Range", "Failure-Report: no\r\nByte-Range");
    msrp.write(silent.as_bytes());
    msrp.write(&send(&loud));
    let answer = msrp.expect_frame("the refusal", |frame| frame.status() == 403);
    assert_eq!(answer.tid, loud);
    assert!(!msrp.frames().iter().any(|frame| frame.tid == quiet), "Failure-Report: no was answered");
    answer_the_send(&msrp);
    call.expect_bye();
}

#[test]
fn a_frame_octet_by_octet_is_a_frame() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.send(&call.accept_with(&deferd_kit::sdp::Answer::new(msrp.path(), Setup::Active).write()));
    call.expect_ack();
    msrp.dial(&call.offered_path());
    for octet in msrp::binding_send(&unique(), &call.offered_path(), msrp.path()) {
        msrp.write(&[octet]);
    }
    msrp.expect_messages(1);
    call.expect_bye();
}

/// When active, some clients send a first SEND without Byte-Range.
#[test]
fn a_binding_send_without_byte_range_binds() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.send(&call.accept_with(&deferd_kit::sdp::Answer::new(msrp.path(), Setup::Active).write()));
    call.expect_ack();
    msrp.dial(&call.offered_path());
    let bind = String::from_utf8(msrp::binding_send(&unique(), &call.offered_path(), msrp.path())).unwrap();
    msrp.write(bind.replace("Byte-Range: 1-0/0\r\n", "").as_bytes());
    msrp.expect_status("the answer to the binding SEND", 200);
    msrp.expect_messages(1);
    call.expect_bye();
}

#[test]
fn rubbish_in_a_session_ends_that_session_only() {
    let mut scene = Scene::new(DEFERD);
    let (_bob, call, msrp) = waiting(&scene);
    msrp.write(b"\0\0\0 this is no MSRP\r\n\r\n");
    msrp.expect_closed();
    call.expect_bye();
    let mut bob = scene.bob();
    bob.publish_presence(true);
    assert_eq!(bob.take_push(1).len(), 1);
    drop(bob);
    push_still_works(&mut scene);
}
