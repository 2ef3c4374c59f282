//! The endpoint as a client: what we send to peers.

use super::bench_of_tests::*;
use super::*;
use crate::wire::sip::Name;

fn send(side: &mut Side, method: Method, flow: Flow) -> (ClientKey, Message) {
    let (octets, message) =
        side.ours(method, &[(Name::Route, b"<sip:p1;lr>, <sip:p2;lr>"), (Name::Route, b"<sip:p3>")]);
    let txn = side.endpoint.request(side.now, method, octets.clone(), flow);
    let sent = side.sent();
    assert!(sent.iter().all(|sent| sent.octets == octets && sent.flow == flow) && sent.len() == 1);
    (txn.unwrap_or_else(|Full| panic!("there is room")), message)
}

fn statuses(side: &mut Side, txn: ClientKey) -> Vec<u16> {
    let status = |told: Upward| match told {
        Upward::Response { txn: answered, message } if answered == txn => message.status(),
        Upward::Failed { txn: failed, cause: Failure::Timeout } if failed == txn => 408,
        Upward::Failed { txn: failed, cause: Failure::Transport } if failed == txn => 503,
        other => panic!("{other:?}"),
    };
    side.told().into_iter().map(status).collect()
}

fn empty(side: &Side) -> bool {
    side.endpoint.counts().clients == 0 && side.endpoint.deadline().is_none()
}

#[test]
fn a_branch_names_its_core() {
    let mut side = Side::new();
    let branch = side.endpoint.branch(&mut side.dice);
    assert!(branch.starts_with(b"z9hG4bK0003") && branch.len() == 27);
    assert_eq!(Endpoint::core_of_branch(&branch), Some(CoreId(3)));
    for foreign in [&b"z9hG4bKxyz9"[..], b"z9hG4bK00", b"0003", b""] {
        assert_eq!(Endpoint::core_of_branch(foreign), None);
    }
    assert_eq!(Endpoint::core_of_branch(b"z9hG4bKfffe0123456789abcdef"), Some(CoreId(0xfffe)));
}

#[test]
fn the_ack_of_a_refusal_follows_the_invite() {
    let mut side = Side::new();
    let (txn, invite) = send(&mut side, Method::Invite, udp(PEER));
    side.receive(&read(&answer(&invite, 100)), udp(PEER));
    let busy = read(&answer(&invite, 486));
    side.receive(&busy, udp(PEER));
    side.receive(&busy, udp(PEER));
    assert_eq!(statuses(&mut side, txn), [100, 486]);
    let sent = side.sent();
    assert_eq!(sent.len(), 2);
    let ack = read(&sent[1].octets);
    assert_eq!((ack.method(), ack.cseq(), ack.request_uri()), (Method::Ack, (9, Method::Ack), invite.request_uri()));
    assert_eq!((ack.from(), ack.call_id(), ack.to()), (invite.from(), invite.call_id(), busy.to()));
    assert_eq!((ack.via_count(), ack.top_via().branch), (1, invite.top_via().branch));
    assert!(ack.values(Name::Route).eq(invite.values(Name::Route)));
    assert_eq!(ack.values(Name::Route).count(), 3);
    side.wait(31_900);
    assert!(!empty(&side));
    side.wait(200);
    assert!(empty(&side));
}

#[test]
fn over_a_stream_a_refused_invite_is_acknowledged_and_forgotten() {
    let mut side = Side::new();
    let (txn, invite) = send(&mut side, Method::Invite, tcp(1, PEER));
    side.receive(&read(&answer(&invite, 603)), tcp(1, PEER));
    assert_eq!(side.lines(), ["ACK sip:bob@example.com"]);
    assert_eq!(statuses(&mut side, txn), [603]);
    assert!(empty(&side));
}

#[test]
fn every_2xx_to_an_invite_reaches_the_user_for_64_t1() {
    let mut side = Side::new();
    let (txn, invite) = send(&mut side, Method::Invite, tcp(1, PEER));
    let ok = read(&answer(&invite, 200));
    for _ in 0..3 {
        side.receive(&ok, tcp(1, PEER));
        side.wait(1_000);
    }
    assert_eq!(statuses(&mut side, txn), [200, 200, 200]);
    side.endpoint.flow_failed(side.now, CoreId(3), ConnId(1));
    assert!(side.sent().is_empty() && side.told().is_empty());
    side.receive(&ok, tcp(3, PEER));
    assert_eq!(statuses(&mut side, txn), [200], "by whatever way it comes");
    side.wait(29_100);
    assert!(empty(&side));
    side.receive(&ok, tcp(3, PEER));
    assert!(side.told().is_empty());
    assert_eq!(side.endpoint.counts().responses_stray, 1);
}

