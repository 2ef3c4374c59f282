//! After a start: from the segments of all logs back to queues, states, and the places where the logs go on. Reads files through
//! [`Files`]; knows no SIP and no policy.
//!
//! Order of work: every segment of every log is read and checked once. What a message, a tombstone or a state record says is kept;
//! at the end all tombstones are applied to all logs' messages, and only then does a user enter the directory.
//!
//! A broken group is *damage* when the log holds a later group that was submitted knowing it durable: what of it is
//! readable is kept, the rest is counted. It is a *torn tail* when no group says so: nobody was told it is durable, it is cut whole,
//! and the log goes on at its beginning.

mod harvest;

use super::directory::{Directory, UserId};
use super::disk::{DiskFault, SegmentNo};
use super::layout::{self, Damage, HeadFault, SEGMENT_HEAD, SegmentHead, TEAR_UNIT};
use super::log::{LogResume, Room};
use super::manifest::Manifest;
use super::queue::Queue;
use super::record::{Extent, Locator, Place, Stamp, StateKind};
use super::scan::{self, Scan};
use super::segments::{Segment, SegmentState, Segments, salt_of};
use crate::base::net::CoreId;
use harvest::{Harvest, settle};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// The data directory as recovery sees it. Blocking; used before any core runs.
pub trait Files: Sync {
    /// All segments: log, number, length in octets.
    fn list(&self) -> Result<Vec<(CoreId, SegmentNo, u64)>, DiskFault>;

    /// Fills `buffer` from `at` on; how much of it. Short at the file's end only.
    fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, buffer: &mut [u8]) -> Result<usize, DiskFault>;

    /// Makes durable what reading shows: after a crash of the process alone the kernel still holds octets that the disk does not.
    fn sync(&self, log: CoreId, segment: SegmentNo) -> Result<(), DiskFault>;

    /// The octets of a segment's hint; [`DiskFault::Missing`] where there is none.
    fn read_hint(&self, log: CoreId, segment: SegmentNo) -> Result<Vec<u8>, DiskFault>;
}

/// Why the daemon cannot start from this data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecoveryFault {
    /// The directory cannot be listed.
    List(DiskFault),
    /// A segment cannot be made durable: starting would promise what the disk does not hold.
    Sync {
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
        /// Why.
        fault: DiskFault,
    },
    /// Written by another version of deferd.
    Version {
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
        /// Of which format.
        version: u32,
    },
    /// Two files claim to be the same segment.
    SegmentTwice(SegmentNo),
    /// A file of a segment's name is longer than any segment.
    SegmentTooLong {
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
        /// Its length.
        octets: u64,
    },
    /// The manifest lists a segment that is not there.
    SegmentMissing {
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
    },
    /// A segment with something in it that the manifest does not list.
    SegmentForeign {
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
    },
    /// More users have something stored than `limits.users`: raise it.
    TooManyUsers {
        /// How many the directory has room for.
        room: usize,
    },
}

/// A state that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateRecovered {
    /// Whose business.
    pub kind: StateKind,
    /// Whose.
    pub owner: Box<[u8]>,
    /// Which of the owner's.
    pub key: Box<[u8]>,
    /// What.
    pub value: Box<[u8]>,
    /// When it was decided.
    pub stamp: Stamp,
    /// Its record.
    pub extent: Extent,
}

/// What one core takes over as home.
#[derive(Debug, Default)]
pub struct HomeRecovered {
    /// Its users with what waits for them. Counted in the directory.
    pub users: Vec<(UserId, Queue)>,
    /// Their states.
    pub states: Vec<StateRecovered>,
    /// Fingerprints of all messages still in the logs, delivered ones included, oldest first.
    pub fingerprints: Vec<(u64, Stamp)>,
    /// Messages deposited twice: not in the queues; tombstones for them are still owed.
    pub twins: Vec<Locator>,
    /// Records whose copies have taken their place, and states that newer ones have: tombstones for them are still owed.
    pub losers: Vec<Extent>,
    /// The parts of large messages in the queues, by the message's place.
    pub parts: Vec<(Place, Vec<Locator>)>,
}

