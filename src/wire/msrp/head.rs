//! Start-lines and headers of MSRP requests and responses, read one line at a time (RFC 4975 section 9).
//!
//! Knows the names and values of the headers we use; all others are passed over. Where a frame ends is [`super::cut`].
//! What is wrong in a header is remembered, not thrown: the frame's borders are still sound, so it can be answered 400.

use super::uri;
use crate::base::span::Span;

/// Most URIs in a path: a chain of relays is one or two long, 32 is far beyond any that works.
pub const PATH_URIS_MAX: usize = 32;

/// Longest transaction id: ident is 4 to 32 characters (RFC 4975 9).
pub const TID_MAX: usize = 32;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Method {
    /// A message or a chunk of one.
    #[default]
    Send,
    /// What became of a message. Never answered.
    Report,
    /// A client's question to a relay (RFC 4976).
    Auth,
    /// A method we do not know: 501.
    Other,
}

/// When the sender wants to hear of failure (RFC 4975 7.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum FailureReport {
    /// Always answered. What an absent header means.
    #[default]
    Yes,
    /// Only errors are answered.
    Partial,
    /// Nothing is answered.
    No,
}

/// `Byte-Range: start-end/total`; octets count from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ByteRange {
    /// Position of the chunk's first octet in the message, at least 1.
    pub start: u64,
    /// Position of its last octet; `None` for `*`. `start - 1` when there are no octets.
    pub end: Option<u64>,
    /// Octets of the whole message; `None` for `*`.
    pub total: Option<u64>,
}

impl ByteRange {
    /// Reads `start-end/total`. A start of 0 is taken only in `0-0/0`, which some clients write for nothing at all.
    pub fn parse(value: &[u8]) -> Option<ByteRange> {
        let dash = memchr::memchr(b'-', value)?;
        let (start, rest) = (value.get(..dash)?, value.get(dash + 1..)?);
        let slash = memchr::memchr(b'/', rest)?;
        let start = number(start)?;
        let end = number_or_star(rest.get(..slash)?)?;
        let total = number_or_star(rest.get(slash + 1..)?)?;
        if start == 0 {
            return (end == Some(0) && total == Some(0)).then_some(ByteRange { start: 1, end, total });
        }
        let backwards = end.is_some_and(|end| end < start - 1);
        let beyond = matches!((end, total), (Some(end), Some(total)) if end > total);
        (!backwards && !beyond).then_some(ByteRange { start, end, total })
    }

    /// How many octets the range promises, where it says.
    pub fn promised(self) -> Option<u64> {
        self.end.map(|end| (end + 1).saturating_sub(self.start))
    }
}

/// Start-line and headers of a request. Spans count from the start of the buffer it was cut from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RequestHead {
    /// Transaction id.
    pub tid: Span,
    /// What is asked for.
    pub method: Method,
    /// To-Path, all URIs.
    pub to_path: Span,
    /// From-Path, all URIs.
    pub from_path: Span,
    /// Message-ID; empty when absent.
    pub message_id: Span,
    /// Byte-Range.
    pub byte_range: Option<ByteRange>,
    /// `Success-Report: yes`.
    pub success_report: bool,
    /// Failure-Report.
    pub failure_report: FailureReport,
    /// Content-Type with its parameters; empty when absent.
    pub content_type: Span,
    /// Code of `Status: 000 code`; other namespaces are `None`.
    pub status: Option<u16>,
    /// True when a blank line ended the headers: content follows, even if it is empty.
    pub has_body: bool,
}

/// Start-line and headers of a response.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ResponseHead {
    /// Transaction id of the request it answers.
    pub tid: Span,
    /// 200, 400, ...
    pub status: u16,
    /// To-Path.
    pub to_path: Span,
    /// From-Path.
    pub from_path: Span,
}

/// What is wrong with the peer's octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Finding {
    /// A frame does not begin with `MSRP `.
    NotMsrp,
    /// Start-line and headers are longer than allowed.
    HeadTooLong,
    /// The transaction id is not an ident of 4 to 32 characters.
    BadTid,
    /// The start-line names neither a method nor a status code.
    BadStartLine,
    /// A line ends with LF alone.
    BareLineFeed,
    /// A line is no header.
    BadHeader,
    /// A header that may stand once stands twice.
    Repeated,
    /// To-Path or From-Path is missing.
    MissingPath,
    /// A path is empty, has more than [`PATH_URIS_MAX`] URIs, or an octet that no URI has.
    BadPath,
    /// Message-ID is not an ident.
    BadMessageId,
    /// Byte-Range is not `start-end/total`, or contradicts itself.
    BadByteRange,
    /// Success-Report or Failure-Report has no known value.
    BadReportWish,
    /// Status is not `namespace code`.
    BadStatus,
    /// An end-line has another transaction id than its start-line, or no flag.
    BadEndLine,
    /// A response has content.
    ResponseWithBody,
    /// A request other than SEND has more than 10,240 octets of content.
    BodyTooLong,
}

