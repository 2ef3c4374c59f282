//! The operator's HTTP over real sockets: what is answered, and what a client can not do to it.

use super::*;
use crate::base::clock::Tick;
use crate::engine::meter::{Meter, Publisher, Reading};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// A daemon of two cores that exist on paper: their meters are the test's to write.
struct Served {
    addr: SocketAddr,
    health: Arc<Health>,
    meters: Vec<Arc<Meter>>,
    mail: Arc<Mail>,
    clock: Clock,
}

fn served() -> Served {
    let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = bound.addr();
    let meters = vec![Meter::new(), Meter::new()];
    let health = Health::new(meters.clone());
    let (clock, mail) = (Clock::start(), Mail::new(2, 16, 16));
    let admin = Admin::new(health.clone(), clock, mail.clone(), 2, "im.example.org");
    admin.start(bound.listen().unwrap()).unwrap();
    Served { addr, health, meters, mail, clock }
}

/// One exchange, as its status line, its head and its body.
fn ask(addr: SocketAddr, octets: &[u8]) -> (String, String, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(octets).unwrap();
    let mut answer = Vec::new();
    // A refusal may be followed by a reset for what was not read.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    (status.to_owned(), head.to_ascii_lowercase(), body.to_owned())
}

fn get(addr: SocketAddr, path: &str) -> (String, String, String) {
    ask(addr, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
}

#[test]
fn every_path_has_its_answer_and_its_type() {
    let served = served();
    served.health.ready(served.clock.now().tick);
    let reading = Reading { messages_accepted: 42, ..Reading::default() };
    Publisher::new(served.meters[1].clone()).publish(served.clock.now().tick, &reading);

    let (status, head, body) = get(served.addr, "/metrics?x=y");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("deferd_messages_accepted_total{core=\"1\"} 42\n") && body.ends_with("# EOF\n"), "{body}");

    let (status, head, body) = get(served.addr, "/");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(head.contains("text/html") && head.contains("default-src 'none'") && head.contains("no-store"), "{head}");
    assert!(body.starts_with("<!DOCTYPE html>") && body.contains("im.example.org"), "{body}");

    assert_eq!(get(served.addr, "/healthz").2, "ok: ready\n");
    assert_eq!(get(served.addr, "/readyz").2, "ready\n");
    assert_eq!(get(served.addr, "/etc/passwd").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn only_get_and_head_are_served() {
    let served = served();
    let (status, head, _) = ask(served.addr, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
    assert!(head.contains("allow: get, head"), "{head}");
    let (status, _, body) = ask(served.addr, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
    assert_eq!(ask(served.addr, b"DELETE /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn probes_follow_the_daemons_life() {
    let served = served();
    assert_eq!(get(served.addr, "/readyz").0, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(get(served.addr, "/readyz").2, "starting\n");
    assert_eq!(get(served.addr, "/healthz").2, "ok: starting\n");
    served.health.ready(served.clock.now().tick);
    assert_eq!(get(served.addr, "/readyz").0, "HTTP/1.1 200 OK");
    served.health.stopping();
    assert_eq!(get(served.addr, "/readyz").0, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(get(served.addr, "/healthz").2, "ok: stopping\n");
}

#[test]
fn a_core_that_hangs_is_named() {
    let served = served();
    served.health.ready(served.clock.now().tick);
    // The first core has turned so far in the future that it is well for the rest of this test; the second never turns.
    Publisher::new(served.meters[0].clone()).publish(Tick(u64::MAX / 2), &Reading::default());
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let (status, _, body) = get(served.addr, "/healthz");
        if status == "HTTP/1.1 503 Service Unavailable" {
            assert!(body.starts_with("core 1 has not turned for 5.") && body.lines().count() == 1, "{body}");
            break;
        }
        assert!(Instant::now() < until, "{status} {body}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn a_sleeping_core_is_rung() {
    use std::sync::atomic::{AtomicBool, Ordering};
    struct Rung(AtomicBool);
    impl std::task::Wake for Rung {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let served = served();
    let rung = Arc::new(Rung(AtomicBool::new(false)));
    let door = served.mail.door(CoreId(1)).unwrap();
    door.bell.install(std::task::Waker::from(rung.clone()));
    door.bell.lie_down();
    let until = Instant::now() + Duration::from_secs(10);
    while !rung.0.load(Ordering::SeqCst) {
        assert!(Instant::now() < until, "nobody rang");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn malformed_and_oversized_requests_are_refused() {
    let served = served();
    assert_eq!(ask(served.addr, b"\x16\x03\x01 hello\r\n\r\n").0, "HTTP/1.1 400 Bad Request");
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(HEAD_OCTETS));
    let (status, ..) = ask(served.addr, long.as_bytes());
    assert!(status.starts_with("HTTP/1.1 4"), "{status}");
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
    assert!(ask(served.addr, many.as_bytes()).0.starts_with("HTTP/1.1 431"));
    assert_eq!(get(served.addr, "/readyz").2, "starting\n");
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out_for_longer_than_their_patience() {
    let served = served();
    let silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| TcpStream::connect(served.addr).unwrap()).collect();
    let began = Instant::now();
    assert_eq!(get(served.addr, "/healthz").0, "HTTP/1.1 200 OK");
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(8), "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn an_occupied_address_is_a_plain_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let fault = Bound::bind(taken.local_addr().unwrap()).unwrap_err();
    assert!(fault.to_string().contains("another process has this port"), "{fault}");
    let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_ne!(bound.addr().port(), 0);
    assert!(TcpStream::connect(bound.addr()).is_err(), "nobody can connect before the daemon is ready");
}
