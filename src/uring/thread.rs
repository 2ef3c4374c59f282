//! One core's thread: the turn loop between a mind and the kernel.
//!
//! ```text
//!          completions (Desk)   letters (Mail)   deadline
//!                 │                  │              │
//!                 ▼                  ▼              ▼
//!   wake ──▶ handle each ─────▶ handle each ──▶   turn ──▶ run all effects ──▶ something left? ─ yes ─▶ NOP ─▶ wake
//!                                                                                   │ no
//!                                                                                   └▶ lie down, look again, sleep ─▶ wake
//! ```
//!
//! Submissions reach the kernel when the thread parks. A turn therefore always ends in waiting: asleep when there is nothing to
//! do, for a NOP through the ring when there is. Either way everybody else runs first, then the ring is submitted.

use super::clock::Clock;
use super::data_dir::DataDir;
use super::disk::Disk;
use super::listen::CoreSockets;
use super::mail::{Desk, Mail};
use super::op;
use super::rest::{self, Rest};
use super::socket::Tuning;
use super::stream::Streams;
use super::{datagram, host};
use crate::base::clock::{Now, Tick};
use crate::base::net::{CoreId, SocketId};
use crate::engine::core::Core;
use crate::engine::effect::Effect;
use crate::engine::input::{Input, Service};
use crate::engine::letters::Letter;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Completions taken in one turn. At about a microsecond each a turn stays near a millisecond, which is a timer's grain.
const COMPLETIONS_A_TURN: usize = 1024;

/// Letters taken in one turn: fewer, so that neither side can starve the other.
const LETTERS_A_TURN: usize = 256;

/// Submission queue: a turn that sends on a thousand connections submits once. 64 octets each.
const RING_ENTRIES: u32 = 1024;

/// Completion queue: a read under way on each of 16,384 connections may end between two turns without the kernel's slower
/// overflow list. 16 octets each.
const RING_COMPLETIONS: u32 = 16_384;

/// What runs on a core. [`Core`] is one; tests bring smaller ones.
pub trait Mind {
    /// Takes in one thing that happened.
    fn handle(&mut self, now: Now, input: Input);
    /// Ends a batch of inputs.
    fn turn(&mut self, now: Now);
    /// The next thing to do; called until `None` after each `turn`.
    fn effect(&mut self) -> Option<Effect>;
    /// When `turn` is wanted even without input.
    fn deadline(&self) -> Option<Tick>;
    /// True when another core left something in shared memory.
    fn has_mail(&self) -> bool;
    /// A burst is over: lets go of memory that was kept for its next turn.
    fn rest(&mut self) {}
}

impl Mind for Core {
    fn handle(&mut self, now: Now, input: Input) {
        Core::handle(self, now, input);
    }
    fn turn(&mut self, now: Now) {
        Core::turn(self, now);
    }
    fn effect(&mut self) -> Option<Effect> {
        Core::effect(self)
    }
    fn deadline(&self) -> Option<Tick> {
        Core::deadline(self)
    }
    fn has_mail(&self) -> bool {
        Core::has_mail(self)
    }
    fn rest(&mut self) {
        Core::rest(self);
    }
}

/// What a core's thread is started with.
pub struct CoreSpec<F> {
    /// Which core.
    pub core: CoreId,
    /// The processor it is pinned to.
    pub cpu: Option<usize>,
    /// The daemon's clock.
    pub clock: Clock,
    /// The doors of all cores.
    pub mail: Arc<Mail>,
    /// Its sockets, bound. The thread uses them once the daemon has said [`Mail::open_all`].
    pub sockets: CoreSockets,
    /// The files.
    pub data: Arc<DataDir>,
    /// For every connection.
    pub tuning: Tuning,
    /// Makes the mind, on the thread.
    pub mind: F,
}

/// What a core's thread tells the one who started it.
#[derive(Debug)]
pub enum CoreEvent {
    /// Its mind is there; it waits for [`Mail::open_all`].
    Started(CoreId),
    /// It could not start.
    Failed(CoreId, io::Error),
    /// It has said good-bye. It works on for the others until all have.
    Ended(CoreId),
}

