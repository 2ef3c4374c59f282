//! Disposition notifications (IMDN, RFC 5438): what a message asks for, and the document that answers.
//!
//! Reads the headers of a [`Cpim`] message and writes `message/imdn+xml`. When a notification is due, and to whom it
//! goes, is for others.

use super::cpim::Cpim;
use super::{scan, xml};

/// What a message wants to hear of (Disposition-Notification).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wanted {
    /// `positive-delivery`: the recipient's client says so, never a server (RFC 5438 12.2).
    pub positive: bool,
    /// `negative-delivery`.
    pub negative: bool,
    /// `processing`.
    pub processing: bool,
    /// `display`.
    pub display: bool,
}

impl Wanted {
    /// What this message asks for. A notification asks for nothing, whatever it says.
    ///
    //= RFC 5438 7.2.1: it is forbidden to request an IMDN for an IMDN; such a request is ignored
    pub fn of(cpim: &Cpim<'_>) -> Wanted {
        let mut wanted = Wanted::default();
        if cpim.is_imdn() {
            return wanted;
        }
        for value in cpim.imdn(b"Disposition-Notification") {
            for token in value.split(|&octet| octet == b',') {
                // Parameters of a value are future extensions (RFC 5438 10).
                let token = scan::trim(token.split(|&octet| octet == b';').next().unwrap_or_default());
                let place = match () {
                    () if token.eq_ignore_ascii_case(b"positive-delivery") => &mut wanted.positive,
                    () if token.eq_ignore_ascii_case(b"negative-delivery") => &mut wanted.negative,
                    () if token.eq_ignore_ascii_case(b"processing") => &mut wanted.processing,
                    () if token.eq_ignore_ascii_case(b"display") => &mut wanted.display,
                    //= RFC 5438 7.2.1: a value that is not understood is ignored
                    () => continue,
                };
                *place = true;
            }
        }
        wanted
    }
}

/// What of a message a notification about it repeats.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// What it wants.
    pub wanted: Wanted,
    /// Its Message-ID.
    pub message_id: &'a [u8],
    /// Its DateTime as it stands.
    pub date_time: Option<&'a [u8]>,
    /// The URI in its From.
    pub from: Option<&'a [u8]>,
    /// The URI in its To.
    pub to: Option<&'a [u8]>,
    /// The URI in Original-To.
    pub original_to: Option<&'a [u8]>,
    /// Its IMDN-Record-Route values, topmost first, each as it stands.
    pub record_route: Vec<&'a [u8]>,
}

impl<'a> Asked<'a> {
    /// `None` for a message without a Message-ID, which no notification could name.
    pub fn of(cpim: &Cpim<'a>) -> Option<Asked<'a>> {
        Some(Asked {
            wanted: Wanted::of(cpim),
            message_id: cpim.imdn(b"Message-ID").next().filter(|id| !id.is_empty())?,
            date_time: cpim.date_time(),
            from: cpim.from(),
            to: cpim.to(),
            original_to: cpim.imdn(b"Original-To").next().map(bare),
            record_route: cpim.imdn(b"IMDN-Record-Route").collect(),
        })
    }
}

/// The URI of `<URI>`, or what stands there without brackets.
pub fn bare(value: &[u8]) -> &[u8] {
    match value.iter().position(|&octet| octet == b'<') {
        Some(at) => {
            let uri = value.get(at + 1..).unwrap_or_default();
            uri.split(|&octet| octet == b'>').next().unwrap_or_default()
        }
        None => scan::trim(value),
    }
}

/// What became of a message. The states are RFC 5438 11.1.7's, as far as a server may say them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// `<delivery-notification>`, `<failed/>`.
    Failed,
    /// `<delivery-notification>`, `<forbidden/>`: the disposition was denied.
    Forbidden,
    /// `<delivery-notification>`, `<error/>`: our own mistake.
    Error,
    /// `<processing-notification>`, `<stored/>`.
    Stored,
}

impl Disposition {
    /// The notification's element, and that of its status.
    fn names(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Disposition::Failed => (b"delivery-notification", b"failed"),
            Disposition::Forbidden => (b"delivery-notification", b"forbidden"),
            Disposition::Error => (b"delivery-notification", b"error"),
            Disposition::Stored => (b"processing-notification", b"stored"),
        }
    }
}

/// A notification to be written.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// Message-ID of the message it is about.
    pub message_id: &'a [u8],
    /// When that was sent, as its DateTime has it.
    pub date_time: &'a [u8],
    /// Who it was for.
    pub recipient: &'a [u8],
    /// Who it was for at first, where somebody changed that.
    pub original_recipient: &'a [u8],
    /// What became of it.
    pub disposition: Disposition,
}

/// Namespace of the document.
pub const NAMESPACE: &str = "urn:ietf:params:xml:ns:imdn";

/// Its media type.
pub const MEDIA_TYPE: &[u8] = b"message/imdn+xml";

