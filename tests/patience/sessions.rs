//! Sessions that last: refreshes of ours and what answers them, ACKs that never come.

use std::time::Duration;

use deferd_kit::{
    msrp::{Kind, read_all},
    sdp::{Answer, Sdp, Setup},
    sip::SipMessage,
};

use crate::people::{BOB, HOME, MEDIA, answer, deposit, exchange, push, request};
use crate::rig::Rig;

const SHORT: [(&str, &str); 3] =
    [("Require", "timer"), ("Session-Expires", "90;refresher=uac"), ("Allow", "INVITE, ACK, BYE, UPDATE")];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

//= RFC 3261 14.2: a 2xx whose ACK is never received: SHOULD generate a BYE to terminate the dialog
#[test]
fn a_re_invite_whose_200_is_never_acknowledged_ends_in_bye_after_32_seconds() {
    let mut rig = Rig::new(1);
    deposit(&mut rig, &[], "text/plain", "hello");
    let mut session = push(&mut rig, &[]);
    let offer = Answer::new(&session.path, Setup::Active).write();
    let invite = session.request(&mut rig, "INVITE").with_body("application/sdp", offer);
    assert_eq!(exchange(&mut rig, &invite).code(), 200);
    rig.pass(ms(31_900));
    rig.expect_no("BYE");
    let is_ours = |message: &deferd_kit::sip::SipMessage| message.code() == 200 && message.branch() == invite.branch();
    assert!(rig.find(is_ours).is_some(), "the 200 is repeated meanwhile");
    rig.pass(ms(200));
    let bye = rig.expect_request("BYE");
    answer(&mut rig, &bye, 200, &[], None);
    assert_eq!(rig.pushes(), 0);
}

//= RFC 3261 13.3.1.4: a 2xx retransmitted for 64*T1 without an ACK: the session SHOULD be terminated with a BYE
#[test]
fn a_retrieval_that_is_never_acknowledged_ends_in_bye_after_32_seconds() {
    let mut rig = Rig::new(1);
    deposit(&mut rig, &[], "text/plain", "hello");
    let sdp = Answer::new("msrp://10.0.0.9:9/bobsession;tcp", Setup::Active).write();
    let invite = request(&mut rig, "INVITE", BOB, "sip:Deferred@im.example.org").with_body("application/sdp", sdp);
    let ok = exchange(&mut rig, &invite);
    assert_eq!(ok.code(), 200, "{ok:?}");
    rig.pass(ms(31_900));
    rig.expect_no("BYE");
    rig.pass(ms(200));
    let bye = rig.expect_request("BYE");
    assert_eq!(bye.message.tag("From"), ok.tag("To"));
    answer(&mut rig, &bye, 200, &[], None);
    assert_eq!(rig.pushes(), 0);
}

//= RFC 4028 7.2: it is RECOMMENDED that this refresh be sent once half the session interval has elapsed
//= RFC 3261 14.1: 491: again after 2.1 to 4 seconds by who made the Call-ID
//= RFC 3311 5.3: a UAC that receives a 491 and owns the Call-ID: again after 2.1 to 4 seconds
//= RFC 4028 7.4: 422: the refresh is sent again with at least the Min-SE of the response
#[test]
fn we_refresh_at_half_the_interval_and_again_after_491_and_422() {
    let mut rig = Rig::new(1);
    deposit(&mut rig, &[], "text/plain", "hello");
    push(&mut rig, &SHORT);
    rig.pass(ms(44_900));
    rig.expect_no("UPDATE");
    rig.pass(ms(200));
    let update = rig.expect_request("UPDATE");
    assert!(update.message.body.is_empty() && update.message.header("Session-Expires").is_some());
    answer(&mut rig, &update, 491, &[], None);
    rig.pass(ms(2_000));
    rig.expect_no("UPDATE");
    rig.pass(ms(2_100));
    let again = rig.expect_request("UPDATE");
    assert!(again.message.cseq() > update.message.cseq());
    answer(&mut rig, &again, 422, &[("Min-SE", "200")], None);
    let larger = rig.expect_request("UPDATE");
    assert_eq!(larger.message.header("Min-SE"), Some("200"));
    assert!(larger.message.header("Session-Expires").unwrap().starts_with("200"), "{:?}", larger.message);
    answer(&mut rig, &larger, 200, &[("Require", "timer"), ("Session-Expires", "200;refresher=uac")], None);
    rig.pass(ms(99_900));
    rig.expect_no("UPDATE");
    rig.pass(ms(200));
    let next = rig.expect_request("UPDATE");
    // What is not about time says nothing about the session: it is tried again until the interval is over.
    answer(&mut rig, &next, 500, &[], None);
    rig.pass(seconds(11));
    rig.expect_request("UPDATE");
    assert_eq!(rig.pushes(), 1);
}

