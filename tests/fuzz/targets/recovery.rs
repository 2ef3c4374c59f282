//! Recovery of whatever the disk holds: it never panics, never invents a message, and what it brings back can be loaded as it was
//! written or is said to be damaged.

use bytes::{Bytes, BytesMut};
use deferd::base::gather::Gather;
use deferd::base::net::CoreId;
use deferd::store::directory::Directory;
use deferd::store::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use deferd::store::loader::Loader;
use deferd::store::log::{Log, LogResume, LogSetup};
use deferd::store::manifest::Manifest;
use deferd::store::record::{Draft, Flags, Locator, Place, Stamp, StateKind};
use deferd::store::recovery::{Files, Recovered, recover};
use deferd::store::segments::Segments;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

const KEY: [u8; 16] = *b"a key of fuzzing";
const SEGMENT: u64 = 16 * 1024;
const SECTOR: usize = 512;

type Name = (CoreId, SegmentNo);

#[derive(Clone)]
struct Disk {
    files: BTreeMap<Name, Vec<u8>>,
    hints: BTreeMap<Name, Vec<u8>>,
    /// Hints of segments that were had back.
    gone: BTreeMap<Name, Vec<u8>>,
    manifest: Manifest,
}

impl Disk {
    fn new() -> Disk {
        let (files, hints, gone) = Default::default();
        Disk { files, hints, gone, manifest: Manifest::new(KEY, 1_000) }
    }

    /// A file that the manifest knows of.
    fn put(&mut self, name: Name, octets: Vec<u8>) {
        self.files.insert(name, octets);
        self.manifest.list(name.0, name.1);
    }

    fn serve(&mut self, op: DiskOp) -> DiskDone {
        match op {
            DiskOp::Prepare { ticket, log, segment, octets, header } => {
                let mut image = vec![0; octets as usize];
                image[..header.len()].copy_from_slice(&header);
                self.put((log, segment), image);
                DiskDone::Prepared { ticket, outcome: Ok(()) }
            }
            DiskOp::Commit { ticket, log, segment, at, gather } => {
                let octets = gather.to_vec();
                let image = self.files.get_mut(&(log, segment)).expect("prepared before");
                image[at as usize..][..octets.len()].copy_from_slice(&octets);
                DiskDone::Committed { ticket, gather, outcome: Ok(()) }
            }
            DiskOp::Read { ticket, log, segment, at, len, buffer } => {
                let outcome = self.read_at(log, segment, at, len as usize);
                let (octets, outcome) = outcome.map_or_else(|fault| (&[][..], Err(fault)), |octets| (octets, Ok(())));
                let mut buffer: BytesMut = buffer;
                buffer.extend_from_slice(octets);
                DiskDone::Read { ticket, buffer, outcome }
            }
            DiskOp::Lend { ticket, log, segment, at, len } => {
                let lent = self.read_at(log, segment, at, len as usize).map(Bytes::copy_from_slice);
                let outcome = lent.as_ref().map(|_| ()).map_err(|fault| *fault);
                DiskDone::Lent { ticket, page: lent.unwrap_or_default(), outcome }
            }
            DiskOp::Remove { ticket, log, segment } => {
                self.files.remove(&(log, segment));
                self.gone.extend(self.hints.remove_entry(&(log, segment)));
                self.manifest.forget(segment);
                DiskDone::Removed { ticket, outcome: Ok(()) }
            }
            DiskOp::WriteHint { ticket, log, segment, last, octets } => {
                self.manifest.seal(segment, last);
                if !octets.is_empty() {
                    self.hints.insert((log, segment), octets.to_vec());
                }
                DiskDone::HintWritten { ticket, outcome: Ok(()) }
            }
            DiskOp::ReadHint { ticket, log, segment } => {
                let hint = self.hints.get(&(log, segment)).map(|hint| BytesMut::from(&hint[..]));
                let outcome = hint.as_ref().map(|_| ()).ok_or(DiskFault::Missing);
                DiskDone::Read { ticket, buffer: hint.unwrap_or_default(), outcome }
            }
            DiskOp::Recycle { ticket, log, old, new, header } => {
                let mut image = self.files.remove(&(log, old)).expect("it is there");
                image[..header.len()].copy_from_slice(&header);
                self.gone.extend(self.hints.remove_entry(&(log, old)));
                self.manifest.forget(old);
                self.put((log, new), image);
                DiskDone::Recycled { ticket, outcome: Ok(()) }
            }
        }
    }

    fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, len: usize) -> Result<&[u8], DiskFault> {
        let image = self.files.get(&(log, segment)).ok_or(DiskFault::Missing)?;
        let from = image.get(at as usize..).unwrap_or_default();
        Ok(&from[..from.len().min(len)])
    }
}

