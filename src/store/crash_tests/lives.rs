//! Logs that live, crash at any moment, and live again: nothing that was acknowledged is lost, nothing deleted comes back.

use super::*;
use std::collections::{BTreeSet, VecDeque};

/// What the crash test believes.
#[derive(Default)]
struct Model {
    /// Stamp to (owner, body); acknowledged.
    kept: BTreeMap<u64, (u8, Vec<u8>)>,
    /// Given to a log, not acknowledged.
    hoped: BTreeMap<u64, (u8, Vec<u8>)>,
    /// Deletions not acknowledged: may have happened.
    doomed: BTreeSet<u64>,
    /// Deletions acknowledged.
    gone: BTreeSet<u64>,
    /// Value of the one state of each owner: acknowledged, and those that may have taken its place.
    states: BTreeMap<u8, (u64, Vec<u64>)>,
}

enum Promise {
    Message(u64),
    Deletion(u64),
    State(u8, u64),
}

#[test]
fn no_crash_at_any_moment_loses_what_was_acknowledged() {
    let from = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in from.map_or(1..600u64, |seed: u64| seed..seed + 1) {
        crash_loop(seed);
    }
}

/// Recovery by hints, by some of them, with one that rotted, and without any: the same.
fn hints_say_what_segments_say(disk: &Disk, found: &Recovered, directory: &Directory, cores: u16) {
    let said = |found: &Recovered, directory: &Directory| {
        let queues: Vec<Vec<Locator>> = (0..4u8).map(|owner| queued(found, directory, &[owner])).collect();
        let rest = |home: &super::super::recovery::HomeRecovered| {
            (
                home.states.clone(),
                home.fingerprints.clone(),
                home.twins.clone(),
                home.losers.clone(),
                home.parts.clone(),
            )
        };
        let groups: Vec<u64> = found.logs.iter().map(|log| log.group).collect();
        let segments = found.segments(1 << 20, 1 << 21, KEY).list();
        let live: Vec<(u32, u64)> = segments.iter().map(|(number, state)| (number.0, state.live())).collect();
        (queues, found.homes.iter().map(rest).collect::<Vec<_>>(), groups, live, found.highest_stamp, found.report.dead)
    };
    let with = said(found, directory);
    for kept in 0..3 {
        let mut other = disk.clone();
        match kept {
            0 => other.hints.clear(),
            1 => other.hints.retain(|(_, segment), _| segment.0 % 2 == 0),
            _ => {
                for hint in other.hints.values_mut() {
                    let mut rotten = hint.to_vec();
                    let at = rotten.len() / 2;
                    rotten[at] ^= 4;
                    *hint = rotten.into();
                }
            }
        }
        let (without, directory) = recovered(&other, cores);
        assert_eq!(without.report.damaged, 0, "{:?}", without.report.damage);
        assert_eq!(said(&without, &directory), with);
        assert_eq!(without.report.hints_broken, if kept == 2 { found.report.hinted } else { 0 });
    }
}

/// Whoever starts from one disk finds the same in it, with as many cores as may be; a second time, too.
fn starts_agree(disk: &Disk, found: &Recovered, directory: &Directory) {
    let said = |found: &Recovered, directory: &Directory| {
        let homes = || found.homes.iter();
        let mut fingerprints: Vec<_> = homes().flat_map(|home| home.fingerprints.clone()).collect();
        fingerprints.sort_unstable();
        let mut states: Vec<_> = homes().flat_map(|home| home.states.clone()).collect();
        states.sort_by_key(|state| state.extent.place);
        let mut twins: Vec<_> = homes().flat_map(|home| home.twins.clone()).collect();
        twins.sort_by_key(Locator::place);
        let queues: Vec<Vec<Locator>> = (0..4u8).map(|owner| queued(found, directory, &[owner])).collect();
        (queues, states, fingerprints, twins, found.highest_stamp, found.report.dead, found.report.torn.clone())
    };
    let first = said(found, directory);
    for cores in 1..=3 {
        let (other, directory) = recovered(disk, cores);
        assert_eq!(said(&other, &directory), first, "with {cores} cores");
    }
}

