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
//! An entry's number and its address are given back under an epoch (`crossbeam::epoch`): nobody who found the entry before it
//! was closed can see it under another user's name. A user with a reserved message or a pin cannot be closed, so a [`UserId`] stays valid
//! as long as either is held.
//!
//! Memory per user: entry 56 octets, two slots 18, address about 64 with the allocator's share: 138 octets. The queue's fixed part adds 72.

#![allow(unsafe_code)]

use super::record::Locator;
use crate::base::inbox::{Inbox, Link, Nodes, Parcel, ReadyList, Shelves};
use crate::base::net::CoreId;
use crossbeam::epoch::{self, Atomic, Guard, Owned, Shared};
use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
use siphasher::sip::SipHasher13;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    hash: AtomicU64,
    address: Atomic<[MaybeUninit<u8>]>,
}

const SLOTS: usize = 7;

/// One cache line. A slot is 0, or the upper half of the hash << 32 | entry + 1.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    slots: [AtomicU64; SLOTS],
    /// How many buckets further on a user of this one may be found. Only grows.
    reach: AtomicU64,
}

/// Buckets a user may spill over. At most half of all slots are taken, and the hash is keyed: a few in a row are never full
/// by chance, and nobody outside can choose what collides.
const REACH_MAX: u64 = 64;

/// The shared directory.
#[derive(Debug)]
pub struct Directory {
    key: [u8; 16],
    hasher: SipHasher13,
    cores: u16,
    users: usize,
    living: CachePadded<AtomicU64>,
    buckets: Box<[Bucket]>,
    creating: Box<[CachePadded<Mutex<()>>]>,
    entries: Box<[Entry]>,
    fresh: AtomicU32,
    free: Arc<SegQueue<u32>>,
    shelves: Arc<Shelves>,
    ready: Box<[CachePadded<ReadyList>]>,
}

