//! Trials of the interpreter: small minds on real rings, sockets and files, everything on loopback.

use super::clock::Clock;
use super::data_dir::DataDir;
use super::listen::{self, Bound};
use super::socket::Tuning;
use super::thread::{self, CoreEvent, CoreSpec, Mail, Mind};
use crate::base::clock::{Now, Tick};
use crate::base::gather::Gather;
use crate::base::net::{ConnId, CoreId, SocketId};
use crate::engine::effect::Effect;
use crate::engine::input::Input;
use crate::engine::setup::{SipAddress, Transport};
use crate::store::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

type Script = Box<dyn FnMut(Now, Input, &mut VecDeque<Effect>) + Send>;

/// A mind that is one closure; the bells and deadlines are extras.
struct Tiny {
    script: Script,
    effects: VecDeque<Effect>,
    deadline: Option<Tick>,
}

impl Mind for Tiny {
    fn handle(&mut self, now: Now, input: Input) {
        if matches!(input, Input::Stop) {
            self.effects.push_back(Effect::Stopped);
        } else {
            (self.script)(now, input, &mut self.effects);
        }
    }
    fn turn(&mut self, now: Now) {
        if self.deadline.is_some_and(|at| at <= now.tick) {
            self.deadline = None;
            self.effects.push_back(Effect::Stopped);
        }
    }
    fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
    fn deadline(&self) -> Option<Tick> {
        self.deadline
    }
    fn has_mail(&self) -> bool {
        false
    }
}

struct Running {
    mail: Arc<Mail>,
    events: Receiver<CoreEvent>,
    threads: Vec<JoinHandle<()>>,
    sip: Vec<SocketAddr>,
    data: Arc<DataDir>,
    _place: tempfile::TempDir,
}

impl Running {
    /// Waits until all cores have ended.
    fn join(self) {
        for thread in self.threads {
            thread.join().unwrap();
        }
        let ended = self.events.try_iter().filter(|event| matches!(event, CoreEvent::Ended(_))).count();
        assert!(ended > 0, "a core ends with Stopped");
    }

    fn stop(self) {
        self.mail.stop_all();
        self.join();
    }
}

/// One core per mind, one UDP and one TCP socket each.
fn start<M: Mind + Send + 'static>(minds: Vec<M>) -> Running {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listen = [Transport::Udp, Transport::Tcp].map(|transport| SipAddress { transport, addr: any });
    let Bound { cores, sip, .. } = listen::bind(&listen, &[any], minds.len() as u16).unwrap();
    let place = tempfile::tempdir().unwrap();
    let data = Arc::new(DataDir::open(place.path()).unwrap());
    let mail = Mail::new(minds.len() as u16, 16, 16);
    let (sender, events) = mpsc::channel();
    let clock = Clock::start();
    let count = minds.len();
    let threads = minds
        .into_iter()
        .zip(cores)
        .enumerate()
        .map(|(number, (mind, sockets))| {
            let spec = CoreSpec {
                core: CoreId(number as u16),
                cpu: None,
                clock,
                mail: mail.clone(),
                sockets,
                data: data.clone(),
                tuning: Tuning { unsent_octets: 256 * 1024 },
                mind: move || mind,
            };
            thread::spawn(spec, sender.clone()).unwrap()
        })
        .collect();
    for _ in 0..count {
        let event = events.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(event, CoreEvent::Started(_)), "{event:?}");
    }
    Running { mail, events, threads, sip: sip.iter().map(|to| to.addr).collect(), data, _place: place }
}

fn script(script: impl FnMut(Now, Input, &mut VecDeque<Effect>) + Send + 'static) -> Tiny {
    Tiny { script: Box::new(script), effects: VecDeque::new(), deadline: None }
}

/// Sends back what it reads, as a mind would: one read and one send under way per connection.
fn echo() -> Tiny {
    script(|_, input, effects| match input {
        Input::Accepted { conn, .. } => {
            effects.push_back(Effect::Receive { conn, buffer: BytesMut::with_capacity(4096) })
        }
        Input::Received { conn, mut buffer, outcome: Ok(count) } if count > 0 => {
            let mut gather = Gather::new();
            gather.push(buffer.split().freeze());
            effects.push_back(Effect::Send { conn, gather });
        }
        Input::Received { conn, .. } => effects.push_back(Effect::Close { conn, reset: false }),
        Input::Sent { conn, .. } => effects.push_back(Effect::Receive { conn, buffer: BytesMut::with_capacity(4096) }),
        Input::Datagram { socket, peer, octets } => {
            effects.push_back(Effect::SendDatagram { socket, to: peer, octets })
        }
        _ => {}
    })
}

