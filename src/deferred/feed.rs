//! Large messages on their way out: what stands before the parts is at hand, the parts are read while they are sent, what stands
//! behind them comes last. Never more of them in memory than a session has ready.

use super::cx::{Cx, Reader};
use super::large::wrap;
use super::push::{Push, Pushes, Stage};
use super::refusals::Refusal;
use crate::base::arena::Key;
use crate::store::loader::{Damage, Loaded, Record};
use crate::store::record::{Flags, Locator};
use bytes::Bytes;
use std::collections::VecDeque;

/// Octets of parts asked of the disk at one time for one push.
const LOAD_OCTETS: usize = 256 * 1024;

/// One message.
#[derive(Debug)]
struct Feed {
    token: u64,
    parts: VecDeque<Locator>,
    /// Being read.
    asked: Vec<Locator>,
    /// What stands behind them.
    tail: Bytes,
}

/// The large messages that a session has taken and not sent whole.
#[derive(Default, Debug)]
pub(super) struct Feeds {
    list: Vec<Feed>,
}

/// True for a record that has what its flags say.
pub(super) fn is_sound(record: &Record, locator: &Locator) -> bool {
    !locator.flags().has(Flags::LARGE) || wrap::prefix_of(record).is_some()
}

impl Feeds {
    /// A message whose first octets are at hand: these parts follow, and then `tail`.
    pub(super) fn begin(&mut self, token: u64, parts: VecDeque<Locator>, tail: Bytes) {
        self.list.push(Feed { token, parts, asked: Vec::new(), tail });
    }
}

fn len_of(part: &Locator) -> usize {
    part.window().map_or(0, |(_, len)| len)
}

impl Pushes {
    /// Has the next parts read of the large message that a session is sending.
    pub(super) fn feed_parts(&mut self, cx: &mut Cx, key: Key) {
        loop {
            let Some(push) = self.live.get_mut(key).filter(|push| push.stage == Stage::Sending) else { return };
            let Push { feeds, in_flight, session: Some(session), call, .. } = push else { return };
            feeds.list.retain(|feed| in_flight.has(feed.token));
            let Some((token, wants)) = session.hungry() else { return };
            let Some(feed) = feeds.list.iter_mut().find(|feed| feed.token == token) else { return };
            if !feed.asked.is_empty() {
                return;
            }
            let mut octets = 0;
            while let Some(next) = feed.parts.front()
                && (octets == 0 || octets + len_of(next) <= wants.min(LOAD_OCTETS))
            {
                octets += len_of(next);
                feed.asked.extend(feed.parts.pop_front());
            }
            if feed.asked.is_empty() {
                session.supply(token, std::mem::take(&mut feed.tail));
                feeds.list.retain(|feed| feed.token != token);
                continue;
            }
            let mut ops = Vec::new();
            let at_once = cx.loader.load_owned(Reader::Feed(key).to_u64(), &call.owner, &feed.asked, &mut ops);
            cx.disk.extend(ops);
            let Some(done) = at_once else { return };
            self.fed(cx, key, done.records);
        }
    }

    /// The disk gave parts of a large message, or not: then the session goes on without it.
    pub fn fed(&mut self, cx: &mut Cx, key: Key, records: Vec<Loaded>) {
        let Some(push) = self.live.get_mut(key) else { return };
        let Push { feeds, in_flight, session: Some(session), .. } = push else { return };
        let asked = |feed: &&mut Feed| feed.asked.iter().eq(records.iter().map(|loaded| &loaded.locator));
        // Its message may have been withdrawn meanwhile.
        let Some(feed) = feeds.list.iter_mut().find(asked) else { return };
        let token = feed.token;
        feed.asked.clear();
        if !in_flight.has(token) {
            // Withdrawn while they were read: they may be gone already, and nobody misses them.
            feeds.list.retain(|feed| feed.token != token);
            return;
        }
        for Loaded { locator, outcome } in records {
            let octets = outcome.and_then(|record| {
                let (skip, len) = locator.window().unwrap_or((0, record.body.len()));
                let at = record.body.at() + skip;
                let whole = skip + len <= record.body.len();
                if whole { Ok(record.page.slice(at..at + len)) } else { Err(Damage::Body) }
            });
            match octets {
                Ok(octets) => session.supply(token, octets),
                Err(damage) => {
                    feeds.list.retain(|feed| feed.token != token);
                    session.withdraw(token);
                    let place = in_flight.end(token).map(|message| message.place());
                    push.skipped.extend(place);
                    tracing::error!(owner = ?push.call.owner, ?place, ?damage, "a part of a stored message cannot be read");
                    if !matches!(damage, Damage::Unreadable(_)) {
                        cx.counts.damaged += 1;
                        push.refused.extend(place.map(|place| (place, Refusal::Damaged)));
                    }
                    break;
                }
            }
        }
        self.touch(key);
    }
}
