//! What the mission and the RFCs demand, demanded of a real deferd process: one file per clause.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

/// The daemon under test.
const DEFERD: &str = env!("CARGO_BIN_EXE_deferd");
