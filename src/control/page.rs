//! The status page: every number of every core on one page that needs nothing else, no script, no other file.
//!
//! Knows HTML and [`MEASURES`]; whoever adds a number there finds it here. Light or dark as the reader's system is.

use super::health::{Health, Phase};
use super::metrics::{MEASURES, Measure, Topic};
use crate::base::clock::Tick;
use crate::engine::meter::Reading;
use std::fmt::{self, Write};
use std::time::Duration;

/// How often a browser asks again.
const REFRESH_S: u64 = 5;

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1c2330;--soft:#667085;--rule:#e3e7ee;--good:#1a7f4b;--bad:#c0362c;--on:#fff}\
@media(prefers-color-scheme:dark){:root{--page:#12161d;--card:#1a202a;--ink:#e6eaf1;--soft:#95a0b3;--rule:#2b3340;--good:#48c78e;--bad:#ff7a6e;--on:#12161d}}\
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:70rem;margin:0 auto;padding:2rem 1rem 3rem}header{display:flex;flex-wrap:wrap;gap:.3rem 1rem;align-items:baseline}\
h1{font-size:1.5rem;margin:0}h2{font-size:1rem;margin:2rem 0 .5rem}.soft{color:var(--soft)}\
.mark{border-radius:1rem;padding:.05rem .7rem;background:var(--good);color:var(--on);font-weight:600}.mark.bad{background:var(--bad)}\
.notes{border-left:4px solid var(--bad);background:var(--card);padding:.6rem 1rem;margin:1.2rem 0 0;list-style:none}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;margin-top:1.2rem}\
.tile{background:var(--card);border:1px solid var(--rule);border-radius:.5rem;padding:.7rem 1rem}.tile b{display:block;font-size:1.6rem;font-weight:600;font-variant-numeric:tabular-nums}\
.wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:.5rem}table{border-collapse:collapse;width:100%}\
th,td{padding:.25rem 1rem;text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}th{font-weight:500;color:var(--soft)}\
th:first-child{text-align:left}tbody tr{border-top:1px solid var(--rule)}td.sum{font-weight:600}td.zero{color:var(--soft)}td.bad{color:var(--bad);font-weight:700}\
a{color:inherit}footer{margin-top:2rem}";

/// The page as it is at `now`. `hostname` is the operator's own text.
///
/// # Errors
/// None that could happen: a String takes everything.
pub fn render(health: &Health, hostname: &str, now: Tick) -> Result<String, fmt::Error> {
    let readings = health.readings();
    let mut sum = Reading::default();
    readings.iter().for_each(|reading| sum.add(reading));
    let host = escaped(hostname);

    let mut page = String::with_capacity(16 * 1024);
    write!(
        page,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_S}\"><link rel=\"icon\" href=\"data:,\">\
         <title>deferd {host}</title><style>{STYLE}</style></head><body><main>"
    )?;
    let notes = notes(health, &readings, now);
    let mark = match health.phase() {
        Phase::Ready if notes.is_empty() => "<span class=\"mark\">ready</span>".to_owned(),
        Phase::Ready => "<span class=\"mark bad\">needs attention</span>".to_owned(),
        phase => format!("<span class=\"mark bad\">{}</span>", phase.word()),
    };
    write!(
        page,
        "<header><h1>deferd</h1>{mark}<span>{host}</span>\
         <span class=\"soft\">version {} &middot; {} &middot; up {}</span></header>",
        env!("CARGO_PKG_VERSION"),
        counted(readings.len() as u64, "core"),
        span_of_time(now - Tick(0)),
    )?;
    if !notes.is_empty() {
        page.push_str("<ul class=\"notes\">");
        notes.iter().try_for_each(|note| write!(page, "<li>{note}</li>"))?;
        page.push_str("</ul>");
    }
    page.push_str("<div class=\"tiles\">");
    for (value, label) in [
        (sum.users_waiting, "users with messages"),
        (sum.messages_accepted, "messages accepted"),
        (sum.messages_delivered, "messages delivered"),
        (sum.pushes_running, "pushes under way"),
    ] {
        write!(page, "<div class=\"tile\"><b>{}</b><span class=\"soft\">{label}</span></div>", grouped(value))?;
    }
    page.push_str("</div>");
    for topic in Topic::ALL {
        table(&mut page, topic, &readings, &sum)?;
    }
    page.push_str(
        "<footer class=\"soft\">Since the start of the daemon, as of this moment. The same numbers for machines: \
         <a href=\"/metrics\">/metrics</a>. Probes: <a href=\"/healthz\">/healthz</a>, <a href=\"/readyz\">/readyz</a>.\
         </footer></main></body></html>\n",
    );
    Ok(page)
}

