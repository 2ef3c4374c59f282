//! Cuts a connection's octets into MSRP frames as they arrive: no octet is copied, none is looked at twice.
//!
//! Knows where heads, bodies and end-lines begin and end, whatever the network made of them. Knows nothing of sessions.
//!
//! ```text
//!   head ──start-line, headers, blank line──▶ body ──CRLF end-line──▶ head
//!     └─────── response with its end-line ────────────────────────────▶┘
//! ```

pub use super::head::Finding;
use super::head::{FailureReport, HeadReader, Kind, Method, RequestHead, ResponseHead, TID_MAX, is_ident};
use crate::base::span::Span;
use memchr::memmem::Finder;
use std::sync::LazyLock;

/// Most content of a request that is not SEND (RFC 4975 7.1).
pub const OTHER_BODY_MAX: usize = 10_240;

/// What every end-line inside a body begins with.
static BORDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n-------"));

const DASHES: &[u8] = b"-------";

const START: &[u8] = b"MSRP ";

/// The next thing in the stream. `len` octets are consumed with it, and the next call's buffer begins behind them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Nothing whole is there yet: read more, behind what the buffer holds.
    More,
    /// A response, whole.
    Response {
        /// What it says.
        head: ResponseHead,
        /// Octets, its end-line included.
        len: usize,
    },
    /// A request's start-line, headers and blank line. `Data` may follow, `End` will.
    Request {
        /// What it says.
        head: RequestHead,
        /// Octets.
        len: usize,
    },
    /// Content of the current request; never the CRLF before its end-line.
    Data {
        /// Octets; at least one.
        len: usize,
    },
    /// The current request is over.
    End {
        /// `$` the message is complete, `+` more will follow, `#` it was given up.
        flag: u8,
        /// Octets.
        len: usize,
    },
}

/// Octets that are not MSRP. Whose fault: the peer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What was found.
    pub what: Finding,
    /// Where in the buffer.
    pub at: usize,
    /// Octets to consume; `Data` and `End` of the bad request follow and are to be dropped. Zero: where the next frame
    /// begins is not known, the connection is lost.
    pub len: usize,
    /// Transaction id, as far as it was read; spans count from the buffer's start.
    pub tid: Span,
    /// To-Path, as far as it was read.
    pub to_path: Span,
    /// From-Path, as far as it was read.
    pub from_path: Span,
    /// Method of the bad request; REPORT is not answered.
    pub method: Method,
    /// `No`: not answered.
    pub failure_report: FailureReport,
}

impl Fault {
    /// True when the stream has no known frames any more.
    pub fn is_lost(&self) -> bool {
        self.len == 0
    }

    /// True when a 400 can be addressed and may be sent.
    pub fn is_answerable(&self) -> bool {
        !self.tid.is_empty()
            && !self.to_path.is_empty()
            && !self.from_path.is_empty()
            && self.method != Method::Report
            && self.failure_report != FailureReport::No
    }
}

/// Longest response remembered: two paths of one URI each take 150 octets, behind two relays 400.
const REMEMBERED_MAX: usize = 512;

/// The last response of a connection, whole. A client answers a thousand SENDs with the same octets but for their transaction ids:
/// who compares need not read.
#[derive(Clone, Default, Debug)]
struct Remembered {
    octets: Vec<u8>,
    head: ResponseHead,
}

impl Remembered {
    /// The response at the beginning of `buf`, if it is this one with another id of the same length.
    fn again(&self, buf: &[u8]) -> Option<(ResponseHead, usize)> {
        let (tid, len) = (self.head.tid.range(), self.octets.len());
        let candidate = buf.get(..len)?;
        // `MSRP `, the id, what lies between, the id once more, the flag and a line's end.
        let second = len.checked_sub(3 + tid.len())?..len.checked_sub(3)?;
        let ours = |range: std::ops::Range<usize>| self.octets.get(range).unwrap_or_default();
        let between = tid.end..second.start;
        let id = candidate.get(tid.clone())?;
        let same = candidate.get(between.clone())? == ours(between)
            && candidate.get(second.clone())? == id
            && candidate.get(..tid.start)? == ours(0..tid.start)
            && candidate.get(second.end..)? == ours(second.end..len)
            && is_ident(id);
        same.then_some((self.head, len))
    }

    fn remember(&mut self, octets: &[u8], head: ResponseHead) {
        self.octets.clear();
        if octets.len() <= REMEMBERED_MAX {
            self.octets.extend_from_slice(octets);
            self.head = head;
        }
    }
}

/// Where in the stream we are.
#[derive(Clone, Debug)]
pub struct Cut {
    head_max: usize,
    in_body: bool,
    /// Start of the line that is being read.
    line: usize,
    /// No line feed lies between `line` and here.
    scanned: usize,
    /// A response had a blank line: only its end-line may follow.
    blank: bool,
    reader: HeadReader,
    tid: [u8; TID_MAX],
    tid_len: usize,
    /// Content left according to Byte-Range, where it says so.
    promised: Option<u64>,
    /// No content of this request has been handed out.
    fresh: bool,
    /// Content that may still come; only SEND has no limit.
    left: usize,
    last: Remembered,
}

