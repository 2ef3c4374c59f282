//! RFC 4475 3.1.1 and 3.4: messages that are well-formed however they look. Each parses, and says what it says.

use crate::fixture::{octets, text, valid};
use deferd::wire::multipart;
use deferd::wire::params::Params;
use deferd::wire::sip::address::NameAddr;
use deferd::wire::sip::names::{Method, Name};
use deferd::wire::sip::via::Via;
use deferd::wire::uri::{Scheme, Uri};

//= RFC 4475 3.1.1.1: folds, compact forms, white space and unknown parameters everywhere
#[test]
fn wsinv_a_short_tortuous_invite() {
    let message = valid("wsinv");
    assert_eq!(message.method(), Method::Invite);
    assert_eq!(text(message.request_uri()), "sip:vivekg@chair-dnrc.example.com;unknownparam");
    assert_eq!(message.to_tag(), Some(&b"1918181833n"[..]));
    assert_eq!(message.from_tag(), Some(&b"98asjd8"[..]));
    assert_eq!(message.max_forwards(), Some(68));
    assert_eq!(text(message.call_id()), "wsinv.ndaksdj@192.0.2.1");
    assert_eq!(message.cseq(), (9, Method::Invite));
    assert_eq!(message.header(Name::Subject), Some(&b""[..]));
    assert_eq!((message.content_length(), message.body().len()), (Some(150), 150));
    let from = NameAddr::parse(message.from()).unwrap();
    assert_eq!(text(from.uri), "sip:jdrosen@example.com");
    assert_eq!(from.display_name().as_ref(), br#"J Rosenberg \""#);
    let vias: Vec<Via<'_>> = message.values(Name::Via).map(|value| Via::parse(value).unwrap()).collect();
    let said: Vec<(String, String, String)> =
        vias.iter().map(|via| (text(via.transport), text(via.host), text(via.branch.unwrap_or_default()))).collect();
    let expected = [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ];
    assert_eq!(said, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    assert!(!message.top_via().has_cookie());
    let contact = NameAddr::parse(message.header(Name::Contact).unwrap()).unwrap();
    assert_eq!(contact.display_name().as_ref(), br#"Quoted string """#);
    assert_eq!(contact.params.get(b"newparam"), Some(&b"newvalue"[..]));
    assert!(contact.params.has(b"secondparam"));
    assert_eq!(contact.params.get(b"q"), Some(&b"0.33"[..]));
    let route = NameAddr::parse(message.header(Name::Route).unwrap()).unwrap();
    assert!(Uri::parse(route.uri).unwrap().params.has(b"lr"));
    assert_eq!(message.header_named(b"unknownheaderwithunusualvalue"), Some(&b";;,,;;,;"[..]));
}

//= RFC 4475 3.1.1.2: a wide range of valid characters
#[test]
fn intmeth_wide_range_of_characters() {
    let message = valid("intmeth");
    assert_eq!(message.method(), Method::Other);
    assert_eq!(text(message.method_bytes()), r"!interesting-Method0123456789_*+`.%indeed\'~");
    assert_eq!(message.method_bytes(), message.cseq_method_bytes());
    assert_eq!(message.cseq().0, 139_122_385);
    assert_eq!(message.max_forwards(), Some(255));
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!(text(uri.user.unwrap()), r"1_unusual.URI~(to-be!sure)&isn\'t+it$/crazy?,/;;*");
    assert_eq!(text(uri.password.unwrap()), r"&it+has=1,weird!*pas$wo~d_too.(doesn\'t-it)");
    assert_eq!(uri.host, b"example.com");
    let to = NameAddr::parse(message.to()).unwrap();
    assert_eq!(to.display_name().as_ref(), b"BEL:\x07 NUL:\x00 DEL:\x7f");
    assert_eq!(text(message.from_tag().unwrap()), r"_token~1\'+`*%!-.");
    assert_eq!(text(message.call_id()), r#"intmeth.word%ZK-!.*_+\'@word`~)(><:\\/\"][?}{"#);
    assert_eq!(text(message.top_via().branch.unwrap()), r"z9hG4bK-.!%66*_+`\'~");
    assert_eq!(message.header_named(b"extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電".as_bytes()));
}

//= RFC 4475 3.1.1.3: valid use of the % escape
#[test]
fn esc01_escapes_are_those_of_the_uri() {
    let message = valid("esc01");
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!(uri.scheme, Scheme::Sip);
    assert_eq!((text(uri.user.unwrap()), text(uri.host)), ("sips%3Auser%40example.com".into(), "example.net".into()));
    let to = Uri::parse(NameAddr::parse(message.to()).unwrap().uri).unwrap();
    assert!(to.eq_aor(&Uri::parse(b"sip:user@example.com").unwrap()));
    let contact = NameAddr::parse(message.header(Name::Contact).unwrap()).unwrap();
    let contact = Uri::parse(contact.uri).unwrap();
    let names: Vec<(String, Option<String>)> = {
        let mut names = Vec::new();
        contact.params.each(|param| names.push((text(param.name), param.value.map(text)))).unwrap();
        names
    };
    assert_eq!(names, [("%6C%72".into(), None), ("n%61me".into(), Some("v%61lue%25%34%31".into()))]);
    assert!(!contact.params.has(b"lr"), "a parameter's name is not unescaped to find out whether it is lr");
}

//= RFC 4475 3.1.1.4: escaped NULs do not shorten a user's name
#[test]
fn escnull_nul_is_a_character_like_others() {
    let message = valid("escnull");
    let aor = |octets: &[u8]| {
        let mut out = Vec::new();
        Uri::parse(NameAddr::parse(octets).unwrap().uri).unwrap().canonical(&mut out);
        text(&out)
    };
    assert_eq!(aor(message.to()), "sip:null-%00-null@example.com");
    let contacts: Vec<String> = message.values(Name::Contact).map(aor).collect();
    assert_eq!(contacts, ["sip:%00@host5.example.com", "sip:%00%00@host5.example.com"]);
    assert_eq!(message.content_length(), Some(0));
}

//= RFC 4475 3.1.1.5: % is no escape outside URIs
#[test]
fn esc02_percent_signs_in_tokens_are_themselves() {
    let message = valid("esc02");
    assert_eq!((message.method(), text(message.method_bytes())), (Method::Other, "RE%47IST%45R".into()));
    assert_eq!(NameAddr::parse(message.to()).unwrap().display_name().as_ref(), b"%Z%45");
    assert_eq!(message.values(Name::Contact).count(), 2);
}

//= RFC 4475 3.1.1.6: no white space between display name and <
#[test]
fn lwsdisp_a_display_name_may_touch_its_bracket() {
    let message = valid("lwsdisp");
    let from = NameAddr::parse(message.from()).unwrap();
    assert_eq!((text(from.display), text(from.uri)), ("caller".into(), "sip:caller@example.com".into()));
    assert_eq!(message.from_tag(), Some(&b"323"[..]));
}

//= RFC 4475 3.1.1.7: long values
#[test]
fn longreq_long_values_are_whole() {
    let message = valid("longreq");
    assert_eq!(text(message.from_tag().unwrap()), format!("12{}424", "982".repeat(50)));
    assert_eq!(text(message.call_id()), format!("longreq.one{}longcallid", "really".repeat(20)));
    assert_eq!(message.headers(Name::Via).count(), 34);
    let oldest = message.values(Name::Via).last().unwrap();
    assert_eq!(text(Via::parse(oldest).unwrap().received.unwrap()), "192.0.2.5");
    assert_eq!(text(message.top_via().host), "sip33.example.com");
    assert_eq!((message.top_via().branch, message.body().len()), (None, 150));
}

//= RFC 4475 3.1.1.8: octets behind the body of a datagram are noise
#[test]
fn dblreq_the_second_message_is_not_seen() {
    let message = valid("dblreq");
    assert_eq!((message.method(), message.cseq()), (Method::Register, (8, Method::Register)));
    assert!(message.body().is_empty() && octets("dblreq").len() > 700);
    assert_eq!(message.headers(Name::CSeq).count(), 1);
}

//= RFC 4475 3.1.1.9: semicolons in the user part
#[test]
fn semiuri_a_semicolon_before_the_at_belongs_to_the_user() {
    let message = valid("semiuri");
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!((text(uri.user.unwrap()), text(uri.host)), ("user;par=u%40example.net".into(), "example.com".into()));
    assert_eq!(uri.params, Params::new(b""));
    assert_eq!(message.values(Name::Accept).count(), 6);
}

//= RFC 4475 3.1.1.10: unknown transports in Via
#[test]
fn transports_any_token_is_a_transport() {
    let message = valid("transports");
    let transports: Vec<String> =
        message.values(Name::Via).map(|value| text(Via::parse(value).unwrap().transport)).collect();
    assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
}

//= RFC 4475 3.1.1.11: a multipart body with NULs in it
#[test]
fn mpart01_both_parts_are_whole() {
    let message = valid("mpart01");
    assert_eq!((message.method(), message.body().len()), (Method::Message, 553));
    assert_eq!(message.top_via().rport, Some(None));
    let parts: Vec<_> = multipart::parts(message.content_type().unwrap(), message.body()).unwrap().collect();
    assert_eq!(parts.len(), 2);
    assert_eq!((text(parts[0].media_type()), text(parts[0].body())), ("text/plain".into(), "Hello".into()));
    assert_eq!(text(parts[1].media_type()), "application/octet-stream");
    assert_eq!(parts[1].header(b"content-transfer-encoding"), Some(&b"binary"[..]));
    // DER: a SEQUENCE whose two length octets cover all that follows.
    let der = parts[1].body();
    assert_eq!(&der[..2], [0x30, 0x82]);
    assert_eq!(usize::from(u16::from_be_bytes([der[2], der[3]])) + 4, der.len());
    assert!(der.contains(&0));
}

//= RFC 4475 3.1.1.12: an unusual reason phrase
#[test]
fn unreason_a_reason_phrase_is_for_people() {
    let message = valid("unreason");
    assert!(!message.is_request());
    assert_eq!(message.status(), 200);
    assert_eq!(std::str::from_utf8(message.reason()), Ok("= 2**3 * 5**2 но сто девяносто девять - простое"));
    assert_eq!((message.cseq(), message.body().len()), ((35, Method::Invite), 154));
}

//= RFC 4475 3.1.1.13: an empty reason phrase
#[test]
fn noreason_the_phrase_may_be_missing() {
    let message = valid("noreason");
    assert_eq!((message.status(), message.reason()), (100, &b""[..]));
}

//= RFC 4475 3.4.1: an INVITE by the rules of RFC 2543
#[test]
fn inv2543_the_old_syntax_is_taken() {
    let message = valid("inv2543");
    assert_eq!((message.method(), message.from_tag()), (Method::Invite, None));
    assert_eq!((message.top_via().branch, message.content_length(), message.max_forwards()), (None, None, None));
    assert!(!message.top_via().has_cookie());
    assert!(message.body().starts_with(b"v=0\r\n") && message.body().ends_with(b"RTP/AVP 0\r\n"));
}
