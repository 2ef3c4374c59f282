//! The daemon's life, from configuration to exit code.
//!
//! ```text
//!   kernel? ─▶ lock data_dir ─▶ bind (probe) ─▶ recover ─▶ cores ─▶ listen ─▶ open, READY ─▶ SIGTERM ─▶ Stop ─▶ ended
//!     1             2               2             1          1                              at most stop_timeout   0
//! ```
//! Crash-only: nothing has to be done at the end. `Stop` is a courtesy to peers, and after `stop_timeout` the process leaves
//! whoever has not finished.

use super::admin::{self, Admin};
use super::birth::{self, BirthFault};
use super::config::{Config, Mode};
use super::health::Health;
use super::operator::Operator;
use super::socket::ControlSocket;
use super::stored::Stored;
use super::xcap::Xcap;
use super::xdms::Link;
use crate::base::net::CoreId;
use crate::engine::meter::Meter;
use crate::uring::bus;
use crate::uring::check::{self, KernelFault};
use crate::uring::clock::Clock;
use crate::uring::data_dir::{DataDir, DirFault};
use crate::uring::host::{self, Signals};
use crate::uring::listen::{self, BindFault};
use crate::uring::mail::Mail;
use crate::uring::rest;
use crate::uring::socket::Tuning;
use crate::uring::thread::{self, CoreEvent, CoreSpec};
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Why the daemon does not run.
#[derive(Debug)]
pub enum RunFault {
    /// The host gives us no ring.
    Kernel(KernelFault),
    /// The data directory is not ours.
    DataDir(DirFault),
    /// An address is not ours.
    Bind(BindFault),
    /// What is stored cannot be read.
    Recovery(BirthFault),
    /// A core could not start.
    Core(CoreId, io::Error),
    /// The host refuses something else.
    Host(&'static str, io::Error),
}

impl RunFault {
    /// 2 for an occupied address or data directory, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunFault::DataDir(DirFault::Occupied { .. }) | RunFault::Bind(_) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for RunFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunFault::Kernel(fault) => fault.fmt(f),
            RunFault::DataDir(fault) => fault.fmt(f),
            RunFault::Bind(fault) => fault.fmt(f),
            RunFault::Recovery(fault) => fault.fmt(f),
            RunFault::Core(core, error) => write!(f, "core {} cannot start: {}", core.0, check::told(error)),
            RunFault::Host(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for RunFault {}

/// Runs the daemon with `config`, read from `path`, until SIGTERM or SIGINT. SIGHUP reads the file again.
pub fn run(config: &Config, path: &Path) -> ExitCode {
    super::log::start();
    abort_on_panic();
    match live(config, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tracing::error!("{fault}");
            ExitCode::from(fault.exit_code())
        }
    }
}

/// The executor would swallow a task's panic and go on with half a core. A panic is our own mistake: the process dies, is started
/// again and recovers.
fn abort_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        std::process::abort();
    }));
}

