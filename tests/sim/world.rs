//! One run: people, network, disk and cores on one heap of events, from a plan to a verdict.

use crate::agents::People;
use crate::agents::core::SipCore;
use crate::cores::Cores;
use crate::disk::{Disk, Rotten};
use crate::ground::{Event, Ground};
use crate::net::{CUT_OFF_US, News, Owner};
use crate::plan::Plan;
use crate::trace::first_line;
use bytes::Bytes;
use deferd::base::net::SocketId;
use deferd::engine::input::{Input, Service};
use deferd::store::record::Place;
use std::collections::BTreeSet;
use std::ops::Range;

/// After the last fault everything must have arrived within this. The longest wait that the daemon may choose is Retry-After or
/// the third backoff, ten minutes; a person publishes every half a minute.
const CONVERGE_US: u64 = 1_800_000_000;

/// Then everything is quiet: transactions end after 64*T1, connections five seconds after their last session.
const QUIET_US: u64 = 120_000_000;

/// A simulation.
pub(crate) struct World {
    pub(crate) g: Ground,
    pub(crate) people: People,
    pub(crate) cores: Cores,
    pub(crate) disk: Disk,
    calm_at: u64,
    /// In the lives before this one.
    reclaimed: (u64, u64),
    erased: [u64; 3],
}

/// How a run went.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was wrong.
    pub(crate) verdict: Result<(), String>,
    /// Hash and number of lines of the trace.
    pub(crate) sum: (u64, u64),
    /// Hash of what the disk holds at the end.
    pub(crate) disk: u64,
    /// Sectors that rotted, and what was counted for it.
    pub(crate) rots: u64,
    pub(crate) damage: u64,
    /// Effects the daemon had.
    pub(crate) effects: u64,
    /// Messages sent, accepted, delivered.
    pub(crate) figures: (usize, usize, usize),
    /// Segments had back and octets copied forward, in all lives.
    pub(crate) reclaimed: (u64, u64),
    /// Messages deleted, messages purged, reports that were taken, in all lives.
    pub(crate) erased: [u64; 3],
}

impl World {
    /// A world before its first event.
    pub(crate) fn new(plan: Plan, seed: u64, loud: bool) -> World {
        let mut g = Ground::new(plan, seed, loud);
        let plan = format!("{:?}", g.plan);
        g.say(format_args!("seed {seed:#x}: {plan}"));
        let people = People::new(&mut g);
        let calm_at = g.now + g.plan.busy_us;
        g.at(calm_at, Event::Calm);
        for crash in g.plan.crashes.clone() {
            let polite = g.chance(g.plan.polite);
            g.at(crash, if polite { Event::Stop } else { Event::Crash });
        }
        if g.plan.full > 0 {
            let (from, to) = (g.between(0, g.plan.busy_us), g.between(0, g.plan.busy_us));
            g.at(from.min(to), Event::Full(true));
            g.at(from.max(to), Event::Full(false));
        }
        for _ in 0..g.plan.rot {
            let at = g.between(0, g.plan.busy_us);
            g.at(at, Event::Rot);
        }
        for _ in 0..g.plan.splits {
            let (at, who) = (g.between(0, g.plan.busy_us), g.between(1, 63));
            let until = at + g.between(100_000, 20_000_000);
            g.at(at, Event::Split(who));
            g.at(until, Event::Split(0));
        }
        let cores = Cores::new();
        g.soon(Event::Start);
        World { g, people, cores, disk: Disk::default(), calm_at, reclaimed: (0, 0), erased: [0; 3] }
    }

    /// Runs to the end, or to the first thing that is wrong.
    pub(crate) fn run(mut self) -> Report {
        let verdict = self.live();
        let figures = self.g.oracle.figures();
        let (sum, effects) = (self.g.trace.sum(), self.cores.effects);
        let (segments, octets) = self.cores.reclaimed();
        let reclaimed = (self.reclaimed.0 + segments, self.reclaimed.1 + octets);
        let erased = self.erased();
        Report {
            verdict,
            sum,
            disk: self.disk.sum(),
            rots: self.disk.rots,
            damage: self.g.oracle.damage_counted(),
            effects,
            figures,
            reclaimed,
            erased,
        }
    }

