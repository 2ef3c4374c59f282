//! im: a small instant messaging client for a terminal. It tries every procedure of a running daemon, one command each.
//!
//! It stands where a phone and the SIP core in front of deferd stand together: it says who it is in `P-Asserted-Identity` and in
//! `X-3GPP-Asserted-Identity`, so the daemon has to trust its address (loopback is trusted unless configured otherwise).
//!
//! SIP and MSRP are read with a few lines of its own, and the daemon's writers are used for nothing but a date: what both sides
//! misread in the same way would look right. For documents (multipart, CPIM, XML) it uses the readers of `deferd::wire`; that they read
//! right is proven elsewhere.

mod erase;
mod letter;
mod line;
mod list;
mod msrp;
mod online;
mod output;
mod registration;
mod retrieve;
mod send;
mod session;
mod sip;
mod summary;

use clap::{Args, Parser, Subcommand, ValueEnum};
use output::Output;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A client for people: writes, reads, lists and deletes deferred messages, as whoever you say you are.
///
/// Exit codes: 0 it was done; 1 it was refused, nothing was there, or nobody answered; 2 the command line is wrong.
#[derive(Parser)]
#[command(name = "im", version, about)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Who asks, and whom.
#[derive(Args)]
struct Common {
    /// Who you are: sip:bob@example.org, or bob@example.org.
    #[arg(long = "as", value_name = "USER", global = true)]
    user: Option<String>,
    /// Where the daemon takes SIP: udp:HOST:PORT or tcp:HOST:PORT.
    #[arg(long, value_name = "ADDRESS", default_value = "tcp:127.0.0.1:5060", global = true)]
    server: String,
    /// Where the daemon takes HTTP.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", global = true)]
    http: String,
    /// Host of Deferred@, Delete@ and of the messages' ids; your own domain unless said.
    #[arg(long, value_name = "HOST", global = true)]
    service: Option<String>,
    /// Longest wait for one answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    timeout: u64,
    /// One JSON object a line instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write to somebody.
    Send(send::Letter),
    /// Be there, and take what is pushed.
    Online {
        /// Publish the service settings too: whether what waits may be pushed. The daemon remembers it when you are gone.
        #[arg(long, value_enum, value_name = "on|off")]
        offline_delivery: Option<Switch>,
        /// REGISTER instead of publishing presence.
        #[arg(long)]
        register: bool,
        /// End after one push.
        #[arg(long)]
        once: bool,
        /// End after so many seconds; with --once, 10 unless said.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
        /// Write every message's content into a file of its own in this directory.
        #[arg(long, value_name = "DIR")]
        save: Option<PathBuf>,
    },
    /// What waits, as the deferred-list document says.
    List,
    /// Fetch what waits: all, or these messages.
    Retrieve {
        #[command(flatten)]
        which: Which,
        /// Write every message's content into a file of its own in this directory.
        #[arg(long, value_name = "DIR")]
        save: Option<PathBuf>,
    },
    /// Delete what waits: all, or these messages.
    Delete {
        #[command(flatten)]
        which: Which,
    },
    /// Subscribe to the summary of what waits.
    Summary {
        /// Only how it is now.
        #[arg(long)]
        once: bool,
        /// End after so many seconds.
        #[arg(long, value_name = "SECONDS", conflicts_with = "once")]
        wait: Option<u64>,
    },
}

/// Which messages are meant.
#[derive(Args)]
struct Which {
    /// Their ids, as `im list` shows them.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// Everything that waits.
    #[arg(long)]
    all: bool,
}

/// A setting of two values.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    /// The command line cannot be meant: exit code 2.
    Usage(String),
    /// It was refused, or nobody answered: exit code 1.
    Failed(String),
}

impl Failure {
    fn failed(what: impl Into<String>) -> Failure {
        Failure::Failed(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Usage(what) | Failure::Failed(what)) = self;
        f.write_str(what)
    }
}

/// What was had, or why not.
type Said<T> = Result<T, Failure>;

/// Who asks, and whom, read.
struct Person {
    /// `sip:bob@example.org`.
    aor: String,
    /// Host of `Deferred@` and `Delete@`.
    service: String,
    server: String,
    http: String,
    timeout: Duration,
}

impl Common {
    fn person(&self) -> Said<Person> {
        let user = self.user.as_deref().ok_or_else(|| Failure::Usage("who are you? say --as USER".into()))?;
        let aor = address(user)?;
        let domain = aor.rsplit('@').next().unwrap_or_default();
        Ok(Person {
            service: self.service.clone().unwrap_or_else(|| domain.to_owned()),
            aor,
            server: self.server.clone(),
            http: self.http.clone(),
            timeout: Duration::from_secs(self.timeout),
        })
    }
}

impl Person {
    /// The retrieval function.
    fn deferred(&self) -> String {
        format!("sip:Deferred@{}", self.service)
    }

    /// The URI of a stored message. Ids without a host get the service's.
    fn message(&self, id: &str) -> Said<String> {
        if id.contains('@') { address(id) } else { address(&format!("{id}@{}", self.service)) }
    }
}

/// A SIP URI of what a person wrote: `bob@example.org` is enough.
fn address(text: &str) -> Said<String> {
    let rest = text.strip_prefix("sip:").unwrap_or(text);
    let good = |octet: u8| octet.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&octet);
    match rest.split_once('@') {
        Some((name, host)) if !name.is_empty() && !host.is_empty() && !host.contains('@') && rest.bytes().all(good) => {
            Ok(format!("sip:{rest}"))
        }
        _ => Err(Failure::Usage(format!("{text:?} is no address; write sip:user@domain"))),
    }
}

fn run(cli: &Cli, output: &mut Output) -> Said<()> {
    let person = cli.common.person()?;
    match &cli.command {
        Command::Send(letter) => send::send(&person, letter, output),
        Command::Online { offline_delivery, register, once, wait, save } => {
            let wait = wait.or(once.then_some(10)).map(Duration::from_secs);
            let delivery = offline_delivery.map(|switch| switch == Switch::On);
            let manner = online::Manner { delivery, register: *register, once: *once, wait };
            output.save(save.as_deref())?;
            online::online(&person, &manner, output)
        }
        Command::List => list::list(&person, output),
        Command::Retrieve { which, save } => {
            output.save(save.as_deref())?;
            retrieve::retrieve(&person, &which.ids, output)
        }
        Command::Delete { which } => erase::erase(&person, &which.ids, output),
        Command::Summary { once, wait } => summary::summary(&person, *once, wait.map(Duration::from_secs), output),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(cli.common.json);
    match run(&cli, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failed(&failure);
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_their_scheme() {
        assert_eq!(address("bob@example.org"), Ok("sip:bob@example.org".into()));
        assert_eq!(address("sip:bob@example.org"), Ok("sip:bob@example.org".into()));
        for bad in ["bob", "@example.org", "bob@", "b ob@example.org", "a@b@c", "bob@example.org\r\nX: y", "<sip:a@b>"]
        {
            assert!(matches!(address(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["im", "delete"]).is_err(), "which?");
        assert!(Cli::try_parse_from(["im", "delete", "--all", "x"]).is_err(), "all, or some");
        assert!(Cli::try_parse_from(["im", "send", "bob@example.org"]).is_err(), "what?");
        assert!(Cli::try_parse_from(["im", "send", "--large", "file", "bob@example.org", "--as", "a@b"]).is_ok());
    }
}