fn crash_loop(seed: u64) {
    let mut luck = Luck(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut disk, mut model, mut reserved, mut clock) = (Disk::default(), Model::default(), 0u32, 0u64);
    for life in 0..8 {
        let cores = 1 + luck.below(3) as u16;
        let (found, directory) = recovered(&disk, cores);
        assert_eq!(
            found.report.damaged, 0,
            "seed {seed} life {life}: a crash is not damage: {:?}",
            found.report.damage
        );
        hints_say_what_segments_say(&disk, &found, &directory, cores);
        starts_agree(&disk, &found, &directory);
        disk.clear_away(&found);
        let segments = found.segments(reserved, reserved + 200, KEY);
        reserved += 200;
        let mut present: BTreeMap<u64, Locator> = BTreeMap::new();
        for owner in 0..4u8 {
            let queue = queued(&found, &directory, &[owner]);
            assert!(queue.is_sorted_by_key(Locator::stamp));
            for (locator, got) in queue.iter().zip(read(&segments, &mut disk, &[owner], &queue)) {
                let stamp = locator.stamp().0;
                let expected = model.kept.get(&stamp).or_else(|| model.hoped.get(&stamp));
                assert_eq!(Some(&(owner, got.expect("readable"))), expected, "seed {seed} life {life}");
                present.insert(stamp, *locator);
            }
        }
        for stamp in model.kept.keys() {
            let may_be_gone = model.gone.contains(stamp) || model.doomed.contains(stamp);
            assert!(present.contains_key(stamp) || may_be_gone, "seed {seed} life {life}: {stamp} is lost");
        }
        assert!(
            model.gone.iter().all(|stamp| !present.contains_key(stamp)),
            "seed {seed} life {life}: a deleted one is back"
        );
        for state in found.homes.iter().flat_map(|home| &home.states) {
            let value = u64::from_le_bytes((*state.value).try_into().unwrap());
            let (sure, maybe) = &model.states[&state.owner[0]];
            assert!(value == *sure || maybe.contains(&value), "seed {seed} life {life}: an old state is back");
        }
        // What is there now is there for good.
        let hoped = std::mem::take(&mut model.hoped);
        model.kept.extend(hoped);
        model.kept.retain(|stamp, _| present.contains_key(stamp));
        model.doomed.clear();
        for (owner, (sure, maybe)) in &mut model.states {
            maybe.clear();
            let states = found.homes.iter().flat_map(|home| &home.states);
            let value = states.filter(|state| state.owner[0] == *owner).map(|state| (*state.value).try_into().unwrap());
            *sure = value.map(u64::from_le_bytes).next().unwrap_or(0);
        }

        let stamps = |core| Stamps::new(CoreId(core), found.highest_stamp, now(clock));
        let mut stamps: Vec<Stamps> = (0..cores).map(stamps).collect();
        let resumes = found.logs.clone().into_iter().enumerate();
        let mut logs: Vec<Log> =
            resumes.map(|(core, resume)| Log::new(setup(core as u16), resume, segments.clone())).collect();
        let mut promises: Vec<VecDeque<(Seq, Promise)>> = (0..cores).map(|_| VecDeque::new()).collect();
        let mut ops: Vec<DiskOp> = Vec::new();
        for _ in 0..luck.below(120) {
            clock += luck.below(50);
            let core = luck.below(u64::from(cores)) as usize;
            let stamp = stamps[core].next(now(clock));
            match luck.below(8) {
                0..=2 => {
                    let (owner, len) = (luck.below(4) as u8, luck.below(1_500) as usize);
                    let octets = vec![luck.below(256) as u8; len];
                    if let Ok((locator, seq)) = logs[core].append_message(draft(&[owner], stamp, &octets)) {
                        model.hoped.insert(stamp.0, (owner, octets));
                        present.insert(stamp.0, locator);
                        promises[core].push_back((seq, Promise::Message(stamp.0)));
                    }
                }
                3 => {
                    let candidates: Vec<u64> = model.kept.keys().copied().collect();
                    if candidates.is_empty() {
                        continue;
                    }
                    let victim = candidates[luck.below(candidates.len() as u64) as usize];
                    if let Ok(seq) = logs[core].append_tombstones(&[present[&victim].place()]) {
                        model.doomed.insert(victim);
                        promises[core].push_back((seq, Promise::Deletion(victim)));
                    }
                }
                4 => {
                    let owner = luck.below(4) as u8;
                    let value = stamp.0.to_le_bytes();
                    if let Ok((_, seq)) = logs[core].append_state(StateKind::Settings, stamp, &[owner], b"", &value) {
                        model.states.entry(owner).or_default().1.push(stamp.0);
                        promises[core].push_back((seq, Promise::State(owner, stamp.0)));
                    }
                }
                5 => logs[core].turn(&mut ops),
                _ if !ops.is_empty() => {
                    let op = ops.remove(luck.below(ops.len() as u64) as usize);
                    let log = match &op {
                        DiskOp::Prepare { log, .. } | DiskOp::Commit { log, .. } | DiskOp::WriteHint { log, .. } => {
                            log.index()
                        }
                        _ => unreachable!("a log neither reads nor removes"),
                    };
                    let Some(LogEvent::Durable { up_to }) = logs[log].done(disk.serve(op)) else { continue };
                    while promises[log].front().is_some_and(|(seq, _)| *seq <= up_to) {
                        let Some((_, promise)) = promises[log].pop_front() else { break };
                        match promise {
                            Promise::Message(stamp) => {
                                model.kept.extend(model.hoped.remove_entry(&stamp));
                            }
                            Promise::Deletion(stamp) => {
                                model.gone.insert(stamp);
                            }
                            Promise::State(owner, value) => {
                                let state = model.states.entry(owner).or_default();
                                state.0 = state.0.max(value);
                                state.1.retain(|maybe| *maybe > state.0);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        for op in ops {
            disk.crash_during(op, &mut luck);
        }
    }
}
