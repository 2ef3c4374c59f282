//! SIP messages (RFC 3261 7, 20, 25): cut out of a stream, read where they lie, written once.
//!
//! Knows the grammar and nothing of transactions, dialogs or who is asked. [`cut`] splits a stream into messages,
//! [`message`] reads one, [`via`], [`address`] and [`fields`] read header values, [`write`](mod@write) makes responses and requests.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod address;
pub mod bodies;
pub mod cut;
pub mod fault;
pub mod fields;
mod meaning;
pub mod message;
pub mod names;
pub mod onward;
mod read;
pub mod status;
pub mod via;
pub mod write;

pub use address::NameAddr;
pub use cut::{Cut, Found};
pub use fault::{Fault, What};
pub use message::{Line, Malformed, Message};
pub use names::{Method, Name};
pub use status::reason_phrase;
pub use via::Via;
pub use write::{Request, Response};
