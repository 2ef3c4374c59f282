//! A first look at a running daemon: deposits over 16 TCP connections, then a push to every user at once. Not the harness: it
//! finds blunders (a read per message, a window that does not grow), no figures to publish. Standard library only:
//!
//! ```sh
//! rustc -O perf/probe.rs -o target/probe
//! taskset -c 0 target/release/deferd run --config deferd.toml &     # domains = ["example.org"], cores = 1
//! taskset -c 1 target/probe 127.0.0.1:5060 100 1000 $!              # daemon, users, messages each, its process
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const CONNECTIONS: u64 = 16;
/// MESSAGEs unanswered on one connection.
const WINDOW: u64 = 256;
const TEXT: usize = 1024;

fn main() {
    let mut args = std::env::args().skip(1);
    let sip: SocketAddr = args.next().expect("daemon").parse().expect("address");
    let users: u64 = args.next().map_or(100, |arg| arg.parse().expect("users"));
    let each: u64 = args.next().map_or(1000, |arg| arg.parse().expect("messages"));

    let pid = args.next();
    let begun = Begun::now(pid.as_deref());
    let senders: Vec<_> =
        (0..CONNECTIONS).map(|number| std::thread::spawn(move || deposit(sip, number, users, each))).collect();
    let mut longest = 0;
    for sender in senders {
        longest = longest.max(sender.join().expect("a sender that ends"));
    }
    begun.report("deposit", users * each);
    println!("         slowest window of {WINDOW}: {longest} us");

    let begun = Begun::now(pid.as_deref());
    let (got, reads) = push(sip, users, users * each);
    begun.report("push", got);
    println!("         {:.1} messages a read of the clients", got as f64 / reads as f64);
}

/// When something began, and what the daemon had used of its processor by then: that figure stands on a busy machine, too.
struct Begun<'a> {
    at: Instant,
    pid: Option<&'a str>,
    ticks: u64,
}

