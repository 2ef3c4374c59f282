//! Taking records in: what is appended, where it will lie, its checksums, and the group it joins.

use super::chain::{Seg, State};
use super::{Group, Log, Refused, Seq};
use crate::base::crc32c::crc32c_append;
use crate::base::gather::{Gather, PIECES_MAX};
use crate::store::hint::{Builder, Noted};
use crate::store::layout::{self, GROUP_HEAD, GroupHead, RECORD_HEAD, RecordHead, SEGMENT_HEAD, TEAR_UNIT};
use crate::store::loader::Record;
use crate::store::reason::{self, Ending, Reason};
use crate::store::record::{
    Draft, Extent, Flags, Kind, Locator, Place, RECORD_OCTETS_MAX, Stamp, StateDraft, StateKind,
};
use bytes::Bytes;

/// Tombstones and states may wait beyond `commit_octets`, by a quarter of it: a flood of deposits must not keep a delivered
/// message from being forgotten.
const ESSENTIAL_SHARE: usize = 4;

/// Records below this are copied into their group, longer ones referred to. A piece by reference costs two entries of the kernel's list
/// of 1,024, which then holds 512 messages a commit, and keeps a receive buffer of up to 256 KiB from being used again.
const COPY_RECORD_BELOW: usize = 16 * 1024;

/// Gathers kept for their memory: a use case makes one record at a time, some two.
const BODIES_KEPT: usize = 4;

struct Sections<'a> {
    kind: Kind,
    flags: Flags,
    stamp: Stamp,
    expiry_s: u32,
    fingerprint: u64,
    random: [u8; 10],
    /// Of a copy: where it was copied from.
    origin: Option<Place>,
    owner: &'a [u8],
    label: &'a [u8],
    envelope: &'a [u8],
    parts: &'a [u8],
    body: Gather,
}

impl Log {
    /// Takes a message in. Its locator may be published when its [`Seq`] is durable, not before.
    pub fn append_message(&mut self, draft: Draft<'_>) -> Result<(Locator, Seq), Refused> {
        let parts = octets_of_parts(draft.parts);
        let (place, octets, seq) = self.append(Sections {
            kind: Kind::Message,
            flags: draft.flags,
            stamp: draft.stamp,
            expiry_s: draft.expiry_s,
            fingerprint: draft.fingerprint,
            random: draft.random,
            origin: None,
            owner: draft.owner,
            label: draft.body_type,
            envelope: draft.envelope,
            parts: &parts,
            body: draft.body,
        })?;
        Ok((Locator::new(place, draft.stamp, draft.expiry_s, octets, draft.flags), seq))
    }

    /// Takes a piece of a large message in. It is dead unless a durable message names it among its parts.
    pub fn append_part(&mut self, owner: &[u8], stamp: Stamp, body: Gather) -> Result<(Locator, Seq), Refused> {
        let sections = Sections { body, ..plain(Kind::Part, stamp, owner) };
        let (place, octets, seq) = self.append(sections)?;
        Ok((Locator::new(place, stamp, 0, octets, Flags::LARGE), seq))
    }

    /// These messages are no more, whoever wrote them, and nobody says why. One record for all.
    pub fn append_tombstones(&mut self, places: &[Place]) -> Result<Seq, Refused> {
        self.append_named(Kind::Tombstones, Stamp(0), &octets_of_places(places.iter().copied()), &[])
    }

    /// What a segment that is to go says of records in others: once more. `kind`: tombstones or marks.
    pub(in crate::store) fn append_carried(&mut self, kind: Kind, endings: &[Ending]) -> Result<Seq, Refused> {
        let places = octets_of_places(endings.iter().map(|ending| ending.place));
        self.append_named(kind, Stamp(0), &places, &reason::label_carried(endings.iter().copied()))
    }

    fn append_named(&mut self, kind: Kind, stamp: Stamp, places: &[u8], label: &[u8]) -> Result<Seq, Refused> {
        let sections = Sections { envelope: places, label, ..plain(kind, stamp, b"") };
        self.append(sections).map(|(_, _, seq)| seq)
    }

