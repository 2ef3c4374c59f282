//! 12.2.2.5 Pushing Deferred Messages: one SEND a message, octet for octet, in order, and BYE after the last; and every
//! answer MSRP knows.

use std::time::Duration;

use deferd_kit::{
    agents::Client,
    call::Call,
    daemon::DaemonOptions,
    msrp::Frame,
    msrp_client::{MsrpClient, Reply},
    payload,
    scene::{BOB, Scene},
    sdp::{Answer, Setup},
    sip::SipMessage,
};

use crate::DEFERD;

/// Bob publishes and answers, with a client that answers SENDs by this policy.
#[track_caller]
fn begin(bob: &mut Client, policy: impl FnMut(usize, &Frame) -> Vec<Reply> + Send + 'static) -> (Call, MsrpClient) {
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(policy);
    call.answer(&msrp, Setup::Active);
    (call, msrp)
}

fn deposits(scene: &Scene, count: usize) -> Vec<SipMessage> {
    let alice = scene.alice();
    (0..count).map(|number| alice.message(BOB, &format!("message {number}"))).collect()
}

//= 12.2.2.5: SHALL generate MSRP SEND request for each deferred Message
//= 12.2.2.5: SHALL be of Content-Type multipart/mixed
//= 12.2.2.5: encapsulate SIP MESSAGE with the Content-Type of message/sip
//= 12.2.2.5: the Original headers in the deferred messages SHALL not be altered
#[test]
fn each_message_is_one_send_of_one_part() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 5);
    let mut bob = scene.bob();
    let (call, msrp) = begin(&mut bob, |_, _| vec![Reply::Status(200)]);
    let pushed = msrp.expect_messages(5);
    call.expect_bye();
    scene.same(&pushed, &deposits);
    let sends: Vec<Frame> = msrp.frames().into_iter().filter(|frame| frame.content.is_some()).collect();
    assert_eq!(sends.len(), 5);
    for (send, message) in sends.iter().zip(&pushed) {
        let names: Vec<&str> = send.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["To-Path", "From-Path", "Message-ID", "Byte-Range", "Content-Type"]);
        assert_eq!(send.header("To-Path"), Some(msrp.path()), "literally the client's path");
        assert_eq!(send.header("From-Path"), Some(call.offered_path().as_str()), "literally the offered path");
        assert!(send.tid.len() == 20 && send.tid.bytes().all(|octet| octet.is_ascii_hexdigit()), "{}", send.tid);
        let id = &message.message_id;
        assert!(id.len() == 26 && id.bytes().all(|octet| octet.is_ascii_digit() || octet.is_ascii_lowercase()), "{id}");
        let length = message.body.len();
        assert_eq!(send.header("Byte-Range"), Some(format!("1-{length}/{length}").as_str()));
        let boundary = payload::boundary(&message.content_type).unwrap();
        assert!(message.body.ends_with(format!("\r\n--{boundary}--").as_bytes()));
    }
    let mut ids: Vec<&String> = pushed.iter().map(|message| &message.message_id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 5, "each message has an id of its own");
}

//= 12.2.2.5: SHALL encapsulate To, From, Date, Subject, Priority, Call-ID, P-Asserted-Identity
#[test]
fn the_relevant_headers_are_inside() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let full = alice
        .text(BOB, "x")
        .with("Subject", "s")
        .with("Priority", "normal")
        .with("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let deposit = alice.deposit(full);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(1);
    let inner = &scene.same(&pushed, &[deposit])[0];
    for name in ["To", "From", "Date", "Subject", "Priority", "Call-ID", "P-Asserted-Identity"] {
        assert!(inner.header(name).is_some(), "{name}\n{inner:?}");
    }
}

#[test]
fn hop_data_is_not_delivered() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let with_hops = alice
        .text(BOB, "x")
        .with("Route", format!("<sip:{};lr>", scene.sip()))
        .with("Record-Route", "<sip:192.0.2.1;lr>")
        .with("P-Access-Network-Info", "3GPP-UTRAN-TDD")
        .with("P-Charging-Vector", "icid-value=1234")
        .with("Proxy-Authorization", "Digest username=\"alice\"");
    let via = format!("{}, SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKorigin", with_hops.header("Via").unwrap());
    let deposit = alice.deposit(with_hops.set("Via", via));
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(1);
    let inner = &scene.same(&pushed, &[deposit])[0];
    let vias = inner.all("Via").join(",");
    assert!(
        vias.contains("z9hG4bKorigin") && vias.matches("SIP/2.0/").count() == 1,
        "only the originator's Via: {vias}"
    );
}

