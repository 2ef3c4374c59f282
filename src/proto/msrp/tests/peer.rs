//! What the peer's answers, requests and silence lead to.

use super::*;

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

//= RFC 4975 7.1.4: Failure-Report no: no response; partial: no 200
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
    for status in [403, 408, 481, 501, 506, 599] {
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
fn a_type_that_is_not_taken_refuses_its_message_and_the_session_goes_on() {
    let mut session = bound(setup());
    session.offer(message(1, b"a"));
    session.offer(message(2, b"b"));
    let frames = drain(&mut session, Tick(0));
    let refused = SessionEvent::Refused { token: 1, status: 415 };
    assert_eq!(answer(&mut session, Tick(1), &frames[0].tid, 415), [refused]);
    assert_eq!(answer(&mut session, Tick(1), &frames[1].tid, 200), [SessionEvent::Delivered { token: 2 }]);
    assert!(session.is_idle());
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
fn a_held_session_sends_responses_only() {
    let mut session = bound(setup());
    session.offer(message(1, b"later"));
    session.pause();
    hear(&mut session, Tick(0), &peer("SEND", "", None));
    assert_eq!(drain(&mut session, Tick(0)).iter().map(|frame| frame.word.as_str()).collect::<Vec<_>>(), ["200 OK"]);
    session.resume();
    assert_eq!(drain(&mut session, Tick(0)).len(), 1);
}

//= RFC 4975 7.3.2: a REPORT with namespace 000 means what a response with its code means
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
