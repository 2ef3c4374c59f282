//! Dialogs (RFC 3261 12): what two user agents remember of each other between requests. Knows how a request inside one is
//! addressed and in which order the peer's may come; does not know what the dialog is for.

mod kept;

use crate::wire::sip::{Message, Method, Name, NameAddr, Request};
use crate::wire::uri::{Scheme, Uri};

/// A status code with which a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Status(pub u16);

/// Why no dialog can be made of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// From cannot be read.
    From,
    /// To cannot be read.
    To,
    /// A Record-Route value cannot be read.
    RecordRoute,
    /// There is no Contact with a SIP or SIPS URI.
    Contact,
}

impl Unusable {
    /// The answer to a request that has it.
    pub fn status(self) -> Status {
        Status(400)
    }
}

/// One side's view of a dialog. It is in the early state as long as its owner has seen no 2xx: nothing here depends on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dialog {
    call_id: Box<[u8]>,
    local_tag: Box<[u8]>,
    /// Empty: the peer gave none (RFC 2543).
    remote_tag: Box<[u8]>,
    /// Of our last request; `None` before the first.
    local_seq: Option<u32>,
    /// Of the peer's last request; `None` before the first.
    remote_seq: Option<u32>,
    local_uri: Box<[u8]>,
    remote_uri: Box<[u8]>,
    remote_target: Box<[u8]>,
    /// Route values as they will be written, nearest first.
    routes: Box<[Box<[u8]>]>,
    /// The first of them is a strict router (RFC 2543).
    strict: bool,
    secure: bool,
}

impl Dialog {
    /// The dialog that `response` (101 to 299) to our `request` establishes.
    ///
    /// A response without a usable Contact leaves the target where the request went: the least that can be done is to say BYE.
    pub fn uac(request: &Message, response: &Message) -> Result<Dialog, Unusable> {
        //= RFC 3261 12.1.2: Record-Route header field from the response, taken in reverse order
        let mut routes = routes(response)?;
        routes.reverse();
        let target = contact(response).unwrap_or(request.request_uri());
        Ok(Dialog {
            call_id: request.call_id().into(),
            local_tag: request.from_tag().unwrap_or_default().into(),
            //= RFC 3261 12.1.2: without a tag in the To field the tag is considered to have a value of null
            remote_tag: response.to_tag().unwrap_or_default().into(),
            //= RFC 3261 12.1.2: the remote sequence number MUST be empty
            local_seq: Some(request.cseq().0),
            remote_seq: None,
            local_uri: uri_of(request.from(), Unusable::From)?.into(),
            remote_uri: uri_of(request.to(), Unusable::To)?.into(),
            remote_target: target.into(),
            strict: is_strict(&routes),
            routes: routes.into(),
            secure: is_sips(request.request_uri()),
        })
    }

    /// The dialog that our response with `local_tag` to the peer's `request` establishes.
    pub fn uas(request: &Message, local_tag: &[u8]) -> Result<Dialog, Unusable> {
        //= RFC 3261 12.1.1: Record-Route header field from the request, taken in order
        let routes = routes(request)?;
        Ok(Dialog {
            call_id: request.call_id().into(),
            local_tag: local_tag.into(),
            remote_tag: request.from_tag().unwrap_or_default().into(),
            //= RFC 3261 12.1.1: the local sequence number MUST be empty
            local_seq: None,
            remote_seq: Some(request.cseq().0),
            local_uri: uri_of(request.to(), Unusable::To)?.into(),
            remote_uri: uri_of(request.from(), Unusable::From)?.into(),
            remote_target: contact(request).ok_or(Unusable::Contact)?.into(),
            strict: is_strict(&routes),
            routes: routes.into(),
            secure: is_sips(request.request_uri()),
        })
    }

    /// It was early until now: the numbers of what was said then are used up.
    ///
    //= RFC 3261 12.2.1.1: strictly monotonically increasing CSeq sequence numbers, in the early dialog and after it
    pub fn follows(&mut self, early: &Dialog) {
        self.local_seq = self.local_seq.max(early.local_seq);
        self.remote_seq = self.remote_seq.max(early.remote_seq);
    }

