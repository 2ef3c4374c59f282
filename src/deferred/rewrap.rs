//! A stored message in the form that its client takes: the one path on which a body is written anew on its way out.
//!
//! What is stored is push-ready for the clients of 12.2.2.5. For others the request inside is pointed at where it lies, or a CPIM
//! message is made of it (RFC 3862): from the record alone, so that the same record gives the same octets at every try.

use super::encapsulate;
use super::identity::ANONYMOUS;
use super::large::wrap;
use super::payload::{Choice, Form, Stored, Unfit};
use crate::base::limits::Limits;
use crate::base::span::Span;
use crate::store::loader::Record;
use crate::store::record::Flags;
use crate::wire::cpim::{self, Cpim};
use crate::wire::sip::message::{Line, Message};
use crate::wire::sip::names::Name;
use crate::wire::{date, scan, sip::fields, sip::fields::Asserted, sipfrag};
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
    /// Its body; of a large message, what stands before the parts.
    pub body: Span,
    /// Octets that follow: the parts of a large message, and `tail`.
    pub more: usize,
    /// What stands behind the parts.
    pub tail: Bytes,
    /// `-------` may occur in it.
    pub has_dash7: bool,
    /// The form it has.
    pub form: Form,
    /// Octets written anew for it.
    pub copied: usize,
}

/// A stored message for the client of this session. `over`: its time is over, and it is delivered all the same, marked.
///
/// # Errors
/// The client does not take it, in whatever form.
pub fn dress(choice: &Choice, record: Record, flags: Flags, over: bool) -> Result<Dressed, Unfit> {
    let dressed = match choice.usual() {
        _ if flags.has(Flags::LARGE) => large(choice, record, flags, over)?,
        Some(_) => wrapped(record, flags, over),
        None => look_inside(choice, record, flags, over)?,
    };
    //= RFC 4975 8.6: senders SHOULD NOT exceed the max-size limit for any message sent in the resulting session
    if choice.fits(dressed.body.len() + dressed.more) { Ok(dressed) } else { Err(Unfit::TooLarge) }
}

/// One whose content lies in other records: only what stands around it is chosen, or written, here.
fn large(choice: &Choice, mut record: Record, flags: Flags, over: bool) -> Result<Dressed, Unfit> {
    let prefix = wrap::prefix_of(&record).ok_or(Unfit::Type)?;
    let octets = record.parts().filter_map(|part| part.window()).map(|(_, len)| len).sum::<usize>();
    let said = wrap::said(prefix.of(&record.page), record.body_type.of(&record.page)).ok_or(Unfit::Type)?;
    let media = media_type(said.content_type);
    // As with a pager message: encoded, its octets are not CPIM before somebody decodes them.
    let is_cpim = media.eq_ignore_ascii_case(CPIM)
        && !lines(said.mime).any(|(name, _)| name.eq_ignore_ascii_case(b"Content-Encoding"));
    // Its first octets were kept when it came, because it is CPIM.
    let first = || encapsulate::asked_of_large(record.envelope.of(&record.page)).map(|(_, first)| first);
    let inside = match is_cpim {
        true => first().and_then(|first| Cpim::parse(first).ok()?.content_type()).unwrap_or(CPIM),
        false => said.content_type,
    };
    let stored = Stored { part: part_type(&record).of(&record.page), large: true, content: inside };
    let form = choice.form(&stored)?;
    let has_dash7 = flags.has(Flags::DASH7);
    if form != Form::Cpim {
        let tail = record.page.slice(prefix.end()..record.body.end());
        record.body = prefix;
        let more = octets + tail.len();
        return Ok(Dressed { more, tail, ..wrapped(record, flags, over) });
    }
    let (more, tail) = (octets, Bytes::new());
    if is_cpim {
        let (content_type, body) = (scan::span_in(&record.page, media), Span::new(prefix.at(), 0));
        return Ok(Dressed { page: record.page.clone(), content_type, body, more, tail, has_dash7, form, copied: 0 });
    }
    let mut about = About { content_type: Some(said.content_type), ..About::default() };
    let mut asserted = Vec::new();
    for (name, value) in sipfrag::headers(said.fragment) {
        match name {
            Name::PAssertedIdentity => asserted.extend(scan::List::new(value)),
            Name::Date => about.date = about.date.or(Some(value)),
            Name::Subject => about.subject = about.subject.or(Some(value)),
            _ => {}
        }
    }
    about.asserted = fields::identities_of(asserted.into_iter());
    for (name, value) in lines(said.mime).filter(|(name, _)| !name.eq_ignore_ascii_case(b"Content-Length")) {
        about.put(name, value);
    }
    let mut page = about.cpim(record.owner(), record.id.millis() / 1000, flags, over, octets);
    let has_dash7 = has_dash7 || encapsulate::has_dash7(&page);
    let body = Span::new(0, page.len());
    page.extend_from_slice(CPIM);
    let (content_type, copied) = (Span::between(body.end(), page.len()), page.len());
    Ok(Dressed { page: page.into(), content_type, body, more, tail, has_dash7, form, copied })
}

/// The lines of a block of headers, as names and values.
fn lines(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    block.split(|&octet| octet == b'\n').filter_map(|line| scan::split_once(line, b':'))
}

