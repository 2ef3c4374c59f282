//! Triggers: who is there, who wants deliveries, and when the next push may begin (12.2.2.2).
//!
//! A PUBLISH of presence or of the IM service settings is kept as RFC 3903 says, is durable before it is answered, and is then
//! a reason to look whether messages wait.

mod line;
mod pending;
mod people;
pub mod register;
mod seen;

pub(super) use line::Young;

use super::bindings::Bindings;
use super::cx::{Commit, Cx, Published, Reply, Timer};
use super::identity::Address;
use super::invite::Toward;
use super::kept::{decode, encode};
use super::push::{End, Ended, Pushes};
use super::respond::{self, Refusal};
use super::users::{self, Users};
use super::{outcome, policy::Policy};
use crate::base::clock::{Tick, Wall};
use crate::base::net::Flow;
use crate::base::timers::TimerKey;
use crate::proto::sip::publication::{Publications, PublishRequest, Refusal as Unpublished};
use crate::store::directory::UserId;
use crate::store::record::StateKind;
use crate::store::states::StateKey;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::{pidf, settings};
use pending::{Known, Pending};
use people::People;
use std::time::Duration;

/// Event packages as [`Publications`] counts them.
const PRESENCE: u8 = 0;
const SETTINGS: u8 = 1;

/// What was published.
const NO: u8 = 0;
const YES: u8 = 1;
/// A settings document that says nothing about deferred messages.
const SILENT: u8 = 2;

/// After a crossed request both sides wait 2.1 to 4 s, in units of 10 ms (RFC 3261 14.1).
const GLARE_MS: (u64, u64) = (2_100, 4_000);

/// When all sessions of the core are taken, a user's push is tried again after 2 to 10 s, in milliseconds.
const FULL_MS: (u64, u64) = (2_000, 10_000);

/// Between the pushes that a restart finds due: a thousand a second, so that a start is not a storm.
const RESTART_PACE: Duration = Duration::from_millis(1);

/// Why a push may be due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A PUBLISH with a document, or a REGISTER of somebody who was not there.
    Fresh,
    /// One that only refreshes.
    Refresh,
    /// A message came for someone who is online.
    Arrival,
    /// The time set for the next attempt has come.
    Time,
    /// Those who came back before have been rung.
    Turn,
}

/// What keeps the next push back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    Nothing,
    /// Until then; a declined push also ignores refreshes.
    Until {
        at: Tick,
        busy: bool,
    },
    /// Until somebody publishes.
    Trigger,
    /// Until somebody publishes a document: what a client takes does not change by a refresh.
    Document,
}

/// One user who has published something, or whose wish is remembered.
#[derive(Debug)]
struct Presence {
    publications: Publications,
    bindings: Bindings,
    /// Where the last PUBLISH or REGISTER came from.
    flow: Option<Flow>,
    /// The last wish about deliveries, and when it was published.
    wish: Option<(bool, Wall)>,
    hold: Hold,
    /// Failures in a row.
    failures: usize,
    last_attempt: Option<Tick>,
    /// What became of it, for people.
    last_outcome: Option<&'static str>,
    /// A PUBLISH or a REGISTER came while a push was running.
    triggered: Option<Cause>,
    /// A REGISTER is a reason for a push, from then on.
    registered: Option<(Tick, Cause)>,
    cautious: bool,
    /// Waits for the turn of its push.
    in_line: bool,
    timer: Option<(TimerKey, Tick)>,
    /// What was known before each publication that is not durable yet.
    pending: Pending,
}

/// All users with publications whose home this core is.
pub struct Presences {
    users: People,
    users_max: usize,
    line: line::Line,
}

impl Presences {
    /// None; at most `users_max`.
    pub fn new(users_max: usize) -> Presences {
        Presences { users: People::default(), users_max, line: line::Line::default() }
    }

    /// How many users are known.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// A PUBLISH for `owner`: decided here, answered when it is durable.
    pub fn publish(&mut self, cx: &mut Cx, reply: Reply, message: &Message, flow: Flow, owner: Address, by: &Address) {
        if let Err(refusal) = self.take_in(cx, reply, message, flow, owner, by) {
            cx.counts.refused += 1;
            let octets = refusal.response(cx, message, flow.peer());
            cx.respond(reply, refusal.status, octets);
        }
    }

