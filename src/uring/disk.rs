//! Serves [`DiskOp`]: commits and reads through the ring, the slow and rare rest on a thread of its own.
//!
//! Making a segment writes megabytes of zeros, a hint is a file of its own, and removing a segment may walk extents for
//! milliseconds: all of them run on the core's one
//! blocking thread, which leaves the answer in a queue and rings the core's bell. Descriptors of segments stay open in a
//! bounded table. Nothing is tried twice here: a failed sync is final for its log, and the store says what follows.

use super::data_dir::DataDir;
use super::mail::{Desk, Mail};
use super::mapping::SharedMapping;
use super::op::{self, Outgoing, SharedFd};
use crate::base::net::CoreId;
use crate::engine::input::Input;
use crate::store::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use bytes::{Bytes, BytesMut};
use crossbeam::queue::SegQueue;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// Segments kept open per core: at 64 MiB each the warmest 64 GiB. Above it the one that was opened first is closed.
const OPEN_SEGMENTS: usize = 1024;

/// Segments kept mapped per core: at 64 MiB each the last 16 GiB that were lent. A mapping costs at most 128 KiB of the kernel's tables
/// and one of 65,530 places that the system gives a process; the octets are the page cache's.
const MAPPED_SEGMENTS: usize = 256;

/// A segment that could not be opened for want of descriptors is tried again after this.
const WANT_PAUSE: Duration = Duration::from_millis(20);

/// How often it is looked whether the data directory is there still: for so long a deposit may be answered 202 that goes into files
/// without names. A look is two calls of the kernel.
const LOOK: Duration = Duration::from_secs(1);

/// What the kernel's error means to the store.
pub fn fault(error: &io::Error) -> DiskFault {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => DiskFault::Full,
        Some(libc::ENOENT) => DiskFault::Missing,
        Some(errno) => DiskFault::Errno(errno),
        None => DiskFault::Errno(libc::EIO),
    }
}

/// Which file.
type Name = (CoreId, SegmentNo);

/// An answer of the blocking thread, and the file that goes with it.
struct Settled {
    done: DiskDone,
    file: Option<(Name, File)>,
}

/// Open segments, or mapped ones, oldest first.
struct Files<T> {
    open: HashMap<Name, T>,
    order: VecDeque<Name>,
    most: usize,
}

impl<T> Files<T> {
    fn new(most: usize) -> Files<T> {
        Files { open: HashMap::new(), order: VecDeque::new(), most }
    }

    fn insert(&mut self, name: Name, thing: T) {
        if self.open.insert(name, thing).is_none() {
            self.order.push_back(name);
        }
        while self.open.len() > self.most {
            // An operation under way holds the thing itself; it is closed when that ends.
            let Some(oldest) = self.order.pop_front() else { break };
            self.open.remove(&oldest);
        }
    }

    fn clear(&mut self) {
        self.open.clear();
        self.order.clear();
    }

    fn remove(&mut self, name: Name) {
        if self.open.remove(&name).is_some() {
            self.order.retain(|other| *other != name);
        }
    }
}

/// What tasks of this core share.
struct Shared {
    data: Arc<DataDir>,
    desk: Rc<Desk>,
    files: RefCell<Files<SharedFd>>,
    mapped: RefCell<Files<SharedMapping>>,
    /// Lists for the kernel that are not in use: one per commit under way. Boxed: the kernel is given the address of what is
    /// inside while the list goes from here to the operation and back.
    #[allow(clippy::vec_box)]
    spare: RefCell<Vec<Box<Outgoing>>>,
}