#[test]
fn a_cancel_waits_for_a_provisional_response_and_its_answer_is_nobodys_business() {
    let mut side = Side::new();
    let (txn, invite) = send(&mut side, Method::Invite, tcp(1, PEER));
    side.endpoint.cancel(side.now, txn, &mut side.dice);
    assert!(side.sent().is_empty());
    side.receive(&read(&answer(&invite, 180)), tcp(1, PEER));
    let sent = side.sent();
    let cancel = read(&sent[0].octets);
    assert_eq!((sent.len(), cancel.cseq(), cancel.to()), (1, (9, Method::Cancel), invite.to()));
    assert_eq!((cancel.top_via().branch, cancel.via_count()), (invite.top_via().branch, 1));
    assert!(cancel.values(Name::Route).eq(invite.values(Name::Route)));
    side.endpoint.cancel(side.now, txn, &mut side.dice);
    assert!(side.sent().is_empty(), "once");
    side.receive(&read(&answer(&cancel, 200)), tcp(1, PEER));
    assert_eq!(statuses(&mut side, txn), [180]);
    side.receive(&read(&answer(&invite, 487)), tcp(1, PEER));
    assert_eq!(statuses(&mut side, txn), [487]);
    assert!(empty(&side));
}

#[test]
fn an_invite_that_ignores_its_cancel_is_given_up_after_64_t1() {
    let mut side = Side::new();
    let (txn, invite) = send(&mut side, Method::Invite, udp(PEER));
    side.receive(&read(&answer(&invite, 180)), udp(PEER));
    side.wait(60_000);
    side.endpoint.cancel(side.now, txn, &mut side.dice);
    side.wait(32_000);
    assert_eq!(statuses(&mut side, txn), [180, 408]);
    assert_eq!(side.lines().first().map(String::as_str), Some("CANCEL sip:bob@example.com"));
    assert!(empty(&side));
}

#[test]
fn an_unanswered_request_is_repeated_and_times_out() {
    let mut side = Side::new();
    let (txn, _) = send(&mut side, Method::Bye, udp(PEER));
    side.wait(32_000);
    assert_eq!(side.sent().len(), 10);
    assert_eq!(statuses(&mut side, txn), [408]);
    assert!(empty(&side));
}

//= RFC 3261 8.1.3.3: more than one Via header field value in a response: discarded
//= RFC 6026 8.9: a response that matches no transaction is silently discarded
#[test]
fn responses_that_are_not_ours_are_dropped() {
    let mut side = Side::new();
    let (txn, bye) = send(&mut side, Method::Bye, tcp(1, PEER));
    let ok = String::from_utf8_lossy(&answer(&bye, 200)).into_owned();
    let strays = [
        ok.replace("dmf.example.com", "other.example.com"),
        ok.replace("9 BYE", "9 INVITE"),
        ok.replace("z9hG4bK", "z9hG4bKx"),
        ok.replace("From:", "Via: SIP/2.0/UDP behind.example.com;branch=z9hG4bKq\r\nFrom:"),
    ];
    for stray in &strays {
        side.receive(&read(stray.as_bytes()), tcp(1, PEER));
    }
    assert!(side.told().is_empty());
    assert_eq!(side.endpoint.counts().responses_stray, 4);
    side.receive(&read(ok.replace("dmf.example.com", "DMF.example.com:5060").as_bytes()), tcp(1, PEER));
    assert_eq!(statuses(&mut side, txn), [200]);
    assert!(empty(&side));
}

#[test]
fn a_broken_connection_fails_what_waits_on_it_and_nothing_else() {
    let mut side = Side::new();
    let (lost, _) = send(&mut side, Method::Invite, tcp(1, PEER));
    let (kept, bye) = send(&mut side, Method::Bye, tcp(3, PEER));
    side.endpoint.flow_failed(side.now, CoreId(3), ConnId(1));
    assert_eq!(statuses(&mut side, lost), [503]);
    side.receive(&read(&answer(&bye, 200)), tcp(3, PEER));
    assert_eq!(statuses(&mut side, kept), [200]);
    assert!(empty(&side));
}

#[test]
fn a_full_table_says_so() {
    let mut side = Side::with_room(2);
    send(&mut side, Method::Bye, udp(PEER));
    send(&mut side, Method::Invite, udp(PEER));
    let (octets, _) = side.ours(Method::Bye, &[]);
    assert_eq!(side.endpoint.request(side.now, Method::Bye, octets, udp(PEER)), Err(Full));
}

#[test]
fn octets_that_nobody_could_read_are_not_sent() {
    let mut side = Side::new();
    let (octets, _) = side.ours(Method::Bye, &[]);
    for octets in [Bytes::from_static(b"BYE\r\n\r\n"), octets] {
        let Ok(txn) = side.endpoint.request(side.now, Method::Notify, octets, udp(PEER)) else {
            panic!("there is room")
        };
        assert!(side.sent().is_empty());
        assert_eq!(statuses(&mut side, txn), [503]);
    }
    assert!(empty(&side));
}

#[test]
fn the_ack_of_a_2xx_goes_out_beside_all_transactions() {
    let mut side = Side::new();
    side.endpoint.transmit(udp(PEER), Bytes::from_static(b"ACK"));
    assert_eq!(side.sent().len(), 1);
    assert!(empty(&side));
}
