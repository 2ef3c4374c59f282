//! What the operator may choose, and what then happens to messages (12.2.2.3-5, 12.2.2.4).

use std::{thread, time::Duration};

use deferd_kit::{
    daemon::DaemonOptions,
    scene::{BOB, Scene},
};

use crate::DEFERD;

fn scene(section: &str, line: &str) -> Scene {
    Scene::with(DaemonOptions::new(DEFERD).line(section, line))
}

#[test]
fn the_oldest_make_room_when_the_operator_wants_that() {
    let options = DaemonOptions::new(DEFERD).line("policy.quota", "messages = 3\npolicy = \"drop_oldest\"");
    let scene = Scene::with(options);
    let alice = scene.alice();
    let deposits: Vec<_> = (0..7).map(|number| alice.message(BOB, &format!("message {number}"))).collect();
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits[4..]);
    scene.nothing_waits(&mut bob);
}

//= 12.2.2.4: expired messages are handled by local policy
#[test]
fn what_is_kept_beyond_its_time_is_not_pushed() {
    let scene = scene("policy", "expired = \"keep\"");
    let alice = scene.alice();
    alice.deposit(alice.text(BOB, "over").with("Expires", "1"));
    let lives = alice.message(BOB, "lives");
    thread::sleep(Duration::from_millis(2_500));
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[lives]);
}

//= 12.2.2.4: if the expired message is delivered, the IM Server MAY indicate that it has expired
#[test]
fn what_is_delivered_beyond_its_time_says_so() {
    let scene = scene("policy", "expired = \"deliver_marked\"");
    let alice = scene.alice();
    let over = alice.deposit(alice.text(BOB, "over").with("Expires", "1"));
    let lives = alice.message(BOB, "lives");
    thread::sleep(Duration::from_millis(2_500));
    let mut bob = scene.bob();
    let pushed = scene.push_brings(&mut bob, &[over, lives]);
    let marked = |at: usize| String::from_utf8_lossy(&pushed[at].body).contains("X-OMA-Expired: yes\r\n");
    assert_eq!((marked(0), marked(1)), (true, false));
}

#[test]
fn a_port_in_the_address_names_no_other_user() {
    let scene = scene("policy", "after_push = \"delete\"");
    let alice = scene.alice();
    let deposit = alice.message("sip:bob@example.org:5070", "same bob");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    assert_eq!(deferd_kit::payload::pager(&bob.take_push(1)[0]).unwrap().body, deposit.body);
}
