//! Presence documents (`application/pidf+xml`, RFC 3863): can this user take instant messages now?
//!
//! Only the answer to that one question leaves this file. Notes, contacts, locations and what RPID or
//! `willingness` say are passed over.

use super::xml::{Step, Walk, XmlFault, XmlWhat, boolean};

/// RFC 3863's namespace; its 4.1.1 also prints it with a colon at the end, and clients copied that.
const PIDF: &[&[u8]] = &[b"urn:ietf:params:xml:ns:pidf", b"urn:ietf:params:xml:ns:pidf:"];

/// OMA's presence extensions: `service-description` with the `service-id` that a tuple is about.
const OMA: &[u8] = b"urn:oma:xml:prs:pidf:oma-pres";

/// RFC 5196's capabilities: `servcaps` with `message`.
const CAPS: &[u8] = b"urn:ietf:params:xml:ns:pidf:caps";

/// The services of OMNA's registry that are instant messaging.
const IM_SERVICES: &[&str] =
    &["org.openmobilealliance:IM-session", "org.openmobilealliance:IM-pager-mode", "org.openmobilealliance:IM"];

/// What a presence document says to a store of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presence {
    /// Some tuple that takes instant messages is `open`. False: all are closed, or there is none.
    pub im_open: bool,
}

/// Where the walk stands. Each place is a child of the one above it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Presence,
    Tuple,
    Status,
    Basic,
    Service,
    ServiceId,
    Capabilities,
    Message,
    /// Inside something of no interest.
    Other,
}

/// What is known of the tuple that is open.
#[derive(Default)]
struct Tuple {
    open: bool,
    names_a_service: bool,
    takes_messages: bool,
}

/// Reads a document. Unknown elements are passed over at every depth; a document with another root is
/// [`XmlWhat::OtherRoot`].
pub fn open(document: &[u8]) -> Result<Presence, XmlFault> {
    let mut walk = Walk::new(document)?;
    let mut places: Vec<Place> = Vec::with_capacity(8);
    let mut tuple = Tuple::default();
    let mut text = String::new();
    let mut presence = Presence { im_open: false };
    while let Some(step) = walk.step()? {
        let here = places.last().copied().unwrap_or(Place::Outside);
        match step {
            Step::Open(element) => {
                let namespace = element.namespace();
                let pidf = PIDF.contains(&namespace);
                let next = match (here, element.local_name()) {
                    (Place::Outside, b"presence") if pidf => Place::Presence,
                    (Place::Outside, _) => return Err(element.fault(XmlWhat::OtherRoot)),
                    (Place::Presence, b"tuple") if pidf => {
                        tuple = Tuple::default();
                        Place::Tuple
                    }
                    (Place::Tuple, b"status") if pidf => Place::Status,
                    (Place::Status, b"basic") if pidf => Place::Basic,
                    // Some clients put the extensions into the status, as RFC 3863 4.2.4 allows.
                    (Place::Tuple | Place::Status, b"service-description") if namespace == OMA => {
                        tuple.names_a_service = true;
                        Place::Service
                    }
                    (Place::Service, b"service-id") if namespace == OMA => Place::ServiceId,
                    (Place::Tuple | Place::Status, b"servcaps") if namespace == CAPS => {
                        tuple.names_a_service = true;
                        Place::Capabilities
                    }
                    (Place::Capabilities, b"message") if namespace == CAPS => Place::Message,
                    _ => Place::Other,
                };
                text.clear();
                places.push(next);
            }
            Step::Text(more) => {
                if matches!(here, Place::Basic | Place::ServiceId | Place::Message) {
                    text.push_str(&more);
                }
            }
            Step::Close => {
                let said = text.trim_ascii();
                match here {
                    Place::Basic => tuple.open |= said == "open",
                    Place::ServiceId => tuple.takes_messages |= IM_SERVICES.contains(&said),
                    Place::Message => tuple.takes_messages |= boolean(said).unwrap_or(false),
                    // A tuple that names no service is about the user, whatever arrives.
                    Place::Tuple => {
                        presence.im_open |= tuple.open && (tuple.takes_messages || !tuple.names_a_service);
                    }
                    _ => {}
                }
                text.clear();
                places.pop();
            }
        }
    }
    Ok(presence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(tuples: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
             xmlns:op=\"urn:oma:xml:prs:pidf:oma-pres\" xmlns:caps=\"urn:ietf:params:xml:ns:pidf:caps\" \
             entity=\"pres:bob@example.com\">{tuples}<note>open</note></presence>\r\n"
        )
    }

    fn im_open(tuples: &str) -> bool {
        open(document(tuples).as_bytes()).unwrap().im_open
    }

    #[test]
    fn any_open_tuple_that_takes_messages_is_enough() {
        let tuple = |basic: &str, more: &str| {
            format!("<tuple id=\"t\"><status><basic>{basic}</basic></status>{more}<contact>sip:b@h</contact></tuple>")
        };
        let service =
            |id: &str| format!("<op:service-description><op:service-id>{id}</op:service-id></op:service-description>");
        assert!(im_open(&tuple("open", "")));
        assert!(im_open(&tuple("\n open ", "")));
        assert!(!im_open(&tuple("closed", "")));
        assert!(!im_open(&tuple("OPEN", "")));
        assert!(!im_open(""));
        assert!(im_open(&[tuple("closed", ""), tuple("open", "")].concat()));
        assert!(im_open(&[tuple("open", ""), tuple("closed", "")].concat()));
        assert!(im_open(&tuple("open", &service("org.openmobilealliance:IM-session"))));
        assert!(!im_open(&tuple("open", &service("org.openmobilealliance:PoC-session"))));
        assert!(im_open(&[tuple("open", &service("org.openmobilealliance:PoC-session")), tuple("open", "")].concat()));
        assert!(im_open(&tuple("open", "<caps:servcaps><caps:message>true</caps:message></caps:servcaps>")));
        assert!(!im_open(&tuple("open", "<caps:servcaps><caps:audio>true</caps:audio></caps:servcaps>")));
        assert!(!im_open("<tuple id=\"t\"><status/></tuple>"));
        // The word in some other place, or in some other namespace, says nothing.
        assert!(!im_open("<tuple id=\"t\"><note>open</note></tuple>"));
        assert!(!im_open("<tuple id=\"t\"><status><basic xmlns=\"u:x\">open</basic></status></tuple>"));
    }

    #[test]
    fn the_namespace_may_end_with_the_colon_of_the_rfc() {
        let document = b"<p:presence xmlns:p='urn:ietf:params:xml:ns:pidf:' entity='pres:b@h'><p:tuple id='1'>\
                         <p:status><p:basic>open</p:basic></p:status></p:tuple></p:presence>";
        assert_eq!(open(document), Ok(Presence { im_open: true }));
    }

    #[test]
    fn another_document_is_not_presence() {
        assert_eq!(open(b"<presence/>").map_err(|fault| fault.what), Err(XmlWhat::OtherRoot));
        assert_eq!(open(b"v=0\r\n").map_err(|fault| fault.what), Err(XmlWhat::NotWellFormed));
    }
}
