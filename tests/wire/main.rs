//! The wire against the octets of others: RFC 4475's torture messages, whole and in pieces.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fixture;
mod rfc3261;
mod rfc4475_application;
mod rfc4475_invalid;
mod rfc4475_valid;
mod streams;
