//! From octets to a [`Message`]: one pass over the head. What its parts mean together is in `meaning`.
//!
//! The first fault is kept and reading goes on, so that what is left may still be answered.

use super::fault::{Fault, First, What};
use super::meaning;
use super::message::{Entry, Malformed, Message, Start, TargetPlaces, ViaPlaces};
use super::names::{Method, Name};
use super::via::Via;
use crate::base::limits::Limits;
use crate::base::span::Span;
use crate::wire::scan::{self, Class};
use crate::wire::uri::Uri;
use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memrchr};

/// Headers a message may carry once (RFC 3261 7.3.1). Repeated Content-Lengths may agree; lists may always repeat.
//= RFC 4475 3.3.8: multiple values in single-value required fields are a 400
const SINGLE: u128 = Name::From.bit()
    | Name::To.bit()
    | Name::CallId.bit()
    | Name::CSeq.bit()
    | Name::MaxForwards.bit()
    | Name::ContentType.bit()
    | Name::ContentDisposition.bit()
    | Name::Expires.bit()
    | Name::MinExpires.bit()
    | Name::Date.bit()
    | Name::Event.bit()
    | Name::SipETag.bit()
    | Name::SubscriptionState.bit()
    | Name::SessionExpires.bit()
    | Name::MinSE.bit();

/// Room for the headers of a typical message without growing: 16 entries of 24 octets.
const LINES_TYPICAL: usize = 16;

/// Reads a message. `stream`: its octets were cut out of a stream, so a Content-Length is owed (RFC 3261 18.3).
pub(super) fn read(octets: Bytes, limits: &Limits, stream: bool) -> Result<Message, Box<Malformed>> {
    let mut fault = First::default();
    match places(&octets, limits, stream, &mut fault) {
        Ok(message) => {
            let message = Message { octets, ..message };
            let Some(fault) = fault.into_fault() else { return Ok(message) };
            //= RFC 3261 17.1.1.3: an ACK is never answered
            let answerable = message.is_request() && message.method() != Method::Ack && !message.via.host.is_empty();
            Err(Box::new(Malformed { fault, partial: answerable.then_some(message) }))
        }
        Err(fault) => Err(Box::new(Malformed { fault, partial: None })),
    }
}

/// Reads the message at the start of what came along a stream, and takes its octets, if it is whole and nothing is wrong with it.
pub(super) fn take(buffer: &mut BytesMut, limits: &Limits) -> Option<Message> {
    // Keep-alives are no part of a message here.
    if matches!(buffer.first(), None | Some(b'\r')) {
        return None;
    }
    let mut fault = First::default();
    let message = places(buffer, limits, true, &mut fault).ok()?;
    if fault.into_fault().is_some() {
        return None;
    }
    let octets = buffer.split_to(message.body.end()).freeze();
    Some(Message { octets, ..message })
}

/// Where everything lies in the message at the start of `buf`; it does not have its octets yet. `Err`: there is nothing to answer.
#[inline]
fn places(buf: &[u8], limits: &Limits, stream: bool, fault: &mut First) -> Result<Message, Fault> {
    let mut at = 0;
    while buf.get(at..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
        at += 2;
    }
    if at >= buf.len() {
        return Err(Fault::new(at, What::Empty));
    }
    let rest = buf.get(at..).unwrap_or_default();
    let len = memchr2(b'\r', b'\n', rest).ok_or(Fault::new(at, What::HeadNotEnded))?;
    let (line, after) = scan::split(rest, len);
    if !after.starts_with(b"\r\n") {
        return Err(Fault::new(at + len, What::LineEnd));
    }
    let start = start_line(buf, line, fault).map_err(|what| Fault::new(at, what))?;
    at += len + 2;

    let mut message = Message {
        start,
        lines: Vec::with_capacity(LINES_TYPICAL),
        seen: 0,
        via: ViaPlaces::default(),
        from: Span::EMPTY,
        to: Span::EMPTY,
        from_tag: None,
        to_tag: None,
        call_id: Span::EMPTY,
        cseq: 0,
        cseq_method: Method::Other,
        cseq_method_at: Span::EMPTY,
        declared: None,
        body: Span::EMPTY,
        octets: Bytes::new(),
    };
    let head = read_lines(buf, at, limits, &mut message, fault);
    if head > limits.sip_head_octets {
        fault.note(Fault::new(limits.sip_head_octets, What::HeadTooLong));
    }
    meaning::identity(buf, &mut message, fault);
    meaning::body(buf, head, stream, limits, &mut message, fault);
    Ok(message)
}

