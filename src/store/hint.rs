//! What one segment holds, as an index: a start reads it instead of the segment. Written when a log leaves the segment
//! ([`Builder`]), read by recovery and by reclaiming ([`Hint`]). Knows one segment; what is dead or superseded only all of
//! them together can say (`recovery`).
//!
//! A hint says nothing that its segment does not say. One that is missing or broken costs time, never a message: the segment
//! is read whole, and the hint is written anew. `src/manual/format.md` has the picture.

mod builder;

use super::disk::SegmentNo;
use super::layout::{self, le16, le32, le64};
use super::reason::{Ending, Reason};
use super::record::{Locator, Place, Stamp, StateKind};
use crate::base::crc32c::crc32c_append;
use crate::base::net::CoreId;
use bytes::Bytes;

pub use builder::Builder;
pub(super) use builder::Noted;

pub(super) const MAGIC: &[u8; 8] = b"DEFERDHT";

/// Octets before the sections.
pub(super) const HINT_HEAD: usize = 128;
/// Octets of a message, of a copy's origin, of a part, of a place, of a state's fixed part.
const MESSAGE: usize = 32;
const COPY: usize = 16;
const PART: usize = 32;
const PLACE: usize = 8;
const STATE: usize = 32;
/// Octets of a reason with its time.
const REASON: usize = 5;

/// Offsets of the header's numbers, the same for [`Builder`] and [`Hint`].
mod at {
    pub(super) const VERSION: usize = 8;
    pub(super) const LOG: usize = 12;
    pub(super) const SEGMENT: usize = 16;
    pub(super) const SUM: usize = 20;
    pub(super) const OCTETS: usize = 24;
    pub(super) const USED_TO: usize = 32;
    pub(super) const FIRST: usize = 40;
    pub(super) const LAST: usize = 48;
    pub(super) const HIGHEST: usize = 56;
    pub(super) const RECORDS: usize = 64;
    pub(super) const MESSAGES: usize = 72;
    pub(super) const COPIES: usize = 76;
    pub(super) const PARTS: usize = 80;
    pub(super) const DEAD: usize = 84;
    pub(super) const RETAINED: usize = 88;
    pub(super) const OWNERS: usize = 92;
    pub(super) const STATES: usize = 96;
    pub(super) const OWNER_OCTETS: usize = 100;
    pub(super) const STATE_OCTETS: usize = 104;
    pub(super) const REASONS: usize = 108;
}

/// Why octets are not the hint of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HintFault {
    /// Too short, without the magic, or of another version, log or segment.
    NotTheOne,
    /// The checksum is wrong: rot, or a hint of another data directory.
    Checksum,
    /// The checksum is right and the contents contradict each other: our own mistake, and the segment is read instead.
    Contradicts,
}

/// A message as its segment holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HintMessage {
    /// Whose: an index into [`Hint::owners`].
    pub owner: u32,
    /// Where and what.
    pub locator: Locator,
    /// By what a twin is recognised; zero: by nothing.
    pub fingerprint: u64,
}

/// A state as its segment holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HintState<'a> {
    /// Whose business.
    pub kind: StateKind,
    /// Whose.
    pub owner: &'a [u8],
    /// Which of the owner's.
    pub key: &'a [u8],
    /// What; empty: gone.
    pub value: &'a [u8],
    /// When it was decided.
    pub stamp: Stamp,
    /// Where it lies: what a tombstone for it names. One owed with tombstones lies inside their record.
    pub place: Place,
    /// Its octets in the log, a multiple of 8; 0 for one owed with tombstones, which lies in their record.
    pub octets: u64,
    /// Written together with tombstones, not as a record of its own.
    pub owed: bool,
}

/// One segment's index, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hint {
    octets: Bytes,
    log: CoreId,
    segment: SegmentNo,
    /// Where the sections begin: messages, copies, parts, dead, retained, owners, states, reasons, end.
    sections: [usize; 9],
}

