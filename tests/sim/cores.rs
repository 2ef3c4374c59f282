//! The daemon's cores in one thread: what `uring::thread` and `control::birth` do with the kernel, done here with values.

use crate::disk::{Disk, Name};
use crate::ground::{Event, Ground};
use crate::plan::Proxy;
use crate::trace::first_line;
use deferd::base::limits::Limits;
use deferd::base::net::CoreId;
use deferd::deferred::bin::Binned;
use deferd::deferred::policy::{Expired, Policy};
use deferd::engine::core::Core;
use deferd::engine::effect::Effect;
use deferd::engine::input::{Input, Service};
use deferd::engine::letters::Letter;
use deferd::engine::setup::{Birth, MsrpSetup, Setup, SipAddress, SipSetup, Transport};
use deferd::store::directory::Directory;
use deferd::store::disk::{DiskFault, DiskOp, SegmentNo};
use deferd::store::log::{Log, LogSetup};
use deferd::store::manifest::RESERVATION;
use deferd::store::record::{Place, Stamp, StateKind, extents_of};
use deferd::store::recovery::{self, Files, Recovered, RecoveryFault};
use deferd::store::stamp::Stamps;
use memchr::memmem;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Of every simulated data directory.
const KEY: [u8; 16] = *b"the sim's secret";

const MSRP_PORT: u16 = 2_855;

/// Beside half as much again as what is alive: the active segment, the next, the reserve, two spares, two that are left
/// alone, and one that is being made.
const SEGMENTS_A_CORE: u64 = 8;

struct Seat {
    core: Core,
    /// A turn is on the heap.
    turning: bool,
    wake: Option<u64>,
    requests: VecDeque<Letter>,
    replies: VecDeque<Letter>,
    stopped: bool,
}

/// The cores of one life.
pub(crate) struct Cores {
    seats: Vec<Seat>,
    /// Effects carried out, in all lives.
    pub(crate) effects: u64,
    crash_wanted: bool,
}

struct Durable<'a>(&'a Disk);

