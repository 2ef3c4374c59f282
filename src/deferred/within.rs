//! What the client says within the dialog of a push or retrieval: refresh, hold, resume, another path, good-bye (RFC 3261 12.2.2,
//! 14.2; RFC 3311; RFC 4975 8.4).
//!
//! Offers are judged here, and what they mean for the session under way; how a session leaves one path for another is in
//! [`super::moved`].

use super::cx::{Cx, Reply};
use super::offered::{self, Side};
use super::push::{End, GOODBYE, Pushes, Stage};
use super::respond::{self, Refusal};
use crate::base::arena::Key;
use crate::base::clock::Tick;
use crate::base::net::Flow;
use crate::proto::sip::offer::{self, Direction, Setup};
use crate::wire::resource_lists;
use crate::wire::sip::bodies;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use bytes::Bytes;
use std::net::SocketAddr;

/// A 2xx of ours to an INVITE whose ACK has not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unacked {
    /// Of the INVITE, and so of its ACK.
    pub(super) cseq: u32,
    /// Nobody waits longer (64*T1).
    pub(super) until: Tick,
    /// The 2xx carried an offer: the ACK brings its answer.
    pub(super) offered: bool,
}

impl Unacked {
    /// The INVITE with this number was just answered.
    pub(super) fn new(now: Tick, cseq: u32, offered: bool) -> Unacked {
        Unacked { cseq, until: now + GOODBYE, offered }
    }
}

impl Pushes {
    /// A request within the dialog of a push.
    ///
    //= RFC 3261 12.2.2: a request within a dialog is matched by its dialog; who may speak in it was settled when it began
    pub fn within(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: &Flow, key: Key) {
        let (status, octets) = match self.heard(cx, message, flow, key) {
            Ok(octets) if message.method() == Method::Bye => return self.farewell(cx, key, reply, octets),
            Ok(octets) => (200, octets),
            Err(refusal) => {
                cx.counts.refused += 1;
                (refusal.status, refusal.response(cx, message, flow.peer()))
            }
        };
        cx.respond(reply, status, octets);
    }

    fn heard(&mut self, cx: &mut Cx, message: &Message, flow: &Flow, key: Key) -> Result<Bytes, Refusal> {
        let peer = flow.peer();
        let push = self.live.get_mut(key).ok_or_else(|| Refusal::of(481))?;
        if push.dialog.is_none() {
            return self.heard_early(cx, message, peer, key);
        }
        let dialog = push.dialog.as_mut().filter(|dialog| dialog.matches(message)).ok_or_else(|| Refusal::of(481))?;
        // The target is refreshed when the request is accepted, not before.
        dialog.in_order(message).map_err(|status| Refusal::of(status.0))?;
        let unknown = respond::unsupported(message, respond::SESSION_OPTIONS);
        if !unknown.is_empty() {
            return Err(Refusal::of(420).with(Name::Unsupported, unknown));
        }
        //= RFC 3261 15.1.1: after its BYE the UAC considers the session terminated: only the other's BYE may cross it
        let is_said = push.farewell.is_some() || message.method() != Method::Bye;
        if push.stage.is_over() && is_said {
            return Err(Refusal::of(481));
        }
        match message.method() {
            Method::Bye => Ok(respond::plain(cx, message, 200, peer)),
            Method::Update | Method::Invite => self.offered_again(cx, message, flow, key),
            Method::Options => Ok(respond::capabilities(cx, message, peer).finish()),
            //= RFC 3262 3: a PRACK that matches no unacknowledged reliable provisional response: 481
            //= RFC 6665 4.1.3: a NOTIFY that matches no subscription: 481
            Method::Prack | Method::Notify => Err(Refusal::of(481)),
            //= RFC 3261 8.2.1: a method that is recognised and not supported: 405 with Allow
            _ => Err(Refusal::of(405).with(Name::Allow, respond::ALLOW_WITHIN)),
        }
    }