/// What wants a person, in a sentence each: hanging cores first.
fn notes(health: &Health, readings: &[Reading], now: Tick) -> Vec<String> {
    let hangs = health
        .silent(now)
        .into_iter()
        .map(|silent| format!("<b>Core {} hangs</b> for {}.", silent.core.0, span_of_time(silent.since)));
    let alarms = MEASURES.iter().filter(|measure| measure.kind.is_alarm()).flat_map(|measure| {
        let loud = readings.iter().enumerate().filter(|(_, reading)| (measure.of)(reading) > 0);
        loud.map(|(core, _)| format!("<b>Core {core}: {}.</b> {}", measure.label, escaped(measure.help)))
    });
    hangs.chain(alarms).collect()
}

fn table(page: &mut String, topic: Topic, readings: &[Reading], sum: &Reading) -> fmt::Result {
    write!(page, "<h2>{0}</h2><div class=\"wide\"><table><thead><tr><th scope=\"col\">{0}</th>", topic.word())?;
    page.push_str("<th scope=\"col\">all</th>");
    (0..readings.len()).try_for_each(|core| write!(page, "<th scope=\"col\">core {core}</th>"))?;
    page.push_str("</tr></thead><tbody>");
    for measure in MEASURES.iter().filter(|measure| measure.topic == topic) {
        write!(page, "<tr><th scope=\"row\" title=\"{}\">{}</th>", escaped(measure.help), measure.label)?;
        cell(page, measure, sum, "sum")?;
        readings.iter().try_for_each(|reading| cell(page, measure, reading, ""))?;
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
    Ok(())
}

fn cell(page: &mut String, measure: &Measure, reading: &Reading, class: &str) -> fmt::Result {
    let value = (measure.of)(reading);
    let tone = match value {
        0 => "zero",
        _ if measure.kind.is_alarm() => "bad",
        _ => "",
    };
    write!(page, "<td class=\"{class} {tone}\">{}</td>", grouped(value))
}

/// Digits in threes, as people read them.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Two units at most: `3 d 4 h`, `12 min 5 s`, `7 s`.
fn span_of_time(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// Text that is safe between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::meter::{Meter, Publisher};

    #[test]
    fn the_page_shows_every_number_and_needs_nothing_else() {
        let meters = vec![Meter::new(), Meter::new()];
        let reading = Reading { messages_accepted: 1_234_567, users_waiting: 8, ..Reading::default() };
        Publisher::new(meters[1].clone()).publish(Tick(1), &reading);
        let health = Health::new(meters);
        health.ready(Tick(0));
        let page = render(&health, "im.example.org", Tick(90_000_000)).unwrap();
        for measure in MEASURES {
            assert!(page.contains(&format!(">{}</th>", measure.label)), "{}", measure.label);
        }
        assert!(page.contains("1,234,567") && page.contains("<th scope=\"col\">core 1</th>"));
        assert!(page.contains("2 cores") && page.contains("up 1 min 30 s") && page.contains("im.example.org"));
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("http://"));
        for tag in ["main", "table", "ul", "tr", "td", "th", "div", "span", "header"] {
            let (open, close) = (page.matches(&format!("<{tag}>")).count(), page.matches(&format!("</{tag}>")).count());
            assert_eq!(open + page.matches(&format!("<{tag} ")).count(), close, "{tag}");
        }
    }

    #[test]
    fn what_wants_a_person_stands_at_the_top() {
        let meters = vec![Meter::new()];
        let mut core = Publisher::new(meters[0].clone());
        core.publish(Tick(1), &Reading::default());
        let health = Health::new(meters);
        health.ready(Tick(1));
        let page = |now| render(&health, "h", now).unwrap();
        assert!(page(Tick(2)).contains("<span class=\"mark\">ready</span>"));
        assert!(page(Tick(9_000_001)).contains("<b>Core 0 hangs</b> for 9 s."));
        core.publish(Tick(9_000_001), &Reading { log_poisoned: 1, ..Reading::default() });
        let loud = page(Tick(9_000_002));
        assert!(loud.contains("needs attention") && loud.contains("<b>Core 0: log failed.</b>"), "{loud}");
        health.stopping();
        assert!(page(Tick(9_000_003)).contains("<span class=\"mark bad\">stopping</span>"));
    }

    #[test]
    fn numbers_times_and_text_are_written_for_people() {
        let numbers = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        numbers.iter().for_each(|(value, text)| assert_eq!(grouped(*value), *text));
        let times = [(7, "7 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")];
        times.iter().for_each(|(s, text)| assert_eq!(span_of_time(Duration::from_secs(*s)), *text));
        assert_eq!(escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
