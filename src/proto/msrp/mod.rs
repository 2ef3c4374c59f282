//! MSRP's machines (RFC 4975 sections 5 and 7): what a session sends, what it answers, and when it is over.
//!
//! [`session`] is the whole; [`sender`] frames messages and settles them, [`chunk`] says where bodies are cut,
//! [`transactions`] finds what an answer belongs to, [`window`] says how many may be unanswered, [`patience`] when an
//! answer is late, [`coverage`] which octets were reported, [`receiver`] what the peer's requests are answered. A message that is longer than memory is for is brought
//! piece by piece while it is sent (`supply`).

pub mod chunk;
pub mod coverage;
mod message;
pub mod patience;
pub mod receiver;
pub mod sender;
pub mod session;
mod supply;
pub mod transactions;
pub mod window;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
