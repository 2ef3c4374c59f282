//! Tables whose keys we chose ourselves: numbers of connections, places, transactions, or the output of a keyed hash.
//!
//! Nobody outside can choose such a key, so nothing has to be kept secret from them and spreading is enough: a multiplication
//! instead of SipHash. Keys that a peer writes (addresses, Call-IDs) do not belong here.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by a key of ours.
pub type SpreadMap<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// A set of keys of ours.
pub type SpreadSet<K> = HashSet<K, BuildHasherDefault<Spread>>;

/// Fibonacci hashing: every part is multiplied by 2^64 over the golden ratio, and the product's halves are folded, because a
/// table looks at both ends of a hash.
#[derive(Clone, Copy, Default, Debug)]
pub struct Spread(u64);

impl Hasher for Spread {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, octets: &[u8]) {
        let (words, rest) = octets.as_chunks::<8>();
        words.iter().for_each(|word| self.write_u64(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(place, octet)| *place = *octet);
            self.write_u64(u64::from_le_bytes(last));
        }
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0.rotate_left(5) ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    /// How many of 1,024 places of a table hold nothing when it is as full as it may be.
    fn empty_places<K: std::hash::Hash>(keys: impl Iterator<Item = K>, shift: u32) -> usize {
        let build = BuildHasherDefault::<Spread>::default();
        let mut places = vec![0; 1024];
        keys.take(1024).for_each(|key| places[(build.hash_one(key) >> shift) as usize & 1023] += 1);
        places.iter().filter(|count| **count == 0).count()
    }

    #[test]
    fn keys_that_differ_little_fall_apart() {
        // By chance it would be 1/e of all: 377. Tables use the low bits and the topmost seven.
        for shift in [0, 54] {
            assert!(empty_places(0u64.., shift) < 400);
            assert!(empty_places((0u64..).map(|n| n * 2), shift) < 400);
            assert!(empty_places((0u32..).map(|n| (1u32, n * 192)), shift) < 450);
            assert!(empty_places((0u64..).map(|n| n << 32), shift) < 450);
        }
    }

    #[test]
    fn every_octet_counts() {
        let build = BuildHasherDefault::<Spread>::default();
        let text = *b"0123456789abcdef0123";
        for at in 0..text.len() {
            let mut other = text;
            other[at] ^= 1;
            assert_ne!(build.hash_one(&text[..]), build.hash_one(&other[..]));
        }
    }
}
