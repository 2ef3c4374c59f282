//! Binding: every address probed, then one socket per core. Nothing listens before the daemon is ready.

use super::socket;
use crate::engine::setup::{SipAddress, Transport};
use socket2::Socket;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn (4,096 by default).
const BACKLOG: i32 = 4096;

/// What a datagram socket may hold while its core is busy: 4 MiB are 4,000 MESSAGEs. Cut to net.core.rmem_max.
const DATAGRAM_BUFFER: usize = 4 << 20;

/// Why an address is not ours.
#[derive(Debug)]
pub struct BindFault {
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Which address.
    pub addr: SocketAddr,
    /// What the kernel said.
    pub error: io::Error,
}

impl fmt::Display for BindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}:{}: ", self.transport, self.addr)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "another process has this port; find it with `ss -lnp '( sport = :{} )'`, stop it or choose another port",
                self.addr.port()
            ),
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("this host has no such address; see `ip addr`, or listen on 0.0.0.0 or [::]")
            }
            io::ErrorKind::PermissionDenied => f.write_str(
                "ports below 1024 need CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)",
            ),
            _ => write!(f, "{}", self.error),
        }
    }
}

impl std::error::Error for BindFault {}

/// One core's sockets: bound, not listening yet.
#[derive(Debug, Default)]
pub struct CoreSockets {
    /// Datagrams; the place is the [`SocketId`](crate::base::net::SocketId).
    pub udp: Vec<Socket>,
    /// SIP over TCP.
    pub sip: Vec<Socket>,
    /// MSRP, this core's own ports.
    pub msrp: Vec<Socket>,
}

/// The daemon's own hold on all sockets that are to listen: it lets clients in when every core is there, and no core before.
#[derive(Debug)]
pub struct Gates {
    msrp: Vec<Socket>,
    sip: Vec<Socket>,
}

impl Gates {
    /// Of all cores' sockets.
    ///
    /// # Errors
    /// Descriptors ran out.
    pub fn of(bound: &Bound) -> io::Result<Gates> {
        let copies = |sockets: &dyn Fn(&CoreSockets) -> &Vec<Socket>| {
            bound.cores.iter().flat_map(sockets).map(Socket::try_clone).collect::<io::Result<Vec<_>>>()
        };
        Ok(Gates { msrp: copies(&|core| &core.msrp)?, sip: copies(&|core| &core.sip)? })
    }

    /// Lets clients connect by MSRP: first, so that whoever reaches us by SIP finds everything there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_msrp(&self) -> io::Result<()> {
        self.msrp.iter().try_for_each(|socket| socket.listen(BACKLOG))
    }

    /// Lets peers connect by SIP.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_sip(&self) -> io::Result<()> {
        self.sip.iter().try_for_each(|socket| socket.listen(BACKLOG))
    }
}

/// All sockets of the daemon, and the addresses they really have.
#[derive(Debug)]
pub struct Bound {
    /// Per core.
    pub cores: Vec<CoreSockets>,
    /// `sip.listen` with the ports that were bound; the same for all cores.
    pub sip: Vec<SipAddress>,
    /// MSRP addresses per core.
    pub msrp: Vec<Vec<SocketAddr>>,
}

/// Binds everything: UDP, then TCP. Port 0 is any free port: for SIP the same on all cores, for MSRP one per core.
///
/// # Errors
/// The first address that cannot be had.
pub fn bind(sip: &[SipAddress], msrp: &[SocketAddr], cores: u16) -> Result<Bound, BindFault> {
    let per_core: Vec<Vec<SocketAddr>> =
        (0..cores).map(|core| msrp.iter().map(|addr| msrp_address(*addr, core)).collect()).collect();
    let listeners = per_core.iter().flatten().map(|addr| SipAddress { transport: Transport::Tcp, addr: *addr });
    for address in sip.iter().copied().chain(listeners) {
        probe(address).map_err(|error| fault(address, error))?;
    }
    let mut bound = Bound {
        cores: (0..cores).map(|_| CoreSockets::default()).collect(),
        sip: sip.to_vec(),
        msrp: vec![Vec::new(); usize::from(cores)],
    };
    for wanted in [Transport::Udp, Transport::Tcp] {
        for (address, entry) in sip.iter().zip(&mut bound.sip).filter(|(address, _)| address.transport == wanted) {
            for core in &mut bound.cores {
                // The first core turns port 0 into a port; the others share it.
                let (socket, addr) = claim(*entry).map_err(|error| fault(*address, error))?;
                entry.addr = addr;
                match wanted {
                    Transport::Udp => core.udp.push(socket),
                    Transport::Tcp => core.sip.push(socket),
                }
            }
        }
    }
    for ((core, addresses), wanted) in bound.cores.iter_mut().zip(&mut bound.msrp).zip(per_core) {
        for addr in wanted {
            let address = SipAddress { transport: Transport::Tcp, addr };
            let (socket, addr) = claim(address).map_err(|error| fault(address, error))?;
            core.msrp.push(socket);
            addresses.push(addr);
        }
    }
    Ok(bound)
}

