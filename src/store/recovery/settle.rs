//! What the segments of all logs say together: who has which messages, which of them are no more, which states hold. Each home is
//! settled alone, so as many at a time as there are.

use super::{HomeRecovered, Recovered, RecoveryFault, StateRecovered};
use crate::base::net::CoreId;
use crate::store::directory::{Directory, DirectoryFull};
use crate::store::hint::{Hint, HintState};
use crate::store::queue::Queue;
use crate::store::record::{Extent, Flags, Locator, Place, Stamp, StateKind, extents_of};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::OnceLock;

/// Set in the flags of a message that a tombstone names, here only.
const DEAD: Flags = Flags(128);

/// A message as found; 32 octets.
#[derive(Clone, Copy)]
struct FoundMessage {
    locator: Locator,
    fingerprint: u64,
}

/// Places that records name, sorted.
struct Marks {
    dead: Vec<Place>,
    /// Of messages that their users had, and that stay.
    had: Vec<Place>,
    /// Of messages whose time was over, and that stay.
    missed: Vec<Place>,
    /// Where whole copies were copied from: what lies there is nobody's any more.
    superseded: Vec<Place>,
    /// Of the dead, those whose message somebody has had or done away with. Seldom asked for.
    over: OnceLock<Vec<Place>>,
    /// Fingerprints of such messages in segments that are gone, sorted.
    over_and_gone: Vec<u64>,
}

impl Marks {
    fn is_over(&self, (hints, gone): (&[Hint], &[Hint]), place: Place) -> bool {
        let over = self.over.get_or_init(|| {
            let endings =
                hints.iter().chain(gone).flat_map(Hint::endings).filter(|ending| ending.reason.ends_message());
            let mut over: Vec<Place> = endings.map(|ending| ending.place).collect();
            over.sort_unstable();
            over
        });
        has(over, place)
    }
}

/// Asked for rising places, it looks at each mark once.
struct Walk<'a>(&'a [Place]);

impl Walk<'_> {
    fn has(&mut self, place: Place) -> bool {
        while self.0.first().is_some_and(|mark| *mark < place) {
            self.0 = &self.0[1..];
        }
        self.0.first() == Some(&place)
    }
}

fn walk<'a>(marks: &'a [Place], hint: &Hint) -> Walk<'a> {
    let from = marks.partition_point(|mark| mark.segment < hint.segment());
    Walk(&marks[from..])
}

/// What these hints say, in order and once.
fn sorted_of<'a>(hints: &mut dyn Iterator<Item = &'a Hint>, places: &dyn Fn(&Hint) -> Vec<Place>) -> Vec<Place> {
    let mut places: Vec<Place> = hints.flat_map(places).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// What the marks of a segment name: messages that were had, or missed.
fn marked(hint: &Hint, had: bool) -> Vec<Place> {
    hint.marks().filter(|mark| mark.reason.is_had() == had).map(|mark| mark.place).collect()
}

fn has(marks: &[Place], place: Place) -> bool {
    marks.binary_search(&place).is_ok()
}

/// An address with its hash under the directory's key, which is its home and its hash here.
#[derive(Clone, Copy)]
struct Owner<'a> {
    hash: u64,
    octets: &'a [u8],
}

impl PartialEq for Owner<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.octets == other.octets
    }
}

impl Eq for Owner<'_> {}

impl Hash for Owner<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The lower half chose the home.
        state.write_u64(self.hash.rotate_left(32));
    }
}

/// A keyed hash is its own hash.
#[derive(Clone, Copy, Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Nobody of this home.
const STRANGER: u32 = u32::MAX;

