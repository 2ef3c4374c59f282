//! The octets of a segment: its header, the header of a group, the head of a record. Reading here never trusts and never panics.
//! `src/manual/format.md` has the pictures.

use super::disk::SegmentNo;
use super::record::{Flags, Kind, Locator, Place, Stamp};
use crate::base::crc32c::{crc32c, crc32c_append};
use crate::base::net::CoreId;
use crate::base::span::Span;

/// Octets of a segment's header.
pub(crate) const SEGMENT_HEAD: usize = 4_096;
/// Octets of a group's header.
pub(crate) const GROUP_HEAD: usize = 48;
/// Octets of a record's head.
pub(crate) const RECORD_HEAD: usize = 64;
/// What a disk writes whole or not at all; groups begin at its multiples.
pub(crate) const TEAR_UNIT: u64 = 512;
/// Longest segment: recovery reads one whole.
pub(crate) const SEGMENT_OCTETS_MAX: u64 = 1 << 30;

const SEGMENT_MAGIC: &[u8; 8] = b"DEFERDLG";
const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"DGRP");

/// Four octets, little-endian; zero behind the end.
pub(super) fn le32(octets: &[u8], at: usize) -> u32 {
    octets.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

pub(super) fn le16(octets: &[u8], at: usize) -> u16 {
    octets.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u16::from_le_bytes(*word))
}

pub(super) fn le64(octets: &[u8], at: usize) -> u64 {
    octets.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

/// What the checksum of something at `offset` (units of 8) of `segment` begins with: octets moved to another place, or left over
/// in a file of another number, do not pass.
pub(super) fn seed(salt: u32, segment: SegmentNo, offset: u32) -> u32 {
    let mut place = [0u8; 12];
    place[..4].copy_from_slice(&salt.to_le_bytes());
    place[4..8].copy_from_slice(&segment.0.to_le_bytes());
    place[8..].copy_from_slice(&offset.to_le_bytes());
    crc32c(&place)
}

/// The header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHead {
    pub(super) log: CoreId,
    pub(super) segment: SegmentNo,
    pub(super) salt: u32,
    pub(super) octets: u64,
    /// The file was another segment before: octets behind the last group are that one's.
    pub(super) recycled: bool,
}

/// Why the first octets of a file are not a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HeadFault {
    Version(u32),
    Broken,
}

impl SegmentHead {
    pub(super) fn encode(&self, out: &mut bytes::BytesMut) {
        let begin = out.len();
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&super::manifest::FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&u32::from(self.log.0).to_le_bytes());
        out.extend_from_slice(&self.segment.0.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.octets.to_le_bytes());
        out.extend_from_slice(&u32::from(self.recycled).to_le_bytes());
        let sum = crc32c(&out[begin..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.resize(begin + SEGMENT_HEAD, 0);
    }

    pub(super) fn decode(octets: &[u8]) -> Result<SegmentHead, HeadFault> {
        let (head, sum) = octets.get(..40).and_then(|head| head.split_at_checked(36)).ok_or(HeadFault::Broken)?;
        if !head.starts_with(SEGMENT_MAGIC) || le32(sum, 0) != crc32c(head) {
            return Err(HeadFault::Broken);
        }
        let version = le32(head, 8);
        if version != super::manifest::FORMAT_VERSION {
            return Err(HeadFault::Version(version));
        }
        let log = u16::try_from(le32(head, 12)).map_err(|_| HeadFault::Broken)?;
        Ok(SegmentHead {
            log: CoreId(log),
            segment: SegmentNo(le32(head, 16)),
            salt: le32(head, 20),
            octets: le64(head, 24),
            recycled: le32(head, 32) & 1 != 0,
        })
    }
}

/// The header of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupHead {
    /// Octets from here to the end of the last record.
    pub(super) length: u32,
    /// How many records.
    pub(super) count: u32,
    /// Over the checksums of its records, in order: the group is whole or it is not.
    pub(super) sum: u32,
    /// Groups of a log are counted from 1.
    pub(super) number: u64,
    /// The highest group known durable when this one was submitted; 0: none.
    pub(super) durable: u64,
    /// The highest stamp of any record up to here.
    pub(super) highest: Stamp,
}

