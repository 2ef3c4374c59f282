//! All users who have something stored, shared by all cores: who they are, how much they have, which core is their home, and
//! the inbox in front of their queue. Knows no queue and no record's contents.
//!
//! ```text
//!   address ──hash──▶ bucket of 7 slots ──▶ entry { word, inbox, link, address, home }
//!                       (tag, entry)              word: closed 1 | pins 9 | messages 22 | octets/8 32
//! ```
//!
//! *Finding* takes no lock: the slots of a bucket and of those it has spilled to are read, tags compared, then the whole address.
//! *Counting* is one compare-and-swap on the entry's word. *Creating* a user takes the lock of its bucket, for one reason: two cores
//! must not create the same user in two slots. *Closing* is a compare-and-swap of a word that is all zero into `CLOSED`: whoever
//! finds that word looks the user up again, and takes the slot away if the closer has not done so yet.
//!
//! An entry's number and its address are given back under an epoch ([`Epochs`]): nobody who found the entry before it
//! was closed can see it under another user's name. A user with a reserved message or a pin cannot be closed, so a [`UserId`] stays valid
//! as long as either is held.
//!
//! # Why no message is lost, doubled, or given to somebody else
//!
//! ```text
//!   receiving core                                       home core
//!   1 reserve  word + message, CAS
//!   2 commit   the record is durable
//!   3 pin      word + pin, CAS
//!   4 push     inbox                      ──Release──▶   6 drain the inbox: queue, push, 200
//!   5 link     mark, ready-list           ──Release──▶     take the ready-list
//!     ring     fence ◀──────one sees the other──────▶      lie down, fence, look again
//!     unpin    word - pin    ──────┐
//!                                  ├───AcqRel────────▶   8 close: word all zero -> CLOSED
//!                                  └────────── 7 release: word - message, the tombstone is durable
//! ```
//!
//! *The entry stays the user's from 1 to 7, and from 3 to the unpin.* Every change of a word is a read-modify-write, so all of them are
//! totally ordered, and 8 succeeds only where nothing is reserved and nobody has pinned. A reservation that comes after 8 finds `CLOSED` and
//! looks the user up again. So the inbox that 4 fills and the link that 5 sets are this user's; and home, which drains unasked,
//! too, may deliver and release between 4 and 5 without the entry changing hands under 5. Whoever gives back the last reservation or the
//! last pin closes: whichever of 7 and the unpin comes second sees the first.
//!
//! *A number means one user at a time.* 8 takes the slot away and only then gives the number back, under an epoch: whoever found
//! the slot before holds a guard from before, and finds `CLOSED` in the entry as long as it holds it. Creating writes address, hash,
//! home and word before it claims a slot (`AcqRel`), finding reads the slot first (`Acquire`): who finds a slot sees the life it belongs to. An entry
//! that still stands on a list is neither closed nor given away: a link is one user's.
//!
//! *Nothing lost, doubled or reordered on the way:* [`Inbox`] says why, from 4 to 6. Twins that were deposited twice are known by their
//! fingerprints ([`seen`](super::seen)).
//!
//! *Order.* The locator of m1 is pushed before its 202 leaves. If m2 arrives after that, anywhere, its stamp is higher and its push comes
//! later in the order of the one head: no drain brings m2 and leaves m1 behind. Within a drain home sorts by stamp.
//!
//! `tests/models` tries every interleaving of these steps on this very file, three preemptions deep.
//!
//! Memory per user: entry 56 octets, two slots 18, address about 48 with the allocator's share: 122 octets. The list adds 56.

#![allow(unsafe_code)]

// Said for `tests/models`, which finds this file by its path.
#[path = "directory/foreseen.rs"]
mod foreseen;
#[path = "directory/table.rs"]
mod table;

use super::domains::Domains;
use super::record::Locator;
use crate::base::epochs::Epochs;
use crate::base::inbox::{Inbox, Link, Nodes, Parcel, ReadyList, Shelves};
use crate::base::net::CoreId;
use crate::base::sync::{self, AtomicU16, AtomicU32, AtomicU64, Mutex, Ordering};
use crossbeam::epoch::{Atomic, Guard, Shared};
use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
pub use foreseen::Named;
use siphasher::sip::SipHasher13;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::{Arc, PoisonError};
use table::{Bucket, Found, SLOTS, octets_of, slot_word};

/// A user of the directory; valid while a message of theirs is reserved or they are pinned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserId(pub u32);

/// A durable message on its way to its user's home: where it lies, and by what a twin is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Where it lies.
    pub locator: Locator,
    /// The record's fingerprint.
    pub fingerprint: u64,
}

