//! Segments had back: which are to go, and how one goes. For the log of one core and those of cores that are no more.
//!
//! ```text
//!   idle ──too little alive──▶ (wanted, or skimmed: homes copy forward)
//!     │
//!     └─one is spent─▶ reading ──▶ carrying ──durable──▶ going ──▶ idle
//!                         what it says of others          removed or recycled
//! ```
//! What it says of others stands in its hint, which is a fiftieth of it; one without a hint is read whole. The hint outlives the
//! segment for as long as what lay in it may be repeated by its sender (`uring::gone`).
//!
//! A segment is *spent* when it is sealed and nothing in it is alive. What it says of records in other segments (tombstones and marks)
//! must outlive it as long as those segments are there: it is appended once more before the file goes. A segment is forgotten
//! only when its file is gone durably, so no tombstone is dropped too early, whatever crashes when.
//!
//! Knows files and places. Does not know whose the records are: what is alive is copied by its home (`deferred::forward`).

mod choice;
mod said;

pub use choice::Usage;

use super::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use super::hint::Hint;
use super::layout::{SEGMENT_HEAD, SegmentHead};
use super::log::{LOADER_TICKET, Log, Refused, Room, Seq};
use super::record::Kind;
use super::segments::{Segment, SegmentState, Segments};
use crate::base::clock::Tick;
use crate::base::net::CoreId;
use bytes::BytesMut;
use choice::{Faint, victims};
use said::Said;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Recycled segments that wait for their next use. Two cover the next and the reserve; more would be disk that is neither alive nor
/// free for others.
const SPARES: usize = 2;

/// How often it is looked, besides when a segment was sealed: what is in segments becomes less without anything being written.
const LOOK: Duration = Duration::from_millis(250);

/// And while segments are being copied out of, which are spent any moment. A look is some ten ns a segment.
const LOOK_CLOSELY: Duration = Duration::from_millis(25);

/// What could not be read, written or removed is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// On a full disk after this: another core may have taken for a moment what a manifest needs, and what is had back is what is lacking.
const AGAIN_IF_FULL: Duration = Duration::from_secs(1);

/// A hint that is not there may be in the making: a start writes those that are missing while the cores run already. So long they
/// have, once in a life: what goes without a hint leaves nothing by which a repetition is known after the next crash.
const HINTS_WITHIN: Duration = Duration::from_secs(2);

/// Places in one record: 8 KiB, and 5 KiB of why and when.
const PLACES_A_RECORD: usize = 1_024;

/// A segment goes before it has to when what it says of others is no more than a sixty-fourth of it: that is written again. One that
/// says more stays while it is no burden, so that segments which fill and empty all day do not carry around with them what
/// millions of others have lost.
const SAYS_LITTLE: u64 = 64;

/// What it says of segments that are gone meanwhile counts no more: it is read again after this. A hint is a mebibyte.
const JUDGED_AGAIN: Duration = Duration::from_secs(60);

/// Bit of every ticket given here; a log's never has it, and a loader's has another.
const RECLAIM_TICKET: u64 = 1 << 62;

/// True for a ticket that a [`Reclaim`] gave.
pub fn is_reclaim_ticket(ticket: u64) -> bool {
    ticket & LOADER_TICKET == 0 && ticket & RECLAIM_TICKET != 0
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Idle,
    ReadingHint(SegmentNo),
    /// All of it: it has no hint, or a broken one.
    Reading(SegmentNo),
    /// What it says of others is appended and not durable yet.
    Carrying(SegmentNo),
    /// Its file is being removed, or becomes the new segment.
    Going(SegmentNo, Option<SegmentNo>),
}

/// What the owner's turn asks of its surroundings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Segments are wanted: every core is to look ([`Segments::generation`]).
    Ring,
    /// When this append is durable, [`Reclaim::carried`] is to hear of it.
    Tell(Seq),
}

