//! The same stream, whatever its delivery.

use super::*;
use proptest::prelude::*;

/// What a stream says, whatever its delivery: content joined, places resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Request { tid: String, method: Method, to: String, content_type: String, has_body: bool },
    Body(Vec<u8>),
    End(char),
    Response { tid: String, status: u16 },
    Wrong(Finding),
}

fn text(span: Span, buf: &[u8]) -> String {
    String::from_utf8_lossy(span.of(buf)).into_owned()
}

/// Delivers `stream` cut at `borders` and collects what it says.
fn listen(stream: &[u8], borders: impl IntoIterator<Item = usize>) -> Vec<Said> {
    let mut cut = Cut::new(8 * 1024);
    let (mut said, mut buf, mut from) = (Vec::new(), Vec::new(), 0);
    for border in borders.into_iter().chain([stream.len()]) {
        buf.extend_from_slice(&stream[from..border]);
        from = border;
        loop {
            let len = match cut.next(&buf) {
                Ok(Piece::More) => break,
                Ok(Piece::Response { head, len }) => {
                    said.push(Said::Response { tid: text(head.tid, &buf), status: head.status });
                    len
                }
                Ok(Piece::Request { head, len }) => {
                    said.push(Said::Request {
                        tid: text(head.tid, &buf),
                        method: head.method,
                        to: text(head.to_path, &buf),
                        content_type: text(head.content_type, &buf),
                        has_body: head.has_body,
                    });
                    len
                }
                Ok(Piece::Data { len }) => {
                    assert!(len > 0);
                    match said.last_mut() {
                        Some(Said::Body(body)) => body.extend_from_slice(&buf[..len]),
                        _ => said.push(Said::Body(buf[..len].to_vec())),
                    }
                    len
                }
                Ok(Piece::End { flag, len }) => {
                    said.push(Said::End(char::from(flag)));
                    len
                }
                Err(fault) => {
                    said.push(Said::Wrong(fault.what));
                    if fault.is_lost() {
                        return said;
                    }
                    fault.len
                }
            };
            buf.drain(..len);
        }
    }
    said
}

const TALK: &str = "MSRP d93kswow SEND\r\nTo-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp\r\n\
    From-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp\r\nMessage-ID: 12339sdqwer\r\n\
    Byte-Range: 1-14/14\r\nContent-Type: text/plain\r\n\r\nHi, I'm Alice!\r\n-------d93kswow$\r\n\
    MSRP d93kswow 200 OK\r\nTo-Path: msrp://alicepc.example.com:7777/iau39soe2843z;tcp\r\n\
    From-Path: msrp://bob.example.com:8888/9di4eae923wzd;tcp\r\n-------d93kswow$\r\n\
    \r\n\
    MSRP bindbind SEND\r\nTo-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:1/y;tcp\r\nMessage-ID: m123\r\n\
    Byte-Range: 1-0/0\r\n-------bindbind$\r\n\
    MSRP blank123 SEND\r\nto-path:msrp://b:1/x;tcp\r\nFROM-PATH:  msrp://a:1/y;tcp\r\nMessage-ID: m124\r\n\r\n\
    -------blank123$\r\n\
    MSRP dkei38sd REPORT\r\nTo-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:1/y;tcp\r\nMessage-ID: m123\r\n\
    Byte-Range: 1-106/106\r\nStatus: 000 200 OK\r\n-------dkei38sd$\r\n\
    MSRP tid+ SEND\r\nTo-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:1/y;tcp\r\nMessage-ID: m125\r\n\
    Byte-Range: 1-*/900\r\nContent-Type: message/msrp\r\n\r\n\
    \r\n-------tid\r\n\r\n-------tid+!\r\n-------tid++$\r\n\r\n-----\r\n-------tid++\r\n\
    MSRP last SEND\r\nTo-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:1/y;tcp\r\nMessage-ID: m125\r\n\
    Byte-Range: 9-12/900\r\nContent-Type: a/b\r\n\r\n\r\n-------last#\r\n\
    MSRP none 200\r\nTo-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:1/y;tcp\r\n-------none$\r\n";

fn request(tid: &str, method: Method, to: &str, content_type: &str, has_body: bool) -> Said {
    Said::Request { tid: tid.into(), method, to: to.into(), content_type: content_type.into(), has_body }
}

fn expected() -> Vec<Said> {
    let b = "msrp://b:1/x;tcp";
    vec![
        request("d93kswow", Method::Send, "msrp://bob.example.com:8888/9di4eae923wzd;tcp", "text/plain", true),
        Said::Body(b"Hi, I'm Alice!".to_vec()),
        Said::End('$'),
        Said::Response { tid: "d93kswow".into(), status: 200 },
        request("bindbind", Method::Send, b, "", false),
        Said::End('$'),
        request("blank123", Method::Send, b, "", true),
        Said::End('$'),
        request("dkei38sd", Method::Report, b, "", false),
        Said::End('$'),
        request("tid+", Method::Send, b, "message/msrp", true),
        Said::Body(b"\r\n-------tid\r\n\r\n-------tid+!\r\n-------tid++$\r\n\r\n-----".to_vec()),
        Said::End('+'),
        request("last", Method::Send, b, "a/b", true),
        Said::End('#'),
        Said::Response { tid: "none".into(), status: 200 },
    ]
}

