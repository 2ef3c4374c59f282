//! Tests of the configuration: every key once, and a table of bad files with the lines that are to be reported.

use super::*;
use crate::deferred::identity::Address;

const LEAST: &str = "[server]\nhostname = \"Im.Example.org\"\ndomains = [\"Example.org\"]\n";

const FULL: &str = r#"
[server]
hostname = "mailserver.example.org"
domains  = ["example.org", "example.net"]
data_dir = "/srv/deferd"
cores    = 3
stop_timeout   = "7s"
control_socket = "/run/deferd.sock"
[sip]
listen         = ["udp:0.0.0.0:5070", "tcp:[::1]:5071"]
advertise      = "im.example.org:5070"
outbound_proxy = "udp:127.0.0.1:5090"
trusted        = ["10.0.0.0/8"]
[msrp]
listen          = ["127.0.0.1:2900"]
advertise       = "msrp.example.org"
connect_allow   = ["192.0.2.0/24"]
bind_source     = false
chunk_max       = "4KiB"
window_messages = 12
window_octets   = "128KiB"
bind_timeout    = "11s"
tx_timeout      = "12s"
[http]
listen  = "127.0.0.1:8081"
trusted = ["192.0.2.1"]
[xdms]
mode = "external"
root = "http://xdms.example.org:8090/xcap-root/"
max_messages = 900
connections = 3
rate = 40
timeout = "4s"
[policy]
release_version = "OMA2.0"
offline_delivery = false
push_min_interval = "6s"
after_push = "retain"
retrieved  = "delete"
expired    = "deliver_marked"
bin_retention = "1d"
reg_push_delay = "9s"
user_delete = false
report_user_delete = false
orig_ioi = "Home1.example.net"
aliases = ["tel:+1-514-1234567 = sip:bob@example.org", "tel:+15550001=sip:carol@Example.net:5070"]
not_deferred = ["tel:+15141234567"]
processing_imdn = false
legacy_s0_retrieval = true
max_message_size = "1MiB"
date_skew = "1m"
report_wait = "2s"
session_expires = "20m"
min_se = "100s"
[policy.push]
invite_expires = "61s"
[policy.expire]
max = "10d"
default_pager = "3d"
default_large = "2d"
[policy.quota]
messages = 77
octets = "3MiB"
policy = "drop_oldest"
[policy.quota.domain]
messages = 7700
octets = "30MiB"
[policy.publish]
min_expires = "2m"
default_expires = "30m"
max_expires = "2h"
[policy.settings]
events = ["e"]
types = ["t/u"]
memory = "1h"
[policy.summary]
headers = ["Subject", "X-Own"]
class_pager = "pager-message"
class_large = "Multimedia-Message"
min_expires = "2m"
default_expires = "30m"
max_expires = "2h"
[limits]
users = 101
connections = 102
transactions = 103
sessions = 104
large_sessions = 108
subscriptions = 109
dedupe_entries = 105
letters = 106
sip_head_octets = "2KiB"
sip_headers = 107
sip_body_octets = "3KiB"
msrp_head_octets = "4KiB"
segment_octets = "2MiB"
commit_octets = "5MiB"
send_octets = "6KiB"
backlog_octets = 7000
"#;

