//! Several runs of a scenario made into one: medians, and what each run found. Knows no figure by its meaning but the main one.

use crate::figures;
use crate::outcome::{Latency, Outcome};
use serde_json::{Map, Value};

/// All runs together.
#[derive(Clone, Debug)]
pub struct Combined {
    /// Medians of the figures, errors and latencies of all runs together; what has no median is from the run whose main figure
    /// is the middle one.
    pub outcome: Outcome,
    /// Every numeric figure: its name (members of objects with a dot), and its value in each run, in the order of the runs.
    pub figures: Vec<(String, Vec<f64>)>,
}

impl Combined {
    /// The values of the figure `key`, one a run.
    pub fn values(&self, key: &str) -> &[f64] {
        self.figures.iter().find(|(name, _)| name == key).map_or(&[], |(_, values)| values)
    }

    /// The median of the figure `key`.
    pub fn median(&self, key: &str) -> Option<f64> {
        median(self.values(key))
    }
}

/// Makes one outcome of many. None without runs.
pub fn combine(runs: Vec<Outcome>) -> Option<Combined> {
    let figures = figures_of(&runs);
    let main = figures::main_figure(runs.first()?.scenario);
    let of_main = figures.iter().find(|(key, _)| key == main).map_or(&[][..], |(_, values)| values);
    let middle = index_of_median(of_main).unwrap_or(0).min(runs.len() - 1);
    let seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    let (errors, durable) = (runs.iter().map(|run| run.errors).sum(), runs.iter().all(|run| run.durable));
    let latencies = latencies_of(&runs);
    let mut notes: Vec<String> = Vec::new();
    for note in runs.iter().flat_map(|run| &run.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    let mut outcome = runs.into_iter().nth(middle)?;
    outcome.seconds = median(&seconds)?;
    outcome.errors = errors;
    outcome.durable = durable;
    outcome.latencies = latencies;
    outcome.notes = notes;
    for (key, value) in &mut outcome.keys {
        *value = with_medians(key, value, &figures);
    }
    Some(Combined { outcome, figures })
}

/// `value` with every number in it replaced by the median of the figure that it is.
fn with_medians(name: &str, value: &Value, figures: &[(String, Vec<f64>)]) -> Value {
    let of = |name: &str| figures.iter().find(|(key, _)| key == name).and_then(|(_, values)| median(values));
    match value {
        Value::Number(number) => match of(name) {
            // A count stays one.
            Some(median) if number.is_u64() => Value::from(median.round() as u64),
            Some(median) => Value::from(median),
            None => value.clone(),
        },
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(member, inner)| (member.clone(), with_medians(&format!("{name}.{member}"), inner, figures)));
            Value::Object(members.collect::<Map<String, Value>>())
        }
        _ => value.clone(),
    }
}

/// Every number among the keys that all runs have.
fn figures_of(runs: &[Outcome]) -> Vec<(String, Vec<f64>)> {
    let mut found: Vec<(String, Vec<f64>)> = Vec::new();
    for run in runs {
        for (key, value) in &run.keys {
            visit(key, value, &mut |name, number| match found.iter_mut().find(|(key, _)| key == name) {
                Some((_, values)) => values.push(number),
                None => found.push((name.to_owned(), vec![number])),
            });
        }
    }
    found.retain(|(_, values)| values.len() == runs.len());
    found
}

fn visit(name: &str, value: &Value, see: &mut impl FnMut(&str, f64)) {
    match value {
        Value::Number(number) => number.as_f64().into_iter().for_each(|number| see(name, number)),
        Value::Object(members) => {
            members.iter().for_each(|(member, inner)| visit(&format!("{name}.{member}"), inner, see));
        }
        _ => {}
    }
}

