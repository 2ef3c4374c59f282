//! The judge of MSRP: reads octets by the grammar of RFC 4975 section 9, forgives nothing, and names the octet and the rule.
//! [`read`] judges one frame alone; [`Judge`] remembers.

use std::{collections::HashSet, fmt};

pub use crate::judge::{Judge, MsrpMessage};

/// A rule that was broken, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Octets from the beginning of the stream.
    pub at: usize,
    /// The rule, in a few words.
    pub rule: &'static str,
    /// What stood there.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MSRP violation at octet {}: {}; found {:?}", self.at, self.rule, self.found)
    }
}

/// What a start line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A request with its method.
    Request(String),
    /// A response with its status code and comment.
    Response(u16, Option<String>),
}

/// One request or response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Where its first octet stood in the stream.
    pub at: usize,
    /// How many octets it has, end-line and CRLF included.
    pub len: usize,
    /// The transaction identifier.
    pub tid: String,
    /// Request or response.
    pub kind: Kind,
    /// All headers in order.
    pub headers: Vec<(String, String)>,
    /// The data, when there is content.
    pub content: Option<Vec<u8>>,
    /// `$`, `+` or `#`.
    pub flag: char,
}

/// A Byte-Range header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteRange {
    /// First octet, counted from 1.
    pub start: u64,
    /// Last octet; None for `*`.
    pub end: Option<u64>,
    /// All octets of the message; None for `*`.
    pub total: Option<u64>,
}

impl Frame {
    /// The method; empty for a response.
    pub fn method(&self) -> &str {
        match &self.kind {
            Kind::Request(method) => method,
            Kind::Response(..) => "",
        }
    }

    /// The status code; 0 for a request.
    pub fn status(&self) -> u16 {
        match self.kind {
            Kind::Request(_) => 0,
            Kind::Response(status, _) => status,
        }
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The Byte-Range, when there is a valid one.
    pub fn range(&self) -> Option<ByteRange> {
        let (start, rest) = self.header("Byte-Range")?.split_once('-')?;
        let (end, total) = rest.split_once('/')?;
        let number =
            |text: &str| text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        let or_star = |text: &str| if text == "*" { Some(None) } else { number(text).map(Some) };
        Some(ByteRange { start: number(start)?, end: or_star(end)?, total: or_star(total)? })
    }

    /// How many octets of data it carries.
    pub fn data_len(&self) -> usize {
        self.content.as_ref().map_or(0, Vec::len)
    }
}

pub(crate) fn broken<T>(at: usize, rule: &'static str, found: &[u8]) -> Result<T, Violation> {
    Err(Violation { at, rule, found: crate::shown(found, 120) })
}

fn is_ident(text: &str) -> bool {
    let mut octets = text.bytes();
    (4..=32).contains(&text.len())
        && octets.next().is_some_and(|octet| octet.is_ascii_alphanumeric())
        && octets.all(|octet| octet.is_ascii_alphanumeric() || b".-+%=".contains(&octet))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|octet| matches!(octet, 0x21 | 0x23..=0x27 | 0x2a..=0x2b | 0x2d..=0x2e | 0x30..=0x39 | 0x41..=0x5a | 0x5e..=0x7e))
}

/// Whether a text is an MSRP-URI (RFC 4975 section 9); in SDP and paths it names its port.
pub fn is_uri(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("msrp://").or_else(|| text.strip_prefix("msrps://")) else { return false };
    let Some((place, transport)) = rest.split_once(';') else { return false };
    let (authority, session) = place.split_once('/').unwrap_or((place, "x"));
    let host_and_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && port.parse::<u16>().is_ok() && (bracketed || !host.contains(':'))
    });
    let mut parameters = transport.split(';');
    let carried = parameters.next().unwrap_or_default();
    host_and_port
        && !session.is_empty()
        && session.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._~+=/".contains(&octet))
        && !carried.is_empty()
        && carried.bytes().all(|octet| octet.is_ascii_alphanumeric())
        && parameters.all(|item| item.split('=').all(is_token))
}

/// type "/" subtype *( ";" gen-param ), no blanks but in quotes.
fn is_media_type(text: &str) -> bool {
    let mut items = text.split(';');
    let Some((kind, subtype)) = items.next().and_then(|media| media.split_once('/')) else { return false };
    is_token(kind)
        && is_token(subtype)
        && items.all(|item| {
            let (name, value) = item.split_once('=').unwrap_or((item, "x"));
            let quoted = value.len() >= 2
                && value.starts_with('"')
                && value.ends_with('"')
                && !value[1..value.len() - 1].contains('"');
            is_token(name) && (quoted || is_token(value))
        })
}