impl GroupHead {
    pub(super) fn encode(&self, seed: u32) -> [u8; GROUP_HEAD] {
        let mut out = [0u8; GROUP_HEAD];
        out[..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
        out[8..12].copy_from_slice(&self.length.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..20].copy_from_slice(&self.sum.to_le_bytes());
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable.to_le_bytes());
        out[40..48].copy_from_slice(&self.highest.0.to_le_bytes());
        let sum = crc32c_append(seed, &out[8..]);
        out[4..8].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(super) fn decode(octets: &[u8], seed: impl FnOnce() -> u32) -> Option<GroupHead> {
        let head = octets.get(..GROUP_HEAD)?;
        if le32(head, 0) != GROUP_MAGIC || le32(head, 4) != crc32c_append(seed(), head.get(8..)?) {
            return None;
        }
        Some(GroupHead {
            length: le32(head, 8),
            count: le32(head, 12),
            sum: le32(head, 16),
            number: le64(head, 24),
            durable: le64(head, 32),
            highest: Stamp(le64(head, 40)),
        })
    }
}

/// The head of a record, the same for all kinds. Behind it, in this order and without gaps: owner, label (body type, or key of a
/// state), envelope (or the places a batch names), parts, body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordHead {
    pub(super) kind: Kind,
    /// Flags of a message, `StateKind` of a state.
    pub(super) flags: Flags,
    pub(super) owner_len: u16,
    /// The whole record, head included, without padding.
    pub(super) length: u32,
    pub(super) stamp: Stamp,
    /// The place it was copied from; its own place for one that is no copy.
    pub(super) origin: Place,
    pub(super) expiry_s: u32,
    pub(super) label_len: u16,
    pub(super) parts: u16,
    pub(super) fingerprint: u64,
    pub(super) random: [u8; 10],
    pub(super) envelope_len: u32,
}

/// The two checksums of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sums {
    pub(super) head: u32,
    pub(super) body: u32,
}

impl Sums {
    /// As a group's sum goes over them.
    pub(super) fn octets(self) -> [u8; 8] {
        (u64::from(self.head) | u64::from(self.body) << 32).to_le_bytes()
    }

    /// Goes on with a group's sum.
    pub(super) fn fold(self, sum: u32) -> u32 {
        crc32c_append(sum, &self.octets())
    }
}

/// Why a record cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Its segment is not there.
    Missing,
    /// The disk did not give it (errno, 0 when there is none).
    Unreadable(i32),
    /// Its head does not pass the check: nothing of it is known, not even whose it is.
    Head,
    /// Its head passes, the rest does not.
    Body,
    /// It passes, and is not what was asked for.
    NotTheOne,
}

impl RecordHead {
    /// The head with its checksums. `body` is the running checksum of everything behind the owner, begun with `seed`.
    pub(super) fn encode(&self, seed: u32, owner: &[u8], body: u32) -> ([u8; RECORD_HEAD], Sums) {
        let mut out = [0u8; RECORD_HEAD];
        out[0] = self.kind as u8;
        out[1] = self.flags.0;
        out[2..4].copy_from_slice(&self.owner_len.to_le_bytes());
        out[8..12].copy_from_slice(&self.length.to_le_bytes());
        out[12..16].copy_from_slice(&body.to_le_bytes());
        out[16..24].copy_from_slice(&self.stamp.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.origin.segment.0.to_le_bytes());
        out[28..32].copy_from_slice(&self.origin.offset.to_le_bytes());
        out[32..36].copy_from_slice(&self.expiry_s.to_le_bytes());
        out[36..38].copy_from_slice(&self.label_len.to_le_bytes());
        out[38..40].copy_from_slice(&self.parts.to_le_bytes());
        out[40..48].copy_from_slice(&self.fingerprint.to_le_bytes());
        out[48..58].copy_from_slice(&self.random);
        out[60..64].copy_from_slice(&self.envelope_len.to_le_bytes());
        let head = head_sum(seed, &out, owner);
        out[4..8].copy_from_slice(&head.to_le_bytes());
        (out, Sums { head, body })
    }

    fn decode(head: &[u8; RECORD_HEAD]) -> Option<RecordHead> {
        let mut random = [0u8; 10];
        random.copy_from_slice(&head[48..58]);
        Some(RecordHead {
            kind: Kind::from_u8(head[0])?,
            flags: Flags(head[1]),
            owner_len: le16(head, 2),
            length: le32(head, 8),
            stamp: Stamp(le64(head, 16)),
            origin: Place { segment: SegmentNo(le32(head, 24)), offset: le32(head, 28) },
            expiry_s: le32(head, 32),
            label_len: le16(head, 36),
            parts: le16(head, 38),
            fingerprint: le64(head, 40),
            random,
            envelope_len: le32(head, 60),
        })
    }
}

fn head_sum(seed: u32, head: &[u8; RECORD_HEAD], owner: &[u8]) -> u32 {
    // All but the sum itself, with as much of the owner as has room, which is nearly always all: one run costs less than three.
    const FIXED: usize = RECORD_HEAD - 4;
    let mut run = [0u8; 2 * RECORD_HEAD];
    run[..4].copy_from_slice(&head[..4]);
    run[4..FIXED].copy_from_slice(&head[8..]);
    let (with_it, rest) = owner.split_at(owner.len().min(run.len() - FIXED));
    run[FIXED..FIXED + with_it.len()].copy_from_slice(with_it);
    let sum = crc32c_append(seed, &run[..FIXED + with_it.len()]);
    if rest.is_empty() { sum } else { crc32c_append(sum, rest) }
}

/// The places that tombstones or marks name.
pub(super) fn places(octets: &[u8]) -> impl Iterator<Item = Place> {
    octets.chunks_exact(8).map(|place| Place::from_u64(le64(place, 0)))
}

