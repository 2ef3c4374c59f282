//! What the loader does with extents that are lent: one for many, and never instead of the truth.

use super::*;

/// A log with `count` messages of 1 KiB each for ten users in turn, durable.
fn in_turns(count: u64) -> (Log, Arc<Segments>, Disk, Vec<Vec<Locator>>) {
    let segments = Arc::new(Segments::new(0, 1_000, KEY));
    let setup = LogSetup { segment_octets: 4 << 20, commit_octets: 1 << 20, ..setup(0) };
    let mut log = Log::new(setup, LogResume::default(), segments.clone());
    let (mut disk, mut users) = (Disk::default(), vec![Vec::new(); 10]);
    append(&mut log, &mut disk, &mut users, 1..count + 1);
    (log, segments, disk, users)
}

fn append(log: &mut Log, disk: &mut Disk, users: &mut [Vec<Locator>], numbers: std::ops::Range<u64>) {
    for n in numbers {
        let user = n as usize % users.len();
        let owner = format!("sip:user{user}@x");
        let (locator, _) = log.append_message(draft(owner.as_bytes(), Stamp(n << 12), &[n as u8; 1024])).unwrap();
        users[user].push(locator);
        if n % 8 == 0 {
            settle(log, disk);
        }
    }
    settle(log, disk);
}

fn bodies(done: &super::super::loader::LoadDone) -> Vec<u8> {
    done.records.iter().map(|loaded| loaded.outcome.as_ref().unwrap().body()[500]).collect()
}

#[test]
fn an_extent_is_lent_once_for_everybody_and_then_nothing_is_waited_for() {
    let (_log, segments, mut disk, users) = in_turns(400);
    let mut loader = Loader::new(segments);
    let mut ops = Vec::new();
    for (job, locators) in users.iter().enumerate() {
        let owner = format!("sip:user{job}@x");
        assert!(loader.load_owned(job as u64, owner.as_bytes(), locators, &mut ops).is_none());
    }
    let [DiskOp::Lend { at: 0, .. }] = &ops[..] else { panic!("one extent for ten users: {ops:?}") };
    let mut ended = Vec::new();
    ended.extend(loader.done(disk.serve(ops.remove(0))));
    ended.extend(std::iter::from_fn(|| loader.ended()));
    assert_eq!(ended.iter().map(|done| done.job).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    for done in &ended {
        let expected: Vec<u8> = (1..=400u64).filter(|n| n % 10 == done.job).map(|n| n as u8).collect();
        assert_eq!(bodies(done), expected);
    }
    let again = loader.load_owned(77, b"sip:user3@x", &users[3][..5], &mut ops).expect("it is here");
    assert_eq!((bodies(&again), loader.octets_read()), (vec![3, 13, 23, 33, 43], 0));
    let stranger = loader.load_owned(78, b"sip:user4@x", &users[3][..1], &mut ops);
    assert!(stranger.is_none(), "what does not pass in a page that was lent is read before it is called damage");
    loader.ask(&mut ops);
    let damage = loader.done(disk.serve(ops.remove(0))).expect("it was read").records.remove(0).outcome;
    assert_eq!(damage.unwrap_err(), Damage::NotTheOne);
}

#[test]
fn what_was_written_after_an_extent_was_lent_is_found_nevertheless() {
    let (mut log, segments, mut disk, mut users) = in_turns(400);
    let mut loader = Loader::new(segments);
    let mut ops = Vec::new();
    assert!(loader.load_owned(1, b"sip:user0@x", &users[0], &mut ops).is_none());
    assert!(loader.done(disk.serve(ops.remove(0))).is_some());
    // This disk's pages are copies: nothing later shows in them.
    append(&mut log, &mut disk, &mut users, 401..411);
    let latest = [*users[0].last().unwrap()];
    assert!(loader.load_owned(2, b"sip:user0@x", &latest, &mut ops).is_none());
    assert!(matches!(ops[..], [DiskOp::Read { .. }]), "{ops:?}");
    let done = loader.done(disk.serve(ops.remove(0))).expect("it was read");
    assert_eq!(bodies(&done), [410u64 as u8]);
    assert!(loader.octets_read() > 1024);
}

#[test]
fn an_extent_that_is_not_lent_is_read_and_each_record_has_its_own_fault() {
    let (_log, segments, mut disk, users) = in_turns(400);
    let mut loader = Loader::new(segments);
    let mut ops = Vec::new();
    assert!(loader.load_owned(1, b"sip:user0@x", &users[0], &mut ops).is_none());
    let Some(DiskOp::Lend { ticket, .. }) = ops.pop() else { panic!("it is asked for") };
    let refused = DiskDone::Lent { ticket, page: Bytes::new(), outcome: Err(DiskFault::Errno(14)) };
    assert!(loader.done(refused).is_none());
    loader.ask(&mut ops);
    assert!(ops.iter().all(|op| matches!(op, DiskOp::Read { .. })), "{ops:?}");
    let mut done = None;
    for op in ops.drain(..) {
        done = loader.done(disk.serve(op)).or(done);
    }
    let expected: Vec<u8> = (1..=400u64).filter(|n| n % 10 == 0).map(|n| n as u8).collect();
    assert_eq!(bodies(&done.expect("all were read")), expected);
}
