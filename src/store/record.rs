//! A record's words: where it lies, what it is, what a queue keeps of it, what a deposit hands in. No octets of the file here
//! (that is `layout`), no SIP.

use super::disk::SegmentNo;
pub use super::stamp::{MessageId, Stamp, Stamps};
use crate::base::gather::Gather;

/// Where a record lies: what tombstones, retained marks and queues name it by. One that is copied forward lies at a new place, and
/// says from which it came: its *origin*. A whole copy supersedes the record at its origin; a tombstone means the record at the
/// place it names and no other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Place {
    /// In which segment.
    pub segment: SegmentNo,
    /// Where in it, in units of 8 octets.
    pub offset: u32,
}

impl Place {
    /// In octets from the segment's start.
    pub fn octets(self) -> u64 {
        u64::from(self.offset) * 8
    }

    /// As one number, for a token.
    pub fn to_u64(self) -> u64 {
        u64::from(self.segment.0) << 32 | u64::from(self.offset)
    }

    /// Back from [`Place::to_u64`].
    pub fn from_u64(raw: u64) -> Place {
        Place { segment: SegmentNo((raw >> 32) as u32), offset: raw as u32 }
    }
}

/// What is known of a message without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// Pushed before others.
    pub const URGENT: Flags = Flags(1);
    /// It stays for retrieval and is not pushed: the user has had it, or it is [`Flags::MISSED`].
    pub const RETAINED: Flags = Flags(2);
    /// The sender wants to hear of a failure.
    pub const REPORT: Flags = Flags(4);
    /// The body lies in part records.
    pub const LARGE: Flags = Flags(8);
    /// The sender asked for privacy.
    pub const PRIVATE: Flags = Flags(16);
    /// The body contains seven dashes: MSRP end-lines must be chosen with care.
    pub const DASH7: Flags = Flags(32);
    /// Its time was over before its user had it, and it is retained all the same: whoever deletes it owes its sender a report.
    pub const MISSED: Flags = Flags(64);

    /// These, once the user has had the message and it stays.
    #[must_use]
    pub fn had(self) -> Flags {
        self.with(Flags::RETAINED).without(Flags::MISSED)
    }

    /// These, once its time is over and it stays. What its user has had before is not missed.
    #[must_use]
    pub fn missed(self) -> Flags {
        if self.has(Flags::RETAINED) { self } else { self.with(Flags::RETAINED).with(Flags::MISSED) }
    }

    /// True when the user has had the message.
    pub fn is_had(self) -> bool {
        self.has(Flags::RETAINED) && !self.has(Flags::MISSED)
    }

    /// True when every flag of `other` is set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Without those of `other`.
    #[must_use]
    pub fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A message.
    Message = 1,
    /// A piece of a large message; dead without the message that names it.
    Part = 2,
    /// Messages that are no more, and the reports this owes.
    Tombstones = 3,
    /// The latest value under (kind, owner, key).
    State = 4,
    /// Messages that stay for retrieval alone: their user has had them, or their time was over.
    Retained = 5,
    /// Up to where other logs' tombstones are included. Written by reclaiming; recovery of this version passes over it.
    Checkpoint = 6,
}

impl Kind {
    pub(super) fn from_u8(raw: u8) -> Option<Kind> {
        Some(match raw {
            1 => Kind::Message,
            2 => Kind::Part,
            3 => Kind::Tombstones,
            4 => Kind::State,
            5 => Kind::Retained,
            6 => Kind::Checkpoint,
            _ => return None,
        })
    }
}

/// Whose business a state record is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum StateKind {
    /// A user's service settings.
    Settings = 1,
    /// A publication, by entity tag.
    Publication = 2,
    /// A subscription, by dialog.
    Subscription = 3,
    /// A delivery report owed.
    Report = 4,
    /// Messages that their user deleted, until they are purged.
    Bin = 5,
    /// An XDMS elsewhere may list messages of a user.
    Metadata = 6,
}

impl StateKind {
    pub(super) fn from_u8(raw: u8) -> Option<StateKind> {
        Some(match raw {
            1 => StateKind::Settings,
            2 => StateKind::Publication,
            3 => StateKind::Subscription,
            4 => StateKind::Report,
            5 => StateKind::Bin,
            6 => StateKind::Metadata,
            _ => return None,
        })
    }
}

/// Where a record lies, and its length on disk: what is alive of a segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Extent {
    /// Where it begins.
    pub place: Place,
    /// Its octets, header and padding included.
    pub octets: u64,
}

/// A message as queues hold it: 24 octets, `Copy`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Locator {
    segment: u32,
    offset: u32,
    stamp: u64,
    expiry_s: u32,
    /// Length in units of 8 in the upper 24 bits, flags below.
    length_and_flags: u32,
}

const _: () = assert!(size_of::<Locator>() == 24);

/// Longest record: 24 bits of units of 8, a little under 128 MiB.
pub const RECORD_OCTETS_MAX: u64 = ((1 << 24) - 1) * 8;

impl Locator {
    /// A locator. `octets` is the record's length on disk, rounded up to units of 8 and cut at [`RECORD_OCTETS_MAX`].
    pub fn new(place: Place, stamp: Stamp, expiry_s: u32, octets: u64, flags: Flags) -> Locator {
        let units = (octets.min(RECORD_OCTETS_MAX)).div_ceil(8) as u32;
        Locator {
            segment: place.segment.0,
            offset: place.offset,
            stamp: stamp.0,
            expiry_s,
            length_and_flags: units << 8 | u32::from(flags.0),
        }
    }

