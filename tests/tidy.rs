//! The house checks itself: the rules of its design that no compiler knows.
//!
//! What is a lint stands in Cargo.toml. What is here reads the sources as text: which room imports which, who may read a
//! clock, where `unsafe` lives, how long a file is, whether what is promised is also proven.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may lean on whom: a room, and the rooms below it. Itself always.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("wire", &["base"]),
    ("proto", &["base", "wire"]),
    ("store", &["base"]),
    ("deferred", &["base", "wire", "proto", "store"]),
    ("engine", &["base", "wire", "proto", "store", "deferred"]),
    ("uring", &["base", "wire", "proto", "store", "deferred", "engine"]),
    ("control", &["base", "wire", "proto", "store", "deferred", "engine", "uring"]),
    // A client program that plays the daemon's peers: it sees the wire, never the inside.
    ("demo", &["base", "wire"]),
    ("manual", &[]),
];

/// Rooms that touch the world: its clocks, its chance.
const WORLDLY: &[&str] = &["uring", "control", "demo"];

/// Files, or rooms, in which `unsafe` may stand.
const UNSAFE: &[&str] = &[
    "src/uring/",
    "src/base/allocator.rs",
    "src/base/inbox.rs",
    "src/base/prefetch.rs",
    "src/store/directory.rs",
    "src/store/directory/table.rs",
];

/// Longer than this is said aloud.
const LINES_WISHED: usize = 450;
/// Longer than this is an error: a file of two ideas.
const LINES_MAX: usize = 600;

/// A source file: as it is, and with comments and the contents of strings blanked, line for line.
struct Source {
    path: String,
    text: String,
    code: String,
    /// First line of the tests at the foot.
    tests_from: usize,
}

impl Source {
    fn read(path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let path = path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/");
        Source::new(path, text)
    }

    fn new(path: String, text: String) -> Source {
        let code = blanked(&text);
        let lines: Vec<&str> = code.lines().collect();
        let is_foot = |at: usize| {
            lines[at].starts_with("#[cfg(test)]")
                && module_declared(&lines[at + 1..]).is_some_and(|line| line.ends_with('{'))
        };
        let tests_from = match lines.iter().any(|line| line.starts_with("#![cfg(test)]")) {
            true => 0,
            false => (0..lines.len()).find(|at| is_foot(*at)).unwrap_or(usize::MAX),
        };
        Source { path, text, code, tests_from }
    }

    /// The room it belongs to; the crate's own files belong to none.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        match inside.split_once('/') {
            Some((room, _)) => Some(room),
            None => inside.strip_suffix(".rs").filter(|name| !matches!(*name, "lib" | "main")),
        }
    }

    /// Files that this one declares as modules for tests only: `#[cfg(test)] mod name;`, a `#[path]` in between or not.
    fn test_modules(&self) -> Vec<String> {
        let lines: Vec<&str> = self.code.lines().collect();
        let texts: Vec<&str> = self.text.lines().collect();
        let (folder, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let stem = file.trim_end_matches(".rs");
        let below = if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { format!("{folder}/{stem}") };
        let mut found = Vec::new();
        for at in (0..lines.len()).filter(|at| lines[*at].trim_start().starts_with("#[cfg(test)]")) {
            let Some(line) = module_declared(&lines[at + 1..]).filter(|line| line.ends_with(';')) else { continue };
            let name = line.trim_end_matches(';').rsplit(' ').next().unwrap_or_default();
            let path = texts[at + 1..]
                .iter()
                .take_while(|text| !text.contains("mod "))
                .find_map(|text| text.split('"').nth(1));
            match path {
                Some(path) => found.push(format!("{folder}/{path}")),
                None => found.extend([format!("{below}/{name}.rs"), format!("{below}/{name}/")]),
            }
        }
        found
    }

    /// Code lines that are not tests, numbered from 1.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().take_while(|(at, _)| *at < self.tests_from).map(|(at, line)| (at + 1, line))
    }

    /// Clauses quoted as `//= clause: words`, with their lines: in the product part, and in the tests at the foot.
    fn clauses(&self) -> (Vec<(String, usize)>, Vec<String>) {
        let (mut product, mut tests) = (Vec::new(), Vec::new());
        for (at, line) in self.text.lines().enumerate() {
            let Some(quote) = line.trim_start().strip_prefix("//= ") else { continue };
            let clause = quote.split(':').next().unwrap_or_default().trim().to_owned();
            if at < self.tests_from { product.push((clause, at + 1)) } else { tests.push(clause) }
        }
        (product, tests)
    }
}

