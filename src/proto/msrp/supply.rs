//! The octets of a message that are not all there yet: a large one is read from the log while it is sent.

use super::chunk::{WHOLE_MAX, chunk_len};
use bytes::Bytes;
use std::collections::VecDeque;

/// So much lies ready ahead of what is being framed: two loads of a push, one being sent while the next is read.
const READY_OCTETS: usize = 512 * 1024;

/// A chunk of such a message is no longer than this, whatever `chunk_max` says: a chunk is framed when all of it is there.
const CHUNK_MOST: usize = 64 * 1024;

/// What is there of a message, in order, and how much is not.
#[derive(Debug)]
pub(super) struct Supply {
    pieces: VecDeque<Bytes>,
    ready: usize,
    missing: usize,
}

impl Supply {
    /// It begins with `first`; `missing` octets follow.
    pub(super) fn new(first: Bytes, missing: usize) -> Supply {
        let mut supply = Supply { pieces: VecDeque::new(), ready: 0, missing: missing + first.len() };
        supply.push(first);
        supply
    }

    /// The next octets.
    pub(super) fn push(&mut self, piece: Bytes) {
        assert!(piece.len() <= self.missing, "no more octets come than were announced");
        self.missing -= piece.len();
        self.ready += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// How many octets may be brought.
    pub(super) fn wants(&self) -> usize {
        self.missing.min(READY_OCTETS.saturating_sub(self.ready))
    }

    /// How long the next chunk is; `None` while not all of it is there.
    pub(super) fn next_chunk(&self, chunk_max: usize, text: bool) -> Option<usize> {
        let most = chunk_max.min(CHUNK_MOST);
        if self.ready + self.missing <= most {
            return (self.missing == 0).then_some(self.ready);
        }
        if self.ready <= most {
            return None;
        }
        // Where the border would split a character it moves: only the last octets and the one behind them count.
        let from = most.saturating_sub(WHOLE_MAX.min(4));
        let around = self.copy(from, 5);
        Some(from + chunk_len(&around, 0, most - from, text))
    }

    /// Octets from `at` on, at most `len` of them, copied.
    pub(super) fn copy(&self, at: usize, len: usize) -> Vec<u8> {
        let mut skip = at;
        let mut out = Vec::with_capacity(len);
        for piece in &self.pieces {
            let part = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            out.extend_from_slice(part.get(..len - out.len()).unwrap_or(part));
            if out.len() == len {
                break;
            }
        }
        out
    }

    /// In how many pieces the next `len` octets lie.
    pub(super) fn count(&self, len: usize) -> usize {
        let mut left = len;
        let whole = self.pieces.iter().take_while(|piece| {
            let before = left;
            left = left.saturating_sub(piece.len());
            before > 0
        });
        whole.count()
    }

    /// Takes the next `len` octets, piece by piece.
    pub(super) fn take(&mut self, len: usize, mut each: impl FnMut(Bytes)) {
        self.ready -= len;
        let mut left = len;
        while left > 0 {
            let Some(first) = self.pieces.front_mut() else { break };
            let piece = first.split_to(left.min(first.len()));
            left -= piece.len();
            if first.is_empty() {
                self.pieces.pop_front();
            }
            each(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(pieces: &[&'static str], missing: usize) -> Supply {
        let mut supply = Supply::new(Bytes::new(), missing + pieces.iter().map(|piece| piece.len()).sum::<usize>());
        pieces.iter().for_each(|piece| supply.push(Bytes::from_static(piece.as_bytes())));
        supply
    }

    #[test]
    fn a_chunk_is_cut_across_pieces_when_all_of_it_is_there() {
        let mut supply = supply(&["abc", "de", "fghij"], 5);
        assert_eq!(supply.next_chunk(4, true), Some(4));
        assert_eq!((supply.copy(2, 5), supply.count(4), supply.count(3)), (b"cdefg".to_vec(), 2, 1));
        let mut taken = Vec::new();
        supply.take(4, |piece| taken.push(piece));
        assert_eq!(taken, [&b"abc"[..], b"d"]);
        assert_eq!(supply.next_chunk(10, true), None, "six are there, and five are missing");
        assert_eq!(supply.next_chunk(11, true), None, "the last chunk, and not all of it is there");
        supply.push(Bytes::from_static(b"klmno"));
        assert_eq!(supply.next_chunk(11, true), Some(11));
        supply.take(11, |_| {});
        assert_eq!(supply.next_chunk(11, true), Some(0));
    }

    #[test]
    fn a_border_keeps_characters_whole_across_pieces() {
        let mut whole = Supply::new(Bytes::new(), 12);
        for piece in [&b"abcde\xe2"[..], b"\x82\xac", b"fghi"] {
            whole.push(Bytes::from_static(piece));
        }
        assert_eq!(whole.next_chunk(7, true), Some(5), "not inside the euro sign");
        assert_eq!(whole.next_chunk(7, false), Some(7));
        assert_eq!(whole.next_chunk(8, true), Some(8));
    }

    #[test]
    fn what_lies_ready_has_a_bound() {
        let mut supply = Supply::new(Bytes::new(), 2 * READY_OCTETS);
        assert_eq!(supply.wants(), READY_OCTETS);
        supply.push(Bytes::from(vec![0; READY_OCTETS]));
        assert_eq!(supply.wants(), 0);
    }
}