impl Files for Disk {
    fn list(&self) -> Result<Vec<(CoreId, SegmentNo, u64)>, DiskFault> {
        Ok(self.files.iter().map(|((log, segment), image)| (*log, *segment, image.len() as u64)).collect())
    }
    fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, buffer: &mut [u8]) -> Result<usize, DiskFault> {
        let octets = Disk::read_at(self, log, segment, at, buffer.len())?;
        buffer[..octets.len()].copy_from_slice(octets);
        Ok(octets.len())
    }
    fn sync(&self, _: CoreId, _: SegmentNo) -> Result<(), DiskFault> {
        Ok(())
    }
    fn read_hint(&self, log: CoreId, segment: SegmentNo) -> Result<Vec<u8>, DiskFault> {
        self.hints.get(&(log, segment)).cloned().ok_or(DiskFault::Missing)
    }
    fn gone(&self) -> Vec<(CoreId, SegmentNo, Vec<u8>)> {
        self.gone.iter().map(|(&(log, segment), hint)| (log, segment, hint.clone())).collect()
    }
}

/// What was written: by its place, whose it is, its locator and its octets.
struct Written {
    disk: Disk,
    messages: HashMap<Place, (Vec<u8>, Locator, Vec<u8>)>,
}

fn settle(log: &mut Log, disk: &mut Disk) {
    let mut ops = Vec::new();
    loop {
        log.turn(&mut ops);
        if ops.is_empty() {
            return;
        }
        for op in ops.drain(..) {
            let _ = log.done(disk.serve(op));
        }
    }
}

fn gather(octets: &[u8]) -> Gather {
    let mut gather = Gather::new();
    gather.push(Bytes::copy_from_slice(octets));
    gather
}

/// Two logs with everything that the format has, over several segments.
static WRITTEN: LazyLock<Written> = LazyLock::new(|| {
    let segments = Arc::new(Segments::new(0, 1_000, KEY));
    let (mut disk, mut messages) = (Disk::new(), HashMap::new());
    let mut places = Vec::new();
    for core in 0..2u16 {
        let setup = LogSetup { core: CoreId(core), segment_octets: SEGMENT, commit_octets: 12 * 1024 };
        let mut log = Log::new(setup, LogResume::default(), segments.clone());
        for n in 1..=24u64 {
            let stamp = Stamp(n << 12 | u64::from(core));
            let owner = [&b"sip:u0@x"[..], b"sip:u1@x", b"sip:u2@x"][(n % 3) as usize];
            let body = vec![n as u8; (n as usize * 131) % 1_500];
            let mut large = Vec::new();
            if n == 7 {
                for part in 0..3u8 {
                    large.push(log.append_part(owner, stamp, gather(&vec![part; 700])).unwrap().0);
                }
            }
            let draft = Draft {
                owner,
                stamp,
                random: [n as u8; 10],
                expiry_s: 1_800_000_000 + n as u32,
                fingerprint: stamp.0,
                flags: if large.is_empty() { Flags::REPORT } else { Flags::LARGE },
                envelope: b"From: <sip:a@x>",
                body_type: b"text/plain",
                parts: &large,
                body: gather(&body),
            };
            let (locator, _) = log.append_message(draft).unwrap();
            messages.insert(locator.place(), (owner.to_vec(), locator, body));
            places.push(locator.place());
            if n % 5 == 0 {
                settle(&mut log, &mut disk);
            }
        }
        settle(&mut log, &mut disk);
        log.append_tombstones(&places[places.len() - 3..]).unwrap();
        log.append_retained(&places[2..4]).unwrap();
        log.append_state(StateKind::Settings, Stamp(9), b"sip:u1@x", b"k", b"value").unwrap();
        log.append_state(StateKind::Publication, Stamp(10), b"sip:u2@x", b"etag", b"x").unwrap();
        settle(&mut log, &mut disk);
    }
    Written { disk, messages }
});

