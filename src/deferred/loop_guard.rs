//! The loop guard: an INVITE of ours that the SIP/IP core hands back to us on its way to the user, because the user's filter criteria
//! name us for every INVITE. It goes on to where its next Route leads, and its answers go back: the one exception to "deferd never
//! forwards". Without state: what a message says of itself is enough, and a repetition takes the same way.

use super::cx::Cx;
use super::identity::{self, Address, Resource};
use crate::base::net::Flow;
use crate::wire::sip::address::NameAddr;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use crate::wire::sip::onward;
use crate::wire::sip::via::Via;
use crate::wire::uri::Uri;
use bytes::Bytes;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Branches of what is forwarded begin so; those of our own transactions have hexadecimal digits there.
const BRANCH: &[u8] = b"z9hG4bK-isc-";

/// The port of a SIP URI that names none.
const SIP_PORT: u16 = 5060;

/// What becomes of a message that has come round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Looped {
    /// It goes on.
    Onward(Flow, Bytes),
    /// A request of ours that cannot go on: it is answered so.
    Refused(u16),
    /// A message of ours that cannot go on, and is not answered.
    Dropped,
}

/// Looks whether `message` is one of ours that comes back, or an answer to one; `None` for everything else.
pub fn judge(cx: &Cx, message: &Message, flow: &Flow, trusted: &[IpNet]) -> Option<Looped> {
    if !message.is_request() {
        let branch = message.top_via().branch?;
        return branch.starts_with(BRANCH).then(|| answer(message, flow, trusted));
    }
    if !matches!(message.method(), Method::Invite | Method::Ack | Method::Cancel)
        || !is_ours(cx, message, flow, trusted)
    {
        return None;
    }
    let ack = message.method() == Method::Ack;
    let mut routes = message.values(Name::Route);
    let first = routes.next();
    let pop = first.is_some_and(|route| is_own(cx, route));
    let Some(next) = (if pop { routes.next() } else { first }) else {
        // Nothing says where it is to go: whoever sent it here made a loop.
        return Some(if ack { Looped::Dropped } else { Looped::Refused(482) });
    };
    let (transport, sent_by) = cx.addresses.sent_by(flow);
    //= RFC 3261 16.11: the branch MUST be computed as a function of parameters of the request that are invariant on retransmission
    let mark = [message.top_via().branch.unwrap_or_default(), message.call_id()].concat();
    let branch = String::from_utf8_lossy(BRANCH);
    let via = format!("SIP/2.0/{transport} {sent_by};branch={branch}{:016x}", cx.directory.hash(&mark));
    Some(match onward::request(message, via.as_bytes(), pop) {
        Some(octets) => Looped::Onward(towards(flow, address_of(next)), octets),
        None if ack => Looped::Dropped,
        None => Looped::Refused(483),
    })
}

/// True for a request of a push: from a peer we trust, in our name, with a Call-ID and a tag as we make them, for a user of ours.
fn is_ours(cx: &Cx, message: &Message, flow: &Flow, trusted: &[IpNet]) -> bool {
    let host = cx.policy.hostname.as_bytes();
    let id = message.call_id().split(|&octet| octet == b'@').collect::<Vec<_>>();
    let made_by_us = matches!(id.as_slice(), [id, at] if id.len() == 24 && at.eq_ignore_ascii_case(host));
    if !made_by_us || message.from_tag().is_none_or(|tag| tag.len() != 20) || !is_trusted(flow, trusted) {
        return false;
    }
    let is_psi = |value: &[u8]| {
        let address = NameAddr::parse(value).ok().and_then(|address| Address::of_uri(address.uri));
        address.is_some_and(|address| *address == *format!("sip:Deferred@{}", cx.policy.hostname).as_bytes())
    };
    let asserted = message.method() != Method::Invite || message.values(Name::PAssertedIdentity).any(is_psi);
    let own = |host: &[u8]| cx.addresses.is_own_host(host);
    let user = matches!(identity::resource(&cx.policy, message.request_uri(), own), Ok(Resource::User(_)));
    asserted && is_psi(message.from()) && user && (message.method() == Method::Ack || message.to_tag().is_none())
}

fn answer(message: &Message, flow: &Flow, trusted: &[IpNet]) -> Looped {
    let next = message.values(Name::Via).nth(1).and_then(|via| Via::parse(via).ok());
    let Some(next) = next.filter(|_| is_trusted(flow, trusted)) else { return Looped::Dropped };
    //= RFC 3261 18.2.2: the response is sent to the address in "received", or in sent-by, of the topmost Via
    let host = next.received.or(Some(next.host)).and_then(address);
    let port = next.rport.flatten().or(next.port).unwrap_or(SIP_PORT);
    Looped::Onward(towards(flow, host.map(|host| SocketAddr::new(host, port))), onward::response(message))
}

fn is_trusted(flow: &Flow, trusted: &[IpNet]) -> bool {
    let peer = flow.peer().ip().to_canonical();
    trusted.iter().any(|net| net.contains(&peer))
}

/// True for a Route that leads to us.
fn is_own(cx: &Cx, route: &[u8]) -> bool {
    let Some(uri) = NameAddr::parse(route).ok().and_then(|route| Uri::parse(route.uri).ok()) else { return false };
    let named = uri.host.eq_ignore_ascii_case(cx.policy.hostname.as_bytes());
    let port = uri.port.unwrap_or(SIP_PORT);
    let listens = |entries: &[(SocketAddr, String)]| {
        entries.iter().any(|(at, text)| at.port() == port || text.ends_with(&format!(":{port}")))
    };
    named || cx.addresses.is_own_host(uri.host) && (listens(&cx.addresses.udp) || listens(&cx.addresses.tcp))
}

fn address_of(route: &[u8]) -> Option<SocketAddr> {
    let route = NameAddr::parse(route).ok()?;
    let uri = Uri::parse(route.uri).ok()?;
    Some(SocketAddr::new(address(uri.host)?, uri.port.unwrap_or(SIP_PORT)))
}

fn address(host: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(host).ok()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The core that handed it to us is the one that its Route and its Via name: a connection is used back. A datagram goes to the
/// address that is written, or, where that is a name, to where the message came from.
fn towards(flow: &Flow, to: Option<SocketAddr>) -> Flow {
    match (*flow, to) {
        (Flow::Datagram { socket, peer }, Some(to)) if to.is_ipv4() == peer.is_ipv4() => {
            Flow::Datagram { socket, peer: to }
        }
        (flow, _) => flow,
    }
}
