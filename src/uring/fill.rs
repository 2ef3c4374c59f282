//! Gives a new segment its room on the disk: allocated at once, and filled with zeros ahead of need.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Zeros sent to the disk at a time: on their way while the next are written, and there before those after that: so a segment's
/// last sync has little left to do, and the commits that run beside it never wait behind 64 MiB. 1 MiB is 2.5 ms on a disk of
/// 400 MB/s.
const PREFILL: u64 = 1 << 20;

/// Octets of one write: so that it is looked often enough whether there is still time.
const PIECE: usize = 64 << 10;

/// A segment is filled for no longer than this for each MiB of it, 160 ms for 64 MiB; what is left then stays allocated. 64 MiB take 25 ms of an
/// idle processor, and 150 where memory comes slowly. Who needs longer shares the processor with a core that is busy and will soon need the
/// segment: deposits that wait for one are refused once 32 MiB of them wait, a quarter of a second at 80,000 a second of 1 KiB. Not in
/// idle time (SCHED_IDLE) either: at half of the peak there was too little of it, a segment came a second late, and deposits were refused.
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
/// Not durable yet, and the header's place is the caller's.
pub(super) fn fill(file: &File, octets: u64, header: &[u8]) -> io::Result<()> {
    const BEGIN: libc::c_uint = libc::SYNC_FILE_RANGE_WRITE;
    const END: libc::c_uint = BEGIN | libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let begun = Instant::now();
    let limit = FILL_A_MIB * u32::try_from(octets >> 20).unwrap_or(u32::MAX).clamp(1, 1 << 12);
    // Not every file system can; there only writing makes room.
    let is_allocated = allocate(file, octets)?;
    let zeros = [0; PIECE];
    let mut before = None;
    let mut at = header.len() as u64;
    let is_late = || is_allocated && begun.elapsed() >= limit;
    while at < octets && !is_late() {
        let (from, end) = (at, octets.min(at + PREFILL));
        while at < end && !is_late() {
            let len = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
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
