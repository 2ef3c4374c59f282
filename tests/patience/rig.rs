//! Cores driven by hand: their inputs are written here, their disk is memory, and time is what the test says it is.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use deferd::{
    base::{
        clock::{Now, Tick, Wall},
        limits::Limits,
        net::{ConnId, CoreId, SocketId},
    },
    deferred::policy::Policy,
    engine::{
        core::Core,
        effect::Effect,
        input::{Input, Service},
        setup::{Birth, MsrpSetup, Setup, SipAddress, SipSetup, Transport},
    },
    store::{
        directory::Directory,
        disk::{DiskDone, DiskFault, DiskOp, SegmentNo},
        log::{Log, LogResume, LogSetup},
        record::Stamp,
        recovery::HomeRecovered,
        segments::Segments,
        stamp::Stamps,
    },
};
use deferd_kit::sip::{self, Framed, SipMessage};

const SIP: &str = "10.0.0.5:5060";

/// EIO: what a commit ends with once the disk is broken.
const EIO: i32 = 5;

/// A SIP message that a core sent, and where to.
pub(crate) struct Sent {
    pub(crate) to: Way,
    pub(crate) message: SipMessage,
}

/// Where SIP goes: to an address, or down a connection of a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    To(SocketAddr),
    Down(usize, ConnId),
}

/// A daemon of some cores.
pub(crate) struct Rig {
    cores: Vec<Core>,
    now: Now,
    files: HashMap<SegmentNo, Vec<u8>>,
    /// From now on no commit succeeds.
    pub(crate) disk_is_broken: bool,
    /// From now on there is no room for another segment.
    pub(crate) disk_is_full: bool,
    /// From now on nothing asked of the disk is answered.
    pub(crate) disk_waits: bool,
    held: Vec<(usize, DiskOp)>,
    sent: VecDeque<Sent>,
    /// What went down each connection that is not SIP.
    media: HashMap<(usize, ConnId), Vec<u8>>,
    lent: HashMap<(usize, ConnId), BytesMut>,
    services: HashMap<(usize, ConnId), Service>,
    branches: u64,
}

impl Rig {
    pub(crate) fn new(cores: u16) -> Rig {
        Rig::with(cores, |_| {})
    }

    /// One whose operator has chosen.
    pub(crate) fn with(cores: u16, choose: impl Fn(&mut Policy)) -> Rig {
        // Segments small enough to be filled by a test.
        let (segment_octets, commit_octets) = (1 << 20, 256 << 10);
        let limits = Limits { users: 1 << 10, segment_octets, commit_octets, ..Limits::default() };
        let now = Now { tick: Tick(1_000_000), wall: Wall(1_800_000_000_000_000) };
        let directory = Arc::new(Directory::new(limits.users, cores, [3; 16]));
        let segments = Arc::new(Segments::new(0, u32::MAX, [1; 16]));
        let mut policy = Policy::new("im.example.org", &["example.org"]);
        policy.push_min_interval = Duration::ZERO;
        choose(&mut policy);
        let core = |number: u16| {
            let core = CoreId(number);
            let log = LogSetup { core, segment_octets: limits.segment_octets, commit_octets: limits.commit_octets };
            let setup = Setup {
                core,
                cores,
                sip: SipSetup {
                    listen: [Transport::Udp, Transport::Tcp]
                        .map(|transport| SipAddress { transport, addr: SIP.parse().unwrap() })
                        .to_vec(),
                    advertise: None,
                    outbound_proxy: None,
                    trusted: vec!["10.0.0.0/8".parse().unwrap()],
                },
                msrp: MsrpSetup {
                    listen: vec![SocketAddr::new([10, 0, 0, 5].into(), 2855 + number)],
                    advertise: None,
                    connect_allow: vec!["10.0.0.0/8".parse().unwrap()],
                    bind_source: false,
                    chunk_max: 8 << 10,
                    window_messages: 1024,
                    window_octets: 1 << 20,
                    bind_timeout: Duration::from_secs(30),
                    // A SEND without an answer keeps a session up for as long as a test wants.
                    tx_timeout: Duration::from_secs(7_200),
                },
                policy: policy.clone(),
                limits: limits.clone(),
                seed: [7 + number as u8; 32],
            };
            let birth = Birth {
                log: Log::new(log, LogResume::default(), segments.clone()),
                nodes: directory.nodes(core).unwrap(),
                directory: directory.clone(),
                segments: segments.clone(),
                stamps: Stamps::new(core, Stamp::default(), now),
                home: HomeRecovered::default(),
            };
            Core::new(setup, birth, now)
        };
        let mut rig = Rig {
            cores: (0..cores).map(core).collect(),
            now,
            files: HashMap::new(),
            disk_is_broken: false,
            disk_is_full: false,
            disk_waits: false,
            held: Vec::new(),
            sent: VecDeque::new(),
            media: HashMap::new(),
            lent: HashMap::new(),
            services: HashMap::new(),
            branches: 0,
        };
        rig.settle();
        rig
    }

