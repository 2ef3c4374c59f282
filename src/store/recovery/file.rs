//! One segment: known by its hint, or read whole. Judges nothing: what is broken in it is kept beside what is not.

use super::{DAMAGE_LISTED_MAX, Files, RecoveryFault};
use crate::base::net::CoreId;
use crate::store::disk::{DiskFault, SegmentNo};
use crate::store::hint::{Builder, Hint, Noted};
use crate::store::layout::{self, Damage, HeadFault, SEGMENT_HEAD, SegmentHead};
use crate::store::manifest::Manifest;
use crate::store::record::Place;
use crate::store::scan::{self, FoundGroup, Gap};
use crate::store::segments::salt_of;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How segments are found.
pub(super) struct Reader<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) key: [u8; 16],
    pub(super) manifest: &'a Manifest,
}

/// A group that is not whole, and what of it is readable.
pub(super) struct Broken {
    pub(super) group: FoundGroup,
    pub(super) salvaged: Option<Hint>,
    pub(super) damage: Vec<(Place, Damage)>,
}

/// One segment's file.
pub(super) struct SegmentFile {
    pub(super) log: CoreId,
    pub(super) segment: SegmentNo,
    pub(super) salt: u32,
    pub(super) len: u64,
    /// Its last group, where the manifest or its hint knows that nothing was written behind it; 0: it may be written on.
    pub(super) sealed: u64,
    /// Its file was another segment before: what lies behind its groups is that one's.
    pub(super) recycled: bool,
    /// Nothing in it counts: its making did not end, or it was to be removed.
    pub(super) unfinished: bool,
    /// Its header did not pass.
    pub(super) headless: bool,
    /// The disk did not give all of it: where the first of that is.
    pub(super) unread: Option<(u64, DiskFault)>,
    /// It was known by its hint.
    pub(super) hinted: bool,
    /// A hint was there, and not to be believed.
    pub(super) hint_broken: bool,
    /// Octets read.
    pub(super) octets: u64,
    /// What its whole groups hold.
    pub(super) hint: Option<Hint>,
    /// Of those that were read: number and durable mark of each group whose header passed, whole or not.
    pub(super) begun: Vec<(u64, u64)>,
    pub(super) broken: Vec<Broken>,
    pub(super) gaps: Vec<Gap>,
}

/// Reads all, as many at a time as there are threads; in the order of the list.
pub(super) fn read_all(
    reader: &Reader<'_>,
    list: &[(CoreId, SegmentNo, u64)],
    threads: usize,
) -> Result<Vec<SegmentFile>, RecoveryFault> {
    let mut page = Vec::new();
    if threads < 2 || list.len() < 2 {
        return list.iter().map(|entry| reader.read(*entry, &mut page)).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<SegmentFile, RecoveryFault>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(list.len()) {
            scope.spawn(|| {
                let mut page = Vec::new();
                while let Some((at, entry)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, *list.get(at)?)))
                {
                    let read = reader.read(entry, &mut page);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, read));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, read)| read).collect()
}

