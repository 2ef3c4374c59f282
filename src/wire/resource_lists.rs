//! URI lists (`application/resource-lists+xml`, RFC 4826 with RFC 5364), as requests carry them: which URIs are meant.
//!
//! Lists inside lists are flattened. References to other documents (`entry-ref`, `external`), copy control, anonymity and counts
//! say nothing to a service whose entries are stored messages, and are passed over (RFC 5366 4).

use super::uri::Uri;
use super::xml::{Step, Walk, XmlFault, XmlWhat};
use crate::base::span::Span;
use std::collections::HashSet;

/// Namespace of RFC 4826.
const NAMESPACE: &[u8] = b"urn:ietf:params:xml:ns:resource-lists";

/// The media type.
pub const MEDIA_TYPE: &[u8] = b"application/resource-lists+xml";

/// Most entries, duplicates not counted: what a person selects on a screen, ten times over.
pub const ENTRIES_MAX: usize = 1_000;

/// Longest document, octets: [`ENTRIES_MAX`] entries of 26-character ids with a long host name and generous
/// indentation are 128 KiB.
pub const DOCUMENT_MAX: usize = 256 * 1024;

/// Why a list is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListFault {
    /// No XML, or not this document.
    Xml(XmlFault),
    /// An entry without a `uri`, near this octet.
    EntryWithoutUri(u32),
    /// More than [`ENTRIES_MAX`] entries or [`DOCUMENT_MAX`] octets.
    TooLong,
}

impl ListFault {
    /// The status a request with this list is answered with.
    pub fn status(self) -> u16 {
        match self {
            ListFault::TooLong => 413,
            ListFault::Xml(_) | ListFault::EntryWithoutUri(_) => 400,
        }
    }
}

/// The URIs of one or several lists, in the order of the documents, each once.
#[derive(Clone, Default, Debug)]
pub struct UriList {
    text: Vec<u8>,
    entries: Vec<Span>,
    /// Canonical forms of those that are there.
    seen: HashSet<Box<[u8]>>,
}

impl UriList {
    /// None yet.
    pub fn new() -> UriList {
        UriList::default()
    }

    /// Adds what a document lists.
    ///
    //= RFC 5363 4.1: several recipient-list bodies are as one list that contains all the URIs
    pub fn read(&mut self, document: &[u8]) -> Result<(), ListFault> {
        let fault = |fault: XmlFault| match fault.what {
            XmlWhat::TooLong => ListFault::TooLong,
            _ => ListFault::Xml(fault),
        };
        let mut walk = Walk::bounded(document, DOCUMENT_MAX).map_err(fault)?;
        // For each open element: may an entry stand in it?
        let mut lists: Vec<bool> = Vec::with_capacity(8);
        while let Some(step) = walk.step().map_err(fault)? {
            match step {
                Step::Open(element) => {
                    let ours = element.namespace() == NAMESPACE;
                    let inside = lists.last().copied();
                    if inside.is_none() && !(ours && element.local_name() == b"resource-lists") {
                        return Err(ListFault::Xml(element.fault(XmlWhat::OtherRoot)));
                    }
                    if ours && inside == Some(true) && element.local_name() == b"entry" {
                        let uri = element.attribute(b"uri").map_err(fault)?;
                        let uri = uri.ok_or(ListFault::EntryWithoutUri(element.fault(XmlWhat::BadValue).at))?;
                        self.add(uri.trim_ascii().as_bytes())?;
                    }
                    let is_root = inside.is_none();
                    let holds_lists = is_root || inside == Some(true);
                    lists.push(ours && holds_lists && (is_root || element.local_name() == b"list"));
                }
                Step::Text(_) => {}
                Step::Close => {
                    lists.pop();
                }
            }
        }
        Ok(())
    }

