//! From locators back to octets: what many want is lent once, the rest is read, neighbours together; every record is checked. No I/O:
//! [`Loader::load`] says what is to be read, [`Loader::done`] hears what was.

use super::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use super::extents::{Extent, Extents, Found, Wait};
pub use super::layout::Damage;
use super::layout::{self, RecordHead};
use super::log::LOADER_TICKET;
use super::record::{Flags, Kind, Locator, MessageId, Place};
use super::segments::{Segment, Segments};
use crate::base::clock::Tick;
use crate::base::prefetch::prefetch;
use crate::base::span::Span;
use crate::base::spread::SpreadMap;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Records this close are read together: reading 16 KiB costs a disk less than starting another read.
const JOIN_GAP: u64 = 16 * 1024;

/// Joined reads end here, so that one page does not hold back more memory than a push window needs.
const EXTENT_MAX: u64 = 1024 * 1024;

/// While one record is checked, the one so many places behind it is fetched from memory.
const AHEAD: usize = 2;

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
    /// True when the sender's asserted identity is for nobody's eyes.
    pub fn is_private(&self) -> bool {
        self.head.flags.has(Flags::PRIVATE)
    }

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
    /// What is wanted, in the order of the asking, and what was found so far.
    records: Vec<Loaded>,
    /// Reads and extents it waits for.
    waits: usize,
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

/// An extent that is here.
struct Lent {
    extent: Extent,
    page: Bytes,
    salt: u32,
}

/// One core's loader.
///
/// A record is looked for in what was lent (`store/extents`); where that does not have it, it is read. So nothing depends on
/// what is lent being there, or being new.
#[derive(Debug)]
pub struct Loader {
    segments: Arc<Segments>,
    /// What was asked of `segments` before.
    known: SpreadMap<SegmentNo, Segment>,
    jobs: SpreadMap<u64, Job>,
    reads: SpreadMap<u64, Read>,
    extents: Extents,
    lends: SpreadMap<u64, Extent>,
    /// Ended by the same answer as one that [`Loader::done`] has given.
    ended: VecDeque<LoadDone>,
    /// To be asked of the disk.
    ops: Vec<DiskOp>,
    count: u64,
    octets_read: u64,
    now: Tick,
}

impl Loader {
    /// A loader that finds segments in `segments`.
    pub fn new(segments: Arc<Segments>) -> Loader {
        Loader {
            segments,
            known: SpreadMap::default(),
            jobs: SpreadMap::default(),
            reads: SpreadMap::default(),
            extents: Extents::default(),
            lends: SpreadMap::default(),
            ended: VecDeque::new(),
            ops: Vec::new(),
            count: 0,
            octets_read: 0,
            now: Tick(0),
        }
    }

    /// What time it is: what was lent is not used for ever.
    pub fn at(&mut self, now: Tick) {
        self.now = now;
    }

