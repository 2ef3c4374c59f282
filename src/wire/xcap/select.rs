//! Node selectors (RFC 4825 6.3): from the text of one to the element, the attribute or the namespace bindings that it means.
//!
//! A selector is read without the document, so that what is wrong with it is known before anything is fetched. Selecting is one walk
//! through the document: every step leads to exactly one element, or the selector means nothing.

use super::{Bindings, XcapFault};
use crate::wire::xml::{DEPTH_MAX, Element, Step as Stride, Walk, XmlFault};
use quick_xml::escape::unescape;
use std::ops::Range;

/// A name with its namespace; empty for none.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Name {
    namespace: String,
    local: String,
}

/// One step: which child.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Step {
    /// `None`: any.
    name: Option<Name>,
    position: Option<usize>,
    attribute: Option<(Name, String)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Terminal {
    Element,
    Attribute(Name),
    Namespaces,
}

/// A node selector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector {
    steps: Vec<Step>,
    terminal: Terminal,
}

/// What a selector means in a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selected {
    /// An element: its octets, from the bracket that opens it to the one that closes it.
    Element(Range<usize>),
    /// An attribute's value, in quotes.
    Attribute(String),
    /// The bindings in scope, as an empty element (RFC 4825 10).
    Namespaces(Vec<u8>),
}

impl Selector {
    /// Reads a selector, decoded. `default` is what names of elements without a prefix are in.
    ///
    /// # Errors
    /// [`XcapFault::Extension`], [`XcapFault::Prefix`].
    pub fn parse(text: &str, bindings: &Bindings, default: &str) -> Result<Selector, XcapFault> {
        let mut selector = Selector { steps: Vec::new(), terminal: Terminal::Element };
        let mut rest = text;
        loop {
            if !selector.steps.is_empty() {
                if rest == "namespace::*" {
                    selector.terminal = Terminal::Namespaces;
                    return Ok(selector);
                }
                if let Some(name) = rest.strip_prefix('@') {
                    let (name, "") = qname(name, bindings, "")? else { return Err(XcapFault::Extension) };
                    selector.terminal = Terminal::Attribute(name);
                    return Ok(selector);
                }
            }
            // Deeper than any document of ours.
            if selector.steps.len() == DEPTH_MAX {
                return Err(XcapFault::Extension);
            }
            let (step, after) = Step::parse(rest, bindings, default)?;
            selector.steps.push(step);
            rest = match after.strip_prefix('/') {
                Some(rest) => rest,
                None if after.is_empty() => return Ok(selector),
                None => return Err(XcapFault::Extension),
            };
        }
    }

    /// True for `namespace::*`, which nobody can write.
    pub fn is_of_namespaces(&self) -> bool {
        self.terminal == Terminal::Namespaces
    }
}

impl Step {
    fn parse<'t>(text: &'t str, bindings: &Bindings, default: &str) -> Result<(Step, &'t str), XcapFault> {
        let (name, mut rest) = match text.strip_prefix('*') {
            Some(rest) => (None, rest),
            None => qname(text, bindings, default).map(|(name, rest)| (Some(name), rest))?,
        };
        let mut step = Step { name, position: None, attribute: None };
        while let Some(predicate) = rest.strip_prefix('[') {
            rest = match predicate.strip_prefix('@') {
                Some(test) if step.attribute.is_none() => {
                    let (name, test) = qname(test, bindings, "")?;
                    let (value, after) = quoted(test.strip_prefix('=')).ok_or(XcapFault::Extension)?;
                    step.attribute = Some((name, value));
                    after
                }
                None if step.position.is_none() && step.attribute.is_none() => {
                    let (digits, after) = predicate.split_once(']').ok_or(XcapFault::Extension)?;
                    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
                        return Err(XcapFault::Extension);
                    }
                    // Beyond all numbers is beyond all elements.
                    step.position = Some(digits.parse().unwrap_or(usize::MAX));
                    after
                }
                _ => return Err(XcapFault::Extension),
            };
        }
        Ok((step, rest))
    }

    /// True when an element is one of those it means, but for its position.
    fn is_named(&self, element: &Element<'_, '_>) -> bool {
        self.name.as_ref().is_none_or(|name| element.is(name.namespace.as_bytes(), name.local.as_bytes()))
    }

    fn has_attribute(&self, element: &Element<'_, '_>) -> Result<bool, XmlFault> {
        let Some((name, wanted)) = &self.attribute else { return Ok(true) };
        let found = element.written_attribute(name.namespace.as_bytes(), name.local.as_bytes())?;
        Ok(found.is_some_and(|found| unescape(&found).is_ok_and(|found| found == *wanted)))
    }
}

