//! What a spent segment says of others outlives it, and when such a segment goes.

use super::*;
use crate::store::reclaim::{Reclaim, Wish};
use std::time::Duration;

const ANNS: u64 = 800;

/// Large enough that a head of 4 KiB is little of it.
const OCTETS: u64 = 64 * 1024;

/// A segment in which nothing is alive, and which says that `dead` of ann's messages are.
fn story(dead: usize) -> (Log, Disk, Arc<Segments>, SegmentNo) {
    let segments = Arc::new(Segments::new(0, 100, KEY));
    let setup = LogSetup { segment_octets: OCTETS, ..setup(0) };
    let mut log = Log::new(setup, LogResume::default(), segments.clone());
    let mut disk = Disk { manifest: Manifest::new(KEY, 100), ..Disk::default() };
    let mut append = |log: &mut Log, owner: &[u8], n: u64, octets: usize| {
        let (locator, _) = log.append_message(draft(owner, Stamp(n << 12), &vec![1; octets])).unwrap();
        // Several in a group, which is whole sectors: what is alive fills its segments.
        if n.is_multiple_of(16) {
            settle(log, &mut disk);
        }
        locator
    };
    let anns: Vec<Locator> = (0..ANNS).map(|n| append(&mut log, b"sip:ann@x", n + 1, 300)).collect();
    // Some in each segment, so that none of those is spent.
    let is_dead = |n: usize| n * dead / anns.len() != (n + 1) * dead / anns.len();
    let gone: Vec<&Locator> = (0..anns.len()).filter(|n| is_dead(*n)).map(|n| &anns[n]).collect();
    // A segment of others' messages begins, and says what becomes of ann's.
    let last = anns[anns.len() - 1].place().segment;
    let mut others: Vec<Locator> = Vec::new();
    for n in ANNS + 1.. {
        let other = append(&mut log, b"sip:other@x", n, 100);
        others.push(other);
        if other.place().segment != last {
            break;
        }
    }
    settle(&mut log, &mut disk);
    let segment = others[others.len() - 1].place().segment;
    let ended: Vec<(Place, Reason)> = gone.iter().map(|one| (one.place(), Reason::Delivered)).collect();
    log.append_endings(Stamp(2_000 << 12), &ended, &[]).unwrap();
    settle(&mut log, &mut disk);
    for n in 2_001.. {
        let (locator, _) = log.append_message(draft(b"sip:other@x", Stamp(n << 12), &[1; 1_000])).unwrap();
        settle(&mut log, &mut disk);
        if locator.place().segment != segment {
            break;
        }
        others.push(locator);
    }
    let ended: Vec<(Place, Reason)> = others.iter().map(|one| (one.place(), Reason::Delivered)).collect();
    log.append_endings(Stamp(9_000 << 12), &ended, &[]).unwrap();
    settle(&mut log, &mut disk);
    for one in gone.into_iter().chain(&others) {
        segments.find(one.place().segment).unwrap().sub_live(one.octets());
    }
    assert!(segments.find(segment).unwrap().is_spent());
    (log, disk, segments, segment)
}

/// Looks as often as it takes; true when the segment is gone.
fn reclaimed(log: &mut Log, disk: &mut Disk, segments: &Arc<Segments>, segment: SegmentNo) -> bool {
    let mut reclaim = Reclaim::new(CoreId(0), 1, segments.clone());
    let (mut tick, mut ops) = (Tick(0), Vec::new());
    for _ in 0..40 {
        tick = tick + Duration::from_millis(250);
        let mut wish = reclaim.turn(tick, log, &mut ops);
        while let Some(op) = ops.pop() {
            wish = reclaim.done(tick, disk.serve(op), log, &mut ops).or(wish);
            if let Some(Wish::Tell(_)) = wish.take() {
                settle(log, disk);
                reclaim.carried(tick, true, log, &mut ops);
            }
        }
    }
    segments.find(segment).is_none()
}

#[test]
fn a_segment_that_says_little_of_others_goes_at_once_and_one_that_says_much_when_it_has_to() {
    // A sixty-fourth of a segment are 1,024 octets, 78 endings.
    for (dead, goes) in [(0, true), (78, true), (79, false), (400, true)] {
        let (mut log, mut disk, segments, segment) = story(dead);
        let gone = reclaimed(&mut log, &mut disk, &segments, segment);
        assert_eq!(gone, goes, "with {dead} dead");
        assert_eq!(!disk.files.contains_key(&(CoreId(0), segment)), goes);
        let (found, directory) = recovered(&disk, 1);
        assert_eq!(queued(&found, &directory, b"sip:ann@x").len(), ANNS as usize - dead, "what is dead stays dead");
    }
}

/// The tombstone of what was copied may wait for room in the log, and its copy be over and gone by then.
#[test]
fn what_was_copied_does_not_come_again_when_its_copy_is_gone_before_its_tombstone_came() {
    let (mut log, segments) = fresh_log(0);
    let mut disk = Disk { manifest: Manifest::new(KEY, 100), ..Disk::default() };
    // Without a fingerprint, by which a message would be known besides.
    let draft = |owner, n: u64, octets| Draft { fingerprint: 0, ..draft(owner, Stamp(n << 12), octets) };
    let leave = |log: &mut Log, disk: &mut Disk, from: u64| {
        for n in from..from + 10 {
            log.append_message(draft(b"sip:other@x", n, &[1; 1_500])).unwrap();
            settle(log, disk);
        }
    };
    let (original, _) = log.append_message(draft(b"sip:ann@x", 1, b"x")).unwrap();
    leave(&mut log, &mut disk, 10);
    let (mut loader, mut ops) = (Loader::new(segments), Vec::new());
    let mut loaded = loader.load_owned(1, b"sip:ann@x", &[original], &mut ops);
    for op in ops {
        loaded = loader.done(disk.serve(op)).or(loaded);
    }
    let record = loaded.expect("read").records.remove(0).outcome.expect("whole");
    let copy = log.append_copy(&record, Flags::REPORT, None, None).unwrap().0;
    leave(&mut log, &mut disk, 30);
    log.append_endings(Stamp(50 << 12), &[(copy.place, Reason::Delivered)], &[]).unwrap();
    leave(&mut log, &mut disk, 60);
    assert_ne!(copy.place.segment, original.place().segment);
    let (found, directory) = recovered(&disk, 1);
    assert_eq!(queued(&found, &directory, b"sip:ann@x"), []);
    disk.serve(DiskOp::Remove { ticket: 0, log: CoreId(0), segment: copy.place.segment });
    let (found, directory) = recovered(&disk, 1);
    assert_eq!(queued(&found, &directory, b"sip:ann@x"), []);
}
