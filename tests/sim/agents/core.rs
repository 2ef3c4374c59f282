//! The SIP core: it carries requests to the daemon over UDP and TCP, repeats what got no answer, and absorbs what comes twice.

use crate::ground::{Event, Ground, Person};
use crate::net::{News, Owner};
use crate::trace::first_line;
use bytes::{Bytes, BytesMut};
use deferd::base::limits::Limits;
use deferd::wire::sip::cut::{Cut, Found};
use deferd::wire::sip::message::Message;
use deferd::wire::sip::names::{Method, Name};
use deferd::wire::sip::write::{Request, Response};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// RFC 3261 17: T1, T2, and 64*T1.
pub(crate) const T1: u64 = 500_000;
const T2: u64 = 4_000_000;
pub(crate) const PATIENCE: u64 = 64 * T1;

/// Our datagram addresses: the kernel sends each of them to a core of its own choosing.
const PORTS: u16 = 5;

/// The way a request came or goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Road {
    /// From the n-th of our datagram addresses.
    Udp(u16),
    /// A connection.
    Tcp(usize),
}

/// Who hears of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Sender { message: u32 },
    Large { message: u32 },
    User { user: usize, event: u8 },
    Eraser { request: u32 },
    Nobody,
}

/// What came from the daemon.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The final answer to a request of ours.
    Answer { who: Who, message: Message },
    /// There will be none.
    Lost { who: Who },
    /// A request, for the first time.
    Request { message: Message, way: Road },
}

#[derive(Debug)]
struct Client {
    octets: Bytes,
    road: Road,
    who: Who,
    interval: u64,
    until: u64,
}

#[derive(Debug)]
struct Stream {
    cut: Cut,
    buffer: BytesMut,
    /// We opened it.
    ours: bool,
    up: bool,
}

/// Branch and method of a request.
type Served = (Vec<u8>, Vec<u8>);

/// The SIP core.
#[derive(Debug)]
pub(crate) struct SipCore {
    clients: BTreeMap<u64, Client>,
    /// Requests of the daemon's by branch and method, and what they were answered.
    served: BTreeMap<Served, Option<(Road, Bytes)>>,
    streams: BTreeMap<usize, Stream>,
    waiting: Vec<(SocketAddr, Bytes, u64)>,
    branches: u64,
    ports: u16,
    limits: Limits,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, 9), port))
}

/// Where the daemon finds the SIP core.
pub(crate) fn home() -> SocketAddr {
    address(5060)
}

impl SipCore {
    /// One that knows nothing yet.
    pub(crate) fn new() -> SipCore {
        SipCore {
            clients: BTreeMap::new(),
            served: BTreeMap::new(),
            streams: BTreeMap::new(),
            waiting: Vec::new(),
            branches: 0,
            ports: 20_000,
            limits: Limits::default(),
        }
    }

    /// True for the address at which it takes connections.
    pub(crate) fn is_listener(at: SocketAddr) -> bool {
        at == home()
    }

    /// True for one of our datagram addresses.
    pub(crate) fn is_datagram(at: SocketAddr) -> bool {
        (5_060..5_060 + PORTS).any(|port| at == address(port))
    }

    /// Sends a request for somebody. `build` completes it; `stream`: not over UDP.
    pub(crate) fn send(
        &mut self,
        g: &mut Ground,
        who: Who,
        stream: bool,
        method: Method,
        uri: &str,
        build: impl FnOnce(Request) -> Request,
    ) {
        self.branches += 1;
        let branch = self.branches;
        let datagram = !stream && g.between(0, 1) == 0;
        let port = 5_060 + g.between(0, u64::from(PORTS) - 1) as u16;
        let (transport, from) = if datagram { ("UDP", address(port)) } else { ("TCP", home()) };
        let via = format!("SIP/2.0/{transport} {from};branch=z9hG4bKs{branch};rport");
        let octets = build(Request::new(method, uri.as_bytes()).line(Name::Via, via.as_bytes())).finish();
        g.say(format_args!("person {who:?} sends {} over {transport}", first_line(&octets)));
        let until = g.now + PATIENCE;
        if datagram {
            let client = Client { octets: octets.clone(), road: Road::Udp(port), who, interval: T1, until };
            self.clients.insert(branch, client);
            g.datagram_up(address(port), &octets);
            g.person(T1, Person::Repeat { branch });
            return;
        }
        let open: Vec<usize> =
            self.streams.iter().filter(|(_, stream)| stream.ours && stream.up).map(|(&at, _)| at).collect();
        // Two connections at most: what is sent over one may be answered by a core that the other does not know.
        let open = open.get(g.between(0, 1) as usize).copied();
        let road = Road::Tcp(open.unwrap_or(usize::MAX));
        self.clients.insert(branch, Client { octets: octets.clone(), road, who, interval: PATIENCE, until });
        match open {
            Some(at) => g.write(at, &octets),
            None => {
                self.ports += 1;
                let from = address(self.ports);
                self.waiting.push((from, octets, branch));
                let (hop, to) = (g.hop(), g.address());
                g.later(hop, Event::Knock { owner: Owner::Sip, from, to });
            }
        }
        g.person(PATIENCE, Person::Repeat { branch });
    }