    /// Messages deleted, messages purged, reports that were taken, in all lives.
    pub(crate) fn erased(&self) -> [u64; 3] {
        let now = self.cores.erased();
        [0, 1, 2].map(|at| self.erased[at] + now[at])
    }

    fn live(&mut self) -> Result<(), String> {
        self.until(self.calm_at)?;
        let deadline = self.calm_at + CONVERGE_US;
        while !self.is_settled() && self.g.now < deadline {
            self.until(self.g.now + 1_000_000)?;
        }
        self.g.oracle.finished();
        self.g.oracle.verdict()?;
        // Whoever still says BYE in the first pause opens a connection for it.
        for _ in 0..2 {
            self.people.sip.leave(&mut self.g);
            self.until(self.g.now + QUIET_US)?;
        }
        self.cores.disk_is_bounded(&self.g, &self.disk)?;
        if self.g.oracle.has_rotted() {
            // What rotted since the last start the next one would name.
            let found = self.cores.found(&self.disk).map_err(|fault| format!("recovery: {fault:?}"))?;
            self.g.oracle.named(&found.report);
            let (alive, listed) = self.cores.alive(&self.disk)?;
            self.g.oracle.judge_rotten(&alive.into_keys().collect(), listed);
            self.g.oracle.verdict()?;
        }
        // What is kept beyond its time stays when all is quiet.
        let unsure = self.g.oracle.is_unsure() || self.g.plan.keep;
        let left = self.cores.left(unsure, self.g.oracle.may_be_trying() || self.g.oracle.has_rotted());
        if left.is_empty() { Ok(()) } else { Err(format!("when all is quiet there is still: {left}")) }
    }

    fn is_settled(&self) -> bool {
        let users = self.people.users.len();
        self.cores.are_up()
            && self.people.senders.is_done(&self.g)
            && (0..users).all(|user| !self.g.oracle.waits_for(user, self.g.wall()))
            && self.cores.are_idle()
    }

    /// Runs until then.
    pub(crate) fn until(&mut self, until: u64) -> Result<(), String> {
        while let Some(event) = self.g.next(until) {
            self.step(event);
            for request in self.g.oracle.take_told() {
                let (alive, _) = self.cores.alive(&self.disk)?;
                self.g.oracle.judge_told(request, &alive.into_keys().collect());
            }
            self.g.oracle.verdict()?;
        }
        Ok(())
    }

    fn step(&mut self, event: Event) {
        let g = &mut self.g;
        g.oracle.wall(g.true_wall());
        self.disk.now = g.now;
        match event {
            Event::Input { life, core, input } if life == g.life => self.cores.input(g, core, *input),
            Event::Turn { life, core } if life == g.life => self.cores.turn(g, &mut self.disk, core),
            Event::Wake { life, core, at } if life == g.life => self.cores.wake(g, &mut self.disk, core, at),
            Event::Disk { life, number } if life == g.life => {
                let Some(ended) = self.disk.end(number, &mut g.dice) else { return };
                if let Some(octets) = ended.written {
                    g.oracle.durable(&octets);
                }
                self.cores.input(g, ended.core, Input::Disk(ended.done));
            }
            Event::Dialled { life, core, conn, to, lost } if life == g.life => {
                let owner = self.people.listener(to).filter(|owner| !lost && !g.is_cut_off(*owner));
                g.dialled(core, conn, to, owner);
            }
            Event::Input { .. }
            | Event::Turn { .. }
            | Event::Wake { .. }
            | Event::Disk { .. }
            | Event::Dialled { .. } => {}
            Event::Flow { stream, way } => g.flowed(stream, way),
            Event::Knock { owner, from, to } if g.is_cut_off(owner) => {
                g.later(CUT_OFF_US, Event::Knock { owner, from, to });
            }
            Event::Knock { owner, from, to } => {
                let service = if owner == Owner::Sip { Service::Sip } else { Service::Msrp };
                match self.cores.listener(g, to) {
                    Some(core) => _ = g.accept(core, service, owner, from, to),
                    None => g.soon(Event::News { owner, stream: usize::MAX, news: News::Refused(from) }),
                }
            }
            Event::News { owner, stream, news } => self.people.news(g, owner, stream, news),
            Event::DatagramDown { to, octets } => {
                if SipCore::is_datagram(to) {
                    self.people.datagram(g, to, octets);
                }
            }
            Event::DatagramUp { from, octets } => {
                g.say(format_args!("datagram from {from}: {}", first_line(&octets)));
                if let Some(core) = self.cores.datagram_core(from) {
                    let octets = Bytes::from(octets);
                    self.cores.input(g, core, Input::Datagram { socket: SocketId(0), peer: from, octets });
                }
            }
            Event::Person(person) => self.people.act(g, person),
            Event::Stop => self.cores.stop(g),
            Event::Crash => self.crash(),
            Event::Start => self.cores.start(g, &mut self.disk),
            Event::Full(full) => {
                g.say(format_args!("disk full: {full}"));
                self.disk.full = full && !g.calm;
                g.oracle.disk_hurt |= full;
            }
            Event::Rot => self.rot(),
            Event::Split(who) => {
                g.say(format_args!("cut off: {who:#b}"));
                g.split = if g.calm { 0 } else { who };
            }
            Event::Calm => {
                g.say(format_args!("calm"));
                (g.calm, g.split) = (true, 0);
                self.disk.full = false;
                if self.disk.hurt && self.cores.are_up() {
                    self.crash();
                }
            }
        }
        if self.cores.wants_crash(&self.g) {
            self.crash();
        }
    }