#[test]
fn a_conversation_says_the_same_at_every_split() {
    let stream = TALK.as_bytes();
    assert_eq!(listen(stream, []), expected());
    assert_eq!(listen(stream, 1..stream.len()), expected());
    for border in 1..stream.len() {
        assert_eq!(listen(stream, [border]), expected(), "cut at {border}");
    }
}

#[test]
fn the_chunks_of_section_11_4_are_cut_by_their_end_lines() {
    let first = "To: Bob <sip:bob@example.com>\r\nFrom: Alice <sip:alice@example.com>\r\n\
        DateTime: 2006-05-15T15:02:31-03:00\r\nContent-Type: text/plain\r\n\r\nABCD";
    let stream = format!(
        "MSRP d93kswow SEND\r\nTo-Path: msrp://b:8888/9;tcp\r\nFrom-Path: msrp://a:7654/i;tcp\r\n\
         Message-ID: 12339sdqwer\r\nByte-Range: 1-137/148\r\nContent-Type: message/cpim\r\n\r\n{first}\r\n\
         -------d93kswow+\r\nMSRP op2nc9a SEND\r\nTo-Path: msrp://b:8888/9;tcp\r\n\
         From-Path: msrp://a:7654/i;tcp\r\nMessage-ID: 12339sdqwer\r\nByte-Range: 138-148/148\r\n\
         Content-Type: message/cpim\r\n\r\n1234567890\r\n-------op2nc9a$\r\n"
    );
    let said = listen(stream.as_bytes(), []);
    assert_eq!(said[1..3], [Said::Body(first.as_bytes().to_vec()), Said::End('+')]);
    assert_eq!(said[4..], [Said::Body(b"1234567890".to_vec()), Said::End('$')]);
}

#[test]
fn a_promised_length_that_is_wrong_does_not_matter() {
    for promised in ["1-3/3", "1-5/5", "1-900/900", "1-*/*"] {
        let stream = format!(
            "MSRP abcd SEND\r\nTo-Path: x\r\nFrom-Path: y\r\nByte-Range: {promised}\r\nContent-Type: a/b\r\n\r\n\
             12345\r\n-------abcd$\r\n"
        );
        for border in 1..stream.len() {
            let said = listen(stream.as_bytes(), [border]);
            assert_eq!(said[1..], [Said::Body(b"12345".to_vec()), Said::End('$')], "{promised} cut at {border}");
        }
    }
}

#[test]
fn what_is_wrong_in_a_head_is_answerable_and_the_stream_goes_on() {
    let paths = "To-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:1/y;tcp\r\n";
    let table = [
        (format!("{paths}Byte-Range: 9-1/5\r\n"), Finding::BadByteRange, true),
        (format!("{paths}Message-ID: x\r\n"), Finding::BadMessageId, true),
        (format!("{paths}no header\r\n"), Finding::BadHeader, true),
        (format!("{paths}Failure-Report: maybe\r\n"), Finding::BadReportWish, true),
        (format!("{paths}Byte-Range: 1-2/2\r\nByte-Range: 1-2/2\r\n"), Finding::Repeated, true),
        (format!("{paths}Status: 000200\r\n"), Finding::BadStatus, true),
        (format!("{paths}Failure-Report: no\r\nByte-Range: -\r\n"), Finding::BadByteRange, false),
        ("To-Path: msrp://b:1/x;tcp\r\n".to_owned(), Finding::MissingPath, false),
        (format!("To-Path: {}\r\nFrom-Path: y\r\n", "x ".repeat(33)), Finding::BadPath, false),
        ("To-Path: a\u{1}b\r\nFrom-Path: y\r\n".to_owned(), Finding::BadPath, false),
    ];
    for (headers, what, answerable) in table {
        let stream =
            format!("MSRP abcd SEND\r\n{headers}\r\nbody\r\n-------abcd$\r\nMSRP none 200\r\n{paths}-------none$\r\n");
        let fault = Cut::new(8192).next(stream.as_bytes()).unwrap_err();
        assert_eq!((fault.what, fault.is_lost(), fault.is_answerable()), (what, false, answerable), "{headers}");
        assert_eq!(
            listen(stream.as_bytes(), 1..stream.len()),
            [
                Said::Wrong(what),
                Said::Body(b"body".to_vec()),
                Said::End('$'),
                Said::Response { tid: "none".into(), status: 200 }
            ]
        );
    }
}

