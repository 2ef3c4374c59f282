//! The push: every message that waits for a user, over one MSRP session (12.2.2.2, 12.2.2.5).
//!
//! This file holds the life of a push: how it begins, what it waits for, and when it is over. Its SIP side is in
//! [`super::signal`], its MSRP side in [`super::deliver`], its end in `goodbye`.

mod words;

pub use words::{End, Ended};
pub(super) use words::{Idle, Left, Role, Stage, Way};

use super::cx::{Cx, Reply, Timer};
use super::feed::Feeds;
use super::flight::Flight;
use super::identity::Address;
use super::invite::{Call, Toward};
use super::payload::Choice;
use super::policy::{Afterwards, Media};
use super::presence::Young;
use super::refusals::Refusal;
use super::users::Users;
use super::within::Unacked;
use super::write_off::WrittenOff;
use crate::base::arena::{Arena, Key};
use crate::base::clock::Tick;
use crate::base::net::{ConnId, Flow};
use crate::base::split::SpreadSplitMap;
use crate::base::spread::{SpreadMap, SpreadSet};
use crate::base::timers::TimerKey;
use crate::proto::msrp::session::{Session, SessionEvent};
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::early::Early;
use crate::proto::sip::endpoint::ClientKey;
use crate::proto::sip::offer::Offer;
use crate::proto::sip::session_timer::{SessionTimer, Wish};
use crate::store::directory::UserId;
use crate::store::record::{Locator, Place};
use crate::store::stamp::Stamp;
use crate::wire::sip::names::Method;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// How long answers under way are waited for when the daemon stops: a slow round trip, and a tenth of the default `stop_timeout`.
pub(super) const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// After a CANCEL the INVITE must have ended by then (64*T1, RFC 3261 9.1), and a BYE likewise.
pub(super) const GOODBYE: Duration = Duration::from_secs(32);

/// The last word of a session waits this long at most for a log that does not take its tombstones: half of what the client waits for
/// the answer to its BYE (RFC 3261 17.1.2.2, Timer F).
pub(super) const LAST_WORD: Duration = Duration::from_secs(16);

/// A client that holds its session has this long to resume it before the session is ended.
pub(super) const HELD_MAX: Duration = Duration::from_secs(120);

