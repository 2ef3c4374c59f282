//! The configuration: every key, its default and its bounds, and what a core is told of it.
//!
//! Keys are promises to those who write them: add, never change. Each is read in one place below; everything wrong is reported
//! with its line, not only the first.

mod xdms;

pub use xdms::{Mode, Root, Xdms};

use super::table::{Findings, Found, Problem, Table};
use super::units;
use crate::base::limits::Limits;
use crate::base::net::CoreId;
use crate::deferred::policy::{Afterwards, Aliases, Blocked, Expired, OverQuota, Payload, Policy, Summary};
use crate::engine::setup::{MsrpSetup, Setup, SipAddress, SipSetup, Transport};
use crate::wire::sip::fields::MediaType;
use crate::wire::{scan, summary};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1"];
const PRIVATE: &[&str] =
    &["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "::1"];

/// `[server]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    /// Where everything durable lies.
    pub data_dir: PathBuf,
    /// Threads; 0: one per processor.
    pub cores: u16,
    /// How long sessions may take to say good-bye.
    pub stop_timeout: Duration,
    /// For `deferctl`.
    pub control_socket: PathBuf,
}

/// `[http]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Http {
    /// Where metrics, status and XCAP are served; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// Whose X-3GPP-Asserted-Identity is believed.
    pub trusted: Vec<IpNet>,
}

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`, but for names, which are in `policy`.
    pub server: Server,
    /// `[sip]`, with ports as written.
    pub sip: SipSetup,
    /// `[msrp]`, with ports as written: core 0's.
    pub msrp: MsrpSetup,
    /// `[http]`.
    pub http: Http,
    /// `[xdms]`.
    pub xdms: Xdms,
    /// `[policy]` and the names of `[server]`.
    pub policy: Policy,
    /// `[limits]`.
    pub limits: Limits,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, by line.
    pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        let findings = Findings::new(text);
        let mut root = Table::root(&findings);
        let (server, hostname, domains) = read_server(root.table("server"));
        let (sip, sip_places) = read_sip(root.table("sip"));
        let (msrp, msrp_places) = read_msrp(root.table("msrp"));
        let (http, http_place) = read_http(root.table("http"));
        let xdms = xdms::read(root.table("xdms"));
        let policy = read_policy(root.table("policy"), &hostname, &domains);
        let limits = read_limits(root.table("limits"));
        check_ports(&root, &server, &sip_places, &msrp_places);
        check_http(&root, &server, &http_place, &sip_places, &msrp_places);
        root.end();
        let problems = findings.into_problems();
        if problems.is_empty() { Ok(Config { server, sip, msrp, http, xdms, policy, limits }) } else { Err(problems) }
    }

    /// The sections other than `[policy]` in which another configuration differs.
    pub fn differs(&self, other: &Config) -> Vec<&'static str> {
        let sections = [
            ("server", self.server != other.server),
            ("sip", self.sip != other.sip),
            ("msrp", self.msrp != other.msrp),
            ("http", self.http != other.http),
            ("xdms", self.xdms != other.xdms),
            ("limits", self.limits != other.limits),
        ];
        sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// What core `core` of `cores` is told, with the addresses that were really bound.
    pub fn setup(&self, core: CoreId, cores: u16, sip: &[SipAddress], msrp: &[SocketAddr], seed: [u8; 32]) -> Setup {
        Setup {
            core,
            cores,
            sip: SipSetup { listen: sip.to_vec(), ..self.sip.clone() },
            msrp: MsrpSetup { listen: msrp.to_vec(), ..self.msrp.clone() },
            policy: self.policy.clone(),
            limits: self.limits.clone(),
            seed,
        }
    }
}

fn values<T>(list: Vec<Found<T>>) -> Vec<T> {
    list.into_iter().map(|found| found.value).collect()
}

fn any_text(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

fn filled(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.contains(|c: char| c.is_control()) {
        Err("is empty or not text")
    } else {
        Ok(text.into())
    }
}

fn positive(text: &str) -> Result<Duration, &'static str> {
    units::duration(text).and_then(|time| if time.is_zero() { Err("must be more than nothing") } else { Ok(time) })
}

fn whole_seconds(text: &str) -> Result<u32, &'static str> {
    let time = positive(text)?;
    if time.subsec_millis() > 0 {
        return Err("must be whole seconds");
    }
    u32::try_from(time.as_secs()).map_err(|_| "must fit the 32 bits of SIP's Expires")
}

fn read_server(mut table: Table<'_, '_>) -> (Server, String, Vec<String>) {
    let head = table.at();
    let hostname = table.text("hostname", |text| units::hostname(text).map(Some));
    let domains = values(table.list("domains", &[], units::hostname));
    let data_dir = table.text_or("data_dir", "/var/lib/deferd".into(), |text| filled(text).map(PathBuf::from)).value;
    let cores = table.number("cores", 0, 0..=1024).value;
    let stop_timeout = table.text_or("stop_timeout", Duration::from_secs(5), units::duration).value;
    let control_socket =
        table.text_or("control_socket", data_dir.join("control.sock"), |text| any_text(text).map(PathBuf::from)).value;
    // A key that is there and wrong has been noted; one that is not there has no default to stand in.
    let missing = table.missing(&["hostname", "domains"]);
    for key in missing {
        let example = if key == "hostname" { "\"im.example.org\"" } else { "[\"example.org\"]" };
        table
            .note(&head, format!("server.{key} is missing and has no default: write {key} = {example} under [server]"));
    }
    if domains.is_empty() && table.is_there("domains") {
        table.note(&table.place("domains"), "server.domains names no domain: nobody could be served");
    }
    let hostname = hostname.and_then(|found| found.value).unwrap_or_default();
    table.end();
    let cores = u16::try_from(cores).unwrap_or(u16::MAX);
    (Server { data_dir, cores, stop_timeout, control_socket }, hostname, domains)
}

fn read_sip(mut table: Table<'_, '_>) -> (SipSetup, Vec<Found<SipAddress>>) {
    let defaults = &["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"];
    let listen = table.list("listen", defaults, units::sip_address);
    if listen.is_empty() {
        table.note(&table.place("listen"), "sip.listen names no address: no message could come in");
    }
    let proxy = |text: &str| {
        units::sip_address(text).and_then(|to| if to.addr.port() == 0 { Err("needs a port") } else { Ok(Some(to)) })
    };
    let outbound_proxy = table.text_or("outbound_proxy", None, proxy);
    if let Some(to) = outbound_proxy.value
        && to.transport == Transport::Udp
        && !listen
            .iter()
            .any(|own| own.value.transport == Transport::Udp && own.value.addr.is_ipv4() == to.addr.is_ipv4())
    {
        table.note(
            &outbound_proxy.at,
            "sip.outbound_proxy is UDP, and sip.listen has no UDP address of its family to send from",
        );
    }
    let sip = SipSetup {
        listen: listen.iter().map(|found| found.value).collect(),
        advertise: table.text_or("advertise", None, |text| units::host_port(text).map(Some)).value,
        outbound_proxy: outbound_proxy.value,
        trusted: values(table.list("trusted", LOOPBACK, units::network)),
    };
    if sip.advertise.is_none() {
        refuse_wildcards(
            &table,
            listen.iter().map(|found| (&found.at, found.value.addr)),
            "sip",
            "im.example.org:5060",
        );
    }
    table.end();
    (sip, listen)
}

/// A wildcard is no address that peers can answer to: what is written into Via, Contact and SDP has to be said.
fn refuse_wildcards<'a>(
    table: &Table<'_, '_>,
    listen: impl Iterator<Item = (&'a Range<usize>, SocketAddr)>,
    section: &str,
    example: &str,
) {
    for (at, addr) in listen.filter(|(_, addr)| addr.ip().is_unspecified()) {
        table.note(
            at,
            format!("{addr} is every address of this host, and peers need one: write advertise = \"{example}\" under [{section}]"),
        );
    }
}

fn read_msrp(mut table: Table<'_, '_>) -> (MsrpSetup, Vec<Found<SocketAddr>>) {
    let listen = table.list("listen", &["127.0.0.1:2855"], units::socket_address);
    if listen.is_empty() {
        table.note(&table.place("listen"), "msrp.listen names no address: no message could be pushed");
    }
    let thirty = Duration::from_secs(30);
    // Below 256 octets the heads outweigh the body; above 1 MiB one chunk holds up everybody on its connection.
    let chunk_max = table.size("chunk_max", 8 << 10, 256..=1 << 20);
    let window_octets = table.size("window_octets", 1 << 20, 256..=1 << 30);
    if window_octets.value < chunk_max.value {
        table.note(&window_octets.at, "msrp.window_octets is below msrp.chunk_max: not one chunk would fit the window");
    }
    let msrp = MsrpSetup {
        listen: listen.iter().map(|found| found.value).collect(),
        advertise: table.text_or("advertise", None, |text| units::hostname(text).map(Some)).value,
        connect_allow: values(table.list("connect_allow", PRIVATE, units::network)),
        bind_source: table.flag("bind_source", true),
        chunk_max: usize::try_from(chunk_max.value).unwrap_or(usize::MAX),
        window_messages: table.number("window_messages", 1024, 1..=65_536).value as u32,
        window_octets: usize::try_from(window_octets.value).unwrap_or(usize::MAX),
        bind_timeout: table.text_or("bind_timeout", thirty, positive).value,
        tx_timeout: table.text_or("tx_timeout", thirty, positive).value,
    };
    if msrp.advertise.is_none() {
        refuse_wildcards(&table, listen.iter().map(|found| (&found.at, found.value)), "msrp", "192.0.2.10");
    }
    table.end();
    (msrp, listen)
}

fn read_http(mut table: Table<'_, '_>) -> (Http, Found<Option<SocketAddr>>) {
    let address = |text: &str| if text.is_empty() { Ok(None) } else { units::socket_address(text).map(Some) };
    // Not `text_or`: the empty string is a choice here, not the default.
    let listen = table
        .text("listen", address)
        .unwrap_or_else(|| Found { value: Some(SocketAddr::from(([127, 0, 0, 1], 8080))), at: table.place("listen") });
    let trusted = values(table.list("trusted", LOOPBACK, units::network));
    table.end();
    (Http { listen: listen.value, trusted }, listen)
}

fn read_policy(mut table: Table<'_, '_>, hostname: &str, domains: &[String]) -> Policy {
    let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
    let mut policy = Policy::new(hostname, &domains);
    let release = |text: &str| match text {
        "OMA1.0" | "OMA2.0" => Ok(text.to_owned()),
        _ => Err("is not a release: \"OMA1.0\" or \"OMA2.0\""),
    };
    policy.release_version = table.text_or("release_version", policy.release_version, release).value;
    policy.offline_delivery = table.flag("offline_delivery", policy.offline_delivery);
    policy.push_min_interval = table.text_or("push_min_interval", policy.push_min_interval, units::duration).value;
    policy.reg_push_delay = table.text_or("reg_push_delay", policy.reg_push_delay, units::duration).value;
    let after = [("delete", Afterwards::Delete), ("retain", Afterwards::Retain)];
    policy.after_push = table.word("after_push", policy.after_push, &after);
    policy.retrieved = table.word("retrieved", policy.retrieved, &after);
    policy.legacy_s0_retrieval = table.flag("legacy_s0_retrieval", policy.legacy_s0_retrieval);
    let expired = [("delete", Expired::Delete), ("deliver_marked", Expired::DeliverMarked), ("keep", Expired::Keep)];
    policy.expired = table.word("expired", policy.expired, &expired);
    policy.orig_ioi = table.text_or("orig_ioi", policy.orig_ioi, units::hostname).value;
    policy.aliases = read_aliases(&mut table);
    read_admission(&mut table, &mut policy);
    policy.user_delete = table.flag("user_delete", policy.user_delete);
    policy.report_user_delete = table.flag("report_user_delete", policy.report_user_delete);
    policy.processing_imdn = table.flag("processing_imdn", policy.processing_imdn);
    policy.bin_retention = table.text_or("bin_retention", policy.bin_retention, units::duration).value;
    // A segment's place is 32 bits; a message and its wrapping stay well below.
    let message_size = table.size("max_message_size", policy.max_message_size, 1..=2 << 30);
    policy.max_message_size = message_size.value;
    policy.date_skew = table.text_or("date_skew", policy.date_skew, units::duration).value;
    policy.report_wait = table.text_or("report_wait", policy.report_wait, units::duration).value;
    let session = table.text_or("session_expires", policy.session_expires, positive);
    let least = |text: &str| match units::duration(text) {
        Ok(time) if time < Duration::from_secs(90) => Err("is below the 90 s that RFC 4028 allows"),
        other => other,
    };
    policy.min_se = table.text_or("min_se", policy.min_se, least).value;
    policy.session_expires = session.value;
    if policy.session_expires < policy.min_se {
        table.note(&session.at, "policy.session_expires is below policy.min_se");
    }
    let mut push = table.table("push");
    policy.invite_expires = push.text_or("invite_expires", policy.invite_expires, positive).value;
    let payloads = [("auto", Payload::Auto), ("oma", Payload::Oma), ("cpim", Payload::Cpim)];
    policy.payload = push.word("payload", policy.payload, &payloads);
    policy.pager_bare = push.flag("pager_bare", policy.pager_bare);
    policy.compat_part1 = push.word("compat_part1", policy.compat_part1, &[("sipfrag", false), ("message/sip", true)]);
    push.end();
    read_expiry(table.table("expire"), &mut policy);
    let mut quota = table.table("quota");
    policy.quota_messages = quota.number("messages", policy.quota_messages.into(), 1..=u32::MAX.into()).value as u32;
    let octets = quota.size("octets", policy.quota_octets, 1..=u64::MAX);
    policy.quota_octets = octets.value;
    let refuse = [("refuse", OverQuota::Refuse), ("drop_oldest", OverQuota::DropOldest)];
    policy.over_quota = quota.word("policy", policy.over_quota, &refuse);
    if policy.quota_octets < policy.max_message_size {
        let at = if octets.at == quota.at() { &message_size.at } else { &octets.at };
        quota.note(at, "policy.quota.octets is below policy.max_message_size: such a message could never be stored");
    }
    let mut domain = quota.table("domain");
    policy.quota_domain_messages = domain.number("messages", policy.quota_domain_messages, 0..=1 << 40).value;
    let domain_octets = domain.size("octets", policy.quota_domain_octets, 0..=1 << 50);
    policy.quota_domain_octets = domain_octets.value;
    if (1..policy.quota_octets).contains(&policy.quota_domain_octets) {
        domain.note(
            &domain_octets.at,
            "policy.quota.domain.octets is below policy.quota.octets: one user could use up the domain",
        );
    }
    domain.end();
    quota.end();
    read_publish(table.table("publish"), &mut policy);
    let mut settings = table.table("settings");
    let strs = |list: &[String]| list.iter().map(|text| text.as_str().to_owned()).collect::<Vec<_>>();
    let (events, types) = (strs(&policy.settings_events), strs(&policy.settings_types));
    let refs = |list: &[String], table: &mut Table<'_, '_>, key| {
        let defaults: Vec<&str> = list.iter().map(String::as_str).collect();
        values(table.list(key, &defaults, filled))
    };
    policy.settings_events = refs(&events, &mut settings, "events");
    policy.settings_types = refs(&types, &mut settings, "types");
    policy.settings_memory = settings.text_or("memory", policy.settings_memory, units::duration).value;
    settings.end();
    policy.summary = read_summary(table.table("summary"), policy.summary);
    table.end();
    policy
}

/// Numbers and whom they mean, each once.
fn read_aliases(table: &mut Table<'_, '_>) -> Aliases {
    let list = table.list("aliases", &[], units::alias);
    for (number, found) in list.iter().enumerate() {
        if list.iter().take(number).any(|other| other.value.0 == found.value.0) {
            table.note(&found.at, "policy.aliases has this number twice");
        }
    }
    Aliases::new(values(list))
}

/// Who may write, what, and how it may leave.
fn read_admission(table: &mut Table<'_, '_>, policy: &mut Policy) {
    policy.pager_fallback = table.flag("pager_fallback", policy.pager_fallback);
    policy.deferral = table.flag("deferral", policy.deferral);
    // Whoever is named by a number is known by the address that it means.
    let named = |blocked| match blocked {
        Blocked::User(user) => Blocked::User(policy.aliases.of(user)),
        host => host,
    };
    policy.not_deferred = values(table.list("not_deferred", &[], units::blocked)).into_iter().map(named).collect();
    policy.blocked_senders =
        values(table.list("blocked_senders", &[], units::blocked)).into_iter().map(named).collect();
    let range = |text: &str| match MediaType::parse(text.as_bytes()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("is no media range such as \"text/*\""),
    };
    policy.accepted_types = values(table.list("accepted_types", &["*/*"], range));
    if policy.accepted_types.is_empty() {
        table.note(&table.place("accepted_types"), "policy.accepted_types names no type: no message could come in");
    }
}

fn read_summary(mut table: Table<'_, '_>, usual: Summary) -> Summary {
    let header =
        |text: &str| if scan::is_token(text.as_bytes()) { Ok(text.to_owned()) } else { Err("is no header's name") };
    let class = |text: &str| {
        let known = summary::CLASSES.iter().find(|class| class.eq_ignore_ascii_case(text));
        known
            .map(|class| (*class).to_owned())
            .ok_or("is no context class: \"Text-Message\", \"Pager-Message\" ... (RFC 3458 6.2)")
    };
    let headers: Vec<&str> = usual.headers.iter().map(String::as_str).collect();
    let headers = table.list("headers", &headers, header);
    // Twenty groups of as many lines are what a datagram holds.
    if let Some(last) = headers.get(16) {
        table.note(&last.at, "policy.summary.headers names more than 16 headers");
    }
    let class_pager = table.text_or("class_pager", usual.class_pager, class).value;
    let class_large = table.text_or("class_large", usual.class_large, class).value;
    let expires = read_expires(&mut table, "policy.summary", usual.expires);
    table.end();
    Summary { headers: values(headers), class_pager, class_large, expires }
}

/// The least, the default and the longest of what a client may ask for.
fn read_expires(table: &mut Table<'_, '_>, name: &str, (least, usual, most): (u32, u32, u32)) -> (u32, u32, u32) {
    let least = table.text_or("min_expires", least, whole_seconds);
    let usual = table.text_or("default_expires", usual, whole_seconds);
    let most = table.text_or("max_expires", most, whole_seconds);
    if least.value > usual.value || usual.value > most.value {
        table.note(&usual.at, format!("{name}: min_expires, default_expires and max_expires are not in rising order"));
    }
    (least.value, usual.value, most.value)
}

fn read_expiry(mut table: Table<'_, '_>, policy: &mut Policy) {
    policy.expire_max = table.text_or("max", policy.expire_max, positive).value;
    // A maximum below our defaults brings them down with it; one below what the operator wrote is a mistake.
    let pager = table.text_or("default_pager", policy.expire_pager.min(policy.expire_max), positive);
    let large = table.text_or("default_large", policy.expire_large.min(policy.expire_max), positive);
    for (key, found) in [("default_pager", &pager), ("default_large", &large)] {
        if found.value > policy.expire_max {
            table.note(&found.at, format!("policy.expire.{key} is above policy.expire.max"));
        }
    }
    policy.expire_pager = pager.value;
    policy.expire_large = large.value;
    table.end();
}

fn read_publish(mut table: Table<'_, '_>, policy: &mut Policy) {
    policy.publish_expires = read_expires(&mut table, "policy.publish", policy.publish_expires);
    table.end();
}

/// Bounds of `[limits]`, each with its reason: the least that works, the most that the types below hold.
fn read_limits(mut table: Table<'_, '_>) -> Limits {
    let d = Limits::default();
    let mut count = |key, default: usize, least: u64, most: u64| {
        usize::try_from(table.number(key, default as u64, least..=most).value).unwrap_or(usize::MAX)
    };
    let mut limits = Limits {
        users: count("users", d.users, 1, 1 << 31),
        connections: count("connections", d.connections, 1, 1 << 24),
        transactions: count("transactions", d.transactions, 16, 1 << 24),
        sessions: count("sessions", d.sessions, 1, 1 << 24),
        large_sessions: count("large_sessions", d.large_sessions, 1, 1 << 20),
        subscriptions: count("subscriptions", d.subscriptions, 1, 1 << 24),
        dedupe_entries: count("dedupe_entries", d.dedupe_entries, 1, 1 << 31),
        letters: count("letters", d.letters, 16, 1 << 24),
        sip_headers: count("sip_headers", d.sip_headers, 16, 1 << 16),
        ..d
    };
    let mut octets = |key, default: u64, least: u64, most: u64| table.size(key, default, least..=most).value;
    let mut size = |key, default: usize, least: u64, most: u64| {
        usize::try_from(octets(key, default as u64, least, most)).unwrap_or(usize::MAX)
    };
    limits.sip_head_octets = size("sip_head_octets", limits.sip_head_octets, 1 << 10, 1 << 16);
    limits.sip_body_octets = size("sip_body_octets", limits.sip_body_octets, 1_300, 1 << 28);
    limits.msrp_head_octets = size("msrp_head_octets", limits.msrp_head_octets, 1 << 10, 1 << 20);
    limits.commit_octets = size("commit_octets", limits.commit_octets, 1 << 16, 1 << 32);
    limits.send_octets = size("send_octets", limits.send_octets, 1 << 12, 1 << 30);
    limits.backlog_octets = size("backlog_octets", limits.backlog_octets, 1 << 12, 1 << 30);
    // Recovery reads a segment whole: 1 GiB is the longest.
    let segment = table.size("segment_octets", limits.segment_octets, 1 << 20..=1 << 30);
    if !segment.value.is_multiple_of(4096) {
        table.note(&segment.at, "limits.segment_octets is a multiple of 4096");
    }
    limits.segment_octets = segment.value;
    table.end();
    limits
}

/// Ports that overlap: core k listens for MSRP on port + k, and may meet another entry or SIP over TCP there.
fn check_ports(root: &Table<'_, '_>, server: &Server, sip: &[Found<SipAddress>], msrp: &[Found<SocketAddr>]) {
    let cores = threads(server);
    let last = |addr: SocketAddr| usize::from(addr.port()) + cores - 1;
    for (number, found) in msrp.iter().enumerate() {
        let addr = found.value;
        if addr.port() == 0 {
            continue;
        }
        if last(addr) > usize::from(u16::MAX) {
            root.note(
                &found.at,
                format!("msrp.listen: {addr} plus {} for the last of {cores} cores is no port", cores - 1),
            );
            continue;
        }
        let range = usize::from(addr.port())..=last(addr);
        let earlier = msrp.iter().take(number).map(|found| found.value).filter(|other| other.port() != 0);
        for other in earlier.filter(|other| meet(*other, addr)) {
            if range.contains(&usize::from(other.port())) || range.contains(&last(other)) {
                root.note(
                    &found.at,
                    format!("msrp.listen: {addr} and {other} overlap: each of {cores} cores takes the next port"),
                );
            }
        }
        for other in sip.iter().filter(|other| other.value.transport == Transport::Tcp) {
            let other = other.value.addr;
            if meet(other, addr) && range.contains(&usize::from(other.port())) {
                root.note(&found.at, format!("msrp.listen: {addr} overlaps sip.listen's tcp:{other}: each of {cores} cores takes the next port"));
            }
        }
    }
}

/// HTTP on a port that is SIP's over TCP or a core's for MSRP.
fn check_http(
    root: &Table<'_, '_>,
    server: &Server,
    http: &Found<Option<SocketAddr>>,
    sip: &[Found<SipAddress>],
    msrp: &[Found<SocketAddr>],
) {
    let Some(addr) = http.value.filter(|addr| addr.port() != 0) else { return };
    let tcp = sip.iter().map(|found| found.value).filter(|sip| sip.transport == Transport::Tcp);
    if tcp.into_iter().any(|sip| sip.addr.port() == addr.port() && meet(sip.addr, addr)) {
        root.note(&http.at, format!("http.listen: {addr} is an address of sip.listen"));
    }
    let cores = threads(server);
    let is_taken = |first: SocketAddr| {
        let range = usize::from(first.port())..usize::from(first.port()) + cores;
        first.port() != 0 && meet(first, addr) && range.contains(&usize::from(addr.port()))
    };
    if let Some(found) = msrp.iter().find(|found| is_taken(found.value)) {
        let first = found.value;
        root.note(
            &http.at,
            format!("http.listen: {addr} overlaps msrp.listen's {first}: each of {cores} cores takes the next port"),
        );
    }
}

/// How many threads there will be.
fn threads(server: &Server) -> usize {
    match server.cores {
        0 => crate::uring::host::default_cores(),
        cores => usize::from(cores),
    }
}

/// True when one socket's address keeps another from the same port.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |addr: SocketAddr| addr.ip().is_unspecified();
    a.is_ipv4() == b.is_ipv4() && (a.ip() == b.ip() || any(a) || any(b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
#[path = "config_tests.rs"]
mod tests;
