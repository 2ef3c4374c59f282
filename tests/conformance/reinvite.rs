//! What a client may change about a session that is up: nothing, its direction, its path; and what it may not.

use std::time::Duration;

use deferd_kit::{
    agents::Client,
    call::Call,
    daemon::DaemonOptions,
    msrp,
    msrp_client::{MsrpClient, Reply},
    scene::{BOB, Scene},
    sdp::{Answer, Sdp, Setup},
    sip::SipMessage,
};

use crate::{
    DEFERD,
    selection::{ack, expect_bye, invite, resource_list, within},
};

/// An answerer's description as an offer: its `version`, and the direction it wants.
fn offer(path: &str, setup: Setup, version: u32, direction: &'static str) -> Vec<u8> {
    let answer = Answer { direction: Some(direction), ..Answer::new(path, setup) };
    let text = String::from_utf8(answer.write()).unwrap();
    text.replacen("o=- 1 1 ", &format!("o=- 1 {version} "), 1).into_bytes()
}

/// A push whose SENDs are not answered.
#[track_caller]
fn unanswered(bob: &mut Client, sends: usize) -> (Call, MsrpClient) {
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(sends);
    (call, msrp)
}

/// Answers 200 to every SEND with content so far.
fn answer_all(msrp: &MsrpClient) {
    msrp.set_policy(|_, _| vec![Reply::Status(200)]);
    for frame in msrp.frames().iter().filter(|frame| frame.content.is_some()) {
        msrp.write(&msrp::response(frame, 200, "OK"));
    }
}

/// Re-INVITE or UPDATE with this offer, its answer, and the ACK where one is due.
#[track_caller]
fn exchange(call: &mut Call, method: &str, sdp: &[u8]) -> SipMessage {
    let request = call.request_in_dialog(method).with_body("application/sdp", sdp);
    let response = call.exchange(&request);
    if method == "INVITE" && response.code() == 200 {
        call.acknowledge(&request, None);
    }
    response
}

fn described(response: &SipMessage) -> Sdp {
    assert_eq!(response.code(), 200, "{response:?}");
    Sdp::read(&response.body).unwrap()
}

fn origin(sdp: &Sdp) -> &str {
    &sdp.session.iter().find(|(kind, _)| *kind == 'o').unwrap().1
}

//= RFC 4975 8.4: a document that changes nothing at all has the o-line of the exchange before
//= RFC 3264 8: a description that differs has the next version
#[test]
fn a_refresh_changes_nothing() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    let (mut call, msrp) = unanswered(&mut bob, 1);
    let same = offer(msrp.path(), Setup::Active, 1, "recvonly");
    let first = described(&exchange(&mut call, "INVITE", &same));
    assert_eq!((first.attribute("sendonly"), first.attribute("setup")), (Some(""), Some("passive")));
    assert_eq!(first.attribute("path"), Some(call.offered_path().as_str()));
    let (one, other) = (call.offer(), origin(&first).to_string());
    let words = |origin: &str| origin.split(' ').map(str::to_string).collect::<Vec<_>>();
    let (before, after) = (words(origin(&one)), words(&other));
    assert_eq!(
        (&before[1], &before[2], after[2].as_str()),
        (&after[1], &"1".to_string(), "2"),
        "actpass is passive now"
    );
    for method in ["UPDATE", "INVITE"] {
        let response = exchange(&mut call, method, &same);
        assert_eq!(origin(&described(&response)), other, "{method}");
        assert!(response.header("Contact").is_some() && response.header("Allow").is_some(), "{response:?}");
    }
    let bare = call.request_in_dialog("UPDATE");
    let response = call.exchange(&bare);
    assert_eq!((response.code(), response.body.len()), (200, 0), "an UPDATE without an offer has no answer");
    answer_all(&msrp);
    call.expect_bye();
    scene.same(&msrp.messages(), &[deposit]);
}

//= RFC 3264 6.1: a stream offered sendonly is answered inactive by one who does not receive
#[test]
fn a_held_message_stops_at_the_border_of_a_chunk_and_goes_on_behind_it() {
    for hold in ["sendonly", "inactive"] {
        let scene = Scene::with(DaemonOptions::new(DEFERD).line("msrp", "window_octets = \"16KiB\""));
        let deposit = scene.alice_tcp().message(BOB, &"a long story. ".repeat(6_000));
        let mut bob = scene.bob();
        let (mut call, msrp) = unanswered(&mut bob, 1);
        let held = described(&exchange(&mut call, "INVITE", &offer(msrp.path(), Setup::Active, 2, hold)));
        assert_eq!(held.attribute("inactive"), Some(""), "{hold}");
        answer_all(&msrp);
        assert!(bob.inbox.find(Duration::from_millis(400), |message| message.method() == "BYE").is_none());
        let chunks: Vec<_> = msrp.frames().into_iter().filter(|frame| frame.content.is_some()).collect();
        assert!(
            chunks.len() <= 3 && chunks.iter().all(|chunk| chunk.flag == '+'),
            "{} chunks while held",
            chunks.len()
        );
        assert!(msrp.messages().is_empty());
        let on = described(&exchange(&mut call, "UPDATE", &offer(msrp.path(), Setup::Active, 3, "recvonly")));
        assert_eq!(on.attribute("sendonly"), Some(""));
        scene.same(&msrp.expect_messages(1), &[deposit]);
        call.expect_bye();
        msrp.judge();
    }
}

