//! What the tables of transactions share: the wheel, what waits to be sent or told, and the counts.

use super::key::{ClientKey, ServerKey};
use super::timing::Timing;
use crate::base::clock::Tick;
use crate::base::net::{CoreId, Flow};
use crate::base::timers::{TimerKey, Timers};
use crate::wire::sip::Message;
use bytes::Bytes;
use std::collections::VecDeque;

/// What the transaction user is told.
#[derive(Debug)]
pub enum Upward {
    /// A new request, neither ACK nor CANCEL. Its retransmissions end in the transaction.
    Request {
        /// To answer by.
        txn: ServerKey,
        /// What was asked.
        message: Message,
        /// From where.
        flow: Flow,
    },
    /// An ACK for a 2xx. (An ACK that belongs to nothing comes here, too: ignore it when no dialog knows it.)
    Ack {
        /// The ACK.
        message: Message,
        /// From where.
        flow: Flow,
    },
    /// The INVITE was cancelled while nothing final had been said: answer it 487. The CANCEL has its 200 already.
    Cancel {
        /// The INVITE's.
        txn: ServerKey,
    },
    /// A provisional response, the final one, or, to an INVITE, one more 2xx.
    Response {
        /// The request's.
        txn: ClientKey,
        /// The response.
        message: Message,
    },
    /// The request failed without a final response. Nothing more comes for it.
    Failed {
        /// The request's.
        txn: ClientKey,
        /// Why.
        cause: Failure,
    },
    /// An INVITE server transaction is gone.
    Ended {
        /// The INVITE's.
        txn: ServerKey,
        /// An ACK came. If not, and the answer was a 2xx: BYE (RFC 3261 13.3.1.4).
        acked: bool,
    },
}

/// Why a request has no final response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Nobody answered: timers B or F, or 64*T1 after a CANCEL. To be treated as a 408 (RFC 3261 8.1.3.1).
    Timeout,
    /// It could not be sent, or its connection broke. To be treated as a 503 (RFC 3261 8.1.3.1).
    Transport,
}

/// Octets to send. When the flow is a connection that has been closed meanwhile, drop them.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// Where to.
    pub flow: Flow,
    /// What.
    pub octets: Bytes,
}

/// What the transaction layer did so far; all but the first two only ever grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Server transactions alive.
    pub servers: usize,
    /// Client transactions alive.
    pub clients: usize,
    /// New requests handed up.
    pub requests: u64,
    /// Repeated requests that ended here.
    pub requests_repeated: u64,
    /// Requests that came a second time by another way: 482.
    pub requests_merged: u64,
    /// Requests refused because the table was full: 503.
    pub requests_refused: u64,
    /// CANCELs that matched nothing: 481.
    pub cancels_stray: u64,
    /// ACKs that matched no transaction: of 2xx, mostly.
    pub acks_unmatched: u64,
    /// Responses of the user that came too late or are forbidden, and were dropped.
    pub responses_dropped: u64,
    /// Server transactions whose user never answered.
    pub requests_unanswered: u64,
    /// Responses that match no request of ours.
    pub responses_stray: u64,
    /// Requests of ours that timers sent again.
    pub requests_resent: u64,
    /// Responses of ours that timers or repeated requests sent again.
    pub responses_resent: u64,
    /// Requests of ours that ended without an answer.
    pub timeouts: u64,
    /// Requests of ours that could not be read back, and were not sent.
    pub unsendable: u64,
}

/// Whose timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Server(ServerKey),
    Client(ClientKey),
}

/// A place where a transaction keeps its one timer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alarm {
    at: Tick,
    timer: Option<TimerKey>,
}

impl Alarm {
    pub(super) fn unset() -> Alarm {
        Alarm { at: Tick::NEVER, timer: None }
    }

    /// The wheel has let it go.
    pub(super) fn rang(&mut self) {
        *self = Alarm::unset();
    }
}

/// The wheel, the queues and the counts.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) core: CoreId,
    pub(super) timing: Timing,
    pub(super) counts: Counts,
    pub(super) timers: Timers<Owner>,
    pub(super) upward: VecDeque<Upward>,
    pub(super) transmit: VecDeque<Transmit>,
}

impl Outbox {
    pub(super) fn send(&mut self, flow: Flow, octets: Bytes) {
        self.transmit.push_back(Transmit { flow, octets });
    }

    pub(super) fn tell(&mut self, upward: Upward) {
        self.upward.push_back(upward);
    }

    /// Sets the alarm to `at`, which may be [`Tick::NEVER`].
    pub(super) fn set(&mut self, alarm: &mut Alarm, at: Tick, owner: Owner) {
        if alarm.at == at {
            return;
        }
        self.unset(alarm);
        if at != Tick::NEVER {
            *alarm = Alarm { at, timer: Some(self.timers.set(at, owner)) };
        }
    }

    pub(super) fn unset(&mut self, alarm: &mut Alarm) {
        if let Some(timer) = alarm.timer {
            self.timers.cancel(timer);
        }
        alarm.rang();
    }
}
