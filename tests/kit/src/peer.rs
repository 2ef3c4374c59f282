//! SIP over sockets: one address, UDP or TCP; what comes in waits in an inbox until somebody expects it. Knows framing,
//! repetitions and time limits; knows no dialogs.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use crate::{
    WAIT,
    log::Log,
    sip::{self, Framed, SipMessage},
    unique,
};

/// The two transports that every SIP element has (RFC 3261 18).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Datagrams; the peer repeats.
    Udp,
    /// A stream.
    Tcp,
}

impl Transport {
    /// As it stands in Via.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }
}

/// The way back to where a message came from.
#[derive(Clone)]
pub struct Link {
    way: Way,
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    names: Arc<(String, String)>,
    log: Log,
}

#[derive(Clone)]
enum Way {
    Udp(Arc<UdpSocket>),
    Tcp(Arc<TcpStream>),
}

impl Link {
    /// Sends octets as they are.
    pub fn send(&self, octets: &[u8]) {
        self.log.moved(&self.names.0, &self.names.1, octets);
        let sent = match &self.way {
            Way::Udp(socket) => socket.send_to(octets, self.remote).map(drop),
            Way::Tcp(stream) => (&**stream).write_all(octets),
        };
        if let Err(error) = sent {
            self.log.note(&self.names.0, format!("sending to {} failed: {error}", self.remote));
        }
    }

    /// The transport under it.
    pub fn transport(&self) -> Transport {
        match self.way {
            Way::Udp(_) => Transport::Udp,
            Way::Tcp(_) => Transport::Tcp,
        }
    }

