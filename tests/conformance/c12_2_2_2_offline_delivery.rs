//! 12.2.2.2 Delivering of offline messages: what triggers a push, the INVITE header by header, and every way it may end.

use std::time::Duration;

use deferd_kit::{
    daemon::DaemonOptions,
    peer::Transport,
    scene::{BOB, Scene},
    sdp::{Answer, Setup},
    sip::{SipMessage, param, uri_of, user_of},
    unique,
};

use crate::DEFERD;

/// Long enough for an INVITE that ought not to come, were it to come: a push follows its trigger within milliseconds.
const QUIET: Duration = Duration::from_millis(700);

//= 12.2.2.2-1: each time an IM Client sends a PUBLISH request check the settings
//= 12.2.2.2 (200-3): follow the procedures of 12.2.2.5
#[test]
fn each_kind_of_publish_triggers_a_push() {
    let scene = Scene::new(DEFERD);
    let (alice, mut bob) = (scene.alice(), scene.bob());
    let first = alice.message(BOB, "before settings");
    bob.publish_settings(true);
    scene.same(&bob.take_push(1), &[first]);
    let second = alice.message(BOB, "for the one who is online");
    scene.same(&bob.take_push(1), &[second]);
    bob.publish_presence(false);
}

//= 12.2.2.2-1: if active is set to true and there are deferred messages
#[test]
fn nothing_is_pushed_while_offline_delivery_is_false() {
    let scene = Scene::new(DEFERD);
    let (alice, mut bob) = (scene.alice(), scene.bob());
    let deposit = alice.message(BOB, "later");
    bob.publish_settings(false);
    bob.publish_presence(true);
    assert!(bob.invite_within(QUIET).is_none(), "pushed in spite of active=false");
    bob.publish_settings(true);
    scene.same(&bob.take_push(1), &[deposit]);
}

#[test]
fn nothing_is_pushed_when_nothing_waits() {
    let scene = Scene::new(DEFERD);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    assert!(bob.invite_within(QUIET).is_none());
}

#[test]
fn a_refresh_without_a_body_triggers_too() {
    let scene = Scene::new(DEFERD);
    let (alice, mut bob) = (scene.alice(), scene.bob());
    bob.publish_presence(true);
    let deposit = alice.message(BOB, "while online");
    let call = bob.expect_invite();
    call.refuse(&call.response(480, "Temporarily Unavailable"));
    bob.refresh("presence");
    scene.same(&bob.take_push(1), &[deposit]);
}

#[test]
fn presence_closed_is_offline() {
    let scene = Scene::new(DEFERD);
    let (alice, mut bob) = (scene.alice(), scene.bob());
    bob.publish_presence(false);
    let deposit = alice.message(BOB, "not yet");
    assert!(bob.invite_within(QUIET).is_none());
    bob.publish_presence(true);
    scene.same(&bob.take_push(1), &[deposit]);
}