/// The first line. `Err`: this is no request and no response that anybody waits for.
fn start_line(buf: &[u8], line: &[u8], fault: &mut First) -> Result<Start, What> {
    let place = |part: &[u8]| scan::span_in(buf, part);
    if let Some(version_len) = version_len(line)
        && matches!(line.get(version_len), Some(b' '))
    {
        let (version, rest) = scan::split(line, version_len);
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            return Err(What::Version);
        }
        let rest = rest.get(1..).unwrap_or_default();
        let (digits, reason) = Class::DIGIT.run(rest);
        if !matches!(reason.first(), None | Some(b' ')) {
            return Err(What::StartLine);
        }
        //= RFC 4475 3.1.2.19: a response code above 699 is dropped
        let status = scan::decimal(digits).filter(|status| digits.len() == 3 && (100..700).contains(status));
        let status = status.and_then(|status| u16::try_from(status).ok()).ok_or(What::StatusCode)?;
        return Ok(Start::Response { status, reason: place(reason.get(1..).unwrap_or_default()) });
    }
    let (method, rest) = scan::split_once(line, b' ').ok_or(What::StartLine)?;
    let parsed = Method::parse(method);
    if parsed == Method::Other && !scan::is_token(method) {
        return Err(What::StartLine);
    }
    let (uri, version) = match memrchr(b' ', rest) {
        Some(space) => (scan::split(rest, space).0, rest.get(space + 1..).unwrap_or_default()),
        None => (rest, &[][..]),
    };
    let mut target = None;
    if version != b"SIP/2.0" && !version.eq_ignore_ascii_case(b"SIP/2.0") {
        //= RFC 4475 3.1.2.16: an unknown version is a 505
        let what = if version_len(version) == Some(version.len()) { What::Version } else { What::StartLine };
        fault.note(Fault::new(place(line).end() - version.len(), what));
    } else {
        match Uri::parse_target(uri) {
            Ok(uri) => {
                target = Some(TargetPlaces {
                    scheme: uri.scheme,
                    user: uri.user.map(place),
                    password: uri.password.map(place),
                    host: place(uri.host),
                    port: uri.port,
                    params: place(uri.params.as_bytes()),
                });
            }
            Err(found) => fault.note(found.shifted(place(uri).at())),
        }
    }
    Ok(Start::Request { method: parsed, method_at: place(method), uri: place(uri), target })
}

/// Length of the `SIP/1*DIGIT.1*DIGIT` at the start.
fn version_len(octets: &[u8]) -> Option<usize> {
    let (name, rest) = octets.split_at_checked(4)?;
    if !name.eq_ignore_ascii_case(b"SIP/") {
        return None;
    }
    let (major, rest) = Class::DIGIT.run(rest);
    let (minor, _) = Class::DIGIT.run(rest.strip_prefix(b".")?);
    (!major.is_empty() && !minor.is_empty()).then_some(4 + major.len() + 1 + minor.len())
}

/// The header lines from `at` on. Returns the length of the head, blank line included.
fn read_lines(buf: &[u8], mut at: usize, limits: &Limits, message: &mut Message, fault: &mut First) -> usize {
    loop {
        let rest = buf.get(at..).unwrap_or_default();
        if rest.starts_with(b"\r\n") {
            return at + 2;
        }
        if rest.is_empty() {
            fault.note(Fault::new(at, What::HeadNotEnded));
            return at;
        }
        if message.lines.len() >= limits.sip_headers {
            fault.note(Fault::new(at, What::TooManyHeaders));
            return at;
        }
        let (line_len, folded) = match logical_line(rest) {
            Ok(found) => found,
            Err((bad, what)) => {
                fault.note(Fault::new(at + bad, what));
                return at;
            }
        };
        let line = scan::split(rest, line_len).0;
        let end = at + line_len + 2;
        read_line(buf, line, at, end, folded, message, fault);
        at = end;
    }
}

/// Length of the line at the start without its CRLF: up to a CRLF that no white space follows (RFC 3261 7.3.1 folding); and
/// whether it has such folds.
#[inline]
fn logical_line(rest: &[u8]) -> Result<(usize, bool), (usize, What)> {
    let (mut at, mut folded) = (0, false);
    loop {
        let ahead = rest.get(at..).unwrap_or_default();
        let Some(found) = memchr2(b'\r', b'\n', ahead) else { return Err((rest.len(), What::HeadNotEnded)) };
        at += found;
        match rest.get(at..).unwrap_or_default() {
            [b'\r', b'\n', b' ' | b'\t', ..] => (at, folded) = (at + 3, true),
            [b'\r', b'\n', ..] => return Ok((at, folded)),
            _ => return Err((at, What::LineEnd)),
        }
    }
}

