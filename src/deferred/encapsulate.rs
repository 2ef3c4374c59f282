//! From a SIP MESSAGE to the body of the later MSRP SEND, octet for octet (12.2.2.5).
//!
//! Done once, at deposit: what is written to disk is what is pushed. The headers that may not be delivered (hop and
//! trust-domain data) are left out of the payload and kept in the record's envelope, each with its place, so that
//! the request as it arrived can be rebuilt (12.2.2.3-1).

use crate::base::gather::Gather;
use crate::base::span::Span;
use crate::wire::date;
use crate::wire::scan;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::sip::via::Via;
use memchr::memmem::{self, Finder};
use std::sync::LazyLock;

/// Octets of a boundary: `dmf-` and 16 characters of the message's id.
const BOUNDARY_OCTETS: usize = 20;

/// How a boundary begins: a message without these octets cannot contain one, and hardly any has them.
static BOUNDARY_BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"dmf-"));

/// What every MSRP end-line begins with. Preparing a search costs more than most searches: it is done once.
static DASH7: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"-------"));

/// How the only part of a payload begins, and how its parts end; the boundary's place is filled with dots.
const PART_BEGIN: &[u8] = b"--....................\r\nContent-Type: message/sip\r\n";
const PART_BEGIN_FRAGMENT: &[u8] = b"--....................\r\nContent-Type: message/sipfrag\r\n";
const PARTS_END: &[u8; BOUNDARY_OCTETS + 6] = b"\r\n--....................--";

/// The Content-Type of every payload, likewise.
const BODY_TYPE: &[u8; BODY_TYPE_OCTETS] = b"multipart/mixed;boundary=\"....................\"";

/// Its octets.
pub const BODY_TYPE_OCTETS: usize = 26 + BOUNDARY_OCTETS + 1;

/// Memory that was used for this before; what it holds is of no interest.
#[derive(Debug, Default)]
pub struct Memory {
    /// For the body.
    pub body: Gather,
    /// For the envelope.
    pub envelope: Vec<u8>,
}

/// A MESSAGE in the form in which it is kept.
#[derive(Debug)]
pub struct Encapsulated {
    /// The `multipart/mixed` body, ready for a SEND.
    pub body: Gather,
    /// Its Content-Type, boundary and all.
    pub body_type: [u8; BODY_TYPE_OCTETS],
    /// What the payload leaves out.
    pub envelope: Vec<u8>,
    /// The body contains `-------`: an end-line must be chosen with care.
    pub has_dash7: bool,
}