impl Reader<'_> {
    /// `page` holds one segment after the other.
    fn read(
        &self,
        (log, segment, len): (CoreId, SegmentNo, u64),
        page: &mut Vec<u8>,
    ) -> Result<SegmentFile, RecoveryFault> {
        let listed = self.manifest.find(segment).filter(|listed| listed.log == log);
        let mut file = SegmentFile {
            log,
            segment,
            salt: salt_of(&self.key, segment),
            len,
            sealed: listed.map_or(0, |listed| listed.last),
            recycled: false,
            unfinished: listed.is_some_and(|listed| listed.leaving),
            headless: false,
            unread: None,
            hinted: false,
            hint_broken: false,
            octets: 0,
            hint: None,
            begun: Vec::new(),
            broken: Vec::new(),
            gaps: Vec::new(),
        };
        if file.unfinished {
            return Ok(file);
        }
        // A hint counts for a segment that is listed, whole, and what its name says.
        page.clear();
        page.resize(usize::try_from(len).unwrap_or(0).min(SEGMENT_HEAD), 0);
        let unread = fill(self.files, log, segment, 0, page, SEGMENT_HEAD);
        let adopted = listed.is_some_and(|listed| listed.adopted);
        if adopted && let Ok(head) = SegmentHead::decode(page) {
            file.salt = head.salt;
        }
        let is_ours = |head: &SegmentHead| head.log == log && head.segment == segment && head.salt == file.salt;
        let sound =
            unread.is_none() && SegmentHead::decode(page).is_ok_and(|head| is_ours(&head) && head.octets <= len);
        if listed.is_some() && sound && self.by_hint(&mut file) {
            return Ok(file);
        }
        self.files.sync(log, segment).map_err(|fault| RecoveryFault::Sync { log, segment, fault })?;
        page.clear();
        page.resize(usize::try_from(len).unwrap_or(0), 0);
        file.unread = fill(self.files, log, segment, 0, page, 1 << 20);
        file.octets += page.len() as u64;
        let head = SegmentHead::decode(page);
        if let Err(HeadFault::Version(version)) = head {
            return Err(RecoveryFault::Version { log, segment, version });
        }
        let head = head.ok().filter(|head| head.log == log && head.segment == segment);
        let salt = head.map_or(file.salt, |head| head.salt);
        file.recycled = head.is_some_and(|head| head.recycled);
        file.headless = head.is_none();
        let scan = scan::groups(page, segment, salt);
        let holds = !scan.groups.is_empty();
        if holds && (listed.is_none() || salt != file.salt) {
            return Err(RecoveryFault::SegmentForeign { log, segment });
        }
        let empty = !holds && file.unread.is_none() && file.sealed == 0;
        if empty && (listed.is_none() || scan.gaps.is_empty() && head.is_none_or(|head| head.octets > len)) {
            file.unfinished = true;
            return Ok(file);
        }
        file.salt = salt;
        let mut builder = Builder::new(log, segment, salt);
        for group in scan.groups {
            file.begun.push((group.head.number, group.head.durable));
            if group.whole {
                note(&mut builder, page, segment, salt, &group);
                continue;
            }
            let mut salvage = Builder::new(log, segment, salt);
            let damage = note(&mut salvage, page, segment, salt, &group);
            let salvaged = Hint::read(salvage.finish(), log, segment, salt).ok();
            file.broken.push(Broken { group, salvaged, damage });
        }
        file.hint = Hint::read(builder.finish(), log, segment, salt).ok();
        file.gaps = scan.gaps;
        Ok(file)
    }

    /// True when the hint says all there is to say.
    fn by_hint(&self, file: &mut SegmentFile) -> bool {
        let octets = match self.files.read_hint(file.log, file.segment) {
            Ok(octets) => octets,
            Err(fault) => {
                file.hint_broken = fault != DiskFault::Missing;
                return false;
            }
        };
        file.octets += octets.len() as u64;
        let hint = Hint::read(octets.into(), file.log, file.segment, file.salt).ok();
        let hint = hint.filter(|hint| hint.used_to() <= file.len);
        // One that ends before the segment does is an old one, put back by hand.
        let last = |hint: &Hint| hint.groups().map(|(_, last)| last);
        file.hint = hint.filter(|hint| last(hint).is_some_and(|last| file.sealed == 0 || last == file.sealed));
        file.hint_broken = file.hint.is_none();
        file.hinted = file.hint.is_some();
        file.sealed = file.hint.as_ref().and_then(last).unwrap_or(file.sealed);
        file.hinted
    }
}

/// Notes what is readable of a group; what is not.
fn note(builder: &mut Builder, page: &[u8], segment: SegmentNo, salt: u32, group: &FoundGroup) -> Vec<(Place, Damage)> {
    let mut damage = Vec::new();
    let at = usize::try_from(group.at).unwrap_or(usize::MAX);
    scan::records(page, at, &group.head, segment, salt, |place, record| match record {
        Ok(view) => {
            let [owner, label, envelope, parts, body] =
                [view.owner, view.label, view.envelope, view.parts, view.body].map(|span| span.of(page));
            builder.note(&view.head, place, Noted { owner, label, envelope, parts, body });
        }
        // Beyond what is listed only the count matters.
        Err(fault) if damage.len() <= DAMAGE_LISTED_MAX => damage.push((place, fault)),
        Err(_) => {}
    });
    builder.note_group(group.head.number, group.head.highest, group.end);
    damage
}

/// Reads in steps; a step that fails is read again in smaller ones, down to 4 KiB, so that one bad sector costs one page. What the
/// disk does not give stays zero, and is found to be missing; where the first of that is, and why.
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

/// What a finding is said to be where the disk gave no octets.
pub(super) fn unreadable(fault: DiskFault) -> Damage {
    layout::Damage::Unreadable(if let DiskFault::Errno(errno) = fault { errno } else { 0 })
}
