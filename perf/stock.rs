//! A daemon that has much stored: how much room that takes, and how the files leave the page cache. What `recovery`, `memory`,
//! `scale` and `idle` have in common; measures nothing.

use crate::daemon::Daemon;
use crate::outcome::{Failure, Request};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Octets that a stored message takes beside its text, at most: the wrapping for its later push, its sender's headers, the
/// record's own header. 1 KiB texts were seen to take 2 KiB.
const BESIDE_TEXT: u64 = 1_100;

/// Octets that a daemon takes with nothing stored: segments that it prefills.
const EMPTY: u64 = 512 << 20;

/// Users among whom `messages` are spread: what was asked for, else so many that each has `each`. Both fit a plan.
pub fn spread(messages: u64, users: Option<u64>, each: u64) -> (u32, u32) {
    let bounded = |number: u64| number.clamp(1, u64::from(u32::MAX)) as u32;
    let users = users.unwrap_or_else(|| messages.div_ceil(each)).clamp(1, messages.max(1));
    (bounded(users), bounded(messages.div_ceil(users)))
}

/// Octets on the disk that `messages` with texts of `size` octets need.
pub fn octets(messages: u64, size: usize) -> u64 {
    EMPTY + messages.saturating_mul(size as u64 + BESIDE_TEXT)
}

/// Fails where the daemon's disk has no room for `messages` more.
pub fn must_fit(daemon: &Daemon, request: &Request, messages: u64) -> Result<(), Failure> {
    let (need, room) = (octets(messages, request.size), room(&daemon.data())?);
    if need <= room {
        return Ok(());
    }
    let giga = |octets: u64| octets.div_ceil(1 << 30);
    Err(Failure(format!(
        "{messages} messages of {} octets need {} GiB, and {} has {}; ask for fewer with --messages, for smaller ones with \
         --size, or name another disk with --data-dir",
        request.size,
        giga(need),
        daemon.data().display(),
        giga(room),
    )))
}

/// Octets that are free for us on the disk of `path`.
pub fn room(path: &Path) -> Result<u64, Failure> {
    let fail = |error: io::Error| Failure(format!("{}: {error}; name another disk with --data-dir", path.display()));
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|error| fail(error.into()))?;
    // SAFETY: a statvfs is plain numbers; all zero is a value of it.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the name ends with 0 and both outlive the call.
    if unsafe { libc::statvfs(name.as_ptr(), &mut about) } != 0 {
        return Err(fail(io::Error::last_os_error()));
    }
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Every regular file below `path`.
fn files(path: &Path, found: &mut Vec<std::path::PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Drops everything below `path` from the page cache, synced first, because what is not written cannot be dropped. Returns the
/// octets of those files.
pub fn forget(path: &Path) -> Result<u64, Failure> {
    let fail = |error: io::Error| Failure(format!("{}: {error}; look at --data-dir", path.display()));
    let mut found = Vec::new();
    files(path, &mut found).map_err(fail)?;
    let mut octets = 0;
    for file in found {
        let file = File::open(file).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        octets += file.metadata().map_err(fail)?.len();
        // SAFETY: advice about a descriptor that is open; it touches no memory of ours.
        let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if refused != 0 {
            return Err(fail(io::Error::from_raw_os_error(refused)));
        }
    }
    Ok(octets)
}

/// Octets that a process had to fetch from a disk so far. None where the kernel does not count.
pub fn fetched_octets(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spread_so_that_none_is_left_out() {
        assert_eq!(spread(10_000_000, None, 1_000), (10_000, 1_000));
        assert_eq!(spread(1_500, None, 1_000), (2, 750));
        assert_eq!(spread(10, Some(3), 1_000), (3, 4));
        assert_eq!(spread(2, Some(50), 1_000), (2, 1), "nobody without a message");
    }

    #[test]
    fn the_disk_of_this_directory_has_some_room_and_nowhere_has_none() {
        assert!(room(Path::new(".")).unwrap() > 0);
        assert!(room(Path::new("/nowhere/at/all")).unwrap_err().0.contains("--data-dir"));
    }

    #[test]
    fn forgotten_files_are_counted_with_those_in_folders_and_stay_as_they_are() {
        let folder = std::env::temp_dir().join(format!("deferd-perf-stock-{}", std::process::id()));
        fs::create_dir_all(folder.join("log-0")).unwrap();
        fs::write(folder.join("manifest"), b"1234").unwrap();
        fs::write(folder.join("log-0/1.log"), vec![7; 10_000]).unwrap();
        let octets = forget(&folder).unwrap();
        let kept = fs::read(folder.join("log-0/1.log")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((octets, kept), (10_004, vec![7; 10_000]));
    }

    #[test]
    fn this_process_has_fetched_a_number_of_octets() {
        assert!(fetched_octets(std::process::id()).is_some());
        assert_eq!(fetched_octets(u32::MAX), None);
    }
}
