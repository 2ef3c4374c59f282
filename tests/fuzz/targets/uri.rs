//! URIs: an address of record has one form, and that form names the same user.

use deferd::wire::msrp::uri::{self as path, MsrpUri};
use deferd::wire::sip::address::NameAddr;
use deferd::wire::sip::via::Via;
use deferd::wire::uri::{Scheme, Uri};

pub(super) fn uri(octets: &[u8]) {
    if let Ok(uri) = Uri::parse(octets) {
        one(&uri);
    }
    let _ = Uri::parse_target(octets);
    let _ = Via::parse(octets).map(|via| via.has_cookie());
    if let Ok(address) = NameAddr::parse(octets) {
        let _ = (address.display_name(), address.tag(), address.is_star());
        if let Ok(uri) = address.uri() {
            one(&uri);
        }
    }
    if let Ok(uri) = MsrpUri::parse(octets) {
        assert!(uri.equals(&uri) && path::same(octets, octets));
        let mut out = Vec::new();
        uri.write(&mut out);
        let again = MsrpUri::parse(&out).unwrap_or_else(|fault| panic!("{fault:?}: {}", out.escape_ascii()));
        assert!(uri.equals(&again), "{} is another session", out.escape_ascii());
        let _ = uri.ip();
    }
    assert!(path::uris(octets).all(|uri| !uri.is_empty()));
    assert_eq!(path::uris(octets).next().unwrap_or_default(), path::leftmost(octets));
}

fn one(uri: &Uri<'_>) {
    assert!(uri.eq_aor(uri));
    // Nobody is known by an address that is not served.
    if uri.served().is_err() {
        assert_eq!(uri.scheme, Scheme::Other);
        return;
    }
    let mut once = Vec::new();
    uri.canonical(&mut once);
    let again = Uri::parse(&once).unwrap_or_else(|fault| panic!("{fault}: {}", once.escape_ascii()));
    let mut twice = Vec::new();
    again.canonical(&mut twice);
    assert_eq!(once, twice, "a canonical form is its own: {}", once.escape_ascii());
    assert!(uri.eq_aor(&again) && again.eq_aor(uri), "{} is somebody else", once.escape_ascii());
}
