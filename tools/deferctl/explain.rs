//! `deferctl log explain ID`: one message's life, from the records that tell of it.
//!
//! What happened to whom when: taken in and committed, copied, pushed and acknowledged, deleted, kept in the bin, gone. What was tried
//! and failed is in no log; a running daemon knows it (`deferctl why`).

use super::logs::{Logs, at, id_of, text, time};
use deferd::deferred::bin::Binned;
use deferd::store::inspect::{Ending, Entry, Item, Reason};
use deferd::store::record::{Kind, Place, Stamp, StateKind};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// One event of a message's life.
struct Event {
    log: u16,
    group: u64,
    place: Place,
    /// Of an event that has one.
    at_s: Option<u64>,
    /// Of a copy: the record it was made of, which is given up a moment later.
    origin: Option<Place>,
    /// For scripts.
    word: &'static str,
    what: String,
}

/// What the records of one message are known by.
#[derive(Default)]
struct Known {
    places: BTreeSet<Place>,
    owner: Vec<u8>,
    stamp: Stamp,
}

pub(super) fn explain(logs: &Logs, as_json: bool, what: &str) -> Result<ExitCode, String> {
    let id = id_of(what).ok_or_else(|| format!("'{what}' is no message id: 26 digits and small letters"))?;
    let mut known = Known::default();
    let mut events: Vec<Event> = Vec::new();
    logs.walk(None, |item| {
        let Item::Record(entry) = item else { return };
        if entry.id() == Some(id) {
            known.places.insert(entry.place);
            known.owner = entry.owner.to_vec();
            known.stamp = entry.stamp;
            events.push(taken_in(&entry));
        }
    })?;
    if events.is_empty() {
        return Err(format!(
            "no record of {id} in these logs: never taken in here, or gone so long ago that its room was used again"
        ));
    }
    let (mut dead, mut last) = (BTreeSet::new(), None);
    logs.walk(None, |item| {
        let Item::Record(entry) = item else { return };
        if let Some(event) = binned(&entry, &known) {
            events.push(event);
        }
        for ending in entry.endings().filter(|ending| known.places.contains(&ending.place)) {
            if entry.kind == Kind::Tombstones {
                dead.insert(ending.place);
                last = Some(ending.reason).filter(|reason| tells(*reason)).or(last);
            }
            events.push(ended(&entry, ending));
        }
    })?;
    // Each of its records: then nothing waits any more.
    let gone = known.places.iter().all(|place| dead.contains(place));
    let given_up: BTreeMap<Place, u64> = events
        .iter()
        .filter(|event| event.word == "superseded")
        .filter_map(|event| Some((event.origin?, event.at_s?)))
        .collect();
    for event in events.iter_mut().filter(|event| event.word == "copied") {
        event.at_s = event.origin.and_then(|origin| given_up.get(&origin).copied());
    }
    // Times are seconds, and the records of one second may lie in several logs.
    events
        .sort_by_key(|event| (event.at_s.unwrap_or(u64::MAX), order(event.word), event.log, event.group, event.place));
    let user = text(&known.owner);
    if as_json {
        let event = |event: &Event| {
            json!({
                "log": event.log, "group": event.group, "place": at(event.place),
                "at": event.at_s.map(time), "event": event.word, "what": event.what,
            })
        };
        let because = if gone { last.map(Reason::word) } else { None };
        let events: Vec<Value> = events.iter().map(event).collect();
        println!(
            "{}",
            json!({ "id": id.to_string(), "user": user, "gone": gone, "because": because, "events": events })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{id} for {user}");
    for event in &events {
        let when = event.at_s.map_or_else(|| "-".to_owned(), time);
        println!("  {when:<20}  {}", event.what);
        println!("  {:<20}  log {} group {}, at {}", "", event.log, event.group, at(event.place));
    }
    if gone {
        println!("  it is gone");
    } else {
        println!("  it is stored; 'deferctl why {id}' asks the daemon what it waits for");
    }
    Ok(ExitCode::SUCCESS)
}

/// What comes first in one second.
fn order(word: &str) -> u8 {
    match word {
        "accepted" => 0,
        "copied" => 1,
        "kept" => 2,
        "binned" => 3,
        "superseded" => 4,
        _ => 5,
    }
}

/// True for a reason that is about the message, not about one of its records.
fn tells(reason: Reason) -> bool {
    !matches!(reason, Reason::Superseded | Reason::Late | Reason::Unknown)
}

fn taken_in(entry: &Entry<'_>) -> Event {
    let (log, group, place) = (entry.log.0, entry.group, entry.place);
    if entry.origin != entry.place {
        let what = format!("copied from {} so that its segment could go", at(entry.origin));
        return Event { log, group, place, at_s: None, origin: Some(entry.origin), word: "copied", what };
    }
    let expires = time(u64::from(entry.expiry_s));
    let what = format!(
        "taken in, {} octets on disk, expires {expires}; answered 202 once its group was durable",
        entry.octets
    );
    Event { log, group, place, at_s: Some(entry.stamp.seconds()), origin: None, word: "accepted", what }
}

/// Deleted into the DELETE bin.
fn binned(entry: &Entry<'_>, known: &Known) -> Option<Event> {
    if entry.state() != Some(StateKind::Bin) || entry.owner != known.owner {
        return None;
    }
    let binned = Binned::recovered(entry.owner, entry.label, entry.stamp, entry.body)?;
    if !binned.stamps().any(|stamp| stamp == known.stamp) {
        return None;
    }
    let what = format!("{}; kept in the DELETE bin until {}", said(binned.reason()), time(binned.until_s()));
    let at_s = Some(entry.stamp.seconds());
    Some(Event { log: entry.log.0, group: entry.group, place: entry.place, at_s, origin: None, word: "binned", what })
}

fn ended(entry: &Entry<'_>, ending: Ending) -> Event {
    let at_s = (ending.at_s > 0).then_some(u64::from(ending.at_s));
    let (word, what) = match (entry.kind, ending.reason) {
        (Kind::Retained, Reason::Expired) => {
            ("kept", "expired; kept for retrieval, and not pushed any more".to_owned())
        }
        (Kind::Retained, Reason::Unknown) => ("kept", "had by its user, or expired; kept for retrieval".to_owned()),
        (Kind::Retained, reason) => ("kept", format!("{}; kept for retrieval", said(reason))),
        (_, Reason::Superseded) => {
            ("superseded", format!("the record at {} is given up for its copy", at(ending.place)))
        }
        (_, Reason::Late) => ("superseded", format!("the copy at {} came too late", at(ending.place))),
        (_, reason) => (reason.word(), said(reason).to_owned()),
    };
    Event { log: entry.log.0, group: entry.group, place: entry.place, at_s, origin: Some(ending.place), word, what }
}

/// A reason as a sentence begins.
fn said(reason: Reason) -> &'static str {
    match reason {
        Reason::Delivered => "pushed, and acknowledged by the user's client",
        Reason::Retrieved => "retrieved by its user, and acknowledged",
        Reason::DeletedByUser => "deleted by its user",
        Reason::DeletedByOperator => "deleted by the operator",
        Reason::Expired => "expired",
        Reason::Dropped => "dropped: it made room for a later message (policy.quota)",
        Reason::Purged => "purged: its time in the DELETE bin was over",
        Reason::Twin => "dropped: the same message was there already",
        Reason::Superseded => "given up for its copy",
        Reason::Late => "a copy that came too late",
        Reason::Over => "over",
        Reason::Unknown => {
            "written off: acknowledged by the user's client, deleted, or expired (an earlier version did not say)"
        }
    }
}
