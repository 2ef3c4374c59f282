//! TS 24.229 5.4.1.7 and RFC 3261 10: who is registered is there. A core says so, or a user without one; and what the core hands
//! back to us of our own goes on.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use deferd_kit::{
    agents::Client,
    daemon::{Daemon, DaemonOptions},
    log::Log,
    peer::{Received, SipPeer, Transport},
    scene::{BOB, Scene},
    sdp::Setup,
    sip::SipMessage,
    unique,
};

use crate::{DEFERD, selection::expect_no};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TAGGED: &str = "<sip:bob@192.0.2.7>;+g.oma.sip-im;expires=3600";

/// A daemon behind a core, and that core with bob's client in it.
fn behind_core(options: DaemonOptions) -> (Scene, Client) {
    let log = Log::new();
    let core = SipPeer::udp(&log, "core", "deferd", HOME);
    let mut options = options.line("policy", "push_min_interval = \"0s\"");
    options.outbound_proxy = Some(format!("udp:{}", core.local()));
    let scene = Scene { log: log.clone(), daemon: Daemon::start(options) };
    let client = Client::over(&log, core, BOB, scene.sip());
    (scene, client)
}

fn at_once() -> DaemonOptions {
    DaemonOptions::new(DEFERD).line("policy", "reg_push_delay = \"0s\"")
}

/// A third-party REGISTER for bob, not sent yet.
fn third_party(core: &Client, expires: u32) -> SipMessage {
    SipMessage::request("REGISTER", "sip:mailserver.example.org")
        .with("Via", core.peer.via())
        .with("Max-Forwards", "70")
        .with("From", format!("<sip:scscf.example.org>;tag={}", unique()))
        .with("To", format!("<{BOB}>"))
        .with("Call-ID", format!("{}@scscf", unique()))
        .with("CSeq", "1 REGISTER")
        .with("Contact", format!("<sip:{}>", core.peer.local()))
        .with("Expires", expires.to_string())
        .with("P-Access-Network-Info", "3GPP-E-UTRAN-FDD")
}

/// The client's own REGISTER, as the core encloses it.
fn enclosed(contact: &str) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKue\r\nMax-Forwards: 70\r\n\
         From: <{BOB}>;tag=ue\r\nTo: <{BOB}>\r\nCall-ID: ue\r\nCSeq: 1 REGISTER\r\nContact: {contact}\r\nContent-Length: 0\r\n\r\n"
    )
}

#[track_caller]
fn registered(core: &Client, request: &SipMessage) -> SipMessage {
    let response = core.exchange(request);
    assert_eq!(response.code(), 200, "{response:?}");
    response
}

//= TS 24.229 5.4.1.7: a third-party REGISTER is answered 200 with the same Expires
//= RFC 3261 10.2: in a third-party registration From is not To
#[test]
fn a_core_registers_a_user_and_what_waits_is_pushed_through_that_core() {
    let options = DaemonOptions::new(DEFERD).line("policy", "reg_push_delay = \"1s\"");
    let (scene, bob) = behind_core(options);
    let deposit = scene.alice().message(BOB, "while you were away");
    let began = Instant::now();
    let response = registered(&bob, &third_party(&bob, 600_000));
    assert_eq!((response.header("Expires"), response.header("Contact")), (Some("600000"), None));
    assert!(response.header("Server").is_some());
    let call = bob.expect_invite();
    assert!(began.elapsed() >= Duration::from_millis(950), "the client is given time: {:?}", began.elapsed());
    //= 12.2.2.2 (IMS): shall use IMS session mechanisms: the core's Route, and what its charging wants of who originates
    assert_eq!(call.request().header("Route"), Some(format!("<sip:{};lr>", bob.peer.local()).as_str()));
    assert!(call.request().header("P-Charging-Vector").is_some_and(|vector| vector.contains("orig-ioi=example.org")));
    let msrp = bob.msrp(Setup::Active);
    call.answer(&msrp, Setup::Active);
    let pushed = msrp.expect_messages(1);
    call.expect_bye();
    scene.same(&pushed, &[deposit]);
    // Who is registered is online.
    let later = scene.alice().message(BOB, "now that you are back");
    scene.same(&bob.take_push(1), &[later]);
}

