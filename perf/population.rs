//! One thread's clients: their SIP over a few connections, their MSRP over one connection each, and one epoll for all of them.
//!
//! ```text
//!  absent ──PUBLISH──▶ published ──INVITE: 200, connect──▶ receiving ──BYE: 200──▶ done
//! ```
//! Every SEND is read whole, its paths compared, its message's number checked against the user's last, and answered; the answers of
//! one read leave in one write.

use crate::clients::{Crowd, Share, Shared, Way};
use crate::deposit::{Pace, STALL, said};
use crate::dialog::{self, Heard};
use crate::line::{Line, fetch, flush, lost, start, thread_cpu};
use crate::msrp::{self, Frame, Kind};
use crate::outcome::{Failure, Setup};
use crate::poll::{Interest, Poll, sharpen_timers};
use crate::sip::{self, CALL_ID, Template, number};
use memchr::memmem;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Octets read at once: large enough for a hundred messages, small enough to stay in the second cache.
const READ: usize = 256 * 1024;
/// Octets of PUBLISHes that wait for a socket.
const AHEAD: usize = 64 * 1024;
/// Addresses that passive clients listen at: more of them share one, and its connection.
const DOORS: u32 = 512;
/// The port in the path of a client that connects itself.
const ACTIVE_PORT: u16 = 10_009;
/// A slow client reads so much, so often.
const SIP_OF_WATER: usize = 4096;
const SIPS_APART: Duration = Duration::from_millis(50);

const DOOR: u64 = 1 << 32;
const LINK: u64 = 1 << 33;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Absent,
    Published,
    Receiving,
    Done,
}

struct User {
    stage: Stage,
    active: bool,
    slow: bool,
    silent: bool,
    /// Messages received whole; the next one's number follows from it.
    got: u32,
    /// Octets of the message under way.
    partial: u64,
    due_ns: u64,
    link: Option<usize>,
    our_path: Box<[u8]>,
    their_path: Box<[u8]>,
    /// What its 200s have between the transaction ids.
    middle: Box<[u8]>,
    connect_to: Option<SocketAddr>,
}

pub(crate) struct Population<'a> {
    crowd: &'a Crowd,
    shared: &'a Shared,
    first: u32,
    users: Vec<User>,
    publish: Template,
    poll: Poll,
    doors: Vec<TcpListener>,
    sips: Vec<Line>,
    links: Vec<Option<Line>>,
    free: Vec<usize>,
    connecting: Vec<u32>,
    published: u32,
    /// Users that are waited for.
    waited: u32,
    done: u32,
    /// Where in a body the message's number was the last time.
    number_at: usize,
    per_second: f64,
    slow_at_ns: u64,
    share: Share,
}

