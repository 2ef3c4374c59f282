//! 12.2.2.3: a large message that is kept: across kills, among segments that go, in everything that is done with a stored message.

use deferd_kit::{
    daemon::DaemonOptions,
    large::{Chunk, Large},
    msrp_client::Reply,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sdp::{Answer, Sdp, Setup},
    sip::SipMessage,
};

use crate::{
    DEFERD,
    c12_2_2_1_large::{alice, octets, push_brings, taken_apart},
    selection,
};

#[test]
fn ten_mebibytes_arrive_and_survive_a_kill() {
    let mut scene = Scene::new(DEFERD);
    let body = octets(10 << 20, 7);
    let small = octets(100, 8);
    let large = Large::open(alice(&scene), BOB);
    large.deposit("tenmebi1", &body, 8_192);
    large.deposit("small001", &small, 8_192);
    let text = scene.alice().message(BOB, "and a pager message behind them");
    drop(large);
    scene.kill9();
    scene.restart(1);
    let mut bob = scene.bob_udp();
    // Killed while it is being pushed: it comes again, under its name.
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|number, _| if number < 100 { vec![Reply::Status(200)] } else { vec![Reply::Silence] });
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(100);
    let first = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    scene.kill9();
    scene.restart(2);
    // He is known to be there: the start pushes by itself.
    let pushed = bob.take_push(3);
    assert_eq!(first.header("Message-ID"), Some(pushed[0].message_id.as_str()));
    assert!(taken_apart(&pushed[0]).body == body && taken_apart(&pushed[1]).body == small);
    scene.same(&pushed[2..], &[text]);
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_kill_in_the_middle_loses_only_what_was_never_promised() {
    let options = DaemonOptions::new(DEFERD)
        .line("policy", "max_message_size = \"1MiB\"")
        .line("policy.quota", "octets = \"1MiB\"");
    let mut scene = Scene::with(options);
    let (kept, lost) = (octets(200_000, 1), octets(700_000, 2));
    let large = Large::open(alice(&scene), BOB);
    large.deposit("promised", &kept, 20_000);
    // Parts of it are in the log, and durable: what comes behind them is.
    for from in (0..600_000).step_by(20_000) {
        large.expect(&large.chunk(&Chunk::of("halfway1", &lost, from, from + 20_000)), 200);
    }
    scene.alice().message(BOB, "durable behind the parts");
    let text = scene.alice().message(BOB, "and so is this");
    drop(large);
    scene.kill9();
    scene.restart(2);
    // What was lost counts for nothing: the same again fits into what the quota leaves.
    let large = Large::open(alice(&scene), BOB);
    large.deposit("halfway1", &lost, 20_000);
    large.bye();
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(4);
    assert!(taken_apart(&pushed[0]).body == kept && taken_apart(&pushed[3]).body == lost);
    scene.same(&pushed[2..3], &[text]);
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_large_message_is_retrieved_deleted_and_counted_like_any_other() {
    let scene = Scene::new(DEFERD);
    // One chunk each, so that a client that answers nothing hears of both.
    let bodies = [octets(3_000, 1), octets(4_000, 2)];
    let large = Large::open(alice(&scene), BOB);
    large.deposit("retrieve", &bodies[0], 20_000);
    large.deposit("deleted1", &bodies[1], 20_000);
    large.bye();
    let mut bob = scene.bob();
    let ids = selection::ids(&mut bob, 2);
    let msrp = bob.msrp(Setup::Active);
    let request = selection::invite_list(&bob, &Answer::new(msrp.path(), Setup::Active).write(), &[&ids[0]]);
    let ok = bob.exchange(&request);
    assert_eq!(ok.code(), 200, "{ok:?}");
    selection::ack(&bob, &request, &ok);
    msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
    let pushed = msrp.expect_messages(1);
    selection::expect_bye(&bob, &request);
    msrp.judge();
    assert!(taken_apart(&pushed[0]).body == bodies[0]);
    for id in &ids {
        let refer = selection::refer_quietly(&bob, &selection::uri(id));
        assert_eq!(bob.exchange(&refer).code(), 200);
    }
    scene.nothing_waits(&mut bob);
    // A client that does not take message/msrp is not sent any; the others of its messages are.
    bob.publish_presence(false);
    let large = Large::open(alice(&scene), BOB);
    large.deposit("waitshe1", &bodies[0], 20_000);
    large.bye();
    let text = scene.alice().message(BOB, "for everybody");
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    let answer = Answer { wrapped_types: None, ..Answer::new(msrp.path(), Setup::Active) };
    call.answer_with(&msrp, &answer);
    let pushed = msrp.expect_messages(1);
    call.expect_bye();
    scene.same(&pushed, &[text]);
    push_brings(&mut bob, &[&bodies[0]]);
}

//= 12.2.2.6-1: whether the deleted messages include a Failure Delivery Report request as defined in IMDN
#[test]
fn whoever_asked_hears_that_a_large_message_was_stored_and_that_it_was_deleted() {
    let scene = Scene::new(DEFERD);
    let text = selection::asking("large-imdn-1", "processing, negative-delivery", &"long ".repeat(2_000));
    let large = Large::open(alice(&scene), BOB);
    // Reports go to whoever the network says has sent it: over the way of alice's last PUBLISH.
    let mut listener = scene.client(Transport::Udp, ALICE, scene.daemon.sip());
    listener.publish_presence(true);
    let chunk = Chunk { content_type: "message/cpim", ..Chunk::whole("cpimlarg", text.as_bytes()) };
    large.expect(&large.chunk(&chunk), 200);
    large.bye();
    let report = |what: &str| {
        let received = listener.inbox.expect_request("MESSAGE");
        listener.inbox.respond(&received, &SipMessage::response(&received.message, 200, "OK", "x"));
        let body = String::from_utf8_lossy(&received.message.body).into_owned();
        assert!(body.contains("<message-id>large-imdn-1</message-id>") && body.contains(what), "{what}: {body}");
    };
    report("<stored/>");
    // By its sender's name for it, where the operator allows that, it would be found as well; here by its own.
    let mut bob = scene.bob();
    let ids = selection::ids(&mut bob, 1);
    assert_eq!(bob.exchange(&selection::refer_quietly(&bob, &selection::uri(&ids[0]))).code(), 200);
    report("<failed/>");
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_large_message_is_found_by_its_senders_name_for_it() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "legacy_s0_retrieval = true"));
    let large = Large::open(alice(&scene), BOB);
    let body = octets(30_000, 13);
    large.deposit("byitsnam", &body, 10_000);
    large.bye();
    let bob = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    let name = large.request.call_id().replace('@', "%40");
    let uri = format!("sip:{name}@mailserver.example.org");
    let sdp = Answer::new(msrp.path(), Setup::Active).write();
    let request = bob.request_to("INVITE", &uri).with("Contact", bob.contact.clone()).with_body("application/sdp", sdp);
    let ok = bob.exchange(&request);
    assert_eq!(ok.code(), 200, "{ok:?}");
    selection::ack(&bob, &request, &ok);
    msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
    let pushed = msrp.expect_messages(1);
    selection::expect_bye(&bob, &request);
    assert!(taken_apart(&pushed[0]).body == body);
}

