//! The words between an operator and a core: questions and answers, plain values.

use crate::base::clock::Wall;
use crate::base::net::CoreId;
use crate::deferred::identity::Address;
use crate::deferred::metadata::{Document, Revision};
use crate::deferred::policy::Policy;
use crate::deferred::refusals::Refused;
use crate::store::disk::SegmentNo;
use crate::store::loader::Damage;
use crate::store::record::{Locator, MessageId, Stamp};
use bytes::Bytes;
use std::sync::Arc;

/// Most messages of one answer: their records are read together, 128 of 1 KiB in a handful of reads.
pub const LISTED_MAX: usize = 128;

/// Most users of one answer.
pub const TOP_MAX: usize = 1_000;

/// A question.
#[derive(Clone, Debug)]
pub enum Question {
    /// What waits for a user, from a stamp on.
    Queue {
        /// Whose.
        owner: Address,
        /// From here on.
        from: Stamp,
        /// At most so many, and at most [`LISTED_MAX`].
        limit: usize,
    },
    /// One message whole.
    Show {
        /// Whose.
        owner: Address,
        /// Which.
        id: MessageId,
    },
    /// Which user a message waits for.
    Find {
        /// Which.
        id: MessageId,
    },
    /// Who has most.
    Top {
        /// So many, and at most [`TOP_MAX`].
        limit: usize,
        /// Ordered by octets instead of messages.
        by_octets: bool,
    },
    /// When the message was taken in that has waited longest to be pushed.
    Oldest,
    /// What is known about a user's next push, and what became of the last.
    Why {
        /// Whose.
        owner: Address,
    },
    /// Push now, whatever holds it back. Changes something.
    Push {
        /// To whom.
        owner: Address,
    },
    /// Delete a message as its owner could, into the DELETE bin where there is one. Changes something.
    Delete {
        /// Whose.
        owner: Address,
        /// Which.
        id: MessageId,
        /// Its sender hears of it, where they asked for a report.
        report: bool,
    },
    /// Somebody copies the files of all logs.
    Copying(Copying),
    /// The entity tag of a user's metadata document.
    Revision {
        /// Whose.
        owner: Address,
        /// Messages that the document has at most.
        most: usize,
    },
    /// The document itself.
    Document {
        /// Whose.
        owner: Address,
        /// At most so many messages, the oldest.
        most: usize,
    },
    /// Whose metadata document has changed since this was asked last. From the first time on changes are remembered.
    Changes,
    /// A user's document is about to be written elsewhere. Changes something.
    Mark {
        /// Whose.
        owner: Address,
    },
    /// An empty document of a user was taken elsewhere. Changes something.
    Settled {
        /// Whose.
        owner: Address,
    },
    /// Take no more deposits, or take them again.
    Drain(bool),
    /// From now on the operator's choices are these.
    Policy(Arc<Policy>),
}

/// The steps of a copy of all logs, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copying {
    /// From now on no segment goes.
    Begin,
    /// What is durable of the logs that a core looks after; [`Answer::Busy`] while one of their segments is still going.
    Cut,
    /// It is over. [`Answer::Done`] from one core when nothing had to go meanwhile.
    End,
}

/// A segment and how much of it is to be copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToCopy {
    /// In whose log.
    pub log: CoreId,
    /// Which.
    pub segment: SegmentNo,
    /// Octets of its file.
    pub octets: u64,
    /// So many of them are durable.
    pub durable: u64,
    /// The last group of these; 0: the end of what is there.
    pub last: u64,
}

