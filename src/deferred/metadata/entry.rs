//! From a stored message to its `<history>` (12.2.2.8): which of its headers say what.
//!
//! Reads the first part of the stored body, which is the request or the fragment that will be pushed; so what the payload does not
//! show, such as an identity that was to be kept private, cannot be shown here either.

use crate::deferred::encapsulate;
use crate::store::loader::Record;
use crate::store::record::{Flags, Locator};
use crate::wire::history::{self, History};
use crate::wire::sip::address::NameAddr;
use crate::wire::sip::names::Name;
use crate::wire::sipfrag::headers;
use crate::wire::uri::Scheme;
use crate::wire::{date, scan};
use memchr::memmem;
use std::borrow::Cow;

/// Longest Subject told, octets: a few lines. What is longer is in the message.
const SUBJECT_MAX: usize = 512;

/// Longest URI told: what is longer is nobody's address here (`identity`).
const URI_MAX: usize = 1024;

/// Begins the Byte-Range of a SEND that carries all of its message.
const BYTE_RANGE: &[u8] = b"\r\nByte-Range: 1-";

/// Who wrote it, where that is private (RFC 3323 4.1.1.3).
const ANONYMOUS: &[u8] = b"sip:anonymous@anonymous.invalid";

/// Appends the `<history>` of a stored message; false when the record holds no request.
///
//= 12.2.2.3-6: shall store metadata as described in 12.2.2.8
//= 12.2.2.7-4: shall update metadata as described in 12.2.2.8 (what is deleted is in no queue, and no document is made of it)
//= 12.2.2.8: shall update the metadata XML document with a new <history> element (made from the record when it is asked for)
pub fn write(out: &mut Vec<u8>, record: &Record, locator: &Locator, hostname: &str) -> bool {
    let body = record.body.of(&record.page);
    let Some((head, content)) = head_and_content(body, record.body_type.of(&record.page)) else { return false };
    let private = locator.flags().has(Flags::PRIVATE);
    let reference = [b"sip:", record.id.as_bytes().as_slice(), b"@", hostname.as_bytes()].concat();
    let received_s = locator.stamp().seconds();
    let mut message = History {
        reference: &reference,
        date_s: received_s,
        received_s,
        size: content,
        expiry_s: u64::from(locator.expiry_s()),
        ..History::default()
    };
    let (mut subject, mut tel) = (Cow::Borrowed(&b""[..]), &b""[..]);
    for (name, value) in headers(head) {
        match name {
            Name::Date => message.date_s = date::parse(value).unwrap_or(received_s),
            Name::Subject => subject = one_line(value),
            Name::From => message.from = uri(value),
            Name::To => message.to = uri(value),
            Name::PAssertedIdentity => {
                for value in scan::List::new(value) {
                    match NameAddr::parse(value).and_then(|address| address.uri()).map(|uri| uri.scheme) {
                        Ok(Scheme::Tel) if tel.is_empty() => tel = uri(value),
                        Ok(Scheme::Sip | Scheme::Sips) if message.auth_id.is_empty() => message.auth_id = uri(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if message.auth_id.is_empty() {
        message.auth_id = tel;
    }
    message.subject = &subject;
    if private {
        //= RFC 3325 7: if the id privacy type is requested, the identity must not be passed on
        (message.from, message.auth_id) = (ANONYMOUS, b"");
    }
    history::write_one(out, &message);
    true
}

/// The header lines of a body's first part, and the octets of what it is about: of a request its body; of a fragment that stands before a
/// `message/msrp` part what the SEND in there says it carries, for those octets lie in records of their own.
fn head_and_content<'a>(body: &'a [u8], body_type: &[u8]) -> Option<(&'a [u8], u64)> {
    let boundary = encapsulate::boundary_of(body_type)?;
    let rest = body.get(memmem::find(body, b"\r\n\r\n")? + 4..)?;
    let end = memmem::find(rest, b"\r\n\r\n").map_or(rest.len(), |at| at + 2);
    let (head, content) = rest.split_at_checked(end)?;
    let next = [b"\r\n--", boundary, b"\r\nContent-Type: message/msrp\r\n"].concat();
    if content.starts_with(&next) {
        let at = memmem::find(content, BYTE_RANGE)? + BYTE_RANGE.len();
        let total = content.get(at..)?.split(|octet| !octet.is_ascii_digit()).next()?;
        return Some((head, scan::decimal(total)?));
    }
    let after = b"\r\n".len() + b"\r\n--".len() + boundary.len() + b"--".len();
    Some((head, content.len().saturating_sub(after) as u64))
}

/// The URI of an address, as it was written; empty when there is none that could be told.
fn uri(value: &[u8]) -> &[u8] {
    NameAddr::parse(value).map(|address| address.uri).ok().filter(|uri| uri.len() <= URI_MAX).unwrap_or_default()
}

/// A text without folds, cut where a letter ends.
fn one_line(value: &[u8]) -> Cow<'_, [u8]> {
    let mut end = value.len().min(SUBJECT_MAX);
    while end > 0 && end < value.len() && value.get(end).is_some_and(|octet| octet & 0xc0 == 0x80) {
        end -= 1;
    }
    let text = value.get(..end).unwrap_or_default();
    if !text.contains(&b'\n') {
        return Cow::Borrowed(text);
    }
    let lines = text.split(|&octet| octet == b'\n').map(scan::trim);
    Cow::Owned(lines.collect::<Vec<_>>().join(&b' '))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_one_line_and_an_address() {
        assert_eq!(one_line(b"one\r\n  two"), &b"one two"[..]);
        assert_eq!(uri(b"<sip:alice@example.org>;tag=1"), b"sip:alice@example.org");
        assert_eq!(uri(b"\"x"), b"");
        assert_eq!(uri(&[b"sip:", &[b'x'; 2_000][..], b"@example.org"].concat()), b"");
    }

    #[test]
    fn a_subject_is_cut_between_letters() {
        let long = "ä".repeat(400);
        let cut = one_line(long.as_bytes());
        assert_eq!(std::str::from_utf8(&cut).unwrap().chars().count(), SUBJECT_MAX / 2);
        let odd = format!("x{long}");
        assert!(std::str::from_utf8(&one_line(odd.as_bytes())).is_ok());
        assert_eq!(one_line(b"short"), &b"short"[..]);
    }

    #[test]
    fn the_content_is_counted_without_what_wraps_it() {
        let body = b"--dmf-0123456789abcdef\r\nContent-Type: message/sip\r\n\r\nMESSAGE sip:b@c SIP/2.0\r\nTo: <sip:b@c>\r\n\r\nhello\r\n--dmf-0123456789abcdef--";
        let of = b"multipart/mixed;boundary=\"dmf-0123456789abcdef\"";
        let (head, content) = head_and_content(body, of).unwrap();
        assert!(head.ends_with(b"To: <sip:b@c>\r\n"));
        assert_eq!(content, 5);
        let large = b"--dmf-0123456789abcdef\r\nContent-Type: message/sipfrag\r\n\r\nINVITE sip:b@c SIP/2.0\r\nTo: <sip:b@c>\r\n\r\n\
            --dmf-0123456789abcdef\r\nContent-Type: message/msrp\r\n\r\nMSRP dkei38sd SEND\r\nMessage-ID: 1\r\nByte-Range: 1-7340032/7340032\r\n\
            Content-Type: text/plain\r\n\r\n\r\n-------dkei38sd$\r\n\r\n--dmf-0123456789abcdef--";
        let (head, content) = head_and_content(large, of).unwrap();
        assert!(head.ends_with(b"To: <sip:b@c>\r\n"));
        assert_eq!(content, 7_340_032);
        assert!(head_and_content(b"", of).is_none());
        assert!(head_and_content(body, b"text/plain").is_none());
        assert_eq!(head_and_content(b"\r\n\r\n", of), Some((&b""[..], 0)));
    }
}
