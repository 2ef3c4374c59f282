//! RFC 4475 3.2 and 3.3: well-formed messages that somebody above the parser refuses or drops; what they say must be
//! there to decide on.

use crate::fixture::{text, valid};
use deferd::wire::sip::address::NameAddr;
use deferd::wire::sip::fields;
use deferd::wire::sip::names::Name;
use deferd::wire::sip::via::Via;
use deferd::wire::uri::{Scheme, Uri};

//= RFC 4475 3.2.1: a branch that is the cookie alone is matched by the rules of RFC 2543
#[test]
fn badbranch_a_bare_cookie_is_no_transaction_id() {
    let message = valid("badbranch");
    assert_eq!(message.top_via().branch, Some(&b"z9hG4bK"[..]));
    assert!(!message.top_via().has_cookie());
}

//= RFC 4475 3.3.4: unknown schemes in header fields
#[test]
fn unksm2_other_schemes_stand_in_headers() {
    let message = valid("unksm2");
    assert_eq!(text(NameAddr::parse(message.to()).unwrap().uri), "isbn:2983792873");
    assert_eq!(text(NameAddr::parse(message.from()).unwrap().uri), "http://www.example.com");
    let contact = NameAddr::parse(message.header(Name::Contact).unwrap()).unwrap();
    assert_eq!(Uri::parse(contact.uri).unwrap().scheme, Scheme::Other);
}

//= RFC 4475 3.3.5: Require and Proxy-Require
#[test]
fn bext01_every_required_option_is_named() {
    let message = valid("bext01");
    let required: Vec<String> = fields::tokens(&message, Name::Require).map(text).collect();
    assert_eq!(required, ["nothingSupportsThis", "nothingSupportsThisEither"]);
    assert_eq!(fields::tokens(&message, Name::ProxyRequire).count(), 2);
}

//= RFC 4475 3.3.6: an unknown Content-Type
#[test]
fn invut_the_type_is_there_to_be_refused() {
    let message = valid("invut");
    assert_eq!(message.content_type(), Some(&b"application/unknownformat"[..]));
    assert_eq!(message.body().len(), 40);
}

//= RFC 4475 3.3.7: an unknown Authorization scheme
#[test]
fn regaut01_an_unknown_scheme_is_a_value_like_others() {
    let message = valid("regaut01");
    assert_eq!(text(message.header(Name::Authorization).unwrap()), "NoOneKnowsThisScheme opaque-data=here");
    assert_eq!(message.content_length(), Some(0), "without the space behind the colon");
}

//= RFC 4475 3.3.10: a response with a broadcast Via is dropped
#[test]
fn bcast_a_response_with_two_vias_is_not_ours() {
    let message = valid("bcast");
    assert_eq!((message.status(), message.via_count()), (200, 2));
    let below = message.values(Name::Via).nth(1).unwrap();
    assert_eq!(text(Via::parse(below).unwrap().host), "255.255.255.255");
}

//= RFC 4475 3.3.11: Max-Forwards of zero
#[test]
fn zeromf_zero_is_a_value() {
    assert_eq!(valid("zeromf").max_forwards(), Some(0));
}

//= RFC 4475 3.3.12: a parameter behind an addr-spec is the header's
//= RFC 4475 3.3.13: a parameter inside the brackets is the URI's
#[test]
fn cparam_brackets_decide_whose_parameter_it_is() {
    for (name, of_header) in [("cparam01", true), ("cparam02", false)] {
        let message = valid(name);
        let contact = NameAddr::parse(message.header(Name::Contact).unwrap()).unwrap();
        let uri = Uri::parse(contact.uri).unwrap();
        assert_eq!(text(uri.user.unwrap()), "+19725552222");
        assert_eq!((contact.params.has(b"unknownparam"), uri.params.has(b"unknownparam")), (of_header, !of_header));
    }
}

//= RFC 4475 3.3.14: a Contact with an escaped header
#[test]
fn regescrt_a_uri_may_carry_headers_in_brackets() {
    let message = valid("regescrt");
    let contact = NameAddr::parse(message.header(Name::Contact).unwrap()).unwrap();
    assert_eq!(Uri::parse(contact.uri).unwrap().headers.map(text).as_deref(), Some("Route=%3Csip:sip.example.com%3E"));
}

//= RFC 4475 3.3.15: Accept without application/sdp
#[test]
fn sdp01_what_the_caller_accepts_is_known() {
    let message = valid("sdp01");
    assert!(!fields::accepts(&message, b"application/sdp", true));
    assert!(fields::accepts(&message, b"text/nobodyKnowsThis", true));
}
