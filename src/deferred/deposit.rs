//! Pager-mode deposit: a SIP MESSAGE for a served user is kept (12.2.2.3).
//!
//! Knows policy and order of checks; does not know where the octets came from nor when they reach the disk. The 202 leaves
//! in [`Deposits::durable`], which is called after the commit, never before.

use super::admit;
use super::cx::{Commit, Cx, Deposited, Reply};
use super::encapsulate::{self, DateLine, Memory};
use super::identity::Address;
use super::owed::Owed;
use super::policy::OverQuota;
use super::respond::{self, Refusal};
use super::users::Users;
use crate::base::spread::SpreadMap;
use crate::proto::sip::endpoint::ServerKey;
use crate::store::directory::{Arrival, Refusal as NoRoom, UserId};
use crate::store::log::Refused;
use crate::store::record::{Draft, Flags};
use crate::store::seen::Seen;
use crate::store::stamp::MessageId;
use crate::wire::imdn::Disposition;
use crate::wire::sip::fields;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::{cpim, date};
use std::net::SocketAddr;
use std::time::Duration;

/// A retransmission comes within 64*T1 (RFC 3261 17.1.2.2); what comes later is the home core's to recognise.
const RECENT: Duration = Duration::from_secs(32);

/// Asked of a sender whose addressee's store is full: messages leave it by delivery or expiry, neither of which hurries.
const QUOTA_RETRY_AFTER_S: u32 = 600;

/// A MESSAGE, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whom to answer.
    pub reply: Reply,
    /// What was received.
    pub message: &'a Message,
    /// Where from.
    pub peer: SocketAddr,
    /// Whom it is for.
    pub owner: &'a Address,
    /// Who sent it.
    pub sender: &'a Address,
}

/// The deposits of one core.
#[derive(Debug)]
pub struct Deposits {
    /// Not durable yet, by fingerprint: those who asked again wait with the first.
    pending: SpreadMap<u64, Vec<ServerKey>>,
    /// Fingerprints of what was answered 202 lately and has its home elsewhere: what is at home here is known there.
    accepted: Seen,
    /// What is hashed.
    scratch: Vec<u8>,
    /// The last envelope, for its memory.
    envelope: Vec<u8>,
    /// The Date line of this second.
    date: DateLine,
}

impl Deposits {
    /// Remembers at most `entries_max` fingerprints.
    pub fn new(entries_max: usize) -> Deposits {
        Deposits {
            pending: SpreadMap::default(),
            accepted: Seen::with_horizon(entries_max, RECENT),
            scratch: Vec::new(),
            envelope: Vec::new(),
            date: DateLine::default(),
        }
    }

    /// Takes a MESSAGE in, or answers why not. `users`: those at home here, and what they have had.
    pub fn receive(&mut self, cx: &mut Cx, users: &Users, asked: Asked<'_>) {
        let Asked { reply, message, peer, .. } = asked;
        match self.take_in(cx, users, asked) {
            Ok(Taken::Waits) => {}
            Ok(Taken::Answered(status)) => {
                let octets = respond::plain(cx, message, status, peer);
                cx.respond(reply, status, octets);
            }
            Err(refusal) => {
                cx.counts.refused += 1;
                let octets = refusal.response(cx, message, peer);
                cx.respond(reply, refusal.status, octets);
            }
        }
    }

