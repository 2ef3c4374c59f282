//! Recovery over octets that nobody wrote: it never panics and invents nothing.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn recovery_of_arbitrary_octets_never_panics(files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9_000), 0..4)) {
        let mut disk = Disk::default();
        for (n, octets) in files.into_iter().enumerate() {
            disk.files.insert((CoreId(n as u16 % 2), SegmentNo(n as u32)), (octets.clone(), octets));
        }
        let directory = Directory::new(100, 1, KEY);
        prop_assert_eq!(recover(&disk, &directory, 1).map(|found| found.report.records).unwrap_or(0), 0);
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
        if let Ok(found) = recover(&disk, &directory, 1) {
            let queue = queued(&found, &directory, b"u");
            prop_assert!(queue.iter().all(|locator| locators.contains(&locator.stamp())));
            prop_assert_eq!(directory.len(), usize::from(!queue.is_empty()));
        }
    }
}
