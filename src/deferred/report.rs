//! Delivery Report for deleted Messages (12.2.2.6): what is owed to senders is sent, once each, paced, and tried again.
//!
//! A report is durable from the moment it is owed until somebody took it or it was given up. It goes to the home of whom it is
//! for, so that one destination is never asked twice at a time, whoever deleted. What it says is in [`super::owed`].

use super::cx::{Cx, Timer};
use super::invite;
pub use super::owed::{Owed, Recorded};
use super::presence::Presences;
use crate::base::arena::{Arena, Key};
use crate::base::clock::Tick;
use crate::base::net::Flow;
use crate::base::spread::SpreadMap;
use crate::base::timers::TimerKey;
use crate::proto::sip::endpoint::ClientKey;
use crate::wire::sip::names::{Method, Name};
use crate::wire::sip::write::Request;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Reports kept in the memory of one core: about 1 KiB each, 16 MiB. Beyond it a message goes without one, which is counted.
pub const REPORTS_MAX: usize = 16_384;

/// Requests of reports under way at one time on one core: a thousandth of the transactions there may be.
const UNDER_WAY_MAX: usize = 64;

/// When a report that could not be delivered is tried again. After the last it is given up.
const AGAIN: [Duration; 3] = [Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// What an answer to a report means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Somebody has it.
    Done,
    /// Another time, perhaps.
    Later,
    /// Never.
    Never,
}

fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Done,
        408 | 480 | 486 | 500..=599 => Verdict::Later,
        _ => Verdict::Never,
    }
}

#[derive(Debug)]
struct Pending {
    owed: Owed,
    attempts: usize,
    /// When it may be sent; [`Tick::NEVER`] while it is under way or behind another.
    due: Tick,
}

/// The reports of one core.
///
/// ```text
///   owed ──first of its destination──▶ due ──▶ under way ──2xx, refused, given up──▶ gone, and the record says so
///                                       ▲          └── 480, 5xx, silence, no way there ──┐
///                                       └───────────── 30 s, 2 min, 10 min ◀─────────────┘
/// ```
#[derive(Default)]
pub struct Reports {
    live: Arena<Pending>,
    /// By destination, in order; the first is due or under way.
    waiting: SpreadMap<Box<[u8]>, VecDeque<Key>>,
    by_txn: SpreadMap<ClientKey, Key>,
    due: BTreeSet<(Tick, u64)>,
    armed: Option<(TimerKey, Tick)>,
}

impl Reports {
    /// How many are owed.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// True when no more can be kept: what is deleted now owes nothing.
    pub fn is_full(&self) -> bool {
        self.live.len() >= REPORTS_MAX
    }

    /// A report is durable: from now on it is to be sent.
    ///
    //= RFC 3428 8: a UAC MUST NOT initiate a new MESSAGE to a URI while one is outstanding
    pub fn owe(&mut self, cx: &mut Cx, recorded: Recorded) {
        let Recorded { owed, extent } = recorded;
        // Whoever sends it looks after its record: it is copied forward here, and ended.
        cx.states.adopt(owed.state(), extent, owed.stamp);
        let target: Box<[u8]> = owed.to.as_bytes().into();
        let key = self.live.insert(Pending { owed, attempts: 0, due: Tick::NEVER });
        let queue = self.waiting.entry(target).or_default();
        queue.push_back(key);
        if queue.len() == 1 {
            self.set_due(cx, key, cx.now.tick);
        }
    }

    fn set_due(&mut self, cx: &mut Cx, key: Key, at: Tick) {
        let Some(pending) = self.live.get_mut(key) else { return };
        pending.due = at;
        self.due.insert((at, key.to_u64()));
        self.arm(cx);
    }

    /// One timer, for the first that is due.
    fn arm(&mut self, cx: &mut Cx) {
        let Some(&(first, _)) = self.due.first().filter(|_| self.by_txn.len() < UNDER_WAY_MAX) else { return };
        match self.armed {
            Some((_, at)) if at <= first => return,
            Some((timer, _)) => {
                cx.timers.cancel(timer);
            }
            None => {}
        }
        self.armed = Some((cx.timer_at(first, Timer::Report), first));
    }

    /// Sends what is due.
    pub fn turn(&mut self, cx: &mut Cx, presences: &Presences) {
        if let Some((timer, _)) = self.armed.take() {
            cx.timers.cancel(timer);
        }
        while self.by_txn.len() < UNDER_WAY_MAX && !cx.stopping {
            let Some(&(at, raw)) = self.due.first().filter(|(at, _)| *at <= cx.now.tick) else { break };
            self.due.remove(&(at, raw));
            self.send(cx, presences, Key::from_u64(raw));
        }
        if !cx.stopping {
            self.arm(cx);
        }
    }

