//! 12.2.2.6 Delivery Report for deleted Messages: who asked for it hears that a message will never be delivered; once.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use deferd_kit::{
    WAIT,
    agents::{Client, SipCore},
    daemon::{Daemon, DaemonOptions},
    log::Log,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sdp::{Answer, Sdp, Setup},
    sip::SipMessage,
};

use crate::{
    DEFERD,
    selection::{DEFERRED, ack, asking, expect_bye, expect_no, expect_notify, ids, invite, refer, refer_quietly, uri},
};

/// A daemon behind a core that brings alice what is for her.
fn scene() -> (Scene, SipCore, Client) {
    scene_with("")
}

/// The same with lines of [policy].
fn scene_with(policy: &str) -> (Scene, SipCore, Client) {
    let log = Log::new();
    let core = SipCore::new(&log, Transport::Udp, false);
    let options = DaemonOptions::new(DEFERD).line("policy", "push_min_interval = \"0s\"");
    let mut options = policy.lines().fold(options, |options, line| options.line("policy", line));
    options.outbound_proxy = Some(core.proxy());
    let scene = Scene { log, daemon: Daemon::start(options) };
    let alice = scene.client(Transport::Udp, ALICE, scene.daemon.sip());
    core.route(&alice);
    (scene, core, alice)
}

fn deposit(scene: &Scene, id: &str, wants: &str) -> SipMessage {
    let alice = scene.alice();
    alice.deposit(alice.text(BOB, "").with_body("message/cpim", asking(id, wants, "hello")))
}

/// The next report for this client, answered 200.
#[track_caller]
fn expect_report(client: &Client) -> SipMessage {
    let received = client.inbox.expect_request("MESSAGE");
    client.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "x"));
    received.message
}

/// Retrieves all that waits, which is one message, up to the server's BYE.
fn retrieve_one(client: &Client) {
    let msrp = client.msrp(Setup::Active);
    let request = invite(client, &Answer::new(msrp.path(), Setup::Active).write());
    let ok = client.exchange(&request);
    ack(client, &request, &ok);
    msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
    msrp.expect_messages(1);
    expect_bye(client, &request);
}

//= 12.2.2.6-1: SHALL check whether the deleted messages include a Failure Delivery Report request as defined in IMDN
//= 12.2.2.6-2: SHALL use SIP MESSAGE to send a Failure Delivery Report to the original sender
//= 12.2.2.7-3: SHALL act according to 12.2.2.6
#[test]
fn the_sender_of_a_deleted_message_hears_of_it() {
    let (scene, core, alice) = scene();
    let mut bob = scene.bob();
    core.route(&bob);
    deposit(&scene, "34jk324j", "positive-delivery, negative-delivery");
    deposit(&scene, "quiet", "positive-delivery");
    scene.alice().message(BOB, "plain");
    let ids = ids(&mut bob, 3);
    for id in &ids {
        assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(id))).code(), 200);
    }
    let report = expect_report(&alice);
    assert_eq!((report.uri(), report.header("Content-Type")), (ALICE, Some("message/cpim")));
    assert_eq!(report.header("P-Asserted-Identity"), Some(format!("<{BOB}>").as_str()));
    assert!(report.header("From").unwrap().starts_with(&format!("<{BOB}>;tag=")));
    assert!(report.header("User-Agent").unwrap().starts_with("IM-serv/OMA1.0"));
    let charged = report.header("P-Charging-Vector").unwrap();
    assert!(charged.starts_with("icid-value=\"") && charged.ends_with("\";orig-ioi=example.org"), "{charged}");
    let body = String::from_utf8(report.body).unwrap();
    let (head, rest) = body.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!(
        "From: <{BOB}>\r\nTo: <{ALICE}>\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: "
    )));
    assert!(!head.contains("Disposition-Notification"), "no report about a report");
    let (mime, xml) = rest.split_once("\r\n\r\n").unwrap();
    assert!(mime.starts_with("Content-Type: message/imdn+xml\r\nContent-Disposition: notification\r\n"), "{mime}");
    for part in [
        "<message-id>34jk324j</message-id>",
        "<datetime>2026-02-01T10:00:00Z</datetime>",
        "<recipient-uri>sip:bob@example.org</recipient-uri>",
        "<delivery-notification><status><failed/></status></delivery-notification>",
    ] {
        assert!(xml.contains(part), "{part}: {xml}");
    }
    expect_no(&alice, "MESSAGE");
}

