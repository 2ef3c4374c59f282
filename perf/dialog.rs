//! The SIP of a client that is pushed to: it takes every INVITE, and says good-bye when it is told so.
//!
//! Knows requests and the responses to them, no socket and no time.

use crate::sip::{self, Cut};
use std::net::SocketAddr;

/// What came over SIP, as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A final answer to the user's PUBLISH.
    Published { user: u32, status: u16 },
    /// The daemon wants to push.
    Invite { user: u32, sdp: &'a [u8] },
    /// The session is over.
    Bye { user: u32 },
    /// An ACK, a provisional answer.
    Nothing,
    /// Something that nobody here expects.
    Odd,
}

/// Reads one whole message. A user is the eight digits behind `sip:u` in the Request-URI, or the Call-ID of its PUBLISH.
pub fn hear(octets: &[u8], cut: Cut) -> Heard<'_> {
    let head = &octets[..cut.head];
    match sip::status(head) {
        0 => {}
        100..=199 => return Heard::Nothing,
        status => {
            let id = sip::value(head, b"Call-ID").unwrap_or_default();
            return match id.strip_prefix(b"p-").and_then(sip::number) {
                Some(user) => Heard::Published { user, status },
                None => Heard::Odd,
            };
        }
    }
    let user = |method: &[u8]| head.strip_prefix(method)?.strip_prefix(b" sip:u").and_then(sip::number);
    if head.starts_with(b"ACK ") {
        Heard::Nothing
    } else if let Some(user) = user(b"INVITE") {
        Heard::Invite { user, sdp: &octets[cut.head..cut.len] }
    } else if let Some(user) = user(b"BYE") {
        Heard::Bye { user }
    } else {
        Heard::Odd
    }
}

/// Appends a 200 to a request: what must be copied is copied. `more` are whole header lines.
pub fn ok(out: &mut Vec<u8>, head: &[u8], tag: u32, more: &[u8], body: &[u8]) {
    out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
    let mut rest = head;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = &rest[..=end];
        rest = &rest[end + 1..];
        match line {
            [b'V', b'i', b'a', ..] | [b'F', b'r', b'o', b'm', ..] | [b'R', b'e', b'c', b'o', ..] => {
                out.extend_from_slice(line);
            }
            [b'C', b'a', b'l', b'l', ..] | [b'C', b'S', b'e', b'q', ..] => out.extend_from_slice(line),
            [b'T', b'o', b':', ..] => {
                let value = line.trim_ascii_end();
                out.extend_from_slice(value);
                if memchr::memmem::find(value, b";tag=").is_none() {
                    out.extend_from_slice(b";tag=c");
                    out.extend_from_slice(&sip::hex(tag));
                }
                out.extend_from_slice(b"\r\n");
            }
            _ => {}
        }
    }
    out.extend_from_slice(more);
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// The peer's path in an SDP, and where it leads.
pub fn path(sdp: &[u8]) -> Option<(&[u8], SocketAddr)> {
    let at = memchr::memmem::find(sdp, b"\na=path:")? + 8;
    let end = memchr::memchr(b'\r', &sdp[at..])?;
    let path = &sdp[at..at + end];
    let host = path.strip_prefix(b"msrp://")?;
    let end = memchr::memchr(b'/', host)?;
    let addr = std::str::from_utf8(&host[..end]).ok()?.parse().ok()?;
    Some((path, addr))
}

/// The answer to an offer of a push.
pub fn sdp(our_path: &[u8], port: u16, active: bool) -> Vec<u8> {
    let mut out = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message ".to_vec();
    out.extend_from_slice(port.to_string().as_bytes());
    out.extend_from_slice(b" TCP/MSRP *\r\na=accept-types:*\r\na=recvonly\r\na=setup:");
    out.extend_from_slice(if active { b"active" } else { b"passive" });
    out.extend_from_slice(b"\r\na=path:");
    out.extend_from_slice(our_path);
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:u0000002a@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK1\r\n\
        From: <sip:Deferred@im.example.org>;tag=1\r\nTo: <sip:u0000002a@example.org>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
        Contact: <sip:a>\r\nContent-Length: 47\r\n\r\nv=0\r\na=path:msrp://127.0.0.1:2855/0123abcd;tcp\r\n";

    #[test]
    fn an_invite_is_heard_and_answered_with_what_must_be_copied() {
        let cut = sip::cut(INVITE).unwrap().unwrap();
        let Heard::Invite { user: 42, sdp } = hear(INVITE, cut) else { panic!("no INVITE") };
        let (their, addr) = path(sdp).unwrap();
        assert_eq!((their, addr.port()), (b"msrp://127.0.0.1:2855/0123abcd;tcp".as_slice(), 2855));
        let (mut out, answer) = (Vec::new(), super::sdp(b"msrp://127.0.0.1:9/c;tcp", 9, true));
        ok(&mut out, &INVITE[..cut.head], 42, b"Contact: <sip:b>\r\n", &answer);
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(text.contains("\r\nTo: <sip:u0000002a@example.org>;tag=c0000002a\r\n"));
        assert!(text.contains("\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK1\r\n"));
        assert!(text.contains("\r\nCSeq: 1 INVITE\r\n") && !text.contains("<sip:a>"));
        assert_eq!(sip::cut(&out).unwrap().unwrap().len, out.len());
        assert_eq!(path(&answer).unwrap().1.port(), 9);
    }

    #[test]
    fn answers_and_good_byes_name_their_user() {
        let octets = b"SIP/2.0 200 OK\r\nCall-ID: p-0000002a-00000001@x\r\nContent-Length: 0\r\n\r\n";
        let heard = hear(octets, sip::cut(octets).unwrap().unwrap());
        assert_eq!(heard, Heard::Published { user: 42, status: 200 });
        let octets = b"BYE sip:u0000002a@127.0.0.1:5099 SIP/2.0\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(hear(octets, sip::cut(octets).unwrap().unwrap()), Heard::Bye { user: 42 });
        let octets = b"OPTIONS sip:u0000002a@127.0.0.1:5099 SIP/2.0\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(hear(octets, sip::cut(octets).unwrap().unwrap()), Heard::Odd);
    }
}