/// The checkout: cargo names it; a test binary that is run by hand knows where it was built.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// All files below `folder` that end with `.extension`, sorted.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<Source> {
    let mut sources: Vec<Source> = files(folder, "rs").iter().map(|path| Source::read(path)).collect();
    let tests: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        if tests.iter().any(|test| source.path == *test || (test.ends_with('/') && source.path.starts_with(test))) {
            source.tests_from = 0;
        }
    }
    sources
}

/// The `mod` line that follows, behind further attributes.
fn module_declared<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let line = lines.iter().map(|line| line.trim()).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    has_word(line, "mod").then_some(line)
}

/// The text with comments and the contents of string and character literals replaced by blanks; line ends stay.
fn blanked(text: &str) -> String {
    let octets = text.as_bytes();
    let mut out = Vec::with_capacity(octets.len());
    let mut at = 0;
    // Copies blanks for everything up to `end`, but line ends as they are.
    let blank = |out: &mut Vec<u8>, from: usize, end: usize| {
        out.extend(octets[from..end].iter().map(|octet| if *octet == b'\n' { b'\n' } else { b' ' }));
    };
    while at < octets.len() {
        let rest = &octets[at..];
        let previous_is_name = at > 0 && (octets[at - 1].is_ascii_alphanumeric() || octets[at - 1] == b'_');
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|octet| *octet == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            let (mut depth, mut end) = (1, at + 2);
            while depth > 0 && end < octets.len() {
                match &octets[end..] {
                    [b'/', b'*', ..] => (depth, end) = (depth + 1, end + 2),
                    [b'*', b'/', ..] => (depth, end) = (depth - 1, end + 2),
                    _ => end += 1,
                }
            }
            end
        } else if !previous_is_name && raw_string(rest).is_some() {
            at + raw_string(rest).unwrap_or_default()
        } else if rest[0] == b'"' {
            let mut end = at + 1;
            while end < octets.len() && octets[end] != b'"' {
                end += if octets[end] == b'\\' { 2 } else { 1 };
            }
            (end + 1).min(octets.len())
        } else if rest[0] == b'\'' {
            // 'x' and '\...' are characters, 'x without an end is a lifetime.
            match rest {
                [_, b'\\', ..] => at + 3 + rest[3..].iter().position(|octet| *octet == b'\'').unwrap_or(0) + 1,
                _ => {
                    let letter = text[at + 1..].chars().next().map_or(1, char::len_utf8);
                    if rest.get(1 + letter) == Some(&b'\'') { at + 2 + letter } else { at }
                }
            }
        } else {
            at
        };
        if end > at {
            blank(&mut out, at, end.min(octets.len()));
            at = end.min(octets.len());
        } else {
            out.push(octets[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Length of the raw string literal that `rest` begins with.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let start = rest.strip_prefix(b"br").or(rest.strip_prefix(b"r"))?;
    let hashes = start.iter().take_while(|octet| **octet == b'#').count();
    let body = start[hashes..].strip_prefix(b"\"")?;
    let close: Vec<u8> = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let length = body.windows(close.len()).position(|window| window == close)?;
    Some(rest.len() - body.len() + length + close.len())
}

/// True when `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |octet: Option<&u8>| octet.is_some_and(|octet| octet.is_ascii_alphanumeric() || *octet == b'_');
    line.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| line.as_bytes().get(at));
        !is_name(before) && !is_name(line.as_bytes().get(at + word.len()))
    })
}

