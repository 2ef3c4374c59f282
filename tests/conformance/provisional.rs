//! What a client or core says before its final answer to a push: ringing, reliable or not; CANCELs that cross answers; refusals that
//! say until when.

use std::time::{Duration, Instant};

use deferd_kit::{
    agents::Client,
    call::Call,
    daemon::DaemonOptions,
    peer::Transport,
    scene::{BOB, Scene},
    sdp::{Answer, Setup},
    sip::{SipMessage, param, uri_of, user_of},
};

use crate::DEFERD;

/// A provisional response of the fork with this tag that wants to be acknowledged.
fn reliable(call: &Call, code: u16, tag: &str, rseq: u32, sdp: Option<&[u8]>) -> SipMessage {
    let response = SipMessage::response(call.request(), code, "Session Progress", tag)
        .with("Contact", format!("<sip:{tag}@{}>", call.invite.link.local))
        .with("Require", "100rel")
        .with("RSeq", rseq.to_string());
    match sdp {
        Some(sdp) => response.with_body("application/sdp", sdp),
        None => response,
    }
}

#[track_caller]
fn expect_prack(bob: &Client, rack: &str) -> SipMessage {
    let wanted = rack.to_string();
    let received = bob.inbox.expect(&format!("the PRACK {rack}"), |message| {
        message.method() == "PRACK" && message.header("RAck") == Some(wanted.as_str())
    });
    bob.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "x"));
    received.message
}

//= RFC 3262 4: a provisional response with Require: 100rel MUST be acknowledged with a PRACK within its dialog
//= RFC 3262 4: retransmissions of that response MUST be discarded
#[test]
fn reliable_ringing_is_acknowledged_in_order_and_by_fork() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob_udp();
    bob.publish_presence(true);
    let mut call = bob.expect_invite();
    call.tag = "winner".into();
    let cseq = call.request().cseq();
    call.send(&SipMessage::response(call.request(), 180, "Ringing", "plain"));
    call.send(&reliable(&call, 183, "winner", 70, None));
    let first = expect_prack(&bob, &format!("70 {cseq} INVITE"));
    assert_eq!((first.cseq(), first.tag("To"), user_of(first.uri())), (cseq + 1, Some("winner"), "winner"));
    // Out of turn, and once more: neither is acknowledged. What follows in turn is, and so is another fork's first.
    call.send(&reliable(&call, 183, "winner", 72, None));
    call.send(&reliable(&call, 183, "winner", 70, None));
    call.send(&reliable(&call, 183, "loser", 5, None));
    let other = expect_prack(&bob, &format!("5 {cseq} INVITE"));
    assert_eq!((other.cseq(), other.tag("To")), (cseq + 1, Some("loser")));
    call.send(&reliable(&call, 180, "winner", 71, None));
    assert_eq!(expect_prack(&bob, &format!("71 {cseq} INVITE")).cseq(), cseq + 2);
    assert!(bob.inbox.unexpected().iter().all(|message| message.method() != "PRACK"), "{:?}", bob.inbox.unexpected());
    let msrp = bob.msrp(Setup::Active);
    call.answer(&msrp, Setup::Active);
    scene.same(&msrp.expect_messages(1), &[deposit]);
    let bye = call.expect_bye();
    assert!(bye.cseq() > cseq + 2, "the PRACKs' numbers are used up: {}", bye.cseq());
}

/// The loser's 200 is ended by a BYE whose number is above that of its PRACK.
//= RFC 3261 13.2.2.4: a 2xx of another fork is acknowledged, and its dialog ended
#[test]
fn a_fork_that_was_acknowledged_and_lost_is_ended_in_its_own_numbers() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob_udp();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    call.send(&reliable(&call, 183, "loser", 1, None));
    let prack = expect_prack(&bob, &format!("1 {} INVITE", call.request().cseq()));
    let msrp = bob.msrp(Setup::Active);
    call.answer(&msrp, Setup::Active);
    let late = SipMessage::response(call.request(), 200, "OK", "loser").with("Contact", bob.contact.clone());
    call.send(&late.with_body("application/sdp", Answer::new(msrp.path(), Setup::Active).write()));
    let is_losers = |message: &SipMessage| message.tag("To") == Some("loser");
    bob.inbox.expect("the loser's ACK", |message| message.method() == "ACK" && is_losers(message));
    let bye = bob.inbox.expect("the loser's BYE", |message| message.method() == "BYE" && is_losers(message));
    assert_eq!(bye.message.cseq(), prack.cseq() + 1);
    bob.inbox.respond(&bye, &SipMessage::response(&bye.message, 200, "OK", "x"));
    call.expect_bye();
}

