//! A push's words: where it stands, why it waits, how it ends, and what it leaves behind.

use crate::base::spread::SpreadSet;
use crate::deferred::identity::Address;
use crate::deferred::policy::Afterwards;
use crate::deferred::refusals::Refusal;
use crate::store::directory::UserId;
use crate::store::reason::Reason;
use crate::store::record::{Locator, Place};
use std::collections::VecDeque;
use std::time::Duration;

/// Where a push stands. Its messages leave the queue only by tombstones; whatever happens here, they are safe.
///
/// ```text
///  inviting ──2xx──▶ waiting ──first SEND──▶ sending ──all done──▶ ending ──▶ (gone)
///     │  │              │                       ▲  │                  ▲  ▲
///     │  └──2xx, they are passive──▶ connecting ┘  └─ failure, or ──▶ parting
///     │                                               their BYE          │
///     ├──── 60 s ──▶ cancelling ───────── 2xx: ACK, BYE ─────────────────┘
///     └──── 300-699 ──▶ (gone)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::deferred) enum Stage {
    /// The INVITE has no final answer yet.
    Inviting,
    /// It rang too long; CANCEL was sent.
    Cancelling,
    /// Answered; the client connects to us.
    Waiting,
    /// Answered; we connect to the client.
    Connecting,
    /// Messages flow.
    Sending,
    /// Nothing more is sent, and what the client acknowledged is being written off: the last word, our BYE or the answer to
    /// theirs, waits for that.
    Parting,
    /// BYE was sent.
    Ending,
    /// No session: messages go as SIP MESSAGEs.
    Paging,
}

impl Stage {
    /// True while the session is established and not being ended.
    pub(in crate::deferred) fn is_up(self) -> bool {
        matches!(self, Stage::Waiting | Stage::Connecting | Stage::Sending)
    }

    /// True when the session was established and is being ended.
    pub(in crate::deferred) fn is_over(self) -> bool {
        matches!(self, Stage::Parting | Stage::Ending)
    }
}

/// Why a session in [`Stage::Sending`] may have nothing in flight and is not over: each has its time, so that none lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::deferred) enum Idle {
    /// Nothing but answers is waited for, and those have times of their own.
    No,
    /// The client holds the session: its last offer does not receive.
    Held,
    /// Behind a relay a message is delivered when it was reported, and a REPORT may never come.
    Unreported,
    /// All is delivered, and the log does not take the tombstones.
    Unwritten,
}

/// How a push ended, for what happens next to its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything was delivered.
    Completed,
    /// Something on the way failed: try again by backoff, or when the other side said.
    Transient(Option<Duration>),
    /// The user declined, perhaps saying until when.
    Busy(Option<Duration>),
    /// Not before the next trigger.
    GiveUp,
    /// The client takes messages in no form we have: not before it publishes anew.
    Unfit,
    /// Two requests crossed: try again in a moment.
    Glare,
}

/// A push that is over.
#[derive(Debug)]
pub struct Ended {
    /// Whose it was.
    pub owner: Address,
    /// How.
    pub end: End,
    /// The client lost or delayed answers: its next session goes one at a time.
    pub cautious: bool,
    /// Messages it did not take: they wait for the next trigger, and are no reason for a push of their own.
    pub skipped: SpreadSet<Place>,
    /// It was one without a session.
    pub paged: bool,
}

/// What a push that is over leaves to its user's list.
pub(in crate::deferred) struct Left {
    pub(in crate::deferred) user: UserId,
    /// Answered 200, tombstone not yet appended.
    pub(in crate::deferred) delivered: Vec<Locator>,
    pub(in crate::deferred) afterwards: Afterwards,
    pub(in crate::deferred) reason: Reason,
    pub(in crate::deferred) refused: Vec<(Place, Refusal)>,
}

/// Which transaction of a push a response belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::deferred) enum Role {
    Invite,
    Refresh,
    Bye,
    Page,
    /// Of a PRACK: whatever is answered, the INVITE's own answer counts.
    Prack,
}

/// Who set the session up, and so what it brings.
#[derive(Debug)]
pub(in crate::deferred) enum Way {
    /// We did: everything that is new.
    Push,
    /// Nobody: what is new goes without a session.
    Pager,
    /// The user did: what they chose.
    Retrieval {
        /// Not taken yet, in the order in which it is sent.
        wanted: VecDeque<Locator>,
    },
}

impl Way {
    /// What became of a message that was acknowledged.
    pub(in crate::deferred) fn reason(&self) -> Reason {
        match self {
            Way::Push | Way::Pager => Reason::Delivered,
            Way::Retrieval { .. } => Reason::Retrieved,
        }
    }
}
