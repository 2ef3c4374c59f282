//! The limit of `storm`: a scripted peer that does the same SIP and TCP exchanges with each user, in the daemon's own octets.
//!
//! ```text
//!  PUBLISH ─▶ [sync] ─▶ 200, INVITE ─▶ 200: ACK ─▶ bind ─▶ 200, SENDs ─▶ 200s ─▶ [sync] ─▶ BYE ─▶ 200
//! ```
//! What it makes durable is what came: the PUBLISH, and a few octets where the daemon writes a tombstone; one write and one sync a
//! group. It knows how long each answer of the clients is and looks no further: no transaction, no dialog, no queue, no timer.

use crate::capture::{self, MARKED, replace};
use crate::clients::Kept;
use crate::daemon::Scratch;
use crate::dialog;
use crate::limit_disk::{Disk, Group, Pages};
use crate::limit_ingest::listen;
use crate::msrp::{self, Kind};
use crate::outcome::Failure;
use crate::pin;
use crate::poll::{Interest, Poll};
use crate::sip::{self, INDEX, Template, number};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const SIP_DOOR: u64 = u64::MAX;
const MSRP_DOOR: u64 = u64::MAX - 1;
const SYNCED: u64 = u64::MAX - 2;
const SIP: u64 = 1 << 32;
/// What the daemon writes of one user's delivered messages: a record's header, and a locator's worth for each.
const TOMBSTONE: [u8; 128] = [0x55; 128];

/// The daemon's octets of one whole push, with places for the user.
#[derive(Clone, Debug)]
pub struct Script {
    published: Template,
    invite: Template,
    ack: Template,
    bye: Template,
    /// A message, all its chunks.
    message: Template,
    chunks: usize,
    /// Where in a message the client's port stands.
    ports_at: Vec<usize>,
    /// Octets of a client's answer to a chunk of ours.
    answer: usize,
    first_user: u32,
    users: u32,
    each: u32,
}

impl Script {
    /// Of a captured push of one message.
    ///
    /// # Errors
    /// Something is missing in what was captured.
    pub fn of(kept: &Kept, first_user: u32, users: u32, each: u32) -> Result<Script, Failure> {
        let find = |start: &str| {
            let found = kept.sip.iter().find(|octets| octets.starts_with(start.as_bytes()));
            found.cloned().ok_or_else(|| Failure(format!("no {start} was captured from the daemon; please report it")))
        };
        let (published, mut invite, mut ack, mut bye) =
            (find("SIP/2.0 200")?, find("INVITE ")?, find("ACK ")?, find("BYE ")?);
        // The first eight octets of the daemon's Call-ID become the user.
        let id = sip::value(&invite, b"Call-ID").filter(|id| id.len() >= 8).unwrap_or_default().to_vec();
        let own = [sip::hex(MARKED[0]).as_slice(), id.get(8..).unwrap_or_default()].concat();
        if id.len() != own.len() {
            return Err(Failure("the daemon's Call-ID is shorter than eight octets; please report it".into()));
        }
        [&mut invite, &mut ack, &mut bye].into_iter().for_each(|octets| replace(octets, &id, &own));
        let (mut message, mut chunks, mut at, mut answer) = (kept.frames.clone(), 0, 0, 0);
        while let Ok(Some(frame)) = msrp::cut(&kept.frames[at..]) {
            let mut own = frame.tid.to_vec();
            let end = own.len();
            // Eight octets tell the messages apart, the last tells chunks apart.
            if end < 10 {
                return Err(Failure(
                    "the daemon's transaction ids are shorter than ten octets; please report it".into(),
                ));
            }
            own[end - 9..end - 1].copy_from_slice(INDEX.as_bytes());
            replace(&mut message, frame.tid, &own);
            let mut out = Vec::new();
            msrp::answer(&mut out, frame.tid, &msrp::answer_middle(&kept.their_path, &kept.our_path));
            (chunks, answer, at) = (chunks + 1, out.len(), at + frame.len);
        }
        const TO: &[u8] = b"\r\nTo-Path: msrp://127.0.0.1:";
        let ports_at = memchr::memmem::find_iter(&message, TO).map(|at| at + TO.len()).collect();
        Ok(Script {
            published: capture::template(published),
            invite: capture::template(invite),
            ack: capture::template(ack),
            bye: capture::template(bye),
            message: capture::template(message),
            chunks,
            ports_at,
            answer,
            first_user,
            users,
            each,
        })
    }
}

/// A running peer; it ends with its owner.
#[derive(Debug)]
pub struct Peer {
    /// Where it takes SIP over TCP.
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), Failure>>>,
}