impl Files for Durable<'_> {
    fn list(&self) -> Result<Vec<(CoreId, SegmentNo, u64)>, DiskFault> {
        Ok(self.0.durable().map(|((log, segment), octets)| (log, segment, octets.len() as u64)).collect())
    }

    fn read_at(&self, log: CoreId, segment: SegmentNo, at: u64, buffer: &mut [u8]) -> Result<usize, DiskFault> {
        let name: Name = (log, segment);
        let found = self.0.durable().find(|(known, _)| *known == name).map(|(_, octets)| octets);
        let rest = found.ok_or(DiskFault::Missing)?.get(at as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn sync(&self, _log: CoreId, _segment: SegmentNo) -> Result<(), DiskFault> {
        Ok(())
    }

    fn read_hint(&self, log: CoreId, segment: SegmentNo) -> Result<Vec<u8>, DiskFault> {
        self.0.hint((log, segment)).map(|hint| hint.to_vec()).ok_or(DiskFault::Missing)
    }

    fn gone(&self) -> Vec<(CoreId, SegmentNo, Vec<u8>)> {
        self.0.gone().map(|((log, segment), hint)| (log, segment, hint.to_vec())).collect()
    }
}

impl Cores {
    /// None is up yet.
    pub(crate) fn new() -> Cores {
        Cores { seats: Vec::new(), effects: 0, crash_wanted: false }
    }

    /// Recovery, and a core for every seat.
    pub(crate) fn start(&mut self, g: &mut Ground, disk: &mut Disk) {
        let cores = g.plan.cores.max(1);
        g.born = g.now;
        let now = g.clocks();
        let setups: Vec<Setup> = (0..cores).map(|core| setup(g, core, cores)).collect();
        let directory = Directory::new(setups[0].limits.users, cores, KEY).with_domains(&setups[0].policy.domains);
        let directory = Arc::new(directory);
        let remember = setups[0].limits.dedupe_entries;
        let mut recovered = match recovery::recover(&Durable(disk), &directory, cores, &disk.manifest, remember) {
            Ok(recovered) => recovered,
            Err(fault) => return g.oracle.violation(format!("recovery: {fault:?}")),
        };
        judge(g, disk, &recovered);
        let reserved_from = disk.manifest.reserved_to;
        disk.manifest.key = KEY;
        disk.manifest.reserved_to = recovered.next_segment.max(reserved_from).saturating_add(RESERVATION);
        let segments = recovered.segments(reserved_from, disk.manifest.reserved_to, KEY);
        // A thread of its own writes them; it may not come to all of them before the next crash.
        for hint in std::mem::take(&mut recovered.unwritten) {
            if !g.chance(100) {
                disk.write_hint(&hint);
            }
        }
        recovered.report.unfinished.iter().for_each(|&name| disk.clear_away(name));
        let homes: Vec<_> = recovered.homes.drain(..).collect();
        for ((setup, home), resume) in setups.into_iter().zip(homes).zip(recovered.logs.drain(..)) {
            let log = LogSetup {
                core: setup.core,
                segment_octets: setup.limits.segment_octets,
                commit_octets: setup.limits.commit_octets,
            };
            let core = setup.core;
            let birth = Birth {
                log: Log::new(log, resume, segments.clone()),
                nodes: directory.nodes(core).expect("asked for once"),
                directory: directory.clone(),
                segments: segments.clone(),
                stamps: Stamps::new(core, recovered.highest_stamp, now),
                home,
            };
            self.seats.push(Seat {
                core: Core::new(setup, birth, now),
                turning: true,
                wake: None,
                requests: VecDeque::new(),
                replies: VecDeque::new(),
                stopped: false,
            });
            g.soon(Event::Turn { life: g.life, core });
        }
    }

    /// True between a start and the next crash.
    pub(crate) fn are_up(&self) -> bool {
        !self.seats.is_empty()
    }

    /// They are gone, with all they held in memory.
    pub(crate) fn die(&mut self) {
        self.seats.clear();
        self.crash_wanted = false;
    }

    /// The plan wants the daemon to die now, or it has said good-bye.
    pub(crate) fn wants_crash(&self, _g: &Ground) -> bool {
        self.crash_wanted || self.are_up() && self.seats.iter().all(|seat| seat.stopped)
    }

    /// SIGTERM. Ten seconds later patience is over.
    pub(crate) fn stop(&mut self, g: &mut Ground) {
        g.say(format_args!("told to stop"));
        for core in 0..self.seats.len() {
            g.input(CoreId(core as u16), Input::Stop);
        }
        g.later(10_000_000, Event::Crash);
    }

    /// Which core's listener a connection to `to` reaches.
    pub(crate) fn listener(&self, g: &mut Ground, to: SocketAddr) -> Option<CoreId> {
        let core = match to.port().checked_sub(MSRP_PORT) {
            Some(core) if core < 64 => core,
            _ if self.are_up() => g.between(0, self.seats.len() as u64 - 1) as u16,
            _ => return None,
        };
        self.seats.get(usize::from(core)).filter(|seat| !seat.stopped).map(|_| CoreId(core))
    }

    /// Which core the kernel gives datagrams from `from` to: always the same one.
    pub(crate) fn datagram_core(&self, from: SocketAddr) -> Option<CoreId> {
        self.are_up().then(|| CoreId((usize::from(from.port()) % self.seats.len()) as u16))
    }

    /// A core hears of something; its turn follows, soon.
    pub(crate) fn input(&mut self, g: &mut Ground, core: CoreId, input: Input) {
        overhear(g, core, &input);
        let now = g.clocks();
        let Some(seat) = self.seats.get_mut(core.index()).filter(|seat| !seat.stopped) else { return };
        seat.core.handle(now, input);
        turn_soon(g, seat, core, 30);
    }

    /// A core's deadline has come, unless it has another one by now.
    pub(crate) fn wake(&mut self, g: &mut Ground, disk: &mut Disk, core: CoreId, at: u64) {
        let Some(seat) = self.seats.get_mut(core.index()) else { return };
        if seat.wake == Some(at) {
            seat.wake = None;
            if !seat.turning {
                self.turn(g, disk, core);
            }
        }
    }

    /// A core takes its turn: letters, timers, effects.
    pub(crate) fn turn(&mut self, g: &mut Ground, disk: &mut Disk, core: CoreId) {
        let now = g.clocks();
        let Some(seat) = self.seats.get_mut(core.index()).filter(|seat| !seat.stopped) else { return };
        seat.turning = false;
        while let Some(letter) = seat.replies.pop_front().or_else(|| seat.requests.pop_front()) {
            seat.core.handle(now, Input::Letter(letter));
        }
        seat.core.turn(now);
        while let Some(effect) = self.seats.get_mut(core.index()).and_then(|seat| seat.core.effect()) {
            self.effects += 1;
            self.carry_out(g, disk, core, effect);
            if g.plan.crash_at_effect == Some(self.effects) {
                self.crash_wanted = true;
                return;
            }
        }
        let Some(seat) = self.seats.get_mut(core.index()) else { return };
        if seat.core.has_mail() {
            turn_soon(g, seat, core, 5);
        }
        if let Some(deadline) = seat.core.deadline().filter(|deadline| deadline.0 < u64::MAX / 2) {
            let at = (deadline.0 + g.born).max(g.now + 1);
            if seat.wake.is_none_or(|armed| at < armed) {
                seat.wake = Some(at);
                g.at(at, Event::Wake { life: g.life, core, at });
            }
        }
        if seat.core.pushes() > g.plan.users {
            g.oracle.violation(format!("{} pushes for {} users", seat.core.pushes(), g.plan.users));
        }
        // A read that fails is no damage.
        g.oracle.met(seat.core.counts().damaged);
        if let Some(what) = beyond(seat, g) {
            g.oracle.violation(format!("core {} holds {what}", core.0));
        }
    }

    fn carry_out(&mut self, g: &mut Ground, disk: &mut Disk, core: CoreId, effect: Effect) {
        match effect {
            Effect::Receive { conn, buffer } => g.lend(core, conn, buffer),
            Effect::Send { conn, gather } => {
                let octets = gather.to_vec();
                g.say(format_args!("core {} sends {} on {}: {}", core.0, octets.len(), conn.0, first_line(&octets)));
                g.trace.octets(&octets);
                match g.net.service(core, conn) {
                    Some(Service::Sip) => g.oracle.sip_stream(g.now, core, conn, &octets),
                    Some(Service::Msrp) => g.oracle.msrp_down(g.now, core, conn, &octets),
                    None => g.oracle.violation(format!("a send on connection {}, which never was", conn.0)),
                }
                g.send(core, conn, gather);
            }
            Effect::SendDatagram { to, octets, .. } => {
                g.say(format_args!("core {} sends to {to}: {}", core.0, first_line(&octets)));
                g.trace.octets(&octets);
                g.oracle.sip_down(g.now, None, &octets);
                g.datagram_down(to, &octets);
            }
            Effect::Connect { conn, to, .. } => {
                g.say(format_args!("core {} connects {} to {to}", core.0, conn.0));
                g.dial(core, conn, to);
            }
            Effect::Close { conn, reset } => {
                g.say(format_args!("core {} closes {}, reset {reset}", core.0, conn.0));
                g.oracle.conn_over(core, conn);
                g.close(core, conn, reset);
            }
            Effect::Disk(op) => {
                let eio = g.chance(g.plan.eio);
                let (low, high) = if g.calm { (100, 2_000) } else { g.plan.disk_us };
                let delay = if g.chance(g.plan.stall) { 300_000 } else { g.between(low, high) };
                g.say(format_args!("core {} asks the disk: {}", core.0, in_words(&op)));
                if eio {
                    let reads = matches!(op, DiskOp::Read { .. } | DiskOp::Lend { .. });
                    g.oracle.disk_hurt |= !reads && !matches!(op, DiskOp::WriteHint { .. });
                    g.oracle.unreadable |= reads;
                }
                let number = disk.begin(core, op, eio);
                g.later(delay, Event::Disk { life: g.life, number });
            }
            Effect::Letter { to, letter } => self.post(g, core, to, letter),
            // Nobody asks questions in the simulator.
            Effect::Answer { .. } => {}
            Effect::Ring { core: other } => {
                if let Some(seat) = self.seats.get_mut(other.index()) {
                    turn_soon(g, seat, other, 30);
                }
            }
            Effect::Stopped => {
                g.say(format_args!("core {} has said good-bye", core.0));
                if let Some(seat) = self.seats.get_mut(core.index()) {
                    seat.stopped = true;
                }
            }
        }
    }

    fn post(&mut self, g: &mut Ground, from: CoreId, to: CoreId, letter: Letter) {
        g.say(format_args!("core {} writes to core {}", from.0, to.0));
        let room = g.plan.letters;
        let Some(seat) = self.seats.get_mut(to.index()) else {
            return g.input(from, Input::Undelivered(letter));
        };
        if !letter.is_request() {
            seat.replies.push_back(letter);
        } else if seat.requests.len() < room {
            seat.requests.push_back(letter);
        } else {
            return g.input(from, Input::Undelivered(letter));
        }
        turn_soon(g, seat, to, 30);
    }

    /// True when nobody is being pushed to.
    pub(crate) fn are_idle(&self) -> bool {
        self.seats.iter().all(|seat| seat.core.pushes() == 0)
    }

    /// Messages deleted, messages purged, reports that were taken, in this life.
    pub(crate) fn erased(&self) -> [u64; 3] {
        let counts = self.seats.iter().map(|seat| seat.core.counts());
        let counts = counts.map(|counts| [counts.deleted, counts.purged, counts.reports_sent]);
        counts.fold([0; 3], |sum, counts| [0, 1, 2].map(|at| sum[at] + counts[at]))
    }

    /// Segments had back and octets copied forward, in this life.
    pub(crate) fn reclaimed(&self) -> (u64, u64) {
        let counts = self.seats.iter().map(|seat| seat.core.counts());
        counts.fold((0, 0), |sum, counts| (sum.0 + counts.reclaimed, sum.1 + counts.copied_octets))
    }

    /// What a start would find.
    pub(crate) fn found(&self, disk: &Disk) -> Result<Recovered, RecoveryFault> {
        let cores = (self.seats.len() as u16).max(1);
        let directory = Directory::new(64, cores, KEY);
        recovery::recover(&Durable(disk), &directory, cores, &disk.manifest, 1 << 20)
    }

    /// What a start would find waiting, and how much of it has rotted.
    pub(crate) fn alive<'a>(&self, disk: &'a Disk) -> Result<(Alive<'a>, usize), String> {
        let found = self.found(disk).map_err(|fault| format!("recovery: {fault:?}"))?;
        waiting(disk, &found)
    }

    /// When all is quiet the disk holds half as much again as what is alive, and some segments a core. What is alive a start
    /// would say.
    pub(crate) fn disk_is_bounded(&self, g: &Ground, disk: &Disk) -> Result<(), String> {
        let cores = self.seats.len() as u16;
        let found = self.found(disk).map_err(|fault| format!("recovery of a quiet disk: {fault:?}"))?;
        let queued = found.homes.iter().flat_map(|home| home.users.iter().map(|(_, queue)| queue.octets()));
        let states = found.homes.iter().flat_map(|home| home.states.iter().map(|state| state.extent.octets));
        let twins = found.homes.iter().flat_map(|home| home.twins.iter().map(|twin| twin.octets()));
        let parts = found.homes.iter().flat_map(|home| home.parts.iter().flat_map(|(_, parts)| extents_of(parts)));
        let parts = parts.map(|extent| extent.octets);
        let live: u64 = queued.chain(states).chain(twins).chain(parts).sum();
        let counted: u64 = self.seats.iter().map(|seat| seat.core.reading().live_octets).sum();
        if counted != live && !g.oracle.has_rotted() {
            return Err(format!("{live} octets are alive and {counted} are counted"));
        }
        let files: u64 = disk.durable().map(|(_, octets)| octets.len() as u64).sum();
        // A segment in which something is damaged stays for an operator.
        let fixed = (SEGMENTS_A_CORE * u64::from(cores) + disk.rots) * g.plan.segment_octets;
        if files > live * 3 / 2 + fixed {
            return Err(format!("{files} octets of files for {live} that are alive, on {cores} cores"));
        }
        Ok(())
    }

    /// What the tables still hold; `unsure`: users may have something waiting; `trying`: and may be called for it now and then.
    pub(crate) fn left(&self, unsure: bool, trying: bool) -> String {
        let mut left = Vec::new();
        for (core, seat) in self.seats.iter().enumerate() {
            let reading = seat.core.reading();
            let transactions = (reading.sip_servers + reading.sip_clients) as usize;
            let counts = [
                (if trying { 0 } else { transactions }, "SIP transactions"),
                (if trying { 0 } else { seat.core.pushes() }, "pushes"),
                (seat.core.connections(), "connections"),
                (if unsure { 0 } else { seat.core.users() }, "users"),
            ];
            for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
                left.push(format!("{count} {what} on core {core}"));
            }
        }
        left.join(", ")
    }
}

