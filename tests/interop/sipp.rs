//! sipp plays the SIP/IP core: it deposits, publishes and answers the push. Its exit code is the verdict: 0 says that every
//! call went exactly as the scenario file demands.

use std::{
    io::Read,
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use deferd_kit::{
    WAIT,
    agents::Sender,
    daemon::DaemonOptions,
    log::Log,
    msrp_client::MsrpClient,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
};

use super::DEFERD;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn scenario(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/sipp").join(name)
}

/// A sipp process with one scenario. Ends with the test.
pub(crate) struct Sipp {
    child: Option<Child>,
    home: PathBuf,
    name: String,
}

impl Sipp {
    pub(crate) fn start(name: &str, port: u16, arguments: &[&str]) -> Sipp {
        let home = std::env::temp_dir().join(format!("deferd-kit-sipp-{}", deferd_kit::unique()));
        std::fs::create_dir_all(&home).expect("a temporary directory");
        let child = Command::new("sipp")
            .args(["-sf", scenario(name).to_str().unwrap(), "-i", "127.0.0.1", "-p", &port.to_string(), "-nostdin"])
            .args(["-timeout", "20s", "-timeout_error", "-trace_err", "-error_file", "errors.log"])
            .args(["-trace_msg", "-message_file", "messages.log"])
            .args(arguments)
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("sipp does not start: {error}; apt-get install sip-tester"));
        Sipp { child: Some(child), home, name: name.into() }
    }

    /// Waits for its end and insists on exit code 0.
    #[track_caller]
    pub(crate) fn succeeds(mut self) {
        let deadline = Instant::now() + WAIT + Duration::from_secs(5);
        let mut child = self.child.take().unwrap();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => thread::park_timeout(Duration::from_millis(20)),
            }
        };
        if status.is_some_and(|status| status.success()) {
            return;
        }
        child.kill().ok();
        let mut said = String::new();
        child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut said));
        let log = |name: &str| std::fs::read_to_string(self.home.join(name)).unwrap_or_default();
        panic!("sipp {} ended with {status:?}\n{said}\n{}\n{}", self.name, log("errors.log"), log("messages.log"));
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        std::fs::remove_dir_all(&self.home).ok();
    }
}

/// A port that is free at this moment for UDP and TCP, below those that the kernel gives to outgoing connections and out of
/// the way of the daemons' blocks.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    (0..1000)
        .map(|_| NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|number| 5_000 + ((std::process::id() as u16).wrapping_mul(37).wrapping_add(number)) % 5_000)
        .find(|&port| UdpSocket::bind((HOME, port)).is_ok() && TcpListener::bind((HOME, port)).is_ok())
        .expect("a free port")
}

/// Runs a client scenario against a server scenario.
pub(crate) fn against_itself(client: &str, server: &str, calls: u32) {
    let (at, from, calls) = (free_port(), free_port(), calls.to_string());
    let server = Sipp::start(server, at, &["-m", &calls]);
    // Unanswered requests are repeated (T1), so the client may be first.
    let client = Sipp::start(client, from, &[&format!("127.0.0.1:{at}"), "-s", "bob", "-m", &calls, "-r", "200"]);
    client.succeeds();
    server.succeeds();
}

//= 12.2.2.3-1: store the complete message
#[test]
fn sipp_deposits_a_hundred_messages_over_udp_and_tcp() {
    for transport in ["u1", "t1"] {
        let scene = Scene::new(DEFERD);
        let daemon = scene.sip().to_string();
        Sipp::start("deposit.xml", free_port(), &[&daemon, "-t", transport, "-s", "bob", "-m", "100", "-r", "500"])
            .succeeds();
        let mut bob = scene.bob();
        bob.publish_presence(true);
        let pushed = bob.take_push(100);
        for message in &pushed {
            deferd_kit::payload::pager(message).unwrap();
        }
    }
}

//= RFC 3903 6: PUBLISH is answered 200 with Expires and SIP-ETag, refreshed by If-Match, refused 412 for an unknown tag
#[test]
fn sipp_publishes_refreshes_and_removes() {
    for transport in ["u1", "t1"] {
        let scene = Scene::new(DEFERD);
        let daemon = scene.sip().to_string();
        Sipp::start("publish.xml", free_port(), &[&daemon, "-t", transport, "-s", "bob", "-m", "1"]).succeeds();
    }
}

//= TS 24.229 5.4.1.7: a third-party REGISTER is answered 200 with the same Expires, and an Expires of 0 ends it
#[test]
fn sipp_registers_a_user_as_a_core_does() {
    for transport in ["u1", "t1"] {
        let scene = Scene::new(DEFERD);
        let daemon = scene.sip().to_string();
        Sipp::start("register.xml", free_port(), &[&daemon, "-t", transport, "-s", "bob", "-m", "1"]).succeeds();
    }
}

/// The whole push with sipp as core and client for SIP, and the kit's MSRP endpoint as the address in sipp's answer.
//= 12.2.2.2-1: generate an initial SIP INVITE
//= 12.2.2.5: after sending all the deferred messages, send a SIP BYE
#[test]
fn sipp_answers_a_push() {
    answers("answer_push.xml");
}

//= RFC 3262 4: a provisional response with Require: 100rel MUST be acknowledged with a PRACK within its dialog
//= RFC 3262 5: a description in a reliable provisional response to an INVITE with an offer is the answer
#[test]
fn sipp_rings_reliably_and_answers_while_it_rings() {
    answers("answer_reliably.xml");
}

fn answers(scenario: &str) {
    let core = free_port();
    let mut options = DaemonOptions::new(DEFERD);
    options.outbound_proxy = Some(format!("udp:127.0.0.1:{core}"));
    let scene = Scene::with(options);
    let media = MsrpClient::passive(&Log::new(), "bob (msrp)", HOME);
    let (authority, session) = media.path().strip_prefix("msrp://").unwrap().split_once('/').unwrap();
    let port = authority.rsplit_once(':').unwrap().1;
    let session = session.strip_suffix(";tcp").unwrap();
    let alice = Sender::new(&scene.log, Transport::Udp, ALICE, scene.sip());
    let deposits: Vec<_> = (0..10).map(|number| alice.message(BOB, &format!("message {number}"))).collect();
    let client = Sipp::start(scenario, core, &["-m", "1", "-key", "msrp_port", port, "-key", "msrp_session", session]);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let pushed = media.expect_messages(deposits.len());
    client.succeeds();
    media.judge();
    scene.same(&pushed, &deposits);
}
