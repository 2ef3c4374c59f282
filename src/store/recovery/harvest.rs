//! What the records of all logs say together: who has which messages, which of them are no more, which states hold.

use super::{Recovered, RecoveryFault, RecoveryReport, StateRecovered};
use crate::base::net::CoreId;
use crate::store::directory::Directory;
use crate::store::disk::SegmentNo;
use crate::store::layout::{self, View};
use crate::store::queue::Queue;
use crate::store::record::{Extent, Flags, Kind, Locator, Place, Stamp, StateKind};
use crate::store::scan::{self, FoundGroup};
use std::collections::{HashMap, HashSet};

/// A message as found; 32 octets.
#[derive(Clone, Copy)]
struct FoundMessage {
    locator: Locator,
    fingerprint: u64,
}

type StateKey = (StateKind, Box<[u8]>, Box<[u8]>);

struct FoundState {
    stamp: Stamp,
    value: Box<[u8]>,
    extent: Extent,
}

#[derive(Default)]
pub(super) struct Harvest {
    owners: HashMap<Box<[u8]>, Vec<FoundMessage>>,
    dead: HashSet<Place>,
    retained: HashSet<Place>,
    /// Every record of each state, in the order in which they were read: within a log, that of their writing.
    states: HashMap<StateKey, Vec<FoundState>>,
    /// Where whole copies were copied from: what lies there is nobody's any more.
    superseded: HashSet<Place>,
    /// Of large messages.
    parts: HashMap<Place, Vec<Locator>>,
    pub(super) highest: Stamp,
}

impl Harvest {
    /// Takes in what is readable of a group, and counts the rest.
    pub(super) fn group(
        &mut self,
        page: &[u8],
        log: CoreId,
        segment: SegmentNo,
        salt: u32,
        group: &FoundGroup,
        report: &mut RecoveryReport,
    ) {
        self.highest = self.highest.max(group.head.highest);
        let at = usize::try_from(group.at).unwrap_or(usize::MAX);
        scan::records(page, at, &group.head, segment, salt, |place, record| match record {
            Ok(view) => {
                report.records += 1;
                self.record(page, place, &view);
            }
            Err(damage) => report.damaged(log, segment, place.octets(), damage),
        });
    }

    fn record(&mut self, page: &[u8], place: Place, view: &View) {
        self.highest = self.highest.max(view.head.stamp);
        if view.head.origin != place {
            self.superseded.insert(view.head.origin);
        }
        let owner = view.owner.of(page);
        match view.head.kind {
            Kind::Message => {
                let head = &view.head;
                let locator = Locator::new(place, head.stamp, head.expiry_s, view.octets, head.flags);
                if head.flags.has(Flags::LARGE) {
                    self.parts.insert(place, layout::parts(view.parts.of(page)).collect());
                }
                let message = FoundMessage { locator, fingerprint: head.fingerprint };
                match self.owners.get_mut(owner) {
                    Some(messages) => messages.push(message),
                    None => {
                        self.owners.insert(owner.into(), vec![message]);
                    }
                }
            }
            Kind::Tombstones => {
                self.dead.extend(places(view.envelope.of(page)));
                self.owed(view.body.of(page), place);
            }
            Kind::Retained => self.retained.extend(places(view.envelope.of(page))),
            Kind::State => {
                if let Some(kind) = StateKind::from_u8(view.head.flags.0) {
                    let extent = Extent { place, octets: view.octets };
                    self.state(kind, owner, view.label.of(page), view.body.of(page), view.head.stamp, extent);
                }
            }
            Kind::Part | Kind::Checkpoint => {}
        }
    }

    fn state(&mut self, kind: StateKind, owner: &[u8], key: &[u8], value: &[u8], stamp: Stamp, extent: Extent) {
        let found = FoundState { stamp, value: value.into(), extent };
        self.states.entry((kind, owner.into(), key.into())).or_default().push(found);
    }

