//! Chance from a seed: the core draws from here and nowhere else, so a run can be repeated from its seed.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A cryptographically strong generator. The kernel's interpreter seeds it from the system, the simulator from its seed.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha12Rng);

impl Dice {
    /// Draws that follow from `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Dice {
        Dice(ChaCha12Rng::from_seed(seed))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `out`.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    /// Uniform enough in `low..=high` for backoff and jitter.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits() % (high.saturating_sub(low) + 1)
    }

    /// `N` lower-case hex digits: 4 random bits each.
    pub fn hex<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0u8; N];
        for digits in out.chunks_mut(16) {
            let mut bits = self.bits();
            for digit in digits {
                *digit = HEX[(bits & 15) as usize];
                bits >>= 4;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let (mut a, mut b) = (Dice::from_seed([7; 32]), Dice::from_seed([7; 32]));
        assert_eq!(a.hex::<20>(), b.hex::<20>());
        assert_eq!(a.bits(), b.bits());
        assert!((3..=5).contains(&a.between(3, 5)));
    }
}
