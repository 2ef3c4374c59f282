//! The connections of one core: octets in until a whole message or frame is there, octets out one send at a time.
//!
//! A connection reads only into a buffer that the core lends (no lending, no reading: that is the back-pressure), and has at
//! most one send under way. What waits to be sent is bounded: SIP by `backlog_octets`, MSRP by what its sessions frame per
//! send.

use super::effect::Effect;
use super::input::Service;
use crate::base::arena::Key;
use crate::base::clock::{Now, Tick};
use crate::base::gather::Gather;
use crate::base::limits::Limits;
use crate::base::net::{ConnId, CoreId};
use crate::base::split::SpreadSplitMap;
use crate::deferred::push::Pushes;
use crate::wire::{msrp, sip};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// First read of a connection: a typical response or two. It grows with what comes.
const READ_FIRST: usize = 2 * 1024;
/// Largest single read. 256 KiB are 200 MESSAGEs of a busy SIP core, or 2,000 MSRP responses.
const READ_MOST: usize = 256 * 1024;
/// Of an MSRP connection: 100 responses. They come on thousands of connections at once, a few to each.
const READ_MOST_MSRP: usize = 16 * 1024;
/// What reads of a core may grow to together, beyond the first size of each: 256 of the largest. Buffers that have grown stay lent to
/// connections that fall silent, so without this everybody who may connect could hold 256 KiB a connection with keep-alives.
const READ_GROWTH: usize = 64 << 20;
/// A message begun must be whole by then, an MSRP connection bound, an unused one closed (RFC 4975 5.4).
const PATIENCE: Duration = Duration::from_secs(30);
/// After its last session an MSRP connection may be used again for this long.
const GRACE: Duration = Duration::from_secs(5);

/// Parts in which connections are looked over. A hundred thousand are 20 ms of looking into cold memory: not at one time.
pub(super) const SWEEPS: usize = 8;

/// Empty gathers kept for the next sends of the core, whichever connection's: a turn has not many more under way. With
/// [`SPARE_ROOM`] 16 MiB at most.
const SPARE_GATHERS: usize = 64;
/// Octets of memory a gather may keep: what heads and end-lines of a send of 256 KiB take, bodies copied included.
const SPARE_ROOM: usize = 256 * 1024;

/// What cuts a connection's octets.
pub(super) enum Cutter {
    Sip(sip::cut::Cut),
    Msrp(msrp::cut::Cut),
}

/// One connection.
pub(super) struct Conn {
    pub(super) peer: SocketAddr,
    pub(super) cutter: Cutter,
    /// Read and not yet consumed; empty while lent.
    pub(super) buffer: BytesMut,
    read_size: usize,
    /// Waits for the next send: SIP messages, MSRP answers that belong to no session.
    pub(super) owed: Gather,
    sending: bool,
    /// In the list of those that sessions are to fill.
    due: bool,
    open: bool,
    closing: bool,
    /// What is owed is still sent, then it is closed.
    finishing: bool,
    /// Other cores that have had something written here: they are told when it is gone. As many as there are cores at most.
    writers: Vec<CoreId>,
    /// The session that takes the body of the MSRP request being read.
    pub(super) taker: Option<Taker>,
    /// Since when something unfinished lies in the buffer, or nobody uses the connection.
    pub(super) waiting_since: Option<Tick>,
    hang_up_at: Option<Tick>,
}

impl Conn {
    fn new(service: Service, peer: SocketAddr, limits: &Limits) -> Conn {
        let cutter = match service {
            Service::Sip => Cutter::Sip(sip::cut::Cut::new(limits)),
            Service::Msrp => Cutter::Msrp(msrp::cut::Cut::new(limits.msrp_head_octets)),
        };
        Conn {
            peer,
            cutter,
            buffer: BytesMut::new(),
            read_size: READ_FIRST,
            owed: Gather::new(),
            sending: false,
            due: false,
            open: false,
            closing: false,
            finishing: false,
            writers: Vec::new(),
            taker: None,
            waiting_since: None,
            hang_up_at: None,
        }
    }

    /// True for MSRP.
    pub(super) fn is_msrp(&self) -> bool {
        matches!(self.cutter, Cutter::Msrp(_))
    }

    /// True once it is being closed: nothing more is read.
    pub(super) fn is_closing(&self) -> bool {
        self.closing || self.finishing
    }
}

/// Who takes the body of an MSRP request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taker {
    /// A session that we send over.
    Push(Key),
    /// One in which large messages come.
    Large(Key),
}

/// All connections of one core.
pub(super) struct Conns {
    pub(super) table: SpreadSplitMap<ConnId, Conn>,
    limits: Limits,
    /// The part of them that was last looked over.
    swept: usize,
    /// By how much all reads together are larger than at first.
    grown: usize,
    /// Empty gathers with their memory: the one used last goes out next, so its memory is still in the processor's cache.
    spare: Vec<Gather>,
    /// MSRP connections that may have something to send, first come first served.
    due: VecDeque<ConnId>,
}

