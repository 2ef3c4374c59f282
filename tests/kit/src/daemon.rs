//! One deferd process: free loopback ports, a configuration of its own, a data directory, and every way to end it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{WAIT, unique};

/// How a daemon is started. `default` with a binary is a daemon as users run it, on 127.0.0.1.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The executable: `env!("CARGO_BIN_EXE_deferd")`.
    pub binary: PathBuf,
    /// `server.cores`.
    pub cores: usize,
    /// Listens on `[::1]` as well, on the same ports.
    pub ipv6: bool,
    /// `sip.outbound_proxy`, as `udp:127.0.0.1:5070`.
    pub outbound_proxy: Option<String>,
    /// Further lines, each with the section it belongs to: `("policy", "push_min_interval = \"0s\"")`.
    pub lines: Vec<(String, String)>,
    /// A directory to use; None makes one that goes with the daemon.
    pub data_dir: Option<PathBuf>,
}

impl DaemonOptions {
    /// One core, nothing special.
    pub fn new(binary: impl Into<PathBuf>) -> DaemonOptions {
        DaemonOptions {
            binary: binary.into(),
            cores: 1,
            ipv6: false,
            outbound_proxy: None,
            lines: Vec::new(),
            data_dir: None,
        }
    }

    /// Adds a configuration line.
    pub fn line(mut self, section: &str, line: &str) -> DaemonOptions {
        self.lines.push((section.into(), line.into()));
        self
    }
}

/// Ports that no other daemon of any test has: a block of 32, held by the name of an abstract socket, which the kernel lets
/// go when the process ends however it ends.
struct Ports {
    base: u16,
    _held: UnixListener,
}

impl Ports {
    const BLOCK: u16 = 32;

    /// A block below the ephemeral ports (32768), all of it free at this moment.
    fn take() -> Ports {
        let first = u64::from_str_radix(&unique()[..15], 16).unwrap_or(0) % 680;
        for turn in 0..680 {
            let base = 10_000 + ((first + turn) % 680) as u16 * Ports::BLOCK;
            let name = format!("deferd-kit-ports-{base}");
            let Ok(address) = std::os::unix::net::SocketAddr::from_abstract_name(name) else { continue };
            let Ok(held) = UnixListener::bind_addr(&address) else { continue };
            let free = |port: u16| {
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                    && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            };
            if (base..base + Ports::BLOCK).all(free) {
                return Ports { base, _held: held };
            }
        }
        panic!("no block of {} free ports between 10000 and 31760", Ports::BLOCK);
    }
}

/// A running (or ended) daemon.
pub struct Daemon {
    options: DaemonOptions,
    ports: Ports,
    home: PathBuf,
    data_dir: PathBuf,
    child: Option<Child>,
    stderr: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts a daemon and waits until it is ready: it says so to the service manager, and its TCP port accepts. One that ends
    /// before fails the test with what it said.
    #[track_caller]
    pub fn start(options: DaemonOptions) -> Daemon {
        let home = std::env::temp_dir().join(format!("deferd-kit-{}", unique()));
        fs::create_dir_all(&home).expect("a temporary directory");
        let data_dir = options.data_dir.clone().unwrap_or_else(|| home.join("data"));
        fs::create_dir_all(&data_dir).expect("a data directory");
        let mut daemon = Daemon { options, ports: Ports::take(), home, data_dir, child: None, stderr: Arc::default() };
        daemon.launch();
        daemon
    }