    /// Asks for records. `Some` at once when there is nothing to wait for: what is wanted is lent already, or gone.
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
        let records = wanted.iter().map(|&locator| Loaded { locator, outcome: Err(Damage::Missing) }).collect();
        let mut job = Job { job, owner, raw, records, waits: 0 };
        let mut order: Vec<u32> = (0..wanted.len() as u32).collect();
        if !wanted.is_sorted_by_key(Locator::place) {
            order.sort_unstable_by_key(|index| wanted[*index as usize].place());
        }
        let (mut lent, mut here, mut to_read) = (Vec::new(), Vec::with_capacity(wanted.len()), Vec::new());
        let extent_of = |index: &u32| Extent::of(&wanted[*index as usize]);
        for which in order.chunk_by(|one, next| extent_of(one) == extent_of(next)) {
            match which.first().and_then(extent_of) {
                None => to_read.extend_from_slice(which),
                Some(extent) => {
                    if let Some(page) = self.find(number, &mut job, extent, which, &mut to_read) {
                        here.extend(which.iter().map(|index| (*index, lent.len())));
                        lent.push(page);
                    }
                }
            }
        }
        self.look(&mut job, &lent, &here, &mut to_read);
        self.read(number, &mut job, &to_read);
        out.append(&mut self.ops);
        if job.waits == 0 {
            return Some(job.finish());
        }
        self.jobs.insert(number, job);
        None
    }

    /// The page of an extent that is here; else the records wait for it, or have to be read.
    fn find(
        &mut self,
        number: u64,
        job: &mut Job,
        extent: Extent,
        which: &[u32],
        to_read: &mut Vec<u32>,
    ) -> Option<Lent> {
        let octets = which.iter().map(|index| job.records[*index as usize].locator.octets()).sum();
        // What is copied forward is wanted once, and by nobody else.
        if job.raw {
            to_read.extend_from_slice(which);
            return None;
        }
        // Of a segment that is gone nothing is looked at: its file may be another by now.
        let Some(Segment { log, salt, .. }) = self.segment(extent.segment) else {
            to_read.extend_from_slice(which);
            return None;
        };
        let asked = self.extents.find(extent, octets, self.now);
        match asked {
            Found::Here(page) => return Some(Lent { extent, page, salt }),
            Found::Read => to_read.extend_from_slice(which),
            Found::Ask | Found::Coming => {
                if asked == Found::Ask {
                    let ticket = self.ticket();
                    let segment = extent.segment;
                    self.ops.push(DiskOp::Lend { ticket, log, segment, at: extent.at(), len: Extent::LEN });
                    self.lends.insert(ticket, extent);
                }
                self.extents.wait(extent, Wait { job: number, which: which.to_vec() });
                job.waits += 1;
            }
        }
        None
    }

    /// Looks records up in what was lent, each with the number of its page. What is not there as it should be is read: the page
    /// may be older than the record.
    fn look(&mut self, job: &mut Job, lent: &[Lent], which: &[(u32, usize)], to_read: &mut Vec<u32>) {
        for (at, &(index, page)) in which.iter().enumerate() {
            if let Some(&(ahead, page)) = which.get(at + AHEAD) {
                prefetch(lent[page].record(&job.records[ahead as usize].locator));
            }
            let Lent { extent, page, salt } = &lent[page];
            let loaded = &mut job.records[index as usize];
            loaded.outcome = check(page, &loaded.locator, extent.at(), *salt, job.owner.as_deref(), job.raw);
            if loaded.outcome.is_err() {
                to_read.push(index);
                self.extents.doubt(*extent);
            }
        }
    }

    /// Begins to read these records, in the order of their places, neighbours together.
    fn read(&mut self, number: u64, job: &mut Job, which: &[u32]) {
        let extent = |records: &[Loaded], index: u32| {
            let locator = &records[index as usize].locator;
            (locator.place().segment, locator.place().octets(), locator.place().octets() + locator.octets())
        };
        let mut rest = which.iter().copied().peekable();
        while let Some(first) = rest.next() {
            let (segment, at, mut end) = extent(&job.records, first);
            let mut which = vec![first];
            while let Some(next) = rest.next_if(|next| {
                let (other, from, to) = extent(&job.records, *next);
                other == segment && from <= end + JOIN_GAP && to.max(end) - at <= EXTENT_MAX
            }) {
                end = end.max(extent(&job.records, next).2);
                which.push(next);
            }
            let Some(found) = self.segment(segment) else {
                which.iter().for_each(|index| job.records[*index as usize].outcome = Err(Damage::Missing));
                continue;
            };
            let ticket = self.ticket();
            let len = (end - at) as u32;
            let buffer = BytesMut::with_capacity(len as usize);
            self.ops.push(DiskOp::Read { ticket, log: found.log, segment, at, len, buffer });
            self.reads.insert(ticket, Read { job: number, segment, at, which });
            job.waits += 1;
        }
    }

    fn ticket(&mut self) -> u64 {
        self.count += 1;
        self.count | LOADER_TICKET
    }

    /// Hears the disk; a job's records when this was the last it waited for. More may have ended with it: ask
    /// [`Loader::ended`] until `None`, then [`Loader::ask`].
    pub fn done(&mut self, done: DiskDone) -> Option<LoadDone> {
        match done {
            DiskDone::Read { ticket, buffer, outcome } => self.was_read(ticket, buffer, outcome),
            DiskDone::Lent { ticket, page, outcome } => self.was_lent(ticket, page, outcome),
            _ => {}
        }
        self.ended()
    }

    /// The next job that has ended.
    pub fn ended(&mut self) -> Option<LoadDone> {
        self.ended.pop_front()
    }

    /// What is to be asked of the disk because of its answers.
    pub fn ask(&mut self, out: &mut Vec<DiskOp>) {
        out.append(&mut self.ops);
    }

    fn was_read(&mut self, ticket: u64, buffer: BytesMut, outcome: Result<(), DiskFault>) {
        let Some(read) = self.reads.remove(&ticket) else { return };
        // Asked anew: its file may be another's since the read began.
        let salt = self.segments.find(read.segment).map(|state| state.segment.salt);
        let Some(job) = self.jobs.get_mut(&read.job) else { return };
        self.octets_read += buffer.len() as u64;
        let page = buffer.freeze();
        for index in read.which {
            let loaded = &mut job.records[index as usize];
            loaded.outcome = match (outcome, salt) {
                (Ok(()), Some(salt)) => check(&page, &loaded.locator, read.at, salt, job.owner.as_deref(), job.raw),
                (Err(DiskFault::Missing), _) | (_, None) => Err(Damage::Missing),
                (Err(DiskFault::Errno(errno)), _) => Err(Damage::Unreadable(errno)),
                (Err(DiskFault::Full), _) => Err(Damage::Unreadable(0)),
            };
        }
        job.waits -= 1;
        if job.waits == 0 {
            self.ended.extend(self.jobs.remove(&read.job).map(Job::finish));
        }
    }

    fn was_lent(&mut self, ticket: u64, page: Bytes, outcome: Result<(), DiskFault>) {
        let Some(extent) = self.lends.remove(&ticket) else { return };
        let salt = self.segment(extent.segment).map(|segment| segment.salt);
        // What the disk does not lend it may still give: a read says what is wrong, record by record.
        let lent = outcome.ok().and(salt).map(|salt| Lent { extent, page, salt });
        for wait in self.extents.arrived(extent, lent.as_ref().map(|lent| lent.page.clone()), self.now) {
            let Some(mut job) = self.jobs.remove(&wait.job) else { continue };
            let mut to_read = Vec::new();
            match &lent {
                Some(lent) => {
                    let which: Vec<_> = wait.which.iter().map(|index| (*index, 0)).collect();
                    self.look(&mut job, std::slice::from_ref(lent), &which, &mut to_read);
                }
                None => to_read = wait.which,
            }
            self.read(wait.job, &mut job, &to_read);
            job.waits -= 1;
            if job.waits == 0 {
                self.ended.push_back(job.finish());
            } else {
                self.jobs.insert(wait.job, job);
            }
        }
    }

    /// Forgets what it knows of segments whose files are gone, or will be: nobody needs anything of those, and what is lent of
    /// them keeps their files from being written anew.
    pub fn forget_gone(&mut self) {
        let (segments, extents) = (&self.segments, &mut self.extents);
        self.known.retain(|number, _| {
            let is_there = segments.find(*number).is_some_and(|state| !state.is_spent());
            if !is_there {
                extents.forget(*number);
            }
            is_there
        });
    }

    /// A segment's file is about to go, or to be another's: what was lent of it is not kept.
    pub fn forget(&mut self, segment: SegmentNo) {
        self.known.remove(&segment);
        self.extents.forget(segment);
    }

    /// Reads under way.
    pub fn reading(&self) -> usize {
        self.reads.len() + self.lends.len()
    }

    /// Octets that were read, and so copied, since the start; what was lent is not among them.
    pub fn octets_read(&self) -> u64 {
        self.octets_read
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
        LoadDone { job: self.job, records: self.records, raw: self.raw }
    }
}

impl Lent {
    /// Where a record should lie.
    fn record(&self, locator: &Locator) -> &[u8] {
        let at = (locator.place().octets() - self.extent.at()) as usize;
        self.page.get(at..at + locator.octets() as usize).unwrap_or_default()
    }
}

fn check(
    page: &Bytes,
    locator: &Locator,
    begin: u64,
    salt: u32,
    owner: Option<&[u8]>,
    raw: bool,
) -> Result<Record, Damage> {
    let at = (locator.place().octets() - begin) as usize;
    let view = layout::read_record(page, at, salt, locator.place()).map_err(|broken| broken.damage)?;
    let RecordHead { kind, stamp, random, fingerprint, .. } = view.head;
    let theirs = owner.is_none_or(|owner| view.owner.of(page) == owner);
    let suits = matches!(kind, Kind::Message | Kind::Part) || raw && kind == Kind::State;
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