impl Parcel for Arrival {
    fn pack(self) -> [u64; 4] {
        let [a, b, c] = self.locator.words();
        [a, b, c, self.fingerprint]
    }

    fn unpack([a, b, c, fingerprint]: [u64; 4]) -> Arrival {
        Arrival { locator: Locator::from_words([a, b, c]), fingerprint }
    }
}

/// `limits.users` users are in the directory already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryFull;

/// Why a message was not taken on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `limits.users` users have something stored.
    DirectoryFull,
    /// This user's messages or octets are at their quota.
    OverQuota,
}

impl From<DirectoryFull> for Refusal {
    fn from(_: DirectoryFull) -> Refusal {
        Refusal::DirectoryFull
    }
}

const CLOSED: u64 = 1 << 63;
const PIN: u64 = 1 << 54;
const PINS_MAX: u64 = (1 << 9) - 1;
const MESSAGE: u64 = 1 << 32;

/// Most messages of one user, whatever the quota says.
pub const MESSAGES_MAX: u32 = (1 << 22) - 1;
/// Most octets of one user, whatever the quota says: a little under 32 GiB.
pub const OCTETS_MAX: u64 = u32::MAX as u64 * 8;

fn messages(word: u64) -> u32 {
    (word >> 32) as u32 & MESSAGES_MAX
}

fn octets(word: u64) -> u64 {
    u64::from(word as u32) * 8
}

#[derive(Debug)]
struct Entry {
    word: AtomicU64,
    inbox: Inbox<Arrival>,
    link: Link,
    home: AtomicU16,
    /// Where home keeps its list of this user: home's own note, in a place that was left.
    list: AtomicU32,
    hash: AtomicU64,
    address: Atomic<[MaybeUninit<u8>]>,
}

impl Entry {
    /// Keeps an open user open for a moment. Waits, for less than that, in the case that all 511 pins are taken.
    fn pin(&self) {
        let pin = |word: u64| (word >> 54 & PINS_MAX < PINS_MAX).then_some(word + PIN);
        while self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, pin).is_err() {
            std::hint::spin_loop();
        }
    }
}

/// The shared directory.
#[derive(Debug)]
pub struct Directory {
    key: [u8; 16],
    hasher: SipHasher13,
    epochs: Epochs,
    cores: u16,
    users: usize,
    living: CachePadded<AtomicU64>,
    buckets: Box<[Bucket]>,
    creating: Box<[CachePadded<Mutex<()>>]>,
    entries: Box<[Entry]>,
    fresh: AtomicU32,
    free: Arc<SegQueue<u32>>,
    shelves: Arc<Shelves>,
    domains: Domains,
    ready: Box<[CachePadded<ReadyList>]>,
}

/// Entries that may wait for their epoch to pass before anybody has to wait for that: closing and creating a thousand users takes
/// longer than a processor's time slice.
const SLACK: usize = sync::scaled(1_024);

/// Locks of creation. Two users who are created at once meet in one of them once in 256 times.
const STRIPES: usize = sync::scaled(256);

/// Entries that a core's thread may hold back for ever: a bag of what is to be given back has 64 places, and goes round when it is full.
const BAG: usize = sync::scaled(64);

/// Times that somebody who finds all entries waiting lets others run. Who holds an epoch back does so for microseconds; only one
/// that is preempted longer, and this is a tenth of a second. Beyond it the answer is that the directory is full.
const EPOCH_TRIES: usize = 100_000;

/// Why a user was not created.
enum NotCreated {
    Full,
    /// Entries are free, but not given back yet.
    Waits,
}

impl Directory {
    /// Room for `users` users of `cores` cores. `key` is the data directory's secret: nobody outside can choose what collides.
    pub fn new(users: usize, cores: u16, key: [u8; 16]) -> Directory {
        let users = users.clamp(1, (u32::MAX >> 1) as usize);
        let cores = cores.max(1);
        let entry = |_| Entry {
            word: AtomicU64::new(CLOSED),
            inbox: Inbox::new(),
            link: Link::default(),
            home: AtomicU16::new(0),
            list: AtomicU32::new(0),
            hash: AtomicU64::new(0),
            address: Atomic::null(),
        };
        let buckets = (users * 2).div_ceil(SLOTS);
        Directory {
            key,
            hasher: SipHasher13::new_with_key(&key),
            epochs: Epochs::new(),
            cores,
            users,
            living: CachePadded::new(AtomicU64::new(0)),
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            creating: (0..STRIPES).map(|_| CachePadded::default()).collect(),
            entries: (0..users + SLACK + BAG * usize::from(cores)).map(entry).collect(),
            fresh: AtomicU32::new(0),
            free: Arc::new(SegQueue::new()),
            shelves: Shelves::new(cores),
            domains: Domains::default(),
            ready: (0..cores).map(|_| CachePadded::new(ReadyList::new())).collect(),
        }
    }

