//! The IM service settings document (12.2.2.2, Appendix E): does the user want deferred messages delivered?
//!
//! The schema's text could not be had, its names could (`manual::decisions`, D18). So the one element that matters is found wherever it
//! stands: directly under an IM root, or as an extension of RFC 4354's `poc-settings`.

use super::xml::{Step, Walk, XmlFault};

/// Namespace of the IM service settings (OMNA).
const IM: &[u8] = b"urn:oma:xml:im:service-settings";

/// What the document says about delivery to a user who comes back: the `active` of `<deferred-settings>
/// <offline-delivery active="..."/>`. `None`: it says nothing. Of several `<entity>` the one whose `id` is `publisher`
/// counts, else the last that speaks. A value that is no boolean is [`XmlWhat::BadValue`](super::xml::XmlWhat::BadValue).
pub fn offline_delivery(document: &[u8], publisher: &[u8]) -> Result<Option<bool>, XmlFault> {
    let mut walk = Walk::new(document)?;
    // For each open element: is it <im:deferred-settings>? And at which depth began an <entity> that is the publisher's?
    let mut deferred: Vec<bool> = Vec::with_capacity(8);
    let mut own_since: Option<usize> = None;
    let mut own: Option<bool> = None;
    let mut last: Option<bool> = None;
    while let Some(step) = walk.step()? {
        match step {
            Step::Open(element) => {
                if element.local_name() == b"entity"
                    && own_since.is_none()
                    && element.attribute(b"id")?.is_some_and(|id| id.as_bytes() == publisher)
                {
                    own_since = Some(deferred.len());
                }
                if deferred.last() == Some(&true)
                    && element.is(IM, b"offline-delivery")
                    && let Some(active) = element.boolean(b"active")?
                {
                    last = Some(active);
                    if own_since.is_some() {
                        own = Some(active);
                    }
                }
                deferred.push(element.is(IM, b"deferred-settings"));
            }
            Step::Text(_) => {}
            Step::Close => {
                deferred.pop();
                if own_since == Some(deferred.len()) {
                    own_since = None;
                }
            }
        }
    }
    Ok(own.or(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xml::XmlWhat;

    const ALICE: &[u8] = b"sip:alice@example.com";

    fn entity(id: &str, active: &str) -> String {
        format!(
            "<entity id=\"{id}\"><im:deferred-settings><im:offline-delivery active=\"{active}\"/></im:deferred-settings>\
             <im:vis-settings><im:vis-status active=\"true\"/></im:vis-settings></entity>"
        )
    }

    fn poc(entities: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<poc-settings xmlns=\"urn:oma:params:xml:ns:poc:poc-settings\" \
             xmlns:im=\"urn:oma:xml:im:service-settings\">\n {entities}\n</poc-settings>\n"
        )
    }

    #[test]
    fn the_document_of_the_mission_is_understood() {
        for (value, said) in [("true", true), ("1", true), ("false", false), ("0", false)] {
            let document = poc(&entity("do39s8zksn2d98x", value));
            assert_eq!(offline_delivery(document.as_bytes(), ALICE), Ok(Some(said)));
        }
    }

    #[test]
    fn the_publishers_own_entity_counts_else_the_last() {
        let own = entity("sip:alice@example.com", "true");
        let (first, second) = (entity("a", "true"), entity("b", "false"));
        let said = |entities: &[&str]| offline_delivery(poc(&entities.concat()).as_bytes(), ALICE);
        assert_eq!(said(&[&own, &second]), Ok(Some(true)));
        assert_eq!(said(&[&second, &own]), Ok(Some(true)));
        assert_eq!(said(&[&first, &second]), Ok(Some(false)));
        assert_eq!(said(&[&second, &first]), Ok(Some(true)));
        assert_eq!(said(&["<entity id=\"sip:alice@example.com\"/>", &second]), Ok(Some(false)));
    }

    #[test]
    fn an_im_root_of_its_own_is_understood_too() {
        let document = b"<im-settings xmlns='urn:oma:xml:im:service-settings'><service-id>x</service-id>\
                         <deferred-settings><offline-delivery active='false'></offline-delivery></deferred-settings></im-settings>";
        assert_eq!(offline_delivery(document, ALICE), Ok(Some(false)));
    }

    #[test]
    fn what_is_not_said_is_none_and_what_is_no_boolean_is_a_fault() {
        let said = |inner: &str| offline_delivery(poc(inner).as_bytes(), ALICE).map_err(|fault| fault.what);
        assert_eq!(said(""), Ok(None));
        assert_eq!(said("<im:offline-delivery active=\"true\"/>"), Ok(None), "its parent is another");
        assert_eq!(said("<im:deferred-settings><im:offline-delivery/></im:deferred-settings>"), Ok(None));
        assert_eq!(said("<deferred-settings><offline-delivery active=\"true\"/></deferred-settings>"), Ok(None));
        assert_eq!(said(&entity("a", "yes")), Err(XmlWhat::BadValue));
        assert_eq!(said("<entity>"), Err(XmlWhat::NotWellFormed));
    }
}
