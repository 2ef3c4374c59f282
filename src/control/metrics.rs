//! What the cores count, under the names that operators see: one table, and its OpenMetrics text.
//!
//! Names are promises to dashboards and alarms: add, never change. A counter's name ends with `_total` on the wire; here it
//! stands without. Every help text says what a number means and, where there is something to do about it, what.

use super::health::{Health, Phase};
use super::stored::Stored;
use crate::base::clock::Tick;
use crate::engine::meter::Reading;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;

/// What an HTTP response with [`Metrics::text`] is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How a number moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only grows while the daemon runs.
    Counter,
    /// It goes up and down.
    Gauge,
    /// 0 is well; anything else wants a person.
    Alarm,
    /// A counter whose growth wants a person.
    AlarmCounter,
}

impl Kind {
    /// True where anything but 0 wants a person.
    pub fn is_alarm(self) -> bool {
        matches!(self, Kind::Alarm | Kind::AlarmCounter)
    }
}

/// What a number is about: the tables of the status page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Messages and who they are for.
    Messages,
    /// Push sessions.
    Pushes,
    /// The log.
    Store,
    /// Connections, faults and bounds.
    Network,
    /// SIP transactions.
    Sip,
}

impl Topic {
    /// All of them, in reading order.
    pub const ALL: [Topic; 5] = [Topic::Messages, Topic::Pushes, Topic::Store, Topic::Network, Topic::Sip];

    /// Its heading.
    pub fn word(self) -> &'static str {
        match self {
            Topic::Messages => "Messages",
            Topic::Pushes => "Pushes",
            Topic::Store => "Store",
            Topic::Network => "Network",
            Topic::Sip => "SIP transactions",
        }
    }
}

/// One number of a core, for operators.
#[derive(Debug)]
pub struct Measure {
    /// Its name on the wire, without `_total`.
    pub name: &'static str,
    /// Its name on the page.
    pub label: &'static str,
    /// What it is about.
    pub topic: Topic,
    /// How it moves.
    pub kind: Kind,
    /// What it means and what to do.
    pub help: &'static str,
    /// Where it stands.
    pub of: fn(&Reading) -> u64,
}

macro_rules! measures {
    ($($topic:ident $kind:ident $field:ident $name:literal $label:literal $help:literal;)*) => {
        /// Every number that a core publishes.
        pub const MEASURES: &[Measure] = &[$(Measure {
            name: $name,
            label: $label,
            topic: Topic::$topic,
            kind: Kind::$kind,
            help: $help,
            of: |reading| reading.$field,
        },)*];

        /// Takes a reading apart whole: a number without a line in the table does not compile.
        const _: fn(Reading) = |Reading { $($field: _,)* }| {};
    };
}

