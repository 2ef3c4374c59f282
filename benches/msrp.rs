//! What MSRP costs before the socket: framing a push, cutting the answers, and both through one session.
//!
//! `msrp count framing` and `msrp count session` do a fixed number of batches instead, for `deferd-perf gate`: it counts the
//! instructions below [`framing_counted`] and [`session_counted`].

#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use deferd::base::clock::Tick;
use deferd::base::dice::Dice;
use deferd::base::gather::Gather;
use deferd::base::span::Span;
use deferd::proto::msrp::session::{Outgoing, Session, SessionEvent, SessionSetup};
use deferd::wire::msrp::cut::{Cut, Piece};
use deferd::wire::msrp::head::ByteRange;
use deferd::wire::msrp::write::{self, HeadTemplate, Tid};
use std::hint::black_box;
use std::time::Duration;

const OURS: &[u8] = b"msrp://192.0.2.10:2855/9di4eae923wzd0x7b2m6;tcp";
const THEIRS: &[u8] = b"msrp://198.51.100.7:7777/iau39soe2843zq7w1k5e;tcp";
const BATCH: u64 = 128;
const BODY: usize = 1024;

fn setup() -> SessionSetup {
    SessionSetup {
        local_path: Bytes::from_static(OURS),
        peer_path: Bytes::from_static(THEIRS),
        active: true,
        chunk_max: 8192,
        window_messages: 1024,
        window_octets: 1 << 20,
        tx_timeout: Duration::from_secs(30),
        max_size: None,
        cautious: false,
    }
}

const TYPE: &[u8] = b"multipart/mixed;boundary=\"dmf-7Qx2mV9bR4\"";

fn outgoing(page: &Bytes, token: u64) -> Outgoing {
    Outgoing {
        more: 0,
        token,
        message_id: *b"01jq8z4m7v5c2t9x3h6k0d1b2w",
        content_type: Span::new(BODY * BATCH as usize, TYPE.len()),
        page: page.clone(),
        body: Span::new(token as usize % BATCH as usize * BODY, BODY),
        has_dash7: false,
        text: false,
    }
}

/// The head template alone: the floor of what framing can cost.
fn heads(c: &mut Criterion) {
    let template = HeadTemplate::new(THEIRS, OURS, false);
    let page = Bytes::from(vec![b'x'; BODY * BATCH as usize]);
    let mut gather = Gather::new();
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("template_128_of_1KiB", |b| b.iter(|| framing(&template, &page, &mut gather)));
    group.finish();
}

fn framing(template: &HeadTemplate, page: &Bytes, gather: &mut Gather) {
    gather.clear();
    let held = gather.hold(page.clone());
    for n in 0..BATCH {
        let tid = Tid::new(*b"0123456789abcdef", n as u16);
        let range = ByteRange { start: 1, end: Some(BODY as u64), total: Some(BODY as u64) };
        gather.make(|out| {
            template.write(
                out,
                &tid,
                b"01jq8z4m7v5c2t9x3h6k0d1b2w",
                range,
                b"multipart/mixed;boundary=\"dmf-7Qx2mV9bR4\"",
            )
        });
        gather.refer(held, n as usize * BODY, BODY);
        gather.make(|out| write::end_line(out, &tid.0, b'$'));
    }
    black_box(gather.len());
}

/// A function of its own, whatever the compiler would like: callgrind finds it by its name.
#[inline(never)]
fn framing_counted(template: &HeadTemplate, page: &Bytes, gather: &mut Gather) {
    framing(template, page, gather);
}

/// A session with a client that answers everything.
struct Pair {
    session: Session,
    page: Bytes,
    gather: Gather,
    events: Vec<SessionEvent>,
    prefix: [u8; 16],
    number: u16,
}

impl Pair {
    fn new() -> Pair {
        let mut session = Session::new(setup(), &mut Dice::from_seed([1; 32]));
        let (mut gather, mut events) = (Gather::new(), Vec::new());
        session.connected(Tick(0));
        session.fill(Tick(0), &mut gather, 1 << 20);
        let prefix = session.tid_prefix();
        session.response(Tick(0), &Tid::new(prefix, 0).0, 200, &mut events);
        let page = Bytes::from([&vec![b'x'; BODY * BATCH as usize][..], TYPE].concat());
        let mut pair = Pair { session, page, gather, events, prefix, number: 1 };
        // The window grows to what is measured.
        [4, 8, 16, 32, 64].into_iter().for_each(|count| pair.round(count));
        pair
    }