    /// A part of a large message: `len` octets of its record's body, from `skip` on. `octets` as in [`Locator::new`].
    pub fn part(place: Place, stamp: Stamp, octets: u64, skip: u16, len: u16) -> Locator {
        Locator::new(place, stamp, u32::from(skip) << 16 | u32::from(len), octets, Flags::LARGE)
    }

    /// Of a part: which octets of its record's body are the message's, as `(skip, len)`; `None`: all of them.
    pub fn window(&self) -> Option<(usize, usize)> {
        (self.expiry_s != 0).then_some(((self.expiry_s >> 16) as usize, (self.expiry_s & 0xffff) as usize))
    }

    /// Which record.
    pub fn place(&self) -> Place {
        Place { segment: SegmentNo(self.segment), offset: self.offset }
    }

    /// Which record, and its length.
    pub fn extent(&self) -> Extent {
        Extent { place: self.place(), octets: self.octets() }
    }

    /// When it arrived.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp)
    }

    /// When it expires, in seconds since 1970-01-01 UTC.
    pub fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    /// Length of the record on disk, header included, a multiple of 8: what the user's quota counts.
    pub fn octets(&self) -> u64 {
        u64::from(self.length_and_flags >> 8) * 8
    }

    /// What is known of it.
    pub fn flags(&self) -> Flags {
        Flags(self.length_and_flags as u8)
    }

    /// The same at another place.
    #[must_use]
    pub fn at(self, place: Place) -> Locator {
        Locator { segment: place.segment.0, offset: place.offset, ..self }
    }

    /// The same with other flags.
    #[must_use]
    pub fn with_flags(self, flags: Flags) -> Locator {
        Locator { length_and_flags: self.length_and_flags & !0xff | u32::from(flags.0), ..self }
    }
}

impl Locator {
    /// As three words, for a node or a block.
    pub(crate) fn words(self) -> [u64; 3] {
        [self.place().to_u64(), self.stamp, u64::from(self.expiry_s) << 32 | u64::from(self.length_and_flags)]
    }

    /// Back from [`Locator::words`].
    pub(crate) fn from_words(words: [u64; 3]) -> Locator {
        let place = Place::from_u64(words[0]);
        Locator {
            segment: place.segment.0,
            offset: place.offset,
            stamp: words[1],
            expiry_s: (words[2] >> 32) as u32,
            length_and_flags: words[2] as u32,
        }
    }
}

/// The records of a large message's parts, each once: two parts may be two pieces of one record.
pub fn extents_of(parts: &[Locator]) -> Vec<Extent> {
    let mut extents: Vec<Extent> = parts.iter().map(Locator::extent).collect();
    extents.sort_unstable();
    extents.dedup_by_key(|extent| extent.place);
    extents
}

/// Octets on disk of a part record with a body of so many: what [`Locator::octets`] will say of it.
pub fn part_octets(owner: &[u8], body: usize) -> u64 {
    ((super::layout::RECORD_HEAD + owner.len() + body) as u64).next_multiple_of(8)
}

/// A message to be written.
#[derive(Debug)]
pub struct Draft<'a> {
    /// Canonical address of record; at most 65,535 octets.
    pub owner: &'a [u8],
    /// When it arrived: the time part of its [`MessageId`].
    pub stamp: Stamp,
    /// The random part.
    pub random: [u8; 10],
    /// When it expires, in seconds since 1970-01-01 UTC.
    pub expiry_s: u32,
    /// What makes a second copy of it recognisable; zero: nothing.
    pub fingerprint: u64,
    /// What is known of it.
    pub flags: Flags,
    /// Whatever the depositor wants to read later; the store does not look inside.
    pub envelope: &'a [u8],
    /// `Content-Type` of the body; at most 65,535 octets.
    pub body_type: &'a [u8],
    /// The part records of a large message, in order; at most 65,535.
    pub parts: &'a [Locator],
    /// Push-ready body. For a large message: what stands before the parts and after them is the depositor's to tell apart.
    pub body: Gather,
}

impl Draft<'_> {
    /// What [`Locator::octets`] will say of it: reserve this much of the quota before, release it after.
    pub fn octets(&self) -> u64 {
        let sections = self.owner.len() + self.body_type.len() + self.envelope.len() + self.parts.len() * 24;
        ((super::layout::RECORD_HEAD + sections + self.body.len()) as u64).next_multiple_of(8)
    }
}

/// A state to be written: the latest stamp under (kind, owner, key) wins, an empty value means gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateDraft<'a> {
    /// Whose business.
    pub kind: StateKind,
    /// When it was decided.
    pub stamp: Stamp,
    /// Whose.
    pub owner: &'a [u8],
    /// Which of the owner's.
    pub key: &'a [u8],
    /// What; empty: gone.
    pub value: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_locator_survives_packing(segment: u32, offset: u32, stamp: u64, expiry: u32, octets in 0u64..RECORD_OCTETS_MAX, flags: u8) {
            let place = Place { segment: SegmentNo(segment), offset };
            let locator = Locator::new(place, Stamp(stamp), expiry, octets, Flags(flags));
            prop_assert_eq!(Locator::from_words(locator.words()), locator);
            prop_assert_eq!(locator.place(), place);
            prop_assert_eq!(locator.octets(), octets.next_multiple_of(8));
            prop_assert_eq!(locator.flags(), Flags(flags));
            prop_assert_eq!(locator.with_flags(Flags(3)).flags(), Flags(3));
            prop_assert_eq!(locator.with_flags(Flags(3)).octets(), locator.octets());
            prop_assert_eq!(Place::from_u64(place.to_u64()), place);
        }
    }
}
