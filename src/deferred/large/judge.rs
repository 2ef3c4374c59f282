//! What an INVITE that brings large messages must say, and the 200 it gets.

use super::wrap::Head;
use super::{GOODBYE, Larges, Session, Stage, contact, contact_value};
use crate::base::net::Flow;
use crate::deferred::admit;
use crate::deferred::cx::{Cx, Reply};
use crate::deferred::deliver;
use crate::deferred::identity::Address;
use crate::deferred::policy::OverQuota;
use crate::deferred::respond::{self, Refusal};
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::offer::{self, Answer, AnswerFault, Setup};
use crate::proto::sip::session_timer::{Agreed, SessionTimer};
use crate::wire::params::Params;
use crate::wire::resource_lists;
use crate::wire::scan;
use crate::wire::sdp::Description;
use crate::wire::sip::bodies::{self, Body};
use crate::wire::sip::fields;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::sip::write::Response;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// What an INVITE may carry: its history of recipients, where it was exploded before it came here, is of no interest.
const ACCEPT: &[u8] = b"application/sdp, multipart/mixed, application/resource-lists+xml";

/// Asked of a sender whose addressee's store is full.
const QUOTA_RETRY_AFTER_S: u32 = 600;

/// An INVITE that brings large messages.
#[derive(Debug)]
pub struct Asked {
    /// Where the answer goes.
    pub reply: Reply,
    /// The request.
    pub message: Message,
    /// How it came.
    pub flow: Flow,
    /// Whom it is for.
    pub owner: Address,
    /// Who sends.
    pub sender: Address,
}

/// What was agreed on.
struct Terms {
    dialog: Dialog,
    tag: [u8; 20],
    answer: Answer,
    sdp: Vec<u8>,
    offer: offer::Offer,
    timer: Option<(SessionTimer, Agreed)>,
}

/// True for an INVITE that wants a session for large messages: by the feature tag of OMA IM, or by the service of CPM.
pub fn is_large(message: &Message) -> bool {
    message.values(Name::AcceptContact).any(|value| {
        let params = memchr::memchr(b';', value).and_then(|at| value.get(at..)).unwrap_or_default();
        Params::new(params).into_iter().any(|param| {
            let value = param.value.map(scan::unquote).unwrap_or_default().to_ascii_lowercase();
            let oma = param.name.eq_ignore_ascii_case(b"+g.oma.sip-im.large-message") && value != b"false";
            let cpm = param.name.eq_ignore_ascii_case(b"+g.3gpp.icsi-ref");
            oma || cpm && value.split(|&octet| octet == b',').any(|service| service.ends_with(b".oma.cpm.largemsg"))
        })
    })
}

impl Larges {
    /// Takes an INVITE in, or answers why not.
    pub fn invite(&mut self, cx: &mut Cx, asked: Asked) {
        let judged = self.judge(cx, &asked).and_then(|terms| {
            // Held while the session lasts: nobody else gets the place of a user who has nothing yet.
            let entered = cx.directory.enter(&asked.owner);
            entered.map(|user| (terms, user)).map_err(|_| overload(cx))
        });
        match judged {
            Ok((terms, user)) => self.accept(cx, asked, terms, user),
            Err(refusal) => {
                cx.counts.refused += 1;
                let octets = refusal.response(cx, &asked.message, asked.flow.peer());
                cx.respond(asked.reply, refusal.status, octets);
            }
        }
    }

    fn judge(&mut self, cx: &mut Cx, asked: &Asked) -> Result<Terms, Refusal> {
        admit::sender(cx, &asked.sender)?;
        let message = &asked.message;
        let unknown = respond::unsupported(message, respond::SESSION_OPTIONS);
        if !unknown.is_empty() {
            return Err(Refusal::of(420).with(Name::Unsupported, unknown));
        }
        let bodies = bodies::bodies(message).map_err(|_| Refusal::of(400))?;
        let known = |body: &Body<'_>| body.is(b"application/sdp") || body.is(resource_lists::MEDIA_TYPE);
        if bodies.iter().any(|body| !known(body)) {
            return Err(Refusal::of(415).with(Name::Accept, ACCEPT));
        }
        let sdp = bodies.iter().find(|body| body.is(b"application/sdp"));
        let answer = judge_sdp(cx, &asked.flow, sdp)?;
        let offered = sdp.map_or(b"".as_slice(), |body| body.octets);
        if announced(offered).is_some_and(|octets| octets > cx.policy.max_message_size) {
            return Err(Refusal::of(413));
        }
        let min_se = u32::try_from(cx.policy.min_se.as_secs()).unwrap_or(u32::MAX);
        let timer = SessionTimer::uas(cx.now.tick, message, min_se, None)
            .map_err(|too_small| Refusal::of(422).with(Name::MinSE, too_small.min_se_s.to_string()))?;
        let tag = cx.tag();
        let dialog = Dialog::uas(message, &tag).map_err(|unusable| Refusal::of(unusable.status().0))?;
        if cx.log.is_poisoned() || cx.log.is_disk_full() {
            return Err(Refusal::of(503).retry_after(respond::STORAGE_RETRY_AFTER_S));
        }
        if self.live.len() >= self.sessions_max {
            return Err(overload(cx));
        }
        // Whether what comes will fit is seen when it comes; where nothing would, nobody need send it.
        let used = cx.directory.find(&asked.owner).map_or((0, 0), |user| cx.directory.usage(user));
        let full = used.0 >= cx.policy.quota_messages || used.1 >= cx.policy.quota_octets;
        if full && cx.policy.over_quota == OverQuota::Refuse {
            return Err(Refusal::of(480).retry_after(QUOTA_RETRY_AFTER_S));
        }
        let offer = deliver::offer(cx, &asked.flow);
        let sdp = offer.write_receiver(offered, cx.policy.max_message_size).unwrap_or_default();
        Ok(Terms { dialog, tag, answer, sdp, offer, timer })
    }

