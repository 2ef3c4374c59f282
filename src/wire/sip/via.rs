//! Via: who sent this, and where the answer goes (RFC 3261 20.42, RFC 3581).

use crate::wire::params::Params;
use crate::wire::scan::{self, Class};
use crate::wire::sip::fault::{Fault, What};

/// One Via value.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS` or anything else; compare without case.
    pub transport: &'a [u8],
    /// Host of sent-by; an IPv6 address keeps its brackets.
    pub host: &'a [u8],
    /// Port of sent-by, when it names one.
    pub port: Option<u16>,
    /// `branch`: the transaction's id.
    pub branch: Option<&'a [u8]>,
    /// `received`: the address the request really came from, written by who got it.
    pub received: Option<&'a [u8]>,
    /// `rport`: asked for (`Some(None)`), or filled in (`Some(Some(port))`).
    pub rport: Option<Option<u16>>,
    /// The same parameter as it stands, from its name to its end.
    pub rport_text: Option<&'a [u8]>,
    /// `maddr`.
    pub maddr: Option<&'a [u8]>,
    /// `ttl`.
    pub ttl: Option<u8>,
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// What RFC 3261 branches begin with.
    pub const COOKIE: &'static [u8] = b"z9hG4bK";

    /// Reads one value, already split from its list.
    pub fn parse(value: &'a [u8]) -> Result<Via<'a>, Fault> {
        let (via, fault) = Via::read(value);
        match fault {
            Some(fault) => Err(fault),
            None => Ok(via),
        }
    }

    /// True when the branch carries a transaction id by the rules of RFC 3261; false for RFC 2543 and for a bare cookie
    /// (RFC 4475 3.2.1), which are matched the old way.
    pub fn has_cookie(&self) -> bool {
        self.branch.is_some_and(|branch| branch.len() > Self::COOKIE.len() && branch.starts_with(Self::COOKIE))
    }

    /// Reads as far as it is readable: with a fault, the fields before it are still good enough to answer to.
    pub(crate) fn read(value: &'a [u8]) -> (Via<'a>, Option<Fault>) {
        let mut via = Via::default();
        let fault = via.fill(value).err();
        (via, fault)
    }

    fn fill(&mut self, value: &'a [u8]) -> Result<(), Fault> {
        let fault = |rest: &[u8]| Fault::new(scan::span_in(value, rest).at(), What::Via);
        // sent-protocol: nearly always spelt without white space, legally with (RFC 4475 3.1.1.1).
        let rest = match value.strip_prefix(b"SIP/2.0/") {
            Some(rest) => rest,
            None => {
                let rest = token_then_slash(value).ok_or_else(|| fault(value))?;
                token_then_slash(rest).ok_or_else(|| fault(rest))?
            }
        };
        let rest = scan::trim_start(rest);
        let (transport, rest) = Class::TOKEN.run(rest);
        self.transport = transport;
        let sent_by = scan::trim_start(rest);
        if transport.is_empty() || sent_by.len() == rest.len() {
            return Err(fault(rest));
        }
        let (host, rest) = split_host(sent_by);
        if host.is_empty() {
            return Err(fault(sent_by));
        }
        self.host = host;
        let mut rest = scan::trim_start(rest);
        if let [b':', after @ ..] = rest {
            let after = scan::trim_start(after);
            let (digits, after) = Class::DIGIT.run(after);
            let port = scan::decimal(digits).and_then(|port| u16::try_from(port).ok());
            self.port = Some(port.filter(|&port| port != 0).ok_or_else(|| fault(rest))?);
            rest = after;
        }
        self.params = Params::new(rest);
        let place = |part: &[u8]| scan::span_in(value, part);
        let begins = place(self.params.as_bytes()).at();
        let params = self.params;
        params
            .each(|param| {
                let claimed = param.value.unwrap_or_default();
                match param.name.len() {
                    // A parameter given twice: the first counts, as everywhere.
                    6 if self.branch.is_none() && param.name.eq_ignore_ascii_case(b"branch") => {
                        self.branch = Some(claimed)
                    }
                    5 if self.rport.is_none() && param.name.eq_ignore_ascii_case(b"rport") => {
                        self.rport = Some(scan::decimal(claimed).and_then(|port| u16::try_from(port).ok()));
                        let end = param.value.map_or(place(param.name), place).end();
                        self.rport_text = value.get(place(param.name).at()..end);
                    }
                    8 if self.received.is_none() && param.name.eq_ignore_ascii_case(b"received") => {
                        self.received = Some(claimed);
                    }
                    5 if self.maddr.is_none() && param.name.eq_ignore_ascii_case(b"maddr") => {
                        self.maddr = Some(claimed)
                    }
                    3 if param.name.eq_ignore_ascii_case(b"ttl") => {
                        self.ttl = scan::decimal(claimed).and_then(|ttl| u8::try_from(ttl).ok());
                    }
                    _ => {}
                }
            })
            .map_err(|found| Fault::new(begins + found.at as usize, What::Via))
    }
}

