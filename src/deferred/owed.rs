//! A report that is owed to somebody: what it says, as octets in a state record, and back (12.2.2.6).
//!
//! Made from a stored message while it can still be read; from then on it stands by itself. Who sends it, and when, is
//! [`super::report`].

use super::cx::Cx;
use super::encapsulate;
use super::identity::{ANONYMOUS, Address};
use crate::base::limits::Limits;
use crate::store::loader::Record;
use crate::store::record::{Extent, Stamp, StateDraft, StateKind};
use crate::store::states::StateKey;
use crate::wire::cpim::{self, Cpim};
use crate::wire::imdn::{self, Asked, Disposition, Notification};
use crate::wire::scan::List;
use crate::wire::sip::address::NameAddr;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::Name;
use crate::wire::{date, sip::fields};
use bytes::Bytes;
use std::time::Duration;

/// After this nobody waits for a report any more, however often the daemon was started meanwhile.
const REPORT_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Octets of a report's own Message-ID: 80 random bits in hex (RFC 5438 6.3 asks for 64).
pub const REPORT_ID: usize = 20;

/// Octets of a record beside address and value: its head, the key and padding.
const RECORD_OCTETS: usize = 64 + REPORT_ID + 8;

/// Version of the octets of [`Owed::value`].
const VERSION: u8 = 1;

/// A report and whom it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owed {
    /// Canonical address of who gets it: the state's owner, and so its home.
    pub to: Address,
    /// Its own Message-ID: the state's key.
    pub id: [u8; REPORT_ID],
    /// When it was decided.
    pub stamp: Stamp,
    /// The rest, as [`Owed::read`] reads it.
    pub value: Bytes,
}

/// A report whose record is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// What it says.
    pub owed: Owed,
    /// Where its record lies.
    pub extent: Extent,
}

/// What the request that carries a report needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts<'a> {
    /// When it is given up, in seconds since 1970.
    pub until_s: u64,
    /// Request-URI.
    pub target: &'a [u8],
    /// The user in whose name it is sent: whom the message was for.
    pub from: &'a [u8],
    /// The `message/cpim` body.
    pub body: &'a [u8],
}

impl Owed {
    /// The report of what became of a stored message; `None` when its sender asked for none that says this, or cannot be named.
    ///
    //= 12.2.2.6-1: shall check whether the deleted messages include a Failure Delivery Report request as defined in IMDN
    pub fn about(cx: &mut Cx, owner: &Address, record: &Record, disposition: Disposition) -> Option<Owed> {
        if let Some((sender, cpim)) = encapsulate::asked_of_large(record.envelope.of(&record.page)) {
            return Owed::of_cpim(cx, owner, cpim, (sender, record.is_private()), disposition);
        }
        let body = record.body();
        let embedded = encapsulate::embedded(&body, record.body_type.of(&record.page))?;
        let embedded = body.slice(embedded.range());
        let message = Message::parse_datagram(embedded, &Limits::unbounded()).ok()?;
        // Where privacy was asked for, the asserted identity is in the envelope alone.
        let left_out = encapsulate::left_out(record.envelope.of(&record.page));
        let asserted = left_out.filter_map(|(_, line)| {
            let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
            (Name::parse(name.trim_ascii()) == Name::PAssertedIdentity)
                .then(|| value.get(1..).unwrap_or_default().trim_ascii())
        });
        let asserted = fields::identities_of(asserted.flat_map(List::new));
        Owed::of_message(cx, owner, &message, asserted.sip.or(asserted.tel), disposition)
    }

    /// The same of a message that was just received.
    pub fn of_message(
        cx: &mut Cx,
        owner: &Address,
        message: &Message,
        asserted: Option<&[u8]>,
        disposition: Disposition,
    ) -> Option<Owed> {
        // The sender as the network knows them: what CPIM says could be anybody's.
        let known = fields::asserted_identities(message);
        let sender = asserted.or(known.sip).or(known.tel);
        let sender = sender.or_else(|| NameAddr::parse(message.from()).ok().map(|from| from.uri))?;
        let private = fields::privacy_has_id(message);
        Owed::of_cpim(cx, owner, message.body(), (sender, private), disposition)
    }