//= RFC 3261 12.2.1.2: a 481 or a 408 within a dialog: the UAC SHOULD terminate the dialog
//= RFC 4028 10: a refresh that times out ends the session
#[test]
fn a_refresh_that_meets_nobody_ends_the_session() {
    for code in [Some(481), Some(408), None] {
        let mut rig = Rig::new(1);
        deposit(&mut rig, &[], "text/plain", "hello");
        push(&mut rig, &SHORT);
        rig.pass(ms(45_100));
        let update = rig.expect_request("UPDATE");
        match code {
            Some(code) => answer(&mut rig, &update, code, &[], None),
            // The interval is over a third of it before its end, unless somebody has refreshed.
            None => rig.pass(seconds(32)),
        }
        let bye = rig.expect_request("BYE");
        answer(&mut rig, &bye, 200, &[], None);
        assert_eq!(rig.pushes(), 0, "{code:?}");
    }
}

//= RFC 3261 14.2: an INVITE while an INVITE of ours is in progress on that dialog: 491
//= RFC 4028 7.4: a re-INVITE that refreshes carries the session's offer, and its o= line when nothing changes
#[test]
fn a_client_without_update_is_refreshed_by_re_invite_and_its_own_crosses_ours() {
    let mut rig = Rig::new(1);
    deposit(&mut rig, &[], "text/plain", "hello");
    let mut session = push(&mut rig, &SHORT[..2]);
    rig.pass(ms(45_100));
    let refresh = rig.expect_request("INVITE");
    assert_eq!(refresh.message.body, session.invite.body, "nothing has changed");
    assert!(refresh.message.cseq() > session.invite.cseq());
    let offer = Answer::new(&session.path, Setup::Active).write();
    for method in ["INVITE", "UPDATE"] {
        let crossing = session.request(&mut rig, method).with_body("application/sdp", offer.clone());
        assert_eq!(exchange(&mut rig, &crossing).code(), 491, "{method}");
    }
    let bare = session.request(&mut rig, "UPDATE");
    assert_eq!(exchange(&mut rig, &bare).code(), 200);
    let contact = format!("<sip:bob@{}>", crate::people::HOME);
    let lines = [SHORT[0], SHORT[1], ("Contact", contact.as_str())];
    answer(&mut rig, &refresh, 200, &lines, Some(offer.clone()));
    let ack = rig.expect_request("ACK");
    assert_eq!(ack.message.cseq(), refresh.message.cseq());
    // Now theirs crosses nothing. It makes the direction of the connection part of what is agreed; our next offer leaves it open.
    let theirs = session.request(&mut rig, "INVITE").with_body("application/sdp", offer);
    let ok = exchange(&mut rig, &theirs);
    assert_eq!((ok.code(), Sdp::read(&ok.body).unwrap().attribute("setup")), (200, Some("passive")));
    let ack = session.request(&mut rig, "ACK").set("CSeq", format!("{} ACK", theirs.cseq()));
    rig.datagram(0, crate::people::HOME, &ack);
    rig.pass(ms(45_100));
    let next = rig.expect_request("INVITE");
    assert_eq!(Sdp::read(&next.message.body).unwrap().attribute("setup"), Some("actpass"));
    assert_eq!(rig.pushes(), 1);
}

