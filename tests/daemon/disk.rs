//! A disk that is full, read-only, gone or rotten (the fault model's disk table).

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use deferd::{
    base::net::CoreId,
    store::{disk::SegmentNo, manifest::Manifest},
    uring::data_dir::DataDir,
};
use deferd_kit::{
    daemon::{Daemon, DaemonOptions},
    peer::Transport,
    scene::{BOB, Scene},
    sip::{SipMessage, find},
    unique,
};

use crate::DEFERD;

/// A small file system in memory; None, with a printed reason, for whoever may not mount one.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    pub(crate) fn mount(options: &str) -> Option<Tmpfs> {
        let at = std::env::temp_dir().join(format!("deferd-disk-{}", unique()));
        fs::create_dir_all(&at).expect("a temporary directory");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).output();
        match done {
            Ok(output) if output.status.success() => Some(Tmpfs(at)),
            other => {
                println!("skipped: no tmpfs can be mounted here: {other:?}");
                fs::remove_dir(&at).ok();
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "remount,{options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: the daemon may still be going when a test fails.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
        fs::remove_dir(&self.0).ok();
    }
}

fn at(directory: &Path) -> DaemonOptions {
    let mut options = DaemonOptions::new(DEFERD).line("limits", "segment_octets = \"1MiB\"");
    options.data_dir = Some(directory.to_path_buf());
    options
}

#[test]
fn a_full_disk_refuses_with_503_and_still_delivers() {
    let Some(disk) = Tmpfs::mount("size=8m") else { return };
    let mut scene = Scene::with(at(&disk.0));
    let alice = scene.alice_tcp();
    let mut deposited = Vec::new();
    let refusal = loop {
        assert!(deposited.len() < 1_000, "8 MiB hold no 1,000 messages of 20 KB");
        let exchange = alice.exchange(alice.text(BOB, &"x".repeat(20_000)));
        match exchange.response.code() {
            202 => deposited.push(exchange.request),
            _ => break exchange.response,
        }
    };
    assert_eq!(refusal.code(), 503, "{refusal:?}");
    let after: u64 =
        refusal.header("Retry-After").and_then(|value| value.parse().ok()).expect("Retry-After in seconds");
    assert!(after > 0);
    assert!(deposited.len() >= 50, "1 MB is not 8 MiB: {} messages", deposited.len());
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposited);
    // What was delivered stays deleted, full disk or not.
    scene.assert_alive();
    scene.kill9();
    scene.restart(1);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    assert!(
        bob.invite_within(std::time::Duration::from_millis(800)).is_none(),
        "delivered and deleted, and pushed again"
    );
    drop(scene);
}

#[test]
fn a_full_disk_lets_users_delete_and_takes_deposits_again_when_there_is_room() {
    let Some(disk) = Tmpfs::mount("size=24m") else { return };
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; 16 << 20]).expect("room for the ballast");
    let data_dir = disk.0.join("data");
    fs::create_dir_all(&data_dir).expect("room for a directory");
    let mut scene = Scene::with(at(&data_dir));
    let alice = scene.alice_tcp();
    let mut deposited = Vec::new();
    let refusal = loop {
        assert!(deposited.len() < 1_000, "8 MiB hold no 1,000 messages of 20 KB");
        // Every tenth is somebody's who deletes them.
        let to = if deposited.len() % 10 == 0 { "sip:carol@example.org" } else { BOB };
        let exchange = alice.exchange(alice.text(to, &"x".repeat(20_000)));
        match exchange.response.code() {
            202 => deposited.push(exchange.request),
            _ => break exchange.response,
        }
    };
    assert_eq!(refusal.code(), 503, "{refusal:?}");
    assert!(refusal.header("Retry-After").is_some(), "{refusal:?}");
    let carol = scene.client(Transport::Tcp, "sip:carol@example.org", scene.sip());
    let all = carol
        .request_to("REFER", "sip:Delete@mailserver.example.org")
        .with("Contact", carol.contact.clone())
        .with("Refer-To", "<sip:Deferred@mailserver.example.org>")
        .with("Refer-Sub", "false");
    assert_eq!(carol.exchange(&all).code(), 200, "a full disk keeps nobody from deleting");
    // Nothing was freed by that which a deposit could use: a tenth of every segment.
    assert_eq!(alice.exchange(alice.text(BOB, &"x".repeat(20_000))).response.code(), 503);
    fs::remove_file(&ballast).expect("it is ours");
    crate::until("a deposit that is taken", || {
        let exchange = alice.exchange(alice.text(BOB, "there is room again"));
        let taken = exchange.response.code() == 202;
        deposited.extend(taken.then_some(exchange.request));
        taken
    });
    scene.kill9();
    scene.restart(2);
    let theirs: Vec<SipMessage> = deposited.into_iter().filter(|deposit| deposit.start.contains("bob@")).collect();
    scene.push_brings(&mut scene.bob(), &theirs);
    drop(scene);
}

