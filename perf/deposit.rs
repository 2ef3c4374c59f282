//! The deposit generator: SIP MESSAGEs over TCP, pipelined over many connections, as fast as they are answered or at a given rate.
//!
//! Knows who gets which message and when each was due. Whether a rate is held does not depend on the answers (open loop), and a
//! latency counts from when its message was *due*: a stall shows in every message that it delayed. UDP is in [`crate::datagrams`].

use crate::outcome::{Failure, Progress, Transport};
use crate::pin;
use crate::poll::{Interest, Poll, sharpen_timers};
use crate::sip::{Answers, Template, message};
use hdrhistogram::Histogram;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// MESSAGEs unanswered on one connection of a closed loop: 64 connections hold 8,192, eight groups of a log that commits 1,024 at once.
pub const WINDOW: usize = 128;

/// Octets unanswered on all connections of a closed loop: half of what a core takes while its log commits (`limits.commit_octets`).
const WINDOW_OCTETS: usize = 16 << 20;

/// Without one answer for so long, a run is stuck.
pub const STALL: Duration = Duration::from_secs(20);

/// A point of a series each.
pub const SAMPLE: Duration = Duration::from_millis(100);

/// Octets read at once.
const READ: usize = 256 * 1024;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// A new one for each that was answered.
    Peak,
    /// So many a second, whatever the answers do.
    Rate(f64),
}

/// What is deposited.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The daemon, or what stands in for it.
    pub to: SocketAddr,
    pub transport: Transport,
    pub connections: usize,
    pub first_user: u32,
    pub users: u32,
    /// The number of each user's first message: two plans for the same daemon must not repeat one another.
    pub first_seq: u32,
    /// Messages for each user.
    pub each: u32,
    /// All users in turn, else user after user. Over TCP a user's messages stay on one connection, in order, either way.
    pub interleave: bool,
    /// Octets of text.
    pub size: usize,
    /// What their Expires says, if they have one.
    pub life_s: Option<u32>,
    pub pace: Pace,
    /// Nothing new is sent after so long, even when messages are left.
    pub at_most: Option<Duration>,
    /// Processors of the load; a thread on each.
    pub cpus: Vec<usize>,
    /// Threads are tied to them.
    pub pin: bool,
}

/// What became of a plan.
#[derive(Clone, Debug)]
pub struct Deposited {
    /// Messages answered 202.
    pub accepted: u64,
    /// Messages answered otherwise.
    pub refused: u64,
    /// The status of the first of those.
    pub first_refusal: Option<u16>,
    /// From the first octet sent to the last answer.
    pub seconds: f64,
    /// From when a message was due to its answer, microseconds.
    pub accept_us: Histogram<u64>,
    /// Accepted messages a second, over time.
    pub rate: Vec<(f64, f64)>,
}

impl Deposited {
    pub fn per_second(&self) -> f64 {
        self.accepted as f64 / self.seconds.max(1e-9)
    }
}

/// What the threads of a plan share.
pub(crate) struct Shared {
    pub(crate) began: Instant,
    pub(crate) answered: AtomicU64,
    pub(crate) cancelled: AtomicBool,
}

/// What one thread found.
pub(crate) struct Share {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) first_refusal: Option<u16>,
    pub(crate) accept_us: Histogram<u64>,
    pub(crate) ended: Instant,
}

impl Share {
    pub(crate) fn new(now: Instant) -> Share {
        Share { accepted: 0, refused: 0, first_refusal: None, accept_us: histogram(), ended: now }
    }

    pub(crate) fn answered(&mut self, status: u16, after_ns: u64) {
        if status == 202 {
            self.accepted += 1;
        } else {
            self.refused += 1;
            self.first_refusal.get_or_insert(status);
        }
        self.accept_us.saturating_record(after_ns / 1000);
    }
}

/// Microseconds up to two minutes, three digits.
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants that the crate accepts; a histogram that grows is the same one, slower.
    Histogram::new_with_bounds(1, 120_000_000, 3)
        .unwrap_or_else(|_| Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!()))
}