/// The parts that a large message names.
pub(super) fn parts(octets: &[u8]) -> impl Iterator<Item = Locator> {
    octets.chunks_exact(24).map(|part| Locator::from_words([le64(part, 0), le64(part, 8), le64(part, 16)]))
}

/// A record that passed its checks: its head, and where its sections lie in the page it was read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) head: RecordHead,
    pub(super) sums: Sums,
    pub(super) owner: Span,
    pub(super) label: Span,
    pub(super) envelope: Span,
    pub(super) parts: Span,
    pub(super) body: Span,
    /// On disk, padding included.
    pub(super) octets: u64,
}

/// A record that did not pass. Where its head did, it says how far the next one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken {
    pub(super) damage: Damage,
    pub(super) octets: Option<u64>,
}

/// Reads the record at `at` of `page`, which lies at `place` of the log.
pub(super) fn read_record(page: &[u8], at: usize, salt: u32, place: Place) -> Result<View, Broken> {
    let unknown = Broken { damage: Damage::Head, octets: None };
    let octets = page.get(at..).ok_or(unknown)?;
    let fixed: &[u8; RECORD_HEAD] = octets.first_chunk().ok_or(unknown)?;
    let head = RecordHead::decode(fixed).ok_or(unknown)?;
    let owner = octets.get(RECORD_HEAD..RECORD_HEAD + usize::from(head.owner_len)).ok_or(unknown)?;
    let seed = seed(salt, place.segment, place.offset);
    let sums = Sums { head: le32(fixed, 4), body: le32(fixed, 12) };
    if sums.head != head_sum(seed, fixed, owner) {
        return Err(unknown);
    }
    let mut end = at + RECORD_HEAD;
    let mut section = |len: usize| {
        let span = Span::new(end, len);
        end += len;
        span
    };
    let owner = section(usize::from(head.owner_len));
    let label = section(usize::from(head.label_len));
    let envelope = section(head.envelope_len as usize);
    let parts = section(usize::from(head.parts) * 24);
    let length = head.length as usize;
    let padded = u64::from(head.length).next_multiple_of(8);
    let broken = Broken { damage: Damage::Body, octets: Some(padded) };
    let body = Span::new(end, (at + length).checked_sub(end).ok_or(broken)?);
    let rest = page.get(owner.end()..at + length).ok_or(broken)?;
    if sums.body != crc32c_append(seed, rest) {
        return Err(broken);
    }
    Ok(View { head, sums, owner, label, envelope, parts, body, octets: padded })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(owner: u16, length: u32) -> RecordHead {
        RecordHead {
            kind: Kind::State,
            flags: Flags(3),
            owner_len: owner,
            length,
            stamp: Stamp(5),
            origin: Place { segment: SegmentNo(7), offset: 512 },
            expiry_s: 9,
            label_len: 0,
            parts: 0,
            fingerprint: 1 << 60,
            random: *b"0123456789",
            envelope_len: 4,
        }
    }

    #[test]
    fn a_heads_sum_goes_over_all_but_itself_and_the_whole_owner() {
        let mut head = [0u8; RECORD_HEAD];
        head.iter_mut().zip(1..).for_each(|(octet, number)| *octet = number);
        for length in [0, 1, 67, 68, 69, 200] {
            let owner = vec![b'o'; length];
            let whole = [&head[..4], &head[8..], &owner].concat();
            assert_eq!(head_sum(9, &head, &owner), crc32c_append(9, &whole), "{length}");
        }
    }

    #[test]
    fn a_record_passes_at_its_own_place_only_and_every_flipped_bit_is_noticed() {
        let place = Place { segment: SegmentNo(7), offset: 512 };
        let head = head(5, 64 + 5 + 4 + 3);
        let at_seed = seed(99, place.segment, place.offset);
        let (fixed, _) = head.encode(at_seed, b"owner", crc32c_append(at_seed, b"envebod"));
        let mut page = b"........".to_vec();
        page.extend_from_slice(&fixed);
        page.extend_from_slice(b"ownerenvebod");
        let view = read_record(&page, 8, 99, place).unwrap();
        assert_eq!(view.head, head);
        assert_eq!(
            (view.owner.of(&page), view.envelope.of(&page), view.body.of(&page)),
            (&b"owner"[..], &b"enve"[..], &b"bod"[..])
        );
        for other in [Place { offset: 513, ..place }, Place { segment: SegmentNo(8), ..place }] {
            assert!(read_record(&page, 8, 99, other).is_err());
        }
        assert!(read_record(&page, 8, 98, place).is_err(), "another salt");
        for bit in 64..page.len() * 8 {
            let mut rotten = page.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(read_record(&rotten, 8, 99, place).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_octets_are_refused_without_a_panic(octets in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..320) {
            let place = Place { segment: SegmentNo(1), offset: 1 };
            prop_assert!(read_record(&octets, at, 0, place).is_err());
            prop_assert!(GroupHead::decode(&octets, || 1).is_none());
            prop_assert!(SegmentHead::decode(&octets).is_err());
        }
    }
}
