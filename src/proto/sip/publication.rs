//! The event state compositor of one user (RFC 3903 6): which publications live, under which entity tag, until
//! when. Knows neither messages nor documents: what was published is one octet whose meaning is its owner's.

use crate::base::clock::Wall;
use crate::base::dice::Dice;
use std::ops::Deref;
use std::time::Duration;

/// Publications kept per event; one more and the oldest is dropped. A user has a handful of devices, and each device one
/// publication; a client that forgets its entity tag leaves one behind an hour.
pub const PER_EVENT_MAX: usize = 16;

/// Octets of an [`encode`](Publications::encode)d publication: event, value, tag, expires, modified.
const ENTRY_OCTETS: usize = 1 + 1 + 16 + 8 + 8;
const VERSION: u8 = 1;

/// An entity tag: 16 hex digits, 64 random bits, so that none comes a second time in a user's life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tag([u8; 16]);

impl Deref for Tag {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// One publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publication {
    /// Which event package, as the owner counts them.
    pub event: u8,
    /// What was published, in the owner's meaning.
    pub value: u8,
    /// Its present entity tag.
    pub tag: Tag,
    /// It is over from then on.
    pub expires: Wall,
    /// When a body came last: a refresh does not count.
    pub modified: Wall,
}

/// Bounds of an expiration in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Shorter ones are refused with 423.
    pub min_s: u32,
    /// For requests that name none.
    pub default_s: u32,
    /// Longer ones are shortened.
    pub max_s: u32,
}

impl From<(u32, u32, u32)> for Bounds {
    fn from((min_s, default_s, max_s): (u32, u32, u32)) -> Bounds {
        Bounds { min_s, default_s, max_s }
    }
}

/// What of a PUBLISH matters here.
#[derive(Clone, Copy, Debug)]
pub struct PublishRequest<'a> {
    /// Which event package, as the owner counts them.
    pub event: u8,
    /// Every entity tag of SIP-If-Match.
    pub if_match: &'a [&'a [u8]],
    /// Expires in seconds.
    pub expires: Option<u32>,
    /// What the body says; `None` when there is no body.
    pub value: Option<u8>,
}

/// What a PUBLISH comes to. Each variant holds what the 200 says, and what [`Publications::apply`] needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A new publication.
    Created {
        /// For SIP-ETag.
        tag: Tag,
        /// For Expires.
        expires_s: u32,
        /// As it will be kept.
        publication: Publication,
    },
    /// The same state for longer, under a new tag.
    Refreshed {
        /// For SIP-ETag.
        tag: Tag,
        /// For Expires.
        expires_s: u32,
        /// The tag it had.
        replaces: Tag,
        /// As it will be kept.
        publication: Publication,
    },
    /// New state, under a new tag.
    Modified {
        /// For SIP-ETag.
        tag: Tag,
        /// For Expires.
        expires_s: u32,
        /// The tag it had.
        replaces: Tag,
        /// As it will be kept.
        publication: Publication,
    },
    /// Nothing is left of it.
    Removed {
        /// For SIP-ETag, which even this 200 must carry.
        tag: Tag,
        /// For Expires: 0.
        expires_s: u32,
        /// The tag it had; `None` when it was to end as it began.
        replaces: Option<Tag>,
    },
}

impl Change {
    /// For SIP-ETag.
    pub fn tag(&self) -> Tag {
        match *self {
            Change::Created { tag, .. }
            | Change::Refreshed { tag, .. }
            | Change::Modified { tag, .. }
            | Change::Removed { tag, .. } => tag,
        }
    }

    /// For Expires, in seconds.
    pub fn expires_s(&self) -> u32 {
        match *self {
            Change::Created { expires_s, .. }
            | Change::Refreshed { expires_s, .. }
            | Change::Modified { expires_s, .. }
            | Change::Removed { expires_s, .. } => expires_s,
        }
    }
}

