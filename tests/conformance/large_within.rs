//! What a sender of large messages may say within its session, and what it hears: refresh, hold, and what makes no sense there.

use deferd_kit::{
    large::Large,
    scene::{BOB, Scene},
    sdp::Sdp,
    sip::SipMessage,
};

use crate::{
    DEFERD,
    c12_2_2_1_large::{alice, push_brings},
    selection::resource_list,
};

/// A request of the sender's with this offer, its answer, and the ACK where one is due.
#[track_caller]
fn offered(open: &Large, method: &str, content_type: &str, body: &str) -> SipMessage {
    let request = open.within(method).with("Contact", open.client.contact.clone()).with_body(content_type, body);
    let response = open.client.exchange(&request);
    if method == "INVITE" && response.code() == 200 {
        let ack = open.within("ACK").set("CSeq", format!("{} ACK", request.cseq()));
        open.client.send_raw(&ack.write());
    }
    response
}

//= RFC 3261 14.2: the new session description is not acceptable: 488
//= RFC 5366 5.1: the list belongs to the first INVITE: a later one that has one is 420
#[test]
fn what_is_offered_within_a_large_session_is_judged_and_the_session_goes_on() {
    let scene = Scene::new(DEFERD);
    let open = Large::open(alice(&scene), BOB);
    let good = String::from_utf8(Large::offer(&open.msrp).write()).unwrap();
    let list = resource_list(&["sip:1@mailserver.example.org".to_string()]);
    let sdp = "application/sdp";
    for method in ["INVITE", "UPDATE"] {
        for (content_type, body, code) in [
            (sdp, good.clone(), 200),
            (sdp, good.replace("a=sendonly", "a=inactive"), 200),
            (sdp, good.replace(open.msrp.path(), "msrp://127.0.0.1:9/elsewhere;tcp"), 488),
            (sdp, good.replace("TCP/MSRP", "TCP/TLS/MSRP"), 488),
            (sdp, "nonsense".to_string(), 400),
            ("text/plain", "hello".to_string(), 415),
            ("application/resource-lists+xml", list.clone(), 420),
        ] {
            let response = offered(&open, method, content_type, &body);
            assert_eq!(response.code(), code, "{method} {body}\n{response:?}");
            match code {
                200 => {
                    let direction = if body.contains("a=inactive") { "inactive" } else { "recvonly" };
                    assert_eq!(Sdp::read(&response.body).unwrap().attribute(direction), Some(""), "{response:?}");
                }
                488 => assert_eq!(Sdp::read(&response.body).unwrap().port_and_proto(), Some((0, "TCP/MSRP"))),
                415 => assert_eq!(response.header("Accept"), Some(sdp)),
                420 => assert_eq!(response.header("Unsupported"), Some("recipient-list-invite")),
                _ => {}
            }
        }
    }
    open.deposit("goesonon", b"it goes on", 100);
    open.bye();
    push_brings(&mut scene.bob(), &[b"it goes on"]);
}

//= RFC 3261 8.2.1: a method that is recognised and not supported: 405 with Allow; one that is not recognised: 501
//= RFC 3261 11.2: Allow, Accept, Accept-Encoding, Accept-Language, and Supported SHOULD be present in a 200 to OPTIONS
//= RFC 3262 3: a PRACK that matches no unacknowledged reliable provisional response: 481
//= RFC 6665 4.1.3: a NOTIFY that matches no subscription: 481
#[test]
fn a_method_that_makes_no_sense_in_a_large_session_says_so_and_the_session_goes_on() {
    let scene = Scene::new(DEFERD);
    let open = Large::open(alice(&scene), BOB);
    for (method, code) in
        [("INFO", 405), ("MESSAGE", 405), ("REFER", 405), ("DANCE", 501), ("PRACK", 481), ("NOTIFY", 481)]
    {
        let request = open.within(method).with("Refer-To", "<sip:Deferred@mailserver.example.org>");
        let response = open.client.exchange(&request);
        assert_eq!(response.code(), code, "{response:?}");
        if code == 405 {
            let allow = response.header("Allow").unwrap();
            assert!(allow.contains("UPDATE") && !allow.contains(method), "{method} is not allowed: {allow}");
        }
    }
    let options = open.client.exchange(&open.within("OPTIONS"));
    assert_eq!(options.code(), 200);
    for name in ["Allow", "Accept", "Accept-Encoding", "Accept-Language", "Supported", "Allow-Events"] {
        assert!(options.header(name).is_some(), "{name}: {options:?}");
    }
    open.deposit("goesonon", b"it goes on", 100);
    open.bye();
    push_brings(&mut scene.bob(), &[b"it goes on"]);
}
