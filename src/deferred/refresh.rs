//! Keeping the session of a push alive: our refreshes and what their answers mean (RFC 4028 10).

use super::cx::Cx;
use super::invite;
use super::push::{End, GOODBYE, Late, Pushes, Role, Way};
use super::respond;
use super::signal::INTERVAL_MAX_S;
use crate::base::arena::Key;
use crate::proto::sip::early::Early;
use crate::proto::sip::endpoint::ClientKey;
use crate::proto::sip::session_timer::{Due, SessionTimer, Wish};
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use bytes::Bytes;
use std::time::Duration;

/// A refresh that was refused is tried again after this.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);

impl Pushes {
    /// The session timer: refresh at half the interval when that is ours to do, end when nobody did (RFC 4028 10).
    pub(super) fn session_timer(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        if !push.stage.is_up() {
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
            //= RFC 4028 7.4: a re-INVITE that refreshes carries the session's offer, and its o= line when nothing changes
            push.call.sdp = push.offer.write_again(&push.call.sdp);
            request = request.line(Name::Allow, respond::ALLOW_WITHIN).body(b"application/sdp", &push.call.sdp);
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

    pub(super) fn refreshed(&mut self, cx: &mut Cx, key: Key, txn: ClientKey, message: &Message) {
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
                let late = Late { to_tag, ack: ack.clone(), flow, request: Bytes::new(), early: Early::default() };
                cx.sip.transmit(flow, ack);
                self.late.insert(txn, late);
                self.late_order.push_back((cx.now.tick + GOODBYE, txn));
            }
        }
        // The session is over: nothing is to be agreed on any more.
        if push.stage.is_over() {
            return;
        }
        //= RFC 4028 7.4: 422: the refresh is sent again with at least the Min-SE of the response
        if let Some(wish) = larger {
            return self.refresh(cx, key, wish);
        }
        match status {
            200..300 => {
                if let Some(timer) = &mut push.refresh {
                    let agreed = SessionTimer::uac(cx.now.tick, &wish.unwrap_or(timer.refresh()), message);
                    *timer = agreed.after(Some(timer), message);
                }
                // One without a description changes nothing, whatever it should have said.
                if message.cseq().1 == Method::Invite && !message.body().is_empty() {
                    self.agreed(cx, key, message.body());
                }
            }
            //= RFC 3261 14.1: 491: again after 2.1 to 4 seconds by who made the Call-ID, after 0 to 2 by the other
            //= RFC 3311 5.3: the same of an UPDATE
            491 => {
                let (least_ms, most_ms) = if matches!(push.way, Way::Push) { (2_100, 4_000) } else { (0, 2_000) };
                let wait = Duration::from_millis(cx.dice.between(least_ms, most_ms));
                if let Some(timer) = &mut push.refresh {
                    timer.retry(cx.now.tick + wait);
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
