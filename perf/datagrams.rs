//! Deposits over UDP: as [`crate::deposit`] does them over TCP, and each sent again as RFC 3261 17.1.2.2 says until it is answered.
//!
//! Knows datagrams and timer E. A user's messages may arrive in another order than they were sent.

use crate::deposit::{Pace, Plan, Share, Shared, Turn, said, window};
use crate::outcome::Failure;
use crate::sip::{Answers, Template, message};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Timer E's first value (T1), and its highest (T2).
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// A request in flight.
#[derive(Clone, Copy)]
struct Flight {
    index: u32,
    due_ns: u64,
    again_ns: u64,
    timer: Duration,
}

struct Connection {
    socket: UdpSocket,
    turn: Turn,
    sent: u32,
    total: u32,
    /// Unordered, at most the window.
    flights: Vec<Flight>,
}

/// One thread's part of a plan.
pub(crate) fn run(plan: &Plan, shared: &Shared, number: usize, threads: usize) -> Result<Share, Failure> {
    let fail = |error: std::io::Error| Failure(format!("SIP over UDP to {}: {error}; is the daemon up?", plan.to));
    let template = message("UDP", plan.size, plan.life_s);
    let window = window(plan, template.len());
    let mut connections = Vec::new();
    for connection in (number..plan.connections).step_by(threads) {
        let turn = Turn::new(plan, connection);
        if turn.total() == 0 {
            continue;
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fail)?;
        socket.connect(plan.to).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        connections.push(Connection { socket, turn, sent: 0, total: turn.total(), flights: Vec::new() });
    }
    let mut share = Share::new(shared.began);
    let mut answers = Answers::default();
    let (mut octets, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let per_second = match plan.pace {
        Pace::Peak => f64::INFINITY,
        Pace::Rate(rate) => rate / plan.connections as f64,
    };
    let until = plan.at_most.map_or(u64::MAX, |most| most.as_nanos() as u64);
    loop {
        let mut moved = false;
        let mut open = 0;
        for connection in &mut connections {
            let now_ns = shared.began.elapsed().as_nanos() as u64;
            if now_ns >= until {
                connection.total = connection.sent;
            }
            let due = (now_ns as f64 / 1e9 * per_second).min(f64::from(connection.total)) as u32;
            while connection.sent < due && connection.flights.len() < window {
                let index = connection.sent;
                let due_ns = match plan.pace {
                    Pace::Peak => now_ns,
                    Pace::Rate(_) => (f64::from(index) * 1e9 / per_second) as u64,
                };
                let again_ns = now_ns + T1.as_nanos() as u64;
                send(plan, &template, connection, index, &mut octets).map_err(fail)?;
                connection.flights.push(Flight { index, due_ns, again_ns, timer: T1 });
                connection.sent += 1;
                moved = true;
            }
            let answered = receive(connection, &mut answers, &mut buffer, &mut share, shared)?;
            moved |= answered > 0;
            shared.answered.fetch_add(answered, Ordering::Relaxed);
            for at in 0..connection.flights.len() {
                let flight = connection.flights[at];
                if flight.again_ns <= now_ns {
                    send(plan, &template, connection, flight.index, &mut octets).map_err(fail)?;
                    let timer = (flight.timer * 2).min(T2);
                    connection.flights[at] = Flight { again_ns: now_ns + timer.as_nanos() as u64, timer, ..flight };
                }
            }
            open += connection.flights.len() + (connection.total - connection.sent) as usize;
        }
        if open == 0 {
            share.ended = Instant::now();
            return Ok(share);
        }
        if shared.cancelled.load(Ordering::Relaxed) {
            return Err(Failure(format!(
                "{open} MESSAGEs over UDP stay without an answer; look at the daemon's log and disk"
            )));
        }
        if !moved {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// A datagram that the socket has no room for is lost, as any may be: timer E sends it again.
fn send(plan: &Plan, template: &Template, to: &Connection, index: u32, octets: &mut Vec<u8>) -> std::io::Result<()> {
    let (user, seq) = to.turn.at(index);
    octets.clear();
    template.write(octets, plan.first_user + user, plan.first_seq + seq, index);
    match to.socket.send(octets) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// Reads what has come. An answer to nothing in flight is one to a repetition: no more is owed to it.
fn receive(
    from: &mut Connection,
    answers: &mut Answers,
    buffer: &mut [u8],
    share: &mut Share,
    shared: &Shared,
) -> Result<u64, Failure> {
    let mut answered = 0;
    loop {
        let octets = match from.socket.recv(buffer) {
            Ok(len) => &buffer[..len],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answered),
            Err(error) => return Err(Failure(format!("SIP over UDP: {error}; has the daemon ended?"))),
        };
        let Ok(Some(answer)) = answers.next(octets) else { return Err(Failure(format!("no SIP: {}", said(octets)))) };
        let place = from.flights.iter().position(|flight| flight.index == answer.index);
        if let Some(place) = place.filter(|_| answer.status >= 200) {
            let flight = from.flights.swap_remove(place);
            let now_ns = shared.began.elapsed().as_nanos() as u64;
            share.answered(answer.status, now_ns.saturating_sub(flight.due_ns));
            answered += 1;
        }
    }
}
