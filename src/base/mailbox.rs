//! Mail between cores: bounded, lock-free, never waited on.

use super::sync::{AtomicBool, Ordering, fence};
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use std::sync::OnceLock;
use std::task::Waker;

/// Wakes a core that sleeps, and costs a core that does not one load.
///
/// The sleeper says so *before* it looks a last time at everything that may have been left for it; the sender leaves its
/// thing *before* it looks whether the other sleeps. Both put a sequentially consistent fence between the two, so at least
/// one of them sees the other: no ring is missed.
#[derive(Debug, Default)]
pub struct Bell {
    sleeping: CachePadded<AtomicBool>,
    waker: OnceLock<Waker>,
}

impl Bell {
    /// A bell nobody sleeps beside yet.
    pub fn new() -> Bell {
        Bell::default()
    }

    /// Who is to be woken: the core's turn task, said once, before it first sleeps.
    pub fn install(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// Says "I am about to sleep". The caller must look at its mail once more afterwards.
    pub fn lie_down(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says "I am awake".
    pub fn get_up(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Wakes the core if it sleeps; true when it did. Call after the thing has been left.
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        if !self.sleeping.load(Ordering::Relaxed) || !self.sleeping.swap(false, Ordering::AcqRel) {
            return false;
        }
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
        true
    }
}

/// A core's letters: new requests in one bounded queue, everything that finishes something begun in another, so that a flood
/// of requests can never keep a response out.
#[derive(Debug)]
pub struct Mailbox<T> {
    requests: CachePadded<ArrayQueue<T>>,
    replies: CachePadded<ArrayQueue<T>>,
}

impl<T> Mailbox<T> {
    /// Room for `requests` and `replies` letters; the second is the number of transactions that may be under way.
    pub fn new(requests: usize, replies: usize) -> Mailbox<T> {
        Mailbox {
            requests: CachePadded::new(ArrayQueue::new(requests)),
            replies: CachePadded::new(ArrayQueue::new(replies)),
        }
    }

    /// Leaves a letter that begins something. Full gives it back: the sender answers 503.
    pub fn request(&self, letter: T) -> Result<(), T> {
        self.requests.push(letter)
    }

    /// Leaves a letter that finishes something begun.
    pub fn reply(&self, letter: T) -> Result<(), T> {
        self.replies.push(letter)
    }

    /// The next letter; replies first, for they free what requests wait for.
    pub fn take(&self) -> Option<T> {
        self.replies.pop().or_else(|| self.requests.pop())
    }

    /// True when there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_full_request_box_gives_the_letter_back_and_leaves_room_for_replies() {
        let mailbox = Mailbox::new(1, 1);
        assert_eq!(mailbox.request(1), Ok(()));
        assert_eq!(mailbox.request(2), Err(2));
        assert_eq!(mailbox.reply(3), Ok(()));
        assert_eq!(mailbox.take(), Some(3));
        assert_eq!(mailbox.take(), Some(1));
        assert!(mailbox.is_empty());
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let count = Arc::new(Count(AtomicU32::new(0)));
        let bell = Bell::new();
        bell.install(Waker::from(count.clone()));
        assert!(!bell.ring());
        bell.lie_down();
        assert!(bell.ring());
        assert!(!bell.ring());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
