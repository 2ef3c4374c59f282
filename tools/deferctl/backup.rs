//! `deferctl backup` and `deferctl restore`: a data directory copied while its daemon works, and brought back where none is.
//!
//! The daemon holds its segments back and says how much of each is durable ([`deferd::control::copying`]); they are copied here, every
//! checksum of the copy is looked at, and the manifest is written last: a copy without it is not one. Knows no record.

use super::ask::Line;
use super::logs::at;
use super::print::size;
use super::rehearsal::{Rehearsal, rehearse};
use super::{Daemon, ask};
use deferd::base::net::CoreId;
use deferd::store::disk::SegmentNo;
use deferd::store::inspect::{self, Item};
use deferd::store::manifest::Manifest;
use deferd::uring::data_dir::DataDir;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Copied between two looks at the clock: a second of a slow disk.
const STEP: u64 = 32 << 20;

/// The daemon hears from us at least so often: it gives up on who says nothing for a minute.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What is said of a copy, for people and scripts; nothing reads it back.
const LABEL: &str = "backup.json";

/// A segment to be copied.
#[derive(Clone, Copy)]
struct Part {
    log: CoreId,
    segment: SegmentNo,
    /// Octets of the file.
    octets: u64,
    /// Of those, the ones to copy; the rest is zeros.
    durable: u64,
    /// Its last group, where it is known.
    last: u64,
}

