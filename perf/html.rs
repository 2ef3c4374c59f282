//! A report as one HTML file that needs no network: tiles, bars against the goals, plots, and how it was measured. The page's
//! frame and style are in `html/`. Computes no figure.

use crate::figures::{self, Bound, FIGURES, Goal};
use crate::outcome::Series;
use crate::plot::{self, Line};
use crate::report::{self, Report, microseconds, number};
use std::fmt::Write;

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/style.css");

/// The page.
pub fn page(report: &Report) -> String {
    let outcome = &report.runs.outcome;
    let measures = crate::scenarios::SCENARIOS.iter().find(|scenario| scenario.name == outcome.scenario);
    let mut body = String::new();
    tiles(&mut body, report);
    bars(&mut body, report);
    points(&mut body, report);
    latencies(&mut body, report);
    series(&mut body, &outcome.series);
    figures(&mut body, report);
    conditions(&mut body, report);
    let when = format!("{} {} UTC, revision {}", report.date.0, report.date.1, report.revision);
    PAGE.replacen("{{style}}", STYLE, 1)
        .replacen("{{title}}", &escaped(&format!("deferd-perf {}, {}", outcome.scenario, report.date.0)), 1)
        .replacen("{{scenario}}", &escaped(outcome.scenario), 1)
        .replacen("{{measures}}", &escaped(measures.map_or("", |scenario| scenario.measures)), 1)
        .replacen("{{when}}", &escaped(&when), 1)
        .replacen("{{body}}", &body, 1)
}

/// The figures that one looks for first.
fn tiles(out: &mut String, report: &Report) {
    let outcome = &report.runs.outcome;
    let goals = figures::goals(outcome.scenario, outcome.size, outcome.messages);
    let main = figures::main_figure(outcome.scenario);
    let wished = [main, "users_per_s", "messages_per_s", "accept_us.p99", "publish_to_first_send_us.p99"];
    let others = ["records_per_s", "bytes_per_user", "flatness_push", "flatness_ingest", "syscalls_per_message"];
    out.push_str("<div class=\"tiles\">\n");
    let known = wished.iter().chain(&others).filter_map(|key| Some((figures::named(key)?, report.runs.median(key)?)));
    for (figure, value) in known.take(4) {
        let goal = goals.iter().find(|goal| goal.key == figure.key);
        let class = goal.map_or("", |goal| if goal.bound.is_met_by(value) { "good" } else { "bad" });
        let _ = writeln!(
            out,
            "<div class=\"tile\"><b class=\"{class}\">{}</b><span>{}</span></div>",
            with_unit(value, figure.unit),
            escaped(figure.title)
        );
    }
    let class = if outcome.errors == 0 { "good" } else { "bad" };
    let errors = report::grouped(outcome.errors as f64);
    let _ = writeln!(out, "<div class=\"tile\"><b class=\"{class}\">{errors}</b><span>errors</span></div>\n</div>");
}

/// The daemon beside the limit, and every goal with a mark where it lies.
fn bars(out: &mut String, report: &Report) {
    let outcome = &report.runs.outcome;
    let mut rows = String::new();
    for (rate, limit) in [("messages_per_s", "limit_messages_per_s"), ("users_per_s", "limit_users_per_s")] {
        let (Some(rate_value), Some(limit_value)) = (report.runs.median(rate), report.runs.median(limit)) else {
            continue;
        };
        let full = rate_value.max(limit_value).max(f64::MIN_POSITIVE);
        let unit = if rate == "users_per_s" { "users/s" } else { "messages/s" };
        for (name, value, class) in [("the daemon", rate_value, ""), ("the limit", limit_value, " other")] {
            row(&mut rows, name, value / full, None, class, &format!("{} {unit}", report::grouped(value)));
        }
    }
    for goal in figures::goals(outcome.scenario, outcome.size, outcome.messages) {
        let Goal { key, bound } = goal;
        let (Some(value), Some(figure)) = (report.runs.median(key), figures::named(key)) else { continue };
        // A ratio fills what it is of the limit. Others have their goal at two thirds of the way.
        let full = if key == "ratio" || key.starts_with("flatness") { 1.0 } else { bound.value() * 1.5 };
        let is_met = bound.is_met_by(value);
        let (class, said) = if is_met { ("", "good\">met") } else { (" missed", "bad\">missed") };
        let text = format!(
            "{} <span class=\"soft\">goal {} {}</span> <span class=\"{said}</span>",
            with_unit(value, figure.unit),
            escaped(bound.sign()),
            with_unit(bound.value(), figure.unit)
        );
        row(&mut rows, figure.title, value / full, Some(bound_place(bound, full)), class, &text);
    }
    if !rows.is_empty() {
        let _ = writeln!(
            out,
            "<section>\n<h2>Against the limit and the goals</h2>\n<div class=\"bars\">\n{rows}</div>\n</section>"
        );
    }
}

