//! SIP: a stream is cut into the same messages whatever pieces it came in; what was read can be asked anything, answered, and
//! the answer can be read.

use super::Pieces;
use bytes::{Bytes, BytesMut};
use deferd::base::limits::Limits;
use deferd::wire::sip::address::NameAddr;
use deferd::wire::sip::cut::{Cut, Found};
use deferd::wire::sip::fault::Fault;
use deferd::wire::sip::fields;
use deferd::wire::sip::message::Message;
use deferd::wire::sip::names::Name;
use deferd::wire::sip::via::Via;
use deferd::wire::sip::write::Response;

/// So small that an input reaches them.
fn limits() -> Limits {
    Limits { sip_head_octets: 1_500, sip_body_octets: 600, sip_headers: 40, ..Limits::default() }
}

/// What a stream says, and where it was lost.
fn listen(stream: &[u8], mut pieces: Option<Pieces>) -> (Vec<Found>, Option<Fault>) {
    let mut cut = Cut::new(&limits());
    let (mut said, mut taken) = (Vec::new(), 0);
    let mut shown = if pieces.is_some() { 0 } else { stream.len() };
    loop {
        match cut.next(&stream[taken..shown]) {
            Ok(Found::More) if shown == stream.len() => return (said, None),
            Ok(Found::More) => {
                assert!(cut.missing(shown - taken).is_none_or(|octets| octets > 0));
                shown = pieces.as_mut().map_or(stream.len(), |pieces| pieces.border(shown, stream.len()));
            }
            Ok(found) => {
                let len = match found {
                    Found::KeepAlive { len, .. } | Found::Message { len, .. } => len,
                    Found::More => 0,
                };
                assert!(len > 0 && taken + len <= shown, "only what was shown is taken");
                taken += len;
                said.push(found);
            }
            Err(fault) => return (said, Some(fault)),
        }
    }
}

pub(super) fn sip(octets: &[u8]) {
    let (pieces, stream) = Pieces::before(octets);
    let whole = listen(stream, None);
    assert_eq!(whole, listen(stream, Some(pieces)), "what a stream says does not hang on its pieces");
    let mut rest = stream;
    for found in whole.0 {
        let len = match found {
            Found::KeepAlive { len, .. } | Found::Message { len, .. } => len,
            Found::More => 0,
        };
        let mut buffer = BytesMut::from(rest);
        let taken = Cut::new(&limits()).take(&mut buffer, &limits());
        assert!(
            taken.is_none() || matches!(found, Found::Message { .. }),
            "what is taken at once is cut first elsewhere"
        );
        if let Found::Message { head, len } = found {
            assert!(rest[..head].ends_with(b"\r\n\r\n"));
            one(&rest[..len], Message::parse);
            let read = Message::parse(Bytes::copy_from_slice(&rest[..len]), &limits()).ok();
            assert_eq!(taken.is_some(), read.is_some(), "a good message is taken at once, and no other");
            if let (Some(taken), Some(read)) = (taken, read) {
                assert_eq!((taken.octets(), taken.body()), (read.octets(), read.body()));
                assert!(taken.lines().eq(read.lines()));
            }
        }
        rest = &rest[len..];
    }
    let last = Cut::new(&limits()).take(&mut BytesMut::from(rest), &limits());
    assert!(last.is_none(), "what cannot be followed, or is not whole, is not taken either");
    one(stream, Message::parse_datagram);
}

type Parse = fn(Bytes, &Limits) -> Result<Message, Box<deferd::wire::sip::message::Malformed>>;

fn one(octets: &[u8], parse: Parse) {
    let source = "192.0.2.1:5060".parse().unwrap();
    match parse(Bytes::copy_from_slice(octets), &limits()) {
        Ok(message) => {
            ask(&message);
            if message.is_request() {
                let answer = Response::to(&message, 202, source).to_tag(b"tag").record_route().finish();
                let answer = Message::parse(answer, &Limits::unbounded());
                let answer = answer.unwrap_or_else(|bad| panic!("an answer that nobody can read: {}", bad.fault));
                assert_eq!(answer.status(), 202);
                assert_eq!(answer.call_id(), message.call_id());
                assert_eq!(answer.cseq(), message.cseq());
                assert_eq!(unfolded(answer.from()), unfolded(message.from()), "folds alone are gone");
                assert_eq!(answer.top_via().branch, message.top_via().branch);
                assert_eq!(answer.via_count(), message.via_count());
                assert!(answer.to_tag().is_some());
            }
        }
        Err(malformed) => {
            assert!(malformed.fault.at as usize <= octets.len(), "a fault lies inside what was read");
            assert!((400..600).contains(&malformed.fault.status()));
            if let Some(partial) = malformed.partial {
                ask(&partial);
                let answer = Response::to(&partial, malformed.fault.status(), source).to_tag(b"tag").finish();
                assert!(answer.starts_with(b"SIP/2.0 ") && answer.windows(4).any(|end| end == b"\r\n\r\n"));
            }
        }
    }
}

/// Without what a fold is made of.
fn unfolded(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(|octet| !b" \t\r\n".contains(octet)).collect()
}

/// Everything that a use case may ask.
fn ask(message: &Message) {
    let _ = (message.method_bytes(), message.status(), message.reason(), message.request_uri(), message.from_tag());
    let _ = (message.to_tag(), message.cseq_method_bytes(), message.body_bytes(), message.expires());
    let _ = (message.max_forwards(), message.content_type(), message.content_length(), message.top_via().has_cookie());
    let mut end = 0;
    for line in message.lines() {
        assert!(line.whole.at() >= end, "lines stand one behind the other");
        end = line.whole.at() + line.whole.len();
        let whole = message.at(line.whole);
        assert!(whole.ends_with(b"\r\n") && whole.starts_with(line.name_bytes));
        assert_eq!(Name::parse(line.name_bytes), line.name);
    }
    for name in [Name::Contact, Name::Via, Name::Route, Name::To, Name::From, Name::PAssertedIdentity] {
        for value in message.values(name) {
            let _ = Via::parse(value);
            if let Ok(address) = NameAddr::parse(value) {
                let _ = (address.display_name(), address.tag(), address.is_star(), address.uri());
            }
        }
    }
    for name in [Name::Require, Name::Supported, Name::Accept, Name::Allow] {
        let _ = (fields::tokens(message, name).count(), fields::has_token(message, name, b"timer"));
    }
    let _ = (fields::accepts(message, b"text/plain", true), fields::privacy_has_id(message));
    let _ = fields::asserted_identities(message);
    for line in message.lines() {
        let _ = (fields::CSeq::parse(line.value), fields::retry_after(line.value), fields::min_se(line.value));
        let _ = (fields::Event::parse(line.value), fields::SubscriptionState::parse(line.value));
        let _ = fields::MediaType::parse(line.value).map(|media| media.accepts(b"text/plain"));
        if let Some(expires) = fields::SessionExpires::parse(line.value) {
            let mut out = Vec::new();
            expires.write(&mut out);
            assert_eq!(fields::SessionExpires::parse(&out), Some(expires));
        }
    }
}
