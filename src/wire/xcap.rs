//! XCAP Request-URIs (RFC 4825 6): which document, which node of it, and what prefixes mean.
//!
//! Knows paths, percent escapes and XPointer's `xmlns()`; knows no application usage and no user. What a path holds is decoded once
//! and never again. [`select`] finds the node.

pub mod select;

/// What stands between document selector and node selector.
const SEPARATOR: &str = "~~";

/// Segments of a document selector. Ours have two (`xcap-caps/global/index` has three); what has more names nothing.
pub const SEGMENTS_MAX: usize = 8;

/// Prefixes of one request. A selector that names a dozen namespaces is rare.
pub const BINDINGS_MAX: usize = 32;

/// Why a Request-URI is not understood: its sender's mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XcapFault {
    /// A `%` without two hexadecimal digits, or octets that are not UTF-8.
    Escape,
    /// The query is no XPointer expression, or binds more than [`BINDINGS_MAX`] prefixes.
    Query,
    /// The node selector has a prefix that the query does not bind (RFC 4825 8: 400).
    Prefix,
    /// A step that is none of RFC 4825's: an extension we do not know (RFC 4825 8: 404).
    Extension,
}

/// A path below the XCAP root, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The segments of the document selector, decoded: AUID, `users` or `global`, and so on. At most [`SEGMENTS_MAX`] and one.
    pub document: Vec<String>,
    /// The node selector, decoded; `None` for the document itself.
    pub node: Option<String>,
}

impl Target {
    /// Takes a path apart, which stands behind the XCAP root and begins with a slash.
    ///
    //= RFC 4825 8: MUST separate the document selector from the node selector by splitting at the first "~~"
    ///
    /// # Errors
    /// [`XcapFault::Escape`].
    pub fn parse(path: &str) -> Result<Target, XcapFault> {
        let mut document = Vec::new();
        let mut rest = Some(path.strip_prefix('/').unwrap_or(path));
        while let Some(path) = rest {
            let (segment, after) = match path.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (path, None),
            };
            let segment = decode(segment)?;
            if segment == SEPARATOR {
                return Ok(Target { document, node: Some(decode(after.unwrap_or_default())?) });
            }
            if document.len() <= SEGMENTS_MAX {
                document.push(segment);
            }
            rest = after;
        }
        Ok(Target { document, node: None })
    }
}

/// Percent escapes undone, once.
///
/// # Errors
/// [`XcapFault::Escape`].
pub fn decode(text: &str) -> Result<String, XcapFault> {
    let digit = |octet: Option<u8>| octet.and_then(|octet| char::from(octet).to_digit(16)).ok_or(XcapFault::Escape);
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        out.push(match octet {
            b'%' => (digit(octets.next())? << 4 | digit(octets.next())?) as u8,
            octet => octet,
        });
    }
    String::from_utf8(out).map_err(|_| XcapFault::Escape)
}

/// What the prefixes of a node selector stand for.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Bindings(Vec<(String, String)>);

impl Bindings {
    /// Reads a query as it stands in the URI.
    ///
    //= RFC 4825 6.4: MUST ignore any xpointer expressions not from the xmlns() scheme
    ///
    /// # Errors
    /// [`XcapFault::Escape`], [`XcapFault::Query`].
    pub fn parse(query: &str) -> Result<Bindings, XcapFault> {
        let text = decode(query)?;
        let mut bindings = Vec::new();
        let mut rest = text.trim_ascii_start();
        while !rest.is_empty() {
            let (scheme, after) = rest.split_once('(').ok_or(XcapFault::Query)?;
            let (data, after) = pointer_data(after).ok_or(XcapFault::Query)?;
            if scheme == "xmlns" {
                let (prefix, namespace) = data.split_once('=').ok_or(XcapFault::Query)?;
                if bindings.len() == BINDINGS_MAX {
                    return Err(XcapFault::Query);
                }
                bindings.push((prefix.trim_ascii().to_owned(), namespace.trim_ascii().to_owned()));
            }
            rest = after.trim_ascii_start();
        }
        Ok(Bindings(bindings))
    }

