//! What a SIP/IP core says of its users in the middle of a push, and what of ours it hands back to us.

use std::time::Duration;

use deferd::{base::net::ConnId, engine::input::Service};
use deferd_kit::sip::SipMessage;

use crate::people::{BOB, HOME, MEDIA, answer, deposit, exchange, push, request, taken};
use crate::rig::{Rig, Way};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The core says that bob is registered for so long.
#[track_caller]
fn registered(rig: &mut Rig, expires: u32) {
    let register = request(rig, "REGISTER", "sip:scscf.example.org", "sip:im.example.org");
    let register = register.set("To", format!("<{BOB}>")).with("Expires", expires.to_string());
    assert_eq!(exchange(rig, &register).code(), 200);
}

/// The user goes in the middle of a push: what is under way is taken or not, and nothing is begun any more.
#[test]
fn a_deregistration_in_the_middle_of_a_push_lets_it_end_and_begins_no_other() {
    for taken_all in [true, false] {
        let mut rig = Rig::new(1);
        deposit(&mut rig, &[], "text/plain", "hello");
        push(&mut rig, &[]);
        registered(&mut rig, 0);
        rig.expect_no("BYE");
        if taken_all {
            taken(&mut rig);
        } else {
            rig.reset(0, MEDIA);
        }
        let bye = rig.expect_request("BYE");
        answer(&mut rig, &bye, 200, &[], None);
        assert_eq!(rig.pushes(), 0);
        let left = u64::from(!taken_all);
        assert_eq!(rig.large_sessions_and_users(), (0, left), "what was not confirmed is kept");
        // Neither what failed nor what comes now is a reason to ring somebody who is gone.
        rig.pass(seconds(3_600));
        deposit(&mut rig, &[], "text/plain", "later");
        rig.pass(seconds(3_600));
        rig.expect_no("INVITE");
        registered(&mut rig, 3_600);
        rig.pass(seconds(3));
        rig.expect_request("INVITE");
    }
}

/// The same while it rings: the INVITE goes on, and its failure is the last.
#[test]
fn a_deregistration_while_a_push_rings_is_not_rung_again() {
    let mut rig = Rig::new(1);
    deposit(&mut rig, &[], "text/plain", "hello");
    registered(&mut rig, 3_600);
    rig.pass(seconds(3));
    let invite = rig.expect_request("INVITE");
    registered(&mut rig, 0);
    answer(&mut rig, &invite, 480, &[], None);
    assert_eq!(rig.pushes(), 0);
    rig.pass(seconds(3_600));
    rig.expect_no("INVITE");
}

/// How the core hands a request of ours back.
fn handed_back(ours: &SipMessage, via: &str) -> SipMessage {
    let mut looped = ours.clone().without("Route").set("Max-Forwards", "68");
    looped.headers.insert(0, ("Via".into(), via.into()));
    looped.with("Route", format!("<sip:im.example.org;lr>, <sip:{HOME};lr;odi=7f3a>"))
}

//= RFC 3261 16.11: a CANCEL takes the way of its INVITE, under the same branch
//= RFC 3261 16.7: a response loses its topmost Via
#[test]
fn an_invite_of_ours_and_its_cancel_that_come_round_go_on_over_any_transport() {
    for over in ["UDP", "TCP"] {
        let mut rig = Rig::new(1);
        let conn = ConnId(6);
        let to = if over == "TCP" { Way::Down(0, conn) } else { Way::To(HOME) };
        rig.accept(0, conn, Service::Sip, HOME);
        let send = |rig: &mut Rig, message: &SipMessage| match to {
            Way::Down(core, conn) => rig.receive(core, conn, &message.write()),
            Way::To(from) => rig.datagram(0, from, message),
        };
        deposit(&mut rig, &[], "text/plain", "hello");
        registered(&mut rig, 3_600);
        rig.pass(seconds(3));
        let invite = rig.expect_request("INVITE").message;
        let via = format!("SIP/2.0/{over} {HOME};branch=z9hG4bKscscf{over}");
        let looped = handed_back(&invite, &via);
        send(&mut rig, &looped);
        let is_onward = |message: &SipMessage| message.branch().starts_with("z9hG4bK-isc-");
        let onward = rig.expect("our INVITE, on its way", |message| message.method() == "INVITE" && is_onward(message));
        let route = format!("<sip:{HOME};lr;odi=7f3a>");
        assert_eq!((onward.to, onward.message.header("Route")), (to, Some(route.as_str())), "{over}");
        assert!(onward.message.header("Via").unwrap().starts_with(&format!("SIP/2.0/{over} ")), "{:?}", onward.message);
        assert_eq!((onward.message.all("Via").len(), &onward.message.body), (3, &invite.body));

        // It rings, by the same way, until nobody wants to wait any longer.
        send(&mut rig, &SipMessage::response(&onward.message, 180, "Ringing", "ue"));
        let ringing = rig.expect("what rings", |message| message.code() == 180 && message.all("Via").len() == 2);
        assert_eq!((ringing.to, ringing.message.branch()), (to, looped.branch()), "{over}");
        let ringing = SipMessage::response(&invite, 180, "Ringing", "ue");
        rig.datagram(0, HOME, &ringing);
        rig.pass(seconds(61));
        let cancel = rig.expect_request("CANCEL").message;
        send(&mut rig, &handed_back(&cancel, &via));
        let is_cancel = |message: &SipMessage| message.method() == "CANCEL" && is_onward(message);
        let cancelled = rig.expect("our CANCEL, on its way", is_cancel);
        assert_eq!((cancelled.to, cancelled.message.branch()), (to, onward.message.branch()), "{over}");
        assert_eq!(cancelled.message.header("Route"), Some(route.as_str()));
        for (sent, code) in [(&cancelled.message, 200), (&onward.message, 487)] {
            send(&mut rig, &SipMessage::response(sent, code, "Because", "ue"));
            let back = rig.expect("its answer", |message| message.code() == code && message.all("Via").len() == 2);
            assert_eq!((back.to, back.message.branch()), (to, looped.branch()), "{over}");
        }
        // None of it is a transaction of ours: the push ends by what the core itself says.
        assert_eq!(rig.pushes(), 1);
        rig.datagram(0, HOME, &SipMessage::response(&invite, 487, "Request Terminated", "ue"));
        assert_eq!(rig.pushes(), 0, "{over}");
        // A CANCEL that cannot go on is a loop, as its INVITE would be.
        let lost = handed_back(&cancel, &via.replace("scscf", "loop")).without("Route");
        send(&mut rig, &lost);
        assert_eq!(rig.expect_answer(&lost).code(), 482, "{over}");
    }
}
