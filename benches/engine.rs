//! One engine turn, without a kernel: a whole [`Core`] driven by values, a disk of memory that answers at once. Only the time
//! inside the core counts; what the disk, the network and the peers would do is done between its turns and not measured.
//!
//! `engine count deposit` and `engine count push` do a fixed number of turns instead, for `deferd-perf gate`: it counts the
//! instructions below [`turn_counted`].

#![allow(missing_docs, clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group};
use deferd::base::clock::{Now, Tick, Wall};
use deferd::base::limits::Limits;
use deferd::base::net::{ConnId, CoreId};
use deferd::deferred::policy::Policy;
use deferd::engine::core::Core;
use deferd::engine::effect::Effect;
use deferd::engine::input::{Input, Service};
use deferd::engine::setup::{Birth, MsrpSetup, Setup, SipAddress, SipSetup, Transport};
use deferd::store::directory::Directory;
use deferd::store::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use deferd::store::log::{Log, LogResume, LogSetup};
use deferd::store::record::Stamp;
use deferd::store::recovery::HomeRecovered;
use deferd::store::segments::Segments;
use deferd::store::stamp::Stamps;
use deferd::wire::msrp::cut::{Cut, Piece};
use deferd::wire::msrp::write;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The daemon's allocator.
#[global_allocator]
static ALLOCATOR: deferd::base::allocator::Allocator = deferd::base::allocator::Allocator;

/// What the SIP core in front sends on, and what the clients connect to.
const SIP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)), 5070);
const MSRP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)), 2855);
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 40_000);
const CLIENT_PATH: &str = "msrp://10.0.0.1:9/iau39soe2843zq7w1k5e;tcp";

/// The SIP connection, and the first MSRP connection; accepted ones are even.
const SIGNALLING: ConnId = ConnId(2);

/// Messages that one read brings, and octets of their text.
const BATCH: u64 = 128;
const TEXT: usize = 1024;

/// Messages that wait for a user who is pushed to.
const BACKLOG: u64 = 1_000;

/// A daemon of one core, its disk, and the time spent in it.
struct Rig {
    core: Core,
    now: Now,
    spent: Duration,
    effects: VecDeque<Effect>,
    /// Segments as written, where they will be read again.
    files: Option<HashMap<SegmentNo, Vec<u8>>>,
    /// What the core sent, by connection.
    sent: HashMap<ConnId, Vec<u8>>,
    /// Buffers the core lent, by connection.
    lent: HashMap<ConnId, BytesMut>,
    turns: u64,
    /// Turns are run by [`turn_counted`].
    counts: bool,
}

impl Rig {
    fn new(keeps_files: bool) -> Rig {
        let limits = Limits { users: 1 << 14, ..Limits::default() };
        let mut policy = Policy::new("im.example.org", &["example.org"]);
        policy.quota_messages = u32::MAX;
        policy.quota_octets = u64::MAX;
        let setup = Setup {
            core: CoreId(0),
            cores: 1,
            sip: SipSetup {
                listen: vec![SipAddress { transport: Transport::Tcp, addr: SIP }],
                advertise: None,
                outbound_proxy: None,
                trusted: vec!["10.0.0.0/8".parse().unwrap()],
            },
            msrp: MsrpSetup {
                listen: vec![MSRP],
                advertise: None,
                connect_allow: vec!["10.0.0.0/8".parse().unwrap()],
                bind_source: false,
                chunk_max: 8 << 10,
                window_messages: 1024,
                window_octets: 1 << 20,
                bind_timeout: Duration::from_secs(30),
                tx_timeout: Duration::from_secs(30),
            },
            policy,
            limits: limits.clone(),
            seed: [7; 32],
        };
        let now = Now { tick: Tick(1_000_000), wall: Wall(1_800_000_000_000_000) };
        let directory = Arc::new(Directory::new(limits.users, 1, [3; 16]));
        let segments = Arc::new(Segments::new(0, u32::MAX, [1; 16]));
        let log =
            LogSetup { core: CoreId(0), segment_octets: limits.segment_octets, commit_octets: limits.commit_octets };
        let birth = Birth {
            log: Log::new(log, LogResume::default(), segments.clone()),
            nodes: directory.nodes(CoreId(0)).unwrap(),
            directory,
            segments,
            stamps: Stamps::new(CoreId(0), Stamp::default(), now),
            home: HomeRecovered::default(),
        };
        let mut rig = Rig {
            core: Core::new(setup, birth, now),
            now,
            spent: Duration::ZERO,
            effects: VecDeque::new(),
            files: keeps_files.then(HashMap::new),
            sent: HashMap::new(),
            lent: HashMap::new(),
            turns: 0,
            counts: false,
        };
        rig.accept(SIGNALLING, Service::Sip);
        rig
    }