/// Rooms named after `crate::` in a line, braces of `use crate::{a::b, c}` included.
fn rooms_named(line: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, prefix) in line.match_indices("crate::") {
        let rest = &line[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let mut depth = 0;
        for piece in list.split_inclusive([',', '{', '}']) {
            if depth == 0 {
                found.push(name(piece.trim_start()));
            }
            depth += piece.matches('{').count() as i32 - piece.matches('}').count() as i32;
            if depth < 0 {
                break;
            }
        }
    }
    found.retain(|room| !room.is_empty());
    found
}

fn report(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

/// What is wrong with one file's imports.
fn import_findings(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some((_, below)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: no room `{room}` stands in the plan (ROOMS in tests/tidy.rs)", source.path)];
    };
    let mut findings = Vec::new();
    // One line, so that a list over several lines is seen; numbers are found again by counting.
    let mut statement = String::new();
    let mut began = 1;
    for (number, line) in source.code.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if statement.is_empty() {
            began = number;
        }
        statement.push_str(line);
        let is_open_list = statement.contains("crate::{") && !statement.contains(';');
        if is_open_list {
            continue;
        }
        for named in rooms_named(&statement) {
            let is_room = ROOMS.iter().any(|(name, _)| *name == named);
            if is_room && named != room && !below.contains(&named.as_str()) {
                findings.push(format!("{}:{began}: {room} leans on {named}", source.path));
            }
        }
        statement.clear();
    }
    // `super::` out of the room would hide a direction from the check above.
    let depth = source.path.matches('/').count() - usize::from(source.path.ends_with("/mod.rs"));
    for (number, line) in source.product_lines() {
        if line.contains(&"super::".repeat(depth)) {
            findings.push(format!("{}:{number}: leaves its room by `super::`; write `crate::`", source.path));
        }
    }
    findings
}

#[test]
fn imports_go_down_only() {
    let findings: Vec<String> = sources("src").iter().flat_map(import_findings).collect();
    report("imports that do not go down (ROOMS in tests/tidy.rs)", &findings);
}

#[test]
fn only_the_kernels_interpreter_touches_the_ring_and_few_touch_the_world() {
    let mut findings = Vec::new();
    for source in sources("src") {
        let room = source.room().unwrap_or("").to_owned();
        for (number, line) in source.product_lines() {
            for word in ["tokio_uring", "io_uring"] {
                if has_word(line, word) && room != "uring" {
                    findings.push(format!("{}:{number}: names {word} outside src/uring", source.path));
                }
            }
            for call in ["Instant::now", "SystemTime::now", "clock_gettime", "getrandom", "thread::sleep"] {
                if line.contains(call) && !room.is_empty() && !WORLDLY.contains(&room.as_str()) {
                    findings.push(format!("{}:{number}: {call}: time and chance are arguments here", source.path));
                }
            }
            for word in ["async", "await"] {
                if has_word(line, word) && !room.is_empty() && !WORLDLY.contains(&room.as_str()) {
                    findings.push(format!("{}:{number}: {word}: the core is values in, values out", source.path));
                }
            }
        }
    }
    report("what belongs to src/uring and src/control", &findings);
}

#[test]
fn unsafe_lives_in_named_files_and_says_why_it_is_sound() {
    let mut findings = Vec::new();
    for source in sources("src") {
        let comments: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            if !has_word(line, "unsafe") {
                continue;
            }
            if !UNSAFE.iter().any(|place| source.path.starts_with(place)) {
                findings.push(format!("{}:{number}: unsafe in a file that is not named for it", source.path));
            }
            let above = &comments[number.saturating_sub(13)..number];
            if !has_word(line, "fn") && !above.iter().any(|line| line.contains("SAFETY:")) {
                findings.push(format!("{}:{number}: unsafe without a SAFETY comment above it", source.path));
            }
        }
    }
    report("unsafe", &findings);
}

