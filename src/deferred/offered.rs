//! What an INVITE must say that asks us for a session, and what a client's description is good for: one judgement for large messages,
//! retrievals, pushes, and what is offered within a session.
//!
//! Knows bodies, the stream, the terms of a dialog and the forms of messages. Whose session it is, and which way messages go in it, is for
//! whoever asks.

use super::cx::Cx;
use super::deliver;
use super::payload::Choice;
use super::push::Pushes;
use super::respond::{self, Refusal};
use crate::base::net::Flow;
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::offer::{self, Answer, AnswerFault, Profile};
use crate::proto::sip::session_timer::{Agreed, SessionTimer};
use crate::wire::resource_lists;
use crate::wire::sip::bodies::{self, Body};
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use std::net::{IpAddr, SocketAddr};

/// What an INVITE may carry. To a large message the list is of no interest: it says to whom else it was sent, before it came here.
const ACCEPT: &[u8] = b"application/sdp, multipart/mixed, application/resource-lists+xml";

/// What we do in the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Messages go out.
    Sends,
    /// They come in.
    Receives,
}

/// What a new dialog rests on.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) dialog: Dialog,
    /// Our tag in it.
    pub(super) tag: [u8; 20],
    pub(super) timer: Option<(SessionTimer, Agreed)>,
}

/// The bodies of an INVITE that requires no more than `options`.
///
/// # Errors
/// 420, 400, 415.
pub(super) fn bodies<'a>(message: &'a Message, options: &[&[u8]]) -> Result<Vec<Body<'a>>, Refusal> {
    let unknown = respond::unsupported(message, options);
    if !unknown.is_empty() {
        return Err(Refusal::of(420).with(Name::Unsupported, unknown));
    }
    let bodies = bodies::bodies(message).map_err(|_| Refusal::of(400))?;
    let known = |body: &Body<'_>| body.is(b"application/sdp") || body.is(resource_lists::MEDIA_TYPE);
    if !bodies.iter().all(known) {
        return Err(Refusal::of(415).with(Name::Accept, ACCEPT));
    }
    Ok(bodies)
}

/// The session description among them.
pub(super) fn description<'a>(bodies: &[Body<'a>]) -> Option<&'a [u8]> {
    bodies.iter().find(|body| body.is(b"application/sdp")).map(|body| body.octets)
}

/// The stream that a description offers, when it is one that MSRP can have. Which way it goes is not looked at.
///
/// # Errors
/// 400, or 488 with what would have been accepted.
pub(super) fn stream(cx: &mut Cx, flow: &Flow, side: Side, sdp: Option<&[u8]>) -> Result<Answer, Refusal> {
    let (code, text) = match sdp.map(offer::judge_offer) {
        Some(Ok(answer)) => return Ok(answer),
        Some(Err(AnswerFault::Sdp(_))) => return Err(Refusal::of(400)),
        None | Some(Err(AnswerFault::Refused)) => (304, "an offer of a message stream is missing"),
        Some(Err(AnswerFault::Protocol | AnswerFault::Transport)) => (302, "TCP/MSRP is the only transport"),
        Some(Err(_)) => (399, "a path with explicit ports is missing"),
    };
    Err(not_acceptable(cx, flow, side, code, text))
}

/// The terms of the dialog that an INVITE makes.
///
/// # Errors
/// 422, or what the dialog layer says of a Contact that is missing or none.
pub(super) fn terms(cx: &mut Cx, message: &Message) -> Result<Terms, Refusal> {
    let timer = timer(cx, message, None)?;
    let tag = cx.tag();
    let dialog = Dialog::uas(message, &tag).map_err(|unusable| Refusal::of(unusable.status().0))?;
    Ok(Terms { dialog, tag, timer })
}

/// The session timer that a request asks for, beside the one there is.
///
//= RFC 4028 9: an interval below our minimum is refused with 422 and Min-SE
pub(super) fn timer(
    cx: &Cx,
    message: &Message,
    now: Option<&SessionTimer>,
) -> Result<Option<(SessionTimer, Agreed)>, Refusal> {
    let min_se = u32::try_from(cx.policy.min_se.as_secs()).unwrap_or(u32::MAX);
    SessionTimer::uas(cx.now.tick, message, min_se, now)
        .map_err(|too_small| Refusal::of(422).with(Name::MinSE, too_small.min_se_s.to_string()))
}

/// 488, and what would have been accepted.
pub(super) fn not_acceptable(cx: &mut Cx, flow: &Flow, side: Side, code: u16, text: &str) -> Refusal {
    let offer = deliver::offer(cx, flow);
    let capable = match side {
        Side::Sends => offer.write_capabilities(),
        Side::Receives => offer.write_receiver_capabilities(cx.policy.max_message_size),
    };
    let warning = respond::coded_warning(cx, code, text);
    Refusal::of(488).with(Name::Warning, warning).with_body(b"application/sdp", capable)
}

/// Why nothing can be sent by what a client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Useless {
    /// It takes messages in no form we have.
    NoForm,
    /// We would have to connect where the operator does not let us.
    Elsewhere,
}

impl Useless {
    /// As the answer to an offer.
    pub(super) fn refusal(self, cx: &mut Cx, flow: &Flow) -> Refusal {
        let (code, text) = match self {
            Useless::NoForm => (305, "no type is accepted that stored messages can have"),
            Useless::Elsewhere => (399, "the path is outside the networks we connect to"),
        };
        not_acceptable(cx, flow, Side::Sends, code, text)
    }
}

/// What is sent in a session whose client said this, be it in answer to a push, in the offer of a retrieval, or later: what is refused in an
/// offer is not used as an answer.
///
/// # Errors
/// [`Useless::NoForm`].
pub(super) fn forms(cx: &Cx, profile: Profile, said: &Answer, is_rcs: bool) -> Result<Choice, Useless> {
    let choice = Choice::new(&cx.policy, profile, said, is_rcs);
    if choice.is_hopeless() { Err(Useless::NoForm) } else { Ok(choice) }
}

impl Pushes {
    /// Where we connect for such a session; `None`: the client does. The same for all of them.
    ///
    /// # Errors
    /// [`Useless::Elsewhere`].
    //= RFC 4975 14.5: a path may point anywhere; we connect only to networks the operator allows
    pub(super) fn way(&self, said: &Answer) -> Result<Option<SocketAddr>, Useless> {
        let Some((host, port)) = &said.connect_to else { return Ok(None) };
        let allowed = ip(host).filter(|ip| self.media.connect_allow.iter().any(|net| net.contains(ip)));
        Ok(Some(SocketAddr::new(allowed.ok_or(Useless::Elsewhere)?, *port)))
    }
}

/// A host that is an address. Names are not looked up: a push does not wait for a name server, and a path whose host is a
/// name cannot be held to `connect_allow` twice.
fn ip(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}
