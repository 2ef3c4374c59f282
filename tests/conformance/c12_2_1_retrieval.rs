//! 12.1.1 and 12.2.1: a user sets up a session with the function and is sent all that waits, or what they chose.

use std::time::Duration;

use deferd_kit::{
    agents::Client,
    daemon::DaemonOptions,
    large::Large,
    msrp::MsrpMessage,
    msrp_client::{MsrpClient, Reply},
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sdp::{Answer, Sdp, Setup},
    sip::SipMessage,
};

use crate::{
    DEFERD,
    selection::{ack, asking, expect_bye, ids, invite, invite_list, resource_list, uri, waits, within},
};

fn deposits(scene: &Scene, count: usize) -> Vec<SipMessage> {
    let alice = scene.alice();
    (0..count).map(|number| alice.message(BOB, &format!("message {number}"))).collect()
}

/// Sends an INVITE, insists on 200, acknowledges, binds.
#[track_caller]
fn begin(bob: &Client, msrp: &MsrpClient, request: &SipMessage) -> SipMessage {
    let ok = bob.exchange(request);
    assert_eq!(ok.code(), 200, "{ok:?}");
    ack(bob, request, &ok);
    let path = Sdp::read(&ok.body).unwrap().attribute("path").unwrap().to_string();
    msrp.connect(&path);
    ok
}

/// A whole retrieval.
#[track_caller]
fn retrieve(bob: &Client, request: impl Fn(&[u8]) -> SipMessage, count: usize) -> Vec<MsrpMessage> {
    let msrp = bob.msrp(Setup::Active);
    let request = request(&Answer::new(msrp.path(), Setup::Active).write());
    begin(bob, &msrp, &request);
    msrp.expect_messages(count);
    expect_bye(bob, &request);
    msrp.judge();
    assert_eq!(msrp.messages().len(), count);
    msrp.messages()
}

//= 12.2.1.1.2-3: all deferred messages are to be retrieved
//= 12.2.1.1.2-5: messages are sent as defined in 12.2.2.5
//= 12.2.1 (200-1): SHALL generate a 200 "OK" according to RFC 3261
//= 12.2.1.1: extracts all deferred messages, if the received request does not contain Uri-list body
//= 12.2.1 (200-2): SHALL include a Server header to indicate the IM release version
//= 12.2.1 (200-3): SHOULD include an Allow header field
//= 12.2.1 (200-4): SHALL include the feature tag "automata" in the Contact header field
//= 12.2.1 (200-5): SHALL include a SDP body as a SDP answer
#[test]
fn without_a_list_all_messages_come() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 30);
    let bob = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    let request = invite(&bob, &Answer::new(msrp.path(), Setup::Active).write());
    let request = request.with("Session-Expires", "1800;refresher=uac");
    let ok = begin(&bob, &msrp, &request);
    assert!(ok.header("Server").unwrap().starts_with("IM-serv/OMA1.0"));
    assert!(ok.header("Allow").unwrap().contains("BYE"));
    let contact = ok.header("Contact").unwrap();
    assert!(contact.contains("automata") && contact.contains("+g.oma.sip-im"), "{contact}");
    assert!(ok.header("Supported").unwrap().contains("recipient-list-invite"));
    assert_eq!((ok.header("Require"), ok.header("Session-Expires")), (Some("timer"), Some("1800;refresher=uac")));
    let sdp = Sdp::read(&ok.body).unwrap();
    assert_eq!((sdp.attribute("sendonly"), sdp.attribute("setup")), (Some(""), Some("passive")));
    assert!(sdp.attribute("accept-types").is_some());
    let pushed = msrp.expect_messages(30);
    let bye = expect_bye(&bob, &request);
    assert_eq!(bye.tag("From"), ok.tag("To"));
    assert_eq!(bye.tag("To"), request.tag("From"));
    scene.same(&pushed, &deposits);
}