    /// Sets the session up, and answers 200.
    fn accept(&mut self, cx: &mut Cx, asked: Asked, terms: Terms, user: crate::store::directory::UserId) {
        let Asked { reply, message, flow, owner, sender } = asked;
        let Terms { dialog, tag, answer, sdp, offer, timer } = terms;
        let mut head = Head::of(&message, cx.now.wall.seconds(), fields::privacy_has_id(&message));
        let session_id = Bytes::copy_from_slice(deliver::session_id(&offer.path));
        let (now, until) = (cx.now.tick, cx.now.tick + self.bind_timeout);
        let mut octets = Bytes::new();
        let key = self.live.insert_with(|key| {
            let contact = contact(cx, key, &flow);
            let mut response = Response::to(&message, 200, flow.peer())
                .record_route()
                .to_tag(&tag)
                .line(Name::Server, &cx.product)
                .line(Name::Contact, &contact_value(&contact))
                .line(Name::Allow, respond::ALLOW)
                .line(Name::Supported, respond::SUPPORTED);
            if let Some((_, agreed)) = &timer {
                response = agreed.lines(response);
            }
            octets = response.body(b"application/sdp", &sdp).finish();
            if let Ok(response) = Message::parse_datagram(octets.clone(), &crate::base::limits::Limits::unbounded()) {
                head.answered(&response);
            }
            Session {
                local_path: Bytes::from(offer.path.clone()),
                owner,
                sender,
                user,
                flow,
                dialog,
                contact,
                offer,
                sdp,
                session_id: session_id.clone(),
                peer_path: answer.peer_path,
                refresh: timer.map(|(timer, _)| timer),
                refresh_wish: None,
                head: Arc::new(head),
                stage: Stage::Waiting,
                until,
                acked: false,
                ack_by: now + GOODBYE,
                conn: None,
                chunk: None,
                messages: Vec::new(),
                refused: VecDeque::new(),
                stored: Vec::new(),
                armed: None,
            }
        });
        self.by_session.insert(session_id, key);
        cx.respond(reply, 200, octets);
        self.arm(cx, key);
    }
}

fn overload(cx: &mut Cx) -> Refusal {
    cx.counts.overloads += 1;
    Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S)
}

/// The sender's offer, when we can receive by it.
fn judge_sdp(cx: &mut Cx, flow: &Flow, body: Option<&Body<'_>>) -> Result<Answer, Refusal> {
    let Some(body) = body else { return Err(not_acceptable(cx, flow, 304, "an offer of a message stream is missing")) };
    let answer = match offer::judge_offer(body.octets) {
        Ok(answer) => answer,
        Err(AnswerFault::Sdp(_)) => return Err(Refusal::of(400)),
        Err(AnswerFault::Refused) => {
            return Err(not_acceptable(cx, flow, 304, "an offer of a message stream is missing"));
        }
        Err(AnswerFault::Protocol | AnswerFault::Transport) => {
            return Err(not_acceptable(cx, flow, 302, "TCP/MSRP is the only transport"));
        }
        Err(_) => return Err(not_acceptable(cx, flow, 399, "a path with explicit ports is missing")),
    };
    if !answer.direction.sends() {
        return Err(not_acceptable(cx, flow, 399, "large messages are sent with sendonly"));
    }
    //= RFC 6135 4.2.1: an offer is active or actpass; who offers and does not connect could only be connected to
    if answer.setup == Some(Setup::Passive) {
        return Err(not_acceptable(cx, flow, 399, "whoever offers has to connect"));
    }
    Ok(answer)
}

/// 488, and what would have been accepted.
fn not_acceptable(cx: &mut Cx, flow: &Flow, code: u16, text: &str) -> Refusal {
    let capable = deliver::offer(cx, flow).write_receiver_capabilities(cx.policy.max_message_size);
    let warning = respond::coded_warning(cx, code, text);
    Refusal::of(488).with(Name::Warning, warning).with_body(b"application/sdp", capable)
}

/// How many octets the offer says will come (RFC 5547 6).
fn announced(offer: &[u8]) -> Option<u64> {
    let description = Description::parse(offer).ok()?;
    let selector = description.attribute(description.message()?, b"file-selector")?;
    let size = selector.split(|&octet| octet == b' ').find_map(|word| word.strip_prefix(b"size:"))?;
    std::str::from_utf8(size).ok()?.parse().ok()
}
