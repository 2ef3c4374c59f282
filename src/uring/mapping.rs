//! Segments mapped into memory, to be lent without a copy ([`DiskOp::Lend`](crate::store::disk::DiskOp::Lend)).
//!
//! A read copies out of the system's page cache into memory of ours, which has to be found, cleared and given back; a mapping *is*
//! the page cache. What speaks against mappings is known, and dealt with here:
//!
//! - *A page that is not there makes the thread wait for the disk.* So a range is brought in first, by a worker of the ring
//!   ([`op::populate`](super::op::populate)), and the store asks again for what it was lent more than seconds ago.
//! - *A page that the disk does not give ends the process* (SIGBUS). The worker meets the fault first and is told of it as an error;
//!   the record is then read, and only that fails. What is left is a sector that rots between the two, in memory that the system
//!   took back meanwhile: the process dies and recovers, and the next time the worker meets the fault.
//! - *A file that is cut has no pages behind its end.* Nobody cuts segments, and no more is lent than the file had when it was mapped.
//! - *A file that is written anew would change under a message on its way to another user.* So who wants to write a file anew
//!   asks [`Mappings::unless_mapped`] first, under the lock that makes new mappings wait.

#![allow(unsafe_code)]

use crate::base::net::CoreId;
use crate::store::disk::SegmentNo;
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// The smallest page there is; on a system of larger ones advice about parts of them is refused, and records are read.
pub const PAGE: usize = 4096;

/// A file's octets where the page cache has them, to be read only.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is memory that is only read, by whatever thread, and unmapped once, by whoever drops it.
unsafe impl Send for Mapping {}
// SAFETY: as above; nobody writes through it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a whole file, which must not be empty.
    ///
    /// # Errors
    /// What the kernel says; `UnexpectedEof` for an empty file.
    pub fn of(file: &File) -> io::Result<Mapping> {
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the descriptor is open while `file`
        // is borrowed, and the mapping outlives it by itself.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, len })
    }

    /// Where it begins: for advice to the kernel about it.
    pub fn start(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// How many octets.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when the page cache has every page of this range: to look at it waits for no disk. One call of 4 us for 1 MiB, where
    /// a worker takes 90 us to walk the pages one by one.
    pub fn is_resident(&self, at: usize, len: usize) -> bool {
        let from = at.min(self.len) / PAGE * PAGE;
        let len = at.saturating_add(len).min(self.len).saturating_sub(from);
        let mut pages = vec![0u8; len.div_ceil(PAGE)];
        // SAFETY: the range begins at a page of the mapping and ends in it, and the list has an octet for each of its pages.
        let outcome = unsafe { libc::mincore(self.start.as_ptr().add(from).cast(), len, pages.as_mut_ptr().cast()) };
        outcome == 0 && pages.iter().all(|page| page & 1 == 1)
    }

    /// Never true: an empty file is not mapped.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `len` are those of a mapping that lasts until the drop, readable and never unmapped in part. What a
        // reader looks at does not change: the log writes each octet once, before it gives its place to anybody
        // (`DiskOp::Lend`), and a file that is mapped is not written anew (`Mappings::unless_mapped`).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let over = Over { start: self.start, len: self.len };
        // Nobody there to do it: done here.
        drop(match unmapper() {
            Some(unmapper) => unmapper.send(over).err().map(|refused| refused.0),
            None => Some(over),
        });
    }
}

/// A mapping that nobody looks at any more.
struct Over {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: as for `Mapping`, whose place it takes.
unsafe impl Send for Over {}

impl Drop for Over {
    fn drop(&mut self) {
        // SAFETY: mapped in `Mapping::of` with this length, unmapped here only; every borrow of its octets has ended with the `Mapping`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// To the thread that unmaps, one for all cores. To take a segment out of memory costs milliseconds when it was the last to hold a
/// file that is gone: its pages are given back one by one then. No more wait there than segments were mapped.
fn unmapper() -> Option<&'static Sender<Over>> {
    static UNMAPPER: OnceLock<Option<Sender<Over>>> = OnceLock::new();
    let start = || {
        let (sender, orders) = mpsc::channel();
        let unmap = move || {
            // Where there is another processor than the core's, there; and the core goes first.
            let _ = super::host::unpin();
            let _ = super::host::give_way();
            orders.into_iter().for_each(drop);
        };
        std::thread::Builder::new().name("unmap".into()).spawn(unmap).ok().map(|_| sender)
    };
    UNMAPPER.get_or_init(start).as_ref()
}

/// One that several hold.
#[derive(Clone, Debug)]
pub struct SharedMapping(Arc<Mapping>);

impl SharedMapping {
    /// `len` octets from `at` on, fewer at the end. They keep the mapping alive.
    pub fn page(&self, at: u64, len: u32) -> Bytes {
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.0.len());
        let end = at.saturating_add(len as usize).min(self.0.len());
        Bytes::from_owner(self.clone()).slice(at..end)
    }
}

impl AsRef<[u8]> for SharedMapping {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().as_ref()
    }
}