/// Where core `core` listens for MSRP: the configured port plus its number, or any where that is 0. Configuration has checked
/// that the sum is a port.
pub fn msrp_address(mut addr: SocketAddr, core: u16) -> SocketAddr {
    if addr.port() != 0 {
        addr.set_port(addr.port().saturating_add(core));
    }
    addr
}

fn fault(address: SipAddress, error: io::Error) -> BindFault {
    let transport = match address.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    BindFault { transport, addr: address.addr, error }
}

/// Finds out whether an address is free. With SO_REUSEPORT, which our sockets need among themselves, a second daemon of the
/// same user would bind silently and take half of the first one's traffic; without it, the kernel tells.
fn probe(address: SipAddress) -> io::Result<()> {
    let socket = match address.transport {
        // SO_REUSEADDR would let two datagram sockets share a port: not here.
        Transport::Udp => socket::datagram(address.addr)?,
        Transport::Tcp => {
            let socket = socket::stream(address.addr)?;
            // Connections of the daemon before us may still be in TIME_WAIT; they do not count.
            socket.set_reuse_address(true)?;
            socket
        }
    };
    socket.bind(&address.addr.into())
}

fn claim(address: SipAddress) -> io::Result<(Socket, SocketAddr)> {
    let socket = match address.transport {
        Transport::Udp => {
            let socket = socket::datagram(address.addr)?;
            let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER);
            let _ = socket.set_send_buffer_size(DATAGRAM_BUFFER);
            socket
        }
        Transport::Tcp => {
            let socket = socket::stream(address.addr)?;
            socket.set_reuse_address(true)?;
            socket
        }
    };
    socket::set_reuse_port(&socket)?;
    socket.bind(&address.addr.into())?;
    let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, addr))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn local(transport: Transport) -> SipAddress {
        SipAddress { transport, addr: "127.0.0.1:0".parse().unwrap() }
    }

    #[test]
    fn cores_share_sip_ports_and_have_msrp_ports_of_their_own() {
        let bound =
            bind(&[local(Transport::Tcp), local(Transport::Udp)], &["127.0.0.1:0".parse().unwrap()], 2).unwrap();
        assert_eq!(bound.cores.len(), 2);
        let port = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap().port();
        assert_eq!(port(&bound.cores[0].udp[0]), bound.sip[1].addr.port());
        assert_eq!(port(&bound.cores[1].udp[0]), bound.sip[1].addr.port());
        assert_eq!(port(&bound.cores[1].sip[0]), bound.sip[0].addr.port());
        assert_ne!(bound.msrp[0][0].port(), bound.msrp[1][0].port());
        assert_eq!(msrp_address("127.0.0.1:2855".parse().unwrap(), 3).port(), 2858);
    }

    #[test]
    fn nobody_can_connect_before_the_daemon_listens() {
        let bound = bind(&[local(Transport::Tcp)], &[], 1).unwrap();
        assert!(TcpStream::connect(bound.sip[0].addr).is_err());
        Gates::of(&bound).unwrap().open_sip().unwrap();
        assert!(TcpStream::connect(bound.sip[0].addr).is_ok());
    }

    #[test]
    fn an_occupied_port_is_a_plain_error() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let fault = bind(&[SipAddress { transport: Transport::Tcp, addr }], &[], 2).unwrap_err();
        assert!(fault.to_string().contains("another process has this port"), "{fault}");
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        assert!(bind(&[SipAddress { transport: Transport::Udp, addr }], &[], 1).is_err());
    }

    #[test]
    fn a_second_daemon_finds_every_kind_of_port_taken() {
        let first =
            bind(&[local(Transport::Udp), local(Transport::Tcp)], &["127.0.0.1:0".parse().unwrap()], 1).unwrap();
        let gates = Gates::of(&first).unwrap();
        gates.open_msrp().and_then(|()| gates.open_sip()).unwrap();
        for address in &first.sip {
            assert!(bind(&[*address], &[], 1).is_err(), "{address:?}");
        }
        assert!(bind(&[], &first.msrp[0], 1).is_err());
    }
}
