//! The far end of a push: connects or listens, judges every octet that comes, answers each SEND as its policy says, keeps
//! the messages and both raw directions.

use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    WAIT,
    log::Log,
    msrp::{self, Frame, Judge, MsrpMessage},
    unique,
};

/// What the client does about one SEND.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A response with this status.
    Status(u16),
    /// The same, after this long.
    After(Duration, u16),
    /// These octets, whatever they are.
    Raw(Vec<u8>),
    /// Nothing at all.
    Silence,
    /// 200, and from then on the socket is not read until [`MsrpClient::resume`].
    StopReading,
    /// The connection is cut with nothing said.
    Cut,
}

/// Decides about SENDs; the number counts those with content, from 0.
pub type Policy = Box<dyn FnMut(usize, &Frame) -> Vec<Reply> + Send>;

/// One MSRP endpoint.
pub struct MsrpClient {
    path: String,
    who: String,
    log: Log,
    listener: Option<SocketAddr>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    policy: Option<Policy>,
    stream: Option<Arc<TcpStream>>,
    bound: bool,
    closed: bool,
    stopped: bool,
    gone: bool,
    sends: usize,
    frames: Vec<Frame>,
    messages: Vec<MsrpMessage>,
    violation: Option<String>,
    raw_in: Vec<u8>,
    raw_out: Vec<u8>,
    judge: Judge,
}

impl MsrpClient {
    fn new(log: &Log, who: &str, path: String, listener: Option<SocketAddr>) -> MsrpClient {
        let client = MsrpClient { path, who: who.into(), log: log.clone(), listener, shared: Arc::default() };
        client.set_policy(|_, _| vec![Reply::Status(200)]);
        client
    }

    /// One that will connect: its path names port 9, since nobody reaches it (RFC 6135 4.2.1).
    pub fn active(log: &Log, who: &str, ip: IpAddr) -> MsrpClient {
        MsrpClient::new(log, who, format!("msrp://{};tcp", authority(SocketAddr::new(ip, 9), &unique())), None)
    }

