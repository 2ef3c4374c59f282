//! deferd's lock-free files, the very files, over atomics that record who may see what. The models are in `tests/`.
//!
//! A file of the daemon names its atomics through `crate::base::sync`, its epochs and queues through `crossbeam`: here both are
//! ours. What stands in is never stronger than what it stands for, or a comment says where and why that does no harm.
//!
//! Seconds, not minutes: at most three threads, a handful of steps each, and at most as many preemptions as a model says. Most
//! bugs of such code need two.

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

/// Runs a model with at most this many preemptions in one run, and says how many runs there were.
pub fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!("{} runs", runs.load(std::sync::atomic::Ordering::Relaxed));
}
