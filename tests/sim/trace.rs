//! What happened, as lines: hashed always, written to stderr when a single seed is looked at.

use std::fmt::Arguments;
use std::io::Write;

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: u64,
    loud: bool,
}

impl Trace {
    /// An empty one; `loud` writes every line to stderr.
    pub(crate) fn new(loud: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: 0, loud }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, now: u64, line: Arguments<'_>) {
        let text = format!("{:>12.6} {line}", now as f64 / 1e6);
        self.octets(text.as_bytes());
        self.lines += 1;
        if self.loud {
            // Not eprintln!, which the test harness would swallow.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Adds octets to the hash only (FNV-1a).
    pub(crate) fn octets(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.hash = (self.hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// What two runs of one seed must agree in: a hash of everything, and the number of lines.
    pub(crate) fn sum(&self) -> (u64, u64) {
        (self.hash, self.lines)
    }
}

/// The first line of octets that are text, for people.
pub(crate) fn first_line(octets: &[u8]) -> String {
    let end = octets.iter().position(|&octet| octet == b'\r').unwrap_or(octets.len().min(60));
    String::from_utf8_lossy(&octets[..end]).into_owned()
}
