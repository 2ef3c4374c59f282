//! The gate: instructions of the engine turn and of the framing, in this checkout and in an earlier revision of it, both built and
//! counted in the same run by callgrind. A count does not depend on neighbours, so that +3 % is a finding and not noise.
//!
//! What is counted is done by `benches/engine.rs` and `benches/msrp.rs` (`count WORK`): a fixed number of rounds, and only what is
//! below a function of a name known here. The earlier revision is built with *this* checkout's benches over its own library, so
//! that both do the same; where they do not fit it, with its own benches, if those can count.

use crate::cli::GateOptions;
use crate::machine::git;
use crate::outcome::{Failure, Progress};
use crate::progress::Bar;
use crate::report;
use crate::table::Paint;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Something that is counted.
struct Work {
    title: &'static str,
    /// The bench that does it, and its argument.
    bench: &'static str,
    name: &'static str,
    /// Instructions below functions whose name has this in it.
    below: &'static str,
}

const WORKS: &[Work] = &[
    Work { title: "engine turn: deposit", bench: "engine", name: "deposit", below: "turn_counted" },
    Work { title: "engine turn: push", bench: "engine", name: "push", below: "turn_counted" },
    Work { title: "framing: head and end-line", bench: "msrp", name: "framing", below: "framing_counted" },
    Work { title: "session: offer, frame, answer", bench: "msrp", name: "session", below: "session_counted" },
];

/// Benches that count, without their folder.
const BENCHES: [&str; 2] = ["engine", "msrp"];

/// Instructions a message, before and after.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counted {
    before: f64,
    after: f64,
}

impl Counted {
    fn ratio(self) -> f64 {
        self.after / self.before
    }

    fn is_within(self, allowed_percent: f64) -> bool {
        self.ratio() <= 1.0 + allowed_percent / 100.0
    }
}

/// Builds, counts and prints. True when nothing grew by more than is allowed.
pub fn run(options: &GateOptions) -> Result<bool, Failure> {
    if !works(Command::new("valgrind").arg("--version")) {
        return Err(Failure(
            "callgrind is part of valgrind, which is not here; install it (apt-get install valgrind)".into(),
        ));
    }
    let root = git(Path::new("."), &["rev-parse", "--show-toplevel"])
        .map(PathBuf::from)
        .ok_or_else(|| Failure("this is no git checkout; run the gate in one of deferd".into()))?;
    let commit = format!("{}^{{commit}}", options.base);
    let base = git(&root, &["rev-parse", "--verify", "--quiet", &commit])
        .ok_or_else(|| Failure(format!("{} names no commit here; give one with --base", options.base)))?;
    let bar = Bar::new();
    let now = build(&root, None, &bar, "building this checkout")
        .map_err(|text| Failure(format!("this checkout does not build:\n{text}")))?;
    let checkout = Checkout::new(&root, &base)?;
    let (before, own_benches) = build_base(&root, &checkout, &bar)?;

    let mut counted = Vec::new();
    for (at, work) in WORKS.iter().enumerate() {
        bar.phase(work.title, 0);
        let scratch = checkout.folder.join(format!("callgrind-{at}"));
        // Two processes: a count takes as long as it takes, and disturbs no other.
        let (old, new) = std::thread::scope(|scope| {
            let old = scope.spawn(|| count(&before, work, &scratch.with_extension("before")));
            let new = count(&now, work, &scratch.with_extension("after"));
            (old.join(), new)
        });
        let old = old.unwrap_or_else(|_| Err(Failure("counting ended early; run the gate again".into())))?;
        counted.push((work.title, Counted { before: old, after: new? }));
    }
    bar.end();
    print!("{}", table(&counted, options, &base, Paint::of(&std::io::stdout())));
    if own_benches {
        println!(
            "note: this checkout's benches do not fit the base; each did its own, which may differ in more than the library"
        );
    }
    Ok(counted.iter().all(|(_, counted)| counted.is_within(options.allowed)))
}

