//! 12.2.2.1 and 12.2.2.3-2: somebody sends a large message to a user who is offline, over a session that we answer.

use deferd_kit::{
    agents::Client,
    large::{Chunk, Large},
    msrp::MsrpMessage,
    payload::{self, LargeMessage},
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sdp::Sdp,
};

use crate::DEFERD;

pub(crate) fn alice(scene: &Scene) -> Client {
    scene.client(Transport::Tcp, ALICE, scene.daemon.sip())
}

/// Octets that are no text, with hyphens here and there.
pub(crate) fn octets(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if state >> 61 == 0 { b'-' } else { (state >> 33) as u8 }
        })
        .collect()
}

#[track_caller]
pub(crate) fn taken_apart(message: &MsrpMessage) -> LargeMessage {
    payload::large(message).unwrap_or_else(|why| panic!("{}: {why}", message.message_id))
}

/// Bob comes online and is sent exactly these bodies, each as a large message.
#[track_caller]
pub(crate) fn push_brings(bob: &mut Client, bodies: &[&[u8]]) -> Vec<LargeMessage> {
    bob.publish_presence(true);
    let pushed = bob.take_push(bodies.len());
    let taken: Vec<LargeMessage> = pushed.iter().map(taken_apart).collect();
    for (message, body) in taken.iter().zip(bodies) {
        assert!(message.body == *body, "{} octets became {} others", body.len(), message.body.len());
    }
    taken
}

//= 12.2.2.1-1: shall store the content of the Contact header field
//= 12.2.2.1-2: shall store relevant headers of SIP INVITE
//= 12.2.2.3-2: the MSRP SEND request including the timestamp the IM Server receives the complete msrp messages
//= 12.2.2.5: shall encapsulate "MSRP SEND" messages with the Content type message/msrp
//= 12.2.2.5: the original headers, i.e. Call-IDs and message-id in case of MSRP SEND, shall not be altered
#[test]
fn a_large_message_in_one_chunk_is_pushed_to_the_octet() {
    let scene = Scene::new(DEFERD);
    let large = Large::open_with(alice(&scene), BOB, |request| {
        request
            .with("Subject", "this is a subject")
            .with("Priority", "urgent")
            .with("Date", "Mon, 21 Feb 2005 13:02:03 GMT")
            .with("Session-Expires", "1800;refresher=uac")
    });
    let ok = &large.ok;
    assert!(ok.header("Server").unwrap().starts_with("IM-serv/OMA1.0"));
    let contact = ok.header("Contact").unwrap();
    assert!(contact.contains("sip:defer-") && contact.contains("automata") && contact.contains("+g.oma.sip-im"));
    assert_eq!((ok.header("Require"), ok.header("Session-Expires")), (Some("timer"), Some("1800;refresher=uac")));
    let sdp = Sdp::read(&ok.body).unwrap();
    assert_eq!((sdp.attribute("recvonly"), sdp.attribute("setup")), (Some(""), Some("passive")));
    assert_eq!((sdp.attribute("accept-types"), sdp.attribute("max-size")), (Some("*"), Some("104857600")));
    let body = b"Hi, Alice!  I'm Bob!";
    let chunk = Chunk { more: "Content-Disposition: attachment\r\n", ..Chunk::whole("456s9wlk3", body) };
    let tid = large.chunk(&chunk);
    large.expect(&tid, 200);
    large.bye();
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(1);
    let message = taken_apart(&pushed[0]);
    let request = &large.request;
    let line = |name: &str| format!("{name}: {}", request.header(name).unwrap());
    let expected = [
        request.start.clone(),
        line("To"),
        line("From"),
        line("Call-ID"),
        line("Date"),
        line("P-Asserted-Identity"),
        line("Subject"),
        line("Priority"),
    ];
    assert_eq!(message.invite, expected);
    assert_eq!((message.tid.as_str(), message.message_id.as_str()), (tid.as_str(), "456s9wlk3"));
    assert_eq!(message.mime, ["Content-Disposition: attachment", "Content-Type: text/plain"]);
    assert_eq!(message.body, body);
    // All of it, octet for octet, but for the time.
    let boundary = payload::boundary(&pushed[0].content_type).unwrap();
    let whole = format!(
        "--{boundary}\r\nContent-Type: message/sipfrag\r\n\r\n{}\r\n\r\n--{boundary}\r\nContent-Type: message/msrp\r\n\r\n\
         MSRP {tid} SEND\r\nMessage-ID: 456s9wlk3\r\nDate: {}\r\nByte-Range: 1-20/20\r\n\
         Content-Disposition: attachment\r\nContent-Type: text/plain\r\n\r\nHi, Alice!  I'm Bob!\r\n-------{tid}$\r\n\r\n--{boundary}--",
        expected.join("\r\n"),
        message.date
    );
    assert_eq!(String::from_utf8_lossy(&pushed[0].body), whole);
    scene.nothing_waits(&mut bob);
}

