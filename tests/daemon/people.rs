//! `im`, the client for people, walks through every procedure with a daemon that works: what the README shows is what happens.

use crate::DEFERD;
use deferd_kit::{
    daemon::DaemonOptions,
    scene::{ALICE, BOB, Scene},
};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const IM: &str = env!("CARGO_BIN_EXE_im");

/// Two cores: what is asked has to find its way to the user's home.
fn scene() -> Scene {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 2;
    Scene::with(options)
}

fn im_over(scene: &Scene, transport: &str, user: &str, arguments: &[&str]) -> Output {
    let server = format!("{transport}:{}", scene.daemon.sip());
    let http = scene.daemon.http().to_string();
    let common = ["--as", user, "--server", &server, "--http", &http];
    Command::new(IM).args(common).args(arguments).output().expect("im runs")
}

/// What it says, object by object.
#[track_caller]
fn said(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[track_caller]
fn im(scene: &Scene, user: &str, arguments: &[&str]) -> Vec<Value> {
    said(&im_over(scene, "tcp", user, &[arguments, &["--json"]].concat()))
}

/// Why it refuses; the exit code is 1.
#[track_caller]
fn refused(scene: &Scene, user: &str, arguments: &[&str]) -> String {
    let output = im_over(scene, "tcp", user, arguments);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A field of every object of this kind.
fn each<'a>(objects: &'a [Value], event: &str, field: &str) -> Vec<&'a str> {
    let those = objects.iter().filter(|object| object["event"] == event);
    those.map(|object| object[field].as_str().unwrap_or_default()).collect()
}

#[track_caller]
fn last(objects: &[Value], event: &str, field: &str) -> u64 {
    let object = objects.last().expect("something is said");
    assert_eq!(object["event"], event, "{object}");
    object[field].as_u64().expect("a number")
}

//= 12.1.1-1b: the URI-list contains the Message-ID of the one deferred message
//= 12.1.1-2: without a list for all deferred messages
//= 12.1.1-3: the Request-URI is Deferred@hostname
//= 12.1.1-4: an SDP offer with the media direction a=recvonly
//= 12.1.1-5: the INVITE is sent to the Deferred Messaging Function
//= 12.1.2: the IM Client shall retrieve the XML documents of the Deferred Metadata in the IM XDMS
//= 12.1.3.2-1: a REFER according to RFC 3515
//= 12.1.3.2-2: the Request-URI is Delete@hostname
//= 12.1.3.2-3: Refer-To set to the message-ID
//= 12.1.3.2-4: the NOTIFY is answered 200
//= 12.1.3.4-1: a REFER according to RFC 3515
//= 12.1.3.4-2: the Request-URI is Delete@hostname
#[test]
fn every_procedure_can_be_tried_from_a_terminal() {
    let mut scene = scene();
    // Bob is offline: three wait.
    let sent = im(&scene, ALICE, &["send", BOB, "Bob, are you there?", "--subject", "hello"]);
    assert_eq!(last(&sent, "sent", "status"), 202);
    let over_udp = im_over(&scene, "udp", "carol@example.org", &["send", "bob@example.org", "Grüße", "--json"]);
    assert_eq!(last(&said(&over_udp), "sent", "octets"), 7);
    im(&scene, ALICE, &["send", BOB, "to be deleted"]);

    let list = im(&scene, BOB, &["list"]);
    assert_eq!(last(&list, "listed", "messages"), 3);
    assert_eq!(each(&list, "waits", "from"), [ALICE, "sip:carol@example.org", ALICE]);
    assert_eq!(each(&list, "waits", "subject"), ["hello", "", ""]);
    let ids = each(&list, "waits", "id");
    let summary = im(&scene, BOB, &["summary", "--once"]);
    assert_eq!(last(&summary, "summary", "new"), 3);

    // One is deleted, and cannot be deleted again; nobody deletes or reads another user's.
    assert_eq!(last(&im(&scene, BOB, &["delete", ids[2]]), "deleted", "status"), 200);
    assert!(refused(&scene, BOB, &["delete", ids[2]]).contains("404"));
    assert!(refused(&scene, "carol@example.org", &["delete", ids[0]]).contains("404"));
    assert!(refused(&scene, "carol@example.org", &["retrieve", ids[0]]).contains("no messages"));
    assert!(refused(&scene, BOB, &["retrieve", ids[2]]).contains("no messages"));

    // One is retrieved by its id: it is old then, and not pushed.
    let retrieved = im(&scene, BOB, &["retrieve", ids[0]]);
    assert_eq!(each(&retrieved, "message", "text"), ["Bob, are you there?"]);
    assert_eq!(each(&retrieved, "message", "subject"), ["hello"]);
    assert_eq!(last(&retrieved, "retrieved", "messages"), 1);
    let partly = refused(&scene, BOB, &["retrieve", ids[0], ids[2]]);
    assert!(partly.contains("not there") && partly.contains(&ids[2][..26]), "{partly}");

    // With offline delivery off nothing is pushed; with it, the rest is.
    let off = refused(&scene, BOB, &["online", "--once", "--offline-delivery", "off", "--wait", "1"]);
    assert!(off.contains("nothing was pushed"), "{off}");
    let online = im(&scene, BOB, &["online", "--once", "--offline-delivery", "on"]);
    assert_eq!(each(&online, "message", "id"), [ids[1]]);
    assert_eq!(each(&online, "message", "from"), ["sip:carol@example.org"]);
    assert_eq!(each(&online, "message", "text"), ["Grüße"]);
    assert!(!each(&online, "message", "date")[0].is_empty());
    assert_eq!(last(&online, "pushed", "messages"), 1);

    // A REGISTER does what a PUBLISH does; and who goes in good order is gone.
    im(&scene, ALICE, &["send", BOB, "once more"]);
    let registered = im(&scene, BOB, &["online", "--once", "--register"]);
    assert_eq!(each(&registered, "message", "text"), ["once more"]);
    assert_eq!(im(&scene, BOB, &["online", "--wait", "1"]).len(), 1, "nothing waits");
    im(&scene, ALICE, &["send", BOB, "too late"]);
    assert_eq!(last(&im(&scene, BOB, &["summary", "--once"]), "summary", "new"), 1, "offline again");
    im(&scene, BOB, &["summary", "--wait", "1"]);
    im(&scene, BOB, &["online", "--once"]);

    // What was retrieved is kept until it is deleted.
    assert_eq!(each(&im(&scene, BOB, &["list"]), "waits", "id"), [ids[0]]);
    im(&scene, BOB, &["delete", "--all"]);
    assert_eq!(last(&im(&scene, BOB, &["list"]), "listed", "messages"), 0);
    assert!(refused(&scene, BOB, &["retrieve", "--all"]).contains("no messages"));
    scene.assert_alive();
}

