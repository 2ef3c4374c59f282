//! A REFER within the dialog of a session: what is stored is deleted while it is pushed or retrieved (12.1.3, RFC 3515, RFC 7647).

use deferd_kit::{
    call::Call,
    daemon::DaemonOptions,
    msrp_client::{MsrpClient, Reply},
    peer::Transport,
    scene::{BOB, Scene},
    sdp::{Answer, Sdp, Setup},
    sip::SipMessage,
};

use crate::{
    DEFERD,
    selection::{ack, expect_notify, invite, resource_list, uri, within},
};

/// A push of bob's whose SENDs are not answered, and the ids it has sent.
fn push(scene: &Scene, count: usize) -> (deferd_kit::agents::Client, Call, MsrpClient, Vec<String>) {
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(count);
    let sends = msrp.frames().into_iter().filter(|frame| frame.content.is_some());
    let ids = sends.map(|frame| frame.header("Message-ID").unwrap().to_string()).collect();
    (bob, call, msrp, ids)
}

fn deposits(scene: &Scene, count: usize) -> Vec<SipMessage> {
    let alice = scene.alice();
    (0..count).map(|number| alice.message(BOB, &format!("message {number}"))).collect()
}

//= 12.1.3: within a session, too, its user may delete what is stored for them
//= RFC 3515 2.4.4: NOTIFYs of a REFER within a dialog are sent within that dialog
//= RFC 3515 2.4.6: NOTIFYs of the second and later REFERs in a dialog MUST include an id, the REFER's CSeq number
#[test]
fn a_refer_within_a_push_deletes_and_is_notified_within_it() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 4);
    let (mut bob, mut call, msrp, ids) = push(&scene, 4);
    let first = call.request_in_dialog("REFER").with("Refer-To", format!("<{}>", uri(&ids[1])));
    let ok = call.exchange(&first);
    assert_eq!((ok.code(), ok.header("Contact")), (200, call.request().header("Contact")), "{ok:?}");
    let notify = expect_notify(&bob, &first);
    assert_eq!((notify.tag("From"), notify.tag("To")), (call.request().tag("From"), Some(call.tag.as_str())));
    assert!(notify.cseq() > call.request().cseq());
    assert_eq!(notify.header("Event"), Some("refer"));
    assert_eq!(notify.header("Subscription-State"), Some("terminated;reason=noresource"));
    assert!(notify.body.starts_with(b"SIP/2.0 200 OK\r\n"), "{notify:?}");
    // The second of one dialog is told apart; a list goes the same way.
    let list = resource_list(&[uri(&ids[2]), uri("00000000000000000000000000")]);
    let second = call
        .request_in_dialog("REFER")
        .with("Refer-To", "<cid:list@bob>")
        .with("Require", "multiple-refer")
        .with("Content-Disposition", "recipient-list")
        .with("Content-ID", "<list@bob>")
        .with_body("application/resource-lists+xml", list);
    assert_eq!(call.exchange(&second).code(), 200);
    let later = expect_notify(&bob, &second);
    assert_eq!(later.header("Event"), Some(format!("refer;id={}", second.cseq()).as_str()));
    assert_eq!(later.cseq(), notify.cseq() + 1);
    assert!(String::from_utf8_lossy(&later.body).contains("1 of 2 not found"), "{later:?}");
    // One that wants to hear nothing hears nothing, and says so.
    let quiet =
        call.request_in_dialog("REFER").with("Refer-To", format!("<{}>", uri("nobody"))).with("Refer-Sub", "false");
    assert_eq!(call.exchange(&quiet).code(), 404);
    for frame in msrp.frames().iter().filter(|frame| frame.content.is_some()) {
        msrp.write(&deferd_kit::msrp::response(frame, 200, "OK"));
    }
    let bye = call.expect_bye();
    assert_eq!(bye.cseq(), later.cseq() + 1);
    assert_eq!(deposits.len(), 4);
    scene.nothing_waits(&mut bob);
}

/// Everything is deleted under the session: nothing is left to push, and it ends.
#[test]
fn a_refer_for_all_empties_the_session_it_comes_in() {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 2;
    let scene = Scene::with(options);
    deposits(&scene, 3);
    let (mut bob, mut call, msrp, _) = push(&scene, 3);
    let all = call.request_in_dialog("REFER").with("Refer-To", "<sip:Deferred@mailserver.example.org>");
    assert_eq!(call.exchange(&all).code(), 200);
    expect_notify(&bob, &all);
    for frame in msrp.frames().iter().filter(|frame| frame.content.is_some()) {
        msrp.write(&deferd_kit::msrp::response(frame, 200, "OK"));
    }
    call.expect_bye();
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_refer_within_a_retrieval_is_notified_within_it_too() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 2);
    let bob = scene.client(Transport::Tcp, BOB, scene.daemon.sip());
    let msrp = bob.msrp(Setup::Active);
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    let request = invite(&bob, &Answer::new(msrp.path(), Setup::Active).write());
    let ok = bob.exchange(&request);
    ack(&bob, &request, &ok);
    msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
    msrp.expect_sends(2);
    let id = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    let id = id.header("Message-ID").unwrap().to_string();
    let refer = within(&bob, "REFER", 2, &request, &ok)
        .with("Contact", bob.contact.clone())
        .with("Refer-To", format!("<{}>", uri(&id)));
    assert_eq!(bob.exchange(&refer).code(), 200);
    let notify = expect_notify(&bob, &refer);
    assert_eq!((notify.tag("From"), notify.tag("To")), (ok.tag("To"), request.tag("From")));
    assert_eq!(bob.exchange(&within(&bob, "BYE", 3, &request, &ok)).code(), 200);
    let mut bob = scene.client(Transport::Tcp, BOB, scene.daemon.sip());
    scene.push_brings(&mut bob, &deposits[1..]);
}

#[test]
fn what_is_no_good_refer_is_refused_within_a_session_and_the_session_goes_on() {
    let scene = Scene::new(DEFERD);
    let deposits = deposits(&scene, 1);
    let (_bob, mut call, msrp, ids) = push(&scene, 1);
    let table = [
        (call.request_in_dialog("REFER"), 400),
        (call.request_in_dialog("REFER").with("Refer-To", "<cid:nowhere@bob>"), 400),
        (
            call.request_in_dialog("REFER").with("Refer-To", format!("<{}>", uri(&ids[0]))).with("Require", "teleport"),
            420,
        ),
    ];
    for (request, code) in table {
        let response = call.exchange(&request);
        assert_eq!(response.code(), code, "{response:?}");
    }
    let first = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    msrp.write(&deferd_kit::msrp::response(&first, 200, "OK"));
    call.expect_bye();
    scene.same(&msrp.messages(), &deposits);
}
