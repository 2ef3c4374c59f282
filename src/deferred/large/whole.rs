//! The end of a large message: all of it has come, its record is written, and when that is durable its sender hears so.

use super::Larges;
use super::incoming::{Answer, Incoming, Unfit, has_room};
use super::wrap::{self, Content};
use crate::base::gather::Gather;
use crate::base::net::ConnId;
use crate::deferred::admit;
use crate::deferred::cx::{Commit, Cx};
use crate::deferred::encapsulate;
use crate::deferred::owed::Owed;
use crate::deferred::respond;
use crate::deferred::rewrap::CPIM;
use crate::deferred::users::Users;
use crate::store::directory::Arrival;
use crate::store::log::Refused;
use crate::store::reason::Reason;
use crate::store::record::{Draft, Extent, Flags, Locator, extents_of};
use crate::store::stamp::MessageId;
use crate::wire::cpim;
use crate::wire::imdn::Disposition;
use crate::wire::msrp::head::ByteRange;
use crate::wire::msrp::write::{Report, report, response};
use bytes::Bytes;

impl Larges {
    /// Writes a message's record once everything before it is in the log. False while that is to be waited for.
    pub(super) fn join(&mut self, cx: &mut Cx, users: &Users, serial: u64) -> bool {
        let Some(message) = self.messages.get_mut(&serial) else { return true };
        if message.last.is_none() || message.written.is_some() || message.twin {
            return true;
        }
        match message.write(cx, serial, true) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(unfit) => {
                self.refuse(cx, serial, unfit);
                return true;
            }
        }
        let Some(message) = self.messages.get_mut(&serial) else { return true };
        if message.lost {
            self.refuse(cx, serial, Unfit::Storage);
            return true;
        }
        if !is_kept(message) {
            return self.drop_unkept(cx, serial);
        }
        //= RFC 4975 10.6: 415: the request contained a media type that is not understood (inside CPIM, which is seen when it is there)
        if is_cpim(message) && admit::content(cx, CPIM, &message.first).is_err() {
            self.refuse(cx, serial, Unfit::Type);
            return true;
        }
        message.fingerprint = fingerprint(cx, message);
        //= RFC 4975 5.4: the receiver can recognise a message that is sent again by its Message-ID
        if users.has_seen(message.fingerprint, cx.now.tick) {
            cx.counts.duplicates += 1;
            return self.drop_unkept(cx, serial);
        }
        if let Some(twins) = self.twins.get_mut(&message.fingerprint) {
            cx.counts.duplicates += 1;
            message.become_twin(cx);
            twins.push(serial);
            return true;
        }
        match write(cx, serial, message) {
            Ok(is_written) => {
                if is_written {
                    self.twins.insert(message.fingerprint, Vec::new());
                }
                is_written
            }
            Err(unfit) => {
                self.refuse(cx, serial, unfit);
                true
            }
        }
    }

    /// The same message as one whose record is durable now, or never will be, is answered as that is.
    fn end_twins(&mut self, cx: &mut Cx, fingerprint: u64, is_kept: bool) {
        for serial in self.twins.remove(&fingerprint).unwrap_or_default() {
            match is_kept {
                true => _ = self.drop_unkept(cx, serial),
                false => self.refuse(cx, serial, Unfit::Storage),
            }
        }
    }

    /// A message that needs no keeping: answered as if it were kept.
    fn drop_unkept(&mut self, cx: &mut Cx, serial: u64) -> bool {
        if let Some(message) = self.take_message(serial) {
            self.confirm(cx, &message);
            message.discard(cx);
        }
        true
    }

    /// The message's record is durable: its user may see it, its sender is told. What is given back says that it is stored, to a
    /// sender who asked to hear that.
    ///
    //= 12.2.2.3-4: shall store the deferred message in the served IM user's account
    pub fn durable(&mut self, cx: &mut Cx, users: &mut Users, serial: u64) -> Option<Owed> {
        let message = self.take_message(serial)?;
        let (locator, (user, _)) = message.written.zip(message.reserved)?;
        if message.lost {
            // It names parts that are not there: nobody was told that it is kept.
            cx.bury([locator.extent()], Reason::Late);
            self.answer(message.conn, &message.local_path, message.last.as_ref(), 413);
            let fingerprint = message.fingerprint;
            message.discard(cx);
            self.end_twins(cx, fingerprint, false);
            return None;
        }
        cx.counts.accepted += 1;
        cx.counts.large_accepted += 1;
        let parts = message.pieces.parts(&message.records);
        // Octets that came twice: what the later ones replaced is nobody's.
        let used = extents_of(&parts);
        let unused: Vec<Extent> =
            message.records.iter().map(Locator::extent).filter(|extent| used.binary_search(extent).is_err()).collect();
        cx.freed(&unused);
        // False where the same has come as a MESSAGE meanwhile: that its sender was told of.
        let is_new = users.land_large(cx, user, Arrival { locator, fingerprint: message.fingerprint }, parts);
        self.confirm(cx, &message);
        self.end_twins(cx, message.fingerprint, true);
        if let Some(session) = self.live.get_mut(message.session) {
            session.stored.push(locator.stamp());
        }
        //= RFC 5438 8.1: the intermediary MAY send a "stored" notification, only if "processing" was asked for
        let tells = is_new && is_cpim(&message) && cx.policy.processing_imdn;
        let sender = (&message.sender[..], message.head.is_private());
        tells.then(|| Owed::of_cpim(cx, &message.owner, &message.first, sender, Disposition::Stored)).flatten()
    }

    /// The message's record never will be durable.
    pub fn failed(&mut self, cx: &mut Cx, serial: u64) {
        if let Some(fingerprint) = self.messages.get(&serial).map(|message| message.fingerprint) {
            self.refuse(cx, serial, Unfit::Storage);
            self.end_twins(cx, fingerprint, false);
        }
    }

    /// A part is durable. One whose message is given up already is nobody's.
    pub fn part_durable(&mut self, cx: &Cx, serial: u64, extent: Extent) {
        match self.messages.get_mut(&serial) {
            Some(message) if !message.twin => message.durable.push(extent),
            _ => cx.freed(&[extent]),
        }
    }

    /// A part never will be durable.
    pub fn part_failed(&mut self, cx: &mut Cx, serial: u64) {
        let Some(message) = self.messages.get_mut(&serial).filter(|message| !message.twin) else { return };
        message.lost = true;
        // One whose record is written is answered with that.
        if message.written.is_none() {
            self.refuse(cx, serial, Unfit::Storage);
        }
    }

    /// The sender is told: a 200 to the chunk that was the last to come, and a REPORT where one was asked for.
    //= RFC 4975 7.1.2: Success-Report yes: the receiver MUST send a REPORT when it has received the complete message
    fn confirm(&mut self, cx: &mut Cx, message: &Incoming) {
        self.answer(message.conn, &message.local_path, message.last.as_ref(), 200);
        let (Some(to_path), Some(octets)) = (&message.report_to, message.end) else { return };
        let tid = cx.dice.hex::<20>();
        let said = Report {
            tid: &tid,
            to_path,
            from_path: &message.local_path,
            message_id: &message.message_id,
            range: ByteRange { start: 1, end: Some(octets), total: Some(octets) },
            status: 200,
        };
        let mut out = Vec::with_capacity(256);
        report(&mut out, &said);
        self.out.push((message.conn, Bytes::from(out)));
    }

    /// Answers a chunk, where it wants that.
    pub(super) fn answer(&mut self, conn: ConnId, local: &[u8], answer: Option<&Answer>, status: u16) {
        let Some(answer) = answer.filter(|answer| if status == 200 { answer.success } else { answer.failure }) else {
            return;
        };
        let mut out = Vec::with_capacity(256);
        response(&mut out, &answer.tid, status, &answer.reply_to, local);
        self.out.push((conn, Bytes::from(out)));
    }
}

