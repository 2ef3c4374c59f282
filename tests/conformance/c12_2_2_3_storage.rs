//! 12.2.2.3 Storage for Deferred Messages: what a 202 promises, and what is refused with which code.

use std::{thread, time::Duration};

use deferd_kit::{
    agents::Sender,
    daemon::DaemonOptions,
    payload,
    peer::{SipPeer, Transport},
    scene::{ALICE, BOB, Scene},
    sip::SipMessage,
    unique,
};

use crate::DEFERD;

//= 12.2.2.3-1: store the complete message including all the header fields and bodies
#[test]
fn a_deposit_is_stored_whole_and_pushed_unaltered() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let deposit = alice.deposit(
        alice
            .text(BOB, "Watson, come here.")
            .with("Subject", "an invention")
            .with("Priority", "urgent")
            .with("Date", "Thu, 21 Feb 2002 13:02:03 GMT")
            .with("User-Agent", "kit/1.0")
            .with("X-Unknown", "kept as it is"),
    );
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(1);
    let inner = &scene.same(&pushed, &[deposit])[0];
    assert_eq!(inner.header("X-Unknown"), Some("kept as it is"));
}

//= RFC 3428 7: 202 without a body and without a Contact
//= 12.2.1-2: include a Server header to indicate the IM release version
#[test]
fn a_deposit_is_answered_202_with_server_and_nothing_else() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let response = alice.exchange(alice.text(BOB, "hello")).response;
    assert_eq!(response.code(), 202, "{response:?}");
    assert!(response.body.is_empty() && response.header("Contact").is_none(), "{response:?}");
    assert!(response.header("Server").is_some_and(|server| server.starts_with("IM-serv/OMA")), "{response:?}");
    assert!(response.tag("To").is_some(), "{response:?}");
}

//= 12.2.2.3-4: store the deferred message in the served IM user's account
#[test]
fn what_was_answered_202_survives_kill_9() {
    let mut scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let deposits: Vec<_> = (0..20).map(|number| alice.message(BOB, &format!("message {number}"))).collect();
    scene.kill9();
    for cores in [1, 2] {
        scene.restart(cores);
    }
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
}

//= 12.2.2.5: each Deferred message SHALL include the timestamp received by the IM Server in SIP headers
//= D2-8: added a Date header if one wasn't there
#[test]
fn a_missing_date_is_added_at_storage() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "what time is it?");
    assert_eq!(deposit.header("Date"), None);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(1);
    let inner = payload::pager(&pushed[0]).unwrap();
    assert!(payload::is_sip_date(inner.header("Date").unwrap()));
}

//= RFC 3261 17.2.2: a retransmission is answered by the same response and reaches nobody
#[test]
fn a_retransmitted_message_is_stored_once() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let deposit = alice.text(BOB, "once");
    // Copies that overtake the answer are absorbed (RFC 3261 17.2.2, Trying); those that come after it draw it again.
    for _ in 0..3 {
        alice.send_raw(&deposit.write());
    }
    assert_eq!(alice.peer.expect_final(&deposit).code(), 202);
    for _ in 0..2 {
        alice.send_raw(&deposit.write());
        assert_eq!(alice.peer.expect_final(&deposit).code(), 202);
    }
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[deposit]);
}

/// A sender that repeats after a lost 202 uses a new transaction over another way; Call-ID, CSeq and From tag are the same.
//= 12.2.2.3-3: assign a unique Message-ID for each deferred message
#[test]
fn a_duplicate_in_a_new_transaction_is_answered_202_and_stored_once() {
    let scene = Scene::new(DEFERD);
    let (alice, again) = (scene.alice(), scene.alice_tcp());
    let deposit = alice.message(BOB, "once");
    let second = deposit.clone().set("Via", again.peer.via());
    again.deposit(second);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[deposit]);
}

//= 12.2.2.3-5: Expires below the maximum is the Expire value
//= 12.2.2.4: the expired message is deleted undelivered
#[test]
fn a_message_whose_time_is_over_is_not_pushed() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let short = alice.text(BOB, "gone in a second").with("Expires", "1");
    alice.deposit(short);
    let kept = alice.message(BOB, "still here");
    // The one wait for time itself: the message lives a second, the sweep lags a second at most.
    thread::sleep(Duration::from_millis(2500));
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[kept]);
}

