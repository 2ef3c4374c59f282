//! What is written to bob, what it must look like when it comes, and the octets of bob's own PUBLISH.
//!
//! It knows no sockets. The comparison is octet for octet, of whole requests.

use super::agents::{Failure, Line, random_hex};
use crate::wire::multipart;
use std::io;
use std::net::SocketAddr;

/// One message to bob.
pub(super) struct Letter {
    pub(super) author: &'static str,
    pub(super) tcp: bool,
    headers: &'static str,
    content_type: &'static str,
    pub(super) body: Vec<u8>,
}

/// Five that differ in what can go wrong with them.
pub(super) fn letters() -> Vec<Letter> {
    let letter = |author, tcp, headers, content_type, body: &[u8]| Letter {
        author,
        tcp,
        headers,
        content_type,
        body: body.to_vec(),
    };
    // What an MSRP end-line and a MIME delimiter look like must not end anything.
    let traps: Vec<u8> =
        (0..64).flat_map(|n| format!("line {n}\r\n-------{n:020x}$\r\n--dmf-{n:016}\r\n").into_bytes()).collect();
    // Every octet there is, over several chunks.
    let binary: Vec<u8> = (0..24_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vec![
        letter("alice", false, "", "text/plain", b"Bob, are you there?"),
        letter(
            "carol",
            false,
            "Subject: lunch\r\nPriority: urgent\r\n",
            "text/plain;charset=UTF-8",
            "Grüße, 昼ごはん?".as_bytes(),
        ),
        letter("alice", true, "Date: Thu, 21 Feb 2002 13:02:03 GMT\r\n", "text/plain", &traps),
        letter("dave", true, "Expires: 86400\r\n", "application/octet-stream", &binary),
        letter("carol", false, "", "text/plain", b"Never mind. See you tomorrow!"),
    ]
}

/// A MESSAGE as its author sends it.
pub(super) fn request(letter: &Letter, number: usize, line: &Line) -> io::Result<Vec<u8>> {
    let (transport, addr) = line.sent_by()?;
    let author = letter.author;
    let head = format!(
        "MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/{transport} {addr};branch=z9hG4bK{}\r\nMax-Forwards: 70\r\n\
         From: <sip:{author}@example.org>;tag={}\r\nTo: <sip:bob@example.org>\r\nCall-ID: {}@{}\r\nCSeq: {number} MESSAGE\r\n\
         P-Asserted-Identity: <sip:{author}@example.org>\r\nAccept-Contact: *;+g.oma.sip-im\r\n\
         User-Agent: IM-client/OMA1.0 deferd-demo\r\n{}Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
        random_hex(8),
        random_hex(4),
        random_hex(10),
        addr.ip(),
        letter.headers,
        letter.content_type,
        letter.body.len()
    );
    Ok([head.as_bytes(), &letter.body].concat())
}

/// A request that bob sends.
pub(super) fn publish(line: SocketAddr) -> String {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
        <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"pres:bob@example.org\">\r\n\
        <tuple id=\"im\"><status><basic>open</basic></status><contact>sip:bob@example.org</contact></tuple>\r\n\
        </presence>\r\n";
    format!(
        "PUBLISH sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP {line};branch=z9hG4bK{}\r\nMax-Forwards: 70\r\n\
         From: <sip:bob@example.org>;tag={}\r\nTo: <sip:bob@example.org>\r\nCall-ID: {}@{}\r\nCSeq: 1 PUBLISH\r\n\
         P-Asserted-Identity: <sip:bob@example.org>\r\nEvent: presence\r\nExpires: 3600\r\n\
         User-Agent: IM-client/OMA1.0 deferd-demo\r\nContent-Type: application/pidf+xml\r\nContent-Length: {}\r\n\r\n{body}",
        random_hex(8),
        random_hex(4),
        random_hex(10),
        line.ip(),
        body.len()
    )
}

/// One message being pushed.
pub(super) struct Coming {
    pub(super) message_id: String,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
    pub(super) complete: bool,
}

/// Compares what came with what was sent, octet for octet; how many octets that were.
pub(super) fn compare(letters: &[Letter], sent: &[Vec<u8>], came: &[Coming]) -> Result<u64, Failure> {
    if came.len() != sent.len() || came.iter().any(|coming| !coming.complete) {
        let ids: Vec<&str> =
            came.iter().filter(|coming| coming.complete).map(|coming| coming.message_id.as_str()).collect();
        return Err(Failure::new(
            format!("{} whole messages", sent.len()),
            format!("{}: {}", ids.len(), ids.join(" ")),
        ));
    }
    let mut octets = 0;
    for (number, ((letter, sent), coming)) in letters.iter().zip(sent).zip(came).enumerate() {
        let number = number + 1;
        let parts: Vec<_> = match multipart::parts(coming.content_type.as_bytes(), &coming.body) {
            Ok(parts) => parts.collect(),
            Err(_) => return Err(Failure::new("multipart/mixed with a boundary", coming.content_type.clone())),
        };
        let [part] = parts.as_slice() else {
            return Err(Failure::new(format!("one part in message {number}"), format!("{} parts", parts.len())));
        };
        if !part.media_type().eq_ignore_ascii_case(b"message/sip") {
            return Err(Failure::new("a part of type message/sip", String::from_utf8_lossy(part.media_type())));
        }
        // The one thing the store may add to a request is the Date it lacks (12.2.2.3).
        let inside = if letter.headers.contains("Date:") { part.body().to_vec() } else { without_date(part.body()) };
        if let Some(at) = difference(sent, &inside) {
            let from = at.saturating_sub(20);
            let around = |octets: &[u8]| {
                let end = (at + 20).min(octets.len());
                String::from_utf8_lossy(octets.get(from.min(end)..end).unwrap_or_default()).escape_debug().to_string()
            };
            return Err(Failure::new(
                format!("message {number} as {} sent it; octet {at}: \"{}\"", letter.author, around(sent)),
                format!("\"{}\"", around(&inside)),
            ));
        }
        octets += sent.len() as u64;
    }
    Ok(octets)
}

/// The first octet in which two differ.
fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    (at < a.len().max(b.len())).then_some(at)
}

/// The request without its first Date line.
fn without_date(request: &[u8]) -> Vec<u8> {
    let head = memchr::memmem::find(request, b"\r\n\r\n").unwrap_or(request.len());
    let line = memchr::memmem::find(request, b"\r\nDate: ").filter(|at| *at < head);
    let Some(start) = line else { return request.to_vec() };
    let after = request.get(start + 2..).unwrap_or_default();
    let end = start + 2 + memchr::memmem::find(after, b"\r\n").unwrap_or(after.len());
    [request.get(..start).unwrap_or_default(), request.get(end..).unwrap_or_default()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_added_date_is_taken_out() {
        assert_eq!(without_date(b"A\r\nDate: x\r\nB: c\r\n\r\nD"), b"A\r\nB: c\r\n\r\nD");
        assert_eq!(without_date(b"A\r\nB: c\r\n\r\n\r\nDate: x\r\n"), b"A\r\nB: c\r\n\r\n\r\nDate: x\r\n");
        assert_eq!(difference(b"abc", b"abd"), Some(2));
        assert_eq!(difference(b"abc", b"abcd"), Some(3));
        assert_eq!(difference(b"abc", b"abc"), None);
    }
}
