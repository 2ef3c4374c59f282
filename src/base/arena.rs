//! Things with a short key that goes stale with them.

/// Which thing in an [`Arena`]: an index, and the generation that tells a thing from its successor in the same place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As one number, for a ticket that travels through the kernel or a letter.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Back from [`Key::to_u64`].
    pub fn from_u64(raw: u64) -> Key {
        Key { index: raw as u32, generation: (raw >> 32) as u32 }
    }
}

/// Slots of one block. An arena grows by a block at a time, and nobody moves: a vector of the same size would be copied whole when it
/// is full, megabytes of it, and whatever else comes in would wait.
const BLOCK: usize = 256;

/// A slab whose keys are never valid for a later tenant of the same slot.
#[derive(Debug)]
pub struct Arena<T> {
    /// All but the last are full; the first begins small, for most arenas stay so.
    blocks: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    tenant: Option<T>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Arena { blocks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Arena<T> {
    /// An empty one.
    pub fn new() -> Arena<T> {
        Arena::default()
    }

    /// Takes `tenant` in and says how to find it.
    pub fn insert(&mut self, tenant: T) -> Key {
        self.insert_with(|_| tenant)
    }

    /// Takes in a tenant that wants to know its own key.
    pub fn insert_with(&mut self, tenant: impl FnOnce(Key) -> T) -> Key {
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.blocks[index as usize / BLOCK][index as usize % BLOCK];
                let key = Key { index, generation: slot.generation };
                slot.tenant = Some(tenant(key));
                key
            }
            None => {
                let index = u32::try_from(self.slots()).unwrap_or(u32::MAX);
                assert!(index < u32::MAX, "an arena holds fewer than 2^32 things: its users are bounded by limits");
                let key = Key { index, generation: 1 };
                let slot = Slot { generation: 1, tenant: Some(tenant(key)) };
                match self.blocks.last_mut().filter(|last| last.len() < BLOCK) {
                    Some(last) => last.push(slot),
                    None => {
                        let mut block = Vec::with_capacity(if self.blocks.is_empty() { 0 } else { BLOCK });
                        block.push(slot);
                        self.blocks.push(block);
                    }
                }
                key
            }
        }
    }

    /// The tenant, unless it has left.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.blocks.get(key.index as usize / BLOCK)?.get(key.index as usize % BLOCK)?;
        if slot.generation == key.generation { slot.tenant.as_ref() } else { None }
    }

    /// The tenant, to change.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.blocks.get_mut(key.index as usize / BLOCK)?.get_mut(key.index as usize % BLOCK)?;
        if slot.generation == key.generation { slot.tenant.as_mut() } else { None }
    }

    /// Lets the tenant go; its key is stale from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.blocks.get_mut(key.index as usize / BLOCK)?.get_mut(key.index as usize % BLOCK)?;
        if slot.generation != key.generation {
            return None;
        }
        let tenant = slot.tenant.take()?;
        slot.generation = slot.generation.wrapping_add(1).max(1);
        self.free.push(key.index);
        Some(tenant)
    }

    /// How many live here.
    pub fn len(&self) -> usize {
        self.slots() - self.free.len()
    }

    /// Places, taken or free.
    fn slots(&self) -> usize {
        self.blocks.last().map_or(0, |last| (self.blocks.len() - 1) * BLOCK + last.len())
    }

    /// True when nobody does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All tenants with their keys, in order of place.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.blocks.iter().flatten().enumerate().filter_map(|(index, slot)| {
            let key = Key { index: index as u32, generation: slot.generation };
            slot.tenant.as_ref().map(|tenant| (key, tenant))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_open_the_door_for_the_next_tenant() {
        let mut arena = Arena::new();
        let a = arena.insert("a");
        assert_eq!(arena.remove(a), Some("a"));
        let b = arena.insert("b");
        assert_eq!(arena.get(a), None);
        assert_eq!(arena.get(b), Some(&"b"));
        assert_eq!(arena.remove(a), None);
        assert_eq!(Key::from_u64(b.to_u64()), b);
        assert_eq!(arena.len(), 1);
    }

    #[test]
    fn it_grows_and_nobody_moves() {
        let mut arena = Arena::new();
        let keys: Vec<Key> = (0..3 * BLOCK).map(|number| arena.insert(number)).collect();
        let first = std::ptr::from_ref(arena.get(keys[BLOCK]).unwrap());
        keys.iter().step_by(2).for_each(|key| _ = arena.remove(*key).unwrap());
        assert_eq!(arena.len(), 3 * BLOCK / 2);
        let again: Vec<Key> = (0..2 * BLOCK).map(|number| arena.insert(10 * BLOCK + number)).collect();
        assert_eq!(arena.len(), 3 * BLOCK / 2 + 2 * BLOCK);
        assert!(keys.iter().enumerate().all(|(at, key)| arena.get(*key) == (at % 2 == 1).then_some(&at)));
        assert!(again.iter().enumerate().all(|(at, key)| arena.get(*key) == Some(&(10 * BLOCK + at))));
        assert_eq!(arena.iter().count(), arena.len());
        let odd = keys[BLOCK + 1];
        assert_eq!(std::ptr::from_ref(arena.get(odd).unwrap()), first.wrapping_byte_add(size_of::<Slot<usize>>()));
    }
}
