//! 12.2.2.5 for every client: the form that each one takes, octet for octet, and what becomes of what it does not take.

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use deferd_kit::{
    agents::Client,
    call::Call,
    cpim::Cpim,
    daemon::DaemonOptions,
    msrp::MsrpMessage,
    msrp_client::{MsrpClient, Reply},
    payload,
    scene::{ALICE, BOB, Scene},
    sdp::{Answer, Setup},
    sip::SipMessage,
};
use serde_json::Value;

use crate::{
    DEFERD,
    selection::{ack, asking, expect_bye, invite},
};

/// A client that accepts these types, and these when they are wrapped.
pub(crate) struct Takes(pub(crate) &'static str, pub(crate) &'static str);

/// One that knows nothing but CPIM.
pub(crate) const CPIM: Takes = Takes("message/cpim", "text/plain message/imdn+xml");

impl Takes {
    pub(crate) fn answer(&self, msrp: &MsrpClient) -> Answer {
        let wrapped_types = Some(self.1.to_string()).filter(|types| !types.is_empty());
        Answer { accept_types: self.0.into(), wrapped_types, ..Answer::new(msrp.path(), Setup::Active) }
    }
}

/// Bob answers the next INVITE like this and is in the middle of a session.
#[track_caller]
pub(crate) fn answers(bob: &Client, answer: impl Fn(&MsrpClient) -> Answer) -> (Call, MsrpClient) {
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    call.answer_with(&msrp, &answer(&msrp));
    (call, msrp)
}

/// Bob comes online with such a client and takes all that it is given: so many messages.
#[track_caller]
pub(crate) fn takes(bob: &mut Client, types: &Takes, count: usize) -> Vec<MsrpMessage> {
    bob.publish_presence(true);
    let (call, msrp) = answers(bob, |msrp| types.answer(msrp));
    msrp.expect_messages(count);
    call.expect_bye();
    msrp.judge();
    let messages = msrp.messages();
    assert_eq!(messages.len(), count);
    messages
}

/// What `deferctl why` says.
#[track_caller]
pub(crate) fn why(scene: &Scene, about: &str) -> Value {
    let config = scene.daemon.config();
    let mut tool = Command::new(env!("CARGO_BIN_EXE_deferctl"));
    let output = tool.arg("--config").arg(config).args(["why", about, "--json"]).output().expect("deferctl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn scene(section: &str, line: &str) -> Scene {
    Scene::with(DaemonOptions::new(DEFERD).line(section, line))
}

fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's days to civil.
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

//= RFC 3862 2: a message consists of message metadata headers, a blank line, and the encapsulated MIME message content
#[test]
fn a_client_of_cpim_is_sent_cpim_made_of_the_message() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let full = alice
        .text(BOB, "Watson, come here. \u{20ac}")
        .set("P-Asserted-Identity", format!("<{ALICE}>, <tel:+15141234567>"))
        .with("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .with("Subject", "carpool\r\n tomorrow\\")
        .with("Content-Language", "en")
        .with("Content-Disposition", "render;handling=optional");
    alice.deposit(full);
    let before = SystemTime::now();
    alice.deposit(alice.request("MESSAGE", BOB));
    let pushed = takes(&mut scene.bob(), &CPIM, 2);
    let expected = format!(
        "From: <{ALICE}>\r\nTo: <{BOB}>\r\nDateTime: 1994-11-06T08:49:37Z\r\nSubject: carpool tomorrow\\\\\r\n\r\n\
         Content-Type: text/plain\r\nContent-Language: en\r\nContent-Disposition: render;handling=optional\r\n\
         Content-Length: 22\r\n\r\nWatson, come here. \u{20ac}"
    );
    assert_eq!(String::from_utf8_lossy(&pushed[0].body), expected);
    assert_eq!(Cpim::of(&pushed[0]).unwrap().content, "Watson, come here. \u{20ac}".as_bytes());
    // The other has nothing in it and no Date: the time at which the server received it.
    let empty = Cpim::of(&pushed[1]).unwrap();
    assert_eq!((empty.mime_header("Content-Type"), &empty.content[..]), (Some("text/plain"), &b""[..]));
    let since = before.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let times: Vec<String> = (since..since + 20).map(utc).collect();
    assert!(times.iter().any(|time| empty.header("DateTime") == Some(time)), "{:?}", empty.headers);
}

#[test]
fn what_is_cpim_already_passes_untouched() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    // Neither our way of writing it nor quite that of the RFC: nobody touches it.
    let own = asking("34jk324j", "negative-delivery", "hello -------\r\n").replace("DateTime: ", "DateTime:  ");
    alice.deposit(alice.text(BOB, "").with_body("Message/CPIM; charset=\"utf-8\"", own.as_bytes()));
    let pushed = takes(&mut scene.bob(), &CPIM, 1);
    assert_eq!(String::from_utf8_lossy(&pushed[0].body), own);
    assert_eq!(pushed[0].content_type, "Message/CPIM");
}