//= TS 24.229 5.7.1.1: taken from a trusted core alone: else 403
//= RFC 3261 10.3: who is not authorised: 403; "*" with an expiration: 400; too brief: 423 with Min-Expires
#[test]
fn what_is_no_good_registration_is_refused() {
    let scene = Scene::with(at_once());
    let bob = scene.bob_udp();
    let core = |_: &str| third_party(&bob, 3600);
    let own = bob.request_to("REGISTER", "sip:example.org").set("To", format!("<{BOB}>"));
    let own = own.with("Contact", bob.contact.clone());
    let table = [
        (core("").set("To", "<sip:bob@elsewhere.org>"), 404),
        (core("").set("To", "<tel:+15551234>"), 404),
        (core("").set("Contact", "<nonsense>"), 400),
        (core("").set("Contact", format!("<sip:{}>", "x".repeat(600))), 400),
        (core("").with("Require", "gruu"), 420),
        (own.clone().set("P-Asserted-Identity", "<sip:carol@example.org>"), 403),
        (own.clone().without("P-Asserted-Identity"), 403),
        (own.clone().with("Expires", "30"), 423),
        (own.clone().set("Contact", "*"), 400),
        (own.clone().set("Contact", "*").with("Expires", "60"), 400),
    ];
    for (request, status) in table {
        let request = request.set("Via", bob.peer.via()).set("Call-ID", unique());
        let response = bob.exchange(&request);
        assert_eq!(response.code(), status, "{request:?}\n{response:?}");
        assert!(status != 423 || response.header("Min-Expires") == Some("60"));
    }
    let mut elsewhere = third_party(&bob, 3600);
    elsewhere.start = "REGISTER sip:registrar.elsewhere.org SIP/2.0".into();
    assert_eq!(bob.exchange(&elsewhere).code(), 404);

    let untrusted = Scene::with(at_once().line("sip", "trusted = [\"192.0.2.1/32\"]"));
    let bob = untrusted.bob_udp();
    assert_eq!(bob.exchange(&third_party(&bob, 3600)).code(), 403);
}

/// The feature tags of the enclosed REGISTER decide; another device does not take away what the first can.
#[test]
fn a_client_that_takes_no_messages_is_not_invited() {
    let (scene, bob) = behind_core(at_once());
    let mut waiting = vec![scene.alice().message(BOB, "one")];
    let plain = enclosed("<sip:bob@192.0.2.9>;expires=3600");
    registered(&bob, &third_party(&bob, 3600).with_body("message/sip", plain.clone()));
    expect_no(&bob, "INVITE");
    waiting.push(scene.alice().message(BOB, "two"));
    expect_no(&bob, "INVITE");
    let parts = format!(
        "--b\r\nContent-Type: application/3gpp-ims+xml\r\n\r\n<?xml version=\"1.0\"?><ims-3gpp version=\"1\"><service-info>x</service-info></ims-3gpp>\r\n\
         --b\r\nContent-Type: message/sip\r\n\r\n{}\r\n--b--\r\n",
        enclosed(TAGGED)
    );
    registered(&bob, &third_party(&bob, 3600).with_body("multipart/mixed;boundary=b", parts));
    scene.same(&bob.take_push(2), &waiting);
    registered(&bob, &third_party(&bob, 3600).with_body("message/sip", plain));
    let later = scene.alice().message(BOB, "three");
    scene.same(&bob.take_push(1), &[later]);
    // What cannot be read says nothing of the client: it is tried.
    registered(&bob, &third_party(&bob, 0));
    let later = scene.alice().message(BOB, "four");
    registered(&bob, &third_party(&bob, 3600).with_body("message/sip", "no SIP at all"));
    scene.same(&bob.take_push(1), &[later]);
}

/// A wish that was published holds, whoever registers.
#[test]
fn who_wants_no_deliveries_is_registered_in_peace() {
    let (scene, mut bob) = behind_core(at_once());
    let deposit = scene.alice().message(BOB, "one");
    bob.publish_settings(false);
    registered(&bob, &third_party(&bob, 3600));
    expect_no(&bob, "INVITE");
    bob.publish_settings(true);
    scene.same(&bob.take_push(1), &[deposit]);
}