    /// States written together with tombstones: kind 1, zero 3, owner_len 2, key_len 2, stamp 8, value_len 4, then the three.
    fn owed(&mut self, mut octets: &[u8], place: Place) {
        while let Some((fixed, rest)) = octets.split_at_checked(20) {
            let owner_len = usize::from(layout::le16(fixed, 4));
            let key_len = usize::from(layout::le16(fixed, 6));
            let value_len = layout::le32(fixed, 16) as usize;
            let Some((owner, rest)) = rest.split_at_checked(owner_len) else { return };
            let Some((key, rest)) = rest.split_at_checked(key_len) else { return };
            let Some((value, rest)) = rest.split_at_checked(value_len) else { return };
            let Some(kind) = StateKind::from_u8(fixed[0]) else { return };
            // They lie in the tombstones' record and end with it.
            let extent = Extent { place, octets: 0 };
            self.state(kind, owner, key, value, Stamp(layout::le64(fixed, 8)), extent);
            octets = rest;
        }
    }
}

fn places(octets: &[u8]) -> impl Iterator<Item = Place> {
    octets.chunks_exact(8).map(|place| Place::from_u64(layout::le64(place, 0)))
}

/// Applies tombstones, drops twins, fills the directory and the homes.
pub(super) fn settle(directory: &Directory, mut harvest: Harvest, found: &mut Recovered) -> Result<(), RecoveryFault> {
    for (owner, mut messages) in harvest.owners.drain() {
        messages.sort_unstable_by_key(|message| message.locator.stamp());
        let home = &mut found.homes[directory.home(&owner).index()];
        let mut queue = Queue::new();
        let mut seen = HashSet::new();
        for FoundMessage { locator, fingerprint } in messages {
            if harvest.superseded.contains(&locator.place()) {
                if !harvest.dead.contains(&locator.place()) {
                    home.losers.push(locator.extent());
                }
                continue;
            }
            let first = fingerprint == 0 || seen.insert(fingerprint);
            if fingerprint != 0 && first {
                home.fingerprints.push((fingerprint, locator.stamp()));
            }
            if harvest.dead.contains(&locator.place()) {
                found.report.dead += 1;
            } else if !first {
                // The first may be delivered already: a twin is never worth a second push.
                home.twins.push(locator);
            } else {
                let retained = harvest.retained.contains(&locator.place());
                let flags = if retained { locator.flags().with(Flags::RETAINED) } else { locator.flags() };
                queue.insert(locator.with_flags(flags));
                home.parts.extend(harvest.parts.remove(&locator.place()).map(|parts| (locator.place(), parts)));
            }
        }
        if queue.is_empty() {
            continue;
        }
        let count = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        let full = |_| RecoveryFault::TooManyUsers { room: directory.len() };
        let user = directory.restore(&owner, count, queue.octets()).map_err(full)?;
        found.report.messages += u64::from(count);
        found.report.users += 1;
        home.users.push((user, queue));
    }
    for ((kind, owner, key), mut records) in harvest.states {
        let home = &mut found.homes[directory.home(&owner).index()];
        let superseded = &harvest.superseded;
        records.retain(|record| !harvest.dead.contains(&record.extent.place));
        // The latest that no copy has taken the place of; of two with one stamp the one that was written later.
        let is_copied = |record: &FoundState| superseded.contains(&record.extent.place);
        let latest = records.iter().enumerate().filter(|(_, record)| !is_copied(record));
        let latest = latest.max_by_key(|(at, record)| (record.stamp, *at)).map(|(at, _)| at);
        for (at, record) in records.into_iter().enumerate() {
            let FoundState { stamp, value, extent } = record;
            if Some(at) == latest && !value.is_empty() {
                home.states.push(StateRecovered { kind, owner: owner.clone(), key: key.clone(), value, stamp, extent });
            } else {
                home.losers.push(extent);
            }
        }
    }
    for home in &mut found.homes {
        // A hash map's order is not repeatable; the simulator's runs must be.
        home.users.sort_unstable_by_key(|(_, queue)| queue.first().map(Locator::stamp));
        home.states
            .sort_unstable_by(|a, b| (a.stamp, a.kind, &a.owner, &a.key).cmp(&(b.stamp, b.kind, &b.owner, &b.key)));
        home.fingerprints.sort_unstable_by_key(|(fingerprint, stamp)| (*stamp, *fingerprint));
        home.twins.sort_unstable_by_key(Locator::stamp);
        home.losers.sort_unstable();
        home.parts.sort_unstable_by_key(|(place, _)| *place);
    }
    Ok(())
}
