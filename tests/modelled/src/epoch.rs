//! In the place of `crossbeam::epoch`: what is deferred runs the very moment that no guard of its time is left, which is as early as
//! an epoch may ever pass. What was destroyed is not freed but marked, so that whoever looks at it later is caught.

use crate::atomics::{AtomicUsize, Ordering, fence};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

type Octets = [MaybeUninit<u8>];
type Deferred = Box<dyn FnOnce() + Send>;

/// What guards there are, and what waits for which of them.
#[derive(Default)]
struct Epochs {
    next: u64,
    held: BTreeSet<u64>,
    waiting: Vec<(BTreeSet<u64>, Deferred)>,
}

struct Global {
    /// Who lets go of a guard has happened before what runs because of it.
    let_go: AtomicUsize,
    epochs: Mutex<Epochs>,
}

loom::lazy_static! {
    static ref GLOBAL: Global = Global { let_go: AtomicUsize::new(0), epochs: Mutex::default() };
}

fn epochs<R>(change: impl FnOnce(&mut Epochs) -> R) -> R {
    change(&mut GLOBAL.epochs.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Holds everything back that is deferred from now on.
#[derive(Debug)]
pub struct Guard(u64);

/// A guard. Crossbeam's puts a fence here, too.
pub fn pin() -> Guard {
    fence(Ordering::SeqCst);
    epochs(|epochs| {
        epochs.next += 1;
        epochs.held.insert(epochs.next);
        Guard(epochs.next)
    })
}

impl Guard {
    /// Runs `what` when every guard that is held now is gone.
    pub fn defer<F: FnOnce() + Send + 'static>(&self, what: F) {
        // Crossbeam puts this fence where it seals a bag: whoever pins after that sees what was done before.
        fence(Ordering::SeqCst);
        epochs(|epochs| {
            let held = epochs.held.clone();
            epochs.waiting.push((held, Box::new(what)));
        });
    }

    /// Destroys it when every guard that is held now is gone.
    ///
    /// # Safety
    /// Nobody may find it from now on.
    pub unsafe fn defer_destroy(&self, shared: Shared<'_, Octets>) {
        let raw = shared.raw;
        self.defer(move || {
            // SAFETY: made by `Owned::init`, never freed.
            let cell = unsafe { &*(raw as *const Cell) };
            let mut alive = cell.alive.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(*alive, "destroyed twice");
            *alive = false;
        });
    }

    /// Nothing waits longer than it must anyway.
    pub fn flush(&self) {}

    /// Lets go, does `what`, and takes hold again.
    pub fn repin_after<R>(&mut self, what: impl FnOnce() -> R) -> R {
        *self = pin();
        let done = what();
        *self = pin();
        done
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GLOBAL.let_go.fetch_add(1, Ordering::AcqRel);
        let due = epochs(|epochs| {
            epochs.held.remove(&self.0);
            let mut due = Vec::new();
            let mut at = 0;
            while at < epochs.waiting.len() {
                epochs.waiting[at].0.remove(&self.0);
                if epochs.waiting[at].0.is_empty() {
                    due.push(epochs.waiting.remove(at).1);
                } else {
                    at += 1;
                }
            }
            due
        });
        due.into_iter().for_each(|what| what());
    }
}

/// Octets with a mark. They are leaked on purpose: a model is small, and a look at what was destroyed must find the mark.
struct Cell {
    alive: Mutex<bool>,
    octets: Box<Octets>,
}

/// Octets that nobody else sees yet.
pub struct Owned<T: ?Sized> {
    cell: Box<Cell>,
    kind: PhantomData<Box<T>>,
}

impl Owned<Octets> {
    /// So many octets, none of them written.
    pub fn init(len: usize) -> Owned<Octets> {
        let octets = (0..len).map(|_| MaybeUninit::uninit()).collect();
        Owned { cell: Box::new(Cell { alive: Mutex::new(true), octets }), kind: PhantomData }
    }
}

impl Deref for Owned<Octets> {
    type Target = Octets;
    fn deref(&self) -> &Octets {
        &self.cell.octets
    }
}

impl DerefMut for Owned<Octets> {
    fn deref_mut(&mut self) -> &mut Octets {
        &mut self.cell.octets
    }
}

/// A pointer to octets.
#[derive(Debug)]
pub struct Atomic<T: ?Sized> {
    raw: AtomicUsize,
    kind: PhantomData<*const T>,
}

// SAFETY: it is a number; what it names is only looked at through `Shared`, and is `Sync`.
unsafe impl Send for Atomic<Octets> {}
// SAFETY: as above.
unsafe impl Sync for Atomic<Octets> {}

impl Atomic<Octets> {
    /// To nothing.
    pub fn null() -> Atomic<Octets> {
        Atomic { raw: AtomicUsize::new(0), kind: PhantomData }
    }

    /// What it points to.
    pub fn load<'g>(&self, order: Ordering, _: &'g Guard) -> Shared<'g, Octets> {
        Shared { raw: self.raw.load(order), kind: PhantomData }
    }

    /// Lets it point to these.
    pub fn store(&self, owned: Owned<Octets>, order: Ordering) {
        self.raw.store(Box::into_raw(owned.cell) as usize, order);
    }

    /// Lets it point elsewhere; to what it pointed before.
    pub fn swap<'g>(&self, shared: Shared<'_, Octets>, order: Ordering, _: &'g Guard) -> Shared<'g, Octets> {
        Shared { raw: self.raw.swap(shared.raw, order), kind: PhantomData }
    }
}

/// What a pointer pointed to while a guard is held.
pub struct Shared<'g, T: ?Sized> {
    raw: usize,
    kind: PhantomData<(&'g (), *const T)>,
}

impl<'g> Shared<'g, Octets> {
    /// Nothing.
    pub fn null() -> Shared<'g, Octets> {
        Shared { raw: 0, kind: PhantomData }
    }

    /// True when it is nothing.
    pub fn is_null(&self) -> bool {
        self.raw == 0
    }

    /// The octets.
    ///
    /// # Safety
    /// It is not null.
    pub unsafe fn deref(&self) -> &'g Octets {
        // SAFETY: made by `Owned::init`, never freed.
        let cell = unsafe { &*(self.raw as *const Cell) };
        assert!(*cell.alive.lock().unwrap_or_else(PoisonError::into_inner), "looked at after it was destroyed");
        &cell.octets
    }

    /// The octets, if any.
    ///
    /// # Safety
    /// None here; crossbeam's has some.
    pub unsafe fn as_ref(&self) -> Option<&'g Octets> {
        // SAFETY: not null.
        if self.is_null() { None } else { Some(unsafe { self.deref() }) }
    }
}