impl Peer {
    /// Starts a peer with `threads` like the daemon's cores.
    ///
    /// # Errors
    /// No socket, no room on the disk.
    pub fn start(
        scratch: &Scratch,
        cpus: &[usize],
        threads: usize,
        script: &Script,
        kept: &Kept,
    ) -> Result<Peer, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut peer = Peer { addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), stop, threads: Vec::new() };
        for nth in 0..threads.max(1) {
            let listener = listen(peer.addr).map_err(fail)?;
            peer.addr = listener.local_addr().map_err(fail)?;
            let file = scratch.path().join(format!("peer-{nth}"));
            let (script, kept, stop) = (script.clone(), kept.clone(), peer.stop.clone());
            let cpu = cpus.get(nth % cpus.len().max(1)).copied();
            let (made, is_made) = mpsc::channel();
            peer.threads.push(thread::spawn(move || {
                if let Some(cpu) = cpu {
                    pin::pin(&[cpu]);
                }
                let poll = Poll::new().map_err(fail)?;
                // Here, so that the disk's thread is where this one is.
                let disk = Disk::open(&file, &poll, SYNCED, Pages::Known).map_err(fail)?;
                let one = One::new(listener, poll, disk, script, &kept).map_err(fail)?;
                let _ = made.send(());
                one.run(&stop)
            }));
            if is_made.recv().is_err() {
                return Err(peer
                    .end()
                    .err()
                    .unwrap_or_else(|| Failure("the scripted peer ended; please report it".into())));
            }
        }
        Ok(peer)
    }

    /// Ends it. What went wrong inside is told now.
    pub fn end(mut self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut worst = Ok(());
        for thread in self.threads.drain(..) {
            let end =
                thread.join().unwrap_or_else(|_| Err(Failure("the scripted peer panicked; please report it".into())));
            worst = worst.and(end);
        }
        worst
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn fail(error: io::Error) -> Failure {
    Failure(format!("the scripted peer: {error}; free ports and disk, raise `ulimit -n`, then try again"))
}

/// What waits for the disk.
#[derive(Clone, Copy, Debug)]
enum Owed {
    Invite(u32),
    Bye(u32),
}

#[derive(Clone, Copy, Default)]
struct User {
    /// Number of its SIP connection, and of its MSRP connection.
    sip: usize,
    link: Option<usize>,
    /// The SEQ of its PUBLISH.
    seq: u32,
    /// Octets of answers.
    answered: usize,
}

struct Line {
    stream: TcpStream,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    /// Of an MSRP connection, once it is known. Passive clients behind one address have one each here, too.
    user: Option<u32>,
    /// Its messages were sent.
    bound: bool,
}

struct One {
    sip_door: TcpListener,
    msrp_door: TcpListener,
    poll: Poll,
    script: Script,
    publish: usize,
    users: Vec<User>,
    sips: Vec<Line>,
    links: Vec<Option<Line>>,
    free: Vec<usize>,
    filling: Group<Owed>,
    disk: Disk<Owed>,
    buffer: Vec<u8>,
}

impl One {
    fn new(sip_door: TcpListener, poll: Poll, disk: Disk<Owed>, mut script: Script, kept: &Kept) -> io::Result<One> {
        let msrp_door = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let port = msrp_door.local_addr()?.port().to_string();
        // Our path is the daemon's but for the port, which has five digits on both sides.
        let authority = kept.their_path.split(|octet| *octet == b'/').nth(2).unwrap_or_default().to_vec();
        let colon = authority.iter().rposition(|octet| *octet == b':').unwrap_or(0);
        let own = [&authority[..colon], b":", port.as_bytes()].concat();
        if own.len() != authority.len() {
            return Err(io::Error::other("the daemon's MSRP port has not five digits"));
        }
        script.invite = script.invite.with(&authority, &own);
        script.message = script.message.with(&authority, &own);
        poll.add(&sip_door, SIP_DOOR, Interest::Read)?;
        poll.add(&msrp_door, MSRP_DOOR, Interest::Read)?;
        let users = vec![User::default(); script.users as usize];
        Ok(One {
            sip_door,
            msrp_door,
            poll,
            publish: sip::publish().len(),
            script,
            users,
            sips: Vec::new(),
            links: Vec::new(),
            free: Vec::new(),
            filling: Group::default(),
            disk,
            buffer: vec![0; 128 * 1024],
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<(), Failure> {
        while !stop.load(Ordering::Relaxed) {
            self.poll.wait(Duration::from_millis(20)).map_err(fail)?;
            for at in 0..self.poll.len() {
                let Some(event) = self.poll.event(at) else { continue };
                match event.token {
                    SIP_DOOR => self.accept_sip().map_err(fail)?,
                    MSRP_DOOR => self.accept_msrp().map_err(fail)?,
                    SYNCED => self.durable().map_err(fail)?,
                    token if token >= SIP => self.read_sip((token - SIP) as usize)?,
                    token => self.read_link(token as usize)?,
                }
            }
            self.disk.begin(&mut self.filling);
            for at in 0..self.sips.len() {
                let line = &mut self.sips[at];
                if !line.unsent.is_empty() {
                    match line.stream.write(&line.unsent) {
                        Ok(written) => drop(line.unsent.drain(..written)),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        // It has left.
                        Err(_) => line.unsent.clear(),
                    }
                    let interest = if line.unsent.is_empty() { Interest::Read } else { Interest::ReadWrite };
                    self.poll.change(&line.stream, SIP + at as u64, interest).map_err(fail)?;
                }
            }
        }
        Ok(())
    }

    fn accept_sip(&mut self) -> io::Result<()> {
        while let Some(stream) = accept(&self.sip_door)? {
            self.poll.add(&stream, SIP + self.sips.len() as u64, Interest::Read)?;
            self.sips.push(Line { stream, unread: Vec::new(), unsent: Vec::new(), user: None, bound: false });
        }
        Ok(())
    }

    fn accept_msrp(&mut self) -> io::Result<()> {
        while let Some(stream) = accept(&self.msrp_door)? {
            self.link(stream, None)?;
        }
        Ok(())
    }

    fn link(&mut self, stream: TcpStream, user: Option<u32>) -> io::Result<usize> {
        let at = self.free.pop().unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        self.poll.add(&stream, at as u64, Interest::Read)?;
        self.links[at] = Some(Line { stream, unread: Vec::new(), unsent: Vec::new(), user, bound: false });
        Ok(at)
    }

    /// PUBLISHes and the answers to our INVITE and BYE.
    fn read_sip(&mut self, at: usize) -> Result<(), Failure> {
        let line = &mut self.sips[at];
        let kept = line.unread.len();
        self.buffer[..kept].copy_from_slice(&line.unread);
        line.unread.clear();
        let end = kept + line.stream.read(&mut self.buffer[kept..]).unwrap_or(0);
        if end == kept && kept == 0 {
            // Closed, or nothing there: a closed one is not watched any longer.
            return self.poll.remove(&line.stream).map_err(fail);
        }
        let mut from = 0;
        let odd = || Failure("the scripted peer got something else than the script says; please report it".into());
        loop {
            let rest = &self.buffer[from..end];
            if rest.starts_with(b"PUBLISH sip:u") {
                if rest.len() < self.publish {
                    break;
                }
                let id = memchr::memmem::find(rest, b"\r\nCall-ID: p-").ok_or_else(odd)? + 13;
                let number_of = |at: usize| number(&rest[at..]).ok_or_else(odd);
                let (user, seq) = (number_of(13)?, number_of(id + 9)?);
                let place = self.users.get_mut(user.wrapping_sub(self.script.first_user) as usize).ok_or_else(odd)?;
                *place = User { sip: at, seq, ..User::default() };
                self.filling.octets.extend_from_slice(&rest[..self.publish]);
                self.filling.owed.push(Owed::Invite(user));
                from += self.publish;
                continue;
            }
            let Some(cut) = sip::cut(rest).map_err(|_| odd())? else { break };
            let id = memchr::memmem::find(&rest[..cut.head], b"\r\nCall-ID: ").ok_or_else(odd)? + 11;
            let user = number(&rest[id..]).ok_or_else(odd)?;
            let sdp = &rest[cut.head..cut.len];
            from += cut.len;
            if !sdp.is_empty() {
                self.script.ack.write(&mut self.sips[at].unsent, user, 0, 0);
                let nth = user.wrapping_sub(self.script.first_user) as usize;
                let passive = memchr::memmem::find(sdp, b"a=setup:passive").is_some();
                if let Some((path, to)) = dialog::path(sdp).filter(|_| passive) {
                    let bind = msrp::bind(path, &self.our_path(), &[b"p".as_slice(), &sip::hex(user)].concat());
                    let mut stream = TcpStream::connect(to).map_err(fail)?;
                    stream.set_nonblocking(true).map_err(fail)?;
                    stream.set_nodelay(true).map_err(fail)?;
                    stream.write_all(&bind).map_err(fail)?;
                    let link = self.link(stream, Some(user)).map_err(fail)?;
                    self.users[nth].link = Some(link);
                }
            } else if let Some(link) = self.user(user).and_then(|user| user.link.take()) {
                self.links[link] = None;
                self.free.push(link);
            }
        }
        self.sips[at].unread.extend_from_slice(&self.buffer[from..end]);
        Ok(())
    }

    fn user(&mut self, number: u32) -> Option<&mut User> {
        self.users.get_mut(number.wrapping_sub(self.script.first_user) as usize)
    }

    /// From the frames, where it stands literally.
    fn our_path(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.script.message.write(&mut out, 0, 0, 0);
        let at = memchr::memmem::find(&out, b"From-Path: ").map_or(0, |at| at + 11);
        out[at..].split(|octet| *octet == b'\r').next().unwrap_or_default().to_vec()
    }

    /// The SEND that binds, and the answers to ours, of which only the length is looked at.
    fn read_link(&mut self, at: usize) -> Result<(), Failure> {
        let Some(line) = self.links.get_mut(at).and_then(Option::as_mut) else { return Ok(()) };
        let mut octets = std::mem::take(&mut line.unread);
        match line.stream.read(&mut self.buffer) {
            Ok(read @ 1..) => octets.extend_from_slice(&self.buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => {
                let user = line.user;
                self.links[at] = None;
                self.free.push(at);
                if let Some(user) = user.and_then(|number| self.user(number)).filter(|user| user.link == Some(at)) {
                    user.link = None;
                }
                return Ok(());
            }
        }
        let odd = || Failure("the scripted peer got something else than the script says; please report it".into());
        let line = self.links.get_mut(at).and_then(Option::as_mut).ok_or_else(odd)?;
        if !line.bound {
            // Nothing was sent yet: the first frame binds, theirs or the answer to ours.
            let Some(frame) = msrp::cut(&octets).map_err(|_| odd())? else {
                line.unread = octets;
                return Ok(());
            };
            // Either way it came from the client.
            let path = frame.from_path;
            let user = path.len().checked_sub(12).and_then(|at| number(&path[at..])).ok_or_else(odd)?;
            let mut out = Vec::new();
            if frame.kind == Kind::Send {
                msrp::answer(&mut out, frame.tid, &msrp::answer_middle(frame.from_path, frame.to_path));
            }
            let nth = user.wrapping_sub(self.script.first_user) as usize;
            // From the frame and not from its 200: a client may bind its connection before that has been read here.
            let port = port(frame.from_path).ok_or_else(odd)?;
            for message in 0..self.script.each {
                let begin = out.len();
                self.script.message.write(&mut out, user, message, message);
                for at in &self.script.ports_at {
                    out[begin + at..begin + at + port.len()].copy_from_slice(&port);
                }
            }
            line.user = Some(user);
            // A small window fits any socket's buffer.
            line.stream.write_all(&out).map_err(fail)?;
            line.bound = true;
            octets.drain(..frame.len);
            self.users.get_mut(nth).ok_or_else(odd)?.link = Some(at);
        }
        let number = self.links.get(at).and_then(Option::as_ref).and_then(|line| line.user).ok_or_else(odd)?;
        let all = self.script.each as usize * self.script.chunks * self.script.answer;
        let user = self.user(number).ok_or_else(odd)?;
        let before = user.answered;
        user.answered += octets.len();
        if before < all && user.answered >= all {
            self.filling.octets.extend_from_slice(&TOMBSTONE);
            self.filling.owed.push(Owed::Bye(number));
        }
        Ok(())
    }

    fn durable(&mut self) -> io::Result<()> {
        while let Some(group) = self.disk.ended()? {
            for owed in &group.owed {
                let (Owed::Invite(number) | Owed::Bye(number)) = *owed;
                let nth = number.wrapping_sub(self.script.first_user) as usize;
                let (Some(user), script) = (self.users.get(nth), &self.script) else { continue };
                let out = &mut self.sips[user.sip].unsent;
                match owed {
                    Owed::Invite(_) => {
                        script.published.write(out, number, user.seq, nth as u32);
                        script.invite.write(out, number, 0, 0);
                    }
                    Owed::Bye(_) => script.bye.write(out, number, 0, 0),
                }
            }
            self.disk.begin(&mut self.filling);
        }
        Ok(())
    }
}

/// The port in a client's path, which has five digits as it has in the script.
fn port(path: &[u8]) -> Option<[u8; 5]> {
    let authority = path.strip_prefix(b"msrp://")?.split(|octet| *octet == b'/').next()?;
    let colon = authority.iter().rposition(|octet| *octet == b':')?;
    authority.get(colon + 1..)?.try_into().ok()
}

/// The next connection; none when nobody waits, or when there is no descriptor for it yet.
fn accept(door: &TcpListener) -> io::Result<Option<TcpStream>> {
    match door.accept() {
        Ok((stream, _)) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EMFILE) => Ok(None),
        Err(error) => Err(error),
    }
}
