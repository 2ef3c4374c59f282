//! One large message while it comes: its octets go into the log as they come, and at the end a record joins them.
//!
//! ```text
//!   octets ──▶ run ──48 KiB, or the next octets belong elsewhere──▶ part record ─┐
//!                                                                               ├──all are there──▶ message record ──durable──▶ 200
//!   `$` says how many there are ────────────────────────────────────────────────┘
//! ```
//! Nothing of it counts before the message record is durable: parts that no message names are dead.

use super::hyphens::Hyphens;
use super::pieces::Pieces;
use super::wrap::Head;
use crate::base::arena::Key;
use crate::base::gather::Gather;
use crate::base::net::ConnId;
use crate::deferred::cx::{Commit, Cx};
use crate::deferred::identity::Address;
use crate::deferred::policy::OverQuota;
use crate::store::directory::{Refusal as NoRoom, UserId};
use crate::store::log::Refused;
use crate::store::record::{Extent, Locator, part_octets};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::sync::Arc;

/// Body of a part record: with its head it lies in what a lent extent has behind its border, so that a push can have it lent.
pub(super) const PART_OCTETS: usize = 48 * 1024;

/// Pieces of one message. In order it has 2,134 of them at 100 MiB; what comes in more is refused. The message's record names each
/// with 24 octets.
const PIECES_MAX: usize = 8_192;

/// Octets kept for a look at what kind of message it is: the headers of CPIM.
const FIRST_OCTETS: usize = 4 * 1024;

/// Whom to answer when the message is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) tid: Vec<u8>,
    pub(super) reply_to: Vec<u8>,
    /// A 200 is wanted.
    pub(super) success: bool,
    /// An error is wanted.
    pub(super) failure: bool,
}

/// Octets that lie together and are not in the log yet.
#[derive(Debug)]
struct Run {
    at: u64,
    octets: BytesMut,
}

/// Why a message cannot be taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unfit {
    /// Too large, too many, or no room: 413.
    TooLarge,
    /// The disk is full or broken.
    Storage,
    /// It contradicts itself: 400.
    Senseless,
    /// What is inside is of no type that the operator accepts: 415.
    Type,
}

/// A message that is coming.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) session: Key,
    pub(super) conn: ConnId,
    pub(super) owner: Address,
    pub(super) sender: Address,
    pub(super) head: Arc<Head>,
    pub(super) message_id: Vec<u8>,
    pub(super) content_type: Vec<u8>,
    pub(super) mime: Vec<u8>,
    /// A REPORT is wanted, over this path.
    pub(super) report_to: Option<Vec<u8>>,
    pub(super) local_path: bytes::Bytes,
    runs: VecDeque<Run>,
    pub(super) pieces: Pieces,
    /// The part records, in the order of writing.
    pub(super) records: Vec<Locator>,
    /// Those that are durable.
    pub(super) durable: Vec<Extent>,
    pub(super) hyphens: Hyphens,
    pub(super) first: Vec<u8>,
    /// How many octets it has, once that is known.
    pub(super) end: Option<u64>,
    /// All is there: whom to answer, and the id of the SEND that ended it.
    pub(super) last: Option<Answer>,
    /// Whose quota it counts for, and how much; `None`: nothing yet.
    pub(super) reserved: Option<(UserId, u64)>,
    /// A part of it was lost on its way to the disk.
    pub(super) lost: bool,
    /// The same is being written already: it waits for that, and has no parts of its own.
    pub(super) twin: bool,
    /// Its record is written.
    pub(super) written: Option<Locator>,
    pub(super) fingerprint: u64,
}

impl Incoming {
    /// One of which nothing has come.
    #[allow(clippy::too_many_arguments, reason = "what a session knows of all its messages")]
    pub(super) fn new(
        session: Key,
        conn: ConnId,
        owner: Address,
        sender: Address,
        head: Arc<Head>,
        local_path: bytes::Bytes,
    ) -> Incoming {
        Incoming {
            session,
            conn,
            owner,
            sender,
            head,
            local_path,
            message_id: Vec::new(),
            content_type: Vec::new(),
            mime: Vec::new(),
            report_to: None,
            runs: VecDeque::new(),
            pieces: Pieces::default(),
            records: Vec::new(),
            durable: Vec::new(),
            hyphens: Hyphens::default(),
            first: Vec::new(),
            end: None,
            last: None,
            reserved: None,
            lost: false,
            twin: false,
            written: None,
            fingerprint: 0,
        }
    }

    /// Octets of the message from `at` on. They are in memory until the log takes them.
    pub(super) fn take(&mut self, cx: &mut Cx, serial: u64, at: u64, octets: &[u8]) -> Result<(), Unfit> {
        let end = at + octets.len() as u64;
        if end > cx.policy.max_message_size {
            return Err(Unfit::TooLarge);
        }
        if self.end.is_some_and(|known| end > known) {
            return Err(Unfit::Senseless);
        }
        self.hyphens.see(at, octets);
        // Whatever order they come in: when all have come, these have.
        if let Some(room) = usize::try_from(at).ok().and_then(|at| FIRST_OCTETS.checked_sub(at)) {
            let (from, len) = (FIRST_OCTETS - room, octets.len().min(room));
            self.first.resize(self.first.len().max(from + len), 0);
            let place = self.first.iter_mut().skip(from);
            place.zip(octets).for_each(|(place, octet)| *place = *octet);
        }
        match self.runs.back_mut().filter(|run| run.at + run.octets.len() as u64 == at) {
            Some(run) => run.octets.extend_from_slice(octets),
            None => {
                let mut run = Run { at, octets: BytesMut::with_capacity(PART_OCTETS.max(octets.len())) };
                run.octets.extend_from_slice(octets);
                self.runs.push_back(run);
            }
        }
        self.write(cx, serial, false).map(|_| ())
    }

