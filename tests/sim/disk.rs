//! A disk with two images of every file: what a read sees now, and what a crash leaves.
//!
//! A commit is seen at once and durable when it completes. A crash keeps, of every write under way, any choice of its
//! 512-octet sectors: old or new, never a mixture (the fault model's tear unit). A sector may rot at any time (`disk/rot.rs`).

mod rot;

pub(crate) use rot::Rotten;

use crate::trace::Trace;
use bytes::Bytes;
use deferd::base::dice::Dice;
use deferd::base::net::CoreId;
use deferd::store::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use deferd::store::hint::Hint;
use deferd::store::manifest::Manifest;
use std::collections::BTreeMap;
use std::ops::Range;

/// What tears.
const SECTOR: usize = 512;

/// Which file.
pub(crate) type Name = (CoreId, SegmentNo);

#[derive(Clone, Debug, Default)]
struct File {
    live: Vec<u8>,
    /// `None`: its directory entry is not durable.
    durable: Option<Vec<u8>>,
    /// Its hint: replaced as a whole, so there is one image of it.
    hint: Option<Bytes>,
    /// Where groups lie, in the order of their writing.
    groups: Vec<(u64, u64)>,
}

/// An operation under way.
#[derive(Debug)]
struct UnderWay {
    core: CoreId,
    op: DiskOp,
    fault: Option<DiskFault>,
}

/// What an operation that ended did to the durable image.
pub(crate) struct Ended {
    pub(crate) core: CoreId,
    pub(crate) done: DiskDone,
    /// Octets that are durable now, and their place.
    pub(crate) written: Option<Vec<u8>>,
}

/// How long the hint of a segment that was had back stays (`uring::gone`).
const KEPT_US: u64 = 64_000_000;

/// All files of the data directory.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<Name, File>,
    /// Hints of segments that were had back, and when.
    gone: BTreeMap<Name, (u64, Bytes)>,
    /// The time, for what is kept for a while only.
    pub(crate) now: u64,
    under_way: BTreeMap<u64, UnderWay>,
    next: u64,
    /// The manifest as a start finds it.
    pub(crate) manifest: Manifest,
    /// What its next writing will say beside its cause.
    sealed: Vec<(SegmentNo, u64)>,
    /// No room for new segments.
    pub(crate) full: bool,
    /// The segment of each log that was written last.
    written: BTreeMap<CoreId, SegmentNo>,
    /// Sectors that have rotted and were not written since; and how many ever did.
    rotten: Vec<(SegmentNo, Range<u64>)>,
    pub(crate) rots: u64,
    /// A log was told of a fault: it may refuse everything until the next start.
    pub(crate) hurt: bool,
}

impl Disk {
    /// Begins an operation; [`Disk::end`] with the number it returns ends it. `eio`: it will fail.
    pub(crate) fn begin(&mut self, core: CoreId, op: DiskOp, eio: bool) -> u64 {
        let mut fault = eio.then_some(DiskFault::Errno(5));
        match &op {
            DiskOp::Prepare { log, segment, octets, header, .. } => {
                if self.full {
                    fault = Some(DiskFault::Full);
                } else if self.files.contains_key(&(*log, *segment)) {
                    panic!("segment {segment:?} of {log:?} is prepared a second time");
                }
                if fault.is_none() {
                    let mut live = vec![0; *octets as usize];
                    live[..header.len()].copy_from_slice(header);
                    self.files.insert((*log, *segment), File { live, ..File::default() });
                }
            }
            DiskOp::Commit { log, segment, at, gather, .. } => {
                let twice = self.under_way.values().any(|other| match &other.op {
                    DiskOp::Commit { log: other, .. } => other == log,
                    _ => false,
                });
                assert!(!twice, "a second commit of {log:?} while one is under way");
                assert_eq!(*log, core, "a core writes only its own log");
                let octets = gather.to_vec();
                match self.files.get_mut(&(*log, *segment)) {
                    Some(file) if *at as usize + octets.len() <= file.live.len() => {
                        file.live[*at as usize..*at as usize + octets.len()].copy_from_slice(&octets);
                        // After a start a tail that was cut is written over.
                        file.groups.retain(|(group, _)| group < at);
                        file.groups.push((*at, octets.len() as u64));
                        self.written.insert(*log, *segment);
                        let written = *at..*at + octets.len() as u64;
                        self.rotten.retain(|(of, sector)| of != segment || !overlap(sector, &written));
                    }
                    Some(file) => {
                        panic!("a commit of {} octets at {at} leaves a segment of {}", octets.len(), file.live.len());
                    }
                    None => panic!("a commit into {segment:?} of {log:?}, which was not prepared"),
                }
            }
            DiskOp::Read { .. }
            | DiskOp::Lend { .. }
            | DiskOp::WriteHint { .. }
            | DiskOp::ReadHint { .. }
            | DiskOp::Remove { .. }
            | DiskOp::Recycle { .. } => {}
        }
        if fault.is_some() && !harmless(&op) {
            self.hurt = true;
        }
        self.next += 1;
        self.under_way.insert(self.next, UnderWay { core, op, fault });
        self.next
    }

