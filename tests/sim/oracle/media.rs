//! What the daemon says and hears in MSRP: each message once in a session, in order, octet for octet as it was stored.

use super::{Oracle, named};
use crate::msrp::Frame;
use deferd::base::net::{ConnId, CoreId};
use memchr::memmem;

impl Oracle {
    /// The daemon sends on an MSRP connection.
    pub(crate) fn msrp_down(&mut self, now: u64, core: CoreId, conn: ConnId, octets: &[u8]) {
        let mut frames = Vec::new();
        if let Err(fault) = self.down.entry((core, conn)).or_default().feed(octets, &mut frames) {
            return self.violation(format!("the daemon writes what is not MSRP: {fault}"));
        }
        for frame in frames.iter().filter(|frame| frame.status() == Some(200)) {
            if let Some(&number) = self.large.get(&frame.tid) {
                self.count += 1;
                self.accept(number);
            }
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
            let is_as_stored = frame.header("Content-Type").starts_with("multipart/mixed");
            self.pushed(now, number, is_as_stored, id, body);
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
        if message.acknowledged.is_some() || message.gone && message.rotten.is_empty() {
            let why = if message.gone { "its tombstone was durable" } else { "it was acknowledged in this life" };
            return self.violation(format!("message {number} is pushed again: {why}"));
        }
        if message.deleted && !message.twin {
            return self.violation(format!("message {number} is pushed after its deletion was answered"));
        }
        let sent = message.sent;
        let Some(session) = self.sessions.get(path) else { return };
        let earlier = self.messages.values().find(|earlier| {
            earlier.user == user
                && earlier.accepted.is_some_and(|accepted| accepted < sent)
                && !earlier.gone
                && !earlier.perhaps
                && !session.begun.contains(&earlier.number)
                && (!session.other_form || !earlier.large)
                && earlier.rotten.is_empty()
                && !self.may_have_expired(earlier)
                && self
                    .max_sizes
                    .get(path)
                    .is_none_or(|&max| (earlier.body.len() as u64) + if earlier.large { 1_000 } else { 200 } < max)
        });
        if let Some(earlier) = earlier.filter(|_| !self.unreadable) {
            let earlier = earlier.number;
            self.violation(format!(
                "{path}: message {number} comes before {earlier}, which was accepted before it was sent"
            ));
        }
    }

    /// A message has been sent whole: is it what was stored, and what was sent to us?
    fn pushed(&mut self, _now: u64, number: u32, is_as_stored: bool, id: String, body: Vec<u8>) {
        let Some(message) = self.messages.get_mut(&number) else { return };
        let mut wrong = Vec::new();
        if !is_as_stored {
            // Another form of it, for a client that did not take the first: its own octets at the end, and the name it always has.
            if !body.ends_with(&message.body) {
                wrong.push("in another form does not hold the original message");
            }
            if message.pushed.as_ref().is_some_and(|(known, _)| *known != id) && !message.twin {
                wrong.push("in another form has another name");
            }
            for wrong in wrong {
                self.violation(format!("message {number} as pushed {wrong}"));
            }
            return;
        }
        // A large one lies in parts.
        if !message.large && !message.stored.iter().any(|stored| memmem::find(stored, &body).is_some()) {
            wrong.push("is not what was stored");
        }
        let behind: &[u8] = if message.large { b"\r\n-------" } else { b"\r\n--dmf-" };
        let inner = [b"\r\n\r\n".as_slice(), &message.body, behind].concat();
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
            } else if frame.kind == "REPORT"
                && !frame.header("Status").starts_with("000 2")
                && let Some(session) = self.sessions.get_mut(frame.header("From-Path"))
            {
                // RFC 4975 7.3.2: octets that were not received; the session has failed, whether it is true or not.
                session.over = true;
            }
        }
    }

    fn answered(&mut self, now: u64, path: &str, tid: &str, status: u16) {
        let Some(session) = self.sessions.get_mut(path) else { return };
        let Some(number) = session.chunks.remove(tid) else { return };
        match status {
            200..300 => {}
            // The type is not taken: it may come again in another form, from its first octet. Where there is none it counts as unread.
            415 => {
                session.other_form = true;
                session.chunks.retain(|_, other| *other != number);
                session.begun.remove(&number);
                if !session.framed.remove(&number) {
                    session.open.clear();
                }
                if let Some(message) = self.messages.get_mut(&number) {
                    message.unread += 1;
                }
                return;
            }
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
        // What comes when the daemon has given the session up it may count, or not; and so what answers the first form after a 415.
        let sure = !session.over && !session.other_form;
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
}
