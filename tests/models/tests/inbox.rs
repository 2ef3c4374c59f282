//! The inbox, its nodes and the ready-list: nothing lost, doubled, reordered or torn, and nobody left on no list.

use deferd_modelled::base::inbox::{Inbox, Link, Nodes, Parcel, ReadyList, Shelves};
use deferd_models::check;
use loom::sync::Arc;
use loom::thread;

/// Whose, and its number. Says it twice, so that a torn one is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Letter(u64, u64);

impl Parcel for Letter {
    fn pack(self) -> [u64; 4] {
        [self.0, self.1, !self.0, !self.1]
    }
    fn unpack([whose, number, not_whose, not_number]: [u64; 4]) -> Letter {
        assert_eq!((not_whose, not_number), (!whose, !number), "a node is read whole, and before it is used again");
        Letter(whose, number)
    }
}

struct House {
    shelves: std::sync::Arc<Shelves>,
    inboxes: [Inbox<Letter>; 2],
    links: [Link; 2],
    ready: ReadyList,
}

impl House {
    fn new(cores: u16) -> Arc<House> {
        Arc::new(House {
            shelves: Shelves::new(cores),
            inboxes: Default::default(),
            links: Default::default(),
            ready: ReadyList::new(),
        })
    }

    /// As a core does: push, and link the owner if the inbox was empty.
    fn leave(&self, to: usize, letter: Letter, nodes: &mut Nodes) {
        if self.inboxes[to].push(letter, nodes) {
            self.ready.link(to as u32, &self.links[to]);
        }
    }

    /// As home does at a turn: everybody on the list, then each inbox.
    fn turn(&self, got: &mut [Vec<Letter>; 2]) {
        let mut owners = Vec::new();
        self.ready.take(|owner| &self.links[owner as usize], &mut owners);
        for owner in owners {
            self.inboxes[owner as usize].drain(&self.shelves, &mut got[owner as usize]);
        }
    }
}

fn of(whose: u64, got: &[Letter]) -> Vec<u64> {
    got.iter().filter(|letter| letter.0 == whose).map(|letter| letter.1).collect()
}

/// Whoever found the inbox not empty relies on the one who did to link the owner: after the last push the list alone must lead
/// home to everything.
#[test]
fn two_producers_and_a_home_that_drains_as_it_is_asked() {
    check(3, || {
        let house = House::new(2);
        let producers: Vec<_> = (0..2u16)
            .map(|core| {
                let house = house.clone();
                thread::spawn(move || {
                    let mut nodes = house.shelves.nodes(core).unwrap();
                    house.leave(0, Letter(u64::from(core), 0), &mut nodes);
                    house.leave(0, Letter(u64::from(core), 1), &mut nodes);
                })
            })
            .collect();
        let mut got = Default::default();
        house.turn(&mut got);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        house.turn(&mut got);
        assert_eq!((of(0, &got[0]), of(1, &got[0]), got[0].len()), (vec![0, 1], vec![0, 1], 4));
        assert!(house.ready.is_empty() && house.inboxes[0].is_empty());
    });
}

/// The look before BYE drains unasked. Without the mark the next producer would link an owner that is linked, and the list
/// would bend into a ring.
#[test]
fn a_home_that_drains_unasked_does_not_bend_the_list() {
    check(3, || {
        let house = House::new(2);
        let producer = {
            let house = house.clone();
            thread::spawn(move || {
                let mut nodes = house.shelves.nodes(0).unwrap();
                house.leave(0, Letter(0, 0), &mut nodes);
                house.leave(1, Letter(0, 1), &mut nodes);
                house.leave(0, Letter(0, 2), &mut nodes);
            })
        };
        let mut got: [Vec<Letter>; 2] = Default::default();
        house.inboxes[0].drain(&house.shelves, &mut got[0]);
        house.turn(&mut got);
        house.inboxes[0].drain(&house.shelves, &mut got[0]);
        producer.join().unwrap();
        house.turn(&mut got);
        assert_eq!((of(0, &got[0]), of(0, &got[1])), (vec![0, 2], vec![1]));
        assert!(house.ready.is_empty() && !house.links[0].is_linked() && !house.links[1].is_linked());
    });
}

/// Two nodes a shelf, so that every node comes round while home still reads.
#[test]
fn a_node_is_used_again_only_after_it_was_read() {
    check(3, || {
        let house = House::new(1);
        let producer = {
            let house = house.clone();
            thread::spawn(move || {
                let mut nodes = house.shelves.nodes(0).unwrap();
                for number in 0..4 {
                    house.leave((number % 2) as usize, Letter(0, number), &mut nodes);
                }
            })
        };
        let mut got = Default::default();
        house.turn(&mut got);
        house.turn(&mut got);
        producer.join().unwrap();
        house.turn(&mut got);
        assert_eq!((of(0, &got[0]), of(0, &got[1])), (vec![0, 2], vec![1, 3]));
    });
}

/// Two owners on the list; the first is let go, and linked anew at once by a producer who finds its inbox empty. What its link said of
/// the second must have been read before.
#[test]
fn a_list_is_read_on_before_an_owner_is_let_go() {
    check(3, || {
        let house = House::new(2);
        let mut nodes = house.shelves.nodes(0).unwrap();
        house.leave(1, Letter(0, 0), &mut nodes);
        house.leave(0, Letter(0, 1), &mut nodes);
        let mut got: [Vec<Letter>; 2] = Default::default();
        house.inboxes[0].drain(&house.shelves, &mut got[0]);
        let producer = {
            let house = house.clone();
            thread::spawn(move || {
                let mut nodes = house.shelves.nodes(1).unwrap();
                house.leave(0, Letter(1, 0), &mut nodes);
            })
        };
        house.turn(&mut got);
        producer.join().unwrap();
        house.turn(&mut got);
        assert_eq!((got[0].as_slice(), got[1].as_slice()), (&[Letter(0, 1), Letter(1, 0)][..], &[Letter(0, 0)][..]));
    });
}

/// A chain of nodes of two cores goes back to both.
#[test]
fn nodes_find_their_way_back_to_their_own_producer() {
    check(2, || {
        let house = House::new(2);
        let producers: Vec<_> = (0..2u16)
            .map(|core| {
                let house = house.clone();
                thread::spawn(move || {
                    let mut nodes = house.shelves.nodes(core).unwrap();
                    for number in 0..3 {
                        house.leave(0, Letter(u64::from(core), number), &mut nodes);
                    }
                })
            })
            .collect();
        let mut got = Default::default();
        house.turn(&mut got);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        house.turn(&mut got);
        assert_eq!((of(0, &got[0]), of(1, &got[0])), (vec![0, 1, 2], vec![0, 1, 2]));
    });
}
