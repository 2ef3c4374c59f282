//! The log and the queues. This room knows users and records; it knows no SIP and no MSRP, and it does no I/O: it says what
//! is to be written and read ([`disk::DiskOp`]) and is told what became of it ([`disk::DiskDone`]).
//!
//! The way of a record: a [`record::Draft`] is appended to a core's [`log::Log`], which answers with a [`record::Locator`] and
//! later says that it is durable; the locator goes through the [`directory::Directory`] to the user's home core, into a
//! [`queue::Queue`], and from there to the [`loader::Loader`], which brings the octets back. After a start all of this is
//! rebuilt by [`recovery`]. The file itself is drawn in [`crate::manual::format`](mod@crate::manual::format).

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod crash_tests;
pub mod directory;
pub mod disk;
pub mod domains;
mod extents;
pub mod hint;
pub mod inspect;
pub(crate) mod layout;
pub mod loader;
pub mod log;
pub mod manifest;
pub mod queue;
pub mod reason;
pub mod reclaim;
pub mod record;
pub mod recovery;
mod scan;
pub mod seen;
pub mod segments;
pub mod stamp;
pub mod states;
pub mod tally;
