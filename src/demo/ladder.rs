//! The exchange as a ladder that a person can read: who said what to whom, and when.
//!
//! It knows columns, colours and letters, and no protocol. Colour only on a terminal and not against `NO_COLOR`; box
//! drawing only where the locale is UTF-8; never wider than the terminal.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Widest ladder: beyond this the eye loses the line.
const WIDTH_MAX: usize = 116;
/// Narrowest that still holds a label.
const WIDTH_MIN: usize = 64;
/// Columns before the first lifeline: two blanks, the time, one blank.
const MARGIN: usize = 12;

/// A lifeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// Those who write.
    Senders,
    /// The daemon.
    Deferd,
    /// The one who comes back.
    Bob,
}

/// How an arrow is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    /// A request.
    Ask,
    /// An answer that is as it should be.
    Good,
    /// What should not have come.
    Bad,
}

/// How to draw here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look {
    /// ANSI colours.
    pub(super) colour: bool,
    /// Box drawing and arrows; else ASCII.
    pub(super) unicode: bool,
    /// Columns.
    pub(super) width: usize,
}

impl Look {
    /// As the environment wishes.
    pub(super) fn of_environment() -> Look {
        let terminal = io::stdout().is_terminal();
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let colour = terminal && !set("NO_COLOR") && env::var("TERM").is_ok_and(|term| term != "dumb");
        // The first of the three that is set decides, as in setlocale(3).
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| env::var(name).ok().filter(|v| !v.is_empty()));
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        let unicode = locale.contains("utf-8") || locale.contains("utf8");
        let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = columns.or(if terminal { terminal_width() } else { None }).unwrap_or(100);
        Look { colour, unicode, width: width.clamp(WIDTH_MIN, WIDTH_MAX) }
    }
}

