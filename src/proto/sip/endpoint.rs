//! The transaction layer of one core (RFC 3261 17 and 18): every SIP message goes in and comes out here.
//!
//! Knows what a repetition is and who waits for what. Knows no sockets (octets to send are polled), no addresses to resolve
//! (a flow is given), no dialogs and no service: that is the transaction user above.

use super::clients::Clients;
use super::key::Printer;
use super::outbox::{Outbox, Owner};
use super::servers::Servers;
use super::timing::Timing;
use crate::base::clock::Tick;
use crate::base::dice::Dice;
use crate::base::net::{ConnId, CoreId, Flow};
use crate::base::timers::Timers;
use crate::wire::sip::{Message, Method};
use bytes::Bytes;
use std::collections::VecDeque;

pub use super::key::{Branch, ClientKey, ServerKey};
pub use super::outbox::{Counts, Failure, Transmit, Upward};

/// What an [`Endpoint`] is told at its birth.
#[derive(Clone, Copy, Debug)]
pub struct EndpointSetup {
    /// Whose transactions: its number begins every branch.
    pub core: CoreId,
    /// Most transactions at one time, server and client together (`Limits::transactions`). An eighth is kept free for requests
    /// of our own, so that a flood of deposits does not stop the pushes; the CANCEL of an INVITE of ours is not counted.
    pub transactions_max: usize,
    /// The RFC's times, or a test's.
    pub timing: Timing,
}

/// There is no room for another transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The transaction layer of one core.
///
/// The contract: after [`receive`](Endpoint::receive), [`respond`](Endpoint::respond), [`request`](Endpoint::request),
/// [`cancel`](Endpoint::cancel), [`flow_failed`](Endpoint::flow_failed) and [`turn`](Endpoint::turn), poll
/// [`poll_transmit`](Endpoint::poll_transmit) and [`poll_upward`](Endpoint::poll_upward) until both are empty; call `turn` again at
/// [`deadline`](Endpoint::deadline).
#[derive(Debug)]
pub struct Endpoint {
    transactions_max: usize,
    servers: Servers,
    clients: Clients,
    out: Outbox,
}

impl Endpoint {
    /// One without transactions.
    pub fn new(setup: EndpointSetup) -> Endpoint {
        let printer = Printer::new();
        let out = Outbox {
            core: setup.core,
            timing: setup.timing,
            counts: Counts::default(),
            timers: Timers::new(),
            upward: VecDeque::new(),
            transmit: VecDeque::new(),
        };
        let servers = Servers::new(printer.clone());
        Endpoint { transactions_max: setup.transactions_max, servers, clients: Clients::new(printer), out }
    }

    /// A fresh branch for the Via of a request of ours: the cookie, the core as 4 hex digits, 16 random ones.
    pub fn branch(&self, dice: &mut Dice) -> Branch {
        Branch::new(self.out.core, dice)
    }

    /// The core that made this branch, so that a response which landed elsewhere finds it; `None` when none of us did.
    pub fn core_of_branch(branch: &[u8]) -> Option<CoreId> {
        super::key::core_of_branch(branch)
    }

    /// A message that came along `flow`, whole and parsed.
    pub fn receive(&mut self, now: Tick, message: Message, flow: Flow) {
        if !message.is_request() {
            return self.clients.response(now, message, &mut self.out);
        }
        match message.method() {
            Method::Ack => self.servers.ack(now, message, flow, &mut self.out),
            Method::Cancel => self.servers.cancel(message, flow, &mut self.out),
            _ => {
                let most = self.servers_most();
                self.servers.request(now, message, flow, most, &mut self.out);
            }
        }
    }

    /// Answers a request, provisionally or finally, with octets whose status is `status`. They are kept, and sent again as long as
    /// the RFC wants it: a 2xx to an INVITE, too, until its ACK comes.
    ///
    /// Dropped and counted when it comes too late, and when RFC 4320 forbids it: 408 and any provisional response but a late 100
    /// to requests other than INVITE: false.
    pub fn respond(&mut self, now: Tick, txn: ServerKey, status: u16, octets: Bytes) -> bool {
        self.servers.respond(now, txn, status, octets, &mut self.out)
    }

