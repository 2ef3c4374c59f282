//! The push: every message that waits for a user, over one MSRP session (12.2.2.2, 12.2.2.5; spec 6.3).
//!
//! This file holds the life of a push: how it begins, what it waits for, how it ends. Its SIP side is in
//! [`super::signal`], its MSRP side in [`super::deliver`].

use super::cx::{Ask, Cx, Timer};
use super::identity::Address;
use super::invite::{self, Call};
use super::policy::Media;
use super::refusals::Refusal;
use super::users::Users;
use crate::base::arena::{Arena, Key};
use crate::base::clock::Tick;
use crate::base::net::{ConnId, Flow};
use crate::base::timers::TimerKey;
use crate::proto::msrp::session::{Session, SessionEvent};
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::endpoint::ClientKey;
use crate::proto::sip::offer::Offer;
use crate::proto::sip::session_timer::{SessionTimer, Wish};
use crate::store::directory::UserId;
use crate::store::record::{Locator, Place};
use crate::store::stamp::Stamp;
use crate::wire::sip::names::Method;
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// After a CANCEL the INVITE must have ended by then (64*T1, spec 6.3), and a BYE likewise.
pub(super) const GOODBYE: Duration = Duration::from_secs(32);

/// A client that holds its session has this long to resume it (spec 6.3 PAUSED).
const HELD_MAX: Duration = Duration::from_secs(120);

/// Where a push stands. Its messages leave the queue only by tombstones; whatever happens here, they are safe.
///
/// ```text
///  inviting ──2xx──▶ waiting ──first SEND──▶ sending ──all done──▶ ending ──▶ (gone)
///     │  │              │                       ▲  │                  ▲
///     │  └──2xx, they are passive──▶ connecting ┘  └──── failure ─────┤
///     ├──── 60 s ──▶ cancelling ───────── 2xx: ACK, BYE ──────────────┘
///     └──── 300-699 ──▶ (gone)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The INVITE has no final answer yet.
    Inviting,
    /// It rang too long; CANCEL was sent.
    Cancelling,
    /// Answered; the client connects to us.
    Waiting,
    /// Answered; we connect to the client.
    Connecting,
    /// Messages flow.
    Sending,
    /// BYE was sent.
    Ending,
}

/// Why a session in [`Stage::Sending`] may have nothing in flight and is not over: each has its time, so that none lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Idle {
    /// Nothing but answers is waited for, and those have times of their own.
    No,
    /// The client holds the session (spec 6.3 PAUSED).
    Held,
    /// Behind a relay a message is delivered when it was reported, and a REPORT may never come.
    Unreported,
    /// All is delivered, and the log does not take the tombstones.
    Unwritten,
}

/// How a push ended, for what happens next to its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything was delivered.
    Completed,
    /// Something on the way failed: try again by backoff, or when the other side said.
    Transient(Option<Duration>),
    /// The user declined.
    Busy,
    /// Not before the next trigger.
    GiveUp,
    /// Two requests crossed: try again in a moment.
    Glare,
    /// The client came back by another way while the INVITE went out by the old one: again, at once.
    Moved,
}

/// A push that is over.
#[derive(Debug)]
pub struct Ended {
    /// Whose it was.
    pub owner: Address,
    /// How.
    pub end: End,
    /// The client lost or delayed answers: its next session goes one at a time (spec 21.4).
    pub cautious: bool,
    /// Messages it did not take: they wait for the next trigger, and are no reason for a push of their own.
    pub skipped: HashSet<Place>,
}

/// What a push that is over leaves to its user's list.
pub(super) struct Left {
    user: UserId,
    /// Answered 200, tombstone not yet appended.
    delivered: Vec<Locator>,
    refused: Vec<(Place, Refusal)>,
}

/// Which transaction of a push a response belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Invite,
    Refresh,
    Bye,
}

