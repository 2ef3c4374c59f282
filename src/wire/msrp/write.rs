//! Writing MSRP frames. The head of a SEND is a template made once per session; ids are patched into fixed places.
//!
//! Knows the forms, not when they are due. Everything appends to a `Vec<u8>`, usually the arena of a
//! [`Gather`](crate::base::gather::Gather).

use super::head::ByteRange;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Octets of our transaction ids: 16 hex digits of the session (64 random bits, RFC 4975 7.1), 4 that count.
pub const TID_LEN: usize = 20;

/// Octets of our Message-IDs.
pub const MESSAGE_ID_LEN: usize = 26;

/// Octets of an end-line of ours behind content: CRLF, seven hyphens, the transaction id, a flag, CRLF.
pub const END_LEN: usize = 2 + 7 + TID_LEN + 1 + 2;

const MESSAGE_ID: &[u8] = b"\r\nMessage-ID: ";
const BYTE_RANGE: &[u8] = b"\r\nByte-Range: ";
const CONTENT_TYPE: &[u8] = b"\r\nContent-Type: ";
/// Where the transaction id lies in the template, behind `MSRP `.
const TID_AT: usize = 5;

/// A transaction id of ours: lower-case hex, first the session's part, then the number of the transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tid(pub [u8; TID_LEN]);

impl Tid {
    /// Of a session and a number.
    #[inline]
    pub fn new(session: [u8; 16], number: u16) -> Tid {
        let mut tid = [0; TID_LEN];
        let (front, back) = tid.split_at_mut(16);
        front.copy_from_slice(&session);
        for (place, shift) in back.iter_mut().zip([12u32, 8, 4, 0]) {
            *place = hex_digit(number >> shift);
        }
        Tid(tid)
    }

    /// The number in the last four digits of an id that came back; `None` when it cannot be one of ours.
    #[inline]
    pub fn number_of(tid: &[u8]) -> Option<u16> {
        let (_, digits) = tid.split_at_checked(16).filter(|_| tid.len() == TID_LEN)?;
        digits.iter().try_fold(0u16, |sum, &digit| {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some(sum << 4 | u16::from(value))
        })
    }
}

#[inline]
fn hex_digit(bits: u16) -> u8 {
    HEX.get(usize::from(bits & 15)).copied().unwrap_or(b'0')
}

/// Start-line and headers of every SEND of a session, with places left for what differs.
#[derive(Clone, Debug)]
pub struct HeadTemplate {
    octets: Vec<u8>,
    message_id_at: usize,
}

impl HeadTemplate {
    /// Paths as they stand in the headers: all URIs, in order. `success_report` asks for success REPORTs.
    ///
    /// Failure-Report is left out: absent means yes, and an explicit yes draws unasked REPORTs from one stack (`manual::peers`).
    pub fn new(to_path: &[u8], from_path: &[u8], success_report: bool) -> HeadTemplate {
        let mut octets = Vec::with_capacity(to_path.len() + from_path.len() + 120);
        octets.extend_from_slice(b"MSRP ");
        octets.extend_from_slice(&[b'0'; TID_LEN]);
        octets.extend_from_slice(b" SEND\r\nTo-Path: ");
        octets.extend_from_slice(to_path);
        octets.extend_from_slice(b"\r\nFrom-Path: ");
        octets.extend_from_slice(from_path);
        octets.extend_from_slice(MESSAGE_ID);
        let message_id_at = octets.len();
        octets.extend_from_slice(&[b'0'; MESSAGE_ID_LEN]);
        if success_report {
            octets.extend_from_slice(b"\r\nSuccess-Report: yes");
        }
        octets.extend_from_slice(BYTE_RANGE);
        HeadTemplate { octets, message_id_at }
    }

    /// Most octets that [`HeadTemplate::write`] appends for a Content-Type of this length: three numbers of 20 digits at most.
    pub fn len_max(&self, content_type: usize) -> usize {
        self.octets.len() + 62 + CONTENT_TYPE.len() + content_type + 4
    }

