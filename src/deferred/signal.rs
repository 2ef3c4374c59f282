//! The SIP side of a push: what the answers to its INVITE mean, and what the client asks within the dialog.

use super::cx::{Cx, Reply};
use super::invite;
use super::outcome::{self, Outcome};
use super::push::{End, GOODBYE, Late, Pushes, Role, Stage};
use super::respond::{self, Refusal};
use crate::base::arena::Key;
use crate::base::limits::Limits;
use crate::base::net::Flow;
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::endpoint::{ClientKey, Failure};
use crate::proto::sip::offer::{self, Setup};
use crate::proto::sip::session_timer::{Due, SessionTimer, Wish};
use crate::wire::sip::address::NameAddr;
use crate::wire::sip::fields;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use bytes::Bytes;
use std::time::Duration;

/// A refresh that was refused is tried again after this.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);

/// Longest session interval a 422 may drive us to: a client that wants a day gets an end instead.
const INTERVAL_MAX_S: u32 = 86_400;

impl Pushes {
    /// A response to a request of some push.
    pub fn response(&mut self, cx: &mut Cx, txn: ClientKey, message: &Message) {
        let Some(&(key, role)) = self.by_txn.get(&txn) else {
            self.late_response(cx, txn, message);
            return;
        };
        let status = message.status();
        match role {
            Role::Invite => self.invite_response(cx, key, txn, message),
            Role::Refresh if status >= 200 => self.refreshed(cx, key, txn, message),
            Role::Bye if status >= 200 => {
                self.by_txn.remove(&txn);
                self.finish(cx, key, End::Transient(None));
            }
            _ => {}
        }
    }

    /// A request of some push got no answer, or could not be sent.
    pub fn no_response(&mut self, cx: &mut Cx, txn: ClientKey, failure: Failure) {
        let Some((key, role)) = self.by_txn.remove(&txn) else { return };
        match role {
            Role::Invite => {
                let cancelled = self.live.get(key).is_some_and(|push| push.stage == Stage::Cancelling);
                tracing::info!(?failure, cancelled, "no answer to the INVITE of a push");
                self.finish(cx, key, End::Transient(None));
            }
            //= RFC 4028 10: a refresh that times out ends the session
            Role::Refresh => self.hang_up(cx, key, End::Transient(None)),
            Role::Bye => self.finish(cx, key, End::Transient(None)),
        }
    }

    fn invite_response(&mut self, cx: &mut Cx, key: Key, txn: ClientKey, message: &Message) {
        let status = message.status();
        let Some(push) = self.live.get_mut(key) else { return };
        if status < 200 {
            return;
        }
        if status < 300 {
            self.invite_answered(cx, key, message);
            return;
        }
        self.by_txn.remove(&txn);
        push.invite = None;
        if push.stage == Stage::Cancelling {
            self.finish(cx, key, End::Transient(None));
            return;
        }
        let retry_after = message.header(Name::RetryAfter).and_then(fields::retry_after);
        let retry_after = retry_after.map(|seconds| Duration::from_secs(u64::from(seconds)));
        tracing::debug!(owner = ?push.call.owner, status, "the push INVITE was refused");
        match outcome::of_status(status) {
            Outcome::Answered => {}
            Outcome::Redirected => match redirect(message).filter(|_| !push.redirected) {
                Some(target) => {
                    push.redirected = true;
                    push.call.target = target;
                    push.call.cseq += 1;
                    self.invite(cx, key);
                }
                None => self.finish(cx, key, End::GiveUp),
            },
            //= RFC 4028 7.3: 422: try again with a Session-Expires of at least the response's Min-SE, and with that Min-SE
            Outcome::LongerInterval => {
                let timer = push.call.timer.as_mut();
                if timer.is_some_and(|timer| timer.too_small(message) && timer.interval_s() <= INTERVAL_MAX_S) {
                    push.call.cseq += 1;
                    self.invite(cx, key);
                } else {
                    self.finish(cx, key, End::GiveUp);
                }
            }
            Outcome::FewerOptions => {
                let lists_timer = message.values(Name::Unsupported).any(|tag| tag.eq_ignore_ascii_case(b"timer"));
                if push.call.timer.is_some() && lists_timer {
                    push.call.timer = None;
                    push.call.cseq += 1;
                    self.invite(cx, key);
                } else {
                    self.finish(cx, key, End::GiveUp);
                }
            }
            Outcome::Glare => self.finish(cx, key, End::Glare),
            Outcome::GiveUp | Outcome::Gone => self.finish(cx, key, End::GiveUp),
            Outcome::Later => self.finish(cx, key, End::Transient(retry_after)),
            Outcome::Busy => self.finish(cx, key, End::Busy),
        }
    }

