//! Message summaries (mission document 0; RFC 3842, RFC 6665): who subscribed to what waits for them.
//!
//! This file takes SUBSCRIBEs in and keeps subscriptions: durable before they are answered, found again after a restart. When a
//! subscriber is told something is in `tell`, what the NOTIFY says in `digest`, what outlives the daemon in `kept`.
//!
//! ```text
//!   SUBSCRIBE ──record durable──▶ 200, NOTIFY ──▶ active ──refresh──▶ (the same)
//!                                                   ├── Expires 0, time over ──record durable──▶ NOTIFY terminated ──▶ gone
//!                                                   ├── a NOTIFY unanswered, or refused for good ──▶ gone
//!                                                   └── restart ──▶ record anew, NOTIFY ──▶ active
//! ```

mod digest;
mod kept;
mod tell;

pub use kept::contact_of;

use super::cx::{Commit, Cx, Reply};
use super::identity::Address;
use super::inquiry::Listening;
use super::respond::{self, Refusal};
use super::states::StateWritten;
use super::users::{self, Users};
use crate::base::arena::{Arena, Key};
use crate::base::clock::{Tick, Wall};
use crate::base::net::Flow;
use crate::base::spread::SpreadMap;
use crate::base::timers::TimerKey;
use crate::proto::sip::endpoint::ClientKey;
use crate::proto::sip::subscription::{Reason, Subscription};
use crate::store::directory::UserId;
use crate::store::record::{Stamp, StateKind};
use crate::store::states::StateKey;
use crate::store::tally::Tally;
use crate::wire::sip::fields::{self, Event};
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use crate::wire::sip::write::Response;
use crate::wire::summary;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Subscriptions of one user: a person has fewer devices. One more ends the oldest, whose device may be long gone.
const A_USER_MAX: usize = 8;

/// Octets of a subscription's dialog: real ones have some 500. With `limits.subscriptions` this bounds the memory.
const DIALOG_OCTETS_MAX: usize = 4_096;

/// What a subscriber has not been told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owed {
    Nothing,
    /// What changed since the last NOTIFY.
    Change,
    /// How things stand, and no headers.
    Whole,
}

/// How a subscription ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    /// With a NOTIFY that says so.
    Say(Reason),
    /// Nobody listens any more.
    Silent,
}

/// One subscription.
#[derive(Debug)]
struct Live {
    owner: Address,
    /// Held as long as the subscription is.
    user: UserId,
    /// In our Contact, and the key of its state.
    id: u64,
    subscription: Subscription,
    /// Where the last SUBSCRIBE came from; `None` after a restart or a broken connection.
    flow: Option<Flow>,
    until: Wall,
    /// A record of it is, or will be, in the log.
    kept: bool,
    /// Sequence numbers that may be used before its record is written anew.
    numbers: u32,
    owed: Owed,
    over: Option<Over>,
    /// Its record says so, or never will: nothing is in the way of the last NOTIFY.
    closed: bool,
    /// What the last NOTIFY said.
    said: Option<Tally>,
    /// Messages that came since the last NOTIFY, the latest of them.
    fresh: VecDeque<Stamp>,
    /// Those of them that are being read.
    reading: Option<VecDeque<Stamp>>,
    /// Records of it that are not durable yet.
    committing: u32,
    /// The one NOTIFY that has no answer yet.
    outstanding: Option<ClientKey>,
    sent_at: Option<Tick>,
    /// No NOTIFY before this.
    hold: Tick,
    /// NOTIFYs in a row that failed and did not end it.
    failures: usize,
    armed: Option<(TimerKey, Tick)>,
    touched: bool,
}

/// A subscription on its way to being durable.
#[derive(Debug)]
pub struct Subscribed {
    /// Who is answered, with what, and with what if the disk fails.
    answer: Option<(Reply, Bytes, Bytes)>,
    state: StateWritten,
    what: What,
}

#[derive(Debug)]
enum What {
    New(Box<Live>),
    /// A refresh: it goes on until then.
    Refresh(Key, Wall),
    /// Found by a start, and written anew.
    Renewed(Key),
    /// It is over, by the subscriber's wish where somebody is answered.
    Closed(Key),
}

