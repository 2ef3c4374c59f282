//! 12.1.3 and 12.2.2.7: a user deletes one stored message, several, or all, and hears what became of it.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use deferd_kit::{
    daemon::DaemonOptions,
    msrp_client::Reply,
    peer::Transport,
    scene::{BOB, Scene},
    sdp::{Answer, Setup},
    sip::SipMessage,
};

use crate::{
    DEFERD,
    selection::{
        DEFERRED, DELETE, expect_no, expect_notify, ids, invite_list, refer, refer_quietly, resource_list, uri, waits,
    },
};

fn deposits(scene: &Scene, count: usize) -> Vec<SipMessage> {
    let alice = scene.alice();
    (0..count).map(|number| alice.message(BOB, &format!("message {number}"))).collect()
}

/// A REFER for several: the list in its body, the pointer in Refer-To.
fn refer_list(bob: &deferd_kit::agents::Client, ids: &[&str]) -> SipMessage {
    let uris: Vec<String> = ids.iter().map(|id| uri(id)).collect();
    refer(bob, "cid:cn35t8jf02@example.org")
        .with("Refer-Sub", "true")
        .with("Require", "multiple-refer")
        .with("Content-Disposition", "recipient-list")
        .with("Content-ID", "<cn35t8jf02@example.org>")
        .with_body("application/resource-lists+xml", resource_list(&uris))
}

//= 12.2.2.7-1: SHALL delete the Deferred Message(s) from the Storage
//= 12.2.2.7-2: SHALL send a 200 OK as a response to the REFER request
//= 12.2.2.7-5: SHALL send a NOTIFY request to the client according to RFC 3515
//= RFC 7647 5: an element accepting a REFER request MUST NOT reply with a 202 response code
//= RFC 7647 3: a UA accepting a REFER that creates a subscription MUST populate its Contact header field with a GRUU
#[test]
fn one_message_is_deleted_and_its_user_notified() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 3);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 3);
    let request = refer(&bob, &uri(&ids[1]));
    let response = bob.exchange(&request);
    assert_eq!(response.code(), 200, "{response:?}");
    assert!(response.header("Refer-Sub").is_none() && response.header("Server").is_some());
    let contact = response.header("Contact").unwrap();
    assert!(contact.contains("sip:Delete@127.0.0.1:"), "{contact}");
    let notify = expect_notify(&bob, &request);
    assert_eq!(notify.header("Event"), Some("refer"));
    assert_eq!(notify.header("Subscription-State"), Some("terminated;reason=noresource"));
    assert_eq!(notify.header("Content-Type"), Some("message/sipfrag;version=2.0"));
    assert_eq!(notify.body, b"SIP/2.0 200 OK\r\n");
    assert_eq!(notify.tag("From"), response.tag("To"));
    assert_eq!(notify.tag("To"), request.tag("From"));
    waits(&scene, &mut bob, &[deposits[0].clone(), deposits[2].clone()]);
}

//= 12.1.3.3-3: a MIME resource-lists body with the list of the selected multiple message-IDs
#[test]
fn several_messages_are_deleted_by_a_list() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 4);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 4);
    let request = refer_list(&bob, &[&ids[0], &ids[3], &ids[0]]);
    assert_eq!(bob.exchange(&request).code(), 200);
    assert_eq!(expect_notify(&bob, &request).body, b"SIP/2.0 200 OK\r\n");
    waits(&scene, &mut bob, &deposits[1..3]);
}

//= 12.1.3.4-3: Refer-To set to the Deferred Messaging Function: all stored messages are deleted
#[test]
fn all_messages_are_deleted() {
    for quietly in [false, true] {
        let scene = Scene::new(DEFERD);
        deposits(&scene, 40);
        let mut bob = scene.bob();
        let request = refer(&bob, DEFERRED);
        let request = if quietly { request.with("Norefer-Sub", "true") } else { request };
        let response = bob.exchange(&request);
        assert_eq!(response.code(), 200);
        if quietly {
            assert_eq!(response.header("Refer-Sub"), Some("false"));
            expect_no(&bob, "NOTIFY");
        } else {
            assert_eq!(expect_notify(&bob, &request).body, b"SIP/2.0 200 OK\r\n");
        }
        waits(&scene, &mut bob, &[]);
    }
}