/// One core's reclaiming.
#[derive(Debug)]
pub struct Reclaim {
    core: CoreId,
    cores: u16,
    segments: Arc<Segments>,
    step: Step,
    ticket: u64,
    look_at: Tick,
    /// What could not be had back now.
    not_before: Tick,
    /// When hints that are not there will not come any more; set when one is first missed.
    hints_by: Option<Tick>,
    /// Spent segments that say much of others, or have no hint yet, and when that is looked at again.
    talkative: BTreeMap<SegmentNo, Tick>,
    faint: Faint,
    reclaimed: u64,
    usage: Usage,
}

impl Reclaim {
    /// For `core` of `cores`.
    pub fn new(core: CoreId, cores: u16, segments: Arc<Segments>) -> Reclaim {
        Reclaim {
            core,
            cores: cores.max(1),
            segments,
            step: Step::Idle,
            ticket: 0,
            look_at: Tick(0),
            not_before: Tick(0),
            hints_by: None,
            talkative: BTreeMap::new(),
            faint: Faint::default(),
            reclaimed: 0,
            usage: Usage::default(),
        }
    }

    /// Looks whether something can be had back. Come back at [`Reclaim::deadline`] at the latest.
    pub fn turn(&mut self, now: Tick, log: &mut Log, out: &mut Vec<DiskOp>) -> Option<Wish> {
        if self.step != Step::Idle || now < self.look_at {
            return None;
        }
        self.look_at = now + LOOK;
        let mut own = self.segments.list();
        own.retain(|(_, state)| state.segment.log.0 % self.cores == self.core.0);
        self.usage = Usage::of(&own);
        if self.usage.wanted > 0 {
            self.look_at = now + LOOK_CLOSELY;
        }
        if self.segments.is_held() && self.segments.is_short() {
            tracing::warn!(
                core = self.core.0,
                "the disk is full: the backup under way is given up, its segments are needed"
            );
            self.segments.break_hold();
        }
        if log.is_poisoned() || now < self.not_before || self.segments.is_held() {
            return None;
        }
        if let Some((number, whose)) = self.next_to_go(now, &own, log) {
            let ticket = self.ticket();
            out.push(DiskOp::ReadHint { ticket, log: whose, segment: number });
            self.step = Step::ReadingHint(number);
            return None;
        }
        // Kept for later, while another log can take nothing now.
        if self.segments.is_short()
            && !log.is_disk_full()
            && let Some(segment) = log.give_spare()
        {
            let ticket = self.ticket();
            out.push(DiskOp::Remove { ticket, log: self.core, segment });
            self.step = Step::Going(segment, None);
            return None;
        }
        let faint = self.faint.ripe(now, &own);
        let victims = victims(&own, log.segment_octets());
        if victims.is_empty() && faint.is_empty() {
            return None;
        }
        if !faint.is_empty() {
            self.segments.skim(&faint);
        }
        tracing::debug!(core = self.core.0, ?victims, ?faint, "what is alive in these segments is copied forward");
        if !victims.is_empty() {
            self.segments.want(&victims);
        }
        self.look_at = now + LOOK_CLOSELY;
        Some(Wish::Ring)
    }

    /// The oldest spent segment that has to go; else the oldest that the log can write anew at once: the fewer it goes round, the more
    /// of them the system still has in memory, where a write costs a third of one into a page that it must first find.
    fn next_to_go(&self, now: Tick, own: &[(SegmentNo, Arc<SegmentState>)], log: &Log) -> Option<(SegmentNo, CoreId)> {
        let mut spent = own.iter().filter(|(_, state)| state.is_spent());
        let due = spent.clone().find(|(_, state)| self.must_go(state, log));
        let found = due.or_else(|| {
            spent.find(|(number, state)| {
                log.spares() < SPARES
                    && state.segment.octets == log.segment_octets()
                    && self.talkative.get(number).is_none_or(|again| *again <= now)
            })
        });
        found.map(|(number, state)| (*number, state.segment.log))
    }

    /// A spent segment is a burden: more is kept than is to be.
    fn must_go(&self, state: &SegmentState, log: &Log) -> bool {
        let adopted = state.segment.log != self.core;
        state.is_wanted() || adopted || self.segments.is_short() || self.usage.is_too_much(log.segment_octets())
    }

