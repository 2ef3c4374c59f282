//! The octets of a message that passes through us without a transaction (RFC 3261 16.11): a request for its next hop, a response
//! on its way back. Everything else of it stays as it came.

use super::message::Message;
use super::names::Name;
use crate::wire::scan;
use bytes::Bytes;

/// The request with our Via on top, one forward less, and, where `pop` says so, without its topmost Route. `None` when it may not be
/// forwarded any more.
///
//= RFC 3261 16.6: the proxy MUST decrement Max-Forwards by one, and insert a Via header field value before the existing ones
pub fn request(message: &Message, via: &[u8], pop: bool) -> Option<Bytes> {
    let forwards = message.max_forwards().unwrap_or(70).checked_sub(1)?;
    let mut out = begin(message);
    out.extend_from_slice(b"Via: ");
    out.extend_from_slice(via);
    out.extend_from_slice(b"\r\nMax-Forwards: ");
    scan::put_decimal(&mut out, forwards.into());
    out.extend_from_slice(b"\r\n");
    lines(message, &mut out, pop.then_some(Name::Route), Some(Name::MaxForwards));
    Some(Bytes::from(out))
}

/// The response without its topmost Via.
///
//= RFC 3261 16.7: the proxy removes the topmost Via header field value from the response
pub fn response(message: &Message) -> Bytes {
    let mut out = begin(message);
    lines(message, &mut out, Some(Name::Via), None);
    Bytes::from(out)
}

/// The start line.
fn begin(message: &Message) -> Vec<u8> {
    let octets = message.octets();
    let end = memchr::memchr(b'\n', octets).map_or(octets.len(), |at| at + 1);
    let mut out = Vec::with_capacity(octets.len() + 256);
    out.extend_from_slice(octets.get(..end).unwrap_or_default());
    out
}

/// All lines but the first value of `first`, and the lines of `without`; then the body.
fn lines(message: &Message, out: &mut Vec<u8>, first: Option<Name>, without: Option<Name>) {
    let mut first = first;
    for line in message.lines().filter(|line| Some(line.name) != without) {
        if Some(line.name) != first {
            out.extend_from_slice(line.whole.of(message.octets()));
            continue;
        }
        first = None;
        let rest = line.value.get(scan::value_end(line.value)..).unwrap_or_default();
        let rest = scan::trim(rest.strip_prefix(b",").unwrap_or(rest));
        if !rest.is_empty() {
            out.extend_from_slice(line.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(rest);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(message.body());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;

    fn read(text: &str) -> Message {
        Message::parse_datagram(Bytes::from(text.to_owned()), &Limits::default()).unwrap()
    }

    const INVITE: &str = "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP core;branch=z9hG4bK2, SIP/2.0/UDP us;branch=z9hG4bK1\r\n\
        Max-Forwards: 68\r\nRoute: <sip:us;lr>, <sip:core;lr;odi=\"a,b\">\r\nRoute: <sip:last;lr>\r\n\
        f: <sip:Deferred@example.org>;tag=1\r\nTo: <sip:bob@example.org>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nX-Folded: a\r\n  b\r\n\
        Content-Length: 4\r\n\r\nbody";

    //= RFC 3261 16.6: the proxy MUST decrement Max-Forwards by one, and insert a Via header field value before the existing ones
    #[test]
    fn a_request_goes_on_to_its_next_route() {
        let onward = request(&read(INVITE), b"SIP/2.0/UDP us;branch=z9hG4bK3", true).unwrap();
        let expected = INVITE
            .replace("Via: ", "Via: SIP/2.0/UDP us;branch=z9hG4bK3\r\nMax-Forwards: 67\r\nVia: ")
            .replace("Max-Forwards: 68\r\n", "")
            .replace("<sip:us;lr>, ", "");
        assert_eq!(String::from_utf8(onward.to_vec()).unwrap(), expected);
        let alone = INVITE.replace("Route: <sip:us;lr>, <sip:core;lr;odi=\"a,b\">", "Route: <sip:us;lr>");
        let onward = request(&read(&alone), b"SIP/2.0/UDP us;branch=z9hG4bK3", true).unwrap();
        assert!(!onward.windows(6).any(|octets| octets == b"sip:us"), "the line goes with its only value");
        let kept = request(&read(INVITE), b"SIP/2.0/UDP us;branch=z9hG4bK3", false).unwrap();
        assert!(kept.windows(11).any(|octets| octets == b"<sip:us;lr>"));
        assert_eq!(request(&read(&INVITE.replace("68", "0")), b"x", true), None);
    }

    //= RFC 3261 16.7: the proxy removes the topmost Via header field value from the response
    #[test]
    fn a_response_goes_back_without_our_via() {
        let text = INVITE.replace("INVITE sip:bob@example.org SIP/2.0", "SIP/2.0 180 Ringing");
        let back = response(&read(&text));
        let expected = text.replace("SIP/2.0/UDP core;branch=z9hG4bK2, ", "");
        assert_eq!(String::from_utf8(back.to_vec()).unwrap(), expected);
    }
}