//= RFC 5438 7.2.1: the IMDN is sent to the URI in the top IMDN-Route header field
#[test]
fn a_report_goes_back_the_way_the_message_came() {
    let (scene, core, _alice) = scene();
    let list = scene.client(Transport::Udp, "sip:list@example.net", scene.daemon.sip());
    core.route(&list);
    let routes =
        "imdn.IMDN-Record-Route: <sip:list@example.net>\r\nimdn.IMDN-Record-Route: <sip:first@example.net>\r\n";
    let body = asking("routed", "negative-delivery", "hello").replacen(
        "imdn.Message-ID",
        &format!("{routes}imdn.Message-ID"),
        1,
    );
    let sender = scene.alice();
    sender.deposit(sender.text(BOB, "").with_body("message/cpim", body));
    let bob = scene.bob();
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    let report = expect_report(&list);
    assert_eq!(report.uri(), "sip:list@example.net");
    let body = String::from_utf8(report.body).unwrap();
    let at = |line: &str| body.find(line).unwrap_or_else(|| panic!("{line}: {body}"));
    assert!(at("imdn.IMDN-Route: <sip:list@example.net>") < at("imdn.IMDN-Route: <sip:first@example.net>"), "{body}");
    assert!(body.contains(&format!("To: <{ALICE}>")), "{body}");
}

/// The sender of what goes into the DELETE bin is told at once, and not again when it is purged.
#[test]
fn who_is_told_of_a_deletion_does_not_wait_for_the_purge() {
    let (scene, _core, alice) = scene_with("bin_retention = \"2s\"");
    let bob = scene.bob();
    deposit(&scene, "binned", "negative-delivery");
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    let told = Instant::now();
    expect_report(&alice);
    assert!(told.elapsed() < Duration::from_secs(2), "before the purge");
    let again = alice.inbox.find(Duration::from_secs(3), |message| message.method() == "MESSAGE");
    assert!(again.is_none(), "and once");
}

//= 12.2.2.7: the order is: delete, 200 OK, delivery report, metadata, NOTIFY
#[test]
fn the_answer_comes_first_and_the_notification_last() {
    let scene = Scene::new(DEFERD);
    // Everything takes one connection, so that it is heard in the order in which it was said.
    let mut bob = scene.bob();
    let alice = bob.request_to("PUBLISH", ALICE).set("P-Asserted-Identity", format!("<{ALICE}>"));
    let document = deferd_kit::agents::pidf_document(ALICE, true);
    let alice = alice.with("Event", "presence").with_body("application/pidf+xml", document);
    assert_eq!(bob.exchange(&alice).code(), 200);
    deposit(&scene, "1", "negative-delivery");
    ids(&mut bob, 1);
    let request = refer(&bob, DEFERRED);
    assert_eq!(bob.exchange(&request).code(), 200);
    expect_report(&bob);
    expect_notify(&bob, &request);
    let entries = scene.log.entries();
    let said: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.octets)).collect();
    let place = |what: &dyn Fn(&str) -> bool| said.iter().position(|octets| what(octets)).unwrap();
    let answer = place(&|octets| octets.starts_with("SIP/2.0 200") && octets.contains("1 REFER"));
    let report = place(&|octets| octets.starts_with("MESSAGE sip:alice"));
    let notify = place(&|octets| octets.starts_with("NOTIFY"));
    assert!(answer < report && report < notify, "{answer} {report} {notify}");
}

#[test]
fn the_sender_of_an_expired_message_hears_of_it() {
    let (scene, _core, alice) = scene();
    let sender = scene.alice();
    let request = sender.text(BOB, "").with("Expires", "1");
    sender.deposit(request.with_body("message/cpim", asking("old", "negative-delivery", "hello")));
    let body = String::from_utf8(expect_report(&alice).body).unwrap();
    assert!(body.contains("<message-id>old</message-id>") && body.contains("<failed/>"), "{body}");
    expect_no(&alice, "MESSAGE");
}

