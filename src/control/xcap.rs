//! The built-in XDMS: the users' deferred-list documents over XCAP (RFC 4825; 12.1.2), read only.
//!
//! Knows paths, methods, who may read, and conditions. What a document says is made by the user's home core when it is asked for;
//! nothing is stored here but the last few documents, each valid only while the home says that its entity tag is.
//!
//! ```text
//!   path ─400─▶ method ─405─▶ usage ─404─▶ owner ─403─▶ selector ─400, 404─▶ entity tag ─304, 412─▶ document ─404─▶ 200
//! ```
//! A user's document is given to that user alone. Who that is says a proxy that has authenticated them and is named in `http.trusted`.

mod conditions;
mod shelf;
mod tally;

use super::admin;
use crate::base::net::CoreId;
use crate::deferred::identity::Address;
use crate::deferred::inquiry::{Answer, Question};
use crate::deferred::metadata::{DOCUMENT_OCTETS_MAX, Document};
use crate::deferred::policy::Aliases;
use crate::uring::mail::Mail;
use crate::wire::xcap::select::{self, Selected, Selector};
use crate::wire::xcap::{Bindings, Target, XcapFault};
use crate::wire::{history, scan};
use bytes::Bytes;
use conditions::{Conditions, Verdict};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ipnet::IpNet;
use prometheus_client::collector::Collector;
use shelf::{Held, Shelf};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tally::{Scrape, Tally};

/// Where the tree begins.
pub const ROOT: &str = "/xcap-root";

/// The one document of the usage, in each user's home directory.
pub const DOCUMENT: &str = "deferred-list";

/// Says who is behind a request, for a proxy that knows (3GPP TS 24.109, 33.222).
const ASSERTED: &str = "x-3gpp-asserted-identity";

/// Identities of one request that are looked at. A user of IMS has a handful.
const ASSERTED_MAX: usize = 16;

/// A core that has not answered by then is not going to before the client gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Octets of a request's body that are read so that the client hears why it is refused, instead of a reset.
const REFUSED_BODY_MAX: usize = 64 * 1024;

/// Documents up to here are looked through at once: 64 KiB are a quarter of a millisecond. Longer ones on a thread of their own.
const AT_ONCE: usize = 64 * 1024;

/// A document's octets and what wraps them.
const DOCUMENT_MAX: usize = DOCUMENT_OCTETS_MAX + (1 << 20);

/// What this server can (RFC 4825 12).
//= RFC 4825 12: "xcap-caps" MUST be listed in the <auids> element, its namespace in the <namespaces> element
const CAPS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<xcap-caps xmlns=\"urn:ietf:params:xml:ns:xcap-caps\" \
    xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
    xsi:schemaLocation=\"urn:ietf:params:xml:ns:xcap-caps urn:ietf:params:xml:schema:xcap-caps\">\r\n <auids>\r\n  \
    <auid>xcap-caps</auid>\r\n  <auid>org.openmobilealliance.deferred-list</auid>\r\n </auids>\r\n <extensions/>\r\n <namespaces>\r\n  \
    <namespace>urn:ietf:params:xml:ns:xcap-caps</namespace>\r\n  <namespace>urn:oma:xml:im:history-list</namespace>\r\n \
    </namespaces>\r\n</xcap-caps>\r\n";

/// Changes when [`CAPS`] does: with the version, or with the number here.
const CAPS_TAG: &str = concat!("caps-2-", env!("CARGO_PKG_VERSION"));

const CAPS_NAMESPACE: &str = "urn:ietf:params:xml:ns:xcap-caps";

/// The path below [`ROOT`], when it is one.
pub fn below_root(path: &str) -> Option<&str> {
    path.strip_prefix(ROOT).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Why a request gets no document.
struct Refusal {
    status: StatusCode,
    why: &'static str,
}

fn refuse<T>(status: StatusCode, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, why })
}

