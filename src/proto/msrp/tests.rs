//! Sessions against a tiny reader of MSRP that shares no code with `wire`.

use super::session::*;
use super::window::MESSAGES_START;
use crate::base::clock::Tick;
use crate::base::dice::Dice;
use crate::base::gather::Gather;
use crate::base::span::Span;
use crate::wire::msrp::cut::{Cut, Piece};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const OURS: &str = "msrp://imserver.com:2855/9di4eae923wzd0x7b2m6;tcp";
const THEIRS: &str = "msrp://user2.imserver.com:7777/iau39soe2843zq7w1k5e;tcp";

fn setup() -> SessionSetup {
    SessionSetup {
        local_path: Bytes::from_static(OURS.as_bytes()),
        peer_path: Bytes::from_static(THEIRS.as_bytes()),
        active: true,
        chunk_max: 8192,
        window_messages: 1024,
        window_octets: 1 << 20,
        tx_timeout: Duration::from_secs(30),
        max_size: None,
        cautious: false,
    }
}

fn session(setup: SessionSetup) -> Session {
    Session::new(setup, &mut Dice::from_seed([7; 32]))
}

/// Active, connected, and its binding SEND answered.
fn bound(setup: SessionSetup) -> Session {
    let mut session = session(setup);
    session.connected(Tick(0));
    let frames = drain(&mut session, Tick(0));
    assert_eq!(frames.len(), 1);
    assert_eq!(answer(&mut session, Tick(0), &frames[0].tid, 200), [SessionEvent::Bound]);
    session
}

fn message(token: u64, body: &[u8]) -> Outgoing {
    let page = Bytes::from([b"page before ", body, b" and behind"].concat());
    let mut message_id = *b"01jq8z4m7v5c2t9x3h00000000";
    message_id[18..].copy_from_slice(format!("{token:08}").as_bytes());
    Outgoing {
        token,
        message_id,
        content_type: Bytes::from_static(b"text/plain"),
        body: Span::new(12, body.len()),
        page,
        has_dash7: body.windows(7).any(|window| window == b"-------"),
        text: false,
    }
}

#[derive(Debug)]
struct Frame {
    tid: String,
    word: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    flag: char,
}

impl Frame {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1)
    }
}

/// Reads frames by RFC 4975 section 9, slowly and strictly.
fn read(stream: &[u8]) -> Vec<Frame> {
    let find = |from: usize, what: &[u8]| {
        from + stream[from..].windows(what.len()).position(|window| window == what).expect("it is there")
    };
    let line = |from: usize| {
        let end = find(from, b"\r\n");
        (std::str::from_utf8(&stream[from..end]).expect("a text line"), end + 2)
    };
    let mut frames = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let (start, mut next) = line(at);
        let words: Vec<_> = start.splitn(3, ' ').collect();
        assert_eq!(words[0], "MSRP");
        let (tid, word) = (words[1].to_owned(), words[2].to_owned());
        let end = format!("-------{tid}");
        let mut headers: Vec<(String, String)> = Vec::new();
        let (body, flag) = loop {
            let (text, after) = line(next);
            if text.is_empty() {
                assert_eq!(headers.last().map(|header| header.0.as_str()), Some("Content-Type"));
                let close = find(after, format!("\r\n{end}").as_bytes());
                let body = stream[after..close].to_vec();
                assert!(!body.windows(end.len()).any(|window| window == end.as_bytes()), "an id inside the body");
                let flag = char::from(stream[close + 2 + end.len()]);
                next = close + 2 + end.len() + 1;
                assert_eq!(&stream[next..next + 2], b"\r\n");
                next += 2;
                break (Some(body), flag);
            }
            next = after;
            if let Some(flag) = text.strip_prefix(&end) {
                assert_eq!(flag.len(), 1);
                break (None, flag.chars().next().expect("a flag"));
            }
            let (name, value) = text.split_once(": ").expect("a header");
            headers.push((name.to_owned(), value.to_owned()));
        };
        assert_eq!((headers[0].0.as_str(), headers[1].0.as_str()), ("To-Path", "From-Path"));
        assert!("$+#".contains(flag));
        frames.push(Frame { tid, word, headers, body, flag });
        at = next;
    }
    frames
}

fn drain(session: &mut Session, now: Tick) -> Vec<Frame> {
    let mut gather = Gather::new();
    let added = session.fill(now, &mut gather, 256 * 1024);
    assert_eq!(added, gather.len());
    read(&gather.to_vec())
}

