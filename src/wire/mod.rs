//! Octets to values of spans and back. No time, no state beyond a cut position, no I/O.

pub mod msrp;
pub mod sdp;