    fn take_in(
        &mut self,
        cx: &mut Cx,
        reply: Reply,
        message: &Message,
        flow: Flow,
        owner: Address,
        by: &Address,
    ) -> Result<(), Refusal> {
        let unknown = respond::unsupported(message, &[]);
        if !unknown.is_empty() {
            return Err(Refusal::of(420).with(Name::Unsupported, unknown));
        }
        //= RFC 3903 6-2: Event missing or not understood: 489 with Allow-Events
        let event = message.header(Name::Event).map(respond::media_type).and_then(|event| event_of(&cx.policy, event));
        let Some(event) = event else {
            return Err(Refusal::of(489).with(Name::AllowEvents, allow_events(&cx.policy)));
        };
        //= RFC 3903 6: the publisher is authorised: only the owner publishes, else 403
        if *by != owner {
            return Err(Refusal::of(403));
        }
        let value = match message.body() {
            b"" => Ok(None),
            body => value_of(cx, message, event, body, &owner).map(Some),
        };
        if !self.users.contains_key(&owner) && self.users.len() >= self.users_max {
            cx.counts.overloads += 1;
            return Err(Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S));
        }

        let now = cx.now.wall;
        let tags: Vec<&[u8]> = message.values(Name::SipIfMatch).collect();
        // A document that is refused stands for some value until the steps before it have had their say.
        let document = value.as_ref().ok().copied().unwrap_or(Some(NO));
        let request = PublishRequest { event, if_match: &tags, expires: message.expires(), value: document };
        let mut publications = self.users.get(&owner).map_or_else(Publications::new, |user| user.publications.clone());
        let change =
            publications.publish(now, &request, cx.policy.publish_expires.into(), &mut cx.dice).map_err(|refusal| {
                match refusal {
                    Unpublished::IntervalTooBrief { min } => Refusal::of(423).with(Name::MinExpires, min.to_string()),
                    other => Refusal::of(other.status()),
                }
            })?;
        //= RFC 3903 6: the entity-tag (412) and the expiration (423) are looked at before the body (415)
        let value = value?;
        publications.expire(now);

        let wish = match (event, value) {
            (SETTINGS, Some(YES)) => Some((true, now)),
            (SETTINGS, Some(NO)) => Some((false, now)),
            _ => self.users.get(&owner).and_then(|user| user.wish),
        };
        let triggers = change.expires_s() > 0 && !(event == PRESENCE && value == Some(NO));
        let mut bindings = self.users.get(&owner).map(|user| user.bindings.clone()).unwrap_or_default();
        // Whoever publishes is there, whatever a core said before.
        bindings.gone &= !triggers;
        let mut value_octets = Vec::new();
        encode(&mut value_octets, Some(flow), wish, &bindings, &publications);
        let (seq, state) = cx.set_state(key_of(&owner), &value_octets).map_err(|_| {
            cx.counts.overloads += 1;
            Refusal::of(503).retry_after(respond::STORAGE_RETRY_AFTER_S)
        })?;

