//! What an operator asks of a running core, and what it answers. Questions change nothing but where they say so; no user ever asks
//! one. Whoever carries them (a socket, a page) is not known here.
//!
//! ```text
//!   question ──▶ known at once ────────────────────────────▶ answer
//!       │──▶ needs records ──▶ loader ──▶ loaded ──────────────▶│
//!       └──▶ concerns all users ──▶ a slice a turn ──▶ ... ─────▶│
//! ```
//! Every question goes to every core: one about a user is answered by that user's home, and [`Answer::Elsewhere`] by the others.

mod words;

pub use words::*;

use super::bin::Bin;
use super::cx::{Cx, Timer};
use super::dismiss::{Because, Dismissals, Leaving};
use super::identity::{self, Address};
use super::large::Larges;
use super::metadata::{Documents, changes};
use super::presence::Presences;
use super::push::Pushes;
use super::report::Reports;
use super::summary::Summaries;
use super::users::Users;
use crate::base::spread::SpreadMap;
use crate::store::directory::UserId;
use crate::store::loader::{Damage, Loaded, Record};
use crate::store::reason::Reason;
use crate::store::record::{Flags, Locator, MessageId, Stamp};
use std::collections::VecDeque;
use std::time::Duration;

/// Questions under way on one core: an operator has one, a script a few. More are refused.
pub const QUESTIONS_MAX: usize = 64;

/// Users looked at in one turn: at 25 to 50 ns each a quarter of a millisecond at most.
const SLICE: u32 = 4_096;

/// Jobs of the loader that belong to questions have this bit.
const JOB: u64 = 1 << 63;

/// What [`Inquiries`] looks at.
pub struct Known<'a> {
    /// The lists.
    pub users: &'a mut Users,
    /// The pushes.
    pub pushes: &'a mut Pushes,
    /// Who is there.
    pub presences: &'a mut Presences,
    /// What goes.
    pub dismissals: &'a mut Dismissals,
    /// What is owed.
    pub reports: &'a Reports,
    /// Where what is deleted goes.
    pub bin: &'a Bin,
    /// Who is told of what waits.
    pub summaries: &'a Summaries,
    /// Large messages that are coming.
    pub larges: &'a Larges,
}

#[derive(Debug)]
enum Pending {
    Queue { listing: Listing },
    Show { id: MessageId },
    Delete { id: MessageId, report: bool },
}

#[derive(Debug)]
struct Reading {
    ticket: u64,
    user: UserId,
    pending: Pending,
}

#[derive(Debug)]
struct Scan {
    ticket: u64,
    next: u32,
    what: Scanning,
}

#[derive(Debug)]
enum Scanning {
    Find { id: MessageId },
    Top { limit: usize, by_octets: bool, best: Vec<(u64, UserId)> },
    Oldest { found: Option<Stamp> },
}

/// The questions under way on one core.
#[derive(Debug, Default)]
pub struct Inquiries {
    reading: SpreadMap<u64, Reading>,
    /// Candidates of a `Find` whose records are being read: the scan goes on when none of them was it.
    scans: VecDeque<Scan>,
    checking: SpreadMap<u64, (Scan, UserId)>,
    documents: Documents,
    jobs: u64,
    armed: bool,
    answers: VecDeque<(u64, Answer)>,
}

impl Inquiries {
    /// The next answer.
    pub fn answer(&mut self) -> Option<(u64, Answer)> {
        self.answers.pop_front().or_else(|| self.documents.answer())
    }

    /// True for a job of the loader that is a question's.
    pub fn owns(&self, job: u64) -> bool {
        self.reading.contains_key(&job) || self.checking.contains_key(&job) || self.documents.owns(job)
    }

