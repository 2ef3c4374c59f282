//! Which use case a SIP request belongs to, and on which core (`manual::path`).
//!
//! The receiving core decides deposits. Publications belong to the user's home, requests within a dialog to the core whose
//! number our Contact carries: those go there as letters, and the answer comes back as one.

use super::core::Core;
use super::effect::Effect;
use super::letters::Letter;
use crate::base::net::{CoreId, Flow};
use crate::deferred::cx::Reply;
use crate::deferred::delete;
use crate::deferred::deposit::Asked;
use crate::deferred::identity::{self, Address, Resource};
use crate::deferred::invite;
use crate::deferred::large;
use crate::deferred::loop_guard;
use crate::deferred::respond::{self, Refusal};
use crate::deferred::retrieve::{self, Legacy};
use crate::deferred::summary;
use crate::proto::sip::endpoint::Endpoint;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};

impl Core {
    /// A message that parsed: to the transaction layer, or to the core whose transaction it belongs to.
    pub(super) fn sip_message(&mut self, message: Message, flow: Flow) {
        if let Some(looped) = loop_guard::judge(&self.cx, &message, &flow, &self.trusted) {
            return self.came_round(&message, &flow, looped);
        }
        if let Some(core) = self.owner_of_stray(&message)
            && core != self.cx.core
        {
            if usize::from(core.0) < usize::from(self.cores) {
                self.effects.push_back(Effect::Letter { to: core, letter: Letter::Stray { message, flow } });
            }
            return;
        }
        self.cx.sip.receive(self.cx.now.tick, message, flow);
    }

    /// The core a response or ACK belongs to: our branches and Contacts begin with its number.
    fn owner_of_stray(&self, message: &Message) -> Option<CoreId> {
        if !message.is_request() {
            return message.top_via().branch.and_then(Endpoint::core_of_branch);
        }
        None
    }

