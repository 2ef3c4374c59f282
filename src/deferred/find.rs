//! From the ids that a request names to the messages they mean (12.2.2.3-3, 12.2.1.1).
//!
//! An id's time part leads to the few messages of that millisecond; which of them it is, only the record says. So a search reads.
//! It sees one user's messages and no others: a foreign id is an unknown one.

use super::cx::{Cx, Reader};
use super::dismiss;
use super::encapsulate;
use super::identity::Address;
use super::large::wrap;
use super::policy::Policy;
use crate::base::limits::Limits;
use crate::store::loader::{LoadDone, Loaded, Record};
use crate::store::queue::Queue;
use crate::store::record::Locator;
use crate::store::stamp::MessageId;
use crate::wire::cpim;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::uri::{Scheme, Uri};
use std::collections::{HashMap, HashSet, VecDeque};

/// What is looked for.
#[derive(Clone, Debug)]
pub(super) enum Sought {
    /// The ids of a list, in its order; `None` for an entry that is no id of ours.
    Ids(Vec<Option<MessageId>>),
    /// What the sender called the message: its Call-ID, or its CPIM Message-ID (legacy retrieval).
    Original(Vec<u8>),
}

/// A search under way.
#[derive(Debug)]
pub(super) struct Search {
    owner: Address,
    sought: Sought,
    to_read: VecDeque<Locator>,
    found: HashMap<MessageId, Locator>,
    originals: Vec<Locator>,
}

impl Search {
    /// Begins to look through a user's messages.
    pub(super) fn new(owner: &Address, sought: Sought, queue: Option<&Queue>) -> Search {
        let mut to_read: Vec<Locator> = Vec::new();
        if let Some(queue) = queue {
            match &sought {
                Sought::Ids(ids) => {
                    // Ids of one millisecond lead to the same messages: each is read once.
                    let mut times: Vec<u64> = ids.iter().flatten().map(MessageId::millis).collect();
                    times.sort_unstable();
                    times.dedup();
                    to_read.extend(times.into_iter().flat_map(|millis| queue.range(millis)));
                }
                Sought::Original(_) => to_read.extend(queue.iter()),
            }
        }
        Search { owner: owner.clone(), sought, to_read: to_read.into(), found: HashMap::new(), originals: Vec::new() }
    }

    /// Asks the disk for the next batch; true when nothing is left to be read.
    pub(super) fn step(&mut self, cx: &mut Cx, reader: Reader, queue: Option<&Queue>) -> bool {
        loop {
            let batch = dismiss::next_batch(&mut self.to_read);
            if batch.is_empty() {
                return true;
            }
            let mut ops = Vec::new();
            let missing = cx.loader.load_owned(reader.to_u64(), &self.owner, &batch, &mut ops);
            cx.disk.extend(ops);
            match missing {
                Some(LoadDone { records, .. }) => self.loaded(records, queue),
                None => return false,
            }
        }
    }

    /// Looks through a batch. What cannot be read has no id, and is not found; what was copied forward meanwhile is read there.
    pub(super) fn loaded(&mut self, records: Vec<Loaded>, queue: Option<&Queue>) {
        for Loaded { locator, outcome } in records {
            let Ok(record) = outcome else {
                let now = queue.and_then(|queue| queue.at(locator.stamp()));
                self.to_read.extend(now.filter(|now| now.place() != locator.place()));
                continue;
            };
            match &self.sought {
                Sought::Ids(ids) => {
                    if ids.contains(&Some(record.id)) {
                        self.found.insert(record.id, locator);
                    }
                }
                Sought::Original(name) => {
                    if is_called(&record, name) {
                        self.originals.push(locator);
                    }
                }
            }
        }
    }

