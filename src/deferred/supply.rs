//! Which messages a session is to have next, and asking the disk for them: those of a push in order, those of a retrieval as chosen.

use super::cx::{Ask, Cx, Reader};
use super::push::{Pushes, Stage, Way};
use super::users::Users;
use crate::base::arena::Key;
use crate::base::net::ConnId;
use crate::store::record::Locator;

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
            Way::Push => {
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
}