    /// What is said before the answer to our INVITE, in a dialog that rings.
    fn heard_early(&mut self, cx: &mut Cx, message: &Message, peer: SocketAddr, key: Key) -> Result<Bytes, Refusal> {
        let push = self.live.get_mut(key).ok_or_else(|| Refusal::of(481))?;
        let contact = push.call.contact_value();
        let (dialog, answered) = push.early.of(message).ok_or_else(|| Refusal::of(481))?;
        dialog.in_order(message).map_err(|status| Refusal::of(status.0))?;
        let unknown = respond::unsupported(message, respond::SESSION_OPTIONS);
        if !unknown.is_empty() {
            return Err(Refusal::of(420).with(Name::Unsupported, unknown));
        }
        match message.method() {
            //= RFC 3311 5.2: an UPDATE with an offer while an offer of ours has no answer yet: 491
            Method::Update if !message.body().is_empty() && !answered => Err(Refusal::of(491)),
            // There is nothing to be changed before there is a session.
            Method::Update if !message.body().is_empty() => Err(Refusal::of(488)),
            Method::Update => {
                dialog.refresh_target(message);
                let response = respond::begin(cx, message, 200, peer).line(Name::Contact, &contact);
                Ok(response.line(Name::Allow, respond::ALLOW_WITHIN).finish())
            }
            Method::Options => Ok(respond::capabilities(cx, message, peer).finish()),
            //= RFC 3261 15: the callee MUST NOT send a BYE on an early dialog
            _ => Err(Refusal::of(481)),
        }
    }

    /// Re-INVITE and UPDATE (RFC 3261 14.2).
    fn offered_again(&mut self, cx: &mut Cx, message: &Message, flow: &Flow, key: Key) -> Result<Bytes, Refusal> {
        let is_invite = message.method() == Method::Invite;
        let sdp = description(message)?;
        let push = self.live.get_mut(key).ok_or_else(|| Refusal::of(481))?;
        //= RFC 3261 14.2: an INVITE while an INVITE of ours is in progress on that dialog: 491
        //= RFC 3311 5.2: an UPDATE with an offer while an offer of ours has no answer yet: 491
        let ours_is_open = push.offering || push.unacked.is_some_and(|unacked| unacked.offered);
        if ours_is_open && (sdp.is_some() || is_invite) {
            return Err(Refusal::of(491));
        }
        let refresh = offered::timer(cx, message, push.refresh.as_ref())?;
        if let Some(sdp) = sdp {
            self.agree(cx, flow, key, sdp)?;
        }
        let push = self.live.get_mut(key).ok_or_else(|| Refusal::of(481))?;
        if let Some(dialog) = &mut push.dialog {
            dialog.refresh_target(message);
        }
        if is_invite {
            if sdp.is_none() {
                //= RFC 3261 14.2: a re-INVITE without an offer is answered with ours
                push.call.sdp = push.offer.write_again(&push.call.sdp);
            }
            push.unacked = Some(Unacked::new(cx.now.tick, message.cseq().0, sdp.is_none()));
        }
        let contact = push.call.contact_value();
        let mut response = respond::begin(cx, message, 200, flow.peer()).record_route();
        response = response.line(Name::Contact, &contact).line(Name::Allow, respond::ALLOW_WITHIN);
        response = response.line(Name::Supported, respond::SUPPORTED);
        if let Some((timer, agreed)) = refresh {
            response = agreed.lines(response);
            push.refresh = Some(timer.after(push.refresh.as_ref(), message));
        }
        // An UPDATE without an offer stays without.
        if sdp.is_some() || is_invite {
            response = response.body(b"application/sdp", &push.call.sdp);
        }
        let octets = response.finish();
        self.touch(key);
        Ok(octets)
    }

    /// An offer of the peer's within the session: hold, resume, another path, or what cannot be.
    ///
    //= RFC 4975 8.4: the answerer MUST respond with a path that is valid at the time
    fn agree(&mut self, cx: &mut Cx, flow: &Flow, key: Key, sdp: &[u8]) -> Result<(), Refusal> {
        let offered = offered::stream(cx, flow, Side::Sends, Some(sdp))?;
        let way = self.way(&offered);
        let Some(push) = self.live.get_mut(key).filter(|push| push.session.is_some()) else {
            return Err(Refusal::of(481));
        };
        // What it says it accepts counts from now on.
        let choice = offered::forms(cx, push.offer.profile, &offered, push.choice.is_rcs())
            .map_err(|useless| useless.refusal(cx, flow))?;
        if push.peer_path != offered.peer_path {
            way.map_err(|useless| useless.refusal(cx, flow))?;
            return self.accept_path(cx, key, offered, sdp);
        }
        let ours = if push.passive { Setup::Passive } else { Setup::Active };
        push.call.sdp = push.offer.write_next_answer(sdp, ours, &push.call.sdp).map_err(|_| Refusal::of(400))?;
        push.choice = choice;
        self.direct(key, offered.direction);
        Ok(())
    }