pub(super) struct Push {
    pub(super) way: Way,
    pub(super) user: UserId,
    pub(super) call: Call,
    pub(super) stage: Stage,
    /// The stage must be over by then.
    pub(super) until: Tick,
    /// What a session in `Sending` waits for besides answers.
    pub(super) idle: Idle,
    pub(super) invite: Option<ClientKey>,
    /// The MESSAGE under way, and the number of what it carries.
    pub(super) paged: Option<(ClientKey, u64)>,
    /// The INVITE as sent: the dialog is made from it.
    pub(super) request: Bytes,
    pub(super) dialog: Option<Dialog>,
    /// What rang before the 2xx.
    pub(super) early: Early,
    /// The ACK for the 2xx, for its repetitions.
    pub(super) ack: Option<Bytes>,
    /// A 200 of ours to an INVITE of the user's has no ACK yet.
    pub(super) unacked: Option<Unacked>,
    /// It was asked for by way of another core, and may yet be taken back there.
    pub(super) revocable: Option<Reply>,
    pub(super) refresh: Option<SessionTimer>,
    /// What the refresh under way or refused with 422 asks for.
    pub(super) refresh_wish: Option<Wish>,
    /// A re-INVITE of ours, and its offer, have no final answer yet.
    pub(super) offering: bool,
    /// The client connects to us.
    pub(super) passive: bool,
    /// Its INVITE has just left, and its client has not connected yet.
    pub(super) young: bool,
    pub(super) redirected: bool,
    /// A REFER has made a subscription in its dialog: the next is told apart by an id.
    pub(super) referred: bool,
    /// Our side of the session as it was offered.
    pub(super) offer: Offer,
    /// Of our path.
    pub(super) session_id: Bytes,
    /// The client's path as it answered it.
    pub(super) peer_path: Bytes,
    /// What the client takes.
    pub(super) choice: Choice,
    pub(super) session: Option<Session>,
    pub(super) conn: Option<ConnId>,
    /// The client's first SEND came before its answer to the INVITE.
    pub(super) bound_early: bool,
    /// Not sent yet at or after this stamp, those in flight or skipped excepted.
    pub(super) cursor: Stamp,
    /// The highest stamp taken so far: above it nothing needs looking up.
    pub(super) reached: Stamp,
    /// Loaded, queued or sent, and not answered.
    pub(super) in_flight: Flight,
    /// Not for this session: refused, too large, damaged.
    pub(super) skipped: SpreadSet<Place>,
    /// Of those, the ones to be noted about the message, or counted against it.
    pub(super) refused: Vec<(Place, Refusal)>,
    /// Of those, the large ones whose parts are still to be read.
    pub(super) feeds: Feeds,
    pub(super) loading: bool,
    /// Number in flight of the first message that is loading.
    pub(super) loading_from: u64,
    /// The last load was answered at once.
    pub(super) prompt: bool,
    /// Answered 200, tombstone not yet appended; or somebody else is deleting it, and it is not known yet whether that succeeds.
    pub(super) delivered: Vec<Locator>,
    /// Something that its client has whole was to be deleted.
    pub(super) contested: bool,
    /// What becomes of them.
    pub(super) afterwards: Afterwards,
    /// Tombstones that are not durable yet.
    pub(super) retiring: usize,
    pub(super) end: Option<End>,
    /// The client's BYE, and what it will be answered.
    pub(super) farewell: Option<(Reply, Bytes)>,
    pub(super) cautious: bool,
    pub(super) armed: Option<(TimerKey, Tick)>,
    /// SIGTERM: nothing more is begun, answers under way are waited for.
    pub(super) leaving: bool,
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

/// What is still owed to a call that is over: the ACK for a 2xx that comes again, or, where the INVITE was given up before
/// its answer, ACK and BYE for the first.
pub(super) struct Late {
    pub(super) to_tag: Vec<u8>,
    /// Empty until there is a 2xx.
    pub(super) ack: Bytes,
    pub(super) flow: Flow,
    /// The INVITE: from it and a 2xx comes the dialog to be ended.
    pub(super) request: Bytes,
    /// What rang: the numbers that such a dialog has used.
    pub(super) early: Early,
}

/// All pushes of the users at home on this core.
pub struct Pushes {
    pub(super) live: Arena<Push>,
    pub(super) young: Young,
    pub(super) media: Media,
    pub(super) by_user: SpreadMap<UserId, Key>,
    /// Sessions that users set up, beside the one that we may have with them.
    pub(super) retrievals: SpreadMap<UserId, Vec<Key>>,
    pub(super) by_txn: SpreadMap<ClientKey, (Key, Role)>,
    pub(super) by_session: SpreadMap<Bytes, Key>,
    /// Those that may yet be taken back: from their 200 to its ACK.
    pub(super) by_reply: SpreadMap<Reply, Key>,
    pub(super) by_tid: SpreadMap<[u8; 16], Key>,
    pub(super) links: SpreadMap<ConnId, Link>,
    /// Connections that we opened, by where they lead.
    pub(super) dialled: SpreadMap<SocketAddr, ConnId>,
    pub(super) late: SpreadSplitMap<ClientKey, Late>,
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
            young: Young::default(),
            media,
            by_user: SpreadMap::default(),
            retrievals: SpreadMap::default(),
            by_txn: SpreadMap::default(),
            by_session: SpreadMap::default(),
            by_reply: SpreadMap::default(),
            by_tid: SpreadMap::default(),
            links: SpreadMap::default(),
            dialled: SpreadMap::default(),
            late: SpreadSplitMap::default(),
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

    /// All sessions with a user: the push, and what they retrieve.
    pub(super) fn sessions(&self, user: UserId) -> impl Iterator<Item = Key> {
        let retrievals = self.retrievals.get(&user).into_iter().flatten();
        self.by_user.get(&user).into_iter().chain(retrievals).copied()
    }