#[inline]
fn read_line(buf: &[u8], line: &[u8], at: usize, end: usize, folded: bool, message: &mut Message, fault: &mut First) {
    let Some((raw, value)) = scan::split_once(line, b':') else {
        fault.note(Fault::new(at, What::HeaderName));
        return;
    };
    // White space before the colon is legal (RFC 3261 25.1 HCOLON), before the name it is not.
    let name_bytes = scan::trim_end(raw);
    let name = Name::parse(name_bytes);
    // A line that goes on before its colon is none: HCOLON has no line end.
    let is_broken = folded && raw.contains(&b'\n');
    if is_broken || name == Name::Other && !scan::is_token(name_bytes) {
        fault.note(Fault::new(at, What::HeaderName));
        return;
    }
    let bit = name.bit();
    if message.seen & bit != 0 && SINGLE & bit != 0 {
        fault.note(Fault::new(at, What::HeaderTwice));
        return;
    }
    let value = scan::trim(value);
    let place = if value.is_empty() { Span::new(end.saturating_sub(2), 0) } else { scan::span_in(buf, value) };
    match name {
        Name::From => message.from = place,
        Name::To => message.to = place,
        Name::CallId => message.call_id = place,
        Name::Via if message.seen & bit == 0 => read_via(buf, value, message, fault),
        Name::CSeq => read_cseq(buf, value, place, message, fault),
        Name::ContentLength => {
            // A number above 2^32-1 is as garbled as a word: no message has that many octets.
            match (scan::decimal_u32(value), message.declared) {
                (None, _) => {
                    fault.note(Fault::new(place.at(), What::ContentLength));
                }
                (Some(octets), Some(earlier)) if octets != earlier => {
                    fault.note(Fault::new(at, What::ContentLengthTwice));
                }
                (Some(octets), _) => message.declared = Some(octets),
            }
        }
        _ => {}
    }
    message.seen |= bit;
    let (at, name_len, end) = (at as u32, name_bytes.len() as u32, end as u32);
    message.lines.push(Entry { value: place, at, name_len, end, name, folded });
}

fn read_via(buf: &[u8], line: &[u8], message: &mut Message, fault: &mut First) {
    let value = scan::trim_end(scan::split(line, scan::value_end(line)).0);
    let (via, found) = Via::read(value);
    let place = |part: &[u8]| scan::span_in(buf, part);
    message.via = ViaPlaces {
        value: place(value),
        transport: place(via.transport),
        host: place(via.host),
        params: place(via.params.as_bytes()),
        rport_text: via.rport_text.map(place),
        branch: via.branch.map(place),
        received: via.received.map(place),
        maddr: via.maddr.map(place),
        port: via.port,
        rport: via.rport,
        ttl: via.ttl,
    };
    if let Some(found) = found {
        fault.note(found.shifted(place(value).at()));
    } else if line.last() == Some(&b',') {
        //= RFC 4475 3.1.2.1: separators without values are a 400
        fault.note(Fault::new(place(line).end(), What::Via));
    }
}

