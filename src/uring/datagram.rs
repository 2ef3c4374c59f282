//! Datagram sockets: one task per socket and core receives, sends are done at once.
//!
//! The ring waits for the first datagram; what else has arrived is fetched with one recvmmsg(2), so that a flood costs one
//! wake-up per [`DATAGRAMS`] and not one each. (Several RECVMSG under way on one socket would all be woken by each datagram.)
//! The octets are copied once, into a buffer of their own size: the receive buffers are as large as a datagram may be, and a
//! message of 500 octets that waits for its commit must not hold 64 KiB. That is one of the few named copies.

#![allow(unsafe_code)]

use super::mail::Desk;
use super::op::{self, SharedFd};
use crate::base::net::SocketId;
use crate::engine::input::Input;
use bytes::Bytes;
use socket2::SockRef;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

/// Datagrams fetched at a time, and the most that one socket adds to a turn: 64 at 1 KiB each are well below a millisecond.
pub const DATAGRAMS: usize = 64;

/// No datagram is larger.
const DATAGRAM_MAX: usize = 65_536;

/// Places for datagrams, their senders and the lists the kernel wants of them. 4 MiB of addresses; pages are touched only as
/// far as datagrams reach.
pub struct Batch {
    octets: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    pieces: Vec<libc::iovec>,
    heads: Vec<libc::mmsghdr>,
}

impl Batch {
    fn new() -> Box<Batch> {
        // SAFETY: all octets zero is valid for these three plain structs: null pointers, zero lengths, no family.
        let (name, piece, head) = unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Box::new(Batch {
            octets: vec![0; DATAGRAMS * DATAGRAM_MAX],
            names: vec![name; DATAGRAMS],
            pieces: vec![piece; DATAGRAMS],
            heads: vec![head; DATAGRAMS],
        })
    }

    /// Makes every head point at its place again, and every length whole.
    fn aim(&mut self) {
        let places = self.octets.chunks_exact_mut(DATAGRAM_MAX).zip(&mut self.names);
        for ((head, piece), (octets, name)) in self.heads.iter_mut().zip(&mut self.pieces).zip(places) {
            piece.iov_base = octets.as_mut_ptr().cast();
            piece.iov_len = octets.len();
            head.msg_len = 0;
            head.msg_hdr.msg_name = (&raw mut *name).cast();
            head.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            head.msg_hdr.msg_iov = &raw mut *piece;
            head.msg_hdr.msg_iovlen = 1;
            head.msg_hdr.msg_control = std::ptr::null_mut();
            head.msg_hdr.msg_controllen = 0;
            head.msg_hdr.msg_flags = 0;
        }
    }

    /// The first place's msghdr, aimed.
    pub(super) fn first_head(&mut self) -> *mut libc::msghdr {
        self.aim();
        match self.heads.first_mut() {
            Some(head) => &raw mut head.msg_hdr,
            None => std::ptr::null_mut(),
        }
    }

    /// Fetches what has arrived, without waiting; how many datagrams.
    fn fetch(&mut self, fd: &SharedFd) -> usize {
        self.aim();
        // SAFETY: `aim` made every head point into vectors of this batch, which is borrowed mutably; their number is given;
        // MSG_DONTWAIT: the call does not block, so no timeout is needed.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.heads.as_mut_ptr(),
                self.heads.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(count).unwrap_or(0)
    }

    /// The datagram in place `at`, copied out; `None` for a sender without an IP address.
    fn datagram(&self, at: usize, len: usize) -> Option<(SocketAddr, Bytes)> {
        let start = at * DATAGRAM_MAX;
        let octets = self.octets.get(start..start + len.min(DATAGRAM_MAX))?;
        Some((address(self.names.get(at)?)?, Bytes::copy_from_slice(octets)))
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr_storage is large and aligned enough for every sockaddr; the family says which it is.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            Some((IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))), u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let (port, flow) = (u16::from_be(v6.sin6_port), v6.sin6_flowinfo);
            Some(SocketAddr::V6(std::net::SocketAddrV6::new(ip, port, flow, v6.sin6_scope_id)))
        }
        _ => None,
    }
}

/// Receives for as long as the core runs.
pub(super) async fn receive(fd: SharedFd, socket: SocketId, desk: Rc<Desk>) {
    let mut batch = Batch::new();
    let put = |batch: &Batch, at: usize, len: usize| {
        if let Some((peer, octets)) = batch.datagram(at, len) {
            desk.put(Input::Datagram { socket, peer, octets });
        }
    };
    loop {
        let (result, back) = op::receive_datagram(&fd, batch).await;
        batch = back;
        match result {
            Ok(len) => put(&batch, 0, len),
            Err(error) => {
                // ENOMEM and its kin pass; without a pause we would spin until they do.
                tracing::warn!(%error, socket = socket.0, "cannot receive datagrams, trying again");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        }
        let count = batch.fetch(&fd);
        for at in 0..count {
            let len = batch.heads.get(at).map_or(0, |head| head.msg_len as usize);
            put(&batch, at, len);
        }
    }
}

/// Sends a datagram at once, or not at all: a full socket buffer is a lost datagram, and SIP repeats it.
pub(super) fn send(fd: &SharedFd, to: SocketAddr, octets: &[u8]) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    if let Err(error) = SockRef::from(&**fd).send_to_with_flags(octets, &to.into(), flags) {
        tracing::debug!(%error, %to, octets = octets.len(), "datagram not sent");
    }
}
