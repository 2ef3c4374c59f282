//! The Deferred Messaging Function: one clause of the mission, one file. Decisions, no octets.

pub mod policy;