fn client(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_thousand_connections_are_echoed() {
    super::host::raise_descriptors();
    let running = start(vec![echo()]);
    let mut clients: Vec<TcpStream> = (0..1000).map(|_| client(running.sip[1])).collect();
    for round in 0..3u8 {
        for (number, stream) in clients.iter_mut().enumerate() {
            stream.write_all(&[round; 100]).and_then(|()| stream.write_all(&[number as u8])).unwrap();
        }
        for (number, stream) in clients.iter_mut().enumerate() {
            let mut back = [0; 101];
            stream.read_exact(&mut back).unwrap();
            assert_eq!((back[0], back[99], back[100]), (round, round, number as u8));
        }
    }
    for mut stream in clients {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
    running.stop();
}

#[test]
fn datagrams_come_in_bursts_and_go_back_to_their_sender() {
    let running = start(vec![echo()]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(running.sip[0]).unwrap();
    for size in [1, 1300, 65_000] {
        socket.send(&vec![7; size]).unwrap();
        let mut back = vec![0; 65_536];
        assert_eq!(socket.recv(&mut back).unwrap(), size);
        assert_eq!(back[size - 1], 7);
    }
    for number in 0..200u8 {
        socket.send(&[number; 50]).unwrap();
    }
    for number in 0..200u8 {
        let mut back = [0; 100];
        assert_eq!(socket.recv(&mut back).unwrap(), 50);
        assert_eq!(back[0], number);
    }
    running.stop();
}

/// 600 heads of 20 octets and 600 bodies by reference, twice over, are 2,400 pieces: three SENDMSG, each of them short at times,
/// for the client reads slowly.
#[test]
fn a_gather_of_many_pieces_arrives_whole_and_in_order() {
    let body = Bytes::from((0..4096u32).map(|n| n as u8).collect::<Vec<u8>>());
    let build = move || {
        let mut gather = Gather::new();
        let held = gather.hold(body.clone());
        for number in 0..1200u32 {
            gather.put(format!("head {number:015}").as_bytes());
            gather.refer(held, number as usize % 256, 3000);
        }
        gather
    };
    let expected = build().to_vec();
    assert_eq!(build().pieces(), 2400);
    let (done, sent) = mpsc::channel();
    let running = start(vec![script(move |_, input, effects| match input {
        Input::Accepted { conn, .. } => effects.push_back(Effect::Send { conn, gather: build() }),
        Input::Sent { conn, gather, outcome } => {
            done.send((gather.len(), outcome)).unwrap();
            effects.push_back(Effect::Close { conn, reset: false });
        }
        _ => {}
    })]);
    let mut stream = client(running.sip[1]);
    let mut back = Vec::new();
    let mut piece = vec![0; 10_000];
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            count => back.extend_from_slice(&piece[..count]),
        }
    }
    assert!(back == expected, "{} of {} octets", back.len(), expected.len());
    assert_eq!(sent.recv_timeout(PATIENCE).unwrap(), (expected.len(), Ok(())));
    running.stop();
}

/// What a mind heard of a connection, in order.
fn story(input: &Input) -> Option<String> {
    Some(match input {
        Input::Received { outcome, .. } => format!("received {outcome:?}"),
        Input::Sent { outcome, .. } => format!("sent {}", if outcome.is_ok() { "ok" } else { "broken" }),
        Input::Closed { .. } => "closed".into(),
        Input::Connected { .. } => "connected".into(),
        Input::ConnectFailed { error, .. } => format!("failed {error:?}"),
        _ => return None,
    })
}

fn tell(told: &Sender<String>, input: &Input) {
    if let Some(story) = story(input) {
        told.send(story).unwrap();
    }
}

/// Accepts, lends a buffer to read and more to send than the kernel takes, then closes over both.
fn closer(told: Sender<String>, reset: bool) -> Tiny {
    script(move |_, input, effects| {
        tell(&told, &input);
        if let Input::Accepted { conn, .. } = input {
            effects.push_back(Effect::Receive { conn, buffer: BytesMut::with_capacity(64) });
            let mut gather = Gather::new();
            gather.push(Bytes::from(vec![1; 64 << 20]));
            effects.push_back(Effect::Send { conn, gather });
        } else if let Input::Datagram { .. } = input {
            effects.push_back(Effect::Close { conn: ConnId(2), reset });
            effects.push_back(Effect::Close { conn: ConnId(2), reset });
        }
    })
}

fn close_while_busy(reset: bool) -> (Vec<String>, std::io::Result<usize>) {
    let (told, heard) = mpsc::channel();
    let running = start(vec![closer(told, reset)]);
    let mut stream = client(running.sip[1]);
    // The first octet is there: both operations are under way.
    stream.read_exact(&mut [0]).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"close", running.sip[0]).unwrap();
    let stories: Vec<String> = (0..3).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    let end = std::io::copy(&mut stream, &mut std::io::sink()).map(|count| count as usize);
    running.stop();
    assert!(heard.try_recv().is_err(), "closed comes once");
    (stories, end)
}

