//! The operator's HTTP: metrics, probes and a status page, on a thread of its own that no core waits for.
//!
//! Knows sockets, paths and methods. What is true about the daemon is said by [`Health`]; how it is written down, by
//! [`Metrics`] and [`page`]. One request a connection, at most [`CONNECTIONS`] of them, [`PATIENCE`] each: probes and scrapes
//! are few and small, so whoever holds a connection longer is not one of them.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the status page |
//! | `/metrics` | OpenMetrics text |
//! | `/healthz` | 200 while every core turns, else 503 with the cores that do not |
//! | `/readyz` | 200 from ready to SIGTERM, else 503 |
//! | `/xcap-root/...` | the users' metadata documents: [`Xcap`] |

use super::health::{BEAT, Health, Phase};
use super::metrics::{self, Metrics};
use super::page;
use super::xcap::{self, Xcap};
use crate::base::net::CoreId;
use crate::uring::clock::Clock;
use crate::uring::host;
use crate::uring::listen::BindFault;
use crate::uring::mail::Mail;
use crate::uring::socket;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::collector::Collector;
use socket2::Socket;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections at one time. With [`HEAD_OCTETS`] each, no more than 1 MiB and a quarter of the daemon's smallest usual limit
/// of 1,024 descriptors; further clients wait in the kernel's queue.
pub const CONNECTIONS: usize = 64;

/// What a whole exchange may take, from the connection to the last octet of the answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Octets of a request's head; more is 431. hyper takes no less than 8 KiB.
pub const HEAD_OCTETS: usize = 16 * 1024;

/// Header lines of a request; more is 431.
pub const HEADERS: usize = 64;

/// Connections that wait in the kernel.
const BACKLOG: i32 = 128;

/// Descriptors have run out: the next attempt to accept comes this much later.
const RETRY: Duration = Duration::from_millis(100);

/// An address that is ours and that nobody can connect to yet.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    addr: SocketAddr,
}

impl Bound {
    /// Takes an address; port 0 is any free port.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn bind(wanted: SocketAddr) -> Result<Bound, BindFault> {
        let bind = || {
            let socket = socket::stream(wanted)?;
            // Connections of the daemon before us may still be in TIME_WAIT; they do not count.
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&wanted.into())?;
            let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Bound { socket, addr })
        };
        bind().map_err(|error| fault(wanted, error))
    }

    /// Where, with the port that was really bound.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lets clients connect.
    ///
    /// # Errors
    /// Somebody else who had bound the address, too, was faster.
    pub fn listen(self) -> Result<Listening, BindFault> {
        self.socket.listen(BACKLOG).map_err(|error| fault(self.addr, error))?;
        Ok(Listening(self.socket.into()))
    }
}

/// An address that clients connect to.
#[derive(Debug)]
pub struct Listening(TcpListener);

fn fault(addr: SocketAddr, error: io::Error) -> BindFault {
    BindFault { transport: "tcp", addr, error }
}

/// Everything the answers are made from.
#[derive(Debug)]
pub struct Admin {
    health: Arc<Health>,
    metrics: Metrics,
    clock: Clock,
    mail: Arc<Mail>,
    cores: u16,
    hostname: String,
    xcap: Option<Xcap>,
}

impl Admin {
    /// For the daemon whose `cores` are behind `mail`; `hostname` is what the page calls it.
    pub fn new(health: Arc<Health>, clock: Clock, mail: Arc<Mail>, cores: u16, hostname: &str) -> Admin {
        let metrics = Metrics::new(health.clone(), move || clock.now().tick);
        Admin { health, metrics, clock, mail, cores, hostname: hostname.to_owned(), xcap: None }
    }

    /// The same, and its metrics have somebody else's numbers too.
    #[must_use]
    pub fn also(mut self, numbers: Box<dyn Collector>) -> Admin {
        self.metrics.also(numbers);
        self
    }

    /// The same, and it serves the users' documents.
    #[must_use]
    pub fn with_xcap(mut self, xcap: Xcap) -> Admin {
        self.metrics.also(xcap.scrape());
        self.xcap = Some(xcap);
        self
    }

