//! A lock-free inbox: many cores push, one drains. Knows no message and no user; whoever owns an [`Inbox`] and a [`Link`]
//! says what they belong to.
//!
//! ```text
//!   producers                                   the one consumer
//!   push ──▶ inbox ─ node ─ node ─ node         drain: swap the head for "empty", walk, hand the nodes back
//!     │ the push that found it empty                 ▲
//!     └─▶ link ──▶ ready-list ─ owner ─ owner ──▶ take: swap the head for "empty", unlink each, then drain each
//!   nodes ◀── return list of the producer ◀──────────┘
//! ```
//!
//! All three lists are stacks that are pushed with compare-and-swap and emptied with one swap; nothing is ever popped singly.
//! That is why a node may come round again at any time (the ABA case) without harm: a push that succeeds has linked to
//! whatever the head is at that moment, and that is all a push promises.
//!
//! # Why nothing is lost, doubled or reordered
//!
//! *Not lost, not doubled.* A pushed node is reachable from the head until exactly one swap takes the chain it is in: all pushes
//! and swaps of one head are read-modify-writes, so they are totally ordered, and each finds what the one before it left. The push
//! publishes with `Release`, the swap reads with `Acquire`; pushes in between are read-modify-writes and so continue the
//! release sequence of the ones below them: the consumer sees the contents of every node of the chain, not just the top one.
//!
//! *Not reordered.* A chain is the pushes in reverse; `drain` turns it round. Two drains of one inbox are ordered because there
//! is one consumer.
//!
//! *No missed wake-up.* A push that finds the inbox empty sets the owner's `linked` mark with a swap; if it was not set, it puts
//! the owner on the ready-list. The consumer clears the mark with a swap *before* it drains. The swaps of one mark are totally
//! ordered: if the producer's came first, the consumer's `Acquire` sees the push made before it and the drain finds it; if it
//! came later, the producer found the mark cleared and links the owner anew. A push that found the inbox not empty relies on the
//! one that did. Without the mark a consumer that drains unasked (the look before BYE) would make the next producer link
//! an owner that is linked already, and the intrusive list would bend into a ring.
//!
//! Every step, and what makes it see the step before it:
//!
//! | step | ordering | it must see | edge |
//! |---|---|---|---|
//! | a producer writes a node | relaxed | that home has read it | swap of its return list `Acquire`, after home's push there `Release` |
//! | push: CAS of the head | `Release` | nothing; a failed CAS follows no link | |
//! | drain: swap of the head | `Acquire` | every node of the chain | the pushes' release sequence |
//! | link: swap of the mark | `AcqRel` | that `next` of the link was read | home's swap of the mark, `Release` |
//! | link: CAS of the list | `Release` | nothing | |
//! | take: swap of the list | `Acquire` | every `next` of the list | the links' release sequence |
//! | take: swap of the mark | `AcqRel` | the push of whoever found the mark set | the producer's swap of the mark, `Release` |
//!
//! The plain looks before a swap (`is_empty`) are relaxed: a look that is too early costs a turn, never a message, because
//! whoever fills the list rings afterwards, and the bell's fences order the look that counts
//! ([`Bell`](super::mailbox::Bell)).
//!
//! *A node is reused only after it was read.* The consumer reads a node, then pushes it on its producer's return list with
//! `Release`; the producer takes that list with `Acquire` before it writes the node again.
//!
//! `tests/models` runs this very file under a model checker, `tests/stress` with real threads, `tools/miri` under Miri.
//!
//! Contents live in relaxed atomics, so a caller who breaks the rules (two consumers, say) gets wrong answers and never
//! undefined behaviour: this file needs no `unsafe`.

use super::sync::{self, AtomicBool, AtomicU32, AtomicU64, Ordering};
use crossbeam::utils::CachePadded;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

/// What fits a node: four words.
pub trait Parcel: Copy {
    /// As words.
    fn pack(self) -> [u64; 4];
    /// Back from [`Parcel::pack`].
    fn unpack(words: [u64; 4]) -> Self;
}

/// The end of a chain, and the head of an empty one.
const NONE: u64 = u64::MAX;

/// Nodes of a shelf's first chunk; each further chunk is twice as large as the one before.
const FIRST_CHUNK: u64 = sync::scaled(1_024) as u64;