    /// Leaves out numbers of ours: others may have been used since this copy was made, or was written down.
    ///
    //= RFC 3261 12.2.2: a request may be higher than the remote sequence number by more than one: not an error condition
    pub fn leap(&mut self, numbers: u32) {
        self.local_seq = Some(self.local_seq.unwrap_or(0).saturating_add(numbers));
    }

    /// Call-ID.
    pub fn call_id(&self) -> &[u8] {
        &self.call_id
    }

    /// Our tag.
    pub fn local_tag(&self) -> &[u8] {
        &self.local_tag
    }

    /// The peer's tag; empty when it has none.
    pub fn remote_tag(&self) -> &[u8] {
        &self.remote_tag
    }

    /// CSeq number of our last request.
    pub fn local_seq(&self) -> Option<u32> {
        self.local_seq
    }

    /// CSeq number of the peer's last request.
    pub fn remote_seq(&self) -> Option<u32> {
        self.remote_seq
    }

    /// Who we are in it.
    pub fn local_uri(&self) -> &[u8] {
        &self.local_uri
    }

    /// Who the peer is in it.
    pub fn remote_uri(&self) -> &[u8] {
        &self.remote_uri
    }

    /// The peer's Contact.
    pub fn remote_target(&self) -> &[u8] {
        &self.remote_target
    }

    /// The Route values, nearest first.
    pub fn routes(&self) -> impl Iterator<Item = &[u8]> {
        self.routes.iter().map(|route| &**route)
    }

    /// Its requests must not leave SIPS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The URI that says where a request of ours goes first (RFC 3261 8.1.2).
    pub fn next_hop(&self) -> &[u8] {
        self.routes.first().and_then(|route| NameAddr::parse(route).ok()).map_or(&self.remote_target, |route| route.uri)
    }

    /// The next request of ours, with Request-URI, Max-Forwards, Route, From, To, Call-ID and CSeq. The caller adds Via, and
    /// Contact where the method refreshes the target.
    pub fn request(&mut self, method: Method) -> Request {
        //= RFC 3261 12.2.1.1: strictly monotonically increasing and contiguous CSeq sequence numbers
        let seq = self.local_seq.map_or(1, |seq| seq.saturating_add(1));
        self.local_seq = Some(seq);
        self.prefilled(method, seq)
    }

    /// The ACK for a 2xx to our INVITE number `cseq`. The caller adds Via.
    ///
    //= RFC 3261 13.2.2.4: the sequence number of the CSeq MUST be the same as the INVITE being acknowledged
    pub fn ack(&self, cseq: u32) -> Request {
        self.prefilled(Method::Ack, cseq)
    }

    /// A request of the peer's inside this dialog: in order, and with the target it brings when it
    /// refreshes it. Where the request may still be refused, use the two halves: a refused request leaves the
    /// target alone.
    pub fn accept(&mut self, request: &Message) -> Result<(), Status> {
        self.in_order(request)?;
        if refreshes_target(request.method()) {
            self.refresh_target(request);
        }
        Ok(())
    }

    /// The CSeq half of [`Dialog::accept`].
    pub fn in_order(&mut self, request: &Message) -> Result<(), Status> {
        let (seq, method) = request.cseq();
        if matches!(method, Method::Ack | Method::Cancel) {
            return Ok(());
        }
        //= RFC 3261 12.2.2: lower than the remote sequence number: out of order, 500
        // The same number again is not a retransmission, those end in the transaction: it came by a second way.
        if self.remote_seq.is_some_and(|last| seq <= last) {
            return Err(Status(500));
        }
        self.remote_seq = Some(seq);
        Ok(())
    }

    /// Takes over the Contact of a request that refreshes the target and was accepted, or of a 2xx to ours.
    ///
    //= RFC 3261 12.2.2: MUST replace the remote target URI with the URI from the Contact header field, if present
    pub fn refresh_target(&mut self, message: &Message) {
        if let Some(target) = contact(message) {
            self.remote_target = target.into();
        }
    }

    /// True when the message belongs to this dialog: a request of the peer's, or a response to one of ours.
    pub fn matches(&self, message: &Message) -> bool {
        let (from, to) = (message.from_tag().unwrap_or_default(), message.to_tag().unwrap_or_default());
        let (local, remote) = if message.is_request() { (to, from) } else { (from, to) };
        *message.call_id() == *self.call_id && *local == *self.local_tag && *remote == *self.remote_tag
    }

