//! From octets to requests: cuts what lies in a connection's buffer, reads datagrams, and hands on what is whole.

use super::conns::{Conn, Cutter, Taker};
use super::core::Core;
use crate::base::net::{ConnId, Flow, SocketId};
use crate::proto::msrp::session;
use crate::wire::msrp::cut::Piece;
use crate::wire::sip::cut::Found;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use crate::wire::sip::write::Response;
use bytes::{Buf, Bytes};
use std::net::SocketAddr;

impl Core {
    pub(super) fn consume_sip(&mut self, id: ConnId) -> bool {
        loop {
            let Some(Conn { cutter: Cutter::Sip(cut), buffer, owed, peer, .. }) = self.conns.table.get_mut(&id) else {
                return true;
            };
            let peer = *peer;
            if let Some(message) = cut.take(buffer, &self.setup.limits) {
                self.sip_message(message, Flow::Stream { core: self.cx.core, conn: id, peer });
                self.upward();
                continue;
            }
            match cut.next(buffer) {
                Ok(Found::More) => return true,
                Ok(Found::KeepAlive { len, ping }) => {
                    buffer.advance(len);
                    if ping {
                        //= RFC 5626 3.5.1: a double CRLF is answered by a single one
                        owed.put(b"\r\n");
                    }
                }
                Ok(Found::Message { len, .. }) => {
                    let octets = buffer.split_to(len).freeze();
                    let flow = Flow::Stream { core: self.cx.core, conn: id, peer };
                    self.parse(octets, flow, false);
                }
                Err(fault) => {
                    //= RFC 3261 18.3: on a stream only Content-Length says where a message ends; without it nothing can be found again
                    tracing::debug!(%peer, ?fault, "not SIP: the connection is closed");
                    match cut.head().filter(|head| *head <= buffer.len()) {
                        // The head can be read: its sender is told what is wrong. Without its body it parses to a fault.
                        Some(head) => {
                            let octets = buffer.split_to(head).freeze();
                            self.parse(octets, Flow::Stream { core: self.cx.core, conn: id, peer }, false);
                        }
                        None => self.cx.counts.sip_faults += 1,
                    }
                    return false;
                }
            }
        }
    }

    pub(super) fn consume_msrp(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.table.get_mut(&id) else { return true };
        let buffer = std::mem::take(&mut conn.buffer);
        let mut at = 0;
        let keep = loop {
            let Some(Conn { cutter: Cutter::Msrp(cut), owed, taker, .. }) = self.conns.table.get_mut(&id) else {
                break true;
            };
            let rest = buffer.get(at..).unwrap_or_default();
            match cut.next(rest) {
                Ok(Piece::More) => break true,
                Ok(Piece::Response { head, len }) => {
                    self.pushes.answered(&mut self.cx, id, head.tid.of(rest), head.status);
                    at += len;
                }
                Ok(Piece::Request { head, len }) => {
                    let own = rest.get(..len).unwrap_or_default();
                    *taker = match self.larges.claims(&head, own) {
                        Some(key) => {
                            let taken = self.larges.request(&mut self.cx, id, key, &head, own, owed);
                            taken.then_some(Taker::Large(key))
                        }
                        None => self.pushes.request(&mut self.cx, id, &head, rest, owed).map(Taker::Push),
                    };
                    at += len;
                }
                Ok(Piece::Data { len }) => {
                    let octets = rest.get(..len).unwrap_or_default();
                    match *taker {
                        Some(Taker::Push(key)) => self.pushes.request_data(key, octets),
                        Some(Taker::Large(key)) => self.larges.data(&mut self.cx, key, octets),
                        None => {}
                    }
                    at += len;
                }
                Ok(Piece::End { flag, len }) => {
                    match taker.take() {
                        Some(Taker::Push(key)) => self.pushes.request_end(&mut self.cx, key, flag),
                        Some(Taker::Large(key)) => self.larges.end(&mut self.cx, &self.users, key, flag),
                        None => {}
                    }
                    at += len;
                }
                Err(fault) => {
                    self.cx.counts.msrp_faults += 1;
                    tracing::debug!(?fault, "malformed MSRP");
                    *taker = None;
                    session::respond_fault(owed, &fault, rest);
                    if fault.is_lost() {
                        break false;
                    }
                    at += fault.len;
                }
            }
        };
        if let Some(conn) = self.conns.table.get_mut(&id) {
            conn.buffer = buffer;
            conn.buffer.advance(at);
        }
        keep
    }

    pub(super) fn datagram(&mut self, socket: SocketId, peer: SocketAddr, octets: Bytes) {
        // Keep-alives are not SIP messages.
        if octets.iter().all(|&octet| octet == b'\r' || octet == b'\n') || octets.iter().all(|&octet| octet == 0) {
            return;
        }
        self.parse(octets, Flow::Datagram { socket, peer }, true);
    }

    fn parse(&mut self, octets: Bytes, flow: Flow, datagram: bool) {
        let limits = &self.setup.limits;
        let parsed = if datagram { Message::parse_datagram(octets, limits) } else { Message::parse(octets, limits) };
        match parsed {
            Ok(message) => self.sip_message(message, flow),
            Err(malformed) => {
                self.cx.counts.sip_faults += 1;
                tracing::debug!(peer = %flow.peer(), fault = ?malformed.fault, "malformed SIP");
                // Answered without state: a malformed request makes no transaction. An ACK is never answered.
                if let Some(request) = malformed.partial
                    && request.is_request()
                    && request.method() != Method::Ack
                {
                    let status = malformed.fault.status();
                    let tag = self.cx.tag();
                    let response = Response::to(&request, status, flow.peer())
                        .to_tag(&tag)
                        .line(Name::Server, &self.cx.product)
                        .finish();
                    self.transmit(flow, response);
                }
            }
        }
        self.upward();
    }
}
