//! Large messages between the use case that takes them in and everybody else: their INVITEs find their home, their answers their
//! connection, and a connection whose octets have no place to go is not read until they have.

use super::conns::Written;
use super::core::Core;
use super::route;
use crate::base::net::Flow;
use crate::deferred::cx::{Ask, Reply};
use crate::deferred::identity::{self, Address};
use crate::deferred::large::Asked;
use crate::deferred::respond::{self, Refusal};
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;

impl Core {
    /// An INVITE that brings large messages: its receiver's home decides, and keeps them.
    pub(super) fn large(&mut self, reply: Reply, message: Message, flow: Flow, owner: Address) {
        if !route::accepts_sdp(&message) {
            return self.refuse(reply, &message, &flow, &Refusal::of(406));
        }
        //= RFC 3325 5: without an identity that a trusted peer asserts, a user is unknown: 403
        let Some(sender) = identity::originator(&self.cx.policy.aliases, &message, flow.peer().ip(), &self.trusted)
        else {
            let warning = respond::warning(&self.cx, "no asserted identity from a trusted peer");
            return self.refuse(reply, &message, &flow, &Refusal::of(403).with(Name::Warning, warning));
        };
        let home = self.cx.directory.home(&owner);
        if home != self.cx.core && reply.core == self.cx.core {
            return self.letter_request(home, reply, message, flow);
        }
        self.larges.invite(&mut self.cx, Asked { reply, message, flow, owner, sender });
    }

    /// What waited for the log goes on, its connections are read again, and what is to be said is said.
    pub(super) fn large_turn(&mut self) {
        for conn in self.larges.go_on(&mut self.cx, &self.users) {
            self.conns.read_on(conn, &mut self.effects);
        }
        for (user, stamp, lines) in self.larges.take_byes() {
            if let Some(message) = self.users.queue(user).and_then(|queue| queue.at(stamp)).copied() {
                self.forward.amend(&mut self.cx, user, message, lines);
            }
        }
        self.large_answers();
    }

    /// Responses and REPORTs of sessions in which large messages come.
    pub(super) fn large_answers(&mut self) {
        for (conn, octets) in self.larges.take_out() {
            match self.conns.write(conn, octets) {
                Written::Queued => self.cx.asks.push_back(Ask::Pump(conn)),
                Written::Gone => {}
                Written::Overflow => {
                    self.cx.counts.overloads += 1;
                    self.hang_up(conn, true);
                }
            }
        }
    }
}
