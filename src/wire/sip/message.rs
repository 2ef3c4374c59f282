//! A SIP message, read once, kept as one refcounted buffer and places in it.
//!
//! Knows where every header lies and what the few say that routing needs (Via, From and To tags, Call-ID, CSeq, body);
//! the other values are read when asked for. How octets become this is in `read` and `meaning`.

use super::fault::Fault;
use super::names::{Method, Name};
use super::via::Via;
use crate::base::limits::Limits;
use crate::base::span::Span;
use crate::wire::params::Params;
use crate::wire::scan;
use crate::wire::uri::{Scheme, Uri};
use bytes::Bytes;
use std::fmt;

/// A request or response. Cloning copies places, not octets.
#[derive(Clone)]
pub struct Message {
    pub(super) octets: Bytes,
    pub(super) start: Start,
    pub(super) lines: Vec<Entry>,
    /// One bit for every [`Name`] that occurs.
    pub(super) seen: u128,
    pub(super) via: ViaPlaces,
    pub(super) from: Span,
    pub(super) to: Span,
    pub(super) from_tag: Option<Span>,
    pub(super) to_tag: Option<Span>,
    pub(super) call_id: Span,
    pub(super) cseq: u32,
    pub(super) cseq_method: Method,
    pub(super) cseq_method_at: Span,
    pub(super) declared: Option<u32>,
    pub(super) body: Span,
}

/// The first line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    /// `INVITE sip:bob@example.com SIP/2.0`
    Request { method: Method, method_at: Span, uri: Span, target: Option<TargetPlaces> },
    /// `SIP/2.0 200 OK`
    Response { status: u16, reason: Span },
}

/// The parts of a Request-URI that can be served: it has no headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct TargetPlaces {
    pub(super) scheme: Scheme,
    pub(super) user: Option<Span>,
    pub(super) password: Option<Span>,
    pub(super) host: Span,
    pub(super) port: Option<u16>,
    pub(super) params: Span,
}

/// One header line, folds included. 24 octets; real messages have 12 to 25 of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) value: Span,
    pub(super) at: u32,
    pub(super) name_len: u32,
    /// One past the line's CRLF.
    pub(super) end: u32,
    pub(super) name: Name,
    /// It has a line end inside.
    pub(super) folded: bool,
}

/// The topmost Via, as places.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ViaPlaces {
    /// The first value, without what follows its comma.
    pub(super) value: Span,
    pub(super) transport: Span,
    pub(super) host: Span,
    pub(super) params: Span,
    pub(super) rport_text: Option<Span>,
    pub(super) branch: Option<Span>,
    pub(super) received: Option<Span>,
    pub(super) maddr: Option<Span>,
    pub(super) port: Option<u16>,
    pub(super) rport: Option<Option<u16>>,
    pub(super) ttl: Option<u8>,
}

/// One header line of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    /// Which header.
    pub name: Name,
    /// Its name as it stands.
    pub name_bytes: &'a [u8],
    /// Its value, trimmed; folds inside are left as they are.
    pub value: &'a [u8],
    /// The whole line in [`Message::octets`], its folds and its CRLF included.
    pub whole: Span,
    /// Its value goes over several lines.
    pub folded: bool,
}

/// What is left of octets that are no good message.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// The first thing that is wrong.
    pub fault: Fault,
    /// Good enough to answer from: a request other than ACK with a Via that names a host. Everything else in it is what could be
    /// read; From, To, Call-ID and CSeq may be missing or malformed. `None`: there is nobody to answer, drop it.
    pub partial: Option<Message>,
}

impl Message {
    /// Reads a message that [`super::cut::Cut`] has split off a stream: exactly its octets.
    ///
    /// # Errors
    /// The first fault, with what is good enough to answer from.
    pub fn parse(octets: Bytes, limits: &Limits) -> Result<Message, Box<Malformed>> {
        super::read::read(octets, limits, true)
    }

    /// Reads the message in a datagram. Without a Content-Length the body is all of the rest; octets behind the body are
    /// ignored; a body shorter than declared is a fault (RFC 3261 18.3). CRLFs before the message are skipped.
    ///
    /// # Errors
    /// As [`Message::parse`]. A datagram of CRLFs alone (a keep-alive) is [`What::Empty`](super::fault::What::Empty).
    pub fn parse_datagram(octets: Bytes, limits: &Limits) -> Result<Message, Box<Malformed>> {
        super::read::read(octets, limits, false)
    }

