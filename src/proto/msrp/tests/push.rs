//! What a session sends.

use super::*;
use crate::proto::msrp::window::MESSAGES_START;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn a_pager_message_goes_out_head_body_and_end_line() {
    let body = "--dmf-7Qx2mV9bR4\r\nContent-Type: message/sip\r\n\r\n\
        MESSAGE sip:user2@imserver.com SIP/2.0\r\n\
        Via: SIP/2.0/TCP user1pc.imserver.com;branch=z9hG4bK776sgdkse\r\nMax-Forwards: 70\r\n\
        From: <sip:user1@imserver.com>;tag=49583\r\nTo: <sip:user2@imserver.com>\r\nCall-ID: asd88asd77a@1.2.3.4\r\n\
        Date: Thu, 21 Feb 2002 13:02:03 GMT\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n\
        Watson, come here.\r\n--dmf-7Qx2mV9bR4--";
    let mut session = bound(setup());
    let kind = "multipart/mixed;boundary=\"dmf-7Qx2mV9bR4\"";
    let outgoing = Outgoing {
        more: 0,
        message_id: *b"01jq8z4m7v5c2t9x3h6k0d1b2w",
        content_type: Span::new(0, kind.len()),
        body: Span::new(kind.len(), body.len()),
        page: Bytes::from(format!("{kind}{body}")),
        ..message(1, b"")
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
fn a_message_larger_than_the_peer_wants_is_not_sent() {
    let mut session = bound(SessionSetup { max_size: Some(4), ..setup() });
    session.offer(message(1, b"12345"));
    session.offer(message(2, b"1234"));
    assert_eq!(session.deadline(), Some(Tick(0)));
    assert_eq!(turn(&mut session, Tick(0)), [SessionEvent::Refused { token: 1, status: 413 }]);
    assert_eq!(drain(&mut session, Tick(0)).len(), 1);
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
            // One chunk with content may always be open, however long; those without take nothing of the window.
            let with_content = open.iter().filter(|chunk| chunk.1 > 0).count();
            prop_assert!(with_content <= 1 || unanswered <= window_octets);
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
