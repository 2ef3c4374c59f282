//! Multipart bodies, as they should be and as they come.

use super::*;
use proptest::prelude::*;

fn bodies<'a>(content_type: &str, body: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    parts(content_type.as_bytes(), body).unwrap().map(|part| (part.content_type(), part.body())).collect()
}

#[test]
fn the_boundary_is_found_however_it_is_written() {
    let table: &[(&str, Result<&[u8], MultipartFault>)] = &[
        ("multipart/mixed;boundary=abc", Ok(b"abc")),
        ("Multipart/Mixed ; Boundary = \"a b\"", Ok(b"a b")),
        ("multipart/signed; protocol=\"x;boundary=no\"; boundary=yes; micalg=sha1", Ok(b"yes")),
        ("multipart/mixed;\r\n boundary=abc", Ok(b"abc")),
        ("multipart/mixed;boundary=a=b", Ok(b"a=b")),
        ("text/plain;boundary=abc", Err(MultipartFault::NotMultipart)),
        ("multipart/mixed", Err(MultipartFault::NoBoundary)),
        ("multipart/mixed;boundaries=1", Err(MultipartFault::NoBoundary)),
        ("multipart/mixed;boundary=", Err(MultipartFault::BadBoundary)),
        ("multipart/mixed;boundary=\"abc", Err(MultipartFault::BadBoundary)),
        ("multipart/mixed;boundary=\"a \"", Err(MultipartFault::BadBoundary)),
        ("multipart/mixed;boundary=\"a\\\"b\"", Err(MultipartFault::BadBoundary)),
        ("", Err(MultipartFault::NotMultipart)),
    ];
    for (value, expected) in table {
        assert_eq!(boundary_of(value.as_bytes()), *expected, "{value}");
    }
    let long = format!("multipart/mixed;boundary={}", "b".repeat(71));
    assert_eq!(boundary_of(long.as_bytes()), Err(MultipartFault::BadBoundary));
}

#[test]
fn parts_end_before_the_line_end_of_their_delimiter() {
    let body = b"preamble\r\n--b\r\nContent-Type: a/b;\r\n x=1\r\nX-Y:z\r\n\r\none\r\n\r\n--b  \r\n\r\n--bb\r\n-- b\r\n--b--\r\nepilogue --b";
    let found: Vec<_> = parts(b"multipart/mixed;boundary=b", body).unwrap().collect();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].body(), b"one\r\n");
    assert_eq!(found[0].content_type(), b"a/b;\r\n x=1");
    assert_eq!(found[0].media_type(), b"a/b");
    assert_eq!(found[0].header(b"x-y"), Some(&b"z"[..]));
    assert_eq!(found[0].header(b"x"), None);
    assert_eq!(found[0].body_span().of(body), b"one\r\n");
    assert_eq!(found[1].content_type(), b"text/plain");
    assert_eq!(found[1].body(), b"--bb\r\n-- b", "a longer boundary is text");
}

#[test]
fn line_feeds_alone_and_a_missing_end_are_forgiven() {
    assert_eq!(
        bodies("multipart/mixed;boundary=b", b"--b\nContent-Type: a/b\n\none\n--b\n\ntwo\n"),
        vec![(&b"a/b"[..], &b"one"[..]), (b"text/plain", b"two\n")]
    );
    // The last delimiter lost its `--`, or everything behind the headers is gone.
    assert_eq!(bodies("multipart/mixed;boundary=b", b"--b\r\n\r\none\r\n--b").len(), 1);
    assert_eq!(bodies("multipart/mixed;boundary=b", b"--b\r\nContent-Type: a/b"), vec![(&b"a/b"[..], &b""[..])]);
}