impl Hint {
    /// The hint of `segment`, whose checksums begin with `salt`.
    ///
    /// # Errors
    /// It is not that. What passes is whole: every index in it leads somewhere.
    pub fn read(octets: Bytes, log: CoreId, segment: SegmentNo, salt: u32) -> Result<Hint, HintFault> {
        let head = octets.get(..HINT_HEAD).ok_or(HintFault::NotTheOne)?;
        let word = |at| le32(head, at);
        let named = (word(at::VERSION), word(at::LOG), word(at::SEGMENT));
        let wanted = (super::manifest::FORMAT_VERSION, u32::from(log.0), segment.0);
        if !head.starts_with(MAGIC) || named != wanted || le64(head, at::OCTETS) != octets.len() as u64 {
            return Err(HintFault::NotTheOne);
        }
        if word(at::SUM) != sum(&octets, segment, salt) {
            return Err(HintFault::Checksum);
        }
        let lengths = [
            word(at::MESSAGES) as u64 * MESSAGE as u64,
            word(at::COPIES) as u64 * COPY as u64,
            word(at::PARTS) as u64 * PART as u64,
            word(at::DEAD) as u64 * PLACE as u64,
            word(at::RETAINED) as u64 * PLACE as u64,
            u64::from(word(at::OWNER_OCTETS)),
            u64::from(word(at::STATE_OCTETS)),
            u64::from(word(at::REASONS)) * REASON as u64,
        ];
        let mut sections = [HINT_HEAD; 9];
        for (n, length) in lengths.into_iter().enumerate() {
            let end = (sections[n] as u64).checked_add(length).filter(|end| *end <= octets.len() as u64);
            sections[n + 1] = usize::try_from(end.ok_or(HintFault::Contradicts)?).unwrap_or(usize::MAX);
        }
        let hint = Hint { octets, log, segment, sections };
        let owners = hint.owners().count();
        let whole = owners == hint.word(at::OWNERS) as usize
            && hint.states().count() == hint.word(at::STATES) as usize
            && hint.messages().all(|message| (message.owner as usize) < owners)
            && hint.parts().all(|(message, _)| (message as usize) < hint.len())
            && [0, hint.dead().len() + hint.retained().len()].contains(&(hint.word(at::REASONS) as usize));
        if whole { Ok(hint) } else { Err(HintFault::Contradicts) }
    }

    /// As it is written.
    pub fn octets(&self) -> &Bytes {
        &self.octets
    }

    /// Whose log.
    pub fn log(&self) -> CoreId {
        self.log
    }

    /// Which segment.
    pub fn segment(&self) -> SegmentNo {
        self.segment
    }

    /// Where the next group could begin.
    pub fn used_to(&self) -> u64 {
        le64(&self.octets, at::USED_TO)
    }

    /// Numbers of its first and its last group; all between are here and whole. `None`: there is no group.
    pub fn groups(&self) -> Option<(u64, u64)> {
        let (first, last) = (le64(&self.octets, at::FIRST), le64(&self.octets, at::LAST));
        (first > 0 && first <= last).then_some((first, last))
    }

    /// The highest stamp of any record up to its last group.
    pub fn highest(&self) -> Stamp {
        Stamp(le64(&self.octets, at::HIGHEST))
    }

    /// How many records of all kinds.
    pub fn records(&self) -> u64 {
        le64(&self.octets, at::RECORDS)
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.word(at::MESSAGES) as usize
    }