#[test]
fn only_names_have_no_default() {
    let config = Config::parse(LEAST).unwrap();
    assert_eq!(config.policy.hostname, "im.example.org");
    assert_eq!(config.policy.domains, ["example.org"]);
    assert_eq!(config.server.data_dir, PathBuf::from("/var/lib/deferd"));
    assert_eq!(config.server.control_socket, PathBuf::from("/var/lib/deferd/control.sock"));
    assert_eq!(config.server.stop_timeout, Duration::from_secs(5));
    assert_eq!(config.sip.listen.len(), 2);
    assert_eq!(config.sip.listen[0].transport, Transport::Udp);
    assert_eq!(config.sip.trusted.len(), 2);
    assert_eq!(config.msrp.connect_allow.len(), 7);
    assert_eq!((config.msrp.chunk_max, config.msrp.window_octets), (8192, 1 << 20));
    assert_eq!(config.http.listen, Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.limits, Limits::default());
    let off = format!("{LEAST}[http]\nlisten = \"\"\n");
    assert_eq!(Config::parse(&off).map(|config| config.http.listen), Ok(None));
    assert_eq!(format!("{:?}", config.policy), format!("{:?}", Policy::new("im.example.org", &["example.org"])));
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(FULL).unwrap_or_else(|problems| panic!("{problems:?}"));
    let secs = Duration::from_secs;
    assert_eq!((config.server.cores, config.server.stop_timeout), (3, secs(7)));
    assert_eq!(config.server.data_dir, PathBuf::from("/srv/deferd"));
    assert_eq!(config.server.control_socket, PathBuf::from("/run/deferd.sock"));
    assert_eq!(config.sip.advertise.as_deref(), Some("im.example.org:5070"));
    assert!(config.sip.outbound_proxy.is_some_and(|to| to.addr.port() == 5090));
    assert_eq!(config.msrp.advertise.as_deref(), Some("msrp.example.org"));
    assert!(!config.msrp.bind_source);
    assert_eq!((config.msrp.chunk_max, config.msrp.window_messages, config.msrp.window_octets), (4096, 12, 131_072));
    assert_eq!((config.msrp.bind_timeout, config.msrp.tx_timeout), (secs(11), secs(12)));
    assert_eq!(config.http.trusted[0].to_string(), "192.0.2.1/32");
    let root = Root { authority: "xdms.example.org:8090".into(), path: "/xcap-root".into() };
    assert_eq!((config.xdms.mode, &config.xdms.root), (Mode::External, &Some(root)));
    assert_eq!((config.xdms.max_messages, config.xdms.connections, config.xdms.rate), (900, 3, 40));
    assert_eq!(config.xdms.timeout, Duration::from_secs(4));
    let policy = &config.policy;
    assert_eq!(policy.domains, ["example.org", "example.net"]);
    assert_eq!((policy.release_version.as_str(), policy.offline_delivery), ("OMA2.0", false));
    assert_eq!((policy.push_min_interval, policy.bin_retention), (secs(6), secs(86_400)));
    assert_eq!(policy.reg_push_delay, secs(9));
    assert_eq!((policy.report_user_delete, policy.processing_imdn, policy.legacy_s0_retrieval), (false, false, true));
    assert_eq!((policy.user_delete, policy.orig_ioi.as_str()), (false, "home1.example.net"));
    let address = |uri: &str| Address::of_uri(uri.as_bytes()).unwrap();
    let means = |number: &str| policy.aliases.of(address(number));
    assert_eq!(means("tel:+15141234567"), address("sip:bob@example.org"));
    assert_eq!(means("tel:+15550001"), address("sip:carol@example.net"));
    assert_eq!(means("tel:+15550002"), address("tel:+15550002"));
    assert_eq!(policy.not_deferred, [Blocked::User(address("sip:bob@example.org"))]);
    assert_eq!((policy.after_push, policy.retrieved), (Afterwards::Retain, Afterwards::Delete));
    assert_eq!((policy.expired, policy.over_quota), (Expired::DeliverMarked, OverQuota::DropOldest));
    assert_eq!((policy.max_message_size, policy.quota_messages, policy.quota_octets), (1 << 20, 77, 3 << 20));
    assert_eq!((policy.quota_domain_messages, policy.quota_domain_octets), (7_700, 30 << 20));
    assert_eq!((policy.date_skew, policy.report_wait), (secs(60), secs(2)));
    assert_eq!((policy.session_expires, policy.min_se, policy.invite_expires), (secs(1200), secs(100), secs(61)));
    let days = |n: u64| secs(n * 86_400);
    assert_eq!((policy.expire_max, policy.expire_pager, policy.expire_large), (days(10), days(3), days(2)));
    assert_eq!(policy.publish_expires, (120, 1800, 7200));
    assert_eq!(
        (policy.settings_events.as_slice(), policy.settings_types.as_slice()),
        (&["e".into()][..], &["t/u".into()][..])
    );
    assert_eq!(policy.settings_memory, secs(3600));
    let summary = &policy.summary;
    assert_eq!(
        (summary.headers.as_slice(), summary.expires),
        (&["Subject".into(), "X-Own".into()][..], (120, 1800, 7200))
    );
    assert_eq!((summary.class_pager.as_str(), summary.class_large.as_str()), ("Pager-Message", "Multimedia-Message"));
    let expected = Limits {
        users: 101,
        connections: 102,
        transactions: 103,
        sessions: 104,
        large_sessions: 108,
        subscriptions: 109,
        dedupe_entries: 105,
        letters: 106,
        sip_head_octets: 2048,
        sip_headers: 107,
        sip_body_octets: 3072,
        msrp_head_octets: 4096,
        segment_octets: 2 << 20,
        commit_octets: 5 << 20,
        send_octets: 6144,
        backlog_octets: 7000,
    };
    assert_eq!(config.limits, expected);
    let msrp = ["127.0.0.1:2902".parse().unwrap()];
    let setup = config.setup(CoreId(2), 3, &config.sip.listen, &msrp, [7; 32]);
    assert_eq!((setup.core, setup.cores, setup.msrp.listen.as_slice()), (CoreId(2), 3, &msrp[..]));
}