    /// Takes a question in. The answer comes under `ticket`, at once or later.
    pub fn ask(&mut self, cx: &mut Cx, known: &mut Known<'_>, ticket: u64, mut question: Question) {
        // By a number too; whose home that would be says nothing.
        if let Some(owner) = question.owner_mut() {
            *owner = cx.policy.aliases.of(owner.clone());
        }
        // First: who has much to do has nothing to say about others' users.
        if question.owner_mut().is_some_and(|owner| cx.directory.home(owner) != cx.core) {
            return self.answers.push_back((ticket, Answer::Elsewhere));
        }
        if self.reading.len() + self.scans.len() + self.checking.len() + self.documents.len() >= QUESTIONS_MAX {
            return self.answers.push_back((ticket, Answer::Overloaded));
        }
        let answer = match question {
            Question::Queue { owner, from, limit } => self.queue(cx, known, ticket, &owner, from, limit),
            Question::Show { owner, id } => self.one(cx, known, ticket, &owner, id, Pending::Show { id }),
            Question::Delete { owner, id, report } => {
                self.one(cx, known, ticket, &owner, id, Pending::Delete { id, report })
            }
            Question::Find { id } => self.scan(cx, ticket, Scanning::Find { id }),
            Question::Top { limit, by_octets } => {
                let limit = limit.min(TOP_MAX);
                self.scan(cx, ticket, Scanning::Top { limit, by_octets, best: Vec::new() })
            }
            Question::Oldest => self.scan(cx, ticket, Scanning::Oldest { found: None }),
            Question::Why { owner } => Some(Answer::Why(Box::new(why(cx, known, &owner)))),
            Question::Push { owner } => Some(push(cx, known, &owner)),
            // Of files, not of users: answered before it comes here.
            Question::Copying(_) => Some(Answer::Elsewhere),
            Question::Revision { owner, .. } if !identity::is_served(&cx.policy, &owner) => Some(Answer::Unknown),
            Question::Revision { owner, most } => {
                Some(Answer::Revision(self.documents.revision(cx, known.users, &owner, most)))
            }
            Question::Document { owner, most } => {
                let job = self.job();
                self.documents.ask(cx, known.users, (ticket, job), owner, most);
                self.again(cx);
                None
            }
            Question::Changes => Some(changes::changes(cx, known.users)),
            Question::Mark { owner } => Some(changes::mark(cx, known.users, &owner)),
            Question::Settled { owner } => Some(changes::settled(cx, known.users, &owner)),
            Question::Drain(on) => {
                cx.draining = on;
                Some(Answer::Done)
            }
            Question::Policy(policy) => {
                cx.policy = policy;
                Some(Answer::Done)
            }
        };
        if let Some(answer) = answer {
            self.answers.push_back((ticket, answer));
        }
    }

    fn queue(
        &mut self,
        cx: &mut Cx,
        known: &mut Known<'_>,
        ticket: u64,
        owner: &Address,
        from: Stamp,
        limit: usize,
    ) -> Option<Answer> {
        let found = cx.directory.find(owner).and_then(|user| known.users.queue(user).map(|queue| (user, queue)));
        let Some((user, queue)) = found else {
            let listing = Listing { messages: 0, octets: 0, entries: Vec::new(), next: None };
            return Some(Answer::Queue(listing));
        };
        let limit = limit.clamp(1, LISTED_MAX);
        let mut wanted: Vec<Locator> = queue.from(from).take(limit + 1).copied().collect();
        let next = if wanted.len() > limit { wanted.pop().map(|locator| locator.stamp()) } else { None };
        let listing = Listing {
            messages: queue.len() as u32,
            octets: queue.octets(),
            entries: Vec::with_capacity(wanted.len()),
            next,
        };
        self.read(cx, known, ticket, user, &wanted, Pending::Queue { listing })
    }

    /// A message by its name: those of its millisecond are read, one of them is it or none.
    fn one(
        &mut self,
        cx: &mut Cx,
        known: &mut Known<'_>,
        ticket: u64,
        owner: &Address,
        id: MessageId,
        pending: Pending,
    ) -> Option<Answer> {
        let Some(user) = cx.directory.find(owner) else { return Some(Answer::Unknown) };
        let Some(queue) = known.users.queue(user) else { return Some(Answer::Unknown) };
        let wanted: Vec<Locator> = queue.range(id.millis()).take(LISTED_MAX).copied().collect();
        if wanted.is_empty() {
            return Some(Answer::Unknown);
        }
        self.read(cx, known, ticket, user, &wanted, pending)
    }

    fn read(
        &mut self,
        cx: &mut Cx,
        known: &mut Known<'_>,
        ticket: u64,
        user: UserId,
        wanted: &[Locator],
        pending: Pending,
    ) -> Option<Answer> {
        let job = self.job();
        self.reading.insert(job, Reading { ticket, user, pending });
        if let Some(done) = cx.loader.load(job, wanted, &mut cx.disk) {
            self.loaded(cx, known, job, done.records);
        }
        None
    }

