//! The way to the daemon: one UDP socket or one TCP connection, requests and their answers, and all that comes of itself.
//!
//! Everything that arrives, SIP here and MSRP in [`crate::session`], goes through one bounded channel and is looked at by one thread.
//! Who does not look makes the sender wait.

use crate::msrp::Frame;
use crate::sip::{Request, Sip, parameter, random_hex, uri_of};
use crate::{Failure, Person, Said};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest SIP message that is read: the daemon takes bodies of 1 MiB, and heads are shorter.
const SIP_MAX: usize = 2 << 20;

/// RFC 3261 18.1.1: a longer request goes over a transport that controls congestion.
const DATAGRAM_MAX: usize = 1300;

/// Events between a reader and us: enough for the largest window of MSRP frames that a daemon sends.
const EVENTS_MAX: usize = 256;

/// Events put aside while one answer is waited for, and answers that are remembered for repetitions.
const ASIDE_MAX: usize = 1024;

/// T1 and T2 of RFC 3261 17.1.2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A SIP message came.
    Sip(Sip),
    /// An MSRP frame came.
    Frame(Frame),
    /// The MSRP connection ended, and why.
    Hangup(String),
    /// The way to the daemon ended, and why.
    Lost(String),
}

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// The way to the daemon.
pub(crate) struct Line {
    wire: Wire,
    /// Our address on it.
    pub(crate) here: SocketAddr,
    aor: String,
    /// Of our dialogs and answers.
    tag: String,
    /// Longest wait for one answer.
    pub(crate) patience: Duration,
    events: Receiver<Event>,
    sink: SyncSender<Event>,
    aside: VecDeque<Event>,
    /// Requests seen and what they were answered with, if they were.
    seen: VecDeque<(String, Option<Vec<u8>>)>,
    /// Call-IDs of our INVITEs that were accepted, and the ACKs.
    acks: VecDeque<(String, Vec<u8>)>,
}