fn table(counted: &[(&str, Counted)], options: &GateOptions, base: &str, paint: Paint) -> String {
    let short = base.get(..12).unwrap_or(base);
    let mut out = format!("instructions a message, against {} ({short})\n", options.base);
    out += &paint.dim(&format!("{:32} {:>12} {:>12} {:>8}\n", "", "before", "after", "ratio"));
    for (title, counted) in counted {
        let verdict = match counted.is_within(options.allowed) {
            true => paint.good("ok"),
            false => paint.bad(&format!("MORE THAN +{} %", report::number(options.allowed))),
        };
        let (before, after) = (report::number(counted.before), report::number(counted.after));
        out += &format!("{title:32} {before:>12} {after:>12} {:>8.4}  {verdict}\n", counted.ratio());
    }
    out
}

/// The base, built; true when with benches of its own.
fn build_base(root: &Path, checkout: &Checkout, bar: &Bar) -> Result<(Vec<Built>, bool), Failure> {
    let target = root.join("target").join("gate").join("build");
    let own: Vec<Option<String>> =
        BENCHES.iter().map(|name| fs::read_to_string(bench_source(&checkout.source, name)).ok()).collect();
    for name in BENCHES {
        fs::copy(bench_source(root, name), bench_source(&checkout.source, name)).map_err(|error| {
            Failure(format!(
                "{}: {error}; make room and run the gate again",
                bench_source(&checkout.source, name).display()
            ))
        })?;
    }
    let text = match build(&checkout.source, Some(&target), bar, "building the base") {
        Ok(built) => return Ok((built, false)),
        Err(text) => text,
    };
    let can_count = WORKS.iter().all(|work| {
        let source = BENCHES.iter().position(|name| *name == work.bench).and_then(|at| own.get(at)?.as_ref());
        source.is_some_and(|source| source.contains(&format!("fn {}(", work.below)))
    });
    if !can_count {
        return Err(Failure(format!(
            "the benches of this checkout do not compile over the base, and its own cannot count; choose a later --base.\n{text}"
        )));
    }
    for (name, source) in BENCHES.iter().zip(own.into_iter().flatten()) {
        fs::write(bench_source(&checkout.source, name), source)
            .map_err(|error| Failure(format!("{}: {error}; run the gate again", checkout.source.display())))?;
    }
    let built = build(&checkout.source, Some(&target), bar, "building the base, its own benches");
    built.map(|built| (built, true)).map_err(|text| Failure(format!("the base does not build:\n{text}")))
}

fn bench_source(root: &Path, name: &str) -> PathBuf {
    root.join("benches").join(name).with_extension("rs")
}

/// A bench's binary.
struct Built {
    bench: String,
    path: PathBuf,
}

/// Builds the benches of a checkout as benches are built. On failure, what the compiler said last.
fn build(root: &Path, target: Option<&Path>, bar: &Bar, phase: &str) -> Result<Vec<Built>, String> {
    bar.phase(phase, 0);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["bench", "--no-run", "--package", "deferd", "--message-format=json"]);
    BENCHES.iter().for_each(|name| _ = command.args(["--bench", name]));
    if let Some(target) = target {
        command.arg("--target-dir").arg(target);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors: Vec<String> = messages(&text).filter_map(|message| rendered_error(&message)).take(3).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        return Err(if errors.is_empty() { last } else { errors.join("\n") });
    }
    let built: Vec<Built> = messages(&text).filter_map(|message| artifact(&message)).collect();
    match BENCHES.iter().find(|name| !built.iter().any(|built| built.bench == **name)) {
        Some(name) => Err(format!("cargo built no bench named {name}")),
        None => Ok(built),
    }
}

fn messages(text: &str) -> impl Iterator<Item = serde_json::Value> + '_ {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn artifact(message: &serde_json::Value) -> Option<Built> {
    let path = message["executable"].as_str()?.into();
    Some(Built { bench: message["target"]["name"].as_str()?.to_owned(), path })
}

fn rendered_error(message: &serde_json::Value) -> Option<String> {
    let message = &message["message"];
    (message["level"] == "error").then(|| message["rendered"].as_str().map(str::to_owned)).flatten()
}