impl<'a> Begun<'a> {
    fn now(pid: Option<&'a str>) -> Begun<'a> {
        Begun { at: Instant::now(), pid, ticks: pid.map_or(0, ticks) }
    }

    fn report(&self, what: &str, messages: u64) {
        let took = self.at.elapsed().as_secs_f64();
        println!("{what:8} {messages} messages in {took:.3} s: {:.0} a second", messages as f64 / took);
        if let Some(pid) = self.pid {
            let used_us = (ticks(pid) - self.ticks) as f64 * 10_000.0;
            println!("         {:.2} us of the daemon's processor a message", used_us / messages as f64);
        }
    }
}

/// User and system time of a process, in hundredths of a second.
fn ticks(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the daemon's process");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

fn message(number: u64, user: u64) -> String {
    let text = "all work and no play makes jack a dull boy. ".repeat(24);
    format!(
        "MESSAGE sip:user{user}@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5099;branch=z9hG4bK-{number:016x};rport\r\n\
         Max-Forwards: 66\r\nFrom: \"Alice\" <sip:alice@example.org>;tag=8f1d2c77\r\nTo: <sip:user{user}@example.org>\r\n\
         Call-ID: 3c26700a-{number:016x}\r\nCSeq: 1 MESSAGE\r\nP-Asserted-Identity: <sip:alice@example.org>\r\n\
         User-Agent: probe\r\nContent-Type: text/plain\r\nContent-Length: {TEXT}\r\n\r\n{}",
        &text[..TEXT]
    )
}

/// Returns the longest time a window took, in microseconds.
fn deposit(sip: SocketAddr, number: u64, users: u64, each: u64) -> u128 {
    let mut stream = TcpStream::connect(sip).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let count = users * each / CONNECTIONS + u64::from(number < users * each % CONNECTIONS);
    let (mut sent, mut answered, mut longest) = (0, 0, 0);
    let (mut out, mut buffer, mut kept) = (Vec::new(), vec![0; 256 * 1024], 0);
    let salt = std::process::id() as u64;
    while answered < count {
        let begun = Instant::now();
        out.clear();
        while sent < count && sent - answered < WINDOW {
            let n = number + sent * CONNECTIONS;
            out.extend_from_slice(message(salt << 32 | n, n % users).as_bytes());
            sent += 1;
        }
        stream.write_all(&out).expect("write");
        // Half a window keeps the other half on its way.
        let until = if sent == count { count } else { answered + WINDOW / 2 };
        while answered < until {
            let read = stream.read(&mut buffer[kept..]).expect("read");
            assert!(read > 0, "the daemon closed the connection");
            let end = kept + read;
            let mut at = 0;
            while let Some(len) = find(&buffer[at..end], b"\r\n\r\n") {
                assert!(buffer[at..].starts_with(b"SIP/2.0 202"), "{}", String::from_utf8_lossy(&buffer[at..at + len]));
                answered += 1;
                at += len + 4;
            }
            buffer.copy_within(at..end, 0);
            kept = end - at;
        }
        longest = longest.max(begun.elapsed().as_micros());
    }
    longest
}

/// All users come back at once. Returns how many messages came, and in how many reads.
fn push(sip: SocketAddr, users: u64, total: u64) -> (u64, u64) {
    let stream = TcpStream::connect(sip).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let (got, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut writer = stream.try_clone().expect("clone");
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
                entity=\"pres:u@example.org\">\r\n<tuple id=\"im\"><status><basic>open</basic></status></tuple>\r\n</presence>\r\n";
    let mut out = String::new();
    for user in 0..users {
        out += &format!(
            "PUBLISH sip:user{user}@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5099;branch=z9hG4bKpub{user}-{}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:user{user}@example.org>;tag=p1\r\nTo: <sip:user{user}@example.org>\r\n\
             Call-ID: pub-{user}\r\nCSeq: 1 PUBLISH\r\nP-Asserted-Identity: <sip:user{user}@example.org>\r\nEvent: presence\r\n\
             Expires: 3600\r\nContent-Type: application/pidf+xml\r\nContent-Length: {}\r\n\r\n{body}",
            std::process::id(),
            body.len()
        );
    }
    writer.write_all(out.as_bytes()).expect("write");
    let mut byes = 0;
    let (mut reader, mut buffer, mut chunk) = (stream, Vec::new(), vec![0; 64 * 1024]);
    while byes < users {
        let read = reader.read(&mut chunk).expect("read");
        assert!(read > 0, "the daemon closed the connection");
        buffer.extend_from_slice(&chunk[..read]);
        while let Some(head) = find(&buffer, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
            let len: usize = line(&text, "Content-Length: ").parse().expect("a length");
            if buffer.len() < head + 4 + len {
                break;
            }
            let sdp = String::from_utf8_lossy(&buffer[head + 4..head + 4 + len]).into_owned();
            buffer.drain(..head + 4 + len);
            if text.starts_with("INVITE ") {
                let path = line(&sdp, "a=path:").to_owned();
                let answer = format!(
                    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
                     a=path:msrp://127.0.0.1:9/c1;tcp\r\na=accept-types:*\r\na=setup:active\r\na=recvonly\r\n"
                );
                let extra = "Contact: <sip:u@127.0.0.1:5099>\r\nContent-Type: application/sdp\r\n";
                writer.write_all(respond(&text, extra, &answer).as_bytes()).expect("write");
                let (got, reads) = (got.clone(), reads.clone());
                std::thread::spawn(move || client(&path, &got, &reads));
            } else if text.starts_with("BYE ") {
                byes += 1;
                writer.write_all(respond(&text, "", "").as_bytes()).expect("write");
            }
        }
    }
    assert_eq!(got.load(Ordering::Relaxed), total, "every message once");
    (total, reads.load(Ordering::Relaxed))
}

fn respond(request: &str, extra: &str, body: &str) -> String {
    let to = line(request, "To: ");
    let tag = if to.contains(";tag=") { "" } else { ";tag=c1" };
    format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        line(request, "Via: "),
        line(request, "From: "),
        line(request, "Call-ID: "),
        line(request, "CSeq: "),
        body.len()
    )
}

/// Takes everything and answers each SEND with 200.
fn client(path: &str, got: &AtomicU64, reads: &AtomicU64) {
    let host = path.strip_prefix("msrp://").and_then(|rest| rest.split('/').next()).expect("a path");
    let mut stream = TcpStream::connect(host).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let ours = "msrp://127.0.0.1:9/c1;tcp";
    let bind = format!(
        "MSRP a786hjs2 SEND\r\nTo-Path: {path}\r\nFrom-Path: {ours}\r\nMessage-ID: 87652491\r\nByte-Range: 1-0/0\r\n-------a786hjs2$\r\n"
    );
    stream.write_all(bind.as_bytes()).expect("write");
    let (mut buffer, mut have, mut out) = (vec![0; 512 * 1024], 0, Vec::new());
    loop {
        let Ok(read @ 1..) = stream.read(&mut buffer[have..]) else { return };
        have += read;
        reads.fetch_add(1, Ordering::Relaxed);
        out.clear();
        let (mut at, mut whole) = (0, 0);
        while let Some(frame) = frame(&buffer[at..have]) {
            let text = &buffer[at..at + frame.head];
            if frame.is_send {
                let tid = text[5..].split(|octet| *octet == b' ').next().expect("a transaction id");
                for part in [
                    b"MSRP ",
                    tid,
                    b" 200 OK\r\nTo-Path: ",
                    path.as_bytes(),
                    b"\r\nFrom-Path: ",
                    ours.as_bytes(),
                    b"\r\n-------",
                    tid,
                    b"$\r\n",
                ] {
                    out.extend_from_slice(part);
                }
                whole += u64::from(frame.has_body);
            }
            at += frame.len;
        }
        buffer.copy_within(at..have, 0);
        have -= at;
        if stream.write_all(&out).is_err() {
            return;
        }
        got.fetch_add(whole, Ordering::Relaxed);
    }
}

struct Frame {
    head: usize,
    len: usize,
    is_send: bool,
    has_body: bool,
}

/// One whole frame at the start. Its body is as long as Byte-Range says.
fn frame(octets: &[u8]) -> Option<Frame> {
    let first = find(octets, b"\r\n")?;
    let is_send = octets[..first].ends_with(b" SEND");
    let tid = octets[5..first].split(|octet| *octet == b' ').next()?.len();
    let end_line = 7 + tid + 1 + 2;
    // Either a blank line or the end-line ends the head.
    let mut at = first + 2;
    let mut body = 0;
    loop {
        let rest = &octets[at..];
        let len = find(rest, b"\r\n")?;
        let line = &rest[..len];
        if line.starts_with(b"-------") {
            return Some(Frame { head: at, len: at + end_line, is_send, has_body: false });
        }
        if line.is_empty() {
            let len = at + 2 + body + 2 + end_line;
            return (octets.len() >= len).then_some(Frame { head: at, len, is_send, has_body: true });
        }
        if let Some(range) = line.strip_prefix(b"Byte-Range: ") {
            let range = std::str::from_utf8(range).ok()?;
            let (start, rest) = range.split_once('-')?;
            let end = rest.split('/').next()?;
            body = end.parse::<usize>().expect("a range with an end") + 1 - start.parse::<usize>().expect("a start");
        }
        at += len + 2;
    }
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.split("\r\n").find_map(|line| line.strip_prefix(name)).unwrap_or_default()
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += octets[at..].iter().position(|octet| *octet == what[0])?;
        if octets[at..].len() < what.len() {
            return None;
        }
        if octets[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
}
