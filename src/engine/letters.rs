//! What cores write to each other. Message bodies never change core here: only SIP messages do, which are small,
//! and a `Bytes` moves by reference.

use crate::base::net::{ConnId, CoreId, Flow};
use crate::deferred::cx::Reply;
use crate::deferred::inquiry::Question;
use crate::deferred::owed::Recorded;
use crate::proto::sip::endpoint::ServerKey;
use crate::wire::sip::message::Message;
use bytes::Bytes;

/// A letter.
#[derive(Debug)]
pub enum Letter {
    /// A request whose decision is another core's: that of the user's home, or of the dialog's owner.
    Request {
        /// Where the response goes.
        reply: Reply,
        /// The request.
        message: Message,
        /// How it came.
        flow: Flow,
    },
    /// A response, or an ACK, that landed on a core it does not belong to: the kernel spreads datagrams and connections
    /// over cores without asking whose they are.
    Stray {
        /// What landed.
        message: Message,
        /// How it came.
        flow: Flow,
    },
    /// The response to a [`Letter::Request`].
    Respond {
        /// Who decided.
        from: CoreId,
        /// The transaction.
        txn: ServerKey,
        /// Its status.
        status: u16,
        /// The response.
        octets: Bytes,
    },
    /// A durable report: the home of whom it is for sends it.
    Owed(Box<Recorded>),
    /// An operator's question; the answer is an effect.
    Question {
        /// Comes back with the answer.
        ticket: u64,
        /// What is asked.
        question: Box<Question>,
    },
    /// Octets for a connection that only its core may write.
    Write {
        /// Who writes: hears of it when the connection is gone.
        from: CoreId,
        /// Which connection.
        conn: ConnId,
        /// What.
        octets: Bytes,
    },
    /// A connection of the sender's on which the reader has written is gone: whoever waits for an answer on it waits in vain.
    Gone {
        /// Whose.
        core: CoreId,
        /// Which.
        conn: ConnId,
    },
    /// The client of an INVITE that was handed over as a [`Letter::Request`] has heard, or will hear, nothing but its end: what is being
    /// looked up for it is not wanted any more, and what was set up for it is nobody's.
    Cancel(Reply),
}

impl Letter {
    /// True for what anybody outside can make us write any number of, and repeats when it is lost.
    pub fn is_unasked(&self) -> bool {
        matches!(self, Letter::Stray { .. })
    }

    /// True for a letter that begins something and may be refused when the box is full.
    pub fn is_request(&self) -> bool {
        matches!(self, Letter::Request { .. } | Letter::Owed(_))
    }
}
