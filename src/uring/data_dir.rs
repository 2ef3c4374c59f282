//! The data directory: who may use it, and what lies where.
//!
//! ```text
//!   data_dir/lock                     held by flock(2) while a daemon runs; its process id for people
//!   data_dir/manifest                 one small file, replaced as a whole
//!   data_dir/log-<core>/<segment>.log the logs; core decimal, segment ten digits
//!   data_dir/log-<core>/<segment>.hint an index of a segment that is not written any more
//!   data_dir/log-<core>/<segment>.gone the same of one that was had back lately (`gone`)
//! ```
//! All calls here block. The daemon makes them before its cores run, or on the cores' blocking threads.

#![allow(unsafe_code)]

use super::fill::{allocate, fill};
use super::gone::GoneHints;
use super::mapping::{Mappings, SharedMapping};
use super::spare;
use crate::base::net::CoreId;
use crate::store::disk::SegmentNo;
use crate::store::layout::SEGMENT_OCTETS_MAX;
use crate::store::manifest::Manifest;
use std::ffi::CString;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Why the directory is not ours.
#[derive(Debug)]
pub enum DirFault {
    /// Another daemon holds it; its process id where the file says one.
    Occupied {
        /// Which directory.
        path: PathBuf,
        /// Who.
        pid: Option<u32>,
    },
    /// It cannot be made, opened or locked.
    Unusable {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for DirFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirFault::Occupied { path, pid } => {
                write!(f, "data directory {} is in use by another deferd", path.display())?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                f.write_str("; stop that one, or give this one a server.data_dir of its own")
            }
            DirFault::Unusable { path, error } => write!(
                f,
                "data directory: cannot use {}: {error}; make it a directory that the daemon's user may write \
                 (systemd: StateDirectory=deferd), or set server.data_dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DirFault {}

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Unlocked by the kernel when it is closed, however the process ends. `None`: we only look.
    lock_file: Option<File>,
    /// What the manifest says, once it has been written in this life.
    manifest: Mutex<Option<Manifest>>,
    mappings: Mappings,
    pub(super) gone: Mutex<GoneHints>,
}

impl DataDir {
    /// Makes the directory where it is missing, and takes its lock.
    ///
    /// # Errors
    /// It is occupied or cannot be used.
    pub fn open(path: &Path) -> Result<DataDir, DirFault> {
        let unusable = |at: &Path| {
            let path = at.to_path_buf();
            move |error| DirFault::Unusable { path, error }
        };
        make_durable_dir(path).map_err(unusable(path))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&lock_path)
            .map_err(unusable(&lock_path))?;
        // SAFETY: flock takes a descriptor, which `lock` keeps open, and flags.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::WouldBlock {
                let pid = fs::read_to_string(&lock_path).ok().and_then(|text| text.trim().parse().ok());
                return Err(DirFault::Occupied { path: path.to_path_buf(), pid });
            }
            return Err(DirFault::Unusable { path: lock_path, error });
        }
        // For people only; the lock is what counts.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(DataDir {
            path: path.to_path_buf(),
            lock_file: Some(lock),
            manifest: Mutex::default(),
            mappings: Mappings::default(),
            gone: Mutex::default(),
        })
    }

    /// False when the directory was removed, moved away or replaced: the file we hold locked is not the one of that name.
    pub fn is_there(&self) -> bool {
        let held = self.lock_file.as_ref().and_then(|held| held.metadata().ok()).map(|held| (held.dev(), held.ino()));
        let named = fs::metadata(self.path.join("lock")).ok().map(|named| (named.dev(), named.ino()));
        held.is_some() && held == named
    }

    /// Looks at a directory that a daemon may be using: for reading only.
    ///
    /// # Errors
    /// It is not there.
    pub fn look(path: &Path) -> io::Result<DataDir> {
        fs::read_dir(path)?;
        Ok(DataDir {
            path: path.to_path_buf(),
            lock_file: None,
            manifest: Mutex::default(),
            mappings: Mappings::default(),
            gone: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn log_path(&self, log: CoreId) -> PathBuf {
        self.path.join(format!("log-{}", log.0))
    }

    /// Where a segment lies.
    pub fn segment_path(&self, log: CoreId, segment: SegmentNo) -> PathBuf {
        self.log_path(log).join(format!("{:010}.log", segment.0))
    }

    /// The same, as the kernel wants it.
    ///
    /// # Errors
    /// `InvalidInput` when the directory's path has a zero octet, which no path that was opened has.
    pub fn segment_cpath(&self, log: CoreId, segment: SegmentNo) -> io::Result<CString> {
        CString::new(self.segment_path(log, segment).into_os_string().as_bytes())
            .map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    /// The manifest's octets; `None` when there is none yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read_manifest(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join("manifest")) {
            Ok(octets) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the manifest: afterwards, and after a crash at any moment, it is whole: the old or the new.
    ///
    /// # Errors
    /// What the kernel says; the old one is then still there, or the new one.
    pub fn write_manifest(&self, manifest: &Manifest) -> io::Result<()> {
        let mut current = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace("manifest", &manifest.encode())?;
        *current = Some(manifest.clone());
        spare::keep(&self.path);
        Ok(())
    }

    /// Writes the manifest with a change, which is kept only if it could be written. One that was never written in this life stays
    /// as it is: there is no daemon, only a tool or a test that makes files.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn amend_manifest(&self, change: impl FnOnce(&mut Manifest)) -> io::Result<()> {
        let mut current = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut changed) = current.clone() else { return Ok(()) };
        change(&mut changed);
        self.replace("manifest", &changed.encode())?;
        *current = Some(changed);
        Ok(())
    }

    /// A change that may be written with the next.
    pub fn note_in_manifest(&self, change: impl FnOnce(&mut Manifest)) {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(change);
    }

    /// A new file under a name of `data_dir`, whole or not there: written, synced, renamed, and the name made durable.
    fn replace(&self, name: &str, octets: &[u8]) -> io::Result<()> {
        spare::with(&self.path, || replace(&self.path, name, octets))
    }

    pub(super) fn hint_name(segment: SegmentNo) -> String {
        format!("{:010}.hint", segment.0)
    }

    /// Writes a segment's hint: afterwards, and after a crash at any moment, it is whole or not there.
    ///
    /// # Errors
    /// What the kernel says; a start then reads the segment.
    pub fn write_hint(&self, log: CoreId, segment: SegmentNo, octets: &[u8]) -> io::Result<()> {
        replace(&self.log_path(log), &Self::hint_name(segment), octets)
    }

    /// A segment's hint.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` where it is longer than any hint; what the kernel says otherwise.
    pub fn read_hint(&self, log: CoreId, segment: SegmentNo) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.log_path(log).join(Self::hint_name(segment)))?;
        // Of a segment's octets a hint holds less than it has.
        if file.metadata()?.len() > SEGMENT_OCTETS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut octets = Vec::new();
        file.read_to_end(&mut octets)?;
        Ok(octets)
    }

    /// Removes hints whose segments are not there, files that a crash left half written, and what was kept of segments that are
    /// long gone. Best effort.
    pub fn clear_hints(&self) {
        let Ok(segments) = self.segments() else { return };
        let mut logs: Vec<CoreId> = segments.iter().map(|(log, ..)| *log).collect();
        logs.dedup();
        for log in logs {
            let Ok(entries) = fs::read_dir(self.log_path(log)) else { continue };
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                let stray = match path.extension().and_then(|extension| extension.to_str()) {
                    Some("hint") => !path.with_extension("log").exists(),
                    Some("new") => true,
                    _ => false,
                };
                if stray {
                    let _ = fs::remove_file(path);
                }
            }
        }
        self.adopt_gone();
    }

    /// All segments, by log and number, with their lengths. Files that are not segments are passed over.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn segments(&self) -> io::Result<Vec<(CoreId, SegmentNo, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let log = name.to_str().and_then(|name| name.strip_prefix("log-")).and_then(|number| number.parse().ok());
            let Some(log) = log.map(CoreId).filter(|log| self.log_path(*log) == entry.path()) else { continue };
            for entry in fs::read_dir(entry.path())? {
                let entry = entry?;
                let name = entry.file_name();
                let number = name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|n| n.parse().ok());
                let Some(segment) = number.map(SegmentNo) else { continue };
                if self.segment_path(log, segment) == entry.path() {
                    found.push((log, segment, entry.metadata()?.len()));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Makes the names of all segments durable: a predecessor that was killed may have made a segment and not synced its directory,
    /// and what we write into it would go with its name.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sync_names(&self) -> io::Result<()> {
        sync_directory(&self.path)?;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name().to_str().is_some_and(|name| name.starts_with("log-")) {
                sync_directory(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Opens a segment to read.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_segment(&self, log: CoreId, segment: SegmentNo) -> io::Result<File> {
        File::open(self.segment_path(log, segment))
    }

    /// A segment's octets in memory. Whoever writes a segment's file anew does so by [`Mappings::unless_mapped`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn map_segment(&self, log: CoreId, segment: SegmentNo) -> io::Result<SharedMapping> {
        self.mappings.map(log, segment, &self.segment_path(log, segment))
    }

    /// Who has mapped what.
    pub fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// Reads from a segment into `buffer` until it is full or the file ends; how many octets.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.open_segment(log, segment)?;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, at + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Makes a segment of `octets` written zeros that begins with `header`, durable with its name. After an error there is no
    /// such file, so that it can be tried again.
    ///
    /// # Errors
    /// `AlreadyExists`; what the kernel says otherwise.
    pub fn prepare_segment(&self, log: CoreId, segment: SegmentNo, octets: u64, header: &[u8]) -> io::Result<File> {
        self.make_segment(log, segment, header, |file| fill(file, octets, header))
    }

    /// As [`DataDir::prepare_segment`], but the zeros are only allocated, where the file system can do that: made at once. For the
    /// first segment of a log, whose commits cost a little more for it, so that nobody waits for it.
    ///
    /// # Errors
    /// As there.
    pub fn allocate_segment(&self, log: CoreId, segment: SegmentNo, octets: u64, header: &[u8]) -> io::Result<File> {
        self.make_segment(log, segment, header, |file| {
            if allocate(file, octets)? { Ok(()) } else { fill(file, octets, header) }
        })
    }

    fn make_segment(
        &self,
        log: CoreId,
        segment: SegmentNo,
        header: &[u8],
        make: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<File> {
        let directory = self.log_path(log);
        match DirBuilder::new().mode(0o750).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Also when it is there already: whoever made it may not have come this far.
            _ => sync_directory(&self.path)?,
        }
        let path = self.segment_path(log, segment);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(&path)?;
        // First, so that a segment whose making is cut short is one all the same: what is missing reads as zeros.
        let made = file.write_all_at(header, 0).and_then(|()| make(&file)).and_then(|()| file.sync_all());
        let made = made.and_then(|()| sync_directory(&directory));
        // Listed before anything is written into it: a file with groups that is not listed is none of ours.
        match made.and_then(|()| self.amend_manifest(|manifest| manifest.list(log, segment))) {
            Ok(()) => Ok(file),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Makes the file of segment `old` that of `new`, with `header` over its first octets; all of it durable. What else it held
    /// stays: nothing is filled with zeros, which is what makes this cheap. The manifest says first that the old one is to go and the
    /// new one comes; a crash in between leaves a file whose header names another number than its name does: unfinished, and
    /// removed at the next start.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` when the old one is gone and no new one has come of it; what the kernel says otherwise.
    pub fn recycle_segment(&self, log: CoreId, old: SegmentNo, new: SegmentNo, header: &[u8]) -> io::Result<File> {
        let path = self.segment_path(log, new);
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.keep_hint(log, old);
        self.amend_manifest(|manifest| manifest.leave(old))?;
        let before = self.segment_path(log, old);
        // A message on its way to somebody may lie in a segment that is mapped: such a file is not written anew, it goes, and another
        // is made. Under the old name nobody maps it any more, the new one nobody knows yet.
        let Some(renamed) = self.mappings.unless_mapped(log, old, || fs::rename(&before, &path)) else {
            let octets = fs::metadata(&before)?.len();
            self.remove_segment(log, old)?;
            return self.prepare_segment(log, new, octets, header).map_err(|error| only_gone(old, &error));
        };
        renamed?;
        // The name first: a new header under the old name would be a segment that nobody knows.
        let made = sync_directory(&self.log_path(log)).and_then(|()| {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            file.write_all_at(header, 0)?;
            file.sync_all()?;
            self.amend_manifest(|manifest| {
                manifest.forget(old);
                manifest.list(log, new);
            })?;
            Ok(file)
        });
        let made = made.or_else(|error| {
            fs::remove_file(&path)?;
            self.note_in_manifest(|manifest| manifest.forget(old));
            Err(only_gone(old, &error))
        });
        spare::keep(&self.path);
        made
    }

    /// Deletes a segment, and keeps its hint for a while; durable afterwards. Its octets are given back at once, although cores may have it open still.
    /// The manifest says first that it is to go: a crash in between leaves a file that nobody reads, not a list that names a file which
    /// is lost.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_segment(&self, log: CoreId, segment: SegmentNo) -> io::Result<()> {
        self.keep_hint(log, segment);
        self.amend_manifest(|manifest| manifest.leave(segment))?;
        let path = self.segment_path(log, segment);
        // Cut, where nobody has it mapped: cores may have it open still, and its octets are wanted back now. Behind the end of a
        // file that was cut a mapping has no pages.
        let empty = || OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(0));
        let emptied = self.mappings.unless_mapped(log, segment, empty).unwrap_or(Ok(()));
        self.mappings.forget(log, segment);
        match emptied.and_then(|()| fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => sync_directory(&self.log_path(log))?,
        }
        self.note_in_manifest(|manifest| manifest.forget(segment));
        spare::keep(&self.path);
        Ok(())
    }
}

/// The old segment is gone, as was wanted, and no new one has come of it.
fn only_gone(old: SegmentNo, error: &io::Error) -> io::Error {
    tracing::debug!(%error, segment = old.0, "a segment cannot be used again, it is removed");
    io::Error::from_raw_os_error(libc::ENOENT)
}

/// A new file in a directory, whole or not there.
fn replace(directory: &Path, name: &str, octets: &[u8]) -> io::Result<()> {
    let fresh = directory.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&fresh)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&fresh, directory.join(name))?;
    sync_directory(directory)
}