/// A client that holds its session has two minutes.
#[test]
fn a_session_that_stays_held_is_ended_and_its_messages_wait_on() {
    let mut rig = Rig::new(1);
    deposit(&mut rig, &[], "text/plain", "hello");
    let mut session = push(&mut rig, &[]);
    let hold = Answer { direction: Some("inactive"), ..Answer::new(&session.path, Setup::Active) };
    let update = session.request(&mut rig, "UPDATE").with_body("application/sdp", hold.write());
    assert_eq!(exchange(&mut rig, &update).code(), 200);
    rig.pass(ms(119_900));
    rig.expect_no("BYE");
    rig.pass(ms(200));
    let bye = rig.expect_request("BYE");
    answer(&mut rig, &bye, 200, &[], None);
    assert_eq!(rig.pushes(), 0);
    rig.pass(seconds(31));
    rig.expect_request("INVITE");
}

/// The 200 of bob's client to every SEND so far.
pub(crate) fn take(rig: &mut Rig, octets: &str) {
    let frames = read_all(octets.as_bytes()).unwrap();
    let sends = frames.iter().filter(|frame| frame.kind == Kind::Request("SEND".into()));
    let answers: String = sends
        .map(|send| {
            let (to, from) = (send.header("From-Path").unwrap(), send.header("To-Path").unwrap());
            format!("MSRP {tid} 200 OK\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n-------{tid}$\r\n", tid = send.tid)
        })
        .collect();
    assert!(!answers.is_empty());
    rig.receive(0, MEDIA, answers.as_bytes());
}

/// A power cut after the BYE of a session whose connection had broken: four messages that its client had acknowledged came again,
/// because their tombstones were not on the disk yet.
#[test]
fn our_bye_waits_until_what_was_acknowledged_is_written_off() {
    let mut rig = Rig::new(1);
    for text in ["one", "two", "three"] {
        deposit(&mut rig, &[], "text/plain", text);
    }
    push(&mut rig, &[]);
    let octets = rig.media(0, MEDIA);
    rig.disk_waits = true;
    take(&mut rig, &octets);
    rig.reset(0, MEDIA);
    rig.pass(seconds(5));
    rig.expect_no("BYE");
    assert_eq!(rig.pushes(), 1);
    rig.disk_goes_on();
    let bye = rig.expect_request("BYE");
    answer(&mut rig, &bye, 200, &[], None);
    assert_eq!(rig.pushes(), 0);
}

//= RFC 3261 15.1.2: a BYE is answered 200 when it has been processed: here, when nothing acknowledged before it comes again
#[test]
fn the_clients_bye_is_answered_when_what_was_acknowledged_is_written_off() {
    let mut rig = Rig::new(1);
    deposit(&mut rig, &[], "text/plain", "hello");
    let mut session = push(&mut rig, &[]);
    let octets = rig.media(0, MEDIA);
    rig.disk_waits = true;
    take(&mut rig, &octets);
    let bye = session.request(&mut rig, "BYE");
    rig.datagram(0, HOME, &bye);
    let is_answer = |message: &SipMessage| message.branch() == bye.branch() && message.code() >= 200;
    rig.pass(seconds(1));
    assert!(rig.find(is_answer).is_none(), "what was acknowledged is not durable yet");
    // Only one good-bye is said.
    let second = session.request(&mut rig, "BYE");
    assert_eq!(exchange(&mut rig, &second).code(), 481);
    let update = session.request(&mut rig, "UPDATE");
    assert_eq!(exchange(&mut rig, &update).code(), 481);
    rig.disk_goes_on();
    assert_eq!(rig.expect_answer(&bye).code(), 200);
    rig.expect_no("BYE");
    assert_eq!(rig.pushes(), 0);
}

/// A disk that does not answer keeps nobody for ever, nor does one that is broken.
#[test]
fn the_last_word_waits_for_the_log_for_sixteen_seconds_at_most() {
    for broken in [false, true] {
        let mut rig = Rig::new(1);
        deposit(&mut rig, &[], "text/plain", "hello");
        push(&mut rig, &[]);
        let octets = rig.media(0, MEDIA);
        (rig.disk_waits, rig.disk_is_broken) = (!broken, broken);
        take(&mut rig, &octets);
        rig.reset(0, MEDIA);
        if !broken {
            rig.pass(ms(15_900));
            rig.expect_no("BYE");
            rig.pass(ms(200));
        }
        let bye = rig.expect_request("BYE");
        answer(&mut rig, &bye, 200, &[], None);
        assert_eq!(rig.pushes(), 0, "broken: {broken}");
    }
}
