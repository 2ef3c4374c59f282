//! CRC32C (Castagnoli; RFC 3720 appendix B.4), as the log has it over all it holds. A crate's, which takes 46 ns for a record of 1.7 KiB
//! where the processor multiplies without carry in wide registers, half of what its CRC instruction takes.

use crc_fast::{CrcAlgorithm, Digest};

/// The sum of these octets.
#[inline]
pub fn crc32c(octets: &[u8]) -> u32 {
    crc32c_append(0, octets)
}

/// The sum of what `sum` is the sum of, and these octets behind it.
#[inline]
pub fn crc32c_append(sum: u32, octets: &[u8]) -> u32 {
    // What is kept between octets is the sum before its last step, which turns all bits over.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!sum));
    digest.update(octets);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 B.4, and the check value of the catalogue.
    #[test]
    fn the_sums_that_others_have() {
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        let table: &[(&[u8], u32)] = &[
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
            (&falling, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ];
        for (octets, sum) in table {
            assert_eq!(crc32c(octets), *sum, "{octets:02x?}");
        }
    }

    /// Against the definition, bit by bit, in all lengths at which the crate changes its ways, from any sum on.
    #[test]
    fn a_sum_goes_on_from_another_at_every_length() {
        let by_bits = |sum: u32, octets: &[u8]| {
            !octets.iter().fold(!sum, |sum, octet| {
                (0..8).fold(sum ^ u32::from(*octet), |sum, _| (sum >> 1) ^ ((sum & 1) * 0x82f6_3b78))
            })
        };
        let octets: Vec<u8> = (0..2_500u32).map(|n| ((n * n) >> 3) as u8).collect();
        for (from, sum) in [(0, 0), (1, 0), (3, 0x1234_5678), (7, u32::MAX)] {
            for len in (0..600).chain((600..octets.len() - from).step_by(61)) {
                let octets = &octets[from..from + len];
                assert_eq!(crc32c_append(sum, octets), by_bits(sum, octets), "{len} octets from {sum:x} on");
            }
        }
    }
}
