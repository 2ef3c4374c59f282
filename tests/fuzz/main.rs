//! The fuzz targets on stable, over the inputs that were worth keeping: seeds, what reaches far, and whatever once broke something.
//! To find more: `tools/fuzz`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod targets;

use std::fs;
use std::path::PathBuf;

/// Files of one target: more say nothing new, and the replay is part of every run of the tests.
const FILES_MAX: usize = 40;
/// Octets of all targets together: they are in everybody's checkout.
const OCTETS_MAX: u64 = 300 * 1024;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder().join("corpus").join(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &str) {
    let files = corpus(target);
    assert!(!files.is_empty(), "{target} has nothing to replay");
    for file in files {
        println!("{}", file.display());
        targets::run(target, &fs::read(&file).unwrap());
    }
    // And what every reader meets first.
    targets::run(target, &[]);
}

macro_rules! replays {
    ($($fact:ident: $target:literal,)*) => {
        $(#[test]
        fn $fact() {
            replay($target);
        })*

        const REPLAYED: &[&str] = &[$($target),*];
    };
}

replays! {
    a_sip_stream_says_the_same_in_any_pieces_and_its_answers_can_be_read: "sip",
    a_canonical_uri_is_its_own_and_names_the_same_user: "uri",
    an_answer_has_the_streams_of_its_offer: "sdp",
    an_msrp_connection_says_the_same_in_any_pieces: "msrp",
    parts_stand_one_behind_the_other_and_ours_are_read_back: "multipart",
    cpim_headers_are_read_without_harm: "cpim",
    a_date_is_read_back: "date",
    no_vocabulary_takes_what_the_xml_guard_refuses: "xml",
    recovery_invents_no_message_whatever_the_disk_did: "recovery",
    octets_that_never_were_a_segment_are_recovered_from: "segments",
}

#[test]
fn every_target_is_a_program_and_is_replayed_and_its_corpus_is_small() {
    let manifest: toml::Table = fs::read_to_string(folder().join("Cargo.toml")).unwrap().parse().unwrap();
    let programs: Vec<&str> =
        manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    let targets: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(targets, programs);
    assert_eq!(targets, REPLAYED);
    let mut octets = 0;
    for target in targets {
        let files = corpus(target);
        assert!(files.len() <= FILES_MAX, "{target}: {} files", files.len());
        octets += files.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    }
    assert!(octets <= OCTETS_MAX, "{octets} octets");
}