    //= 12.2.2.6-2: shall use SIP MESSAGE to send a Failure Delivery Report to the original sender
    fn send(&mut self, cx: &mut Cx, presences: &Presences, key: Key) {
        let Some(pending) = self.live.get_mut(key) else { return };
        pending.due = Tick::NEVER;
        let is_over = pending.owed.read().is_none_or(|parts| parts.until_s <= cx.now.wall.seconds());
        if is_over {
            return self.finish(cx, key, false);
        }
        let Some(flow) = cx.flow_to(presences.flow_of(&pending.owed.to)) else { return self.later(cx, key) };
        let Some(octets) = request(cx, &pending.owed, &flow) else { return self.finish(cx, key, false) };
        match cx.sip.request(cx.now.tick, Method::Message, octets, flow) {
            Ok(txn) => {
                self.by_txn.insert(txn, key);
            }
            Err(_) => {
                cx.counts.overloads += 1;
                self.later(cx, key);
            }
        }
    }

    fn later(&mut self, cx: &mut Cx, key: Key) {
        let Some(pending) = self.live.get_mut(key) else { return };
        match AGAIN.get(pending.attempts) {
            Some(&after) => {
                pending.attempts += 1;
                self.set_due(cx, key, cx.now.tick + after);
            }
            None => self.finish(cx, key, false),
        }
    }

    /// A final response to a request of ours; false when it is about none of these.
    pub fn response(&mut self, cx: &mut Cx, txn: ClientKey, status: u16) -> bool {
        if !self.by_txn.contains_key(&txn) {
            return false;
        }
        if status >= 200 {
            self.answered(cx, txn, verdict(status));
        }
        true
    }

    /// A request of ours got no answer; false when it is none of these.
    pub fn no_response(&mut self, cx: &mut Cx, txn: ClientKey) -> bool {
        let ours = self.by_txn.contains_key(&txn);
        if ours {
            self.answered(cx, txn, Verdict::Later);
        }
        ours
    }

    fn answered(&mut self, cx: &mut Cx, txn: ClientKey, verdict: Verdict) {
        let Some(key) = self.by_txn.remove(&txn) else { return };
        match verdict {
            Verdict::Done => self.finish(cx, key, true),
            Verdict::Later => self.later(cx, key),
            Verdict::Never => self.finish(cx, key, false),
        }
        // There is room for another.
        self.arm(cx);
    }

    /// It is taken, or given up: nobody sends it again.
    fn finish(&mut self, cx: &mut Cx, key: Key, sent: bool) {
        let Some(pending) = self.live.remove(key) else { return };
        if sent {
            cx.counts.reports_sent += 1;
        } else {
            cx.counts.reports_given_up += 1;
            tracing::info!(to = ?pending.owed.to, attempts = pending.attempts, "a delivery report is given up");
        }
        cx.end_state(&pending.owed.state());
        let Some(queue) = self.waiting.get_mut(pending.owed.to.as_bytes()) else { return };
        queue.pop_front();
        match queue.front().copied() {
            Some(next) => self.set_due(cx, next, cx.now.tick),
            None => {
                self.waiting.remove(pending.owed.to.as_bytes());
            }
        }
    }
}

/// The SIP MESSAGE that carries a report.
fn request(cx: &mut Cx, owed: &Owed, flow: &Flow) -> Option<Bytes> {
    let parts = owed.read()?;
    let bracketed = |uri: &[u8]| [b"<", uri, b">"].concat();
    let tag = cx.tag();
    let via = invite::via(cx, flow);
    let mut call_id = cx.dice.hex::<24>().to_vec();
    call_id.push(b'@');
    call_id.extend_from_slice(cx.policy.hostname.as_bytes());
    let mut request = Request::new(Method::Message, parts.target);
    if cx.addresses.has_core() {
        request = request.line(Name::PChargingVector, &invite::charging_vector(cx, &call_id));
    }
    let request = request
        .line(Name::Via, &via)
        .line(Name::MaxForwards, b"70")
        .line(Name::From, &[&bracketed(parts.from)[..], b";tag=", &tag].concat())
        .line(Name::To, &bracketed(parts.target))
        .line(Name::PAssertedIdentity, &bracketed(parts.from))
        .line(Name::CallId, &call_id)
        .cseq(1, Method::Message)
        .line(Name::AcceptContact, b"*;+g.oma.sip-im")
        .line(Name::UserAgent, &cx.product);
    Some(request.body(b"message/cpim", parts.body).finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_say() {
        let table = [
            (200, Verdict::Done),
            (202, Verdict::Done),
            (408, Verdict::Later),
            (480, Verdict::Later),
            (486, Verdict::Later),
            (500, Verdict::Later),
            (503, Verdict::Later),
            (302, Verdict::Never),
            (403, Verdict::Never),
            (404, Verdict::Never),
            (603, Verdict::Never),
        ];
        for (status, expected) in table {
            assert_eq!(verdict(status), expected, "{status}");
        }
    }
}