/// A QName at the start of a text, expanded, and what follows.
fn qname<'t>(text: &'t str, bindings: &Bindings, default: &str) -> Result<(Name, &'t str), XcapFault> {
    let end = text.find(|letter: char| !is_name_letter(letter)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).ok_or(XcapFault::Extension)?;
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) => (Some(prefix), local),
        None => (None, name),
    };
    if !is_ncname(local) || prefix.is_some_and(|prefix| !is_ncname(prefix)) {
        return Err(XcapFault::Extension);
    }
    //= RFC 4825 8: a prefix not defined in an xmlns() expression: MUST reject with a 400
    let namespace = match prefix {
        Some(prefix) => bindings.namespace(prefix).ok_or(XcapFault::Prefix)?,
        None => default,
    };
    Ok((Name { namespace: namespace.to_owned(), local: local.to_owned() }, rest))
}

/// What may stand in a QName. Of the letters beyond ASCII all are taken: one that XML forbids names nothing in any document.
fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_' | ':') || !letter.is_ascii()
}

fn is_ncname(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(':')
        && !name.starts_with(|first: char| first.is_ascii_digit() || "-.".contains(first))
}

/// An attribute's value in quotes of either kind and the bracket behind it; its references resolved, and what follows.
fn quoted(text: Option<&str>) -> Option<(String, &str)> {
    let text = text?;
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let (value, rest) = text.get(1..)?.split_once(quote)?;
    Some((unescape(value).ok()?.into_owned(), rest.strip_prefix(']')?))
}

/// Finds what a selector means in a document of at most `octets_max`; `None` when that is nothing, or more than one.
///
//= RFC 4825 6.3: if the result is multiple elements, the node selector is invalid
///
/// # Errors
/// The document is not well-formed.
pub fn select(document: &[u8], selector: &Selector, octets_max: usize) -> Result<Option<Selected>, XmlFault> {
    let mut walk = Walk::bounded(document, octets_max)?;
    let steps = &selector.steps;
    // Elements of each level that had the step's name, and whether one was chosen; the open ones among those chosen.
    let mut seen = vec![(0usize, false); steps.len()];
    let (mut depth, mut chosen) = (0, 0);
    let mut scope: Vec<(usize, Vec<u8>, Vec<u8>)> = Vec::new();
    let (mut selected, mut begun) = (None, None);
    loop {
        let closes = match walk.step()? {
            None => return Ok(selected),
            Some(Stride::Text(_)) => continue,
            Some(Stride::Close) => true,
            Some(Stride::Open(element)) => {
                let here = if depth == chosen { steps.get(depth).zip(seen.get_mut(depth)) } else { None };
                if let Some((step, (named, found))) = here
                    && step.is_named(&element)
                {
                    *named += 1;
                    let counts = step.position.is_none_or(|position| position == *named);
                    if counts && step.has_attribute(&element)? {
                        if std::mem::replace(found, true) {
                            return Ok(None);
                        }
                        chosen += 1;
                        scope.extend(element.declarations().map(|(prefix, namespace)| (depth, prefix, namespace)));
                        if chosen == steps.len() {
                            begun = Some(element.begins());
                            selected = match &selector.terminal {
                                Terminal::Element => None,
                                Terminal::Attribute(name) => attribute(&element, name)?,
                                Terminal::Namespaces => Some(Selected::Namespaces(bindings(&element, &scope))),
                            };
                        }
                    }
                }
                depth += 1;
                false
            }
        };
        if closes {
            depth -= 1;
            if chosen > depth {
                chosen = depth;
                scope.retain(|(level, ..)| *level < depth);
                if depth + 1 == steps.len() && selector.terminal == Terminal::Element {
                    selected = begun.map(|begun| Selected::Element(begun..walk.position()));
                }
            }
        }
    }
}

/// The value of an attribute, in the grammar of AttValue.
fn attribute(element: &Element<'_, '_>, name: &Name) -> Result<Option<Selected>, XmlFault> {
    let value = element.written_attribute(name.namespace.as_bytes(), name.local.as_bytes())?;
    Ok(value.map(|value| {
        let quote = if value.contains('"') { '\'' } else { '"' };
        Selected::Attribute(format!("{quote}{value}{quote}"))
    }))
}

