//! The table of server transactions: which request belongs to which, what is kept for it, and what goes out again.

use super::hop_by_hop::{answer, answer_port, refusal, reread, toward, trying};
use super::invite_server::{self, Again, InviteServer};
use super::key::{ByPrint, Print, Printer, ServerKey, stateless_tag};
use super::outbox::{Alarm, Outbox, Owner, Upward};
use super::request_server::{self, RequestServer, Respond};
use crate::base::arena::{Arena, Key};
use crate::base::clock::Tick;
use crate::base::net::Flow;
use crate::wire::sip::{Message, Method};
use bytes::Bytes;

/// One server transaction: about 300 octets, and by reference the request until its final response, then that response.
#[derive(Debug)]
struct Server {
    machine: Machine,
    /// Where the request came from.
    flow: Flow,
    /// The port for responses, where it differs.
    port: Option<u16>,
    print: Print,
    /// Where it stands in `by_call`.
    call: Option<Print>,
    /// Until a final response, what 100 is written from: the request, or the answer that is [ready](Servers::prepare).
    request: Option<Bytes>,
    /// What lies there is that answer.
    is_ready: bool,
    /// The last response.
    response: Option<Bytes>,
    alarm: Alarm,
    /// Its branch identifies it.
    modern: bool,
    cancelled: bool,
}

#[derive(Clone, Copy, Debug)]
enum Machine {
    Invite(InviteServer),
    Request(RequestServer),
}

impl Server {
    fn send(&self, out: &mut Outbox, octets: Bytes) {
        out.send(toward(self.flow, self.port), octets);
    }

    fn send_again(&self, out: &mut Outbox) {
        if let Some(octets) = self.response.clone() {
            out.counts.responses_resent += 1;
            self.send(out, octets);
        }
    }

    /// Answers in the user's place, and keeps it as the last response.
    fn say(&mut self, out: &mut Outbox, write: impl FnOnce(&Message) -> Bytes) {
        if let Some(request) = self.request.clone().and_then(reread) {
            let octets = write(&request);
            self.response = Some(octets.clone());
            self.send(out, octets);
        }
    }

    fn deadline(&self) -> Tick {
        match &self.machine {
            Machine::Invite(machine) => machine.deadline(),
            Machine::Request(machine) => machine.deadline(),
        }
    }
}

/// All server transactions of a core.
#[derive(Debug)]
pub(super) struct Servers {
    arena: Arena<Server>,
    by_print: ByPrint<Key>,
    /// Requests outside dialogs, to recognise those that come by two ways; and every INVITE, to find the one whose 2xx an ACK
    /// acknowledges.
    by_call: ByPrint<Key>,
    printer: Printer,
    refusals: Refusals,
}

