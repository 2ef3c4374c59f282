//! REGISTER as a trigger: a core says that a user is registered, or a user without a core does (TS 24.229 5.4.1.7; RFC 3261 10).
//!
//! deferd is no registrar: nobody finds anybody through it. What a REGISTER says is kept as presence is: durable before it is
//! answered, a reason to look whether messages wait, and the way to the user. From a core it names the core (a Route for the push); from a
//! user without one it is the way back over which the REGISTER came.

use super::pending::Known;
use super::{Cause, Presences, key_of};
use crate::base::net::Flow;
use crate::deferred::bindings::Binding;
use crate::deferred::cx::{Commit, Cx, Published, Reply};
use crate::deferred::identity::{self, Address};
use crate::deferred::kept::encode;
use crate::deferred::policy::Policy;
use crate::deferred::respond::{self, Refusal};
use crate::wire::sip::address::NameAddr;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::uri::{Scheme, Uri};
use crate::wire::{registration, scan};
use bytes::Bytes;
use ipnet::IpNet;
use std::time::Duration;

/// Octets of a Contact's URI: those of cores and clients have some 60.
const CONTACT_OCTETS_MAX: usize = 512;

/// Who registers whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// The user.
    pub owner: Address,
    /// A core says so: From is not the user.
    pub third_party: bool,
}

/// Whom a REGISTER is about, and whether its sender may say so.
///
/// # Errors
/// 403 for who is not trusted, 404 for who is no user of ours, 400 for what cannot be read.
pub fn read(policy: &Policy, message: &Message, flow: &Flow, trusted: &[IpNet]) -> Result<Registered, Refusal> {
    let peer = flow.peer().ip().to_canonical();
    //= TS 24.229 5.7.1.1: a third-party REGISTER is taken from a trusted core alone: else 403
    if !trusted.iter().any(|net| net.contains(&peer)) {
        return Err(Refusal::of(403));
    }
    let party = |value| NameAddr::parse(value).map_err(|_| Refusal::of(400));
    let (to, from) = (party(message.to())?, party(message.from())?);
    let owner = policy.aliases.of_uri(to.uri).filter(|owner| identity::is_served(policy, owner));
    let Some(owner) = owner else { return Err(Refusal::of(404)) };
    //= RFC 3261 10.2: in a third-party registration From is not the same as To
    let third_party = policy.aliases.of_uri(from.uri).as_ref() != Some(&owner);
    //= RFC 3261 10.3: a user who is not authorised to modify the registrations: 403
    let by = || identity::originator(&policy.aliases, message, flow.peer().ip(), trusted);
    if !third_party && by().as_ref() != Some(&owner) {
        return Err(Refusal::of(403));
    }
    Ok(Registered { owner, third_party })
}

/// True when a REGISTER is addressed to us: by our name or address, or by a domain we serve.
pub fn is_here(cx: &Cx, message: &Message) -> Result<bool, Refusal> {
    let uri = Uri::parse_target(message.request_uri()).map_err(|_| Refusal::of(400))?;
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
        return Err(Refusal::of(416));
    }
    let named = |name: &String| uri.host.eq_ignore_ascii_case(name.as_bytes());
    Ok(cx.addresses.is_own_host(uri.host) || named(&cx.policy.hostname) || cx.policy.domains.iter().any(named))
}

/// What a REGISTER asks for one Contact.
struct Asked {
    /// Its URI, or that of From where a core gives none; `None`: all of the user's own.
    contact: Option<Box<[u8]>>,
    expires_s: u32,
    capable: Option<bool>,
}

impl Presences {
    /// A REGISTER about a user at home here: decided here, answered when it is durable.
    pub fn register(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: Flow, registered: Registered) {
        if let Err(refusal) = self.take_registration(cx, reply, message, flow, registered) {
            cx.counts.refused += 1;
            let octets = refusal.response(cx, message, flow.peer());
            cx.respond(reply, refusal.status, octets);
        }
    }

