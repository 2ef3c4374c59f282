//! What the tests of deletion, reports and retrieval share: how a client learns ids, and how it names them.

use std::time::Duration;

use deferd_kit::{
    agents::Client,
    msrp_client::Reply,
    scene::{ALICE, BOB, Scene},
    sdp::Setup,
    sip::SipMessage,
};

/// The deletion function.
pub(crate) const DELETE: &str = "sip:Delete@mailserver.example.org";
/// The retrieval function.
pub(crate) const DEFERRED: &str = "sip:Deferred@mailserver.example.org";

/// The URI of a stored message.
pub(crate) fn uri(id: &str) -> String {
    format!("sip:{id}@mailserver.example.org")
}

/// The ids of what waits, at most four, in order: learnt from a push that the client leaves unanswered, after which it goes offline.
#[track_caller]
pub(crate) fn ids(bob: &mut Client, count: usize) -> Vec<String> {
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(count);
    let sends = msrp.frames().into_iter().filter(|frame| frame.content.is_some());
    let found = sends.map(|frame| frame.header("Message-ID").unwrap().to_string()).collect();
    bob.publish_presence(false);
    call.bye();
    found
}

/// A REFER to the deletion function, not sent yet.
pub(crate) fn refer(client: &Client, refer_to: &str) -> SipMessage {
    client.request_to("REFER", DELETE).with("Contact", client.contact.clone()).with("Refer-To", format!("<{refer_to}>"))
}

/// The same without a subscription.
pub(crate) fn refer_quietly(client: &Client, refer_to: &str) -> SipMessage {
    refer(client, refer_to).with("Refer-Sub", "false")
}

/// A URI list (RFC 4826).
pub(crate) fn resource_list(uris: &[String]) -> String {
    let entries: String = uris.iter().map(|uri| format!("  <entry uri=\"{uri}\"/>\r\n")).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\">\r\n \
         <list>\r\n{entries} </list>\r\n</resource-lists>\r\n"
    )
}

/// A message that asks for these notifications, as a `message/cpim` body (RFC 5438).
pub(crate) fn asking(id: &str, wants: &str, text: &str) -> String {
    format!(
        "From: <{ALICE}>\r\nTo: <{BOB}>\r\nDateTime: 2026-02-01T10:00:00Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: {id}\r\nimdn.Disposition-Notification: {wants}\r\n\r\nContent-Type: text/plain\r\n\r\n{text}"
    )
}

/// The NOTIFY that a REFER brings, answered 200.
#[track_caller]
pub(crate) fn expect_notify(client: &Client, refer: &SipMessage) -> SipMessage {
    let call_id = refer.call_id().to_string();
    let what = "the NOTIFY of the REFER";
    let received = client.inbox.expect(what, |message| message.method() == "NOTIFY" && message.call_id() == call_id);
    client.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "x"));
    received.message
}

/// Insists that nothing of this method comes for half a second.
#[track_caller]
pub(crate) fn expect_no(client: &Client, method: &str) {
    let found = client.inbox.find(Duration::from_millis(500), |message| message.method() == method);
    assert!(found.is_none(), "no {method} was due");
}

/// What waits for bob is exactly these deposits.
#[track_caller]
pub(crate) fn waits(scene: &Scene, bob: &mut Client, deposits: &[SipMessage]) {
    if deposits.is_empty() {
        return scene.nothing_waits(bob);
    }
    scene.push_brings(bob, deposits);
}

/// An INVITE to the retrieval function with this offer, not sent yet.
pub(crate) fn invite(client: &Client, sdp: &[u8]) -> SipMessage {
    client
        .request_to("INVITE", DEFERRED)
        .with("Contact", client.contact.clone())
        .with("Supported", "timer")
        .with_body("application/sdp", sdp)
}

/// The same for the messages of a list (RFC 5366).
pub(crate) fn invite_list(client: &Client, sdp: &[u8], ids: &[&str]) -> SipMessage {
    let uris: Vec<String> = ids.iter().map(|id| uri(id)).collect();
    let head = "--boundary1\r\nContent-Type: application/sdp\r\n\r\n";
    let middle = "\r\n--boundary1\r\nContent-Type: application/resource-lists+xml\r\nContent-Disposition: recipient-list\r\n\r\n";
    let body =
        [head.as_bytes(), sdp, middle.as_bytes(), resource_list(&uris).as_bytes(), b"\r\n--boundary1--\r\n"].concat();
    invite(client, sdp)
        .with("Require", "recipient-list-invite")
        .with_body("multipart/mixed;boundary=\"boundary1\"", body)
}

/// A request of ours within the dialog of this INVITE and its 200.
pub(crate) fn within(client: &Client, method: &str, cseq: u32, invite: &SipMessage, ok: &SipMessage) -> SipMessage {
    let target = deferd_kit::sip::uri_of(ok.header("Contact").unwrap()).to_string();
    client
        .request_to(method, &target)
        .set("From", invite.header("From").unwrap())
        .set("To", ok.header("To").unwrap())
        .set("Call-ID", invite.call_id())
        .set("CSeq", format!("{cseq} {method}"))
        .without("P-Asserted-Identity")
}

/// Sends the ACK for a 200.
pub(crate) fn ack(client: &Client, invite: &SipMessage, ok: &SipMessage) {
    client.send_raw(&within(client, "ACK", invite.cseq(), invite, ok).write());
}

/// Waits for the daemon's BYE of this dialog and answers it.
#[track_caller]
pub(crate) fn expect_bye(client: &Client, invite: &SipMessage) -> SipMessage {
    let call_id = invite.call_id().to_string();
    let bye = client.inbox.expect("the BYE", |message| message.method() == "BYE" && message.call_id() == call_id);
    client.inbox.respond(&bye, &SipMessage::response(&bye.message, 200, "OK", "x"));
    bye.message
}