//= 12.2.2.3-5: above the maximum the default counts
#[test]
fn an_expires_above_the_maximum_gets_the_default() {
    let options = DaemonOptions::new(DEFERD)
        .line("policy.expire", "max = \"1h\"")
        .line("policy.expire", "default_pager = \"30m\"");
    let scene = Scene::with(options);
    let alice = scene.alice();
    let deposit = alice.deposit(alice.text(BOB, "long").with("Expires", "4294967295"));
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[deposit]);
}

//= RFC 3428 7: Expires 0 is now or never
#[test]
fn expires_0_is_never_stored() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let exchange = alice.exchange(alice.text(BOB, "now").with("Expires", "0"));
    assert_eq!(exchange.response.code(), 480, "{:?}", exchange.response);
    scene.nothing_waits(&mut scene.bob());
}

/// "Is composing" says nothing an hour later.
#[test]
fn is_composing_is_answered_200_and_dropped() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let body = "<?xml version=\"1.0\"?><isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"><state>active</state></isComposing>";
    let exchange = alice.exchange(alice.request("MESSAGE", BOB).with_body("application/im-iscomposing+xml", body));
    assert_eq!(exchange.response.code(), 200, "{:?}", exchange.response);
    scene.nothing_waits(&mut scene.bob());
}

#[test]
fn an_empty_body_is_a_message_like_any_other() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let deposit = alice.deposit(alice.request("MESSAGE", BOB));
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[deposit]);
}

#[test]
fn octets_of_every_value_come_back() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let every: Vec<u8> = (0..=255).collect();
    let dashes = b"\r\n-------0123456789abcdef0123$\r\n--boundary--\r\n".to_vec();
    let deposits = [every, dashes]
        .map(|body| alice.deposit(alice.request("MESSAGE", BOB).with_body("application/octet-stream", body)));
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
}

/// Every refusal, over both transports; none of them is stored.
//= RFC 3261 8.2: UAS behavior, method, header and content inspection
//= RFC 3261 8.2.1: a method that is not recognised or not supported
//= RFC 3261 8.2.2.3: an option tag in Require that is not understood: 420 with Unsupported
#[test]
fn each_refusal_has_its_code() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "max_message_size = \"4KiB\""));
    for alice in [scene.alice(), scene.alice_tcp()] {
        let text = |to: &str| alice.text(to, "no");
        let cases: [(&str, SipMessage, u16); 7] = [
            ("another domain", text("sip:bob@example.net"), 404),
            ("a tel URI without an alias", text("tel:+15141234567"), 404),
            ("an unknown scheme", text("nobodyKnowsThisScheme:totallyopaquecontent"), 416),
            (
                "an unknown requirement",
                text(BOB).with("Require", "nothingSupportsThis, nothingSupportsThisEither"),
                420,
            ),
            ("nobody asserts who sends", text(BOB).without("P-Asserted-Identity"), 403),
            ("Expires 0", text(BOB).with("Expires", "0"), 480),
            ("an unknown method", alice.request("FROBNICATE", BOB), 501),
        ];
        for (what, request, code) in cases {
            let response = alice.exchange(request).response;
            assert!(
                response.code() == code || (code == 501 && response.code() == 405),
                "{what}: {code} expected\n{response:?}"
            );
            if code == 420 {
                let unsupported = response.all("Unsupported").join(", ");
                let both =
                    unsupported.contains("nothingSupportsThis,") && unsupported.contains("nothingSupportsThisEither");
                assert!(both, "{response:?}");
            }
        }
        // The answer copies the CSeq as it came, so it is not one for a MESSAGE.
        alice.send_raw(&text(BOB).set("CSeq", "1 INVITE").write());
        alice.peer.expect_response(400);
        let mut old = alice.text(BOB, "no");
        old.start = format!("MESSAGE {BOB} SIP/7.0");
        assert_eq!(alice.exchange(old).response.code(), 505);
    }
    let alice = scene.alice_tcp();
    let large = alice.text(BOB, &"x".repeat(5000));
    assert_eq!(alice.exchange(large).response.code(), 413);
    scene.nothing_waits(&mut scene.bob());
}