//= 12.2.2.2-1a: Request-URI is the served IM User identity
//= 12.2.2.2-1b: Accept-Contact with +g.oma.sip-im
//= 12.2.2.2-1c: User-Agent with the IM release version
//= 12.2.2.2-1d: +g.oma.sip-im in Contact
//= 12.2.2.2-1e: automata in Contact
//= 12.2.2.2-1f: Session-Expires with refresher uac
//= 12.2.2.2-1h: send the INVITE towards the served IM User
#[test]
fn the_invite_header_by_header() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (scene, core) = Scene::behind_core(DEFERD, transport, true);
        scene.alice().message(BOB, "hello");
        let mut bob = scene.bob();
        core.route(&bob);
        bob.publish_presence(true);
        let call = bob.expect_invite();
        let invite = call.request();
        assert_eq!(invite.uri(), BOB);
        assert_eq!(uri_of(invite.header("To").unwrap()), BOB);
        assert_eq!(invite.tag("To"), None, "{invite:?}");
        assert_eq!(user_of(uri_of(invite.header("From").unwrap())), "Deferred");
        assert!(invite.tag("From").is_some());
        let accept = invite.header("Accept-Contact").unwrap();
        assert!(accept.starts_with('*') && param(accept, "+g.oma.sip-im").is_some(), "{accept}");
        assert!(invite.header("User-Agent").unwrap().starts_with("IM-serv/OMA"), "{invite:?}");
        let contact = invite.header("Contact").unwrap();
        assert!(param(contact, "+g.oma.sip-im").is_some() && param(contact, "automata").is_some(), "{contact}");
        assert!(param(contact, "isfocus").is_none(), "{contact}");
        let timer = invite.header("Session-Expires").unwrap();
        assert_eq!(param(&format!("x;{}", timer.split_once(';').unwrap().1), "refresher"), Some("uac"), "{timer}");
        assert!(invite.all("Supported").join(",").split(',').any(|tag| tag.trim() == "timer"), "{invite:?}");
        assert!(
            invite.header("Min-SE").is_none_or(|seconds| seconds.parse::<u32>().is_ok_and(|seconds| seconds >= 90))
        );
        let allow = invite.all("Allow").join(",");
        for method in ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE"] {
            assert!(allow.split(',').any(|word| word.trim() == method), "{method} in Allow: {allow}");
        }
        assert_eq!(invite.header("Max-Forwards"), Some("70"));
        assert_eq!(invite.cseq_method(), "INVITE");
        assert!(invite.branch().starts_with("z9hG4bK") && invite.branch().len() >= 7 + 16, "{}", invite.branch());
        assert!(invite.header("Via").unwrap().starts_with(&format!("SIP/2.0/{}", transport.name())));
        assert!(
            invite.header("P-Asserted-Identity").is_some_and(|identity| user_of(uri_of(identity)) == "Deferred"),
            "{invite:?}"
        );
        call.refuse(&call.response(480, "Temporarily Unavailable"));
    }
}

//= 12.2.2.2-1g: SDP offer, sendonly
#[test]
fn the_offer_line_by_line() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    let offer = call.offer();
    assert_eq!(offer.port_and_proto(), Some((scene.msrp_port(), "TCP/MSRP")));
    assert!(offer.message().unwrap()[0].1.ends_with(" *"));
    assert_eq!(offer.attributes("sendonly"), [""], "media level: {offer:?}");
    assert_eq!(offer.attributes("setup"), ["actpass"]);
    let types = offer.attribute("accept-types").unwrap();
    assert!(types.split(' ').any(|kind| kind == "multipart/mixed" || kind == "*"), "{types}");
    let path = offer.attribute("path").unwrap();
    assert!(deferd_kit::msrp::is_uri(path), "{path}");
    let session = path.rsplit_once('/').unwrap().1.split(';').next().unwrap();
    // RFC 4975 14.1: at least 80 bits that nobody can guess; base 64 at most, so 14 characters at least.
    assert!(session.len() >= 14, "{session}");
    call.refuse(&call.response(480, "Temporarily Unavailable"));
}

//= 12.2.2.2: on receipt of the 200, start the session timer, store the Contact
#[test]
fn the_three_answers_of_comedia_are_understood() {
    for setup in [Setup::Active, Setup::Passive, Setup::Absent] {
        let scene = Scene::new(DEFERD);
        let deposit = scene.alice().message(BOB, "hello");
        let mut bob = scene.bob();
        bob.publish_presence(true);
        let pushed = bob.take_push_as(setup, 1);
        scene.same(&pushed, &[deposit]);
    }
}

