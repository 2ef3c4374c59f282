//! Sessions in which large messages come, and whose senders fall silent: the whole of their life without a sender's help.

use std::time::Duration;

use deferd::engine::input::Service;
use deferd_kit::{
    large::{Chunk, LARGE_TAG},
    sdp::{Answer, Sdp, Setup},
    sip::{SipMessage, uri_of},
};

use crate::people::{ALICE, BOB, HOME, MEDIA, answer, exchange, request};
use crate::rig::Rig;

pub(crate) const PATH: &str = "msrp://10.0.0.9:9/alicesession;tcp";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Room for one part of a large message, and not for a pager message beside it.
fn narrow() -> Rig {
    Rig::with(1, |policy| policy.quota_octets = 64 << 10)
}

/// Alice's INVITE and the 200 to it.
#[track_caller]
pub(crate) fn answered(rig: &mut Rig) -> (SipMessage, SipMessage) {
    answered_with(rig, &[])
}

/// The same with more lines in the INVITE.
#[track_caller]
fn answered_with(rig: &mut Rig, more: &[(&str, &str)]) -> (SipMessage, SipMessage) {
    let offer = Answer { direction: Some("sendonly"), accept_types: "*".into(), ..Answer::new(PATH, Setup::Active) };
    let invite = request(rig, "INVITE", ALICE, BOB).with("Accept-Contact", LARGE_TAG);
    let invite = more.iter().fold(invite, |invite, (name, value)| invite.with(name, *value));
    let invite = invite.with_body("application/sdp", offer.write());
    let ok = exchange(rig, &invite);
    assert_eq!(ok.code(), 200, "{ok:?}");
    (invite, ok)
}

/// A request of alice's in the dialog.
fn within(rig: &mut Rig, invite: &SipMessage, ok: &SipMessage, cseq: u32, method: &str) -> SipMessage {
    let branch = rig.branch();
    SipMessage::request(method, uri_of(ok.header("Contact").unwrap()))
        .with("Via", format!("SIP/2.0/UDP {HOME};branch={branch}"))
        .with("Max-Forwards", "70")
        .with("From", invite.header("From").unwrap())
        .with("To", ok.header("To").unwrap())
        .with("Call-ID", invite.call_id())
        .with("CSeq", format!("{cseq} {method}"))
}

/// Acknowledges it.
pub(crate) fn ack(rig: &mut Rig, invite: &SipMessage, ok: &SipMessage) {
    let ack = within(rig, invite, ok, 1, "ACK");
    rig.datagram(0, HOME, &ack);
}

/// Alice connects and sends the first 60,000 octets of 200,000.
#[track_caller]
fn begins(rig: &mut Rig, ok: &SipMessage) {
    let ours = Sdp::read(&ok.body).unwrap().attribute("path").unwrap().to_string();
    rig.accept(0, MEDIA, Service::Msrp, HOME);
    let body = vec![b'x'; 200_000];
    rig.receive(0, MEDIA, &Chunk::of("halfway1", &body, 0, 60_000).write("tid00001", &ours, PATH));
    assert!(rig.media(0, MEDIA).contains("MSRP tid00001 200"), "{}", rig.media(0, MEDIA));
}

/// A pager message that fits when nothing else is there.
fn pager(rig: &mut Rig) -> u16 {
    let message = request(rig, "MESSAGE", ALICE, BOB).with_body("text/plain", "x".repeat(40_000));
    exchange(rig, &message).code()
}

/// Ours hangs up, and then there is nothing: no session, nothing stored, no quota.
#[track_caller]
fn ends(rig: &mut Rig, ok: &SipMessage) {
    let bye = rig.expect_request("BYE");
    assert_eq!(bye.message.tag("From"), ok.tag("To"));
    answer(rig, &bye, 200, &[], None);
    assert_eq!(rig.large_sessions_and_users(), (0, 0));
    assert_eq!(pager(rig), 202, "what had come of it counts for nothing");
}

#[test]
fn a_minute_of_silence_ends_a_large_session_and_leaves_nothing_behind() {
    let mut rig = narrow();
    let (invite, ok) = answered(&mut rig);
    ack(&mut rig, &invite, &ok);
    begins(&mut rig, &ok);
    assert_eq!(pager(&mut rig), 480, "it counts while it comes");
    rig.pass(ms(59_900));
    rig.expect_no("BYE");
    rig.pass(ms(200));
    ends(&mut rig, &ok);
}

//= RFC 3261 13.3.1.4: a 2xx retransmitted for 64*T1 without an ACK: the session SHOULD be terminated with a BYE
#[test]
fn a_large_session_that_is_never_acknowledged_ends_in_bye_after_32_seconds() {
    for is_bound in [true, false] {
        let mut rig = narrow();
        let (invite, ok) = answered(&mut rig);
        if is_bound {
            begins(&mut rig, &ok);
        }
        rig.pass(ms(31_900));
        rig.expect_no("BYE");
        let again = |message: &SipMessage| message.code() == 200 && message.branch() == invite.branch();
        assert!(rig.find(again).is_some(), "the 200 is repeated meanwhile");
        rig.pass(ms(200));
        ends(&mut rig, &ok);
    }
}