/// Makes a directory and those above it that are missing, each durable with its name.
pub(super) fn make_durable_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_durable_dir(parent)?;
    // Messages are private: nobody but the daemon's user looks in.
    match DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
        // A parent that we may not read we cannot sync: somebody else has made it, and looks after it.
        _ => match sync_directory(parent) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
            _ => Ok(()),
        },
    }
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_holds_the_directory() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        let fault = DataDir::open(&path).unwrap_err();
        assert!(matches!(fault, DirFault::Occupied { pid: Some(pid), .. } if pid == std::process::id()), "{fault}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn the_manifest_is_replaced_as_a_whole() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDir::open(place.path()).unwrap();
        assert_eq!(data.read_manifest().unwrap(), None);
        data.write_manifest(&Manifest::new([1; 16], 7)).unwrap();
        let second = Manifest::new([1; 16], 8);
        data.write_manifest(&second).unwrap();
        assert_eq!(data.read_manifest().unwrap(), Some(second.encode()));
        assert!(!place.path().join("manifest.new").exists());
    }

    #[test]
    fn segments_are_listed_in_order_and_strangers_passed_over() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDir::open(place.path()).unwrap();
        for (log, segment) in [(1, 7), (0, 9), (0, 3)] {
            data.prepare_segment(CoreId(log), SegmentNo(segment), 10_000, b"head").unwrap();
        }
        fs::write(place.path().join("log-0/notes.txt"), "x").unwrap();
        fs::write(place.path().join("log-0/3.log"), "x").unwrap();
        fs::create_dir(place.path().join("log-x")).unwrap();
        let expected = [(CoreId(0), SegmentNo(3)), (CoreId(0), SegmentNo(9)), (CoreId(1), SegmentNo(7))];
        assert_eq!(data.segments().unwrap(), expected.map(|(log, segment)| (log, segment, 10_000)));
        let mut octets = [1; 8];
        assert_eq!(data.read_at(CoreId(0), SegmentNo(3), 0, &mut octets).unwrap(), 8);
        assert_eq!(&octets, b"head\0\0\0\0");
        assert_eq!(data.read_at(CoreId(0), SegmentNo(3), 9_996, &mut octets).unwrap(), 4);
        let again = data.prepare_segment(CoreId(0), SegmentNo(3), 10_000, b"head").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        data.remove_segment(CoreId(0), SegmentNo(3)).unwrap();
        assert_eq!(data.segments().unwrap().len(), 2);
    }

    #[test]
    fn the_manifest_lists_what_was_made_and_forgets_what_was_removed() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDir::open(place.path()).unwrap();
        data.write_manifest(&Manifest::new([1; 16], 9)).unwrap();
        let read = || Manifest::decode(&data.read_manifest().unwrap().unwrap()).unwrap();
        for segment in [3, 4] {
            data.prepare_segment(CoreId(0), SegmentNo(segment), 10_000, b"head").unwrap();
        }
        data.note_in_manifest(|manifest| manifest.seal(SegmentNo(4), 12));
        assert_eq!(read().segments().iter().map(|listed| listed.segment.0).collect::<Vec<_>>(), [3, 4]);
        data.write_hint(CoreId(0), SegmentNo(3), b"hint").unwrap();
        data.remove_segment(CoreId(0), SegmentNo(3)).unwrap();
        assert!(read().find(SegmentNo(3)).is_some_and(|listed| listed.leaving), "gone with the next writing");
        assert_eq!(read().find(SegmentNo(4)).map(|listed| listed.last), Some(12));
        data.amend_manifest(|manifest| manifest.reserved_to = 10).unwrap();
        assert_eq!(read().find(SegmentNo(3)), None);
        assert_eq!(data.read_hint(CoreId(0), SegmentNo(3)).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_hint_is_replaced_as_a_whole_and_goes_when_its_segment_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDir::open(place.path()).unwrap();
        let (log, segment) = (CoreId(0), SegmentNo(3));
        data.prepare_segment(log, segment, 10_000, b"head").unwrap();
        data.write_hint(log, segment, b"one").unwrap();
        data.write_hint(log, segment, b"second").unwrap();
        data.write_hint(log, SegmentNo(4), b"of nothing").unwrap();
        fs::write(place.path().join("log-0/0000000003.hint.new"), b"half").unwrap();
        data.clear_hints();
        assert_eq!(data.read_hint(log, segment).unwrap(), b"second");
        assert_eq!(fs::read_dir(place.path().join("log-0")).unwrap().count(), 2);
    }
}
