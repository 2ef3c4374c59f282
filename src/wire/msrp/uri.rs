//! MSRP URIs and paths of them (RFC 4975 sections 6 and 9).
//!
//! Knows how a URI is taken apart, compared and written. Does not resolve names.

use std::borrow::Cow;
use std::net::IpAddr;

/// `msrp` or `msrps`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// Over TCP.
    Msrp,
    /// Over TLS.
    Msrps,
}

/// Why octets are no MSRP URI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UriFault {
    /// Neither `msrp://` nor `msrps://`.
    Scheme,
    /// No host, or one with octets that no host has.
    Host,
    /// Not a number from 1 to 65535.
    Port,
    /// Empty, or with octets that are not `unreserved + = /`.
    SessionId,
    /// No `;tcp` or other transport.
    Transport,
}

/// An MSRP URI taken apart; it borrows from its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsrpUri<'a> {
    /// Over what.
    pub scheme: Scheme,
    /// Host name or address; an IPv6 address without its brackets.
    pub host: &'a [u8],
    /// Port. In SDP it is always there.
    pub port: Option<u16>,
    /// Which session at that host; without it the URI names the host itself.
    pub session_id: Option<&'a [u8]>,
    /// `tcp`.
    pub transport: &'a [u8],
    /// True when the host stood in brackets.
    in_brackets: bool,
}

impl<'a> MsrpUri<'a> {
    /// Takes a URI apart. Userinfo and parameters behind the transport are passed over.
    pub fn parse(text: &'a [u8]) -> Result<MsrpUri<'a>, UriFault> {
        let (scheme, rest) = scheme_of(text).ok_or(UriFault::Scheme)?;
        let end = rest.iter().position(|&octet| octet == b'/' || octet == b';').ok_or(UriFault::Transport)?;
        let (authority, rest) = rest.split_at_checked(end).ok_or(UriFault::Transport)?;
        let semicolon = memchr::memchr(b';', rest).ok_or(UriFault::Transport)?;
        let (session_id, rest) = rest.split_at_checked(semicolon).ok_or(UriFault::Transport)?;
        let session_id = match session_id.split_first() {
            None => None,
            Some((_, id)) if !id.is_empty() && id.iter().all(|&octet| is_session_octet(octet)) => Some(id),
            Some(_) => return Err(UriFault::SessionId),
        };
        let transport = rest.get(1..).unwrap_or_default().split(|&octet| octet == b';').next().unwrap_or_default();
        if transport.is_empty() || !transport.iter().all(u8::is_ascii_alphanumeric) {
            return Err(UriFault::Transport);
        }
        let authority = match memchr::memrchr(b'@', authority) {
            Some(at) => authority.get(at + 1..).unwrap_or_default(),
            None => authority,
        };
        let (host, port, in_brackets) = split_authority(authority)?;
        Ok(MsrpUri { scheme, host, port, session_id, transport, in_brackets })
    }

    /// The host as an address, where it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        let text = std::str::from_utf8(self.host).ok()?;
        text.parse().ok().filter(|ip: &IpAddr| ip.is_ipv6() == self.in_brackets)
    }

    /// True when both name the same session (RFC 4975 6.1).
    //= RFC 4975 6.1: scheme and transport case-insensitive, addresses by value, port explicit, session-id case-sensitive
    pub fn equals(&self, other: &MsrpUri<'_>) -> bool {
        self.scheme == other.scheme
            && self.port == other.port
            && self.session_id == other.session_id
            && self.transport.eq_ignore_ascii_case(other.transport)
            && self.same_host(other)
    }

    fn same_host(&self, other: &MsrpUri<'_>) -> bool {
        match (self.ip(), other.ip()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => decoded(self.host).eq_ignore_ascii_case(&decoded(other.host)),
            _ => false,
        }
    }

    /// Appends the URI in its canonical form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.scheme {
            Scheme::Msrp => b"msrp://",
            Scheme::Msrps => b"msrps://",
        });
        write_host(out, self.host);
        if let Some(port) = self.port {
            out.push(b':');
            super::write::decimal(out, u64::from(port));
        }
        if let Some(id) = self.session_id {
            out.push(b'/');
            out.extend_from_slice(id);
        }
        out.push(b';');
        out.extend_from_slice(self.transport);
    }
}

/// Our URI for a session: `msrp://host:port/session_id;tcp`. An IPv6 address comes without brackets and gets them.
pub fn local(host: &[u8], port: u16, session_id: &[u8]) -> Vec<u8> {
    let uri = MsrpUri {
        scheme: Scheme::Msrp,
        host,
        port: Some(port),
        session_id: Some(session_id),
        transport: b"tcp",
        in_brackets: false,
    };
    let mut out = Vec::with_capacity(host.len() + session_id.len() + 22);
    uri.write(&mut out);
    out
}

/// The URIs of a path in order. Doubled spaces give no empty ones.
pub fn uris(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&octet| octet == b' ').filter(|uri| !uri.is_empty())
}

/// The first URI of a path: the next hop.
pub fn leftmost(path: &[u8]) -> &[u8] {
    uris(path).next().unwrap_or_default()
}

/// True when both are the same URI: octet by octet, or by RFC 4975 6.1.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    match (MsrpUri::parse(a), MsrpUri::parse(b)) {
        (Ok(a), Ok(b)) => a.equals(&b),
        _ => false,
    }
}

fn write_host(out: &mut Vec<u8>, host: &[u8]) {
    if host.contains(&b':') {
        out.push(b'[');
        out.extend_from_slice(host);
        out.push(b']');
    } else {
        out.extend_from_slice(host);
    }
}

