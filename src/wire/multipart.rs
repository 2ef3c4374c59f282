//! Bodies of several parts (RFC 2046 5.1): taken apart without a copy, and the boundary for putting one together.
//!
//! It knows delimiters and header lines; what a part means is for others. Strict where it writes, tolerant where it
//! reads: bare LF ends a line too, blanks may follow a delimiter, and a body that ends without its closing
//! delimiter ends where it ends.

use crate::base::span::Span;
use memchr::memmem;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Longest boundary (RFC 2046 5.1.1).
pub const BOUNDARY_MAX: usize = 70;

/// Deepest nesting that is followed: a multipart in a multipart is what URI-list services send; four is twice that.
pub const DEPTH_MAX: usize = 4;

/// Length of the boundaries we write: `dmf-` and 80 bits of base32.
pub const BOUNDARY_LEN: usize = 20;

/// Why a body is not taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MultipartFault {
    /// The type is not `multipart/*`.
    NotMultipart,
    /// It names no boundary.
    NoBoundary,
    /// Its boundary is empty, longer than [`BOUNDARY_MAX`], or holds what RFC 2046 forbids.
    BadBoundary,
    /// More than [`DEPTH_MAX`] multiparts inside each other.
    TooDeep,
}

/// The boundary that a Content-Type value names. The value may be folded.
pub fn boundary_of(content_type: &[u8]) -> Result<&[u8], MultipartFault> {
    let value = content_type.trim_ascii();
    if !value.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/")) {
        return Err(MultipartFault::NotMultipart);
    }
    let mut rest = value.split_at_checked(10).unwrap_or_default().1;
    // From one semicolon outside quotes to the next.
    while let Some((parameter, after)) = next_parameter(rest) {
        rest = after;
        let Some(equals) = memchr::memchr(b'=', parameter) else { continue };
        let (name, value) = parameter.split_at_checked(equals).unwrap_or_default();
        if !name.trim_ascii().eq_ignore_ascii_case(b"boundary") {
            continue;
        }
        let value = value.strip_prefix(b"=").unwrap_or_default().trim_ascii();
        let value = match value.strip_prefix(b"\"") {
            Some(quoted) => quoted.strip_suffix(b"\"").ok_or(MultipartFault::BadBoundary)?,
            None => value,
        };
        return if is_boundary(value) { Ok(value) } else { Err(MultipartFault::BadBoundary) };
    }
    Err(MultipartFault::NoBoundary)
}

/// What lies behind the next semicolon, up to the one after it or the end; and the rest, from that one on.
fn next_parameter(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = memchr::memchr(b';', value)? + 1;
    let inside = value.get(start..)?;
    let mut quoted = false;
    let mut escaped = false;
    let end = inside.iter().position(|&octet| {
        if escaped {
            escaped = false;
            return false;
        }
        match octet {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' => return !quoted,
            _ => {}
        }
        false
    });
    inside.split_at_checked(end.unwrap_or(inside.len()))
}

/// RFC 2046's `boundary`: 1 to 70 bchars, the last no blank.
fn is_boundary(value: &[u8]) -> bool {
    (1..=BOUNDARY_MAX).contains(&value.len())
        && value.last() != Some(&b' ')
        && value.iter().all(|octet| octet.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(octet))
}

/// The parts of a multipart body, in order. What stands before the first delimiter and after the closing one is passed
/// over.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    octets: &'a [u8],
    /// Begins where the next part begins; `None` when the closing delimiter has been seen.
    at: Option<usize>,
    delimiter: [u8; BOUNDARY_MAX + 2],
    delimiter_len: usize,
    depth: usize,
}

/// The parts of `body`, as its Content-Type divides it.
pub fn parts<'a>(content_type: &[u8], body: &'a [u8]) -> Result<Parts<'a>, MultipartFault> {
    Parts::at_depth(content_type, body, 1)
}

