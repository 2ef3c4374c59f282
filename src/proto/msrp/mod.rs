//! MSRP's machines (RFC 4975 sections 5 and 7): what a session sends, what it answers, and when it is over.
//!
//! [`session`] is the whole; [`sender`] frames messages and matches answers, [`window`] says how many may be
//! unanswered, [`coverage`] which octets were reported, [`receiver`] what the peer's requests are answered.

pub mod coverage;
pub mod receiver;
pub mod sender;
pub mod session;
pub mod window;
