//! URIs: `sip:`, `sips:`, `tel:`, and whatever else a peer may name (RFC 3261 19.1, RFC 3966).
//!
//! Knows the parts and the address-of-record form under which a user is known; does not know which users there are.

use super::params::Params;
use super::scan::{self, Class};
use crate::wire::sip::fault::{Fault, What};
use crate::wire::sip::via::split_host;

/// The schemes that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other.
    Other,
}

/// A URI in parts, none of them unescaped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uri<'a> {
    /// Which scheme.
    pub scheme: Scheme,
    /// Its octets, where it is none of those that are served; empty otherwise.
    pub other: &'a [u8],
    /// Before the `@`, without a password; of a `tel:` URI the number.
    pub user: Option<&'a [u8]>,
    /// Behind the user's colon. Obsolete, read only to be left out.
    pub password: Option<&'a [u8]>,
    /// The host, an IPv6 address with its brackets; empty for `tel:`. Of another scheme everything after the colon.
    pub host: &'a [u8],
    /// The port, when it names one.
    pub port: Option<u16>,
    /// `;` parameters.
    pub params: Params<'a>,
    /// What stands after `?`.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Reads a URI. Of a scheme that is not served only the form is looked at: see [`Uri::served`].
    ///
    /// # Errors
    /// What is outside the grammar (status 400); offsets count from the start of `octets`.
    pub fn parse(octets: &'a [u8]) -> Result<Uri<'a>, Fault> {
        let fault = |part: &[u8]| Fault::new(scan::span_in(octets, part).at(), What::Uri);
        let stands = Class::URI.has_all(octets);
        if let [b's', b'i', b'p', b':', rest @ ..] = octets
            && stands
        {
            return Uri::parse_sip(Scheme::Sip, rest).ok_or_else(|| fault(if rest.is_empty() { octets } else { rest }));
        }
        let (scheme, rest) = scan::split_once(octets, b':').ok_or_else(|| fault(octets))?;
        if !stands || rest.is_empty() || !matches!(scheme, [first, ..] if first.is_ascii_alphabetic()) {
            return Err(fault(octets));
        }
        if scheme.eq_ignore_ascii_case(b"sip") {
            Uri::parse_sip(Scheme::Sip, rest).ok_or_else(|| fault(rest))
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            Uri::parse_sip(Scheme::Sips, rest).ok_or_else(|| fault(rest))
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            Uri::parse_tel(rest).ok_or_else(|| fault(rest))
        } else if scheme.iter().all(|&octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.')) {
            Ok(Uri { other: scheme, host: rest, ..Uri::EMPTY })
        } else {
            Err(fault(octets))
        }
    }

    /// Reads a Request-URI: as [`Uri::parse`], and its scheme must be served and it carries no headers.
    ///
    /// # Errors
    /// Also [`What::UriScheme`] (416) and [`What::UriHeaders`] (400).
    pub fn parse_target(octets: &'a [u8]) -> Result<Uri<'a>, Fault> {
        let uri = Uri::parse(octets)?;
        uri.served()?;
        match uri.headers {
            //= RFC 3261 19.1.1: headers are not allowed in a Request-URI
            Some(headers) => Err(Fault::new(scan::span_in(octets, headers).at(), What::UriHeaders)),
            None => Ok(uri),
        }
    }

    /// Whether we serve this scheme at all.
    ///
    /// # Errors
    /// [`What::UriScheme`] (416).
    pub fn served(&self) -> Result<(), Fault> {
        if self.scheme == Scheme::Other { Err(Fault::new(0, What::UriScheme)) } else { Ok(()) }
    }

    const EMPTY: Uri<'static> = Uri {
        scheme: Scheme::Other,
        other: &[],
        user: None,
        password: None,
        host: &[],
        port: None,
        params: Params::EMPTY,
        headers: None,
    };

    fn parse_sip(scheme: Scheme, rest: &'a [u8]) -> Option<Uri<'a>> {
        // `@` stands nowhere in a SIP URI but behind the userinfo; before it `;`, `?`, `,` and `/` are ordinary characters.
        let (userinfo, rest) = match scan::split_once(rest, b'@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        let (user, password) = match userinfo {
            None => (None, None),
            Some(userinfo) => match scan::split_once(userinfo, b':') {
                Some((user, password)) => (Some(user), Some(password)),
                None => (Some(userinfo), None),
            },
        };
        if user.is_some_and(|user| user.is_empty() || !escapes_stand(user)) {
            return None;
        }
        let (host, rest) = split_host(rest);
        if host.is_empty() {
            return None;
        }
        let (port, rest) = match rest {
            [b':', after @ ..] => {
                let (digits, after) = Class::DIGIT.run(after);
                let port = scan::decimal(digits).and_then(|port| u16::try_from(port).ok())?;
                (Some(port), after)
            }
            _ => (None, rest),
        };
        let (params, headers) = match scan::split_once(rest, b'?') {
            Some((params, headers)) => (params, Some(headers)),
            None => (rest, None),
        };
        let params = Params::new(params);
        params.check().ok()?;
        Some(Uri { scheme, user, password, host, port, params, headers, ..Uri::EMPTY })
    }

    fn parse_tel(rest: &'a [u8]) -> Option<Uri<'a>> {
        let (number, params) = scan::split(rest, scan::find(rest, b';').unwrap_or(rest.len()));
        let digits = number.strip_prefix(b"+").unwrap_or(number);
        let local = digits.len() == number.len();
        // RFC 3966 3: a global number has decimal digits, a local one also hexadecimal ones, `*` and `#`; separators in both.
        let stands = digits.iter().all(|&octet| {
            is_separator(octet)
                || octet.is_ascii_digit()
                || local && (octet.is_ascii_hexdigit() || matches!(octet, b'*' | b'#'))
        });
        if !stands || digits.iter().all(|&octet| is_separator(octet)) {
            return None;
        }
        let params = Params::new(params);
        params.check().ok()?;
        Some(Uri { scheme: Scheme::Tel, user: Some(number), params, ..Uri::EMPTY })
    }

    /// Appends the address-of-record form: `sip:user@host`, or `tel:` and the bare number.
    ///
    /// Password, parameters and headers are left out, and so is a port that is the scheme's own; `sips:` is written as `sip:`
    /// (the same user, asked for over TLS; RFC 5630 4); the host is lower case; of the user's escapes those that are not
    /// needed are undone and the others are written in upper case. Of a local number the `phone-context` belongs to the
    /// name and is kept. Another scheme keeps its octets, but for the scheme's own case.
    pub fn canonical(&self, out: &mut Vec<u8>) {
        match self.scheme {
            Scheme::Sip | Scheme::Sips => {
                out.extend_from_slice(b"sip:");
                if let Some(user) = self.user {
                    match scan::find(user, b'%') {
                        None => out.extend_from_slice(user),
                        Some(_) => out.extend(unescaped(user)),
                    }
                    out.push(b'@');
                }
                let host = out.len();
                out.extend_from_slice(self.host);
                out.get_mut(host..).unwrap_or_default().make_ascii_lowercase();
                if let Some(port) = self.distinct_port() {
                    out.push(b':');
                    scan::put_decimal(out, u64::from(port));
                }
            }
            Scheme::Tel => {
                out.extend_from_slice(b"tel:");
                out.extend(self.number());
                if let Some(context) = self.phone_context() {
                    out.extend_from_slice(b";phone-context=");
                    out.extend(context.iter().map(u8::to_ascii_lowercase));
                }
            }
            Scheme::Other => {
                out.extend(self.other.iter().map(u8::to_ascii_lowercase));
                out.push(b':');
                out.extend_from_slice(self.host);
            }
        }
    }

    /// True when both name the same address of record: their canonical forms are equal.
    pub fn eq_aor(&self, other: &Uri<'_>) -> bool {
        match (self.scheme, other.scheme) {
            (Scheme::Sip | Scheme::Sips, Scheme::Sip | Scheme::Sips) => {
                let users = match (self.user, other.user) {
                    (Some(one), Some(two)) => one == two || unescaped(one).eq(unescaped(two)),
                    (one, two) => one.is_none() && two.is_none(),
                };
                users && self.host.eq_ignore_ascii_case(other.host) && self.distinct_port() == other.distinct_port()
            }
            (Scheme::Tel, Scheme::Tel) => {
                let contexts = match (self.phone_context(), other.phone_context()) {
                    (Some(one), Some(two)) => one.eq_ignore_ascii_case(two),
                    (one, two) => one.is_none() && two.is_none(),
                };
                contexts && self.number().eq(other.number())
            }
            (Scheme::Other, Scheme::Other) => self.other.eq_ignore_ascii_case(other.other) && self.host == other.host,
            _ => false,
        }
    }

    /// The port, unless it is the one the scheme means anyway.
    fn distinct_port(&self) -> Option<u16> {
        self.port.filter(|&port| port != 5060 && !(port == 5061 && self.scheme == Scheme::Sips))
    }

    /// The number of a `tel:` URI without visual separators.
    fn number(&self) -> impl Iterator<Item = u8> + use<'a> {
        let number = self.user.unwrap_or_default();
        number.iter().filter(|&&octet| !is_separator(octet)).map(u8::to_ascii_lowercase)
    }

    /// What makes a local number unambiguous (RFC 3966 5.1.5).
    fn phone_context(&self) -> Option<&'a [u8]> {
        if self.user?.starts_with(b"+") { None } else { self.params.get(b"phone-context") }
    }
}

