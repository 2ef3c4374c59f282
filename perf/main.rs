//! `deferd-perf`: what deferd does in a second on this machine, beside what the machine could do.
//!
//! The daemon under test is a process of its own, as users run it: its sockets, its syncs. It shares no code with this program.

mod cli;
mod outcome;
mod scenarios;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

/// Nobody watches.
struct Silent;

impl outcome::Progress for Silent {
    fn phase(&self, _name: &str, _total: u64) {}
    fn done(&self, _done: u64) {}
}

fn main() -> ExitCode {
    let (name, options) = match Cli::parse().command {
        Command::Push(options) => ("push", options),
        Command::Storm(options) => ("storm", options),
        Command::Ingest(options) => ("ingest", options),
    };
    let daemon = options.daemon.clone().unwrap_or_else(|| "target/release/deferd".into());
    match scenarios::run(&options.request(name, daemon), &Silent) {
        Ok(outcome) => {
            println!(
                "{}: {} messages, {:.3} s, {:?}",
                outcome.scenario, outcome.messages, outcome.seconds, outcome.keys
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("deferd-perf: {failure}");
            ExitCode::FAILURE
        }
    }
}
