//! What must be true, looked at in what the daemon says and hears, and in what its disk holds; nothing of its inside.
//!
//! For every message: sent, stored, accepted (a 202 has left), begun and ended in a session, acknowledged. A violation is kept
//! and ends the run: the seed replays it.

use crate::msrp::{Frame, Reader};
use bytes::{Bytes, BytesMut};
use deferd::base::limits::Limits;
use deferd::base::net::{ConnId, CoreId};
use deferd::wire::sip::cut::{Cut, Found};
use deferd::wire::sip::message::Message as SipMessage;
use deferd::wire::sip::names::Method;
use memchr::memmem;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// An acknowledged message whose tombstone is not durable after this has been forgotten about.
const TOMBSTONE_US: u64 = 5_000_000;

/// Without an answer the transaction of an INVITE ends by itself after 64*T1, some of which may have passed before it was seen
/// to leave.
const UNANSWERED_US: u64 = 21_000_000;

/// What is known of one message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    number: u32,
    user: usize,
    body: Vec<u8>,
    /// Not before this, by the daemon's wall clock, may it vanish undelivered.
    pub(crate) expires_us: Option<u64>,
    /// Sent in more than one transaction.
    twin: bool,
    /// When, in the order of what was observed.
    sent: u64,
    accepted: Option<u64>,
    /// Everything durable that names it: records of it and of its twins.
    stored: Vec<Rc<[u8]>>,
    /// Message-ID and body of its first push.
    pushed: Option<(String, Vec<u8>)>,
    /// Delivered as far as the daemon must know: when.
    acknowledged: Option<u64>,
    /// Delivered as far as the daemon may know, in this life.
    perhaps: bool,
    /// Its client has answered for all of it, at least once.
    delivered: bool,
    /// A start found it waiting, and since then it has not been answered for.
    again: bool,
    /// How often its client could not read it: after three times nobody sends it any more.
    unread: u32,
    /// Its tombstone was found durable.
    gone: bool,
}

impl Message {
    /// One that is about to be sent.
    pub(crate) fn new(number: u32, user: usize, body: Vec<u8>) -> Message {
        Message {
            number,
            user,
            body,
            expires_us: None,
            twin: false,
            sent: 0,
            accepted: None,
            stored: Vec::new(),
            pushed: None,
            acknowledged: None,
            perhaps: false,
            delivered: false,
            again: false,
            unread: 0,
            gone: false,
        }
    }
}

/// A session as its frames show it.
#[derive(Debug, Default)]
struct Session {
    user: usize,
    /// Octets so far, by Message-ID.
    open: BTreeMap<String, Vec<u8>>,
    begun: BTreeSet<u32>,
    /// Outstanding chunks by transaction, and which message they are of.
    chunks: BTreeMap<String, u32>,
    /// Messages of which every chunk has been framed.
    framed: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    /// The daemon may not count what comes from now on.
    over: bool,
}

/// A call: an INVITE of the daemon's and what became of it.
#[derive(Debug)]
struct Call {
    user: usize,
    cseq: u32,
    open: bool,
    tried: u64,
    answered: bool,
    /// The connection it came by is gone: its BYE needs another.
    orphan: bool,
    /// The connection its INVITE went out on: with it an attempt ends.
    via: Option<(CoreId, ConnId)>,
}

/// The oracle.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    messages: BTreeMap<u32, Message>,
    sessions: BTreeMap<String, Session>,
    on_conn: BTreeMap<(CoreId, ConnId), BTreeSet<String>>,
    down: BTreeMap<(CoreId, ConnId), Reader>,
    up: BTreeMap<(CoreId, ConnId), Reader>,
    heard: BTreeMap<(CoreId, ConnId), (Cut, BytesMut)>,
    calls: BTreeMap<Vec<u8>, Call>,
    /// Order of what was observed.
    count: u64,
    violations: Vec<String>,
    wall_max: u64,
    /// A log of this life has failed: what it must not lose it still must not, but it need not forget.
    pub(crate) disk_hurt: bool,
    /// A read has failed: what it was to bring is passed over until the next session.
    pub(crate) unreadable: bool,
    /// There is no SIP core to go through: with a user's connection the way to the user is gone, for a BYE too.
    pub(crate) flows_die: bool,
    pub(crate) max_sizes: BTreeMap<String, u64>,
}