/// "Is composing" and what became of another message say nothing an hour later.
fn is_kept(message: &Incoming) -> bool {
    let outer = respond::media_type(&message.content_type);
    let inner = if is_cpim(message) { cpim::content_media(&message.first) } else { None };
    let passing = [&b"application/im-iscomposing+xml"[..], b"message/imdn+xml"];
    let is_passing = |media: &[u8]| passing.iter().any(|passing| media.eq_ignore_ascii_case(passing));
    !is_passing(outer) && !inner.is_some_and(is_passing)
}

fn is_cpim(message: &Incoming) -> bool {
    respond::media_type(&message.content_type).eq_ignore_ascii_case(CPIM)
}

/// What makes two messages the same: the CPIM Message-ID where there is one, else the session's name and the Message-ID.
fn fingerprint(cx: &Cx, message: &Incoming) -> u64 {
    let mut key = Vec::with_capacity(256);
    let mut part = |octets: &[u8]| {
        key.extend_from_slice(&(octets.len() as u32).to_le_bytes());
        key.extend_from_slice(octets);
    };
    part(&message.owner);
    part(&message.sender);
    match is_cpim(message).then(|| cpim::message_id(&message.first)).flatten() {
        Some(id) => {
            part(b"imdn");
            part(id);
        }
        None => {
            part(b"msrp");
            part(message.head.name());
            part(&message.message_id);
        }
    }
    cx.directory.hash(&key)
}

