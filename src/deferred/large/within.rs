//! What is asked within the dialog of a session in which large messages come, and how it is kept alive.

use super::{Larges, Role, Stage, contact_value};
use crate::base::arena::Key;
use crate::base::net::Flow;
use crate::deferred::cx::{Cx, Reply};
use crate::deferred::invite;
use crate::deferred::offered::{self, Side};
use crate::deferred::respond::{self, ALLOW_WITHIN_LARGE, Refusal};
use crate::deferred::within::{self, Unacked};
use crate::proto::sip::endpoint::ClientKey;
use crate::proto::sip::session_timer::{Due, SessionTimer, Wish};
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use bytes::Bytes;
use std::time::Duration;

/// A refresh that was refused is tried again after this.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);

/// Longest session interval a 422 may drive us to.
const INTERVAL_MAX_S: u32 = 86_400;

impl Larges {
    /// A request within a session's dialog.
    pub fn within(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: &Flow, key: Key) {
        let peer = flow.peer();
        let status = match self.live.get_mut(key).filter(|session| session.dialog.matches(message)) {
            None => 481,
            Some(session) => match session.dialog.in_order(message) {
                Err(status) => status.0,
                // After our BYE only the other's may cross it.
                Ok(()) if session.stage == Stage::Ending && message.method() != Method::Bye => 481,
                Ok(()) => 0,
            },
        };
        if status != 0 {
            let octets = respond::plain(cx, message, status, peer);
            return cx.respond(reply, status, octets);
        }
        let unknown = respond::unsupported(message, respond::SESSION_OPTIONS);
        if !unknown.is_empty() {
            let octets = Refusal::of(420).with(Name::Unsupported, unknown).response(cx, message, peer);
            return cx.respond(reply, 420, octets);
        }
        match message.method() {
            Method::Bye => {
                let octets = respond::plain(cx, message, 200, peer);
                cx.respond(reply, 200, octets);
                let lines = super::wrap::lines_of_bye(message);
                if let Some(session) = self.live.get(key).filter(|_| !lines.is_empty()) {
                    self.byes.extend(session.stored.iter().map(|stamp| (session.user, *stamp, lines.clone())));
                }
                self.finish(cx, key);
            }
            Method::Update | Method::Invite => self.offered_again(cx, reply, message, flow, key),
            Method::Options => {
                let octets = respond::capabilities(cx, message, peer).finish();
                cx.respond(reply, 200, octets);
            }
            //= RFC 3262 3: a PRACK that matches no unacknowledged reliable provisional response: 481
            //= RFC 6665 4.1.3: a NOTIFY that matches no subscription: 481
            Method::Prack | Method::Notify => {
                let octets = respond::plain(cx, message, 481, peer);
                cx.respond(reply, 481, octets);
            }
            //= RFC 3261 8.2.1: a method that is recognised and not supported: 405 with Allow
            _ => {
                let octets = Refusal::of(405).with(Name::Allow, ALLOW_WITHIN_LARGE).response(cx, message, peer);
                cx.respond(reply, 405, octets);
            }
        }
    }

    /// An ACK that names this session.
    pub fn ack_came(&mut self, cx: &mut Cx, message: &Message, key: Key) {
        let Some(session) = self.live.get_mut(key).filter(|session| session.dialog.matches(message)) else { return };
        if session.unacked.take_if(|unacked| unacked.cseq == message.cseq().0).is_none() {
            return;
        }
        if let Some(reply) = session.revocable.take() {
            self.by_reply.remove(&reply);
        }
        if session.stage == Stage::Ending {
            self.bye(cx, key);
            self.arm(cx, key);
        }
    }

    fn offered_again(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: &Flow, key: Key) {
        let (status, octets) = match self.agree(cx, message, flow, key) {
            Ok(octets) => (200, octets),
            Err(refusal) => {
                cx.counts.refused += 1;
                (refusal.status, refusal.response(cx, message, flow.peer()))
            }
        };
        cx.respond(reply, status, octets);
        self.arm(cx, key);
    }

    /// Re-INVITE and UPDATE: a refresh, or a hold. Chunks come over the connection that there is: a new path would be a new session.
    fn agree(&mut self, cx: &mut Cx, message: &Message, flow: &Flow, key: Key) -> Result<Bytes, Refusal> {
        let session = self.live.get_mut(key).ok_or_else(|| Refusal::of(481))?;
        let sdp = within::description(message)?;
        //= RFC 3261 14.2: an INVITE while an INVITE of ours is in progress on that dialog: 491
        //= RFC 3311 5.2: an UPDATE with an offer while an offer of ours has no answer yet: 491
        let ours_is_open = session.offering || session.unacked.is_some_and(|unacked| unacked.offered);
        if ours_is_open && (sdp.is_some() || message.method() == Method::Invite) {
            return Err(Refusal::of(491));
        }
        let refresh = offered::timer(cx, message, session.refresh.as_ref())?;
        if let Some(sdp) = sdp {
            let offered = offered::stream(cx, flow, Side::Receives, Some(sdp))?;
            if offered.peer_path != session.peer_path {
                let text = "another path is another session";
                return Err(offered::not_acceptable(cx, flow, Side::Receives, 399, text));
            }
            let answer = session.offer.write_receiver(sdp, cx.policy.max_message_size);
            session.sdp = answer.map_err(|_| Refusal::of(400))?;
        }
        session.dialog.refresh_target(message);
        let mut response = respond::begin(cx, message, 200, flow.peer()).record_route();
        response = response.line(Name::Contact, &contact_value(&session.contact));
        response = response.line(Name::Allow, ALLOW_WITHIN_LARGE).line(Name::Supported, respond::SUPPORTED);
        if let Some((timer, agreed)) = refresh {
            response = agreed.lines(response);
            session.refresh = Some(timer);
        }
        let is_invite = message.method() == Method::Invite;
        if is_invite {
            //= RFC 3261 14.2: a re-INVITE without an offer is answered with ours
            session.unacked = Some(Unacked::new(cx.now.tick, message.cseq().0, sdp.is_none()));
        }
        if sdp.is_some() || is_invite {
            response = response.body(b"application/sdp", &session.sdp);
        }
        Ok(response.finish())
    }

