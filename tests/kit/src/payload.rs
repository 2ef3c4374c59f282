//! The body of a pushed pager message, octet by octet (12.2.2.5): multipart/mixed, one part, message/sip, complete.

use crate::{
    msrp::MsrpMessage,
    sip::{SipMessage, find},
};

/// One part of a multipart body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its header lines: name and value.
    pub headers: Vec<(String, String)>,
    /// Its content.
    pub content: Vec<u8>,
}

impl Part {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The `boundary` parameter of a Content-Type, unquoted, judged by RFC 2046 5.1.1.
pub fn boundary(content_type: &str) -> Result<String, String> {
    let mut items = content_type.split(';');
    let media = items.next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("multipart/mixed") {
        return Err(format!("the type is multipart/mixed, not {media}"));
    }
    let value =
        items.find_map(|item| item.trim().split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("boundary")));
    let Some((_, value)) = value else { return Err(format!("no boundary in {content_type:?}")) };
    let plain = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let legal = |octet: u8| octet.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&octet);
    if plain.is_empty() || plain.len() > 70 || plain.ends_with(' ') || !plain.bytes().all(legal) {
        return Err(format!("boundary = 0*69<bchars> bcharsnospace, not {plain:?}"));
    }
    if plain == value && value.bytes().any(|octet| b"()<>@,;:\\\"/[]?= ".contains(&octet)) {
        return Err(format!("a boundary that is no token is quoted: {value:?}"));
    }
    Ok(plain.into())
}

/// Splits a multipart body: no preamble, no epilogue, CRLF everywhere.
pub fn parts(content_type: &str, body: &[u8]) -> Result<Vec<Part>, String> {
    let boundary = boundary(content_type)?;
    let (open, between) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}"));
    let Some(mut rest) = body.strip_prefix(open.as_bytes()) else {
        return Err(format!("the body begins with its first boundary line, not {:?}", crate::shown(body, 80)));
    };
    let mut found = Vec::new();
    loop {
        // The CRLF before a delimiter belongs to the delimiter, so an empty part's own blank line may be shared with it.
        let Some(end) = find(rest, between.as_bytes()) else { return Err("a closing boundary line is missing".into()) };
        let part = &rest[..end];
        let (head, content) = if let Some(content) = part.strip_prefix(b"\r\n") {
            (&b""[..], content)
        } else {
            let Some(blank) = find(part, b"\r\n\r\n") else { return Err("a blank line ends a part's headers".into()) };
            (&part[..blank], &part[blank + 4..])
        };
        let head = std::str::from_utf8(head).map_err(|_| "a part's headers are text".to_string())?;
        let mut headers = Vec::new();
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("name: value in a part, not {line:?}"))?;
            if line.contains(['\r', '\n']) || name.contains(' ') {
                return Err(format!("a part's header line is one line: {line:?}"));
            }
            headers.push((name.to_string(), value.to_string()));
        }
        found.push(Part { headers, content: content.to_vec() });
        rest = &rest[end + between.len()..];
        match rest {
            b"--" => return Ok(found),
            _ if rest.starts_with(b"\r\n") => rest = &rest[2..],
            _ => {
                return Err(format!(
                    "after a boundary comes CRLF, or -- and nothing more; not {:?}",
                    crate::shown(rest, 80)
                ));
            }
        }
    }
}

/// Judges a pushed pager message and returns the MESSAGE inside.
pub fn pager(message: &MsrpMessage) -> Result<SipMessage, String> {
    let parts = parts(&message.content_type, &message.body)?;
    let [part] = &parts[..] else { return Err(format!("one part, not {}", parts.len())) };
    if part.header("Content-Type") != Some("message/sip") {
        return Err(format!("the part is message/sip, not {:?}", part.header("Content-Type")));
    }
    let inner =
        SipMessage::read(&part.content).map_err(|fault| format!("the part is not a complete SIP message: {fault}"))?;
    if inner.method() != "MESSAGE" {
        return Err(format!("the part is a MESSAGE, not {}", inner.start));
    }
    if inner.header("Content-Length").is_none() {
        return Err("the MESSAGE has no Content-Length".into());
    }
    let date = inner.header("Date").ok_or("the MESSAGE has no Date: the time at which the server received it")?;
    if !is_sip_date(date) {
        return Err(format!("SIP-date is RFC 1123 in GMT, not {date:?}"));
    }
    let hidden = [
        "Authorization",
        "Proxy-Authorization",
        "P-Access-Network-Info",
        "P-Charging-Vector",
        "P-Charging-Function-Addresses",
        "Route",
        "Record-Route",
    ];
    if let Some(name) = hidden.iter().find(|name| inner.header(name).is_some()) {
        return Err(format!("{name} is not for the receiver's eyes"));
    }
    Ok(inner)
}

