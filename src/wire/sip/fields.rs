//! Header values with a grammar of their own: read from octets, written back.
//!
//! Each is read when somebody asks; what is unreadable is `None`, and who asked knows what that means for it.

use super::address::NameAddr;
use super::message::Message;
use super::names::Name;
use crate::wire::params::Params;
use crate::wire::scan::{self, Class};
use crate::wire::uri::Scheme;

/// What an Expires means that cannot be read, in seconds (RFC 3261 20.19, RFC 4475 3.1.2.4; RFC 3903 and 3265 have the same default).
pub const EXPIRES_DEFAULT: u32 = 3600;

/// CSeq (RFC 3261 20.16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CSeq<'a> {
    /// The sequence number.
    pub number: u32,
    /// The method.
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// `1*DIGIT LWS Method`.
    pub fn parse(value: &'a [u8]) -> Option<CSeq<'a>> {
        let (digits, rest) = Class::DIGIT.run(value);
        let method = scan::trim_start(rest);
        let parted = method.len() < rest.len();
        let number = scan::decimal_u32(digits)?;
        (parted && scan::is_token(method)).then_some(CSeq { number, method })
    }
}

/// Retry-After in seconds; comment and parameters do not matter (RFC 3261 20.33). A number too large to hold is the largest.
pub fn retry_after(value: &[u8]) -> Option<u32> {
    let (digits, rest) = Class::DIGIT.run(value);
    let stands = matches!(scan::trim_start(rest).first(), None | Some(b'(' | b';'));
    (stands && !digits.is_empty()).then(|| scan::decimal_u32(digits).unwrap_or(u32::MAX))
}

/// Who refreshes a session (RFC 4028 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refresher {
    /// Who sent the INVITE.
    Uac,
    /// Who answered it.
    Uas,
}

/// Session-Expires (RFC 4028 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionExpires {
    /// The interval in seconds.
    pub seconds: u32,
    /// Who refreshes, when it says so.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// `delta-seconds *(;param)`.
    pub fn parse(value: &[u8]) -> Option<SessionExpires> {
        let (seconds, params) = seconds(value)?;
        let refresher = match params.get(b"refresher") {
            Some(who) if who.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
            Some(who) if who.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
            _ => None,
        };
        Some(SessionExpires { seconds, refresher })
    }

    /// Appends the value.
    pub fn write(&self, out: &mut Vec<u8>) {
        scan::put_decimal(out, u64::from(self.seconds));
        out.extend_from_slice(match self.refresher {
            Some(Refresher::Uac) => b";refresher=uac",
            Some(Refresher::Uas) => b";refresher=uas",
            None => b"",
        });
    }
}

/// Min-SE in seconds (RFC 4028 5).
pub fn min_se(value: &[u8]) -> Option<u32> {
    seconds(value).map(|(seconds, _)| seconds)
}

/// A number of seconds and the parameters behind it.
fn seconds(value: &[u8]) -> Option<(u32, Params<'_>)> {
    let (digits, rest) = Class::DIGIT.run(value);
    let params = Params::new(rest);
    params.check().ok()?;
    Some((scan::decimal_u32(digits)?, params))
}

/// Event (RFC 6665 8.2.1): the package and its parameters (`id` among them).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// `presence`, `message-summary`, `refer` ...: compare without case.
    pub package: &'a [u8],
    /// Parameters.
    pub params: Params<'a>,
}

impl<'a> Event<'a> {
    /// `event-type *(;param)`.
    pub fn parse(value: &'a [u8]) -> Option<Event<'a>> {
        let (package, params) = token_params(value)?;
        Some(Event { package, params })
    }

    /// The `id` parameter: tells subscriptions of one dialog apart.
    pub fn id(&self) -> Option<&'a [u8]> {
        self.params.get(b"id")
    }
}

