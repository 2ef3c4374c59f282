//! The table of client transactions: which response belongs to which request, what is kept for it, and what goes out again.

use super::hop_by_hop;
use super::invite_client::{self, InviteClient};
use super::key::{ByPrint, ClientKey, Print, Printer};
use super::outbox::{Alarm, Failure, Outbox, Owner, Upward};
use super::request_client::{self, RequestClient};
use crate::base::arena::{Arena, Key};
use crate::base::clock::Tick;
use crate::base::net::{ConnId, CoreId, Flow};
use crate::wire::sip::{Message, Method};
use bytes::Bytes;
use std::collections::BTreeSet;

/// One client transaction.
#[derive(Debug)]
struct Client {
    machine: Machine,
    flow: Flow,
    print: Print,
    /// What timers A and E send again; from a refusal of an INVITE on, its ACK. Dropped when nothing is sent any more.
    octets: Bytes,
    /// The INVITE, until its final response: ACK and CANCEL are written from it.
    invite: Option<Message>,
    alarm: Alarm,
    /// Our own CANCEL: nobody waits for its fate.
    quiet: bool,
}

#[derive(Clone, Copy, Debug)]
enum Machine {
    Invite(InviteClient),
    Request(RequestClient),
}

impl Client {
    fn is_open(&self) -> bool {
        match &self.machine {
            Machine::Invite(machine) => machine.is_open(),
            Machine::Request(machine) => machine.is_open(),
        }
    }

    fn deadline(&self) -> Tick {
        match &self.machine {
            Machine::Invite(machine) => machine.deadline(),
            Machine::Request(machine) => machine.deadline(),
        }
    }
}

/// All client transactions of a core.
#[derive(Debug)]
pub(super) struct Clients {
    arena: Arena<Client>,
    by_print: ByPrint<Key>,
    /// Which connection carries which, by key as a number.
    by_conn: BTreeSet<(CoreId, ConnId, u64)>,
    printer: Printer,
}

