//! A tail that was cut is no loss, however long what is left of it lies about.

use super::*;

/// Writes what the log has, but for its last group, of which the first sector alone reaches the disk.
fn tear_last(log: &mut Log, disk: &mut Disk) -> SegmentNo {
    let mut ops = Vec::new();
    loop {
        log.turn(&mut ops);
        for op in std::mem::take(&mut ops) {
            if let DiskOp::Commit { log, segment, at, gather, .. } = op {
                let (live, durable) = disk.files.get_mut(&(log, segment)).expect("prepared before");
                for image in [live, durable] {
                    image[at as usize..][..512].copy_from_slice(&gather.to_vec()[..512]);
                }
                return segment;
            }
            log.done(disk.serve(op));
        }
    }
}

/// The simulator, 0x1443: a sync failed on the first group of a segment, and the next start went on in another. What was left of the group lay
/// in a segment kept in reserve; the group that was written again under its number was delivered and had back with its segment, and the
/// start after that took the torn one for a loss.
#[test]
fn a_torn_group_is_no_damage_when_the_one_written_again_under_its_number_is_gone() {
    let mut disk = Disk { manifest: Manifest::new(KEY, 100), ..Disk::default() };
    let segments = Arc::new(Segments::new(0, 100, KEY));
    let mut log = Log::new(setup(0), LogResume::default(), segments);
    let large = |n: u64| draft(b"u", Stamp(n << 12), &[n as u8; 7_000]);
    log.append_message(large(1)).unwrap();
    settle(&mut log, &mut disk);
    let first = log.append_message(large(2)).unwrap().0.place().segment;
    let torn = tear_last(&mut log, &mut disk);
    assert_eq!(torn, first, "the first group of a segment of its own");

    let (mut found, _) = recovered(&disk, 1);
    assert_eq!((found.report.damaged, found.report.torn.len()), (0, 1));
    disk.clear_away(&found);
    let segments = found.segments(100, 200, KEY);
    let mut log = Log::new(setup(0), found.logs.remove(0), segments);
    let again: Vec<SegmentNo> = (3..6)
        .map(|n| {
            let (message, _) = log.append_message(large(n)).unwrap();
            settle(&mut log, &mut disk);
            message.place().segment
        })
        .collect();
    // All but the segment being written are had back.
    let gone: Vec<SegmentNo> = disk.manifest.segments().iter().filter(|l| l.last > 0).map(|l| l.segment).collect();
    assert!(gone.contains(&again[0]), "{gone:?} {again:?}");
    for segment in gone {
        disk.serve(DiskOp::Remove { ticket: 0, log: CoreId(0), segment });
    }
    for cores in 1..3 {
        let report = recovered(&disk, cores).0.report;
        assert_eq!((report.damaged, report.damage, report.torn), (0, vec![], vec![]), "with {cores} cores");
    }
    assert!(!disk.files.contains_key(&(CoreId(0), torn)));
}
