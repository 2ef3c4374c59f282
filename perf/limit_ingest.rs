//! The limit of `ingest`: a sink that reads the same octets, appends them with one write and one sync a group, and only then answers
//! a canned 202 to each. It takes the same care of its disk as the daemon and no other: nothing is parsed, kept or looked up.
//!
//! One thread reads and answers, one writes and syncs, both on the daemon's processors: the next group fills while the last one is
//! synced, and starts when that ends.

use crate::daemon::Scratch;
use crate::limit_disk::{Disk, Group, Pages};
use crate::outcome::Failure;
use crate::pin;
use crate::poll::{Interest, Poll};
use crate::sip::{BRANCH, DIGITS, Template, number};
use memchr::memmem;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Octets of a group; more are left in the sockets until it is synced.
const GROUP: usize = 32 << 20;
/// Octets read at once.
const READ: usize = 256 * 1024;

const LISTENER: u64 = u64::MAX;
const SYNCED: u64 = u64::MAX - 1;

/// A running sink; it ends with its owner.
#[derive(Debug)]
pub struct Sink {
    /// Where it takes SIP over TCP.
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
    groups: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<(), Failure>>>,
}

impl Sink {
    /// Starts a sink with `threads` like the daemon's cores, each with a log of its own below `scratch`. `request` is what comes,
    /// octet for octet but for its numbers; `answer` is what the daemon answered to it; `pages` is what each log writes into.
    ///
    /// # Errors
    /// No socket, no room on the disk.
    pub fn start(
        scratch: &Scratch,
        cpus: &[usize],
        threads: usize,
        request: &Template,
        answer: &Template,
        pages: Pages,
    ) -> Result<Sink, Failure> {
        let fail =
            |error: io::Error| Failure(format!("the limit's sink: {error}; free ports and disk, then try again"));
        let stop = Arc::new(AtomicBool::new(false));
        let groups = Arc::new(AtomicU64::new(0));
        let mut addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sink = Sink { addr, stop: stop.clone(), groups: groups.clone(), threads: Vec::new() };
        for number in 0..threads.max(1) {
            let listener = listen(addr).map_err(fail)?;
            addr = listener.local_addr().map_err(fail)?;
            let file = scratch.path().join(format!("sink-{number}"));
            let (request, answer, groups) = (request.clone(), answer.clone(), groups.clone());
            let (stop, cpu) = (stop.clone(), cpus.get(number % cpus.len().max(1)).copied());
            let (made, is_made) = mpsc::channel();
            sink.threads.push(thread::spawn(move || {
                if let Some(cpu) = cpu {
                    pin::pin(&[cpu]);
                }
                // Here, so that the disk's thread is where this one is.
                let one = One::new(listener, &file, &request, answer, pages, groups).map_err(fail)?;
                let _ = made.send(());
                one.run(&stop)
            }));
            if is_made.recv().is_err() {
                return Err(sink
                    .end()
                    .err()
                    .unwrap_or_else(|| Failure("the limit's sink ended; please report it".into())));
            }
        }
        sink.addr = addr;
        Ok(sink)
    }