    /// The session timer: refresh when that is ours to do, end when nobody did (RFC 4028 10).
    pub(super) fn session_timer(&mut self, cx: &mut Cx, key: Key) {
        let Some(timer) = self.live.get_mut(key).and_then(|session| session.refresh.as_mut()) else { return };
        match timer.fire(cx.now.tick) {
            None => {}
            Some(Due::Bye) => self.hang_up(cx, key),
            Some(Due::Refresh) => {
                let wish = timer.refresh();
                self.refresh(cx, key, wish);
            }
        }
    }

    fn refresh(&mut self, cx: &mut Cx, key: Key, wish: Wish) {
        let Some(session) = self.live.get_mut(key) else { return };
        let Some(timer) = &mut session.refresh else { return };
        session.flow = cx.flow_to(Some(session.flow)).unwrap_or(session.flow);
        let method = timer.refresh_method();
        let request = invite::within(cx, &mut session.dialog, method, &session.flow);
        let mut request = wish.lines(request.line(Name::Contact, &contact_value(&session.contact)));
        if method == Method::Invite {
            request = request.line(Name::Allow, ALLOW_WITHIN_LARGE).body(b"application/sdp", &session.sdp);
        }
        match cx.sip.request(cx.now.tick, method, request.finish(), session.flow) {
            Ok(txn) => {
                session.refresh_wish = Some(wish);
                session.offering = method == Method::Invite;
                self.by_txn.insert(txn, (key, Role::Refresh));
            }
            Err(_) => {
                cx.counts.overloads += 1;
                timer.retry(cx.now.tick + REFRESH_AGAIN);
            }
        }
    }

    /// A response to a request of a session here; false when it is somebody else's.
    pub fn response(&mut self, cx: &mut Cx, txn: ClientKey, message: &Message) -> bool {
        let Some(&(key, role)) = self.by_txn.get(&txn) else { return false };
        let status = message.status();
        if status < 200 {
            return true;
        }
        if role == Role::Refreshed {
            self.acknowledge_again(cx, key, message);
            return true;
        }
        self.by_txn.remove(&txn);
        match role {
            Role::Bye => self.finish(cx, key),
            Role::Refresh | Role::Refreshed => self.refreshed(cx, key, txn, message),
        }
        true
    }

    /// A request got no answer; false when it was somebody else's.
    pub fn no_response(&mut self, cx: &mut Cx, txn: ClientKey) -> bool {
        let Some((key, role)) = self.by_txn.remove(&txn) else { return false };
        match role {
            Role::Bye => self.finish(cx, key),
            //= RFC 4028 10: a refresh that times out ends the session
            Role::Refresh => self.hang_up(cx, key),
            // It was answered.
            Role::Refreshed => {}
        }
        true
    }

    /// A 2xx that came before: its ACK was lost.
    //= RFC 3261 13.2.2.4: the ACK MUST be passed to the client transport every time a retransmission of the 2xx arrives
    fn acknowledge_again(&mut self, cx: &mut Cx, key: Key, message: &Message) {
        let Some(session) = self.live.get(key).filter(|_| (200..300).contains(&message.status())) else { return };
        if let Some((_, ack)) = &session.refreshed {
            cx.sip.transmit(session.flow, ack.clone());
        }
    }

    fn refreshed(&mut self, cx: &mut Cx, key: Key, txn: ClientKey, message: &Message) {
        let Some(session) = self.live.get_mut(key) else { return };
        let status = message.status();
        let wish = session.refresh_wish.take();
        session.offering = false;
        if (200..300).contains(&status) && message.cseq().1 == Method::Invite {
            let ack = invite::ack(cx, &session.dialog, message.cseq().0, &session.flow);
            cx.sip.transmit(session.flow, ack.clone());
            if let Some((last, _)) = session.refreshed.replace((txn, ack)) {
                self.by_txn.remove(&last);
            }
            self.by_txn.insert(txn, (key, Role::Refreshed));
        }
        let larger = wish.and_then(|mut wish| wish.too_small(message).then_some(wish));
        match (status, larger, &mut session.refresh) {
            (200..300, _, Some(timer)) => {
                session.dialog.refresh_target(message);
                *timer = SessionTimer::uac(cx.now.tick, &wish.unwrap_or(timer.refresh()), message);
            }
            (422, Some(wish), _) if wish.interval_s() <= INTERVAL_MAX_S => return self.refresh(cx, key, wish),
            //= RFC 3261 12.2.1.2: a 481 or a 408 within a dialog: the UAC SHOULD terminate the dialog
            (408 | 481, ..) => return self.hang_up(cx, key),
            (_, _, Some(timer)) => timer.retry(cx.now.tick + REFRESH_AGAIN),
            _ => {}
        }
        self.arm(cx, key);
    }
}
