//! A pushed message, taken out of what it was wrapped in (12.2.2.5): who wrote it, when, about what, and what it says.
//!
//! Three wrappings are known: a whole SIP MESSAGE, the headers of an INVITE with one MSRP SEND (a large message), and CPIM. What is in
//! none of them is shown as it is.

use crate::msrp::Frame;
use crate::sip::{Sip, parameter, uri_of};
use deferd::wire::cpim::Cpim;
use deferd::wire::multipart;
use std::borrow::Cow;

/// What a person wants to know of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) date: String,
    pub(crate) subject: String,
    /// Of its content.
    pub(crate) content_type: String,
    pub(crate) content: Vec<u8>,
}

impl Received {
    /// Of an MSRP message of this type.
    pub(crate) fn read(content_type: &str, body: &[u8]) -> Received {
        let media = media_of(content_type);
        let mut received = Received::default();
        let wrapped = match media.as_str() {
            "multipart/mixed" => match multipart::parts(content_type.as_bytes(), body) {
                Ok(parts) => {
                    let mut known = false;
                    for part in parts {
                        let date = part.header(b"date").map(|date| String::from_utf8_lossy(date).into_owned());
                        let media = String::from_utf8_lossy(part.media_type()).to_ascii_lowercase();
                        known |= received.part(&media, part.body());
                        if received.date.is_empty() {
                            received.date = date.unwrap_or_default();
                        }
                    }
                    known
                }
                Err(_) => false,
            },
            _ => received.part(&media, body),
        };
        if !wrapped || (received.content_type.is_empty() && received.content.is_empty()) {
            received.content_type = content_type.to_owned();
            received.content = body.to_vec();
        }
        received.unwrap_cpim();
        received
    }

    /// Of a MESSAGE that came by itself: a delivery report, or what a daemon sends that way.
    pub(crate) fn of(message: &Sip) -> Received {
        let mut received = Received {
            from: uri_of(message.value("from")).to_owned(),
            to: uri_of(message.value("to")).to_owned(),
            date: message.value("date").to_owned(),
            subject: message.value("subject").to_owned(),
            content_type: message.value("content-type").to_owned(),
            content: message.body.clone(),
        };
        received.unwrap_cpim();
        received
    }

    /// Takes what one part says; false when it is of no kind that says something.
    fn part(&mut self, media: &str, body: &[u8]) -> bool {
        match media {
            "message/sip" | "message/sipfrag" => {
                let (head, content) = match memchr::memmem::find(body, b"\r\n\r\n") {
                    Some(at) => (body.get(..at + 2).unwrap_or_default(), body.get(at + 4..).unwrap_or_default()),
                    None => (body, &[][..]),
                };
                let Ok(sip) = Sip::head(head) else { return false };
                self.from = uri_of(sip.value("from")).to_owned();
                self.to = uri_of(sip.value("to")).to_owned();
                self.date = sip.value("date").to_owned();
                self.subject = sip.value("subject").to_owned();
                let length = sip.header("content-length").and_then(|length| length.parse().ok());
                if let Some(content_type) = sip.header("content-type") {
                    self.content_type = content_type.to_owned();
                    self.content = content.get(..length.unwrap_or(content.len())).unwrap_or(content).to_vec();
                }
                true
            }
            "message/msrp" => match whole_frame(body) {
                Some(frame) => {
                    self.content_type = frame.value("content-type").to_owned();
                    self.content = frame.body;
                    true
                }
                None => false,
            },
            "message/cpim" => {
                self.content_type = media.to_owned();
                self.content = body.to_vec();
                true
            }
            _ => false,
        }
    }

