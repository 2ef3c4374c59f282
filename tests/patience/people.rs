//! Who speaks with the cores: requests and answers as people's clients write them.

use std::net::SocketAddr;

use deferd::{base::net::ConnId, engine::input::Service};
use deferd_kit::{
    agents::pidf_document,
    msrp,
    sdp::{Answer, Sdp, Setup},
    sip::{SipMessage, uri_of},
};

use crate::rig::{Rig, Sent, Way};

pub(crate) const ALICE: &str = "sip:alice@example.org";
pub(crate) const BOB: &str = "sip:bob@example.org";
/// Where both are.
pub(crate) const HOME: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)), 5070);

/// A request in somebody's name, over UDP.
pub(crate) fn request(rig: &mut Rig, method: &str, who: &str, to: &str) -> SipMessage {
    let branch = rig.branch();
    SipMessage::request(method, to)
        .with("Via", format!("SIP/2.0/UDP {HOME};branch={branch};rport"))
        .with("Max-Forwards", "70")
        .with("From", format!("<{who}>;tag={branch}f"))
        .with("To", format!("<{to}>"))
        .with("Call-ID", format!("{branch}@rig"))
        .with("CSeq", format!("1 {method}"))
        .with("P-Asserted-Identity", format!("<{who}>"))
        .with("Contact", format!("<sip:someone@{HOME}>"))
}

/// Sends it to the first core; its answer.
#[track_caller]
pub(crate) fn exchange(rig: &mut Rig, request: &SipMessage) -> SipMessage {
    rig.datagram(0, HOME, request);
    rig.expect_answer(request)
}

/// A message for bob, accepted.
#[track_caller]
pub(crate) fn deposit(rig: &mut Rig, headers: &[(&str, &str)], content_type: &str, body: &str) -> SipMessage {
    let mut message = request(rig, "MESSAGE", ALICE, BOB).with_body(content_type, body);
    for (name, value) in headers {
        message = message.with(name, *value);
    }
    assert_eq!(exchange(rig, &message).code(), 202);
    message
}

/// Bob says that he is there, perhaps for the second time.
pub(crate) fn presence(rig: &mut Rig, tag: Option<&str>) -> SipMessage {
    let publish = request(rig, "PUBLISH", BOB, BOB).with("Event", "presence").with("Expires", "86400");
    let publish = publish.with_body("application/pidf+xml", pidf_document(BOB, true));
    match tag {
        Some(tag) => publish.with("SIP-If-Match", tag),
        None => publish,
    }
}

/// A session of bob's: the INVITE and what he answered.
pub(crate) struct Session {
    pub(crate) invite: SipMessage,
    pub(crate) path: String,
    cseq: u32,
}

/// The connection of bob's client.
pub(crate) const MEDIA: ConnId = ConnId(2);

/// Bob comes online, takes the push and leaves its SEND unanswered. `more` are lines of his 200.
#[track_caller]
pub(crate) fn push(rig: &mut Rig, more: &[(&str, &str)]) -> Session {
    let publish = presence(rig, None);
    assert_eq!(exchange(rig, &publish).code(), 200);
    let invite = rig.expect_request("INVITE").message;
    let path = "msrp://10.0.0.9:9/bobsession;tcp".to_string();
    let mut ok = SipMessage::response(&invite, 200, "OK", "bob").with("Contact", format!("<sip:bob@{HOME}>"));
    for (name, value) in more {
        ok = ok.with(name, *value);
    }
    let ok = ok.with_body("application/sdp", Answer::new(&path, Setup::Active).write());
    rig.datagram(0, HOME, &ok);
    rig.expect_request("ACK");
    let ours = Sdp::read(&invite.body).unwrap().attribute("path").unwrap().to_string();
    rig.accept(0, MEDIA, Service::Msrp, HOME);
    rig.receive(0, MEDIA, &msrp::binding_send("bind0001", &ours, &path));
    assert!(rig.media(0, MEDIA).contains(" SEND\r\n"), "{}", rig.media(0, MEDIA));
    Session { invite, path, cseq: 1 }
}

impl Session {
    /// A request of bob's in its dialog.
    pub(crate) fn request(&mut self, rig: &mut Rig, method: &str) -> SipMessage {
        self.cseq += 1;
        let branch = rig.branch();
        SipMessage::request(method, uri_of(self.invite.header("Contact").unwrap()))
            .with("Via", format!("SIP/2.0/UDP {HOME};branch={branch};rport"))
            .with("Max-Forwards", "70")
            .with("From", format!("{};tag=bob", self.invite.header("To").unwrap()))
            .with("To", self.invite.header("From").unwrap())
            .with("Call-ID", self.invite.call_id())
            .with("CSeq", format!("{} {method}", self.cseq))
            .with("Contact", format!("<sip:bob@{HOME}>"))
    }
}

/// Answers a request of ours, whichever way it came.
pub(crate) fn answer(rig: &mut Rig, sent: &Sent, code: u16, more: &[(&str, &str)], sdp: Option<Vec<u8>>) {
    rig.forget(&sent.message);
    let mut response = SipMessage::response(&sent.message, code, "Because", "bob");
    for (name, value) in more {
        response = response.with(name, *value);
    }
    let response = match sdp {
        Some(sdp) => response.with_body("application/sdp", sdp),
        None => response,
    };
    match sent.to {
        Way::To(from) => rig.datagram(0, from, &response),
        Way::Down(core, conn) => rig.receive(core, conn, &response.write()),
    }
}

/// Alice is there, and has left bob a message of which she wants to hear should it fail.
pub(crate) fn deposit_with_report(rig: &mut Rig, headers: &[(&str, &str)]) {
    let document = deferd_kit::agents::pidf_document(ALICE, true);
    let publish = request(rig, "PUBLISH", ALICE, ALICE).with("Event", "presence").with("Expires", "86400");
    let publish = publish.with_body("application/pidf+xml", document);
    assert_eq!(exchange(rig, &publish).code(), 200);
    let asking = format!(
        "From: <{ALICE}>\r\nTo: <{BOB}>\r\nDateTime: 2026-02-01T10:00:00Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: asked\r\nimdn.Disposition-Notification: negative-delivery\r\n\r\nContent-Type: text/plain\r\n\r\nhello"
    );
    deposit(rig, headers, "message/cpim", &asking);
}

/// The push's SEND, answered by bob.
#[track_caller]
pub(crate) fn taken(rig: &mut Rig) {
    let said = rig.media(0, MEDIA);
    let frames = msrp::read_all(said.as_bytes()).unwrap();
    let sent = frames.iter().rfind(|frame| frame.content.is_some()).expect("a SEND with content");
    rig.receive(0, MEDIA, &msrp::response(sent, 200, "OK"));
}
