//! What is reserved is given back, however a deposit ends: what a domain is said to have is what lies there, and nothing in the end.

use crate::{
    DEFERD,
    deferctl::{CAROL, said},
    disk::Tmpfs,
    kill_nine::{drained, hardy},
};
use deferd_kit::{
    chance::Chance,
    daemon::{Daemon, DaemonOptions},
    ledger::Ledger,
    load::{Load, LoadOptions},
    peer::Transport,
    phone::{Mood, Phone, Weather},
    scene::{BOB, Scene},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// One number of a scrape, by all of its name but the value.
pub(crate) fn metric(http: SocketAddr, name: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(http).expect("the daemon serves /metrics");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

const MESSAGES: &str = "deferd_domain_messages{domain=\"example.org\"}";
const OCTETS: &str = "deferd_domain_bytes{domain=\"example.org\"}";

/// Many deposits at once on a disk that becomes full again and again: some are durable, some fail in the middle of a commit, some
/// are refused before. Then everything is delivered.
#[test]
fn reservations_come_to_nothing_on_a_disk_that_fills() {
    let Some(disk) = Tmpfs::mount("size=10m") else { return };
    let seed = Chance::seed("DEFERD_SEED");
    println!("DEFERD_SEED={seed:#x}");
    let mut chance = Chance::new(seed);
    // Steady from the start: a phone that begins when it is off goes home.
    let (ledger, weather) = (Ledger::new(), Weather::new(Mood::Steady));
    let mut options = hardy(2);
    options.data_dir = Some(disk.path().to_path_buf());
    let mut daemon = Daemon::start(options);
    let users: Vec<String> = ["bob", "carol", "dave", "erin", "frank"].map(|u| format!("sip:{u}@example.org")).into();
    let options =
        LoadOptions { to: daemon.sip(), users: users.clone(), tcp: 4, udp: 0, pipelined: 24, body_max: 30_000 };
    let load = Load::start(&ledger, &options, &mut chance);
    load.grant(4_000);
    load.finish();
    let refused = metric(daemon.http(), "deferd_disk_full{core=\"0\"}").is_some_and(|full| full == 1);
    assert!(refused || metric(daemon.http(), "deferd_disk_full{core=\"1\"}") == Some(1), "10 MiB held 4,000 messages");
    assert!(metric(daemon.http(), MESSAGES) > Some(0) && metric(daemon.http(), OCTETS) > Some(0));
    let status = std::process::Command::new(crate::deferctl::DEFERCTL)
        .arg("--config")
        .arg(daemon.config())
        .arg("status")
        .output()
        .expect("deferctl runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("trouble: core") && status.contains("the disk is full"), "{status}");
    let phone = |user: &String| Phone::start(&ledger, &weather, Transport::Tcp, user, daemon.sip(), Chance::new(seed));
    let phones: Vec<Phone> = users.iter().map(phone).collect();
    drained(&ledger, &weather, phones, &mut daemon, seed);
    let http = daemon.http();
    crate::until("an empty domain", || metric(http, MESSAGES) == Some(0) && metric(http, OCTETS) == Some(0));
    crate::until("no user", || metric(http, "deferd_users") == Some(0));
}

#[test]
fn who_is_over_a_quota_is_counted_and_domains_are_told_apart() {
    let options = DaemonOptions::new(DEFERD)
        .line("server", "domains = [\"example.org\", \"example.net\"]")
        .line("policy.quota", "messages = 2")
        .line("policy.quota.domain", "messages = 3");
    let scene = Scene::with(options);
    let (alice, http) = (scene.alice_tcp(), scene.http());
    (0..2).for_each(|_| drop(alice.message(BOB, "x")));
    assert_eq!(alice.exchange(alice.text(BOB, "over his own")).response.code(), 480);
    alice.message(CAROL, "x");
    let refusal = alice.exchange(alice.text(CAROL, "over the domain's")).response;
    assert_eq!((refusal.code(), refusal.header("Retry-After").is_some()), (480, true));
    alice.message("sip:dave@example.net", "x");
    crate::until("the counts", || metric(http, "deferd_deposits_over_domain_quota_total{core=\"0\"}") == Some(1));
    assert_eq!(metric(http, "deferd_deposits_over_quota_total{core=\"0\"}"), Some(1));
    assert_eq!(
        (metric(http, MESSAGES), metric(http, "deferd_domain_messages{domain=\"example.net\"}")),
        (Some(3), Some(1))
    );
    assert_eq!(metric(http, "deferd_users"), Some(3));
    assert!(metric(http, "deferd_data_dir_free_bytes") > Some(0));
    let status = said(&scene, &["status"]);
    assert_eq!((status["users"].as_u64(), status["takes_deposits"].as_bool()), (Some(3), Some(true)));
    assert_eq!(status["domains"][1]["messages"].as_u64(), Some(3), "{status}");
    let entry = said(&scene, &["queue", CAROL])["entries"][0]["id"].as_str().expect("an id").to_owned();
    said(&scene, &["delete", &entry]);
    crate::until("one less", || metric(http, MESSAGES) == Some(2));
}