fn answer(session: &mut Session, now: Tick, tid: &str, status: u16) -> Vec<SessionEvent> {
    let mut events = Vec::new();
    session.response(now, tid.as_bytes(), status, &mut events);
    events
}

fn turn(session: &mut Session, now: Tick) -> Vec<SessionEvent> {
    let mut events = Vec::new();
    session.turn(now, &mut events);
    events
}

/// Hands a peer's octets in as a connection does.
fn hear(session: &mut Session, now: Tick, octets: &str) -> Vec<SessionEvent> {
    let (mut cut, mut rest, mut events) = (Cut::new(8192), octets.as_bytes(), Vec::new());
    loop {
        let len = match cut.next(rest).expect("well-formed") {
            Piece::More => return events,
            Piece::Response { head, len } => {
                session.response(now, head.tid.of(rest), head.status, &mut events);
                len
            }
            Piece::Request { head, len } => {
                session.request(now, &head, rest, &mut events);
                len
            }
            Piece::Data { len } => {
                session.data(&rest[..len]);
                len
            }
            Piece::End { flag, len } => {
                session.end(now, flag, &mut events);
                len
            }
        };
        rest = &rest[len..];
    }
}

fn peer(start: &str, headers: &str, body: Option<&str>) -> String {
    let body = body.map_or_else(String::new, |body| format!("Content-Type: text/plain\r\n\r\n{body}\r\n"));
    format!(
        "MSRP peer1234 {start}\r\nTo-Path: {OURS}\r\nFrom-Path: {THEIRS}\r\nMessage-ID: peers1\r\n{headers}{body}-------peer1234$\r\n"
    )
}

#[test]
fn a_pager_message_goes_out_as_in_section_7_1() {
    let body = "--dmf-7Qx2mV9bR4\r\nContent-Type: message/sip\r\n\r\n\
        MESSAGE sip:user2@imserver.com SIP/2.0\r\n\
        Via: SIP/2.0/TCP user1pc.imserver.com;branch=z9hG4bK776sgdkse\r\nMax-Forwards: 70\r\n\
        From: <sip:user1@imserver.com>;tag=49583\r\nTo: <sip:user2@imserver.com>\r\nCall-ID: asd88asd77a@1.2.3.4\r\n\
        Date: Thu, 21 Feb 2002 13:02:03 GMT\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n\
        Watson, come here.\r\n--dmf-7Qx2mV9bR4--";
    let mut session = bound(setup());
    let outgoing = Outgoing {
        message_id: *b"01jq8z4m7v5c2t9x3h6k0d1b2w",
        content_type: Bytes::from_static(b"multipart/mixed;boundary=\"dmf-7Qx2mV9bR4\""),
        ..message(1, body.as_bytes())
    };
    session.offer(outgoing);
    let mut gather = Gather::new();
    session.fill(Tick(0), &mut gather, 65_536);
    let tid = format!("{}0001", std::str::from_utf8(&session.tid_prefix()).unwrap());
    let expected = format!(
        "MSRP {tid} SEND\r\nTo-Path: msrp://user2.imserver.com:7777/iau39soe2843zq7w1k5e;tcp\r\n\
         From-Path: msrp://imserver.com:2855/9di4eae923wzd0x7b2m6;tcp\r\nMessage-ID: 01jq8z4m7v5c2t9x3h6k0d1b2w\r\n\
         Byte-Range: 1-410/410\r\nContent-Type: multipart/mixed;boundary=\"dmf-7Qx2mV9bR4\"\r\n\r\n{body}\r\n-------{tid}$\r\n"
    );
    assert_eq!(String::from_utf8(gather.to_vec()).unwrap(), expected);
    assert_eq!(answer(&mut session, Tick(1), &tid, 200), [SessionEvent::Delivered { token: 1 }]);
    assert!(session.is_idle());
    assert_eq!(session.deadline(), None);
}

#[test]
fn who_connects_speaks_first_and_without_content() {
    let mut session = session(setup());
    session.offer(message(1, b"hello"));
    assert!(drain(&mut session, Tick(0)).is_empty());
    session.connected(Tick(0));
    let frames = drain(&mut session, Tick(0));
    assert_eq!(frames[0].header("Byte-Range"), "1-0/0");
    assert_eq!((frames[0].body.as_ref(), frames[0].header("Content-Type"), frames[0].flag), (None, "", '$'));
    assert_eq!(frames[1].body.as_deref(), Some(&b"hello"[..]));
    assert_eq!(frames[1].header("Failure-Report"), "");
}