/// Entries that wait for their epoch to pass: each thread holds back at most a few bags of 64.
const SLACK: usize = 1_024;

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
            hash: AtomicU64::new(0),
            address: Atomic::null(),
        };
        let buckets = (users * 2).div_ceil(SLOTS).next_power_of_two();
        Directory {
            key,
            hasher: SipHasher13::new_with_key(&key),
            cores,
            users,
            living: CachePadded::new(AtomicU64::new(0)),
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            creating: (0..256).map(|_| CachePadded::default()).collect(),
            entries: (0..users + SLACK).map(entry).collect(),
            fresh: AtomicU32::new(0),
            free: Arc::new(SegQueue::new()),
            shelves: Shelves::new(cores),
            ready: (0..cores).map(|_| CachePadded::new(ReadyList::new())).collect(),
        }
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

    fn home_of(&self, hash: u64) -> CoreId {
        CoreId((((hash & 0xffff_ffff) * u64::from(self.cores)) >> 32) as u16)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.living.load(Ordering::Relaxed) as usize
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The user of this address. The answer holds until somebody closes the user; only home closes.
    pub fn find(&self, address: &[u8]) -> Option<UserId> {
        let guard = epoch::pin();
        let found = self.look_up(self.hash(address), address, &guard)?;
        let open = self.entries[found.user as usize].word.load(Ordering::Acquire) & CLOSED == 0;
        open.then_some(UserId(found.user))
    }

    /// Finds or creates the user and pins them: they stay until [`Directory::leave`].
    pub fn enter(&self, address: &[u8]) -> Result<UserId, DirectoryFull> {
        let pin = |word: u64| if word >> 54 & PINS_MAX == PINS_MAX { Err(DirectoryFull) } else { Ok(word + PIN) };
        self.count(address, pin)
    }

    /// Takes one pin back.
    pub fn leave(&self, user: UserId) {
        let before = self.entry(user).word.fetch_sub(PIN, Ordering::AcqRel);
        debug_assert!(before >> 54 & PINS_MAX > 0, "who leaves has entered");
    }

    /// Finds or creates the user and counts one message of `octets` against `quota` (messages, octets). The user stays until it
    /// is released.
    pub fn reserve(&self, address: &[u8], octets: u64, quota: (u32, u64)) -> Result<UserId, Refusal> {
        let quota = (quota.0.min(MESSAGES_MAX), quota.1.min(OCTETS_MAX));
        if octets > quota.1 || quota.0 == 0 {
            return Err(Refusal::OverQuota);
        }
        let units = octets.div_ceil(8);
        self.count(address, |word| {
            if messages(word) >= quota.0 || self::octets(word) + units * 8 > quota.1.next_multiple_of(8) {
                return Err(Refusal::OverQuota);
            }
            Ok(word + MESSAGE + units)
        })
    }

    /// At recovery: finds or creates the user and counts what was found, whatever the quota says.
    pub fn restore(&self, address: &[u8], messages: u32, octets: u64) -> Result<UserId, DirectoryFull> {
        let units = octets.div_ceil(8);
        self.count(address, |word| {
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

    /// Messages and octets reserved by this user.
    pub fn usage(&self, user: UserId) -> (u32, u64) {
        let word = self.entry(user).word.load(Ordering::Relaxed);
        (messages(word), octets(word))
    }

    /// The user's canonical address. Let go of it soon: it holds back the memory of every user closed meanwhile.
    pub fn address(&self, user: UserId) -> Address {
        let guard = epoch::pin();
        let shared = self.entry(user).address.load(Ordering::Acquire, &guard);
        let octets: *const [MaybeUninit<u8>] = match shared.is_null() {
            true => &[],
            // SAFETY: the pointer is not null and was loaded under `guard`; addresses are only destroyed through
            // `defer_destroy` after they were taken out of the entry, so this one lives as long as the guard.
            false => unsafe { shared.deref() },
        };
        Address { octets, _guard: guard }
    }

    /// The core that drains this user's inbox.
    pub fn home_of_user(&self, user: UserId) -> CoreId {
        CoreId(self.entry(user).home.load(Ordering::Relaxed))
    }

    /// Leaves a durable message in its user's inbox. `Some(home)`: that core must be rung, the user was just put on its list.
    /// The message must have been reserved.
    #[inline]
    pub fn publish(&self, user: UserId, arrival: Arrival, nodes: &mut Nodes) -> Option<CoreId> {
        let entry = self.entry(user);
        if !entry.inbox.push(arrival, nodes) {
            return None;
        }
        let home = entry.home.load(Ordering::Relaxed);
        let linked = self.ready[usize::from(home)].link(user.0, &entry.link);
        linked.then_some(CoreId(home))
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

    /// Home only: lets the user go if nothing is reserved, nobody pins them and nothing waits. True when they are gone; `user` means
    /// nobody from then on. False: ask again when the next message has been released.
    pub fn close(&self, user: UserId) -> bool {
        let guard = epoch::pin();
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
        address: &[u8],
        change: impl Fn(u64) -> Result<u64, E>,
    ) -> Result<UserId, E> {
        let hash = self.hash(address);
        let guard = epoch::pin();
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
            return Ok(self.create(hash, address, word)?);
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

    /// Under the lock of the address's bucket.
    fn create(&self, hash: u64, address: &[u8], word: u64) -> Result<UserId, DirectoryFull> {
        if self.living.fetch_add(1, Ordering::Relaxed) >= self.users as u64 {
            self.living.fetch_sub(1, Ordering::Relaxed);
            return Err(DirectoryFull);
        }
        let full = || {
            self.living.fetch_sub(1, Ordering::Relaxed);
            DirectoryFull
        };
        let number = self.free_entry().ok_or_else(full)?;
        let entry = &self.entries[number as usize];
        let mut owned = Owned::<[MaybeUninit<u8>]>::init(address.len());
        for (to, from) in owned.iter_mut().zip(address) {
            to.write(*from);
        }
        entry.address.store(owned, Ordering::Release);
        entry.hash.store(hash, Ordering::Relaxed);
        entry.home.store(self.home_of(hash).0, Ordering::Relaxed);
        entry.word.store(word, Ordering::Release);
        let begin = self.bucket_of(hash);
        for step in 0..REACH_MAX.min(self.buckets.len() as u64) {
            let bucket = self.bucket(begin + step);
            for slot in bucket.slots.iter().filter(|slot| slot.load(Ordering::Relaxed) == 0) {
                // Before the slot: who finds the reach too short must not have been able to find the slot either.
                self.bucket(begin).reach.fetch_max(step, Ordering::AcqRel);
                let claim = slot.compare_exchange(0, slot_word(hash, number), Ordering::AcqRel, Ordering::Relaxed);
                if claim.is_ok() {
                    return Ok(UserId(number));
                }
            }
        }
        // Never found by anyone: it may go back at once. Its address is freed when the entry is used again or dropped.
        entry.word.store(CLOSED, Ordering::Relaxed);
        self.free_address(entry);
        self.free.push(number);
        Err(full())
    }

    fn free_address(&self, entry: &Entry) {
        let guard = epoch::pin();
        let address = entry.address.swap(Shared::null(), Ordering::AcqRel, &guard);
        if !address.is_null() {
            // SAFETY: as in `close`: taken out of the entry by the swap, destroyed after all present guards.
            unsafe { guard.defer_destroy(address) };
        }
    }

    fn free_entry(&self) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        let fresh = self.fresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |fresh| {
            ((fresh as usize) < self.entries.len()).then_some(fresh + 1)
        });
        if let Ok(number) = fresh {
            return Some(number);
        }
        // All that is free waits for an epoch. Push the epochs on; our own guard holds at most the latest back.
        epoch::pin().flush();
        self.free.pop()
    }

    fn bucket_of(&self, hash: u64) -> u64 {
        // The lower half chose the home core, so the bucket comes from the upper.
        hash >> 32
    }

    fn bucket(&self, number: u64) -> &Bucket {
        &self.buckets[number as usize & (self.buckets.len() - 1)]
    }

    fn look_up<'a>(&'a self, hash: u64, address: &[u8], guard: &Guard) -> Option<Found<'a>> {
        let begin = self.bucket_of(hash);
        let reach = self.bucket(begin).reach.load(Ordering::Acquire);
        for step in 0..=reach {
            for slot in &self.bucket(begin + step).slots {
                let word = slot.load(Ordering::Acquire);
                if word == 0 || tag(word) != tag(slot_word(hash, 0)) {
                    continue;
                }
                let user = word as u32 - 1;
                let shared = self.entries[user as usize].address.load(Ordering::Acquire, guard);
                // SAFETY: loaded under `guard`, which the caller holds; see `address`.
                let Some(stored) = (unsafe { shared.as_ref() }) else { continue };
                // SAFETY: `create` has written every octet before it stored the pointer with Release.
                let stored = unsafe { octets_of(stored) };
                if stored == address {
                    return Some(Found { user, slot, word });
                }
            }
        }
        None
    }

    fn slot_of(&self, hash: u64, user: u32) -> Option<&AtomicU64> {
        let begin = self.bucket_of(hash);
        let reach = self.bucket(begin).reach.load(Ordering::Acquire);
        (0..=reach)
            .flat_map(|step| &self.bucket(begin + step).slots)
            .find(|slot| slot.load(Ordering::Acquire) == slot_word(hash, user))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for entry in &self.entries {
            self.free_address(entry);
        }
    }
}

struct Found<'a> {
    user: u32,
    slot: &'a AtomicU64,
    word: u64,
}

