//! Questions to a running daemon: a line of JSON to its control socket, a line back.

use super::{Command, Daemon, print};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Longer than the daemon waits for its own cores.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(daemon: &Daemon, as_json: bool, command: &Command) -> Result<ExitCode, String> {
    if let Command::Why { what } = command
        && !what.contains(['@', ':'])
        && !is_id(what)
    {
        return Err(format!(
            "'{what}' is neither a message's id (26 digits and small letters) nor a user (user@domain, tel:+number)"
        ));
    }
    let path = daemon.socket()?;
    let mut line = Line::open(&path).map_err(|error| unreachable(&path, &error))?;
    let answer = match command {
        Command::Queue { user, limit } => queue(&mut line, user, *limit)?,
        other => line.ask(&request(other))?,
    };
    if as_json {
        println!("{answer}");
    } else {
        print::answer(command, &answer);
    }
    Ok(ExitCode::SUCCESS)
}

fn request(command: &Command) -> Value {
    match command {
        Command::Users { top, octets } => {
            json!({ "do": "users", "top": top, "by": if *octets { "octets" } else { "messages" } })
        }
        Command::Show { id, user, all } => json!({ "do": "show", "id": id, "user": user, "all": all }),
        // An id has neither scheme nor host; a user has at least one of them.
        Command::Why { what } if what.contains(['@', ':']) && !is_id(what) => json!({ "do": "why", "user": what }),
        Command::Why { what } => json!({ "do": "why", "id": what }),
        Command::Push { user } => json!({ "do": "push", "user": user }),
        Command::Delete { id, user, no_report } => {
            json!({ "do": "delete", "id": id, "user": user, "report": !no_report })
        }
        Command::Drain { off } => json!({ "do": "drain", "on": !off }),
        Command::Reload => json!({ "do": "reload" }),
        _ => json!({ "do": "status" }),
    }
}

/// True for an id in the form in which lists show it: `sip:<id>@host`.
fn is_id(what: &str) -> bool {
    let bare = what.strip_prefix("sip:").unwrap_or(what);
    let bare = bare.split('@').next().unwrap_or(bare);
    deferd::store::stamp::MessageId::parse(bare.as_bytes()).is_some()
}

/// A long queue comes in pieces.
fn queue(line: &mut Line, user: &str, limit: Option<u64>) -> Result<Value, String> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut from = json!(0);
    let mut entries = Vec::new();
    loop {
        let mut answer = line.ask(&json!({ "do": "queue", "user": user, "from": from, "limit": left.min(128) }))?;
        if let Some(Value::Array(more)) = answer.get_mut("entries").map(Value::take) {
            left = left.saturating_sub(more.len() as u64);
            entries.extend(more);
        }
        from = answer.get("next").cloned().unwrap_or(Value::Null);
        if from.is_null() || left == 0 {
            if let Value::Object(members) = &mut answer {
                members.insert("entries".into(), Value::Array(entries));
                members.remove("next");
            }
            return Ok(answer);
        }
    }
}

/// A connection to the daemon. What it holds for us it holds as long as this is there.
pub(super) struct Line {
    reader: BufReader<UnixStream>,
}

impl Line {
    pub(super) fn open(path: &Path) -> io::Result<Line> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Line { reader: BufReader::new(stream) })
    }

    /// The answer to a request.
    pub(super) fn ask(&mut self, request: &Value) -> Result<Value, String> {
        let gone = |error: io::Error| format!("the daemon gave no answer: {error}; see its log");
        self.reader.get_mut().write_all(format!("{request}\n").as_bytes()).map_err(gone)?;
        let mut line = String::new();
        self.reader.read_line(&mut line).map_err(gone)?;
        let answer: Value =
            serde_json::from_str(&line).map_err(|_| "the daemon closed the connection without an answer".to_owned())?;
        match answer.get("ok").and_then(Value::as_bool) {
            Some(true) => Ok(answer),
            _ => Err(answer.get("error").and_then(Value::as_str).unwrap_or("refused, without a reason").to_owned()),
        }
    }
}

pub(super) fn unreachable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("no control socket at {path}: name it with --config, --socket or --data-dir")
        }
        io::ErrorKind::ConnectionRefused => format!("nobody listens at {path}: the daemon does not run"),
        io::ErrorKind::PermissionDenied => format!("may not use {path}: be the daemon's user, or root"),
        _ => format!("cannot reach {path}: {error}"),
    }
}