fn read_cseq(buf: &[u8], value: &[u8], place: Span, message: &mut Message, fault: &mut First) {
    match super::fields::CSeq::parse(value) {
        Some(cseq) => {
            message.cseq = cseq.number;
            message.cseq_method_at = scan::span_in(buf, cseq.method);
            message.cseq_method = Method::parse(cseq.method);
        }
        None => {
            fault.note(Fault::new(place.at(), What::CSeq));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "MESSAGE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\n\
        To: \"B\" <sip:b@h>\r\nCall-ID: c@h\r\nCSeq: 7 MESSAGE\r\nContact: <sip:a@1.2.3.4>\r\nl: 2\r\n\r\nhi";

    fn read_str(text: &str) -> Result<Message, Box<Malformed>> {
        Message::parse_datagram(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
    }

    /// The finding in the good message after an exchange, and whether it can be answered.
    fn spoilt(from: &str, to: &str) -> Option<(What, u16, bool)> {
        assert!(GOOD.contains(from), "{from}");
        let malformed = read_str(&GOOD.replacen(from, to, 1)).err()?;
        Some((malformed.fault.what, malformed.fault.status(), malformed.partial.is_some()))
    }

    #[test]
    fn faults_are_found_named_and_answerable() {
        assert!(read_str(GOOD).is_ok());
        let table: &[(&str, &str, What, u16)] = &[
            ("SIP/2.0\r\n", "SIP/7.0\r\n", What::Version, 505),
            ("SIP/2.0\r\n", "SIP/2.0  \r\n", What::StartLine, 400),
            (" SIP/2.0\r\n", "  SIP/2.0\r\n", What::Uri, 400),
            ("MESSAGE sip:b@h", "MESSAGE  sip:b@h", What::Uri, 400),
            ("sip:b@h SIP", "sip:b@h; lr SIP", What::Uri, 400),
            ("sip:b@h SIP", "<sip:b@h> SIP", What::Uri, 400),
            ("sip:b@h SIP", "sip:b@h?Route=x SIP", What::UriHeaders, 400),
            ("sip:b@h SIP", "what:ever SIP", What::UriScheme, 416),
            ("MESSAGE sip", "NEW sip", What::UnknownMethod, 501),
            ("MESSAGE sip", "INVITE sip", What::CSeqMethod, 400),
            ("7 MESSAGE", "4294967296 MESSAGE", What::CSeq, 400),
            ("7 MESSAGE", "7MESSAGE", What::CSeq, 400),
            ("7 MESSAGE", "7 ", What::CSeq, 400),
            ("CSeq: 7 MESSAGE\r\n", "", What::CSeqMissing, 400),
            ("From: <sip:a@h>;tag=1\r\n", "", What::FromMissing, 400),
            ("To: \"B\" <sip:b@h>\r\n", "", What::ToMissing, 400),
            ("Call-ID: c@h\r\n", "", What::CallIdMissing, 400),
            ("Call-ID: c@h", "Call-ID: c h", What::CallId, 400),
            ("Call-ID: c@h", "Call-ID:", What::CallId, 400),
            ("Call-ID: c@h", "Call-ID: c@h\r\ni: d@h", What::HeaderTwice, 400),
            ("\"B\" <", "\"B <", What::QuoteOpen, 400),
            ("\"B\" <", "B, C <", What::DisplayName, 400),
            ("<sip:b@h>\r", "< sip:b@h >\r", What::Address, 400),
            ("<sip:b@h>\r", "*\r", What::Address, 400),
            ("\"B\" <sip:b@h>\r", "*\r", What::Address, 400),
            ("To:", "\r\nTo:", What::ToMissing, 400),
            ("To:", " To:", What::ToMissing, 400),
            ("To:", "T o:", What::HeaderName, 400),
            ("To:", "X\r\n : y\r\nTo:", What::HeaderName, 400),
            ("l: 2", "l\r\n : 2", What::HeaderName, 400),
            ("To:", "nonsense\r\nTo:", What::HeaderName, 400),
            ("To:", ": nameless\r\nTo:", What::HeaderName, 400),
            ("To:", "X: a\rb\r\nTo:", What::LineEnd, 400),
            ("To:", "X: a\nTo:", What::LineEnd, 400),
            ("branch=z9hG4bKx", ";,;,,", What::Via, 400),
            ("branch=z9hG4bKx", "branch=x,,", What::Via, 400),
            ("<sip:a@1.2.3.4>", "sip:a@1.2.3.4?x=y", What::BracketsMissing, 400),
            ("<sip:a@1.2.3.4>", "<sip:a@1.2.3.4>;;;;", What::Param, 400),
            ("l: 2", "l: -2", What::ContentLength, 400),
            ("l: 2", "l: two", What::ContentLength, 400),
            ("l: 2", "l: 3", What::BodyShorterThanDeclared, 400),
            ("l: 2", "l: 2000000", What::BodyTooLarge, 413),
            ("l: 2", "l: 2\r\nContent-Length: 1", What::ContentLengthTwice, 400),
            ("\r\n\r\nhi", "\r\n", What::HeadNotEnded, 400),
        ];
        for &(from, to, what, status) in table {
            assert_eq!(spoilt(from, to), Some((what, status, true)), "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn what_nobody_waits_for_is_dropped() {
        let table: &[(&str, &str, What)] = &[
            ("MESSAGE sip:b@h SIP/2.0", "SIP/2.0 4294967301 better not break", What::StatusCode),
            ("MESSAGE sip:b@h SIP/2.0", "SIP/2.0 700 x", What::StatusCode),
            ("MESSAGE sip:b@h SIP/2.0", "SIP/2.0 99 x", What::StatusCode),
            ("MESSAGE sip:b@h SIP/2.0", "SIP/3.0 200 OK", What::Version),
            ("MESSAGE sip:b@h SIP/2.0", "nonsense", What::StartLine),
            ("MESSAGE sip:b@h SIP/2.0", "a,b sip:b@h SIP/2.0", What::StartLine),
            ("MESSAGE sip:b@h SIP/2.0\r\n", "MESSAGE sip:b@h SIP/2.0\n", What::LineEnd),
            ("Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\n", "", What::ViaMissing),
            ("Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\n", "Via: SIP/2.0/UDP\r\n", What::Via),
            ("MESSAGE sip:b@h SIP/2.0", "ACK sip:b@h SIP/2.0", What::CSeqMethod),
        ];
        for &(from, to, what) in table {
            let (found, _, answerable) = spoilt(from, to).unwrap();
            assert_eq!((found, answerable), (what, false), "{from:?} -> {to:?}");
        }
        for nothing in ["", "\r\n", "\r\n\r\n"] {
            assert_eq!(read_str(nothing).unwrap_err().fault.what, What::Empty);
        }
    }

    #[test]
    fn what_is_only_odd_is_accepted() {
        let table: &[(&str, &str)] = &[
            ("MESSAGE sip:b@h SIP/2.0", "SIP/2.0 200 "),
            ("MESSAGE sip:b@h SIP/2.0", "SIP/2.0 200"),
            ("MESSAGE sip:b@h SIP/2.0", "MESSAGE sip:b@h sip/2.0"),
            ("MESSAGE sip:b@h", "\r\n\r\nMESSAGE sip:b@h"),
            (";branch=z9hG4bKx", ""),
            (";tag=1", ""),
            ("l: 2\r\n", ""),
            ("l: 2\r\n", "l: 1\r\n"),
            ("l: 2\r\n", "l: 2\r\nContent-Length: 2\r\n"),
            ("To:", "Max-Forwards: 300\r\nTo:"),
            ("To:", "Date: Fri, 01 Jan 2010 16:00:00 EST\r\nTo:"),
            ("To:", "Expires: 99999999999999999999999\r\nTo:"),
            ("<sip:a@1.2.3.4>", "*"),
            ("<sip:b@h>\r", "<isbn:2983792873>\r"),
            ("l: 2", "s:\r\nl: 2"),
        ];
        for &(from, to) in table {
            assert_eq!(spoilt(from, to), None, "{from:?} -> {to:?}");
        }
        let unknown = GOOD.replace("MESSAGE", "RE%47IST%45R");
        let message = read_str(&unknown).unwrap();
        assert_eq!((message.method(), message.method_bytes()), (Method::Other, &b"RE%47IST%45R"[..]));
    }

    #[test]
    fn on_a_stream_a_length_is_owed() {
        let bare = Bytes::from(GOOD.replacen("l: 2\r\n", "", 1));
        let fault = Message::parse(bare, &Limits::default()).unwrap_err().fault;
        assert_eq!((fault.what, fault.status()), (What::ContentLengthMissing, 400));
    }

    #[test]
    fn limits_hold() {
        let few = Limits { sip_headers: 6, ..Limits::default() };
        let malformed = Message::parse(Bytes::from(GOOD), &few).unwrap_err();
        assert_eq!((malformed.fault.what, malformed.fault.status()), (What::TooManyHeaders, 513));
        assert!(malformed.partial.is_some());
        let short = Limits { sip_head_octets: 100, ..Limits::default() };
        assert_eq!(Message::parse(Bytes::from(GOOD), &short).unwrap_err().fault.what, What::HeadTooLong);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(octets.into(), &Limits::default());
        }

        #[test]
        fn a_damaged_message_is_read_without_harm(
            damage in proptest::collection::vec((0usize..300, any::<u8>()), 1..6), end in 0usize..300
        ) {
            let mut octets = GOOD.as_bytes().to_vec();
            for (at, octet) in damage {
                if let Some(place) = octets.get_mut(at) {
                    *place = octet;
                }
            }
            octets.truncate(end);
            let message = match Message::parse_datagram(octets.into(), &Limits::default()) {
                Ok(message) => Some(message),
                Err(malformed) => malformed.partial,
            };
            if let Some(message) = message {
                // Everything may be asked, and an answer may be written, of whatever was read.
                let _ = (message.top_via(), message.via_count(), message.cseq(), message.expires(), message.max_forwards());
                let _ = (message.body_bytes(), message.request_uri(), message.from_tag(), message.to_tag());
                prop_assert!(message.lines().all(|line| !line.name_bytes.is_empty()));
                let source = std::net::SocketAddr::from(([127, 0, 0, 1], 5060));
                let answer = crate::wire::sip::Response::to(&message, 400, source).to_tag(b"t").finish();
                prop_assert!(answer.starts_with(b"SIP/2.0 400 Bad Request\r\nVia: "));
            }
        }
    }
}