//= 12.2.1.1: extracts the deferred message(s) representing the Message-ID(s) in the Uri-list
//= 12.2.1.1.2-2: one or multiple selected deferred message(s) is to be retrieved
#[test]
fn with_a_list_those_come_that_it_names_in_its_order() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 4);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 4);
    let list = [ids[2].as_str(), "01jq8z4m7v5c2t9x3h6k0d1b2w", &ids[0], &ids[2]];
    let pushed = retrieve(&bob, |sdp| invite_list(&bob, sdp, &list), 2);
    scene.same(&pushed, &[deposits[2].clone(), deposits[0].clone()]);
    assert_eq!(pushed[0].message_id, ids[2]);
    let one = retrieve(&bob, |sdp| invite_list(&bob, sdp, &[&ids[3]]).without("Require"), 1);
    scene.same(&one, &deposits[3..]);
    // What was retrieved is old: it is not pushed, and may be retrieved again.
    waits(&scene, &mut bob, &deposits[1..2]);
    let again = retrieve(&bob, |sdp| invite(&bob, sdp), 3);
    scene.same(&again, &[deposits[0].clone(), deposits[2].clone(), deposits[3].clone()]);
}

/// However often and however it is written, a message is one: with its scheme, without, as `sips:`.
//= RFC 5363 4.1: a URI that is there more than once MUST be treated as if it appeared only once
#[test]
fn a_message_that_is_named_twice_comes_once() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 2);
    let [bare, other] = ["", "sips:"].map(|scheme| format!("{scheme}{}@MAILSERVER.example.org;x=y", ids[1]));
    let list = resource_list(&[bare, uri(&ids[1]), other, uri(&ids[0])]);
    let pushed = retrieve(&bob, |sdp| resource_list_of(&bob, sdp, &list), 2);
    scene.same(&pushed, &[deposits[1].clone(), deposits[0].clone()]);
}

/// RFC 5366 5.2: a list of disposition recipient-list-history says who else was invited, and chooses nothing.
#[test]
fn a_list_of_who_else_was_invited_names_no_messages() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 2);
    let bob = scene.bob();
    let pushed = retrieve(
        &bob,
        |sdp| {
            let history = invite_list(&bob, sdp, &["nobody"]);
            let body = String::from_utf8(history.body.clone()).unwrap();
            let body = body.replace("recipient-list\r\n", "recipient-list-history;handling=optional\r\n");
            assert!(body.contains("-history"), "{body}");
            history.with_body("multipart/mixed;boundary=\"boundary1\"", body)
        },
        2,
    );
    scene.same(&pushed, &deposits);
}

#[test]
fn what_was_retrieved_goes_where_the_operator_wants_that() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "retrieved = \"delete\""));
    let deposits = deposits(&scene, 3);
    let mut bob = scene.bob();
    let pushed = retrieve(&bob, |sdp| invite(&bob, sdp), 3);
    scene.same(&pushed, &deposits);
    let msrp = bob.msrp(Setup::Active);
    let nothing = bob.exchange(&invite(&bob, &Answer::new(msrp.path(), Setup::Active).write()));
    assert_eq!(nothing.code(), 488);
    scene.nothing_waits(&mut bob);
}

#[test]
fn what_is_retained_outlives_the_daemon() {
    let mut scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob_udp();
    retrieve(&bob, |sdp| invite(&bob, sdp), 2);
    scene.kill9();
    scene.restart(2);
    scene.nothing_waits(&mut bob);
    let again = retrieve(&bob, |sdp| invite(&bob, sdp), 2);
    scene.same(&again, &deposits);
}

//= 12.2.1.1.2-1: no deferred messages to be delivered: 488 with a Warning header set to "no messages"
#[test]
fn nothing_to_retrieve_is_488() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 1);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 1);
    let carol = scene.client(Transport::Tcp, "sip:carol@example.org", scene.daemon.sip());
    let sdp = Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write();
    // Foreign ids look like unknown ones.
    for request in [invite(&carol, &sdp), invite_list(&carol, &sdp, &[&ids[0]]), invite_list(&bob, &sdp, &["0"])] {
        let client = if request.header("P-Asserted-Identity").unwrap().contains("bob") { &bob } else { &carol };
        let response = client.exchange(&request);
        assert_eq!(response.code(), 488);
        assert_eq!(response.header("Warning"), Some("399 mailserver.example.org \"no messages\""));
    }
}

