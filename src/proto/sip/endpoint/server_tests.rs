//! The endpoint as a server: what peers send us.

use super::bench_of_tests::*;
use super::*;
use crate::wire::sip::Name;

#[test]
fn a_retransmitted_message_reaches_the_user_once_and_is_answered_each_time() {
    let (mut side, message) = (Side::new(), request("MESSAGE", "z9hG4bKm1", ""));
    side.receive(&message, udp(PEER));
    let txn = side.asked();
    side.receive(&message, udp(PEER));
    assert!(side.sent().is_empty(), "while the user thinks, repetitions are discarded");
    let octets = answer(&message, 202);
    side.respond(txn, &octets);
    side.wait(500);
    side.receive(&message, udp(PEER));
    let sent = side.sent();
    assert_eq!(sent.iter().map(|sent| &sent.octets).collect::<Vec<_>>(), [&octets, &octets]);
    assert!(sent.iter().all(|sent| sent.flow == udp(PEER)));
    assert!(side.told().is_empty());
    side.wait(31_400);
    assert_eq!(side.endpoint.counts().servers, 1);
    side.wait(200);
    assert_eq!((side.endpoint.counts().servers, side.endpoint.deadline()), (0, None));
    assert_eq!(side.endpoint.counts().requests_repeated, 2);
}

#[test]
fn over_a_stream_nothing_is_kept_once_a_message_is_answered() {
    let (mut side, message) = (Side::new(), request("MESSAGE", "z9hG4bKm1", ""));
    side.receive(&message, tcp(2, PEER));
    let txn = side.asked();
    side.respond(txn, &answer(&message, 202));
    assert_eq!(side.lines(), ["202 Accepted"]);
    assert_eq!((side.endpoint.counts().servers, side.endpoint.deadline()), (0, None));
    side.respond(txn, &answer(&message, 500));
    assert!(side.sent().is_empty());
    assert_eq!(side.endpoint.counts().responses_dropped, 1);
}

#[test]
fn an_answer_that_lies_ready_is_not_sent_before_it_is_taken() {
    let (mut side, message) = (Side::new(), request("MESSAGE", "z9hG4bKm1", ""));
    side.receive(&message, tcp(2, PEER));
    let txn = side.asked();
    let accepted = answer(&message, 202);
    side.endpoint.prepare(txn, accepted.clone());
    side.receive(&message, tcp(2, PEER));
    assert!(side.sent().is_empty(), "a repetition does not bring it out");
    side.wait(3_600);
    let trying = side.sent();
    let trying = read(&trying.first().unwrap().octets);
    assert_eq!((trying.status(), trying.call_id(), trying.cseq()), (100, message.call_id(), message.cseq()));
    assert_eq!(trying.values(Name::Via).next(), read(&accepted).values(Name::Via).next());
    let ready = side.endpoint.ready(txn);
    assert_eq!(ready.as_ref(), Some(&accepted));
    assert_eq!(side.endpoint.ready(txn), None, "it is taken once");
    side.respond(txn, &accepted);
    assert_eq!(side.lines(), ["202 Accepted"]);
    side.endpoint.prepare(txn, accepted);
    assert_eq!(side.endpoint.ready(txn), None, "the transaction is gone");
}

//= RFC 3261 8.2.2.2: From tag, Call-ID, and CSeq match an ongoing transaction: 482
#[test]
fn a_request_that_comes_by_two_ways_is_answered_482_the_second_time() {
    let (mut side, first) = (Side::new(), request("PUBLISH", "z9hG4bKm1", ""));
    side.receive(&first, udp(PEER));
    side.asked();
    // The uppercase letter is another branch of the same call.
    let second = request("PUBLISH", "z9hG4bKm1X", "");
    side.receive(&second, udp("192.0.2.8:5060"));
    side.receive(&second, udp("192.0.2.8:5060"));
    assert!(side.told().is_empty());
    let sent = side.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent.iter().map(|sent| read(&sent.octets).status()).collect::<Vec<_>>(), [482, 482]);
    assert_eq!(
        sent.first().map(|sent| &sent.octets),
        sent.last().map(|sent| &sent.octets),
        "the same tag for the same request"
    );
    assert_eq!(side.endpoint.counts().requests_merged, 2);
}

#[test]
fn the_same_branch_of_another_client_is_another_transaction() {
    let mut side = Side::new();
    let ours = request("MESSAGE", "z9hG4bKm1", "");
    side.receive(&ours, udp(PEER));
    side.asked();
    let text = String::from_utf8_lossy(ours.octets()).replace("pc.example.net", "PC.example.net");
    side.receive(&read(text.as_bytes()), udp(PEER));
    assert!(side.told().is_empty(), "the case of a host does not matter");
    let text = text.replace("PC.example.net", "phone.example.net").replace("m1@pc", "m2@phone");
    side.receive(&read(text.as_bytes()), udp(PEER));
    side.asked();
}