impl Line {
    /// To the daemon that `person` names.
    pub(crate) fn open(person: &Person) -> Said<Line> {
        let server = &person.server;
        let usage = || Failure::Usage(format!("{server:?} is no server; write udp:HOST:PORT or tcp:HOST:PORT"));
        let (transport, place) = server.split_once(':').ok_or_else(usage)?;
        if !matches!(transport, "udp" | "tcp") {
            return Err(usage());
        }
        let to = resolve(place).ok_or_else(usage)?;
        let (sink, events) = sync_channel(EVENTS_MAX);
        let lost = |error: std::io::Error| Failure::failed(format!("no daemon at {server}: {error}"));
        let (wire, here) = if transport == "udp" {
            let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).map_err(lost)?;
            socket.connect(to).map_err(lost)?;
            read_datagrams(socket.try_clone().map_err(lost)?, sink.clone());
            let here = socket.local_addr().map_err(lost)?;
            (Wire::Udp(socket), here)
        } else {
            let socket = TcpStream::connect_timeout(&to, person.timeout).map_err(lost)?;
            socket.set_nodelay(true).map_err(lost)?;
            socket.set_write_timeout(Some(person.timeout)).map_err(lost)?;
            read_stream(socket.try_clone().map_err(lost)?, sink.clone());
            let here = socket.local_addr().map_err(lost)?;
            (Wire::Tcp(socket), here)
        };
        Ok(Line {
            wire,
            here,
            aor: person.aor.clone(),
            tag: random_hex(4),
            patience: person.timeout,
            events,
            sink,
            aside: VecDeque::new(),
            seen: VecDeque::new(),
            acks: VecDeque::new(),
        })
    }

    fn transport(&self) -> &'static str {
        if matches!(self.wire, Wire::Udp(_)) { "UDP" } else { "TCP" }
    }

    /// Where what happens elsewhere is put.
    pub(crate) fn sink(&self) -> SyncSender<Event> {
        self.sink.clone()
    }

    /// A Contact that leads here.
    pub(crate) fn contact(&self) -> String {
        let user = self.aor.trim_start_matches("sip:").split('@').next().unwrap_or_default();
        format!("<sip:{user}@{};transport={}>;+g.oma.sip-im", self.here, self.transport().to_ascii_lowercase())
    }

    /// A request outside of dialogs, with all that every request has.
    pub(crate) fn request(&self, method: &str, uri: &str, to: &str) -> Request {
        let request = self.bare(method, uri);
        request
            .with("From", format!("<{}>;tag={}", self.aor, random_hex(4)))
            .with("To", format!("<{to}>"))
            .with("Call-ID", format!("{}@{}", random_hex(10), self.here.ip()))
            .with("CSeq", format!("1 {method}"))
            .with("P-Asserted-Identity", format!("<{}>", self.aor))
            .with("User-Agent", concat!("IM-client/OMA1.0 im/", env!("CARGO_PKG_VERSION")))
    }

    /// A request in the dialog that `first` and its answer made.
    pub(crate) fn within(&self, method: &str, cseq: u32, first: &Request, answer: &Sip) -> Request {
        let mut request = self.bare(method, uri_of(answer.value("contact")));
        // RFC 3261 12.1.2: the route set is the Record-Route of the answer, read from below.
        for route in answer.values("record-route").rev() {
            request = request.with("Route", route);
        }
        request
            .with("From", first.value("From"))
            .with("To", answer.value("to"))
            .with("Call-ID", first.value("Call-ID"))
            .with("CSeq", format!("{cseq} {method}"))
    }

    fn bare(&self, method: &str, uri: &str) -> Request {
        let via = format!("SIP/2.0/{} {};rport;branch=z9hG4bK{}", self.transport(), self.here, random_hex(8));
        Request::new(method, uri).with("Via", via).with("Max-Forwards", "70")
    }

    /// Sends octets as they are.
    pub(crate) fn write(&mut self, octets: &[u8]) -> Said<()> {
        let sent = match &mut self.wire {
            Wire::Udp(socket) => socket.send(octets).map(drop),
            Wire::Tcp(socket) => socket.write_all(octets),
        };
        sent.map_err(|error| Failure::failed(format!("the daemon cannot be written to: {error}")))
    }

    /// The final answer to `request`; over UDP it is repeated (RFC 3261 17.1). A refused INVITE is acknowledged here.
    pub(crate) fn ask(&mut self, request: &Request) -> Said<Sip> {
        let octets = request.write();
        let datagrams = matches!(self.wire, Wire::Udp(_));
        if datagrams && octets.len() > DATAGRAM_MAX {
            let why = format!("{} octets are too many for one datagram; use --server tcp:HOST:PORT", octets.len());
            return Err(Failure::failed(why));
        }
        self.write(&octets)?;
        let deadline = Instant::now() + self.patience;
        let mut interval = T1;
        let mut again = Instant::now() + interval;
        let mut provisional = false;
        loop {
            let repeats = datagrams && !(provisional && request.method == "INVITE");
            let until = if repeats { again.min(deadline) } else { deadline };
            match self.event(Some(until))? {
                Some(Event::Sip(sip)) if sip.status().is_some() && sip.branch() == request.branch() => {
                    match sip.status() {
                        Some(100..200) => provisional = true,
                        Some(300..) if request.method == "INVITE" => {
                            self.write(&request.refusal_ack(&sip).write())?;
                            return Ok(sip);
                        }
                        _ => return Ok(sip),
                    }
                }
                Some(Event::Lost(why)) => return Err(Failure::failed(why)),
                Some(_) if self.aside.len() >= ASIDE_MAX => {
                    return Err(Failure::failed("the daemon sends and sends, and does not answer"));
                }
                Some(event) => self.aside.push_back(event),
                None if Instant::now() >= deadline => {
                    let waited = self.patience.as_secs();
                    return Err(Failure::failed(format!("no answer to {} within {waited} s", request.method)));
                }
                None => {
                    self.write(&octets)?;
                    interval = (interval * 2).min(T2);
                    again = Instant::now() + interval;
                }
            }
        }
    }

    /// The same; whatever is not a 2xx is a failure. `what` says what was wanted.
    pub(crate) fn insist(&mut self, request: &Request, what: &str) -> Said<Sip> {
        let answer = self.ask(request)?;
        match answer.status() {
            Some(200..300) => Ok(answer),
            _ => Err(Failure::failed(format!("{what} was refused: {}", answer.outcome()))),
        }
    }

    /// Acknowledges the 200 to an INVITE, and every repetition of it.
    pub(crate) fn acknowledge(&mut self, invite: &Request, answer: &Sip) -> Said<()> {
        let cseq = invite.value("CSeq").split(' ').next().and_then(|cseq| cseq.parse().ok()).unwrap_or(1);
        let ack = self.within("ACK", cseq, invite, answer).write();
        self.write(&ack)?;
        remember(&mut self.acks, (invite.value("Call-ID").to_owned(), ack));
        Ok(())
    }

    /// Answers a request. `more` are whole header lines.
    pub(crate) fn answer(&mut self, request: &Sip, status: &str, more: &str, body: &str) -> Said<()> {
        let octets = request.answer(status, &self.tag, more, body);
        let key = request.key();
        if let Some((_, answer)) = self.seen.iter_mut().find(|(seen, _)| *seen == key) {
            *answer = Some(octets.clone());
        }
        self.write(&octets)
    }

    /// What happens next; `None` when nothing does until then. `None` waits forever.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Said<Option<Event>> {
        match self.aside.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.event(until),
        }
    }

    /// The next thing out of the channel that is no repetition.
    fn event(&mut self, until: Option<Instant>) -> Said<Option<Event>> {
        loop {
            let event = match until {
                // We hold a sender ourselves: the channel is never without one.
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => self.events.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            let event = match event {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::failed("nobody listens any more")),
            };
            let Event::Sip(sip) = &event else { return Ok(Some(event)) };
            let again = match sip.status() {
                Some(200..300) if sip.method() == "INVITE" => {
                    self.acks.iter().find(|(call_id, _)| call_id == sip.value("call-id")).map(|(_, ack)| ack.clone())
                }
                Some(_) => None,
                None => {
                    let key = sip.key();
                    match self.seen.iter().find(|(seen, _)| *seen == key) {
                        Some((_, answer)) => Some(answer.clone().unwrap_or_default()),
                        None => {
                            remember(&mut self.seen, (key, None));
                            None
                        }
                    }
                }
            };
            match again {
                Some(octets) if octets.is_empty() => {}
                Some(octets) => self.write(&octets)?,
                None => return Ok(Some(event)),
            }
        }
    }
}

