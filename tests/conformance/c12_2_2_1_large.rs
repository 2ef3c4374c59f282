//! 12.2.2.1 and 12.2.2.3-2: somebody sends a large message to a user who is offline, over a session that we answer.

use deferd_kit::{
    agents::Client,
    daemon::DaemonOptions,
    large::{Chunk, Large},
    msrp::MsrpMessage,
    msrp_client::Reply,
    payload::{self, LargeMessage},
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sdp::{Answer, Sdp, Setup},
    sip::SipMessage,
};

use crate::{DEFERD, selection};

pub(crate) fn alice(scene: &Scene) -> Client {
    scene.client(Transport::Tcp, ALICE, scene.daemon.sip())
}

/// Octets that are no text, with hyphens here and there.
pub(crate) fn octets(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if state >> 61 == 0 { b'-' } else { (state >> 33) as u8 }
        })
        .collect()
}

#[track_caller]
pub(crate) fn taken_apart(message: &MsrpMessage) -> LargeMessage {
    payload::large(message).unwrap_or_else(|why| panic!("{}: {why}", message.message_id))
}

/// Bob comes online and is sent exactly these bodies, each as a large message.
#[track_caller]
pub(crate) fn push_brings(bob: &mut Client, bodies: &[&[u8]]) -> Vec<LargeMessage> {
    bob.publish_presence(true);
    let pushed = bob.take_push(bodies.len());
    let taken: Vec<LargeMessage> = pushed.iter().map(taken_apart).collect();
    for (message, body) in taken.iter().zip(bodies) {
        assert!(message.body == *body, "{} octets became {} others", body.len(), message.body.len());
    }
    taken
}

//= 12.2.2.1-1: shall store the content of the Contact header field
//= 12.2.2.1-2: shall store relevant headers of SIP INVITE
//= 12.2.2.3-2: the MSRP SEND request including the timestamp the IM Server receives the complete msrp messages
//= 12.2.2.5: shall encapsulate "MSRP SEND" messages with the Content type message/msrp
//= 12.2.2.5: the original headers, i.e. Call-IDs and message-id in case of MSRP SEND, shall not be altered
#[test]
fn a_large_message_in_one_chunk_is_pushed_to_the_octet() {
    let scene = Scene::new(DEFERD);
    let large = Large::open_with(alice(&scene), BOB, |request| {
        request
            .with("Subject", "this is a subject")
            .with("Priority", "urgent")
            .with("Date", "Mon, 21 Feb 2005 13:02:03 GMT")
            .with("Session-Expires", "1800;refresher=uac")
    });
    let ok = &large.ok;
    assert!(ok.header("Server").unwrap().starts_with("IM-serv/OMA1.0"));
    let contact = ok.header("Contact").unwrap();
    assert!(contact.contains("sip:defer-") && contact.contains("automata") && contact.contains("+g.oma.sip-im"));
    assert_eq!((ok.header("Require"), ok.header("Session-Expires")), (Some("timer"), Some("1800;refresher=uac")));
    let sdp = Sdp::read(&ok.body).unwrap();
    assert_eq!((sdp.attribute("recvonly"), sdp.attribute("setup")), (Some(""), Some("passive")));
    assert_eq!((sdp.attribute("accept-types"), sdp.attribute("max-size")), (Some("*"), Some("104857600")));
    let body = b"Hi, Alice!  I'm Bob!";
    let chunk = Chunk { more: "Content-Disposition: attachment\r\n", ..Chunk::whole("456s9wlk3", body) };
    let tid = large.chunk(&chunk);
    large.expect(&tid, 200);
    large.bye();
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = bob.take_push(1);
    let message = taken_apart(&pushed[0]);
    let request = &large.request;
    let line = |name: &str| format!("{name}: {}", request.header(name).unwrap());
    let expected = [
        request.start.clone(),
        line("To"),
        line("From"),
        line("Call-ID"),
        line("Date"),
        line("P-Asserted-Identity"),
        line("Subject"),
        line("Priority"),
    ];
    assert_eq!(message.invite, expected);
    assert_eq!((message.tid.as_str(), message.message_id.as_str()), (tid.as_str(), "456s9wlk3"));
    assert_eq!(message.mime, ["Content-Disposition: attachment", "Content-Type: text/plain"]);
    assert_eq!(message.body, body);
    // All of it, octet for octet, but for the time.
    let boundary = payload::boundary(&pushed[0].content_type).unwrap();
    let whole = format!(
        "--{boundary}\r\nContent-Type: message/sipfrag\r\n\r\n{}\r\n\r\n--{boundary}\r\nContent-Type: message/msrp\r\n\r\n\
         MSRP {tid} SEND\r\nMessage-ID: 456s9wlk3\r\nDate: {}\r\nByte-Range: 1-20/20\r\n\
         Content-Disposition: attachment\r\nContent-Type: text/plain\r\n\r\nHi, Alice!  I'm Bob!\r\n-------{tid}$\r\n\r\n--{boundary}--",
        expected.join("\r\n"),
        message.date
    );
    assert_eq!(String::from_utf8_lossy(&pushed[0].body), whole);
    scene.nothing_waits(&mut bob);
}

