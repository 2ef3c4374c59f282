//! A connection of a client that never waits: what came in part, what could not be written yet.
//!
//! Knows sockets, not what they carry.

use crate::outcome::Failure;
use crate::poll::{Interest, Poll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection, SIP or MSRP.
pub struct Line {
    pub stream: TcpStream,
    /// The beginning of something.
    pub unread: Vec<u8>,
    /// What the socket had no room for.
    pub unsent: Vec<u8>,
    pub watched_for_room: bool,
    /// Read now and then only; not watched at all.
    pub slow: bool,
}

impl Line {
    pub fn new(stream: TcpStream) -> Line {
        Line { stream, unread: Vec::new(), unsent: Vec::new(), watched_for_room: false, slow: false }
    }
}

/// A connection that may still be under way.
pub fn start(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// What was kept and what comes now, at the front of `buffer`; `None`: the peer has closed.
pub fn fetch(line: &mut Line, buffer: &mut [u8], most: usize) -> io::Result<Option<usize>> {
    let kept = line.unread.len();
    buffer[..kept].copy_from_slice(&line.unread);
    line.unread.clear();
    let end = buffer.len().min(kept + most);
    match line.stream.read(&mut buffer[kept..end]) {
        Ok(0) => Ok(None),
        Ok(read) => Ok(Some(kept + read)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Some(kept)),
        Err(error) => Err(error),
    }
}

/// Writes what is left to write, and has the socket watched for room while something is.
pub fn flush(poll: &Poll, line: &mut Line, token: u64) -> io::Result<()> {
    if !line.unsent.is_empty() {
        match line.stream.write(&line.unsent) {
            Ok(written) => drop(line.unsent.drain(..written)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(error) => return Err(error),
        }
    }
    let wanted = !line.unsent.is_empty();
    if wanted != line.watched_for_room {
        line.watched_for_room = wanted;
        if !line.slow {
            poll.change(&line.stream, token, if wanted { Interest::ReadWrite } else { Interest::Read })?;
        }
    }
    Ok(())
}

/// For a person.
pub fn lost(what: &str, error: &io::Error) -> Failure {
    Failure(format!("{what} of the clients: {error}; has the daemon ended, or is `ulimit -n` too low?"))
}

/// Time this thread has run.
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours and outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
