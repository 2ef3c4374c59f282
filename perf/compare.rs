//! What changed between two results beyond the noise that their runs show. Reads the JSON that this program writes; measures
//! nothing.
//!
//! A figure changed when both hold, and is the same otherwise:
//!
//! 1. The middles of its runs lie apart: the highest of the lower ones is below the lowest of the higher ones, the best and
//!    the worst run left out where there are five and more.
//! 2. The medians differ by more than [`SIGMAS`] standard errors of their difference, and by more than [`LEAST`].
//!
//! With one run on a side nobody knows the noise; then only a change of more than [`UNKNOWN_NOISE`] counts. More errors than before
//! are never noise.

use crate::figures::{self, Better};
use crate::report;
use crate::runs::{median, sorted};
use serde_json::Value;
use std::fmt::Write;

/// Three standard errors: chance alone exceeds them once in some hundred figures, and rule 1 stands beside it.
const SIGMAS: f64 = 3.0;
/// Two builds of the same source differ by a percent, by where their code lies.
const LEAST: f64 = 0.01;
/// What single runs on a shared machine differ by without a cause.
const UNKNOWN_NOISE: f64 = 0.15;

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// No difference beyond the noise.
    Same,
    /// It differs, and has no better and no worse.
    Differs,
}

/// One figure in both results.
#[derive(Clone, Debug)]
pub struct Line {
    pub key: String,
    /// Medians: before, after.
    pub before: f64,
    pub after: f64,
    /// Half the spread of the runs, as a share of the median; the wider of both sides. None where a side has one run.
    pub noise: Option<f64>,
    pub verdict: Verdict,
}

/// Why two results cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlike {
    /// The object has no `figures`: it is not from this program.
    NoFigures,
    Scenarios(String, String),
}

/// Every figure that both results have.
pub fn compare(before: &Value, after: &Value) -> Result<Vec<Line>, Unlike> {
    let scenario = |result: &Value| result["scenario"].as_str().unwrap_or_default().to_owned();
    if scenario(before) != scenario(after) {
        return Err(Unlike::Scenarios(scenario(before), scenario(after)));
    }
    let (Some(old), Some(new)) = (before["figures"].as_object(), after["figures"].as_object()) else {
        return Err(Unlike::NoFigures);
    };
    let mut lines = Vec::new();
    for (key, values) in old {
        let (old, new) = (numbers(values), new.get(key).map(numbers).unwrap_or_default());
        let better = figures::named(key).map_or(Better::Neither, |figure| figure.better);
        lines.extend(line(key, &old, &new, better));
    }
    let place = |line: &Line| figures::FIGURES.iter().position(|figure| figure.key == line.key).unwrap_or(usize::MAX);
    lines.sort_by_key(place);
    let errors = |result: &Value| result["errors"].as_f64().unwrap_or_default();
    let (old, new) = (errors(before), errors(after));
    let verdict = match new.total_cmp(&old) {
        std::cmp::Ordering::Greater => Verdict::Worse,
        std::cmp::Ordering::Less => Verdict::Better,
        std::cmp::Ordering::Equal => Verdict::Same,
    };
    lines.push(Line { key: "errors".into(), before: old, after: new, noise: None, verdict });
    Ok(lines)
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().map(|values| values.iter().filter_map(Value::as_f64).collect()).unwrap_or_default()
}

fn line(key: &str, old: &[f64], new: &[f64], better: Better) -> Option<Line> {
    let (before, after) = (median(old)?, median(new)?);
    let noise = (old.len() > 1 && new.len() > 1).then(|| relative_spread(old).max(relative_spread(new)));
    let verdict = match (differs(old, new), better) {
        (false, _) => Verdict::Same,
        (true, Better::Neither) => Verdict::Differs,
        (true, Better::Higher) if after > before => Verdict::Better,
        (true, Better::Lower) if after < before => Verdict::Better,
        (true, _) => Verdict::Worse,
    };
    Some(Line { key: key.to_owned(), before, after, noise, verdict })
}

/// Whether the difference is more than noise, by the rules above.
fn differs(old: &[f64], new: &[f64]) -> bool {
    let (Some(before), Some(after)) = (median(old), median(new)) else { return false };
    let change = (after - before).abs();
    let size = before.abs();
    if old.len() < 2 || new.len() < 2 {
        return change > UNKNOWN_NOISE * size;
    }
    let (old_middle, new_middle) = (middle(old), middle(new));
    let apart = old_middle.1 < new_middle.0 || new_middle.1 < old_middle.0;
    let error = (deviation(old).powi(2) / old.len() as f64 + deviation(new).powi(2) / new.len() as f64).sqrt();
    // A median's standard error is 1.25 times that of a mean.
    apart && change > SIGMAS * 1.25 * error && change > LEAST * size
}

