//! The one file about the whole data directory, as octets: format version, hash key, and up to where segment numbers may be
//! given out. Who writes the file, and when, is not known here.
//!
//! Written when the directory is made and whenever more segment numbers are reserved, always as a whole: a new file, synced,
//! renamed over the old one, the directory synced.

/// Octets of a manifest.
pub const MANIFEST_OCTETS: usize = 40;

/// The format this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// How many segment numbers are reserved at a time. 4,096 segments of 64 MiB are 256 GiB of log between two writes of the
/// manifest; 2^32 numbers allow a million starts, each of which forgets what was left of the last reservation.
pub const RESERVATION: u32 = 4_096;

const MAGIC: &[u8; 8] = b"DEFERDMF";

/// What the manifest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Key of all hashes of this data directory, random at its making.
    pub key: [u8; 16],
    /// Every segment number below this may have been used.
    pub reserved_to: u32,
}

/// Why a manifest is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManifestFault {
    /// Not 40 octets, or not beginning with the magic.
    NotAManifest,
    /// Of another version of the format.
    Version(u32),
    /// The checksum is wrong.
    Checksum,
}

impl Manifest {
    /// As octets, little-endian: magic 8, version 4, reserved_to 4, key 16, zero 4, CRC32C of all before 4.
    pub fn encode(&self) -> [u8; MANIFEST_OCTETS] {
        let mut out = [0u8; MANIFEST_OCTETS];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.reserved_to.to_le_bytes());
        out[16..32].copy_from_slice(&self.key);
        let sum = crc32c::crc32c(&out[..36]);
        out[36..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Back from [`Manifest::encode`].
    pub fn decode(octets: &[u8]) -> Result<Manifest, ManifestFault> {
        let octets: &[u8; MANIFEST_OCTETS] = octets.try_into().map_err(|_| ManifestFault::NotAManifest)?;
        if &octets[..8] != MAGIC {
            return Err(ManifestFault::NotAManifest);
        }
        let word = |at: usize| super::layout::le32(octets, at);
        if word(36) != crc32c::crc32c(&octets[..36]) {
            return Err(ManifestFault::Checksum);
        }
        if word(8) != FORMAT_VERSION {
            return Err(ManifestFault::Version(word(8)));
        }
        let mut key = [0u8; 16];
        key.copy_from_slice(&octets[16..32]);
        Ok(Manifest { key, reserved_to: word(12) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_back_and_every_flipped_bit_is_noticed() {
        let manifest = Manifest { key: *b"0123456789abcdef", reserved_to: 4_096 };
        let octets = manifest.encode();
        assert_eq!(Manifest::decode(&octets), Ok(manifest));
        for bit in 0..octets.len() * 8 {
            let mut rotten = octets;
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&rotten).is_err());
        }
        assert_eq!(Manifest::decode(&octets[..39]), Err(ManifestFault::NotAManifest));
    }
}
