//! What the client asks within the dialog of a push: refresh, hold, resume, good-bye (RFC 3261 12.2.2, 14.2; RFC 3311).

use super::cx::{Cx, Reply};
use super::push::{End, Pushes, Stage};
use super::respond::{self, Refusal};
use crate::base::arena::Key;
use crate::base::net::Flow;
use crate::proto::sip::offer::{self, Setup};
use crate::proto::sip::session_timer::SessionTimer;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};

impl Pushes {
    /// A request within the dialog of a push.
    ///
    //= RFC 3261 12.2.2: a request within a dialog is matched by its dialog; who may speak in it was settled when it began
    pub fn within(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: &Flow, key: Key) {
        let known = self.live.get_mut(key).and_then(|push| {
            let dialog = push.dialog.as_mut()?;
            dialog.matches(message).then_some(())
        });
        let peer = flow.peer();
        if known.is_none() {
            let octets = respond::plain(cx, message, 481, peer);
            cx.respond(reply, 481, octets);
            return;
        }
        let Some(push) = self.live.get_mut(key) else { return };
        let Some(dialog) = push.dialog.as_mut() else { return };
        // The target is refreshed when the request is accepted, not before.
        if let Err(status) = dialog.in_order(message) {
            let octets = respond::plain(cx, message, status.0, peer);
            cx.respond(reply, status.0, octets);
            return;
        }
        let unknown = respond::unsupported(message, respond::SESSION_OPTIONS);
        if !unknown.is_empty() {
            let octets = Refusal::of(420).with(Name::Unsupported, unknown).response(cx, message, peer);
            cx.respond(reply, 420, octets);
            return;
        }
        //= RFC 3261 15.1.1: after its BYE the UAC considers the session terminated: only the other's BYE may cross it
        if push.stage == Stage::Ending && message.method() != Method::Bye {
            let octets = respond::plain(cx, message, 481, peer);
            cx.respond(reply, 481, octets);
            return;
        }
        match message.method() {
            Method::Bye => {
                let octets = respond::plain(cx, message, 200, peer);
                cx.respond(reply, 200, octets);
                // What was not confirmed waits on; the user is still there, so it is tried again by backoff.
                self.finish(cx, key, End::Transient(None));
            }
            Method::Update | Method::Invite => self.offered_again(cx, reply, message, flow, key),
            Method::Options => {
                let octets = respond::begin(cx, message, 200, peer).line(Name::Allow, respond::ALLOW).finish();
                cx.respond(reply, 200, octets);
            }
            _ => {
                let octets = Refusal::of(405).with(Name::Allow, respond::ALLOW).response(cx, message, peer);
                cx.respond(reply, 405, octets);
            }
        }
    }

    /// Re-INVITE and UPDATE: refresh, hold and resume (RFC 3261 14.2).
    fn offered_again(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: &Flow, key: Key) {
        let peer = flow.peer();
        let Some(push) = self.live.get_mut(key) else { return };
        let min_se = u32::try_from(cx.policy.min_se.as_secs()).unwrap_or(u32::MAX);
        let refresh = match SessionTimer::uas(cx.now.tick, message, min_se, push.refresh.as_ref()) {
            Ok(refresh) => refresh,
            Err(too_small) => {
                //= RFC 4028 9: an interval below our minimum is refused with 422 and Min-SE
                let refusal = Refusal::of(422).with(Name::MinSE, too_small.min_se_s.to_string());
                let octets = refusal.response(cx, message, peer);
                cx.respond(reply, 422, octets);
                return;
            }
        };
        let has_offer = !message.body().is_empty();
        // RFC 3261 14.2: an INVITE while an INVITE of ours is in progress on that dialog: 491
        // RFC 3311 5.2: an UPDATE with an offer while ours has no answer yet: 491
        if push.offering && (has_offer || message.method() == Method::Invite) {
            let octets = respond::plain(cx, message, 491, peer);
            cx.respond(reply, 491, octets);
            return;
        }
        let mut answer = push.call.sdp.clone();
        if has_offer {
            let ours = if push.passive { Setup::Passive } else { Setup::Active };
            let judged = offer::judge_offer(message.body()).ok().zip(push.session.as_mut());
            let agreed = judged.and_then(|(offered, session)| {
                // A new path would be a new session under the messages in flight (RFC 4975 8.2): not while we send.
                if push.peer_path != offered.peer_path {
                    return None;
                }
                let answer = push.offer.write_answer(message.body(), ours).ok()?;
                if offered.direction.receives() {
                    session.resume();
                } else {
                    session.pause();
                }
                Some(answer)
            });
            let Some(agreed) = agreed else {
                let octets = respond::plain(cx, message, 488, peer);
                cx.respond(reply, 488, octets);
                return;
            };
            answer = agreed;
        }
        if let Some(dialog) = &mut push.dialog {
            dialog.refresh_target(message);
        }
        let mut response = respond::begin(cx, message, 200, peer).record_route();
        let contact = push.call.contact_value();
        response = response.line(Name::Contact, &contact).line(Name::Allow, respond::ALLOW);
        if let Some((timer, agreed)) = refresh {
            response = agreed.lines(response);
            push.refresh = Some(timer);
        }
        // An INVITE without an offer is answered with ours; an UPDATE without one stays without.
        if has_offer || message.method() == Method::Invite {
            response = response.body(b"application/sdp", &answer);
        }
        let octets = response.finish();
        cx.respond(reply, 200, octets);
        self.touch(key);
    }
}
