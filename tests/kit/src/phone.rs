//! A user's phone in bad weather: it publishes when it likes, takes pushes in every way there is, acknowledges late or not at
//! all, and finds its way back to a daemon that died. Whatever it hears goes into the ledger. Knows the client's side of a
//! push; judges only what can be judged at once.

mod erase;

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    agents::Client,
    call::Call,
    chance::Chance,
    judge::Judge,
    ledger::{Ledger, PushNo},
    log::Log,
    msrp::{self, Frame},
    peer::{Received, SipPeer, Transport},
    sdp::{Answer, Sdp, Setup},
    sip::{SipMessage, user_of},
    unique,
};

/// How a phone behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Publishes at random, refuses, is late, is silent.
    Wild,
    /// Online and prompt, until nothing waits.
    Steady,
    /// Switched off.
    Off,
}

/// The mood of all phones that share it.
#[derive(Clone)]
pub struct Weather(Arc<AtomicU8>);

impl Weather {
    /// Begins with this mood.
    pub fn new(mood: Mood) -> Weather {
        Weather(Arc::new(AtomicU8::new(mood as u8)))
    }

    /// From now on it is this.
    pub fn turn(&self, mood: Mood) {
        self.0.store(mood as u8, Ordering::Relaxed);
    }

    fn mood(&self) -> Mood {
        [Mood::Wild, Mood::Steady, Mood::Off][usize::from(self.0.load(Ordering::Relaxed)).min(2)]
    }
}

/// One phone, on a thread of its own until the weather is [`Mood::Off`].
pub struct Phone(JoinHandle<()>);

impl Phone {
    /// Switches a phone on.
    pub fn start(
        ledger: &Ledger,
        weather: &Weather,
        transport: Transport,
        aor: &str,
        to: SocketAddr,
        chance: Chance,
    ) -> Phone {
        Phone::switched_on(ledger, weather, transport, aor, to, chance, false)
    }

    /// Switches on the phone of somebody who now and then has everything deleted.
    pub fn tidy(
        ledger: &Ledger,
        weather: &Weather,
        transport: Transport,
        aor: &str,
        to: SocketAddr,
        chance: Chance,
    ) -> Phone {
        Phone::switched_on(ledger, weather, transport, aor, to, chance, true)
    }

    fn switched_on(
        ledger: &Ledger,
        weather: &Weather,
        transport: Transport,
        aor: &str,
        to: SocketAddr,
        chance: Chance,
        tidies: bool,
    ) -> Phone {
        let (ledger, weather, aor) = (ledger.clone(), weather.clone(), aor.to_string());
        Phone(thread::spawn(move || {
            let line = Line { transport, to, deaths: 0, client: None, tag: None, doubt: false };
            Owner { ledger, weather, aor, chance, line, next: None, tidies, errands: Vec::new() }.live();
        }))
    }