    fn accept(&mut self, conn: ConnId, service: Service) {
        let local = if service == Service::Sip { SIP } else { MSRP };
        self.step(vec![Input::Accepted { conn, service, peer: PEER, local }]);
    }

    /// Hands `octets` over as one read, and runs until the core has nothing more to do.
    fn receive(&mut self, conn: ConnId, octets: &[u8]) {
        let mut buffer = self.lent.remove(&conn).unwrap();
        buffer.extend_from_slice(octets);
        self.step(vec![Input::Received { conn, buffer, outcome: Ok(octets.len()) }]);
    }

    fn step(&mut self, mut inputs: Vec<Input>) {
        loop {
            self.turns += 1;
            let begun = Instant::now();
            let turn = if self.counts { turn_counted } else { turn };
            turn(&mut self.core, self.now, &mut inputs, &mut self.effects);
            self.spent += begun.elapsed();
            while let Some(effect) = self.effects.pop_front() {
                inputs.extend(self.carry_out(effect));
            }
            if inputs.is_empty() {
                return;
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Receive { conn, buffer } => {
                self.lent.insert(conn, buffer);
                None
            }
            Effect::Send { conn, gather } => {
                let sent = self.sent.entry(conn).or_default();
                gather.iter().for_each(|piece| sent.extend_from_slice(piece));
                Some(Input::Sent { conn, gather, outcome: Ok(()) })
            }
            Effect::Close { conn, .. } => Some(Input::Closed { conn }),
            Effect::Disk(op) => Some(Input::Disk(self.disk(op))),
            _ => None,
        }
    }

    /// A disk that has always just succeeded.
    fn disk(&mut self, op: DiskOp) -> DiskDone {
        match op {
            DiskOp::Prepare { ticket, segment, octets, .. } => {
                if let Some(files) = &mut self.files {
                    files.insert(segment, vec![0; octets as usize]);
                }
                DiskDone::Prepared { ticket, outcome: Ok(()) }
            }
            DiskOp::Commit { ticket, segment, at, gather, .. } => {
                if let Some(file) = self.files.as_mut().and_then(|files| files.get_mut(&segment)) {
                    let mut at = at as usize;
                    for piece in gather.iter() {
                        file[at..at + piece.len()].copy_from_slice(piece);
                        at += piece.len();
                    }
                }
                DiskDone::Committed { ticket, gather, outcome: Ok(()) }
            }
            DiskOp::Read { ticket, segment, at, len, mut buffer, .. } => {
                match self.files.as_ref().map(|files| files.get(&segment).unwrap()) {
                    Some(file) => buffer.extend_from_slice(&file[at as usize..at as usize + len as usize]),
                    None => buffer.resize(len as usize, 0),
                }
                DiskDone::Read { ticket, buffer, outcome: Ok(()) }
            }
            DiskOp::Remove { ticket, segment, .. } => {
                self.files.as_mut().map(|files| files.remove(&segment));
                DiskDone::Removed { ticket, outcome: Ok(()) }
            }
            DiskOp::Recycle { ticket, old, new, .. } => {
                if let Some(files) = &mut self.files {
                    let file = files.remove(&old).unwrap();
                    files.insert(new, file);
                }
                DiskDone::Recycled { ticket, outcome: Ok(()) }
            }
            DiskOp::ReadHint { ticket, .. } => {
                DiskDone::Read { ticket, buffer: BytesMut::new(), outcome: Err(DiskFault::Missing) }
            }
            DiskOp::WriteHint { ticket, .. } => DiskDone::HintWritten { ticket, outcome: Ok(()) },
            DiskOp::Lend { ticket, segment, at, len, .. } => {
                let file = self.files.as_ref().and_then(|files| files.get(&segment)).unwrap();
                let end = file.len().min(at as usize + len as usize);
                DiskDone::Lent { ticket, page: Bytes::copy_from_slice(&file[at as usize..end]), outcome: Ok(()) }
            }
        }
    }

    fn sent(&mut self, conn: ConnId) -> Vec<u8> {
        self.sent.remove(&conn).unwrap_or_default()
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { tick: self.now.tick + time, wall: self.now.wall + time };
    }
}

fn turn(core: &mut Core, now: Now, inputs: &mut Vec<Input>, effects: &mut VecDeque<Effect>) {
    for input in inputs.drain(..) {
        core.handle(now, input);
    }
    core.turn(now);
    while let Some(effect) = core.effect() {
        effects.push_back(effect);
    }
}

/// The same, by a name that callgrind finds: a function of its own whatever the compiler would like.
#[inline(never)]
fn turn_counted(core: &mut Core, now: Now, inputs: &mut Vec<Input>, effects: &mut VecDeque<Effect>) {
    turn(core, now, inputs, effects);
}

/// A MESSAGE as an IMS core sends it: 14 headers, 1 KiB of text.
fn message(number: u64, user: &str) -> String {
    let text = "all work and no play makes jack a dull boy. ".repeat(24);
    format!(
        "MESSAGE sip:{user}@example.org SIP/2.0\r\n\
         Via: SIP/2.0/TCP 10.0.0.1:5060;branch=z9hG4bK-524287-1---{number:016x};rport\r\n\
         Route: <sip:im.example.org:5070;lr>\r\n\
         Max-Forwards: 66\r\n\
         From: \"Alice\" <sip:alice@example.org>;tag=8f1d2c77\r\n\
         To: <sip:{user}@example.org>\r\n\
         Call-ID: 3c26700a-4b1d-4f6e-9a57-{number:016x}\r\n\
         CSeq: 1 MESSAGE\r\n\
         P-Asserted-Identity: <sip:alice@example.org>, <tel:+15141234567>\r\n\
         Accept-Contact: *;+g.oma.sip-im\r\n\
         User-Agent: IM-client/OMA1.0 Acme/3.1\r\n\
         Date: Thu, 21 Feb 2002 13:02:03 GMT\r\n\
         Content-Type: text/plain\r\n\
         Content-Length: {TEXT}\r\n\r\n{}",
        &text[..TEXT]
    )
}

fn publish(number: u64, user: &str) -> String {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"pres:{user}@example.org\">\r\n\
         <tuple id=\"im\"><status><basic>open</basic></status><contact>sip:{user}@example.org</contact></tuple>\r\n\
         </presence>\r\n"
    );
    format!(
        "PUBLISH sip:{user}@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.1:5060;branch=z9hG4bKpub{number:016x}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@example.org>;tag=p1\r\nTo: <sip:{user}@example.org>\r\n\
         Call-ID: pub-{number}@10.0.0.1\r\nCSeq: 1 PUBLISH\r\nP-Asserted-Identity: <sip:{user}@example.org>\r\n\
         Event: presence\r\nExpires: 3600\r\nContent-Type: application/pidf+xml\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The header line `name` of a SIP message, name and all.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.split("\r\n").find(|line| line.len() > name.len() && line.starts_with(name)).unwrap()
}

/// An answer of the client to a request of ours.
fn answer(request: &str, extra: &str, body: &str) -> String {
    let to = line(request, "To: ");
    let tag = if to.contains(";tag=") { "" } else { ";tag=c1" };
    format!(
        "SIP/2.0 200 OK\r\n{}\r\n{}\r\n{to}{tag}\r\n{}\r\n{}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        line(request, "Via: "),
        line(request, "From: "),
        line(request, "Call-ID: "),
        line(request, "CSeq: "),
        body.len()
    )
}

/// From the octets of one read to 202s, 128 messages at a time, for 8,192 users.
fn deposit(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    group.throughput(Throughput::Elements(BATCH));
    let mut rig = Rig::new(false);
    let mut number = 0u64;
    group.bench_function("deposit: 128 MESSAGEs of 1 KiB", |b| {
        b.iter_custom(|rounds| {
            rig.spent = Duration::ZERO;
            (0..rounds).for_each(|_| one_deposit(&mut rig, &mut number));
            rig.spent
        });
    });
    group.finish();
}

fn one_deposit(rig: &mut Rig, number: &mut u64) {
    let mut read = Vec::new();
    for _ in 0..BATCH {
        *number += 1;
        let user = format!("user{}", number.wrapping_mul(0x9e37_79b9) % 8_192);
        read.extend_from_slice(message(*number, &user).as_bytes());
    }
    rig.receive(SIGNALLING, &read);
    // 128,000 messages a second.
    rig.pass(Duration::from_millis(1));
    let sent = rig.sent(SIGNALLING);
    assert_eq!(memchr::memmem::find_iter(&sent, b"SIP/2.0 202 Accepted\r\n").count() as u64, BATCH);
}

/// From their second to their tombstones durable: 16,384 messages of 8,192 users, all due at once.
fn expire(c: &mut Criterion) {
    const DUE: u64 = 16_384;
    let mut group = c.benchmark_group("turn");
    group.throughput(Throughput::Elements(DUE));
    group.sample_size(20);
    let mut rig = Rig::new(false);
    let mut number = 1u64 << 50;
    group.bench_function("expiry: 16,384 messages of 8,192 users", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let before = rig.core.counts().expired;
                for _ in 0..DUE / BATCH {
                    let mut read = Vec::new();
                    for _ in 0..BATCH {
                        number += 1;
                        let user = format!("user{}", number % 8_192);
                        let mortal = message(number, &user).replace("Max-F", "Expires: 60\r\nMax-F");
                        read.extend_from_slice(mortal.as_bytes());
                    }
                    rig.receive(SIGNALLING, &read);
                    rig.sent(SIGNALLING);
                }
                rig.spent = Duration::ZERO;
                rig.pass(Duration::from_secs(61));
                while rig.core.deadline().is_some_and(|due| due <= rig.now.tick) {
                    rig.step(Vec::new());
                }
                spent += rig.spent;
                assert_eq!(rig.core.counts().expired - before, DUE);
                assert_eq!(rig.core.users(), 0);
            }
            spent
        });
    });
    group.finish();
}

