//! 12.2.2.5 for clients that take CPIM and nothing else: a large message goes to them as well, and is in nobody's memory meanwhile.

use deferd_kit::{
    agents::Client,
    cpim::Cpim,
    daemon::DaemonOptions,
    large::{Chunk, Large},
    msrp_client::Reply,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sdp::{Answer, Sdp, Setup},
    sip::{SipMessage, find},
};

use crate::{
    DEFERD,
    c12_2_2_1_large::{alice, octets, push_brings, taken_apart},
    payload::{CPIM, Takes, answers, takes, why},
    privacy::names_nobody,
    selection::{self, asking},
};

/// One that takes pictures in CPIM.
const PICTURES: Takes = Takes("message/cpim", "image/png text/plain");

/// Deposits these octets as a picture.
#[track_caller]
fn picture(large: &Large, id: &str, body: &[u8]) {
    let starts: Vec<usize> = (0..body.len()).step_by(60_000).collect();
    let chunk = |from: usize| Chunk {
        content_type: "image/png;q=1",
        more: "Content-Disposition: attachment;filename=\"a.png\"\r\nContent-Length: 7\r\nContent-Description: -------x\r\n",
        ..Chunk::of(id, body, from, (from + 60_000).min(body.len()))
    };
    let tids: Vec<String> = starts.iter().map(|&from| large.chunk(&chunk(from))).collect();
    large.expect(tids.last().unwrap(), 200);
}

fn dated(request: SipMessage) -> SipMessage {
    request.with("Subject", "holidays\\").with("Date", "Sun, 06 Nov 1994 08:49:37 GMT").with("Priority", "urgent")
}

