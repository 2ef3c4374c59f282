//! Gives a new segment its room on the disk: allocated at once, and filled with zeros ahead of need.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Zeros that one write takes past the page cache: the disk is busy with them for a third of a millisecond, and so long a commit waits
/// that comes in between.
const DIRECT: usize = 256 << 10;

/// What such a write has to begin and end at: no disk in use asks for more.
const BLOCK: u64 = 4096;

/// Zeros where a disk can fetch them.
#[repr(C, align(4096))]
struct Zeros([u8; DIRECT]);

static ZEROS: Zeros = Zeros([0; DIRECT]);

/// Zeros sent to the disk at a time where they go through the page cache: on their way while the next are written, and there before
/// those after that: so a segment's last sync has little left to do, and the commits that run beside it never wait behind 64 MiB.
/// 1 MiB is 2.5 ms on a disk of 400 MB/s.
const PREFILL: u64 = 1 << 20;

/// Octets of one write into the page cache: so that it is looked often enough whether there is still time.
const PIECE: usize = 64 << 10;

/// A segment is filled for no longer than this for each MiB of it, 160 ms for 64 MiB; what is left then stays allocated. Past the page
/// cache 64 MiB take next to nothing of a processor and as long as the disk takes, through it 25 ms of an idle processor, and 150 where
/// memory comes slowly. Who needs longer shares the processor with a core that is busy and will soon need the segment: deposits that
/// wait for one are refused once 32 MiB of them wait, a quarter of a second at 80,000 a second of 1 KiB. Not in idle time (SCHED_IDLE)
/// either: at half of the peak there was too little of it, a segment came a second late, and deposits were refused.
const FILL_A_MIB: Duration = Duration::from_micros(2_500);

/// Gives the file its length and its place on the disk, in one piece if there is one; false when the file system cannot do that.
pub(super) fn allocate(file: &File, octets: u64) -> io::Result<bool> {
    let length = libc::off_t::try_from(octets).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: fallocate takes a descriptor, which `file` keeps open, and numbers.
    if length == 0 || unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => Ok(false),
        _ => Err(error),
    }
}

/// Written zeros for a bounded time, not a hole and not `fallocate` alone: a commit into either also has to sync the file system's own records,
/// which costs a third of the rate. Allocating first keeps the file in one piece and says at once when the disk is full.
///
/// Past the page cache where the file system can (O_DIRECT): a processor that copies 64 MiB of zeros and looks for pages to put them
/// in is one that does not answer deposits. What is not in the page cache would have to be read before a commit can change a part of
/// a block: commits write whole blocks (`op::commit`).
///
/// Not durable yet, and the header's place is the caller's.
pub(super) fn fill(file: &File, octets: u64, header: &[u8]) -> io::Result<()> {
    let mib = u32::try_from(octets >> 20).unwrap_or(u32::MAX).clamp(1, 1 << 12);
    let until = Instant::now() + FILL_A_MIB * mib;
    // Not every file system can; there only writing makes room.
    let until = allocate(file, octets)?.then_some(until);
    let head = header.len() as u64;
    let direct = Direct::of(file);
    let filled = match &direct {
        // The header's own block was written through the page cache and belongs to it.
        Some(_) => fill_directly(file, head.next_multiple_of(BLOCK), octets, until),
        None => Ok(false),
    };
    drop(direct);
    match filled {
        Ok(true) => Ok(()),
        Ok(false) => fill_cached(file, head, octets, until),
        // Asked for by its flag and refused all the same: some file systems say so only then.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            fill_cached(file, head, octets, until)
        }
        Err(error) => Err(error),
    }
}

/// A file whose writes go past the page cache, until this is dropped.
struct Direct<'a> {
    file: &'a File,
    before: libc::c_int,
}

impl Direct<'_> {
    /// `None` where the file system does not offer it.
    fn of(file: &File) -> Option<Direct<'_>> {
        // SAFETY: fcntl with F_GETFL takes a descriptor, which `file` keeps open.
        let before = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
        if before < 0 {
            return None;
        }
        // SAFETY: fcntl with F_SETFL takes that descriptor and flags.
        let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, before | libc::O_DIRECT) };
        (set == 0).then_some(Direct { file, before })
    }
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `of`; what was set before can be set again.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETFL, self.before) };
    }
}

/// Writes zeros from `at` to `octets`, past the page cache; false when the octets are no whole blocks.
fn fill_directly(file: &File, mut at: u64, octets: u64, until: Option<Instant>) -> io::Result<bool> {
    if !octets.is_multiple_of(BLOCK) {
        return Ok(false);
    }
    while at < octets && until.is_none_or(|until| Instant::now() < until) {
        let len = usize::try_from(octets - at).unwrap_or(DIRECT).min(DIRECT);
        file.write_all_at(ZEROS.0.get(..len).unwrap_or_default(), at)?;
        at += len as u64;
    }
    Ok(true)
}

fn fill_cached(file: &File, mut at: u64, octets: u64, until: Option<Instant>) -> io::Result<()> {
    const BEGIN: libc::c_uint = libc::SYNC_FILE_RANGE_WRITE;
    const END: libc::c_uint = BEGIN | libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let mut before = None;
    let is_late = || until.is_some_and(|until| Instant::now() >= until);
    while at < octets && !is_late() {
        let (from, end) = (at, octets.min(at + PREFILL));
        while at < end && !is_late() {
            let len = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            file.write_all_at(ZEROS.0.get(..len).unwrap_or_default(), at)?;
            at += len as u64;
        }
        let len = at - from;
        write_back(file, from, len, BEGIN)?;
        if let Some((from, len)) = before.replace((from, len)) {
            write_back(file, from, len, END)?;
        }
    }
    Ok(())
}

/// Moves octets of a file towards the disk, for the pace only: what is durable is the sync's to say. An error counts all the same:
/// whoever waits for octets is told of it, and the sync would not say it again.
fn write_back(file: &File, at: u64, len: u64, flags: libc::c_uint) -> io::Result<()> {
    let offset = |n| libc::off64_t::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
    let (at, len) = (offset(at)?, offset(len)?);
    // SAFETY: sync_file_range takes a descriptor, which `file` keeps open, and numbers.
    if unsafe { libc::sync_file_range(file.as_raw_fd(), at, len, flags) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::ESPIPE) => Ok(()),
        _ => Err(error),
    }
}
