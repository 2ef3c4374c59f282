//! Gathers a hint while its segment is written, record by record.

use super::{HINT_HEAD, Hint, HintState, MAGIC, at, owed, padding, sum};
use crate::base::net::CoreId;
use crate::base::spread::SpreadMap;
use crate::store::disk::SegmentNo;
use crate::store::layout::{RECORD_HEAD, RecordHead, SEGMENT_HEAD, le16};
use crate::store::reason;
use crate::store::record::{Kind, Locator, Place, Stamp, StateKind};
use bytes::{Bytes, BytesMut};
use siphasher::sip::SipHasher13;

/// The sections of a record that is noted. `body` may be left out (empty) where it is a message's or a part's.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Noted<'a> {
    pub(in crate::store) owner: &'a [u8],
    pub(in crate::store) label: &'a [u8],
    pub(in crate::store) envelope: &'a [u8],
    pub(in crate::store) parts: &'a [u8],
    pub(in crate::store) body: &'a [u8],
}

/// A hint in the making. Its memory is bounded by the segment's: 32 octets a message of at least 64, 8 a place, owners and states
/// at their length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Builder {
    log: CoreId,
    segment: SegmentNo,
    salt: u32,
    used_to: u64,
    first: u64,
    last: u64,
    highest: Stamp,
    records: u64,
    messages: Vec<u8>,
    copies: Vec<u8>,
    parts: Vec<u8>,
    dead: Vec<u8>,
    retained: Vec<u8>,
    /// Why and since when, of `dead` and of `retained`.
    dead_reasons: Vec<u8>,
    retained_reasons: Vec<u8>,
    owners: Vec<u8>,
    owner_count: u32,
    /// Where an owner of this hash stands in `owners`, and its number. Two of one hash are noted anew each time, which is right and
    /// merely longer.
    known: SpreadMap<u64, (u32, u32)>,
    states: Vec<u8>,
    state_count: u32,
}

impl Builder {
    /// Nothing is in the segment yet.
    pub fn new(log: CoreId, segment: SegmentNo, salt: u32) -> Builder {
        Builder {
            log,
            segment,
            salt,
            used_to: SEGMENT_HEAD as u64,
            first: 0,
            last: 0,
            highest: Stamp(0),
            records: 0,
            messages: Vec::new(),
            copies: Vec::new(),
            parts: Vec::new(),
            dead: Vec::new(),
            retained: Vec::new(),
            dead_reasons: Vec::new(),
            retained_reasons: Vec::new(),
            owners: Vec::new(),
            owner_count: 0,
            known: SpreadMap::default(),
            states: Vec::new(),
            state_count: 0,
        }
    }

    /// Goes on where a hint ended.
    pub fn resume(hint: &Hint, salt: u32) -> Builder {
        let (first, last) = hint.groups().unwrap_or((0, 0));
        let mut builder = Builder::new(hint.log(), hint.segment(), salt);
        builder.used_to = hint.used_to();
        (builder.first, builder.last) = (first, last);
        (builder.highest, builder.records) = (hint.highest(), hint.records());
        hint.owners().for_each(|owner| {
            builder.owner(owner);
        });
        builder.messages = hint.section(0).to_vec();
        builder.copies = hint.section(1).to_vec();
        builder.parts = hint.section(2).to_vec();
        builder.dead = hint.section(3).to_vec();
        builder.retained = hint.section(4).to_vec();
        builder.dead_reasons = reason::label_carried(hint.endings());
        builder.retained_reasons = reason::label_carried(hint.marks());
        builder.states = hint.section(6).to_vec();
        builder.state_count = hint.word(at::STATES);
        builder
    }

    /// Which segment.
    pub fn segment(&self) -> SegmentNo {
        self.segment
    }

    /// Numbers of the first and the last group noted; `None` when there is none.
    pub fn groups(&self) -> Option<(u64, u64)> {
        (self.first > 0).then_some((self.first, self.last))
    }

    /// A group that ends at `end` has been put together from the records noted since the last one.
    pub fn note_group(&mut self, number: u64, highest: Stamp, end: u64) {
        if self.first == 0 {
            self.first = number;
        }
        self.last = number;
        self.highest = self.highest.max(highest);
        self.used_to = self.used_to.max(end);
    }

    /// A record of any kind at `place`, as its head describes it.
    pub(in crate::store) fn note(&mut self, head: &RecordHead, place: Place, noted: Noted<'_>) {
        self.records += 1;
        let octets = u64::from(head.length).next_multiple_of(8);
        if head.origin != place {
            self.copies.extend_from_slice(&u64::from(place.offset).to_le_bytes());
            self.copies.extend_from_slice(&head.origin.to_u64().to_le_bytes());
        }
        match head.kind {
            Kind::Message => {
                let locator = Locator::new(place, head.stamp, head.expiry_s, octets, head.flags);
                self.note_message(noted.owner, &locator, head.fingerprint, noted.parts);
            }
            Kind::State => {
                let Some(kind) = StateKind::from_u8(head.flags.0) else { return };
                let (owner, key, value) = (noted.owner, noted.label, noted.body);
                self.note_state(&HintState { kind, owner, key, value, stamp: head.stamp, place, octets, owed: false });
            }
            Kind::Tombstones => {
                let places = whole_places(noted.envelope);
                self.dead.extend_from_slice(places);
                self.dead_reasons.extend_from_slice(&reason::label_carried(reason::endings(
                    noted.label,
                    places,
                    head.stamp,
                )));
                let body_at = RECORD_HEAD + noted.owner.len() + noted.label.len() + noted.envelope.len();
                owed(noted.body, place, body_at).for_each(|state| self.note_state(&state));
            }
            Kind::Retained => {
                let places = whole_places(noted.envelope);
                self.retained.extend_from_slice(places);
                self.retained_reasons.extend_from_slice(&reason::label_carried(reason::endings(
                    noted.label,
                    places,
                    head.stamp,
                )));
            }
            Kind::Part | Kind::Checkpoint => {}
        }
    }

