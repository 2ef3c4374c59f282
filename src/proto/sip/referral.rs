//! What a REFER asks for (RFC 3515, 4488, 5368): which resources, and whether its sender wants to hear of the outcome.
//!
//! Knows Refer-To, Refer-Sub and the URI lists that a `cid:` points to. What is done to the resources is for others.

use super::dialog::Status;
use crate::wire::resource_lists::{self, UriList};
use crate::wire::sip::bodies::{self, Body};
use crate::wire::sip::fields;
use crate::wire::sip::{Message, Name, NameAddr};

/// Option tags of Require that a recipient of such requests understands.
pub const OPTIONS: &[&[u8]] = &[b"multiple-refer", b"norefersub"];

/// What is referred to.
#[derive(Clone, Debug)]
pub enum Target {
    /// One URI.
    One(Vec<u8>),
    /// The URIs of a list, at least one.
    Several(UriList),
}

/// A REFER, read.
#[derive(Clone, Debug)]
pub struct Referral {
    /// What is referred to.
    pub target: Target,
    /// An implicit subscription is wanted: a NOTIFY says what became of it.
    pub subscribes: bool,
}

impl Referral {
    /// Reads a request.
    ///
    /// # Errors
    /// 400, 413 or 415: what it says cannot be followed.
    pub fn read(message: &Message) -> Result<Referral, Status> {
        //= RFC 3515 2.4.2: MUST return a 400 if the request contained zero or more than one Refer-To header field values
        let mut values = message.values(Name::ReferTo);
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Status(400)) };
        let uri = NameAddr::parse(value).map_err(|_| Status(400))?.uri;
        let is_pointer = uri.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"cid:"));
        let target = if is_pointer { Target::Several(list(message, uri)?) } else { Target::One(uri.to_vec()) };
        Ok(Referral { target, subscribes: subscribes(message) })
    }
}

/// The list that a `cid:` means.
///
//= RFC 5368 7: Refer-To MUST contain a pointer that points to the body part that carries the URI list
fn list(message: &Message, cid: &[u8]) -> Result<UriList, Status> {
    let bodies = bodies::bodies(message).map_err(|_| Status(400))?;
    let meant = |body: &&Body<'_>| body.is_meant_by(cid);
    if !bodies.iter().any(|body| meant(&body)) {
        return Err(Status(400));
    }
    let mut list = UriList::new();
    // The one that is pointed at, and whatever else is marked as a list of recipients: they are one list (RFC 5363 4.1).
    for body in bodies.iter().filter(|body| meant(body) || body.is_for(b"recipient-list")) {
        if !body.is(resource_lists::MEDIA_TYPE) {
            return Err(Status(415));
        }
        list.read(body.octets).map_err(|fault| Status(fault.status()))?;
    }
    if list.is_empty() { Err(Status(400)) } else { Ok(list) }
}

/// True unless the sender wants no subscription. `Norefer-Sub` is no header of any RFC: the mission has it.
///
//= RFC 4488 4: Refer-Sub set to "false" requests that no implicit subscription is established
//= 12.1.3.4-4: the Norefer-Sub header set to "true" according to RFC 4488
fn subscribes(message: &Message) -> bool {
    let refused = message.header(Name::ReferSub).and_then(fields::refer_sub) == Some(false);
    let not_wanted = message.header_named(b"Norefer-Sub").and_then(fields::refer_sub) == Some(true);
    !refused && !not_wanted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;

    fn refer(headers: &str, body: &str) -> Result<Referral, Status> {
        let text = format!(
            "REFER sip:Delete@example.com SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:Delete@example.com>\r\n\
             Call-ID: c@h\r\nCSeq: 7 REFER\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Referral::read(&Message::parse(Bytes::from(text), &Limits::default()).unwrap())
    }

    const LIST: &str = "<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list><entry uri=\"sip:1@h\"/>\
        <entry uri=\"sip:2@h\"/></list></resource-lists>";
    const LIST_HEADERS: &str = "Content-Type: application/resource-lists+xml\r\nContent-Disposition: recipient-list\r\n\
        Content-ID: <cn35t8jf02@example.com>\r\n";

    #[test]
    fn one_uri_is_one_target() {
        for value in ["<sip:1@h;method=INVITE>", "sip:1@h", "\"x, y\" <sip:1@h?a=b>"] {
            assert!(
                matches!(refer(&format!("Refer-To: {value}\r\n"), "").unwrap().target, Target::One(uri) if uri.starts_with(b"sip:1@h"))
            );
        }
        assert!(refer("r: <sip:1@h>\r\n", "").unwrap().subscribes);
    }

    //= RFC 3515 2.4.2: MUST return a 400 if the request contained zero or more than one Refer-To header field values
    #[test]
    fn no_target_and_two_are_400() {
        for headers in [
            "",
            "Refer-To: <sip:1@h>, <sip:2@h>\r\n",
            "Refer-To: <sip:1@h>\r\nr: <sip:2@h>\r\n",
            "Refer-To: nobody\r\n",
        ] {
            assert_eq!(refer(headers, "").err(), Some(Status(400)), "{headers}");
        }
    }

    //= RFC 5368 7: Refer-To MUST contain a pointer that points to the body part that carries the URI list
    #[test]
    fn a_pointer_means_the_list_in_the_body() {
        let pointer = "Refer-To: <cid:cn35t8jf02@example.com>\r\n";
        let Target::Several(list) = refer(&format!("{pointer}{LIST_HEADERS}"), LIST).unwrap().target else {
            panic!("a list")
        };
        assert_eq!(list.iter().collect::<Vec<_>>(), [b"sip:1@h", b"sip:2@h"]);
        let multipart = format!("--b\r\n{LIST_HEADERS}\r\n{LIST}\r\n--b--\r\n");
        let read = refer(&format!("{pointer}Content-Type: multipart/related;boundary=b\r\n"), &multipart);
        assert!(matches!(read.unwrap().target, Target::Several(list) if list.len() == 2));
        let empty = "<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list/></resource-lists>";
        let table = [
            (pointer.to_owned(), "", 400),
            (format!("Refer-To: <cid:other@h>\r\n{LIST_HEADERS}"), LIST, 400),
            (format!("{pointer}{LIST_HEADERS}"), "no list", 400),
            (format!("{pointer}{LIST_HEADERS}"), empty, 400),
            (format!("{pointer}{}", LIST_HEADERS.replace("application/resource-lists+xml", "text/plain")), LIST, 415),
        ];
        for (headers, body, status) in table {
            assert_eq!(refer(&headers, body).err(), Some(Status(status)), "{headers}");
        }
    }

    //= RFC 4488 4: Refer-Sub set to "false" requests that no implicit subscription is established
    //= 12.1.3.4-4: the Norefer-Sub header set to "true" according to RFC 4488
    #[test]
    fn a_sender_may_want_no_subscription() {
        let table = [
            ("", true),
            ("Refer-Sub: true\r\n", true),
            ("Refer-Sub: false\r\n", false),
            ("Refer-Sub: False;x=y\r\n", false),
            ("Norefer-Sub: true\r\n", false),
            ("Norefer-Sub: false\r\n", true),
            ("Refer-Sub: what\r\n", true),
        ];
        for (headers, subscribes) in table {
            assert_eq!(
                refer(&format!("Refer-To: <sip:1@h>\r\n{headers}"), "").unwrap().subscribes,
                subscribes,
                "{headers}"
            );
        }
    }
}
