//! Ring operations, each a future that owns what the kernel points into. All of the room's operations are made here, and most
//! of its `unsafe`.
//!
//! The contract every SAFETY comment leans on: `submit` gives `data` to the operation, and tokio-uring keeps it until the
//! completion has come, even when the future is dropped. So a pointer in the submission may point to *heap* memory owned by
//! `data` (it does not move when `data` does), and a descriptor in `data` stays open that long.

#![allow(unsafe_code)]

use super::mapping::{PAGE, SharedMapping};
use crate::base::gather::{Gather, PIECES_MAX};
use bytes::BytesMut;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{cqueue, opcode, squeue};
use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// A descriptor that operations under way keep open.
pub type SharedFd = Rc<OwnedFd>;

/// Gives data and result back as they are.
struct Plain<D>(PhantomData<D>);

impl<D> OneshotOutputTransform for Plain<D> {
    type Output = (io::Result<usize>, D);
    type StoredData = D;

    fn transform_oneshot_output(self, data: D, completion: cqueue::Entry) -> Self::Output {
        let result = match usize::try_from(completion.result()) {
            Ok(count) => Ok(count),
            Err(_) => Err(io::Error::from_raw_os_error(-completion.result())),
        };
        (result, data)
    }
}

/// Queues `entry`; it reaches the kernel when the thread parks or the queue is full.
///
/// # Safety
/// Every pointer in `entry` points into heap memory owned by `data` (or is null), valid for what the operation does with it; the
/// operation completes exactly once; its descriptor is kept open by `data`.
unsafe fn submit<D: Unpin + 'static>(data: D, entry: squeue::Entry) -> InFlightOneshot<D, Plain<D>> {
    UnsubmittedOneshot::new(data, Plain(PhantomData), entry).submit()
}

/// True for an error that only asks to try again.
fn is_interruption(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Does nothing, through the ring: whoever awaits it lets everybody else run *and* makes the thread submit and look for
/// completions. Yielding to the executor does neither.
pub async fn nop() {
    // SAFETY: a NOP has no pointers and no descriptor, and completes once.
    let _ = unsafe { submit((), opcode::Nop::new().build()) }.await;
}

/// Receives into the spare capacity of `buffer`, behind what it holds; gives the number of new octets. Zero: end of stream.
///
/// # Errors
/// `InvalidInput` for a buffer without spare capacity, for whose sake zero would be ambiguous; what the kernel says otherwise.
pub async fn receive(fd: &SharedFd, mut buffer: BytesMut) -> (io::Result<usize>, BytesMut) {
    loop {
        let spare = buffer.spare_capacity_mut();
        if spare.is_empty() {
            return (Err(io::ErrorKind::InvalidInput.into()), buffer);
        }
        let len = u32::try_from(spare.len()).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fd(fd.as_raw_fd()), spare.as_mut_ptr().cast(), len).build();
        // SAFETY: the pointer is to the heap block of `buffer`, which is in the data, `len` octets of it are spare and
        // nobody else sees them; RECV without multishot completes once; the descriptor is in the data.
        let (result, (back, _)) = unsafe { submit((buffer, fd.clone()), entry) }.await;
        buffer = back;
        match result {
            Ok(count) => {
                // SAFETY: the kernel has written `count` octets, at most the spare capacity, behind the first `len()`.
                unsafe { buffer.set_len(buffer.len() + count) };
                return (Ok(count), buffer);
            }
            Err(error) if is_interruption(&error) => {}
            Err(error) => return (Err(error), buffer),
        }
    }
}

/// A gather with the list the kernel wants of it; boxed once per writer and used again.
pub struct Outgoing {
    gather: Gather,
    pieces: Vec<libc::iovec>,
    head: libc::msghdr,
}

impl Outgoing {
    /// An empty one.
    pub fn new() -> Box<Outgoing> {
        // SAFETY: all octets zero is a valid msghdr: null pointers and zero lengths.
        let head = unsafe { std::mem::zeroed() };
        Box::new(Outgoing { gather: Gather::new(), pieces: Vec::new(), head })
    }

    /// Puts in what is to go out.
    pub fn load(&mut self, gather: Gather) {
        self.gather = gather;
    }

    /// Takes it out again for its next use.
    pub fn unload(&mut self) -> Gather {
        self.pieces.clear();
        std::mem::take(&mut self.gather)
    }

    /// Total octets.
    fn octets(&self) -> usize {
        self.gather.len()
    }

    /// Lists the pieces behind the first `done` octets, `most` of them; gives their octets.
    fn list_from(&mut self, done: usize, most: usize) -> usize {
        self.pieces.clear();
        let mut skip = done;
        let mut octets = 0;
        for piece in self.gather.iter() {
            let Some(rest) = piece.get(skip..) else {
                skip -= piece.len();
                continue;
            };
            skip = 0;
            if rest.is_empty() {
                continue;
            }
            if self.pieces.len() == most {
                break;
            }
            self.pieces.push(libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() });
            octets += rest.len();
        }
        self.head.msg_iov = self.pieces.as_mut_ptr();
        self.head.msg_iovlen = self.pieces.len() as _;
        octets
    }

    /// Lists zeros behind everything else.
    fn list_zeros(&mut self, octets: usize) {
        if octets > 0 {
            self.pieces.push(libc::iovec { iov_base: ZEROS.as_ptr().cast_mut().cast(), iov_len: octets });
        }
    }
}