    /// A 2xx: the first one makes the dialog; the same again gets the same ACK; one of another fork gets ACK and BYE.
    fn invite_answered(&mut self, cx: &mut Cx, key: Key, message: &Message) {
        let Some(push) = self.live.get_mut(key) else { return };
        let flow = push.call.way(cx);
        if let Some(dialog) = &push.dialog {
            if message.to_tag() == Some(dialog.remote_tag()) {
                if let Some(ack) = push.ack.clone() {
                    cx.sip.transmit(flow, ack);
                }
            } else {
                //= RFC 3261 13.2.2.4: a 2xx of another fork is acknowledged, and its dialog ended
                let request = push.request.clone();
                decline_fork(cx, request, message, &flow);
            }
            return;
        }
        let Some(dialog) = dialog_of(push.request.clone(), message) else {
            // A 2xx without a Contact or a tag makes no dialog: there is nothing to send an ACK to.
            tracing::info!(owner = ?push.call.owner, "the client's 200 makes no dialog");
            self.finish(cx, key, End::GiveUp);
            return;
        };
        let ack = invite::ack(cx, &dialog, push.call.cseq, &flow);
        cx.sip.transmit(flow, ack.clone());
        push.ack = Some(ack);
        //= 12.2.2.2 (200-2): shall store the Contact header as defined in RFC 3261
        push.dialog = Some(dialog);
        if push.stage == Stage::Cancelling {
            // It crossed our CANCEL.
            self.bye(cx, key);
            return;
        }
        //= 12.2.2.2 (200-1): shall start the SIP session timer using the value received in Session-Expires
        push.refresh = push.call.timer.map(|wish| SessionTimer::uac(cx.now.tick, &wish, message));
        match offer::judge_answer(message.body()) {
            Ok(answer) => self.begin_session(cx, key, answer),
            Err(fault) => {
                tracing::info!(owner = ?push.call.owner, ?fault, "the client's answer cannot be used");
                push.stage = Stage::Waiting;
                self.hang_up(cx, key, End::GiveUp);
            }
        }
    }

    /// A 2xx for a call that is over: still acknowledged for 64*T1 (RFC 6026 Timer M), and one that nobody waits for any
    /// more is ended.
    fn late_response(&mut self, cx: &mut Cx, txn: ClientKey, message: &Message) {
        let Some(late) = self.late.get_mut(&txn).filter(|_| (200..300).contains(&message.status())) else { return };
        if !late.ack.is_empty() && message.to_tag() == Some(&late.to_tag) {
            cx.sip.transmit(late.flow, late.ack.clone());
        } else if let Some(ack) = decline_fork(cx, late.request.clone(), message, &late.flow)
            && late.ack.is_empty()
        {
            late.to_tag = message.to_tag().unwrap_or_default().to_vec();
            late.ack = ack;
        }
    }

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

    /// The session timer: refresh at half the interval when that is ours to do, end when nobody did (RFC 4028 10).
    pub(super) fn session_timer(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        if !matches!(push.stage, Stage::Sending | Stage::Waiting | Stage::Connecting) {
            return;
        }
        let Some(timer) = &mut push.refresh else { return };
        match timer.fire(cx.now.tick) {
            None => {}
            Some(Due::Bye) => self.hang_up(cx, key, End::Transient(None)),
            Some(Due::Refresh) => {
                let wish = timer.refresh();
                self.refresh(cx, key, wish);
            }
        }
    }

