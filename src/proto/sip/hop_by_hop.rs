//! The messages that the transaction layer writes itself, none of which goes further than one hop: the ACK for a refusal,
//! CANCEL, 100, and the short answers for which no transaction is kept.

use crate::base::limits::Limits;
use crate::base::net::Flow;
use crate::wire::sip::{Message, Method, Name, Request, Response, Via};
use bytes::Bytes;
use std::net::SocketAddr;

/// Reads octets that were read before, or written by us: the bounds were checked then.
pub(super) fn reread(octets: Bytes) -> Option<Message> {
    Message::parse_datagram(octets, &Limits::unbounded()).ok()
}

/// The ACK for a response of 300 to 699 (RFC 3261 17.1.1.3).
pub(super) fn ack(invite: &Message, response: &Message) -> Bytes {
    //= RFC 3261 17.1.1.3: the To header field in the ACK MUST equal the To header field in the response
    along(invite, Method::Ack, response.to())
}

/// The CANCEL of an INVITE (RFC 3261 9.1).
pub(super) fn cancel(invite: &Message) -> Bytes {
    along(invite, Method::Cancel, invite.to())
}

/// A request that follows the very way of `invite`: its top Via, its Route, its CSeq number.
fn along(invite: &Message, method: Method, to: &[u8]) -> Bytes {
    let (number, _) = invite.cseq();
    let mut request = Request::new(method, invite.request_uri());
    //= RFC 3261 17.1.1.3: a single Via header field, and this MUST be equal to the top Via of the original request
    if let Some(via) = invite.values(Name::Via).next() {
        request = request.line(Name::Via, via);
    }
    //= RFC 3261 17.1.1.3: if the INVITE had Route header fields, those header fields MUST appear in the ACK
    for route in invite.headers(Name::Route) {
        request = request.line(Name::Route, route);
    }
    request
        .line(Name::From, invite.from())
        .line(Name::To, to)
        .line(Name::CallId, invite.call_id())
        .cseq(number, method)
        .number(Name::MaxForwards, 70)
        .finish()
}

/// 100 for a request whose user is silent. It has no To tag (RFC 3261 8.2.6.2).
pub(super) fn trying(request: &Message, source: SocketAddr) -> Bytes {
    Response::to(request, 100, source).finish()
}

/// An answer without a body.
pub(super) fn answer(request: &Message, status: u16, source: SocketAddr, tag: &[u8]) -> Bytes {
    Response::to(request, status, source).to_tag(tag).finish()
}

/// 503 with Retry-After.
pub(super) fn refusal(request: &Message, source: SocketAddr, tag: &[u8], retry_after_s: u64) -> Bytes {
    Response::to(request, 503, source).to_tag(tag).number(Name::RetryAfter, retry_after_s).finish()
}

/// The port to which responses go, where it is not the one the request came from.
///
//= RFC 3261 18.2.2: to the address in "received", using the port in sent-by, or 5060 if there is none
//= RFC 3581 4: with rport, to the source address and port of the request
///
/// `maddr` is not followed: it would make us send what a stranger wrote to whom the stranger names.
pub(super) fn answer_port(flow: Flow, via: &Via<'_>) -> Option<u16> {
    match flow {
        Flow::Datagram { .. } if via.rport.is_none() => Some(via.port.filter(|&port| port != 0).unwrap_or(5060)),
        _ => None,
    }
}

/// `flow`, but to that port.
pub(super) fn toward(flow: Flow, port: Option<u16>) -> Flow {
    match (flow, port) {
        (Flow::Datagram { socket, mut peer }, Some(port)) => {
            peer.set_port(port);
            Flow::Datagram { socket, peer }
        }
        _ => flow,
    }
}