#[test]
fn a_silent_user_is_covered_by_100_in_the_time_of_each_method() {
    let mut side = Side::new();
    let (invite, message) = (request("INVITE", "z9hG4bKi1", ""), request("MESSAGE", "z9hG4bKm1", ""));
    side.receive(&invite, tcp(2, PEER));
    side.receive(&message, udp(PEER));
    side.wait(199);
    assert!(side.sent().is_empty());
    side.wait(3_300);
    let sent = side.sent();
    assert_eq!(sent.len(), 1);
    let trying = read(&sent[0].octets);
    assert_eq!((trying.status(), trying.method(), trying.to_tag()), (100, Method::Invite, None));
    side.wait(2);
    assert_eq!(side.lines(), ["100 Trying"], "RFC 4320: a MESSAGE's 100 at 3.5 s");
    side.receive(&message, udp(PEER));
    side.receive(&invite, tcp(2, PEER));
    assert_eq!(side.lines(), ["100 Trying", "100 Trying"]);
    side.wait(32_000);
    assert_eq!(side.endpoint.counts().requests_unanswered, 1, "the MESSAGE's client has given up");
}

//= RFC 3261 9.2: a CANCEL without its INVITE: 481; with it, the To tag of both answers is the same
#[test]
fn a_cancel_is_answered_and_told_once_while_the_invite_proceeds() {
    let (mut side, invite) = (Side::new(), request("INVITE", "z9hG4bKi1", ""));
    side.receive(&invite, udp(PEER));
    let txn = side.asked();
    side.respond(txn, &answer(&invite, 180));
    let cancel = request("CANCEL", "z9hG4bKi1", "");
    side.receive(&cancel, udp(PEER));
    side.receive(&cancel, udp(PEER));
    assert!(matches!(side.told().as_slice(), [Upward::Cancel { txn: cancelled }] if *cancelled == txn));
    let sent = side.sent();
    let ok = read(&sent[1].octets);
    assert_eq!((ok.status(), ok.cseq().1, ok.to_tag()), (200, Method::Cancel, Some(&b"b1"[..])));
    side.respond(txn, &answer(&invite, 487));
    assert_eq!(side.lines(), ["487 Request Terminated"]);
    side.receive(&cancel, udp(PEER));
    assert_eq!(side.lines(), ["200 OK"], "it still matches");
    assert!(side.told().is_empty());
    side.receive(&request("CANCEL", "z9hG4bKother", ""), udp(PEER));
    assert!(side.lines()[0].starts_with("481 "));
    assert_eq!(side.endpoint.counts().cancels_stray, 1);
}

#[test]
fn the_ack_of_a_refusal_ends_in_the_transaction() {
    let (mut side, invite) = (Side::new(), request("INVITE", "z9hG4bKi1", ""));
    side.receive(&invite, udp(PEER));
    let txn = side.asked();
    side.respond(txn, &answer(&invite, 486));
    side.wait(600);
    assert_eq!(side.lines(), ["486 Busy Here", "486 Busy Here"]);
    side.receive(&request("ACK", "z9hG4bKi1", ""), udp(PEER));
    side.receive(&request("ACK", "z9hG4bKi1", ""), udp(PEER));
    side.wait(4_900);
    assert!(side.told().is_empty() && side.sent().is_empty());
    side.wait(200);
    assert!(matches!(side.told().as_slice(), [Upward::Ended { acked: true, .. }]));
    assert_eq!((side.endpoint.counts().servers, side.endpoint.deadline()), (0, None));
}

#[test]
fn the_ack_of_a_2xx_has_a_branch_of_its_own_and_ends_the_repetition() {
    for flow in [udp(PEER), tcp(2, PEER)] {
        let (mut side, invite) = (Side::new(), request("INVITE", "z9hG4bKi1", ""));
        side.receive(&invite, flow);
        let txn = side.asked();
        side.respond(txn, &answer(&invite, 200));
        side.receive(&invite, flow);
        side.wait(1_600);
        assert_eq!(
            side.lines(),
            ["200 OK", "200 OK", "200 OK"],
            "at 0, 0.5 and 1.5 s, and not for the repeated INVITE"
        );
        side.receive(&request("ACK", "z9hG4bKi1X", ""), flow);
        assert!(matches!(side.told().as_slice(), [Upward::Ack { .. }]));
        side.wait(30_300);
        assert!(side.sent().is_empty() && side.told().is_empty());
        side.wait(200);
        assert!(matches!(side.told().as_slice(), [Upward::Ended { acked: true, .. }]));
        side.receive(&request("ACK", "z9hG4bKi1X", ""), flow);
        assert!(matches!(side.told().as_slice(), [Upward::Ack { .. }]), "no transaction: the dialog will know");
    }
}

