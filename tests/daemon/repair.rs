//! What keeps a daemon from starting on its data directory, and the command that mends it: said first, done with `--yes`.

use crate::{
    DEFERD,
    deferctl::{CAROL, deferctl, refused, said, segments},
    kill_nine::hardy,
};
use deferd_kit::{
    scene::{BOB, Scene},
    sip::SipMessage,
};
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

/// Three segments of messages for bob and one for carol, who is read last; the daemon is dead.
fn scene() -> (Scene, Vec<SipMessage>, SipMessage) {
    let mut scene = Scene::with(hardy(1));
    let alice = scene.alice_tcp();
    let waiting = (0..150).map(|number| alice.message(BOB, &format!("{number:03}{}", "x".repeat(20_000)))).collect();
    let last = alice.message(CAROL, "the last, with a mark: XYZZY");
    // The first segments have been left, and their indexes are written.
    let indexes =
        || segments(scene.daemon.data_dir()).iter().filter(|path| path.with_extension("hint").exists()).count();
    crate::until("the indexes", || indexes() >= 2);
    scene.kill9();
    (scene, waiting, last)
}

/// What a start says when it ends with exit code 1.
#[track_caller]
fn start_fails(scene: &Scene) -> String {
    let run = Command::new("timeout").args(["10", DEFERD, "run", "--config"]).arg(scene.config()).output();
    let output = run.expect("coreutils has timeout");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("deferctl repair"), "{said}");
    said
}

/// Only said: exit code 1 and nothing has changed. Then done.
#[track_caller]
fn repaired(scene: &Scene, further: &[&str]) -> Value {
    let before: Vec<PathBuf> = segments(scene.data_dir());
    let manifest = fs::read(scene.data_dir().join("manifest")).ok();
    let only_said: Output = deferctl(scene, &[&["repair", "--json"], further].concat());
    assert_eq!(only_said.status.code(), Some(1), "{}", String::from_utf8_lossy(&only_said.stderr));
    assert_eq!((segments(scene.data_dir()), fs::read(scene.data_dir().join("manifest")).ok()), (before, manifest));
    let done = said(scene, &[&["repair", "--yes"], further].concat());
    let only_said: Value = serde_json::from_slice(&only_said.stdout).expect("JSON");
    assert_eq!((&only_said["steps"], &only_said["messages"]), (&done["steps"], &done["messages"]));
    let again = said(scene, &["repair"]);
    assert_eq!(again["steps"].as_array().map(Vec::len), Some(0), "{again}");
    done
}

fn words(outcome: &Value) -> Vec<&str> {
    outcome["steps"].as_array().expect("steps").iter().filter_map(|step| step["step"].as_str()).collect()
}

#[test]
fn a_sound_directory_needs_no_repair_and_a_daemon_s_is_left_alone() {
    let (mut scene, waiting, _) = scene();
    let outcome = said(&scene, &["repair"]);
    assert_eq!((words(&outcome), outcome["messages"].as_u64()), (vec![], Some(151)));
    scene.restart(1);
    assert!(refused(&scene, &["repair", "--yes"]).contains("in use by another deferd"));
    scene.push_brings(&mut scene.bob(), &waiting);
}

#[test]
fn a_missing_segment_is_given_up_and_its_messages_are_named() {
    let (mut scene, waiting, _) = scene();
    let lost = segments(scene.data_dir()).remove(0);
    fs::rename(&lost, scene.data_dir().join("elsewhere")).expect("moved");
    let name = lost.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    assert!(start_fails(&scene).contains(&name));
    let outcome = repaired(&scene, &[]);
    assert_eq!(words(&outcome), ["forget"]);
    let named = outcome["steps"][0]["lost"].as_array().expect("a list");
    assert!(
        named.len() > 20 && named.iter().all(|lost| lost["user"] == BOB && lost["accepted"].is_string()),
        "{outcome}"
    );
    assert_eq!(outcome["messages"].as_u64(), Some(151 - named.len() as u64));
    scene.restart(2);
    // What is lost was the oldest; all the rest comes, in order.
    scene.push_brings(&mut scene.bob(), &waiting[named.len()..]);
}

