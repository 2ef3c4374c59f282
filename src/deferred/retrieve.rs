//! Stored Messaging Function receiving requests from IM user (12.2.1): an INVITE to `Deferred@` for messages of the user's choice.
//!
//! Knows what such an INVITE must say and what is chosen by it. The session it becomes is a push's, set up from the other end:
//! [`super::push`], [`super::signal`] and [`super::deliver`] carry it.

use super::cx::{Cx, Reader, Reply};
use super::find::{self, Search, Sought};
use super::identity::Address;
use super::invite::Call;
use super::offered::{self, Side, Terms};
use super::payload;
use super::policy::Policy;
use super::push::{End, Push, Pushes, Stage, Way};
use super::respond::{self, Refusal};
use super::users::Users;
use super::within::Unacked;
use crate::base::arena::{Arena, Key};
use crate::base::net::Flow;
use crate::proto::sip::offer::{Answer, Direction, Setup};
use crate::store::directory::UserId;
use crate::store::loader::Loaded;
use crate::store::record::Locator;
use crate::store::stamp::MessageId;
use crate::wire::resource_lists::{self, UriList};
use crate::wire::sip::bodies::{self, Body};
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::sip::write::Response;
use crate::wire::uri::{Scheme, Uri};

/// Option tags of Require that a retrieval understands.
const OPTIONS: &[&[u8]] = &[b"timer", b"recipient-list-invite"];

/// Retrievals of one core that look for what they name. Each is a read long.
const SEARCHES_MAX: usize = 1_024;

/// When everything chosen is with another session: when to ask again, in seconds.
const BUSY_RETRY_AFTER_S: u32 = 10;

/// An INVITE that wants messages.
#[derive(Debug)]
pub struct Asked {
    /// Where the answer goes.
    pub reply: Reply,
    /// The request.
    pub message: Message,
    /// How it came.
    pub flow: Flow,
    /// Who asks.
    pub owner: Address,
    /// It has one of the older forms.
    pub legacy: Option<Legacy>,
}

/// What the Request-URI of an older form says (mission document 0).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Legacy {
    /// The user's own name: all, or what a list names.
    Own,
    /// One stored message, by its id.
    Id(MessageId),
    /// One stored message, by its sender's name for it.
    Original(Vec<u8>),
}

/// What was agreed on before it is known whether there is anything to send.
#[derive(Debug)]
struct Agreed {
    terms: Terms,
    answer: Answer,
    is_rcs: bool,
}

#[derive(Debug)]
struct Retrieval {
    asked: Asked,
    agreed: Agreed,
    /// Held until there is a session, which then holds it, or none.
    user: UserId,
    search: Search,
}

/// All retrievals of this core that have no session yet.
#[derive(Default)]
pub struct Retrievals {
    live: Arena<Retrieval>,
}

