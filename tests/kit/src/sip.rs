//! SIP messages: a strict reader and a plain writer, from RFC 3261 section 25. Strict means: what the daemon writes must be
//! well-formed to the letter; the reader forgives nothing and says which rule was broken.

use std::fmt;

/// A request or a response.
#[derive(Clone, PartialEq, Eq)]
pub struct SipMessage {
    /// The request-line or status-line, without its CRLF.
    pub start: String,
    /// Every header line in order: name as written, value without surrounding blanks.
    pub headers: Vec<(String, String)>,
    /// Everything after the blank line.
    pub body: Vec<u8>,
}

/// A rule of RFC 3261 that the octets broke.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SipFault {
    /// The rule, in a few words.
    pub rule: &'static str,
    /// What stood there.
    pub found: String,
}

impl fmt::Display for SipFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not well-formed SIP: {}; found {:?}", self.rule, self.found)
    }
}

fn fault<T>(rule: &'static str, found: impl AsRef<[u8]>) -> Result<T, SipFault> {
    Err(SipFault { rule, found: crate::shown(found.as_ref(), 200) })
}

/// Compact forms (RFC 3261 7.3.3 and the RFCs that add one).
const COMPACT: [(&str, &str); 15] = [
    ("i", "Call-ID"),
    ("m", "Contact"),
    ("e", "Content-Encoding"),
    ("l", "Content-Length"),
    ("c", "Content-Type"),
    ("f", "From"),
    ("s", "Subject"),
    ("k", "Supported"),
    ("t", "To"),
    ("v", "Via"),
    ("o", "Event"),
    ("r", "Refer-To"),
    ("b", "Referred-By"),
    ("a", "Accept-Contact"),
    ("u", "Allow-Events"),
];

/// Headers that stand once at most.
const SINGLE: [&str; 19] = [
    "Call-ID",
    "CSeq",
    "From",
    "To",
    "Max-Forwards",
    "Content-Length",
    "Content-Type",
    "Date",
    "Expires",
    "Min-Expires",
    "Subject",
    "User-Agent",
    "Server",
    "Event",
    "SIP-ETag",
    "SIP-If-Match",
    "Session-Expires",
    "Min-SE",
    "Subscription-State",
];

/// What a Content-Length at the end of the first lines says about a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Framed {
    /// More octets are needed.
    More,
    /// A message of this many octets stands at the front.
    Whole(usize),
    /// CRLFs of RFC 5626 3.5.1, this many octets.
    KeepAlive(usize),
}

/// Looks for a whole message at the front of a stream (RFC 3261 18.3).
pub fn frame(stream: &[u8]) -> Result<Framed, SipFault> {
    let blank = stream.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
    if blank > 0 {
        return Ok(Framed::KeepAlive(blank));
    }
    let Some(head) = find(stream, b"\r\n\r\n") else {
        return if stream.len() > 65_536 {
            fault("a head ends within 64 KiB", &stream[..200])
        } else {
            Ok(Framed::More)
        };
    };
    let message = SipMessage::read_head(&stream[..head + 4])?;
    let Some(length) = message.header("Content-Length").and_then(|value| value.parse::<usize>().ok()) else {
        return fault("a message on a stream has a Content-Length", &stream[..head]);
    };
    let whole = head + 4 + length;
    Ok(if stream.len() >= whole { Framed::Whole(whole) } else { Framed::More })
}

/// The first place of `what` in `octets`.
pub fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&octet))
}

impl SipMessage {
    /// A request with a start-line and nothing else.
    pub fn request(method: &str, uri: &str) -> SipMessage {
        SipMessage { start: format!("{method} {uri} SIP/2.0"), headers: Vec::new(), body: Vec::new() }
    }

