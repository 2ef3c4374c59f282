//! The daemon's peers, played with plain blocking sockets: people who write, and one who comes back online.
//!
//! They read SIP and MSRP with a few lines of their own, not with the product's parsers: what both sides misread in the
//! same way would look right.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for any one answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Largest frame or message that is read; the daemon sends nothing near it.
const OCTETS_MAX: usize = 4 << 20;

/// Where in a story something went wrong, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What should have come.
    pub(super) expected: String,
    /// What came.
    pub(super) came: String,
}

impl Failure {
    /// One of the two sentences each.
    pub(super) fn new(expected: impl Into<String>, came: impl Into<String>) -> Failure {
        Failure { expected: expected.into(), came: came.into() }
    }
}

/// `bytes` random octets as hex.
pub(super) fn random_hex(bytes: usize) -> String {
    let mut octets = vec![0; bytes];
    // Names only have to differ between two runs here; the time does where the system has no chance to give.
    if getrandom::fill(&mut octets).is_err() {
        let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        octets = nanos.to_le_bytes().into_iter().cycle().take(bytes).collect();
    }
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A SIP message, read loosely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sip {
    /// Request-line or status-line.
    pub(super) start: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Sip {
    /// The first message in `octets` and its length; `None` while it is not all there.
    pub(super) fn cut(octets: &[u8]) -> Option<(Sip, usize)> {
        let lead = octets.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
        let message = octets.get(lead..)?;
        let head_len = memchr::memmem::find(message, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(message.get(..head_len)?).into_owned();
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            match (line.starts_with([' ', '\t']), headers.last_mut()) {
                (true, Some((_, value))) => *value = format!("{value} {}", line.trim()),
                _ => {
                    let (name, value) = line.split_once(':').unwrap_or((line, ""));
                    headers.push((long_name(name.trim()), value.trim().to_owned()));
                }
            }
        }
        let mut sip = Sip { start, headers, body: Vec::new() };
        let body_len: usize = sip.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        sip.body = message.get(head_len..head_len.checked_add(body_len)?)?.to_vec();
        Some((sip, lead + head_len + body_len))
    }

    /// The first header of that name, in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first header of that name, or nothing.
    pub(super) fn value(&self, name: &str) -> &str {
        self.header(name).unwrap_or_default()
    }

    /// The status of a response.
    pub(super) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request, or the one a response answers.
    pub(super) fn method(&self) -> &str {
        match self.status() {
            Some(_) => self.value("cseq").split_whitespace().nth(1).unwrap_or_default(),
            None => self.start.split(' ').next().unwrap_or_default(),
        }
    }

    /// A response to this request: what must be copied is copied. `more` are whole lines with their ends.
    pub(super) fn answer(&self, status: &str, tag: &str, more: &str, body: &str) -> Vec<u8> {
        let mut out = format!("SIP/2.0 {status}\r\n");
        for (name, value) in &self.headers {
            match name.as_str() {
                "via" | "from" | "call-id" | "cseq" | "record-route" => out.push_str(&format!("{name}: {value}\r\n")),
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
    match name.as_str() {
        "v" => "via".into(),
        "f" => "from".into(),
        "t" => "to".into(),
        "i" => "call-id".into(),
        "l" => "content-length".into(),
        "c" => "content-type".into(),
        "m" => "contact".into(),
        _ => name,
    }
}

/// One MSRP frame: a chunk or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Transaction id.
    pub(super) tid: String,
    /// What follows it: a method, or a status and its comment.
    pub(super) what: String,
    headers: Vec<(String, String)>,
    /// The octets of this chunk.
    pub(super) body: Vec<u8>,
    /// `$`, `+` or `#`.
    pub(super) flag: char,
}

impl Frame {
    /// The first frame in `octets` and its length; `None` while it is not all there.
    pub(super) fn cut(octets: &[u8]) -> Result<Option<(Frame, usize)>, Failure> {
        let Some(line_end) = memchr::memmem::find(octets, b"\r\n") else { return Ok(None) };
        let start = String::from_utf8_lossy(octets.get(..line_end).unwrap_or_default()).into_owned();
        let mut words = start.splitn(3, ' ');
        let (Some("MSRP"), Some(tid), Some(what)) = (words.next(), words.next(), words.next()) else {
            return Err(Failure::new("an MSRP start-line", start));
        };
        let end_mark = format!("-------{tid}");
        let mut headers = Vec::new();
        let mut at = line_end + 2;
        let body_at = loop {
            let rest = octets.get(at..).unwrap_or_default();
            let Some(end) = memchr::memmem::find(rest, b"\r\n") else { return Ok(None) };
            let line = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
            if line.starts_with(&end_mark) {
                break None;
            }
            at += end + 2;
            match line.split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None if line.is_empty() => break Some(at),
                None => return Err(Failure::new("an MSRP header", line)),
            }
        };
        // The end-line begins a line. Where there is no body, that line is at hand.
        let mut from = at;
        loop {
            let rest = octets.get(from..).unwrap_or_default();
            let Some(found) = memchr::memmem::find(rest, end_mark.as_bytes()) else { return Ok(None) };
            let mark = from + found;
            let tail = octets.get(mark + end_mark.len()..).unwrap_or_default();
            if tail.len() < 3 {
                return Ok(None);
            }
            let begins = octets.get(..mark).is_some_and(|before| before.ends_with(b"\r\n"));
            if let [flag @ (b'$' | b'+' | b'#'), b'\r', b'\n', ..] = tail
                && begins
            {
                let body =
                    body_at.and_then(|start| octets.get(start..mark.checked_sub(2)?)).unwrap_or_default().to_vec();
                let frame = Frame { tid: tid.into(), what: what.into(), headers, body, flag: char::from(*flag) };
                return Ok(Some((frame, mark + end_mark.len() + 3)));
            }
            from = mark + 1;
        }
    }

    /// The header of that name, in lower case.
    pub(super) fn value(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// The 200 that confirms it.
    pub(super) fn ok(&self) -> Vec<u8> {
        // Responses go one hop: to the leftmost address of the way back.
        let to = self.value("from-path").split(' ').next().unwrap_or_default();
        format!(
            "MSRP {0} 200 OK\r\nTo-Path: {to}\r\nFrom-Path: {1}\r\n-------{0}$\r\n",
            self.tid,
            self.value("to-path")
        )
        .into_bytes()
    }
}

/// Sends requests and waits for the final answer, over UDP with the repetitions of RFC 3261 17.1.2.
pub(super) enum Line {
    /// Datagrams.
    Udp(UdpSocket),
    /// A connection, and what was read ahead.
    Tcp(TcpStream, Vec<u8>),
}

impl Line {
    /// Datagrams to and from `daemon`.
    pub(super) fn udp(daemon: SocketAddr) -> io::Result<Line> {
        let socket = UdpSocket::bind((daemon.ip(), 0))?;
        socket.connect(daemon)?;
        Ok(Line::Udp(socket))
    }

    /// A connection to `daemon`.
    pub(super) fn tcp(daemon: SocketAddr) -> io::Result<Line> {
        let socket = TcpStream::connect_timeout(&daemon, PATIENCE)?;
        socket.set_nodelay(true)?;
        Ok(Line::Tcp(socket, Vec::new()))
    }

    /// What a Via says about it: transport and our address.
    pub(super) fn sent_by(&self) -> io::Result<(&'static str, SocketAddr)> {
        Ok(match self {
            Line::Udp(socket) => ("UDP", socket.local_addr()?),
            Line::Tcp(socket, _) => ("TCP", socket.local_addr()?),
        })
    }

    /// The final response to `request`.
    pub(super) fn ask(&mut self, request: &[u8]) -> io::Result<Sip> {
        let began = Instant::now();
        let mut interval = Duration::from_millis(500);
        let late = || io::Error::new(ErrorKind::TimedOut, "no final response within 10 s");
        match self {
            Line::Udp(socket) => {
                let mut datagram = vec![0; 65_536];
                while began.elapsed() < PATIENCE {
                    socket.send(request)?;
                    socket.set_read_timeout(Some(interval))?;
                    while let Ok(octets) = socket.recv(&mut datagram) {
                        if let Some((sip, _)) = datagram.get(..octets).and_then(Sip::cut)
                            && sip.status().is_some_and(|status| status >= 200)
                        {
                            return Ok(sip);
                        }
                    }
                    interval = (interval * 2).min(Duration::from_secs(4));
                }
                Err(late())
            }
            Line::Tcp(socket, ahead) => {
                socket.write_all(request)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                loop {
                    if let Some((sip, len)) = Sip::cut(ahead) {
                        ahead.drain(..len);
                        if sip.status().is_some_and(|status| status >= 200) {
                            return Ok(sip);
                        }
                    } else if began.elapsed() > PATIENCE {
                        return Err(late());
                    } else {
                        read_more(socket, ahead).map_err(|error| match error.kind() {
                            ErrorKind::WouldBlock => late(),
                            _ => error,
                        })?;
                    }
                }
            }
        }
    }
}

/// Appends what one read gives; an end is an error here.
fn read_more(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    if buffer.len() > OCTETS_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "more octets than any message may have"));
    }
    let mut octets = [0; 16_384];
    match socket.read(&mut octets)? {
        0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the daemon closed the connection")),
        read => {
            buffer.extend_from_slice(octets.get(..read).unwrap_or_default());
            Ok(())
        }
    }
}

/// What happens to the one who is online.
#[derive(Debug)]
pub(super) enum Event {
    /// A SIP message came.
    Sip(Sip),
    /// An MSRP frame came at that time; a SEND is being confirmed.
    Msrp(Frame, Instant),
    /// A connection ended, or what came on it is not to be read.
    Ended(&'static str, Failure),
}

/// Reads SIP messages until the connection ends.
pub(super) fn listen_sip(mut socket: TcpStream, events: Sender<Event>) {
    thread::spawn(move || {
        let mut ahead = Vec::new();
        loop {
            while let Some((sip, len)) = Sip::cut(&ahead) {
                ahead.drain(..len);
                if events.send(Event::Sip(sip)).is_err() {
                    return;
                }
            }
            if let Err(error) = read_more(&mut socket, &mut ahead) {
                let _ = events.send(Event::Ended("SIP", Failure::new("a SIP message", error.to_string())));
                return;
            }
        }
    });
}

/// Reads MSRP frames until the connection ends, and answers every SEND 200 at once.
pub(super) fn listen_msrp(mut socket: TcpStream, events: Sender<Event>) {
    thread::spawn(move || {
        let mut ahead = Vec::new();
        let failure = loop {
            match Frame::cut(&ahead) {
                Ok(Some((frame, len))) => {
                    let came = Instant::now();
                    ahead.drain(..len);
                    let answer = (frame.what == "SEND").then(|| frame.ok());
                    // Told before it is answered: the daemon's BYE follows the last answer and must not overtake the frame.
                    if events.send(Event::Msrp(frame, came)).is_err() {
                        return;
                    }
                    if let Some(Err(error)) = answer.map(|answer| socket.write_all(&answer)) {
                        break Failure::new("room for a 200", error.to_string());
                    }
                }
                Ok(None) => {
                    if let Err(error) = read_more(&mut socket, &mut ahead) {
                        break Failure::new("an MSRP frame", error.to_string());
                    }
                }
                Err(failure) => break failure,
            }
        };
        let _ = events.send(Event::Ended("MSRP", failure));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip_messages_are_cut_where_they_end() {
        let octets = b"\r\n\r\nSIP/2.0 202 Accepted\r\nv: SIP/2.0/UDP h\r\nCSeq: 1 MESSAGE\r\nl: 2\r\nTo: a\r\n ;tag=1\r\n\r\nhiNEXT";
        let (sip, len) = Sip::cut(octets).unwrap();
        assert_eq!((sip.status(), sip.method(), sip.body.as_slice()), (Some(202), "MESSAGE", b"hi".as_slice()));
        assert_eq!((sip.value("to"), sip.value("via")), ("a ;tag=1", "SIP/2.0/UDP h"));
        assert_eq!(&octets[len..], b"NEXT");
        for end in 0..len {
            assert!(Sip::cut(&octets[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn frames_end_with_their_own_end_line_only() {
        let octets = b"MSRP a1b2 SEND\r\nTo-Path: msrp://b:1/s;tcp\r\nFrom-Path: msrp://a:2/t;tcp msrp://x:3/u;tcp\r\n\
                       Byte-Range: 1-29/29\r\nContent-Type: a/b\r\n\r\nx\r\n-------a1b\r\n -------a1b2$\r\n-------a1b2+\r\nNEXT";
        let (frame, len) = Frame::cut(octets).unwrap().unwrap();
        assert_eq!((frame.what.as_str(), frame.flag, frame.value("byte-range")), ("SEND", '+', "1-29/29"));
        assert_eq!(frame.body, b"x\r\n-------a1b\r\n -------a1b2$");
        assert_eq!(&octets[len..], b"NEXT");
        assert_eq!(
            frame.ok(),
            b"MSRP a1b2 200 OK\r\nTo-Path: msrp://a:2/t;tcp\r\nFrom-Path: msrp://b:1/s;tcp\r\n-------a1b2$\r\n"
        );
        for end in 0..len {
            assert_eq!(Frame::cut(&octets[..end]), Ok(None), "{end}");
        }
        let (answer, len) = Frame::cut(&frame.ok()).unwrap().unwrap();
        assert_eq!((answer.what.as_str(), answer.flag, answer.body.len(), len), ("200 OK", '$', 0, frame.ok().len()));
        assert!(Frame::cut(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