/// What the start-line said.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Kind {
    /// Not read yet.
    #[default]
    Unread,
    Request,
    Response(u16),
}

/// Reads a head line by line.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct HeadReader {
    pub(super) kind: Kind,
    pub(super) head: RequestHead,
    /// The first thing found wrong in a header, and where.
    pub(super) finding: Option<(Finding, usize)>,
    has_range: bool,
    has_success: bool,
    has_failure: bool,
    has_status: bool,
}

impl HeadReader {
    /// Reads the start-line at `line` of `buf`.
    pub(super) fn start_line(&mut self, buf: &[u8], line: Span) -> Result<(), Finding> {
        let rest = line.of(buf).strip_prefix(b"MSRP ").ok_or(Finding::NotMsrp)?;
        let space = memchr::memchr(b' ', rest).ok_or(Finding::BadStartLine)?;
        let (tid, rest) = rest.split_at_checked(space).ok_or(Finding::BadStartLine)?;
        if !is_ident(tid) {
            return Err(Finding::BadTid);
        }
        self.head.tid = Span::new(line.at() + 5, tid.len());
        let word = rest.get(1..).unwrap_or_default();
        self.kind = match word {
            b"SEND" => self.request(Method::Send),
            b"REPORT" => self.request(Method::Report),
            b"AUTH" => self.request(Method::Auth),
            _ => match status_code(word) {
                Some(status) => Kind::Response(status),
                None if !word.is_empty() && word.iter().all(u8::is_ascii_uppercase) => self.request(Method::Other),
                None => return Err(Finding::BadStartLine),
            },
        };
        Ok(())
    }

    fn request(&mut self, method: Method) -> Kind {
        self.head.method = method;
        Kind::Request
    }

    /// Reads the header at `line` of `buf`.
    pub(super) fn header(&mut self, buf: &[u8], line: Span) {
        if let Err(finding) = self.try_header(buf, line)
            && self.finding.is_none()
        {
            self.finding = Some((finding, line.at()));
        }
    }

    fn try_header(&mut self, buf: &[u8], line: Span) -> Result<(), Finding> {
        let octets = line.of(buf);
        let colon = memchr::memchr(b':', octets).ok_or(Finding::BadHeader)?;
        let (name, value) = octets.split_at_checked(colon).ok_or(Finding::BadHeader)?;
        if !name.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(Finding::BadHeader);
        }
        let value = trim(value.get(1..).unwrap_or_default());
        // Both ends of `value` lie inside the line, so its place follows from the addresses' distance.
        let place = Span::new(line.at() + (value.as_ptr().addr() - octets.as_ptr().addr()), value.len());
        let head = &mut self.head;
        // The length picks the name: at most two comparisons per header, none for most strangers.
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"To-Path") => set_path(&mut head.to_path, value, place),
            9 if name.eq_ignore_ascii_case(b"From-Path") => set_path(&mut head.from_path, value, place),
            10 if name.eq_ignore_ascii_case(b"Message-ID") => {
                if !is_ident(value) {
                    return Err(Finding::BadMessageId);
                }
                set_once(&mut head.message_id, place)
            }
            10 if name.eq_ignore_ascii_case(b"Byte-Range") => {
                once(&mut self.has_range)?;
                head.byte_range = Some(ByteRange::parse(value).ok_or(Finding::BadByteRange)?);
                Ok(())
            }
            12 if name.eq_ignore_ascii_case(b"Content-Type") => set_once(&mut head.content_type, place),
            14 if name.eq_ignore_ascii_case(b"Success-Report") => {
                once(&mut self.has_success)?;
                head.success_report = match value {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(Finding::BadReportWish),
                };
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"Failure-Report") => {
                once(&mut self.has_failure)?;
                head.failure_report = match value {
                    b"yes" => FailureReport::Yes,
                    b"partial" => FailureReport::Partial,
                    b"no" => FailureReport::No,
                    _ => return Err(Finding::BadReportWish),
                };
                Ok(())
            }
            6 if name.eq_ignore_ascii_case(b"Status") => {
                once(&mut self.has_status)?;
                let (namespace, rest) = value.split_at_checked(3).ok_or(Finding::BadStatus)?;
                let rest = rest.strip_prefix(b" ").ok_or(Finding::BadStatus)?;
                let code = status_code(rest).ok_or(Finding::BadStatus)?;
                if !namespace.iter().all(u8::is_ascii_digit) {
                    return Err(Finding::BadStatus);
                }
                head.status = (namespace == b"000").then_some(code);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with a head that is complete.
    pub(super) fn verdict(&self, at: usize) -> Option<(Finding, usize)> {
        if self.finding.is_some() {
            return self.finding;
        }
        let missing = self.head.to_path.is_empty() || self.head.from_path.is_empty();
        missing.then_some((Finding::MissingPath, at))
    }
}