    fn take_in(&mut self, cx: &mut Cx, users: &Users, asked: Asked<'_>) -> Result<Taken, Refusal> {
        let Asked { reply, message, peer, owner, sender } = asked;
        // Where the user stands comes from memory while everything else is looked at.
        let named = cx.directory.foresee(owner);
        //= RFC 3261 8.2.2.3: if the UAS does not understand an option-tag listed in Require it must answer 420
        let unknown = respond::unsupported(message, &[]);
        if !unknown.is_empty() {
            return Err(Refusal::of(420).with(Name::Unsupported, unknown));
        }
        admit::sender(cx, sender)?;
        admit::receiver(cx, owner)?;
        if cx.policy.pager_fallback && admit::has_looped(cx, message) {
            return Err(Refusal::of(482));
        }
        let body = message.body();
        let content_type = message.content_type();
        if content_type.is_none() && !body.is_empty() {
            return Err(Refusal::of(400));
        }
        if body.len() as u64 > cx.policy.max_message_size {
            return Err(Refusal::of(413));
        }
        let media = content_type.map_or(b"".as_slice(), respond::media_type);
        let is_cpim = media.eq_ignore_ascii_case(b"message/cpim");
        let fingerprint = self.fingerprint(cx, message, owner, sender, is_cpim);
        self.accepted.foresee(fingerprint);
        users.foresee(fingerprint);
        // "Is composing" says nothing an hour later: never stored, answered 200, dropped (RFC 3994).
        let inside = if is_cpim { cpim::content_media(body).unwrap_or_default() } else { media };
        if inside.eq_ignore_ascii_case(b"application/im-iscomposing+xml") {
            return Ok(Taken::Answered(200));
        }
        // A delivery report for someone who is offline says nothing that will still matter.
        if media.eq_ignore_ascii_case(b"message/imdn+xml") || is_cpim && cpim::is_imdn(body) {
            return Ok(Taken::Answered(202));
        }
        admit::content(cx, media, body)?;

        let now_s = cx.now.wall.seconds();
        let expiry_s = expiry(cx, message)?;
        let private = fields::privacy_has_id(message);
        let urgent = message.header(Name::Priority).is_some_and(|priority| {
            priority.eq_ignore_ascii_case(b"urgent") || priority.eq_ignore_ascii_case(b"emergency")
        });
        let report = is_cpim && cpim::wants_failure_report(body);
        cx.directory.foresee_entry(named);
        if self.accepted.check(fingerprint, cx.now.tick) || users.has_seen(fingerprint, cx.now.tick) {
            cx.counts.duplicates += 1;
            return Ok(Taken::Answered(202));
        }
        if let Some(others) = self.pending.get_mut(&fingerprint) {
            cx.counts.duplicates += 1;
            others.push(reply.txn);
            prepare(cx, reply, message, peer);
            return Ok(Taken::Waits);
        }

        let stamp = cx.stamps.next(cx.now);
        let mut random = [0u8; 10];
        cx.dice.fill(&mut random);
        let id = MessageId::new(stamp, random);
        let memory = Memory { body: cx.log.gather(), envelope: std::mem::take(&mut self.envelope) };
        let kept = encapsulate::pager(message, id.as_bytes(), self.date.of(now_s), private, memory);
        let mut flags = Flags::default();
        for (holds, flag) in [
            (urgent, Flags::URGENT),
            (private, Flags::PRIVATE),
            (kept.has_dash7, Flags::DASH7),
            (report, Flags::REPORT),
        ] {
            if holds {
                flags = flags.with(flag);
            }
        }
        let draft = Draft {
            owner,
            stamp,
            random,
            expiry_s,
            fingerprint,
            flags,
            envelope: &kept.envelope,
            body_type: &kept.body_type,
            parts: &[],
            body: kept.body,
        };
        let octets = draft.octets();

        let domain = cx.directory.domains().of(owner);
        if let Some(domain) = domain {
            let (messages, used) = cx.directory.domains().usage(domain);
            // The owner's own older messages may make room for it; somebody else's never do.
            let gives_room = |cx: &Cx| {
                let own = cx.directory.find(owner).map_or((0, 0), |user| cx.directory.usage(user));
                cx.policy.over_quota == OverQuota::DropOldest && own.0 > 0 && own.1 >= octets
            };
            if cx.policy.is_over_domain((messages + 1, used + octets)) && !gives_room(cx) {
                cx.counts.over_domain_quota += 1;
                return Err(Refusal::of(480).retry_after(QUOTA_RETRY_AFTER_S));
            }
        }
        let quota = (cx.policy.quota_messages, cx.policy.quota_octets);
        let mut reserved = cx.directory.reserve_named(named, octets, quota);
        if reserved == Err(NoRoom::OverQuota)
            && cx.policy.over_quota == OverQuota::DropOldest
            && octets <= cx.policy.quota_octets
        {
            // The home core drops the oldest when it takes this one in; until then as much again may be under way.
            let twice = (quota.0.saturating_mul(2), quota.1.saturating_mul(2));
            reserved = cx.directory.reserve_named(named, octets, twice);
        }
        let user = reserved.map_err(|refusal| match refusal {
            NoRoom::OverQuota => {
                cx.counts.over_quota += 1;
                Refusal::of(480).retry_after(QUOTA_RETRY_AFTER_S)
            }
            NoRoom::DirectoryFull => Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S),
        })?;

