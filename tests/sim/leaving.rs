//! What goes while segments are had back, by a script: one core, no faults, and nobody there but the SIP core.

use crate::agents::core::Who;
use crate::agents::sender::asking_head;
use crate::agents::user;
use crate::oracle::Message;
use crate::plan::{Plan, Proxy};
use crate::world::World;
use deferd::store::record::{Place, StateKind};
use deferd::wire::sip::names::{Method, Name};

struct House {
    world: World,
    said: u32,
    /// How many wait for somebody else: a few in every segment, so that it is worth while to copy them out.
    others: usize,
    filled: u32,
}

impl House {
    fn new(bin_us: u64) -> House {
        House::of(Plan { bin_us, ..Plan::of_walk(0, 1, Proxy::None, None) })
    }

    fn of(plan: Plan) -> House {
        let plan = Plan { users: 0, senders: 0, ..plan };
        let mut house = House { world: World::new(plan, 7, false), said: 0, others: 0, filled: 0 };
        house.run(1_000_000);
        house
    }

    fn run(&mut self, us: u64) {
        let until = self.world.g.now + us;
        assert_eq!(self.world.until(until), Ok(()));
    }

    fn deposit(&mut self, user: usize, expires: Option<&str>) {
        self.deposit_of(user, expires, expires.is_none());
    }

    fn deposit_of(&mut self, user: usize, expires: Option<&str>, asking: bool) {
        let number = self.said;
        self.said += 1;
        let mut body = asking_head(0, user, number).into_bytes();
        body.resize(if asking { 400 } else { 5_000 }, b'x');
        let g = &mut self.world.g;
        let mut message = Message::new(number, user, body.clone());
        // What is to expire may do so at once.
        message.expires_us = expires.map(|_| 0);
        g.oracle.sent(g.now, message);
        let (to, call_id) = (user::address(user), format!("m{number:06}@sim"));
        self.world.people.sip.send(g, Who::Nobody, false, Method::Message, &to, |request| {
            let request = request
                .line(Name::MaxForwards, b"70")
                .line(Name::From, b"<sip:s0@example.com>;tag=s0")
                .line(Name::To, format!("<{to}>").as_bytes())
                .line(Name::PAssertedIdentity, b"<sip:s0@example.com>")
                .line(Name::CallId, call_id.as_bytes())
                .line(Name::CSeq, b"1 MESSAGE");
            let request = match expires {
                Some(seconds) => request.line(Name::Expires, seconds.as_bytes()),
                None => request,
            };
            // A report about each of what only fills the log would fill it too.
            request.body(if asking { b"message/cpim" } else { b"text/plain" }, &body)
        });
    }

    /// Fills the log with what soon expires, a tenth of a second's worth.
    fn fill(&mut self) {
        (0..3).for_each(|_| self.deposit(1, Some("1")));
        if self.world.g.plan.keep {
            // Or it would stay.
            self.run(10_000);
            self.erase(1);
        }
        self.filled += 1;
        if self.filled.is_multiple_of(3) {
            self.others += 1;
            self.deposit(2, None);
        }
        self.run(100_000);
    }

    fn erase(&mut self, user: usize) {
        user::erase(&mut self.world.g, &mut self.world.people.sip, user);
    }

    fn copied(&self) -> u64 {
        self.world.cores.reclaimed().1
    }

    /// Where a start would find the messages of the log, and the states of this kind.
    fn found(&self, kind: StateKind) -> (Vec<Place>, Vec<Place>) {
        let found = self.world.cores.found(&self.world.disk).expect("a sound disk");
        let homes = || found.homes.iter();
        let messages = homes().flat_map(|home| &home.users).flat_map(|(_, queue)| queue.iter().map(|at| at.place()));
        let states = homes().flat_map(|home| &home.states).filter(|state| state.kind == kind);
        (messages.collect(), states.map(|state| state.extent.place).collect())
    }

    fn restart(&mut self) {
        self.world.crash();
        self.run(5_000_000);
    }

    /// All is quiet: what is counted alive is what a start finds, and nobody's list holds anything.
    fn is_clean(&mut self) {
        // Whether the SIP core has a connection open still is a matter of its dice.
        self.world.people.sip.leave(&mut self.world.g);
        self.run(2_000_000);
        assert_eq!(self.world.cores.disk_is_bounded(&self.world.g, &self.world.disk), Ok(()));
        let users = if self.others > 0 { "1 users on core 0" } else { "" };
        assert_eq!(self.world.cores.left(false, false), users);
    }
}

#[test]
fn a_report_owed_survives_the_end_of_its_segment() {
    let mut house = House::new(0);
    house.deposit(0, None);
    house.run(500_000);
    house.erase(0);
    house.run(500_000);
    let (_, before) = house.found(StateKind::Report);
    assert_eq!(before.len(), 1, "one is owed, and nobody is there to take it");
    (0..150).for_each(|_| house.fill());
    let (_, after) = house.found(StateKind::Report);
    assert!(after.len() == 1 && after != before && house.copied() > 0, "copied forward: {before:?} {after:?}");
    house.restart();
    let publish = user::presence_of("sip:s0@example.com");
    house.world.people.sip.send(&mut house.world.g, Who::Nobody, false, Method::Publish, "sip:s0@example.com", publish);
    house.run(400_000_000);
    assert_eq!(house.world.erased()[2], 1, "taken, once");
    assert_eq!(house.found(StateKind::Report).1, []);
    // The PUBLISH may have come over a connection, which is its sender's to close.
    house.world.people.sip.leave(&mut house.world.g);
    house.run(1_000_000);
    house.is_clean();
}

