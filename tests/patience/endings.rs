//! What ends, and what is said of it when: subscriptions, and messages whose time is over while they are sent.

use std::time::Duration;

use deferd_kit::sip::{SipMessage, uri_of};

use crate::people::{BOB, HOME, MEDIA, answer, deposit, deposit_with_report, exchange, push, request};
use crate::rig::{Rig, Sent};
use crate::sessions::take;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Bob subscribes to his summary for a minute, and has had the first NOTIFY; his SUBSCRIBE and its 200.
fn subscribed(rig: &mut Rig) -> (SipMessage, SipMessage) {
    let subscribe = request(rig, "SUBSCRIBE", BOB, BOB).with("Event", "message-summary").with("Expires", "60");
    let ok = exchange(rig, &subscribe);
    assert_eq!(ok.code(), 200, "{ok:?}");
    let first = rig.expect_request("NOTIFY");
    answer(rig, &first, 200, &[], None);
    (subscribe, ok)
}

/// A later SUBSCRIBE of the same dialog.
fn again(rig: &mut Rig, (first, ok): &(SipMessage, SipMessage), cseq: u32, expires: &str) -> SipMessage {
    request(rig, "SUBSCRIBE", BOB, uri_of(ok.header("Contact").unwrap()))
        .set("From", first.header("From").unwrap())
        .set("To", ok.header("To").unwrap())
        .set("Call-ID", first.call_id())
        .set("CSeq", format!("{cseq} SUBSCRIBE"))
        .with("Event", "message-summary")
        .with("Expires", expires)
}

fn state(notify: &Sent) -> &str {
    notify.message.header("Subscription-State").unwrap()
}

/// A daemon that was killed after the last NOTIFY had the subscription still, and sent another.
//= RFC 6665 4.4.1: a subscription is over with the NOTIFY that says so
#[test]
fn who_unsubscribes_is_answered_when_that_is_durable() {
    let mut rig = Rig::new(1);
    let dialog = subscribed(&mut rig);
    rig.disk_waits = true;
    let end = again(&mut rig, &dialog, 2, "0");
    rig.datagram(0, HOME, &end);
    rig.pass(seconds(1));
    let is_answer = |message: &SipMessage| message.branch() == end.branch() && message.code() >= 200;
    assert!(rig.find(is_answer).is_none(), "that it is over is not durable yet");
    rig.expect_no("NOTIFY");
    let late = again(&mut rig, &dialog, 3, "600");
    assert_eq!(exchange(&mut rig, &late).code(), 481, "it is over for whoever asks");
    rig.disk_goes_on();
    let ok = rig.expect_answer(&end);
    assert_eq!((ok.code(), ok.header("Expires")), (200, Some("0")));
    let last = rig.expect_request("NOTIFY");
    assert_eq!(state(&last), "terminated;reason=timeout");
    answer(&mut rig, &last, 200, &[], None);
    deposit(&mut rig, &[], "text/plain", "nobody hears of me");
    rig.pass(seconds(5));
    rig.expect_no("NOTIFY");
}

/// What a broken disk does not let end goes on, and its subscriber knows.
#[test]
fn a_subscription_whose_end_the_disk_does_not_take_goes_on() {
    let mut rig = Rig::new(1);
    let dialog = subscribed(&mut rig);
    rig.disk_is_broken = true;
    // The first breaks the log, the second finds it broken.
    for cseq in [2, 3] {
        let end = again(&mut rig, &dialog, cseq, "0");
        let refused = exchange(&mut rig, &end);
        assert_eq!(refused.code(), 503, "{refused:?}");
        assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    }
    rig.pass(seconds(31));
    let next = rig.expect_request("NOTIFY");
    assert!(state(&next).starts_with("active;expires="), "{}", state(&next));
}

/// By itself it ends with or without a record: a clock needs no disk.
#[test]
fn a_subscription_whose_time_is_over_says_so_when_that_is_durable_or_never_will_be() {
    for broken in [false, true] {
        let mut rig = Rig::new(1);
        subscribed(&mut rig);
        (rig.disk_waits, rig.disk_is_broken) = (!broken, broken);
        rig.pass(seconds(61));
        if !broken {
            rig.expect_no("NOTIFY");
            rig.disk_goes_on();
        }
        let last = rig.expect_request("NOTIFY");
        assert_eq!(state(&last), "terminated;reason=timeout", "broken: {broken}");
    }
}

//= RFC 6665 4.2.2: a NOTIFY that fails by Timer F: the notifier SHOULD remove the subscription
#[test]
fn a_subscriber_who_answers_nothing_is_forgotten_after_32_seconds() {
    let mut rig = Rig::new(1);
    let dialog = subscribed(&mut rig);
    deposit(&mut rig, &[], "text/plain", "one");
    rig.pass(seconds(1));
    let notify = rig.expect_request("NOTIFY");
    rig.pass(seconds(33));
    rig.forget(&notify.message);
    deposit(&mut rig, &[], "text/plain", "two");
    rig.pass(seconds(2));
    rig.expect_no("NOTIFY");
    let refresh = again(&mut rig, &dialog, 2, "600");
    assert_eq!(exchange(&mut rig, &refresh).code(), 481);
}

/// Its time is over while bob's client has it in hand: taken, it was delivered, and nobody is told otherwise; given back, it has expired.
//= 12.2.2.4: the expired message is deleted undelivered to the destination User (local policy)
#[test]
fn a_message_that_expires_while_it_is_sent_is_sent_to_its_end() {
    for taken in [true, false] {
        let mut rig = Rig::new(1);
        deposit_with_report(&mut rig, &[("Expires", "60")]);
        push(&mut rig, &[]);
        let octets = rig.media(0, MEDIA);
        rig.pass(seconds(90));
        rig.expect_no("MESSAGE");
        assert_eq!(rig.large_sessions_and_users().1, 1, "it is there still");
        if taken {
            take(&mut rig, &octets);
        } else {
            rig.reset(0, MEDIA);
        }
        let bye = rig.expect_request("BYE");
        answer(&mut rig, &bye, 200, &[], None);
        rig.pass(seconds(3));
        assert_eq!(rig.large_sessions_and_users().1, 0, "taken: {taken}");
        if taken {
            rig.expect_no("MESSAGE");
        } else {
            let report = rig.expect_request("MESSAGE").message;
            assert!(String::from_utf8_lossy(&report.body).contains("<failed/>"), "{report:?}");
        }
    }
}
