//! XML documents: the guard at the door and every vocabulary behind it.

use deferd::wire::xml::{DEPTH_MAX, DOCUMENT_MAX, Step, Walk};
use deferd::wire::{pidf, settings};

pub(super) fn xml(octets: &[u8]) {
    let well_formed = walked(octets);
    // No vocabulary takes what the guard refuses.
    let presence = pidf::open(octets);
    assert!(well_formed || presence.is_err());
    let delivery = settings::offline_delivery(octets, b"sip:alice@example.com");
    assert!(well_formed || delivery.is_err());
}

/// True when the document is walked through to its end.
fn walked(octets: &[u8]) -> bool {
    let Ok(mut walk) = Walk::new(octets) else { return false };
    assert!(octets.len() <= DOCUMENT_MAX);
    let mut open = 0usize;
    loop {
        match walk.step() {
            Ok(Some(Step::Open(element))) => {
                let _ =
                    (element.local_name(), element.namespace(), element.attribute(b"id"), element.boolean(b"active"));
                open += 1;
                assert!(open <= DEPTH_MAX);
            }
            Ok(Some(Step::Text(text))) => assert!(text.len() <= octets.len() && open > 0),
            Ok(Some(Step::Close)) => open -= 1,
            Ok(None) => {
                assert_eq!(open, 0, "what was opened was closed");
                return true;
            }
            Err(fault) => {
                assert!(fault.at as usize <= octets.len());
                return false;
            }
        }
        assert_eq!(walk.depth(), open);
    }
}