    /// True for a request.
    #[inline]
    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// A request's method; of a response the one in its CSeq.
    #[inline]
    pub fn method(&self) -> Method {
        match self.start {
            Start::Request { method, .. } => method,
            Start::Response { .. } => self.cseq_method,
        }
    }

    /// The octets of [`Message::method`].
    pub fn method_bytes(&self) -> &[u8] {
        match self.start {
            Start::Request { method_at, .. } => self.at(method_at),
            Start::Response { .. } => self.cseq_method_bytes(),
        }
    }

    /// A response's status, 100 to 699; 0 for a request.
    #[inline]
    pub fn status(&self) -> u16 {
        match self.start {
            Start::Request { .. } => 0,
            Start::Response { status, .. } => status,
        }
    }

    /// A response's reason phrase; empty for a request.
    pub fn reason(&self) -> &[u8] {
        match self.start {
            Start::Request { .. } => &[],
            Start::Response { reason, .. } => self.at(reason),
        }
    }

    /// A request's Request-URI; empty for a response.
    pub fn request_uri(&self) -> &[u8] {
        match self.start {
            Start::Request { uri, .. } => self.at(uri),
            Start::Response { .. } => &[],
        }
    }

    /// The Request-URI, as it was read with the message; `None` for a response, and where [`Uri::parse_target`] finds a fault.
    pub fn target(&self) -> Option<Uri<'_>> {
        let Start::Request { target: Some(places), .. } = self.start else { return None };
        Some(Uri {
            scheme: places.scheme,
            other: &[],
            user: places.user.map(|place| self.at(place)),
            password: places.password.map(|place| self.at(place)),
            host: self.at(places.host),
            port: places.port,
            params: Params::of_trimmed(self.at(places.params)),
            headers: None,
        })
    }

    /// Value of the first header of that name, trimmed.
    #[inline]
    pub fn header(&self, name: Name) -> Option<&[u8]> {
        self.headers(name).next()
    }

    /// Value of the first header with that name, in any case, long or compact.
    pub fn header_named(&self, name: &[u8]) -> Option<&[u8]> {
        match Name::parse(name) {
            Name::Other => self.lines().find(|line| line.name_bytes.eq_ignore_ascii_case(name)).map(|line| line.value),
            known => self.header(known),
        }
    }

    /// Values of all headers of that name, one per line, in order.
    pub fn headers(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        // Most questions are for headers that are not there: one bit says so.
        let lines = if self.seen & name.bit() == 0 { &[] } else { self.lines.as_slice() };
        lines.iter().filter(move |entry| entry.name == name).map(|entry| self.at(entry.value))
    }

    /// All values of that name: lines in order, each split at its commas (not in quotes or angle brackets), trimmed, empty ones left out.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.headers(name).flat_map(scan::List::new)
    }

    /// All header lines in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.lines_that(|_| true)
    }

    /// The header lines with such a name, in order.
    pub(super) fn lines_that(&self, is_meant: impl Fn(Name) -> bool) -> impl Iterator<Item = Line<'_>> {
        self.lines.iter().filter(move |entry| is_meant(entry.name)).map(|entry| Line {
            name: entry.name,
            name_bytes: self.at(Span::new(entry.at as usize, entry.name_len as usize)),
            value: self.at(entry.value),
            whole: Span::between(entry.at as usize, entry.end as usize),
            folded: entry.folded,
        })
    }

    /// Call-ID.
    #[inline]
    pub fn call_id(&self) -> &[u8] {
        self.at(self.call_id)
    }

    /// From, the whole value.
    #[inline]
    pub fn from(&self) -> &[u8] {
        self.at(self.from)
    }

    /// To, the whole value.
    #[inline]
    pub fn to(&self) -> &[u8] {
        self.at(self.to)
    }

    /// The tag in From; RFC 2543 clients send none.
    #[inline]
    pub fn from_tag(&self) -> Option<&[u8]> {
        self.from_tag.map(|tag| self.at(tag))
    }

    /// The tag in To.
    #[inline]
    pub fn to_tag(&self) -> Option<&[u8]> {
        self.to_tag.map(|tag| self.at(tag))
    }

    /// CSeq: the number and the method.
    #[inline]
    pub fn cseq(&self) -> (u32, Method) {
        (self.cseq, self.cseq_method)
    }

    /// The method in CSeq as it stands.
    pub fn cseq_method_bytes(&self) -> &[u8] {
        self.at(self.cseq_method_at)
    }

    /// The topmost Via value.
    pub fn top_via(&self) -> Via<'_> {
        let places = &self.via;
        Via {
            transport: self.at(places.transport),
            host: self.at(places.host),
            port: places.port,
            branch: places.branch.map(|place| self.at(place)),
            received: places.received.map(|place| self.at(place)),
            rport: places.rport,
            maddr: places.maddr.map(|place| self.at(place)),
            ttl: places.ttl,
            rport_text: places.rport_text.map(|place| self.at(place)),
            params: Params::of_trimmed(self.at(places.params)),
        }
    }

    /// How many Via values there are. A response for us has one; with more it is not for us (RFC 3261 8.1.3.3).
    pub fn via_count(&self) -> usize {
        self.values(Name::Via).count()
    }

    /// The body: as many octets as Content-Length says.
    #[inline]
    pub fn body(&self) -> &[u8] {
        self.at(self.body)
    }

    /// The body, counted rather than copied.
    pub fn body_bytes(&self) -> Bytes {
        let range = self.body.range();
        if range.end <= self.octets.len() { self.octets.slice(range) } else { Bytes::new() }
    }

    /// Everything that was given to the parser.
    pub fn octets(&self) -> &Bytes {
        &self.octets
    }

    /// Expires in seconds. One that cannot be read, or is above 2^32-1, counts as the default of 3600.
    pub fn expires(&self) -> Option<u32> {
        //= RFC 4475 3.1.2.4: overlarge expiry values are treated as the default
        self.header(Name::Expires).map(|value| scan::decimal_u32(value).unwrap_or(super::fields::EXPIRES_DEFAULT))
    }

    /// Max-Forwards. One above 255, or unreadable, counts as absent (RFC 4475 3.1.2.4).
    pub fn max_forwards(&self) -> Option<u32> {
        scan::decimal_u32(self.header(Name::MaxForwards)?).filter(|&hops| hops <= 255)
    }

    /// Content-Type, parameters included.
    pub fn content_type(&self) -> Option<&[u8]> {
        self.header(Name::ContentType)
    }

    /// Content-Length as it was declared, in octets.
    pub fn content_length(&self) -> Option<usize> {
        self.declared.map(|octets| octets as usize)
    }

    /// The text of the topmost Via value, for who rewrites it.
    pub(super) fn top_via_text(&self) -> &[u8] {
        self.at(self.via.value)
    }

    /// The octets at a place of this message.
    #[inline]
    pub fn at(&self, place: Span) -> &[u8] {
        place.of(&self.octets)
    }
}

