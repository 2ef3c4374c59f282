//! One message that comes twice before the first of it is on the disk.

use deferd::{base::net::ConnId, engine::input::Service};
use deferd_kit::{
    large::Chunk,
    msrp::{Frame, Kind, read_all},
    sdp::Sdp,
    sip::SipMessage,
};

use crate::large::{PATH, ack, answered};
use crate::people::{ALICE, BOB, HOME, answer, exchange, push, request};
use crate::rig::Rig;

/// Alice's connections.
const FIRST: ConnId = ConnId(6);
const SECOND: ConnId = ConnId(8);

/// A message whose sender wants to hear that it is stored.
fn text() -> String {
    format!(
        "From: <{ALICE}>\r\nTo: <{BOB}>\r\nDateTime: 2026-02-01T10:00:00Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: twice\r\nimdn.Disposition-Notification: processing\r\n\r\nContent-Type: text/plain\r\n\r\n{}",
        "long ".repeat(1_000)
    )
}

/// A session of alice's over this connection; our path.
#[track_caller]
fn session(rig: &mut Rig, conn: ConnId) -> String {
    let (invite, ok) = answered(rig);
    ack(rig, &invite, &ok);
    rig.accept(0, conn, Service::Msrp, HOME);
    Sdp::read(&ok.body).unwrap().attribute("path").unwrap().to_string()
}

/// All of the message in one SEND.
fn send(path: &str, id: &str, tid: &str) -> Vec<u8> {
    Chunk { content_type: "message/cpim", ..Chunk::whole(id, text().as_bytes()) }.write(tid, path, PATH)
}

/// The same as a MESSAGE.
fn message(rig: &mut Rig) -> SipMessage {
    request(rig, "MESSAGE", ALICE, BOB).with_body("message/cpim", text())
}

/// What the SENDs on a connection were answered so far.
fn answers(rig: &Rig, conn: ConnId) -> Vec<(String, u16)> {
    let frames = read_all(rig.media(0, conn).as_bytes()).unwrap();
    let code = |frame: &Frame| match frame.kind {
        Kind::Response(code, _) => code,
        Kind::Request(_) => panic!("nothing is asked of alice: {frame:?}"),
    };
    frames.iter().map(|frame| (frame.tid.clone(), code(frame))).collect()
}

/// Alice is there, where reports are sent.
#[track_caller]
fn alice_is_there(rig: &mut Rig) {
    let document = deferd_kit::agents::pidf_document(ALICE, true);
    let publish = request(rig, "PUBLISH", ALICE, ALICE).with("Event", "presence").with("Expires", "86400");
    assert_eq!(exchange(rig, &publish.with_body("application/pidf+xml", document)).code(), 200);
}

/// Alice hears once that it is stored; bob is sent it once.
#[track_caller]
fn is_kept_once(rig: &mut Rig) {
    let stored = rig.expect_request("MESSAGE");
    assert!(String::from_utf8_lossy(&stored.message.body).contains("<stored/>"), "{:?}", stored.message);
    answer(rig, &stored, 200, &[], None);
    rig.expect_no("MESSAGE");
    push(rig, &[]);
    assert_eq!(rig.media(0, crate::people::MEDIA).matches("imdn.Message-ID: twice").count(), 1);
}

