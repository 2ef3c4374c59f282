//! A start, rehearsed: what would a daemon find in this directory, if its manifest were this one? With the daemon's own recovery,
//! every record read and no index believed. Changes nothing.

use deferd::base::net::CoreId;
use deferd::store::directory::Directory;
use deferd::store::disk::{DiskFault, SegmentNo};
use deferd::store::manifest::Manifest;
use deferd::store::recovery::{self, DamageFound, Files, RecoveryFault, RecoveryReport};
use deferd::uring::data_dir::DataDir;
use std::collections::BTreeSet;

/// Users a rehearsal has room for at first, some 25 MiB of memory; where there are more it is done again with more.
const USERS: usize = 1 << 18;

/// More users than one host has memory for.
const USERS_MAX: usize = 1 << 30;

/// What a start would find.
pub(super) struct Rehearsal {
    pub(super) messages: u64,
    pub(super) users: u64,
    /// Findings of damage.
    pub(super) damaged: u64,
    /// The first of them.
    pub(super) damage: Vec<DamageFound>,
}

/// A directory as it would be.
struct Stage<'a> {
    data: &'a DataDir,
    /// Files that would not be there.
    without: &'a BTreeSet<(CoreId, SegmentNo)>,
}

impl Files for Stage<'_> {
    fn list(&self) -> Result<Vec<(CoreId, SegmentNo, u64)>, DiskFault> {
        let mut list = self.data.segments().map_err(|error| deferd::uring::disk::fault(&error))?;
        list.retain(|(log, segment, _)| !self.without.contains(&(*log, *segment)));
        Ok(list)
    }

    fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, buffer: &mut [u8]) -> Result<usize, DiskFault> {
        Files::read_at(self.data, log, segment, at, buffer)
    }

    fn sync(&self, _: CoreId, _: SegmentNo) -> Result<(), DiskFault> {
        Ok(())
    }

    fn read_hint(&self, _: CoreId, _: SegmentNo) -> Result<Vec<u8>, DiskFault> {
        Err(DiskFault::Missing)
    }
}

/// Rehearses a start on all that is there.
pub(super) fn rehearse(data: &DataDir, manifest: &Manifest) -> Result<Rehearsal, String> {
    attempt(data, manifest, &BTreeSet::new())
        .map_err(|fault| format!("a daemon could not start on {}: {fault:?}", data.path().display()))
}

/// The same without some files.
pub(super) fn attempt(
    data: &DataDir,
    manifest: &Manifest,
    without: &BTreeSet<(CoreId, SegmentNo)>,
) -> Result<Rehearsal, RecoveryFault> {
    let stage = Stage { data, without };
    let logs = manifest.segments().iter().map(|listed| listed.log.0).max().map_or(1, |log| log.saturating_add(1));
    let cores = logs.clamp(1, 64);
    let mut users = USERS;
    loop {
        let directory = Directory::new(users, cores, manifest.key);
        match recovery::recover(&stage, &directory, cores, manifest, 0) {
            Err(RecoveryFault::TooManyUsers { .. }) if users < USERS_MAX => users *= 8,
            Err(fault) => return Err(fault),
            Ok(found) => {
                let RecoveryReport { messages, users, damaged, damage, .. } = found.report;
                return Ok(Rehearsal { messages, users, damaged, damage });
            }
        }
    }
}