#[test]
fn a_passive_session_waits_for_the_peers_first_send_and_answers_it() {
    let mut session = session(SessionSetup { active: false, ..setup() });
    session.offer(message(1, b"hello"));
    session.connected(Tick(0));
    assert!(drain(&mut session, Tick(0)).is_empty());
    assert_eq!(hear(&mut session, Tick(5), &peer("SEND", "", None)), [SessionEvent::Bound]);
    let frames = drain(&mut session, Tick(5));
    assert_eq!(
        (frames[0].word.as_str(), frames[0].header("To-Path"), frames[0].header("From-Path")),
        ("200 OK", THEIRS, OURS)
    );
    assert_eq!(frames[1].body.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn what_the_peer_asks_is_answered_by_its_failure_report() {
    let mut session = session(SessionSetup { active: false, ..setup() });
    let table = [
        (peer("SEND", "", Some("hi")), Some("403 Not Allowed")),
        (peer("SEND", "Failure-Report: no\r\n", Some("hi")), None),
        (peer("SEND", "Failure-Report: partial\r\n", Some("hi")), Some("403 Not Allowed")),
        (peer("SEND", "Failure-Report: partial\r\n", None), None),
        (peer("SEND", "Byte-Range: 1-0/0\r\n", None), Some("200 OK")),
        (peer("NICKNAME", "", None), Some("501 Unknown Method")),
        (peer("REPORT", "Status: 000 200 OK\r\n", None), None),
        (
            peer("SEND", "", None).replace(OURS, "msrp://imserver.com:2855/other;tcp"),
            Some("481 Session Does Not Exist"),
        ),
        (peer("SEND", "", None).replace(OURS, &format!("{OURS} {OURS}")), Some("481 Session Does Not Exist")),
        (peer("SEND", "", None).replace(OURS, "MSRP://IMSERVER.com:2855/9di4eae923wzd0x7b2m6;TCP"), Some("200 OK")),
    ];
    for (octets, expected) in table {
        hear(&mut session, Tick(0), &octets);
        let frames = drain(&mut session, Tick(0));
        assert_eq!(frames.first().map(|frame| frame.word.as_str()), expected, "{octets}");
        assert!(session.is_idle());
    }
}

#[test]
fn a_response_goes_to_the_next_hop_for_send_and_all_the_way_otherwise() {
    let relayed = format!("msrp://relay:1/r;tcp {THEIRS}");
    let mut session = session(SessionSetup { active: false, ..setup() });
    hear(&mut session, Tick(0), &peer("SEND", "", None).replace(THEIRS, &relayed));
    hear(&mut session, Tick(0), &peer("NICKNAME", "", None).replace(THEIRS, &relayed));
    let frames = drain(&mut session, Tick(0));
    assert_eq!(frames[0].header("To-Path"), "msrp://relay:1/r;tcp");
    assert_eq!(frames[1].header("To-Path"), relayed);
}

#[test]
fn long_bodies_are_chunks_that_can_be_interrupted() {
    let mut session = bound(setup());
    let body: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    session.offer(message(1, &body));
    let frames = drain(&mut session, Tick(0));
    let ranges: Vec<_> = frames.iter().map(|frame| (frame.header("Byte-Range"), frame.flag)).collect();
    assert_eq!(ranges, [("1-*/20000", '+'), ("8193-*/20000", '+'), ("16385-*/20000", '$')]);
    assert_eq!(frames.iter().flat_map(|frame| frame.body.clone().unwrap()).collect::<Vec<_>>(), body);
    session.offer(message(2, &body[..2048]));
    session.offer(message(3, &body[..2049]));
    session.offer(message(4, b""));
    let frames = drain(&mut session, Tick(0));
    assert_eq!(frames[0].header("Byte-Range"), "1-2048/2048");
    assert_eq!(frames[1].header("Byte-Range"), "1-*/2049");
    assert_eq!((frames[2].header("Byte-Range"), frames[2].body.as_deref()), ("1-0/0", Some(&b""[..])));
}

#[test]
fn an_answer_to_every_chunk_in_any_order_delivers_once() {
    let mut session = bound(setup());
    session.offer(message(9, &[b'x'; 20_000]));
    let frames = drain(&mut session, Tick(0));
    assert_eq!(answer(&mut session, Tick(1), &frames[2].tid, 200), []);
    assert_eq!(answer(&mut session, Tick(1), &frames[2].tid, 200), []);
    assert_eq!(answer(&mut session, Tick(1), &frames[0].tid, 200), []);
    assert_eq!(answer(&mut session, Tick(1), &frames[1].tid, 200), [SessionEvent::Delivered { token: 9 }]);
    assert_eq!(answer(&mut session, Tick(1), "0123456789abcdef0001", 200), []);
    assert_eq!(session.counters().strangers, 2);
}

#[test]
fn a_refused_message_does_not_stop_the_others() {
    for (status, flags) in [(413, vec!['$']), (400, vec!['#', '$']), (423, vec!['#', '$'])] {
        let mut session = bound(SessionSetup { window_octets: 16_384, ..setup() });
        session.offer(message(1, &[b'x'; 40_000]));
        session.offer(message(2, b"short"));
        let frames = drain(&mut session, Tick(0));
        assert_eq!(frames.len(), 2);
        assert_eq!(answer(&mut session, Tick(1), &frames[0].tid, status), [SessionEvent::Refused { token: 1, status }]);
        assert_eq!(answer(&mut session, Tick(1), &frames[1].tid, status), []);
        let frames = drain(&mut session, Tick(1));
        assert_eq!(frames.iter().map(|frame| frame.flag).collect::<Vec<_>>(), flags, "{status}");
        let mut events = Vec::new();
        frames.iter().for_each(|frame| events.extend(answer(&mut session, Tick(2), &frame.tid, 200)));
        assert_eq!(events, [SessionEvent::Delivered { token: 2 }]);
        assert!(session.is_idle());
    }
}

#[test]
fn answers_that_end_the_session_say_so_once() {
    for status in [403, 408, 415, 481, 501, 506, 599] {
        let mut session = bound(setup());
        session.offer(message(1, b"a"));
        session.offer(message(2, b"b"));
        let frames = drain(&mut session, Tick(0));
        let failed = SessionEvent::Failed(SessionFailure::Answered(status));
        assert_eq!(answer(&mut session, Tick(1), &frames[0].tid, status), [failed]);
        assert_eq!(answer(&mut session, Tick(1), &frames[1].tid, status), []);
        assert!(drain(&mut session, Tick(1)).is_empty());
        assert!(session.is_idle() && session.wants() == 0 && session.deadline().is_none());
    }
}

#[test]
fn a_binding_send_that_was_read_is_good_enough() {
    for (status, good) in [(200, true), (400, true), (415, true), (481, false), (506, false)] {
        let mut session = session(setup());
        session.connected(Tick(0));
        let frames = drain(&mut session, Tick(0));
        let event = if good { SessionEvent::Bound } else { SessionEvent::Failed(SessionFailure::Answered(status)) };
        assert_eq!(answer(&mut session, Tick(1), &frames[0].tid, status), [event]);
    }
}

#[test]
fn a_message_larger_than_the_peer_wants_is_not_sent() {
    let mut session = bound(SessionSetup { max_size: Some(4), ..setup() });
    session.offer(message(1, b"12345"));
    session.offer(message(2, b"1234"));
    assert_eq!(session.deadline(), Some(Tick(0)));
    assert_eq!(turn(&mut session, Tick(0)), [SessionEvent::Refused { token: 1, status: 413 }]);
    assert_eq!(drain(&mut session, Tick(0)).len(), 1);
}

#[test]
fn silence_is_late_after_a_second_and_the_end_after_thirty_from_the_last_answer() {
    let second = 1_000_000;
    let mut session = bound(setup());
    (0..4).for_each(|token| session.offer(message(token, b"x")));
    let frames = drain(&mut session, Tick(0));
    assert_eq!(answer(&mut session, Tick(second), &frames[0].tid, 200).len(), 1);
    assert!(!session.was_cautious());
    assert!(session.deadline().unwrap() <= Tick(2 * second + 1_000));
    let late = session.deadline().unwrap();
    assert_eq!(turn(&mut session, late), []);
    assert!(session.was_cautious());
    assert_eq!(session.window(), 1);
    assert_eq!(session.deadline(), Some(Tick(31 * second)));
    assert_eq!(turn(&mut session, Tick(31 * second - 1)), []);
    assert_eq!(turn(&mut session, Tick(31 * second)), [SessionEvent::Failed(SessionFailure::TimedOut)]);
    assert_eq!(turn(&mut session, Tick(99 * second)), []);
}

#[test]
fn the_window_begins_small_and_wants_only_what_it_can_use() {
    let mut session = bound(setup());
    let mut token = 0;
    let mut sizes = Vec::new();
    for _ in 0..6 {
        while session.wants() > 0 {
            session.offer(message(token, b"text"));
            token += 1;
        }
        let frames = drain(&mut session, Tick(0));
        sizes.push(frames.len());
        frames.iter().for_each(|frame| assert_eq!(answer(&mut session, Tick(1), &frame.tid, 200).len(), 1));
    }
    assert_eq!(sizes[0], MESSAGES_START as usize);
    assert_eq!(sizes, [4, 8, 16, 32, 64, 128]);
    let mut session = bound(SessionSetup { cautious: true, ..setup() });
    (0..3).for_each(|token| session.offer(message(token, b"text")));
    assert_eq!(drain(&mut session, Tick(0)).len(), 1);
}

#[test]
fn an_id_that_stands_in_the_body_is_not_used() {
    let mut session = session(setup());
    let prefix = *b"dkei38sddkei38sd";
    session.force_prefix(prefix);
    session.connected(Tick(0));
    let frames = drain(&mut session, Tick(0));
    answer(&mut session, Tick(0), &frames[0].tid, 200);
    // The inner end-lines have the ids that would come next; the reader refuses any that is used all the same.
    let body = "--b\r\nContent-Type: message/msrp\r\n\r\nMSRP dkei38sddkei38sd0001 SEND\r\n\r\nHi\r\n\
        -------dkei38sddkei38sd0001$\r\nx-------dkei38sddkei38sd0002\r\n-------dkei38sddkei38sd0004+5$\r\n--b--";
    session.offer(message(1, body.as_bytes()));
    session.offer(message(2, body.as_bytes()));
    session.offer(message(3, b"plain"));
    let frames = drain(&mut session, Tick(0));
    let ids: Vec<_> = frames.iter().map(|frame| &frame.tid[16..]).collect();
    assert_eq!(ids, ["0003", "0005", "0006"]);
    for (n, frame) in frames.iter().enumerate() {
        let delivered = SessionEvent::Delivered { token: n as u64 + 1 };
        assert_eq!(answer(&mut session, Tick(1), &frame.tid, 200), [delivered]);
    }
    assert!(session.is_idle());
}

#[test]
fn a_body_that_contains_every_id_is_refused_and_not_sent_broken() {
    let mut session = session(setup());
    session.force_prefix([b'a'; 16]);
    session.connected(Tick(0));
    let frames = drain(&mut session, Tick(0));
    answer(&mut session, Tick(0), &frames[0].tid, 200);
    let body: String = (0..100).map(|n| format!("-------aaaaaaaaaaaaaaaa{n:04x}$\r\n")).collect();
    session.offer(message(1, body.as_bytes()));
    session.offer(message(2, b"plain"));
    assert_eq!(drain(&mut session, Tick(0)).len(), 1);
    assert_eq!(turn(&mut session, Tick(0)), [SessionEvent::Refused { token: 1, status: 400 }]);
}

#[test]
fn an_abort_ends_the_open_message_with_a_hash() {
    let mut session = bound(SessionSetup { window_octets: 8_192, ..setup() });
    session.offer(message(1, &[b'x'; 40_000]));
    session.offer(message(2, b"never"));
    assert_eq!(drain(&mut session, Tick(0)).len(), 1);
    session.abort();
    let frames = drain(&mut session, Tick(1));
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].flag, frames[0].header("Byte-Range")), ('#', "8193-*/40000"));
    assert!(session.is_idle());
    assert_eq!(session.deadline(), None);
    let mut session = bound(setup());
    session.offer(message(1, b"whole"));
    drain(&mut session, Tick(0));
    session.abort();
    assert!(session.is_idle() && drain(&mut session, Tick(1)).is_empty());
}

