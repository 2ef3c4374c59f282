//! What the daemon says it can do, and what it says to what it cannot: OPTIONS, unknown methods, unknown extensions.

use deferd_kit::{
    agents::Client,
    call::Call,
    large::Large,
    msrp_client::{MsrpClient, Reply},
    scene::{ALICE, BOB, Scene},
    sdp::{Answer, Sdp, Setup},
    sip::SipMessage,
};

use crate::{
    DEFERD,
    c12_2_2_1_large::alice as large_sender,
    selection::{DEFERRED, DELETE, ack, invite, within},
};

/// A push that waits for the answer to its one SEND.
#[track_caller]
fn waiting(bob: &mut Client) -> (Call, MsrpClient) {
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    (call, msrp)
}

fn tokens(message: &SipMessage, name: &str) -> Vec<String> {
    message.all(name).join(",").split(',').map(|token| token.trim().to_string()).collect()
}

#[track_caller]
fn says_all(response: &SipMessage) {
    assert_eq!(response.code(), 200, "{response:?}");
    let table: [(&str, &[&str]); 4] = [
        ("Allow", &["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "REFER", "MESSAGE", "PUBLISH"]),
        (
            "Accept",
            &[
                "application/sdp",
                "multipart/mixed",
                "application/resource-lists+xml",
                "application/poc-settings+xml",
                "message/cpim",
            ],
        ),
        ("Supported", &["timer", "recipient-list-invite", "norefersub", "multiple-refer"]),
        ("Allow-Events", &["presence", "poc-settings", "refer"]),
    ];
    for (name, wanted) in table {
        let found = tokens(response, name);
        assert!(wanted.iter().all(|wanted| found.iter().any(|found| found == wanted)), "{name}: {found:?}");
    }
    assert!(response.header("Accept-Encoding").is_some() && response.header("Accept-Language").is_some());
}

//= RFC 3261 11.2: Allow, Accept, Accept-Encoding, Accept-Language, and Supported SHOULD be present in a 200 to OPTIONS
#[test]
fn options_says_what_can_be_done_outside_a_dialog_and_within() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    for target in ["sip:mailserver.example.org", BOB, DEFERRED] {
        says_all(&alice.exchange(alice.request("OPTIONS", target)).response);
    }
    // An endpoint does not forward: a hop count that is used up does not matter to it.
    let last_hop = alice.request("OPTIONS", "sip:mailserver.example.org").set("Max-Forwards", "0");
    says_all(&alice.exchange(last_hop).response);
    alice.message(BOB, "hello");
    let mut bob = scene.bob();
    let (mut call, _msrp) = waiting(&mut bob);
    let options = call.request_in_dialog("OPTIONS");
    says_all(&call.exchange(&options));
    call.bye();
}

//= RFC 3261 8.2.1: a method that is recognised and not supported: 405 with Allow; one that is not recognised: 501
//= RFC 3262 3: a PRACK that matches no unacknowledged reliable provisional response: 481
//= RFC 6665 4.1.3: a NOTIFY that matches no subscription: 481
#[test]
fn a_method_that_makes_no_sense_in_a_session_says_so_and_the_session_goes_on() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    let (mut call, _msrp) = waiting(&mut bob);
    for (method, code) in [("INFO", 405), ("MESSAGE", 405), ("DANCE", 501), ("PRACK", 481), ("NOTIFY", 481)] {
        let request = call.request_in_dialog(method);
        let response = call.exchange(&request);
        assert_eq!(response.code(), code, "{response:?}");
        let allows = tokens(&response, "Allow").iter().any(|method| method == "UPDATE");
        assert_eq!(allows, matches!(code, 405 | 501), "{response:?}");
    }
    let fine = call.request_in_dialog("OPTIONS").with("X-Strange", "1").with("Proxy-Require", "teleport");
    says_all(&call.exchange(&fine));
    call.bye();
}

