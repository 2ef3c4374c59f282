//! The command line of `deferd-perf`. Knows names, defaults and bounds of options, nothing of what they do.

use crate::outcome::{Request, Setup, Transport};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Benchmarks a real deferd process, and the limits of this machine in the same run.
#[derive(Debug, Parser)]
#[command(name = "deferd-perf", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deep queues: users with 1,000 messages each, pushed from the log
    Push(Options),
    /// Everyone comes back: users with 3 messages each PUBLISH at once
    Storm(Options),
    /// Durable SIP MESSAGEs over TCP, answered after the commit
    Ingest(Options),
}

/// How a scenario is run and how its figures are shown.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// One JSON object on the last line of stdout; all else goes to stderr
    #[arg(long)]
    pub json: bool,
    /// Writes a report with plots, one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Runs; figures are medians, and the spread is shown
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub runs: u32,
    /// Cores of the daemon
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub cores: usize,
    /// Messages in all [default: what the scenario chooses]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// Users [default: what the scenario chooses]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub users: Option<u64>,
    /// Octets of a message's text
    #[arg(long, default_value_t = 1024, value_name = "OCTETS", value_parser = at_least_one)]
    pub size: usize,
    /// SIP connections of the load
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    pub connections: usize,
    /// What carries the SIP of the load
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub transport: Transport,
    /// Who opens the MSRP connection, seen from the client
    #[arg(long, value_enum, default_value_t = Setup::Active)]
    pub setup: Setup,
    /// Share of the clients that read slowly, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub slow: f64,
    /// Share of the clients that never acknowledge, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub silent: f64,
    /// Arrivals a second, whatever the answers do (open loop) [default: half of the measured peak]
    #[arg(long, value_parser = positive)]
    pub rate: Option<f64>,
    /// Length of the measured phase [default: what the scenario chooses]
    #[arg(long, value_parser = positive)]
    pub seconds: Option<f64>,
    /// The daemon's binary [default: the deferd beside this program, built first when cargo runs it]
    #[arg(long, value_name = "PATH")]
    pub daemon: Option<PathBuf>,
    /// Where temporary data directories are made: a real disk [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Does not tie daemon and load to processors of their own
    #[arg(long)]
    pub no_pin: bool,
    /// Whether deposits alternate over the users, as in life, or come user after user
    #[arg(long, value_name = "yes|no", default_value = "yes", action = clap::ArgAction::Set, value_parser = yes_or_no)]
    pub interleave: bool,
    /// A line for the daemon's configuration, e.g. 'msrp.window_messages = 64'; may be repeated
    #[arg(long = "config", value_name = "LINE")]
    pub config: Vec<String>,
    /// Adds the figures, with the date and this machine's description, to perf/record
    #[arg(long)]
    pub record: bool,
}

impl Options {
    /// One run of `scenario` against the binary `daemon`.
    pub fn request(&self, scenario: &'static str, daemon: PathBuf) -> Request {
        Request {
            scenario,
            cores: self.cores,
            messages: self.messages,
            users: self.users,
            size: self.size,
            connections: self.connections,
            transport: self.transport,
            setup: self.setup,
            slow: self.slow,
            silent: self.silent,
            rate: self.rate,
            seconds: self.seconds,
            daemon,
            data_dir: self.data_dir.clone(),
            pin: !self.no_pin,
            interleave: self.interleave,
            config: self.config.clone(),
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be from 0 to 1".into())
}

fn positive(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| *number > 0.0 && number.is_finite()).ok_or_else(|| "must be more than 0".into())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("must be yes or no".into()),
    }
}