    /// Serves on a thread of its own until the process ends.
    ///
    /// # Errors
    /// The thread or its runtime cannot be had.
    pub fn start(self, listening: Listening) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            // Started by a thread that is not pinned; said again for one that is.
            let _ = host::unpin();
            if let Err(error) = runtime.block_on(self.serve(listening)) {
                tracing::error!(%error, "metrics, probes and status page are gone; messages are not affected");
            }
        })?;
        Ok(())
    }

    async fn serve(self, listening: Listening) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listening.0)?;
        let admin = Arc::new(self);
        tokio::spawn(admin.clone().beat());
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Room first: who finds none waits in the kernel, not here. The semaphore is never closed.
            let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection to [http]");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let admin = admin.clone();
            tokio::spawn(async move {
                // Too slow, or gone: either way the connection is closed and its place is free.
                let _ = tokio::time::timeout(PATIENCE, admin.exchange(stream, peer)).await;
                drop(permit);
            });
        }
    }

    /// Wakes every core now and then, so that one that still sleeps is one that hangs.
    async fn beat(self: Arc<Admin>) {
        let mut beats = tokio::time::interval(BEAT);
        loop {
            beats.tick().await;
            for core in 0..self.cores {
                if let Some(door) = self.mail.door(CoreId(core)) {
                    door.bell.ring();
                }
            }
        }
    }

    async fn exchange(self: Arc<Admin>, stream: TcpStream, peer: SocketAddr) {
        let answer = service_fn(move |request| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.respond(request, peer).await) }
        });
        let _ = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(HEAD_OCTETS)
            .max_headers(HEADERS)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    }

    async fn respond(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        match (&self.xcap, xcap::below_root(request.uri().path()).is_some()) {
            (Some(xcap), true) => xcap.respond(request, peer.ip()).await,
            _ => self.answer(&request).map(Full::from),
        }
    }

    /// The answer to one request. Bodies are not read: no method that is served has one.
    fn answer<B: Body>(&self, request: &Request<B>) -> Response<String> {
        let answer: fn(&Admin) -> Response<String> = match request.uri().path() {
            "/" => Admin::page,
            "/metrics" => Admin::scrape,
            "/healthz" => Admin::alive,
            "/readyz" => Admin::ready,
            _ => {
                return plain(
                    StatusCode::NOT_FOUND,
                    "nothing here; see /, /metrics, /healthz, /readyz, /xcap-root\n".into(),
                );
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".into());
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        answer(self)
    }

    fn page(&self) -> Response<String> {
        match page::render(&self.health, &self.hostname, self.clock.now().tick) {
            Ok(page) => {
                let mut response = of_type(StatusCode::OK, "text/html; charset=utf-8", page);
                // Its own style and its empty icon, and nothing else from anywhere.
                response.headers_mut().insert(
                    header::CONTENT_SECURITY_POLICY,
                    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
                );
                response
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn scrape(&self) -> Response<String> {
        match self.metrics.text() {
            Ok(text) => of_type(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn alive(&self) -> Response<String> {
        let silent = self.health.silent(self.clock.now().tick);
        if silent.is_empty() {
            // Alive: whether a restart helps against these only a person can say.
            return plain(StatusCode::OK, self.with_troubles(&format!("ok: {}", self.health.phase().word())));
        }
        let lines = silent
            .iter()
            .map(|silent| format!("core {} has not turned for {:.1} s\n", silent.core.0, silent.since.as_secs_f64()));
        plain(StatusCode::SERVICE_UNAVAILABLE, lines.collect())
    }

    fn ready(&self) -> Response<String> {
        let phase = self.health.phase();
        let takes = phase == Phase::Ready && !self.health.is_refusing();
        let status = if takes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        plain(status, self.with_troubles(phase.word()))
    }

    /// A line for what is so, and one for each thing that wants a person.
    fn with_troubles(&self, word: &str) -> String {
        let troubles = self.health.troubles().into_iter().map(|trouble| format!("{trouble}\n"));
        std::iter::once(format!("{word}\n")).chain(troubles).collect()
    }
}

pub(super) fn plain(status: StatusCode, text: String) -> Response<String> {
    of_type(status, "text/plain; charset=utf-8", text)
}

pub(super) fn of_type(status: StatusCode, kind: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
#[path = "admin_tests.rs"]
mod tests;
