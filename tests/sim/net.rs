//! Streams between the daemon's cores and the people outside, with everything a network does to them.
//!
//! ```text
//!   agent ──▶ up.wire ──▶ up.arrived ──▶ a lent buffer ──▶ Received
//!   Send ──▶ sending ──▶ down.wire ──▶ down.arrived ──▶ agent, when it reads
//! ```
//! The core's side keeps the contract of `engine::effect`: one read and one send at most, each answered once, `Closed` last.

use crate::ground::{Event, Ground};
use bytes::BytesMut;
use deferd::base::gather::Gather;
use deferd::base::net::{ConnId, CoreId};
use deferd::engine::input::{Input, Service};
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;

/// How long something waits before it is tried again through a network that has fallen apart.
pub(crate) const CUT_OFF_US: u64 = 400_000;

/// Who of the people outside holds the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The SIP core.
    Sip,
    /// A user's MSRP client.
    Media(usize),
    /// Somebody who sends a large message.
    Large,
}

/// What the people outside are told of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// The daemon connected to this address of ours.
    Accepted(SocketAddr),
    /// We connected.
    Connected,
    /// Nobody listens where we tried from this address of ours.
    Refused(SocketAddr),
    /// Octets.
    Octets(Vec<u8>),
    /// The daemon sends no more.
    Fin,
    /// It is broken.
    Reset,
}

/// Which way a stream's octets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// To the daemon.
    Up,
    /// From the daemon.
    Down,
}

#[derive(Debug, Default)]
struct Lane {
    wire: VecDeque<u8>,
    arrived: VecDeque<u8>,
    /// Nothing follows what is on the wire.
    fin: bool,
    moving: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Tcp {
    pub(crate) core: CoreId,
    pub(crate) name: ConnId,
    pub(crate) service: Service,
    pub(crate) owner: Owner,
    /// The agent's address.
    pub(crate) agent: SocketAddr,
    up: Lane,
    down: Lane,
    lent: Option<BytesMut>,
    sending: Option<(Gather, Vec<u8>, usize)>,
    /// The core has asked to close.
    closing: bool,
    /// `Closed` has been posted.
    closed: bool,
    /// Nothing goes through any more, in either direction.
    broken: bool,
    /// The agent has let go.
    left: bool,
    /// The agent does not read now.
    deaf: bool,
    /// Answers to the core come in order.
    posted: u64,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) streams: Vec<Tcp>,
    by_name: BTreeMap<(CoreId, ConnId), usize>,
    accepted: BTreeMap<CoreId, u64>,
    dialling: BTreeMap<(CoreId, ConnId), bool>,
}

impl Net {
    /// The connection a core calls `name`.
    pub(crate) fn find(&self, core: CoreId, name: ConnId) -> Option<usize> {
        self.by_name.get(&(core, name)).copied().filter(|&at| !self.streams[at].closed)
    }

    /// What it is or was for.
    pub(crate) fn service(&self, core: CoreId, name: ConnId) -> Option<Service> {
        self.by_name.get(&(core, name)).map(|&at| self.streams[at].service)
    }

    fn add(&mut self, core: CoreId, name: ConnId, service: Service, owner: Owner, agent: SocketAddr) -> usize {
        let at = self.streams.len();
        self.streams.push(Tcp {
            core,
            name,
            service,
            owner,
            agent,
            up: Lane::default(),
            down: Lane::default(),
            lent: None,
            sending: None,
            closing: false,
            closed: false,
            broken: false,
            left: false,
            deaf: false,
            posted: 0,
        });
        self.by_name.insert((core, name), at);
        at
    }

    /// True when nothing an agent writes arrives any more.
    pub(crate) fn is_left(&self, at: usize) -> bool {
        self.streams[at].left || self.streams[at].broken
    }
}

impl Ground {
    // ---- the people outside ----

    /// An agent's connection has reached the daemon's listener.
    pub(crate) fn accept(
        &mut self,
        core: CoreId,
        service: Service,
        owner: Owner,
        agent: SocketAddr,
        local: SocketAddr,
    ) -> usize {
        let count = self.net.accepted.entry(core).or_insert(0);
        *count += 2;
        let conn = ConnId(*count);
        let at = self.net.add(core, conn, service, owner, agent);
        self.post(at, Input::Accepted { conn, service, peer: agent, local });
        let hop = self.hop();
        self.later(hop, Event::News { owner, stream: at, news: News::Connected });
        at
    }

    /// An agent writes.
    pub(crate) fn write(&mut self, at: usize, octets: &[u8]) {
        let stream = &mut self.net.streams[at];
        if stream.left || stream.broken || stream.up.fin {
            return;
        }
        stream.up.wire.extend(octets);
        self.flow(at, Way::Up);
    }

