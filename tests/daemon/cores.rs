//! Several cores: connections and ports land anywhere, one user has one home, and the number of cores changes over restarts.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use deferd_kit::{
    agents::Sender,
    chance::Chance,
    daemon::{Daemon, DaemonOptions},
    ledger::Ledger,
    load::{Load, LoadOptions},
    msrp_client::Reply,
    peer::{SipPeer, Transport},
    phone::{Mood, Phone, Weather},
    scene::{ALICE, BOB, Scene},
    sdp::Setup,
    sip::SipMessage,
};

use crate::{DEFERD, kill_nine};

fn cores(cores: usize) -> Scene {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = cores;
    Scene::with(options)
}

#[test]
fn order_and_exactly_once_hold_over_many_cores_and_orderly_restarts() {
    let seed = Chance::seed("DEFERD_SEED");
    println!("DEFERD_SEED={seed:#x}");
    let mut chance = Chance::new(seed);
    let (ledger, weather) = (Ledger::new(), Weather::new(Mood::Wild));
    let mut daemon = Daemon::start(kill_nine::hardy(4));
    let users: Vec<String> = ["bob", "carol", "dave"].map(|user| format!("sip:{user}@example.org")).into();
    let phones: Vec<Phone> = users
        .iter()
        .zip([Transport::Udp, Transport::Tcp].into_iter().cycle())
        .map(|(user, transport)| Phone::start(&ledger, &weather, transport, user, daemon.sip(), chance.fork()))
        .collect();
    let options = LoadOptions { to: daemon.sip(), users, tcp: 4, udp: 12, pipelined: 4, body_max: 4_000 };
    let load = Load::start(&ledger, &options, &mut chance);
    for cores in [1, 2, 4, 3] {
        let before = ledger.sums().accepted;
        load.grant(150);
        let enough = before + 50 + chance.below(80) as usize;
        if !ledger.wait(Duration::from_secs(20), |sums| sums.accepted >= enough) {
            break;
        }
        daemon.assert_alive();
        ledger.death(|| assert_eq!(daemon.terminate(), 0));
        daemon.restart(cores);
    }
    load.finish();
    kill_nine::drained(&ledger, &weather, phones, &mut daemon, seed);
}

#[test]
fn one_user_s_order_holds_when_every_message_comes_from_another_port() {
    for cores_now in [2, 4] {
        let mut scene = cores(cores_now);
        let deposited: Vec<_> = (0..60)
            .map(|number| {
                let transport = if number % 3 == 0 { Transport::Tcp } else { Transport::Udp };
                let alice = Sender::new(&scene.log, transport, ALICE, scene.sip());
                alice.message(BOB, &format!("number {number}"))
            })
            .collect();
        if cores_now == 4 {
            scene.kill9();
            scene.restart(2);
        }
        let mut bob = scene.bob();
        scene.push_brings(&mut bob, &deposited);
        scene.nothing_waits(&mut bob);
    }
}

#[test]
fn a_bye_that_lands_on_another_core_finds_its_dialog() {
    let scene = cores(4);
    let deposit = scene.alice().message(BOB, "not yet");
    let mut bob = scene.bob();
    for _ in 0..10 {
        bob.publish_presence(true);
        let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
        msrp.set_policy(|_, _| vec![Reply::Silence]);
        call.answer(&msrp, Setup::Active);
        msrp.expect_sends(1);
        // From a port of its own, so from whichever core the kernel chooses.
        let stranger = SipPeer::udp(&scene.log, "bob", "deferd", scene.sip().ip());
        let bye = call.request_in_dialog("BYE").set("Via", stranger.via());
        assert_eq!(stranger.exchange(scene.sip(), &bye).code(), 200);
        let other = SipPeer::udp(&scene.log, "bob", "deferd", scene.sip().ip());
        let again = call.request_in_dialog("BYE").set("Via", other.via());
        assert_eq!(other.exchange(scene.sip(), &again).code(), 481, "the dialog is over");
    }
    scene.push_brings(&mut bob, &[deposit]);
}

#[test]
fn a_bye_for_a_core_that_is_no_more_is_481() {
    let mut scene = cores(4);
    let deposit = scene.alice().message(BOB, "not yet");
    let mut bob = scene.bob_udp();
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    scene.kill9();
    scene.restart(1);
    let bye = call.request_in_dialog("BYE");
    assert_eq!(call.exchange(&bye).code(), 481);
    // He was online: the push comes by itself.
    let pushed = bob.take_push(1);
    scene.same(&pushed, &[deposit]);
}

#[test]
fn many_publishes_at_once_make_one_push_at_a_time() {
    const DEVICES: usize = 8;
    const MESSAGES: usize = 40;
    let scene = cores(4);
    let alice = scene.alice_tcp();
    (0..MESSAGES).for_each(|number| drop(alice.message(BOB, &format!("number {number}"))));
    let (alive, most, delivered) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let together = Barrier::new(DEVICES);
    thread::scope(|scope| {
        for device in 0..DEVICES {
            let (scene, alive, most, delivered, together) = (&scene, &alive, &most, &delivered, &together);
            scope.spawn(move || {
                let mut bob = if device % 2 == 0 { scene.bob() } else { scene.bob_udp() };
                together.wait();
                let deadline = Instant::now() + deferd_kit::WAIT;
                for round in 0.. {
                    if round < 4 {
                        bob.publish_presence(true);
                    } else if delivered.load(Ordering::SeqCst) >= MESSAGES || Instant::now() > deadline {
                        break;
                    }
                    let Some(call) = bob.invite_within(Duration::from_millis(50)) else { continue };
                    most.fetch_max(1 + alive.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                    let msrp = bob.msrp(Setup::Active);
                    msrp.set_policy(|_, _| vec![Reply::After(Duration::from_millis(3), 200)]);
                    call.answer(&msrp, Setup::Active);
                    // Counted before the BYE is answered: only then may the next INVITE leave.
                    let bye = call.expect_in_dialog("BYE");
                    alive.fetch_sub(1, Ordering::SeqCst);
                    delivered.fetch_add(msrp.messages().len(), Ordering::SeqCst);
                    bob.inbox.respond(&bye, &SipMessage::response(&bye.message, 200, "OK", &call.tag));
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 1, "pushes of one user at one time");
    assert_eq!(delivered.load(Ordering::SeqCst), MESSAGES);
}
