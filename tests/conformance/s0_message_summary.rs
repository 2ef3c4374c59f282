//! Mission document 0 and RFC 3842: a user subscribes to the summary of what waits, and hears of every change.

use std::time::{Duration, Instant};

use deferd_kit::{
    agents::{Client, SipCore},
    daemon::{Daemon, DaemonOptions},
    large::{Chunk, Large},
    log::Log,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sip::{SipMessage, param, uri_of},
};

use crate::{
    DEFERD,
    selection::{DEFERRED, expect_no, refer_quietly, uri, within},
};

const SUMMARY: &str = "application/simple-message-summary";

/// A daemon that is restarted: with small segments a start reads little.
fn restartable() -> DaemonOptions {
    DaemonOptions::new(DEFERD).line("limits", "segment_octets = \"1MiB\"")
}

/// A SUBSCRIBE of a client to its own mailbox, not sent yet.
fn subscribe(client: &Client) -> SipMessage {
    client.request("SUBSCRIBE").with("Contact", client.contact.clone()).with("Event", "message-summary")
}

/// Sends it; insists on 200 with Expires and Contact.
#[track_caller]
fn subscribed(client: &Client, request: &SipMessage) -> SipMessage {
    let response = client.exchange(request);
    assert_eq!(response.code(), 200, "{response:?}");
    assert!(response.header("Expires").is_some() && response.header("Contact").is_some(), "{response:?}");
    response
}

/// The next NOTIFY of this subscription, answered with this status.
#[track_caller]
fn notify_answered(client: &Client, subscribe: &SipMessage, status: u16) -> SipMessage {
    let call_id = subscribe.call_id().to_string();
    let received = client.inbox.expect("a NOTIFY", |m| m.method() == "NOTIFY" && m.call_id() == call_id);
    client.inbox.respond(&received, &SipMessage::response(&received.message, status, "As asked", "x"));
    let notify = received.message;
    assert_eq!(notify.tag("To"), subscribe.tag("From"));
    assert!(notify.header("Event").unwrap().starts_with("message-summary"), "{notify:?}");
    assert_eq!(notify.header("Content-Type"), Some(SUMMARY));
    assert!(notify.header("Contact").is_some() && notify.header("User-Agent").is_some(), "{notify:?}");
    notify
}

#[track_caller]
fn notified(client: &Client, subscribe: &SipMessage) -> SipMessage {
    notify_answered(client, subscribe, 200)
}

/// Counts and header groups of a NOTIFY.
#[track_caller]
fn told(notify: &SipMessage) -> (String, Vec<String>) {
    let body = String::from_utf8(notify.body.clone()).unwrap();
    assert!(body.ends_with("\r\n"), "{body:?}");
    let (head, groups) = match body.split_once("\r\n\r\n") {
        Some((head, groups)) => {
            (head.to_string(), groups.split("\r\n\r\n").map(|g| g.trim_end().to_string()).collect())
        }
        None => (body.trim_end().to_string(), Vec::new()),
    };
    let mut lines = head.split("\r\n");
    let (waiting, account, counts) = (lines.next().unwrap(), lines.next().unwrap(), lines.next().unwrap());
    let counts = counts.strip_prefix("Text-Message: ").unwrap().to_string();
    let expected = if counts.starts_with("0/") { "no" } else { "yes" };
    assert_eq!(waiting, format!("Messages-Waiting: {expected}"));
    assert_eq!(account, "Message-Account: sip:bob@example.org");
    assert_eq!(lines.next(), None, "{body}");
    (counts, groups)
}

/// The counts of the next NOTIFYs until they are these; the header groups of all of them.
#[track_caller]
fn counts_become(client: &Client, subscribe: &SipMessage, wanted: &str) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let (counts, groups) = told(&notified(client, subscribe));
        all.extend(groups);
        if counts == wanted {
            return all;
        }
    }
}