/// What follows [`LEAST`] (lines 1 to 3), and each problem's line and a part of its text.
const BAD: &[(&str, &[(usize, &str)])] = &[
    ("cores = -1", &[(4, "server.cores is a whole number from 0 to 1024")]),
    ("cores = \"2\"", &[(4, "server.cores")]),
    ("colour = 1", &[(4, "unknown key server.colour")]),
    ("stop_timeout = \"5\"", &[(4, "is not a duration")]),
    ("stop_timeout = 5", &[(4, "should be a string")]),
    ("data_dir = [", &[(4, "unclosed"), (4, "of type array")]),
    ("[sip]\nlisten = [\"udp:127.0.0.1:5060\",\n  \"udp:127.0.0.1:5060\"]", &[(6, "twice")]),
    (
        "[sip]\nlisten = [\"udp:127.0.0.1\", \"tls:1.2.3.4:5\"]",
        &[(5, "udp:127.0.0.1\""), (5, "tls:"), (5, "no address")],
    ),
    ("[sip]\nlisten = []", &[(5, "no address")]),
    ("[sip]\nlisten = \"udp:127.0.0.1:5060\"", &[(5, "list of strings"), (5, "no address")]),
    ("[sip]\ntrusted = [\"10.0.0.0/40\", 7]", &[(5, "is not a network"), (5, "holds strings")]),
    ("[sip]\nlisten = [\"tcp:127.0.0.1:5060\"]\noutbound_proxy = \"udp:127.0.0.1:5070\"", &[(6, "no UDP address")]),
    ("[sip]\noutbound_proxy = \"127.0.0.1\"\nadvertise = \"a b\"", &[(5, "SIP address"), (6, "host:port")]),
    ("[sip]\nlisen = []", &[(5, "did you mean listen?")]),
    ("[msrp]\nchunk_max = \"8 kilo\"\nwindow_messages = 0", &[(5, "is not a size"), (6, "from 1 to 65536")]),
    ("[msrp]\nchunk_max = \"64KiB\"\nwindow_octets = \"32KiB\"", &[(6, "below msrp.chunk_max")]),
    ("[msrp]\nbind_source = \"yes\"\ntx_timeout = \"0s\"", &[(5, "true or false"), (6, "more than nothing")]),
    ("cores = 2\n[msrp]\nlisten = [\"127.0.0.1:65535\"]", &[(6, "is no port")]),
    ("cores = 2\n[msrp]\nlisten = [\"127.0.0.1:2855\", \"127.0.0.1:2856\"]", &[(6, "overlap")]),
    ("cores = 2\n[msrp]\nadvertise = \"192.0.2.10\"\nlisten = [\"0.0.0.0:5059\"]", &[(7, "overlaps sip.listen")]),
    ("[msrp]\nlisten = [\"[::]:2855\"]", &[(5, "write advertise = ")]),
    ("[sip]\nlisten = [\"udp:127.0.0.1:5060\", \"tcp:0.0.0.0:5060\"]", &[(5, "0.0.0.0:5060 is every address")]),
    ("[http]\nlisten = \"8080\"", &[(5, "is not an address")]),
    ("[http]\nlisten = \"127.0.0.1:5060\"", &[(5, "is an address of sip.listen")]),
    ("[xdms]\nmode = \"external\"", &[(5, "xdms.mode = \"external\" needs the XDMS")]),
    ("[xdms]\nroot = \"http://a.example.org/\"", &[(5, "xdms.root is for xdms.mode = \"external\"")]),
    (
        "[xdms]\nmode = \"external\"\nroot = \"https://a.example.org/\"",
        &[(6, "is reached by plain HTTP only"), (5, "needs the XDMS")],
    ),
    ("[xdms]\nmode = \"extern\"\nmax_messages = 0", &[(5, "is one of"), (6, "from 1 to")]),
    ("cores = 3\n[http]\nlisten = \"0.0.0.0:2857\"", &[(6, "overlaps msrp.listen's 127.0.0.1:2855")]),
    ("[policy]\nafter_push = \"burn\"\nexpired = 3", &[(5, "\"delete\", \"retain\""), (6, "deliver_marked")]),
    ("[policy]\naliases = [\"sip:a@b = sip:c@d\", \"tel:+1\"]", &[(5, "is no alias"), (5, "is no alias")]),
    (
        "[policy]\naliases = [\"tel:+1 = sip:a@b\",\n\"tel:+(1)=sip:c@d\"]\nuser_delete = 0",
        &[(6, "this number twice"), (7, "policy.user_delete")],
    ),
    ("[policy]\nmin_se = \"60s\"", &[(5, "RFC 4028")]),
    ("[policy]\nsession_expires = \"90s\"\nmin_se = \"100s\"", &[(5, "below policy.min_se")]),
    ("[policy.expire]\nmax = \"1d\"\ndefault_large = \"2d\"", &[(6, "default_large is above")]),
    ("[policy.expire]\ndefault_pager = \"31d\"", &[(5, "default_pager is above")]),
    ("[policy.quota.domain]\noctets = \"1MiB\"", &[(5, "use up the domain")]),
    ("[policy.quota]\noctets = \"1MiB\"", &[(5, "could never be stored")]),
    ("[policy.publish]\nmin_expires = \"2h\"", &[(4, "rising order")]),
    ("[policy.publish]\nmin_expires = \"1500ms\"", &[(5, "whole seconds")]),
    (
        "[policy.summary]\nheaders = [\"To\", \"a b\"]\nclass_large = \"Huge\"",
        &[(5, "no header's name"), (6, "context class")],
    ),
    ("[policy.summary]\nmin_expires = \"2h\"", &[(4, "policy.summary: min_expires")]),
    ("[policy]\nquota = 3", &[(5, "policy.quota is a table")]),
    ("[limits]\nusers = 0\nsegment_octets = 1048577", &[(5, "limits.users"), (6, "multiple of 4096")]),
    ("[limit]\nusers = 1", &[(4, "did you mean limits?")]),
    ("[sip]\n[sip]", &[(5, "duplicate")]),
    ("cores = 1\ncores = 2\nx = ", &[(5, "duplicate"), (6, "quoted"), (6, "unknown key server.x")]),
];