//= RFC 4488 4: MUST insert the Refer-Sub header field set to "false" in the 2xx response
//= RFC 4488 4: Require: norefersub is rejected with 420 unless it is supported
#[test]
fn who_wants_no_subscription_gets_none() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 1);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 1);
    let request = refer_quietly(&bob, &uri(&ids[0])).with("Require", "norefersub");
    let response = bob.exchange(&request);
    assert_eq!((response.code(), response.header("Refer-Sub")), (200, Some("false")));
    expect_no(&bob, "NOTIFY");
    waits(&scene, &mut bob, &[]);
    let request = refer(&bob, DEFERRED).with("Require", "norefersub, teleport");
    let response = bob.exchange(&request);
    assert_eq!((response.code(), response.header("Unsupported")), (420, Some("teleport")));
}

/// Foreign ids look like unknown ones, and unknown ones harm nobody.
#[test]
fn unknown_and_foreign_ids_are_not_found() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 2);
    let carol = scene.client(Transport::Tcp, "sip:carol@example.org", scene.daemon.sip());
    for unknown in [uri(&ids[0]), uri("01jq8z4m7v5c2t9x3h6k0d1b2w"), "sip:bob@elsewhere.org".into(), "tel:+1".into()] {
        assert_eq!(carol.exchange(&refer_quietly(&carol, &unknown)).code(), 404, "{unknown}");
        let loud = refer(&carol, &unknown);
        assert_eq!(carol.exchange(&loud).code(), 200);
        assert_eq!(expect_notify(&carol, &loud).body, b"SIP/2.0 404 Not Found\r\n");
    }
    // A list is idempotent; what is missing of it is said.
    let list = refer_list(&carol, &[&ids[0], &ids[1]]);
    assert_eq!(carol.exchange(&list).code(), 200);
    assert_eq!(expect_notify(&carol, &list).body, b"SIP/2.0 404 Not Found\r\n");
    // Without a subscription too, and without the option tag.
    let quiet = refer_list(&carol, &[&ids[0], &ids[1]]).set("Refer-Sub", "false").without("Require");
    let response = carol.exchange(&quiet);
    assert_eq!((response.code(), response.header("Refer-Sub")), (200, Some("false")), "{response:?}");
    let nothing = refer_quietly(&carol, DEFERRED);
    assert_eq!(carol.exchange(&nothing).code(), 200, "all of nothing");
    let list = refer_list(&bob, &[&ids[0], "01jq8z4m7v5c2t9x3h6k0d1b2w"]);
    assert_eq!(bob.exchange(&list).code(), 200);
    let notify = expect_notify(&bob, &list);
    let body = String::from_utf8(notify.body).unwrap();
    assert_eq!(body, "SIP/2.0 200 OK\r\nWarning: 399 mailserver.example.org \"1 of 2 not found\"\r\n");
    waits(&scene, &mut bob, &deposits[1..]);
}

#[test]
fn an_id_is_understood_with_and_without_its_scheme() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 3);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 3);
    for way in [
        format!("sip:{}@MAILSERVER.example.org", ids[0]),
        format!("sips:{}@mailserver.example.org;method=DELETE", ids[1]),
        format!("sip:{}@mailserver.example.org;x=y", ids[2]),
    ] {
        assert_eq!(bob.exchange(&refer_quietly(&bob, &way)).code(), 200, "{way}");
    }
    waits(&scene, &mut bob, &[]);
}

/// What a list names twice, in whatever way, is one message: what is missing is counted so.
//= RFC 5363 4.1: a URI that is there more than once MUST be treated as if it appeared only once
#[test]
fn a_message_that_is_named_twice_is_deleted_once() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 2);
    let unknown = "01jq8z4m7v5c2t9x3h6k0d1b2w@mailserver.example.org";
    let bare = format!("{}@mailserver.example.org", ids[0]);
    let list = resource_list(&[uri(&ids[0]), bare, unknown.to_string(), format!("sip:{unknown}")]);
    let request = refer_list(&bob, &[]).with_body("application/resource-lists+xml", list);
    assert_eq!(bob.exchange(&request).code(), 200);
    let body = String::from_utf8(expect_notify(&bob, &request).body).unwrap();
    assert!(body.contains("\"1 of 2 not found\""), "{body}");
    waits(&scene, &mut bob, &deposits[1..]);
}