    /// The same of a `message/cpim` body, or its first octets, that came from `sender`; true beside it: who is not to be named.
    pub fn of_cpim(
        cx: &mut Cx,
        owner: &Address,
        body: &[u8],
        (sender, private): (&[u8], bool),
        disposition: Disposition,
    ) -> Option<Owed> {
        let cpim = Cpim::parse(body).ok()?;
        let asked = Asked::of(&cpim)?;
        let wanted = match disposition {
            Disposition::Stored => asked.wanted.processing,
            Disposition::Failed | Disposition::Forbidden | Disposition::Error => asked.wanted.negative,
        };
        if !wanted {
            return None;
        }
        //= RFC 5438 7.2.1: the IMDN is sent to the URI in the top IMDN-Route header field
        let target = asked.record_route.first().map_or(sender, |top| imdn::bare(top));
        // A Request-URI has no headers (RFC 3261 19.1.1).
        let target = target.split(|&octet| octet == b'?').next().unwrap_or_default();
        // Under whichever of their names: it goes the way their clients came.
        let to = cx.policy.aliases.of_uri(target)?;
        let now_s = cx.now.wall.seconds();
        let id = cx.dice.hex::<REPORT_ID>();
        //= RFC 3325 9.3: Privacy id: the asserted identity is nobody's to see; the report itself says no more than its sender said
        let named = if private { ANONYMOUS } else { sender };
        let body = document(owner, named, &asked, &id, now_s, disposition);
        let until_s = now_s + REPORT_LIFE.as_secs();
        let value = encode(&Parts { until_s, target, from: owner, body: &body })?;
        Some(Owed { to, id, stamp: cx.stamps.next(cx.now), value })
    }

    /// What recovery found.
    pub fn recovered(owner: &[u8], key: &[u8], stamp: Stamp, value: &[u8]) -> Option<Owed> {
        let owed = Owed {
            to: Address::from_canonical(owner),
            id: key.try_into().ok()?,
            stamp,
            value: Bytes::copy_from_slice(value),
        };
        owed.read().is_some().then_some(owed)
    }

    /// For the record of the tombstones that owe it.
    pub fn draft(&self) -> StateDraft<'_> {
        StateDraft { kind: StateKind::Report, stamp: self.stamp, owner: &self.to, key: &self.id, value: &self.value }
    }

    /// Its name among the states.
    pub fn state(&self) -> StateKey {
        StateKey { kind: StateKind::Report, owner: self.to.as_bytes().into(), key: self.id.into() }
    }

    /// Octets of its record, about.
    pub fn octets(&self) -> usize {
        RECORD_OCTETS + self.to.len() + self.value.len()
    }

    /// Takes the octets apart; `None` for what is none of ours.
    pub fn read(&self) -> Option<Parts<'_>> {
        let (&version, rest) = self.value.split_first()?;
        let (until_s, rest) = rest.split_first_chunk::<8>()?;
        let (target, rest) = counted(rest)?;
        let (from, body) = counted(rest)?;
        (version == VERSION).then_some(Parts { until_s: u64::from_le_bytes(*until_s), target, from, body })
    }
}

/// `version, until (u64), target (u16 and octets), from (the same), body`.
fn encode(parts: &Parts<'_>) -> Option<Bytes> {
    let mut out = Vec::with_capacity(parts.body.len() + parts.target.len() + parts.from.len() + 16);
    out.push(VERSION);
    out.extend_from_slice(&parts.until_s.to_le_bytes());
    for octets in [parts.target, parts.from] {
        out.extend_from_slice(&u16::try_from(octets.len()).ok()?.to_le_bytes());
        out.extend_from_slice(octets);
    }
    out.extend_from_slice(parts.body);
    Some(out.into())
}

fn counted(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
}

