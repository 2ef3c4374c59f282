//! When a subscriber is told something: after every change, at most once a second, one NOTIFY at a time.

use super::{Live, Over, Owed, Subscribed, Summaries, What, digest, kept};
use crate::base::arena::Key;
use crate::base::clock::Tick;
use crate::base::net::Flow;
use crate::deferred::cx::{Commit, Cx, Reader, Timer};
use crate::deferred::identity::Address;
use crate::deferred::presence::Presences;
use crate::deferred::users::Users;
use crate::deferred::{invite, outcome};
use crate::proto::sip::endpoint::{ClientKey, Failure};
use crate::proto::sip::subscription::{self, State};
use crate::store::directory::UserId;
use crate::store::loader::{LoadDone, Loaded};
use crate::store::record::{Flags, Locator, Stamp};
use crate::wire::sip::fields;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use crate::wire::summary;
use std::time::Duration;

/// Between two NOTIFYs of one subscription.
///
//= RFC 3842 3.11: notifiers SHOULD NOT generate NOTIFY requests more frequently than once per second
const LEAST: Duration = Duration::from_secs(1);

/// What the log, the network or the transaction layer does not take now is offered again after this.
pub(super) const AGAIN: Duration = Duration::from_secs(30);

/// Header groups of one NOTIFY: a screenful. Of more messages only the latest are told, all of them are counted.
const GROUPS_MAX: usize = 20;

impl Summaries {
    /// A message came for a user who is subscribed to.
    pub fn came(&mut self, user: UserId, stamp: Stamp) {
        for key in self.by_user.get(&user).cloned().unwrap_or_default() {
            if let Some(live) = self.live.get_mut(key) {
                if live.fresh.len() == GROUPS_MAX {
                    live.fresh.pop_front();
                }
                live.fresh.push_back(stamp);
            }
        }
        self.changed(user);
    }

    /// Something became of a user's messages.
    pub fn changed(&mut self, user: UserId) {
        if self.by_user.is_empty() {
            return;
        }
        for key in self.by_user.get(&user).cloned().unwrap_or_default() {
            if let Some(live) = self.live.get_mut(key) {
                live.owed = live.owed.max(Owed::Change);
                self.touch(key);
            }
        }
    }

    /// A way to a user may have opened: who waits for one is looked at.
    pub fn reached(&mut self, cx: &Cx, owner: &Address) {
        let user = cx.directory.find(owner);
        for key in user.and_then(|user| self.by_user.get(&user)).cloned().unwrap_or_default() {
            if let Some(live) = self.live.get_mut(key)
                && live.flow.is_none()
            {
                live.hold = live.hold.min(cx.now.tick);
                self.touch(key);
            }
        }
    }

    /// The timer of a subscription fired.
    pub fn timer(&mut self, key: Key) {
        if let Some(live) = self.live.get_mut(key) {
            live.armed = None;
            self.touch(key);
        }
    }

    /// Looks at everything that changed, and tells what is due.
    pub fn settle(&mut self, cx: &mut Cx, users: &mut Users, presences: &Presences) {
        while let Some(key) = self.touched.pop() {
            if let Some(live) = self.live.get_mut(key) {
                live.touched = false;
                // Subscriptions outlive the daemon: whoever is still owed something hears of it from the next.
                if !cx.stopping {
                    self.look(cx, users, presences, key);
                }
            }
        }
    }

    fn look(&mut self, cx: &mut Cx, users: &mut Users, presences: &Presences, key: Key) {
        let Some(live) = self.live.get_mut(key) else { return };
        if live.over == Some(Over::Silent) {
            return self.remove(cx, users, key);
        }
        if live.is_waiting() {
            return;
        }
        if live.over.is_none() && live.until <= cx.now.wall {
            //= RFC 6665 4.2.2: the subscription's time is over: "terminated" with the reason "timeout"
            live.over = Some(Over::Say(subscription::Reason::Timeout));
        }
        if live.over.is_some() && live.kept && !live.closed && live.close(cx, key) {
            return;
        }
        if live.over.is_none() {
            if live.owed == Owed::Change && live.fresh.is_empty() && live.said == Some(users.tally(live.user)) {
                live.owed = Owed::Nothing;
            }
            if live.owed == Owed::Nothing || live.may_send_at() > cx.now.tick {
                return live.arm(cx, key);
            }
        }
        let way = live.flow.or_else(|| presences.flow_of(&live.owner));
        let Some(flow) = cx.flow_to(way) else {
            if live.over.is_some() {
                return self.remove(cx, users, key);
            }
            live.hold = cx.now.tick + AGAIN;
            return live.arm(cx, key);
        };
        if live.over.is_none() && live.numbers == 0 {
            return self.renew(cx, key);
        }
        let chosen = !cx.policy.summary.headers.is_empty();
        let headers = chosen && live.over.is_none() && live.owed == Owed::Change && !live.fresh.is_empty();
        let wanted: Vec<Locator> = match headers {
            true => live.fresh.iter().filter_map(|stamp| came(users, live.user, *stamp)).collect(),
            false => Vec::new(),
        };
        if wanted.is_empty() {
            return self.send(cx, users, key, &flow, &[]);
        }
        live.reading = Some(std::mem::take(&mut live.fresh));
        let mut ops = Vec::new();
        let at_once = cx.loader.load_owned(Reader::Summary(key).to_u64(), &live.owner, &wanted, &mut ops);
        cx.disk.extend(ops);
        if let Some(LoadDone { records, .. }) = at_once {
            self.read(cx, users, key, &flow, records);
        }
    }