#[test]
fn empty_parts_are_parts_and_no_delimiter_is_no_part() {
    let empty: &[u8] = b"";
    let plain: &[u8] = b"text/plain";
    let table: &[(&[u8], usize)] = &[
        (b"", 0),
        (b"no delimiter at all", 0),
        (b"x--b\r\n\r\none", 0),
        (b"--b--", 0),
        (b"--b", 0),
        (b"--b\r\n--b--", 1),
        (b"--b\r\n\r\n--b--", 1),
        (b"--b\r\n\r\n\r\n--b--\r\n", 1),
        (b"--b\r\n--b\r\n--b--", 2),
    ];
    for (body, count) in table {
        let found = bodies("multipart/mixed;boundary=b", body);
        assert_eq!(found, vec![(plain, empty); *count], "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn nesting_is_followed_four_deep() {
    let mut body = b"deepest".to_vec();
    let mut content_type = String::from("text/plain");
    for level in 0..DEPTH_MAX + 1 {
        let head = format!("--b{level}\r\nContent-Type: {content_type}\r\n\r\n");
        body = [head.as_bytes(), &body, format!("\r\n--b{level}--\r\n").as_bytes()].concat();
        content_type = format!("multipart/mixed;boundary=b{level}");
    }
    let mut inner = parts(content_type.as_bytes(), &body).unwrap();
    for _ in 1..DEPTH_MAX {
        inner = inner.next().unwrap().parts().unwrap();
    }
    assert_eq!(inner.next().unwrap().parts().err(), Some(MultipartFault::TooDeep));
}

#[test]
fn the_push_body_of_the_mission_is_taken_apart() {
    let body = b"--dmf-7Qx2mV9bR4\r\nContent-Type: message/sip\r\n\r\nMESSAGE sip:user2@imserver.com SIP/2.0\r\n\
                 Content-Length: 18\r\n\r\nWatson, come here.\r\n--dmf-7Qx2mV9bR4--";
    let found = bodies("multipart/mixed;boundary=\"dmf-7Qx2mV9bR4\"", body);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, b"message/sip");
    assert!(found[0].1.ends_with(b"\r\n\r\nWatson, come here."));
}

#[test]
fn a_seed_has_one_boundary_and_a_body_that_holds_it_gets_another() {
    let first = boundary(b"01jq8z4m7v5c2t9x3h6k0d1b2w");
    assert_eq!(first, boundary(b"01jq8z4m7v5c2t9x3h6k0d1b2w"));
    assert_ne!(first, boundary(b"01jq8z4m7v5c2t9x3h6k0d1b2x"));
    assert_eq!(&first, b"dmf-dqazxdtmpfc3dgwy", "stored messages must be repeatable after an upgrade");
    let hostile = [b"text --".as_slice(), &first, b" text"].concat();
    assert!(occurs(&first, &hostile));
    assert!(!occurs(&first, &first));
    let second = boundary_beside(b"01jq8z4m7v5c2t9x3h6k0d1b2w", &[b"", &hostile]);
    assert_ne!(first, second);
    assert!(is_boundary(&second));
    assert_eq!(boundary_beside(b"x", &[b"harmless"]), boundary(b"x"));
}

proptest! {
    #[test]
    fn what_is_put_together_comes_apart(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..5)) {
        let refs: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let boundary = boundary_beside(b"seed", &refs);
        let mut body = Vec::new();
        for content in &contents {
            body.extend_from_slice(&[b"--", &boundary[..], b"\r\nContent-Type: a/b\r\n\r\n", content, b"\r\n"].concat());
        }
        body.extend_from_slice(&[b"--", &boundary[..], b"--"].concat());
        let content_type = [b"multipart/mixed;boundary=\"", &boundary[..], b"\""].concat();
        let found: Vec<&[u8]> = parts(&content_type, &body).unwrap().map(|part| part.body()).collect();
        prop_assert_eq!(found, refs);
    }

    #[test]
    fn no_octets_make_it_panic(body in "[-b\r\n :;x]{0,120}") {
        for part in parts(b"multipart/mixed;boundary=b", body.as_bytes()).unwrap() {
            let _ = (part.headers().count(), part.media_type(), part.parts().is_ok());
        }
    }
}
