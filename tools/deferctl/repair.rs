//! `deferctl repair`: what keeps a daemon from starting on its data directory, and what can be done about it. Says it first; does it with
//! `--yes`. Nothing is ever deleted: files that do not belong are set aside, what the manifest said before is kept.
//!
//! A start that found a file missing, or one it does not know, and went on, would hide a loss or bring back what was deleted: so it ends, and
//! a person decides here. Whether the outcome is one a daemon starts on is rehearsed before anything is touched.

use super::Daemon;
use super::logs::{at, text, time};
use super::print::size;
use super::rehearsal::{Rehearsal, attempt};
use deferd::base::net::CoreId;
use deferd::store::disk::SegmentNo;
use deferd::store::hint::Hint;
use deferd::store::inspect::{self, Item};
use deferd::store::manifest::{Manifest, ManifestFault};
use deferd::store::record::{Kind, Place};
use deferd::store::segments::Segments;
use deferd::uring::data_dir::DataDir;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;

/// What is found of a segment's file.
#[derive(Clone, Default)]
struct Held {
    octets: u64,
    /// Its header names this file.
    headed: bool,
    /// It was made in this data directory.
    ours: bool,
    /// Something that is no group lies in it.
    gaps: bool,
    groups: u64,
    /// Its last whole group.
    last: u64,
    messages: u64,
}

/// A message in a segment that is lost, as its index knew it.
struct Lost {
    user: String,
    accepted_s: u64,
}