//= RFC 4825 10: the same local-name and the same namespace-prefix, an xmlns attribute for the default, one for each prefix in scope
fn bindings(element: &Element<'_, '_>, scope: &[(usize, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = [b"<", element.written_name()].concat();
    for (at, (_, prefix, namespace)) in scope.iter().enumerate() {
        let again = scope.iter().skip(at + 1).any(|(_, later, _)| later == prefix);
        if again || prefix.is_empty() && namespace.is_empty() {
            continue;
        }
        out.extend_from_slice(if prefix.is_empty() { b" xmlns" } else { b" xmlns:" });
        out.extend_from_slice(prefix);
        let quote = if namespace.contains(&b'"') { b'\'' } else { b'"' };
        out.extend_from_slice(&[b'=', quote]);
        out.extend_from_slice(namespace);
        out.push(quote);
    }
    out.extend_from_slice(b"/>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WATCHERS: &str = "<?xml version=\"1.0\"?>\r\n<watcherinfo xmlns=\"urn:ietf:params:xml:ns:watcherinfo\"\r\n version=\"0\" state=\"full\">\
        <watcher-list resource=\"sip:professor@example.net\" package=\"presence\">\r\n\
        <watcher status=\"active\" id=\"8ajksjda7s\" event='a \"b\" &amp; c'>sip:userA@example.net</watcher>\r\n\
        <watcher status=\"pending\" id=\"hh8juja87s997-ass7\" display-name=\"Mr. Subscriber\">sip:userB@example.org<!-- > --></watcher>\
        <other status=\"pending\"/></watcher-list></watcherinfo>";

    const SPACES: &str = "<?xml version=\"1.0\"?><foo xmlns=\"urn:test:default-namespace\">\
        <ns1:bar xmlns:ns1=\"urn:test:namespace1-uri\" xmlns=\"urn:test:namespace1-uri\">\
        <baz/><ns2:baz xmlns:ns2=\"urn:test:namespace2-uri\"/></ns1:bar>\
        <ns3:hi xmlns:ns3=\"urn:test:namespace3-uri\"><there ns3:a='b'/></ns3:hi></foo>";

    fn find(document: &str, default: &str, query: &str, selector: &str) -> Result<Option<String>, XcapFault> {
        let bindings = Bindings::parse(query)?;
        let selector = Selector::parse(selector, &bindings, default)?;
        let found = select(document.as_bytes(), &selector, document.len()).unwrap();
        Ok(found.map(|found| match found {
            Selected::Element(range) => document[range].to_owned(),
            Selected::Attribute(value) => value,
            Selected::Namespaces(octets) => String::from_utf8(octets).unwrap(),
        }))
    }

    fn watchers(selector: &str) -> Result<Option<String>, XcapFault> {
        find(WATCHERS, "urn:ietf:params:xml:ns:watcherinfo", "", selector)
    }

    #[test]
    fn an_element_is_found_by_name_position_and_attribute() {
        let first =
            "<watcher status=\"active\" id=\"8ajksjda7s\" event='a \"b\" &amp; c'>sip:userA@example.net</watcher>";
        let second = "<watcher status=\"pending\" id=\"hh8juja87s997-ass7\" display-name=\"Mr. Subscriber\">sip:userB@example.org<!-- > --></watcher>";
        for (selector, found) in [
            ("watcherinfo/watcher-list/watcher[@id=\"8ajksjda7s\"]", first),
            ("watcherinfo/watcher-list/watcher[@id='8ajksjda7s']", first),
            ("*/*/watcher[1]", first),
            ("*/*/*[1]", first),
            ("watcherinfo/*/watcher[@event='a &quot;b&quot; &#38; c']", first),
            ("watcherinfo/watcher-list/watcher[2]", second),
            ("watcherinfo/watcher-list/watcher[2][@status=\"pending\"]", second),
            ("*[1]/*[@package=\"presence\"]/watcher[@status=\"pending\"]", second),
            ("watcherinfo/watcher-list/other", "<other status=\"pending\"/>"),
            ("watcherinfo/watcher-list/*[3]", "<other status=\"pending\"/>"),
        ] {
            assert_eq!(watchers(selector), Ok(Some(found.to_owned())), "{selector}");
        }
        assert_eq!(watchers("watcherinfo").unwrap().unwrap(), WATCHERS[WATCHERS.find("<watcherinfo").unwrap()..]);
    }

    //= RFC 4825 6.3: if the result is multiple elements, the node selector is invalid
    #[test]
    fn what_means_nothing_or_too_much_means_nothing() {
        for selector in [
            "watcherinfo/watcher-list/watcher",
            "watcherinfo/watcher-list/*[@status=\"pending\"]",
            "watcherinfo/watcher-list/watcher[3]",
            "watcherinfo/watcher-list/watcher[0]",
            "watcherinfo/watcher-list/watcher[99999999999999999999999999]",
            "watcherinfo/watcher-list/watcher[1][@status=\"pending\"]",
            "watcherinfo/watcher",
            "watcher-list",
            "watcherinfo[@xmlns=\"urn:ietf:params:xml:ns:watcherinfo\"]",
            "watcherinfo/@xmlns",
            "watcherinfo/@nothing",
            "watcherinfo/watcher-list/watcher/@id",
        ] {
            assert_eq!(watchers(selector), Ok(None), "{selector}");
        }
        // Two parents with one child each: a step leads to one element, not to two.
        assert_eq!(find("<a><b><c/></b><b><d/></b></a>", "", "", "a/b/c"), Ok(None));
        assert_eq!(find("<a><b><c/></b><b><d/></b></a>", "", "", "a/b[2]/c"), Ok(None));
    }

    #[test]
    fn other_expressions_are_extensions() {
        for selector in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a[1",
            "a[]",
            "a[-1]",
            "a[+1]",
            "a[1][2]",
            "a[@b=c]",
            "a[@b=\"c\"][1]",
            "a[@b='c]",
            "a[@b='&x;']",
            "a[@b='c & d']",
            "@a",
            "a/@",
            "a/@b/c",
            "a/@b[1]",
            "namespace::*",
            "a/namespace::*/b",
            "a/namespace::x",
            "1a",
            "a b",
            "a|b",
            "a[last()]",
            "a/text()",
            "..",
            "a:b:c",
            ":a",
            "a:",
            "a[@b='c'][@d='e']",
        ] {
            assert_eq!(watchers(selector), Err(XcapFault::Extension), "{selector}");
        }
        assert_eq!(watchers(&vec!["a"; DEPTH_MAX + 1].join("/")), Err(XcapFault::Extension));
    }

    #[test]
    fn attributes_are_given_in_quotes() {
        let list = "watcherinfo/watcher-list";
        assert_eq!(watchers(&format!("{list}/@package")), Ok(Some("\"presence\"".into())));
        assert_eq!(watchers(&format!("{list}/watcher[1]/@event")), Ok(Some("'a \"b\" &amp; c'".into())));
    }

    //= RFC 4825 8: a prefix not defined in an xmlns() expression: MUST reject with a 400
    #[test]
    fn names_are_compared_with_their_namespaces() {
        let of = |query, selector| find(SPACES, "urn:test:default-namespace", query, selector);
        let one = "xmlns(a=urn:test:namespace1-uri)xmlns(b=urn:test:namespace1-uri)";
        let two = "xmlns(a=urn:test:namespace1-uri)xmlns(b=urn:test:namespace2-uri)xmlns(d=urn:test:default-namespace)";
        assert_eq!(of(one, "foo/a:bar/b:baz"), Ok(Some("<baz/>".into())));
        let second = "<ns2:baz xmlns:ns2=\"urn:test:namespace2-uri\"/>";
        assert_eq!(of(two, "foo/a:bar/b:baz"), Ok(Some(second.into())));
        assert_eq!(of(two, "d:foo/a:bar/b:baz"), Ok(Some(second.into())));
        assert_eq!(of("", "foo/bar"), Ok(None), "in another namespace than the document's");
        assert_eq!(of("", "foo/a:bar"), Err(XcapFault::Prefix));
        assert_eq!(of("", "foo/*[@a:b='c']"), Err(XcapFault::Prefix));
        assert_eq!(of("", "foo/@a:b"), Err(XcapFault::Prefix));
        let three = "xmlns(x=urn:test:namespace3-uri)";
        assert_eq!(of(three, "foo/x:hi/there[@x:a='b']/@x:a"), Ok(Some("\"b\"".into())));
        assert_eq!(of(three, "foo/x:hi/there/@a"), Ok(None), "an attribute without a prefix is in no namespace");
    }

    //= RFC 4825 10: the same local-name and the same namespace-prefix, an xmlns attribute for the default, one for each prefix in scope
    #[test]
    fn the_bindings_in_scope_are_told() {
        let query = "xmlns(df=urn:test:default-namespace)xmlns(df2=urn:test:namespace1-uri)";
        assert_eq!(
            find(SPACES, "", query, "df:foo/df2:bar/df2:baz/namespace::*"),
            Ok(Some("<baz xmlns:ns1=\"urn:test:namespace1-uri\" xmlns=\"urn:test:namespace1-uri\"/>".into()))
        );
        assert_eq!(find("<a xmlns='u'><b xmlns=''/></a>", "u", "", "a/*/namespace::*"), Ok(Some("<b/>".into())));
    }

    proptest! {
        #[test]
        fn no_selector_makes_it_panic(selector in "(watcherinfo|\\*|/|@|\\[|\\]|[0-9]|'|\"|=|:|namespace::\\*|\\PC){0,12}") {
            if let Ok(selector) = Selector::parse(&selector, &Bindings::default(), "urn:ietf:params:xml:ns:watcherinfo") {
                let _ = select(WATCHERS.as_bytes(), &selector, WATCHERS.len());
            }
        }

        #[test]
        fn what_is_selected_lies_inside(document in "[<>/a-c='\" &;#x!\\[\\]?-]{0,200}") {
            let selector = Selector::parse("*/*[2]", &Bindings::default(), "").unwrap();
            if let Ok(Some(Selected::Element(range))) = select(document.as_bytes(), &selector, document.len()) {
                prop_assert!(document[range].starts_with('<'));
            }
        }
    }
}