    /// Sends UPDATE or re-INVITE to keep the session alive.
    fn refresh(&mut self, cx: &mut Cx, key: Key, wish: Wish) {
        let Some(push) = self.live.get_mut(key) else { return };
        let flow = push.call.way(cx);
        let contact = push.call.contact_value();
        let (Some(timer), Some(dialog)) = (&mut push.refresh, &mut push.dialog) else { return };
        let method = timer.refresh_method();
        let request = invite::within(cx, dialog, method, &flow).line(Name::Contact, &contact);
        let mut request = wish.lines(request);
        if method == Method::Invite {
            // The same o= line: nothing changes but the time (RFC 3264 8).
            request = request.line(Name::Allow, respond::ALLOW).body(b"application/sdp", &push.call.sdp);
        }
        match cx.sip.request(cx.now.tick, method, request.finish(), flow) {
            Ok(txn) => {
                push.refresh_wish = Some(wish);
                push.offering = method == Method::Invite;
                self.by_txn.insert(txn, (key, Role::Refresh));
            }
            Err(_) => {
                cx.counts.overloads += 1;
                timer.retry(cx.now.tick + REFRESH_AGAIN);
            }
        }
    }

    fn refreshed(&mut self, cx: &mut Cx, key: Key, txn: ClientKey, message: &Message) {
        let status = message.status();
        self.by_txn.remove(&txn);
        let Some(push) = self.live.get_mut(key) else { return };
        let flow = push.call.flow;
        push.offering = false;
        let wish = push.refresh_wish.take();
        let larger = wish.and_then(|mut wish| wish.too_small(message).then_some(wish));
        let larger = larger.filter(|wish| status == 422 && wish.interval_s() <= INTERVAL_MAX_S);
        if (200..300).contains(&status)
            && let Some(dialog) = &mut push.dialog
        {
            //= RFC 3261 12.2.1.2: a 2xx to a target refresh request: MUST replace the dialog's remote target URI
            dialog.refresh_target(message);
            if message.cseq().1 == Method::Invite {
                let ack = invite::ack(cx, dialog, message.cseq().0, &flow);
                let to_tag = dialog.remote_tag().to_vec();
                let late = Late { to_tag, ack: ack.clone(), flow, request: Bytes::new() };
                cx.sip.transmit(flow, ack);
                self.late.insert(txn, late);
                self.late_order.push_back((cx.now.tick + GOODBYE, txn));
            }
        }
        //= RFC 4028 7.4: 422: the refresh is sent again with at least the Min-SE of the response
        if let Some(wish) = larger {
            return self.refresh(cx, key, wish);
        }
        match status {
            200..300 => {
                if let Some(timer) = &mut push.refresh {
                    *timer = SessionTimer::uac(cx.now.tick, &wish.unwrap_or(timer.refresh()), message);
                }
            }
            //= RFC 3261 12.2.1.2: a 481 or a 408 within a dialog: the UAC SHOULD terminate the dialog
            408 | 481 => self.hang_up(cx, key, End::Transient(None)),
            // Anything else leaves the session as it is until it expires (RFC 4028 10).
            _ => {
                if let Some(timer) = &mut push.refresh {
                    timer.retry(cx.now.tick + REFRESH_AGAIN);
                }
            }
        }
        self.touch(key);
    }
}

fn dialog_of(request: Bytes, response: &Message) -> Option<Dialog> {
    let request = Message::parse(request, &Limits::default()).ok()?;
    Dialog::uac(&request, response).ok()
}

/// ACK and BYE for a 2xx whose dialog nobody wants; the ACK, for its repetitions.
fn decline_fork(cx: &mut Cx, request: Bytes, response: &Message, flow: &Flow) -> Option<Bytes> {
    let mut dialog = dialog_of(request, response)?;
    let ack = invite::ack(cx, &dialog, response.cseq().0, flow);
    cx.sip.transmit(*flow, ack.clone());
    let bye = invite::within(cx, &mut dialog, Method::Bye, flow).finish();
    // Its answer interests nobody; the transaction repeats it as long as is due.
    if cx.sip.request(cx.now.tick, Method::Bye, bye, *flow).is_err() {
        cx.counts.overloads += 1;
    }
    Some(ack)
}

/// Where a 3xx sends us: its first Contact.
fn redirect(message: &Message) -> Option<Vec<u8>> {
    let contact = message.values(Name::Contact).next()?;
    NameAddr::parse(contact).ok().map(|contact| contact.uri.to_vec())
}