//= 12.2.1-1: a user that is not allowed to retrieve: 403 "Forbidden" with a Warning header
//= 12.2.1-2: without 'recvonly' for the session or the "m=message" media: 488 "Not Acceptable Here" with the correct SDP parameters
#[test]
fn what_cannot_be_served_says_why() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 1);
    let mut bob = scene.bob();
    let path = "msrp://127.0.0.1:9/x;tcp";
    let offer = |change: fn(String) -> String| {
        change(String::from_utf8(Answer::new(path, Setup::Active).write()).unwrap()).into_bytes()
    };
    let good = offer(|sdp| sdp);
    let sdp = |change: fn(String) -> String| invite(&bob, &offer(change));
    let no_list = resource_list_of(
        &bob,
        &good,
        "<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list/></resource-lists>",
    );
    let entries: String = (0..1_001).map(|number| format!("<entry uri=\"{}\"/>", uri(&number.to_string()))).collect();
    let too_many = format!(
        "<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\"><list>{entries}</list></resource-lists>"
    );
    let not_theirs = "399 mailserver.example.org \"127 Service not authorised\"";
    let table: Vec<(SipMessage, u16, &str)> = vec![
        (invite(&bob, &good).without("P-Asserted-Identity"), 403, not_theirs),
        (invite(&bob, &good).set("P-Asserted-Identity", "<sip:bob@elsewhere.net>"), 403, not_theirs),
        (sdp(|sdp| sdp.replace("a=recvonly", "a=sendrecv")), 488, "399"),
        (sdp(|sdp| sdp.replace("a=recvonly\r\n", "")), 488, "399"),
        (sdp(|sdp| sdp.replace("m=message", "m=audio")), 488, "304"),
        (sdp(|sdp| sdp.replace("TCP/MSRP", "TCP/TLS/MSRP")), 488, "302"),
        (sdp(|sdp| sdp.replace("multipart/mixed message/cpim message/sip message/sipfrag", "text/plain")), 488, "305"),
        (sdp(|sdp| sdp.replace("setup:active", "setup:passive").replace("127.0.0.1:9", "198.51.100.1:9")), 488, "399"),
        (sdp(|_| "no sdp".into()), 400, ""),
        (SipMessage { body: Vec::new(), ..invite(&bob, &good).without("Content-Type") }, 488, "304"),
        (invite(&bob, &good).with_body("text/plain", "hello"), 415, ""),
        (no_list, 400, ""),
        (resource_list_of(&bob, &good, "no xml"), 400, ""),
        (resource_list_of(&bob, &good, &too_many), 413, ""),
        (invite(&bob, &good).without("Contact"), 400, ""),
        (invite(&bob, &good).with("Require", "teleport"), 420, ""),
        (invite(&bob, &good).with("Session-Expires", "60"), 422, ""),
        (invite(&bob, &good).with("Accept", "text/plain"), 406, ""),
    ];
    for (request, status, warning) in table {
        let response = bob.exchange(&request);
        assert_eq!(response.code(), status, "{request:?}\n{response:?}");
        assert!(response.header("Warning").unwrap_or_default().starts_with(warning), "{warning}: {response:?}");
        let obliges = match status {
            415 => Some(("Accept", "application/sdp, multipart/mixed, application/resource-lists+xml")),
            420 => Some(("Unsupported", "teleport")),
            422 => Some(("Min-SE", "90")),
            _ => None,
        };
        if let Some((name, value)) = obliges {
            assert_eq!(response.header(name), Some(value), "{response:?}");
        }
        if status == 488 {
            let capable = Sdp::read(&response.body).unwrap();
            assert_eq!(capable.port_and_proto(), Some((0, "TCP/MSRP")));
            assert_eq!(capable.attribute("sendonly"), Some(""));
        }
    }
    let offered_by_session =
        offer(|sdp| sdp.replace("t=0 0\r\n", "t=0 0\r\na=recvonly\r\n").replace("*\r\na=recvonly", "*"));
    let session = bob.exchange(&invite(&bob, &offered_by_session));
    assert_eq!(session.code(), 200, "recvonly may stand at the session: {session:?}");
    bob.publish_presence(false);
}

