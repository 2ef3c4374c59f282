//! A stored message in the form that its client takes: the one path on which a body is written anew on its way out.
//!
//! What is stored is push-ready for the clients of 12.2.2.5. For others the request inside is pointed at where it lies, or a CPIM
//! message is made of it (RFC 3862): from the record alone, so that the same record gives the same octets at every try.

use super::encapsulate;
use super::identity::ANONYMOUS;
use super::payload::{Choice, Form, Stored, Unfit};
use crate::base::limits::Limits;
use crate::base::span::Span;
use crate::store::loader::Record;
use crate::store::record::Flags;
use crate::wire::cpim::{self, Cpim};
use crate::wire::sip::message::{Line, Message};
use crate::wire::sip::names::Name;
use crate::wire::{date, scan, sip::fields};
use bytes::Bytes;

/// What CPIM is called.
pub const CPIM: &[u8] = b"message/cpim";

/// A message's octets as they go out.
#[derive(Clone, Debug)]
pub struct Dressed {
    /// What the spans point into.
    pub page: Bytes,
    /// Content-Type of the SEND.
    pub content_type: Span,
    /// Its body.
    pub body: Span,
    /// `-------` may occur in it.
    pub has_dash7: bool,
    /// The form it has.
    pub form: Form,
    /// Octets written anew for it.
    pub copied: usize,
}

/// A stored message for the client of this session. `more`: octets of a large one that follow what is in the record; `over`: its
/// time is over, and it is delivered all the same, marked.
///
/// # Errors
/// The client does not take it, in whatever form.
pub fn dress(choice: &Choice, record: Record, more: usize, flags: Flags, over: bool) -> Result<Dressed, Unfit> {
    let dressed = match choice.usual().filter(|_| !flags.has(Flags::LARGE)) {
        Some(_) => wrapped(record, flags, over),
        None => look_inside(choice, record, flags, over)?,
    };
    //= RFC 4975 8.6: senders SHOULD NOT exceed the max-size limit for any message sent in the resulting session
    if choice.fits(dressed.body.len() + more) { Ok(dressed) } else { Err(Unfit::TooLarge) }
}

fn look_inside(choice: &Choice, record: Record, flags: Flags, over: bool) -> Result<Dressed, Unfit> {
    let part = part_type(&record);
    if flags.has(Flags::LARGE) {
        // Its content lies in other records: it goes as it is stored, or not at all.
        let stored = Stored { part: part.of(&record.page), large: true, content: b"" };
        return match choice.form(&stored) {
            Ok(Form::Wrapped) => Ok(wrapped(record, flags, over)),
            _ => Err(Unfit::Type),
        };
    }
    let request = encapsulate::embedded(record.body.of(&record.page), record.body_type.of(&record.page));
    let request = request.map(|span| span.shifted(record.body.at())).ok_or(Unfit::Type)?;
    let Ok(message) = Message::parse_datagram(record.page.slice(request.range()), &Limits::unbounded()) else {
        return Err(Unfit::Type);
    };
    let stored = Stored { part: part.of(&record.page), large: false, content: content_type(&message) };
    let form = choice.form(&stored)?;
    Ok(match form {
        Form::Wrapped => wrapped(record, flags, over),
        Form::Bare => Dressed {
            page: record.page,
            content_type: part,
            body: request,
            has_dash7: flags.has(Flags::DASH7),
            form,
            copied: 0,
        },
        Form::Cpim => match own_cpim(&message) {
            Some((media, body)) => Dressed {
                content_type: scan::span_in(&record.page, media),
                body: scan::span_in(&record.page, body),
                page: record.page.clone(),
                has_dash7: flags.has(Flags::DASH7),
                form,
                copied: 0,
            },
            None => {
                let received_s = record.id.millis() / 1000;
                let mut page = cpim(record.owner(), &message, received_s, flags.has(Flags::PRIVATE), over);
                let body = Span::new(0, page.len());
                page.extend_from_slice(CPIM);
                let content_type = Span::between(body.end(), page.len());
                // What the sender wrote was looked at when it was stored; what stands before it is ours.
                let head = Span::between(0, body.len() - message.body().len());
                let has_dash7 = flags.has(Flags::DASH7) || encapsulate::has_dash7(head.of(&page));
                let copied = page.len();
                Dressed { page: page.into(), content_type, body, has_dash7, form, copied }
            }
        },
    })
}

/// As it is stored, but for the mark of one whose time is over.
fn wrapped(record: Record, flags: Flags, over: bool) -> Dressed {
    let has_dash7 = flags.has(Flags::DASH7);
    let Record { page, body_type, body, .. } = record;
    if !over {
        return Dressed { page, content_type: body_type, body, has_dash7, form: Form::Wrapped, copied: 0 };
    }
    //= 12.2.2.4: if the expired message is delivered, the IM Server MAY indicate that it has expired
    let mut marked = encapsulate::expired(body.of(&page));
    let body = Span::new(0, marked.len());
    marked.extend_from_slice(body_type.of(&page));
    let content_type = Span::between(body.end(), marked.len());
    let copied = marked.len();
    Dressed { page: marked.into(), content_type, body, has_dash7, form: Form::Wrapped, copied }
}

