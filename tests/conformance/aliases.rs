//! Users who are known by a telephone number as well: whatever names the number means the address (3 and 1.4 of the specification).

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

use deferd_kit::{
    agents::Client,
    daemon::DaemonOptions,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sip::SipMessage,
    unique,
};

use crate::{
    DEFERD,
    selection::{DEFERRED, asking, refer_quietly},
};

/// Bob's number, as it is written in the configuration.
const BOBS: &str = "tel:+1-514-123-4567";
/// And as others write it.
const WRITTEN: &str = "tel:+1(514)1234567;isub=1";
const ALICES: &str = "tel:+15550001";
const CAROLS: &str = "tel:+15550002";

fn options() -> DaemonOptions {
    let aliases = format!("aliases = [\"{BOBS} = {BOB}\", \"{ALICES}={ALICE}\", \"{CAROLS} = sip:carol@example.net\"]");
    let lines = ["push_min_interval = \"0s\"", "reg_push_delay = \"0s\"", &aliases];
    lines.into_iter().fold(DaemonOptions::new(DEFERD), |options, line| options.line("policy", line))
}

/// A request of bob's whom a core knows by his number alone.
fn by_number(request: SipMessage) -> SipMessage {
    request.set("P-Asserted-Identity", format!("<{WRITTEN}>"))
}

#[test]
fn a_message_for_a_number_is_for_its_user() {
    let mut options = options();
    options.cores = 2;
    let mut scene = Scene::with(options);
    let alice = scene.alice();
    let deposits = [alice.message(WRITTEN, "to the number"), alice.message(BOB, "to the address")];
    scene.kill9();
    scene.restart(1);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
    // Of another domain, of nobody, and another number.
    for uri in [CAROLS, "tel:+15550003", "tel:5141234567;phone-context=+1"] {
        assert_eq!(alice.exchange(alice.text(uri, "text")).response.code(), 404, "{uri}");
    }
}

#[test]
fn a_user_is_known_by_their_number() {
    let scene = Scene::with(options());
    let bob = scene.bob();
    let first = scene.alice().message(BOB, "one");
    let publish = by_number(bob.presence(true));
    assert_eq!(bob.exchange(&publish).code(), 200);
    scene.same(&bob.take_push(1), &[first]);
    // Another's number is not his.
    let stranger = bob.presence(true).set("P-Asserted-Identity", format!("<{ALICES}>"));
    assert_eq!(bob.exchange(&stranger).code(), 403);
    // And where both are asserted the address counts.
    let both = bob.presence(true).set("P-Asserted-Identity", format!("<{ALICES}>, <{BOB}>"));
    assert_eq!(bob.exchange(&both).code(), 200);
    let closed = by_number(bob.presence(false));
    assert_eq!(bob.exchange(&closed).code(), 200);
}

#[test]
fn a_core_registers_a_number() {
    let scene = Scene::with(options());
    let deposit = scene.alice().message(BOB, "one");
    let bob = scene.bob_udp();
    let register = |number: &str| {
        bob.request_to("REGISTER", "sip:mailserver.example.org")
            .set("From", format!("<sip:scscf.example.org>;tag={}", unique()))
            .set("To", format!("<{number}>"))
            .with("Contact", format!("<sip:{}>", bob.peer.local()))
            .with("Expires", "600")
    };
    assert_eq!(bob.exchange(&register(WRITTEN)).code(), 200);
    scene.same(&bob.take_push(1), &[deposit]);
    assert_eq!(bob.exchange(&register(CAROLS)).code(), 404);
}

/// What a user's document says to a user for whom a proxy vouches, and the status.
fn document(scene: &Scene, user: &str, asserted: &str) -> String {
    let output = std::process::Command::new("curl")
        .args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", "--header"])
        .arg(format!("X-3GPP-Asserted-Identity: {asserted}"))
        .arg(format!(
            "http://{}/xcap-root/org.openmobilealliance.deferred-list/users/{user}/deferred-list",
            scene.http()
        ))
        .output()
        .expect("curl runs; tools/test installs it");
    String::from_utf8(output.stdout).expect("text")
}

