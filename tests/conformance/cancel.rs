//! RFC 3261 9: a CANCEL for an INVITE of ours to answer, whichever core decides it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

use deferd_kit::{
    agents::Client,
    daemon::DaemonOptions,
    large::{Chunk, Large},
    peer::Transport,
    scene::{ALICE, Scene},
    sdp::{Answer, Setup},
    sip::SipMessage,
};

use crate::{DEFERD, selection};

/// Users, of whom some are at home on either core: that all sixteen are on one happens once in 32,768 times.
const USERS: usize = 16;

fn user(number: usize) -> String {
    format!("sip:user{number}@example.org")
}

fn two_cores() -> Scene {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 2;
    Scene::with(options)
}

/// The same request as a CANCEL or an ACK of its transaction.
fn of_it(invite: &SipMessage, method: &str) -> SipMessage {
    let start = invite.start.replacen("INVITE", method, 1);
    let bare = SipMessage { start, body: Vec::new(), ..invite.clone() };
    bare.without("Content-Type")
        .without("Content-Length")
        .without("Require")
        .without("Contact")
        .set("CSeq", format!("{} {method}", invite.cseq()))
}

/// Sends both at once; how the INVITE was answered.
#[track_caller]
fn sent_and_taken_back(client: &Client, invite: &SipMessage) -> SipMessage {
    let cancel = of_it(invite, "CANCEL");
    client.send_raw(&[invite.write(), cancel.write()].concat());
    let of_cancel = client.peer.expect_final(&cancel);
    assert_eq!(of_cancel.code(), 200, "{of_cancel:?}");
    let answer = client.peer.expect_final(invite);
    if answer.code() == 487 {
        //= RFC 3261 9.2: the To tag of the response to the CANCEL and that of the original request SHOULD be the same
        assert_eq!(answer.tag("To"), of_cancel.tag("To"));
        client.send_raw(&of_it(invite, "ACK").set("To", answer.header("To").unwrap()).write());
    }
    answer
}

/// Waits until a gauge says that there is none.
#[track_caller]
fn none_is_left(scene: &Scene, name: &str) {
    let deadline = Instant::now() + deferd_kit::WAIT;
    loop {
        let mut stream = TcpStream::connect(scene.http()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let values = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        let values: Vec<f64> = values.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!values.is_empty(), "{name} is not told");
        if values.iter().sum::<f64>() == 0.0 {
            return;
        }
        assert!(Instant::now() < deadline, "{name} stays {values:?}");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

//= RFC 3261 9.2: the UAS SHOULD immediately respond to the original request with a 487 (Request Terminated)
#[test]
fn a_large_invite_that_is_taken_back_leaves_nothing_behind() {
    let scene = two_cores();
    let mut terminated = 0;
    for number in 0..USERS {
        let client = scene.client(Transport::Tcp, ALICE, scene.daemon.sip());
        let msrp = client.msrp(Setup::Active);
        let invite = Large::invite(&client, &user(number), &Large::offer(&msrp).write());
        let answer = sent_and_taken_back(&client, &invite);
        match answer.code() {
            487 => terminated += 1,
            // Decided before the CANCEL was read: it is a session, and is ended like any other.
            200 => {
                client.send_raw(&selection::within(&client, "ACK", 1, &invite, &answer).write());
                let bye = client.exchange(&selection::within(&client, "BYE", 2, &invite, &answer));
                assert_eq!(bye.code(), 200, "{bye:?}");
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert!(terminated > 0, "none was decided on another core than it came to");
    none_is_left(&scene, "deferd_large_sessions");
    for number in 0..USERS {
        let large = Large::open(scene.client(Transport::Tcp, ALICE, scene.daemon.sip()), &user(number));
        large.deposit("afterall", b"after all", 100);
        large.bye();
    }
}

#[test]
fn a_retrieval_that_is_taken_back_takes_nothing_away() {
    let scene = two_cores();
    let mut terminated = 0;
    let deposits: Vec<SipMessage> = (0..USERS).map(|number| scene.alice().message(&user(number), "hello")).collect();
    for (number, deposit) in deposits.iter().enumerate() {
        let mut client = scene.client(Transport::Tcp, &user(number), scene.daemon.sip());
        let sdp = Answer::new("msrp://127.0.0.1:9/nobody;tcp", Setup::Active).write();
        let invite = selection::invite(&client, &sdp);
        let answer = sent_and_taken_back(&client, &invite);
        match answer.code() {
            487 => terminated += 1,
            200 => {
                selection::ack(&client, &invite, &answer);
                let bye = client.exchange(&selection::within(&client, "BYE", 2, &invite, &answer));
                assert_eq!(bye.code(), 200, "{bye:?}");
            }
            _ => panic!("{answer:?}"),
        }
        scene.push_brings(&mut client, std::slice::from_ref(deposit));
    }
    assert!(terminated > 0, "none was decided on another core than it came to");
    none_is_left(&scene, "deferd_pushes_running");
}

//= RFC 3261 9.2: if the UAS has already sent a final response for that request, the CANCEL has no effect
//= RFC 3261 9.2: no matching transaction: SHOULD respond to the CANCEL with a 481
#[test]
fn a_cancel_after_the_answer_changes_nothing_and_a_strange_one_is_481() {
    let scene = two_cores();
    for number in 0..4 {
        let large = Large::open(scene.client(Transport::Tcp, ALICE, scene.daemon.sip()), &user(number));
        let answer = large.client.exchange(&of_it(&large.request, "CANCEL"));
        assert_eq!(answer.code(), 200, "{answer:?}");
        large.expect(&large.chunk(&Chunk::whole("goingon1", b"it goes on")), 200);
        large.bye();
        let strange = of_it(&large.request, "CANCEL").set("Via", large.client.peer.via());
        assert_eq!(large.client.exchange(&strange).code(), 481);
    }
}
