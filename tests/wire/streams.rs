//! The torture messages on a stream: however the octets are delivered, the same messages come out, and no octet of
//! them, changed or missing, brings anything down.

use crate::fixture::{datagram, names, octets};
use bytes::Bytes;
use deferd::base::limits::Limits;
use deferd::wire::sip::cut::{Cut, Found};
use deferd::wire::sip::message::Message;

/// Messages with a Content-Length that is theirs, and nothing behind it.
fn framed() -> Vec<(String, Bytes)> {
    let mut found = Vec::new();
    for name in names() {
        let octets = octets(&name);
        if let Ok(message) = datagram(&name)
            && message.content_length().is_some()
            && message.body().as_ptr_range().end == message.octets().as_ptr_range().end
        {
            found.push((name, octets));
        }
    }
    found
}

#[test]
fn a_stream_of_torture_is_cut_into_its_messages() {
    let messages = framed();
    assert!(messages.len() >= 20, "{}", messages.len());
    let stream: Vec<u8> = messages.iter().flat_map(|(_, octets)| octets.to_vec()).collect();
    for step in [1, 7, 1460, stream.len()] {
        let mut cut = Cut::new(&Limits::default());
        let (mut taken, mut shown, mut count) = (0, 0, 0);
        while taken < stream.len() {
            match cut.next(&stream[taken..shown]).unwrap() {
                Found::More => shown = (shown + step).min(stream.len()),
                Found::KeepAlive { len, .. } => taken += len,
                Found::Message { len, .. } => {
                    let (name, octets) = &messages[count];
                    assert_eq!(&stream[taken..taken + len], octets, "{name}, {step} octets at a time");
                    Message::parse(octets.clone(), &Limits::default()).unwrap();
                    (taken, count) = (taken + len, count + 1);
                }
            }
        }
        assert_eq!(count, messages.len());
    }
}

#[test]
fn no_torture_message_harms_when_an_octet_is_changed_or_the_end_is_missing() {
    for name in names() {
        let whole = octets(&name);
        for at in 0..whole.len() {
            let _ = Message::parse_datagram(whole.slice(..at), &Limits::default());
            for other in [0, b' ', b'\r', b'\n', b';', b',', b'<', b'"', b':', 0xff] {
                let mut changed = whole.to_vec();
                changed[at] = other;
                if let Ok(message) = Message::parse_datagram(Bytes::from(changed), &Limits::default()) {
                    // What parsed can be asked anything.
                    let via = message.top_via();
                    let _ = (via.has_cookie(), message.expires(), message.max_forwards(), message.lines().count());
                }
            }
        }
    }
}