impl Servers {
    pub(super) fn new(printer: Printer) -> Servers {
        let refusals = Refusals::default();
        Servers { arena: Arena::new(), by_print: ByPrint::default(), by_call: ByPrint::default(), printer, refusals }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    /// A request that is neither ACK nor CANCEL. `most` is how many transactions there may be.
    pub(super) fn request(&mut self, now: Tick, message: Message, flow: Flow, most: usize, out: &mut Outbox) {
        let via = message.top_via();
        let print = self.printer.server(&message, &via);
        if let Some(&key) = self.by_print.get(&print) {
            return self.again(key, flow, out);
        }
        let port = answer_port(flow, &via);
        let modern = via.has_cookie();
        let invite = message.method() == Method::Invite;
        let outside = message.to_tag().is_none();
        //= RFC 3261 8.2.2.2: no tag in To; From tag, Call-ID, and CSeq match an ongoing transaction: 482
        // A MESSAGE is let through: the deposit knows it by its fingerprint and answers 202 once more (`manual::decisions`, D24).
        let looks = outside && message.method() != Method::Message;
        let call = (looks || invite).then(|| self.printer.call(&message));
        if outside && call.is_some_and(|call| self.by_call.contains_key(&call)) {
            out.counts.requests_merged += 1;
            let tag = stateless_tag(out.core, &message);
            return out.send(toward(flow, port), answer(&message, 482, flow.peer(), &tag));
        }
        if self.arena.len() >= most {
            out.counts.requests_refused += 1;
            let tag = stateless_tag(out.core, &message);
            let after_s = self.refusals.retry_after_s(now, most, out.timing.patience().as_secs());
            return out.send(toward(flow, port), refusal(&message, flow.peer(), &tag, after_s));
        }
        let machine = if invite {
            Machine::Invite(InviteServer::new(now, flow.is_reliable()))
        } else {
            Machine::Request(RequestServer::new(now, &out.timing, flow.is_reliable()))
        };
        let request = Some(message.octets().clone());
        let alarm = Alarm::unset();
        let server = Server {
            machine,
            flow,
            port,
            print,
            call,
            request,
            is_ready: false,
            response: None,
            alarm,
            modern,
            cancelled: false,
        };
        let key = self.arena.insert(server);
        self.by_print.insert(print, key);
        if let Some(call) = call {
            self.by_call.insert(call, key);
        }
        self.rearm(key, out);
        out.counts.requests += 1;
        out.tell(Upward::Request { txn: ServerKey(key), message, flow });
    }

    /// The same request again: it ends here.
    fn again(&mut self, key: Key, flow: Flow, out: &mut Outbox) {
        let Some(server) = self.arena.get_mut(key) else { return };
        out.counts.requests_repeated += 1;
        // Who lost a connection repeats the request over the next one: that is where the answer is waited for.
        if flow != server.flow && flow.is_reliable() && flow.peer().ip() == server.flow.peer().ip() {
            (server.flow, server.port) = (flow, None);
        }
        match server.machine {
            //= RFC 3261 17.2.1: the most recent provisional response MUST be passed to the transport layer
            Machine::Invite(machine) if machine.again() == Again::Answer => match server.response {
                Some(_) => server.send_again(out),
                None => {
                    let source = server.flow.peer();
                    server.say(out, |request| trying(request, source));
                }
            },
            Machine::Invite(_) => {}
            //= RFC 3261 17.2.2: once in the "Trying" state, any further request retransmissions are discarded
            Machine::Request(_) => server.send_again(out),
        }
    }

    /// An ACK.
    pub(super) fn ack(&mut self, now: Tick, message: Message, flow: Flow, out: &mut Outbox) {
        let via = message.top_via();
        let print = self.printer.server(&message, &via);
        let found = match self.by_print.get(&print) {
            Some(&key) if self.ack_is_for(key, &message) => Some(key),
            _ => {
                // The ACK for a 2xx is a transaction of its own; what it has in common with the INVITE are the call's names.
                let accepted = |key: &Key| {
                    let machine = self.arena.get(*key).map(|server| server.machine);
                    matches!(machine, Some(Machine::Invite(machine)) if machine.is_accepted())
                };
                self.by_call.get(&self.printer.call(&message)).copied().filter(accepted)
            }
        };
        let Some((key, server)) = found.and_then(|key| self.arena.get_mut(key).map(|server| (key, server))) else {
            out.counts.acks_unmatched += 1;
            return out.tell(Upward::Ack { message, flow });
        };
        let Machine::Invite(machine) = &mut server.machine else { return };
        match machine.ack(now, &out.timing) {
            invite_server::Ack::Up => {
                server.response = None;
                self.rearm(key, out);
                out.tell(Upward::Ack { message, flow });
            }
            invite_server::Ack::Absorb => self.rearm(key, out),
            invite_server::Ack::Gone => self.finish(key, true, out),
        }
    }

    /// True unless RFC 2543 matching found the INVITE and the ACK is for somebody else's response.
    ///
    //= RFC 3261 17.2.3: the To tag of the ACK matches the To tag of the response sent by the server transaction
    fn ack_is_for(&self, key: Key, ack: &Message) -> bool {
        let Some(server) = self.arena.get(key) else { return false };
        let Some(response) = server.response.clone().filter(|_| !server.modern) else { return true };
        reread(response).is_none_or(|response| response.to_tag() == ack.to_tag())
    }

    /// A CANCEL: answered here, whatever becomes of the INVITE. No transaction is kept for it; a repeated one gets the same
    /// answer again.
    pub(super) fn cancel(&mut self, message: Message, flow: Flow, out: &mut Outbox) {
        let via = message.top_via();
        let to = toward(flow, answer_port(flow, &via));
        let tag = stateless_tag(out.core, &message);
        let print = self.printer.server(&message, &via);
        let found = self.by_print.get(&print).copied();
        let Some((key, server)) = found.and_then(|key| self.arena.get_mut(key).map(|server| (key, server))) else {
            //= RFC 3261 9.2: no matching transaction: SHOULD respond to the CANCEL with a 481
            out.counts.cancels_stray += 1;
            return out.send(to, answer(&message, 481, flow.peer(), &tag));
        };
        //= RFC 3261 9.2: the To tag of the response to the CANCEL and that of the original request SHOULD be the same
        let said = server.response.clone().and_then(reread);
        let tag = said.as_ref().and_then(|response| response.to_tag()).unwrap_or(&tag);
        out.send(to, answer(&message, 200, flow.peer(), tag));
        if matches!(server.machine, Machine::Invite(machine) if machine.is_proceeding()) && !server.cancelled {
            server.cancelled = true;
            out.tell(Upward::Cancel { txn: ServerKey(key) });
        }
    }

    /// The user knows already how it will answer, and keeps the answer here in the request's place.
    pub(super) fn prepare(&mut self, txn: ServerKey, octets: Bytes) {
        if let Some(server) = self.arena.get_mut(txn.0)
            && server.request.is_some()
        {
            (server.request, server.is_ready) = (Some(octets), true);
        }
    }

    /// Takes the answer that is ready.
    pub(super) fn ready(&mut self, txn: ServerKey) -> Option<Bytes> {
        let server = self.arena.get_mut(txn.0)?;
        if std::mem::take(&mut server.is_ready) { server.request.take() } else { None }
    }

    /// The user answers; false when the answer is not sent.
    pub(super) fn respond(&mut self, now: Tick, txn: ServerKey, status: u16, octets: Bytes, out: &mut Outbox) -> bool {
        let Some(server) = self.arena.get_mut(txn.0) else {
            out.counts.responses_dropped += 1;
            return false;
        };
        let verdict = match &mut server.machine {
            Machine::Invite(machine) => match machine.respond(now, &out.timing, status) {
                true => Respond::Send,
                false => Respond::Drop,
            },
            Machine::Request(machine) => machine.respond(now, &out.timing, status),
        };
        match verdict {
            Respond::Drop => {
                out.counts.responses_dropped += 1;
                return false;
            }
            Respond::SendLast => {
                server.send(out, octets);
                self.finish(txn.0, false, out);
            }
            Respond::Send => {
                if status >= 200 {
                    server.request = None;
                }
                server.response = Some(octets.clone());
                server.send(out, octets);
                self.rearm(txn.0, out);
            }
        }
        true
    }

    /// Answers an INVITE 487 in the user's place. Whatever the user still answers comes too late.
    ///
    //= RFC 3261 9.2: the UAS SHOULD immediately respond to the original request with a 487 (Request Terminated)
    pub(super) fn terminate(&mut self, now: Tick, txn: ServerKey, out: &mut Outbox) {
        let Some(server) = self.arena.get_mut(txn.0) else { return };
        let Machine::Invite(machine) = &mut server.machine else { return };
        if !machine.is_proceeding() {
            return;
        }
        machine.respond(now, &out.timing, 487);
        let (source, core) = (server.flow.peer(), out.core);
        server.say(out, |request| answer(request, 487, source, &stateless_tag(core, request)));
        server.request = None;
        self.rearm(txn.0, out);
    }

    /// The transaction's alarm rang.
    pub(super) fn fire(&mut self, now: Tick, txn: ServerKey, out: &mut Outbox) {
        let Some(server) = self.arena.get_mut(txn.0) else { return };
        server.alarm.rang();
        let gone = match server.machine {
            Machine::Invite(machine) => server.fire_invite(now, machine, out),
            Machine::Request(machine) => server.fire_request(now, machine, out),
        };
        match gone {
            Some(acked) => self.finish(txn.0, acked, out),
            None => self.rearm(txn.0, out),
        }
    }

    fn rearm(&mut self, key: Key, out: &mut Outbox) {
        if let Some(server) = self.arena.get_mut(key) {
            let at = server.deadline();
            out.set(&mut server.alarm, at, Owner::Server(ServerKey(key)));
        }
    }

    fn finish(&mut self, key: Key, acked: bool, out: &mut Outbox) {
        let Some(mut server) = self.arena.remove(key) else { return };
        out.unset(&mut server.alarm);
        self.by_print.remove(&server.print);
        if let Some(call) = server.call
            && self.by_call.get(&call) == Some(&key)
        {
            self.by_call.remove(&call);
        }
        debug_assert!(self.by_print.len().max(self.by_call.len()) <= self.arena.len(), "tables name only who is alive");
        if matches!(server.machine, Machine::Invite(_)) {
            out.tell(Upward::Ended { txn: ServerKey(key), acked });
        }
    }
}

impl Server {
    /// Some: it is over, and whether it was acknowledged.
    fn fire_invite(&mut self, now: Tick, mut machine: InviteServer, out: &mut Outbox) -> Option<bool> {
        let source = self.flow.peer();
        let gone = loop {
            match machine.fire(now, &out.timing) {
                invite_server::Fired::Nothing => break None,
                invite_server::Fired::Gone { acked } => break Some(acked),
                invite_server::Fired::Repeat => self.send_again(out),
                invite_server::Fired::Trying => self.say(out, |request| trying(request, source)),
                invite_server::Fired::Answer500 => {
                    out.counts.requests_unanswered += 1;
                    machine.respond(now, &out.timing, 500);
                    let core = out.core;
                    self.say(out, |request| answer(request, 500, source, &stateless_tag(core, request)));
                    self.request = None;
                }
            }
        };
        self.machine = Machine::Invite(machine);
        gone
    }

