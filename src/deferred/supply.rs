//! Which messages a session is to have next, asking the disk for them, and handing them over in the form the client takes: those of
//! a push in order, those of a retrieval as chosen.

use super::cx::{Ask, Cx, Reader};
use super::feed;
use super::payload::Form;
use super::policy::Expired;
use super::push::{Push, Pushes, Stage, Way};
use super::refusals::Refusal;
use super::rewrap::{self, Dressed};
use super::users::Users;
use crate::base::arena::Key;
use crate::base::net::ConnId;
use crate::proto::msrp::session::Outgoing;
use crate::store::loader::{Damage, Loaded};
use crate::store::record::{Flags, Locator};
use std::collections::VecDeque;

/// Octets asked of the disk at one time for one push. Two of these keep a socket of 256 KiB busy while the next is read.
const LOAD_OCTETS: u64 = 256 * 1024;

/// Messages asked of the disk at one time for one push: what one gather can hold (1,024 pieces, two for each message).
const LOAD_MESSAGES: usize = 256;

impl Pushes {
    /// Has the push looked at when its connection can take octets.
    pub(super) fn feed(&mut self, cx: &mut Cx, key: Key) {
        if let Some(push) = self.live.get(key)
            && push.stage == Stage::Sending
            && let Some(conn) = push.conn
        {
            cx.asks.push_back(Ask::Pump(conn));
        }
    }

    /// Keeps the sessions of a connection supplied before they are asked to fill it. `busy`: a send is under way.
    pub fn supply(&mut self, cx: &mut Cx, users: &Users, conn: ConnId, busy: bool) {
        let count = self.links.get(&conn).map_or(0, |link| link.sessions.len());
        for at in 0..count {
            let Some(&key) = self.links.get(&conn).and_then(|link| link.sessions.get(at)) else { break };
            self.load_next(cx, users, key, busy);
            self.feed_parts(cx, key);
        }
    }

    /// Asks the disk for the next messages of a session while it can use them.
    fn load_next(&mut self, cx: &mut Cx, users: &Users, key: Key, busy: bool) {
        let Some(push) = self.live.get_mut(key) else { return };
        let Some(session) = &push.session else { return };
        if push.stage != Stage::Sending || push.loading {
            return;
        }
        // What the disk lends at once is taken when it can be sent: what lies about meanwhile leaves the processor's cache.
        // What has to be waited for is asked for while the last is being sent.
        let wants = match push.prompt {
            true if busy => 0,
            true => session.room(),
            false => session.wants(),
        };
        let wants = wants.min(LOAD_MESSAGES);
        if wants == 0 {
            return;
        }
        let (batch, elsewhere) = self.next_batch(users, key, wants);
        let Some(push) = self.live.get_mut(key) else { return };
        if let Way::Retrieval { wanted, .. } = &mut push.way {
            wanted.drain(..batch.len() + elsewhere.len());
        }
        for locator in batch.iter().chain(&elsewhere) {
            push.reached = push.reached.max(locator.stamp());
        }
        push.skipped.extend(elsewhere.iter().map(Locator::place));
        if batch.is_empty() {
            // What is with another session may have been all.
            if !elsewhere.is_empty() {
                self.touch(key);
            }
            return;
        }
        push.cursor = batch.last().map_or(push.cursor, Locator::stamp);
        push.loading_from = push.in_flight.next();
        for locator in &batch {
            push.in_flight.begin(*locator);
        }
        push.loading = true;
        let mut ops = Vec::new();
        let at_once = cx.loader.load_owned(Reader::Push(key).to_u64(), &push.call.owner, &batch, &mut ops);
        cx.disk.extend(ops);
        push.prompt = at_once.is_some();
        if let Some(done) = at_once {
            self.loaded(cx, key, done.records);
        }
    }

    /// The next messages of a session to be read, and those among them that another session of the same user has, or that are
    /// gone: they are passed over.
    fn next_batch(&self, users: &Users, key: Key, wants: usize) -> (Vec<Locator>, Vec<Locator>) {
        let (mut batch, mut elsewhere) = (Vec::with_capacity(wants), Vec::new());
        let Some(push) = self.live.get(key) else { return (batch, elsewhere) };
        let others: Vec<Key> = match self.retrievals.is_empty() {
            true => Vec::new(),
            false => self.sessions(push.user).filter(|&other| other != key).collect(),
        };
        let is_elsewhere = |locator: &Locator| {
            let mut others = others.iter().filter_map(|&other| self.live.get(other));
            others.any(|other| other.has_in_hand(locator.place()))
        };
        let mut octets = 0;
        let mut take = |locator: Locator, is_there: bool| {
            if !is_there || !others.is_empty() && is_elsewhere(&locator) {
                elsewhere.push(locator);
                return true;
            }
            octets += locator.octets();
            if batch.len() == wants || !batch.is_empty() && octets > LOAD_OCTETS {
                return false;
            }
            batch.push(locator);
            true
        };
        match &push.way {
            Way::Push | Way::Pager => {
                let mut new = users.new_from(push.user, push.cursor).filter(|locator| !push.has_taken(locator));
                new.all(|locator| take(locator, true));
            }
            Way::Retrieval { wanted, .. } => {
                // They may have been copied forward since they were chosen.
                wanted.iter().all(|locator| match users.now(push.user, locator) {
                    Some(now) => take(now, true),
                    None => take(*locator, false),
                });
            }
        }
        (batch, elsewhere)
    }

