//! What outlives the daemon of a user's presence: as octets in a state record, and back.

use super::bindings::Bindings;
use crate::base::clock::Wall;
use crate::base::net::{Flow, SocketId};
use crate::proto::sip::publication::Publications;
use std::net::SocketAddr;

/// Version of the octets below, without registrations and with them.
const VERSION: u8 = 1;
const REGISTERED: u8 = 2;

/// `version, flow (text with its length), wish (0 none, 1 yes, 2 no) and its time, registrations in version 2, publications`.
pub(super) fn encode(
    out: &mut Vec<u8>,
    flow: Option<Flow>,
    wish: Option<(bool, Wall)>,
    bindings: &Bindings,
    publications: &Publications,
) {
    out.push(if bindings.is_empty() { VERSION } else { REGISTERED });
    encode_flow(out, flow);
    let (mark, when) = match wish {
        None => (0, Wall(0)),
        Some((true, when)) => (1, when),
        Some((false, when)) => (2, when),
    };
    out.push(mark);
    out.extend_from_slice(&when.0.to_le_bytes());
    if !bindings.is_empty() {
        bindings.encode(out);
    }
    publications.encode(out);
}

/// Where the last PUBLISH or REGISTER came from, the last wish and when it was published, registrations and publications.
pub(super) type Kept = (Option<Flow>, Option<(bool, Wall)>, Bindings, Publications);

pub(super) fn decode(octets: &[u8]) -> Option<Kept> {
    let (&version, rest) = octets.split_first()?;
    if !matches!(version, VERSION | REGISTERED) {
        return None;
    }
    let (&len, rest) = rest.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(len))?;
    let flow = decode_flow(std::str::from_utf8(text).ok()?);
    let (&mark, rest) = rest.split_first()?;
    let (when, rest) = rest.split_first_chunk::<8>()?;
    let when = Wall(u64::from_le_bytes(*when));
    let wish = match mark {
        1 => Some((true, when)),
        2 => Some((false, when)),
        _ => None,
    };
    let (bindings, rest) = if version == REGISTERED { Bindings::decode(rest)? } else { (Bindings::default(), rest) };
    Some((flow, wish, bindings, Publications::decode(rest).ok()?))
}

/// A flow as text, behind its length.
pub(super) fn encode_flow(out: &mut Vec<u8>, flow: Option<Flow>) {
    let text = match flow {
        Some(Flow::Datagram { socket, peer }) => format!("udp {} {peer}", socket.0),
        Some(Flow::Stream { core, conn, peer }) => format!("tcp {} {} {peer}", core.0, conn.0),
        None => String::new(),
    };
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Only a datagram's flow outlives the daemon.
pub(super) fn decode_flow(text: &str) -> Option<Flow> {
    let mut words = text.split(' ');
    match words.next()? {
        "udp" => {
            let socket = SocketId(words.next()?.parse().ok()?);
            let peer: SocketAddr = words.next()?.parse().ok()?;
            Some(Flow::Datagram { socket, peer })
        }
        _ => None,
    }
}
