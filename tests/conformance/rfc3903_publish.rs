//! RFC 3903 section 6: the event state compositor, step by step, for settings and presence.

use deferd_kit::{
    agents::Sender,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
};

use crate::DEFERD;

//= RFC 3903 6-6: 200 with Expires and a fresh SIP-ETag
#[test]
fn initial_refresh_modify_and_remove_each_get_a_fresh_tag() {
    let mut scene = Scene::new(DEFERD);
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut bob = scene.client(transport, BOB, scene.sip());
        for event in ["poc-settings", "presence"] {
            let with_body = |bob: &deferd_kit::agents::Client| {
                if event == "presence" { bob.presence(true) } else { bob.settings(true) }
            };
            let mut tags = Vec::new();
            for step in 0..4 {
                let request = match step {
                    0 | 2 => with_body(&bob),
                    1 => bob.publication(event),
                    _ => bob.publication(event).set("Expires", "0"),
                };
                let response = bob.publish(request);
                assert!(response.body.is_empty() && response.header("Contact").is_none(), "{response:?}");
                tags.push(response.header("SIP-ETag").unwrap().to_string());
            }
            tags.sort();
            tags.dedup();
            assert_eq!(tags.len(), 4, "an entity tag came twice: {tags:?}");
        }
    }
    scene.assert_alive();
}

//= RFC 3903 6-3: an entity tag that matches nothing is answered 412
//= RFC 3903 6-3: more than one entity tag is answered 400
//= RFC 3903 6-2: an event package that is not supported is answered 489 with Allow-Events
//= RFC 3903 6-4: an expiration too brief is answered 423 with Min-Expires
//= RFC 3903 6-5: a body that is not understood is answered 415 with Accept
//= RFC 3903 6-1: a Request-URI for which this is not the compositor: 404
#[test]
fn each_refusal_has_its_code_and_its_header() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let settings = || bob.settings(true);
    let cases = [
        ("an unknown tag", bob.publication("poc-settings").with("SIP-If-Match", "nobody"), 412, None),
        ("an unknown tag with a body", settings().with("SIP-If-Match", "nobody"), 412, None),
        (
            "an unknown tag before another type",
            settings().with("SIP-If-Match", "nobody").set("Content-Type", "text/plain"),
            412,
            None,
        ),
        ("two tags", bob.publication("poc-settings").with("SIP-If-Match", "one, two"), 400, None),
        ("neither body nor tag", bob.publication("poc-settings"), 400, None),
        ("an unknown event", settings().set("Event", "nonsense"), 489, Some("Allow-Events")),
        ("no event", settings().without("Event"), 489, Some("Allow-Events")),
        ("too brief", settings().set("Expires", "1"), 423, Some("Min-Expires")),
        ("another type", settings().set("Content-Type", "text/plain"), 415, Some("Accept")),
        (
            "another domain",
            {
                let mut request = settings();
                request.start = "PUBLISH sip:bob@example.net SIP/2.0".into();
                request
            },
            404,
            None,
        ),
    ];
    for (what, request, code, header) in cases {
        let response = bob.exchange(&request);
        assert_eq!(response.code(), code, "{what}\n{response:?}");
        if let Some(name) = header {
            assert!(response.header(name).is_some(), "{what}: no {name}\n{response:?}");
        }
    }
}

//= RFC 3903 6: the publisher is authorised
#[test]
fn only_the_owner_publishes() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let foreign = bob.settings(true).set("P-Asserted-Identity", format!("<{ALICE}>"));
    assert_eq!(bob.exchange(&foreign).code(), 403);
    assert_eq!(bob.exchange(&bob.settings(true).without("P-Asserted-Identity")).code(), 403);
}

#[test]
fn documents_that_attack_are_refused_and_the_daemon_lives() {
    let mut scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let mut laughs = String::from("<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY lol \"lol\">");
    for level in 1..10 {
        let before = if level == 1 { "lol".to_string() } else { format!("lol{}", level - 1) };
        laughs.push_str(&format!("<!ENTITY lol{level} \"{}\">", format!("&{before};").repeat(10)));
    }
    laughs.push_str("]><lolz>&lol9;</lolz>");
    let external =
        "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><x>&e;</x>".to_string();
    let deep = "<a>".repeat(5_000);
    for body in [laughs, external, deep, "not xml".into(), "<unclosed".into(), "\0\0\0".into()] {
        let response =
            bob.exchange(&bob.publication("poc-settings").with_body("application/poc-settings+xml", body.clone()));
        assert!((400..500).contains(&response.code()), "{}\n{response:?}", deferd_kit::shown(body.as_bytes(), 60));
    }
    scene.assert_alive();
}

/// Publications are durable: the entity tag of the last 200 is valid after a crash.
#[test]
fn a_publication_survives_kill_9() {
    let mut scene = Scene::new(DEFERD);
    let mut bob = scene.bob();
    bob.publish_settings(false);
    let tag = bob.tag("poc-settings").unwrap().to_string();
    scene.kill9();
    scene.restart(2);
    let bob = scene.bob();
    let response = bob.exchange(&bob.publication("poc-settings").with("SIP-If-Match", tag));
    assert_eq!(response.code(), 200, "{response:?}");
}

//= RFC 3903 6: publications of two devices stand side by side
#[test]
fn seventeen_devices_and_the_oldest_gives_way() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let tags: Vec<String> =
        (0..17).map(|_| bob.exchange(&bob.settings(true)).header("SIP-ETag").unwrap().to_string()).collect();
    let refresh = |tag: &str| bob.exchange(&bob.publication("poc-settings").with("SIP-If-Match", tag)).code();
    assert_eq!(refresh(&tags[0]), 412);
    assert_eq!(refresh(&tags[16]), 200);
    assert_eq!(refresh(&tags[1]), 200);
}

#[test]
fn an_expires_above_the_maximum_is_cut_and_the_default_is_an_hour() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let expires = |value: Option<&str>| {
        let request = bob.settings(true).without("Expires");
        let request = if let Some(value) = value { request.with("Expires", value) } else { request };
        bob.exchange(&request).header("Expires").unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(expires(None), 3600);
    assert!(expires(Some("4000000")) <= 86_400);
    assert_eq!(expires(Some("60")), 60);
}

#[test]
fn a_repeated_publish_is_one_publish() {
    let scene = Scene::new(DEFERD);
    let bob = Sender::new(&scene.log, Transport::Udp, BOB, scene.sip());
    let request = bob
        .request("PUBLISH", BOB)
        .with("Event", "poc-settings")
        .with_body("application/poc-settings+xml", deferd_kit::agents::settings_document(true));
    bob.send_raw(&request.write());
    let first = bob.peer.expect_final(&request);
    bob.send_raw(&request.write());
    assert_eq!(bob.peer.expect_final(&request), first);
}
