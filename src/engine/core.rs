//! The hub: moves values between the rooms and decides nothing.
//!
//! ```text
//!   Input ──▶ handle ──▶ conns ──▶ sip endpoint ──▶ route ──▶ use case ─┐
//!                └─────▶ log, loader ──▶ commits ──▶ use case ──────────┤
//!   Effect ◀── effect ◀── asks, transmissions, disk ◀── turn ◀──────────┘
//! ```
//!
//! Contract: `handle` any number of inputs, then `turn` once, then `effect` until `None`; come back at `deadline`, with the
//! next input, or when `has_mail`. The same inputs at the same times give the same effects.

use super::addresses::addresses;
use super::conns::{Conn, Conns, Cutter, SWEEPS, Written};
use super::effect::Effect;
use super::input::{Input, Service};
use super::letters::Letter;
use super::meter::Publisher;
use super::setup::{Birth, Setup};
use crate::base::clock::{Now, Tick};
use crate::base::dice::Dice;
use crate::base::net::{ConnId, CoreId, Flow};
use crate::base::spread::SpreadMap;
use crate::base::timers::{TimerKey, Timers};
use crate::deferred::bin::Bin;
use crate::deferred::cx::{Ask, Counts, Cx, Dial, Reply, Timer};
use crate::deferred::delete::Deletions;
use crate::deferred::deposit::Deposits;
use crate::deferred::dismiss::Dismissals;
use crate::deferred::forward::Forward;
use crate::deferred::inquiry::Inquiries;
use crate::deferred::large::Larges;
use crate::deferred::policy::Media;
use crate::deferred::presence::Presences;
use crate::deferred::push::Pushes;
use crate::deferred::report::Reports;
use crate::deferred::retrieve::Retrievals;
use crate::deferred::summary::Summaries;
use crate::deferred::users::Users;
use crate::proto::sip::endpoint::{Endpoint, EndpointSetup, ServerKey, Upward};
use crate::proto::sip::timing::Timing;
use crate::store::disk::DiskOp;
use crate::store::loader::Loader;
use crate::store::reason::Reason;
use crate::store::reclaim::Reclaim;
use crate::store::record::Locator;
use crate::store::states::States;
use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Octets framed for pushes in one turn; the other connections wait for the next, which comes at once. What was looked at when
/// it was checked is still in the processor's second cache (1 MiB and more) when the kernel copies it, and answers that have
/// come meanwhile do not wait behind the frames of a thousand sessions.
const TURN_OCTETS: usize = 512 * 1024;

/// How often a part of the connections is looked over: all of them once a second.
const SWEEP: Duration = Duration::from_millis(1_000 / SWEEPS as u64);

/// Timers that fire in one turn. A million messages that expire in one second are taken a thousand at a time, about a millisecond
/// each, and what arrives meanwhile is answered in between. The rest is due still: the next turn comes at once.
const TIMERS_A_TURN: usize = 1_024;

/// One core.
pub struct Core {
    pub(super) cx: Cx,
    pub(super) deposits: Deposits,
    pub(super) presences: Presences,
    pub(super) users: Users,
    pub(super) forward: Forward,
    pub(super) reclaim: Reclaim,
    pub(super) reclaiming: Option<TimerKey>,
    pub(super) pushes: Pushes,
    pub(super) larges: Larges,
    pub(super) retrievals: Retrievals,
    pub(super) deletions: Deletions,
    pub(super) dismissals: Dismissals,
    pub(super) reports: Reports,
    pub(super) bin: Bin,
    pub(super) summaries: Summaries,
    pub(super) inquiries: Inquiries,
    pub(super) effects: VecDeque<Effect>,
    pub(super) trusted: Vec<IpNet>,
    pub(super) cores: u16,
    pub(super) meter: Option<Publisher>,
    pub(super) setup: Setup,
    pub(super) conns: Conns,
    /// INVITEs that another core decides, until their transactions are over: as many as there are transactions at most.
    pub(super) elsewhere: SpreadMap<ServerKey, CoreId>,
    sweeping: bool,
    stopped: bool,
}