impl Clients {
    pub(super) fn new(printer: Printer) -> Clients {
        Clients { arena: Arena::new(), by_print: ByPrint::default(), by_conn: BTreeSet::new(), printer }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    /// Sends a request and waits for its answer.
    pub(super) fn request(
        &mut self,
        now: Tick,
        method: Method,
        octets: Bytes,
        flow: Flow,
        out: &mut Outbox,
    ) -> ClientKey {
        self.begin(now, method, octets, flow, false, out)
    }

    fn begin(
        &mut self,
        now: Tick,
        method: Method,
        octets: Bytes,
        flow: Flow,
        quiet: bool,
        out: &mut Outbox,
    ) -> ClientKey {
        let machine = if method == Method::Invite {
            Machine::Invite(InviteClient::new(now, &out.timing, flow.is_reliable()))
        } else {
            Machine::Request(RequestClient::new(now, &out.timing, flow.is_reliable()))
        };
        let read = hop_by_hop::reread(octets.clone());
        let readable = read.as_ref().is_some_and(|message| message.is_request() && message.method() == method);
        let Some(message) = read.filter(|_| readable) else {
            // Built from what a peer gave us, and worse than what we accept: nobody would understand it either.
            return self.unsendable(machine, octets, flow, quiet, out);
        };
        let print = self.printer.client(&message, &message.top_via());
        let invite = (method == Method::Invite).then_some(message);
        let alarm = Alarm::unset();
        let client = Client { machine, flow, print, octets: octets.clone(), invite, alarm, quiet };
        let key = self.arena.insert(client);
        self.by_print.insert(print, key);
        if let Flow::Stream { core, conn, .. } = flow {
            self.by_conn.insert((core, conn, key.to_u64()));
        }
        self.rearm(key, out);
        out.send(flow, octets);
        ClientKey(key)
    }

    fn unsendable(&mut self, machine: Machine, octets: Bytes, flow: Flow, quiet: bool, out: &mut Outbox) -> ClientKey {
        out.counts.unsendable += 1;
        let alarm = Alarm::unset();
        let client = Client { machine, flow, print: Print::NOTHING, octets, invite: None, alarm, quiet };
        let key = self.arena.insert(client);
        self.fail(key, Failure::Transport, out);
        ClientKey(key)
    }

    /// A response.
    pub(super) fn response(&mut self, now: Tick, message: Message, out: &mut Outbox) {
        let print = self.printer.client(&message, &message.top_via());
        //= RFC 3261 8.1.3.3: more than one Via header field value in a response: the UAC SHOULD discard the message
        let passing_by = message.via_count() > 1;
        let key = self.by_print.get(&print).copied().filter(|_| !passing_by);
        let Some((key, client)) = key.and_then(|key| self.arena.get_mut(key).map(|client| (key, client))) else {
            //= RFC 6026 8.9: otherwise any element other than a stateless proxy MUST silently discard the response
            out.counts.responses_stray += 1;
            return;
        };
        match &mut client.machine {
            Machine::Invite(machine) => {
                let verdict = machine.response(now, &out.timing, message.status());
                self.invite_response(now, key, verdict, message, out);
            }
            Machine::Request(machine) => {
                let verdict = machine.response(now, &out.timing, message.status());
                if verdict == request_client::Response::Absorb {
                    return;
                }
                if !client.quiet {
                    out.tell(Upward::Response { txn: ClientKey(key), message });
                }
                match verdict {
                    request_client::Response::UpLast => self.finish(key, out),
                    request_client::Response::UpFinal => {
                        client.octets = Bytes::new();
                        self.rearm(key, out);
                    }
                    _ => self.rearm(key, out),
                }
            }
        }
    }

    fn invite_response(
        &mut self,
        now: Tick,
        key: Key,
        verdict: invite_client::Response,
        message: Message,
        out: &mut Outbox,
    ) {
        let Some(client) = self.arena.get_mut(key) else { return };
        let (flow, txn) = (client.flow, ClientKey(key));
        match verdict {
            invite_client::Response::Absorb => {}
            invite_client::Response::AckAgain => out.send(flow, client.octets.clone()),
            invite_client::Response::Up => {
                if !client.is_open() {
                    (client.invite, client.octets) = (None, Bytes::new());
                }
                out.tell(Upward::Response { txn, message });
                self.rearm(key, out);
            }
            invite_client::Response::UpThenCancel => {
                let cancel = client.invite.as_ref().map(hop_by_hop::cancel);
                out.tell(Upward::Response { txn, message });
                self.rearm(key, out);
                if let Some(octets) = cancel {
                    self.begin(now, Method::Cancel, octets, flow, true, out);
                }
            }
            invite_client::Response::UpAndAck | invite_client::Response::UpAndAckLast => {
                //= RFC 6026 8.4: MUST generate an ACK request, even if the transport is reliable
                if let Some(invite) = client.invite.take() {
                    client.octets = hop_by_hop::ack(&invite, &message);
                    out.send(flow, client.octets.clone());
                }
                out.tell(Upward::Response { txn, message });
                if verdict == invite_client::Response::UpAndAckLast {
                    self.finish(key, out);
                } else {
                    self.rearm(key, out);
                }
            }
        }
    }

    /// The user no longer wants the answer to its INVITE.
    pub(super) fn cancel(&mut self, now: Tick, txn: ClientKey, out: &mut Outbox) {
        let Some(client) = self.arena.get_mut(txn.0) else { return };
        let Machine::Invite(machine) = &mut client.machine else { return };
        if !machine.cancel(now, &out.timing) {
            return;
        }
        let (flow, cancel) = (client.flow, client.invite.as_ref().map(hop_by_hop::cancel));
        self.rearm(txn.0, out);
        if let Some(octets) = cancel {
            self.begin(now, Method::Cancel, octets, flow, true, out);
        }
    }

    /// A connection broke: whoever waits for an answer on it waits in vain.
    pub(super) fn flow_failed(&mut self, core: CoreId, conn: ConnId, out: &mut Outbox) {
        let on_it = self.by_conn.range((core, conn, 0)..=(core, conn, u64::MAX));
        let on_it: Vec<u64> = on_it.map(|&(.., key)| key).collect();
        for key in on_it.into_iter().map(Key::from_u64) {
            // What has its final response waits for repetitions, which may find another way.
            if self.arena.get(key).is_some_and(Client::is_open) {
                self.fail(key, Failure::Transport, out);
            }
        }
    }

    /// The transaction's alarm rang.
    pub(super) fn fire(&mut self, now: Tick, txn: ClientKey, out: &mut Outbox) {
        let Some(client) = self.arena.get_mut(txn.0) else { return };
        client.alarm.rang();
        let fired = match &mut client.machine {
            Machine::Invite(machine) => machine.fire(now),
            Machine::Request(machine) => match machine.fire(now, &out.timing) {
                request_client::Fired::Nothing => invite_client::Fired::Nothing,
                request_client::Fired::Repeat => invite_client::Fired::Repeat,
                request_client::Fired::Timeout => invite_client::Fired::Timeout,
                request_client::Fired::Gone => invite_client::Fired::Gone,
            },
        };
        match fired {
            invite_client::Fired::Nothing => self.rearm(txn.0, out),
            invite_client::Fired::Repeat => {
                out.counts.requests_resent += 1;
                out.send(client.flow, client.octets.clone());
                self.rearm(txn.0, out);
            }
            invite_client::Fired::Timeout => {
                out.counts.timeouts += 1;
                self.fail(txn.0, Failure::Timeout, out);
            }
            invite_client::Fired::Gone => self.finish(txn.0, out),
        }
    }

    fn rearm(&mut self, key: Key, out: &mut Outbox) {
        if let Some(client) = self.arena.get_mut(key) {
            let at = client.deadline();
            out.set(&mut client.alarm, at, Owner::Client(ClientKey(key)));
        }
    }

    fn fail(&mut self, key: Key, cause: Failure, out: &mut Outbox) {
        if self.arena.get(key).is_some_and(|client| !client.quiet) {
            out.tell(Upward::Failed { txn: ClientKey(key), cause });
        }
        self.finish(key, out);
    }

    fn finish(&mut self, key: Key, out: &mut Outbox) {
        let Some(mut client) = self.arena.remove(key) else { return };
        out.unset(&mut client.alarm);
        if self.by_print.get(&client.print) == Some(&key) {
            self.by_print.remove(&client.print);
        }
        if let Flow::Stream { core, conn, .. } = client.flow {
            self.by_conn.remove(&(core, conn, key.to_u64()));
        }
        debug_assert!(self.by_print.len().max(self.by_conn.len()) <= self.arena.len(), "tables name only who is alive");
    }
}