    /// The daemon dies, the disk keeps what it keeps, and after a while it comes up again.
    pub(crate) fn crash(&mut self) {
        if !self.cores.are_up() {
            return;
        }
        self.erased = self.erased();
        let g = &mut self.g;
        g.say(format_args!("crash after {} effects", self.cores.effects));
        let (segments, octets) = self.cores.reclaimed();
        self.reclaimed = (self.reclaimed.0 + segments, self.reclaimed.1 + octets);
        self.cores.die();
        g.life += 1;
        g.cut_off();
        g.oracle.died();
        self.disk.crash(&mut g.dice);
        if g.plan.rot > 0 && g.chance(333) {
            self.rot();
        }
        let g = &mut self.g;
        let delay = g.between(1_000, 4_000_000);
        if g.plan.reshape {
            g.plan.cores = g.between(1, 4) as u16;
        }
        if g.plan.clock_back_us > 0 && g.between(0, 1) == 0 {
            g.clock_back += g.between(0, g.plan.clock_back_us);
        }
        g.later(delay, Event::Start);
    }

    /// One sector rots, or an octet of a hint; what that may cost is asked of a start that comes a moment earlier.
    fn rot(&mut self) {
        let g = &mut self.g;
        if g.calm {
            return;
        }
        if g.chance(250) {
            g.say(format_args!("a hint rots"));
            return self.disk.rot_a_hint(&mut g.dice);
        }
        let Some(rotten) = self.disk.ripe(&mut g.dice) else { return };
        let Ok((alive, _)) = self.cores.alive(&self.disk) else { return };
        let Rotten { segment, sector, may_take, idle, .. } = &rotten;
        let meets = |place: Place, octets: u64, range: &Range<u64>| {
            place.segment == *segment && place.octets() < range.end && place.octets() + octets > range.start
        };
        let hit = alive.iter().filter(|(_, (place, record))| meets(*place, record.len() as u64, may_take));
        let hit: BTreeSet<u32> = hit.map(|(number, _)| *number).collect();
        // Inside of one message that waits nothing else can rot.
        let inside = alive.values().any(|(place, record)| {
            place.segment == *segment
                && place.octets() <= sector.start
                && place.octets() + record.len() as u64 >= sector.end
        });
        g.say(format_args!("octets {sector:?} of {} rot, with them perhaps {hit:?}, inside {inside}", segment.0));
        g.oracle.rotted(*segment, &hit, !idle && (!inside || may_take != sector));
        self.disk.rot(&rotten, &mut g.dice);
    }
}
