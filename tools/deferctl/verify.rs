//! `deferctl verify`: every checksum of a data directory that no daemon uses.

use super::Daemon;
use super::logs::{Logs, at};
use super::print::size;
use deferd::store::inspect::Item;
use deferd::store::record::Place;
use deferd::uring::data_dir::DataDir;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;

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
        Item::Segment { log, segment, octets, headed, .. } => {
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