//= 12.1.1-1c: the URI-list contains the Message-IDs of the selected ones
//= 12.1.3.3-1: a REFER according to RFC 3515
//= 12.1.3.3-2: the Request-URI is Delete@hostname
//= 12.1.3.3-4: Refer-To with a pointer to the list in the body
//= 12.1.3.3-5: Refer-Sub set to "true"
//= 12.1.3.3-6: "multiple-refer" in Require
#[test]
fn several_are_meant_at_once() {
    let mut scene = scene();
    for number in 0..4 {
        im(&scene, ALICE, &["send", BOB, &format!("number {number}")]);
    }
    let list = im(&scene, BOB, &["list"]);
    let ids = each(&list, "waits", "id");
    let retrieved = im(&scene, BOB, &["retrieve", ids[3], ids[1]]);
    assert_eq!(each(&retrieved, "message", "text"), ["number 3", "number 1"]);
    assert_eq!(last(&im(&scene, BOB, &["delete", ids[0], ids[3]]), "deleted", "asked"), 2);
    let partly = refused(&scene, BOB, &["delete", ids[1], ids[3]]);
    assert!(partly.contains("1 of 2 not found"), "{partly}");
    assert_eq!(each(&im(&scene, BOB, &["list"]), "waits", "id"), [ids[2]]);
    scene.assert_alive();
}