    fn job(&mut self) -> u64 {
        self.jobs += 1;
        self.jobs | JOB
    }

    /// Records that a question needs are there.
    pub fn loaded(&mut self, cx: &mut Cx, known: &mut Known<'_>, job: u64, records: Vec<Loaded>) {
        if self.documents.owns(job) {
            self.documents.loaded(cx, known.users, job, records);
            return self.again(cx);
        }
        if let Some((mut scan, user)) = self.checking.remove(&job) {
            let Scanning::Find { id } = scan.what else { return };
            if records.iter().any(|loaded| loaded.outcome.as_ref().is_ok_and(|record| record.id == id)) {
                let owner = Address::from_canonical(&cx.directory.address(user));
                return self.answers.push_back((scan.ticket, Answer::Found(Some(owner))));
            }
            scan.next = user.0 + 1;
            self.scans.push_back(scan);
            return self.again(cx);
        }
        let Some(Reading { ticket, user, pending }) = self.reading.remove(&job) else { return };
        let owner = cx.directory.address(user).to_vec();
        // Between the question and now the user may have gone and the place may be another's.
        let own = |record: &Record| record.owner() == &owner[..];
        let answer = match pending {
            Pending::Queue { mut listing } => {
                for Loaded { locator, outcome } in records {
                    let id =
                        outcome.and_then(|record| if own(&record) { Ok(record.id) } else { Err(Damage::NotTheOne) });
                    let standing = standing(known, user, &locator);
                    let refused = known.users.refusal(user, &locator);
                    listing.entries.push(Entry { locator, id, standing, refused });
                }
                Answer::Queue(listing)
            }
            Pending::Show { id } => match named(records, id, own) {
                Ok((locator, record)) => Answer::Show(Box::new(Shown {
                    locator,
                    id,
                    standing: standing(known, user, &locator),
                    refused: known.users.refusal(user, &locator),
                    body_type: record.page.slice(record.body_type.range()),
                    body: record.body(),
                })),
                Err(answer) => answer,
            },
            Pending::Delete { id, report } => match named(records, id, own) {
                Ok((locator, _)) if known.users.now(user, &locator).is_some() => {
                    let because = Because::Operator { ticket, report };
                    return delete(cx, known, user, locator, because);
                }
                Ok(_) => Answer::Unknown,
                Err(answer) => answer,
            },
        };
        self.answers.push_back((ticket, answer));
    }

    fn scan(&mut self, cx: &mut Cx, ticket: u64, what: Scanning) -> Option<Answer> {
        self.scans.push_back(Scan { ticket, next: 0, what });
        self.again(cx);
        None
    }

    fn again(&mut self, cx: &mut Cx) {
        let is_idle = self.scans.is_empty() && self.documents.is_idle();
        if !self.armed && !is_idle {
            self.armed = true;
            cx.timer(Duration::from_millis(1), Timer::Inquiry);
        }
    }

    /// Goes on with what concerns all users: one slice.
    pub fn turn(&mut self, cx: &mut Cx, known: &mut Known<'_>) {
        self.armed = false;
        self.documents.turn(cx, known.users);
        if let Some(mut scan) = self.scans.pop_front() {
            let end = cx.directory.places();
            let until = scan.next.saturating_add(SLICE).min(end);
            match self.slice(cx, known, &mut scan, until) {
                Some(job) => {
                    self.checking.insert(job.0, (scan, job.1));
                    if let Some(done) = job.2 {
                        self.loaded(cx, known, job.0, done);
                    }
                }
                None if scan.next >= end => {
                    let answer = match scan.what {
                        Scanning::Find { .. } => Answer::Found(None),
                        Scanning::Top { best, .. } => Answer::Top(named_users(cx, known, &best)),
                        Scanning::Oldest { found } => Answer::Oldest(found),
                    };
                    self.answers.push_back((scan.ticket, answer));
                }
                None => self.scans.push_back(scan),
            }
        }
        self.again(cx);
    }