#[test]
fn closing_ends_what_is_under_way_and_says_so_last() {
    let (mut stories, end) = close_while_busy(false);
    assert_eq!(stories.pop().as_deref(), Some("closed"));
    stories.sort();
    assert_eq!(stories, ["received Ok(0)", "sent broken"]);
    // A FIN behind what the kernel had taken.
    assert!(end.is_ok_and(|count| count > 0));
}

#[test]
fn a_reset_throws_away_what_is_queued() {
    let (mut stories, end) = close_while_busy(true);
    assert_eq!(stories.pop().as_deref(), Some("closed"));
    stories.sort();
    assert!(stories[0].starts_with("received "), "{stories:?}");
    assert_eq!(stories[1], "sent broken");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_connection_can_be_opened_from_a_bound_port_and_a_refusal_is_final() {
    let (told, heard) = mpsc::channel();
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = peer.local_addr().unwrap();
    let nobody = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    let mut from = None;
    let mut mind = script(move |_, input, effects| {
        tell(&told, &input);
        match input {
            Input::Datagram { octets, .. } => {
                let bind = Some(std::str::from_utf8(&octets).unwrap().parse().unwrap());
                from = bind;
                effects.push_back(Effect::Connect { conn: ConnId(1), to, bind });
            }
            Input::Connected { conn, local } => {
                assert_eq!((conn, Some(local)), (ConnId(1), from));
                let mut gather = Gather::new();
                gather.put(b"hello");
                effects.push_back(Effect::Send { conn, gather });
            }
            Input::Sent { conn, .. } => effects.push_back(Effect::Close { conn, reset: false }),
            Input::Closed { conn } => {
                // What is lent for a connection that is gone comes back.
                effects.push_back(Effect::Receive { conn, buffer: BytesMut::with_capacity(9) });
            }
            Input::Received { buffer, .. } => {
                assert_eq!(buffer.capacity(), 9);
                effects.push_back(Effect::Connect { conn: ConnId(3), to: nobody, bind: None });
            }
            _ => {}
        }
    });
    mind.effects.clear();
    let running = start(vec![mind]);
    // The SIP listener's own port, as MSRP does with its own (spec 21.2).
    let bind = running.sip[1].to_string();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(bind.as_bytes(), running.sip[0]).unwrap();
    let (mut stream, seen) = peer.accept().unwrap();
    assert_eq!(seen, running.sip[1]);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let stories: Vec<String> = (0..5).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(stories, ["connected", "sent ok", "closed", "received Err(NotConnected)", "failed ConnectionRefused"]);
    running.stop();
}

#[test]
fn a_segment_is_prepared_committed_read_and_removed() {
    const OCTETS: u64 = 1 << 20;
    let log = CoreId(0);
    let segment = SegmentNo(7);
    let (told, heard) = mpsc::channel();
    let mut mind = script(move |_, input, effects| {
        let Input::Disk(done) = input else { return };
        let next = match &done {
            DiskDone::Prepared { ticket: 1, .. } => {
                let mut gather = Gather::new();
                for number in 0..1500u32 {
                    gather.put(&number.to_be_bytes());
                    gather.push(Bytes::from(vec![number as u8; 800]));
                }
                // Longer than the file was: it may grow.
                Some(DiskOp::Commit { ticket: 2, log, segment, at: 4096, gather })
            }
            DiskDone::Committed { ticket: 2, .. } => {
                let mut gather = Gather::new();
                gather.put(b"small");
                Some(DiskOp::Commit { ticket: 3, log, segment, at: 512, gather })
            }
            DiskDone::Committed { ticket: 3, .. } => {
                let buffer = BytesMut::with_capacity(8000);
                Some(DiskOp::Read { ticket: 4, log, segment, at: 0, len: 8000, buffer })
            }
            DiskDone::Read { ticket: 4, .. } => {
                let at = 4096 + 1500 * 804 - 10;
                Some(DiskOp::Read { ticket: 5, log, segment, at, len: 100, buffer: BytesMut::new() })
            }
            DiskDone::Read { ticket: 5, .. } => {
                let header = BytesMut::from(&b"again"[..]);
                Some(DiskOp::Prepare { ticket: 6, log, segment, octets: OCTETS, header })
            }
            DiskDone::Prepared { ticket: 6, .. } => Some(DiskOp::Remove { ticket: 7, log, segment }),
            DiskDone::Removed { ticket: 7, .. } => {
                Some(DiskOp::Read { ticket: 8, log, segment, at: 0, len: 1, buffer: BytesMut::new() })
            }
            _ => None,
        };
        told.send(done).unwrap();
        effects.extend(next.map(Effect::Disk));
    });
    let header = BytesMut::from(&b"DEFERDLG"[..]);
    mind.effects.push_back(Effect::Disk(DiskOp::Prepare { ticket: 1, log, segment, octets: OCTETS, header }));
    let running = start(vec![mind]);
    let next = || heard.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(next(), DiskDone::Prepared { outcome: Ok(()), .. }));
    let DiskDone::Committed { gather, outcome, .. } = next() else { panic!("a commit") };
    assert_eq!((gather.len(), outcome), (1500 * 804, Ok(())));
    assert!(matches!(next(), DiskDone::Committed { outcome: Ok(()), .. }));
    let DiskDone::Read { buffer, outcome: Ok(()), .. } = next() else { panic!("a read") };
    assert_eq!(buffer.len(), 8000);
    assert_eq!((&buffer[..8], &buffer[512..517]), (&b"DEFERDLG"[..], &b"small"[..]));
    assert_eq!(&buffer[4096..], &gather.to_vec()[..8000 - 4096]);
    let DiskDone::Read { buffer, outcome: Ok(()), .. } = next() else { panic!("a read") };
    assert_eq!(&buffer[..], [1499u32 as u8; 10], "short at the file's end");
    let twice = DiskFault::Errno(libc::EEXIST);
    assert!(matches!(next(), DiskDone::Prepared { outcome: Err(fault), .. } if fault == twice));
    assert!(matches!(next(), DiskDone::Removed { outcome: Ok(()), .. }));
    assert!(matches!(next(), DiskDone::Read { outcome: Err(DiskFault::Missing), .. }));
    assert!(running.data.segments().unwrap().is_empty());
    running.stop();
}