    fn prefilled(&self, method: Method, seq: u32) -> Request {
        let target = [b"<", &*self.remote_target, b">"].concat();
        let first = self.routes.first().filter(|_| self.strict);
        //= RFC 3261 12.2.1.1: if the first URI has no lr, place it into the Request-URI, the remainder into Route, and the
        // remote target into the Route header field as the last value
        let (uri, skip, last) = match first {
            Some(first) => (request_uri_of(first), 1, Some(&*target)),
            None => (self.remote_target.to_vec(), 0, None),
        };
        let mut request = Request::new(method, &uri).number(Name::MaxForwards, 70);
        for route in self.routes().skip(skip).chain(last) {
            request = request.line(Name::Route, route);
        }
        request
            .line(Name::From, &party(&self.local_uri, &self.local_tag))
            .line(Name::To, &party(&self.remote_uri, &self.remote_tag))
            .line(Name::CallId, &self.call_id)
            .cseq(seq, method)
    }
}

/// True for the methods whose Contact moves the dialog's target (RFC 3261 12.2, RFC 3311 5.1, RFC 6665 4).
pub fn refreshes_target(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Update | Method::Subscribe | Method::Notify)
}

//= RFC 3261 12.2.1.1: if the value of the remote or local tags is null, the tag parameter MUST be omitted
fn party(uri: &[u8], tag: &[u8]) -> Vec<u8> {
    let tag: &[&[u8]] = if tag.is_empty() { &[] } else { &[b";tag=", tag] };
    [&[b"<", uri, b">"], tag].concat().concat()
}

fn uri_of(value: &[u8], unusable: Unusable) -> Result<&[u8], Unusable> {
    NameAddr::parse(value).map(|address| address.uri).map_err(|_| unusable)
}

/// The first Contact, when requests can be sent to it.
fn contact(message: &Message) -> Option<&[u8]> {
    let uri = NameAddr::parse(message.values(Name::Contact).next()?).ok()?.uri;
    //= RFC 3261 12.1.1: the URI provided in the Contact header field MUST be a SIP or SIPS URI
    let scheme = Uri::parse(uri).ok()?.scheme;
    matches!(scheme, Scheme::Sip | Scheme::Sips).then_some(uri)
}

fn is_sips(uri: &[u8]) -> bool {
    Uri::parse(uri).is_ok_and(|uri| uri.scheme == Scheme::Sips)
}

fn routes(message: &Message) -> Result<Vec<Box<[u8]>>, Unusable> {
    let readable = |value: &[u8]| {
        NameAddr::parse(value).is_ok_and(|route| Uri::parse(route.uri).is_ok()).then(|| Box::from(value))
    };
    message.values(Name::RecordRoute).map(|value| readable(value).ok_or(Unusable::RecordRoute)).collect()
}

fn is_strict(routes: &[Box<[u8]>]) -> bool {
    let Some(first) = routes.first().and_then(|route| NameAddr::parse(route).ok()) else { return false };
    Uri::parse(first.uri).is_ok_and(|uri| !uri.params.has(b"lr"))
}

