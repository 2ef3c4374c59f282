//! What will be looked up soon, said beforehand, so that it comes from memory while something else is done. Nothing but time depends on
//! it.

use super::table::{slot_word, tag};
use super::{Directory, UserId};
use crate::base::prefetch::prefetch_value;
use crate::base::sync::Ordering;

/// An address, and its hash under the directory's key.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub(super) address: &'a [u8],
    pub(super) hash: u64,
}

impl Directory {
    /// An address that will be looked up soon: first the bucket in which its user stands.
    pub fn foresee<'a>(&self, address: &'a [u8]) -> Named<'a> {
        let named = self.named(address);
        prefetch_value(self.bucket(self.bucket_of(named.hash)));
        named
    }

    /// Some hundred instructions later: the user's entry, which the bucket names.
    pub fn foresee_entry(&self, named: Named<'_>) {
        let wanted = tag(slot_word(named.hash, 0));
        for slot in &self.bucket(self.bucket_of(named.hash)).slots {
            let word = slot.load(Ordering::Relaxed);
            if tag(word) == wanted {
                self.foresee_user(UserId((word as u32).wrapping_sub(1)));
            }
        }
    }

    /// A user whose entry will be looked at soon. Whoever has the number, or nobody.
    pub fn foresee_user(&self, user: UserId) {
        if let Some(entry) = self.entries.get(user.0 as usize) {
            prefetch_value(&entry.word);
            prefetch_value(&entry.address);
        }
    }

    pub(super) fn named<'a>(&self, address: &'a [u8]) -> Named<'a> {
        Named { address, hash: self.hash(address) }
    }
}