/// How far octets agree with an end-line.
enum Agreement {
    Whole { flag: u8, len: usize },
    SoFar,
    No,
}

impl Cut {
    /// At the beginning of a connection. `head_max` bounds start-line and headers together, octets.
    pub fn new(head_max: usize) -> Cut {
        Cut {
            head_max,
            in_body: false,
            line: 0,
            scanned: 0,
            blank: false,
            reader: HeadReader::default(),
            tid: [0; TID_MAX],
            tid_len: 0,
            promised: None,
            fresh: false,
            left: 0,
            last: Remembered::default(),
        }
    }

    /// The next piece of the stream. `buf` begins at the first octet not yet consumed.
    ///
    /// Linear in the stream's length however it is delivered: what was searched in vain is not searched again.
    pub fn next(&mut self, buf: &[u8]) -> Result<Piece, Fault> {
        if self.in_body { self.body(buf) } else { self.head(buf) }
    }

    fn head(&mut self, buf: &[u8]) -> Result<Piece, Fault> {
        if self.scanned == 0
            && !self.last.octets.is_empty()
            && let Some((head, len)) = self.last.again(buf)
        {
            return Ok(Piece::Response { head, len });
        }
        loop {
            // A stranger is recognised by the first octets, not after 8 KiB without a line feed; and before anything else is said
            // of it, so that what is said does not hang on how it was delivered.
            let begun = buf.get(self.line..).unwrap_or_default();
            if self.reader.kind == Kind::Unread && !begins_frame(begun) {
                return Err(self.lost(Finding::NotMsrp, self.line));
            }
            let unseen = buf.get(self.scanned..).unwrap_or_default();
            let Some(found) = memchr::memchr(b'\n', unseen) else {
                self.scanned = buf.len().max(self.scanned);
                if buf.len() > self.head_max {
                    return Err(self.lost(Finding::HeadTooLong, self.head_max));
                }
                return Ok(Piece::More);
            };
            let after = self.scanned + found + 1;
            if after > self.head_max {
                return Err(self.lost(Finding::HeadTooLong, self.head_max));
            }
            let line = self.line;
            let octets = buf.get(line..after).unwrap_or_default();
            let Some(octets) = octets.strip_suffix(b"\r\n") else {
                return Err(self.lost(Finding::BareLineFeed, after - 1));
            };
            self.line = after;
            self.scanned = after;
            let place = Span::new(line, octets.len());
            match self.reader.kind {
                // Blank lines between frames are no frame; some clients keep a connection alive with them.
                Kind::Unread if octets.is_empty() => {}
                Kind::Unread => {
                    if let Err(what) = self.reader.start_line(buf, place) {
                        return Err(self.lost(what, line));
                    }
                }
                Kind::Request if octets.is_empty() => return self.request(buf, after, true),
                Kind::Response(_) if octets.is_empty() => self.blank = true,
                Kind::Request | Kind::Response(_) if octets.starts_with(DASHES) => {
                    let tid = self.reader.head.tid.of(buf);
                    let flag = octets.get(DASHES.len()..).and_then(|rest| rest.strip_prefix(tid));
                    if !matches!(flag, Some(b"$" | b"+" | b"#")) {
                        return Err(self.lost(Finding::BadEndLine, line));
                    }
                    return match self.reader.kind {
                        Kind::Response(status) => self.response(buf, status, after),
                        // The end-line stays: it is the next piece.
                        _ => self.request(buf, line, false),
                    };
                }
                Kind::Response(_) if self.blank => return Err(self.lost(Finding::ResponseWithBody, line)),
                Kind::Request | Kind::Response(_) => self.reader.header(buf, place),
            }
        }
    }

    fn response(&mut self, buf: &[u8], status: u16, len: usize) -> Result<Piece, Fault> {
        let head = self.reader.head;
        let verdict = self.reader.verdict(len);
        if let Some((what, at)) = verdict {
            // A response is never answered, but the stream goes on behind it.
            let fault = Fault { tid: Span::EMPTY, ..self.fault(what, at, len) };
            self.start_over();
            return Err(fault);
        }
        self.start_over();
        let head = ResponseHead { tid: head.tid, status, to_path: head.to_path, from_path: head.from_path };
        // Blank lines before it are not part of what is said again.
        if head.tid.at() == START.len() {
            self.last.remember(buf.get(..len).unwrap_or_default(), head);
        }
        Ok(Piece::Response { head, len })
    }