//= 12.2.2.3-2: relevant headers of the SIP BYE request
#[test]
fn what_the_bye_says_is_kept_with_the_message() {
    let mut scene = Scene::new(DEFERD);
    let body = octets(120_000, 9);
    let large = Large::open(alice(&scene), BOB);
    large.deposit("withabye", &body, 20_000);
    let bye =
        large.within("BYE").with("Date", "Mon, 21 Feb 2005 13:02:09 GMT").with("Reason", "SIP;cause=200;text=\"sent\"");
    assert_eq!(large.client.exchange(&bye).code(), 200);
    let holds = |text: &str| {
        let logs = std::fs::read_dir(scene.data_dir().join("log-0")).unwrap();
        logs.flatten().any(|file| find(&std::fs::read(file.path()).unwrap_or_default(), text.as_bytes()).is_some())
    };
    let deadline = std::time::Instant::now() + deferd_kit::WAIT;
    while !holds("SIP;cause=200;text=\"sent\"") {
        assert!(std::time::Instant::now() < deadline, "the BYE's lines are in no record");
        std::thread::yield_now();
    }
    // The record that has them is the message's from then on.
    scene.kill9();
    scene.restart(1);
    let mut bob = scene.bob();
    push_brings(&mut bob, &[&body]);
    scene.nothing_waits(&mut bob);
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(octets, what)
}

/// Parts of live large messages stand in the way of segments that are to go: they are copied forward, and the disk stays bounded.
#[test]
fn parts_are_copied_forward_and_the_disk_stays_bounded() {
    let mut scene = Scene::with(
        DaemonOptions::new(DEFERD)
            .line("limits", "segment_octets = \"1MiB\"")
            .line("limits", "commit_octets = \"1MiB\"")
            .line("policy", "offline_delivery = true"),
    );
    // A little of bob's in every segment, among somebody else's who fetches all of it.
    let carol = "sip:carol@example.org";
    let mut other = scene.client(Transport::Tcp, carol, scene.daemon.sip());
    let passing = octets(700_000, 12);
    let kept: Vec<Vec<u8>> = (0..24).map(|seed| octets(100_000, seed)).collect();
    for (round, body) in kept.iter().enumerate() {
        let large = Large::open(alice(&scene), BOB);
        large.deposit(&format!("staying{round:02}"), body, 30_000);
        large.bye();
        let large = Large::open(alice(&scene), carol);
        large.deposit(&format!("passing{round:02}"), &passing, 50_000);
        large.bye();
        other.publish_presence(true);
        let pushed = other.take_push(1);
        assert!(taken_apart(&pushed[0]).body == passing, "round {round}");
        other.publish_presence(false);
    }
    let size = |scene: &Scene| -> u64 {
        let files = std::fs::read_dir(scene.data_dir().join("log-0")).unwrap().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
    };
    let deadline = std::time::Instant::now() + deferd_kit::WAIT;
    // 2.4 MB alive * 1.5, and eight segments.
    while size(&scene) > (3_600_000 + 8 * (1 << 20)) {
        assert!(std::time::Instant::now() < deadline, "{} octets of segments for 2.4 MB", size(&scene));
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let copied = scrape(&scene, "deferd_store_copied_bytes_total");
    scene.kill9();
    scene.restart(1);
    let mut bob = scene.bob();
    push_brings(&mut bob, &kept.iter().map(Vec::as_slice).collect::<Vec<_>>());
    scene.nothing_waits(&mut bob);
    assert!(copied > 0, "nothing had to be copied");
}

fn scrape(scene: &Scene, name: &str) -> u64 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(scene.http()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}