/// A token, and what comes after the slash behind it.
fn token_then_slash(octets: &[u8]) -> Option<&[u8]> {
    let (token, rest) = Class::TOKEN.run(scan::trim_start(octets));
    if token.is_empty() { None } else { scan::trim_start(rest).strip_prefix(b"/") }
}

/// The host at the start, an IPv6 reference with its brackets, and the rest. Empty when there is none.
pub(crate) fn split_host(octets: &[u8]) -> (&[u8], &[u8]) {
    match octets.first() {
        Some(b'[') => {
            let (inner, rest) = Class::IPV6.run(octets.get(1..).unwrap_or_default());
            match rest.first() {
                Some(b']') if !inner.is_empty() => scan::split(octets, inner.len() + 2),
                _ => (&[], octets),
            }
        }
        _ => Class::HOST.run(octets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_via_is_read_with_all_it_says() {
        let via =
            Via::parse(b"SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKx;rport;received=192.0.2.9;maddr=m.example;ttl=16");
        assert_eq!(
            via.map(|via| Via { params: Params::default(), ..via }),
            Ok(Via {
                transport: b"UDP",
                host: b"192.0.2.1",
                port: Some(5070),
                branch: Some(b"z9hG4bKx"),
                received: Some(b"192.0.2.9"),
                rport: Some(None),
                rport_text: Some(b"rport"),
                maddr: Some(b"m.example"),
                ttl: Some(16),
                params: Params::default(),
            })
        );
        let six = Via::parse(b"SIP/2.0/TCP [2001:db8::1]:5060;rport=4711;branch=z9hG4bK").unwrap();
        assert_eq!((six.host, six.port, six.rport), (&b"[2001:db8::1]"[..], Some(5060), Some(Some(4711))));
        assert_eq!(six.rport_text, Some(&b"rport=4711"[..]));
        assert!(!six.has_cookie());
        let twice = Via::parse(b"SIP/2.0/TCP h; RPORT = \"7\" ;rport=8").unwrap();
        assert_eq!((twice.rport, twice.rport_text), (Some(None), Some(&b"RPORT = \"7\""[..])), "the first counts");
    }

    #[test]
    fn white_space_may_stand_anywhere() {
        let via =
            Via::parse(b"SIP  / 2.0  / TCP     spindle.example.com   : 5062 ;\r\n  branch  =   z9hG4bK9ikj8").unwrap();
        assert_eq!(via.transport, b"TCP");
        assert_eq!(via.host, b"spindle.example.com");
        assert_eq!(via.port, Some(5062));
        assert_eq!(via.branch, Some(&b"z9hG4bK9ikj8"[..]));
        assert!(via.has_cookie());
    }

    #[test]
    fn what_is_no_via_is_a_fault_and_the_host_before_it_is_kept() {
        for bad in [&b""[..], b"SIP/2.0", b"SIP/2.0/UDP", b"SIP/2.0/UDP ", b"SIP/2.0/UDP [::1", b"SIP/2.0/UDP h:0"] {
            assert!(Via::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(Via::parse(b"SIP/2.0/UDP h:99999").is_err());
        let (via, fault) = Via::read(b"SIP/2.0/UDP 192.0.2.15;;");
        assert_eq!(via.host, b"192.0.2.15");
        assert_eq!(fault, Some(Fault::new(22, What::Via)));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_harm(tail in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Via::parse(&tail);
            let _ = Via::parse(&[&b"SIP/2.0/UDP h"[..], &tail].concat());
        }
    }
}
