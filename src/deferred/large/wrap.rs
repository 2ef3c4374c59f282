//! A large message in the form in which it is kept: what stands before its octets and behind them in the later push (12.2.2.5).
//!
//! ```text
//!   --boundary, message/sipfrag: the INVITE's headers      ┐
//!   --boundary, message/msrp: head of one whole SEND       ┘ prefix   in the message's record
//!   the octets                                                        in part records
//!   end-line of the SEND, --boundary--                       suffix   in the message's record
//! ```

use crate::base::span::Span;
use crate::deferred::encapsulate::{self, BODY_TYPE_OCTETS};
use crate::store::loader::Record;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::{date, msrp, scan};
use memchr::memmem;

/// The headers that are delivered, in this order.
//= 12.2.2.5: shall encapsulate the relevant headers: To, From, Date, Subject, Priority, Call-ID, P-Asserted-Identity
const DELIVERED: &[Name] =
    &[Name::To, Name::From, Name::CallId, Name::Date, Name::PAssertedIdentity, Name::Subject, Name::Priority];

/// And those that are kept beside them, for whoever has to know how the message came.
const KEPT: &[Name] = &[Name::Contact, Name::Expires, Name::Privacy, Name::AcceptContact, Name::UserAgent];

/// The same without a name of their own here.
const KEPT_TOO: &[&[u8]] =
    &[b"Conversation-ID", b"Contribution-ID", b"InReplyTo-Contribution-ID", b"P-Asserted-Service"];

/// Of our 200 and of the BYE.
const OF_OTHERS: &[Name] =
    &[Name::From, Name::To, Name::Subject, Name::Date, Name::Contact, Name::Server, Name::Reason];

/// Set in the index of a line of our 200.
const OF_RESPONSE: u16 = 0x4000;

/// And of one of the BYE.
const OF_BYE: u16 = 0x8000;

/// What an INVITE says of all messages of its session.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// `message/sipfrag`.
    fragment: Vec<u8>,
    /// What is kept and not delivered, as lines of an envelope.
    kept: Vec<u8>,
    /// Call-ID and From tag.
    name: Vec<u8>,
    urgent: bool,
    private: bool,
}

impl Head {
    /// Of an INVITE received at `received_s`. `private`: its sender's identity is for nobody's eyes.
    ///
    //= 12.2.2.1-1: shall store the content of the Contact header field
    //= 12.2.2.1-2: shall store relevant headers of SIP INVITE
    //= 12.2.2.5: the original headers, i.e. Call-IDs and message-id in case of MSRP SEND, shall not be altered
    pub(super) fn of(invite: &Message, received_s: u64, private: bool) -> Head {
        let octets = invite.octets();
        let first = octets.get(encapsulate::start_of(octets)..).unwrap_or_default();
        let fragment = first.split_inclusive(|octet| *octet == b'\n').next().unwrap_or_default().to_vec();
        let name = [invite.call_id(), b" ", invite.from_tag().unwrap_or_default()].concat();
        let priority = invite.header(Name::Priority).unwrap_or_default();
        let urgent = [&b"urgent"[..], b"emergency"].iter().any(|word| priority.eq_ignore_ascii_case(word));
        let mut head = Head { fragment, kept: Vec::new(), name, urgent, private };
        for &name in DELIVERED {
            let hidden = private && name == Name::PAssertedIdentity;
            let mut any = false;
            for (index, line) in invite.lines().enumerate().filter(|(_, line)| line.name == name) {
                any = true;
                let whole = line.whole.of(octets);
                if hidden {
                    encapsulate::put_line(&mut head.kept, index as u16, whole);
                } else {
                    head.fragment.extend_from_slice(whole);
                }
            }
            if name == Name::Date && !any {
                encapsulate::date_line(&mut head.fragment, received_s);
            }
        }
        for (index, line) in invite.lines().enumerate() {
            let named = |name: &&[u8]| line.name_bytes.eq_ignore_ascii_case(name);
            if KEPT.contains(&line.name) || KEPT_TOO.iter().any(named) {
                encapsulate::put_line(&mut head.kept, index as u16, line.whole.of(octets));
            }
        }
        head
    }