    /// What a prefix stands for; bound twice, the later counts.
    pub fn namespace(&self, prefix: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(bound, _)| bound == prefix);
        found.map(|(_, namespace)| namespace.as_str()).or((prefix == "xml").then_some(XML_NAMESPACE))
    }
}

/// Bound in every document.
const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// The data of an XPointer part up to its closing parenthesis, and what follows. `^` escapes a parenthesis or itself; parentheses
/// in pairs need no escape (XPointer Framework 3.1).
fn pointer_data(text: &str) -> Option<(String, &str)> {
    let mut data = String::new();
    let mut depth = 0;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '^' => match letters.next()?.1 {
                escaped @ ('^' | '(' | ')') => data.push(escaped),
                _ => return None,
            },
            ')' if depth == 0 => return Some((data, text.get(at + 1..)?)),
            letter => {
                match letter {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                data.push(letter);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(document: &[&str], node: Option<&str>) -> Result<Target, XcapFault> {
        Ok(Target {
            document: document.iter().map(|&segment| segment.to_owned()).collect(),
            node: node.map(str::to_owned),
        })
    }

    //= RFC 4825 8: MUST separate the document selector from the node selector by splitting at the first "~~"
    #[test]
    fn a_path_is_taken_apart_and_decoded_once() {
        let of = Target::parse;
        assert_eq!(
            of("/a/users/sip:joe@example.com/index"),
            target(&["a", "users", "sip:joe@example.com", "index"], None)
        );
        assert_eq!(
            of("/a/users/sip%3Aj%2Fe@example.com/i/~~/x%5b1%5d/y/~~/z"),
            target(&["a", "users", "sip:j/e@example.com", "i"], Some("x[1]/y/~~/z"))
        );
        assert_eq!(of("/a/%7e~/b"), target(&["a"], Some("b")), "an unreserved octet is the same escaped or not");
        assert_eq!(of("/a%252F"), target(&["a%2F"], None), "decoded once");
        assert_eq!(of("/a/~~"), target(&["a"], Some("")));
        assert_eq!(of("/a/b/"), target(&["a", "b", ""], None));
        assert_eq!(of("/../a"), target(&["..", "a"], None), "a name like others: nothing is resolved");
        for bad in ["/%", "/%4", "/%g0", "/%ff", "/a/~~/%c3", "/%+1", "/%c0%af"] {
            assert_eq!(of(bad), Err(XcapFault::Escape), "{bad}");
        }
        assert_eq!(of(&"/a".repeat(10_000)).unwrap().document.len(), SEGMENTS_MAX + 1);
    }

    //= RFC 4825 6.4: MUST ignore any xpointer expressions not from the xmlns() scheme
    #[test]
    fn prefixes_are_bound_by_xmlns_and_by_nothing_else() {
        let of = |query| Bindings::parse(query).unwrap();
        let two = of("xmlns(a=urn:test:one)xmlns(%62%20=%20urn:test:two)%20element(/1/2)x:other(a(b)c^)d)");
        assert_eq!((two.namespace("a"), two.namespace("b")), (Some("urn:test:one"), Some("urn:test:two")));
        assert_eq!(two.namespace("c"), None);
        assert_eq!(of("xmlns(a=urn:^(^^^))").namespace("a"), Some("urn:(^)"));
        assert_eq!(of("xmlns(a=1)xmlns(a=2)").namespace("a"), Some("2"));
        assert_eq!(of("").namespace("xml"), Some(XML_NAMESPACE));
        for bad in ["x", "xmlns(a=b", "xmlns(a)", "xmlns(a=^b)", "xmlns(a=b))"] {
            assert_eq!(Bindings::parse(bad), Err(XcapFault::Query), "{bad}");
        }
        assert_eq!(Bindings::parse("xmlns(a=%zz)"), Err(XcapFault::Escape));
        assert_eq!(Bindings::parse(&"xmlns(a=b)".repeat(BINDINGS_MAX + 1)), Err(XcapFault::Query));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[/~%0-9a-f()^=xmlns \\PC]{0,80}") {
            let _ = Target::parse(&text);
            let _ = Bindings::parse(&text);
        }
    }
}
