//! A disk that breaks, a connection that dies on another core, a report that nobody takes.

use std::time::Duration;

use deferd::{
    base::net::ConnId,
    deferred::policy::{Afterwards, Expired},
    engine::input::Service,
    store::stamp::{MessageId, Stamp},
};

use deferd_kit::{
    sdp::{Answer, Setup},
    sip::SipMessage,
};

use crate::people::{
    ALICE, BOB, HOME, MEDIA, answer, deposit, deposit_with_report, exchange, presence, push, request, taken,
};
use crate::rig::{Rig, Way};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A PUBLISH whose commit failed had changed the memory: its repetition with the old tag met 412, though nobody was ever told the
/// new one.
//= RFC 3903 6: atomically: the processing of a PUBLISH that fails leaves the event state as it was
#[test]
fn a_publication_that_the_disk_did_not_take_was_not() {
    let mut rig = Rig::new(1);
    let first = presence(&mut rig, None);
    let tag = exchange(&mut rig, &first).header("SIP-ETag").unwrap().to_string();
    rig.disk_is_broken = true;
    for _ in 0..2 {
        let refresh = presence(&mut rig, Some(&tag));
        let response = exchange(&mut rig, &refresh);
        assert_eq!(response.code(), 503, "the tag is still the last: {response:?}");
        assert!(response.header("Retry-After").is_some() && response.header("SIP-ETag").is_none(), "{response:?}");
    }
    let other = presence(&mut rig, Some("never-given"));
    assert_eq!(exchange(&mut rig, &other).code(), 412);
}

//= 12.2.2.7-1: what cannot be deleted durably is not deleted
#[test]
fn a_refer_that_the_disk_does_not_take_is_503_and_deletes_nothing() {
    for within in [false, true] {
        let mut rig = Rig::new(1);
        deposit(&mut rig, &[], "text/plain", "hello");
        let mut session = within.then(|| push(&mut rig, &[]));
        rig.disk_is_broken = true;
        // The first breaks the log; the second finds it broken.
        for _ in 0..2 {
            let refer = match &mut session {
                Some(session) => session.request(&mut rig, "REFER"),
                None => request(&mut rig, "REFER", BOB, "sip:Delete@im.example.org"),
            };
            let refer = refer.with("Refer-To", "<sip:Deferred@im.example.org>");
            let response = exchange(&mut rig, &refer);
            assert_eq!(response.code(), 503, "within a session: {within}: {response:?}");
            assert!(response.header("Retry-After").is_some(), "{response:?}");
            rig.expect_no("NOTIFY");
        }
        if within {
            // Its client has the message, says nothing and is gone: it waits, and comes in the next session.
            rig.expect_no("BYE");
            rig.reset(0, MEDIA);
            let bye = rig.expect_request("BYE");
            answer(&mut rig, &bye, 200, &[], None);
            rig.pass(seconds(31));
            rig.expect_request("INVITE");
            assert_eq!(rig.media(0, MEDIA).matches("hello").count(), 1, "once in a session");
        }
    }
}

/// The simulator, 0x1446, 0x1958 and 0x1920: a message was with its client, whole, when its user deleted it and the disk failed. It was taken
/// back from its session all the same: the client's answer counted for nothing, and the message came once more, in the same session or the
/// next.
#[test]
fn what_its_client_has_while_a_deletion_fails_is_not_sent_again() {
    for answered_first in [false, true] {
        let mut rig = Rig::new(1);
        deposit(&mut rig, &[], "text/plain", "hello");
        let mut session = push(&mut rig, &[]);
        rig.disk_waits = true;
        let refer = session.request(&mut rig, "REFER").with("Refer-To", "<sip:Deferred@im.example.org>");
        rig.datagram(0, HOME, &refer);
        if answered_first {
            taken(&mut rig);
            rig.expect_no("BYE");
        }
        rig.disk_is_broken = true;
        rig.disk_goes_on();
        assert_eq!(rig.expect_answer(&refer).code(), 503);
        if !answered_first {
            rig.expect_no("BYE");
            taken(&mut rig);
        }
        let bye = rig.expect_request("BYE");
        answer(&mut rig, &bye, 200, &[], None);
        let publish = presence(&mut rig, None);
        exchange(&mut rig, &publish);
        rig.pass(seconds(700));
        rig.expect_no("INVITE");
        assert_eq!(rig.media(0, MEDIA).matches("hello").count(), 1, "answered first: {answered_first}");
    }
}