/// Why a PUBLISH is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 400: several entity tags, or neither tag nor body.
    BadRequest,
    /// 412: no publication has that entity tag.
    ConditionFailed,
    /// 423 with Min-Expires.
    IntervalTooBrief {
        /// For Min-Expires, in seconds.
        min: u32,
    },
}

impl Refusal {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Refusal::BadRequest => 400,
            Refusal::ConditionFailed => 412,
            Refusal::IntervalTooBrief { .. } => 423,
        }
    }
}

/// Octets that are no list of publications, or of another version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damaged {
    /// Written by a version we do not know.
    Version(u8),
    /// Shorter or longer than it says.
    Length,
    /// A tag that is not 16 hex digits.
    Tag,
}

/// All publications of one user.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Publications {
    entries: Vec<Publication>,
}

impl Publications {
    /// None.
    pub fn new() -> Publications {
        Publications::default()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, expired ones included until [`Publications::expire`] has been called.
    pub fn iter(&self) -> impl Iterator<Item = &Publication> {
        self.entries.iter()
    }

    /// What `request` comes to, without doing it: commit the outcome first, then [`Publications::apply`] it.
    ///
    /// One at a time: a second decision must see the first one applied, or one entity tag would count twice.
    pub fn decide(
        &self,
        now: Wall,
        request: &PublishRequest<'_>,
        bounds: Bounds,
        dice: &mut Dice,
    ) -> Result<Change, Refusal> {
        //= RFC 3903 6-3: not a single entity-tag: 400; no match: 412
        let found = match *request.if_match {
            [] => None,
            [one] => {
                let matches = |p: &&Publication| p.event == request.event && p.expires > now && *p.tag == *one;
                Some(self.entries.iter().find(matches).ok_or(Refusal::ConditionFailed)?)
            }
            _ => return Err(Refusal::BadRequest),
        };
        //= RFC 3903 6-4: greater than zero and less than the minimum: 423 with Min-Expires
        let expires_s = match request.expires {
            None => bounds.default_s,
            Some(0) => 0,
            Some(brief) if brief < bounds.min_s => return Err(Refusal::IntervalTooBrief { min: bounds.min_s }),
            Some(asked) => asked.min(bounds.max_s),
        };
        //= RFC 3903 6-5: no message body and no entity-tag: 400
        if found.is_none() && request.value.is_none() {
            return Err(Refusal::BadRequest);
        }
        //= RFC 3903 6-6: a new entity-tag for each successful publication
        let tag = self.fresh_tag(dice);
        if expires_s == 0 {
            return Ok(Change::Removed { tag, expires_s, replaces: found.map(|p| p.tag) });
        }
        let expires = now + Duration::from_secs(u64::from(expires_s));
        // Later than all before, also when the wall clock was set back: else an old decision would outlive the new one.
        let last = self.entries.iter().map(|p| p.modified).max();
        let modified = last.map_or(now, |last| now.max(last + Duration::from_micros(1)));
        Ok(match (found, request.value) {
            (Some(old), None) => {
                let publication = Publication { tag, expires, ..*old };
                Change::Refreshed { tag, expires_s, replaces: old.tag, publication }
            }
            (Some(old), Some(value)) => {
                let publication = Publication { event: request.event, value, tag, expires, modified };
                Change::Modified { tag, expires_s, replaces: old.tag, publication }
            }
            (None, value) => {
                let value = value.unwrap_or_default();
                let publication = Publication { event: request.event, value, tag, expires, modified };
                Change::Created { tag, expires_s, publication }
            }
        })
    }

    /// Does what was decided. Doing it twice changes nothing more.
    pub fn apply(&mut self, change: &Change) {
        match *change {
            Change::Created { publication, .. } => self.put(publication.tag, publication),
            Change::Refreshed { replaces, publication, .. } | Change::Modified { replaces, publication, .. } => {
                self.put(replaces, publication);
            }
            Change::Removed { replaces, .. } => self.entries.retain(|p| Some(p.tag) != replaces),
        }
    }

    /// [`Publications::decide`] and [`Publications::apply`] in one, where nothing is to be committed in between.
    pub fn publish(
        &mut self,
        now: Wall,
        request: &PublishRequest<'_>,
        bounds: Bounds,
        dice: &mut Dice,
    ) -> Result<Change, Refusal> {
        let change = self.decide(now, request, bounds, dice)?;
        self.apply(&change);
        Ok(change)
    }

    /// Drops what is over at `now`, and says what that was.
    pub fn expire(&mut self, now: Wall) -> Vec<Publication> {
        self.entries.extract_if(.., |p| p.expires <= now).collect()
    }

    /// When the next one is over.
    pub fn deadline(&self) -> Option<Wall> {
        self.entries.iter().map(|p| p.expires).min()
    }

    /// The one of `event` that decides: the last modified of those that live, so that a user who switches off stays off.
    pub fn effective(&self, event: u8, now: Wall) -> Option<&Publication> {
        self.entries.iter().filter(|p| p.event == event && p.expires > now).max_by_key(|p| p.modified)
    }

    /// For the log: version, then 34 octets each: event, value, tag, expires and modified (microseconds, little-endian).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(1 + self.entries.len() * ENTRY_OCTETS);
        out.push(VERSION);
        for p in &self.entries {
            out.extend_from_slice(&[p.event, p.value]);
            out.extend_from_slice(&p.tag);
            out.extend_from_slice(&p.expires.0.to_le_bytes());
            out.extend_from_slice(&p.modified.0.to_le_bytes());
        }
    }

