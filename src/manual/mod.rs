//! The manual: pages for who reads, runs or changes deferd.
//!
//! - [`path`]: the way of one message through the files; read it first
//! - [`lexicon`]: one word, one thing
//! - [`faults`]: what may go wrong, and what is then promised
//! - [`decisions`]: what was decided, and why

#[doc = include_str!("path.md")]
pub mod path {}

#[doc = include_str!("lexicon.md")]
pub mod lexicon {}

#[doc = include_str!("faults.md")]
pub mod faults {}

#[doc = include_str!("decisions.md")]
pub mod decisions {}