/// `m000123@sim` to 123.
fn number(call_id: &[u8]) -> Option<u32> {
    let digits = call_id.strip_prefix(b"m")?.strip_suffix(b"@sim")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The messages named by the Call-ID lines of some octets.
fn named(octets: &[u8]) -> Vec<u32> {
    let mark = b"\r\nCall-ID: m";
    memmem::find_iter(octets, mark)
        .filter_map(|at| number(octets.get(at + mark.len() - 1..at + mark.len() + 10)?))
        .collect()
}

impl Oracle {
    /// Says what is wrong.
    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The first thing that is wrong.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.violations.first().map_or(Ok(()), |first| Err(first.clone()))
    }

    /// A message leaves its sender for the first time.
    pub(crate) fn sent(&mut self, _now: u64, mut message: Message) {
        self.count += 1;
        message.sent = self.count;
        self.messages.insert(message.number, message);
    }

    /// It leaves once more, in a transaction of its own.
    pub(crate) fn sent_again(&mut self, number: u32, expires_us: Option<u64>) {
        if let Some(message) = self.messages.get_mut(&number) {
            message.twin = true;
            message.expires_us = message.expires_us.min(expires_us);
        }
    }

    /// Octets became durable.
    pub(crate) fn durable(&mut self, octets: &[u8]) {
        let names = named(octets);
        if names.is_empty() {
            return;
        }
        let octets: Rc<[u8]> = octets.into();
        for name in names {
            if let Some(message) = self.messages.get_mut(&name) {
                message.stored.push(octets.clone());
            }
        }
    }

    // ---- SIP ----

    /// The daemon sends SIP on a stream: whole messages.
    pub(crate) fn sip_stream(&mut self, now: u64, core: CoreId, conn: ConnId, octets: &[u8]) {
        let limits = Limits::default();
        let mut cut = Cut::new(&limits);
        let mut rest = octets;
        while !rest.is_empty() {
            let len = match cut.next(rest) {
                Ok(Found::KeepAlive { len, .. }) => len,
                Ok(Found::Message { len, .. }) => {
                    self.sip_down(now, Some((core, conn)), &rest[..len]);
                    len
                }
                other => return self.violation(format!("a send that is not whole SIP messages: {other:?}")),
            };
            rest = &rest[len..];
        }
    }

    /// The daemon sends a SIP message.
    pub(crate) fn sip_down(&mut self, now: u64, via: Option<(CoreId, ConnId)>, octets: &[u8]) {
        self.count += 1;
        let message = match SipMessage::parse(Bytes::copy_from_slice(octets), &Limits::default()) {
            Ok(message) => message,
            Err(fault) => return self.violation(format!("not SIP: {:?}", fault.fault)),
        };
        let call_id = message.call_id().to_vec();
        if !message.is_request() {
            if message.status() == 202
                && message.cseq().1 == Method::Message
                && let Some(number) = number(&call_id)
            {
                self.accept(number);
            }
            return;
        }
        match message.method() {
            Method::Invite if message.to_tag().is_none() => self.invite(now, via, &call_id, &message),
            // With these the daemon has given the call up.
            Method::Bye | Method::Cancel => self.call_over(&call_id),
            _ => {}
        }
    }

    fn accept(&mut self, number: u32) {
        let count = self.count;
        let Some(message) = self.messages.get_mut(&number) else {
            return self.violation(format!("202 for message {number}, which nobody sent"));
        };
        message.accepted.get_or_insert(count);
        if message.stored.is_empty() {
            self.violation(format!("message {number} was answered 202 and is not durable"));
        }
    }

    fn invite(&mut self, now: u64, via: Option<(CoreId, ConnId)>, call_id: &[u8], message: &SipMessage) {
        let uri = String::from_utf8_lossy(message.request_uri()).into_owned();
        let user = uri.strip_prefix("sip:u").and_then(|rest| rest.split('@').next()?.parse::<usize>().ok());
        let Some(user) = user else { return self.violation(format!("an INVITE for {uri}")) };
        let other = self.calls.iter().find(|(id, call)| {
            // Without a SIP core an INVITE to where the user was is given up for one to where the user is; and on a stream
            // that does not drain it may have waited longer than its transaction.
            let counts = call.answered || !self.flows_die && call.via.is_none();
            counts
                && call.user == user
                && call.open
                && id.as_slice() != call_id
                && now < call.tried.saturating_add(UNANSWERED_US)
        });
        if let Some((id, call)) = other {
            let (id, since) = (String::from_utf8_lossy(id).into_owned(), call.tried);
            self.violation(format!("a second push for u{user} while {id}, tried at {since}, is under way"));
        }
        // A repetition changes nothing: Timer B runs from the first. Another CSeq is another attempt.
        let cseq = message.cseq().0;
        if self.calls.get(call_id).is_none_or(|call| call.cseq != cseq) {
            self.calls.insert(
                call_id.to_vec(),
                Call { user, cseq, open: true, tried: now, answered: false, orphan: false, via },
            );
        }
    }

    fn call_over(&mut self, call_id: &[u8]) {
        if let Some(call) = self.calls.get_mut(call_id) {
            call.open = false;
            let user = call.user;
            for session in self.sessions.values_mut().filter(|session| session.user == user) {
                session.over = true;
            }
        }
    }

    /// A core hears octets on a SIP connection.
    pub(crate) fn sip_up_stream(&mut self, now: u64, core: CoreId, conn: ConnId, octets: &[u8]) {
        let (cut, buffer) =
            self.heard.entry((core, conn)).or_insert_with(|| (Cut::new(&Limits::default()), BytesMut::new()));
        buffer.extend_from_slice(octets);
        let mut whole = Vec::new();
        while let Ok(found) = cut.next(buffer) {
            match found {
                Found::More => break,
                Found::KeepAlive { len, .. } => _ = buffer.split_to(len),
                Found::Message { len, .. } => whole.push(buffer.split_to(len)),
            }
        }
        whole.iter().for_each(|octets| self.sip_up(now, octets));
    }

    /// A core hears a SIP message.
    pub(crate) fn sip_up(&mut self, now: u64, octets: &[u8]) {
        self.count += 1;
        let Ok(message) = SipMessage::parse_datagram(Bytes::copy_from_slice(octets), &Limits::default()) else {
            return;
        };
        let call_id = message.call_id().to_vec();
        let refused = !message.is_request() && message.status() >= 300 && message.cseq().1 == Method::Invite;
        if refused || message.is_request() && message.method() == Method::Bye {
            self.call_over(&call_id);
        } else if !message.is_request()
            && message.cseq().1 == Method::Invite
            && let Some(call) = self.calls.get_mut(&call_id)
            && now < call.tried.saturating_add(if call.via.is_some() { UNANSWERED_US / 2 } else { UNANSWERED_US })
        {
            // It lives as long as the dialog does.
            call.tried = u64::MAX / 2;
            call.answered |= message.status() >= 200;
        }
    }

    // ---- MSRP ----

    /// The daemon sends on an MSRP connection.
    pub(crate) fn msrp_down(&mut self, now: u64, core: CoreId, conn: ConnId, octets: &[u8]) {
        let mut frames = Vec::new();
        if let Err(fault) = self.down.entry((core, conn)).or_default().feed(octets, &mut frames) {
            return self.violation(format!("the daemon writes what is not MSRP: {fault}"));
        }
        for frame in frames.iter().filter(|frame| frame.kind == "SEND") {
            self.count += 1;
            let path = frame.header("To-Path").to_owned();
            self.on_conn.entry((core, conn)).or_default().insert(path.clone());
            if !frame.body.is_empty() || frame.flag == b'#' {
                self.chunk(now, path, frame);
            }
        }
    }

    fn chunk(&mut self, now: u64, path: String, frame: &Frame) {
        let user = path.split("/u").nth(1).and_then(|rest| rest.split('s').next()?.parse::<usize>().ok());
        let Some(user) = user else { return self.violation(format!("a SEND to {path}")) };
        let session = self.sessions.entry(path.clone()).or_default();
        session.user = user;
        let id = frame.header("Message-ID").to_owned();
        let (start, total) = frame.range();
        if frame.flag == b'#' {
            session.open.remove(&id);
            return;
        }
        let body = session.open.entry(id.clone()).or_default();
        if start != body.len() as u64 + 1 {
            let so_far = body.len();
            return self.violation(format!("{path}: a chunk from {start} follows {so_far} octets of {id}"));
        }
        body.extend_from_slice(&frame.body);
        let body = body.clone();
        let names = named(&body[..body.len().min(2_048)]);
        let Some(&number) = names.first() else {
            return self.violation(format!("{path}: the first chunk of {id} names no message"));
        };
        session.chunks.insert(frame.tid.clone(), number);
        let first = session.begun.insert(number);
        if start == 1 {
            if first {
                self.began(&path, number, user);
            } else {
                self.violation(format!("{path}: message {number} is sent twice in one session"));
            }
        }
        if frame.flag == b'$' {
            if total.is_some_and(|total| total != body.len() as u64) {
                self.violation(format!("{path}: {id} ends after {} octets of {total:?}", body.len()));
            }
            if let Some(session) = self.sessions.get_mut(&path) {
                session.open.remove(&id);
                session.framed.insert(number);
            }
            self.pushed(now, number, user, id, body);
        }
    }

    /// A message begins in a session: may it, and is it its turn?
    fn began(&mut self, path: &str, number: u32, user: usize) {
        let Some(message) = self.messages.get(&number) else {
            return self.violation(format!("message {number} is pushed and was never sent"));
        };
        if message.user != user {
            return self.violation(format!("message {number} of u{} is pushed to u{user}", message.user));
        }
        if message.stored.is_empty() {
            return self.violation(format!("message {number} is pushed and was not durable"));
        }
        if message.acknowledged.is_some() || message.gone {
            let why = if message.gone { "its tombstone was durable" } else { "it was acknowledged in this life" };
            return self.violation(format!("message {number} is pushed again: {why}"));
        }
        let sent = message.sent;
        let Some(session) = self.sessions.get(path) else { return };
        let earlier = self.messages.values().find(|earlier| {
            earlier.user == user
                && earlier.accepted.is_some_and(|accepted| accepted < sent)
                && !earlier.gone
                && !earlier.perhaps
                && !session.begun.contains(&earlier.number)
                && !self.may_have_expired(earlier)
                && self.max_sizes.get(path).is_none_or(|&max| (earlier.body.len() as u64) + 200 < max)
        });
        if let Some(earlier) = earlier.filter(|_| !self.unreadable) {
            let earlier = earlier.number;
            self.violation(format!(
                "{path}: message {number} comes before {earlier}, which was accepted before it was sent"
            ));
        }
    }

    /// A message has been sent whole: is it what was stored, and what was sent to us?
    fn pushed(&mut self, _now: u64, number: u32, _user: usize, id: String, body: Vec<u8>) {
        let Some(message) = self.messages.get_mut(&number) else { return };
        let mut wrong = Vec::new();
        if !message.stored.iter().any(|stored| memmem::find(stored, &body).is_some()) {
            wrong.push("is not what was stored");
        }
        let inner = [b"\r\n\r\n".as_slice(), &message.body, b"\r\n--dmf-"].concat();
        if memmem::find(&body, &inner).is_none() {
            wrong.push("does not hold the original message");
        }
        match &message.pushed {
            // A twin that reached another core has an id of its own, and a crash may decide anew which of the two is the first.
            Some(_) if message.twin => {}
            Some((known, octets)) if *known != id || *octets != body => wrong.push("is not what was pushed before"),
            Some(_) => {}
            None => message.pushed = Some((id, body)),
        }
        for wrong in wrong {
            self.violation(format!("message {number} as pushed {wrong}"));
        }
    }

    /// A core hears octets on an MSRP connection.
    pub(crate) fn msrp_up(&mut self, now: u64, core: CoreId, conn: ConnId, octets: &[u8]) {
        self.count += 1;
        let mut frames = Vec::new();
        // What a client writes badly is the client's affair.
        let _ = self.up.entry((core, conn)).or_default().feed(octets, &mut frames);
        for frame in frames {
            if let Some(status) = frame.status() {
                self.answered(now, frame.header("From-Path"), &frame.tid, status);
            }
        }
    }

    fn answered(&mut self, now: u64, path: &str, tid: &str, status: u16) {
        let Some(session) = self.sessions.get_mut(path) else { return };
        let Some(number) = session.chunks.remove(tid) else { return };
        match status {
            200..300 => {}
            400 | 413 | 423 => {
                session.refused.insert(number);
                if let Some(message) = self.messages.get_mut(&number) {
                    message.unread += u32::from(status != 413);
                }
            }
            _ => {
                session.over = true;
                session.refused.insert(number);
            }
        }
        // What comes when the daemon has given the session up it may count, or not.
        let sure = !session.over;
        let outstanding = session.chunks.values().any(|other| *other == number);
        if outstanding || !session.framed.contains(&number) || session.refused.contains(&number) {
            return;
        }
        if let Some(message) = self.messages.get_mut(&number) {
            message.acknowledged = message.acknowledged.or(sure.then_some(now));
            message.perhaps = true;
            message.again = false;
            message.delivered = true;
        }
    }

    /// A connection ended: its sessions with it.
    pub(crate) fn conn_over(&mut self, core: CoreId, conn: ConnId) {
        self.down.remove(&(core, conn));
        self.heard.remove(&(core, conn));
        self.up.remove(&(core, conn));
        for call in self.calls.values_mut().filter(|call| call.via == Some((core, conn))) {
            call.open &= call.answered && !self.flows_die;
            call.orphan = true;
        }
        for path in self.on_conn.remove(&(core, conn)).unwrap_or_default() {
            if let Some(session) = self.sessions.get_mut(&path) {
                session.over = true;
            }
        }
    }

    /// The daemon could not connect: what it wanted to say there stays unsaid.
    pub(crate) fn unreachable(&mut self) {
        for call in self.calls.values_mut().filter(|call| call.orphan) {
            call.open = false;
        }
    }

    /// The daemon was told to stop: it says BYE to everybody, heard or not.
    pub(crate) fn stopping(&mut self) {
        for session in self.sessions.values_mut() {
            session.over = true;
        }
    }

    // ---- lives ----

    /// The daemon has died.
    pub(crate) fn died(&mut self) {
        self.down.clear();
        self.up.clear();
        self.on_conn.clear();
        self.heard.clear();
        for call in self.calls.values_mut() {
            call.open = false;
        }
        for session in self.sessions.values_mut() {
            session.over = true;
        }
    }

    /// Recovery found these waiting: nothing accepted may be missing, and what is not there is gone for good.
    pub(crate) fn recovered(&mut self, now: u64, alive: &BTreeMap<u32, &[u8]>) {
        let mut wrong = Vec::new();
        let hurt = std::mem::take(&mut self.disk_hurt);
        self.unreadable = false;
        for number in alive.keys() {
            match self.messages.get(number) {
                None => wrong.push(format!("recovery finds message {number}, which nobody sent")),
                Some(message) if message.gone => {
                    wrong.push(format!("message {number} waits again after a start that found it deleted"));
                }
                Some(message) if !hurt && message.acknowledged.is_some_and(|at| at + TOMBSTONE_US < now) => {
                    wrong.push(format!("message {number} was acknowledged long ago and waits again"));
                }
                Some(_) => {}
            }
        }
        let numbers: Vec<u32> = self.messages.keys().copied().collect();
        for number in numbers {
            let expired = self.messages.get(&number).is_some_and(|message| self.may_have_expired(message));
            let Some(message) = self.messages.get_mut(&number) else { continue };
            if let Some(record) = alive.get(&number) {
                // A commit that was under way may be there whole: it is as good as one that was answered.
                message.stored.push((*record).into());
                message.acknowledged = None;
                message.perhaps = false;
                message.again = true;
                continue;
            }
            if message.accepted.is_some() && !message.delivered && !expired {
                wrong.push(format!("message {number} was accepted, never delivered, and recovery does not find it"));
            }
            // One that was only in flight to the disk may come later; one that was accepted is gone.
            message.again = false;
            message.gone |= message.accepted.is_some();
        }
        self.violations.extend(wrong);
    }

    /// Time passes.
    pub(crate) fn wall(&mut self, wall: u64) {
        self.wall_max = self.wall_max.max(wall);
    }

    fn may_have_expired(&self, message: &Message) -> bool {
        message.expires_us.is_some_and(|at| self.wall_max + 2_000_000 >= at)
    }

    /// True while something of a user's is not delivered.
    pub(crate) fn waits_for(&self, user: usize, _wall: u64) -> bool {
        self.messages.values().any(|message| {
            message.user == user && (message.again && !self.may_have_expired(message) || self.is_missing(message))
        })
    }

    fn is_missing(&self, message: &Message) -> bool {
        message.accepted.is_some() && !message.delivered && message.unread < 3 && !self.may_have_expired(message)
    }

    /// At the end: everything accepted has arrived.
    pub(crate) fn finished(&mut self) {
        let missing: Vec<u32> =
            self.messages.values().filter(|message| self.is_missing(message)).map(|message| message.number).collect();
        if !missing.is_empty() {
            self.violation(format!("accepted and never delivered: {missing:?}"));
        }
    }

    /// True when something was answered for so late that the daemon may have it waiting still, or was refused too often.
    pub(crate) fn is_unsure(&self) -> bool {
        let unsure = |message: &Message| message.perhaps && message.acknowledged.is_none() || message.unread > 0;
        self.messages.values().any(unsure)
    }

    /// Sent, accepted, delivered.
    pub(crate) fn figures(&self) -> (usize, usize, usize) {
        let all = self.messages.values();
        (
            all.clone().count(),
            all.clone().filter(|message| message.accepted.is_some()).count(),
            all.filter(|message| message.delivered).count(),
        )
    }
}