fn bound_place(bound: Bound, full: f64) -> f64 {
    bound.value() / full
}

/// `text` is HTML.
fn row(out: &mut String, name: &str, share: f64, mark: Option<f64>, class: &str, text: &str) {
    let percent = |share: f64| share.clamp(0.0, 1.0) * 100.0;
    let _ = write!(
        out,
        "<div>{}</div><div class=\"track\"><div class=\"fill{class}\" style=\"width:{:.2}%\"></div>",
        escaped(name),
        percent(share)
    );
    if let Some(mark) = mark {
        let _ = write!(out, "<div class=\"mark\" style=\"left:{:.2}%\"></div>", percent(mark));
    }
    let _ = writeln!(out, "</div><div class=\"value\">{text}</div>");
}

/// Rates over how much is stored, as `scale` gives them.
fn points(out: &mut String, report: &Report) {
    let found = report.runs.outcome.keys.iter().find(|(key, _)| *key == "points");
    let Some(rows) = found.and_then(|(_, value)| value.as_array()) else { return };
    let Some(first) = rows.first().and_then(|row| row.as_object()) else { return };
    let lines: Vec<Line> = first
        .keys()
        .filter(|key| key.ends_with("_per_s"))
        .map(|key| Line {
            name: key.trim_end_matches("_per_s").replace('_', " "),
            points: rows.iter().filter_map(|row| Some((row["messages"].as_f64()?, row[key].as_f64()?))).collect(),
        })
        .collect();
    plotted(out, "Rate over what is stored", plot::over_decades(&lines, "stored messages", "messages/s"), &lines);
}