//= RFC 3262 5: a description in a reliable provisional response to an INVITE with an offer is the answer
//= RFC 3261 13.2.1: a description in a response that is not reliable is none
#[test]
fn the_answer_may_come_while_it_rings_if_it_comes_reliably() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    let preview =
        call.response(183, "Session Progress").with_body("application/sdp", b"v=0\r\nnonsense\r\n".as_slice());
    call.send(&preview);
    let answer = Answer::new(msrp.path(), Setup::Active).write();
    call.send(&reliable(&call, 183, &call.tag, 1, Some(&answer)).set("Contact", bob.contact.clone()));
    expect_prack(&bob, &format!("1 {} INVITE", call.request().cseq()));
    call.send(&call.response(200, "OK"));
    call.expect_ack();
    msrp.connect(&call.offered_path());
    scene.same(&msrp.expect_messages(1), &[deposit]);
    call.expect_bye();
}

//= RFC 3311 5.2: an UPDATE with an offer while an offer of ours has no answer yet: 491
//= RFC 3261 15: the callee MUST NOT send a BYE on an early dialog
#[test]
fn in_a_dialog_that_rings_there_is_little_to_say() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.send(&call.response(180, "Ringing"));
    let answer = Answer::new(msrp.path(), Setup::Active).write();
    let table = [("UPDATE", true, 491), ("UPDATE", false, 200), ("OPTIONS", false, 200), ("BYE", false, 481)];
    for (method, offers, code) in table {
        let request = call.request_in_dialog(method);
        let request = if offers { request.with_body("application/sdp", answer.clone()) } else { request };
        assert_eq!(call.exchange(&request).code(), code, "{method}");
    }
    call.answer(&msrp, Setup::Active);
    scene.same(&msrp.expect_messages(1), &[deposit]);
    call.expect_bye();
}

//= RFC 3261 9.1: a 2xx may cross the CANCEL: the session is acknowledged and ended
#[test]
fn a_200_that_crosses_our_cancel_gets_ack_and_bye_and_loses_nothing() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy.push", "invite_expires = \"1s\""));
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.send(&call.response(180, "Ringing"));
    call.expect_cancel();
    call.send(&call.accept_with(&Answer::new(msrp.path(), Setup::Active).write()));
    call.expect_ack();
    call.expect_bye();
    bob.publish_presence(true);
    scene.same(&bob.take_push(1), &[deposit]);
}

//= RFC 3261 20.33: Retry-After says when the called party anticipates being available again
#[test]
fn who_is_busy_may_say_until_when() {
    for (code, reason) in [(486, "Busy Here"), (603, "Decline"), (503, "Service Unavailable")] {
        let scene = Scene::new(DEFERD);
        let deposit = scene.alice().message(BOB, "hello");
        let mut bob = scene.bob();
        bob.publish_presence(true);
        let call = bob.expect_invite();
        let begun = Instant::now();
        call.refuse(&call.response(code, reason).with("Retry-After", "1 (in a meeting)"));
        scene.same(&bob.take_push(1), &[deposit]);
        assert!(begun.elapsed() >= Duration::from_secs(1), "{code}: {:?}", begun.elapsed());
    }
}

//= RFC 3261 8.1.3.4: a common mechanism is to order the set by the "q" parameter value
#[test]
fn a_redirection_is_followed_once_and_behind_a_core_not_at_all() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    // Of what we could ask the one that is preferred, without what has no place in a request line.
    let contacts = "<sip:bob@far.example.org>;q=0.2, <tel:+15141234567>, <sip:bob@elsewhere.example.org;method=INVITE?Subject=s>;q=0.7, \
                    <sip:bob@later.example.org>;q=0.7";
    let moved = |call: &Call| call.response(302, "Moved Temporarily").with("Contact", contacts);
    call.refuse(&moved(&call));
    let second = bob.expect_invite();
    assert_eq!(second.request().uri(), "sip:bob@elsewhere.example.org");
    assert_eq!(uri_of(second.request().header("To").unwrap()), BOB);
    assert_eq!(
        (second.request().call_id(), second.request().cseq()),
        (call.request().call_id(), call.request().cseq() + 1)
    );
    second.refuse(&moved(&second));
    assert!(bob.invite_within(Duration::from_millis(400)).is_none(), "once");
    bob.publish_presence(true);
    scene.same(&bob.take_push(1), &[deposit]);
    let (scene, core) = Scene::behind_core(DEFERD, Transport::Udp, false);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    core.route(&bob);
    bob.publish_presence(true);
    let call = bob.expect_invite();
    call.refuse(&moved(&call));
    assert!(bob.invite_within(Duration::from_millis(400)).is_none(), "the core follows, not we");
    assert!(param(call.request().header("Contact").unwrap(), "automata").is_some());
}
