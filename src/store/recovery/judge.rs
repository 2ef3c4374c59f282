//! One log, all its segments seen: what is broken in it is damage or a tail that was cut, and where it goes on.
//!
//! A segment that was left is *sealed*: its hint or the manifest knows its last group, so what lies behind that is no loss and what
//! lies before it and is not whole is one. The others hold every group behind the last sealed one, and all of them are there:
//! segments are removed only when they are sealed. There the durable marks decide.

use super::file::{SegmentFile, unreadable};
use super::{Recovered, RecoveryReport};
use crate::base::net::CoreId;
use crate::store::disk::SegmentNo;
use crate::store::hint::{Builder, Hint};
use crate::store::layout::{Damage, SEGMENT_HEAD, TEAR_UNIT};
use crate::store::log::{LogResume, Room};
use crate::store::record::Place;
use crate::store::scan::Gap;
use crate::store::segments::Segment;
use std::collections::HashSet;

/// Which groups of a log there are.
struct Numbers {
    /// Of the segments that were read.
    whole: HashSet<u64>,
    begun: HashSet<u64>,
    /// First and last of those known by their hint.
    hinted: Vec<(u64, u64)>,
    /// The highest of which somebody was told that it is durable.
    durable: u64,
    /// The last of all.
    last: u64,
    /// One between those that no sealed segment holds is not there.
    hole: bool,
}

impl Numbers {
    fn of(files: &[SegmentFile]) -> Numbers {
        let read = || files.iter().filter(|file| !file.hinted);
        let begun: HashSet<u64> = read().flat_map(|file| &file.begun).map(|(number, _)| *number).collect();
        let broken: HashSet<u64> =
            read().flat_map(|file| &file.broken).map(|broken| broken.group.head.number).collect();
        // A number that is broken here may be whole elsewhere: a tail was cut, and its number written again.
        let mut count = std::collections::HashMap::new();
        read().flat_map(|file| &file.begun).for_each(|(number, _)| *count.entry(*number).or_insert(0u32) += 1);
        let mut broken_count = std::collections::HashMap::new();
        let each = read().flat_map(|file| &file.broken).map(|broken| broken.group.head.number);
        each.for_each(|number| *broken_count.entry(number).or_insert(0u32) += 1);
        let is_whole = |number: &&u64| !broken.contains(number) || count.get(number) > broken_count.get(number);
        let whole: HashSet<u64> = begun.iter().filter(is_whole).copied().collect();
        let hinted: Vec<(u64, u64)> =
            files.iter().filter(|file| file.hinted).filter_map(|file| file.hint.as_ref()?.groups()).collect();
        let marks = read().flat_map(|file| &file.begun).map(|(_, durable)| *durable);
        let sealed = files.iter().map(|file| file.sealed).max().unwrap_or(0);
        let durable = marks.chain([sealed]).max().unwrap_or(0);
        let last = whole.iter().copied().chain([durable]).max().unwrap_or(0);
        // Segments were had back, the last that was sealed perhaps among them: what is missing below the lowest is no hole.
        let behind = || begun.iter().copied().filter(|number| (sealed + 1..=durable).contains(number));
        let hole = behind().min().is_some_and(|lowest| (behind().count() as u64) < durable - lowest + 1);
        Numbers { whole, begun, hinted, durable, last, hole }
    }

    fn is_hinted(&self, number: u64) -> bool {
        self.hinted.iter().any(|(first, last)| (first..=last).contains(&&number))
    }

    fn is_whole(&self, number: u64) -> bool {
        self.whole.contains(&number) || self.is_hinted(number)
    }

    fn is_begun(&self, number: u64) -> bool {
        self.begun.contains(&number) || self.is_hinted(number)
    }

    /// True when the stretch was a group that somebody was told of.
    fn is_lost(&self, gap: &Gap, sealed: u64) -> bool {
        // What follows group n and has no header was group n + 1.
        let missing = gap.after + 1;
        match (gap.inside, sealed) {
            (true, _) => gap.after == 0 || !self.is_begun(missing),
            (false, 0) if gap.after == 0 => self.hole,
            (false, 0) => missing <= self.durable && !self.is_begun(missing),
            (false, sealed) => gap.after < sealed,
        }
    }
}

