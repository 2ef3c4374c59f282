//! How a push ends: when all is done, when something failed, when the daemon stops. Its messages are safe in any case.

use super::cx::{Ask, Cx, Reply};
use super::invite;
use super::push::{
    End, Ended, GOODBYE, HELD_MAX, Idle, LAST_ANSWERS, LAST_WORD, Late, Left, Push, Pushes, Role, Stage, Way,
};
use super::users::Users;
use crate::base::arena::Key;
use crate::base::clock::Tick;
use crate::proto::msrp::session::Session;
use crate::wire::sip::names::Method;
use bytes::Bytes;

impl Pushes {
    /// Everything sent was answered, its tombstones are durable and nothing new has come: BYE.
    ///
    //= 12.2.2.5: after sending all the deferred messages, the IM Server shall send a SIP BYE
    pub(super) fn end_if_done(&mut self, cx: &mut Cx, users: &mut Users, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        if push.stage != Stage::Sending {
            return;
        }
        if push.leaving {
            if push.session.as_ref().is_none_or(Session::is_idle) {
                self.hang_up(cx, key, End::Transient(None));
            }
            return;
        }
        let idle = push.idle_for();
        if idle != push.idle {
            push.idle = idle;
            push.until = match idle {
                Idle::No => Tick::NEVER,
                Idle::Held => cx.now.tick + HELD_MAX,
                Idle::Unreported => cx.now.tick + cx.policy.report_wait,
                Idle::Unwritten => cx.now.tick + GOODBYE,
            };
        }
        let quiet = !push.loading
            && push.in_flight.is_empty()
            && push.is_written()
            && push.session.as_ref().is_none_or(Session::is_idle);
        if !quiet || push.next(users).is_some() {
            return;
        }
        // One more look into the inbox: a message that another core committed in this instant still goes along.
        let user = push.user;
        if matches!(push.way, Way::Push)
            && let Some(oldest) = users.take_in(cx, user)
        {
            self.arrived(user, oldest);
            return;
        }
        self.hang_up(cx, key, End::Completed);
    }

    /// Ends the session with a BYE, or the attempt with a CANCEL, whichever there is.
    pub(super) fn hang_up(&mut self, cx: &mut Cx, key: Key, end: End) {
        let Some(push) = self.live.get_mut(key) else { return };
        push.end = push.end.or(Some(end));
        match push.stage {
            Stage::Parting | Stage::Ending | Stage::Cancelling => return,
            Stage::Inviting => {
                push.stage = Stage::Cancelling;
                push.until = cx.now.tick + GOODBYE;
                if let Some(txn) = push.invite {
                    cx.sip.cancel(cx.now.tick, txn, &mut cx.dice);
                }
                self.touch(key);
                return;
            }
            Stage::Paging => return self.finish(cx, key, end),
            Stage::Waiting | Stage::Connecting | Stage::Sending => {}
        }
        self.part(cx, key);
    }

    /// The client's BYE. What was not confirmed waits on; the user is still there, so it is tried again by backoff.
    pub(super) fn farewell(&mut self, cx: &mut Cx, key: Key, reply: Reply, answer: Bytes) {
        let Some(push) = self.live.get_mut(key) else { return };
        push.end = push.end.or(Some(End::Transient(None)));
        push.farewell = Some((reply, answer));
        match push.stage {
            Stage::Parting => {}
            // The two crossed: ours has waited already.
            Stage::Ending => self.finish(cx, key, End::Transient(None)),
            _ if push.is_written() => self.finish(cx, key, End::Transient(None)),
            _ => self.part(cx, key),
        }
    }

    /// Nothing more is sent. Who hears that a session is over may rely on it: nothing they acknowledged in it comes again. So the last
    /// word waits until that is durable.
    fn part(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        if let Some(session) = &mut push.session {
            session.abort();
        }
        if let Some(conn) = push.conn {
            cx.asks.push_back(Ask::Pump(conn));
        }
        if push.is_written() {
            return self.last_word(cx, key);
        }
        push.stage = Stage::Parting;
        push.until = cx.now.tick + LAST_WORD;
        self.touch(key);
    }

    /// The tombstones may have become durable, or be known never to.
    pub(super) fn part_if_written(&mut self, cx: &mut Cx, key: Key) {
        if self.live.get(key).is_some_and(|push| push.stage == Stage::Parting && push.is_written()) {
            self.last_word(cx, key);
        }
    }

    /// Our BYE, or the answer to theirs.
    pub(super) fn last_word(&mut self, cx: &mut Cx, key: Key) {
        match self.live.get(key) {
            Some(Push { farewell: Some(_), .. }) => self.finish(cx, key, End::Transient(None)),
            _ => self.bye(cx, key),
        }
    }

