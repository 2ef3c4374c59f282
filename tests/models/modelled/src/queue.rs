//! In the place of `crossbeam::queue`: a queue whose inside is one step. Whoever takes an element sees what was done before it was
//! put there, and nothing more is promised; that crossbeam's own queues are that, is crossbeam's to prove.

use loom::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The atomic is the step of the model; the list behind it changes within that step and is never contended.
#[derive(Debug)]
struct Steps<T> {
    step: AtomicUsize,
    list: Mutex<VecDeque<T>>,
}

impl<T> Steps<T> {
    fn new() -> Steps<T> {
        Steps { step: AtomicUsize::new(0), list: Mutex::default() }
    }

    fn with<R>(&self, change: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        self.step.fetch_add(1, Ordering::AcqRel);
        change(&mut self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Unbounded.
#[derive(Debug)]
pub struct SegQueue<T>(Steps<T>);

impl<T> Default for SegQueue<T> {
    fn default() -> Self {
        SegQueue(Steps::new())
    }
}

impl<T> SegQueue<T> {
    /// An empty one.
    pub fn new() -> SegQueue<T> {
        SegQueue::default()
    }

    /// Puts one at the end.
    pub fn push(&self, element: T) {
        self.0.with(|list| list.push_back(element));
    }

    /// Takes the first.
    pub fn pop(&self) -> Option<T> {
        self.0.with(VecDeque::pop_front)
    }
}

/// Bounded.
#[derive(Debug)]
pub struct ArrayQueue<T> {
    steps: Steps<T>,
    room: usize,
}

impl<T> ArrayQueue<T> {
    /// With room for so many.
    pub fn new(room: usize) -> ArrayQueue<T> {
        ArrayQueue { steps: Steps::new(), room }
    }

    /// Puts one at the end, or gives it back.
    pub fn push(&self, element: T) -> Result<(), T> {
        self.steps.with(|list| {
            if list.len() == self.room {
                return Err(element);
            }
            list.push_back(element);
            Ok(())
        })
    }

    /// Takes the first.
    pub fn pop(&self) -> Option<T> {
        self.steps.with(VecDeque::pop_front)
    }

    /// True when there was none.
    pub fn is_empty(&self) -> bool {
        self.steps.with(|list| list.is_empty())
    }
}