    /// The disk gave what was asked for.
    pub fn loaded(&mut self, cx: &mut Cx, key: Key, records: Vec<Loaded>) {
        let Some(push) = self.live.get_mut(key) else { return };
        push.loading = false;
        if push.stage == Stage::Paging {
            return self.page_loaded(cx, key, records);
        }
        for (token, loaded) in (push.loading_from..).zip(records) {
            if !push.is_sound(cx, token, &loaded) {
                continue;
            }
            let Loaded { locator, outcome: Ok(record) } = loaded else { continue };
            let over = u64::from(locator.expiry_s()) <= cx.now.wall.seconds();
            let marks = over && cx.policy.expired == Expired::DeliverMarked;
            let message_id = *record.id.as_bytes();
            // Of a large message only what stands before its parts is here; they follow while it is sent.
            let parts = if locator.flags().has(Flags::LARGE) { record.parts().collect() } else { VecDeque::new() };
            let dressed = match rewrap::dress(&push.choice, record, locator.flags(), marks) {
                Ok(dressed) => dressed,
                Err(unfit) => {
                    cx.counts.unfit += 1;
                    push.in_flight.end(token);
                    push.skipped.insert(locator.place());
                    push.refused.push((locator.place(), Refusal::Unfit(unfit)));
                    continue;
                }
            };
            let Dressed { page, content_type, body, more, tail, has_dash7, form, copied } = dressed;
            if more > 0 {
                push.feeds.begin(token, parts, tail);
            }
            if copied > 0 {
                cx.counts.push_octets_copied += copied as u64;
            }
            if form != Form::Wrapped {
                cx.counts.rewrapped += 1;
                cx.counts.rewrapped_octets += copied as u64;
                push.in_flight.takes_form(token, form);
            }
            if let Some(session) = &mut push.session {
                // Most bodies are text; in others a border moves by three octets at most, which does no harm.
                session.offer(Outgoing { token, message_id, content_type, body, more, has_dash7, text: true, page });
            }
        }
        self.touch(key);
    }
}

impl Push {
    /// True when a record was loaded, is what was accepted for this user, and is still wanted; what is wrong with it is noted.
    pub(super) fn is_sound(&mut self, cx: &mut Cx, token: u64, loaded: &Loaded) -> bool {
        // Withdrawn meanwhile.
        if !self.in_flight.has(token) {
            return false;
        }
        let damage = match &loaded.outcome {
            Ok(record)
                if record.owner.of(&record.page) == &self.call.owner[..] && feed::is_sound(record, &loaded.locator) =>
            {
                return true;
            }
            other => other.as_ref().err(),
        };
        let place = loaded.locator.place();
        self.in_flight.end(token);
        self.skipped.insert(place);
        if let Some(Damage::Unreadable(errno)) = damage {
            // The disk may give it next time: not in this session, and nothing is held against the message.
            tracing::error!(owner = ?self.call.owner, ?place, errno, "a stored message cannot be read now");
            return false;
        }
        // Never pushed: it does not hold what was accepted, or is not this user's. It stays for an operator.
        cx.counts.damaged += 1;
        tracing::error!(owner = ?self.call.owner, ?place, ?damage, "a stored message is damaged");
        self.refused.push((place, Refusal::Damaged));
        false
    }

    /// The client answered 415: it is sent the message, and what comes after it, in another form. False when it takes no other; the
    /// message is then counted against, so that one that nobody can read does not stand before all others for ever.
    pub(super) fn changes_form(&mut self, token: u64) -> bool {
        let form = self.in_flight.form(token).unwrap_or_default();
        let Some(refused) = self.in_flight.end(token) else { return true };
        let others = self.choice.strike(form);
        tracing::info!(owner = ?self.call.owner, ?form, others, "the client refused a form of message");
        if !others {
            self.skipped.insert(refused.place());
            self.refused.push((refused.place(), Refusal::Unintelligible));
            return false;
        }
        // What has not begun to go out waits behind it and takes the new form too.
        let mut again = vec![refused];
        let begun = self.session.as_mut().map(|session| session.recall()).unwrap_or_default();
        again.extend(begun.into_iter().filter_map(|token| self.in_flight.end(token)));
        if self.loading {
            again.extend((self.loading_from..self.in_flight.next()).filter_map(|token| self.in_flight.end(token)));
        }
        match &mut self.way {
            Way::Retrieval { wanted, .. } => again.into_iter().rev().for_each(|locator| wanted.push_front(locator)),
            Way::Push | Way::Pager => again.iter().for_each(|locator| self.cursor = self.cursor.min(locator.stamp())),
        }
        true
    }
}