#[test]
fn what_is_no_good_request_is_refused_and_deletes_nothing() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 1);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 1);
    let good = refer(&bob, &uri(&ids[0]));
    let list = |document: &str, content_type: &str| refer_list(&bob, &[]).with_body(content_type, document);
    let many: Vec<String> = (0..1_001).map(|number| uri(&number.to_string())).collect();
    let table = [
        (good.clone().without("P-Asserted-Identity"), 403),
        (good.clone().set("P-Asserted-Identity", "<sip:bob@elsewhere.net>"), 403),
        (good.clone().without("Refer-To"), 400),
        (good.clone().with("Refer-To", format!("<{}>", uri(&ids[0]))), 400),
        (good.clone().set("Refer-To", "<cid:nothing@here>"), 400),
        (good.clone().without("Contact"), 400),
        (list("no xml", "application/resource-lists+xml"), 400),
        (list(&resource_list(&[]), "application/resource-lists+xml"), 400),
        (list(&resource_list(&many), "application/resource-lists+xml"), 413),
        (list("x", "text/plain"), 415),
        (good.clone().with("Require", "explicitsub"), 420),
    ];
    for (request, status) in table {
        let request = request.set("Via", bob.peer.via()).set("Call-ID", deferd_kit::unique());
        let response = bob.exchange(&request);
        assert_eq!(response.code(), status, "{request:?}\n{response:?}");
        if status == 415 {
            assert_eq!(response.header("Accept"), Some("application/resource-lists+xml"));
        }
    }
    waits(&scene, &mut bob, &deposits);
}

//= RFC 3515 3.2: a SUBSCRIBE to the refer event that no REFER created is refused: 403
#[test]
fn nobody_subscribes_to_a_refer_that_was_not() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let subscribe = bob.request_to("SUBSCRIBE", DELETE).with("Event", "refer").with("Contact", bob.contact.clone());
    assert_eq!(bob.exchange(&subscribe).code(), 403);
    let within = bob.request_to("SUBSCRIBE", DELETE).with("Event", "refer").with("Contact", bob.contact.clone());
    let within = within.set("To", format!("<{DELETE}>;tag=gone"));
    assert_eq!(bob.exchange(&within).code(), 481, "its subscription is over with its only NOTIFY");
}

//= RFC 6665 4.2.2: a NOTIFY that nobody takes is the end of a subscription that is over anyway: nothing is said again
#[test]
fn a_notify_that_is_refused_is_not_repeated() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 1);
    let mut bob = scene.bob();
    let request = refer(&bob, DEFERRED);
    assert_eq!(bob.exchange(&request).code(), 200);
    let notify = bob.inbox.expect_request("NOTIFY");
    bob.inbox.respond(&notify, &SipMessage::response(&notify.message, 481, "Gone", "x"));
    expect_no(&bob, "NOTIFY");
    waits(&scene, &mut bob, &[]);
}

/// A deletion that was answered 200 holds whatever happens to the daemon next.
#[test]
fn a_deletion_survives_the_daemon() {
    let mut scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 3);
    let mut bob = scene.bob_udp();
    let ids = ids(&mut bob, 3);
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(&ids[1]))).code(), 200);
    scene.kill9();
    scene.restart(1);
    waits(&scene, &mut bob, &[deposits[0].clone(), deposits[2].clone()]);
}

/// Home decides, whichever core the request reached.
#[test]
fn any_core_takes_a_refer() {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 2;
    let scene = Scene::with(options);
    let alice = scene.alice();
    for number in 0..8 {
        let aor = format!("sip:user{number}@example.org");
        alice.message(&aor, "hello");
        let mut user = scene.client(Transport::Tcp, &aor, scene.daemon.sip());
        let request = refer(&user, DEFERRED);
        assert_eq!(user.exchange(&request).code(), 200);
        assert_eq!(expect_notify(&user, &request).body, b"SIP/2.0 200 OK\r\n");
        scene.nothing_waits(&mut user);
    }
}