#[test]
fn every_file_says_what_it_knows_and_has_one_idea() {
    let mut findings = Vec::new();
    for source in sources("src") {
        if !source.text.trim_start_matches('\u{feff}').starts_with("//!") {
            findings.push(format!("{}: begins without //!", source.path));
        }
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            findings.push(format!("{}: {lines} lines, more than {LINES_MAX}", source.path));
        } else if lines > LINES_WISHED {
            println!("{}: {lines} lines; {LINES_WISHED} were wished", source.path);
        }
    }
    report("files", &findings);
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut findings = Vec::new();
    for source in sources("src") {
        for (number, line) in source.product_lines() {
            for call in [".unwrap()", ".expect(", ".unwrap_err()", "todo!(", "unimplemented!("] {
                if line.contains(call) {
                    findings.push(format!("{}:{number}: {call}", source.path));
                }
            }
        }
    }
    report("errors are data", &findings);
}

/// What is wrong with the list of the mission's clauses: one that nobody meets and nobody gives up, or a quote of none of them.
fn clause_findings(
    clauses: &BTreeMap<String, String>,
    met: &BTreeMap<String, String>,
    proven: &BTreeSet<String>,
    not_done: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut findings = Vec::new();
    for (clause, words) in clauses.iter().filter(|(clause, _)| !met.contains_key(*clause)) {
        if !not_done.contains_key(clause) {
            findings.push(format!("{clause} ({words}): met nowhere, and not said to be not done"));
        }
    }
    let of_the_mission = |clause: &&String| clause.starts_with("12.") || clause.starts_with("S0 ");
    for clause in met.keys().chain(proven).chain(not_done.keys()).filter(of_the_mission) {
        if !clauses.contains_key(clause) {
            findings.push(format!("{clause}: no clause of that number stands in tests/requirements.toml"));
        }
    }
    findings
}

/// The list of everything that is asked, for people: where it is met, and which files prove it.
fn requirements(
    clauses: &BTreeMap<String, String>,
    met: &BTreeMap<String, String>,
    proofs: &BTreeMap<String, BTreeSet<String>>,
    not_done: &BTreeMap<String, String>,
    not_tested: &BTreeMap<String, String>,
) -> String {
    let mut list = String::from("| clause | in a few words | met at | proven by |\n|---|---|---|---|\n");
    for clause in clauses.keys().chain(met.keys()).chain(not_done.keys()).collect::<BTreeSet<_>>() {
        let words = clauses.get(clause).map_or("", String::as_str);
        let place = match (met.get(clause), not_done.get(clause)) {
            (Some(place), _) => place.clone(),
            (None, reason) => format!("not done: {}", reason.map_or("", String::as_str)),
        };
        let proof = match (proofs.get(clause), not_tested.get(clause)) {
            (Some(files), _) => files.iter().cloned().collect::<Vec<_>>().join(" "),
            (None, reason) => reason.cloned().unwrap_or_default(),
        };
        list.push_str(&format!("| {clause} | {words} | {place} | {proof} |\n"));
    }
    list
}