/// A record or a group that is not readable and should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DamageFound {
    /// In whose log.
    pub log: CoreId,
    /// Where.
    pub place: Place,
    /// What is wrong. `Head` may stand for a whole stretch.
    pub damage: Damage,
}

/// At most this many places are listed; all are counted. A log of which more is broken is a broken disk.
pub const DAMAGE_LISTED_MAX: usize = 1_000;

/// What recovery saw.
#[derive(Clone, Default, Debug)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: u64,
    /// Octets read.
    pub octets: u64,
    /// Groups that were whole.
    pub groups: u64,
    /// Records that passed.
    pub records: u64,
    /// Messages that wait.
    pub messages: u64,
    /// Messages a tombstone names.
    pub dead: u64,
    /// Users with something waiting.
    pub users: u64,
    /// Findings of damage.
    pub damaged: u64,
    /// The first of them.
    pub damage: Vec<DamageFound>,
    /// Torn tails that were cut: whose log, where.
    pub torn: Vec<(CoreId, Place)>,
    /// Files of segments whose making did not end. They may be removed.
    pub unfinished: Vec<(CoreId, SegmentNo)>,
}

impl RecoveryReport {
    fn damaged(&mut self, log: CoreId, segment: SegmentNo, at: u64, damage: Damage) {
        self.damaged += 1;
        if self.damage.len() < DAMAGE_LISTED_MAX {
            self.damage.push(DamageFound { log, place: Place { segment, offset: (at / 8) as u32 }, damage });
        }
    }
}

/// Everything that was found.
#[derive(Debug)]
pub struct Recovered {
    /// Per core, what it is home of.
    pub homes: Vec<HomeRecovered>,
    /// Per core, where its log goes on.
    pub logs: Vec<LogResume>,
    /// The highest stamp of all.
    pub highest_stamp: Stamp,
    /// The lowest segment number above all that are there.
    pub next_segment: u32,
    /// Every segment with its log.
    pub segments: Vec<(SegmentNo, Segment)>,
    /// Of those, the ones that are written no more and could be read whole: when nothing in them is alive, they may go.
    pub sealed: BTreeSet<SegmentNo>,
    /// Counts.
    pub report: RecoveryReport,
}

impl Recovered {
    /// The table of segments. `reserved_from`: the manifest's `reserved_to` as it was found, `reserved_to`: as it was then written.
    pub fn segments(&self, reserved_from: u32, reserved_to: u32, key: [u8; 16]) -> Arc<Segments> {
        let segments = Segments::new(self.next_segment.max(reserved_from), reserved_to, key);
        for (number, segment) in &self.segments {
            let state = segments.insert(*number, *segment);
            if self.sealed.contains(number) {
                state.seal();
            }
        }
        let homes = || self.homes.iter();
        let queued = homes().flat_map(|home| home.users.iter().flat_map(|(_, queue)| queue.iter()));
        let messages = queued.chain(homes().flat_map(|home| &home.twins)).map(Locator::extent);
        let parts = homes().flat_map(|home| home.parts.iter().flat_map(|(_, parts)| parts)).map(Locator::extent);
        let states = homes().flat_map(|home| home.states.iter().map(|state| state.extent));
        let losers = homes().flat_map(|home| home.losers.iter().copied());
        let mut known: Option<(SegmentNo, Arc<SegmentState>)> = None;
        for extent in messages.chain(parts).chain(states).chain(losers) {
            let segment = extent.place.segment;
            if known.as_ref().is_none_or(|(number, _)| *number != segment) {
                known = segments.find(segment).map(|state| (segment, state));
            }
            if let Some((_, state)) = &known {
                state.add_live(extent.octets);
            }
        }
        Arc::new(segments)
    }
}

struct SegmentFile {
    segment: SegmentNo,
    salt: u32,
    len: u64,
    /// Its header did not pass.
    headless: bool,
    /// The disk did not give all of it.
    unread: bool,
    scan: Scan,
}