/// Carries a plan out.
///
/// # Errors
/// A connection that cannot be made or breaks, octets that are no SIP, no answer for [`STALL`].
pub fn run(plan: &Plan, progress: &dyn Progress) -> Result<Deposited, Failure> {
    let threads = plan.cpus.len().clamp(1, plan.connections.max(1));
    let shared = Shared { began: Instant::now(), answered: AtomicU64::new(0), cancelled: AtomicBool::new(false) };
    let mut rate = Vec::new();
    let shares: Vec<Result<Share, Failure>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let shared = &shared;
                scope.spawn(move || {
                    if plan.pin {
                        pin::pin(&plan.cpus[number % plan.cpus.len().max(1)..][..1]);
                    }
                    let share = match plan.transport {
                        Transport::Tcp => Worker::new(plan, shared, number, threads).and_then(Worker::run),
                        Transport::Udp => crate::datagrams::run(plan, shared, number, threads),
                    };
                    if share.is_err() {
                        shared.cancelled.store(true, Ordering::Relaxed);
                    }
                    share
                })
            })
            .collect();
        watch(&shared, progress, &mut rate, || workers.iter().all(|worker| worker.is_finished()));
        workers
            .into_iter()
            .map(|worker| {
                worker.join().unwrap_or_else(|_| Err(Failure("a thread of the load panicked: please report it".into())))
            })
            .collect()
    });
    let mut whole = Share::new(shared.began);
    for share in shares {
        let share = share?;
        whole.accepted += share.accepted;
        whole.refused += share.refused;
        whole.first_refusal = whole.first_refusal.or(share.first_refusal);
        whole.ended = whole.ended.max(share.ended);
        let _ = whole.accept_us.add(&share.accept_us);
    }
    Ok(Deposited {
        accepted: whole.accepted,
        refused: whole.refused,
        first_refusal: whole.first_refusal,
        seconds: (whole.ended - shared.began).as_secs_f64(),
        accept_us: whole.accept_us,
        rate,
    })
}

/// Samples the answers until the threads are done, or nothing has moved for [`STALL`].
fn watch(shared: &Shared, progress: &dyn Progress, rate: &mut Vec<(f64, f64)>, done: impl Fn() -> bool) {
    let (mut last, mut moved, mut sampled) = (0, Instant::now(), Instant::now());
    while !done() {
        thread::sleep(Duration::from_millis(5));
        if sampled.elapsed() < SAMPLE {
            continue;
        }
        let answered = shared.answered.load(Ordering::Relaxed);
        rate.push((shared.began.elapsed().as_secs_f64(), (answered - last) as f64 / sampled.elapsed().as_secs_f64()));
        sampled = Instant::now();
        progress.done(answered);
        if answered > last {
            (last, moved) = (answered, Instant::now());
        } else if moved.elapsed() > STALL {
            shared.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

/// Who gets the messages of one connection: the users whose number leaves this connection's remainder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    connection: u32,
    connections: u32,
    users: u32,
    each: u32,
    interleave: bool,
}

impl Turn {
    pub(crate) fn new(plan: &Plan, connection: usize) -> Turn {
        let (connection, connections) = (connection as u32, plan.connections as u32);
        let users = plan.users / connections + u32::from(connection < plan.users % connections);
        Turn { connection, connections, users, each: plan.each, interleave: plan.interleave }
    }

    /// Messages in all.
    pub(crate) fn total(&self) -> u32 {
        self.users.saturating_mul(self.each)
    }

    /// User and number of the `index`th message, both counted from the plan's first.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> (u32, u32) {
        let (user, seq) = if self.interleave {
            (index % self.users, index / self.users)
        } else {
            (index / self.each, index % self.each)
        };
        (self.connection + user * self.connections, seq)
    }
}

struct Connection {
    stream: TcpStream,
    turn: Turn,
    total: u32,
    sent: u32,
    answered: u32,
    /// Written to the socket in part.
    unsent: Vec<u8>,
    /// Read in part.
    unread: Vec<u8>,
    /// When the messages in flight were due, in ns since the beginning, by the low bits of their index; 0: not in flight.
    due: Vec<u64>,
    watched_for_room: bool,
}

struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    template: Template,
    poll: Poll,
    connections: Vec<Connection>,
    answers: Answers,
    /// Messages laid out once, whose digits change.
    batch: Vec<u8>,
    buffer: Vec<u8>,
    /// Messages unanswered on one connection of a closed loop.
    window: usize,
    share: Share,
    /// Messages of a given rate sent so far, and this thread's part of the rate.
    paced: u64,
    per_second: f64,
}

