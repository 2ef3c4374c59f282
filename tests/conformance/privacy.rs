//! Who asked for privacy (RFC 3325 9.3, `Privacy: id`) is nobody to whoever gets the message: in every form, and in reports; and hop
//! data is for no receiver's eyes.

use deferd_kit::{
    agents::{Client, SipCore},
    cpim::Cpim,
    daemon::{Daemon, DaemonOptions},
    log::Log,
    msrp::MsrpMessage,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sdp::{Answer, Setup},
    sip::{SipMessage, find},
};

use crate::{
    DEFERD,
    selection::{DEFERRED, asking, refer_quietly},
};

const TEL: &str = "tel:+15141234567";

/// A MESSAGE of alice's whose From says nothing, with everything that a core would know of her.
fn private(scene: &Scene, privacy: &str) -> SipMessage {
    let alice = scene.alice();
    alice
        .text(BOB, "guess who")
        .set("From", "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1928301774")
        .set("P-Asserted-Identity", format!("\"Alice\" <{ALICE}>, <{TEL}>"))
        .with("P-Preferred-Identity", format!("<{ALICE}>"))
        .with("Remote-Party-ID", format!("<{ALICE}>;privacy=full"))
        .with("Privacy", privacy)
}

/// Sent with a socket of its own; returns what was sent.
#[track_caller]
fn deposit(scene: &Scene, request: SipMessage) -> SipMessage {
    let alice = scene.alice();
    let via = alice.peer.via();
    alice.deposit(request.set("Via", via))
}

/// What a client with these types is pushed.
#[track_caller]
fn pushed(bob: &mut Client, types: &str, count: usize) -> Vec<MsrpMessage> {
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.answer_with(&msrp, &Answer { accept_types: types.into(), ..Answer::new(msrp.path(), Setup::Active) });
    let messages = msrp.expect_messages(count);
    call.expect_bye();
    messages
}

/// No octet of it names alice.
#[track_caller]
pub(crate) fn names_nobody(octets: &[u8]) {
    for what in ["alice", "Alice", "15141234567", "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID"] {
        assert!(find(octets, what.as_bytes()).is_none(), "{what}: {}", String::from_utf8_lossy(octets));
    }
}

//= RFC 3325 9.3: Privacy id: the core cannot see an identity inside our payload, so it is taken out here
//= RFC 3325 9.1: the sender is who the network says it is, or nobody where it asked for that
#[test]
fn an_identity_that_is_private_is_in_no_form_of_the_message() {
    for privacy in ["id", "header; ID ;critical"] {
        for types in ["multipart/mixed", "message/sip", "message/cpim"] {
            let scene = Scene::new(DEFERD);
            // The test's own Via and Call-ID must not name her either.
            deposit(&scene, private(&scene, privacy));
            let message = pushed(&mut scene.bob(), types, 1).remove(0);
            names_nobody(&message.body);
            assert!(find(&message.body, b"guess who").is_some());
            if types == "message/cpim" {
                let cpim = Cpim::of(&message).unwrap();
                assert_eq!(cpim.header("From"), Some("<sip:anonymous@anonymous.invalid>"));
            } else {
                assert!(
                    find(&message.body, format!("Privacy: {privacy}").as_bytes()).is_some(),
                    "what the sender wrote stays"
                );
            }
        }
    }
}

#[test]
fn an_identity_that_is_not_private_is_delivered_as_it_was_asserted() {
    let scene = Scene::new(DEFERD);
    for privacy in ["none", "header"] {
        deposit(&scene, private(&scene, privacy));
    }
    let mut bob = scene.bob();
    for message in pushed(&mut bob, "message/sip", 2) {
        for what in
            [format!("P-Asserted-Identity: \"Alice\" <{ALICE}>, <{TEL}>\r\n"), format!("<{ALICE}>;privacy=full")]
        {
            assert!(find(&message.body, what.as_bytes()).is_some(), "{}", String::from_utf8_lossy(&message.body));
        }
    }
    // And where the network knows a number only, that is the sender.
    deposit(&scene, private(&scene, "none").set("P-Asserted-Identity", format!("<{TEL}>")));
    let message = pushed(&mut bob, "message/cpim", 1).remove(0);
    assert_eq!(Cpim::of(&message).unwrap().header("From"), Some(format!("<{TEL}>").as_str()));
}

#[test]
fn hop_data_is_in_no_form_of_the_message() {
    for types in ["message/sip", "message/cpim"] {
        let scene = Scene::new(DEFERD);
        let hops = [
            ("Route", format!("<sip:{};lr>", scene.sip())),
            ("Record-Route", "<sip:192.0.2.1;lr>".into()),
            ("P-Access-Network-Info", "3GPP-UTRAN-TDD; utran-cell-id-3gpp=234151D0FCE11".into()),
            ("P-Charging-Vector", "icid-value=1234".into()),
            ("P-Charging-Function-Addresses", "ccf=192.0.2.9".into()),
            ("Proxy-Authorization", "Digest username=\"alice\"".into()),
            ("Authorization", "Digest username=\"alice\"".into()),
        ];
        let request =
            hops.iter().fold(scene.alice().text(BOB, "x"), |request, (name, value)| request.with(name, value.clone()));
        deposit(&scene, request);
        let message = pushed(&mut scene.bob(), types, 1).remove(0);
        for (name, value) in &hops {
            for what in [name.as_bytes(), value.as_bytes()] {
                assert!(find(&message.body, what).is_none(), "{name} in {types}");
            }
        }
    }
}

/// The report goes to who sent the message, whom the network knows; what it says names nobody.
//= RFC 3325 9.3: Privacy id: the asserted identity is nobody's to see; the report itself says no more than its sender said
#[test]
fn a_report_about_a_private_message_finds_its_sender_and_names_nobody() {
    let log = Log::new();
    let core = SipCore::new(&log, Transport::Udp, false);
    let mut options = DaemonOptions::new(DEFERD);
    options.outbound_proxy = Some(core.proxy());
    let scene = Scene { log, daemon: Daemon::start(options) };
    let alice = scene.client(Transport::Udp, ALICE, scene.daemon.sip());
    core.route(&alice);
    let bob = scene.bob_udp();
    core.route(&bob);
    let body =
        asking("hidden", "negative-delivery, processing", "guess who").replace(&format!("From: <{ALICE}>\r\n"), "");
    deposit(&scene, private(&scene, "id").with_body("message/cpim", body));
    for status in ["<stored/>", "<failed/>"] {
        if status == "<failed/>" {
            assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
        }
        let received = alice.inbox.expect_request("MESSAGE");
        alice.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "x"));
        assert_eq!(received.message.uri(), ALICE);
        assert!(find(&received.message.body, status.as_bytes()).is_some());
        names_nobody(&received.message.body);
    }
}