    fn request(&mut self, buf: &[u8], len: usize, has_body: bool) -> Result<Piece, Fault> {
        let mut head = self.reader.head;
        head.has_body = has_body;
        let tid = head.tid.of(buf);
        if let Some(place) = self.tid.get_mut(..tid.len()) {
            place.copy_from_slice(tid);
        }
        self.tid_len = tid.len();
        self.promised = head.byte_range.and_then(|range| range.promised()).filter(|&octets| octets > 0);
        self.left = if head.method == Method::Send { usize::MAX } else { OTHER_BODY_MAX };
        let verdict = self.reader.verdict(len).map(|(what, at)| self.fault(what, at, len));
        self.start_over();
        self.in_body = true;
        self.fresh = true;
        match verdict {
            Some(fault) => Err(fault),
            None => Ok(Piece::Request { head, len }),
        }
    }

    fn start_over(&mut self) {
        self.in_body = false;
        self.line = 0;
        self.scanned = 0;
        self.blank = false;
        self.reader = HeadReader::default();
    }

    fn lost(&self, what: Finding, at: usize) -> Fault {
        self.fault(what, at, 0)
    }

    fn fault(&self, what: Finding, at: usize, len: usize) -> Fault {
        let head = &self.reader.head;
        Fault {
            what,
            at,
            len,
            tid: if matches!(self.reader.kind, Kind::Request) { head.tid } else { Span::EMPTY },
            to_path: head.to_path,
            from_path: head.from_path,
            method: head.method,
            failure_report: head.failure_report,
        }
    }

    fn body(&mut self, buf: &[u8]) -> Result<Piece, Fault> {
        // Without content the end-line follows the headers at once, and so it does behind the blank line that some
        // clients send all the same.
        if self.fresh {
            match self.agree(buf, b"") {
                Agreement::Whole { flag, len } => return Ok(self.end(flag, len)),
                Agreement::SoFar => return Ok(Piece::More),
                Agreement::No => {}
            }
        }
        match self.agree(buf, b"\r\n") {
            Agreement::Whole { flag, len } => return Ok(self.end(flag, len)),
            Agreement::SoFar => return Ok(Piece::More),
            Agreement::No => {}
        }
        if let Some(promised) = self.promised.and_then(|octets| usize::try_from(octets).ok())
            && let Some(rest) = buf.get(promised..)
        {
            // The sender said how long the chunk is: look there before searching all of it.
            match self.agree(rest, b"\r\n") {
                Agreement::Whole { .. } if promised > 0 => return self.data(promised),
                Agreement::SoFar => {}
                _ => self.promised = None,
            }
        }
        let mut from = 0;
        while let Some(found) = BORDER.find(buf.get(from..).unwrap_or_default()) {
            let at = from + found;
            match self.agree(buf.get(at..).unwrap_or_default(), b"\r\n") {
                Agreement::No => from = at + 2,
                _ => return self.data(at),
            }
        }
        // The buffer may end inside the border: what could be its beginning stays.
        let tail = buf.len().saturating_sub(BORDER.needle().len() - 1);
        let kept = memchr::memchr_iter(b'\r', buf.get(tail..).unwrap_or_default())
            .find(|&at| BORDER.needle().starts_with(buf.get(tail + at..).unwrap_or_default()));
        self.data(kept.map_or(buf.len(), |at| tail + at))
    }

    fn data(&mut self, len: usize) -> Result<Piece, Fault> {
        if len == 0 {
            return Ok(Piece::More);
        }
        if len > self.left {
            return Err(self.lost(Finding::BodyTooLong, self.left));
        }
        if self.left != usize::MAX {
            self.left -= len;
        }
        self.promised = self.promised.and_then(|octets| octets.checked_sub(len as u64));
        self.fresh = false;
        Ok(Piece::Data { len })
    }

    fn end(&mut self, flag: u8, len: usize) -> Piece {
        self.start_over();
        Piece::End { flag, len }
    }

    /// Compares with `before`, seven hyphens, the transaction id, a flag and CRLF.
    fn agree(&self, octets: &[u8], before: &[u8]) -> Agreement {
        let tid = self.tid.get(..self.tid_len).unwrap_or_default();
        let mut rest = octets;
        for part in [before, DASHES, tid] {
            match rest.strip_prefix(part) {
                Some(more) => rest = more,
                None if part.starts_with(rest) => return Agreement::SoFar,
                None => return Agreement::No,
            }
        }
        match rest {
            [flag @ (b'$' | b'+' | b'#'), b'\r', b'\n', ..] => {
                Agreement::Whole { flag: *flag, len: before.len() + DASHES.len() + tid.len() + 3 }
            }
            [] | [b'$' | b'+' | b'#'] | [b'$' | b'+' | b'#', b'\r'] => Agreement::SoFar,
            _ => Agreement::No,
        }
    }
}

/// True while octets may be the beginning of a start-line, or of a blank line before one.
fn begins_frame(octets: &[u8]) -> bool {
    [START, b"\r\n"].iter().any(|word| octets.starts_with(word) || word.starts_with(octets))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