/// Octets of a file's block: what the page cache has to read before a part of it can be changed, and need not if all of it is.
const BLOCK: u64 = 4096;

static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Sends all of `outgoing`: one SENDMSG with MSG_WAITALL as a rule, more when the kernel took less or there are more than 1,024
/// pieces.
///
/// # Errors
/// What the kernel says; the connection is then broken, and nobody knows how much of it went out.
pub async fn send(fd: &SharedFd, mut outgoing: Box<Outgoing>) -> (io::Result<()>, Box<Outgoing>) {
    const FLAGS: u32 = (libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32;
    let mut sent = 0;
    while sent < outgoing.octets() {
        outgoing.list_from(sent, PIECES_MAX);
        let entry = opcode::SendMsg::new(Fd(fd.as_raw_fd()), &raw const outgoing.head).flags(FLAGS).build();
        // SAFETY: the msghdr lies in the box, its list in a Vec of the box, and the pieces in the heap blocks of the gather in the
        // box: the arena's Vec and the held `Bytes`; none is touched before the box comes back. SENDMSG completes once; the
        // descriptor is in the data.
        let (result, (back, _)) = unsafe { submit((outgoing, fd.clone()), entry) }.await;
        outgoing = back;
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), outgoing),
            Ok(count) => sent += count,
            Err(error) if is_interruption(&error) => {}
            Err(error) => return (Err(error), outgoing),
        }
    }
    (Ok(()), outgoing)
}

/// Writes all of `outgoing` at `at` and makes it durable.
///
/// A commit that one operation can carry is a single WRITEV with RWF_DSYNC. Measured on a prefilled segment, commits a second by
/// RWF_DSYNC / write then FSYNC / the two linked: 4 KiB 10.4 k / 9.5 k / 9.8 k, 16 KiB 9.1 k / 8.9 k / 9.0 k, 256 KiB 6.1 k /
/// 5.8 k / 5.9 k: one hop through the ring's worker instead of two. A bigger commit is written in parts with one FSYNC(DATASYNC)
/// behind them, for RWF_DSYNC covers its own range only.
///
/// The block in which it ends is written to its end, with zeros: it need not be read then, and the next commit finds it in the page
/// cache. Nothing lies behind a commit: `at` only rises, and segments end with a block.
///
/// # Errors
/// What the kernel says. How much was written is then unknown.
pub async fn commit(fd: &SharedFd, at: u64, mut outgoing: Box<Outgoing>) -> (io::Result<()>, Box<Outgoing>) {
    let total = outgoing.octets();
    let mut written = 0;
    let mut synced = false;
    while written < total {
        // One place is left for the zeros.
        let mut listed = outgoing.list_from(written, PIECES_MAX - 1);
        let is_all = written == 0 && listed == total;
        if written + listed == total {
            let end = at + total as u64;
            let zeros = (end.next_multiple_of(BLOCK) - end) as usize;
            outgoing.list_zeros(zeros);
            listed += zeros;
        }
        synced = is_all;
        let entry = opcode::Writev::new(Fd(fd.as_raw_fd()), outgoing.pieces.as_ptr(), outgoing.pieces.len() as u32)
            .offset(at + written as u64)
            .rw_flags(if synced { libc::RWF_DSYNC } else { 0 })
            .build();
        // SAFETY: list and pieces lie in the box, as in `send`, the zeros in the program; WRITEV completes once; the descriptor is in
        // the data.
        let (result, (back, _)) = unsafe { submit((outgoing, fd.clone()), entry) }.await;
        outgoing = back;
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), outgoing),
            Ok(count) => {
                synced &= count == listed;
                written += count;
            }
            Err(error) if is_interruption(&error) => {}
            Err(error) => return (Err(error), outgoing),
        }
    }
    let result = if synced { Ok(()) } else { sync_data(fd).await };
    (result, outgoing)
}