    /// A new request, here or by letter: decided on this core or sent to the one that decides.
    pub(super) fn serve(&mut self, reply: Reply, message: Message, flow: Flow) {
        if self.cx.stopping && message.to_tag().is_none() {
            let refusal = Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S);
            return self.refuse(reply, &message, &flow, &refusal);
        }
        let method = message.method();
        //= RFC 3261 8.2.1: a method that is not recognised or not supported
        if method == Method::Other {
            return self.refuse(reply, &message, &flow, &Refusal::of(501).with(Name::Allow, respond::ALLOW));
        }
        if method == Method::Register {
            return self.register(reply, message, flow);
        }
        let addresses = &self.cx.addresses;
        let resource = identity::requested(&self.cx.policy, &message, |host| addresses.is_own_host(host));
        if method == Method::Invite
            && message.to_tag().is_none()
            && !large::is_large(&message)
            && let Some(legacy) = self.legacy(&message, &flow)
        {
            return self.retrieve(reply, message, flow, Some(legacy));
        }
        let resource = match resource {
            Ok(resource) => resource,
            Err(unserved) => return self.refuse(reply, &message, &flow, &Refusal::of(unserved.status())),
        };
        if message.to_tag().is_some() {
            return self.within_dialog(reply, message, flow, &resource);
        }
        if self.cx.draining && is_deposit(&message, &resource) {
            // The operator moves the deposits elsewhere; who comes back for what is stored is still served.
            let refusal = Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S);
            return self.refuse(reply, &message, &flow, &refusal);
        }
        match (method, resource) {
            (Method::Options, _) => self.options(reply, &message, &flow),
            (Method::Message, Resource::User(owner)) => self.deposit(reply, &message, &flow, &owner),
            (Method::Publish, Resource::User(owner)) => {
                let home = self.cx.directory.home(&owner);
                if home != self.cx.core && reply.core == self.cx.core {
                    return self.letter_request(home, reply, message, flow);
                }
                match identity::originator(&self.cx.policy.aliases, &message, flow.peer().ip(), &self.trusted) {
                    Some(by) => self.presences.publish(&mut self.cx, reply, &message, flow, owner, &by),
                    None => self.refuse(reply, &message, &flow, &Refusal::of(403)),
                }
            }
            (Method::Refer, Resource::Delete) => self.refer(reply, message, flow),
            // Every user of a served domain has a mailbox; who has no user part is nobody.
            (Method::Message, Resource::Server | Resource::Contact(_)) => {
                self.refuse(reply, &message, &flow, &Refusal::of(404))
            }
            //= RFC 3903 6-1: the Request-URI is not one for which this is the compositor: 404
            (Method::Publish, _) => self.refuse(reply, &message, &flow, &Refusal::of(404)),
            (Method::Invite, Resource::Deferred) => self.retrieve(reply, message, flow, None),
            (Method::Invite, Resource::User(owner)) if large::is_large(&message) => {
                self.large(reply, message, flow, owner)
            }
            // Interactive sessions are not deferred.
            (Method::Invite, _) => {
                if !accepts_sdp(&message) {
                    return self.refuse(reply, &message, &flow, &Refusal::of(406));
                }
                let unknown = respond::unsupported(&message, respond::SESSION_OPTIONS);
                if !unknown.is_empty() {
                    return self.refuse(reply, &message, &flow, &Refusal::of(420).with(Name::Unsupported, unknown));
                }
                let warning = respond::warning(&self.cx, "sessions are not deferred");
                self.refuse(reply, &message, &flow, &Refusal::of(480).with(Name::Warning, warning));
            }
            (Method::Subscribe, resource) => self.subscribe(reply, message, flow, resource),
            //= RFC 3261 12.2.2: a request that belongs to a dialog we do not know
            (Method::Bye | Method::Update | Method::Notify | Method::Prack | Method::Info, _) => {
                self.refuse(reply, &message, &flow, &Refusal::of(481));
            }
            //= RFC 3261 21.4.6: 405: Allow has the methods that are valid for the indicated address; what is left is a REFER
            _ => self.refuse(reply, &message, &flow, &Refusal::of(405).with(Name::Allow, respond::ALLOW_BUT_REFER)),
        }
    }

    fn deposit(&mut self, reply: Reply, message: &Message, flow: &Flow, owner: &Address) {
        match identity::originator(&self.cx.policy.aliases, message, flow.peer().ip(), &self.trusted) {
            Some(sender) => {
                let (cx, users) = (&mut self.cx, &self.users);
                let asked = Asked { reply, message, peer: flow.peer(), owner, sender: &sender };
                self.deposits.receive(cx, users, asked);
            }
            //= RFC 3325 5: without an identity that a trusted peer asserts, a user is unknown: 403
            None => {
                let warning = respond::warning(&self.cx, "no asserted identity from a trusted peer");
                self.refuse(reply, message, flow, &Refusal::of(403).with(Name::Warning, warning));
            }
        }
    }

    /// A REFER to `Delete@`: its sender's home decides.
    fn refer(&mut self, reply: Reply, message: Message, flow: Flow) {
        let Some(owner) = self.served_originator(&message, &flow) else {
            let warning = respond::warning(&self.cx, "127 Service not authorised");
            return self.refuse(reply, &message, &flow, &Refusal::of(403).with(Name::Warning, warning));
        };
        let home = self.cx.directory.home(&owner);
        if home != self.cx.core && reply.core == self.cx.core {
            return self.letter_request(home, reply, message, flow);
        }
        let (deletions, house, cx) = self.house();
        deletions.refer(cx, house, delete::Asked { reply, message, flow, owner, within: None });
    }

    /// What an INVITE of mission document 0 means, where the operator lets it mean that.
    fn legacy(&self, message: &Message, flow: &Flow) -> Option<Legacy> {
        if !self.cx.policy.legacy_s0_retrieval {
            return None;
        }
        retrieve::legacy(&self.cx.policy, message.request_uri(), &self.served_originator(message, flow)?)
    }

    /// The user a request comes from, when they are one of ours.
    fn served_originator(&self, message: &Message, flow: &Flow) -> Option<Address> {
        let originator = identity::originator(&self.cx.policy.aliases, message, flow.peer().ip(), &self.trusted)?;
        identity::is_served(&self.cx.policy, &originator).then_some(originator)
    }

    /// A request with a To tag: it belongs to the dialog that our Contact names.
    fn within_dialog(&mut self, reply: Reply, message: Message, flow: Flow, resource: &Resource) {
        let found = match resource {
            Resource::Contact(user) => {
                if let Some((owner, id)) = summary::contact_of(user) {
                    return self.within_subscription(reply, message, flow, owner, id);
                }
                invite::contact_key(user)
            }
            _ => None,
        };
        let Some((core, key)) = found.filter(|&(core, _)| core < self.cores) else {
            return self.refuse(reply, &message, &flow, &Refusal::of(481));
        };
        if CoreId(core) != self.cx.core {
            if reply.core == self.cx.core {
                return self.letter_request(CoreId(core), reply, message, flow);
            }
            return self.refuse(reply, &message, &flow, &Refusal::of(481));
        }
        if let Resource::Contact(user) = resource
            && user.starts_with(identity::LARGE_PREFIX)
        {
            return self.larges.within(&mut self.cx, reply, &message, &flow, key);
        }
        if message.method() != Method::Refer {
            return self.pushes.within(&mut self.cx, reply, &message, &flow, key);
        }
        match self.pushes.referred(&message, key) {
            Ok(owner) => {
                let (deletions, house, cx) = self.house();
                deletions.refer(cx, house, delete::Asked { reply, message, flow, owner, within: Some(key) });
            }
            Err(refusal) => self.refuse(reply, &message, &flow, &refusal),
        }
    }

    /// An ACK for a 2xx of ours: it belongs to the session that our Contact names, wherever it landed.
    pub(super) fn acked(&mut self, message: Message, flow: Flow) {
        let addresses = &self.cx.addresses;
        let resource = identity::requested(&self.cx.policy, &message, |host| addresses.is_own_host(host));
        let Ok(Resource::Contact(user)) = resource else { return };
        let Some((core, key)) = invite::contact_key(&user).filter(|&(core, _)| core < self.cores) else { return };
        if CoreId(core) == self.cx.core {
            match user.starts_with(identity::LARGE_PREFIX) {
                true => self.larges.ack_came(&mut self.cx, &message, key),
                false => self.pushes.ack_came(&mut self.cx, &message, key),
            }
        } else {
            self.effects.push_back(Effect::Letter { to: CoreId(core), letter: Letter::Stray { message, flow } });
        }
    }

    /// An INVITE to `Deferred@`, or one of the older forms: its sender's home decides.
    fn retrieve(&mut self, reply: Reply, message: Message, flow: Flow, legacy: Option<Legacy>) {
        if !accepts_sdp(&message) {
            return self.refuse(reply, &message, &flow, &Refusal::of(406));
        }
        //= 12.2.1-1: an IM User that is not allowed to retrieve: 403 "Forbidden", with a Warning header to explain the reason
        let Some(owner) = self.served_originator(&message, &flow) else {
            let warning = respond::warning(&self.cx, "127 Service not authorised");
            return self.refuse(reply, &message, &flow, &Refusal::of(403).with(Name::Warning, warning));
        };
        let home = self.cx.directory.home(&owner);
        if home != self.cx.core && reply.core == self.cx.core {
            return self.letter_request(home, reply, message, flow);
        }
        let (cx, users, pushes) = (&mut self.cx, &mut self.users, &mut self.pushes);
        self.retrievals.invite(cx, users, pushes, retrieve::Asked { reply, message, flow, owner, legacy });
    }

    pub(super) fn letter_request(&mut self, to: CoreId, reply: Reply, message: Message, flow: Flow) {
        // A later INVITE of a session is decided as soon as it is there: what it has changed is not changed back.
        if message.method() == Method::Invite && message.to_tag().is_none() {
            self.elsewhere.insert(reply.txn, to);
        }
        self.effects.push_back(Effect::Letter { to, letter: Letter::Request { reply, message, flow } });
    }

    /// What we can do (RFC 3261 11.2).
    fn options(&mut self, reply: Reply, message: &Message, flow: &Flow) {
        let unknown = respond::unsupported(message, respond::ALL_OPTIONS);
        if !unknown.is_empty() {
            return self.refuse(reply, message, flow, &Refusal::of(420).with(Name::Unsupported, unknown));
        }
        let octets = respond::capabilities(&mut self.cx, message, flow.peer()).finish();
        self.cx.respond(reply, 200, octets);
    }

    pub(super) fn refuse(&mut self, reply: Reply, message: &Message, flow: &Flow, refusal: &Refusal) {
        self.cx.counts.refused += 1;
        let octets = refusal.response(&mut self.cx, message, flow.peer());
        self.cx.respond(reply, refusal.status, octets);
    }
}

/// True for a request that brings messages for a user.
fn is_deposit(message: &Message, resource: &Resource) -> bool {
    let brings = match message.method() {
        Method::Message => true,
        Method::Invite => large::is_large(message),
        _ => false,
    };
    brings && matches!(resource, Resource::User(_))
}

/// An INVITE whose Accept leaves out SDP cannot be answered (RFC 4475 3.3.14).
pub(super) fn accepts_sdp(message: &Message) -> bool {
    message.header(Name::Accept).is_none()
        || message.values(Name::Accept).any(|range| {
            let media = respond::media_type(range);
            media.eq_ignore_ascii_case(b"application/sdp") || media == b"application/*" || media == b"*/*"
        })
}