/// The disk of memory forgets what was pushed: the log gives its space back later than a bench can wait.
fn forget(rig: &mut Rig) {
    let newest = rig.files.as_ref().and_then(|files| files.keys().map(|segment| segment.0).max());
    if let Some(files) = &mut rig.files {
        files.retain(|segment, _| Some(segment.0 + 3) > newest);
    }
}

/// From PUBLISH to BYE: 1,000 messages of 1 KiB, each answered 200 by the client.
fn push(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    group.throughput(Throughput::Elements(BACKLOG));
    group.sample_size(20);
    let mut rig = Rig::new(true);
    let mut number = 1u64 << 40;
    let mut media = SIGNALLING;
    group.bench_function("push: 1,000 messages of 1 KiB", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let user = one_backlog(&mut rig, &mut number);
                rig.spent = Duration::ZERO;
                media = ConnId(media.0 + 2);
                one_push(&mut rig, number, &user, media);
                spent += rig.spent;
                forget(&mut rig);
            }
            spent
        });
    });
    group.finish();
}

/// A user for whom 1,000 messages wait.
fn one_backlog(rig: &mut Rig, number: &mut u64) -> String {
    *number += BACKLOG + 1;
    let user = format!("user{}", (*number / BACKLOG) % 8_192);
    let mut read = Vec::new();
    for n in 0..BACKLOG {
        read.extend_from_slice(message(*number + n, &user).as_bytes());
    }
    rig.receive(SIGNALLING, &read);
    rig.sent(SIGNALLING);
    rig.pass(Duration::from_secs(10));
    user
}

