//! The directory: quotas, closing, and cores that race.

use super::*;
use crate::store::disk::SegmentNo;
use crate::store::record::{Flags, Place, Stamp};
use std::thread;

const NO_QUOTA: (u32, u64) = (u32::MAX, u64::MAX);

/// Reserves 64 octets. While a preempted thread holds its epoch, closed entries cannot be used again: full for a moment.
fn reserved(directory: &Directory, address: &[u8]) -> UserId {
    loop {
        match directory.reserve(address, 64, NO_QUOTA) {
            Ok(user) => return user,
            Err(refusal) => assert_eq!(refusal, Refusal::DirectoryFull),
        }
        thread::yield_now();
    }
}

fn arrival(n: u64) -> Arrival {
    Arrival { locator: locator(n), fingerprint: !n }
}

fn locator(stamp: u64) -> Locator {
    Locator::new(Place { segment: SegmentNo(1), offset: stamp as u32 }, Stamp(stamp), 0, 64, Flags::default())
}

#[test]
fn a_user_is_found_by_the_whole_address_and_counted() {
    let directory = Directory::new(10, 2, [7; 16]);
    assert_eq!(directory.find(b"sip:a@x"), None);
    let a = directory.reserve(b"sip:a@x", 100, NO_QUOTA).unwrap();
    assert_eq!(directory.find(b"sip:a@x"), Some(a));
    assert_eq!(directory.find(b"sip:a@xx"), None);
    assert_eq!(directory.usage(a), (1, 104));
    assert_eq!(&*directory.address(a), b"sip:a@x");
    assert_eq!(directory.home_of_user(a), directory.home(b"sip:a@x"));
    assert!(!directory.close(a));
    directory.release(a, 1, 104);
    assert!(directory.close(a));
    assert_eq!((directory.find(b"sip:a@x"), directory.len()), (None, 0));
}

#[test]
fn who_is_foreseen_is_found_by_what_was_foreseen() {
    let directory = Directory::new(3, 1, [7; 16]);
    // Nobody is there yet; nobody is made by being foreseen, nor by a number that nobody has.
    let named = directory.foresee(b"sip:a@x");
    directory.foresee_entry(named);
    directory.foresee_user(UserId(u32::MAX));
    assert_eq!((directory.len(), directory.find(b"sip:a@x")), (0, None));
    let a = directory.reserve_named(named, 64, NO_QUOTA).unwrap();
    assert_eq!(directory.find(b"sip:a@x"), Some(a));
    let again = directory.foresee(b"sip:a@x");
    directory.foresee_entry(again);
    directory.foresee_user(a);
    assert_eq!(directory.reserve_named(again, 64, NO_QUOTA), Ok(a));
    assert_eq!(directory.usage(a), (2, 128));
    directory.release(a, 2, 128);
    assert!(directory.close(a));
    directory.foresee_entry(again);
    assert_eq!((directory.len(), directory.find(b"sip:a@x")), (0, None));
}

#[test]
fn a_quota_is_a_count_and_octets() {
    let directory = Directory::new(4, 1, [0; 16]);
    let user = directory.reserve(b"u", 80, (2, 160)).unwrap();
    assert_eq!(directory.reserve(b"u", 88, (2, 160)), Err(Refusal::OverQuota));
    assert_eq!(directory.reserve(b"u", 80, (2, 160)), Ok(user));
    assert_eq!(directory.reserve(b"u", 0, (2, 1_000)), Err(Refusal::OverQuota));
    assert_eq!(directory.reserve(b"v", 200, (2, 160)), Err(Refusal::OverQuota));
    assert_eq!(directory.find(b"v"), None, "a refused message leaves no user behind");
    directory.release(user, 1, 80);
    assert_eq!(directory.usage(user), (1, 80));
}