#[test]
fn what_is_in_the_bin_survives_the_end_of_its_segment_and_is_purged_in_its_time() {
    let mut house = House::new(60_000_000);
    (0..3).for_each(|_| house.deposit(0, None));
    house.run(500_000);
    let (before, _) = house.found(StateKind::Bin);
    house.erase(0);
    house.run(500_000);
    assert_eq!((before.len(), house.found(StateKind::Bin).1.len()), (3, 1));
    (0..150).for_each(|_| house.fill());
    house.run(5_000_000);
    let (after, states) = house.found(StateKind::Bin);
    assert_eq!((after.len(), states.len()), (3 + house.others, 1));
    assert!(before.iter().all(|place| !after.contains(place)), "copied forward: {before:?} {after:?}");
    house.restart();
    house.is_clean();
    assert_eq!((house.world.erased()[1], house.found(StateKind::Bin).0.len()), (0, 3 + house.others));
    house.run(70_000_000);
    assert_eq!(house.world.erased()[1], 3);
    let (rest, states) = house.found(StateKind::Bin);
    assert_eq!((rest.len(), states.len()), (house.others, 0));
    house.is_clean();
}

/// The mark that its time was over goes with the segment it stands in, and the message is copied: it was missed nevertheless.
#[test]
fn what_was_kept_beyond_its_time_is_known_after_the_end_of_its_segment() {
    let mut house = House::of(Plan { keep: true, ..Plan::of_walk(0, 1, Proxy::None, None) });
    house.deposit_of(0, Some("1"), true);
    house.run(3_000_000);
    let (before, _) = house.found(StateKind::Report);
    assert_eq!(before.len(), 1, "it is kept");
    (0..150).for_each(|_| house.fill());
    house.run(3_000_000);
    let (after, owed) = house.found(StateKind::Report);
    assert!(!after.contains(&before[0]) && house.copied() > 0, "copied forward: {before:?} {after:?}");
    assert_eq!((after.len(), owed.len()), (1 + house.others, 0));
    house.restart();
    house.erase(0);
    house.run(500_000);
    let (rest, owed) = house.found(StateKind::Report);
    assert_eq!((rest.len(), owed.len()), (house.others, 1), "its sender is owed a report");
    let publish = user::presence_of("sip:s0@example.com");
    house.world.people.sip.send(&mut house.world.g, Who::Nobody, false, Method::Publish, "sip:s0@example.com", publish);
    house.run(800_000_000);
    assert_eq!(house.world.erased()[2], 1, "taken, once");
    house.world.people.sip.leave(&mut house.world.g);
    house.run(1_000_000);
    house.is_clean();
}

/// Deleted a little before a message is copied forward, a little later, and so on: it is gone each time, under both its names.
#[test]
fn what_is_deleted_while_it_is_copied_stays_deleted() {
    for bin_us in [0, 40_000_000] {
        // In steps of a fifth of a millisecond, up to so many of them, or to the one in which the first message lies elsewhere.
        let advance = |house: &mut House, steps: u64| {
            house.deposit(0, None);
            house.run(500_000);
            let (places, _) = house.found(StateKind::Bin);
            let mut step = 0;
            while step < steps {
                if step % 500 == 0 {
                    house.fill();
                }
                house.run(200);
                step += 1;
                let searched = steps == u64::MAX && house.copied() > 0 || step == steps;
                if searched && !house.found(StateKind::Bin).0.contains(&places[0]) {
                    return (step, true);
                }
            }
            (step, false)
        };
        let (at, _) = advance(&mut House::new(bin_us), u64::MAX);
        let mut moved = Vec::new();
        for steps in at - 15..at + 3 {
            let mut house = House::new(bin_us);
            moved.push(advance(&mut house, steps).1);
            house.erase(0);
            house.run(3_000_000);
            if bin_us > 0 {
                house.run(bin_us);
                assert_eq!(house.world.erased()[1], 1, "purged after {steps}");
            }
            house.restart();
            let (rest, states) = house.found(StateKind::Bin);
            assert_eq!((rest.len(), states.len()), (house.others, 0), "deleted after {steps} of {at}");
            house.run(800_000_000);
            house.is_clean();
        }
        assert!(moved.contains(&false) && moved.contains(&true), "before and after: {moved:?}");
    }
}

/// The second request finds the messages on their way out, by the first one's doing. It was answered at once, while their tombstones were
/// on their way to the disk: a crash in between, and they came back.
#[test]
fn a_deletion_that_finds_another_under_way_is_answered_when_that_is_durable() {
    let mut house = House::new(0);
    (0..3).for_each(|_| house.deposit(0, None));
    house.run(500_000);
    house.world.g.plan.disk_us = (80_000, 80_000);
    house.erase(0);
    house.run(5_000);
    house.erase(0);
    // The oracle looks at the disk when each is answered.
    house.run(60_000);
    assert_eq!(house.found(StateKind::Bin).0.len(), 3, "nothing is durable yet");
    house.run(400_000);
    assert_eq!((house.world.erased()[0], house.found(StateKind::Bin).0.len()), (3, 0));
    house.restart();
    house.run(800_000_000);
    house.is_clean();
}