impl Core {
    /// A core with what recovery found for it.
    pub fn new(setup: Setup, birth: Birth, now: Now) -> Core {
        let timing = Timing::default();
        let endpoint = EndpointSetup { core: setup.core, transactions_max: setup.limits.transactions, timing };
        let cx = Cx {
            core: setup.core,
            now,
            policy: Arc::new(setup.policy.clone()),
            addresses: addresses(&setup),
            dice: Dice::from_seed(setup.seed),
            sip: Endpoint::new(endpoint),
            log: birth.log,
            loader: Loader::new(birth.segments.clone()),
            segments: birth.segments.clone(),
            states: States::new(),
            buried: Vec::new(),
            directory: birth.directory.clone(),
            nodes: birth.nodes,
            stamps: birth.stamps,
            timers: Timers::new(),
            asks: VecDeque::new(),
            dials: VecDeque::new(),
            disk: Vec::new(),
            commits: VecDeque::new(),
            counts: Counts::default(),
            proxy: None,
            dialled: 0,
            stopping: false,
            draining: false,
            product: Cx::product_line(&setup.policy),
        };
        let media = Media {
            connect_allow: setup.msrp.connect_allow.clone(),
            bind_source: setup.msrp.bind_source,
            chunk_max: setup.msrp.chunk_max,
            window_messages: setup.msrp.window_messages,
            window_octets: setup.msrp.window_octets,
            bind_timeout: setup.msrp.bind_timeout,
            tx_timeout: setup.msrp.tx_timeout,
            sessions_max: setup.limits.sessions,
        };
        let mut core = Core {
            cx,
            deposits: Deposits::new(setup.limits.dedupe_entries),
            presences: Presences::new(setup.limits.users),
            users: Users::new(birth.directory, setup.limits.dedupe_entries),
            forward: Forward::default(),
            reclaim: Reclaim::new(setup.core, setup.cores, birth.segments),
            reclaiming: None,
            larges: Larges::new(setup.limits.large_sessions, media.bind_timeout),
            pushes: Pushes::new(media),
            retrievals: Retrievals::default(),
            deletions: Deletions::default(),
            dismissals: Dismissals::default(),
            reports: Reports::default(),
            bin: Bin::default(),
            summaries: Summaries::new(setup.limits.subscriptions),
            inquiries: Inquiries::default(),
            effects: VecDeque::new(),
            trusted: setup.sip.trusted.clone(),
            cores: setup.cores,
            meter: None,
            conns: Conns::new(&setup.limits),
            elsewhere: SpreadMap::default(),
            setup,
            sweeping: false,
            stopped: false,
        };
        core.adopt(birth.home);
        core
    }

    fn adopt(&mut self, home: crate::store::recovery::HomeRecovered) {
        // Parts first: a list counts them with its messages.
        for (message, parts) in home.parts {
            self.users.adopt_parts(message, parts);
        }
        for (user, queue) in home.users {
            self.users.adopt(&mut self.cx, user, queue);
        }
        for (fingerprint, _) in home.fingerprints {
            self.users.remember(&self.cx, fingerprint);
        }
        // Tombstones that are owed; if the daemon dies before they are durable the next start finds them again.
        self.cx.bury(home.twins.iter().map(Locator::extent), Reason::Twin);
        self.cx.bury(home.losers, Reason::Superseded);
        self.reclaiming = Some(self.cx.timer(Duration::ZERO, Timer::Reclaim));
        let mut turn = 0;
        for state in home.states {
            self.adopt_state(state, &mut turn);
        }
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.cx.now = now;
        match input {
            Input::Accepted { conn, service, peer, .. } => self.accepted(conn, service, peer),
            Input::Received { conn, buffer, outcome } => self.received(conn, buffer, outcome),
            Input::Datagram { socket, peer, octets } => self.datagram(socket, peer, octets),
            Input::Connected { conn, .. } => {
                self.conns.connected(conn);
                if self.conns.table.get(&conn).is_some_and(Conn::is_msrp) {
                    self.pushes.connected(&mut self.cx, conn);
                }
                self.conns.read_on(conn, &mut self.effects);
                self.pump(conn);
            }
            Input::ConnectFailed { conn, error } => {
                tracing::debug!(?conn, ?error, "a connection could not be opened");
                self.broken(conn);
                self.conns.closed(conn);
            }
            Input::Sent { conn, gather, outcome } => {
                self.conns.sent(conn, gather);
                match outcome {
                    Ok(()) => self.pump(conn),
                    Err(_) => self.hang_up(conn, true),
                }
            }
            Input::Closed { conn } => {
                self.broken(conn);
                self.conns.closed(conn);
            }
            Input::Disk(done) => self.disk(done),
            Input::Letter(letter) => self.letter(letter),
            Input::Undelivered(letter) => self.undelivered(letter),
            Input::Stop => {
                self.cx.stopping = true;
                self.pushes.stop(&mut self.cx);
                self.larges.stop(&mut self.cx);
            }
        }
        self.upward();
    }