impl Notification<'_> {
    /// Appends the document.
    ///
    //= RFC 5438 11.1: <message-id>, <datetime>, <recipient-uri>, <original-recipient-uri>, then one notification with its <status>
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"");
        out.extend_from_slice(NAMESPACE.as_bytes());
        out.extend_from_slice(b"\">\r\n");
        xml::element(out, b" ", b"message-id", self.message_id);
        xml::element(out, b" ", b"datetime", self.date_time);
        xml::element(out, b" ", b"recipient-uri", self.recipient);
        xml::element(out, b" ", b"original-recipient-uri", self.original_recipient);
        let (notification, status) = self.disposition.names();
        let parts: [&[u8]; 7] =
            [b" <", notification, b"><status><", status, b"/></status></", notification, b">\r\n</imdn>\r\n"];
        parts.iter().for_each(|part| out.extend_from_slice(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xml::{Step, Walk};
    use proptest::prelude::*;

    fn wanted(headers: &str, content: &str) -> Wanted {
        let body = format!("From: <im:a@x>\r\n{headers}\r\n\r\nContent-Type: {content}\r\n\r\nx");
        Wanted::of(&Cpim::parse(body.as_bytes()).unwrap())
    }

    //= RFC 5438 7.2.1: a value that is not understood is ignored
    #[test]
    fn a_message_says_what_it_wants() {
        let all = wanted(
            "imdn.Disposition-Notification: positive-delivery, Negative-Delivery;x=y,telepathy\r\n\
             imdn.Disposition-Notification: processing,display",
            "text/plain",
        );
        assert_eq!(all, Wanted { positive: true, negative: true, processing: true, display: true });
        let some = wanted("imdn.Disposition-Notification: negative-delivery", "text/plain");
        assert_eq!(some, Wanted { negative: true, ..Wanted::default() });
        for none in ["X: y", "imdn.Disposition-Notification: ", "Disposition-Notification: display"] {
            assert_eq!(wanted(none, "text/plain"), Wanted::default(), "{none}");
        }
    }

    //= RFC 5438 7.2.1: it is forbidden to request an IMDN for an IMDN; such a request is ignored
    #[test]
    fn a_notification_wants_none_about_itself() {
        assert_eq!(wanted("imdn.Disposition-Notification: negative-delivery", "message/imdn+xml"), Wanted::default());
    }

    #[test]
    fn what_a_notification_repeats_is_found() {
        let body = b"From: A <im:a@x>\r\nTo: <im:b@x>\r\nDateTime: 2006-04-04T12:16:49-05:00\r\n\
            NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 34jk324j\r\nimdn.Original-To: <im:list@x>\r\n\
            imdn.IMDN-Record-Route: <im:p2@x>\r\nimdn.IMDN-Record-Route: <im:p1@x>\r\n\r\nContent-Type: a/b\r\n\r\n";
        let asked = Asked::of(&Cpim::parse(body).unwrap()).unwrap();
        assert_eq!(
            (asked.message_id, asked.from, asked.to),
            (&b"34jk324j"[..], Some(&b"im:a@x"[..]), Some(&b"im:b@x"[..]))
        );
        assert_eq!(
            (asked.date_time, asked.original_to),
            (Some(&b"2006-04-04T12:16:49-05:00"[..]), Some(&b"im:list@x"[..]))
        );
        assert_eq!(asked.record_route, [b"<im:p2@x>", b"<im:p1@x>"]);
        assert!(Asked::of(&Cpim::parse(b"From: <im:a@x>\r\n\r\nContent-Type: a/b\r\n\r\n").unwrap()).is_none());
    }

    fn texts(document: &[u8]) -> Vec<(String, String)> {
        let (mut walk, mut out, mut open) = (Walk::new(document).unwrap(), Vec::new(), Vec::new());
        while let Some(step) = walk.step().unwrap() {
            match step {
                Step::Open(element) => {
                    assert_eq!(element.namespace(), NAMESPACE.as_bytes());
                    open.push((String::from_utf8(element.local_name().to_vec()).unwrap(), String::new()));
                }
                Step::Text(text) => open.last_mut().unwrap().1.push_str(&text),
                Step::Close => out.push(open.pop().unwrap()),
            }
        }
        out
    }

    //= RFC 5438 11.1: <message-id>, <datetime>, <recipient-uri>, <original-recipient-uri>, then one notification with its <status>
    #[test]
    fn a_notification_has_the_order_of_the_schema() {
        for (disposition, notification, status) in [
            (Disposition::Failed, "delivery-notification", "failed"),
            (Disposition::Forbidden, "delivery-notification", "forbidden"),
            (Disposition::Error, "delivery-notification", "error"),
            (Disposition::Stored, "processing-notification", "stored"),
        ] {
            let mut out = Vec::new();
            Notification {
                message_id: b"34jk324j",
                date_time: b"2006-04-04T12:16:49-05:00",
                recipient: b"sip:user2@imserver.com",
                original_recipient: b"sip:list@imserver.com",
                disposition,
            }
            .write(&mut out);
            let found = texts(&out);
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            let order =
                ["message-id", "datetime", "recipient-uri", "original-recipient-uri", status, "status", notification];
            assert_eq!(names, [&order[..], &["imdn"]].concat());
            assert_eq!(found[0].1, "34jk324j");
            assert_eq!(found[3].1, "sip:list@imserver.com");
        }
    }

    proptest! {
        #[test]
        fn no_value_becomes_markup(id in "[<>&\"'a-z\\x00-\\x1f\u{e9}]{0,30}") {
            let mut out = Vec::new();
            let value = id.as_bytes();
            Notification { message_id: value, date_time: value, recipient: value, original_recipient: value, disposition: Disposition::Failed }
                .write(&mut out);
            let kept: String = id.chars().filter(|letter| *letter >= ' ' || matches!(*letter, '\t' | '\n' | '\r')).collect();
            // A reader makes one line end of CR LF and of CR.
            let lines = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(lines(&texts(&out)[0].1), lines(&kept));
        }
    }
}
