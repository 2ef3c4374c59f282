//! Which messages are let in at all, whatever becomes of them: the operator's lists of senders, receivers and types.

use super::cx::Cx;
use super::identity::Address;
use super::respond::{self, Refusal};
use crate::wire::cpim;
use crate::wire::sip::fields::MediaType;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::sip::via::Via;
use crate::wire::uri::Uri;

/// Whose messages are refused, those they send or those they would get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Blocked {
    /// One user's.
    User(Address),
    /// Those of everybody at a host, in lower case.
    Host(String),
}

impl Blocked {
    /// True for a sender it means.
    pub fn means(&self, sender: &Address) -> bool {
        match self {
            Blocked::User(user) => user == sender,
            Blocked::Host(host) => Uri::parse(sender).is_ok_and(|uri| uri.host.eq_ignore_ascii_case(host.as_bytes())),
        }
    }
}

/// Refuses a sender whom the operator blocks: 403.
pub(super) fn sender(cx: &Cx, sender: &Address) -> Result<(), Refusal> {
    if cx.policy.blocked_senders.iter().any(|blocked| blocked.means(sender)) {
        let warning = respond::warning(cx, "this sender is blocked here");
        return Err(Refusal::of(403).with(Name::Warning, warning));
    }
    Ok(())
}

/// Refuses what is for somebody for whom nothing is deferred: 480, as from any client that is not there.
pub(super) fn receiver(cx: &Cx, owner: &Address) -> Result<(), Refusal> {
    if !cx.policy.deferral || cx.policy.not_deferred.iter().any(|not| not.means(owner)) {
        let warning = respond::warning(cx, "messages for this user are not deferred");
        return Err(Refusal::of(480).with(Name::Warning, warning));
    }
    Ok(())
}

/// Refuses content of a type that the operator does not accept, inside CPIM too: 415, and what is accepted.
//= RFC 3261 8.2.3: a body type that is not understood: 415 with an Accept header
pub(super) fn content(cx: &Cx, media: &[u8], body: &[u8]) -> Result<(), Refusal> {
    let ranges = &cx.policy.accepted_types;
    let accepted = |media: &[u8]| media.is_empty() || ranges.iter().any(|range| takes_in(range, media));
    let inside = if media.eq_ignore_ascii_case(b"message/cpim") { cpim::content_media(body) } else { None };
    if accepted(media) && inside.is_none_or(accepted) {
        return Ok(());
    }
    Err(Refusal::of(415).with(Name::Accept, ranges.join(", ")))
}

/// True when `media`, a `type/subtype`, is of this range.
fn takes_in(range: &str, media: &[u8]) -> bool {
    match range {
        // What is accepted where the operator says nothing: everything that is a type at all.
        "*/*" => media.contains(&b'/'),
        range => MediaType::parse(range.as_bytes()).is_some_and(|range| range.accepts(media)),
    }
}

/// True for a request of ours that came back: one of its Vias is our own.
//= RFC 3261 16.3: a request whose Via holds a value of ours has looped: 482
pub(super) fn has_looped(cx: &Cx, message: &Message) -> bool {
    let mut vias = message.values(Name::Via).filter_map(|value| Via::parse(value).ok());
    vias.any(|via| cx.addresses.is_own_via(via.host, via.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_a_type_is_of_the_range_of_all() {
        for media in ["text/plain", "message/cpim", "a/b", "/", "text", ""] {
            let parsed = MediaType::parse(b"*/*").is_some_and(|range| range.accepts(media.as_bytes()));
            assert_eq!(takes_in("*/*", media.as_bytes()), parsed, "{media}");
        }
        assert!(
            takes_in("text/*", b"TEXT/plain") && !takes_in("text/*", b"image/png") && !takes_in("text", b"text/plain")
        );
    }

    #[test]
    fn a_sender_is_meant_by_address_or_by_host() {
        let of = |uri: &[u8]| Address::from_canonical(uri);
        let user = Blocked::User(of(b"sip:spam@example.net"));
        assert!(user.means(&of(b"sip:spam@example.net")) && !user.means(&of(b"sip:ham@example.net")));
        let host = Blocked::Host("example.net".into());
        assert!(host.means(&of(b"sip:anybody@example.net")) && !host.means(&of(b"sip:anybody@sub.example.net")));
        assert!(!host.means(&of(b"tel:+15551234")));
    }
}