#[test]
fn a_client_without_multipart_is_sent_the_request_alone() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "Watson, come here.");
    let pushed = takes(&mut scene.bob(), &Takes("message/sip", "text/plain"), 1);
    assert_eq!(pushed[0].content_type, "message/sip");
    is_bare(&pushed[0], &deposit);
}

/// The same request as it would have been in its multipart, alone.
#[track_caller]
fn is_bare(message: &MsrpMessage, deposit: &SipMessage) {
    let boundary = "b0";
    let mut around = format!("--{boundary}\r\nContent-Type: {}\r\n\r\n", message.content_type).into_bytes();
    around.extend_from_slice(&message.body);
    around.extend_from_slice(format!("\r\n--{boundary}--").as_bytes());
    let content_type = format!("multipart/mixed;boundary={boundary}");
    let around = MsrpMessage { content_type, body: around, ..message.clone() };
    payload::pager_is(&around, deposit).unwrap();
}

//= RFC 4975 8.6: MUST NOT send a type that the peer has not signalled in accept-types or accept-wrapped-types
#[test]
fn each_client_gets_the_form_that_it_takes() {
    let scene = scene("policy", "after_push = \"retain\"\nretrieved = \"retain\"");
    let alice = scene.alice();
    for (types, wrapped, expected) in [
        ("*", "", "multipart/mixed"),
        ("multipart/mixed", "message/sip message/sipfrag", "multipart/mixed"),
        ("Multipart/*;level=1 text/plain", "Message/*", "multipart/mixed"),
        ("multipart/mixed message/cpim", "text/plain", "message/cpim"),
        ("MESSAGE/CPIM;x=y", "text/*", "message/cpim"),
        ("message/cpim text/plain", "", "message/cpim"),
        ("message/sip message/cpim", "*", "message/sip"),
    ] {
        let deposit = alice.message(BOB, types);
        let pushed = takes(&mut scene.bob(), &Takes(types, wrapped), 1);
        let media = pushed[0].content_type.split(';').next().unwrap_or_default();
        assert_eq!(media, expected, "{types:?} {wrapped:?}");
        match media {
            "message/cpim" => assert_eq!(Cpim::of(&pushed[0]).unwrap().content, deposit.body),
            "message/sip" => is_bare(&pushed[0], &deposit),
            _ => drop(scene.same(&pushed, &[deposit])),
        }
    }
}

#[test]
fn a_client_of_rcs_is_sent_cpim_whatever_else_it_takes() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.contact += ";+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.session\"";
    bob.publish_presence(true);
    let pushed = bob.take_push(1);
    assert_eq!(Cpim::of(&pushed[0]).unwrap().content, b"hello");
}

#[test]
fn the_operator_chooses_what_is_offered_and_sent() {
    for (line, offered, sent) in [
        ("payload = \"cpim\"", "message/cpim", "message/cpim"),
        ("payload = \"oma\"", "multipart/mixed message/sip message/sipfrag", "multipart/mixed"),
        ("pager_bare = true", "multipart/mixed message/cpim message/sip message/sipfrag", "message/sip"),
    ] {
        let scene = scene("policy.push", line);
        scene.alice().message(BOB, "hello");
        let mut bob = scene.bob();
        bob.publish_presence(true);
        let (call, msrp) = answers(&bob, |msrp| Answer::new(msrp.path(), Setup::Active));
        assert_eq!(call.offer().attribute("accept-types"), Some(offered));
        assert_eq!(msrp.expect_messages(1)[0].content_type.split(';').next(), Some(sent), "{line}");
        call.expect_bye();
    }
}