/// What of a core's memory is beyond its limit.
fn beyond(seat: &Seat, g: &Ground) -> Option<String> {
    let (limits, reading) = (limits(g), seat.core.reading());
    // A record is taken in while there is room for one octet, and each of the waiting groups is filled up to a sector.
    let commit_octets = limits.commit_octets as u64 + 2 * g.plan.segment_octets;
    let held = [
        (reading.connections, limits.connections as u64, "connections"),
        (reading.sip_servers + reading.sip_clients, 2 * limits.transactions as u64, "transactions"),
        (reading.pushes_running, limits.sessions as u64, "sessions"),
        (reading.users_waiting, limits.users as u64, "users"),
        (reading.commit_octets_waiting, commit_octets, "octets that wait for the disk"),
        (seat.requests.len() as u64, g.plan.letters as u64, "letters"),
    ];
    let over = held.iter().find(|(held, limit, _)| held > limit)?;
    Some(format!("{} {}, of {} at most", over.0, over.2, over.1))
}

fn turn_soon(g: &mut Ground, seat: &mut Seat, core: CoreId, within: u64) {
    if !seat.turning {
        seat.turning = true;
        let (delay, life) = (g.between(0, within), g.life);
        g.later(delay, Event::Turn { life, core });
    }
}

/// The oracle hears what a core hears.
fn overhear(g: &mut Ground, core: CoreId, input: &Input) {
    match input {
        Input::Datagram { octets, .. } => g.oracle.sip_up(g.now, octets),
        Input::Received { conn, buffer, outcome: Ok(count) } if *count > 0 => {
            let new = &buffer[buffer.len() - count..];
            g.say(format_args!("core {} hears {count} on {}", core.0, conn.0));
            g.trace.octets(new);
            match g.net.service(core, *conn) {
                Some(Service::Sip) => g.oracle.sip_up_stream(g.now, core, *conn, new),
                Some(Service::Msrp) => g.oracle.msrp_up(g.now, core, *conn, new),
                None => {}
            }
        }
        Input::Received { conn, .. } | Input::Sent { conn, outcome: Err(_), .. } | Input::Closed { conn } => {
            g.oracle.conn_over(core, *conn);
        }
        Input::ConnectFailed { .. } => g.oracle.unreachable(),
        Input::Stop => g.oracle.stopping(),
        _ => {}
    }
}

