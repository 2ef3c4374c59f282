//! A message under way: how much of it is framed, answered and reported.

use super::coverage::Coverage;
use super::session::Outgoing;

/// What is to become of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Being sent, or waiting for it.
    Open,
    /// Refused in the middle: an empty chunk with `#` is due.
    GivenUp,
    /// Delivered or refused; nothing more is due.
    Settled,
}

/// A message and how far it is.
#[derive(Debug)]
pub(super) struct Message {
    /// Its octets.
    pub(super) outgoing: Outgoing,
    /// Octets framed.
    pub(super) sent: usize,
    /// All octets framed.
    pub(super) framed: bool,
    /// Chunks not answered.
    pub(super) unanswered: u32,
    /// The session's part of our ids stands behind hyphens in the body: each id is looked for before it is used.
    pub(super) careful: bool,
    /// Takes a place of the window.
    pub(super) in_flight: bool,
    /// What is to become of it.
    pub(super) fate: Fate,
    /// Octets that a relay's REPORTs confirmed.
    pub(super) reported: Coverage,
}

impl Message {
    /// Queued, nothing framed.
    pub(super) fn new(outgoing: Outgoing) -> Message {
        Message {
            outgoing,
            sent: 0,
            framed: false,
            unanswered: 0,
            careful: false,
            in_flight: false,
            fate: Fate::Open,
            reported: Coverage::default(),
        }
    }
}
