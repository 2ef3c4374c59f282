//! The messages of RFC 4475 as octets, taken from the archive in its appendix.

use bytes::Bytes;
use deferd::base::limits::Limits;
use deferd::wire::sip::message::{Malformed, Message};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rfc4475")
}

/// The octets of one.
pub(crate) fn octets(name: &str) -> Bytes {
    let path = folder().join(name).with_extension("dat");
    Bytes::from(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The names of all, sorted.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".dat").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// As it would come in a datagram.
pub(crate) fn datagram(name: &str) -> Result<Message, Box<Malformed>> {
    Message::parse_datagram(octets(name), &Limits::default())
}

/// One that must parse.
pub(crate) fn valid(name: &str) -> Message {
    datagram(name).unwrap_or_else(|malformed| panic!("{name}: {}", malformed.fault))
}

/// `text` for comparisons that read well when they fail.
pub(crate) fn text(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}