        let peer = flow.peer();
        //= RFC 3903 6-6: the 200 MUST contain an Expires header field and a SIP-ETag
        let accepted = respond::begin(cx, message, 200, peer)
            .line(Name::Expires, change.expires_s().to_string().as_bytes())
            .line(Name::SipETag, &change.tag())
            .finish();
        let refused = respond::storage_failed(cx, message, peer);
        let user = self.users.or_new(&cx.directory, owner.clone());
        let edition = user.know(Known { publications, flow: Some(flow), wish, bindings });
        let fresh = value.is_some();
        cx.counts.publications += 1;
        let after = Duration::ZERO;
        let published = Published { reply, accepted, refused, owner, fresh, state, edition, triggers, after };
        cx.commit(seq, Commit::Publish(Box::new(published)));
        Ok(())
    }

    /// The publication is durable: answer, then look whether something waits.
    ///
    //= 12.2.2.2: each time an IM Client sends a PUBLISH request the IM Server shall check the settings
    pub fn durable(&mut self, cx: &mut Cx, users: &Users, pushes: &mut Pushes, done: Published) {
        cx.state_durable(&done.state);
        if let Some(user) = self.users.get_mut(&done.owner) {
            user.pending.durable(done.edition);
        }
        cx.respond(done.reply, 200, done.accepted);
        self.look_after(cx, &done.owner);
        if done.triggers {
            let cause = if done.fresh { Cause::Fresh } else { Cause::Refresh };
            if done.after.is_zero() {
                self.evaluate(cx, users, pushes, &done.owner, cause);
            } else if let Some(user) = self.users.get_mut(&done.owner) {
                let (at, before) = user.registered.unwrap_or((cx.now.tick + done.after, cause));
                user.registered = Some((at, if before == Cause::Fresh { before } else { cause }));
                self.watch(cx, &done.owner, None);
            }
        }
    }

    /// The disk failed under a publication: it was not, and its tag is nobody's.
    ///
    //= RFC 3903 6: atomically: the processing of a PUBLISH that fails leaves the event state as it was
    pub fn failed(&mut self, cx: &mut Cx, lost: Published) {
        cx.state_failed(&lost.state);
        if let Some(user) = self.users.get_mut(&lost.owner) {
            user.take_back(lost.edition);
        }
        cx.respond(lost.reply, 503, lost.refused);
        self.look_after(cx, &lost.owner);
    }

    /// Begins a push if there is a reason, a wish, something to push, and nothing that holds it back.
    pub fn evaluate(&mut self, cx: &mut Cx, users: &Users, pushes: &mut Pushes, owner: &Address, cause: Cause) {
        let Some(user) = self.users.get_mut(owner) else { return };
        let now = cx.now;
        let published = matches!(cause, Cause::Fresh | Cause::Refresh);
        if !published && user.registered.is_some_and(|(at, _)| at > now.tick) {
            return;
        }
        let found = cx.directory.find(owner);
        if let Some(id) = found
            && pushes.is_running(id)
        {
            if published {
                // Somebody is there now, whatever becomes of the push that runs.
                user.triggered = user.triggered.filter(|&earlier| earlier == Cause::Fresh).or(Some(cause));
            }
            return;
        }
        let allowed = match user.hold {
            Hold::Nothing => true,
            Hold::Until { at, busy } => now.tick >= at || cause == Cause::Fresh || cause == Cause::Refresh && !busy,
            Hold::Trigger => published,
            Hold::Document => cause == Cause::Fresh,
        };
        if allowed && published {
            // Somebody is there: what failed before says nothing about now, nor about a message that comes later.
            user.failures = 0;
            user.hold = Hold::Nothing;
        }
        let Some(id) = found.filter(|&id| allowed && users.has_new(id)) else { return };
        //= 12.2.2.2-1: if the "active" attribute of the <offline-delivery> element is set to "true"
        if !user.is_online(now.wall) || !user.wants_delivery(&cx.policy, now.wall) {
            return;
        }
        // At most one attempt per `push_min_interval`: every PUBLISH is a trigger, and a client that refreshes wildly is no reason to ring.
        if let Some(last) = user.last_attempt {
            let next = last + cx.policy.push_min_interval;
            if next > now.tick {
                self.watch(cx, owner, Some(next));
                return;
            }
        }
        let (flow, cautious, route) = (user.flow, user.cautious, user.bindings.route(now.wall));
        let Some(flow) = cx.flow_to(flow) else { return };
        if pushes.is_full() {
            // Its turn comes: sessions end all the time, and each of those who wait asks at another moment.
            cx.counts.overloads += 1;
            let wait = Duration::from_millis(cx.dice.between(FULL_MS.0, FULL_MS.1));
            self.watch(cx, owner, Some(now.tick + wait));
            return;
        }
        if !self.may_begin(pushes, cause) {
            return self.stand_in_line(cx, pushes, owner);
        }
        if pushes.start(cx, owner, id, Toward { flow, route }, cautious)
            && let Some(user) = self.users.get_mut(owner)
        {
            user.last_attempt = Some(now.tick);
        }
    }

    /// Where a user's last PUBLISH or REGISTER came from: the way to their client where there is no SIP/IP core.
    pub fn flow_of(&self, owner: &Address) -> Option<Flow> {
        let user = self.users.get(owner)?;
        user.flow.filter(|_| !user.publications.is_empty() || user.bindings.deadline().is_some())
    }

    /// New messages came for a user: push at once when they are online.
    pub fn arrived(&mut self, cx: &mut Cx, users: &Users, pushes: &mut Pushes, user: UserId) {
        if self.users.may_know(cx.directory.hash_of(user)) {
            let owner = Address::from_canonical(&cx.directory.address(user));
            self.evaluate(cx, users, pushes, &owner, Cause::Arrival);
        }
    }

    /// A push is over: what happens next to its user.
    pub fn ended(&mut self, cx: &mut Cx, users: &Users, pushes: &mut Pushes, ended: Ended) {
        let Some(user) = self.users.get_mut(&ended.owner) else { return };
        user.cautious = ended.cautious;
        let triggered = user.triggered.take();
        user.last_outcome = Some(seen::in_words(ended.end));
        let now = cx.now.tick;
        match ended.end {
            End::Completed => {
                user.failures = 0;
                user.hold = Hold::Nothing;
            }
            End::Transient(retry_after) => {
                user.hold = match outcome::backoff(user.failures, retry_after) {
                    Some(after) => Hold::Until { at: now + after, busy: false },
                    None => Hold::Trigger,
                };
                user.failures += 1;
            }
            End::Busy(retry_after) => user.hold = Hold::Until { at: now + outcome::busy(retry_after), busy: true },
            End::GiveUp => user.hold = Hold::Trigger,
            End::Unfit => user.hold = Hold::Document,
            End::Glare => {
                let wait = Duration::from_millis(cx.dice.between(GLARE_MS.0, GLARE_MS.1));
                user.hold = Hold::Until { at: now + wait, busy: false };
                user.last_attempt = None;
            }
        }
        let next = match user.hold {
            Hold::Until { at, .. } => Some(at),
            _ => None,
        };
        self.watch(cx, &ended.owner, next);
        if ended.end == End::Unfit && cx.policy.pager_fallback && !ended.paged {
            let flow = self.users.get(&ended.owner).and_then(|user| user.flow);
            let flow = cx.flow_to(flow);
            if let (Some(flow), Some(id)) = (flow, cx.directory.find(&ended.owner)) {
                pushes.page(cx, &ended.owner, id, flow);
            }
            return;
        }
        // What came while it ran gets a push of its own: a message after the last look, or a PUBLISH from where the user is
        // now. A refusal is newer than a PUBLISH before it, and what the client has just refused would be refused again.
        let came_later = || {
            let user = cx.directory.find(&ended.owner);
            user.is_some_and(|user| users.new_messages(user).any(|new| !ended.skipped.contains(&new.place())))
        };
        let cause = match ended.end {
            // Who published while MESSAGEs went out may have a better client now, for what did not fit into one.
            End::Completed => came_later().then_some(Cause::Arrival).or(triggered.filter(|_| ended.paged)),
            End::Transient(_) => triggered,
            End::Busy(_) | End::GiveUp | End::Unfit | End::Glare => None,
        };
        if let Some(cause) = cause {
            self.evaluate(cx, users, pushes, &ended.owner, cause);
        }
    }

    /// A user's timer fired.
    pub fn timer(&mut self, cx: &mut Cx, users: &Users, pushes: &mut Pushes, owner: &Address) {
        let now = cx.now.wall;
        let Some(user) = self.users.get_mut(owner) else { return };
        user.timer = None;
        user.publications.expire(now);
        user.bindings.expire(now);
        let registered = user.registered.take_if(|(at, _)| *at <= cx.now.tick);
        self.evaluate(cx, users, pushes, owner, registered.map_or(Cause::Time, |(_, cause)| cause));
        self.look_after(cx, owner);
    }

    /// Sets the user's timer, or forgets who has nothing left.
    fn look_after(&mut self, cx: &mut Cx, owner: &Address) {
        let Some(user) = self.users.get_mut(owner) else { return };
        if user.pending.is_empty() && user.is_over(&cx.policy, cx.now.wall) {
            self.forget(cx, owner);
        } else {
            self.watch(cx, owner, None);
        }
    }

    /// Nothing is left to remember of this user.
    fn forget(&mut self, cx: &mut Cx, owner: &Address) {
        if let Some((timer, _)) = self.users.remove(&cx.directory, owner).and_then(|user| user.timer) {
            cx.timers.cancel(timer);
        }
        cx.end_state(&key_of(owner));
    }

    /// One timer per user: the next publication to expire, the next attempt, the end of what is remembered.
    fn watch(&mut self, cx: &mut Cx, owner: &Address, attempt: Option<Tick>) {
        let memory = cx.policy.settings_memory;
        let Some(user) = self.users.get_mut(owner) else { return };
        let mut at = attempt.unwrap_or(Tick::NEVER);
        if let Hold::Until { at: until, .. } = user.hold
            && until > cx.now.tick
        {
            at = at.min(until);
        }
        if let Some((due, _)) = user.registered {
            at = at.min(due);
        }
        let lives = [user.publications.deadline(), user.bindings.deadline()].into_iter().flatten().min();
        let over = lives.or(user.wish.map(|(_, when)| when + memory));
        if let Some(over) = over {
            at = at.min(users::tick_of(cx, over));
        }
        match user.timer {
            Some((_, armed)) if armed <= at => return,
            Some((timer, _)) => {
                cx.timers.cancel(timer);
            }
            None => {}
        }
        user.timer = (at != Tick::NEVER).then(|| (cx.timers.set(at, Timer::Presence(owner.clone())), at));
    }

    /// What recovery found of a user. `turn` paces the pushes that are due at once.
    pub fn adopt(&mut self, cx: &mut Cx, owner: Address, value: &[u8], turn: u32) {
        let Some((flow, wish, mut bindings, mut publications)) = decode(value) else {
            tracing::error!(?owner, "a stored publication cannot be read; it is forgotten");
            return;
        };
        publications.expire(cx.now.wall);
        bindings.expire(cx.now.wall);
        let mut user = Presence::unknown();
        user.publications = publications;
        user.bindings = bindings;
        // A connection does not survive a restart; an address may.
        user.flow = flow;
        user.wish = wish;
        if user.is_over(&cx.policy, cx.now.wall) {
            // Its time ended while nobody was there to write it down.
            self.forget(cx, &owner);
            return;
        }
        let due = cx.now.tick + RESTART_PACE * turn;
        *self.users.or_new(&cx.directory, owner.clone()) = user;
        self.watch(cx, &owner, Some(due));
    }
}

