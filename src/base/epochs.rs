//! Epochs of one owner: what its readers may still look at is given back when all of them have looked away.
//!
//! `crossbeam::epoch` has one set of epochs for a whole process. Then what another owner's threads hold holds back ours as well, and
//! when something is given back depends on everything that happened in the process before. Here the readers of one thing have epochs of
//! their own: in a thread that is alone with it, what is given back when is a function of what it did, and nothing else. A simulation
//! needs that to replay, and so does everybody who wants to understand one.
//!
//! A thread is registered with the owner whose epochs it entered last; a daemon has one such owner, and each of its threads
//! registers once.

use crossbeam::epoch::{Collector, Guard, LocalHandle};
use std::cell::RefCell;

thread_local! {
    static HANDLE: RefCell<Option<LocalHandle>> = const { RefCell::new(None) };
}

/// The epochs of one owner.
#[derive(Debug)]
pub struct Epochs {
    collector: Collector,
}

impl Default for Epochs {
    fn default() -> Epochs {
        Epochs::new()
    }
}

impl Epochs {
    /// Nobody has entered yet.
    pub fn new() -> Epochs {
        Epochs { collector: Collector::new() }
    }

    /// Holds back what is given back from now on.
    #[inline]
    pub fn pin(&self) -> Guard {
        let known = HANDLE.try_with(|handle| match &mut *handle.borrow_mut() {
            Some(handle) if *handle.collector() == self.collector => handle.pin(),
            other => other.insert(self.collector.register()).pin(),
        });
        // A thread that is ending: a guard keeps its registration by itself.
        known.unwrap_or_else(|_| self.collector.register().pin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Gives so many things back, each under a guard of its own; how many were back after each.
    fn give_back(epochs: &Epochs, back: &Arc<AtomicUsize>, many: usize) -> Vec<usize> {
        let one = |_| {
            let counted = back.clone();
            epochs.pin().defer(move || counted.fetch_add(1, Ordering::Relaxed));
            back.load(Ordering::Relaxed)
        };
        (0..many).map(one).collect()
    }

    #[test]
    fn what_is_given_back_when_depends_on_nothing_that_went_before() {
        let first = give_back(&Epochs::new(), &Arc::default(), 2_000);
        assert!(first.last().is_some_and(|&back| back > 0), "something came back");
        // Others are read in between, and one of them is looked at all the while.
        let held = Epochs::new();
        let _guard = held.pin();
        give_back(&held, &Arc::default(), 77);
        assert_eq!(give_back(&Epochs::new(), &Arc::default(), 2_000), first);
    }

    #[test]
    fn nothing_is_given_back_while_somebody_looks() {
        let (epochs, back) = (Epochs::new(), Arc::default());
        let guard = epochs.pin();
        assert_eq!(give_back(&epochs, &back, 1_000).last(), Some(&0));
        drop(guard);
        (0..1_000).for_each(|_| epochs.pin().flush());
        assert_eq!(back.load(Ordering::Relaxed), 1_000);
    }
}
