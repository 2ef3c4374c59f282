//! Writing: responses to a request, and requests.
//!
//! A writer owns one growing buffer and refuses line ends in values, so that no peer's text becomes a header of ours.

use super::address::NameAddr;
use super::message::{Line, Message};
use super::names::{Method, Name};
use super::status::reason_phrase;
use super::via::Via;
use crate::wire::scan;
use bytes::Bytes;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// A response on its way to be written.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    request: &'a Message,
    head: Head,
    /// Where the To line's CRLF lies: a tag goes before it. 0: it has one, or there is no To.
    tag_at: usize,
}

/// A request on its way to be written.
#[derive(Clone, Debug)]
pub struct Request {
    head: Head,
}

/// What responses and requests have in common: lines so far, and the body.
#[derive(Clone, Debug)]
struct Head {
    out: Vec<u8>,
    body: Vec<u8>,
}

impl<'a> Response<'a> {
    /// Begins a response: status line, all Via lines, From, To, Call-ID and CSeq of the request (RFC 3261 8.2.6.2).
    ///
    /// `source` is where the request's packet came from; the topmost Via learns it:
    //= RFC 3261 18.2.1: received when the sent-by host is not the source address
    //= RFC 3581 4: rport asked for is filled in, and received with it
    pub fn to(request: &'a Message, status: u16, source: SocketAddr) -> Response<'a> {
        Response::with_phrase(request, status, reason_phrase(status).as_bytes(), source)
    }

    /// As [`Response::to`], with a phrase of one's own (RFC 3261 21.4.1: it may say what was wrong).
    pub fn with_phrase(request: &'a Message, status: u16, phrase: &[u8], source: SocketAddr) -> Response<'a> {
        let mut head = Head { out: Vec::with_capacity(768), body: Vec::new() };
        head.status_line(status, phrase);
        let mut response = Response { request, head, tag_at: 0 };
        let mut vias = request.lines_that(|name| name == Name::Via);
        if let Some(top) = vias.next() {
            response.put_top_via_line(&top, source);
        }
        vias.for_each(|line| response.head.repeat(request, &line));
        let repeated = |name| matches!(name, Name::From | Name::To | Name::CallId | Name::CSeq);
        for line in request.lines_that(repeated).filter(|line| !line.value.is_empty()) {
            if line.name != Name::To || request.to_tag().is_some() {
                response.head.repeat(request, &line);
                continue;
            }
            response.put_untagged(&line);
            response.tag_at = response.head.out.len() - 2;
        }
        response
    }

    /// A To without a tag. `;tag=` is none, and ours beside it would be the second.
    fn put_untagged(&mut self, line: &Line<'_>) {
        let behind_uri = memchr::memrchr(b'>', line.value).unwrap_or(0);
        let mut value = Cow::Borrowed(line.value);
        if line.value.get(behind_uri..).is_some_and(|params| scan::find(params, b';').is_some()) {
            while let Some(tag) = NameAddr::parse(&value).ok().and_then(|to| to.empty_tag(&value)) {
                value.to_mut().drain(tag.range());
            }
        }
        match value {
            Cow::Borrowed(_) => self.head.repeat(self.request, line),
            Cow::Owned(without) => self.head.line(Name::To, &without),
        }
    }

    fn put_top_via_line(&mut self, line: &Line<'_>, source: SocketAddr) {
        let (via, text) = (self.request.top_via(), self.request.top_via_text());
        let out = &mut self.head.out;
        let put = if line.folded { put_clean } else { Vec::extend_from_slice };
        out.extend_from_slice(b"Via: ");
        let address = source.ip().to_canonical();
        let shows_source = match (via.received, via.rport_text) {
            (received, asked) if received.is_some() || is_odd(&via, text) => {
                put_via_unclaimed(out, &via, text, source.port());
                asked.is_some() || came_elsewhere(&via, address)
            }
            (_, Some(asked)) => {
                let place = scan::span_in(text, asked);
                put(out, scan::split(text, place.at()).0);
                put_rport(out, source.port());
                put(out, text.get(place.end()..).unwrap_or_default());
                true
            }
            (_, None) => {
                put(out, text);
                came_elsewhere(&via, address)
            }
        };
        if shows_source {
            out.extend_from_slice(b";received=");
            put_address(out, address);
        }
        // What follows the topmost value on the same line stands as it is.
        put(out, line.value.get(scan::span_in(line.value, text).end()..).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
    }

    /// Gives To our tag, unless the request's To has one already.
    pub fn to_tag(mut self, tag: &[u8]) -> Response<'a> {
        if self.tag_at > 0 && scan::is_token(tag) {
            // What stands behind the To value moves back: the ends of three lines.
            let (at, end) = (std::mem::take(&mut self.tag_at), self.head.out.len());
            let (before, added) = (b";tag=", 5 + tag.len());
            self.head.out.resize(end + added, 0);
            self.head.out.copy_within(at..end, at + added);
            let gap = self.head.out.get_mut(at..at + added).unwrap_or_default();
            if let Some((name, value)) = gap.split_at_mut_checked(before.len()) {
                name.copy_from_slice(before);
                value.copy_from_slice(tag);
            }
        }
        self
    }

    /// Copies the request's Record-Route lines: for responses that establish a dialog (RFC 3261 12.1.1).
    pub fn record_route(mut self) -> Response<'a> {
        for value in self.request.headers(Name::RecordRoute) {
            self.head.line(Name::RecordRoute, value);
        }
        self
    }

    /// Appends a header.
    pub fn line(mut self, name: Name, value: &[u8]) -> Response<'a> {
        self.head.line(name, value);
        self
    }

