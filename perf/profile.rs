//! Where the daemon's time goes while a scenario measures it: `perf record` on its process during the measured phases, a
//! flamegraph of what was sampled, and the functions at the top. Knows nothing of what the scenario does.
//!
//! Samples are of the processor's time as the kernel's clock sees it (`cpu-clock`), because virtual machines rarely have hardware
//! counters. Stacks come from the debug information that every release build carries: no special build.

use crate::cli::ProfileOptions;
use crate::outcome::{Failure, Progress, Request};
use crate::progress::Bar;
use crate::scenarios;
use crate::table::Paint;
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Phases in which a scenario measures the daemon and not the limit.
const MEASURED: [&str; 3] = ["push", "storm", "peak"];

/// Octets of stack that a sample carries: the daemon's turn is some thirty frames deep, a few KiB.
const STACK: u32 = 8192;

/// How long `perf` may take until it samples.
const BEGIN: Duration = Duration::from_secs(3);

/// How long `perf` may take to write down what it has.
const END: Duration = Duration::from_secs(30);

/// Functions that are printed.
const TOP: usize = 25;

/// Runs the scenario once, and writes the flamegraph.
pub fn run(options: &ProfileOptions, request: &Request) -> Result<(), Failure> {
    if !Command::new("perf")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
    {
        return Err(Failure("`perf` is not here; install it (Debian: apt-get install linux-perf)".into()));
    }
    let folder = std::env::temp_dir().join(format!("deferd-perf-profile-{}", std::process::id()));
    let fail = |error: std::io::Error| Failure(format!("{}: {error}; make room there", folder.display()));
    fs::create_dir_all(&folder).map_err(fail)?;
    let sampler = Sampler::new(request.daemon.clone(), folder.clone(), options.frequency);
    let ended = scenarios::run(request, &sampler);
    let found = sampler.end().and_then(|recordings| {
        ended?;
        folded(&recordings)
    });
    let _ = fs::remove_dir_all(&folder);
    let folded = found?;
    let svg = options.svg.clone().unwrap_or_else(|| format!("flamegraph-{}.svg", request.scenario).into());
    write_flamegraph(&folded, request.scenario, &svg)?;
    print!("{}", table(&top(&folded), Paint::of(&std::io::stdout())));
    println!("flamegraph: {}", svg.display());
    Ok(())
}

/// Shows the progress, and samples the daemon while a measured phase runs.
struct Sampler {
    bar: Bar,
    daemon: PathBuf,
    folder: PathBuf,
    frequency: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Child>,
    recordings: Vec<PathBuf>,
    failure: Option<Failure>,
}

impl Sampler {
    fn new(daemon: PathBuf, folder: PathBuf, frequency: u32) -> Sampler {
        Sampler { bar: Bar::new(), daemon, folder, frequency, state: Mutex::default() }
    }

    /// The recordings, each ended.
    fn end(&self) -> Result<Vec<PathBuf>, Failure> {
        self.bar.end();
        let Ok(mut state) = self.state.lock() else {
            return Err(Failure("a thread of the scenario ended early; run it again".into()));
        };
        state.stop();
        match state.failure.take() {
            Some(failure) => Err(failure),
            None if state.recordings.is_empty() => Err(Failure(
                "nothing was sampled: the scenario ended before its measured phase; run it alone to see why".into(),
            )),
            None => Ok(std::mem::take(&mut state.recordings)),
        }
    }
}

impl Progress for Sampler {
    fn phase(&self, name: &str, total: u64) {
        let Ok(mut state) = self.state.lock() else { return };
        state.stop();
        self.bar.phase(name, total);
        if !MEASURED.contains(&name) || state.failure.is_some() {
            return;
        }
        let out = self.folder.join(format!("{}.data", state.recordings.len()));
        match child_that_runs(&self.daemon).map(|pid| record(pid, self.frequency, &out)) {
            Some(Ok(child)) => {
                state.running = Some(child);
                state.recordings.push(out);
            }
            Some(Err(failure)) => state.failure = Some(failure),
            None => state.failure = Some(Failure("the daemon's process was not found; is /proc mounted?".into())),
        }
    }

    fn done(&self, done: u64) {
        self.bar.done(done);
    }
}