impl<'a> Parts<'a> {
    fn at_depth(content_type: &[u8], octets: &'a [u8], depth: usize) -> Result<Parts<'a>, MultipartFault> {
        let boundary = boundary_of(content_type)?;
        if depth > DEPTH_MAX {
            return Err(MultipartFault::TooDeep);
        }
        let (delimiter, delimiter_len) = delimiter(boundary);
        let mut parts = Parts { octets, at: None, delimiter, delimiter_len, depth };
        if let Some(first) = parts.delimiter_from(0)
            && !first.closes
        {
            parts.at = Some(first.end);
        }
        Ok(parts)
    }

    /// The first delimiter line that begins at or after `from`.
    fn delimiter_from(&self, mut from: usize) -> Option<Delimiter> {
        let needle = self.delimiter.get(..self.delimiter_len)?;
        let finder = memmem::Finder::new(needle);
        loop {
            let start = from + finder.find(self.octets.get(from..)?)?;
            from = start + needle.len();
            let before = self.octets.get(..start)?;
            if !before.is_empty() && before.last() != Some(&b'\n') {
                continue;
            }
            let mut tail = self.octets.get(from..)?;
            let closes = tail.starts_with(b"--");
            if closes {
                tail = tail.get(2..)?;
            }
            while let Some(more) = tail.strip_prefix(b" ").or(tail.strip_prefix(b"\t")) {
                tail = more;
            }
            // Where the octets end behind a delimiter, nothing can follow: that closes too.
            let closes = closes || tail.is_empty();
            let Some(after) = after_line_end(tail).or(tail.is_empty().then_some(tail)) else {
                // A longer line that only begins like ours: another boundary's delimiter, or text.
                continue;
            };
            let line_end = if before.ends_with(b"\r\n") { 2 } else { usize::from(before.ends_with(b"\n")) };
            return Some(Delimiter { start: start - line_end, end: self.octets.len() - after.len(), closes });
        }
    }
}

/// A delimiter line.
struct Delimiter {
    /// Its first octet; the line end before it is its own (RFC 2046 5.1.1).
    start: usize,
    /// One past its line end.
    end: usize,
    closes: bool,
}

/// What follows a line end, if `octets` begins with one.
fn after_line_end(octets: &[u8]) -> Option<&[u8]> {
    octets.strip_prefix(b"\r\n").or(octets.strip_prefix(b"\n"))
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let start = self.at.take()?;
        // A delimiter line may follow at once; its line end is then the one that ended the last delimiter line.
        let end = match self.delimiter_from(start) {
            Some(delimiter) => {
                if !delimiter.closes {
                    self.at = Some(delimiter.end);
                }
                delimiter.start.max(start)
            }
            None => self.octets.len(),
        };
        let whole = self.octets.get(start..end)?;
        let (head, body) = split_head(whole);
        let body = Span::new(start + body, whole.len() - body);
        Some(Part { octets: self.octets, head: Span::new(start, head), body, depth: self.depth })
    }
}

/// Length of the header lines, and where the body begins behind the empty line. Without an empty line all is header.
fn split_head(whole: &[u8]) -> (usize, usize) {
    let mut at = 0;
    loop {
        let Some(rest) = whole.get(at..) else { return (whole.len(), whole.len()) };
        if let Some(body) = after_line_end(rest) {
            return (at, whole.len() - body.len());
        }
        match memchr::memchr(b'\n', rest) {
            Some(end) => at += end + 1,
            None => return (whole.len(), whole.len()),
        }
    }
}

/// One part: spans into the body that it was found in.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    octets: &'a [u8],
    head: Span,
    body: Span,
    depth: usize,
}

impl<'a> Part<'a> {
    /// Where its header lines are, each with its line end; the empty line not among them.
    pub fn head_span(&self) -> Span {
        self.head
    }

    /// Where its body is.
    pub fn body_span(&self) -> Span {
        self.body
    }