/// Judges a pushed message against the request that was deposited: the same start-line and body, every header that is the
/// sender's unaltered (12.2.2.5: "The Original headers in the deferred messages ... SHALL not be altered").
pub fn pager_is(message: &MsrpMessage, deposited: &SipMessage) -> Result<SipMessage, String> {
    let inner = pager(message)?;
    if inner.start != deposited.start {
        return Err(format!("start-line {:?} became {:?}", deposited.start, inner.start));
    }
    if inner.body != deposited.body {
        return Err(format!(
            "a body of {} octets became {} octets: {:?}",
            deposited.body.len(),
            inner.body.len(),
            crate::shown(&inner.body, 80)
        ));
    }
    let private = deposited.header("Privacy").is_some_and(|privacy| privacy.split(';').any(|word| word.trim() == "id"));
    let kept = [
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Date",
        "Subject",
        "Priority",
        "Content-Type",
        "P-Asserted-Identity",
        "Expires",
        "Accept-Contact",
        "User-Agent",
    ];
    for name in kept {
        if deposited.header(name).is_none() || (private && name == "P-Asserted-Identity") {
            continue;
        }
        if inner.all(name) != deposited.all(name) {
            return Err(format!("{name}: {:?} became {:?}", deposited.all(name), inner.all(name)));
        }
    }
    if private && inner.header("P-Asserted-Identity").is_some() {
        return Err("Privacy: id, and P-Asserted-Identity was delivered".into());
    }
    Ok(inner)
}

/// A pushed large message, taken apart (12.2.2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LargeMessage {
    /// The header lines of the INVITE, its request-line first.
    pub invite: Vec<String>,
    /// Transaction id of the SEND inside.
    pub tid: String,
    /// Its Message-ID.
    pub message_id: String,
    /// Its Date: when the server had all of it.
    pub date: String,
    /// Its header lines behind Byte-Range, Content-Type the last.
    pub mime: Vec<String>,
    /// What was sent.
    pub body: Vec<u8>,
}

