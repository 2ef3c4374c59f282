//! Looks, before anything is begun, whether this host lets us have a ring, and says in plain words what to do when not.

use io_uring::{IoUring, Probe, opcode};
use std::fmt;
use std::io;

/// What the host does not give us.
#[derive(Debug)]
pub enum KernelFault {
    /// The system call is not there, or is filtered: ENOSYS, EPERM, EACCES.
    Forbidden {
        /// `kernel.io_uring_disabled`, where it can be read and is not 0.
        disabled: Option<u8>,
        /// What the kernel said.
        error: io::Error,
    },
    /// Memory that may be locked does not suffice (ENOMEM; kernels before 5.12 count rings against it).
    Memory,
    /// The kernel is too old for operations we need.
    Missing {
        /// Their names.
        operations: Vec<&'static str>,
    },
    /// Anything else.
    Other(io::Error),
}

impl fmt::Display for KernelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelFault::Forbidden { disabled: Some(level), .. } => write!(
                f,
                "io_uring is switched off on this host (kernel.io_uring_disabled = {level}); \
                 allow it with `sysctl -w kernel.io_uring_disabled=0`"
            ),
            KernelFault::Forbidden { disabled: None, error } => write!(
                f,
                "this process may not use io_uring ({error}); in a container allow the system calls io_uring_setup, \
                 io_uring_enter and io_uring_register in its seccomp profile (docker: --security-opt seccomp=...), \
                 outside one use Linux 6.0 or later"
            ),
            KernelFault::Memory => f.write_str(
                "the kernel has no memory for a ring: raise the limit of locked memory \
                 (systemd: LimitMEMLOCK=infinity; shell: ulimit -l unlimited)",
            ),
            KernelFault::Missing { operations } => write!(
                f,
                "this kernel's io_uring lacks {}; use Linux 5.19 or later (6.0 for full speed)",
                operations.join(", ")
            ),
            KernelFault::Other(error) => write!(f, "cannot set up a ring: {error}"),
        }
    }
}

impl std::error::Error for KernelFault {}

/// Operations that [`op`](super::op) submits.
const NEEDED: [(u8, &str); 10] = [
    (opcode::Nop::CODE, "NOP"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsg::CODE, "RECVMSG"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::Read::CODE, "READ"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::OpenAt::CODE, "OPENAT"),
];

/// Makes a small ring and asks it what it can do.
///
/// # Errors
/// What is missing, with its remedy.
pub fn kernel() -> Result<(), KernelFault> {
    let ring = IoUring::new(8).map_err(|error| diagnose(error, disabled_level()))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| diagnose(error, None))?;
    let operations: Vec<&str> =
        NEEDED.iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name).collect();
    if operations.is_empty() { Ok(()) } else { Err(KernelFault::Missing { operations }) }
}

fn diagnose(error: io::Error, disabled: Option<u8>) -> KernelFault {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => KernelFault::Forbidden { disabled, error },
        Some(libc::ENOMEM) => KernelFault::Memory,
        _ => KernelFault::Other(error),
    }
}

/// A core's ring is larger than the one that [`kernel`] tried: the same errors come later then, and have the same remedies.
pub fn told(error: &io::Error) -> String {
    match error.raw_os_error().map(io::Error::from_raw_os_error).map(|error| diagnose(error, disabled_level())) {
        Some(fault @ (KernelFault::Forbidden { .. } | KernelFault::Memory)) => fault.to_string(),
        _ => error.to_string(),
    }
}

fn disabled_level() -> Option<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok().filter(|level| *level != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_what_we_need() {
        kernel().unwrap();
    }

    #[test]
    fn every_refusal_ends_with_its_remedy() {
        let errno = io::Error::from_raw_os_error;
        let cases = [
            (diagnose(errno(libc::EPERM), Some(2)), "sysctl -w kernel.io_uring_disabled=0"),
            (diagnose(errno(libc::EPERM), None), "seccomp"),
            (diagnose(errno(libc::ENOSYS), None), "Linux 6.0"),
            (diagnose(errno(libc::ENOMEM), None), "LimitMEMLOCK"),
            (KernelFault::Missing { operations: vec!["ACCEPT"] }, "lacks ACCEPT"),
        ];
        for (fault, remedy) in cases {
            assert!(fault.to_string().contains(remedy), "{fault}");
        }
    }
}