/// Subscription-State (RFC 6665 8.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscriptionState<'a> {
    /// `active`, `pending`, `terminated` or another.
    pub state: &'a [u8],
    /// `reason`, `expires`, `retry-after`.
    pub params: Params<'a>,
}

impl<'a> SubscriptionState<'a> {
    /// `state *(;param)`.
    pub fn parse(value: &'a [u8]) -> Option<SubscriptionState<'a>> {
        let (state, params) = token_params(value)?;
        Some(SubscriptionState { state, params })
    }

    /// True when the subscription is over.
    pub fn is_terminated(&self) -> bool {
        self.state.eq_ignore_ascii_case(b"terminated")
    }

    /// Seconds left, when it says so.
    pub fn expires(&self) -> Option<u32> {
        scan::decimal_u32(self.params.get(b"expires")?)
    }
}

fn token_params(value: &[u8]) -> Option<(&[u8], Params<'_>)> {
    let (token, rest) = Class::TOKEN.run(value);
    let params = Params::new(rest);
    params.check().ok()?;
    (!token.is_empty()).then_some((token, params))
}

/// A media type (RFC 3261 20.15): of Content-Type, or one range of Accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaType<'a> {
    /// `text` of `text/plain`.
    pub kind: &'a [u8],
    /// `plain` of `text/plain`.
    pub subtype: &'a [u8],
    /// `charset`, `boundary` ...
    pub params: Params<'a>,
}

impl<'a> MediaType<'a> {
    /// `type/subtype *(;param)`, white space around the slash allowed.
    pub fn parse(value: &'a [u8]) -> Option<MediaType<'a>> {
        let (kind, rest) = Class::TOKEN.run(scan::trim_start(value));
        let rest = scan::trim_start(rest).strip_prefix(b"/")?;
        let (subtype, rest) = Class::TOKEN.run(scan::trim_start(rest));
        let params = Params::new(rest);
        params.check().ok()?;
        (!kind.is_empty() && !subtype.is_empty()).then_some(MediaType { kind, subtype, params })
    }

    /// True when it is `name`, a `type/subtype` without parameters; case does not count.
    pub fn is(&self, name: &[u8]) -> bool {
        scan::split_once(name, b'/').is_some_and(|(kind, subtype)| {
            self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
        })
    }

    /// True when this range of an Accept header takes in `name`: `*/*`, `text/*`, or the same.
    pub fn accepts(&self, name: &[u8]) -> bool {
        scan::split_once(name, b'/').is_some_and(|(kind, subtype)| {
            (self.kind == b"*" || self.kind.eq_ignore_ascii_case(kind))
                && (self.subtype == b"*" || self.subtype.eq_ignore_ascii_case(subtype))
        })
    }
}

/// True when the message's Accept takes in `name`. Without Accept, whatever the method's default is counts: `default`.
pub fn accepts(message: &Message, name: &[u8], default: bool) -> bool {
    let mut any = false;
    let taken = message.values(Name::Accept).any(|range| {
        any = true;
        MediaType::parse(range).is_some_and(|range| {
            let refused = range.params.get(b"q").is_some_and(|q| q.iter().all(|digit| matches!(digit, b'0' | b'.')));
            range.accepts(name) && !refused
        })
    });
    if any || message.header(Name::Accept).is_some() { taken } else { default }
}

/// The option tags, event packages or methods of a list header (Require, Supported, Allow, Allow-Events ...), in order.
pub fn tokens(message: &Message, name: Name) -> impl Iterator<Item = &[u8]> {
    message.values(name)
}

/// True when a list header names `token`; case does not count.
pub fn has_token(message: &Message, name: Name, token: &[u8]) -> bool {
    tokens(message, name).any(|value| value.eq_ignore_ascii_case(token))
}

/// What Refer-Sub says (RFC 4488 4): `true` or `false`, parameters passed over.
pub fn refer_sub(value: &[u8]) -> Option<bool> {
    match token_params(value)?.0 {
        said if said.eq_ignore_ascii_case(b"true") => Some(true),
        said if said.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// True when the sender asked for its identity to be kept private (RFC 3325 9.3, `Privacy: id`; values are parted by `;`).
pub fn privacy_has_id(message: &Message) -> bool {
    message.headers(Name::Privacy).any(|value| {
        value.split(|&octet| octet == b';' || octet == b',').any(|value| scan::trim(value).eq_ignore_ascii_case(b"id"))
    })
}

/// Who the network says the sender is (RFC 3325 9.1): URIs without brackets. Whether to believe it is policy.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Asserted<'a> {
    /// The `sip:` or `sips:` identity.
    pub sip: Option<&'a [u8]>,
    /// The `tel:` identity.
    pub tel: Option<&'a [u8]>,
}

/// The identities in P-Asserted-Identity. Of each kind the first counts; values that are no address are passed over.
pub fn asserted_identities(message: &Message) -> Asserted<'_> {
    identities(message, Name::PAssertedIdentity)
}

/// The same of another header with the same grammar (P-Preferred-Identity, P-Associated-URI).
pub fn identities(message: &Message, name: Name) -> Asserted<'_> {
    identities_of(message.values(name))
}

