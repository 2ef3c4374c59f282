//! Bad SIP gets the protocol's own clear error, or silence where an answer would be wrong; nobody else notices.

use std::io::{Read, Write};

use deferd_kit::{
    peer::SipPeer,
    scene::{BOB, Scene},
};

use crate::DEFERD;

/// The daemon still does its work for everybody else.
#[track_caller]
fn still_works(scene: &mut Scene) {
    scene.assert_alive();
    let deposit = scene.alice().message(BOB, "still here");
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[deposit]);
}

#[test]
fn datagrams_of_rubbish_are_dropped() {
    let mut scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let mut rubbish: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\r\n\r\n".to_vec(),
        b"hello".to_vec(),
        vec![0; 1500],
        vec![0xff; 60_000],
        b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
        b"SIP/2.0 999 What\r\nVia: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx\r\n\r\n".to_vec(),
        b"MESSAGE sip:bob@example.org SIP/2.0\r\n\r\n".to_vec(),
        b"MESSAGE sip:bob@example.org SIP/2.0".to_vec(),
        b"MSRP abcd SEND\r\n-------abcd$\r\n".to_vec(),
    ];
    rubbish.push([&b"MESSAGE sip:"[..], &[b'a'; 60_000], b"@example.org SIP/2.0\r\n\r\n"].concat());
    for octets in rubbish {
        alice.send_raw(&octets);
    }
    still_works(&mut scene);
}

/// Each octet of a good request, one after another, cut off there: whatever the answer, the daemon lives.
#[test]
fn every_prefix_of_a_datagram_is_survived() {
    let mut scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let text = alice.text(BOB, "cut").write();
    for end in 0..text.len() - 3 {
        alice.send_raw(&text[..end]);
    }
    still_works(&mut scene);
}

//= RFC 3261 18.3: a Content-Length beyond the datagram is answered 400
//= RFC 4475 3.1.2: syntactically invalid messages
#[test]
fn malformed_requests_are_answered_400() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let cases = [
        ("Content-Length beyond the datagram", alice.text(BOB, "x").with("Content-Length", "9999")),
        ("negative Content-Length", alice.text(BOB, "x").with("Content-Length", "-999")),
        ("CSeq above 2^32-1", alice.text(BOB, "x").set("CSeq", "36893488147419103232 MESSAGE")),
        ("CSeq of another method", alice.text(BOB, "x").set("CSeq", "1 OPTIONS")),
        ("unterminated quote in To", alice.text(BOB, "x").set("To", "\"Mr. J. User <sip:bob@example.org>")),
        ("no Call-ID", alice.text(BOB, "x").without("Call-ID")),
        ("no From", alice.text(BOB, "x").without("From")),
        ("no To", alice.text(BOB, "x").without("To")),
        ("two Call-IDs", alice.text(BOB, "x").with("Call-ID", "another")),
    ];
    for (what, request) in cases {
        // What was wrong is copied into the answer, so it is read here as octets and not judged.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(deferd_kit::WAIT)).unwrap();
        let via = format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", socket.local_addr().unwrap(), deferd_kit::unique());
        socket.send_to(&request.set("Via", via).write(), scene.sip()).unwrap();
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer).unwrap_or_else(|error| panic!("{what}: no answer: {error}"));
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("SIP/2.0 400 "), "{what}\n{answer}");
    }
}

#[test]
fn a_stream_that_cannot_be_framed_is_closed() {
    let mut scene = Scene::new(DEFERD);
    for octets in [
        &b"this is not SIP at all\r\n\r\n"[..],
        b"MESSAGE sip:bob@example.org SIP/2.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"MESSAGE sip:bob@example.org SIP/2.0\r\nContent-Length: -1\r\n\r\n",
    ] {
        let mut stream = std::net::TcpStream::connect(scene.sip()).unwrap();
        stream.set_read_timeout(Some(deferd_kit::WAIT)).unwrap();
        stream.write_all(octets).unwrap();
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "not closed: {}", deferd_kit::shown(octets, 80));
        }
    }
    still_works(&mut scene);
}

#[test]
fn a_head_without_end_is_cut_off() {
    let mut scene = Scene::new(DEFERD);
    let mut stream = std::net::TcpStream::connect(scene.sip()).unwrap();
    stream.set_write_timeout(Some(deferd_kit::WAIT)).unwrap();
    stream.write_all(b"MESSAGE sip:bob@example.org SIP/2.0\r\n").unwrap();
    let line = [&b"X-Long: "[..], &[b'x'; 8000], b"\r\n"].concat();
    let cut = (0..1000).any(|_| stream.write_all(&line).is_err());
    assert!(cut, "8 MB of headers were taken in");
    still_works(&mut scene);
}

#[test]
fn a_request_octet_by_octet_is_a_request() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice_tcp();
    let text = alice.text(BOB, "slowly");
    for octet in text.write() {
        alice.send_raw(&[octet]);
    }
    assert_eq!(alice.peer.expect_final(&text).code(), 202);
}

//= RFC 5626 3.5.1: a double CRLF is answered by a single one
#[test]
fn a_ping_gets_its_pong() {
    let scene = Scene::new(DEFERD);
    let mut stream = std::net::TcpStream::connect(scene.sip()).unwrap();
    stream.set_read_timeout(Some(deferd_kit::WAIT)).unwrap();
    stream.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
}

//= RFC 3581 4: received and rport, answered to where it came from
#[test]
fn rport_is_filled_in() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let peer: &SipPeer = &alice.peer;
    let text = alice.text(BOB, "x");
    let lying = text.set("Via", format!("SIP/2.0/UDP 192.0.2.99:1;branch=z9hG4bK{};rport", deferd_kit::unique()));
    let response = alice.exchange(lying).response;
    let via = response.header("Via").unwrap();
    assert!(via.contains(&format!("rport={}", peer.local().port())) && via.contains("received=127.0.0.1"), "{via}");
}