//= RFC 3261 12.2.1.1: the route set of the 2xx carries ACK and BYE
//= 12.2.2.2 (200-2): the Contact of the 200 is where ACK and BYE go
#[test]
fn ack_and_bye_follow_the_record_route() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let (scene, core) = Scene::behind_core(DEFERD, transport, true);
        let deposit = scene.alice().message(BOB, "hello");
        let mut bob = scene.bob();
        core.route(&bob);
        bob.publish_presence(true);
        let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
        let ack = call.answer(&msrp, Setup::Active);
        assert_eq!(ack.header("Route"), Some(core.record_route().as_str()));
        assert_eq!(ack.uri(), uri_of(&bob.contact));
        let pushed = msrp.expect_messages(1);
        let bye = call.expect_bye();
        assert_eq!(bye.header("Route"), Some(core.record_route().as_str()));
        assert!(bye.cseq() > call.request().cseq());
        scene.same(&pushed, &[deposit]);
    }
}

/// Nothing is lost by any final response, and the next fresh trigger brings everything.
//= RFC 3261 17.1.1.3: the ACK of a refusal belongs to the INVITE's transaction
#[test]
fn every_final_response_keeps_the_messages() {
    let scene = Scene::new(DEFERD);
    let (alice, mut bob) = (scene.alice(), scene.bob());
    let deposit = alice.message(BOB, "patience");
    for (code, reason) in [
        (302, "Moved Temporarily"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (405, "Method Not Allowed"),
        (408, "Request Timeout"),
        (410, "Gone"),
        (480, "Temporarily Unavailable"),
        (486, "Busy Here"),
        (487, "Request Terminated"),
        (500, "Server Internal Error"),
        (501, "Not Implemented"),
        (503, "Service Unavailable"),
        (504, "Server Time-out"),
        (600, "Busy Everywhere"),
        (603, "Decline"),
        (604, "Does Not Exist Anywhere"),
    ] {
        bob.publish_presence(true);
        let call = bob.expect_invite();
        call.refuse(&call.response(code, reason));
    }
    bob.publish_presence(true);
    scene.same(&bob.take_push(1), &[deposit]);
}

#[test]
fn after_busy_a_refresh_is_no_fresh_trigger() {
    let scene = Scene::new(DEFERD);
    let mut bob = scene.bob();
    scene.alice().message(BOB, "patience");
    bob.publish_presence(true);
    let call = bob.expect_invite();
    call.refuse(&call.response(486, "Busy Here"));
    bob.refresh("presence");
    assert!(bob.invite_within(QUIET).is_none(), "a refresh after 486 pushed again");
    bob.publish_presence(true);
    bob.take_push(1);
}

/// A core that bills for us is told whose request it is, the same in each attempt; nobody else is.
//= 12.2.2.2 (IMS): shall use IMS session mechanisms: the core's Route, and what its charging wants of who originates
//= RFC 7315 4.6: ICID MUST be a globally unique value; a locally unique value and the hostname
#[test]
fn a_core_is_told_what_its_charging_wants() {
    let (mut scene, core) = Scene::behind_core(DEFERD, Transport::Udp, false);
    let mut bob = scene.bob_udp();
    core.route(&bob);
    let icid = |request: &SipMessage, ioi: &str| {
        let vector = request.header("P-Charging-Vector").expect("a P-Charging-Vector").to_owned();
        let icid = vector.strip_suffix(&format!("\";orig-ioi={ioi}")).unwrap_or_else(|| panic!("{vector}"));
        icid.strip_prefix("icid-value=\"").unwrap_or_else(|| panic!("{vector}")).to_owned()
    };
    let deposit = scene.alice().message(BOB, "hello");
    bob.publish_presence(true);
    let call = bob.expect_invite();
    let first = icid(call.request(), "example.org");
    assert!(first.len() > 24 && first.ends_with("@mailserver.example.org"), "{first}");
    call.refuse(&call.response(422, "Session Interval Too Small").with("Min-SE", "3600"));
    let again = bob.expect_invite();
    assert_eq!(icid(again.request(), "example.org"), first, "one dialog, one value");
    // RFC 3261 18.1.1: more would need another transport.
    let octets = again.request().write().len();
    assert!(octets <= 1_300, "{octets} octets over UDP: {:?}", again.request());
    again.refuse(&again.response(480, "Temporarily Unavailable"));
    bob.publish_presence(false);
    scene.restart_with("policy", "orig_ioi = \"home1.example.net\"");
    bob.publish_presence(true);
    let call = bob.expect_invite();
    assert_ne!(icid(call.request(), "home1.example.net"), first, "another, another");
    let msrp = bob.msrp(Setup::Active);
    call.answer(&msrp, Setup::Active);
    scene.same(&msrp.expect_messages(1), &[deposit]);
    call.expect_bye();
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    assert_eq!(bob.expect_invite().request().header("P-Charging-Vector"), None, "there is no core");
}

//= RFC 4028 7.4: after 422 a new INVITE with the same Call-ID and at least that interval
//= RFC 4028 7.3: 422: again with a Session-Expires of at least its Min-SE, and with that Min-SE
#[test]
fn a_session_interval_too_small_is_raised() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    call.refuse(&call.response(422, "Session Interval Too Small").with("Min-SE", "3600"));
    let again = bob.expect_invite();
    let (first, second) = (call.request(), again.request());
    assert_eq!(second.call_id(), first.call_id());
    assert_eq!(second.tag("From"), first.tag("From"));
    assert_eq!(second.cseq(), first.cseq() + 1);
    assert_eq!(second.header("Min-SE"), Some("3600"));
    let seconds: u32 = second.header("Session-Expires").unwrap().split(';').next().unwrap().trim().parse().unwrap();
    assert!(seconds >= 3600, "{seconds}");
    let msrp = bob.msrp(Setup::Active);
    again.answer(&msrp, Setup::Active);
    let pushed = msrp.expect_messages(1);
    again.expect_bye();
    scene.same(&pushed, &[deposit]);
}

