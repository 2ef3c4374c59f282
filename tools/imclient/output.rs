//! What a person, or a script, gets to see.
//!
//! What strangers wrote is shown without its control characters: a message must not steer anybody's terminal.

use crate::letter::Received;
use crate::{Failure, Said};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Characters of a text that are shown to a person; `--save` and `--json` have all of it.
const SHOWN_MAX: usize = 4_000;

/// Where it goes, and in which form.
pub(crate) struct Output {
    json: bool,
    save: Option<PathBuf>,
}

impl Output {
    /// As text, or as one JSON object a line.
    pub(crate) fn new(json: bool) -> Output {
        Output { json, save: None }
    }

    /// From now on contents go into files of this directory, too; it is made if it is not there.
    pub(crate) fn save(&mut self, folder: Option<&Path>) -> Said<()> {
        let Some(folder) = folder else { return Ok(()) };
        fs::create_dir_all(folder).map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
        self.save = Some(folder.to_owned());
        Ok(())
    }

    /// One finding: the sentence for a person, the object for a script.
    pub(crate) fn say(&mut self, text: &str, object: &Value) -> Said<()> {
        let line = if self.json { object.to_string() } else { harmless(text) };
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{line}").and_then(|()| out.flush());
        written.map_err(|error| Failure::failed(format!("nobody reads what is said: {error}")))
    }

    /// Why it was not done.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        if self.json {
            // If nobody reads stdout, the exit code says it.
            let _ = self.say("", &json!({"event": "failed", "why": failure.to_string()}));
        }
        eprintln!("im: {}", harmless(&failure.to_string()));
    }

    /// A message that came. It counts as taken when this has succeeded.
    pub(crate) fn message(&mut self, id: &str, host: &str, received: &Received) -> Said<()> {
        let saved = match &self.save {
            Some(folder) => Some(write_down(folder, id, &received.content)?),
            None => None,
        };
        let text = received.text();
        let octets = received.content.len();
        // What came by itself is kept nowhere, and has no id there.
        let id = if host.is_empty() { String::new() } else { format!("{id}@{host}") };
        let object = json!({
            "event": "message",
            "id": id,
            "from": received.from,
            "to": received.to,
            "date": received.date,
            "subject": received.subject,
            "type": received.content_type,
            "octets": octets,
            "text": text.as_deref(),
            "file": saved.as_ref().map(|path| path.display().to_string()),
        });
        let mut shown = format!("From:    {}\nDate:    {}\n", received.from, received.date);
        if !received.subject.is_empty() {
            shown.push_str(&format!("Subject: {}\n", received.subject));
        }
        if !id.is_empty() {
            shown.push_str(&format!("Id:      {id}\n"));
        }
        match (&text, &saved) {
            (_, Some(path)) => {
                shown.push_str(&format!("{octets} octets of {} in {}", received.content_type, path.display()))
            }
            (None, None) => {
                shown.push_str(&format!("{octets} octets of {}; --save DIR keeps them", received.content_type))
            }
            (Some(text), None) => match text.char_indices().nth(SHOWN_MAX) {
                Some((at, _)) => {
                    let begin = text.get(..at).unwrap_or_default();
                    shown.push_str(&format!("\n{begin}\n... {octets} octets; --save DIR keeps all of them"));
                }
                None => shown.push_str(&format!("\n{text}")),
            },
        }
        self.say(&format!("{}\n", shown.trim_end()), &object)
    }
}

/// A file named after the message. Ids are letters and digits; what is not, is a stranger's try to leave the directory.
fn write_down(folder: &Path, id: &str, content: &[u8]) -> Said<PathBuf> {
    let name: String =
        id.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).take(64).collect();
    let path = folder.join(name);
    fs::write(&path, content).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    Ok(path)
}

/// Without control characters but line ends and tabs.
fn harmless(text: &str) -> String {
    text.replace("\r\n", "\n")
        .chars()
        .map(|letter| if letter.is_control() && !matches!(letter, '\n' | '\t') { '\u{fffd}' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_steers_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\nc\td\r"), "a\u{fffd}[2Jb\nc\td\u{fffd}");
    }

    #[test]
    fn files_stay_in_their_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_down(folder.path(), "../../x", b"1").unwrap();
        assert_eq!(path, folder.path().join("______x"));
    }
}
