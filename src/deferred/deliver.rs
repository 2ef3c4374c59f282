//! The MSRP side of a push: one SEND per deferred message, answered, written off (12.2.2.5).

use super::cx::{Ask, Cx};
use super::offered::{self, Useless};
use super::payload::{self, Unfit};
use super::policy::Afterwards;
use super::push::{End, Link, Pushes, Stage};
use super::refusals::Refusal;
use super::users::{Users, WrittenOff};
use crate::base::arena::Key;
use crate::base::clock::Now;
use crate::base::gather::Gather;
use crate::base::net::{ConnId, Flow};
use crate::proto::msrp::session::{self, Reach, Session, SessionEvent, SessionSetup};
use crate::proto::sip::offer::{Answer, Offer};
use crate::store::directory::UserId;
use crate::store::record::Locator;
use crate::wire::msrp::head::{Method, RequestHead};
use crate::wire::msrp::uri::MsrpUri;
use bytes::Bytes;
use std::net::SocketAddr;

/// From 1900, where NTP counts from, to 1970 (RFC 8866 5.2 suggests NTP time for the o-line).
const NTP_OFFSET_S: u64 = 2_208_988_800;

/// Our side of a new session with the client at the other end of `flow`.
///
//= 12.2.2.2-1g: SDP offer according to RFC 3264; a media 'sendonly' attribute that modifies the "m=message" line
pub(super) fn offer(cx: &mut Cx, flow: &Flow) -> Offer {
    let is_v4 = flow.peer().ip().to_canonical().is_ipv4();
    let listeners = &cx.addresses.msrp;
    let at = listeners.iter().position(|(addr, _)| addr.is_ipv4() == is_v4).unwrap_or(0);
    let (port, host) = listeners.get(at).map_or((0, ""), |(addr, host)| (addr.port(), host.as_str()));
    // RFC 4975 14.1: at least 80 bits of randomness in the session-id.
    let id = cx.dice.hex::<20>();
    Offer {
        session_id: cx.now.wall.seconds() + NTP_OFFSET_S,
        version: 1,
        host: host.as_bytes().to_vec(),
        port,
        path: Offer::path(host.as_bytes(), port, &id),
        profile: payload::profile(&cx.policy),
    }
}

/// The session-id of a path of ours.
pub(super) fn session_id(path: &[u8]) -> &[u8] {
    MsrpUri::parse(path).ok().and_then(|uri| uri.session_id).unwrap_or_default()
}

impl Pushes {
    /// The client answered: set the session up, and connect if that is ours to do (RFC 6135).
    pub(super) fn begin_session(&mut self, cx: &mut Cx, key: Key, answer: Answer, is_rcs: bool) {
        let way = self.way(&answer);
        let Some(push) = self.live.get_mut(key) else { return };
        push.stage = Stage::Waiting;
        let usable = offered::forms(cx, push.offer.profile, &answer, is_rcs).and_then(|choice| Ok((choice, way?)));
        let (choice, connect_to) = match usable {
            Ok(usable) => usable,
            Err(Useless::NoForm) => {
                tracing::info!(owner = ?push.call.owner, "the client accepts no type that messages can have");
                return self.hang_up(cx, key, End::Unfit);
            }
            Err(Useless::Elsewhere) => {
                cx.counts.connects_forbidden += 1;
                tracing::warn!(owner = ?push.call.owner, path = %String::from_utf8_lossy(&answer.peer_path),
                    "the client's MSRP path is outside msrp.connect_allow");
                return self.hang_up(cx, key, End::GiveUp);
            }
        };
        push.choice = choice;
        let active = connect_to.is_some();
        push.passive = !active;
        push.peer_path = Bytes::from(answer.peer_path);
        let session = Session::new(
            SessionSetup {
                local_path: Bytes::from(push.offer.path.clone()),
                peer_path: push.peer_path.clone(),
                active,
                chunk_max: self.media.chunk_max,
                window_messages: self.media.window_messages,
                window_octets: self.media.window_octets,
                tx_timeout: self.media.tx_timeout,
                max_size: answer.max_size,
                cautious: push.cautious,
            },
            &mut cx.dice,
        );
        self.by_tid.insert(session.tid_prefix(), key);
        push.session = Some(session);
        push.until = cx.now.tick + self.media.bind_timeout;
        match connect_to {
            None => {
                // A client may connect and bind before its 200 has come to us by another way.
                if push.conn.is_some() && push.bound_early {
                    if let Some(session) = &mut push.session {
                        session.bound_early();
                    }
                    self.bound(key);
                }
            }
            Some(to) => {
                push.stage = Stage::Connecting;
                self.connect(cx, key, to);
            }
        }
        self.touch(key);
    }