impl Presence {
    fn unknown() -> Presence {
        Presence {
            publications: Publications::new(),
            bindings: Bindings::default(),
            flow: None,
            wish: None,
            hold: Hold::Nothing,
            failures: 0,
            last_attempt: None,
            last_outcome: None,
            triggered: None,
            registered: None,
            cautious: false,
            in_line: false,
            timer: None,
            pending: Pending::default(),
        }
    }

    /// True when a client of this user is known to be there: any presence that says open; without any presence, any settings that
    /// live, or a registration of a client that takes messages. Nobody is there when a core said so last.
    fn is_online(&self, now: Wall) -> bool {
        if self.bindings.gone {
            return false;
        }
        let mut live = self.publications.iter().filter(|publication| publication.expires > now).peekable();
        let mut any_presence = false;
        let mut any_settings = false;
        for publication in live.by_ref() {
            match publication.event {
                PRESENCE if publication.value == YES => return true,
                PRESENCE => any_presence = true,
                _ => any_settings = true,
            }
        }
        (any_settings || self.bindings.is_capable(now)) && !any_presence
    }

    //= 12.2.2.2-1: shall check the settings: the last modified publication, then the last known wish, then the default
    fn wants_delivery(&self, policy: &Policy, now: Wall) -> bool {
        match self.publications.effective(SETTINGS, now).map(|publication| publication.value) {
            Some(YES) => return true,
            Some(NO) => return false,
            _ => {}
        }
        match self.wish {
            Some((wish, when)) if when + policy.settings_memory > now => wish,
            _ => policy.offline_delivery,
        }
    }