/// Counts its own visits and rings the other, until both have had enough.
struct Pong {
    me: usize,
    balls: Arc<[AtomicU64; 2]>,
    seen: u64,
    most: u64,
    effects: VecDeque<Effect>,
}

impl Mind for Pong {
    fn handle(&mut self, _: Now, _: Input) {}
    fn turn(&mut self, _: Now) {
        let ball = self.balls[self.me].load(Ordering::Acquire);
        if ball == self.seen {
            return;
        }
        self.seen = ball;
        let other = 1 - self.me;
        self.balls[other].store(ball + 1, Ordering::Release);
        self.effects.push_back(Effect::Ring { core: CoreId(other as u16) });
        if ball >= self.most {
            self.effects.push_back(Effect::Stopped);
        }
    }
    fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
    fn deadline(&self) -> Option<Tick> {
        None
    }
    fn has_mail(&self) -> bool {
        self.balls[self.me].load(Ordering::Acquire) != self.seen
    }
}

#[test]
fn no_ring_between_two_cores_is_lost() {
    const RINGS: u64 = 100_000;
    let balls = Arc::new([AtomicU64::new(1), AtomicU64::new(0)]);
    let pong = |me: usize| Pong { me, balls: balls.clone(), seen: 0, most: RINGS, effects: VecDeque::new() };
    let running = start(vec![pong(0), pong(1)]);
    running.join();
    assert!(balls[0].load(Ordering::Relaxed).max(balls[1].load(Ordering::Relaxed)) > RINGS);
}

#[test]
fn a_core_sleeps_until_its_deadline_and_not_longer() {
    let mut mind = script(|_, _, _| {});
    mind.deadline = Some(Tick(150_000));
    let began = Instant::now();
    start(vec![mind]).join();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(145) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_datagram_for_a_socket_that_is_not_there_harms_nobody() {
    let mut mind = echo();
    let to = "127.0.0.1:9".parse().unwrap();
    mind.effects.push_back(Effect::SendDatagram { socket: SocketId(40), to, octets: Bytes::from_static(b"x") });
    start(vec![mind]).stop();
}
