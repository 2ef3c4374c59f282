//! Who is who: the served user a request is for, and the user it comes from (12.2; RFC 3325).

use super::policy::{Aliases, Policy};
use crate::wire::sip::address::NameAddr;
use crate::wire::sip::fault::What;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::uri::{Scheme, Uri};
use ipnet::IpNet;
use std::net::IpAddr;

/// A canonical address of record (`sip:user@host`, or `tel:+...`): the name under which everything of a user is kept.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(Box<[u8]>);

impl Address {
    /// From octets that are canonical already, such as those of a record.
    pub fn from_canonical(octets: &[u8]) -> Address {
        Address(octets.into())
    }

    /// The canonical form of a URI; `None` when it is not one that can name a user.
    pub fn of_uri(octets: &[u8]) -> Option<Address> {
        Address::of(&Uri::parse(octets).ok()?)
    }

    fn of(uri: &Uri<'_>) -> Option<Address> {
        if uri.scheme != Scheme::Tel && uri.user.is_none_or(<[u8]>::is_empty) {
            return None;
        }
        canonical(uri)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Octets of an address of record. The longest local part and host that mail allows are 64 and 255; what is longer than this
/// would cost every table that keeps users.
const ADDRESS_OCTETS_MAX: usize = 1024;

/// The address of record that a URI means. A port says where to send, not who is meant: with it the same user would be
/// another, whose messages nobody fetches.
fn canonical(uri: &Uri<'_>) -> Option<Address> {
    let mut out = Vec::with_capacity(uri.user.map_or(0, <[u8]>::len) + uri.host.len() + 5);
    Uri { port: None, ..*uri }.canonical(&mut out);
    (out.len() <= ADDRESS_OCTETS_MAX).then(|| Address(out.into()))
}

impl std::ops::Deref for Address {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Address {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// What a Request-URI names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resource {
    /// A user of a served domain.
    User(Address),
    /// `Deferred@host`: retrieval, and the From of every push (12.1.1).
    Deferred,
    /// `Delete@host` (12.1.3).
    Delete,
    /// This server itself: no user part.
    Server,
    /// A URI of ours in a Contact: the octets of its user part.
    Contact(Box<[u8]>),
}

/// Why a Request-URI names nothing here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unserved {
    /// Not a URI at all: 400.
    Malformed,
    /// A scheme we do not route: 416.
    Scheme,
    /// Not a user of ours: 404.
    NotFound,
    /// Longer than any address here: 414.
    TooLong,
}

impl Unserved {
    /// The status it is answered with.
    pub fn status(self) -> u16 {
        match self {
            Unserved::Malformed => 400,
            Unserved::Scheme => 416,
            Unserved::NotFound => 404,
            Unserved::TooLong => 414,
        }
    }
}

/// Who sent a message whose sender asked for privacy (RFC 3323 4.1.1.3).
pub const ANONYMOUS: &[u8] = b"sip:anonymous@anonymous.invalid";

/// User parts of our own Contacts begin with this; see [`super::invite`].
pub const CONTACT_PREFIX: &[u8] = b"push-";

/// And those of sessions in which large messages come.
pub const LARGE_PREFIX: &[u8] = b"defer-";

/// Those of a subscription's Contact with this; see [`super::summary`].
pub const SUMMARY_PREFIX: &[u8] = b"summary-";

/// What `request_uri` names (12.2). `is_own_host` says whether a host is one of our addresses.
pub fn resource(
    policy: &Policy,
    request_uri: &[u8],
    is_own_host: impl Fn(&[u8]) -> bool,
) -> Result<Resource, Unserved> {
    let uri = Uri::parse_target(request_uri).map_err(|fault| match fault.what {
        What::UriScheme => Unserved::Scheme,
        _ => Unserved::Malformed,
    })?;
    resource_of(policy, &uri, is_own_host)
}

/// What the Request-URI of `message` names; as [`resource`], of what was read with the message.
pub fn requested(
    policy: &Policy,
    message: &Message,
    is_own_host: impl Fn(&[u8]) -> bool,
) -> Result<Resource, Unserved> {
    match message.target() {
        Some(uri) => resource_of(policy, &uri, is_own_host),
        None => resource(policy, message.request_uri(), is_own_host),
    }
}

fn resource_of(policy: &Policy, uri: &Uri<'_>, is_own_host: impl Fn(&[u8]) -> bool) -> Result<Resource, Unserved> {
    match uri.scheme {
        Scheme::Sip | Scheme::Sips => {}
        Scheme::Tel => {
            let address = policy.aliases.of(canonical(uri).ok_or(Unserved::TooLong)?);
            return if is_served(policy, &address) { Ok(Resource::User(address)) } else { Err(Unserved::NotFound) };
        }
        Scheme::Other => return Err(Unserved::Scheme),
    }
    let served = serves(policy, uri.host);
    // Most requests are for a user of a served domain: then nobody asks whether the host is one of our addresses.
    let is_ours = || uri.host.eq_ignore_ascii_case(policy.hostname.as_bytes()) || is_own_host(uri.host);
    if uri.user.is_none_or(<[u8]>::is_empty) {
        return if served || is_ours() { Ok(Resource::Server) } else { Err(Unserved::NotFound) };
    }
    let address = canonical(uri).ok_or(Unserved::TooLong)?;
    // With the escapes undone that are not needed: `%44elete@` is no mailbox.
    let user = address.split(|&octet| octet == b'@').next().and_then(|user| user.get(4..)).unwrap_or_default();
    if served || is_ours() {
        // The user part is case-sensitive, but the mission writes Deferred@ and deferred@ alike.
        if user.eq_ignore_ascii_case(b"Deferred") {
            return Ok(Resource::Deferred);
        }
        if user.eq_ignore_ascii_case(b"Delete") {
            return Ok(Resource::Delete);
        }
    }
    let is_contact = [CONTACT_PREFIX, LARGE_PREFIX, SUMMARY_PREFIX].iter().any(|prefix| user.starts_with(prefix));
    if is_contact && is_ours() {
        return Ok(Resource::Contact(user.into()));
    }
    if !served {
        return Err(Unserved::NotFound);
    }
    Ok(Resource::User(address))
}

/// The authenticated originator (RFC 3325 9.1), under the address that a number is an alias of.
///
//= RFC 3325 5: a P-Asserted-Identity is honoured only from a trusted peer, never From.
pub fn originator(aliases: &Aliases, message: &Message, peer: IpAddr, trusted: &[IpNet]) -> Option<Address> {
    let peer = peer.to_canonical();
    if !trusted.iter().any(|net| net.contains(&peer)) {
        return None;
    }
    // A sip: or sips: URI names a user better than a tel: one; of several of a kind the first counts (RFC 3325 9.1).
    let mut tel = None;
    for value in message.values(Name::PAssertedIdentity) {
        let Ok(uri) = NameAddr::parse(value).and_then(|address| address.uri()) else { continue };
        match uri.scheme {
            Scheme::Sip | Scheme::Sips => return Address::of(&uri),
            Scheme::Tel => tel = tel.or(Some(uri)),
            Scheme::Other => {}
        }
    }
    Address::of(&tel?).map(|address| aliases.of(address))
}

/// True for a user of a served domain, who alone can have messages here.
pub fn is_served(policy: &Policy, address: &Address) -> bool {
    let Ok(uri) = Uri::parse(address) else { return false };
    matches!(uri.scheme, Scheme::Sip | Scheme::Sips) && serves(policy, uri.host)
}

/// True for the host of a served domain. Nearly all write it as we do, in lower case: octet for octet is compared first.
fn serves(policy: &Policy, host: &[u8]) -> bool {
    let mut domains = policy.domains.iter().map(String::as_bytes);
    domains.any(|domain| host == domain || host.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Result<Resource, Unserved> {
        let policy = Policy::new("im.example.org", &["example.org"]);
        resource(&policy, uri.as_bytes(), |host| host == b"192.0.2.10")
    }

    fn user(address: &str) -> Result<Resource, Unserved> {
        Ok(Resource::User(Address::from_canonical(address.as_bytes())))
    }

    #[test]
    fn one_user_has_one_address_however_it_is_written() {
        for way in [
            "sip:bob@example.org",
            "sip:bob@EXAMPLE.org:5060",
            "sip:bob@example.org:5070",
            "sips:bob@example.org:443",
            "sip:b%6Fb@example.org;user=phone",
            "sip:bob:secret@example.org;transport=tcp",
        ] {
            assert_eq!(of(way), user("sip:bob@example.org"), "{way}");
            assert_eq!(Address::of_uri(way.as_bytes()).as_deref(), Some(&b"sip:bob@example.org"[..]), "{way}");
        }
        assert_eq!(
            of("sip:Bob@example.org"),
            user("sip:Bob@example.org"),
            "RFC 3261 19.1.4: the user part has its case"
        );
        assert_eq!(of("sip:a%40b@example.org"), user("sip:a%40b@example.org"));
    }

    #[test]
    fn services_are_no_mailboxes_and_strangers_are_not_found() {
        for way in ["sip:Deferred@example.org", "sip:deferred@im.example.org", "sip:%64eferred@example.org"] {
            assert_eq!(of(way), Ok(Resource::Deferred), "{way}");
        }
        assert_eq!(of("sip:DELETE@192.0.2.10:5060"), Ok(Resource::Delete));
        assert_eq!(of("sip:example.org"), Ok(Resource::Server));
        assert_eq!(of("sip:bob@192.0.2.10"), Err(Unserved::NotFound));
        assert_eq!(of("tel:+15551234"), Err(Unserved::NotFound));
        let address = |uri: &str| Address::of_uri(uri.as_bytes()).unwrap();
        let pairs = [("tel:+1-555-1234", "sip:bob@example.org"), ("tel:+15550000", "sip:carol@example.net")];
        let mut policy = Policy::new("im.example.org", &["example.org"]);
        policy.aliases = Aliases::new(pairs.map(|(tel, sip)| (address(tel), address(sip))));
        let of_tel = |uri: &str| resource(&policy, uri.as_bytes(), |_| false);
        assert_eq!(of_tel("tel:+1(555)12-34;isub=7"), user("sip:bob@example.org"));
        assert_eq!(of_tel("tel:+15550000"), Err(Unserved::NotFound), "an alias of somebody elsewhere");
        assert_eq!(of_tel("tel:5551234;phone-context=+1"), Err(Unserved::NotFound), "another number");
        assert_eq!(of("http://example.org/"), Err(Unserved::Scheme));
        assert_eq!(of(&format!("sip:{}@example.org", "x".repeat(2_000))), Err(Unserved::TooLong));
        assert_eq!(of("sip:push-0000@192.0.2.10"), Ok(Resource::Contact(b"push-0000".as_slice().into())));
    }
}
