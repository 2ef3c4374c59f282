//! The one file about the whole data directory, as octets: format version, hash key, up to where segment numbers may be
//! given out, and which segments there are. Who writes the file, and when, is not known here.
//!
//! Always written as a whole: a new file, synced, renamed over the old one, the directory synced. The list tells a segment that
//! was lost from one that was let go, and one that was put here by hand from one that was made:
//!
//! ```text
//!   file made, synced ──▶ listed ──▶ (written, sealed) ──▶ leaving ──▶ file removed ──▶ not listed
//! ```
//! A file that is not listed holds no group yet. One that is *leaving* holds nothing that counts, whether it is there or not.

use super::disk::SegmentNo;
use super::layout::{le16, le32, le64};
use crate::base::crc32c::{crc32c, crc32c_append};
use crate::base::net::CoreId;

/// Octets of a manifest that lists nothing.
pub const MANIFEST_OCTETS: usize = 40;

/// Octets of a segment in it.
const LISTED: usize = 16;

/// The format this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// How many segment numbers are reserved at a time. 4,096 segments of 64 MiB are 256 GiB of log between two writes of the
/// manifest; 2^32 numbers allow a million starts, each of which forgets what was left of the last reservation.
pub const RESERVATION: u32 = 4_096;

const MAGIC: &[u8; 8] = b"DEFERDMF";

/// A segment that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Which.
    pub segment: SegmentNo,
    /// Whose log.
    pub log: CoreId,
    /// Its last group, once the log has left it; 0 before. Whatever of a later group lies behind it is a tail that was cut.
    pub last: u64,
    /// Nothing in it counts any more: its file is about to be removed, or gone.
    pub leaving: bool,
    /// Its checksums begin with the salt that its own header names: it was taken in when the key it was made under was lost.
    pub adopted: bool,
}

/// What the manifest says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Manifest {
    /// Key of all hashes of this data directory, random at its making.
    pub key: [u8; 16],
    /// Every segment number below this may have been used.
    pub reserved_to: u32,
    /// The segments, by number.
    segments: Vec<Listed>,
}

/// Why a manifest is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManifestFault {
    /// Too short, or not beginning with the magic, or not as long as it says.
    NotAManifest,
    /// Of another version of the format.
    Version(u32),
    /// The checksum is wrong.
    Checksum,
}

impl Manifest {
    /// One that lists nothing.
    pub fn new(key: [u8; 16], reserved_to: u32) -> Manifest {
        Manifest { key, reserved_to, segments: Vec::new() }
    }

    /// All segments, by number, those that are leaving included.
    pub fn segments(&self) -> &[Listed] {
        &self.segments
    }

    /// What is said of a segment.
    pub fn find(&self, segment: SegmentNo) -> Option<&Listed> {
        let at = self.segments.binary_search_by_key(&segment, |listed| listed.segment).ok()?;
        self.segments.get(at)
    }

    /// A segment's file is whole and durable with its name. Also what takes a foreign segment in, by the operator's wish.
    pub fn list(&mut self, log: CoreId, segment: SegmentNo) {
        self.insert(Listed { segment, log, last: 0, leaving: false, adopted: false });
    }

    /// The same of one that was made under another key, by the operator's wish.
    pub fn adopt(&mut self, log: CoreId, segment: SegmentNo) {
        self.insert(Listed { segment, log, last: 0, leaving: false, adopted: true });
    }

    fn insert(&mut self, listed: Listed) {
        let segment = listed.segment;
        match self.segments.binary_search_by_key(&segment, |listed| listed.segment) {
            Ok(at) => self.segments[at] = listed,
            Err(at) => self.segments.insert(at, listed),
        }
    }

    /// The log has left it behind this group.
    pub fn seal(&mut self, segment: SegmentNo, last: u64) {
        if let Some(listed) = self.segments.iter_mut().find(|listed| listed.segment == segment) {
            listed.last = last;
        }
    }

    /// Nothing in it counts any more. To be durable before its file is touched.
    pub fn leave(&mut self, segment: SegmentNo) {
        if let Some(listed) = self.segments.iter_mut().find(|listed| listed.segment == segment) {
            listed.leaving = true;
        }
    }

