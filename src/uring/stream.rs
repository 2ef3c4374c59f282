//! Stream connections: accept, connect, and per connection one reader and one writer.
//!
//! ```text
//!   accept ─────────────▶ open ── Close ──▶ closing ── both tasks ended ──▶ closed (Closed)
//!   connect ─▶ opening ────┘
//!                 └── refused, 10 s, Close ──▶ gone (ConnectFailed, nothing else)
//! ```
//!
//! A task waits at its `Slot` for what the core lends it, does one ring operation, answers, and waits again. `Close` never
//! cancels: it shuts the socket down, whereupon the operations end by themselves and are answered like any other; the task that
//! ends last closes the descriptor and says `Closed`. What the core lends after its own `Close` comes back with `NotConnected`.

use super::mail::Desk;
use super::op::{self, Outgoing, SharedFd};
use super::socket::{self, Tuning};
use crate::base::gather::Gather;
use crate::base::net::ConnId;
use crate::base::split::SpreadSplitMap;
use crate::engine::input::{Input, Service};
use bytes::BytesMut;
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A peer that has not answered a SYN in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// While it connects, a socket is looked at this often: whether it is still wanted and its time not over.
const CONNECT_LOOK: Duration = Duration::from_millis(500);

/// While descriptors lack, each failed accept is tried again after this, and said once in [`COMPLAINT`].
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// One complaint about failing accepts in this time: there are 256 accepts per listener.
const COMPLAINT: Duration = Duration::from_secs(10);

/// Accepts under way per listener: with one, a storm of clients would be let in one per turn. With 16, of 15,000 clients that connect
/// within a second thousands met a full backlog of 4,096 and came back after TCP's second.
const ACCEPTS: usize = 256;

/// Something lent by the core to the task that waits for it.
struct Slot<T> {
    thing: Cell<Option<T>>,
    waiting: Cell<Option<Waker>>,
}

impl<T> Slot<T> {
    fn new() -> Slot<T> {
        Slot { thing: Cell::new(None), waiting: Cell::new(None) }
    }

