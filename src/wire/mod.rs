//! Octets to values of spans, and back. No time, no state beyond a cut position, no decisions.

pub mod multipart;
pub mod pidf;
pub mod settings;
pub mod xml;