#[test]
fn a_read_only_data_directory_refuses_the_start_in_plain_words_and_loses_nothing() {
    let Some(disk) = Tmpfs::mount("size=16m") else { return };
    let mut scene = Scene::with(at(&disk.0));
    let alice = scene.alice_tcp();
    let deposited: Vec<SipMessage> = (0..10).map(|number| alice.message(BOB, &format!("number {number}"))).collect();
    scene.kill9();
    disk.remount("ro");
    // It could keep nothing: the start is refused.
    let text = fs::read_to_string(scene.config()).expect("the kit wrote it");
    assert!(text.contains(&disk.0.display().to_string()));
    let output = Command::new("timeout")
        .args(["10", DEFERD, "run", "--config"])
        .arg(scene.config())
        .output()
        .expect("coreutils has timeout");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {said}", output.status);
    assert!(said.contains(&disk.0.display().to_string()) || said.contains("data_dir"), "{said}");
    disk.remount("rw");
    scene.restart(1);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposited);
}

#[test]
fn a_data_directory_that_vanished_is_made_anew() {
    let mut scene = Scene::with(at(&std::env::temp_dir().join(format!("deferd-gone-{}", unique()))));
    scene.alice().message(BOB, "written in water");
    scene.kill9();
    let directory = scene.data_dir().to_path_buf();
    fs::remove_dir_all(&directory).expect("it was there");
    scene.restart(1);
    let deposit = scene.alice().message(BOB, "here again");
    scene.push_brings(&mut scene.bob(), &[deposit]);
    drop(scene);
    fs::remove_dir_all(&directory).ok();
}

#[test]
fn a_data_directory_that_vanishes_under_a_running_daemon_ends_in_503_and_not_in_a_crash() {
    let mut scene = Scene::with(at(&std::env::temp_dir().join(format!("deferd-gone-{}", unique()))));
    let alice = scene.alice_tcp();
    alice.message(BOB, "before");
    let directory = scene.data_dir().to_path_buf();
    // The daemon may be making its next segment there: once more, until nothing is left.
    crate::until("an empty place", || fs::remove_dir_all(&directory).is_ok() || !directory.exists());
    // Files that are open go on to exist, without a name; that is noticed, however little is written into them.
    let mut refusal = None;
    crate::until("a refusal", || {
        let response = alice.exchange(alice.text(BOB, "x")).response;
        refusal = Some(response).filter(|response| response.code() != 202);
        refusal.is_some()
    });
    let refusal = refusal.expect("it came about");
    assert_eq!(refusal.code(), 503, "{refusal:?}");
    assert!(refusal.header("Retry-After").is_some(), "{refusal:?}");
    scene.assert_alive();
    scene.kill9();
    scene.restart(1);
    let deposit = scene.alice().message(BOB, "here again");
    scene.push_brings(&mut scene.bob(), &[deposit]);
    drop(scene);
    fs::remove_dir_all(&directory).ok();
}

