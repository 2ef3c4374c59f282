//! What the store asks of a disk, and what it hears back. Values only: the kernel's interpreter and the simulator both serve it.

use crate::base::gather::Gather;
use crate::base::net::CoreId;
use bytes::{Bytes, BytesMut};

/// Number of a segment: from one durable counter for the whole data directory, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SegmentNo(pub u32);

/// What went wrong below us. A failed commit is final for its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFault {
    /// The file system is full (ENOSPC, EDQUOT).
    Full,
    /// The file is not there.
    Missing,
    /// Anything else (EIO and its kin), by errno.
    Errno(i32),
}

/// A request to the disk. Each is answered by exactly one [`DiskDone`] of the same kind and ticket.
#[derive(Debug)]
pub enum DiskOp {
    /// Make `log-<log>/<segment>.log` of `octets` written zeros, durable with its directory entry. The first 4 KiB are
    /// `header`. An existing file of that name is an error.
    Prepare {
        /// Comes back in the answer.
        ticket: u64,
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
        /// Its length.
        octets: u64,
        /// Its first octets.
        header: BytesMut,
    },
    /// Write `gather` at `at` and make it durable (one vectored write and one data sync). One is under way per log at a time.
    Commit {
        /// Comes back in the answer.
        ticket: u64,
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
        /// Where in the file.
        at: u64,
        /// What.
        gather: Gather,
    },
    /// Read `len` octets from `at` on into `buffer`, which is empty and has that capacity. Short only at the file's end.
    Read {
        /// Comes back in the answer.
        ticket: u64,
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
        /// Where in the file.
        at: u64,
        /// How much.
        len: u32,
        /// Where to.
        buffer: BytesMut,
    },
    /// Lend `len` octets from `at` on as they lie in the system's memory, without a copy. Short only at the file's end. The page
    /// shows at least what was durable when this was asked, and those octets never change while it is held; others may.
    Lend {
        /// Comes back in the answer.
        ticket: u64,
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
        /// Where in the file.
        at: u64,
        /// How much.
        len: u32,
    },
    /// A log has left this segment and all of it is durable: write its hint beside it, as a whole (a new file, synced, renamed),
    /// and remember its last group for the manifest's next writing. Best effort: without it a start reads the segment.
    WriteHint {
        /// Comes back in the answer.
        ticket: u64,
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
        /// Its last group.
        last: u64,
        /// What is to be written: [`Builder::finish`](super::hint::Builder::finish). Empty: nothing is, for not all of it is known.
        octets: Bytes,
    },
    /// Read the hint of a segment, whole. Answered by [`DiskDone::Read`]; [`DiskFault::Missing`] when it has none.
    ReadHint {
        /// Comes back in the answer.
        ticket: u64,
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
    },
    /// Delete the segment's file. Nothing points into it any more. Its hint is kept for a while, durably before the file goes:
    /// [`Files::gone`](super::recovery::Files::gone).
    Remove {
        /// Comes back in the answer.
        ticket: u64,
        /// Whose log.
        log: CoreId,
        /// Which segment.
        segment: SegmentNo,
    },
    /// Make the file of segment `old` the one of segment `new`, without writing it anew: rename it, make the name durable, write
    /// `header` over its first octets, make that durable. What it held stays behind the header; no checksum of it passes under
    /// the new number. Nothing points into `old` any more; its hint is kept as for `Remove`. After a failure `old` is gone or there as before.
    Recycle {
        /// Comes back in the answer.
        ticket: u64,
        /// Whose log.
        log: CoreId,
        /// Which segment it was.
        old: SegmentNo,
        /// Which it becomes.
        new: SegmentNo,
        /// Its first octets.
        header: BytesMut,
    },
}

/// What became of a [`DiskOp`].
#[derive(Debug)]
pub enum DiskDone {
    /// The segment is there, or not.
    Prepared {
        /// Of the request.
        ticket: u64,
        /// How it ended.
        outcome: Result<(), DiskFault>,
    },
    /// Durable, or not; the gather comes back for its next use.
    Committed {
        /// Of the request.
        ticket: u64,
        /// What was written.
        gather: Gather,
        /// How it ended.
        outcome: Result<(), DiskFault>,
    },
    /// Read; `buffer` holds what was there.
    Read {
        /// Of the request.
        ticket: u64,
        /// The octets.
        buffer: BytesMut,
        /// How it ended.
        outcome: Result<(), DiskFault>,
    },
    /// Lent, or not; a disk may refuse to lend what it would read.
    Lent {
        /// Of the request.
        ticket: u64,
        /// The octets; none after a fault.
        page: Bytes,
        /// How it ended.
        outcome: Result<(), DiskFault>,
    },
    /// The hint is there, or not.
    HintWritten {
        /// Of the request.
        ticket: u64,
        /// How it ended.
        outcome: Result<(), DiskFault>,
    },
    /// Gone, or not.
    Removed {
        /// Of the request.
        ticket: u64,
        /// How it ended.
        outcome: Result<(), DiskFault>,
    },
    /// Unasked: the data directory is not there any more. What is written from now on nobody would find again.
    Lost,
    /// It is the new segment, or not.
    Recycled {
        /// Of the request.
        ticket: u64,
        /// How it ended.
        outcome: Result<(), DiskFault>,
    },
}

impl DiskDone {
    /// Of the request.
    pub fn ticket(&self) -> u64 {
        match *self {
            DiskDone::Prepared { ticket, .. }
            | DiskDone::Committed { ticket, .. }
            | DiskDone::Read { ticket, .. }
            | DiskDone::Lent { ticket, .. }
            | DiskDone::HintWritten { ticket, .. }
            | DiskDone::Removed { ticket, .. }
            | DiskDone::Recycled { ticket, .. } => ticket,
            // A log's tickets begin at 1.
            DiskDone::Lost => 0,
        }
    }
}
