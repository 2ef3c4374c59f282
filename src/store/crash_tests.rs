//! The log, the loader and recovery together over a disk of memory that crashes, tears and rots.

mod carried;
mod image;
mod lent;
mod lives;
mod repeated;
mod rot;
mod stays;
mod torn;

use super::directory::Directory;
use super::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use super::loader::{Damage, Loader};
use super::log::{Log, LogEvent, LogResume, LogSetup, Refused, Seq};
use super::manifest::Manifest;
use super::reason::Reason;
use super::record::{Draft, Flags, Locator, Place, Stamp, Stamps, StateKind};
use super::recovery::{Files, Recovered, recover};
use super::segments::Segments;
use crate::base::clock::{Now, Tick, Wall};
use crate::base::gather::Gather;
use crate::base::net::CoreId;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::Arc;

const KEY: [u8; 16] = *b"a key for tests.";
const SEGMENT: u64 = 16 * 1024;

/// A small generator: runs are repeatable from the seed.
struct Luck(u64);
impl Luck {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Every file has an image that reading shows and one that survives.
#[derive(Default, Clone)]
struct Disk {
    files: BTreeMap<(CoreId, SegmentNo), (Vec<u8>, Vec<u8>)>,
    hints: BTreeMap<(CoreId, SegmentNo), Bytes>,
    /// Hints of segments that were removed or recycled.
    gone: BTreeMap<(CoreId, SegmentNo), Bytes>,
    manifest: Manifest,
    full: bool,
}

impl Disk {
    fn serve(&mut self, op: DiskOp) -> DiskDone {
        match op {
            DiskOp::Prepare { ticket, log, segment, octets, header } => {
                if self.full {
                    return DiskDone::Prepared { ticket, outcome: Err(DiskFault::Full) };
                }
                let mut image = vec![0; octets as usize];
                image[..header.len()].copy_from_slice(&header);
                assert!(
                    self.files.insert((log, segment), (image.clone(), image)).is_none(),
                    "a number is never used twice"
                );
                self.manifest.list(log, segment);
                DiskDone::Prepared { ticket, outcome: Ok(()) }
            }
            DiskOp::Commit { ticket, log, segment, at, gather } => {
                let octets = gather.to_vec();
                assert!(at % 512 == 0 && octets.len().is_multiple_of(512) && gather.pieces() <= 1024);
                let (live, durable) = self.files.get_mut(&(log, segment)).expect("prepared before");
                live[at as usize..][..octets.len()].copy_from_slice(&octets);
                durable[at as usize..][..octets.len()].copy_from_slice(&octets);
                DiskDone::Committed { ticket, gather, outcome: Ok(()) }
            }
            DiskOp::Read { ticket, log, segment, at, len, mut buffer } => {
                let Some((live, _)) = self.files.get(&(log, segment)) else {
                    return DiskDone::Read { ticket, buffer, outcome: Err(DiskFault::Missing) };
                };
                let end = (at as usize + len as usize).min(live.len());
                buffer.extend_from_slice(&live[at as usize..end]);
                DiskDone::Read { ticket, buffer, outcome: Ok(()) }
            }
            DiskOp::WriteHint { ticket, log, segment, last, octets } => {
                self.manifest.seal(segment, last);
                if !octets.is_empty() {
                    self.hints.insert((log, segment), octets);
                }
                DiskDone::HintWritten { ticket, outcome: Ok(()) }
            }
            DiskOp::ReadHint { ticket, log, segment } => match self.hints.get(&(log, segment)) {
                Some(hint) => DiskDone::Read { ticket, buffer: hint.clone().into(), outcome: Ok(()) },
                None => DiskDone::Read { ticket, buffer: BytesMut::new(), outcome: Err(DiskFault::Missing) },
            },
            DiskOp::Lend { ticket, log, segment, at, len } => {
                let Some((live, _)) = self.files.get(&(log, segment)) else {
                    return DiskDone::Lent { ticket, page: Bytes::new(), outcome: Err(DiskFault::Missing) };
                };
                let end = (at as usize + len as usize).min(live.len());
                DiskDone::Lent { ticket, page: Bytes::copy_from_slice(&live[at as usize..end]), outcome: Ok(()) }
            }
            DiskOp::Remove { ticket, log, segment } => {
                self.files.remove(&(log, segment));
                self.gone.extend(self.hints.remove_entry(&(log, segment)));
                self.manifest.forget(segment);
                DiskDone::Removed { ticket, outcome: Ok(()) }
            }
            DiskOp::Recycle { ticket, log, old, new, header } => {
                let (mut image, _) = self.files.remove(&(log, old)).expect("it is there");
                image[..header.len()].copy_from_slice(&header);
                assert!(
                    self.files.insert((log, new), (image.clone(), image)).is_none(),
                    "a number is never used twice"
                );
                self.gone.extend(self.hints.remove_entry(&(log, old)));
                self.manifest.forget(old);
                self.manifest.list(log, new);
                DiskDone::Recycled { ticket, outcome: Ok(()) }
            }
        }
    }