    /// The name of the session among its sender's.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its messages are pushed before others, if anybody asks.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Their sender asked for privacy.
    pub(super) fn is_private(&self) -> bool {
        self.private
    }

    /// Adds what our 200 said.
    //= 12.2.2.3-2: relevant headers of SIP INVITE and 200 OK of the session establishment
    pub(super) fn answered(&mut self, response: &Message) {
        for (index, line) in response.lines().enumerate().filter(|(_, line)| OF_OTHERS.contains(&line.name)) {
            encapsulate::put_line(&mut self.kept, index as u16 | OF_RESPONSE, line.whole.of(response.octets()));
        }
    }
}

/// What a sender's BYE says of its session, as lines of an envelope; empty where it says nothing.
//= 12.2.2.3-2: relevant headers of the SIP BYE request
pub(super) fn lines_of_bye(bye: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, line) in bye.lines().enumerate().filter(|(_, line)| matches!(line.name, Name::Date | Name::Reason)) {
        encapsulate::put_line(&mut out, index as u16 | OF_BYE, line.whole.of(bye.octets()));
    }
    out
}

/// One whole message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    /// Transaction id of the SEND that it is pushed as.
    pub(super) tid: &'a [u8],
    /// Message-ID as received.
    pub(super) message_id: &'a [u8],
    /// Content-* headers but Content-Type, as received, each with its CRLF.
    pub(super) mime: &'a [u8],
    /// Content-Type.
    pub(super) content_type: &'a [u8],
    /// What the INVITE's headers are called.
    pub(super) part: &'a [u8],
    /// Octets of content.
    pub(super) octets: u64,
    /// When the last of them came.
    pub(super) received_s: u64,
}

/// What is written down with a message's parts.
#[derive(Debug)]
pub(super) struct Wrapped {
    pub(super) prefix: Vec<u8>,
    pub(super) suffix: Vec<u8>,
    pub(super) body_type: [u8; BODY_TYPE_OCTETS],
    pub(super) envelope: Vec<u8>,
}

/// Wraps a message that will be pushed under this id.
///
//= 12.2.2.5: shall encapsulate "MSRP SEND" messages with the Content type message/msrp
//= 12.2.2.3-2: the MSRP SEND request including the timestamp the IM Server receives the complete msrp messages
pub(super) fn wrap(head: &Head, content: &Content<'_>, id: &[u8; 26]) -> Wrapped {
    // Of the octets themselves nothing need be known: the id is drawn when the last of them has come, so nobody could put it there.
    let boundary = encapsulate::boundary(id, &[&head.fragment, content.mime, content.content_type]);
    let mut prefix = Vec::with_capacity(head.fragment.len() + content.mime.len() + 512);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| prefix.extend_from_slice(part));
    put(&[b"--", &boundary, b"\r\nContent-Type: ", content.part, b"\r\n\r\n", &head.fragment]);
    put(&[b"\r\n--", &boundary, b"\r\nContent-Type: message/msrp\r\n\r\n"]);
    put(&[b"MSRP ", content.tid, b" SEND\r\nMessage-ID: ", content.message_id, b"\r\nDate: "]);
    date::write_imf(&mut prefix, content.received_s);
    prefix.extend_from_slice(b"\r\nByte-Range: 1-");
    msrp::write::decimal(&mut prefix, content.octets);
    prefix.push(b'/');
    msrp::write::decimal(&mut prefix, content.octets);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| prefix.extend_from_slice(part));
    put(&[b"\r\n", content.mime, b"Content-Type: ", content.content_type, b"\r\n\r\n"]);
    let mut suffix = Vec::with_capacity(96);
    msrp::write::end_line(&mut suffix, content.tid, b'$');
    suffix.extend_from_slice(b"\r\n--");
    suffix.extend_from_slice(&boundary);
    suffix.extend_from_slice(b"--");
    let mut envelope = encapsulate::large_envelope(prefix.len());
    envelope.extend_from_slice(&head.kept);
    Wrapped { prefix, suffix, body_type: encapsulate::body_type(&boundary), envelope }
}