    /// An agent sends no more, and reads no more.
    pub(crate) fn leave(&mut self, at: usize) {
        let stream = &mut self.net.streams[at];
        stream.left = true;
        stream.up.fin = true;
        stream.down.arrived.clear();
        self.flow(at, Way::Up);
        self.try_read(at);
    }

    /// An agent, or something on the way, breaks the connection.
    pub(crate) fn reset(&mut self, at: usize) {
        let stream = &mut self.net.streams[at];
        if stream.broken {
            return;
        }
        stream.broken = true;
        let (owner, told) = (stream.owner, !stream.left);
        stream.up.wire.clear();
        stream.down.wire.clear();
        self.trace.line(self.now, format_args!("net #{at} is reset"));
        self.try_read(at);
        self.try_send(at);
        if told {
            let hop = self.hop();
            self.later(hop, Event::News { owner, stream: at, news: News::Reset });
        }
    }

    /// An agent stops reading, or begins again.
    pub(crate) fn deafen(&mut self, at: usize, deaf: bool) {
        self.net.streams[at].deaf = deaf;
        if !deaf {
            self.hand_over(at);
        }
    }

    /// Gives the agent what has arrived, if it reads.
    fn hand_over(&mut self, at: usize) {
        let stream = &mut self.net.streams[at];
        if stream.deaf || stream.left {
            return;
        }
        let owner = stream.owner;
        if !stream.down.arrived.is_empty() {
            let octets = stream.down.arrived.drain(..).collect();
            self.soon(Event::News { owner, stream: at, news: News::Octets(octets) });
        }
        let stream = &mut self.net.streams[at];
        if stream.down.fin && stream.down.wire.is_empty() && !stream.broken {
            stream.down.fin = false;
            self.later(1, Event::News { owner, stream: at, news: News::Fin });
        }
        self.try_send(at);
    }

    // ---- the wire ----

    fn flow(&mut self, at: usize, way: Way) {
        let delay = self.hop();
        let lane = self.net.streams[at].lane(way);
        if lane.moving || lane.wire.is_empty() && !lane.fin {
            return;
        }
        lane.moving = true;
        self.later(delay, Event::Flow { stream: at, way });
    }

    /// Some octets arrive.
    pub(crate) fn flowed(&mut self, at: usize, way: Way) {
        self.net.streams[at].lane(way).moving = false;
        if self.net.streams[at].broken {
            return;
        }
        if self.is_cut_off(self.net.streams[at].owner) {
            // The kernels repeat it until it comes through.
            self.net.streams[at].lane(way).moving = true;
            return self.later(CUT_OFF_US, Event::Flow { stream: at, way });
        }
        if self.chance(self.plan.reset) {
            return self.reset(at);
        }
        let most = self.plan.piece;
        let most = if self.calm { usize::MAX } else { self.dice.between(1, most as u64) as usize };
        let lane = self.net.streams[at].lane(way);
        let count = lane.wire.len().min(most);
        let octets: Vec<u8> = lane.wire.drain(..count).collect();
        lane.arrived.extend(octets);
        let more = !lane.wire.is_empty();
        match way {
            Way::Up => self.try_read(at),
            Way::Down => self.hand_over(at),
        }
        if more {
            self.flow(at, way);
        }
    }

    // ---- the daemon ----

    /// Posts an answer to the core that owns a connection, behind those before it.
    fn post(&mut self, at: usize, input: Input) {
        let delay = self.dice.between(1, 40);
        let stream = &mut self.net.streams[at];
        let when = (self.now + delay).max(stream.posted + 1);
        stream.posted = when;
        let (core, life) = (stream.core, self.life);
        self.at(when, Event::Input { life, core, input: Box::new(input) });
    }

    fn try_read(&mut self, at: usize) {
        let split = self.dice.between(1, 64 * 1024) as usize;
        let stream = &mut self.net.streams[at];
        let conn = stream.name;
        let Some(mut buffer) = stream.lent.take() else { return };
        let outcome = if stream.closing {
            Err(ErrorKind::NotConnected)
        } else if stream.broken {
            Err(ErrorKind::ConnectionReset)
        } else if !stream.up.arrived.is_empty() {
            let room = buffer.capacity() - buffer.len();
            assert!(room > 0, "a buffer without room was lent");
            let count = stream.up.arrived.len().min(room).min(split);
            let octets: Vec<u8> = stream.up.arrived.drain(..count).collect();
            buffer.extend_from_slice(&octets);
            Ok(count)
        } else if stream.up.fin && stream.up.wire.is_empty() {
            Ok(0)
        } else {
            stream.lent = Some(buffer);
            return;
        };
        self.post(at, Input::Received { conn, buffer, outcome });
    }

