//! How durations, sizes, addresses and names are written in the configuration.

use crate::deferred::identity::Address;
use crate::deferred::policy::Blocked;
use crate::engine::setup::{SipAddress, Transport};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// `"30s"`, `"7d"`, `"1h30m"`, `"250ms"`, `"0s"`: numbers each with a unit of ms, s, m, h, d, largest first by custom only.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "is not a duration: write a number with ms, s, m, h or d, such as \"30s\" or \"7d\"";
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(EXPECTED);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(letters);
        let number: u64 = number.parse().map_err(|_| EXPECTED)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(EXPECTED),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or("is longer than time itself")?;
        rest = next;
    }
    Ok(total)
}

/// `"10MiB"`, `"64KiB"`, `"1300"`, `"2GB"`: a number with B, KiB, MiB, GiB, TiB, KB, MB, GB, TB or nothing.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "is not a size: write a number with B, KiB, MiB or GiB, such as \"10MiB\"";
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(EXPECTED),
    };
    number.checked_mul(factor).ok_or("is more than there is")
}

/// `"127.0.0.1:2855"`, `"[::1]:2855"`.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.trim()
        .parse()
        .map_err(|_| "is not an address: write IP and port, such as \"127.0.0.1:2855\" or \"[::1]:2855\"")
}

/// `"udp:127.0.0.1:5060"`, `"tcp:[::1]:5060"`.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn sip_address(text: &str) -> Result<SipAddress, &'static str> {
    const EXPECTED: &str = "is not a SIP address: write udp: or tcp:, IP and port, such as \"udp:127.0.0.1:5060\"";
    let (transport, addr) = text.trim().split_once(':').ok_or(EXPECTED)?;
    let transport = match transport {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return Err(EXPECTED),
    };
    let addr = addr.parse().map_err(|_| EXPECTED)?;
    Ok(SipAddress { transport, addr })
}

/// `"10.0.0.0/8"`, `"::1"`: a network, or one address.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn network(text: &str) -> Result<IpNet, &'static str> {
    let text = text.trim();
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map(|network: IpNet| network.trunc())
        .map_err(|_| "is not a network: write address/bits, such as \"10.0.0.0/8\", or one address")
}

/// Whose messages are refused: `sip:spam@example.net`, or `*@example.net` for everybody there.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn blocked(text: &str) -> Result<Blocked, &'static str> {
    match text.strip_prefix("*@") {
        Some(host) => hostname(host).map(Blocked::Host),
        None => Address::of_uri(text.as_bytes())
            .map(Blocked::User)
            .ok_or("is neither an address such as \"sip:spam@example.net\" nor \"*@\" and a host"),
    }
}

/// A number and whom it means: `tel:+15141234567 = sip:bob@example.org`.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn alias(text: &str) -> Result<(Address, Address), &'static str> {
    const EXPECTED: &str =
        "is no alias: write a number, = and an address, such as \"tel:+15141234567 = sip:bob@example.org\"";
    let (number, address) = text.split_once('=').ok_or(EXPECTED)?;
    let of =
        |text: &str, scheme: &[u8]| Address::of_uri(text.trim().as_bytes()).filter(|found| found.starts_with(scheme));
    of(number, b"tel:").zip(of(address, b"sip:")).ok_or(EXPECTED)
}

/// A host name as RFC 3261 25.1 has `hostname`, lower-cased: labels of letters, digits and inner hyphens.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn hostname(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "is not a host name: labels of letters, digits and hyphens, such as \"im.example.org\"";
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // An address is a host too (RFC 3261 25.1: IPv4address, IPv6reference).
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let is_address = text.parse::<std::net::Ipv4Addr>().is_ok()
        || bare.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
    if is_address || (text.len() <= 253 && text.split('.').all(label)) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(EXPECTED)
    }
}

/// `host` or `host:port`, for `advertise`.
///
/// # Errors
/// What is expected, as a sentence's end.
pub fn host_port(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "is not host or host:port, such as \"im.example.org:5060\"";
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside brackets belongs to the address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) || hostname(host).is_err() {
        return Err(EXPECTED);
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        for (text, ms) in [("0s", 0), ("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1w", "5 s", "99999999999999999999d", "9999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_know_both_kinds_of_prefix() {
        for (text, octets) in [("0", 0), ("10MiB", 10 << 20), ("8 KiB", 8192), ("2GB", 2_000_000_000), ("7B", 7)] {
            assert_eq!(size(text), Ok(octets), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "10mib", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_networks_and_names_are_what_they_look_like() {
        assert!(sip_address("udp:[::1]:5060").is_ok_and(|a| a.transport == Transport::Udp && a.addr.is_ipv6()));
        for text in ["127.0.0.1:5060", "tls:127.0.0.1:5061", "udp:localhost:5060", "udp:", "tcp:1.2.3.4:99999"] {
            assert!(sip_address(text).is_err(), "{text}");
        }
        assert_eq!(network("10.1.2.3/8").map(|n| n.to_string()), Ok("10.0.0.0/8".into()));
        assert_eq!(network("::1").map(|n| n.to_string()), Ok("::1/128".into()));
        assert!(network("10.0.0.0/33").is_err());
        assert_eq!(hostname("IM.Example.ORG"), Ok("im.example.org".into()));
        assert!(hostname("[::1]").is_ok() && hostname("10.0.0.1").is_ok());
        for text in ["", "a..b", "-a", "a_b", "a b", "sip:a"] {
            assert!(hostname(text).is_err(), "{text}");
        }
        assert!(host_port("im.example.org:5060").is_ok() && host_port("[::1]").is_ok() && host_port("[::1]:5").is_ok());
        assert!(host_port("a:0").is_err() && host_port("a:b").is_err() && host_port("").is_err());
    }
}