//= RFC 3261 9.1: no CANCEL before a provisional response, none after a final one
#[test]
fn an_invite_that_rings_too_long_is_cancelled() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy.push", "invite_expires = \"2s\""));
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    call.respond(180, "Ringing");
    let cancel = call.expect_cancel();
    assert_eq!(cancel.cseq(), call.request().cseq());
    assert_eq!(cancel.header("Via"), call.request().header("Via"));
    assert_eq!(cancel.uri(), call.request().uri());
    call.refuse(&call.response(487, "Request Terminated"));
    bob.publish_presence(true);
    scene.same(&bob.take_push(1), &[deposit]);
}

//= RFC 3261 13.2.2.4: further 2xx of a fork are acknowledged and ended
#[test]
fn a_second_200_of_a_fork_gets_ack_and_bye() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob_udp();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.answer(&msrp, Setup::Active);
    let fork = unique();
    let mut other = call.accept_with(&Answer::new("msrp://127.0.0.1:9/other;tcp", Setup::Active).write());
    let to = other.header("To").unwrap().replace(&call.tag, &fork);
    other = other.set("To", to);
    call.invite.link.send(&other.write());
    let ack = bob
        .inbox
        .expect("the ACK of the fork", |message| message.method() == "ACK" && message.tag("To") == Some(&fork));
    assert_eq!(ack.message.cseq(), call.request().cseq());
    let bye = bob
        .inbox
        .expect("the BYE of the fork", |message| message.method() == "BYE" && message.tag("To") == Some(&fork));
    bob.inbox.respond(&bye, &SipMessage::response(&bye.message, 200, "OK", &fork));
    let pushed = msrp.expect_messages(1);
    call.expect_bye();
    scene.same(&pushed, &[deposit]);
}

//= RFC 6026 8.4: every repeated 2xx is acknowledged again
#[test]
fn a_repeated_200_is_acknowledged_again() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob_udp();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    let ok = call.accept_with(&Answer::new(msrp.path(), Setup::Active).write());
    for _ in 0..3 {
        call.send(&ok);
        call.expect_ack();
    }
    msrp.connect(&call.offered_path());
    msrp.expect_messages(1);
    call.expect_bye();
}

