//! What is asked of a scenario and what it gives back. Knows nothing of how a scenario works or of how its figures are shown.

use hdrhistogram::Histogram;
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;

/// What carries the SIP of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    Tcp,
    Udp,
}

/// Who opens the MSRP connection of a push, seen from the client (RFC 6135).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Setup {
    /// The client connects.
    Active,
    /// The daemon connects.
    Passive,
    /// Every other client connects.
    Mixed,
}

/// One run of one scenario.
#[derive(Clone, Debug)]
pub struct Request {
    pub scenario: &'static str,
    /// Cores of the daemon.
    pub cores: usize,
    /// Messages in all; without it the scenario chooses.
    pub messages: Option<u64>,
    pub users: Option<u64>,
    /// Octets of a message's text.
    pub size: usize,
    /// SIP connections of the load.
    pub connections: usize,
    pub transport: Transport,
    pub setup: Setup,
    /// Share of the clients that read slowly, 0 to 1.
    pub slow: f64,
    /// Share of the clients that never acknowledge, 0 to 1.
    pub silent: f64,
    /// Arrivals a second, whatever the answers do (open loop); without it the scenario chooses.
    pub rate: Option<f64>,
    /// How long the measured phase lasts; without it the scenario chooses.
    pub seconds: Option<f64>,
    /// The daemon's binary.
    pub daemon: PathBuf,
    /// Where temporary data directories are made; without it below the build's target directory, which is a real disk.
    pub data_dir: Option<PathBuf>,
    /// Daemon and load on processors of their own.
    pub pin: bool,
    /// Deposits alternate over the users, as in life; else user after user.
    pub interleave: bool,
    /// Lines of configuration to add, e.g. `limits.users = 1000000`.
    pub config: Vec<String>,
}

/// What one run found.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub scenario: &'static str,
    pub cores: usize,
    pub messages: u64,
    pub size: usize,
    /// Length of the measured phase.
    pub seconds: f64,
    /// Every deposit was synced before its 202.
    pub durable: bool,
    pub errors: u64,
    /// The scenario's keys as the contract names them, then others.
    pub keys: Vec<(&'static str, Value)>,
    pub series: Vec<Series>,
    pub latencies: Vec<Latency>,
    /// What a reader of the figures has to know, a sentence each.
    pub notes: Vec<String>,
}

/// A value over time.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub unit: &'static str,
    /// Seconds since the measured phase began, and the value.
    pub points: Vec<(f64, f64)>,
}

/// A distribution of times, in microseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    pub name: &'static str,
    pub histogram_us: Histogram<u64>,
}

/// Who is told how far a scenario is.
pub trait Progress: Sync {
    /// A phase begins, of `total` steps; 0 where nobody knows how many.
    fn phase(&self, name: &str, total: u64);
    /// Steps of the phase that are done, not an increment.
    fn done(&self, done: u64);
}

/// Why there are no figures: a sentence for a person, which ends with the remedy.
#[derive(Clone, Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