#[test]
fn a_held_session_sends_responses_only() {
    let mut session = bound(setup());
    session.offer(message(1, b"later"));
    session.pause();
    hear(&mut session, Tick(0), &peer("SEND", "", None));
    assert_eq!(drain(&mut session, Tick(0)).iter().map(|frame| frame.word.as_str()).collect::<Vec<_>>(), ["200 OK"]);
    session.resume();
    assert_eq!(drain(&mut session, Tick(0)).len(), 1);
}

#[test]
fn a_direct_peers_reports_confirm_nothing_but_refuse() {
    let mut session = bound(setup());
    session.offer(message(1, b"a"));
    let frames = drain(&mut session, Tick(0));
    let report =
        |status: &str, id: &str| peer("REPORT", &format!("Status: 000 {status}\r\n"), None).replace("peers1", id);
    let id = frames[0].header("Message-ID");
    assert_eq!(hear(&mut session, Tick(0), &report("200 OK", id)), []);
    assert_eq!(hear(&mut session, Tick(0), &report("481 x", "unknown1")), []);
    assert_eq!(session.counters().idle_reports, 2);
    assert_eq!(hear(&mut session, Tick(0), &report("413 x", id)), [SessionEvent::Refused { token: 1, status: 413 }]);
    session.offer(message(2, b"a"));
    let frames = drain(&mut session, Tick(0));
    let failed = SessionEvent::Failed(SessionFailure::Reported(408));
    assert_eq!(hear(&mut session, Tick(0), &report("408 x", frames[0].header("Message-ID"))), [failed]);
}

