//! A session that leaves its path for another: the client's address or session changed under it (RFC 4975 5.4, 8.4).
//!
//! What was confirmed stays confirmed; what was not is sent again over the new path, from its first octet, under the same
//! Message-ID, so that a client which has it may drop it.

use super::cx::Cx;
use super::push::{Idle, Pushes, Way};
use super::respond::Refusal;
use crate::base::arena::Key;
use crate::proto::sip::offer::{Answer, Offer, Setup};
use bytes::Bytes;

impl Pushes {
    /// The client offers another path: it is answered with one of ours that nothing on the old connection knows.
    pub(super) fn accept_path(&mut self, cx: &mut Cx, key: Key, offered: Answer, sdp: &[u8]) -> Result<(), Refusal> {
        let Some(push) = self.live.get_mut(key) else { return Err(Refusal::of(481)) };
        // RFC 4975 14.1: at least 80 bits of randomness in the session-id.
        let id = cx.dice.hex::<20>();
        let path = Offer::path(&push.offer.host, push.offer.port, &id);
        let mut ours = Offer { path, ..push.offer.clone() };
        let setup = if offered.connect_to.is_some() { Setup::Active } else { Setup::Passive };
        push.call.sdp = ours.write_next_answer(sdp, setup, &push.call.sdp).map_err(|_| Refusal::of(400))?;
        push.offer = ours;
        let id = Bytes::copy_from_slice(&id);
        let old = std::mem::replace(&mut push.session_id, id.clone());
        self.by_session.remove(&old);
        self.by_session.insert(id, key);
        self.move_to(cx, key, offered);
        Ok(())
    }

    /// Leaves the connection as it is and begins anew with what the client said last.
    pub(super) fn move_to(&mut self, cx: &mut Cx, key: Key, to: Answer) {
        let Some(push) = self.live.get_mut(key) else { return };
        let is_rcs = push.choice.is_rcs();
        if let Some(session) = push.session.take() {
            push.cautious |= session.was_cautious();
            self.by_tid.remove(&session.tid_prefix());
        }
        //= RFC 4975 5.4: after a new exchange, what was not confirmed is sent again whole, with its Message-ID
        let unconfirmed = push.in_flight.give_back();
        match &mut push.way {
            Way::Push | Way::Pager => {
                push.cursor = unconfirmed.iter().map(|back| back.stamp()).fold(push.cursor, std::cmp::min)
            }
            Way::Retrieval { wanted } => unconfirmed.into_iter().rev().for_each(|back| wanted.push_front(back)),
        }
        (push.idle, push.bound_early) = (Idle::No, false);
        if let Some(conn) = push.conn.take() {
            self.unlink(cx, key, conn);
        }
        let direction = to.direction;
        self.begin_session(cx, key, to, is_rcs);
        self.direct(key, direction);
    }
}