impl Conns {
    pub(super) fn new(limits: &Limits) -> Conns {
        Conns {
            table: SpreadSplitMap::default(),
            limits: limits.clone(),
            swept: 0,
            grown: 0,
            spare: Vec::new(),
            due: VecDeque::new(),
        }
    }

    /// Lets go of the memory that is kept for the next sends.
    pub(super) fn rest(&mut self) {
        self.spare = Vec::new();
    }

    /// Somebody connected; false when there is no room.
    pub(super) fn accept(&mut self, now: Now, conn: ConnId, service: Service, peer: SocketAddr) -> bool {
        let full = self.table.len() >= self.limits.connections;
        let mut new = Conn::new(service, peer, &self.limits);
        new.open = true;
        new.waiting_since = (service == Service::Msrp).then_some(now.tick);
        self.table.insert(conn, new);
        !full
    }

    /// We connect.
    pub(super) fn dial(&mut self, conn: ConnId, service: Service, peer: SocketAddr) {
        self.table.insert(conn, Conn::new(service, peer, &self.limits));
    }

    /// It is there. What waited can be sent, and reading begins.
    pub(super) fn connected(&mut self, conn: ConnId) {
        if let Some(conn) = self.table.get_mut(&conn) {
            conn.open = true;
        }
    }

    /// Lends the connection's buffer for the next read.
    pub(super) fn read_on(&mut self, id: ConnId, effects: &mut VecDeque<Effect>) {
        let Some(conn) = self.table.get_mut(&id) else { return };
        if conn.is_closing() || !conn.open {
            return;
        }
        let mut buffer = std::mem::take(&mut conn.buffer);
        buffer.reserve(conn.read_size);
        effects.push_back(Effect::Receive { conn: id, buffer });
    }

    /// Octets came back with the lent buffer: the reads grow with the traffic.
    pub(super) fn returned(&mut self, id: ConnId, buffer: BytesMut, octets: usize) {
        let Some(conn) = self.table.get_mut(&id) else { return };
        let others = self.grown - (conn.read_size - READ_FIRST);
        if octets >= conn.read_size {
            let most = if conn.is_msrp() { READ_MOST_MSRP } else { READ_MOST };
            let larger = (conn.read_size * 4).min(most).max(conn.read_size);
            if others + (larger - READ_FIRST) <= READ_GROWTH {
                conn.read_size = larger;
            }
        } else if octets < conn.read_size / 16 {
            conn.read_size = (conn.read_size / 2).max(READ_FIRST);
        }
        self.grown = others + (conn.read_size - READ_FIRST);
        conn.buffer = buffer;
    }

    /// Queues a SIP message. False when the peer does not drain what it asked for: close it.
    pub(super) fn write(&mut self, id: ConnId, octets: Bytes) -> Written {
        let Some(conn) = self.table.get_mut(&id) else { return Written::Gone };
        if conn.is_closing() {
            return Written::Gone;
        }
        if conn.owed.len() + octets.len() > self.limits.backlog_octets {
            return Written::Overflow;
        }
        if conn.owed.is_empty()
            && let Some(spare) = self.spare.pop()
        {
            conn.owed = spare;
        }
        conn.owed.push(octets);
        Written::Queued
    }

    /// Another core has had something written here.
    pub(super) fn written_by(&mut self, id: ConnId, core: CoreId) {
        if let Some(conn) = self.table.get_mut(&id)
            && !conn.writers.contains(&core)
        {
            conn.writers.push(core);
        }
    }

    /// Those of them, once.
    pub(super) fn take_writers(&mut self, id: ConnId) -> Vec<CoreId> {
        self.table.get_mut(&id).map(|conn| std::mem::take(&mut conn.writers)).unwrap_or_default()
    }

    /// Puts a connection on the list of those that sessions are to fill, once; false when it carries no sessions.
    pub(super) fn put_off(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.table.get_mut(&id).filter(|conn| conn.is_msrp()) else { return false };
        if !std::mem::replace(&mut conn.due, true) {
            self.due.push_back(id);
        }
        true
    }

    /// The next of that list.
    pub(super) fn next_due(&mut self) -> Option<ConnId> {
        while let Some(id) = self.due.pop_front() {
            if let Some(conn) = self.table.get_mut(&id) {
                conn.due = false;
                return Some(id);
            }
        }
        None
    }

    /// True when a connection is on that list.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// True while a send of this connection is under way.
    pub(super) fn is_sending(&self, id: ConnId) -> bool {
        self.table.get(&id).is_some_and(|conn| conn.sending)
    }

