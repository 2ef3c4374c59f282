//! The MSRP side of a session in which large messages come: finds the session, takes its chunks, says when to stop reading.

use super::incoming::{Answer, Incoming, Unfit};
use super::{Chunk, Larges, SILENCE, Session, Stage, UNDER_WAY_MAX, wrap};
use crate::base::arena::Key;
use crate::base::gather::Gather;
use crate::base::net::ConnId;
use crate::deferred::admit;
use crate::deferred::cx::Cx;
use crate::deferred::respond;
use crate::deferred::users::Users;
use crate::proto::msrp::receiver::{reply_to, respond_stateless};
use crate::wire::msrp::head::{FailureReport, Method, RequestHead};
use crate::wire::msrp::uri::{self, MsrpUri};
use std::sync::Arc;

impl Larges {
    /// The session of ours that a request names; `None`: somebody else's, or nobody's.
    pub fn claims(&self, head: &RequestHead, buf: &[u8]) -> Option<Key> {
        if self.by_session.is_empty() {
            return None;
        }
        let to = MsrpUri::parse(uri::leftmost(head.to_path.of(buf))).ok()?;
        self.by_session.get(to.session_id?).copied()
    }

    /// A request of the sender's on `conn`, its head in `buf`: binds the connection to its session if it is the first. True when its
    /// content is to follow; else it was answered here.
    ///
    //= RFC 4975 7.3: To-Path will have exactly one URI, which MUST map to an existing session, else 481; bound elsewhere: 506
    pub fn request(
        &mut self,
        cx: &mut Cx,
        conn: ConnId,
        key: Key,
        head: &RequestHead,
        buf: &[u8],
        out: &mut Gather,
    ) -> bool {
        let refused = match self.live.get(key) {
            Some(session) if !uri::same(head.to_path.of(buf), &session.local_path) => 481,
            Some(session) if session.conn.is_some_and(|bound| bound != conn) => 506,
            Some(session) if session.stage != Stage::Ending => 0,
            _ => 481,
        };
        if refused != 0 {
            respond_stateless(out, head, buf, refused);
            return false;
        }
        let Some(session) = self.live.get_mut(key) else { return false };
        if session.conn.is_none() {
            session.conn = Some(conn);
            session.stage = Stage::Open;
            self.links.entry(conn).or_default().push(key);
        }
        let Some(session) = self.live.get_mut(key) else { return false };
        session.until = cx.now.tick + SILENCE;
        let wants = head.failure_report;
        let answer = Answer {
            tid: head.tid.of(buf).to_vec(),
            reply_to: reply_to(head, buf).to_vec(),
            success: wants == FailureReport::Yes,
            failure: wants != FailureReport::No,
        };
        let nothing = Answer { success: false, failure: false, ..answer.clone() };
        let at = head.byte_range.map_or(0, |range| range.start - 1);
        let begun = match head.method {
            //= RFC 4975 7.1.2: MUST NOT send MSRP responses to REPORT requests
            Method::Report => Chunk { message: None, at, answer: nothing, status: None },
            Method::Auth | Method::Other => Chunk { message: None, at, answer, status: Some(501) },
            Method::Send => match self.message_of(cx, key, conn, head, buf) {
                Ok(message) => Chunk { message, at, answer, status: None },
                Err(status) => {
                    //= RFC 4975 10.5: what nobody wants is refused at once, whatever else comes of it
                    if let Some(session) = self.live.get(key) {
                        let local = session.local_path.clone();
                        self.answer(conn, &local, Some(&answer), status);
                    }
                    Chunk { message: None, at, answer: nothing, status: None }
                }
            },
        };
        if let Some(session) = self.live.get_mut(key) {
            session.chunk = Some(begun);
        }
        self.arm(cx, key);
        true
    }

    /// The message that a SEND belongs to, known or new; `None`: it carries nothing, it binds.
    fn message_of(
        &mut self,
        cx: &mut Cx,
        key: Key,
        conn: ConnId,
        head: &RequestHead,
        buf: &[u8],
    ) -> Result<Option<u64>, u16> {
        let Some(session) = self.live.get_mut(key) else { return Err(481) };
        let message_id = head.message_id.of(buf);
        let of_id = |serial: &&u64| {
            self.messages.get(serial).is_some_and(|message| message.last.is_none() && message.message_id == message_id)
        };
        let known = session.messages.iter().find(of_id).copied();
        let content_type = head.content_type.of(buf);
        if known.is_none() && !head.has_body && content_type.is_empty() {
            return Ok(None);
        }
        if message_id.is_empty() || known.is_none() && content_type.is_empty() {
            return Err(400);
        }
        let total = head.byte_range.and_then(|range| range.total);
        if session.refused.iter().any(|refused| refused == message_id)
            || total.is_some_and(|total| total > cx.policy.max_message_size)
        {
            return Err(413);
        }
        if let Some(serial) = known {
            if let Some(message) = self.messages.get_mut(&serial) {
                note_report(message, head, buf);
            }
            return Ok(Some(serial));
        }
        //= RFC 4975 10.6: 415: the request contained a media type that is not understood
        let media = respond::media_type(content_type);
        if !is_media_type(content_type) || admit::content(cx, media, b"").is_err() {
            return Err(415);
        }
        if session.messages.len() >= UNDER_WAY_MAX {
            cx.counts.overloads += 1;
            return Err(413);
        }
        self.serial += 1;
        let Session { owner, sender, head: kept, local_path, .. } = &*session;
        let mut message = Incoming::new(key, conn, owner.clone(), sender.clone(), Arc::clone(kept), local_path.clone());
        message.message_id = message_id.to_vec();
        message.content_type = content_type.to_vec();
        message.mime = wrap::mime_lines(buf);
        note_report(&mut message, head, buf);
        session.messages.push(self.serial);
        self.messages.insert(self.serial, message);
        Ok(Some(self.serial))
    }

