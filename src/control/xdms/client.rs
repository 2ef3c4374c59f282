//! One connection to the XDMS: a request at a time, kept open between them. Plain HTTP/1.1; hyper speaks it.

use crate::control::config::Root;
use crate::deferred::identity::Address;
use crate::wire::history;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// Octets of an answer that is no document.
const SAID_MAX: usize = 64 * 1024;

/// A PUT's condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Only {
    /// The document there has this tag, quotes included.
    If(String),
    /// There is none.
    New,
}

/// What the XDMS answered.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: StatusCode,
    /// As it stands in the answer.
    pub(super) tag: Option<String>,
    /// The body; empty when it is longer than was wanted.
    pub(super) body: Bytes,
}

/// The connection, open or not.
#[derive(Debug)]
pub(super) struct Client {
    authority: String,
    path: String,
    timeout: Duration,
    /// Who asks.
    identity: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Not connected yet.
    pub(super) fn new(root: &Root, timeout: Duration, hostname: &str) -> Client {
        Client {
            authority: root.authority.clone(),
            path: root.path.clone(),
            timeout,
            identity: format!("\"sip:Deferred@{hostname}\""),
            sender: None,
        }
    }

    /// The document of a user as it is there, of which at most `octets_max` are wanted. `None`: no answer.
    pub(super) async fn get(&mut self, owner: &Address, octets_max: usize) -> Option<Said> {
        self.exchange(owner, Method::GET, Bytes::new(), None, octets_max.max(SAID_MAX)).await
    }

    /// Writes it. `None`: no answer, and it may have been taken all the same.
    pub(super) async fn put(&mut self, owner: &Address, document: Bytes, only: &Only) -> Option<Said> {
        self.exchange(owner, Method::PUT, document, Some(only), SAID_MAX).await
    }

    async fn exchange(
        &mut self,
        owner: &Address,
        method: Method,
        body: Bytes,
        only: Option<&Only>,
        octets_max: usize,
    ) -> Option<Said> {
        let request = self.request(owner, method, body, only)?;
        let timeout = self.timeout;
        let said = tokio::time::timeout(timeout, self.send(request, octets_max)).await.ok().flatten();
        if said.is_none() {
            // Late answers would be taken for those to the next request.
            self.sender = None;
        }
        said
    }

    async fn send(&mut self, request: Request<Full<Bytes>>, octets_max: usize) -> Option<Said> {
        // One that the XDMS closed while it was not used is no fault of anybody's.
        let reused = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !reused {
            self.sender = Some(self.connect().await?);
        }
        let answer = match self.sender.as_mut()?.send_request(request.clone()).await {
            Ok(answer) => answer,
            Err(_) if reused => {
                self.sender = Some(self.connect().await?);
                self.sender.as_mut()?.send_request(request).await.ok()?
            }
            Err(error) => {
                tracing::debug!(%error, "the XDMS broke the connection");
                return None;
            }
        };
        let (head, body) = answer.into_parts();
        let tag = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = match Limited::new(body, octets_max).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                self.sender = None;
                Bytes::new()
            }
        };
        Some(Said { status: head.status, tag, body })
    }

    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        let connected = async {
            let stream = TcpStream::connect(&self.authority).await.map_err(|error| error.to_string())?;
            let _ = stream.set_nodelay(true);
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())
        };
        match connected.await {
            Ok((sender, connection)) => {
                // Ends when the sender is dropped or the peer closes.
                tokio::spawn(async move { _ = connection.await });
                Some(sender)
            }
            Err(error) => {
                tracing::debug!(%error, xdms = %self.authority, "cannot connect to the XDMS");
                None
            }
        }
    }

    //= 12.2.2.8: update the metadata XML document in the IM XDMS (conditionally: RFC 4825 7.11)
    fn request(
        &self,
        owner: &Address,
        method: Method,
        body: Bytes,
        only: Option<&Only>,
    ) -> Option<Request<Full<Bytes>>> {
        let uri = format!("{}/{}/users/{}/deferred-list", self.path, history::AUID, escaped(owner));
        let mut request = Request::builder()
            .method(&method)
            .uri(uri)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("deferd/", env!("CARGO_PKG_VERSION")))
            .header("x-3gpp-asserted-identity", &self.identity);
        if method == Method::PUT {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_bytes(history::MEDIA_TYPE).ok()?);
        }
        request = match only {
            Some(Only::If(tag)) => request.header(header::IF_MATCH, tag),
            Some(Only::New) => request.header(header::IF_NONE_MATCH, "*"),
            None => request,
        };
        request.body(Full::new(body)).ok()
    }
}

/// An XUI as a path segment (RFC 4825 6.2).
fn escaped(owner: &[u8]) -> String {
    let mut out = String::with_capacity(owner.len() + 8);
    for &octet in owner {
        if octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_xui_is_one_segment_whatever_is_in_it() {
        assert_eq!(escaped(b"sip:bob@example.org"), "sip:bob@example.org");
        assert_eq!(escaped(b"sip:a/b?c%40d@example.org"), "sip:a%2Fb%3Fc%2540d@example.org");
        assert_eq!(escaped("sip:ä@x".as_bytes()), "sip:%C3%A4@x");
    }
}
