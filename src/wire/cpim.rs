//! CPIM messages (RFC 3862) as they are read and written: two header blocks and a content.
//!
//! Knows lines, namespaces and escapes; what the headers of IMDN mean is in [`imdn`](super::imdn). A message that is passed
//! on is never changed. Strict where it writes, tolerant where it reads: bare LF ends a line, and the blank line between the
//! message's headers and its content's may be missing, as RFC 5438's own examples print it.

use super::date;
use super::scan::{self, Class};
use memchr::memmem;
use std::borrow::Cow;

/// Namespace of RFC 5438's headers.
pub const IMDN: &[u8] = b"urn:ietf:params:imdn";

/// Most lines of both header blocks together. RFC 5438's messages have eight; each intermediary that records its route adds
/// one. With it, looking every header up for its prefix stays below 128 * 128 comparisons.
pub const LINES_MAX: usize = 128;

/// Why octets are not taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpimFault {
    /// More than [`LINES_MAX`] header lines.
    TooManyLines,
    /// The content has no Content-Type (RFC 3862 2.4).
    ContentTypeMissing,
}

/// A message taken apart; it borrows from its octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpim<'a> {
    /// The message's headers, without the blank line behind them.
    head: &'a [u8],
    /// The content's.
    mime: &'a [u8],
    /// The content.
    content: &'a [u8],
}

/// One header of the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// URI of its namespace; empty for the default one of RFC 3862.
    pub namespace: &'a [u8],
    /// Its name without prefix. Case counts (RFC 3862 2.2).
    pub name: &'a [u8],
    /// The language its text is in (`;lang=`); empty when it says none.
    pub lang: &'a [u8],
    /// Its value, escapes as they stand: [`unescape`] undoes them.
    pub value: &'a [u8],
}

impl<'a> Cpim<'a> {
    /// Takes a message apart.
    ///
    //= RFC 3862 2.4: the MIME content headers MUST include at least a Content-Type header
    pub fn parse(body: &'a [u8]) -> Result<Cpim<'a>, CpimFault> {
        let cpim = Cpim::split(body);
        if lines(cpim.head).chain(lines(cpim.mime)).take(LINES_MAX + 1).count() > LINES_MAX {
            return Err(CpimFault::TooManyLines);
        }
        if cpim.content_type().is_none() {
            return Err(CpimFault::ContentTypeMissing);
        }
        Ok(cpim)
    }

    fn split(body: &'a [u8]) -> Cpim<'a> {
        let (head, rest) = split_block(body);
        // Without the blank line both blocks are one: the content's headers begin with the first that CPIM does not have.
        let mime_at =
            lines(head).find(|line| line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-")));
        if let Some(line) = mime_at {
            let (head, mime) = scan::split(head, scan::span_in(head, line).at());
            return Cpim { head, mime, content: rest };
        }
        let (mime, content) = split_block(rest);
        Cpim { head, mime, content }
    }

    /// The message's headers in order, NS declarations left out. A prefix that nobody declared is passed over, but `imdn`,
    /// which everybody binds to [`IMDN`] and some forget to.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let head = self.head;
        lines(head).filter_map(move |line| {
            let (name, lang, value) = parted(line)?;
            if name == b"NS" {
                return None;
            }
            let before = scan::split(head, scan::span_in(head, line).at()).0;
            let (namespace, name) = match scan::split_once(name, b'.') {
                Some((prefix, name)) => {
                    let known = declared(before, prefix).or((prefix == b"imdn").then_some(IMDN));
                    (known?, name)
                }
                None => (declared(before, b"").unwrap_or_default(), name),
            };
            Some(Header { namespace, name, lang, value })
        })
    }

    /// The value of the first header `name` of the default namespace.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.headers().find(|header| header.namespace.is_empty() && header.name == name).map(|header| header.value)
    }

    /// The values of all headers `name` of RFC 5438, in order.
    pub fn imdn(&self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.headers().filter(move |header| header.namespace == IMDN && header.name == name).map(|header| header.value)
    }

    /// The URI in From.
    pub fn from(&self) -> Option<&'a [u8]> {
        self.header(b"From").and_then(address)
    }

