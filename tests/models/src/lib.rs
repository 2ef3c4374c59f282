//! How a model is run. The models are in `tests/`, what they run in `modelled/`.
//!
//! Seconds, not minutes: at most three threads, a handful of steps each, and at most as many preemptions as a model says. Most
//! bugs of such code need two.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Steps of one run. A model that takes more has a loop that waits for another thread, which none may have.
const STEPS_MAX: usize = 20_000;

/// Runs a model with at most this many preemptions in one run, and says how many runs there were.
pub fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = STEPS_MAX;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{runs} runs");
    assert!(runs > 1, "nothing was interleaved: the threads do not meet");
}