/// Messages as a start finds them: where each lies, and its record.
pub(crate) type Alive<'a> = BTreeMap<u32, (Place, &'a [u8])>;

/// What recovery found in users' lists, but for what is in the DELETE bin; and how much of it has rotted, of which nobody can say by
/// looking at it what it was.
fn waiting<'a>(disk: &'a Disk, recovered: &Recovered) -> Result<(Alive<'a>, usize), String> {
    let homes = || recovered.homes.iter();
    let binned = homes().flat_map(|home| &home.states).filter(|state| state.kind == StateKind::Bin);
    let binned = binned.filter_map(|state| Binned::recovered(&state.owner, &state.key, state.stamp, &state.value));
    let binned: BTreeSet<Stamp> = binned.flat_map(|binned| binned.stamps().collect::<Vec<_>>()).collect();
    let (mut alive, mut rotten) = (BTreeMap::new(), 0);
    for locator in homes().flat_map(|home| &home.users).flat_map(|(_, queue)| queue.iter()) {
        let (place, octets) = (locator.place(), locator.octets() as usize);
        let at = place.octets() as usize;
        let record = disk.segment(place.segment).and_then(|segment| segment.get(at..at + octets));
        let Some(record) = record else { return Err(format!("recovery points at {place:?}, where nothing is")) };
        let mark = b"\r\nCall-ID: m";
        let name = memmem::find(record, mark).and_then(|at| record.get(at + mark.len()..at + mark.len() + 6));
        let number = name.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
        match number {
            _ if binned.contains(&locator.stamp()) => {}
            _ if disk.is_rotten(place.segment, place.octets()..place.octets() + octets as u64) => rotten += 1,
            Some(number) if alive.insert(number, (place, record)).is_none() => {}
            Some(number) => return Err(format!("recovery finds message {number} twice")),
            None => return Err(format!("recovery finds a record at {place:?} that is no message of ours")),
        }
    }
    Ok((alive, rotten))
}

