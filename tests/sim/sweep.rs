//! Many seeds, each a scenario of its own.
//!
//! `SIM_SEED=0x1f cargo test --test sim` replays one seed with its whole trace on stderr; `SIM_SEEDS=10000` sweeps more.

use crate::plan::Plan;
use crate::world::{Report, World};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds under the normal test command.
const SEEDS: u64 = 64;

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| number(&text))
}

/// Runs one seed; a panic of the daemon's is a verdict like any other.
pub(crate) fn run(seed: u64, loud: bool) -> Result<Report, String> {
    let report = catch_unwind(AssertUnwindSafe(|| World::new(Plan::of_seed(seed), seed, loud).run()));
    let report = report.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })?;
    match &report.verdict {
        Ok(()) => Ok(report),
        Err(what) => Err(what.clone()),
    }
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = asked("SIM_SEED") {
        let report = run(seed, true).unwrap_or_else(|what| panic!("seed {seed:#x}: {what}"));
        eprintln!("seed {seed:#x}: {report:?}");
        return;
    }
    let first = asked("SIM_FROM").unwrap_or(0);
    let seeds = asked("SIM_SEEDS").unwrap_or(SEEDS);
    let mut failed = Vec::new();
    let (mut sent, mut accepted, mut delivered) = (0, 0, 0);
    let (mut reclaimed, mut copied) = (0, 0);
    let mut all_erased = [0u64; 3];
    for seed in first..first + seeds {
        match run(seed, false) {
            Ok(Report { figures, reclaimed: (segments, octets), erased, .. }) => {
                all_erased = [0, 1, 2].map(|at| all_erased[at] + erased[at]);
                reclaimed += segments;
                copied += octets;
                sent += figures.0;
                accepted += figures.1;
                delivered += figures.2;
            }
            Err(what) => failed.push(format!("SIM_SEED={seed:#x}: {what}")),
        }
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds failed:\n{}", failed.len(), failed.join("\n"));
    eprintln!(
        "{seeds} seeds: {sent} messages sent, {accepted} accepted, {delivered} delivered, {reclaimed} segments had back, {copied} octets copied forward, {all_erased:?} deleted, purged, reports"
    );
    assert!(seeds < SEEDS || delivered * 2 > sent, "most messages arrive, else nothing was tried");
    assert!(
        seeds < SEEDS || all_erased.iter().all(|&count| count > seeds / 2),
        "messages are deleted, purged and reported, else nothing was tried: {all_erased:?}"
    );
    assert!(
        seeds < SEEDS || reclaimed > seeds && copied > 0,
        "segments come back in most runs, else nothing was tried"
    );
}

#[test]
fn a_seed_replays_octet_for_octet() {
    for seed in [3, 17, 40] {
        let sums: Vec<_> = (0..2).map(|_| World::new(Plan::of_seed(seed), seed, false).run().sum).collect();
        assert_eq!(sums[0], sums[1], "seed {seed:#x} has two traces: (hash, lines)");
    }
}
