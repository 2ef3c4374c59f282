//! A data directory as format version 1 has it, kept in `tests/fixtures/format-v1`: every later deferd must find in it exactly this.
//!
//! `FORMAT_IMAGE=format-v1 cargo nextest run the_image` writes it anew, and another by its name. That is right only before a version is
//! released; afterwards a changed image is a new version with a directory of its own.

use super::super::inspect::{self, Item};
use super::super::reason::Ending;
use super::super::record::Kind;
use super::*;
use std::fs;
use std::path::PathBuf;

fn place(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The first image, from before tombstones had reasons.
const FIRST: &str = "format-v1";
/// One of the same version, whose tombstones and marks have them.
const REASONS: &str = "format-v1-reasons";

fn stamp(n: u64) -> Stamp {
    Stamp(n << 12)
}

/// Two logs, a hint, a tombstone, a retained mark, two records of one state, a copy with its origin, a large message with two parts.
fn made() -> Disk {
    let segments = Arc::new(Segments::new(0, 100, KEY));
    let mut disk = Disk { manifest: Manifest::new(KEY, 100), ..Disk::default() };
    let mut logs = [0, 1].map(|core| Log::new(setup(core), LogResume::default(), segments.clone()));
    let ann: Vec<Locator> =
        (1..=3).map(|n| logs[0].append_message(draft(b"sip:ann@x", stamp(n), &[n as u8; 100])).unwrap().0).collect();
    settle(&mut logs[0], &mut disk);
    let parts: Vec<Locator> =
        (4..=5).map(|n| logs[1].append_part(b"sip:bob@x", stamp(n), body(&[n as u8; 300])).unwrap().0).collect();
    let large = Draft { parts: &parts, flags: Flags::LARGE, ..draft(b"sip:bob@x", stamp(6), b"around") };
    logs[1].append_message(large).unwrap();
    settle(&mut logs[1], &mut disk);
    logs[1].append_tombstones(&[ann[0].place()]).unwrap();
    logs[1].append_retained(&[ann[1].place()]).unwrap();
    for (n, value) in [(7, b"one"), (8, b"two")] {
        logs[1].append_state(StateKind::Settings, stamp(n), b"sip:ann@x", b"", value).unwrap();
        settle(&mut logs[1], &mut disk);
    }
    for n in 10..20 {
        logs[0].append_message(draft(b"sip:cid@x", stamp(n), &[n as u8; 1_500])).unwrap();
        settle(&mut logs[0], &mut disk);
    }
    let (mut loader, mut ops) = (Loader::new(segments), Vec::new());
    let mut loaded = loader.load_raw(1, &[ann[2]], &mut ops);
    for op in ops {
        loaded = loader.done(disk.serve(op)).or(loaded);
    }
    let record = loaded.expect("read").records[0].outcome.clone().expect("whole");
    logs[1].append_copy(&record, Flags::REPORT, None, None).unwrap();
    settle(&mut logs[1], &mut disk);
    disk
}

fn write(disk: &Disk, name: &str) {
    let _ = fs::remove_dir_all(place(name));
    let file = |log: CoreId, segment: SegmentNo, kind: &str| {
        place(name).join(format!("log-{}/{:010}.{kind}", log.0, segment.0))
    };
    for (&(log, segment), (octets, _)) in &disk.files {
        fs::create_dir_all(place(name).join(format!("log-{}", log.0))).unwrap();
        fs::write(file(log, segment, "log"), octets).unwrap();
    }
    disk.hints.iter().for_each(|(&(log, segment), octets)| fs::write(file(log, segment, "hint"), octets).unwrap());
    fs::write(place(name).join("manifest"), disk.manifest.encode()).unwrap();
}

fn kept(name: &str) -> Disk {
    let manifest = Manifest::decode(&fs::read(place(name).join("manifest")).unwrap()).unwrap();
    let mut disk = Disk { manifest, ..Disk::default() };
    for log in 0..2u16 {
        for entry in fs::read_dir(place(name).join(format!("log-{log}"))).into_iter().flatten() {
            let path = entry.unwrap().path();
            let number = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let (name, octets) = ((CoreId(log), SegmentNo(number)), fs::read(&path).unwrap());
            match path.extension().unwrap().to_str() {
                Some("hint") => _ = disk.hints.insert(name, octets.into()),
                _ => _ = disk.files.insert(name, (octets.clone(), octets)),
            }
        }
    }
    disk
}

/// The image that is kept, the same octets as what is made today.
fn compared(made: &Disk, name: &str) -> Disk {
    if std::env::var_os("FORMAT_IMAGE").is_some_and(|which| which == name) {
        write(made, name);
    }
    let kept = kept(name);
    // Said in a word: the octets themselves would fill the screen.
    assert!(kept.files.keys().eq(made.files.keys()), "other files");
    for (name, octets) in &kept.files {
        assert!(made.files[name] == *octets, "{name:?} differs");
    }
    assert!((&kept.hints, &kept.manifest) == (&made.hints, &made.manifest), "the hint or the manifest differs");
    kept
}

/// A message each that was delivered, deleted, has expired and is kept; and the part of the log that a second one carried over.
fn made_with_reasons() -> Disk {
    let segments = Arc::new(Segments::new(0, 100, KEY));
    let mut disk = Disk { manifest: Manifest::new(KEY, 100), ..Disk::default() };
    let mut log = Log::new(setup(0), LogResume::default(), segments);
    let ann: Vec<Place> = (1..=5)
        .map(|n| log.append_message(draft(b"sip:ann@x", stamp(n), &[n as u8; 100])).unwrap().0.place())
        .collect();
    settle(&mut log, &mut disk);
    let gone = [(ann[0], Reason::Delivered), (ann[1], Reason::DeletedByUser)];
    log.append_endings(stamp(1_700_000_000_000_000), &gone, &[]).unwrap();
    log.append_marks(stamp(1_700_000_001_000_000), &[(ann[2], Reason::Expired)]).unwrap();
    settle(&mut log, &mut disk);
    let before = Ending { place: ann[3], reason: Reason::Retrieved, at_s: 1_600_000_000 };
    log.append_carried(Kind::Tombstones, &[before]).unwrap();
    settle(&mut log, &mut disk);
    disk
}

#[test]
fn the_image_with_reasons_is_read_and_says_why() {
    let disk = compared(&made_with_reasons(), REASONS);
    let (found, directory) = recovered(&disk, 1);
    assert_eq!((found.report.damaged, found.report.dead, found.report.messages), (0, 3, 2));
    let ann = queued(&found, &directory, b"sip:ann@x");
    let expected = [Flags::REPORT.with(Flags::RETAINED).with(Flags::MISSED), Flags::REPORT];
    assert_eq!(ann.iter().map(|locator| locator.flags()).collect::<Vec<_>>(), expected);
    let mut told = Vec::new();
    let mut visit = |item: Item<'_>| {
        let Item::Record(entry) = item else { return };
        told.extend(entry.endings().map(|ending| (ending.reason, ending.at_s)));
    };
    assert_eq!(inspect::walk(&disk, KEY, None, &mut visit), Ok(Vec::new()));
    let expected = [
        (Reason::Delivered, 1_700_000_000),
        (Reason::DeletedByUser, 1_700_000_000),
        (Reason::Expired, 1_700_000_001),
        (Reason::Retrieved, 1_600_000_000),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_image_of_format_version_1_is_read_and_is_what_is_written_today() {
    let made = made();
    let kept = compared(&made, FIRST);
    assert_eq!(kept.hints.len(), 1, "one segment was left");
    for without_hints in [false, true] {
        let mut disk = kept.clone();
        if without_hints {
            disk.hints.clear();
        }
        let (found, directory) = recovered(&disk, 1);
        assert_eq!((found.report.damaged, found.report.torn.len(), found.report.unfinished.len()), (0, 0, 0));
        assert_eq!((found.report.hinted, found.report.dead), (u64::from(!without_hints), 1));
        let stamps = |owner: &[u8]| -> Vec<u64> {
            queued(&found, &directory, owner).iter().map(|locator| locator.stamp().0 >> 12).collect()
        };
        assert_eq!((stamps(b"sip:ann@x"), stamps(b"sip:bob@x")), (vec![2, 3], vec![6]));
        assert_eq!(stamps(b"sip:cid@x"), (10..20).collect::<Vec<_>>());
        let ann = queued(&found, &directory, b"sip:ann@x");
        assert!(ann[0].flags().has(Flags::RETAINED) && !ann[1].flags().has(Flags::RETAINED));
        let home = &found.homes[0];
        assert_eq!(home.parts.iter().map(|(_, parts)| parts.len()).collect::<Vec<_>>(), [2]);
        assert_eq!(home.states.iter().map(|state| &*state.value).collect::<Vec<_>>(), [b"two"]);
        assert_eq!(home.losers.len(), 2, "the record that was copied, and the state before");
        let segments = found.segments(100, 200, KEY);
        let bodies = read(&segments, &mut disk.clone(), b"sip:ann@x", &ann);
        assert_eq!(bodies, [Ok(vec![2; 100]), Ok(vec![3; 100])]);
    }
}

/// A file that was lost, and one that was put there by hand: a start that went on would hide either.
#[test]
fn a_segment_that_is_missing_or_foreign_ends_the_start() {
    use super::super::recovery::RecoveryFault;
    let sound = made();
    let start = |disk: &Disk| {
        let directory = Directory::new(100, 2, KEY);
        recover(disk, &directory, 2, &disk.manifest, 10).map(|found| found.report.messages)
    };
    assert_eq!(start(&sound), Ok(13));
    for &(log, segment) in sound.files.keys() {
        let mut disk = sound.clone();
        disk.files.remove(&(log, segment));
        assert_eq!(start(&disk), Err(RecoveryFault::SegmentMissing { log, segment }));
        disk.manifest.leave(segment);
        assert!(start(&disk).is_ok(), "it was to go");
        disk.manifest.forget(segment);
        assert!(start(&disk).is_ok(), "the operator gave it up");
    }
    for (&(log, segment), (octets, _)) in &sound.files {
        let mut disk = sound.clone();
        disk.manifest.forget(segment);
        let written = octets[4_096..].iter().any(|octet| *octet != 0);
        let foreign = Err(RecoveryFault::SegmentForeign { log, segment });
        assert_eq!(start(&disk), if written { foreign } else { Ok(13) });
    }
}

/// The last group of a segment that was left is known: what is gone of it is damage, also when its follower is gone.
#[test]
fn the_end_of_a_segment_is_known_without_its_hint_and_its_follower() {
    let mut disk = made();
    let (&(log, segment), _) = disk.hints.first_key_value().expect("one was left");
    disk.hints.clear();
    let others: Vec<_> = disk.files.keys().copied().filter(|name| name.0 == log && name.1 != segment).collect();
    for (log, other) in others {
        disk.files.remove(&(log, other));
        disk.manifest.forget(other);
    }
    let sound = recovered(&disk, 1).0;
    assert_eq!((sound.report.damaged, sound.sealed.contains(&segment)), (0, true));
    let octets = &mut disk.files.get_mut(&(log, segment)).expect("it is there").0;
    let groups: Vec<usize> = (8..32).map(|n| n * 512).filter(|at| octets[*at..].starts_with(b"DGRP")).collect();
    octets[*groups.last().expect("there are groups")] ^= 1;
    let report = recovered(&disk, 1).0.report;
    assert_eq!((report.damaged, report.messages + 1), (1, sound.report.messages));
}
