//! What the link to an XDMS counts.

use super::queue::Outcome;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The numbers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    written: AtomicU64,
    unchanged: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    silent: AtomicU64,
    conflicts: AtomicU64,
    cut: AtomicU64,
    busy_us: AtomicU64,
    waiting: AtomicU64,
    since: Mutex<Option<Instant>>,
}

impl Tally {
    /// An attempt is over.
    pub(super) fn wrote(&self, outcome: Outcome, took: Duration) {
        let counter = match outcome {
            Outcome::Written => &self.written,
            Outcome::Unchanged => &self.unchanged,
            Outcome::Refused => &self.refused,
            Outcome::Failed => &self.failed,
            Outcome::Silent => &self.silent,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.busy_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Somebody else had written a document.
    pub(super) fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    /// A document was brought that lacks messages.
    pub(super) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// So many users wait, one of them since then.
    pub(super) fn waiting(&self, users: usize, since: Option<Instant>) {
        self.waiting.store(users as u64, Ordering::Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// The numbers, for a scrape.
#[derive(Debug)]
pub(super) struct Scrape(pub(super) Arc<Tally>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tally = &self.0;
        let help = "Documents brought to the XDMS, by what became of it. refused: it does not want their content or this daemon; the log says why. failed: 5xx. silent: no connection or no answer.";
        let mut family = encoder.encode_descriptor("deferd_xdms_attempts", help, None, MetricType::Counter)?;
        for (outcome, counter) in [
            ("written", &tally.written),
            ("unchanged", &tally.unchanged),
            ("refused", &tally.refused),
            ("failed", &tally.failed),
            ("silent", &tally.silent),
        ] {
            let counter = ConstCounter::new(counter.load(Ordering::Relaxed));
            counter.encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        let help = "Times that the XDMS had another version of a document than the one last written (412). A few after a restart are normal; steadily: somebody else writes there.";
        let line = encoder.encode_descriptor("deferd_xdms_conflicts", help, None, MetricType::Counter)?;
        ConstCounter::new(tally.conflicts.load(Ordering::Relaxed)).encode(line)?;
        let help = "Metadata documents brought without all messages: raise xdms.max_messages where users have more.";
        let line = encoder.encode_descriptor("deferd_xdms_documents_cut", help, None, MetricType::Counter)?;
        ConstCounter::new(tally.cut.load(Ordering::Relaxed)).encode(line)?;
        let help = "Time spent on documents, all writers together. Per attempt: how long the XDMS takes.";
        let busy = tally.busy_us.load(Ordering::Relaxed) as f64 / 1e6;
        let line = encoder.encode_descriptor("deferd_xdms_busy", help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(busy).encode(line)?;
        let help = "Users whose document waits to be brought to the XDMS. Everybody after a start; growing otherwise: raise xdms.rate or xdms.connections, or look at the XDMS.";
        let line = encoder.encode_descriptor("deferd_xdms_users_waiting", help, None, MetricType::Gauge)?;
        ConstGauge::new(tally.waiting.load(Ordering::Relaxed)).encode(line)?;
        let help = "How long the user who waits longest has waited for it.";
        let since = *tally.since.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let line = encoder.encode_descriptor("deferd_xdms_behind", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(behind).encode(line)
    }
}
