//! A sender who missed a 202 repeats; what it had sent may be delivered and its segment gone by then, and the power may have failed.

use super::super::reclaim::Reclaim;
use super::super::recovery::HomeRecovered;
use super::*;
use std::time::Duration;

/// Twenty-five power cuts, 0x2: a message was pushed and acknowledged while its repetition reached another core, which stored it; the cut came before
/// home could write that off, and the next life pushed it under its other id.
#[test]
fn a_repetition_that_nobody_wrote_off_is_a_twin_of_what_was_delivered_and_not_of_a_twin() {
    for (reason, comes) in [
        (Reason::Delivered, false),
        (Reason::DeletedByUser, false),
        (Reason::Expired, false),
        (Reason::Twin, true),
        (Reason::Unknown, true),
    ] {
        let mut disk = Disk { manifest: Manifest::new(KEY, 100), ..Disk::default() };
        let segments = Arc::new(Segments::new(0, 100, KEY));
        let mut logs = [0, 1].map(|core| Log::new(setup(core), LogResume::default(), segments.clone()));
        let sent = |stamp: u64| Draft { fingerprint: 77, ..draft(b"u", Stamp(stamp << 12), b"x") };
        let (first, _) = logs[0].append_message(sent(1)).unwrap();
        let (second, _) = logs[1].append_message(sent(2)).unwrap();
        logs[0].append_endings(Stamp(3 << 12), &[(first.place(), reason)], &[]).unwrap();
        logs.iter_mut().for_each(|log| drop(settle(log, &mut disk)));
        for cores in 1..3 {
            let (found, directory) = recovered(&disk, cores);
            let (queue, twins) = if comes { (vec![second], vec![]) } else { (vec![], vec![second]) };
            assert_eq!(queued(&found, &directory, b"u"), queue, "{reason:?}");
            assert_eq!(found.homes.iter().flat_map(|home| home.twins.clone()).collect::<Vec<_>>(), twins, "{reason:?}");
            assert!(knows(&found, 77));
        }
        // The same when the first one's segment was had back meanwhile: its tombstone is there, and its hint.
        let hint = |found: &Recovered| found.unwritten.iter().find(|hint| hint.log() == CoreId(1)).cloned().unwrap();
        let mut disk = Disk { manifest: Manifest::new(KEY, 100), ..Disk::default() };
        let segments = Arc::new(Segments::new(0, 100, KEY));
        let mut logs = [0, 1].map(|core| Log::new(setup(core), LogResume::default(), segments.clone()));
        let (first, _) = logs[1].append_message(sent(1)).unwrap();
        logs.iter_mut().for_each(|log| drop(settle(log, &mut disk)));
        let hint = hint(&recovered(&disk, 1).0);
        let (second, _) = logs[0].append_message(sent(2)).unwrap();
        logs[0].append_endings(Stamp(3 << 12), &[(first.place(), reason)], &[]).unwrap();
        logs.iter_mut().for_each(|log| drop(settle(log, &mut disk)));
        disk.hints.insert((hint.log(), hint.segment()), hint.octets().clone());
        disk.serve(DiskOp::Remove { ticket: 0, log: hint.log(), segment: hint.segment() });
        let (found, directory) = recovered(&disk, 2);
        let queue = if comes { vec![second] } else { vec![] };
        assert_eq!(queued(&found, &directory, b"u"), queue, "{reason:?}, and gone");
        assert!(knows(&found, 77));
    }
}

fn knows(found: &Recovered, fingerprint: u64) -> bool {
    found.homes.iter().flat_map(|home: &HomeRecovered| &home.fingerprints).any(|(known, _)| *known == fingerprint)
}

/// Twenty-five power cuts, on one core and on two by turns: messages of the second core's log were delivered by a life of one core, their
/// segment, nobody's now and with nothing alive in it, was had back at once, and the next life stored their repetition as new.
#[test]
fn a_message_is_known_after_a_crash_although_it_was_delivered_and_its_segment_is_gone() {
    let mut disk = Disk { manifest: Manifest::new(KEY, 100), ..Disk::default() };
    let segments = Arc::new(Segments::new(0, 100, KEY));
    let mut log = Log::new(setup(1), LogResume::default(), segments);
    let stamp = Stamp(77 << 12 | 1);
    let (message, _) = log.append_message(draft(b"sip:bob@x", stamp, b"once")).unwrap();
    settle(&mut log, &mut disk);
    let segment = message.place().segment;

    let (mut found, _) = recovered(&disk, 1);
    assert!(knows(&found, stamp.0));
    let segments = found.segments(100, 200, KEY);
    let mut log = Log::new(setup(0), found.logs.remove(0), segments.clone());
    log.append_endings(Stamp(78 << 12), &[(message.place(), Reason::Delivered)], &[]).unwrap();
    settle(&mut log, &mut disk);
    segments.find(segment).unwrap().sub_live(message.octets());

    let mut reclaim = Reclaim::new(CoreId(0), 1, segments.clone());
    let (mut tick, mut ops) = (Tick(0), Vec::new());
    let mut unwritten = std::mem::take(&mut found.unwritten);
    for look in 0..100 {
        tick = tick + Duration::from_millis(250);
        let wish = reclaim.turn(tick, &mut log, &mut ops);
        while let Some(op) = ops.pop() {
            assert_eq!(reclaim.done(tick, disk.serve(op), &mut log, &mut ops), None);
        }
        assert!(wish.is_none(), "nothing is to be copied");
        // A start writes the hints that are missing while the cores run already.
        if look == 3 {
            assert!(segments.find(segment).is_some(), "it waits for its hint");
            for hint in unwritten.drain(..) {
                let (log, segment, last) = (hint.log(), hint.segment(), hint.groups().unwrap().1);
                disk.serve(DiskOp::WriteHint { ticket: 0, log, segment, last, octets: hint.octets().clone() });
            }
        }
    }
    assert!(segments.find(segment).is_none() && !disk.files.contains_key(&(CoreId(1), segment)));
    for cores in 1..4 {
        let (found, _) = recovered(&disk, cores);
        assert!(knows(&found, stamp.0), "a start with {cores} cores would store the repetition");
        assert_eq!((found.report.messages, found.report.hints_broken, found.report.damaged), (0, 0, 0));
    }
    // What is kept of it is one hint, and nothing else on the disk would do.
    disk.gone.clear();
    assert!(!knows(&recovered(&disk, 1).0, stamp.0));
}
