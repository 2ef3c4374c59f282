//! The logs on the disk, read with the daemon's own reader: what a start would find is what is shown.

use super::explain::explain;
use super::logs::{Logs, at, id_of, place_of, text, time, user_of};
use super::print::size;
use super::{Daemon, LogCommand};
use deferd::store::inspect::{Ending, Entry, Item, Reason};
use deferd::store::record::{Flags, Kind, Locator, Place};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

pub(super) fn log(daemon: &Daemon, as_json: bool, command: &LogCommand) -> Result<ExitCode, String> {
    let logs = Logs::look(daemon)?;
    let whole = match command {
        LogCommand::List { log, user } => list(&logs, as_json, *log, user.as_deref())?,
        LogCommand::Show { what } => return show(&logs, as_json, what),
        LogCommand::Explain { id } => return explain(&logs, as_json, id),
        LogCommand::Export { to, user } => export(&logs, as_json, to, user.as_deref())?,
    };
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a record is, in a few words.
fn about(entry: &Entry<'_>) -> String {
    match entry.kind {
        Kind::Message => {
            let mut words = format!("message {}", entry.id().map_or_else(String::new, |id| id.to_string()));
            let flags = [
                (Flags::LARGE, "large"),
                (Flags::RETAINED, "retained"),
                (Flags::MISSED, "expired"),
                (Flags::REPORT, "report"),
            ];
            for (flag, name) in flags {
                if entry.flags.has(flag) {
                    let _ = write!(words, ", {name}");
                }
            }
            if entry.origin != entry.place {
                let _ = write!(words, ", copied from {}", at(entry.origin));
            }
            words
        }
        Kind::Part => "part".into(),
        Kind::Tombstones => format!("tombstones for {}{}", entry.places().count(), reasons(entry)),
        Kind::Retained => format!("marks {} to stay{}", entry.places().count(), reasons(entry)),
        Kind::State => {
            let kind = entry.state().map_or_else(|| "state".into(), |kind| format!("{kind:?}").to_lowercase());
            if entry.body.is_empty() { format!("{kind}, ended") } else { kind }
        }
        Kind::Checkpoint => "checkpoint".into(),
    }
}

/// Why, and how many of each: ": delivered 3, expired 1".
fn reasons(entry: &Entry<'_>) -> String {
    let mut counts: BTreeMap<Reason, u64> = BTreeMap::new();
    entry.endings().for_each(|ending| *counts.entry(ending.reason).or_default() += 1);
    counts.remove(&Reason::Unknown);
    let words: Vec<String> = counts.iter().map(|(reason, count)| format!("{} {count}", reason.word())).collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

fn ending(ending: Ending) -> Value {
    json!({
        "place": at(ending.place), "because": ending.reason.word(),
        "at": (ending.at_s > 0).then(|| time(u64::from(ending.at_s))),
    })
}

fn record(entry: &Entry<'_>) -> Value {
    json!({
        "log": entry.log.0, "place": at(entry.place), "group": entry.group,
        "kind": format!("{:?}", entry.kind).to_lowercase(),
        "id": entry.id().map(|id| id.to_string()),
        "user": text(entry.owner), "octets": entry.octets,
        "accepted": (entry.stamp.0 > 0).then(|| time(entry.stamp.seconds())),
        "expires": (entry.kind == Kind::Message).then(|| time(u64::from(entry.expiry_s))),
        "origin": (entry.origin != entry.place).then(|| at(entry.origin)),
        "names": entry.endings().map(ending).collect::<Vec<_>>(),
        "about": about(entry),
    })
}

fn list(logs: &Logs, as_json: bool, only: Option<u16>, user: Option<&str>) -> Result<bool, String> {
    let user = user_of(user)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    // A reader that has seen enough (head) closes the pipe: then there is nobody to write to.
    let mut write = |line: String| drop(writeln!(out, "{line}"));
    let whole = logs.walk(only, |item| match item {
        Item::Segment { log, segment, octets, headed, .. } if user.is_none() && !as_json => {
            let broken = if headed { "" } else { ", its header is broken" };
            write(format!("log {} segment {}, {}{broken}", log.0, segment.0, size(octets)));
        }
        Item::Record(entry) if user.as_ref().is_none_or(|user| entry.owner == user.as_bytes()) => {
            if as_json {
                write(record(&entry).to_string());
            } else {
                let when = if entry.stamp.0 > 0 { time(entry.stamp.seconds()) } else { "-".into() };
                let place = at(entry.place);
                write(format!(
                    "{place:>18}  {when:<20}  {:>9}  {:<44}  {}",
                    entry.octets,
                    about(&entry),
                    text(entry.owner)
                ));
            }
        }
        Item::Broken { log, place, damage } if !as_json => {
            write(format!("{:>18}  log {}: not readable: {damage:?}", at(place), log.0));
        }
        Item::Gap { place, inside: true, .. } if !as_json => {
            write(format!("{:>18}  a group is missing here", at(place)))
        }
        _ => {}
    })?;
    Ok(whole)
}

fn show(logs: &Logs, as_json: bool, what: &str) -> Result<ExitCode, String> {
    let (place, id) = (place_of(what), id_of(what));
    if place.is_none() && id.is_none() {
        return Err(format!("'{what}' is neither a message's id nor SEGMENT:OFFSET"));
    }
    let mut shown = false;
    logs.walk(None, |item| {
        let Item::Record(entry) = item else { return };
        if place.is_none_or(|place| place != entry.place) && (id.is_none() || entry.id() != id) {
            return;
        }
        shown = true;
        if as_json {
            let mut value = record(&entry);
            if let Value::Object(members) = &mut value {
                members.insert("label".into(), text(entry.label).into());
                members.insert("body".into(), text(entry.body).into());
            }
            println!("{value}");
            return;
        }
        println!("place     {}, log {}, group {}", at(entry.place), entry.log.0, entry.group);
        println!("what      {}", about(&entry));
        println!("user      {}", text(entry.owner));
        println!("octets    {}", entry.octets);
        if entry.stamp.0 > 0 {
            println!("accepted  {}", time(entry.stamp.seconds()));
        }
        for ending in entry.endings() {
            let when = if ending.at_s > 0 { time(u64::from(ending.at_s)) } else { "-".into() };
            println!("names     {}, {} {when}", at(ending.place), ending.reason.word());
        }
        for part in entry.parts() {
            println!("part      {}, {} octets", at(part.place()), Locator::octets(&part));
        }
        println!("label     {}\n\n{}\n", text(entry.label), text(entry.body));
    })?;
    if shown { Ok(ExitCode::SUCCESS) } else { Err(format!("no record of '{what}' in these logs")) }
}

fn export(logs: &Logs, as_json: bool, to: &Path, user: Option<&str>) -> Result<bool, String> {
    let user = user_of(user)?;
    let wanted = |entry: &Entry<'_>| user.as_ref().is_none_or(|user| entry.owner == user.as_bytes());
    let mut dead: HashSet<Place> = HashSet::new();
    let mut copied: HashSet<Place> = HashSet::new();
    logs.walk(None, |item| {
        let Item::Record(entry) = item else { return };
        if entry.kind == Kind::Tombstones {
            dead.extend(entry.places());
        } else if entry.kind == Kind::Message && entry.origin != entry.place {
            copied.insert(entry.origin);
        }
    })?;
    std::fs::create_dir(to)
        .map_err(|error| format!("cannot make {}: {error}; name a directory that is not there yet", to.display()))?;
    let mut count = 0u64;
    let mut failed = None;
    let whole = logs.walk(None, |item| {
        let Item::Record(entry) = item else { return };
        let Some(id) = entry.id().filter(|_| wanted(&entry) && failed.is_none()) else { return };
        if dead.contains(&entry.place) || dead.contains(&entry.origin) || copied.contains(&entry.place) {
            return;
        }
        let mut octets = format!(
            "To: {}\r\nMessage-ID: {id}\r\nDate: {}\r\nContent-Type: {}\r\n\r\n",
            text(entry.owner),
            time(entry.stamp.seconds()),
            text(entry.label)
        )
        .into_bytes();
        octets.extend_from_slice(entry.body);
        match std::fs::write(to.join(format!("{id}.eml")), octets) {
            Ok(()) => count += 1,
            Err(error) => failed = Some(error),
        }
    })?;
    if let Some(error) = failed {
        return Err(format!("cannot write into {}: {error}", to.display()));
    }
    if as_json {
        println!("{}", json!({ "exported": count }));
    } else {
        println!("{count} messages written to {}", to.display());
    }
    Ok(whole)
}