    fn take_registration(
        &mut self,
        cx: &mut Cx,
        reply: Reply,
        message: &Message,
        flow: Flow,
        registered: Registered,
    ) -> Result<(), Refusal> {
        let Registered { owner, third_party } = registered;
        let unknown = respond::unsupported(message, &[]);
        if !unknown.is_empty() {
            return Err(Refusal::of(420).with(Name::Unsupported, unknown));
        }
        let asked = asked(cx, message, third_party)?;
        let now = cx.now.wall;
        let known = self.users.get(&owner);
        let mut bindings = known.map(|user| user.bindings.clone()).unwrap_or_default();
        if asked.is_empty() {
            //= RFC 3261 10.3: a REGISTER without a Contact leaves the bindings as they are, and is answered with them
            let octets = answered(cx, message, &flow, bindings.own(now), None);
            cx.respond(reply, 200, octets);
            return Ok(());
        }
        bindings.expire(now);
        let same = asked.first().map(|asked| asked.expires_s).filter(|_| third_party);
        let is_there = asked.iter().any(|asked| asked.expires_s > 0);
        let mut cause = None;
        //= RFC 3261 10.3: the registrar now processes each contact address in the Contact header field in turn
        for Asked { contact, expires_s, capable } in asked {
            if expires_s == 0 {
                match third_party {
                    //= TS 24.229 5.4.1.7: an Expires of 0: the user is not registered any more
                    true => bindings.core_says_gone(),
                    false => bindings.remove(contact.as_deref()),
                }
                continue;
            }
            let until = now + Duration::from_secs(expires_s.into());
            let contact = contact.unwrap_or_default();
            // Where nobody says what the client takes, it is tried.
            let capable = capable.unwrap_or(true);
            let new = bindings.set(now, Binding { contact, until, capable, third_party });
            if capable && cause != Some(Cause::Fresh) {
                cause = Some(if new { Cause::Fresh } else { Cause::Refresh });
            }
        }
        if known.is_none() && bindings.is_empty() {
            let octets = answered(cx, message, &flow, bindings.own(now), same);
            cx.respond(reply, 200, octets);
            return Ok(());
        }
        if known.is_none() && self.users.len() >= self.users_max {
            cx.counts.overloads += 1;
            return Err(Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S));
        }
        let (before, wish) = known.map_or((None, None), |user| (user.flow, user.wish));
        let way = if is_there { Some(flow) } else { before };
        let publications = known.map(|user| user.publications.clone()).unwrap_or_default();
        let mut value = Vec::new();
        encode(&mut value, way, wish, &bindings, &publications);
        let Ok((seq, state)) = cx.set_state(key_of(&owner), &value) else {
            cx.counts.overloads += 1;
            return Err(Refusal::of(503).retry_after(respond::STORAGE_RETRY_AFTER_S));
        };
        let accepted = answered(cx, message, &flow, bindings.own(now), same);
        let refused = respond::storage_failed(cx, message, flow.peer());
        let user = self.users.or_new(&cx.directory, owner.clone());
        let edition = user.know(Known { publications, flow: way, wish, bindings });
        cx.counts.registrations += 1;
        // The client is still at its own REGISTER: it is given time to finish, and to publish.
        let after = cx.policy.reg_push_delay;
        let (fresh, triggers) = (cause == Some(Cause::Fresh), cause.is_some());
        let published = Published { reply, accepted, refused, owner, fresh, state, edition, triggers, after };
        cx.commit(seq, Commit::Publish(Box::new(published)));
        Ok(())
    }
}

/// What a REGISTER asks for; nothing for a user who asks what there is.
fn asked(cx: &Cx, message: &Message, third_party: bool) -> Result<Vec<Asked>, Refusal> {
    let contacts = message.values(Name::Contact).map(|contact| NameAddr::parse(contact).map_err(|_| Refusal::of(400)));
    let contacts = contacts.collect::<Result<Vec<_>, _>>()?;
    let (least, usual, most) = cx.policy.publish_expires;
    let own = |contact: &NameAddr<'_>| contact.params.get(b"expires").and_then(scan::decimal_u32);
    if third_party {
        // TS 24.229 has the core name itself in Contact; one that does not is named by From.
        let first = contacts.first();
        let uri = first.filter(|contact| !contact.is_star()).map(|contact| contact.uri);
        let uri = uri.or_else(|| NameAddr::parse(message.from()).ok().map(|from| from.uri)).unwrap_or_default();
        //= TS 24.229 5.4.1.7: the Expires is that of the user's registration
        let expires_s = message.expires().or(first.and_then(own)).unwrap_or(usual);
        // What cannot be read of the client's own REGISTER says nothing of the client; the core is not at fault for it.
        let capable = registration::enclosed(message).unwrap_or(None);
        return Ok(vec![Asked { contact: Some(held(uri)?), expires_s, capable }]);
    }
    //= RFC 3261 10.3: "*" with other Contacts, or with an expiration other than zero: 400
    if contacts.iter().any(NameAddr::is_star) {
        let alone = contacts.len() == 1 && message.expires() == Some(0);
        let all = Asked { contact: None, expires_s: 0, capable: None };
        return if alone { Ok(vec![all]) } else { Err(Refusal::of(400)) };
    }
    let each = |contact: &NameAddr<'_>| {
        let expires_s = own(contact).or(message.expires()).unwrap_or(usual);
        //= RFC 3261 10.3: an interval that is too brief: 423, with Min-Expires
        if expires_s > 0 && expires_s < least {
            return Err(Refusal::of(423).with(Name::MinExpires, least.to_string()));
        }
        let capable = Some(registration::takes_im(contact));
        Ok(Asked { contact: Some(held(contact.uri)?), expires_s: expires_s.min(most), capable })
    };
    // All of them or none: what cannot be had for one is not had for the others.
    contacts.iter().map(each).collect()
}

fn held(uri: &[u8]) -> Result<Box<[u8]>, Refusal> {
    match Uri::parse(uri) {
        Ok(_) if uri.len() <= CONTACT_OCTETS_MAX => Ok(uri.into()),
        _ => Err(Refusal::of(400)),
    }
}

/// The 200: to a core with its Expires, to a user with what bindings there are.
fn answered<'a>(
    cx: &mut Cx,
    message: &Message,
    flow: &Flow,
    own: impl Iterator<Item = &'a Binding>,
    same: Option<u32>,
) -> Bytes {
    let now = cx.now.wall;
    let mut response = respond::begin(cx, message, 200, flow.peer());
    if let Some(expires_s) = same {
        return response.number(Name::Expires, expires_s.into()).finish();
    }
    for binding in own {
        let left_s = binding.until.0.saturating_sub(now.0).div_ceil(1_000_000);
        let value = [b"<", &binding.contact[..], b">;expires=", left_s.to_string().as_bytes()].concat();
        response = response.line(Name::Contact, &value);
    }
    response.finish()
}
