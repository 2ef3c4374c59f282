//! The responses that every use case gives, and the checks that come before every decision.

use super::cx::Cx;
use super::policy::Policy;
use crate::wire::sip::fields;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::sip::write::{self, Response};
use bytes::Bytes;
use std::net::SocketAddr;

/// A queue was full: it drains within a commit or two, but many ask at once.
pub const OVERLOAD_RETRY_AFTER_S: u32 = 2;

/// The disk is full or broken: an operator has to come.
pub const STORAGE_RETRY_AFTER_S: u32 = 60;

/// All that we understand, inside a dialog or out of it.
pub const ALLOW: &[u8] = b"INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, REFER, SUBSCRIBE, REGISTER, MESSAGE, PUBLISH";

/// What is taken at every address but `Delete@`, all of them together.
pub const ALLOW_BUT_REFER: &[u8] = b"INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, SUBSCRIBE, REGISTER, MESSAGE, PUBLISH";

/// What we understand inside the dialog of a session.
pub const ALLOW_WITHIN: &[u8] = b"INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, REFER";

/// The same where large messages come: their sender deletes nothing.
pub const ALLOW_WITHIN_LARGE: &[u8] = b"INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE";

/// What we understand inside the dialog of a subscription.
pub const ALLOW_WITHIN_SUBSCRIPTION: &[u8] = b"SUBSCRIBE, OPTIONS";

/// Bodies we read, whatever the request that carries them.
const ACCEPT: &[u8] = b"application/sdp, multipart/mixed, application/resource-lists+xml, application/pidf+xml, \
    application/poc-settings+xml, message/cpim";

/// Extensions we support, as Supported says them.
pub const SUPPORTED: &[u8] = b"timer, recipient-list-invite, norefersub, multiple-refer";

/// Of those, what may be required of a session that is up.
pub const SESSION_OPTIONS: &[&[u8]] = &[b"timer"];

/// The same extensions one by one: what somebody may ask of us without saying for what.
pub const ALL_OPTIONS: &[&[u8]] = &[b"timer", b"recipient-list-invite", b"norefersub", b"multiple-refer"];

/// Why a request is refused: a status and the header lines it obliges to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The final status.
    pub status: u16,
    /// Header lines.
    pub lines: Vec<(Name, Vec<u8>)>,
    /// A body and its Content-Type.
    pub body: Option<(&'static [u8], Vec<u8>)>,
}

impl Refusal {
    /// A bare status.
    pub fn of(status: u16) -> Refusal {
        Refusal { status, lines: Vec::new(), body: None }
    }

    /// With a header line.
    pub fn with(mut self, name: Name, value: impl Into<Vec<u8>>) -> Refusal {
        self.lines.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn with_body(mut self, content_type: &'static [u8], body: Vec<u8>) -> Refusal {
        self.body = Some((content_type, body));
        self
    }

    /// With Retry-After.
    pub fn retry_after(self, seconds: u32) -> Refusal {
        self.with(Name::RetryAfter, seconds.to_string())
    }

    /// As octets.
    pub fn response(&self, cx: &mut Cx, request: &Message, peer: SocketAddr) -> Bytes {
        let mut response = begin(cx, request, self.status, peer);
        for (name, value) in &self.lines {
            response = response.line(*name, value);
        }
        if let Some((content_type, body)) = &self.body {
            response = response.body(content_type, body);
        }
        response.finish()
    }
}

/// A response with To tag and Server, to be completed.
pub fn begin<'a>(cx: &mut Cx, request: &'a Message, status: u16, peer: SocketAddr) -> Response<'a> {
    let tag = cx.tag();
    //= 12.2.1-2: shall include a Server header to indicate the IM release version
    Response::to(request, status, peer).to_tag(&tag).line(Name::Server, &cx.product)
}

/// A response with nothing but what every response has.
pub fn plain(cx: &mut Cx, request: &Message, status: u16, peer: SocketAddr) -> Bytes {
    begin(cx, request, status, peer).finish()
}

/// What we can do: the 200 to an OPTIONS, inside a dialog or out of it.
///
//= RFC 3261 11.2: Allow, Accept, Accept-Encoding, Accept-Language, and Supported SHOULD be present in a 200 to OPTIONS
//= RFC 3261 11.2: an OPTIONS received within a dialog generates a 200 that is identical to one constructed outside a dialog
pub fn capabilities<'a>(cx: &mut Cx, request: &'a Message, peer: SocketAddr) -> Response<'a> {
    let events = allow_events(&cx.policy);
    begin(cx, request, 200, peer)
        .line(Name::Allow, ALLOW)
        .line(Name::Accept, ACCEPT)
        .line(Name::AcceptEncoding, b"identity")
        .line(Name::AcceptLanguage, b"en")
        .line(Name::Supported, SUPPORTED)
        .line(Name::AllowEvents, events.as_bytes())
}

/// 503: what was to be kept could not be.
pub fn storage_failed(cx: &mut Cx, request: &Message, peer: SocketAddr) -> Bytes {
    Refusal::of(503).retry_after(STORAGE_RETRY_AFTER_S).response(cx, request, peer)
}

/// The same 503 made of an answer that was ready: almost no commit fails, so nobody keeps a request for it.
pub fn storage_failed_after_all(ready: &[u8]) -> Bytes {
    write::restated(ready, 503, Name::RetryAfter, STORAGE_RETRY_AFTER_S.to_string().as_bytes())
}

/// The option tags of Require that are not in `known`, as the value of Unsupported; empty when there is none.
pub fn unsupported(request: &Message, known: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for tag in request.values(Name::Require) {
        if tag.is_empty() || known.iter().any(|known| known.eq_ignore_ascii_case(tag)) {
            continue;
        }
        if !out.is_empty() {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(tag);
    }
    out
}

/// The event packages we know, as Allow-Events says them: what may be published, and what may be subscribed to.
pub fn allow_events(policy: &Policy) -> String {
    let published = ["presence"].into_iter().chain(policy.settings_events.iter().map(String::as_str));
    published.chain(["message-summary", "refer"]).collect::<Vec<_>>().join(", ")
}

/// `type/subtype` of a Content-Type, or the package of an Event, without parameters.
pub fn media_type(value: &[u8]) -> &[u8] {
    value.split(|&octet| octet == b';').next().unwrap_or_default().trim_ascii()
}

/// `Warning: 399 host "text"`.
pub fn warning(cx: &Cx, text: &str) -> Vec<u8> {
    coded_warning(cx, 399, text)
}

/// The same with a code of RFC 3261 20.43.
pub fn coded_warning(cx: &Cx, code: u16, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    fields::warning(&mut out, code, cx.policy.hostname.as_bytes(), text.as_bytes());
    out
}