    /// Lends; gives the thing back when another is there already.
    fn put(&self, thing: T) -> Result<(), T> {
        if let Some(before) = self.thing.take() {
            self.thing.set(Some(before));
            return Err(thing);
        }
        self.thing.set(Some(thing));
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

struct Connection {
    name: ConnId,
    fd: SharedFd,
    closing: Cell<bool>,
    /// Reader and writer tasks that have not ended.
    tasks: Cell<u8>,
    /// Reset rather than FIN.
    reset: Cell<bool>,
    reads: Slot<BytesMut>,
    writes: Slot<Gather>,
}

impl Connection {
    /// The next thing lent through `slot`; `None` once the connection is closing and nothing is left there.
    async fn next<T>(&self, slot: &Slot<T>) -> Option<T> {
        poll_fn(|context| {
            if let Some(thing) = slot.thing.take() {
                return Poll::Ready(Some(thing));
            }
            if self.closing.get() {
                return Poll::Ready(None);
            }
            slot.waiting.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

enum Entry {
    /// Connecting; true when the core wants it closed already.
    Opening { fd: SharedFd, unwanted: bool },
    /// There.
    Open(Rc<Connection>),
}

/// The connections of one core.
pub struct Streams {
    desk: Rc<Desk>,
    tuning: Tuning,
    table: RefCell<SpreadSplitMap<ConnId, Entry>>,
    /// The next accepted connection's number: even ones are accepted, odd ones are opened by the core.
    next: Cell<u64>,
    /// When accepting last failed aloud.
    complained: Cell<Option<Instant>>,
}

impl Streams {
    /// None yet.
    pub fn new(desk: Rc<Desk>, tuning: Tuning) -> Rc<Streams> {
        let (table, next, complained) = (RefCell::default(), Cell::new(2), Cell::new(None));
        Rc::new(Streams { desk, tuning, table, next, complained })
    }

    /// Begins to accept at a socket that listens.
    pub fn accept_from(self: &Rc<Self>, listener: OwnedFd, service: Service) {
        let listener: SharedFd = Rc::new(listener);
        for _ in 0..ACCEPTS {
            let (streams, listener) = (self.clone(), listener.clone());
            tokio_uring::spawn(async move { streams.accept(listener, service).await });
        }
    }

    async fn accept(self: Rc<Self>, listener: SharedFd, service: Service) {
        loop {
            match op::accept(&listener).await {
                Ok(fd) => self.welcome(fd, service),
                // The client has left between its SYN and now.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Descriptors or memory ran out. They come back when connections end; until then clients wait in the backlog.
                    if self.complained.get().is_none_or(|at| at.elapsed() >= COMPLAINT) {
                        self.complained.set(Some(Instant::now()));
                        tracing::warn!(%error, "cannot accept a connection, trying again; is the limit of open files (LimitNOFILE) too low?");
                    }
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn welcome(self: &Rc<Self>, fd: OwnedFd, service: Service) {
        let (Some(peer), Some(local)) = (peer_of(&fd), local_of(&fd)) else {
            // Reset before it was accepted: nothing to tell, nothing to close properly.
            return;
        };
        socket::tune(&fd, self.tuning);
        let conn = ConnId(self.next.get());
        self.next.set(conn.0 + 2);
        self.open(conn, Rc::new(fd));
        self.desk.put(Input::Accepted { conn, service, peer, local });
    }

    /// Carries out `Effect::Connect`.
    pub fn connect(self: &Rc<Self>, conn: ConnId, to: SocketAddr, bind: Option<SocketAddr>) {
        let fd = match outgoing_socket(to, bind) {
            Ok(fd) => Rc::new(fd),
            Err(error) => return self.desk.put(Input::ConnectFailed { conn, error: error.kind() }),
        };
        self.table.borrow_mut().insert(conn, Entry::Opening { fd: fd.clone(), unwanted: false });
        let streams = self.clone();
        tokio_uring::spawn(async move { streams.finish_connect(conn, fd, to, bind).await });
    }

    async fn finish_connect(self: Rc<Self>, conn: ConnId, mut fd: SharedFd, to: SocketAddr, bind: Option<SocketAddr>) {
        let mut outcome = self.connect_in_time(conn, &fd, to).await;
        if bind.is_some() && outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable) {
            // Our end and theirs are a pair that is still in TIME_WAIT: any other port of ours will do.
            match outgoing_socket(to, None).map(Rc::new) {
                Ok(fresh) if self.replace_opening(conn, &fresh) => {
                    fd = fresh;
                    outcome = self.connect_in_time(conn, &fd, to).await;
                }
                _ => {}
            }
        }
        let unwanted =
            matches!(self.table.borrow_mut().remove(&conn), None | Some(Entry::Opening { unwanted: true, .. }));
        let failed = match (outcome, local_of(&fd)) {
            (Ok(()), Some(local)) if !unwanted => {
                socket::tune(&fd, self.tuning);
                self.open(conn, fd);
                return self.desk.put(Input::Connected { conn, local });
            }
            (Ok(()), _) => ErrorKind::ConnectionAborted,
            (Err(error), _) => error.kind(),
        };
        self.desk.put(Input::ConnectFailed { conn, error: failed });
    }

    /// Connects, or shuts the socket down when its time is over or nobody wants it any more, whereupon the operation ends with an
    /// error of its own. Shut again and again until it does: a socket that was shut while its SYN was under way is a fresh one to
    /// the kernel, and the ring's second look at the operation may begin to connect it anew.
    async fn connect_in_time(&self, conn: ConnId, fd: &SharedFd, to: SocketAddr) -> io::Result<()> {
        let mut connecting = Box::pin(op::connect(fd, to.into()));
        let mut look = tokio::time::interval(CONNECT_LOOK);
        let until = Instant::now() + CONNECT_TIMEOUT;
        let mut late = false;
        let outcome = poll_fn(|context| {
            while look.poll_tick(context).is_ready() {
                late |= Instant::now() >= until;
                if late || self.is_unwanted(conn) {
                    socket::shut(fd);
                }
            }
            connecting.as_mut().poll(context)
        })
        .await;
        if late && outcome.is_err() { Err(ErrorKind::TimedOut.into()) } else { outcome }
    }

    fn is_unwanted(&self, conn: ConnId) -> bool {
        matches!(self.table.borrow().get(&conn), Some(Entry::Opening { unwanted: true, .. }))
    }

    /// Puts another socket behind a connection that is opening; false when nobody wants it any more.
    fn replace_opening(&self, conn: ConnId, fresh: &SharedFd) -> bool {
        match self.table.borrow_mut().get_mut(&conn) {
            Some(Entry::Opening { fd, unwanted: false }) => {
                *fd = fresh.clone();
                true
            }
            _ => false,
        }
    }

    fn open(self: &Rc<Self>, name: ConnId, fd: SharedFd) {
        let connection = Rc::new(Connection {
            name,
            fd,
            closing: Cell::new(false),
            tasks: Cell::new(2),
            reset: Cell::new(false),
            reads: Slot::new(),
            writes: Slot::new(),
        });
        self.table.borrow_mut().insert(name, Entry::Open(connection.clone()));
        let (streams, reading) = (self.clone(), connection.clone());
        tokio_uring::spawn(async move {
            streams.read(&reading).await;
            streams.task_ended(&reading);
        });
        let streams = self.clone();
        tokio_uring::spawn(async move {
            streams.write(&connection).await;
            streams.task_ended(&connection);
        });
    }

    async fn read(&self, connection: &Connection) {
        let conn = connection.name;
        while let Some(buffer) = connection.next(&connection.reads).await {
            if connection.closing.get() {
                self.desk.put(Input::Received { conn, buffer, outcome: Err(ErrorKind::NotConnected) });
                continue;
            }
            let (result, buffer) = op::receive(&connection.fd, buffer).await;
            self.desk.put(Input::Received { conn, buffer, outcome: result.map_err(|error| error.kind()) });
        }
    }

    async fn write(&self, connection: &Connection) {
        let conn = connection.name;
        let mut outgoing = Outgoing::new();
        while let Some(gather) = connection.next(&connection.writes).await {
            if connection.closing.get() {
                self.desk.put(Input::Sent { conn, gather, outcome: Err(ErrorKind::NotConnected) });
                continue;
            }
            outgoing.load(gather);
            let (result, back) = op::send(&connection.fd, outgoing).await;
            outgoing = back;
            let gather = outgoing.unload();
            self.desk.put(Input::Sent { conn, gather, outcome: result.map_err(|error| error.kind()) });
        }
    }

    fn task_ended(&self, connection: &Rc<Connection>) {
        connection.tasks.set(connection.tasks.get() - 1);
        if connection.tasks.get() > 0 {
            return;
        }
        if !connection.reset.get() {
            socket::drain(&connection.fd);
        }
        // The descriptor itself goes with the last of the tasks' references, before the next turn of the core.
        self.table.borrow_mut().remove(&connection.name);
        self.desk.put(Input::Closed { conn: connection.name });
    }

    fn with_open<R>(&self, conn: ConnId, then: impl FnOnce(&Connection) -> R) -> Option<R> {
        match self.table.borrow().get(&conn) {
            Some(Entry::Open(connection)) => Some(then(connection)),
            _ => None,
        }
    }

    /// Carries out `Effect::Receive`.
    pub fn receive(&self, conn: ConnId, buffer: BytesMut) {
        let mut lent = Some(buffer);
        self.with_open(conn, |connection| {
            if let Some(buffer) = lent.take() {
                lent = connection.reads.put(buffer).err();
            }
        });
        if let Some(buffer) = lent {
            self.desk.put(Input::Received { conn, buffer, outcome: Err(ErrorKind::NotConnected) });
        }
    }

    /// Carries out `Effect::Send`.
    pub fn send(&self, conn: ConnId, gather: Gather) {
        let mut lent = Some(gather);
        self.with_open(conn, |connection| {
            if let Some(gather) = lent.take() {
                lent = connection.writes.put(gather).err();
            }
        });
        if let Some(gather) = lent {
            self.desk.put(Input::Sent { conn, gather, outcome: Err(ErrorKind::NotConnected) });
        }
    }

    /// Carries out `Effect::Close`. A second one, or one for a connection that is gone, does nothing.
    pub fn close(&self, conn: ConnId, reset: bool) {
        match self.table.borrow_mut().get_mut(&conn) {
            Some(Entry::Opening { fd, unwanted }) => {
                *unwanted = true;
                socket::shut(fd);
            }
            Some(Entry::Open(connection)) if !connection.closing.replace(true) => {
                connection.reset.set(reset);
                if reset {
                    socket::reset(&connection.fd);
                } else {
                    socket::shut(&connection.fd);
                }
                connection.reads.wake();
                connection.writes.wake();
            }
            _ => {}
        }
    }
}

/// A socket to connect with, bound to `bind` where that can be had.
fn outgoing_socket(to: SocketAddr, bind: Option<SocketAddr>) -> io::Result<OwnedFd> {
    let socket = socket::stream(to)?;
    if let Some(bind) = bind.filter(|bind| bind.is_ipv4() == to.is_ipv4()) {
        // Both options, as on the listener whose port this is (`manual::peers`).
        let shared = socket.set_reuse_address(true).and_then(|()| socket::set_reuse_port(&socket));
        if let Err(error) = shared.and_then(|()| socket.bind(&bind.into())) {
            tracing::debug!(%error, %bind, "cannot connect from our listening port, taking any");
            return socket::stream(to).map(OwnedFd::from);
        }
    }
    Ok(socket.into())
}

fn peer_of(fd: &OwnedFd) -> Option<SocketAddr> {
    SockRef::from(fd).peer_addr().ok()?.as_socket()
}

fn local_of(fd: &OwnedFd) -> Option<SocketAddr> {
    SockRef::from(fd).local_addr().ok()?.as_socket()
}