pub(super) fn backup(daemon: &Daemon, as_json: bool, to: &Path) -> Result<ExitCode, String> {
    let begun = Instant::now();
    must_be_empty(to)?;
    let socket = daemon.socket()?;
    let mut line = match Line::open(&socket) {
        Ok(line) => Some(line),
        // No daemon: then nobody may start one until the copy is made.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => None,
        Err(error) => return Err(ask::unreachable(&socket, &error)),
    };
    let (from, parts, _held);
    match &mut line {
        Some(line) => {
            let answer = line.ask(&json!({ "do": "backup-begin" }))?;
            let path = answer.get("data_dir").and_then(Value::as_str).unwrap_or_default();
            from = look(Path::new(path))?;
            parts = parts_of(&answer)?;
            _held = None;
        }
        None => {
            let path = daemon.data_dir()?;
            from = look(&path)?;
            _held = Some(DataDir::open(&path).map_err(|fault| fault.to_string())?);
            parts = all_of(&from)?;
        }
    }
    make_empty(to)?;
    let manifest = manifest_of(&from)?;
    let mut heard = Instant::now();
    let mut copied = 0;
    for part in &parts {
        copy(&from, part, to, &mut || {
            if let Some(line) = line.as_mut().filter(|_| heard.elapsed() > HEARTBEAT) {
                line.ask(&json!({ "do": "backup-hold" }))?;
                heard = Instant::now();
            }
            Ok(())
        })?;
        copied += part.durable;
    }
    if let Some(line) = &mut line {
        line.ask(&json!({ "do": "backup-end" }))?;
    }
    let kept = look(to)?;
    let sealed = sealed(&kept, &manifest, &parts, line.is_some())?;
    let rehearsal = rehearse(&kept, &sealed)?;
    let label = json!({
        "made_by": concat!("deferctl ", env!("CARGO_PKG_VERSION")),
        "segments": parts.len(), "octets": copied,
        "messages": rehearsal.messages, "users": rehearsal.users, "damaged": rehearsal.damaged,
    });
    fs::write(to.join(LABEL), format!("{label}\n")).map_err(|error| cannot_write(to, &error))?;
    kept.write_manifest(&sealed).map_err(|error| cannot_write(to, &error))?;
    said(as_json, "backed up to", to, &label, &rehearsal, begun.elapsed());
    Ok(if rehearsal.damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn restore(as_json: bool, from: &Path, to: &Path, accept_damage: bool) -> Result<ExitCode, String> {
    let begun = Instant::now();
    if from.join("lock").exists() {
        return Err(format!(
            "{} is a data directory, not a backup: take one with deferctl backup, or copy it while no daemon runs",
            from.display()
        ));
    }
    let kept = look(from)?;
    let manifest = match kept.read_manifest() {
        Ok(None) => return Err(format!("{} has no manifest: that backup was never finished", from.display())),
        _ => manifest_of(&kept)?,
    };
    if to.join("lock").exists() {
        DataDir::open(to).map_err(|fault| fault.to_string())?;
    }
    must_be_empty(to)?;
    let rehearsal = rehearse(&kept, &manifest)?;
    if rehearsal.damaged > 0 && !accept_damage {
        print_damage(&rehearsal);
        return Err(format!(
            "{} records of this backup are damaged and would be missing; take an earlier one, or go on with --accept-damage",
            rehearsal.damaged
        ));
    }
    make_empty(to)?;
    // No daemon starts here before all is there.
    let held = DataDir::open(to).map_err(|fault| fault.to_string())?;
    let parts = all_of(&kept)?;
    for part in &parts {
        copy(&kept, part, to, &mut || Ok(()))?;
    }
    held.write_manifest(&manifest).map_err(|error| cannot_write(to, &error))?;
    let label = json!({
        "segments": parts.len(), "octets": parts.iter().map(|part| part.octets).sum::<u64>(),
        "messages": rehearsal.messages, "users": rehearsal.users, "damaged": rehearsal.damaged,
    });
    said(as_json, "restored to", to, &label, &rehearsal, begun.elapsed());
    Ok(ExitCode::SUCCESS)
}

fn said(as_json: bool, what: &str, to: &Path, label: &Value, rehearsal: &Rehearsal, took: Duration) {
    if as_json {
        println!("{label}");
        return;
    }
    let number = |name: &str| label.get(name).and_then(Value::as_u64).unwrap_or(0);
    println!(
        "{} messages of {} users {what} {}: {} segments, {}, in {:.1} s; a start on it was rehearsed",
        rehearsal.messages,
        rehearsal.users,
        to.display(),
        number("segments"),
        size(number("octets")),
        took.as_secs_f64()
    );
    print_damage(rehearsal);
}

fn print_damage(rehearsal: &Rehearsal) {
    for found in &rehearsal.damage {
        eprintln!("log {} at {}: not readable: {:?}", found.log.0, at(found.place), found.damage);
    }
    if rehearsal.damaged > 0 {
        eprintln!("{} records are damaged; a start skips them and keeps the rest", rehearsal.damaged);
    }
}

fn look(path: &Path) -> Result<DataDir, String> {
    DataDir::look(path).map_err(|error| format!("cannot look into {}: {error}", path.display()))
}

fn cannot_write(to: &Path, error: &io::Error) -> String {
    format!("cannot write into {}: {error}; it is not whole, remove it", to.display())
}

fn manifest_of(data: &DataDir) -> Result<Manifest, String> {
    let shown = data.path().display();
    let octets = data.read_manifest().map_err(|error| format!("cannot read the manifest of {shown}: {error}"))?;
    let octets = octets.ok_or_else(|| format!("{shown} has no manifest: it is no data directory of deferd"))?;
    Manifest::decode(&octets).map_err(|fault| format!("the manifest of {shown} cannot be read: {fault:?}"))
}

/// What the daemon says is to be copied.
fn parts_of(answer: &Value) -> Result<Vec<Part>, String> {
    let listed = answer.get("segments").and_then(Value::as_array).ok_or("the daemon named no segments")?;
    let part = |listed: &Value| {
        let number = |name: &str| listed.get(name).and_then(Value::as_u64);
        Some(Part {
            log: CoreId(u16::try_from(number("log")?).ok()?),
            segment: SegmentNo(u32::try_from(number("segment")?).ok()?),
            octets: number("octets")?,
            durable: number("durable")?,
            last: number("last")?,
        })
    };
    listed.iter().map(|listed| part(listed).ok_or_else(|| format!("not understood: {listed}"))).collect()
}

/// All segments that nobody is writing.
fn all_of(data: &DataDir) -> Result<Vec<Part>, String> {
    let manifest = manifest_of(data)?;
    let found = data.segments().map_err(|error| format!("cannot list {}: {error}", data.path().display()))?;
    let is_there = |segment: SegmentNo| manifest.find(segment).is_some_and(|listed| !listed.leaving);
    let listed = found.into_iter().filter(|(_, segment, _)| is_there(*segment));
    Ok(listed.map(|(log, segment, octets)| Part { log, segment, octets, durable: octets, last: 0 }).collect())
}

/// A directory with nothing in it, or none.
fn must_be_empty(to: &Path) -> Result<(), String> {
    let shown = to.display();
    match fs::read_dir(to) {
        // What a lock leaves behind is nothing.
        Ok(entries) => match entries.filter_map(Result::ok).any(|entry| entry.file_name() != "lock") {
            true => Err(format!("{shown} is not empty: name a directory that is, or is not there yet")),
            false => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("cannot look into {shown}: {error}")),
    }
}

/// An empty directory for nobody but its user: made, or found empty.
fn make_empty(to: &Path) -> Result<(), String> {
    must_be_empty(to)?;
    match DirBuilder::new().mode(0o750).create(to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(format!("cannot make {}: {error}", to.display()))
        }
        _ => Ok(()),
    }
}

/// Copies one segment, and its index where it is whole. `tick` is called between steps.
fn copy(from: &DataDir, part: &Part, to: &Path, tick: &mut dyn FnMut() -> Result<(), String>) -> Result<(), String> {
    let directory = to.join(format!("log-{}", part.log.0));
    match DirBuilder::new().mode(0o750).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(cannot_write(to, &error)),
        _ => {}
    }
    let source = from.segment_path(part.log, part.segment);
    let cannot_read = |error: io::Error| format!("cannot read {}: {error}", source.display());
    let into = look(to)?;
    let target = into.segment_path(part.log, part.segment);
    let mut input = File::open(&source).map_err(cannot_read)?;
    let mut output = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&target);
    let output = output.as_mut().map_err(|error| cannot_write(to, error))?;
    let mut left = part.durable;
    while left > 0 {
        // The kernel copies, and shares the blocks where the file system can.
        let step = io::copy(&mut (&mut input).take(left.min(STEP)), output);
        match step.map_err(|error| format!("cannot copy {}: {error}", source.display()))? {
            0 => return Err(format!("{} is shorter than it was said to be", source.display())),
            step => left -= step,
        }
        tick()?;
    }
    let done = output.set_len(part.octets).and_then(|()| output.sync_all()).and_then(|()| sync_directory(&directory));
    done.map_err(|error| cannot_write(to, &error))?;
    if part.durable == part.octets
        && let Ok(octets) = from.read_hint(part.log, part.segment)
    {
        // Worth nothing but time.
        into.write_hint(part.log, part.segment, &octets).map_err(|error| cannot_write(to, &error))?;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The manifest of a copy. `running`: its daemon went on writing, so every segment ends where it was cut, and nothing is ever
/// written into it again.
fn sealed(kept: &DataDir, manifest: &Manifest, parts: &[Part], running: bool) -> Result<Manifest, String> {
    let mut ends: BTreeMap<SegmentNo, u64> = BTreeMap::new();
    let unread = inspect::walk(kept, manifest.key, None, &mut |item| {
        if let Item::Group(group) = item
            && group.whole
        {
            let end = ends.entry(group.place.segment).or_default();
            *end = group.number.max(*end);
        }
    });
    let unread = unread.map_err(|fault| format!("cannot list the copy: {fault:?}"))?;
    if let Some(segment) = unread.first() {
        return Err(format!("the copy of segment {} cannot be read: {:?}", segment.segment.0, segment.fault));
    }
    let mut sealed = Manifest::new(manifest.key, manifest.reserved_to);
    for part in parts {
        sealed.list(part.log, part.segment);
        let known = manifest.find(part.segment).map_or(0, |listed| listed.last);
        let found = if running { ends.get(&part.segment).copied().unwrap_or(0) } else { 0 };
        sealed.seal(part.segment, [part.last, known].into_iter().find(|last| *last > 0).unwrap_or(found));
    }
    Ok(sealed)
}
