//! XML documents: the guard at the door and every vocabulary behind it.

use deferd::wire::history::{self, History};
use deferd::wire::imdn::{Disposition, Notification};
use deferd::wire::resource_lists::{ENTRIES_MAX, UriList};
use deferd::wire::xml::{DEPTH_MAX, DOCUMENT_MAX, Step, Walk};
use deferd::wire::{pidf, settings};

pub(super) fn xml(octets: &[u8]) {
    let well_formed = walked(octets);
    // No vocabulary takes what the guard refuses.
    let presence = pidf::open(octets);
    assert!(well_formed || presence.is_err());
    let delivery = settings::offline_delivery(octets, b"sip:alice@example.com");
    assert!(well_formed || delivery.is_err());
    let mut list = UriList::new();
    let read = list.read(octets);
    assert!(well_formed || read.is_err() || octets.len() > DOCUMENT_MAX);
    assert!(list.len() <= ENTRIES_MAX && list.iter().count() == list.len());
    // What we write of others' words is well-formed, whatever they are.
    let mut out = Vec::new();
    let disposition = Disposition::Failed;
    let words = Notification {
        message_id: octets,
        date_time: octets,
        recipient: octets,
        original_recipient: octets,
        disposition,
    };
    words.write(&mut out);
    assert!(out.len() > DOCUMENT_MAX || walked(&out), "{}", out.escape_ascii());
    out.clear();
    let message =
        History { reference: octets, subject: octets, from: octets, to: octets, auth_id: octets, ..History::default() };
    history::write(&mut out, [message].into_iter());
    assert!(out.len() > DOCUMENT_MAX || walked(&out), "{}", out.escape_ascii());
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