fn scheme_of(text: &[u8]) -> Option<(Scheme, &[u8])> {
    for (word, scheme) in [(&b"msrp://"[..], Scheme::Msrp), (b"msrps://", Scheme::Msrps)] {
        if let Some((start, rest)) = text.split_at_checked(word.len())
            && start.eq_ignore_ascii_case(word)
        {
            return Some((scheme, rest));
        }
    }
    None
}

fn split_authority(authority: &[u8]) -> Result<(&[u8], Option<u16>, bool), UriFault> {
    let (host, rest, in_brackets) = match authority.strip_prefix(b"[") {
        Some(inner) => {
            let close = memchr::memchr(b']', inner).ok_or(UriFault::Host)?;
            let (host, rest) = inner.split_at_checked(close).ok_or(UriFault::Host)?;
            let is_address = std::str::from_utf8(host).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
            if !is_address {
                return Err(UriFault::Host);
            }
            (host, rest.get(1..).unwrap_or_default(), true)
        }
        None => {
            let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
            let (host, rest) = authority.split_at_checked(end).ok_or(UriFault::Host)?;
            if host.is_empty() || !host.iter().all(|&octet| is_host_octet(octet)) {
                return Err(UriFault::Host);
            }
            (host, rest, false)
        }
    };
    let port = match rest.split_first() {
        None => None,
        Some((b':', digits)) => {
            let port = super::head::number(digits).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
            Some(port.ok_or(UriFault::Port)?)
        }
        Some(_) => return Err(UriFault::Host),
    };
    Ok((host, port, in_brackets))
}

/// Percent-encoded unreserved octets, decoded (RFC 3986 6.2.2.2).
fn decoded(host: &[u8]) -> Cow<'_, [u8]> {
    if !host.contains(&b'%') {
        return Cow::Borrowed(host);
    }
    let mut out = Vec::with_capacity(host.len());
    let mut rest = host;
    while let Some((&first, more)) = rest.split_first() {
        if first == b'%'
            && let Some((digits, behind)) = more.split_at_checked(2)
            && digits.iter().all(u8::is_ascii_hexdigit)
            && let Some(octet) = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())
            && is_unreserved(octet)
        {
            out.push(octet);
            rest = behind;
        } else {
            out.push(first);
            rest = more;
        }
    }
    Cow::Owned(out)
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)
}

fn is_session_octet(octet: u8) -> bool {
    is_unreserved(octet) || b"+=/".contains(&octet)
}

/// reg-name of RFC 3986: unreserved, pct-encoded, sub-delims without `;`, which ends the authority here.
fn is_host_octet(octet: u8) -> bool {
    is_unreserved(octet) || b"%!$&'()*+,=".contains(&octet)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_comes_apart_and_together() {
        for text in [
            "msrp://host.example.com:8493/asfd34;tcp",
            "msrps://[2001:db8::1]:2855/a+b=/c;tcp",
            "msrp://192.0.2.10:2855/9di4eae923wzd0x7b2m6;tcp",
            "msrp://relay.example.com;tcp",
        ] {
            let uri = MsrpUri::parse(text.as_bytes()).unwrap();
            let mut out = Vec::new();
            uri.write(&mut out);
            assert_eq!(out, text.as_bytes());
        }
        assert_eq!(local(b"::1", 2855, b"abc"), b"msrp://[::1]:2855/abc;tcp");
    }

    #[test]
    fn what_is_no_uri_says_why() {
        for (text, fault) in [
            ("sip:a@b", UriFault::Scheme),
            ("msrp://;tcp", UriFault::Host),
            ("msrp://[::zz]:1/a;tcp", UriFault::Host),
            ("msrp://h:0/a;tcp", UriFault::Port),
            ("msrp://h:65536/a;tcp", UriFault::Port),
            ("msrp://h:/a;tcp", UriFault::Port),
            ("msrp://h:1/;tcp", UriFault::SessionId),
            ("msrp://h:1/a b;tcp", UriFault::SessionId),
            ("msrp://h:1/a", UriFault::Transport),
            ("msrp://h:1/a;", UriFault::Transport),
            ("", UriFault::Scheme),
        ] {
            assert_eq!(MsrpUri::parse(text.as_bytes()).unwrap_err(), fault, "{text}");
        }
    }

    //= RFC 4975 6.1: scheme and transport case-insensitive, addresses by value, session-id case-sensitive
    #[test]
    fn uris_compare_by_the_rules_of_section_6_1() {
        let table = [
            ("msrp://h.example.com:1/abc;tcp", "MSRP://H.EXAMPLE.COM:1/abc;TCP", true),
            ("msrp://h:1/abc;tcp", "msrp://h:1/ABC;tcp", false),
            ("msrp://h:1/abc;tcp", "msrp://h/abc;tcp", false),
            ("msrp://h:1/abc;tcp", "msrps://h:1/abc;tcp", false),
            ("msrp://h:1/abc;tcp", "msrp://h:1/abc;ws", false),
            ("msrp://h:1/abc;tcp", "msrp://h:1;tcp", false),
            ("msrp://u@h:1/abc;tcp", "msrp://h:1/abc;tcp;x=y", true),
            ("msrp://[2001:db8:0:0::1]:1/a;tcp", "msrp://[2001:DB8::1]:1/a;tcp", true),
            ("msrp://%68ost:1/a;tcp", "msrp://host:1/a;tcp", true),
        ];
        for (a, b, expected) in table {
            assert_eq!(same(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(same(b.as_bytes(), a.as_bytes()), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_path_is_walked_from_the_left() {
        let path = b"msrp://a:1/x;tcp msrp://b:2/y;tcp";
        assert_eq!(leftmost(path), b"msrp://a:1/x;tcp");
        assert_eq!(uris(path).count(), 2);
        assert_eq!(leftmost(b""), b"");
    }
}