    /// What was found, in the order asked for, and how many were not.
    pub(super) fn finish(self) -> (Vec<Locator>, usize) {
        match self.sought {
            Sought::Ids(ids) => {
                let asked = ids.len();
                let found: Vec<Locator> = ids.iter().flatten().filter_map(|id| self.found.get(id)).copied().collect();
                let missing = asked - found.len();
                (found, missing)
            }
            Sought::Original(_) => {
                let missing = usize::from(self.originals.is_empty());
                (self.originals, missing)
            }
        }
    }
}

/// True when the sender gave the message this name.
fn is_called(record: &Record, name: &[u8]) -> bool {
    if let Some(prefix) = wrap::prefix_of(record) {
        let cpim = encapsulate::asked_of_large(record.envelope.of(&record.page)).map(|(_, cpim)| cpim);
        return call_id_of(prefix.of(&record.page)) == Some(name) || cpim.and_then(cpim::message_id) == Some(name);
    }
    let body = record.body();
    let Some(embedded) = encapsulate::embedded(&body, record.body_type.of(&record.page)) else { return false };
    let Ok(message) = Message::parse_datagram(body.slice(embedded.range()), &Limits::unbounded()) else { return false };
    message.call_id() == name || cpim::message_id(message.body()) == Some(name)
}

/// The Call-ID among some header lines.
fn call_id_of(lines: &[u8]) -> Option<&[u8]> {
    lines.split(|&octet| octet == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        (Name::parse(name.trim_ascii()) == Name::CallId).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// The ids that the URIs of a list mean, in its order; `None` for one that is no id of ours.
///
//= RFC 5363 4.1: a URI that is there more than once MUST be treated as if it appeared only once (also where it is written otherwise)
pub(super) fn ids_of<'a>(policy: &Policy, uris: impl Iterator<Item = &'a [u8]>) -> Vec<Option<MessageId>> {
    let mut seen = HashSet::new();
    uris.map(|uri| id_of(policy, uri)).filter(|id| id.is_none_or(|id| seen.insert(id))).collect()
}

/// The id that a URI means: `sip:ID@host`, with or without scheme and angle brackets; parameters say nothing.
///
//= 12.2.2.3-3: Message-ID whose general format is "sip:String@hostname"
pub(super) fn id_of(policy: &Policy, uri: &[u8]) -> Option<MessageId> {
    let uri = uri.trim_ascii();
    let uri = uri.strip_prefix(b"<").and_then(|uri| uri.strip_suffix(b">")).unwrap_or(uri);
    let with_scheme;
    let parsed = match Uri::parse(uri) {
        Ok(uri) => uri,
        Err(_) => {
            with_scheme = [b"sip:", uri].concat();
            Uri::parse(&with_scheme).ok()?
        }
    };
    let ours = parsed.host.eq_ignore_ascii_case(policy.hostname.as_bytes());
    if !ours || !matches!(parsed.scheme, Scheme::Sip | Scheme::Sips) {
        return None;
    }
    MessageId::parse(parsed.user?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::stamp::Stamp;

    //= 12.2.2.3-3: Message-ID whose general format is "sip:String@hostname"
    #[test]
    fn an_id_is_understood_however_it_is_written() {
        let policy = Policy::new("ms32.example.com", &["example.com"]);
        let id = MessageId::new(Stamp(77 << 22), [7; 10]);
        for way in [
            "sip:ID@ms32.example.com",
            "sips:ID@MS32.example.com",
            "ID@ms32.example.com",
            "<sip:ID@ms32.example.com;x=y>",
        ] {
            let uri = way.replace("ID", id.as_str());
            assert_eq!(id_of(&policy, uri.as_bytes()), Some(id), "{way}");
        }
        let upper = id.as_str().to_ascii_uppercase();
        for other in [
            "sip:ID@elsewhere.example.com",
            "tel:ID",
            "",
            "sip:ms32.example.com",
            &format!("sip:{upper}@ms32.example.com"),
        ] {
            assert_eq!(id_of(&policy, other.replace("ID", id.as_str()).as_bytes()), None, "{other}");
        }
        assert_eq!(id_of(&policy, b"sip:bob@ms32.example.com"), None);
    }
}