    /// The same directory, which counts what the users of these domains have.
    #[must_use]
    pub fn with_domains(mut self, names: &[String]) -> Directory {
        self.domains = Domains::new(names, self.cores);
        self
    }

    /// What the served domains have stored.
    pub fn domains(&self) -> &Domains {
        &self.domains
    }

    /// The data directory's secret.
    pub fn key(&self) -> [u8; 16] {
        self.key
    }

    /// How many cores there are.
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// This core's slab of inbox nodes; `None` when it was asked for before.
    pub fn nodes(&self, core: CoreId) -> Option<Nodes> {
        self.shelves.nodes(core.0)
    }

    /// SipHash-1-3 under the directory's key.
    pub fn hash(&self, octets: &[u8]) -> u64 {
        self.hasher.hash(octets)
    }

    /// The core that drains this user's inbox and runs their dialogs.
    pub fn home(&self, address: &[u8]) -> CoreId {
        self.home_of(self.hash(address))
    }

    /// The same, by the address's hash.
    pub fn home_of_hash(&self, hash: u64) -> CoreId {
        self.home_of(hash)
    }

    fn home_of(&self, hash: u64) -> CoreId {
        CoreId((((hash & 0xffff_ffff) * u64::from(self.cores)) >> 32) as u16)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.living.load(Ordering::Relaxed) as usize
    }

