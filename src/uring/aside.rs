//! What a repair does to the files of a data directory that no daemon uses: nothing is deleted but an index.

use super::data_dir::{DataDir, make_durable_dir, sync_directory};
use crate::base::net::CoreId;
use crate::store::disk::SegmentNo;
use std::fs;
use std::io;
use std::path::PathBuf;

impl DataDir {
    /// Removes a segment's hint: the next start reads the segment.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_hint(&self, log: CoreId, segment: SegmentNo) -> io::Result<()> {
        match fs::remove_file(self.log_path(log).join(Self::hint_name(segment))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_directory(&self.log_path(log)),
        }
    }

    /// Moves a segment, and its hint, out of everybody's sight: into `set-aside`, under a name that says where it was. One that is
    /// there already stays, and this one gets a further number.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_aside(&self, log: CoreId, segment: SegmentNo) -> io::Result<PathBuf> {
        let aside = self.path().join("set-aside");
        make_durable_dir(&aside)?;
        let named = |number: u32| match number {
            0 => format!("log-{}-{:010}", log.0, segment.0),
            number => format!("log-{}-{:010}.{number}", log.0, segment.0),
        };
        let free = (0..u32::MAX).map(named).find(|name| !aside.join(format!("{name}.log")).exists());
        let name = free.ok_or(io::ErrorKind::AlreadyExists)?;
        let to = aside.join(format!("{name}.log"));
        fs::rename(self.segment_path(log, segment), &to)?;
        let hint = self.log_path(log).join(Self::hint_name(segment));
        if hint.exists() {
            fs::rename(hint, aside.join(format!("{name}.hint")))?;
        }
        sync_directory(&aside)?;
        sync_directory(&self.log_path(log))?;
        Ok(to)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_keeps_its_octets_and_never_covers_another() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDir::open(place.path()).unwrap();
        let (log, segment) = (CoreId(0), SegmentNo(3));
        for _ in 0..2 {
            data.prepare_segment(log, segment, 10_000, b"head").unwrap();
            data.write_hint(log, segment, b"hint").unwrap();
            let to = data.set_aside(log, segment).unwrap();
            assert_eq!(fs::metadata(to).unwrap().len(), 10_000);
            assert_eq!(data.segments().unwrap(), []);
        }
        let names = fs::read_dir(place.path().join("set-aside")).unwrap().count();
        assert_eq!(names, 4);
        data.remove_hint(log, segment).unwrap();
    }
}