//= RFC 3261 21.4.6: a 405's Allow: a list of valid methods for the indicated address
#[test]
fn a_refer_elsewhere_hears_what_is_taken_there() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    for target in ["sip:mailserver.example.org", BOB, DEFERRED] {
        let refer = alice.request("REFER", target).with("Contact", "<sip:a@127.0.0.1>").with("Refer-To", "<sip:x@y>");
        let response = alice.exchange(refer).response;
        let allowed = tokens(&response, "Allow");
        let has = |method: &str| allowed.iter().any(|allowed| allowed == method);
        assert_eq!((response.code(), has("MESSAGE"), has("REFER")), (405, true, false), "{target} {response:?}");
    }
}

/// What a session's Allow says is what the session takes: each of these is asked for within it.
#[track_caller]
fn takes_what_it_says(said: &SipMessage, wanted: &str, mut ask: impl FnMut(&str) -> SipMessage) {
    assert_eq!(said.header("Allow"), Some(wanted), "{said:?}");
    let allowed = tokens(said, "Allow");
    for method in ["OPTIONS", "UPDATE", "REFER", "MESSAGE", "INFO", "PUBLISH", "SUBSCRIBE", "NOTIFY", "PRACK"] {
        let response = ask(method);
        let is_taken = !matches!(response.code(), 405 | 481 | 501);
        assert_eq!(is_taken, allowed.iter().any(|allowed| allowed == method), "{method}: {response:?}");
        if response.code() == 405 {
            assert_eq!(tokens(&response, "Allow"), allowed, "{method}");
        }
    }
}

/// Methods of a session in which we send.
const WITHIN: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, REFER";

//= RFC 3261 13.2.1: Allow in an INVITE: what methods can be invoked within a dialog, on the UA sending the INVITE
//= RFC 3261 20.5: all methods, including ACK and CANCEL, understood by the UA MUST be included
#[test]
fn a_push_names_the_methods_of_its_dialog() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    let (mut call, _msrp) = waiting(&mut bob);
    let invite = call.request().clone();
    takes_what_it_says(&invite, WITHIN, |method| {
        let request = call.request_in_dialog(method);
        call.exchange(&request)
    });
    call.bye();
}

//= 12.2.1 (200-3): an Allow header field that includes all the supported methods within the INVITE-initiated dialog
#[test]
fn a_retrieval_names_the_methods_of_its_dialog() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let bob = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    let request = invite(&bob, &Answer::new(msrp.path(), Setup::Active).write());
    let ok = bob.exchange(&request);
    ack(&bob, &request, &ok);
    msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
    msrp.expect_sends(1);
    let mut cseq = 1;
    takes_what_it_says(&ok, WITHIN, |method| {
        cseq += 1;
        bob.exchange(&within(&bob, method, cseq, &request, &ok))
    });
    assert_eq!(bob.exchange(&within(&bob, "BYE", cseq + 1, &request, &ok)).code(), 200);
}

#[test]
fn a_session_that_brings_large_messages_names_the_methods_of_its_dialog() {
    let scene = Scene::new(DEFERD);
    let open = Large::open(large_sender(&scene), BOB);
    takes_what_it_says(&open.ok, "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE", |method| {
        open.client.exchange(&open.within(method))
    });
    open.bye();
}

//= RFC 3261 8.2.2.3: an extension in Require that is not understood: 420 with Unsupported
#[test]
fn an_extension_that_is_required_and_unknown_is_420_and_names_it() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    for (method, target) in [
        ("OPTIONS", "sip:mailserver.example.org"),
        ("MESSAGE", BOB),
        ("PUBLISH", ALICE),
        ("INVITE", DEFERRED),
        ("REFER", DELETE),
    ] {
        let request = alice.request(method, target).with("Require", "teleport").with("Contact", "<sip:a@127.0.0.1>");
        let response = alice.exchange(request).response;
        assert_eq!((response.code(), response.header("Unsupported")), (420, Some("teleport")), "{method} {response:?}");
    }
}
