//! What the daemon says, on stderr: one line an event, filtered by `RUST_LOG`, in colour on a terminal only.
//!
//! A line that cannot be written is lost, and nothing else: whoever reads our stderr may have gone, and a log file may lie on the
//! disk that is full. Left to itself the subscriber would complain about that on stderr, which panics, which ends the daemon.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Begins logging; `info` and above where `RUST_LOG` says nothing. A second call changes nothing.
pub fn start() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false)
        .try_init();
}