    /// Ends a batch of inputs: timers that are due, users that other cores left something for, commits that can begin.
    pub fn turn(&mut self, now: Now) {
        self.cx.now = now;
        for _ in 0..TIMERS_A_TURN {
            let Some(timer) = self.cx.timers.expire(now.tick) else { break };
            self.timer(timer);
        }
        self.cx.sip.turn(now.tick);
        self.cx.loader.at(now.tick);
        self.upward();
        self.large_turn();
        for (user, oldest) in self.users.collect(&mut self.cx) {
            let pushes = &self.pushes;
            let gone = self.users.make_room(&mut self.cx, user, |place| pushes.is_in_flight(user, place));
            self.dismiss(user, gone, Reason::Dropped);
            if self.pushes.arrived(user, oldest) {
                continue;
            }
            self.presences.arrived(&mut self.cx, &self.users, &mut self.pushes, user);
        }
        // A push that ends may begin the next of the same user; that one only sends its INVITE. What is carried out may touch
        // pushes: a connection that is gone, a send that needs its timer. A connection has one send at most, so this ends.
        self.forward.turn(&mut self.cx);
        let mut framed = 0;
        loop {
            self.pushes.settle(&mut self.cx, &mut self.users);
            for ended in self.pushes.take_ended() {
                self.presences.ended(&mut self.cx, &self.users, &mut self.pushes, ended);
            }
            self.presences.next_in_line(&mut self.cx, &self.users, &mut self.pushes);
            let lost = self.users.flush(&mut self.cx);
            self.not_written_off(lost);
            self.dismissed();
            self.summarise();
            self.carry_out();
            while framed < TURN_OCTETS
                && let Some(conn) = self.conns.next_due()
            {
                framed += self.fill(conn);
            }
            let is_told = !self.dismissals.has_done() && self.users.is_flushed(&self.cx);
            if self.pushes.is_settled() && is_told && self.cx.asks.is_empty() {
                break;
            }
        }
        self.cx.log.retry_prepare(now.tick);
        self.cx.log.turn(&mut self.cx.disk);
        if self.cx.log.has_sealed() {
            self.reclaim.look_now(now.tick);
            self.reclaim();
        }
        for op in self.cx.disk.drain(..) {
            // A file that somebody has mapped cannot be written anew.
            if let DiskOp::Recycle { old: segment, .. } | DiskOp::Remove { segment, .. } = op {
                self.cx.loader.forget(segment);
            }
            self.effects.push_back(Effect::Disk(op));
        }
        if self.cx.stopping
            && !self.stopped
            && self.pushes.is_empty()
            && self.larges.is_empty()
            && self.cx.commits.is_empty()
        {
            self.stopped = true;
            self.effects.push_back(Effect::Stopped);
        }
        self.publish();
    }

    /// A burst is over: lets go of memory that was kept for its next turn.
    pub fn rest(&mut self) {
        self.cx.log.rest();
        self.conns.rest();
        self.cx.commits.shrink_to_fit();
        self.effects.shrink_to_fit();
    }