measures! {
    Messages Counter messages_accepted "deferd_messages_accepted" "accepted"
        "Messages answered 202 (large ones: their last chunk 200) after they were synced to disk. Each is delivered, expires, or is deleted by its owner.";
    Messages Counter large_accepted "deferd_large_messages_accepted" "large messages"
        "Large messages whose last chunk was answered 200 after they were synced to disk. They are among deferd_messages_accepted_total.";
    Messages Counter large_octets "deferd_large_received_bytes" "octets of large messages"
        "Octets of content of large messages received over MSRP, whatever became of them.";
    Messages Counter large_discarded "deferd_large_messages_discarded" "large messages discarded"
        "Large messages that were begun and came to nothing: given up by their sender, cut off, or refused for quota, size or a failed disk. A large share: senders lose their connections, or policy.quota and policy.max_message_size are smaller than what they send.";
    Messages Gauge large_sessions "deferd_large_sessions" "sessions of senders"
        "Sessions in which senders deposit large messages. At limits.large_sessions per core further ones are refused with 503.";
    Messages Counter messages_delivered "deferd_messages_delivered" "delivered"
        "Messages that their user's client acknowledged. Far behind deferd_messages_accepted_total for days means that users do not come back, or that their pushes fail.";
    Messages Counter messages_expired "deferd_messages_expired" "expired"
        "Messages that expired before their user came back. Raise policy.expire where users stay away longer.";
    Messages Counter messages_dropped "deferd_messages_dropped" "dropped"
        "Messages deleted to make room for later ones (policy.quota.policy = \"drop_oldest\"). Raise policy.quota where it grows.";
    Messages Counter retrievals "deferd_retrievals" "retrievals"
        "Sessions that users set up to retrieve messages of their choice. Their messages count as delivered.";
    Messages Counter messages_deleted "deferd_messages_deleted" "deleted"
        "Messages that their users deleted by REFER. Those that expired or made room have counters of their own.";
    Messages Counter messages_deleted_by_operator "deferd_messages_deleted_by_operator" "deleted by operator"
        "Messages deleted by deferctl delete.";
    Messages Counter messages_purged "deferd_messages_purged" "purged"
        "Deleted messages whose time in the DELETE bin was over (policy.bin_retention). Zero where there is no bin.";
    Messages Counter reports_sent "deferd_reports_sent" "reports sent"
        "Delivery reports (IMDN) that somebody took: of messages that expired or were deleted, and of messages stored, where their senders asked.";
    Messages Counter reports_given_up "deferd_reports_given_up" "reports given up"
        "Delivery reports that nobody took after four attempts, or for which there was no room. When it grows, look at the way to the senders: sip.outbound_proxy.";
    Messages Gauge subscriptions "deferd_subscriptions" "subscriptions"
        "Subscriptions to message summaries, by the core where their users are at home. At limits.subscriptions per core further ones are refused with 503.";
    Messages Counter summaries "deferd_summaries" "summaries taken"
        "NOTIFYs with a message summary that their subscriber took.";
    Messages Counter subscriptions_lost "deferd_subscriptions_lost" "subscriptions lost"
        "Subscriptions that ended because a NOTIFY got no answer or one that ends them. Growth: clients leave without a word, or the way to them is closed: sip.outbound_proxy.";
    Messages Counter messages_duplicate "deferd_messages_duplicate" "duplicates"
        "Messages that came a second time and were stored once. A steady share is a sender that does not get our answers in time.";
    Messages Counter requests_refused "deferd_requests_refused" "requests refused"
        "Messages, publications and other requests refused with any status: quota, size, an unknown domain, a failed disk. A sudden growth: look at deferd_disk_full and deferd_log_poisoned, then at policy.quota.";
    Messages Counter deposits_over_quota "deferd_deposits_over_quota" "over quota"
        "Messages refused with 480 because their receiver has as much as policy.quota allows. Growth for few users: look at deferctl users --top; for many: raise policy.quota, or set policy.quota.policy to drop_oldest.";
    Messages Counter deposits_over_domain_quota "deferd_deposits_over_domain_quota" "over domain quota"
        "Messages refused with 480 because their receiver's domain has as much as policy.quota.domain allows. Compare deferd_domain_messages and deferd_domain_bytes with it.";
    Messages Counter deposits_without_storage "deferd_deposits_without_storage" "without storage"
        "Messages refused with 503 because the disk is full or the log has failed: look at deferd_disk_full, deferd_log_poisoned and deferd_data_dir_free_bytes.";
    Messages Gauge messages_binned "deferd_messages_binned" "in the bin"
        "Deleted messages that wait in the DELETE bin for policy.bin_retention. At 262,144 a core further ones are purged at once.";
    Messages Gauge reports_owed "deferd_reports_owed" "reports owed"
        "Delivery reports that nobody has taken yet. At 16,384 a core messages go without one: look at the way to the senders, sip.outbound_proxy.";
    Messages Counter publications "deferd_publications_accepted" "publications"
        "PUBLISHes accepted, refreshes and removals included.";
    Messages Counter registrations "deferd_registrations_accepted" "registrations"
        "REGISTERs accepted, from SIP cores and from users without one, refreshes and removals included.";
    Messages Gauge users_waiting "deferd_users_waiting" "users with messages"
        "Users with stored messages, by the core where they are at home. The sum nears limits.users before deposits are refused.";
    Pushes Counter pushes_started "deferd_pushes_started" "started"
        "INVITEs sent to push stored messages, repetitions for authentication and timers not counted.";
    Pushes Counter pushes_completed "deferd_pushes_completed" "completed"
        "Pushes that ended with our BYE after the last message.";
    Pushes Counter pushes_failed "deferd_pushes_failed" "failed"
        "Pushes that ended otherwise: declined, unanswered, broken. Their messages stay stored and are pushed again. When most fail, look at the way to the clients: sip.outbound_proxy, msrp.advertise, msrp.connect_allow.";
    Pushes Counter pushes_in_line "deferd_pushes_in_line" "waited for their turn"
        "Pushes whose INVITE was kept back a moment because more than a thousand clients of the core were being rung: everybody came back at once.";
    Pushes Gauge pushes_running "deferd_pushes_running" "under way"
        "Pushes under way. At limits.sessions per core further users wait.";
    Pushes Gauge users_present "deferd_users_present" "users known"
        "Users with publications, or a wish about deliveries, by the core where they are at home. At limits.users further ones get 503.";
    Pushes Counter push_octets_copied "deferd_push_octets_copied" "octets copied"
        "Octets of stored messages copied between the log and the socket, by reads and by us. Per message of deferd_messages_delivered_total: none for bodies of 768 octets and more, one body for shorter ones. More: users come back alone, and the disk is read for each of them.";
    Pushes Counter messages_rewrapped "deferd_messages_rewrapped" "sent in another form"
        "Messages sent as message/sip or message/cpim instead of the multipart/mixed they are stored in, attempts included. Most of your clients: consider policy.push.payload.";
    Pushes Counter rewrapped_octets "deferd_rewrapped_bytes" "octets written anew"
        "Octets written anew for messages sent in another form. What was CPIM when it came, and message/sip, are sent as they lie and add nothing.";
    Pushes Counter messages_paged "deferd_messages_paged" "delivered as MESSAGEs"
        "Messages delivered as SIP MESSAGEs to clients that take no session with them (policy.pager_fallback). They count as delivered too.";
    Pushes Counter messages_unfit "deferd_messages_unfit" "passed over"
        "Messages passed over in a session because its client takes none so large (max-size) or none of their type (accept-types). They wait for another client: deferctl why names them.";
    Store Counter log_groups "deferd_log_groups" "groups synced"
        "Groups of records handed to the disk, one write and one sync each. Messages per group grow with the load; many small groups are normal when there is little to do.";
    Store Gauge commits_waiting "deferd_commits_waiting" "commits waiting"
        "Records whose answer waits for the disk. Thousands for longer than a moment: the disk syncs too slowly.";
    Store Gauge commit_octets_waiting "deferd_commit_waiting_bytes" "octets waiting"
        "Octets that wait for the disk or are being written. At limits.commit_octets deposits are refused with 503.";
    Store Alarm log_poisoned "deferd_log_poisoned" "log failed"
        "1 after a sync of this core's log failed: it takes nothing in until the daemon is restarted; pushes go on. Look at the kernel's log and at the disk below server.data_dir, then restart.";
    Store Alarm disk_full "deferd_disk_full" "disk full"
        "1 while no new segment can be prepared: deposits are refused with 503, pushes and deletions go on. Make room below server.data_dir; no restart is needed.";
    Store AlarmCounter records_damaged "deferd_records_damaged" "records damaged"
        "Stored records that failed their check when they were to be pushed, and were skipped. Any is a disk that lies: replace it.";
    Store Gauge fingerprints "deferd_fingerprints" "fingerprints"
        "Messages that a second copy would be recognised by. Ends at twice limits.dedupe_entries a core: then the oldest are forgotten, and a copy that comes very late is stored again.";
    Store Gauge tombstones_waiting "deferd_tombstones_waiting" "tombstones waiting"
        "Messages that are gone for everybody and whose tombstone is not durable yet. Thousands for longer than a moment: the disk syncs too slowly, or takes nothing.";
    Store Gauge states "deferd_states" "states"
        "Publications, wishes, reports owed and parts of the bin that have a record in the log, by the core that looks after them.";
    Store Gauge live_octets "deferd_store_live_bytes" "octets alive"
        "Octets of stored records that somebody needs, in the logs this core looks after. Compare with deferd_store_disk_bytes: it stays below 1.5 times this plus some segments a core.";
    Store Gauge disk_octets "deferd_store_disk_bytes" "octets on disk"
        "Octets of segment files, those prepared and not written included.";
    Store Gauge segments_open "deferd_segments_open" "segments open"
        "Segments that are written, or wait to be: the active one, the next, the reserve and at most two spares a core.";
    Store Gauge segments_sealed "deferd_segments_sealed" "segments sealed"
        "Segments that are written no more.";
    Store Gauge segments_wanted "deferd_segments_wanted" "segments being emptied"
        "Sealed segments whose live records are being copied forward. One that stays for hours holds a damaged record: look at deferd_records_damaged_total.";
    Store Counter segments_reclaimed "deferd_segments_reclaimed" "segments had back"
        "Segments removed or used again because nobody needed anything in them.";
    Store Counter copied_octets "deferd_store_copied_bytes" "octets copied forward"
        "Octets of records written once more so that their segment can go. Far above what is accepted: messages live long and their neighbours short; larger segments make it worse.";
    Network Gauge connections "deferd_connections" "connections"
        "Open connections, SIP and MSRP together. At limits.connections per core further ones are closed at once.";
    Network Counter connects_forbidden "deferd_connects_forbidden" "connects forbidden"
        "MSRP connections that a client's offer asked for and msrp.connect_allow forbids. Extend it when these are your clients; otherwise somebody tries to use this host as a scanner.";
    Network Counter sip_faults "deferd_sip_faults" "SIP faults"
        "Malformed SIP, answered 400 or dropped. A steady growth is one broken peer: the log at debug level names it.";
    Network Counter msrp_faults "deferd_msrp_faults" "MSRP faults"
        "Malformed MSRP, answered 400 where it could be. A steady growth is one kind of client: the log at debug level names the fault.";
    Network Counter overloads "deferd_overloads" "overloads"
        "Requests, connections and answers refused or dropped because a bound of [limits] was reached. Growth is a host at its end or a bound set too low.";
    Sip Gauge sip_servers "deferd_sip_server_transactions" "server, alive"
        "SIP server transactions alive. Over UDP each lives 32 s after its answer; server and client together end at limits.transactions.";
    Sip Gauge sip_clients "deferd_sip_client_transactions" "client, alive"
        "SIP client transactions alive.";
    Sip Counter sip_requests "deferd_sip_requests" "requests"
        "New SIP requests, repetitions not counted.";
    Sip Counter sip_requests_repeated "deferd_sip_requests_repeated" "requests repeated"
        "Repeated SIP requests, answered again without being done again. A large share: our answers are lost or late.";
    Sip Counter sip_requests_merged "deferd_sip_requests_merged" "requests merged"
        "SIP requests that came a second time by another way, answered 482. Any: a proxy before us forks to the same address twice.";
    Sip Counter sip_transactions_refused "deferd_sip_transactions_refused" "no transaction left"
        "SIP requests answered 503 because limits.transactions was reached.";
    Sip AlarmCounter sip_requests_unanswered "deferd_sip_requests_unanswered" "requests unanswered"
        "SIP requests that no use case answered in time. Any is a mistake of ours or a disk that hangs: look at deferd_commits_waiting.";
    Sip Counter sip_requests_resent "deferd_sip_requests_resent" "our requests resent"
        "Requests of ours that timers sent again over UDP. A large share: the network or the SIP/IP core loses datagrams.";
    Sip Counter sip_responses_resent "deferd_sip_responses_resent" "our responses resent"
        "Responses of ours that timers or repeated requests sent again.";
    Sip Counter sip_responses_dropped "deferd_sip_responses_dropped" "our responses dropped"
        "Responses of ours that came after their transaction had ended.";
    Sip Counter sip_strays "deferd_sip_strays" "strays"
        "Responses and CANCELs that belong to nothing of ours: late, or for a daemon before this one.";
    Sip Counter sip_acks_unmatched "deferd_sip_acks_unmatched" "ACKs of dialogs"
        "ACKs that belong to no transaction: those of 2xx, as they should.";
    Sip Counter forwarded "deferd_sip_forwarded" "forwarded"
        "Messages of our own pushes that the SIP/IP core handed back to us, and that went on to their next Route. Growth is a filter criterion that names us for every INVITE: exclude those of our own there.";
    Sip Counter sip_timeouts "deferd_sip_timeouts" "our requests timed out"
        "Requests of ours that nobody answered. Growth: clients that left without a word, or an outbound proxy that is down.";
    Sip AlarmCounter sip_unsendable "deferd_sip_unsendable" "our requests unsendable"
        "Requests of ours that could not be read back and were not sent. Any is a mistake of ours: please report it.";
}