    /// Adds one URI, unless it is there already.
    ///
    //= RFC 5363 4.1: a URI that is there more than once MUST be treated as if it appeared only once
    fn add(&mut self, uri: &[u8]) -> Result<(), ListFault> {
        let mut canonical = Vec::with_capacity(uri.len());
        match Uri::parse(uri) {
            Ok(uri) => uri.canonical(&mut canonical),
            Err(_) => canonical.extend_from_slice(uri),
        }
        if !self.seen.insert(canonical.into()) {
            return Ok(());
        }
        if self.entries.len() >= ENTRIES_MAX {
            return Err(ListFault::TooLong);
        }
        self.entries.push(Span::new(self.text.len(), uri.len()));
        self.text.extend_from_slice(uri);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The URIs in order, references resolved.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| entry.of(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document(inner: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\" \
             xmlns:cp=\"urn:ietf:params:xml:ns:copycontrol\">{inner}</resource-lists>"
        )
    }

    fn read(documents: &[&str]) -> Result<Vec<String>, ListFault> {
        let mut list = UriList::new();
        for document in documents {
            list.read(document.as_bytes())?;
        }
        Ok(list.iter().map(|uri| String::from_utf8_lossy(uri).into_owned()).collect())
    }

    #[test]
    fn the_list_of_rfc_5366_is_read_in_order() {
        let inner = "<list>\n<entry uri=\"sip:bill@example.com\" cp:copyControl=\"to\"  />\n\
            <entry uri=\"sip:joe@example.org\" cp:copyControl=\"cc\" />\n<entry uri=\"sip:ted@example.net\"/></list>";
        let expected = ["sip:bill@example.com", "sip:joe@example.org", "sip:ted@example.net"];
        assert_eq!(read(&[&document(inner)]).unwrap(), expected);
        // RFC 5366's example mis-cases the namespace of copy control, and other elements mean nothing here.
        let odd = "<list name=\"x\" xmlns:c=\"urn:ietf:params:xml:ns:copyControl\"><display-name>D</display-name>\
            <list><entry uri=\" sip:a@h?x=1&amp;y=2 \" c:copyControl=\"to\"><display-name>A</display-name></entry></list>\
            <entry-ref ref=\"users/x\"/><external anchor=\"http://x/\"/><other xmlns=\"u:x\"><entry uri=\"sip:no@h\"/></other></list>";
        assert_eq!(read(&[&document(odd)]).unwrap(), ["sip:a@h?x=1&y=2"]);
    }

    //= RFC 5363 4.1: several recipient-list bodies are as one list that contains all the URIs
    //= RFC 5363 4.1: a URI that is there more than once MUST be treated as if it appeared only once
    #[test]
    fn lists_are_joined_and_each_uri_counts_once() {
        let one = document("<list><entry uri=\"sip:1@Host\"/><entry uri=\"sip:1@host\"/></list>");
        let two = document(
            "<list><entry uri=\"sip:2@h\"/><entry uri=\"sip:1@HOST;x=y\"/><entry uri=\"1@h\"/><entry uri=\"1@h\"/></list>",
        );
        assert_eq!(read(&[&one, &two]).unwrap(), ["sip:1@Host", "sip:2@h", "1@h"]);
        assert_eq!(read(&[&document("<list/>")]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_list_or_too_much_has_its_status() {
        let many = |count: usize| {
            document(&format!(
                "<list>{}</list>",
                (0..count).map(|n| format!("<entry uri=\"sip:{n}@h\"/>")).collect::<String>()
            ))
        };
        assert_eq!(read(&[&many(ENTRIES_MAX)]).unwrap().len(), ENTRIES_MAX);
        let deep = format!("{}{}", "<list>".repeat(40), "</list>".repeat(40));
        let table = [
            (many(ENTRIES_MAX + 1), 413),
            (document(&" ".repeat(DOCUMENT_MAX)), 413),
            (document("<list><entry/></list>"), 400),
            (document(&deep), 400),
            ("<resource-lists/>".to_owned(), 400),
            ("<list/>".to_owned(), 400),
            ("v=0".to_owned(), 400),
            (format!("<!DOCTYPE a [<!ENTITY x 'y'>]>{}", document("<list/>")), 400),
        ];
        for (document, status) in table {
            assert_eq!(read(&[&document]).map_err(ListFault::status), Err(status), "{}", document.len());
        }
    }

    proptest! {
        #[test]
        fn nothing_that_looks_like_a_list_makes_it_panic(inner in "[<>/listentryuri=\"' &;]{0,200}") {
            let _ = read(&[&document(&inner), &inner]);
        }
    }
}