    fn note_message(&mut self, owner: &[u8], locator: &Locator, fingerprint: u64, parts: &[u8]) {
        let number = (self.messages.len() / super::MESSAGE) as u32;
        let owner = self.owner(owner);
        let mut message = [0; super::MESSAGE];
        message[..4].copy_from_slice(&locator.place().offset.to_le_bytes());
        message[4..8].copy_from_slice(&owner.to_le_bytes());
        let [_, stamp, rest] = locator.words();
        message[8..16].copy_from_slice(&stamp.to_le_bytes());
        message[16..24].copy_from_slice(&rest.to_le_bytes());
        message[24..].copy_from_slice(&fingerprint.to_le_bytes());
        self.messages.extend_from_slice(&message);
        for part in parts.chunks_exact(24) {
            self.parts.extend_from_slice(&u64::from(number).to_le_bytes());
            self.parts.extend_from_slice(part);
        }
    }

    fn note_state(&mut self, state: &HintState<'_>) {
        let (owner_len, key_len) = (state.owner.len() as u16, state.key.len() as u16);
        self.states.extend_from_slice(&[state.kind as u8, u8::from(state.owed), 0, 0]);
        self.states.extend_from_slice(&owner_len.to_le_bytes());
        self.states.extend_from_slice(&key_len.to_le_bytes());
        self.states.extend_from_slice(&state.stamp.0.to_le_bytes());
        self.states.extend_from_slice(&state.place.to_u64().to_le_bytes());
        self.states.extend_from_slice(&(state.octets as u32).to_le_bytes());
        self.states.extend_from_slice(&(state.value.len() as u32).to_le_bytes());
        [state.owner, state.key, state.value].iter().for_each(|octets| self.states.extend_from_slice(octets));
        let pad = padding(state.owner.len() + state.key.len() + state.value.len());
        self.states.extend_from_slice(&[0; 8][..pad]);
        self.state_count += 1;
    }

    /// The number of an owner.
    fn owner(&mut self, owner: &[u8]) -> u32 {
        // Senders choose addresses; the salt is the data directory's secret.
        let hash = SipHasher13::new_with_keys(u64::from(self.salt), u64::from(self.segment.0)).hash(owner);
        let number = self.owner_count;
        let next = (self.owners.len() as u32, number);
        let (at, known) = *self.known.entry(hash).or_insert(next);
        if known != number {
            let stands = self.owners.get(at as usize..).unwrap_or_default();
            let length = usize::from(le16(stands, 0));
            if stands.get(2..2 + length) == Some(owner) {
                return known;
            }
        }
        self.owners.extend_from_slice(&(owner.len() as u16).to_le_bytes());
        self.owners.extend_from_slice(owner);
        self.owner_count += 1;
        number
    }

    /// The hint, as it is written.
    pub fn finish(&self) -> Bytes {
        // Where nobody said why, there is nothing to say.
        let reasons = [&self.dead_reasons[..], &self.retained_reasons[..]].concat();
        let reasons = if reasons.iter().all(|octet| *octet == 0) { Vec::new() } else { reasons };
        let sections = [
            &self.messages,
            &self.copies,
            &self.parts,
            &self.dead,
            &self.retained,
            &self.owners,
            &self.states,
            &reasons,
        ];
        let octets = HINT_HEAD + sections.iter().map(|section| section.len()).sum::<usize>();
        let mut out = BytesMut::with_capacity(octets);
        out.resize(HINT_HEAD, 0);
        let mut put = |at: usize, octets: &[u8]| out[at..at + octets.len()].copy_from_slice(octets);
        put(0, MAGIC);
        let words = [
            (at::VERSION, crate::store::manifest::FORMAT_VERSION),
            (at::LOG, u32::from(self.log.0)),
            (at::SEGMENT, self.segment.0),
            (at::MESSAGES, (self.messages.len() / super::MESSAGE) as u32),
            (at::COPIES, (self.copies.len() / super::COPY) as u32),
            (at::PARTS, (self.parts.len() / super::PART) as u32),
            (at::DEAD, (self.dead.len() / super::PLACE) as u32),
            (at::RETAINED, (self.retained.len() / super::PLACE) as u32),
            (at::OWNERS, self.owner_count),
            (at::STATES, self.state_count),
            (at::OWNER_OCTETS, self.owners.len() as u32),
            (at::STATE_OCTETS, self.states.len() as u32),
            (at::REASONS, (reasons.len() / super::REASON) as u32),
        ];
        words.iter().for_each(|(at, word)| put(*at, &word.to_le_bytes()));
        let doubles = [
            (at::OCTETS, octets as u64),
            (at::USED_TO, self.used_to),
            (at::FIRST, self.first),
            (at::LAST, self.last),
            (at::HIGHEST, self.highest.0),
            (at::RECORDS, self.records),
        ];
        doubles.iter().for_each(|(at, double)| put(*at, &double.to_le_bytes()));
        sections.iter().for_each(|section| out.extend_from_slice(section));
        let sum = sum(&out, self.segment, self.salt);
        out[at::SUM..at::SUM + 4].copy_from_slice(&sum.to_le_bytes());
        out.freeze()
    }
}

/// An envelope of places without what does not make a whole one.
fn whole_places(envelope: &[u8]) -> &[u8] {
    &envelope[..envelope.len() / super::PLACE * super::PLACE]
}