/// Starts a core's thread. A panic on it ends the process: crash-only.
///
/// # Errors
/// The thread cannot be started. What goes wrong on it later comes as [`CoreEvent::Failed`].
pub fn spawn<M, F>(spec: CoreSpec<F>, events: Sender<CoreEvent>) -> io::Result<JoinHandle<()>>
where
    M: Mind + 'static,
    F: FnOnce() -> M + Send + 'static,
{
    std::thread::Builder::new().name(format!("core-{}", spec.core.0)).spawn(move || {
        let _guard = AbortOnPanic;
        let core = spec.core;
        if let Err(error) = run(spec, &events) {
            let _ = events.send(CoreEvent::Failed(core, error));
        }
    })
}

/// Half a daemon is worse than none: the others would wait for a core that is gone.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn run<M: Mind + 'static, F: FnOnce() -> M>(spec: CoreSpec<F>, events: &Sender<CoreEvent>) -> io::Result<()> {
    if let Some(cpu) = spec.cpu
        && let Err(error) = host::pin(cpu)
    {
        tracing::warn!(%error, cpu, "cannot pin the core's thread, running unpinned");
    }
    let (runtime, ring) = build_runtime()?;
    if let (Some(cpu), Some(ring)) = (spec.cpu, ring)
        && let Err(error) = host::pin_ring_workers(ring, cpu)
    {
        tracing::debug!(%error, cpu, "cannot pin the ring's workers");
    }
    let mind = (spec.mind)();
    runtime.block_on(async move {
        let desk = Desk::new();
        let streams = Streams::new(desk.clone(), spec.tuning);
        let disk = Disk::start(spec.core, spec.data, desk.clone(), spec.mail.clone())?;
        let CoreSockets { udp, sip, msrp } = spec.sockets;
        let datagrams = udp.into_iter().map(|socket| Rc::new(OwnedFd::from(socket))).collect();
        let msrp = msrp.into_iter().map(|socket| (Service::Msrp, socket.into()));
        let listeners = msrp.chain(sip.into_iter().map(|socket| (Service::Sip, socket.into()))).collect();
        let ground = Ground {
            core: spec.core,
            clock: spec.clock,
            mail: spec.mail,
            desk,
            streams,
            disk,
            datagrams,
            listeners,
            overdue: Vec::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            stop_told: false,
            rest: Rest::new(Instant::now()),
            events: events.clone(),
        };
        let _ = events.send(CoreEvent::Started(spec.core));
        // As a task of its own: waking one from this thread is a push on a list, waking the root writes to an eventfd.
        if tokio_uring::spawn(ground.turns(mind)).await.is_err() {
            std::process::abort();
        }
        Ok(())
    })
}

/// The executor swallows panics of tasks; a task that must not end ends the process instead.
async fn watch(task: impl Future<Output = ()>) {
    let _guard = AbortOnPanic;
    task.await;
}

/// The runtime and, where it can be found, its ring's descriptor.
fn build_runtime() -> io::Result<(tokio_uring::Runtime, Option<RawFd>)> {
    // One at a time, so that the ring that is new afterwards is ours.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = host::rings();
    let runtime = tuned_ring(true).or_else(|_| tuned_ring(false))?;
    let ring = host::rings().into_iter().find(|ring| !before.contains(ring));
    Ok((runtime, ring))
}

fn tuned_ring(modern: bool) -> io::Result<tokio_uring::Runtime> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(RING_COMPLETIONS).setup_clamp();
    if modern {
        // Linux 6.0: completions are worked off by this thread when it enters the kernel anyway, not by an interruption (up
        // to +32 % here). DEFER_TASKRUN would hang: tokio waits in epoll, which does not run deferred work.
        ring.setup_single_issuer().setup_coop_taskrun();
    }
    tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES).uring_builder(&ring))
}