/// Bob's message is kept beyond its time; a daemon that has written it down.
fn kept_beyond_its_time(more: &str) -> (Scene, SipCore, Client) {
    let (scene, core, alice) = scene_with(&format!("expired = \"keep\"\n{more}"));
    let sender = scene.alice();
    let request = sender.text(BOB, "").with("Expires", "1");
    sender.deposit(request.with_body("message/cpim", asking("kept", "negative-delivery", "hello")));
    until_kept(&scene);
    (scene, core, alice)
}

/// Waits until bob's message is retained, and said to have expired.
#[track_caller]
fn until_kept(scene: &Scene) {
    let socket = scene.config().with_file_name("control.sock");
    let since = Instant::now();
    loop {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        writeln!(stream, r#"{{"do":"queue","user":"{BOB}"}}"#).expect("sent");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        if line.contains("\"retained\"") {
            return assert!(line.contains("\"expired\""), "{line}");
        }
        assert!(since.elapsed() < WAIT, "not kept yet: {line}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The report on what was kept beyond its time, and nothing after it.
#[track_caller]
fn expect_one_report(alice: &Client) {
    let body = String::from_utf8(expect_report(alice).body).unwrap();
    assert!(body.contains("<message-id>kept</message-id>") && body.contains("<failed/>"), "{body}");
    expect_no(alice, "MESSAGE");
}

/// What is kept beyond its time is not deleted yet: its sender hears of it when it is, however that comes about.
//= 12.2.2.6-1: SHALL check whether the deleted messages include a Failure Delivery Report request as defined in IMDN
#[test]
fn the_sender_of_what_was_kept_beyond_its_time_hears_of_its_deletion() {
    let (scene, _core, alice) = kept_beyond_its_time("");
    expect_no(&alice, "MESSAGE");
    let bob = scene.bob();
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    expect_one_report(&alice);
}

/// The daemon is killed between the message's expiry and its deletion, and again when its report was taken.
#[test]
fn what_was_kept_beyond_its_time_is_reported_after_a_restart_and_once() {
    let (mut scene, core, alice) = kept_beyond_its_time("bin_retention = \"1s\"");
    scene.kill9();
    scene.restart(2);
    let mut bob = scene.bob_udp();
    core.route(&bob);
    // It is not new again, and nobody has heard of it.
    scene.nothing_waits(&mut bob);
    expect_no(&alice, "MESSAGE");
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    expect_one_report(&alice);
    scene.kill9();
    scene.restart(1);
    // The time in the DELETE bin is over meanwhile.
    let again = alice.inbox.find(Duration::from_secs(2), |message| message.method() == "MESSAGE");
    assert!(again.is_none(), "and once");
}

/// An operator who no longer keeps what has expired: the start deletes it, and its sender hears of that.
#[test]
fn what_was_kept_is_reported_when_the_policy_is_changed() {
    let (mut scene, _core, alice) = kept_beyond_its_time("");
    scene.restart_with("policy", "expired = \"delete\"");
    expect_one_report(&alice);
}

/// Room is made by what is oldest: by what was kept.
#[test]
fn what_was_kept_is_reported_when_it_makes_room() {
    let (scene, _core, alice) = kept_beyond_its_time("[policy.quota]\nmessages = 1\npolicy = \"drop_oldest\"");
    scene.alice().message(BOB, "a later one");
    expect_one_report(&alice);
}

/// RFC 5438: never after delivery. It was kept beyond its time, and had all the same, before a restart.
#[test]
fn who_retrieved_what_was_kept_was_not_failed() {
    let (mut scene, core, alice) = kept_beyond_its_time("");
    let bob = scene.bob_udp();
    core.route(&bob);
    retrieve_one(&bob);
    scene.kill9();
    scene.restart(1);
    let bob = scene.bob_udp();
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    expect_no(&alice, "MESSAGE");
}

/// Its time was over while the daemon was down: it expires at the start.
#[test]
fn what_expired_while_nobody_ran_is_reported_at_the_start() {
    let (mut scene, core, alice) = scene();
    let sender = scene.alice();
    let request = sender.text(BOB, "").with("Expires", "2");
    sender.deposit(request.with_body("message/cpim", asking("late", "negative-delivery", "hello")));
    scene.kill9();
    expect_no(&alice, "MESSAGE");
    thread::sleep(Duration::from_secs(2));
    scene.restart(1);
    let body = String::from_utf8(expect_report(&alice).body).unwrap();
    assert!(body.contains("<message-id>late</message-id>") && body.contains("<failed/>"), "{body}");
    let mut bob = scene.bob_udp();
    core.route(&bob);
    scene.nothing_waits(&mut bob);
}

/// Nor after a retrieval.
#[test]
fn who_retrieved_the_message_was_not_failed() {
    let (scene, core, alice) = scene();
    let bob = scene.bob_udp();
    core.route(&bob);
    deposit(&scene, "fetched", "negative-delivery");
    retrieve_one(&bob);
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    expect_no(&alice, "MESSAGE");
}

/// RFC 5438: never after delivery.
#[test]
fn who_had_the_message_was_not_failed() {
    let (scene, core, alice) = scene_with("after_push = \"retain\"");
    let mut bob = scene.bob_udp();
    core.route(&bob);
    let deposit = deposit(&scene, "had", "negative-delivery");
    scene.push_brings(&mut bob, &[deposit]);
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    expect_no(&alice, "MESSAGE");
}

#[test]
fn a_report_that_was_owed_survives_the_daemon_and_is_sent_once() {
    let (mut scene, core, alice) = scene();
    let mut bob = scene.bob_udp();
    core.route(&bob);
    deposit(&scene, "1", "negative-delivery");
    ids(&mut bob, 1);
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    let first = alice.inbox.expect_request("MESSAGE").message;
    scene.kill9();
    scene.restart(1);
    let again = expect_report(&alice);
    let id = |message: &SipMessage| {
        let body = String::from_utf8_lossy(&message.body).into_owned();
        body.lines().find(|line| line.starts_with("imdn.Message-ID")).map(str::to_string)
    };
    assert_eq!(id(&first), id(&again), "the same report");
    // Taken now: the next start owes nothing.
    thread::sleep(Duration::from_millis(300));
    scene.kill9();
    scene.restart(1);
    expect_no(&alice, "MESSAGE");
}

//= RFC 3428 8: a UAC MUST NOT initiate a new MESSAGE to a URI while one is outstanding
#[test]
fn one_destination_gets_one_report_at_a_time() {
    let (scene, core, alice) = scene();
    let bob = scene.bob_udp();
    core.route(&bob);
    for id in ["1", "2", "3"] {
        deposit(&scene, id, "negative-delivery");
    }
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let received = alice.inbox.expect_request("MESSAGE");
        let early = alice.inbox.find(Duration::from_millis(200), |other| {
            other.method() == "MESSAGE" && other.call_id() != received.message.call_id()
        });
        assert!(early.is_none(), "the next one waits for the answer to the last");
        let body = String::from_utf8_lossy(&received.message.body).into_owned();
        seen.push(body.split("<message-id>").nth(1).and_then(|rest| rest.chars().next()).unwrap());
        alice.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "x"));
    }
    assert_eq!(seen, ['1', '2', '3'], "in the order of the messages");
}

