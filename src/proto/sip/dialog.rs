//! Dialogs (RFC 3261 12): what two user agents remember of each other between requests. Knows how a request inside one is
//! addressed and in which order the peer's may come; does not know what the dialog is for.

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

    /// A request of the peer's inside this dialog: in order, and with the target it brings when it [refreshes](
    /// Dialog::refresh_target) it. Where the request may still be refused, use the two halves: a refused request leaves the
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
        //= remote target into the Route header field as the last value
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