/// What the picture is in CPIM.
fn as_cpim(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "From: <{ALICE}>\r\nTo: <{BOB}>\r\nDateTime: 1994-11-06T08:49:37Z\r\nSubject: holidays\\\\\r\n\r\n\
         Content-Type: image/png;q=1\r\nContent-Disposition: attachment;filename=\"a.png\"\r\n\
         Content-Description: -------x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Octets of memory of a process that no file backs.
fn anonymous(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

//= 12.2.2.5: shall encapsulate "MSRP SEND" messages: for a client of CPIM, in that
#[test]
fn a_large_message_goes_as_cpim_octet_for_octet_to_whoever_takes_nothing_else() {
    let scene = Scene::new(DEFERD);
    let large = Large::open_with(alice(&scene), BOB, dated);
    let bodies = [octets(24 << 20, 1), octets(7, 2), Vec::new()];
    for (number, body) in bodies.iter().take(2).enumerate() {
        picture(&large, &format!("picture{number}"), body);
    }
    let tid = large.chunk(&Chunk::whole("empty001", b""));
    large.expect(&tid, 200);
    large.bye();
    // The first try is cut off in the middle of it; nobody has read it whole by then.
    let mut bob = scene.bob();
    let pid = scene.pid().unwrap();
    bob.publish_presence(true);
    let before = anonymous(pid);
    let (mut call, msrp) = answers(&bob, |msrp| PICTURES.answer(msrp));
    msrp.expect_sends(1_000);
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    let grown = anonymous(pid).saturating_sub(before);
    assert!(grown < 12 << 20, "{grown} octets of memory for a message of 24 MiB");
    let first = msrp.frames().into_iter().find(|frame| frame.content.is_some()).unwrap();
    bob.publish_presence(false);
    call.bye();
    let pushed = takes(&mut bob, &PICTURES, 3);
    assert_eq!(first.header("Message-ID"), Some(pushed[0].message_id.as_str()));
    let started = first.content.unwrap();
    assert!(pushed[0].body.starts_with(&started), "the same octets at every try");
    for (message, body) in pushed.iter().zip(&bodies).take(2) {
        assert_eq!(message.content_type, "message/cpim");
        assert!(
            message.body == as_cpim(body),
            "{}",
            String::from_utf8_lossy(&message.body[..400.min(message.body.len())])
        );
    }
    let empty = Cpim::of(&pushed[2]).unwrap();
    assert_eq!((empty.mime_header("Content-Type"), empty.content.len()), (Some("text/plain"), 0));
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_large_message_that_is_cpim_passes_untouched_and_by_what_is_inside() {
    let scene = Scene::new(DEFERD);
    let large = Large::open(alice(&scene), BOB);
    let mut own = asking("34jk324j", "display", "hello -------\r\n").replace("DateTime: ", "DateTime:  ").into_bytes();
    own.extend(octets(3 << 20, 5));
    let picture = String::from_utf8(own[..400.min(own.len())].iter().map(|_| b'x').collect()).unwrap();
    let picture = asking("35jk324j", "display", &picture).replace("text/plain", "image/png");
    for (id, body) in [("owncpim1", own.as_slice()), ("owncpim2", picture.as_bytes())] {
        let chunk = |from: usize| Chunk {
            content_type: "Message/CPIM; charset=\"utf-8\"",
            ..Chunk::of(id, body, from, (from + 60_000).min(body.len()))
        };
        let tids: Vec<String> = (0..body.len()).step_by(60_000).map(|from| large.chunk(&chunk(from))).collect();
        large.expect(tids.last().unwrap(), 200);
    }
    large.bye();
    // A client that takes text alone: what else is inside waits.
    let mut bob = scene.bob();
    let pushed = takes(&mut bob, &CPIM, 1);
    assert_eq!(pushed[0].content_type, "Message/CPIM");
    assert!(pushed[0].body == own);
    let said = why(&scene, BOB);
    assert_eq!((said["unaccepted"].as_u64(), said["large"].as_u64()), (Some(1), Some(1)), "{said}");
    let pushed = takes(&mut bob, &PICTURES, 1);
    assert!(pushed[0].body == picture.as_bytes());
    scene.nothing_waits(&mut bob);
}

//= RFC 4975 8.6: senders SHOULD NOT exceed the max-size limit for any message sent in the resulting session
#[test]
fn cpim_of_a_large_message_is_held_to_what_its_client_wants() {
    let scene = Scene::new(DEFERD);
    let large = Large::open_with(alice(&scene), BOB, dated);
    let body = octets(200_000, 3);
    picture(&large, "toolarge", &body);
    large.bye();
    let mut bob = scene.bob();
    let whole = as_cpim(&body).len() as u64;
    for max_size in [whole - 1, whole] {
        bob.publish_presence(true);
        let (call, msrp) = answers(&bob, |msrp| Answer { max_size: Some(max_size), ..PICTURES.answer(msrp) });
        if max_size == whole {
            assert!(msrp.expect_messages(1)[0].body == as_cpim(&body));
        }
        call.expect_bye();
        let waits = u64::from(max_size < whole);
        let said = why(&scene, BOB);
        assert_eq!((said["too_large"].as_u64(), said["messages"].as_u64()), (Some(waits), Some(waits)), "{said}");
    }
}

//= RFC 3325 9.3: Privacy id: the core cannot see an identity inside our payload, so it is taken out here
//= RFC 3325 9.1: the sender is who the network says it is, or nobody where it asked for that
#[test]
fn an_identity_that_is_private_is_in_no_form_of_a_large_message() {
    for types in [PICTURES, Takes("multipart/mixed", "*")] {
        let scene = Scene::new(DEFERD);
        // Neither her address nor the Contact of the test's client are what is asked about: only what the network says.
        let sender = scene.client(Transport::Tcp, ALICE, scene.daemon.sip());
        let large = Large::open_with(sender, BOB, |request| {
            let request = request.set("From", "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=19283");
            request.set("P-Asserted-Identity", format!("\"Alice\" <{ALICE}>, <tel:+15141234567>")).with("Privacy", "id")
        });
        let body = octets(100_000, 4);
        picture(&large, "guesswho", &body);
        large.bye();
        let message = takes(&mut scene.bob(), &types, 1).remove(0);
        assert!(find(&message.body, &body).is_some());
        names_nobody(&message.body);
        if types.0 == "message/cpim" {
            assert_eq!(Cpim::of(&message).unwrap().header("From"), Some("<sip:anonymous@anonymous.invalid>"));
        }
    }
}

//= RFC 4975 10.6: 415: the sender should not send any further messages with the same content-type in this session
#[test]
fn a_415_to_a_large_message_changes_its_form() {
    let scene = Scene::new(DEFERD);
    let large = Large::open_with(alice(&scene), BOB, dated);
    let bodies = [octets(500_000, 6), octets(400_000, 7)];
    picture(&large, "refused1", &bodies[0]);
    picture(&large, "refused2", &bodies[1]);
    large.bye();
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, frame| {
        let is_cpim = frame.header("Content-Type") == Some("message/cpim");
        vec![Reply::Status(if is_cpim { 200 } else { 415 })]
    });
    call.answer_with(&msrp, &Takes("multipart/mixed message/cpim", "*").answer(&msrp));
    call.expect_bye();
    let taken: Vec<_> = msrp.messages().into_iter().filter(|message| message.content_type == "message/cpim").collect();
    assert_eq!(taken.len(), 2);
    for (message, body) in taken.iter().zip(&bodies) {
        assert!(message.body == as_cpim(body));
    }
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_large_message_is_retrieved_in_the_form_that_its_client_takes() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "retrieved = \"retain\""));
    let large = Large::open_with(alice(&scene), BOB, dated);
    let body = octets(300_000, 8);
    picture(&large, "retrieve", &body);
    large.bye();
    let bob: Client = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    let request = selection::invite(&bob, &PICTURES.answer(&msrp).write());
    let ok = bob.exchange(&request);
    assert_eq!(ok.code(), 200, "{ok:?}");
    selection::ack(&bob, &request, &ok);
    msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
    assert!(msrp.expect_messages(1)[0].body == as_cpim(&body));
    selection::expect_bye(&bob, &request);
    // It is still what it was for a client of the other kind.
    let msrp = bob.msrp(Setup::Active);
    let request = selection::invite(&bob, &Answer::new(msrp.path(), Setup::Active).write());
    let ok = bob.exchange(&request);
    assert_eq!(ok.code(), 200, "{ok:?}");
    selection::ack(&bob, &request, &ok);
    msrp.connect(Sdp::read(&ok.body).unwrap().attribute("path").unwrap());
    assert!(taken_apart(&msrp.expect_messages(1)[0]).body == body);
    selection::expect_bye(&bob, &request);
}