    /// One that a start found, or whose numbers are used up, is written anew before it says anything: no number comes twice.
    fn renew(&mut self, cx: &mut Cx, key: Key) {
        let Some(live) = self.live.get_mut(key) else { return };
        match live.keep(cx) {
            Ok((seq, state)) => {
                live.committing += 1;
                let renewed = Subscribed { answer: None, state, what: What::Renewed(key) };
                cx.commit(seq, Commit::Subscribe(Box::new(renewed)));
            }
            Err(_) => {
                live.hold = cx.now.tick + AGAIN;
                live.arm(cx, key);
            }
        }
    }

    /// The disk gave the messages that came.
    pub fn loaded(&mut self, cx: &mut Cx, users: &mut Users, key: Key, records: Vec<Loaded>) {
        let Some(live) = self.live.get(key) else { return };
        match cx.flow_to(live.flow) {
            Some(flow) if !cx.stopping => self.read(cx, users, key, &flow, records),
            _ => {
                self.unread(key);
                self.touch(key);
            }
        }
    }

    fn read(&mut self, cx: &mut Cx, users: &mut Users, key: Key, flow: &Flow, records: Vec<Loaded>) {
        let Some(live) = self.live.get_mut(key) else { return };
        if live.over.is_some() || live.owed == Owed::Whole || live.committing > 0 {
            // It ended, or is refreshed: there is something else to say now.
            self.unread(key);
            return self.touch(key);
        }
        let policy = &cx.policy;
        // What cannot be read is counted all the same.
        let records = records.into_iter().filter_map(|loaded| loaded.outcome.ok());
        let groups: Vec<Vec<u8>> = records.filter_map(|record| digest::group(policy, &record)).collect();
        self.send(cx, users, key, flow, &groups);
    }

    /// What was being read is still to be told.
    fn unread(&mut self, key: Key) {
        let Some(live) = self.live.get_mut(key) else { return };
        let mut before = live.reading.take().unwrap_or_default();
        before.append(&mut live.fresh);
        while before.len() > GROUPS_MAX {
            before.pop_front();
        }
        live.fresh = before;
    }

    //= RFC 3842 3.8: the synchronization NOTIFY MUST NOT include the optional message headers
    //= RFC 3842 3.5: message headers in subsequent notifications MUST only correspond to messages added since the previous one
    fn send(&mut self, cx: &mut Cx, users: &mut Users, key: Key, flow: &Flow, groups: &[Vec<u8>]) {
        let Some(live) = self.live.get_mut(key) else { return };
        live.numbers = live.numbers.saturating_sub(1);
        let tally = users.tally(live.user);
        let body = digest::body(&cx.policy, &live.owner, tally, groups);
        let state = match live.over {
            Some(Over::Say(reason)) => State::Terminated(reason),
            _ => State::Active { expires_s: kept::left_s(cx, live.until) },
        };
        let (via, contact) = (invite::via(cx, flow), kept::contact(cx, flow, &live.owner, live.id));
        let notify = live
            .subscription
            .notify(state)
            .line(Name::Via, &via)
            .line(Name::Contact, &contact)
            .line(Name::UserAgent, &cx.product)
            .body(summary::MEDIA_TYPE, &body);
        match cx.sip.request(cx.now.tick, Method::Notify, notify.finish(), *flow) {
            Ok(txn) => {
                if live.over.is_some() {
                    // Its answer changes nothing.
                    return self.remove(cx, users, key);
                }
                // What came while others were read is still to be told; else it was before this NOTIFY.
                if live.reading.take().is_none() {
                    live.fresh.clear();
                }
                (live.outstanding, live.sent_at) = (Some(txn), Some(cx.now.tick));
                live.said = Some(tally);
                live.owed = if live.fresh.is_empty() { Owed::Nothing } else { Owed::Change };
                self.by_txn.insert(txn, key);
                live.arm(cx, key);
            }
            Err(_) => {
                cx.counts.overloads += 1;
                if live.over.is_some() {
                    return self.remove(cx, users, key);
                }
                live.hold = cx.now.tick + LEAST;
                self.unread(key);
                self.touch(key);
            }
        }
    }