#[test]
fn what_a_client_does_not_take_waits_for_another() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let image = alice.deposit(alice.request("MESSAGE", BOB).with_body("image/png", "\u{89}PNG"));
    let text = alice.message(BOB, "text");
    let mut bob = scene.bob();
    let pushed = takes(&mut bob, &CPIM, 1);
    assert_eq!(Cpim::of(&pushed[0]).unwrap().content, text.body);
    assert!(
        bob.invite_within(Duration::from_millis(300)).is_none(),
        "what was passed over is no reason for another push"
    );
    let said = why(&scene, BOB);
    assert_eq!(
        (said["unaccepted"].as_u64(), said["too_large"].as_u64(), said["messages"].as_u64()),
        (Some(1), Some(0), Some(1)),
        "{said}"
    );
    scene.push_brings(&mut bob, &[image]);
}

//= RFC 4975 8.6: senders SHOULD NOT exceed the max-size limit for any message sent in the resulting session
#[test]
fn what_is_larger_than_a_client_wants_waits_for_another() {
    for attribute in ["max-size", "maxsize"] {
        let scene = Scene::new(DEFERD);
        let alice = scene.alice_tcp();
        let large = alice.message(BOB, &"x".repeat(3_000));
        let small = alice.message(BOB, "small");
        let mut bob = scene.bob();
        bob.publish_presence(true);
        let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
        let answer = Answer { max_size: Some(2_000), ..Answer::new(msrp.path(), Setup::Active) };
        let sdp = String::from_utf8(answer.write()).unwrap().replace("max-size", attribute);
        call.send(&call.accept_with(sdp.as_bytes()));
        call.expect_ack();
        msrp.connect(&call.offered_path());
        scene.same(&msrp.expect_messages(1), &[small]);
        call.expect_bye();
        assert_eq!(msrp.frames().iter().filter(|frame| frame.content.is_some()).count(), 1, "nothing of the large one");
        let said = why(&scene, BOB);
        assert_eq!((said["too_large"].as_u64(), said["to_be_pushed"].as_bool()), (Some(1), Some(true)), "{said}");
        scene.push_brings(&mut bob, &[large]);
    }
}

#[test]
fn an_offer_that_is_refused_is_made_once_more_with_cpim_alone() {
    for status in [415, 488, 606] {
        let scene = Scene::new(DEFERD);
        scene.alice().message(BOB, "hello");
        let mut bob = scene.bob();
        bob.publish_presence(true);
        let first = bob.expect_invite();
        first.refuse(&first.response(status, "No"));
        let (second, msrp) = answers(&bob, |msrp| Takes("*", "*").answer(msrp));
        assert_eq!(second.request().call_id(), first.request().call_id());
        assert_eq!(second.request().cseq(), first.request().cseq() + 1);
        assert_eq!(second.offer().attribute("accept-types"), Some("message/cpim"));
        let pushed = msrp.expect_messages(1);
        assert_eq!(Cpim::of(&pushed[0]).unwrap().content, b"hello", "what was offered and no more");
        second.expect_bye();
        scene.nothing_waits(&mut bob);
    }
}

#[test]
fn a_client_that_refuses_both_is_left_alone_until_it_publishes_anew() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    for _ in 0..2 {
        let call = bob.expect_invite();
        call.refuse(&call.response(488, "Not Acceptable Here"));
    }
    bob.refresh("presence");
    assert!(bob.invite_within(Duration::from_millis(500)).is_none(), "a refresh changes nothing about what it takes");
    scene.push_brings(&mut bob, &[deposit]);
}

#[test]
fn a_client_that_takes_nothing_we_have_is_hung_up_on() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let call = bob.expect_invite();
    let answer = Answer {
        accept_types: "text/plain".into(),
        ..Answer::new("msrp://127.0.0.1:9/neverconnects01;tcp", Setup::Active)
    };
    call.send(&call.accept_with(&answer.write()));
    call.expect_ack();
    call.expect_bye();
    bob.refresh("presence");
    assert!(bob.invite_within(Duration::from_millis(500)).is_none());
    scene.push_brings(&mut bob, &[deposit]);
}

