//! Responses and requests, octet by octet.

use super::*;
use crate::base::limits::Limits;
use proptest::prelude::*;

fn parse(octets: impl Into<Bytes>) -> Message {
    Message::parse(octets.into(), &Limits::default()).unwrap()
}

fn request(via: &str) -> Message {
    parse(format!(
        "MESSAGE sip:b@h SIP/2.0\r\nVia: {via}\r\nv: SIP/2.0/TCP second\r\nRecord-Route: <sip:p1;lr>,\r\n <sip:p2;lr>\r\n\
         From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c@h\r\nCSeq: 7 MESSAGE\r\nl: 0\r\n\r\n"
    ))
}

fn source(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[test]
fn a_response_repeats_what_identifies_the_request() {
    let request = request("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx");
    let octets = Response::to(&request, 202, source("192.0.2.1:5060"))
        .line(Name::Server, b"IM-serv/OMA1.0")
        .to_tag(b"t1")
        .finish();
    assert_eq!(
        String::from_utf8_lossy(&octets),
        "SIP/2.0 202 Accepted\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nVia: SIP/2.0/TCP second\r\n\
         From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=t1\r\nCall-ID: c@h\r\nCSeq: 7 MESSAGE\r\n\
         Server: IM-serv/OMA1.0\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn a_line_that_is_not_spelt_as_ours_is_written_anew() {
    let request = parse(
        "MESSAGE sip:b@h SIP/2.0\r\nVia:  SIP/2.0/TCP a\r\nVIA:\r\n SIP/2.0/TCP b,\r\n\tSIP/2.0/TCP c\r\n\
         f: <sip:a@h>;tag=1\r\nTo : \"x\r\n y\" <sip:b@h>\t\r\nCALL-ID: c@h\r\nCSeq:\t7 MESSAGE\r\nl: 0\r\n\r\n",
    );
    let octets = Response::to(&request, 480, source("[2001:db8::1]:9")).to_tag(b"t1").finish();
    assert_eq!(
        String::from_utf8_lossy(&octets),
        "SIP/2.0 480 Temporarily Unavailable\r\nVia: SIP/2.0/TCP a;received=2001:db8::1\r\n\
         Via: SIP/2.0/TCP b, SIP/2.0/TCP c\r\nFrom: <sip:a@h>;tag=1\r\nTo: \"x y\" <sip:b@h>;tag=t1\r\n\
         CALL-ID: c@h\r\nCSeq:\t7 MESSAGE\r\nContent-Length: 0\r\n\r\n"
    );
}

/// What is answered with 400 may be read further by others than by us.
#[test]
fn behind_a_fault_in_a_via_nobody_says_where_a_request_came_from() {
    for via in ["h;;received=6.6.6.6", "h;rport;;received=6.6.6.6", "h;x=\"abc"] {
        let text = format!(
            "OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
             Call-ID: c\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n"
        );
        let read = Message::parse(Bytes::from(text), &Limits::default());
        let request = read.unwrap_err().partial.unwrap();
        let response = Response::to(&request, 400, "192.0.2.1:2".parse().unwrap()).finish();
        let response = String::from_utf8(response.to_vec()).unwrap();
        let via = response.lines().find(|line| line.starts_with("Via: ")).unwrap();
        let port = if via.contains("rport") { ";rport=2" } else { "" };
        assert_eq!(via, format!("Via: SIP/2.0/UDP h{port};received=192.0.2.1"));
    }
}

#[test]
fn the_topmost_via_learns_where_the_request_came_from() {
    let table = [
        // RFC 3261 18.2.1: only when the host differs.
        ("SIP/2.0/UDP 192.0.2.1:5070;branch=x", "192.0.2.1:9", "SIP/2.0/UDP 192.0.2.1:5070;branch=x"),
        ("SIP/2.0/UDP 192.0.2.1;branch=x", "[::ffff:192.0.2.1]:9", "SIP/2.0/UDP 192.0.2.1;branch=x"),
        ("SIP/2.0/UDP 10.1.1.1;branch=x", "192.0.2.1:9", "SIP/2.0/UDP 10.1.1.1;branch=x;received=192.0.2.1"),
        ("SIP/2.0/UDP host.example", "192.0.2.1:9", "SIP/2.0/UDP host.example;received=192.0.2.1"),
        ("SIP/2.0/TCP [2001:DB8::1];branch=x", "[2001:db8::1]:9", "SIP/2.0/TCP [2001:DB8::1];branch=x"),
        ("SIP/2.0/TCP h", "[2001:db8::1]:9", "SIP/2.0/TCP h;received=2001:db8::1"),
        // RFC 3581 4: asked for, so filled in, and received with it.
        (
            "SIP/2.0/UDP 192.0.2.1;rport;branch=x",
            "192.0.2.1:4711",
            "SIP/2.0/UDP 192.0.2.1;rport=4711;branch=x;received=192.0.2.1",
        ),
        (
            "SIP/2.0/UDP h;branch=x ; rport = 1 ;x=\"rport;\"",
            "192.0.2.1:4711",
            "SIP/2.0/UDP h;branch=x ; rport=4711 ;x=\"rport;\";received=192.0.2.1",
        ),
        ("SIP/2.0/UDP h;\r\n rport\r\n ;z", "192.0.2.1:2", "SIP/2.0/UDP h; rport=2 ;z;received=192.0.2.1"),
        // What the sender claims of our part does not count.
        (
            "SIP/2.0/UDP h ; received=6.6.6.6;rport=1;x=\"a;b\"",
            "192.0.2.1:2",
            "SIP/2.0/UDP h;rport=2;x=\"a;b\";received=192.0.2.1",
        ),
        ("SIP/2.0/UDP h;rport;z;RPORT=1", "192.0.2.1:2", "SIP/2.0/UDP h;rport=2;z;received=192.0.2.1"),
        ("SIP/2.0/UDP h;rport;received=6.6.6.6", "192.0.2.1:2", "SIP/2.0/UDP h;rport=2;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;\r\n\treceived=6.6.6.6;z", "192.0.2.1:2", "SIP/2.0/UDP 192.0.2.1;z"),
        ("SIP/2.0/UDP h;received=6.6.6.6", "192.0.2.1:2", "SIP/2.0/UDP h;received=192.0.2.1"),
        // Values behind the first on its line stand as they are.
        (
            "SIP/2.0/UDP h;rport , SIP/2.0/UDP k;rport",
            "192.0.2.1:2",
            "SIP/2.0/UDP h;rport=2;received=192.0.2.1 , SIP/2.0/UDP k;rport",
        ),
    ];
    for (via, from, expected) in table {
        let request = request(via);
        let response = parse(Response::to(&request, 200, source(from)).finish());
        assert_eq!(response.header(Name::Via).map(String::from_utf8_lossy).as_deref(), Some(expected));
        assert_eq!(response.via_count(), request.via_count());
    }
}

#[test]
fn a_dialog_forming_response_carries_the_route() {
    let request = request("SIP/2.0/TCP h;branch=x");
    let source = source("192.0.2.1:9");
    let response = Response::to(&request, 200, source).record_route().to_tag(b"x").body(b"application/sdp", b"v=0\r\n");
    let response = parse(response.finish());
    assert_eq!(response.header(Name::RecordRoute), Some(&b"<sip:p1;lr>, <sip:p2;lr>"[..]));
    assert_eq!((response.body(), response.content_type()), (&b"v=0\r\n"[..], Some(&b"application/sdp"[..])));
    assert_eq!(response.to_tag(), Some(&b"x"[..]));
    // A tag that is there stays, whatever is asked.
    let again = parse(Response::to(&response, 200, source).to_tag(b"other").to_tag(b"third").finish());
    assert_eq!(again.to(), response.to());
}

#[test]
fn an_answer_that_was_ready_is_restated_with_another_status() {
    let request = request("SIP/2.0/TCP h;branch=x");
    let ready = Response::to(&request, 202, source("192.0.2.1:9")).to_tag(b"t").line(Name::Server, b"s").finish();
    let restated = parse(restated(&ready, 503, Name::RetryAfter, b"60"));
    let ready = parse(ready);
    assert_eq!((restated.status(), restated.header(Name::RetryAfter)), (503, Some(&b"60"[..])));
    for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq, Name::Server, Name::ContentLength] {
        assert!(restated.headers(name).eq(ready.headers(name)), "{name:?}");
    }
    assert!(restated.body().is_empty());
}

/// RFC 3261 8.2.6.2: one tag, and it is ours.
#[test]
fn a_tag_that_says_nothing_is_not_a_second_one() {
    for (to, answered) in [
        ("<sip:b@h>;tag=", "<sip:b@h>;tag=t1"),
        ("<sip:b@h> ;tag;x=1", "<sip:b@h> ;x=1;tag=t1"),
        ("<sip:b@h>;tag=;tag; tag =", "<sip:b@h>;tag=t1"),
        ("<sip:b@h>;tag=;tag=theirs", "<sip:b@h>;tag=;tag=theirs"),
        ("<sip:b@h>;x=1", "<sip:b@h>;x=1;tag=t1"),
        ("<sip:b@h;user=phone>", "<sip:b@h;user=phone>;tag=t1"),
    ] {
        let text = String::from_utf8_lossy(request("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx").octets())
            .replace("To: <sip:b@h>", &format!("To: {to}"));
        let octets = Response::to(&parse(text), 202, source("192.0.2.1:5060")).to_tag(b"t1").finish();
        let said = String::from_utf8_lossy(&octets).into_owned();
        assert!(said.contains(&format!("\r\nTo: {answered}\r\n")), "{said}");
    }
}

#[test]
fn a_partial_request_is_answered_with_what_it_has() {
    let octets =
        b"INVITE sip:b@h SIP/2.0\r\nCSeq: 1 INVITE\r\nVia: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKk\r\nl: 0\r\n\r\n";
    let malformed = Message::parse(Bytes::from_static(octets), &Limits::default()).unwrap_err();
    let partial = malformed.partial.unwrap();
    let phrase = malformed.fault.words();
    let answer =
        Response::with_phrase(&partial, 400, phrase.as_bytes(), source("192.0.2.95:5060")).to_tag(b"t").finish();
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "SIP/2.0 400 Missing From\r\nVia: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKk\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn folds_are_unfolded_and_nothing_else_passes() {
    let mut out = Vec::new();
    put_clean(&mut out, b"a\r\n \t b\r\n\tc");
    assert_eq!(out, b"a b c");
    let octets = Request::new(Method::Bye, b"sip:a@h> SIP/2.0\r\nX: y").finish();
    assert!(octets.starts_with(b"BYE sip:a@hSIP/2.0X:y SIP/2.0\r\n"));
}

#[cfg(not(debug_assertions))]
#[test]
fn no_value_becomes_a_header() {
    let octets = Request::new(Method::Bye, b"sip:a@h").line(Name::Subject, b"x\r\nEvil: y\nEvil: z\r").finish();
    assert!(!octets.windows(6).any(|six| six == b"\nEvil:"));
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "a header value holds no line end")]
fn a_line_end_in_a_value_is_our_mistake() {
    let _ = Request::new(Method::Bye, b"sip:a@h").line(Name::Subject, b"x\r\nEvil: y");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        number in any::<u32>(),
        subject in "[a-zA-Z0-9 ,;:<>\"()]{0,40}",
        extension in "X-[a-z]{1,8}",
        tag in "[a-z0-9.!%*_+`'~-]{1,12}",
        user in "[a-z0-9;?/,&=+$.!~*'()_-]{1,12}",
        body in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let uri = format!("sip:{user}@example.com");
        let octets = Request::new(Method::Message, uri.as_bytes())
            .line(Name::Via, b"SIP/2.0/TCP 127.0.0.1;branch=z9hG4bKx;rport")
            .number(Name::MaxForwards, 70)
            .line(Name::From, format!("<sip:a@h>;tag={tag}").as_bytes())
            .line(Name::To, format!("<{uri}>").as_bytes())
            .line(Name::CallId, b"c@h")
            .cseq(number, Method::Message)
            .line(Name::Subject, subject.as_bytes())
            .line_raw(extension.as_bytes(), b"v")
            .body(b"text/plain", &body)
            .finish();
        let message = parse(octets);
        prop_assert_eq!(message.request_uri(), uri.as_bytes());
        prop_assert_eq!(message.cseq(), (number, Method::Message));
        prop_assert_eq!(message.from_tag(), Some(tag.as_bytes()));
        prop_assert_eq!(message.header(Name::Subject), Some(subject.trim().as_bytes()));
        prop_assert_eq!(message.header_named(extension.as_bytes()), Some(&b"v"[..]));
        prop_assert_eq!(message.max_forwards(), Some(70));
        prop_assert_eq!(message.body(), &body[..]);
        let from = SocketAddr::from(([127, 0, 0, 1], 4711));
        let response = parse(Response::to(&message, 480, from).to_tag(tag.as_bytes()).finish());
        prop_assert_eq!(response.status(), 480);
        prop_assert_eq!(response.top_via().rport, Some(Some(4711)));
        prop_assert_eq!(response.to_tag(), Some(tag.as_bytes()));
        prop_assert_eq!(response.call_id(), message.call_id());
        prop_assert_eq!(response.cseq(), message.cseq());
    }
}