    /// A response to a NOTIFY; false when it is to none of these.
    pub fn response(&mut self, cx: &mut Cx, txn: ClientKey, message: &Message) -> bool {
        let Some(&key) = self.by_txn.get(&txn) else { return false };
        let status = message.status();
        if status < 200 {
            return true;
        }
        self.by_txn.remove(&txn);
        let Some(live) = self.live.get_mut(key) else { return true };
        live.outstanding = None;
        //= RFC 6665 4.2.2: a NOTIFY that draws one of these ends the subscription; others leave it
        if subscription::is_ended_by(status) {
            self.lose(cx, key);
        } else if status >= 300 {
            let retry_after = message.header(Name::RetryAfter).and_then(fields::retry_after);
            live.failed(cx, retry_after.map(|seconds| Duration::from_secs(seconds.into())));
        } else {
            cx.counts.summaries += 1;
            live.failures = 0;
        }
        self.touch(key);
        true
    }

    /// A NOTIFY got no answer, or could not be sent; false when it is none of these.
    pub fn no_response(&mut self, cx: &mut Cx, txn: ClientKey, failure: Failure) -> bool {
        let Some(key) = self.by_txn.remove(&txn) else { return false };
        let Some(live) = self.live.get_mut(key) else { return true };
        live.outstanding = None;
        match failure {
            //= RFC 6665 4.2.2: a NOTIFY that fails by Timer F: the notifier SHOULD remove the subscription
            Failure::Timeout => self.lose(cx, key),
            // A connection is no subscriber: where another way leads there, or the subscriber comes again, it goes on.
            Failure::Transport => {
                live.flow = live.flow.filter(|flow| matches!(flow, Flow::Datagram { .. }));
                live.failed(cx, None);
            }
        }
        self.touch(key);
        true
    }

    fn lose(&mut self, cx: &mut Cx, key: Key) {
        cx.counts.subscriptions_lost += 1;
        if let Some(live) = self.live.get(key) {
            tracing::debug!(owner = ?live.owner, "a NOTIFY failed: its subscription is over");
        }
        self.end(key, Over::Silent);
    }
}

impl Live {
    /// Something is under way, after whose end it is looked at again.
    fn is_waiting(&self) -> bool {
        self.outstanding.is_some() || self.reading.is_some() || self.committing > 0
    }

    /// The next NOTIFY's time.
    fn may_send_at(&self) -> Tick {
        self.hold.max(self.sent_at.map_or(Tick(0), |sent| sent + LEAST))
    }

    /// Nobody knows whether what was said was heard: it is said again, without what it said of single messages.
    fn failed(&mut self, cx: &Cx, retry_after: Option<Duration>) {
        (self.said, self.owed) = (None, Owed::Whole);
        match outcome::backoff(self.failures, retry_after) {
            Some(after) => self.hold = cx.now.tick + after,
            None => self.owed = Owed::Nothing,
        }
        self.failures += 1;
    }

    /// Sets the timer to the earliest of what it waits for. One that fires early does no harm.
    fn arm(&mut self, cx: &mut Cx, key: Key) {
        let due = if self.owed == Owed::Nothing { Tick::NEVER } else { self.may_send_at() };
        let at = due.min(self.ends_at(cx));
        match self.armed {
            Some((_, armed)) if armed <= at => return,
            Some((timer, _)) => _ = cx.timers.cancel(timer),
            None => {}
        }
        self.armed = Some((cx.timer_at(at, Timer::Summary(key)), at));
    }
}

/// A message that came, when it is still there and new.
fn came(users: &Users, user: UserId, stamp: Stamp) -> Option<Locator> {
    let found = users.queue(user)?.at(stamp)?;
    users.now(user, found).filter(|now| !now.flags().has(Flags::RETAINED))
}