    /// CPIM inside says what its outside may not have said.
    fn unwrap_cpim(&mut self) {
        if media_of(&self.content_type) != "message/cpim" {
            return;
        }
        let body = std::mem::take(&mut self.content);
        let Ok(cpim) = Cpim::parse(&body) else {
            self.content = body;
            return;
        };
        let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        let fill = |field: &mut String, value: Option<String>| {
            if field.is_empty() {
                *field = value.unwrap_or_default();
            }
        };
        fill(&mut self.from, text(cpim.from()).map(|value| uri_of(&value).to_owned()));
        fill(&mut self.to, text(cpim.to()).map(|value| uri_of(&value).to_owned()));
        fill(&mut self.date, text(cpim.date_time()));
        fill(&mut self.subject, text(cpim.subject().map(|subject| subject.value)));
        self.content_type = text(cpim.content_type()).unwrap_or_default();
        self.content = cpim.content().to_vec();
    }

    /// Its content as text; `None` where it is none.
    pub(crate) fn text(&self) -> Option<Cow<'_, str>> {
        let media = media_of(&self.content_type);
        let is_text = media.starts_with("text/") || media.ends_with("+xml");
        let charset = parameter(&self.content_type, "charset").unwrap_or("utf-8").to_ascii_lowercase();
        match charset.as_str() {
            _ if !is_text => None,
            "utf-8" | "us-ascii" => std::str::from_utf8(&self.content).ok().map(Cow::Borrowed),
            _ => None,
        }
    }
}

/// The one frame that a `message/msrp` is; its last line end may have been taken for the boundary's.
fn whole_frame(body: &[u8]) -> Option<Frame> {
    let cut = |octets: &[u8]| Frame::cut(octets).ok().flatten().map(|(frame, _)| frame);
    cut(body).or_else(|| cut(&[body, b"\r\n"].concat()))
}

/// The media type of a Content-Type, in lower case.
fn media_of(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Received {
        Received::read("multipart/mixed;boundary=\"b\"", body.as_bytes())
    }

    #[test]
    fn a_pager_message_is_the_message_inside() {
        let received = read(
            "--b\r\nContent-Type: message/sip\r\n\r\nMESSAGE sip:bob@e SIP/2.0\r\nFrom: \"A\" <sip:alice@e>;tag=1\r\n\
             To: <sip:bob@e>\r\nDate: Fri, 27 Nov 2026 20:00:00 GMT\r\nSubject: lunch\r\nContent-Type: text/plain\r\n\
             Content-Length: 5\r\n\r\nhello\r\n--b--\r\n",
        );
        assert_eq!((received.from.as_str(), received.to.as_str()), ("sip:alice@e", "sip:bob@e"));
        assert_eq!((received.subject.as_str(), received.text().as_deref()), ("lunch", Some("hello")));
    }

    #[test]
    fn a_large_message_is_the_send_inside() {
        let received = read(
            "--b\r\nContent-Type: message/sipfrag\r\n\r\nINVITE sip:bob@e SIP/2.0\r\nFrom: <sip:alice@e>\r\n\r\n--b\r\n\
             Content-Type: message/msrp\r\n\r\nMSRP t1 SEND\r\nMessage-ID: m\r\nByte-Range: 1-3/3\r\n\
             Content-Type: image/png\r\n\r\n\x01\x02\x03\r\n-------t1$\r\n\r\n--b--",
        );
        assert_eq!((received.from.as_str(), received.content_type.as_str()), ("sip:alice@e", "image/png"));
        assert_eq!((received.content.as_slice(), received.text()), (&[1, 2, 3][..], None));
    }

    #[test]
    fn what_is_wrapped_in_nothing_is_shown_as_it_is() {
        let received = Received::read("text/plain", b"hi");
        assert_eq!(received.text().as_deref(), Some("hi"));
        let received = read("no multipart at all");
        assert_eq!(received.content, b"no multipart at all");
        let cpim = b"From: <im:a@e>\r\nTo: <im:b@e>\r\n\r\nContent-Type: text/plain\r\n\r\nyo";
        let received = Received::read("message/cpim", cpim);
        assert_eq!((received.from.as_str(), received.text().as_deref()), ("im:a@e", Some("yo")));
    }
}
