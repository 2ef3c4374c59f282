//! The directory under producers that publish while home delivers, closes and another user takes the place.

use deferd_modelled::base::inbox::Nodes;
use deferd_modelled::base::net::CoreId;
use deferd_modelled::store::directory::{Arrival, Directory, Refusal, UserId};
use deferd_modelled::store::record::Locator;
use deferd_models::check;
use loom::sync::Arc;
use loom::thread;

const NO_QUOTA: (u32, u64) = (u32::MAX, u64::MAX);
const KEY: [u8; 16] = [7; 16];

/// A message that says whose it is.
fn arrival(whose: &[u8], number: u64) -> Arrival {
    Arrival { locator: Locator([u64::from(whose[0]), number, 0]), fingerprint: 0 }
}

/// The first addresses whose home is this core.
fn address_at(home: u16, cores: u16) -> [u8; 1] {
    // Not the model's own: asking it would be steps of the model.
    let directory = Directory::new(1, cores, KEY);
    (b'a'..=b'z').map(|name| [name]).find(|name| directory.home(name) == CoreId(home)).unwrap()
}

/// Home: takes everything from the users on its list, and lets go of those who have nothing more.
struct Home<'d> {
    directory: &'d Directory,
    core: CoreId,
    got: Vec<(u8, u64)>,
}

impl Home<'_> {
    fn turn(&mut self) {
        let mut users = Vec::new();
        self.directory.take_ready(self.core, &mut users);
        for user in users {
            self.serve(user);
        }
    }

    /// Also what the look before BYE does: unasked.
    fn serve(&mut self, user: UserId) {
        let mut found = Vec::new();
        self.directory.drain(user, &mut found);
        if !found.is_empty() {
            // Reserved, so open: the address is the user's own.
            let address = self.directory.address(user).to_vec();
            assert_eq!(self.directory.home(&address), self.core, "nobody stands on a strange home's list");
            for arrival in found {
                let Locator([whose, number, _]) = arrival.locator;
                assert_eq!(address, [whose as u8], "a message stays with its user");
                self.got.push((whose as u8, number));
                self.directory.release(user, 1, 64);
            }
        }
        self.directory.close(user);
    }
}

fn deposit(directory: &Directory, address: &[u8], number: u64, nodes: &mut Nodes) -> bool {
    match directory.reserve(address, 64, NO_QUOTA) {
        Ok(user) => {
            directory.publish(user, arrival(address, number), nodes);
            true
        }
        // All entries may wait for an epoch that the other thread holds: a designed answer, and nothing was accepted.
        Err(refusal) => {
            assert_eq!(refusal, Refusal::DirectoryFull);
            false
        }
    }
}

/// What was accepted was delivered once, in its order, and the user is gone.
fn settled(directory: &Directory, home: &mut Home<'_>, address: &[u8], accepted: &[u64]) {
    home.turn();
    home.turn();
    let got: Vec<u64> = home.got.iter().filter(|(whose, _)| *whose == address[0]).map(|(_, number)| *number).collect();
    assert_eq!(got, accepted);
    assert_eq!(directory.find(address), None, "who has nothing is nobody");
}

/// A user with one message is delivered and closed while the next message arrives from another core.
#[test]
fn a_deposit_meets_a_close() {
    check(3, || {
        let address = address_at(0, 1);
        let directory = Arc::new(Directory::new(1, 2, KEY));
        let address = if directory.home(&address) == CoreId(0) { address } else { address_at(0, 2) };
        let mut first = directory.nodes(CoreId(0)).unwrap();
        assert!(deposit(&directory, &address, 0, &mut first));
        let producer = {
            let directory = directory.clone();
            thread::spawn(move || {
                let mut nodes = directory.nodes(CoreId(1)).unwrap();
                deposit(&directory, &address, 1, &mut nodes)
            })
        };
        let mut home = Home { directory: &directory, core: CoreId(0), got: Vec::new() };
        home.turn();
        home.turn();
        let second = producer.join().unwrap();
        let accepted: &[u64] = if second { &[0, 1] } else { &[0] };
        settled(&directory, &mut home, &address, accepted);
        assert!(directory.is_empty());
    });
}

/// Between a producer's push and its link home drains unasked, delivers and lets the user go, and another user, of another home,
/// takes the place. Without the pin of `publish` that user would stand on the old home's list.
#[test]
fn an_entry_does_not_change_hands_under_a_push() {
    check(2, || {
        let (ours, theirs) = (address_at(0, 2), address_at(1, 2));
        let directory = Arc::new(Directory::new(1, 2, KEY));
        let producer = {
            let directory = directory.clone();
            thread::spawn(move || {
                let mut nodes = directory.nodes(CoreId(1)).unwrap();
                deposit(&directory, &ours, 0, &mut nodes)
            })
        };
        let mut nodes = directory.nodes(CoreId(0)).unwrap();
        let mut home = Home { directory: &directory, core: CoreId(0), got: Vec::new() };
        let mut strange = Home { directory: &directory, core: CoreId(1), got: Vec::new() };
        if let Ok(user) = directory.enter(&ours) {
            home.serve(user);
            directory.leave(user);
            directory.close(user);
        }
        let second = deposit(&directory, &theirs, 1, &mut nodes);
        home.turn();
        strange.turn();
        let first = producer.join().unwrap();
        settled(&directory, &mut home, &ours, if first { &[0] } else { &[] });
        settled(&directory, &mut strange, &theirs, if second { &[1] } else { &[] });
        assert!(directory.is_empty());
    });
}

#[test]
fn two_cores_that_meet_a_new_user_create_one() {
    check(3, || {
        let address = address_at(0, 1);
        let directory = Arc::new(Directory::new(2, 1, KEY));
        let other = {
            let directory = directory.clone();
            thread::spawn(move || directory.reserve(&address, 64, (2, 1_000)).unwrap())
        };
        let user = directory.reserve(&address, 64, (2, 1_000)).unwrap();
        assert_eq!(other.join().unwrap(), user);
        assert_eq!((directory.len(), directory.usage(user)), (1, (2, 128)));
        assert_eq!(directory.reserve(&address, 64, (2, 1_000)), Err(Refusal::OverQuota));
    });
}

/// The last place under a quota, and nobody is left behind by the one who did not get it.
#[test]
fn of_two_deposits_for_one_place_one_is_taken() {
    check(3, || {
        let address = address_at(0, 1);
        let directory = Arc::new(Directory::new(2, 1, KEY));
        let other = {
            let directory = directory.clone();
            thread::spawn(move || directory.reserve(&address, 64, (1, 1_000)))
        };
        let results = [directory.reserve(&address, 64, (1, 1_000)), other.join().unwrap()];
        let taken: Vec<UserId> = results.iter().flatten().copied().collect();
        assert_eq!(taken.len(), 1, "{results:?}");
        directory.give_up(taken[0], 64);
        assert!(directory.is_empty() && directory.find(&address).is_none());
    });
}