    /// The address of SIP, UDP and TCP.
    pub fn sip(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.ports.base)
    }

    /// The same on `[::1]`, when asked for.
    pub fn sip_v6(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), self.ports.base)
    }

    /// The HTTP address.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.ports.base + 1)
    }

    /// The MSRP port of core 0; core k has this plus k.
    pub fn msrp_port(&self) -> u16 {
        self.ports.base + 8
    }

    /// Where it keeps its log.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.home.join("deferd.toml")
    }

    /// The process number while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it wrote to stderr, over all its lives.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration as TOML, section by section.
    fn toml(&self) -> String {
        let mut sections: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut listen = vec![format!("\"udp:{}\"", self.sip()), format!("\"tcp:{}\"", self.sip())];
        let mut msrp = vec![format!("\"127.0.0.1:{}\"", self.msrp_port())];
        if self.options.ipv6 {
            listen.extend([format!("\"udp:{}\"", self.sip_v6()), format!("\"tcp:{}\"", self.sip_v6())]);
            msrp.push(format!("\"[::1]:{}\"", self.msrp_port()));
        }
        sections.insert(
            "server",
            vec![
                "hostname = \"mailserver.example.org\"".into(),
                "domains = [\"example.org\"]".into(),
                format!("data_dir = {:?}", self.data_dir),
                format!("cores = {}", self.options.cores),
                format!("control_socket = {:?}", self.home.join("control.sock")),
            ],
        );
        sections.insert("sip", vec![format!("listen = [{}]", listen.join(", "))]);
        sections.insert("msrp", vec![format!("listen = [{}]", msrp.join(", "))]);
        sections.insert("http", vec![format!("listen = \"{}\"", self.http())]);
        if let Some(proxy) = &self.options.outbound_proxy {
            sections.entry("sip").or_default().push(format!("outbound_proxy = \"{proxy}\""));
        }
        for (section, line) in &self.options.lines {
            let lines = sections.entry(section).or_default();
            let key = line.split('=').next().unwrap_or_default().trim();
            lines.retain(|old| old.split('=').next().unwrap_or_default().trim() != key);
            lines.push(line.clone());
        }
        sections.iter().map(|(section, lines)| format!("[{section}]\n{}\n\n", lines.join("\n"))).collect()
    }

    #[track_caller]
    fn launch(&mut self) {
        fs::write(self.config(), self.toml()).expect("a configuration file");
        // A port that accepts may be a dead predecessor's, whose ring the kernel has not taken apart yet.
        let news = self.home.join("notify.sock");
        fs::remove_file(&news).ok();
        let manager = UnixDatagram::bind(&news).expect("a socket in a directory of ours");
        manager.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        let mut child = Command::new(&self.options.binary)
            .args(["run", "--config"])
            .arg(self.config())
            .env("NOTIFY_SOCKET", &news)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.options.binary.display()));
        if let Some(pipe) = child.stderr.take() {
            let said = self.stderr.clone();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    said.push_str(&line);
                    said.push('\n');
                }
            });
        }
        self.child = Some(child);
        let deadline = Instant::now() + WAIT;
        let mut word = [0; 512];
        while !manager.recv(&mut word).is_ok_and(|len| word[..len].starts_with(b"READY=1")) {
            if let Some(status) = self.exited() {
                panic!("deferd ended with {status} before it was ready; its stderr:\n{}", self.last_words());
            }
            assert!(Instant::now() < deadline, "deferd is not ready after {WAIT:?}; its stderr:\n{}", self.stderr());
        }
        if let Err(error) = TcpStream::connect(self.sip()) {
            panic!("deferd is ready and does not accept: {error}; its stderr:\n{}", self.stderr());
        }
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// stderr once the pipe has drained: a moment after the end.
    fn last_words(&self) -> String {
        thread::park_timeout(Duration::from_millis(100));
        self.stderr()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.is_some() && self.exited().is_none()
    }

    /// Fails the test when the daemon is gone.
    #[track_caller]
    pub fn assert_alive(&mut self) {
        assert!(self.is_alive(), "deferd is gone; its stderr:\n{}", self.last_words());
    }

    /// SIGKILL; nothing in the daemon runs after it.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
            self.wait_until_gone();
        }
    }

    /// The kernel takes a ring down after its process: until then dead listeners still take connections in.
    fn wait_until_gone(&self) {
        let deadline = Instant::now() + WAIT;
        while TcpStream::connect_timeout(&self.sip(), WAIT).is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM and nothing else.
    pub fn signal_term(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name, as `STOP`.
    pub fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().ok();
        }
    }

    /// SIGTERM, then its exit code; one that does not end within the limit is killed and fails the test.
    #[track_caller]
    pub fn terminate(&mut self) -> i32 {
        self.signal_term();
        let deadline = Instant::now() + WAIT;
        while self.is_alive() {
            if Instant::now() > deadline {
                self.kill9();
                panic!("deferd did not end within {WAIT:?} of SIGTERM; its stderr:\n{}", self.last_words());
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        let status = self.child.take().and_then(|mut child| child.wait().ok());
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Starts it again on the same ports and data, with this many cores. One that still runs is killed first.
    #[track_caller]
    pub fn restart(&mut self, cores: usize) {
        self.kill9();
        self.options.cores = cores;
        self.launch();
    }

    /// Killed, and started again with one more line of configuration.
    #[track_caller]
    pub fn restart_with(&mut self, section: &str, line: &str) {
        self.options.lines.push((section.into(), line.into()));
        self.restart(self.options.cores);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            eprintln!(
                "--- stderr of deferd (configuration and data are kept in {})\n{}",
                self.home.display(),
                self.last_words()
            );
        } else {
            fs::remove_dir_all(&self.home).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_daemons_never_share_a_port() {
        let (one, two) = (Ports::take(), Ports::take());
        assert_ne!(one.base, two.base);
    }

    #[test]
    fn a_line_replaces_the_one_with_its_key() {
        let home = std::env::temp_dir();
        let options = DaemonOptions::new("deferd")
            .line("server", "hostname = \"h.example.com\"")
            .line("policy", "after_push = \"retain\"");
        let daemon = Daemon {
            options,
            ports: Ports::take(),
            home: home.join(unique()),
            data_dir: home,
            child: None,
            stderr: Arc::default(),
        };
        let toml = daemon.toml();
        assert_eq!(toml.matches("hostname").count(), 1);
        assert!(toml.contains("[policy]\nafter_push = \"retain\"\n"), "{toml}");
    }

    #[test]
    #[should_panic(expected = "before it was ready")]
    fn one_that_ends_early_fails_with_what_it_said() {
        Daemon::start(DaemonOptions::new("/bin/false"));
    }
}
