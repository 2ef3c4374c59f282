//! Names of cores, connections and ways to a peer: numbers, not sockets.

use std::net::SocketAddr;

/// Number of a core (thread), from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct CoreId(pub u16);

impl CoreId {
    /// As an index into per-core tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A connection of one core. Never reused while the daemon runs: accepted ones are even, those we opened are odd.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// Number of a bound UDP socket, the same on every core: its place in `sip.listen`, datagram entries only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(pub u16);

/// A way to a peer that exists already: where an answer goes, and where a user's requests go back to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Flow {
    /// A datagram socket and the address at its other end. Every core can write it.
    Datagram {
        /// Our socket.
        socket: SocketId,
        /// Their address.
        peer: SocketAddr,
    },
    /// A connection; only its core writes it.
    Stream {
        /// Who owns it.
        core: CoreId,
        /// Which.
        conn: ConnId,
        /// Their address.
        peer: SocketAddr,
    },
}

impl Flow {
    /// The address at the other end.
    pub fn peer(&self) -> SocketAddr {
        match *self {
            Flow::Datagram { peer, .. } | Flow::Stream { peer, .. } => peer,
        }
    }

    /// True where the transport repeats lost octets itself (TCP): transaction timers A, E, G do not run on it.
    pub fn is_reliable(&self) -> bool {
        matches!(self, Flow::Stream { .. })
    }
}
