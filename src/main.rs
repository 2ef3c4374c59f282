//! The daemon's entry: commands and exit codes.

use clap::{Args, Parser, Subcommand};
use deferd::control::config::Config;
use deferd::control::daemon;
use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: deferd::base::allocator::Allocator = deferd::base::allocator::Allocator;

/// The OMA SIMPLE IM Deferred Messaging Function: stores messages for users who are offline and pushes them when they are back.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run in the foreground; log to stderr; SIGTERM or SIGINT ends it.
    Run(ConfigFile),
    /// Show the main job on this machine: messages wait, a user comes back, everything is pushed and compared.
    Demo,
    /// Check a configuration and print every error with its line; exit 0 or 2.
    Check(ConfigFile),
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Bad configuration, occupied address or data directory.
const BAD_CONFIG: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(file) => match load(&file) {
            Ok(config) => daemon::run(&config, &file.config),
            Err(code) => code,
        },
        Command::Demo => deferd::demo::run(),
        Command::Check(file) => match load(&file) {
            Ok(_) => {
                println!("{}: ok", file.config.display());
                ExitCode::SUCCESS
            }
            Err(code) => code,
        },
    }
}

/// Reads the configuration; what is wrong goes to stderr, a line each.
fn load(file: &ConfigFile) -> Result<Config, ExitCode> {
    let path = file.config.display();
    let text = std::fs::read_to_string(&file.config).map_err(|error| {
        eprintln!("deferd: cannot read the configuration {path}: {error}; name the file with --config FILE");
        ExitCode::from(BAD_CONFIG)
    })?;
    Config::parse(&text).map_err(|problems| {
        for problem in problems {
            eprintln!("{path}:{}: {}", problem.line, problem.what);
        }
        ExitCode::from(BAD_CONFIG)
    })
}
