//! Whose documents are to be written, in which order, and not before when. Times are arguments.
//!
//! ```text
//!   changed ──▶ waits ──due──▶ is written ──▶ done, gone
//!                 ▲               │  │ changed meanwhile: waits, due at once
//!                 └── failed: due later, twice as late each time
//! ```
//! An XDMS that does not answer at all is left alone by everybody for a while, and then tried with one user.

use crate::deferred::identity::Address;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Users who wait here. Beyond it they stay with their cores, where each costs 8 octets; here it is about 200.
const USERS_MAX: usize = 65_536;

/// After a failure; doubled up to the longest.
const AGAIN: Duration = Duration::from_secs(1);

/// The longest pause of one user: an outage of an hour ends for everybody within this.
const AGAIN_MAX: Duration = Duration::from_secs(5 * 60);

/// A document that the XDMS does not want, by its own words, is offered again this late, or when it changes.
const REFUSED_AGAIN: Duration = Duration::from_secs(15 * 60);

/// The longest pause of everybody.
const DOWN_MAX: Duration = Duration::from_secs(30);

/// What became of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The document is there as it is here.
    Written,
    /// It was there as it is here already, or there was none and is none.
    Unchanged,
    /// The XDMS refuses what is in it: 409, 403, 415 ...
    Refused,
    /// 5xx, or a home that is busy.
    Failed,
    /// No connection, or no answer.
    Silent,
}

/// Something an operator should hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    Down,
    Up,
}

#[derive(Debug)]
struct Waiting {
    due: Instant,
    since: Instant,
    failures: u32,
    running: bool,
    again: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    users: HashMap<Address, Waiting>,
    due: BTreeSet<(Instant, Address)>,
    /// How many have waited since when.
    since: BTreeMap<Instant, usize>,
    /// Between two attempts.
    pause: Duration,
    not_before: Option<Instant>,
    silent: u32,
}

impl Queue {
    /// Empty; at most `rate` attempts a second.
    pub(super) fn new(rate: u32) -> Queue {
        Queue {
            users: HashMap::new(),
            due: BTreeSet::new(),
            since: BTreeMap::new(),
            pause: Duration::from_secs(1) / rate.max(1),
            not_before: None,
            silent: 0,
        }
    }