#[test]
fn a_full_quota_is_480_with_retry_after_and_never_202() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy.quota", "messages = 3"));
    let alice = scene.alice();
    let deposits: Vec<_> = (0..3).map(|number| alice.message(BOB, &format!("message {number}"))).collect();
    let response = alice.exchange(alice.text(BOB, "one too many")).response;
    assert_eq!(response.code(), 480, "{response:?}");
    assert!(response.header("Retry-After").is_some(), "{response:?}");
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
    alice.message(BOB, "there is room again");
}

//= RFC 3325 5: an identity from a peer that is not trusted is none: 403
#[test]
fn a_peer_that_is_not_trusted_asserts_nothing() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("sip", "trusted = [\"192.0.2.1/32\"]"));
    let alice = scene.alice();
    assert_eq!(alice.exchange(alice.text(BOB, "trust me")).response.code(), 403);
}

//= RFC 3323 4.2: Privacy id takes the asserted identity out of what is delivered
#[test]
fn privacy_id_hides_the_sender_from_the_payload() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let private = alice
        .text(BOB, "guess who")
        .with("Privacy", "id")
        .set("From", format!("\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag={}", unique()));
    let deposit = alice.deposit(private);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(1);
    scene.same(&pushed, &[deposit]);
    assert!(deferd_kit::sip::find(&pushed[0].body, ALICE.as_bytes()).is_none(), "alice is named in the payload");
}

#[test]
fn every_transport_and_address_family_deposits() {
    let mut options = DaemonOptions::new(DEFERD);
    options.ipv6 = true;
    options.cores = 2;
    let scene = Scene::with(options);
    let mut deposits = Vec::new();
    for at in [scene.sip(), scene.sip_v6()] {
        for transport in [Transport::Udp, Transport::Tcp] {
            deposits.push(Sender::new(&scene.log, transport, ALICE, at).message(BOB, &format!("{transport:?} {at}")));
        }
    }
    let mut bob = scene.client(Transport::Tcp, BOB, scene.sip_v6());
    scene.push_brings(&mut bob, &deposits);
}

#[test]
fn a_thousand_deposits_on_one_stream_are_pushed_in_order() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice_tcp();
    let deposits: Vec<_> = (0..1000).map(|number| alice.text(BOB, &format!("message {number}"))).collect();
    for chunk in deposits.chunks(100) {
        alice.send_raw(&chunk.iter().flat_map(SipMessage::write).collect::<Vec<u8>>());
        for deposit in chunk {
            assert_eq!(alice.peer.expect_final(deposit).code(), 202);
        }
    }
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
}

#[test]
fn a_user_is_one_user_however_the_address_is_written() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let ways = [
        "sip:bob@example.org",
        "sip:bob@EXAMPLE.org",
        "sip:bob@example.org:5060",
        "sip:%62ob@example.org",
        "sip:bob@example.org;transport=tcp",
    ];
    let deposits: Vec<_> = ways.iter().map(|way| alice.message(way, way)).collect();
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(deposits.len());
    let bodies: Vec<_> = pushed.iter().map(|message| payload::pager(message).unwrap().body).collect();
    assert_eq!(bodies, ways.map(|way| way.as_bytes().to_vec()));
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused() {
    let scene = Scene::new(DEFERD);
    let output = std::process::Command::new(DEFERD).args(["run", "--config"]).arg(scene.config()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!output.stderr.is_empty());
}

#[test]
fn sigterm_ends_it_with_exit_code_0() {
    let mut scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "kept");
    assert_eq!(scene.terminate(), 0);
    scene.restart(1);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[deposit]);
}

#[test]
fn an_options_ping_is_answered() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let response = alice.exchange(alice.request("OPTIONS", "sip:example.org")).response;
    assert_eq!(response.code(), 200, "{response:?}");
    for name in ["Allow", "Accept", "Supported"] {
        assert!(response.header(name).is_some(), "no {name}:\n{response:?}");
    }
    let peer: &SipPeer = &alice.peer;
    assert!(peer.inbox.unexpected().is_empty());
}