impl From<XcapFault> for Refusal {
    fn from(fault: XcapFault) -> Refusal {
        let (status, why) = match fault {
            XcapFault::Escape => {
                (StatusCode::BAD_REQUEST, "a percent escape is broken, or what it stands for is not UTF-8\n")
            }
            XcapFault::Query => (StatusCode::BAD_REQUEST, "the query is not made of xmlns(prefix=namespace)\n"),
            //= RFC 4825 8: a prefix not defined in an xmlns() expression: MUST reject with a 400
            XcapFault::Prefix => {
                (StatusCode::BAD_REQUEST, "the node selector has a prefix that the query does not bind\n")
            }
            //= RFC 4825 8: extension-selectors that the server does not understand: MUST reject with a 404
            XcapFault::Extension => (StatusCode::NOT_FOUND, "the node selector is none of RFC 4825's\n"),
        };
        Refusal { status, why }
    }
}

/// What a request is about, once it may be answered.
enum About {
    Caps,
    List(Address),
}

/// The operator's table of numbers (`policy.aliases`), as it is in force.
#[derive(Debug)]
pub struct Names(RwLock<Aliases>);

impl Names {
    /// The table that the daemon starts with.
    pub fn new(aliases: Aliases) -> Names {
        Names(RwLock::new(aliases))
    }

