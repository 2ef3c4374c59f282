//! Who judges must be judged: the capture sees what the kit's agents say to each other, octet for octet, and sipp's scenario
//! files run against sipp.

use std::net::{IpAddr, Ipv4Addr};

use deferd_kit::{
    agents::Sender,
    capture::Capture,
    log::Log,
    msrp,
    msrp_client::MsrpClient,
    peer::{SipPeer, Transport},
    sip::SipMessage,
    unique,
};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn port_of(path: &str) -> u16 {
    path.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn a_capture_holds_what_two_agents_said() {
    let log = Log::new();
    let server = SipPeer::udp(&log, "server", "alice", HOME);
    let (far, near) = (MsrpClient::passive(&log, "far", HOME), MsrpClient::active(&log, "near", HOME));
    let (sip, media) = (server.local().port(), port_of(far.path()));
    let capture = Capture::start(&[sip, media]);
    let alice = Sender::new(&log, Transport::Udp, "sip:alice@example.org", server.local());
    let text = alice.text("sip:bob@example.org", "Watson, come here.");
    alice.send_raw(&text.write());
    let received = server.expect_request("MESSAGE");
    server.inbox.respond(&received, &SipMessage::response(&received.message, 202, "Accepted", "t1"));
    assert_eq!(alice.peer.expect_final(&text).code(), 202);
    near.connect(far.path());
    let body = vec![b'x'; 300];
    near.write(&msrp::send(&unique(), far.path(), near.path(), "id0001", "text/plain", &body));
    far.expect_messages(1);
    near.expect_frame("the second answer", |frame| frame.status() == 200 && frame.at > 0);
    let recording = capture.stop(&[sip], &[media]);
    recording.assert_clean_sip();
    let seen = recording.fields("sip.Method == \"MESSAGE\"", &["sip.r-uri", "sip.Call-ID"]);
    assert_eq!(seen, [["sip:bob@example.org".to_string(), text.call_id().to_string()]]);
    let messages = recording.judge_msrp(&[media]);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].body, body);
    let sent: Vec<u8> =
        recording.streams(&[media]).into_values().find(|way| way.octets == near.raw().1).unwrap().octets;
    assert_eq!(sent, far.raw().0);
}

#[test]
#[should_panic(expected = "tshark objects")]
fn a_capture_with_broken_sip_is_objected_to() {
    let log = Log::new();
    let server = SipPeer::udp(&log, "server", "alice", HOME);
    let capture = Capture::start(&[server.local().port()]);
    let alice = Sender::new(&log, Transport::Udp, "sip:alice@example.org", server.local());
    let text = alice.text("sip:bob@example.org", "x").with("Content-Length", "1");
    alice.send_raw(&text.with_body("application/sdp", "v=0\r\nnot sdp\r\n").set("Content-Length", "14").write());
    server.expect_request("MESSAGE");
    capture.stop(&[server.local().port()], &[]).assert_clean_sip();
}

#[test]
fn sipp_deposits_into_sipp() {
    super::sipp::against_itself("deposit.xml", "answer_202.xml", 20);
}