//= RFC 4975 8.4: the answerer MUST respond with a path that is valid at the time
//= RFC 4975 5.4: after a new exchange, what was not confirmed is sent again whole, with its Message-ID
#[test]
fn over_another_path_what_was_not_confirmed_comes_again_from_its_first_octet() {
    for (method, setup) in [("INVITE", Setup::Active), ("UPDATE", Setup::Passive)] {
        let scene = Scene::with(DaemonOptions::new(DEFERD).line("msrp", "window_octets = \"16KiB\""));
        let alice = scene.alice_tcp();
        let deposits = [alice.message(BOB, "short"), alice.message(BOB, &"a long story. ".repeat(3_000))];
        let mut bob = scene.bob();
        bob.publish_presence(true);
        let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
        msrp.set_policy(|number, _| vec![if number == 0 { Reply::Status(200) } else { Reply::Silence }]);
        call.answer(&msrp, Setup::Active);
        msrp.expect_sends(2);
        let other = bob.msrp(setup);
        let moved = described(&exchange(&mut call, method, &offer(other.path(), setup, 2, "recvonly")));
        let path = moved.attribute("path").unwrap().to_string();
        assert_ne!(path, call.offered_path(), "nobody on the old connection knows it");
        if setup == Setup::Active {
            assert_eq!(moved.attribute("setup"), Some("passive"));
            other.connect(&path);
        } else {
            assert_eq!(moved.attribute("setup"), Some("active"));
        }
        let pushed = other.expect_messages(1);
        scene.same(&pushed, &deposits[1..]);
        let sends: Vec<_> = other.frames().into_iter().filter(|frame| frame.content.is_some()).collect();
        assert_eq!(sends[0].range().unwrap().start, 1);
        assert_eq!(sends[0].header("To-Path"), Some(other.path()));
        assert_eq!(sends[0].header("From-Path"), Some(path.as_str()));
        let before = msrp.frames().into_iter().filter(|frame| frame.content.is_some()).nth(1).unwrap();
        assert_eq!(sends[0].header("Message-ID"), before.header("Message-ID"));
        call.expect_bye();
        scene.nothing_waits(&mut bob);
    }
}

/// The same offer of a client that takes this type and no other.
fn takes_only(offer: &str, media: &str) -> String {
    let line = |line: &str| match line.starts_with("a=accept-types:") {
        true => format!("a=accept-types:{media}\r\n"),
        false => line.to_string(),
    };
    offer.split_inclusive('\n').map(line).collect()
}

//= RFC 3261 14.2: the new session description is not acceptable: 488
//= RFC 5366 5.1: the list belongs to the first INVITE: a later one that has one is 420
#[test]
fn what_cannot_be_is_refused_and_the_session_goes_on() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    let (mut call, msrp) = unanswered(&mut bob, 1);
    let good = String::from_utf8(offer(msrp.path(), Setup::Active, 2, "recvonly")).unwrap();
    let elsewhere =
        String::from_utf8(offer("msrp://192.0.2.77:9/elsewhere;tcp", Setup::Passive, 2, "recvonly")).unwrap();
    let table = [
        (good.replace("m=message 9 ", "m=message 0 "), 488),
        (good.replace("TCP/MSRP", "TCP/TLS/MSRP"), 488),
        (good.replace("a=path:", "a=no-path:"), 488),
        (takes_only(&good, "text/plain"), 488),
        (elsewhere, 488),
        ("nonsense".to_string(), 400),
    ];
    for method in ["INVITE", "UPDATE"] {
        for (sdp, code) in &table {
            let response = exchange(&mut call, method, sdp.as_bytes());
            assert_eq!(response.code(), *code, "{method}\n{sdp}\n{response:?}");
            if *code == 488 {
                assert!(response.header("Warning").is_some(), "{response:?}");
                assert_eq!(Sdp::read(&response.body).unwrap().port_and_proto(), Some((0, "TCP/MSRP")));
            }
        }
    }
    let list = resource_list(&["sip:1@mailserver.example.org".to_string()]);
    let request = call.request_in_dialog("INVITE").with_body("application/resource-lists+xml", list);
    let response = call.exchange(&request);
    assert_eq!((response.code(), response.header("Unsupported")), (420, Some("recipient-list-invite")), "{response:?}");
    let request = call.request_in_dialog("INVITE").with_body("text/plain", "hello");
    let response = call.exchange(&request);
    assert_eq!((response.code(), response.header("Accept")), (415, Some("application/sdp")), "{response:?}");
    answer_all(&msrp);
    call.expect_bye();
    scene.same(&msrp.messages(), &[deposit]);
}