    /// One that listens on a free port of `ip` and takes one connection.
    pub fn passive(log: &Log, who: &str, ip: IpAddr) -> MsrpClient {
        let listener = TcpListener::bind((ip, 0)).expect("a free TCP port");
        let local = listener.local_addr().expect("a bound socket has an address");
        let client = MsrpClient::new(log, who, format!("msrp://{};tcp", authority(local, &unique())), Some(local));
        let (shared, log, who) = (client.shared.clone(), log.clone(), who.to_string());
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if lock(&shared).gone {
                    break;
                }
                log.note(&who, "MSRP connection accepted");
                let stream = Arc::new(stream);
                lock(&shared).stream = Some(stream.clone());
                shared.news.notify_all();
                run(&stream, &shared, &log, &who);
            }
        });
        client
    }

    /// Its `a=path` value.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Writes a further URI (a relay's) in front of its own: the daemon has to carry both in To-Path.
    pub fn behind_relay(mut self, relay: &str) -> MsrpClient {
        self.path = format!("{relay} {}", self.path);
        self
    }

    /// From now on SENDs are answered by this policy; the default says 200 to each.
    pub fn set_policy(&self, policy: impl FnMut(usize, &Frame) -> Vec<Reply> + Send + 'static) {
        lock(&self.shared).policy = Some(Box::new(policy));
    }

    /// Connects to the leftmost URI of `to_path` and binds with a SEND without content; waits for its 200.
    #[track_caller]
    pub fn connect(&self, to_path: &str) {
        self.dial(to_path);
        self.write(&msrp::binding_send(&unique(), to_path, &self.path));
        self.expect_status("the answer to the binding SEND", 200);
    }

    /// Connects to the leftmost URI of `to_path` and says nothing.
    #[track_caller]
    pub fn dial(&self, to_path: &str) {
        let uri = to_path.split(' ').next().unwrap_or_default();
        let place = uri.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        let address = place.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        let stream = match address.map(|address| TcpStream::connect_timeout(&address, WAIT)) {
            Some(Ok(stream)) => Arc::new(stream),
            other => self.log.fail(format!("{}: cannot connect to {uri}: {other:?}", self.who)),
        };
        stream.set_nodelay(true).ok();
        self.log.note(&self.who, format!("MSRP connection to {place}"));
        lock(&self.shared).stream = Some(stream.clone());
        let (shared, log, who) = (self.shared.clone(), self.log.clone(), self.who.clone());
        thread::spawn(move || run(&stream, &shared, &log, &who));
    }

    /// Writes octets as they are.
    pub fn write(&self, octets: &[u8]) {
        write(&self.shared, &self.log, &self.who, octets);
    }

    /// Cuts the connection.
    pub fn cut(&self) {
        if let Some(stream) = &lock(&self.shared).stream {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Reads again after [`Reply::StopReading`].
    pub fn resume(&self) {
        lock(&self.shared).stopped = false;
        self.shared.news.notify_all();
    }

    #[track_caller]
    fn until<T>(&self, what: &str, mut done: impl FnMut(&mut State) -> Option<T>) -> T {
        let deadline = Instant::now() + WAIT;
        let mut state = lock(&self.shared);
        loop {
            if let Some(why) = state.violation.clone() {
                drop(state);
                self.log.fail(format!("{}: {why}", self.who));
            }
            if let Some(value) = done(&mut state) {
                return value;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen =
                    format!("{} SENDs, {} whole messages, closed: {}", state.sends, state.messages.len(), state.closed);
                drop(state);
                self.log.fail(format!("{}: {what} did not come within {WAIT:?}; seen: {seen}", self.who));
            }
            state = self.shared.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until there are `count` whole messages and returns all of them so far.
    #[track_caller]
    pub fn expect_messages(&self, count: usize) -> Vec<MsrpMessage> {
        self.until(&format!("{count} messages"), |state| {
            (state.messages.len() >= count).then(|| state.messages.clone())
        })
    }

    /// Waits until `count` SENDs with content came, answered or not.
    #[track_caller]
    pub fn expect_sends(&self, count: usize) {
        self.until(&format!("{count} SENDs"), |state| (state.sends >= count).then_some(()));
    }

    /// Waits for the first frame that `wanted` likes, old or new.
    #[track_caller]
    pub fn expect_frame(&self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        self.until(what, |state| state.frames.iter().find(|frame| wanted(frame)).cloned())
    }

    /// Waits for a response with this status.
    #[track_caller]
    pub fn expect_status(&self, what: &str, status: u16) -> Frame {
        self.expect_frame(&format!("{what} ({status})"), |frame| frame.status() == status)
    }

    /// Waits until the connection has ended.
    #[track_caller]
    pub fn expect_closed(&self) {
        self.until("the end of the connection", |state| state.closed.then_some(()));
    }

    /// Waits until the daemon's binding request has been answered (passive) or the connection stands.
    #[track_caller]
    pub fn expect_bound(&self) {
        self.until("a first request on the connection", |state| state.bound.then_some(()));
    }

    /// Whole messages so far.
    pub fn messages(&self) -> Vec<MsrpMessage> {
        lock(&self.shared).messages.clone()
    }

    /// Every frame so far.
    pub fn frames(&self) -> Vec<Frame> {
        lock(&self.shared).frames.clone()
    }

    /// Every octet that came, and every octet that was sent.
    pub fn raw(&self) -> (Vec<u8>, Vec<u8>) {
        let state = lock(&self.shared);
        (state.raw_in.clone(), state.raw_out.clone())
    }

    /// Judges once more at the end: nothing broken, no message left half.
    #[track_caller]
    pub fn judge(&self) {
        let state = lock(&self.shared);
        let (broken, open) = (state.violation.clone(), state.judge.is_open());
        drop(state);
        if let Some(why) = broken {
            self.log.fail(format!("{}: {why}", self.who));
        }
        if open {
            self.log.fail(format!("{}: a message was begun and never ended", self.who));
        }
    }
}

impl Drop for MsrpClient {
    fn drop(&mut self) {
        lock(&self.shared).gone = true;
        self.resume();
        self.cut();
        if let Some(listener) = self.listener {
            TcpStream::connect_timeout(&listener, Duration::from_secs(1)).ok();
        }
    }
}

fn authority(address: SocketAddr, session: &str) -> String {
    format!("{address}/{session}")
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(shared: &Shared, log: &Log, who: &str, octets: &[u8]) {
    let mut state = lock(shared);
    let Some(stream) = state.stream.clone() else { return log.note(who, "nothing to write to: no connection") };
    log.moved(who, "deferd", octets);
    state.raw_out.extend_from_slice(octets);
    drop(state);
    if let Err(error) = (&*stream).write_all(octets) {
        log.note(who, format!("MSRP write failed: {error}"));
    }
}

/// Reads a connection to its end.
fn run(stream: &Arc<TcpStream>, shared: &Arc<Shared>, log: &Log, who: &str) {
    stream.set_nodelay(true).ok();
    let (mut held, mut at, mut buffer) = (Vec::new(), 0, vec![0; 65_536]);
    'reading: loop {
        let mut state = lock(shared);
        while state.stopped && !state.gone {
            state = shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let len = match (&**stream).read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(len) => len,
        };
        held.extend_from_slice(&buffer[..len]);
        lock(shared).raw_in.extend_from_slice(&buffer[..len]);
        loop {
            let frame = match msrp::read(&held, at) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(violation) => {
                    log.note(who, violation.to_string());
                    lock(shared).violation.get_or_insert(violation.to_string());
                    shared.news.notify_all();
                    break 'reading;
                }
            };
            log.moved("deferd", who, &held[..frame.len]);
            held.drain(..frame.len);
            at += frame.len;
            if !take(&frame, stream, shared, log, who) {
                break 'reading;
            }
        }
    }
    let mut state = lock(shared);
    if !held.is_empty() && state.violation.is_none() && !state.gone {
        log.note(who, format!("the connection ended inside a frame, after {} octets of it", held.len()));
    }
    state.closed = true;
    shared.news.notify_all();
    drop(state);
    log.note(who, "MSRP connection ended");
}

/// One frame: judged, counted, answered. False ends the connection.
fn take(frame: &Frame, stream: &TcpStream, shared: &Arc<Shared>, log: &Log, who: &str) -> bool {
    let mut state = lock(shared);
    let heard = state.judge.hear(frame);
    state.frames.push(frame.clone());
    state.bound |= frame.method() == "SEND";
    match heard {
        Ok(Some(message)) => state.messages.push(message),
        Ok(None) => {}
        Err(violation) => {
            state.violation.get_or_insert(violation.to_string());
        }
    }
    let asks = frame.method() == "SEND" && frame.header("Failure-Report") != Some("no");
    let replies = if !asks {
        Vec::new()
    } else if frame.content.is_none() {
        vec![Reply::Status(200)]
    } else {
        let number = state.sends;
        state.sends += 1;
        let mut policy = state.policy.take();
        let replies = policy.as_mut().map_or_else(Vec::new, |policy| policy(number, frame));
        state.policy = policy;
        replies
    };
    for reply in &replies {
        match reply {
            Reply::Status(status) | Reply::After(_, status) => state.judge.answered(&frame.tid, *status),
            Reply::StopReading => state.judge.answered(&frame.tid, 200),
            Reply::Raw(_) | Reply::Silence | Reply::Cut => {}
        }
    }
    drop(state);
    let answer = |status: u16| msrp::response(frame, status, if status == 200 { "OK" } else { "" });
    let mut open = true;
    for reply in replies {
        match reply {
            Reply::Status(status) => write(shared, log, who, &answer(status)),
            Reply::After(pause, status) => {
                let (octets, shared, log, who) = (answer(status), shared.clone(), log.clone(), who.to_string());
                thread::spawn(move || {
                    thread::sleep(pause);
                    write(&shared, &log, &who, &octets);
                });
            }
            Reply::Raw(octets) => write(shared, log, who, &octets),
            Reply::Silence => {}
            Reply::StopReading => {
                write(shared, log, who, &answer(200));
                lock(shared).stopped = true;
            }
            Reply::Cut => {
                stream.shutdown(Shutdown::Both).ok();
                open = false;
            }
        }
    }
    shared.news.notify_all();
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn an_active_client_meets_a_passive_one() {
        let log = Log::new();
        let (listens, dials) = (MsrpClient::passive(&log, "b", HOME), MsrpClient::active(&log, "a", HOME));
        dials.connect(listens.path());
        let body = vec![b'x'; 300];
        for number in 0..3 {
            let id = format!("id{number:04}");
            dials.write(&msrp::send(&unique(), listens.path(), dials.path(), &id, "text/plain", &body));
        }
        let messages = listens.expect_messages(3);
        assert_eq!(
            messages.iter().map(|message| message.message_id.as_str()).collect::<Vec<_>>(),
            ["id0000", "id0001", "id0002"]
        );
        dials.until("four answers", |state| {
            (state.frames.iter().filter(|frame| frame.status() == 200).count() == 4).then_some(())
        });
        listens.judge();
        assert_eq!(listens.raw().0, dials.raw().1);
        dials.cut();
        listens.expect_closed();
    }

    #[test]
    fn a_policy_chooses_each_answer() {
        let log = Log::new();
        let (listens, dials) = (MsrpClient::passive(&log, "b", HOME), MsrpClient::active(&log, "a", HOME));
        listens.set_policy(|number, _| match number {
            0 => vec![Reply::Status(413)],
            1 => vec![Reply::After(Duration::from_millis(20), 200)],
            _ => vec![Reply::Cut],
        });
        dials.connect(listens.path());
        for number in 0..3 {
            dials.write(&msrp::send(
                &unique(),
                listens.path(),
                dials.path(),
                &format!("id{number:04}"),
                "text/plain",
                b"x",
            ));
        }
        listens.expect_sends(3);
        dials.expect_status("the refusal", 413);
        dials.expect_closed();
    }

    #[test]
    #[should_panic(expected = "MSRP violation at octet")]
    fn a_violation_fails_whoever_waits() {
        let log = Log::new();
        let (listens, dials) = (MsrpClient::passive(&log, "b", HOME), MsrpClient::active(&log, "a", HOME));
        dials.dial(listens.path());
        dials.write(b"MSRP abcd SEND\r\nFrom-Path: x\r\n\r\n");
        listens.expect_messages(1);
    }
}
