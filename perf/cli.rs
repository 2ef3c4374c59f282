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
    /// A start with 10 million stored messages, until ready, the files dropped from the page cache
    Recovery(Options),
    /// Memory of the daemon per stored message and per user with a queue
    Memory(Options),
    /// Push and ingest with 10 thousand, 1 million and --messages stored messages
    Scale(Options),
    /// How soon messages are gone whose time is over, a hundred thousand a second; --seconds is their time to live
    Expiry(Options),
    /// How much later deposits are answered while segments are had back, --rate a second for --seconds
    Reclaim(Options),
    /// Processor time of the daemon with 100,000 users stored and no traffic
    Idle(Options),
    /// Says what changed between two results beyond the noise; exit 1 if something got worse
    Compare {
        /// Result before: a file whose last line is what --json printed
        before: PathBuf,
        /// Result after
        after: PathBuf,
    },
    /// Where the daemon's time goes in a scenario: a flamegraph and the top symbols
    Profile {
        #[command(subcommand)]
        scenario: Profiled,
    },
    /// Instructions of the engine turn and the framing against an earlier revision; exit 1 above +3 %
    Gate(GateOptions),
    /// Names the scenarios
    List,
}

impl Command {
    /// The scenario and its options, if it is one.
    pub fn scenario(&self) -> Option<(&'static str, &Options)> {
        Some(match self {
            Command::Push(options) => ("push", options),
            Command::Storm(options) => ("storm", options),
            Command::Ingest(options) => ("ingest", options),
            Command::Recovery(options) => ("recovery", options),
            Command::Memory(options) => ("memory", options),
            Command::Scale(options) => ("scale", options),
            Command::Expiry(options) => ("expiry", options),
            Command::Reclaim(options) => ("reclaim", options),
            Command::Idle(options) => ("idle", options),
            Command::Compare { .. } | Command::Profile { .. } | Command::Gate(_) | Command::List => return None,
        })
    }
}

/// Scenarios with a phase of load that a profile can be taken of.
#[derive(Debug, Subcommand)]
pub enum Profiled {
    /// Deep queues, pushed from the log
    Push(ProfileOptions),
    /// Everyone comes back at once
    Storm(ProfileOptions),
    /// Durable SIP MESSAGEs
    Ingest(ProfileOptions),
}

impl Profiled {
    /// The scenario and its options.
    pub fn scenario(&self) -> (&'static str, &ProfileOptions) {
        match self {
            Profiled::Push(options) => ("push", options),
            Profiled::Storm(options) => ("storm", options),
            Profiled::Ingest(options) => ("ingest", options),
        }
    }
}

/// How a profile is taken.
#[derive(Args, Clone, Debug)]
pub struct ProfileOptions {
    /// The flamegraph [default: flamegraph-SCENARIO.svg]
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Samples a second
    #[arg(long, default_value_t = 1999, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub frequency: u32,
    #[command(flatten)]
    pub options: Options,
}

/// How instructions are compared.
#[derive(Args, Clone, Debug)]
pub struct GateOptions {
    /// Revision to compare with
    #[arg(long, default_value = "HEAD~1", value_name = "REV")]
    pub base: String,
    /// Growth that fails, in percent
    #[arg(long, default_value_t = 3.0, value_parser = positive)]
    pub allowed: f64,
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use clap::CommandFactory;

    /// What `scenario` without any option asks for.
    pub(crate) fn request(scenario: &'static str) -> Request {
        let cli = Cli::try_parse_from(["deferd-perf", scenario]).unwrap();
        let (_, options) = cli.command.scenario().unwrap();
        options.request(scenario, "deferd".into())
    }

    #[test]
    fn the_command_line_is_sound_and_names_every_scenario() {
        Cli::command().debug_assert();
        for scenario in crate::scenarios::SCENARIOS {
            let cli = Cli::try_parse_from(["deferd-perf", scenario.name]).unwrap();
            assert_eq!(cli.command.scenario().unwrap().0, scenario.name);
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let request = request("push");
        assert_eq!((request.cores, request.size, request.connections), (1, 1024, 64));
        assert_eq!((request.messages, request.transport, request.setup), (None, Transport::Tcp, Setup::Active));
        assert!(request.pin && request.interleave);
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        let table: [&[&str]; 8] = [
            &["push", "--cores", "0"],
            &["push", "--runs", "0"],
            &["push", "--messages", "0"],
            &["push", "--slow", "1.5"],
            &["ingest", "--rate", "-3"],
            &["ingest", "--rate", "inf"],
            &["ingest", "--interleave", "perhaps"],
            &["nothing"],
        ];
        for arguments in table {
            let error = Cli::try_parse_from([&["deferd-perf"], arguments].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
