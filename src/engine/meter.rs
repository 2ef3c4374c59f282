//! What one core publishes of itself: plain numbers, written at the end of a turn, read by others at any time.
//!
//! Knows what is counted and how it leaves the core. Knows neither names for operators nor who reads: that is `control`.
//!
//! A core keeps its own plain counts and stores here only what changed since its last turn, relaxed: a turn costs some forty
//! comparisons, about 25 ns, and no locked instruction. A reader sees each number whole; two numbers may be of two neighbouring turns.

use super::core::Core;
use crate::base::clock::Tick;
use crate::deferred::cx;
use crate::proto::sip::endpoint;
use crate::store::reclaim::Usage;
use crossbeam::utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One list of numbers, three shapes of it: as a value, as atomics, and the way between.
macro_rules! readings {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One core's numbers since its start. Those that are not counters say so.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct Reading {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Reading {
            /// Adds another core's numbers.
            pub fn add(&mut self, other: &Reading) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }
        }

        #[derive(Default, Debug)]
        struct Cells {
            turned: AtomicU64,
            $($name: AtomicU64,)*
        }

        impl Cells {
            fn store_changed(&self, before: &Reading, after: &Reading) {
                $(if before.$name != after.$name {
                    self.$name.store(after.$name, Ordering::Relaxed);
                })*
            }

            fn load(&self) -> Reading {
                Reading { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

readings! {
    /// Messages answered 202 after their commit.
    messages_accepted,
    /// Of those, large messages.
    large_accepted,
    /// Octets of large messages received.
    large_octets,
    /// Large messages that came to nothing.
    large_discarded,
    /// Gauge: sessions in which large messages come.
    large_sessions,
    /// Messages their user's client acknowledged.
    messages_delivered,
    /// Octets of stored messages copied on their way to a socket, by us or by a read.
    push_octets_copied,
    /// Messages sent in another form than they are stored in.
    messages_rewrapped,
    /// Octets written anew for them.
    rewrapped_octets,
    /// Messages delivered as SIP MESSAGEs.
    messages_paged,
    /// Messages passed over in a session.
    messages_unfit,
    /// Messages that expired undelivered.
    messages_expired,
    /// Messages that made room for later ones of their user.
    messages_dropped,
    /// Sessions in which users retrieved messages of their choice.
    retrievals,
    /// Messages that their users deleted.
    messages_deleted,
    /// Messages that the operator deleted.
    messages_deleted_by_operator,
    /// Messages purged from the DELETE bin.
    messages_purged,
    /// Delivery reports that somebody took.
    reports_sent,
    /// Delivery reports that nobody took, or for which there was no room.
    reports_given_up,
    /// NOTIFYs of message summaries that were taken.
    summaries,
    /// Gauge: subscriptions to message summaries.
    subscriptions,
    /// Subscriptions that ended because a NOTIFY failed.
    subscriptions_lost,
    /// Messages recognised as duplicates.
    messages_duplicate,
    /// Requests refused, any status: messages, publications, and what is not served.
    requests_refused,
    /// Messages refused because their receiver has as much as the quota allows.
    deposits_over_quota,
    /// Messages refused because their receiver's domain has.
    deposits_over_domain_quota,
    /// Messages refused because the disk is full or the log has failed.
    deposits_without_storage,
    /// Publications accepted.
    publications,
    /// Registrations accepted.
    registrations,
    /// Messages of our own pushes that came round and went on.
    forwarded,
    /// Gauge: users with messages at home here.
    users_waiting,
    /// Push INVITEs sent.
    pushes_started,
    /// Pushes that ended with BYE after the last message.
    pushes_completed,
    /// Pushes that ended otherwise.
    pushes_failed,
    /// Pushes that waited for their turn.
    pushes_in_line,
    /// Gauge: pushes under way.
    pushes_running,
    /// Gauge: users with publications, or a wish, at home here.
    users_present,
    /// Gauge: fingerprints of messages that are remembered, so that a second copy is known.
    fingerprints,
    /// Gauge: messages in the DELETE bin.
    messages_binned,
    /// Gauge: delivery reports owed.
    reports_owed,
    /// Gauge: states whose records lie in the log.
    states,
    /// Gauge: messages written off whose tombstone is not durable yet.
    tombstones_waiting,
    /// Gauge: connections, SIP and MSRP.
    connections,
    /// Connections out that `connect_allow` forbade.
    connects_forbidden,
    /// Malformed SIP.
    sip_faults,
    /// Malformed MSRP.
    msrp_faults,
    /// Refusals because a bound was reached.
    overloads,
    /// Gauge: SIP server transactions alive.
    sip_servers,
    /// Gauge: SIP client transactions alive.
    sip_clients,
    /// New SIP requests.
    sip_requests,
    /// Repeated SIP requests that ended in their transaction.
    sip_requests_repeated,
    /// SIP requests that came a second time by another way.
    sip_requests_merged,
    /// SIP requests refused because the table of transactions was full.
    sip_transactions_refused,
    /// SIP requests that were never answered by the use case they went to.
    sip_requests_unanswered,
    /// SIP requests of ours that timers sent again.
    sip_requests_resent,
    /// SIP responses of ours that were sent again.
    sip_responses_resent,
    /// SIP responses of ours that came too late or are forbidden.
    sip_responses_dropped,
    /// SIP responses, CANCELs that match nothing of ours.
    sip_strays,
    /// ACKs that matched no transaction: of 2xx, mostly.
    sip_acks_unmatched,
    /// SIP requests of ours that ended without an answer.
    sip_timeouts,
    /// SIP requests of ours that could not be read back.
    sip_unsendable,
    /// Groups of records handed to the disk, each with one sync.
    log_groups,
    /// Gauge: appended records whose use case waits for their sync.
    commits_waiting,
    /// Gauge: octets that wait for the disk or are being written.
    commit_octets_waiting,
    /// Gauge: 1 after a failed sync, for good.
    log_poisoned,
    /// Gauge: 1 while no segment can be prepared.
    disk_full,
    /// Records that failed their check when they were to be pushed.
    records_damaged,
    /// Octets of records copied forward out of segments that are to go.
    copied_octets,
    /// Segments had back: removed or recycled.
    segments_reclaimed,
    /// Gauge: octets of records that somebody needs, in the logs this core looks after.
    live_octets,
    /// Gauge: octets of segment files there.
    disk_octets,
    /// Gauge: segments that are written, or wait to be.
    segments_open,
    /// Gauge: segments that are written no more.
    segments_sealed,
    /// Gauge: of those, the ones being copied out of.
    segments_wanted,
}

/// Gauges of a core that no count carries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Gauges {
    /// Users with messages at home here.
    pub users: usize,
    /// Subscriptions to message summaries.
    pub subscriptions: usize,
    /// Pushes under way.
    pub pushes: usize,
    /// Sessions in which large messages come.
    pub larges: usize,
    /// Users with publications, or a wish.
    pub present: usize,
    /// Fingerprints that are remembered.
    pub fingerprints: usize,
    /// Messages in the DELETE bin.
    pub binned: usize,
    /// Delivery reports owed.
    pub reports: usize,
    /// States.
    pub states: usize,
    /// Messages written off whose tombstone is not durable yet.
    pub tombstones: usize,
    /// Connections.
    pub connections: usize,
    /// Records whose use case waits.
    pub commits: usize,
    /// Octets that wait for the disk.
    pub commit_octets: usize,
    /// Octets that the disk copied for pushes: what was not lent.
    pub octets_read: u64,
    /// Groups handed to the disk.
    pub groups: u64,
    /// The log takes nothing in any more.
    pub is_poisoned: bool,
    /// No segment is to be had.
    pub is_disk_full: bool,
    /// Of the segments.
    pub usage: Usage,
}

impl Reading {
    /// Brings together what the rooms count. Both kinds of counts are taken apart whole: whoever adds one is reminded here.
    pub fn of(deferred: &cx::Counts, sip: &endpoint::Counts, gauges: &Gauges) -> Reading {
        let cx::Counts {
            accepted,
            large_accepted,
            large_octets,
            large_discarded,
            duplicates,
            refused,
            publications,
            registrations,
            forwarded,
            pushes,
            pushes_completed,
            pushes_failed,
            pushes_in_line,
            delivered,
            push_octets_copied,
            rewrapped,
            rewrapped_octets,
            paged,
            unfit,
            expired,
            dropped,
            retrievals,
            deleted,
            over_quota,
            over_domain_quota,
            without_storage,
            deleted_by_operator,
            purged,
            reports_sent,
            reports_given_up,
            summaries,
            subscriptions_lost,
            sip_faults,
            msrp_faults,
            damaged,
            connects_forbidden,
            overloads,
            copied_octets,
            reclaimed,
        } = *deferred;
        let endpoint::Counts {
            servers,
            clients,
            requests,
            requests_repeated,
            requests_merged,
            requests_refused: full,
            cancels_stray,
            acks_unmatched,
            responses_dropped,
            requests_unanswered,
            responses_stray,
            requests_resent,
            responses_resent,
            timeouts,
            unsendable,
        } = *sip;
        Reading {
            messages_accepted: accepted,
            large_accepted,
            large_octets,
            large_discarded,
            large_sessions: gauges.larges as u64,
            messages_delivered: delivered,
            push_octets_copied: push_octets_copied.saturating_add(gauges.octets_read),
            messages_rewrapped: rewrapped,
            rewrapped_octets,
            messages_paged: paged,
            messages_unfit: unfit,
            messages_expired: expired,
            messages_dropped: dropped,
            retrievals,
            messages_deleted: deleted,
            messages_deleted_by_operator: deleted_by_operator,
            deposits_over_quota: over_quota,
            deposits_over_domain_quota: over_domain_quota,
            deposits_without_storage: without_storage,
            users_present: gauges.present as u64,
            fingerprints: gauges.fingerprints as u64,
            messages_binned: gauges.binned as u64,
            reports_owed: gauges.reports as u64,
            states: gauges.states as u64,
            tombstones_waiting: gauges.tombstones as u64,
            messages_purged: purged,
            reports_sent,
            reports_given_up,
            summaries,
            subscriptions: gauges.subscriptions as u64,
            subscriptions_lost,
            messages_duplicate: duplicates,
            requests_refused: refused,
            publications,
            registrations,
            forwarded,
            users_waiting: gauges.users as u64,
            pushes_started: pushes,
            pushes_completed,
            pushes_failed,
            pushes_in_line,
            pushes_running: gauges.pushes as u64,
            connections: gauges.connections as u64,
            connects_forbidden,
            sip_faults,
            msrp_faults,
            overloads,
            sip_servers: servers as u64,
            sip_clients: clients as u64,
            sip_requests: requests,
            sip_requests_repeated: requests_repeated,
            sip_requests_merged: requests_merged,
            sip_transactions_refused: full,
            sip_requests_unanswered: requests_unanswered,
            sip_requests_resent: requests_resent,
            sip_responses_resent: responses_resent,
            sip_responses_dropped: responses_dropped,
            sip_strays: responses_stray.saturating_add(cancels_stray),
            sip_acks_unmatched: acks_unmatched,
            sip_timeouts: timeouts,
            sip_unsendable: unsendable,
            log_groups: gauges.groups,
            commits_waiting: gauges.commits as u64,
            commit_octets_waiting: gauges.commit_octets as u64,
            log_poisoned: gauges.is_poisoned.into(),
            disk_full: gauges.is_disk_full.into(),
            records_damaged: damaged,
            copied_octets,
            segments_reclaimed: reclaimed,
            live_octets: gauges.usage.live_octets,
            disk_octets: gauges.usage.disk_octets,
            segments_open: gauges.usage.open,
            segments_sealed: gauges.usage.sealed,
            segments_wanted: gauges.usage.wanted,
        }
    }
}

/// Where one core's numbers lie for others. Padded: no two cores ever write the same cache line.
#[derive(Default, Debug)]
pub struct Meter(CachePadded<Cells>);

impl Meter {
    /// One that says zero.
    pub fn new() -> Arc<Meter> {
        Arc::default()
    }

    /// The numbers as of the last turn.
    pub fn reading(&self) -> Reading {
        self.0.load()
    }

    /// When the last turn was; tick 0 before the first.
    pub fn turned(&self) -> Tick {
        Tick(self.0.turned.load(Ordering::Relaxed))
    }
}

/// The writing end of a [`Meter`]; the core owns it.
#[derive(Debug)]
pub struct Publisher {
    meter: Arc<Meter>,
    published: Reading,
}

impl Publisher {
    /// Publishes to `meter`, which nobody else writes.
    pub fn new(meter: Arc<Meter>) -> Publisher {
        let published = meter.reading();
        Publisher { meter, published }
    }

    /// Stores that a turn ended at `now`, and what changed in it.
    pub fn publish(&mut self, now: Tick, reading: &Reading) {
        let cells = &self.meter.0;
        cells.turned.store(now.0, Ordering::Relaxed);
        cells.store_changed(&self.published, reading);
        self.published = *reading;
    }
}

impl Core {
    /// The same core, which publishes its numbers to `meter` from now on, at the end of each turn.
    pub fn metered(mut self, meter: Arc<Meter>) -> Core {
        self.meter = Some(Publisher::new(meter));
        self.publish();
        self
    }

    /// This core's numbers now.
    pub fn reading(&self) -> Reading {
        let log = &self.cx.log;
        let gauges = Gauges {
            users: self.users.len(),
            subscriptions: self.summaries.len(),
            pushes: self.pushes.len(),
            larges: self.larges.len(),
            present: self.presences.len(),
            fingerprints: self.users.fingerprints() + self.deposits.fingerprints(),
            binned: self.bin.len(),
            reports: self.reports.len(),
            states: self.cx.states.len(),
            tombstones: self.users.tombstones_waiting(),
            connections: self.connections(),
            commits: self.cx.commits.len(),
            commit_octets: log.waiting_octets(),
            octets_read: self.cx.loader.octets_read(),
            groups: log.group(),
            is_poisoned: log.is_poisoned(),
            is_disk_full: log.is_disk_full(),
            usage: self.reclaim.usage(),
        };
        Reading::of(&self.cx.counts, &self.cx.sip.counts(), &gauges)
    }

    /// Ends a turn for those who watch.
    pub(super) fn publish(&mut self) {
        // Nobody watches in the simulator.
        if self.meter.is_none() {
            return;
        }
        let (now, reading) = (self.cx.now.tick, self.reading());
        if let Some(meter) = &mut self.meter {
            meter.publish(now, &reading);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_read_and_nothing_else_is_written() {
        let meter = Meter::new();
        let mut publisher = Publisher::new(meter.clone());
        assert_eq!(meter.turned(), Tick(0));
        let first = Reading { messages_accepted: 3, pushes_running: 1, ..Reading::default() };
        publisher.publish(Tick(7), &first);
        assert_eq!((meter.reading(), meter.turned()), (first, Tick(7)));

        // A cell that did not change is not stored to: what somebody else wrote there stays.
        meter.0.messages_accepted.store(99, Ordering::Relaxed);
        publisher.publish(Tick(8), &Reading { pushes_running: 0, ..first });
        assert_eq!((meter.reading().messages_accepted, meter.reading().pushes_running), (99, 0));
        assert_eq!(meter.turned(), Tick(8));
    }

    #[test]
    fn no_two_meters_share_a_cache_line() {
        assert_eq!(align_of::<Meter>() % 64, 0);
        assert_eq!(size_of::<Meter>() % align_of::<Meter>(), 0);
    }

    #[test]
    fn every_count_of_the_rooms_reaches_the_reading() {
        let counts =
            cx::Counts { accepted: 1, delivered: 2, sip_faults: 3, push_octets_copied: 8, ..cx::Counts::default() };
        let sip = endpoint::Counts { servers: 4, responses_stray: 5, cancels_stray: 6, ..endpoint::Counts::default() };
        let gauges = Gauges { users: 7, is_poisoned: true, octets_read: 9, ..Gauges::default() };
        let reading = Reading::of(&counts, &sip, &gauges);
        assert_eq!((reading.messages_accepted, reading.messages_delivered, reading.sip_faults), (1, 2, 3));
        assert_eq!(reading.push_octets_copied, 17);
        assert_eq!((reading.sip_servers, reading.sip_strays), (4, 11));
        assert_eq!((reading.users_waiting, reading.log_poisoned, reading.disk_full), (7, 1, 0));
        let mut sum = reading;
        sum.add(&reading);
        assert_eq!((sum.messages_delivered, sum.users_waiting), (4, 14));
    }

    #[test]
    fn a_reader_on_another_thread_sees_counters_only_grow() {
        let meter = Meter::new();
        let watched = meter.clone();
        let reader = std::thread::spawn(move || {
            let mut last = 0;
            while last < 1_000 {
                let now = watched.reading().messages_accepted;
                assert!(now >= last);
                last = now;
            }
        });
        let mut publisher = Publisher::new(meter);
        for accepted in 1..=1_000 {
            publisher.publish(Tick(accepted), &Reading { messages_accepted: accepted, ..Reading::default() });
        }
        reader.join().unwrap();
    }
}