/// Wraps `message` as the id `id` will be pushed. `date`: the Date line of its receipt ([`DateLine`]).
///
//= 12.2.2.3-1: shall store the complete message, all header fields and bodies: in the body or in the envelope
//= 12.2.2.5: each generated MSRP SEND shall be multipart/mixed and carry the deferred message as payload
//= 12.2.2.5: shall encapsulate SIP MESSAGE with the Content-Type of either message/sip or message/sipfrag
//= 12.2.2.5: the original headers, i.e. Call-IDs, shall not be altered
pub fn pager(message: &Message, id: &[u8; 26], date: &[u8], private: bool, memory: Memory) -> Encapsulated {
    let Memory { mut body, envelope } = memory;
    let octets = message.octets();
    let content = message.body();
    let dashed = from_dash(content);
    let dated = message.header(Name::Date).is_some();
    let mut envelope = Envelope::within(envelope);
    let (mut boundary, mut has_dash7) = ([0; BOUNDARY_OCTETS], false);
    let begin = body.arena_position();
    body.make(|head| {
        // RFC 3420: a request that lacks a mandatory header (Max-Forwards of RFC 2543 senders) is only a fragment.
        let is_whole = message.header(Name::MaxForwards).is_some();
        head.extend_from_slice(if is_whole { PART_BEGIN } else { PART_BEGIN_FRAGMENT });
        //= 12.2.2.5: each deferred message shall include the timestamp received by the IM server
        // A Date of the sender stays as it is; the server's time then goes beside it, into the part's own header (12.2.2.5).
        if dated {
            head.extend_from_slice(date);
        }
        head.extend_from_slice(b"\r\n");

        // The start line and the lines that stay are copied in runs: line follows upon line, and few are left out.
        let mut run = Span::between(start_of(octets), message.lines().next().map_or(0, |line| line.whole.at()));
        // Only the originator's own Via, the bottom-most, and of a line with several only the last value.
        let vias = message.headers(Name::Via);
        let (mut vias, originators) = vias.fold((0, b"".as_slice()), |(count, _), value| (count + 1, value));
        for (index, line) in message.lines().enumerate() {
            let (name, whole) = (line.name, line.whole);
            let mut last_via = None;
            let kept = match name {
                Name::Via => {
                    vias -= 1;
                    let last = Some(last_value(originators)).filter(|_| vias == 0);
                    last_via = last.filter(|last| last.len() < originators.len());
                    vias == 0 && last_via.is_none()
                }
                Name::Authorization
                | Name::ProxyAuthorization
                | Name::PAccessNetworkInfo
                | Name::PChargingVector
                | Name::PChargingFunctionAddresses
                | Name::Route
                | Name::RecordRoute
                | Name::ContentLength => false,
                //= RFC 3325 9.3: Privacy id: the core cannot see an identity inside our payload, so it is taken out here
                Name::PAssertedIdentity | Name::PPreferredIdentity => !private,
                Name::Other if private => !line.name_bytes.eq_ignore_ascii_case(b"Remote-Party-ID"),
                _ => true,
            };
            if kept {
                run = Span::between(run.at(), whole.end());
                continue;
            }
            head.extend_from_slice(run.of(octets));
            run = Span::new(whole.end(), 0);
            envelope.leave_out(index, whole.of(octets));
            if let Some(last) = last_via {
                head.extend_from_slice(b"Via: ");
                head.extend_from_slice(last);
                head.extend_from_slice(b"\r\n");
            }
        }
        head.extend_from_slice(run.of(octets));
        //= D2-8: IM server has received and stored deferred message and added a Date header if one wasn't there
        if !dated {
            head.extend_from_slice(date);
        }
        head.extend_from_slice(b"Content-Length: ");
        decimal(head, content.len() as u64);
        head.extend_from_slice(b"\r\n\r\n");
        boundary = self::boundary(id, &[head, dashed]);
        has_dash7 = DASH7.find(head).is_some() || DASH7.find(dashed).is_some();
    });
    // Now that it is known what it must not occur in.
    body.patch(begin + 2, &boundary);
    if !content.is_empty() {
        body.push(message.body_bytes());
    }
    let mut end = *PARTS_END;
    end[4..4 + BOUNDARY_OCTETS].copy_from_slice(&boundary);
    body.put(&end);
    Encapsulated { body, body_type: body_type(&boundary), envelope: envelope.octets, has_dash7 }
}

/// Where the start line begins: a datagram may have line ends before it (RFC 3261 7.5).
pub(super) fn start_of(octets: &[u8]) -> usize {
    octets.iter().position(|octet| !matches!(octet, b'\r' | b'\n')).unwrap_or(octets.len())
}

/// All from the first dash on, and what may stand before it in a boundary. What begins boundaries and end-lines has a dash, and most
/// texts have none: one look for the octet spares two for the words.
fn from_dash(text: &[u8]) -> &[u8] {
    let before = BOUNDARY_BEGIN.needle().len() - 1;
    memchr::memchr(b'-', text).and_then(|at| text.get(at.saturating_sub(before)..)).unwrap_or_default()
}

/// The Date line of a message's receipt. Many are received in one second: it is written once for all of them.
#[derive(Debug, Default)]
pub struct DateLine {
    second: u64,
    line: Vec<u8>,
}

impl DateLine {
    /// The line for this second since 1970, its CRLF included.
    pub fn of(&mut self, second: u64) -> &[u8] {
        if self.second != second || self.line.is_empty() {
            self.line.clear();
            date_line(&mut self.line, second);
            self.second = second;
        }
        &self.line
    }
}

pub(super) fn date_line(out: &mut Vec<u8>, seconds: u64) {
    out.extend_from_slice(b"Date: ");
    date::write_imf(out, seconds);
    out.extend_from_slice(b"\r\n");
}

/// The last of the comma-separated values of a Via line. A comma may stand in the quotes of a parameter; where these do not close, what
/// is behind the last comma.
fn last_value(value: &[u8]) -> &[u8] {
    let Some(comma) = memchr::memrchr(b',', value) else { return value };
    match scan::List::new(value).last() {
        Some(last) if Via::parse(last).is_ok() => last,
        _ => value.get(comma + 1..).unwrap_or_default().trim_ascii(),
    }
}

