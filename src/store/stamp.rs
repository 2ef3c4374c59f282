//! Stamps, which order messages, and the ids made from them. Knows time as an argument; knows no file and no queue.

use crate::base::clock::Now;
use crate::base::net::CoreId;

/// When a message arrived, made unique: what a user's messages are ordered by.
///
/// `microseconds since 1970 << 12 | step << 10 | core`. Four steps fit a microsecond, so a core may take in four million
/// messages a second before its stamps run ahead of the clock; 52 bits of microseconds last until the year 2112.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Stamp(pub u64);

/// Bits below the microsecond.
const SUB_BITS: u32 = 12;
/// Bits of the core's number: 1,024 cores are more than one host has.
const CORE_BITS: u32 = 10;

/// Most cores, and most logs, of one data directory.
pub const CORES_MAX: u16 = 1 << CORE_BITS;

impl Stamp {
    /// Microseconds since 1970-01-01 UTC.
    pub fn micros(self) -> u64 {
        self.0 >> SUB_BITS
    }

    /// Milliseconds since 1970-01-01 UTC: the time part of the message's id.
    pub fn millis(self) -> u64 {
        self.micros() / 1_000
    }

    /// Seconds since 1970-01-01 UTC.
    pub fn seconds(self) -> u64 {
        self.micros() / 1_000_000
    }

    /// The core that gave it.
    pub fn core(self) -> CoreId {
        CoreId((self.0 & ((1 << CORE_BITS) - 1)) as u16)
    }
}

/// One core's source of stamps: strictly rising, different from every other core's, never below what the log holds.
///
/// It starts at the later of the wall clock and the highest stamp found, and then follows the monotonic clock, so that a
/// wall clock set back neither repeats nor reorders. All cores must be given the same `start` and `highest`: that is what
/// makes "the 202 of m1 left before m2 arrived" mean "m1 has the lower stamp" across cores.
#[derive(Clone, Debug)]
pub struct Stamps {
    core: u16,
    /// Microseconds to add to a tick.
    offset_us: u64,
    /// The last one given, without the core's bits.
    last: u64,
}

impl Stamps {
    /// A source for `core`. `start` is one reading of both clocks, `highest` the highest stamp of all logs.
    pub fn new(core: CoreId, highest: Stamp, start: Now) -> Stamps {
        let first_us = start.wall.0.max(highest.micros().saturating_add(1));
        Stamps {
            core: core.0 % CORES_MAX,
            offset_us: first_us.saturating_sub(start.tick.0),
            last: (first_us << (SUB_BITS - CORE_BITS)).saturating_sub(1),
        }
    }

    /// The next one: that of `now`, or the one after the last when the clock has not moved far enough.
    pub fn next(&mut self, now: Now) -> Stamp {
        let clock = now.tick.0.saturating_add(self.offset_us) << (SUB_BITS - CORE_BITS);
        self.last = clock.max(self.last + 1);
        Stamp(self.last << CORE_BITS | u64::from(self.core))
    }
}

/// Digits of an id: base32 without the letters that look like others.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Every two digits: most of an id is written two at a time.
static PAIRS: [[u8; 2]; 1024] = {
    let mut pairs = [[0; 2]; 1024];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [DIGITS[number / 32], DIGITS[number % 32]];
        number += 1;
    }
    pairs
};

/// Writes the lowest bits of a number as so many digits, an even count.
#[inline]
fn write(digits: &mut [u8], mut number: u64) {
    for pair in digits.rchunks_exact_mut(2) {
        pair.copy_from_slice(&PAIRS[number as usize % PAIRS.len()]);
        number >>= 10;
    }
}

/// What each octet is worth as a digit; [`NO_DIGIT`] when it is none.
const WORTH: [u8; 256] = {
    let mut worth = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < DIGITS.len() {
        worth[DIGITS[digit] as usize] = digit as u8;
        digit += 1;
    }
    worth
};

const NO_DIGIT: u8 = u8::MAX;

/// Octets of an id.
pub const ID_OCTETS: usize = 26;

/// Name of a stored message, and the MSRP Message-ID it is pushed under (12.2.2.3-3).
///
/// 48 bits of time (the millisecond of its stamp), then 80 random bits, as 26 base32 digits: it sorts by time, and nobody
/// guesses a neighbour's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; ID_OCTETS]);

impl MessageId {
    /// The id of the message with this stamp. `random` must come from a strong source.
    pub fn new(stamp: Stamp, random: [u8; 10]) -> MessageId {
        // 26 digits are 130 bits: ten of time, whose first two bits are zero, then eight for every five octets of chance.
        let [a, b, c, d, e, f, g, h, i, j] = random;
        let number = |octets: [u8; 5]| octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
        let mut digits = [0u8; ID_OCTETS];
        write(&mut digits[..10], stamp.millis() & ((1 << 48) - 1));
        write(&mut digits[10..18], number([a, b, c, d, e]));
        write(&mut digits[18..], number([f, g, h, i, j]));
        MessageId(digits)
    }