    /// Waits for its end; a panic of its own becomes the test's.
    pub fn join(self) {
        if let Err(panic) = self.0.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The way to the daemon, and what was published over it.
struct Line {
    transport: Transport,
    to: SocketAddr,
    /// Deaths of the daemon that this connection knows of.
    deaths: usize,
    client: Option<Client>,
    tag: Option<String>,
    /// A PUBLISH got no answer: the tag may be an old one.
    doubt: bool,
}

struct Owner {
    ledger: Ledger,
    weather: Weather,
    aor: String,
    chance: Chance,
    line: Line,
    /// An INVITE that came while another push was under way.
    next: Option<Received>,
    /// Has everything deleted now and then.
    tidies: bool,
    errands: Vec<erase::Errand>,
}

/// How the client treats what it is sent in one push.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Prompt,
    Late { most_ms: u64 },
    Forgets { one_in: u64 },
    FallsSilent { after: u64 },
}

/// A 200 that is due.
struct Due {
    at: Instant,
    tid: String,
    octets: Vec<u8>,
    /// The message that is whole with it.
    whole: Option<usize>,
}

impl Owner {
    fn live(mut self) {
        loop {
            let mood = self.weather.mood();
            if mood == Mood::Off {
                return;
            }
            if !self.online() {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            let steady = mood == Mood::Steady;
            self.errands();
            if self.tidies && !steady && self.chance.one_in(5) {
                self.erase();
            }
            match self.chance.below(6) {
                _ if steady && self.ledger.waiting_for(&self.aor) == 0 => {}
                _ if steady => self.publish(true),
                0..=2 => self.publish(true),
                3 => self.publish(false),
                _ => {}
            }
            let until = Instant::now() + if steady { Duration::from_millis(150) } else { self.chance.millis(250) };
            while let Some(received) = self.request(until) {
                match received.message.method() {
                    "INVITE" => self.push(received),
                    "BYE" => self.bye(&received),
                    _ => {}
                }
            }
        }
    }

    /// A connection; over TCP a new one after each death.
    fn online(&mut self) -> bool {
        let deaths = self.ledger.deaths();
        if self.line.client.is_some() && (self.line.transport == Transport::Udp || self.line.deaths == deaths) {
            return true;
        }
        let (log, user) = (Log::new(), user_of(&self.aor).to_string());
        let peer = match self.line.transport {
            Transport::Udp => Ok(SipPeer::udp(&log, &user, "deferd", self.line.to.ip())),
            Transport::Tcp => SipPeer::try_tcp(&log, &user, "deferd", self.line.to),
        };
        self.line.client = peer.ok().map(|peer| Client::over(&log, peer, &self.aor, self.line.to));
        self.line.deaths = deaths;
        self.line.client.is_some()
    }

    fn find(&self, until: Instant, wanted: impl FnMut(&SipMessage) -> bool) -> Option<Received> {
        let client = self.line.client.as_ref()?;
        client.inbox.find(until.saturating_duration_since(Instant::now()), wanted)
    }

    /// The next request, at the latest when this connection or the time is over.
    fn request(&mut self, until: Instant) -> Option<Received> {
        self.next.take().or_else(|| self.find(until, SipMessage::is_request))
    }

    fn publish(&mut self, open: bool) {
        let Some(client) = &self.line.client else { return };
        let request = client.presence(open);
        let had = self.line.tag.clone();
        let request = match &had {
            Some(tag) => request.with("SIP-If-Match", tag.clone()),
            None => request,
        };
        let (octets, branch) = (request.write(), request.branch().to_string());
        let tries = if self.line.transport == Transport::Udp { 3 } else { 1 };
        let mut answer = None;
        for number in 0..tries {
            client.send_raw(&octets);
            let until = Instant::now() + Duration::from_millis(1200 / tries);
            answer = self.find(until, |message| message.code() >= 200 && message.branch() == branch);
            if answer.is_some() {
                // A daemon that died may have taken the first copy, and its successor refuses the second.
                self.line.doubt |= number > 0;
                break;
            }
        }
        match answer.map(|received| received.message) {
            Some(ok) if ok.code() == 200 => {
                self.line.tag = ok.header("SIP-ETag").map(str::to_string);
                self.line.doubt = false;
            }
            Some(no) if no.code() == 412 && self.line.doubt => self.line.tag = None,
            Some(no) if no.code() == 503 => {}
            Some(no) => self.ledger.fault(format!("{}: PUBLISH with tag {had:?}: {}", self.aor, no.start)),
            None => {
                self.line.doubt = true;
                // A stream may have reached the daemon that was just dying: the next attempt opens another.
                if self.line.transport == Transport::Tcp {
                    self.line.client = None;
                }
            }
        }
    }

    fn bye(&self, received: &Received) {
        if let Some(client) = &self.line.client {
            client.inbox.respond(received, &SipMessage::response(&received.message, 200, "OK", "x"));
        }
        self.ledger.ended(received.message.call_id());
    }

    /// One push, from INVITE to BYE or to the daemon's death.
    fn push(&mut self, invite: Received) {
        let Some(client) = &self.line.client else { return };
        let inbox = client.inbox.clone();
        // BYEs that came before this INVITE end what they end before it begins.
        while let Some(bye) = inbox.find(Duration::ZERO, |message| message.method() == "BYE") {
            self.bye(&bye);
        }
        // Of several only the last is a living daemon's: with a second of patience for each of the dead, a phone that is
        // invited in every life would still be answering the first when the test is over.
        let mut invite = invite;
        while let Some(later) = inbox.find(Duration::ZERO, |message| message.method() == "INVITE") {
            invite = later;
        }
        let deaths = self.ledger.deaths();
        let push = self.ledger.invited(&self.aor, invite.message.call_id());
        let call = Call::new(invite, &inbox, &Log::new(), &client.contact);
        let wild = self.weather.mood() == Mood::Wild;
        let call_id = call.request().call_id().to_string();
        let acked = |message: &SipMessage| message.method() == "ACK" && message.call_id() == call_id;
        if wild && self.chance.one_in(20) {
            call.respond(480, "Temporarily Unavailable");
            inbox.find(Duration::from_millis(300), acked);
            return;
        }
        let Ok(offer) = Sdp::read(&call.request().body) else {
            return self.ledger.fault(format!("{}: an offer that is not SDP", self.aor));
        };
        let theirs = offer.attribute("path").unwrap_or_default().to_string();
        let setup = *self.chance.pick(&[Setup::Active, Setup::Passive, Setup::Absent]);
        let listener = TcpListener::bind((self.line.to.ip(), 0)).expect("a free TCP port");
        let port = listener.local_addr().map_or(9, |local| local.port());
        let ours = format!("msrp://{};tcp", format_args!("{}/{}", SocketAddr::new(self.line.to.ip(), port), unique()));
        let ok = call.accept_with(&Answer::new(&ours, setup).write());
        let mut ack = None;
        for _ in 0..3 {
            call.send(&ok);
            ack = inbox.find(Duration::from_millis(500), acked);
            if ack.is_some() || self.ledger.deaths() != deaths || self.line.transport == Transport::Tcp {
                break;
            }
        }
        if ack.is_none() {
            return;
        }
        self.ledger.established(push);
        let stream = match setup {
            Setup::Active => dial(&theirs, &ours),
            _ => accept(&listener, || self.ledger.deaths() != deaths),
        };
        let manner = match self.chance.below(16) {
            _ if !wild => Manner::Prompt,
            0 | 1 => Manner::Late { most_ms: 60 },
            2 | 3 => Manner::Late { most_ms: 5 },
            4 => Manner::Forgets { one_in: 6 },
            5 => Manner::FallsSilent { after: self.chance.below(12) },
            _ => Manner::Prompt,
        };
        self.take(push, &call_id, stream, manner, deaths);
    }

    /// Takes messages until BYE. Without one the daemon is dead, or its faults are found by the ledger.
    fn take(&mut self, push: PushNo, call_id: &str, stream: Option<TcpStream>, manner: Manner, deaths: usize) {
        let mut ears = Ears { judge: Judge::new(), held: Vec::new(), due: VecDeque::new(), spoiled: None, chunks: 0 };
        let mut stream = stream;
        let mut quiet = Instant::now();
        let mut tidies = self.tidies && self.weather.mood() == Mood::Wild && self.chance.one_in(6);
        loop {
            self.errands();
            // In the middle of it.
            if tidies && ears.chunks > 2 {
                tidies = false;
                self.erase();
            }
            let pause = if stream.is_some() { Duration::ZERO } else { Duration::from_millis(10) };
            let client = self.line.client.as_ref();
            let inbox = client.map(|client| client.inbox.clone());
            let received = inbox.and_then(|inbox| inbox.find(pause, SipMessage::is_request));
            if let Some(received) = received {
                match received.message.method() {
                    "BYE" => {
                        self.bye(&received);
                        if received.message.call_id() == call_id {
                            return;
                        }
                    }
                    "INVITE" => {
                        self.next = Some(received);
                        return;
                    }
                    _ => {}
                }
            }
            // The daemon is dead, or keeps the BYE to itself: more than its own patience is not waited for. A connection that
            // reached the next daemon instead of the one that offered it stays open, and silent, beyond that.
            let died = self.ledger.deaths() != deaths;
            if quiet.elapsed() > Duration::from_secs(8) || died && quiet.elapsed() > Duration::from_secs(1) {
                return;
            }
            let Some(open) = &mut stream else {
                if died {
                    return;
                }
                continue;
            };
            match ears.listen(open, &self.ledger, push, manner, &mut self.chance) {
                Ok(true) => quiet = Instant::now(),
                Ok(false) => {}
                Err(_) => {
                    stream = None;
                    quiet = Instant::now();
                }
            }
        }
    }
}

/// One MSRP connection, as the client hears it.
struct Ears {
    judge: Judge,
    held: Vec<u8>,
    due: VecDeque<Due>,
    /// The message of which an answer was left out.
    spoiled: Option<String>,
    chunks: u64,
}

impl Ears {
    /// Reads for at most 5 ms, and writes what is due; whether something came. An error: the connection is over.
    fn listen(
        &mut self,
        stream: &mut TcpStream,
        ledger: &Ledger,
        push: PushNo,
        manner: Manner,
        chance: &mut Chance,
    ) -> std::io::Result<bool> {
        while self.due.front().is_some_and(|due| due.at <= Instant::now()) {
            let Some(due) = self.due.pop_front() else { break };
            self.judge.answered(&due.tid, 200);
            // Before the octets leave: the BYE that they allow must not overtake the note.
            if let Some(number) = due.whole {
                ledger.acknowledged(push, number);
            }
            stream.write_all(&due.octets)?;
        }
        let mut buffer = vec![0; 65_536];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.held.extend_from_slice(&buffer[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
            Err(error) => return Err(error),
        }
        loop {
            let read = msrp::read(&self.held, 0);
            let frame = match read {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(true),
                Err(violation) => {
                    ledger.fault(violation.to_string());
                    return Err(ErrorKind::InvalidData.into());
                }
            };
            self.held.drain(..frame.len);
            self.hear(&frame, ledger, push, manner, chance);
        }
    }

    fn hear(&mut self, frame: &Frame, ledger: &Ledger, push: PushNo, manner: Manner, chance: &mut Chance) {
        let heard = match self.judge.hear(frame) {
            Ok(heard) => heard.map(|message| ledger.heard(push, &message)),
            Err(violation) => return ledger.fault(violation.to_string()),
        };
        if frame.method() != "SEND" {
            return;
        }
        let mut at = Instant::now();
        if frame.content.is_some() {
            self.chunks += 1;
            let message_id = frame.header("Message-ID").unwrap_or_default();
            let forgets = match manner {
                Manner::Prompt => false,
                Manner::Late { most_ms } => {
                    at += chance.millis(most_ms);
                    false
                }
                Manner::Forgets { one_in } => chance.one_in(one_in),
                Manner::FallsSilent { after } => self.chunks > after,
            };
            if forgets {
                self.spoiled = Some(message_id.into());
                return;
            }
            // First come, first answered.
            at = self.due.back().map_or(at, |last| last.at.max(at));
            let whole = heard.filter(|_| self.spoiled.as_deref() != Some(message_id));
            let octets = msrp::response(frame, 200, "OK");
            self.due.push_back(Due { at, tid: frame.tid.clone(), octets, whole });
        } else {
            let octets = msrp::response(frame, 200, "OK");
            self.due.push_back(Due { at, tid: frame.tid.clone(), octets, whole: None });
        }
    }
}

/// Connects and binds; None when nobody listens (any more).
fn dial(theirs: &str, ours: &str) -> Option<TcpStream> {
    let place = theirs.split(' ').next()?.split_once("://")?.1.split('/').next()?;
    let address = place.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.write_all(&msrp::binding_send(&unique(), theirs, ours)).ok()?;
    tuned(stream)
}

/// Waits for the daemon to connect, at most 3 s or until `given_up`.
fn accept(listener: &TcpListener, given_up: impl Fn() -> bool) -> Option<TcpStream> {
    listener.set_nonblocking(true).ok()?;
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).ok()?;
                return tuned(stream);
            }
            Err(_) if Instant::now() < deadline && !given_up() => thread::sleep(Duration::from_millis(2)),
            Err(_) => return None,
        }
    }
}

fn tuned(stream: TcpStream) -> Option<TcpStream> {
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(5))).ok()?;
    Some(stream)
}