/// Judges the segments of one log. What they hold goes to `hints`.
pub(super) fn judge(files: &mut [SegmentFile], found: &mut Recovered, hints: &mut Vec<Hint>) {
    let Some(log) = files.first().map(|file| file.log) else { return };
    let numbers = Numbers::of(files);
    let holds = |file: &&SegmentFile| {
        let by_hint =
            file.hinted && file.hint.as_ref().and_then(Hint::groups).is_some_and(|(_, last)| last == numbers.last);
        by_hint || file.begun.iter().any(|(number, _)| *number == numbers.last)
    };
    let newest = files.iter().rev().find(holds).map(|file| file.segment);
    let written = usize::from(log.0) < found.logs.len();
    let mut resume = LogResume { group: numbers.last, ..LogResume::default() };
    for file in files {
        let report = &mut found.report;
        report.segments += 1;
        report.octets += file.octets;
        report.hints_broken += u64::from(file.hint_broken);
        if file.unfinished {
            report.unfinished.push((log, file.segment));
            continue;
        }
        report.hinted += u64::from(file.hinted);
        let is_torn = !file.broken.is_empty();
        let lost = weigh(file, &numbers, report, hints);
        let is_blank = file.sealed == 0 && !lost.any && file.hint.as_ref().is_some_and(|hint| hint.groups().is_none());
        if is_torn && is_blank && file.unread.is_none() {
            // The rest of a tail that was cut is all there is. As a spare it might lie for long, and when the group of that number that
            // counts is had back, what is left of this one would pass for it, and be damage.
            report.unfinished.push((log, file.segment));
            continue;
        }
        found.segments.push((file.segment, Segment { log, salt: file.salt, octets: file.len }));
        let Some(hint) = file.hint.take() else { continue };
        let (first, last) = hint.groups().unwrap_or((1, 0));
        report.groups += (last + 1).saturating_sub(first);
        report.records += hint.records();
        let used_to = hint.used_to().max(lost.used_to);
        let room = Room { segment: file.segment, at: used_to.next_multiple_of(TEAR_UNIT), end: file.len };
        if file.unread.is_some() {
            // What the disk does not give today may be there tomorrow: nothing is written over it.
        } else if written && file.sealed == 0 && Some(file.segment) == newest {
            resume.active = Some(room);
            resume.index = (!lost.any).then(|| Builder::resume(&hint, file.salt));
        } else if written && file.sealed == 0 && used_to == SEGMENT_HEAD as u64 && !lost.any {
            resume.spare.push(room);
        } else {
            found.sealed.insert(file.segment);
            if !file.hinted && !lost.any && hint.groups().is_some() {
                found.unwritten.push(hint.clone());
            }
        }
        hints.push(hint);
    }
    if let Some(slot) = found.logs.get_mut(log.index()) {
        *slot = resume;
    }
}

struct Lost {
    any: bool,
    /// Where the last group ends of which something was lost.
    used_to: u64,
}

/// What of a segment is damage, and what of it is a tail that was cut.
fn weigh(file: &mut SegmentFile, numbers: &Numbers, report: &mut RecoveryReport, hints: &mut Vec<Hint>) -> Lost {
    let (log, segment, sealed): (CoreId, SegmentNo, u64) = (file.log, file.segment, file.sealed);
    let place = |at: u64| Place { segment, offset: (at / 8) as u32 };
    let mut lost = Lost { any: file.headless || file.unread.is_some(), used_to: SEGMENT_HEAD as u64 };
    if let Some((at, fault)) = file.unread {
        report.damaged(log, segment, at, unreadable(fault));
    }
    if file.headless {
        report.damaged(log, segment, 0, Damage::Head);
    }
    for broken in file.broken.drain(..) {
        let number = broken.group.head.number;
        if numbers.is_whole(number) || sealed > 0 && number > sealed {
            // The rest of a tail cut before: its number was written again elsewhere.
        } else if number <= numbers.durable {
            lost.any = true;
            lost.used_to = lost.used_to.max(broken.group.end);
            let findings = broken.damage.iter().map(|(place, damage)| (place.octets(), *damage));
            findings.for_each(|(at, damage)| report.damaged(log, segment, at, damage));
            if broken.damage.is_empty() {
                report.damaged(log, segment, broken.group.at, Damage::Head);
            }
            report.records += broken.salvaged.as_ref().map_or(0, Hint::records);
            hints.extend(broken.salvaged);
        } else {
            report.torn.push((log, place(broken.group.at)));
        }
    }
    for gap in &file.gaps {
        if numbers.is_lost(gap, sealed) {
            report.damaged(log, segment, gap.at, Damage::Head);
            lost.any = true;
        } else if sealed == 0
            && !file.recycled
            && !numbers.is_begun(gap.after + 1)
            && (gap.after == numbers.last || gap.after == 0)
        {
            report.torn.push((log, place(gap.at)));
        }
    }
    let unsaid = file.begun.is_empty() && file.gaps.is_empty() && sealed > 0 && !file.hinted;
    if unsaid && !file.headless && file.unread.is_none() {
        // It was left with groups in it, and there is nothing.
        report.damaged(log, segment, SEGMENT_HEAD as u64, Damage::Head);
        lost.any = true;
    }
    lost
}
