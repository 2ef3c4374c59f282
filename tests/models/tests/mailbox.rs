//! The bell and the boxes: no ring is missed, a full box gives back, a reply finds room.

use deferd_modelled::atomics::{AtomicUsize, Ordering};
use deferd_modelled::base::mailbox::{Bell, Mailbox};
use deferd_models::check;
use loom::sync::Arc;
use loom::thread;
use std::task::{Wake, Waker};

/// Counts how often it was woken.
struct Sleeper(AtomicUsize);

impl Wake for Sleeper {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

struct Core {
    bell: Bell,
    /// Left with `Relaxed` and nothing else: what makes it visible is the bell alone.
    left: AtomicUsize,
    sleeper: std::sync::Arc<Sleeper>,
}

impl Core {
    fn new() -> Arc<Core> {
        let sleeper = std::sync::Arc::new(Sleeper(AtomicUsize::new(0)));
        let bell = Bell::new();
        bell.install(Waker::from(sleeper.clone()));
        Arc::new(Core { bell, left: AtomicUsize::new(0), sleeper })
    }
}

/// The sleeper lies down, looks once more, and goes to sleep only if there is nothing: then it must have been woken.
#[test]
fn a_core_that_went_to_sleep_over_a_letter_was_woken() {
    check(3, || {
        let core = Core::new();
        let sender = {
            let core = core.clone();
            thread::spawn(move || {
                core.left.store(1, Ordering::Relaxed);
                core.bell.ring()
            })
        };
        core.bell.lie_down();
        let asleep = core.left.load(Ordering::Relaxed) == 0;
        if !asleep {
            core.bell.get_up();
        }
        let rung = sender.join().unwrap();
        let woken = core.sleeper.0.load(Ordering::Acquire);
        assert_eq!(woken, usize::from(rung), "who says that it woke has woken");
        if asleep {
            assert_eq!(woken, 1, "asleep, and the letter lies there");
        }
    });
}

#[test]
fn of_two_senders_one_wakes() {
    check(3, || {
        let core = Core::new();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let core = core.clone();
                thread::spawn(move || {
                    core.left.fetch_add(1, Ordering::Relaxed);
                    core.bell.ring()
                })
            })
            .collect();
        core.bell.lie_down();
        let asleep = core.left.load(Ordering::Relaxed) < 2;
        let rings = senders.into_iter().map(|sender| sender.join().unwrap()).filter(|rung| *rung).count();
        assert!(rings <= 1, "a core lies down once and is woken once");
        if asleep {
            assert_eq!((rings, core.sleeper.0.load(Ordering::Acquire)), (1, 1));
        }
    });
}

/// Requests fill their box; what finishes something begun has room of its own, and nothing is lost or said twice.
#[test]
fn a_full_box_gives_the_letter_back_and_replies_have_their_own_room() {
    check(3, || {
        let mailbox = Arc::new(Mailbox::new(1, 2));
        let sender = {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                let taken = (1..=2).filter(|letter| mailbox.request(*letter).is_ok()).count();
                assert_eq!(mailbox.reply(10), Ok(()), "room is reserved for replies");
                taken
            })
        };
        let mut got: Vec<i32> = (0..2).filter_map(|_| mailbox.take()).collect();
        let taken = sender.join().unwrap();
        got.extend(std::iter::from_fn(|| mailbox.take()));
        assert!(mailbox.is_empty());
        assert_eq!(got.len(), taken + 1, "what was taken in comes out once");
        let requests: Vec<i32> = got.iter().copied().filter(|letter| *letter < 10).collect();
        assert!(requests.is_sorted() && got.contains(&10));
    });
}
