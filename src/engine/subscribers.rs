//! Between the transactions and those who wait for them: answers to requests of ours find whose they are, SUBSCRIBEs and REGISTERs
//! their home; what comes round to us goes on.

use super::core::Core;
use crate::base::net::Flow;
use crate::deferred::cx::Reply;
use crate::deferred::identity::{self, Address, Resource};
use crate::deferred::loop_guard::Looped;
use crate::deferred::presence::register;
use crate::deferred::respond::{self, Refusal};
use crate::deferred::summary;
use crate::proto::sip::endpoint::{ClientKey, Failure};
use crate::wire::sip::fields::Event;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;

impl Core {
    /// A response to a request of ours.
    pub(super) fn response(&mut self, txn: ClientKey, message: &Message) {
        if !self.reports.response(&mut self.cx, txn, message.status())
            && !self.summaries.response(&mut self.cx, txn, message)
            && !self.larges.response(&mut self.cx, txn, message)
        {
            self.pushes.response(&mut self.cx, txn, message);
        }
    }

    /// A request of ours that nobody answered.
    pub(super) fn no_response(&mut self, txn: ClientKey, cause: Failure) {
        if !self.reports.no_response(&mut self.cx, txn)
            && !self.summaries.no_response(&mut self.cx, txn, cause)
            && !self.larges.no_response(&mut self.cx, txn)
        {
            self.pushes.no_response(&mut self.cx, txn, cause);
        }
    }

    /// A REGISTER: the home of the user it is about decides.
    pub(super) fn register(&mut self, reply: Reply, message: Message, flow: Flow) {
        let registered = match register::is_here(&self.cx, &message) {
            Ok(true) => register::read(&self.cx.policy, &message, &flow, &self.trusted),
            Ok(false) => Err(Refusal::of(404)),
            Err(refusal) => Err(refusal),
        };
        let registered = match registered {
            Ok(registered) => registered,
            Err(refusal) => return self.refuse(reply, &message, &flow, &refusal),
        };
        let home = self.cx.directory.home(&registered.owner);
        if home != self.cx.core && reply.core == self.cx.core {
            return self.letter_request(home, reply, message, flow);
        }
        self.presences.register(&mut self.cx, reply, &message, flow, registered);
    }

    /// A message of our own that came back over the SIP/IP core goes on, or is answered without a transaction.
    pub(super) fn came_round(&mut self, message: &Message, flow: &Flow, looped: Looped) {
        match looped {
            Looped::Onward(to, octets) => {
                self.cx.counts.forwarded += 1;
                self.transmit(to, octets);
            }
            Looped::Refused(status) => {
                self.cx.counts.refused += 1;
                let octets = respond::plain(&mut self.cx, message, status, flow.peer());
                self.transmit(*flow, octets);
            }
            Looped::Dropped => self.cx.counts.refused += 1,
        }
    }

    /// A SUBSCRIBE outside of any dialog: the home of whose mailbox it is decides.
    pub(super) fn subscribe(&mut self, reply: Reply, message: Message, flow: Flow, resource: Resource) {
        let event = message.header(Name::Event).and_then(Event::parse).map(|event| event.package);
        //= RFC 3515 3.2: a SUBSCRIBE to the refer event that no REFER created is refused: 403
        if event.is_some_and(|event| event.eq_ignore_ascii_case(b"refer")) {
            return self.refuse(reply, &message, &flow, &Refusal::of(403));
        }
        //= RFC 6665 4.2.1.1: an event package that is not understood: 489, with Allow-Events
        if !event.is_some_and(summary::is_event) {
            let events = respond::allow_events(&self.cx.policy);
            return self.refuse(reply, &message, &flow, &Refusal::of(489).with(Name::AllowEvents, events));
        }
        let Resource::User(owner) = resource else {
            return self.refuse(reply, &message, &flow, &Refusal::of(404));
        };
        let home = self.cx.directory.home(&owner);
        if home != self.cx.core && reply.core == self.cx.core {
            return self.letter_request(home, reply, message, flow);
        }
        let by = identity::originator(&self.cx.policy.aliases, &message, flow.peer().ip(), &self.trusted);
        self.summaries.subscribe(
            &mut self.cx,
            &mut self.users,
            summary::Asked { reply, message: &message, flow, owner, by },
        );
    }

    /// A request within the dialog of a subscription, which our Contact names.
    pub(super) fn within_subscription(&mut self, reply: Reply, message: Message, flow: Flow, owner: Address, id: u64) {
        let home = self.cx.directory.home(&owner);
        if home != self.cx.core && reply.core == self.cx.core {
            return self.letter_request(home, reply, message, flow);
        }
        self.summaries.within(&mut self.cx, reply, &message, flow, id);
    }

    /// Tells those who subscribe what has changed.
    pub(super) fn summarise(&mut self) {
        for (user, stamp) in self.users.take_came() {
            self.summaries.came(user, stamp);
        }
        self.summaries.settle(&mut self.cx, &mut self.users, &self.presences);
    }
}