//= 12.2.2.5: after sending all the deferred messages, send a SIP BYE
#[test]
fn bye_comes_only_when_the_last_answer_is_there() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 3);
    let mut bob = scene.bob();
    let (call, msrp) =
        begin(&mut bob, |number, _| if number < 2 { vec![Reply::Status(200)] } else { vec![Reply::Silence] });
    let pushed = msrp.expect_messages(3);
    let early = bob.inbox.find(Duration::from_millis(700), |message| message.method() == "BYE");
    assert!(early.is_none(), "BYE before the last answer");
    let last = msrp.frames().into_iter().rfind(|frame| frame.content.is_some()).unwrap();
    msrp.write(&deferd_kit::msrp::response(&last, 200, "OK"));
    call.expect_bye();
    scene.same(&pushed, &deposits);
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_late_arrival_joins_the_session() {
    let scene = Scene::new(DEFERD);
    let mut deposits = deposits(&scene, 1);
    let mut bob = scene.bob();
    let (call, msrp) =
        begin(&mut bob, |number, _| if number == 0 { vec![Reply::Silence] } else { vec![Reply::Status(200)] });
    msrp.expect_sends(1);
    deposits.push(scene.alice().message(BOB, "late"));
    let first = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    msrp.write(&deferd_kit::msrp::response(&first, 200, "OK"));
    let pushed = msrp.expect_messages(2);
    call.expect_bye();
    scene.same(&pushed, &deposits);
}

#[test]
fn a_session_begins_with_four_unanswered_sends() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 50);
    let mut bob = scene.bob();
    let (mut call, msrp) = begin(&mut bob, |_, _| vec![Reply::Silence]);
    msrp.expect_sends(4);
    let fifth = bob.inbox.find(Duration::from_millis(500), |_| false);
    assert!(fifth.is_none());
    let sends = msrp.frames().iter().filter(|frame| frame.content.is_some()).count();
    assert_eq!(sends, 4, "more than four SENDs wait for their first answer");
    call.bye();
    msrp.expect_closed();
}

#[test]
fn the_window_grows_while_answers_come() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 300);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    scene.same(&bob.take_push(300), &deposits);
}

//= RFC 4975 7.1.1: larger bodies go in interruptible chunks, range-end *
#[test]
fn a_large_body_comes_in_chunks_that_join() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice_tcp();
    let deposits: Vec<_> = [2_000, 8_000, 8_192, 60_000]
        .map(|size: usize| {
            alice.deposit(alice.request("MESSAGE", BOB).with_body("text/plain", "\u{20ac}".repeat(size / 3)))
        })
        .to_vec();
    let mut bob = scene.bob();
    let (call, msrp) = begin(&mut bob, |_, _| vec![Reply::Status(200)]);
    let pushed = msrp.expect_messages(4);
    call.expect_bye();
    scene.same(&pushed, &deposits);
    assert!(pushed[3].chunks >= 7, "{} chunks of 60 KB", pushed[3].chunks);
    for frame in msrp.frames() {
        assert!(frame.data_len() <= 8192, "a chunk of {} octets, above chunk_max", frame.data_len());
        // A chunk border never falls inside a UTF-8 character of a text.
        assert!(frame.content.as_ref().is_none_or(|data| std::str::from_utf8(data).is_ok()), "a character was cut");
    }
}

#[test]
fn a_body_with_end_lines_in_it_is_framed_all_the_same() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let inner = "MSRP dkei38sd SEND\r\nMessage-ID: 456\r\n\r\nHi\r\n-------dkei38sd$\r\n-------";
    let deposit = alice.message(BOB, inner);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[deposit]);
}

//= RFC 4975 5.4: the Message-ID values for the resent messages MUST match those used in the initial attempts
#[test]
fn what_was_not_confirmed_comes_again_with_the_same_id_and_octets() {
    let mut scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 3);
    let mut bob = scene.bob();
    let (_call, msrp) = begin(&mut bob, |_, _| vec![Reply::Silence]);
    let first = msrp.expect_messages(3);
    scene.kill9();
    scene.restart(1);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let second = bob.take_push(3);
    scene.same(&second, &deposits);
    for (before, after) in first.iter().zip(&second) {
        assert_eq!((&before.message_id, &before.body), (&after.message_id, &after.body));
        assert_eq!(before.content_type, after.content_type);
    }
}

