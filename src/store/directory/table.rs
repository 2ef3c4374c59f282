//! The table under the directory: from an address to the slot and the entry it stands in, creation included.
//!
//! A slot holds a tag of the hash and the entry's number; whoever finds it compares the whole address. Only creating takes a lock.

#![allow(unsafe_code)]

use super::{CLOSED, Directory, Entry, NotCreated, UserId};
use crate::base::sync::{AtomicU64, Ordering};
use crossbeam::epoch::{Guard, Owned, Shared};
use std::mem::MaybeUninit;

pub(super) const SLOTS: usize = 7;

/// One cache line. A slot is 0, or the upper half of the hash << 32 | entry + 1.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Bucket {
    pub(super) slots: [AtomicU64; SLOTS],
    /// How many buckets further on a user of this one may be found. Only grows.
    reach: AtomicU64,
}

/// Buckets a user may spill over. At most half of all slots are taken, and the hash is keyed: a few in a row are never full
/// by chance, and nobody outside can choose what collides.
const REACH_MAX: u64 = 64;

/// Free entries looked at before a fresh one is taken: one that is still linked is rare, and gone with its home's next turn.
const FREE_TRIES: usize = 4;

impl Directory {
    /// Under the lock of the address's bucket.
    pub(super) fn create(&self, hash: u64, address: &[u8], word: u64) -> Result<UserId, NotCreated> {
        if self.living.fetch_add(1, Ordering::Relaxed) >= self.users as u64 {
            self.living.fetch_sub(1, Ordering::Relaxed);
            return Err(NotCreated::Full);
        }
        let Some(number) = self.free_entry() else {
            self.living.fetch_sub(1, Ordering::Relaxed);
            return Err(NotCreated::Waits);
        };
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
        self.living.fetch_sub(1, Ordering::Relaxed);
        Err(NotCreated::Full)
    }

    pub(super) fn free_address(&self, entry: &Entry) {
        let guard = self.epochs.pin();
        let address = entry.address.swap(Shared::null(), Ordering::AcqRel, &guard);
        if !address.is_null() {
            // SAFETY: as in `close`: taken out of the entry by the swap, destroyed after all present guards.
            unsafe { guard.defer_destroy(address) };
        }
    }

    fn free_entry(&self) -> Option<u32> {
        if let Some(number) = self.pop_free() {
            return Some(number);
        }
        let fresh = self.fresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |fresh| {
            ((fresh as usize) < self.entries.len()).then_some(fresh + 1)
        });
        if let Ok(number) = fresh {
            return Some(number);
        }
        // All that is free waits for an epoch. Push the epochs on; our own guard holds at most the latest back.
        self.epochs.pin().flush();
        self.pop_free()
    }

    /// An entry that nobody uses. One that still stands on its old home's ready-list is passed over: whoever closed it looked
    /// before another core linked it, and home takes it off at its next turn.
    fn pop_free(&self) -> Option<u32> {
        for _ in 0..FREE_TRIES {
            let number = self.free.pop()?;
            if !self.entries[number as usize].link.is_linked() {
                return Some(number);
            }
            self.free.push(number);
        }
        None
    }

    pub(super) fn bucket_of(&self, hash: u64) -> u64 {
        // The lower half chose the home core, so the bucket comes from the upper: as large a part of all buckets as the half is of what it
        // can be, so that they need not be a power of two.
        ((hash >> 32) * self.buckets.len() as u64) >> 32
    }

    pub(super) fn bucket(&self, number: u64) -> &Bucket {
        // Round once at most: no user is further from their bucket than there are buckets.
        let (at, len) = (number as usize, self.buckets.len());
        &self.buckets[if at < len { at } else { at - len }]
    }

    pub(super) fn look_up<'a>(&'a self, hash: u64, address: &[u8], guard: &Guard) -> Option<Found<'a>> {
        let begin = self.bucket_of(hash);
        let reach = self.bucket(begin).reach.load(Ordering::Acquire);
        let wanted = tag(slot_word(hash, 0));
        for step in 0..=reach {
            for slot in &self.bucket(begin + step).slots {
                let word = slot.load(Ordering::Acquire);
                if tag(word) != wanted || word == 0 {
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

    pub(super) fn slot_of(&self, hash: u64, user: u32) -> Option<&AtomicU64> {
        let begin = self.bucket_of(hash);
        let reach = self.bucket(begin).reach.load(Ordering::Acquire);
        (0..=reach)
            .flat_map(|step| &self.bucket(begin + step).slots)
            .find(|slot| slot.load(Ordering::Acquire) == slot_word(hash, user))
    }
}

pub(super) struct Found<'a> {
    pub(super) user: u32,
    pub(super) slot: &'a AtomicU64,
    pub(super) word: u64,
}

/// Bits of the hash that chose neither the bucket's lowest bits nor the core alone: a mix of both halves.
pub(super) fn slot_word(hash: u64, user: u32) -> u64 {
    (hash ^ hash << 32) >> 32 << 32 | u64::from(user.wrapping_add(1))
}

pub(super) fn tag(slot: u64) -> u32 {
    (slot >> 32) as u32
}

/// # Safety
/// Every octet must have been written.
pub(super) unsafe fn octets_of(stored: &[MaybeUninit<u8>]) -> &[u8] {
    // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and the caller says that all are written.
    unsafe { &*(stored as *const [MaybeUninit<u8>] as *const [u8]) }
}