    /// Sends the BYE of an established dialog.
    pub(super) fn bye(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        push.stage = Stage::Ending;
        push.until = cx.now.tick + GOODBYE;
        //= RFC 3261 15: the callee MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx
        if push.unacked.is_some() {
            self.touch(key);
            return;
        }
        let flow = push.call.way(cx);
        let Some(dialog) = push.dialog.as_mut() else {
            self.finish(cx, key, End::GiveUp);
            return;
        };
        let octets = invite::within(cx, dialog, Method::Bye, &flow).finish();
        match cx.sip.request(cx.now.tick, Method::Bye, octets, flow) {
            Ok(txn) => {
                self.by_txn.insert(txn, (key, Role::Bye));
                self.touch(key);
            }
            Err(_) => self.finish(cx, key, End::Transient(None)),
        }
    }

    /// The push is over; what was not confirmed simply waits on.
    pub(super) fn finish(&mut self, cx: &mut Cx, key: Key, end: End) {
        self.grown_up(key);
        let Some(mut push) = self.live.remove(key) else { return };
        let end = push.end.unwrap_or(end);
        match (&push.way, end) {
            (Way::Retrieval { .. }, _) => {}
            (_, End::Completed) => cx.counts.pushes_completed += 1,
            (_, _) => cx.counts.pushes_failed += 1,
        }
        if let Some((timer, _)) = push.armed.take() {
            cx.timers.cancel(timer);
        }
        if let Some((reply, answer)) = push.farewell.take() {
            cx.respond(reply, 200, answer);
        }
        match push.way {
            Way::Push | Way::Pager => {
                self.by_user.remove(&push.user);
            }
            Way::Retrieval { .. } => {
                if let Some(keys) = self.retrievals.get_mut(&push.user) {
                    keys.retain(|&other| other != key);
                    if keys.is_empty() {
                        self.retrievals.remove(&push.user);
                    }
                }
            }
        }
        if let Some((txn, _)) = push.paged {
            self.by_txn.remove(&txn);
        }
        self.by_session.remove(&push.session_id);
        if let Some(reply) = push.revocable {
            self.by_reply.remove(&reply);
        }
        if let Some(session) = &push.session {
            push.cautious |= session.was_cautious();
            self.by_tid.remove(&session.tid_prefix());
        }
        if let Some(txn) = push.invite {
            self.by_txn.remove(&txn);
            let to_tag = push.dialog.as_ref().map_or_else(Vec::new, |dialog| dialog.remote_tag().to_vec());
            let ack = push.ack.take().unwrap_or_default();
            let (flow, request, early) = (push.call.flow, push.request.clone(), std::mem::take(&mut push.early));
            self.late.insert(txn, Late { to_tag, ack, flow, request, early });
            self.late_order.push_back((cx.now.tick + GOODBYE, txn));
        }
        self.left.push(Left {
            user: push.user,
            delivered: std::mem::take(&mut push.delivered),
            afterwards: push.afterwards,
            reason: push.way.reason(),
            refused: std::mem::take(&mut push.refused),
        });
        if let Some(conn) = push.conn {
            self.unlink(cx, key, conn);
        }
        tracing::debug!(owner = ?push.call.owner, ?end, "push ended");
        // What a user retrieves says nothing about when to ring them next.
        if matches!(push.way, Way::Retrieval { .. }) {
            return;
        }
        let paged = matches!(push.way, Way::Pager);
        self.ended.push(Ended { owner: push.call.owner, end, cautious: push.cautious, skipped: push.skipped, paged });
    }

    /// True when [`Pushes::settle`] has nothing to look at.
    pub fn is_settled(&self) -> bool {
        self.touched.is_empty() && self.ended.is_empty() && self.left.is_empty()
    }

    /// The pushes that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Says good-bye to everybody (SIGTERM). A session under way takes the answers that are under way along: what they
    /// acknowledge would else be sent again after every restart.
    pub fn stop(&mut self, cx: &mut Cx) {
        let keys: Vec<Key> = self.live.iter().map(|(key, _)| key).collect();
        for key in keys {
            match self.live.get_mut(key) {
                Some(Push { stage: Stage::Sending, session: Some(session), leaving, until, .. })
                    if !session.is_idle() =>
                {
                    session.hush();
                    *leaving = true;
                    *until = cx.now.tick + LAST_ANSWERS;
                    self.touch(key);
                }
                _ => self.hang_up(cx, key, End::Transient(None)),
            }
        }
    }
}
