//! Octets <-> values of spans. No time, no chance, no state beyond a cut position.
//!
//! What arrives is looked at where it lies: values here borrow, or point with a [`crate::base::span::Span`]. Whatever the
//! peer sends, nothing in this room panics, and nothing allocates in proportion to a number the peer merely claims.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod cpim;
pub mod date;
pub mod history;
pub mod imdn;
pub mod msrp;
pub mod multipart;
pub mod params;
pub mod pidf;
pub mod registration;
pub mod resource_lists;
pub mod scan;
pub mod sdp;
pub mod settings;
pub mod sip;
pub mod sipfrag;
pub mod summary;
pub mod uri;
pub mod xcap;
pub mod xml;
