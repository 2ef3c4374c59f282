//! A map in pieces: for tables that grow with the load.
//!
//! A hash table that is full is made anew twice as large, and everything in it moves at once: with thirty thousand users whose
//! entries are some hundred octets that takes 40 ms where memory comes slowly, with a million a second, and whatever else comes in
//! waits. Here the key's hash chooses one of 256 tables, and each grows by itself: the same work in 256 steps, at different times.

use super::spread::Spread;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, RandomState};

/// Pieces of a table. With a million entries 4,096 move at once, a third of a millisecond; an empty table takes 12 KiB.
const PIECES: usize = 256;

/// A map of [`PIECES`](self) tables. Its order is nobody's.
#[derive(Clone, Debug)]
pub struct SplitMap<K, V, S = RandomState> {
    pieces: Box<[HashMap<K, V, S>]>,
    hasher: S,
    len: usize,
}

/// One by a key of ours ([`super::spread`]).
pub type SpreadSplitMap<K, V> = SplitMap<K, V, BuildHasherDefault<Spread>>;

impl<K, V, S: BuildHasher + Clone + Default> Default for SplitMap<K, V, S> {
    fn default() -> Self {
        let hasher = S::default();
        let piece = || HashMap::with_hasher(hasher.clone());
        SplitMap { pieces: std::iter::repeat_with(piece).take(PIECES).collect(), hasher, len: 0 }
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> SplitMap<K, V, S> {
    /// Which piece: by bits of the hash that the piece itself looks at last, for it takes places by the lowest and tells
    /// neighbours apart by the topmost seven.
    #[inline]
    fn piece<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        (self.hasher.hash_one(key) >> 48) as usize % PIECES
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is kept under `key`.
    #[inline]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.pieces[self.piece(key)].get(key)
    }

    /// The same, to change.
    #[inline]
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let piece = self.piece(key);
        self.pieces[piece].get_mut(key)
    }

    /// True when something is kept under `key`.
    #[inline]
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Keeps `value` under `key`, and gives back what was kept there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let piece = self.piece(&key);
        let before = self.pieces[piece].insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// What is kept under `key`; `new` where nothing is.
    pub fn get_or_insert_with(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        let piece = self.piece(&key);
        match self.pieces[piece].entry(key) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                self.len += 1;
                place.insert(new())
            }
        }
    }

    /// Keeps nothing under `key` any more.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let piece = self.piece(key);
        let before = self.pieces[piece].remove(key);
        self.len -= usize::from(before.is_some());
        before
    }
}

impl<K, V, S> SplitMap<K, V, S> {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pieces.iter().flatten()
    }

    /// One part of `parts` of them, to change: who looks all over does not have to do so at one time.
    pub fn part_mut(&mut self, part: usize, parts: usize) -> impl Iterator<Item = (&K, &mut V)> {
        self.pieces.iter_mut().skip(part).step_by(parts.max(1)).flatten()
    }

    /// All of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.pieces.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::spread::SpreadMap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u8..5, 0u16..64, any::<u32>()), 0..400)) {
            let (mut split, mut model) = (SplitMap::<u16, u32>::default(), SpreadMap::default());
            for (what, key, value) in steps {
                match what {
                    0 => prop_assert_eq!(split.insert(key, value), model.insert(key, value)),
                    1 => prop_assert_eq!(split.remove(&key), model.remove(&key)),
                    2 => prop_assert_eq!(split.get_or_insert_with(key, || value), model.entry(key).or_insert(value)),
                    3 => prop_assert_eq!(split.contains_key(&key), model.contains_key(&key)),
                    _ => prop_assert_eq!(split.get_mut(&key), model.get_mut(&key)),
                }
                prop_assert_eq!((split.len(), split.is_empty()), (model.len(), model.is_empty()));
            }
            let sorted = |mut all: Vec<(u16, u32)>| { all.sort_unstable(); all };
            let all = sorted(split.iter().map(|(&key, &value)| (key, value)).collect());
            prop_assert_eq!(&all, &sorted(model.into_iter().collect()));
            prop_assert_eq!(&all, &sorted(split.iter_mut().map(|(&key, value)| (key, *value)).collect()));
            let mut parts = Vec::new();
            (0..3).for_each(|part| parts.extend(split.part_mut(part, 3).map(|(&key, value)| (key, *value))));
            prop_assert_eq!(all, sorted(parts));
        }
    }

    #[test]
    fn no_piece_grows_with_the_whole() {
        let mut numbers = SpreadSplitMap::<u64, ()>::default();
        let mut names = SplitMap::<String, ()>::default();
        for number in 0..64 * PIECES as u64 {
            numbers.insert(number, ());
            names.insert(format!("user{number}"), ());
        }
        for largest in [numbers.pieces.iter().map(HashMap::len).max(), names.pieces.iter().map(HashMap::len).max()] {
            assert!(largest.unwrap() < 4 * 64, "{largest:?} of 64 in the mean");
        }
    }
}
