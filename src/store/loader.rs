//! From locators back to octets: sorted, neighbouring records joined into one read, every record checked. No I/O:
//! [`Loader::load`] says what is to be read, [`Loader::done`] hears what was.

use super::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
pub use super::layout::Damage;
use super::layout::{self, RecordHead};
use super::log::LOADER_TICKET;
use super::record::{Kind, Locator, MessageId, Place};
use super::segments::{Segment, Segments};
use crate::base::span::Span;
use crate::base::spread::SpreadMap;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Records this close are read together: reading 16 KiB costs a disk less than starting another read.
const JOIN_GAP: u64 = 16 * 1024;

/// Joined reads end here, so that one page does not hold back more memory than a push window needs.
const EXTENT_MAX: u64 = 1024 * 1024;

/// A message or a part, read and checked.
#[derive(Clone, Debug)]
pub struct Record {
    /// What the spans point into. Shared by all records that were read together.
    pub page: Bytes,
    /// Its name.
    pub id: MessageId,
    /// Canonical address of record.
    pub owner: Span,
    /// What the depositor put there.
    pub envelope: Span,
    /// `Content-Type` of the body.
    pub body_type: Span,
    /// Push-ready body.
    pub body: Span,
    /// What makes a second copy recognisable.
    pub fingerprint: u64,
    pub(super) parts: Span,
    pub(super) head: RecordHead,
    pub(super) place: Place,
}

impl Record {
    /// The owner's octets.
    pub fn owner(&self) -> &[u8] {
        self.owner.of(&self.page)
    }

    /// The body, sharing the page.
    pub fn body(&self) -> Bytes {
        self.page.slice(self.body.range())
    }

    /// The part records of a large message, in order.
    pub fn parts(&self) -> impl Iterator<Item = Locator> {
        layout::parts(self.parts.of(&self.page))
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was asked for.
    pub locator: Locator,
    /// What was found.
    pub outcome: Result<Record, Damage>,
}

/// A job that is done.
#[derive(Clone, Debug)]
pub struct LoadDone {
    /// Which.
    pub job: u64,
    /// In the order in which they were asked for.
    pub records: Vec<Loaded>,
    /// It was asked for with [`Loader::load_raw`].
    pub raw: bool,
}

#[derive(Debug)]
struct Job {
    job: u64,
    owner: Option<Box<[u8]>>,
    raw: bool,
    wanted: Vec<Locator>,
    got: Vec<Option<Result<Record, Damage>>>,
    reads: usize,
}

#[derive(Debug)]
struct Read {
    /// Which job, by the loader's own count: the caller may use a number of his twice.
    job: u64,
    segment: SegmentNo,
    at: u64,
    /// Indices into the job's list.
    which: Vec<u32>,
}

/// One core's loader.
#[derive(Debug)]
pub struct Loader {
    segments: Arc<Segments>,
    /// What was asked of `segments` before.
    known: SpreadMap<SegmentNo, Segment>,
    jobs: SpreadMap<u64, Job>,
    reads: SpreadMap<u64, Read>,
    count: u64,
}

impl Loader {
    /// A loader that finds segments in `segments`.
    pub fn new(segments: Arc<Segments>) -> Loader {
        Loader {
            segments,
            known: SpreadMap::default(),
            jobs: SpreadMap::default(),
            reads: SpreadMap::default(),
            count: 0,
        }
    }

    /// Asks for records. `Some` at once when there is nothing to read: no locators, or only ones whose segments are gone.
    pub fn load(&mut self, job: u64, locators: &[Locator], out: &mut Vec<DiskOp>) -> Option<LoadDone> {
        self.start(job, None, false, locators, out)
    }

    /// Asks for records of any kind that can be copied forward, states included, whosever they are.
    pub fn load_raw(&mut self, job: u64, locators: &[Locator], out: &mut Vec<DiskOp>) -> Option<LoadDone> {
        self.start(job, None, true, locators, out)
    }

    /// Asks for records that must be `owner`'s: another's is [`Damage::NotTheOne`].
    pub fn load_owned(
        &mut self,
        job: u64,
        owner: &[u8],
        locators: &[Locator],
        out: &mut Vec<DiskOp>,
    ) -> Option<LoadDone> {
        self.start(job, Some(owner.into()), false, locators, out)
    }

