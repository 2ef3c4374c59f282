//! What a REGISTER says of a client: whether it takes instant messages (RFC 3840), by the feature tags of its Contact. A core that
//! registers a user with us encloses the client's own REGISTER, or the answer to it (TS 24.229 5.4.1.7).

use super::sip::bodies::{BodiesFault, bodies};
use super::sip::{Message, Method, Name, NameAddr};
use crate::base::limits::Limits;
use bytes::Bytes;
use memchr::memmem;

/// The feature tag of OMA IM.
const IM: &[u8] = b"+g.oma.sip-im";

/// Where RCS clients name their services; those of CPM are instant messages too.
const ICSI: &[u8] = b"+g.3gpp.icsi-ref";

/// What the enclosed messages say: one of the client's Contacts takes instant messages, or none does; `None` where none is enclosed
/// that can be read.
///
/// # Errors
/// The bodies cannot be told apart.
pub fn enclosed(message: &Message) -> Result<Option<bool>, BodiesFault> {
    let mut said = None;
    for body in bodies(message)? {
        if !body.is(b"message/sip") {
            continue;
        }
        let Some(enclosed) = read(body.octets) else { continue };
        let is_register = if enclosed.is_request() {
            enclosed.method() == Method::Register
        } else {
            enclosed.cseq().1 == Method::Register
        };
        if is_register {
            let mut contacts = enclosed.values(Name::Contact).filter_map(|contact| NameAddr::parse(contact).ok());
            said = Some(said == Some(true) || contacts.any(|contact| takes_im(&contact)));
        }
    }
    Ok(said)
}

/// True for a Contact that takes instant messages.
pub fn takes_im(contact: &NameAddr<'_>) -> bool {
    let cpm = contact.params.get(ICSI).is_some_and(|services| {
        memmem::find(&services.to_ascii_lowercase(), b"3gpp-service.ims.icsi.oma.cpm").is_some()
    });
    cpm || contact.params.has(IM)
}

/// An enclosed message; the empty line at its end may have been taken for the multipart's.
fn read(octets: &[u8]) -> Option<Message> {
    let parse = |octets| Message::parse_datagram(octets, &Limits::default()).ok();
    parse(Bytes::copy_from_slice(octets))
        .or_else(|| parse(Bytes::from([octets.trim_ascii_end(), b"\r\n\r\n"].concat())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEAD: &str = "SIP/2.0/UDP h;branch=z9hG4bKx";

    fn inner(contact: &str) -> String {
        format!(
            "REGISTER sip:example.org SIP/2.0\r\nVia: {HEAD}\r\nFrom: <sip:b@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: i\r\n\
             CSeq: 1 REGISTER\r\nContact: {contact}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn outer(content_type: &str, body: &str) -> Message {
        let text = format!(
            "REGISTER sip:as SIP/2.0\r\nVia: {HEAD}\r\nFrom: <sip:scscf>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: o\r\nCSeq: 1 REGISTER\r\n\
             Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Message::parse(Bytes::from(text), &Limits::default()).unwrap()
    }

    #[test]
    fn the_tags_of_the_enclosed_contact_decide() {
        let table = [
            ("<sip:b@pc>;+g.oma.sip-im", true),
            ("<sip:b@pc>;+G.OMA.SIP-IM=\"TRUE\";expires=60", true),
            ("<sip:b@pc>;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.session\"", true),
            ("<sip:b@pc>;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel\"", false),
            ("<sip:b@pc>", false),
            ("<sip:b@pc>, <sip:b@tablet>;+g.oma.sip-im", true),
        ];
        for (contact, takes) in table {
            let register = inner(contact);
            assert_eq!(enclosed(&outer("message/sip", &register)), Ok(Some(takes)), "{contact}");
            let parts = format!(
                "--b\r\nContent-Type: application/3gpp-ims+xml\r\n\r\n<ims-3gpp/>\r\n--b\r\nContent-Type: message/sip\r\n\r\n{}\r\n--b--",
                register.trim_end()
            );
            assert_eq!(enclosed(&outer("multipart/mixed;boundary=b", &parts)), Ok(Some(takes)), "{contact}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        assert_eq!(enclosed(&outer("application/3gpp-ims+xml", "<ims-3gpp/>")), Ok(None));
        assert_eq!(enclosed(&outer("message/sip", "no message")), Ok(None));
        let message = inner("<sip:b@pc>;+g.oma.sip-im").replace("REGISTER", "OPTIONS");
        assert_eq!(enclosed(&outer("message/sip", &message)), Ok(None));
        assert!(enclosed(&outer("multipart/mixed", "x")).is_err());
        let ok = inner("<sip:b@pc>;+g.oma.sip-im").replace("REGISTER sip:example.org SIP/2.0", "SIP/2.0 200 OK");
        assert_eq!(enclosed(&outer("message/sip", &ok)), Ok(Some(true)));
    }
}