pub(super) struct Push {
    pub(super) user: UserId,
    pub(super) call: Call,
    pub(super) stage: Stage,
    /// The stage must be over by then.
    pub(super) until: Tick,
    /// What a session in `Sending` waits for besides answers.
    pub(super) idle: Idle,
    pub(super) invite: Option<ClientKey>,
    /// The INVITE as sent: the dialog is made from it.
    pub(super) request: Bytes,
    pub(super) dialog: Option<Dialog>,
    /// The ACK for the 2xx, for its repetitions.
    pub(super) ack: Option<Bytes>,
    pub(super) refresh: Option<SessionTimer>,
    /// What the refresh under way or refused with 422 asks for.
    pub(super) refresh_wish: Option<Wish>,
    /// A re-INVITE of ours, and its offer, have no final answer yet.
    pub(super) offering: bool,
    /// The client connects to us.
    pub(super) passive: bool,
    pub(super) redirected: bool,
    /// Our side of the session as it was offered.
    pub(super) offer: Offer,
    /// Of our path.
    pub(super) session_id: Bytes,
    /// The client's path as it answered it.
    pub(super) peer_path: Bytes,
    pub(super) session: Option<Session>,
    pub(super) conn: Option<ConnId>,
    /// The client's first SEND came before its answer to the INVITE.
    pub(super) bound_early: bool,
    /// Not sent yet at or after this stamp, those in flight or skipped excepted.
    pub(super) cursor: Stamp,
    /// The highest stamp taken so far: above it nothing needs looking up.
    pub(super) reached: Stamp,
    /// Loaded, queued or sent, and not answered, by place.
    pub(super) in_flight: HashMap<Place, Locator>,
    /// Not for this session: refused, too large, damaged.
    pub(super) skipped: HashSet<Place>,
    /// Of those, the ones to be counted against the message.
    pub(super) refused: Vec<(Place, Refusal)>,
    pub(super) loading: bool,
    /// Answered 200, tombstone not yet appended.
    pub(super) delivered: Vec<Locator>,
    /// Tombstones that are not durable yet.
    pub(super) retiring: HashSet<Place>,
    pub(super) end: Option<End>,
    pub(super) cautious: bool,
    armed: Option<(TimerKey, Tick)>,
    pub(super) touched: bool,
}

/// An MSRP connection and the sessions on it.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) sessions: Vec<Key>,
    /// Set when we opened it: others to the same address may share it (RFC 4975 5.4).
    pub(super) remote: Option<SocketAddr>,
    pub(super) open: bool,
    /// Who goes first at the next send.
    pub(super) turn: usize,
}

/// What is still owed to a call that is over: the ACK for a 2xx that comes again.
pub(super) struct Late {
    pub(super) to_tag: Vec<u8>,
    pub(super) ack: Bytes,
    pub(super) flow: Flow,
}

/// All pushes of the users at home on this core.
pub struct Pushes {
    pub(super) live: Arena<Push>,
    pub(super) media: Media,
    pub(super) by_user: HashMap<UserId, Key>,
    pub(super) by_txn: HashMap<ClientKey, (Key, Role)>,
    pub(super) by_session: HashMap<Bytes, Key>,
    pub(super) by_tid: HashMap<[u8; 16], Key>,
    pub(super) links: HashMap<ConnId, Link>,
    /// Connections that we opened, by where they lead.
    pub(super) dialled: HashMap<SocketAddr, ConnId>,
    pub(super) late: HashMap<ClientKey, Late>,
    pub(super) late_order: VecDeque<(Tick, ClientKey)>,
    pub(super) ended: Vec<Ended>,
    /// Of pushes that are over.
    pub(super) left: Vec<Left>,
    pub(super) touched: Vec<Key>,
    pub(super) events: Vec<SessionEvent>,
}

