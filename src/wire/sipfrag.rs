//! Fragments of SIP messages (`message/sipfrag`, RFC 3420): the status line that a NOTIFY about a REFER carries, the header lines of a
//! request of which the rest is left out.
//!
//! Knows whole lines. What a fragment without a status line means is for whoever sent it.

use super::scan;
use super::sip::names::Name;
use super::sip::status::reason_phrase;

/// The media type, as RFC 3515's own examples write it.
pub const MEDIA_TYPE: &[u8] = b"message/sipfrag;version=2.0";

/// Appends a status line, and a Warning where there is one to give.
///
//= RFC 3515 2.4.5: the body MUST begin with a SIP Response Status-Line
pub fn write_status(out: &mut Vec<u8>, status: u16, warning: Option<&[u8]>) {
    out.extend_from_slice(b"SIP/2.0 ");
    scan::put_decimal(out, u64::from(status.clamp(100, 699)));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(warning) = warning {
        out.extend_from_slice(Name::Warning.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(warning.iter().filter(|octet| !matches!(**octet, b'\r' | b'\n')));
        out.extend_from_slice(b"\r\n");
    }
}

/// The status in a fragment's first line; `None` when it begins with something else.
pub fn status(fragment: &[u8]) -> Option<u16> {
    let line = fragment.split(|&octet| octet == b'\n').next()?;
    let rest = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"SIP/2.0 ")?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let status = scan::decimal_u32(digits).filter(|status| (100..700).contains(status))?;
    (rest.is_empty() || rest.starts_with(b" ")).then_some(status as u16)
}

/// The header lines of a request or a fragment, folds included; a start line is none.
pub fn headers(mut head: &[u8]) -> impl Iterator<Item = (Name, &[u8])> {
    std::iter::from_fn(move || {
        while !head.is_empty() {
            let mut end = 0;
            loop {
                end += memchr::memchr(b'\n', head.get(end..)?).map_or(head.len() - end, |at| at + 1);
                if !matches!(head.get(end), Some(b' ' | b'\t')) {
                    break;
                }
            }
            let (line, rest) = head.split_at_checked(end)?;
            head = rest;
            if let Some((name, value)) = scan::split_once(line, b':')
                && scan::is_token(scan::trim_end(name))
            {
                return Some((Name::parse(scan::trim_end(name)), scan::trim(value)));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(status: u16, warning: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write_status(&mut out, status, warning);
        String::from_utf8(out).unwrap()
    }

    //= RFC 3515 2.4.5: the body MUST begin with a SIP Response Status-Line
    #[test]
    fn a_status_is_a_line() {
        assert_eq!(written(200, None), "SIP/2.0 200 OK\r\n");
        assert_eq!(written(404, None), "SIP/2.0 404 Not Found\r\n");
        assert_eq!(
            written(200, Some(b"399 h \"2 of 5\r\nnot found\"")),
            "SIP/2.0 200 OK\r\nWarning: 399 h \"2 of 5not found\"\r\n"
        );
    }

    #[test]
    fn the_examples_of_rfc_3420_have_their_status() {
        let table: &[(&[u8], Option<u16>)] = &[
            (b"SIP/2.0 603 Declined\r\n", Some(603)),
            (
                b"SIP/2.0 400 Bad Request\r\nWarning: 399 atlanta.com Your Event header field was malformed\r\n",
                Some(400),
            ),
            (b"SIP/2.0 100", Some(100)),
            (b"INVITE sip:alice@atlanta.com SIP/2.0\r\n", None),
            (b"From: Alice <sip:alice@atlanta.com>\r\n", None),
            (b"SIP/2.0\r\n", None),
            (b"404 Not Found\r\n", None),
            (b"SIP/2.0 7000 x", None),
            (b"", None),
        ];
        for (fragment, found) in table {
            assert_eq!(status(fragment), *found, "{}", String::from_utf8_lossy(fragment));
        }
    }

    #[test]
    fn headers_are_read_with_their_folds_and_in_any_form() {
        let head =
            b"MESSAGE sip:bob@example.org SIP/2.0\r\nf: <sip:alice@example.org>;tag=1\r\nSUBJECT : one\r\n  two\r\n\
                     no header\r\nDate: Sat, 31 Jan 2026 09:15:02 GMT\r\n";
        let found: Vec<_> = headers(head).collect();
        assert_eq!(
            found,
            [
                (Name::From, &b"<sip:alice@example.org>;tag=1"[..]),
                (Name::Subject, b"one\r\n  two"),
                (Name::Date, b"Sat, 31 Jan 2026 09:15:02 GMT"),
            ]
        );
        assert_eq!(headers(b"").count(), 0);
        assert_eq!(headers(b"a\r\n b").count(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(code in 100u16..700, octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(status(written(code, Some(&octets.escape_ascii().to_string().into_bytes())).as_bytes()), Some(code));
            let _ = status(&octets);
        }
    }
}
