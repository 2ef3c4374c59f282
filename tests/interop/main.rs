//! deferd against programs that others wrote: sipp as SIP/IP core and client, tshark as reader of what goes over the wire, curl as
//! the operator.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod curl;
mod kit_itself;
mod sipp;
mod tshark;

/// The daemon under test.
const DEFERD: &str = env!("CARGO_BIN_EXE_deferd");