/// The distributions of all runs together, by name.
fn latencies_of(runs: &[Outcome]) -> Vec<Latency> {
    let mut found: Vec<Latency> = Vec::new();
    for latency in runs.iter().flat_map(|run| &run.latencies) {
        match found.iter_mut().find(|known| known.name == latency.name) {
            // One of other bounds that does not fit stays out, rather than shifted.
            Some(known) => known.histogram_us.add(&latency.histogram_us).unwrap_or_default(),
            None => found.push(latency.clone()),
        }
    }
    found
}

/// The middle value; between the two middle ones when they are even in number. None without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted.get(middle - 1)? + upper) / 2.0 })
}

/// The values in ascending order.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Which value is the median, the lower of the two middle ones when they are even in number.
fn index_of_median(values: &[f64]) -> Option<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use serde_json::json;

    /// An outcome with `keys`, and nothing else of note.
    pub(crate) fn outcome(scenario: &'static str, keys: Vec<(&'static str, Value)>) -> Outcome {
        Outcome {
            scenario,
            cores: 1,
            messages: 1000,
            size: 1024,
            seconds: 1.0,
            durable: true,
            errors: 0,
            keys,
            series: Vec::new(),
            latencies: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[1.0, 100.0, 3.0, 4.0]), Some(3.5));
    }

    #[test]
    fn each_figure_has_its_own_median_and_counts_stay_counts() {
        let run = |ratio: f64, syncs: u64, p99: u64| {
            outcome(
                "ingest",
                vec![("ratio", json!(ratio)), ("syncs", json!(syncs)), ("accept_us", json!({"p99": p99}))],
            )
        };
        let all = combine(vec![run(0.8, 10, 700), run(0.9, 13, 100), run(0.7, 12, 300)]).unwrap();
        assert_eq!(all.outcome.keys[0].1, json!(0.8));
        assert_eq!(all.outcome.keys[1].1, json!(12));
        assert_eq!(all.outcome.keys[2].1, json!({"p99": 300}));
        assert_eq!(all.values("accept_us.p99"), [700.0, 100.0, 300.0]);
        assert_eq!(all.median("ratio"), Some(0.8));
    }

    #[test]
    fn errors_are_those_of_all_runs_and_one_lazy_run_makes_all_lazy() {
        let mut runs = vec![outcome("push", vec![]), outcome("push", vec![]), outcome("push", vec![])];
        runs[0].errors = 2;
        runs[2].errors = 3;
        runs[1].durable = false;
        let all = combine(runs).unwrap();
        assert_eq!(all.outcome.errors, 5);
        assert!(!all.outcome.durable);
    }

    #[test]
    fn what_has_no_median_is_from_the_middle_run() {
        let run = |ratio: f64, which: &str| outcome("push", vec![("ratio", json!(ratio)), ("binary", json!(which))]);
        let all = combine(vec![run(0.9, "best"), run(0.5, "worst"), run(0.7, "middle")]).unwrap();
        assert_eq!(all.outcome.keys[1].1, json!("middle"));
    }

    #[test]
    fn a_figure_that_one_run_lacks_is_no_figure() {
        let all = combine(vec![
            outcome("push", vec![("ratio", json!(0.9)), ("syscalls_per_message", json!(0.01))]),
            outcome("push", vec![("ratio", json!(0.8))]),
        ])
        .unwrap();
        assert_eq!(all.figures.len(), 1);
    }

    #[test]
    fn latencies_of_all_runs_are_one_distribution() {
        let run = |value: u64| {
            let mut run = outcome("ingest", vec![]);
            let mut histogram_us = Histogram::new(3).unwrap();
            histogram_us.record(value).unwrap();
            run.latencies.push(Latency { name: "accept", histogram_us });
            run
        };
        let all = combine(vec![run(100), run(900)]).unwrap();
        assert_eq!(all.outcome.latencies.len(), 1);
        assert_eq!(all.outcome.latencies[0].histogram_us.len(), 2);
        assert_eq!(all.outcome.latencies[0].histogram_us.max(), 900);
    }
}