    /// The response to a request: its Via lines, From, To (with `tag` unless it has one), Call-ID, CSeq and Record-Route
    /// (RFC 3261 8.2.6.2, 12.1.1).
    pub fn response(request: &SipMessage, code: u16, reason: &str, tag: &str) -> SipMessage {
        let mut response =
            SipMessage { start: format!("SIP/2.0 {code} {reason}"), headers: Vec::new(), body: Vec::new() };
        for (name, value) in &request.headers {
            let canonical = canonical(name);
            if ["Via", "From", "Call-ID", "CSeq", "Record-Route"]
                .iter()
                .any(|copied| canonical.eq_ignore_ascii_case(copied))
            {
                response.headers.push((canonical.into(), value.clone()));
            } else if canonical.eq_ignore_ascii_case("To") {
                let tagged = if param(value, "tag").is_some() || code == 100 {
                    value.clone()
                } else {
                    format!("{value};tag={tag}")
                };
                response.headers.push(("To".into(), tagged));
            }
        }
        response
    }

    /// One whole message, judged by the rules that every message obeys.
    pub fn read(octets: &[u8]) -> Result<SipMessage, SipFault> {
        let Some(head) = find(octets, b"\r\n\r\n") else { return fault("a blank line ends the headers", octets) };
        let mut message = SipMessage::read_head(&octets[..head + 4])?;
        message.body = octets[head + 4..].to_vec();
        message.judge()?;
        Ok(message)
    }

    /// A part of a message: whole lines, no mandatory header (message/sipfrag, RFC 3420). The start-line may be absent.
    pub fn read_fragment(octets: &[u8]) -> Result<SipMessage, SipFault> {
        let head = match find(octets, b"\r\n\r\n") {
            Some(head) => head + 4,
            None if octets.ends_with(b"\r\n") => octets.len(),
            None => return fault("a fragment consists of whole lines", octets),
        };
        let mut message = SipMessage::read_head(&octets[..head])?;
        message.body = octets[head..].to_vec();
        Ok(message)
    }

