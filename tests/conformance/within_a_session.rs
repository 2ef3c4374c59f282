//! What a client may do with a push session once it has it: hold it, speak out of turn, say nothing, speak after the end.

use std::time::Duration;

use deferd_kit::{
    daemon::DaemonOptions,
    msrp,
    scene::{BOB, Scene},
    sdp::{Answer, Setup},
};

use crate::DEFERD;

/// The client's own description as an offer that says which way octets may go.
fn offer(path: &str, direction: &str) -> Vec<u8> {
    let text = String::from_utf8(Answer::new(path, Setup::Active).write()).unwrap();
    let text: Vec<&str> = text.split("\r\n").map(|line| if line == "a=recvonly" { direction } else { line }).collect();
    text.join("\r\n").into_bytes()
}

//= RFC 4975 5.4: the first SEND binds the connection to the session
#[test]
fn a_first_request_that_is_no_send_opens_nothing() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("msrp", "bind_timeout = \"1s\""));
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.send(&call.accept_with(&Answer::new(msrp.path(), Setup::Active).write()));
    call.expect_ack();
    let path = call.offered_path();
    msrp.dial(&path);
    let report = String::from_utf8(msrp::binding_send("abcd1234", &path, msrp.path())).unwrap();
    msrp.write(
        report
            .replace(" SEND\r\n", " REPORT\r\n")
            .replace("\r\n-------", "\r\nStatus: 000 200 OK\r\n-------")
            .as_bytes(),
    );
    call.expect_bye();
    bob.publish_presence(true);
    scene.same(&bob.take_push(1), &[deposit]);
}

#[test]
fn a_held_session_sends_nothing_until_it_is_resumed() {
    let scene = Scene::new(DEFERD);
    let mut deposits = vec![scene.alice().message(BOB, "first")];
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|number, _| if number == 0 { Vec::new() } else { vec![msrp_ok()] });
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    let hold = call.request_in_dialog("UPDATE").with_body("application/sdp", offer(msrp.path(), "a=inactive"));
    assert_eq!(call.exchange(&hold).code(), 200);
    deposits.push(scene.alice().message(BOB, "second"));
    let first = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    msrp.write(&msrp::response(&first, 200, "OK"));
    let early = bob.inbox.find(Duration::from_millis(500), |message| message.method() == "BYE");
    assert!(early.is_none(), "a message waits: a held session is not over");
    assert_eq!(msrp.frames().iter().filter(|frame| frame.content.is_some()).count(), 1, "held");
    let resume = call.request_in_dialog("UPDATE").with_body("application/sdp", offer(msrp.path(), "a=recvonly"));
    assert_eq!(call.exchange(&resume).code(), 200);
    scene.same(&msrp.expect_messages(2), &deposits);
    call.expect_bye();
}

fn msrp_ok() -> deferd_kit::msrp_client::Reply {
    deferd_kit::msrp_client::Reply::Status(200)
}

//= RFC 3261 15.1.1: after its BYE the UAC considers the session terminated
#[test]
fn between_bye_and_its_answer_there_is_no_dialog() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.answer(&msrp, Setup::Active);
    msrp.expect_messages(1);
    call.expect_in_dialog("BYE");
    let update = call.request_in_dialog("UPDATE");
    assert_eq!(call.exchange(&update).code(), 481);
    call.bye();
}

#[test]
fn an_extension_nobody_knows_is_420_within_a_dialog_too() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| Vec::new());
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    let update = call.request_in_dialog("UPDATE").with("Require", "teleport, timer");
    let response = call.exchange(&update);
    assert_eq!((response.code(), response.header("Unsupported")), (420, Some("teleport")), "{response:?}");
    call.bye();
}

/// A client refused a push for good; then it published again while nothing waited. What came later was not pushed until it
/// published once more: the refusal outlived the publication that was newer.
#[test]
fn a_publication_after_a_refusal_counts_although_nothing_waits_yet() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    alice.deposit(alice.text(BOB, "short-lived").with("Expires", "4"));
    let mut bob = scene.bob();
    bob.publish_presence(true);
    // What is offered at first, and CPIM alone.
    for _ in 0..2 {
        let call = bob.expect_invite();
        call.refuse(&call.response(488, "Not Acceptable Here"));
    }
    std::thread::sleep(Duration::from_millis(5_500));
    bob.publish_presence(true);
    let deposit = alice.message(BOB, "for who is there");
    scene.same(&bob.take_push(1), &[deposit]);
}