/// What recovery found must agree with what was promised.
fn judge(g: &mut Ground, disk: &Disk, recovered: &Recovered) {
    g.oracle.named(&recovered.report);
    let alive = match waiting(disk, recovered) {
        Ok((alive, _)) => alive,
        Err(what) => return g.oracle.violation(what),
    };
    for (number, (place, _)) in &alive {
        g.say(format_args!("message {number} lies at {} of {}", place.octets(), place.segment.0));
    }
    let report = &recovered.report;
    let (messages, torn) = (report.messages, report.torn.len());
    let numbers: Vec<u32> = alive.keys().copied().collect();
    g.say(format_args!("recovered {messages} messages {numbers:?}, {torn} torn tails"));
    let now = g.now;
    g.oracle.recovered(now, &alive);
    g.oracle.disk_hurt = disk.full;
}

fn in_words(op: &DiskOp) -> String {
    match op {
        DiskOp::Prepare { segment, octets, .. } => format!("prepare {} of {octets}", segment.0),
        DiskOp::Commit { segment, at, gather, .. } => {
            format!("commit {} octets to {} at {at}", gather.len(), segment.0)
        }
        DiskOp::Read { segment, at, len, .. } => format!("read {len} octets of {} at {at}", segment.0),
        DiskOp::WriteHint { segment, octets, .. } => {
            format!("write the hint of {}, {} octets", segment.0, octets.len())
        }
        DiskOp::Lend { segment, at, len, .. } => format!("lend {len} octets of {} at {at}", segment.0),
        DiskOp::Remove { segment, .. } => format!("remove {}", segment.0),
        DiskOp::ReadHint { segment, .. } => format!("read the hint of {}", segment.0),
        DiskOp::Recycle { old, new, .. } => format!("recycle {} as {}", old.0, new.0),
    }
}