#[test]
fn a_data_directory_that_is_a_file_is_refused_in_plain_words() {
    let mut daemon = Daemon::start(DaemonOptions::new(DEFERD));
    daemon.kill9();
    let directory = daemon.data_dir().to_path_buf();
    fs::remove_dir_all(&directory).expect("it was there");
    fs::write(&directory, "a file").expect("its parent is there");
    let output = Command::new("timeout")
        .args(["10", DEFERD, "run", "--config"])
        .arg(daemon.config())
        .output()
        .expect("coreutils has timeout");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?}: {said}", output.status);
    assert!(said.contains(&directory.display().to_string()) && said.contains("data_dir"), "{said}");
}

/// Every file below a directory.
/// What the kernel does to a process that touches a mapped page which the disk does not give.
#[test]
fn a_page_that_cannot_be_read_ends_the_daemon_with_a_sentence_and_loses_nothing() {
    let mut scene = Scene::new(DEFERD);
    let deposited = [scene.alice_tcp().message(BOB, "waits")];
    let pid = scene.pid().expect("it runs").to_string();
    Command::new("kill").args(["-BUS", &pid]).status().expect("coreutils has kill");
    crate::until("its end", || !scene.is_alive());
    crate::until("the sentence", || scene.stderr().contains("a page of the log cannot be read (SIGBUS)"));
    scene.restart(1);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposited);
}

fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).expect("a directory").flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn a_rotten_record_is_reported_and_its_neighbours_are_delivered() {
    for (victim, restarts) in [(14, 1), (0, 2), (14, 3)] {
        let mut scene = Scene::new(DEFERD);
        let alice = scene.alice_tcp();
        let mut deposited: Vec<SipMessage> =
            (0..30).map(|number| alice.message(BOB, &format!("message number {number:03} of thirty"))).collect();
        assert_eq!(scene.terminate(), 0);
        let needle = format!("message number {victim:03} of thirty");
        let mut flipped = 0;
        for path in files(scene.data_dir()) {
            let mut octets = fs::read(&path).expect("a file of ours");
            if let Some(place) = find(&octets, needle.as_bytes()) {
                octets[place + 5] ^= 0x20;
                fs::write(&path, octets).expect("a file of ours");
                flipped += 1;
            }
        }
        assert_eq!(flipped, 1, "the body stands in one file, as it came");
        for _ in 0..restarts {
            scene.restart(1);
        }
        assert!(scene.stderr().contains("damage"), "said on stderr:\n{}", scene.stderr());
        deposited.remove(victim);
        let mut bob = scene.bob();
        scene.push_brings(&mut bob, &deposited);
        scene.nothing_waits(&mut bob);
    }
}

#[test]
fn a_segment_is_had_back_although_the_disk_has_no_room_for_a_list() {
    let Some(disk) = Tmpfs::mount("size=4m") else { return };
    let data = DataDir::open(disk.path()).expect("a data directory");
    data.write_manifest(&Manifest::new([7; 16], 9)).expect("a manifest");
    let log = CoreId(0);
    for number in [1, 2] {
        data.prepare_segment(log, SegmentNo(number), 1 << 20, b"head").expect("a segment");
    }
    let fill = |name: &str| {
        let mut file = fs::File::create(disk.path().join(name)).expect("a file");
        while file.write_all(&[1; 4096]).is_ok() {}
    };
    fill("first");
    data.recycle_segment(log, SegmentNo(1), SegmentNo(3), b"head").expect("another's file");
    fill("second");
    data.remove_segment(log, SegmentNo(2)).expect("room");
    let listed = Manifest::decode(&data.read_manifest().expect("a manifest").expect("octets")).expect("whole");
    assert!(listed.segments().iter().any(|listed| listed.segment == SegmentNo(3)));
    assert_eq!(data.segments().expect("a list").len(), 1);
}