#[test]
fn behind_a_relay_a_message_is_delivered_when_answered_and_reported() {
    let path = format!("msrp://relay:1/r;tcp {THEIRS}");
    let mut session = bound(SessionSetup { peer_path: Bytes::from(path.clone()), ..setup() });
    session.offer(message(1, &[b'x'; 10_000]));
    session.offer(message(2, b"two"));
    let frames = drain(&mut session, Tick(0));
    assert!(frames.iter().all(|frame| frame.header("Success-Report") == "yes" && frame.header("To-Path") == path));
    for frame in &frames {
        assert_eq!(answer(&mut session, Tick(0), &frame.tid, 200), []);
    }
    assert!(session.is_idle());
    assert_eq!(session.unreported(), 2);
    let report = |n: usize, range: &str| {
        let headers = format!("Status: 000 200 OK\r\nByte-Range: {range}\r\n");
        peer("REPORT", &headers, None).replace("peers1", frames[n].header("Message-ID"))
    };
    assert_eq!(hear(&mut session, Tick(0), &report(0, "5001-10000/10000")), []);
    assert_eq!(hear(&mut session, Tick(0), &report(2, "1-3/3")), [SessionEvent::Delivered { token: 2 }]);
    assert_eq!(hear(&mut session, Tick(0), &report(0, "1-5000/10000")), [SessionEvent::Delivered { token: 1 }]);
    assert_eq!(session.unreported(), 0);
}