/// The meters of all cores as OpenMetrics text, made anew for each scrape.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// Of the daemon that `health` watches; `now` tells the tick at a scrape.
    pub fn new(health: Arc<Health>, now: impl Fn() -> Tick + Send + Sync + 'static) -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape { health, now: Box::new(now) }));
        Metrics(registry)
    }

    /// Somebody else's numbers, too.
    pub fn also(&mut self, collector: Box<dyn Collector>) {
        self.0.register_collector(collector);
    }

    /// All of it.
    ///
    /// # Errors
    /// None that could happen: a String takes everything.
    pub fn text(&self) -> Result<String, fmt::Error> {
        // 40 families of some 250 octets, and 40 octets for each core's line.
        let mut text = String::with_capacity(16 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

struct Scrape {
    health: Arc<Health>,
    now: Box<dyn Fn() -> Tick + Send + Sync>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").field("health", &self.health).finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let readings = self.health.readings();
        for measure in MEASURES {
            let is_counter = matches!(measure.kind, Kind::Counter | Kind::AlarmCounter);
            let kind = if is_counter { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(measure.name, measure.help, None, kind)?;
            for (core, reading) in readings.iter().enumerate() {
                let value = (measure.of)(reading);
                if is_counter {
                    line(&mut family, core, &ConstCounter::new(value))?;
                } else {
                    line(&mut family, core, &ConstGauge::new(value))?;
                }
            }
        }
        let help = "How long ago each core ended a turn. Idle cores are woken every second; above 5 the core hangs and /healthz answers 503: capture its stack (gdb, eu-stack), then restart.";
        let mut family =
            encoder.encode_descriptor("deferd_core_rest", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (core, rest) in self.health.rests((self.now)()).iter().enumerate() {
            line(&mut family, core, &ConstGauge::new(rest.as_secs_f64()))?;
        }
        self.stored(&mut encoder)?;
        let help = "1 while every listener accepts and every log has recovered; 0 while starting and stopping.";
        let ready = u64::from(self.health.phase() == Phase::Ready);
        ConstGauge::new(ready).encode(encoder.encode_descriptor("deferd_ready", help, None, MetricType::Gauge)?)?;
        let help = "The version that runs.";
        encoder
            .encode_descriptor("deferd_build", help, None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

impl Scrape {
    /// What is no core's own: domains, users and the disk.
    fn stored(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(stored) = self.health.stored() else { return Ok(()) };
        let domains = stored.domains();
        let help = "Messages stored or reserved for users of each served domain. At policy.quota.domain.messages further ones get 480.";
        let mut family = encoder.encode_descriptor("deferd_domain_messages", help, None, MetricType::Gauge)?;
        for domain in &domains {
            ConstGauge::new(domain.messages).encode(family.encode_family(&[("domain", &domain.name[..])])?)?;
        }
        let help = "Their octets. At policy.quota.domain.octets further messages get 480.";
        let mut family = encoder.encode_descriptor("deferd_domain", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for domain in &domains {
            ConstGauge::new(domain.octets).encode(family.encode_family(&[("domain", &domain.name[..])])?)?;
        }
        let help = "Users with something stored, of all cores. At limits.users deposits for others get 503.";
        let family = encoder.encode_descriptor("deferd_users", help, None, MetricType::Gauge)?;
        ConstGauge::new(stored.users() as u64).encode(family)?;
        let help = "How long the message has waited that has waited longest to be pushed, as of a look every 30 s; 0 when none does. Near policy.expire.default_pager messages expire unseen: look at deferd_pushes_failed_total.";
        let family =
            encoder.encode_descriptor("deferd_oldest_waiting", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(self.health.oldest_s().map_or(0, Stored::age_s)).encode(family)?;
        let Ok(space) = stored.space() else { return Ok(()) };
        let help = "Room left for the daemon's user on the file system of server.data_dir. Segments are made 64 MiB at a time: below some of them deferd_disk_full comes.";
        let family = encoder.encode_descriptor("deferd_data_dir_free", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(space.free).encode(family)?;
        let help = "The size of that file system.";
        let family = encoder.encode_descriptor("deferd_data_dir_size", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(space.size).encode(family)
    }
}

fn line(family: &mut MetricEncoder<'_>, core: usize, value: &impl EncodeMetric) -> fmt::Result {
    value.encode(family.encode_family(&[("core", core)])?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::meter::{Meter, Publisher};
    use std::collections::BTreeSet;

    #[test]
    fn a_scrape_has_every_number_of_every_core_under_its_name() {
        let meters = vec![Meter::new(), Meter::new()];
        let reading = Reading { messages_accepted: 12, pushes_running: 3, log_poisoned: 1, ..Reading::default() };
        Publisher::new(meters[1].clone()).publish(Tick(2_500_000), &reading);
        let health = Health::new(meters);
        health.ready(Tick(2_000_000));
        let text = Metrics::new(health, || Tick(3_000_000)).text().unwrap();
        for line in [
            "# TYPE deferd_messages_accepted counter",
            "deferd_messages_accepted_total{core=\"0\"} 0",
            "deferd_messages_accepted_total{core=\"1\"} 12",
            "deferd_messages_delivered_total{core=\"1\"} 0",
            "deferd_pushes_started_total{core=\"0\"} 0",
            "deferd_sip_faults_total{core=\"0\"} 0",
            "deferd_msrp_faults_total{core=\"0\"} 0",
            "deferd_requests_refused_total{core=\"0\"} 0",
            "# TYPE deferd_pushes_running gauge",
            "deferd_pushes_running{core=\"1\"} 3",
            "deferd_log_poisoned{core=\"1\"} 1",
            "deferd_core_rest_seconds{core=\"0\"} 1.0",
            "deferd_core_rest_seconds{core=\"1\"} 0.5",
            "deferd_ready 1",
            concat!("deferd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn every_family_is_named_once_and_explained() {
        let names: BTreeSet<&str> = MEASURES.iter().map(|measure| measure.name).collect();
        assert_eq!(names.len(), MEASURES.len());
        for measure in MEASURES {
            assert!(measure.name.starts_with("deferd_") && !measure.name.ends_with("_total"), "{}", measure.name);
            assert!(measure.help.ends_with('.') && !measure.help.contains('\n'), "{}", measure.name);
            assert!(measure.help.len() > 20 && !measure.help.contains('\\'), "{}", measure.name);
        }
    }

    #[test]
    fn a_scrape_follows_the_openmetrics_grammar() {
        let text = Metrics::new(Health::new(vec![Meter::new()]), || Tick(0)).text().unwrap();
        let mut family = String::new();
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["#", "HELP", name, ..] => family = (*name).to_owned(),
                ["#", "TYPE" | "UNIT", name, _] => assert_eq!(*name, family),
                ["#", "EOF"] => {}
                [sample, value] => {
                    assert!(sample.starts_with(&family), "{line}");
                    assert!(value.parse::<f64>().is_ok(), "{line}");
                }
                _ => panic!("{line}"),
            }
        }
    }
}
