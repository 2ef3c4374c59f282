//! The deferred-list document (12.2.2.8, [IM-XDM-Specification]): the metadata of what waits for a user.
//!
//! Written from values. The schema's text could not be had, its names could: which of them is an element, in which order, and
//! inside what, stands in one table (`TEMPLATE`) and nowhere else.

use super::{date, scan, xml};

/// Namespace of the document (OMNA).
pub const NAMESPACE: &str = "urn:oma:xml:im:history-list";

/// Application usage under which the document is found.
pub const AUID: &str = "org.openmobilealliance.deferred-list";

/// Its media type.
pub const MEDIA_TYPE: &[u8] = b"application/vnd.oma.im.deferred-list+xml";

/// What is said of one message.
#[derive(Clone, Copy, Default, Debug)]
pub struct History<'a> {
    /// The stored message's id, as a URI: the key.
    pub reference: &'a [u8],
    /// When it was sent, or else received: seconds since 1970.
    pub date_s: u64,
    /// When the server had it, in the same seconds.
    pub received_s: u64,
    /// Octets of its content.
    pub size: u64,
    /// When its time is over.
    pub expiry_s: u64,
    /// Its Subject; empty leaves it out.
    pub subject: &'a [u8],
    /// Who wrote it; nobody in particular where the sender wants privacy (RFC 3323).
    pub from: &'a [u8],
    /// Whom it is for.
    pub to: &'a [u8],
    /// The asserted identity; empty where the sender wants privacy.
    pub auth_id: &'a [u8],
}

/// A value of [`History`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    Reference,
    Date,
    Received,
    Size,
    Expiry,
    Subject,
    From,
    To,
    AuthId,
}

/// One line of the template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Item {
    /// An element begins.
    Open(&'static [u8]),
    /// An element with a value; left out when the value is empty.
    Leaf(&'static [u8], Value),
    /// The element opened last ends.
    Close(&'static [u8]),
}

/// A `<history>`, element by element, as far as the schema is known.
const TEMPLATE: &[Item] = &[
    Item::Open(b"history"),
    Item::Leaf(b"history-reference", Value::Reference),
    Item::Leaf(b"date", Value::Date),
    Item::Leaf(b"size", Value::Size),
    Item::Leaf(b"expiry", Value::Expiry),
    Item::Leaf(b"subject", Value::Subject),
    Item::Open(b"pager"),
    Item::Leaf(b"time-stamp", Value::Received),
    Item::Leaf(b"from", Value::From),
    Item::Leaf(b"to", Value::To),
    Item::Leaf(b"auth-id", Value::AuthId),
    Item::Close(b"pager"),
    Item::Close(b"history"),
];

/// Appends the document of these messages, in their order.
pub fn write<'a>(out: &mut Vec<u8>, messages: impl Iterator<Item = History<'a>>) {
    begin(out);
    messages.for_each(|message| write_one(out, &message));
    end(out);
}

/// Appends what stands before the first `<history>`.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<history-list xmlns=\"");
    out.extend_from_slice(NAMESPACE.as_bytes());
    out.extend_from_slice(b"\">\r\n");
}

/// Appends what stands after the last.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"</history-list>\r\n");
}

/// Appends one `<history>` element.
pub fn write_one(out: &mut Vec<u8>, message: &History<'_>) {
    let mut depth = 1;
    let mut text = Vec::with_capacity(32);
    for item in TEMPLATE {
        const INDENT: &[u8] = b"        ";
        let (before, name, after): (&[u8], _, _) = match item {
            Item::Leaf(name, value) => {
                text.clear();
                if message.value(*value, &mut text) {
                    xml::element(out, INDENT.get(..depth).unwrap_or(INDENT), name, &text);
                }
                continue;
            }
            Item::Open(name) => (b"<", name, 1),
            Item::Close(name) => {
                depth -= 1;
                (b"</", name, 0)
            }
        };
        for part in [INDENT.get(..depth).unwrap_or(INDENT), before, name, b">\r\n"] {
            out.extend_from_slice(part);
        }
        depth += after;
    }
}

impl History<'_> {
    /// Appends a value as text; false when there is none.
    fn value(&self, value: Value, out: &mut Vec<u8>) -> bool {
        match value {
            Value::Date => date::write_rfc3339(out, self.date_s),
            Value::Received => date::write_rfc3339(out, self.received_s),
            Value::Expiry => date::write_rfc3339(out, self.expiry_s),
            Value::Size => scan::put_decimal(out, self.size),
            Value::Reference => out.extend_from_slice(self.reference),
            Value::Subject => out.extend_from_slice(self.subject),
            Value::From => out.extend_from_slice(self.from),
            Value::To => out.extend_from_slice(self.to),
            Value::AuthId => out.extend_from_slice(self.auth_id),
        }
        !out.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xml::{Step, Walk};

    const MESSAGE: History<'static> = History {
        reference: b"sip:01jq8z4m7v5c2t9x3h6k0d1b2w@ms32.example.com",
        date_s: 1_769_850_902,
        received_s: 1_769_850_903,
        size: 18,
        expiry_s: 1_770_455_702,
        subject: b"carpool <tomorrow>?",
        from: b"sip:alice@example.org",
        to: b"sip:charlie@example.com",
        auth_id: b"sip:alice@example.org",
    };

    #[test]
    fn the_document_is_that_of_the_template() {
        let mut out = Vec::new();
        write(&mut out, std::iter::once(MESSAGE));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<history-list xmlns=\"urn:oma:xml:im:history-list\">\r\n \
             <history>\r\n  <history-reference>sip:01jq8z4m7v5c2t9x3h6k0d1b2w@ms32.example.com</history-reference>\r\n  \
             <date>2026-01-31T09:15:02Z</date>\r\n  <size>18</size>\r\n  <expiry>2026-02-07T09:15:02Z</expiry>\r\n  \
             <subject>carpool &lt;tomorrow&gt;?</subject>\r\n  <pager>\r\n   <time-stamp>2026-01-31T09:15:03Z</time-stamp>\r\n   \
             <from>sip:alice@example.org</from>\r\n   <to>sip:charlie@example.com</to>\r\n   \
             <auth-id>sip:alice@example.org</auth-id>\r\n  </pager>\r\n </history>\r\n</history-list>\r\n"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out_and_the_document_stays_whole() {
        let mut out = Vec::new();
        let private = History { from: b"", auth_id: b"", subject: b"", ..MESSAGE };
        write(&mut out, [private, MESSAGE].into_iter());
        let (mut walk, mut names) = (Walk::new(&out).unwrap(), Vec::new());
        while let Some(step) = walk.step().unwrap() {
            if let Step::Open(element) = step {
                assert_eq!(element.namespace(), NAMESPACE.as_bytes());
                names.push(String::from_utf8(element.local_name().to_vec()).unwrap());
            }
        }
        let count = |name: &str| names.iter().filter(|found| *found == name).count();
        assert_eq!((count("history"), count("from"), count("auth-id"), count("subject"), count("to")), (2, 1, 1, 1, 2));
    }

    #[test]
    fn no_user_has_an_empty_list_without_a_root() {
        let mut out = Vec::new();
        write(&mut out, std::iter::empty());
        let mut walk = Walk::new(&out).unwrap();
        assert!(matches!(walk.step(), Ok(Some(Step::Open(_)))));
    }
}