/// Where in its record's page the prefix of a large message lies; `None` for a record that is none.
pub(in crate::deferred) fn prefix_of(record: &Record) -> Option<Span> {
    let len = encapsulate::prefix_len(record.envelope.of(&record.page))?;
    (len <= record.body.len()).then(|| Span::new(record.body.at(), len))
}

/// What the prefix of a large message says of it: [`wrap`] read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::deferred) struct Said<'a> {
    /// The INVITE's headers that are delivered, behind its start line.
    pub(in crate::deferred) fragment: &'a [u8],
    /// Content-* headers but Content-Type, each with its CRLF.
    pub(in crate::deferred) mime: &'a [u8],
    /// Content-Type.
    pub(in crate::deferred) content_type: &'a [u8],
}

/// Reads a prefix; `None` for one that [`wrap`] did not write.
pub(in crate::deferred) fn said<'a>(prefix: &'a [u8], body_type: &[u8]) -> Option<Said<'a>> {
    let boundary = encapsulate::boundary_of(body_type)?;
    let between = [b"\r\n--", boundary, b"\r\nContent-Type: message/msrp\r\n\r\n"].concat();
    let rest = prefix.get(memmem::find(prefix, b"\r\n\r\n")? + 4..)?;
    let (fragment, rest) = rest.split_at_checked(memmem::find(rest, &between)?)?;
    let send = rest.get(between.len()..)?.strip_suffix(b"\r\n\r\n")?;
    // Byte-Range is the last line that is ours, Content-Type the last of all.
    let range = memmem::find(send, b"\r\nByte-Range: 1-")? + 2;
    let (_, lines) = scan::split_once(send.get(range..)?, b'\n')?;
    let at = memmem::rfind(lines, b"\nContent-Type: ").map_or(0, |at| at + 1);
    let (mime, line) = lines.split_at_checked(at)?;
    Some(Said { fragment, mime, content_type: line.strip_prefix(b"Content-Type: ")? })
}