//= RFC 4975 10.6: 415: the sender should not send any further messages with the same content-type in this session
#[test]
fn a_415_changes_the_form_within_the_session() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let deposits: Vec<_> = (0..12).map(|number| alice.message(BOB, &format!("message {number}"))).collect();
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    // Says that it takes all, and takes CPIM only.
    msrp.set_policy(|_, frame| {
        let is_cpim = frame.header("Content-Type") == Some("message/cpim");
        vec![Reply::Status(if is_cpim { 200 } else { 415 })]
    });
    let types = Takes("multipart/mixed message/cpim", "*");
    call.answer_with(&msrp, &types.answer(&msrp));
    call.expect_bye();
    let taken = msrp.messages().into_iter().filter(|message| message.content_type == "message/cpim");
    let bodies: Vec<Vec<u8>> = taken.map(|message| Cpim::of(&message).unwrap().content).collect();
    let expected: Vec<Vec<u8>> = deposits.iter().map(|deposit| deposit.body.clone()).collect();
    assert_eq!(bodies, expected, "each once and in order");
    let refused = msrp
        .frames()
        .iter()
        .filter(|frame| frame.header("Content-Type").is_some_and(|of| of.starts_with("multipart")))
        .count();
    assert!(refused <= 4, "{refused} were sent in the refused form: the first window and no more");
    scene.nothing_waits(&mut bob);
}

#[test]
fn a_415_to_the_only_form_ends_the_session_and_loses_nothing() {
    let scene = Scene::new(DEFERD);
    let deposits: Vec<_> = ["one", "two"].map(|text| scene.alice().message(BOB, text)).to_vec();
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Status(415)]);
    call.answer_with(&msrp, &Takes("multipart/mixed", "*").answer(&msrp));
    msrp.expect_sends(1);
    call.expect_bye();
    scene.push_brings(&mut bob, &deposits);
}

//= RFC 4975 5.4: the Message-ID values for the resent messages MUST match those used in the initial attempts
#[test]
fn a_restart_between_two_tries_changes_no_octet() {
    let mut scene = Scene::new(DEFERD);
    let alice = scene.alice();
    alice.deposit(alice.text(BOB, "with a subject").with("Subject", "s"));
    alice.deposit(alice.text(BOB, "").with_body("message/cpim", asking("7", "display", "own")));
    alice.message(BOB, "no date");
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer_with(&msrp, &CPIM.answer(&msrp));
    let first = msrp.expect_messages(3);
    scene.kill9();
    scene.restart(2);
    let second = takes(&mut scene.bob(), &CPIM, 3);
    for (before, after) in first.iter().zip(&second) {
        assert_eq!((&before.message_id, &before.body), (&after.message_id, &after.body));
        assert_eq!(before.content_type, after.content_type);
    }
}

#[test]
fn what_is_retrieved_takes_the_same_forms() {
    let scene = Scene::new(DEFERD);
    let deposit = scene.alice().message(BOB, "hello");
    let bob = scene.bob();
    let msrp = bob.msrp(Setup::Active);
    let request = invite(&bob, &CPIM.answer(&msrp).write());
    let ok = bob.exchange(&request);
    assert_eq!(ok.code(), 200);
    ack(&bob, &request, &ok);
    let sdp = deferd_kit::sdp::Sdp::read(&ok.body).unwrap();
    msrp.connect(sdp.attribute("path").unwrap());
    let messages = msrp.expect_messages(1);
    assert_eq!(Cpim::of(&messages[0]).unwrap().content, deposit.body);
    expect_bye(&bob, &request);
}

//= 12.2.2.4: if the expired message is delivered, the IM Server MAY indicate that it has expired
#[test]
fn cpim_of_a_message_beyond_its_time_says_so() {
    let scene = scene("policy", "expired = \"deliver_marked\"");
    let alice = scene.alice();
    alice.deposit(alice.text(BOB, "over").with("Expires", "1"));
    std::thread::sleep(Duration::from_millis(2_100));
    let pushed = takes(&mut scene.bob(), &CPIM, 1);
    assert_eq!(Cpim::of(&pushed[0]).unwrap().mime_header("X-OMA-Expired"), Some("yes"));
}
