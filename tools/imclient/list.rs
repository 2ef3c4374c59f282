//! What waits, read as a document over HTTP (12.1.2): the deferred-list of OMA IM XDM.

use crate::line::resolve;
use crate::output::Output;
use crate::{Failure, Person, Said};
use deferd::wire::xml::{Step, Walk};
use serde_json::{Map, Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// Longest document that is read: 10,000 messages of 1 KiB each take a sixth of it.
const DOCUMENT_MAX: usize = 64 << 20;

/// The elements of a `<history>` that are told, and what they are called here.
const TOLD: &[(&str, &str)] = &[
    ("history-reference", "id"),
    ("date", "date"),
    ("size", "octets"),
    ("expiry", "expires"),
    ("subject", "subject"),
    ("time-stamp", "received"),
    ("from", "from"),
    ("to", "to"),
    ("auth-id", "asserted"),
];

/// Lists.
///
//= 12.1.2: the IM Client shall retrieve the XML documents of the Deferred Metadata in the IM XDMS
pub(crate) fn list(person: &Person, output: &mut Output) -> Said<()> {
    let (status, document) = fetch(person)?;
    match status {
        200 => {}
        403 => return Err(Failure::failed("403: the daemon does not take our word for who we are (http.trusted)")),
        _ => return Err(Failure::failed(format!("the list was refused: HTTP {status}"))),
    }
    let messages = read(&document)?;
    for message in &messages {
        let text = |name: &str| match message.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let line = format!(
            "{}  {}  {:>8} octets  {}  {}",
            text("id"),
            text("date"),
            text("octets"),
            text("from"),
            text("subject")
        );
        let mut object = message.clone();
        object.insert("event".into(), json!("waits"));
        output.say(line.trim_end(), &Value::Object(object))?;
    }
    output.say(&format!("{} messages wait", messages.len()), &json!({"event": "listed", "messages": messages.len()}))
}

/// GET of the user's own document: status and body.
fn fetch(person: &Person) -> Said<(u16, Vec<u8>)> {
    let http = &person.http;
    let place = resolve(http).ok_or_else(|| Failure::Usage(format!("{http:?} is no HOST:PORT")))?;
    let lost = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::failed(format!("{http} does not answer in time")),
        _ => Failure::failed(format!("no HTTP at {http}: {error}")),
    };
    let mut socket = TcpStream::connect_timeout(&place, person.timeout).map_err(lost)?;
    let path: String = person.aor.bytes().map(in_a_path).collect();
    let request = format!(
        "GET /xcap-root/org.openmobilealliance.deferred-list/users/{path}/deferred-list HTTP/1.1\r\nHost: {http}\r\n\
         X-3GPP-Asserted-Identity: \"{}\"\r\nUser-Agent: im/{}\r\nConnection: close\r\n\r\n",
        person.aor,
        env!("CARGO_PKG_VERSION")
    );
    socket.set_write_timeout(Some(person.timeout)).map_err(lost)?;
    socket.write_all(request.as_bytes()).map_err(lost)?;
    let deadline = Instant::now() + person.timeout;
    let mut answer = Vec::new();
    let mut octets = [0; 65_536];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::failed(format!("{http} does not come to an end in time")));
        }
        socket.set_read_timeout(Some(left)).map_err(lost)?;
        match socket.read(&mut octets).map_err(lost)? {
            0 => break,
            read => answer.extend_from_slice(octets.get(..read).unwrap_or_default()),
        }
        if answer.len() > DOCUMENT_MAX {
            return Err(Failure::failed("a document of more than 64 MiB"));
        }
    }
    answered(&answer).map_err(|what| Failure::failed(format!("what {http} says is no HTTP answer: {what}")))
}

/// Status and body of a whole answer, after which the connection ended.
fn answered(octets: &[u8]) -> Result<(u16, Vec<u8>), &'static str> {
    let at = memchr::memmem::find(octets, b"\r\n\r\n").ok_or("its head has no end")?;
    let head = String::from_utf8_lossy(octets.get(..at).unwrap_or_default()).into_owned();
    let body = octets.get(at + 4..).unwrap_or_default();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    let status = status.ok_or("it has no status")?;
    let fields: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let field = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| *value);
    if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return dechunked(body).map(|body| (status, body));
    }
    match field("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => body.get(..length).map(|body| (status, body.to_vec())).ok_or("it ended early"),
        Some(Err(_)) => Err("its Content-Length is no number"),
        None => Ok((status, body.to_vec())),
    }
}

