//! The manual: pages for who reads, runs or changes deferd.
//!
//! - [`path`]: the way of one message through the files; read it first
//! - [`lexicon`]: one word, one thing
//! - [`format`](mod@format): the log, octet by octet
//! - [`faults`]: what may go wrong, and what is then promised
//! - [`operating`]: for whoever runs it: where to look, what goes wrong, bounds, backups, repairs
//! - [`peers`]: what clients really do, and what we do about it
//! - [`decisions`]: what was decided, and why

#[doc = include_str!("path.md")]
pub mod path {}

#[doc = include_str!("lexicon.md")]
pub mod lexicon {}

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = include_str!("faults.md")]
pub mod faults {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[doc = include_str!("peers.md")]
pub mod peers {}

#[doc = include_str!("decisions.md")]
pub mod decisions {}
