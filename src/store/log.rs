//! One core's log: takes records in, says where they will lie, writes them in groups. No I/O: [`Log::turn`] says what is to be
//! written, [`Log::done`] hears what became of it.
//!
//! ```text
//!   append ──▶ open group ──full──▶ closed groups ──▶ one under way ──synced──▶ durable
//!                  └── turn, nothing under way ─────────────▲        └─failed──▶ poisoned, for good
//!
//!   segments:  active ◀── next (asked for when active is half full)
//!                 ◀── reserve (only tombstones and states, when no next is to be had)
//! ```
//!
//! A record's place is decided when it is appended, so the places of waiting groups are fixed and groups are submitted in
//! their order, one at a time: the next starts when the previous ends, and is as large as what gathered meanwhile.

use super::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use super::layout::{self, GROUP_HEAD, GroupHead, RECORD_HEAD, RecordHead, SEGMENT_HEAD, SegmentHead, TEAR_UNIT};
use super::record::{Draft, Flags, Kind, Locator, Place, RECORD_OCTETS_MAX, Stamp, StateDraft, StateKind};
use super::segments::{Segment, Segments};
use crate::base::clock::Tick;
use crate::base::gather::{Gather, PIECES_MAX};
use crate::base::net::CoreId;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Number of an append. Everything up to the last durable one is durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Seq(pub u64);

/// Why a record was not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// `commit_octets` wait already: 503, and soon again.
    Full,
    /// A commit failed; this log takes nothing more in this life.
    Poisoned,
    /// No segment is to be had: the disk is full.
    DiskFull,
    /// No segment, no group or no length field could hold it.
    TooLarge,
}

/// What the log has to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogEvent {
    /// All appends up to here are durable, but those that were said to have failed.
    Durable {
        /// The last of them.
        up_to: Seq,
    },
    /// These appends never will be durable. After a failed commit they are all that were not, and that is final
    /// ([`Log::is_poisoned`]); after a failed preparation they are those that were to lie in that segment, and it is not.
    Failed {
        /// The last append before them: it and those below are durable or still under way.
        after: Seq,
        /// The last of them.
        up_to: Seq,
        /// Why.
        fault: DiskFault,
    },
}

/// What a log needs to know.
#[derive(Clone, Copy, Debug)]
pub struct LogSetup {
    /// Whose it is; also its number.
    pub core: CoreId,
    /// Octets of a segment.
    pub segment_octets: u64,
    /// Octets that may wait, the group under way included.
    pub commit_octets: usize,
}

/// A segment with room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Which.
    pub segment: SegmentNo,
    /// Where the next group may begin.
    pub at: u64,
    /// Where the file ends.
    pub end: u64,
}

/// Where a log goes on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LogResume {
    /// The segment written last.
    pub active: Option<Room>,
    /// Segments prepared and never written.
    pub spare: Vec<Room>,
    /// The last group; all up to it are durable.
    pub group: u64,
    /// The highest stamp of the log.
    pub highest: Stamp,
}

/// Bit of every ticket of a [`Loader`](super::loader::Loader); a log's never has it.
pub(crate) const LOADER_TICKET: u64 = 1 << 63;

/// True for a ticket that a [`Loader`](super::loader::Loader) gave; all others of the store are a log's.
pub fn is_loader_ticket(ticket: u64) -> bool {
    ticket & LOADER_TICKET != 0
}

/// A failed preparation is tried again at most this often.
const RETRY: Duration = Duration::from_secs(1);

/// Tombstones and states may wait beyond `commit_octets`, by a quarter of it: a flood of deposits must not keep a delivered
/// message from being forgotten.
const ESSENTIAL_SHARE: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Wanted,
    Preparing(u64),
    Ready,
}

#[derive(Clone, Copy, Debug)]
struct Seg {
    room: Room,
    state: State,
}