impl State {
    /// Ends the recording that runs, and waits until it is written.
    fn stop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        if let Ok(Some(status)) = child.try_wait() {
            let mut said = String::new();
            child.stderr.take().into_iter().for_each(|mut stream| _ = stream.read_to_string(&mut said));
            let why = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
            self.failure = Some(Failure(format!(
                "perf ended by itself ({status}): {}; be root, or set kernel.perf_event_paranoid to 1",
                why.trim()
            )));
            return;
        }
        // SAFETY: a signal to a child that has not been waited for: the number is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
        let since = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if since.elapsed() > END {
                let _ = child.kill();
                self.failure = Some(Failure("perf did not end; lower --frequency".into()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `perf` on the process `pid`, sampling when this returns.
fn record(pid: u32, frequency: u32, out: &Path) -> Result<Child, Failure> {
    let child = Command::new("perf")
        .args(["record", "--event", "cpu-clock", "--freq", &frequency.to_string()])
        .args(["--call-graph", &format!("dwarf,{STACK}"), "--pid", &pid.to_string(), "--output"])
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Failure(format!("perf: {error}; run it by hand to see why")))?;
    // The head of its file is written when its events are open. What cannot be opened is told when it is stopped.
    let since = Instant::now();
    while fs::metadata(out).map_or(0, |file| file.len()) == 0 && since.elapsed() < BEGIN {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(child)
}

/// The youngest child of this process that runs `binary`.
fn child_that_runs(binary: &Path) -> Option<u32> {
    let binary = binary.canonicalize().ok()?;
    let ours = format!("{}", std::process::id());
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes
        .filter(|pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Behind the name in brackets: state, parent.
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
            parent == Some(&ours) && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary)
        })
        .max()
}

/// The samples of all recordings, a line for each stack and its count.
fn folded(recordings: &[PathBuf]) -> Result<String, Failure> {
    let mut all = Vec::new();
    for recording in recordings {
        let mut script = Command::new("perf")
            .args(["script", "--no-inline", "--fields", "comm,pid,tid,time,event,ip,sym,dso", "--input"])
            .arg(recording)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure(format!("perf script: {error}; run it by hand to see why")))?;
        if let Some(stdout) = script.stdout.take() {
            Folder::default()
                .collapse(BufReader::new(stdout), &mut all)
                .map_err(|error| Failure(format!("perf script wrote what is no profile: {error}; try another perf")))?;
        }
        let _ = script.wait();
    }
    let text = String::from_utf8_lossy(&all).into_owned();
    match text.trim().is_empty() {
        true => Err(Failure("perf recorded no sample; raise --frequency or --messages".into())),
        false => Ok(text),
    }
}

fn write_flamegraph(folded: &str, scenario: &str, path: &Path) -> Result<(), Failure> {
    let fail = |error: String| Failure(format!("{}: {error}; name another file with --svg", path.display()));
    let mut options = inferno::flamegraph::Options::default();
    options.title = format!("deferd in {scenario}");
    options.count_name = "samples".into();
    let file = fs::File::create(path).map_err(|error| fail(error.to_string()))?;
    inferno::flamegraph::from_lines(&mut options, folded.lines(), file).map_err(|error| fail(error.to_string()))
}

/// A function's share of all samples.
#[derive(Clone, Debug, PartialEq)]
struct Share {
    name: String,
    /// While it ran itself, 0 to 1.
    own: f64,
    /// It or what it called.
    all: f64,
}

/// Functions by the time they took themselves.
fn top(folded: &str) -> Vec<Share> {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut total = 0u64;
    for line in folded.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else { continue };
        let Ok(count) = count.parse::<u64>() else { continue };
        total += count;
        // The first frame is the thread's name. A function that calls itself counts once.
        let mut frames: Vec<&str> = stack.split(';').skip(1).collect();
        if let Some(leaf) = frames.last() {
            counts.entry(leaf).or_default().0 += count;
        }
        frames.sort_unstable();
        frames.dedup();
        frames.iter().for_each(|frame| counts.entry(frame).or_default().1 += count);
    }
    let share = |count: u64| count as f64 / total.max(1) as f64;
    let mut shares: Vec<Share> = counts
        .into_iter()
        .map(|(name, (own, all))| Share { name: name.to_owned(), own: share(own), all: share(all) })
        .collect();
    shares.sort_by(|a, b| b.own.total_cmp(&a.own).then_with(|| b.all.total_cmp(&a.all)));
    shares
}

fn table(shares: &[Share], paint: Paint) -> String {
    let mut out = paint.dim("     own  with callees  function\n");
    for share in shares.iter().filter(|share| share.own > 0.0).take(TOP) {
        let name: String = share.name.chars().take(100).collect();
        out += &format!("{:>6.1} %  {:>10.1} %  {name}\n", share.own * 100.0, share.all * 100.0);
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FOLDED: &str = "deferd;main;turn;write 30\ndeferd;main;turn;turn;read 10\ndeferd;main 60\n";

    #[test]
    fn a_function_has_its_own_time_and_that_of_what_it_calls() {
        let shares = top(FOLDED);
        assert_eq!(shares[0], Share { name: "main".into(), own: 0.6, all: 1.0 });
        assert_eq!(shares[1], Share { name: "write".into(), own: 0.3, all: 0.3 });
        let turn = shares.iter().find(|share| share.name == "turn").unwrap();
        assert_eq!((turn.own, turn.all), (0.0, 0.4), "it calls itself and counts once");
        let text = table(&shares, Paint::PLAIN);
        assert!(text.contains("60.0 %") && !text.contains("turn"), "{text}");
    }

    #[test]
    fn a_flamegraph_is_drawn_of_stacks() {
        let path = std::env::temp_dir().join(format!("deferd-perf-flame-{}.svg", std::process::id()));
        write_flamegraph(FOLDED, "push", &path).unwrap();
        let svg = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(svg.contains("deferd in push") && svg.contains("write (30 samples"));
    }

    #[test]
    fn what_perf_script_prints_becomes_stacks() {
        let script = "deferd  100/100  12.345678: cpu-clock:\n\t    55d0c0 deferd::engine::core::Core::turn+0x10 (/x/deferd)\n\
                      \t    55d0a0 main+0x1 (/x/deferd)\n\n";
        let mut out = Vec::new();
        Folder::default().collapse(script.as_bytes(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "deferd;main;deferd::engine::core::Core::turn 1\n");
    }

    #[test]
    fn a_child_is_found_by_its_binary_and_others_are_not() {
        let binary = Path::new("/bin/sleep").canonicalize().unwrap();
        let mut child = Command::new(&binary).arg("60").spawn().unwrap();
        let found = child_that_runs(&binary);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(child.id()));
        assert_eq!(child_that_runs(&binary), None);
    }
}