/// Reads one frame from the front of `buffer`, whose first octet is number `at` of the stream. `None`: not all of it is there.
pub fn read(buffer: &[u8], at: usize) -> Result<Option<Frame>, Violation> {
    if !buffer.starts_with(b"MSRP ") {
        let known = buffer.len().min(5);
        return if b"MSRP "[..known] == buffer[..known] {
            Ok(None)
        } else {
            broken(at, "a frame begins with MSRP SP", buffer)
        };
    }
    let mut place = 0;
    let Some(start) = line(buffer, &mut place, at)? else { return Ok(None) };
    let mut words = start.splitn(4, ' ').skip(1);
    let (tid, what, comment) = (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next());
    if !is_ident(tid) {
        return broken(at + 5, "transact-id = ALPHANUM 3*31ident-char", tid.as_bytes());
    }
    let kind = if what.len() == 3 && what.bytes().all(|digit| digit.is_ascii_digit()) {
        Kind::Response(what.parse().unwrap_or(0), comment.map(str::to_string))
    } else if !what.is_empty() && what.bytes().all(|letter| letter.is_ascii_uppercase()) && comment.is_none() {
        Kind::Request(what.to_string())
    } else {
        return broken(at, "MSRP SP transact-id SP (method / status-code [SP comment]) CRLF", start.as_bytes());
    };
    let end_line = format!("-------{tid}");
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let here = at + place;
        let Some(text) = line(buffer, &mut place, at)? else { return Ok(None) };
        if text.is_empty() {
            break;
        }
        if text.starts_with("-------") {
            let Some(flag) = text.strip_prefix(&end_line).and_then(flag_of) else {
                return broken(here, "end-line = ------- transact-id continuation-flag", text.as_bytes());
            };
            let frame = Frame { at, len: place, tid: tid.into(), kind, headers, content: None, flag };
            return judge_frame(frame).map(Some);
        }
        let Some((name, value)) = text.split_once(": ") else {
            return broken(here, "header = name : SP value, nothing folded", text.as_bytes());
        };
        let named = name.starts_with(|first: char| first.is_ascii_alphabetic()) && is_token(name);
        if !named || value.is_empty() || value.starts_with([' ', '\t']) || value.ends_with([' ', '\t']) {
            return broken(here, "a header's name is a token after ALPHA, one SP, its value", text.as_bytes());
        }
        if matches!(headers.len(), 0 | 1) && name != ["To-Path", "From-Path"][headers.len()] {
            return broken(here, "To-Path is the first header, From-Path the second", text.as_bytes());
        }
        if headers.len() >= 64 || place > 8192 {
            return broken(here, "a head of at most 64 headers and 8 KiB", text.as_bytes());
        }
        headers.push((name.into(), value.into()));
    }
    let data = &buffer[place..];
    let wanted = format!("\r\n{end_line}").into_bytes();
    let Some(len) = crate::sip::find(data, &wanted) else {
        if data.starts_with(end_line.as_bytes()) {
            return broken(at + place, "no blank line where there is no content", data);
        }
        return Ok(None);
    };
    let tail = &data[len + wanted.len()..];
    let Some(ending) = tail.get(..3) else { return Ok(None) };
    let Some(flag) = ending.strip_suffix(b"\r\n").and_then(|flag| flag_of(std::str::from_utf8(flag).ok()?)) else {
        return broken(at + place + len, "------- transact-id does not occur in the data", ending);
    };
    if let Some(inside) = crate::sip::find(&data[..len], end_line.as_bytes()) {
        return broken(at + place + inside, "------- transact-id does not occur in the data", &data[inside..len]);
    }
    let frame = Frame {
        at,
        len: place + len + wanted.len() + 3,
        tid: tid.into(),
        kind,
        headers,
        content: Some(data[..len].to_vec()),
        flag,
    };
    judge_frame(frame).map(Some)
}

fn flag_of(text: &str) -> Option<char> {
    matches!(text, "$" | "+" | "#").then(|| text.chars().next()).flatten()
}

