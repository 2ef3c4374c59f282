//! `deferd-perf`: what deferd does in a second on this machine, beside what the machine could do.
//!
//! The daemon under test is a process of its own, as users run it: its sockets, its syncs. It shares no code with this program.
//!
//! ```sh
//! cargo run --release --bin deferd-perf -- push --runs 5 --html push.html     # a table, and a report to look at
//! cargo run --release --bin deferd-perf -- push --runs 5 --json > before.json
//! cargo run --release --bin deferd-perf -- compare before.json after.json     # what changed beyond the noise
//! cargo run --release --bin deferd-perf -- profile push                       # where the daemon's time goes
//! cargo run --release --bin deferd-perf -- gate                               # instructions against the parent commit
//! ```
//!
//! # Rooms
//!
//! | what | where |
//! |---|---|
//! | the command line, what it asks for, what comes back | [`cli`], [`outcome`], [`scenarios`] |
//! | the daemon under test, and the processors | [`daemon`], [`pin`] |
//! | load | [`deposit`], [`datagrams`], [`sip`], [`poll`], [`capture`] |
//! | clients | [`clients`], [`population`], [`line`](mod@line), [`dialog`], [`msrp`] |
//! | scenarios and their limits | [`push`], [`limit_push`], [`storm`], [`limit_storm`], [`ingest`], [`limit_ingest`], [`limit_disk`] |
//! | scenarios of much that is stored | [`recovery`], [`memory`], [`scale`], [`expiry`], [`reclaim`], [`idle`], [`stock`] |
//! | several runs made into one, the goals, the place and the day | [`runs`], [`figures`], [`machine`], [`report`] |
//! | what a person or a script reads | [`progress`], [`table`], [`json`], [`html`], [`record`], [`compare`] |
//! | where time and instructions go | [`profile`], [`gate`] |
//!
//! Exit codes: 0 after figures, 1 where there are none or something got worse, 2 for a wrong command line.

mod capture;
mod cli;
mod clients;
mod compare;
mod daemon;
mod datagrams;
mod deposit;
mod dialog;
mod expiry;
mod figures;
mod gate;
mod html;
mod idle;
mod ingest;
mod json;
mod limit_disk;
mod limit_ingest;
mod limit_log;
mod limit_push;
mod limit_storm;
mod line;
mod machine;
mod memory;
mod msrp;
mod outcome;
mod pin;
mod plot;
mod poll;
mod population;
mod profile;
mod progress;
mod push;
mod reclaim;
mod record;
mod recovery;
mod report;
mod runs;
mod scale;
mod scenarios;
mod sip;
mod stock;
mod storm;
mod table;

use clap::Parser;
use cli::{Cli, Command, Options};
use machine::Machine;
use outcome::Failure;
use report::Report;
use std::path::Path;
use std::process::ExitCode;
use table::Paint;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Some((scenario, options)) = command.scenario() {
        return ended(measured(scenario, options));
    }
    match command {
        Command::Compare { before, after } => compared(&before, &after),
        Command::Profile { scenario } => {
            let (name, options) = scenario.scenario();
            let located = daemon::locate(options.options.daemon.as_deref());
            ended(located.and_then(|daemon| profile::run(options, &options.options.request(name, daemon))))
        }
        Command::Gate(options) => match gate::run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(failure) => ended(Err(failure)),
        },
        _ => {
            scenarios::SCENARIOS.iter().for_each(|scenario| println!("{:10} {}", scenario.name, scenario.measures));
            ExitCode::SUCCESS
        }
    }
}

fn ended(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("deferd-perf: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a scenario as often as was asked, and shows what came of it.
fn measured(scenario: &'static str, options: &Options) -> Result<(), Failure> {
    let daemon = daemon::locate(options.daemon.as_deref())?;
    let request = options.request(scenario, daemon);
    let machine = Machine::read(options.data_dir.as_deref().or(request.daemon.parent()).unwrap_or(Path::new(".")));
    let bar = progress::Bar::new();
    let mut outcomes = Vec::new();
    for run in 1..=options.runs {
        bar.run(run, options.runs);
        outcomes.push(scenarios::run(&request, &bar)?);
    }
    bar.end();
    let Some(runs) = runs::combine(outcomes) else { return Ok(()) };
    let report = Report::new(request, runs, machine);
    let object = json::object(&report).map_err(|keys| {
        Failure(format!("{scenario} owes the keys {}; this is a defect, report it", keys.join(", ")))
    })?;
    if let Some(path) = &options.html {
        let written = std::fs::write(path, html::page(&report));
        written.map_err(|error| Failure(format!("{}: {error}; name another file with --html", path.display())))?;
    }
    if options.record {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        eprintln!("recorded: {}", record::write(&report, &object, &arguments)?.display());
    }
    if options.json {
        eprint!("{}", table::table(&report, Paint::of(&std::io::stderr())));
        println!("{object}");
    } else {
        print!("{}", table::table(&report, Paint::of(&std::io::stdout())));
    }
    Ok(())
}

/// Compares two results. Exit code 1 says that something got worse, 2 that the files cannot be compared.
fn compared(before: &Path, after: &Path) -> ExitCode {
    let read = |path: &Path| match std::fs::read_to_string(path).map(|text| compare::parse(&text)) {
        Ok(Some(result)) => Ok(result),
        Ok(None) => Err(format!("{}: no result of deferd-perf; write one with --json", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    let compared = read(before).and_then(|old| {
        let new = read(after)?;
        match compare::compare(&old, &new) {
            Ok(lines) => Ok((lines, compare::warnings(&old, &new))),
            Err(compare::Unlike::NoFigures) => Err("no figures in a result; write both with --json".into()),
            Err(compare::Unlike::Scenarios(old, new)) => Err(format!("{old} and {new} are different scenarios")),
        }
    });
    match compared {
        Err(message) => {
            eprintln!("deferd-perf: {message}");
            ExitCode::from(2)
        }
        Ok((lines, warnings)) => {
            print!("{}", compare::table(&lines, Paint::of(&std::io::stdout())));
            for warning in warnings {
                println!("note: {warning}");
            }
            if compare::has_regression(&lines) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}