    /// Gives the log what is ready for it; `all`: everything. False while the log is to be waited for.
    pub(super) fn write(&mut self, cx: &mut Cx, serial: u64, all: bool) -> Result<bool, Unfit> {
        // Small logs have small parts: several fit into one, and into what may wait for it.
        let most = PART_OCTETS.min(cx.log.commit_octets() / 8).min(cx.log.segment_octets() as usize / 8).max(1);
        while let Some(run) = self.runs.front() {
            if !all && self.runs.len() == 1 && run.octets.len() < most {
                break;
            }
            let len = run.octets.len().min(most);
            if !has_room(cx, len) {
                return Ok(false);
            }
            if self.pieces.len() >= PIECES_MAX {
                return Err(Unfit::TooLarge);
            }
            self.reserve(cx, part_octets(&self.owner, len))?;
            let Some(run) = self.runs.front_mut() else { break };
            let at = run.at;
            let octets = run.octets.split_to(len).freeze();
            let mut body = Gather::new();
            body.push(octets.clone());
            let stamp = cx.stamps.next(cx.now);
            match cx.log.append_part(&self.owner, stamp, body) {
                Ok((locator, seq)) => {
                    run.at += len as u64;
                    if run.octets.is_empty() {
                        self.runs.pop_front();
                    }
                    self.pieces.insert(at, len as u64, self.records.len());
                    self.records.push(locator);
                    cx.commit(seq, Commit::Part(serial, locator.extent()));
                }
                // A new segment is being made: the octets stay where they were, and so does what they count for.
                Err(Refused::Full) => {
                    let mut back = octets.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                    back.unsplit(std::mem::take(&mut run.octets));
                    run.octets = back;
                    self.ungrow(cx, part_octets(&self.owner, len));
                    return Ok(false);
                }
                Err(Refused::TooLarge) => return Err(Unfit::TooLarge),
                Err(Refused::Poisoned | Refused::DiskFull) => return Err(Unfit::Storage),
            }
        }
        Ok(true)
    }

    /// True when all octets have come, though perhaps not all of them are in the log yet.
    pub(super) fn has_come(&self) -> bool {
        let Some(end) = self.end else { return false };
        if self.runs.is_empty() {
            return self.pieces.are_all_of(end);
        }
        let mut pieces = self.pieces.clone();
        self.runs.iter().for_each(|run| pieces.insert(run.at, run.octets.len() as u64, 0));
        pieces.are_all_of(end)
    }

    /// True while it has more in memory than it may: what the log is to take first.
    pub(super) fn is_full(&self) -> bool {
        let octets: usize = self.runs.iter().map(|run| run.octets.len()).sum();
        octets > PART_OCTETS || self.runs.len() > 1
    }

    /// Counts so many octets more for its owner.
    pub(super) fn reserve(&mut self, cx: &mut Cx, octets: u64) -> Result<(), Unfit> {
        let twice = if cx.policy.over_quota == OverQuota::DropOldest { 2 } else { 1 };
        let (messages, most) = (cx.policy.quota_messages, cx.policy.quota_octets);
        let so_far = self.reserved.map_or(0, |(_, octets)| octets);
        // The oldest make room when it is there; it must have room itself.
        if so_far + octets > most {
            return Err(Unfit::TooLarge);
        }
        let first = u64::from(self.reserved.is_none());
        let domain = cx.directory.domains().of(&self.owner);
        if let Some(domain) = domain {
            let (messages, used) = cx.directory.domains().usage(domain);
            if cx.policy.is_over_domain((messages + first, used + octets)) {
                return Err(Unfit::TooLarge);
            }
        }
        let user = match self.reserved {
            Some((user, _)) => cx.directory.grow(user, octets, most.saturating_mul(twice)).then_some(user),
            None => {
                let quota = (messages.saturating_mul(twice as u32), most.saturating_mul(twice));
                match cx.directory.reserve(&self.owner, octets, quota) {
                    Ok(user) => Some(user),
                    Err(NoRoom::OverQuota) => None,
                    Err(NoRoom::DirectoryFull) => return Err(Unfit::Storage),
                }
            }
        };
        let user = user.ok_or(Unfit::TooLarge)?;
        if let Some(domain) = domain {
            cx.directory.domains().add(cx.core, domain, first, octets);
        }
        self.reserved = Some((user, so_far + octets));
        Ok(())
    }

    /// Gives so many octets back.
    pub(super) fn ungrow(&mut self, cx: &Cx, octets: u64) {
        if let Some((user, reserved)) = &mut self.reserved {
            cx.release(*user, 0, octets);
            *reserved -= octets;
        }
    }

    /// It will not be a message: what it counted for is given back, and its parts are nobody's. Those that are not durable yet are
    /// let go when they are ([`super::Larges::part_durable`]).
    pub(super) fn discard(mut self, cx: &mut Cx) {
        self.let_go(cx);
    }

    /// The same is being written already: all that is needed of this one is whom to answer.
    pub(super) fn become_twin(&mut self, cx: &mut Cx) {
        self.twin = true;
        self.let_go(cx);
        self.records = Vec::new();
        self.pieces = Pieces::default();
        self.first = Vec::new();
    }

    fn let_go(&mut self, cx: &mut Cx) {
        if let Some((user, octets)) = self.reserved.take() {
            cx.give_up(user, octets);
        }
        cx.freed(&std::mem::take(&mut self.durable));
    }
}

/// True when the log takes so many octets without keeping deposits waiting: half of what it may hold is theirs.
pub(super) fn has_room(cx: &Cx, octets: usize) -> bool {
    let waiting = cx.log.waiting_octets();
    waiting == 0 || waiting + octets <= cx.log.commit_octets() / 2
}
