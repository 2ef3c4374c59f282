//! deferctl: the operator's tool. It asks a running daemon over its control socket, and reads data directories with the daemon's own
//! reader.

mod ask;
mod backup;
mod explain;
mod files;
mod logs;
mod print;
mod rehearsal;
mod repair;
mod verify;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Looks into deferd: what waits for whom and why, and what lies in its logs.
#[derive(Parser)]
#[command(name = "deferctl", version, about)]
struct Cli {
    #[command(flatten)]
    daemon: Daemon,
    /// One JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Which daemon, or which files.
#[derive(Args)]
struct Daemon {
    /// The daemon's configuration: names its socket and its data directory.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The control socket, where no configuration says it.
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// The data directory, where no configuration says it.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Is the daemon there, and in which phase of its life?
    Status,
    /// What waits for a user.
    Queue {
        /// sip:user@domain, or user@domain.
        user: String,
        /// At most so many messages; all without it.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Users with most messages.
    Users {
        /// So many of them.
        #[arg(long, default_value_t = 20)]
        top: u64,
        /// Ordered by octets instead of messages.
        #[arg(long)]
        octets: bool,
    },
    /// One message.
    Show {
        /// Its id.
        id: String,
        /// Its owner; without it all users are searched.
        #[arg(long)]
        user: Option<String>,
        /// All of the body.
        #[arg(long)]
        all: bool,
    },
    /// What is waiting, what was tried last, when next.
    Why {
        /// A message's id, or a user.
        what: String,
    },
    /// Push to a user now, as a PUBLISH would.
    Push {
        /// To whom.
        user: String,
    },
    /// Delete a message as its owner could: into the DELETE bin where there is one, with a report to its sender.
    Delete {
        /// Its id.
        id: String,
        /// Its owner; without it all users are searched.
        #[arg(long)]
        user: Option<String>,
        /// Its sender does not hear of it, even if they asked for a report.
        #[arg(long)]
        no_report: bool,
    },
    /// Answer 503 to deposits; pushes go on.
    Drain {
        /// Take deposits again.
        #[arg(long)]
        off: bool,
    },
    /// Read the configuration again.
    Reload,
    /// The logs on the disk, without a daemon or beside one.
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Check every octet of a data directory that no daemon uses.
    Verify,
    /// What keeps a daemon from starting, and what can be done about it; --yes does it. No daemon may be running.
    Repair {
        /// Take segments in that the manifest does not list and that were made here; without it they are set aside.
        #[arg(long)]
        adopt: bool,
        /// Do it; without it, only say it.
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
        /// Only say it, which is what happens anyway.
        #[arg(long)]
        dry_run: bool,
    },
    /// Copy everything that is stored into a new directory, while the daemon works or while none does.
    Backup {
        /// A directory that is empty, or not there yet.
        to: PathBuf,
    },
    /// Make a data directory of a backup; no daemon may use it yet.
    Restore {
        /// What `backup` made.
        from: PathBuf,
        /// A directory that is empty, or not there yet.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Restore the rest of a backup whose records are damaged.
        #[arg(long)]
        accept_damage: bool,
    },
}

#[derive(Subcommand)]
enum LogCommand {
    /// One line a record.
    List {
        /// Only this log.
        #[arg(long)]
        log: Option<u16>,
        /// Only this user's.
        #[arg(long)]
        user: Option<String>,
    },
    /// One record whole, by id or by SEGMENT:OFFSET.
    Show {
        /// Which.
        what: String,
    },
    /// A message's life: taken in, committed, copied, gone.
    Explain {
        /// Its id.
        id: String,
    },
    /// Messages that are not gone, each into a file of its own.
    Export {
        /// A new directory for them.
        to: PathBuf,
        /// Only this user's.
        #[arg(long)]
        user: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Log { command } => files::log(&cli.daemon, cli.json, &command),
        Command::Repair { adopt, yes, .. } => repair::repair(&cli.daemon, cli.json, adopt, yes),
        Command::Backup { to } => backup::backup(&cli.daemon, cli.json, &to),
        Command::Restore { from, to, accept_damage } => backup::restore(cli.json, &from, &to, accept_damage),
        Command::Verify => verify::verify(&cli.daemon, cli.json),
        command => ask::run(&cli.daemon, cli.json, &command),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("deferctl: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Daemon {
    fn config(&self) -> Result<Option<deferd::control::config::Config>, String> {
        let Some(path) = &self.config else { return Ok(None) };
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        match deferd::control::config::Config::parse(&text) {
            Ok(config) => Ok(Some(config)),
            Err(_) => Err(format!("{shown} has errors; 'deferd check --config {shown}' lists them")),
        }
    }

    /// Where the daemon listens.
    fn socket(&self) -> Result<PathBuf, String> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        match self.config()? {
            Some(config) => Ok(config.server.control_socket),
            None => Ok(self.data_dir()?.join("control.sock")),
        }
    }

    /// Where the logs lie: as said, else as configured, else where the default has them.
    fn data_dir(&self) -> Result<PathBuf, String> {
        if let Some(dir) = &self.data_dir {
            return Ok(dir.clone());
        }
        Ok(self.config()?.map_or_else(|| PathBuf::from("/var/lib/deferd"), |config| config.server.data_dir))
    }
}