//= TS 24.229 5.4.1.7: an Expires of 0: the user is not registered any more
#[test]
fn registrations_and_their_end_survive_the_daemon() {
    let (mut scene, mut bob) = behind_core(at_once().line("limits", "segment_octets = \"1MiB\""));
    registered(&bob, &third_party(&bob, 3600));
    scene.kill9();
    scene.restart(2);
    let deposit = scene.alice().message(BOB, "one");
    let call = bob.expect_invite();
    assert!(call.request().header("Route").is_some());
    let msrp = bob.msrp(Setup::Passive);
    call.answer(&msrp, Setup::Passive);
    let pushed = msrp.expect_messages(1);
    // Deregistered in the middle: what runs ends as it may.
    assert_eq!(registered(&bob, &third_party(&bob, 0)).header("Expires"), Some("0"));
    call.expect_bye();
    scene.same(&pushed, &[deposit]);
    let mut waiting = vec![scene.alice().message(BOB, "two")];
    expect_no(&bob, "INVITE");
    scene.kill9();
    scene.restart(1);
    waiting.push(scene.alice().message(BOB, "three"));
    expect_no(&bob, "INVITE");
    bob.publish_presence(true);
    scene.same(&bob.take_push(2), &waiting);
    // A core's word that the user is gone stands above what was published before.
    registered(&bob, &third_party(&bob, 0));
    let deposit = scene.alice().message(BOB, "four");
    expect_no(&bob, "INVITE");
    bob.refresh("presence");
    scene.same(&bob.take_push(1), &[deposit]);
}

/// Who declined is left in peace by a refresh, and asked again when they were gone and come back.
#[test]
fn only_a_new_registration_is_a_reason_to_ring_who_declined() {
    let (scene, bob) = behind_core(at_once());
    let deposit = scene.alice().message(BOB, "one");
    registered(&bob, &third_party(&bob, 3600));
    bob.expect_invite().respond(486, "Busy Here");
    bob.inbox.expect_request("ACK");
    registered(&bob, &third_party(&bob, 3600));
    expect_no(&bob, "INVITE");
    registered(&bob, &third_party(&bob, 0));
    registered(&bob, &third_party(&bob, 3600));
    scene.same(&bob.take_push(1), &[deposit]);
}

//= RFC 3261 10.3: a REGISTER is answered with the bindings; without a Contact it leaves them
#[test]
fn without_a_core_a_user_is_reached_the_way_the_register_came() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let scene = Scene::with(at_once());
        let deposit = scene.alice().message(BOB, "one");
        let bob = scene.client(transport, BOB, scene.sip());
        let register = || bob.request_to("REGISTER", "sip:example.org").set("To", format!("<{BOB}>"));
        let contact = bob.contact.clone();
        let ok = registered(&bob, &register().with("Contact", contact.clone()).with("Expires", "600"));
        let own = format!("<{}>;expires=600", deferd_kit::sip::uri_of(&contact));
        assert_eq!(ok.header("Contact"), Some(own.as_str()));
        let call = bob.expect_invite();
        assert_eq!(call.request().header("Route"), None);
        let msrp = bob.msrp(Setup::Active);
        call.answer(&msrp, Setup::Active);
        let pushed = msrp.expect_messages(1);
        call.expect_bye();
        scene.same(&pushed, &[deposit]);
        assert!(registered(&bob, &register()).header("Contact").unwrap().contains(";expires="));
        let ok = registered(&bob, &register().with("Contact", "*").with("Expires", "0"));
        assert_eq!(ok.header("Contact"), None);
        scene.alice().message(BOB, "nobody is there");
        expect_no(&bob, "INVITE");
    }
}

/// Home decides, whichever core the request reached.
#[test]
fn any_core_takes_a_registration() {
    let mut options = at_once();
    options.cores = 2;
    let scene = Scene::with(options);
    for number in 0..6 {
        let aor = format!("sip:user{number}@example.org");
        let deposit = scene.alice().message(&aor, "hello");
        let user = scene.client(Transport::Tcp, &aor, scene.sip());
        let register = user.request_to("REGISTER", "sip:example.org").set("To", format!("<{aor}>"));
        registered(&user, &register.with("Contact", user.contact.clone()));
        scene.same(&user.take_push(1), &[deposit]);
    }
}

