//! A place in octets that somebody else owns.

use std::ops::Range;

/// Offset and length into a buffer: 8 octets, `Copy`, no lifetime.
///
/// A span says nothing about which buffer it belongs to; whoever stores one stores it beside its owner. Buffers are
/// bounded well below 4 GiB (the largest is a message of `max_message_size`), so 32 bits suffice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Span {
    at: u32,
    len: u32,
}

impl Span {
    /// The span of nothing.
    pub const EMPTY: Span = Span { at: 0, len: 0 };

    /// `len` octets from `at` on. Positions above 4 GiB do not occur; they are cut to the type's end.
    #[inline]
    pub fn new(at: usize, len: usize) -> Span {
        debug_assert!(at <= u32::MAX as usize && len <= u32::MAX as usize);
        Span { at: at as u32, len: len as u32 }
    }

    /// From `start` up to, not including, `end`; empty when they cross.
    #[inline]
    pub fn between(start: usize, end: usize) -> Span {
        Span::new(start, end.saturating_sub(start))
    }

    /// First octet.
    #[inline]
    pub fn at(self) -> usize {
        self.at as usize
    }

    /// How many octets.
    #[inline]
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// One past the last octet.
    #[inline]
    pub fn end(self) -> usize {
        self.at() + self.len()
    }

    /// True when it points at nothing.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// As a range of positions.
    #[inline]
    pub fn range(self) -> Range<usize> {
        self.at()..self.end()
    }

    /// The octets it points at; empty when the owner is not the one it was made for.
    #[inline]
    pub fn of(self, owner: &[u8]) -> &[u8] {
        owner.get(self.range()).unwrap_or_default()
    }

    /// The same length, `by` octets further on.
    #[inline]
    pub fn shifted(self, by: usize) -> Span {
        Span::new(self.at() + by, self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_points_and_never_panics() {
        let octets = b"abcdef";
        assert_eq!(Span::new(1, 3).of(octets), b"bcd");
        assert_eq!(Span::new(5, 3).of(octets), b"");
        assert_eq!(Span::between(4, 2), Span::new(4, 0));
        assert_eq!(Span::new(1, 2).shifted(2).of(octets), b"de");
    }
}