    /// A branch nobody had.
    pub(crate) fn branch(&mut self) -> String {
        self.branches += 1;
        format!("z9hG4bKrig{:08x}", self.branches)
    }

    /// A datagram for a core.
    pub(crate) fn datagram(&mut self, core: usize, from: SocketAddr, message: &SipMessage) {
        let octets = Bytes::from(message.write());
        self.input(core, Input::Datagram { socket: SocketId(0), peer: from, octets });
    }

    /// Somebody connects to a core.
    pub(crate) fn accept(&mut self, core: usize, conn: ConnId, service: Service, peer: SocketAddr) {
        self.services.insert((core, conn), service);
        let local = SIP.parse().unwrap();
        self.input(core, Input::Accepted { conn, service, peer, local });
    }

    /// Octets on a connection.
    pub(crate) fn receive(&mut self, core: usize, conn: ConnId, octets: &[u8]) {
        let mut buffer = self.lent.remove(&(core, conn)).expect("the core reads");
        buffer.extend_from_slice(octets);
        self.input(core, Input::Received { conn, buffer, outcome: Ok(octets.len()) });
    }

    /// The peer of a connection is gone.
    pub(crate) fn reset(&mut self, core: usize, conn: ConnId) {
        let buffer = self.lent.remove(&(core, conn)).expect("the core reads");
        let outcome = Err(std::io::ErrorKind::ConnectionReset);
        self.input(core, Input::Received { conn, buffer, outcome });
    }

    fn input(&mut self, core: usize, input: Input) {
        self.cores[core].handle(self.now, input);
        self.settle();
    }