    /// The URI in To.
    pub fn to(&self) -> Option<&'a [u8]> {
        self.header(b"To").and_then(address)
    }

    /// DateTime as it stands (RFC 3339).
    pub fn date_time(&self) -> Option<&'a [u8]> {
        self.header(b"DateTime")
    }

    /// Subject: the first, its language, escapes as they stand.
    pub fn subject(&self) -> Option<Header<'a>> {
        self.headers().find(|header| header.namespace.is_empty() && header.name == b"Subject")
    }

    /// A header of the content, in whatever case.
    pub fn content_header(&self, name: &[u8]) -> Option<&'a [u8]> {
        lines(self.mime).find_map(|line| {
            let (found, value) = scan::split_once(line, b':')?;
            scan::trim(found).eq_ignore_ascii_case(name).then(|| scan::trim(value))
        })
    }

    /// Content-Type of the content.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.content_header(b"Content-Type").filter(|value| !value.is_empty())
    }

    /// The content.
    pub fn content(&self) -> &'a [u8] {
        self.content
    }

    /// True when the content is itself a disposition notification.
    pub fn is_imdn(&self) -> bool {
        self.content_type().is_some_and(|value| {
            let media = value.split(|&octet| octet == b';').next().unwrap_or_default();
            scan::trim(media).eq_ignore_ascii_case(b"message/imdn+xml")
        })
    }
}

/// Everything before the next empty line, and everything after it. Bare LF is taken too.
fn split_block(octets: &[u8]) -> (&[u8], &[u8]) {
    // No header at all is a block too.
    if let Some(rest) = octets.strip_prefix(b"\r\n").or(octets.strip_prefix(b"\n")) {
        return (b"", rest);
    }
    let crlf = memmem::find(octets, b"\r\n\r\n").map(|at| (at, 4));
    let lf = memmem::find(octets, b"\n\n").map(|at| (at, 2));
    let (at, len) = match (crlf, lf) {
        (Some(a), Some(b)) => a.min(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return (octets, b""),
    };
    (octets.get(..at).unwrap_or_default(), octets.get(at + len..).unwrap_or_default())
}

/// The lines of a block, without their ends; empty ones left out.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = block.split(|&octet| octet == b'\n');
    whole.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
}

/// Name, language and value of a header line.
///
//= RFC 3862 3.3: ';lang=tag' after the header name and colon
fn parted(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = scan::split_once(line, b':')?;
    let name = scan::trim(name);
    if name.is_empty() {
        return None;
    }
    let Some(mut params) = rest.strip_prefix(b";") else { return Some((name, b"", scan::trim(rest))) };
    let mut lang: &[u8] = b"";
    loop {
        // A parameter ends at the next one, or at the space before the value; one in quotes holds neither by its grammar's
        // own words for language tags, and other parameters mean nothing here.
        let end = scan::find_either(params, b';', b' ').unwrap_or(params.len());
        let (param, rest) = scan::split(params, end);
        if let Some(tag) = param.strip_prefix(b"lang=") {
            lang = tag;
        }
        match rest.split_first() {
            Some((b';', rest)) => params = rest,
            Some((_, value)) => return Some((name, lang, scan::trim(value))),
            None => return Some((name, lang, b"")),
        }
    }
}

/// The namespace that the last declaration of `prefix` in `before` binds; the empty prefix is the default.
///
//= RFC 3862 3.4: a namespace prefix declaration MUST precede any use of that prefix
fn declared<'a>(before: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let bound = lines(before).filter_map(|line| {
        let (name, _, value) = parted(line)?;
        let (found, uri) = scan::split_once(value, b'<')?;
        (name == b"NS" && scan::trim(found) == prefix).then(|| uri.strip_suffix(b">").unwrap_or(uri))
    });
    bound.last()
}

/// The URI of `Formal Name <URI>`; a value without brackets is the URI.
fn address(value: &[u8]) -> Option<&[u8]> {
    // The last bracket: a quoted name may hold others.
    let uri = match memchr::memrchr(b'<', value) {
        Some(at) => value.get(at + 1..)?.strip_suffix(b">")?,
        None => value,
    };
    (!uri.is_empty() && Class::VISIBLE.has_all(uri)).then_some(uri)
}