#[test]
fn a_peer_that_floods_and_never_reads_ends_its_session() {
    let mut session = bound(setup());
    let mut events = Vec::new();
    for _ in 0..1_000 {
        events.extend(hear(&mut session, Tick(0), &peer("SEND", "", None)));
    }
    assert_eq!(events, [SessionEvent::Failed(SessionFailure::Flooded)]);
}

#[test]
fn a_request_without_a_session_is_answered_from_its_own_paths() {
    let octets = peer("SEND", "", None);
    let Ok(Piece::Request { head, .. }) = Cut::new(8192).next(octets.as_bytes()) else { panic!("a request") };
    let mut gather = Gather::new();
    assert!(respond_stateless(&mut gather, &head, octets.as_bytes(), 481));
    let frames = read(&gather.to_vec());
    assert_eq!((frames[0].word.as_str(), frames[0].header("To-Path")), ("481 Session Does Not Exist", THEIRS));
    assert_eq!(frames[0].header("From-Path"), OURS);
    for octets in [peer("REPORT", "", None), peer("SEND", "Failure-Report: no\r\n", None)] {
        let Ok(Piece::Request { head, .. }) = Cut::new(8192).next(octets.as_bytes()) else { panic!("a request") };
        assert!(!respond_stateless(&mut gather, &head, octets.as_bytes(), 481));
    }
    let bad = peer("SEND", "Byte-Range: x\r\n", None);
    let fault = Cut::new(8192).next(bad.as_bytes()).unwrap_err();
    let mut gather = Gather::new();
    assert!(respond_fault(&mut gather, &fault, bad.as_bytes()));
    assert_eq!(read(&gather.to_vec())[0].word, "400 Bad Request");
}