    /// Nothing of this user is left to be kept.
    fn is_over(&self, policy: &Policy, now: Wall) -> bool {
        let lives = !self.publications.is_empty() || self.bindings.deadline().is_some();
        !lives && !self.is_remembered(policy, now)
    }

    fn is_remembered(&self, policy: &Policy, now: Wall) -> bool {
        self.wish.is_some_and(|(_, when)| when + policy.settings_memory > now)
    }
}

/// A user's publications and last wish are one state.
fn key_of(owner: &Address) -> StateKey {
    StateKey { kind: StateKind::Publication, owner: (&owner[..]).into(), key: [].into() }
}

fn event_of(policy: &Policy, event: &[u8]) -> Option<u8> {
    if event.eq_ignore_ascii_case(b"presence") {
        return Some(PRESENCE);
    }
    policy.settings_events.iter().any(|known| event.eq_ignore_ascii_case(known.as_bytes())).then_some(SETTINGS)
}

fn allow_events(policy: &Policy) -> String {
    let mut all = vec!["presence".to_owned()];
    all.extend(policy.settings_events.iter().cloned());
    all.join(", ")
}

//= RFC 3903 6-5: a body whose type the event package does not know: 415 with Accept
fn value_of(cx: &Cx, message: &Message, event: u8, body: &[u8], owner: &Address) -> Result<u8, Refusal> {
    let media = message.content_type().map(respond::media_type).unwrap_or_default();
    if event == PRESENCE {
        if !media.eq_ignore_ascii_case(b"application/pidf+xml") {
            return Err(Refusal::of(415).with(Name::Accept, "application/pidf+xml"));
        }
        let presence = pidf::open(body).map_err(|_| Refusal::of(400))?;
        return Ok(if presence.im_open { YES } else { NO });
    }
    if !cx.policy.settings_types.iter().any(|known| media.eq_ignore_ascii_case(known.as_bytes())) {
        return Err(Refusal::of(415).with(Name::Accept, cx.policy.settings_types.join(", ")));
    }
    match settings::offline_delivery(body, owner).map_err(|_| Refusal::of(400))? {
        Some(true) => Ok(YES),
        Some(false) => Ok(NO),
        None => Ok(SILENT),
    }
}