        if let Some(domain) = domain {
            cx.directory.domains().add(cx.core, domain, 1, octets);
        }
        let appended = cx.log.append_message(draft);
        self.envelope = kept.envelope;
        let (locator, seq) = match appended {
            Ok(appended) => appended,
            Err(refused) => {
                cx.give_up(user, octets);
                return Err(match refused {
                    Refused::TooLarge => Refusal::of(413),
                    Refused::Full => {
                        cx.counts.overloads += 1;
                        Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S)
                    }
                    Refused::Poisoned | Refused::DiskFull => {
                        cx.counts.without_storage += 1;
                        Refusal::of(503).retry_after(respond::STORAGE_RETRY_AFTER_S)
                    }
                });
            }
        };
        self.pending.insert(fingerprint, Vec::new());
        prepare(cx, reply, message, peer);
        //= RFC 5438 8.1: the intermediary MAY send a "stored" notification, only if "processing" was asked for
        let tells = is_cpim && cx.policy.processing_imdn;
        let stored = tells.then(|| Owed::of_message(cx, owner, message, Some(sender), Disposition::Stored));
        let stored = stored.flatten().map(Box::new);
        let deposited = Deposited { txn: reply.txn, user, locator, fingerprint, octets, stored };
        cx.commit(seq, Commit::Deposit(deposited));
        Ok(Taken::Waits)
    }

    /// Says that [`Deposits::durable`] will be called for this fingerprint of somebody whose home is elsewhere.
    pub fn foresee_elsewhere(&self, fingerprint: u64) {
        self.accepted.foresee_insertion(fingerprint);
    }

    /// How many fingerprints of what was answered here are remembered.
    pub fn fingerprints(&self) -> usize {
        self.accepted.len()
    }

    /// The record is on disk: its user may see it, its sender is told. What is given back has its home here and is the caller's to
    /// take in, before anything else is received.
    ///
    //= 12.2.2.3-4: shall store the deferred message in the served IM user's account
    //= RFC 3428 7: 202 Accepted: the message has been accepted but not necessarily delivered
    pub fn durable(&mut self, cx: &mut Cx, done: Deposited) -> Option<(UserId, Arrival)> {
        cx.counts.accepted += 1;
        let arrival = Arrival { locator: done.locator, fingerprint: done.fingerprint };
        let is_home = cx.directory.home_of_user(done.user) == cx.core;
        if !is_home {
            if let Some(home) = cx.directory.publish(done.user, arrival, &mut cx.nodes) {
                cx.asks.push_back(super::cx::Ask::Ring(home));
            }
            self.accepted.insert(done.fingerprint, cx.now.tick);
        }
        let others = self.pending.remove(&done.fingerprint).unwrap_or_default();
        for txn in std::iter::once(done.txn).chain(others) {
            if let Some(accepted) = cx.sip.ready(txn) {
                cx.sip.respond(cx.now.tick, txn, 202, accepted);
            }
        }
        is_home.then_some((done.user, arrival))
    }

    /// The disk failed: no 202, and nobody sees the message. It may survive all the same.
    pub fn failed(&mut self, cx: &mut Cx, lost: &Deposited) {
        cx.counts.refused += 1;
        cx.counts.without_storage += 1;
        cx.give_up(lost.user, lost.octets);
        let others = self.pending.remove(&lost.fingerprint).unwrap_or_default();
        for txn in std::iter::once(lost.txn).chain(others) {
            if let Some(accepted) = cx.sip.ready(txn) {
                cx.sip.respond(cx.now.tick, txn, 503, respond::storage_failed_after_all(&accepted));
            }
        }
    }

    /// What makes two MESSAGEs the same deposit: the CPIM Message-ID where there is one, else Call-ID, CSeq and From tag
    /// (`manual::decisions`, D24); always for this owner.
    fn fingerprint(&mut self, cx: &Cx, message: &Message, owner: &Address, sender: &Address, is_cpim: bool) -> u64 {
        let key = &mut self.scratch;
        key.clear();
        let mut part = |octets: &[u8]| {
            key.extend_from_slice(&(octets.len() as u32).to_le_bytes());
            key.extend_from_slice(octets);
        };
        part(owner);
        part(sender);
        match is_cpim.then(|| cpim::message_id(message.body())).flatten() {
            Some(id) => {
                part(b"imdn");
                part(id);
            }
            None => {
                part(message.call_id());
                part(&message.cseq().0.to_le_bytes());
                part(message.from_tag().unwrap_or_default());
            }
        }
        cx.directory.hash(key)
    }
}

/// Somebody waits for a commit. The 202 is written now, while the request is at hand, and lies ready in the transaction until the
/// commit has ended. So nobody holds on to the receive buffer meanwhile, and the next read goes into the same memory.
fn prepare(cx: &mut Cx, reply: Reply, message: &Message, peer: SocketAddr) {
    debug_assert!(reply.core == cx.core, "the receiving core decides deposits");
    let accepted = respond::plain(cx, message, 202, peer);
    cx.sip.prepare(reply.txn, accepted);
}

enum Taken {
    /// Answered when its record is durable.
    Waits,
    /// Answered at once with this status.
    Answered(u16),
}

/// When the message's time is over, in seconds since 1970.
///
//= 12.2.2.3-5: if the Expires value is below the maximum value per local policy, the Expire value is the one in Expires
//= 12.2.2.3-5: if absent or above the maximum, the Expire value is a default value
//= RFC 3428 7: Expires is relative to Date if there is one (and it is near the truth), else to the receipt
fn expiry(cx: &Cx, message: &Message) -> Result<u32, Refusal> {
    let now_s = cx.now.wall.seconds();
    let asked = message.expires().map(u64::from).filter(|&asked| asked <= cx.policy.expire_max.as_secs());
    let at = match asked {
        None => now_s + cx.policy.expire_pager.as_secs(),
        Some(0) => return Err(Refusal::of(480)),
        Some(asked) => {
            let sent_s = message.header(Name::Date).and_then(date::parse);
            let base = sent_s.filter(|&sent| sent.abs_diff(now_s) <= cx.policy.date_skew.as_secs()).unwrap_or(now_s);
            base + asked
        }
    };
    if at <= now_s {
        return Err(Refusal::of(480));
    }
    Ok(u32::try_from(at).unwrap_or(u32::MAX))
}