fn set_path(slot: &mut Span, value: &[u8], place: Span) -> Result<(), Finding> {
    // Without early exits these two are a few vector instructions; URIs are counted only where there could be too many.
    let legal = value.iter().fold(true, |legal, octet| legal & (b' '..0x7f).contains(octet));
    let spaces = value.iter().filter(|&&octet| octet == b' ').count();
    if value.is_empty() || !legal || spaces >= PATH_URIS_MAX && uri::uris(value).count() > PATH_URIS_MAX {
        return Err(Finding::BadPath);
    }
    set_once(slot, place)
}

fn set_once(slot: &mut Span, place: Span) -> Result<(), Finding> {
    if !slot.is_empty() {
        return Err(Finding::Repeated);
    }
    *slot = place;
    Ok(())
}

fn once(seen: &mut bool) -> Result<(), Finding> {
    if std::mem::replace(seen, true) { Err(Finding::Repeated) } else { Ok(()) }
}

/// `ident`: a letter or digit, then 3 to 31 of letters, digits and `. - + % =`.
pub fn is_ident(octets: &[u8]) -> bool {
    let Some((first, rest)) = octets.split_first() else { return false };
    first.is_ascii_alphanumeric()
        && (3..TID_MAX).contains(&rest.len())
        && rest.iter().all(|octet| octet.is_ascii_alphanumeric() || b".-+%=".contains(octet))
}

/// Three digits, then nothing or a space and a comment.
fn status_code(octets: &[u8]) -> Option<u16> {
    let (digits, rest) = octets.split_at_checked(3)?;
    let code = number(digits)?;
    matches!(rest.first(), None | Some(b' ')).then_some(code as u16)
}

fn number_or_star(octets: &[u8]) -> Option<Option<u64>> {
    if octets == b"*" { Some(None) } else { number(octets).map(Some) }
}

/// 1 to 18 digits: more octets than any host holds, and no sum of two overflows.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

fn trim(mut octets: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', rest)) = octets.split_first() {
        octets = rest;
    }
    while let Some((b' ' | b'\t', rest)) = octets.split_last() {
        octets = rest;
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_ranges_are_read_and_contradictions_are_not() {
        let range = |start, end, total| Some(ByteRange { start, end, total });
        for (text, expected) in [
            ("1-16/16", range(1, Some(16), Some(16))),
            ("1-*/*", range(1, None, None)),
            ("8193-*/20000", range(8193, None, Some(20_000))),
            ("1-0/0", range(1, Some(0), Some(0))),
            ("0-0/0", range(1, Some(0), Some(0))),
            ("0-5/5", None),
            ("5-3/9", None),
            ("1-9/5", None),
            ("1-/5", None),
            ("-1/5", None),
            ("1-5", None),
            ("+1-5/5", None),
            ("1-99999999999999999999/*", None),
            ("", None),
        ] {
            assert_eq!(ByteRange::parse(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(ByteRange::parse(b"11-20/20").and_then(ByteRange::promised), Some(10));
    }

    #[test]
    fn an_ident_has_4_to_32_characters_of_its_own_kind() {
        for (text, expected) in [
            ("dkei38sd", true),
            ("abc", false),
            ("a.-+", true),
            (".abc", false),
            ("ab c", false),
            ("a2345678901234567890123456789012", true),
            ("a23456789012345678901234567890123", false),
            ("", false),
        ] {
            assert_eq!(is_ident(text.as_bytes()), expected, "{text}");
        }
    }
}
