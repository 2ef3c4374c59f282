//! One user's messages as the home core holds them: locators in the order of their stamps. No octets, no sharing.
//!
//! Blocks of at most 32: an insertion moves at most 768 octets, a full queue costs 25 octets a message, a user with one message
//! costs no allocation.

use super::record::{Flags, Locator, Place, Stamp};
use super::tally::Tally;
use crate::base::prefetch::prefetch_value;
use std::collections::VecDeque;

/// Locators of a block.
const BLOCK: usize = 32;

/// One user's messages in order.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    kept: Kept,
}

/// Most users have one message or none: those cost no allocation, and 32 octets.
#[derive(Clone, Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    One(Locator),
    Many(Box<Blocks>),
}

impl Queue {
    /// An empty one.
    pub fn new() -> Queue {
        Queue::default()
    }

    /// Of messages in the order of their stamps, no two of one.
    pub fn of(sorted: &[Locator]) -> Queue {
        let kept = match *sorted {
            [] => Kept::Nothing,
            [locator] => Kept::One(locator),
            _ => Kept::Many(Box::new(Blocks::of(sorted))),
        };
        Queue { kept }
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        match &self.kept {
            Kept::Nothing => 0,
            Kept::One(_) => 1,
            Kept::Many(blocks) => blocks.len(),
        }
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their octets on disk.
    pub fn octets(&self) -> u64 {
        match &self.kept {
            Kept::Nothing => 0,
            Kept::One(locator) => locator.octets(),
            Kept::Many(blocks) => blocks.octets(),
        }
    }

    /// How many of them are of which kind.
    pub fn tally(&self) -> Tally {
        match &self.kept {
            Kept::Nothing => Tally::default(),
            Kept::One(locator) => Tally::of([locator.flags()].into_iter()),
            Kept::Many(blocks) => blocks.tally,
        }
    }

    /// The oldest message.
    pub fn first(&self) -> Option<&Locator> {
        self.iter().next()
    }

    /// The youngest message.
    pub fn last(&self) -> Option<&Locator> {
        let (one, many) = self.parts();
        many.map_or(one.last(), Blocks::last)
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Locator> {
        let (one, many) = self.parts();
        one.iter().chain(many.into_iter().flat_map(Blocks::iter))
    }

    /// All from the first whose stamp is not below `stamp`.
    pub fn from(&self, stamp: Stamp) -> impl Iterator<Item = &Locator> {
        let (one, many) = self.parts();
        let one = one.iter().filter(move |locator| locator.stamp() >= stamp);
        one.chain(many.into_iter().flat_map(move |blocks| blocks.from(stamp)))
    }

    /// Those whose stamp is of this millisecond: all that an id with this time part can mean.
    pub fn range(&self, millis: u64) -> impl Iterator<Item = &Locator> {
        let begin = Stamp(millis.saturating_mul(1_000).saturating_mul(1 << 12));
        self.from(begin).take_while(move |locator| locator.stamp().millis() == millis)
    }

    /// Earliest expiry of all, in seconds since 1970-01-01 UTC. Looks at all of them when the earliest was removed since.
    pub fn earliest_expiry(&mut self) -> Option<u32> {
        match &mut self.kept {
            Kept::Nothing => None,
            Kept::One(locator) => Some(locator.expiry_s()),
            Kept::Many(blocks) => blocks.earliest_expiry(),
        }
    }

    /// Takes a message in, at the place of its stamp. False when one of that stamp is there: nothing is in twice.
    pub fn insert(&mut self, locator: Locator) -> bool {
        match &mut self.kept {
            Kept::Nothing => {
                self.kept = Kept::One(locator);
                true
            }
            Kept::One(one) if one.stamp() == locator.stamp() => false,
            Kept::One(one) => {
                let mut both = [*one, locator];
                both.sort_unstable_by_key(Locator::stamp);
                self.kept = Kept::Many(Box::new(Blocks::of(&both)));
                true
            }
            Kept::Many(blocks) => blocks.insert(locator),
        }
    }

    /// Says that a message will be put at the end. Of the boxes within boxes that lead there, each has to come from memory before it
    /// is known where the next one is: to be called for one after the other, with something else done in between.
    pub fn foresee(&self, depth: Depth) {
        let Kept::Many(blocks) = &self.kept else { return };
        let last = || blocks.rest.back().unwrap_or(&blocks.first);
        match depth {
            Depth::Blocks => {
                prefetch_value(&blocks.first);
                prefetch_value(&blocks.len);
            }
            Depth::Block => prefetch_value(last()),
            Depth::End => last().last().into_iter().for_each(prefetch_value),
        }
    }

    /// Takes the message of this place out. Looks from the front: what leaves is mostly what is oldest. Where the stamp is
    /// known, [`Queue::remove_stamp`] finds it at once.
    pub fn remove(&mut self, place: Place) -> Option<Locator> {
        let stamp = self.iter().find(|locator| locator.place() == place)?.stamp();
        self.remove_stamp(stamp)
    }

    /// Takes the message of this stamp out.
    pub fn remove_stamp(&mut self, stamp: Stamp) -> Option<Locator> {
        match &mut self.kept {
            Kept::Nothing => None,
            Kept::One(one) => {
                let one = Some(*one).filter(|one| one.stamp() == stamp)?;
                self.kept = Kept::Nothing;
                Some(one)
            }
            Kept::Many(blocks) => {
                let gone = blocks.remove_stamp(stamp)?;
                if blocks.len() == 1 {
                    self.kept = blocks.last().map_or(Kept::Nothing, |one| Kept::One(*one));
                }
                Some(gone)
            }
        }
    }

    /// Takes the messages of the same stamps as these out, into `gone`. Quick where they are neighbours here as there.
    pub fn remove_all(&mut self, which: &[Locator], gone: &mut Vec<Locator>) {
        match &mut self.kept {
            Kept::Many(blocks) if which.len() > 1 => {
                blocks.remove_all(which, gone);
                match blocks.len() {
                    0 => self.kept = Kept::Nothing,
                    1 => self.kept = blocks.last().map_or(Kept::Nothing, |one| Kept::One(*one)),
                    _ => {}
                }
            }
            _ => gone.extend(which.iter().filter_map(|locator| self.remove_stamp(locator.stamp()))),
        }
    }

    /// Makes of each of these what the list has of its stamp, and shows it; not those that it does not have. Quick where they are
    /// neighbours here as there.
    pub fn refresh(&self, which: &mut [Locator], mut there: impl FnMut(&Locator)) {
        let mut last = None;
        for locator in which {
            let now = match &self.kept {
                Kept::Many(blocks) => {
                    last = blocks.find_after(last, locator.stamp());
                    last.map(|(block, at)| &blocks.block(block)[at])
                }
                _ => self.at(locator.stamp()),
            };
            if let Some(now) = now {
                *locator = *now;
                there(now);
            }
        }
    }

    /// The message of this stamp.
    pub fn at(&self, stamp: Stamp) -> Option<&Locator> {
        match &self.kept {
            Kept::Nothing => None,
            Kept::One(one) => Some(one).filter(|one| one.stamp() == stamp),
            Kept::Many(blocks) => blocks.at(stamp),
        }
    }

    /// Gives the message of this stamp other flags; false when it is not there.
    pub fn mark(&mut self, stamp: Stamp, flags: Flags) -> bool {
        match &mut self.kept {
            Kept::One(one) if one.stamp() == stamp => {
                *one = one.with_flags(flags);
                true
            }
            Kept::Nothing | Kept::One(_) => false,
            Kept::Many(blocks) => blocks.mark(stamp, flags),
        }
    }

    /// Puts a copy in the place of the message of the same stamp; what was there. Its flags stay as the list has them.
    pub fn replace(&mut self, copy: Locator) -> Option<Locator> {
        match &mut self.kept {
            Kept::One(one) if one.stamp() == copy.stamp() => Some(std::mem::replace(one, copy.with_flags(one.flags()))),
            Kept::Nothing | Kept::One(_) => None,
            Kept::Many(blocks) => blocks.replace(copy),
        }
    }

    fn parts(&self) -> (&[Locator], Option<&Blocks>) {
        match &self.kept {
            Kept::Nothing => (&[], None),
            Kept::One(locator) => (std::slice::from_ref(locator), None),
            Kept::Many(blocks) => (&[], Some(blocks)),
        }
    }
}

/// How far the way to the end of a [`Queue`] is known already.
#[derive(Clone, Copy, Debug)]
pub enum Depth {
    /// The queue is at hand.
    Blocks,
    /// And what lists its blocks.
    Block,
    /// And where the last of these is.
    End,
}

/// More than one message.
#[derive(Clone, Debug, Default)]
struct Blocks {
    /// Always the first block; alone for most users, so that they need no second list.
    first: Vec<Locator>,
    /// What follows; none of them empty.
    rest: VecDeque<Vec<Locator>>,
    octets: u64,
    tally: Tally,
    len: u32,
    /// At most the earliest expiry of all; exact unless `stale`.
    earliest_s: u32,
    stale: bool,
}

impl Blocks {
    /// Of messages in the order of their stamps, no two of one.
    fn of(sorted: &[Locator]) -> Blocks {
        debug_assert!(sorted.is_sorted_by(|a, b| a.stamp() < b.stamp()), "in order, and nothing twice");
        let mut pieces = sorted.chunks(BLOCK).map(<[Locator]>::to_vec);
        let mut blocks =
            Blocks { first: pieces.next().unwrap_or_default(), rest: pieces.collect(), ..Blocks::default() };
        blocks.len = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        blocks.octets = sorted.iter().map(Locator::octets).sum();
        blocks.tally = Tally::of(sorted.iter().map(Locator::flags));
        blocks.earliest_s = sorted.iter().map(Locator::expiry_s).min().unwrap_or_default();
        blocks
    }

    /// How many messages.
    fn len(&self) -> usize {
        self.len as usize
    }

    /// Their octets on disk.
    fn octets(&self) -> u64 {
        self.octets
    }

    /// The youngest message.
    fn last(&self) -> Option<&Locator> {
        self.rest.back().unwrap_or(&self.first).last()
    }

    /// All, oldest first.
    fn iter(&self) -> impl Iterator<Item = &Locator> {
        self.first.iter().chain(self.rest.iter().flatten())
    }

    /// All from the first whose stamp is not below `stamp`.
    fn from(&self, stamp: Stamp) -> impl Iterator<Item = &Locator> {
        let block = self.block_of(stamp);
        let at = self.block(block).partition_point(|locator| locator.stamp() < stamp);
        self.block(block)[at..].iter().chain(self.rest.range(block.min(self.rest.len())..).flatten())
    }

    /// Earliest expiry of all, in seconds since 1970-01-01 UTC. Looks at all of them when the earliest was removed since.
    fn earliest_expiry(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        if self.stale {
            self.earliest_s = self.iter().map(Locator::expiry_s).min().unwrap_or(u32::MAX);
            self.stale = false;
        }
        Some(self.earliest_s)
    }

    /// Takes a message in, at the place of its stamp. False when one of that stamp is there: nothing is in twice.
    fn insert(&mut self, locator: Locator) -> bool {
        let at_end = self.last().is_none_or(|last| last.stamp() < locator.stamp());
        let block = if at_end { self.rest.len() } else { self.block_of(locator.stamp()) };
        let list = self.block_mut(block);
        let at = if at_end { list.len() } else { list.partition_point(|other| other.stamp() < locator.stamp()) };
        if list.get(at).is_some_and(|other| other.stamp() == locator.stamp()) {
            return false;
        }
        if list.len() < BLOCK {
            list.insert(at, locator);
        } else if at_end {
            let mut next = Vec::with_capacity(BLOCK);
            next.push(locator);
            self.rest.push_back(next);
        } else {
            let mut upper = Vec::with_capacity(BLOCK);
            upper.extend(list.drain(BLOCK / 2..));
            if at <= BLOCK / 2 {
                list.insert(at, locator)
            } else {
                upper.insert(at - BLOCK / 2, locator)
            }
            self.rest.insert(block, upper);
        }
        self.earliest_s = if self.len == 0 { locator.expiry_s() } else { self.earliest_s.min(locator.expiry_s()) };
        self.stale &= self.len != 0;
        self.len += 1;
        self.octets += locator.octets();
        self.tally.add(locator.flags());
        true
    }

    /// Takes the message of this stamp out.
    fn remove_stamp(&mut self, stamp: Stamp) -> Option<Locator> {
        let (block, at) = self.find(stamp)?;
        let locator = self.block(block).get(at).copied();
        self.remove_run(block, at, 1, |_| {});
        locator
    }

    /// Takes out those of the stamps of these.
    fn remove_all(&mut self, mut which: &[Locator], gone: &mut Vec<Locator>) {
        while let Some((first, rest)) = which.split_first() {
            let Some((block, at)) = self.find(first.stamp()) else {
                which = rest;
                continue;
            };
            let here = self.block(block)[at..].iter();
            let run = here.zip(which).take_while(|(has, wanted)| has.stamp() == wanted.stamp()).count();
            self.remove_run(block, at, run, |locator| gone.push(locator));
            which = &which[run..];
        }
    }

    /// Takes out neighbours of one block.
    fn remove_run(&mut self, block: usize, at: usize, count: usize, mut gone: impl FnMut(Locator)) {
        let list = if block == 0 { &mut self.first } else { &mut self.rest[block - 1] };
        for locator in list.drain(at..at + count) {
            self.len -= 1;
            self.octets -= locator.octets();
            self.tally.sub(locator.flags());
            self.stale |= locator.expiry_s() == self.earliest_s;
            gone(locator);
        }
        if list.is_empty() {
            if block == 0 {
                self.first = self.rest.pop_front().unwrap_or_default();
            } else {
                self.rest.remove(block - 1);
            }
        }
    }

    /// The message of this stamp.
    fn at(&self, stamp: Stamp) -> Option<&Locator> {
        let (block, at) = self.find(stamp)?;
        self.block(block).get(at)
    }

    /// Gives the message of this stamp other flags; false when it is not there.
    fn mark(&mut self, stamp: Stamp, flags: Flags) -> bool {
        let Some((block, at)) = self.find(stamp) else { return false };
        let list = self.block_mut(block);
        let before = list[at].flags();
        list[at] = list[at].with_flags(flags);
        self.tally.sub(before);
        self.tally.add(flags);
        true
    }

    /// Puts a copy in the place of the message of the same stamp; what was there. Its flags stay as the list has them.
    fn replace(&mut self, copy: Locator) -> Option<Locator> {
        let (block, at) = self.find(copy.stamp())?;
        let list = self.block_mut(block);
        let before = list[at];
        list[at] = copy.with_flags(before.flags());
        self.octets = self.octets - before.octets() + copy.octets();
        Some(before)
    }

    fn find(&self, stamp: Stamp) -> Option<(usize, usize)> {
        let block = self.block_of(stamp);
        let at = self.block(block).binary_search_by_key(&stamp, Locator::stamp).ok()?;
        Some((block, at))
    }

    /// As [`Blocks::find`], but looks first behind where the last was found.
    fn find_after(&self, last: Option<(usize, usize)>, stamp: Stamp) -> Option<(usize, usize)> {
        if let Some((block, at)) = last {
            let next = if at + 1 < self.block(block).len() { (block, at + 1) } else { (block + 1, 0) };
            let there = if next.0 <= self.rest.len() { self.block(next.0).get(next.1) } else { None };
            if there.is_some_and(|there| there.stamp() == stamp) {
                return Some(next);
            }
        }
        self.find(stamp)
    }

    /// Which block a stamp belongs to: the last that begins at or below it. 0 is `first`. What is looked for is mostly near the front,
    /// for the oldest goes first: strides from there on, each twice the last, and then between the last two.
    fn block_of(&self, stamp: Stamp) -> usize {
        let begins_by = |at: usize| self.rest[at].first().is_some_and(|first| first.stamp() <= stamp);
        let (mut low, mut stride) = (0, 1);
        while low + stride <= self.rest.len() && begins_by(low + stride - 1) {
            (low, stride) = (low + stride, stride * 2);
        }
        let mut high = self.rest.len().min(low + stride - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if begins_by(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn block(&self, block: usize) -> &[Locator] {
        if block == 0 { &self.first } else { &self.rest[block - 1] }
    }

    fn block_mut(&mut self, block: usize) -> &mut Vec<Locator> {
        if block == 0 { &mut self.first } else { &mut self.rest[block - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SegmentNo;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn locator(stamp: u64, expiry: u32) -> Locator {
        let place = Place { segment: SegmentNo(1), offset: stamp as u32 };
        Locator::new(place, Stamp(stamp), expiry, 64, Flags(stamp as u8 & 15))
    }

    #[test]
    fn an_id_is_found_by_its_millisecond() {
        let mut queue = Queue::new();
        for ms in 0..200u64 {
            for core in 0..3 {
                assert!(queue.insert(locator(((ms * 1_000) << 12) + core, 9)));
            }
        }
        assert_eq!(queue.range(77).count(), 3);
        assert!(queue.range(77).all(|found| found.stamp().millis() == 77));
        assert_eq!(queue.range(200).count(), 0);
        assert_eq!(queue.from(Stamp((198 * 1_000) << 12)).count(), 6);
        assert!(size_of::<Queue>() <= 32, "a user's share of memory");
    }

    proptest! {
        #[test]
        fn a_queue_agrees_with_a_sorted_map(
            steps in proptest::collection::vec((0u64..400, 0u32..50, 0u8..4), 1..600),
            from in 0u64..400,
            many in 0u64..100,
        ) {
            let (mut queue, mut map) = (Queue::new(), BTreeMap::new());
            for (stamp, expiry, what) in steps {
                if what < 3 {
                    let new = !map.contains_key(&stamp);
                    prop_assert_eq!(queue.insert(locator(stamp, expiry)), new);
                    map.entry(stamp).or_insert_with(|| locator(stamp, expiry));
                } else if stamp % 2 == 0 {
                    prop_assert_eq!(queue.remove(locator(stamp, 0).place()), map.remove(&stamp));
                } else {
                    prop_assert_eq!(queue.remove_stamp(Stamp(stamp)), map.remove(&stamp));
                }
                prop_assert_eq!(queue.earliest_expiry(), map.values().map(Locator::expiry_s).min());
                if let Some(locator) = map.get_mut(&(stamp + 1)) {
                    *locator = locator.with_flags(Flags::RETAINED);
                    prop_assert!(queue.mark(Stamp(stamp + 1), Flags::RETAINED));
                }
                // At any length, with nothing to be seen of it.
                [Depth::Blocks, Depth::Block, Depth::End].into_iter().for_each(|depth| queue.foresee(depth));
                prop_assert_eq!(queue.tally(), Tally::of(map.values().map(Locator::flags)));
                prop_assert_eq!(queue.first(), map.values().next());
                prop_assert_eq!(queue.last(), map.values().next_back());
            }
            prop_assert!(queue.iter().eq(map.values()));
            prop_assert_eq!((queue.len(), queue.octets()), (map.len(), map.len() as u64 * 64));
            // Some that are neighbours, some that are not there, and one behind them all that is asked for first.
            let mut which: Vec<Locator> = [390].into_iter().chain(from..from + many).map(|n| locator(n, 0)).collect();
            let mut shown = Vec::new();
            queue.refresh(&mut which, |locator| shown.push(*locator));
            let there: Vec<Locator> = which.iter().filter_map(|one| map.get(&one.stamp().0).copied()).collect();
            prop_assert_eq!(&shown, &there);
            prop_assert!(which.iter().all(|one| map.get(&one.stamp().0).is_none_or(|has| has == one)));
            let mut gone = Vec::new();
            queue.remove_all(&which, &mut gone);
            prop_assert!(gone.iter().eq(which.iter().filter_map(|one| map.remove(&one.stamp().0)).collect::<Vec<_>>().iter()));
            prop_assert!(queue.iter().eq(map.values()));
            prop_assert_eq!((queue.len(), queue.octets()), (map.len(), map.len() as u64 * 64));
            prop_assert_eq!(queue.tally(), Tally::of(map.values().map(Locator::flags)));
            prop_assert_eq!(queue.earliest_expiry(), map.values().map(Locator::expiry_s).min());
            for from in [0, 100, 399] {
                prop_assert!(queue.from(Stamp(from)).eq(map.range(from..).map(|(_, locator)| locator)));
            }
        }
    }
}
