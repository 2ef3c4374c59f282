//! CPIM messages, as they should be and as they come.

use super::*;
use proptest::prelude::*;

const MESSAGE: &[u8] = b"From: Alice <im:alice@example.com>\r\nTo: \"B <x>\" <im:bob@example.com>\r\n\
    DateTime: 2006-04-04T12:16:49-05:00\r\nSubject:;lang=fr Objet de message\r\nSubject: the \\\"other\\\"\r\n\
    NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 34jk324j\r\n\
    imdn.Disposition-Notification: positive-delivery, negative-delivery\r\n\r\n\
    Content-type: text/plain; charset=utf-8\r\nContent-ID: <1@foo>\r\n\r\nHello\r\n\r\nWorld";

#[test]
fn a_message_comes_apart() {
    let cpim = Cpim::parse(MESSAGE).unwrap();
    assert_eq!((cpim.from(), cpim.to()), (Some(&b"im:alice@example.com"[..]), Some(&b"im:bob@example.com"[..])));
    assert_eq!(cpim.date_time(), Some(&b"2006-04-04T12:16:49-05:00"[..]));
    let subject = cpim.subject().unwrap();
    assert_eq!((subject.lang, subject.value), (&b"fr"[..], &b"Objet de message"[..]));
    assert_eq!(cpim.imdn(b"Message-ID").collect::<Vec<_>>(), [b"34jk324j"]);
    assert_eq!(cpim.content_type(), Some(&b"text/plain; charset=utf-8"[..]));
    assert_eq!(cpim.content_header(b"content-id"), Some(&b"<1@foo>"[..]));
    assert_eq!(cpim.content(), b"Hello\r\n\r\nWorld");
    assert!(!cpim.is_imdn());
    assert_eq!(message_id(MESSAGE), Some(&b"34jk324j"[..]));
    assert!(wants_failure_report(MESSAGE) && !is_imdn(MESSAGE));
    assert_eq!(content_media(MESSAGE), Some(&b"text/plain"[..]));
}

/// RFC 5438's own examples have no blank line between the message's headers and the content's.
#[test]
fn the_blank_line_between_the_blocks_may_be_missing() {
    let body = b"From: <im:a@x>\r\nTo: <im:b@x>\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 1\r\n\
        Content-type: message/imdn+xml\r\nContent-Disposition: notification\r\nContent-length: 7\r\n\r\n<imdn/>";
    let cpim = Cpim::parse(body).unwrap();
    assert!(cpim.is_imdn() && is_imdn(body));
    assert_eq!(cpim.content_header(b"Content-Disposition"), Some(&b"notification"[..]));
    assert_eq!((cpim.content(), message_id(body)), (&b"<imdn/>"[..], Some(&b"1"[..])));
    let bare = b"From: <sip:a@x>\n\nContent-type: Message/IMDN+xml; charset=utf-8\n\n<imdn/>";
    assert!(is_imdn(bare) && !wants_failure_report(bare));
}

//= RFC 3862 3.4: a namespace prefix declaration MUST precede any use of that prefix
#[test]
fn a_prefix_means_what_was_declared_before_it() {
    let body = b"x.Message-ID: too early\r\nNS: x <urn:ietf:params:imdn>\r\nx.Message-ID: 7\r\nNS: x <urn:other>\r\n\
        x.Message-ID: another\r\nNS: <urn:mine>\r\nFrom: <im:a@x>\r\n\r\nContent-Type: text/plain\r\n\r\n";
    let cpim = Cpim::parse(body).unwrap();
    assert_eq!(cpim.imdn(b"Message-ID").collect::<Vec<_>>(), [b"7"]);
    assert_eq!(cpim.header(b"From"), None, "another default namespace: another header");
    let undeclared = b"imdn.Message-ID: 8\r\n\r\nContent-Type: text/plain\r\n\r\n";
    assert_eq!(message_id(undeclared), Some(&b"8"[..]));
    let cased = b"From: <im:a@x>\r\nimdn.message-id: 8\r\n\r\nContent-Type: text/plain\r\n\r\n";
    assert_eq!(message_id(cased), None, "header names match exactly");
}

