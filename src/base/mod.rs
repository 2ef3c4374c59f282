//! Octets, time, chance, bounds and mail. This room knows no protocol, no file and no kernel.
//!
//! Everything above leans on these words: a [`span::Span`] points, a [`gather::Gather`] is what is sent, a
//! [`clock::Tick`] is when, an [`arena::Key`] is which, a [`net::Flow`] is where to.

pub mod allocator;
pub mod arena;
pub mod clock;
pub mod crc32c;
pub mod dice;
pub mod epochs;
pub mod gather;
pub mod inbox;
pub mod limits;
pub mod mailbox;
pub mod net;
pub mod prefetch;
pub mod span;
pub mod split;
pub mod spread;
pub(crate) mod sync;
pub mod timers;
