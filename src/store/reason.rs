//! Why a record is no more, and since when: for people who ask what became of a message. A tombstone without it is as good as one with
//! it, but that a start knows a twin less ([`Reason::ends_message`]); a mark without it says that the user had the message
//! ([`Reason::is_had`]).
//!
//! It stands in the label of the record that names the places, which was always empty in the logs of earlier versions:
//!
//! - nothing: nobody wrote it down;
//! - an octet for each place, its [`Reason`]: the time is that of the record's stamp;
//! - five octets for each place, its reason and its second since 1970: carried over from a segment that is gone
//!   ([`reclaim`](super::reclaim)).

use super::layout::{self, le32};
use super::record::{Place, Stamp};

/// Octets of a reason with its time.
const CARRIED: usize = 5;

/// Why a record is no more; of a mark, why its message is not pushed any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(u8)]
pub enum Reason {
    /// Nobody wrote it down, or a later version did.
    #[default]
    Unknown = 0,
    /// Pushed, and acknowledged by the user's client.
    Delivered = 1,
    /// Fetched by the user, and acknowledged.
    Retrieved = 2,
    /// Deleted by the user.
    DeletedByUser = 3,
    /// Deleted by the operator.
    DeletedByOperator = 4,
    /// Its time was over.
    Expired = 5,
    /// It made room for a later one (`policy.quota`).
    Dropped = 6,
    /// Deleted before, and its time in the DELETE bin was over.
    Purged = 7,
    /// Another record has taken its place: a copy, or a newer state.
    Superseded = 8,
    /// The same message was there already.
    Twin = 9,
    /// The state that it says is over.
    Over = 10,
    /// A copy whose message had gone by the time it was durable.
    Late = 11,
}

impl Reason {
    /// Back from its octet; what is not known is [`Reason::Unknown`].
    pub fn from_u8(raw: u8) -> Reason {
        match raw {
            1 => Reason::Delivered,
            2 => Reason::Retrieved,
            3 => Reason::DeletedByUser,
            4 => Reason::DeletedByOperator,
            5 => Reason::Expired,
            6 => Reason::Dropped,
            7 => Reason::Purged,
            8 => Reason::Superseded,
            9 => Reason::Twin,
            10 => Reason::Over,
            11 => Reason::Late,
            _ => Reason::Unknown,
        }
    }

    /// True where nothing is owed to the message's user any more, under whatever place it may lie elsewhere: not for a record that another
    /// stands for, nor where nobody wrote it down.
    pub fn ends_message(self) -> bool {
        match self {
            Reason::Delivered
            | Reason::Retrieved
            | Reason::DeletedByUser
            | Reason::DeletedByOperator
            | Reason::Expired
            | Reason::Dropped
            | Reason::Purged => true,
            Reason::Unknown | Reason::Superseded | Reason::Twin | Reason::Over | Reason::Late => false,
        }
    }

    /// Of a mark: the user had the message. Where nobody wrote it down that is taken for granted: a report that is lacking does less harm
    /// than one that is not true.
    pub fn is_had(self) -> bool {
        self != Reason::Expired
    }

    /// One word of it, for scripts: a promise.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Unknown => "unknown",
            Reason::Delivered => "delivered",
            Reason::Retrieved => "retrieved",
            Reason::DeletedByUser => "deleted-by-user",
            Reason::DeletedByOperator => "deleted-by-operator",
            Reason::Expired => "expired",
            Reason::Dropped => "dropped",
            Reason::Purged => "purged",
            Reason::Superseded => "superseded",
            Reason::Twin => "twin",
            Reason::Over => "over",
            Reason::Late => "late",
        }
    }
}

/// What a tombstone, or a mark, says of one record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ending {
    /// Of which.
    pub place: Place,
    /// Why.
    pub reason: Reason,
    /// Since when, in seconds since 1970; 0: nobody wrote it down.
    pub at_s: u32,
}

/// The label of a record of endings that happened now.
pub(super) fn label_now(endings: &[(Place, Reason)]) -> Vec<u8> {
    endings.iter().map(|(_, reason)| *reason as u8).collect()
}

/// The label of endings that were written down before.
pub(super) fn label_carried(endings: impl Iterator<Item = Ending>) -> Vec<u8> {
    let octets = endings.flat_map(|ending| {
        let at = ending.at_s.to_le_bytes();
        [ending.reason as u8, at[0], at[1], at[2], at[3]]
    });
    octets.collect()
}

/// What a record of tombstones or marks says, from its label, its envelope and its stamp.
pub(super) fn endings(label: &[u8], envelope: &[u8], stamp: Stamp) -> impl Iterator<Item = Ending> {
    let count = envelope.len() / 8;
    let (now, carried) = (label.len() == count, label.len() == count * CARRIED);
    layout::places(envelope).enumerate().map(move |(number, place)| {
        let octet = |at: usize| Reason::from_u8(label.get(at).copied().unwrap_or(0));
        let (reason, at_s) = if now {
            (octet(number), u32::try_from(stamp.seconds()).unwrap_or(u32::MAX))
        } else if carried {
            (octet(number * CARRIED), le32(label, number * CARRIED + 1))
        } else {
            (Reason::Unknown, 0)
        };
        Ending { place, reason, at_s }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SegmentNo;

    fn place(offset: u32) -> Place {
        Place { segment: SegmentNo(7), offset }
    }

    fn envelope(count: u32) -> Vec<u8> {
        (0..count).flat_map(|offset| place(offset).to_u64().to_le_bytes()).collect()
    }

    #[test]
    fn what_was_said_is_read_back_whether_it_was_carried_or_not() {
        let said = [(place(0), Reason::Delivered), (place(1), Reason::Expired)];
        let stamp = Stamp(1_700_000_000_000_000 << 12);
        let read: Vec<Ending> = endings(&label_now(&said), &envelope(2), stamp).collect();
        let expected = said.map(|(place, reason)| Ending { place, reason, at_s: 1_700_000_000 });
        assert_eq!(read, expected);
        let carried: Vec<Ending> = endings(&label_carried(read.iter().copied()), &envelope(2), Stamp(9)).collect();
        assert_eq!(carried, expected);
    }

    #[test]
    fn what_nobody_wrote_down_is_unknown() {
        for label in [&b""[..], b"xxx", b"xxxxxxxxxxx"] {
            let read: Vec<Ending> = endings(label, &envelope(2), Stamp(1 << 60)).collect();
            assert_eq!(read, [0, 1].map(|n| Ending { place: place(n), reason: Reason::Unknown, at_s: 0 }));
        }
    }

    #[test]
    fn every_octet_is_a_reason_and_every_reason_its_octet() {
        for raw in 0..=u8::MAX {
            let reason = Reason::from_u8(raw);
            assert!(reason as u8 == raw || reason == Reason::Unknown, "{raw}");
        }
        assert_eq!(Reason::from_u8(11).word(), "late");
        assert_eq!(Reason::from_u8(12), Reason::Unknown);
    }
}