#[test]
fn a_budget_is_kept_and_pages_are_held_once() {
    let mut session = bound(setup());
    for n in 0..12 {
        let more = if n < 9 { session.wants() as u64 } else { 0 };
        (0..more).for_each(|token| session.offer(message(token, b"x")));
        let frames = drain(&mut session, Tick(0));
        frames.iter().for_each(|frame| drop(answer(&mut session, Tick(0), &frame.tid, 200)));
    }
    assert!(session.is_idle());
    let page = message(0, &vec![b'x'; 60_000]);
    for token in 0..60 {
        session.offer(Outgoing { token, body: Span::new(12 + token as usize * 1_000, 1_000), ..page.clone() });
    }
    let mut gather = Gather::new();
    assert!(session.fill(Tick(0), &mut gather, 10_000) <= 10_000);
    assert!(gather.len() > 8_000);
    assert_eq!(gather.pieces() % 2, 1, "end-line and next head are one piece");
    assert_eq!(gather.copied(), 0);
    let mut tiny = Gather::new();
    assert!(session.fill(Tick(0), &mut tiny, 1) > 1_000, "an empty gather takes one chunk");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn all_bodies_arrive_whole_whatever_the_sizes_windows_and_answers(
        sizes in proptest::collection::vec(prop_oneof![0usize..100, 1_900usize..2_200, 0usize..40_000], 1..30),
        chunk_max in 0usize..12_000,
        window_messages in 1u32..40,
        window_octets in 1usize..200_000,
        budget in 1usize..100_000,
        text in any::<bool>(),
        seed in any::<[u8; 32]>(),
    ) {
        let mut dice = Dice::from_seed(seed);
        let mut session = bound(SessionSetup { chunk_max, window_messages, window_octets, ..setup() });
        let bodies: Vec<Vec<u8>> = sizes.iter().map(|&size| {
            let mut body = "é€-------\r\n𝄞x".bytes().cycle().skip(dice.between(0, 20) as usize).take(size).collect::<Vec<_>>();
            if !text { body.iter_mut().for_each(|octet| *octet = octet.wrapping_mul(31)); }
            body
        }).collect();
        let mut offered = 0;
        let mut now = Tick(0);
        let mut got: BTreeMap<String, (Vec<u8>, bool)> = BTreeMap::new();
        let mut open: Vec<(String, usize)> = Vec::new();
        let mut delivered = Vec::new();
        for _ in 0..20_000 {
            while offered < bodies.len() && session.wants() > 0 {
                session.offer(Outgoing { text, ..message(offered as u64, &bodies[offered]) });
                offered += 1;
            }
            let mut gather = Gather::new();
            session.fill(now, &mut gather, budget);
            for frame in read(&gather.to_vec()) {
                let body = frame.body.clone().expect("content");
                let (have, done) = got.entry(frame.header("Message-ID").to_owned()).or_default();
                prop_assert!(!*done);
                let start = format!("{}-", have.len() + 1);
                prop_assert!(frame.header("Byte-Range").starts_with(&start));
                prop_assert!(body.len() > 2048 || frame.flag == '$' || body.len() >= 2048);
                prop_assert_eq!(frame.header("Byte-Range").contains('*'), body.len() > 2048);
                prop_assert!(body.len() <= chunk_max.max(2052));
                open.push((frame.tid, body.len()));
                have.extend_from_slice(&body);
                *done = frame.flag == '$';
            }
            let unanswered: usize = open.iter().map(|chunk| chunk.1).sum();
            prop_assert!(open.len() <= 1 || unanswered <= window_octets);
            if open.is_empty() { break; }
            let (tid, _) = open.swap_remove(dice.between(0, open.len() as u64 - 1) as usize);
            now = Tick(now.0 + dice.between(0, 100_000));
            for event in answer(&mut session, now, &tid, 200) {
                let SessionEvent::Delivered { token } = event else { panic!("{event:?}") };
                delivered.push(token);
            }
        }
        prop_assert!(session.is_idle());
        delivered.sort_unstable();
        prop_assert_eq!(delivered, (0..bodies.len() as u64).collect::<Vec<_>>());
        // Message-IDs rise with the tokens.
        prop_assert!(got.values().all(|message| message.1));
        prop_assert!(got.into_values().map(|message| message.0).eq(bodies));
    }
}
