//! The operator's tool against a running daemon, and against its files when it is gone.

use crate::DEFERD;
use deferd_kit::{
    daemon::DaemonOptions,
    large::Large,
    peer::Transport,
    scene::{BOB, Scene},
    sdp::{Answer, Setup},
    sip::uri_of,
};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) const DEFERCTL: &str = env!("CARGO_BIN_EXE_deferctl");
pub(crate) const CAROL: &str = "sip:carol@example.org";

pub(crate) fn deferctl(scene: &Scene, arguments: &[&str]) -> Output {
    let config = scene.daemon.config();
    Command::new(DEFERCTL).arg("--config").arg(config).args(arguments).output().expect("deferctl runs")
}

/// What it says, as JSON.
#[track_caller]
pub(crate) fn said(scene: &Scene, arguments: &[&str]) -> Value {
    let output = deferctl(scene, &[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).expect("one JSON object")
}

/// Why it refuses.
#[track_caller]
pub(crate) fn refused(scene: &Scene, arguments: &[&str]) -> String {
    let output = deferctl(scene, arguments);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub(crate) fn printed(scene: &Scene, arguments: &[&str]) -> String {
    let output = deferctl(scene, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Two cores: each question has to find its way to the user's home.
fn scene() -> Scene {
    // Small segments are read quickly.
    let mut options = DaemonOptions::new(DEFERD).line("limits", "segment_octets = \"1MiB\"");
    options.cores = 2;
    Scene::with(options)
}

pub(crate) fn ids(queue: &Value) -> Vec<String> {
    let entries = queue["entries"].as_array().expect("entries");
    entries.iter().map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect()
}

/// The files of all segments below a data directory, or a backup.
pub(crate) fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let logs = std::fs::read_dir(data_dir).expect("the directory").flatten();
    let entries = logs.filter_map(|log| std::fs::read_dir(log.path()).ok()).flat_map(|files| files.flatten());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    let mut found: Vec<PathBuf> = entries.map(|file| file.path()).filter(is_segment).collect();
    found.sort();
    found
}

#[test]
fn a_queue_is_listed_in_order_whole_and_in_pieces() {
    let scene = scene();
    let alice = scene.alice_tcp();
    (0..150).for_each(|number| drop(alice.message(BOB, &format!("number {number}"))));
    alice.message(CAROL, "for carol");
    let queue = said(&scene, &["queue", BOB]);
    assert_eq!((queue["messages"].as_u64(), queue["user"].as_str()), (Some(150), Some(BOB)));
    let all = ids(&queue);
    assert_eq!(all.len(), 150, "more than one piece");
    // Ten digits of time; what follows is chance.
    assert!(all.is_sorted_by_key(|id| &id[..10]), "ids begin with the time of arrival");
    assert_eq!(ids(&said(&scene, &["queue", BOB, "--limit", "3"])), all[..3]);
    assert_eq!(said(&scene, &["queue", "nobody@example.org"])["messages"], 0);
    assert!(printed(&scene, &["queue", CAROL]).contains("1 messages"));

    let users = said(&scene, &["users", "--top", "5"]);
    let standing = users["users"].as_array().expect("users");
    assert_eq!((standing[0]["user"].as_str(), standing[0]["messages"].as_u64()), (Some(BOB), Some(150)));
    assert_eq!((standing[1]["user"].as_str(), standing[1]["messages"].as_u64()), (Some(CAROL), Some(1)));
    assert_eq!(standing.len(), 2);
}

#[test]
fn a_message_is_shown_found_without_its_owner_and_deleted() {
    let mut scene = scene();
    let alice = scene.alice_tcp();
    let deposited = [alice.message(BOB, "the first"), alice.message(BOB, "the second")];
    let all = ids(&said(&scene, &["queue", BOB]));
    let first = said(&scene, &["show", &all[0]]);
    assert_eq!(first["user"], BOB);
    assert!(first["body"].as_str().is_some_and(|body| body.contains("the first")), "{first}");
    assert!(refused(&scene, &["show", &all[0], "--user", CAROL]).contains("no such message"));
    assert!(refused(&scene, &["show", "00000000000000000000000000"]).contains("no such message"));
    assert!(refused(&scene, &["show", "nonsense"]).contains("no message id"));

    assert_eq!(said(&scene, &["delete", &all[0]])["deleted"], all[0].as_str());
    crate::until("the deletion", || ids(&said(&scene, &["queue", BOB])) == all[1..]);
    assert!(refused(&scene, &["delete", &all[0], "--user", BOB]).contains("no such message"));
    scene.assert_alive();
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposited[1..]);
}

#[test]
fn why_says_what_holds_a_message_back_and_push_does_what_a_publish_would() {
    let mut scene = scene();
    let alice = scene.alice_tcp();
    let deposited = [alice.message(BOB, "waits")];
    let why = said(&scene, &["why", BOB]);
    assert_eq!(why["because"], "the user has published nothing: offline");
    assert!(refused(&scene, &["why", "bob"]).contains("neither a message's id"));
    assert!(refused(&scene, &["push", BOB]).contains("nobody is there"));
    assert!(refused(&scene, &["push", CAROL]).contains("nothing waits"));
    // Bob declines: for ten minutes nothing would come of itself.
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    call.refuse(&call.response(486, "Busy Here"));
    let id = ids(&said(&scene, &["queue", BOB])).remove(0);
    crate::until("the refusal", || said(&scene, &["why", &id])["presence"]["last_outcome"] == "the user declined");
    let why = said(&scene, &["why", &id]);
    assert_eq!(why["message"]["standing"], "new");
    assert!(why["presence"]["next_attempt"].is_string(), "{why}");
    assert!(printed(&scene, &["why", &id]).contains("the user declined"));
    assert_eq!(said(&scene, &["push", BOB])["pushing"], true);
    scene.same(&bob.take_push(1), &deposited);
    scene.assert_alive();
}

#[test]
fn why_says_who_is_told_and_which_large_messages_wait_and_come() {
    let mut scene = scene();
    let none = said(&scene, &["why", BOB]);
    assert_eq!(
        (&none["large"], &none["receiving_large"], &none["summaries"]),
        (&0.into(), &0.into(), &Vec::<Value>::new().into())
    );
    let sender = scene.client(Transport::Tcp, "sip:alice@example.org", scene.daemon.sip());
    let large = Large::open(sender, BOB);
    large.deposit("waiting1", &vec![b'x'; 100_000], 50_000);
    scene.alice().message(BOB, "a pager message");
    let bob = scene.bob();
    let subscribe = bob.request("SUBSCRIBE").with("Contact", bob.contact.clone()).with("Event", "message-summary");
    assert_eq!(bob.exchange(&subscribe).code(), 200);
    let why = said(&scene, &["why", BOB]);
    assert_eq!((&why["messages"], &why["large"], &why["receiving_large"]), (&2.into(), &1.into(), &1.into()), "{why}");
    assert_eq!(why["summaries"].as_array().map(Vec::len), Some(1), "{why}");
    assert!(why["summaries"][0]["until"].is_string() && why["summaries"][0]["failures"] == 0, "{why}");
    let text = printed(&scene, &["why", BOB]);
    for line in
        ["of these large  1 messages", "coming          large messages, in 1 sessions", "told of them    a subscriber"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    large.bye();
    crate::until("the end of the session", || said(&scene, &["why", BOB])["receiving_large"] == 0);
    scene.assert_alive();
}

#[test]
fn a_drained_daemon_refuses_deposits_and_pushes_on() {
    let mut scene = scene();
    let alice = scene.alice_tcp();
    let deposited = [alice.message(BOB, "before")];
    assert_eq!(said(&scene, &["status"])["phase"], "ready");
    said(&scene, &["drain"]);
    let refusal = alice.exchange(alice.text(BOB, "meanwhile"));
    let response = refusal.response;
    assert_eq!(response.code(), 503);
    assert!(response.header("Retry-After").is_some());
    assert_eq!(said(&scene, &["status"])["phase"], "drained");
    let sender = scene.client(Transport::Tcp, "sip:alice@example.org", scene.daemon.sip());
    let offer = Large::offer(&sender.msrp(Setup::Active)).write();
    assert_eq!(sender.exchange(&Large::invite(&sender, BOB, &offer)).code(), 503, "a large message is a deposit");
    let mut bob = scene.bob();
    // Who comes for what is stored is served: it is the sooner gone.
    let answer = Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write();
    let retrieval =
        bob.request_to("INVITE", "sip:Deferred@mailserver.example.org").with("Contact", bob.contact.clone());
    let retrieval = retrieval.with_body("application/sdp", answer);
    let retrieved = bob.exchange(&retrieval);
    assert_eq!(retrieved.code(), 200, "{retrieved:?}");
    let target = uri_of(retrieved.header("Contact").unwrap()).to_string();
    let within = |method: &str, cseq: u32| {
        let request = bob.request_to(method, &target).set("From", retrieval.header("From").unwrap());
        let request = request.set("To", retrieved.header("To").unwrap()).set("Call-ID", retrieval.call_id());
        request.set("CSeq", format!("{cseq} {method}"))
    };
    bob.send_raw(&within("ACK", 1).write());
    assert_eq!(bob.exchange(&within("BYE", 2)).code(), 200);
    scene.push_brings(&mut bob, &deposited);
    said(&scene, &["drain", "--off"]);
    alice.message(BOB, "after");
    scene.assert_alive();
}

#[test]
fn reload_brings_a_new_policy_into_force_and_names_what_needs_a_restart() {
    let mut scene = scene();
    let alice = scene.alice_tcp();
    let path = scene.daemon.config();
    let before = std::fs::read_to_string(&path).expect("the configuration");
    assert_eq!(said(&scene, &["reload"])["policy_changed"], false);
    std::fs::write(&path, format!("{before}\n[policy.quota]\nmessages = 1\n")).expect("written");
    assert_eq!(said(&scene, &["reload"])["policy_changed"], true);
    alice.message(BOB, "one");
    assert_eq!(alice.exchange(alice.text(BOB, "two")).response.code(), 480, "over the new quota");
    std::fs::write(&path, before.replace("cores = 2", "cores = 1")).expect("written");
    assert_eq!(said(&scene, &["reload"])["needs_restart"][0], "server");
    alice.message(BOB, "the old quota holds again");
    std::fs::write(&path, format!("{before}\nnonsense = 1\n")).expect("written");
    // The tool reads the file, too: it is asked by its socket here.
    let socket = path.with_file_name("control.sock");
    let output = Command::new(DEFERCTL).arg("--socket").arg(&socket).arg("reload").output().expect("runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("nonsense"), "{error}");
    std::fs::write(&path, before).expect("written");
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for the daemon's user alone");
    scene.assert_alive();
}

#[test]
fn the_logs_tell_a_messages_life_and_verify_finds_a_flipped_bit() {
    let mut scene = scene();
    let alice = scene.alice_tcp();
    let deposited = [alice.message(BOB, "goes"), alice.message(CAROL, "stays, and has a mark: XYZZY")];
    let gone = ids(&said(&scene, &["queue", BOB])).remove(0);
    let stays = ids(&said(&scene, &["queue", CAROL])).remove(0);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposited[..1]);
    assert!(refused(&scene, &["verify"]).contains("in use by another deferd"));
    scene.daemon.kill9();

    let life = said(&scene, &["log", "explain", &gone]);
    assert_eq!((life["gone"].as_bool(), life["user"].as_str()), (Some(true), Some(BOB)));
    assert_eq!(life["events"].as_array().map(Vec::len), Some(2), "taken in and written off: {life}");
    assert_eq!((life["because"].as_str(), life["events"][1]["event"].as_str()), (Some("delivered"), Some("delivered")));
    assert!(life["events"][1]["at"].as_str() >= life["events"][0]["at"].as_str(), "{life}");
    assert_eq!(said(&scene, &["log", "explain", &stays])["gone"], false);
    assert!(refused(&scene, &["log", "explain", "00000000000000000000000000"]).contains("no record"));
    let list = printed(&scene, &["log", "list"]);
    assert!(list.contains(&gone) && list.contains(&stays) && list.contains("tombstones for 1: delivered 1"), "{list}");
    assert!(!printed(&scene, &["log", "list", "--user", BOB]).contains(&stays));
    assert!(printed(&scene, &["log", "show", &stays]).contains("XYZZY"));
    let exported = scene.daemon.data_dir().join("exported");
    printed(&scene, &["log", "export", exported.to_str().expect("text")]);
    let files: Vec<_> = std::fs::read_dir(&exported).expect("made").flatten().map(|file| file.file_name()).collect();
    assert_eq!(files, [std::ffi::OsString::from(format!("{stays}.eml"))], "only what is not gone");
    assert!(said(&scene, &["verify"])["sound"].as_bool().expect("a verdict"));

    // One bit of carol's message.
    let mut flipped = 0;
    for segment in segments(scene.daemon.data_dir()) {
        let mut octets = std::fs::read(&segment).expect("readable");
        if let Some(at) = octets.windows(5).position(|window| window == b"XYZZY") {
            octets[at] ^= 4;
            flipped += 1;
            std::fs::write(segment, octets).expect("written");
        }
    }
    assert_eq!(flipped, 1);
    let verdict = deferctl(&scene, &["verify", "--json"]);
    assert_eq!(verdict.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&verdict.stdout).expect("JSON");
    assert!(!verdict["sound"].as_bool().expect("a verdict"));
    assert!(!verdict["findings"].as_array().expect("findings").is_empty());
}

#[test]
fn a_daemon_that_is_not_there_is_said_to_be_not_there() {
    let mut scene = scene();
    scene.daemon.kill9();
    assert!(refused(&scene, &["status"]).contains("the daemon does not run"));
    let output = Command::new(DEFERCTL).args(["--socket", "/nowhere/control.sock", "status"]).output().expect("runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no control socket"));
}
