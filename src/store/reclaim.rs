//! Segments had back: which are to go, and how one goes. For the log of one core and those of cores that are no more.
//!
//! ```text
//!   idle ──too little alive──▶ (wanted: homes copy forward)
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

use super::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use super::hint::Hint;
use super::layout::{SEGMENT_HEAD, SegmentHead};
use super::log::{LOADER_TICKET, Log, Refused, Room, Seq};
use super::reason::{self, Ending};
use super::record::{Kind, Place};
use super::scan;
use super::segments::{Segment, SegmentState, Segments};
use crate::base::clock::Tick;
use crate::base::net::CoreId;
use bytes::BytesMut;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Segments are wanted when the files have more than this many hundredths of what is alive in them. The bound that is promised
/// is 150: the rest is for what passes while copies are made.
const FILES_PERCENT: u64 = 135;

/// And are not wanted any more below this: so that it is done in a few large steps.
const ENOUGH_PERCENT: u64 = 120;

/// Whatever is alive, so many segments are left alone.
const FIXED_SEGMENTS: u64 = 2;

/// Segments of one log that are wanted at one time and not spent: 16 of 64 MiB are a gibibyte to be copied at most.
const WANTED_MAX: usize = 16;

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

/// How much there is, of the logs this core looks after.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Octets of all segment files.
    pub disk_octets: u64,
    /// Octets of records that somebody needs.
    pub live_octets: u64,
    /// Segments that are written no more.
    pub sealed: u64,
    /// Of those, the ones being copied out of.
    pub wanted: u64,
    /// Segments that are written, or wait to be.
    pub open: u64,
    /// Octets of the sealed segments' files.
    pub sealed_octets: u64,
    /// Octets alive in them.
    pub sealed_live: u64,
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
        self.usage = usage(&own);
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
        if let Some((number, state)) = own.iter().find(|(_, state)| state.is_spent() && self.may_go(state, log)) {
            let ticket = self.ticket();
            out.push(DiskOp::ReadHint { ticket, log: state.segment.log, segment: *number });
            self.step = Step::ReadingHint(*number);
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
        let victims = victims(&own, log.segment_octets());
        if victims.is_empty() {
            return None;
        }
        tracing::debug!(core = self.core.0, ?victims, "what is alive in these segments is copied forward");
        self.segments.want(&victims);
        self.look_at = now + LOOK_CLOSELY;
        Some(Wish::Ring)
    }

    /// A spent segment stays while it is no burden: its fingerprints tell a start which messages were here already.
    fn may_go(&self, state: &SegmentState, log: &Log) -> bool {
        let allowed = self.usage.sealed_live * ENOUGH_PERCENT / 100 + FIXED_SEGMENTS * log.segment_octets();
        let adopted = state.segment.log != self.core;
        state.is_wanted() || adopted || self.segments.is_short() || self.usage.sealed_octets > allowed
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
                let Some(Segment { log: whose, salt, .. }) = self.segments.find(number).map(|state| state.segment)
                else {
                    self.step = Step::Idle;
                    return None;
                };
                match outcome.ok().and_then(|()| Hint::read(buffer.freeze(), whose, number, salt).ok()) {
                    Some(hint) => {
                        let said = Said { dead: hint.endings().collect(), retained: hint.marks().collect() };
                        return self.carry(now, number, said, log, out);
                    }
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
                    return self.carry(now, number, said(&buffer, number, salt), log, out);
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
        let (dead, retained) = said.of_others(number, &self.segments);
        let mut last = None;
        for (endings, kind) in [(dead, Kind::Tombstones), (retained, Kind::Retained)] {
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

fn usage(own: &[(SegmentNo, Arc<SegmentState>)]) -> Usage {
    let mut usage = Usage::default();
    for (_, state) in own {
        usage.disk_octets += state.segment.octets;
        usage.live_octets += state.live();
        usage.sealed += u64::from(state.is_sealed());
        usage.wanted += u64::from(state.is_wanted());
        usage.open += u64::from(!state.is_sealed());
        if state.is_sealed() {
            usage.sealed_octets += state.segment.octets;
            usage.sealed_live += state.live();
        }
    }
    usage
}

/// Which segments are to be copied out of: those with the least alive in them, until the rest is dense enough.
fn victims(own: &[(SegmentNo, Arc<SegmentState>)], segment_octets: u64) -> Vec<SegmentNo> {
    let busy = own.iter().filter(|(_, state)| state.is_wanted() && !state.is_spent()).count();
    let mut sealed: Vec<(u64, u64, SegmentNo)> = own
        .iter()
        .filter(|(_, state)| state.is_sealed() && !state.is_wanted())
        .map(|(number, state)| (state.live(), state.segment.octets, *number))
        .collect();
    let (mut live, mut files) = sealed.iter().fold((0, 0), |sum, (live, octets, _)| (sum.0 + live, sum.1 + octets));
    let fixed = FIXED_SEGMENTS * segment_octets;
    let above = |percent: u64, live: u64, files: u64| files.saturating_sub(fixed) > live.saturating_mul(percent) / 100;
    if !above(FILES_PERCENT, live, files) {
        return Vec::new();
    }
    // By the share that is alive, compared without dividing.
    sealed.sort_unstable_by(|a, b| {
        (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1))).then(a.2.cmp(&b.2))
    });
    let mut victims = Vec::new();
    for (alive, octets, number) in sealed {
        if !above(ENOUGH_PERCENT, live, files) || busy + victims.len() >= WANTED_MAX {
            break;
        }
        // What is alive of it is alive elsewhere then.
        (live, files) = (live.saturating_sub(alive), files.saturating_sub(octets));
        victims.push(number);
    }
    victims
}

/// What a segment's tombstones and marks say, of whichever segments.
#[derive(Default)]
struct Said {
    dead: Vec<Ending>,
    retained: Vec<Ending>,
}

impl Said {
    /// Of those in other segments that are still there, each once, and that with its reason where there is one.
    fn of_others(self, number: SegmentNo, segments: &Segments) -> (Vec<Ending>, Vec<Ending>) {
        let there: BTreeSet<SegmentNo> = segments.list().into_iter().map(|(number, _)| number).collect();
        // Of two of one place the higher is kept. A reason that is known is above one that is not.
        let sift = |mut endings: Vec<Ending>, rank: fn(&Ending) -> (Place, bool, Ending)| {
            endings.retain(|ending| ending.place.segment != number && there.contains(&ending.place.segment));
            endings.sort_unstable_by_key(|ending| Reverse(rank(ending)));
            endings.dedup_by_key(|ending| ending.place);
            endings
        };
        let dead = sift(self.dead, |ending| (ending.place, true, *ending));
        // What was kept beyond its time and had later was had.
        let retained = sift(self.retained, |ending| (ending.place, ending.reason.is_had(), *ending));
        (dead, retained)
    }
}

/// What a segment without a hint says.
fn said(page: &[u8], number: SegmentNo, salt: u32) -> Said {
    let mut said = Said::default();
    for group in scan::groups(page, number, salt).groups {
        let at = usize::try_from(group.at).unwrap_or(usize::MAX);
        // Of a broken group, what is readable: as recovery does.
        scan::records(page, at, &group.head, number, salt, |_, record| {
            let Ok(view) = record else { return };
            let into = match view.head.kind {
                Kind::Tombstones => &mut said.dead,
                Kind::Retained => &mut said.retained,
                _ => return,
            };
            into.extend(reason::endings(view.label.of(page), view.envelope.of(page), view.head.stamp));
        });
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reason::Reason;

    fn table(shares: &[(u64, u64)]) -> (Segments, Vec<(SegmentNo, Arc<SegmentState>)>) {
        let segments = Segments::new(100, 1_000, [0; 16]);
        for (number, (live, octets)) in shares.iter().enumerate() {
            let segment = Segment { log: CoreId(0), salt: 0, octets: *octets };
            let state = segments.insert(SegmentNo(number as u32), segment);
            state.add_live(*live);
            state.seal();
        }
        let list = segments.list();
        (segments, list)
    }

    #[test]
    fn what_is_dense_is_left_alone() {
        let (_, list) = table(&[(90, 100); 20]);
        assert_eq!(victims(&list, 100), []);
        let (_, list) = table(&[(0, 100), (1, 100)]);
        assert_eq!(victims(&list, 100), [], "so much is always left alone");
    }

    #[test]
    fn the_emptiest_go_first_and_no_more_than_needed() {
        let mut shares = vec![(95, 100); 20];
        shares.extend([(10, 100), (20, 100), (5, 100), (30, 100), (0, 100), (1, 100), (2, 100), (3, 100), (4, 100)]);
        let (segments, list) = table(&shares);
        let chosen = victims(&list, 100);
        assert_eq!(chosen[..3], [SegmentNo(24), SegmentNo(25), SegmentNo(26)]);
        assert!(chosen.len() < 9 && chosen.iter().all(|number| number.0 >= 20), "{chosen:?}");
        segments.want(&chosen);
        assert_eq!(victims(&segments.list(), 100), [], "those under way count no more");
    }

    #[test]
    fn what_is_carried_over_of_marks_says_had_where_one_of_them_does() {
        let (segments, _) = table(&[(0, 100); 3]);
        let of = |offset, reason, at_s| Ending { place: Place { segment: SegmentNo(1), offset }, reason, at_s };
        let own = Ending { place: Place { segment: SegmentNo(0), offset: 9 }, reason: Reason::Expired, at_s: 1 };
        let (missed, had, unsaid) = (Reason::Expired, Reason::Delivered, Reason::Unknown);
        let retained = vec![
            of(1, missed, 8),
            of(2, had, 9),
            of(2, missed, 8),
            of(3, missed, 8),
            of(3, unsaid, 0),
            of(4, unsaid, 0),
            of(4, had, 9),
            own,
        ];
        let dead = vec![of(5, unsaid, 0), of(5, missed, 8), of(5, had, 9), own];
        let (dead, mut retained) = Said { dead, retained }.of_others(SegmentNo(0), &segments);
        assert_eq!(dead, [of(5, missed, 8)], "of tombstones any that is known will do");
        retained.sort_unstable();
        assert_eq!(retained, [of(1, missed, 8), of(2, had, 9), of(3, unsaid, 0), of(4, had, 9)]);
    }

    #[test]
    fn tickets_are_told_apart() {
        let mut reclaim = Reclaim::new(CoreId(0), 1, Arc::new(Segments::new(0, 1, [0; 16])));
        let ticket = reclaim.ticket();
        assert!(is_reclaim_ticket(ticket) && !super::super::log::is_loader_ticket(ticket));
        assert!(!is_reclaim_ticket(LOADER_TICKET | 5) && !is_reclaim_ticket(7));
        assert!(!is_reclaim_ticket(u64::MAX), "a loader counts as far as it likes");
    }
}
