//! The guard at the door of every XML document: what passes is well-formed, small, shallow and free of entities.
//!
//! It knows XML and its namespaces, and no vocabulary: [`pidf`](super::pidf) and [`settings`](super::settings) bring
//! theirs. A document type declaration is refused, so nothing can be defined and nothing can grow (XXE, "billion
//! laughs"); only the five entities of XML itself and character references are understood.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{NamespaceResolver, PrefixDeclaration, ResolveResult};
use std::borrow::Cow;

/// Longest document, octets. A settings or presence document of a phone is 0.5 to 4 KiB; 64 KiB also is what one datagram
/// holds.
pub const DOCUMENT_MAX: usize = 64 * 1024;

/// Deepest nesting. PIDF with RFC 5196 capabilities needs seven, poc-settings five.
pub const DEPTH_MAX: usize = 32;

/// Most attributes of one element, namespace declarations among them. A root that declares ten vocabularies is rare.
/// With [`DEPTH_MAX`] this bounds what is in scope at 1,024 declarations.
pub const ATTRIBUTES_MAX: usize = 32;

/// Why a document is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XmlFault {
    /// Octet of the document near which it went wrong.
    pub at: u32,
    /// What is wrong there.
    pub what: XmlWhat,
}

/// The findings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XmlWhat {
    /// More than [`DOCUMENT_MAX`] octets, or than its vocabulary allows.
    TooLong,
    /// Not UTF-8, the one encoding we read (RFC 3863 4.1 asks for it).
    NotUtf8,
    /// Tags that do not match, no root, two roots, text outside the root, an attribute twice, an undeclared prefix ...
    NotWellFormed,
    /// More than [`DEPTH_MAX`] elements inside each other.
    TooDeep,
    /// More than [`ATTRIBUTES_MAX`] attributes at one element.
    TooManyAttributes,
    /// A document type declaration.
    DocumentType,
    /// An entity that XML itself does not define.
    Entity,
    /// Well-formed, but not the document that its Content-Type promised.
    OtherRoot,
    /// A value that is not what its schema says: a boolean that is neither true nor false.
    BadValue,
}

/// One step through a document. Empty elements open and close like all others.
#[derive(Debug)]
pub enum Step<'w, 'a> {
    /// An element begins.
    Open(Element<'w, 'a>),
    /// A stretch of text; an element's text may come in several.
    Text(Cow<'a, str>),
    /// The element that was opened last and is still open ends.
    Close,
}

/// The start tag of an element.
#[derive(Debug)]
pub struct Element<'w, 'a> {
    scope: &'w NamespaceResolver,
    tag: BytesStart<'a>,
    at: u32,
    begins: usize,
}

impl Element<'_, '_> {
    /// Its name without prefix.
    pub fn local_name(&self) -> &[u8] {
        self.tag.local_name().into_inner()
    }

    /// The namespace it is in; empty when in none.
    pub fn namespace(&self) -> &[u8] {
        match self.scope.resolve_element(self.tag.name()).0 {
            ResolveResult::Bound(namespace) => namespace.into_inner(),
            ResolveResult::Unbound | ResolveResult::Unknown(_) => b"",
        }
    }

    /// True when it is `local` of `namespace`.
    pub fn is(&self, namespace: &[u8], local: &[u8]) -> bool {
        self.local_name() == local && self.namespace() == namespace
    }

    /// The value of its attribute `name`, which has no prefix, with references resolved.
    pub fn attribute(&self, name: &[u8]) -> Result<Option<Cow<'_, str>>, XmlFault> {
        for attribute in self.tag.attributes() {
            let attribute = attribute.map_err(|_| self.fault(XmlWhat::NotWellFormed))?;
            if attribute.key.as_ref() == name {
                return attribute.unescape_value().map(Some).map_err(|_| self.fault(XmlWhat::Entity));
            }
        }
        Ok(None)
    }

    /// The attribute `name` read as an xs:boolean: `true`, `1`, `false`, `0`, blanks around it allowed.
    pub fn boolean(&self, name: &[u8]) -> Result<Option<bool>, XmlFault> {
        let Some(value) = self.attribute(name)? else { return Ok(None) };
        boolean(&value).map(Some).ok_or(self.fault(XmlWhat::BadValue))
    }

    /// Octet of the document at which its start tag begins.
    pub fn begins(&self) -> usize {
        self.begins
    }

    /// Its name as it is written, prefix and all.
    pub fn written_name(&self) -> &[u8] {
        self.tag.name().into_inner()
    }