    /// Content of the current request.
    pub fn data(&mut self, cx: &mut Cx, key: Key, octets: &[u8]) {
        let Some(session) = self.live.get_mut(key) else { return };
        session.until = cx.now.tick + SILENCE;
        let Some(chunk) = &mut session.chunk else { return };
        let (serial, at) = (chunk.message, chunk.at);
        chunk.at += octets.len() as u64;
        let Some(serial) = serial else { return };
        cx.counts.large_octets += octets.len() as u64;
        let Some(message) = self.messages.get_mut(&serial) else { return };
        if let Err(unfit) = message.take(cx, serial, at, octets) {
            self.refuse(cx, serial, unfit);
        }
    }

    /// The current request is over; `flag` as in its end-line.
    pub fn end(&mut self, cx: &mut Cx, users: &Users, key: Key, flag: u8) {
        let Some(session) = self.live.get_mut(key) else { return };
        let Some(Chunk { message, at, answer, status }) = session.chunk.take() else { return };
        let (conn, local) = (session.conn, session.local_path.clone());
        let Some(conn) = conn else { return };
        let Some(serial) = message else {
            return self.answer(conn, &local, Some(&answer), status.unwrap_or(200));
        };
        let Some(message) = self.messages.get_mut(&serial) else { return };
        match flag {
            b'#' => {
                //= RFC 4975 7.1.1: `#`: the sender has given the message up, and what came of it is of no use
                if let Some(message) = self.take_message(serial) {
                    cx.counts.large_discarded += 1;
                    message.discard(cx);
                }
                return self.answer(conn, &local, Some(&answer), 200);
            }
            //= RFC 4975 7.3.1: the last chunk of a message says how long it is
            b'$' if message.end.is_some_and(|end| end != at) => {
                message.last = Some(answer);
                return self.refuse(cx, serial, Unfit::Senseless);
            }
            b'$' => message.end = Some(at),
            _ => {}
        }
        // Only what is in the log is known to be whole.
        if message.end.is_some() {
            match message.write(cx, serial, true) {
                Ok(true) => {}
                Ok(false) => self.wait(serial),
                Err(unfit) => {
                    message.last = Some(answer);
                    return self.refuse(cx, serial, unfit);
                }
            }
        }
        let Some(message) = self.messages.get_mut(&serial) else { return };
        if !message.has_come() {
            return self.answer(conn, &local, Some(&answer), 200);
        }
        message.last = Some(answer);
        if !self.join(cx, users, serial) {
            self.wait(serial);
        }
    }

    /// The log has no room now: the message goes on when it has.
    fn wait(&mut self, serial: u64) {
        if !self.waiting.contains(&serial) {
            self.waiting.push(serial);
        }
    }

    /// True when this connection is not to be read: what would come has no place to go. It is named by [`Larges::go_on`] when it is.
    pub fn stalls(&mut self, conn: ConnId) -> bool {
        if self.links.is_empty() {
            return false;
        }
        let keys = self.links.get(&conn).map(Vec::as_slice).unwrap_or_default();
        let mut serials = keys.iter().filter_map(|&key| self.live.get(key)).flat_map(|session| &session.messages);
        let is_full = serials.any(|serial| self.messages.get(serial).is_some_and(Incoming::is_full));
        if is_full && !self.stalled.contains(&conn) {
            self.stalled.push(conn);
        }
        is_full
    }

    /// The log may have room again: what waits for it goes on. The connections that are to be read again.
    pub fn go_on(&mut self, cx: &mut Cx, users: &Users) -> Vec<ConnId> {
        for serial in std::mem::take(&mut self.waiting) {
            if !self.join(cx, users, serial) {
                self.wait(serial);
            }
        }
        if self.stalled.is_empty() {
            return Vec::new();
        }
        let mut ready = Vec::new();
        for conn in std::mem::take(&mut self.stalled) {
            let keys = self.links.get(&conn).cloned().unwrap_or_default();
            let serials: Vec<u64> = keys
                .iter()
                .filter_map(|&key| self.live.get(key))
                .flat_map(|session| session.messages.clone())
                .collect();
            for serial in serials {
                let Some(message) = self.messages.get_mut(&serial) else { continue };
                if let Err(unfit) = message.write(cx, serial, false) {
                    self.refuse(cx, serial, unfit);
                }
            }
            if !self.stalls(conn) {
                ready.push(conn);
            }
        }
        ready
    }
}

/// What a SEND wants to hear of its message: any of its chunks may say so.
fn note_report(message: &mut Incoming, head: &RequestHead, buf: &[u8]) {
    if head.success_report {
        message.report_to = Some(head.from_path.of(buf).to_vec());
    }
}

/// `type/subtype`, whatever follows.
fn is_media_type(value: &[u8]) -> bool {
    let is_token = |word: &[u8]| {
        !word.is_empty() && word.iter().all(|octet| octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(octet))
    };
    let media = crate::deferred::respond::media_type(value);
    let at = memchr::memchr(b'/', media).unwrap_or(media.len());
    is_token(media.get(..at).unwrap_or_default()) && is_token(media.get(at + 1..).unwrap_or_default())
}
