//! Why a message is no more: each way of going is written down with its time, and told by `deferctl log explain`; also what an
//! operator deletes.

use crate::{
    DEFERD,
    deferctl::{CAROL, ids, printed, refused, said},
};
use deferd_kit::{
    agents::{Client, SipCore},
    daemon::{Daemon, DaemonOptions},
    log::Log,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sip::SipMessage,
};
use serde_json::Value;
use std::time::Duration;

/// A daemon behind a core that brings alice what is for her, with lines of [policy].
fn scene(policy: &[&str]) -> (Scene, SipCore, Client) {
    let log = Log::new();
    let core = SipCore::new(&log, Transport::Udp, false);
    let mut options = DaemonOptions::new(DEFERD).line("policy", "push_min_interval = \"0s\"");
    // Small segments are read quickly.
    options = options.line("limits", "segment_octets = \"1MiB\"");
    options.outbound_proxy = Some(core.proxy());
    let options = policy.iter().fold(options, |options, line| options.line("policy", line));
    let scene = Scene { log, daemon: Daemon::start(options) };
    let alice = scene.client(Transport::Udp, ALICE, scene.daemon.sip());
    core.route(&alice);
    (scene, core, alice)
}

/// A deposit for bob whose sender wants to hear of a failure; its id.
fn deposit(scene: &Scene, name: &str) -> String {
    let cpim = format!(
        "From: <{ALICE}>\r\nTo: <{BOB}>\r\nDateTime: 2026-02-01T10:00:00Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: {name}\r\nimdn.Disposition-Notification: negative-delivery\r\n\r\n\
         Content-Type: text/plain\r\n\r\n{name}"
    );
    let alice = scene.alice();
    alice.deposit(alice.text(BOB, "").with_body("message/cpim", cpim));
    ids(&said(scene, &["queue", BOB])).pop().expect("it waits")
}

/// The events of a message's life, in order.
fn life(scene: &Scene, id: &str) -> (Vec<String>, Value) {
    let life = said(scene, &["log", "explain", id]);
    let events = life["events"].as_array().expect("events");
    (events.iter().map(|event| event["event"].as_str().expect("a word").to_owned()).collect(), life)
}

#[test]
fn what_an_operator_deletes_goes_the_way_of_its_users_deletion() {
    let (mut scene, _core, alice) = scene(&["bin_retention = \"1s\""]);
    let (first, second) = (deposit(&scene, "first"), deposit(&scene, "second"));
    let deleted = said(&scene, &["delete", &first]);
    assert_eq!((deleted["user"].as_str(), deleted["in_bin_for_s"].as_u64()), (Some(BOB), Some(1)));
    // Answered when it is durable: nothing is left to be waited for.
    assert_eq!(ids(&said(&scene, &["queue", BOB])), std::slice::from_ref(&second));
    let report = alice.inbox.expect_request("MESSAGE");
    alice.inbox.respond(&report, &SipMessage::response(&report.message, 200, "OK", "x"));
    let body = String::from_utf8(report.message.body).expect("text");
    assert!(body.contains("<message-id>first</message-id>") && body.contains("<failed/>"), "{body}");
    said(&scene, &["delete", &second, "--no-report"]);
    crate::until("the purge", || life(&scene, &second).0.last().is_some_and(|event| event == "purged"));
    let (events, told) = life(&scene, &first);
    assert_eq!(events, ["accepted", "binned", "purged"]);
    assert_eq!((told["gone"].as_bool(), told["because"].as_str()), (Some(true), Some("purged")));
    assert!(
        told["events"][1]["what"].as_str().is_some_and(|what| what.starts_with("deleted by the operator")),
        "{told}"
    );
    let second = |message: &SipMessage| String::from_utf8_lossy(&message.body).contains("<message-id>second");
    assert!(alice.inbox.find(Duration::from_millis(500), second).is_none(), "nobody was to hear of it");
    assert!(refused(&scene, &["delete", &first]).contains("no such message"));
    scene.assert_alive();
}

#[test]
fn each_way_of_going_is_written_down_and_survives_a_restart() {
    let (mut scene, core, _) = scene(&["after_push = \"retain\""]);
    let alice = scene.alice_tcp();
    let mut bob = scene.bob();
    core.route(&bob);
    let deposited = [alice.message(BOB, "kept")];
    let kept = ids(&said(&scene, &["queue", BOB])).remove(0);
    scene.push_brings(&mut bob, &deposited);
    let request = alice.text(CAROL, "short").with("Expires", "1");
    alice.deposit(request);
    let expired = ids(&said(&scene, &["queue", CAROL])).remove(0);
    alice.message(CAROL, "deleted");
    let deleted = ids(&said(&scene, &["queue", CAROL])).pop().expect("it waits");
    said(&scene, &["delete", &deleted]);
    crate::until("the expiry", || ids(&said(&scene, &["queue", CAROL])).is_empty());
    scene.kill9();
    scene.restart(1);
    let told = [(&kept, "kept", false), (&expired, "expired", true), (&deleted, "deleted-by-operator", true)];
    for (id, last, gone) in told {
        let (events, told) = life(&scene, id);
        assert_eq!(events, ["accepted", last], "{told}");
        assert_eq!(told["gone"].as_bool(), Some(gone));
        let times: Vec<&str> = (0..2).filter_map(|n| told["events"][n]["at"].as_str()).collect();
        assert!(times.len() == 2 && times.is_sorted(), "{told}");
    }
    let text = printed(&scene, &["log", "explain", &kept]);
    assert!(text.contains("pushed, and acknowledged by the user's client; kept for retrieval"), "{text}");
    scene.assert_alive();
}