    fn round(&mut self, count: u64) {
        for token in 0..count {
            self.session.offer(outgoing(&self.page, token));
        }
        self.gather.clear();
        self.session.fill(Tick(0), &mut self.gather, 1 << 20);
        black_box(self.gather.len());
        self.events.clear();
        for _ in 0..count {
            self.session.response(Tick(0), &Tid::new(self.prefix, self.number).0, 200, &mut self.events);
            self.number = self.number.wrapping_add(1);
        }
        assert_eq!(self.events.len() as u64, count);
        assert!(matches!(self.events.last(), Some(SessionEvent::Delivered { .. })));
    }
}

/// As [`framing_counted`].
#[inline(never)]
fn session_counted(pair: &mut Pair) {
    pair.round(BATCH);
}

/// A whole session: queued, framed in batches, every answer matched, every delivery told.
fn session(c: &mut Criterion) {
    let mut pair = Pair::new();
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("offer_fill_answer_128_of_1KiB", |b| b.iter(|| pair.round(BATCH)));
    group.finish();
}

/// A stream of 200 responses as one read brings them.
fn responses(c: &mut Criterion) {
    let mut stream = Vec::new();
    for n in 0..1000u16 {
        write::response(&mut stream, &Tid::new(*b"0123456789abcdef", n).0, 200, OURS, THEIRS);
    }
    let mut group = c.benchmark_group("cut");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000_responses", |b| {
        b.iter_batched_ref(
            || Cut::new(8192),
            |cut| {
                let mut rest = &stream[..];
                let mut count = 0;
                while let Ok(Piece::Response { head, len }) = cut.next(rest) {
                    black_box(head.tid);
                    count += 1;
                    rest = &rest[len..];
                }
                assert_eq!(count, 1000);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// SENDs of 1 KiB as a receiver cuts them, with the length said and without.
fn sends(c: &mut Criterion) {
    let template = HeadTemplate::new(THEIRS, OURS, false);
    let mut group = c.benchmark_group("cut");
    for (name, end) in [("128_sends_of_1KiB", Some(BODY as u64)), ("128_sends_of_1KiB_without_length", None)] {
        let mut stream = Vec::new();
        for n in 0..BATCH {
            let tid = Tid::new(*b"0123456789abcdef", n as u16);
            let range = ByteRange { start: 1, end, total: Some(BODY as u64) };
            template.write(&mut stream, &tid, b"01jq8z4m7v5c2t9x3h6k0d1b2w", range, b"text/plain");
            stream.extend_from_slice(&"line of text - with hyphens\r\n".repeat(40).as_bytes()[..BODY]);
            write::end_line(&mut stream, &tid.0, b'$');
        }
        group.throughput(Throughput::Elements(BATCH));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut cut = Cut::new(8192);
                let mut rest = &stream[..];
                let mut ends = 0;
                loop {
                    let len = match cut.next(rest).unwrap() {
                        Piece::More => break,
                        Piece::Response { len, .. } | Piece::Request { len, .. } | Piece::Data { len } => len,
                        Piece::End { len, .. } => {
                            ends += 1;
                            len
                        }
                    };
                    rest = &rest[len..];
                }
                assert_eq!(ends, BATCH);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, heads, session, responses, sends);

/// Does `work` a fixed number of times and says how many messages were counted. None for work that nobody knows.
fn count(work: &str) -> Option<u64> {
    match work {
        "framing" => {
            let template = HeadTemplate::new(THEIRS, OURS, false);
            let page = Bytes::from(vec![b'x'; BODY * BATCH as usize]);
            let mut gather = Gather::new();
            // Buffers have grown before counting begins.
            (0..4).for_each(|_| framing(&template, &page, &mut gather));
            (0..64).for_each(|_| framing_counted(&template, &page, &mut gather));
        }
        "session" => {
            let mut pair = Pair::new();
            (0..4).for_each(|_| pair.round(BATCH));
            (0..64).for_each(|_| session_counted(&mut pair));
        }
        _ => return None,
    }
    Some(64 * BATCH)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, work] = arguments.as_slice()
        && word == "count"
    {
        println!("messages {}", count(work).unwrap());
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
