//! What a SIP message carries: its body, or the bodies of which a multipart one consists, and which of them a `cid:` means.
//!
//! Knows Content-* headers; what a body says is for who reads its type.

use super::message::Message;
use super::names::Name;
use crate::wire::multipart::{self, MultipartFault, Part};
use crate::wire::scan;

/// Most bodies of one message: a session description, a URI list, a few signatures.
pub const BODIES_MAX: usize = 64;

/// One body that is not itself made of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Body<'a> {
    /// Content-Type, parameters included.
    pub content_type: &'a [u8],
    /// Content-Disposition, parameters included; empty when there is none.
    pub disposition: &'a [u8],
    /// Content-ID without its angle brackets; empty when there is none.
    pub id: &'a [u8],
    /// Its octets.
    pub octets: &'a [u8],
}

/// Why a message's bodies are not told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodiesFault {
    /// The multipart structure is broken.
    Multipart(MultipartFault),
    /// More than [`BODIES_MAX`].
    TooMany,
    /// A body without a Content-Type (RFC 3261 20.15).
    NoType,
}

/// The bodies of a message, in order, nested ones in their place. None when it has none.
///
//= RFC 3261 20.15: the Content-Type header field MUST be present if the body is not empty
pub fn bodies(message: &Message) -> Result<Vec<Body<'_>>, BodiesFault> {
    let mut found = Vec::new();
    if message.body().is_empty() {
        return Ok(found);
    }
    let content_type = message.content_type().filter(|value| !value.is_empty()).ok_or(BodiesFault::NoType)?;
    if !is_multipart(content_type) {
        found.push(Body {
            content_type,
            disposition: message.header(Name::ContentDisposition).unwrap_or_default(),
            id: bare_id(message.header(Name::ContentId).unwrap_or_default()),
            octets: message.body(),
        });
        return Ok(found);
    }
    let parts = multipart::parts(content_type, message.body()).map_err(BodiesFault::Multipart)?;
    gather(parts, &mut found)?;
    Ok(found)
}

/// Nesting ends at `multipart::DEPTH_MAX`, and so does this.
fn gather<'a>(parts: impl Iterator<Item = Part<'a>>, found: &mut Vec<Body<'a>>) -> Result<(), BodiesFault> {
    for part in parts {
        if is_multipart(part.content_type()) {
            gather(part.parts().map_err(BodiesFault::Multipart)?, found)?;
            continue;
        }
        if found.len() >= BODIES_MAX {
            return Err(BodiesFault::TooMany);
        }
        found.push(Body {
            content_type: part.content_type(),
            disposition: part.header(b"Content-Disposition").unwrap_or_default(),
            id: bare_id(part.header(b"Content-ID").unwrap_or_default()),
            octets: part.body(),
        });
    }
    Ok(())
}

fn is_multipart(content_type: &[u8]) -> bool {
    content_type.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
}

fn bare_id(value: &[u8]) -> &[u8] {
    let value = scan::trim(value);
    value.strip_prefix(b"<").and_then(|value| value.strip_suffix(b">")).unwrap_or(value)
}

impl Body<'_> {
    /// True when it is of this media type; parameters and case do not count.
    pub fn is(&self, media_type: &[u8]) -> bool {
        first_token(self.content_type).eq_ignore_ascii_case(media_type)
    }

    /// True when its disposition is this; parameters and case do not count.
    pub fn is_for(&self, disposition: &[u8]) -> bool {
        first_token(self.disposition).eq_ignore_ascii_case(disposition)
    }

    /// True when a `cid:` URL means it.
    ///
    //= RFC 2392 2: the content-id is the URL's part behind "cid:" with its %-encoding undone
    pub fn is_meant_by(&self, cid: &[u8]) -> bool {
        let Some((scheme, wanted)) = scan::split_once(cid, b':') else { return false };
        scheme.eq_ignore_ascii_case(b"cid") && !self.id.is_empty() && Decoded(wanted).eq(self.id.iter().copied())
    }
}

fn first_token(value: &[u8]) -> &[u8] {
    scan::trim(value.split(|&octet| octet == b';').next().unwrap_or_default())
}

