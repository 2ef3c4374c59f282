//! How peers reach this core, and how it reaches the SIP/IP core: from the setup to the addresses that go into messages.

use super::setup::{Setup, Transport};
use crate::base::net::SocketId;
use crate::deferred::cx::Addresses;
use std::net::SocketAddr;

/// How peers reach us: what we listen on, or what the operator says instead.
pub(super) fn addresses(setup: &Setup) -> Addresses {
    let text = |addr: SocketAddr| match &setup.sip.advertise {
        Some(advertise) if advertise.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            advertise.clone()
        }
        Some(advertise) => format!("{advertise}:{}", addr.port()),
        None => addr.to_string(),
    };
    let of = |transport: Transport| {
        let listen = setup.sip.listen.iter().filter(move |entry| entry.transport == transport);
        listen.map(|entry| (entry.addr, text(entry.addr))).collect::<Vec<_>>()
    };
    let udp = of(Transport::Udp);
    let proxy = setup.sip.outbound_proxy;
    let proxy_udp = proxy.filter(|proxy| proxy.transport == Transport::Udp).and_then(|proxy| {
        let socket = udp.iter().position(|(addr, _)| addr.is_ipv4() == proxy.addr.is_ipv4())?;
        Some((SocketId(socket as u16), proxy.addr))
    });
    let msrp = setup
        .msrp
        .listen
        .iter()
        .map(|&addr| (addr, setup.msrp.advertise.clone().unwrap_or_else(|| addr.ip().to_string())));
    Addresses {
        tcp: of(Transport::Tcp),
        msrp: msrp.collect(),
        proxy_udp,
        proxy_tcp: proxy.filter(|proxy| proxy.transport == Transport::Tcp).map(|proxy| proxy.addr),
        udp,
    }
}