impl Question {
    /// Whom it is about.
    pub(super) fn owner_mut(&mut self) -> Option<&mut Address> {
        match self {
            Question::Queue { owner, .. }
            | Question::Show { owner, .. }
            | Question::Why { owner }
            | Question::Push { owner }
            | Question::Delete { owner, .. }
            | Question::Revision { owner, .. }
            | Question::Document { owner, .. }
            | Question::Mark { owner }
            | Question::Settled { owner } => Some(owner),
            Question::Changes
            | Question::Oldest
            | Question::Copying(_)
            | Question::Find { .. }
            | Question::Top { .. }
            | Question::Drain(_)
            | Question::Policy(_) => None,
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Question::Queue`].
    Queue(Listing),
    /// To [`Question::Show`].
    Show(Box<Shown>),
    /// To [`Question::Find`]: whose it is, where this core is home of it.
    Found(Option<Address>),
    /// To [`Question::Top`]: this core's users, the first first.
    Top(Vec<Standing>),
    /// To [`Question::Oldest`]; `None`: nothing waits on this core.
    Oldest(Option<Stamp>),
    /// To [`Question::Why`].
    Why(Box<Reasons>),
    /// To [`Question::Revision`].
    Revision(Revision),
    /// To [`Question::Document`].
    Document(Box<Document>),
    /// To [`Question::Changes`]: some of them; ask until there is none.
    Changes(Vec<Address>),
    /// The user's home is another core.
    Elsewhere,
    /// What was asked for is done, or begun.
    Done,
    /// There is no such user or message here; foreign ids look like unknown ones.
    Unknown,
    /// To [`Copying::Cut`].
    Cut(Vec<ToCopy>),
    /// Somebody is being pushed to already, or a segment is going.
    Busy,
    /// The log did not take it: nothing has changed.
    Failed,
    /// Nobody is there: the user has not published, or does not want deliveries.
    Absent,
    /// The record does not pass its checks.
    Damaged(Damage),
    /// Too many questions: ask again.
    Overloaded,
}

/// Part of a user's queue.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Messages in all.
    pub messages: u32,
    /// Their octets on disk.
    pub octets: u64,
    /// These.
    pub entries: Vec<Entry>,
    /// Ask on from here; `None`: that was all.
    pub next: Option<Stamp>,
}

/// A message in a listing.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Where it lies and when it came.
    pub locator: Locator,
    /// Its name; why not, where the record does not pass its checks.
    pub id: Result<MessageId, Damage>,
    /// What is with it.
    pub standing: Waiting,
    /// What clients made of it.
    pub refused: Option<Refused>,
}

/// What is with a waiting message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// It waits for the next push.
    New,
    /// It is with a client right now.
    InFlight,
    /// Delivered, deleted or expired; the tombstone is not durable yet.
    Leaving,
    /// The user has had it; it stays for retrieval.
    Retained,
    /// Clients refused it, or it is damaged: it is not pushed any more.
    Refused,
    /// It waits for another client: it was larger than the last one wants.
    TooLarge,
    /// It waits for another client: the last one takes no form that it can have.
    Unaccepted,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Where it lies and when it came.
    pub locator: Locator,
    /// Its name.
    pub id: MessageId,
    /// What is with it.
    pub standing: Waiting,
    /// What clients made of it.
    pub refused: Option<Refused>,
    /// `Content-Type` of the body.
    pub body_type: Bytes,
    /// Push-ready body.
    pub body: Bytes,
}

/// One user of [`Answer::Top`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Who.
    pub owner: Address,
    /// Messages.
    pub messages: u32,
    /// Octets on disk.
    pub octets: u64,
}

/// Why a user's messages wait.
#[derive(Clone, Default, Debug)]
pub struct Reasons {
    /// Messages that wait.
    pub messages: u32,
    /// Their octets on disk.
    pub octets: u64,
    /// Something of them is to be pushed.
    pub has_new: bool,
    /// Those that were larger than the last client wants.
    pub too_large: u32,
    /// Those that the last client takes in no form they can have.
    pub unaccepted: u32,
    /// Large messages among them.
    pub large: u32,
    /// Sessions in which more of these are coming.
    pub receiving: u32,
    /// Who is told how many messages wait.
    pub summaries: Vec<Listening>,
    /// When the first of them expires, in seconds since 1970.
    pub expires_s: Option<u32>,
    /// What is known of the user's client; `None`: nothing was published.
    pub presence: Option<Seen>,
    /// The stage of the push under way.
    pub pushing: Option<&'static str>,
}

/// A subscription to a user's message summary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listening {
    /// When it ends.
    pub until: Wall,
    /// NOTIFYs in a row that nobody took.
    pub failures: u32,
}

/// What is known of a user who published.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// A publication says that the client can take messages.
    pub online: bool,
    /// The user wants deliveries.
    pub wants: bool,
    /// Failures in a row.
    pub failures: u32,
    /// When the last attempt began.
    pub last_attempt: Option<Wall>,
    /// What became of it, in a few words.
    pub last_outcome: Option<&'static str>,
    /// When the next may begin; `None`: at the next trigger.
    pub next_attempt: Option<Wall>,
    /// Only a new PUBLISH leads to another attempt.
    pub waits_for_trigger: bool,
}