/// One line without its CRLF, when it is there whole.
fn line<'a>(buffer: &'a [u8], place: &mut usize, at: usize) -> Result<Option<&'a str>, Violation> {
    let rest = &buffer[*place..];
    let Some(len) = crate::sip::find(rest, b"\r\n") else {
        return if rest.len() > 8192 { broken(at + *place, "a line ends within 8 KiB", rest) } else { Ok(None) };
    };
    let octets = &rest[..len];
    let Ok(text) = std::str::from_utf8(octets) else {
        return broken(at + *place, "start-line and headers are UTF-8", octets);
    };
    if text.bytes().any(|octet| octet != b'\t' && (octet < 0x20 || octet == 0x7f)) {
        return broken(at + *place, "no control octets in lines, CR and LF only as CRLF", octets);
    }
    *place += len + 2;
    Ok(Some(text))
}

/// The rules that a frame obeys alone.
fn judge_frame(frame: Frame) -> Result<Frame, Violation> {
    let fault = |rule, found: &str| broken(frame.at, rule, found.as_bytes());
    let name = |place: usize| frame.headers.get(place).map(|(name, _)| name.as_str());
    if name(0) != Some("To-Path") || name(1) != Some("From-Path") {
        return fault("To-Path is the first header, From-Path the second", &format!("{:?}", frame.headers));
    }
    for (header, value) in &frame.headers[..2] {
        if !value.split(' ').all(is_uri) {
            return fault("a path is MSRP-URIs with ports, one SP between", &format!("{header}: {value}"));
        }
    }
    let mut seen = HashSet::new();
    for (header, value) in &frame.headers {
        if !seen.insert(header.to_ascii_lowercase()) {
            return fault("a header stands once", header);
        }
        let rule_and_right = match header.as_str() {
            "Message-ID" => ("Message-ID = ident", is_ident(value)),
            "Success-Report" => ("Success-Report = yes / no", matches!(value.as_str(), "yes" | "no")),
            "Failure-Report" => {
                ("Failure-Report = yes / no / partial", matches!(value.as_str(), "yes" | "no" | "partial"))
            }
            "Byte-Range" => ("Byte-Range = start - end / total", frame.range().is_some()),
            "Content-Type" => ("Content-Type = media-type", is_media_type(value)),
            "Status" => {
                let mut words = value.splitn(3, ' ');
                let three = |word: Option<&str>| {
                    word.is_some_and(|word| word.len() == 3 && word.bytes().all(|digit| digit.is_ascii_digit()))
                };
                ("Status = namespace SP status-code", three(words.next()) && three(words.next()))
            }
            _ => continue,
        };
        if !rule_and_right.1 {
            return fault(rule_and_right.0, value);
        }
    }
    if let Some(place) = frame.headers.iter().position(|(header, _)| header.starts_with("Content-"))
        && !frame.headers[place..].iter().all(|(header, _)| {
            header.starts_with("Content-")
                || !["Message-ID", "Success-Report", "Failure-Report", "Byte-Range", "Status"]
                    .contains(&header.as_str())
        })
    {
        return fault("MIME headers stand behind all others", &format!("{:?}", frame.headers));
    }
    let typed = frame.header("Content-Type").is_some();
    match (&frame.content, typed) {
        (Some(_), false) => return fault("content has a Content-Type", ""),
        (None, true) => return fault("a Content-Type is followed by a blank line and content", ""),
        (Some(_), true) if frame.headers.last().map(|(header, _)| header.as_str()) != Some("Content-Type") => {
            return fault("Content-Type is the last header", &format!("{:?}", frame.headers));
        }
        _ => {}
    }
    match &frame.kind {
        Kind::Response(..) => {
            if frame.content.is_some() || frame.flag != '$' {
                return fault("a response has no content and ends with $", &frame.flag.to_string());
            }
            if frame.headers[0].1.contains(' ') || frame.headers[1].1.contains(' ') {
                return fault(
                    "a response to a SEND goes one hop: one URI in each path",
                    &format!("{:?}", frame.headers),
                );
            }
        }
        Kind::Request(method) if method == "REPORT" => {
            if frame.content.is_some()
                || frame.flag != '$'
                || frame.header("Status").is_none()
                || frame.header("Message-ID").is_none()
            {
                return fault("a REPORT has Status and Message-ID, no content, and is never interrupted", "");
            }
        }
        Kind::Request(method) if method == "SEND" => judge_send(&frame)?,
        Kind::Request(_) => {}
    }
    Ok(frame)
}

