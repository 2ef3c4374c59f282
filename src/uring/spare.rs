//! Room for the manifest on a disk that has none. To have a segment back, a manifest that says so is written first: on a disk that is
//! full to its last block nothing could be had back, and it would stay full.

use super::fill::allocate;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Its name in the data directory.
const NAME: &str = "manifest.room";

/// Octets of it. A manifest has 24 octets a segment: enough for a hundred GiB of log, and for what a file system adds.
const OCTETS: u64 = 64 << 10;

/// Does what needs a little room; once more without the spare when there is none.
///
/// # Errors
/// As of `write`.
pub(super) fn with(data_dir: &Path, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let is_full = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
    match write() {
        Err(error) if is_full(&error) && fs::remove_file(data_dir.join(NAME)).is_ok() => write(),
        done => done,
    }
}

/// Makes it where it is not. Best effort: where there is no room for it now there may be later.
pub(super) fn keep(data_dir: &Path) {
    let path = data_dir.join(NAME);
    let Ok(file) = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path) else { return };
    if allocate(&file, OCTETS).is_err() {
        let _ = fs::remove_file(&path);
    }
}
