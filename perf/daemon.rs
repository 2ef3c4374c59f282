//! The daemon under test: a process of its own on processors of its own, with a data directory on a real disk.
//!
//! Knows processes, files, ports and what the kernel and `/metrics` tell of the daemon. Knows no SIP and no MSRP.

use crate::outcome::{Failure, Request};
use crate::pin;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A start is a recovery: 10 million records take seconds, a hundred million a minute.
const READY: Duration = Duration::from_secs(120);
/// Descriptors that are asked for: what the kernel allows a process unless it was told otherwise (fs.nr_open).
const FILES: u64 = 1 << 20;
/// After SIGTERM; beyond it the process is killed. `stop_timeout` is 5 s.
const STOP: Duration = Duration::from_secs(8);

/// A temporary directory on a real disk. It goes with its owner.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Below `chosen`, or beside this program, which is the build's target directory.
    ///
    /// # Errors
    /// No directory can be made there, or it is memory: a sync there would be none.
    pub fn new(chosen: Option<&Path>, name: &str) -> Result<Scratch, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
        let below = chosen.map(Path::to_path_buf).or(beside).unwrap_or_else(std::env::temp_dir);
        let path = below.join(format!("deferd-perf-{name}-{}-{number}", std::process::id()));
        let fail = |error: io::Error| {
            Failure(format!("no directory {}: {error}; name another with --data-dir", path.display()))
        };
        fs::create_dir_all(&path).map_err(fail)?;
        let scratch = Scratch(path);
        if is_memory(&scratch.0) {
            return Err(Failure(format!(
                "{} is memory, where a sync means nothing; name a directory on a disk with --data-dir",
                scratch.0.display()
            )));
        }
        Ok(scratch)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_memory(path: &Path) -> bool {
    let Ok(name) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: a statfs is plain numbers; all zero is a value of it.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the name ends with 0 and both outlive the call.
    let got = unsafe { libc::statfs(name.as_ptr(), &mut about) };
    got == 0 && matches!(about.f_type, libc::TMPFS_MAGIC | 0x8584_58f6)
}

/// The daemon: `explicit`, or the `deferd` beside this program, which is built first when cargo runs us, so that it is never stale.
///
/// # Errors
/// There is none, or it does not build.
pub fn locate(explicit: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = explicit {
        return match path.is_file() {
            true => Ok(path.to_path_buf()),
            false => Err(Failure(format!("{} is no file; name the daemon's binary with --daemon", path.display()))),
        };
    }
    let exe = std::env::current_exe()
        .map_err(|error| Failure(format!("this program cannot find itself: {error}; name the daemon with --daemon")))?;
    let sibling = exe.with_file_name("deferd");
    if let (Some(cargo), Some(manifest)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
        let root = Path::new(&manifest).parent().unwrap_or(Path::new("."));
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "deferd", "--bin", "deferd"])
            .current_dir(root)
            .stdout(Stdio::null());
        // target/<profile>/deferd-perf: the daemon is to be built as we were.
        let folder = exe.parent().unwrap_or(Path::new("."));
        match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => {}
            Some(profile) => {
                build.args(["--profile", profile]);
            }
        }
        if let Some(target) = folder.parent() {
            build.arg("--target-dir").arg(target);
        }
        match build.status() {
            Ok(status) if status.success() => {}
            _ => return Err(Failure("the daemon does not build; see above, or name a binary with --daemon".into())),
        }
    }
    match sibling.is_file() {
        true => Ok(sibling),
        false => Err(Failure(format!(
            "there is no {}; run `cargo build --release`, or name a binary with --daemon",
            sibling.display()
        ))),
    }
}

/// A running daemon. It does not outlive its owner, nor this process.
#[derive(Debug)]
pub struct Daemon {
    /// SIP, both transports.
    pub sip: SocketAddr,
    /// `/metrics`.
    pub http: SocketAddr,
    /// From its start until it accepted.
    pub ready_after: Duration,
    child: Child,
    executable: PathBuf,
    cpus: Vec<usize>,
    scratch: Scratch,
}

impl Daemon {
    /// Where its data lies, and room beside it.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Starts a daemon with an empty data directory and waits until it is ready. `cpus` are its processors; empty: all.
    ///
    /// # Errors
    /// With what the daemon said last.
    pub fn start(request: &Request, cpus: &[usize]) -> Result<Daemon, Failure> {
        raise_descriptors();
        let scratch = Scratch::new(request.data_dir.as_deref(), request.scenario)?;
        let no_port = |error: io::Error| Failure(format!("no free port on the loopback: {error}; end what holds them"));
        let sip = free_port(1).map_err(no_port)?;
        let msrp = free_port(request.cores).map_err(no_port)?;
        let http = free_port(1).map_err(no_port)?;
        let text = configuration(request, &scratch.path().join("data"), sip, msrp, http)?;
        fs::write(scratch.path().join("deferd.toml"), text)
            .map_err(|error| Failure(format!("{}: {error}; make room, or use --data-dir", scratch.path().display())))?;
        let executable = request.daemon.clone();
        let (child, ready_after) = spawn(&executable, &scratch, cpus, sip)?;
        Ok(Daemon { sip, http, ready_after, child, executable, cpus: cpus.to_vec(), scratch })
    }