    /// Ends an operation.
    pub(crate) fn end(&mut self, number: u64, dice: &mut Dice) -> Option<Ended> {
        let UnderWay { core, op, fault } = self.under_way.remove(&number)?;
        let outcome = fault.map_or(Ok(()), Err);
        let mut written = None;
        let done = match op {
            DiskOp::Prepare { ticket, log, segment, .. } => {
                if outcome.is_ok()
                    && let Some(file) = self.files.get_mut(&(log, segment))
                {
                    file.durable = Some(file.live.clone());
                    self.manifest.list(log, segment);
                    self.sealed.drain(..).for_each(|(segment, last)| self.manifest.seal(segment, last));
                }
                DiskDone::Prepared { ticket, outcome }
            }
            DiskOp::Commit { ticket, log, segment, at, gather } => {
                let octets = gather.to_vec();
                if let Some(durable) = self.files.get_mut(&(log, segment)).and_then(|file| file.durable.as_mut()) {
                    match outcome {
                        Ok(()) => durable[at as usize..at as usize + octets.len()].copy_from_slice(&octets),
                        // A failed sync says nothing about what reached the disk.
                        Err(_) => tear(durable, at as usize, &octets, dice),
                    }
                }
                written = outcome.is_ok().then_some(octets);
                DiskDone::Committed { ticket, gather, outcome }
            }
            DiskOp::Read { ticket, log, segment, at, len, mut buffer } => {
                let outcome = match (outcome, self.files.get(&(log, segment))) {
                    (Err(fault), _) => Err(fault),
                    (Ok(()), None) => Err(DiskFault::Missing),
                    (Ok(()), Some(file)) => {
                        let from = (at as usize).min(file.live.len());
                        let to = (from + len as usize).min(file.live.len());
                        buffer.extend_from_slice(&file.live[from..to]);
                        Ok(())
                    }
                };
                DiskDone::Read { ticket, buffer, outcome }
            }
            DiskOp::WriteHint { ticket, log, segment, last, octets } => {
                self.sealed.push((segment, last));
                if outcome.is_ok()
                    && !octets.is_empty()
                    && let Some(file) = self.files.get_mut(&(log, segment))
                {
                    file.hint = Some(octets);
                }
                DiskDone::HintWritten { ticket, outcome }
            }
            DiskOp::Lend { ticket, log, segment, at, len } => {
                let lent = match (outcome, self.files.get(&(log, segment))) {
                    (Err(fault), _) => Err(fault),
                    (Ok(()), None) => Err(DiskFault::Missing),
                    (Ok(()), Some(file)) => {
                        let from = (at as usize).min(file.live.len());
                        let to = (from + len as usize).min(file.live.len());
                        // What is written later does not show in it: the loader has to live with that.
                        Ok(Bytes::copy_from_slice(&file.live[from..to]))
                    }
                };
                let outcome = lent.as_ref().map(|_| ()).map_err(|fault| *fault);
                DiskDone::Lent { ticket, page: lent.unwrap_or_default(), outcome }
            }
            DiskOp::ReadHint { ticket, log, segment } => {
                let hint = self.files.get(&(log, segment)).and_then(|file| file.hint.clone());
                let outcome = outcome.and(hint.as_ref().map(|_| ()).ok_or(DiskFault::Missing));
                let buffer = hint.filter(|_| outcome.is_ok()).unwrap_or_default().into();
                DiskDone::Read { ticket, buffer, outcome }
            }
            DiskOp::Remove { ticket, log, segment } => {
                if outcome.is_ok() {
                    self.keep_hint((log, segment));
                    self.files.remove(&(log, segment));
                    self.manifest.forget(segment);
                }
                DiskDone::Removed { ticket, outcome }
            }
            DiskOp::Recycle { ticket, log, old, new, header } => {
                if outcome.is_ok() {
                    self.keep_hint((log, old));
                }
                if outcome.is_ok()
                    && let Some(mut file) = self.files.remove(&(log, old))
                {
                    file.live[..header.len()].copy_from_slice(&header);
                    file.durable = Some(file.live.clone());
                    file.groups.clear();
                    self.manifest.forget(old);
                    self.manifest.list(log, new);
                    assert!(self.files.insert((log, new), file).is_none(), "{new:?} is there already");
                }
                DiskDone::Recycled { ticket, outcome }
            }
        };
        Some(Ended { core, done, written })
    }

