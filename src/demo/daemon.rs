//! A daemon of our own: this very executable, started with a temporary directory and free loopback ports.
//!
//! It knows processes, files and ports. Whatever happens, the child does not outlive the demo.

use super::agents::{Failure, PATIENCE};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How often a port is drawn anew when a neighbour of it is taken.
const DRAWS: usize = 64;

/// The child and its belongings.
pub(super) struct Daemon {
    child: Child,
    folder: PathBuf,
    sip: SocketAddr,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `executable` with `cores` threads and waits until its first TCP port accepts: that means ready. `name` makes its
    /// temporary directory its own.
    pub(super) fn start(executable: &Path, cores: u16, name: &str) -> Result<Daemon, Failure> {
        let plain = |what: &str, error: io::Error| Failure::new(what, error.to_string());
        let folder = std::env::temp_dir().join(format!("deferd-demo-{name}"));
        fs::create_dir_all(folder.join("data")).map_err(|error| plain("a temporary directory", error))?;
        let sip = free_port(1).map_err(|error| plain("a free port for SIP", error))?;
        let msrp = free_port(cores).map_err(|error| plain("free ports for MSRP", error))?;
        let http = free_port(1).map_err(|error| plain("a free port for HTTP", error))?;
        let config = folder.join("deferd.toml");
        fs::write(&config, configuration(&folder.join("data"), cores, sip, msrp, http))
            .map_err(|error| plain("a configuration file", error))?;
        let log = fs::File::create(folder.join("log")).map_err(|error| plain("a log file", error))?;
        let log_too = log.try_clone().map_err(|error| plain("a log file", error))?;
        let child = Command::new(executable)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(|error| plain("the daemon as a child process", error))?;
        let mut daemon = Daemon { child, folder, sip, ended: None };
        match daemon.wait_until_ready() {
            Ok(()) => Ok(daemon),
            Err(failure) => Err(daemon.with_log(failure)),
        }
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.status() {
                return Err(Failure::new("a daemon that is ready", format!("it ended: {status}")));
            }
            if TcpStream::connect_timeout(&self.sip, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(Failure::new("a daemon that is ready within 10 s", format!("nobody accepts at {}", self.sip)))
    }

    /// Where it takes SIP, UDP and TCP.
    pub(super) fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps what it must not lose.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// How many files its data is in, and their octets.
    pub(super) fn data_size(&self) -> (u64, u64) {
        size_of(&self.data())
    }

    fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// The failure, with what the daemon itself said last.
    pub(super) fn with_log(&mut self, failure: Failure) -> Failure {
        let log = self.folder.join("log");
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n    ");
        let alive = match self.status() {
            Some(status) => format!("the daemon has ended: {status}"),
            None => "the daemon is running".to_owned(),
        };
        let tail = if tail.is_empty() { "(nothing)" } else { &tail };
        Failure { came: format!("{}\n  {alive}; the end of {}:\n    {tail}", failure.came, log.display()), ..failure }
    }

    /// SIGTERM, and what became of it. It has `stop_timeout` and a little more.
    pub(super) fn stop(&mut self) -> Result<Duration, Failure> {
        let began = Instant::now();
        // The shell's own `kill`: std has no signal but SIGKILL, and a container may have no kill(1).
        let sent = Command::new("sh").arg("-c").arg("kill -TERM \"$0\"").arg(self.pid().to_string()).status();
        if !sent.is_ok_and(|status| status.success()) {
            return Err(Failure::new("SIGTERM to be sent", "sh could not"));
        }
        while began.elapsed() < PATIENCE {
            match self.status() {
                Some(status) if status.code() == Some(0) => return Ok(began.elapsed()),
                Some(status) => return Err(Failure::new("exit code 0 after SIGTERM", status.to_string())),
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
        Err(Failure::new("an end within 10 s of SIGTERM", "it is still running"))
    }

    /// Takes its directory away; kept after a failure, for whoever looks into it.
    pub(super) fn clean(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.status().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The smallest configuration for the demo's people.
fn configuration(data: &Path, cores: u16, sip: SocketAddr, msrp: SocketAddr, http: SocketAddr) -> String {
    // A TOML literal string takes every path but one with a quote, which a temporary directory does not have.
    format!(
        "[server]\nhostname = \"im.example.org\"\ndomains = [\"example.org\"]\ndata_dir = '{}'\ncores = {cores}\n\n\
         [sip]\nlisten = [\"udp:{sip}\", \"tcp:{sip}\"]\n\n[msrp]\nlisten = [\"{msrp}\"]\n\n[http]\nlisten = \"{http}\"\n",
        data.display()
    )
}

/// A loopback port that is free for UDP and TCP, with `count - 1` free neighbours above it.
fn free_port(count: u16) -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..DRAWS {
        let first = TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port();
        let free = |port: u16| {
            TcpListener::bind((LOOPBACK, port))
                .and_then(|held| UdpSocket::bind((LOOPBACK, port)).map(|too| (held, too)))
        };
        let held: io::Result<Vec<_>> = (0..count).map(|more| free(first.saturating_add(more))).collect();
        match held {
            Ok(_) => return Ok(SocketAddr::new(LOOPBACK, first)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Files below `folder`, and their octets.
fn size_of(folder: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(folder) else { return (0, 0) };
    entries.flatten().fold((0, 0), |(files, octets), entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => {
            let (more, deeper) = size_of(&entry.path());
            (files + more, octets + deeper)
        }
        Ok(meta) => (files + 1, octets + meta.len()),
        Err(_) => (files, octets),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_become_ready_says_why() {
        let failure = match Daemon::start(Path::new("/bin/false"), 1, &format!("test-{}", std::process::id())) {
            Ok(_) => panic!("/bin/false is no daemon"),
            Err(failure) => failure,
        };
        assert_eq!(failure.expected, "a daemon that is ready");
        assert!(failure.came.contains("exit status: 1") && failure.came.contains("(nothing)"), "{failure:?}");
        let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("deferd-demo-test-{}", std::process::id())));
    }

    #[test]
    fn ports_are_free_with_their_neighbours() {
        // Another process may take one of them in between; not every time.
        let free = (0..8).any(|_| {
            let first = free_port(4).unwrap().port();
            let held: Vec<_> = (0..4).map(|more| TcpListener::bind((LOOPBACK, first + more))).collect();
            held.iter().all(Result::is_ok)
        });
        assert!(free);
    }

    #[test]
    fn the_configuration_is_toml_with_every_address() {
        let at = |port| SocketAddr::new(LOOPBACK, port);
        let text = configuration(Path::new("/tmp/x y"), 2, at(5070), at(2855), at(8080));
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["server"]["data_dir"].as_str(), Some("/tmp/x y"));
        assert_eq!(table["server"]["cores"].as_integer(), Some(2));
        assert_eq!(table["sip"]["listen"][1].as_str(), Some("tcp:127.0.0.1:5070"));
        assert_eq!(table["msrp"]["listen"][0].as_str(), Some("127.0.0.1:2855"));
    }
}