    /// A segment was sealed, so that there may be one too many: the next [`Reclaim::turn`] looks.
    pub fn look_now(&mut self, now: Tick) {
        self.look_at = self.look_at.min(now);
    }

    /// When [`Reclaim::turn`] has something to look at again.
    pub fn deadline(&self) -> Tick {
        self.look_at
    }

    /// Hears the disk.
    pub fn done(&mut self, now: Tick, done: DiskDone, log: &mut Log, out: &mut Vec<DiskOp>) -> Option<Wish> {
        if done.ticket() != self.ticket | RECLAIM_TICKET {
            return None;
        }
        match (done, self.step) {
            (DiskDone::Read { buffer, outcome, .. }, Step::ReadingHint(number)) => {
                let Some(state) = self.segments.find(number) else {
                    self.step = Step::Idle;
                    return None;
                };
                let Segment { log: whose, salt, .. } = state.segment;
                let said = outcome
                    .ok()
                    .and_then(|()| Hint::read(buffer.freeze(), whose, number, salt).ok())
                    .map(|hint| Said::of_hint(&hint).of_others(number, &self.segments));
                // Never more than one group takes beside what else is under way.
                let little = (state.segment.octets / SAYS_LITTLE).min(log.commit_octets() as u64 / 8);
                if !self.must_go(&state, log) && said.as_ref().is_none_or(|said| said.octets() > little) {
                    self.talkative.insert(number, now + JUDGED_AGAIN);
                    self.step = Step::Idle;
                    self.look_at = now;
                    return None;
                }
                match said {
                    Some(said) => return self.carry(now, number, said, log, out),
                    None => {
                        let by = *self.hints_by.get_or_insert(now + HINTS_WITHIN);
                        if now >= by || log.is_disk_full() {
                            self.read_whole(number, out);
                        } else {
                            self.step = Step::Idle;
                            self.not_before = by;
                        }
                    }
                }
            }
            (DiskDone::Read { buffer, outcome, .. }, Step::Reading(number)) => match outcome {
                Ok(()) => {
                    let salt = self.segments.find(number).map_or(0, |state| state.segment.salt);
                    let said = said::said(&buffer, number, salt).of_others(number, &self.segments);
                    return self.carry(now, number, said, log, out);
                }
                Err(fault) => self.give_up(now, number, fault),
            },
            (DiskDone::Removed { outcome, .. }, Step::Going(old, None)) => match outcome {
                Ok(()) | Err(DiskFault::Missing) => self.gone(now, old),
                Err(fault) => self.give_up(now, old, fault),
            },
            (DiskDone::Recycled { outcome, .. }, Step::Going(old, Some(new))) => match outcome {
                Ok(()) => {
                    let (octets, salt) = (log.segment_octets(), self.segments.salt(new));
                    self.segments.insert(new, Segment { log: self.core, salt, octets });
                    log.offer(Room { segment: new, at: SEGMENT_HEAD as u64, end: octets });
                    self.gone(now, old);
                }
                // It went wrong half-way, and the file with it.
                Err(DiskFault::Missing) => self.gone(now, old),
                // It is tried again.
                Err(fault) => self.give_up(now, old, fault),
            },
            _ => {}
        }
        None
    }

    fn read_whole(&mut self, number: SegmentNo, out: &mut Vec<DiskOp>) {
        let Some(state) = self.segments.find(number) else {
            self.step = Step::Idle;
            return;
        };
        let Segment { log, octets, .. } = state.segment;
        let ticket = self.ticket();
        let len = u32::try_from(octets).unwrap_or(u32::MAX);
        let buffer = BytesMut::with_capacity(len as usize);
        out.push(DiskOp::Read { ticket, log, segment: number, at: 0, len, buffer });
        self.step = Step::Reading(number);
    }