    /// The machine dies: what was under way is torn, what is left is what a start finds.
    pub(crate) fn crash(&mut self, dice: &mut Dice) {
        for (_, UnderWay { op, .. }) in std::mem::take(&mut self.under_way) {
            match op {
                DiskOp::Commit { log, segment, at, gather, .. } => {
                    if let Some(durable) = self.files.get_mut(&(log, segment)).and_then(|file| file.durable.as_mut()) {
                        tear(durable, at as usize, &gather.to_vec(), dice);
                    }
                }
                DiskOp::Prepare { log, segment, .. } => {
                    // No entry, an entry with some of its zeros, or all of it but for the answer.
                    if let Some(file) = self.files.get_mut(&(log, segment)) {
                        let len = match dice.between(0, 2) {
                            0 => None,
                            1 => Some(dice.between(0, file.live.len() as u64) as usize / SECTOR * SECTOR),
                            _ => Some(file.live.len()),
                        };
                        if len == Some(file.live.len()) && dice.between(0, 1) == 0 {
                            file.durable = Some(file.live.clone());
                            self.manifest.list(log, segment);
                            continue;
                        }
                        file.durable = len.map(|len| {
                            let mut durable = vec![0; len];
                            let live: Vec<u8> = file.live[..len].to_vec();
                            tear(&mut durable, 0, &live, dice);
                            durable
                        });
                    }
                }
                DiskOp::WriteHint { log, segment, octets, .. } => {
                    // Half of it lies under another name, which nobody reads.
                    if let Some(file) =
                        self.files.get_mut(&(log, segment)).filter(|_| !octets.is_empty() && dice.between(0, 1) == 0)
                    {
                        file.hint = Some(octets);
                    }
                }
                DiskOp::Remove { log, segment, .. } => {
                    // Not begun; said to be leaving; and the file gone, of which the manifest does not know yet.
                    let how_far = dice.between(0, 2);
                    if how_far > 0 {
                        self.keep_hint((log, segment));
                        self.manifest.leave(segment);
                    }
                    if how_far > 1 {
                        self.files.remove(&(log, segment));
                    }
                }
                DiskOp::Recycle { log, old, new, header, .. } => {
                    // Not begun; said to be leaving; renamed with the old header, or with some of the new one; and listed.
                    let how_far = dice.between(0, 4);
                    if how_far > 0 {
                        self.keep_hint((log, old));
                        self.manifest.leave(old);
                    }
                    if how_far > 1
                        && let Some(mut file) = self.files.remove(&(log, old))
                    {
                        match (&mut file.durable, how_far) {
                            (Some(durable), 3) => tear(durable, 0, &header, dice),
                            (Some(durable), 4) => {
                                durable[..header.len()].copy_from_slice(&header);
                                self.manifest.forget(old);
                                self.manifest.list(log, new);
                            }
                            _ => {}
                        }
                        self.files.insert((log, new), file);
                    }
                }
                DiskOp::Read { .. } | DiskOp::ReadHint { .. } | DiskOp::Lend { .. } => {}
            }
        }
        self.files.retain(|_, file| match file.durable.take() {
            Some(durable) => {
                file.live.clone_from(&durable);
                file.durable = Some(durable);
                true
            }
            None => false,
        });
        self.sealed.clear();
        self.hurt = false;
    }