/// The `message/cpim` body of a report.
///
//= RFC 5438 7.2.1: a Disposition-Notification header field MUST NOT appear in an IMDN
//= RFC 5438 7.2.1: MUST copy the IMDN-Record-Route header fields into IMDN-Route header fields and maintain their order
//= RFC 5438 7.2.1: MUST insert a Content-Disposition header field set to the value "notification"
fn document(
    owner: &Address,
    sender: &[u8],
    asked: &Asked<'_>,
    id: &[u8],
    now_s: u64,
    disposition: Disposition,
) -> Vec<u8> {
    let mut sent = Vec::new();
    // RFC 5438 7.1.1.2 has the sender write a DateTime; one who did not gets the report's own.
    date::write_rfc3339(&mut sent, now_s);
    let recipient = asked.to.unwrap_or(owner);
    let mut xml = Vec::with_capacity(512);
    Notification {
        message_id: asked.message_id,
        date_time: asked.date_time.unwrap_or(&sent),
        recipient,
        original_recipient: asked.original_to.unwrap_or(recipient),
        disposition,
    }
    .write(&mut xml);
    let mut writer =
        cpim::Writer::new(recipient, asked.from.unwrap_or(sender)).with_imdn().line(b"imdn.Message-ID", id);
    for route in &asked.record_route {
        writer = writer.line(b"imdn.IMDN-Route", &cpim::unescape(route));
    }
    writer.date_time(now_s).content(imdn::MEDIA_TYPE, b"Content-Disposition: notification\r\n", &xml)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn asked_of(body: &[u8]) -> Vec<u8> {
        let asked = Asked::of(&Cpim::parse(body).unwrap()).unwrap();
        let owner = Address::from_canonical(b"sip:bob@example.org");
        document(&owner, b"sip:alice@example.org", &asked, b"0123456789abcdef0123", 1_769_940_000, Disposition::Failed)
    }

    //= RFC 5438 7.2.1: a Disposition-Notification header field MUST NOT appear in an IMDN
    //= RFC 5438 7.2.1: MUST copy the IMDN-Record-Route header fields into IMDN-Route header fields and maintain their order
    //= RFC 5438 7.2.1: MUST insert a Content-Disposition header field set to the value "notification"
    #[test]
    fn a_report_says_what_the_rfc_asks_and_asks_for_nothing() {
        let report = asked_of(
            b"From: A <im:alice@example.org>\r\nTo: <im:bob@example.org>\r\nDateTime: 2006-04-04T12:16:49-05:00\r\n\
              NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 34jk324j\r\nimdn.Disposition-Notification: negative-delivery\r\n\
              imdn.IMDN-Record-Route: <im:p2@x>\r\nimdn.IMDN-Record-Route: <im:p1@x>\r\nimdn.Original-To: <im:list@x>\r\n\r\n\
              Content-Type: text/plain\r\n\r\nHello",
        );
        let cpim = Cpim::parse(&report).unwrap();
        assert!(cpim.is_imdn());
        assert_eq!((cpim.from(), cpim.to()), (Some(&b"im:bob@example.org"[..]), Some(&b"im:alice@example.org"[..])));
        assert_eq!(cpim.imdn(b"Message-ID").collect::<Vec<_>>(), [b"0123456789abcdef0123"]);
        assert_eq!(cpim.imdn(b"IMDN-Route").collect::<Vec<_>>(), [b"<im:p2@x>", b"<im:p1@x>"]);
        assert_eq!(cpim.imdn(b"Disposition-Notification").count() + cpim.imdn(b"IMDN-Record-Route").count(), 0);
        assert_eq!(cpim.content_header(b"Content-Disposition"), Some(&b"notification"[..]));
        let text = String::from_utf8_lossy(cpim.content());
        for part in [
            "<message-id>34jk324j</message-id>",
            "<datetime>2006-04-04T12:16:49-05:00</datetime>",
            "<recipient-uri>im:bob@example.org</recipient-uri>",
            "<original-recipient-uri>im:list@x</original-recipient-uri>",
            "<delivery-notification><status><failed/></status></delivery-notification>",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_a_sender_left_out_is_made_up_for() {
        let report =
            asked_of(b"NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 7\r\n\r\nContent-Type: a/b\r\n\r\n");
        let cpim = Cpim::parse(&report).unwrap();
        assert_eq!((cpim.from(), cpim.to()), (Some(&b"sip:bob@example.org"[..]), Some(&b"sip:alice@example.org"[..])));
        assert!(String::from_utf8_lossy(cpim.content()).contains("<datetime>2026-02-01T10:00:00Z</datetime>"));
    }

    #[test]
    fn what_is_kept_is_read_back_and_strange_octets_are_not() {
        let parts = Parts { until_s: 77, target: b"sip:alice@h", from: b"sip:bob@h", body: b"x" };
        let (to, id, stamp) = (Address::from_canonical(b"sip:alice@h"), [b'0'; REPORT_ID], Stamp(9));
        let owed = Owed { to, id, stamp, value: encode(&parts).unwrap() };
        assert_eq!(owed.read(), Some(parts));
        let draft = owed.draft();
        assert_eq!(Owed::recovered(draft.owner, draft.key, draft.stamp, draft.value), Some(owed.clone()));
        assert_eq!(Owed::recovered(draft.owner, b"short", draft.stamp, draft.value), None);
        for cut in 0..owed.value.len() - 1 {
            assert_eq!(Owed::recovered(draft.owner, draft.key, draft.stamp, &draft.value[..cut]), None, "{cut}");
        }
    }
}
