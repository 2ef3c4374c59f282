//! Not on the data path: what the operator says, what the daemon says back, and its life from start to end.

pub mod admin;
pub mod birth;
pub mod config;
pub mod copying;
pub mod daemon;
pub mod health;
pub mod log;
pub mod metrics;
pub mod operator;
pub mod page;
pub mod socket;
pub mod stored;
pub mod table;
pub mod units;
pub mod xcap;
pub mod xdms;