/// A SUBSCRIBE outside of any dialog.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Where the answer goes.
    pub reply: Reply,
    /// The request.
    pub message: &'a Message,
    /// How it came.
    pub flow: Flow,
    /// Whose mailbox it names.
    pub owner: Address,
    /// Whom a trusted peer asserts to ask.
    pub by: Option<Address>,
}

/// The subscriptions of the users at home on one core.
pub struct Summaries {
    live: Arena<Live>,
    /// A user's, the oldest first.
    by_user: SpreadMap<UserId, Vec<Key>>,
    by_id: SpreadMap<u64, Key>,
    by_txn: SpreadMap<ClientKey, Key>,
    touched: Vec<Key>,
    max: usize,
}

/// True for the event package that is subscribed to here.
pub fn is_event(package: &[u8]) -> bool {
    package.eq_ignore_ascii_case(summary::EVENT)
}

impl Summaries {
    /// None; at most `max`.
    pub fn new(max: usize) -> Summaries {
        Summaries {
            live: Arena::new(),
            by_user: SpreadMap::default(),
            by_id: SpreadMap::default(),
            by_txn: SpreadMap::default(),
            touched: Vec::new(),
            max,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Those that go on of a user, the oldest first.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = Listening> {
        let keys = self.by_user.get(&user).into_iter().flatten();
        let lasting = keys.filter_map(|key| self.live.get(*key)).filter(|live| live.over.is_none());
        lasting.map(|live| Listening { until: live.until, failures: live.failures as u32 })
    }

    /// A SUBSCRIBE for `owner`: decided here, answered when it is durable.
    pub fn subscribe(&mut self, cx: &mut Cx, users: &mut Users, asked: Asked<'_>) {
        let (reply, message, peer) = (asked.reply, asked.message, asked.flow.peer());
        if let Err(refusal) = self.take_in(cx, users, asked) {
            refuse(cx, reply, message, &refusal, peer);
        }
    }

    fn take_in(&mut self, cx: &mut Cx, users: &mut Users, asked: Asked<'_>) -> Result<(), Refusal> {
        let Asked { reply, message, flow, owner, by } = asked;
        //= RFC 3842 6: subscriptions SHOULD be authenticated and properly authorized: only the owner subscribes, else 403
        if by.as_ref() != Some(&owner) {
            return Err(Refusal::of(403).with(Name::Warning, respond::warning(cx, "127 Service not authorised")));
        }
        let granted_s = granted(cx, message)?;
        let tag = cx.tag();
        let subscription = Subscription::accept(message, &tag, &event_of(message))
            .map_err(|unusable| Refusal::of(unusable.status().0))?;
        let mut dialog = Vec::new();
        subscription.dialog().encode(&mut dialog);
        if dialog.len() > DIALOG_OCTETS_MAX {
            return Err(Refusal::of(513));
        }
        let full = |cx: &mut Cx| {
            cx.counts.overloads += 1;
            Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S)
        };
        if self.live.len() >= self.max {
            return Err(full(cx));
        }
        let Ok(user) = cx.directory.enter(&owner) else { return Err(full(cx)) };
        let (id, until) = (cx.dice.bits(), cx.now.wall + Duration::from_secs(granted_s.into()));
        let mut live = Live::new(owner, user, id, subscription, Some(flow), until);
        let accepted = accepted(cx, message, &tag, &live, &flow, granted_s);
        if granted_s == 0 {
            //= RFC 6665 4.4.3: a SUBSCRIBE with an Expires of 0 outside of a dialog: how things stand is told once
            live.over = Some(Over::Say(Reason::Timeout));
            cx.respond(reply, 200, accepted);
            self.insert(users, live);
            return Ok(());
        }
        let refused = respond::storage_failed(cx, message, flow.peer());
        match live.keep(cx) {
            Ok((seq, state)) => {
                let answer = Some((reply, accepted, refused));
                cx.commit(
                    seq,
                    Commit::Subscribe(Box::new(Subscribed { answer, state, what: What::New(Box::new(live)) })),
                );
                Ok(())
            }
            Err(_) => {
                cx.counts.overloads += 1;
                cx.directory.leave(user);
                users.close_if_empty(cx, user);
                Err(Refusal::of(503).retry_after(respond::STORAGE_RETRY_AFTER_S))
            }
        }
    }

    fn insert(&mut self, users: &mut Users, live: Live) -> Key {
        let (user, id) = (live.user, live.id);
        let key = self.live.insert(live);
        self.by_id.insert(id, key);
        let all = self.by_user.entry(user).or_default();
        all.push(key);
        let mut lasting = all.iter().filter(|key| self.live.get(**key).is_some_and(|live| live.over.is_none()));
        let oldest = lasting.next().copied().filter(|_| lasting.count() >= A_USER_MAX);
        users.listen(user, true);
        self.touch(key);
        if let Some(oldest) = oldest {
            self.end(oldest, Over::Say(Reason::Probation));
        }
        key
    }

    /// A request within the dialog of the subscription that our Contact names by `id`.
    ///
    //= RFC 3261 12.2.2: a request within a dialog is matched by its dialog; who may speak in it was settled when it began
    pub fn within(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: Flow, id: u64) {
        let key = self.by_id.get(&id).copied();
        let live = key.and_then(|key| self.live.get_mut(key).map(|live| (key, live)));
        let known = live.filter(|(_, live)| live.over.is_none() && live.subscription.dialog().matches(message));
        let outcome = match known {
            //= RFC 6665 4.2.1.2: a refresh of a subscription that is over, or never was: 481
            None => Err(Refusal::of(481)),
            Some((key, _)) if message.method() == Method::Subscribe => self.refresh(cx, reply, message, flow, key),
            Some((_, live)) if message.method() == Method::Options => match options(live, message) {
                Ok(()) => {
                    let octets = respond::capabilities(cx, message, flow.peer()).finish();
                    return cx.respond(reply, 200, octets);
                }
                Err(refusal) => Err(refusal),
            },
            Some(_) => Err(Refusal::of(405).with(Name::Allow, respond::ALLOW_WITHIN_SUBSCRIPTION)),
        };
        if let Err(refusal) = outcome {
            refuse(cx, reply, message, &refusal, flow.peer());
        }
    }

    fn refresh(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: Flow, key: Key) -> Result<(), Refusal> {
        let granted_s = granted(cx, message)?;
        let Some(live) = self.live.get_mut(key) else { return Err(Refusal::of(481)) };
        live.subscription.refresh(message).map_err(|status| Refusal::of(status.0))?;
        live.flow = Some(flow);
        let tag = live.subscription.dialog().local_tag().to_vec();
        let accepted = accepted(cx, message, &tag, live, &flow, granted_s);
        let refused = respond::storage_failed(cx, message, flow.peer());
        let (until, what) = match granted_s {
            0 => (kept::OVER, What::Closed(key)),
            _ => {
                let until = cx.now.wall + Duration::from_secs(granted_s.into());
                (until, What::Refresh(key, until))
            }
        };
        let Ok((seq, state)) = live.keep_until(cx, until) else {
            cx.counts.overloads += 1;
            return Err(Refusal::of(503).retry_after(respond::STORAGE_RETRY_AFTER_S));
        };
        live.committing += 1;
        if granted_s == 0 {
            live.over = Some(Over::Say(Reason::Timeout));
        }
        let answer = Some((reply, accepted, refused));
        cx.commit(seq, Commit::Subscribe(Box::new(Subscribed { answer, state, what })));
        Ok(())
    }

    /// A subscription is durable: answer, then tell how things stand.
    ///
    //= RFC 6665 4.2.2: a 200 to a SUBSCRIBE: the notifier MUST immediately construct and send a NOTIFY
    pub fn durable(&mut self, cx: &mut Cx, users: &mut Users, done: Subscribed) {
        cx.state_durable(&done.state);
        if let Some((reply, accepted, _)) = done.answer {
            cx.respond(reply, 200, accepted);
        }
        let (key, until) = match done.what {
            What::New(live) => {
                self.insert(users, *live);
                return;
            }
            What::Refresh(key, until) => (key, Some(until)),
            What::Renewed(key) => (key, None),
            What::Closed(key) => return self.closed(key),
        };
        if let Some(live) = self.live.get_mut(key) {
            live.committing -= 1;
            live.until = until.unwrap_or(live.until);
            live.owed = Owed::Whole;
            if until.is_some() {
                (live.failures, live.hold) = (0, Tick(0));
            }
            self.touch(key);
        }
    }

    /// The disk failed under a subscription: what was before it holds.
    pub fn failed(&mut self, cx: &mut Cx, users: &mut Users, lost: Subscribed) {
        cx.state_failed(&lost.state);
        let asked = lost.answer.is_some();
        if let Some((reply, _, refused)) = lost.answer {
            cx.counts.refused += 1;
            cx.respond(reply, 503, refused);
        }
        match lost.what {
            What::New(live) => {
                cx.directory.leave(live.user);
                users.close_if_empty(cx, live.user);
            }
            // Who asked for the end, and is told that it is none, goes on.
            What::Closed(key) if asked => {
                if let Some(live) = self.live.get_mut(key) {
                    live.committing -= 1;
                    (live.over, live.owed, live.hold) = (None, Owed::Whole, cx.now.tick + tell::AGAIN);
                    self.touch(key);
                }
            }
            What::Closed(key) => self.closed(key),
            What::Refresh(key, _) | What::Renewed(key) => {
                if let Some(live) = self.live.get_mut(key) {
                    live.committing -= 1;
                    if matches!(lost.what, What::Renewed(_)) {
                        live.numbers = 0;
                    }
                    live.hold = cx.now.tick + tell::AGAIN;
                    self.touch(key);
                }
            }
        }
    }

    /// What recovery found. `after` paces what starts say.
    pub fn adopt(&mut self, cx: &mut Cx, users: &mut Users, owner: Address, key: &[u8], value: &[u8], after: Duration) {
        let state = StateKey { kind: StateKind::Subscription, owner: (&owner[..]).into(), key: key.into() };
        let read = kept::decode(key, value);
        if read.as_ref().is_some_and(|read| read.until == kept::OVER) {
            // Whoever asked for that may have been told, or comes again and hears 481.
            cx.end_state(&state);
            return;
        }
        let entered = read.and_then(|read| Some((read, cx.directory.enter(&owner).ok()?)));
        let Some((read, user)) = entered else {
            tracing::error!(
                ?owner,
                "a stored subscription cannot be read, or has no place among limits.users; it is forgotten"
            );
            cx.end_state(&state);
            return;
        };
        let mut live = Live::new(owner, user, read.id, read.subscription, read.flow, read.until);
        // As many may have been used since the record was written.
        live.subscription.dialog_mut().leap(read.numbers);
        (live.kept, live.hold) = (true, cx.now.tick + after);
        self.insert(users, live);
    }

    /// That it is over is durable, or never will be.
    fn closed(&mut self, key: Key) {
        if let Some(live) = self.live.get_mut(key) {
            live.committing -= 1;
            live.closed = true;
            self.touch(key);
        }
    }

    /// It is over.
    fn end(&mut self, key: Key, over: Over) {
        if let Some(live) = self.live.get_mut(key) {
            live.over = Some(over);
            self.touch(key);
        }
    }

    /// Something about it changed: it is looked at before the turn ends.
    fn touch(&mut self, key: Key) {
        if let Some(live) = self.live.get_mut(key)
            && !live.touched
        {
            live.touched = true;
            self.touched.push(key);
        }
    }

    /// Nothing of it is left.
    fn remove(&mut self, cx: &mut Cx, users: &mut Users, key: Key) {
        let Some(live) = self.live.remove(key) else { return };
        if let Some((timer, _)) = live.armed {
            cx.timers.cancel(timer);
        }
        if let Some(txn) = live.outstanding {
            self.by_txn.remove(&txn);
        }
        self.by_id.remove(&live.id);
        if let Some(all) = self.by_user.get_mut(&live.user) {
            all.retain(|other| *other != key);
            if all.is_empty() {
                self.by_user.remove(&live.user);
                users.listen(live.user, false);
            }
        }
        if live.kept {
            cx.end_state(&live.state());
        }
        cx.directory.leave(live.user);
        users.close_if_empty(cx, live.user);
    }
}

impl Live {
    fn new(owner: Address, user: UserId, id: u64, subscription: Subscription, flow: Option<Flow>, until: Wall) -> Live {
        Live {
            owner,
            user,
            id,
            subscription,
            flow,
            until,
            kept: false,
            numbers: 0,
            owed: Owed::Whole,
            over: None,
            closed: false,
            said: None,
            fresh: VecDeque::new(),
            reading: None,
            committing: 0,
            outstanding: None,
            sent_at: None,
            hold: Tick(0),
            failures: 0,
            armed: None,
            touched: false,
        }
    }

