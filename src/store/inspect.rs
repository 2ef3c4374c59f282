//! The logs record by record, as they lie on the disk: for people and tools, not for the daemon's own work. Reads with the reader that
//! recovery uses, so what is shown here is what a start would find. Decides nothing: which break is a torn tail and which is
//! damage is [`recovery`](super::recovery)'s to say.

use super::disk::{DiskFault, SegmentNo};
pub use super::layout::Damage;
use super::layout::{self, SegmentHead, View};
use super::reason;
pub use super::reason::{Ending, Reason};
use super::record::{Flags, Kind, Locator, MessageId, Place, Stamp, StateKind};
use super::recovery::Files;
use super::scan;
use super::segments::salt_of;
use crate::base::net::CoreId;

/// One finding, in the order of the file.
#[derive(Debug)]
pub enum Item<'a> {
    /// A segment's file begins.
    Segment {
        /// In whose log.
        log: CoreId,
        /// Which.
        segment: SegmentNo,
        /// Length of the file.
        octets: u64,
        /// Its header passed and names this file.
        headed: bool,
        /// It was made under this data directory's key.
        ours: bool,
    },
    /// A group begins.
    Group(Group),
    /// A record that passed its checks.
    Record(Entry<'a>),
    /// A place where a record or a group should be readable and is not.
    Broken {
        /// In whose log.
        log: CoreId,
        /// Where.
        place: Place,
        /// What is wrong.
        damage: Damage,
    },
    /// Octets without a group's header. Behind the last group they are a torn tail or left over from the file's last use.
    Gap {
        /// In whose log.
        log: CoreId,
        /// Where they begin.
        place: Place,
        /// A group follows: then it is damage.
        inside: bool,
    },
}

/// What a group's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// In whose log.
    pub log: CoreId,
    /// Where.
    pub place: Place,
    /// Its number: groups of a log are counted from 1.
    pub number: u64,
    /// Up to which the log was durable when this one was submitted.
    pub durable: u64,
    /// How many records were written with it.
    pub records: u32,
    /// Octets from its header to the end of its last record.
    pub octets: u32,
    /// All its records are there.
    pub whole: bool,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// In whose log.
    pub log: CoreId,
    /// Where it lies.
    pub place: Place,
    /// In which group.
    pub group: u64,
    /// What it is.
    pub kind: Kind,
    /// When it was taken in; zero where nothing depends on it.
    pub stamp: Stamp,
    /// Where it was copied from; its own place when it never was.
    pub origin: Place,
    /// When it expires, in seconds since 1970; messages only.
    pub expiry_s: u32,
    /// Flags of a message.
    pub flags: Flags,
    /// What a second copy of a message is recognised by; zero: nothing.
    pub fingerprint: u64,
    /// Length on the disk with padding.
    pub octets: u64,
    /// Whose.
    pub owner: &'a [u8],
    /// `Content-Type` of a message's body; key of a state.
    pub label: &'a [u8],
    /// What the depositor put beside a message; the places that tombstones and marks name.
    pub envelope: &'a [u8],
    /// Push-ready body of a message; value of a state.
    pub body: &'a [u8],
    id: MessageId,
    raw_flags: u8,
    parts: &'a [u8],
}

impl<'a> Entry<'a> {
    /// A message's name.
    pub fn id(&self) -> Option<MessageId> {
        (self.kind == Kind::Message).then_some(self.id)
    }

    /// Which state this is.
    pub fn state(&self) -> Option<StateKind> {
        if self.kind == Kind::State { StateKind::from_u8(self.raw_flags) } else { None }
    }