fn setup(g: &mut Ground, core: u16, cores: u16) -> Setup {
    let mut seed = [0; 32];
    g.dice.fill(&mut seed);
    let ip = Ipv4Addr::new(10, 0, 0, 1);
    let sip = SocketAddr::from((ip, 5060));
    let listen = [Transport::Udp, Transport::Tcp].map(|transport| SipAddress { transport, addr: sip });
    let outbound_proxy = match g.plan.proxy {
        Proxy::None => None,
        Proxy::Udp => Some(SipAddress { transport: Transport::Udp, addr: crate::agents::core::home() }),
        Proxy::Tcp => Some(SipAddress { transport: Transport::Tcp, addr: crate::agents::core::home() }),
    };
    let mut policy = Policy::new("im.example.com", &["example.com"]);
    policy.quota_messages = g.plan.quota_messages;
    policy.bin_retention = Duration::from_micros(g.plan.bin_us);
    if g.plan.keep {
        policy.expired = Expired::Keep;
    }
    let networks = || vec!["10.0.0.0/8".parse().expect("a network")];
    Setup {
        core: CoreId(core),
        cores,
        sip: SipSetup { listen: listen.to_vec(), advertise: None, outbound_proxy, trusted: networks() },
        msrp: MsrpSetup {
            listen: vec![SocketAddr::from((ip, MSRP_PORT + core))],
            advertise: None,
            connect_allow: networks(),
            bind_source: true,
            chunk_max: g.plan.chunk_max,
            window_messages: g.plan.window_messages,
            window_octets: 1 << 20,
            bind_timeout: Duration::from_secs(30),
            tx_timeout: Duration::from_secs(30),
        },
        policy,
        limits: limits(g),
        seed,
    }
}

fn limits(g: &Ground) -> Limits {
    Limits {
        users: 64,
        connections: 1_024,
        transactions: 4_096,
        sessions: 64,
        dedupe_entries: 4_096,
        letters: g.plan.letters,
        segment_octets: g.plan.segment_octets,
        commit_octets: 256 * 1024,
        ..Limits::default()
    }
}