/// Both were written down, both counted, and their sender was told twice that it is stored.
//= 12.2.2.3-4: shall store the deferred message in the served IM user's account
//= RFC 4975 5.4: the receiver can recognise a message that is sent again by its Message-ID
#[test]
fn a_large_message_that_comes_twice_at_once_is_stored_once_and_answered_twice() {
    for in_one_session in [false, true] {
        let mut rig = Rig::new(1);
        alice_is_there(&mut rig);
        let first = session(&mut rig, FIRST);
        let second = (!in_one_session).then(|| session(&mut rig, SECOND));
        rig.disk_waits = true;
        match &second {
            None => {
                let both = [send(&first, "sameid01", "tid00001"), send(&first, "sameid01", "tid00002")].concat();
                rig.receive(0, FIRST, &both);
            }
            Some(second) => {
                rig.receive(0, FIRST, &send(&first, "sameid01", "tid00001"));
                rig.receive(0, SECOND, &send(second, "otherid1", "tid00002"));
            }
        }
        let both = |rig: &Rig| [answers(rig, FIRST), answers(rig, SECOND)].concat();
        assert_eq!(both(&rig), [], "nothing is durable yet");
        rig.disk_goes_on();
        let said = both(&rig);
        assert_eq!(said, [("tid00001".into(), 200), ("tid00002".into(), 200)], "in one session: {in_one_session}");
        assert_eq!(rig.accepted_and_duplicate(), (1, 1), "in one session: {in_one_session}");
        is_kept_once(&mut rig);
    }
}

/// Who waited for the first is told what the first is told.
#[test]
fn the_second_of_two_is_refused_with_the_first_when_the_disk_does_not_take_it() {
    let mut rig = Rig::new(1);
    let (first, second) = (session(&mut rig, FIRST), session(&mut rig, SECOND));
    rig.disk_waits = true;
    rig.receive(0, FIRST, &send(&first, "sameid01", "tid00001"));
    rig.receive(0, SECOND, &send(&second, "otherid1", "tid00002"));
    rig.disk_is_broken = true;
    rig.disk_goes_on();
    for (conn, tid) in [(FIRST, "tid00001"), (SECOND, "tid00002")] {
        assert_eq!(answers(&rig, conn), [(tid.into(), 413)]);
        let bye = rig.expect_request("BYE");
        answer(&mut rig, &bye, 200, &[], None);
    }
    assert_eq!((rig.large_sessions_and_users(), rig.accepted_and_duplicate().0), ((0, 0), 0));
}

/// The session of the second may be over before the first is durable.
#[test]
fn a_second_whose_connection_is_gone_leaves_the_first_alone() {
    for gone in [FIRST, SECOND] {
        let mut rig = Rig::new(1);
        alice_is_there(&mut rig);
        let (first, second) = (session(&mut rig, FIRST), session(&mut rig, SECOND));
        rig.disk_waits = true;
        rig.receive(0, FIRST, &send(&first, "sameid01", "tid00001"));
        rig.receive(0, SECOND, &send(&second, "otherid1", "tid00002"));
        rig.reset(0, gone);
        let bye = rig.expect_request("BYE");
        answer(&mut rig, &bye, 200, &[], None);
        rig.disk_goes_on();
        let (left, tid) = if gone == FIRST { (SECOND, "tid00002") } else { (FIRST, "tid00001") };
        assert_eq!(answers(&rig, left), [(tid.into(), 200)]);
        assert_eq!(rig.accepted_and_duplicate(), (1, 1));
        is_kept_once(&mut rig);
    }
}

/// A MESSAGE and a session bring the same: each is answered when it is durable itself, and the home keeps the one that is first.
#[test]
fn the_same_as_a_pager_message_and_as_a_large_one_is_kept_once() {
    for pager_first in [true, false] {
        let mut rig = Rig::new(1);
        alice_is_there(&mut rig);
        let path = session(&mut rig, FIRST);
        let pager = message(&mut rig);
        let large = send(&path, "sameid01", "tid00001");
        rig.disk_waits = true;
        if pager_first {
            rig.datagram(0, HOME, &pager);
            rig.receive(0, FIRST, &large);
        } else {
            rig.receive(0, FIRST, &large);
            rig.datagram(0, HOME, &pager);
        }
        rig.disk_goes_on();
        assert_eq!(rig.expect_answer(&pager).code(), 202);
        assert_eq!(answers(&rig, FIRST), [("tid00001".into(), 200)]);
        assert_eq!(rig.accepted_and_duplicate().1, 1, "pager first: {pager_first}");
        is_kept_once(&mut rig);
    }
}