/// Content-* lines of a SEND's head but Content-Type, each with its CRLF.
pub(super) fn mime_lines(head: &[u8]) -> Vec<u8> {
    let lines = head.split_inclusive(|&octet| octet == b'\n');
    let begins =
        |line: &&[u8], name: &[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    lines.filter(|line| begins(line, b"Content-") && !begins(line, b"Content-Type:")).flatten().copied().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;

    /// The example of the specification, octet for octet.
    #[test]
    fn the_example_is_met_to_the_octet() {
        let invite = "INVITE sip:user2@imserver.com SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
            Subject: this is a subject\r\nFrom: <sip:user1@imserver.com>;tag=786\r\nTo: <sip:user2@imserver.com>\r\n\
            Call-ID: 3413an89KU\r\nCSeq: 1 INVITE\r\nContact: <sip:user1@c>\r\nDate: Mon, 21 Feb 2005 13:02:03 GMT\r\n\
            P-Asserted-Identity: <sip:user1@imserver.com>, <tel:+15141234567>\r\nContribution-ID: x\r\nContent-Length: 0\r\n\r\n";
        let invite = Message::parse_datagram(Bytes::from(invite), &Limits::default());
        let invite = invite.unwrap_or_else(|bad| panic!("{:?}", bad.fault));
        let head = Head::of(&invite, 0, false);
        let content = Content {
            tid: b"dkei38sd",
            message_id: b"456s9wlk3",
            mime: b"",
            content_type: b"text/plain",
            part: b"message/sipfrag",
            octets: 20,
            received_s: 1_108_990_924,
        };
        let wrapped = wrap(&head, &content, b"01jq8z4m9a7qx2mv9br4000000");
        let body = [&wrapped.prefix[..], b"Hi, Alice!  I'm Bob!", &wrapped.suffix].concat();
        let expected = "--dmf-7qx2mv9br4000000\r\nContent-Type: message/sipfrag\r\n\r\n\
            INVITE sip:user2@imserver.com SIP/2.0\r\nTo: <sip:user2@imserver.com>\r\nFrom: <sip:user1@imserver.com>;tag=786\r\n\
            Call-ID: 3413an89KU\r\nDate: Mon, 21 Feb 2005 13:02:03 GMT\r\n\
            P-Asserted-Identity: <sip:user1@imserver.com>, <tel:+15141234567>\r\nSubject: this is a subject\r\n\r\n\
            --dmf-7qx2mv9br4000000\r\nContent-Type: message/msrp\r\n\r\nMSRP dkei38sd SEND\r\nMessage-ID: 456s9wlk3\r\n\
            Date: Mon, 21 Feb 2005 13:02:04 GMT\r\nByte-Range: 1-20/20\r\nContent-Type: text/plain\r\n\r\n\
            Hi, Alice!  I'm Bob!\r\n-------dkei38sd$\r\n\r\n--dmf-7qx2mv9br4000000--";
        assert_eq!(String::from_utf8_lossy(&body), expected);
        // The example's boundary has six octets less, three times.
        assert_eq!(body.len(), 552 + 3 * 6);
        let said = said(&wrapped.prefix, &wrapped.body_type).unwrap();
        assert!(said.fragment.starts_with(b"INVITE sip:user2@imserver.com SIP/2.0\r\nTo: "), "{said:?}");
        assert!(said.fragment.ends_with(b"\r\nSubject: this is a subject\r\n"), "{said:?}");
        assert_eq!((said.mime, said.content_type), (&b""[..], &b"text/plain"[..]));
        let kept: Vec<_> = encapsulate::left_out(&wrapped.envelope).map(|(_, line)| line.to_vec()).collect();
        assert_eq!(kept, [b"Contact: <sip:user1@c>\r\n".to_vec(), b"Contribution-ID: x\r\n".to_vec()]);
    }

    #[test]
    fn a_prefix_is_read_back_whatever_its_sender_wrote() {
        let head = Head {
            fragment: b"INVITE x SIP/2.0\r\nSubject: a\r\n --dmf-\r\n\tContent-Type: message/msrp\r\n".to_vec(),
            kept: Vec::new(),
            name: Vec::new(),
            urgent: false,
            private: false,
        };
        let mime: &[u8] = b"Content-ID: <Byte-Range: 1-@b>\r\nContent-Description: Content-Type: x\r\n";
        let (tid, message_id) = (b"abcd".as_slice(), b"Content-Type".as_slice());
        let part = b"message/sip".as_slice();
        let content = Content { tid, message_id, mime, content_type: b"a/b;c=d", part, octets: 7, received_s: 0 };
        let wrapped = wrap(&head, &content, b"01jq8z4m9a7qx2mv9br4000000");
        let said = said(&wrapped.prefix, &wrapped.body_type).unwrap();
        assert_eq!(said, Said { fragment: &head.fragment, mime, content_type: b"a/b;c=d" });
        for end in 0..wrapped.prefix.len() {
            assert!(super::said(&wrapped.prefix[..end], &wrapped.body_type).is_none(), "{end}");
        }
    }

    #[test]
    fn content_headers_are_kept_and_others_are_not() {
        let head = b"MSRP abcd SEND\r\nTo-Path: x\r\nContent-ID: <a@b>\r\ncontent-disposition: attachment\r\nContent-Type: a/b\r\n\r\n";
        assert_eq!(mime_lines(head), b"Content-ID: <a@b>\r\ncontent-disposition: attachment\r\n");
    }
}
