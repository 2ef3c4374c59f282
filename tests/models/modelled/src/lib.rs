//! deferd's lock-free files, the very files, over atomics that record who may see what. The models themselves are in
//! `tests/models`.
//!
//! A file of the daemon names its atomics through `crate::base::sync`, its epochs and queues through `crossbeam`: here both are
//! ours. What stands in is never stronger than what it stands for, or a comment says where and why that does no harm.

// `crossbeam::epoch` in the daemon's files is this crate's.
extern crate self as crossbeam;

pub mod atomics;
pub mod base;
pub mod epoch;
pub mod queue;
pub mod store;

/// What the daemon takes from `crossbeam::utils`.
pub mod utils {
    pub use crossbeam_utils::CachePadded;
}