/// The kernel's side of one core.
struct Ground {
    core: CoreId,
    clock: Clock,
    mail: Arc<Mail>,
    desk: Rc<Desk>,
    streams: Rc<Streams>,
    disk: Disk,
    datagrams: Vec<op::SharedFd>,
    /// Not accepting yet.
    listeners: Vec<(Service, OwnedFd)>,
    /// Per core, replies that found its box full. A box has room for all transactions under way, so these are empty but for a
    /// moment, and bounded by the transactions they finish: what anybody may send us any number of times is dropped instead.
    overdue: Vec<VecDeque<Box<Letter>>>,
    timer: Pin<Box<tokio::time::Sleep>>,
    /// When the timer is set to fire.
    armed: Option<Instant>,
    stop_told: bool,
    /// What a burst has left is given back after it.
    rest: Rest,
    /// To the one who started it.
    events: Sender<CoreEvent>,
}

impl Ground {
    async fn turns<M: Mind>(mut self, mut mind: M) {
        if let Some(door) = self.mail.door(self.core) {
            poll_fn(|context| {
                door.bell.install(context.waker().clone());
                Poll::Ready(())
            })
            .await;
        }
        self.open().await;
        loop {
            let now = self.clock.now();
            self.take_in(&mut mind, now);
            mind.turn(now);
            while let Some(effect) = mind.effect() {
                self.carry_out(effect);
            }
            if self.mail.all_ended() {
                return;
            }
            let due = mind.deadline().filter(|due| *due != Tick::NEVER);
            if self.has_work() || mind.has_mail() || due.is_some_and(|due| due <= self.clock.now().tick) {
                op::nop().await;
            } else {
                self.sleep(&mut mind, due).await;
            }
        }
    }

