//! Sentences of RFC 3261 and RFC 3581 that the wire keeps by itself.

use crate::fixture::{datagram, octets, text};
use bytes::Bytes;
use deferd::base::limits::Limits;
use deferd::wire::sip::address::NameAddr;
use deferd::wire::sip::fault::What;
use deferd::wire::sip::message::{Malformed, Message};
use deferd::wire::sip::write::Response;

fn read(start: &str, via: &str, more: &str) -> Result<Message, Box<Malformed>> {
    let method = start.split(' ').next().unwrap();
    let octets = format!(
        "{start}\r\nVia: {via}\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: c\r\n\
         CSeq: 1 {method}\r\n{more}\r\n"
    );
    Message::parse_datagram(Bytes::from(octets), &Limits::default())
}

/// The Via of the answer to a MESSAGE with this Via that came from `source`.
fn answered_via(via: &str, source: &str) -> String {
    let request = read("MESSAGE sip:b@example.com SIP/2.0", via, "Content-Length: 0\r\n").unwrap();
    let answer = Response::to(&request, 202, source.parse().unwrap()).to_tag(b"t").finish();
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    answer.lines().find_map(|line| line.strip_prefix("Via: ")).unwrap().to_owned()
}

//= RFC 3261 17.1.1.3: an ACK is never answered
#[test]
fn a_bad_ack_has_nobody_to_answer() {
    let bad = "Content-Length: x\r\n";
    let via = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1";
    assert!(read("ACK sip:b@example.com SIP/2.0", via, bad).unwrap_err().partial.is_none());
    assert!(read("MESSAGE sip:b@example.com SIP/2.0", via, bad).unwrap_err().partial.is_some());
}

//= RFC 3261 18.2.1: received when the sent-by host is not the source address
#[test]
fn received_says_where_it_really_came_from() {
    let table = [
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "192.0.2.1:5060", ""),
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "192.0.2.9:5060", ";received=192.0.2.9"),
        ("SIP/2.0/TCP host.example.com;branch=z9hG4bK1", "192.0.2.9:5060", ";received=192.0.2.9"),
        ("SIP/2.0/TCP [2001:db8::1];branch=z9hG4bK1", "[2001:db8:0::1]:5060", ""),
        ("SIP/2.0/TCP [2001:db8::1];branch=z9hG4bK1", "[2001:db8::2]:5060", ";received=2001:db8::2"),
    ];
    for (via, source, added) in table {
        assert_eq!(answered_via(via, source), format!("{via}{added}"));
    }
    // What the sender claims of itself is not believed.
    let claimed = "SIP/2.0/UDP host.example.com;received=198.51.100.1;branch=z9hG4bK1";
    let expected = "SIP/2.0/UDP host.example.com;branch=z9hG4bK1;received=192.0.2.9";
    assert_eq!(answered_via(claimed, "192.0.2.9:5060"), expected);
}

//= RFC 3581 4: rport asked for is filled in, and received with it
#[test]
fn rport_is_filled_in_where_it_was_asked_for() {
    let via = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport";
    let expected = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport=40001;received=192.0.2.1";
    assert_eq!(answered_via(via, "192.0.2.1:40001"), expected);
}

//= RFC 3261 18.3: a datagram that ends before its body does is a 400
#[test]
fn a_datagram_decides_where_its_body_ends() {
    let via = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1";
    let start = "MESSAGE sip:b@example.com SIP/2.0";
    let body = |more: &str| read(start, via, more).map(|message| text(message.body()));
    // The blank line that `read` adds is two octets of body here.
    assert_eq!(body("Content-Length: 7\r\n\r\nhello").unwrap(), r"hello\r\n");
    assert_eq!(body("Content-Length: 5\r\n\r\nhello").unwrap(), "hello");
    assert_eq!(body("Subject: x\r\n\r\nhello").unwrap(), r"hello\r\n");
    let short = body("Content-Length: 8\r\n\r\nhello").unwrap_err().fault;
    assert_eq!((short.what, short.status()), (What::BodyShorterThanDeclared, 400));
}

//= RFC 3261 19.1.1: headers are not allowed in a Request-URI
#[test]
fn a_request_uri_with_headers_is_refused() {
    let malformed = datagram("escruri").unwrap_err();
    assert_eq!((malformed.fault.what, malformed.fault.status()), (What::UriHeaders, 400));
    let start = text(&octets("escruri")[..malformed.fault.at as usize]);
    assert!(start.ends_with('?') || start.ends_with("example.com"), "the fault points at the headers: {start}");
}

//= RFC 3261 20.10: a URI with a comma or question mark must stand in angle brackets
#[test]
fn brackets_are_needed_where_a_uri_would_be_ambiguous() {
    for value in ["sip:a@example.com?Route=x", "sip:a,b@example.com"] {
        assert_eq!(NameAddr::parse(value.as_bytes()).unwrap_err().what, What::BracketsMissing, "{value}");
        assert!(NameAddr::parse(format!("<{value}>").as_bytes()).is_ok(), "{value}");
    }
}
