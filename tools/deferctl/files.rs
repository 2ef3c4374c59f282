//! The logs on the disk, read with the daemon's own reader: what a start would find is what is shown.

use super::print::size;
use super::{Daemon, LogCommand};
use deferd::base::net::CoreId;
use deferd::deferred::identity::Address;
use deferd::store::disk::SegmentNo;
use deferd::store::inspect::{self, Entry, Item};
use deferd::store::manifest::Manifest;
use deferd::store::record::{Flags, Kind, Locator, MessageId, Place};
use deferd::uring::data_dir::DataDir;
use deferd::wire::date;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// A data directory that is only looked at.
struct Logs {
    data: DataDir,
    key: [u8; 16],
}

impl Logs {
    fn look(daemon: &Daemon) -> Result<Logs, String> {
        let path = daemon.data_dir()?;
        let shown = path.display();
        let data = DataDir::look(&path).map_err(|error| format!("cannot look into {shown}: {error}"))?;
        let octets = data
            .read_manifest()
            .map_err(|error| format!("cannot read the manifest of {shown}: {error}"))?
            .ok_or_else(|| format!("{shown} has no manifest: it is no data directory of deferd"))?;
        let manifest = Manifest::decode(&octets)
            .map_err(|fault| format!("the manifest of {shown} cannot be read: {fault:?}; restore it from a backup"))?;
        Ok(Logs { data, key: manifest.key })
    }