/// Reads everything. `directory` is empty before, and holds the users found after.
pub fn recover(
    files: &dyn Files,
    directory: &Directory,
    cores: u16,
    manifest: &Manifest,
) -> Result<Recovered, RecoveryFault> {
    assert!(cores == directory.cores() && cores > 0, "a directory knows as many homes as there are cores");
    let _ = manifest;
    let mut list = files.list().map_err(RecoveryFault::List)?;
    list.sort_unstable();
    let mut numbers = HashSet::new();
    if let Some((_, twice, _)) = list.iter().find(|(_, segment, _)| !numbers.insert(*segment)) {
        return Err(RecoveryFault::SegmentTwice(*twice));
    }
    let mut found = Recovered {
        homes: (0..cores).map(|_| HomeRecovered::default()).collect(),
        logs: vec![LogResume::default(); usize::from(cores)],
        highest_stamp: Stamp(0),
        next_segment: list.iter().map(|(_, segment, _)| segment.0.saturating_add(1)).max().unwrap_or(0),
        segments: Vec::with_capacity(list.len()),
        sealed: BTreeSet::new(),
        report: RecoveryReport::default(),
    };
    let mut harvest = Harvest::default();
    for log in list.chunk_by(|a, b| a.0 == b.0) {
        read_log(files, directory.key(), log, &mut found, &mut harvest)?;
    }
    found.highest_stamp = harvest.highest;
    found.logs.iter_mut().for_each(|resume| resume.highest = harvest.highest);
    settle(directory, harvest, &mut found)?;
    Ok(found)
}

/// One log: all its segments are read, and harvested where they are whole; what is broken is judged when all have been seen, for
/// the highest durable mark stands in the last groups.
fn read_log(
    files: &dyn Files,
    key: [u8; 16],
    list: &[(CoreId, SegmentNo, u64)],
    found: &mut Recovered,
    harvest: &mut Harvest,
) -> Result<(), RecoveryFault> {
    let Some(&(log, ..)) = list.first() else { return Ok(()) };
    let mut scanned: Vec<SegmentFile> = Vec::with_capacity(list.len());
    let mut page = Vec::new();
    for &(_, segment, len) in list {
        if len > layout::SEGMENT_OCTETS_MAX {
            return Err(RecoveryFault::SegmentTooLong { log, segment, octets: len });
        }
        files.sync(log, segment).map_err(|fault| RecoveryFault::Sync { log, segment, fault })?;
        let unread = read_segment(files, log, segment, len, &mut page);
        found.report.segments += 1;
        found.report.octets += page.len() as u64;
        let head = SegmentHead::decode(&page);
        if let Err(HeadFault::Version(version)) = head {
            return Err(RecoveryFault::Version { log, segment, version });
        }
        let head = head.ok().filter(|head| head.log == log && head.segment == segment);
        let salt = head.map_or_else(|| salt_of(&key, segment), |head| head.salt);
        let scan = scan::groups(&page, segment, salt);
        if let Some((at, fault)) = unread {
            let errno = if let DiskFault::Errno(errno) = fault { errno } else { 0 };
            found.report.damaged(log, segment, at, Damage::Unreadable(errno));
        }
        let empty = scan.groups.is_empty() && scan.gaps.is_empty() && unread.is_none();
        if empty && head.is_none_or(|head| head.octets > len) {
            found.report.unfinished.push((log, segment));
            continue;
        }
        if head.is_none() {
            found.report.damaged(log, segment, 0, Damage::Head);
        }
        found.segments.push((segment, Segment { log, salt, octets: len }));
        // A whole group is kept whatever the others say, so a healthy log is read once.
        for group in scan.groups.iter().filter(|group| group.whole) {
            found.report.groups += 1;
            harvest.group(&page, log, segment, salt, group, &mut found.report);
        }
        scanned.push(SegmentFile { segment, salt, len, headless: head.is_none(), unread: unread.is_some(), scan });
    }

    let all = || scanned.iter().flat_map(|file| &file.scan.groups);
    let durable = all().map(|group| group.head.durable).max().unwrap_or(0);
    let whole: HashSet<u64> = all().filter(|group| group.whole).map(|group| group.head.number).collect();
    let begun: HashSet<u64> = all().map(|group| group.head.number).collect();
    let last = whole.iter().copied().chain([durable]).max().unwrap_or(0);
    let newest = scanned.iter().rev().find(|file| file.scan.groups.iter().any(|group| group.head.number == last));
    let newest = newest.map(|file| file.segment);

    let mut resume = LogResume { group: last, ..LogResume::default() };
    for file in &scanned {
        let SegmentFile { segment, len, .. } = *file;
        let place = |at: u64| Place { segment, offset: (at / 8) as u32 };
        let mut used_to = SEGMENT_HEAD as u64;
        let mut lost_any = file.headless || file.unread;
        let mut held = false;
        for group in &file.scan.groups {
            if group.whole {
                used_to = used_to.max(group.end);
            } else if whole.contains(&group.head.number) {
                // The rest of a tail cut before: its number was written again elsewhere.
            } else if group.head.number <= durable {
                if !held {
                    read_segment(files, log, segment, len, &mut page);
                    held = true;
                }
                used_to = used_to.max(group.end);
                harvest.group(&page, log, segment, file.salt, group, &mut found.report);
            } else {
                found.report.torn.push((log, place(group.at)));
            }
        }
        for gap in &file.scan.gaps {
            // What follows group n and has no header was group n + 1, unless that lies elsewhere and this is a rest of a tail cut before.
            let missing = gap.after + 1;
            let known = gap.after == 0 && newest.is_some_and(|newest| segment < newest);
            let lost = if gap.after == 0 { known } else { missing <= durable && !begun.contains(&missing) };
            if gap.inside && !begun.contains(&missing) || lost {
                found.report.damaged(log, segment, gap.at, Damage::Head);
                lost_any = true;
            } else if !begun.contains(&missing) && (gap.after == last || gap.after == 0) {
                found.report.torn.push((log, place(gap.at)));
            }
        }
        let room = Room { segment, at: used_to.next_multiple_of(TEAR_UNIT), end: len };
        if file.unread {
            // What the disk does not give today may be there tomorrow: nothing is written over it.
        } else if Some(segment) == newest {
            resume.active = Some(room);
        } else if used_to == SEGMENT_HEAD as u64 && !lost_any {
            resume.spare.push(room);
        } else {
            found.sealed.insert(segment);
        }
    }
    if usize::from(log.0) >= found.logs.len() {
        // A log of a core that is no more: nobody writes it.
        found.sealed.extend(resume.spare.drain(..).chain(resume.active.take()).map(|room| room.segment));
    }
    if let Some(slot) = found.logs.get_mut(log.index()) {
        *slot = resume;
    }
    Ok(())
}