/// Bits of the hash that chose neither the bucket's lowest bits nor the core alone: a mix of both halves.
fn slot_word(hash: u64, user: u32) -> u64 {
    (hash ^ hash << 32) >> 32 << 32 | u64::from(user.wrapping_add(1))
}

fn tag(slot: u64) -> u32 {
    (slot >> 32) as u32
}

/// # Safety
/// Every octet must have been written.
unsafe fn octets_of(stored: &[MaybeUninit<u8>]) -> &[u8] {
    // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and the caller says that all are written.
    unsafe { &*(stored as *const [MaybeUninit<u8>] as *const [u8]) }
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
mod tests {
    use super::*;
    use crate::store::disk::SegmentNo;
    use crate::store::record::{Flags, Place, Stamp};
    use std::thread;

    const NO_QUOTA: (u32, u64) = (u32::MAX, u64::MAX);

    fn arrival(n: u64) -> Arrival {
        Arrival { locator: locator(n), fingerprint: !n }
    }

    fn locator(stamp: u64) -> Locator {
        Locator::new(Place { segment: SegmentNo(1), offset: stamp as u32 }, Stamp(stamp), 0, 64, Flags::default())
    }

    #[test]
    fn a_user_is_found_by_the_whole_address_and_counted() {
        let directory = Directory::new(10, 2, [7; 16]);
        assert_eq!(directory.find(b"sip:a@x"), None);
        let a = directory.reserve(b"sip:a@x", 100, NO_QUOTA).unwrap();
        assert_eq!(directory.find(b"sip:a@x"), Some(a));
        assert_eq!(directory.find(b"sip:a@xx"), None);
        assert_eq!(directory.usage(a), (1, 104));
        assert_eq!(&*directory.address(a), b"sip:a@x");
        assert_eq!(directory.home_of_user(a), directory.home(b"sip:a@x"));
        assert!(!directory.close(a));
        directory.release(a, 1, 104);
        assert!(directory.close(a));
        assert_eq!((directory.find(b"sip:a@x"), directory.len()), (None, 0));
    }

    #[test]
    fn a_quota_is_a_count_and_octets() {
        let directory = Directory::new(4, 1, [0; 16]);
        let user = directory.reserve(b"u", 80, (2, 160)).unwrap();
        assert_eq!(directory.reserve(b"u", 88, (2, 160)), Err(Refusal::OverQuota));
        assert_eq!(directory.reserve(b"u", 80, (2, 160)), Ok(user));
        assert_eq!(directory.reserve(b"u", 0, (2, 1_000)), Err(Refusal::OverQuota));
        assert_eq!(directory.reserve(b"v", 200, (2, 160)), Err(Refusal::OverQuota));
        assert_eq!(directory.find(b"v"), None, "a refused message leaves no user behind");
        directory.release(user, 1, 80);
        assert_eq!(directory.usage(user), (1, 80));
    }

    #[test]
    fn a_full_directory_says_so_and_takes_new_users_when_old_ones_left() {
        let directory = Directory::new(100, 1, [1; 16]);
        for round in 0..40 {
            let users: Vec<UserId> =
                (0..100).map(|n| directory.enter(format!("{round}-{n}").as_bytes()).unwrap()).collect();
            assert_eq!(directory.enter(b"one more"), Err(DirectoryFull));
            assert_eq!(directory.reserve(b"one more", 1, NO_QUOTA), Err(Refusal::DirectoryFull));
            for user in users {
                assert!(!directory.close(user), "pinned");
                directory.leave(user);
                assert!(directory.close(user));
            }
        }
    }

    #[test]
    fn the_first_publication_rings_home_and_a_linked_user_is_not_closed() {
        let directory = Directory::new(4, 2, [3; 16]);
        let mut nodes = directory.nodes(CoreId(0)).unwrap();
        let user = directory.reserve(b"u", 64, NO_QUOTA).unwrap();
        let home = directory.home(b"u");
        assert_eq!(directory.publish(user, arrival(1), &mut nodes), Some(home));
        directory.reserve(b"u", 64, NO_QUOTA).unwrap();
        assert_eq!(directory.publish(user, arrival(2), &mut nodes), None);
        let mut found = Vec::new();
        directory.drain(user, &mut found);
        assert_eq!(found, [arrival(1), arrival(2)]);
        directory.release(user, 2, 128);
        assert!(!directory.close(user), "still on the ready-list");
        assert!(directory.has_ready(home));
        let mut users = Vec::new();
        directory.take_ready(home, &mut users);
        assert_eq!(users, [user]);
        assert!(directory.close(user));
    }

    #[test]
    fn cores_that_deposit_while_home_closes_lose_nothing() {
        const EACH: u64 = 8_000;
        const PRODUCERS: u16 = 3;
        let directory = Directory::new(64, PRODUCERS, [9; 16]);
        let mut got: Vec<Vec<Locator>> = vec![Vec::new(); 20];
        thread::scope(|scope| {
            for core in 0..PRODUCERS {
                let directory = &directory;
                scope.spawn(move || {
                    let mut nodes = directory.nodes(CoreId(core)).unwrap();
                    for n in 0..EACH {
                        let address = [b'u', (n % 20) as u8];
                        let user = directory.reserve(&address, 64, NO_QUOTA).unwrap();
                        if n % 16 == 0 {
                            directory.release(user, 1, 64);
                            continue;
                        }
                        directory.publish(user, arrival(u64::from(core) << 32 | n), &mut nodes);
                    }
                });
            }
            let expected = (u64::from(PRODUCERS) * (EACH - EACH / 16)) as usize;
            let (mut users, mut found, mut sum) = (Vec::new(), Vec::new(), 0);
            while sum < expected {
                (0..PRODUCERS).for_each(|core| directory.take_ready(CoreId(core), &mut users));
                for user in users.drain(..) {
                    directory.drain(user, &mut found);
                    sum += found.len();
                    let name = usize::from(directory.address(user)[1]);
                    got[name].extend(found.iter().map(|arrival| arrival.locator));
                    directory.release(
                        user,
                        found.len() as u32,
                        found.drain(..).map(|arrival| arrival.locator.octets()).sum(),
                    );
                    directory.close(user);
                }
            }
        });
        for (name, got) in got.iter().enumerate() {
            for core in 0..u64::from(PRODUCERS) {
                let theirs: Vec<u64> =
                    got.iter().map(|l| l.stamp().0).filter(|s| s >> 32 == core).map(|s| s & 0xffff_ffff).collect();
                let expected: Vec<u64> = (0..EACH).filter(|n| n % 20 == name as u64 && n % 16 != 0).collect();
                assert_eq!(theirs, expected);
            }
        }
        for name in 0..20u8 {
            assert!(directory.find(&[b'u', name]).is_none_or(|user| directory.usage(user) == (0, 0)));
        }
    }
}