    /// Reads an id; `None` unless it is exactly what [`MessageId::new`] writes (lower case: ids are case-sensitive).
    pub fn parse(octets: &[u8]) -> Option<MessageId> {
        let digits: [u8; ID_OCTETS] = octets.try_into().ok()?;
        if digits[0] > b'7' || digits.iter().any(|digit| WORTH[usize::from(*digit)] == NO_DIGIT) {
            return None;
        }
        Some(MessageId(digits))
    }

    fn bits(&self) -> u128 {
        self.0.iter().fold(0, |bits, digit| bits << 5 | u128::from(WORTH[usize::from(*digit)] & 31))
    }

    /// Its time part: milliseconds since 1970-01-01 UTC.
    pub fn millis(&self) -> u64 {
        (self.bits() >> 80) as u64
    }

    /// Its random part.
    pub fn random(&self) -> [u8; 10] {
        let mut random = [0u8; 10];
        random.copy_from_slice(&self.bits().to_be_bytes()[6..]);
        random
    }

    /// As it is written.
    pub fn as_bytes(&self) -> &[u8; ID_OCTETS] {
        &self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Tick, Wall};
    use proptest::prelude::*;

    fn now(tick: u64, wall: u64) -> Now {
        Now { tick: Tick(tick), wall: Wall(wall) }
    }

    #[test]
    fn stamps_rise_even_when_the_wall_clock_is_set_back() {
        let mut stamps = Stamps::new(CoreId(3), Stamp(0), now(1_000, 1_700_000_000_000_000));
        let first = stamps.next(now(1_000, 1_700_000_000_000_000));
        assert_eq!(first.micros(), 1_700_000_000_000_000);
        assert_eq!(first.core(), CoreId(3));
        let second = stamps.next(now(1_000, 5));
        let third = stamps.next(now(3_000, 5));
        assert!(first < second && second < third);
        assert_eq!(third.micros(), 1_700_000_000_002_000);
    }

    #[test]
    fn stamps_start_above_the_highest_found() {
        let start = now(0, 1_000);
        let highest = Stamps::new(CoreId(9), Stamp(0), now(0, 50_000)).next(now(0, 50_000));
        for core in 0..12 {
            assert!(Stamps::new(CoreId(core), highest, start).next(start) > highest);
        }
    }

    #[test]
    fn two_cores_never_give_the_same_stamp() {
        let start = now(0, 1_000_000);
        let (mut a, mut b) = (Stamps::new(CoreId(0), Stamp(0), start), Stamps::new(CoreId(1), Stamp(0), start));
        let mut all: Vec<Stamp> = (0..1_000).flat_map(|_| [a.next(start), b.next(start)]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2_000);
    }

    #[test]
    fn every_digit_stands_where_it_did() {
        let id = |millis: u64, random| MessageId::new(Stamp((millis * 1_000) << SUB_BITS), random);
        assert_eq!(id(0, [0; 10]).as_str(), "00000000000000000000000000");
        assert_eq!(id(1, [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]).as_str(), "00000000010400000000000002");
        let random = *b"\x00\x44\x32\x14\xc7\x42\x54\xb6\x35\xcf";
        assert_eq!(id(1_700_000_000_000, random).as_str(), "01hf7yat000123456789abcdef");
    }

    #[test]
    fn only_what_we_write_is_read_as_an_id() {
        let id = MessageId::new(Stamp(u64::MAX), [255; 10]);
        assert_eq!(MessageId::parse(id.as_bytes()), Some(id));
        for bad in
            [&b""[..], b"0123456789abcdefghjkmnpqr", b"8zzzzzzzzzzzzzzzzzzzzzzzzz", b"0ABCDEFGHJKMNPQRSTVWXYZ012"]
        {
            assert_eq!(MessageId::parse(bad), None);
        }
        assert_eq!(MessageId::parse(b"0123456789abcdefghijklmnop"), None, "i, l, o and u are not digits");
    }

    proptest! {
        #[test]
        fn an_id_gives_back_what_it_was_made_of(us in 0u64..1 << 52, random in any::<[u8; 10]>()) {
            let stamp = Stamp(us << 12);
            let id = MessageId::new(stamp, random);
            prop_assert_eq!(id.millis(), stamp.millis());
            prop_assert_eq!(id.random(), random);
            prop_assert_eq!(MessageId::parse(id.as_bytes()), Some(id));
        }
    }
}
