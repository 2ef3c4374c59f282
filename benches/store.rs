//! Costs of the store without a disk: a record appended, a queue entry pushed and popped, an inbox published to and drained.

#![allow(missing_docs)]

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use deferd::base::gather::Gather;
use deferd::base::net::CoreId;
use deferd::store::directory::{Arrival, Directory};
use deferd::store::disk::{DiskDone, DiskOp, SegmentNo};
use deferd::store::log::{Log, LogResume, LogSetup};
use deferd::store::queue::Queue;
use deferd::store::record::{Draft, Flags, Locator, Place, Stamp};
use deferd::store::segments::Segments;
use std::hint::black_box;
use std::sync::Arc;

/// A disk that has always just succeeded.
fn serve(op: DiskOp) -> DiskDone {
    match op {
        DiskOp::Prepare { ticket, .. } => DiskDone::Prepared { ticket, outcome: Ok(()) },
        DiskOp::Commit { ticket, gather, .. } => DiskDone::Committed { ticket, gather, outcome: Ok(()) },
        DiskOp::Read { ticket, buffer, .. } => DiskDone::Read { ticket, buffer, outcome: Ok(()) },
        DiskOp::Lend { ticket, .. } => DiskDone::Lent { ticket, page: Bytes::new(), outcome: Ok(()) },
        DiskOp::Remove { ticket, .. } => DiskDone::Removed { ticket, outcome: Ok(()) },
        DiskOp::Recycle { ticket, .. } => DiskDone::Recycled { ticket, outcome: Ok(()) },
        DiskOp::ReadHint { ticket, .. } => DiskDone::Read { ticket, buffer: BytesMut::new(), outcome: Ok(()) },
        DiskOp::WriteHint { ticket, .. } => DiskDone::HintWritten { ticket, outcome: Ok(()) },
    }
}

fn append(criterion: &mut Criterion) {
    let segments = Arc::new(Segments::new(0, u32::MAX, [1; 16]));
    let setup = LogSetup { core: CoreId(0), segment_octets: 64 << 20, commit_octets: 32 << 20 };
    let mut log = Log::new(setup, LogResume::default(), segments);
    let (body, mut ops, mut n) = (Bytes::from(vec![b'x'; 1024]), Vec::new(), 1u64 << 50);
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(256));
    group.bench_function("a group of 256 records of 1 KiB", |bencher| {
        bencher.iter(|| {
            for _ in 0..256 {
                n += 1 << 12;
                let mut gather = Gather::new();
                gather.push(body.clone());
                let draft = Draft {
                    owner: b"sip:alice@example.org",
                    stamp: Stamp(n),
                    random: [7; 10],
                    expiry_s: 1,
                    fingerprint: n,
                    flags: Flags::default(),
                    envelope: &[b'e'; 200],
                    body_type: b"multipart/mixed;boundary=abcdefgh",
                    parts: &[],
                    body: gather,
                };
                black_box(log.append_message(draft).is_ok());
            }
            loop {
                log.turn(&mut ops);
                if ops.is_empty() {
                    break;
                }
                for op in ops.drain(..) {
                    black_box(log.done(serve(op)));
                }
            }
        })
    });
    group.finish();
}

fn locator(n: u64) -> Locator {
    Locator::new(Place { segment: SegmentNo(1), offset: n as u32 }, Stamp(n), 1, 1_024, Flags::default())
}

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("1,000 in at the end, 1,000 out at the front", |bencher| {
        bencher.iter(|| {
            let mut queue = Queue::new();
            (0..1_000).for_each(|n| {
                queue.insert(locator(n));
            });
            while let Some(first) = queue.first().copied() {
                black_box(queue.remove(first.place()));
            }
        })
    });
    group.finish();
}

fn inbox(criterion: &mut Criterion) {
    let directory = Directory::new(1 << 16, 1, [3; 16]);
    let Some(mut nodes) = directory.nodes(CoreId(0)) else { return };
    let mut group = criterion.benchmark_group("directory");
    let (mut users, mut found) = (Vec::new(), Vec::new());
    for (name, addresses) in [("64 users", 64u64), ("one user", 1)] {
        let addresses: Vec<String> = (0..addresses).map(|n| format!("sip:user{n}@example.org")).collect();
        group.throughput(Throughput::Elements(1_024));
        group.bench_function(format!("reserve, publish, drain, release; {name}"), |bencher| {
            bencher.iter(|| {
                for n in 0..1_024u64 {
                    let address = addresses[n as usize % addresses.len()].as_bytes();
                    if let Ok(user) = directory.reserve(address, 1_024, (u32::MAX, u64::MAX)) {
                        black_box(directory.publish(user, Arrival { locator: locator(n), fingerprint: n }, &mut nodes));
                    }
                }
                directory.take_ready(CoreId(0), &mut users);
                for user in users.drain(..) {
                    directory.drain(user, &mut found);
                    directory.release(user, found.len() as u32, found.len() as u64 * 1_024);
                    found.clear();
                }
            })
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("a user comes and goes", |bencher| {
        bencher.iter(|| {
            if let Ok(user) = directory.enter(b"sip:bob@example.org") {
                directory.leave(user);
                black_box(directory.close(user));
            }
        })
    });
    group.finish();
}

criterion_group!(benches, append, queue, inbox);
criterion_main!(benches);
