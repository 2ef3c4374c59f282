//! All that is known when the runs are over, in one value: what the table, the JSON, the report and the record are made of.

use crate::machine::{self, Machine};
use crate::outcome::{Request, Setup, Transport};
use crate::pin::Places;
use crate::runs::Combined;
use hdrhistogram::Histogram;
use std::path::Path;

/// The figures, and everything that was the same in all runs.
#[derive(Clone, Debug)]
pub struct Report {
    pub request: Request,
    pub runs: Combined,
    pub machine: Machine,
    /// Of the daemon.
    pub revision: String,
    /// The daemon's binary, from the working directory where it lies below it.
    pub daemon: String,
    /// UTC: day and time of day.
    pub date: (String, String),
}

impl Report {
    /// Of `runs`, made by `request`, on the machine that this runs on.
    pub fn new(request: Request, runs: Combined, machine: Machine) -> Report {
        let here = std::env::current_dir().unwrap_or_default();
        let binary = request.daemon.canonicalize().unwrap_or_else(|_| request.daemon.clone());
        let daemon = match binary.strip_prefix(&here) {
            Ok(below) => below,
            // Whose home it lies in is nobody's business.
            Err(_) => Path::new(binary.file_name().unwrap_or_default()),
        };
        let (revision, daemon) = (machine::revision(&binary), daemon.display().to_string());
        Report { request, runs, machine, revision, daemon, date: machine::today() }
    }

    /// How it was measured: names and values, in the order in which they are shown.
    pub fn conditions(&self) -> Vec<(&'static str, String)> {
        let (request, outcome) = (&self.request, &self.runs.outcome);
        let mut found = vec![
            ("size", format!("{} octets", grouped(outcome.size as f64))),
            ("messages", grouped(outcome.messages as f64)),
        ];
        let users = outcome.keys.iter().find(|(key, _)| *key == "users").and_then(|(_, value)| value.as_u64());
        if let Some(users) = users.or(request.users) {
            found.push(("users", grouped(users as f64)));
        }
        found.push(("cores of the daemon", outcome.cores.to_string()));
        found.push(("sync", if outcome.durable { "on" } else { "OFF" }.into()));
        let pinned = if request.pin { Places::of(outcome.cores).told() } else { "no".into() };
        found.push(("pinned", pinned));
        found.push(("SIP", format!("{}, {} connections", transport(request.transport), request.connections)));
        found.push(("MSRP set-up", setup(request.setup).into()));
        if request.slow > 0.0 || request.silent > 0.0 {
            let clients = format!("{} % slow, {} % silent", request.slow * 100.0, request.silent * 100.0);
            found.push(("clients", clients));
        }
        if !request.config.is_empty() {
            found.push(("configuration", request.config.join("; ")));
        }
        found.push(("runs", self.runs_made().to_string()));
        found
    }

    /// How many runs the figures are medians of.
    pub fn runs_made(&self) -> usize {
        self.runs.figures.iter().map(|(_, values)| values.len()).max().unwrap_or(1)
    }
}

/// As in a command line.
pub fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// As in a command line.
pub fn setup(setup: Setup) -> &'static str {
    match setup {
        Setup::Active => "active",
        Setup::Passive => "passive",
        Setup::Mixed => "mixed",
    }
}

/// The percentiles that are shown of a distribution, with their names.
pub const PERCENTILES: &[(&str, f64)] =
    &[("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p999", 99.9), ("p9999", 99.99)];

/// The value at each of [`PERCENTILES`], microseconds.
pub fn percentiles(histogram: &Histogram<u64>) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    PERCENTILES.iter().map(|(name, percentile)| (*name, histogram.value_at_percentile(*percentile)))
}

/// A number for a person: as many digits as mean something, thousands apart. 0.8731, 12.4, 612,345.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 || size >= 1_000.0 {
        grouped(value)
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else if size >= 0.1 {
        format!("{value:.3}")
    } else {
        format!("{value:.4}")
    }
}

/// A figure with its unit: microseconds and octets in the size that fits.
pub fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "" => number(value),
        "us" => microseconds(value),
        "/s" => format!("{}/s", number(value)),
        "B" | "B/s" if value.abs() >= 1e4 => {
            let (size, prefix) = match value.abs() {
                1e9.. => (1e9, "G"),
                1e6.. => (1e6, "M"),
                _ => (1e3, "k"),
            };
            format!("{} {prefix}{unit}", number(value / size))
        }
        unit => format!("{} {unit}", number(value)),
    }
}

/// The name of a distribution as a person says it: `publish_to_bye_us` is `publish to bye`.
pub fn spoken(name: &str) -> String {
    name.trim_end_matches("_us").replace('_', " ")
}

/// A whole number with its thousands apart.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value <= -0.5 { String::from("-") } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && digit.is_ascii_digit() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds for a person.
pub fn microseconds(value: f64) -> String {
    match value {
        ..10.0 => format!("{} us", number(value)),
        10.0..1_000.0 => format!("{value:.0} us"),
        1_000.0..1_000_000.0 => format!("{} ms", number(value / 1_000.0)),
        _ => format!("{} s", number(value / 1_000_000.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_what_means_something() {
        let table = [
            (0.0, "0"),
            (0.0123, "0.0123"),
            (0.8731, "0.873"),
            (1.0, "1"),
            (3.4567, "3.46"),
            (12.36, "12.4"),
            (612_345.4, "612,345"),
            (1_000.0, "1,000"),
            (-1_234_567.0, "-1,234,567"),
        ];
        for (value, text) in table {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn figures_have_the_unit_that_fits() {
        assert_eq!(with_unit(0.0123, ""), "0.0123");
        assert_eq!(with_unit(612_345.0, "/s"), "612,345/s");
        assert_eq!(with_unit(454.0, "B"), "454 B");
        assert_eq!(with_unit(502_088_580.0, "B/s"), "502 MB/s");
        assert_eq!(with_unit(18_400_000_000.0, "B"), "18.4 GB");
        assert_eq!(with_unit(0.0139, "% of a core"), "0.0139 % of a core");
        assert_eq!(spoken("publish_to_bye_us"), "publish to bye");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!(microseconds(812.0), "812 us");
        assert_eq!(microseconds(4_312.0), "4.31 ms");
        assert_eq!(microseconds(2_500_000.0), "2.50 s");
    }
}