    /// We are the active side: connect to the client, or share a connection that exists.
    fn connect(&mut self, cx: &mut Cx, key: Key, to: SocketAddr) {
        let Some(push) = self.live.get_mut(key) else { return };
        // It said that we connect, and has connected itself: its answer counts.
        if let Some(early) = push.conn.take() {
            self.unlink(cx, key, early);
        }
        let shared = self.dialled.get(&to).copied();
        let shared = shared.filter(|conn| self.links.get(conn).is_some_and(|link| !link.sessions.is_empty()));
        let conn = match shared {
            Some(conn) => conn,
            None => {
                // Some clients accept only a connection whose source port is that of our a=path (`manual::peers`).
                let bind = cx.addresses.msrp.iter().map(|&(addr, _)| addr).find(|addr| addr.is_ipv4() == to.is_ipv4());
                let conn = cx.dial(to, bind.filter(|_| self.media.bind_source), true);
                self.dialled.insert(to, conn);
                conn
            }
        };
        let Some(push) = self.live.get_mut(key) else { return };
        push.conn = Some(conn);
        let link = self.links.entry(conn).or_default();
        link.remote = Some(to);
        link.sessions.push(key);
        if link.open {
            self.opened(cx, key);
        }
    }

    /// A connection we asked for is there.
    pub fn connected(&mut self, cx: &mut Cx, conn: ConnId) {
        let Some(link) = self.links.get_mut(&conn) else {
            cx.asks.push_back(Ask::Hangup(conn));
            return;
        };
        link.open = true;
        for key in link.sessions.clone() {
            self.opened(cx, key);
        }
    }

    fn opened(&mut self, cx: &mut Cx, key: Key) {
        if let Some(push) = self.live.get_mut(key)
            && push.stage == Stage::Connecting
            && let Some(session) = &mut push.session
        {
            session.connected(cx.now.tick);
            push.stage = Stage::Sending;
            push.until = crate::base::clock::Tick::NEVER;
            self.grown_up(key);
            self.touch(key);
        }
    }

    /// A connection could not be opened, or is gone: all its sessions have failed.
    pub fn disconnected(&mut self, cx: &mut Cx, conn: ConnId) {
        let Some(link) = self.links.remove(&conn) else { return };
        if let Some(remote) = link.remote
            && self.dialled.get(&remote) == Some(&conn)
        {
            self.dialled.remove(&remote);
        }
        for key in link.sessions {
            if let Some(push) = self.live.get_mut(key) {
                push.conn = None;
                push.bound_early = false;
                // Before its answer a client may come again by another connection.
                if push.stage != Stage::Inviting {
                    self.hang_up(cx, key, End::Transient(None));
                }
            }
        }
    }