    /// How many numbers of users were ever given out at the same time: every [`UserId`] is below.
    pub fn places(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed).min(self.entries.len() as u32)
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every user's number is below this: for whoever looks at all of them, a few at a time.
    pub fn numbers(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed)
    }

    /// The user of this address. The answer holds until somebody closes the user.
    pub fn find(&self, address: &[u8]) -> Option<UserId> {
        let guard = self.epochs.pin();
        let found = self.look_up(self.hash(address), address, &guard)?;
        let open = self.entries[found.user as usize].word.load(Ordering::Acquire) & CLOSED == 0;
        open.then_some(UserId(found.user))
    }

    /// Finds or creates the user and pins them: they stay until [`Directory::leave`].
    pub fn enter(&self, address: &[u8]) -> Result<UserId, DirectoryFull> {
        let pin = |word: u64| if word >> 54 & PINS_MAX == PINS_MAX { Err(DirectoryFull) } else { Ok(word + PIN) };
        self.count(self.named(address), pin)
    }

    /// Takes one pin back.
    pub fn leave(&self, user: UserId) {
        let before = self.entry(user).word.fetch_sub(PIN, Ordering::AcqRel);
        debug_assert!(before >> 54 & PINS_MAX > 0, "who leaves has entered");
    }

    /// Finds or creates the user and counts one message of `octets` against `quota` (messages, octets). The user stays until it
    /// is released.
    pub fn reserve(&self, address: &[u8], octets: u64, quota: (u32, u64)) -> Result<UserId, Refusal> {
        self.reserve_named(self.named(address), octets, quota)
    }

    /// The same of one that was foreseen.
    pub fn reserve_named(&self, named: Named<'_>, octets: u64, quota: (u32, u64)) -> Result<UserId, Refusal> {
        let quota = (quota.0.min(MESSAGES_MAX), quota.1.min(OCTETS_MAX));
        if octets > quota.1 || quota.0 == 0 {
            return Err(Refusal::OverQuota);
        }
        let units = octets.div_ceil(8);
        self.count(named, |word| {
            if messages(word) >= quota.0 || self::octets(word) + units * 8 > quota.1.next_multiple_of(8) {
                return Err(Refusal::OverQuota);
            }
            Ok(word + MESSAGE + units)
        })
    }

    /// Counts `octets` more for a message that is reserved already. False, and nothing counted, where the quota has no room.
    pub fn grow(&self, user: UserId, octets: u64, quota: u64) -> bool {
        let quota = quota.min(OCTETS_MAX).next_multiple_of(8);
        let units = octets.div_ceil(8);
        let more = |word| (self::octets(word) + units * 8 <= quota).then_some(word + units);
        self.entry(user).word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// At recovery: finds or creates the user and counts what was found, whatever the quota says.
    pub fn restore(&self, address: &[u8], messages: u32, octets: u64) -> Result<UserId, DirectoryFull> {
        let units = octets.div_ceil(8);
        self.count(self.named(address), |word| {
            let messages = (self::messages(word) + messages.min(MESSAGES_MAX)).min(MESSAGES_MAX);
            let units = (u64::from(word as u32) + units).min(u64::from(u32::MAX));
            Ok(word >> 54 << 54 | u64::from(messages) << 32 | units)
        })
    }

    /// Gives back what `messages` messages of together `octets` octets had reserved. Octets are counted in units of 8 per message,
    /// as [`Locator::octets`] says them.
    pub fn release(&self, user: UserId, messages: u32, octets: u64) {
        let entry = self.entry(user);
        let mut word = entry.word.load(Ordering::Relaxed);
        loop {
            // Saturating: a restored user above the entry's range was cut when counted.
            let units = u64::from(word as u32).saturating_sub(octets.div_ceil(8));
            let left = self::messages(word).saturating_sub(messages);
            let next = word >> 54 << 54 | u64::from(left) << 32 | units;
            match entry.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Gives back the reservation of one message that was never published. Only its core knows of it, so it is this core that lets
    /// the user go if there is nothing else: home would never ask, and the places of users who were only refused would run out.
    pub fn give_up(&self, user: UserId, octets: u64) {
        self.release(user, 1, octets);
        self.close(user);
    }

    /// Messages and octets reserved by this user.
    pub fn usage(&self, user: UserId) -> (u32, u64) {
        let word = self.entry(user).word.load(Ordering::Relaxed);
        (messages(word), octets(word))
    }

    /// The user's canonical address. Let go of it soon: it holds back the memory of every user closed meanwhile.
    pub fn address(&self, user: UserId) -> Address {
        let guard = self.epochs.pin();
        let shared = self.entry(user).address.load(Ordering::Acquire, &guard);
        let octets: *const [MaybeUninit<u8>] = match shared.is_null() {
            true => &[],
            // SAFETY: the pointer is not null and was loaded under `guard`; addresses are only destroyed through
            // `defer_destroy` after they were taken out of the entry, so this one lives as long as the guard.
            false => unsafe { shared.deref() },
        };
        Address { octets, _guard: guard }
    }

    /// The hash of their address ([`Directory::hash`]), without a look at the address.
    pub fn hash_of(&self, user: UserId) -> u64 {
        self.entry(user).hash.load(Ordering::Relaxed)
    }

    /// The core that drains this user's inbox.
    pub fn home_of_user(&self, user: UserId) -> CoreId {
        CoreId(self.entry(user).home.load(Ordering::Relaxed))
    }

    /// Home only: what it noted about where its list of this user is. Until then, what another home has noted or nobody.
    pub fn list_of(&self, user: UserId) -> u32 {
        self.entries.get(user.0 as usize).map_or(0, |entry| entry.list.load(Ordering::Relaxed))
    }

    /// Home only: notes where its list of this user is.
    pub fn set_list_of(&self, user: UserId, list: u32) {
        self.entry(user).list.store(list, Ordering::Relaxed);
    }

    /// Leaves a durable message in its user's inbox. `Some(home)`: that core must be rung, the user was just put on its list.
    /// The message must have been reserved.
    ///
    /// The user is pinned meanwhile. From the push on home may drain the message unasked, deliver it and release it, and nothing
    /// else would keep it from closing the user before we have linked it: the next user of that entry would stand on a list
    /// of the wrong home, which would drain an inbox that is not its own.
    #[inline]
    pub fn publish(&self, user: UserId, arrival: Arrival, nodes: &mut Nodes) -> Option<CoreId> {
        let entry = self.entry(user);
        entry.pin();
        let mut rung = None;
        if entry.inbox.push(arrival, nodes) {
            let home = entry.home.load(Ordering::Relaxed);
            let linked = self.ready[usize::from(home)].link(user.0, &entry.link);
            rung = linked.then_some(CoreId(home));
        }
        if entry.word.fetch_sub(PIN, Ordering::AcqRel) == PIN {
            // Home has released the message already, and our pin may have been what kept it from closing the user.
            self.close(user);
        }
        rung
    }

    /// Home only: the users whose inboxes filled since. Every one of them must be drained now.
    pub fn take_ready(&self, core: CoreId, into: &mut Vec<UserId>) {
        let Some(list) = self.ready.get(core.index()).filter(|list| !list.is_empty()) else { return };
        let mut users = Vec::new();
        list.take(|user| &self.entries[user as usize].link, &mut users);
        into.extend(users.into_iter().map(UserId));
    }

    /// True when [`Directory::take_ready`] would find somebody.
    pub fn has_ready(&self, core: CoreId) -> bool {
        self.ready.get(core.index()).is_some_and(|list| !list.is_empty())
    }

    /// Home only: everything in the user's inbox, in the order in which it was left there.
    pub fn drain(&self, user: UserId, into: &mut Vec<Arrival>) {
        self.entry(user).inbox.drain(&self.shelves, into);
    }

    /// Lets the user go if nothing is reserved, nobody pins them and nothing waits. True when they are gone; `user` means nobody
    /// from then on. False: ask again when the next message has been released. For home, and for whoever has just given back
    /// the last reservation or pin.
    pub fn close(&self, user: UserId) -> bool {
        let guard = self.epochs.pin();
        let entry = self.entry(user);
        // Still on the ready-list: it must not be reused while it is. `take_ready` will bring it, and home asks again.
        // Nobody can link it afterwards: only a reserved message is published, and then the word is not zero.
        if entry.link.is_linked() || !entry.inbox.is_empty() {
            return false;
        }
        if entry.word.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let hash = entry.hash.load(Ordering::Relaxed);
        if let Some(slot) = self.slot_of(hash, user.0) {
            let _ = slot.compare_exchange(slot_word(hash, user.0), 0, Ordering::AcqRel, Ordering::Relaxed);
        }
        let address = entry.address.swap(Shared::null(), Ordering::AcqRel, &guard);
        if !address.is_null() {
            // SAFETY: the swap took the only pointer to it out of the entry, so nobody can load it from now on, and
            // whoever loaded it before holds a guard of this epoch or an earlier one.
            unsafe { guard.defer_destroy(address) };
        }
        self.living.fetch_sub(1, Ordering::Relaxed);
        let (free, number) = (self.free.clone(), user.0);
        guard.defer(move || free.push(number));
        true
    }

    fn entry(&self, user: UserId) -> &Entry {
        &self.entries[user.0 as usize]
    }

    /// The common part of everything that finds or creates a user and changes its word.
    fn count<E: From<DirectoryFull>>(
        &self,
        Named { address, hash }: Named<'_>,
        change: impl Fn(u64) -> Result<u64, E>,
    ) -> Result<UserId, E> {
        let mut guard = self.epochs.pin();
        let mut tries = 0;
        loop {
            if let Some(found) = self.look_up(hash, address, &guard) {
                if self.change(&found, &change)? {
                    return Ok(UserId(found.user));
                }
                continue;
            }
            let stripe = (self.bucket_of(hash) % self.creating.len() as u64) as usize;
            let lock = self.creating[stripe].lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = self.look_up(hash, address, &guard) {
                drop(lock);
                if self.change(&found, &change)? {
                    return Ok(UserId(found.user));
                }
                continue;
            }
            let word = change(0)?;
            let created = self.create(hash, address, word);
            drop(lock);
            match created {
                Ok(user) => return Ok(user),
                Err(NotCreated::Waits) if tries < EPOCH_TRIES => {
                    tries += 1;
                    guard.flush();
                    // Our own guard would hold the epoch back as well.
                    guard.repin_after(std::thread::yield_now);
                }
                Err(_) => return Err(DirectoryFull.into()),
            }
        }
    }

    /// False when the user has been closed: its slot is free then.
    fn change<E>(&self, found: &Found<'_>, change: &impl Fn(u64) -> Result<u64, E>) -> Result<bool, E> {
        let entry = &self.entries[found.user as usize];
        let mut word = entry.word.load(Ordering::Acquire);
        loop {
            if word & CLOSED != 0 {
                // Help the closer. The entry cannot have come round again: we hold an epoch from before it was found.
                let _ = found.slot.compare_exchange(found.word, 0, Ordering::AcqRel, Ordering::Relaxed);
                return Ok(false);
            }
            match entry.word.compare_exchange_weak(word, change(word)?, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(true),
                Err(now) => word = now,
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for entry in &self.entries {
            self.free_address(entry);
        }
    }
}

/// A user's address, held against being freed.
#[derive(Debug)]
pub struct Address {
    octets: *const [MaybeUninit<u8>],
    _guard: Guard,
}

impl Deref for Address {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `octets` was loaded under the guard held here, so it lives as long as `self`, and `create` has written
        // every octet before storing the pointer. The empty one is a constant.
        unsafe { octets_of(&*self.octets) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "directory/tests.rs"]
mod tests;
