//! A data directory that is only looked at, and how what lies in it is named: for every command that reads logs.

use super::Daemon;
use deferd::base::net::CoreId;
use deferd::deferred::identity::Address;
use deferd::store::disk::SegmentNo;
use deferd::store::inspect::{self, Item};
use deferd::store::manifest::Manifest;
use deferd::store::record::{MessageId, Place};
use deferd::uring::data_dir::DataDir;
use deferd::wire::date;

/// Logs, and the key of their checksums.
pub(super) struct Logs {
    data: DataDir,
    key: [u8; 16],
}

impl Logs {
    /// Those of a daemon, which may be running.
    pub(super) fn look(daemon: &Daemon) -> Result<Logs, String> {
        let path = daemon.data_dir()?;
        let shown = path.display();
        let data = DataDir::look(&path).map_err(|error| format!("cannot look into {shown}: {error}"))?;
        let octets = data
            .read_manifest()
            .map_err(|error| format!("cannot read the manifest of {shown}: {error}"))?
            .ok_or_else(|| format!("{shown} has no manifest: it is no data directory of deferd"))?;
        let manifest = Manifest::decode(&octets).map_err(|fault| {
            format!("the manifest of {shown} cannot be read: {fault:?}; with the daemon stopped, try: deferctl repair")
        })?;
        Ok(Logs { data, key: manifest.key })
    }

    /// Shows everything, and says on stderr what could not be read. True when all could.
    pub(super) fn walk(&self, only: Option<u16>, mut visit: impl FnMut(Item<'_>)) -> Result<bool, String> {
        let unread = inspect::walk(&self.data, self.key, only.map(CoreId), &mut visit)
            .map_err(|fault| format!("cannot list the segments: {fault:?}"))?;
        for segment in &unread {
            eprintln!("log {} segment {}: cannot be read: {:?}", segment.log.0, segment.segment.0, segment.fault);
        }
        Ok(unread.is_empty())
    }
}

/// Octets as text, whatever they are.
pub(super) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// RFC 3339, UTC.
pub(super) fn time(unix_seconds: u64) -> String {
    let mut out = Vec::new();
    date::write_rfc3339(&mut out, unix_seconds);
    text(&out)
}

/// `SEGMENT:OFFSET` in octets.
pub(super) fn at(place: Place) -> String {
    format!("{}:{}", place.segment.0, place.octets())
}

/// Back from [`at`].
pub(super) fn place_of(what: &str) -> Option<Place> {
    let (segment, offset) = what.split_once(':')?;
    let offset: u64 = offset.parse().ok()?;
    let offset = u32::try_from(offset / 8).ok().filter(|_| offset.is_multiple_of(8))?;
    Some(Place { segment: SegmentNo(segment.parse().ok()?), offset })
}

/// An id, alone or as a list or a Refer-To has it.
pub(super) fn id_of(what: &str) -> Option<MessageId> {
    let bare = what.trim_start_matches('<').trim_end_matches('>');
    let bare = bare.strip_prefix("sip:").or_else(|| bare.strip_prefix("sips:")).unwrap_or(bare);
    MessageId::parse(bare.split('@').next()?.as_bytes())
}

/// A user as an operator writes one.
pub(super) fn user_of(user: Option<&str>) -> Result<Option<Address>, String> {
    let Some(user) = user else { return Ok(None) };
    let uri = if user.contains(':') { user.to_owned() } else { format!("sip:{user}") };
    Address::of_uri(uri.as_bytes())
        .map(Some)
        .ok_or_else(|| format!("'{user}' names no user: sip:user@domain or tel:+number"))
}