/// RFC 9112 7.1.
fn dechunked(mut rest: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    loop {
        let end = memchr::memmem::find(rest, b"\r\n").ok_or("a chunk's length has no end")?;
        let length = std::str::from_utf8(rest.get(..end).unwrap_or_default()).unwrap_or_default();
        let length = length.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(length, 16).map_err(|_| "a chunk's length is no number")?;
        rest = rest.get(end + 2..).unwrap_or_default();
        if length == 0 {
            return Ok(out);
        }
        out.extend_from_slice(rest.get(..length).ok_or("it ended early")?);
        rest = rest.get(length..).and_then(|rest| rest.strip_prefix(b"\r\n")).ok_or("a chunk has no end")?;
    }
}

/// The messages that a document lists.
fn read(document: &[u8]) -> Said<Vec<Map<String, Value>>> {
    let wrong = |fault| Failure::failed(format!("the list is no XML: {fault:?}"));
    let mut walk = Walk::bounded(document, DOCUMENT_MAX).map_err(wrong)?;
    let mut messages: Vec<Map<String, Value>> = Vec::new();
    // The element that is open and told, and its text.
    let mut told: Option<(&str, String)> = None;
    while let Some(step) = walk.step().map_err(wrong)? {
        match step {
            Step::Open(element) if element.local_name() == b"history" => messages.push(Map::new()),
            Step::Open(element) => {
                let known = TOLD.iter().find(|(name, _)| name.as_bytes() == element.local_name());
                told = known.map(|(_, called)| (*called, String::new()));
            }
            Step::Text(text) => {
                if let Some((_, so_far)) = &mut told {
                    so_far.push_str(&text);
                }
            }
            Step::Close => {
                if let (Some((called, text)), Some(message)) = (told.take(), messages.last_mut()) {
                    let value = match called {
                        "id" => json!(text.trim_start_matches("sip:")),
                        "octets" => text.parse::<u64>().map_or_else(|_| json!(text), |octets| json!(octets)),
                        _ => Value::String(text),
                    };
                    message.insert(called.into(), value);
                }
            }
        }
    }
    Ok(messages)
}

/// One octet of a path segment (RFC 3986 3.3).
fn in_a_path(octet: u8) -> String {
    match octet {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(octet).to_string(),
        b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        | b':' | b'@' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_a_length_in_chunks_and_to_the_end() {
        let read = |head: &str, body: &str| answered(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}").as_bytes());
        assert_eq!(read("content-length: 3\r\n", "abcd"), Ok((200, b"abc".to_vec())));
        assert_eq!(
            read("Transfer-Encoding: chunked\r\n", "2;x\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
            Ok((200, b"abc".to_vec()))
        );
        assert_eq!(read("", "abc"), Ok((200, b"abc".to_vec())));
        assert!(read("Content-Length: 4\r\n", "abc").is_err());
        assert!(read("Transfer-Encoding: chunked\r\n", "ff\r\nab").is_err());
        assert!(answered(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn a_document_becomes_its_messages() {
        let document = b"<history-list xmlns=\"urn:oma:xml:im:history-list\"><history><history-reference>sip:x1@h</history-reference>\
            <size>5</size><pager><from>sip:a@e</from></pager></history><history><subject>a &amp; b</subject></history></history-list>";
        let messages = read(document).unwrap();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0]["id"].as_str(), messages[0]["octets"].as_u64()), (Some("x1@h"), Some(5)));
        assert_eq!((messages[0]["from"].as_str(), messages[1]["subject"].as_str()), (Some("sip:a@e"), Some("a & b")));
        assert!(read(b"no xml").is_err());
    }

    #[test]
    fn users_are_escaped_in_paths() {
        assert_eq!("sip:a%b?c/d@e".bytes().map(in_a_path).collect::<String>(), "sip:a%25b%3Fc%2Fd@e");
    }
}
