//! Bad luck: two endpoints over a network that loses and repeats, and one endpoint under events in any order.

use super::bench_of_tests::*;
use super::*;
use crate::proto::sip::dialog::Dialog;
use crate::wire::sip::Name;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Two endpoints; `a` asks, `b` answers everything. `loss` and `twice` in percent.
fn talk(seed: u8, loss: u64, twice: u64, methods: &[Method]) {
    let (mut a, mut b) = (Side::new(), Side::new());
    let mut luck = Dice::from_seed([seed; 32]);
    let mut asked: BTreeMap<ClientKey, (Message, Vec<u16>)> = BTreeMap::new();
    let (mut seen, mut acks) = (0, 0);
    for &method in methods {
        let (octets, message) = a.ours(method, &[]);
        let txn = a.endpoint.request(a.now, method, octets, udp(PEER)).unwrap_or_else(|Full| panic!("there is room"));
        asked.insert(txn, (message, Vec::new()));
    }
    for _ in 0..8_000 {
        for from_a in [true, false] {
            let (from, to) = if from_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
            for sent in from.sent() {
                let copies =
                    if luck.between(1, 100) <= loss { 0 } else { 1 + u64::from(luck.between(1, 100) <= twice) };
                for _ in 0..copies {
                    to.receive(&read(&sent.octets), udp(PEER));
                }
            }
        }
        for told in b.told() {
            match told {
                Upward::Request { txn, message, .. } => {
                    seen += 1;
                    let status = if luck.bits() & 1 == 0 { 200 } else { 486 };
                    b.respond(txn, &answer(&message, status));
                }
                Upward::Ack { .. } => acks += 1,
                Upward::Ended { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        for told in a.told() {
            match told {
                Upward::Response { txn, message } => {
                    let Some((request, statuses)) = asked.get_mut(&txn) else { panic!("never asked") };
                    statuses.push(message.status());
                    if message.status() == 200 && message.method() == Method::Invite {
                        let dialog = Dialog::uac(request, &message).unwrap_or_else(|bad| panic!("{bad:?}"));
                        let branch = a.endpoint.branch(&mut a.dice);
                        let via = [b"SIP/2.0/UDP dmf.example.com;rport;branch=", &*branch].concat();
                        let ack = dialog.ack(request.cseq().0).line(Name::Via, &via).finish();
                        a.endpoint.transmit(udp(PEER), ack);
                    }
                }
                Upward::Failed { txn, .. } => {
                    let Some((_, statuses)) = asked.get_mut(&txn) else { panic!("never asked") };
                    statuses.push(408);
                }
                other => panic!("{other:?}"),
            }
        }
        a.wait(10);
        b.wait(10);
    }
    assert!(seen <= methods.len(), "every request reaches the user at most once");
    for (txn, (_, statuses)) in &asked {
        let finals = statuses.iter().filter(|&&status| status >= 200).count();
        assert!(finals == 1 || statuses.iter().all(|&status| status == 200 || status == 100), "{txn:?}: {statuses:?}");
        assert!(finals >= 1, "{txn:?} has an end");
    }
    if loss == 0 {
        let accepted = asked.values().flat_map(|asked| &asked.1).filter(|&&status| status == 200).count();
        assert!(acks <= accepted * 2 && seen == methods.len());
    }
    for side in [&a, &b] {
        let counts = side.endpoint.counts();
        assert_eq!((counts.servers, counts.clients, side.endpoint.deadline()), (0, 0, None));
    }
}

#[test]
fn a_clean_network_delivers_everything_once() {
    talk(1, 0, 0, &[Method::Message, Method::Invite, Method::Bye, Method::Publish]);
}

#[test]
fn a_lossy_network_delivers_at_most_once_and_everything_ends() {
    for seed in 2..6 {
        talk(seed, 40, 30, &[Method::Message, Method::Invite, Method::Invite, Method::Bye, Method::Message]);
    }
}

#[test]
fn a_dead_network_ends_everything_too() {
    talk(9, 100, 0, &[Method::Message, Method::Invite]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn events_in_any_order_leave_nothing_behind(
        steps in proptest::collection::vec((0u8..12, any::<u8>(), 0u64..9_000), 0..150)
    ) {
        let mut side = Side::with_room(24);
        let mut servers: Vec<(ServerKey, Message)> = Vec::new();
        let mut clients: Vec<(ClientKey, Message)> = Vec::new();
        let flows = [udp(PEER), tcp(2, PEER), tcp(4, PEER), udp("[2001:db8::1]:5060")];
        let pick = |choice: u8, len: usize| usize::from(choice) % len.max(1);
        for (step, choice, ms) in steps {
            let flow = flows[pick(choice >> 3, flows.len())];
            let branch = format!("z9hG4bK{}{}", choice % 5, if choice & 64 == 0 { "" } else { "X" });
            let old = if choice & 32 == 0 { &branch[..] } else { &branch[7..] };
            match step {
                0 => side.receive(&request("INVITE", old, ""), flow),
                1 => side.receive(&request("MESSAGE", old, ""), flow),
                2 => side.receive(&request("ACK", old, ""), flow),
                3 => side.receive(&request("CANCEL", old, ""), flow),
                4 | 5 => {
                    if let Some((txn, message)) = servers.get(pick(choice, servers.len())) {
                        let status = [100, 180, 200, 302, 408, 486, 603][pick(choice >> 2, 7)];
                        side.endpoint.respond(side.now, *txn, status, answer(message, status));
                    }
                }
                6 => {
                    let method = [Method::Invite, Method::Bye][pick(choice, 2)];
                    let (octets, message) = side.ours(method, &[]);
                    if let Ok(txn) = side.endpoint.request(side.now, method, octets, flow) {
                        clients.push((txn, message));
                    }
                }
                7 | 8 => {
                    if let Some((_, message)) = clients.get(pick(choice, clients.len())) {
                        let status = [100, 180, 200, 302, 408, 486, 603][pick(choice >> 2, 7)];
                        side.receive(&read(&answer(message, status)), flow);
                    }
                }
                9 => {
                    if let Some((txn, _)) = clients.get(pick(choice, clients.len())) {
                        side.endpoint.cancel(side.now, *txn, &mut side.dice);
                    }
                }
                10 => side.endpoint.flow_failed(side.now, CoreId(3), ConnId(u64::from(choice % 3) * 2)),
                _ => side.wait(ms),
            }
            side.sent();
            for told in side.told() {
                if let Upward::Request { txn, message, .. } = told {
                    servers.push((txn, message));
                }
            }
            let counts = side.endpoint.counts();
            prop_assert!(counts.servers + counts.clients <= 48, "twice the room, all of the second half CANCELs");
            prop_assert!(counts.servers <= 21);
        }
        for (txn, _) in &clients {
            side.endpoint.cancel(side.now, *txn, &mut side.dice);
        }
        side.wait(300_000);
        let counts = side.endpoint.counts();
        prop_assert_eq!((counts.servers, counts.clients, side.endpoint.deadline()), (0, 0, None));
    }
}
