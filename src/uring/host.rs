//! What the daemon asks of the host outside the ring: processors, signals, descriptors.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// Processors the calling thread may run on, by number, in order.
pub fn processors() -> Vec<usize> {
    let Ok(set) = affinity(0) else { return Vec::new() };
    // SAFETY: CPU_ISSET reads a bit below CPU_SETSIZE of a valid set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Processors of a thread; 0 is the calling one.
fn affinity(thread: libc::pid_t) -> io::Result<libc::cpu_set_t> {
    // SAFETY: all octets zero is a valid, empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is whole and its size is given.
    match unsafe { libc::sched_getaffinity(thread, size_of::<libc::cpu_set_t>(), &raw mut set) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the calling thread run wherever the process's first thread may: for threads that a pinned one has started.
///
/// # Errors
/// What the kernel says.
pub fn unpin() -> io::Result<()> {
    // A process's first thread has the process's number, and is never pinned.
    let first = libc::pid_t::try_from(std::process::id()).unwrap_or(0);
    set_affinity(&affinity(first)?)
}

/// Lets the calling thread give way to the cores' where they share a processor: it still gets about a quarter of it.
///
/// # Errors
/// What the kernel says.
pub fn give_way() -> io::Result<()> {
    const NICE: libc::c_int = 5;
    // SAFETY: numbers only; on Linux 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many core threads run where the operator leaves the choice to us: what affinity and the control group's quota allow.
pub fn default_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn only(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: all octets zero is a valid, empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu < libc::CPU_SETSIZE as usize {
        // SAFETY: the bit lies inside the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    set
}

/// Pins the calling thread.
///
/// # Errors
/// What the kernel says: a processor we may not use.
pub fn pin(cpu: usize) -> io::Result<()> {
    set_affinity(&only(cpu))
}

fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the set is whole and its size is given; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Pins the kernel's worker threads of `ring` (Linux 5.14): the disk's work stays on the core it is for.
///
/// # Errors
/// What the kernel says.
pub fn pin_ring_workers(ring: RawFd, cpu: usize) -> io::Result<()> {
    const IORING_REGISTER_IOWQ_AFF: libc::c_uint = 17;
    let set = only(cpu);
    // SAFETY: the argument is a whole cpu set and its size in octets, as io_uring_register(2) wants it for this opcode.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            IORING_REGISTER_IOWQ_AFF,
            &raw const set,
            size_of::<libc::cpu_set_t>() as libc::c_uint,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Descriptors of this process that are rings, by /proc. Empty where /proc is not mounted.
pub fn rings() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("[io_uring]")))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Has this process's memory come in pages of the common size, never in huge ones (2 MiB): a huge page is cleared when it is first touched,
/// by the thread that touches it, and where the host gives memory slowly a core stands still for 5 ms.
///
/// # Errors
/// A kernel that cannot be told so; nothing has changed then.
pub fn small_pages() -> io::Result<()> {
    // SAFETY: this prctl takes numbers.
    match unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit of open descriptors to the hard one; gives what it is now.
pub fn raise_descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is whole and ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above; refused changes nothing.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 { limit.rlim_cur } else { before }
}

/// The name of the signal that asks daemons to read their configuration again.
pub const SIGHUP: &str = "SIGHUP";

/// SIGTERM, SIGINT and SIGHUP, waited for by a thread instead of interrupting one.
#[derive(Debug)]
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Holds them back in the calling thread and every thread it starts from now on. Call before there are any.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hold() -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset fills the whole set, which is valid from then on; the signals exist.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
            set.assume_init()
        };
        // SAFETY: the set is valid; the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
            0 => Ok(Signals { set }),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Waits for the next of them; its name.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self) -> io::Result<&'static str> {
        let mut signal = 0;
        loop {
            // SAFETY: set and number are whole and ours.
            match unsafe { libc::sigwait(&raw const self.set, &raw mut signal) } {
                0 => {
                    return Ok(match signal {
                        libc::SIGINT => "SIGINT",
                        libc::SIGHUP => SIGHUP,
                        _ => "SIGTERM",
                    });
                }
                libc::EINTR => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

/// Room of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Octets that this process may still write.
    pub free: u64,
    /// Octets in all.
    pub size: u64,
}

/// The room of the file system that `path` lies on.
///
/// # Errors
/// What the kernel says.
pub fn space(path: &std::path::Path) -> io::Result<Space> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a structure of numbers, for which all zeros are values.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with a zero and `found` is ours; both live until the call returns.
    if unsafe { libc::statvfs(path.as_ptr(), &mut found) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Space {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        size: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_to_a_processor_it_may_use() {
        let allowed = processors();
        assert!(!allowed.is_empty());
        let cpu = *allowed.last().unwrap();
        std::thread::spawn(move || {
            pin(cpu).unwrap();
            assert_eq!(processors(), vec![cpu]);
            unpin().unwrap();
            assert_eq!(processors(), allowed);
        })
        .join()
        .unwrap();
        assert!(raise_descriptors() > 0);
    }
}
