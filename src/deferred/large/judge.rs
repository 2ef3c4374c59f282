//! What an INVITE that brings large messages must say, and the 200 it gets.

use super::wrap::Head;
use super::{Larges, Session, Stage, contact, contact_value};
use crate::base::net::Flow;
use crate::deferred::admit;
use crate::deferred::cx::{Cx, Reply};
use crate::deferred::deliver;
use crate::deferred::identity::Address;
use crate::deferred::offered::{self, Side, Terms};
use crate::deferred::policy::OverQuota;
use crate::deferred::respond::{self, Refusal};
use crate::deferred::within::Unacked;
use crate::proto::sip::offer::{self, Answer, Setup};
use crate::store::directory::UserId;
use crate::wire::params::Params;
use crate::wire::scan;
use crate::wire::sdp::Description;
use crate::wire::sip::fields;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::sip::write::Response;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

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
struct Agreed {
    terms: Terms,
    answer: Answer,
    sdp: Vec<u8>,
    offer: offer::Offer,
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
        let judged = self.judge(cx, &asked).and_then(|agreed| {
            // Held while the session lasts: nobody else gets the place of a user who has nothing yet.
            let entered = cx.directory.enter(&asked.owner);
            entered.map(|user| (agreed, user)).map_err(|_| overload(cx))
        });
        match judged {
            Ok((agreed, user)) => self.accept(cx, asked, agreed, user),
            Err(refusal) => {
                cx.counts.refused += 1;
                let octets = refusal.response(cx, &asked.message, asked.flow.peer());
                cx.respond(asked.reply, refusal.status, octets);
            }
        }
    }

    fn judge(&mut self, cx: &mut Cx, asked: &Asked) -> Result<Agreed, Refusal> {
        admit::sender(cx, &asked.sender)?;
        admit::receiver(cx, &asked.owner)?;
        let message = &asked.message;
        let bodies = offered::bodies(message, respond::SESSION_OPTIONS)?;
        let sdp = offered::description(&bodies);
        let answer = judge_sdp(cx, &asked.flow, sdp)?;
        let offered = sdp.unwrap_or_default();
        if announced(offered).is_some_and(|octets| octets > cx.policy.max_message_size) {
            return Err(Refusal::of(413));
        }
        let terms = offered::terms(cx, message)?;
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
        Ok(Agreed { terms, answer, sdp, offer })
    }

    /// Sets the session up, and answers 200.
    fn accept(&mut self, cx: &mut Cx, asked: Asked, agreed: Agreed, user: UserId) {
        let Asked { reply, message, flow, owner, sender } = asked;
        let Agreed { terms: Terms { dialog, tag, timer }, answer, sdp, offer } = agreed;
        let mut head = Head::of(&message, cx.now.wall.seconds(), fields::privacy_has_id(&message));
        let session_id = Bytes::copy_from_slice(deliver::session_id(&offer.path));
        let revocable = Some(reply).filter(|reply| reply.core != cx.core);
        let (now, until) = (cx.now.tick, cx.now.tick + self.bind_timeout);
        let mut octets = Bytes::new();
        let key = self.live.insert_with(|key| {
            let contact = contact(cx, key, &flow);
            let mut response = Response::to(&message, 200, flow.peer())
                .record_route()
                .to_tag(&tag)
                .line(Name::Server, &cx.product)
                .line(Name::Contact, &contact_value(&contact))
                .line(Name::Allow, respond::ALLOW_WITHIN_LARGE)
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
                offering: false,
                refreshed: None,
                head: Arc::new(head),
                stage: Stage::Waiting,
                until,
                unacked: Some(Unacked::new(now, message.cseq().0, false)),
                revocable,
                conn: None,
                chunk: None,
                messages: Vec::new(),
                refused: VecDeque::new(),
                stored: Vec::new(),
                armed: None,
            }
        });
        self.by_session.insert(session_id, key);
        self.by_reply.extend(revocable.map(|reply| (reply, key)));
        cx.respond(reply, 200, octets);
        self.arm(cx, key);
    }
}

fn overload(cx: &mut Cx) -> Refusal {
    cx.counts.overloads += 1;
    Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S)
}

/// The sender's offer, when we can receive by it.
fn judge_sdp(cx: &mut Cx, flow: &Flow, sdp: Option<&[u8]>) -> Result<Answer, Refusal> {
    let answer = offered::stream(cx, flow, Side::Receives, sdp)?;
    let text = match answer.setup {
        _ if !answer.direction.sends() => "large messages are sent with sendonly",
        //= RFC 6135 4.2.1: an offer is active or actpass; who offers and does not connect could only be connected to
        Some(Setup::Passive) => "whoever offers has to connect",
        _ => return Ok(answer),
    };
    Err(offered::not_acceptable(cx, flow, Side::Receives, 399, text))
}

/// How many octets the offer says will come (RFC 5547 6).
fn announced(offer: &[u8]) -> Option<u64> {
    let description = Description::parse(offer).ok()?;
    let selector = description.attribute(description.message()?, b"file-selector")?;
    let size = selector.split(|&octet| octet == b' ').find_map(|word| word.strip_prefix(b"size:"))?;
    std::str::from_utf8(size).ok()?.parse().ok()
}