/// Lowest and highest of the runs, of five and more without the outermost.
fn middle(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let cut = usize::from(sorted.len() >= 5);
    let inner = sorted.get(cut..sorted.len() - cut).unwrap_or_default();
    (inner.first().copied().unwrap_or(f64::NAN), inner.last().copied().unwrap_or(f64::NAN))
}

/// Standard deviation, estimated so that one run that a neighbour disturbed does not matter where there are enough of them.
fn deviation(values: &[f64]) -> f64 {
    // From the range, which for few values wastes nothing: its expectation in deviations, for 2, 3 and 4 values.
    const RANGE: [f64; 3] = [1.128, 1.693, 2.059];
    let sorted = sorted(values);
    let range = sorted.last().unwrap_or(&0.0) - sorted.first().unwrap_or(&0.0);
    if let Some(expected) = sorted.len().checked_sub(2).and_then(|at| RANGE.get(at)) {
        return range / expected;
    }
    // From the distances to the median, 1.4826 of whose median are a deviation of normal noise.
    let median = median(&sorted).unwrap_or_default();
    let distances: Vec<f64> = sorted.iter().map(|value| (value - median).abs()).collect();
    crate::runs::median(&distances).unwrap_or_default() * 1.4826
}

fn relative_spread(values: &[f64]) -> f64 {
    let (low, high) = middle(values);
    let median = median(values).unwrap_or_default().abs();
    if median > 0.0 { (high - low) / 2.0 / median } else { 0.0 }
}

/// Whether any figure got worse.
pub fn has_regression(lines: &[Line]) -> bool {
    lines.iter().any(|line| line.verdict == Verdict::Worse)
}

/// What differs in how both were measured, a sentence each: figures of unlike conditions say little.
pub fn warnings(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for key in ["cores", "size", "messages", "users"] {
        if before[key] != after[key] {
            found.push(format!("{key}: {} before, {} after", before[key], after[key]));
        }
    }
    for key in ["processor", "processors", "kernel", "file_system"] {
        let (old, new) = (&before["machine"][key], &after["machine"][key]);
        if old != new {
            found.push(format!("another machine ({key}): {old} before, {new} after"));
        }
    }
    let runs = |result: &Value| result["runs"].as_array().map_or(0, Vec::len);
    if runs(before) < 3 || runs(after) < 3 {
        found.push(format!("{} and {} runs: the noise is a guess; measure with --runs 5", runs(before), runs(after)));
    }
    found
}

/// The comparison as a person reads it.
pub fn table(lines: &[Line], paint: crate::table::Paint) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}",
        paint.dim(&format!("{:34} {:>12} {:>12} {:>8} {:>8}", "", "before", "after", "ratio", "noise"))
    );
    for line in lines {
        let figure = figures::named(&line.key);
        let title = figure.map_or(line.key.as_str(), |figure| figure.title);
        let ratio = if line.before != 0.0 { format!("{:.3}", line.after / line.before) } else { "-".into() };
        let noise = line.noise.map_or("?".into(), |noise| format!("±{:.1} %", noise * 100.0));
        let noise = if line.key == "errors" { String::new() } else { noise };
        let verdict = match line.verdict {
            Verdict::Better => paint.good("better"),
            Verdict::Worse => paint.bad("WORSE"),
            Verdict::Same => paint.dim("same"),
            Verdict::Differs => "differs".into(),
        };
        let unit = figure.map_or("", |figure| figure.unit);
        let show = |value: f64| report::with_unit(value, if unit.starts_with('%') { "%" } else { unit });
        let (before, after) = (show(line.before), show(line.after));
        let _ = writeln!(out, "{title:34} {before:>12} {after:>12} {ratio:>8} {noise:>8}  {verdict}");
    }
    out
}

