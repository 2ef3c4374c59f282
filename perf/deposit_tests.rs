//! The generator against a peer of ten lines.

use super::*;
use crate::sip;
use std::collections::BTreeMap;
use std::net::TcpListener;

struct Nobody;

impl Progress for Nobody {
    fn phase(&self, _name: &str, _total: u64) {}
    fn done(&self, _done: u64) {}
}

fn plan(to: SocketAddr) -> Plan {
    Plan {
        to,
        transport: Transport::Tcp,
        connections: 3,
        first_user: 16,
        users: 7,
        first_seq: 5,
        each: 100,
        interleave: true,
        size: 200,
        life_s: None,
        pace: Pace::Peak,
        at_most: None,
        cpus: pin::allowed(),
        pin: false,
    }
}

/// Answers every MESSAGE with `status` until `connections` have closed; who got which numbers, in order of arrival.
fn peer(status: &'static str, connections: usize) -> (SocketAddr, thread::JoinHandle<BTreeMap<u32, Vec<u32>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let accept = move || {
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                let (stream, _) = listener.accept().unwrap();
                thread::spawn(move || serve(stream, status))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    };
    (addr, thread::spawn(accept))
}

fn serve(mut stream: TcpStream, status: &str) -> BTreeMap<u32, Vec<u32>> {
    let (mut got, mut octets, mut chunk) = (BTreeMap::<u32, Vec<u32>>::new(), Vec::new(), [0; 5000]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        octets.extend_from_slice(&chunk[..read]);
        while let Ok(Some(cut)) = sip::cut(&octets) {
            let id = sip::value(&octets, b"Call-ID").unwrap();
            let (user, seq) = (sip::number(&id[2..]).unwrap(), sip::number(&id[11..]).unwrap());
            got.entry(user).or_default().push(seq);
            let via = String::from_utf8_lossy(sip::value(&octets, b"Via").unwrap()).into_owned();
            let answer = format!("SIP/2.0 {status}\r\nVia: {via}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            octets.drain(..cut.len);
        }
    }
    got
}

#[test]
fn every_user_gets_all_messages_in_order_whichever_way_they_alternate() {
    for interleave in [true, false] {
        let (addr, peer) = peer("202 Accepted", 3);
        let done = run(&Plan { interleave, ..plan(addr) }, &Nobody).unwrap();
        assert_eq!((done.accepted, done.refused, done.accept_us.len()), (700, 0, 700));
        let got = peer.join().unwrap();
        assert_eq!(got.keys().copied().collect::<Vec<_>>(), (16..23).collect::<Vec<_>>());
        assert!(got.values().all(|seqs| *seqs == (5..105).collect::<Vec<_>>()));
    }
}

#[test]
fn a_refusal_is_counted_and_named() {
    let (addr, peer) = peer("503 Service Unavailable", 3);
    let done = run(&plan(addr), &Nobody).unwrap();
    assert_eq!((done.accepted, done.refused, done.first_refusal), (0, 700, Some(503)));
    peer.join().unwrap();
}

#[test]
fn a_rate_is_held_and_latency_counts_from_when_a_message_was_due() {
    let (addr, peer) = peer("202 Accepted", 3);
    let done = run(&Plan { pace: Pace::Rate(2_000.0), ..plan(addr) }, &Nobody).unwrap();
    assert_eq!((done.accepted, done.accept_us.len()), (700, 700));
    // 700 messages at 2,000 a second are due over 0.35 s; a busy machine is later, never earlier.
    assert!(done.seconds >= 0.34, "{}", done.seconds);
    peer.join().unwrap();
}

#[test]
fn a_plan_ends_in_time_with_every_answer_it_waits_for() {
    let (addr, peer) = peer("202 Accepted", 3);
    let most = Some(Duration::from_millis(50));
    let done = run(&Plan { each: 1_000_000, at_most: most, ..plan(addr) }, &Nobody).unwrap();
    let got: usize = peer.join().unwrap().values().map(Vec::len).sum();
    assert_eq!(done.accepted, got as u64);
}