/// A BYE that nobody answers ends it as well.
#[test]
fn a_silent_sender_who_does_not_answer_the_bye_is_forgotten() {
    let mut rig = narrow();
    let (invite, ok) = answered(&mut rig);
    ack(&mut rig, &invite, &ok);
    begins(&mut rig, &ok);
    rig.pass(ms(60_100));
    rig.expect_request("BYE");
    assert_eq!(rig.large_sessions_and_users().0, 1);
    rig.pass(ms(32_100));
    assert_eq!((rig.large_sessions_and_users(), pager(&mut rig)), ((0, 0), 202));
}

/// Who leaves the refreshing to us and knows no UPDATE gets a re-INVITE; every repetition of its 200 is acknowledged.
//= RFC 3261 14.2: an INVITE while an INVITE of ours is in progress on that dialog: 491
//= RFC 3261 13.2.2.4: the ACK MUST be passed to the client transport every time a retransmission of the 2xx arrives
#[test]
fn a_sender_without_update_is_refreshed_by_re_invite_and_its_own_crosses_ours() {
    let mut rig = narrow();
    let lines = [
        ("Supported", "timer"),
        ("Session-Expires", "90;refresher=uas"),
        ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS"),
    ];
    let (invite, ok) = answered_with(&mut rig, &lines);
    ack(&mut rig, &invite, &ok);
    begins(&mut rig, &ok);
    rig.pass(ms(45_100));
    let refresh = rig.expect_request("INVITE");
    for (cseq, method) in [(2, "INVITE"), (3, "UPDATE")] {
        let crossing = within(&mut rig, &invite, &ok, cseq, method).with("Contact", format!("<sip:alice@{HOME}>"));
        let crossing = crossing.with_body("application/sdp", invite.body.clone());
        assert_eq!(exchange(&mut rig, &crossing).code(), 491, "{method}");
    }
    let bare = within(&mut rig, &invite, &ok, 4, "UPDATE").with("Contact", format!("<sip:alice@{HOME}>"));
    assert_eq!(exchange(&mut rig, &bare).code(), 200, "without an offer it crosses nothing");
    let contact = format!("<sip:alice@{HOME}>");
    let lines = [lines[0], lines[1], ("Contact", contact.as_str())];
    for _ in 0..2 {
        answer(&mut rig, &refresh, 200, &lines, Some(invite.body.clone()));
        assert_eq!(rig.expect_request("ACK").message.cseq(), refresh.message.cseq());
    }
    let theirs = within(&mut rig, &invite, &ok, 5, "INVITE").with("Contact", contact.clone());
    let theirs = theirs.with_body("application/sdp", invite.body.clone());
    assert_eq!(exchange(&mut rig, &theirs).code(), 200, "now it crosses nothing");
    let ack = within(&mut rig, &invite, &ok, 5, "ACK");
    rig.datagram(0, HOME, &ack);
}

/// Only the first 200 was looked after: a later one could wait for its ACK for ever.
//= RFC 3261 14.2: a 2xx whose ACK is never received: SHOULD generate a BYE to terminate the dialog
#[test]
fn a_senders_re_invite_whose_200_is_never_acknowledged_ends_in_bye_after_32_seconds() {
    let mut rig = narrow();
    let (invite, ok) = answered(&mut rig);
    ack(&mut rig, &invite, &ok);
    begins(&mut rig, &ok);
    let again = within(&mut rig, &invite, &ok, 2, "INVITE").with("Contact", format!("<sip:alice@{HOME}>"));
    let again = again.with_body("application/sdp", invite.body.clone());
    assert_eq!(exchange(&mut rig, &again).code(), 200);
    // The ACK of the first says nothing of the second.
    ack(&mut rig, &invite, &ok);
    rig.pass(ms(31_900));
    rig.expect_no("BYE");
    let is_ours = |message: &SipMessage| message.code() == 200 && message.branch() == again.branch();
    assert!(rig.find(is_ours).is_some(), "the 200 is repeated meanwhile");
    rig.pass(ms(200));
    ends(&mut rig, &ok);
}

/// What ends meanwhile says BYE when the ACK has come, not before.
//= RFC 3261 15: the callee MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx
//= RFC 3261 14.2: an INVITE while an offer of ours has no answer: 491
#[test]
fn a_bye_waits_for_the_ack_of_a_re_invite() {
    let mut rig = narrow();
    let (invite, ok) = answered(&mut rig);
    ack(&mut rig, &invite, &ok);
    begins(&mut rig, &ok);
    let bare = within(&mut rig, &invite, &ok, 2, "INVITE").with("Contact", format!("<sip:alice@{HOME}>"));
    assert!(!exchange(&mut rig, &bare).body.is_empty(), "without an offer it is answered with ours");
    let crossing = within(&mut rig, &invite, &ok, 3, "UPDATE").with("Contact", format!("<sip:alice@{HOME}>"));
    let crossing = crossing.with_body("application/sdp", invite.body.clone());
    assert_eq!(exchange(&mut rig, &crossing).code(), 491, "our offer has no answer yet");
    rig.reset(0, MEDIA);
    rig.pass(ms(5_000));
    rig.expect_no("BYE");
    let ack = within(&mut rig, &invite, &ok, 2, "ACK").with_body("application/sdp", invite.body.clone());
    rig.datagram(0, HOME, &ack);
    ends(&mut rig, &ok);
}