#[test]
fn a_2xx_that_nobody_acknowledges_is_told_after_64_t1() {
    let (mut side, invite) = (Side::new(), request("INVITE", "z9hG4bKi1", ""));
    side.receive(&invite, tcp(2, PEER));
    let txn = side.asked();
    side.respond(txn, &answer(&invite, 200));
    side.wait(32_000);
    assert!(matches!(side.told().as_slice(), [Upward::Ended { acked: false, txn: ended }] if *ended == txn));
}

#[test]
fn an_invite_nobody_answers_is_answered_500_after_3_minutes() {
    let (mut side, invite) = (Side::new(), request("INVITE", "z9hG4bKi1", ""));
    side.receive(&invite, tcp(2, PEER));
    side.asked();
    side.wait(180_000);
    assert_eq!(side.lines(), ["100 Trying", "500 Server Internal Error"]);
    side.wait(32_000);
    assert!(matches!(side.told().as_slice(), [Upward::Ended { .. }]));
    assert_eq!((side.endpoint.counts().servers, side.endpoint.deadline()), (0, None));
}

#[test]
fn a_full_table_refuses_new_requests_with_a_growing_retry_after() {
    let mut side = Side::with_room(64);
    let branch = |n: usize| format!("z9hG4bKm{n}");
    for n in 0..56 {
        side.receive(&request("MESSAGE", &branch(n), ""), udp(PEER));
    }
    assert_eq!((side.told().len(), side.sent().len()), (56, 0));
    let mut after = Vec::new();
    for n in 100..104 {
        side.receive(&request("MESSAGE", &branch(n), ""), udp(PEER));
        let sent = side.sent();
        let refused = read(&sent[0].octets);
        assert_eq!(refused.status(), 503);
        after.push(refused.header(Name::RetryAfter).map(<[u8]>::to_vec));
    }
    assert_eq!(after, [b"2", b"3", b"4", b"5"].map(|s| Some(s.to_vec())), "56 places drain in 32 s: one a second");
    side.receive(&request("MESSAGE", &branch(3), ""), udp(PEER));
    assert!(side.sent().is_empty(), "what has its place keeps it");
    let (octets, _) = side.ours(Method::Invite, &[]);
    assert!(side.endpoint.request(side.now, Method::Invite, octets, udp(PEER)).is_ok(), "an eighth is ours");
    let counts = side.endpoint.counts();
    assert_eq!((counts.requests_refused, counts.servers, counts.clients), (4, 56, 1));
}

#[test]
fn requests_of_rfc_2543_are_matched_by_what_they_have() {
    for branch in ["1", "z9hG4bK"] {
        let (mut side, invite) = (Side::new(), request("INVITE", branch, ""));
        side.receive(&invite, udp(PEER));
        let txn = side.asked();
        side.receive(&invite, udp(PEER));
        assert!(side.told().is_empty());
        side.respond(txn, &answer(&invite, 486));
        side.sent();
        let ack = |tag: &str| {
            let ack = String::from_utf8_lossy(request("ACK", branch, "").octets()).into_owned();
            read(ack.replace("To: <sip:bob@example.com>", &format!("To: <sip:bob@example.com>;tag={tag}")).as_bytes())
        };
        side.receive(&ack("other"), udp(PEER));
        assert!(matches!(side.told().as_slice(), [Upward::Ack { .. }]), "it is for somebody else's response");
        side.receive(&ack("b1"), udp(PEER));
        assert!(side.told().is_empty());
        side.wait(5_100);
        assert!(matches!(side.told().as_slice(), [Upward::Ended { acked: true, .. }]));
    }
}

//= RFC 3261 18.2.2: to the address in "received", using the port in sent-by
#[test]
fn without_rport_the_response_goes_to_the_port_in_sent_by() {
    let mut side = Side::new();
    for (sent_by, port) in [("pc.example.net:5999", 5999), ("pc.example.net", 5060)] {
        let text = String::from_utf8_lossy(request("MESSAGE", &format!("z9hG4bK{port}"), "").octets())
            .replace("pc.example.net:5070;rport", sent_by);
        let message = read(text.as_bytes());
        side.receive(&message, udp("192.0.2.7:40000"));
        let txn = side.asked();
        side.respond(txn, &answer(&message, 202));
        assert_eq!(side.sent()[0].flow, udp(&format!("192.0.2.7:{port}")));
    }
}

//= RFC 6026 8.8: after a transport error the server transaction remains in its state
#[test]
fn a_request_repeated_over_a_new_connection_is_answered_there() {
    let (mut side, invite) = (Side::new(), request("INVITE", "z9hG4bKi1", ""));
    side.receive(&invite, tcp(2, PEER));
    let txn = side.asked();
    side.endpoint.flow_failed(side.now, CoreId(3), ConnId(2));
    side.receive(&invite, tcp(4, "192.0.2.7:5071"));
    side.receive(&invite, tcp(6, "198.51.100.1:5071"));
    side.sent();
    side.respond(txn, &answer(&invite, 486));
    assert_eq!(side.sent()[0].flow, tcp(4, "192.0.2.7:5071"), "and not where a stranger sent it from");
}