#[derive(Debug)]
struct Group {
    segment: SegmentNo,
    at: u64,
    head: GroupHead,
    last: Seq,
    gather: Gather,
}

#[derive(Debug)]
struct Flight {
    ticket: u64,
    group: u64,
    last: Seq,
    octets: usize,
}

struct Sections<'a> {
    kind: Kind,
    flags: Flags,
    stamp: Stamp,
    expiry_s: u32,
    fingerprint: u64,
    random: [u8; 10],
    owner: &'a [u8],
    label: &'a [u8],
    envelope: &'a [u8],
    parts: &'a [u8],
    body: Gather,
}

/// One core's log.
#[derive(Debug)]
pub struct Log {
    setup: LogSetup,
    segments: Arc<Segments>,
    active: Option<Seg>,
    next: Option<Seg>,
    reserve: Option<Seg>,
    /// More prepared segments than the three places hold, from recovery.
    spare: Vec<Room>,
    on_reserve: bool,
    salt: (SegmentNo, u32),
    open: Option<Group>,
    closed: VecDeque<Group>,
    flight: Option<Flight>,
    waiting: usize,
    group: u64,
    durable_group: u64,
    highest: Stamp,
    last: Seq,
    durable: Seq,
    poisoned: bool,
    /// A preparation failed, and none has worked since.
    disk_full: bool,
    /// The next turn may ask for a preparation although the last one failed.
    may_prepare: bool,
    retried: Tick,
    tickets: u64,
    gathers: Vec<Gather>,
}

impl Log {
    /// A log that goes on where recovery left it; `LogResume::default()` for one that never was.
    pub fn new(setup: LogSetup, resume: LogResume, segments: Arc<Segments>) -> Log {
        let least = (SEGMENT_HEAD as u64 + TEAR_UNIT) * 2;
        let segment_octets =
            setup.segment_octets.clamp(least, layout::SEGMENT_OCTETS_MAX).next_multiple_of(SEGMENT_HEAD as u64);
        let ready = |room: Room| Seg { room, state: State::Ready };
        let mut spare = resume.spare;
        spare.sort_unstable_by_key(|room| std::cmp::Reverse(room.segment));
        let active = resume.active.or_else(|| spare.pop()).map(ready);
        let reserve = spare.pop().map(ready);
        let next = spare.pop().map(ready);
        Log {
            setup: LogSetup { segment_octets, ..setup },
            segments,
            active,
            next,
            reserve,
            spare,
            on_reserve: false,
            salt: (SegmentNo(u32::MAX), 0),
            open: None,
            closed: VecDeque::new(),
            flight: None,
            waiting: 0,
            group: resume.group,
            durable_group: resume.group,
            highest: resume.highest,
            last: Seq(0),
            durable: Seq(0),
            poisoned: false,
            disk_full: false,
            may_prepare: true,
            retried: Tick(0),
            tickets: 0,
            gathers: Vec::new(),
        }
    }