/// What a client acknowledged while the log takes nothing any more was forgotten where had messages are kept: neither marked as had nor taken
/// out of the list, it was pushed again and again until the next start.
#[test]
fn what_a_client_acknowledged_does_not_come_again_while_a_broken_log_lives() {
    for after_push in [Afterwards::Delete, Afterwards::Retain] {
        for broken_before in [false, true] {
            let mut rig = Rig::with(1, |policy| policy.after_push = after_push);
            deposit(&mut rig, &[], "text/plain", "hello");
            push(&mut rig, &[]);
            rig.disk_is_broken = true;
            if broken_before {
                let message = request(&mut rig, "MESSAGE", ALICE, BOB).with_body("text/plain", "too late");
                assert_eq!(exchange(&mut rig, &message).code(), 503);
            }
            taken(&mut rig);
            rig.pass(seconds(1));
            let bye = rig.expect_request("BYE");
            answer(&mut rig, &bye, 200, &[], None);
            // Who says again that they are there is looked at again, though the log does not take it.
            let publish = presence(&mut rig, None);
            exchange(&mut rig, &publish);
            rig.pass(seconds(700));
            rig.expect_no("INVITE");
            let times = rig.media(0, MEDIA).matches("hello").count();
            assert_eq!(times, 1, "{after_push:?}, broken before: {broken_before}");
        }
    }
}

/// Its time is over, and only the mark of that cannot be written.
#[test]
fn what_expired_on_a_broken_log_is_not_pushed_where_it_is_kept() {
    let mut rig = Rig::with(1, |policy| policy.expired = Expired::Keep);
    deposit(&mut rig, &[("Expires", "60")], "text/plain", "hello");
    // Known to be there before the log breaks; their client takes no session yet.
    let publish = presence(&mut rig, None);
    assert_eq!(exchange(&mut rig, &publish).code(), 200);
    let invite = rig.expect_request("INVITE");
    answer(&mut rig, &invite, 486, &[("Retry-After", "120")], None);
    rig.find(|message| message.method() == "ACK");
    rig.disk_is_broken = true;
    let message = request(&mut rig, "MESSAGE", ALICE, BOB).with_body("text/plain", "too late");
    assert_eq!(exchange(&mut rig, &message).code(), 503);
    rig.pass(seconds(700));
    rig.expect_no("INVITE");
}

/// Who acknowledges what is being deleted has it, and hears that the session is over when neither can come again.
#[test]
fn a_session_waits_for_the_deletion_of_what_its_client_acknowledged() {
    let mut rig = Rig::new(1);
    deposit(&mut rig, &[], "text/plain", "hello");
    let mut session = push(&mut rig, &[]);
    rig.disk_waits = true;
    let refer = session.request(&mut rig, "REFER").with("Refer-To", "<sip:Deferred@im.example.org>");
    rig.datagram(0, HOME, &refer);
    taken(&mut rig);
    rig.expect_no("BYE");
    rig.disk_goes_on();
    assert!(rig.expect_answer(&refer).code() < 300);
    rig.pass(seconds(1));
    let bye = rig.expect_request("BYE");
    answer(&mut rig, &bye, 200, &[], None);
}

/// Each log keeps a segment back for what makes room.
//= 12.2.2.7-1: what is to be deleted is deleted, also where nothing more can be stored
#[test]
fn on_a_full_disk_a_refer_still_deletes() {
    let mut rig = Rig::new(1);
    rig.disk_is_full = true;
    let text = "all work and no play. ".repeat(2_000);
    let mut stored = 0;
    let refused = loop {
        let message = request(&mut rig, "MESSAGE", ALICE, BOB).with_body("text/plain", text.clone());
        let response = exchange(&mut rig, &message);
        if response.code() != 202 {
            break response;
        }
        stored += 1;
        assert!(stored < 1_000, "the disk is never full");
    };
    assert!(refused.code() == 503 && refused.header("Retry-After").is_some() && stored > 10, "{refused:?}");
    let refer = request(&mut rig, "REFER", BOB, "sip:Delete@im.example.org")
        .with("Refer-To", "<sip:Deferred@im.example.org>")
        .with("Refer-Sub", "false");
    assert_eq!(exchange(&mut rig, &refer).code(), 200);
    let publish = presence(&mut rig, None);
    exchange(&mut rig, &publish);
    assert_eq!(rig.pushes(), 0, "nothing is left to be pushed");
}

/// The soak, fourteen segments beside what it may be: what was wanted soon after a look over everybody waited for the half second after which what
/// was left behind is looked at again.
#[test]
fn segments_that_are_wanted_soon_after_others_are_emptied_at_once() {
    let mut rig = Rig::new(1);
    let text = "all work and no play. ".repeat(1_000);
    // Four segments, a quarter of each alive: none goes before that is copied.
    let filled = |rig: &mut Rig, then: Duration| {
        let before = rig.had_back();
        for number in 0..200 {
            let to = if number % 4 == 0 { "sip:carol@example.org" } else { BOB };
            let message = request(rig, "MESSAGE", ALICE, to).with_body("text/plain", text.clone());
            assert_eq!(exchange(rig, &message).code(), 202);
        }
        let refer = request(rig, "REFER", BOB, "sip:Delete@im.example.org")
            .with("Refer-To", "<sip:Deferred@im.example.org>")
            .with("Refer-Sub", "false");
        assert_eq!(exchange(rig, &refer).code(), 200);
        rig.pass(then);
        rig.had_back() - before
    };
    // Here segments have no hints, and for those a log waits once in its life.
    filled(&mut rig, seconds(5));
    let had_back = [300, 300].map(|ms| filled(&mut rig, Duration::from_millis(ms)));
    assert!(had_back.iter().all(|many| *many >= 3), "four were filled each time, and {had_back:?} had back");
}

