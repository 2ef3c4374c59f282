//! The kernel's interpreter: the only room that names tokio-uring, owns file descriptors and reads a clock.
//!
//! One pinned thread per core runs a [`thread::Mind`]: completions and letters in, effects out, sleep. The traps of this
//! ground are dealt with in one place each:
//!
//! - submissions reach the kernel only when the thread parks, so a turn that has more to do waits for a NOP ([`op::nop`])
//!   instead of yielding ([`thread`]);
//! - an operation cannot be taken back, so nobody drops one: a reader and a writer task live as long as their connection and are
//!   ended by `shutdown(2)` ([`stream`]);
//! - a bound port must not be shared with a stranger, so every address is probed first ([`listen`]).

mod aside;
pub mod bus;
pub mod check;
pub mod clock;
pub mod data_dir;
pub mod datagram;
pub mod disk;
mod fill;
mod gone;
pub mod host;
pub mod listen;
pub mod mail;
pub mod mapping;
pub mod op;
pub mod rest;
pub mod socket;
mod spare;
pub mod stream;
pub mod thread;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod trials;