impl fmt::Debug for Message {
    /// The first line and what identifies the message; never its body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Message");
        match self.start {
            Start::Request { .. } => {
                out.field("method", &self.method_bytes().escape_ascii().to_string());
                out.field("uri", &self.request_uri().escape_ascii().to_string());
            }
            Start::Response { status, .. } => {
                out.field("status", &status);
            }
        }
        out.field("call_id", &self.call_id().escape_ascii().to_string());
        out.field("cseq", &self.cseq());
        out.field("body", &self.body.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse_datagram(Bytes::copy_from_slice(text.as_bytes()), &Limits::default()).unwrap()
    }

    /// RFC 4475 3.1.1.1, shortened: folds, white space and compact forms everywhere.
    const TORTUOUS: &str = "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n\
        TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n\
        from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n\
        MaX-fOrWaRdS: 0068\r\nCall-ID: wsinv.ndaksdj@192.0.2.1\r\nContent-Length   : 3\r\ncseq: 0009\r\n  INVITE\r\n\
        Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\ns :\r\n\
        NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n\
        UnknownHeaderWithUnusualValue: ;;,,;;,;\r\nContent-Type: application/sdp\r\n\
        Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n\
        v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n \
        SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n\
        m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n\
        Expires: 60\r\n\r\nabcdef";

    /// The parts kept with the message are those that reading its Request-URI again would find.
    #[test]
    fn the_target_is_the_request_uri() {
        for uri in [
            "sip:b@h",
            "sips:%62:pw@[2001:db8::1]:5061;lr;x=\"\"",
            "SIP:h.example",
            "tel:+1-514;phone-context=x",
            "tel:7",
            "sip:b@h?x=y",
            "soap.beep://h",
        ] {
            let octets = format!(
                "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nFrom: <sip:a@h>\r\nTo: <sip:b@h>\r\nCall-ID: c\r\n\
                 CSeq: 1 OPTIONS\r\nl: 0\r\n\r\n"
            );
            let read = Message::parse(octets.into_bytes().into(), &Limits::default());
            match Uri::parse_target(uri.as_bytes()) {
                Ok(target) => assert_eq!(read.unwrap().target(), Some(target), "{uri}"),
                Err(_) => assert!(read.unwrap_err().partial.unwrap().target().is_none(), "{uri}"),
            }
        }
    }

