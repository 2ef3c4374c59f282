//! After a start: from the segments of all logs back to queues, states, and the places where the logs go on. Reads files through
//! [`Files`]; knows no SIP and no policy.
//!
//! Order of work: of every segment its hint is read, or where it has none the segment whole, several at a time (`file`). Either way
//! what it holds is then known as a [`Hint`]. Then each log is judged as one (`judge`): which of what is broken is damage, where the
//! log goes on. At the end all tombstones are applied to all logs' messages, per home, and only then does a user enter the directory
//! (`settle`). So a start takes as long as the disk needs for 32 octets a message, and for the segments being written.
//!
//! A broken group is *damage* when the log holds a later group that was submitted knowing it durable: what of it is
//! readable is kept, the rest is counted. It is a *torn tail* when no group says so: nobody was told it is durable, it is cut whole,
//! and the log goes on at its beginning.

mod file;
mod judge;
mod settle;

use super::directory::{Directory, UserId};
use super::disk::{DiskFault, SegmentNo};
use super::hint::Hint;
use super::layout::{self, Damage};
use super::log::LogResume;
use super::manifest::{self, Manifest};
use super::queue::Queue;
use super::record::{Extent, Locator, Place, Stamp, StateKind, extents_of};
use super::segments::{self, Segment, SegmentState, Segments};
use crate::base::net::CoreId;
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

    /// The hints of segments that were had back lately: what lay in them may still be repeated by who sent it.
    fn gone(&self) -> Vec<(CoreId, SegmentNo, Vec<u8>)> {
        Vec::new()
    }
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
    /// Fingerprints of the messages still in the logs, delivered ones included, and of those in segments that were had back lately,
    /// oldest first: as many of the youngest as were asked for.
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
    /// Segments that are there.
    pub segments: u64,
    /// Of those, the ones that were known by their hint.
    pub hinted: u64,
    /// Hints that were there and could not be believed. Their segments were read instead.
    pub hints_broken: u64,
    /// Octets read.
    pub octets: u64,
    /// Groups that are whole.
    pub groups: u64,
    /// Records in them.
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
    /// Files of segments whose making or whose end did not come to its end, and those that hold a torn tail and nothing else: nothing in
    /// them counts. They are to be removed before their log is written again.
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
    /// Hints of sealed segments that had none, or a broken one: to be written when there is time.
    pub unwritten: Vec<Hint>,
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
        let parts = homes().flat_map(|home| home.parts.iter().flat_map(|(_, parts)| extents_of(parts)));
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

/// Below this it is not worth while to start threads: what a few milliseconds read.
const ALONE_OCTETS: u64 = 8 << 20;

/// Segments read at one time, each whole in memory.
const READERS_MAX: usize = 8;

/// Reads everything. `directory` is empty before, and holds the users found after. `manifest` says which segments there are;
/// `remember` how many fingerprints a home wants.
///
/// # Errors
/// What is there cannot be trusted to be all there was, or cannot be held. Nothing on the disk was changed.
pub fn recover(
    files: &dyn Files,
    directory: &Directory,
    cores: u16,
    manifest: &Manifest,
    remember: usize,
) -> Result<Recovered, RecoveryFault> {
    assert!(cores == directory.cores() && cores > 0, "a directory knows as many homes as there are cores");
    let mut list = files.list().map_err(RecoveryFault::List)?;
    list.sort_unstable();
    let mut numbers = HashSet::new();
    if let Some((_, twice, _)) = list.iter().find(|(_, segment, _)| !numbers.insert(*segment)) {
        return Err(RecoveryFault::SegmentTwice(*twice));
    }
    if let Some(&(log, segment, octets)) = list.iter().find(|(_, _, len)| *len > layout::SEGMENT_OCTETS_MAX) {
        return Err(RecoveryFault::SegmentTooLong { log, segment, octets });
    }
    let is_there = |listed: &&manifest::Listed| listed.leaving || numbers.contains(&listed.segment);
    if let Some(missing) = manifest.segments().iter().find(|listed| !is_there(listed)) {
        return Err(RecoveryFault::SegmentMissing { log: missing.log, segment: missing.segment });
    }
    let highest_number = list.iter().map(|(_, segment, _)| segment.0.saturating_add(1)).max();
    let mut found = Recovered {
        homes: (0..cores).map(|_| HomeRecovered::default()).collect(),
        logs: vec![LogResume::default(); usize::from(cores)],
        highest_stamp: Stamp(0),
        next_segment: highest_number.unwrap_or(0),
        segments: Vec::with_capacity(list.len()),
        sealed: BTreeSet::new(),
        unwritten: Vec::new(),
        report: RecoveryReport::default(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX);
    let threads = if list.iter().map(|(_, _, len)| len).sum::<u64>() < ALONE_OCTETS { 1 } else { threads };
    let read = file::Reader { files, key: directory.key(), manifest };
    let mut read = file::read_all(&read, &list, threads)?;
    let mut hints = Vec::with_capacity(read.len());
    for log in read.chunk_by_mut(|a, b| a.log == b.log) {
        judge::judge(log, &mut found, &mut hints);
    }
    drop(read);
    found.highest_stamp = hints.iter().map(Hint::highest).max().unwrap_or_default();
    found.logs.iter_mut().for_each(|resume| resume.highest = found.highest_stamp);
    let key = directory.key();
    let read_gone = |(log, segment, octets): (CoreId, SegmentNo, Vec<u8>)| {
        Hint::read(octets.into(), log, segment, segments::salt_of(&key, segment)).ok()
    };
    let gone: Vec<Hint> = files.gone().into_iter().filter_map(read_gone).collect();
    settle::settle(directory, (&hints, &gone), threads > 1, remember, &mut found)?;
    Ok(found)
}