fn live(config: &Config, path: &Path) -> Result<(), RunFault> {
    let started = Instant::now();
    let signals = Signals::hold().map_err(|error| RunFault::Host("hold signals back", error))?;
    check::kernel().map_err(RunFault::Kernel)?;
    bus::told().map_err(|error| RunFault::Host("watch for bad pages", error))?;
    if let Err(error) = host::small_pages() {
        tracing::debug!(%error, "cannot do without huge pages");
    }
    rest::keep_for_a_minute();
    let files = host::raise_descriptors();
    let occupied = |fault: &DirFault| matches!(fault, DirFault::Occupied { .. });
    let data = Arc::new(once_free(|| DataDir::open(&config.server.data_dir), occupied).map_err(RunFault::DataDir)?);
    let cores = match config.server.cores {
        0 => u16::try_from(host::default_cores()).unwrap_or(u16::MAX),
        cores => cores,
    };
    let occupied = |fault: &BindFault| fault.error.kind() == io::ErrorKind::AddrInUse;
    let bound =
        once_free(|| listen::bind(&config.sip.listen, &config.msrp.listen, cores), occupied).map_err(RunFault::Bind)?;
    let http = config.http.listen.map(|at| once_free(|| admin::Bound::bind(at), occupied));
    let http = http.transpose().map_err(RunFault::Bind)?;
    let mut setups = Vec::new();
    let connections = connections(config.limits.connections, files, cores);
    for (core, msrp) in bound.msrp.iter().enumerate() {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| RunFault::Host("draw random numbers", io::Error::other(error.to_string())))?;
        let core = CoreId(u16::try_from(core).unwrap_or(u16::MAX));
        let mut setup = config.setup(core, cores, &bound.sip, msrp, seed);
        setup.limits.connections = connections;
        setups.push(setup);
    }
    let clock = Clock::start();
    let (minds, directory) = birth::recover(&data, setups, clock.now()).map_err(RunFault::Recovery)?;
    let (events, news) = mpsc::channel();
    let mail = Mail::new(cores, config.limits.letters, config.limits.transactions);
    let tuning = Tuning { unsent_octets: config.limits.send_octets };
    let meters: Vec<Arc<Meter>> = minds.iter().map(|_| Meter::new()).collect();
    let health = Health::new(meters.clone());
    health.watch(Stored::new(directory, data.path().to_path_buf()));
    let http_addr = http.as_ref().map(admin::Bound::addr);
    let gates = listen::Gates::of(&bound).map_err(|error| RunFault::Host("hold the listening sockets", error))?;
    let cpus = host::processors();
    for (number, ((mind, sockets), meter)) in minds.into_iter().zip(bound.cores).zip(meters).enumerate() {
        let core = CoreId(u16::try_from(number).unwrap_or(u16::MAX));
        // With more threads than processors the scheduler knows better than a pin.
        let cpu = cpus.get(number).copied().filter(|_| usize::from(cores) <= cpus.len());
        let (mail, data) = (mail.clone(), data.clone());
        let mind = move || mind().metered(meter);
        let spec = CoreSpec { core, cpu, clock, mail, sockets, data, tuning, mind };
        thread::spawn(spec, events.clone()).map_err(|error| RunFault::Core(core, error))?;
    }
    drop(events);
    await_cores(&news, cores)?;
    // Every core is there and none has begun: what goes wrong from here to `open_all` ends a daemon that has taken nothing in, and
    // the first connection to whatever port is one to a daemon that is whole.
    gates.open_msrp().map_err(|error| RunFault::Host("listen for MSRP", error))?;
    let link = match config.xdms.mode {
        Mode::Builtin => None,
        Mode::External => Some(Link::new(mail.clone(), cores, &config.xdms, &config.policy.hostname)),
    };
    let operator = Arc::new(Operator::new(mail.clone(), cores, health.clone(), path.to_path_buf(), config.clone()));
    if let Some(http) = http {
        let admin = Admin::new(health.clone(), clock, mail.clone(), cores, &config.policy.hostname);
        let trusted = config.http.trusted.clone();
        let admin = match &link {
            None => {
                admin.with_xcap(Xcap::new(mail.clone(), cores, trusted, operator.names(), config.xdms.max_messages))
            }
            Some(link) => admin.also(link.scrape()),
        };
        let listening = http.listen().map_err(RunFault::Bind)?;
        admin.start(listening).map_err(|error| RunFault::Host("start the thread for HTTP", error))?;
    }
    control(config, &operator);
    operator.watch().map_err(|error| RunFault::Host("start the thread that looks for the oldest message", error))?;
    gates.open_sip().map_err(|error| RunFault::Host("listen for SIP", error))?;
    mail.open_all();
    if let Some(link) = link {
        link.start().map_err(|error| RunFault::Host("start the thread for the XDMS", error))?;
    }
    health.ready(clock.now().tick);
    let addresses = |list: &[std::net::SocketAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let sip = bound.sip.iter().map(|to| format!("{:?}:{}", to.transport, to.addr).to_lowercase()).collect::<Vec<_>>();
    let msrp = bound.msrp.iter().map(|list| addresses(list)).collect::<Vec<_>>();
    tracing::info!(
        cores,
        files,
        sip = %sip.join(" "),
        msrp = %msrp.join(" "),
        http = %http_addr.map_or_else(|| "off".to_owned(), |addr| addr.to_string()),
        data_dir = %data.path().display(),
        after_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "ready"
    );
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    let signal = loop {
        match signals.wait().map_err(|error| RunFault::Host("wait for a signal", error))? {
            host::SIGHUP => match operator.reload() {
                Ok(outcome) => tracing::info!(%outcome, "SIGHUP: the configuration was read again"),
                Err(error) => tracing::error!(%error, "SIGHUP: the configuration stays as it was"),
            },
            signal => break signal,
        }
    };
    health.stopping();
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
    tracing::info!(signal, timeout_s = config.server.stop_timeout.as_secs_f64(), "stopping");
    mail.stop_all();
    let left = await_end(&news, cores, config.server.stop_timeout);
    if left == 0 {
        tracing::info!("stopped");
    } else {
        tracing::info!(cores = left, "stopped; some sessions did not end in time");
    }
    Ok(())
}

