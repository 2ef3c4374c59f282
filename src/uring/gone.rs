//! What is left of a segment that was had back: its hint, under another name, for as long as somebody may repeat what lay in it.
//!
//! A sender who missed a 202 repeats for 64*T1 (RFC 3261 17.1.2.2). Within a life memory knows the repetition; after a crash only the
//! fingerprints on the disk do. Their message may be delivered and their segment gone within a second, so they have to outlive it.

use super::data_dir::{DataDir, sync_directory};
use crate::base::net::CoreId;
use crate::store::disk::SegmentNo;
use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// How long such a hint stays: twice 64*T1, and it was written after what it lists. Its file's time says since when.
const KEPT_FOR: Duration = Duration::from_secs(64);

/// Octets of all of them: the fingerprints of two million messages, twice what a core remembers by default.
const KEPT_OCTETS: u64 = 64 << 20;

/// One such hint.
#[derive(Debug)]
struct Gone {
    path: PathBuf,
    written: SystemTime,
    octets: u64,
}

impl Gone {
    fn of(path: PathBuf, metadata: &Metadata) -> Gone {
        let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Gone { path, written, octets: metadata.len() }
    }
}

/// Those that are there, oldest first.
#[derive(Debug, Default)]
pub(super) struct GoneHints {
    list: VecDeque<Gone>,
    octets: u64,
}

impl GoneHints {
    fn add(&mut self, gone: Gone) {
        self.octets += gone.octets;
        self.list.push_back(gone);
    }

    /// Removes what is older than anybody repeats, and the oldest of what is too much. A clock set back keeps them for longer.
    fn prune(&mut self, now: SystemTime) {
        let is_old = |gone: &Gone| now.duration_since(gone.written).is_ok_and(|age| age > KEPT_FOR);
        while self.list.front().is_some_and(|gone| is_old(gone) || self.octets > KEPT_OCTETS)
            && let Some(gone) = self.list.pop_front()
        {
            self.octets -= gone.octets;
            let _ = fs::remove_file(gone.path);
        }
    }
}

impl DataDir {
    fn gone_hints(&self) -> MutexGuard<'_, GoneHints> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment is about to go: its hint stays behind, durably under its other name before the segment is touched. Best effort: what
    /// cannot be kept costs no more than a repetition that is not known after a crash.
    pub(super) fn keep_hint(&self, log: CoreId, segment: SegmentNo) {
        let hint = self.log_path(log).join(Self::hint_name(segment));
        let kept = self.log_path(log).join(gone_name(segment));
        let Ok(metadata) = fs::metadata(&hint) else { return };
        if fs::rename(&hint, &kept).and_then(|()| sync_directory(&self.log_path(log))).is_err() {
            let _ = fs::remove_file(&hint);
            return;
        }
        let mut gone = self.gone_hints();
        gone.add(Gone::of(kept, &metadata));
        gone.prune(SystemTime::now());
    }

    /// The hints of segments that were had back lately. What cannot be read is passed over.
    pub fn gone(&self) -> Vec<(CoreId, SegmentNo, Vec<u8>)> {
        let mut found = Vec::new();
        for (log, path) in self.files_gone().unwrap_or_default() {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let Some(number) = number
                && let Ok(octets) = fs::read(&path)
            {
                found.push((log, SegmentNo(number), octets));
            }
        }
        found.sort_unstable_by_key(|(log, segment, _)| (*log, *segment));
        found
    }

    /// Once in a life, after [`DataDir::gone`]: those that an earlier life left are removed in their time, too.
    pub(super) fn adopt_gone(&self) {
        let files = self.files_gone().unwrap_or_default();
        let with_metadata = |(_, path): (CoreId, PathBuf)| fs::metadata(&path).ok().map(|of| Gone::of(path, &of));
        let mut found: Vec<Gone> = files.into_iter().filter_map(with_metadata).collect();
        found.sort_by_key(|gone| gone.written);
        let mut gone = self.gone_hints();
        let since = std::mem::take(&mut gone.list);
        gone.octets = 0;
        // What this life has added is younger than all of them, and may be among them.
        found.retain(|old| since.iter().all(|new| new.path != old.path));
        found.into_iter().chain(since).for_each(|each| gone.add(each));
        gone.prune(SystemTime::now());
    }

    /// In the directories of all logs, those without a segment included.
    fn files_gone(&self) -> io::Result<Vec<(CoreId, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("log-"));
            let Some(log) = name.and_then(|number| number.parse().ok()).map(CoreId) else { continue };
            let files = fs::read_dir(&path)?.filter_map(|entry| Some(entry.ok()?.path()));
            let is_gone = |path: &PathBuf| Path::extension(path).is_some_and(|extension| extension == "gone");
            found.extend(files.filter(is_gone).map(|path| (log, path)));
        }
        Ok(found)
    }
}

fn gone_name(segment: SegmentNo) -> String {
    format!("{:010}.gone", segment.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;

    fn names(data: &DataDir) -> Vec<u32> {
        data.gone().into_iter().map(|(_, segment, _)| segment.0).collect()
    }

    #[test]
    fn the_hint_of_a_segment_outlives_it_and_the_process_and_goes_in_its_time() {
        let place = tempfile::tempdir().unwrap();
        let log = CoreId(0);
        {
            let data = DataDir::open(place.path()).unwrap();
            for segment in 1..5 {
                data.prepare_segment(log, SegmentNo(segment), 10_000, b"head").unwrap();
                data.write_hint(log, SegmentNo(segment), &[segment as u8]).unwrap();
            }
            data.remove_segment(log, SegmentNo(1)).unwrap();
            data.recycle_segment(log, SegmentNo(2), SegmentNo(9), b"head").unwrap();
            data.remove_segment(log, SegmentNo(4)).unwrap();
            assert_eq!(data.gone(), [1, 2, 4].map(|number| (log, SegmentNo(number), vec![number as u8])));
        }
        let long_ago = SystemTime::now() - KEPT_FOR * 2;
        File::options()
            .write(true)
            .open(place.path().join("log-0/0000000001.gone"))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let data = DataDir::open(place.path()).unwrap();
        data.remove_segment(log, SegmentNo(3)).unwrap();
        assert_eq!(names(&data), [1, 2, 3, 4], "a start finds them all, before it looks at their age");
        data.clear_hints();
        assert_eq!(names(&data), [2, 3, 4]);
        let mut gone = data.gone_hints();
        assert_eq!((gone.list.len(), gone.octets), (3, 3));
        gone.octets += KEPT_OCTETS - 2;
        gone.prune(SystemTime::now());
        assert_eq!(gone.list.len(), 2, "the oldest makes room");
        gone.prune(SystemTime::now() + KEPT_FOR * 2);
        assert!(gone.list.is_empty() && names(&data).is_empty());
    }
}
