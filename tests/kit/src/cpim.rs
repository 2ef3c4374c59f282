//! CPIM as it must be when somebody else reads it: a strict reader written from RFC 3862.

use crate::{msrp::MsrpMessage, sip::find};

/// A message taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpim {
    /// The message's headers: name and value as they stand.
    pub headers: Vec<(String, String)>,
    /// The content's headers.
    pub mime: Vec<(String, String)>,
    /// The content.
    pub content: Vec<u8>,
}

impl Cpim {
    /// Reads; the error names the broken rule.
    pub fn read(body: &[u8]) -> Result<Cpim, String> {
        let (head, rest) = block(body).ok_or("a blank line ends the message's headers (2)")?;
        let (mime, content) = block(rest).ok_or("a blank line ends the content's headers (2)")?;
        let cpim = Cpim { headers: lines(head, true)?, mime: lines(mime, false)?, content: content.to_vec() };
        for name in ["From", "To"] {
            let value = cpim.header(name).ok_or(format!("{name} is there (2.1)"))?;
            if !value.ends_with('>')
                || !value.contains('<')
                || value.contains(char::is_whitespace) && !value.contains('"')
            {
                return Err(format!("{name}: [ Formal-name ] \"<\" URI \">\" (4.1), not {value:?}"));
            }
        }
        if let Some(date) = cpim.header("DateTime")
            && !(date.len() == 20 && date.ends_with('Z') && date.as_bytes()[10] == b'T')
        {
            return Err(format!("DateTime is that of RFC 3339 (4.4): {date:?}"));
        }
        if cpim.mime.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Content-Type")).count() != 1 {
            return Err("the content has one Content-Type (2.4)".into());
        }
        match cpim.mime_header("Content-Length").map(|length| length.parse::<usize>()) {
            None => Ok(cpim),
            Some(Ok(length)) if length == cpim.content.len() => Ok(cpim),
            Some(length) => Err(format!("Content-Length {length:?} of a content of {} octets", cpim.content.len())),
        }
    }

    /// The body of a pushed message, whose type must be CPIM.
    pub fn of(message: &MsrpMessage) -> Result<Cpim, String> {
        match message.content_type.eq_ignore_ascii_case("message/cpim") {
            true => Cpim::read(&message.body),
            false => Err(format!("the type is message/cpim, not {}", message.content_type)),
        }
    }

    /// The first header of this name; case counts (2.2).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first header of the content of this name.
    pub fn mime_header(&self, name: &str) -> Option<&str> {
        self.mime.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

fn block(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = find(octets, b"\r\n\r\n")?;
    Some((&octets[..at], &octets[at + 4..]))
}

fn lines(block: &[u8], strict: bool) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(block).map_err(|_| "headers are UTF-8 (2.3)".to_string())?;
    let mut found = Vec::new();
    for line in text.split("\r\n") {
        if line.contains(|letter: char| letter.is_control()) {
            return Err(format!("no control characters in a header (2.3): {line:?}"));
        }
        let (name, value) = line.split_once(':').ok_or(format!("a header has a colon (2.2): {line:?}"))?;
        let value = value.strip_prefix(' ').ok_or(format!("a single space follows the colon (2.2): {line:?}"))?;
        if name.is_empty()
            || name.contains([' ', '\t', '<', '>', '@', ',', ';', '"', '/', '[', ']', '?', '=', '{', '}'])
        {
            return Err(format!("a header's name is a token (3): {line:?}"));
        }
        if strict && (value.starts_with(' ') || value.is_empty()) {
            return Err(format!("a single space, then the value (2.2): {line:?}"));
        }
        found.push((name.into(), value.into()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "From: <sip:alice@example.org>\r\nTo: Bob <sip:bob@example.org>\r\nDateTime: 2026-02-01T10:00:00Z\r\n\
        Subject: hello\r\n\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nHello";

    #[test]
    fn a_message_is_read() {
        let read = Cpim::read(BODY.replace("Bob <", "\"B b\" <").as_bytes()).unwrap();
        assert_eq!((read.header("Subject"), read.header("subject")), (Some("hello"), None));
        assert_eq!((read.mime_header("content-type"), &read.content[..]), (Some("text/plain"), &b"Hello"[..]));
    }

    #[test]
    fn each_departure_is_seen() {
        for (good, bad) in [
            ("Subject: hello", "Subject:hello"),
            ("Subject: hello", "Subject:  hello"),
            ("Subject: hello", "Subject hello"),
            ("Subject: hello", "Subject: hel\tlo"),
            ("<sip:alice@example.org>", "sip:alice@example.org"),
            ("To: ", "to: "),
            ("10:00:00Z", "10:00"),
            ("\r\n\r\nContent-Type", "\r\nContent-Type"),
            ("Content-Type: text/plain\r\n", ""),
            ("Content-Length: 5", "Content-Length: 6"),
        ] {
            Cpim::read(BODY.replacen(good, bad, 1).as_bytes()).unwrap_err();
        }
    }
}