/// The CANCEL finds its INVITE at the user's home, which waits for the disk.
//= RFC 3261 9.2: the UAS SHOULD immediately respond to the original request with a 487 (Request Terminated)
#[test]
fn a_cancel_finds_its_invite_on_another_core() {
    for number in 0..4 {
        let mut rig = Rig::new(2);
        let who = format!("sip:user{number}@example.org");
        let message = request(&mut rig, "MESSAGE", ALICE, &who).with_body("text/plain", "hello");
        assert_eq!(exchange(&mut rig, &message).code(), 202);
        rig.disk_waits = true;
        let sdp = Answer::new("msrp://10.0.0.9:9/session;tcp", Setup::Active).write();
        // Of the stored message's millisecond, so that it has to be looked at.
        let id = MessageId::new(Stamp(rig.wall().0 << 12), [7; 10]);
        let list = format!(
            "<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list><entry uri=\"sip:{}@im.example.org\"/></list>\
             </resource-lists>",
            id.as_str()
        );
        let body = [
            b"--b\r\nContent-Type: application/sdp\r\n\r\n",
            sdp.as_slice(),
            b"\r\n--b\r\nContent-Type: application/resource-lists+xml\r\nContent-Disposition: recipient-list\r\n\r\n",
            list.as_bytes(),
            b"\r\n--b--\r\n",
        ]
        .concat();
        let invite = request(&mut rig, "INVITE", &who, "sip:Deferred@im.example.org");
        let invite = invite.with("Require", "recipient-list-invite").with_body("multipart/mixed;boundary=b", body);
        rig.datagram(0, HOME, &invite);
        let start = invite.start.replacen("INVITE", "CANCEL", 1);
        let cancel = SipMessage { start, body: Vec::new(), ..invite.clone() };
        let cancel = cancel.without("Content-Type").without("Require").set("CSeq", "1 CANCEL");
        assert_eq!(exchange(&mut rig, &cancel).code(), 200);
        assert_eq!(rig.expect_answer(&invite).code(), 487, "{who}");
        rig.disk_goes_on();
        assert_eq!(rig.pushes(), 0);
    }
}

/// The home of a user waited for timer B, 32 s, when the connection to the client died on another core.
#[test]
fn a_connection_that_dies_on_another_core_is_noticed_at_once() {
    // Of these users one is at home on each core.
    for number in 0..8 {
        let mut rig = Rig::new(2);
        let who = format!("sip:user{number}@example.org");
        let message = request(&mut rig, "MESSAGE", ALICE, &who).with_body("text/plain", "hello");
        assert_eq!(exchange(&mut rig, &message).code(), 202);
        let conn = ConnId(4);
        rig.accept(1, conn, Service::Sip, HOME);
        let publish = request(&mut rig, "PUBLISH", &who, &who).with("Event", "presence").with("Expires", "3600");
        let publish = publish.set("Via", format!("SIP/2.0/TCP {HOME};branch=z9hG4bKtcp{number};rport"));
        let publish = publish.with_body("application/pidf+xml", deferd_kit::agents::pidf_document(&who, true));
        rig.receive(1, conn, &publish.write());
        assert_eq!(rig.expect_answer(&publish).code(), 200);
        let invite = rig.expect_request("INVITE");
        assert_eq!((invite.to, rig.pushes()), (Way::Down(1, conn), 1));
        rig.reset(1, conn);
        assert_eq!(rig.pushes(), 0, "{who}: nobody waits for an answer on it");
    }
}

/// 30 seconds, two minutes, ten minutes, then never.
//= 12.2.2.6-2: shall use SIP MESSAGE to send a Failure Delivery Report to the original sender
#[test]
fn a_report_that_nobody_takes_is_tried_four_times_and_given_up() {
    let mut rig = Rig::new(1);
    deposit_with_report(&mut rig, &[]);
    let refer = request(&mut rig, "REFER", BOB, "sip:Delete@im.example.org")
        .with("Refer-To", "<sip:Deferred@im.example.org>")
        .with("Refer-Sub", "false");
    assert_eq!(exchange(&mut rig, &refer).code(), 200);
    for wait in [30, 120, 600] {
        let report = rig.expect_request("MESSAGE");
        answer(&mut rig, &report, 480, &[], None);
        rig.pass(seconds(wait - 1));
        rig.expect_no("MESSAGE");
        rig.pass(seconds(2));
    }
    let last = rig.expect_request("MESSAGE");
    answer(&mut rig, &last, 480, &[], None);
    rig.pass(seconds(7_200));
    rig.expect_no("MESSAGE");
}
