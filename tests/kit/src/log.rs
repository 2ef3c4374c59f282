//! What happened, in order: every octet string that an agent sent or received, with its time. Rendered as a ladder when a
//! test fails.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A shared record of a test's traffic; clones write into the same record.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    start: Instant,
    entries: Mutex<Vec<Entry>>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Since the record was begun.
    pub at: Duration,
    /// Who sent it, or whom the note is about.
    pub from: String,
    /// Who received it; empty for a note.
    pub to: String,
    /// All octets.
    pub octets: Vec<u8>,
}

impl Entry {
    /// The first line, which says what it is.
    fn title(&self) -> String {
        let line = self.octets.split(|octet| *octet == b'\n').find(|line| line.len() > 1 || self.octets.len() < 3);
        let mut title = String::from_utf8_lossy(line.unwrap_or_default()).trim().to_string();
        if title.starts_with("MSRP ")
            && title.ends_with("SEND")
            && let Some(range) = self.header("Byte-Range:")
        {
            write!(title, " {range}").ok();
        }
        title
    }

    fn header(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(self.octets.get(..512).unwrap_or(&self.octets)).into_owned();
        text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_string())
    }
}

impl Default for Log {
    fn default() -> Log {
        Log::new()
    }
}

impl Log {
    /// An empty record; its clock starts now.
    pub fn new() -> Log {
        Log(Arc::new(Inner { start: Instant::now(), entries: Mutex::new(Vec::new()) }))
    }

    fn entries_mut(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A remark about `who`.
    pub fn note(&self, who: &str, text: impl AsRef<str>) {
        self.moved(who, "", text.as_ref().as_bytes());
    }

    /// `octets` went from `from` to `to`.
    pub fn moved(&self, from: &str, to: &str, octets: &[u8]) {
        let entry = Entry { at: self.0.start.elapsed(), from: from.into(), to: to.into(), octets: octets.to_vec() };
        self.entries_mut().push(entry);
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries_mut().clone()
    }

    /// The exchange as a ladder: one column a party, one row a message.
    pub fn ladder(&self) -> String {
        const COLUMN: usize = 44;
        const LAST: usize = 200;
        let entries = self.entries();
        let mut parties: Vec<&str> = Vec::new();
        for name in entries.iter().flat_map(|entry| [entry.from.as_str(), entry.to.as_str()]) {
            if !name.is_empty() && !parties.contains(&name) {
                parties.push(name);
            }
        }
        let place = |name: &str| parties.iter().position(|party| *party == name).unwrap_or(0);
        let mut out = String::from("          ");
        for party in &parties {
            write!(out, "{party:<COLUMN$}").ok();
        }
        out.push('\n');
        let skipped = entries.len().saturating_sub(LAST);
        if skipped > 0 {
            writeln!(out, "          ... {skipped} earlier rows").ok();
        }
        for entry in &entries[skipped..] {
            write!(out, "{:>8.3}  ", entry.at.as_secs_f64()).ok();
            let title = entry.title();
            let (from, to) = (place(&entry.from), place(&entry.to));
            if entry.to.is_empty() || from == to {
                writeln!(out, "{:width$}* {}: {title}", "", entry.from, width = from * COLUMN).ok();
                continue;
            }
            let (left, right) = (from.min(to), from.max(to));
            let room = (right - left) * COLUMN - 3;
            let short: String = title.chars().take(room.saturating_sub(2)).collect();
            let fill = "-".repeat(room.saturating_sub(short.chars().count()));
            let arrow = if from < to { format!("|{short}{fill}>|") } else { format!("|<{fill}{short}|") };
            let before: String = (0..left).map(|_| format!("{:<COLUMN$}", "|")).collect();
            writeln!(out, "{before}{arrow}").ok();
        }
        out
    }

    /// Ends the test: `what` was wrong, the ladder, and the last three messages whole.
    #[track_caller]
    pub fn fail(&self, what: impl AsRef<str>) -> ! {
        let mut tail = String::new();
        let entries = self.entries();
        let moved: Vec<&Entry> = entries.iter().filter(|entry| !entry.to.is_empty()).collect();
        for entry in &moved[moved.len().saturating_sub(3)..] {
            let text = String::from_utf8_lossy(entry.octets.get(..4096).unwrap_or(&entry.octets)).into_owned();
            writeln!(tail, "--- {} -> {} ({} octets)\n{text}", entry.from, entry.to, entry.octets.len()).ok();
        }
        panic!("{}\n\n{}\n{tail}", what.as_ref(), self.ladder());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_shows_each_message_between_its_parties() {
        let log = Log::new();
        log.moved("alice", "deferd", b"MESSAGE sip:bob@example.org SIP/2.0\r\n\r\n");
        log.moved("deferd", "alice", b"SIP/2.0 202 Accepted\r\n\r\n");
        log.note("deferd", "killed");
        let ladder = log.ladder();
        assert!(ladder.contains("|MESSAGE sip:bob@example.org SIP/"), "{ladder}");
        assert!(ladder.contains("SIP/2.0 202 Accepted|"), "{ladder}");
        assert!(ladder.contains("* deferd: killed"), "{ladder}");
    }
}