#[test]
fn every_error_is_reported_with_its_line() {
    for (text, expected) in BAD {
        let problems = Config::parse(&format!("{LEAST}{text}\n")).expect_err(text);
        assert_eq!(problems.len(), expected.len(), "{text}\n{problems:#?}");
        for (line, part) in *expected {
            assert!(problems.iter().any(|p| p.line == *line && p.what.contains(part)), "{text}\n{part}\n{problems:#?}");
        }
    }
}

#[test]
fn missing_names_are_said_where_they_belong() {
    let problems = Config::parse("").unwrap_err();
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| problem.line == 1 && problem.what.contains("has no default")));
    let problems = Config::parse("\n[server]\nhostname = \"a_b\"\ndomains = []\n").unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 4], "{problems:#?}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,200}") {
        let _ = Config::parse(&text);
        let _ = Config::parse(&format!("{LEAST}{text}"));
    }
}

#[test]
fn a_segment_is_no_longer_than_recovery_reads() {
    let with = |octets: &str| Config::parse(&format!("{LEAST}[limits]\nsegment_octets = \"{octets}\"\n"));
    assert_eq!(with("1GiB").unwrap().limits.segment_octets, 1 << 30);
    assert!(with("2GiB").is_err(), "the log would quietly take 1 GiB");
}
