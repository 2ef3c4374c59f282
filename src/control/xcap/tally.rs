//! What the built-in XDMS counts.

use hyper::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The statuses that are told apart; the last stands for all others.
const STATUSES: [u16; 9] = [200, 304, 400, 403, 404, 405, 412, 503, 500];

/// The numbers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    answers: [AtomicU64; STATUSES.len()],
    made: AtomicU64,
    cut: AtomicU64,
}

impl Tally {
    /// A request was answered.
    pub(super) fn count(&self, status: StatusCode) {
        let at = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        if let Some(answers) = self.answers.get(at) {
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A document was made.
    pub(super) fn made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// A document was given that lacks messages.
    pub(super) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }
}

/// The numbers, for a scrape.
#[derive(Debug)]
pub(super) struct Scrape(pub(super) Arc<Tally>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tally = &self.0;
        let help = "XCAP requests by the status of their answer. 403 that grow: a proxy that is not in http.trusted, or asserts no identity. 503: cores that do not answer in time.";
        let mut family = encoder.encode_descriptor("deferd_xcap_requests", help, None, MetricType::Counter)?;
        for (status, answers) in STATUSES.iter().zip(&tally.answers) {
            let answers = ConstCounter::new(answers.load(Ordering::Relaxed));
            answers.encode(family.encode_family(&[("status", u64::from(*status))])?)?;
        }
        let help = "Metadata documents made from the store. Each reads the records of its user's messages; clients that ask with If-None-Match cost none.";
        let made = encoder.encode_descriptor("deferd_xcap_documents", help, None, MetricType::Counter)?;
        ConstCounter::new(tally.made.load(Ordering::Relaxed)).encode(made)?;
        let help = "Metadata documents given without all messages: raise xdms.max_messages where users have more.";
        let cut = encoder.encode_descriptor("deferd_xcap_documents_cut", help, None, MetricType::Counter)?;
        ConstCounter::new(tally.cut.load(Ordering::Relaxed)).encode(cut)
    }
}