/// RFC 4975 7.1: what was begun ends with `#`; the rest of the push goes on.
#[test]
fn a_message_that_is_being_sent_is_taken_back() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice_tcp();
    alice.message(BOB, &"x".repeat(300_000));
    let after = alice.message(BOB, "after it");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    // The first message's chunks are never answered: its window is full before its end.
    let mut large = None;
    msrp.set_policy(move |_, frame| {
        let id = frame.header("Message-ID").unwrap_or_default().to_string();
        let large = large.get_or_insert(id.clone());
        if id == *large { vec![Reply::Silence] } else { vec![Reply::Status(200)] }
    });
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    let first = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    let id = first.header("Message-ID").unwrap();
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(id))).code(), 200);
    let end = msrp.expect_frame("the end of what was begun", |frame| frame.flag == '#');
    assert_eq!(end.header("Message-ID"), Some(id));
    msrp.write(&deferd_kit::msrp::response(&end, 200, "OK"));
    let whole = msrp.expect_messages(1);
    scene.same(&whole, &[after]);
    call.expect_bye();
    scene.nothing_waits(&mut bob);
}

/// An operator may keep what is stored, whatever its users say: 603, and everything stays.
//= RFC 3515 2.4.2 (603): if the approval sought is immediately denied, the UA MAY decline the request
#[test]
fn where_users_may_not_delete_a_refer_is_declined() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "user_delete = false"));
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 2);
    for request in [refer(&bob, &uri(&ids[0])), refer_list(&bob, &[&ids[0], &ids[1]]), refer_quietly(&bob, DEFERRED)] {
        let response = bob.exchange(&request);
        assert_eq!(response.code(), 603, "{response:?}");
        assert!(response.header("Warning").is_some_and(|warning| warning.starts_with("399 ")), "{response:?}");
    }
    expect_no(&bob, "NOTIFY");
    assert_eq!(bob.exchange(&refer(&bob, DEFERRED).without("Refer-To")).code(), 400, "what is wrong is wrong first");
    scene.push_brings(&mut bob, &deposits);
}

/// What a user had and keeps is deleted like anything else.
#[test]
fn a_retained_message_is_deleted_too() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "after_push = \"retain\""));
    let kept = deposits(&scene, 1);
    let mut bob = scene.bob();
    let pushed = scene.push_brings(&mut bob, &kept);
    let id = &pushed[0].message_id;
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(id))).code(), 200);
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(id))).code(), 404, "and only once");
}

/// What the daemon counts under this name.
fn count(scene: &Scene, name: &str) -> u64 {
    let mut stream = std::net::TcpStream::connect(scene.daemon.http()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().unwrap() as u64).sum()
}

//= 12.1.3.1: deleting results in an item transferred into a "DELETE bin" or Garbage collector bin
#[test]
fn what_is_in_the_bin_is_nobodys_and_is_purged_in_its_time() {
    let options =
        DaemonOptions::new(DEFERD).line("policy", "bin_retention = \"3s\"").line("policy.quota", "messages = 2");
    let mut scene = Scene::with(options);
    let kept = deposits(&scene, 2);
    let mut bob = scene.bob_udp();
    let ids = ids(&mut bob, 2);
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(&ids[0]))).code(), 200);
    assert_eq!(count(&scene, "deferd_messages_purged_total"), 0);
    // Out of the list, out of the quota, and not found again: before a restart and after it.
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(&ids[0]))).code(), 404);
    let sdp = Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write();
    assert_eq!(bob.exchange(&invite_list(&bob, &sdp, &[&ids[0]])).code(), 488, "nor retrieved");
    let later = scene.alice().message(BOB, "there is room again");
    scene.kill9();
    scene.restart(1);
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(&ids[0]))).code(), 404);
    waits(&scene, &mut bob, &[kept[1].clone(), later]);
    let deadline = Instant::now() + Duration::from_secs(15);
    while count(&scene, "deferd_messages_purged_total") != 1 {
        assert!(Instant::now() < deadline, "purged when its time is over");
        std::thread::sleep(Duration::from_millis(50));
    }
    scene.kill9();
    scene.restart(2);
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(&ids[0]))).code(), 404);
    scene.nothing_waits(&mut bob);
}
