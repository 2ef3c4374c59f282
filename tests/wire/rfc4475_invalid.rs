//! RFC 4475 3.1.2, and the framing of 3.3: messages that are refused, each with its status.

use crate::fixture::{datagram, octets, text, valid};
use bytes::Bytes;
use deferd::base::limits::Limits;
use deferd::wire::date;
use deferd::wire::sip::cut::{Cut, Found};
use deferd::wire::sip::fault::What;
use deferd::wire::sip::message::Message;
use deferd::wire::sip::names::Name;
use deferd::wire::sip::write::Response;

/// What is wrong with a message, and the status that says so.
const REFUSED: &[(&str, What, u16)] = &[
    //= RFC 4475 3.1.2.1: extraneous separators
    ("badinv01", What::Via, 400),
    //= RFC 4475 3.1.2.2: Content-Length larger than the datagram
    ("clerr", What::BodyShorterThanDeclared, 400),
    //= RFC 4475 3.1.2.3: negative Content-Length
    ("ncl", What::ContentLength, 400),
    //= RFC 4475 3.1.2.4: a CSeq above 2^32-1
    ("scalar02", What::CSeq, 400),
    //= RFC 4475 3.1.2.6: a quote that does not end
    ("quotbal", What::QuoteOpen, 400),
    //= RFC 4475 3.1.2.7: <> around the Request-URI
    ("ltgtruri", What::Uri, 400),
    //= RFC 4475 3.1.2.8: white space in the Request-URI
    ("lwsruri", What::Uri, 400),
    //= RFC 4475 3.1.2.9: more than one space in the Request-Line
    ("lwsstart", What::Uri, 400),
    //= RFC 4475 3.1.2.10: spaces behind the Request-Line
    ("trws", What::StartLine, 400),
    //= RFC 4475 3.1.2.11: headers in the Request-URI
    ("escruri", What::UriHeaders, 400),
    //= RFC 4475 3.1.2.13: a URI with headers needs angle brackets
    ("regbadct", What::BracketsMissing, 400),
    //= RFC 4475 3.1.2.14: spaces in an addr-spec
    ("badaspec", What::Address, 400),
    //= RFC 4475 3.1.2.15: a display name that needs quotes
    ("baddn", What::HeadNotEnded, 400),
    //= RFC 4475 3.1.2.16: an unknown version
    ("badvers", What::Version, 505),
    //= RFC 4475 3.1.2.17: CSeq names another method
    ("mismatch01", What::CSeqMethod, 400),
    //= RFC 4475 3.1.2.18: CSeq names another method than an unknown one
    ("mismatch02", What::UnknownMethod, 501),
    //= RFC 4475 3.3.1: From, To and Call-ID are missing
    ("insuf", What::FromMissing, 400),
    //= RFC 4475 3.3.2: a scheme that nobody knows
    ("unkscm", What::UriScheme, 416),
    //= RFC 4475 3.3.3: a scheme that is known, and not for this
    ("novelsc", What::UriScheme, 416),
    //= RFC 4475 3.3.8: several values where one may stand
    ("multi01", What::HeaderTwice, 400),
    //= RFC 4475 3.3.9: Content-Lengths that disagree
    ("mcl01", What::ContentLengthTwice, 400),
];

#[test]
fn bad_requests_are_refused_with_their_status() {
    let mut wrong = Vec::new();
    for &(name, what, status) in REFUSED {
        match datagram(name) {
            Ok(_) => wrong.push(format!("{name}: parsed, expected {what:?}")),
            Err(malformed) if malformed.fault.status() != status => {
                wrong.push(format!("{name}: {:?} ({}), expected {status}", malformed.fault, malformed.fault.status()));
            }
            Err(malformed) if malformed.fault.what != what => {
                wrong.push(format!("{name}: {:?}, expected {what:?}", malformed.fault));
            }
            Err(malformed) if malformed.partial.is_none() => wrong.push(format!("{name}: cannot be answered")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_refusal_goes_back_the_way_the_request_came() {
    for &(name, _, status) in REFUSED {
        let partial = datagram(name).unwrap_err().partial.unwrap();
        let octets = Response::to(&partial, status, "192.0.2.99:5060".parse().unwrap()).finish();
        let said = text(&octets);
        assert!(said.starts_with(&format!("SIP/2.0 {status} ")), "{name}: {said}");
        assert!(said.contains(r"\r\nVia: SIP/"), "{name}: {said}");
        assert!(said.ends_with(r"\r\nContent-Length: 0\r\n\r\n"), "{name}: {said}");
    }
}

//= RFC 4475 3.1.2.5: a response with overlarge values is dropped
//= RFC 4475 3.1.2.19: a response code above 699 is dropped
#[test]
fn bad_responses_have_nobody_to_answer() {
    for (name, what) in [("scalarlg", What::CSeq), ("bigcode", What::StatusCode)] {
        let malformed = datagram(name).unwrap_err();
        assert_eq!((malformed.fault.what, malformed.partial.is_none()), (what, true), "{name}");
    }
}

//= RFC 4475 3.1.2.4: overlarge expiry and Max-Forwards alone do not refuse a request
#[test]
fn scalars_too_large_count_as_default_or_absent() {
    let repaired = text(&octets("scalar02")).replace("36893488147419103232", "36893488");
    let octets = Bytes::from(repaired.replace(r"\r\n", "\r\n"));
    let message = Message::parse_datagram(octets, &Limits::default()).unwrap();
    assert_eq!((message.expires(), message.max_forwards()), (Some(3600), None));
}

//= RFC 4475 3.1.2.12: a Date that is not GMT is ignored
#[test]
fn baddate_the_date_is_not_read() {
    let message = valid("baddate");
    assert_eq!(date::parse(message.header(Name::Date).unwrap()), None);
}

/// The archive's `baddn` lacks its blank line; with it, the names are what is wrong.
#[test]
fn baddn_a_name_with_a_comma_needs_quotes() {
    let whole = [&octets("baddn")[..], b"\r\n"].concat();
    let malformed = Message::parse_datagram(Bytes::from(whole), &Limits::default()).unwrap_err();
    assert_eq!((malformed.fault.what, malformed.fault.status()), (What::DisplayName, 400));
}

/// The archive holds one message that no section describes. Its Request-Line has no version.
#[test]
fn test_dat_is_no_sip() {
    let malformed = datagram("test").unwrap_err();
    assert_eq!((malformed.fault.what, malformed.fault.status()), (What::StartLine, 400));
}

/// On a stream some of them are worse: where the next message begins is not known any more.
#[test]
fn framing_that_is_lost_ends_a_stream() {
    for name in ["ncl", "mcl01", "inv2543"] {
        let octets = octets(name);
        assert!(Cut::new(&Limits::default()).next(&octets).is_err(), "{name}");
    }
    // More octets may come: this one is waited for.
    assert_eq!(Cut::new(&Limits::default()).next(&octets("clerr")), Ok(Found::More));
}