    /// How many users are in it.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Since when somebody has waited, who waits longest.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since.keys().next().copied()
    }

    /// True while more may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.users.len() < USERS_MAX
    }

    /// A user's document is another.
    pub(super) fn changed(&mut self, owner: Address, now: Instant) {
        if let Some(waiting) = self.users.get_mut(&owner) {
            // One that failed keeps its time: the XDMS has not become better by this.
            waiting.again = waiting.running;
            if waiting.failures == 0 || waiting.due <= now + AGAIN_MAX {
                return;
            }
            // What was refused may be taken now.
            self.due.remove(&(waiting.due, owner.clone()));
            waiting.due = now;
            if !waiting.running {
                self.due.insert((now, owner));
            }
            return;
        }
        self.due.insert((now, owner.clone()));
        *self.since.entry(now).or_default() += 1;
        self.users.insert(owner, Waiting { due: now, since: now, failures: 0, running: false, again: false });
    }

    /// Who is to be looked after now; else how long to wait for the next, when there is one.
    pub(super) fn next(&mut self, now: Instant) -> Result<Address, Option<Duration>> {
        let Some((due, _)) = self.due.first() else { return Err(None) };
        let at = self.not_before.map_or(*due, |not_before| not_before.max(*due));
        if at > now {
            return Err(Some(at - now));
        }
        let Some((_, owner)) = self.due.pop_first() else { return Err(None) };
        if let Some(waiting) = self.users.get_mut(&owner) {
            waiting.running = true;
        }
        let pause = if self.silent > 0 { doubled(AGAIN, self.silent - 1, DOWN_MAX) } else { self.pause };
        self.not_before = Some(now + pause);
        Ok(owner)
    }

    /// An attempt is over.
    pub(super) fn ended(&mut self, owner: Address, outcome: Outcome, now: Instant) -> Option<News> {
        let before = self.silent;
        match outcome {
            Outcome::Silent => {
                self.silent = self.silent.saturating_add(1);
                self.not_before = Some(now + doubled(AGAIN, self.silent - 1, DOWN_MAX));
            }
            _ if self.silent > 0 => (self.silent, self.not_before) = (0, None),
            _ => {}
        }
        if let Some(waiting) = self.users.get_mut(&owner) {
            waiting.running = false;
            let again = std::mem::take(&mut waiting.again);
            let after = match outcome {
                Outcome::Written | Outcome::Unchanged if again => {
                    waiting.failures = 0;
                    Some(Duration::ZERO)
                }
                Outcome::Written | Outcome::Unchanged => None,
                Outcome::Refused if again => Some(AGAIN),
                Outcome::Refused => {
                    waiting.failures += 1;
                    Some(REFUSED_AGAIN)
                }
                Outcome::Failed | Outcome::Silent => {
                    waiting.failures += 1;
                    Some(doubled(AGAIN, waiting.failures - 1, AGAIN_MAX))
                }
            };
            match after {
                Some(after) => {
                    waiting.due = now + after;
                    self.due.insert((waiting.due, owner));
                }
                None => {
                    let since = waiting.since;
                    self.users.remove(&owner);
                    if let Some(count) = self.since.get_mut(&since) {
                        *count -= 1;
                        if *count == 0 {
                            self.since.remove(&since);
                        }
                    }
                }
            }
        }
        match (before, self.silent) {
            (0, 1) => Some(News::Down),
            (1.., 0) => Some(News::Up),
            _ => None,
        }
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn user(name: &str) -> Address {
        Address::from_canonical(format!("sip:{name}@example.org").as_bytes())
    }

    #[test]
    fn a_user_who_changes_again_and_again_is_written_once_and_once_more() {
        let (mut queue, now) = (Queue::new(1_000_000), Instant::now());
        (0..5).for_each(|_| queue.changed(user("a"), now));
        assert_eq!(queue.next(now), Ok(user("a")));
        assert_eq!(queue.next(now), Err(None));
        (0..5).for_each(|_| queue.changed(user("a"), now));
        assert_eq!(queue.next(now), Err(None), "nobody is written twice at one time");
        assert_eq!(queue.ended(user("a"), Outcome::Written, now), None);
        let later = now + Duration::from_millis(1);
        assert_eq!(queue.next(later), Ok(user("a")));
        queue.ended(user("a"), Outcome::Written, later);
        assert_eq!((queue.len(), queue.since(), queue.next(later)), (0, None, Err(None)));
    }

    #[test]
    fn attempts_are_paced() {
        let (mut queue, now) = (Queue::new(10), Instant::now());
        ["a", "b"].iter().for_each(|name| queue.changed(user(name), now));
        assert!(queue.next(now).is_ok());
        assert_eq!(queue.next(now), Err(Some(Duration::from_millis(100))));
        assert!(queue.next(now + Duration::from_millis(100)).is_ok());
    }

    #[test]
    fn who_fails_comes_later_and_later_and_holds_up_nobody() {
        let (mut queue, mut now) = (Queue::new(1_000_000), Instant::now());
        queue.changed(user("a"), now);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(queue.next(now), Ok(user("a")));
            assert_eq!(queue.ended(user("a"), Outcome::Failed, now), None);
            // A change does not hurry it.
            queue.changed(user("a"), now);
            let Err(Some(wait)) = queue.next(now) else { panic!("too early") };
            assert_eq!(wait.as_secs(), seconds);
            now += wait;
        }
        queue.changed(user("b"), now - Duration::from_secs(1));
        assert_eq!(queue.next(now), Ok(user("b")));
    }

    #[test]
    fn what_was_refused_is_offered_again_when_it_is_another() {
        let (mut queue, now) = (Queue::new(1_000_000), Instant::now());
        queue.changed(user("a"), now);
        queue.next(now).unwrap();
        queue.ended(user("a"), Outcome::Refused, now);
        let later = now + Duration::from_secs(60);
        assert_eq!(queue.next(later), Err(Some(REFUSED_AGAIN - Duration::from_secs(60))));
        queue.changed(user("a"), later);
        assert_eq!(queue.next(later), Ok(user("a")));
    }

    #[test]
    fn an_xdms_that_is_down_is_left_alone_by_everybody_and_tried_with_one() {
        let (mut queue, now) = (Queue::new(1_000_000), Instant::now());
        ["a", "b", "c"].iter().for_each(|name| queue.changed(user(name), now));
        queue.next(now).unwrap();
        assert_eq!(queue.ended(user("a"), Outcome::Silent, now), Some(News::Down));
        assert_eq!(queue.next(now), Err(Some(AGAIN)));
        let later = now + AGAIN;
        assert!(queue.next(later).is_ok());
        assert_eq!(queue.next(later), Err(Some(AGAIN)), "one at a time");
        assert_eq!(queue.ended(user("b"), Outcome::Silent, later), None);
        let later = later + 2 * AGAIN;
        let third = queue.next(later).unwrap();
        assert_eq!(queue.ended(third, Outcome::Written, later), Some(News::Up));
        assert!(queue.next(later).is_ok(), "and on they go");
    }
}