    /// From now on it is this one.
    pub fn become_these(&self, aliases: Aliases) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = aliases;
    }

    /// The table as it is now. It may change while a request is served: whoever compares two names uses one table for both.
    fn now(&self) -> Aliases {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The server.
#[derive(Debug)]
pub struct Xcap {
    mail: Arc<Mail>,
    cores: u16,
    trusted: Vec<IpNet>,
    names: Arc<Names>,
    most: usize,
    shelf: Mutex<Shelf>,
    tally: Arc<Tally>,
}

impl Xcap {
    /// For the daemon whose `cores` are behind `mail`: documents of at most `most` messages, for users whom proxies in `trusted`
    /// vouch for, under any of their `names`.
    pub fn new(mail: Arc<Mail>, cores: u16, trusted: Vec<IpNet>, names: Arc<Names>, most: usize) -> Xcap {
        Xcap { mail, cores, trusted, names, most, shelf: Mutex::default(), tally: Arc::default() }
    }

    /// Its numbers.
    pub fn scrape(&self) -> Box<dyn Collector> {
        Box::new(Scrape(self.tally.clone()))
    }

    /// The answer to a request from `peer`, whose path is below [`ROOT`].
    pub async fn respond<B>(&self, request: Request<B>, peer: IpAddr) -> Response<Full<Bytes>>
    where
        B: Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let path = below_root(head.uri.path()).unwrap_or_default();
        let outcome = self.answer(&head.method, path, head.uri.query(), &head.headers, peer).await;
        let response = outcome.unwrap_or_else(|Refusal { status, why }| {
            let mut refusal = admin::plain(status, why.into()).map(Full::from);
            if status == StatusCode::METHOD_NOT_ALLOWED {
                refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            if status == StatusCode::SERVICE_UNAVAILABLE {
                refusal.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            refusal
        });
        if !body.is_end_stream() {
            let _ = Limited::new(body, REFUSED_BODY_MAX).collect().await;
        }
        self.tally.count(response.status());
        response
    }

    async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let target = Target::parse(path)?;
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if !reads && !matches!(*method, Method::PUT | Method::DELETE) {
            //= RFC 4825 8.1: a server receiving a POST for an XCAP resource SHOULD return a 405
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
        }
        let segments: Vec<&str> = target.document.iter().map(String::as_str).collect();
        let (about, namespace) = match segments.as_slice() {
            ["xcap-caps", "global", "index"] => (About::Caps, CAPS_NAMESPACE),
            [history::AUID, "users", xui, document @ ..] => {
                let owner = self.owner(xui, headers, peer)?;
                if *document != [DOCUMENT] {
                    return refuse(StatusCode::NOT_FOUND, "the one document of this usage is deferred-list\n");
                }
                (About::List(owner), history::NAMESPACE)
            }
            //= RFC 4825 8: an application usage not understood by the server: MUST reject with a 404
            _ => return refuse(StatusCode::NOT_FOUND, "no such document; see xcap-caps/global/index\n"),
        };
        let selector = match &target.node {
            Some(node) => {
                let bindings = query.map(Bindings::parse).transpose()?.unwrap_or_default();
                Some(Selector::parse(node, &bindings, namespace)?)
            }
            None => None,
        };
        if !reads {
            if selector.is_some_and(|selector| selector.is_of_namespaces()) {
                //= RFC 4825 8.2: a namespace-selector: MUST reject with a 405 and an Allow header including GET
                return refuse(StatusCode::METHOD_NOT_ALLOWED, "namespace bindings are read only\n");
            }
            return refuse(
                StatusCode::FORBIDDEN,
                "the server owns this document; a message is deleted by a SIP REFER to sip:Delete@\n",
            );
        }
        let conditions = Conditions::of(headers);
        let (tag, document, kind, left_out) = match about {
            About::Caps => (CAPS_TAG.to_owned(), Bytes::from_static(CAPS.as_bytes()), "application/xcap-caps+xml", 0),
            About::List(owner) => {
                let tag = self.revision(&owner).await?;
                // A node that is not there is 404 whatever the condition says; so for a node the document is needed.
                if selector.is_none()
                    && let Some(early) = early(conditions.verdict(&tag), &tag)
                {
                    return Ok(early);
                }
                let held = self.document(owner, tag).await?;
                (held.tag, held.octets, "application/vnd.oma.im.deferred-list+xml", held.left_out)
            }
        };
        let (octets, kind) = match selector {
            None => (document, kind),
            Some(selector) => find(document, selector).await?,
        };
        if let Some(early) = early(conditions.verdict(&tag), &tag) {
            return Ok(early);
        }
        let mut response = Response::new(Full::new(octets));
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        tagged(fields, &tag);
        if left_out > 0
            && let Ok(warning) =
                HeaderValue::try_from(format!("199 deferd \"{left_out} later messages are not listed\""))
        {
            fields.insert(header::WARNING, warning);
            self.tally.cut();
        }
        Ok(response)
    }

    /// Whose document it is, when that is who asks.
    ///
    /// Both are compared as the address under which messages are kept: however it is written, and whether the path or the proxy
    /// has the number or the address, what is given is the caller's own.
    fn owner(&self, xui: &str, headers: &HeaderMap, peer: IpAddr) -> Result<Address, Refusal> {
        let peer = peer.to_canonical();
        if !self.trusted.iter().any(|net| net.contains(&peer)) {
            return refuse(
                StatusCode::FORBIDDEN,
                "this address is not in http.trusted: nobody vouches for who you are\n",
            );
        }
        let mut asserted = headers
            .get_all(ASSERTED)
            .iter()
            .flat_map(|value| scan::List::new(value.as_bytes()))
            .take(ASSERTED_MAX)
            .filter_map(identity)
            .peekable();
        if asserted.peek().is_none() {
            return refuse(StatusCode::FORBIDDEN, "no X-3GPP-Asserted-Identity says who you are\n");
        }
        let names = self.names.now();
        match names.of_uri(xui.as_bytes()) {
            Some(owner) if asserted.any(|identity| names.of(identity) == owner) => Ok(owner),
            _ => refuse(StatusCode::FORBIDDEN, "a user's document is for that user alone\n"),
        }
    }

    /// The entity tag of a user's document.
    async fn revision(&self, owner: &Address) -> Result<String, Refusal> {
        match self.ask(Question::Revision { owner: owner.clone(), most: self.most }).await? {
            Answer::Revision(revision) => Ok(revision.to_string()),
            _ => refuse(StatusCode::NOT_FOUND, "no such user here\n"),
        }
    }

    /// A user's document, whose entity tag was `tag` a moment ago.
    async fn document(&self, owner: Address, tag: String) -> Result<Held, Refusal> {
        let held = self.shelf.lock().unwrap_or_else(PoisonError::into_inner).take(&owner, &tag);
        if let Some(held) = held {
            return Ok(held);
        }
        let document = match self.ask(Question::Document { owner: owner.clone(), most: self.most }).await? {
            Answer::Document(document) => document,
            Answer::Busy => {
                return refuse(StatusCode::SERVICE_UNAVAILABLE, "messages arrive faster than they can be listed\n");
            }
            _ => return refuse(StatusCode::NOT_FOUND, "no such user here\n"),
        };
        self.tally.made();
        let held = Held { tag: document.revision.to_string(), octets: whole(&document), left_out: document.left_out };
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).put(owner, held.clone());
        Ok(held)
    }

    /// Asks the user's home, which is one of the cores.
    async fn ask(&self, question: Question) -> Result<Answer, Refusal> {
        ask_home(&self.mail, self.cores, &question, PATIENCE).await.map_or_else(
            || refuse(StatusCode::SERVICE_UNAVAILABLE, "the user's core does not answer in time\n"),
            |answer| match answer {
                Answer::Overloaded => refuse(StatusCode::SERVICE_UNAVAILABLE, "too many documents are asked for\n"),
                answer => Ok(answer),
            },
        )
    }
}

