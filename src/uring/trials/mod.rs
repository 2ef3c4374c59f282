//! Trials of the interpreter: small minds on real rings, sockets and files, everything on loopback. This file is their kit.

mod cores;
mod streams;

use crate::base::clock::{Now, Tick};
use crate::base::gather::Gather;
use crate::base::net::{ConnId, CoreId, SocketId};
use crate::engine::effect::Effect;
use crate::engine::input::Input;
use crate::engine::setup::{SipAddress, Transport};
use crate::store::disk::{DiskDone, DiskFault, DiskOp, SegmentNo};
use crate::uring::clock::Clock;
use crate::uring::data_dir::DataDir;
use crate::uring::listen::{self, Bound};
use crate::uring::mail::Mail;
use crate::uring::socket::Tuning;
use crate::uring::thread::{self, CoreEvent, CoreSpec, Mind};
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
    let bound = listen::bind(&listen, &[any], minds.len() as u16).unwrap();
    let gates = listen::Gates::of(&bound).unwrap();
    let Bound { cores, sip, .. } = bound;
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
    gates.open_msrp().and_then(|()| gates.open_sip()).unwrap();
    mail.open_all();
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