    /// Shows everything, and says on stderr what could not be read. True when all could.
    fn walk(&self, only: Option<u16>, mut visit: impl FnMut(Item<'_>)) -> Result<bool, String> {
        let unread = inspect::walk(&self.data, self.key, only.map(CoreId), &mut visit)
            .map_err(|fault| format!("cannot list the segments: {fault:?}"))?;
        for segment in &unread {
            eprintln!("log {} segment {}: cannot be read: {:?}", segment.log.0, segment.segment.0, segment.fault);
        }
        Ok(unread.is_empty())
    }
}

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

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn time(unix_seconds: u64) -> String {
    let mut out = Vec::new();
    date::write_rfc3339(&mut out, unix_seconds);
    text(&out)
}

fn at(place: Place) -> String {
    format!("{}:{}", place.segment.0, place.octets())
}

fn user_of(user: Option<&str>) -> Result<Option<Address>, String> {
    let Some(user) = user else { return Ok(None) };
    let uri = if user.contains(':') { user.to_owned() } else { format!("sip:{user}") };
    Address::of_uri(uri.as_bytes())
        .map(Some)
        .ok_or_else(|| format!("'{user}' names no user: sip:user@domain or tel:+number"))
}

/// What a record is, in a few words.
fn about(entry: &Entry<'_>) -> String {
    match entry.kind {
        Kind::Message => {
            let mut words = format!("message {}", entry.id().map_or_else(String::new, |id| id.to_string()));
            for (flag, name) in [(Flags::LARGE, "large"), (Flags::RETAINED, "retained"), (Flags::REPORT, "report")] {
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
        Kind::Tombstones => format!("tombstones for {}", entry.places().count()),
        Kind::Retained => format!("marks {} as had", entry.places().count()),
        Kind::State => {
            let kind = entry.state().map_or_else(|| "state".into(), |kind| format!("{kind:?}").to_lowercase());
            if entry.body.is_empty() { format!("{kind}, ended") } else { kind }
        }
        Kind::Checkpoint => "checkpoint".into(),
    }
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
        "names": entry.places().map(at).collect::<Vec<_>>(),
        "about": about(entry),
    })
}

fn list(logs: &Logs, as_json: bool, only: Option<u16>, user: Option<&str>) -> Result<bool, String> {
    let user = user_of(user)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    // A reader that has seen enough (head) closes the pipe: then there is nobody to write to.
    let mut write = |line: String| drop(writeln!(out, "{line}"));
    let whole = logs.walk(only, |item| match item {
        Item::Segment { log, segment, octets, headed } if user.is_none() && !as_json => {
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

/// `SEGMENT:OFFSET` in octets, as lists show it.
fn place_of(what: &str) -> Option<Place> {
    let (segment, offset) = what.split_once(':')?;
    let offset: u64 = offset.parse().ok()?;
    let offset = u32::try_from(offset / 8).ok().filter(|_| offset.is_multiple_of(8))?;
    Some(Place { segment: SegmentNo(segment.parse().ok()?), offset })
}

fn id_of(what: &str) -> Option<MessageId> {
    let bare = what.strip_prefix("sip:").unwrap_or(what);
    MessageId::parse(bare.split('@').next()?.as_bytes())
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
        for place in entry.places() {
            println!("names     {}", at(place));
        }
        for part in entry.parts() {
            println!("part      {}, {} octets", at(part.place()), Locator::octets(&part));
        }
        println!("label     {}\n\n{}\n", text(entry.label), text(entry.body));
    })?;
    if shown { Ok(ExitCode::SUCCESS) } else { Err(format!("no record of '{what}' in these logs")) }
}

/// One event of a message's life, ordered by what the log can order: its log and group.
struct Event {
    log: u16,
    group: u64,
    place: Place,
    what: String,
}

fn explain(logs: &Logs, as_json: bool, what: &str) -> Result<ExitCode, String> {
    let id = id_of(what).ok_or_else(|| format!("'{what}' is no message id"))?;
    let mut places: HashSet<Place> = HashSet::new();
    let mut events: Vec<Event> = Vec::new();
    let mut owner = String::new();
    logs.walk(None, |item| {
        let Item::Record(entry) = item else { return };
        if entry.id() != Some(id) {
            return;
        }
        places.insert(entry.place);
        owner = text(entry.owner);
        let what = if entry.origin == entry.place {
            format!(
                "taken in at {}, durable with group {}: the sender was answered 202 after that; expires {}",
                time(entry.stamp.seconds()),
                entry.group,
                time(u64::from(entry.expiry_s))
            )
        } else {
            format!("copied from {} to make room", at(entry.origin))
        };
        events.push(Event { log: entry.log.0, group: entry.group, place: entry.place, what });
    })?;
    if events.is_empty() {
        return Err(format!("no record of {id} in these logs: never taken in here, or gone and its room used again"));
    }
    let mut gone = false;
    logs.walk(None, |item| {
        let Item::Record(entry) = item else { return };
        if !entry.places().any(|place| places.contains(&place)) {
            return;
        }
        let what = if entry.kind == Kind::Retained {
            "acknowledged by the user's client; kept for retrieval".to_owned()
        } else {
            gone = true;
            "written off: acknowledged by the user's client, deleted, or expired".to_owned()
        };
        events.push(Event { log: entry.log.0, group: entry.group, place: entry.place, what });
    })?;
    if as_json {
        let events: Vec<Value> = events
            .iter()
            .map(
                |event| json!({ "log": event.log, "group": event.group, "place": at(event.place), "what": event.what }),
            )
            .collect();
        println!("{}", json!({ "id": id.to_string(), "user": owner, "gone": gone, "events": events }));
    } else {
        println!("{id} for {owner}");
        for event in &events {
            println!("  {:>18}  log {} group {}: {}", at(event.place), event.log, event.group, event.what);
        }
        if !gone {
            println!("  it waits; 'deferctl why {id}' asks the daemon what for");
        }
    }
    Ok(ExitCode::SUCCESS)
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

/// Counts of one log.
#[derive(Default)]
struct Tally {
    segments: u64,
    groups: u64,
    records: u64,
    octets: u64,
}

pub(super) fn verify(daemon: &Daemon, as_json: bool) -> Result<ExitCode, String> {
    let path = daemon.data_dir()?;
    // Held for the time of the check: what a daemon writes meanwhile would look broken.
    let _held = DataDir::open(&path).map_err(|fault| fault.to_string())?;
    let logs = Logs::look(daemon)?;
    let mut tallies: BTreeMap<u16, Tally> = BTreeMap::new();
    let mut newest: HashMap<u16, u64> = HashMap::new();
    let mut durable: HashMap<u16, u64> = HashMap::new();
    let mut broken_groups: Vec<(u16, u64, Place)> = Vec::new();
    let mut findings: Vec<String> = Vec::new();
    let whole = logs.walk(None, |item| match item {
        Item::Segment { log, segment, octets, headed } => {
            let tally = tallies.entry(log.0).or_default();
            tally.segments += 1;
            tally.octets += octets;
            if !headed {
                findings.push(format!("log {} segment {}: the header does not name this file", log.0, segment.0));
            }
        }
        Item::Group(group) => {
            tallies.entry(group.log.0).or_default().groups += 1;
            let mark = durable.entry(group.log.0).or_default();
            *mark = group.durable.max(*mark);
            if group.whole {
                let last = newest.entry(group.log.0).or_default();
                *last = group.number.max(*last);
            } else {
                broken_groups.push((group.log.0, group.number, group.place));
            }
        }
        Item::Record(entry) => tallies.entry(entry.log.0).or_default().records += 1,
        Item::Broken { log, place, damage } => {
            findings.push(format!("log {} at {}: a record is not readable: {damage:?}", log.0, at(place)));
        }
        Item::Gap { log, place, inside: true } => {
            findings.push(format!("log {} at {}: octets between two groups are not readable", log.0, at(place)));
        }
        Item::Gap { .. } => {}
    })?;
    // A broken group above every durable mark is the torn tail of a crash: nobody was told that it is there.
    let torn = |log: u16, number: u64| {
        number > durable.get(&log).copied().unwrap_or(0) && number > newest.get(&log).copied().unwrap_or(0)
    };
    for (log, number, place) in broken_groups {
        if !torn(log, number) {
            findings.push(format!("log {log} at {}: group {number} is not whole", at(place)));
        }
    }
    let sound = whole && findings.is_empty();
    if as_json {
        let logs: Vec<Value> = tallies
            .iter()
            .map(|(log, tally)| json!({ "log": log, "segments": tally.segments, "groups": tally.groups, "records": tally.records, "octets": tally.octets }))
            .collect();
        println!("{}", json!({ "sound": sound, "logs": logs, "findings": findings }));
    } else {
        for (log, tally) in &tallies {
            println!(
                "log {log}: {} segments, {}, {} groups, {} records",
                tally.segments,
                size(tally.octets),
                tally.groups,
                tally.records
            );
        }
        for finding in &findings {
            println!("{finding}");
        }
        println!(
            "{}",
            if sound {
                "every checksum holds"
            } else {
                "damage was found; a start skips what is named above and keeps the rest"
            }
        );
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
