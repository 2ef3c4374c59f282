//! name-addr and addr-spec: the values of From, To, Contact, Route and their kin (RFC 3261 20.10, 25.1).

use crate::base::span::Span;
use crate::wire::params::{Param, Params};
use crate::wire::scan::{self, Class};
use crate::wire::sip::fault::{Fault, What};
use crate::wire::uri::{Scheme, Uri};

/// One address value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameAddr<'a> {
    /// The display name as it stands, with its quotes; empty when there is none.
    pub display: &'a [u8],
    /// The URI, without angle brackets. `*` for the Contact that means all.
    pub uri: &'a [u8],
    /// The header's parameters; those of the URI are in [`Uri::params`].
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value, already split from its list. The URI is checked for its octets and for a scheme, no further.
    ///
    /// # Errors
    /// The first thing outside the grammar; offsets count from the start of `value`.
    pub fn parse(value: &'a [u8]) -> Result<NameAddr<'a>, Fault> {
        let (address, _) = NameAddr::read(value)?;
        Ok(address)
    }

    /// [`NameAddr::parse`] and the tag, in one walk.
    pub(crate) fn read(value: &'a [u8]) -> Result<(NameAddr<'a>, Option<&'a [u8]>), Fault> {
        let fault = |part: &[u8], what| Fault::new(scan::span_in(value, part).at(), what);
        let text = scan::trim(value);
        let (display, uri, params) = if let Some(len) = scan::quoted_len(text) {
            let (display, rest) = scan::split(text, len);
            let (uri, params) = bracketed(scan::trim_start(rest)).ok_or_else(|| fault(rest, What::Address))?;
            (display, uri, params)
        } else if text.first() == Some(&b'"') {
            return Err(fault(text, What::QuoteOpen));
        } else {
            // A quote before the bracket belongs to a parameter of an addr-spec.
            match scan::find_either(text, b'<', b'"').filter(|&at| text.get(at) == Some(&b'<')) {
                Some(at) => {
                    let (display, rest) = scan::split(text, at);
                    let display = scan::trim_end(display);
                    //= RFC 4475 3.1.2.15: characters that are no token must be quoted
                    if !display.iter().all(|&octet| Class::TOKEN.has(octet) || scan::is_lws(octet)) {
                        return Err(fault(display, What::DisplayName));
                    }
                    let (uri, params) = bracketed(rest).ok_or_else(|| fault(rest, What::Address))?;
                    (display, uri, params)
                }
                None => {
                    let end = scan::find(text, b';').unwrap_or(text.len());
                    let (uri, params) = scan::split(text, end);
                    let uri = scan::trim_end(uri);
                    //= RFC 3261 20.10: a URI with a comma or question mark must stand in angle brackets
                    if scan::find_either(uri, b'?', b',').is_some() {
                        return Err(fault(uri, What::BracketsMissing));
                    }
                    (scan::split(text, 0).0, uri, params)
                }
            }
        };
        let is_star = uri == b"*" && display.is_empty();
        if !is_star && !has_scheme(uri) || !Class::VISIBLE.has_all(uri) {
            return Err(fault(uri, What::Address));
        }
        let params = Params::new(params);
        let mut tag = None;
        params
            .each(|param| {
                if tag.is_none() && param.name.eq_ignore_ascii_case(b"tag") {
                    tag = param.value.filter(|value| !value.is_empty());
                }
            })
            .map_err(|found| found.shifted(scan::span_in(value, params.as_bytes()).at()))?;
        Ok((NameAddr { display, uri, params }, tag))
    }

    /// The display name without quotes and backslashes.
    pub fn display_name(&self) -> std::borrow::Cow<'a, [u8]> {
        scan::unquote(self.display)
    }

    /// The `tag` parameter: one end of a dialog.
    pub fn tag(&self) -> Option<&'a [u8]> {
        let value =
            |param: Param<'a>| param.value.filter(|value| param.name.eq_ignore_ascii_case(b"tag") && !value.is_empty());
        self.params.into_iter().find_map(value)
    }

    /// Where in `value`, from which this was read, a `tag` stands that says nothing: from its semicolon to the next parameter.
    pub(crate) fn empty_tag(&self, value: &[u8]) -> Option<Span> {
        let says_nothing =
            |param: &Param<'_>| param.name.eq_ignore_ascii_case(b"tag") && param.value.is_none_or(<[u8]>::is_empty);
        let name = scan::span_in(value, self.params.into_iter().find(says_nothing)?.name);
        let begin = memchr::memrchr(b';', value.get(..name.at())?)?;
        let rest = value.get(name.end()..)?;
        Some(Span::between(begin, name.end() + scan::find(rest, b';').unwrap_or(rest.len())))
    }

    /// True for `Contact: *`.
    pub fn is_star(&self) -> bool {
        self.uri == b"*"
    }

    /// How much it is preferred to others, in thousandths; 1,000 where it does not say so in the grammar.
    ///
    //= RFC 3261 10.2.1.2: the "q" parameter: a relative preference for the particular Contact value
    pub fn preference(&self) -> u16 {
        let Some(value) = self.params.get(b"q") else { return 1_000 };
        let (whole, part) = scan::split_once(value, b'.').unwrap_or((value, b""));
        if whole != b"0" || part.len() > 3 || !part.iter().all(u8::is_ascii_digit) {
            return 1_000;
        }
        let digits = part.iter().chain(b"000").take(3);
        digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
    }

    /// The URI as it may stand in a request line: without its method and its headers. `None`: it is no SIP URI.
    ///
    //= RFC 3261 8.1.3.4: copy the entire URI into the Request-URI, except for "method-param" and "header"
    pub fn target(&self) -> Option<Vec<u8>> {
        let uri = self.uri().ok().filter(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips))?;
        let params = uri.params.as_bytes();
        let (before, _) = scan::split(self.uri, scan::span_in(self.uri, params).at());
        let mut target = before.to_vec();
        for param in params.split(|&octet| octet == b';').filter(|param| !param.is_empty()) {
            let name = param.split(|&octet| octet == b'=').next().unwrap_or_default();
            if !name.eq_ignore_ascii_case(b"method") {
                target.push(b';');
                target.extend_from_slice(param);
            }
        }
        Some(target)
    }

    /// The URI, read.
    ///
    /// # Errors
    /// As [`Uri::parse`]; offsets count from the start of the URI.
    pub fn uri(&self) -> Result<Uri<'a>, Fault> {
        Uri::parse(self.uri)
    }
}