/// Judges a pushed large message: the headers of the INVITE, then one whole SEND without paths, its range from 1 to its end.
pub fn large(message: &MsrpMessage) -> Result<LargeMessage, String> {
    let parts = parts(&message.content_type, &message.body)?;
    let [head, send] = &parts[..] else { return Err(format!("two parts, not {}", parts.len())) };
    for (part, media) in [(head, "message/sipfrag"), (send, "message/msrp")] {
        if part.header("Content-Type") != Some(media) {
            return Err(format!("the part is {media}, not {:?}", part.header("Content-Type")));
        }
    }
    let text = std::str::from_utf8(&head.content).map_err(|_| "headers are text".to_string())?;
    let Some(text) = text.strip_suffix("\r\n") else { return Err("a header line ends with CRLF".into()) };
    let invite: Vec<String> = text.split("\r\n").map(str::to_string).collect();
    if !invite[0].starts_with("INVITE ") || invite.iter().any(|line| line.is_empty()) {
        return Err(format!("the fragment is the INVITE's head and nothing else, not {text:?}"));
    }
    let Some(blank) = find(&send.content, b"\r\n\r\n") else { return Err("a blank line ends the SEND's head".into()) };
    let text = std::str::from_utf8(&send.content[..blank]).map_err(|_| "headers are text".to_string())?;
    let lines: Vec<&str> = text.split("\r\n").collect();
    let tid = lines[0].strip_prefix("MSRP ").and_then(|rest| rest.strip_suffix(" SEND"));
    let tid = tid.ok_or_else(|| format!("MSRP tid SEND, not {:?}", lines[0]))?.to_string();
    let value = |at: usize, name: &str| {
        let line = lines.get(at).copied().unwrap_or_default();
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
        value.map(str::to_string).ok_or_else(|| format!("line {at} is {name}, not {line:?}"))
    };
    let (message_id, date, range) = (value(1, "Message-ID")?, value(2, "Date")?, value(3, "Byte-Range")?);
    if !is_sip_date(&date) {
        return Err(format!("SIP-date is RFC 1123 in GMT, not {date:?}"));
    }
    let mime: Vec<String> = lines[4..].iter().map(|line| line.to_string()).collect();
    if !mime.last().is_some_and(|line| line.starts_with("Content-Type: ")) {
        return Err(format!("Content-Type is the last header: {mime:?}"));
    }
    let end = format!("\r\n-------{tid}$\r\n");
    let Some(body) = send.content[blank + 4..].strip_suffix(end.as_bytes()) else {
        return Err(format!("the SEND ends with its end-line, not {:?}", crate::shown(&send.content[blank + 4..], 80)));
    };
    if find(body, format!("-------{tid}").as_bytes()).is_some() {
        return Err("the SEND's own end-line stands in its body".into());
    }
    if range != format!("1-{}/{}", body.len(), body.len()) {
        return Err(format!("Byte-Range covers {} octets, not {range}", body.len()));
    }
    Ok(LargeMessage { invite, tid, message_id, date, mime, body: body.to_vec() })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn is_sip_date(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |text: &str, len: usize| text.len() == len && text.bytes().all(|octet| octet.is_ascii_digit());
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let [day, date, month, year, time, "GMT"] = words[..] else { return false };
    ["Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"].contains(&day)
        && number(date, 2)
        && months.contains(&month)
        && number(year, 4)
        && time.split(':').count() == 3
        && time.split(':').all(|part| number(part, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form of 12.2.2.5, octet for octet.
    const BODY: &str = "--dmf-7Qx2mV9bR4\r\nContent-Type: message/sip\r\n\r\nMESSAGE sip:user2@imserver.com SIP/2.0\r\n\
        Via: SIP/2.0/TCP user1pc.imserver.com;branch=z9hG4bK776sgdkse\r\nMax-Forwards: 70\r\nFrom: <sip:user1@imserver.com>;tag=49583\r\n\
        To: <sip:user2@imserver.com>\r\nCall-ID: asd88asd77a@1.2.3.4\r\nDate: Thu, 21 Feb 2002 13:02:03 GMT\r\nCSeq: 1 MESSAGE\r\n\
        Content-Type: text/plain\r\nContent-Length: 18\r\n\r\nWatson, come here.\r\n--dmf-7Qx2mV9bR4--";

    fn pushed(body: &str) -> MsrpMessage {
        MsrpMessage {
            message_id: "01jq8z4m7v5c2t9x3h6k0d1b2w".into(),
            content_type: "multipart/mixed;boundary=\"dmf-7Qx2mV9bR4\"".into(),
            body: body.as_bytes().to_vec(),
            chunks: 1,
            to_path: String::new(),
            from_path: String::new(),
        }
    }

    #[test]
    fn the_example_of_the_specification_is_right() {
        assert_eq!(BODY.len(), 410);
        let inner = pager(&pushed(BODY)).unwrap();
        assert_eq!(inner.body, b"Watson, come here.");
        pager_is(&pushed(BODY), &inner).unwrap();
    }

    #[test]
    fn each_departure_is_seen() {
        for (good, bad) in [
            ("--dmf-7Qx2mV9bR4--", "--dmf-7Qx2mV9bR4--\r\n"),
            ("\r\n--dmf-7Qx2mV9bR4--", ""),
            ("message/sip\r\n", "message/sipfrag\r\n"),
            ("Content-Length: 18", "Content-Length: 19"),
            ("Date: Thu, 21 Feb 2002 13:02:03 GMT\r\n", ""),
            ("Date: Thu, 21 Feb 2002 13:02:03 GMT", "Date: 2002-02-21"),
            ("Max-Forwards: 70", "Route: <sip:x;lr>\r\nMax-Forwards: 70"),
            ("message/sip\r\n\r\n", "message/sip\r\n"),
        ] {
            pager(&pushed(&BODY.replacen(good, bad, 1))).unwrap_err();
        }
        let deposited = pager(&pushed(BODY)).unwrap();
        pager_is(&pushed(BODY), &deposited.clone().set("Call-ID", "other")).unwrap_err();
        pager_is(&pushed(BODY), &deposited.set("Subject", "carpool")).unwrap_err();
    }
}
