//! SIP's machines.

pub mod offer;
