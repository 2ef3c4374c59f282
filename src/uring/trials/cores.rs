//! The disk, bells and deadlines.

use super::*;

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
            DiskDone::Read { ticket: 5, .. } => Some(DiskOp::Lend { ticket: 9, log, segment, at: 500, len: 8000 }),
            DiskDone::Lent { ticket: 9, .. } => {
                let at = 4096 + 1500 * 804 - 10;
                Some(DiskOp::Lend { ticket: 10, log, segment, at, len: 8000 })
            }
            DiskDone::Lent { ticket: 10, .. } => {
                let header = BytesMut::from(&b"again"[..]);
                Some(DiskOp::Prepare { ticket: 6, log, segment, octets: OCTETS, header })
            }
            DiskDone::Prepared { ticket: 6, .. } => Some(DiskOp::Remove { ticket: 7, log, segment }),
            DiskDone::Removed { ticket: 7, .. } => {
                Some(DiskOp::Read { ticket: 8, log, segment, at: 0, len: 1, buffer: BytesMut::new() })
            }
            DiskDone::Read { ticket: 8, .. } => Some(DiskOp::Lend { ticket: 11, log, segment, at: 0, len: 1 }),
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
    let is_end = |octets: &[u8]| octets[..10] == [1499u32 as u8; 10] && octets[10..].iter().all(|octet| *octet == 0);
    assert_eq!((buffer.len(), is_end(&buffer)), (100, true), "behind a commit its block is zeros");
    let DiskDone::Lent { page: lent, outcome: Ok(()), .. } = next() else { panic!("a page") };
    assert_eq!((lent.len(), &lent[12..17]), (8000, &b"small"[..]));
    let DiskDone::Lent { page, outcome: Ok(()), .. } = next() else { panic!("a page") };
    let rest = (4096u64 + 1500 * 804).next_multiple_of(4096) - (4096 + 1500 * 804 - 10);
    assert_eq!((page.len() as u64, is_end(&page)), (rest, true), "short at the file's end");
    let twice = DiskFault::Errno(libc::EEXIST);
    assert!(matches!(next(), DiskDone::Prepared { outcome: Err(fault), .. } if fault == twice));
    assert!(matches!(next(), DiskDone::Removed { outcome: Ok(()), .. }));
    assert!(matches!(next(), DiskDone::Read { outcome: Err(DiskFault::Missing), .. }));
    assert!(matches!(next(), DiskDone::Lent { outcome: Err(DiskFault::Missing), .. }));
    assert_eq!(&lent[12..17], b"small", "what was lent outlives its file");
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

/// A queue of 64 completions and 20,000 operations at once: the kernel keeps what does not fit, and the runtime fetches it.
#[test]
fn more_operations_than_the_completion_queue_holds_all_end() {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(64);
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(16).uring_builder(&ring)).unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..20_000).map(|_| tokio_uring::spawn(crate::uring::op::nop())).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// What arrives while other cores are being made waits in the kernel, and no core turns.
#[test]
fn nothing_is_taken_in_before_the_doors_are_open() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listen = [Transport::Udp, Transport::Tcp].map(|transport| SipAddress { transport, addr: any });
    let bound = listen::bind(&listen, &[], 1).unwrap();
    let gates = listen::Gates::of(&bound).unwrap();
    let (udp, tcp) = (bound.sip[0].addr, bound.sip[1].addr);
    let place = tempfile::tempdir().unwrap();
    let mail = Mail::new(1, 16, 16);
    let (events, news) = mpsc::channel();
    let (told, heard) = mpsc::channel();
    let mind = script(move |_, input, _| {
        let _ = told.send(matches!(input, Input::Datagram { .. }));
    });
    let spec = CoreSpec {
        core: CoreId(0),
        cpu: None,
        clock: Clock::start(),
        mail: mail.clone(),
        sockets: bound.cores.into_iter().next().unwrap(),
        data: Arc::new(DataDir::open(place.path()).unwrap()),
        tuning: Tuning { unsent_octets: 1 << 18 },
        mind: move || mind,
    };
    let thread = thread::spawn(spec, events).unwrap();
    assert!(matches!(news.recv_timeout(PATIENCE).unwrap(), CoreEvent::Started(CoreId(0))));
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"early", udp).unwrap();
    assert!(TcpStream::connect(tcp).is_err(), "no core is whole yet");
    mail.door(CoreId(0)).unwrap().bell.ring();
    assert!(heard.recv_timeout(Duration::from_millis(100)).is_err(), "a ring opens no door");
    gates.open_sip().unwrap();
    mail.open_all();
    assert!(heard.recv_timeout(PATIENCE).unwrap(), "what came early is not lost");
    mail.stop_all();
    thread.join().unwrap();
}