//= RFC 3842 3.5: message headers of later NOTIFYs only of messages added since the previous one
#[test]
fn a_large_message_is_told_with_the_headers_of_its_invite() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let request = subscribe(&bob);
    subscribed(&bob, &request);
    assert_eq!(told(&notified(&bob, &request)), ("0/0 (0/0)".into(), vec![]));
    let open = |privacy: Option<&'static str>| {
        let sender = scene.client(Transport::Tcp, ALICE, scene.daemon.sip());
        Large::open_with(sender, BOB, |invite| {
            let invite = invite
                .set("From", format!("\"A\" <{ALICE}>;tag=large"))
                .with("Subject", "holidays")
                .with("Date", "Sun, 09 Jul 2000 21:25:12 GMT")
                .with("Priority", "emergency");
            match privacy {
                Some(value) => invite.with("Privacy", value).set("From", "<sip:anonymous@anonymous.invalid>;tag=p"),
                None => invite,
            }
        })
    };
    let large = open(None);
    // Nothing of it counts before it is whole.
    let body = vec![b'x'; 100_000];
    large.expect(&large.chunk(&Chunk::of("summary1", &body, 0, 50_000)), 200);
    expect_no(&bob, "NOTIFY");
    large.expect(&large.chunk(&Chunk::of("summary1", &body, 50_000, 100_000)), 200);
    let (counts, groups) = told(&notified(&bob, &request));
    assert_eq!((counts.as_str(), groups.len()), ("1/0 (1/0)", 1));
    let lines: Vec<&str> = groups[0].split("\r\n").collect();
    let expected = [
        "To: <sip:bob@example.org>",
        "From: \"A\" <sip:alice@example.org>",
        "Subject: holidays",
        "Date: Sun, 09 Jul 2000 21:25:12 GMT",
        "Priority: emergency",
    ];
    assert_eq!(lines[..5], expected);
    let id = lines[5].strip_prefix("Message-ID: sip:").unwrap().strip_suffix("@mailserver.example.org").unwrap();
    // Several in one session, each told once.
    large.deposit("summary2", &body, 50_000);
    large.deposit("summary3", &body, 50_000);
    assert_eq!(counts_become(&bob, &request, "3/0 (3/0)").len(), 2);
    large.bye();
    let private = open(Some("id"));
    private.deposit("summary4", &body, 50_000);
    private.bye();
    let told_of = counts_become(&bob, &request, "4/0 (4/0)");
    assert!(!told_of[0].contains("alice"), "{told_of:?}");
    // The name told is one that the deletion understands.
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(id))).code(), 200);
    assert!(counts_become(&bob, &request, "3/0 (3/0)").is_empty());
}

fn state(notify: &SipMessage) -> &str {
    notify.header("Subscription-State").unwrap()
}

//= RFC 3842 3.8: immediately after a subscription is accepted a NOTIFY with the current summary, without message headers
//= RFC 3842 3.5: message headers of later NOTIFYs only of messages added since the previous one
//= RFC 6665 4.2.2: a 200 to a SUBSCRIBE: the notifier immediately sends a NOTIFY
//= RFC 6665 4.2.1.1: a 200 to a SUBSCRIBE contains an Expires
//= RFC 6665 4.5.2: the "id" of the SUBSCRIBE is present in all NOTIFYs
#[test]
fn a_subscriber_hears_counts_at_once_and_headers_of_what_comes_later() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    alice.message(BOB, "before");
    let bob = scene.bob();
    let request = subscribe(&bob).set("Event", "message-summary;id=x7").with("Accept", SUMMARY);
    let ok = subscribed(&bob, &request);
    assert_eq!(ok.header("Expires"), Some("3600"), "the default");
    let first = notified(&bob, &request);
    assert_eq!(told(&first), ("1/0 (0/0)".into(), vec![]));
    assert_eq!(first.header("Event"), Some("message-summary;id=x7"));
    assert_eq!(first.tag("From"), ok.tag("To"));
    assert_eq!(first.uri(), uri_of(&bob.contact));
    let left: u32 = param(state(&first), "expires").unwrap().parse().unwrap();
    assert!(state(&first).starts_with("active;") && (3590..=3600).contains(&left), "{}", state(&first));

    let urgent = alice
        .text(BOB, "after")
        .with("Subject", "HELP! at home ill, present for me please")
        .with("Date", "Sun, 09 Jul 2000 21:25:12 GMT")
        .with("Priority", "urgent");
    alice.deposit(urgent);
    let second = notified(&bob, &request);
    let (counts, groups) = told(&second);
    assert_eq!((counts.as_str(), groups.len()), ("2/0 (1/0)", 1));
    let lines: Vec<&str> = groups[0].split("\r\n").collect();
    assert_eq!(
        lines[..5],
        [
            "To: <sip:bob@example.org>",
            "From: <sip:alice@example.org>",
            "Subject: HELP! at home ill, present for me please",
            "Date: Sun, 09 Jul 2000 21:25:12 GMT",
            "Priority: urgent",
        ]
    );
    // The name told is one that the deletion understands.
    let id = lines[5].strip_prefix("Message-ID: sip:").unwrap().strip_suffix("@mailserver.example.org").unwrap();
    assert!(second.cseq() == first.cseq() + 1 && lines.len() == 6, "{lines:?}");
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(id))).code(), 200);
    let third = notified(&bob, &request);
    assert_eq!(told(&third), ("1/0 (0/0)".into(), vec![]));
}

