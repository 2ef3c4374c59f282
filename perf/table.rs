//! A report as a table in a terminal. Knows columns, bars and colours; computes no figure.

use crate::figures::{self, Bound, FIGURES};
use crate::outcome::Latency;
use crate::report::{self, Report, microseconds, number, with_unit};
use std::fmt::Write;
use std::io::IsTerminal;

/// Cells of a bar.
const BAR: usize = 40;

/// Colours, or none where nobody sees them.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// For tests.
    #[cfg(test)]
    pub const PLAIN: Paint = Paint(false);

    /// Colours if `stream` is a terminal and its owner did not ask for none (`NO_COLOR`).
    pub fn of(stream: &impl IsTerminal) -> Paint {
        Paint(stream.is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn bar(self, text: &str) -> String {
        self.with("36", text)
    }
}

/// The whole table, lines ended.
pub fn table(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    let outcome = &report.runs.outcome;
    let measures = crate::scenarios::SCENARIOS.iter().find(|scenario| scenario.name == outcome.scenario);
    let _ = writeln!(
        out,
        "\n{}  {}\n",
        paint.strong(outcome.scenario),
        paint.dim(measures.map_or("", |scenario| scenario.measures))
    );
    rates(&mut out, report, paint);
    figures(&mut out, report, paint);
    points(&mut out, report, paint);
    if !outcome.latencies.is_empty() {
        latencies(&mut out, &outcome.latencies, paint);
    }
    let errors = match outcome.errors {
        0 => paint.good("none"),
        errors => paint.bad(&report::grouped(errors as f64)),
    };
    let _ = writeln!(out, "\n  {:32} {errors}", "errors");
    let _ = writeln!(out, "  {:32} {} s", "measured for", number(outcome.seconds));
    let _ = writeln!(out);
    for (name, value) in report.conditions() {
        let _ = writeln!(out, "  {} {value}", paint.dim(&format!("{name:32}")));
    }
    let _ = writeln!(out, "  {} {}", paint.dim(&format!("{:32}", "machine")), report.machine.line());
    let _ = writeln!(out, "  {} {} ({})", paint.dim(&format!("{:32}", "revision")), report.revision, report.daemon);
    for note in &outcome.notes {
        let _ = writeln!(out, "  {}", paint.dim(note));
    }
    out
}

/// The daemon's rate and the limit's, one bar below the other, and the ratio with its goal on the same scale.
fn rates(out: &mut String, report: &Report, paint: Paint) {
    let pairs = [("messages_per_s", "limit_messages_per_s"), ("users_per_s", "limit_users_per_s")];
    let found = pairs.iter().find_map(|(rate, limit)| {
        Some((rate, report.runs.median(rate)?, report.runs.median(limit)?)).filter(|(_, _, limit)| *limit > 0.0)
    });
    let Some((key, rate, limit)) = found else { return };
    let unit = if *key == "users_per_s" { "users/s" } else { "messages/s" };
    let full = rate.max(limit);
    for (name, value) in [("daemon", rate), ("limit", limit)] {
        let bar = paint.bar(&bar(value / full, BAR));
        let _ = writeln!(out, "  {name:8} {:>11} {unit:10} {bar}", report::grouped(value));
    }
    let _ = writeln!(out);
}

/// Each figure, its spread over the runs, its goal.
fn figures(out: &mut String, report: &Report, paint: Paint) {
    let outcome = &report.runs.outcome;
    let goals = figures::goals(outcome.scenario, outcome.size, outcome.messages);
    let known = FIGURES.iter().map(|figure| (figure.key, figure.title, figure.unit));
    let others = report.runs.figures.iter().filter(|(key, _)| figures::named(key).is_none());
    for (key, title, unit) in known.chain(others.map(|(key, _)| (key.as_str(), key.as_str(), ""))) {
        let Some(median) = report.runs.median(key) else { continue };
        let mut line = format!("  {title:32} {:>16}", with_unit(median, unit));
        let values = crate::runs::sorted(report.runs.values(key));
        let spread = match values.as_slice() {
            [low, .., high] if low != high => format!("{} to {}", bare(*low, unit), bare(*high, unit)),
            _ => String::new(),
        };
        let goal = goals.iter().find(|goal| goal.key == key);
        if !spread.is_empty() || goal.is_some() {
            let _ = write!(line, "  {}", paint.dim(&format!("{spread:22}")));
        }
        if let Some(goal) = goal {
            let _ = write!(line, "  {}", judged(goal.bound, median, unit, paint));
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn judged(bound: Bound, value: f64, unit: &str, paint: Paint) -> String {
    let goal = bare(bound.value(), unit);
    let goal = format!("goal {} {goal}", bound.sign());
    let verdict = if bound.is_met_by(value) { paint.good("✓ met") } else { paint.bad("✗ missed") };
    format!("{goal:18} {verdict}")
}

/// Without a unit that stands beside it already; microseconds and octets change theirs with their size.
fn bare(value: f64, unit: &str) -> String {
    if matches!(unit, "us" | "B" | "B/s") { with_unit(value, unit) } else { number(value) }
}

/// A list of objects as a scenario like `scale` gives it: a row each.
fn points(out: &mut String, report: &Report, paint: Paint) {
    let found = report.runs.outcome.keys.iter().find(|(key, _)| *key == "points");
    let Some(rows) = found.and_then(|(_, value)| value.as_array()) else { return };
    let Some(first) = rows.first().and_then(|row| row.as_object()) else { return };
    // What it is over stands first.
    let mut keys: Vec<&String> = first.keys().collect();
    keys.sort_by_key(|key| key.as_str() != "messages");
    let heads: String = keys.iter().map(|key| format!("{key:>24}")).collect();
    let _ = writeln!(out, "\n  {}", paint.dim(&heads));
    for row in rows.iter().filter_map(|row| row.as_object()) {
        let cells: String = keys
            .iter()
            .map(|key| format!("{:>24}", row.get(*key).and_then(|value| value.as_f64()).map_or("-".into(), number)))
            .collect();
        let _ = writeln!(out, "  {cells}");
    }
}

fn latencies(out: &mut String, latencies: &[Latency], paint: Paint) {
    let mut heads = format!("{:30}", "");
    for name in report::PERCENTILES.iter().map(|(name, _)| *name).chain(["max"]) {
        let _ = write!(heads, "{name:>10}");
    }
    let _ = writeln!(out, "\n  {}", paint.dim(&heads));
    for latency in latencies {
        let mut line = format!("  {:30}", report::spoken(latency.name));
        for value in
            report::percentiles(&latency.histogram_us).map(|(_, value)| value).chain([latency.histogram_us.max()])
        {
            let _ = write!(line, "{:>10}", microseconds(value as f64));
        }
        let _ = writeln!(out, "{line}");
    }
}

/// `share` of `cells` filled, to an eighth of a cell.
fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let filled = (share.clamp(0.0, 1.0) * cells as f64 * 8.0).round() as usize;
    format!("{}{}", "█".repeat(filled / 8), EIGHTHS.get(filled % 8).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::report;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.53125, 4), "██▏");
        assert_eq!(bar(7.0, 4), "████");
        assert_eq!(bar(f64::NAN, 4), "");
    }

    #[test]
    fn every_scenario_has_its_main_figure_and_its_goal_in_the_table() {
        for scenario in crate::scenarios::SCENARIOS {
            let report = report(scenario.name);
            let text = table(&report, Paint::PLAIN);
            let title = figures::named(figures::main_figure(scenario.name)).map_or("", |figure| figure.title);
            assert!(text.contains(title), "{text}");
            let judged = text.contains("met") || text.contains("missed");
            let outcome = &report.runs.outcome;
            assert_eq!(judged, !figures::goals(scenario.name, outcome.size, outcome.messages).is_empty(), "{text}");
            assert!(!text.contains('\x1b'), "no colours where nobody sees them");
        }
    }

    #[test]
    fn a_missed_goal_and_a_figure_that_no_table_names_are_shown() {
        let mut report = report("push");
        report.runs.figures.push(("own_figure".into(), vec![7.0, 8.0, 9.0]));
        let text = table(&report, Paint::PLAIN);
        assert!(text.contains("goal ≥ 0.900"), "{text}");
        assert!(text.contains("missed"), "{text}");
        assert!(text.contains("own_figure") && text.contains("7 to 9"), "{text}");
    }
}