    /// How far a user's push is, in a few words.
    pub fn stage_of(&self, user: UserId) -> Option<&'static str> {
        let push = self.by_user.get(&user).and_then(|&key| self.live.get(key))?;
        Some(match push.stage {
            Stage::Inviting => "INVITE sent, no final answer yet",
            Stage::Cancelling => "rang too long, CANCEL sent",
            Stage::Waiting => "answered, waiting for the client's connection",
            Stage::Connecting => "answered, connecting to the client",
            Stage::Sending => "sending",
            Stage::Parting => "over, what was acknowledged is being written off",
            Stage::Ending => "BYE sent",
            Stage::Paging => "sending SIP MESSAGEs, the client takes no session",
        })
    }

    /// True when a message is with a client right now.
    pub fn is_in_flight(&self, user: UserId, place: Place) -> bool {
        let mut pushes = self.sessions(user).filter_map(|key| self.live.get(key));
        pushes.any(|push| push.has_in_hand(place))
    }

    /// True when a message's client has acknowledged it, and the log has not heard of it yet.
    pub fn has_delivered(&self, user: UserId, place: Place) -> bool {
        let mut pushes = self.sessions(user).filter_map(|key| self.live.get(key));
        pushes.any(|push| push.delivered.iter().any(|had| had.place() == place))
    }

    /// True when a session knows a message by its place: it is with the client, or was refused by it. What a retrieval has yet to send
    /// it knows by its stamp, and what is being written off [`Users`] knows.
    pub fn holds(&self, user: UserId, place: Place) -> bool {
        let mut pushes = self.sessions(user).filter_map(|key| self.live.get(key));
        pushes.any(|push| push.has_in_hand(place) || push.skipped.contains(&place))
    }

    /// Begins a push: the INVITE goes out. False when it cannot begin now.
    ///
    //= 12.2.2.2-1: the IM Server shall generate an initial SIP INVITE
    pub fn start(&mut self, cx: &mut Cx, owner: &Address, user: UserId, to: Toward, cautious: bool) -> bool {
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
        let offer = super::deliver::offer(cx, &to.flow);
        let session_id = Bytes::copy_from_slice(super::deliver::session_id(&offer.path));
        let until = cx.now.tick + cx.policy.invite_expires;
        let key = self.live.insert_with(|key| {
            let mut call = Call::new(cx, key, owner, to.flow);
            call.sdp = offer.write();
            call.route = to.route;
            Push { cautious, until, young: true, ..Push::new(Way::Push, user, call, offer, cx.policy.after_push) }
        });
        self.by_user.insert(user, key);
        self.by_session.insert(session_id, key);
        self.young.begin(cx.now.tick, key);
        cx.counts.pushes += 1;
        self.invite(cx, key);
        self.live.get(key).is_some()
    }