/// A disk that is full for an hour meets a sender who tries a new user with each message.
#[test]
fn users_whose_only_message_was_refused_leave_no_one_behind() {
    let directory = Directory::new(100, 1, [4; 16]);
    for n in 0..if cfg!(miri) { 50 } else { 5_000u32 } {
        let user = reserved(&directory, &n.to_le_bytes());
        directory.give_up(user, 64);
    }
    assert!(directory.is_empty());
    let user = directory.reserve(b"u", 64, NO_QUOTA).unwrap();
    assert_eq!(directory.reserve(b"u", 64, NO_QUOTA), Ok(user));
    directory.give_up(user, 64);
    assert_eq!((directory.find(b"u"), directory.usage(user)), (Some(user), (1, 64)), "the other message stays");
}

/// A thread that is preempted while it holds an epoch holds back every entry closed since: with more of them than there is slack, a
/// directory with room for a hundred users said that it is full with one in it.
#[test]
fn a_thread_that_holds_an_epoch_back_makes_nobody_hear_that_the_directory_is_full() {
    let directory = Directory::new(100, 1, [6; 16]);
    let first = directory.enter(b"first").unwrap();
    let (held, done) = (std::sync::Barrier::new(2), std::sync::atomic::AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let address = directory.address(first);
            held.wait();
            // Until all slack is used up, and for a while longer.
            while done.load(Ordering::Acquire) < SLACK {
                thread::yield_now();
            }
            (0..1_000).for_each(|_| thread::yield_now());
            drop(address);
        });
        held.wait();
        // Beyond the slack, so that somebody has to wait.
        for n in 0..if cfg!(miri) { SLACK as u32 + 100 } else { 5_000 } {
            let user = directory.enter(&n.to_le_bytes()).expect("one user of a hundred");
            directory.leave(user);
            assert!(directory.close(user));
            done.fetch_add(1, Ordering::Release);
        }
    });
    assert_eq!(directory.len(), 1);
}

/// Home drains between the producer's push and its link, delivers and releases: with as many threads as there are here and one
/// processor for two of them, the gap is a time slice long.
#[test]
fn an_entry_on_a_ready_list_is_never_given_to_another_user() {
    const EACH: u64 = if cfg!(miri) { 60 } else { 20_000 };
    let directory = Directory::new(8, 2, [5; 16]);
    let done = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for core in 0..2u16 {
            let (directory, done) = (&directory, &done);
            scope.spawn(move || {
                let mut nodes = directory.nodes(CoreId(core)).unwrap();
                for n in 0..EACH {
                    let Ok(user) = directory.reserve(&[core as u8, (n % 3) as u8], 64, NO_QUOTA) else { continue };
                    directory.publish(user, arrival(u64::from(core) << 32 | n), &mut nodes);
                }
                done.fetch_add(1, Ordering::Release);
            });
        }
        for home in 0..2u16 {
            let (directory, done) = (&directory, &done);
            scope.spawn(move || {
                let (mut users, mut found) = (Vec::new(), Vec::new());
                loop {
                    let last = done.load(Ordering::Acquire) == 2;
                    directory.take_ready(CoreId(home), &mut users);
                    // As the look before BYE does: unasked, a user pinned by a push.
                    let ours = (0..6u8).map(|n| [n / 3, n % 3]).filter(|who| directory.home(who) == CoreId(home));
                    // Full for a moment, when closed entries wait for an epoch that a preempted thread holds back.
                    let pinned: Vec<UserId> = ours.filter_map(|who| directory.enter(&who).ok()).collect();
                    for user in pinned.iter().copied().chain(users.drain(..)) {
                        let address = directory.address(user).to_vec();
                        if address.is_empty() {
                            continue;
                        }
                        assert_eq!(directory.home(&address), CoreId(home), "nobody stands on a strange home's list");
                        directory.drain(user, &mut found);
                        for arrival in found.drain(..) {
                            let stamp = arrival.locator.stamp().0;
                            let whose = [(stamp >> 32) as u8, ((stamp & 0xffff_ffff) % 3) as u8];
                            assert_eq!(address, whose, "a message stays with its user");
                            directory.release(user, 1, 64);
                        }
                        directory.close(user);
                    }
                    for user in pinned {
                        directory.leave(user);
                        directory.close(user);
                    }
                    if last {
                        break;
                    }
                }
            });
        }
    });
    assert!((0..6u8).filter_map(|n| directory.find(&[n / 3, n % 3])).all(|user| directory.usage(user).0 == 0));
}