/// Reads a segment whole. What the disk does not give stays zero, and is found to be missing; where the first of that is, and why.
fn read_segment(
    files: &dyn Files,
    log: CoreId,
    segment: SegmentNo,
    len: u64,
    page: &mut Vec<u8>,
) -> Option<(u64, DiskFault)> {
    page.clear();
    page.resize(usize::try_from(len).unwrap_or(0), 0);
    fill(files, log, segment, 0, page, 1 << 20)
}

/// Reads in steps; a step that fails is read again in smaller ones, down to 4 KiB, so that one bad sector costs one page.
fn fill(
    files: &dyn Files,
    log: CoreId,
    segment: SegmentNo,
    at: u64,
    page: &mut [u8],
    step: usize,
) -> Option<(u64, DiskFault)> {
    let mut unread = None;
    for (number, piece) in page.chunks_mut(step).enumerate() {
        let at = at + (number * step) as u64;
        let mut done = 0;
        while done < piece.len() {
            match files.read_at(log, segment, at + done as u64, &mut piece[done..]) {
                Ok(0) => break,
                Ok(read) => done += read.min(piece.len() - done),
                Err(_) if step > 4_096 => {
                    unread = unread.or(fill(files, log, segment, at + done as u64, &mut piece[done..], 4_096));
                    break;
                }
                Err(fault) => {
                    piece[done..].fill(0);
                    unread = unread.or(Some((at + done as u64, fault)));
                    break;
                }
            }
        }
    }
    unread
}
