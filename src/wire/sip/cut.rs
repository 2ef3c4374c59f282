//! Splitting a stream into messages (RFC 3261 18.3) and keep-alives (RFC 5626 3.5.1).
//!
//! Knows line ends and Content-Length, nothing else of a message. Octets are looked at once, and once more by the first try to
//! take a whole message: how they are delivered, in one piece or one by one, does not matter.

use super::fault::{Fault, What};
use super::message::Message;
use super::read;
use crate::base::limits::Limits;
use crate::wire::scan::{self, Class};
use bytes::BytesMut;
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

    /// The message at the start of `buffer`, read, and its octets taken: when it is whole, nothing is wrong with it, and nothing of
    /// it was looked at before. That is how nearly all messages come, and then one pass over the head is enough. `None`: nothing
    /// was taken; [`Cut::next`] says what there is. `limits` are those it was made with.
    pub fn take(&self, buffer: &mut BytesMut, limits: &Limits) -> Option<Message> {
        // Once for each message: a head that comes octet by octet is not read anew with each.
        let is_new = self.scanned == 0 && self.line == 0 && self.whole.is_none();
        if is_new { read::take(buffer, limits) } else { None }
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
                [first, ..] if !Class::TOKEN.has(*first) => return Err(Fault::new(0, What::StartLine)),
                _ => {}
            }
        }
        let mut rest = buf.get(self.line..).unwrap_or_default();
        let mut seen = self.scanned.saturating_sub(self.line);
        while let Some(found) = memchr(b'\n', rest.get(seen..).unwrap_or_default()) {
            let (line, ahead) = scan::split(rest, seen + found + 1);
            let end = self.line + line.len();
            if end > self.head_max {
                return Err(Fault::new(self.head_max, What::HeadTooLong));
            }
            let [line @ .., b'\r', b'\n'] = line else { return Err(Fault::new(end - 1, What::LineEnd)) };
            match line.first() {
                // A fold: the line goes on.
                Some(b' ' | b'\t') => {}
                first => {
                    if let Some(open) = self.open.take() {
                        self.declare(buf, open)?;
                    }
                    match first {
                        None => return self.ended(buf, end),
                        Some(b'c' | b'C' | b'l' | b'L') if is_content_length(line) => self.open = Some(self.line),
                        _ => {}
                    }
                }
            }
            (self.line, rest, seen) = (end, ahead, 0);
        }
        self.scanned = buf.len();
        if buf.len() > self.head_max { Err(Fault::new(self.head_max, What::HeadTooLong)) } else { Ok(Found::More) }
    }

    /// The blank line was seen: the head is `head` octets long.
    fn ended(&mut self, buf: &[u8], head: usize) -> Result<Found, Fault> {
        self.head = Some(head);
        let body = self.declared.ok_or(Fault::new(head, What::ContentLengthMissing))?;
        if body > self.body_max {
            return Err(Fault::new(head, What::BodyTooLarge));
        }
        self.whole = Some((head, head + body));
        Ok(self.deliver(buf, head, head + body))
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

/// True for a line that begins with `Content-Length` or `l`, and a colon.
fn is_content_length(line: &[u8]) -> bool {
    [&b"Content-Length"[..], b"l"].into_iter().any(|name| {
        let (start, rest) = scan::split(line, name.len());
        start.eq_ignore_ascii_case(name) && scan::trim_start(rest).first() == Some(&b':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sip::Method;
    use bytes::Bytes;
    use proptest::prelude::*;

    const OPTIONS: &[u8] = b"OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nl: 0\r\n\r\n";
    const MESSAGE: &[u8] =
        b"MESSAGE sip:b@h SIP/2.0\r\nCall-ID: c\r\nContent-LENGTH :\r\n  5\r\nSubject: a\r\n b\r\n\r\n\r\n\r\nx";

    /// All that is found in `stream` when it is delivered up to each of `stops`.
    fn found(stream: &[u8], stops: impl Iterator<Item = usize>) -> (Vec<Found>, Option<What>) {
        let mut cut = Cut::new(&Limits::default());
        let (mut taken, mut all) = (0, Vec::new());
        for stop in stops {
            loop {
                match cut.next(&stream[taken..stop]) {
                    Ok(Found::More) => break,
                    Ok(one) => {
                        taken += match one {
                            Found::KeepAlive { len, .. } | Found::Message { len, .. } => len,
                            Found::More => 0,
                        };
                        all.push(one);
                    }
                    Err(fault) => return (all, Some(fault.what)),
                }
            }
        }
        (all, None)
    }

    fn stream() -> Vec<u8> {
        [b"\r\n\r\n", OPTIONS, b"\r\n", MESSAGE, MESSAGE, b"\r\n\r\n\r\n", OPTIONS].concat()
    }

    fn expected() -> Vec<Found> {
        let options = Found::Message { head: OPTIONS.len(), len: OPTIONS.len() };
        let message = Found::Message { head: MESSAGE.len() - 5, len: MESSAGE.len() };
        let (ping, crlf) = (Found::KeepAlive { len: 4, ping: true }, Found::KeepAlive { len: 2, ping: false });
        vec![ping, options, crlf, message, message, ping, crlf, options]
    }

    #[test]
    fn a_stream_is_cut_the_same_wherever_it_is_split() {
        let stream = stream();
        let whole = stream.len();
        assert_eq!(found(&stream, [whole].into_iter()), (expected(), None));
        for split in 0..whole {
            assert_eq!(found(&stream, [split, whole].into_iter()), (expected(), None), "split at {split}");
        }
        assert_eq!(found(&stream, 0..=whole), (expected(), None));
    }

    #[test]
    fn what_cannot_be_followed_is_a_fault() {
        let table: &[(&[u8], What)] = &[
            (b"OPTIONS sip:b@h SIP/2.0\r\nVia: x\r\n\r\n", What::ContentLengthMissing),
            (b"OPTIONS sip:b@h SIP/2.0\r\nl: five\r\n\r\n", What::ContentLength),
            (b"OPTIONS sip:b@h SIP/2.0\r\nContent-Length: -999\r\n\r\n", What::ContentLength),
            (b"OPTIONS sip:b@h SIP/2.0\r\nl:\r\n\r\n", What::ContentLength),
            (b"OPTIONS sip:b@h SIP/2.0\r\nl: 4294967296\r\n\r\n", What::ContentLength),
            (b"OPTIONS sip:b@h SIP/2.0\r\nl: 13\r\nContent-Length: 5\r\n\r\n", What::ContentLengthTwice),
            (b"OPTIONS sip:b@h SIP/2.0\r\nl: 4294967295\r\n\r\n", What::BodyTooLarge),
            (b"OPTIONS sip:b@h SIP/2.0\nl: 0\n\n", What::LineEnd),
            (b"\x16\x03\x01\x02\x00\x01", What::StartLine),
            (b"\n", What::StartLine),
            (b"\rX", What::StartLine),
        ];
        for (octets, what) in table {
            let (all, fault) = found(octets, 0..=octets.len());
            assert!(all.is_empty());
            assert_eq!(fault, Some(*what), "{}", String::from_utf8_lossy(octets));
            assert_eq!(found(octets, [octets.len()].into_iter()).1, Some(*what));
        }
    }

    #[test]
    fn two_lengths_that_agree_are_one() {
        let octets = b"OPTIONS sip:b@h SIP/2.0\r\nl: 1\r\nContent-Length: 01\r\n\r\nx";
        assert_eq!(
            Cut::new(&Limits::default()).next(octets),
            Ok(Found::Message { head: octets.len() - 1, len: octets.len() })
        );
    }

    #[test]
    fn an_endless_head_is_stopped_and_a_long_one_is_scanned_once() {
        let limits = Limits { sip_head_octets: 1_000, ..Limits::default() };
        let mut cut = Cut::new(&limits);
        let endless = [&b"OPTIONS sip:b@h SIP/2.0\r\nX: "[..], &[b'x'; 2_000]].concat();
        for len in 0..=1_000 {
            assert_eq!(cut.next(&endless[..len]), Ok(Found::More));
            assert!(len < 27 || cut.scanned == len);
        }
        assert_eq!(cut.next(&endless[..1_001]), Err(Fault::new(1_000, What::HeadTooLong)));
        assert_eq!(cut.head(), None);
    }

    #[test]
    fn after_a_fault_the_head_is_there_to_answer_from() {
        let octets = b"OPTIONS sip:b@h SIP/2.0\r\nVia: x\r\n\r\nrest";
        let mut cut = Cut::new(&Limits::default());
        assert!(cut.next(octets).is_err());
        assert_eq!(cut.head(), Some(octets.len() - 4));
    }

    #[test]
    fn a_body_on_its_way_says_how_much_is_missing() {
        let mut cut = Cut::new(&Limits::default());
        let have = MESSAGE.len() - 3;
        assert_eq!(cut.missing(0), None);
        assert_eq!(cut.next(&MESSAGE[..have]), Ok(Found::More));
        assert_eq!(cut.missing(have), Some(3));
    }

    /// A message by its octets and its body, or what is wrong with it.
    type Read = Result<(Bytes, Bytes), What>;

    /// What is read of `stream`, how many octets of keep-alives are in it, and the fault at its end.
    fn read(stream: &[u8], stops: &[usize], takes: bool) -> (Vec<Read>, usize, Option<What>) {
        let limits = Limits::default();
        let (mut cut, mut buffer, mut all, mut dropped) = (Cut::new(&limits), BytesMut::new(), Vec::new(), 0);
        let mut begin = 0;
        for &stop in stops {
            buffer.extend_from_slice(&stream[begin..stop]);
            begin = stop;
            loop {
                if takes && let Some(message) = cut.take(&mut buffer, &limits) {
                    all.push(Ok((message.octets().clone(), message.body_bytes())));
                    continue;
                }
                match cut.next(&buffer) {
                    Ok(Found::More) => break,
                    Ok(Found::KeepAlive { len, .. }) => {
                        dropped += len;
                        let _ = buffer.split_to(len);
                    }
                    Ok(Found::Message { len, .. }) => {
                        let read = Message::parse(buffer.split_to(len).freeze(), &limits);
                        all.push(match read {
                            Ok(message) => Ok((message.octets().clone(), message.body_bytes())),
                            Err(bad) => Err(bad.fault.what),
                        });
                    }
                    Err(fault) => return (all, dropped, Some(fault.what)),
                }
            }
        }
        (all, dropped, None)
    }

    /// Messages that are good, so that taking has something to take.
    fn good() -> Vec<u8> {
        let named = "Via: SIP/2.0/TCP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\nTo: \"B,\r\n ;\" <sip:b@h>\r\nCall-ID: c\r\n";
        let message =
            format!("MESSAGE sip:b@h SIP/2.0\r\n{named}CSeq: 7 MESSAGE\r\nContent-Length:\r\n 5\r\n\r\n\r\n\r\nx");
        let options = format!("OPTIONS sip:b@h SIP/2.0\r\n{named}CSeq: 1 OPTIONS\r\nl : 0\r\n\r\n");
        format!("\r\n\r\n{options}{message}\r\n{message}\r\n\r\n{options}").into_bytes()
    }

    #[test]
    fn a_whole_message_is_taken_and_what_is_not_whole_is_left() {
        let (limits, stream) = (Limits::default(), good());
        let (cut, mut buffer) = (Cut::new(&limits), BytesMut::from(&stream[..]));
        assert!(cut.take(&mut buffer, &limits).is_none() && buffer.len() == stream.len(), "a keep-alive is no message");
        let _ = buffer.split_to(4);
        let options = cut.take(&mut buffer, &limits).unwrap();
        let message = cut.take(&mut buffer, &limits).unwrap();
        assert_eq!((options.method(), message.body()), (Method::Options, &b"\r\n\r\nx"[..]));
        let whole = message.octets().clone();
        for len in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..len]);
            assert!(cut.take(&mut buffer, &limits).is_none() && buffer.len() == len, "{len}");
        }
        // A message that was looked at before is the cut's.
        let (mut cut, mut buffer) = (Cut::new(&limits), BytesMut::from(&whole[..]));
        assert_eq!(cut.next(&buffer[..40]), Ok(Found::More));
        assert!(cut.take(&mut buffer, &limits).is_none());
        assert!(matches!(cut.next(&buffer), Ok(Found::Message { len, .. }) if len == whole.len()));
        assert!(cut.take(&mut buffer, &limits).is_some(), "and the next one is new");
    }

    proptest! {
        #[test]
        fn taking_reads_what_cutting_first_reads(
            at in 0usize..1_000, octet in prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'9'), any::<u8>()],
            mut stops in proptest::collection::vec(0usize..1_000, 0..6)
        ) {
            let mut stream = good();
            if let Some(place) = stream.get_mut(at) {
                *place = octet;
            }
            let whole = stream.len();
            stops.retain(|&stop| stop < whole);
            stops.push(whole);
            stops.sort_unstable();
            prop_assert_eq!(read(&stream, &stops, true), read(&stream, &stops, false));
        }

        #[test]
        fn delivery_never_matters(
            at in 0usize..250, octet in any::<u8>(), mut stops in proptest::collection::vec(0usize..250, 0..8)
        ) {
            let mut stream = stream();
            if let Some(place) = stream.get_mut(at) {
                *place = octet;
            }
            let whole = stream.len();
            stops.retain(|&stop| stop < whole);
            stops.push(whole);
            stops.sort_unstable();
            prop_assert_eq!(found(&stream, stops.into_iter()), found(&stream, [whole].into_iter()));
        }
    }
}