    fn try_send(&mut self, at: usize) {
        let window = self.plan.window;
        let stream = &mut self.net.streams[at];
        let conn = stream.name;
        let Some((gather, octets, mut done)) = stream.sending.take() else { return };
        let outcome = if stream.closing {
            Err(ErrorKind::NotConnected)
        } else if stream.broken {
            Err(ErrorKind::BrokenPipe)
        } else {
            let room = window.saturating_sub(stream.down.wire.len() + stream.down.arrived.len());
            let count = room.min(octets.len() - done);
            stream.down.wire.extend(&octets[done..done + count]);
            done += count;
            if done < octets.len() {
                stream.sending = Some((gather, octets, done));
                self.flow(at, Way::Down);
                return;
            }
            Ok(())
        };
        self.flow(at, Way::Down);
        self.post(at, Input::Sent { conn, gather, outcome });
    }

    /// `Effect::Receive`.
    pub(crate) fn lend(&mut self, core: CoreId, conn: ConnId, buffer: BytesMut) {
        let Some(at) = self.net.find(core, conn) else {
            let input = Input::Received { conn, buffer, outcome: Err(ErrorKind::NotConnected) };
            return self.input(core, input);
        };
        let before = self.net.streams[at].lent.replace(buffer);
        assert!(before.is_none(), "a second read on one connection");
        self.try_read(at);
    }

    /// `Effect::Send`.
    pub(crate) fn send(&mut self, core: CoreId, conn: ConnId, gather: Gather) {
        let Some(at) = self.net.find(core, conn) else {
            let input = Input::Sent { conn, gather, outcome: Err(ErrorKind::NotConnected) };
            return self.input(core, input);
        };
        let octets = gather.to_vec();
        let before = self.net.streams[at].sending.replace((gather, octets, 0));
        assert!(before.is_none(), "a second send on one connection");
        self.try_send(at);
    }

    /// `Effect::Connect`: what an agent's listener at `to` makes of it.
    pub(crate) fn dial(&mut self, core: CoreId, conn: ConnId, to: SocketAddr) {
        self.net.dialling.insert((core, conn), false);
        let lost = self.chance(self.plan.loss);
        let delay = if lost { 10_000_000 } else { self.hop() };
        let life = self.life;
        self.later(delay, Event::Dialled { life, core, conn, to, lost });
    }

    /// The other end has decided: `owner` listens at `to`, or nobody.
    pub(crate) fn dialled(&mut self, core: CoreId, conn: ConnId, to: SocketAddr, owner: Option<Owner>) {
        let unwanted = self.net.dialling.remove(&(core, conn)).unwrap_or(true);
        let Some(owner) = owner.filter(|_| !unwanted) else {
            let error = if unwanted { ErrorKind::ConnectionAborted } else { ErrorKind::ConnectionRefused };
            return self.input(core, Input::ConnectFailed { conn, error });
        };
        let service = if owner == Owner::Sip { Service::Sip } else { Service::Msrp };
        let at = self.net.add(core, conn, service, owner, to);
        let local = self.address();
        self.post(at, Input::Connected { conn, local });
        self.soon(Event::News { owner, stream: at, news: News::Accepted(to) });
    }

    /// `Effect::Close`.
    pub(crate) fn close(&mut self, core: CoreId, conn: ConnId, reset: bool) {
        if let Some(unwanted) = self.net.dialling.get_mut(&(core, conn)) {
            *unwanted = true;
            return;
        }
        let Some(at) = self.net.find(core, conn) else { return };
        // The kernel may have taken what was being sent, some of it, or nothing.
        let taken = self.dice.between(0, 2);
        let stream = &mut self.net.streams[at];
        if std::mem::replace(&mut stream.closing, true) {
            return;
        }
        if let Some((_, octets, done)) = &stream.sending
            && !reset
            && taken > 0
            && !stream.broken
        {
            let rest = &octets[*done..];
            let rest = if taken == 1 { rest } else { &rest[..rest.len() / 2] };
            stream.down.wire.extend(rest);
        }
        self.try_read(at);
        self.try_send(at);
        self.post(at, Input::Closed { conn });
        let stream = &mut self.net.streams[at];
        stream.closed = true;
        if stream.broken {
            return;
        }
        if reset {
            self.reset(at);
        } else {
            stream.down.fin = true;
            self.flow(at, Way::Down);
        }
    }

    /// The daemon has died: its connections with it.
    pub(crate) fn cut_off(&mut self) {
        for at in 0..self.net.streams.len() {
            let stream = &mut self.net.streams[at];
            stream.lent = None;
            stream.sending = None;
            if !stream.broken && !stream.closing {
                self.reset(at);
            }
        }
        self.net.by_name.clear();
        self.net.accepted.clear();
        self.net.dialling.clear();
    }
}

impl Tcp {
    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}
