//! One core's log: takes records in, says where they will lie, writes them in groups. No I/O: [`Log::turn`] says what is to be
//! written, [`Log::done`] hears what became of it.
//!
//! ```text
//!   append ──▶ open group ──full──▶ closed groups ──▶ one under way ──synced──▶ durable
//!                  └── turn, nothing under way ─────────────▲        └─failed──▶ poisoned, for good
//!
//!   segments:  active ◀── next (asked for when active is begun)
//!                 │ ◀── reserve (only tombstones and states, when no next is to be had)
//!                 └───▶ left ──all of it durable──▶ sealed: its hint is written
//! ```
//!
//! A record's place is decided when it is appended, so the places of waiting groups are fixed and groups are submitted in
//! their order, one at a time: the next starts when the previous ends, and is as large as what gathered meanwhile.

mod append;
mod chain;
mod cut;

use super::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use super::hint::Builder;
use super::layout::{self, GroupHead, SEGMENT_HEAD, TEAR_UNIT};
use super::record::Stamp;
use super::segments::{SegmentState, Segments};
use crate::base::clock::Tick;
use crate::base::crc32c::crc32c;
use crate::base::gather::Gather;
use crate::base::net::CoreId;
use chain::{Seg, State};
pub use cut::{Cut, DurableEnd};
use std::collections::VecDeque;
use std::sync::Arc;

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
    /// What the active segment holds; `None` when not all of it is known, and then it will never have a hint.
    pub index: Option<Builder>,
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

#[derive(Debug)]
struct Group {
    segment: SegmentNo,
    at: u64,
    head: GroupHead,
    last: Seq,
    /// Octets of its messages, parts and states.
    live: u64,
    gather: Gather,
}