/// Opens the control socket. A daemon without one serves its users all the same.
fn control(config: &Config, operator: &Arc<Operator>) {
    let path = &config.server.control_socket;
    let served = ControlSocket::bind(path).and_then(|socket| socket.serve(operator.clone()));
    if let Err(error) = served {
        tracing::error!(%error, path = %path.display(), "no control socket, deferctl cannot ask; set server.control_socket to a short path that the daemon's user may write");
    }
}

/// How long something occupied may still become free. The kernel takes a killed process's ring apart after the process is gone,
/// and its sockets live until then: milliseconds, with many operations under way tens of them. Who restarts us at once should
/// not be told that we are still running.
const RELEASE: Duration = Duration::from_secs(1);

/// Tries until it succeeds, fails for another reason, or was occupied for [`RELEASE`].
fn once_free<T, E>(mut attempt: impl FnMut() -> Result<T, E>, occupied: impl Fn(&E) -> bool) -> Result<T, E> {
    let until = Instant::now() + RELEASE;
    loop {
        match attempt() {
            Err(fault) if occupied(&fault) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// Connections that a core may have: `limits.connections`, or what the limit of open files leaves it. An eighth of them is for segments,
/// 64 are for what else a core and the process hold open. Beyond it connections are refused, which clients understand, instead of
/// left in the kernel's queue, and the log never lacks a descriptor.
fn connections(configured: usize, files: u64, cores: u16) -> usize {
    if files == 0 {
        // Unknown: then running out is waited out.
        return configured;
    }
    let each = usize::try_from(files / u64::from(cores.max(1))).unwrap_or(usize::MAX);
    let most = each.saturating_sub(each / 8).saturating_sub(64).max(16);
    if most < configured {
        tracing::warn!(
            files,
            connections = most,
            configured,
            "the limit of open files leaves each core fewer connections than limits.connections; raise LimitNOFILE"
        );
    }
    most.min(configured)
}

/// Waits until every core is there.
fn await_cores(news: &Receiver<CoreEvent>, cores: u16) -> Result<(), RunFault> {
    for _ in 0..cores {
        match news.recv() {
            Ok(CoreEvent::Started(_)) => {}
            Ok(CoreEvent::Failed(core, error)) => return Err(RunFault::Core(core, error)),
            Ok(CoreEvent::Ended(core)) => {
                return Err(RunFault::Core(core, io::Error::other("it ended before it was told to")));
            }
            Err(_) => return Err(RunFault::Host("hear of the cores", io::ErrorKind::BrokenPipe.into())),
        }
    }
    Ok(())
}

/// Waits until every core has ended, at most `timeout`; how many have not.
fn await_end(news: &Receiver<CoreEvent>, cores: u16, timeout: Duration) -> u16 {
    let until = Instant::now() + timeout;
    let mut left = cores;
    while left > 0 {
        match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(CoreEvent::Started(_)) => {}
            Ok(CoreEvent::Ended(_) | CoreEvent::Failed(..)) => left -= 1,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_take_the_descriptors_that_the_log_needs() {
        assert_eq!(connections(65_536, 1 << 20, 2), 65_536);
        assert_eq!(connections(65_536, 1_024, 2), 512 - 64 - 64);
        assert_eq!(connections(10, 1_024, 2), 10);
        assert_eq!(connections(65_536, 256, 64), 16);
        assert_eq!(connections(65_536, 0, 2), 65_536);
    }
}