/// 1,024 * (2^22 - 1) nodes, more than 2^31: a core never has that many messages on their way.
const CHUNKS: usize = 22;

/// 32 octets. A node's name is its core's number << 32 | its number on the shelf.
#[derive(Debug)]
struct Node {
    next: AtomicU64,
    words: [AtomicU64; 4],
}

/// One core's nodes. They are allocated as needed, go round, and are freed with the shelf.
#[derive(Debug)]
struct Shelf {
    returned: CachePadded<AtomicU64>,
    chunks: [OnceLock<Box<[Node]>>; CHUNKS],
    taken: AtomicBool,
}

/// The nodes of all cores.
#[derive(Debug)]
pub struct Shelves {
    cores: Box<[Shelf]>,
}

impl Shelves {
    /// Shelves for `cores` cores, empty.
    pub fn new(cores: u16) -> Arc<Shelves> {
        let shelf = |_| Shelf {
            returned: CachePadded::new(AtomicU64::new(NONE)),
            chunks: [const { OnceLock::new() }; CHUNKS],
            taken: AtomicBool::new(false),
        };
        Arc::new(Shelves { cores: (0..cores).map(shelf).collect() })
    }

    /// The producer's end of one shelf; `None` when that core does not exist or its end was given away already.
    pub fn nodes(self: &Arc<Shelves>, core: u16) -> Option<Nodes> {
        let shelf = self.cores.get(usize::from(core))?;
        if shelf.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(Nodes { shelves: self.clone(), core, free: NONE, fresh: 0 })
    }

    fn node(&self, name: u64) -> &Node {
        let (chunk, at) = place_of(name & u64::from(u32::MAX));
        let nodes = self.cores[(name >> 32) as usize].chunks[chunk].get();
        // A name is only ever made by `Nodes::take`, which has made the chunk before.
        &nodes.map_or(&[][..], |nodes| nodes)[at]
    }

    /// Hands a chain of one core's nodes back. `last` is its end.
    fn give_back(&self, first: u64, last: u64) {
        let returned = &self.cores[(first >> 32) as usize].returned;
        push_chain(returned, first, &self.node(last).next);
    }
}

/// Which chunk a node is in, and where.
fn place_of(number: u64) -> (usize, usize) {
    let chunk = (number / FIRST_CHUNK + 1).ilog2();
    (chunk as usize, (number - FIRST_CHUNK * ((1 << chunk) - 1)) as usize)
}

/// Puts a chain before whatever `head` points at; what that was.
fn push_chain(head: &AtomicU64, first: u64, end: &AtomicU64) -> u64 {
    let mut below = head.load(Ordering::Relaxed);
    loop {
        end.store(below, Ordering::Relaxed);
        // Release: the nodes' contents and links become visible with the head. Relaxed on failure: `below` is not followed.
        match head.compare_exchange_weak(below, first, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return below,
            Err(now) => below = now,
        }
    }
}

/// One core's producer end: where its pushes get their nodes from.
#[derive(Debug)]
pub struct Nodes {
    shelves: Arc<Shelves>,
    core: u16,
    /// A chain of nodes that came back.
    free: u64,
    /// The lowest number never used.
    fresh: u64,
}

impl Nodes {
    fn take(&mut self) -> u64 {
        let shelf = &self.shelves.cores[usize::from(self.core)];
        if self.free == NONE {
            // Acquire: whoever returned them has read them.
            self.free = shelf.returned.swap(NONE, Ordering::Acquire);
        }
        if self.free != NONE {
            let name = self.free;
            self.free = self.shelves.node(name).next.load(Ordering::Relaxed);
            return name;
        }
        let number = self.fresh;
        let (chunk, _) = place_of(number);
        assert!(chunk < CHUNKS, "fewer than 2^31 messages of one core are on their way");
        shelf.chunks[chunk].get_or_init(|| {
            let node = |_| Node { next: AtomicU64::new(NONE), words: std::array::from_fn(|_| AtomicU64::new(0)) };
            (0..FIRST_CHUNK << chunk).map(node).collect()
        });
        self.fresh += 1;
        u64::from(self.core) << 32 | number
    }
}

/// Many push, one drains.
#[derive(Debug)]
pub struct Inbox<T> {
    head: AtomicU64,
    holds: PhantomData<fn(T) -> T>,
}

