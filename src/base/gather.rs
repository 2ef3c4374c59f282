//! What is sent or written: a list of pieces in order, most of them by reference.
//!
//! A gather is a scratch arena for what is made on the spot (heads, end-lines, record headers), a list of pieces, and the
//! buffers it keeps alive. Neighbouring arena pieces are one piece, so an end-line and the next head cost one entry
//! together. Nothing is counted per slice and nothing is allocated per message once a gather has been used: it goes round.

use bytes::Bytes;

/// Most pieces that one operation of the kernel takes (UIO_MAXIOV).
pub const PIECES_MAX: usize = 1024;

/// A body at least this long is referred to; a shorter one is copied into the arena, which is cheaper than an entry of its
/// own for the kernel to walk (measured between 512 and 1,024 octets).
pub const COPY_BELOW: usize = 768;

/// One stretch of octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// 0: the arena; n: the buffer `held[n - 1]`.
    source: u32,
    at: u32,
    len: u32,
}

/// Octets in order, from an arena and from buffers held.
#[derive(Debug, Default)]
pub struct Gather {
    arena: Vec<u8>,
    pieces: Vec<Piece>,
    held: Vec<Bytes>,
    len: usize,
    /// Octets that were copied into the arena from elsewhere, as opposed to made there.
    copied: usize,
}

impl Gather {
    /// An empty one.
    pub fn new() -> Gather {
        Gather::default()
    }

    /// An empty one with room for `octets` in its arena.
    pub fn with_capacity(octets: usize) -> Gather {
        Gather { arena: Vec::with_capacity(octets), ..Gather::default() }
    }

    /// Total octets.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of memory it has for what is made in it and for its lists, used or not.
    pub fn room(&self) -> usize {
        self.arena.capacity() + self.pieces.capacity() * size_of::<Piece>() + self.held.capacity() * size_of::<Bytes>()
    }

    /// Entries the kernel will see.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Octets that were copied rather than referred to.
    pub fn copied(&self) -> usize {
        self.copied
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.pieces.clear();
        self.held.clear();
        self.len = 0;
        self.copied = 0;
    }

    /// Appends octets made on the spot.
    #[inline]
    pub fn put(&mut self, octets: &[u8]) {
        self.make(|arena| arena.extend_from_slice(octets));
    }

    /// Appends whatever `write` appends to the arena. It must only append.
    #[inline]
    pub fn make(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.arena.len();
        write(&mut self.arena);
        let added = self.arena.len() - before;
        if added == 0 {
            return;
        }
        self.len += added;
        if let Some(last) = self.pieces.last_mut()
            && last.source == 0
            && (last.at + last.len) as usize == before
        {
            last.len += added as u32;
            return;
        }
        self.pieces.push(Piece { source: 0, at: before as u32, len: added as u32 });
    }

    /// Holds a buffer so that [`Gather::refer`] can point into it many times at the price of one reference count.
    pub fn hold(&mut self, buffer: Bytes) -> Held {
        self.held.push(buffer);
        Held(self.held.len() as u32)
    }

    /// Appends `len` octets of a held buffer from `at` on, by reference, or copied when they are few.
    #[inline]
    pub fn refer(&mut self, held: Held, at: usize, len: usize) {
        let buffer = &self.held[held.0 as usize - 1];
        assert!(at + len <= buffer.len(), "a piece lies inside the buffer it points into");
        if len < COPY_BELOW {
            let before = self.arena.len();
            self.arena.extend_from_slice(&buffer[at..at + len]);
            self.copied += len;
            self.join_arena(before, len);
        } else {
            self.pieces.push(Piece { source: held.0, at: at as u32, len: len as u32 });
            self.len += len;
        }
    }

    fn join_arena(&mut self, before: usize, added: usize) {
        if added == 0 {
            return;
        }
        self.len += added;
        match self.pieces.last_mut() {
            Some(last) if last.source == 0 && (last.at + last.len) as usize == before => last.len += added as u32,
            _ => self.pieces.push(Piece { source: 0, at: before as u32, len: added as u32 }),
        }
    }

    /// Holds a whole buffer and appends it.
    pub fn push(&mut self, buffer: Bytes) {
        let len = buffer.len();
        if len < COPY_BELOW {
            // Copied whole: nothing points into it, so it is not kept alive either.
            let before = self.arena.len();
            self.arena.extend_from_slice(&buffer);
            self.copied += len;
            return self.join_arena(before, len);
        }
        let held = self.hold(buffer);
        self.refer(held, 0, len);
    }

    /// Appends everything of `other`, which is empty afterwards. Its arena is copied, its held buffers move.
    pub fn append(&mut self, other: &mut Gather) {
        let base = self.held.len() as u32;
        self.held.append(&mut other.held);
        for piece in other.pieces.drain(..) {
            if piece.source == 0 {
                let before = self.arena.len();
                let (at, len) = (piece.at as usize, piece.len as usize);
                self.arena.extend_from_slice(&other.arena[at..at + len]);
                self.join_arena(before, len);
            } else {
                self.pieces.push(Piece { source: piece.source + base, ..piece });
                self.len += piece.len as usize;
            }
        }
        self.copied += other.copied;
        other.clear();
    }

    /// The pieces in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| {
            let (at, end) = (piece.at as usize, (piece.at + piece.len) as usize);
            match piece.source {
                0 => &self.arena[at..end],
                n => &self.held[n as usize - 1][at..end],
            }
        })
    }

    /// Overwrites octets of the arena: a header whose sum is known only at the end. `at` counts from the arena's start.
    pub fn patch(&mut self, at: usize, octets: &[u8]) {
        self.arena[at..at + octets.len()].copy_from_slice(octets);
    }

    /// Where the next [`Gather::put`] will lie in the arena, for a later [`Gather::patch`].
    pub fn arena_position(&self) -> usize {
        self.arena.len()
    }

    /// What was made since [`Gather::arena_position`] said `at`, as it lies in the arena.
    pub fn made_since(&self, at: usize) -> &[u8] {
        &self.arena[at..]
    }

    /// All octets in one buffer. For tests and for the few places that need them adjacent.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len);
        for piece in self.iter() {
            out.extend_from_slice(piece);
        }
        out
    }
}

/// A buffer that a gather holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held(u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_the_arena_are_one_piece_and_long_bodies_are_not_copied() {
        let mut gather = Gather::new();
        gather.put(b"head ");
        let body = Bytes::from(vec![b'x'; COPY_BELOW]);
        let held = gather.hold(body.clone());
        gather.refer(held, 0, COPY_BELOW);
        gather.put(b" end");
        gather.put(b" head");
        gather.refer(held, 0, 3);
        assert_eq!(gather.pieces(), 3);
        assert_eq!(gather.copied(), 3);
        assert_eq!(gather.len(), 5 + COPY_BELOW + 4 + 5 + 3);
        let mut expected = b"head ".to_vec();
        expected.extend_from_slice(&body);
        expected.extend_from_slice(b" end headxxx");
        assert_eq!(gather.to_vec(), expected);
    }

    #[test]
    fn appending_keeps_order_and_empties_the_other() {
        let (mut a, mut b) = (Gather::new(), Gather::new());
        a.put(b"1");
        b.put(b"2");
        b.push(Bytes::from(vec![b'3'; 2_000]));
        b.put(b"4");
        a.append(&mut b);
        assert!(b.is_empty());
        assert_eq!(a.len(), 2_003);
        assert_eq!(a.pieces(), 3);
        assert_eq!(&a.to_vec()[..3], b"123");
    }
}