/// A REGISTER of bob's own, where no core stands between.
fn own_register(bob: &Client) -> SipMessage {
    bob.request_to("REGISTER", "sip:mailserver.example.org").set("To", format!("<{BOB}>"))
}

//= RFC 3261 10.3: the registrar now processes each contact address in the Contact header field in turn
#[test]
fn each_contact_of_a_register_is_a_binding() {
    let scene = Scene::with(at_once().line("policy", "push_min_interval = \"0s\""));
    let mut bob = scene.bob();
    let deposit = scene.alice().message(BOB, "one");
    let answered = |request: &SipMessage| {
        let response = registered(&bob, request);
        let mut bindings: Vec<String> = response.all("Contact").iter().map(|value| value.to_string()).collect();
        bindings.sort();
        bindings
    };
    let left = |value: &str| -> u32 { value.rsplit('=').next().unwrap().parse().unwrap() };
    // One takes instant messages, the other does not; each has its own time, or that of the request.
    let both = own_register(&bob)
        .with("Contact", "<sip:bob@192.0.2.8>;expires=600;q=0.9, <sip:bob@192.0.2.7>;+g.oma.sip-im;q=0.1")
        .with("Expires", "1800");
    let bindings = answered(&both);
    assert_eq!(bindings.len(), 2, "{bindings:?}");
    assert!(
        bindings[0].starts_with("<sip:bob@192.0.2.7>") && (1790..=1800).contains(&left(&bindings[0])),
        "{bindings:?}"
    );
    assert!(
        bindings[1].starts_with("<sip:bob@192.0.2.8>") && (590..=600).contains(&left(&bindings[1])),
        "{bindings:?}"
    );
    // The push is for the user: it goes the way of the REGISTER, and whoever takes it there takes it.
    let invite = bob.expect_invite();
    assert!(invite.request().start.starts_with(&format!("INVITE {BOB} ")), "{}", invite.request().start);
    let msrp = bob.msrp(Setup::Active);
    invite.answer(&msrp, Setup::Active);
    let pushed = msrp.expect_messages(1);
    invite.expect_bye();
    scene.same(&pushed, &[deposit]);
    // All of them or none.
    let brief = own_register(&bob).with("Contact", "<sip:bob@192.0.2.9>, <sip:bob@192.0.2.10>;expires=1");
    assert_eq!(bob.exchange(&brief).code(), 423);
    let bad = own_register(&bob).with("Contact", "<sip:bob@192.0.2.9>, *").with("Expires", "0");
    assert_eq!(bob.exchange(&bad).code(), 400);
    assert_eq!(answered(&own_register(&bob)).len(), 2);
    // The one that takes messages goes, in one request with one that comes; what is left takes none.
    let swap = own_register(&bob)
        .with("Contact", "<sip:bob@192.0.2.7>;expires=0")
        .with("Contact", "<sip:bob@192.0.2.11>;expires=900");
    let bindings = answered(&swap);
    assert_eq!(bindings.len(), 2, "{bindings:?}");
    assert!(bindings.iter().all(|binding| !binding.contains("192.0.2.7")), "{bindings:?}");
    let waits = scene.alice().message(BOB, "two");
    assert!(bob.invite_within(Duration::from_millis(500)).is_none(), "nobody is there who takes it");
    scene.push_brings(&mut bob, &[waits]);
}

/// The push INVITE as the core hands it back: its own Via on top, us and itself in Route.
fn handed_back(scene: &Scene, bob: &Client, request: &SipMessage) -> SipMessage {
    let mut looped = request.clone().without("Route").set("Max-Forwards", "68");
    looped.headers.insert(0, ("Via".into(), bob.peer.via()));
    looped.with("Route", format!("<sip:{};lr>, <sip:{};lr;odi=7f3a>", scene.sip(), bob.peer.local()))
}