impl<T: Parcel> Default for Inbox<T> {
    fn default() -> Self {
        Inbox { head: AtomicU64::new(NONE), holds: PhantomData }
    }
}

impl<T: Parcel> Inbox<T> {
    /// An empty one.
    pub fn new() -> Inbox<T> {
        Inbox::default()
    }

    /// Leaves a parcel; true when the inbox was empty. All cores' `nodes` must come from the same shelves.
    #[inline]
    pub fn push(&self, parcel: T, nodes: &mut Nodes) -> bool {
        let name = nodes.take();
        let node = nodes.shelves.node(name);
        for (word, value) in node.words.iter().zip(parcel.pack()) {
            word.store(value, Ordering::Relaxed);
        }
        push_chain(&self.head, name, &node.next) == NONE
    }

    /// Takes everything, oldest first. Only the one consumer may call it.
    pub fn drain(&self, shelves: &Shelves, into: &mut Vec<T>) {
        // A plain look first: a swap of an empty inbox would take the cache line from a producer for nothing.
        if self.head.load(Ordering::Relaxed) == NONE {
            return;
        }
        let mut name = self.head.swap(NONE, Ordering::Acquire);
        let begin = into.len();
        // Neighbours from one core go back as one chain.
        let mut run: Option<(u64, u64)> = None;
        while name != NONE {
            let node = shelves.node(name);
            let words = [0, 1, 2, 3].map(|word: usize| node.words[word].load(Ordering::Relaxed));
            into.push(T::unpack(words));
            let next = node.next.load(Ordering::Relaxed);
            run = match run {
                Some((first, _)) if first >> 32 == name >> 32 => Some((first, name)),
                Some((first, last)) => {
                    shelves.give_back(first, last);
                    Some((name, name))
                }
                None => Some((name, name)),
            };
            name = next;
        }
        if let Some((first, last)) = run {
            shelves.give_back(first, last);
        }
        into[begin..].reverse();
    }

    /// True when there was nothing at the moment of looking.
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == NONE
    }
}

/// The end of a ready-list.
const NOBODY: u32 = u32::MAX;

/// What an owner needs to be put on a [`ReadyList`].
#[derive(Debug)]
pub struct Link {
    next: AtomicU32,
    linked: AtomicBool,
}

impl Default for Link {
    fn default() -> Self {
        Link { next: AtomicU32::new(NOBODY), linked: AtomicBool::new(false) }
    }
}

impl Link {
    /// True while the owner is on a list.
    pub fn is_linked(&self) -> bool {
        self.linked.load(Ordering::Acquire)
    }
}

/// The owners of one consumer whose inboxes were empty and are not.
#[derive(Debug)]
pub struct ReadyList {
    head: AtomicU32,
}

impl Default for ReadyList {
    fn default() -> Self {
        ReadyList { head: AtomicU32::new(NOBODY) }
    }
}

impl ReadyList {
    /// An empty one.
    pub fn new() -> ReadyList {
        ReadyList::default()
    }

    /// Puts `owner` on the list unless it is there; true when it was not.
    pub fn link(&self, owner: u32, link: &Link) -> bool {
        if link.linked.swap(true, Ordering::AcqRel) {
            return false;
        }
        let mut below = self.head.load(Ordering::Relaxed);
        loop {
            link.next.store(below, Ordering::Relaxed);
            match self.head.compare_exchange_weak(below, owner, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => below = now,
            }
        }
    }