    fn fire_request(&mut self, now: Tick, mut machine: RequestServer, out: &mut Outbox) -> Option<bool> {
        let source = self.flow.peer();
        let gone = loop {
            match machine.fire(now) {
                request_server::Fired::Nothing => break None,
                request_server::Fired::Trying => self.say(out, |request| trying(request, source)),
                request_server::Fired::Gone => {
                    out.counts.requests_unanswered += u64::from(machine.is_open());
                    break Some(false);
                }
            }
        };
        self.machine = Machine::Request(machine);
        gone
    }
}

/// How much was refused lately, which says when to come again.
#[derive(Clone, Copy, Default, Debug)]
struct Refusals {
    since: Tick,
    count: u64,
}

impl Refusals {
    /// A full table drains in `patience_s` at the latest, `most` / `patience_s` places a second. Whoever was refused in the
    /// present second is given the second in which, at that pace, there is a place again: so they do not all come back at once.
    fn retry_after_s(&mut self, now: Tick, most: usize, patience_s: u64) -> u64 {
        if now.since_us(self.since) >= 1_000_000 {
            *self = Refusals { since: now, count: 0 };
        }
        self.count += 1;
        let patience_s = patience_s.max(1);
        let places_a_second = (most as u64 / patience_s).max(1);
        (1 + self.count / places_a_second).min(2 * patience_s)
    }
}