/// Instructions a message.
fn count(built: &[Built], work: &Work, out: &Path) -> Result<f64, Failure> {
    let fail =
        |what: &str| Failure(format!("{} was not counted: {what}; run the bench by hand to see why", work.title));
    let bench = built.iter().find(|built| built.bench == work.bench).ok_or_else(|| fail("no such bench"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{}*", work.below))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&bench.path)
        .args(["count", work.name])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| fail(&error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(fail(said.lines().last().unwrap_or("it ended with an error")));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let count = fs::read_to_string(out).ok().and_then(|text| instructions(&text)).ok_or_else(|| fail("no sum"))?;
    per_message(count, &said).ok_or_else(|| fail("nothing was counted"))
}

fn per_message(instructions: u64, said: &str) -> Option<f64> {
    let messages: u64 = said.lines().find_map(|line| line.strip_prefix("messages "))?.trim().parse().ok()?;
    (messages > 0 && instructions > 0).then(|| instructions as f64 / messages as f64)
}

/// The sum that callgrind writes at the end of its file.
fn instructions(text: &str) -> Option<u64> {
    let sum = |name: &str| text.lines().rev().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    sum("totals:").or_else(|| sum("summary:"))
}

/// The base, checked out below `target/` for as long as this lives.
struct Checkout {
    root: PathBuf,
    folder: PathBuf,
    source: PathBuf,
}

impl Checkout {
    fn new(root: &Path, commit: &str) -> Result<Checkout, Failure> {
        let folder = root.join("target").join("gate").join(format!("run-{}", std::process::id()));
        let source = folder.join("source");
        let fail = |what: String| Failure(format!("the base cannot be checked out: {what}; make room below target/"));
        fs::create_dir_all(&folder).map_err(|error| fail(error.to_string()))?;
        let checkout = Checkout { root: root.to_owned(), folder, source };
        let place = checkout.source.to_string_lossy().into_owned();
        // What a run that was killed left behind is no longer there; git forgets it.
        git(root, &["worktree", "prune"]);
        git(root, &["worktree", "add", "--detach", "--quiet", &place, commit])
            .ok_or_else(|| fail("git worktree add failed".into()))?;
        Ok(checkout)
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let place = self.source.to_string_lossy().into_owned();
        git(&self.root, &["worktree", "remove", "--force", &place]);
        let _ = fs::remove_dir_all(&self.folder);
        git(&self.root, &["worktree", "prune"]);
    }
}

fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_callgrind_file_is_read() {
        let text = "# callgrind format\nevents: Ir\nsummary: 9\n\nfn=(1) x\n12 345\n\ntotals: 123456789\n";
        assert_eq!(instructions(text), Some(123_456_789));
        assert_eq!(instructions("events: Ir\nsummary: 77\n"), Some(77));
        assert_eq!(instructions("nothing"), None);
    }

    #[test]
    fn what_counted_nothing_is_no_count() {
        assert_eq!(per_message(4096, "messages 1024\n"), Some(4.0));
        assert_eq!(per_message(4096, "messages 0\n"), None);
        assert_eq!(per_message(0, "messages 1024\n"), None, "a function that was inlined away");
        assert_eq!(per_message(4096, "Gnuplot not found"), None);
    }

    #[test]
    fn three_percent_more_passes_and_more_than_that_does_not() {
        assert!(Counted { before: 1000.0, after: 1030.0 }.is_within(3.0));
        assert!(!Counted { before: 1000.0, after: 1031.0 }.is_within(3.0));
        assert!(Counted { before: 1000.0, after: 500.0 }.is_within(3.0));
    }

    #[test]
    fn cargo_tells_where_a_bench_lies_and_what_was_wrong() {
        let text = r#"{"reason":"compiler-artifact","target":{"name":"engine"},"executable":"/t/engine-1"}
            not json
            {"reason":"compiler-artifact","target":{"name":"deferd"},"executable":null}
            {"reason":"compiler-message","message":{"level":"error","rendered":"error: no"}}"#;
        let built: Vec<Built> = messages(text).filter_map(|message| artifact(&message)).collect();
        assert_eq!(built.len(), 1);
        assert_eq!((built[0].bench.as_str(), built[0].path.as_path()), ("engine", Path::new("/t/engine-1")));
        assert_eq!(messages(text).filter_map(|message| rendered_error(&message)).collect::<Vec<_>>(), ["error: no"]);
    }

    #[test]
    fn the_benches_of_this_checkout_have_every_function_that_is_counted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for work in WORKS {
            let source = fs::read_to_string(bench_source(root, work.bench)).unwrap();
            assert!(source.contains(&format!("#[inline(never)]\nfn {}(", work.below)), "{}", work.below);
            assert!(source.contains(&format!("\"{}\" =>", work.name)), "{}", work.name);
        }
    }
}
