//! MSRP frames as this client reads and writes them (RFC 4975 7).
//!
//! It knows no sockets. A frame is read when all of it is there, and never grows beyond [`FRAME_MAX`].

use crate::sip::random_hex;

/// Longest frame that is read: a chunk of the largest size that a daemon may be configured to send, and its head.
pub(crate) const FRAME_MAX: usize = 4 << 20;

/// Longest head of a frame; paths through relays are the long part of one.
const HEAD_MAX: usize = 16_384;

/// A chunk or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Transaction id.
    pub(crate) tid: String,
    /// What follows it: a method, or a status and its comment.
    pub(crate) what: String,
    headers: Vec<(String, String)>,
    /// The octets of this chunk.
    pub(crate) body: Vec<u8>,
    /// `$`, `+` or `#`.
    pub(crate) flag: char,
}

impl Frame {
    /// The first frame in `octets` and its length; `Ok(None)` while it is not all there; `Err` if it never will be one.
    pub(crate) fn cut(octets: &[u8]) -> Result<Option<(Frame, usize)>, &'static str> {
        let waits = |limit: usize, what| if octets.len() > limit { Err(what) } else { Ok(None) };
        let Some(line_end) = memchr::memmem::find(octets, b"\r\n") else {
            return waits(HEAD_MAX, "an MSRP start-line without an end");
        };
        let start = String::from_utf8_lossy(octets.get(..line_end).unwrap_or_default()).into_owned();
        let mut words = start.splitn(3, ' ');
        let (Some("MSRP"), Some(tid), Some(what)) = (words.next(), words.next(), words.next()) else {
            return Err("a line that begins no MSRP frame");
        };
        let end_mark = format!("-------{tid}");
        let mut headers = Vec::new();
        let mut at = line_end + 2;
        let body_at = loop {
            if at > HEAD_MAX {
                return Err("an MSRP head of more than 16 KiB");
            }
            let rest = octets.get(at..).unwrap_or_default();
            let Some(end) = memchr::memmem::find(rest, b"\r\n") else {
                return waits(at + HEAD_MAX, "an MSRP header without an end");
            };
            let line = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
            if line.starts_with(&end_mark) {
                break None;
            }
            at += end + 2;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None if line.is_empty() => break Some(at),
                None => return Err("an MSRP header without a colon"),
            }
        };
        // The end-line begins a line. Where there is no body, that line is at hand.
        let mut from = body_at.map_or(at, |start| start.saturating_sub(2));
        loop {
            let rest = octets.get(from..).unwrap_or_default();
            let Some(found) = memchr::memmem::find(rest, end_mark.as_bytes()) else {
                return waits(FRAME_MAX, "an MSRP frame of more than 4 MiB");
            };
            let mark = from + found;
            let tail = octets.get(mark + end_mark.len()..).unwrap_or_default();
            if tail.len() < 3 {
                return Ok(None);
            }
            let begins = octets.get(..mark).is_some_and(|before| before.ends_with(b"\r\n"));
            if let [flag @ (b'$' | b'+' | b'#'), b'\r', b'\n', ..] = tail
                && begins
            {
                let body = body_at.and_then(|start| octets.get(start..mark.saturating_sub(2)));
                let frame = Frame {
                    tid: tid.into(),
                    what: what.into(),
                    headers,
                    body: body.unwrap_or_default().to_vec(),
                    flag: char::from(*flag),
                };
                return Ok(Some((frame, mark + end_mark.len() + 3)));
            }
            from = mark + 1;
        }
    }

    /// The header of that name, in lower case.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// A request whose octets are part of a message.
    pub(crate) fn is_send(&self) -> bool {
        self.what == "SEND"
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.what.get(..3).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?.parse().ok()
    }

    /// Where it begins in its message, counted from 1, and how long the message is, if that is known.
    pub(crate) fn range(&self) -> Option<(u64, Option<u64>)> {
        let (span, total) = self.value("byte-range").split_once('/')?;
        Some((span.split('-').next()?.parse().ok()?, total.parse().ok()))
    }

    /// The response that confirms it, or does not.
    pub(crate) fn answer(&self, status: &str) -> Vec<u8> {
        // Responses go one hop: to the leftmost address of the way back.
        let to = self.value("from-path").split(' ').next().unwrap_or_default();
        let from = self.value("to-path").split(' ').next().unwrap_or_default();
        format!("MSRP {0} {status}\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n-------{0}$\r\n", self.tid).into_bytes()
    }
}

/// One piece of a message to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) message_id: &'a str,
    /// Octets of the message in front of it.
    pub(crate) at: u64,
    /// Octets of the whole message.
    pub(crate) total: u64,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
}