    fn read_head(head: &[u8]) -> Result<SipMessage, SipFault> {
        let Ok(text) = std::str::from_utf8(head) else { return fault("start-line and headers are UTF-8", head) };
        if text.replace("\r\n", "").bytes().any(|octet| octet == b'\r' || octet == b'\n' || octet == 0) {
            return fault("lines end in CRLF, and CR, LF and NUL stand nowhere else", head);
        }
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_string();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                let Some((_, value)) = headers.last_mut() else {
                    return fault("no fold before the first header", line);
                };
                value.push(' ');
                value.push_str(line.trim());
                continue;
            }
            let Some((name, value)) = line.split_once(':') else { return fault("a header line has a colon", line) };
            let name = name.trim_end_matches([' ', '\t']);
            if !is_token(name) {
                return fault("a header's name is a token", line);
            }
            headers.push((name.to_string(), value.trim_matches([' ', '\t']).to_string()));
        }
        Ok(SipMessage { start, headers, body: Vec::new() })
    }

    /// The rules of a complete message (RFC 3261 7.1, 7.2, 8.1.1, 20).
    fn judge(&self) -> Result<(), SipFault> {
        let words: Vec<&str> = self.start.split(' ').collect();
        if let Some(rest) = self.start.strip_prefix("SIP/2.0 ") {
            let digits = rest.get(..3).unwrap_or_default();
            if !digits.bytes().all(|digit| digit.is_ascii_digit())
                || !("100".."700").contains(&digits)
                || rest.as_bytes().get(3) != Some(&b' ')
            {
                return fault("Status-Line = SIP/2.0 SP 3DIGIT SP Reason-Phrase", &self.start);
            }
        } else {
            let [method, uri, "SIP/2.0"] = words[..] else {
                return fault("Request-Line = Method SP Request-URI SP SIP/2.0", &self.start);
            };
            if !is_token(method) || !uri.contains(':') || uri.contains(['<', '>', '"']) {
                return fault("a method is a token, a Request-URI is bare", &self.start);
            }
            if self.header("Max-Forwards").and_then(|value| value.parse::<u8>().ok()).is_none() {
                return fault("a request has Max-Forwards of 0 to 255", &self.start);
            }
        }
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            if self.header(name).is_none_or(str::is_empty) {
                return fault("Via, From, To, Call-ID and CSeq are mandatory", name);
            }
        }
        for name in SINGLE {
            if self.all(name).len() > 1 {
                return fault("this header stands once", name);
            }
        }
        let cseq = self.header("CSeq").unwrap_or_default();
        let number_and_method = cseq.split_once(' ').filter(|(number, method)| {
            number.parse::<u32>().is_ok_and(|number| number < 1 << 31) && is_token(method.trim_start())
        });
        match number_and_method {
            None => return fault("CSeq = 1*DIGIT LWS Method, below 2^31", cseq),
            Some((_, method)) if self.is_request() && method.trim_start() != self.method() => {
                return fault("CSeq names the request's method", cseq);
            }
            Some(_) => {}
        }
        let via = self.header("Via").unwrap_or_default();
        if !via.starts_with("SIP/2.0/") || via.split_whitespace().count() < 2 {
            return fault("Via = SIP/2.0/transport LWS sent-by", via);
        }
        for name in ["From", "To"] {
            let value = self.header(name).unwrap_or_default();
            if value.matches('<').count() != value.matches('>').count()
                || !value.matches('"').count().is_multiple_of(2)
                || uri_of(value).is_empty()
            {
                return fault("From and To are addresses", value);
            }
        }
        if self.is_request() && param(self.header("From").unwrap_or_default(), "tag").is_none() {
            return fault("From has a tag", self.header("From").unwrap_or_default());
        }
        match self.header("Content-Length").map(str::parse::<usize>) {
            Some(Ok(length)) if length != self.body.len() => {
                return fault(
                    "Content-Length is the body's length",
                    format!("{length} for {} octets", self.body.len()),
                );
            }
            Some(Err(_)) => {
                return fault("Content-Length is a number", self.header("Content-Length").unwrap_or_default());
            }
            Some(Ok(_)) => {}
            None if self.body.is_empty() => {}
            None => return fault("a body has a Content-Length", &self.start),
        }
        if !self.body.is_empty() && self.header("Content-Type").is_none() {
            return fault("a body has a Content-Type", &self.start);
        }
        Ok(())
    }

    /// The octets on the wire. Content-Length is written as it stands among the headers, and added when missing.
    pub fn write(&self) -> Vec<u8> {
        let mut out = format!("{}\r\n", self.start).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.header("Content-Length").is_none() {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        !self.start.starts_with("SIP/2.0 ")
    }

    /// The request's method; empty for a response.
    pub fn method(&self) -> &str {
        if self.is_request() { self.start.split(' ').next().unwrap_or_default() } else { "" }
    }

    /// The Request-URI; empty for a response.
    pub fn uri(&self) -> &str {
        if self.is_request() { self.start.split(' ').nth(1).unwrap_or_default() } else { "" }
    }

    /// The status code; 0 for a request.
    pub fn code(&self) -> u16 {
        if self.is_request() { 0 } else { self.start.get(8..11).and_then(|code| code.parse().ok()).unwrap_or(0) }
    }

    /// The first header of this name, in its long or compact form.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| canonical(found).eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every header of this name in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| canonical(found).eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Adds a header at the end.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> SipMessage {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Replaces every header of this name by one with this value, in the place of the first.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> SipMessage {
        let place = self.headers.iter().position(|(found, _)| canonical(found).eq_ignore_ascii_case(name));
        self = self.without(name);
        self.headers.insert(place.unwrap_or(self.headers.len()), (name.into(), value.into()));
        self
    }

    /// Takes every header of this name away.
    pub fn without(mut self, name: &str) -> SipMessage {
        self.headers.retain(|(found, _)| !canonical(found).eq_ignore_ascii_case(name));
        self
    }

    /// Gives it a body and the header that names its type.
    pub fn with_body(self, content_type: &str, body: impl Into<Vec<u8>>) -> SipMessage {
        let mut message = self.set("Content-Type", content_type);
        message.body = body.into();
        message
    }

    /// The Call-ID; empty when there is none.
    pub fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or_default()
    }

    /// CSeq's number; 0 when there is none.
    pub fn cseq(&self) -> u32 {
        self.header("CSeq").and_then(|cseq| cseq.split(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// CSeq's method.
    pub fn cseq_method(&self) -> &str {
        self.header("CSeq").and_then(|cseq| cseq.split_whitespace().nth(1)).unwrap_or_default()
    }

    /// The branch of the top Via.
    pub fn branch(&self) -> &str {
        self.header("Via").and_then(|via| param(via.split(',').next().unwrap_or(via), "branch")).unwrap_or_default()
    }

    /// The tag of From or To.
    pub fn tag(&self, name: &str) -> Option<&str> {
        param(self.header(name)?, "tag")
    }
}

impl fmt::Debug for SipMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.write()))
    }
}