#[test]
fn every_requirement_that_is_met_is_proven() {
    let mut met: BTreeMap<String, String> = BTreeMap::new();
    let mut proven = BTreeSet::new();
    let mut proofs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut prove = |source: &Source, clause: String| {
        proofs.entry(clause.clone()).or_default().insert(source.path.clone());
        proven.insert(clause);
    };
    // The tools are there for people, one of them as the mission's client.
    for source in sources("src").iter().chain(&sources("tools")) {
        let (product, tests) = source.clauses();
        tests.into_iter().for_each(|clause| prove(source, clause));
        for (clause, line) in product {
            met.entry(clause).or_insert_with(|| format!("{}:{line}", source.path));
        }
    }
    for source in sources("tests").iter().chain(&sources("perf")) {
        if source.path != "tests/tidy.rs" {
            let (product, tests) = source.clauses();
            product.into_iter().map(|(clause, _)| clause).chain(tests).for_each(|clause| prove(source, clause));
        }
    }
    let said: toml::Table = fs::read_to_string(root().join("tests/requirements.toml")).unwrap().parse().unwrap();
    let section = |name: &str| -> BTreeMap<String, String> {
        let table = said.get(name).and_then(|section| section.as_table()).cloned().unwrap_or_default();
        table.into_iter().map(|(clause, reason)| (clause, reason.as_str().unwrap_or_default().to_owned())).collect()
    };
    let (not_tested, not_done, clauses) = (section("not_tested"), section("not_done"), section("clauses"));

    let mut findings = clause_findings(&clauses, &met, &proven, &not_done);
    for (clause, place) in &met {
        if !proven.contains(clause) && !not_tested.contains_key(clause) {
            findings.push(format!("{clause}: met at {place}, quoted by no test"));
        }
    }
    for (clause, reason) in not_tested.iter().chain(&not_done) {
        if reason.len() < 20 {
            findings.push(format!("{clause}: tests/requirements.toml gives no real reason"));
        }
    }
    for clause in not_tested.keys() {
        if proven.contains(clause) || !met.contains_key(clause) {
            findings.push(format!("{clause}: said to be untested, but a test quotes it or no code meets it"));
        }
    }
    for clause in not_done.keys().filter(|clause| met.contains_key(*clause)) {
        findings.push(format!("{clause}: said to be not done, but met at {}", met[clause]));
    }
    let (all, unmet) = (clauses.len(), clauses.keys().filter(|clause| not_done.contains_key(*clause)).count());
    println!("{} clauses met in src and tools, {} quoted by tests", met.len(), proven.len());
    println!("{all} clauses of the mission, {unmet} of them not done with a reason");
    let list = requirements(&clauses, &met, &proofs, &not_done, &not_tested);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("requirements.md");
    fs::write(&path, list).unwrap();
    println!("all of them, with where they are met and the tests that quote them: {}", path.display());
    report("requirements", &findings);
}

/// What the Markdown links of `text` point at, titles and anchors cut off.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            found.push(target.split([' ', '#']).next().unwrap_or_default().to_owned());
        }
        // Reference definitions: [name]: target
        if let Some((name, target)) = line.split_once("]: ")
            && name.starts_with('[')
        {
            found.push(target.split([' ', '#']).next().unwrap_or_default().to_owned());
        }
    }
    found.retain(|target| !target.is_empty());
    found
}

/// True when an item path names a module's file, or something one or two names deeper in one.
fn names_an_item(target: &str) -> bool {
    let names: Vec<&str> = target.split("::").skip(1).collect();
    (1..=names.len()).rev().take(3).any(|count| {
        let path = root().join("src").join(names[..count].join("/"));
        path.with_extension("rs").is_file() || path.join("mod.rs").is_file()
    })
}

#[test]
fn links_of_the_manual_lead_somewhere() {
    let mut findings = Vec::new();
    let mut pages = files("src/manual", "md");
    pages.push(root().join("README.md"));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let folder = page.parent().unwrap();
        for target in links(&text) {
            let good = if target.contains("://") || target.starts_with("mailto:") {
                true
            } else if target.starts_with("crate::") {
                names_an_item(&target)
            } else if target.starts_with("self::") || target.starts_with("super::") {
                // rustdoc's own business, and it fails on a broken one.
                true
            } else {
                folder.join(&target).exists()
            };
            if !good {
                findings.push(format!("{}: {target}", page.strip_prefix(root()).unwrap_or(&page).display()));
            }
        }
    }
    report("links that lead nowhere", &findings);
}