    fn state(&self) -> StateKey {
        let key = self.id.to_be_bytes();
        StateKey { kind: StateKind::Subscription, owner: (&self.owner[..]).into(), key: key.into() }
    }

    /// When its time is over.
    fn ends_at(&self, cx: &Cx) -> Tick {
        users::tick_of(cx, self.until)
    }
}

/// The seconds that a SUBSCRIBE is given, after what can be asked of every SUBSCRIBE to this package.
fn granted(cx: &Cx, message: &Message) -> Result<u32, Refusal> {
    let unknown = respond::unsupported(message, &[]);
    if !unknown.is_empty() {
        return Err(Refusal::of(420).with(Name::Unsupported, unknown));
    }
    //= RFC 3842 3.5: without an Accept header the body type is application/simple-message-summary
    if !fields::accepts(message, summary::MEDIA_TYPE, true) {
        return Err(Refusal::of(406).with(Name::Accept, summary::MEDIA_TYPE));
    }
    let (least, usual, most) = cx.policy.summary.expires;
    match message.expires().unwrap_or(usual) {
        0 => Ok(0),
        //= RFC 6665 4.2.1.1: an Expires below the notifier's minimum: 423, with Min-Expires
        brief if brief < least => Err(Refusal::of(423).with(Name::MinExpires, least.to_string())),
        //= RFC 6665 4.2.1.1: the notifier MAY shorten the duration, and MUST NOT lengthen it
        asked => Ok(asked.min(most)),
    }
}

/// What every NOTIFY says in Event: the package, and the id that the SUBSCRIBE gave.
//= RFC 6665 4.5.2: an "id" of the SUBSCRIBE MUST also be present in all corresponding NOTIFY requests
fn event_of(message: &Message) -> Vec<u8> {
    let id = message.header(Name::Event).and_then(Event::parse).and_then(|event| event.id());
    match id {
        Some(id) => [summary::EVENT, b";id=", id].concat(),
        None => summary::EVENT.to_vec(),
    }
}

/// Whether an OPTIONS within a subscription's dialog is one to be answered.
fn options(live: &mut Live, message: &Message) -> Result<(), Refusal> {
    live.subscription.dialog_mut().in_order(message).map_err(|status| Refusal::of(status.0))?;
    let unknown = respond::unsupported(message, respond::ALL_OPTIONS);
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::of(420).with(Name::Unsupported, unknown)) }
}

/// The 200 to a SUBSCRIBE.
fn accepted(cx: &Cx, message: &Message, tag: &[u8], live: &Live, flow: &Flow, granted_s: u32) -> Bytes {
    Response::to(message, 200, flow.peer())
        .record_route()
        .to_tag(tag)
        .line(Name::Server, &cx.product)
        .line(Name::Contact, &kept::contact(cx, flow, &live.owner, live.id))
        //= RFC 6665 4.2.1.1: a 200 to a SUBSCRIBE MUST contain an Expires header field
        .number(Name::Expires, granted_s.into())
        .finish()
}

fn refuse(cx: &mut Cx, reply: Reply, message: &Message, refusal: &Refusal, peer: std::net::SocketAddr) {
    cx.counts.refused += 1;
    let octets = refusal.response(cx, message, peer);
    cx.respond(reply, refusal.status, octets);
}
