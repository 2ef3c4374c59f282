//! What bodies are made of: several parts, CPIM, dates.

use deferd::wire::multipart::{self, Parts};
use deferd::wire::{cpim, date};

/// The first line is the Content-Type, the rest the body.
pub(super) fn multipart(octets: &[u8]) {
    let end = octets.iter().position(|octet| *octet == b'\n').unwrap_or(octets.len());
    let (content_type, body) = (&octets[..end], octets.get(end + 1..).unwrap_or_default());
    if let Ok(parts) = multipart::parts(content_type, body) {
        walk(parts, body, 1);
    }
    // A body of ours: the same parts come out, whatever they are.
    let boundary = multipart::boundary_beside(content_type, &[body]);
    assert!(!multipart::occurs(&boundary, body));
    let name = std::str::from_utf8(&boundary).unwrap();
    let mut ours = format!("--{name}\r\nContent-Type: a/b\r\n\r\n").into_bytes();
    ours.extend_from_slice(body);
    ours.extend_from_slice(format!("\r\n--{name}\r\n\r\nsecond\r\n--{name}--\r\n").as_bytes());
    let header = format!("multipart/mixed;boundary=\"{name}\"");
    let read: Vec<_> = multipart::parts(header.as_bytes(), &ours).unwrap().collect();
    assert_eq!(read.len(), 2);
    assert_eq!((read[0].content_type(), read[0].body()), (&b"a/b"[..], body));
    assert_eq!((read[1].content_type(), read[1].body()), (&b"text/plain"[..], &b"second"[..]));
}

fn walk(parts: Parts<'_>, body: &[u8], depth: usize) {
    assert!(depth <= multipart::DEPTH_MAX);
    let mut last = 0;
    for part in parts {
        let (head, inside) = (part.head_span(), part.body_span());
        assert!(head.at() >= last && inside.at() >= head.at() + head.len(), "parts stand one behind the other");
        last = inside.at() + inside.len();
        assert!(last <= body.len() && part.body() == &body[inside.at()..last]);
        let _ = (part.media_type(), part.header(b"content-id"), part.headers().count());
        if let Ok(parts) = part.parts() {
            walk(parts, part.body(), depth + 1);
        }
    }
}

pub(super) fn cpim(octets: &[u8]) {
    let id = cpim::message_id(octets);
    assert!(id.is_none_or(|id| !id.is_empty() && !id.contains(&b'\n')));
    let _ = (cpim::is_imdn(octets), cpim::wants_failure_report(octets));
}

pub(super) fn date(octets: &[u8]) {
    let number = octets.iter().rev().take(8).fold(0u64, |number, octet| number << 8 | u64::from(*octet));
    for seconds in date::parse(octets).into_iter().chain([number]) {
        let mut out = Vec::new();
        date::write_imf(&mut out, seconds);
        let last = 253_402_300_799;
        assert_eq!(date::parse(&out), Some(seconds.min(last)), "{}", out.escape_ascii());
    }
}