fn resource_list_of(bob: &Client, sdp: &[u8], document: &str) -> SipMessage {
    let list = "Content-Type: application/resource-lists+xml";
    let tail = format!("\r\n--b\r\n{list}\r\n\r\n{document}\r\n--b--");
    let body = [b"--b\r\nContent-Type: application/sdp\r\n\r\n".as_slice(), sdp, tail.as_bytes()].concat();
    invite(bob, sdp).with_body("multipart/mixed;boundary=b", body)
}

/// Who says nothing of timers has none; whoever is to refresh by the request's word refreshes.
//= RFC 4028 9, table 2: who refreshes, and when Require says so
#[test]
fn the_session_timer_is_as_the_client_wants_it() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 1);
    let bob = scene.bob();
    let sdp = Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write();
    for (request, required, agreed) in [
        (invite(&bob, &sdp).without("Supported"), None, None),
        (invite(&bob, &sdp).with("Session-Expires", "600;refresher=uas"), None, Some("600;refresher=uas")),
        (invite(&bob, &sdp).with("Session-Expires", "600;refresher=uac"), Some("timer"), Some("600;refresher=uac")),
    ] {
        let ok = bob.exchange(&request);
        assert_eq!(ok.code(), 200, "{ok:?}");
        ack(&bob, &request, &ok);
        assert_eq!(ok.header("Session-Expires"), agreed, "{ok:?}");
        assert!(required.is_none() || ok.header("Require") == required, "{ok:?}");
        assert!(agreed.is_some() || ok.header("Require").is_none(), "{ok:?}");
        assert_eq!(bob.exchange(&within(&bob, "BYE", 2, &request, &ok)).code(), 200);
    }
}

/// A client that listens, though it offers, is connected to; a plain RFC 4975 one connects itself.
#[test]
fn who_connects_is_whoever_the_offer_says() {
    for setup in [Setup::Passive, Setup::Absent] {
        let scene = Scene::new(DEFERD);
        let deposits = deposits(&scene, 2);
        let bob = scene.bob();
        let msrp = if setup == Setup::Passive { bob.msrp(Setup::Passive) } else { bob.msrp(Setup::Active) };
        let request = invite(&bob, &Answer::new(msrp.path(), setup).write());
        let ok = bob.exchange(&request);
        assert_eq!(ok.code(), 200, "{ok:?}");
        ack(&bob, &request, &ok);
        if setup == Setup::Absent {
            msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
        }
        let pushed = msrp.expect_messages(2);
        expect_bye(&bob, &request);
        scene.same(&pushed, &deposits);
    }
}

//= RFC 3261 15: the callee MUST NOT send a BYE on a confirmed dialog until it has received an ACK for its 2xx
#[test]
fn the_bye_waits_for_the_ack() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 1);
    let bob = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    let request = invite(&bob, &Answer::new(msrp.path(), Setup::Active).write());
    let ok = bob.exchange(&request);
    msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
    msrp.expect_messages(1);
    assert!(bob.inbox.find(Duration::from_millis(700), |message| message.method() == "BYE").is_none());
    ack(&bob, &request, &ok);
    expect_bye(&bob, &request);
}

/// What a push has in hand is not sent twice; when that is everything, the client is asked to come again.
#[test]
fn during_a_push_the_rest_is_retrieved() {
    let scene = Scene::new(DEFERD);
    let mut all = deposits(&scene, 2);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (mut call, pushed) = (bob.expect_invite(), bob.msrp(Setup::Active));
    pushed.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&pushed, Setup::Active);
    pushed.expect_sends(2);
    let msrp = bob.msrp(Setup::Active);
    let request = invite(&bob, &Answer::new(msrp.path(), Setup::Active).write());
    let busy = bob.exchange(&request);
    assert_eq!((busy.code(), busy.header("Retry-After")), (486, Some("10")));
    bob.publish_presence(false);
    call.bye();
    // Back where they were: all of them, and what has come since.
    all.extend(deposits(&scene, 1));
    let retrieved = retrieve(&bob, |sdp| invite(&bob, sdp), 3);
    scene.same(&retrieved, &all);
}

