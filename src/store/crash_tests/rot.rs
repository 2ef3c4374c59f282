//! Recovery over octets that nobody wrote: it never panics and invents nothing.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A disk that gives nothing of one segment.
struct Blind<'a>(&'a Disk, SegmentNo);

impl Files for Blind<'_> {
    fn list(&self) -> Result<Vec<(CoreId, SegmentNo, u64)>, DiskFault> {
        self.0.list()
    }
    fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, buffer: &mut [u8]) -> Result<usize, DiskFault> {
        if segment == self.1 { Err(DiskFault::Errno(5)) } else { self.0.read_at(log, segment, at, buffer) }
    }
    fn sync(&self, _: CoreId, _: SegmentNo) -> Result<(), DiskFault> {
        Ok(())
    }
    fn read_hint(&self, log: CoreId, segment: SegmentNo) -> Result<Vec<u8>, DiskFault> {
        self.0.read_hint(log, segment)
    }
}

/// It read as zeros, and was taken for a segment whose making had not ended: not reported, and as good as removed.
#[test]
fn a_segment_that_the_disk_does_not_give_is_damage_and_nothing_is_written_into_it() {
    let (mut log, _) = fresh_log(0);
    let mut disk = Disk::default();
    log.append_message(draft(b"u", Stamp(1 << 12), &[1; 200])).unwrap();
    settle(&mut log, &mut disk);
    let (sound, _) = recovered(&disk, 1);
    let active = sound.logs[0].active.expect("a segment was written").segment;
    let directory = Directory::new(100, 1, KEY);
    let found = recover(&Blind(&disk, active), &directory, 1, &disk.manifest, 1_000).unwrap();
    assert!(found.report.unfinished.is_empty(), "{:?}", found.report);
    let unreadable = |found: &super::super::recovery::DamageFound| found.damage == Damage::Unreadable(5);
    assert!(found.report.damage.iter().any(unreadable), "{:?}", found.report);
    let rooms = found.logs[0].active.iter().chain(&found.logs[0].spare);
    assert!(rooms.clone().all(|room| room.segment != active), "{:?}", found.logs);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn recovery_of_arbitrary_octets_never_panics(files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9_000), 0..4)) {
        let mut disk = Disk::default();
        for (n, octets) in files.into_iter().enumerate() {
            disk.files.insert((CoreId(n as u16 % 2), SegmentNo(n as u32)), (octets.clone(), octets));
        }
        let directory = Directory::new(100, 1, KEY);
        prop_assert_eq!(recover(&disk, &directory, 1, &disk.manifest, 1_000).map(|found| found.report.records).unwrap_or(0), 0);
    }

    #[test]
    fn recovery_of_a_log_with_arbitrary_rot_never_panics_and_invents_nothing(
        rot in proptest::collection::vec((0usize..16_384, any::<u8>()), 1..40), cut in 0usize..16_384
    ) {
        let (mut log, _) = fresh_log(0);
        let mut disk = Disk::default();
        let mut locators = BTreeSet::new();
        for n in 1..=12u64 {
            locators.insert(log.append_message(draft(b"u", Stamp(n << 12), &[n as u8; 200])).unwrap().0.stamp());
            if n % 3 == 0 {
                settle(&mut log, &mut disk);
            }
        }
        for (live, _) in disk.files.values_mut() {
            for (at, with) in &rot {
                live[*at] = *with;
            }
            if cut % 3 == 0 {
                live.truncate(cut);
            }
        }
        let directory = Directory::new(100, 1, KEY);
        if let Ok(found) = recover(&disk, &directory, 1, &disk.manifest, 1_000) {
            let queue = queued(&found, &directory, b"u");
            prop_assert!(queue.iter().all(|locator| locators.contains(&locator.stamp())));
            prop_assert_eq!(directory.len(), usize::from(!queue.is_empty()));
        }
    }
}