impl<'a> Population<'a> {
    /// Those users of the crowd, counted from its first.
    pub(crate) fn new(
        crowd: &'a Crowd,
        shared: &'a Shared,
        range: Range<u32>,
        threads: u32,
    ) -> Result<Population<'a>, Failure> {
        let fail = |error: io::Error| {
            Failure(format!("clients for {}: {error}; raise `ulimit -n`, or ask for fewer users", crowd.to))
        };
        let poll = Poll::new().map_err(fail)?;
        let mut doors = Vec::new();
        if crowd.setup != Setup::Active {
            for at in 0..DOORS.min(range.len() as u32).max(1) {
                let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fail)?;
                door.set_nonblocking(true).map_err(fail)?;
                poll.add(&door, DOOR + u64::from(at), Interest::Read).map_err(fail)?;
                doors.push(door);
            }
        }
        let mut sips = Vec::new();
        if let Way::Sip = crowd.way {
            for at in 0..crowd.sip_connections.max(1) {
                let stream = TcpStream::connect(crowd.to).map_err(fail)?;
                stream.set_nonblocking(true).map_err(fail)?;
                stream.set_nodelay(true).map_err(fail)?;
                poll.add(&stream, at as u64, Interest::Read).map_err(fail)?;
                sips.push(Line::new(stream));
            }
        }
        let first = crowd.first_user + range.start;
        let users: Vec<User> =
            range.clone().map(|nth| user(crowd, nth, &doors)).collect::<io::Result<_>>().map_err(fail)?;
        let waited = users.iter().filter(|user| !user.slow && !user.silent).count() as u32;
        let per_second = match crowd.pace {
            Pace::Peak => f64::INFINITY,
            Pace::Rate(rate) => rate / f64::from(threads),
        };
        Ok(Population {
            crowd,
            shared,
            first,
            users,
            publish: sip::publish(),
            poll,
            doors,
            sips,
            links: Vec::new(),
            free: Vec::new(),
            connecting: Vec::new(),
            published: 0,
            waited,
            done: 0,
            number_at: 0,
            per_second,
            slow_at_ns: 0,
            share: Share::new(),
        })
    }

    fn now_ns(&self) -> u64 {
        self.shared.began.elapsed().as_nanos() as u64
    }

    pub(crate) fn run(mut self) -> Result<Share, Failure> {
        sharpen_timers();
        let cpu = thread_cpu();
        let mut buffer = vec![0; READ];
        let mut out = Vec::new();
        self.share.began_ns = self.now_ns();
        if let Way::Direct { addr, .. } = &self.crowd.way {
            for at in 0..self.users.len() as u32 {
                self.users[at as usize].connect_to = Some(*addr);
                self.connecting.push(at);
            }
            self.published = self.users.len() as u32;
        }
        while self.done < self.waited {
            let wait = self.publish_due()?;
            for at in 0..self.sips.len() {
                flush(&self.poll, &mut self.sips[at], at as u64).map_err(|error| lost("SIP", &error))?;
            }
            self.connect()?;
            if self.shared.cancelled.load(Ordering::Relaxed) {
                return Err(self.stuck());
            }
            self.poll.wait(wait).map_err(|error| lost("epoll", &error))?;
            for report in 0..self.poll.len() {
                let Some(event) = self.poll.event(report) else { continue };
                let at = (event.token & (DOOR - 1)) as usize;
                if event.token >= LINK {
                    if event.writable {
                        self.flush_link(at);
                    }
                    if event.readable {
                        self.read_link(at, &mut buffer, &mut out);
                    }
                } else if event.token >= DOOR {
                    self.accept(at).map_err(|error| lost("MSRP", &error))?;
                } else if event.readable {
                    self.read_sip(at, &mut buffer)?;
                }
            }
            self.read_slowly(&mut buffer, &mut out);
        }
        // The last BYE's answer.
        for at in 0..self.sips.len() {
            flush(&self.poll, &mut self.sips[at], at as u64).map_err(|error| lost("SIP", &error))?;
        }
        self.share.cpu = thread_cpu().saturating_sub(cpu);
        Ok(self.share)
    }

    /// PUBLISHes of those whose time has come, as far as the sockets take them. Returns how long nothing is to be done.
    fn publish_due(&mut self) -> Result<Duration, Failure> {
        let total = self.users.len() as u32;
        if self.published == total {
            return Ok(Duration::from_millis(20));
        }
        let now = self.now_ns();
        let elapsed_s = now.saturating_sub(self.share.began_ns) as f64 / 1e9;
        let due = (elapsed_s * self.per_second + 1.0).min(f64::from(total)) as u32;
        let lines = self.sips.len();
        while self.published < due {
            let at = self.published as usize;
            let line = &mut self.sips[at % lines];
            if self.per_second.is_infinite() && line.unsent.len() > AHEAD {
                // Its socket will say when there is room.
                return Ok(Duration::from_millis(20));
            }
            self.publish.write(&mut line.unsent, self.first + at as u32, self.crowd.publish_seq, at as u32);
            let user = &mut self.users[at];
            user.due_ns = match self.crowd.pace {
                Pace::Peak => now,
                Pace::Rate(_) => self.share.began_ns + (at as f64 / self.per_second * 1e9) as u64,
            };
            user.stage = Stage::Published;
            self.published += 1;
        }
        let next_ns = self.share.began_ns + (f64::from(self.published) / self.per_second * 1e9) as u64;
        Ok(Duration::from_nanos(next_ns.saturating_sub(self.now_ns())).max(Duration::from_micros(50)))
    }

    fn read_sip(&mut self, at: usize, buffer: &mut [u8]) -> Result<(), Failure> {
        let end = match fetch(&mut self.sips[at], buffer, READ) {
            Ok(Some(end)) => end,
            Ok(None) => return Err(Failure("the daemon closed a SIP connection; its log says why".into())),
            Err(error) => return Err(lost("SIP", &error)),
        };
        let now = self.now_ns();
        let mut from = 0;
        loop {
            let rest = &buffer[from..end];
            let cut = sip::cut(rest).map_err(|_| Failure(format!("no SIP: {}", said(rest))))?;
            let Some(cut) = cut else { break };
            from += cut.len;
            let octets = &rest[..cut.len];
            if self.crowd.keep {
                self.share.kept.sip.push(octets.to_vec());
            }
            match dialog::hear(octets, cut) {
                Heard::Nothing => {}
                Heard::Published { status: 200..=299, .. } => {}
                Heard::Published { user, status } => {
                    self.share.wrong(|| format!("the PUBLISH of user {user:08x} was answered {status}"));
                    self.leave(user, now);
                }
                Heard::Invite { user, sdp } => self.invited(at, user, &octets[..cut.head], sdp),
                Heard::Bye { user } => {
                    dialog::ok(&mut self.sips[at].unsent, &octets[..cut.head], user, b"", b"");
                    self.leave(user, now);
                }
                Heard::Odd => self.share.wrong(|| format!("unexpected over SIP: {}", said(octets))),
            }
        }
        self.sips[at].unread.extend_from_slice(&buffer[from..end]);
        Ok(())
    }

    fn invited(&mut self, at: usize, number: u32, head: &[u8], sdp: &[u8]) {
        let nth = number.wrapping_sub(self.first) as usize;
        let (Some(user), Some((their, addr))) = (self.users.get_mut(nth), dialog::path(sdp)) else {
            return self.share.wrong(|| format!("an INVITE for nobody here: {}", said(head)));
        };
        user.their_path = their.into();
        user.middle = msrp::answer_middle(their, &user.our_path);
        user.stage = Stage::Receiving;
        let port = dialog::path(&[b"\na=path:".as_slice(), &user.our_path, b"\r"].concat())
            .map_or(ACTIVE_PORT, |(_, addr)| addr.port());
        let answer = dialog::sdp(&user.our_path, port, user.active);
        let contact = [
            b"Contact: <sip:u".as_slice(),
            &sip::hex(number),
            b"@127.0.0.1:5099;transport=tcp>\r\nContent-Type: application/sdp\r\n",
        ]
        .concat();
        dialog::ok(&mut self.sips[at].unsent, head, number, &contact, &answer);
        if user.active {
            // After the 200 has left.
            user.connect_to = Some(addr);
            self.connecting.push(nth as u32);
        }
        if self.crowd.keep {
            (self.share.kept.their_path, self.share.kept.our_path) = (their.to_vec(), user.our_path.to_vec());
        }
    }

    /// The user's session is over, or will never be.
    fn leave(&mut self, number: u32, now: u64) {
        let nth = number.wrapping_sub(self.first) as usize;
        let Some(user) = self.users.get_mut(nth).filter(|user| user.stage != Stage::Done) else { return };
        user.stage = Stage::Done;
        if let Some(link) = user.link.take() {
            self.links[link] = None;
            self.free.push(link);
        }
        if user.slow || user.silent {
            return;
        }
        if user.got != self.crowd.each {
            let got = user.got;
            self.share.wrong(|| format!("user {number:08x} got {got} of {} messages before the BYE", self.crowd.each));
        }
        self.share.bye_us.saturating_record(now.saturating_sub(user.due_ns) / 1000);
        self.share.ended_ns = now;
        self.done += 1;
        self.shared.users.fetch_add(1, Ordering::Relaxed);
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let mut waiting = std::mem::take(&mut self.connecting).into_iter();
        while let Some(nth) = waiting.next() {
            let user = &mut self.users[nth as usize];
            let Some(addr) = user.connect_to.take() else { continue };
            let direct = if let Way::Direct { .. } = self.crowd.way { Stage::Receiving } else { user.stage };
            user.stage = direct;
            let stream = match start(addr) {
                Ok(stream) => stream,
                // All descriptors are in use: when somebody has left, there is one.
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) && self.done > 0 => {
                    user.connect_to = Some(addr);
                    self.connecting.push(nth);
                    self.connecting.extend(waiting);
                    return Ok(());
                }
                Err(error) => return Err(lost("MSRP", &error)),
            };
            let mut line = Line::new(stream);
            line.slow = user.slow;
            let tid = [b"b".as_slice(), &sip::hex(nth)].concat();
            line.unsent = msrp::bind(&user.their_path, &user.our_path, &tid);
            let at = self.free.pop().unwrap_or_else(|| {
                self.links.push(None);
                self.links.len() - 1
            });
            user.link = Some(at);
            // On the loopback it is connected by now; where not, the socket says when.
            line.watched_for_room = true;
            if !line.slow {
                self.poll
                    .add(&line.stream, LINK + at as u64, Interest::ReadWrite)
                    .map_err(|error| lost("epoll", &error))?;
            }
            self.links[at] = Some(line);
        }
        Ok(())
    }

    fn accept(&mut self, door: usize) -> io::Result<()> {
        loop {
            match self.doors[door].accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let at = self.free.pop().unwrap_or_else(|| {
                        self.links.push(None);
                        self.links.len() - 1
                    });
                    self.poll.add(&stream, LINK + at as u64, Interest::Read)?;
                    self.links[at] = Some(Line::new(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn flush_link(&mut self, at: usize) {
        let Some(line) = self.links.get_mut(at).and_then(Option::as_mut) else { return };
        if let Err(error) = flush(&self.poll, line, LINK + at as u64) {
            self.share.wrong(|| format!("an MSRP connection broke: {error}"));
            self.close(at);
        }
    }

    fn close(&mut self, at: usize) {
        if self.links.get_mut(at).and_then(Option::take).is_some() {
            self.free.push(at);
            self.users.iter_mut().filter(|user| user.link == Some(at)).for_each(|user| user.link = None);
        }
    }

    fn read_link(&mut self, at: usize, buffer: &mut [u8], out: &mut Vec<u8>) {
        let Some(line) = self.links.get_mut(at).and_then(Option::as_mut) else { return };
        let end = match fetch(line, buffer, if line.slow { SIP_OF_WATER } else { READ }) {
            Ok(Some(end)) => end,
            // The daemon may close after its BYE; a user who lacks something notices at the BYE.
            Ok(None) | Err(_) => return self.close(at),
        };
        self.share.reads += 1;
        let now = self.now_ns();
        let (mut from, mut whole) = (0, 0);
        out.clear();
        loop {
            let frame = match msrp::cut(&buffer[from..end]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(why) => {
                    self.share.wrong(|| format!("{why:?}: {}", said(&buffer[from..end])));
                    return self.close(at);
                }
            };
            match frame.kind {
                Kind::Send => {
                    whole += u64::from(self.received(&frame, now, out));
                    if self.crowd.keep && !frame.body.is_empty() {
                        self.share.kept.frames.extend_from_slice(&buffer[from..from + frame.len]);
                    }
                }
                Kind::Report | Kind::Response(200) => {}
                Kind::Response(status) => self.share.wrong(|| format!("the SEND that binds was answered {status}")),
            }
            from += frame.len;
        }
        self.shared.messages.fetch_add(whole, Ordering::Relaxed);
        let Some(line) = self.links.get_mut(at).and_then(Option::as_mut) else { return };
        line.unread.extend_from_slice(&buffer[from..end]);
        if !out.is_empty() {
            let written = if line.unsent.is_empty() { line.stream.write(out).unwrap_or(0) } else { 0 };
            line.unsent.extend_from_slice(&out[written..]);
            if !line.unsent.is_empty() {
                self.flush_link(at);
            }
        }
    }

    /// One SEND; true when it ends a message that counts.
    #[inline]
    fn received(&mut self, frame: &Frame<'_>, now: u64, out: &mut Vec<u8>) -> bool {
        let digits = frame.to_path.len().checked_sub(12).and_then(|at| number(&frame.to_path[at..]));
        let direct = if let Way::Direct { cycle, .. } = self.crowd.way { Some(cycle) } else { None };
        let nth = match (digits, direct) {
            (Some(number), None) => number.wrapping_sub(self.first) as usize,
            // All have one path; what they are is counted together.
            (_, Some(_)) => 0,
            (None, None) => usize::MAX,
        };
        let Some(user) = self.users.get_mut(nth).filter(|user| *user.our_path == *frame.to_path) else {
            self.share.wrong(|| format!("a SEND to nobody here: {}", said(frame.to_path)));
            return false;
        };
        if *user.their_path != *frame.from_path {
            self.share.wrong(|| format!("a SEND from elsewhere: {}", said(frame.from_path)));
        }
        if !user.silent {
            msrp::answer(out, frame.tid, &user.middle);
        }
        if frame.body.is_empty() && frame.total == 0 {
            return false;
        }
        if frame.start == 1 {
            if user.got == 0 && direct.is_none() {
                self.share.first_send_us.saturating_record(now.saturating_sub(user.due_ns) / 1000);
            }
            let at = self.number_at;
            if !frame.body.get(at..).is_some_and(|body| body.starts_with(CALL_ID)) {
                self.number_at = memmem::find(frame.body, CALL_ID).unwrap_or(0);
            }
            let digits = frame.body.get(self.number_at + CALL_ID.len()..).unwrap_or_default();
            let found = (number(digits), digits.get(9..).and_then(number));
            let expected = match direct {
                None => (Some(self.first + nth as u32), Some(self.crowd.first_seq + user.got)),
                // Of a batch that is sent to everybody, in pieces of any length.
                Some(cycle) => (found.0, found.1.filter(|seq| *seq < cycle)),
            };
            if found != expected || found.1.is_none() {
                self.share.wrong(|| format!("message {found:08x?} came where {expected:08x?} was due"));
            }
            user.partial = 0;
        } else if frame.start != user.partial + 1 && direct.is_none() {
            let partial = user.partial;
            self.share.wrong(|| format!("a chunk from {} came after octet {partial}", frame.start));
        }
        user.partial = frame.start - 1 + frame.body.len() as u64;
        self.share.octets += frame.body.len() as u64;
        if frame.flag != b'$' {
            return false;
        }
        user.got += 1;
        if direct.is_some() {
            if user.got == 1 {
                self.share.began_ns = now;
            }
            self.share.ended_ns = now;
            // The crowd is done when all that was sent to it has come.
            let all = u64::from(self.users.len() as u32) * u64::from(self.crowd.each);
            if u64::from(self.users[0].got) == all {
                self.done = self.waited;
            }
            return true;
        }
        !user.slow && !user.silent
    }

    fn read_slowly(&mut self, buffer: &mut [u8], out: &mut Vec<u8>) {
        let now = self.now_ns();
        if self.crowd.slow == 0.0 || now < self.slow_at_ns {
            return;
        }
        self.slow_at_ns = now + SIPS_APART.as_nanos() as u64;
        for at in 0..self.links.len() {
            if self.links[at].as_ref().is_some_and(|line| line.slow) {
                self.flush_link(at);
                self.read_link(at, buffer, out);
            }
        }
    }

    /// What is missing, for people.
    fn stuck(&self) -> Failure {
        let count = |stage| self.users.iter().filter(|user| user.stage == stage && !user.slow && !user.silent).count();
        let short =
            self.users.iter().filter(|user| user.stage == Stage::Receiving && user.got < self.crowd.each).count();
        let why =
            self.share.first_error.as_deref().map_or(String::new(), |error| format!("; the first error was: {error}"));
        Failure(format!(
            "nothing more came for {} s, or another part of the load failed: {} users wait for their INVITE, {short} for \
             messages, {} for the BYE{why}; look at the daemon's log",
            STALL.as_secs(),
            count(Stage::Published),
            count(Stage::Receiving) - short.min(count(Stage::Receiving)),
        ))
    }
}

fn user(crowd: &Crowd, nth: u32, doors: &[TcpListener]) -> io::Result<User> {
    let number = crowd.first_user + nth;
    let active = match crowd.setup {
        Setup::Active => true,
        Setup::Passive => false,
        Setup::Mixed => nth.is_multiple_of(2),
    };
    let port = match doors.get(nth as usize % doors.len().max(1)) {
        Some(door) if !active => door.local_addr()?.port(),
        // It connects: nobody will. Five digits like any other.
        _ => ACTIVE_PORT,
    };
    let (our_path, their_path) = match &crowd.way {
        Way::Sip => (format!("msrp://127.0.0.1:{port}/c{number:08x};tcp").into_bytes(), Vec::new()),
        Way::Direct { our_path, their_path, .. } => (our_path.clone(), their_path.clone()),
    };
    // Spread over the crowd, the same in every run.
    let place = f64::from(nth.wrapping_mul(2_654_435_761) >> 8) / f64::from(1u32 << 24);
    Ok(User {
        stage: Stage::Absent,
        active,
        slow: place < crowd.slow && active,
        silent: place >= crowd.slow && place < crowd.slow + crowd.silent,
        got: 0,
        partial: 0,
        due_ns: 0,
        link: None,
        middle: msrp::answer_middle(&their_path, &our_path),
        our_path: our_path.into(),
        their_path: their_path.into(),
        connect_to: None,
    })
}
