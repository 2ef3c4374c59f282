//! From what lies on disk to what each core begins with: manifest, recovery, and the news of it for the operator.

use crate::base::clock::Now;
use crate::base::net::CoreId;
use crate::engine::core::Core;
use crate::engine::setup::{Birth, Setup};
use crate::store::directory::Directory;
use crate::store::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use crate::store::hint::Hint;
use crate::store::log::{Log, LogSetup};
use crate::store::manifest::{Manifest, ManifestFault, RESERVATION};
use crate::store::recovery::{self, Files, RecoveryFault, RecoveryReport};
use crate::store::segments::Segments;
use crate::store::stamp::Stamps;
use crate::uring::data_dir::DataDir;
use crate::uring::disk;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether segment numbers run low. A reservation is 4,096 segments of 64 MiB; its last quarter lasts
/// a disk of 1 GB/s longer than a minute.
const LOOK: Duration = Duration::from_secs(5);

/// The command that mends a data directory, as the end of a sentence.
const REPAIR: &str = "see what can be done with: deferctl repair --config FILE (it changes nothing without --yes)";

/// Why what is stored cannot be used.
#[derive(Debug)]
pub enum BirthFault {
    /// The manifest cannot be read or written.
    Manifest(io::Error),
    /// The manifest is not one, or of another version.
    ForeignManifest(ManifestFault),
    /// There are logs and no manifest to read them with.
    NoManifest,
    /// The logs cannot be used.
    Recovery(RecoveryFault),
    /// No random numbers.
    Chance,
}

impl fmt::Display for BirthFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BirthFault::Manifest(error) => {
                write!(f, "cannot read or write the manifest: {error}; look at the disk below data_dir")
            }
            BirthFault::ForeignManifest(ManifestFault::Version(version)) => {
                write!(f, "data_dir/manifest is of format version {version}, written by another deferd; run that one")
            }
            BirthFault::ForeignManifest(fault) => {
                write!(f, "data_dir/manifest cannot be read ({fault:?}); restore the file, or {REPAIR}")
            }
            BirthFault::NoManifest => {
                write!(f, "data_dir holds logs and no manifest; restore data_dir/manifest, or {REPAIR}")
            }
            BirthFault::Recovery(fault) => match fault {
                RecoveryFault::List(fault) => {
                    write!(f, "cannot list the logs: {fault:?}; look at the disk below data_dir")
                }
                RecoveryFault::Sync { log, segment, fault } => write!(
                    f,
                    "cannot make segment {} of log {} durable: {fault:?}; look at the disk below data_dir",
                    segment.0, log.0
                ),
                RecoveryFault::Version { log, segment, version } => write!(
                    f,
                    "segment {} of log {} is of format version {version}, written by another deferd; run that one",
                    segment.0, log.0
                ),
                RecoveryFault::SegmentTwice(segment) => write!(
                    f,
                    "two files claim to be segment {}: a copied log lies below data_dir; take the copy away, or {REPAIR}",
                    segment.0
                ),
                RecoveryFault::SegmentTooLong { log, segment, octets } => write!(
                    f,
                    "segment {} of log {} has {octets} octets, more than any segment; it is not deferd's, take it away",
                    segment.0, log.0
                ),
                RecoveryFault::SegmentMissing { log, segment } => write!(
                    f,
                    "data_dir/log-{}/{:010}.log is missing: the manifest lists it, and the messages in it are lost with it; put it \
                     back, or {REPAIR}",
                    log.0, segment.0
                ),
                RecoveryFault::SegmentForeign { log, segment } => write!(
                    f,
                    "data_dir/log-{}/{:010}.log holds records and is not in the manifest: it was put there by hand, or the \
                     manifest is older than the logs; take it away, or {REPAIR}",
                    log.0, segment.0
                ),
                RecoveryFault::TooManyUsers { room } => {
                    write!(f, "more than {room} users have messages stored; raise limits.users")
                }
            },
            BirthFault::Chance => f.write_str("the system gives no random numbers"),
        }
    }
}

impl Files for DataDir {
    fn list(&self) -> Result<Vec<(CoreId, SegmentNo, u64)>, DiskFault> {
        self.sync_names().and_then(|()| self.segments()).map_err(|error| disk::fault(&error))
    }

    fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, buffer: &mut [u8]) -> Result<usize, DiskFault> {
        DataDir::read_at(self, log, segment, at, buffer).map_err(|error| disk::fault(&error))
    }

    fn sync(&self, log: CoreId, segment: SegmentNo) -> Result<(), DiskFault> {
        self.open_segment(log, segment).and_then(|file| file.sync_data()).map_err(|error| disk::fault(&error))
    }

    fn read_hint(&self, log: CoreId, segment: SegmentNo) -> Result<Vec<u8>, DiskFault> {
        DataDir::read_hint(self, log, segment).map_err(|error| disk::fault(&error))
    }

    fn gone(&self) -> Vec<(CoreId, SegmentNo, Vec<u8>)> {
        DataDir::gone(self)
    }
}

/// Reads what is stored; gives, per core, what builds its mind on its own thread, and the users of all.
///
/// # Errors
/// What is stored cannot be used; nothing was changed but the manifest's reservation.
pub fn recover(
    data: &Arc<DataDir>,
    setups: Vec<Setup>,
    now: Now,
) -> Result<(Vec<impl FnOnce() -> Core + Send + 'static + use<>>, Arc<Directory>), BirthFault> {
    let begun = Instant::now();
    let cores = u16::try_from(setups.len()).unwrap_or(u16::MAX);
    let users = setups.first().map_or(0, |setup| setup.limits.users);
    let remember = setups.first().map_or(0, |setup| setup.limits.dedupe_entries);
    let found = read_manifest(data)?;
    let mut manifest = match found {
        Some(manifest) => manifest,
        None => {
            let mut key = [0; 16];
            getrandom::fill(&mut key).map_err(|_| BirthFault::Chance)?;
            Manifest::new(key, 0)
        }
    };
    let (key, reserved_from) = (manifest.key, manifest.reserved_to);
    let domains = setups.first().map_or(&[][..], |setup| &setup.policy.domains);
    let directory = Arc::new(Directory::new(users, cores, key).with_domains(domains));
    let mut recovered =
        recovery::recover(data.as_ref(), &directory, cores, &manifest, remember).map_err(BirthFault::Recovery)?;
    let reserved_to = recovered.next_segment.max(reserved_from).saturating_add(RESERVATION);
    manifest.reserved_to = reserved_to;
    data.write_manifest(&manifest).map_err(BirthFault::Manifest)?;
    let segments = recovered.segments(reserved_from, reserved_to, key);
    tell(&recovered.report, begun.elapsed());
    clear_away(data, &recovered.report);
    write_hints(data.clone(), std::mem::take(&mut recovered.unwritten));
    reserve_ahead(data.clone(), segments.clone());

    let homes = recovered.homes.drain(..);
    let logs = recovered.logs.drain(..);
    let mut minds = Vec::new();
    for ((setup, home), resume) in setups.into_iter().zip(homes).zip(logs) {
        let log = LogSetup {
            core: setup.core,
            segment_octets: setup.limits.segment_octets,
            commit_octets: setup.limits.commit_octets,
        };
        let birth = Birth {
            log: with_first_segments(data, Log::new(log, resume, segments.clone())),
            nodes: directory.nodes(setup.core).ok_or(BirthFault::Chance)?,
            directory: directory.clone(),
            segments: segments.clone(),
            stamps: Stamps::new(setup.core, recovered.highest_stamp, now),
            home,
        };
        minds.push(move || Core::new(setup, birth, now));
    }
    Ok((minds, directory))
}

/// Serves what a log asks for before anything else, a segment to write and then the reserve: the first deposit shall not wait until
/// 64 MiB of zeros are written, nor share the disk with 64 more. What fails the log hears as it would later, and asks again.
fn with_first_segments(data: &DataDir, mut log: Log) -> Log {
    for _ in 0..2 {
        let mut orders = Vec::new();
        log.turn(&mut orders);
        for order in orders {
            if let DiskOp::Prepare { ticket, log: core, segment, octets, header } = order {
                let made = data.allocate_segment(core, segment, octets, &header);
                let outcome = made.map(|_| ()).map_err(|error| disk::fault(&error));
                log.done(DiskDone::Prepared { ticket, outcome });
            }
        }
    }
    log
}