fn one_push(rig: &mut Rig, number: u64, user: &str, media: ConnId) {
    rig.receive(SIGNALLING, publish(number, user).as_bytes());
    let text = String::from_utf8(rig.sent(SIGNALLING)).unwrap();
    let invite = &text[text.find("INVITE sip:").unwrap()..];
    let path = line(invite, "a=path:")["a=path:".len()..].to_owned();
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
         a=path:{CLIENT_PATH}\r\na=accept-types:*\r\na=setup:active\r\na=recvonly\r\n"
    );
    let extra = format!("Contact: <sip:{user}@10.0.0.1:5060>\r\nContent-Type: application/sdp\r\n");
    rig.receive(SIGNALLING, answer(invite, &extra, &sdp).as_bytes());
    rig.accept(media, Service::Msrp);
    let bind = format!(
        "MSRP a786hjs2 SEND\r\nTo-Path: {path}\r\nFrom-Path: {CLIENT_PATH}\r\nMessage-ID: 87652491\r\n\
         Byte-Range: 1-0/0\r\n-------a786hjs2$\r\n"
    );
    rig.receive(media, bind.as_bytes());

    let (mut cut, mut whole) = (Cut::new(8192), 0u64);
    let (mut tid, mut rest) = (Vec::new(), Vec::new());
    let mut replies = Vec::new();
    while whole < BACKLOG {
        rest.append(&mut rig.sent(media));
        replies.clear();
        let mut at = 0;
        loop {
            let ahead = &rest[at..];
            match cut.next(ahead).unwrap() {
                Piece::More => break,
                Piece::Request { head, len } => {
                    tid = head.tid.of(ahead).to_vec();
                    at += len;
                }
                Piece::Response { len, .. } | Piece::Data { len } => at += len,
                Piece::End { len, .. } => {
                    write::response(&mut replies, &tid, 200, path.as_bytes(), CLIENT_PATH.as_bytes());
                    whole += 1;
                    at += len;
                }
            }
        }
        rest.drain(..at);
        assert!(!replies.is_empty(), "{whole} came, and no more follow");
        rig.receive(media, &replies);
    }
    let text = String::from_utf8(rig.sent(SIGNALLING)).unwrap();
    let bye = &text[text.find("BYE sip:").unwrap()..];
    rig.receive(SIGNALLING, answer(bye, "", "").as_bytes());
    assert_eq!(rig.core.pushes(), 0);
    rig.lent.remove(&media);
    rig.step(vec![Input::Closed { conn: media }]);
}

criterion_group!(benches, deposit, push, expire);

/// Rounds before counting begins: tables have grown by then, and slabs are warm.
const WARM: u64 = 8;

/// Does `work` a fixed number of times and says how many messages were counted. None for work that nobody knows.
fn count(work: &str) -> Option<u64> {
    let mut number = 1u64 << 40;
    match work {
        "deposit" => {
            let mut rig = Rig::new(false);
            for round in 0..WARM + 32 {
                rig.counts = round >= WARM;
                one_deposit(&mut rig, &mut number);
            }
            Some(32 * BATCH)
        }
        "push" => {
            let mut rig = Rig::new(true);
            for round in 0..WARM + 8 {
                rig.counts = false;
                let user = one_backlog(&mut rig, &mut number);
                rig.counts = round >= WARM;
                one_push(&mut rig, number, &user, ConnId(SIGNALLING.0 + 2 * (round + 1)));
            }
            Some(8 * BACKLOG)
        }
        _ => None,
    }
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