impl Retrievals {
    /// Takes an INVITE in, or answers why not.
    pub fn invite(&mut self, cx: &mut Cx, users: &mut Users, pushes: &mut Pushes, asked: Asked) {
        let judged = judge(cx, pushes, &asked).and_then(|(agreed, sought)| {
            if pushes.is_full() || self.live.len() >= SEARCHES_MAX {
                cx.counts.overloads += 1;
                return Err(Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S));
            }
            let entered = cx.directory.enter(&asked.owner);
            let user = entered.map_err(|_| Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S))?;
            Ok((agreed, sought, user))
        });
        let (agreed, sought, user) = match judged {
            Ok(judged) => judged,
            Err(refusal) => return refuse(cx, &asked, &refusal),
        };
        let queue = users.look(cx, user);
        //= 12.2.1.1.2-3: all deferred messages are to be retrieved
        //= 12.2.1.1: extracts all deferred messages, if the received request does not contain Uri-list body
        let Some(sought) = sought else {
            let all = queue.map(|queue| queue.iter().copied().collect()).unwrap_or_default();
            return begin(cx, users, pushes, asked, agreed, user, all);
        };
        //= 12.2.1.1: extracts the deferred message(s) representing the Message-ID(s) in the Uri-list
        let search = Search::new(&asked.owner, sought, queue);
        let key = self.live.insert(Retrieval { asked, agreed, user, search });
        self.search(cx, users, pushes, key);
    }

    fn search(&mut self, cx: &mut Cx, users: &mut Users, pushes: &mut Pushes, key: Key) {
        let Some(retrieval) = self.live.get_mut(key) else { return };
        if !retrieval.search.step(cx, Reader::Retrieval(key), users.queue(retrieval.user)) {
            return;
        }
        if let Some(Retrieval { asked, agreed, user, search }) = self.live.remove(key) {
            let (found, _) = search.finish();
            begin(cx, users, pushes, asked, agreed, user, found);
        }
    }

    /// The client takes its INVITE back. What has its answer already is not found. The client of another core has been answered there.
    ///
    //= RFC 3261 9.2: the UAS SHOULD immediately respond to the original request with a 487 (Request Terminated)
    pub fn cancel(&mut self, cx: &mut Cx, users: &mut Users, reply: Reply) {
        let found = self.live.iter().find(|(_, retrieval)| retrieval.asked.reply == reply).map(|(key, _)| key);
        let Some(Retrieval { asked, user, .. }) = found.and_then(|key| self.live.remove(key)) else { return };
        cx.directory.leave(user);
        users.close_if_empty(cx, user);
        if reply.core == cx.core {
            refuse(cx, &asked, &Refusal::of(487));
        }
    }

    /// The disk gave a batch of those that may be meant.
    pub fn loaded(&mut self, cx: &mut Cx, users: &mut Users, pushes: &mut Pushes, key: Key, records: Vec<Loaded>) {
        let Some(retrieval) = self.live.get_mut(key) else { return };
        retrieval.search.loaded(records, users.queue(retrieval.user));
        self.search(cx, users, pushes, key);
    }
}

fn refuse(cx: &mut Cx, asked: &Asked, refusal: &Refusal) {
    cx.counts.refused += 1;
    let octets = refusal.response(cx, &asked.message, asked.flow.peer());
    cx.respond(asked.reply, refusal.status, octets);
}

/// What the INVITE says: the terms of the session, and what is looked for; `None`: everything.
fn judge(cx: &mut Cx, pushes: &Pushes, asked: &Asked) -> Result<(Agreed, Option<Sought>), Refusal> {
    let message = &asked.message;
    let bodies = offered::bodies(message, OPTIONS)?;
    let sdp = offered::description(&bodies);
    let is_rcs = payload::is_rcs(message.values(Name::Contact).next().unwrap_or_default());
    let answer = judge_sdp(cx, pushes, &asked.flow, sdp, is_rcs)?;
    let terms = offered::terms(cx, message)?;
    let sought = match &asked.legacy {
        Some(Legacy::Id(id)) => Some(Sought::Ids(vec![Some(*id)])),
        Some(Legacy::Original(name)) => Some(Sought::Original(name.clone())),
        Some(Legacy::Own) | None => listed(cx, &bodies)?,
    };
    Ok((Agreed { terms, answer, is_rcs }, sought))
}