/// A header value with its escapes undone (RFC 3862 2.3).
///
//= RFC 3862 2.3.1: any unrecognized escape sequence is an instance of the character following the backslash
pub fn unescape(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((plain, escaped)) = scan::split_once(rest, b'\\') {
        out.extend_from_slice(plain);
        let Some((&letter, after)) = escaped.split_first() else { return Cow::Owned(out) };
        rest = after;
        match letter {
            b'b' => out.push(8),
            b't' => out.push(b'\t'),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b'u' => match code_point(after) {
                Some((letter, after)) => {
                    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = after;
                }
                None => out.push(b'u'),
            },
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// Four hexadecimal digits as a character, and what follows. Halves of a pair of surrogates are none.
fn code_point(octets: &[u8]) -> Option<(char, &[u8])> {
    let (digits, rest) = octets.split_first_chunk::<4>()?;
    let code = digits.iter().try_fold(0u32, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))?;
    Some((char::from_u32(code)?, rest))
}

/// Appends a value with the escapes it needs.
///
//= RFC 3862 2.3.1: the special sequences MUST be used for backslash, backspace, tab, linefeed and carriage return
pub fn escape(out: &mut Vec<u8>, value: &[u8]) {
    for &octet in value {
        match octet {
            b'\\' => out.extend_from_slice(b"\\\\"),
            8 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..=0x1f | 0x7f => out.extend_from_slice(format!("\\u{octet:04x}").as_bytes()),
            _ => out.push(octet),
        }
    }
}

/// A message on its way to be written: headers in the order of the calls, then the content.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Begins with From and To. Octets that would end a URI's brackets, or a line, are left out.
    pub fn new(from: &[u8], to: &[u8]) -> Writer {
        let mut writer = Writer { out: Vec::with_capacity(512) };
        for (name, uri) in [(b"From: <".as_slice(), from), (b"To: <", to)] {
            writer.out.extend_from_slice(name);
            writer.out.extend(uri.iter().filter(|octet| Class::URI.has(**octet)));
            writer.out.extend_from_slice(b">\r\n");
        }
        writer
    }

    /// DateTime, in seconds since 1970.
    pub fn date_time(mut self, unix_seconds: u64) -> Writer {
        self.out.extend_from_slice(b"DateTime: ");
        date::write_rfc3339(&mut self.out, unix_seconds);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Declares the namespace of RFC 5438, for the headers that follow.
    pub fn with_imdn(mut self) -> Writer {
        self.out.extend_from_slice(b"NS: imdn <");
        self.out.extend_from_slice(IMDN);
        self.out.extend_from_slice(b">\r\n");
        self
    }

    /// Any header; `name` is one of ours, with its prefix, and the value is escaped.
    ///
    //= RFC 3862 2.2: there MUST be a single space character following the header name and colon
    pub fn line(mut self, name: &'static [u8], value: &[u8]) -> Writer {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        escape(&mut self.out, scan::trim(value));
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// The content with its headers: Content-Type and what `more` says, each line with its CRLF; then Content-Length.
    pub fn content(self, content_type: &[u8], more: &[u8], content: &[u8]) -> Vec<u8> {
        let mut out = self.before(content_type, more, content.len() as u64);
        out.extend_from_slice(content);
        out
    }

    /// The same without the content: of that, so many octets follow.
    pub fn before(mut self, content_type: &[u8], more: &[u8], octets: u64) -> Vec<u8> {
        self.out.extend_from_slice(b"\r\nContent-Type: ");
        self.out.extend_from_slice(content_type);
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(more);
        self.out.extend_from_slice(b"Content-Length: ");
        scan::put_decimal(&mut self.out, octets);
        self.out.extend_from_slice(b"\r\n\r\n");
        self.out
    }
}

/// True when the content of a `message/cpim` body is itself a delivery notification.
pub fn is_imdn(body: &[u8]) -> bool {
    Cpim::split(body).is_imdn()
}

/// The type of what is inside a `message/cpim` body, without parameters.
pub fn content_media(body: &[u8]) -> Option<&[u8]> {
    let media = Cpim::split(body).content_type()?.split(|&octet| octet == b';').next()?;
    Some(scan::trim(media))
}

/// The sender's own Message-ID (RFC 5438 6.3).
pub fn message_id(body: &[u8]) -> Option<&[u8]> {
    Cpim::parse(body).ok()?.imdn(b"Message-ID").next().filter(|id| !id.is_empty())
}

/// True when the sender asked to be told if the message is not delivered (RFC 5438 6.2).
pub fn wants_failure_report(body: &[u8]) -> bool {
    Cpim::parse(body).is_ok_and(|cpim| super::imdn::Wanted::of(&cpim).negative)
}

#[cfg(test)]
mod tests;