    /// Waits until all cores are there and all sockets listen, then begins to receive and to accept. Nothing is taken in, and no push
    /// begins, before: what has arrived waits in the kernel.
    async fn open(&mut self) {
        let mail = self.mail.clone();
        let Some(door) = mail.door(self.core) else { return };
        poll_fn(|_| {
            door.bell.lie_down();
            if door.is_open() || door.is_to_stop() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        door.bell.get_up();
        for (number, fd) in self.datagrams.iter().enumerate() {
            let socket = SocketId(u16::try_from(number).unwrap_or(u16::MAX));
            tokio_uring::spawn(watch(datagram::receive(fd.clone(), socket, self.desk.clone())));
        }
        for (service, listener) in self.listeners.drain(..) {
            self.streams.accept_from(listener, service);
        }
    }

    fn take_in<M: Mind>(&mut self, mind: &mut M, now: Now) {
        for _ in 0..COMPLETIONS_A_TURN {
            let Some(input) = self.desk.take() else { break };
            self.rest.worked(&input);
            mind.handle(now, input);
        }
        self.disk.collect(|done| mind.handle(now, Input::Disk(done)));
        self.deliver_overdue();
        let Some(door) = self.mail.door(self.core) else { return };
        for _ in 0..LETTERS_A_TURN {
            let Some(letter) = door.mailbox.take() else { break };
            mind.handle(now, Input::Letter(*letter));
        }
        if !self.stop_told && door.is_to_stop() {
            self.stop_told = true;
            mind.handle(now, Input::Stop);
        }
    }

    /// Something is there that the next turn would take in.
    fn has_work(&self) -> bool {
        !self.desk.is_empty()
            || self.disk.has_news()
            || self.mail.all_ended()
            || self
                .mail
                .door(self.core)
                .is_some_and(|door| !door.mailbox.is_empty() || (!self.stop_told && door.is_to_stop()))
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Receive { conn, buffer } => self.streams.receive(conn, buffer),
            Effect::Send { conn, gather } => self.streams.send(conn, gather),
            Effect::SendDatagram { socket, to, octets } => match self.datagrams.get(usize::from(socket.0)) {
                Some(fd) => datagram::send(fd, to, &octets),
                None => tracing::debug!(socket = socket.0, %to, "no such datagram socket"),
            },
            Effect::Connect { conn, to, bind } => self.streams.connect(conn, to, bind),
            Effect::Close { conn, reset } => self.streams.close(conn, reset),
            Effect::Disk(op) => self.disk.begin(op),
            Effect::Letter { to, letter } => self.post(to, letter),
            Effect::Answer { ticket, answer } => self.mail.answer(ticket, *answer),
            Effect::Ring { core } => {
                if let Some(door) = self.mail.door(core) {
                    door.bell.ring();
                }
            }
            Effect::Stopped => {
                // Said here, not when the runtime is gone: its end waits for accepts and receives that nobody can take
                // back.
                let _ = self.events.send(CoreEvent::Ended(self.core));
                self.mail.good_bye();
            }
        }
    }

    fn post(&mut self, to: CoreId, letter: Letter) {
        let is_request = letter.is_request();
        let Some(door) = self.mail.door(to) else {
            // A number that came from outside: the engine answers 481 to it, so this is a request nobody can take.
            return self.desk.put(Input::Undelivered(letter));
        };
        if is_request {
            match door.mailbox.request(Box::new(letter)) {
                Ok(()) => _ = door.bell.ring(),
                Err(letter) => self.desk.put(Input::Undelivered(*letter)),
            }
        } else if self.overdue.get(to.index()).is_some_and(|waiting| !waiting.is_empty()) {
            // Behind its predecessors: replies to one core keep their order.
            self.keep(to, Box::new(letter));
        } else {
            match door.mailbox.reply(Box::new(letter)) {
                Ok(()) => _ = door.bell.ring(),
                Err(letter) => self.keep(to, letter),
            }
        }
    }

    /// Keeps a reply that found the box full.
    fn keep(&mut self, to: CoreId, letter: Box<Letter>) {
        if letter.is_unasked() {
            // A response or an ACK from outside, perhaps to nothing of ours. Its sender repeats it.
            return tracing::debug!(core = to.0, "a core's box is full: a stray message is dropped");
        }
        if self.overdue.len() <= to.index() {
            self.overdue.resize_with(to.index() + 1, VecDeque::new);
        }
        if let Some(waiting) = self.overdue.get_mut(to.index()) {
            waiting.push_back(letter);
        }
    }

    /// Tries replies again whose box was full, each core's in order.
    fn deliver_overdue(&mut self) {
        for (core, waiting) in self.overdue.iter_mut().enumerate().filter(|(_, waiting)| !waiting.is_empty()) {
            let Some(door) = u16::try_from(core).ok().and_then(|core| self.mail.door(CoreId(core))) else { continue };
            while let Some(letter) = waiting.pop_front() {
                if let Err(letter) = door.mailbox.reply(letter) {
                    waiting.push_front(letter);
                    break;
                }
            }
            door.bell.ring();
        }
    }

    /// Sleeps until an input, a letter, a ring or the deadline.
    async fn sleep<M: Mind>(&mut self, mind: &mut M, due: Option<Tick>) {
        let mut until = due.and_then(|due| self.clock.instant(due));
        if self.rest.is_over(Instant::now()) {
            mind.rest();
            rest::give_back();
        }
        if let Some(look) = self.rest.deadline() {
            until = Some(until.map_or(look, |until| until.min(look)));
        }
        if self.overdue.iter().any(|waiting| !waiting.is_empty()) {
            // The other core does not know that we wait for room.
            let soon = Instant::now() + Duration::from_millis(1);
            until = Some(until.map_or(soon, |until| until.min(soon)));
        }
        // A timer that fires too early costs one empty turn; setting it back each time would cost more.
        if let Some(until) = until
            && self.armed.is_none_or(|armed| until < armed || armed <= Instant::now())
        {
            self.timer.as_mut().reset(until.into());
            self.armed = Some(until);
        }
        let mail = self.mail.clone();
        let Some(door) = mail.door(self.core) else { return };
        door.bell.lie_down();
        if self.has_work() || mind.has_mail() {
            door.bell.get_up();
            return op::nop().await;
        }
        let mut asleep = false;
        poll_fn(|context| {
            if self.armed.is_some() && self.timer.as_mut().poll(context).is_ready() {
                self.armed = None;
                return Poll::Ready(());
            }
            if asleep {
                return Poll::Ready(());
            }
            asleep = true;
            self.desk.wake_later(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        self.desk.wake_later(None);
        door.bell.get_up();
    }
}
