//! What waits for a core's next turn: letters from other threads at its [`Door`], inputs from its own tasks on its [`Desk`].

use crate::base::mailbox::{Bell, Mailbox};
use crate::base::net::CoreId;
use crate::deferred::inquiry::{Answer, Question};
use crate::engine::input::Input;
use crate::engine::letters::Letter;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use tokio::sync::oneshot;

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
    asked: Mutex<Asked>,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Asked {
    tickets: u64,
    waiting: HashMap<u64, Asker>,
}

/// A thread that waits, or a task.
#[derive(Debug)]
enum Asker {
    Thread(SyncSender<Answer>),
    Task(oneshot::Sender<Answer>),
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
        Arc::new(Mail {
            doors: (0..cores).map(|_| door()).collect(),
            ended: AtomicUsize::new(0),
            asked: Mutex::default(),
        })
    }

    /// One core's door.
    pub fn door(&self, core: CoreId) -> Option<&Door> {
        self.doors.get(core.index())
    }

    /// Asks a core on behalf of an operator. Nothing comes from the receiver when the core's box is full, or the daemon ends.
    ///
    /// Who gives up drops the receiver; what is remembered of the question goes with its answer.
    pub fn ask(&self, core: CoreId, question: Question) -> Receiver<Answer> {
        let (answer, receiver) = mpsc::sync_channel(1);
        self.ask_for(core, question, Asker::Thread(answer));
        receiver
    }

    /// The same for a task.
    pub fn ask_later(&self, core: CoreId, question: Question) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        self.ask_for(core, question, Asker::Task(answer));
        receiver
    }

    fn ask_for(&self, core: CoreId, question: Question, asker: Asker) {
        let ticket = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.tickets += 1;
            let ticket = asked.tickets;
            asked.waiting.insert(ticket, asker);
            ticket
        };
        let letter = Box::new(Letter::Question { ticket, question: Box::new(question) });
        let taken = self.door(core).is_some_and(|door| {
            let taken = door.mailbox.request(letter).is_ok();
            door.bell.ring();
            taken
        });
        if !taken {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&ticket);
        }
    }

    /// Hands an answer to whoever waits for it.
    pub(super) fn answer(&self, ticket: u64, answer: Answer) {
        let waiting = self.asked.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&ticket);
        // Room for one, and one comes: never blocks. Nobody may be there any more.
        match waiting {
            Some(Asker::Thread(waiting)) => _ = waiting.try_send(answer),
            Some(Asker::Task(waiting)) => _ = waiting.send(answer),
            None => {}
        }
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