    /// Takes all owners off, the one linked first coming first. The caller drains each of their inboxes afterwards.
    pub fn take<'a>(&self, link_of: impl Fn(u32) -> &'a Link, into: &mut Vec<u32>) {
        if self.is_empty() {
            return;
        }
        let mut owner = self.head.swap(NOBODY, Ordering::Acquire);
        let begin = into.len();
        while owner != NOBODY {
            let link = link_of(owner);
            // Read on before letting go: from the swap on, the next producer may write `next`.
            let next = link.next.load(Ordering::Relaxed);
            link.linked.swap(false, Ordering::AcqRel);
            into.push(owner);
            owner = next;
        }
        into[begin..].reverse();
    }

    /// True when nobody was there at the moment of looking.
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == NOBODY
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::thread;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Number(u64);
    impl Parcel for Number {
        fn pack(self) -> [u64; 4] {
            [self.0, !self.0, self.0 ^ 0x5555, 0]
        }
        fn unpack(words: [u64; 4]) -> Number {
            assert_eq!((words[1], words[2]), (!words[0], words[0] ^ 0x5555), "a node is whole");
            Number(words[0])
        }
    }

    #[test]
    fn chunks_double_and_do_not_overlap() {
        assert_eq!(place_of(0), (0, 0));
        assert_eq!(place_of(1_023), (0, 1_023));
        assert_eq!(place_of(1_024), (1, 0));
        assert_eq!(place_of(3_071), (1, 2_047));
        assert_eq!(place_of(3_072), (2, 0));
    }

    #[test]
    fn an_inbox_gives_back_in_order_and_only_the_first_push_finds_it_empty() {
        // Into the second chunk.
        const MANY: u64 = if cfg!(miri) { 1_100 } else { 3_000 };
        let shelves = Shelves::new(1);
        let mut nodes = shelves.nodes(0).unwrap();
        assert!(shelves.nodes(0).is_none() && shelves.nodes(1).is_none());
        let inbox = Inbox::new();
        for round in 0..3u64 {
            let found: Vec<bool> = (0..MANY).map(|n| inbox.push(Number(n + round), &mut nodes)).collect();
            assert!(found[0] && found[1..].iter().all(|empty| !empty));
            let mut out = Vec::new();
            inbox.drain(&shelves, &mut out);
            assert_eq!(out, (0..MANY).map(|n| Number(n + round)).collect::<Vec<_>>());
        }
        assert_eq!(nodes.fresh, MANY, "nodes go round");
    }

    #[test]
    fn a_drain_that_nobody_asked_for_does_not_link_an_owner_twice() {
        let (list, links) = (ReadyList::new(), [Link::default(), Link::default()]);
        assert!(list.link(0, &links[0]));
        assert!(!list.link(0, &links[0]));
        assert!(list.link(1, &links[1]));
        let mut out = Vec::new();
        list.take(|owner| &links[owner as usize], &mut out);
        assert_eq!(out, [0, 1]);
        assert!(list.is_empty() && !links[0].is_linked());
        assert!(list.link(0, &links[0]));
    }

    #[test]
    fn four_producers_and_one_consumer_lose_double_and_reorder_nothing() {
        const PRODUCERS: u64 = 4;
        const EACH: u64 = if cfg!(miri) { 60 } else { 40_000 };
        const BOXES: usize = 3;
        let shelves = Shelves::new(PRODUCERS as u16);
        let inboxes: [Inbox<Number>; BOXES] = std::array::from_fn(|_| Inbox::new());
        let links: [Link; BOXES] = std::array::from_fn(|_| Link::default());
        let list = ReadyList::new();
        let mut got: [Vec<Number>; BOXES] = std::array::from_fn(|_| Vec::new());
        thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (shelves, inboxes, links, list) = (&shelves, &inboxes, &links, &list);
                scope.spawn(move || {
                    let mut nodes = shelves.nodes(producer as u16).unwrap();
                    for n in 0..EACH {
                        let to = (n as usize + producer as usize) % BOXES;
                        if inboxes[to].push(Number(producer << 32 | n), &mut nodes) {
                            list.link(to as u32, &links[to]);
                        }
                    }
                });
            }
            let (mut ready, mut turn) = (Vec::new(), 0usize);
            while got.iter().map(Vec::len).sum::<usize>() < (PRODUCERS * EACH) as usize {
                list.take(|owner| &links[owner as usize], &mut ready);
                for owner in ready.drain(..) {
                    inboxes[owner as usize].drain(&shelves, &mut got[owner as usize]);
                }
                turn += 1;
                if turn.is_multiple_of(7) {
                    inboxes[turn % BOXES].drain(&shelves, &mut got[turn % BOXES]);
                }
                if turn.is_multiple_of(64) {
                    thread::yield_now();
                }
            }
        });
        for (to, got) in got.iter().enumerate() {
            for producer in 0..PRODUCERS {
                let theirs: Vec<u64> =
                    got.iter().filter(|n| n.0 >> 32 == producer).map(|n| n.0 as u32 as u64).collect();
                let expected: Vec<u64> =
                    (0..EACH).filter(|n| (*n as usize + producer as usize) % BOXES == to).collect();
                assert_eq!(theirs, expected);
            }
        }
    }
}