    /// SIGKILL, until nothing of the process is left.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The kernel takes a killed process's ring apart after the process is gone, and its sockets live until then: whoever connects
        // now finds a listener behind which nobody is.
        let until = Instant::now() + STOP;
        while TcpStream::connect_timeout(&self.sip, Duration::from_millis(200)).is_ok() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGKILL, and a start with what lies on the disk: nothing that the process knew is left.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.kill();
        let (child, ready_after) = spawn(&self.executable, &self.scratch, &self.cpus, self.sip)?;
        (self.child, self.ready_after) = (child, ready_after);
        Ok(())
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps what it must not lose.
    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The failure, with what the daemon said last.
    pub fn with_log(&mut self, failure: Failure) -> Failure {
        let alive = match self.child.try_wait() {
            Ok(Some(status)) => format!("the daemon has ended: {status}"),
            _ => "the daemon is running".to_owned(),
        };
        Failure(format!("{failure}\n  {alive}; its log ends:\n{}", log_end(&self.scratch)))
    }

    /// Its counters and gauges, summed over its cores.
    pub fn metrics(&self) -> Result<Metrics, Failure> {
        let fail = |error: io::Error| Failure(format!("http://{}/metrics: {error}; has the daemon ended?", self.http));
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(5)).map_err(fail)?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(fail)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: perf\r\nConnection: close\r\n\r\n").map_err(fail)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(fail)?;
        Ok(Metrics::read(&text))
    }

    /// Resident octets.
    pub fn rss_octets(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        // SAFETY: sysconf reads a constant of the system.
        pages * u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    }

    /// Time on a processor so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11);
        let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
        let ticks = ticks() + ticks();
        // SAFETY: sysconf reads a constant of the system.
        let a_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
        Duration::from_micros(ticks * 1_000_000 / a_second)
    }

    /// Counts the daemon's system calls from now on.
    pub fn count_syscalls(&self) -> SyscallCount {
        SyscallCount::start(self.pid(), &self.scratch)
    }

    /// SIGTERM and its end, SIGKILL after [`STOP`].
    pub fn stop(&mut self) {
        if let Ok(pid) = i32::try_from(self.pid()) {
            // SAFETY: a signal to a child that has not been waited for: the number is still its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn spawn(executable: &Path, scratch: &Scratch, cpus: &[usize], sip: SocketAddr) -> Result<(Child, Duration), Failure> {
    let fail = |error: io::Error| {
        Failure(format!("{} does not start: {error}; name another with --daemon", executable.display()))
    };
    let log = fs::OpenOptions::new().create(true).append(true).open(scratch.path().join("log")).map_err(fail)?;
    let log_too = log.try_clone().map_err(fail)?;
    let mut command = Command::new(executable);
    command.arg("run").arg("--config").arg(scratch.path().join("deferd.toml"));
    command.stdin(Stdio::null()).stdout(log).stderr(log_too);
    let cpus = cpus.to_vec();
    // SAFETY: between fork and exec only sched_setaffinity and prctl are called, on memory that was made before: both are safe in a
    // forked child.
    unsafe {
        command.pre_exec(move || {
            pin::pin(&cpus);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let began = Instant::now();
    let mut child = command.spawn().map_err(fail)?;
    while began.elapsed() < READY {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Failure(format!(
                "the daemon ended instead of starting: {status}; its log ends:\n{}",
                log_end(scratch)
            )));
        }
        if TcpStream::connect_timeout(&sip, Duration::from_millis(200)).is_ok() {
            return Ok((child, began.elapsed()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(Failure(format!("the daemon was not ready within {} s; its log ends:\n{}", READY.as_secs(), log_end(scratch))))
}

fn log_end(scratch: &Scratch) -> String {
    let text = fs::read(scratch.path().join("log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(12);
    lines.get(from..).unwrap_or_default().iter().map(|line| format!("    {line}\n")).collect()
}

/// The smallest configuration, and the lines the user added: `table.key = value` each.
fn configuration(
    request: &Request,
    data: &Path,
    sip: SocketAddr,
    msrp: SocketAddr,
    http: SocketAddr,
) -> Result<String, Failure> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |table: &str, line: String| tables.entry(table.to_owned()).or_default().push(line);
    add("server", "hostname = \"im.example.org\"".into());
    add("server", "domains = [\"example.org\"]".into());
    add("server", format!("data_dir = '{}'", data.display()));
    add("server", format!("cores = {}", request.cores));
    add("sip", format!("listen = [\"udp:{sip}\", \"tcp:{sip}\"]"));
    add("msrp", format!("listen = [\"{msrp}\"]"));
    add("http", format!("listen = \"{http}\""));
    for line in &request.config {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let Some((table, key)) = key.trim().rsplit_once('.') else {
            return Err(Failure(format!(
                "--config {line}: write TABLE.KEY = VALUE, for instance msrp.window_messages = 64"
            )));
        };
        add(table, format!("{key} = {}", value.trim()));
    }
    Ok(tables.iter().map(|(table, lines)| format!("[{table}]\n{}\n\n", lines.join("\n"))).collect())
}

/// A loopback port of five digits that is free for UDP and TCP, with `count - 1` free neighbours above it.
pub fn free_port(count: usize) -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..64 {
        let first = TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port();
        let free = |port: u16| {
            TcpListener::bind((LOOPBACK, port))
                .and_then(|held| UdpSocket::bind((LOOPBACK, port)).map(|too| (held, too)))
        };
        let more = u16::try_from(count).unwrap_or(u16::MAX);
        let held: io::Result<Vec<_>> = (0..more).map(|more| free(first.saturating_add(more))).collect();
        match held {
            Ok(_) if first >= 10_000 => return Ok(SocketAddr::new(LOOPBACK, first)),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// As many descriptors as we may have: ten thousand clients are ten thousand sockets, here and in the daemon, which inherits it.
pub fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is ours and outlives both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            // Root may have more than it was given.
            let most = libc::rlimit { rlim_cur: FILES.max(limit.rlim_max), rlim_max: FILES.max(limit.rlim_max) };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &most) != 0 {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            }
        }
    }
}

/// What `/metrics` said, by name without labels.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn read(text: &str) -> Metrics {
        let mut sums = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let name = name.split('{').next().unwrap_or_default();
            if let Ok(value) = value.parse::<f64>() {
                *sums.entry(name.to_owned()).or_insert(0.0) += value;
            }
        }
        Metrics(sums)
    }

    /// All cores together; 0 for a name that nobody knows.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |value| *value as u64)
    }
}

/// A count of the daemon's system calls, by `perf stat` over the kernel's tracepoint: it costs the daemon next to nothing.
#[derive(Debug)]
pub struct SyscallCount {
    perf: Option<Child>,
    found: PathBuf,
}

impl SyscallCount {
    fn start(pid: u32, scratch: &Scratch) -> SyscallCount {
        let found = scratch.path().join("syscalls");
        let perf = Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string(), "-o"])
            .arg(&found)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok();
        if perf.is_some() {
            // It attaches to every thread and says nothing when it has: a tenth of a second is ten times what it needs.
            thread::sleep(Duration::from_millis(100));
        }
        SyscallCount { perf, found }
    }

    /// Ends the count; `None` where this machine has no `perf` or forbids it.
    pub fn end(mut self) -> Option<u64> {
        let mut perf = self.perf.take()?;
        if let Ok(pid) = i32::try_from(perf.id()) {
            // SAFETY: a signal to a child that has not been waited for.
            unsafe { libc::kill(pid, libc::SIGINT) };
        }
        perf.wait().ok()?;
        let text = fs::read_to_string(&self.found).ok()?;
        text.lines().find(|line| line.contains("raw_syscalls"))?.split(',').next()?.parse().ok()
    }
}

impl Drop for SyscallCount {
    fn drop(&mut self) {
        if let Some(perf) = &mut self.perf {
            let _ = perf.kill();
            let _ = perf.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_cores() {
        let text = "# HELP a b\n# TYPE deferd_log_groups counter\ndeferd_log_groups_total{core=\"0\"} 3\n\
                    deferd_log_groups_total{core=\"1\"} 4\ndeferd_disk_full{core=\"0\"} 0\n# EOF\n";
        let metrics = Metrics::read(text);
        assert_eq!((metrics.of("deferd_log_groups_total"), metrics.of("deferd_disk_full"), metrics.of("x")), (7, 0, 0));
    }

    #[test]
    fn a_scratch_directory_goes_with_its_owner() {
        let scratch = Scratch::new(None, "test").unwrap();
        let path = scratch.path().to_path_buf();
        fs::write(path.join("file"), "octets").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn memory_is_no_disk() {
        if Path::new("/dev/shm").is_dir() {
            assert!(is_memory(Path::new("/dev/shm")));
        }
    }
}