//= RFC 3842 6: only the owner subscribes: else 403
//= RFC 6665 4.2.1.1: 489 with Allow-Events; 423 with Min-Expires; a duration is shortened
//= RFC 3842 3.5: without Accept the body type is application/simple-message-summary
#[test]
fn who_may_not_or_asks_for_what_is_not_is_refused() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let table = [
        (subscribe(&bob).set("P-Asserted-Identity", "<sip:carol@example.org>"), 403, None),
        (subscribe(&bob).without("P-Asserted-Identity"), 403, None),
        (subscribe(&bob).set("Event", "message-waiting"), 489, Some("Allow-Events")),
        (subscribe(&bob).without("Event"), 489, Some("Allow-Events")),
        // What clients try so as to hear of changes in the metadata.
        (subscribe(&bob).set("Event", "xcap-diff"), 489, Some("Allow-Events")),
        (subscribe(&bob).set("Event", "sip-profile"), 489, Some("Allow-Events")),
        (subscribe(&bob).with("Accept", "application/pidf+xml"), 406, Some("Accept")),
        (subscribe(&bob).with("Expires", "59"), 423, Some("Min-Expires")),
        (subscribe(&bob).with("Require", "eventlist"), 420, Some("Unsupported")),
        (subscribe(&bob).without("Contact"), 400, None),
        (subscribe(&bob).set("Contact", "<tel:+15551234>"), 400, None),
        (subscribe(&bob).set("Contact", format!("<sip:{}@h>", "x".repeat(5_000))), 513, None),
        (bob.request_to("SUBSCRIBE", DEFERRED).with("Event", "message-summary"), 404, None),
        (bob.request_to("SUBSCRIBE", "sip:bob@elsewhere.org").with("Event", "message-summary"), 404, None),
    ];
    for (request, status, header) in table {
        let response = bob.exchange(&request);
        assert_eq!(response.code(), status, "{request:?}\n{response:?}");
        match header {
            Some("Allow-Events") => assert!(response.header("Allow-Events").unwrap().contains("message-summary")),
            Some("Min-Expires") => assert_eq!(response.header("Min-Expires"), Some("60")),
            Some(header) => assert!(response.header(header).is_some(), "{response:?}"),
            None => {}
        }
    }
    expect_no(&bob, "NOTIFY");
    let long = subscribe(&bob).with("Expires", "1000000").with("Accept", "text/plain, application/*;q=0.5");
    assert_eq!(subscribed(&bob, &long).header("Expires"), Some("86400"));
    notified(&bob, &long);
}