/// The other form is not touched by any of this.
#[test]
fn a_client_that_takes_both_is_sent_what_is_stored() {
    let scene = Scene::new(DEFERD);
    let large = Large::open_with(alice(&scene), BOB, dated);
    let body = octets(300_000, 9);
    picture(&large, "asstored", &body);
    large.bye();
    let taken = push_brings(&mut scene.bob(), &[&body]);
    assert!(taken[0].mime.iter().any(|line| line == "Content-Description: -------x"), "{:?}", taken[0].mime);
}

//= 12.2.2.4: if the expired message is delivered, the IM Server MAY indicate that it has expired
#[test]
fn cpim_of_a_large_message_beyond_its_time_says_so() {
    let options = DaemonOptions::new(DEFERD).line("policy", "expired = \"deliver_marked\"");
    let scene = Scene::with(options.line("policy.expire", "default_large = \"1s\""));
    let large = Large::open_with(alice(&scene), BOB, dated);
    picture(&large, "expired1", &octets(100_000, 3));
    large.bye();
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let pushed = takes(&mut scene.bob(), &PICTURES, 1);
    let cpim = Cpim::of(&pushed[0]).unwrap();
    assert_eq!((cpim.mime_header("X-OMA-Expired"), cpim.content.len()), (Some("yes"), 100_000));
}