/// A boundary that follows from the id alone, so that the same record always gives the same octets, and does not occur in
/// the message, whose `pieces` are looked at one by one. A collision, which only a sender who guesses the id can make, moves on to the next of 36 letters.
pub(super) fn boundary(id: &[u8; 26], pieces: &[&[u8]]) -> [u8; BOUNDARY_OCTETS] {
    let mut boundary = [0u8; BOUNDARY_OCTETS];
    boundary[..4].copy_from_slice(BOUNDARY_BEGIN.needle());
    // The id's random end, not its time.
    boundary[4..].copy_from_slice(&id[10..]);
    if pieces.iter().all(|piece| BOUNDARY_BEGIN.find(piece).is_none()) {
        return boundary;
    }
    for last in *b"0123456789abcdefghijklmnopqrstuvwxyz" {
        if pieces.iter().all(|piece| memmem::find(piece, &boundary).is_none()) {
            break;
        }
        boundary[BOUNDARY_OCTETS - 1] = last;
    }
    boundary
}

/// The Content-Type of a payload with this boundary.
pub(super) fn body_type(boundary: &[u8; BOUNDARY_OCTETS]) -> [u8; BODY_TYPE_OCTETS] {
    let mut body_type = *BODY_TYPE;
    body_type[BODY_TYPE_OCTETS - 1 - BOUNDARY_OCTETS..BODY_TYPE_OCTETS - 1].copy_from_slice(boundary);
    body_type
}

/// The boundary in the Content-Type of a stored body.
pub(super) fn boundary_of(body_type: &[u8]) -> Option<&[u8]> {
    let at = memmem::find(body_type, b"boundary=\"")? + 10;
    body_type.get(at..)?.split(|&octet| octet == b'"').next()
}

