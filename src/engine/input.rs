//! What happens to a core. The kernel's interpreter and the simulator speak these same values.

use crate::base::gather::Gather;
use crate::base::net::{ConnId, SocketId};
use crate::engine::letters::Letter;
use crate::store::disk::DiskDone;
use bytes::{Bytes, BytesMut};
use std::io::ErrorKind;
use std::net::SocketAddr;

/// What a listener is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Service {
    /// SIP over TCP.
    Sip,
    /// MSRP.
    Msrp,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// Somebody connected. The core answers with [`Effect::Receive`](super::effect::Effect::Receive) when it wants to read.
    Accepted {
        /// The new connection; even.
        conn: ConnId,
        /// Which listener.
        service: Service,
        /// Their address.
        peer: SocketAddr,
        /// Ours.
        local: SocketAddr,
    },
    /// A read ended; `buffer` is the one that was lent, with `outcome` octets appended. Zero: the peer sends no more.
    Received {
        /// Where.
        conn: ConnId,
        /// The lent buffer.
        buffer: BytesMut,
        /// How many octets are new, or why there are none.
        outcome: Result<usize, ErrorKind>,
    },
    /// A datagram.
    Datagram {
        /// Our socket.
        socket: SocketId,
        /// Who sent it.
        peer: SocketAddr,
        /// What.
        octets: Bytes,
    },
    /// A connection we asked for is there.
    Connected {
        /// Which.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
    },
    /// A connection we asked for is not to be had. No [`Input::Closed`] follows.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// Why.
        error: ErrorKind,
    },
    /// A send ended: all of it is with the kernel, or the connection is broken.
    Sent {
        /// Where.
        conn: ConnId,
        /// What, for its next use.
        gather: Gather,
        /// How it ended.
        outcome: Result<(), ErrorKind>,
    },
    /// The connection is gone: no operation of it is left in the kernel. Comes once, after
    /// [`Effect::Close`](super::effect::Effect::Close) only.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// The disk answers.
    Disk(DiskDone),
    /// A letter from another core.
    Letter(Letter),
    /// A letter that begins something found the other core's box full.
    Undelivered(Letter),
    /// SIGTERM: say good-bye and end with [`Effect::Stopped`](super::effect::Effect::Stopped).
    Stop,
}