#[derive(Debug)]
struct Flight {
    ticket: u64,
    group: u64,
    segment: SegmentNo,
    /// Where it ends in its segment.
    end: u64,
    last: Seq,
    octets: usize,
    live: u64,
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
    /// A number that was given out and never had a file.
    unused: Option<SegmentNo>,
    /// The hint of the active segment in the making.
    index: Option<Builder>,
    /// Segments that were left and are not all durable yet: which, its last group, and its hint, where all of it is known.
    hints: VecDeque<(SegmentNo, u64, Option<Builder>)>,
    salt: (SegmentNo, u32),
    /// The segment that grew last.
    grown: Option<(SegmentNo, Arc<SegmentState>)>,
    /// What is durable of the segments that are not sealed.
    ends: Vec<DurableEnd>,
    /// Segments that are not written any more, but may have groups that are not durable yet.
    leaving: Vec<SegmentNo>,
    /// Some were sealed since it was last asked.
    sealed: bool,
    open: Option<Group>,
    /// Of the open group's records, one behind the other: its own sum goes over all of them at once.
    sums: Vec<u8>,
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
    /// Empty gathers of records that were copied into their group.
    bodies: Vec<Gather>,
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
        let ends = Log::found_end(resume.active, resume.group);
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
            unused: None,
            index: resume.index,
            hints: VecDeque::new(),
            salt: (SegmentNo(u32::MAX), 0),
            grown: None,
            ends,
            leaving: Vec::new(),
            sealed: false,
            open: None,
            sums: Vec::new(),
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
            bodies: Vec::new(),
        }
    }

    /// Starts the next group when none is under way, and asks for segments ahead of need.
    pub fn turn(&mut self, out: &mut Vec<DiskOp>) {
        if self.poisoned {
            return;
        }
        self.prepare(out);
        self.seal(out);
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
        self.flight = Some(Flight {
            ticket,
            group: group.head.number,
            segment: group.segment,
            end: group.at + group.gather.len() as u64,
            last: group.last,
            octets: group.gather.len(),
            live: group.live,
        });
        let (log, segment, at) = (self.setup.core, group.segment, group.at);
        out.push(DiskOp::Commit { ticket, log, segment, at, gather: group.gather });
    }

    /// Hears the disk.
    pub fn done(&mut self, done: DiskDone) -> Option<LogEvent> {
        match done {
            DiskDone::Prepared { ticket, outcome } => self.prepared(ticket, outcome),
            DiskDone::Committed { ticket, gather, outcome } => self.committed(ticket, gather, outcome),
            DiskDone::Lost if !self.poisoned => {
                self.flight = None;
                Some(self.poison(DiskFault::Missing))
            }
            DiskDone::Lost
            | DiskDone::Read { .. }
            | DiskDone::Lent { .. }
            | DiskDone::HintWritten { .. }
            | DiskDone::Removed { .. }
            | DiskDone::Recycled { .. } => None,
        }
    }

    /// An empty gather for the body of a record, with the memory of one that was copied into its group.
    pub fn gather(&mut self) -> Gather {
        self.bodies.pop().unwrap_or_default()
    }

    /// Lets go of the memory that is kept for the next groups.
    pub fn rest(&mut self) {
        self.gathers = Vec::new();
        self.bodies = Vec::new();
        self.sums.shrink_to_fit();
    }

    /// True when a segment was sealed since the last call: there may be one too many.
    pub fn has_sealed(&mut self) -> bool {
        std::mem::take(&mut self.sealed)
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

    /// Octets that may wait.
    pub fn commit_octets(&self) -> usize {
        self.setup.commit_octets
    }

    /// Octets of a segment.
    pub fn segment_octets(&self) -> u64 {
        self.setup.segment_octets
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
            self.salt = (segment, known.map_or_else(|| self.segments.salt(segment), |known| known.segment.salt));
        }
        self.salt.1
    }

    fn state_of(&mut self, segment: SegmentNo) -> Option<&SegmentState> {
        if self.grown.as_ref().is_none_or(|(grown, _)| *grown != segment) {
            self.grown = Some((segment, self.segments.find(segment)?));
        }
        self.grown.as_ref().map(|(_, state)| &**state)
    }

    /// Seals the segments that were left and whose groups are all durable.
    fn seal_left(&mut self) {
        let (open, closed, flight) = (&self.open, &self.closed, &self.flight);
        let (segments, ends, sealed) = (&self.segments, &mut self.ends, &mut self.sealed);
        self.leaving.retain(|&left| {
            let waits = open.iter().chain(closed).any(|group| group.segment == left)
                || flight.as_ref().is_some_and(|flight| flight.segment == left);
            if !waits && let Some(state) = segments.find(left) {
                state.seal();
                *sealed = true;
            }
            if !waits {
                ends.retain(|end| end.segment != left);
            }
            waits
        });
    }

    fn close_open(&mut self) {
        let Some(mut group) = self.open.take() else { return };
        group.head.length = group.gather.len() as u32;
        group.head.sum = crc32c(&self.sums);
        let padding = group.gather.len().next_multiple_of(TEAR_UNIT as usize) - group.gather.len();
        group.gather.put(&[0u8; TEAR_UNIT as usize][..padding]);
        self.waiting += padding;
        if let Some(active) = &mut self.active
            && active.room.segment == group.segment
        {
            active.room.at = group.at + group.gather.len() as u64;
        }
        if let Some(index) = self.index.as_mut().filter(|index| index.segment() == group.segment) {
            index.note_group(group.head.number, group.head.highest, group.at + group.gather.len() as u64);
        }
        self.closed.push_back(group);
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
                self.note_end(DurableEnd { segment: flight.segment, at: flight.end, group: flight.group });
                // Before anybody is told: what is published may be written off in the same turn.
                if let Some(state) = self.state_of(flight.segment) {
                    state.add_live(flight.live);
                }
                Some(LogEvent::Durable { up_to: flight.last })
            }
            // The kernel may have dropped the dirty pages and marked them clean: nothing that follows could be believed.
            Err(fault) => Some(self.poison(fault)),
        }
    }

    fn poison(&mut self, fault: DiskFault) -> LogEvent {
        self.poisoned = true;
        // It waits for room no more.
        self.set_disk_full(false);
        self.open = None;
        self.closed.clear();
        self.waiting = 0;
        LogEvent::Failed { after: self.durable, up_to: self.last, fault }
    }
}
