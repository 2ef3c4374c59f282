//! The data directory: who may use it, and what lies where.
//!
//! ```text
//!   data_dir/lock                     held by flock(2) while a daemon runs; its process id for people
//!   data_dir/manifest                 one small file, replaced as a whole
//!   data_dir/log-<core>/<segment>.log the logs; core decimal, segment ten digits
//! ```
//! All calls here block. The daemon makes them before its cores run, or on the cores' blocking threads.

#![allow(unsafe_code)]

use super::mapping::{Mappings, SharedMapping};
use crate::base::net::CoreId;
use crate::store::disk::SegmentNo;
use std::ffi::CString;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Zeros written at a time, and made durable before the next are: one sync of a whole segment would hold up the commits that
/// run beside it. 4 MiB are about 10 ms on a disk of 400 MB/s.
const PREFILL: usize = 4 << 20;

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
    _lock: Option<File>,
    mappings: Mappings,
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
        Ok(DataDir { path: path.to_path_buf(), _lock: Some(lock), mappings: Mappings::default() })
    }

    /// Looks at a directory that a daemon may be using: for reading only.
    ///
    /// # Errors
    /// It is not there.
    pub fn look(path: &Path) -> io::Result<DataDir> {
        fs::read_dir(path)?;
        Ok(DataDir { path: path.to_path_buf(), _lock: None, mappings: Mappings::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn log_path(&self, log: CoreId) -> PathBuf {
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
    pub fn write_manifest(&self, octets: &[u8]) -> io::Result<()> {
        let fresh = self.path.join("manifest.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&fresh)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&fresh, self.path.join("manifest"))?;
        sync_directory(&self.path)
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
        let directory = self.log_path(log);
        match DirBuilder::new().mode(0o750).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Also when it is there already: whoever made it may not have come this far.
            _ => sync_directory(&self.path)?,
        }
        let path = self.segment_path(log, segment);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(&path)?;
        match fill(&file, octets, header).and_then(|()| sync_directory(&directory)) {
            Ok(()) => Ok(file),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Deletes a segment; durable afterwards.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_segment(&self, log: CoreId, segment: SegmentNo) -> io::Result<()> {
        fs::remove_file(self.segment_path(log, segment))?;
        self.mappings.forget(log, segment);
        sync_directory(&self.log_path(log))
    }
}

/// Written zeros, not a hole and not `fallocate` alone: a commit into either also has to sync the file system's own records,
/// which costs a third of the rate. Allocating first keeps the file in one piece and says at once when the disk is full.
fn fill(file: &File, octets: u64, header: &[u8]) -> io::Result<()> {
    let length = libc::off_t::try_from(octets).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: fallocate takes a descriptor, which `file` keeps open, and numbers.
    if length > 0 && unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } != 0 {
        let error = io::Error::last_os_error();
        // Not every file system can; writing is what matters.
        if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)) {
            return Err(error);
        }
    }
    file.write_all_at(header, 0)?;
    let zeros = vec![0; PREFILL];
    let mut at = header.len() as u64;
    while at < octets {
        let len = usize::try_from(octets - at).unwrap_or(PREFILL).min(PREFILL);
        file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
        file.sync_data()?;
        at += len as u64;
    }
    file.sync_all()
}

/// Makes a directory and those above it that are missing, each durable with its name.
fn make_durable_dir(path: &Path) -> io::Result<()> {
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

fn sync_directory(path: &Path) -> io::Result<()> {
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
        data.write_manifest(b"one").unwrap();
        data.write_manifest(b"second").unwrap();
        assert_eq!(data.read_manifest().unwrap().as_deref(), Some(b"second".as_slice()));
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
}