    /// Appends a header with a name of its own.
    pub fn line_raw(mut self, name: &[u8], value: &[u8]) -> Response<'a> {
        self.head.line_raw(name, value);
        self
    }

    /// Appends a header whose value is a number.
    pub fn number(mut self, name: Name, value: u64) -> Response<'a> {
        self.head.number(name, value);
        self
    }

    /// Sets the body and its Content-Type.
    pub fn body(mut self, content_type: &[u8], body: &[u8]) -> Response<'a> {
        self.head.body(content_type, body);
        self
    }

    /// The octets, Content-Length included.
    pub fn finish(self) -> Bytes {
        self.head.finish()
    }
}

/// A response of ours without a body, once more with another status and one more line: for an answer that was ready before it
/// was known that it would be another. Its To tag stays.
pub fn restated(response: &[u8], status: u16, name: Name, value: &[u8]) -> Bytes {
    let at = memchr::memchr(b'\n', response).map_or(response.len(), |at| at + 1);
    let (_, rest) = scan::split(response, at);
    let mut head = Head { out: Vec::with_capacity(response.len() + value.len() + 64), body: Vec::new() };
    head.status_line(status, reason_phrase(status).as_bytes());
    // The blank line of a head without a body is its end.
    head.out.extend_from_slice(rest.strip_suffix(b"\r\n").unwrap_or(rest));
    head.line(name, value);
    head.out.extend_from_slice(b"\r\n");
    Bytes::from(head.out)
}

impl Request {
    /// Begins a request with its Request-Line. `uri` stands as it is; white space, control characters and angle brackets in it
    /// are left out.
    pub fn new(method: Method, uri: &[u8]) -> Request {
        debug_assert!(method != Method::Other, "a request of ours has a method we know");
        let mut head = Head { out: Vec::with_capacity(1024), body: Vec::new() };
        head.out.extend_from_slice(method.as_bytes());
        head.out.push(b' ');
        head.out.extend(uri.iter().filter(|&&octet| octet > b' ' && !matches!(octet, 0x7f | b'<' | b'>')));
        head.out.extend_from_slice(b" SIP/2.0\r\n");
        Request { head }
    }

    /// Appends a header.
    pub fn line(mut self, name: Name, value: &[u8]) -> Request {
        self.head.line(name, value);
        self
    }

    /// Appends a header with a name of its own.
    pub fn line_raw(mut self, name: &[u8], value: &[u8]) -> Request {
        self.head.line_raw(name, value);
        self
    }

    /// Appends a header whose value is a number.
    pub fn number(mut self, name: Name, value: u64) -> Request {
        self.head.number(name, value);
        self
    }

    /// Appends `CSeq: number METHOD`.
    pub fn cseq(mut self, number: u32, method: Method) -> Request {
        let mut value = Vec::with_capacity(24);
        scan::put_decimal(&mut value, u64::from(number));
        value.push(b' ');
        value.extend_from_slice(method.as_bytes());
        self.head.line(Name::CSeq, &value);
        self
    }

    /// Sets the body and its Content-Type.
    pub fn body(mut self, content_type: &[u8], body: &[u8]) -> Request {
        self.head.body(content_type, body);
        self
    }

    /// The octets, Content-Length included.
    pub fn finish(self) -> Bytes {
        self.head.finish()
    }
}

impl Head {
    fn status_line(&mut self, status: u16, phrase: &[u8]) {
        let status = status.clamp(100, 699);
        let [hundreds, tens, ones] = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
        self.out.extend_from_slice(b"SIP/2.0 ");
        self.out.extend_from_slice(&[hundreds, tens, ones, b' ']);
        put_clean(&mut self.out, phrase);
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, name: Name, value: &[u8]) {
        debug_assert!(name != Name::Other, "a header has a name");
        if name != Name::Other {
            self.put(name.as_bytes(), value);
        }
    }