/// Makes a file's octets durable (fdatasync).
///
/// # Errors
/// What the kernel says; it is final, for the page cache may have forgotten what failed.
pub async fn sync_data(fd: &SharedFd) -> io::Result<()> {
    let entry = opcode::Fsync::new(Fd(fd.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
    // SAFETY: no pointers; FSYNC completes once; the descriptor is in the data. Not repeated on EINTR: what a first sync has
    // reported a second would not.
    let (result, _) = unsafe { submit(fd.clone(), entry) }.await;
    result.map(|_| ())
}

/// Reads `len` octets from `at` on behind what `buffer` holds, fewer at the file's end only.
///
/// # Errors
/// What the kernel says; `buffer` holds what was read before.
pub async fn read(fd: &SharedFd, at: u64, len: usize, mut buffer: BytesMut) -> (io::Result<()>, BytesMut) {
    let mut done = 0;
    buffer.reserve(len);
    while done < len {
        let spare = buffer.spare_capacity_mut();
        let want = u32::try_from((len - done).min(spare.len())).unwrap_or(u32::MAX);
        let entry =
            opcode::Read::new(Fd(fd.as_raw_fd()), spare.as_mut_ptr().cast(), want).offset(at + done as u64).build();
        // SAFETY: as in `receive`; `want` is at most the spare capacity.
        let (result, (back, _)) = unsafe { submit((buffer, fd.clone()), entry) }.await;
        buffer = back;
        match result {
            Ok(0) => break,
            Ok(count) => {
                // SAFETY: the kernel has written `count` octets, at most `want`, behind the first `len()`.
                unsafe { buffer.set_len(buffer.len() + count) };
                done += count;
            }
            Err(error) if is_interruption(&error) => {}
            Err(error) => return (Err(error), buffer),
        }
    }
    (Ok(()), buffer)
}

/// Brings a range of a mapping into memory, by a worker of the ring: whoever looks at it then does not wait for the disk. The range
/// is widened to whole pages and cut at the mapping's end.
///
/// # Errors
/// `EFAULT` or `EHWPOISON` when the disk or the memory does not give it; `EINVAL` from a kernel that cannot (before 5.14).
pub async fn populate(mapping: &SharedMapping, at: u64, len: u32) -> io::Result<()> {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(mapping.len());
    let mut from = at / PAGE * PAGE;
    let mut left = at.saturating_add(len as usize).min(mapping.len()) - from;
    while left > 0 {
        let start = mapping.start().wrapping_add(from);
        // The operation counts in 32 bits.
        let step = left.min(1 << 30);
        let length = libc::off_t::try_from(step).unwrap_or(libc::off_t::MAX);
        let entry = opcode::Madvise::new(start.cast(), length, libc::MADV_POPULATE_READ).build();
        // SAFETY: the address is in the mapping in the data, which is not unmapped while that is held, and `from + step` is at
        // most its length, the rest of the last page aside, which belongs to it. MADVISE completes once; it has no descriptor.
        let (result, _) = unsafe { submit(mapping.clone(), entry) }.await;
        match result {
            Ok(_) => {
                from += step;
                left -= step;
            }
            Err(error) if is_interruption(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens an existing file to read and write.
///
/// # Errors
/// What the kernel says.
pub async fn open(path: CString) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_CLOEXEC;
    let entry = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).flags(flags).build();
    // SAFETY: the path's octets are the heap block of the CString in the data; OPENAT completes once.
    let (result, _) = unsafe { submit(path, entry) }.await;
    result.map(adopt)
}

/// Accepts a connection.
///
/// # Errors
/// What the kernel says: `ECONNABORTED` and descriptors running out among it.
pub async fn accept(listener: &SharedFd) -> io::Result<OwnedFd> {
    let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), std::ptr::null_mut(), std::ptr::null_mut())
        .flags(libc::SOCK_CLOEXEC)
        .build();
    // SAFETY: null pointers: the address is not asked for; ACCEPT without multishot completes once; the descriptor is in the data.
    let (result, _) = unsafe { submit(listener.clone(), entry) }.await;
    result.map(adopt)
}

/// Connects. Ended from outside by `shutdown(2)` on the socket.
///
/// # Errors
/// What the kernel says.
pub async fn connect(fd: &SharedFd, to: socket2::SockAddr) -> io::Result<()> {
    let to = Box::new(to);
    let entry = opcode::Connect::new(Fd(fd.as_raw_fd()), to.as_ptr().cast(), to.len()).build();
    // SAFETY: the address lies in the box in the data; CONNECT completes once; the descriptor is in the data.
    let (result, _) = unsafe { submit((to, fd.clone()), entry) }.await;
    result.map(|_| ())
}

/// Receives one datagram into the first place of `batch`.
///
/// # Errors
/// What the kernel says.
pub async fn receive_datagram(
    fd: &SharedFd,
    mut batch: Box<super::datagram::Batch>,
) -> (io::Result<usize>, Box<super::datagram::Batch>) {
    let head = batch.first_head();
    let entry = opcode::RecvMsg::new(Fd(fd.as_raw_fd()), head).build();
    // SAFETY: `first_head` points into a Vec of the batch in the data, and so does everything the msghdr points to; nobody touches
    // the batch before it comes back. RECVMSG completes once; the descriptor is in the data.
    let (result, (batch, _)) = unsafe { submit((batch, fd.clone()), entry) }.await;
    (result, batch)
}

/// The descriptor that an operation has just made.
fn adopt(number: usize) -> OwnedFd {
    // SAFETY: the kernel has just given this descriptor to us and nobody else knows it; it fits an i32 for it came as one.
    unsafe { OwnedFd::from_raw_fd(number as i32) }
}