fn canonical(name: &str) -> &str {
    COMPACT.iter().find(|(compact, _)| name.eq_ignore_ascii_case(compact)).map_or(name, |(_, long)| long)
}

/// A header parameter's value, outside `<>` and quotes; the empty string for one without a value.
pub fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let after = value.rfind('>').map_or(0, |at| at + 1);
    value[after..].split(';').skip(usize::from(after == 0 || !value[after..].starts_with(';'))).find_map(|item| {
        let (key, found) = item.split_once('=').unwrap_or((item, ""));
        key.trim().eq_ignore_ascii_case(name).then_some(found.trim())
    })
}

/// The URI of an address: what stands in `<>`, or everything before the first `;`.
pub fn uri_of(value: &str) -> &str {
    match (value.find('<'), value.find('>')) {
        (Some(open), Some(close)) if open < close => &value[open + 1..close],
        _ => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// The user part of a sip URI; empty when it has none.
pub fn user_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    rest.split_once('@').map_or("", |(user, _)| user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATSON: &str = "MESSAGE sip:user2@imserver.com SIP/2.0\r\nVia: SIP/2.0/TCP user1pc.imserver.com;branch=z9hG4bK776sgdkse\r\n\
        Max-Forwards: 70\r\nf: <sip:user1@imserver.com>;tag=49583\r\nTo: <sip:user2@imserver.com>\r\n\
        Call-ID: asd88asd77a@1.2.3.4\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\nWatson, come here.";

    #[test]
    fn a_message_reads_as_it_was_written() {
        let message = SipMessage::read(WATSON.as_bytes()).unwrap();
        assert_eq!(message.method(), "MESSAGE");
        assert_eq!(message.tag("From"), Some("49583"));
        assert_eq!(message.branch(), "z9hG4bK776sgdkse");
        assert_eq!(message.body, b"Watson, come here.");
        assert_eq!(message.write(), WATSON.as_bytes());
    }

    #[test]
    fn each_broken_rule_is_named() {
        let cases: [(&str, &str, &str); 8] = [
            ("Content-Length: 18", "Content-Length: 17", "Content-Length is the body's length"),
            ("Max-Forwards: 70\r\n", "", "a request has Max-Forwards of 0 to 255"),
            ("CSeq: 1 MESSAGE", "CSeq: 1 INVITE", "CSeq names the request's method"),
            (";tag=49583", "", "From has a tag"),
            ("Content-Type: text/plain\r\n", "", "a body has a Content-Type"),
            ("Call-ID: ", "Call ID: ", "a header's name is a token"),
            ("\r\nTo:", "\nTo:", "lines end in CRLF, and CR, LF and NUL stand nowhere else"),
            ("SIP/2.0\r\nVia", "SIP/2.0 \r\nVia", "Request-Line = Method SP Request-URI SP SIP/2.0"),
        ];
        for (good, bad, rule) in cases {
            assert_eq!(SipMessage::read(WATSON.replacen(good, bad, 1).as_bytes()).unwrap_err().rule, rule);
        }
    }

    #[test]
    fn a_stream_is_cut_at_the_content_length() {
        let stream = format!("{WATSON}{WATSON}");
        for end in 0..WATSON.len() {
            assert_eq!(frame(&stream.as_bytes()[..end]).unwrap(), Framed::More, "{end}");
        }
        assert_eq!(frame(stream.as_bytes()).unwrap(), Framed::Whole(WATSON.len()));
        assert_eq!(frame(b"\r\n\r\nX").unwrap(), Framed::KeepAlive(4));
    }

    #[test]
    fn parameters_are_found_outside_the_uri() {
        assert_eq!(param("<sip:a@b;tag=no>;tag=yes", "tag"), Some("yes"));
        assert_eq!(param("<sip:a@b>;+g.oma.sip-im;automata", "automata"), Some(""));
        assert_eq!(param("SIP/2.0/UDP h:1;branch=z9;rport", "branch"), Some("z9"));
        assert_eq!(param("<sip:a@b;tag=no>", "tag"), None);
    }
}
