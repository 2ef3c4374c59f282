//! What a core wants done. Nothing here has happened yet; most are answered by an [`Input`](super::input::Input).

use crate::base::gather::Gather;
use crate::base::net::{ConnId, CoreId, SocketId};
use crate::deferred::inquiry::Answer;
use crate::engine::letters::Letter;
use crate::store::disk::DiskOp;
use bytes::{Bytes, BytesMut};
use std::net::SocketAddr;

/// One thing to do.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation per letter; effects are drained every turn"
)]
pub enum Effect {
    /// Read into the spare capacity of `buffer`, behind what it holds. At most one is under way per connection; no
    /// `Receive`, no reading: that is the back-pressure. Answered by `Received`.
    Receive {
        /// Where.
        conn: ConnId,
        /// Lent until then.
        buffer: BytesMut,
    },
    /// Write all of `gather`. At most one is under way per connection. Answered by `Sent`.
    Send {
        /// Where.
        conn: ConnId,
        /// What.
        gather: Gather,
    },
    /// Send a datagram; lost or not, nobody says.
    SendDatagram {
        /// From which of our sockets.
        socket: SocketId,
        /// Where to.
        to: SocketAddr,
        /// What.
        octets: Bytes,
    },
    /// Connect, within 10 s. Answered by `Connected` or `ConnectFailed`.
    Connect {
        /// Its name from now on; odd.
        conn: ConnId,
        /// Where to.
        to: SocketAddr,
        /// Our end, where the peer checks it (`manual::peers`). When it cannot be had, any will do.
        bind: Option<SocketAddr>,
    },
    /// Shut a connection down in both directions, whatever is under way on it. Answered by `Closed` after every operation
    /// of it has ended (each with its own input).
    Close {
        /// Which.
        conn: ConnId,
        /// Reset instead of FIN: what is queued in the kernel is thrown away.
        reset: bool,
    },
    /// Ask the disk.
    Disk(DiskOp),
    /// Leave a letter at another core, and ring it.
    Letter {
        /// Whose box.
        to: CoreId,
        /// What.
        letter: Letter,
    },
    /// The answer to an operator's question.
    Answer {
        /// Of the question.
        ticket: u64,
        /// What is known.
        answer: Box<Answer>,
    },
    /// Something was left for another core in shared memory: ring it if it sleeps.
    Ring {
        /// Whom.
        core: CoreId,
    },
    /// After `Stop`: all sessions have said good-bye; the thread may end.
    Stopped,
}