/// As many sessions as the operator allows: the next is asked to come again, and loses nothing.
#[test]
fn a_retrieval_beyond_the_bound_of_sessions_is_503() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("limits", "sessions = 1"));
    let deposits = deposits(&scene, 1);
    let carols = scene.alice().message("sip:carol@example.org", "for carol");
    let bob = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    let request = invite(&bob, &Answer::new(msrp.path(), Setup::Active).write());
    let ok = begin(&bob, &msrp, &request);
    msrp.expect_sends(1);
    let carol = scene.client(Transport::Tcp, "sip:carol@example.org", scene.daemon.sip());
    let sdp = Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write();
    let refused = carol.exchange(&invite(&carol, &sdp));
    assert_eq!(refused.code(), 503, "{refused:?}");
    assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    assert_eq!(bob.exchange(&within(&bob, "BYE", 2, &request, &ok)).code(), 200);
    scene.same(&retrieve(&carol, |sdp| invite(&carol, sdp), 1), &[carols]);
    scene.same(&retrieve(&bob, |sdp| invite(&bob, sdp), 1), &deposits);
}

/// RFC 5366 5.1: the list belongs to the first INVITE.
#[test]
fn a_later_invite_brings_no_list() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 1);
    let bob = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    let sdp = Answer::new(msrp.path(), Setup::Active).write();
    let request = invite(&bob, &sdp);
    let ok = begin(&bob, &msrp, &request);
    msrp.expect_sends(1);
    let again = within(&bob, "INVITE", 2, &request, &ok)
        .with("Contact", bob.contact.clone())
        .with("Require", "recipient-list-invite")
        .with_body("application/sdp", sdp);
    let refused = bob.exchange(&again);
    assert_eq!((refused.code(), refused.header("Unsupported")), (420, Some("recipient-list-invite")));
    assert_eq!(bob.exchange(&within(&bob, "BYE", 3, &request, &ok)).code(), 200);
}

/// Home decides, whichever core the request reached; the dialog's requests find their way.
#[test]
fn any_core_takes_an_invite() {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 2;
    let scene = Scene::with(options);
    let alice = scene.alice();
    for number in 0..6 {
        let aor = format!("sip:user{number}@example.org");
        let deposit = alice.message(&aor, "hello");
        let user = scene.client(Transport::Tcp, &aor, scene.daemon.sip());
        let pushed = retrieve(&user, |sdp| invite(&user, sdp), 1);
        scene.same(&pushed, &[deposit]);
    }
}

/// The CANCEL comes in the same segment as its INVITE, whose ids have to be looked for on the disk.
//= RFC 3261 9.2: the UAS SHOULD immediately respond to the original request with a 487 (Request Terminated)
#[test]
fn an_invite_that_is_taken_back_while_it_is_looked_for_is_487() {
    let mut scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 2);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 2);
    // What was deposited before is not in the memory of the next life.
    drop(bob);
    scene.daemon.kill9();
    scene.daemon.restart(1);
    let bob = scene.bob();
    let sdp = Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write();
    let request = invite_list(&bob, &sdp, &[&ids[0]]);
    let start = request.start.replacen("INVITE", "CANCEL", 1);
    let cancel = SipMessage { start, body: Vec::new(), ..request.clone() };
    let cancel = cancel.without("Content-Type").without("Require").without("Supported").without("Contact");
    let cancel = cancel.set("CSeq", format!("{} CANCEL", request.cseq()));
    bob.send_raw(&[request.write(), cancel.write()].concat());
    let code = bob.peer.expect_final(&request).code();
    assert_eq!(code, 487);
    assert_eq!(bob.peer.expect_final(&cancel).code(), 200);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
}

