//! What is let in: whose messages, of which types, and what says nothing an hour later.

use deferd_kit::{
    daemon::DaemonOptions,
    scene::{BOB, Scene},
};

use crate::{DEFERD, selection::asking};

fn scene(line: &str) -> Scene {
    Scene::with(DaemonOptions::new(DEFERD).line("policy", line))
}

#[test]
fn a_blocked_sender_is_refused_and_told_so() {
    let scene = scene("blocked_senders = [\"sip:mallory@example.org\", \"*@spam.example\"]");
    let alice = scene.alice();
    for sender in ["<sip:mallory@Example.org:5060>", "<sip:anybody@spam.example>"] {
        let refusal = alice.exchange(alice.text(BOB, "buy").set("P-Asserted-Identity", sender)).response;
        assert_eq!(refusal.code(), 403, "{sender}");
        assert!(refusal.header("Warning").is_some_and(|warning| warning.starts_with("399 ")), "{refusal:?}");
    }
    // Who is meant is whom the network asserts, not whoever is claimed.
    let honest = alice.deposit(alice.text(BOB, "hello").set("From", "<sip:mallory@example.org>;tag=1"));
    scene.push_brings(&mut scene.bob(), &[honest]);
}

//= RFC 3261 8.2.3: a body type that is not understood: 415 with an Accept header
#[test]
fn a_type_that_is_not_accepted_is_415_inside_cpim_too() {
    let scene = scene("accepted_types = [\"text/*\", \"message/cpim\"]");
    let alice = scene.alice();
    let cpim = asking("1", "display", "hello");
    for (media, body) in [("image/png", "x".to_string()), ("message/cpim", cpim.replace("text/plain", "image/png"))] {
        let refusal = alice.exchange(alice.text(BOB, "").with_body(media, body)).response;
        assert_eq!((refusal.code(), refusal.header("Accept")), (415, Some("text/*, message/cpim")), "{media}");
    }
    let good = [
        alice.deposit(alice.text(BOB, "").with_body("Text/HTML;charset=utf-8", "<p>")),
        alice.deposit(alice.text(BOB, "").with_body("message/cpim", cpim)),
        alice.deposit(alice.request("MESSAGE", BOB)),
    ];
    scene.push_brings(&mut scene.bob(), &good);
}

/// RFC 3994: "is composing" is answered and dropped, and so is a report about a message for whoever is offline.
#[test]
fn what_says_nothing_an_hour_later_is_not_kept() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let wrapped = |media: &str| asking("1", "display", "<x/>").replace("text/plain", media);
    for (media, body, status) in [
        ("application/im-iscomposing+xml", "<x/>".to_string(), 200),
        ("message/cpim", wrapped("application/im-iscomposing+xml"), 200),
        ("message/imdn+xml", "<x/>".to_string(), 202),
        ("message/cpim", wrapped("message/imdn+xml"), 202),
    ] {
        let answer = alice.exchange(alice.text(BOB, "").with_body(media, body.clone())).response;
        assert_eq!(answer.code(), status, "{media}: {body}");
    }
    scene.nothing_waits(&mut scene.bob());
}