#[test]
fn what_has_no_borders_is_lost() {
    let paths = "To-Path: x\r\nFrom-Path: y\r\n";
    let long = format!("MSRP abcd SEND\r\nX: {}", "x".repeat(9_000));
    let other = format!("MSRP abcd NICKNAME\r\n{paths}\r\n{}", "x".repeat(10_241));
    let table = [
        ("GET / HTTP/1.1\r\n".to_owned(), Finding::NotMsrp),
        ("MSRQ".to_owned(), Finding::NotMsrp),
        ("msrp abcd SEND\r\n".to_owned(), Finding::NotMsrp),
        ("MSRP abcd\r\n".to_owned(), Finding::BadStartLine),
        ("MSRP abcd send\r\n".to_owned(), Finding::BadStartLine),
        ("MSRP abcd 20\r\n".to_owned(), Finding::BadStartLine),
        ("MSRP a 200 OK\r\n".to_owned(), Finding::BadTid),
        (format!("MSRP {} SEND\r\n", "a".repeat(33)), Finding::BadTid),
        ("MSRP abcd SEND\nTo-Path: x\n".to_owned(), Finding::BareLineFeed),
        (format!("MSRP abcd SEND\r\n{paths}-------abce$\r\n"), Finding::BadEndLine),
        (format!("MSRP abcd 200 OK\r\n{paths}-------abcd\r\n"), Finding::BadEndLine),
        (format!("MSRP abcd 200 OK\r\n{paths}\r\nbody\r\n"), Finding::ResponseWithBody),
        (long, Finding::HeadTooLong),
        (other, Finding::BodyTooLong),
    ];
    for (stream, what) in table {
        assert_eq!(listen(stream.as_bytes(), []).last(), Some(&Said::Wrong(what)), "{stream:.60}");
        let one_by_one = listen(stream.as_bytes(), 1..stream.len());
        assert_eq!(one_by_one.last(), Some(&Said::Wrong(what)), "{stream:.60}");
    }
}

proptest! {
    #[test]
    fn any_body_comes_out_as_it_went_in(
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "\r\n", "\r", "-------", "-", "ab+c", "$", "+", "text", "\n",
            ]),
            0..60,
        ),
        borders in proptest::collection::btree_set(1usize..400, 0..20),
        says_length in any::<bool>(),
    ) {
        let body = parts.concat().into_bytes();
        let end: Vec<_> = [&b"$\r\n"[..], b"+\r\n", b"#\r\n"].iter().map(|f| [b"-------ab+c", *f].concat()).collect();
        // With the CRLF behind it: a body may end like an end-line, and then its own would come too late.
        let held = [&body[..], b"\r\n"].concat();
        prop_assume!(!end.iter().any(|end| memchr::memmem::find(&held, end).is_some()));
        let range = if says_length { format!("1-{0}/{0}", body.len()) } else { "1-*/*".into() };
        let mut stream = format!(
            "MSRP ab+c SEND\r\nTo-Path: x\r\nFrom-Path: y\r\nByte-Range: {range}\r\nContent-Type: a/b\r\n\r\n"
        ).into_bytes();
        stream.extend_from_slice(&body);
        stream.extend_from_slice(b"\r\n-------ab+c$\r\n");
        let borders = borders.into_iter().filter(|&border| border < stream.len());
        let said = listen(&stream, borders);
        let mut expected = vec![request("ab+c", Method::Send, "x", "a/b", true)];
        if !body.is_empty() {
            expected.push(Said::Body(body));
        }
        expected.push(Said::End('$'));
        prop_assert_eq!(said, expected);
    }

    #[test]
    fn a_response_that_resembles_the_last_one_is_read_as_if_it_came_first(
        responses in proptest::collection::vec(
            (
                prop::sample::select(vec!["d93kswow", "d93kswox", "a.b+c-%=", "-93kswow", "d93 swow", "abcd"]),
                prop::sample::select(vec!["200 OK", "200 NO", "413 OK", "20"]),
                prop::sample::select(vec!["msrp://b:1/x;tcp", "msrp://b:2/x;tcp", ""]),
                prop::sample::select(vec!["", "d93kswow", "$"]),
                (any::<bool>(), 0usize..120, any::<u8>()),
            ),
            1..12,
        ),
    ) {
        let mut cut = Cut::new(8 * 1024);
        for (tid, status, to, end, (spoil, at, octet)) in responses {
            let end = if end.is_empty() { tid } else { end };
            let mut frame =
                format!("MSRP {tid} {status}\r\nTo-Path: {to}\r\nFrom-Path: y\r\n-------{end}$\r\n").into_bytes();
            if spoil {
                let len = frame.len();
                frame[at % len] = octet;
            }
            let fresh = Cut::new(8 * 1024).next(&frame);
            let found = cut.next(&frame);
            prop_assert_eq!(found, fresh, "{}", String::from_utf8_lossy(&frame));
            // What was left in the middle does not go on.
            if !matches!(found, Ok(Piece::Response { .. })) {
                let last = std::mem::take(&mut cut.last);
                cut = Cut::new(8 * 1024);
                cut.last = last;
            }
        }
    }

    #[test]
    fn no_octets_make_it_panic_or_consume_what_is_not_there(
        seed in proptest::collection::vec((0usize..2_000, any::<u8>()), 0..8),
        borders in proptest::collection::btree_set(1usize..2_000, 0..10),
    ) {
        let mut stream = TALK.as_bytes().to_vec();
        for (at, octet) in seed {
            let len = stream.len();
            stream[at % len] = octet;
        }
        let borders = borders.into_iter().filter(|&border| border < stream.len());
        listen(&stream, borders);
    }
}