/// One thing that is wrong, and what is done about it.
enum Step {
    /// The manifest is not there, or is not one: another is made of what the segments say.
    NewManifest { why: String },
    /// It is listed and not there: given up. What was lost is known where its index is there still.
    Forget { log: CoreId, segment: SegmentNo, lost: Option<Vec<Lost>> },
    /// It is there and not listed, and is taken in.
    Adopt { log: CoreId, segment: SegmentNo, messages: u64 },
    /// It does not belong.
    SetAside { log: CoreId, segment: SegmentNo, why: &'static str, messages: u64 },
    /// An index that is none: its segment is read instead.
    DropIndex { log: CoreId, segment: SegmentNo },
}

/// The directory as it is.
struct Found {
    held: BTreeMap<(CoreId, SegmentNo), Held>,
    /// Places in segments that are not there, which something names.
    named: BTreeSet<Place>,
    /// The highest number of a segment that anything names.
    highest: u32,
    unread: Vec<String>,
}

pub(super) fn repair(daemon: &Daemon, as_json: bool, adopt: bool, yes: bool) -> Result<ExitCode, String> {
    let path = daemon.data_dir()?;
    let shown = path.display();
    DataDir::look(&path).map_err(|error| format!("cannot look into {shown}: {error}"))?;
    let data = DataDir::open(&path).map_err(|fault| fault.to_string())?;
    let before = data.read_manifest().map_err(|error| format!("cannot read the manifest of {shown}: {error}"))?;
    let (mut manifest, lost_manifest) = match before.as_deref().map(Manifest::decode) {
        Some(Ok(manifest)) => (manifest, None),
        Some(Err(ManifestFault::Version(version))) => {
            return Err(format!("{shown} is of format version {version}, written by another deferd; use its deferctl"));
        }
        Some(Err(fault)) => (fresh_manifest()?, Some(format!("it cannot be read: {fault:?}"))),
        None => (fresh_manifest()?, Some("it is not there".to_owned())),
    };
    let found = look(&data, &manifest)?;
    let mut steps = Vec::new();
    match lost_manifest {
        Some(why) => {
            steps.push(Step::NewManifest { why });
            rebuild(&found, &mut manifest, &mut steps);
        }
        None => amend(&data, &found, &mut manifest, adopt, &mut steps),
    }
    broken_indexes(&data, &manifest, &mut steps);
    let aside: BTreeSet<(CoreId, SegmentNo)> = steps.iter().filter_map(set_aside).collect();
    let rehearsal = attempt(&data, &manifest, &aside)
        .map_err(|fault| format!("{shown} cannot be repaired: a start would end with {fault:?}"))?;
    if yes {
        carry_out(&data, before.as_deref(), &manifest, &steps)?;
    }
    tell(as_json, yes, &steps, &found, &rehearsal);
    let open = !yes && !steps.is_empty();
    Ok(if open { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn fresh_manifest() -> Result<Manifest, String> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(Manifest::new(key, 0))
}

fn look(data: &DataDir, manifest: &Manifest) -> Result<Found, String> {
    let listed = data.segments().map_err(|error| format!("cannot list {}: {error}", data.path().display()))?;
    let numbers: BTreeSet<SegmentNo> = listed.iter().map(|(_, segment, _)| *segment).collect();
    let missing: BTreeSet<SegmentNo> =
        manifest.segments().iter().map(|listed| listed.segment).filter(|segment| !numbers.contains(segment)).collect();
    let highest = numbers.last().map_or(0, |segment| segment.0);
    let mut found = Found { held: BTreeMap::new(), named: BTreeSet::new(), highest, unread: Vec::new() };
    let mut at_file = (CoreId(0), SegmentNo(0));
    let mut visit = |item: Item<'_>| match item {
        Item::Segment { log, segment, octets, headed, ours } => {
            at_file = (log, segment);
            found.held.insert(at_file, Held { octets, headed, ours, ..Held::default() });
        }
        Item::Group(group) => {
            let held = found.held.entry(at_file).or_default();
            held.groups += 1;
            held.last = held.last.max(if group.whole { group.number } else { 0 });
        }
        Item::Record(entry) => {
            found.held.entry(at_file).or_default().messages += u64::from(entry.kind == Kind::Message);
            for place in entry.places().chain([entry.origin]) {
                found.highest = found.highest.max(place.segment.0);
                if missing.contains(&place.segment) {
                    found.named.insert(place);
                }
            }
        }
        Item::Gap { .. } => found.held.entry(at_file).or_default().gaps = true,
        Item::Broken { .. } => {}
    };
    let unread = inspect::walk(data, manifest.key, None, &mut visit)
        .map_err(|fault| format!("cannot list the segments: {fault:?}"))?;
    found.unread = unread
        .iter()
        .map(|unread| format!("log {} segment {}: cannot be read: {:?}", unread.log.0, unread.segment.0, unread.fault))
        .collect();
    Ok(found)
}

/// A manifest of what there is. The key of the old one is lost with it, so each segment goes by the salt in its own header.
fn rebuild(found: &Found, manifest: &mut Manifest, steps: &mut Vec<Step>) {
    // Of each log the last goes on; what lies behind the end of the others counts for nothing.
    let mut newest: BTreeMap<CoreId, u64> = BTreeMap::new();
    for ((log, _), held) in found.held.iter().filter(|(_, held)| held.headed) {
        let last = newest.entry(*log).or_default();
        *last = held.last.max(*last);
    }
    for (&(log, segment), held) in &found.held {
        if held.headed && held.groups > 0 {
            manifest.adopt(log, segment);
            if Some(&held.last) != newest.get(&log) {
                manifest.seal(segment, held.last);
            }
            steps.push(Step::Adopt { log, segment, messages: held.messages });
        } else if held.gaps || held.groups > 0 {
            let why = "its header is broken or names another file";
            steps.push(Step::SetAside { log, segment, why, messages: held.messages });
        }
    }
    manifest.reserved_to = found.highest.saturating_add(1);
}

/// The manifest is right, and the files are not what it says.
fn amend(data: &DataDir, found: &Found, manifest: &mut Manifest, adopt: bool, steps: &mut Vec<Step>) {
    let gone = manifest.segments().iter().filter(|listed| !listed.leaving);
    let gone: Vec<(CoreId, SegmentNo)> = gone.map(|listed| (listed.log, listed.segment)).collect();
    for (log, segment) in gone.into_iter().filter(|name| !found.held.contains_key(name)) {
        let lost = lost(data, found, manifest, log, segment);
        manifest.forget(segment);
        steps.push(Step::Forget { log, segment, lost });
    }
    for (&(log, segment), held) in &found.held {
        let messages = held.messages;
        let why = match manifest.find(segment) {
            Some(listed) if listed.log == log => continue,
            Some(_) => "another file of its number is the one in the manifest",
            // Nothing was ever written into it, as far as can be told: the next start removes it.
            None if held.groups == 0 => continue,
            None if adopt && held.headed && held.ours => {
                manifest.list(log, segment);
                steps.push(Step::Adopt { log, segment, messages });
                continue;
            }
            None if held.headed && held.ours => {
                "the manifest does not list it; it was made here: --adopt takes it in, with what was deleted since it was let go"
            }
            None => "the manifest does not list it, and it was made in another data directory",
        };
        steps.push(Step::SetAside { log, segment, why, messages });
    }
    manifest.reserved_to = manifest.reserved_to.max(found.highest.saturating_add(1));
}

/// What a segment that is not there held and nobody has had, by its index.
fn lost(data: &DataDir, found: &Found, manifest: &Manifest, log: CoreId, segment: SegmentNo) -> Option<Vec<Lost>> {
    let octets = data.read_hint(log, segment).ok()?;
    let hint = Hint::read(octets.into(), log, segment, Segments::new(0, 0, manifest.key).salt(segment)).ok()?;
    let owners: Vec<String> = hint.owners().map(text).collect();
    let own: BTreeSet<Place> = hint.dead().collect();
    let lost = hint.messages().filter(|message| {
        let place = message.locator.place();
        !found.named.contains(&place) && !own.contains(&place)
    });
    let lost = lost.map(|message| Lost {
        user: owners.get(message.owner as usize).cloned().unwrap_or_default(),
        accepted_s: message.locator.stamp().seconds(),
    });
    Some(lost.collect())
}

fn broken_indexes(data: &DataDir, manifest: &Manifest, steps: &mut Vec<Step>) {
    let salts = Segments::new(0, 0, manifest.key);
    for listed in manifest.segments().iter().filter(|listed| !listed.leaving && !listed.adopted) {
        let (log, segment) = (listed.log, listed.segment);
        let Ok(octets) = data.read_hint(log, segment) else { continue };
        if Hint::read(octets.into(), log, segment, salts.salt(segment)).is_err() {
            steps.push(Step::DropIndex { log, segment });
        }
    }
}

fn set_aside(step: &Step) -> Option<(CoreId, SegmentNo)> {
    match step {
        Step::SetAside { log, segment, .. } => Some((*log, *segment)),
        _ => None,
    }
}

/// Files first, then the manifest: cut short anywhere, it is done again from the beginning.
fn carry_out(data: &DataDir, before: Option<&[u8]>, manifest: &Manifest, steps: &[Step]) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot write below {}: {error}", data.path().display());
    if steps.is_empty() {
        return Ok(());
    }
    if let Some(before) = before {
        fs::write(data.path().join("manifest.before-repair"), before).map_err(cannot)?;
    }
    for (log, segment) in steps.iter().filter_map(set_aside) {
        data.set_aside(log, segment).map_err(cannot)?;
    }
    data.write_manifest(manifest).map_err(cannot)?;
    for step in steps {
        if let Step::DropIndex { log, segment } = step {
            data.remove_hint(*log, *segment).map_err(cannot)?;
        }
    }
    Ok(())
}

fn file(log: CoreId, segment: SegmentNo) -> String {
    format!("log-{}/{:010}.log", log.0, segment.0)
}

impl Step {
    fn said(&self) -> String {
        match self {
            Step::NewManifest { why } => format!("the manifest is made anew from the segments: {why}"),
            Step::Forget { log, segment, lost: Some(lost) } => format!(
                "{} is missing and is given up; of what it held {} messages are lost",
                file(*log, *segment),
                lost.len()
            ),
            Step::Forget { log, segment, lost: None } => format!(
                "{} is missing and is given up; what it held is not known, for its index is missing, too. Messages whose deletion \
                 was written down in it may come again",
                file(*log, *segment)
            ),
            Step::Adopt { log, segment, messages } => {
                format!("{} is taken in: {messages} messages", file(*log, *segment))
            }
            Step::SetAside { log, segment, why, messages } => {
                format!("{} is set aside, {messages} messages: {why}", file(*log, *segment))
            }
            Step::DropIndex { log, segment } => {
                format!("the index of {} is broken: the next start reads the segment instead", file(*log, *segment))
            }
        }
    }

