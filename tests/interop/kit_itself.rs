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
    sdp::{Answer, Sdp, Setup},
    sip::{SipMessage, uri_of},
    unique,
};

use super::sipp::{Sipp, free_port};

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

#[test]
fn sipp_publishes_to_a_compositor_of_the_kit() {
    let log = Log::new();
    let compositor = SipPeer::udp(&log, "deferd", "sipp", HOME);
    let at = compositor.local().to_string();
    let sipp = Sipp::start("publish.xml", free_port(), &[&at, "-s", "bob", "-m", "1"]);
    for (code, reason, tag) in
        [(200, "OK", "t1"), (200, "OK", "t2"), (412, "Conditional Request Failed", ""), (200, "OK", "t3")]
    {
        let received = compositor.expect_request("PUBLISH");
        let mut response = SipMessage::response(&received.message, code, reason, "d1");
        if code == 200 {
            response = response.with("SIP-ETag", tag).with("Expires", "3600");
        }
        compositor.inbox.respond(&received, &response);
    }
    sipp.succeeds();
}

#[test]
fn sipp_answers_an_invite_of_the_kit() {
    let log = Log::new();
    let daemon = SipPeer::udp(&log, "deferd", "sipp", HOME);
    let port = free_port();
    let at = format!("127.0.0.1:{port}").parse().unwrap();
    let sipp =
        Sipp::start("answer_push.xml", port, &["-m", "1", "-key", "msrp_port", "7777", "-key", "msrp_session", "s1"]);
    let offer = Answer { direction: Some("sendonly"), ..Answer::new("msrp://127.0.0.1:2855/s2;tcp", Setup::Passive) };
    let begin = |method: &str, uri: &str, to: &str, cseq: u32| {
        SipMessage::request(method, uri)
            .with("Via", daemon.via())
            .with("Max-Forwards", "70")
            .with("From", "<sip:Deferred@example.org>;tag=d1")
            .with("To", to)
            .with("Call-ID", "push1@kit")
            .with("CSeq", format!("{cseq} {method}"))
    };
    let invite = begin("INVITE", "sip:bob@example.org", "<sip:bob@example.org>", 1)
        .with("Contact", format!("<sip:push@{}>;+g.oma.sip-im;automata", daemon.local()))
        .with("Accept-Contact", "*;+g.oma.sip-im")
        .with("User-Agent", "IM-serv/OMA1.0 kit/1.0")
        .with("Session-Expires", "1800;refresher=uac")
        .with_body("application/sdp", offer.write());
    // sipp may not listen yet: repeated as Timer A would, until it answers.
    let ok = (0..40).find_map(|_| {
        daemon.link(at).send(&invite.write());
        daemon.inbox.find(std::time::Duration::from_millis(500), |message| message.code() == 200)
    });
    let ok = ok.unwrap_or_else(|| log.fail("sipp never answered the INVITE")).message;
    let sdp = Sdp::read(&ok.body).unwrap();
    assert_eq!(sdp.attribute("path"), Some("msrp://127.0.0.1:7777/s1;tcp"));
    let (to, target) = (ok.header("To").unwrap(), uri_of(ok.header("Contact").unwrap()));
    daemon.link(at).send(&begin("ACK", target, to, 1).write());
    assert_eq!(daemon.exchange(at, &begin("BYE", target, to, 2)).code(), 200);
    sipp.succeeds();
}
