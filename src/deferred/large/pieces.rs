//! Which octets of a message have come, and in which part record each of them lies. Knows positions; writes nothing.

use crate::store::record::Locator;
use std::collections::BTreeMap;

/// Octets that lie together in one part record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    len: u64,
    /// Where in the record's body they begin.
    skip: u64,
    /// Which record, by the order of writing.
    record: usize,
}

impl Piece {
    /// Without its first octets.
    fn behind(self, less: u64) -> Piece {
        Piece { len: self.len - less, skip: self.skip + less, ..self }
    }
}

/// Pieces by their position in the message; they never overlap.
#[derive(Clone, Default, Debug)]
pub(super) struct Pieces {
    by_start: BTreeMap<u64, Piece>,
}

impl Pieces {
    /// `len` octets from `at` on lie in `record`, in its first `len` octets. What was there before counts no more.
    //= RFC 4975 7.3.1: if chunks overlap, the last chunk received takes precedence
    pub(super) fn insert(&mut self, at: u64, len: u64, record: usize) {
        let end = at + len;
        let mut behind = None;
        if let Some((&start, before)) = self.by_start.range_mut(..at).next_back() {
            let whole = *before;
            if start + whole.len > at {
                before.len = at - start;
                behind = (start + whole.len > end).then(|| whole.behind(end - start));
            }
        }
        while let Some((&start, &piece)) = self.by_start.range(at..end).next() {
            self.by_start.remove(&start);
            if start + piece.len > end {
                behind = Some(piece.behind(end - start));
            }
        }
        self.by_start.extend(behind.map(|piece| (end, piece)));
        self.by_start.insert(at, Piece { len, skip: 0, record });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_start.len()
    }

    /// True when they are all octets of a message of so many, and no others.
    pub(super) fn are_all_of(&self, octets: u64) -> bool {
        let end = self.by_start.last_key_value().map_or(0, |(start, piece)| start + piece.len);
        end == octets && self.by_start.values().map(|piece| piece.len).sum::<u64>() == octets
    }

    /// As a message's record names them, in the order of the message.
    pub(super) fn parts(&self, records: &[Locator]) -> Vec<Locator> {
        let short = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        let of = |piece: &Piece| {
            let record = records.get(piece.record)?;
            Some(Locator::part(record.place(), record.stamp(), record.octets(), short(piece.skip), short(piece.len)))
        };
        self.by_start.values().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_octet_is_the_one_that_came_last(chunks in proptest::collection::vec((0u64..60, 1u64..30), 0..20)) {
            let mut pieces = Pieces::default();
            let mut plain: Vec<Option<(usize, u64)>> = vec![None; 100];
            for (record, &(at, len)) in chunks.iter().enumerate() {
                pieces.insert(at, len, record);
                (at..at + len).for_each(|octet| plain[octet as usize] = Some((record, octet - at)));
            }
            let mut found = vec![None; 100];
            for (start, piece) in &pieces.by_start {
                prop_assert!(piece.len > 0);
                for octet in 0..piece.len {
                    let place = &mut found[(start + octet) as usize];
                    prop_assert_eq!(*place, None, "pieces overlap");
                    *place = Some((piece.record, piece.skip + octet));
                }
            }
            prop_assert_eq!(&found, &plain);
            let whole = plain.iter().take_while(|octet| octet.is_some()).count() as u64;
            let beyond = plain.iter().skip(whole as usize).any(Option::is_some);
            prop_assert_eq!(pieces.are_all_of(whole), !beyond);
            prop_assert!(!pieces.are_all_of(whole + 1));
        }
    }
}
