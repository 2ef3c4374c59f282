//! What is stored, of all cores together, and the disk it lies on: for metrics and probes. Looks, and changes nothing.

use crate::store::directory::Directory;
use crate::uring::host::{self, Space};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What one served domain has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DomainUse {
    /// Its name.
    pub name: String,
    /// Messages of its users, those being written included.
    pub messages: u64,
    /// Their octets.
    pub octets: u64,
}

/// The users of all cores and the place their messages lie at.
#[derive(Debug)]
pub struct Stored {
    directory: Arc<Directory>,
    data_dir: PathBuf,
}

impl Stored {
    /// Of a daemon whose users are in `directory` and whose logs below `data_dir`.
    pub fn new(directory: Arc<Directory>, data_dir: PathBuf) -> Stored {
        Stored { directory, data_dir }
    }

    /// Every served domain, by name.
    pub fn domains(&self) -> Vec<DomainUse> {
        let domains = self.directory.domains();
        let mut all: Vec<DomainUse> = domains
            .all()
            .map(|(name, id)| {
                let (messages, octets) = domains.usage(id);
                DomainUse { name: String::from_utf8_lossy(name).into_owned(), messages, octets }
            })
            .collect();
        all.sort_unstable();
        all
    }

    /// Users with something stored.
    pub fn users(&self) -> usize {
        self.directory.len()
    }

    /// How long ago that was, in seconds.
    pub fn age_s(since_s: u64) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        now.saturating_sub(since_s)
    }

    /// Room on the disk.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn space(&self) -> io::Result<Space> {
        host::space(&self.data_dir)
    }
}
