//! A message under way: how much of it is framed, answered and reported.

use super::chunk::{chunk_len, closes_early};
use super::coverage::Coverage;
use super::session::Outgoing;
use super::supply::Supply;
use bytes::Bytes;

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
    /// What of them is there, where they are brought while it is sent. Few are: the others are the smaller for it.
    pub(super) supply: Option<Box<Supply>>,
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
        let supply = (outgoing.more > 0)
            .then(|| Box::new(Supply::new(outgoing.page.slice(outgoing.body.range()), outgoing.more)));
        Message {
            outgoing,
            supply,
            sent: 0,
            framed: false,
            unanswered: 0,
            careful: false,
            in_flight: false,
            fate: Fate::Open,
            reported: Coverage::default(),
        }
    }

    /// How many octets the next chunk takes; `None` while they are not all there.
    pub(super) fn next_chunk(&self, chunk_max: usize) -> Option<usize> {
        let Outgoing { page, body, text, .. } = &self.outgoing;
        match &self.supply {
            None => Some(chunk_len(body.of(page), self.sent, chunk_max, *text)),
            Some(supply) => supply.next_chunk(chunk_max, *text),
        }
    }

    /// True when seven hyphens and `id` stand in the octets among which an end-line with that id would be looked for: the whole body,
    /// or, where that is not there at one time, the next `len` octets.
    pub(super) fn closes_early(&self, len: usize, id: &[u8]) -> bool {
        match &self.supply {
            None => closes_early(self.outgoing.body.of(&self.outgoing.page), id),
            Some(supply) => closes_early(&supply.copy(0, len), id),
        }
    }

    /// True when its chunks' ids have to be looked for in it. The end of one whose octets are brought is always looked through: it
    /// carries an end-line of its own.
    pub(super) fn has_hyphens(&self, last: bool) -> bool {
        self.outgoing.has_dash7 || self.supply.is_some() && last
    }

    /// Nothing of it is needed any more.
    pub(super) fn let_go(&mut self) {
        self.outgoing.page = Bytes::new();
        self.supply = None;
    }
}
