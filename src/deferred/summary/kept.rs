//! What outlives the daemon of a subscription, as octets in a state record, and what our Contact carries of it.
//!
//! ```text
//!   version │ until, microseconds since 1970 │ sequence numbers, 4 octets │ flow, behind its length │ Event, behind its length │ dialog
//! ```

use super::{Live, Subscribed, What};
use crate::base::arena::Key;
use crate::base::clock::Wall;
use crate::base::net::Flow;
use crate::deferred::cx::{Commit, Cx};
use crate::deferred::identity::{Address, SUMMARY_PREFIX};
use crate::deferred::kept::{decode_flow, encode_flow};
use crate::deferred::states::StateWritten;
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::subscription::Subscription;
use crate::store::log::{Refused, Seq};

/// Version of these octets.
const VERSION: u8 = 1;

/// NOTIFYs that a subscription may have sent since its record was written, beyond one a second: the first, the last, and what clocks
/// do.
const SPARE_NUMBERS: u32 = 16;

/// The end of a subscription whose end is on record: before any other time there is.
pub(super) const OVER: Wall = Wall(0);

/// What was read back.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) id: u64,
    pub(super) subscription: Subscription,
    pub(super) flow: Option<Flow>,
    pub(super) until: Wall,
    /// Sequence numbers that may have been used since.
    pub(super) numbers: u32,
}

impl Live {
    /// Appends its record as it is now, and takes as many sequence numbers as it may use until the next.
    ///
    /// A record is written for each SUBSCRIBE, not for each NOTIFY: there is at most one of those a second, so as many numbers are
    /// left out after a restart as the record had seconds to go.
    pub(super) fn keep(&mut self, cx: &mut Cx) -> Result<(Seq, StateWritten), Refused> {
        self.keep_until(cx, self.until)
    }

    /// The same with another end, which counts when the record is durable.
    pub(super) fn keep_until(&mut self, cx: &mut Cx, until: Wall) -> Result<(Seq, StateWritten), Refused> {
        let numbers = left_s(cx, until).saturating_add(SPARE_NUMBERS);
        let mut value = vec![VERSION];
        value.extend_from_slice(&until.0.to_le_bytes());
        value.extend_from_slice(&numbers.to_le_bytes());
        encode_flow(&mut value, self.flow);
        let event = self.subscription.event();
        value.extend_from_slice(&(event.len() as u16).to_le_bytes());
        value.extend_from_slice(event);
        self.subscription.dialog().encode(&mut value);
        let written = cx.set_state(self.state(), &value)?;
        (self.kept, self.numbers) = (true, numbers);
        Ok(written)
    }

    /// Puts its end on record, before anybody is told of it: whoever was told hears nothing more, whatever happens. False when the log does
    /// not take it: a subscriber who is told something once more answers 481, and that is the end.
    pub(super) fn close(&mut self, cx: &mut Cx, key: Key) -> bool {
        let Ok((seq, state)) = self.keep_until(cx, OVER) else { return false };
        self.committing += 1;
        cx.commit(seq, Commit::Subscribe(Box::new(Subscribed { answer: None, state, what: What::Closed(key) })));
        true
    }
}

/// Seconds left until then.
pub(super) fn left_s(cx: &Cx, until: Wall) -> u32 {
    u32::try_from(until.0.saturating_sub(cx.now.wall.0) / 1_000_000).unwrap_or(u32::MAX)
}

/// Back from a record with this key; `None` for octets that are none of ours.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Read> {
    let id = u64::from_be_bytes(key.try_into().ok()?);
    let (&version, rest) = value.split_first()?;
    if version != VERSION {
        return None;
    }
    let (until, rest) = rest.split_first_chunk::<8>()?;
    let (numbers, rest) = rest.split_first_chunk::<4>()?;
    let (&len, rest) = rest.split_first()?;
    let (flow, rest) = rest.split_at_checked(usize::from(len))?;
    let flow = decode_flow(std::str::from_utf8(flow).ok()?);
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (event, dialog) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let subscription = Subscription::resumed(Dialog::decode(dialog)?, event);
    let (until, numbers) = (Wall(u64::from_le_bytes(*until)), u32::from_le_bytes(*numbers));
    Some(Read { id, subscription, flow, until, numbers })
}

/// Our Contact: the subscription's number and whose it is, so that a refresh finds its home after a restart, too.
pub(super) fn contact(cx: &Cx, flow: &Flow, owner: &Address, id: u64) -> Vec<u8> {
    let (transport, sent_by) = cx.addresses.sent_by(flow);
    let mut out = b"<sip:".to_vec();
    out.extend_from_slice(&user_part(owner, id));
    out.push(b'@');
    out.extend_from_slice(sent_by.as_bytes());
    if transport == "TCP" {
        out.extend_from_slice(b";transport=tcp");
    }
    out.extend_from_slice(b">;+g.oma.sip-im;automata");
    out
}

/// `summary-`, the number in 16 hexadecimal digits, the owner's address in hexadecimal digits.
fn user_part(owner: &[u8], id: u64) -> Vec<u8> {
    let mut out = SUMMARY_PREFIX.to_vec();
    for octet in id.to_be_bytes().iter().chain(owner) {
        out.extend_from_slice(format!("{octet:02x}").as_bytes());
    }
    out
}

/// Whose subscription a user part of ours names, and its number.
pub fn contact_of(user: &[u8]) -> Option<(Address, u64)> {
    let digits = user.strip_prefix(SUMMARY_PREFIX)?;
    let digit = |octet: u8| char::from(octet).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let octets: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    let octets = octets?;
    let (id, owner) = octets.split_first_chunk::<8>()?;
    Some((Address::from_canonical(owner), u64::from_be_bytes(*id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_contact_says_whose_it_is() {
        let owner = Address::from_canonical(b"sip:bob@example.org");
        let user = user_part(&owner, 0x0123_4567_89ab_cdef);
        assert!(user.starts_with(b"summary-0123456789abcdef736970"));
        assert_eq!(contact_of(&user), Some((owner, 0x0123_4567_89ab_cdef)));
        for other in [
            "summary-",
            "summary-0123",
            "summary-0123456789abcdeg",
            "push-0123456789abcdef",
            "summary-0123456789abcdef7",
        ] {
            assert_eq!(contact_of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn strange_octets_are_no_subscription() {
        for octets in [&b""[..], b"\x02", b"\x01short", &[1; 40]] {
            assert!(decode(&[0; 8], octets).is_none());
        }
        assert!(decode(b"short", &[1; 40]).is_none());
    }
}