//= RFC 3261 14.2: a re-INVITE without an offer is answered with ours
//= RFC 3311 5.2: an UPDATE with an offer while an offer of ours has no answer yet: 491
#[test]
fn a_re_invite_without_an_offer_gets_ours_and_the_ack_brings_the_answer() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let mut deposits = vec![alice.message(BOB, "first")];
    let mut bob = scene.bob();
    let (mut call, msrp) = unanswered(&mut bob, 1);
    let request = call.request_in_dialog("INVITE");
    let ours = described(&call.exchange(&request));
    assert_eq!((ours.attribute("sendonly"), ours.attribute("setup")), (Some(""), Some("actpass")));
    assert_eq!(ours.attribute("path"), Some(call.offered_path().as_str()));
    for method in ["UPDATE", "INVITE"] {
        let crossing = exchange(&mut call, method, &offer(msrp.path(), Setup::Active, 2, "recvonly"));
        assert_eq!(crossing.code(), 491, "{crossing:?}");
    }
    let refresh = call.request_in_dialog("UPDATE");
    assert_eq!(call.exchange(&refresh).code(), 200, "without an offer it crosses nothing");
    call.acknowledge(&request, Some(&offer(msrp.path(), Setup::Active, 2, "inactive")));
    // The answer held the session: seen when the next exchange has been answered.
    let bare = call.request_in_dialog("UPDATE");
    assert_eq!(call.exchange(&bare).code(), 200);
    // It waits before the first is confirmed: a session without anything left to send ends, held or not.
    deposits.push(alice.message(BOB, "second"));
    answer_all(&msrp);
    assert!(bob.inbox.find(Duration::from_millis(400), |message| message.method() == "BYE").is_none());
    assert_eq!(msrp.messages().len(), 1, "held");
    described(&exchange(&mut call, "UPDATE", &offer(msrp.path(), Setup::Active, 3, "recvonly")));
    scene.same(&msrp.expect_messages(2), &deposits);
    call.expect_bye();
}

#[test]
fn an_ack_that_brings_no_answer_to_our_offer_ends_the_session_and_loses_nothing() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    let (mut call, _msrp) = unanswered(&mut bob, 1);
    let request = call.request_in_dialog("INVITE");
    described(&call.exchange(&request));
    call.acknowledge(&request, None);
    call.expect_bye();
    scene.push_brings(&mut bob, &[deposit]);
}

//= RFC 3261 12.2.2: lower than the remote sequence number: out of order, 500
#[test]
fn a_request_from_the_past_is_500() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    let (mut call, _msrp) = unanswered(&mut bob, 1);
    let (early, late) = (call.request_in_dialog("UPDATE"), call.request_in_dialog("UPDATE"));
    assert_eq!(call.exchange(&late).code(), 200);
    assert_eq!(call.exchange(&early).code(), 500);
    call.bye();
}

/// A retrieval is held, moves and goes on like a push.
#[test]
fn a_retrieval_changes_its_path_too() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let deposits: Vec<SipMessage> = (0..3).map(|number| alice.message(BOB, &format!("message {number}"))).collect();
    let bob = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    msrp.set_policy(|number, _| vec![if number == 0 { Reply::Status(200) } else { Reply::Silence }]);
    let request = invite(&bob, &Answer::new(msrp.path(), Setup::Active).write());
    let ok = bob.exchange(&request);
    ack(&bob, &request, &ok);
    msrp.connect(described(&ok).attribute("path").unwrap());
    msrp.expect_sends(3);
    let other = bob.msrp(Setup::Active);
    let again = within(&bob, "INVITE", 2, &request, &ok)
        .with("Contact", bob.contact.clone())
        .with_body("application/sdp", offer(other.path(), Setup::Active, 2, "recvonly"));
    let moved = bob.exchange(&again);
    ack(&bob, &again, &moved);
    other.connect(described(&moved).attribute("path").unwrap());
    scene.same(&other.expect_messages(2), &deposits[1..]);
    expect_bye(&bob, &request);
}