fn came_round(bob: &Client, method: &str) -> Received {
    let isc = |message: &SipMessage| message.method() == method && message.branch().starts_with("z9hG4bK-isc-");
    bob.inbox.expect("our request again", isc)
}

//= RFC 3261 16.6: Max-Forwards one less, a Via on top
//= RFC 3261 16.7: a response loses its topmost Via
//= RFC 3261 16.11: a repetition gets the same branch
//= RFC 3261 18.2.2: a response goes where the topmost Via says
#[test]
fn an_invite_of_ours_that_comes_round_goes_on_to_its_next_route() {
    let (scene, bob) = behind_core(at_once());
    let deposit = scene.alice().message(BOB, "one");
    registered(&bob, &third_party(&bob, 3600));
    let invite = bob.inbox.expect_request("INVITE");
    let looped = handed_back(&scene, &bob, &invite.message);
    bob.send_raw(&looped.write());
    let again = came_round(&bob, "INVITE");
    let message = &again.message;
    assert_eq!(message.header("Route"), Some(format!("<sip:{};lr;odi=7f3a>", bob.peer.local()).as_str()));
    assert_eq!((message.header("Max-Forwards"), message.all("Via").len()), (Some("67"), 3));
    assert_eq!((&message.start, &message.body, message.call_id()), (&looped.start, &looped.body, looped.call_id()));
    let repeated = bob.inbox.repeated();
    bob.send_raw(&looped.write());
    bob.inbox.expect_repeated(repeated + 1);

    // The answer takes the same way back, and is the push's in the end.
    for (code, reason) in [(180, "Ringing"), (486, "Busy Here")] {
        again.link.send(&SipMessage::response(message, code, reason, "ue").write());
        let back = bob.inbox.expect("the answer", |m| m.code() == code && m.branch() == looped.branch());
        assert_eq!(back.message.all("Via").len(), 2);
    }
    let mut ack = handed_back(&scene, &bob, &invite.message);
    ack.start = ack.start.replace("INVITE", "ACK");
    ack.body.clear();
    let ack = ack
        .without("Content-Type")
        .without("Content-Length")
        .without("P-Asserted-Identity")
        .set("CSeq", "1 ACK")
        .set("To", format!("<{BOB}>;tag=ue"));
    bob.send_raw(&ack.write());
    assert_eq!(came_round(&bob, "ACK").message.header("Route"), message.header("Route"));
    bob.inbox.respond(&invite, &SipMessage::response(&invite.message, 486, "Busy Here", "ue"));
    bob.inbox.expect("the ACK of the push", |m| m.method() == "ACK" && m.branch() == invite.message.branch());
    registered(&bob, &third_party(&bob, 0));
    registered(&bob, &third_party(&bob, 3600));
    scene.same(&bob.take_push(1), &[deposit]);
}

#[test]
fn what_cannot_go_on_is_answered_and_what_is_not_ours_is_not_forwarded() {
    let (scene, bob) = behind_core(at_once());
    scene.alice().message(BOB, "one");
    registered(&bob, &third_party(&bob, 3600));
    let invite = bob.inbox.expect_request("INVITE");
    let looped = || handed_back(&scene, &bob, &invite.message);
    let us = format!("<sip:{};lr>", scene.sip());
    let table = [
        (looped().set("Route", us.clone()), 482),
        (looped().without("Route"), 482),
        (looped().set("Max-Forwards", "0"), 483),
        (looped().set("Call-ID", "somebody.else@mailserver.example.org"), 480),
        (looped().set("P-Asserted-Identity", "<sip:alice@example.org>"), 480),
        (looped().set("From", "<sip:alice@example.org>;tag=0000aaaaaaaaaaaaaaaa"), 480),
    ];
    for (request, status) in table {
        let branch = request.branch().to_string();
        bob.send_raw(&request.write());
        let answer = bob.inbox.expect("an answer", |m| m.code() >= 200 && m.branch() == branch);
        assert_eq!(answer.message.code(), status, "{request:?}");
    }
    let isc = |message: &SipMessage| message.branch().starts_with("z9hG4bK-isc-");
    assert!(bob.inbox.find(Duration::from_millis(300), isc).is_none());
}