    /// What a segment says of others goes into the log once more.
    fn carry(
        &mut self,
        now: Tick,
        number: SegmentNo,
        said: Said,
        log: &mut Log,
        out: &mut Vec<DiskOp>,
    ) -> Option<Wish> {
        let mut last = None;
        for (endings, kind) in [(said.dead, Kind::Tombstones), (said.retained, Kind::Retained)] {
            for endings in endings.chunks(PLACES_A_RECORD) {
                match log.append_carried(kind, endings) {
                    Ok(seq) => last = Some(seq),
                    Err(Refused::Poisoned | Refused::TooLarge) => {
                        self.step = Step::Idle;
                        self.not_before = Tick::NEVER;
                        return None;
                    }
                    Err(Refused::Full | Refused::DiskFull) => {
                        // What was appended is said twice: that does no harm.
                        self.step = Step::Idle;
                        self.not_before = now + LOOK;
                        return None;
                    }
                }
            }
        }
        self.step = Step::Carrying(number);
        match last {
            Some(seq) => Some(Wish::Tell(seq)),
            None => {
                self.carried(now, true, log, out);
                None
            }
        }
    }

    /// What the segment said of others is durable elsewhere, or will not be: the file may go, or not.
    pub fn carried(&mut self, now: Tick, durable: bool, log: &Log, out: &mut Vec<DiskOp>) {
        let Step::Carrying(number) = self.step else { return };
        let state = self.segments.find(number).filter(|_| durable && !self.segments.is_held());
        let Some(state) = state else {
            self.step = Step::Idle;
            self.not_before = now + LOOK;
            return;
        };
        let ticket = self.ticket();
        let Segment { log: whose, octets, .. } = state.segment;
        // On a disk that is full room is for who has none.
        let wanted = log.is_disk_full() || !self.segments.is_short();
        let fits = wanted && whose == self.core && octets == log.segment_octets() && log.spares() < SPARES;
        let new = if fits { self.segments.fresh() } else { None };
        match new {
            Some(new) => {
                let mut header = BytesMut::with_capacity(SEGMENT_HEAD);
                let salt = self.segments.salt(new);
                SegmentHead { log: whose, segment: new, salt, octets, recycled: true }.encode(&mut header);
                out.push(DiskOp::Recycle { ticket, log: whose, old: number, new, header });
            }
            None => out.push(DiskOp::Remove { ticket, log: whose, segment: number }),
        }
        self.step = Step::Going(number, new);
    }

    fn gone(&mut self, now: Tick, number: SegmentNo) {
        self.segments.remove(number);
        self.talkative.remove(&number);
        self.reclaimed += 1;
        self.step = Step::Idle;
        // Where one is spent the next may be: a backlog is worked off without pauses.
        self.look_at = now;
    }

    fn give_up(&mut self, now: Tick, number: SegmentNo, fault: DiskFault) {
        tracing::warn!(core = self.core.0, segment = number.0, ?fault, "a segment cannot be had back now");
        self.step = Step::Idle;
        self.not_before = now + if fault == DiskFault::Full { AGAIN_IF_FULL } else { AGAIN };
    }

    /// True while a file is being removed or used again.
    pub fn is_going(&self) -> bool {
        matches!(self.step, Step::Going(..))
    }

    /// How many segments were had back.
    pub fn reclaimed(&self) -> u64 {
        self.reclaimed
    }

    /// As of the last look.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    fn ticket(&mut self) -> u64 {
        self.ticket = (self.ticket + 1) & (RECLAIM_TICKET - 1);
        self.ticket | RECLAIM_TICKET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_told_apart() {
        let mut reclaim = Reclaim::new(CoreId(0), 1, Arc::new(Segments::new(0, 1, [0; 16])));
        let ticket = reclaim.ticket();
        assert!(is_reclaim_ticket(ticket) && !super::super::log::is_loader_ticket(ticket));
        assert!(!is_reclaim_ticket(LOADER_TICKET | 5) && !is_reclaim_ticket(7));
        assert!(!is_reclaim_ticket(u64::MAX), "a loader counts as far as it likes");
    }
}