    /// Sends what there is to send, unless a send is under way. How many octets that is, and how many of them were copied.
    pub(super) fn pump(
        &mut self,
        now: Now,
        id: ConnId,
        pushes: &mut Pushes,
        effects: &mut VecDeque<Effect>,
    ) -> (usize, u64) {
        let Some(conn) = self.table.get_mut(&id) else { return (0, 0) };
        if conn.sending || conn.closing || !conn.open {
            return (0, 0);
        }
        let mut copied = 0;
        // Answers we owe go first.
        let mut gather = match conn.owed.is_empty() {
            true => self.spare.pop().unwrap_or_default(),
            false => std::mem::take(&mut conn.owed),
        };
        if conn.is_msrp() && !conn.finishing && gather.len() < self.limits.send_octets {
            copied = pushes.fill(now, id, &mut gather, self.limits.send_octets);
        }
        let octets = gather.len();
        if octets == 0 {
            if conn.finishing {
                conn.closing = true;
                effects.push_back(Effect::Close { conn: id, reset: false });
            }
            self.spare.push(gather);
            return (0, 0);
        }
        conn.sending = true;
        effects.push_back(Effect::Send { conn: id, gather });
        (octets, copied)
    }

    /// A send ended.
    pub(super) fn sent(&mut self, id: ConnId, mut gather: Gather) {
        gather.clear();
        if self.spare.len() < SPARE_GATHERS && gather.room() <= SPARE_ROOM {
            self.spare.push(gather);
        }
        if let Some(conn) = self.table.get_mut(&id) {
            conn.sending = false;
        }
    }

    /// Sends what is owed, reads no more, then closes. A peer that does not take it is cut off by [`Conns::overdue`].
    pub(super) fn finish(&mut self, now: Now, id: ConnId) {
        if let Some(conn) = self.table.get_mut(&id)
            && !conn.is_closing()
        {
            conn.finishing = true;
            conn.waiting_since = Some(now.tick);
        }
    }

    /// Begins to close; [`Conns::closed`] follows.
    pub(super) fn close(&mut self, id: ConnId, reset: bool, effects: &mut VecDeque<Effect>) {
        if let Some(conn) = self.table.get_mut(&id)
            && !conn.closing
        {
            conn.closing = true;
            effects.push_back(Effect::Close { conn: id, reset });
        }
    }

    /// It is gone.
    pub(super) fn closed(&mut self, id: ConnId) {
        if let Some(conn) = self.table.remove(&id) {
            self.grown -= conn.read_size - READ_FIRST;
        }
    }

    /// No session uses it any more: close it in a while.
    pub(super) fn hang_up(&mut self, now: Now, id: ConnId) {
        if let Some(conn) = self.table.get_mut(&id) {
            conn.hang_up_at = Some(now.tick + GRACE);
        }
    }

    /// Connections that have waited too long for the rest of a message, or for anybody to use them: of those that are looked at now,
    /// another [`SWEEPS`]th at each call.
    pub(super) fn overdue(&mut self, now: Now, uses: impl Fn(ConnId) -> bool) -> Vec<ConnId> {
        let mut overdue = Vec::new();
        self.swept = (self.swept + 1) % SWEEPS;
        for (&id, conn) in self.table.part_mut(self.swept, SWEEPS) {
            if conn.closing {
                continue;
            }
            if conn.is_msrp() && !conn.finishing && uses(id) {
                conn.hang_up_at = None;
                conn.waiting_since = None;
                continue;
            }
            let late = conn.waiting_since.is_some_and(|since| now.tick - since >= PATIENCE);
            if late || conn.hang_up_at.is_some_and(|at| at <= now.tick) {
                overdue.push(id);
            }
        }
        overdue.sort_unstable();
        overdue
    }
}

/// What became of octets for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    Queued,
    /// The connection does not exist any more.
    Gone,
    /// More waits than the bound allows.
    Overflow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffers_of_all_connections_together_have_a_bound() {
        let mut conns = Conns::new(&Limits::default());
        let peer = SocketAddr::from(([127, 0, 0, 1], 5060));
        for n in 0..2_000u64 {
            assert!(conns.accept(Now::default(), ConnId(n * 2), Service::Sip, peer));
        }
        for _ in 0..6 {
            for n in 0..2_000u64 {
                conns.returned(ConnId(n * 2), BytesMut::new(), READ_MOST);
            }
        }
        let sizes: usize = conns.table.iter().map(|(_, conn)| conn.read_size - READ_FIRST).sum();
        assert_eq!(conns.grown, sizes);
        assert!(sizes <= READ_GROWTH && sizes > READ_GROWTH / 2, "{sizes}");
        for n in 0..2_000u64 {
            conns.closed(ConnId(n * 2));
        }
        assert_eq!(conns.grown, 0);
    }
}
