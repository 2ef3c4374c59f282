//! MSRP on the wire (RFC 4975): cutting a stream into frames, reading heads, comparing URIs, writing frames.
//!
//! Knows the grammar of RFC 4975 section 9 and nothing of sessions: who may send what is `proto/msrp`.

pub mod cut;
pub mod head;
pub mod uri;
pub mod write;