impl Pushes {
    /// None yet.
    pub fn new(media: Media) -> Pushes {
        Pushes {
            live: Arena::new(),
            media,
            by_user: HashMap::new(),
            by_txn: HashMap::new(),
            by_session: HashMap::new(),
            by_tid: HashMap::new(),
            links: HashMap::new(),
            dialled: HashMap::new(),
            late: HashMap::new(),
            late_order: VecDeque::new(),
            ended: Vec::new(),
            left: Vec::new(),
            touched: Vec::new(),
            events: Vec::new(),
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// True when no other may begin (`limits.sessions`).
    pub fn is_full(&self) -> bool {
        self.live.len() >= self.media.sessions_max
    }

    /// True when this user is being pushed to: two triggers never run two pushes.
    pub fn is_running(&self, user: UserId) -> bool {
        self.by_user.contains_key(&user)
    }

    /// True when a message is with a client right now.
    pub fn is_in_flight(&self, user: UserId, place: Place) -> bool {
        self.by_user.get(&user).and_then(|&key| self.live.get(key)).is_some_and(|push| {
            push.in_flight.contains_key(&place) || push.delivered.iter().any(|had| had.place() == place)
        })
    }

    /// Begins a push: the INVITE goes out. False when it cannot begin now.
    ///
    //= 12.2.2.2-1: the IM Server shall generate an initial SIP INVITE
    pub fn start(&mut self, cx: &mut Cx, owner: &Address, user: UserId, flow: Flow, cautious: bool) -> bool {
        if cx.stopping || self.is_running(user) {
            return false;
        }
        if self.is_full() {
            return false;
        }
        // Held until the push is over: whatever is delivered meanwhile, this user's place is not given to another.
        let Ok(user) = cx.directory.enter(owner) else {
            cx.counts.overloads += 1;
            return false;
        };
        let offer = super::deliver::offer(cx, &flow);
        let session_id = Bytes::copy_from_slice(super::deliver::session_id(&offer.path));
        let until = cx.now.tick + cx.policy.invite_expires;
        let key = self.live.insert_with(|key| {
            let mut call = Call::new(cx, key, owner, flow);
            call.sdp = offer.write();
            Push {
                user,
                call,
                stage: Stage::Inviting,
                until,
                idle: Idle::No,
                invite: None,
                request: Bytes::new(),
                dialog: None,
                ack: None,
                refresh: None,
                refresh_wish: None,
                offering: false,
                passive: true,
                redirected: false,
                offer,
                session_id: session_id.clone(),
                peer_path: Bytes::new(),
                session: None,
                conn: None,
                bound_early: false,
                cursor: Stamp(0),
                reached: Stamp(0),
                in_flight: HashMap::new(),
                skipped: HashSet::new(),
                refused: Vec::new(),
                loading: false,
                delivered: Vec::new(),
                retiring: HashSet::new(),
                end: None,
                cautious,
                armed: None,
                touched: false,
            }
        });
        self.by_user.insert(user, key);
        self.by_session.insert(session_id, key);
        cx.counts.pushes += 1;
        self.invite(cx, key);
        self.live.get(key).is_some()
    }

    /// Sends the INVITE, the first time or again.
    pub(super) fn invite(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        let octets = push.call.invite(cx);
        push.request = octets.clone();
        //= 12.2.2.2-1h: shall send the SIP INVITE request towards the served IM User
        match cx.sip.request(cx.now.tick, Method::Invite, octets, push.call.flow) {
            Ok(txn) => {
                push.invite = Some(txn);
                self.by_txn.insert(txn, (key, Role::Invite));
                self.touch(key);
            }
            Err(_) => {
                cx.counts.overloads += 1;
                self.finish(cx, key, End::Transient(None));
            }
        }
    }

    /// Something of this push changed: it is looked at once before the turn ends.
    pub(super) fn touch(&mut self, key: Key) {
        if let Some(push) = self.live.get_mut(key)
            && !push.touched
        {
            push.touched = true;
            self.touched.push(key);
        }
    }

    /// A user has new messages, the oldest of them stamped `oldest`: a push under way takes them along (spec 7.7).
    pub fn arrived(&mut self, user: UserId, oldest: Stamp) -> bool {
        let Some(&key) = self.by_user.get(&user) else { return false };
        if let Some(push) = self.live.get_mut(key) {
            // A core that committed later may have stamped earlier: look again from there.
            push.cursor = push.cursor.min(oldest);
        }
        self.touch(key);
        true
    }

    /// Looks at every push that something happened to: feeds it, writes off what was delivered, ends it when all is done.
    pub fn settle(&mut self, cx: &mut Cx, users: &mut Users) {
        while let Some(key) = self.touched.pop() {
            if let Some(push) = self.live.get_mut(key) {
                push.touched = false;
            }
            self.write_off(cx, users, key);
            self.feed(cx, users, key);
            self.end_if_done(cx, users, key);
            self.arm(cx, key);
        }
        for Left { user, delivered, refused } in std::mem::take(&mut self.left) {
            for (place, refusal) in refused {
                users.refused(place, refusal);
            }
            users.delivered(cx, user, delivered);
            cx.directory.leave(user);
            users.close_if_empty(cx, user);
        }
        let now = cx.now.tick;
        while let Some(&(at, txn)) = self.late_order.front() {
            if at > now {
                break;
            }
            self.late_order.pop_front();
            self.late.remove(&txn);
        }
    }

    /// Everything sent was answered, its tombstones are durable and nothing new has come: BYE.
    ///
    //= 12.2.2.5: after sending all the deferred messages, the IM Server shall send a SIP BYE
    fn end_if_done(&mut self, cx: &mut Cx, users: &mut Users, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        if push.stage != Stage::Sending {
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
            && push.delivered.is_empty()
            && push.retiring.is_empty()
            && push.session.as_ref().is_none_or(Session::is_idle);
        if !quiet || push.next(users).is_some() {
            return;
        }
        // One more look into the inbox: a message that another core committed in this instant still goes along.
        let user = push.user;
        if let Some(oldest) = users.take_in(cx, user) {
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
            Stage::Ending | Stage::Cancelling => return,
            Stage::Inviting => {
                push.stage = Stage::Cancelling;
                push.until = cx.now.tick + GOODBYE;
                if let Some(txn) = push.invite {
                    cx.sip.cancel(cx.now.tick, txn, &mut cx.dice);
                }
                self.touch(key);
                return;
            }
            Stage::Waiting | Stage::Connecting | Stage::Sending => {}
        }
        if let Some(session) = &mut push.session {
            session.abort();
        }
        if let Some(conn) = push.conn {
            cx.asks.push_back(Ask::Pump(conn));
        }
        self.bye(cx, key);
    }

    /// The user published over `flow`. An INVITE that still rings elsewhere is cancelled, so that the next goes where the user
    /// is; it begins when this one is over, for there are never two.
    pub fn moved(&mut self, cx: &mut Cx, user: UserId, flow: Flow) {
        let Some(&key) = self.by_user.get(&user) else { return };
        let Some(push) = self.live.get(key) else { return };
        if push.stage == Stage::Inviting && push.call.flow != flow && !cx.has_proxy() {
            self.hang_up(cx, key, End::Moved);
        }
    }

    /// The way of the next request within the dialog: a connection to the SIP/IP core that broke meanwhile is opened anew.
    pub(super) fn way(cx: &mut Cx, push: &mut Push) -> Flow {
        if let Some(flow) = cx.flow_to(None) {
            push.call.flow = flow;
        }
        push.call.flow
    }

    /// Sends the BYE of an established dialog.
    pub(super) fn bye(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        push.stage = Stage::Ending;
        push.until = cx.now.tick + GOODBYE;
        let flow = Pushes::way(cx, push);
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

    /// The push is over; what was not confirmed simply waits on (spec 6.3 CLOSED).
    pub(super) fn finish(&mut self, cx: &mut Cx, key: Key, end: End) {
        let Some(mut push) = self.live.remove(key) else { return };
        let end = push.end.unwrap_or(end);
        if end == End::Completed {
            cx.counts.pushes_completed += 1;
        } else {
            cx.counts.pushes_failed += 1;
        }
        if let Some((timer, _)) = push.armed.take() {
            cx.timers.cancel(timer);
        }
        self.by_user.remove(&push.user);
        self.by_session.remove(&push.session_id);
        if let Some(session) = &push.session {
            push.cautious |= session.was_cautious();
            self.by_tid.remove(&session.tid_prefix());
        }
        if let Some(txn) = push.invite {
            self.by_txn.remove(&txn);
            if let (Some(ack), Some(dialog)) = (push.ack.take(), &push.dialog) {
                let late = Late { to_tag: dialog.remote_tag().to_vec(), ack, flow: push.call.flow };
                self.late.insert(txn, late);
                self.late_order.push_back((cx.now.tick + GOODBYE, txn));
            }
        }
        self.left.push(Left {
            user: push.user,
            delivered: std::mem::take(&mut push.delivered),
            refused: std::mem::take(&mut push.refused),
        });
        if let Some(conn) = push.conn {
            self.unlink(cx, key, conn);
        }
        tracing::debug!(owner = ?push.call.owner, ?end, "push ended");
        self.ended.push(Ended { owner: push.call.owner, end, cautious: push.cautious, skipped: push.skipped });
    }

    /// True when [`Pushes::settle`] has nothing to look at.
    pub fn is_settled(&self) -> bool {
        self.touched.is_empty() && self.ended.is_empty() && self.left.is_empty()
    }

    /// The pushes that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Sets the push's one timer to the earliest of what it waits for. A timer that fires early does no harm.
    fn arm(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        let mut at = push.until;
        if let Some(deadline) = push.session.as_ref().and_then(Session::deadline) {
            at = at.min(deadline);
        }
        if let Some(refresh) = &push.refresh {
            at = at.min(refresh.deadline());
        }
        match push.armed {
            Some((_, armed)) if armed <= at => return,
            Some((timer, _)) => {
                cx.timers.cancel(timer);
            }
            None => {}
        }
        push.armed = (at != Tick::NEVER).then(|| (cx.timers.set(at, Timer::Push(key)), at));
    }

    /// The push's timer fired: look at everything that has a time.
    pub fn timer(&mut self, cx: &mut Cx, key: Key) {
        let now = cx.now.tick;
        let Some(push) = self.live.get_mut(key) else { return };
        push.armed = None;
        if push.until <= now {
            match push.stage {
                // Nobody answered within `Expires`: CANCEL (spec 6).
                Stage::Inviting => self.hang_up(cx, key, End::Transient(None)),
                Stage::Waiting | Stage::Connecting => self.hang_up(cx, key, End::Transient(None)),
                Stage::Cancelling | Stage::Ending => self.finish(cx, key, End::Transient(None)),
                // What the log does not take now, it is offered until it does; nobody is sent it again meanwhile.
                Stage::Sending if push.idle == Idle::Unwritten => self.hang_up(cx, key, End::Completed),
                //= 2.4: behind a relay, without the REPORT 000 200 delivery is not confirmed: the message waits on
                Stage::Sending => self.hang_up(cx, key, End::Transient(None)),
            }
        }
        self.session_turn(cx, key);
        self.session_timer(cx, key);
        self.touch(key);
    }

    /// Says good-bye to everybody (SIGTERM).
    pub fn stop(&mut self, cx: &mut Cx) {
        let keys: Vec<Key> = self.live.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.hang_up(cx, key, End::Transient(None));
        }
    }
}

impl Push {
    /// True when this push has dealt with a message, or is about to.
    pub(super) fn has_taken(&self, locator: &Locator) -> bool {
        if locator.stamp() > self.reached {
            return false;
        }
        let place = locator.place();
        self.in_flight.contains_key(&place)
            || self.skipped.contains(&place)
            || self.delivered.iter().any(|had| had.place() == place)
    }

    /// What it waits for now.
    fn idle_for(&self) -> Idle {
        let Some(session) = &self.session else { return Idle::No };
        if session.is_paused() {
            Idle::Held
        } else if session.is_idle() && session.unreported() > 0 {
            Idle::Unreported
        } else if session.is_idle() && !self.loading && self.in_flight.is_empty() && !self.retiring.is_empty() {
            Idle::Unwritten
        } else {
            Idle::No
        }
    }

    /// The oldest message it has not taken.
    pub(super) fn next(&self, users: &Users) -> Option<Locator> {
        users.new_from(self.user, self.cursor).find(|locator| !self.has_taken(locator))
    }
}