impl std::ops::Deref for SharedMapping {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.0
    }
}

/// Which segments of a data directory are mapped, whichever core has done it: it maps each once for all. Cores keep what they got;
/// the lock is taken once per core and segment.
#[derive(Debug, Default)]
pub struct Mappings(Mutex<HashMap<(CoreId, SegmentNo), Weak<Mapping>>>, AtomicU64);

impl Mappings {
    /// The mapping of a segment that lies at `path`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn map(&self, log: CoreId, segment: SegmentNo, path: &Path) -> io::Result<SharedMapping> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mapping) = all.get(&(log, segment)).and_then(Weak::upgrade) {
            return Ok(SharedMapping(mapping));
        }
        let mapping = Arc::new(Mapping::of(&File::open(path)?)?);
        all.retain(|_, mapping| mapping.strong_count() > 0);
        all.insert((log, segment), Arc::downgrade(&mapping));
        Ok(SharedMapping(mapping))
    }

    /// A segment's file is gone: whoever holds pages of it keeps them, and nobody gets new ones.
    pub fn forget(&self, log: CoreId, segment: SegmentNo) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(log, segment));
        self.1.fetch_add(1, Ordering::Release);
    }

    /// How many files have gone: who keeps mappings looks at them again when it has changed, for a file that is mapped keeps its octets.
    pub fn gone(&self) -> u64 {
        self.1.load(Ordering::Acquire)
    }

    /// True while a segment's file is there and mapped.
    pub fn has(&self, log: CoreId, segment: SegmentNo) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&(log, segment))
    }

    /// Does `then` to a segment that nobody has mapped; `None`, and nothing done, when somebody has: a message on its way may lie in
    /// it. While it runs nobody maps anything.
    pub fn unless_mapped<R>(&self, log: CoreId, segment: SegmentNo, then: impl FnOnce() -> R) -> Option<R> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mapped = all.get(&(log, segment)).is_some_and(|mapping| mapping.strong_count() > 0);
        (!mapped).then(then)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    const NAME: (CoreId, SegmentNo) = (CoreId(1), SegmentNo(7));

    #[test]
    fn what_is_written_behind_what_was_lent_shows_and_nothing_is_lent_behind_the_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0; 10_000]).unwrap();
        let mappings = Mappings::default();
        let mapping = mappings.map(NAME.0, NAME.1, file.path()).unwrap();
        let page = mapping.page(4_000, 100);
        file.as_file().write_all_at(b"durable", 4_010).unwrap();
        assert_eq!(&page[10..17], b"durable");
        assert_eq!(mapping.page(9_990, 100).len(), 10);
        assert_eq!(mapping.page(20_000, 100).len(), 0);
        assert!(mapping.is_resident(4_000, 100) && mapping.is_resident(0, 1 << 20), "it has just been written");
    }

    #[test]
    fn a_page_outlives_whoever_lent_it_and_a_mapped_file_is_not_written_anew() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"octets").unwrap();
        let mappings = Mappings::default();
        let page = mappings.map(NAME.0, NAME.1, file.path()).unwrap().page(0, 6);
        assert_eq!(mappings.unless_mapped(NAME.0, NAME.1, || ()), None);
        assert_eq!(mappings.unless_mapped(NAME.0, SegmentNo(8), || 5), Some(5));
        assert_eq!(&page[..], b"octets");
        drop(page);
        assert_eq!(mappings.unless_mapped(NAME.0, NAME.1, || ()), Some(()));
    }

    #[test]
    fn two_cores_share_a_mapping_and_an_empty_file_has_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mappings = Mappings::default();
        assert_eq!(mappings.map(NAME.0, NAME.1, file.path()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        file.write_all(b"octets").unwrap();
        let one = mappings.map(NAME.0, NAME.1, file.path()).unwrap();
        let other = mappings.map(NAME.0, NAME.1, file.path()).unwrap();
        assert_eq!(one.start(), other.start());
    }
}