/// What stands in the angle brackets at the start, and the parameters behind them.
fn bracketed(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (uri, rest) = scan::split_once(octets.strip_prefix(b"<")?, b'>')?;
    let rest = scan::trim_start(rest);
    matches!(rest.first(), None | Some(b';')).then_some((uri, rest))
}

/// RFC 3261 25.1 `scheme`: a letter, then letters, digits, `+`, `-`, `.`, then a colon, then something.
fn has_scheme(uri: &[u8]) -> bool {
    if let [b's', b'i', b'p', b':', _, ..] = uri {
        return true;
    }
    match scan::split_once(uri, b':') {
        Some((scheme @ [first, ..], [_, ..])) => {
            first.is_ascii_alphabetic()
                && scheme.iter().all(|&octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Parts<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);

    fn parts(value: &[u8]) -> Result<Parts<'_>, What> {
        let address = NameAddr::parse(value).map_err(|fault| fault.what)?;
        Ok((address.display, address.uri, address.tag()))
    }

    #[test]
    fn a_tag_that_says_nothing_is_found() {
        let found = |value: &'static str| {
            let tag = NameAddr::parse(value.as_bytes()).unwrap().empty_tag(value.as_bytes());
            tag.map(|tag| &value[tag.at()..tag.end()])
        };
        assert_eq!(found("<sip:a@b>;tag="), Some(";tag="));
        assert_eq!(found("<sip:a@b;tag=> ; Tag = ;x=1"), Some("; Tag = "));
        assert_eq!(found("<sip:a@b>;x=\";\";tag"), Some(";tag"));
        assert_eq!((found("<sip:a@b;tag=>"), found("<sip:a@b>;tag=1;x")), (None, None));
    }

    #[test]
    fn addresses_of_all_shapes_are_read() {
        let table: &[(&[u8], Parts<'_>)] = &[
            (b"sip:a@b", (b"", b"sip:a@b", None)),
            (b"<sip:a@b>;tag=1", (b"", b"sip:a@b", Some(b"1"))),
            (
                b"\"J Rosenberg \\\\\\\"\"  <sip:j@e>\r\n ;\r\n tag = 98",
                (b"\"J Rosenberg \\\\\\\"\"", b"sip:j@e", Some(b"98")),
            ),
            (b"caller<sip:c@e>;tag=323", (b"caller", b"sip:c@e", Some(b"323"))),
            (b"sip:v@e ;   tag    = 19n", (b"", b"sip:v@e", Some(b"19n"))),
            (b"T. Watson <sip:t@e>", (b"T. Watson", b"sip:t@e", None)),
            (b"\"<sip:x@y>\" <sip:a;p=1@b?h=1,2>", (b"\"<sip:x@y>\"", b"sip:a;p=1@b?h=1,2", None)),
            (b"isbn:2983792873", (b"", b"isbn:2983792873", None)),
            (b"<http://www.example.com>;tag=3", (b"", b"http://www.example.com", Some(b"3"))),
            (b"sip:a@b;x=\"<\";tag=2", (b"", b"sip:a@b", Some(b"2"))),
            (b"*", (b"", b"*", None)),
            (b"<sip:a@b>;tag=", (b"", b"sip:a@b", None)),
            (b"<sip:a@b>;tag=;tag=1", (b"", b"sip:a@b", Some(b"1"))),
        ];
        for (value, expected) in table {
            assert_eq!(parts(value), Ok(*expected), "{}", String::from_utf8_lossy(value));
        }
    }

    //= RFC 3261 10.2.1.2: the "q" parameter: a relative preference for the particular Contact value
    #[test]
    fn a_preference_is_read_in_thousandths() {
        for (q, expected) in [
            (";q=0", 0),
            (";q=0.", 0),
            (";q=0.7", 700),
            (";q=0.05", 50),
            (";Q=0.999", 999),
            (";q=1", 1_000),
            (";q=1.000", 1_000),
            ("", 1_000),
            (";q=0.1234", 1_000),
            (";q=0.x", 1_000),
            (";q=", 1_000),
            (";q", 1_000),
            (";q=-1", 1_000),
            (";q=.5", 1_000),
        ] {
            let contact = format!("<sip:a@b>;expires=7{q}");
            assert_eq!(NameAddr::parse(contact.as_bytes()).unwrap().preference(), expected, "{q}");
        }
    }

    //= RFC 3261 8.1.3.4: copy the entire URI into the Request-URI, except for "method-param" and "header"
    #[test]
    fn a_target_is_the_uri_without_method_and_headers() {
        for (value, expected) in [
            ("<sip:a@b:5070;transport=tcp>;q=0.1", Some("sip:a@b:5070;transport=tcp")),
            ("<sip:a;x@b;method=INVITE;lr;Method=x?Subject=s&Route=%3Csip:c%3E>", Some("sip:a;x@b;lr")),
            ("<sips:[::1]:5061?a=b>", Some("sips:[::1]:5061")),
            ("sip:b", Some("sip:b")),
            ("<tel:+15141234567>", None),
            ("<http://www.example.com/>", None),
            ("*", None),
        ] {
            let target = NameAddr::parse(value.as_bytes()).unwrap().target();
            assert_eq!(target.as_deref(), expected.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn what_is_no_address_is_a_fault() {
        let table: &[(&[u8], What)] = &[
            (b"", What::Address),
            (b"\"Mr. J. User <sip:j.user@example.com>", What::QuoteOpen),
            (b"\"Watson, Thomas\" < sip:t.watson@example.org >", What::Address),
            (b"Bell, Alexander <sip:a@e>;tag=43", What::DisplayName),
            (b"sip:user@example.com?Route=%3Csip:sip.example.com%3E", What::BracketsMissing),
            (b"<sip:a@b", What::Address),
            (b"<sip:a@b> x", What::Address),
            (b"<a@b>", What::Address),
            (b"<>", What::Address),
            (b"\"Joe\" <sip:joe@example.org>;;;;", What::Param),
            (b"sip: user2@imserver.com", What::Address),
        ];
        for (value, expected) in table {
            assert_eq!(parts(value), Err(*expected), "{}", String::from_utf8_lossy(value));
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = NameAddr::parse(&octets);
        }
    }
}