    /// Looks at users up to `until`; a job, when candidates of a `Find` have to be read first.
    fn slice(
        &mut self,
        cx: &mut Cx,
        known: &Known<'_>,
        scan: &mut Scan,
        until: u32,
    ) -> Option<(u64, UserId, Option<Vec<Loaded>>)> {
        while scan.next < until {
            let user = UserId(scan.next);
            scan.next += 1;
            let Some(queue) = known.users.queue(user) else { continue };
            match &mut scan.what {
                Scanning::Find { id } => {
                    let wanted: Vec<Locator> = queue.range(id.millis()).take(LISTED_MAX).copied().collect();
                    if !wanted.is_empty() {
                        let job = self.job();
                        let done = cx.loader.load(job, &wanted, &mut cx.disk);
                        return Some((job, user, done.map(|done| done.records)));
                    }
                }
                Scanning::Oldest { found } => {
                    let oldest = known.users.new_messages(user).next().map(|locator| locator.stamp());
                    *found = [*found, oldest].into_iter().flatten().min();
                }
                Scanning::Top { limit, by_octets, best } => {
                    let much = if *by_octets { queue.octets() } else { queue.len() as u64 };
                    let full = best.len() >= *limit;
                    if !full || best.last().is_some_and(|&(least, _)| much > least) {
                        let at = best.partition_point(|&(other, _)| other >= much);
                        best.insert(at, (much, user));
                        best.truncate(*limit);
                    }
                }
            }
        }
        None
    }
}

/// As the user's own deletion: the tombstone durable first, then the answer, then the report.
fn delete(cx: &mut Cx, known: &mut Known<'_>, user: UserId, locator: Locator, because: Because) {
    cx.counts.deleted_by_operator += 1;
    let (reason, binned) = (Reason::DeletedByOperator, known.bin.is_open(cx));
    let leaving = Leaving { user, gone: vec![locator], reason, because, binned };
    known.dismissals.begin(cx, known.users, known.pushes, known.reports, leaving);
}

fn named_users(cx: &Cx, known: &Known<'_>, best: &[(u64, UserId)]) -> Vec<Standing> {
    let standing = |&(_, user): &(u64, UserId)| {
        let queue = known.users.queue(user)?;
        let owner = Address::from_canonical(&cx.directory.address(user));
        Some(Standing { owner, messages: queue.len() as u32, octets: queue.octets() })
    };
    best.iter().filter_map(standing).collect()
}

/// The one of these that has the name.
fn named(records: Vec<Loaded>, id: MessageId, own: impl Fn(&Record) -> bool) -> Result<(Locator, Record), Answer> {
    let mut damage = None;
    for Loaded { locator, outcome } in records {
        match outcome {
            Ok(record) if record.id == id && own(&record) => return Ok((locator, record)),
            Ok(_) => {}
            Err(found) => damage = Some(found),
        }
    }
    Err(damage.map_or(Answer::Unknown, Answer::Damaged))
}

fn standing(known: &Known<'_>, user: UserId, locator: &Locator) -> Waiting {
    // It may have been copied forward since it was listed.
    let now = known.users.now(user, locator);
    if known.pushes.is_in_flight(user, now.unwrap_or(*locator).place()) {
        Waiting::InFlight
    } else {
        known.users.standing(user, locator)
    }
}

fn why(cx: &mut Cx, known: &mut Known<'_>, owner: &Address) -> Reasons {
    let mut reasons = Reasons { presence: known.presences.seen(cx, owner), ..Reasons::default() };
    let Some(user) = cx.directory.find(owner) else { return reasons };
    reasons.pushing = known.pushes.stage_of(user);
    reasons.summaries = known.summaries.of(user).collect();
    reasons.receiving = known.larges.of(user);
    if let Some(queue) = known.users.queue(user) {
        reasons.messages = queue.len() as u32;
        reasons.octets = queue.octets();
        reasons.expires_s = queue.iter().map(Locator::expiry_s).min();
        reasons.large = queue.iter().filter(|locator| locator.flags().has(Flags::LARGE)).count() as u32;
        reasons.has_new = known.users.has_new(user);
        for new in known.users.new_messages(user) {
            match known.users.standing(user, &new) {
                Waiting::TooLarge => reasons.too_large += 1,
                Waiting::Unaccepted => reasons.unaccepted += 1,
                _ => {}
            }
        }
    }
    reasons
}

fn push(cx: &mut Cx, known: &mut Known<'_>, owner: &Address) -> Answer {
    let Some(user) = cx.directory.find(owner).filter(|&user| known.users.has_new(user)) else { return Answer::Unknown };
    if known.pushes.is_running(user) {
        return Answer::Busy;
    }
    match known.presences.push_now(cx, known.users, known.pushes, owner) {
        true => Answer::Done,
        false => Answer::Absent,
    }
}
