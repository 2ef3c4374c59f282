//! The SIP side of a push: what the answers to its INVITE mean. What is said within the dialog is in `within`, how it
//! is kept alive in `refresh`.

use super::cx::Cx;
use super::invite;
use super::outcome::{self, Outcome};
use super::payload;
use super::push::{End, Pushes, Role, Stage};
use crate::base::arena::Key;
use crate::base::limits::Limits;
use crate::base::net::Flow;
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::early::Early;
use crate::proto::sip::endpoint::{ClientKey, Failure};
use crate::proto::sip::offer::{self, Profile};
use crate::proto::sip::session_timer::SessionTimer;
use crate::wire::sip::address::NameAddr;
use crate::wire::sip::fields;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use bytes::Bytes;
use std::time::Duration;

/// Longest session interval a 422 may drive us to: a client that wants a day gets an end instead.
pub(super) const INTERVAL_MAX_S: u32 = 86_400;

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
            Role::Page if status >= 200 => {
                let retry_after = message.header(Name::RetryAfter).and_then(fields::retry_after);
                let retry_after = retry_after.map(|seconds| Duration::from_secs(u64::from(seconds)));
                self.paged(cx, key, txn, status, retry_after);
            }
            Role::Bye if status >= 200 => {
                self.by_txn.remove(&txn);
                self.finish(cx, key, End::Transient(None));
            }
            Role::Prack if status >= 200 => _ = self.by_txn.remove(&txn),
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
            Role::Bye | Role::Page => self.finish(cx, key, End::Transient(None)),
            Role::Prack => {}
        }
    }

    fn invite_response(&mut self, cx: &mut Cx, key: Key, txn: ClientKey, message: &Message) {
        let status = message.status();
        let Some(push) = self.live.get_mut(key) else { return };
        if status < 200 {
            // A 100 is the next hop's, and says nothing of anybody.
            if status > 100 {
                self.ringing(cx, key, message);
            }
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
            // What a SIP/IP core says of where its user has moved is for the core to follow.
            Outcome::Redirected => match redirect(message).filter(|_| !push.redirected && !cx.addresses.has_core()) {
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
            Outcome::OtherTypes if push.offer.profile == Profile::Any => {
                push.offer.profile = Profile::Cpim;
                // Nobody has agreed to the first; another description all the same (RFC 8866 5.2).
                push.offer.version += 1;
                push.call.sdp = push.offer.write();
                push.call.cseq += 1;
                self.invite(cx, key);
            }
            Outcome::OtherTypes => self.finish(cx, key, End::Unfit),
            Outcome::Glare => self.finish(cx, key, End::Glare),
            Outcome::GiveUp | Outcome::Gone => self.finish(cx, key, End::GiveUp),
            Outcome::Later => self.finish(cx, key, End::Transient(retry_after)),
            Outcome::Busy => self.finish(cx, key, End::Busy(retry_after)),
        }
    }

    /// Somebody was found, and says so: what is to be acknowledged is (RFC 3262).
    fn ringing(&mut self, cx: &mut Cx, key: Key, message: &Message) {
        let Some(push) = self.live.get_mut(key) else { return };
        let Ok(invite) = Message::parse(push.request.clone(), &Limits::default()) else { return };
        //= RFC 3262 4: a provisional response with Require: 100rel MUST be acknowledged with a PRACK within its dialog
        let Some(prack) = push.early.provisional(&invite, message) else { return };
        let flow = push.call.way(cx);
        let via = invite::via(cx, &flow);
        let octets = prack.line(Name::Via, &via).line(Name::UserAgent, &cx.product).finish();
        match cx.sip.request(cx.now.tick, Method::Prack, octets, flow) {
            Ok(txn) => _ = self.by_txn.insert(txn, (key, Role::Prack)),
            // It comes again, and by then there may be room.
            Err(_) => cx.counts.overloads += 1,
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
                decline_fork(cx, request, message, &flow, &push.early);
            }
            return;
        }
        let confirmed = push.early.confirmed(message.to_tag().unwrap_or_default());
        let Some(dialog) = dialog_of(push.request.clone(), message, &push.early) else {
            // A 2xx without a Contact or a tag makes no dialog: there is nothing to send an ACK to.
            tracing::info!(owner = ?push.call.owner, "the client's 200 makes no dialog");
            self.finish(cx, key, End::GiveUp);
            return;
        };
        let ack = invite::ack(cx, &dialog, push.call.cseq, &flow);
        cx.sip.transmit(flow, ack.clone());
        push.ack = Some(ack);
        //= 12.2.2.2 (200-3): shall follow the procedures of 12.2.2.5, over the session that stands now
        //= 12.2.2.2 (200-2): shall store the Contact header as defined in RFC 3261
        push.dialog = Some(dialog);
        if push.stage == Stage::Cancelling {
            // It crossed our CANCEL.
            self.bye(cx, key);
            return;
        }
        //= 12.2.2.2 (200-1): shall start the SIP session timer using the value received in Session-Expires
        push.refresh = push.call.timer.map(|wish| SessionTimer::uac(cx.now.tick, &wish, message));
        //= RFC 3262 5: the answer that came with a reliable provisional response is the answer; later descriptions are not looked at
        let answer = confirmed.and_then(|early| early.answer);
        match offer::judge_answer(answer.as_deref().unwrap_or(message.body())) {
            Ok(answer) => {
                let contact = message.values(Name::Contact).next().unwrap_or_default();
                self.begin_session(cx, key, answer, payload::is_rcs(contact));
            }
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
        } else if let Some(ack) = decline_fork(cx, late.request.clone(), message, &late.flow, &late.early)
            && late.ack.is_empty()
        {
            late.to_tag = message.to_tag().unwrap_or_default().to_vec();
            late.ack = ack;
        }
    }
}

fn dialog_of(request: Bytes, response: &Message, early: &Early) -> Option<Dialog> {
    let request = Message::parse(request, &Limits::default()).ok()?;
    let mut dialog = Dialog::uac(&request, response).ok()?;
    if let Some(early) = early.confirmed(dialog.remote_tag()) {
        dialog.follows(&early.dialog);
    }
    Some(dialog)
}

/// ACK and BYE for a 2xx whose dialog nobody wants; the ACK, for its repetitions.
fn decline_fork(cx: &mut Cx, request: Bytes, response: &Message, flow: &Flow, early: &Early) -> Option<Bytes> {
    let mut dialog = dialog_of(request, response, early)?;
    let ack = invite::ack(cx, &dialog, response.cseq().0, flow);
    cx.sip.transmit(*flow, ack.clone());
    let bye = invite::within(cx, &mut dialog, Method::Bye, flow).finish();
    // Its answer interests nobody; the transaction repeats it as long as is due.
    if cx.sip.request(cx.now.tick, Method::Bye, bye, *flow).is_err() {
        cx.counts.overloads += 1;
    }
    Some(ack)
}

/// Where a 3xx sends us: to the Contact that it prefers, of several the first.
///
//= RFC 3261 8.1.3.4: a common mechanism is to order the set by the "q" parameter value
fn redirect(message: &Message) -> Option<Vec<u8>> {
    let contacts = message.values(Name::Contact).filter_map(|contact| NameAddr::parse(contact).ok());
    let targets = contacts.filter_map(|contact| Some((contact.preference(), contact.target()?)));
    let best = targets.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, target)| target)
}