/// The URI of a route, without what a Request-URI must not have: headers and the method parameter.
fn request_uri_of(route: &[u8]) -> Vec<u8> {
    let Ok(address) = NameAddr::parse(route) else { return route.to_vec() };
    let uri = address.uri.split(|&octet| octet == b'?').next().unwrap_or_default();
    let mut out = Vec::with_capacity(uri.len());
    for (place, part) in uri.split(|&octet| octet == b';').enumerate() {
        let is_method = part.get(..7).is_some_and(|name| name.eq_ignore_ascii_case(b"method="));
        if place == 0 {
            out.extend_from_slice(part);
        } else if !is_method {
            out.push(b';');
            out.extend_from_slice(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;

    fn read(text: &str) -> Message {
        let text = text.replace('\n', "\r\n");
        Message::parse_datagram(Bytes::from(text), &Limits::default()).unwrap_or_else(|bad| panic!("{:?}", bad.fault))
    }

    fn invite(more: &str) -> Message {
        read(&format!(
            "INVITE sip:bob@example.com SIP/2.0\nVia: SIP/2.0/UDP dmf.example.com;branch=z9hG4bKq\n\
             From: \"Deferred\" <sip:Deferred@example.com>;tag=d1\nTo: sip:bob@example.com\nCall-ID: c1\n\
             CSeq: 7 INVITE\n{more}Content-Length: 0\n\n"
        ))
    }

    fn ok(more: &str) -> Message {
        read(&format!(
            "SIP/2.0 200 OK\nVia: SIP/2.0/UDP dmf.example.com;branch=z9hG4bKq\n\
             From: \"Deferred\" <sip:Deferred@example.com>;tag=d1\nTo: sip:bob@example.com;tag=b1\nCall-ID: c1\n\
             CSeq: 7 INVITE\n{more}Content-Length: 0\n\n"
        ))
    }

    fn inside(method: &str, seq: u32, more: &str) -> Message {
        read(&format!(
            "{method} sip:push@dmf.example.com SIP/2.0\nVia: SIP/2.0/UDP p1.example.com;branch=z9hG4bKr\n\
             From: <sip:bob@example.com>;tag=b1\nTo: <sip:Deferred@example.com>;tag=d1\nCall-ID: c1\n\
             CSeq: {seq} {method}\n{more}Content-Length: 0\n\n"
        ))
    }

    fn written(request: Request) -> Message {
        let octets = request.line(Name::Via, b"SIP/2.0/UDP dmf.example.com;branch=z9hG4bKs").finish();
        Message::parse_datagram(octets, &Limits::default()).unwrap_or_else(|bad| panic!("{:?}", bad.fault))
    }

    fn texts<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    fn uac(more: &str) -> Dialog {
        Dialog::uac(&invite(""), &ok(more)).unwrap_or_else(|bad| panic!("{bad:?}"))
    }

    //= RFC 3261 12.1.2: the routes from the response, in reverse order
    #[test]
    fn a_callers_dialog_takes_the_routes_in_reverse() {
        let mut dialog = uac("Contact: \"Bob\" <sip:bob@192.0.2.7;transport=tcp>;+g.oma.sip-im\n\
             Record-Route: <sip:p2;lr>, <sip:p1;lr>;x=\"a,b\"\nRecord-Route: <sip:p0;lr>\n");
        assert_eq!(dialog.next_hop(), b"sip:p0;lr");
        let bye = written(dialog.request(Method::Bye));
        assert_eq!((bye.method(), bye.cseq()), (Method::Bye, (8, Method::Bye)));
        assert_eq!(bye.request_uri(), b"sip:bob@192.0.2.7;transport=tcp");
        assert_eq!(texts(bye.values(Name::Route)), ["<sip:p0;lr>", "<sip:p1;lr>;x=\"a,b\"", "<sip:p2;lr>"]);
        assert_eq!(bye.from(), b"<sip:Deferred@example.com>;tag=d1");
        assert_eq!(bye.to(), b"<sip:bob@example.com>;tag=b1");
        assert_eq!((bye.call_id(), bye.max_forwards()), (&b"c1"[..], Some(70)));
        assert_eq!(written(dialog.request(Method::Update)).cseq(), (9, Method::Update));
        assert_eq!(written(dialog.ack(7)).cseq(), (7, Method::Ack));
        assert_eq!((dialog.local_seq(), dialog.remote_seq(), dialog.is_secure()), (Some(9), None, false));
    }

    #[test]
    fn a_strict_router_gets_the_request_uri() {
        // The example of RFC 3261 12.2.1.1, and what a Request-URI must not have.
        let mut dialog = uac("Contact: <sip:user@remoteua>\n\
             Record-Route: <sip:proxy4>, <sip:proxy3;lr>, <sip:proxy2>, <sip:proxy1;method=BYE;x=1?Subject=a>\n");
        let bye = written(dialog.request(Method::Bye));
        assert_eq!(bye.request_uri(), b"sip:proxy1;x=1");
        let routes = ["<sip:proxy2>", "<sip:proxy3;lr>", "<sip:proxy4>", "<sip:user@remoteua>"];
        assert_eq!(texts(bye.values(Name::Route)), routes);
    }

    #[test]
    fn without_routes_requests_go_to_the_contact() {
        let mut dialog = uac("Contact: <sip:bob@192.0.2.7>\n");
        let bye = written(dialog.request(Method::Bye));
        assert_eq!((bye.request_uri(), bye.header(Name::Route)), (&b"sip:bob@192.0.2.7"[..], None));
        assert_eq!(dialog.next_hop(), b"sip:bob@192.0.2.7");
    }

    #[test]
    fn a_2xx_without_a_usable_contact_can_still_be_acknowledged_and_ended() {
        for more in ["", "Contact: <tel:+15551234>\n", "Contact: *\n"] {
            assert_eq!(uac(more).remote_target(), b"sip:bob@example.com");
        }
    }

    //= RFC 3261 12.1.1: the routes from the request, in order; the local sequence number is empty
    #[test]
    fn a_called_sides_dialog_takes_the_routes_in_order_and_counts_from_one() {
        let request = invite("Contact: <sip:alice@pc>\nRecord-Route: <sip:p1;lr>, <sip:p2;lr>\n");
        let Ok(mut dialog) = Dialog::uas(&request, b"us1") else { panic!("a dialog") };
        assert!(dialog.routes().eq([&b"<sip:p1;lr>"[..], b"<sip:p2;lr>"]));
        assert_eq!((dialog.local_tag(), dialog.remote_tag()), (&b"us1"[..], &b"d1"[..]));
        assert_eq!(
            (dialog.local_uri(), dialog.remote_uri()),
            (&b"sip:bob@example.com"[..], &b"sip:Deferred@example.com"[..])
        );
        assert_eq!((dialog.local_seq(), dialog.remote_seq()), (None, Some(7)));
        assert_eq!(written(dialog.request(Method::Bye)).cseq().0, 1);
        assert_eq!(Dialog::uas(&invite(""), b"us1"), Err(Unusable::Contact));
        assert_eq!(
            Dialog::uas(&invite("Contact: <sip:a@pc>\nRecord-Route: <p1>\n"), b"us1"),
            Err(Unusable::RecordRoute)
        );
        assert_eq!(Unusable::Contact.status(), Status(400));
    }

    //= RFC 3261 12.2.2: lower than the remote sequence number: out of order, 500
    #[test]
    fn requests_out_of_order_are_refused_and_change_nothing() {
        let mut dialog = uac("Contact: <sip:bob@192.0.2.7>\n");
        assert_eq!(dialog.accept(&inside("UPDATE", 5, "Contact: <sip:bob@new>\n")), Ok(()));
        assert_eq!(dialog.remote_target(), b"sip:bob@new");
        for seq in [4, 5] {
            assert_eq!(dialog.accept(&inside("UPDATE", seq, "Contact: <sip:bob@late>\n")), Err(Status(500)));
        }
        assert_eq!(dialog.accept(&inside("ACK", 5, "Contact: <sip:bob@ack>\n")), Ok(()));
        assert_eq!(dialog.accept(&inside("BYE", 9, "Contact: <sip:bob@bye>\n")), Ok(()));
        assert_eq!((dialog.remote_target(), dialog.remote_seq()), (&b"sip:bob@new"[..], Some(9)));
    }

    #[test]
    fn a_dialog_knows_its_own() {
        let dialog = uac("Contact: <sip:bob@192.0.2.7>\n");
        assert!(dialog.matches(&inside("BYE", 1, "")));
        assert!(dialog.matches(&ok("")));
        let bye = String::from_utf8_lossy(inside("BYE", 1, "").octets()).replace("\r\n", "\n");
        for (old, new) in [("tag=b1", "tag=b2"), ("tag=d1", "tag=B1"), ("Call-ID: c1", "Call-ID: c2"), (";tag=b1", "")]
        {
            assert!(!dialog.matches(&read(&bye.replace(old, new))), "{new}");
        }
    }

    #[test]
    fn a_peer_without_a_tag_is_addressed_without_one() {
        let response = String::from_utf8_lossy(ok("").octets()).replace("\r\n", "\n").replace(";tag=b1", "");
        let Ok(mut dialog) = Dialog::uac(&invite(""), &read(&response)) else { panic!("a dialog") };
        assert_eq!(written(dialog.request(Method::Bye)).to(), b"<sip:bob@example.com>");
        assert_eq!(written(dialog.request(Method::Bye)).to_tag(), None);
    }
}