/// The ids in all lists of the request; `None` without a list.
//= 12.2.1.1.2-2: one or multiple selected deferred messages are to be retrieved: those of the URI-list
fn listed(cx: &Cx, bodies: &[Body<'_>]) -> Result<Option<Sought>, Refusal> {
    let mut list = UriList::new();
    let mut any = false;
    // A list that says to whom else a request went names no messages (RFC 5366 5.2); one without a disposition does.
    let names = |body: &&Body<'_>| body.is(resource_lists::MEDIA_TYPE) && !body.is_for(b"recipient-list-history");
    for body in bodies.iter().filter(names) {
        any = true;
        list.read(body.octets).map_err(|fault| Refusal::of(fault.status()))?;
    }
    if any && list.is_empty() {
        return Err(Refusal::of(400));
    }
    Ok(any.then(|| Sought::Ids(find::ids_of(&cx.policy, list.iter()))))
}

/// The client's offer, when we can send by it, and in which form.
//= 12.2.1-2: without 'recvonly' for the session or the "m=message" media: 488 "Not Acceptable Here" with the correct SDP parameters
fn judge_sdp(cx: &mut Cx, pushes: &Pushes, flow: &Flow, sdp: Option<&[u8]>, is_rcs: bool) -> Result<Answer, Refusal> {
    let answer = offered::stream(cx, flow, Side::Sends, sdp)?;
    if answer.direction != Direction::RecvOnly {
        let text = "messages are retrieved with recvonly";
        return Err(offered::not_acceptable(cx, flow, Side::Sends, 399, text));
    }
    let usable = offered::forms(cx, payload::profile(&cx.policy), &answer, is_rcs);
    usable.and_then(|_| pushes.way(&answer)).map_err(|useless| useless.refusal(cx, flow))?;
    Ok(answer)
}

/// There is something to send, or not: the session, or the last refusal.
fn begin(
    cx: &mut Cx,
    users: &mut Users,
    pushes: &mut Pushes,
    asked: Asked,
    agreed: Agreed,
    user: UserId,
    found: Vec<Locator>,
) {
    let mut found: Vec<Locator> = found.iter().filter_map(|locator| users.now(user, locator)).collect();
    let any = !found.is_empty();
    found.retain(|locator| !pushes.is_in_flight(user, locator.place()));
    let refusal = match (any, found.is_empty(), &asked.legacy) {
        (_, false, _) => None,
        //= 12.2.1.1.2-1: no deferred messages to be delivered: 488 with a Warning header set to "no messages"
        (false, true, None | Some(Legacy::Own)) => {
            Some(Refusal::of(488).with(Name::Warning, respond::warning(cx, "no messages")))
        }
        (false, true, Some(_)) => Some(Refusal::of(404)),
        (true, true, _) => Some(Refusal::of(486).retry_after(BUSY_RETRY_AFTER_S)),
    };
    if let Some(refusal) = refusal {
        cx.directory.leave(user);
        users.close_if_empty(cx, user);
        return refuse(cx, &asked, &refusal);
    }
    pushes.retrieve(cx, asked, agreed, user, found);
}

impl Pushes {
    /// Sets up the session that a user asked for, and answers 200. `user` is held, and is let go when the session ends.
    fn retrieve(&mut self, cx: &mut Cx, asked: Asked, agreed: Agreed, user: UserId, found: Vec<Locator>) {
        let Asked { reply, message, flow, owner, .. } = asked;
        let Agreed { terms: Terms { dialog, tag, timer }, answer, is_rcs } = agreed;
        let offer = super::deliver::offer(cx, &flow);
        let ours = if answer.connect_to.is_some() { Setup::Active } else { Setup::Passive };
        //= 12.2.1 (200-5): a SDP body as a SDP answer according to RFC 3264 and MSRP
        let bodies = bodies::bodies(&message).unwrap_or_default();
        let offered = offered::description(&bodies).unwrap_or_default();
        let sdp = offer.write_answer(offered, ours).unwrap_or_default();
        let afterwards = cx.policy.retrieved;
        let revocable = Some(reply).filter(|reply| reply.core != cx.core);
        let key = self.live.insert_with(|key| {
            let mut call = Call::new(cx, key, &owner, flow);
            call.timer = None;
            call.sdp.clone_from(&sdp);
            let way = Way::Retrieval { wanted: found.into() };
            let mut push = Push::new(way, user, call, offer, afterwards);
            push.stage = Stage::Waiting;
            push.dialog = Some(dialog);
            push.unacked = Some(Unacked::new(cx.now.tick, message.cseq().0, false));
            push.refresh = timer.map(|(timer, _)| timer);
            push.revocable = revocable;
            push
        });
        let Some(push) = self.live.get(key) else { return };
        self.by_session.insert(push.session_id.clone(), key);
        self.retrievals.entry(user).or_default().push(key);
        self.by_reply.extend(revocable.map(|reply| (reply, key)));
        cx.counts.retrievals += 1;
        //= 12.2.1 (200-1): a 200 "OK" response according to RFC 3261
        //= 12.2.1 (200-2): a Server header to indicate the IM release version
        //= 12.2.1 (200-3): an Allow header field that includes all the supported methods within the dialog
        //= 12.2.1 (200-4): the feature tag "automata" in the Contact header field
        let mut response = Response::to(&message, 200, flow.peer())
            .record_route()
            .to_tag(&tag)
            .line(Name::Server, &cx.product)
            .line(Name::Contact, &push.call.contact_value())
            .line(Name::Allow, respond::ALLOW_WITHIN)
            .line(Name::Supported, respond::SUPPORTED);
        if let Some((_, agreed)) = &timer {
            response = agreed.lines(response);
        }
        let octets = response.body(b"application/sdp", &sdp).finish();
        cx.respond(reply, 200, octets);
        //= 12.2.1.1.2-5: from here on the messages are sent as any push sends them (12.2.2.5)
        self.begin_session(cx, key, answer, is_rcs);
    }
}

impl Pushes {
    /// The client of another core has taken its INVITE back before it heard our 200: it knows of no session that could be ended.
    pub fn cancel(&mut self, cx: &mut Cx, reply: Reply) {
        if let Some(key) = self.by_reply.remove(&reply) {
            self.finish(cx, key, End::GiveUp);
        }
    }
}

/// What the Request-URI of an INVITE means by mission document 0, for this user; `None` when it is none of its forms.
///
//= S0 one: the user part is the escaped id of the message that is to be retrieved
//= S0 some: the user part is the user, the URI-list says which messages
//= S0 all: the user part is the user, and there is no list
pub fn legacy(policy: &Policy, request_uri: &[u8], owner: &Address) -> Option<Legacy> {
    let uri = Uri::parse_target(request_uri).ok()?;
    let user = uri.user.filter(|_| matches!(uri.scheme, Scheme::Sip | Scheme::Sips))?;
    let own = Uri::parse(owner).ok()?;
    let at_home = uri.host.eq_ignore_ascii_case(policy.hostname.as_bytes());
    let served = policy.domains.iter().any(|domain| uri.host.eq_ignore_ascii_case(domain.as_bytes()));
    if (at_home || served) && own.user == Some(user) {
        return Some(Legacy::Own);
    }
    let is_service = [b"Deferred".as_slice(), b"Delete"].iter().any(|name| user.eq_ignore_ascii_case(name));
    if !at_home
        || is_service
        || user.starts_with(super::identity::CONTACT_PREFIX)
        || user.starts_with(super::identity::LARGE_PREFIX)
    {
        return None;
    }
    if let Some(id) = MessageId::parse(user) {
        return Some(Legacy::Id(id));
    }
    Some(Legacy::Original(unescaped(user)))
}

/// The user part with its escapes undone, once (RFC 3986 2.4).
fn unescaped(user: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(user.len());
    let mut rest = user;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        let digits = after.first_chunk::<2>().filter(|_| octet == b'%');
        let escaped = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(escaped.unwrap_or(octet));
        if escaped.is_some() {
            rest = after.get(2..).unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_forms_are_told_apart() {
        let policy = Policy::new("mail.example.com", &["example.com"]);
        let bob = Address::from_canonical(b"sip:bob@example.com");
        let of = |uri: &str| legacy(&policy, uri.as_bytes(), &bob);
        assert_eq!(of("sip:bob@mail.example.com"), Some(Legacy::Own));
        assert_eq!(of("sip:bob@example.com"), Some(Legacy::Own));
        assert_eq!(
            of("sip:d0982dkjs%40alicepc.example.org@mail.example.com"),
            Some(Legacy::Original(b"d0982dkjs@alicepc.example.org".to_vec()))
        );
        assert_eq!(of("sip:a%25%zz%4@mail.example.com"), None, "no URI");
        assert!(matches!(of("sip:01jq8z4m7v5c2t9x3h6k0d1b2w@mail.example.com"), Some(Legacy::Id(_))));
        for other in ["sip:alice@example.com", "sip:deferred@mail.example.com", "sip:mail.example.com", "tel:+1"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