/// Applies tombstones, drops twins, fills the directory and the homes. `gone`: of segments that are not there any more; only their
/// fingerprints count.
pub(super) fn settle(
    directory: &Directory,
    (hints, gone): (&[Hint], &[Hint]),
    parallel: bool,
    remember: usize,
    found: &mut Recovered,
) -> Result<(), RecoveryFault> {
    let sorted = |places: &dyn Fn(&Hint) -> Vec<Place>| sorted_of(&mut hints.iter(), places);
    // A copy whose segment was had back was over: what it was copied from is so, although its own tombstone may not have come yet.
    let mut marks = Marks {
        dead: sorted(&|hint| hint.dead().collect()),
        had: sorted(&|hint| marked(hint, true)),
        missed: sorted(&|hint| marked(hint, false)),
        superseded: sorted_of(&mut hints.iter().chain(gone), &|hint| hint.copies().map(|(_, origin)| origin).collect()),
        over: OnceLock::new(),
        over_and_gone: Vec::new(),
    };
    // Not many: a hint outlives its segment for a minute.
    let left = gone.iter().flat_map(Hint::messages).filter(|message| message.fingerprint != 0);
    let left = left.filter(|message| marks.is_over((hints, gone), message.locator.place()));
    let mut over_and_gone: Vec<u64> = left.map(|message| message.fingerprint).collect();
    over_and_gone.sort_unstable();
    marks.over_and_gone = over_and_gone;
    let cores = found.homes.len() as u16;
    let home = |core: u16| Home { directory, hints, gone, marks: &marks, core: CoreId(core), remember }.settle();
    let homes: Vec<_> = match parallel && cores > 1 {
        false => (0..cores).map(home).collect(),
        true => std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || home(core))).collect();
            // A panic is our own mistake and ends the process with its own words.
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        }),
    };
    let full = |_: DirectoryFull| RecoveryFault::TooManyUsers { room: directory.len() };
    for (slot, settled) in found.homes.iter_mut().zip(homes) {
        let (home, dead) = settled.map_err(full)?;
        found.report.dead += dead;
        found.report.users += home.users.len() as u64;
        found.report.messages += home.users.iter().map(|(_, queue)| queue.len() as u64).sum::<u64>();
        *slot = home;
    }
    Ok(())
}

struct Home<'a> {
    directory: &'a Directory,
    hints: &'a [Hint],
    gone: &'a [Hint],
    marks: &'a Marks,
    core: CoreId,
    remember: usize,
}