/// Where the type of a stored body's first part stands.
fn part_type(record: &Record) -> Span {
    const NAME: &[u8] = b"Content-Type: ";
    let body = record.body.of(&record.page);
    let line = body.split(|&octet| octet == b'\n').nth(1).unwrap_or_default();
    let value = line.strip_prefix(NAME).map(scan::trim).unwrap_or_default();
    scan::span_in(&record.page, value)
}

/// The type of what the sender wrote: of a CPIM message, what is inside.
fn content_type(message: &Message) -> &[u8] {
    match own_cpim(message) {
        Some((_, body)) => Cpim::parse(body).ok().and_then(|cpim| cpim.content_type()).unwrap_or(CPIM),
        None => message.content_type().unwrap_or(TEXT),
    }
}

/// What an empty message is: CPIM has a Content-Type in any case (RFC 3862 2.4).
const TEXT: &[u8] = b"text/plain";

/// The type and the octets of a message that is CPIM already.
fn own_cpim(message: &Message) -> Option<(&[u8], &[u8])> {
    let value = message.content_type()?;
    let media = scan::trim(value.split(|&octet| octet == b';').next().unwrap_or_default());
    // Encoded, its octets are not CPIM before somebody decodes them.
    let as_it_is = message.header(Name::ContentEncoding).is_none();
    (as_it_is && media.eq_ignore_ascii_case(CPIM)).then_some((media, message.body()))
}

/// A CPIM message made of a pager-mode one. No octet of it depends on anything but the record.
///
//= RFC 3862 2: a message consists of message metadata headers, a blank line, and the encapsulated MIME message content
//= RFC 3325 9.1: the sender is who the network says it is, or nobody where it asked for that
fn cpim(owner: &[u8], message: &Message, received_s: u64, private: bool, over: bool) -> Vec<u8> {
    let asserted = fields::asserted_identities(message);
    let sender = asserted.sip.or(asserted.tel).filter(|_| !private).unwrap_or(ANONYMOUS);
    // RFC 3428 7: the sender's own Date; one that cannot be read says nothing.
    let sent_s = message.header(Name::Date).and_then(date::parse).unwrap_or(received_s);
    let mut writer = cpim::Writer::new(sender, owner).date_time(sent_s);
    if let Some(subject) = message.header(Name::Subject).filter(|subject| !scan::trim(subject).is_empty()) {
        writer = writer.line(b"Subject", String::from_utf8_lossy(&flat(subject)).as_bytes());
    }
    let mut more = Vec::new();
    for line in message.lines().filter(describes_content) {
        let name = if line.name == Name::Other { line.name_bytes } else { line.name.as_bytes() };
        more.extend_from_slice(name);
        more.extend_from_slice(b": ");
        more.extend_from_slice(scan::trim(&flat(line.value)));
        more.extend_from_slice(b"\r\n");
    }
    if over {
        more.extend_from_slice(encapsulate::EXPIRED);
    }
    let content_type = message.content_type().map(flat);
    writer.content(content_type.as_deref().unwrap_or(TEXT), &more, message.body())
}

/// True for a header line that goes with the content, Content-Type and Content-Length excepted.
fn describes_content(line: &Line<'_>) -> bool {
    match line.name {
        Name::ContentType | Name::ContentLength => false,
        Name::Other => line.name_bytes.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-")),
        name => name.as_bytes().starts_with(b"Content-"),
    }
}

/// A header value on one line: the blanks that continue a line stay, its end goes.
fn flat(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n' | 0)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        //= RFC 3862 2: a message consists of message metadata headers, a blank line, and the encapsulated MIME message content
        //= RFC 3325 9.1: the sender is who the network says it is, or nobody where it asked for that
        #[test]
        fn cpim_made_of_any_message_is_read_back_and_is_the_same_every_time(
            subject in "[ -~\u{e9}]{0,30}",
            word in "[a-z]{1,8}",
            body in proptest::collection::vec(any::<u8>(), 0..80),
            private: bool,
        ) {
            let head = format!(
                "MESSAGE sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:x@h>;tag=1\r\n\
                 To: <sip:b@h>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nP-Asserted-Identity: <tel:+1555>, \"A\" <sip:a@h;x=y>\r\n\
                 Subject: {subject}\r\nContent-Description: {word}\r\n {word}\r\nc: a/b;\r\n x=y\r\nl: {}\r\n\r\n",
                body.len()
            );
            let octets = [head.as_bytes(), &body].concat();
            let message = Message::parse_datagram(octets.into(), &Limits::unbounded()).unwrap();
            let made = cpim(b"sip:b@h", &message, 1_769_940_000, private, false);
            prop_assert_eq!(&made, &cpim(b"sip:b@h", &message, 1_769_940_000, private, false));
            let read = Cpim::parse(&made).unwrap();
            let sender = if private { ANONYMOUS } else { b"sip:a@h;x=y" };
            prop_assert_eq!((read.from(), read.to()), (Some(sender), Some(&b"sip:b@h"[..])));
            prop_assert_eq!(read.date_time(), Some(&b"2026-02-01T10:00:00Z"[..]));
            prop_assert_eq!((read.content_type(), read.content()), (Some(&b"a/b; x=y"[..]), &body[..]));
            let words = format!("{word} {word}");
            prop_assert_eq!(read.content_header(b"Content-Description"), Some(words.as_bytes()));
            let found = read.subject().map(|subject| cpim::unescape(subject.value).into_owned()).unwrap_or_default();
            prop_assert_eq!(found, subject.trim_matches(' ').as_bytes());
        }
    }
}
