//! An XDMS elsewhere that is kept up to date (12.2.2.8): whole documents, written when they have changed. On a thread of its own that
//! no core waits for.
//!
//! Knows who has changed, in which order they are looked after, how fast, and what to do about an XDMS that refuses. How one user's
//! document is brought there says `write`, how octets travel `client`.
//!
//! ```text
//!   cores ──changes, every 50 ms──▶ queue ──paced──▶ writers ──▶ XDMS
//!                                     ▲                  │ 5xx, silence: again, later and later
//!                                     └──────────────────┘
//! ```
//! A user who changes while their document is being written is looked after once more. What is lost here with a crash is found again:
//! after a start everybody is looked after (`deferred::metadata::changes`).

mod client;
mod queue;
mod tally;
mod write;

use super::config::{Root, Xdms};
use crate::base::net::CoreId;
use crate::deferred::inquiry::{Answer, Question};
use crate::uring::host;
use crate::uring::mail::Mail;
use client::Client;
use prometheus_client::collector::Collector;
use queue::Queue;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tally::{Scrape, Tally};
use tokio::sync::Notify;
use write::{Tags, Writer};

/// How often cores are asked who has changed: what happens to a user within this is written once.
const COALESCE: Duration = Duration::from_millis(50);

/// What the writers share.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something became due.
    due: Notify,
    tags: Mutex<Tags>,
    tally: Arc<Tally>,
}

/// The link to the XDMS.
#[derive(Debug)]
pub struct Link {
    mail: Arc<Mail>,
    cores: u16,
    config: Xdms,
    hostname: String,
    shared: Arc<Shared>,
}

impl Link {
    /// For the daemon whose `cores` are behind `mail`, in whose name `hostname` asks.
    pub fn new(mail: Arc<Mail>, cores: u16, config: &Xdms, hostname: &str) -> Link {
        let queue = Queue::new(config.rate);
        let shared =
            Shared { queue: Mutex::new(queue), due: Notify::new(), tags: Mutex::default(), tally: Arc::default() };
        Link { mail, cores, config: config.clone(), hostname: hostname.to_owned(), shared: Arc::new(shared) }
    }

    /// Its numbers.
    pub fn scrape(&self) -> Box<dyn Collector> {
        Box::new(Scrape(self.shared.tally.clone()))
    }

    /// Writes on a thread of its own until the process ends.
    ///
    /// # Errors
    /// The thread or its runtime cannot be had.
    pub fn start(self) -> io::Result<()> {
        let Some(root) = self.config.root.clone() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("xdms".into()).spawn(move || {
            let _ = host::unpin();
            runtime.block_on(self.run(root));
        })?;
        Ok(())
    }

    async fn run(self, root: Root) {
        for _ in 0..self.config.connections {
            let writer = Writer {
                mail: self.mail.clone(),
                cores: self.cores,
                most: self.config.max_messages,
                client: Client::new(&root, self.config.timeout, &self.hostname),
                shared: self.shared.clone(),
            };
            tokio::spawn(work(writer));
        }
        let link = Arc::new(self);
        let cores: Vec<_> = (0..link.cores).map(|core| tokio::spawn(link.clone().listen(CoreId(core)))).collect();
        for core in cores {
            let _ = core.await;
        }
    }

    /// Asks one core again and again.
    async fn listen(self: Arc<Link>, core: CoreId) {
        let mut ticks = tokio::time::interval(COALESCE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.collect(core).await;
        }
    }

    /// Takes the changes of one core, as long as there is room for them; else they stay there.
    async fn collect(&self, core: CoreId) {
        while self.shared.queue().has_room() {
            // However long it takes: who is in an answer is not in the core's own list any more.
            let Ok(Answer::Changes(owners)) = self.mail.ask_later(core, Question::Changes).await else { return };
            if owners.is_empty() {
                return;
            }
            let now = Instant::now();
            let mut queue = self.shared.queue();
            owners.into_iter().for_each(|owner| queue.changed(owner, now));
            self.shared.tally.waiting(queue.len(), queue.since());
            self.shared.due.notify_waiters();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after one user after the other.
async fn work(mut writer: Writer) {
    let shared = writer.shared.clone();
    loop {
        let next = shared.queue().next(Instant::now());
        let (owner, since) = match next {
            Ok(owner) => (owner, Instant::now()),
            Err(wait) => {
                // Woken early when something changes.
                let _ = tokio::time::timeout(wait.unwrap_or(COALESCE * 20), shared.due.notified()).await;
                continue;
            }
        };
        let outcome = writer.write(&owner).await;
        shared.tally.wrote(outcome, since.elapsed());
        let mut queue = shared.queue();
        if let Some(news) = queue.ended(owner, outcome, Instant::now()) {
            match news {
                queue::News::Down => {
                    tracing::warn!("the XDMS does not answer, or answers 5xx: documents wait for it; see xdms.root")
                }
                queue::News::Up => tracing::info!("the XDMS answers again"),
            }
        }
        shared.tally.waiting(queue.len(), queue.since());
    }
}
