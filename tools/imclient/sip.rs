//! SIP messages as this client reads and writes them: whole lines of text, nothing clever.
//!
//! It knows no sockets. Reading is loose, writing is strict.

/// More header lines than this are nobody's good intention.
const HEADERS_MAX: usize = 512;

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sip {
    /// Request-line or status-line.
    pub(crate) start: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Sip {
    /// The first message in `octets` and its length; `Ok(None)` while it is not all there; `Err` if it never will be one.
    pub(crate) fn cut(octets: &[u8]) -> Result<Option<(Sip, usize)>, &'static str> {
        let lead = octets.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
        let message = octets.get(lead..).unwrap_or_default();
        let Some(head_len) = memchr::memmem::find(message, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
        let mut sip = Sip::head(message.get(..head_len).unwrap_or_default())?;
        let length = sip.header("content-length").unwrap_or("0");
        let length: usize = length.parse().map_err(|_| "a Content-Length that is no number")?;
        let end = head_len.checked_add(length).ok_or("a Content-Length beyond all measure")?;
        let Some(body) = message.get(head_len..end) else { return Ok(None) };
        sip.body = body.to_vec();
        Ok(Some((sip, lead + end)))
    }

    /// A start-line and headers, as far as they are there: a `message/sip` or `message/sipfrag` without its body.
    pub(crate) fn head(octets: &[u8]) -> Result<Sip, &'static str> {
        let text = String::from_utf8_lossy(octets).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            if headers.len() >= HEADERS_MAX {
                return Err("more headers than anybody needs");
            }
            match (line.starts_with([' ', '\t']), headers.last_mut()) {
                (true, Some((_, value))) => *value = format!("{value} {}", line.trim()),
                _ => {
                    let (name, value) = line.split_once(':').unwrap_or((line, ""));
                    headers.push((long_name(name.trim()), value.trim().to_owned()));
                }
            }
        }
        Ok(Sip { start, headers, body: Vec::new() })
    }

    /// The first header of that name, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first header of that name, or nothing.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.header(name).unwrap_or_default()
    }

    /// All headers of that name, from the top.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.headers.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request, or the one a response answers.
    pub(crate) fn method(&self) -> &str {
        match self.status() {
            Some(_) => self.value("cseq").split_whitespace().nth(1).unwrap_or_default(),
            None => self.start.split(' ').next().unwrap_or_default(),
        }
    }

    /// The branch of the topmost Via.
    pub(crate) fn branch(&self) -> &str {
        parameter(self.value("via"), "branch").unwrap_or_default()
    }

    /// What names a request among all that come: a repetition has the same.
    pub(crate) fn key(&self) -> String {
        format!("{} {} {}", self.branch(), self.value("cseq"), self.value("call-id"))
    }

    /// Status and reason, and what a Warning explains.
    pub(crate) fn outcome(&self) -> String {
        let status = self.start.strip_prefix("SIP/2.0 ").unwrap_or(&self.start);
        match (self.header("warning"), self.header("retry-after")) {
            (Some(warning), _) => format!(
                "{status} ({})",
                warning.split_once('"').map_or(warning, |(_, text)| text.trim_end_matches('"'))
            ),
            (None, Some(seconds)) => format!("{status} (again in {seconds} s)"),
            (None, None) => status.to_owned(),
        }
    }

    /// An attribute of an SDP body: `a=path:` for `path`.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let body = String::from_utf8_lossy(&self.body).into_owned();
        let begin = format!("a={name}:");
        body.lines().find_map(|line| line.strip_prefix(&begin)).map(|value| value.trim().to_owned())
    }

    /// A response to this request: what must be copied is copied. `more` are whole lines with their ends.
    pub(crate) fn answer(&self, status: &str, tag: &str, more: &str, body: &str) -> Vec<u8> {
        let mut out = format!("SIP/2.0 {status}\r\n");
        for (name, value) in &self.headers {
            match name.as_str() {
                "via" => out.push_str(&format!("Via: {value}\r\n")),
                "from" => out.push_str(&format!("From: {value}\r\n")),
                "call-id" => out.push_str(&format!("Call-ID: {value}\r\n")),
                "cseq" => out.push_str(&format!("CSeq: {value}\r\n")),
                "record-route" => out.push_str(&format!("Record-Route: {value}\r\n")),
                "to" if value.contains(";tag=") => out.push_str(&format!("To: {value}\r\n")),
                "to" => out.push_str(&format!("To: {value};tag={tag}\r\n")),
                _ => {}
            }
        }
        out.push_str(&format!("{more}Content-Length: {}\r\n\r\n{body}", body.len()));
        out.into_bytes()
    }
}

