//! What the tests of the endpoint work with: an endpoint, a clock, and real octets.

use super::*;
use crate::base::limits::Limits;
use crate::base::net::SocketId;
use std::net::SocketAddr;

pub(super) const PEER: &str = "192.0.2.7:5070";

pub(super) fn udp(peer: &str) -> Flow {
    Flow::Datagram { socket: SocketId(0), peer: address(peer) }
}

pub(super) fn tcp(conn: u64, peer: &str) -> Flow {
    Flow::Stream { core: CoreId(3), conn: ConnId(conn), peer: address(peer) }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is an address"))
}

pub(super) fn read(octets: &[u8]) -> Message {
    let octets = Bytes::copy_from_slice(octets);
    Message::parse_datagram(octets, &Limits::default()).unwrap_or_else(|bad| panic!("{:?}", bad.fault))
}

/// A request: `method` by `branch`, with more header lines.
pub(super) fn request(method: &str, branch: &str, more: &str) -> Message {
    // An ACK and a CANCEL belong to the call of their INVITE.
    let call = branch.trim_end_matches(char::is_uppercase);
    let text = format!(
        "{method} sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP pc.example.net:5070;rport;branch={branch}\r\n\
         From: <sip:alice@example.net>;tag=a1\r\nTo: <sip:bob@example.com>\r\nCall-ID: {call}@pc\r\nCSeq: 7 {method}\r\n\
         Max-Forwards: 70\r\n{more}Content-Length: 0\r\n\r\n"
    );
    read(text.as_bytes())
}

/// An answer of the user's, to-tag included.
pub(super) fn answer(request: &Message, status: u16) -> Bytes {
    let octets = crate::wire::sip::Response::to(request, status, address(PEER)).to_tag(b"b1").finish();
    assert!(Message::parse_datagram(octets.clone(), &Limits::default()).is_ok());
    octets
}

/// An endpoint with its clock.
pub(super) struct Side {
    pub(super) endpoint: Endpoint,
    pub(super) now: Tick,
    pub(super) dice: Dice,
}

impl Side {
    pub(super) fn new() -> Side {
        Side::with_room(1_000)
    }

    pub(super) fn with_room(transactions_max: usize) -> Side {
        let setup = EndpointSetup { core: CoreId(3), transactions_max, timing: Timing::default() };
        Side { endpoint: Endpoint::new(setup), now: Tick(5_000_000), dice: Dice::from_seed([1; 32]) }
    }

    pub(super) fn receive(&mut self, message: &Message, flow: Flow) {
        self.endpoint.receive(self.now, message.clone(), flow);
    }

    /// The one request that is to be answered.
    pub(super) fn asked(&mut self) -> ServerKey {
        match self.told().as_slice() {
            [Upward::Request { txn, .. }] => *txn,
            other => panic!("one request and not {other:?}"),
        }
    }

    pub(super) fn respond(&mut self, txn: ServerKey, octets: &Bytes) {
        let status = read(octets).status();
        self.endpoint.respond(self.now, txn, status, octets.clone());
    }

    /// Time passes, milliseconds at a time, so that every timer fires when it is due.
    pub(super) fn wait(&mut self, ms: u64) {
        let end = Tick(self.now.0 + ms * 1_000);
        while let Some(at) = self.endpoint.deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.endpoint.turn(self.now);
        }
        self.now = end;
        self.endpoint.turn(end);
    }

    pub(super) fn told(&mut self) -> Vec<Upward> {
        std::iter::from_fn(|| self.endpoint.poll_upward()).collect()
    }

    pub(super) fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.endpoint.poll_transmit()).collect()
    }

    /// What was sent, by its first line without the version.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let line = |sent: Transmit| {
            let text = String::from_utf8_lossy(&sent.octets).into_owned();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("SIP/2.0 ").trim_end_matches(" SIP/2.0").to_owned()
        };
        self.sent().into_iter().map(line).collect()
    }

    /// A request of ours, as its user would build it, and its message.
    pub(super) fn ours(&mut self, method: Method, more: &[(crate::wire::sip::Name, &[u8])]) -> (Bytes, Message) {
        use crate::wire::sip::{Name, Request};
        let branch = self.endpoint.branch(&mut self.dice);
        let via = [b"SIP/2.0/UDP dmf.example.com;rport;branch=", &*branch].concat();
        let call = self.dice.hex::<8>();
        let mut request =
            Request::new(method, b"sip:bob@example.com").line(Name::Via, &via).number(Name::MaxForwards, 70);
        for (name, value) in more {
            request = request.line(*name, value);
        }
        let octets = request
            .line(Name::From, b"<sip:Deferred@example.com>;tag=d1")
            .line(Name::To, b"<sip:bob@example.com>")
            .line(Name::CallId, &call)
            .cseq(9, method)
            .finish();
        let message = read(&octets);
        (octets, message)
    }
}