    /// Time passes, and whatever is due in it happens in its moment.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.tick + time;
        loop {
            let due = self.cores.iter().filter_map(Core::deadline).min();
            let Some(due) = due.filter(|&due| due <= until) else { break };
            self.advance(due.max(self.now.tick));
            self.settle();
        }
        self.advance(until);
        self.settle();
    }

    fn advance(&mut self, to: Tick) {
        let passed = Duration::from_micros(to.0 - self.now.tick.0);
        self.now = Now { tick: to, wall: self.now.wall + passed };
    }

    /// Turns until no core has anything more to do now.
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            for core in 0..self.cores.len() {
                self.cores[core].turn(self.now);
                while let Some(effect) = self.cores[core].effect() {
                    busy |= self.carry_out(core, effect);
                }
            }
            if !busy && !self.cores.iter().any(Core::has_mail) {
                return;
            }
        }
    }

    /// True when a core has heard of something.
    fn carry_out(&mut self, core: usize, effect: Effect) -> bool {
        let now = self.now;
        let input = match effect {
            Effect::Receive { conn, buffer } => {
                self.lent.insert((core, conn), buffer);
                return false;
            }
            Effect::SendDatagram { to, octets, .. } => {
                let message = SipMessage::read(&octets).expect("what is sent is well-formed");
                self.sent.push_back(Sent { to: Way::To(to), message });
                return false;
            }
            Effect::Send { conn, gather } => {
                let octets: Vec<u8> = gather.iter().flat_map(|piece| piece.iter().copied()).collect();
                match self.services.get(&(core, conn)) {
                    Some(Service::Sip) => {
                        let mut rest = octets.as_slice();
                        while !rest.is_empty() {
                            let Ok(Framed::Whole(len)) = sip::frame(rest) else { panic!("whole messages are sent") };
                            let message = SipMessage::read(&rest[..len]).expect("what is sent is well-formed");
                            self.sent.push_back(Sent { to: Way::Down(core, conn), message });
                            rest = &rest[len..];
                        }
                    }
                    _ => self.media.entry((core, conn)).or_default().extend_from_slice(&octets),
                }
                Input::Sent { conn, gather, outcome: Ok(()) }
            }
            Effect::Close { conn, .. } => Input::Closed { conn },
            Effect::Disk(op) if self.disk_waits => {
                self.held.push((core, op));
                return false;
            }
            Effect::Disk(op) => Input::Disk(self.disk(op)),
            Effect::Letter { to, letter } => {
                self.cores[to.index()].handle(now, Input::Letter(letter));
                return true;
            }
            Effect::Ring { .. } => return true,
            other => panic!("nobody asked for {other:?}"),
        };
        self.cores[core].handle(now, input);
        true
    }

    /// The disk answers again, what it was asked meanwhile first.
    pub(crate) fn disk_goes_on(&mut self) {
        self.disk_waits = false;
        for (core, op) in std::mem::take(&mut self.held) {
            let done = self.disk(op);
            self.cores[core].handle(self.now, Input::Disk(done));
        }
        self.settle();
    }

    /// The repetitions of a request are of no interest any more.
    pub(crate) fn forget(&mut self, request: &SipMessage) {
        let (branch, method) = (request.branch(), request.method());
        self.sent.retain(|sent| sent.message.branch() != branch || sent.message.method() != method);
    }

    fn disk(&mut self, op: DiskOp) -> DiskDone {
        match op {
            DiskOp::Prepare { ticket, .. } if self.disk_is_full => {
                DiskDone::Prepared { ticket, outcome: Err(DiskFault::Full) }
            }
            DiskOp::Prepare { ticket, segment, octets, .. } => {
                self.files.insert(segment, vec![0; octets as usize]);
                DiskDone::Prepared { ticket, outcome: Ok(()) }
            }
            DiskOp::Commit { ticket, gather, .. } if self.disk_is_broken => {
                DiskDone::Committed { ticket, gather, outcome: Err(DiskFault::Errno(EIO)) }
            }
            DiskOp::Commit { ticket, segment, at, gather, .. } => {
                let (file, mut at) = (self.files.get_mut(&segment).unwrap(), at as usize);
                for piece in gather.iter() {
                    file[at..at + piece.len()].copy_from_slice(piece);
                    at += piece.len();
                }
                DiskDone::Committed { ticket, gather, outcome: Ok(()) }
            }
            DiskOp::Read { ticket, segment, at, len, mut buffer, .. } => {
                let file = &self.files[&segment];
                let end = file.len().min(at as usize + len as usize);
                buffer.extend_from_slice(&file[at as usize..end]);
                DiskDone::Read { ticket, buffer, outcome: Ok(()) }
            }
            DiskOp::Lend { ticket, segment, at, len, .. } => {
                let file = &self.files[&segment];
                let end = file.len().min(at as usize + len as usize);
                DiskDone::Lent { ticket, page: Bytes::copy_from_slice(&file[at as usize..end]), outcome: Ok(()) }
            }
            DiskOp::ReadHint { ticket, .. } => {
                DiskDone::Read { ticket, buffer: BytesMut::new(), outcome: Err(DiskFault::Missing) }
            }
            DiskOp::WriteHint { ticket, .. } => DiskDone::HintWritten { ticket, outcome: Ok(()) },
            DiskOp::Remove { ticket, segment, .. } => {
                self.files.remove(&segment);
                DiskDone::Removed { ticket, outcome: Ok(()) }
            }
            DiskOp::Recycle { ticket, old, new, .. } => {
                let file = self.files.remove(&old).unwrap();
                self.files.insert(new, file);
                DiskDone::Recycled { ticket, outcome: Ok(()) }
            }
        }
    }

    /// Takes the first message out that was sent and that `wanted` likes.
    pub(crate) fn find(&mut self, wanted: impl Fn(&SipMessage) -> bool) -> Option<Sent> {
        let at = self.sent.iter().position(|sent| wanted(&sent.message))?;
        self.sent.remove(at)
    }

    /// The same, of a message that must have been sent.
    #[track_caller]
    pub(crate) fn expect(&mut self, what: &str, wanted: impl Fn(&SipMessage) -> bool) -> Sent {
        let seen: Vec<String> = self.sent.iter().map(|sent| sent.message.start.clone()).collect();
        self.find(wanted).unwrap_or_else(|| panic!("{what} was not sent; what was: {seen:?}"))
    }

    /// The request of this method that was sent.
    #[track_caller]
    pub(crate) fn expect_request(&mut self, method: &str) -> Sent {
        self.expect(method, |message| message.method() == method)
    }

    /// The final answer to a request.
    #[track_caller]
    pub(crate) fn expect_answer(&mut self, request: &SipMessage) -> SipMessage {
        let (branch, method) = (request.branch().to_string(), request.method().to_string());
        let is_it = |message: &SipMessage| {
            message.code() >= 200 && message.branch() == branch && message.cseq_method() == method
        };
        self.expect(&format!("an answer to {}", request.start), is_it).message
    }

    /// Nothing of this method was sent.
    #[track_caller]
    pub(crate) fn expect_no(&mut self, method: &str) {
        if let Some(sent) = self.find(|message| message.method() == method) {
            panic!("{} was sent too early", sent.message.start);
        }
    }

    /// What has gone down a connection so far.
    pub(crate) fn media(&self, core: usize, conn: ConnId) -> String {
        String::from_utf8_lossy(self.media.get(&(core, conn)).map_or(&[], Vec::as_slice)).into_owned()
    }

    /// What the clock on the wall says.
    pub(crate) fn wall(&self) -> Wall {
        self.now.wall
    }

    /// Sessions in which large messages come, and users with something waiting.
    pub(crate) fn large_sessions_and_users(&self) -> (u64, u64) {
        let readings = self.cores.iter().map(Core::reading);
        readings.fold((0, 0), |(sessions, users), one| (sessions + one.large_sessions, users + one.users_waiting))
    }

    /// Messages accepted, and messages recognised as ones that were there.
    pub(crate) fn accepted_and_duplicate(&self) -> (u64, u64) {
        let readings = self.cores.iter().map(Core::reading);
        readings.fold((0, 0), |(had, twice), one| (had + one.messages_accepted, twice + one.messages_duplicate))
    }

    /// Segments had back.
    pub(crate) fn had_back(&self) -> u64 {
        self.cores.iter().map(|core| core.reading().segments_reclaimed).sum()
    }

    /// Pushes under way.
    pub(crate) fn pushes(&self) -> usize {
        self.cores.iter().map(Core::pushes).sum()
    }
}