    /// Answers an INVITE that was cancelled with 487, where its user is not at hand: what the user answers meanwhile is dropped.
    pub fn terminate(&mut self, now: Tick, txn: ServerKey) {
        self.servers.terminate(now, txn, &mut self.out);
    }

    /// Leaves the answer to a request here until its time has come: written while the request is at hand, kept in its place, so
    /// that nobody holds on to the buffer in which the request lies. [`Endpoint::ready`] gives it back. Not for INVITE, whose
    /// transaction may have to answer 500 by itself.
    pub fn prepare(&mut self, txn: ServerKey, octets: Bytes) {
        self.servers.prepare(txn, octets);
    }

    /// Takes back what was [prepared](Endpoint::prepare); `None` when the transaction is gone. To be given to
    /// [`Endpoint::respond`], or replaced by another answer.
    pub fn ready(&mut self, txn: ServerKey) -> Option<Bytes> {
        self.servers.ready(txn)
    }

    /// Sends a request whose octets carry our Via with a fresh branch, and repeats it until it is answered. What becomes of it is
    /// told with the key. Not for ACK ([`Endpoint::transmit`]) nor CANCEL ([`Endpoint::cancel`]).
    ///
    /// Octets that cannot be read back are not sent: [`Failure::Transport`] follows.
    pub fn request(&mut self, now: Tick, method: Method, octets: Bytes, flow: Flow) -> Result<ClientKey, Full> {
        if self.servers.len() + self.clients.len() >= self.transactions_max {
            return Err(Full);
        }
        Ok(self.clients.request(now, method, octets, flow, &mut self.out))
    }

    /// Cancels an INVITE of ours: as soon as a provisional response is there, and never before (RFC 3261 9.1). The INVITE still ends
    /// with a response (487, or a 2xx that was faster) or with [`Failure::Timeout`]. Means nothing after the final response, and
    /// for other requests.
    ///
    /// Chance is not needed: a CANCEL has the branch of its INVITE.
    pub fn cancel(&mut self, now: Tick, txn: ClientKey, _dice: &mut Dice) {
        self.clients.cancel(now, txn, &mut self.out);
    }

    /// Sends what belongs to no transaction: the ACK for a 2xx.
    pub fn transmit(&mut self, flow: Flow, octets: Bytes) {
        self.out.send(flow, octets);
    }

    /// A connection broke. Requests of ours that wait for an answer on it fail. Requests of the peer's keep their state: it may
    /// repeat them over another connection; responses that are still [polled](Endpoint::poll_transmit) for this one are the
    /// caller's to drop.
    ///
    //= RFC 6026 8.8: the server transaction MUST remain in the current state
    pub fn flow_failed(&mut self, _now: Tick, core: CoreId, conn: ConnId) {
        self.clients.flow_failed(core, conn, &mut self.out);
    }

    /// The next thing to tell the transaction user.
    pub fn poll_upward(&mut self) -> Option<Upward> {
        self.out.upward.pop_front()
    }

    /// The next octets to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmit.pop_front()
    }

    /// Lets the timers that are due do their work.
    pub fn turn(&mut self, now: Tick) {
        while let Some(owner) = self.out.timers.expire(now) {
            match owner {
                Owner::Server(txn) => self.servers.fire(now, txn, &mut self.out),
                Owner::Client(txn) => self.clients.fire(now, txn, &mut self.out),
            }
        }
    }

    /// When [`Endpoint::turn`] has work again.
    pub fn deadline(&self) -> Option<Tick> {
        self.out.timers.deadline()
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        Counts { servers: self.servers.len(), clients: self.clients.len(), ..self.out.counts }
    }

    /// How many server transactions there may be now.
    fn servers_most(&self) -> usize {
        let reserved = self.transactions_max / 8;
        self.transactions_max.saturating_sub(self.clients.len().max(reserved))
    }
}

#[cfg(test)]
mod bench_of_tests;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod lossy_tests;
#[cfg(test)]
mod server_tests;