//= RFC 3262 4: a UAS that does not support 100rel and is asked for it answers 420
#[test]
fn nobody_gets_reliable_provisional_responses_of_us() {
    let scene = Scene::new(DEFERD);
    deposits(&scene, 1);
    let bob = scene.bob();
    let request =
        invite(&bob, &Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write()).with("Require", "100rel");
    let refused = bob.exchange(&request);
    assert_eq!((refused.code(), refused.header("Unsupported")), (420, Some("100rel")), "{refused:?}");
}

//= RFC 3261 13.3.1.4: a 2xx retransmitted until its ACK comes
#[test]
fn a_client_that_never_binds_is_told_good_bye() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("msrp", "bind_timeout = \"1s\""));
    let deposits = deposits(&scene, 1);
    let mut bob = scene.bob();
    let request = invite(&bob, &Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write());
    let ok = bob.exchange(&request);
    let again = bob.inbox.expect("the 200 again", |message| message.code() == 200 && message.cseq_method() == "INVITE");
    assert_eq!(again.message, ok, "until the ACK is there");
    ack(&bob, &request, &ok);
    expect_bye(&bob, &request);
    scene.push_brings(&mut bob, &deposits);
}

/// Mission document 0: the older forms, where the operator lets them.
//= S0 one: extracts the user part, unescapes it to get the original message id, retrieves that message
//= S0 some: the URI-list contains the ids of the messages that the user wants
//= S0 all: all stored messages
#[test]
fn the_older_forms_have_their_switch() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "legacy_s0_retrieval = true"));
    let deposits = deposits(&scene, 3);
    let mut bob = scene.bob();
    let ids = ids(&mut bob, 3);
    let to = |sdp: &[u8], target: &str| {
        let request = invite(&bob, sdp).set("To", format!("<{target}>"));
        SipMessage { start: format!("INVITE {target} SIP/2.0"), ..request }
    };
    let escaped = deposits[1].call_id().replace('@', "%40");
    let original = format!("sip:{escaped}@mailserver.example.org");
    scene.same(&retrieve(&bob, |sdp| to(sdp, &original), 1), &deposits[1..2]);
    scene.same(&retrieve(&bob, |sdp| to(sdp, &uri(&ids[2])), 1), &deposits[2..]);
    scene.same(&retrieve(&bob, |sdp| to(sdp, "sip:bob@mailserver.example.org"), 3), &deposits);
    // RFC 5438's name for a message is as good as the request's.
    let alice = scene.alice();
    let body = asking("34jk324j", "display", "hello");
    let named = alice.deposit(alice.text(BOB, "").with_body("message/cpim", body));
    scene.same(&retrieve(&bob, |sdp| to(sdp, "sip:34jk324j@mailserver.example.org"), 1), &[named]);
    let unknown =
        to(&Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write(), "sip:no%40body@mailserver.example.org");
    assert_eq!(bob.exchange(&unknown).code(), 404);
    let without = Scene::new(DEFERD);
    let bob = without.bob();
    let request = invite(&bob, &Answer::new("msrp://127.0.0.1:9/x;tcp", Setup::Active).write());
    let request = SipMessage { start: "INVITE sip:bob@mailserver.example.org SIP/2.0".into(), ..request };
    assert_eq!(bob.exchange(&request).code(), 404);
}

/// Where the host of the ids is a served domain too, an address there is a user's, and a large message for them no retrieval.
#[test]
fn the_older_forms_take_no_large_message_for_a_retrieval() {
    let options = DaemonOptions::new(DEFERD)
        .line("policy", "legacy_s0_retrieval = true")
        .line("server", "domains = [\"example.org\", \"mailserver.example.org\"]");
    let scene = Scene::with(options);
    let alice = scene.client(Transport::Tcp, ALICE, scene.daemon.sip());
    let large = Large::open(alice, "sip:bob@mailserver.example.org");
    large.deposit("samehost", b"for bob", 100);
    large.bye();
}