    fn value(&self) -> Value {
        let (word, log, segment, messages) = match self {
            Step::NewManifest { .. } => ("new-manifest", None, None, None),
            Step::Forget { log, segment, lost } => {
                ("forget", Some(log), Some(segment), lost.as_ref().map(|lost| lost.len() as u64))
            }
            Step::Adopt { log, segment, messages } => ("adopt", Some(log), Some(segment), Some(*messages)),
            Step::SetAside { log, segment, messages, .. } => ("set-aside", Some(log), Some(segment), Some(*messages)),
            Step::DropIndex { log, segment } => ("drop-index", Some(log), Some(segment), None),
        };
        let lost = |lost: &Lost| json!({ "user": lost.user, "accepted": time(lost.accepted_s) });
        let lost =
            if let Step::Forget { lost: Some(list), .. } = self { list.iter().map(lost).collect() } else { Vec::new() };
        json!({
            "step": word, "log": log.map(|log| log.0), "segment": segment.map(|segment| segment.0),
            "messages": messages, "what": self.said(), "lost": lost,
        })
    }
}

fn tell(as_json: bool, done: bool, steps: &[Step], found: &Found, rehearsal: &Rehearsal) {
    let damage = rehearsal.damage.iter();
    if as_json {
        let damage: Vec<Value> = damage
            .map(|found| json!({ "log": found.log.0, "place": at(found.place), "damage": format!("{:?}", found.damage) }))
            .collect();
        let steps: Vec<Value> = steps.iter().map(Step::value).collect();
        println!(
            "{}",
            json!({
                "done": done, "steps": steps, "messages": rehearsal.messages, "users": rehearsal.users,
                "damaged": rehearsal.damaged, "damage": damage, "unread": found.unread,
            })
        );
        return;
    }
    let octets: u64 = found.held.values().map(|held| held.octets).sum();
    println!("{} segments, {}", found.held.len(), size(octets));
    for step in steps {
        println!("{} {}", if done { "done:" } else { "would:" }, step.said());
        if let Step::Forget { lost: Some(lost), .. } = step {
            lost.iter().for_each(|lost| println!("    lost: of {}, accepted {}", lost.user, time(lost.accepted_s)));
        }
    }
    found.unread.iter().for_each(|line| println!("{line}"));
    damage.for_each(|found| println!("log {} at {}: not readable: {:?}", found.log.0, at(found.place), found.damage));
    if rehearsal.damaged > 0 {
        println!("{} records are damaged: a start skips them and keeps the rest", rehearsal.damaged);
    }
    println!("a start then finds {} messages of {} users", rehearsal.messages, rehearsal.users);
    match (steps.is_empty(), done) {
        (true, _) => println!("there is nothing to repair"),
        (false, false) => println!("nothing was changed: --yes does it"),
        (false, true) => println!("the manifest of before is manifest.before-repair; start the daemon"),
    }
}