    /// The next thing to do; call until `None` after each `turn`.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When `turn` is wanted even without input.
    pub fn deadline(&self) -> Option<Tick> {
        if self.conns.has_due() {
            return Some(self.cx.now.tick);
        }
        match (self.cx.timers.deadline(), self.cx.sip.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// True when another core left something in shared memory: look once more before sleeping.
    pub fn has_mail(&self) -> bool {
        self.cx.directory.has_ready(self.cx.core)
    }

    /// What this core has counted.
    pub fn counts(&self) -> &Counts {
        &self.cx.counts
    }

    /// How many pushes are under way.
    pub fn pushes(&self) -> usize {
        self.pushes.len()
    }

    /// How many users have messages here.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.conns.table.len()
    }

    fn accepted(&mut self, conn: ConnId, service: Service, peer: SocketAddr) {
        if !self.conns.accept(self.cx.now, conn, service, peer) || self.cx.stopping {
            self.cx.counts.overloads += 1;
            self.conns.close(conn, true, &mut self.effects);
            return;
        }
        self.sweep_later();
        self.conns.read_on(conn, &mut self.effects);
    }

    fn sweep_later(&mut self) {
        if !self.sweeping {
            self.sweeping = true;
            self.cx.timer(SWEEP, Timer::Sweep);
        }
    }

    fn received(&mut self, conn: ConnId, buffer: BytesMut, outcome: Result<usize, std::io::ErrorKind>) {
        match outcome {
            Ok(octets) if octets > 0 => {
                self.conns.returned(conn, buffer, octets);
                self.consume(conn);
                self.large_answers();
                if !self.larges.stalls(conn) {
                    self.conns.read_on(conn, &mut self.effects);
                }
                self.pump(conn);
            }
            // The peer has said all it has to say; what we still owe it is sent before the FIN.
            Ok(_) => self.hang_up(conn, false),
            Err(_) => self.hang_up(conn, true),
        }
    }

    /// Cuts and handles everything that is whole in a connection's buffer.
    fn consume(&mut self, id: ConnId) {
        let Some(conn) = self.conns.table.get_mut(&id) else { return };
        if conn.is_closing() {
            return;
        }
        let before = conn.buffer.len();
        // Requests without end from somebody who does not read our answers.
        let limit = self.setup.limits.backlog_octets;
        let keep = match conn.cutter {
            Cutter::Sip(_) => self.consume_sip(id),
            Cutter::Msrp(_) => self.consume_msrp(id),
        };
        if self.conns.table.get(&id).is_some_and(|conn| conn.owed.len() > limit) {
            self.cx.counts.overloads += 1;
            self.hang_up(id, true);
        } else if !keep {
            self.hang_up(id, false);
        } else if let Some(conn) = self.conns.table.get_mut(&id).filter(|conn| !conn.is_msrp()) {
            // The patience is with one message: whoever has finished the last one has all of it for the next. An MSRP
            // connection's is with the first session, and its sessions have times of their own.
            let (rest, now) = (conn.buffer.len(), self.cx.now.tick);
            let since = conn.waiting_since.filter(|_| rest >= before).unwrap_or(now);
            conn.waiting_since = (rest > 0).then_some(since);
        }
    }

    /// What the transaction layer has to say.
    pub(super) fn upward(&mut self) {
        loop {
            while let Some(upward) = self.cx.sip.poll_upward() {
                match upward {
                    Upward::Request { txn, message, flow } => {
                        let reply = Reply { core: self.cx.core, txn };
                        self.serve(reply, message, flow);
                    }
                    Upward::Response { txn, message } => self.response(txn, &message),
                    Upward::Failed { txn, cause } => self.no_response(txn, cause),
                    Upward::Ack { message, flow } => self.acked(message, flow),
                    Upward::Cancel { txn } => self.cancelled(txn),
                    Upward::Ended { txn, .. } => _ = self.elsewhere.remove(&txn),
                }
            }
            self.dial();
            let mut sent = false;
            while let Some(transmit) = self.cx.sip.poll_transmit() {
                sent = true;
                self.transmit(transmit.flow, transmit.octets);
            }
            // What could not be sent has failed, and somebody is to hear of it.
            if !sent {
                break;
            }
        }
    }

    /// Sends a SIP message on a flow that exists.
    pub(super) fn transmit(&mut self, flow: Flow, octets: Bytes) {
        match flow {
            Flow::Datagram { socket, peer } => {
                self.effects.push_back(Effect::SendDatagram { socket, to: peer, octets });
            }
            Flow::Stream { core, conn, .. } if core == self.cx.core => match self.conns.write(conn, octets) {
                // A hundred answers to what one read has brought go out together: it is asked for once.
                Written::Queued if !matches!(self.cx.asks.back(), Some(Ask::Pump(asked)) if *asked == conn) => {
                    self.cx.asks.push_back(Ask::Pump(conn));
                }
                Written::Queued => {}
                Written::Gone => self.cx.sip.flow_failed(self.cx.now.tick, self.cx.core, conn),
                Written::Overflow => {
                    self.cx.counts.overloads += 1;
                    self.hang_up(conn, true);
                }
            },
            Flow::Stream { core, conn, .. } => {
                self.effects
                    .push_back(Effect::Letter { to: core, letter: Letter::Write { from: self.cx.core, conn, octets } });
            }
        }
    }

    /// Opens the connections that were asked for: before anything is sent on them.
    fn dial(&mut self) {
        while let Some(Dial { conn, to, bind, msrp }) = self.cx.dials.pop_front() {
            let service = if msrp { Service::Msrp } else { Service::Sip };
            self.conns.dial(conn, service, to);
            self.sweep_later();
            self.effects.push_back(Effect::Connect { conn, to, bind });
        }
    }

    /// What the use cases asked for.
    fn carry_out(&mut self) {
        loop {
            self.upward();
            let Some(ask) = self.cx.asks.pop_front() else { break };
            match ask {
                Ask::Respond { reply, status, octets } => {
                    let letter = Letter::Respond { from: self.cx.core, txn: reply.txn, status, octets };
                    self.effects.push_back(Effect::Letter { to: reply.core, letter });
                }
                Ask::Pump(conn) => self.pump(conn),
                Ask::Hangup(conn) => self.conns.hang_up(self.cx.now, conn),
                Ask::Ring(core) => self.effects.push_back(Effect::Ring { core }),
            }
        }
    }

    /// Sends what waits for a connection: at once, or, where sessions have to fill it, when its turn comes.
    pub(super) fn pump(&mut self, conn: ConnId) {
        if !self.conns.put_off(conn) {
            self.conns.pump(self.cx.now, conn, &mut self.pushes, &mut self.effects);
        }
    }

    /// Has the sessions of a connection supplied and frames what they may send; how many octets.
    fn fill(&mut self, conn: ConnId) -> usize {
        self.pushes.supply(&mut self.cx, &self.users, conn, self.conns.is_sending(conn));
        let (octets, copied) = self.conns.pump(self.cx.now, conn, &mut self.pushes, &mut self.effects);
        self.cx.counts.push_octets_copied += copied;
        octets
    }

    /// Closes a connection, telling everybody who used it.
    pub(super) fn hang_up(&mut self, conn: ConnId, reset: bool) {
        if reset {
            self.conns.close(conn, true, &mut self.effects);
        } else {
            self.conns.finish(self.cx.now, conn);
            self.pump(conn);
        }
        self.broken(conn);
    }

    fn broken(&mut self, conn: ConnId) {
        if self.cx.proxy == Some(conn) {
            self.cx.proxy = None;
        }
        self.cx.sip.flow_failed(self.cx.now.tick, self.cx.core, conn);
        self.tell_writers(conn);
        self.pushes.disconnected(&mut self.cx, conn);
        self.larges.disconnected(&mut self.cx, conn);
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Push(key) => self.pushes.timer(&mut self.cx, key),
            Timer::Large(key) => self.larges.timer(&mut self.cx, key),
            Timer::Presence(owner) => {
                self.presences.timer(&mut self.cx, &self.users, &mut self.pushes, &owner);
            }
            Timer::Line => self.presences.line_timer(),
            Timer::Expiry => {
                for user in self.users.due(&mut self.cx) {
                    let pushes = &self.pushes;
                    let gone = self.users.expire(&mut self.cx, user, |place| pushes.is_in_flight(user, place));
                    self.dismiss(user, gone, Reason::Expired);
                }
            }
            Timer::Bin => self.bin.turn(&mut self.cx, &mut self.users),
            Timer::Report => self.reports.turn(&mut self.cx, &self.presences),
            Timer::Summary(key) => self.summaries.timer(key),
            Timer::Inquiry => self.inquiries_turn(),
            Timer::WriteOff => {
                let lost = self.users.write_off_again(&mut self.cx);
                self.not_written_off(lost);
            }
            Timer::Forward => {
                let pushes = &self.pushes;
                let held = |user, place| pushes.holds(user, place);
                self.forward.step(&mut self.cx, &mut self.users, &mut self.bin, held);
            }
            Timer::Reclaim => self.reclaim(),
            Timer::Sweep => {
                self.sweeping = false;
                let (pushes, larges) = (&self.pushes, &self.larges);
                for conn in self.conns.overdue(self.cx.now, |conn| pushes.uses(conn) || larges.uses(conn)) {
                    self.conns.close(conn, false, &mut self.effects);
                    self.broken(conn);
                }
                if !self.conns.table.is_empty() {
                    self.sweep_later();
                }
            }
        }
    }
}

/// The core numbered `core`: for the interpreter's tables.
impl Core {
    /// Which core this is.
    pub fn id(&self) -> CoreId {
        self.cx.core
    }
}