    /// Timer E and F of a request. Its status, when nobody will answer any more.
    pub(crate) fn repeat(&mut self, g: &mut Ground, branch: u64) -> Option<(Who, u16)> {
        let client = self.clients.get_mut(&branch)?;
        if g.now >= client.until {
            let who = client.who;
            self.clients.remove(&branch);
            return Some((who, 408));
        }
        if let Road::Udp(port) = client.road {
            client.interval = (client.interval * 2).min(T2);
            let (interval, octets) = (client.interval, client.octets.clone());
            g.datagram_up(address(port), &octets);
            g.person(interval, Person::Repeat { branch });
        }
        None
    }

    /// Answers a request of the daemon's; the same answer for its repetitions.
    pub(crate) fn respond(
        &mut self,
        g: &mut Ground,
        request: &Message,
        way: Road,
        status: u16,
        build: impl FnOnce(Response<'_>) -> Response<'_>,
    ) -> Bytes {
        let response = Response::to(request, status, g.address()).to_tag(b"peer");
        let octets = build(response).finish();
        if status >= 200 {
            self.served.insert(key(request), Some((way, octets.clone())));
        }
        self.put(g, way, &octets);
        octets
    }

    /// Octets for the daemon, on the way its request came.
    pub(crate) fn put(&mut self, g: &mut Ground, way: Road, octets: &[u8]) {
        match way {
            Road::Udp(port) => g.datagram_up(address(port), octets),
            Road::Tcp(at) if at != usize::MAX && !g.net.is_left(at) => g.write(at, octets),
            // The connection is gone: RFC 3261 18.2.2 has the response go to the Via's address.
            Road::Tcp(_) => {}
        }
    }

    /// A datagram.
    pub(crate) fn datagram(&mut self, g: &mut Ground, to: SocketAddr, octets: Vec<u8>) -> Vec<Heard> {
        let message = Message::parse_datagram(Bytes::from(octets), &self.limits).expect("the daemon writes SIP");
        let mut heard = Vec::new();
        self.receive(g, message, Road::Udp(to.port()), &mut heard);
        heard
    }

    /// News of a connection.
    pub(crate) fn news(&mut self, g: &mut Ground, at: usize, news: News) -> Vec<Heard> {
        let mut heard = Vec::new();
        match news {
            News::Connected => {
                let from = g.net.streams[at].agent;
                self.open(at, true);
                if let Some(place) = self.waiting.iter().position(|(waiting, ..)| *waiting == from) {
                    let (_, octets, branch) = self.waiting.remove(place);
                    if let Some(client) = self.clients.get_mut(&branch) {
                        client.road = Road::Tcp(at);
                        g.write(at, &octets);
                    }
                }
            }
            News::Accepted(_) => self.open(at, false),
            News::Refused(from) => {
                if let Some(place) = self.waiting.iter().position(|(waiting, ..)| *waiting == from) {
                    let (.., branch) = self.waiting.remove(place);
                    heard.extend(self.clients.remove(&branch).map(|client| Heard::Lost { who: client.who }));
                }
            }
            News::Octets(octets) => {
                if let Some(stream) = self.streams.get_mut(&at) {
                    stream.buffer.extend_from_slice(&octets);
                }
                while let Some(stream) = self.streams.get_mut(&at) {
                    match stream.cut.next(&stream.buffer).expect("the daemon writes SIP") {
                        Found::More => break,
                        Found::KeepAlive { len, .. } => _ = stream.buffer.split_to(len),
                        Found::Message { len, .. } => {
                            let octets = stream.buffer.split_to(len).freeze();
                            let message = Message::parse(octets, &self.limits).expect("the daemon writes SIP");
                            self.receive(g, message, Road::Tcp(at), &mut heard);
                        }
                    }
                }
            }
            News::Fin | News::Reset => {
                if news == News::Fin {
                    g.leave(at);
                }
                self.streams.remove(&at);
                let lost: Vec<u64> = self
                    .clients
                    .iter()
                    .filter(|(_, client)| client.road == Road::Tcp(at))
                    .map(|(&branch, _)| branch)
                    .collect();
                for branch in lost {
                    heard.extend(self.clients.remove(&branch).map(|client| Heard::Lost { who: client.who }));
                }
            }
        }
        heard
    }

    fn open(&mut self, at: usize, ours: bool) {
        let stream = Stream { cut: Cut::new(&self.limits), buffer: BytesMut::new(), ours, up: true };
        self.streams.insert(at, stream);
    }

    fn receive(&mut self, g: &mut Ground, message: Message, way: Road, heard: &mut Vec<Heard>) {
        if !message.is_request() {
            let branch = message.top_via().branch.and_then(|branch| branch.strip_prefix(b"z9hG4bKs"));
            let branch = branch.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
            let Some(branch) = branch else { panic!("a response with a Via that is not ours") };
            if message.status() >= 200
                && let Some(client) = self.clients.remove(&branch)
            {
                heard.push(Heard::Answer { who: client.who, message });
            }
            return;
        }
        if message.method() != Method::Ack {
            match self.served.get(&key(&message)) {
                None => _ = self.served.insert(key(&message), None),
                Some(None) => return,
                Some(Some((way, octets))) => {
                    let (way, octets) = (*way, octets.clone());
                    return self.put(g, way, &octets);
                }
            }
        }
        heard.push(Heard::Request { message, way });
    }

    /// Lets every connection go: the day is over.
    pub(crate) fn leave(&mut self, g: &mut Ground) {
        for (at, _) in std::mem::take(&mut self.streams) {
            g.leave(at);
        }
    }
}

fn key(request: &Message) -> Served {
    (request.top_via().branch.unwrap_or_default().to_vec(), request.method_bytes().to_vec())
}