fn look_inside(choice: &Choice, record: Record, flags: Flags, over: bool) -> Result<Dressed, Unfit> {
    let part = part_type(&record);
    let request = encapsulate::embedded(record.body.of(&record.page), record.body_type.of(&record.page));
    let request = request.map(|span| span.shifted(record.body.at())).ok_or(Unfit::Type)?;
    let Ok(message) = Message::parse_datagram(record.page.slice(request.range()), &Limits::unbounded()) else {
        return Err(Unfit::Type);
    };
    let stored = Stored { part: part.of(&record.page), large: false, content: content_type(&message) };
    let form = choice.form(&stored)?;
    let (has_dash7, more, tail) = (flags.has(Flags::DASH7), 0, Bytes::new());
    Ok(match form {
        Form::Wrapped => wrapped(record, flags, over),
        Form::Bare => {
            Dressed { page: record.page, content_type: part, body: request, more, tail, has_dash7, form, copied: 0 }
        }
        Form::Cpim => match own_cpim(&message) {
            Some((media, body)) => Dressed {
                content_type: scan::span_in(&record.page, media),
                body: scan::span_in(&record.page, body),
                page: record.page.clone(),
                more,
                tail,
                has_dash7,
                form,
                copied: 0,
            },
            None => {
                let content = message.body();
                let received_s = record.id.millis() / 1000;
                let mut page = About::of(&message).cpim(record.owner(), received_s, flags, over, content.len());
                // What the sender wrote was looked at when it was stored; what stands before it is ours.
                let has_dash7 = has_dash7 || encapsulate::has_dash7(&page);
                page.extend_from_slice(content);
                let body = Span::new(0, page.len());
                page.extend_from_slice(CPIM);
                let content_type = Span::between(body.end(), page.len());
                let copied = page.len();
                Dressed { page: page.into(), content_type, body, more, tail, has_dash7, form, copied }
            }
        },
    })
}

/// As it is stored, but for the mark of one whose time is over.
fn wrapped(record: Record, flags: Flags, over: bool) -> Dressed {
    let has_dash7 = flags.has(Flags::DASH7);
    let Record { page, body_type, body, .. } = record;
    let (form, more, tail) = (Form::Wrapped, 0, Bytes::new());
    if !over {
        return Dressed { page, content_type: body_type, body, more, tail, has_dash7, form, copied: 0 };
    }
    //= 12.2.2.4: if the expired message is delivered, the IM Server MAY indicate that it has expired
    let mut marked = encapsulate::expired(body.of(&page));
    let body = Span::new(0, marked.len());
    marked.extend_from_slice(body_type.of(&page));
    let content_type = Span::between(body.end(), marked.len());
    let copied = marked.len();
    Dressed { page: marked.into(), content_type, body, more, tail, has_dash7, form, copied }
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
    let media = media_type(value);
    // Encoded, its octets are not CPIM before somebody decodes them.
    let as_it_is = message.header(Name::ContentEncoding).is_none();
    (as_it_is && media.eq_ignore_ascii_case(CPIM)).then_some((media, message.body()))
}

/// A type without its parameters.
fn media_type(value: &[u8]) -> &[u8] {
    scan::trim(value.split(|&octet| octet == b';').next().unwrap_or_default())
}

/// What of a stored message stands in the CPIM message that is made of it.
#[derive(Clone, Default, Debug)]
struct About<'a> {
    asserted: Asserted<'a>,
    date: Option<&'a [u8]>,
    subject: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    /// What else describes the content, each line with its CRLF.
    lines: Vec<u8>,
}

impl<'a> About<'a> {
    /// Of a pager message.
    fn of(message: &'a Message) -> About<'a> {
        let mut about = About {
            asserted: fields::asserted_identities(message),
            date: message.header(Name::Date),
            subject: message.header(Name::Subject),
            content_type: message.content_type(),
            lines: Vec::new(),
        };
        for line in message.lines().filter(describes_content) {
            about.put(if line.name == Name::Other { line.name_bytes } else { line.name.as_bytes() }, line.value);
        }
        about
    }

    fn put(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, b": ", scan::trim(&flat(value)), b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
    }

    /// The CPIM message up to its content, of which so many octets follow. Nothing in it depends on anything but the record.
    ///
    //= RFC 3862 2: a message consists of message metadata headers, a blank line, and the encapsulated MIME message content
    //= RFC 3325 9.1: the sender is who the network says it is, or nobody where it asked for that
    fn cpim(mut self, owner: &[u8], received_s: u64, flags: Flags, over: bool, octets: usize) -> Vec<u8> {
        let asserted = self.asserted.sip.or(self.asserted.tel);
        let sender = asserted.filter(|_| !flags.has(Flags::PRIVATE)).unwrap_or(ANONYMOUS);
        // RFC 3428 7: the sender's own Date; one that cannot be read says nothing.
        let sent_s = self.date.and_then(date::parse).unwrap_or(received_s);
        let mut writer = cpim::Writer::new(sender, owner).date_time(sent_s);
        if let Some(subject) = self.subject.filter(|subject| !scan::trim(subject).is_empty()) {
            writer = writer.line(b"Subject", String::from_utf8_lossy(&flat(subject)).as_bytes());
        }
        if over {
            self.lines.extend_from_slice(encapsulate::EXPIRED);
        }
        let content_type = self.content_type.map(flat);
        writer.before(content_type.as_deref().unwrap_or(TEXT), &self.lines, octets as u64)
    }
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
            let flags = if private { Flags::PRIVATE } else { Flags::default() };
            let made = || {
                let head = About::of(&message).cpim(b"sip:b@h", 1_769_940_000, flags, false, body.len());
                [head.as_slice(), &body].concat()
            };
            prop_assert_eq!(made(), made());
            let made = made();
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