/// The input is a list of misfortunes, eight octets each: what, in which file, where, how.
fn misfortunes(disk: &mut Disk, octets: &[u8]) {
    for step in octets.chunks_exact(8).take(64) {
        let names: Vec<Name> = disk.files.keys().copied().collect();
        let Some(name) = names.get(usize::from(step[1]) % names.len().max(1)).copied() else { return };
        let at = usize::from(step[2]) << 8 | usize::from(step[3]);
        let other = usize::from(step[4]) << 8 | usize::from(step[5]);
        let Some(image) = disk.files.get_mut(&name) else { continue };
        let (len, sectors) = (image.len(), image.len() / SECTOR);
        match step[0] % 10 {
            _ if len == 0 => {}
            // A few octets rot.
            0 | 1 => {
                for (place, rot) in image.iter_mut().skip(at % len).zip(&step[4..]) {
                    *place ^= rot;
                }
            }
            // A sector was never written, or is another's.
            2 => image[at % sectors.max(1) * SECTOR..].iter_mut().take(SECTOR).for_each(|octet| *octet = 0),
            3 if sectors > 0 => {
                let (from, to) = (at % sectors * SECTOR, other % sectors * SECTOR);
                image.copy_within(from..from + SECTOR, to);
            }
            // The file ends early, or goes on.
            4 => image.truncate(at % (len + 1)),
            5 => image.resize((len + other % 4_096).min(4 * SEGMENT as usize), step[6]),
            // The file is gone, is another's, or stands there twice.
            6 => {
                disk.files.remove(&name);
                if step[6] & 1 == 0 {
                    disk.manifest.forget(name.1);
                }
                // It was had back, and its hint stays; or another's stands there in its name.
                let hint = disk.hints.iter().nth(usize::from(step[7])).or(disk.hints.get_key_value(&name));
                if step[6] & 2 != 0
                    && let Some((_, hint)) = hint
                {
                    disk.gone.insert(name, hint.clone());
                }
            }
            // Its hint rots, is cut short, or is gone.
            8 => {
                let hint = if step[7] & 128 == 0 { disk.hints.get_mut(&name) } else { disk.gone.values_mut().next() };
                if let Some(hint) = hint.filter(|hint| !hint.is_empty()) {
                    let len = hint.len();
                    hint.iter_mut().skip(at % len).zip(&step[4..]).for_each(|(octet, rot)| *octet ^= rot);
                }
            }
            9 => match disk.hints.get_mut(&name) {
                Some(hint) if step[6] & 1 == 0 => hint.truncate(at),
                _ => drop(disk.hints.remove(&name)),
            },
            _ => {
                let copy = image.clone();
                let number = if step[6] & 1 == 0 { SegmentNo(u32::from(step[7])) } else { name.1 };
                disk.files.insert((CoreId(u16::from(step[4] % 3)), number), copy);
            }
        }
    }
}

/// What recovery says of a disk holds together.
fn examine(disk: &Disk, cores: u16) -> Option<(Recovered, Directory)> {
    let directory = Directory::new(16, cores, KEY);
    let found = recover(disk, &directory, cores, &disk.manifest, 1_000).ok()?;
    assert_eq!((found.homes.len(), found.logs.len()), (usize::from(cores), usize::from(cores)));
    let counted: usize = found.homes.iter().flat_map(|home| &home.users).map(|(_, queue)| queue.len()).sum();
    assert_eq!(counted as u64, found.report.messages);
    assert!(found.report.damage.len() as u64 <= found.report.damaged);
    Some((found, directory))
}

/// Misfortunes over a disk that was written well: what comes back was written, for that user, and is loaded as it was or not at all.
pub(super) fn recovery(octets: &[u8]) {
    let written = &*WRITTEN;
    let mut disk = written.disk.clone();
    let (cores, steps) = octets.split_first().map_or((1, octets), |(first, rest)| (u16::from(first % 3) + 1, rest));
    misfortunes(&mut disk, steps);
    let Some((found, directory)) = examine(&disk, cores) else { return };
    let all = found.segments(1_000, 2_000, KEY);
    for (user, queue) in found.homes.iter().flat_map(|home| &home.users) {
        let address = directory.address(*user).to_vec();
        let locators: Vec<Locator> = queue.iter().copied().collect();
        assert!(locators.is_sorted_by_key(Locator::stamp), "in the order of arrival");
        for locator in &locators {
            let (owner, was, _) = written.messages.get(&locator.place()).expect("no message is invented");
            assert_eq!((owner, was.stamp(), was.octets()), (&address, locator.stamp(), locator.octets()));
            assert_eq!(was.expiry_s(), locator.expiry_s());
        }
        let mut loader = Loader::new(all.clone());
        let mut ops = Vec::new();
        let mut done = loader.load_owned(1, &address, &locators, &mut ops);
        for op in ops {
            done = loader.done(disk.serve(op)).or(done);
        }
        for loaded in done.expect("every read was answered").records {
            if let Ok(record) = loaded.outcome {
                let (_, _, body) = &written.messages[&loaded.locator.place()];
                assert_eq!(record.body(), body);
            }
        }
    }
}

/// Octets that never were a segment, in one file or two, behind a good segment's header, and as a manifest.
pub(super) fn segments(octets: &[u8]) {
    if let Ok(manifest) = Manifest::decode(octets) {
        assert_eq!(manifest.encode()[..], *octets);
    }
    let half = octets.len() / 2;
    let mut disk = Disk::new();
    disk.put((CoreId(0), SegmentNo(0)), octets.to_vec());
    let _ = examine(&disk, 1);
    disk.put((CoreId(0), SegmentNo(0)), octets[..half].to_vec());
    disk.put((CoreId(1), SegmentNo(1)), octets[half..].to_vec());
    let _ = examine(&disk, 2);
    let (name, image) = WRITTEN.disk.files.first_key_value().unwrap();
    disk = Disk::new();
    disk.put(*name, [&image[..4_096], octets].concat());
    let _ = examine(&disk, 1);
}