/// Appends the record that joins the parts. False while the log is to be waited for.
fn write(cx: &mut Cx, serial: u64, message: &mut Incoming) -> Result<bool, Unfit> {
    let Some(octets) = message.end else { return Ok(true) };
    let parts = message.pieces.parts(&message.records);
    let stamp = cx.stamps.next(cx.now);
    let mut random = [0u8; 10];
    cx.dice.fill(&mut random);
    let id = MessageId::new(stamp, random);
    message.hyphens.finish(octets);
    let own = message.last.as_ref().map(|last| last.tid.clone()).unwrap_or_default();
    // The last chunk's, unless that would end the message inside.
    let tid = if message.hyphens.allow(&own) { own } else { cx.dice.hex::<16>().to_vec() };
    let now_s = cx.now.wall.seconds();
    let content = Content {
        tid: &tid,
        message_id: &message.message_id,
        mime: &message.mime,
        content_type: &message.content_type,
        // The headers of the INVITE are no whole request; the mission calls them one.
        part: if cx.policy.compat_part1 { b"message/sip" } else { b"message/sipfrag" },
        octets,
        received_s: now_s,
    };
    let mut wrapped = wrap::wrap(&message.head, &content, id.as_bytes());
    let flags = flags(message);
    if is_cpim(message) {
        encapsulate::put_asked(&mut wrapped.envelope, &message.sender, &message.first);
    }
    let mut body = Gather::new();
    body.put(&wrapped.prefix);
    body.put(&wrapped.suffix);
    //= 12.2.2.3-5: in case of Large Message mode the Expire value MAY be a default value
    let expiry_s = u32::try_from(now_s + cx.policy.expire_large.as_secs()).unwrap_or(u32::MAX);
    let owner = message.owner.clone();
    let draft = Draft {
        owner: &owner,
        stamp,
        random,
        expiry_s,
        fingerprint: message.fingerprint,
        flags,
        envelope: &wrapped.envelope,
        body_type: &wrapped.body_type,
        parts: &parts,
        body,
    };
    if !has_room(cx, draft.octets() as usize) {
        return Ok(false);
    }
    // What its user counts from now on: the record, and each part record once.
    let due = draft.octets() + extents_of(&parts).iter().map(|extent| extent.octets).sum::<u64>();
    let had = message.reserved.map_or(0, |(_, octets)| octets);
    match due.checked_sub(had) {
        Some(more) => message.reserve(cx, more)?,
        None => message.ungrow(cx, had - due),
    }
    match cx.log.append_message(draft) {
        Ok((locator, seq)) => {
            message.written = Some(locator);
            cx.commit(seq, Commit::Large(serial));
            Ok(true)
        }
        Err(Refused::Full) => Ok(false),
        Err(Refused::TooLarge) => Err(Unfit::TooLarge),
        Err(Refused::Poisoned | Refused::DiskFull) => Err(Unfit::Storage),
    }
}

fn flags(message: &Incoming) -> Flags {
    let held = [
        (message.head.is_urgent(), Flags::URGENT),
        (message.head.is_private(), Flags::PRIVATE),
        (message.hyphens.any(), Flags::DASH7),
        (is_cpim(message) && cpim::wants_failure_report(&message.first), Flags::REPORT),
    ];
    held.into_iter().filter(|(holds, _)| *holds).fold(Flags::LARGE, |flags, (_, flag)| flags.with(flag))
}