impl Shared {
    /// A segment, opened where it is not.
    ///
    /// Want of descriptors or memory is no fault of the disk's, and must not become one: a failed commit is final for its log, and a
    /// message that cannot be read is put aside. So it is waited out; meanwhile commits gather, and past `commit_octets` deposits
    /// get 503.
    async fn file(&self, name: Name) -> io::Result<SharedFd> {
        let mut said = false;
        loop {
            if let Some(fd) = self.files.borrow().open.get(&name) {
                return Ok(fd.clone());
            }
            match op::open(self.data.segment_cpath(name.0, name.1)?).await {
                Ok(fd) => {
                    let fd = Rc::new(fd);
                    self.files.borrow_mut().insert(name, fd.clone());
                    return Ok(fd);
                }
                Err(error) if is_want(&error) => {
                    if !said {
                        said = true;
                        tracing::warn!(%error, "cannot open a segment of the log, waiting; is the limit of open files (LimitNOFILE) too low?");
                    }
                    // Those that nobody uses just now are the quickest to be had.
                    self.files.borrow_mut().clear();
                    tokio::time::sleep(WANT_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Shared {
    /// A part of a segment, in memory.
    async fn lend(&self, name: Name, at: u64, len: u32) -> io::Result<Bytes> {
        let known = self.mapped.borrow().open.get(&name).cloned();
        let mapping = match known {
            Some(mapping) => mapping,
            None => {
                let mapping = self.data.map_segment(name.0, name.1)?;
                self.mapped.borrow_mut().insert(name, mapping.clone());
                mapping
            }
        };
        if !mapping.is_resident(usize::try_from(at).unwrap_or(usize::MAX), len as usize) {
            op::populate(&mapping, at, len).await?;
        }
        Ok(mapping.page(at, len))
    }
}

/// True for an error that says what we lack, not what is wrong with the file.
fn is_want(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::EINTR))
}

/// One core's disk.
pub struct Disk {
    shared: Rc<Shared>,
    /// To the blocking thread, which ends when this is gone.
    work: mpsc::Sender<DiskOp>,
    settled: Arc<SegQueue<Settled>>,
    /// Files that had gone when the mappings were last looked over.
    gone: Cell<u64>,
}

impl Disk {
    /// Starts the blocking thread of `core`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(core: CoreId, data: Arc<DataDir>, desk: Rc<Desk>, mail: Arc<Mail>) -> io::Result<Disk> {
        let (work, orders) = mpsc::channel::<DiskOp>();
        let settled = Arc::new(SegQueue::new());
        let (answers, files) = (settled.clone(), data.clone());
        std::thread::Builder::new().name(format!("disk-{}", core.0)).spawn(move || {
            // Filling a segment takes a processor for tens of milliseconds: any but the core's own, where there is one, and where
            // there is none the core goes first.
            let _ = super::host::unpin();
            let _ = super::host::give_way();
            let mut lost = false;
            loop {
                let answer = match orders.recv_timeout(LOOK) {
                    Ok(order) => settle(&files, order),
                    Err(mpsc::RecvTimeoutError::Timeout) if !lost && !files.is_there() => {
                        lost = true;
                        tracing::error!("the data directory is gone: deposits are refused; put it back and restart");
                        Some(Settled { done: DiskDone::Lost, file: None })
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                };
                if let Some(answer) = answer {
                    answers.push(answer);
                    if let Some(door) = mail.door(core) {
                        door.bell.ring();
                    }
                }
            }
        })?;
        let shared = Shared {
            data,
            desk,
            files: RefCell::new(Files::new(OPEN_SEGMENTS)),
            mapped: RefCell::new(Files::new(MAPPED_SEGMENTS)),
            spare: RefCell::default(),
        };
        Ok(Disk { shared: Rc::new(shared), work, settled, gone: Cell::new(0) })
    }

    /// Begins an operation; the answer comes as an input.
    pub fn begin(&self, order: DiskOp) {
        let shared = self.shared.clone();
        match order {
            DiskOp::Commit { ticket, log, segment, at, gather } => {
                tokio_uring::spawn(async move {
                    let mut outgoing = shared.spare.borrow_mut().pop().unwrap_or_else(Outgoing::new);
                    outgoing.load(gather);
                    let outcome = match shared.file((log, segment)).await {
                        Ok(fd) => {
                            let (outcome, back) = op::commit(&fd, at, outgoing).await;
                            outgoing = back;
                            outcome
                        }
                        Err(error) => Err(error),
                    };
                    let gather = outgoing.unload();
                    shared.spare.borrow_mut().push(outgoing);
                    let outcome = outcome.map_err(|error| fault(&error));
                    shared.desk.put(Input::Disk(DiskDone::Committed { ticket, gather, outcome }));
                });
            }
            DiskOp::Read { ticket, log, segment, at, len, mut buffer } => {
                tokio_uring::spawn(async move {
                    let outcome = match shared.file((log, segment)).await {
                        Ok(fd) => {
                            let (outcome, back) = op::read(&fd, at, len as usize, buffer).await;
                            buffer = back;
                            outcome
                        }
                        Err(error) => Err(error),
                    };
                    let outcome = outcome.map_err(|error| fault(&error));
                    shared.desk.put(Input::Disk(DiskDone::Read { ticket, buffer, outcome }));
                });
            }
            DiskOp::Lend { ticket, log, segment, at, len } => {
                tokio_uring::spawn(async move {
                    let lent = shared.lend((log, segment), at, len).await;
                    let outcome = lent.as_ref().map(|_| ()).map_err(fault);
                    let page = lent.unwrap_or_default();
                    shared.desk.put(Input::Disk(DiskDone::Lent { ticket, page, outcome }));
                });
            }
            DiskOp::Prepare { .. }
            | DiskOp::WriteHint { .. }
            | DiskOp::ReadHint { .. }
            | DiskOp::Remove { .. }
            | DiskOp::Recycle { .. } => {
                if let DiskOp::Remove { log, segment, .. } | DiskOp::Recycle { log, old: segment, .. } = &order {
                    shared.files.borrow_mut().remove((*log, *segment));
                    shared.mapped.borrow_mut().remove((*log, *segment));
                }
                if let Err(mpsc::SendError(order)) = self.work.send(order) {
                    // The thread ends only with us or by a panic, which ends the process.
                    let failed = Err(DiskFault::Errno(libc::EIO));
                    if let Some(done) = answer(&order, failed) {
                        shared.desk.put(Input::Disk(done));
                    }
                }
            }
        }
    }

    /// Takes what the blocking thread has settled.
    pub fn collect(&self, mut take: impl FnMut(DiskDone)) {
        let gone = self.shared.data.mappings().gone();
        if self.gone.replace(gone) != gone {
            let mut mapped = self.shared.mapped.borrow_mut();
            let over = |name: &Name| !self.shared.data.mappings().has(name.0, name.1);
            let names: Vec<Name> = mapped.order.iter().copied().filter(over).collect();
            names.into_iter().for_each(|name| mapped.remove(name));
        }
        while let Some(settled) = self.settled.pop() {
            if let Some((name, file)) = settled.file {
                self.shared.files.borrow_mut().insert(name, Rc::new(OwnedFd::from(file)));
            }
            take(settled.done);
        }
    }

    /// True when there is something to collect.
    pub fn has_news(&self) -> bool {
        !self.settled.is_empty()
    }
}

fn settle(data: &DataDir, order: DiskOp) -> Option<Settled> {
    match order {
        DiskOp::Prepare { ticket, log, segment, octets, header } => {
            let made = data.prepare_segment(log, segment, octets, &header);
            let outcome = made.as_ref().map(|_| ()).map_err(fault);
            let file = made.ok().map(|file| ((log, segment), file));
            Some(Settled { done: DiskDone::Prepared { ticket, outcome }, file })
        }
        DiskOp::WriteHint { log, segment, last, ref octets, .. } => {
            data.note_in_manifest(|manifest| manifest.seal(segment, last));
            let written = if octets.is_empty() { Ok(()) } else { data.write_hint(log, segment, octets) };
            let outcome = written.map_err(|error| fault(&error));
            Some(Settled { done: answer(&order, outcome)?, file: None })
        }
        DiskOp::ReadHint { ticket, log, segment } => {
            let read = data.read_hint(log, segment);
            let outcome = read.as_ref().map(|_| ()).map_err(fault);
            let buffer = BytesMut::from(&read.unwrap_or_default()[..]);
            Some(Settled { done: DiskDone::Read { ticket, buffer, outcome }, file: None })
        }
        DiskOp::Remove { log, segment, .. } => {
            let outcome = data.remove_segment(log, segment).map_err(|error| fault(&error));
            Some(Settled { done: answer(&order, outcome)?, file: None })
        }
        DiskOp::Recycle { ticket, log, old, new, header } => {
            let made = data.recycle_segment(log, old, new, &header);
            let outcome = made.as_ref().map(|_| ()).map_err(fault);
            let file = made.ok().map(|file| ((log, new), file));
            Some(Settled { done: DiskDone::Recycled { ticket, outcome }, file })
        }
        DiskOp::Commit { .. } | DiskOp::Read { .. } | DiskOp::Lend { .. } => None,
    }
}

/// The answer to one of the blocking thread's orders.
fn answer(order: &DiskOp, outcome: Result<(), DiskFault>) -> Option<DiskDone> {
    match *order {
        DiskOp::Prepare { ticket, .. } => Some(DiskDone::Prepared { ticket, outcome }),
        DiskOp::WriteHint { ticket, .. } => Some(DiskDone::HintWritten { ticket, outcome }),
        DiskOp::ReadHint { ticket, .. } => Some(DiskDone::Read { ticket, buffer: BytesMut::new(), outcome }),
        DiskOp::Remove { ticket, .. } => Some(DiskDone::Removed { ticket, outcome }),
        DiskOp::Recycle { ticket, .. } => Some(DiskDone::Recycled { ticket, outcome }),
        DiskOp::Commit { .. } | DiskOp::Read { .. } | DiskOp::Lend { .. } => None,
    }
}