//= RFC 4975 7.3.1: if chunks overlap, the last chunk received takes precedence; the last chunk of a message says how long it is
#[test]
fn chunks_of_any_size_in_any_order_make_one_message() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let bodies: Vec<Vec<u8>> = (0..4).map(|seed| octets(300_000 + usize::from(seed), seed)).collect();
    large.deposit("inorder1", &bodies[0], 2_048);
    large.deposit("inorder2", &bodies[1], 100_001);
    // Backwards, the end first: the chunk that fills the last gap is the one whose 200 says that it is kept.
    let borders = [0, 1, 5_000, 60_000, 60_001, 150_000, 299_000, bodies[2].len()];
    let mut tids = Vec::new();
    for at in (1..borders.len()).rev() {
        tids.push(large.chunk(&Chunk::of("backward", &bodies[2], borders[at - 1], borders[at])));
    }
    tids.iter().for_each(|tid| drop(large.expect(tid, 200)));
    // Overlaps: what came last counts.
    let wrong = vec![b'?'; bodies[3].len()];
    let total = Some(wrong.len());
    for (from, to) in [(0, 100_000), (200_000, 250_000)] {
        let chunk = Chunk { flag: '+', total, ..Chunk::of("overlap1", &wrong, from, to) };
        large.expect(&large.chunk(&chunk), 200);
    }
    for (from, to) in [(90_000, 210_000), (0, 90_005), (205_000, 300_003)] {
        large.expect(&large.chunk(&Chunk::of("overlap1", &bodies[3], from, to)), 200);
    }
    large.bye();
    let mut bob = scene.bob();
    push_brings(&mut bob, &bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
    scene.nothing_waits(&mut bob);
}

//= RFC 4975 7.1.2: Success-Report yes: a REPORT when the complete message has been received
#[test]
fn a_report_comes_when_it_was_asked_for_and_answers_only_as_wished() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let body = octets(5_000, 1);
    let asks = Chunk { more: "Success-Report: yes\r\n", ..Chunk::whole("asksyes1", &body) };
    large.expect(&large.chunk(&asks), 200);
    let report = large.msrp.expect_frame("the REPORT", |frame| frame.method() == "REPORT");
    assert_eq!((report.header("Message-ID"), report.header("Status")), (Some("asksyes1"), Some("000 200 OK")));
    assert_eq!(report.header("Byte-Range"), Some("1-5000/5000"));
    assert_eq!(report.headers[0].1, large.msrp.path());
    let silent = Chunk { more: "Success-Report: yes\r\nFailure-Report: no\r\n", ..Chunk::whole("silent01", &body) };
    let unanswered = large.chunk(&silent);
    let partial =
        Chunk { more: "Success-Report: yes\r\nFailure-Report: partial\r\n", ..Chunk::whole("partial1", &body) };
    let unanswered_too = large.chunk(&partial);
    for id in ["silent01", "partial1"] {
        large.msrp.expect_frame("its REPORT", |frame| frame.header("Message-ID") == Some(id));
    }
    large.deposit("answered", &body, 5_000);
    let frames = large.msrp.frames();
    assert!(!frames.iter().any(|frame| [&unanswered, &unanswered_too].contains(&&frame.tid)));
    assert_eq!(frames.iter().filter(|frame| frame.method() == "REPORT").count(), 3);
    large.bye();
    push_brings(&mut scene.bob(), &[&body, &body, &body, &body]);
}

#[test]
fn an_end_line_inside_is_avoided() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let inside = |tid: &str, text: &str| {
        let chunk = Chunk::whole("hyphens1", text.as_bytes());
        let chunk = Chunk { id: tid, ..chunk };
        large.msrp.write(&chunk.write(tid, &large.path, large.msrp.path()));
        large.expect(tid, 200);
    };
    // Its own end-line with the flag missing does not end the chunk, and may not be the end-line of the message.
    inside("dkei38sd01", "before\r\n-------dkei38sd01 and behind");
    inside("dkei38sd02", "before\r\n-------dkei38sd01$\r\nand behind -------");
    large.bye();
    let bodies =
        [&b"before\r\n-------dkei38sd01 and behind"[..], b"before\r\n-------dkei38sd01$\r\nand behind -------"];
    let taken = push_brings(&mut scene.bob(), &bodies);
    assert_ne!(taken[0].tid, "dkei38sd01");
    assert_eq!(taken[1].tid, "dkei38sd02");
}
