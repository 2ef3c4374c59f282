//! Chance that can be played again: a small generator (SplitMix64) and where its seed comes from.

/// A sequence that its seed determines.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A seed from the environment variable `name` (decimal, or hexadecimal after `0x`), else from the clock. Print it: whoever
    /// sees a failure needs it.
    pub fn seed(name: &str) -> u64 {
        let given = std::env::var(name).ok();
        let number = given.as_deref().and_then(|text| match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        });
        number.unwrap_or_else(|| u64::from_str_radix(&crate::unique()[..8], 16).unwrap_or(1))
    }

    /// Another sequence, for somebody else who acts at the same time.
    pub fn fork(&mut self) -> Chance {
        Chance(self.draw())
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw().checked_rem(end).unwrap_or(0)
    }

    /// True once in `times`, on average.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A duration of at most this many milliseconds.
    pub fn millis(&mut self, most: u64) -> std::time::Duration {
        std::time::Duration::from_micros(self.below(most * 1000 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_plays_the_same_sequence_again() {
        let (mut one, mut two) = (Chance::new(7), Chance::new(7));
        assert!((0..100).all(|_| one.draw() == two.draw()));
        assert_ne!(one.fork().draw(), one.fork().draw());
        assert!((0..1000).all(|_| one.below(3) < 3));
    }
}
