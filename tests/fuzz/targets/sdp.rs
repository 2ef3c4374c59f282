//! Session descriptions: whatever was offered, the answer is a description with as many streams in the same order.

use deferd::wire::sdp::{Description, Direction, MsrpStream, Setup};

pub(super) fn sdp(octets: &[u8]) {
    let Ok(offer) = Description::parse(octets) else { return };
    for media in &offer.media {
        let _ = (offer.direction(media).sends(), offer.attribute(media, b"path"));
        let _ = offer.attribute(media, b"setup").map(Setup::read);
    }
    let stream = MsrpStream {
        session_id: 7,
        version: 1,
        host: b"192.0.2.1",
        port: 2855,
        proto: b"TCP/MSRP",
        direction: Direction::SendOnly,
        accept_types: b"text/plain",
        wrapped_types: b"",
        max_size: Some(1_000),
        setup: Some(Setup::Passive),
        path: b"msrp://192.0.2.1:2855/s;tcp",
    };
    let mut out = Vec::new();
    stream.write_answer(&mut out, &offer);
    let answer = Description::parse(&out).unwrap_or_else(|fault| panic!("{fault:?}: {}", out.escape_ascii()));
    let Some(taken) = offer.message() else {
        assert_eq!(answer.media.len(), 1, "nothing to answer: the stream is refused alone");
        assert!(answer.message().is_none());
        return;
    };
    let taken = offer.media.iter().position(|media| std::ptr::eq(media, taken));
    assert_eq!(answer.media.len(), offer.media.len(), "{}", out.escape_ascii());
    for (at, (theirs, ours)) in offer.media.iter().zip(&answer.media).enumerate() {
        if Some(at) == taken {
            assert_eq!((ours.port, ours.proto), (2855, &b"TCP/MSRP"[..]));
            assert_eq!(answer.attribute(ours, b"path"), Some(stream.path));
        } else {
            assert_eq!((ours.kind, ours.port, ours.proto), (theirs.kind, 0, theirs.proto));
        }
    }
}