    /// The answer to an offer of ours within the session. One that cannot be used ends it: what we have said stands.
    pub(super) fn agreed(&mut self, cx: &mut Cx, key: Key, sdp: &[u8]) {
        if self.live.get(key).is_none_or(|push| push.stage.is_over()) {
            return;
        }
        let Ok(answer) = offer::judge_next_answer(sdp) else {
            tracing::info!("a later answer of the client's cannot be used");
            return self.hang_up(cx, key, End::Transient(None));
        };
        let Some(push) = self.live.get_mut(key) else { return };
        if push.peer_path == answer.peer_path {
            // One that takes nothing any more is sent what it took before: its SENDs will be answered.
            if let Ok(choice) = offered::forms(cx, push.offer.profile, &answer, push.choice.is_rcs()) {
                push.choice = choice;
            }
            self.direct(key, answer.direction);
        } else {
            //= RFC 4975 8.4: the new offerer MUST NOT assume that the peer will answer with the same path
            self.move_to(cx, key, answer);
        }
    }

    /// The client holds the session, or lets it go on.
    pub(super) fn direct(&mut self, key: Key, direction: Direction) {
        let Some(session) = self.live.get_mut(key).and_then(|push| push.session.as_mut()) else { return };
        if direction.receives() {
            session.resume();
        } else {
            session.pause();
        }
        self.touch(key);
    }

    /// An ACK that names this session.
    pub fn ack_came(&mut self, cx: &mut Cx, message: &Message, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        if !push.dialog.as_ref().is_some_and(|dialog| dialog.matches(message)) {
            return;
        }
        let Some(unacked) = push.unacked.filter(|unacked| unacked.cseq == message.cseq().0) else { return };
        push.unacked = None;
        if let Some(reply) = push.revocable.take() {
            self.by_reply.remove(&reply);
        }
        if push.stage == Stage::Ending {
            return self.bye(cx, key);
        }
        if unacked.offered {
            // Without an answer it cannot be used either.
            self.agreed(cx, key, message.body());
        }
        self.touch(key);
    }

    /// Looks whether an ACK was waited for long enough.
    ///
    //= RFC 3261 14.2: a 2xx whose ACK is never received: SHOULD generate a BYE to terminate the dialog
    //= RFC 3261 13.3.1.4: a 2xx retransmitted for 64*T1 without an ACK: the session SHOULD be terminated with a BYE
    pub(super) fn unacknowledged(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        if push.unacked.is_none_or(|unacked| unacked.until > cx.now.tick) {
            return;
        }
        push.unacked = None;
        match push.stage {
            Stage::Ending => self.bye(cx, key),
            _ => self.hang_up(cx, key, End::Transient(None)),
        }
    }
}

/// The session description of a later INVITE or UPDATE; `None` without one.
///
/// # Errors
/// 400, 415 or 420: it carries something else.
pub(super) fn description(message: &Message) -> Result<Option<&[u8]>, Refusal> {
    let bodies = bodies::bodies(message).map_err(|_| Refusal::of(400))?;
    //= RFC 5366 5.1: the list belongs to the first INVITE: a later one that has one is 420
    if bodies.iter().any(|body| body.is(resource_lists::MEDIA_TYPE)) {
        return Err(Refusal::of(420).with(Name::Unsupported, "recipient-list-invite"));
    }
    match bodies.as_slice() {
        [] => Ok(None),
        [body] if body.is(b"application/sdp") => Ok(Some(body.octets)),
        _ => Err(Refusal::of(415).with(Name::Accept, "application/sdp")),
    }
}