    #[test]
    fn a_tortuous_request_says_what_it_says() {
        let message = parse(TORTUOUS);
        assert!(message.is_request());
        assert_eq!((message.method(), message.method_bytes(), message.status()), (Method::Invite, &b"INVITE"[..], 0));
        assert_eq!(message.request_uri(), b"sip:vivekg@chair-dnrc.example.com;unknownparam");
        assert_eq!(message.call_id(), b"wsinv.ndaksdj@192.0.2.1");
        assert_eq!(message.cseq(), (9, Method::Invite));
        assert_eq!(message.from_tag(), Some(&b"98asjd8"[..]));
        assert_eq!(message.to_tag(), Some(&b"1918181833n"[..]));
        assert_eq!(message.max_forwards(), Some(68));
        assert_eq!(message.expires(), Some(60));
        assert_eq!(message.header(Name::Subject), Some(&b""[..]));
        assert_eq!(message.header(Name::Date), None);
        assert_eq!(
            message.header_named(b"newfangledheader"),
            Some(&b"newfangled value\r\n continued newfangled value"[..])
        );
        assert_eq!(message.header_named(b"S"), Some(&b""[..]));
        assert_eq!(message.content_type(), Some(&b"application/sdp"[..]));
        assert_eq!((message.content_length(), message.body()), (Some(3), &b"abc"[..]));
        assert_eq!(message.body_bytes(), &b"abc"[..]);
        assert_eq!(message.top_via().host, b"192.0.2.2");
        assert_eq!(message.top_via().branch, Some(&b"390skdjuw"[..]));
        assert_eq!(message.headers(Name::Via).count(), 2);
        assert_eq!(message.via_count(), 3);
        let branches: Vec<_> =
            message.values(Name::Via).map(|value| Via::parse(value).unwrap().branch.unwrap().to_vec()).collect();
        assert_eq!(branches, [b"390skdjuw".to_vec(), b"z9hG4bK9ikj8".to_vec(), b"z9hG4bK30239".to_vec()]);
    }

    #[test]
    fn lines_tile_the_head() {
        let message = parse(TORTUOUS);
        let mut at = TORTUOUS.find("\r\n").unwrap() + 2;
        for line in message.lines() {
            assert_eq!(line.whole.at(), at);
            assert!(message.at(line.whole).starts_with(line.name_bytes));
            at = line.whole.end();
        }
        assert_eq!(message.lines().count(), 15);
        assert_eq!(&TORTUOUS[at..], "\r\nabcdef");
    }

    #[test]
    fn a_response_says_what_it_says() {
        let message = parse(
            "SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e}\r\nVia: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923\r\n\
             Call-ID: unreason\r\nCSeq: 35 INVITE\r\nFrom: sip:user@example.com;tag=11141343\r\n\
             To: sip:user@example.edu;tag=2229\r\nContent-Length: 0\r\n\r\n",
        );
        assert!(!message.is_request());
        assert_eq!((message.status(), message.method()), (200, Method::Invite));
        assert_eq!(message.reason(), "= 2**3 * 5**2 \u{43d}\u{43e}".as_bytes());
        assert_eq!((message.request_uri(), message.body()), (&b""[..], &b""[..]));
    }

    #[test]
    fn aberrant_numbers_have_defaults() {
        let message = parse(&TORTUOUS.replace("Expires: 60", "Expires: 4294967296").replace("0068", "300"));
        assert_eq!((message.expires(), message.max_forwards()), (Some(3600), None));
        let message = parse(&TORTUOUS.replace("Expires: 60", "Expires: soon"));
        assert_eq!(message.expires(), Some(3600));
    }

    #[test]
    fn a_message_can_travel_and_says_little_of_itself() {
        fn travels<T: Send + Clone + 'static>(_: &T) {}
        let message = parse(TORTUOUS);
        travels(&message);
        let debug = format!("{message:?}");
        assert!(debug.contains("INVITE") && !debug.contains("abc"));
        assert_eq!(message.clone().octets(), message.octets());
    }
}
