//! The operator's HTTP as curl and a person's shell see it, served by a daemon that works.

use deferd_kit::{
    WAIT,
    daemon::DaemonOptions,
    large::Large,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::DEFERD;

/// What curl says: the status, and the body.
fn curl(to: SocketAddr, path: &str, more: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code} %{content_type}"])
        .args(more)
        .arg(format!("http://{to}{path}"))
        .output()
        .expect("curl runs; tools/test installs it");
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("curl said nothing but {said}"));
    (status.to_owned(), body.to_owned())
}

/// A metric of all cores together.
fn sum(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with("{core="));
    lines.map(|rest| rest.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// Asks until the metrics are as wanted; counts of a turn are published when it ends.
fn metrics_until(to: SocketAddr, wanted: &[(&str, u64)]) {
    let deadline = Instant::now() + WAIT;
    loop {
        let (status, metrics) = curl(to, "/metrics", &[]);
        assert_eq!(status, "200 application/openmetrics-text; version=1.0.0; charset=utf-8");
        let found: Vec<_> = wanted.iter().map(|(name, _)| (*name, sum(&metrics, name))).collect();
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "wanted {wanted:?}, found {found:?} in\n{metrics}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// The first core takes connections a moment before the last one does: only then is the daemon ready.
fn ready(http: SocketAddr) {
    let deadline = Instant::now() + WAIT;
    loop {
        let answer = curl(http, "/readyz", &[]);
        if answer == ("200 text/plain; charset=utf-8".into(), "ready\n".into()) {
            return;
        }
        assert_eq!(answer, ("503 text/plain; charset=utf-8".into(), "starting\n".into()));
        assert!(Instant::now() < deadline, "not ready after {WAIT:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn what_a_daemon_did_can_be_read_from_its_metrics() {
    let mut options = DaemonOptions::new(DEFERD);
    options.cores = 2;
    let scene = Scene::with(options);
    let http = scene.http();
    ready(http);

    let alice = scene.alice_tcp();
    let deposits = ["one", "two", "three"].map(|text| alice.message(BOB, text));
    alice.send_raw(b"this is not SIP\r\n\r\n");
    metrics_until(
        http,
        &[
            ("deferd_messages_accepted_total", 3),
            ("deferd_messages_delivered_total", 0),
            ("deferd_users_waiting", 1),
            ("deferd_sip_faults_total", 1),
            ("deferd_log_poisoned", 0),
        ],
    );
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
    metrics_until(
        http,
        &[
            ("deferd_messages_accepted_total", 3),
            ("deferd_messages_delivered_total", 3),
            ("deferd_pushes_started_total", 1),
            ("deferd_pushes_completed_total", 1),
            ("deferd_pushes_running", 0),
            ("deferd_users_waiting", 0),
        ],
    );
    let (status, page) = curl(http, "/", &[]);
    assert_eq!(status, "200 text/html; charset=utf-8");
    assert!(page.contains("mailserver.example.org") && page.contains("core 1") && page.contains(">ready<"), "{page}");
}

/// A document of the deferred messages, and one node of it, as whoever has curl reads them.
//= 12.2.2.8: shall update the metadata XML document with a new <history> element
#[test]
fn a_large_message_is_listed() {
    let scene = Scene::new(DEFERD);
    let sender = scene.client(Transport::Tcp, ALICE, scene.daemon.sip());
    let large = Large::open_with(sender, BOB, |request| {
        request.with("Subject", "holidays & <more>").with("Date", "Sun, 09 Jul 2000 21:25:12 GMT")
    });
    let body = vec![b'x'; 3 << 20];
    large.deposit("listed01", &body, 60_000);
    large.deposit("listed02", b"short", 60_000);
    large.bye();
    scene.alice().message(BOB, "a pager message");
    let document = "/xcap-root/org.openmobilealliance.deferred-list/users/sip:bob@example.org/deferred-list";
    let own = ["--header", "X-3GPP-Asserted-Identity: \"sip:bob@example.org\"", "--globoff"];
    let (status, text) = curl(scene.http(), document, &own);
    assert_eq!(status, "200 application/vnd.oma.im.deferred-list+xml");
    assert_eq!(text.matches("<history>").count(), 3, "{text}");
    assert!(text.contains("<size>3145728</size>") && text.contains("<size>5</size>"), "{text}");
    let node = |path: &str| curl(scene.http(), &format!("{document}/~~/history-list/history[1]/{path}"), &own);
    let (status, subject) = node("subject");
    assert_eq!(status, "200 application/xcap-el+xml");
    assert!(subject.contains("holidays &amp; &lt;more&gt;"), "{subject}");
    assert!(node("date").1.contains("2000-07-09T21:25:12Z"));
    assert!(node("pager/from").1.contains("sip:alice@example.org"));
    let other = ["--header", "X-3GPP-Asserted-Identity: \"sip:carol@example.org\""];
    assert!(curl(scene.http(), document, &other).0.starts_with("403 "));
    // What was delivered is listed no more.
    let mut bob = scene.bob();
    bob.publish_presence(true);
    assert_eq!(bob.take_push(3).len(), 3);
    let deadline = Instant::now() + WAIT;
    while curl(scene.http(), document, &own).1.contains("<history>") {
        assert!(Instant::now() < deadline, "still listed");
        thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn idle_cores_are_well_and_other_methods_are_refused() {
    let scene = Scene::new(DEFERD);
    let http = scene.http();
    ready(http);
    // Longer than a core may rest without being taken for dead.
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        assert_eq!(curl(http, "/healthz", &[]).1, "ok: ready\n");
        thread::park_timeout(Duration::from_millis(500));
    }
    assert!(curl(http, "/metrics", &["--data", "x"]).0.starts_with("405 "));
    assert!(curl(http, "/unknown", &[]).0.starts_with("404 "));
    assert!(curl(http, "/", &["--head"]).0.starts_with("200 "));
}

#[test]
fn http_can_be_switched_off() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("http", "listen = \"\""));
    assert!(TcpStream::connect(scene.http()).is_err());
    let deadline = Instant::now() + WAIT;
    while !scene.stderr().contains("http=off") {
        assert!(Instant::now() < deadline, "{}", scene.stderr());
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn an_occupied_http_address_ends_the_daemon_with_two() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let home = std::env::temp_dir().join(format!("deferd-http-{}", deferd_kit::unique()));
    std::fs::create_dir_all(&home).unwrap();
    let config = home.join("deferd.toml");
    let text = format!(
        "[server]\nhostname = \"h.example.org\"\ndomains = [\"example.org\"]\ndata_dir = {home:?}\ncores = 1\n\
         [sip]\nlisten = [\"tcp:127.0.0.1:0\"]\n[msrp]\nlisten = [\"127.0.0.1:0\"]\n[http]\nlisten = \"{addr}\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(DEFERD).args(["run", "--config"]).arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("cannot listen on tcp:{addr}: another process has this port")), "{said}");
    std::fs::remove_dir_all(&home).ok();
}