impl Home<'_> {
    fn settle(&self) -> Result<(HomeRecovered, u64), DirectoryFull> {
        let mut home = HomeRecovered::default();
        let (owners, numbers) = self.owners();
        let (mut messages, ends, mut parts) = self.messages(owners.len(), &numbers, &mut home);
        drop(numbers);
        let (mut dead, mut from) = (0, 0);
        let mut scratch = Vec::new();
        for (owner, end) in owners.iter().zip(ends) {
            let theirs = &mut messages[from..end];
            from = end;
            if !theirs.is_sorted_by_key(|message| message.locator.stamp()) {
                theirs.sort_unstable_by_key(|message| (message.locator.stamp(), message.locator.place()));
            }
            dead += theirs.iter().filter(|message| message.locator.flags().has(DEAD)).count() as u64;
            self.drop_twins(theirs, &mut scratch, &mut home);
            let alive = || theirs.iter().map(|message| message.locator).filter(|locator| !locator.flags().has(DEAD));
            let (alive, twins) = split(alive(), alive().count());
            home.twins.extend(twins);
            if alive.is_empty() {
                continue;
            }
            let known = home.parts.len();
            if !parts.is_empty() {
                let large = alive.iter().filter(|locator| locator.flags().has(Flags::LARGE));
                home.parts.extend(large.filter_map(|locator| Some((locator.place(), parts.remove(&locator.place())?))));
            }
            let of_parts = home.parts.iter().skip(known).flat_map(|(_, parts)| extents_of(parts));
            let octets = of_parts.map(|extent| extent.octets).sum::<u64>();
            let queue = Queue::of(&alive);
            let count = u32::try_from(queue.len()).unwrap_or(u32::MAX);
            let user = self.directory.restore(owner.octets, count, queue.octets() + octets)?;
            home.users.push((user, queue));
        }
        self.states(&mut home);
        self.repeatable(&mut home);
        keep_youngest(&mut home.fingerprints, self.remember);
        // Repeatable: the simulator's runs must be.
        home.users.sort_by_key(|(_, queue)| queue.first().map(Locator::stamp));
        home.fingerprints.sort_unstable_by_key(|(fingerprint, stamp)| (*stamp, *fingerprint));
        home.twins.sort_unstable_by_key(|twin| (twin.stamp(), twin.place()));
        home.losers.sort_unstable();
        home.parts.sort_unstable_by_key(|(place, _)| *place);
        Ok((home, dead))
    }

    /// Who is at home here, and for every hint which of its owners are which of them.
    fn owners(&self) -> (Vec<Owner<'_>>, Vec<Vec<u32>>) {
        let mut owners = Vec::new();
        let mut known: HashMap<Owner<'_>, u32, BuildHasherDefault<Itself>> = HashMap::default();
        let mut number = |octets| {
            let hash = self.directory.hash(octets);
            if self.directory.home_of_hash(hash) != self.core {
                return STRANGER;
            }
            let owner = Owner { hash, octets };
            *known.entry(owner).or_insert_with(|| {
                owners.push(owner);
                owners.len() as u32 - 1
            })
        };
        let numbers = self.hints.iter().map(|hint| hint.owners().map(&mut number).collect()).collect();
        (owners, numbers)
    }

    /// All their messages but those that a copy has taken the place of, owner by owner; where each owner's end; the parts of
    /// large ones.
    #[allow(clippy::type_complexity)]
    fn messages(
        &self,
        owners: usize,
        numbers: &[Vec<u32>],
        home: &mut HomeRecovered,
    ) -> (Vec<FoundMessage>, Vec<usize>, HashMap<Place, Vec<Locator>>) {
        let mut ends = vec![0usize; owners];
        for (hint, numbers) in self.hints.iter().zip(numbers) {
            for message in hint.messages() {
                if let Some(end) = ends.get_mut(numbers[message.owner as usize] as usize) {
                    *end += 1;
                }
            }
        }
        let mut total = 0;
        for end in &mut ends {
            // Where the owner's begin; it grows to where they end.
            (*end, total) = (total, total + *end);
        }
        let nothing = Locator::new(Place::default(), Stamp(0), 0, 0, DEAD);
        let mut messages = vec![FoundMessage { locator: nothing, fingerprint: 0 }; total];
        let begins = ends.clone();
        let mut parts: HashMap<Place, Vec<Locator>> = HashMap::new();
        for (hint, numbers) in self.hints.iter().zip(numbers) {
            let mut dead = walk(&self.marks.dead, hint);
            let (mut had, mut missed) = (walk(&self.marks.had, hint), walk(&self.marks.missed, hint));
            let mut superseded = walk(&self.marks.superseded, hint);
            for message in hint.messages() {
                let Some(end) = ends.get_mut(numbers[message.owner as usize] as usize) else { continue };
                let place = message.locator.place();
                let is_dead = dead.has(place);
                if superseded.has(place) {
                    if !is_dead {
                        home.losers.push(message.locator.extent());
                    }
                    continue;
                }
                let flags = message.locator.flags().without(DEAD);
                let flags = if missed.has(place) { flags.missed() } else { flags };
                let flags = if had.has(place) { flags.had() } else { flags };
                let flags = if is_dead { flags.with(DEAD) } else { flags };
                messages[*end] =
                    FoundMessage { locator: message.locator.with_flags(flags), fingerprint: message.fingerprint };
                *end += 1;
            }
            for (message, part) in hint.parts() {
                let Some(message) = hint.message(message) else { continue };
                if numbers[message.owner as usize] != STRANGER {
                    parts.entry(message.locator.place()).or_default().push(part);
                }
            }
        }
        // Those that were superseded have left room at each owner's end.
        if ends.iter().ne(begins.iter().skip(1).chain([&total])) {
            let mut to = 0;
            for (begin, end) in begins.iter().zip(&mut ends) {
                let count = *end - begin;
                messages.copy_within(*begin..*end, to);
                (to, *end) = (to + count, to + count);
            }
            messages.truncate(to);
        }
        (messages, ends, parts)
    }

    /// Of two of one owner with one fingerprint that are alive the later is a twin. One that is alive alone is one where another was
    /// delivered, deleted or the like: a core that is not home had stored the repetition, and the crash came before home wrote it off. Where
    /// the others were written off as twins themselves it is not: home may have kept this one, and an earlier one, which another core
    /// had stamped, came later. They are sorted by their stamps.
    fn drop_twins(&self, theirs: &mut [FoundMessage], scratch: &mut Vec<(u64, u32)>, home: &mut HomeRecovered) {
        scratch.clear();
        let named = theirs.iter().enumerate().filter(|(_, message)| message.fingerprint != 0);
        scratch.extend(named.map(|(at, message)| (message.fingerprint, at as u32)));
        if scratch.len() > 1 {
            scratch.sort_unstable();
        }
        for same in scratch.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(fingerprint, first)) = same.first() else { continue };
            home.fingerprints.push((fingerprint, theirs[first as usize].locator.stamp()));
            let is_dead = |at: u32| theirs[at as usize].locator.flags().has(DEAD);
            if same.iter().all(|(_, at)| is_dead(*at)) {
                continue;
            }
            let all = (self.hints, self.gone);
            let is_over = |at: u32| self.marks.is_over(all, theirs[at as usize].locator.place());
            let mut kept = self.marks.over_and_gone.binary_search(&fingerprint).is_ok()
                || same.iter().any(|(_, at)| is_dead(*at) && is_over(*at));
            for &(_, at) in same {
                let message = &mut theirs[at as usize];
                if message.locator.flags().has(DEAD) {
                    continue;
                }
                if std::mem::replace(&mut kept, true) {
                    home.twins.push(message.locator);
                    // Not counted as dead by a tombstone: it has none yet.
                    message.locator = message.locator.with_flags(message.locator.flags().with(DEAD));
                }
            }
        }
        if home.fingerprints.len() > self.remember.saturating_mul(2).max(1 << 16) {
            keep_youngest(&mut home.fingerprints, self.remember);
        }
    }

    /// What lay in segments that are gone is not here any more, and may still be repeated by whoever sent it.
    fn repeatable(&self, home: &mut HomeRecovered) {
        if self.gone.is_empty() {
            return;
        }
        for hint in self.gone {
            let ours: Vec<bool> = hint.owners().map(|owner| self.directory.home(owner) == self.core).collect();
            let theirs = hint.messages().filter(|message| message.fingerprint != 0 && ours[message.owner as usize]);
            home.fingerprints.extend(theirs.map(|message| (message.fingerprint, message.locator.stamp())));
        }
        // Copied forward it is here, too: twice it would take the room of another.
        home.fingerprints.sort_unstable();
        home.fingerprints.dedup_by_key(|(fingerprint, _)| *fingerprint);
    }

    /// The latest of each state holds; all other records of it that no tombstone names lose.
    fn states(&self, home: &mut HomeRecovered) {
        type Key<'a> = (StateKind, &'a [u8], &'a [u8]);
        let mut states: HashMap<Key<'_>, Vec<HintState<'_>>> = HashMap::new();
        for state in self.hints.iter().flat_map(Hint::states) {
            if self.directory.home(state.owner) == self.core && !has(&self.marks.dead, state.place) {
                states.entry((state.kind, state.owner, state.key)).or_default().push(state);
            }
        }
        for records in states.into_values() {
            // The latest that no copy has taken the place of; of two with one stamp the one that was written later.
            let is_copied = |record: &HintState<'_>| has(&self.marks.superseded, record.place);
            let latest = records.iter().enumerate().filter(|(_, record)| !is_copied(record));
            let latest = latest.max_by_key(|(at, record)| (record.stamp, *at)).map(|(at, _)| at);
            for (at, record) in records.into_iter().enumerate() {
                let extent = Extent { place: record.place, octets: record.octets };
                if Some(at) == latest && !record.value.is_empty() {
                    let HintState { kind, stamp, .. } = record;
                    let [owner, key, value] = [record.owner, record.key, record.value].map(Box::from);
                    home.states.push(StateRecovered { kind, owner, key, value, stamp, extent });
                } else {
                    home.losers.push(extent);
                }
            }
        }
        home.states
            .sort_unstable_by(|a, b| (a.stamp, a.kind, &a.owner, &a.key).cmp(&(b.stamp, b.kind, &b.owner, &b.key)));
    }
}

/// Of two alive with one stamp the first: a copy that was made twice. The others are twins.
fn split(alive: impl Iterator<Item = Locator>, count: usize) -> (Vec<Locator>, Vec<Locator>) {
    let (mut first, mut twins) = (Vec::with_capacity(count), Vec::new());
    for locator in alive {
        let known = first.last().is_some_and(|last: &Locator| last.stamp() == locator.stamp());
        if known { twins.push(locator) } else { first.push(locator) }
    }
    (first, twins)
}

/// The youngest `most` of them.
fn keep_youngest(fingerprints: &mut Vec<(u64, Stamp)>, most: usize) {
    if fingerprints.len() > most {
        if most > 0 {
            fingerprints.select_nth_unstable_by(most - 1, |a, b| (b.1, b.0).cmp(&(a.1, a.0)));
        }
        fingerprints.truncate(most);
    }
}