/// Path and proxy may each have any name of the user; it is the user who is compared, under the table that is in force.
#[test]
fn a_document_is_its_users_under_every_name() {
    let scene = Scene::with(options());
    let alice = scene.alice();
    alice.message(BOB, "one");
    let status = |user: &str, asserted: &str| {
        let said = document(&scene, user, asserted);
        let is_bobs = said.matches("<history>").count() == 1;
        let status: u16 = said.rsplit_once('\n').unwrap().1.parse().unwrap();
        assert_eq!(is_bobs, status == 200, "{user} for {asserted}: {said}");
        status
    };
    let (bob, other) = ("tel:+15141234567", "tel:+1-514-123-4567");
    for (user, asserted) in [(BOB, bob), (BOB, other), (bob, BOB), (other, BOB), (bob, other), (other, bob), (BOB, BOB)]
    {
        assert_eq!(status(user, &format!("\"{asserted}\"")), 200, "{user} for {asserted}");
    }
    // Both names at once, as a proxy has them from the registration.
    for user in [BOB, bob] {
        assert_eq!(status(user, &format!("\"{ALICES}\", \"{bob}\"")), 200, "{user}");
    }
    // Another's address, another's number, a number of another domain's user, a number of nobody.
    for asserted in [ALICE, ALICES, CAROLS, "tel:+15550003"] {
        for user in [BOB, bob] {
            assert_eq!(status(user, &format!("\"{asserted}\"")), 403, "{user} for {asserted}");
        }
    }
    // The operator gives bob's number to alice: from then on it is her name and not his.
    let text = std::fs::read_to_string(scene.config()).unwrap();
    let moved = text.replace(&format!("{BOBS} = {BOB}"), &format!("{BOBS} = {ALICE}"));
    assert_ne!(text, moved);
    std::fs::write(scene.config(), moved).unwrap();
    scene.signal("HUP");
    let deadline = std::time::Instant::now() + deferd_kit::WAIT;
    while !scene.stderr().contains("the configuration was read again") {
        assert!(std::time::Instant::now() < deadline, "{}", scene.stderr());
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    let quoted = |name: &str| format!("\"{name}\"");
    assert_eq!(status(BOB, &quoted(bob)), 403);
    assert_eq!(status(bob, &quoted(BOB)), 403);
    assert_eq!(status(BOB, &quoted(BOB)), 200);
    let hers = document(&scene, bob, &quoted(ALICE));
    assert!(hers.ends_with("\n200") && !hers.contains("<history>"), "{hers}");
}

/// What waits can be asked for, and deleted, by the number; and its sender, who is there by a number, hears of that.
#[test]
fn whoever_asks_by_number_is_told_of_the_user() {
    let scene = Scene::with(options());
    let sender: Client = scene.client(Transport::Udp, ALICE, scene.sip());
    assert_eq!(sender.exchange(&sender.presence(true).set("P-Asserted-Identity", format!("<{ALICES}>"))).code(), 200);
    let alice = scene.alice();
    let message = alice.text(BOB, "").set("P-Asserted-Identity", format!("<{ALICES}>"));
    alice.deposit(message.with_body("message/cpim", asking("7", "negative-delivery", "hello")));
    let mut stream = UnixStream::connect(scene.config().with_file_name("control.sock")).expect("it listens");
    writeln!(stream, r#"{{"do":"queue","user":"{WRITTEN}"}}"#).expect("sent");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    assert!(line.contains("\"messages\":1"), "{line}");
    let document = |asserted: &str| document(&scene, "tel:+15141234567", &format!("\"{asserted}\""));
    let listed = document(BOBS);
    assert!(listed.ends_with("\n200") && listed.matches("<history>").count() == 1, "{listed}");
    assert!(document(ALICES).ends_with("\n403"));
    let bob = scene.bob();
    assert_eq!(bob.exchange(&by_number(refer_quietly(&bob, DEFERRED))).code(), 200);
    let report = sender.inbox.expect_request("MESSAGE");
    assert_eq!(report.message.uri(), ALICES, "under the name that the network asserted");
    assert!(document(BOBS).matches("<history>").count() == 0);
}

/// The operator's lists mean the user, whichever name stands in them.
#[test]
fn who_is_blocked_by_number_is_blocked() {
    let blocked = format!("blocked_senders = [\"{ALICES}\"]");
    let not_deferred = "not_deferred = [\"tel:+15141234567\"]";
    for (line, status) in [(blocked.as_str(), 403), (not_deferred, 480)] {
        let scene = Scene::with(options().line("policy", line));
        let alice = scene.alice();
        assert_eq!(alice.exchange(alice.text(BOB, "text")).response.code(), status, "{line}");
    }
}