//= RFC 6665 4.2.1.2: a refresh of a subscription that is over: 481
//= RFC 6665 4.5.2: another event within the dialog: 403
#[test]
fn a_subscription_is_refreshed_and_ended_within_its_dialog() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let request = subscribe(&bob).with("Expires", "600");
    let ok = subscribed(&bob, &request);
    notified(&bob, &request);
    let again = |cseq: u32, expires: &str| {
        within(&bob, "SUBSCRIBE", cseq, &request, &ok)
            .with("Contact", bob.contact.clone())
            .with("Event", "message-summary")
            .with("Expires", expires)
    };
    let refreshed = bob.exchange(&again(2, "1200"));
    assert_eq!((refreshed.code(), refreshed.header("Expires")), (200, Some("1200")));
    let notify = notified(&bob, &request);
    assert_eq!(told(&notify), ("0/0 (0/0)".into(), vec![]));
    let left: u32 = param(state(&notify), "expires").unwrap().parse().unwrap();
    assert!((1190..=1200).contains(&left), "{}", state(&notify));
    assert_eq!(bob.exchange(&again(2, "1200")).code(), 500, "a number that was used");
    assert_eq!(bob.exchange(&again(3, "10")).code(), 423);
    assert_eq!(bob.exchange(&again(4, "600").set("Event", "presence")).code(), 403);
    let update = bob.exchange(&within(&bob, "UPDATE", 5, &request, &ok));
    assert_eq!((update.code(), update.header("Allow")), (405, Some("SUBSCRIBE, OPTIONS")));
    let options = bob.exchange(&within(&bob, "OPTIONS", 6, &request, &ok));
    assert_eq!((options.code(), options.header("Accept-Encoding")), (200, Some("identity")));
    assert_eq!(bob.exchange(&within(&bob, "OPTIONS", 6, &request, &ok)).code(), 500, "a number that was used");
    let strange = within(&bob, "OPTIONS", 7, &request, &ok).with("Require", "teleport");
    assert_eq!(bob.exchange(&strange).code(), 420);
    assert_eq!(bob.exchange(&again(8, "600").set("Call-ID", "another")).code(), 481);
    let ended = bob.exchange(&again(9, "0"));
    assert_eq!((ended.code(), ended.header("Expires")), (200, Some("0")));
    assert_eq!(state(&notified(&bob, &request)), "terminated;reason=timeout");
    assert_eq!(bob.exchange(&again(10, "600")).code(), 481);
    scene.alice().message(BOB, "nobody hears of me");
    expect_no(&bob, "NOTIFY");
}

//= RFC 6665 4.4.3: Expires 0 outside of a dialog: how things stand, once
#[test]
fn the_summary_is_fetched_once() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    alice.message(BOB, "one");
    let bob = scene.bob();
    let request = subscribe(&bob).with("Expires", "0");
    assert_eq!(subscribed(&bob, &request).header("Expires"), Some("0"));
    let notify = notified(&bob, &request);
    assert_eq!((told(&notify).0.as_str(), state(&notify)), ("1/0 (0/0)", "terminated;reason=timeout"));
    alice.message(BOB, "two");
    expect_no(&bob, "NOTIFY");
}

//= RFC 6665 4.2.2: when the time is over: terminated, timeout
#[test]
fn a_subscription_ends_in_its_time() {
    let options = restartable().line("policy.summary", "min_expires = \"1s\"");
    let mut scene = Scene::with(options);
    let bob = scene.bob_udp();
    let request = subscribe(&bob).with("Expires", "2");
    let began = Instant::now();
    subscribed(&bob, &request);
    notified(&bob, &request);
    assert_eq!(state(&notified(&bob, &request)), "terminated;reason=timeout");
    let lasted = began.elapsed();
    assert!(lasted >= Duration::from_millis(1_900) && lasted < Duration::from_secs(8), "{lasted:?}");
    // Also when nobody is there to see the time end.
    let request = subscribe(&bob).with("Expires", "1");
    subscribed(&bob, &request);
    notified(&bob, &request);
    scene.kill9();
    let over = Instant::now() + Duration::from_millis(1_100);
    while Instant::now() < over {
        std::thread::sleep(Duration::from_millis(50));
    }
    scene.restart(1);
    assert_eq!(state(&notified(&bob, &request)), "terminated;reason=timeout");
    expect_no(&bob, "NOTIFY");
}

//= RFC 3842 3.11: no more than one NOTIFY a second
#[test]
fn a_flood_of_messages_is_told_once_a_second_and_twenty_at_a_time() {
    let scene = Scene::new(DEFERD);
    let (alice, bob) = (scene.alice_tcp(), scene.bob());
    let request = subscribe(&bob);
    subscribed(&bob, &request);
    notified(&bob, &request);
    for number in 0..50 {
        alice.deposit(alice.text(BOB, "x").with("Subject", format!("number {number}")));
    }
    let began = Instant::now();
    let (mut notifies, mut counts, mut groups) = (0, String::new(), Vec::new());
    while counts != "50/0 (0/0)" {
        let (now, more) = told(&notified(&bob, &request));
        assert!(more.len() <= 20, "{}", more.len());
        (counts, notifies) = (now, notifies + 1);
        groups.extend(more);
    }
    let most = began.elapsed().as_secs() + 2;
    assert!(notifies <= most, "{notifies} in {most} s");
    assert!(groups.last().unwrap().contains("Subject: number 49"), "{groups:?}");
    let mut ids: Vec<&str> = groups.iter().map(|group| group.rsplit(": ").next().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), groups.len(), "none is told twice");
}