    /// Groups synced so far.
    pub fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Ends it. What went wrong inside is told now.
    pub fn end(mut self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut worst = Ok(());
        for thread in self.threads.drain(..) {
            let end =
                thread.join().unwrap_or_else(|_| Err(Failure("the limit's sink panicked; please report it".into())));
            worst = worst.and(end);
        }
        worst
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Several threads listen at one address, as the daemon's cores do.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

struct Peer {
    stream: TcpStream,
    /// The beginning of a message.
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

struct One {
    listener: TcpListener,
    poll: Poll,
    peers: Vec<Option<Peer>>,
    /// Octets of a message, and where in it the numbers of its Via are.
    len: usize,
    branch_at: usize,
    answer: Template,
    /// For each run of one connection's messages: whose they are, and how many.
    filling: Group<(usize, usize)>,
    disk: Disk<(usize, usize)>,
    groups: Arc<AtomicU64>,
}

impl One {
    fn new(
        listener: TcpListener,
        file: &Path,
        request: &Template,
        answer: Template,
        pages: Pages,
        groups: Arc<AtomicU64>,
    ) -> io::Result<One> {
        let mut sample = Vec::new();
        request.write(&mut sample, 0, 0, 0);
        let branch_at = memmem::find(&sample, BRANCH).map_or(0, |at| at + BRANCH.len());
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, Interest::Read)?;
        let disk = Disk::open(file, &poll, SYNCED, pages)?;
        Ok(One {
            listener,
            poll,
            peers: Vec::new(),
            len: sample.len(),
            branch_at,
            answer,
            filling: Group::default(),
            disk,
            groups,
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<(), Failure> {
        let fail =
            |error: io::Error| Failure(format!("the limit's sink: {error}; free ports and disk, then try again"));
        while !stop.load(Ordering::Relaxed) {
            self.poll.wait(Duration::from_millis(20)).map_err(fail)?;
            for at in 0..self.poll.len() {
                let Some(event) = self.poll.event(at) else { continue };
                match event.token {
                    LISTENER => self.accept().map_err(fail)?,
                    SYNCED => self.answer().map_err(fail)?,
                    peer => {
                        if event.writable {
                            self.flush(peer as usize).map_err(fail)?;
                        }
                        if event.readable && self.filling.octets.len() < GROUP {
                            self.read(peer as usize)?;
                        }
                    }
                }
            }
            self.disk.begin(&mut self.filling);
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    self.poll.add(&stream, self.peers.len() as u64, Interest::Read)?;
                    self.peers.push(Some(Peer { stream, unread: Vec::new(), unsent: Vec::new() }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads behind what the group has already; the beginning of a message waits for the rest of it.
    fn read(&mut self, at: usize) -> Result<(), Failure> {
        let Some(peer) = self.peers.get_mut(at).and_then(Option::as_mut) else { return Ok(()) };
        let octets = &mut self.filling.octets;
        let begin = octets.len();
        octets.append(&mut peer.unread);
        let from = octets.len();
        octets.resize(from + READ, 0);
        let read = match peer.stream.read(&mut octets[from..]) {
            Ok(0) => {
                self.peers[at] = None;
                0
            }
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.peers[at] = None;
                0
            }
        };
        octets.truncate(from + read);
        let whole = (octets.len() - begin) / self.len;
        let end = begin + whole * self.len;
        if let Some(peer) = self.peers[at].as_mut() {
            peer.unread.extend_from_slice(&octets[end..]);
        }
        octets.truncate(end);
        if !octets[begin..].chunks_exact(self.len).all(|message| message.starts_with(b"MESSAGE ")) {
            return Err(Failure("the limit's sink got something else than MESSAGEs; please report it".into()));
        }
        if whole > 0 {
            self.filling.owed.push((at, whole));
        }
        Ok(())
    }

    /// A group is durable: 202s, one write for each connection in it.
    fn answer(&mut self) -> io::Result<()> {
        while let Some(mut group) = self.disk.ended()? {
            self.groups.fetch_add(1, Ordering::Relaxed);
            let mut messages = group.octets.chunks_exact(self.len);
            for (at, count) in group.owed.drain(..) {
                let Some(peer) = self.peers.get_mut(at).and_then(Option::as_mut) else {
                    messages.nth(count - 1);
                    continue;
                };
                for message in messages.by_ref().take(count) {
                    let digits = |nth: usize| number(&message[self.branch_at + nth * DIGITS..]).unwrap_or(0);
                    self.answer.write(&mut peer.unsent, digits(0), digits(1), digits(2));
                }
                self.flush(at)?;
            }
            // The buffer is used again: a fresh one would have to be faulted in page by page.
            group.octets.clear();
            if self.filling.owed.is_empty() {
                self.filling = group;
            } else {
                self.disk.begin(&mut self.filling);
                self.filling = group;
            }
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(at).and_then(Option::as_mut) else { return Ok(()) };
        if peer.unsent.is_empty() {
            return Ok(());
        }
        match peer.stream.write(&peer.unsent) {
            Ok(written) => drop(peer.unsent.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // It has left; what it was owed is nobody's.
            Err(_) => peer.unsent.clear(),
        }
        let interest = if peer.unsent.is_empty() { Interest::Read } else { Interest::ReadWrite };
        self.poll.change(&peer.stream, at as u64, interest)
    }
}