#[test]
fn a_file_comes_as_it_was() {
    let mut scene = scene();
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    // Every octet there is, line ends and what looks like the end of a frame among them.
    let octets: Vec<u8> = (0..300_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let octets = [b"\r\n-------0123456789abcdef$\r\n".as_slice(), &octets].concat();
    std::fs::write(path("file"), &octets).expect("written");
    for (chunk, transport) in [("2048", "tcp"), ("1000000", "udp")] {
        let arguments = ["send", "--large", &path("file"), BOB, "--chunk", chunk, "--type", "image/png", "--json"];
        let sent = said(&im_over(&scene, transport, ALICE, &arguments));
        assert_eq!(last(&sent, "sent", "octets"), octets.len() as u64);
    }
    let came = im(&scene, BOB, &["retrieve", "--all", "--save", &path("retrieved")]);
    assert_eq!(each(&came, "message", "type"), ["image/png"; 2]);
    let files = each(&came, "message", "file");
    assert!(files.len() == 2 && files.iter().all(|file| std::fs::read(file).expect("readable") == octets));
    im(&scene, ALICE, &["send", "--large", &path("file"), BOB]);
    let online = said(&im_over(&scene, "udp", BOB, &["online", "--once", "--save", &path("pushed"), "--json"]));
    let file = each(&online, "message", "file")[0];
    assert!(Path::new(file).starts_with(path("pushed")) && std::fs::read(file).expect("readable") == octets);
    std::fs::write(path("empty"), b"").expect("written");
    assert!(refused(&scene, ALICE, &["send", "--large", &path("empty"), BOB]).contains("is empty"));
    assert!(refused(&scene, ALICE, &["send", "--large", &path("nothing"), BOB]).contains("No such file"));
    scene.assert_alive();
}

#[test]
fn a_subscriber_hears_of_news_and_a_sender_of_a_deletion() {
    let mut scene = scene();
    let follow = |user: &str, command: &[&str]| {
        let server = format!("tcp:{}", scene.daemon.sip());
        let mut child = Command::new(IM);
        child.args(["--as", user, "--server", &server, "--json"]).args(command);
        child.stdout(std::process::Stdio::piped()).spawn().expect("im runs")
    };
    let mut subscriber = follow(BOB, &["summary", "--wait", "30"]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(subscriber.stdout.take().expect("piped")));
    let mut next =
        || -> Value { serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("an object") };
    assert_eq!(next()["new"], 0);
    im(&scene, ALICE, &["send", BOB, "news", "--subject", "today", "--report"]);
    let news = next();
    assert_eq!((news["new"].as_u64(), news["messages"][0]["Subject"].as_str()), (Some(1), Some("today")));
    subscriber.kill().expect("it is ours");
    subscriber.wait().expect("it is ours");

    let mut sender = follow(ALICE, &["online", "--wait", "30"]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(sender.stdout.take().expect("piped")));
    let mut next =
        || -> Value { serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("an object") };
    assert_eq!(next()["event"], "online");
    im(&scene, BOB, &["delete", "--all"]);
    let report = next();
    assert_eq!((report["event"].as_str(), report["type"].as_str()), (Some("message"), Some("message/imdn+xml")));
    assert!(report["text"].as_str().is_some_and(|text| text.contains("<delivery-notification>")), "{report}");
    sender.kill().expect("it is ours");
    sender.wait().expect("it is ours");
    scene.assert_alive();
}

#[test]
fn what_cannot_be_done_is_said_plainly_and_with_its_exit_code() {
    let mut scene = scene();
    let code = |user: &str, arguments: &[&str]| im_over(&scene, "tcp", user, arguments).status.code();
    assert_eq!(code("bob", &["list"]), Some(2), "no address");
    assert_eq!(code(BOB, &["delete"]), Some(2), "which?");
    assert_eq!(code(BOB, &["retrieve", "no id at all"]), Some(2));
    assert_eq!(code(BOB, &["dance"]), Some(2));
    assert_eq!(im_over(&scene, "carrier-pigeon", BOB, &["summary"]).status.code(), Some(2));
    assert!(refused(&scene, ALICE, &["send", "bob@elsewhere.net", "hi"]).contains("404"));
    let long = "x".repeat(2_000);
    let datagram = im_over(&scene, "udp", ALICE, &["send", BOB, &long]);
    assert!(String::from_utf8_lossy(&datagram.stderr).contains("use --server tcp:"));
    // JSON says it as well.
    let output = im_over(&scene, "tcp", BOB, &["--json", "retrieve", "--all"]);
    let object: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!((output.status.code(), object["event"].as_str()), (Some(1), Some("failed")));
    scene.assert_alive();
    scene.daemon.kill9();
    assert!(refused(&scene, BOB, &["list"]).contains("no HTTP at"));
    assert!(refused(&scene, BOB, &["summary", "--once"]).contains("no daemon at"));
    let silent = im_over(&scene, "udp", BOB, &["summary", "--once", "--timeout", "2"]);
    assert_eq!(silent.status.code(), Some(1));
}

/// Who says nothing, or talks nonsense without end, is not waited for.
#[test]
fn a_peer_that_is_no_daemon_is_given_up_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = listener.local_addr().expect("an address").to_string();
    let ask = |timeout: &str, arguments: &[&str]| {
        let server = format!("tcp:{place}");
        let common = ["--as", BOB, "--timeout", timeout, "--server", &server, "--http", &place];
        let output = Command::new(IM).args(common).args(arguments).output().expect("im runs");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(ask("1", &["list"]).contains("does not answer in time"));
    assert!(ask("1", &["summary", "--once"]).contains("no answer to SUBSCRIBE within 1 s"));
    // From now on it talks.
    std::thread::spawn(move || {
        let noise = vec![b'x'; 1 << 16];
        for mut stream in listener.incoming().flatten() {
            while std::io::Write::write_all(&mut stream, &noise).is_ok() {}
        }
    });
    // The two that nobody took stand in the queue before these; each ends when its peer is gone.
    let said = ask("20", &["online", "--once"]);
    assert!(said.contains("more than 2 MiB") || said.contains("cannot be written to"), "{said}");
    let said = ask("20", &["list"]);
    assert!(said.contains("64 MiB") || said.contains("come to an end in time") || said.contains("no HTTP"), "{said}");
}