/// What `stty` says; it asks the terminal that is our standard input.
fn terminal_width() -> Option<usize> {
    let said = Command::new("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(said.stdout).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// A ladder that is printed while it grows.
pub(super) struct Ladder {
    look: Look,
    began: Instant,
    out: Box<dyn Write>,
}

impl Ladder {
    /// An empty one; time counts from `began`.
    pub(super) fn new(look: Look, began: Instant, out: Box<dyn Write>) -> Ladder {
        Ladder { look, began, out }
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The names above the lifelines.
    pub(super) fn head(&mut self, senders: &str) {
        let gap = self.gap();
        let mut line = String::new();
        // Centred over its lifeline; the first begins there.
        let columns = [(MARGIN, senders), (MARGIN + gap - 2, "deferd"), (MARGIN + 2 * gap + 1, "bob")];
        for (column, name) in columns {
            let room = column.saturating_sub(line.chars().count());
            line.push_str(&" ".repeat(room));
            line.push_str(name);
        }
        self.print(&self.paint("1", &line));
        self.rest();
    }

    /// A row of lifelines and nothing else.
    pub(super) fn rest(&mut self) {
        let (gap, bar) = (" ".repeat(self.gap()), self.bar());
        self.print(&format!("{}{bar}{gap}{bar}{gap}{bar}", " ".repeat(MARGIN)));
    }

    /// A heading between two stretches of the story.
    pub(super) fn chapter(&mut self, words: &str) {
        let rule = if self.look.unicode { "─" } else { "-" };
        let words = clipped(words, self.look.width.saturating_sub(8), self.look.unicode);
        let rest = self.look.width.saturating_sub(words.chars().count() + 6);
        let line = format!("  {} {words} {}", rule.repeat(2), rule.repeat(rest));
        self.print("");
        self.print(&self.paint("1", &line));
    }

    /// An arrow from one lifeline to its neighbour.
    pub(super) fn arrow(&mut self, from: Who, to: Who, label: &str, tone: Tone) {
        let at = self.elapsed();
        let left_gap = from == Who::Senders || to == Who::Senders;
        let rightward = matches!((from, to), (Who::Senders, Who::Deferd) | (Who::Deferd, Who::Bob));
        let (line, left_head, right_head) = if self.look.unicode { ("─", "◀", "▶") } else { ("-", "<", ">") };
        let gap = self.gap();
        let label = clipped(label, gap.saturating_sub(5), self.look.unicode);
        let room = gap.saturating_sub(label.chars().count() + 3);
        let (before, after) = (line.repeat(room / 2), line.repeat(room - room / 2));
        let colour = match tone {
            Tone::Ask => "36",
            Tone::Good => "32",
            Tone::Bad => "1;31",
        };
        let drawn = match rightward {
            true => format!("{before} {label} {after}{right_head}"),
            false => format!("{left_head}{before} {label} {after}"),
        };
        let (drawn, empty, bar) = (self.paint(colour, &drawn), " ".repeat(gap), self.bar());
        let time = self.paint("2", &format!("{:>9}", spoken(at)));
        self.print(&match left_gap {
            true => format!("  {time} {bar}{drawn}{bar}{empty}{bar}"),
            false => format!("  {time} {bar}{empty}{bar}{drawn}{bar}"),
        });
    }

    /// A line of the summary.
    pub(super) fn fact(&mut self, name: &str, value: &str) {
        let name = self.paint("2", &format!("{name:>22}"));
        self.print(&format!("  {name}  {value}"));
    }

    /// A line as it is, in a colour.
    pub(super) fn say(&mut self, words: &str, tone: Tone) {
        let colour = match tone {
            Tone::Ask => "0",
            Tone::Good => "1;32",
            Tone::Bad => "1;31",
        };
        self.print(&self.paint(colour, words));
    }

    fn gap(&self) -> usize {
        self.look.width.saturating_sub(MARGIN + 4) / 2
    }

    fn bar(&self) -> String {
        self.paint("2", if self.look.unicode { "│" } else { "|" })
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.look.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Nobody may be listening any more (`demo | head`); that is no reason to fail.
    fn print(&mut self, line: &str) {
        let _ = writeln!(self.out, "{}", line.trim_end());
        let _ = self.out.flush();
    }
}

/// At most `room` characters, with a mark where some are missing.
fn clipped(text: &str, room: usize, unicode: bool) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mark = if unicode { "…" } else { "~" };
    text.chars().take(room.saturating_sub(1)).chain(mark.chars()).collect()
}

/// A time as people say it.
pub(super) fn spoken(time: Duration) -> String {
    match time.as_micros() {
        0..1_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        let _ = write!(out, "{digit}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn drawn(look: Look) -> Vec<String> {
        let paper = Paper::default();
        let mut ladder = Ladder::new(look, Instant::now(), Box::new(paper.clone()));
        ladder.head("alice, carol");
        ladder.chapter("a chapter with a very long heading that no narrow terminal could ever hold on one line");
        ladder.arrow(Who::Senders, Who::Deferd, "MESSAGE 1", Tone::Ask);
        ladder.arrow(Who::Deferd, Who::Senders, "202 Accepted", Tone::Good);
        ladder.arrow(Who::Deferd, Who::Bob, &"INVITE ".repeat(20), Tone::Ask);
        ladder.arrow(Who::Bob, Who::Deferd, "200 OK", Tone::Good);
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_row_fits_and_the_lifelines_are_straight() {
        for width in [WIDTH_MIN, 80, 101, WIDTH_MAX] {
            for unicode in [true, false] {
                let rows = drawn(Look { colour: false, unicode, width });
                let bar = if unicode { '│' } else { '|' };
                let bars = |row: &str| -> Vec<usize> {
                    row.chars().enumerate().filter(|(_, letter)| *letter == bar).map(|(at, _)| at).collect()
                };
                let straight = bars(&rows[1]);
                assert_eq!(straight.len(), 3);
                for row in &rows {
                    assert!(row.chars().count() <= width, "{width}: {row}");
                    assert!(unicode || row.is_ascii(), "{row}");
                    if row.contains(bar) {
                        assert_eq!(bars(row), straight, "{row}");
                    }
                }
                assert!(rows[0].contains("deferd") && rows[0].ends_with("bob"));
            }
        }
    }

    #[test]
    fn colour_is_left_out_where_it_is_not_wanted() {
        assert!(drawn(Look { colour: true, unicode: true, width: 80 }).concat().contains('\x1b'));
        assert!(!drawn(Look { colour: false, unicode: true, width: 80 }).concat().contains('\x1b'));
    }

    #[test]
    fn numbers_and_times_are_for_people() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1_000), grouped(12_345_678)],
            ["0", "999", "1,000", "12,345,678"]
        );
        assert_eq!(spoken(Duration::from_micros(1_234)), "1.2 ms");
        assert_eq!(spoken(Duration::from_millis(1_500)), "1.50 s");
    }
}