/// Statuses that end the session: BYE, nothing lost.
#[test]
fn a_session_failure_is_ended_by_bye_and_loses_nothing() {
    for status in [403, 408, 481, 501, 506] {
        let scene = Scene::new(DEFERD);
        let deposits = deposits(&scene, 3);
        let mut bob = scene.bob();
        let (call, msrp) = begin(&mut bob, move |number, _| {
            vec![if number == 1 { Reply::Status(status) } else { Reply::Status(200) }]
        });
        msrp.expect_sends(2);
        call.expect_bye();
        bob.publish_presence(true);
        let again = bob.expect_invite();
        let msrp = bob.msrp(Setup::Active);
        again.answer(&msrp, Setup::Active);
        again.expect_bye();
        let pushed = msrp.messages();
        let second = pushed.iter().find(|message| payload::pager(message).unwrap().body == deposits[1].body);
        assert!(second.is_some(), "{status}: the refused message is gone");
    }
}

//= RFC 4975 10.5: after 413 no further chunks of that message; the others go on
#[test]
fn a_413_stops_one_message_only() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice_tcp();
    let large = alice.deposit(alice.text(BOB, &"x".repeat(100_000)));
    let small = alice.message(BOB, "small");
    let mut bob = scene.bob();
    let (call, msrp) = begin(&mut bob, |number, _| vec![Reply::Status(if number == 0 { 413 } else { 200 })]);
    let pushed = msrp.expect_messages(1);
    call.expect_bye();
    scene.same(&pushed[..1], &[small]);
    let octets: usize = msrp.frames().iter().filter(|frame| frame.data_len() > 2048).map(Frame::data_len).sum();
    assert!(octets < large.body.len(), "a refused message was sent to its end");
}

//= RFC 4975 10.2: 400: the same octets three times, then the message is left out of pushes
#[test]
fn a_400_is_tried_again_and_then_left_alone() {
    for status in [400, 423] {
        let scene = Scene::new(DEFERD);
        let alice = scene.alice();
        let (poison, good) = (alice.message(BOB, "poison"), alice.message(BOB, "good"));
        let is_poison = move |frame: &Frame| {
            deferd_kit::sip::find(frame.content.as_deref().unwrap_or_default(), poison.call_id().as_bytes()).is_some()
        };
        let mut bob = scene.bob();
        for attempt in 1..=3 {
            bob.publish_presence(true);
            let call = bob.expect_invite();
            let (msrp, is_poison) = (bob.msrp(Setup::Active), is_poison.clone());
            msrp.set_policy(move |_, frame| vec![Reply::Status(if is_poison(frame) { status } else { 200 })]);
            call.answer(&msrp, Setup::Active);
            call.expect_bye();
            let pushed = msrp.messages();
            let tries = msrp.frames().iter().filter(|frame| frame.content.is_some()).count();
            assert_eq!((pushed.len(), tries), if attempt == 1 { (2, 2) } else { (1, 1) }, "{status}, push {attempt}");
            if attempt == 1 {
                scene.same(&pushed[1..], std::slice::from_ref(&good));
            }
            assert!(
                bob.invite_within(Duration::from_millis(300)).is_none(),
                "{status}: a refusal is no reason for another push"
            );
        }
        bob.publish_presence(true);
        assert!(bob.invite_within(Duration::from_millis(500)).is_none(), "{status}: pushed a fourth time");
        scene.nothing_waits(&mut bob);
    }
}

/// A regression: the refused message was a reason for the next push, and that for the next, one every push_min_interval.
#[test]
fn a_413_is_no_reason_for_another_push() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "unwanted");
    let mut bob = scene.bob();
    let (call, msrp) = begin(&mut bob, |_, _| vec![Reply::Status(413)]);
    msrp.expect_sends(1);
    call.expect_bye();
    assert!(bob.invite_within(Duration::from_millis(700)).is_none(), "pushed again though nothing has changed");
    scene.push_brings(&mut bob, &[deposit]);
}

#[test]
fn an_answer_after_a_while_is_an_answer() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 6);
    let mut bob = scene.bob();
    let (call, msrp) = begin(&mut bob, |_, _| vec![Reply::After(Duration::from_millis(300), 200)]);
    let pushed = msrp.expect_messages(6);
    call.expect_bye();
    scene.same(&pushed, &deposits);
}