fn read_manifest(data: &DataDir) -> Result<Option<Manifest>, BirthFault> {
    match data.read_manifest().map_err(BirthFault::Manifest)? {
        Some(octets) => Manifest::decode(&octets).map(Some).map_err(BirthFault::ForeignManifest),
        None if data.segments().map_err(BirthFault::Manifest)?.is_empty() => Ok(None),
        None => Err(BirthFault::NoManifest),
    }
}

/// Says what was found, damage with its place.
fn tell(report: &RecoveryReport, took: Duration) {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (segments, messages, users, octets) = (report.segments, report.messages, report.users, report.octets);
    let hinted = report.hinted;
    tracing::info!(segments, hinted, octets, messages, users, torn = report.torn.len(), took_ms, "recovered");
    if report.hints_broken > 0 {
        tracing::warn!(
            hints = report.hints_broken,
            "indexes of segments are broken; their segments were read instead, and nothing is lost by it: look at the disk below data_dir"
        );
    }
    for found in &report.damage {
        tracing::error!(
            log = found.log.0,
            segment = found.place.segment.0,
            at = found.place.octets(),
            damage = ?found.damage,
            "a stored record is damaged and was skipped; its neighbours are not affected"
        );
    }
    if report.damaged > report.damage.len() as u64 {
        tracing::error!(damaged = report.damaged, "more damage was found than is listed: replace the disk");
    }
}

/// Removes files of segments whose making a crash has ended, or their first group's writing: nothing in them counts, and their numbers never
/// come again.
fn clear_away(data: &DataDir, report: &RecoveryReport) {
    for &(log, segment) in &report.unfinished {
        match data.remove_segment(log, segment) {
            Ok(()) => tracing::debug!(log = log.0, segment = segment.0, "a segment that was never finished is removed"),
            Err(error) => tracing::warn!(%error, log = log.0, segment = segment.0, "an unfinished segment stays"),
        }
    }
}

/// Gives segments that had no hint one, while the cores begin: the next start is the quicker for it.
fn write_hints(data: Arc<DataDir>, hints: Vec<Hint>) {
    let spawned = std::thread::Builder::new().name("hints".into()).spawn(move || {
        data.clear_hints();
        for hint in hints {
            if let Some((_, last)) = hint.groups() {
                data.note_in_manifest(|manifest| manifest.seal(hint.segment(), last));
            }
            if let Err(error) = data.write_hint(hint.log(), hint.segment(), hint.octets()) {
                tracing::warn!(%error, segment = hint.segment().0, "no index for a segment; the next start reads it whole");
            }
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for the indexes of segments: the next start takes as long as this one");
    }
}

/// Keeps segment numbers ahead of need: each may be used only when the manifest on disk allows it.
fn reserve_ahead(data: Arc<DataDir>, segments: Arc<Segments>) {
    let spawned = std::thread::Builder::new().name("manifest".into()).spawn(move || {
        loop {
            std::thread::sleep(LOOK);
            if segments.is_low() {
                let reserved_to = segments.next().saturating_add(RESERVATION);
                match data.amend_manifest(|manifest| manifest.reserved_to = reserved_to) {
                    Ok(()) => segments.extend(reserved_to),
                    Err(error) => tracing::error!("{}", BirthFault::Manifest(error)),
                }
            }
        }
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread for the manifest: deposits end when the reserved segments are full");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::control::config::Config;

    #[test]
    fn what_a_crash_left_unfinished_is_removed_at_the_next_start() {
        let place = tempfile::tempdir().unwrap();
        let data = Arc::new(DataDir::open(place.path()).unwrap());
        let config = Config::parse("[server]\nhostname = \"a.b\"\ndomains = [\"b\"]\n").unwrap();
        let now = crate::uring::clock::Clock::start().now();
        let start =
            || recover(&data, vec![config.setup(CoreId(0), 1, &[], &[], [0; 32])], now).map(|(minds, _)| minds.len());
        assert_eq!(start().unwrap(), 1);
        let first = data.segments().unwrap();
        assert_eq!(first.len(), 2, "a segment to write and the reserve are there before anybody asks");
        let (log, segment) = (CoreId(0), SegmentNo(7));
        // Allocated, and killed before the first octet was written.
        drop(data.prepare_segment(log, segment, 1 << 20, &[]).unwrap());
        assert_eq!(data.segments().unwrap().len(), 3);
        assert_eq!(start().unwrap(), 1);
        assert_eq!(data.segments().unwrap(), first);
    }
}
