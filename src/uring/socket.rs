//! Socket options and the few calls on sockets that std and socket2 do not offer.

#![allow(unsafe_code)]

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// How a stream socket is tuned.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Octets that may wait unsent in the kernel: what an abort or a response waits behind (`limits.send_octets`).
    pub unsent_octets: usize,
}

/// A TCP socket that is nobody's yet, close-on-exec.
///
/// # Errors
/// What the kernel says: descriptors or memory running out.
pub fn stream(family_of: SocketAddr) -> io::Result<Socket> {
    fresh(family_of, Type::STREAM, Protocol::TCP)
}

/// A UDP socket that is nobody's yet, close-on-exec.
///
/// # Errors
/// As [`stream`].
pub fn datagram(family_of: SocketAddr) -> io::Result<Socket> {
    fresh(family_of, Type::DGRAM, Protocol::UDP)
}

fn fresh(family_of: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(family_of), kind, Some(protocol))?;
    if family_of.is_ipv6() {
        // `[::]` and `0.0.0.0` are two entries of the configuration, each bound for itself.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Lets several of our sockets share an address and port.
///
/// # Errors
/// What the kernel says.
pub fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
}

/// Sets what every connection gets. Refusals are not errors: the connection works without.
pub fn tune(fd: &OwnedFd, tuning: Tuning) {
    let socket = SockRef::from(fd);
    let _ = socket.set_tcp_nodelay(true);
    let unsent = libc::c_int::try_from(tuning.unsent_octets).unwrap_or(libc::c_int::MAX);
    let _ = set_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, unsent);
}

/// Ends a connection in both directions with a FIN behind what is queued. Operations under way on it end.
pub fn shut(fd: &OwnedFd) {
    let _ = SockRef::from(fd).shutdown(Shutdown::Both);
}

/// Ends a connection with a reset: what is queued is thrown away. Operations under way on it end.
pub fn reset(fd: &OwnedFd) {
    let _ = SockRef::from(fd).set_linger(Some(Duration::ZERO));
    // SAFETY: all octets zero is a valid sockaddr.
    let mut nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    // connect(AF_UNSPEC) disconnects at once, with RST, and wakes whoever waits on the socket; shutdown(2) would send a FIN first.
    // SAFETY: the address is a whole sockaddr on our stack, and the descriptor is open while `fd` is borrowed.
    let outcome = unsafe { libc::connect(fd.as_raw_fd(), &raw const nowhere, size_of::<libc::sockaddr>() as u32) };
    if outcome != 0 {
        shut(fd);
    }
}

/// Throws away what has arrived and nobody read: closing over it would turn our FIN into a reset, and the peer might lose
/// the answer that was on its way. One call, at most 1 MiB.
pub fn drain(fd: &OwnedFd) {
    const FLAGS: libc::c_int = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: with MSG_TRUNC a TCP socket discards and writes nothing (tcp(7)), so the null pointer is never used.
    let _ = unsafe { libc::recv(fd.as_raw_fd(), std::ptr::null_mut(), 1 << 20, FLAGS) };
}

fn set_option(fd: &impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is a whole int on our stack with its length beside it; the descriptor is open while `fd` is borrowed.
    let outcome = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