    /// A segment is about to go: its hint stays, under another name.
    fn keep_hint(&mut self, name: Name) {
        let hint = self.files.get_mut(&name).and_then(|file| file.hint.take());
        let now = self.now;
        self.gone.retain(|_, (since, _)| now - *since <= KEPT_US);
        self.gone.extend(hint.map(|hint| (name, (now, hint))));
    }

    /// A start has read segments that have no hint, and writes one for each while the cores begin.
    pub(crate) fn write_hint(&mut self, hint: &Hint) {
        if let Some((_, last)) = hint.groups() {
            self.manifest.seal(hint.segment(), last);
        }
        if let Some(file) = self.files.get_mut(&(hint.log(), hint.segment())) {
            file.hint = Some(Bytes::copy_from_slice(hint.octets()));
        }
    }

    /// A start removes a file in which nothing counts.
    pub(crate) fn clear_away(&mut self, name: Name) {
        self.keep_hint(name);
        self.files.remove(&name);
        self.manifest.forget(name.1);
    }

    /// The hints of segments that were had back.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (Name, &Bytes)> {
        self.gone.iter().map(|(&name, (_, hint))| (name, hint))
    }

    /// A segment's hint.
    pub(crate) fn hint(&self, name: Name) -> Option<&Bytes> {
        self.files.get(&name)?.hint.as_ref()
    }

    /// All files by name, with their octets as a start finds them.
    pub(crate) fn durable(&self) -> impl Iterator<Item = (Name, &[u8])> {
        self.files.iter().filter_map(|(&name, file)| Some((name, file.durable.as_deref()?)))
    }

    /// What two runs of one seed must agree in: a hash of all that a start finds.
    pub(crate) fn sum(&self) -> u64 {
        let mut sum = Trace::new(false);
        for (&(log, segment), file) in &self.files {
            sum.line(u64::from(segment.0), format_args!("{} {:?}", log.0, file.hint));
            sum.octets(file.durable.as_deref().unwrap_or_default());
        }
        for (&(log, segment), (since, hint)) in &self.gone {
            sum.line(*since, format_args!("{} {} {hint:?}", log.0, segment.0));
        }
        sum.line(0, format_args!("{:?}", self.manifest));
        sum.sum().0
    }

    /// One segment as a start finds it, whichever log it is in.
    pub(crate) fn segment(&self, segment: SegmentNo) -> Option<&[u8]> {
        self.files.iter().find(|((_, number), _)| *number == segment).and_then(|(_, file)| file.durable.as_deref())
    }
}

/// True for what may fail without the log taking offence.
fn harmless(op: &DiskOp) -> bool {
    matches!(op, DiskOp::Read { .. } | DiskOp::Lend { .. } | DiskOp::WriteHint { .. } | DiskOp::ReadHint { .. })
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Writes any choice of the sectors of `octets` at `at`.
fn tear(image: &mut [u8], at: usize, octets: &[u8], dice: &mut Dice) {
    // Nothing, everything, or some of it, equally often: all three are worth meeting.
    let luck = dice.between(0, 2);
    let end = (at + octets.len()).min(image.len());
    let mut from = at;
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if luck == 1 || luck == 2 && dice.between(0, 1) == 0 {
            image[from..to].copy_from_slice(&octets[from - at..to - at]);
        }
        from = to;
    }
}
