//! Senders that do not give up: they deposit in batches, several unanswered at a time, repeat what was not answered, and find
//! their way back to a daemon that died. Knows transactions and the ledger; knows no pushes.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    WAIT,
    agents::IM_TAG,
    chance::Chance,
    ledger::Ledger,
    peer::Transport,
    sip::{self, Framed, SipMessage},
    unique,
};

/// What a load is made of.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where SIP is spoken.
    pub to: SocketAddr,
    /// Addresses of record that are written to.
    pub users: Vec<String>,
    /// Senders over TCP, one connection each.
    pub tcp: usize,
    /// Senders over UDP, one port each.
    pub udp: usize,
    /// Messages that one sender leaves unanswered, at most.
    pub pipelined: u64,
    /// The largest body in octets; the smallest has 20.
    pub body_max: u64,
}

/// Senders at work.
pub struct Load {
    purse: Arc<Purse>,
    threads: Vec<JoinHandle<()>>,
}

/// How many more messages may be sent.
#[derive(Default)]
struct Purse {
    left: Mutex<u64>,
    news: Condvar,
    closed: AtomicBool,
}

impl Purse {
    /// Waits for something to send and takes at most `most`; 0 when the load ends.
    fn take(&self, most: u64) -> u64 {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let taken = (*left).min(most);
            *left -= taken;
            if taken > 0 || self.closed.load(Ordering::Relaxed) {
                return taken;
            }
            left = self.news.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Load {
    /// Starts senders; none sends before [`Load::grant`].
    pub fn start(ledger: &Ledger, options: &LoadOptions, chance: &mut Chance) -> Load {
        let purse: Arc<Purse> = Arc::default();
        let transports =
            std::iter::repeat_n(Transport::Tcp, options.tcp).chain(std::iter::repeat_n(Transport::Udp, options.udp));
        let threads = transports.enumerate().map(|(number, transport)| {
            let mut source = Source {
                name: format!("{}{number}", transport.name().to_ascii_lowercase()),
                wire: Wire::new(transport, options.to),
                options: options.clone(),
                chance: chance.fork(),
                ledger: ledger.clone(),
            };
            let purse = purse.clone();
            thread::spawn(move || {
                loop {
                    let most = 1 + source.chance.below(source.options.pipelined);
                    match purse.take(most) {
                        0 => break,
                        count => source.batch(count),
                    }
                }
            })
        });
        Load { threads: threads.collect(), purse }
    }

    /// Lets this many more messages be sent.
    pub fn grant(&self, count: u64) {
        *self.purse.left.lock().unwrap_or_else(PoisonError::into_inner) += count;
        self.purse.news.notify_all();
    }

    /// Waits until everything granted has been sent and answered, by 202 or 503; the daemon has to live.
    pub fn finish(self) {
        self.purse.closed.store(true, Ordering::Relaxed);
        self.purse.news.notify_all();
        for thread in self.threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

struct Source {
    name: String,
    wire: Wire,
    options: LoadOptions,
    chance: Chance,
    ledger: Ledger,
}

impl Source {
    /// Sends so many, and waits until each has its final response.
    fn batch(&mut self, count: u64) {
        let mut open: BTreeMap<String, SipMessage> = BTreeMap::new();
        for _ in 0..count {
            let user = self.chance.pick(&self.options.users).clone();
            let request = self.message(&user);
            self.ledger.sending(&user, &request);
            open.insert(request.call_id().to_string(), request);
        }
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(300));
        self.wire.send(open.values());
        let mut repeat = Instant::now() + pause;
        while !open.is_empty() {
            let responses = match self.wire.receive(repeat) {
                Ok(responses) => responses,
                // The stream is dead. RFC 3261 17.1.4: the request failed; its sender tries again, as the same message.
                Err(_) => {
                    if !self.wire.revive(begun + WAIT) {
                        return self.ledger.fault(format!("{}: no connection within {WAIT:?}", self.name));
                    }
                    let via = self.wire.via();
                    for request in open.values_mut() {
                        *request = request.clone().set("Via", format!("{via};branch=z9hG4bK{}", unique()));
                    }
                    self.wire.send(open.values());
                    continue;
                }
            };
            for response in responses.iter().filter(|response| response.code() >= 200) {
                if open.remove(response.call_id()).is_some() {
                    self.ledger.answered(response.call_id(), response.code());
                    if !matches!(response.code(), 202 | 503) {
                        self.ledger.fault(format!("{}: {} to {}", self.name, response.start, response.call_id()));
                    }
                }
            }
            if Instant::now() >= repeat {
                if begun.elapsed() > WAIT {
                    let keys: Vec<&String> = open.keys().collect();
                    return self.ledger.fault(format!("{}: no answer within {WAIT:?} to {keys:?}", self.name));
                }
                if self.wire.transport() == Transport::Udp {
                    self.wire.send(open.values());
                }
                pause = (pause * 2).min(Duration::from_secs(1));
                repeat = Instant::now() + pause;
            }
        }
    }

    fn message(&mut self, user: &str) -> SipMessage {
        let call_id = format!("{}-{}@kit", self.name, unique());
        let body = body(&mut self.chance, &call_id, self.options.body_max);
        let from = format!("sip:{}@example.org", self.name);
        SipMessage::request("MESSAGE", user)
            .with("Via", format!("{};branch=z9hG4bK{}", self.wire.via(), unique()))
            .with("Max-Forwards", "70")
            .with("From", format!("<{from}>;tag={}", unique()))
            .with("To", format!("<{user}>"))
            .with("Call-ID", call_id)
            .with("CSeq", "1 MESSAGE")
            .with("P-Asserted-Identity", format!("<{from}>"))
            .with("Accept-Contact", format!("*;{IM_TAG}"))
            .with_body("text/plain;charset=utf-8", body)
    }
}

/// A body like no other, from 20 octets to `most`: mostly short, and with everything in it that looks like framing.
fn body(chance: &mut Chance, call_id: &str, most: u64) -> Vec<u8> {
    let size = match chance.below(8) {
        0 => 20 + chance.below(most.saturating_sub(20) + 1),
        1 | 2 => 20 + chance.below(most.min(3_000).saturating_sub(20) + 1),
        _ => 20 + chance.below(most.min(400).saturating_sub(20) + 1),
    };
    let pieces = ["lorem ipsum ", "-------", "\r\n", "--", "MSRP ", "\u{20ac}\u{e9}", "-------abcdef0123456789$\r\n"];
    let mut text = format!("{}{:016x} ", &call_id[..4.min(call_id.len())], chance.draw());
    while (text.len() as u64) < size {
        let piece: &&str = chance.pick(&pieces);
        text.push_str(piece);
    }
    text.into_bytes()
}

/// A sender's socket.
enum Wire {
    Udp { socket: UdpSocket, to: SocketAddr },
    Tcp { stream: Option<TcpStream>, held: Vec<u8>, to: SocketAddr, local: Option<SocketAddr> },
}

impl Wire {
    fn new(transport: Transport, to: SocketAddr) -> Wire {
        match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind((to.ip(), 0)).expect("a free UDP port");
                Wire::Udp { socket, to }
            }
            Transport::Tcp => Wire::Tcp { stream: None, held: Vec::new(), to, local: None },
        }
    }

    fn transport(&self) -> Transport {
        match self {
            Wire::Udp { .. } => Transport::Udp,
            Wire::Tcp { .. } => Transport::Tcp,
        }
    }

    fn via(&self) -> String {
        let local = match self {
            Wire::Udp { socket, .. } => socket.local_addr().ok(),
            Wire::Tcp { local, .. } => *local,
        };
        let local = local.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5060)));
        format!("SIP/2.0/{} {local};rport", self.transport().name())
    }

    fn send<'a>(&mut self, requests: impl Iterator<Item = &'a SipMessage>) {
        match self {
            // What a dead daemon's port gives back is the answer to an earlier datagram: nothing to do but to repeat.
            Wire::Udp { socket, to } => requests.for_each(|request| drop(socket.send_to(&request.write(), *to))),
            Wire::Tcp { stream, .. } => {
                let octets: Vec<u8> = requests.flat_map(SipMessage::write).collect();
                if let Some(open) = stream
                    && open.write_all(&octets).is_err()
                {
                    *stream = None;
                }
            }
        }
    }

    /// What came, waiting for something until `deadline`; an error when the stream is dead.
    fn receive(&mut self, deadline: Instant) -> std::io::Result<Vec<SipMessage>> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut buffer = vec![0; 65_536];
        let idle = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        match self {
            Wire::Udp { socket, .. } => {
                socket.set_read_timeout(Some(left))?;
                match socket.recv(&mut buffer) {
                    Ok(len) => Ok(SipMessage::read(&buffer[..len]).into_iter().collect()),
                    Err(_) => Ok(Vec::new()),
                }
            }
            Wire::Tcp { stream, held, .. } => {
                let open = stream.as_mut().ok_or(ErrorKind::NotConnected)?;
                open.set_read_timeout(Some(left))?;
                match open.read(&mut buffer) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(len) => held.extend_from_slice(&buffer[..len]),
                    Err(error) if idle(&error) => return Ok(Vec::new()),
                    Err(error) => return Err(error),
                }
                let mut responses = Vec::new();
                loop {
                    match sip::frame(held).map_err(|fault| std::io::Error::other(fault.to_string()))? {
                        Framed::More => return Ok(responses),
                        Framed::KeepAlive(len) => drop(held.drain(..len)),
                        Framed::Whole(len) => {
                            let octets: Vec<u8> = held.drain(..len).collect();
                            responses.extend(SipMessage::read(&octets));
                        }
                    }
                }
            }
        }
    }

    /// A new connection, knocking every 5 ms; false when there is none by `deadline`.
    fn revive(&mut self, deadline: Instant) -> bool {
        let Wire::Tcp { stream, held, to, local } = self else { return true };
        held.clear();
        *stream = None;
        while stream.is_none() && Instant::now() < deadline {
            match TcpStream::connect_timeout(to, Duration::from_secs(1)) {
                Ok(open) => {
                    open.set_nodelay(true).ok();
                    *local = open.local_addr().ok();
                    *stream = Some(open);
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
        stream.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A daemon by hand: the first life reads and says nothing, the second answers 202.
    #[test]
    fn what_a_dead_daemon_did_not_answer_is_sent_again_as_the_same_message() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ledger = Ledger::new();
        let options = LoadOptions {
            to: listener.local_addr().unwrap(),
            users: vec!["sip:bob@example.org".into()],
            tcp: 1,
            udp: 0,
            pipelined: 1,
            body_max: 12_288,
        };
        let load = Load::start(&ledger, &options, &mut Chance::new(1));
        load.grant(1);
        let take = |mut stream: TcpStream| {
            let mut held = Vec::new();
            loop {
                if let Framed::Whole(len) = sip::frame(&held).unwrap() {
                    return (SipMessage::read(&held[..len]).unwrap(), stream);
                }
                let mut buffer = [0; 4096];
                let len = stream.read(&mut buffer).unwrap();
                held.extend_from_slice(&buffer[..len]);
            }
        };
        let (first, stream) = take(listener.accept().unwrap().0);
        drop(stream);
        let (second, mut stream) = take(listener.accept().unwrap().0);
        assert_eq!((first.call_id(), &first.body), (second.call_id(), &second.body));
        assert_ne!(first.branch(), second.branch());
        stream.write_all(&SipMessage::response(&second, 202, "Accepted", "t").write()).unwrap();
        load.finish();
        assert_eq!(ledger.sums().accepted, 1);
    }
}