    fn start(
        &mut self,
        job: u64,
        owner: Option<Box<[u8]>>,
        raw: bool,
        wanted: &[Locator],
        out: &mut Vec<DiskOp>,
    ) -> Option<LoadDone> {
        self.count += 1;
        let number = self.count;
        let mut job = Job { job, owner, raw, wanted: wanted.to_vec(), got: vec![None; wanted.len()], reads: 0 };
        let mut order: Vec<u32> = (0..wanted.len() as u32).collect();
        order.sort_unstable_by_key(|index| wanted[*index as usize].place());
        let extent = |index: u32| {
            let locator = &wanted[index as usize];
            (locator.place().segment, locator.place().octets(), locator.place().octets() + locator.octets())
        };
        let mut rest = order.into_iter().peekable();
        while let Some(first) = rest.next() {
            let (segment, at, mut end) = extent(first);
            let mut which = vec![first];
            while let Some(next) = rest.next_if(|next| {
                let (other, from, to) = extent(*next);
                other == segment && from <= end + JOIN_GAP && to.max(end) - at <= EXTENT_MAX
            }) {
                end = end.max(extent(next).2);
                which.push(next);
            }
            let Some(found) = self.segment(segment) else {
                which.iter().for_each(|index| job.got[*index as usize] = Some(Err(Damage::Missing)));
                continue;
            };
            self.count += 1;
            let ticket = self.count | LOADER_TICKET;
            let len = (end - at) as u32;
            let buffer = BytesMut::with_capacity(len as usize);
            out.push(DiskOp::Read { ticket, log: found.log, segment, at, len, buffer });
            self.reads.insert(ticket, Read { job: number, segment, at, which });
            job.reads += 1;
        }
        if job.reads == 0 {
            return Some(job.finish());
        }
        self.jobs.insert(number, job);
        None
    }

    /// Hears the disk; the job's records when this was its last read.
    pub fn done(&mut self, done: DiskDone) -> Option<LoadDone> {
        let DiskDone::Read { ticket, buffer, outcome } = done else { return None };
        let read = self.reads.remove(&ticket)?;
        let salt = self.segment(read.segment).map(|segment| segment.salt);
        let job = self.jobs.get_mut(&read.job)?;
        let page = buffer.freeze();
        for index in read.which {
            let locator = job.wanted[index as usize];
            let record = match (outcome, salt) {
                (Ok(()), Some(salt)) => check(&page, &locator, read.at, salt, job),
                (Err(DiskFault::Missing), _) | (_, None) => Err(Damage::Missing),
                (Err(DiskFault::Errno(errno)), _) => Err(Damage::Unreadable(errno)),
                (Err(DiskFault::Full), _) => Err(Damage::Unreadable(0)),
            };
            job.got[index as usize] = Some(record);
        }
        job.reads -= 1;
        if job.reads > 0 {
            return None;
        }
        self.jobs.remove(&read.job).map(Job::finish)
    }

    /// Forgets what it knows of segments whose files are gone.
    pub fn forget_gone(&mut self) {
        let segments = &self.segments;
        self.known.retain(|number, _| segments.find(*number).is_some());
    }

    /// Reads under way.
    pub fn reading(&self) -> usize {
        self.reads.len()
    }

    fn segment(&mut self, number: SegmentNo) -> Option<Segment> {
        if let Some(known) = self.known.get(&number) {
            return Some(*known);
        }
        let found = self.segments.find(number)?.segment;
        self.known.insert(number, found);
        Some(found)
    }
}

impl Job {
    fn finish(self) -> LoadDone {
        let records = self.wanted.into_iter().zip(self.got);
        let records = records.map(|(locator, got)| Loaded { locator, outcome: got.unwrap_or(Err(Damage::Missing)) });
        LoadDone { job: self.job, records: records.collect(), raw: self.raw }
    }
}

fn check(page: &Bytes, locator: &Locator, begin: u64, salt: u32, job: &Job) -> Result<Record, Damage> {
    let at = (locator.place().octets() - begin) as usize;
    let view = layout::read_record(page, at, salt, locator.place()).map_err(|broken| broken.damage)?;
    let RecordHead { kind, stamp, random, fingerprint, .. } = view.head;
    let theirs = job.owner.as_deref().is_none_or(|owner| view.owner.of(page) == owner);
    let suits = matches!(kind, Kind::Message | Kind::Part) || job.raw && kind == Kind::State;
    // The place is in the checksums; the origin is another one for a copy.
    if !suits || stamp != locator.stamp() || !theirs {
        return Err(Damage::NotTheOne);
    }
    Ok(Record {
        page: page.clone(),
        id: MessageId::new(stamp, random),
        owner: view.owner,
        envelope: view.envelope,
        body_type: view.label,
        body: view.body,
        fingerprint,
        parts: view.parts,
        head: view.head,
        place: locator.place(),
    })
}