//= RFC 4975 7.3.1: if chunks overlap, the last chunk received takes precedence; the last chunk of a message says how long it is
#[test]
fn chunks_of_any_size_in_any_order_make_one_message() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let bodies: Vec<Vec<u8>> = (0..4).map(|seed| octets(300_000 + usize::from(seed), seed)).collect();
    large.deposit("inorder1", &bodies[0], 2_048);
    large.deposit("inorder2", &bodies[1], 100_001);
    // Backwards, the end first: the chunk that fills the last gap is the one whose 200 says that it is kept.
    let borders = [0, 1, 5_000, 60_000, 60_001, 150_000, 299_000, bodies[2].len()];
    let mut tids = Vec::new();
    for at in (1..borders.len()).rev() {
        tids.push(large.chunk(&Chunk::of("backward", &bodies[2], borders[at - 1], borders[at])));
    }
    tids.iter().for_each(|tid| drop(large.expect(tid, 200)));
    // Overlaps: what came last counts.
    let wrong = vec![b'?'; bodies[3].len()];
    let total = Some(wrong.len());
    for (from, to) in [(0, 100_000), (200_000, 250_000)] {
        let chunk = Chunk { flag: '+', total, ..Chunk::of("overlap1", &wrong, from, to) };
        large.expect(&large.chunk(&chunk), 200);
    }
    for (from, to) in [(90_000, 210_000), (0, 90_005), (205_000, 300_003)] {
        large.expect(&large.chunk(&Chunk::of("overlap1", &bodies[3], from, to)), 200);
    }
    large.bye();
    let mut bob = scene.bob();
    push_brings(&mut bob, &bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
    scene.nothing_waits(&mut bob);
}

//= RFC 4975 7.1.2: Success-Report yes: a REPORT when the complete message has been received
#[test]
fn a_report_comes_when_it_was_asked_for_and_answers_only_as_wished() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let body = octets(5_000, 1);
    let asks = Chunk { more: "Success-Report: yes\r\n", ..Chunk::whole("asksyes1", &body) };
    large.expect(&large.chunk(&asks), 200);
    let report = large.msrp.expect_frame("the REPORT", |frame| frame.method() == "REPORT");
    assert_eq!((report.header("Message-ID"), report.header("Status")), (Some("asksyes1"), Some("000 200 OK")));
    assert_eq!(report.header("Byte-Range"), Some("1-5000/5000"));
    assert_eq!(report.headers[0].1, large.msrp.path());
    let silent = Chunk { more: "Success-Report: yes\r\nFailure-Report: no\r\n", ..Chunk::whole("silent01", &body) };
    let unanswered = large.chunk(&silent);
    let partial =
        Chunk { more: "Success-Report: yes\r\nFailure-Report: partial\r\n", ..Chunk::whole("partial1", &body) };
    let unanswered_too = large.chunk(&partial);
    for id in ["silent01", "partial1"] {
        large.msrp.expect_frame("its REPORT", |frame| frame.header("Message-ID") == Some(id));
    }
    large.deposit("answered", &body, 5_000);
    let frames = large.msrp.frames();
    assert!(!frames.iter().any(|frame| [&unanswered, &unanswered_too].contains(&&frame.tid)));
    assert_eq!(frames.iter().filter(|frame| frame.method() == "REPORT").count(), 3);
    large.bye();
    push_brings(&mut scene.bob(), &[&body, &body, &body, &body]);
}

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
fn what_is_given_up_cut_off_or_left_with_a_gap_leaves_nothing() {
    let scene = Scene::new(DEFERD);
    let body = octets(200_000, 3);
    let large = Large::open(alice(&scene), BOB);
    large.expect(&large.chunk(&Chunk::of("givenup1", &body, 0, 100_000)), 200);
    let chunk = Chunk { flag: '#', ..Chunk::of("givenup1", &body, 100_000, 120_000) };
    large.expect(&large.chunk(&chunk), 200);
    large.expect(&large.chunk(&Chunk::of("withagap", &body, 100_000, 200_000)), 200);
    large.bye();
    let cut = Large::open(alice(&scene), BOB);
    cut.expect(&cut.chunk(&Chunk::of("cutoff01", &body, 0, 100_000)), 200);
    cut.msrp.cut();
    cut.expect_bye();
    scene.nothing_waits(&mut scene.bob());
}

