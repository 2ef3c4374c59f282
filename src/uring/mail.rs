//! What waits for a core's next turn: letters from other threads at its [`Door`], inputs from its own tasks on its [`Desk`].

use crate::base::mailbox::{Bell, Mailbox};
use crate::base::net::CoreId;
use crate::engine::input::Input;
use crate::engine::letters::Letter;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

/// Where a core is reached from other threads.
#[derive(Debug)]
pub struct Door {
    /// Its letters.
    ///
    /// Boxed: the places are made at the start, 82,000 a core by default, and a letter is 320 octets: 26 MiB that mostly nobody uses.
    pub mailbox: Mailbox<Box<Letter>>,
    /// Wakes it.
    pub bell: Bell,
    /// Every core is there and every socket listens.
    open: AtomicBool,
    /// It is to stop.
    stop: AtomicBool,
}

impl Door {
    /// True once the daemon serves.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// True once the daemon is stopping.
    pub fn is_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The doors of all cores.
#[derive(Debug)]
pub struct Mail {
    doors: Vec<Door>,
    /// Cores that have said good-bye.
    ended: AtomicUsize,
}

impl Mail {
    /// Doors for `cores` cores with room for `requests` and `replies` letters each.
    pub fn new(cores: u16, requests: usize, replies: usize) -> Arc<Mail> {
        let door = || Door {
            mailbox: Mailbox::new(requests, replies),
            bell: Bell::new(),
            open: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        Arc::new(Mail { doors: (0..cores).map(|_| door()).collect(), ended: AtomicUsize::new(0) })
    }

    /// One core's door.
    pub fn door(&self, core: CoreId) -> Option<&Door> {
        self.doors.get(core.index())
    }

    /// Lets every core begin: to receive, to accept, to turn.
    pub fn open_all(&self) {
        for door in &self.doors {
            door.open.store(true, Ordering::Release);
            door.bell.ring();
        }
    }

    /// Asks every core to say good-bye and end.
    pub fn stop_all(&self) {
        for door in &self.doors {
            door.stop.store(true, Ordering::Release);
            door.bell.ring();
        }
    }

    /// One core has said good-bye; call once a core. It stays for the others, whose BYEs may leave by its connections, until
    /// all have.
    pub fn good_bye(&self) {
        if self.ended.fetch_add(1, Ordering::AcqRel) + 1 == self.doors.len() {
            for door in &self.doors {
                door.bell.ring();
            }
        }
    }

    /// True when every core has said good-bye.
    pub fn all_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) >= self.doors.len()
    }
}

/// What the tasks of one thread leave for its turn.
pub struct Desk {
    inputs: RefCell<VecDeque<Input>>,
    sleeper: Cell<Option<Waker>>,
}

impl Desk {
    pub(super) fn new() -> Rc<Desk> {
        Rc::new(Desk { inputs: RefCell::default(), sleeper: Cell::new(None) })
    }

    /// Leaves an input and wakes the turn. What lies here is bounded by the operations under way.
    pub(super) fn put(&self, input: Input) {
        self.inputs.borrow_mut().push_back(input);
        if let Some(waker) = self.sleeper.take() {
            waker.wake();
        }
    }

    pub(super) fn take(&self) -> Option<Input> {
        self.inputs.borrow_mut().pop_front()
    }

    /// Who is woken by the next input, if anybody.
    pub(super) fn wake_later(&self, sleeper: Option<Waker>) {
        self.sleeper.set(sleeper);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inputs.borrow().is_empty()
    }
}
