//! What stays for retrieval: had by its user, or kept beyond its time. A start knows which, with hints and without, also of copies.

use super::*;
use Reason::{Delivered, Expired, Retrieved};

fn stamp(n: u64) -> Stamp {
    Stamp(n << 12)
}

/// Leaves the segment that is being written, so that it has its hint.
fn leave(log: &mut Log, disk: &mut Disk, from: u64) {
    for n in from..from + 10 {
        log.append_message(draft(b"sip:other@x", stamp(n), &[1; 1_500])).unwrap();
        settle(log, disk);
    }
}

/// What is known of ann's messages, in order: (stays, had).
fn known(disk: &Disk) -> Vec<(bool, bool)> {
    let (found, directory) = recovered(disk, 2);
    let flags = queued(&found, &directory, b"sip:ann@x").into_iter().map(|locator| locator.flags());
    flags.map(|flags| (flags.has(Flags::RETAINED), flags.is_had())).collect()
}

/// The same read from hints, and from the segments themselves.
#[track_caller]
fn assert_known(disk: &Disk, expected: &[(bool, bool)]) {
    assert!(!disk.hints.is_empty(), "a segment was left");
    assert_eq!(known(disk), expected, "by the hints");
    assert_eq!(known(&Disk { hints: BTreeMap::new(), ..disk.clone() }), expected, "without hints");
}

const NEW: (bool, bool) = (false, false);
const HAD: (bool, bool) = (true, true);
const MISSED: (bool, bool) = (true, false);

#[test]
fn a_start_tells_what_was_had_from_what_was_missed() {
    let (mut log, _) = fresh_log(0);
    let mut disk = Disk::default();
    let ann: Vec<Place> =
        (1..=6).map(|n| log.append_message(draft(b"sip:ann@x", stamp(n), b"x")).unwrap().0.place()).collect();
    settle(&mut log, &mut disk);
    log.append_marks(stamp(7), &[(ann[0], Delivered), (ann[1], Expired), (ann[2], Expired)]).unwrap();
    settle(&mut log, &mut disk);
    assert_eq!(known(&disk), [HAD, MISSED, MISSED, NEW, NEW, NEW]);
    // As versions wrote them that did not say why.
    log.append_retained(&[ann[4]]).unwrap();
    leave(&mut log, &mut disk, 10);
    assert_known(&disk, &[HAD, MISSED, MISSED, NEW, HAD, NEW]);
    // Missed, and fetched later: whichever segment says which.
    log.append_marks(stamp(30), &[(ann[2], Retrieved), (ann[5], Expired), (ann[5], Delivered)]).unwrap();
    leave(&mut log, &mut disk, 31);
    assert_known(&disk, &[HAD, MISSED, HAD, NEW, HAD, HAD]);
}

/// A copy has it in its own flags, for the marks name what it was copied from; marks that come later name the copy.
#[test]
fn a_copy_knows_whether_its_message_was_missed() {
    let (mut log, segments) = fresh_log(0);
    let mut disk = Disk::default();
    let ann: Vec<Locator> =
        (1..=4).map(|n| log.append_message(draft(b"sip:ann@x", stamp(n), b"x")).unwrap().0).collect();
    settle(&mut log, &mut disk);
    log.append_marks(stamp(7), &[(ann[0].place(), Expired), (ann[1].place(), Expired)]).unwrap();
    leave(&mut log, &mut disk, 10);
    let (mut loader, mut ops) = (Loader::new(segments), Vec::new());
    let mut loaded = loader.load_owned(1, b"sip:ann@x", &ann, &mut ops);
    for op in ops {
        loaded = loader.done(disk.serve(op)).or(loaded);
    }
    let flags = [Flags::REPORT.missed(), Flags::REPORT.missed(), Flags::REPORT.had(), Flags::REPORT];
    let mut copies = Vec::new();
    for (loaded, flags) in loaded.expect("read").records.iter().zip(flags) {
        let record = loaded.outcome.as_ref().expect("whole");
        copies.push(log.append_copy(record, flags, None, None).unwrap().0.place);
    }
    settle(&mut log, &mut disk);
    assert_eq!(known(&disk), [MISSED, MISSED, HAD, NEW]);
    // The third was had when it was copied: that its time is over now changes nothing.
    log.append_marks(stamp(40), &[(copies[1], Retrieved), (copies[2], Expired), (copies[3], Expired)]).unwrap();
    leave(&mut log, &mut disk, 41);
    assert_known(&disk, &[MISSED, HAD, HAD, MISSED]);
}