/// Where there is no SIP/IP core, a report goes the way the sender's own PUBLISH came.
#[test]
fn without_a_core_a_report_takes_the_senders_flow() {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 2;
    let scene = Scene::with(options);
    let mut alice = scene.client(Transport::Tcp, ALICE, scene.daemon.sip());
    alice.publish_presence(true);
    let bob = scene.bob();
    deposit(&scene, "1", "negative-delivery");
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    assert!(String::from_utf8_lossy(&expect_report(&alice).body).contains("<failed/>"));
}

//= RFC 5438 8.1: the intermediary MAY send a "stored" notification, only if "processing" was asked for
#[test]
fn who_asks_is_told_that_the_message_is_stored() {
    let (scene, _core, alice) = scene();
    deposit(&scene, "kept", "processing");
    deposit(&scene, "other", "display");
    let body = String::from_utf8(expect_report(&alice).body).unwrap();
    assert!(body.contains("<message-id>kept</message-id>"), "{body}");
    assert!(body.contains("<processing-notification><status><stored/></status></processing-notification>"), "{body}");
    expect_no(&alice, "MESSAGE");
}

#[test]
fn the_operator_may_keep_deletions_to_the_user() {
    let (scene, _core, alice) = scene_with("report_user_delete = false\nprocessing_imdn = false");
    let bob = scene.bob();
    deposit(&scene, "1", "negative-delivery, processing");
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    expect_no(&alice, "MESSAGE");
}