/// The object in a result's file: its last line that is not empty, or the whole of it.
pub fn parse(text: &str) -> Option<Value> {
    let last = text.lines().rfind(|line| !line.trim().is_empty())?;
    serde_json::from_str(last).or_else(|_| serde_json::from_str(text)).ok().filter(Value::is_object)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(old: &[f64], new: &[f64], better: Better) -> Verdict {
        line("x", old, new, better).unwrap().verdict
    }

    #[test]
    fn runs_that_overlap_are_the_same() {
        let old = [100.0, 104.0, 98.0, 101.0, 103.0];
        let new = [103.0, 107.0, 101.0, 99.0, 105.0];
        assert_eq!(verdict(&old, &new, Better::Higher), Verdict::Same);
    }

    #[test]
    fn a_shift_beyond_the_spread_is_a_change_and_its_direction_counts() {
        let old = [100.0, 101.0, 99.0, 100.5, 99.5];
        let new = [90.0, 91.0, 89.0, 90.5, 89.5];
        assert_eq!(verdict(&old, &new, Better::Higher), Verdict::Worse);
        assert_eq!(verdict(&old, &new, Better::Lower), Verdict::Better);
        assert_eq!(verdict(&new, &old, Better::Higher), Verdict::Better);
        assert_eq!(verdict(&old, &new, Better::Neither), Verdict::Differs);
    }

    #[test]
    fn one_disturbed_run_of_five_neither_makes_nor_hides_a_change() {
        let steady = [100.0, 101.0, 99.0, 100.5, 99.5];
        assert_eq!(verdict(&steady, &[100.2, 99.8, 40.0, 100.7, 99.4], Better::Higher), Verdict::Same);
        assert_eq!(verdict(&steady, &[80.0, 81.0, 79.0, 120.0, 80.5], Better::Higher), Verdict::Worse);
    }

    #[test]
    fn two_runs_that_happen_to_lie_apart_are_not_yet_a_change() {
        assert_eq!(verdict(&[100.0, 110.0], &[111.0, 121.0], Better::Higher), Verdict::Same);
        assert_eq!(verdict(&[100.0, 101.0], &[150.0, 152.0], Better::Higher), Verdict::Better);
    }

    #[test]
    fn less_than_a_percent_is_nothing_however_steady_the_runs() {
        assert_eq!(verdict(&[100.0, 100.0, 100.0], &[100.5, 100.5, 100.5], Better::Lower), Verdict::Same);
        assert_eq!(verdict(&[100.0, 100.0, 100.0], &[103.0, 103.0, 103.0], Better::Lower), Verdict::Worse);
    }

    #[test]
    fn single_runs_must_differ_by_much() {
        assert_eq!(verdict(&[100.0], &[112.0], Better::Higher), Verdict::Same);
        assert_eq!(verdict(&[100.0], &[80.0], Better::Higher), Verdict::Worse);
        assert_eq!(line("x", &[100.0], &[80.0], Better::Higher).unwrap().noise, None);
    }

    fn result(scenario: &str, ratio: [f64; 3], errors: u64) -> Value {
        json!({"scenario": scenario, "errors": errors, "runs": ratio, "size": 1024, "machine": {"kernel": "6.18"},
               "figures": {"group_mean": [9.0, 9.0, 9.0], "ratio": ratio}})
    }

    #[test]
    fn errors_that_were_not_there_are_a_regression() {
        let (old, new) = (result("push", [0.9, 0.9, 0.9], 0), result("push", [0.9, 0.9, 0.9], 1));
        let lines = compare(&old, &new).unwrap();
        assert!(has_regression(&lines));
        assert!(!has_regression(&compare(&old, &old).unwrap()));
        assert_eq!(lines[0].key, "ratio", "what matters most stands first");
    }

    #[test]
    fn a_better_figure_is_no_regression_and_a_worse_one_is() {
        let (old, new) = (result("push", [0.80, 0.81, 0.80], 0), result("push", [0.90, 0.91, 0.90], 0));
        assert!(!has_regression(&compare(&old, &new).unwrap()));
        let back = compare(&new, &old).unwrap();
        assert!(has_regression(&back));
        let text = table(&back, crate::table::Paint::PLAIN);
        assert!(text.contains("WORSE") && text.contains("0.889"), "{text}");
    }

    #[test]
    fn unlike_results_are_refused_and_unlike_conditions_are_told() {
        let (push, storm) = (result("push", [1.0; 3], 0), result("storm", [1.0; 3], 0));
        assert_eq!(compare(&push, &storm).unwrap_err(), Unlike::Scenarios("push".into(), "storm".into()));
        assert_eq!(compare(&json!({"scenario": "push"}), &push).unwrap_err(), Unlike::NoFigures);
        let mut other = push.clone();
        other["size"] = json!(200);
        assert_eq!(warnings(&push, &other), ["size: 1024 before, 200 after"]);
        assert!(warnings(&push, &push).is_empty());
    }

    #[test]
    fn a_result_is_the_last_line_of_a_file() {
        assert_eq!(parse("a table\n\n{\"a\": 1}\n\n").unwrap()["a"], 1);
        assert_eq!(parse("{\n\"a\": 2\n}\n").unwrap()["a"], 2);
        assert_eq!(parse("nothing of the kind"), None);
        assert_eq!(parse("17"), None);
    }
}
