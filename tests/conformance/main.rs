//! What the mission and the RFCs demand, demanded of a real deferd process: one file per clause.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod admission;
mod aliases;
mod bad_msrp;
mod bad_sip;
mod c12_2_1_retrieval;
mod c12_2_2_1_large;
mod c12_2_2_2_offline_delivery;
mod c12_2_2_3_storage;
mod c12_2_2_5_pushing;
mod c12_2_2_6_reports;
mod c12_2_2_7_deletion;
mod c12_2_2_8_metadata;
mod cancel;
mod large_cpim;
mod large_kept;
mod large_refused;
mod large_within;
mod options;
mod pager;
mod payload;
mod policies;
mod privacy;
mod provisional;
mod refer_within;
mod registration;
mod reinvite;
mod relays;
mod rfc3903_publish;
mod s0_message_summary;
mod selection;
mod within_a_session;
mod xdms;

/// The daemon under test.
const DEFERD: &str = env!("CARGO_BIN_EXE_deferd");