/// Lower case, compact forms written out.
fn long_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let long = match name.as_str() {
        "v" => "via",
        "f" => "from",
        "t" => "to",
        "i" => "call-id",
        "l" => "content-length",
        "c" => "content-type",
        "m" => "contact",
        "s" => "subject",
        "o" => "event",
        _ => return name,
    };
    long.to_owned()
}

/// A parameter of a header's value, quotes taken off; those inside of `<>` are not the header's.
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let after = value.rsplit_once('>').map_or(value, |(_, after)| after);
    let found = after.split(';').skip(1).find_map(|item| {
        let (found, value) = item.split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })?;
    Some(found.trim_matches('"'))
}

/// The URI of a name-addr or an addr-spec.
pub(crate) fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// A request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Its method.
    pub(crate) method: String,
    uri: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// Without any header.
    pub(crate) fn new(method: &str, uri: &str) -> Request {
        Request { method: method.into(), uri: uri.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header. Line ends in the value would be headers of their own and become blanks.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Request {
        let value: String = value.into();
        self.headers.push((name.into(), value.replace(['\r', '\n'], " ")));
        self
    }

    /// Changes a header that was added.
    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Request {
        self.headers.retain(|(found, _)| found != name);
        self.with(name, value)
    }

    /// Its body and the body's type.
    pub(crate) fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self.with("Content-Type", content_type)
    }

    /// The value of a header that was added.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// The branch of its Via.
    pub(crate) fn branch(&self) -> &str {
        parameter(self.value("Via"), "branch").unwrap_or_default()
    }

    /// As octets.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = format!("{} {} SIP/2.0\r\n", self.method, self.uri);
        self.headers.iter().for_each(|(name, value)| out.push_str(&format!("{name}: {value}\r\n")));
        out.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        [out.as_bytes(), &self.body].concat()
    }

    /// The ACK of a refusal: the INVITE's own branch (RFC 3261 17.1.1.3).
    pub(crate) fn refusal_ack(&self, response: &Sip) -> Request {
        let cseq = self.value("CSeq").split(' ').next().unwrap_or("1").to_owned();
        Request::new("ACK", &self.uri)
            .with("Via", self.value("Via"))
            .with("Max-Forwards", "70")
            .with("From", self.value("From"))
            .with("To", response.value("to"))
            .with("Call-ID", self.value("Call-ID"))
            .with("CSeq", format!("{cseq} ACK"))
    }
}

/// `octets` random octets as hex.
pub(crate) fn random_hex(octets: usize) -> String {
    let mut random = vec![0; octets];
    // Names only have to differ between two runs here; the time does where the system has no chance to give.
    if getrandom::fill(&mut random).is_err() {
        let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        random = nanos.to_le_bytes().into_iter().cycle().take(octets).collect();
    }
    random.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end() {
        let octets = b"\r\n\r\nSIP/2.0 202 Accepted\r\nv: SIP/2.0/UDP h;branch=z9hG4bKx\r\nCSeq: 1 MESSAGE\r\nl: 2\r\nTo: a\r\n ;tag=1\r\n\r\nhiNEXT";
        let (sip, len) = Sip::cut(octets).unwrap().unwrap();
        assert_eq!((sip.status(), sip.method(), sip.branch()), (Some(202), "MESSAGE", "z9hG4bKx"));
        assert_eq!((sip.body.as_slice(), &octets[len..], sip.value("to")), (&b"hi"[..], &b"NEXT"[..], "a ;tag=1"));
        for end in 0..len {
            assert_eq!(Sip::cut(&octets[..end]), Ok(None), "{end}");
        }
        assert!(Sip::cut(b"A\r\nContent-Length: x\r\n\r\n").is_err());
        assert!(Sip::cut(b"A\r\nContent-Length: 18446744073709551615\r\n\r\n").is_err());
    }

    #[test]
    fn a_warning_is_said_in_its_own_words() {
        let sip = Sip::head(b"SIP/2.0 488 Not Acceptable Here\r\nWarning: 399 h \"no messages\"\r\n\r\n").unwrap();
        assert_eq!(sip.outcome(), "488 Not Acceptable Here (no messages)");
    }

    #[test]
    fn no_value_makes_a_header_of_its_own() {
        let request = Request::new("MESSAGE", "sip:b@e").with("Subject", "x\r\nP-Asserted-Identity: <sip:eve@e>");
        assert!(!String::from_utf8(request.write()).unwrap().contains("\nP-Asserted"));
    }

    #[test]
    fn uris_and_parameters_are_found() {
        assert_eq!(uri_of("\"B\" <sip:b@e;x=y>;tag=1"), "sip:b@e;x=y");
        assert_eq!(uri_of("sip:b@e;tag=1"), "sip:b@e");
        assert_eq!(parameter("<sip:b@e;tag=no>;tag=yes", "tag"), Some("yes"));
        assert_eq!(parameter("multipart/mixed;boundary=\"x\"", "boundary"), Some("x"));
    }
}