    /// Appends the head of a SEND with content, its blank line included.
    #[inline]
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        tid: &Tid,
        message_id: &[u8; MESSAGE_ID_LEN],
        range: ByteRange,
        content_type: &[u8],
    ) {
        self.write_common(out, tid, message_id, range);
        out.extend_from_slice(CONTENT_TYPE);
        out.extend_from_slice(content_type);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Appends a whole SEND without content: what a connection begins with (RFC 4975 7.1).
    //= RFC 4975 7.1: no Content-Type, no extra CRLF; 7.1.1: range-start 1
    pub fn write_bodiless(&self, out: &mut Vec<u8>, tid: &Tid, message_id: &[u8; MESSAGE_ID_LEN]) {
        self.write_common(out, tid, message_id, ByteRange { start: 1, end: Some(0), total: Some(0) });
        end_line(out, &tid.0, b'$');
    }

    #[inline]
    fn write_common(&self, out: &mut Vec<u8>, tid: &Tid, message_id: &[u8; MESSAGE_ID_LEN], range: ByteRange) {
        let at = out.len();
        out.extend_from_slice(&self.octets);
        patch(out, at + TID_AT, &tid.0);
        patch(out, at + self.message_id_at, message_id);
        write_range(out, range);
    }
}

#[inline]
fn patch(out: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(place) = out.get_mut(at..at + octets.len()) {
        place.copy_from_slice(octets);
    }
}

/// Appends CRLF and the end-line: what closes content, and what closes headers without content.
#[inline]
pub fn end_line(out: &mut Vec<u8>, tid: &[u8], flag: u8) {
    out.extend_from_slice(b"\r\n-------");
    out.extend_from_slice(tid);
    out.extend_from_slice(&[flag, b'\r', b'\n']);
}

/// Appends `start-end/total`.
#[inline]
pub fn write_range(out: &mut Vec<u8>, range: ByteRange) {
    decimal(out, range.start);
    out.push(b'-');
    decimal_or_star(out, range.end);
    out.push(b'/');
    decimal_or_star(out, range.total);
}

/// Appends a response. `to_path` is the next hop's URI for SEND, the whole path back otherwise (RFC 4975 7.2).
pub fn response(out: &mut Vec<u8>, tid: &[u8], status: u16, to_path: &[u8], from_path: &[u8]) {
    out.extend_from_slice(b"MSRP ");
    out.extend_from_slice(tid);
    out.push(b' ');
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(comment(status));
    out.extend_from_slice(b"\r\nTo-Path: ");
    out.extend_from_slice(to_path);
    out.extend_from_slice(b"\r\nFrom-Path: ");
    out.extend_from_slice(from_path);
    end_line(out, tid, b'$');
}

/// What a REPORT says.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Its transaction id.
    pub tid: &'a [u8],
    /// From-Path of the SEND, whole.
    pub to_path: &'a [u8],
    /// Ours.
    pub from_path: &'a [u8],
    /// Of the message reported on.
    pub message_id: &'a [u8],
    /// The octets reported on.
    pub range: ByteRange,
    /// 200, or what went wrong.
    pub status: u16,
}

/// Appends a REPORT.
pub fn report(out: &mut Vec<u8>, report: &Report<'_>) {
    out.extend_from_slice(b"MSRP ");
    out.extend_from_slice(report.tid);
    out.extend_from_slice(b" REPORT\r\nTo-Path: ");
    out.extend_from_slice(report.to_path);
    out.extend_from_slice(b"\r\nFrom-Path: ");
    out.extend_from_slice(report.from_path);
    out.extend_from_slice(MESSAGE_ID);
    out.extend_from_slice(report.message_id);
    out.extend_from_slice(BYTE_RANGE);
    write_range(out, report.range);
    out.extend_from_slice(b"\r\nStatus: 000 ");
    decimal(out, u64::from(report.status));
    out.push(b' ');
    out.extend_from_slice(comment(report.status));
    end_line(out, report.tid, b'$');
}