    /// What tombstones or marks say: of which records, why, and since when.
    pub fn endings(&self) -> impl Iterator<Item = Ending> + use<'a> {
        let named = matches!(self.kind, Kind::Tombstones | Kind::Retained);
        let (label, envelope) = if named { (self.label, self.envelope) } else { (&[][..], &[][..]) };
        reason::endings(label, envelope, self.stamp)
    }

    /// The places that tombstones or marks name.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<'a> {
        let named = matches!(self.kind, Kind::Tombstones | Kind::Retained);
        let octets = if named { self.envelope } else { &[] };
        octets.chunks_exact(8).map(|place| Place::from_u64(layout::le64(place, 0)))
    }

    /// The parts of a large message, in order.
    pub fn parts(&self) -> impl Iterator<Item = Locator> + use<'a> {
        let word = |part: &[u8], at| layout::le64(part, at);
        self.parts.chunks_exact(24).map(move |part| Locator::from_words([word(part, 0), word(part, 8), word(part, 16)]))
    }

    fn of(log: CoreId, group: u64, place: Place, page: &'a [u8], view: &View) -> Entry<'a> {
        let head = &view.head;
        Entry {
            log,
            place,
            group,
            kind: head.kind,
            stamp: head.stamp,
            origin: head.origin,
            expiry_s: head.expiry_s,
            flags: head.flags,
            fingerprint: head.fingerprint,
            octets: view.octets,
            owner: view.owner.of(page),
            label: view.label.of(page),
            envelope: view.envelope.of(page),
            body: view.body.of(page),
            id: MessageId::new(head.stamp, head.random),
            raw_flags: head.flags.0,
            parts: view.parts.of(page),
        }
    }
}

/// A segment that could not be read to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unread {
    /// In whose log.
    pub log: CoreId,
    /// Which.
    pub segment: SegmentNo,
    /// Why.
    pub fault: DiskFault,
}

/// Walks all logs (`only`: one of them), segments by number, and shows everything. `key` is the manifest's.
///
/// # Errors
/// The directory cannot be listed. A segment that cannot be read is reported in the list that comes back, and passed over.
pub fn walk(
    files: &dyn Files,
    key: [u8; 16],
    only: Option<CoreId>,
    visit: &mut dyn FnMut(Item<'_>),
) -> Result<Vec<Unread>, DiskFault> {
    let mut list = files.list()?;
    list.retain(|(log, ..)| only.is_none_or(|only| only == *log));
    list.sort_unstable();
    let mut unread = Vec::new();
    let mut page = Vec::new();
    for (log, segment, octets) in list {
        if octets > layout::SEGMENT_OCTETS_MAX {
            unread.push(Unread { log, segment, fault: DiskFault::Errno(0) });
            continue;
        }
        page.clear();
        page.resize(usize::try_from(octets).unwrap_or(0), 0);
        if let Err(fault) = fill(files, log, segment, &mut page) {
            unread.push(Unread { log, segment, fault });
        }
        segment_of(log, segment, &page, key, visit);
    }
    Ok(unread)
}

/// Reads as much as there is; what cannot be read stays zero.
fn fill(files: &dyn Files, log: CoreId, segment: SegmentNo, page: &mut [u8]) -> Result<(), DiskFault> {
    let mut done = 0;
    while done < page.len() {
        match files.read_at(log, segment, done as u64, &mut page[done..])? {
            0 => break,
            read => done += read,
        }
    }
    Ok(())
}

fn segment_of(log: CoreId, segment: SegmentNo, page: &[u8], key: [u8; 16], visit: &mut dyn FnMut(Item<'_>)) {
    let head = SegmentHead::decode(page).ok().filter(|head| head.log == log && head.segment == segment);
    let salt = head.map_or_else(|| salt_of(&key, segment), |head| head.salt);
    let ours = head.is_some_and(|head| head.salt == salt_of(&key, segment));
    visit(Item::Segment { log, segment, octets: page.len() as u64, headed: head.is_some(), ours });
    let found = scan::groups(page, segment, salt);
    let place = |at: u64| Place { segment, offset: (at / 8) as u32 };
    let mut gaps = found.gaps.iter().peekable();
    for group in &found.groups {
        while let Some(gap) = gaps.next_if(|gap| gap.at < group.at) {
            visit(Item::Gap { log, place: place(gap.at), inside: gap.inside });
        }
        let head = &group.head;
        visit(Item::Group(Group {
            log,
            place: place(group.at),
            number: head.number,
            durable: head.durable,
            records: head.count,
            octets: head.length,
            whole: group.whole,
        }));
        let at = usize::try_from(group.at).unwrap_or(usize::MAX);
        scan::records(page, at, head, segment, salt, |place, record| match record {
            Ok(view) => visit(Item::Record(Entry::of(log, head.number, place, page, &view))),
            Err(damage) => visit(Item::Broken { log, place, damage }),
        });
    }
    for gap in gaps {
        visit(Item::Gap { log, place: place(gap.at), inside: gap.inside });
    }
}