    /// Its body. A content transfer encoding is not undone.
    pub fn body(&self) -> &'a [u8] {
        self.body.of(self.octets)
    }

    /// Its header lines as name and value. A folded value keeps its folds inside; lines without a colon are passed over.
    pub fn headers(&self) -> Headers<'a> {
        Headers { rest: self.head.of(self.octets) }
    }

    /// The value of its first header called `name`, in whatever case.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Its Content-Type; RFC 2046 5.1 says `text/plain` where none is named.
    pub fn content_type(&self) -> &'a [u8] {
        self.header(b"content-type").unwrap_or(b"text/plain")
    }

    /// Its media type without parameters, as it was written.
    pub fn media_type(&self) -> &'a [u8] {
        let value = self.content_type();
        value.split(|&octet| octet == b';').next().unwrap_or_default().trim_ascii()
    }

    /// The parts that it consists of itself.
    pub fn parts(&self) -> Result<Parts<'a>, MultipartFault> {
        Parts::at_depth(self.content_type(), self.body(), self.depth + 1)
    }
}

/// Header lines of a part.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        while !self.rest.is_empty() {
            let mut end = 0;
            // A line that begins with a blank belongs to the one before it.
            loop {
                let line = memchr::memchr(b'\n', self.rest.get(end..)?);
                end = line.map_or(self.rest.len(), |at| end + at + 1);
                if !matches!(self.rest.get(end), Some(b' ' | b'\t')) {
                    break;
                }
            }
            let (line, rest) = self.rest.split_at_checked(end)?;
            self.rest = rest;
            if let Some(colon) = memchr::memchr(b':', line) {
                let (name, value) = line.split_at_checked(colon)?;
                let name = name.trim_ascii();
                if !name.is_empty() {
                    return Some((name, value.strip_prefix(b":").unwrap_or_default().trim_ascii()));
                }
            }
        }
        None
    }
}

/// The boundary that belongs to `seed`: the same one every time, on every machine, so that a message that is sent again
/// has the same octets. Ask [`occurs`], or let [`boundary_beside`] ask.
pub fn boundary(seed: &[u8]) -> [u8; BOUNDARY_LEN] {
    candidate(seed, 0)
}

/// The first boundary of `seed` that occurs in none of `bodies`. The seed is not known to whoever wrote them, so the first
/// one almost always is it; the loop ends because octets of bounded length hold few of the candidates.
pub fn boundary_beside(seed: &[u8], bodies: &[&[u8]]) -> [u8; BOUNDARY_LEN] {
    let mut attempt = 0;
    loop {
        let candidate = candidate(seed, attempt);
        if !bodies.iter().any(|body| occurs(&candidate, body)) {
            return candidate;
        }
        attempt += 1;
    }
}

fn candidate(seed: &[u8], attempt: u64) -> [u8; BOUNDARY_LEN] {
    // 32 letters that no line length or letter case can harm; 16 of them carry 80 bits.
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let half = |key| {
        let mut hasher = SipHasher13::new_with_keys(key, attempt);
        hasher.write(seed);
        hasher.finish()
    };
    let (high, low) = (half(1), half(2));
    let mut bits = (u128::from(high) << 64) | u128::from(low);
    let mut out = *b"dmf-0000000000000000";
    for place in out.iter_mut().skip(4) {
        *place = LETTERS.get((bits & 31) as usize).copied().unwrap_or(b'0');
        bits >>= 5;
    }
    out
}

/// True when `--boundary` occurs in `body`, at the start of a line or not: then it must not divide that body. Of a
/// boundary longer than [`BOUNDARY_MAX`], which is none, the beginning is looked for.
pub fn occurs(boundary: &[u8], body: &[u8]) -> bool {
    let (delimiter, len) = delimiter(boundary);
    memmem::find(body, delimiter.get(..len).unwrap_or(&delimiter)).is_some()
}

/// `--boundary`, and its length.
fn delimiter(boundary: &[u8]) -> ([u8; BOUNDARY_MAX + 2], usize) {
    let mut delimiter = [b'-'; BOUNDARY_MAX + 2];
    for (to, from) in delimiter.iter_mut().skip(2).zip(boundary) {
        *to = *from;
    }
    (delimiter, boundary.len().min(BOUNDARY_MAX) + 2)
}

#[cfg(test)]
mod tests;
