//! Splitting a stream into messages (RFC 3261 18.3) and keep-alives (RFC 5626 3.5.1).
//!
//! Knows line ends and Content-Length, nothing else of a message. Octets are looked at once: how they are delivered, in
//! one piece or one by one, does not matter.

use super::fault::{Fault, What};
use super::names::Name;
use crate::base::limits::Limits;
use crate::wire::scan;
use memchr::memchr;

/// What lies at the start of the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing whole yet: read on, and ask again with the same octets and more.
    More,
    /// Keep-alive octets: drop `len` of them.
    KeepAlive {
        /// How many: 4 for a ping, 2 for a pong or for a CRLF before a message.
        len: usize,
        /// A double CRLF: it is answered with one.
        ping: bool,
    },
    /// A whole message: take `len` octets.
    Message {
        /// Octets of start-line and headers, the blank line included.
        head: usize,
        /// All octets, the body included.
        len: usize,
    },
}

/// A cut position in one stream.
///
/// The caller shows the octets it has from the start of the current message on; after [`Found::KeepAlive`] and
/// [`Found::Message`] it takes those octets away before it asks again. After a fault the stream is lost: close it.
#[derive(Clone, Debug)]
pub struct Cut {
    head_max: usize,
    body_max: usize,
    /// Up to here no line end was found.
    scanned: usize,
    /// Start of the line that is being scanned.
    line: usize,
    /// Start of a Content-Length line that may still be continued by a fold.
    open: Option<usize>,
    declared: Option<usize>,
    /// Head and whole length, once the blank line was seen.
    whole: Option<(usize, usize)>,
    head: Option<usize>,
}

impl Cut {
    /// At the start of a stream.
    pub fn new(limits: &Limits) -> Cut {
        Cut {
            head_max: limits.sip_head_octets,
            body_max: limits.sip_body_octets,
            scanned: 0,
            line: 0,
            open: None,
            declared: None,
            whole: None,
            head: None,
        }
    }

    /// Looks at the start of `buf`.
    ///
    /// # Errors
    /// The stream cannot be followed any further. [`Cut::head`] then tells whether there is a head to answer from.
    pub fn next(&mut self, buf: &[u8]) -> Result<Found, Fault> {
        if let Some((head, len)) = self.whole {
            return Ok(self.deliver(buf, head, len));
        }
        if self.line == 0 {
            match buf {
                [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Ok(Found::More),
                [b'\r', b'\n', b'\r', b'\n', ..] => return Ok(Found::KeepAlive { len: 4, ping: true }),
                [b'\r', b'\n', ..] => return Ok(Found::KeepAlive { len: 2, ping: false }),
                // What begins like this is no SIP at all (a TLS handshake, say): no need to wait for its line to end.
                [first, ..] if !scan::is_token_octet(*first) => return Err(Fault::new(0, What::StartLine)),
                _ => {}
            }
        }
        loop {
            let ahead = buf.get(self.scanned..).unwrap_or_default();
            let Some(found) = memchr(b'\n', ahead) else {
                self.scanned = buf.len();
                return if buf.len() > self.head_max {
                    Err(Fault::new(self.head_max, What::HeadTooLong))
                } else {
                    Ok(Found::More)
                };
            };
            let lf = self.scanned + found;
            let end = lf + 1;
            if end > self.head_max {
                return Err(Fault::new(self.head_max, What::HeadTooLong));
            }
            let line = buf.get(self.line..lf).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r") else { return Err(Fault::new(lf, What::LineEnd)) };
            if !matches!(line.first(), Some(b' ' | b'\t')) {
                if let Some(open) = self.open.take() {
                    self.declare(buf, open)?;
                }
                if line.is_empty() {
                    self.head = Some(end);
                    let body = self.declared.ok_or(Fault::new(end, What::ContentLengthMissing))?;
                    if body > self.body_max {
                        return Err(Fault::new(end, What::BodyTooLarge));
                    }
                    self.whole = Some((end, end + body));
                    return Ok(self.deliver(buf, end, end + body));
                }
                // Only `Content-Length` and `l` can be meant, so only these letters are looked at.
                if matches!(line.first(), Some(b'c' | b'C' | b'l' | b'L'))
                    && scan::split_once(line, b':')
                        .is_some_and(|(name, _)| Name::parse(scan::trim_end(name)) == Name::ContentLength)
                {
                    self.open = Some(self.line);
                }
            }
            self.line = end;
            self.scanned = end;
        }
    }

    /// Length of the head (blank line included) when it was seen whole: after a fault, what
    /// [`super::message::Message::parse`] can still make an answer from before the connection is closed.
    pub fn head(&self) -> Option<usize> {
        self.head
    }

    /// Octets of the current message that are missing, as far as is known: for reading with the right amount of room.
    pub fn missing(&self, have: usize) -> Option<usize> {
        self.whole.map(|(_, len)| len.saturating_sub(have))
    }

    fn deliver(&mut self, buf: &[u8], head: usize, len: usize) -> Found {
        if buf.len() < len {
            return Found::More;
        }
        self.scanned = 0;
        self.line = 0;
        self.declared = None;
        self.whole = None;
        self.head = None;
        Found::Message { head, len }
    }

    /// Reads the Content-Length line that ends where the current line begins.
    fn declare(&mut self, buf: &[u8], open: usize) -> Result<(), Fault> {
        let line = buf.get(open..self.line).unwrap_or_default();
        let value = scan::split_once(line, b':').map_or(&[][..], |(_, value)| scan::trim(value));
        let octets = scan::decimal_u32(value).ok_or(Fault::new(open, What::ContentLength))? as usize;
        if self.declared.is_some_and(|earlier| earlier != octets) {
            //= RFC 4475 3.3.9: conflicting lengths are a framing error; a stream is closed
            return Err(Fault::new(open, What::ContentLengthTwice));
        }
        self.declared = Some(octets);
        Ok(())
    }
}