    /// True when there is no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its messages, by rising place.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = HintMessage> {
        let segment = self.segment;
        self.section(0).chunks_exact(MESSAGE).map(move |message| message_of(segment, message))
    }

    /// One of them, by its number.
    pub fn message(&self, number: u32) -> Option<HintMessage> {
        let at = (number as usize).checked_mul(MESSAGE)?;
        Some(message_of(self.segment, self.section(0).get(at..at.checked_add(MESSAGE)?)?))
    }

    /// Copies among its records, of any kind: where each lies, and the place it was copied from. What lies there is superseded.
    ///
    /// Whoever lets this segment go while an origin's segment is still there owes the log a tombstone that names the origin: the
    /// copy was what superseded it.
    pub fn copies(&self) -> impl ExactSizeIterator<Item = (Place, Place)> {
        let segment = self.segment;
        let copies = self.section(1).chunks_exact(COPY);
        copies.map(move |copy| (Place { segment, offset: le32(copy, 0) }, Place::from_u64(le64(copy, 8))))
    }

    /// The parts of large messages: number of the message, and a part of it, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (u32, Locator)> {
        self.section(2)
            .chunks_exact(PART)
            .map(|part| (le32(part, 0), Locator::from_words([le64(part, 8), le64(part, 16), le64(part, 24)])))
    }

    /// Places that tombstones of this segment name.
    pub fn dead(&self) -> impl ExactSizeIterator<Item = Place> {
        places(self.section(3))
    }

    /// Places that marks of this segment say are had by their users.
    pub fn retained(&self) -> impl ExactSizeIterator<Item = Place> {
        places(self.section(4))
    }

    /// What its tombstones say: of which records, why, and since when.
    pub fn endings(&self) -> impl Iterator<Item = Ending> {
        self.told(self.dead(), 0)
    }

    /// What its marks say.
    pub fn marks(&self) -> impl Iterator<Item = Ending> {
        self.told(self.retained(), self.dead().len())
    }

    /// These places with their reasons, which begin with that of number `from`.
    fn told(&self, places: impl Iterator<Item = Place>, from: usize) -> impl Iterator<Item = Ending> {
        let reasons = self.section(7).get(from * REASON..).unwrap_or_default();
        places.enumerate().map(move |(number, place)| {
            let told = reasons.get(number * REASON..).unwrap_or_default();
            let reason = Reason::from_u8(told.first().copied().unwrap_or(0));
            Ending { place, reason, at_s: le32(told, 1) }
        })
    }

    /// The owners of its messages.
    pub fn owners(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.section(5);
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_at_checked(2)?;
            let (owner, behind) = behind.split_at_checked(usize::from(le16(length, 0)))?;
            rest = behind;
            Some(owner)
        })
    }

    /// Its states, by rising place.
    pub fn states(&self) -> impl Iterator<Item = HintState<'_>> {
        let mut rest = self.section(6);
        std::iter::from_fn(move || {
            let (fixed, behind) = rest.split_at_checked(STATE)?;
            let (owner, behind) = behind.split_at_checked(usize::from(le16(fixed, 4)))?;
            let (key, behind) = behind.split_at_checked(usize::from(le16(fixed, 6)))?;
            let (value, behind) = behind.split_at_checked(le32(fixed, 28) as usize)?;
            let pad = padding(owner.len() + key.len() + value.len());
            rest = behind.get(pad..)?;
            Some(HintState {
                kind: StateKind::from_u8(*fixed.first()?)?,
                owner,
                key,
                value,
                stamp: Stamp(le64(fixed, 8)),
                place: Place::from_u64(le64(fixed, 16)),
                octets: u64::from(le32(fixed, 24)),
                owed: fixed.get(1).is_some_and(|owed| *owed != 0),
            })
        })
    }

    fn word(&self, at: usize) -> u32 {
        le32(&self.octets, at)
    }

    fn section(&self, number: usize) -> &[u8] {
        self.octets.get(self.sections[number]..self.sections[number + 1]).unwrap_or_default()
    }
}

fn message_of(segment: SegmentNo, message: &[u8]) -> HintMessage {
    let place = Place { segment, offset: le32(message, 0) };
    HintMessage {
        owner: le32(message, 4),
        locator: Locator::from_words([place.to_u64(), le64(message, 8), le64(message, 16)]),
        fingerprint: le64(message, 24),
    }
}

fn places(octets: &[u8]) -> impl ExactSizeIterator<Item = Place> {
    octets.chunks_exact(PLACE).map(|place| Place::from_u64(le64(place, 0)))
}

/// What fills a length up to a multiple of 8.
fn padding(length: usize) -> usize {
    length.next_multiple_of(8) - length
}

/// Over everything but itself. The offset in the seed is one that no record has.
fn sum(octets: &[u8], segment: SegmentNo, salt: u32) -> u32 {
    let seed = layout::seed(salt, segment, u32::MAX);
    let head = crc32c_append(seed, octets.get(..at::SUM).unwrap_or_default());
    crc32c_append(head, octets.get(at::SUM + 4..).unwrap_or_default())
}

/// The states owed with the tombstones of a record whose body begins `body_at` octets behind `place`: kind 1, zero 3, owner length 2,
/// key length 2, stamp 8, value length 4, then the three. Each is at least 20 octets, so no two have one place.
pub(super) fn owed(body: &[u8], place: Place, body_at: usize) -> impl Iterator<Item = HintState<'_>> {
    let (mut rest, mut at) = (body, body_at);
    std::iter::from_fn(move || {
        let (fixed, behind) = rest.split_at_checked(20)?;
        let (owner, behind) = behind.split_at_checked(usize::from(le16(fixed, 4)))?;
        let (key, behind) = behind.split_at_checked(usize::from(le16(fixed, 6)))?;
        let (value, behind) = behind.split_at_checked(le32(fixed, 16) as usize)?;
        let kind = StateKind::from_u8(*fixed.first()?)?;
        let length = 20 + owner.len() + key.len() + value.len();
        let place = Place { offset: place.offset.saturating_add((at / 8) as u32), ..place };
        let stamp = Stamp(le64(fixed, 8));
        (rest, at) = (behind, at + length);
        Some(HintState { kind, owner, key, value, stamp, place, octets: 0, owed: true })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
