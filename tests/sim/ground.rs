//! What everybody in the simulation stands on: time, chance, the one heap of events, the trace.

use crate::net::{Net, News, Owner, Way};
use crate::oracle::Oracle;
use crate::plan::{Plan, Proxy};
use crate::trace::Trace;
use deferd::base::clock::{Now, Tick, Wall};
use deferd::base::dice::Dice;
use deferd::base::net::{ConnId, CoreId};
use deferd::engine::input::Input;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// 2024-01-01, when all simulations begin.
const WALL_START_US: u64 = 1_704_067_200_000_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A core hears of something.
    Input { life: u32, core: CoreId, input: Box<Input> },
    /// A core takes its turn.
    Turn { life: u32, core: CoreId },
    /// A core's deadline.
    Wake { life: u32, core: CoreId, at: u64 },
    /// Octets of a stream move.
    Flow { stream: usize, way: Way },
    /// A connection of the daemon's is answered, or not.
    Dialled { life: u32, core: CoreId, conn: ConnId, to: SocketAddr, lost: bool },
    /// An agent's connection reaches the daemon.
    Knock { owner: Owner, from: SocketAddr, to: SocketAddr },
    /// An agent hears of its connection.
    News { owner: Owner, stream: usize, news: News },
    /// A datagram reaches an agent.
    DatagramDown { to: SocketAddr, octets: Vec<u8> },
    /// A datagram reaches the daemon.
    DatagramUp { from: SocketAddr, octets: Vec<u8> },
    /// The disk has finished.
    Disk { life: u32, number: u64 },
    /// An agent's own time has come.
    Person(Person),
    /// The daemon is told to end.
    Stop,
    /// The daemon dies.
    Crash,
    /// It comes up again.
    Start,
    /// The disk is full, or not any more.
    Full(bool),
    /// Something on the disk rots.
    Rot,
    /// These cannot reach the daemon, nor it them, from now on: a bit for each, by [`side`].
    Split(u64),
    /// From now on everything works.
    Calm,
}

/// Whose bit it is in a network that has fallen apart.
pub(crate) fn side(owner: Owner) -> u64 {
    match owner {
        Owner::Sip | Owner::Large => 1,
        Owner::Media(user) => 2 << user,
    }
}

/// An agent's timers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Person {
    /// A sender sends.
    Send(usize),
    /// A user does something.
    Act(usize),
    /// A request is repeated.
    Repeat { branch: u64 },
    /// A sender sends the same message once more, by another way.
    Again { message: u32 },
    /// A user answers an INVITE now.
    Answer { user: usize, session: usize },
    /// A 200 to an INVITE is repeated until its ACK comes.
    OkAgain { user: usize, session: usize, after: u64 },
    /// A client answers SENDs late.
    Acknowledge { user: usize, session: usize, octets: Vec<u8> },
    /// A client reads again.
    Listen { stream: usize },
}

/// The ground.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) now: u64,
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) net: Net,
    pub(crate) oracle: Oracle,
    /// Counts the daemon's lives; what was meant for an earlier one is dropped.
    pub(crate) life: u32,
    /// When this life began, and how far its wall clock is off.
    pub(crate) born: u64,
    pub(crate) clock_back: u64,
    /// Faults are off and everyone behaves.
    pub(crate) calm: bool,
    /// Who is cut off.
    pub(crate) split: u64,
    heap: BTreeMap<(u64, u64, u64), Event>,
    events: u64,
}

impl Ground {
    /// An empty world.
    pub(crate) fn new(plan: Plan, seed: u64, loud: bool) -> Ground {
        let mut octets = [0xd1; 32];
        octets[..8].copy_from_slice(&seed.to_le_bytes());
        let mut oracle = Oracle::default();
        oracle.flows_die = plan.proxy == Proxy::None;
        oracle.keeps = plan.keep;
        Ground {
            now: 1_000_000,
            plan,
            dice: Dice::from_seed(octets),
            trace: Trace::new(loud),
            net: Net::default(),
            oracle,
            life: 0,
            born: 0,
            clock_back: 0,
            calm: false,
            split: 0,
            heap: BTreeMap::new(),
            events: 0,
        }
    }

    /// Puts an event on the heap; those of one instant come in an order that the dice decide.
    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.events += 1;
        let luck = self.dice.bits();
        self.heap.insert((at.max(self.now), luck, self.events), event);
    }

    /// In `delay` microseconds.
    pub(crate) fn later(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// In this very instant, but after what is being done.
    pub(crate) fn soon(&mut self, event: Event) {
        self.at(self.now, event);
    }

    /// A person's timer.
    pub(crate) fn person(&mut self, delay: u64, person: Person) {
        self.later(delay, Event::Person(person));
    }

    /// The next event; time moves to it.
    pub(crate) fn next(&mut self, until: u64) -> Option<Event> {
        let entry = self.heap.first_entry()?;
        if entry.key().0 > until {
            self.now = until;
            return None;
        }
        self.now = entry.key().0;
        Some(entry.remove())
    }

    /// True `permille` times of a thousand; never when all is calm.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && !self.calm && self.dice.between(1, 1_000) <= permille
    }

    /// True while nothing goes between the daemon and these.
    pub(crate) fn is_cut_off(&self, owner: Owner) -> bool {
        self.split & side(owner) != 0
    }

    /// A time between the two, in microseconds.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.dice.between(low, high)
    }

    /// How long octets are on the way.
    pub(crate) fn hop(&mut self) -> u64 {
        let (low, high) = if self.calm { (50, 400) } else { self.plan.delay_us };
        self.dice.between(low, high)
    }

    /// An input for a core, soon.
    pub(crate) fn input(&mut self, core: CoreId, input: Input) {
        let (delay, life) = (self.dice.between(1, 40), self.life);
        self.later(delay, Event::Input { life, core, input: Box::new(input) });
    }

    /// What the daemon's clocks show.
    pub(crate) fn clocks(&self) -> Now {
        Now { tick: Tick(self.now - self.born), wall: Wall(self.wall()) }
    }

    /// What its wall clock shows.
    pub(crate) fn wall(&self) -> u64 {
        WALL_START_US + self.now - self.clock_back
    }

    /// What a clock shows that nobody sets back. An expiry is never earlier than by this one.
    pub(crate) fn true_wall(&self) -> u64 {
        WALL_START_US + self.now
    }

    /// Where the daemon listens for SIP.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 5060))
    }

    /// Sends a datagram to the daemon.
    pub(crate) fn datagram_up(&mut self, from: SocketAddr, octets: &[u8]) {
        self.datagram(|octets| Event::DatagramUp { from, octets }, octets);
    }

    /// Sends a datagram to an agent.
    pub(crate) fn datagram_down(&mut self, to: SocketAddr, octets: &[u8]) {
        self.datagram(|octets| Event::DatagramDown { to, octets }, octets);
    }

    fn datagram(&mut self, event: impl Fn(Vec<u8>) -> Event, octets: &[u8]) {
        if self.is_cut_off(Owner::Sip) || self.chance(self.plan.loss) {
            return;
        }
        let copies = if self.chance(self.plan.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let hop = self.hop();
            self.later(hop, event(octets.to_vec()));
        }
    }

    /// Writes a line of the trace.
    pub(crate) fn say(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, line);
    }
}
