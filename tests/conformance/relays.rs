//! Clients behind MSRP relays (RFC 4976): paths of several URIs, and REPORTs as the only proof of delivery.

use std::time::Duration;

use deferd_kit::{
    agents::Client,
    call::Call,
    daemon::DaemonOptions,
    msrp_client::MsrpClient,
    scene::{BOB, Scene},
    sdp::{Answer, Setup},
};

use crate::DEFERD;

/// A push to a client behind two relays, of which the nearest to us is where we connect.
#[track_caller]
fn behind_relays(bob: &mut Client) -> (Call, MsrpClient) {
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Passive));
    let near = msrp.path().replace(";tcp", "near;tcp");
    // Its host is a name: only the first hop is ours to reach.
    let msrp = msrp.behind_relay("msrp://far.example.net:2855/far;tcp").behind_relay(&near);
    call.send(&call.accept_with(&Answer::new(msrp.path(), Setup::Passive).write()));
    call.expect_ack();
    (call, msrp)
}

/// A REPORT about octets of the first message.
fn report(call: &Call, msrp: &MsrpClient, tid: &str, (from, to): (usize, usize), status: &str) -> Vec<u8> {
    let first = msrp.messages().into_iter().next().unwrap();
    format!(
        "MSRP {tid} REPORT\r\nTo-Path: {}\r\nFrom-Path: {}\r\nMessage-ID: {}\r\nByte-Range: {from}-{to}/{}\r\n\
         Status: 000 {status}\r\n-------{tid}$\r\n",
        call.offered_path(),
        msrp.path(),
        first.message_id,
        first.body.len()
    )
    .into_bytes()
}

//= RFC 4975 7.1: To-Path: the peer's a=path as it is, all URIs in their order
//= RFC 4975 7.1.2: hop by hop, a response says nothing of the peer: behind a relay delivery is confirmed by REPORTs
#[test]
fn a_message_is_delivered_when_reports_cover_it() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice_tcp().message(BOB, &"a long story. ".repeat(3_000));
    let mut bob = scene.bob();
    let (call, msrp) = behind_relays(&mut bob);
    let pushed = msrp.expect_messages(1);
    for send in msrp.frames().iter().filter(|frame| frame.content.is_some()) {
        assert_eq!(send.header("To-Path"), Some(msrp.path()));
        assert_eq!(msrp.path().split(' ').count(), 3);
        assert_eq!(send.header("Success-Report"), Some("yes"));
    }
    let (half, all) = (pushed[0].body.len() / 2, pushed[0].body.len());
    msrp.write(&report(&call, &msrp, "report01", (1, half), "200 OK"));
    let early = bob.inbox.find(Duration::from_millis(400), |message| message.method() == "BYE");
    assert!(early.is_none(), "half of it is not all of it");
    msrp.write(&report(&call, &msrp, "report02", (half + 1, all), "200 OK"));
    call.expect_bye();
    scene.same(&pushed, &[deposit]);
    scene.nothing_waits(&mut bob);
}

//= RFC 4975 7.3.2: octets reported as not received: MUST treat the session as failed
#[test]
fn a_relay_that_reports_a_failure_ends_the_session_and_the_message_waits() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "report_wait = \"60s\""));
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    let (call, msrp) = behind_relays(&mut bob);
    let length = msrp.expect_messages(1)[0].body.len();
    msrp.write(&report(&call, &msrp, "report01", (1, length), "408 Request Timeout"));
    call.expect_bye();
    scene.push_brings(&mut bob, &[deposit]);
}