/// Appends, and forgets the oldest.
fn remember<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() >= ASIDE_MAX {
        all.pop_front();
    }
    all.push_back(one);
}

/// The first address of `HOST:PORT`.
pub(crate) fn resolve(place: &str) -> Option<SocketAddr> {
    place.to_socket_addrs().ok()?.next()
}

/// Reads datagrams until nobody wants them.
fn read_datagrams(socket: UdpSocket, sink: SyncSender<Event>) {
    thread::spawn(move || {
        let mut datagram = vec![0; 65_536];
        loop {
            let event = match socket.recv(&mut datagram) {
                Ok(octets) => match Sip::cut(datagram.get(..octets).unwrap_or_default()) {
                    Ok(Some((sip, _))) => Event::Sip(sip),
                    _ => continue,
                },
                // ICMP says so: nobody is bound there, or not yet again.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    Event::Lost("nobody listens at that UDP port".into())
                }
                Err(error) => Event::Lost(format!("the UDP socket failed: {error}")),
            };
            let ends = matches!(event, Event::Lost(_));
            if sink.send(event).is_err() || ends {
                return;
            }
        }
    });
}

/// Reads a connection's SIP messages until it ends.
fn read_stream(mut socket: TcpStream, sink: SyncSender<Event>) {
    thread::spawn(move || {
        let mut ahead = Vec::new();
        let why = loop {
            match Sip::cut(&ahead) {
                Ok(Some((sip, len))) => {
                    ahead.drain(..len);
                    if sink.send(Event::Sip(sip)).is_err() {
                        return;
                    }
                    continue;
                }
                Ok(None) if ahead.len() > SIP_MAX => break "a SIP message of more than 2 MiB".to_owned(),
                Ok(None) => {}
                Err(what) => break format!("what came is no SIP: {what}"),
            }
            if let Err(why) = read_more(&mut socket, &mut ahead) {
                break format!("the daemon hung up: {why}");
            }
        };
        let _ = sink.send(Event::Lost(why));
    });
}

/// Appends what one read gives; the end of the connection is an error here.
pub(crate) fn read_more(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), String> {
    let mut octets = [0; 65_536];
    match socket.read(&mut octets) {
        Ok(0) => Err("the connection ended".into()),
        Ok(read) => {
            buffer.extend_from_slice(octets.get(..read).unwrap_or_default());
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Seconds that a 200 gives a publication or a subscription.
pub(crate) fn expires_of(answer: &Sip, asked: u64) -> Duration {
    let given = answer.header("expires").and_then(|value| value.parse().ok());
    let stated = parameter(answer.value("subscription-state"), "expires").and_then(|value| value.parse().ok());
    Duration::from_secs(given.or(stated).unwrap_or(asked))
}