    /// The value of its attribute `local` of `namespace` (empty: of none) as it is written, between its quotes. A namespace
    /// declaration is no attribute.
    pub fn written_attribute(&self, namespace: &[u8], local: &[u8]) -> Result<Option<Cow<'_, str>>, XmlFault> {
        for attribute in self.tag.attributes() {
            let attribute = attribute.map_err(|_| self.fault(XmlWhat::NotWellFormed))?;
            let (found, name) = self.scope.resolve_attribute(attribute.key);
            let found = match found {
                ResolveResult::Bound(namespace) => namespace.into_inner(),
                ResolveResult::Unbound | ResolveResult::Unknown(_) => b"".as_slice(),
            };
            let declares = attribute.key.as_namespace_binding().is_some();
            if !declares && name.into_inner() == local && found == namespace {
                let text = match attribute.value {
                    Cow::Borrowed(octets) => String::from_utf8_lossy(octets),
                    Cow::Owned(octets) => String::from_utf8_lossy(&octets).into_owned().into(),
                };
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Its namespace declarations as they are written: prefix (empty: the default), and what it stands for.
    pub fn declarations(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.tag.attributes().flatten().filter_map(|attribute| {
            let prefix = match attribute.key.as_namespace_binding()? {
                PrefixDeclaration::Default => Vec::new(),
                PrefixDeclaration::Named(prefix) => prefix.to_vec(),
            };
            Some((prefix, attribute.value.into_owned()))
        })
    }

    /// A fault at this element.
    pub fn fault(&self, what: XmlWhat) -> XmlFault {
        XmlFault { at: self.at, what }
    }
}

/// Appends text as character data or as the inside of a quoted attribute. What XML cannot hold (control characters, octets that
/// are not UTF-8) is left out or becomes U+FFFD.
pub fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for letter in String::from_utf8_lossy(text).chars() {
        match letter {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            // A bare CR would be read back as a line feed.
            '\r' => out.extend_from_slice(b"&#13;"),
            '\t' | '\n' => out.push(letter as u8),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            letter => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends `<name>text</name>` and a line end, behind `indent`. `name` is one of ours.
pub fn element(out: &mut Vec<u8>, indent: &[u8], name: &'static [u8], text: &[u8]) {
    for part in [indent, b"<", name, b">"] {
        out.extend_from_slice(part);
    }
    escape(out, text);
    for part in [b"</".as_slice(), name, b">\r\n"] {
        out.extend_from_slice(part);
    }
}

/// An xs:boolean.
pub fn boolean(text: &str) -> Option<bool> {
    match text.trim_ascii() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A walk through one document, from its root's start tag to its end.
#[derive(Debug)]
pub struct Walk<'a> {
    reader: Reader<&'a [u8]>,
    scope: NamespaceResolver,
    depth: usize,
    rooted: bool,
}

impl<'a> Walk<'a> {
    /// Begins; a byte order mark is passed over.
    pub fn new(document: &'a [u8]) -> Result<Walk<'a>, XmlFault> {
        Walk::bounded(document, DOCUMENT_MAX)
    }

    /// The same for a vocabulary whose documents have another bound, in octets.
    pub fn bounded(document: &'a [u8], octets_max: usize) -> Result<Walk<'a>, XmlFault> {
        if document.len() > octets_max {
            return Err(XmlFault { at: octets_max as u32, what: XmlWhat::TooLong });
        }
        let text = std::str::from_utf8(document)
            .map_err(|error| XmlFault { at: error.valid_up_to() as u32, what: XmlWhat::NotUtf8 })?;
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.check_comments = true;
        Ok(Walk { reader, scope: NamespaceResolver::default(), depth: 0, rooted: false })
    }

    /// Octets read: behind the last step's last octet.
    pub fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    /// How many elements are open.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The next step; `None` at the end of a document that was well-formed to its last octet.
    pub fn step(&mut self) -> Result<Option<Step<'_, 'a>>, XmlFault> {
        loop {
            let begins = self.position();
            let event = self.reader.read_event();
            let at = self.reader.buffer_position() as u32;
            let fault = |what| XmlFault { at, what };
            match event.map_err(|_| fault(XmlWhat::NotWellFormed))? {
                Event::Start(tag) => {
                    if self.depth == 0 && self.rooted {
                        return Err(fault(XmlWhat::NotWellFormed));
                    }
                    if self.depth >= DEPTH_MAX {
                        return Err(fault(XmlWhat::TooDeep));
                    }
                    // Counted before anything compares them with each other.
                    if tag.attributes().with_checks(false).take(ATTRIBUTES_MAX + 1).count() > ATTRIBUTES_MAX {
                        return Err(fault(XmlWhat::TooManyAttributes));
                    }
                    if tag.attributes().any(|attribute| attribute.is_err()) || self.scope.push(&tag).is_err() {
                        return Err(fault(XmlWhat::NotWellFormed));
                    }
                    if let ResolveResult::Unknown(_) = self.scope.resolve_element(tag.name()).0 {
                        return Err(fault(XmlWhat::NotWellFormed));
                    }
                    self.depth += 1;
                    self.rooted = true;
                    return Ok(Some(Step::Open(Element { scope: &self.scope, tag, at, begins })));
                }
                Event::End(_) => {
                    // The reader has matched the names already.
                    self.depth = self.depth.saturating_sub(1);
                    self.scope.pop();
                    return Ok(Some(Step::Close));
                }
                Event::Text(text) => {
                    let text = text.decode().map_err(|_| fault(XmlWhat::NotUtf8))?;
                    if self.depth > 0 {
                        return Ok(Some(Step::Text(text)));
                    }
                    if !text.trim_ascii().is_empty() {
                        return Err(fault(XmlWhat::NotWellFormed));
                    }
                }
                Event::CData(data) => {
                    if self.depth == 0 {
                        return Err(fault(XmlWhat::NotWellFormed));
                    }
                    return Ok(Some(Step::Text(data.decode().map_err(|_| fault(XmlWhat::NotUtf8))?)));
                }
                Event::GeneralRef(reference) => {
                    if self.depth == 0 {
                        return Err(fault(XmlWhat::NotWellFormed));
                    }
                    if let Some(letter) = reference.resolve_char_ref().map_err(|_| fault(XmlWhat::NotWellFormed))? {
                        return Ok(Some(Step::Text(Cow::Owned(letter.to_string()))));
                    }
                    let name = reference.decode().map_err(|_| fault(XmlWhat::NotUtf8))?;
                    let text = resolve_xml_entity(&name).ok_or(fault(XmlWhat::Entity))?;
                    return Ok(Some(Step::Text(Cow::Borrowed(text))));
                }
                Event::DocType(_) => return Err(fault(XmlWhat::DocumentType)),
                Event::Eof => {
                    return if self.depth == 0 && self.rooted { Ok(None) } else { Err(fault(XmlWhat::NotWellFormed)) };
                }
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(document: &[u8]) -> Result<String, XmlWhat> {
        let mut out = String::new();
        let mut walk = Walk::new(document).map_err(|fault| fault.what)?;
        while let Some(step) = walk.step().map_err(|fault| fault.what)? {
            match step {
                Step::Open(element) => {
                    out.push_str(&format!(
                        "<{{{}}}{}",
                        String::from_utf8_lossy(element.namespace()),
                        String::from_utf8_lossy(element.local_name())
                    ));
                    if let Some(id) = element.attribute(b"id").map_err(|fault| fault.what)? {
                        out.push_str(&format!(" {id}"));
                    }
                    out.push('>');
                }
                Step::Text(text) => out.push_str(&text),
                Step::Close => out.push('.'),
            }
        }
        Ok(out)
    }

    #[test]
    fn namespaces_references_and_empty_elements_are_resolved() {
        let document = "\u{feff}<?xml version='1.0'?><!-- c --><a xmlns='u:a' xmlns:b='u:b' id='x&lt;&#65;'>\
                        t&amp;&#x42;<![CDATA[<c>]]><b:e/><d xmlns=''/></a>\r\n";
        assert_eq!(walk(document.as_bytes()).as_deref(), Ok("<{u:a}a x<A>t&B<c><{u:b}e>.<{}d>.."));
    }

    #[test]
    fn what_could_grow_or_is_broken_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(DEPTH_MAX + 1), "</a>".repeat(DEPTH_MAX + 1));
        let wide = format!("<a {}/>", (0..=ATTRIBUTES_MAX).map(|n| format!("x{n}='' ")).collect::<String>());
        let long = format!("<a>{}</a>", " ".repeat(DOCUMENT_MAX));
        let table: &[(&[u8], XmlWhat)] = &[
            (b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", XmlWhat::DocumentType),
            (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", XmlWhat::DocumentType),
            (b"<a>&x;</a>", XmlWhat::Entity),
            (b"<a id='&x;'/>", XmlWhat::Entity),
            (b"", XmlWhat::NotWellFormed),
            (b"hello", XmlWhat::NotWellFormed),
            (b"<a>", XmlWhat::NotWellFormed),
            (b"<a></b>", XmlWhat::NotWellFormed),
            (b"<a/><a/>", XmlWhat::NotWellFormed),
            (b"<a/>x", XmlWhat::NotWellFormed),
            (b"<a id='1' id='2'/>", XmlWhat::NotWellFormed),
            (b"<b:a/>", XmlWhat::NotWellFormed),
            (b"<a id=1/>", XmlWhat::NotWellFormed),
            (b"<a>\xff</a>", XmlWhat::NotUtf8),
            (b"\xff\xfe<\0a\0/\0>\0", XmlWhat::NotUtf8),
            (deep.as_bytes(), XmlWhat::TooDeep),
            (wide.as_bytes(), XmlWhat::TooManyAttributes),
            (long.as_bytes(), XmlWhat::TooLong),
        ];
        for (document, expected) in table {
            assert_eq!(walk(document), Err(*expected), "{}", String::from_utf8_lossy(document));
        }
    }

    #[test]
    fn booleans_are_those_of_xml_schema() {
        for (text, value) in [("true", Some(true)), (" 1 ", Some(true)), ("false", Some(false)), ("0", Some(false))] {
            assert_eq!(boolean(text), value);
        }
        assert_eq!(boolean("TRUE"), None);
        assert_eq!(boolean(""), None);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(document in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = walk(&document);
        }

        #[test]
        fn nothing_that_looks_like_xml_makes_it_panic(document in "[<>/a-c:='\" &;#x!\\[\\]?-]{0,200}") {
            let _ = walk(document.as_bytes());
        }
    }
}
