//! Pager fallback (RFC 3428 8): a client that takes no session with its messages gets the short ones as SIP MESSAGEs, one at a time,
//! and only an answer that says so delivers.

use std::{
    thread,
    time::{Duration, Instant},
};

use deferd_kit::{
    WAIT,
    agents::Client,
    daemon::DaemonOptions,
    payload::is_sip_date,
    peer::Received,
    scene::{BOB, Scene},
    sdp::{Answer, Setup},
    sip::SipMessage,
};

use crate::{DEFERD, payload::why};

fn scene() -> Scene {
    Scene::with(DaemonOptions::new(DEFERD).line("policy", "pager_fallback = true"))
}

/// Bob comes online with a client that knows no MSRP.
#[track_caller]
fn refuses_sessions(bob: &mut Client) {
    bob.publish_presence(true);
    for _ in 0..2 {
        let call = bob.expect_invite();
        call.refuse(&call.response(488, "Not Acceptable Here"));
    }
}

/// The next MESSAGE, not answered yet.
#[track_caller]
fn next(bob: &Client) -> Received {
    bob.inbox.expect_request("MESSAGE")
}

fn answer(bob: &Client, received: &Received, status: u16) {
    bob.inbox.respond(received, &SipMessage::response(&received.message, status, "", "t"));
}

/// Waits until nothing is under way for bob: what comes before would go along as one more MESSAGE.
#[track_caller]
fn until_idle(scene: &Scene) {
    let deadline = Instant::now() + WAIT;
    while !why(scene, BOB)["pushing"].is_null() {
        assert!(Instant::now() < deadline, "the pushing never ends");
        thread::sleep(Duration::from_millis(20));
    }
}

/// It is the deposited request: the sender's headers and body, but for Via and Max-Forwards.
#[track_caller]
fn is_it(received: &Received, deposit: &SipMessage) {
    let again = &received.message;
    assert_eq!((again.uri(), &again.body), (BOB, &deposit.body));
    for name in ["From", "To", "Call-ID", "CSeq", "Subject", "P-Asserted-Identity", "Content-Type", "Accept-Contact"] {
        assert_eq!(again.all(name), deposit.all(name), "{name}");
    }
    assert!(again.header("Date").is_some_and(is_sip_date), "when the server received it");
    assert!(again.write().len() <= 1_300);
}

//= RFC 3428 8: the size of MESSAGE requests outside of a media session MUST NOT exceed 1300 bytes
//= RFC 3428 8: a UAC MUST NOT initiate a new MESSAGE to a URI while one is outstanding
#[test]
fn short_messages_come_one_by_one_and_long_ones_stay() {
    let scene = scene();
    let alice = scene.alice_tcp();
    let first = alice.deposit(alice.text(BOB, "first").with("Subject", "s"));
    let long = alice.message(BOB, &"x".repeat(1_300));
    let last = alice.message(BOB, "last");
    let mut bob = scene.bob();
    refuses_sessions(&mut bob);
    let received = next(&bob);
    is_it(&received, &first);
    let early = bob.inbox.find(Duration::from_millis(300), |message| {
        message.method() == "MESSAGE" && message.call_id() != received.message.call_id()
    });
    assert!(early.is_none(), "the next waits for the answer to the last");
    answer(&bob, &received, 200);
    let received = next(&bob);
    is_it(&received, &last);
    answer(&bob, &received, 200);
    until_idle(&scene);
    scene.push_brings(&mut bob, &[long]);
}

#[test]
fn every_other_answer_keeps_the_message() {
    for status in [202, 400, 404, 413, 415, 480, 482, 503, 603] {
        let scene = scene();
        let deposit = scene.alice().message(BOB, "kept");
        let mut bob = scene.bob();
        refuses_sessions(&mut bob);
        let received = next(&bob);
        is_it(&received, &deposit);
        answer(&bob, &received, status);
        // Whatever it was, bob is asked again when he publishes, and has a better client now.
        scene.push_brings(&mut bob, &[deposit]);
    }
}

#[test]
fn a_client_that_accepts_no_type_of_ours_is_hung_up_on_and_paged() {
    let scene = scene();
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    let path = "msrp://127.0.0.1:9/neverconnects01;tcp";
    let sdp = Answer { accept_types: "text/plain".into(), ..Answer::new(path, Setup::Active) }.write();
    call.send(&call.accept_with(&sdp));
    call.expect_ack();
    call.expect_bye();
    let received = next(&bob);
    is_it(&received, &deposit);
    answer(&bob, &received, 200);
    until_idle(&scene);
    scene.nothing_waits(&mut bob);
}

#[test]
fn what_comes_while_bob_is_paged_comes_too() {
    let scene = scene();
    let alice = scene.alice();
    alice.message(BOB, "first");
    let mut bob = scene.bob();
    refuses_sessions(&mut bob);
    let received = next(&bob);
    let late = alice.message(BOB, "late");
    answer(&bob, &received, 200);
    let received = next(&bob);
    is_it(&received, &late);
    answer(&bob, &received, 200);
    until_idle(&scene);
    scene.nothing_waits(&mut bob);
}

//= RFC 3261 16.3: a request whose Via holds a value of ours has looped: 482
#[test]
fn a_message_of_ours_that_comes_back_is_not_stored_once_more() {
    let scene = scene();
    let alice = scene.alice();
    let deposit = alice.message(BOB, "round and round");
    let mut bob = scene.bob();
    refuses_sessions(&mut bob);
    let received = next(&bob);
    // A core that finds bob offline brings it where deferred messages go: a Via of its own on top.
    let ours = received.message.header("Via").unwrap().to_string();
    let back = received.message.clone().set("Via", format!("{}, {ours}", alice.peer.via()));
    let status = alice.exchange(back.set("Call-ID", "another@core")).response.code();
    assert_eq!(status, 482);
    answer(&bob, &received, 482);
    scene.push_brings(&mut bob, &[deposit]);
    scene.nothing_waits(&mut bob);
}

#[test]
fn without_the_switch_nothing_is_paged() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    refuses_sessions(&mut bob);
    assert!(bob.inbox.find(Duration::from_millis(500), |message| message.method() == "MESSAGE").is_none());
    scene.push_brings(&mut bob, &[deposit]);
}