/// A word for people behind a status code (RFC 4975 10).
pub fn comment(status: u16) -> &'static [u8] {
    match status {
        200 => b"OK",
        400 => b"Bad Request",
        403 => b"Not Allowed",
        408 => b"Timeout",
        413 => b"Message Unwanted",
        415 => b"Unsupported Media Type",
        423 => b"Parameters Out Of Bounds",
        481 => b"Session Does Not Exist",
        501 => b"Unknown Method",
        506 => b"Session Bound Elsewhere",
        _ => b"Failed",
    }
}

fn decimal_or_star(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        Some(number) => decimal(out, number),
        None => out.push(b'*'),
    }
}

/// Appends a number in decimal digits.
#[inline]
pub fn decimal(out: &mut Vec<u8>, number: u64) {
    if number < 10 {
        out.push(b'0' + number as u8);
        return;
    }
    // 2^64 has 20 digits.
    let mut digits = [0u8; 20];
    let mut left = number;
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        left /= 10;
        used += 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_patched_in_its_fixed_places() {
        let template = HeadTemplate::new(b"msrp://b:1/x;tcp", b"msrp://a:1/y;tcp", true);
        let tid = Tid::new(*b"0123456789abcdef", 0xbeef);
        let mut out = b"before".to_vec();
        let range = ByteRange { start: 1, end: None, total: Some(1_234_567) };
        template.write(&mut out, &tid, b"01jq8z4m7v5c2t9x3h6k0d1b2w", range, b"text/plain");
        end_line(&mut out, &tid.0, b'+');
        let expected = "beforeMSRP 0123456789abcdefbeef SEND\r\nTo-Path: msrp://b:1/x;tcp\r\n\
            From-Path: msrp://a:1/y;tcp\r\nMessage-ID: 01jq8z4m7v5c2t9x3h6k0d1b2w\r\nSuccess-Report: yes\r\n\
            Byte-Range: 1-*/1234567\r\nContent-Type: text/plain\r\n\r\n\r\n-------0123456789abcdefbeef+\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(Tid::number_of(&tid.0), Some(0xbeef));
        assert_eq!(Tid::number_of(b"0123456789abcdefBEEF"), None);
        assert_eq!(Tid::number_of(b"beef"), None);
    }

    #[test]
    fn the_bodiless_send_has_no_blank_line_and_no_content_type() {
        let template = HeadTemplate::new(b"msrp://b:1/x;tcp", b"msrp://a:1/y;tcp", false);
        let mut out = Vec::new();
        template.write_bodiless(&mut out, &Tid::new(*b"0123456789abcdef", 1), b"01jq8z4m7v5c2t9x3h6k0d1b2w");
        let expected = "MSRP 0123456789abcdef0001 SEND\r\nTo-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:1/y;tcp\r\n\
            Message-ID: 01jq8z4m7v5c2t9x3h6k0d1b2w\r\nByte-Range: 1-0/0\r\n-------0123456789abcdef0001$\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn responses_and_reports_have_the_form_of_the_examples() {
        let mut out = Vec::new();
        response(
            &mut out,
            b"d93kswow",
            200,
            b"msrp://alicepc.example.com:7777/iau39soe2843z;tcp",
            b"msrp://bob.example.com:8888/9di4eae923wzd;tcp",
        );
        let expected = "MSRP d93kswow 200 OK\r\nTo-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp\r\n\
            From-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp\r\n-------d93kswow$\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        report(
            &mut out,
            &Report {
                tid: b"dkei38sd",
                to_path: b"msrp://alicepc.example.com:7777/iau39soe2843z;tcp",
                from_path: b"msrp://bob.example.com:8888/9di4eae923wzd;tcp",
                message_id: b"12339sdqwer",
                range: ByteRange { start: 1, end: Some(106), total: Some(106) },
                status: 200,
            },
        );
        let expected = "MSRP dkei38sd REPORT\r\nTo-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp\r\n\
            From-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp\r\nMessage-ID: 12339sdqwer\r\n\
            Byte-Range: 1-106/106\r\nStatus: 000 200 OK\r\n-------dkei38sd$\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn decimals_are_the_usual_ones() {
        for number in [0, 1, 9, 10, 99, 100, 2048, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
