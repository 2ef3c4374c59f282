//! Real threads on the lock-free parts together: producers, homes that sleep, users who come and go. A ledger of everything that was
//! accepted is compared with everything that was delivered.
#![allow(clippy::unwrap_used)]

use deferd::base::mailbox::{Bell, Mailbox};
use deferd::base::net::CoreId;
use deferd::store::directory::{Arrival, Directory, Refusal};
use deferd::store::disk::SegmentNo;
use deferd::store::queue::Queue;
use deferd::store::record::{Flags, Locator, Place, Stamp};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

const CORES: u16 = 4;
const EACH: u64 = 120_000;
/// Three times as many as the directory takes at once: they come and go.
const ADDRESSES: u64 = 36;
const USERS: usize = 12;
/// Long after a sleeper must have been woken on the slowest machine.
const LOST: Duration = Duration::from_secs(60);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Door {
    bell: Bell,
    letters: Mailbox<u64>,
}

struct House {
    directory: Directory,
    doors: Vec<Door>,
    producing: AtomicUsize,
}

/// Whose message it is and its number, as a stamp: greater ones come later, from each producer and from all.
fn stamp(number: u64, core: u16) -> Stamp {
    Stamp((number + 1) << 12 | u64::from(core))
}

fn address(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

/// By address: what of each producer was accepted, or delivered, in order.
type Ledger = HashMap<[u8; 8], Vec<Stamp>>;

/// A small generator: which user comes next.
fn next(luck: &mut u64) -> u64 {
    *luck ^= *luck << 13;
    *luck ^= *luck >> 7;
    *luck ^= *luck << 17;
    *luck
}

fn produce(house: &House, core: u16) -> (Ledger, u64) {
    let mut nodes = house.directory.nodes(CoreId(core)).unwrap();
    let (mut accepted, mut letters, mut luck) = (Ledger::new(), 0, u64::from(core) + 77);
    for number in 0..EACH {
        let to = address(next(&mut luck) % ADDRESSES);
        let user = loop {
            match house.directory.reserve(&to, 64, (1_000, 1 << 20)) {
                Ok(user) => break user,
                // As many users as there may be, or this one's quota: homes are behind, and they share the processors.
                Err(Refusal::DirectoryFull | Refusal::OverQuota) => thread::yield_now(),
            }
        };
        if number % 17 == 0 {
            // Its commit failed.
            house.directory.give_up(user, 64);
            continue;
        }
        let stamp = stamp(number, core);
        accepted.entry(to).or_default().push(stamp);
        let place = Place { segment: SegmentNo(u32::from(core)), offset: number as u32 };
        let locator = Locator::new(place, stamp, u32::MAX, 64, Flags::default());
        if let Some(home) = house.directory.publish(user, Arrival { locator, fingerprint: stamp.0 }, &mut nodes) {
            house.doors[home.index()].bell.ring();
        }
        if number % 64 == 0 {
            let door = &house.doors[(number / 64 % u64::from(CORES)) as usize];
            if door.letters.request(stamp.0).is_ok() {
                letters += 1;
                door.bell.ring();
            }
        }
    }
    if house.producing.fetch_sub(1, Ordering::AcqRel) == 1 {
        for door in &house.doors {
            door.bell.ring();
        }
    }
    (accepted, letters)
}

/// Home: everybody on the list, into their queues, out in the order of stamps; sleeps when there is nothing.
fn serve(house: &House, core: u16) -> (Ledger, u64) {
    let (core, door) = (CoreId(core), &house.doors[usize::from(core)]);
    door.bell.install(Waker::from(Arc::new(Unpark(thread::current()))));
    let (mut delivered, mut letters) = (Ledger::new(), 0);
    let (mut users, mut found) = (Vec::new(), Vec::new());
    loop {
        let last = house.producing.load(Ordering::Acquire) == 0;
        while door.letters.take().is_some() {
            letters += 1;
        }
        house.directory.take_ready(core, &mut users);
        for user in users.drain(..) {
            house.directory.drain(user, &mut found);
            let mut queue = Queue::new();
            for arrival in found.drain(..) {
                assert_eq!(arrival.fingerprint, arrival.locator.stamp().0, "a node is read whole");
                assert!(queue.insert(arrival.locator), "no message comes twice");
            }
            if !queue.is_empty() {
                let to: [u8; 8] = house.directory.address(user)[..].try_into().unwrap();
                assert_eq!(house.directory.home(&to), core);
                delivered.entry(to).or_default().extend(queue.iter().map(Locator::stamp));
                house.directory.release(user, queue.len() as u32, queue.octets());
            }
            house.directory.close(user);
        }
        if last {
            return (delivered, letters);
        }
        door.bell.lie_down();
        if house.directory.has_ready(core) || !door.letters.is_empty() || house.producing.load(Ordering::Acquire) == 0 {
            door.bell.get_up();
            continue;
        }
        let since = Instant::now();
        thread::park_timeout(LOST);
        let slept = since.elapsed() >= LOST;
        assert!(!slept || !house.directory.has_ready(core), "nobody rang, and users wait");
        door.bell.get_up();
    }
}

/// Per producer, what a list says.
fn of(core: u16, stamps: &[Stamp]) -> Vec<Stamp> {
    stamps.iter().copied().filter(|stamp| stamp.0 & 0xfff == u64::from(core)).collect()
}

#[test]
fn what_was_accepted_is_delivered_once_and_in_order_while_users_come_and_go() {
    let door = || Door { bell: Bell::new(), letters: Mailbox::new(8, 1) };
    let house = House {
        directory: Directory::new(USERS, CORES, [3; 16]),
        doors: (0..CORES).map(|_| door()).collect(),
        producing: AtomicUsize::new(usize::from(CORES)),
    };
    let (produced, served): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let house = &house;
        let homes: Vec<_> = (0..CORES).map(|core| scope.spawn(move || serve(house, core))).collect();
        let producers: Vec<_> = (0..CORES).map(|core| scope.spawn(move || produce(house, core))).collect();
        let join =
            |threads: Vec<thread::ScopedJoinHandle<'_, _>>| threads.into_iter().map(|t| t.join().unwrap()).collect();
        (join(producers), join(homes))
    });
    let mut accepted = 0;
    for n in 0..ADDRESSES {
        let to = address(n);
        let home = house.directory.home(&to).index();
        let got = served[home].0.get(&to).map_or(&[][..], Vec::as_slice);
        for (core, (ledger, _)) in produced.iter().enumerate() {
            let expected = ledger.get(&to).map_or(&[][..], Vec::as_slice);
            assert_eq!(of(core as u16, got), expected, "of producer {core} for {n}");
            accepted += expected.len();
        }
        assert!(served.iter().enumerate().all(|(other, (ledger, _))| other == home || !ledger.contains_key(&to)));
    }
    let all: usize = served.iter().flat_map(|(ledger, _)| ledger.values()).map(Vec::len).sum();
    assert_eq!(all, accepted, "nothing came that nobody sent");
    let sent: u64 = produced.iter().map(|(_, letters)| letters).sum();
    assert_eq!(served.iter().map(|(_, letters)| letters).sum::<u64>(), sent, "every letter taken in was taken out");
    assert!(house.directory.is_empty(), "who has nothing is nobody");
}
