//! A report as one JSON object, with the keys that the contract promises. Knows which those are.

use crate::report::{self, Report};
use serde_json::{Map, Value, json};

/// Keys that every object has.
pub const ALWAYS: &[&str] = &["scenario", "cores", "messages", "size", "seconds", "durable", "errors"];

/// Keys that the objects of `scenario` have beyond [`ALWAYS`].
pub fn promised(scenario: &str) -> &'static [&'static str] {
    match scenario {
        "push" => &["messages_per_s", "limit_messages_per_s", "ratio"],
        "storm" => {
            &["users", "users_per_s", "messages_per_s", "limit_users_per_s", "ratio", "publish_to_first_send_us"]
        }
        "ingest" => &["messages_per_s", "limit_messages_per_s", "ratio", "accept_us", "syncs", "group_mean"],
        "recovery" => &["records_per_s", "ready_seconds", "bytes"],
        "memory" => &["bytes_per_message", "bytes_per_user"],
        "scale" => &["points", "flatness"],
        "expiry" => &["expiries_in_a_second", "expiry_lag_ms"],
        "reclaim" => &["p99_ratio", "accept_us"],
        "idle" => &["cpu_percent"],
        _ => &[],
    }
}

/// The object. Keys that a scenario owes and did not give are named in the error: a defect of this program.
pub fn object(report: &Report) -> Result<Value, Vec<&'static str>> {
    let outcome = &report.runs.outcome;
    let mut object = Map::new();
    object.insert("scenario".into(), json!(outcome.scenario));
    object.insert("cores".into(), json!(outcome.cores));
    object.insert("messages".into(), json!(outcome.messages));
    object.insert("size".into(), json!(outcome.size));
    object.insert("seconds".into(), json!(outcome.seconds));
    object.insert("durable".into(), json!(outcome.durable));
    object.insert("errors".into(), json!(outcome.errors));
    for (key, value) in &outcome.keys {
        object.insert((*key).into(), value.clone());
    }
    object.insert("runs".into(), json!(report.runs.values(crate::figures::main_figure(outcome.scenario))));
    let figures = report.runs.figures.iter().map(|(key, values)| (key.clone(), json!(values)));
    object.insert("figures".into(), Value::Object(figures.collect()));
    let latencies = outcome.latencies.iter().map(|latency| (latency.name.to_owned(), distribution(latency)));
    object.insert("latencies_us".into(), Value::Object(latencies.collect()));
    let conditions = report.conditions().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
    object.insert("conditions".into(), Value::Object(conditions.collect()));
    object.insert("machine".into(), report.machine.to_json());
    object.insert("revision".into(), json!(report.revision));
    object.insert("daemon".into(), json!(report.daemon));
    object.insert("date".into(), json!(format!("{}T{}Z", report.date.0, report.date.1)));
    object.insert("notes".into(), json!(outcome.notes));

    let owed = ALWAYS.iter().chain(promised(outcome.scenario));
    let missing: Vec<&'static str> = owed.filter(|key| !object.contains_key(**key)).copied().collect();
    if missing.is_empty() { Ok(Value::Object(object)) } else { Err(missing) }
}

fn distribution(latency: &crate::outcome::Latency) -> Value {
    let histogram = &latency.histogram_us;
    let mut members = Map::new();
    members.insert("count".into(), json!(histogram.len()));
    members.insert("mean".into(), json!(histogram.mean()));
    for (name, value) in report::percentiles(histogram) {
        members.insert(name.into(), json!(value));
    }
    members.insert("max".into(), json!(histogram.max()));
    Value::Object(members)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::cli::tests::request;
    use crate::machine::Machine;
    use crate::outcome::{Latency, Series};
    use crate::runs::{combine, tests::outcome};
    use crate::scenarios::SCENARIOS;
    use hdrhistogram::Histogram;

    /// A report of `scenario` whose figures are made up, with everything in it that a report can have.
    pub(crate) fn report(scenario: &'static str) -> Report {
        let value = |key: &str| match key {
            "accept_us" | "publish_to_first_send_us" => json!({"p50": 310, "p99": 2_900, "p999": 9_000}),
            "points" => json!([{"messages": 10_000, "push_per_s": 5e5}, {"messages": 1_000_000, "push_per_s": 4.9e5}]),
            "ratio" | "flatness" => json!(0.87),
            "expiry_lag_ms" => json!({"p50": 120, "p99": 640, "max": 900}),
            "users" | "syncs" | "bytes" => json!(4_000),
            _ => json!(123_456.7),
        };
        let runs = (1..=3).map(|run| {
            let keys = promised(scenario).iter().map(|key| (*key, value(key))).collect();
            let mut outcome = outcome(scenario, keys);
            let mut histogram_us = Histogram::new(3).unwrap();
            (0..1_000).for_each(|at| histogram_us.record(100 + at * at / 50 + run).unwrap());
            outcome.latencies.push(Latency { name: "accept <&>", histogram_us });
            let points = (0..50).map(|at| (f64::from(at) / 10.0, 5e5 + f64::from(at % 7) * 1e4)).collect();
            outcome.series.push(Series { name: "messages".into(), unit: "messages/s", points });
            outcome.notes.push("made up, with a < and an & in it".into());
            outcome
        });
        Report::new(request(scenario), combine(runs.collect()).unwrap(), Machine::read(std::path::Path::new(".")))
    }

    #[test]
    fn every_key_of_the_contract_is_there_for_every_scenario() {
        for scenario in SCENARIOS {
            assert!(!promised(scenario.name).is_empty(), "{} promises keys", scenario.name);
            let object = object(&report(scenario.name)).unwrap();
            let also = ["runs", "figures", "machine", "revision"];
            for key in ALWAYS.iter().chain(promised(scenario.name)).chain(&also) {
                assert!(object.get(key).is_some(), "{}: {key}", scenario.name);
            }
            assert_eq!(object["scenario"], scenario.name);
        }
    }

    #[test]
    fn a_key_that_a_scenario_owes_is_named() {
        let mut report = report("ingest");
        report.runs.outcome.keys.retain(|(key, _)| *key != "accept_us");
        assert_eq!(object(&report).unwrap_err(), ["accept_us"]);
    }

    #[test]
    fn it_is_one_line_and_the_runs_are_the_main_figure_of_each() {
        let object = object(&report("push")).unwrap();
        assert!(!object.to_string().contains('\n'));
        assert_eq!(object["runs"], json!([0.87, 0.87, 0.87]));
        assert_eq!(object["figures"]["messages_per_s"].as_array().unwrap().len(), 3);
        assert_eq!(object["latencies_us"]["accept <&>"]["count"], 3_000);
    }
}