/// Appends `n` in decimal digits.
pub(crate) fn decimal(out: &mut Vec<u8>, n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Header lines left out of a payload: each with its index among the request's lines.
///
/// Octets: version 1 (of a large message version 2, and four octets that say how much of the body stands before its parts), then
/// per line its index (u16) and length (u16), little-endian, and the line with its CRLF.
#[derive(Debug)]
struct Envelope {
    octets: Vec<u8>,
}

impl Envelope {
    fn within(mut octets: Vec<u8>) -> Envelope {
        octets.clear();
        octets.push(1);
        Envelope { octets }
    }

    fn leave_out(&mut self, index: usize, line: &[u8]) {
        put_line(&mut self.octets, index as u16, line);
    }
}

/// Appends a line to an envelope. Its length fits: a head has 64 KiB at most, its start line among them; so does its index, for a line has
/// five octets at least. A longer one has no place there.
pub(super) fn put_line(envelope: &mut Vec<u8>, index: u16, line: &[u8]) {
    let Ok(len) = u16::try_from(line.len()) else { return };
    let numbers = u32::from(index) | u32::from(len) << 16;
    envelope.extend_from_slice(&numbers.to_le_bytes());
    envelope.extend_from_slice(line);
}

/// The envelope of a large message of whose body `prefix` octets stand before its parts, without lines so far.
pub(super) fn large_envelope(prefix: usize) -> Vec<u8> {
    let mut envelope = vec![2];
    envelope.extend_from_slice(&(prefix as u32).to_le_bytes());
    envelope
}

/// Index of a line that is the address of a large message's sender.
const SENDER: u16 = 0xfffe;

/// And of one that holds the first octets of its content.
const CONTENT: u16 = 0xffff;

/// Adds to the envelope of a large message what a report about it will need: who sent it, and the CPIM headers that ask.
pub(super) fn put_asked(envelope: &mut Vec<u8>, sender: &[u8], cpim: &[u8]) {
    put_line(envelope, SENDER, sender);
    put_line(envelope, CONTENT, cpim);
}

/// The sender of a large message that may be reported on, and the beginning of its `message/cpim`.
pub(super) fn asked_of_large(envelope: &[u8]) -> Option<(&[u8], &[u8])> {
    prefix_len(envelope)?;
    let line = |wanted: u16| left_out(envelope).find(|(index, _)| *index == usize::from(wanted)).map(|(_, line)| line);
    line(SENDER).zip(line(CONTENT))
}

/// How many octets of its body stand before the parts of a large message; `None` for any other.
pub(super) fn prefix_len(envelope: &[u8]) -> Option<usize> {
    let rest = envelope.strip_prefix(&[2])?;
    rest.first_chunk().map(|len| u32::from_le_bytes(*len) as usize)
}

/// The lines of an envelope with their indexes, in order.
pub fn left_out(envelope: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let head = if envelope.first() == Some(&2) { 5 } else { 1 };
    let mut rest = envelope.get(head..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (index, after) = rest.split_first_chunk::<2>()?;
        let (len, after) = after.split_first_chunk::<2>()?;
        let (line, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        rest = after;
        Some((usize::from(u16::from_le_bytes(*index)), line))
    })
}

/// A stored body marked as expired: one more header of its only part (12.2.2.4), for operators who want it
/// (`expired = "deliver_marked"`).
pub fn expired(body: &[u8]) -> Vec<u8> {
    let at = memchr::memchr(b'\n', body).map_or(0, |at| at + 1);
    let (boundary, rest) = body.split_at_checked(at).unwrap_or((b"", body));
    [boundary, EXPIRED, rest].concat()
}

/// The header of a part or content whose time is over.
pub(super) const EXPIRED: &[u8] = b"X-OMA-Expired: yes\r\n";

/// True when `-------` occurs.
pub(super) fn has_dash7(octets: &[u8]) -> bool {
    DASH7.find(octets).is_some()
}

/// The embedded request inside a stored body: from its start line up to the closing boundary.
pub fn embedded(body: &[u8], body_type: &[u8]) -> Option<Span> {
    let head = memmem::find(body, b"\r\n\r\n")? + 4;
    let boundary = boundary_of(body_type)?;
    let end = body.len().checked_sub(boundary.len() + 6)?;
    Some(Span::between(head, end))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;

    const ID: &[u8; 26] = b"01j0000000k3n5p7q9r1s3t5v7";
    const RECEIVED_S: u64 = 1_800_000_000;

    /// What becomes of a request with these header lines and this body: payload without its wrapping, lines left out, and whether
    /// an end-line must be chosen with care.
    fn kept(before: &str, lines: &str, body: &str, private: bool) -> (String, Vec<(usize, String)>, bool) {
        let octets = format!(
            "{before}MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:bob@example.org>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let message = Message::parse_datagram(Bytes::from(octets), &Limits::default()).unwrap();
        let mut date = DateLine::default();
        let kept = pager(&message, ID, date.of(RECEIVED_S), private, Memory::default());
        let octets = kept.body.to_vec();
        let inner = embedded(&octets, &kept.body_type).unwrap().of(&octets);
        let left = left_out(&kept.envelope).map(|(index, line)| (index, String::from_utf8_lossy(line).into_owned()));
        (String::from_utf8(inner.to_vec()).unwrap(), left.collect(), kept.has_dash7)
    }

    const FIRST: &str = "MESSAGE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:bob@example.org>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n";
    const LAST: &str = "Date: Fri, 15 Jan 2027 08:00:00 GMT\r\nContent-Length: 2\r\n\r\nhi";

    #[test]
    fn lines_left_out_first_last_and_side_by_side_leave_the_rest_in_order() {
        let lines = "Route: <sip:a>\r\nRoute: <sip:b>\r\nSubject: x\r\n y\r\nP-Charging-Vector: z\r\n";
        let (inner, left, _) = kept("", lines, "hi", false);
        assert_eq!(inner, format!("{FIRST}Subject: x\r\n y\r\n{LAST}"));
        let expected = [
            (5, "Route: <sip:a>\r\n"),
            (6, "Route: <sip:b>\r\n"),
            (8, "P-Charging-Vector: z\r\n"),
            (9, "Content-Length: 2\r\n"),
        ];
        assert_eq!(left, expected.map(|(index, line)| (index, line.to_owned())));
        let (inner, left, _) = kept("", "Remote-Party-ID: r\r\nP-Asserted-Identity: <sip:a@b>\r\n", "hi", true);
        assert_eq!((inner, left.len()), (format!("{FIRST}{LAST}"), 3));
    }

    #[test]
    fn of_several_vias_in_one_line_the_last_stays_where_the_line_was() {
        let lines = "Via: SIP/2.0/UDP b;branch=z9hG4bK2, SIP/2.0/UDP c\r\nSubject: x\r\n";
        let (inner, left, _) = kept("", lines, "hi", false);
        let expected = FIRST.replace("Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n", "");
        assert_eq!(inner, format!("{expected}Via: SIP/2.0/UDP c\r\nSubject: x\r\n{LAST}"));
        assert_eq!(left.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 5, 7]);
    }

    #[test]
    fn a_comma_in_quotes_ends_no_via() {
        let expected = FIRST.replace("Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n", "");
        let (inner, ..) = kept("", "Via: SIP/2.0/UDP b, SIP/2.0/UDP c;x=\"1,2\"\r\n", "hi", false);
        assert_eq!(inner, format!("{expected}Via: SIP/2.0/UDP c;x=\"1,2\"\r\n{LAST}"));
        let (inner, ..) = kept("", "Via: SIP/2.0/UDP b;x=\"1, SIP/2.0/UDP c\r\n", "hi", false);
        assert_eq!(inner, format!("{expected}Via: SIP/2.0/UDP c\r\n{LAST}"), "quotes that do not close hide nothing");
        let (inner, ..) = kept("", "Via: SIP/2.0/UDP c;x=\"1,2\"\r\n", "hi", false);
        assert_eq!(inner, format!("{expected}Via: SIP/2.0/UDP c;x=\"1,2\"\r\n{LAST}"));
    }

    #[test]
    fn a_line_that_is_too_long_for_an_envelope_breaks_none() {
        let mut envelope = vec![1];
        put_line(&mut envelope, 0, &vec![b'x'; 65_536]);
        put_line(&mut envelope, 1, &vec![b'y'; 65_535]);
        put_line(&mut envelope, 2, b"z");
        let lines: Vec<_> = left_out(&envelope).map(|(index, line)| (index, line.len())).collect();
        assert_eq!(lines, [(1, 65_535), (2, 1)]);
    }

    /// It was the line end that was kept, and the first line lost.
    #[test]
    fn a_request_behind_line_ends_keeps_its_first_line() {
        let (inner, ..) = kept("\r\n\r\n", "", "hi", false);
        assert_eq!(inner, format!("{FIRST}{LAST}"));
    }

    #[test]
    fn seven_dashes_are_found_wherever_they_stand() {
        for (lines, body, expected) in [
            ("", "no dash", false),
            ("", "", false),
            ("", "-------", true),
            ("", "a-b ------c", false),
            ("", "a-b -------c", true),
            ("", "text\r\n--------", true),
            ("Subject: -------\r\n", "no dash", true),
            ("Subject: ---\r\n", "----", false),
        ] {
            assert_eq!(kept("", lines, body, false).2, expected, "{lines:?} {body:?}");
        }
    }

    #[test]
    fn a_boundary_that_stands_in_the_message_is_not_taken() {
        let own = [b"dmf-", &ID[10..]].concat();
        let own = String::from_utf8(own).unwrap();
        for (lines, body) in [
            (String::new(), own.clone()),
            (String::new(), format!("--- {own}")),
            (format!("Subject: {own}\r\n"), "no dash".to_owned()),
        ] {
            let octets = format!(
                "MESSAGE sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@c>\r\nCall-ID: c\r\n\
                 CSeq: 1 MESSAGE\r\n{lines}\r\n{body}"
            );
            let message = Message::parse_datagram(Bytes::from(octets), &Limits::default()).unwrap();
            let kept = pager(&message, ID, b"Date: d\r\n", false, Memory::default());
            let taken = boundary_of(&kept.body_type).unwrap();
            assert_ne!(taken, own.as_bytes(), "{lines:?} {body:?}");
            let octets = kept.body.to_vec();
            assert!(octets.starts_with(&[b"--", taken, b"\r\n"].concat()));
            assert!(octets.ends_with(&[b"\r\n--", taken, b"--"].concat()));
            assert_eq!(memmem::find_iter(&octets, taken).count(), 2);
        }
    }

    #[test]
    fn a_date_line_is_that_of_its_second() {
        let mut date = DateLine::default();
        assert_eq!(date.of(0), b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        for second in [1, 1, 60, 59] {
            let mut expected = Vec::new();
            date_line(&mut expected, second);
            assert_eq!(date.of(second), expected);
        }
    }
}