fn judge_send(frame: &Frame) -> Result<(), Violation> {
    let fault = |rule, found: String| broken(frame.at, rule, found.as_bytes());
    if frame.header("Message-ID").is_none() {
        return fault("a SEND has a Message-ID", String::new());
    }
    let len = frame.data_len() as u64;
    let Some(range) = frame.range() else {
        return if frame.flag == '+' { fault("a chunk has a Byte-Range", String::new()) } else { Ok(()) };
    };
    let shown = format!("{range:?} with {len} octets of data and flag {}", frame.flag);
    if range.start == 0 {
        return fault("octets are counted from 1", shown);
    }
    let last = range.start - 1 + len;
    if let Some(end) = range.end
        && (end.checked_add(1).is_none_or(|end| end < range.start) || end != last)
        && frame.flag != '#'
    {
        return fault("range-end is the number of the last octet that is there", shown);
    }
    if len > 2048 && range.end.is_some() {
        return fault("a chunk above 2048 octets is interruptible: range-end is *", shown);
    }
    if let Some(total) = range.total {
        if last > total {
            return fault("no octet lies beyond the total", shown);
        }
        if frame.flag == '$' && last != total {
            return fault("$ stands where the message ends", shown);
        }
        if frame.flag == '+' && last == total {
            return fault("+ stands only where more follows", shown);
        }
    }
    if frame.flag == '+' && len < 2048 {
        return fault("only the last chunk is smaller than 2048 octets", shown);
    }
    Ok(())
}

/// Judges a whole stream: every octet belongs to a valid frame.
pub fn read_all(stream: &[u8]) -> Result<Vec<Frame>, Violation> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        match read(&stream[at..], at)? {
            Some(frame) => {
                at += frame.len;
                frames.push(frame);
            }
            None => return broken(at, "the stream ends with a whole frame", &stream[at..]),
        }
    }
    Ok(frames)
}

/// The response to a request: To-Path is the leftmost URI of its From-Path, From-Path the leftmost of its To-Path.
pub fn response(request: &Frame, status: u16, comment: &str) -> Vec<u8> {
    let first =
        |place: usize| request.headers.get(place).and_then(|(_, value)| value.split(' ').next()).unwrap_or_default();
    let comment = if comment.is_empty() { String::new() } else { format!(" {comment}") };
    let tid = &request.tid;
    format!("MSRP {tid} {status}{comment}\r\nTo-Path: {}\r\nFrom-Path: {}\r\n-------{tid}$\r\n", first(1), first(0))
        .into_bytes()
}

/// A SEND without content, which binds a connection to a session (RFC 4975 5.4).
pub fn binding_send(tid: &str, to_path: &str, from_path: &str) -> Vec<u8> {
    format!(
        "MSRP {tid} SEND\r\nTo-Path: {to_path}\r\nFrom-Path: {from_path}\r\nMessage-ID: {tid}\r\nByte-Range: 1-0/0\r\n-------{tid}$\r\n"
    )
    .into_bytes()
}