//= RFC 3261 17.1.1.2: over UDP an unanswered INVITE is sent again, unchanged
#[test]
fn an_unanswered_invite_is_repeated_over_udp() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob_udp();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    bob.inbox.expect_repeated(2);
    let msrp = bob.msrp(Setup::Active);
    call.answer(&msrp, Setup::Active);
    scene.same(&msrp.expect_messages(1), &[deposit]);
    call.expect_bye();
}

/// Answers that cannot carry a push: acknowledged, ended by BYE, nothing lost.
//= RFC 4975 14.5: a path that points at a forbidden network is not connected to
#[test]
fn a_useless_answer_is_ended_by_bye() {
    let scene = Scene::new(DEFERD);
    let (alice, mut bob) = (scene.alice(), scene.bob());
    let deposit = alice.message(BOB, "hello");
    let good = || Answer::new("msrp://127.0.0.1:9/abcdefghijklmnop;tcp", Setup::Active);
    let useless = [
        Answer { port: 0, ..good() },
        Answer { direction: Some("sendonly"), ..good() },
        Answer { direction: Some("inactive"), ..good() },
        Answer { accept_types: "text/plain".into(), wrapped_types: None, ..good() },
        Answer { path: "msrp://169.254.169.254:80/latest;tcp".into(), port: 80, setup: Setup::Passive, ..good() },
    ];
    let mut bodies: Vec<Vec<u8>> = useless.iter().map(Answer::write).collect();
    let pathless = String::from_utf8(good().write()).unwrap().replace("a=path", "a=x-path");
    bodies.extend([pathless.into_bytes(), b"this is not SDP".to_vec()]);
    for body in bodies {
        bob.publish_presence(true);
        let call = bob.expect_invite();
        call.send(&call.accept_with(&body));
        call.expect_ack();
        call.expect_bye();
    }
    bob.publish_presence(true);
    scene.same(&bob.take_push(1), &[deposit]);
}

#[test]
fn one_push_at_a_time_however_often_is_published() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    for _ in 0..5 {
        bob.publish_presence(true);
    }
    assert!(bob.invite_within(QUIET).is_none(), "a second push beside the first");
    call.answer(&msrp, Setup::Active);
    scene.same(&msrp.expect_messages(1), &[deposit]);
    call.expect_bye();
}

/// A refresh of the session by the peer, and one of ours that is refused.
//= RFC 4028 9: a session refresh is answered with the session's interval
#[test]
fn an_update_of_the_peer_is_answered() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| Vec::new());
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    let update =
        call.request_in_dialog("UPDATE").with("Supported", "timer").with("Session-Expires", "1800;refresher=uac");
    let response = call.exchange(&update);
    assert_eq!(response.code(), 200, "{response:?}");
    assert!(response.header("Session-Expires").is_some(), "{response:?}");
    call.bye();
    msrp.expect_closed();
}

//= RFC 3261 15.1.1: after its BYE the UAC considers the session terminated
#[test]
fn after_our_bye_only_the_clients_own_bye_is_heard() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.answer(&msrp, Setup::Active);
    msrp.expect_messages(1);
    // Not answered yet: ours crosses it.
    call.expect_in_dialog("BYE");
    let update = call.request_in_dialog("UPDATE");
    assert_eq!(call.exchange(&update).code(), 481);
    call.bye();
}

#[test]
fn a_request_of_an_unknown_dialog_is_481() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    for method in ["BYE", "UPDATE"] {
        let request = alice.request(method, "sip:push-9a7f@127.0.0.1");
        let to = format!("{};tag=nobody", request.header("To").unwrap());
        assert_eq!(alice.exchange(request.set("To", to)).response.code(), 481, "{method}");
    }
}