/// A log copied beside itself, and a segment of another data directory under a number that was never used here.
#[test]
fn a_file_that_does_not_belong_is_set_aside() {
    let (mut scene, waiting, _) = scene();
    let (mut other, ..) = self::scene();
    other.restart(1);
    let alice = other.alice_tcp();
    (0..100).for_each(|number| drop(alice.message(BOB, &format!("{number:03}{}", "z".repeat(20_000)))));
    other.kill9();
    let is_written = |path: &PathBuf| fs::read(path).is_ok_and(|octets| octets[4_096..].starts_with(b"DGRP"));
    let ours: Vec<PathBuf> =
        segments(scene.data_dir()).iter().filter_map(|path| Some(path.file_name()?.into())).collect();
    let is_new = |path: &PathBuf| path.file_name().is_some_and(|name| !ours.iter().any(|our| our.as_os_str() == name));
    let foreign = segments(other.data_dir()).into_iter().rfind(|path| is_written(path) && is_new(path)).expect("one");
    let name = foreign.file_name().expect("a name");
    fs::copy(&foreign, scene.data_dir().join("log-0").join(name)).expect("copied");
    assert!(start_fails(&scene).contains(name.to_str().expect("text")));
    let twice = segments(scene.data_dir()).remove(0);
    fs::create_dir(scene.data_dir().join("log-7")).expect("made");
    fs::copy(&twice, scene.data_dir().join("log-7").join(twice.file_name().expect("a name"))).expect("copied");
    assert!(start_fails(&scene).contains("two files"));
    let outcome = repaired(&scene, &[]);
    assert_eq!(words(&outcome), ["set-aside", "set-aside"]);
    assert_eq!(outcome["messages"].as_u64(), Some(151));
    assert_eq!(fs::read_dir(scene.data_dir().join("set-aside")).expect("made").count(), 2);
    scene.restart(1);
    scene.push_brings(&mut scene.bob(), &waiting);
}

#[test]
fn a_manifest_older_than_the_logs_is_brought_up_to_date() {
    let (mut scene, waiting, _) = scene();
    let path = scene.data_dir().join("manifest");
    let old = fs::read(&path).expect("readable");
    scene.restart(1);
    let alice = scene.alice_tcp();
    let more: Vec<SipMessage> =
        (0..120).map(|number| alice.message(BOB, &format!("more {number:03}{}", "y".repeat(20_000)))).collect();
    scene.kill9();
    fs::write(&path, old).expect("written");
    start_fails(&scene);
    // Without --adopt they would be set aside, and said to be ours.
    let plan = deferctl(&scene, &["repair", "--json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).expect("JSON");
    assert!(words(&plan).iter().all(|word| *word == "set-aside") && plan.to_string().contains("--adopt"), "{plan}");
    let outcome = repaired(&scene, &["--adopt"]);
    assert!(words(&outcome).iter().all(|word| *word == "adopt"), "{outcome}");
    assert_eq!(outcome["messages"].as_u64(), Some(271));
    scene.restart(1);
    scene.push_brings(&mut scene.bob(), &[waiting, more].concat());
}

#[test]
fn a_manifest_that_is_gone_or_rotten_is_made_anew() {
    let (mut scene, mut waiting, _) = scene();
    let path = scene.data_dir().join("manifest");
    let mut octets = fs::read(&path).expect("readable");
    octets[50] ^= 1;
    fs::write(&path, octets).expect("written");
    for round in 0..2 {
        start_fails(&scene);
        let outcome = repaired(&scene, &[]);
        assert_eq!(words(&outcome)[0], "new-manifest");
        assert_eq!(
            (outcome["messages"].as_u64(), outcome["damaged"].as_u64()),
            (Some(151 + round), Some(0)),
            "{outcome}"
        );
        scene.restart(1);
        waiting.push(scene.alice_tcp().message(BOB, "after the repair"));
        scene.kill9();
        fs::remove_file(&path).expect("removed");
    }
    repaired(&scene, &[]);
    scene.restart(2);
    scene.push_brings(&mut scene.bob(), &waiting);
    // What was delivered stays so.
    scene.kill9();
    scene.restart(1);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    assert!(bob.invite_within(Duration::from_millis(500)).is_none(), "delivered, and pushed again");
}

#[test]
fn a_broken_index_is_dropped_and_every_broken_record_is_named() {
    let (mut scene, waiting, _) = scene();
    let index = segments(scene.data_dir()).remove(0).with_extension("hint");
    let mut octets = fs::read(&index).expect("readable");
    octets[200] ^= 1;
    fs::write(&index, octets).expect("written");
    let rotten = segments(scene.data_dir()).into_iter().find_map(|path| {
        let octets = fs::read(&path).expect("readable");
        let at = octets.windows(5).position(|window| window == b"XYZZY")?;
        Some((path, octets, at))
    });
    let (path, mut octets, at) = rotten.expect("carol's message");
    octets[at] ^= 1;
    fs::write(&path, octets).expect("written");
    // A later group vouches for it: else it would be a torn tail.
    let outcome = said(&scene, &["repair", "--yes"]);
    assert_eq!(words(&outcome), ["drop-index"], "{outcome}");
    assert!(!index.exists());
    scene.restart(1);
    scene.push_brings(&mut scene.bob(), &waiting);
}