#[test]
fn the_checks_can_fail() {
    let code = blanked(
        "let a = \"unsafe // x\"; // unsafe\nlet b = 'u'; /* unsafe /* */ */ fn f<'a>() {} r#\"unsafe \" \"# '\\'' end",
    );
    assert!(!has_word(&code, "unsafe"));
    assert!(code.contains("fn f<'a>() {}") && code.ends_with("end") && code.lines().count() == 2);
    assert!(has_word("x = unsafe { y }", "unsafe") && !has_word("deny(unsafe_code)", "unsafe"));
    assert_eq!(rooms_named("use crate::{base::span::{Span}, engine::core};"), ["base", "engine"]);
    assert_eq!(rooms_named("fn f(x: crate::store::A) -> crate::wire::B"), ["store", "wire"]);

    let bad = |path: &str, text: &str| import_findings(&Source::new(path.into(), text.into())).len();
    assert_eq!(bad("src/wire/x.rs", "use crate::base::span::Span;\nuse super::y;\n"), 0);
    assert_eq!(bad("src/wire/x.rs", "use crate::{\n    base::a,\n    store::b,\n};\n"), 1);
    assert_eq!(bad("src/store/x.rs", "use crate::proto::y;\n"), 1);
    assert_eq!(bad("src/proto/sip/x.rs", "use super::super::super::store::y;\n"), 1);
    assert_eq!(bad("src/base/mod.rs", "use super::wire;\n"), 1);
    assert_eq!(bad("src/kitchen/x.rs", ""), 1);
    assert_eq!(bad("src/base/x.rs", "// use crate::wire::y;\n"), 0);

    let source =
        Source::new("src/a/b.rs".into(), "//= 1.2: words\nfn f() {}\n#[cfg(test)]\n    //= RFC 9 1: words\n".into());
    assert!(source.clauses().1.is_empty(), "cfg(test) alone is no module of tests");
    let source = Source::new("src/a/b.rs".into(), source.text.replace("(test)]\n", "(test)]\nmod tests {\n"));
    assert_eq!(source.clauses(), (vec![("1.2".to_owned(), 1)], vec!["RFC 9 1".to_owned()]));
    let declared = "#[cfg(test)]\nmod x;\n#[cfg(test)]\n#[path = \"y_tests.rs\"]\nmod y;\nmod z;\n";
    let declares = |path: &str| Source::new(path.into(), declared.into()).test_modules();
    assert_eq!(declares("src/a/b.rs"), ["src/a/b/x.rs", "src/a/b/x/", "src/a/y_tests.rs"]);
    assert_eq!(declares("src/a/mod.rs")[0], "src/a/x.rs");
    assert_eq!(links("[a](b.md#c) `x` [d](e \"f\")\n```\n[g](h)\n```\n[i]: j"), ["b.md", "e", "j"]);
    let table = |clauses: &[&str]| -> BTreeMap<String, String> {
        clauses.iter().map(|clause| (clause.to_string(), "words".to_owned())).collect()
    };
    let tests = |clauses: &[&str]| clauses.iter().map(|clause| clause.to_string()).collect::<BTreeSet<_>>();
    let clauses = table(&["12.1-1", "12.1-2"]);
    let found = |met: &[&str], proven: &[&str], not_done: &[&str]| {
        clause_findings(&clauses, &table(met), &tests(proven), &table(not_done)).len()
    };
    assert_eq!(found(&["12.1-1", "RFC 9 1"], &["12.1-1"], &["12.1-2"]), 0);
    assert_eq!(found(&["12.1-1"], &[], &[]), 1, "12.1-2 is met nowhere");
    assert_eq!(found(&["12.1-1", "12.1-3"], &["S0 none"], &["12.1-2"]), 2, "numbers of no clause");
    assert!(names_an_item("crate::base::span::Span") && !names_an_item("crate::kitchen::Sink"));
}
