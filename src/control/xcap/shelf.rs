//! The documents that were made last. A client that reads node after node of a long one has it made once.
//!
//! Nothing here is ever given out on its own authority: whoever takes a document names the entity tag that its home told a moment ago.

use crate::deferred::identity::Address;
use bytes::Bytes;
use std::collections::VecDeque;

/// Documents on the shelf; looked through one after the other.
const DOCUMENTS_MAX: usize = 64;

/// Their octets together: two of the longest.
const OCTETS_MAX: usize = 64 << 20;

/// A document that was made.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Its entity tag, without quotes.
    pub(super) tag: String,
    /// All of it.
    pub(super) octets: Bytes,
    /// Messages that are not in it.
    pub(super) left_out: u64,
}

/// The shelf; who was asked for last stands last.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    documents: VecDeque<(Address, Held)>,
    octets: usize,
}

impl Shelf {
    /// A user's document, if it is here and has this tag.
    pub(super) fn take(&mut self, owner: &Address, tag: &str) -> Option<Held> {
        let at = self.documents.iter().position(|(of, _)| of == owner)?;
        let found = self.documents.remove(at)?;
        if found.1.tag != tag {
            self.octets -= found.1.octets.len();
            return None;
        }
        let held = found.1.clone();
        self.documents.push_back(found);
        Some(held)
    }

    /// Keeps a document for a while.
    pub(super) fn put(&mut self, owner: Address, held: Held) {
        self.octets += held.octets.len();
        if let Some(at) = self.documents.iter().position(|(of, _)| *of == owner) {
            self.octets -= self.documents.remove(at).map_or(0, |(_, old)| old.octets.len());
        }
        self.documents.push_back((owner, held));
        while self.documents.len() > DOCUMENTS_MAX || self.octets > OCTETS_MAX {
            let Some((_, old)) = self.documents.pop_front() else { break };
            self.octets -= old.octets.len();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_given_while_its_tag_is_the_users() {
        let user = |n: usize| Address::from_canonical(format!("sip:{n}@example.org").as_bytes());
        let held = |tag: &str, octets| Held { tag: tag.into(), octets: Bytes::from(vec![b' '; octets]), left_out: 0 };
        let mut shelf = Shelf::default();
        shelf.put(user(1), held("a", 10));
        assert_eq!(shelf.take(&user(1), "a").unwrap().octets.len(), 10);
        assert!(shelf.take(&user(2), "a").is_none());
        assert!(shelf.take(&user(1), "b").is_none() && shelf.octets == 0, "an old one goes");
        (0..2 * DOCUMENTS_MAX).for_each(|n| shelf.put(user(n), held("a", 1)));
        assert_eq!((shelf.documents.len(), shelf.octets), (DOCUMENTS_MAX, DOCUMENTS_MAX));
        shelf.put(user(500), held("a", OCTETS_MAX));
        assert_eq!(shelf.octets, OCTETS_MAX);
        shelf.put(user(500), held("b", 5));
        assert_eq!((shelf.documents.len(), shelf.octets), (1, 5));
    }
}