    fn line_raw(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(scan::is_token(name), "a header has a name");
        if scan::is_token(name) {
            self.put(name, value);
        }
    }

    /// Repeats a line of a request. One that is spelt as we would spell it is copied whole.
    fn repeat(&mut self, request: &Message, line: &Line<'_>) {
        let name = line.name.as_bytes();
        let is_plain = line.name_bytes.len() == name.len() && line.whole.len() == name.len() + line.value.len() + 4;
        if is_plain && !line.folded {
            self.out.extend_from_slice(request.at(line.whole));
        } else {
            self.put(name, line.value);
        }
    }

    fn put(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        put_clean(&mut self.out, value);
        self.out.extend_from_slice(b"\r\n");
    }

    fn number(&mut self, name: Name, value: u64) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        scan::put_decimal(&mut self.out, value);
        self.out.extend_from_slice(b"\r\n");
    }

    fn body(&mut self, content_type: &[u8], body: &[u8]) {
        if !content_type.is_empty() {
            self.line(Name::ContentType, content_type);
        }
        self.body = body.to_vec();
    }

    fn finish(mut self) -> Bytes {
        if self.body.is_empty() {
            self.out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
            return Bytes::from(self.out);
        }
        self.number(Name::ContentLength, self.body.len() as u64);
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(&self.body);
        Bytes::from(self.out)
    }
}

/// Appends a value without line ends: a fold becomes one space; any other CR or LF is a mistake of ours, and left out.
fn put_clean(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let Some(at) = scan::find_either(rest, b'\r', b'\n') {
        let (before, after) = scan::split(rest, at);
        out.extend_from_slice(before);
        debug_assert!(
            matches!(after, [b'\r', b'\n', b' ' | b'\t', ..]),
            "a header value holds no line end: {}",
            value.escape_ascii()
        );
        if matches!(after, [b'\r', b'\n', b' ' | b'\t', ..]) {
            out.push(b' ');
            rest = scan::trim_start(after);
        } else {
            rest = after.get(1..).unwrap_or_default();
        }
    }
    out.extend_from_slice(rest);
}

/// Appends an address as text. IPv4 by hand: the general formatter costs as much as the rest of a Via.
fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let [first, rest @ ..] = v4.octets();
            scan::put_decimal(out, u64::from(first));
            for octet in rest {
                out.push(b'.');
                scan::put_decimal(out, u64::from(octet));
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

/// Appends a Via value without the `received` that its sender claims, with `port` for `rport`.
fn put_via_unclaimed(out: &mut Vec<u8>, via: &Via<'_>, text: &[u8], port: u16) {
    let params = scan::span_in(text, via.params.as_bytes());
    put_clean(out, scan::trim_end(scan::split(text, params.at()).0));
    let mut has_rport = false;
    for param in via.params {
        let is_rport = param.name.eq_ignore_ascii_case(b"rport");
        if param.name.eq_ignore_ascii_case(b"received") || is_rport && has_rport {
            continue;
        }
        out.push(b';');
        if is_rport {
            put_rport(out, port);
            has_rport = true;
            continue;
        }
        put_clean(out, param.name);
        if let Some(value) = param.value {
            out.push(b'=');
            put_clean(out, value);
        }
    }
}

/// True when a Via cannot be copied as it came: its parameters are faulty, so that who reads on may see in them what we have not, or
/// one that is ours to fill in is there twice.
fn is_odd(via: &Via<'_>, text: &[u8]) -> bool {
    let behind = via
        .rport_text
        .map_or(via.params.as_bytes(), |asked| text.get(scan::span_in(text, asked).end()..).unwrap_or_default());
    // Mostly nothing stands behind `rport`, and where nobody asks for it the parameters are few.
    if behind.is_empty() {
        return false;
    }
    let mut asked = 0;
    let read = via.params.each(|param| asked += usize::from(param.name.eq_ignore_ascii_case(b"rport")));
    read.is_err() || asked > 1
}

fn put_rport(out: &mut Vec<u8>, port: u16) {
    out.extend_from_slice(b"rport=");
    scan::put_decimal(out, u64::from(port));
}

/// True when the host that a Via names is not the address its packet came from.
fn came_elsewhere(via: &Via<'_>, address: IpAddr) -> bool {
    host_address(via.host) != Some(address)
}

/// The address a Via host is, if it is one.
fn host_address(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    let text = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
#[path = "write/tests.rs"]
mod tests;