#[test]
fn a_full_directory_says_so_and_takes_new_users_when_old_ones_left() {
    let directory = Directory::new(100, 1, [1; 16]);
    for round in 0..if cfg!(miri) { 2 } else { 40 } {
        let users: Vec<UserId> =
            (0..100).map(|n| directory.enter(format!("{round}-{n}").as_bytes()).unwrap()).collect();
        assert_eq!(directory.enter(b"one more"), Err(DirectoryFull));
        assert_eq!(directory.reserve(b"one more", 1, NO_QUOTA), Err(Refusal::DirectoryFull));
        for user in users {
            assert!(!directory.close(user), "pinned");
            directory.leave(user);
            assert!(directory.close(user));
        }
    }
}

#[test]
fn the_first_publication_rings_home_and_a_linked_user_is_not_closed() {
    let directory = Directory::new(4, 2, [3; 16]);
    let mut nodes = directory.nodes(CoreId(0)).unwrap();
    let user = directory.reserve(b"u", 64, NO_QUOTA).unwrap();
    let home = directory.home(b"u");
    assert_eq!(directory.publish(user, arrival(1), &mut nodes), Some(home));
    directory.reserve(b"u", 64, NO_QUOTA).unwrap();
    assert_eq!(directory.publish(user, arrival(2), &mut nodes), None);
    let mut found = Vec::new();
    directory.drain(user, &mut found);
    assert_eq!(found, [arrival(1), arrival(2)]);
    directory.release(user, 2, 128);
    assert!(!directory.close(user), "still on the ready-list");
    assert!(directory.has_ready(home));
    let mut users = Vec::new();
    directory.take_ready(home, &mut users);
    assert_eq!(users, [user]);
    assert!(directory.close(user));
}

#[test]
fn cores_that_deposit_while_home_closes_lose_nothing() {
    const EACH: u64 = if cfg!(miri) { 80 } else { 8_000 };
    const PRODUCERS: u16 = 3;
    let directory = Directory::new(64, PRODUCERS, [9; 16]);
    let mut got: Vec<Vec<Locator>> = vec![Vec::new(); 20];
    thread::scope(|scope| {
        for core in 0..PRODUCERS {
            let directory = &directory;
            scope.spawn(move || {
                let mut nodes = directory.nodes(CoreId(core)).unwrap();
                for n in 0..EACH {
                    let address = [b'u', (n % 20) as u8];
                    let user = reserved(directory, &address);
                    if n % 16 == 0 {
                        directory.release(user, 1, 64);
                        continue;
                    }
                    directory.publish(user, arrival(u64::from(core) << 32 | n), &mut nodes);
                }
            });
        }
        let expected = (u64::from(PRODUCERS) * (EACH - EACH / 16)) as usize;
        let (mut users, mut found, mut sum) = (Vec::new(), Vec::new(), 0);
        while sum < expected {
            (0..PRODUCERS).for_each(|core| directory.take_ready(CoreId(core), &mut users));
            for user in users.drain(..) {
                directory.drain(user, &mut found);
                sum += found.len();
                let name = usize::from(directory.address(user)[1]);
                got[name].extend(found.iter().map(|arrival| arrival.locator));
                directory.release(
                    user,
                    found.len() as u32,
                    found.drain(..).map(|arrival| arrival.locator.octets()).sum(),
                );
                directory.close(user);
            }
        }
    });
    for (name, got) in got.iter().enumerate() {
        for core in 0..u64::from(PRODUCERS) {
            let theirs: Vec<u64> =
                got.iter().map(|l| l.stamp().0).filter(|s| s >> 32 == core).map(|s| s & 0xffff_ffff).collect();
            let expected: Vec<u64> = (0..EACH).filter(|n| n % 20 == name as u64 && n % 16 != 0).collect();
            assert_eq!(theirs, expected);
        }
    }
    for name in 0..20u8 {
        assert!(directory.find(&[b'u', name]).is_none_or(|user| directory.usage(user) == (0, 0)));
    }
}

#[test]
fn an_entry_costs_what_the_bounds_say() {
    assert!(size_of::<Entry>() <= 56, "{}", size_of::<Entry>());
}