    /// A start removes what does not count.
    fn clear_away(&mut self, found: &Recovered) {
        for &(log, segment) in &found.report.unfinished {
            self.serve(DiskOp::Remove { ticket: 0, log, segment });
        }
    }

    /// The machine stops while `op` is under way: any of its sectors, in any choice, are old or new.
    fn crash_during(&mut self, op: DiskOp, luck: &mut Luck) {
        match op {
            DiskOp::Commit { log, segment, at, gather, .. } => {
                let octets = gather.to_vec();
                let (live, durable) = self.files.get_mut(&(log, segment)).expect("prepared before");
                let mood = luck.below(4);
                for (n, sector) in octets.chunks(512).enumerate() {
                    if mood == 0 || mood < 3 && luck.below(2) == 0 {
                        let at = at as usize + n * 512;
                        live[at..at + sector.len()].copy_from_slice(sector);
                        durable[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            DiskOp::Prepare { log, segment, octets, header, .. } => {
                let len = [0, 100, 4_096, 9_000, octets][luck.below(5) as usize];
                let mut image = vec![0; len as usize];
                let written = (luck.below(2) * 4_096).min(len) as usize;
                image[..written].copy_from_slice(&header[..written]);
                if luck.below(4) > 0 {
                    self.files.insert((log, segment), (image.clone(), image));
                }
            }
            _ => {}
        }
    }
}

impl Files for Disk {
    fn list(&self) -> Result<Vec<(CoreId, SegmentNo, u64)>, DiskFault> {
        Ok(self.files.iter().map(|((log, segment), (live, _))| (*log, *segment, live.len() as u64)).collect())
    }
    fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, buffer: &mut [u8]) -> Result<usize, DiskFault> {
        let (live, _) = self.files.get(&(log, segment)).ok_or(DiskFault::Missing)?;
        let from = live.get(at as usize..).unwrap_or_default();
        let len = from.len().min(buffer.len()).min(5_000);
        buffer[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }
    fn sync(&self, _: CoreId, _: SegmentNo) -> Result<(), DiskFault> {
        Ok(())
    }
    fn read_hint(&self, log: CoreId, segment: SegmentNo) -> Result<Vec<u8>, DiskFault> {
        self.hints.get(&(log, segment)).map(|hint| hint.to_vec()).ok_or(DiskFault::Missing)
    }
    fn gone(&self) -> Vec<(CoreId, SegmentNo, Vec<u8>)> {
        self.gone.iter().map(|(&(log, segment), hint)| (log, segment, hint.to_vec())).collect()
    }
}

fn now(us: u64) -> Now {
    Now { tick: Tick(us), wall: Wall(1_700_000_000_000_000 + us) }
}

fn setup(core: u16) -> LogSetup {
    LogSetup { core: CoreId(core), segment_octets: SEGMENT, commit_octets: 12 * 1024 }
}

fn body(octets: &[u8]) -> Gather {
    let mut gather = Gather::new();
    gather.push(Bytes::copy_from_slice(octets));
    gather
}

fn draft<'a>(owner: &'a [u8], stamp: Stamp, octets: &[u8]) -> Draft<'a> {
    Draft {
        owner,
        stamp,
        random: [7; 10],
        expiry_s: 1_800_000_000,
        fingerprint: stamp.0,
        flags: Flags::REPORT,
        envelope: b"From: a",
        body_type: b"text/plain",
        parts: &[],
        body: body(octets),
    }
}

fn fresh_log(core: u16) -> (Log, Arc<Segments>) {
    let segments = Arc::new(Segments::new(0, 1_000, KEY));
    (Log::new(setup(core), LogResume::default(), segments.clone()), segments)
}

/// Turns the log until nothing is left to do.
fn settle(log: &mut Log, disk: &mut Disk) -> Vec<LogEvent> {
    let (mut ops, mut events) = (Vec::new(), Vec::new());
    loop {
        log.turn(&mut ops);
        if ops.is_empty() {
            return events;
        }
        for op in ops.drain(..) {
            events.extend(log.done(disk.serve(op)));
        }
    }
}

fn read(segments: &Arc<Segments>, disk: &mut Disk, owner: &[u8], locators: &[Locator]) -> Vec<Result<Vec<u8>, Damage>> {
    let mut loader = Loader::new(segments.clone());
    let mut ops = Vec::new();
    let mut done = loader.load_owned(1, owner, locators, &mut ops);
    while !ops.is_empty() {
        for op in std::mem::take(&mut ops) {
            done = loader.done(disk.serve(op)).or(done);
            loader.ask(&mut ops);
        }
    }
    let records = done.expect("every read was answered").records;
    assert!(records.iter().map(|loaded| loaded.locator).eq(locators.iter().copied()), "in the order asked");
    records.into_iter().map(|loaded| loaded.outcome.map(|record| record.body().to_vec())).collect()
}

fn recovered(disk: &Disk, cores: u16) -> (Recovered, Directory) {
    let directory = Directory::new(100, cores, KEY);
    let found = recover(disk, &directory, cores, &disk.manifest, 1_000).expect("nothing here is fatal");
    (found, directory)
}

fn queued(found: &Recovered, directory: &Directory, owner: &[u8]) -> Vec<Locator> {
    let user = directory.find(owner);
    let homes = found.homes.iter().flat_map(|home| &home.users);
    homes.filter(|(id, _)| Some(*id) == user).flat_map(|(_, queue)| queue.iter().copied()).collect()
}

#[test]
fn what_was_durable_is_found_again_and_read_back() {
    let (mut log, _) = fresh_log(0);
    let mut disk = Disk::default();
    let bodies: Vec<Vec<u8>> = (0..30u8).map(|n| vec![n; usize::from(n) * 37]).collect();
    let mut locators = Vec::new();
    for (n, body) in bodies.iter().enumerate() {
        let (locator, seq) = log.append_message(draft(b"sip:a@x", Stamp((n as u64 + 1) << 12), body)).unwrap();
        assert_eq!(draft(b"sip:a@x", Stamp(1 << 12), body).octets(), locator.octets());
        locators.push(locator);
        if n % 4 == 0 {
            assert_eq!(settle(&mut log, &mut disk).last(), Some(&LogEvent::Durable { up_to: seq }));
        }
    }
    settle(&mut log, &mut disk);
    log.append_tombstones(&[locators[3].place(), locators[4].place()]).unwrap();
    log.append_retained(&[locators[5].place()]).unwrap();
    log.append_state(StateKind::Settings, Stamp(9), b"sip:a@x", b"k", b"v1").unwrap();
    log.append_state(StateKind::Settings, Stamp(10), b"sip:a@x", b"k", b"v2").unwrap();
    log.append_state(StateKind::Publication, Stamp(10), b"sip:a@x", b"e", b"x").unwrap();
    log.append_state(StateKind::Publication, Stamp(11), b"sip:a@x", b"e", b"").unwrap();
    settle(&mut log, &mut disk);

    let (found, directory) = recovered(&disk, 2);
    assert_eq!((found.report.damaged, found.report.torn.len(), found.report.dead), (0, 0, 2));
    let mut expected = locators.clone();
    expected[5] = expected[5].with_flags(Flags::REPORT.with(Flags::RETAINED));
    expected.drain(3..5);
    let queue = queued(&found, &directory, b"sip:a@x");
    assert_eq!(queue, expected);
    let user = directory.find(b"sip:a@x").unwrap();
    assert_eq!(directory.usage(user), (28, queue.iter().map(Locator::octets).sum()));
    let states: Vec<_> = found.homes.iter().flat_map(|home| &home.states).collect();
    assert_eq!(states.len(), 1);
    assert_eq!((&*states[0].value, states[0].stamp), (&b"v2"[..], Stamp(10)));
    let segments = found.segments(1_000, 2_000, KEY);
    let wanted: Vec<Vec<u8>> =
        bodies.iter().enumerate().filter(|(n, _)| !(3..5).contains(n)).map(|(_, b)| b.clone()).collect();
    let mut backwards = queue.clone();
    backwards.reverse();
    let got: Vec<Vec<u8>> =
        read(&segments, &mut disk, b"sip:a@x", &backwards).into_iter().rev().map(Result::unwrap).collect();
    assert_eq!(got, wanted);
    assert_eq!(read(&segments, &mut disk, b"sip:b@x", &queue[..1]), [Err(Damage::NotTheOne)]);
}

#[test]
fn a_tombstone_in_one_log_kills_a_message_of_another_and_owes_its_report() {
    let segments = Arc::new(Segments::new(0, 1_000, KEY));
    let mut a = Log::new(setup(0), LogResume::default(), segments.clone());
    let mut b = Log::new(setup(1), LogResume::default(), segments.clone());
    let mut disk = Disk::default();
    let (locator, _) = b.append_message(draft(b"u", Stamp(1 << 12), b"x")).unwrap();
    settle(&mut b, &mut disk);
    let owed =
        super::record::StateDraft { kind: StateKind::Report, stamp: Stamp(4), owner: b"u", key: b"id", value: b"r" };
    a.append_endings(Stamp(5), &[(locator.place(), Reason::DeletedByUser)], &[owed, owed]).unwrap();
    settle(&mut a, &mut disk);
    for cores in [1, 2, 3] {
        let (found, directory) = recovered(&disk, cores);
        assert_eq!((found.report.dead, found.report.messages, directory.len()), (1, 0, 0));
        assert_eq!(found.homes.iter().map(|home| home.states.len()).sum::<usize>(), 1);
        assert_eq!(
            found.homes.iter().map(|home| home.fingerprints.len()).sum::<usize>(),
            1,
            "a late twin is still known"
        );
    }
}

#[test]
fn a_retransmitted_message_is_queued_once_after_recovery() {
    let (mut log, _) = fresh_log(0);
    let mut disk = Disk::default();
    let (first, _) = log.append_message(Draft { fingerprint: 77, ..draft(b"u", Stamp(1 << 12), b"x") }).unwrap();
    let (second, _) = log.append_message(Draft { fingerprint: 77, ..draft(b"u", Stamp(2 << 12), b"x") }).unwrap();
    let (other, _) = log.append_message(Draft { fingerprint: 77, ..draft(b"v", Stamp(3 << 12), b"x") }).unwrap();
    settle(&mut log, &mut disk);
    let (found, directory) = recovered(&disk, 1);
    assert_eq!(queued(&found, &directory, b"u"), [first]);
    assert_eq!(queued(&found, &directory, b"v"), [other]);
    assert_eq!(found.homes[0].twins, [second]);
}

#[test]
fn a_failed_commit_is_final() {
    let (mut log, _) = fresh_log(0);
    let mut disk = Disk::default();
    let (_, first) = log.append_message(draft(b"u", Stamp(1 << 12), b"x")).unwrap();
    settle(&mut log, &mut disk);
    let (_, second) = log.append_message(draft(b"u", Stamp(2 << 12), b"x")).unwrap();
    let mut ops = Vec::new();
    log.turn(&mut ops);
    let (_, third) = log.append_message(draft(b"u", Stamp(3 << 12), b"x")).unwrap();
    let Some(DiskOp::Commit { ticket, gather, .. }) = ops.pop() else { panic!("one group") };
    let outcome = Err(DiskFault::Errno(5));
    let event = log.done(DiskDone::Committed { ticket, gather, outcome });
    assert_eq!(event, Some(LogEvent::Failed { after: first, up_to: third, fault: DiskFault::Errno(5) }));
    assert!(second < third && log.is_poisoned());
    assert_eq!(log.append_message(draft(b"u", Stamp(4 << 12), b"x")).err(), Some(Refused::Poisoned));
    log.turn(&mut ops);
    assert!(ops.is_empty());
}

#[test]
fn on_a_full_disk_deposits_are_refused_deletions_are_not_and_space_heals_it() {
    let (mut log, _) = fresh_log(0);
    let mut disk = Disk::default();
    settle(&mut log, &mut disk);
    disk.full = true;
    let mut places = Vec::new();
    let mut n = 0;
    loop {
        n += 1;
        match log.append_message(draft(b"u", Stamp(n << 12), &[1; 900])) {
            Ok((locator, _)) => places.push(locator.place()),
            Err(refused) => {
                assert_eq!(refused, Refused::DiskFull);
                break;
            }
        }
        settle(&mut log, &mut disk);
    }
    assert!(log.is_disk_full());
    for round in 0..20 {
        log.append_tombstones(&places).unwrap();
        settle(&mut log, &mut disk);
        let refused = log.append_message(draft(b"u", Stamp((n + round) << 12), &[1; 900])).err();
        assert_eq!(refused, Some(Refused::DiskFull), "the reserve is not for deposits");
    }
    log.retry_prepare(Tick(10_000_000));
    settle(&mut log, &mut disk);
    assert!(log.is_disk_full());
    disk.full = false;
    log.retry_prepare(Tick(10_500_000));
    settle(&mut log, &mut disk);
    assert!(log.is_disk_full(), "not twice within a second");
    log.retry_prepare(Tick(20_000_000));
    settle(&mut log, &mut disk);
    log.append_message(draft(b"u", Stamp(1_000 << 12), &[1; 900])).unwrap();
    settle(&mut log, &mut disk);
    assert!(!log.is_disk_full());
    let (found, _) = recovered(&disk, 1);
    assert_eq!((found.report.messages, found.report.damaged), (1, 0));
}

#[test]
fn appends_that_wait_for_a_segment_that_cannot_be_had_fail_alone() {
    let (mut log, _) = fresh_log(0);
    let mut disk = Disk { full: true, ..Disk::default() };
    let (_, seq) = log.append_message(draft(b"u", Stamp(1 << 12), b"x")).unwrap();
    let events = settle(&mut log, &mut disk);
    assert_eq!(events, [LogEvent::Failed { after: Seq(0), up_to: seq, fault: DiskFault::Full }]);
    assert_eq!((log.waiting_octets(), log.is_poisoned()), (0, false));
    disk.full = false;
    log.retry_prepare(Tick(10_000_000));
    settle(&mut log, &mut disk);
    log.append_message(draft(b"u", Stamp(2 << 12), b"x")).unwrap();
    settle(&mut log, &mut disk);
    assert_eq!(recovered(&disk, 1).0.report.messages, 1);
}

#[test]
fn a_group_that_was_lost_while_it_was_open_leaves_nothing_in_the_next_ones_sum() {
    let (mut log, _) = fresh_log(0);
    let (mut disk, mut ops) = (Disk { full: true, ..Disk::default() }, Vec::new());
    log.append_message(draft(b"u", Stamp(1 << 12), b"closed")).unwrap();
    log.turn(&mut ops);
    let (_, open) = log.append_message(draft(b"u", Stamp(2 << 12), b"open still")).unwrap();
    let events: Vec<_> = ops.drain(..).filter_map(|op| log.done(disk.serve(op))).collect();
    assert_eq!(events, [LogEvent::Failed { after: Seq(0), up_to: open, fault: DiskFault::Full }]);
    disk.full = false;
    log.retry_prepare(Tick(10_000_000));
    settle(&mut log, &mut disk);
    for n in 3..=4 {
        log.append_message(draft(b"u", Stamp(n << 12), b"x")).unwrap();
    }
    settle(&mut log, &mut disk);
    let report = recovered(&disk, 1).0.report;
    assert_eq!((report.messages, report.damaged, report.torn.len()), (2, 0, 0));
}

#[test]
fn what_waits_is_bounded_and_what_fits_nowhere_is_refused() {
    let (mut log, _) = fresh_log(0);
    let mut disk = Disk::default();
    settle(&mut log, &mut disk);
    assert_eq!(log.append_message(draft(b"u", Stamp(1 << 12), &[0; 13_000])).err(), Some(Refused::TooLarge));
    let mut taken = 0;
    while log.append_message(draft(b"u", Stamp(1 << 12), &[0; 1_000])).is_ok() {
        taken += 1;
        assert!(taken < 20);
    }
    assert!(log.waiting_octets() <= 12 * 1024);
    log.append_tombstones(&[Place::default()]).expect("a flood of deposits does not keep a deletion out");
    settle(&mut log, &mut disk);
    assert_eq!(log.waiting_octets(), 0);
    let mut many = Gather::new();
    (0..3_000).for_each(|_| {
        many.push(Bytes::from_static(&[b'a'; 1]));
        many.push(Bytes::from_static(&[b'b'; 2]));
    });
    log.append_message(Draft { body: many, ..draft(b"u", Stamp(3 << 12), b"") }).unwrap();
    settle(&mut log, &mut disk);
}

#[test]
fn rot_below_the_durable_mark_is_counted_and_costs_only_what_it_hit() {
    let (mut log, segments) = fresh_log(0);
    let mut disk = Disk::default();
    let mut locators = Vec::new();
    for n in 1..=9u64 {
        let (locator, _) = log.append_message(draft(b"u", Stamp(n << 12), &[n as u8; 300])).unwrap();
        locators.push(locator);
        if n % 3 == 0 {
            settle(&mut log, &mut disk);
        }
    }
    let hit = |disk: &Disk, at: u64| {
        let mut disk = disk.clone();
        let file = disk.files.get_mut(&(CoreId(0), locators[0].place().segment)).unwrap();
        file.0[at as usize] ^= 1;
        disk
    };
    // A body of the second group: one record.
    let mut rotten = hit(&disk, locators[4].place().octets() + 200);
    let (found, directory) = recovered(&rotten, 1);
    let mut expected = locators.clone();
    expected.remove(4);
    assert_eq!((queued(&found, &directory, b"u"), found.report.damaged), (expected, 1));
    assert_eq!(found.report.damage[0].place, locators[4].place());
    assert_eq!(read(&segments, &mut rotten, b"u", &locators[3..5])[1], Err(Damage::Body));
    // A head: the next record is found all the same.
    let (found, directory) = recovered(&hit(&disk, locators[3].place().octets() + 20), 1);
    let mut expected = locators.clone();
    expected.remove(3);
    assert_eq!((queued(&found, &directory, b"u"), found.report.damaged), (expected, 1));
    // The header of the second group: its three records.
    let (found, directory) = recovered(&hit(&disk, locators[3].place().octets() - 20), 1);
    let mut expected = locators.clone();
    expected.drain(3..6);
    assert_eq!((queued(&found, &directory, b"u"), found.report.damaged), (expected, 1));
    // The segment's header: everything is found, and nothing is appended there again by mistake of number.
    let (found, directory) = recovered(&hit(&disk, 9), 1);
    assert_eq!((queued(&found, &directory, b"u"), found.report.damaged), (locators, 1));
}