/// Delivered, retained, expired: whatever becomes of a message is told.
#[test]
fn pushes_retention_and_expiry_are_told() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "after_push = \"retain\""));
    let alice = scene.alice();
    let mut bob = scene.bob();
    let request = subscribe(&bob);
    subscribed(&bob, &request);
    notified(&bob, &request);
    let kept = alice.deposit(alice.text(BOB, "kept").with("Priority", "emergency"));
    assert_eq!(counts_become(&bob, &request, "1/0 (1/0)").len(), 1);
    scene.push_brings(&mut bob, &[kept]);
    assert_eq!(counts_become(&bob, &request, "0/1 (0/1)").len(), 0);
    bob.publish_presence(false);
    alice.deposit(alice.text(BOB, "brief").with("Expires", "3"));
    assert_eq!(counts_become(&bob, &request, "1/1 (0/1)").len(), 1);
    assert_eq!(counts_become(&bob, &request, "0/1 (0/1)").len(), 0);
}

//= RFC 6665 4.2.2: a NOTIFY refused for good ends the subscription, another failure does not
#[test]
fn some_refusals_end_a_subscription() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    for (status, ends) in [(481, true), (404, true), (489, true), (501, true), (486, false), (500, false)] {
        let bob = scene.bob();
        let request = subscribe(&bob);
        let ok = subscribed(&bob, &request);
        notify_answered(&bob, &request, status);
        alice.message(BOB, "still there?");
        let again = within(&bob, "SUBSCRIBE", 2, &request, &ok)
            .with("Contact", bob.contact.clone())
            .with("Event", "message-summary")
            .with("Expires", "600");
        if ends {
            expect_no(&bob, "NOTIFY");
            assert_eq!(bob.exchange(&again).code(), 481, "{status}");
        } else {
            assert_eq!(bob.exchange(&again).code(), 200, "{status}");
            notified(&bob, &request);
        }
    }
}

/// The wish, the dialog and its numbers are on the disk before the 200; that it is over, before the last NOTIFY.
//= RFC 3261 12.2.2: a request may be higher than the remote sequence number by more than one
#[test]
fn a_subscription_survives_the_daemon() {
    let log = Log::new();
    let core = SipCore::new(&log, Transport::Udp, false);
    let mut options = restartable();
    options.outbound_proxy = Some(core.proxy());
    let mut scene = Scene { log, daemon: Daemon::start(options) };
    let alice = scene.alice();
    let bob = scene.client(Transport::Tcp, BOB, scene.sip());
    core.route(&bob);
    let request = subscribe(&bob).with("Record-Route", core.record_route());
    let ok = subscribed(&bob, &request);
    assert_eq!(ok.header("Record-Route"), Some(core.record_route().as_str()));
    let mut last = notified(&bob, &request);
    assert_eq!(last.header("Route"), Some(core.record_route().as_str()));
    for cores in [2, 1] {
        alice.message(BOB, "before the crash");
        last = notified(&bob, &request);
        let before = told(&last).0;
        scene.kill9();
        scene.restart(cores);
        let first = notified(&bob, &request);
        assert_eq!(told(&first), (before, vec![]), "how things stand, without headers");
        assert!(first.cseq() > last.cseq(), "{} after {}", first.cseq(), last.cseq());
        assert_eq!((first.tag("From"), first.header("Route")), (last.tag("From"), last.header("Route")));
        assert_eq!(first.uri(), uri_of(&bob.contact));
        last = first;
    }
    alice.message(BOB, "after it");
    let next = notified(&bob, &request);
    assert_eq!((told(&next).1.len(), next.cseq()), (1, last.cseq() + 1));
    // Over another connection: the first died with the daemon.
    let bob = scene.client(Transport::Tcp, BOB, scene.sip());
    core.route(&bob);
    let again = within(&bob, "SUBSCRIBE", 2, &request, &ok).with("Event", "message-summary").with("Expires", "0");
    assert_eq!(bob.exchange(&again).code(), 200);
    assert_eq!(state(&notified(&bob, &request)), "terminated;reason=timeout");
    scene.kill9();
    scene.restart(1);
    alice.message(BOB, "nobody hears of me");
    expect_no(&bob, "NOTIFY");
}

