//! Pager fallback: what waits for a client that takes no MSRP session with it, as SIP MESSAGEs to its address, one at a time
//! (RFC 3428; `policy.pager_fallback`).
//!
//! It is a push without a session: messages leave by tombstones after an answer that says they are there, and by no other.

use super::cx::{Cx, Reader};
use super::encapsulate;
use super::identity::Address;
use super::invite::{self, Call};
use super::outcome::{self, Outcome};
use super::payload::Unfit;
use super::push::{End, GOODBYE, Push, Pushes, Role, Stage, Way};
use super::refusals::Refusal;
use super::users::Users;
use crate::base::arena::Key;
use crate::base::clock::Tick;
use crate::base::limits::Limits;
use crate::base::net::Flow;
use crate::proto::sip::endpoint::ClientKey;
use crate::store::directory::UserId;
use crate::store::loader::{Loaded, Record};
use crate::store::record::Flags;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use crate::wire::sip::write::Request;
use bytes::Bytes;
use std::time::Duration;

/// Octets of a MESSAGE outside of sessions at most (RFC 3428 8).
const PAGER_OCTETS_MAX: usize = 1_300;

/// What an answer to such a MESSAGE means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// The client has it.
    Delivered,
    /// Not this one; the next may be taken.
    Skipped(Option<Refusal>),
    /// None, now.
    Over(End),
}

//= RFC 3428 7: 202: the message has been accepted for delivery, but not necessarily delivered
fn verdict(status: u16, retry_after: Option<Duration>) -> Verdict {
    match status {
        // Somebody keeps it for later: that is what we do ourselves.
        202 => Verdict::Skipped(None),
        200..=299 => Verdict::Delivered,
        413 | 513 => Verdict::Skipped(Some(Refusal::Unfit(Unfit::TooLarge))),
        415 | 488 | 493 | 606 => Verdict::Skipped(Some(Refusal::Unfit(Unfit::Type))),
        400 => Verdict::Skipped(Some(Refusal::Unintelligible)),
        _ => Verdict::Over(match outcome::of_status(status) {
            Outcome::Later => End::Transient(retry_after),
            Outcome::Busy => End::Busy(retry_after),
            _ => End::GiveUp,
        }),
    }
}

impl Pushes {
    /// Begins to send what waits as MESSAGEs. False when that cannot begin now.
    pub fn page(&mut self, cx: &mut Cx, owner: &Address, user: UserId, flow: Flow) -> bool {
        if cx.stopping || self.is_running(user) || self.is_full() {
            return false;
        }
        let Ok(user) = cx.directory.enter(owner) else {
            cx.counts.overloads += 1;
            return false;
        };
        let offer = super::deliver::offer(cx, &flow);
        let key = self.live.insert_with(|key| {
            let call = Call::new(cx, key, owner, flow);
            let mut push = Push::new(Way::Pager, user, call, offer, cx.policy.after_push);
            push.stage = Stage::Paging;
            push
        });
        self.by_user.insert(user, key);
        cx.counts.pushes += 1;
        self.touch(key);
        true
    }

    /// Sends the next message when the last is settled, and ends when none is left.
    pub(super) fn page_on(&mut self, cx: &mut Cx, users: &Users, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        if push.stage != Stage::Paging || push.loading || push.paged.is_some() {
            return;
        }
        while let Some(locator) = push.next(users) {
            push.cursor = locator.stamp();
            push.reached = push.reached.max(locator.stamp());
            if locator.flags().has(Flags::LARGE) {
                push.skipped.insert(locator.place());
                continue;
            }
            push.until = Tick::NEVER;
            push.loading_from = push.in_flight.begin(locator);
            push.loading = true;
            let mut ops = Vec::new();
            let job = Reader::Push(key).to_u64();
            let at_once = cx.loader.load_owned(job, &push.call.owner, &[locator], &mut ops);
            cx.disk.extend(ops);
            if let Some(done) = at_once {
                self.loaded(cx, key, done.records);
            }
            return;
        }
        if push.delivered.is_empty() && push.retiring == 0 {
            self.finish(cx, key, End::Completed);
        } else if push.until == Tick::NEVER {
            // The log does not take the tombstones now: they are offered until it does.
            push.until = cx.now.tick + GOODBYE;
        }
    }