/// RFC 3966 3 `visual-separator`.
fn is_separator(octet: u8) -> bool {
    matches!(octet, b'-' | b'.' | b'(' | b')')
}

/// RFC 3986 2.3: these mean the same escaped and unescaped.
fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// True when every `%` is followed by two hexadecimal digits.
fn escapes_stand(octets: &[u8]) -> bool {
    let mut rest = octets;
    while let Some(at) = scan::find(rest, b'%') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if !matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()) {
            return false;
        }
    }
    true
}

/// The user part with every escape that is not needed undone (once, not recursively: RFC 3986 2.4) and the others in upper case.
fn unescaped(user: &[u8]) -> Unescaped<'_> {
    Unescaped { rest: user, literal: 0 }
}

#[derive(Clone, Debug)]
struct Unescaped<'a> {
    rest: &'a [u8],
    /// Octets of an escape that stays: two digits after a `%` that was handed out.
    literal: u8,
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&octet, rest) = self.rest.split_first()?;
        if self.literal > 0 {
            self.literal -= 1;
            self.rest = rest;
            return Some(octet.to_ascii_uppercase());
        }
        if octet == b'%'
            && let [high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            let meant = high << 4 | low;
            if is_unreserved(meant) {
                self.rest = after;
                return Some(meant);
            }
            self.literal = 2;
        }
        self.rest = rest;
        Some(octet)
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(octets: &[u8]) -> String {
        let mut out = Vec::new();
        Uri::parse(octets).unwrap().canonical(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// `cid:1` and `http:1` were one entry of a URI list: the canonical form of a scheme that is not served lacked the scheme.
    #[test]
    fn another_scheme_is_part_of_the_name() {
        let uri = |octets: &'static str| Uri::parse(octets.as_bytes()).unwrap();
        let mut out = Vec::new();
        uri("CID:a@B").canonical(&mut out);
        assert_eq!(out, b"cid:a@B");
        assert!(uri("CID:a@B").eq_aor(&uri("cid:a@B")));
        assert!(!uri("cid:a@B").eq_aor(&uri("http:a@B")) && !uri("cid:a@B").eq_aor(&uri("cid:a@b")));
    }

    #[test]
    fn a_sip_uri_comes_apart() {
        let uri = Uri::parse(b"sip:user;par=u%40example.net:pw@example.com:5070;lr;maddr=x?Subject=a%20b").unwrap();
        assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
        assert_eq!(uri.password, Some(&b"pw"[..]));
        assert_eq!((uri.host, uri.port), (&b"example.com"[..], Some(5070)));
        assert!(uri.params.has(b"lr"));
        assert_eq!(uri.headers, Some(&b"Subject=a%20b"[..]));
        let odd = b"sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com";
        assert_eq!(Uri::parse(odd).unwrap().host, b"example.com");
        let six = Uri::parse(b"sips:[2001:DB8::1]:5061").unwrap();
        assert_eq!((six.scheme, six.user, six.host, six.port), (Scheme::Sips, None, &b"[2001:DB8::1]"[..], Some(5061)));
    }

    #[test]
    fn what_is_no_uri_is_a_fault() {
        let bad: &[&[u8]] = &[
            b"",
            b"sip:",
            b"user@host",
            b":x",
            b"1ip:x",
            b"sip:user@",
            b"sip:@host",
            b"sip:u@h:port",
            b"sip:u@h:99999",
            b"<sip:user@example.com>",
            b"sip:user@example.com; lr",
            b"sip: user2@imserver.com",
            b"sip:u%4@h",
            b"sip:u@h/x",
            b"sip:u@h;;lr",
            b"sip:u@[::1",
            b"tel:",
            b"tel:+",
            b"tel:abcg",
            b"tel:+1a",
            b"sip:a@b@c",
        ];
        for octets in bad {
            assert_eq!(Uri::parse(octets).map_err(Fault::status), Err(400), "{}", String::from_utf8_lossy(octets));
        }
        let target = |octets| Uri::parse_target(octets).map(|uri| uri.scheme).map_err(Fault::status);
        assert_eq!(target(b"nobodyKnowsThisScheme:totallyopaquecontent"), Err(416));
        assert_eq!(target(b"soap.beep://192.0.2.103:3002"), Err(416));
        assert_eq!(target(b"sip:user@example.com?Route=%3Csip:example.com%3E"), Err(400));
        assert_eq!(target(b"SIP:user@example.com"), Ok(Scheme::Sip));
        assert_eq!(target(b"tel:+1-201-555-0123;x=y"), Ok(Scheme::Tel));
    }

    #[test]
    fn an_address_of_record_has_one_form() {
        let table: &[(&[u8], &str)] = &[
            (b"sip:Bob@Example.COM", "sip:Bob@example.com"),
            (b"sips:bob@example.com:5061;transport=tcp", "sip:bob@example.com"),
            (b"sip:bob:secret@example.com:5060;x?a=b", "sip:bob@example.com"),
            (b"sip:bob@example.com:5070", "sip:bob@example.com:5070"),
            (b"sip:%62%6fb%2f%40%25%34%31@h", "sip:bob%2F%40%2541@h"),
            (b"sip:null-%00-null@h", "sip:null-%00-null@h"),
            (b"sip:Example.com", "sip:example.com"),
            (b"TEL:+1-(514).123-4567;ext=7", "tel:+15141234567"),
            (b"tel:7042;phone-context=Example.com", "tel:7042;phone-context=example.com"),
        ];
        for (octets, expected) in table {
            assert_eq!(canonical(octets), *expected);
        }
    }

    #[test]
    fn users_keep_their_case() {
        let (one, two) = (Uri::parse(b"sip:Bob@h").unwrap(), Uri::parse(b"sip:bob@h").unwrap());
        assert!(!one.eq_aor(&two));
    }

    proptest! {
        #[test]
        fn equality_is_that_of_the_canonical_forms(
            one in "(sip|sips|tel|SIP):[+]?(%61|a|%2f|%2F|1|2|-){1,3}(@[hH](:506[01])?)?",
            two in "(sip|sips|tel|SIP):[+]?(%61|a|%2f|%2F|1|2|-){1,3}(@[hH](:506[01])?)?",
        ) {
            if let (Ok(a), Ok(b)) = (Uri::parse(one.as_bytes()), Uri::parse(two.as_bytes())) {
                prop_assert_eq!(a.eq_aor(&b), canonical(one.as_bytes()) == canonical(two.as_bytes()));
                prop_assert!(a.eq_aor(&a));
                // The canonical form is its own canonical form.
                let once = canonical(one.as_bytes());
                prop_assert_eq!(canonical(once.as_bytes()), once);
            }
        }

        #[test]
        fn any_octets_are_read_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Uri::parse(&octets);
            let _ = Uri::parse(&[&b"sip:"[..], &octets].concat());
        }
    }
}