//= RFC 6135 4.2.1: an offer is active or actpass
#[test]
fn an_interactive_session_and_what_cannot_be_received_are_refused() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "max_message_size = \"1MiB\""));
    let alice = alice(&scene);
    let msrp = alice.msrp(Setup::Active);
    let good = Large::offer(&msrp).write();
    let invite = || Large::invite(&alice, BOB, &good);
    let sdp = |from: &str, to: &str| {
        let text = String::from_utf8(good.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        Large::invite(&alice, BOB, text.replace(from, to).as_bytes())
    };
    let cpm = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.session\"";
    let table: Vec<(SipMessage, u16, &str)> = vec![
        (invite().without("Accept-Contact"), 480, "399"),
        (invite().set("Accept-Contact", "*;+g.oma.sip-im"), 480, "399"),
        (invite().set("Accept-Contact", cpm), 480, "399"),
        (invite().without("P-Asserted-Identity"), 403, "399"),
        (Large::invite(&alice, "sip:bob@elsewhere.net", &good), 404, ""),
        (sdp("a=sendonly", "a=recvonly"), 488, "399"),
        (sdp("a=sendonly", "a=inactive"), 488, "399"),
        (sdp("m=message", "m=audio"), 488, "304"),
        (sdp("TCP/MSRP", "TCP/TLS/MSRP"), 488, "302"),
        (sdp("setup:active", "setup:passive"), 488, "399"),
        (sdp("a=sendonly", "a=sendonly\r\na=file-selector:name:\"x\" size:1048577"), 413, ""),
        (SipMessage { body: Vec::new(), ..invite().without("Content-Type") }, 488, "304"),
        (Large::invite(&alice, BOB, b"no sdp"), 400, ""),
        (invite().with_body("text/plain", "hello"), 415, ""),
        (invite().without("Contact"), 400, ""),
        (invite().with("Require", "teleport"), 420, ""),
        (invite().with("Session-Expires", "60"), 422, ""),
        (invite().with("Accept", "text/plain"), 406, ""),
    ];
    for (request, status, warning) in table {
        let response = alice.exchange(&request);
        assert_eq!(response.code(), status, "{request:?}\n{response:?}");
        assert!(response.header("Warning").unwrap_or_default().starts_with(warning), "{warning}: {response:?}");
        if status == 488 {
            let capable = Sdp::read(&response.body).unwrap();
            assert_eq!(capable.port_and_proto(), Some((0, "TCP/MSRP")));
            assert_eq!((capable.attribute("recvonly"), capable.attribute("max-size")), (Some(""), Some("1048576")));
        }
    }
    // Either tag will do.
    let cpm = "*;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.largemsg\"";
    let large = Large::open_with(alice, BOB, |request| request.set("Accept-Contact", cpm));
    large.bye();
}

#[test]
fn what_does_not_fit_is_refused_in_the_middle_and_given_back() {
    let options = DaemonOptions::new(DEFERD)
        .line("policy", "max_message_size = \"300KiB\"")
        .line("policy.quota", "octets = \"400KiB\"");
    let scene = Scene::with(options);
    let large = Large::open(alice(&scene), BOB);
    let body = octets(250_000, 4);
    // Longer than any may be: by what it says, and by what comes.
    let long = octets(310_000, 5);
    large.expect(&large.chunk(&Chunk { flag: '+', ..Chunk::of("toolong1", &long, 0, 5_000) }), 413);
    large.expect(&large.chunk(&Chunk { total: None, ..Chunk::whole("toolong2", &long) }), 413);
    large.expect(&large.chunk(&Chunk { total: None, ..Chunk::of("toolong2", &long, 305_000, 308_000) }), 413);
    large.deposit("thefirst", &body, 10_000);
    // Over the quota in the middle of it; then there is room for less.
    let tids = large.send("second01", &body, 50_000);
    large.expect(tids.last().unwrap(), 413);
    let small = octets(100_000, 6);
    large.deposit("third001", &small, 10_000);
    large.bye();
    let mut bob = scene.bob();
    push_brings(&mut bob, &[&body, &small]);
    // What was delivered counts no more.
    bob.publish_presence(false);
    let large = Large::open(alice(&scene), BOB);
    large.deposit("again001", &body, 10_000);
    large.bye();
    push_brings(&mut bob, &[&body]);
}

#[test]
fn a_full_store_says_so_before_anything_is_sent() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy.quota", "messages = 1"));
    let alice = alice(&scene);
    let msrp = alice.msrp(Setup::Active);
    let invite = || Large::invite(&alice, BOB, &Large::offer(&msrp).write());
    let text = scene.alice().message(BOB, "the only one");
    let response = alice.exchange(&invite());
    assert_eq!((response.code(), response.header("Retry-After")), (480, Some("600")));
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[text]);
    assert_eq!(alice.exchange(&invite()).code(), 200);
}