    /// A session does not use this connection any more; the last one out has it closed.
    pub(super) fn unlink(&mut self, cx: &mut Cx, key: Key, conn: ConnId) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.sessions.retain(|&other| other != key);
            if link.sessions.is_empty() {
                cx.asks.push_back(Ask::Hangup(conn));
            }
        }
    }

    /// A request from a client on `conn`: finds its session, binds the connection to it if it is the first, and lets the
    /// session answer. `None` when it was answered here; else the session that takes the request's body.
    ///
    //= RFC 4975 7.3: if the session-id does not match, 481; bound to another connection, 506
    pub fn request(
        &mut self,
        cx: &mut Cx,
        conn: ConnId,
        head: &RequestHead,
        buf: &[u8],
        out: &mut Gather,
    ) -> Option<Key> {
        let to_path = head.to_path.of(buf);
        let found = MsrpUri::parse(to_path).ok().and_then(|uri| {
            let key = *self.by_session.get(uri.session_id?)?;
            let push = self.live.get(key)?;
            let ours = MsrpUri::parse(&push.offer.path).ok()?;
            uri.equals(&ours).then_some(key)
        });
        let Some(key) = found else {
            session::respond_stateless(out, head, buf, 481);
            return None;
        };
        let push = self.live.get_mut(key)?;
        match push.conn {
            Some(bound) if bound != conn => {
                session::respond_stateless(out, head, buf, 506);
                return None;
            }
            Some(_) => {}
            None if matches!(push.stage, Stage::Inviting | Stage::Waiting) => {
                push.conn = Some(conn);
                let link = self.links.entry(conn).or_default();
                link.open = true;
                link.sessions.push(key);
            }
            None => {
                session::respond_stateless(out, head, buf, 481);
                return None;
            }
        }
        let push = self.live.get_mut(key)?;
        match &mut push.session {
            Some(session) => {
                session.request(cx.now.tick, head, buf, &mut self.events);
                self.absorb(cx, key);
                Some(key)
            }
            None => {
                // Early: the SIP answer is still on its way. The binding stands.
                push.bound_early |= head.method == Method::Send;
                session::respond_stateless(out, head, buf, 200);
                None
            }
        }
    }

    /// The client's first SEND came: messages may flow.
    fn bound(&mut self, key: Key) {
        self.grown_up(key);
        if let Some(push) = self.live.get_mut(key)
            && push.stage == Stage::Waiting
        {
            push.stage = Stage::Sending;
            push.until = crate::base::clock::Tick::NEVER;
            self.touch(key);
        }
    }

    /// Octets of a request's body.
    pub fn request_data(&mut self, key: Key, octets: &[u8]) {
        if let Some(session) = self.live.get_mut(key).and_then(|push| push.session.as_mut()) {
            session.data(octets);
        }
    }

    /// The end of a request.
    pub fn request_end(&mut self, cx: &mut Cx, key: Key, flag: u8) {
        if let Some(session) = self.live.get_mut(key).and_then(|push| push.session.as_mut()) {
            session.end(cx.now.tick, flag, &mut self.events);
            self.absorb(cx, key);
        }
    }

    /// A response on `conn`; one that belongs to no session of that connection is ignored.
    pub fn answered(&mut self, cx: &mut Cx, conn: ConnId, tid: &[u8], status: u16) {
        let Some(prefix) = tid.first_chunk::<16>() else { return };
        let Some(&key) = self.by_tid.get(prefix) else { return };
        let Some(push) = self.live.get_mut(key) else { return };
        if push.conn != Some(conn) {
            return;
        }
        if let Some(session) = &mut push.session {
            session.response(cx.now.tick, tid, status, &mut self.events);
            self.absorb(cx, key);
        }
    }

    /// Timers of the MSRP session.
    pub(super) fn session_turn(&mut self, cx: &mut Cx, key: Key) {
        if let Some(push) = self.live.get_mut(key)
            && push.stage == Stage::Sending
            && let Some(session) = &mut push.session
        {
            session.turn(cx.now.tick, &mut self.events);
            self.absorb(cx, key);
        }
    }

    /// Takes note of what the session found out.
    fn absorb(&mut self, cx: &mut Cx, key: Key) {
        let (mut failed, mut bound) = (None, false);
        let mut events = std::mem::take(&mut self.events);
        if let Some(push) = self.live.get_mut(key) {
            for event in events.drain(..) {
                match event {
                    SessionEvent::Delivered { token } => {
                        //= RFC 4975 7.1.2: a 200 to the last octet of a message says that the next hop, here the client, has it
                        if let Some(locator) = push.in_flight.end(token) {
                            push.delivered.push(locator);
                            cx.counts.delivered += 1;
                        }
                    }
                    //= RFC 4975 10.6: 415: the sender should not send any further messages with the same content-type in this session
                    SessionEvent::Refused { token, status: 415 } => {
                        let others = push.changes_form(token);
                        failed = failed.or((!others).then_some(End::Unfit));
                    }
                    SessionEvent::Refused { token, status } => {
                        let Some(place) = push.in_flight.end(token).map(|refused| refused.place()) else { continue };
                        // Not again in this session: what came after it is not held up, and the next client may take it.
                        push.skipped.insert(place);
                        let refusal = match status {
                            400 | 423 => Refusal::Unintelligible,
                            413 => Refusal::Unfit(Unfit::TooLarge),
                            _ => Refusal::Declined(status),
                        };
                        push.refused.push((place, refusal));
                        tracing::info!(owner = ?push.call.owner, status, "the client refused a message; it stays");
                    }
                    // Any other request of the client's opens nothing: it has until `bind_timeout` for its SEND.
                    SessionEvent::Bound => bound = true,
                    SessionEvent::Failed(failure) => {
                        tracing::info!(owner = ?push.call.owner, ?failure, "the MSRP session failed");
                        failed = failed.or(Some(End::Transient(None)));
                    }
                    _ => {}
                }
            }
        }
        events.clear();
        self.events = events;
        if bound {
            self.bound(key);
        }
        self.touch(key);
        if let Some(end) = failed {
            self.hang_up(cx, key, end);
        }
    }

    /// Appends one tombstone record for everything that was answered since the last; counts what was refused.
    pub(super) fn write_off(&mut self, cx: &mut Cx, users: &mut Users, key: Key) {
        if let Some(push) = self.live.get_mut(key) {
            if push.afterwards == Afterwards::Retain {
                // Had before, and stays had: nothing is to be written down.
                push.delivered.retain(|locator| !locator.flags().is_had());
            }
            let contested = match push.contested {
                true => users.contest(push.user, push.afterwards, &mut push.delivered),
                false => Vec::new(),
            };
            let gone = std::mem::replace(&mut push.delivered, contested);
            let count = gone.len();
            let off = WrittenOff { session: Some(key), ..WrittenOff::of(push.user, gone, push.way.reason()) };
            if users.delivered(cx, push.afterwards, off) {
                push.retiring += count;
            }
            for (place, refusal) in push.refused.drain(..) {
                if users.refused(place, refusal) {
                    tracing::warn!(owner = ?push.call.owner, ?place, ?refusal,
                        "a message is not pushed any more until the next start; its user can retrieve or delete it");
                }
            }
        }
    }

    /// These messages are being deleted: what is being sent of them ends with `#`. Who has all octets of one may show it, and the
    /// answer to that counts until the deletion is durable: should it fail, nobody is sent the message who has it.
    pub fn withdraw(&mut self, user: UserId, gone: &[Locator]) {
        let keys: Vec<Key> = self.sessions(user).collect();
        for key in keys {
            let Some(push) = self.live.get_mut(key) else { continue };
            for place in gone.iter().map(Locator::place) {
                let Some(token) = push.in_flight.find(place) else { continue };
                let is_paged = push.paged.as_ref().is_some_and(|(_, paged)| *paged == token);
                match push.session.as_ref().and_then(|session| session.reach(token)) {
                    None if !is_paged => {}
                    Some(Reach::Waits) => {}
                    Some(Reach::Begun) => _ = push.skipped.insert(place),
                    None | Some(Reach::Whole) => {
                        push.contested = true;
                        continue;
                    }
                }
                push.forgo(token);
            }
            self.touch(key);
        }
    }

    /// Tombstones of this user are durable, or never will be.
    pub fn retired(&mut self, off: &WrittenOff) {
        if let Some(push) = off.session.and_then(|key| self.live.get_mut(key)) {
            push.retiring -= off.gone.len().min(push.retiring);
        }
        self.look_at(off.user);
    }

    /// Something of this user's is not what it was: their sessions are looked at.
    pub fn look_at(&mut self, user: UserId) {
        let keys: Vec<Key> = self.sessions(user).collect();
        keys.into_iter().for_each(|key| self.touch(key));
    }

    /// Messages of a dismissal are gone: no answer to them counts any more.
    pub fn dismissed(&mut self, user: UserId, gone: &[Locator]) {
        let keys: Vec<Key> = self.sessions(user).collect();
        for key in keys {
            let Some(push) = self.live.get_mut(key).filter(|push| push.contested) else { continue };
            for place in gone.iter().map(Locator::place) {
                if let Some(token) = push.in_flight.find(place) {
                    push.forgo(token);
                }
            }
            self.touch(key);
        }
    }

    /// Frames what the sessions of `conn` have to send, up to `budget` octets: each gets its turn.
    /// How many of their octets were copied.
    pub fn fill(&mut self, now: Now, conn: ConnId, gather: &mut Gather, budget: usize) -> u64 {
        let mut copied = 0;
        let Some(link) = self.links.get_mut(&conn) else { return 0 };
        let count = link.sessions.len();
        if count == 0 || !link.open {
            return 0;
        }
        // Different sessions alternate at chunk borders: a share each, and the first place goes round.
        let share = (budget / count).max(2 * 2048);
        for step in 0..count {
            let key = link.sessions[(link.turn + step) % count];
            let Some(push) = self.live.get_mut(key) else { continue };
            if push.stage != Stage::Sending && !push.stage.is_over() {
                continue;
            }
            if let Some(session) = &mut push.session {
                let before = session.counters().copied;
                // What was framed is answered later: the push looks at its timers and supplies when the turn comes round.
                if session.fill(now.tick, gather, share) > 0 && !push.touched {
                    push.touched = true;
                    self.touched.push(key);
                }
                copied += session.counters().copied - before;
            }
            if gather.len() >= budget {
                break;
            }
        }
        link.turn = (link.turn + 1) % count;
        copied
    }

    /// True when a session uses this connection.
    pub fn uses(&self, conn: ConnId) -> bool {
        self.links.get(&conn).is_some_and(|link: &Link| !link.sessions.is_empty())
    }
}