    /// Its file is gone. Also what gives a lost segment up, by the operator's wish. May be written with the next change.
    pub fn forget(&mut self, segment: SegmentNo) {
        self.segments.retain(|listed| listed.segment != segment);
    }

    /// As octets; `manual::format` has the picture.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MANIFEST_OCTETS + self.segments.len() * LISTED);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.reserved_to.to_le_bytes());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for listed in &self.segments {
            out.extend_from_slice(&listed.segment.0.to_le_bytes());
            out.extend_from_slice(&listed.log.0.to_le_bytes());
            out.extend_from_slice(&(u16::from(listed.leaving) | u16::from(listed.adopted) << 1).to_le_bytes());
            out.extend_from_slice(&listed.last.to_le_bytes());
        }
        let sum = sum(&out);
        out[36..40].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Back from [`Manifest::encode`].
    ///
    /// # Errors
    /// It is not one of this version, or rotten.
    pub fn decode(octets: &[u8]) -> Result<Manifest, ManifestFault> {
        if octets.len() < MANIFEST_OCTETS || !octets.starts_with(MAGIC) {
            return Err(ManifestFault::NotAManifest);
        }
        if le32(octets, 8) != FORMAT_VERSION {
            return Err(ManifestFault::Version(le32(octets, 8)));
        }
        if le32(octets, 36) != sum(octets) {
            return Err(ManifestFault::Checksum);
        }
        let mut key = [0u8; 16];
        key.copy_from_slice(&octets[16..32]);
        let list = octets[MANIFEST_OCTETS..].chunks_exact(LISTED);
        if list.len() != le32(octets, 32) as usize || !list.remainder().is_empty() {
            return Err(ManifestFault::NotAManifest);
        }
        let mut manifest = Manifest::new(key, le32(octets, 12));
        for listed in list {
            let (segment, log) = (SegmentNo(le32(listed, 0)), CoreId(le16(listed, 4)));
            let (leaving, adopted) = (le16(listed, 6) & 1 != 0, le16(listed, 6) & 2 != 0);
            manifest.segments.push(Listed { segment, log, last: le64(listed, 8), leaving, adopted });
        }
        if !manifest.segments.is_sorted_by(|a, b| a.segment < b.segment) {
            return Err(ManifestFault::NotAManifest);
        }
        Ok(manifest)
    }
}

/// Over everything but itself.
fn sum(octets: &[u8]) -> u32 {
    crc32c_append(crc32c(&octets[..36]), &octets[MANIFEST_OCTETS..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_back_and_every_flipped_bit_is_noticed() {
        let mut manifest = Manifest::new(*b"0123456789abcdef", 4_096);
        for segment in [9, 3, 5] {
            manifest.list(CoreId(segment as u16 % 2), SegmentNo(segment));
        }
        manifest.seal(SegmentNo(3), 77);
        manifest.leave(SegmentNo(5));
        manifest.adopt(CoreId(1), SegmentNo(12));
        let octets = manifest.encode();
        assert_eq!(Manifest::decode(&octets), Ok(manifest.clone()));
        assert_eq!(manifest.find(SegmentNo(3)).map(|listed| listed.last), Some(77));
        for bit in 0..octets.len() * 8 {
            let mut rotten = octets.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&rotten).is_err(), "bit {bit}");
        }
        for len in 0..octets.len() {
            assert!(Manifest::decode(&octets[..len]).is_err());
        }
    }

    #[test]
    fn a_segment_is_listed_once_and_forgotten_whole() {
        let mut manifest = Manifest::new([1; 16], 1);
        manifest.list(CoreId(0), SegmentNo(4));
        manifest.leave(SegmentNo(4));
        manifest.list(CoreId(1), SegmentNo(4));
        let listed = Listed { segment: SegmentNo(4), log: CoreId(1), last: 0, leaving: false, adopted: false };
        assert_eq!(manifest.segments(), [listed]);
        manifest.forget(SegmentNo(4));
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(Manifest::new([1; 16], 1)));
    }
}