/// The same of values that were split already.
pub fn identities_of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Asserted<'a> {
    let mut asserted = Asserted::default();
    for value in values {
        let Ok(address) = NameAddr::parse(value) else { continue };
        let place = match address.uri().map(|uri| uri.scheme) {
            Ok(Scheme::Sip | Scheme::Sips) => &mut asserted.sip,
            Ok(Scheme::Tel) => &mut asserted.tel,
            _ => continue,
        };
        place.get_or_insert(address.uri);
    }
    asserted
}

/// Appends a Warning value: `code SP agent SP quoted-text` (RFC 3261 20.43). Quotes and backslashes in the text are escaped,
/// control characters become spaces; the code is held to its three digits.
pub fn warning(out: &mut Vec<u8>, code: u16, host: &[u8], text: &[u8]) {
    scan::put_decimal(out, u64::from(code.clamp(100, 999)));
    out.push(b' ');
    let before = out.len();
    out.extend(host.iter().filter(|&&octet| Class::TOKEN.has(octet) || matches!(octet, b'[' | b']' | b':')));
    if out.len() == before {
        // warn-agent is a host or a pseudonym.
        out.extend_from_slice(b"deferd");
    }
    out.push(b' ');
    put_quoted(out, text);
}

/// Appends a quoted string.
pub fn put_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &octet in text {
        match octet {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
            0..=0x1f | 0x7f => out.push(b' '),
            _ => out.push(octet),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;

    fn message(lines: &str) -> Message {
        let text = format!(
            "MESSAGE sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\n\
             CSeq: 1 MESSAGE\r\n{lines}l: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text), &Limits::default()).unwrap()
    }

    #[test]
    fn refer_sub_is_a_boolean_with_parameters() {
        let table: &[(&[u8], Option<bool>)] =
            &[(b"true", Some(true)), (b"FALSE;x=y", Some(false)), (b"no", None), (b"", None), (b"true x", None)];
        for (value, said) in table {
            assert_eq!(refer_sub(value), *said, "{}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn sequence_numbers_and_intervals() {
        assert_eq!(CSeq::parse(b"0009\r\n  INVITE"), Some(CSeq { number: 9, method: b"INVITE" }));
        for bad in [&b"36893488147419103232 REGISTER"[..], b"INVITE", b"1", b"1 ", b"1 A B", b"-1 A"] {
            assert_eq!(CSeq::parse(bad), None);
        }
        assert_eq!(retry_after(b"18000;duration=3600"), Some(18_000));
        assert_eq!(retry_after(b"120 (I'm in a meeting)"), Some(120));
        assert_eq!(retry_after(b"949302838503028349304023988"), Some(u32::MAX));
        assert_eq!((retry_after(b"soon"), retry_after(b"5x")), (None, None));
        let session = SessionExpires::parse(b"1800;refresher=UAC").unwrap();
        assert_eq!(session, SessionExpires { seconds: 1800, refresher: Some(Refresher::Uac) });
        let mut out = Vec::new();
        session.write(&mut out);
        assert_eq!(out, b"1800;refresher=uac");
        assert_eq!(SessionExpires::parse(b"90").unwrap().refresher, None);
        assert_eq!(SessionExpires::parse(b"x"), None);
        assert_eq!(min_se(b"90;lr"), Some(90));
    }

    #[test]
    fn events_and_their_state() {
        let event = Event::parse(b"refer;id=93809824").unwrap();
        assert_eq!((event.package, event.id()), (&b"refer"[..], Some(&b"93809824"[..])));
        assert_eq!(Event::parse(b""), None);
        let state = SubscriptionState::parse(b"terminated;reason=timeout").unwrap();
        assert!(state.is_terminated() && state.expires().is_none());
        assert_eq!(SubscriptionState::parse(b"active;expires=3000").unwrap().expires(), Some(3000));
    }

    #[test]
    fn media_types() {
        let media = MediaType::parse(b"multipart/mixed;boundary=\"a b\"").unwrap();
        assert!(media.is(b"Multipart/Mixed") && !media.is(b"multipart/related"));
        assert_eq!(media.params.get(b"boundary"), Some(&b"\"a b\""[..]));
        assert!(MediaType::parse(b"text / plain").unwrap().is(b"text/plain"));
        assert!(MediaType::parse(b"text").is_none());
        let accept = message("Accept: text/*;q=0.3, application/sdp;q=0\r\nAccept: message/cpim\r\n");
        assert!(accepts(&accept, b"text/plain", false) && accepts(&accept, b"message/cpim", false));
        assert!(!accepts(&accept, b"application/sdp", true));
        assert!(accepts(&message(""), b"application/sdp", true));
        assert!(!accepts(&message("Accept:\r\n"), b"application/sdp", true));
    }

    #[test]
    fn identities_are_told_apart() {
        let both = message("P-Asserted-Identity: \"A\" <sip:a@h;x>, <tel:+15141234567>\r\n");
        assert_eq!(asserted_identities(&both), Asserted { sip: Some(b"sip:a@h;x"), tel: Some(b"tel:+15141234567") });
        let apart =
            message("P-Asserted-Identity: tel:+1\r\nP-Asserted-Identity: <sips:a@h>\r\nPrivacy: header; id\r\n");
        assert_eq!(asserted_identities(&apart), Asserted { sip: Some(b"sips:a@h"), tel: Some(b"tel:+1") });
        assert!(privacy_has_id(&apart) && !privacy_has_id(&both));
        let odd = message("P-Asserted-Identity: <http://x>, nonsense, <sip:first@h>, <sip:second@h>\r\n");
        assert_eq!(asserted_identities(&odd), Asserted { sip: Some(b"sip:first@h"), tel: None });
    }

    #[test]
    fn lists_of_tokens() {
        let message = message("Require: a, b\r\nk: Timer\r\nRequire: c\r\n");
        assert_eq!(tokens(&message, Name::Require).collect::<Vec<_>>(), [&b"a"[..], b"b", b"c"]);
        assert!(has_token(&message, Name::Supported, b"timer") && !has_token(&message, Name::Supported, b"100rel"));
    }

    #[test]
    fn a_warning_holds_its_text_in_quotes() {
        let mut out = Vec::new();
        warning(&mut out, 399, b"dmf.example.com", b"say \"no\"\r\nEvil: \\");
        assert_eq!(out, b"399 dmf.example.com \"say \\\"no\\\"  Evil: \\\\\"");
        out.clear();
        warning(&mut out, 9999, b"\r\n", b"");
        assert_eq!(out, b"999 deferd \"\"");
    }
}