/// Puts a question about a user to every core; the answer of the one that is their home, or `None` when it does not come in time.
pub(super) async fn ask_home(mail: &Mail, cores: u16, question: &Question, patience: Duration) -> Option<Answer> {
    let asked: Vec<_> = (0..cores).map(|core| mail.ask_later(CoreId(core), question.clone())).collect();
    let answer = async {
        for answer in asked {
            match answer.await {
                Ok(Answer::Elsewhere) => {}
                other => return other.ok(),
            }
        }
        None
    };
    tokio::time::timeout(patience, answer).await.ok().flatten()
}

/// A document as one run of octets.
pub(super) fn whole(document: &Document) -> Bytes {
    let octets: usize = document.histories.iter().map(Bytes::len).sum();
    let mut out = Vec::with_capacity(octets + 256);
    history::begin(&mut out);
    document.histories.iter().for_each(|history| out.extend_from_slice(history));
    history::end(&mut out);
    out.into()
}

/// One identity: a URI, bare, quoted or in brackets.
fn identity(value: &[u8]) -> Option<Address> {
    let between = |open: u8, close: u8| value.strip_prefix(&[open]).and_then(|value| value.strip_suffix(&[close]));
    let uri = between(b'"', b'"').or_else(|| between(b'<', b'>')).unwrap_or(value);
    Address::of_uri(scan::trim(uri))
}

/// The answer that needs no document.
fn early(verdict: Verdict, tag: &str) -> Option<Response<Full<Bytes>>> {
    let mut response = match verdict {
        Verdict::Go => return None,
        Verdict::Failed => {
            admin::plain(StatusCode::PRECONDITION_FAILED, "the document has another entity tag\n".into())
                .map(Full::from)
        }
        Verdict::Unchanged => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
    };
    tagged(response.headers_mut(), tag);
    Some(response)
}

/// The entity tag, and that a copy is worth keeping only while that is asked for.
fn tagged(fields: &mut HeaderMap, tag: &str) {
    if let Ok(tag) = HeaderValue::try_from(format!("\"{tag}\"")) {
        fields.insert(header::ETAG, tag);
    }
    //= RFC 4825 9: for data that is likely to be dynamic servers SHOULD indicate a no-cache directive
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}

/// The node of a document that a selector means, and its type.
async fn find(document: Bytes, selector: Selector) -> Result<(Bytes, &'static str), Refusal> {
    let is_long = document.len() > AT_ONCE;
    let look = move || {
        let found = select::select(&document, &selector, DOCUMENT_MAX);
        (document, found)
    };
    let (document, found) = match is_long {
        false => look(),
        true => match tokio::task::spawn_blocking(look).await {
            Ok(found) => found,
            Err(_) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the document could not be looked through\n"),
        },
    };
    match found {
        Ok(Some(Selected::Element(range))) => Ok((document.slice(range), "application/xcap-el+xml")),
        //= RFC 4825 8.3: an XML attribute: its value is returned, as "application/xcap-att+xml"
        Ok(Some(Selected::Attribute(value))) => Ok((value.into(), "application/xcap-att+xml")),
        Ok(Some(Selected::Namespaces(octets))) => Ok((octets.into(), "application/xcap-ns+xml")),
        //= RFC 4825 8.3: if the node-selector is a no-match or invalid, the server returns a 404 response
        Ok(None) => refuse(StatusCode::NOT_FOUND, "the node selector means no node, or more than one\n"),
        Err(_) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "our own document is not well-formed; please report this\n")
        }
    }
}