/// The distributions: a plot of all, a row for each.
fn latencies(out: &mut String, report: &Report) {
    let latencies = &report.runs.outcome.latencies;
    if latencies.is_empty() {
        return;
    }
    // Beyond the last sample there is nothing to see.
    let most = latencies.iter().map(|latency| 1.0 - 0.5 / latency.histogram_us.len().max(1) as f64).fold(0.5, f64::max);
    let lines: Vec<Line> = latencies
        .iter()
        .map(|latency| Line {
            name: report::spoken(latency.name),
            points: latency
                .histogram_us
                .iter_quantiles(5)
                .map(|step| (step.quantile_iterated_to().min(most), step.value_iterated_to() as f64))
                .collect(),
        })
        .collect();
    let mut table = String::from("<div class=\"scroll\"><table>\n<tr><th></th><th class=\"n\">count</th>");
    for (name, _) in report::PERCENTILES.iter().chain(&[("max", 100.0)]) {
        let _ = write!(table, "<th class=\"n\">{name}</th>");
    }
    table.push_str("</tr>\n");
    for latency in latencies {
        let histogram = &latency.histogram_us;
        let count = report::grouped(histogram.len() as f64);
        let _ = write!(table, "<tr><td>{}</td><td class=\"n\">{count}</td>", escaped(&report::spoken(latency.name)));
        for value in report::percentiles(histogram).map(|(_, value)| value).chain([histogram.max()]) {
            let _ = write!(table, "<td class=\"n\">{}</td>", microseconds(value as f64));
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</table></div>\n");
    let svg = plot::percentiles(&lines).map(|svg| svg + &table).or(Some(table));
    plotted(out, "Latency by percentile", svg, &lines);
}

/// Values over time, a plot for each unit.
fn series(out: &mut String, series: &[Series]) {
    let mut units: Vec<&'static str> = Vec::new();
    for unit in series.iter().map(|series| series.unit) {
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    for unit in units {
        let of_unit = series.iter().filter(|series| series.unit == unit);
        let lines: Vec<Line> =
            of_unit.map(|series| Line { name: series.name.clone(), points: series.points.clone() }).collect();
        plotted(out, &format!("Over time: {unit}"), plot::over_time(&lines, unit), &lines);
    }
}

fn plotted(out: &mut String, title: &str, svg: Option<String>, lines: &[Line]) {
    let Some(svg) = svg else { return };
    let _ = writeln!(out, "<section>\n<h2>{}</h2>\n<ul class=\"legend\">", escaped(title));
    for (at, line) in lines.iter().enumerate() {
        let colour = at % plot::COLOURS + 1;
        let _ = writeln!(out, "<li><i style=\"background:var(--s{colour})\"></i>{}</li>", escaped(&line.name));
    }
    let _ = writeln!(out, "</ul>\n{svg}</section>");
}

/// Every figure, with a dot for each run.
fn figures(out: &mut String, report: &Report) {
    out.push_str(
        "<section>\n<h2>Figures</h2>\n<div class=\"scroll\"><table>\n<tr><th></th><th class=\"n\">median</th>",
    );
    out.push_str("<th class=\"n\">lowest</th><th class=\"n\">highest</th><th>runs</th></tr>\n");
    let known = FIGURES.iter().map(|figure| (figure.key, figure.title, figure.unit));
    let others = report.runs.figures.iter().filter(|(key, _)| figures::named(key).is_none());
    for (key, title, unit) in known.chain(others.map(|(key, _)| (key.as_str(), key.as_str(), ""))) {
        let values = crate::runs::sorted(report.runs.values(key));
        let (Some(median), Some(low), Some(high)) = (report.runs.median(key), values.first(), values.last()) else {
            continue;
        };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\"><b>{}</b></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escaped(title),
            with_unit(median, unit),
            with_unit(*low, unit),
            with_unit(*high, unit),
            strip(&values)
        );
    }
    out.push_str("</table></div>\n</section>\n");
}

/// A dot for each value on a line from 0 to the highest.
fn strip(values: &[f64]) -> String {
    let high = values.iter().copied().fold(0.0, f64::max);
    if high <= 0.0 {
        return String::new();
    }
    let mut svg = String::from(
        "<svg class=\"strip\" viewBox=\"0 0 130 14\"><line x1=\"4\" y1=\"7\" x2=\"126\" y2=\"7\" stroke=\"var(--line)\"/>",
    );
    for value in values {
        let x = 4.0 + 122.0 * (value / high).clamp(0.0, 1.0);
        let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"7\" r=\"3.2\" fill=\"var(--s1)\" fill-opacity=\".6\"/>");
    }
    svg + "</svg>"
}

fn conditions(out: &mut String, report: &Report) {
    out.push_str("<section>\n<h2>How it was measured</h2>\n<table>\n");
    let outcome = &report.runs.outcome;
    let seconds = ("measured for", format!("{} s", number(outcome.seconds)));
    let machine = [
        seconds,
        ("machine", report.machine.line()),
        ("load before", number(report.machine.load_before)),
        ("kernel", report.machine.kernel.clone()),
        ("daemon", format!("{}, revision {}", report.daemon, report.revision)),
    ];
    for (name, value) in report.conditions().into_iter().chain(machine) {
        let _ = writeln!(out, "<tr><td class=\"soft\">{}</td><td>{}</td></tr>", escaped(name), escaped(&value));
    }
    out.push_str("</table>\n</section>\n");
    if !outcome.notes.is_empty() {
        out.push_str("<section>\n<h2>Notes</h2>\n<ul class=\"notes\">\n");
        for note in &outcome.notes {
            let _ = writeln!(out, "<li>{}</li>", escaped(note));
        }
        out.push_str("</ul>\n</section>\n");
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    escaped(&report::with_unit(value, unit))
}

/// Text that is no markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::tests::report;
    use crate::scenarios::SCENARIOS;

    /// Tags that are closed in the order in which they were opened, attributes in quotes, no `&` but an entity.
    fn assert_well_formed(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
        while let Some(at) = rest.find('<') {
            let (text, tag) = rest.split_at(at);
            let is_style = open.last() == Some(&"style");
            assert!(is_style || !text.contains('>'), "a loose > in {text:?}");
            for (at, _) in text.match_indices('&') {
                let known = ["&amp;", "&lt;", "&gt;", "&quot;"];
                assert!(known.iter().any(|entity| text[at..].starts_with(entity)), "a loose & in {text:?}");
            }
            let end = tag.find('>').unwrap();
            let inner = &tag[1..end];
            assert_eq!(inner.matches('"').count() % 2, 0, "quotes in <{inner}>");
            if let Some(name) = inner.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "<{inner}>");
            } else if !inner.ends_with('/') {
                open.push(inner.split_whitespace().next().unwrap());
            }
            rest = &tag[end + 1..];
        }
        assert!(open.is_empty(), "left open: {open:?}");
    }

    #[test]
    fn the_page_of_every_scenario_is_well_formed_and_complete() {
        for scenario in SCENARIOS {
            let page = page(&report(scenario.name));
            assert_well_formed(&page);
            assert!(!page.contains("{{"), "{}: a place left empty", scenario.name);
            assert!(page.contains(&format!("<h1>{}</h1>", scenario.name)));
            assert!(page.contains("Latency by percentile") && page.contains("Over time"), "its plots are there");
            assert_eq!(page.contains("Rate over what is stored"), scenario.name == "scale");
        }
    }

    #[test]
    fn nothing_is_fetched_from_anywhere() {
        let page = page(&report("push"));
        let without_namespace = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for word in ["http:", "https:", "src=", "@import", "url(", "<script", "<link"] {
            assert!(!without_namespace.contains(word), "{word}");
        }
    }

    #[test]
    fn text_from_outside_is_text() {
        assert_eq!(escaped("a<b & \"c\">"), "a&lt;b &amp; &quot;c&quot;&gt;");
        assert!(page(&report("push")).contains("made up, with a &lt; and an &amp; in it"));
    }

    #[test]
    fn a_missed_goal_is_told() {
        let page = page(&report("push"));
        assert!(page.contains("missed") && page.contains("class=\"mark\" style=\"left:90.00%\""));
    }
}
