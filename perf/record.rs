//! Dated results that stay: a page for people and the JSON for [`crate::compare`], in `perf/record/`. Its README tells the format.

use crate::figures;
use crate::outcome::Failure;
use crate::report::{Report, number, with_unit};
use serde_json::Value;
use std::fmt::Write;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where results are kept, from the root of the checkout.
const FOLDER: &str = "perf/record";

/// A day has room for so many results of one scenario and size.
const MOST_A_DAY: u32 = 999;

/// Writes both files and returns the page's path. Nothing is ever overwritten. `arguments` are those of the command line.
pub fn write(report: &Report, object: &Value, arguments: &[String]) -> Result<PathBuf, Failure> {
    write_below(Path::new(FOLDER), report, object, arguments)
}

fn write_below(folder: &Path, report: &Report, object: &Value, arguments: &[String]) -> Result<PathBuf, Failure> {
    if !folder.is_dir() {
        return Err(Failure(format!("there is no {FOLDER} here; run --record in the root of the checkout")));
    }
    let outcome = &report.runs.outcome;
    let name = format!("{}-{}-{}", report.date.0, outcome.scenario, outcome.size);
    for number in 1..=MOST_A_DAY {
        let stem = if number == 1 { name.clone() } else { format!("{name}-{number}") };
        let (page, json) = (folder.join(format!("{stem}.md")), folder.join(format!("{stem}.json")));
        let mut create = OpenOptions::new();
        create.write(true).create_new(true);
        let fail =
            |path: &Path, error: std::io::Error| Failure(format!("{}: {error}; make room there", path.display()));
        let mut file = match create.open(&json) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            opened => opened.map_err(|error| fail(&json, error))?,
        };
        writeln!(file, "{object}").map_err(|error| fail(&json, error))?;
        let text = markdown(report, arguments);
        let mut file = create.open(&page).map_err(|error| fail(&page, error))?;
        file.write_all(text.as_bytes()).map_err(|error| fail(&page, error))?;
        return Ok(page);
    }
    Err(Failure(format!("{MOST_A_DAY} results of {name} are enough; delete some from {FOLDER}")))
}

/// The arguments without those that name files of this machine or say what becomes of the figures.
fn repeatable(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" | "--record" => {}
            "--html" | "--daemon" | "--data-dir" => _ = arguments.next(),
            other if ["--html=", "--daemon=", "--data-dir="].iter().any(|name| other.starts_with(name)) => {}
            other if other.contains(char::is_whitespace) => kept.push(format!("'{other}'")),
            other => kept.push(other.to_owned()),
        }
    }
    kept
}

/// The page: what was measured on what, the figures with their spread and goals, how to do it again.
fn markdown(report: &Report, arguments: &[String]) -> String {
    let outcome = &report.runs.outcome;
    let mut out = format!("# {} of {} octets, {}\n\n", outcome.scenario, outcome.size, report.date.0);
    let _ = writeln!(out, "Machine: {}, load before {}.", report.machine.line(), number(report.machine.load_before));
    let _ = writeln!(out, "Revision {}, {} UTC. Again:\n", report.revision, report.date.1);
    let _ = writeln!(out, "```sh\ncargo run --release --bin deferd-perf -- {}\n```\n", repeatable(arguments).join(" "));
    let goals = figures::goals(outcome.scenario, outcome.size, outcome.messages);
    let _ = writeln!(out, "| figure | median | lowest | highest | goal | |\n|---|---|---|---|---|---|");
    for (key, values) in &report.runs.figures {
        let unit = figures::named(key).map_or("", |figure| figure.unit);
        let show = |value: f64| with_unit(value, unit);
        let sorted = crate::runs::sorted(values);
        let (Some(median), Some(low), Some(high)) = (report.runs.median(key), sorted.first(), sorted.last()) else {
            continue;
        };
        let goal = goals.iter().find(|goal| goal.key == key);
        let bound = goal.map_or(String::new(), |goal| format!("{} {}", goal.bound.sign(), show(goal.bound.value())));
        let verdict = goal.map_or("", |goal| if goal.bound.is_met_by(median) { "met" } else { "missed" });
        let title = figures::named(key).map_or(key.as_str(), |figure| figure.title);
        let _ =
            writeln!(out, "| {title} | {} | {} | {} | {bound} | {verdict} |", show(median), show(*low), show(*high));
    }
    let _ = writeln!(out, "| errors | {} | | | | |\n", outcome.errors);
    let _ = writeln!(out, "| measured | |\n|---|---|");
    for (name, value) in report.conditions() {
        let _ = writeln!(out, "| {name} | {} |", value.replace('|', "\\|"));
    }
    if !outcome.notes.is_empty() {
        out.push('\n');
    }
    for note in &outcome.notes {
        let _ = writeln!(out, "- {note}");
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::{self, tests::report};
    use std::fs;

    #[test]
    fn a_second_result_of_a_day_stands_beside_the_first() {
        let folder = std::env::temp_dir().join(format!("deferd-perf-record-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let report = report("push");
        let object = json::object(&report).unwrap();
        let arguments = ["push".to_owned(), "--runs".into(), "3".into()];
        let first = write_below(&folder, &report, &object, &arguments).unwrap();
        let second = write_below(&folder, &report, &object, &arguments).unwrap();
        assert_ne!(first, second);
        let (page, json) =
            (fs::read_to_string(&first).unwrap(), fs::read_to_string(second.with_extension("json")).unwrap());
        fs::remove_dir_all(&folder).unwrap();
        assert!(page.contains("deferd-perf -- push --runs 3") && page.contains("| ≥ 0.900 | missed |"), "{page}");
        assert_eq!(crate::compare::parse(&json).unwrap(), object);
    }

    #[test]
    fn a_command_that_can_be_repeated_names_no_file_of_this_machine() {
        let arguments = ["push", "--data-dir", "/mnt/fast", "--html=/tmp/x.html", "--record", "--config", "msrp.x = 1"];
        let kept = repeatable(&arguments.map(str::to_owned));
        assert_eq!(kept.join(" "), "push --config 'msrp.x = 1'");
    }

    #[test]
    fn outside_a_checkout_the_remedy_is_told() {
        let report = report("push");
        let failure = write_below(Path::new("/nowhere"), &report, &Value::Null, &[]).unwrap_err();
        assert!(failure.0.contains("root of the checkout"));
    }
}