    /// The disk gave the message that is to be sent.
    pub(super) fn page_loaded(&mut self, cx: &mut Cx, key: Key, records: Vec<Loaded>) {
        let Some(push) = self.live.get_mut(key) else { return };
        let token = push.loading_from;
        for loaded in records {
            let flow = push.call.way(cx);
            if !push.is_sound(cx, token, &loaded) {
                continue;
            }
            let Ok(record) = loaded.outcome else { continue };
            let Some(octets) = request(cx, &push.call.owner, &record, &flow) else {
                cx.counts.unfit += 1;
                push.pass_over(token, Some(Refusal::Unfit(Unfit::TooLarge)));
                continue;
            };
            match cx.sip.request(cx.now.tick, Method::Message, octets, flow) {
                Ok(txn) => {
                    push.paged = Some((txn, token));
                    self.by_txn.insert(txn, (key, Role::Page));
                }
                Err(_) => {
                    cx.counts.overloads += 1;
                    return self.finish(cx, key, End::Transient(None));
                }
            }
            break;
        }
        self.touch(key);
    }

    /// The answer to a MESSAGE.
    pub(super) fn paged(&mut self, cx: &mut Cx, key: Key, txn: ClientKey, status: u16, retry_after: Option<Duration>) {
        self.by_txn.remove(&txn);
        let Some(push) = self.live.get_mut(key) else { return };
        let Some((_, token)) = push.paged.take() else { return };
        match verdict(status, retry_after) {
            // `None`: it was deleted meanwhile.
            Verdict::Delivered => {
                if let Some(locator) = push.in_flight.end(token) {
                    push.delivered.push(locator);
                    cx.counts.delivered += 1;
                    cx.counts.paged += 1;
                }
            }
            Verdict::Skipped(refusal) => push.pass_over(token, refusal),
            Verdict::Over(end) => return self.finish(cx, key, end),
        }
        self.touch(key);
    }
}

impl Push {
    /// Not again in this push; the next client may take it.
    fn pass_over(&mut self, token: u64, refusal: Option<Refusal>) {
        if let Some(place) = self.in_flight.end(token).map(|locator| locator.place()) {
            self.skipped.insert(place);
            self.refused.extend(refusal.map(|refusal| (place, refusal)));
        }
    }
}

/// The stored request once more, to its user's address: its own headers, Call-ID among them, and our Via. `None` when it cannot be
/// read, or is longer than a MESSAGE may be.
//= RFC 3428 8: the size of MESSAGE requests outside of a media session MUST NOT exceed 1300 bytes
fn request(cx: &mut Cx, owner: &Address, record: &Record, flow: &Flow) -> Option<Bytes> {
    let body = record.body();
    let embedded = encapsulate::embedded(&body, record.body_type.of(&record.page))?;
    let message = Message::parse_datagram(body.slice(embedded.range()), &Limits::unbounded()).ok()?;
    let via = invite::via(cx, flow);
    let mut request = Request::new(Method::Message, owner).line(Name::Via, &via).line(Name::MaxForwards, b"70");
    for line in message.lines() {
        request = match line.name {
            Name::Via | Name::MaxForwards | Name::ContentLength | Name::ContentType => request,
            Name::Other => request.line_raw(line.name_bytes, line.value),
            name => request.line(name, line.value),
        };
    }
    let octets = match message.content_type() {
        Some(content_type) => request.body(content_type, message.body()).finish(),
        None => request.finish(),
    };
    (octets.len() <= PAGER_OCTETS_MAX).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 3428 7: 202: the message has been accepted for delivery, but not necessarily delivered
    #[test]
    fn only_an_answer_that_says_it_is_there_delivers() {
        let retry_after = Some(Duration::from_secs(7));
        let table = [
            (200, Verdict::Delivered),
            (204, Verdict::Delivered),
            (202, Verdict::Skipped(None)),
            (400, Verdict::Skipped(Some(Refusal::Unintelligible))),
            (413, Verdict::Skipped(Some(Refusal::Unfit(Unfit::TooLarge)))),
            (415, Verdict::Skipped(Some(Refusal::Unfit(Unfit::Type)))),
            (404, Verdict::Over(End::GiveUp)),
            (480, Verdict::Over(End::Transient(retry_after))),
            (482, Verdict::Over(End::Transient(retry_after))),
            (503, Verdict::Over(End::Transient(retry_after))),
            (486, Verdict::Over(End::Busy(retry_after))),
            (302, Verdict::Over(End::GiveUp)),
        ];
        for (status, expected) in table {
            assert_eq!(verdict(status, retry_after), expected, "{status}");
        }
    }
}