    /// These records are no more since `now`, and why; and that owes these reports: records of one group, so it is all or nothing.
    /// Where each state lies, and the number of the last record.
    pub fn append_endings(
        &mut self,
        now: Stamp,
        endings: &[(Place, Reason)],
        owed: &[StateDraft<'_>],
    ) -> Result<(Vec<Extent>, Seq), Refused> {
        let envelope = octets_of_places(endings.iter().map(|(place, _)| *place));
        let label = reason::label_now(endings);
        let states = owed.iter().map(|state| state.owner.len() + state.key.len() + state.value.len());
        let lengths = std::iter::once(envelope.len() + label.len()).chain(states).map(|len| (RECORD_HEAD + len) as u64);
        let octets: u64 = lengths.map(|octets| octets.next_multiple_of(8)).sum();
        if !owed.is_empty() {
            self.admit(octets, true)?;
            self.make_room(octets, owed.len() + 1, true)?;
        }
        let mut extents = Vec::with_capacity(owed.len());
        for state in owed {
            extents.push(self.append_state(state.kind, state.stamp, state.owner, state.key, state.value)?.0);
        }
        let seq = self.append_named(Kind::Tombstones, now, &envelope, &label)?;
        Ok((extents, seq))
    }

    /// Whether records of so many octets may wait together with what waits already.
    fn admit(&self, octets: u64, essential: bool) -> Result<(), Refused> {
        if self.poisoned {
            return Err(Refused::Poisoned);
        }
        let group_max = self.setup.segment_octets - SEGMENT_HEAD as u64;
        let alone = (GROUP_HEAD as u64 + octets).next_multiple_of(TEAR_UNIT);
        if octets > RECORD_OCTETS_MAX || alone > group_max.min(self.setup.commit_octets as u64) {
            return Err(Refused::TooLarge);
        }
        let bound = self.setup.commit_octets + if essential { self.setup.commit_octets / ESSENTIAL_SHARE } else { 0 };
        if self.waiting + alone as usize > bound { Err(Refused::Full) } else { Ok(()) }
    }

    /// The users of these messages have had them: from now on they are [`Flags::RETAINED`]. Nobody says why.
    pub fn append_retained(&mut self, places: &[Place]) -> Result<Seq, Refused> {
        self.append_named(Kind::Retained, Stamp(0), &octets_of_places(places.iter().copied()), &[])
    }

    /// The same since `now`, and why.
    pub fn append_marks(&mut self, now: Stamp, marks: &[(Place, Reason)]) -> Result<Seq, Refused> {
        let places = octets_of_places(marks.iter().map(|(place, _)| *place));
        self.append_named(Kind::Retained, now, &places, &reason::label_now(marks))
    }

    /// A state: the latest stamp under (kind, owner, key) wins, an empty value means gone.
    pub fn append_state(
        &mut self,
        kind: StateKind,
        stamp: Stamp,
        owner: &[u8],
        key: &[u8],
        value: &[u8],
    ) -> Result<(Extent, Seq), Refused> {
        let mut body = Gather::new();
        body.put(value);
        let sections = Sections { flags: Flags(kind as u8), label: key, body, ..plain(Kind::State, stamp, owner) };
        self.append(sections).map(|(place, octets, seq)| (Extent { place, octets }, seq))
    }

    /// Takes a copy of a message, a part or a state in, as it was read: the same but for its place, where it was copied from, and
    /// what its home knows better. `flags`: of a message, as its queue has them. `parts`: of a large message, where they lie
    /// now; `None`: where they lay. `envelope`: another than it had.
    ///
    /// A copy waits as a message does, and may lie in the reserve: on a full disk it is what makes room again.
    pub fn append_copy(
        &mut self,
        record: &Record,
        flags: Flags,
        parts: Option<&[Locator]>,
        envelope: Option<&[u8]>,
    ) -> Result<(Extent, Seq), Refused> {
        let head = &record.head;
        let page = &record.page;
        let parts = parts.map(octets_of_parts);
        let mut body = Gather::new();
        body.push(record.body());
        let (place, octets, seq) = self.append(Sections {
            kind: head.kind,
            flags: if head.kind == Kind::State { head.flags } else { flags },
            stamp: head.stamp,
            expiry_s: head.expiry_s,
            fingerprint: head.fingerprint,
            random: head.random,
            origin: Some(record.place),
            owner: record.owner(),
            label: record.body_type.of(page),
            envelope: envelope.unwrap_or_else(|| record.envelope.of(page)),
            parts: parts.as_deref().unwrap_or_else(|| record.parts.of(page)),
            body,
        })?;
        Ok((Extent { place, octets }, seq))
    }

    fn append(&mut self, mut sections: Sections<'_>) -> Result<(Place, u64, Seq), Refused> {
        if self.poisoned {
            return Err(Refused::Poisoned);
        }
        let fixed = sections.owner.len() + sections.label.len() + sections.envelope.len() + sections.parts.len();
        let length = RECORD_HEAD + fixed + sections.body.len();
        let octets = (length as u64).next_multiple_of(8);
        let mut record = RecordHead {
            kind: sections.kind,
            flags: sections.flags,
            owner_len: u16::try_from(sections.owner.len()).map_err(|_| Refused::TooLarge)?,
            length: u32::try_from(length).map_err(|_| Refused::TooLarge)?,
            stamp: sections.stamp,
            origin: Place::default(),
            expiry_s: sections.expiry_s,
            label_len: u16::try_from(sections.label.len()).map_err(|_| Refused::TooLarge)?,
            parts: u16::try_from(sections.parts.len() / 24).map_err(|_| Refused::TooLarge)?,
            fingerprint: sections.fingerprint,
            random: sections.random,
            envelope_len: u32::try_from(sections.envelope.len()).map_err(|_| Refused::TooLarge)?,
        };
        let essential = !matches!(sections.kind, Kind::Message | Kind::Part) && sections.origin.is_none();
        self.admit(octets, essential)?;
        // One write takes 1,024 pieces: a body in more than that is made one, the only copy of a body in this room.
        if sections.body.pieces() > PIECES_MAX - 8 {
            let flat = Bytes::from(sections.body.to_vec());
            sections.body = Gather::new();
            sections.body.push(flat);
        }
        let is_copied = length < COPY_RECORD_BELOW;
        let pieces = if is_copied { 0 } else { sections.body.pieces() };
        // On a full disk copies are what makes room again: they may lie in the reserve, but never wait beyond the bound.
        if sections.origin.is_some() && self.is_for_states(octets) {
            return Err(Refused::DiskFull);
        }
        self.make_room(octets, pieces, essential || sections.origin.is_some())?;
        let Some(segment) = self.open.as_ref().map(|open| open.segment) else { return Err(Refused::Full) };
        let salt = self.salt_of(segment);
        let Some(group) = &mut self.open else { return Err(Refused::Full) };

        let (begin, before) = (group.gather.arena_position(), group.gather.len());
        let place = Place { segment, offset: ((group.at + before as u64) / 8) as u32 };
        let seed = layout::seed(salt, place.segment, place.offset);
        group.gather.make(|arena| {
            arena.extend_from_slice(&[0u8; RECORD_HEAD]);
            let adjacent = [sections.owner, sections.label, sections.envelope, sections.parts];
            adjacent.iter().for_each(|octets| arena.extend_from_slice(octets));
            if is_copied {
                sections.body.iter().for_each(|octets| arena.extend_from_slice(octets));
            }
        });
        // The sum goes over the octets where they lie now, side by side: one long run instead of a short one for every section.
        let made = group.gather.made_since(begin);
        let mut body_sum = crc32c_append(seed, &made[RECORD_HEAD + sections.owner.len()..]);
        if !is_copied {
            body_sum = sections.body.iter().fold(body_sum, crc32c_append);
        }
        record.origin = sections.origin.unwrap_or(place);
        let (head, sums) = record.encode(seed, sections.owner, body_sum);
        group.gather.patch(begin, &head);
        if let Some(index) = self.index.as_mut().filter(|index| index.segment() == place.segment) {
            // A hint holds states whole; of anything else it needs no body.
            let body = if sections.kind == Kind::State { sections.body.to_vec() } else { Vec::new() };
            let Sections { owner, label, envelope, parts, .. } = sections;
            index.note(&record, place, Noted { owner, label, envelope, parts, body: &body });
        }
        if is_copied {
            sections.body.clear();
            if self.bodies.len() < BODIES_KEPT {
                self.bodies.push(sections.body);
            }
        } else {
            group.gather.append(&mut sections.body);
        }
        group.gather.put(&[0u8; 8][..octets as usize - length]);
        self.waiting += group.gather.len() - before;

        self.last.0 += 1;
        self.highest = self.highest.max(sections.stamp);
        group.last = self.last;
        group.head.count += 1;
        self.sums.extend_from_slice(&sums.octets());
        if matches!(sections.kind, Kind::Message | Kind::Part | Kind::State) {
            group.live += octets;
        }
        group.head.highest = self.highest;
        Ok((place, octets, self.last))
    }

    /// True when a copy of so many octets would take of the reserve what publications and tombstones need: a quarter of it. Copies
    /// of what does not come free could fill it, and then nobody could come back to empty the disk.
    fn is_for_states(&self, octets: u64) -> bool {
        let Some(active) = self.active.filter(|_| self.on_reserve && self.disk_full) else { return false };
        let open = self.open.as_ref().filter(|open| open.segment == active.room.segment);
        let at = open.map_or(active.room.at, |open| open.at + open.gather.len() as u64);
        at + octets > active.room.end - active.room.end / 4
    }

    /// Sees to it that there is an open group with room for a record.
    fn make_room(&mut self, octets: u64, pieces: usize, essential: bool) -> Result<(), Refused> {
        if let Some(open) = &self.open {
            let end = (open.at + open.gather.len() as u64 + octets).next_multiple_of(TEAR_UNIT);
            let fits = self.active.is_some_and(|seg| seg.room.segment == open.segment && end <= seg.room.end);
            // Beside the body's own pieces a record begins with one, and one more may close the group.
            if fits && open.gather.pieces() + pieces + 2 <= PIECES_MAX && (essential || !self.on_reserve) {
                return Ok(());
            }
        }
        let needed = (GROUP_HEAD as u64 + octets).next_multiple_of(TEAR_UNIT);
        self.close_open();
        // On a full disk nothing waits for a segment that is not there yet: it would fail with it.
        let there = |seg: Seg| !self.disk_full || seg.state == State::Ready;
        let fits = self.active.is_some_and(|seg| seg.room.at + needed <= seg.room.end && there(seg));
        let here = fits && (essential || !self.on_reserve);
        if !here {
            self.roll(needed, essential)?;
        }
        let Some(active) = self.active else { return Err(Refused::DiskFull) };
        if active.room.at == SEGMENT_HEAD as u64 {
            let segment = active.room.segment;
            self.index = Some(Builder::new(self.setup.core, segment, self.salt_of(segment)));
        }
        self.group += 1;
        self.sums.clear();
        let mut gather = self.gathers.pop().unwrap_or_default();
        gather.put(&[0u8; GROUP_HEAD]);
        self.waiting += GROUP_HEAD;
        let head = GroupHead { length: 0, count: 0, sum: 0, number: self.group, durable: 0, highest: self.highest };
        let (segment, at) = (active.room.segment, active.room.at);
        self.open = Some(Group { segment, at, head, last: self.last, live: 0, gather });
        Ok(())
    }
}

fn plain<'a>(kind: Kind, stamp: Stamp, owner: &'a [u8]) -> Sections<'a> {
    Sections {
        kind,
        flags: Flags::default(),
        stamp,
        expiry_s: 0,
        fingerprint: 0,
        random: [0; 10],
        origin: None,
        owner,
        label: b"",
        envelope: b"",
        parts: b"",
        body: Gather::new(),
    }
}

fn octets_of_parts(parts: &[Locator]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.words()).flat_map(u64::to_le_bytes).collect()
}

fn octets_of_places(places: impl Iterator<Item = Place>) -> Vec<u8> {
    places.flat_map(|place| place.to_u64().to_le_bytes()).collect()
}
