//! Reading a typical IMS MESSAGE: 12 headers, about 600 octets of head. Target: under 400 ns for cut and parse together.

#![allow(missing_docs)]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use deferd::base::limits::Limits;
use deferd::wire::sip::{Cut, Found, Message, Name, Response};
use std::hint::black_box;
use std::net::SocketAddr;

/// The daemon's allocator.
#[global_allocator]
static ALLOCATOR: deferd::base::allocator::Allocator = deferd::base::allocator::Allocator;

const MESSAGE: &[u8] = b"MESSAGE sip:bob@ims.example.com SIP/2.0\r\n\
    Via: SIP/2.0/TCP 10.0.0.7:5060;branch=z9hG4bK-524287-1---a3f1c8d90b7e6f52\r\n\
    Route: <sip:dmf.ims.example.com:5060;lr>, <sip:scscf1.ims.example.com:5060;lr;odi=7f3a>\r\n\
    Max-Forwards: 66\r\n\
    From: \"Alice\" <sip:alice@ims.example.com>;tag=8f1d2c77\r\n\
    To: <sip:bob@ims.example.com>\r\n\
    Call-ID: 3c26700a-4b1d-4f6e-9a57-c1d3f0a2b8e4\r\n\
    CSeq: 1 MESSAGE\r\n\
    P-Asserted-Identity: <sip:alice@ims.example.com>, <tel:+15141234567>\r\n\
    Accept-Contact: *;+g.oma.sip-im\r\n\
    Date: Thu, 21 Feb 2002 13:02:03 GMT\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 32\r\n\
    \r\n\
    Lunch at noon? Bring the papers.";

fn sip(c: &mut Criterion) {
    let limits = Limits::default();
    let octets = Bytes::from_static(MESSAGE);
    let message = Message::parse(octets.clone(), &limits).ok();
    let source = SocketAddr::from(([10, 0, 0, 7], 5060));
    let mut group = c.benchmark_group("sip");
    group.throughput(Throughput::Bytes(MESSAGE.len() as u64));
    group.bench_function("cut", |b| {
        let mut cut = Cut::new(&limits);
        b.iter(|| cut.next(black_box(MESSAGE)));
    });
    group.bench_function("parse", |b| b.iter(|| Message::parse(black_box(octets.clone()), &limits)));
    group.bench_function("cut and parse", |b| {
        let mut cut = Cut::new(&limits);
        b.iter(|| match cut.next(black_box(&octets)) {
            Ok(Found::Message { len, .. }) => Message::parse(octets.slice(..len), &limits).ok(),
            _ => None,
        });
    });
    if let Some(message) = &message {
        group.bench_function("202", |b| {
            b.iter(|| {
                Response::to(black_box(message), 202, source)
                    .to_tag(b"0001a3f1c8d90b7e")
                    .line(Name::Server, b"IM-serv/OMA1.0")
                    .finish()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sip);
criterion_main!(benches);