//= RFC 3862 2.4: the MIME content headers MUST include at least a Content-Type header
#[test]
fn what_is_no_message_is_a_fault() {
    let many = [b"X: y\r\n".repeat(LINES_MAX), b"\r\nContent-Type: text/plain\r\n\r\n".to_vec()].concat();
    let table: &[(&[u8], CpimFault)] = &[
        (b"", CpimFault::ContentTypeMissing),
        (b"From: <im:a@x>\r\n\r\n", CpimFault::ContentTypeMissing),
        (b"From: <im:a@x>\r\n\r\nContent-ID: <1>\r\n\r\nHello", CpimFault::ContentTypeMissing),
        (&many, CpimFault::TooManyLines),
    ];
    for (body, fault) in table {
        assert_eq!(Cpim::parse(body), Err(*fault), "{}", String::from_utf8_lossy(body));
    }
    let odd = Cpim::parse(b"From: im:a@x\r\nTo: <im:b x>\r\n:\r\nno colon\r\n\r\nContent-Type: a/b\r\n\r\n").unwrap();
    assert_eq!((odd.from(), odd.to(), odd.headers().count()), (Some(&b"im:a@x"[..]), None, 2));
}

//= RFC 3862 2.3.1: any unrecognized escape sequence is an instance of the character following the backslash
#[test]
fn escapes_are_undone() {
    let table: &[(&[u8], &str)] = &[
        (b"plain", "plain"),
        (b"a\\\\b\\\"c\\'d", "a\\b\"c'd"),
        (b"\\b\\t\\n\\r", "\u{8}\t\n\r"),
        (b"\\u00e9\\u20AC.", "\u{e9}\u{20ac}."),
        (b"\\x\\uzzzz\\ud800", "xuzzzzud800"),
        (b"end\\", "end"),
    ];
    for (value, text) in table {
        assert_eq!(unescape(value), text.as_bytes(), "{}", String::from_utf8_lossy(value));
    }
}

//= RFC 3862 2.2: there MUST be a single space character following the header name and colon
//= RFC 3862 3.3: ';lang=tag' after the header name and colon
#[test]
fn what_is_written_is_this() {
    let written = Writer::new(b"sip:bob@example.org", b"sip:alice@example.org>\r\nEvil: 1")
        .with_imdn()
        .line(b"imdn.Message-ID", b" kq93Ls0a8Zt1 ")
        .date_time(1_769_940_000)
        .content(b"message/imdn+xml", b"Content-Disposition: notification\r\n", b"<imdn/>");
    assert_eq!(
        String::from_utf8(written).unwrap(),
        "From: <sip:bob@example.org>\r\nTo: <sip:alice@example.orgEvil:1>\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: kq93Ls0a8Zt1\r\nDateTime: 2026-02-01T10:00:00Z\r\n\r\nContent-Type: message/imdn+xml\r\n\
         Content-Disposition: notification\r\nContent-Length: 7\r\n\r\n<imdn/>"
    );
}

proptest! {
    //= RFC 3862 2.3.1: the special sequences MUST be used for backslash, backspace, tab, linefeed and carriage return
    #[test]
    fn what_is_written_is_read_back(
        subject in "\\PC{0,20}[\\x00-\\x1f\\\\\"']{0,4}x",
        user in "[a-z0-9;?/,&=+$.!~*'()_-]{1,12}",
        content in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let subject = subject.trim();
        let uri = format!("sip:{user}@example.org");
        let written = Writer::new(uri.as_bytes(), b"sip:b@h").line(b"Subject", subject.as_bytes()).content(b"a/b", b"", &content);
        let cpim = Cpim::parse(&written).unwrap();
        prop_assert_eq!(cpim.from(), Some(uri.as_bytes()));
        prop_assert_eq!(cpim.content(), &content[..]);
        let read = cpim.subject().unwrap();
        prop_assert!(read.value.iter().all(|octet| *octet > 0x1f && *octet != 0x7f));
        prop_assert_eq!(unescape(read.value), subject.trim_matches([' ', '\t', '\r', '\n']).as_bytes());
    }

    #[test]
    fn no_octets_make_it_panic(body in "[a.:;<> \r\nConteyptTNSu0\\\\-]{0,160}") {
        if let Ok(cpim) = Cpim::parse(body.as_bytes()) {
            let _ = (cpim.from(), cpim.to(), cpim.subject(), cpim.imdn(b"Message-ID").count(), cpim.is_imdn());
            cpim.headers().for_each(|header| { unescape(header.value); });
        }
        let _ = (is_imdn(body.as_bytes()), message_id(body.as_bytes()));
    }
}
