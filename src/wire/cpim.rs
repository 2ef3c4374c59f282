//! The little of CPIM (RFC 3862) and IMDN (RFC 5438) that a deposit has to look at. The message itself is never changed.

use memchr::memmem;

/// A CPIM message's two header blocks: the message headers and the MIME headers of its content.
fn blocks(body: &[u8]) -> (&[u8], &[u8]) {
    let (head, rest) = split_block(body);
    let (mime, _) = split_block(rest);
    (head, mime)
}

/// Everything before the next empty line, and everything after it. Bare LF is taken too.
fn split_block(octets: &[u8]) -> (&[u8], &[u8]) {
    let crlf = memmem::find(octets, b"\r\n\r\n").map(|at| (at, 4));
    let lf = memmem::find(octets, b"\n\n").map(|at| (at, 2));
    let (at, len) = match (crlf, lf) {
        (Some(a), Some(b)) => a.min(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return (octets, b""),
    };
    (octets.get(..at).unwrap_or_default(), octets.get(at + len..).unwrap_or_default())
}

/// The value of the first line called `name`. CPIM header names are case-sensitive (RFC 3862 3.1), MIME's are not; nobody
/// gives two meanings to one name in two cases.
fn value<'a>(block: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    block.split(|&octet| octet == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (found, rest) = line.split_at_checked(colon)?;
        found.trim_ascii().eq_ignore_ascii_case(name).then(|| rest.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// True when the content is itself a delivery notification.
pub fn is_imdn(body: &[u8]) -> bool {
    let (_, mime) = blocks(body);
    value(mime, b"Content-Type").is_some_and(|value| {
        let media = value.split(|&octet| octet == b';').next().unwrap_or_default();
        media.trim_ascii().eq_ignore_ascii_case(b"message/imdn+xml")
    })
}

/// The sender's own Message-ID (RFC 5438 6.3). The `imdn` prefix is what everybody binds to the namespace.
pub fn message_id(body: &[u8]) -> Option<&[u8]> {
    value(blocks(body).0, b"imdn.Message-ID").filter(|id| !id.is_empty())
}

/// True when the sender asked to be told if the message is not delivered (RFC 5438 6.2).
pub fn wants_failure_report(body: &[u8]) -> bool {
    value(blocks(body).0, b"imdn.Disposition-Notification").is_some_and(|value| {
        value.split(|&octet| octet == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"negative-delivery"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"From: <sip:a@x>\r\nTo: <sip:b@x>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
        imdn.Message-ID: 34jk324j\r\nimdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\r\n\
        Content-Type: text/plain\r\n\r\nHello";

    #[test]
    fn a_message_says_its_id_and_what_it_wants() {
        assert_eq!(message_id(MESSAGE), Some(b"34jk324j".as_slice()));
        assert!(wants_failure_report(MESSAGE));
        assert!(!is_imdn(MESSAGE));
    }

    #[test]
    fn a_notification_is_told_from_a_message() {
        let report = b"From: <sip:a@x>\n\nContent-type: Message/IMDN+xml; charset=utf-8\n\n<imdn/>";
        assert!(is_imdn(report));
        assert!(!wants_failure_report(report));
        assert_eq!(message_id(b""), None);
    }
}
