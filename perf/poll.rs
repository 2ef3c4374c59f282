//! epoll, safe to call. Knows descriptors and tokens, nothing of what they carry.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    ReadWrite,
}

impl Interest {
    fn bits(self) -> u32 {
        let bits = match self {
            Interest::Read => libc::EPOLLIN | libc::EPOLLRDHUP,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLOUT,
        };
        bits as u32
    }
}

/// An instance of epoll and room for what it reports.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: creates a descriptor; nothing of ours is touched.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Poll { epoll, events: Vec::with_capacity(256) })
    }

    /// Watches a descriptor; it reports itself as `token`. Closing it ends the watch.
    pub fn add(&self, of: &impl AsRawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, of, token, interest)
    }

    /// Watches it for something else from now on.
    pub fn change(&self, of: &impl AsRawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, of, token, interest)
    }

    /// Watches it no longer.
    pub fn remove(&self, of: &impl AsRawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, of, 0, Interest::Read)
    }

    fn control(&self, what: i32, of: &impl AsRawFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        // SAFETY: the event outlives the call, which copies it.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, of.as_raw_fd(), &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for at most `timeout`; the reports are then in [`Poll::events`]. A signal is no report and no error.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let spec = libc::timespec { tv_sec: timeout.as_secs() as libc::time_t, tv_nsec: timeout.subsec_nanos().into() };
        self.events.clear();
        let room = self.events.capacity();
        // SAFETY: the kernel writes at most `room` events into memory that has that room; the time outlives the call.
        let got = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                room as i32,
                &raw const spec,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if got < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        // SAFETY: the kernel wrote that many events.
        unsafe { self.events.set_len(got as usize) };
        Ok(())
    }

    /// How many descriptors reported.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The token of report `at`, and whether it can be written (else: read, or it ended).
    pub fn event(&self, at: usize) -> Option<Event> {
        let event = self.events.get(at)?;
        let bits = event.events as i32;
        Some(Event {
            token: event.u64,
            readable: bits & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0,
            writable: bits & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0,
        })
    }
}

/// One report.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub token: u64,
    /// Something to read, be it the end.
    pub readable: bool,
    pub writable: bool,
}

/// Timers of this thread end within a microsecond of their time instead of 50.
pub fn sharpen_timers() {
    // SAFETY: sets a number of this thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_has_octets_reports_itself_and_what_has_none_does_not() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.add(&there, 7, Interest::Read).unwrap();
        poll.wait(Duration::ZERO).unwrap();
        assert_eq!(poll.len(), 0);
        here.write_all(b"x").unwrap();
        poll.wait(Duration::from_secs(5)).unwrap();
        let event = poll.event(0).unwrap();
        assert!(event.token == 7 && event.readable && !event.writable);
        poll.change(&there, 8, Interest::ReadWrite).unwrap();
        poll.wait(Duration::from_secs(5)).unwrap();
        let event = poll.event(0).unwrap();
        assert!(event.token == 8 && event.writable);
    }
}