//= RFC 4975 10.5: a chunk with a Message-ID that was refused is refused
//= RFC 4975 10.6: 415: the request contained a media type that is not understood
//= RFC 4975 7.3: a request whose To-Path maps to no session is answered 481, one of a session that is bound elsewhere 506
#[test]
fn strangers_second_connections_and_nonsense_get_their_codes() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let body = octets(3_000, 2);
    let second = alice(&scene).msrp(Setup::Active);
    second.dial(&large.path);
    second.write(&Chunk::whole("elsewher", &body).write("tidtidtid1", &large.path, large.msrp.path()));
    second.expect_status("bound elsewhere", 506);
    let nobody = large.path.replace(";tcp", "x;tcp");
    second.write(&Chunk::whole("nobodys1", &body).write("tidtidtid2", &nobody, large.msrp.path()));
    second.expect_status("no such session", 481);
    let untyped = Chunk { content_type: "nonsense", ..Chunk::whole("untyped1", &body) };
    large.expect(&large.chunk(&untyped), 415);
    large.msrp.write(
        format!(
            "MSRP tidtidtid3 AUTH\r\nTo-Path: {}\r\nFrom-Path: {}\r\n-------tidtidtid3$\r\n",
            large.path,
            large.msrp.path()
        )
        .as_bytes(),
    );
    large.expect("tidtidtid3", 501);
    // Two ends that differ.
    large.expect(&large.chunk(&Chunk { total: None, ..Chunk::of("twoends1", &body, 2_500, 3_000) }), 200);
    large.expect(&large.chunk(&Chunk { total: None, ..Chunk::of("twoends1", &body[..2_900], 2_500, 2_900) }), 400);
    // "Is composing" is taken, and says nothing an hour later.
    let composing =
        Chunk { content_type: "application/im-iscomposing+xml", ..Chunk::whole("composin", b"<isComposing/>") };
    large.expect(&large.chunk(&composing), 200);
    large.deposit("goodone1", &body, 3_000);
    // The same once more in the same session is the same.
    large.deposit("goodone1", &body, 3_000);
    large.bye();
    let again = alice(&scene).msrp(Setup::Active);
    again.dial(&large.path);
    again.write(&Chunk::whole("toolate1", &body).write("tidtidtid4", &large.path, large.msrp.path()));
    again.expect_status("over", 481);
    let mut bob = scene.bob();
    push_brings(&mut bob, &[&body]);
    scene.nothing_waits(&mut bob);
}

#[test]
fn an_end_line_inside_is_avoided() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let inside = |tid: &str, text: &str| {
        let chunk = Chunk::whole("hyphens1", text.as_bytes());
        let chunk = Chunk { id: tid, ..chunk };
        large.msrp.write(&chunk.write(tid, &large.path, large.msrp.path()));
        large.expect(tid, 200);
    };
    // Its own end-line with the flag missing does not end the chunk, and may not be the end-line of the message.
    inside("dkei38sd01", "before\r\n-------dkei38sd01 and behind");
    inside("dkei38sd02", "before\r\n-------dkei38sd01$\r\nand behind -------");
    large.bye();
    let bodies =
        [&b"before\r\n-------dkei38sd01 and behind"[..], b"before\r\n-------dkei38sd01$\r\nand behind -------"];
    let taken = push_brings(&mut scene.bob(), &bodies);
    assert_ne!(taken[0].tid, "dkei38sd01");
    assert_eq!(taken[1].tid, "dkei38sd02");
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

#[test]
fn a_sender_that_stops_or_never_comes_is_let_go() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("msrp", "bind_timeout = \"1s\""));
    let large = Large::call(alice(&scene), BOB, |request| request);
    large.expect_bye();
    let options = large.client.exchange(&large.within("OPTIONS"));
    assert_eq!(options.code(), 481);
    let open = Large::open(alice(&scene), BOB);
    assert_eq!(open.client.exchange(&open.within("OPTIONS")).code(), 200);
    let refresh = open.within("UPDATE").with("Supported", "timer").with("Session-Expires", "1800;refresher=uac");
    let ok = open.client.exchange(&refresh.with("Contact", open.client.contact.clone()));
    assert_eq!((ok.code(), ok.header("Session-Expires")), (200, Some("1800;refresher=uac")));
    assert_eq!(open.client.exchange(&open.within("INFO")).code(), 405);
    open.deposit("stillgoe", b"it goes on", 100);
    open.bye();
    push_brings(&mut scene.bob(), &[b"it goes on"]);
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