/// A SEND with content in one chunk.
pub fn send(tid: &str, to_path: &str, from_path: &str, message_id: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let (len, end) = (body.len(), if body.len() > 2048 { "*".to_string() } else { body.len().to_string() });
    let mut out = format!(
        "MSRP {tid} SEND\r\nTo-Path: {to_path}\r\nFrom-Path: {from_path}\r\nMessage-ID: {message_id}\r\nByte-Range: 1-{end}/{len}\r\nContent-Type: {content_type}\r\n\r\n"
    )
    .into_bytes();
    out.extend_from_slice(body);
    out.extend_from_slice(format!("\r\n-------{tid}$\r\n").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "msrp://a.example.com:2855/s1;tcp";
    const B: &str = "msrp://[::1]:7777/s2;tcp";

    fn frame(head: &str, body: &str, flag: char) -> Vec<u8> {
        format!("MSRP a786hjs2 SEND\r\nTo-Path: {B}\r\nFrom-Path: {A}\r\nMessage-ID: 87652491\r\n{head}{body}\r\n-------a786hjs2{flag}\r\n").into_bytes()
    }

    #[test]
    fn every_prefix_of_a_frame_wants_more() {
        let octets =
            frame("Byte-Range: 1-25/25\r\nContent-Type: text/plain\r\n\r\n", "Hey Bob, are you there? :)", '$');
        let octets = String::from_utf8(octets).unwrap().replace("1-25/25", "1-26/26").into_bytes();
        for end in 0..octets.len() {
            assert_eq!(read(&octets[..end], 0).unwrap(), None, "{end}");
        }
        let read = read(&octets, 0).unwrap().unwrap();
        assert_eq!((read.len, read.flag, read.content.unwrap().len()), (octets.len(), '$', 26));
    }

    #[test]
    fn each_broken_rule_is_named() {
        let good = "Byte-Range: 1-5/5\r\nContent-Type: text/plain\r\n\r\n";
        assert!(read(&frame(good, "hello", '$'), 0).unwrap().is_some());
        let cases: [(&str, &str, char, &str); 14] = [
            (
                "Byte-Range: 1-4/5\r\nContent-Type: text/plain\r\n\r\n",
                "hello",
                '$',
                "range-end is the number of the last octet that is there",
            ),
            ("Byte-Range: 1-5/6\r\nContent-Type: text/plain\r\n\r\n", "hello", '$', "$ stands where the message ends"),
            ("Byte-Range: 1-5/4\r\nContent-Type: text/plain\r\n\r\n", "hello", '$', "no octet lies beyond the total"),
            ("Byte-Range: 0-4/5\r\nContent-Type: text/plain\r\n\r\n", "hello", '$', "octets are counted from 1"),
            (
                "Byte-Range: 1-*/9\r\nContent-Type: text/plain\r\n\r\n",
                "hello",
                '+',
                "only the last chunk is smaller than 2048 octets",
            ),
            (
                "Byte-Range:1-5/5\r\nContent-Type: text/plain\r\n\r\n",
                "hello",
                '$',
                "header = name : SP value, nothing folded",
            ),
            (
                "Byte-Range:  1-5/5\r\nContent-Type: text/plain\r\n\r\n",
                "hello",
                '$',
                "a header's name is a token after ALPHA, one SP, its value",
            ),
            (
                "Content-Type: text/plain\r\nByte-Range: 1-5/5\r\n\r\n",
                "hello",
                '$',
                "MIME headers stand behind all others",
            ),
            ("Byte-Range: 1-5/5\r\n\r\n", "hello", '$', "content has a Content-Type"),
            ("Byte-Range: 1-5/5\r\nContent-Type: text\r\n\r\n", "hello", '$', "Content-Type = media-type"),
            (
                "Byte-Range: 1-5/5\r\nByte-Range: 1-5/5\r\nContent-Type: text/plain\r\n\r\n",
                "hello",
                '$',
                "a header stands once",
            ),
            ("Byte-Range: x-5/5\r\nContent-Type: text/plain\r\n\r\n", "hello", '$', "Byte-Range = start - end / total"),
            (good, "hello", '!', "------- transact-id does not occur in the data"),
            (
                "Byte-Range: 1-23/23\r\nContent-Type: text/plain\r\n\r\n",
                "hello-------a786hjs2xyz",
                '$',
                "------- transact-id does not occur in the data",
            ),
        ];
        for (head, body, flag, rule) in cases {
            assert_eq!(read(&frame(head, body, flag), 0).unwrap_err().rule, rule, "{head}");
        }
        let swapped = format!(
            "MSRP a786hjs2 SEND\r\nFrom-Path: {A}\r\nTo-Path: {B}\r\nMessage-ID: 87652491\r\n-------a786hjs2$\r\n"
        );
        assert_eq!(read(swapped.as_bytes(), 7).unwrap_err().at, 7 + 20);
        assert!(read(b"MSRP ab 200 OK\r\n", 0).is_err());
        let large = "x".repeat(2049);
        let range = "Byte-Range: 1-2049/2049\r\nContent-Type: text/plain\r\n\r\n";
        assert_eq!(
            read(&frame(range, &large, '$'), 0).unwrap_err().rule,
            "a chunk above 2048 octets is interruptible: range-end is *"
        );
    }

    #[test]
    fn our_own_frames_are_valid() {
        let send = send("abcd1234", B, A, "0123", "text/plain", b"hello");
        let request = read(&send, 0).unwrap().unwrap();
        let stream = [send, binding_send("abcd1235", B, A), response(&request, 200, "OK")].concat();
        let frames = read_all(&stream).unwrap();
        assert_eq!((frames.len(), frames[2].status(), frames[2].headers[0].1.as_str()), (3, 200, A));
    }
}