    /// Ends a stream; nothing to do for datagrams.
    pub fn close(&self) {
        if let Way::Tcp(stream) = &self.way {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

/// A message and the way back.
#[derive(Clone)]
pub struct Received {
    /// The message, judged well-formed.
    pub message: SipMessage,
    /// Where it came from.
    pub link: Link,
}

/// What came and waits to be expected. Shared by everything that may receive for the same agent.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
    log: Log,
    who: String,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Received>,
    broken: Option<String>,
    closed: usize,
    repeated: usize,
    /// Requests by branch and method, with the response that was given.
    seen: HashMap<String, Option<Vec<u8>>>,
}

impl Inbox {
    /// An empty one for the agent `who`.
    pub fn new(log: &Log, who: &str) -> Inbox {
        Inbox { shared: Arc::default(), log: log.clone(), who: who.into() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(request: &SipMessage) -> String {
        format!("{} {} {}", request.branch(), request.method(), request.call_id())
    }

    /// Takes a message in. A repeated request gets the response that its first copy got.
    pub fn put(&self, received: Received) {
        let mut state = self.state();
        if received.message.is_request() && received.message.method() != "ACK" {
            let key = Inbox::key(&received.message);
            if let Some(response) = state.seen.get(&key).cloned() {
                state.repeated += 1;
                self.shared.news.notify_all();
                drop(state);
                if let Some(response) = response {
                    received.link.send(&response);
                }
                return;
            }
            state.seen.insert(key, None);
        }
        state.waiting.push(received);
        self.shared.news.notify_all();
    }

    fn broke(&self, why: String) {
        self.log.note(&self.who, &why);
        self.state().broken.get_or_insert(why);
        self.shared.news.notify_all();
    }

    fn stream_closed(&self) {
        self.state().closed += 1;
        self.shared.news.notify_all();
    }

    /// Answers a request and remembers the answer for its repetitions.
    pub fn respond(&self, request: &Received, response: &SipMessage) {
        let octets = response.write();
        if response.code() >= 200 {
            self.state().seen.insert(Inbox::key(&request.message), Some(octets.clone()));
        }
        request.link.send(&octets);
    }

    /// Waits at most `limit` for the first message that `wanted` likes and takes it out; None when it did not come.
    #[track_caller]
    pub fn find(&self, limit: Duration, mut wanted: impl FnMut(&SipMessage) -> bool) -> Option<Received> {
        let deadline = Instant::now() + limit;
        let mut state = self.state();
        loop {
            if let Some(why) = state.broken.clone() {
                drop(state);
                self.log.fail(format!("{} received something that is not SIP: {why}", self.who));
            }
            if let Some(place) = state.waiting.iter().position(|received| wanted(&received.message)) {
                return Some(state.waiting.remove(place));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.shared.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// As [`Inbox::find`] with the usual patience; a message that does not come fails the test.
    #[track_caller]
    pub fn expect(&self, what: &str, wanted: impl FnMut(&SipMessage) -> bool) -> Received {
        match self.find(WAIT, wanted) {
            Some(received) => received,
            None => {
                let others: Vec<String> = self.unexpected().iter().map(|message| message.start.clone()).collect();
                self.log.fail(format!("{}: {what} did not come within {WAIT:?}; waiting: {others:?}", self.who))
            }
        }
    }

    /// Waits for a request of this method.
    #[track_caller]
    pub fn expect_request(&self, method: &str) -> Received {
        self.expect(&format!("a {method} request"), |message| message.method() == method)
    }

    /// What came and nobody asked for yet.
    pub fn unexpected(&self) -> Vec<SipMessage> {
        self.state().waiting.iter().map(|received| received.message.clone()).collect()
    }

    /// Requests that came again after their first copy.
    pub fn repeated(&self) -> usize {
        self.state().repeated
    }

    /// Waits until `count` requests came again.
    #[track_caller]
    pub fn expect_repeated(&self, count: usize) {
        self.until(&format!("{count} repetitions"), |state| state.repeated >= count);
    }

    /// Waits until a stream to this inbox was closed by the other end.
    #[track_caller]
    pub fn expect_closed(&self) {
        self.until("the end of the stream", |state| state.closed > 0);
    }

    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + WAIT;
        let mut state = self.state();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                self.log.fail(format!("{}: {what} did not come within {WAIT:?}", self.who));
            }
            state = self.shared.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// One address that speaks SIP.
pub struct SipPeer {
    /// Its name in the ladder.
    pub who: String,
    /// Where what it receives waits.
    pub inbox: Inbox,
    transport: Transport,
    local: SocketAddr,
    log: Log,
    names: Arc<(String, String)>,
    udp: Option<Arc<UdpSocket>>,
    link: Option<Link>,
    streams: Arc<Mutex<Vec<Weak<TcpStream>>>>,
}

impl SipPeer {
    fn new(log: &Log, who: &str, other: &str, transport: Transport, local: SocketAddr) -> SipPeer {
        SipPeer {
            who: who.into(),
            inbox: Inbox::new(log, who),
            transport,
            local,
            log: log.clone(),
            names: Arc::new((who.into(), other.into())),
            udp: None,
            link: None,
            streams: Arc::default(),
        }
    }

    /// A datagram socket on a free port of `ip`; `other` is whom it talks to, in the ladder.
    pub fn udp(log: &Log, who: &str, other: &str, ip: IpAddr) -> SipPeer {
        let socket = Arc::new(UdpSocket::bind((ip, 0)).expect("a free UDP port"));
        let local = socket.local_addr().expect("a bound socket has an address");
        let mut peer = SipPeer::new(log, who, other, Transport::Udp, local);
        peer.udp = Some(socket.clone());
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
        let (inbox, log, names, alive) =
            (peer.inbox.clone(), log.clone(), peer.names.clone(), Arc::downgrade(&peer.streams));
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while alive.strong_count() > 0 {
                let Ok((len, remote)) = socket.recv_from(&mut buffer) else { continue };
                let octets = &buffer[..len];
                log.moved(&names.1, &names.0, octets);
                let link =
                    Link { way: Way::Udp(socket.clone()), local, remote, names: names.clone(), log: log.clone() };
                if octets.iter().all(|octet| matches!(octet, b'\r' | b'\n')) {
                    continue;
                }
                match SipMessage::read(octets) {
                    Ok(message) => inbox.put(Received { message, link }),
                    Err(fault) => inbox.broke(fault.to_string()),
                }
            }
        });
        peer
    }

    /// A stream to `to`, from the same kind of loopback address.
    #[track_caller]
    pub fn tcp(log: &Log, who: &str, other: &str, to: SocketAddr) -> SipPeer {
        match SipPeer::try_tcp(log, who, other, to) {
            Ok(peer) => peer,
            Err(error) => log.fail(format!("{who} cannot connect to {to}: {error}")),
        }
    }

    /// The same where nobody may be listening.
    pub fn try_tcp(log: &Log, who: &str, other: &str, to: SocketAddr) -> std::io::Result<SipPeer> {
        let stream = TcpStream::connect_timeout(&to, WAIT)?;
        let mut peer = SipPeer::new(log, who, other, Transport::Tcp, stream.local_addr()?);
        let link = serve(Arc::new(stream), to, &peer.inbox, log, &peer.names, &peer.streams);
        peer.link = Some(link);
        Ok(peer)
    }

    /// Listens for streams on a free port of `ip`.
    pub fn tcp_listener(log: &Log, who: &str, other: &str, ip: IpAddr) -> SipPeer {
        let listener = TcpListener::bind((ip, 0)).expect("a free TCP port");
        let local = listener.local_addr().expect("a bound socket has an address");
        let peer = SipPeer::new(log, who, other, Transport::Tcp, local);
        let (inbox, log, names, streams) =
            (peer.inbox.clone(), log.clone(), peer.names.clone(), Arc::downgrade(&peer.streams));
        thread::spawn(move || {
            while let Ok((stream, remote)) = listener.accept() {
                let Some(streams) = streams.upgrade() else { break };
                serve(Arc::new(stream), remote, &inbox, &log, &names, &streams);
            }
        });
        peer
    }

    /// Its address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Its transport.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The stream it opened, or the datagram way to `to`.
    pub fn link(&self, to: SocketAddr) -> Link {
        match (&self.link, &self.udp) {
            (Some(link), _) => link.clone(),
            (None, Some(udp)) => Link {
                way: Way::Udp(udp.clone()),
                local: self.local,
                remote: to,
                names: self.names.clone(),
                log: self.log.clone(),
            },
            (None, None) => self.log.fail("a listener sends only where something came from"),
        }
    }

    /// A Via of this peer with a fresh branch.
    pub fn via(&self) -> String {
        format!("SIP/2.0/{} {};branch=z9hG4bK{};rport", self.transport.name(), self.local, unique())
    }

    /// Sends a request and waits for its final response; provisional ones are dropped.
    #[track_caller]
    pub fn exchange(&self, to: SocketAddr, request: &SipMessage) -> SipMessage {
        self.link(to).send(&request.write());
        self.expect_final(request)
    }

    /// Waits for the final response to a request that was sent.
    #[track_caller]
    pub fn expect_final(&self, request: &SipMessage) -> SipMessage {
        let (branch, method) = (request.branch().to_string(), request.method().to_string());
        let what = format!("a final response to {}", request.start);
        self.inbox
            .expect(&what, |got| got.code() >= 200 && got.branch() == branch && got.cseq_method() == method)
            .message
    }

    /// Waits for a response with this code, whatever it answers.
    #[track_caller]
    pub fn expect_response(&self, code: u16) -> SipMessage {
        self.inbox.expect(&format!("a {code} response"), |message| message.code() == code).message
    }

    /// Waits for a request of this method.
    #[track_caller]
    pub fn expect_request(&self, method: &str) -> Received {
        self.inbox.expect_request(method)
    }
}

impl Drop for SipPeer {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.close();
        }
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

/// Reads one stream until it ends.
fn serve(
    stream: Arc<TcpStream>,
    remote: SocketAddr,
    inbox: &Inbox,
    log: &Log,
    names: &Arc<(String, String)>,
    streams: &Mutex<Vec<Weak<TcpStream>>>,
) -> Link {
    stream.set_nodelay(true).ok();
    let local = stream.local_addr().unwrap_or(remote);
    streams.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&stream));
    let link = Link { way: Way::Tcp(stream.clone()), local, remote, names: names.clone(), log: log.clone() };
    let (inbox, log, names, back) = (inbox.clone(), log.clone(), names.clone(), link.clone());
    thread::spawn(move || {
        let (mut held, mut buffer) = (Vec::new(), vec![0; 65_536]);
        loop {
            match (&*stream).read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(len) => held.extend_from_slice(&buffer[..len]),
            }
            loop {
                match sip::frame(&held) {
                    Ok(Framed::More) => break,
                    Ok(Framed::KeepAlive(len)) => drop(held.drain(..len)),
                    Ok(Framed::Whole(len)) => {
                        let octets: Vec<u8> = held.drain(..len).collect();
                        log.moved(&names.1, &names.0, &octets);
                        match SipMessage::read(&octets) {
                            Ok(message) => inbox.put(Received { message, link: back.clone() }),
                            Err(fault) => inbox.broke(fault.to_string()),
                        }
                    }
                    Err(fault) => {
                        inbox.broke(fault.to_string());
                        return;
                    }
                }
            }
        }
        inbox.stream_closed();
    });
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn options(peer: &SipPeer) -> SipMessage {
        SipMessage::request("OPTIONS", "sip:example.org")
            .with("Via", peer.via())
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:a@example.org>;tag={}", unique()))
            .with("To", "<sip:example.org>")
            .with("Call-ID", unique())
            .with("CSeq", "1 OPTIONS")
    }

    #[test]
    fn a_request_and_its_response_cross_both_transports() {
        let log = Log::new();
        let servers = [SipPeer::udp(&log, "b", "a", HOME), SipPeer::tcp_listener(&log, "b", "a", HOME)];
        for server in servers {
            let client = match server.transport() {
                Transport::Udp => SipPeer::udp(&log, "a", "b", HOME),
                Transport::Tcp => SipPeer::tcp(&log, "a", "b", server.local()),
            };
            let request = options(&client);
            client.link(server.local()).send(&request.write());
            let received = server.expect_request("OPTIONS");
            server.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "t1"));
            let response = client.expect_final(&request);
            assert_eq!((response.code(), response.tag("To")), (200, Some("t1")));
        }
    }

    #[test]
    fn a_repeated_request_gets_the_same_response_again() {
        let log = Log::new();
        let (server, client) = (SipPeer::udp(&log, "b", "a", HOME), SipPeer::udp(&log, "a", "b", HOME));
        let request = options(&client);
        client.link(server.local()).send(&request.write());
        let received = server.expect_request("OPTIONS");
        server.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "t1"));
        let first = client.expect_final(&request);
        client.link(server.local()).send(&request.write());
        assert_eq!(client.expect_final(&request), first);
        assert_eq!((server.inbox.repeated(), server.inbox.unexpected().len()), (1, 0));
    }

    #[test]
    #[should_panic(expected = "not SIP")]
    fn what_is_not_sip_fails_whoever_waits() {
        let log = Log::new();
        let (server, client) = (SipPeer::udp(&log, "b", "a", HOME), SipPeer::udp(&log, "a", "b", HOME));
        client.link(server.local()).send(b"HELLO");
        server.expect_request("OPTIONS");
    }
}