//= RFC 4975 7.1: a request without a response within the time is failed, the session with it
#[test]
fn silence_ends_the_session_after_tx_timeout() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("msrp", "tx_timeout = \"2s\""));
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob();
    let (call, msrp) = begin(&mut bob, |_, _| vec![Reply::Silence]);
    msrp.expect_sends(1);
    call.expect_bye();
    bob.publish_presence(true);
    scene.same(&bob.take_push(2), &deposits);
}

#[test]
fn nobody_who_connects_is_ended_after_bind_timeout() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("msrp", "bind_timeout = \"2s\""));
    let deposits = deposits(&scene, 1);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    call.send(&call.accept_with(&Answer::new("msrp://127.0.0.1:9/neverconnects01;tcp", Setup::Active).write()));
    call.expect_ack();
    call.expect_bye();
    bob.publish_presence(true);
    scene.same(&bob.take_push(1), &deposits);
}

#[test]
fn a_cut_connection_loses_nothing() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 10);
    let mut bob = scene.bob();
    let (call, msrp) = begin(&mut bob, |_, _| vec![Reply::Cut]);
    msrp.expect_closed();
    call.expect_bye();
    bob.publish_presence(true);
    scene.same(&bob.take_push(10), &deposits);
}

#[test]
fn a_client_that_hangs_up_gets_the_rest_next_time() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 4);
    let mut bob = scene.bob();
    let (mut call, msrp) =
        begin(&mut bob, |number, _| vec![if number == 0 { Reply::Status(200) } else { Reply::Silence }]);
    msrp.expect_sends(4);
    call.bye();
    msrp.expect_closed();
    bob.publish_presence(true);
    scene.same(&bob.take_push(3), &deposits[1..]);
}

#[test]
fn a_client_that_stops_reading_holds_up_nobody_else() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice_tcp();
    for _ in 0..20 {
        alice.message(BOB, &"x".repeat(60_000));
    }
    let carol_waits = alice.message("sip:carol@example.org", "for carol");
    let mut bob = scene.bob();
    let (_call, msrp) = begin(&mut bob, |_, _| vec![Reply::StopReading]);
    msrp.expect_sends(1);
    let mut carol = scene.client(deferd_kit::peer::Transport::Tcp, "sip:carol@example.org", scene.sip());
    carol.publish_presence(true);
    scene.same(&carol.take_push(1), &[carol_waits]);
    msrp.set_policy(|_, _| vec![Reply::Status(200)]);
    msrp.resume();
    msrp.expect_messages(20);
}

//= RFC 4975 7.1: To-Path: the peer's a=path as it is, all URIs in their order
#[test]
fn a_path_of_two_uris_is_used_literally() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 1);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    let msrp = bob.msrp(Setup::Passive);
    let relay = msrp.path().replace(";tcp", "relay;tcp");
    let msrp = msrp.behind_relay(&relay);
    let answer = Answer::new(msrp.path(), Setup::Passive);
    call.send(&call.accept_with(&answer.write()));
    call.expect_ack();
    let pushed = msrp.expect_messages(1);
    let sends: Vec<Frame> = msrp.frames().into_iter().filter(|frame| frame.content.is_some()).collect();
    assert!(sends.iter().all(|send| send.header("To-Path") == Some(msrp.path())));
    assert_eq!(sends[0].header("Success-Report"), Some("yes"), "relays answer hop by hop: a REPORT is asked for");
    let report = format!(
        "MSRP report01 REPORT\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: {}\r\nByte-Range: 1-{length}/{length}\r\nStatus: 000 200 OK\r\n-------report01$\r\n",
        call.offered_path(),
        msrp.path(),
        pushed[0].message_id,
        length = pushed[0].body.len()
    );
    msrp.write(report.as_bytes());
    call.expect_bye();
    scene.same(&pushed, &deposits);
}

//= RFC 4975 7.1.2: hop by hop, a response says nothing of the peer: behind a relay delivery is confirmed by REPORTs
#[test]
fn a_relay_that_never_reports_holds_no_session_open() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "report_wait = \"1s\""));
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    let msrp = bob.msrp(Setup::Passive);
    let relay = msrp.path().replace(";tcp", "relay;tcp");
    let msrp = msrp.behind_relay(&relay);
    call.send(&call.accept_with(&Answer::new(msrp.path(), Setup::Passive).write()));
    call.expect_ack();
    msrp.expect_messages(2);
    call.expect_bye();
    bob.publish_presence(true);
    scene.same(&bob.take_push(2), &deposits);
}

#[test]
fn after_push_retain_keeps_it_from_the_next_push() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "after_push = \"retain\""));
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
    scene.nothing_waits(&mut bob);
}