/// Octets with their %-encoding undone; a `%` without two digits is itself.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&octet, rest) = self.0.split_first()?;
        self.0 = rest;
        if octet == b'%'
            && let [high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16))
        {
            self.0 = after;
            return Some((high << 4 | low) as u8);
        }
        Some(octet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn message(headers: &str, body: &str) -> Message {
        let text = format!(
            "INVITE sip:Deferred@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
             Call-ID: c@h\r\nCSeq: 7 INVITE\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Message::parse(Bytes::from(text), &Limits::default()).unwrap()
    }

    #[test]
    fn a_single_body_has_the_headers_of_the_message() {
        let message = message(
            "Content-Type: application/resource-lists+xml;charset=utf-8\r\nContent-Disposition: Recipient-List;handling=required\r\n\
             Content-ID: <cn35t8jf02@example.com>\r\n",
            "<x/>",
        );
        let found = bodies(&message).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].is(b"application/resource-lists+xml") && found[0].is_for(b"recipient-list"));
        assert!(
            found[0].is_meant_by(b"cid:cn35t8jf02@example.com")
                && found[0].is_meant_by(b"CID:cn35t8jf02%40example.com")
        );
        for other in
            [&b"cid:cn35t8jf02@example.org"[..], b"cid:", b"mid:cn35t8jf02@example.com", b"cn35t8jf02@example.com"]
        {
            assert!(!found[0].is_meant_by(other));
        }
    }

    #[test]
    fn parts_are_told_apart_and_nested_ones_are_found() {
        let body = "--a\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--a\r\nContent-Type: multipart/related;boundary=b\r\n\r\n\
            --b\r\nContent-Type: application/resource-lists+xml\r\nContent-ID: <1@h>\r\n\r\n<x/>\r\n--b--\r\n--a\r\n\r\ntext\r\n--a--";
        let message = message("Content-Type: Multipart/Mixed;boundary=a\r\n", body);
        let found = bodies(&message).unwrap();
        let types: Vec<&[u8]> = found.iter().map(|body| body.content_type).collect();
        assert_eq!(types, [&b"application/sdp"[..], b"application/resource-lists+xml", b"text/plain"]);
        assert!(found[1].is_meant_by(b"cid:1@h") && !found[0].is_meant_by(b"cid:"));
        assert_eq!(found[1].octets, b"<x/>");
    }

    //= RFC 3261 20.15: the Content-Type header field MUST be present if the body is not empty
    #[test]
    fn bodies_that_cannot_be_told_apart_are_faults() {
        assert_eq!(bodies(&message("", "")), Ok(Vec::new()));
        assert_eq!(bodies(&message("", "x")), Err(BodiesFault::NoType));
        let no_boundary = bodies(&message("Content-Type: multipart/mixed\r\n", "x")).map(|found| found.len());
        assert_eq!(no_boundary, Err(BodiesFault::Multipart(MultipartFault::NoBoundary)));
        let many = "--a\r\n\r\nx\r\n".repeat(BODIES_MAX + 1);
        let many = message("Content-Type: multipart/mixed;boundary=a\r\n", &many);
        assert_eq!(bodies(&many), Err(BodiesFault::TooMany));
    }

    proptest! {
        //= RFC 2392 2: the content-id is the URL's part behind "cid:" with its %-encoding undone
        #[test]
        fn any_id_is_meant_by_its_own_url(id in "[a-zA-Z0-9%$@._+-]{1,30}") {
            let encoded: String = id.bytes().map(|octet| if octet.is_ascii_alphanumeric() { char::from(octet).to_string() } else { format!("%{octet:02X}") }).collect();
            let message = message(&format!("Content-Type: a/b\r\nContent-ID: <{id}>\r\n"), "x");
            let url = format!("cid:{encoded}");
            prop_assert!(bodies(&message).unwrap()[0].is_meant_by(url.as_bytes()));
        }

        #[test]
        fn no_octets_make_it_panic(body in "[-ab\r\n :;x]{0,160}") {
            let _ = bodies(&message("Content-Type: multipart/mixed;boundary=a\r\n", &body));
        }
    }
}
