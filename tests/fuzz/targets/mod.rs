//! What is thrown at the readers, and what must hold whatever it was. cargo-fuzz runs these bodies with octets that it makes up;
//! the normal tests run them with those it found worth keeping (`corpus/`).
//!
//! Each body panics when something does not hold. None has a bound of its own on time: the fuzzer brings one.

mod bodies;
mod documents;
mod msrp;
mod recovery;
mod sdp;
mod sip;
mod uri;

/// A body: octets in, a panic when a promise is broken.
pub(crate) type Body = fn(&[u8]);

/// Every target under its name, which is also its corpus folder's and its program's.
pub(crate) const TARGETS: &[(&str, Body)] = &[
    ("sip", sip::sip),
    ("uri", uri::uri),
    ("sdp", sdp::sdp),
    ("msrp", msrp::msrp),
    ("multipart", bodies::multipart),
    ("cpim", bodies::cpim),
    ("date", bodies::date),
    ("xml", documents::xml),
    ("recovery", recovery::recovery),
    ("segments", recovery::segments),
];

/// Runs the target of this name.
pub(crate) fn run(name: &str, octets: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no target {name}"));
    body(octets);
}

/// Where a stream is cut: 1 to 16 octets a piece, or a few of a hundred, as the seed says.
struct Pieces(u64);

impl Pieces {
    /// From the first octets of an input; the rest of it is the stream.
    fn before(octets: &[u8]) -> (Pieces, &[u8]) {
        let (seed, stream) = octets.split_at(octets.len().min(2));
        let seed = seed.iter().fold(1u64, |seed, octet| seed << 8 | u64::from(*octet));
        (Pieces(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), stream)
    }

    /// Where the next piece ends that begins at `from`.
    fn border(&mut self, from: usize, len: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let small = self.0 % 16 + 1;
        let step = if self.0 >> 60 == 0 { small * 40 } else { small };
        (from + step as usize).min(len)
    }
}
