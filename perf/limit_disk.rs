//! The disk of a limit: one write and one sync a group, in a thread of its own, to a file of written zeros. At its end it is used again
//! from its beginning. The next group starts when the previous one ends.
//!
//! Knows octets and who waits for them; not what they mean.

use crate::poll::{Interest, Poll};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

/// Octets of a file that is used again: written zeros commit up to twice as fast as a growing file.
const FILE: u64 = 256 << 20;

/// Which of the system's pages are written into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// Those of a file of 256 MiB that is used again from its beginning: they are in memory and stay there.
    Known,
    /// New ones, as a log's that has nothing to use again: the file has room for so many octets, and its zeros went past the page
    /// cache. On a virtual machine the host may have to find the memory first.
    New(u64),
}

/// Octets to be made durable, and who is owed an answer then.
#[derive(Debug)]
pub struct Group<T> {
    pub octets: Vec<u8>,
    pub owed: Vec<T>,
}

impl<T> Default for Group<T> {
    fn default() -> Group<T> {
        Group { octets: Vec::new(), owed: Vec::new() }
    }
}

/// A file and the thread that writes it. The thread ends with this.
#[derive(Debug)]
pub struct Disk<T> {
    to_disk: Sender<Group<T>>,
    from_disk: Receiver<io::Result<Group<T>>>,
    synced: UnixStream,
    syncing: bool,
}

impl<T: Send + 'static> Disk<T> {
    /// Prefills the file, and reports the end of each group to `poll` as `token`. The thread runs where this one is tied to.
    pub fn open(path: &Path, poll: &Poll, token: u64, pages: Pages) -> io::Result<Disk<T>> {
        let (file, octets) = match pages {
            Pages::Known => (prefilled(path)?, FILE),
            Pages::New(octets) => (prefilled_on_the_disk(path, octets)?, octets),
        };
        let (synced, ring) = UnixStream::pair()?;
        synced.set_nonblocking(true)?;
        poll.add(&synced, token, Interest::Read)?;
        let (to_disk, groups_in) = mpsc::channel();
        let (groups_out, from_disk) = mpsc::channel();
        thread::spawn(move || write(&file, octets, &groups_in, &groups_out, ring));
        Ok(Disk { to_disk, from_disk, synced, syncing: false })
    }

    /// Begins with this group when nothing is under way and it is not empty; it is empty then.
    pub fn begin(&mut self, group: &mut Group<T>) {
        if !self.syncing && !group.owed.is_empty() {
            self.syncing = self.to_disk.send(std::mem::take(group)).is_ok();
        }
    }

    /// The group that has become durable, if one has.
    pub fn ended(&mut self) -> io::Result<Option<Group<T>>> {
        match self.synced.read(&mut [0; 8]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        match self.from_disk.try_recv() {
            Ok(group) => {
                self.syncing = false;
                group.map(Some)
            }
            Err(_) => Ok(None),
        }
    }
}

fn prefilled(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Zeros past the page cache.
fn prefilled_on_the_disk(path: &Path, octets: u64) -> io::Result<File> {
    #[repr(C, align(4096))]
    struct Zeros([u8; 1 << 20]);
    static ZEROS: Zeros = Zeros([0; 1 << 20]);
    let direct = OpenOptions::new().create(true).truncate(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
    for at in (0..octets).step_by(ZEROS.0.len()) {
        direct.write_all_at(&ZEROS.0, at)?;
    }
    direct.sync_all()?;
    OpenOptions::new().read(true).write(true).open(path)
}

/// Write, sync, ring; again. At the end of the file it begins at the front.
fn write<T>(
    file: &File,
    room: u64,
    groups: &Receiver<Group<T>>,
    done: &Sender<io::Result<Group<T>>>,
    mut ring: UnixStream,
) {
    let mut at = 0;
    while let Ok(group) = groups.recv() {
        if at + group.octets.len() as u64 > room {
            at = 0;
        }
        let durable = file.write_all_at(&group.octets, at).and_then(|()| file.sync_data());
        at += group.octets.len() as u64;
        if done.send(durable.map(|()| group)).is_err() || ring.write_all(&[1]).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Scratch;
    use std::time::Duration;

    #[test]
    fn a_group_comes_back_when_it_is_in_the_file() {
        for pages in [Pages::Known, Pages::New(2 << 20)] {
            comes_back(pages);
        }
    }

    fn comes_back(pages: Pages) {
        let scratch = Scratch::new(None, "disk").unwrap();
        let mut poll = Poll::new().unwrap();
        let mut disk = Disk::open(&scratch.path().join("file"), &poll, 5, pages).unwrap();
        let mut group = Group { octets: b"octets".to_vec(), owed: vec!["somebody"] };
        disk.begin(&mut group);
        assert!(group.owed.is_empty() && group.octets.is_empty());
        poll.wait(Duration::from_secs(10)).unwrap();
        assert_eq!(poll.event(0).unwrap().token, 5);
        let ended = disk.ended().unwrap().unwrap();
        assert_eq!((ended.owed, ended.octets), (vec!["somebody"], b"octets".to_vec()));
        assert!(std::fs::read(scratch.path().join("file")).unwrap().starts_with(b"octets"));
        assert!(disk.ended().unwrap().is_none());
    }
}