impl<'a> Worker<'a> {
    fn new(plan: &'a Plan, shared: &'a Shared, number: usize, threads: usize) -> Result<Worker<'a>, Failure> {
        let fail = |error: std::io::Error| Failure(format!("SIP to {}: {error}; is the daemon up?", plan.to));
        let poll = Poll::new().map_err(fail)?;
        let slots = match plan.pace {
            Pace::Peak => WINDOW.next_power_of_two(),
            // What a stall of two seconds leaves behind at this rate.
            Pace::Rate(rate) => {
                ((rate * 2.0) as usize / plan.connections.max(1)).clamp(1024, 1 << 17).next_power_of_two()
            }
        };
        let mut connections = Vec::new();
        for connection in (number..plan.connections).step_by(threads) {
            let turn = Turn::new(plan, connection);
            if turn.total() == 0 {
                continue;
            }
            let stream = TcpStream::connect(plan.to).map_err(fail)?;
            stream.set_nodelay(true).map_err(fail)?;
            stream.set_nonblocking(true).map_err(fail)?;
            poll.add(&stream, connections.len() as u64, Interest::Read).map_err(fail)?;
            connections.push(Connection {
                stream,
                turn,
                total: turn.total(),
                sent: 0,
                answered: 0,
                unsent: Vec::new(),
                unread: Vec::new(),
                due: vec![0; slots],
                watched_for_room: false,
            });
        }
        let template = message("TCP", plan.size, plan.life_s);
        let window = window(plan, template.len());
        let mut batch = Vec::new();
        (0..WINDOW).for_each(|_| template.write(&mut batch, 0, 0, 0));
        let per_second = match plan.pace {
            Pace::Peak => 0.0,
            Pace::Rate(rate) => rate * connections.len() as f64 / plan.connections as f64,
        };
        let (buffer, share) = (vec![0; READ], Share::new(shared.began));
        let answers = Answers::default();
        Ok(Worker {
            plan,
            shared,
            template,
            poll,
            connections,
            answers,
            batch,
            buffer,
            window,
            share,
            paced: 0,
            per_second,
        })
    }

    fn now_ns(&self) -> u64 {
        self.shared.began.elapsed().as_nanos() as u64
    }

    fn run(mut self) -> Result<Share, Failure> {
        sharpen_timers();
        let until = self.plan.at_most.map_or(u64::MAX, |most| most.as_nanos() as u64);
        let mut closed = false;
        if self.plan.pace == Pace::Peak {
            for at in 0..self.connections.len() {
                self.send_window(at)?;
            }
        }
        loop {
            if !closed && self.now_ns() >= until {
                // Nothing more is begun.
                closed = true;
                self.connections.iter_mut().for_each(|connection| connection.total = connection.sent);
            }
            let mut wait = Duration::from_millis(50);
            if self.per_second > 0.0 && !closed {
                wait = self.send_due()?;
            }
            if self.connections.iter().all(|connection| connection.answered == connection.total) {
                self.share.ended = Instant::now();
                return Ok(self.share);
            }
            if self.shared.cancelled.load(Ordering::Relaxed) {
                let open: u32 = self.connections.iter().map(|connection| connection.sent - connection.answered).sum();
                return Err(Failure(format!(
                    "{open} MESSAGEs have no answer after {} s without any; look at the daemon's log and disk",
                    STALL.as_secs()
                )));
            }
            let lost = |error| Failure(format!("epoll: {error}; this kernel is older than the daemon needs"));
            self.poll.wait(wait).map_err(lost)?;
            for report in 0..self.poll.len() {
                let Some(event) = self.poll.event(report) else { continue };
                let at = event.token as usize;
                if event.writable {
                    self.flush(at)?;
                }
                if event.readable {
                    self.read(at)?;
                }
                if self.per_second == 0.0 {
                    self.send_window(at)?;
                }
            }
        }
    }

    /// Fills the window of a connection, when half of it is free: answers come in groups, and so do writes.
    fn send_window(&mut self, at: usize) -> Result<(), Failure> {
        let connection = &self.connections[at];
        let open = (connection.sent - connection.answered) as usize;
        let left = (connection.total - connection.sent) as usize;
        let room = (self.window - open).min(left);
        if !connection.unsent.is_empty() || room == 0 || open > self.window / 2 {
            return Ok(());
        }
        let now = self.now_ns();
        self.send(at, room, |_| now)
    }

    /// Sends what is due by now, each connection's part in one write. Returns how long nothing is due.
    fn send_due(&mut self) -> Result<Duration, Failure> {
        let gap_ns = 1e9 / self.per_second;
        let due = (self.now_ns() as f64 / gap_ns) as u64;
        let count = self.connections.len() as u64;
        let fresh = due.saturating_sub(self.paced);
        // Message n of this thread goes to connection n mod count; here each connection takes its part of those due at once.
        for at in 0..self.connections.len() {
            let behind = (at as u64 + count - self.paced % count) % count;
            let mine = (fresh.saturating_sub(behind)).div_ceil(count);
            let first = self.paced + behind;
            let connection = &self.connections[at];
            let left = (connection.total - connection.sent) as u64;
            let room = (connection.due.len() as u64).saturating_sub(u64::from(connection.sent - connection.answered));
            // A connection that is that far behind is full: its messages are dropped from the schedule, and counted as refused.
            let take = mine.min(left).min(room);
            if mine.min(left) > room {
                self.share.refused += mine.min(left) - room;
                self.share.first_refusal.get_or_insert(0);
            }
            let mut done = 0;
            while done < take {
                let part = (take - done).min(WINDOW as u64);
                let begin = first + done * count;
                self.send(at, part as usize, |nth| ((begin + nth as u64 * count) as f64 * gap_ns) as u64 + 1)?;
                done += part;
            }
        }
        self.paced = self.paced.max(due);
        let next_ns = ((self.paced + 1) as f64 * gap_ns) as u64;
        // Below 50 us a wait costs more than it saves.
        Ok(Duration::from_nanos(next_ns.saturating_sub(self.now_ns())).max(Duration::from_micros(50)))
    }

    /// Writes the next `count` messages of a connection; `due` tells when each was.
    fn send(&mut self, at: usize, count: usize, due: impl Fn(usize) -> u64) -> Result<(), Failure> {
        let connection = &mut self.connections[at];
        let mask = connection.due.len() - 1;
        let octets = &mut self.batch[..count * self.template.len()];
        for (nth, written) in octets.chunks_exact_mut(self.template.len()).enumerate() {
            let index = connection.sent + nth as u32;
            let (user, seq) = connection.turn.at(index);
            self.template.patch(written, self.plan.first_user + user, self.plan.first_seq + seq, index);
            connection.due[index as usize & mask] = due(nth).max(1);
        }
        connection.sent += count as u32;
        if connection.unsent.is_empty() {
            let written = match connection.stream.write(octets) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(lost(error)),
            };
            connection.unsent.extend_from_slice(&octets[written..]);
        } else {
            connection.unsent.extend_from_slice(octets);
        }
        self.watch_for_room(at)
    }

    fn flush(&mut self, at: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[at];
        if !connection.unsent.is_empty() {
            match connection.stream.write(&connection.unsent) {
                Ok(written) => drop(connection.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(lost(error)),
            }
        }
        self.watch_for_room(at)
    }

    fn watch_for_room(&mut self, at: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[at];
        let wanted = !connection.unsent.is_empty();
        if wanted != connection.watched_for_room {
            connection.watched_for_room = wanted;
            let interest = if wanted { Interest::ReadWrite } else { Interest::Read };
            self.poll.change(&connection.stream, at as u64, interest).map_err(lost)?;
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[at];
        let kept = connection.unread.len();
        self.buffer[..kept].copy_from_slice(&connection.unread);
        connection.unread.clear();
        let read = match connection.stream.read(&mut self.buffer[kept..]) {
            Ok(0) => return Err(Failure("the daemon closed a SIP connection; its log says why".into())),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(lost(error)),
        };
        let octets = &self.buffer[..kept + read];
        let now = self.shared.began.elapsed().as_nanos() as u64;
        let mask = connection.due.len() - 1;
        let (mut from, mut answered) = (0, 0);
        loop {
            let next = self.answers.next(&octets[from..]);
            let next = next.map_err(|_| Failure(format!("no SIP: {}", said(&octets[from..]))))?;
            let Some(answer) = next else { break };
            from += answer.len;
            if answer.status < 200 {
                continue;
            }
            let due = &mut connection.due[answer.index as usize & mask];
            if *due == 0 || answer.index >= connection.sent || connection.sent - answer.index > mask as u32 + 1 {
                return Err(Failure(format!("message {} was answered twice; please report it", answer.index)));
            }
            self.share.answered(answer.status, now.saturating_sub(*due));
            *due = 0;
            answered += 1;
        }
        connection.unread.extend_from_slice(&octets[from..]);
        connection.answered += answered;
        self.shared.answered.fetch_add(u64::from(answered), Ordering::Relaxed);
        Ok(())
    }
}

/// MESSAGEs of `octets` that may be unanswered on one of the plan's connections.
pub fn window(plan: &Plan, octets: usize) -> usize {
    (WINDOW_OCTETS / plan.connections.max(1) / octets.max(1)).clamp(1, WINDOW)
}

fn lost(error: std::io::Error) -> Failure {
    Failure(format!("a SIP connection broke: {error}; has the daemon ended?"))
}

/// The beginning of octets that were not expected, for people.
pub fn said(octets: &[u8]) -> String {
    let octets = &octets[..octets.len().min(300)];
    String::from_utf8_lossy(octets).replace("\r\n", " | ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "deposit_tests.rs"]
mod tests;
