//! What the operator may choose, and what then happens to messages (12.2.2.3-5, 12.2.2.4).

use std::{thread, time::Duration};

use deferd_kit::{
    daemon::DaemonOptions,
    large::{Chunk, Large},
    payload,
    scene::{BOB, Scene},
    sdp::{Answer, Sdp, Setup},
};

use crate::{
    DEFERD,
    c12_2_2_1_large::alice as sender,
    selection::{ack, expect_bye, ids, invite_list, refer_quietly, uri},
};

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

#[test]
fn a_full_domain_refuses_and_a_restart_does_not_forget_what_it_has() {
    let mut scene = scene("policy.quota.domain", "messages = 3");
    let deposits: Vec<_> = (0..2).map(|number| scene.alice().message(BOB, &format!("message {number}"))).collect();
    scene.alice().message("sip:carol@example.org", "for carol");
    scene.kill9();
    scene.restart(2);
    let alice = scene.alice();
    for user in [BOB, "sip:carol@example.org", "sip:dave@example.org"] {
        let refusal = alice.exchange(alice.text(user, "one more")).response;
        assert_eq!(refusal.code(), 480, "{user}: {refusal:?}");
        assert!(refusal.header("Retry-After").is_some(), "{refusal:?}");
    }
    scene.push_brings(&mut scene.bob(), &deposits);
    alice.message("sip:dave@example.org", "there is room again");
}

#[test]
fn in_a_full_domain_the_receivers_own_oldest_make_room_and_nobody_elses() {
    let options = DaemonOptions::new(DEFERD)
        .line("policy.quota", "policy = \"drop_oldest\"")
        .line("policy.quota.domain", "messages = 4");
    let scene = Scene::with(options);
    let alice = scene.alice();
    let carols = alice.message("sip:carol@example.org", "for carol");
    let deposits: Vec<_> = (0..6).map(|number| alice.message(BOB, &format!("message {number}"))).collect();
    let refusal = alice.exchange(alice.text("sip:dave@example.org", "nothing of his to drop")).response;
    assert_eq!(refusal.code(), 480, "{refusal:?}");
    scene.push_brings(&mut scene.bob(), &deposits[3..]);
    let mut carol = scene.client(deferd_kit::peer::Transport::Tcp, "sip:carol@example.org", scene.daemon.sip());
    scene.push_brings(&mut carol, &[carols]);
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

/// For everybody or for some: 480, whatever comes.
#[test]
fn where_nothing_is_deferred_a_message_is_480() {
    let carol = "sip:carol@example.org";
    for (line, others) in
        [("deferral = false", 480), ("not_deferred = [\"sip:bob@example.org\", \"*@example.com\"]", 202)]
    {
        let scene = scene("policy", line);
        let alice = scene.alice();
        let refused = alice.exchange(alice.text(BOB, "hello")).response;
        assert_eq!(refused.code(), 480, "{line}: {refused:?}");
        assert!(refused.header("Warning").unwrap().contains("not deferred"), "{refused:?}");
        assert_eq!(alice.exchange(alice.text(carol, "hello")).response.code(), others, "{line}");
        let large = sender(&scene);
        let msrp = large.msrp(Setup::Active);
        for (user, status) in [(BOB, 480), (carol, if others == 202 { 200 } else { 480 })] {
            let answer = large.exchange(&Large::invite(&large, user, &Large::offer(&msrp).write()));
            assert_eq!(answer.code(), status, "{line} {user}: {answer:?}");
        }
    }
}

/// Who turns deferral off owes what is stored all the same: it is listed, retrieved, deleted and pushed as ever.
#[test]
fn what_was_stored_before_is_delivered_where_nothing_is_deferred_any_more() {
    for line in ["deferral = false", "not_deferred = [\"*@example.org\"]"] {
        let mut scene = Scene::new(DEFERD);
        let mut deposits: Vec<_> =
            (0..3).map(|number| scene.alice().message(BOB, &format!("message {number}"))).collect();
        let large = Large::open(sender(&scene), BOB);
        large.expect(&large.chunk(&Chunk::whole("before", b"stored before")), 200);
        large.bye();
        scene.restart_with("policy", line);
        let alice = scene.alice();
        assert_eq!(alice.exchange(alice.text(BOB, "after")).response.code(), 480, "{line}");
        let mut bob = scene.bob();
        let ids = ids(&mut bob, 4);
        assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(&ids[1]))).code(), 200, "{line}");
        deposits.remove(1);
        let msrp = bob.msrp(Setup::Active);
        let request = invite_list(&bob, &Answer::new(msrp.path(), Setup::Active).write(), &[&ids[0]]);
        let ok = bob.exchange(&request);
        assert_eq!(ok.code(), 200, "{line}: {ok:?}");
        ack(&bob, &request, &ok);
        msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
        scene.same(&msrp.expect_messages(1), &deposits[..1]);
        expect_bye(&bob, &request);
        bob.publish_presence(true);
        let pushed = bob.take_push(2);
        scene.same(&pushed[..1], &deposits[1..]);
        let parts = payload::parts(&pushed[1].content_type, &pushed[1].body).unwrap();
        assert!(String::from_utf8_lossy(&parts[1].content).contains("stored before"), "{line}");
    }
}

/// The label that the mission's example has on what is only a fragment.
#[test]
fn the_first_part_of_a_large_message_is_labelled_as_the_operator_wants() {
    for (line, label) in
        [("compat_part1 = \"message/sip\"", "message/sip"), ("compat_part1 = \"sipfrag\"", "message/sipfrag")]
    {
        let scene = scene("policy.push", line);
        let large = Large::open(sender(&scene), BOB);
        large.expect(&large.chunk(&Chunk::whole("labelled", b"hello")), 200);
        large.bye();
        let mut bob = scene.bob();
        bob.publish_presence(true);
        let pushed = bob.take_push(1);
        let parts = payload::parts(&pushed[0].content_type, &pushed[0].body).unwrap();
        assert_eq!(parts[0].header("Content-Type"), Some(label));
    }
}