    /// Sends the INVITE, the first time or again.
    pub(super) fn invite(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        let octets = push.call.invite(cx);
        push.request = octets.clone();
        push.early = Early::default();
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

    /// A user has new messages, the oldest of them stamped `oldest`: a push under way takes them along.
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
            self.feed(cx, key);
            self.page_on(cx, users, key);
            self.end_if_done(cx, users, key);
            self.part_if_written(cx, key);
            self.arm(cx, key);
        }
        for Left { user, mut delivered, afterwards, reason, refused } in std::mem::take(&mut self.left) {
            users.contest(user, afterwards, &mut delivered);
            for (place, refusal) in refused {
                users.refused(place, refusal);
            }
            users.delivered(cx, afterwards, WrittenOff::of(user, delivered, reason));
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

    /// Sets the push's one timer to the earliest of what it waits for. A timer that fires early does no harm.
    fn arm(&mut self, cx: &mut Cx, key: Key) {
        let Some(push) = self.live.get_mut(key) else { return };
        let mut at = push.until;
        // What is looked at only while the session is up must not ring when it is over: it would ring without end.
        let deadline = push.session.as_ref().filter(|_| push.stage == Stage::Sending).and_then(Session::deadline);
        at = at.min(deadline.unwrap_or(Tick::NEVER));
        if let Some(refresh) = push.refresh.as_ref().filter(|_| push.stage.is_up()) {
            at = at.min(refresh.deadline());
        }
        if let Some(unacked) = &push.unacked {
            at = at.min(unacked.until);
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
        self.unacknowledged(cx, key);
        let Some(push) = self.live.get_mut(key) else { return };
        if push.until <= now {
            match push.stage {
                // Nobody answered within `Expires`: CANCEL.
                Stage::Inviting => self.hang_up(cx, key, End::Transient(None)),
                Stage::Waiting | Stage::Connecting => self.hang_up(cx, key, End::Transient(None)),
                Stage::Cancelling | Stage::Ending | Stage::Paging => self.finish(cx, key, End::Transient(None)),
                // What the log does not take now, it is offered until it does; nobody is sent it again meanwhile.
                Stage::Sending if push.idle == Idle::Unwritten => {
                    push.end = push.end.or(Some(End::Completed));
                    self.bye(cx, key);
                }
                Stage::Parting => self.last_word(cx, key),
                // Behind a relay, without the REPORT 000 200, delivery is not confirmed: the message waits on.
                Stage::Sending => self.hang_up(cx, key, End::Transient(None)),
            }
        }
        self.session_turn(cx, key);
        self.session_timer(cx, key);
        self.touch(key);
    }
}

impl Push {
    /// One whose INVITE is about to be sent, or has just come.
    pub(super) fn new(way: Way, user: UserId, call: Call, offer: Offer, afterwards: Afterwards) -> Push {
        Push {
            way,
            user,
            call,
            stage: Stage::Inviting,
            until: Tick::NEVER,
            idle: Idle::No,
            invite: None,
            paged: None,
            request: Bytes::new(),
            dialog: None,
            early: Early::default(),
            ack: None,
            unacked: None,
            revocable: None,
            refresh: None,
            refresh_wish: None,
            offering: false,
            passive: true,
            young: false,
            redirected: false,
            referred: false,
            session_id: Bytes::copy_from_slice(super::deliver::session_id(&offer.path)),
            offer,
            peer_path: Bytes::new(),
            choice: Choice::default(),
            session: None,
            conn: None,
            bound_early: false,
            cursor: Stamp(0),
            reached: Stamp(0),
            in_flight: Flight::default(),
            skipped: SpreadSet::default(),
            refused: Vec::new(),
            feeds: Feeds::default(),
            loading: false,
            loading_from: 0,
            prompt: false,
            delivered: Vec::new(),
            contested: false,
            afterwards,
            retiring: 0,
            end: None,
            farewell: None,
            cautious: false,
            armed: None,
            leaving: false,
            touched: false,
        }
    }

    /// True when this push has dealt with a message, or is about to.
    pub(super) fn has_taken(&self, locator: &Locator) -> bool {
        if locator.stamp() > self.reached {
            return false;
        }
        let place = locator.place();
        self.in_flight.contains(place)
            || self.skipped.contains(&place)
            || self.delivered.iter().any(|had| had.place() == place)
    }

    /// A message is not for this session any more, and no answer to it counts.
    pub(super) fn forgo(&mut self, token: u64) {
        self.in_flight.end(token);
        if let Some(session) = &mut self.session {
            session.withdraw(token);
        }
    }

    /// True when a message is on its way through this session.
    pub(super) fn has_in_hand(&self, place: Place) -> bool {
        self.in_flight.contains(place) || self.delivered.iter().any(|had| had.place() == place)
    }

    /// True when the log has heard of everything that its client acknowledged.
    pub(super) fn is_written(&self) -> bool {
        self.delivered.is_empty() && self.retiring == 0
    }

    /// What it waits for now.
    pub(super) fn idle_for(&self) -> Idle {
        let Some(session) = &self.session else { return Idle::No };
        if session.is_paused() {
            Idle::Held
        } else if session.is_idle() && session.unreported() > 0 {
            Idle::Unreported
        } else if session.is_idle() && !self.loading && self.in_flight.is_empty() && !self.is_written() {
            Idle::Unwritten
        } else {
            Idle::No
        }
    }

    /// The oldest message it has not taken.
    pub(super) fn next(&self, users: &Users) -> Option<Locator> {
        if let Way::Retrieval { wanted, .. } = &self.way {
            return wanted.front().copied();
        }
        users.new_from(self.user, self.cursor).find(|locator| !self.has_taken(locator))
    }
}