    /// Back from [`Publications::encode`].
    pub fn decode(octets: &[u8]) -> Result<Publications, Damaged> {
        let (&version, rest) = octets.split_first().ok_or(Damaged::Length)?;
        if version != VERSION {
            return Err(Damaged::Version(version));
        }
        let entries = rest.chunks_exact(ENTRY_OCTETS);
        // 256 events at most, and the bound of each: more was never written.
        if !entries.remainder().is_empty() || entries.len() > 256 * PER_EVENT_MAX {
            return Err(Damaged::Length);
        }
        entries.map(decode_entry).collect::<Result<_, _>>().map(|entries| Publications { entries })
    }

    /// Puts `publication` in the place of the one tagged `replaces`, or at the end, where the oldest makes room.
    fn put(&mut self, replaces: Tag, publication: Publication) {
        let present = |p: &Publication| p.tag == replaces || p.tag == publication.tag;
        if let Some(place) = self.entries.iter_mut().find(|p| present(p)) {
            *place = publication;
            return;
        }
        // At most 16 of a user and event: a client that loses its entity tags must not fill the table, and is not refused for it.
        let same = |p: &Publication| p.event == publication.event;
        if self.entries.iter().filter(|p| same(p)).count() >= PER_EVENT_MAX
            && let Some((oldest, _)) =
                self.entries.iter().enumerate().filter(|(_, p)| same(p)).min_by_key(|(_, p)| (p.modified, p.expires))
        {
            self.entries.remove(oldest);
        }
        self.entries.push(publication);
    }

    fn fresh_tag(&self, dice: &mut Dice) -> Tag {
        loop {
            let tag = Tag(dice.hex());
            if self.entries.iter().all(|p| p.tag != tag) {
                return tag;
            }
        }
    }
}

fn decode_entry(entry: &[u8]) -> Result<Publication, Damaged> {
    let (head, rest) = entry.split_first_chunk::<2>().ok_or(Damaged::Length)?;
    let (tag, rest) = rest.split_first_chunk::<16>().ok_or(Damaged::Length)?;
    let (expires, rest) = rest.split_first_chunk::<8>().ok_or(Damaged::Length)?;
    let (modified, _) = rest.split_first_chunk::<8>().ok_or(Damaged::Length)?;
    if !tag.iter().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Damaged::Tag);
    }
    let [event, value] = *head;
    let (expires, modified) = (Wall(u64::from_le_bytes(*expires)), Wall(u64::from_le_bytes(*modified)));
    Ok(Publication { event, value, tag: Tag(*tag), expires, modified })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