    /// Takes a message in. Its locator may be published when its [`Seq`] is durable, not before.
    pub fn append_message(&mut self, draft: Draft<'_>) -> Result<(Locator, Seq), Refused> {
        assert!(draft.id.millis() == draft.stamp.millis(), "an id is made from the stamp of its message");
        let mut parts = Vec::with_capacity(draft.parts.len() * 24);
        for part in draft.parts {
            part.words().iter().for_each(|word| parts.extend_from_slice(&word.to_le_bytes()));
        }
        let (place, octets, seq) = self.append(Sections {
            kind: Kind::Message,
            flags: draft.flags,
            stamp: draft.stamp,
            expiry_s: draft.expiry_s,
            fingerprint: draft.fingerprint,
            random: draft.id.random(),
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

    /// These messages are no more, whoever wrote them. One record for all.
    pub fn append_tombstones(&mut self, places: &[Place]) -> Result<Seq, Refused> {
        self.append_tombstones_owing(places, &[])
    }

    /// These messages are no more, and that owes these reports (or ends these states): one record, so it is all or nothing.
    pub fn append_tombstones_owing(&mut self, places: &[Place], owed: &[StateDraft<'_>]) -> Result<Seq, Refused> {
        let mut body = Gather::new();
        for state in owed {
            let owner_len = u16::try_from(state.owner.len()).map_err(|_| Refused::TooLarge)?;
            let key_len = u16::try_from(state.key.len()).map_err(|_| Refused::TooLarge)?;
            let value_len = u32::try_from(state.value.len()).map_err(|_| Refused::TooLarge)?;
            body.put(&[state.kind as u8, 0, 0, 0]);
            body.put(&owner_len.to_le_bytes());
            body.put(&key_len.to_le_bytes());
            body.put(&state.stamp.0.to_le_bytes());
            body.put(&value_len.to_le_bytes());
            [state.owner, state.key, state.value].iter().for_each(|octets| body.put(octets));
        }
        let stamp = owed.iter().map(|state| state.stamp).max().unwrap_or_default();
        let envelope = octets_of_places(places);
        let sections = Sections { envelope: &envelope, body, ..plain(Kind::Tombstones, stamp, b"") };
        self.append(sections).map(|(_, _, seq)| seq)
    }

    /// The users of these messages have had them: from now on they are [`Flags::RETAINED`].
    pub fn append_retained(&mut self, places: &[Place]) -> Result<Seq, Refused> {
        let envelope = octets_of_places(places);
        let sections = Sections { envelope: &envelope, ..plain(Kind::Retained, Stamp(0), b"") };
        self.append(sections).map(|(_, _, seq)| seq)
    }

    /// A state: the latest stamp under (kind, owner, key) wins, an empty value means gone.
    pub fn append_state(
        &mut self,
        kind: StateKind,
        stamp: Stamp,
        owner: &[u8],
        key: &[u8],
        value: &[u8],
    ) -> Result<Seq, Refused> {
        let mut body = Gather::new();
        body.put(value);
        let sections = Sections { flags: Flags(kind as u8), label: key, body, ..plain(Kind::State, stamp, owner) };
        self.append(sections).map(|(_, _, seq)| seq)
    }

    /// Starts the next group when none is under way, and asks for segments ahead of need.
    pub fn turn(&mut self, out: &mut Vec<DiskOp>) {
        if self.poisoned {
            return;
        }
        self.prepare(out);
        if self.flight.is_some() {
            return;
        }
        if self.closed.is_empty() {
            self.close_open();
        }
        let Some(first) = self.closed.front() else { return };
        // Only the active segment may not be there yet: it is not left before it is.
        let waits = self.active.is_some_and(|seg| seg.room.segment == first.segment && seg.state != State::Ready);
        if waits {
            return;
        }
        let Some(mut group) = self.closed.pop_front() else { return };
        group.head.durable = self.durable_group;
        let salt = self.salt_of(group.segment);
        let seed = layout::seed(salt, group.segment, (group.at / 8) as u32);
        group.gather.patch(0, &group.head.encode(seed));
        let ticket = self.ticket();
        self.flight = Some(Flight { ticket, group: group.head.number, last: group.last, octets: group.gather.len() });
        let (log, segment, at) = (self.setup.core, group.segment, group.at);
        out.push(DiskOp::Commit { ticket, log, segment, at, gather: group.gather });
    }

    /// Hears the disk.
    pub fn done(&mut self, done: DiskDone) -> Option<LogEvent> {
        match done {
            DiskDone::Prepared { ticket, outcome } => self.prepared(ticket, outcome),
            DiskDone::Committed { ticket, gather, outcome } => self.committed(ticket, gather, outcome),
            DiskDone::Read { .. } | DiskDone::Removed { .. } => None,
        }
    }

    /// Lets the next turn try once more to prepare a segment after one could not be had; at most once a second.
    pub fn retry_prepare(&mut self, now: Tick) {
        if self.disk_full && !self.may_prepare && now - self.retried >= RETRY {
            self.retried = now;
            self.may_prepare = true;
        }
    }

    /// The last append that is durable.
    pub fn durable(&self) -> Seq {
        self.durable
    }

    /// True after a failed commit: nothing is taken in any more.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// True while no segment is to be had: [`Log::retry_prepare`] is wanted now and then.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// Octets that wait or are under way.
    pub fn waiting_octets(&self) -> usize {
        self.waiting
    }

    /// The group written last or being written, for meters: groups of this log are counted from 1.
    pub fn group(&self) -> u64 {
        self.group
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets & !LOADER_TICKET
    }

    fn salt_of(&mut self, segment: SegmentNo) -> u32 {
        if self.salt.0 != segment {
            let known = self.segments.find(segment);
            self.salt = (segment, known.map_or_else(|| self.segments.salt(segment), |known| known.salt));
        }
        self.salt.1
    }

    fn append(&mut self, mut sections: Sections<'_>) -> Result<(Place, u64, Seq), Refused> {
        if self.poisoned {
            return Err(Refused::Poisoned);
        }
        let fixed = sections.owner.len() + sections.label.len() + sections.envelope.len() + sections.parts.len();
        let length = RECORD_HEAD + fixed + sections.body.len();
        let octets = (length as u64).next_multiple_of(8);
        let group_max = self.setup.segment_octets - SEGMENT_HEAD as u64;
        let head = RecordHead {
            kind: sections.kind,
            flags: sections.flags,
            owner_len: u16::try_from(sections.owner.len()).map_err(|_| Refused::TooLarge)?,
            length: u32::try_from(length).map_err(|_| Refused::TooLarge)?,
            stamp: sections.stamp,
            birth: Place::default(),
            expiry_s: sections.expiry_s,
            label_len: u16::try_from(sections.label.len()).map_err(|_| Refused::TooLarge)?,
            parts: u16::try_from(sections.parts.len() / 24).map_err(|_| Refused::TooLarge)?,
            fingerprint: sections.fingerprint,
            random: sections.random,
            envelope_len: u32::try_from(sections.envelope.len()).map_err(|_| Refused::TooLarge)?,
        };
        let alone = GROUP_HEAD as u64 + octets;
        if octets > RECORD_OCTETS_MAX
            || alone.next_multiple_of(TEAR_UNIT) > group_max.min(self.setup.commit_octets as u64)
        {
            return Err(Refused::TooLarge);
        }
        let essential = !matches!(sections.kind, Kind::Message | Kind::Part);
        let bound = self.setup.commit_octets + if essential { self.setup.commit_octets / ESSENTIAL_SHARE } else { 0 };
        if self.waiting + alone.next_multiple_of(TEAR_UNIT) as usize > bound {
            return Err(Refused::Full);
        }
        // One write takes 1,024 pieces: a body in more than that is made one, the only copy of a body in this room.
        if sections.body.pieces() > PIECES_MAX - 8 {
            let flat = Bytes::from(sections.body.to_vec());
            sections.body = Gather::new();
            sections.body.push(flat);
        }
        self.make_room(octets, sections.body.pieces(), essential)?;
        let Some(mut group) = self.open.take() else { return Err(Refused::Full) };

        let place = Place { segment: group.segment, offset: ((group.at + group.gather.len() as u64) / 8) as u32 };
        let seed = layout::seed(self.salt_of(group.segment), place.segment, place.offset);
        let mut body_sum = seed;
        let adjacent = [sections.label, sections.envelope, sections.parts];
        for octets in adjacent.into_iter().chain(sections.body.iter()) {
            body_sum = crc32c::crc32c_append(body_sum, octets);
        }
        let (head, sums) = RecordHead { birth: place, ..head }.encode(seed, sections.owner, body_sum);
        let before = group.gather.len();
        group.gather.put(&head);
        group.gather.put(sections.owner);
        adjacent.iter().for_each(|octets| group.gather.put(octets));
        group.gather.append(&mut sections.body);
        group.gather.put(&[0u8; 8][..octets as usize - length]);
        self.waiting += group.gather.len() - before;

        self.last.0 += 1;
        self.highest = self.highest.max(sections.stamp);
        group.last = self.last;
        group.head.count += 1;
        group.head.sum = sums.fold(group.head.sum);
        group.head.highest = self.highest;
        self.open = Some(group);
        Ok((place, octets, self.last))
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
        let here =
            self.active.is_some_and(|seg| seg.room.at + needed <= seg.room.end) && (essential || !self.on_reserve);
        if !here {
            self.roll(needed, essential)?;
        }
        let Some(active) = self.active else { return Err(Refused::DiskFull) };
        self.group += 1;
        let mut gather = self.gathers.pop().unwrap_or_default();
        gather.put(&[0u8; GROUP_HEAD]);
        self.waiting += GROUP_HEAD;
        let head = GroupHead { length: 0, count: 0, sum: 0, number: self.group, durable: 0, highest: self.highest };
        self.open = Some(Group { segment: active.room.segment, at: active.room.at, head, last: self.last, gather });
        Ok(())
    }

    /// Leaves the active segment for one with `needed` octets of room.
    fn roll(&mut self, needed: u64, essential: bool) -> Result<(), Refused> {
        if self.active.is_some_and(|seg| seg.state != State::Ready) {
            // Groups wait for it; only one segment at a time is waited for.
            return Err(Refused::Full);
        }
        let fits = |seg: &Option<Seg>| seg.is_some_and(|seg| seg.room.at + needed <= seg.room.end);
        let next_serves =
            fits(&self.next) && (!self.disk_full || self.next.is_some_and(|seg| seg.state == State::Ready));
        if next_serves {
            self.active = self.next.take();
            self.on_reserve = false;
        } else if !self.disk_full
            && self.next.is_none()
            && let Some(seg) = self.wanted()
        {
            self.active = Some(seg);
            self.on_reserve = false;
        } else if essential && fits(&self.reserve) && self.reserve.is_some_and(|seg| seg.state == State::Ready) {
            self.active = self.reserve.take();
            self.on_reserve = true;
        } else {
            return Err(Refused::DiskFull);
        }
        Ok(())
    }

    /// A segment of a new number, or one that recovery found unused.
    fn wanted(&mut self) -> Option<Seg> {
        if let Some(room) = self.spare.pop() {
            return Some(Seg { room, state: State::Ready });
        }
        let segment = self.segments.fresh()?;
        let room = Room { segment, at: SEGMENT_HEAD as u64, end: self.setup.segment_octets };
        Some(Seg { room, state: State::Wanted })
    }

    fn close_open(&mut self) {
        let Some(mut group) = self.open.take() else { return };
        group.head.length = group.gather.len() as u32;
        let padding = group.gather.len().next_multiple_of(TEAR_UNIT as usize) - group.gather.len();
        group.gather.put(&[0u8; TEAR_UNIT as usize][..padding]);
        self.waiting += padding;
        if let Some(active) = &mut self.active
            && active.room.segment == group.segment
        {
            active.room.at = group.at + group.gather.len() as u64;
        }
        self.closed.push_back(group);
    }

    /// Asks for what is missing, in this order: a segment to write, the reserve, and when half is written the next.
    fn prepare(&mut self, out: &mut Vec<DiskOp>) {
        if self.disk_full && !self.may_prepare {
            return;
        }
        if self.active.is_none() {
            self.active = self.wanted();
            self.on_reserve = false;
        }
        let ready = self.active.is_some_and(|seg| seg.state == State::Ready);
        if ready && self.reserve.is_none() {
            self.reserve = self.wanted();
        }
        let half = self.active.is_some_and(|seg| seg.room.at > seg.room.end / 2) || self.on_reserve;
        if ready && half && self.next.is_none() {
            self.next = self.wanted();
        }
        for which in 0..3 {
            let seg = match which {
                0 => self.active,
                1 => self.reserve,
                _ => self.next,
            };
            let Some(mut seg) = seg.filter(|seg| seg.state == State::Wanted) else { continue };
            let (ticket, segment) = (self.ticket(), seg.room.segment);
            let (log, salt) = (self.setup.core, self.segments.salt(segment));
            let mut header = BytesMut::with_capacity(SEGMENT_HEAD);
            SegmentHead { log, segment, salt, octets: seg.room.end }.encode(&mut header);
            out.push(DiskOp::Prepare { ticket, log, segment, octets: seg.room.end, header });
            self.segments.insert(segment, Segment { log, salt });
            self.may_prepare = !self.disk_full;
            seg.state = State::Preparing(ticket);
            match which {
                0 => self.active = Some(seg),
                1 => self.reserve = Some(seg),
                _ => self.next = Some(seg),
            }
            if self.disk_full {
                return;
            }
        }
    }

    fn prepared(&mut self, ticket: u64, outcome: Result<(), DiskFault>) -> Option<LogEvent> {
        let place = [&mut self.active, &mut self.next, &mut self.reserve]
            .into_iter()
            .find(|seg| seg.is_some_and(|seg| seg.state == State::Preparing(ticket)))?;
        let Err(fault) = outcome else {
            if let Some(seg) = place {
                seg.state = State::Ready;
            }
            self.disk_full = false;
            self.may_prepare = true;
            return None;
        };
        let segment = place.take()?.room.segment;
        self.segments.remove(segment);
        self.disk_full = true;
        self.may_prepare = false;
        // What was to lie there is lost; what goes before it is not. Groups behind it can only lie in the same segment.
        let lost = |group: &Group| group.segment == segment;
        let failed = self.open.iter().chain(&self.closed).any(lost);
        self.closed.retain(|group| !lost(group));
        if self.open.as_ref().is_some_and(lost) {
            self.open = None;
        }
        if !failed {
            return None;
        }
        let left = self.open.iter().chain(&self.closed);
        self.waiting =
            left.map(|group| group.gather.len()).sum::<usize>() + self.flight.as_ref().map_or(0, |f| f.octets);
        self.group =
            self.closed.back().map_or(self.flight.as_ref().map_or(self.durable_group, |f| f.group), |g| g.head.number);
        let survivor = self.closed.back().map(|group| group.last).or(self.flight.as_ref().map(|flight| flight.last));
        Some(LogEvent::Failed { after: survivor.unwrap_or(self.durable), up_to: self.last, fault })
    }

    fn committed(&mut self, ticket: u64, mut gather: Gather, outcome: Result<(), DiskFault>) -> Option<LogEvent> {
        let flight = self.flight.take_if(|flight| flight.ticket == ticket)?;
        self.waiting -= flight.octets;
        gather.clear();
        if self.gathers.len() < 4 {
            self.gathers.push(gather);
        }
        match outcome {
            Ok(()) => {
                self.durable_group = flight.group;
                self.durable = flight.last;
                Some(LogEvent::Durable { up_to: flight.last })
            }
            Err(fault) => {
                // The kernel may have dropped the dirty pages and marked them clean: nothing that follows could be believed.
                self.poisoned = true;
                self.open = None;
                self.closed.clear();
                self.waiting = 0;
                Some(LogEvent::Failed { after: self.durable, up_to: self.last, fault })
            }
        }
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
        owner,
        label: b"",
        envelope: b"",
        parts: b"",
        body: Gather::new(),
    }
}

fn octets_of_places(places: &[Place]) -> Vec<u8> {
    places.iter().flat_map(|place| place.to_u64().to_le_bytes()).collect()
}
