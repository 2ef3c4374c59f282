//! Everybody comes back at once. That the backlog of a listener does not overflow is a matter of speed, measured in `perf/`; that
//! nobody is passed over, and who has to wait, is proven here.

use deferd_kit::{
    WAIT,
    daemon::DaemonOptions,
    peer::Transport,
    scene::{BOB, Scene},
};

use crate::{DEFERD, soak::measure};

/// More than are rung at one time (1,024 of a core).
const USERS: usize = 1_300;

/// As long as bob's, so that a request of his can be made another's.
fn user(number: usize) -> String {
    let letter = |number: usize| char::from(b'a' + (number % 26) as u8);
    format!("sip:{}{}{}@example.org", letter(number / 676), letter(number / 26), letter(number))
}

#[test]
fn a_crowd_that_comes_back_at_once_is_rung_in_the_order_of_its_coming() {
    let scene = Scene::with(DaemonOptions::new(DEFERD));
    let alice = scene.alice_tcp();
    (0..USERS).for_each(|number| {
        alice.message(&user(number), "welcome back");
    });
    // One connection, as a SIP core has one: the order of its PUBLISHes is the order of their coming. Nobody answers.
    let crowd = scene.client(Transport::Tcp, BOB, scene.sip());
    for number in 0..USERS {
        let publish = String::from_utf8(crowd.presence(true).write()).expect("text");
        crowd.send_raw(publish.replace(BOB, &user(number)).as_bytes());
    }
    for number in 0..USERS {
        let invite = crowd.inbox.find(WAIT, |message| message.method() == "INVITE").expect("an INVITE for everybody");
        let start = &invite.message.start;
        assert!(start.contains(&user(number)), "number {number}, {}: {start}", user(number));
    }
    assert_eq!(measure(scene.http(), "deferd_pushes_started_total"), USERS as u64);
    let waited = measure(scene.http(), "deferd_pushes_in_line_total");
    assert!((1..USERS as u64).contains(&waited), "some had to wait for their turn, and not all: {waited}");
}