/// Without a core in front, a datagram's way outlives the daemon; a connection's is had again with the next request over it.
#[test]
fn alone_a_subscriber_is_reached_the_way_the_last_request_came() {
    let mut scene = Scene::with(restartable());
    let alice = scene.alice();
    let (over_udp, over_tcp) = (scene.bob_udp(), scene.bob());
    let (first, second) = (subscribe(&over_udp), subscribe(&over_tcp));
    for (client, request) in [(&over_udp, &first), (&over_tcp, &second)] {
        subscribed(client, request);
        notified(client, request);
    }
    alice.message(BOB, "one");
    for (client, request) in [(&over_udp, &first), (&over_tcp, &second)] {
        assert_eq!(told(&notified(client, request)).1.len(), 1);
    }
    scene.kill9();
    scene.restart(1);
    assert_eq!(told(&notified(&over_udp, &first)).0, "1/0 (0/0)");
    let mut bob = scene.bob();
    bob.publish_settings(false);
    assert_eq!(told(&notified(&bob, &second)).0, "1/0 (0/0)");
}

/// One more than a person has devices ends the oldest, which is told.
#[test]
fn nobody_has_subscriptions_without_number() {
    let scene = Scene::new(DEFERD);
    let bob = scene.bob();
    let requests: Vec<SipMessage> = (0..9).map(|_| subscribe(&bob)).collect();
    for request in &requests {
        subscribed(&bob, request);
        notified(&bob, request);
    }
    assert_eq!(state(&notified(&bob, &requests[0])), "terminated;reason=probation;retry-after=600");
    scene.alice().message(BOB, "to all others");
    for request in &requests[1..] {
        assert_eq!(told(&notified(&bob, request)).0, "1/0 (0/0)");
    }
}

/// Home decides, whichever core the request reached.
#[test]
fn any_core_takes_a_subscription() {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 2;
    let scene = Scene::with(options);
    let alice = scene.alice();
    for number in 0..8 {
        let aor = format!("sip:user{number}@example.org");
        let user = scene.client(Transport::Tcp, &aor, scene.daemon.sip());
        let request = subscribe(&user);
        let ok = subscribed(&user, &request);
        notified(&user, &request);
        alice.message(&aor, "hello");
        let body = String::from_utf8(notified(&user, &request).body).unwrap();
        assert!(body.contains(&format!("Message-Account: {aor}\r\nText-Message: 1/0 (0/0)\r\n\r\nTo: ")), "{body}");
        let end = within(&user, "SUBSCRIBE", 2, &request, &ok).with("Event", "message-summary").with("Expires", "0");
        assert_eq!(user.exchange(&end).code(), 200);
        assert_eq!(state(&notified(&user, &request)), "terminated;reason=timeout");
    }
}

/// Which headers are told is the operator's choice; what the sender keeps private is not told, whatever is chosen.
//= RFC 3842 3.5: an administrator configurable mechanism selects which headers are sent
#[test]
fn the_operator_chooses_the_headers_and_privacy_stands_above_it() {
    let options = DaemonOptions::new(DEFERD)
        .line("policy.summary", "headers = [\"Subject\", \"P-Asserted-Identity\", \"Route\", \"X-Mood\"]");
    let scene = Scene::with(options);
    let (alice, bob) = (scene.alice(), scene.bob());
    let request = subscribe(&bob);
    subscribed(&bob, &request);
    notified(&bob, &request);
    let text =
        alice.text(BOB, "x").with("Subject", "open").with("X-Mood", "good").with("Route", "<sip:p.example.org;lr>");
    alice.deposit(text);
    let groups = counts_become(&bob, &request, "1/0 (0/0)");
    assert_eq!(groups, ["Subject: open\r\nP-Asserted-Identity: <sip:alice@example.org>\r\nX-Mood: good"]);
    alice.deposit(alice.text(BOB, "x").with("Subject", "private").with("Privacy", "id"));
    assert_eq!(counts_become(&bob, &request, "2/0 (0/0)"), ["Subject: private"]);
}