impl Chunk<'_> {
    /// Its transaction id and its octets.
    pub(crate) fn write(&self, to_path: &str, from_path: &str) -> (String, Vec<u8>) {
        // 64 random bits; that the body has them behind seven dashes is looked for nevertheless (RFC 4975 7.1).
        let tid = loop {
            let tid = random_hex(8);
            if memchr::memmem::find(self.body, format!("-------{tid}").as_bytes()).is_none() {
                break tid;
            }
        };
        let end = self.at + self.body.len() as u64;
        let flag = if end == self.total { '$' } else { '+' };
        let head = format!(
            "MSRP {tid} SEND\r\nTo-Path: {to_path}\r\nFrom-Path: {from_path}\r\nMessage-ID: {}\r\n\
             Byte-Range: {}-{end}/{}\r\nContent-Type: {}\r\n\r\n",
            self.message_id,
            self.at + 1,
            self.total,
            self.content_type
        );
        let octets = [head.as_bytes(), self.body, format!("\r\n-------{tid}{flag}\r\n").as_bytes()].concat();
        (tid, octets)
    }
}

/// The SEND without a body that says which session a connection is for (RFC 4975 5.4).
pub(crate) fn hello(to_path: &str, from_path: &str) -> Vec<u8> {
    let tid = random_hex(8);
    format!(
        "MSRP {tid} SEND\r\nTo-Path: {to_path}\r\nFrom-Path: {from_path}\r\nMessage-ID: {}\r\nByte-Range: 1-0/0\r\n\
         -------{tid}$\r\n",
        random_hex(8)
    )
    .into_bytes()
}

/// HOST:PORT of the first URI of a path.
pub(crate) fn authority(path: &str) -> Option<&str> {
    let first = path.split(' ').next()?;
    let place = first.strip_prefix("msrp://")?.split(['/', ';']).next()?;
    Some(place.rsplit_once('@').map_or(place, |(_, place)| place)).filter(|place| !place.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_read_as_it_was_written_and_not_before_it_is_whole() {
        let body = b"line\r\n-------0123$\r\n--";
        let chunk = Chunk { message_id: "m1", at: 4, total: 100, content_type: "text/plain", body };
        let (tid, octets) = chunk.write("msrp://a:1/x;tcp", "msrp://b:2/y;tcp");
        for end in 0..octets.len() {
            assert_eq!(Frame::cut(&octets[..end]), Ok(None), "{end}");
        }
        let (frame, len) = Frame::cut(&[&octets[..], b"MSRP"].concat()).unwrap().unwrap();
        assert_eq!((len, frame.tid.as_str(), frame.flag, frame.body.as_slice()), (octets.len(), &*tid, '+', &body[..]));
        assert_eq!((frame.is_send(), frame.status(), frame.range()), (true, None, Some((5, Some(100)))));
        let (answer, _) = Frame::cut(&frame.answer("200 OK")).unwrap().unwrap();
        assert_eq!((answer.status(), answer.value("to-path")), (Some(200), "msrp://b:2/y;tcp"));
    }

    #[test]
    fn empty_bodies_and_no_bodies_are_read() {
        let (frame, _) = Frame::cut(&hello("msrp://a:1/x;tcp", "msrp://b:2/y;tcp")).unwrap().unwrap();
        assert_eq!((frame.body.len(), frame.range()), (0, Some((1, Some(0)))));
        let (frame, len) = Frame::cut(b"MSRP t1 SEND\r\nA: b\r\n\r\n\r\n-------t1$\r\n").unwrap().unwrap();
        assert_eq!((frame.body.len(), len), (0, 36));
    }

    #[test]
    fn what_never_becomes_a_frame_is_said_to_be_none() {
        assert!(Frame::cut(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(Frame::cut(b"MSRP t1 SEND\r\nno header\r\n").is_err());
        assert!(Frame::cut(&vec![b'x'; HEAD_MAX + 1]).is_err());
        let endless = [&b"MSRP t1 SEND\r\nA: b\r\n\r\n"[..], &vec![b'x'; FRAME_MAX]].concat();
        assert!(Frame::cut(&endless).is_err());
        assert!(Frame::cut(&[&b"MSRP t1 SEND\r\n"[..], &b"A: b\r\n".repeat(4_000)].concat()).is_err());
    }

    #[test]
    fn a_path_says_where_to_connect() {
        assert_eq!(authority("msrp://127.0.0.1:2855/s;tcp"), Some("127.0.0.1:2855"));
        assert_eq!(authority("msrp://me@[::1]:2855/s;tcp msrp://b:1/t;tcp"), Some("[::1]:2855"));
        assert_eq!(authority("msrps://h:1/s;tcp"), None);
    }
}
