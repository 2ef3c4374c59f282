//! What a NOTIFY says: how many messages wait, and some headers of those that came (RFC 3842 3.5).

use crate::deferred::identity::Address;
use crate::deferred::policy::Policy;
use crate::store::loader::Record;
use crate::store::record::Flags;
use crate::store::tally::Tally;
use crate::wire::sip::address::NameAddr;
use crate::wire::sip::names::Name;
use crate::wire::{scan, summary};
use memchr::memmem;

/// Octets of one header's value: what a screen shows of a subject.
const VALUE_OCTETS_MAX: usize = 256;

/// Octets of header groups in one NOTIFY: 20 groups of ordinary headers have 5 KiB. Beyond it messages are only counted.
const GROUPS_OCTETS_MAX: usize = 16 * 1024;

/// The body of a NOTIFY.
pub(super) fn body(policy: &Policy, owner: &Address, tally: Tally, groups: &[Vec<u8>]) -> Vec<u8> {
    let (pager, large) = (policy.summary.class_pager.as_bytes(), policy.summary.class_large.as_bytes());
    let mut out = Vec::with_capacity(256);
    if pager.eq_ignore_ascii_case(large) {
        summary::write(&mut out, owner, &[(pager, counts(tally, Flags::default(), Flags::default()))]);
    } else {
        let of_pager = counts(tally, Flags::default(), Flags::LARGE);
        let of_large = counts(tally, Flags::LARGE, Flags::default());
        summary::write(&mut out, owner, &[(pager, of_pager), (large, of_large)]);
    }
    let most = out.len() + GROUPS_OCTETS_MAX;
    for group in groups {
        if out.len() + group.len() > most {
            break;
        }
        out.extend_from_slice(group);
    }
    out
}

fn counts(tally: Tally, with: Flags, without: Flags) -> summary::Counts {
    let (retained, urgent) = (Flags::RETAINED, Flags::URGENT);
    summary::Counts {
        new: tally.count(with, without.with(retained)),
        old: tally.count(with.with(retained), without),
        new_urgent: tally.count(with.with(urgent), without.with(retained)),
        old_urgent: tally.count(with.with(urgent).with(retained), without),
    }
}

/// One message's headers, as the operator chose them. They are those of the payload: what that leaves out for privacy's sake, or
/// because it is the network's business, is not told here either.
///
//= RFC 3842 3.5: MUST provide an administrator configurable mechanism to select which headers are sent
pub(super) fn group(policy: &Policy, record: &Record) -> Option<Vec<u8>> {
    let body = record.body();
    let head = embedded_head(&body);
    let id = format!("sip:{}@{}", record.id.as_str(), policy.hostname);
    of_head(&policy.summary.headers, head, id.as_bytes())
}

/// `None` where it would be an empty line alone.
fn of_head(wanted: &[String], head: &[u8], id: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    let values: Vec<(&[u8], Vec<u8>)> = wanted
        .iter()
        .map(|name| {
            let value = match name.as_str() {
                name if name.eq_ignore_ascii_case("Message-ID") => id.to_vec(),
                name => header(head, name.as_bytes()),
            };
            (name.as_bytes(), value)
        })
        .collect();
    let lines: Vec<(&[u8], &[u8])> = values.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    summary::group(&mut out, &lines);
    (out.len() > 2).then_some(out)
}

/// Start line and headers of the request inside a stored body: behind the head of its first part.
fn embedded_head(body: &[u8]) -> &[u8] {
    let Some(at) = memmem::find(body, b"\r\n\r\n") else { return &[] };
    let rest = body.get(at + 4..).unwrap_or_default();
    let end = memmem::find(rest, b"\r\n\r\n").map_or(rest.len(), |end| end + 2);
    rest.get(..end).unwrap_or_default()
}

/// The first value of a header, folds and all; addresses without their parameters.
fn header(head: &[u8], name: &[u8]) -> Vec<u8> {
    let known = Name::parse(name);
    let mut lines = head.split_inclusive(|&octet| octet == b'\n').skip(1);
    let begins = |line: &[u8]| {
        let (found, value) = scan::split_once(line, b':')?;
        let found = scan::trim(found);
        let same = if known == Name::Other { found.eq_ignore_ascii_case(name) } else { Name::parse(found) == known };
        same.then(|| value.to_vec())
    };
    let Some(mut value) = lines.by_ref().find_map(begins) else { return Vec::new() };
    for more in lines.take_while(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
        value.extend_from_slice(more);
    }
    let value = match known {
        Name::From | Name::To => party(&value),
        _ => scan::trim(&value),
    };
    shortened(value).to_vec()
}

/// A name and an address, without the tag and what else stands behind them.
fn party(value: &[u8]) -> &[u8] {
    let Ok(address) = NameAddr::parse(value) else { return scan::trim(value) };
    let end = scan::span_in(value, address.uri).end();
    let end = if value.get(end) == Some(&b'>') { end + 1 } else { end };
    scan::trim(value.get(..end).unwrap_or(value))
}

/// At most [`VALUE_OCTETS_MAX`], and no half of a character at the end.
fn shortened(value: &[u8]) -> &[u8] {
    let mut end = value.len().min(VALUE_OCTETS_MAX);
    while end < value.len() && end > 0 && value.get(end).is_some_and(|octet| octet & 0xc0 == 0x80) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"--dmf-1\r\nContent-Type: message/sip\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n\
        MESSAGE sip:bob@example.org SIP/2.0\r\nf: \"A, <b>\" <sip:alice@example.org>;tag=1\r\nTo: sip:bob@example.org;x=y\r\n\
        Subject: two\r\n  lines\r\nPriority: urgent\r\nX-Own: 7\r\n\r\nSubject: of the body\r\n\r\n--dmf-1--";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    //= RFC 3842 3.5: MUST provide an administrator configurable mechanism to select which headers are sent
    #[test]
    fn a_group_has_the_headers_that_were_chosen() {
        let of = |wanted: &[&str]| of_head(&names(wanted), embedded_head(BODY), b"sip:ID@h");
        let text = |wanted: &[&str]| String::from_utf8(of(wanted).unwrap()).unwrap();
        assert_eq!(
            text(&["To", "From", "Subject", "Date", "Priority", "Message-ID"]),
            "\r\nTo: sip:bob@example.org\r\nFrom: \"A, <b>\" <sip:alice@example.org>\r\nSubject: two lines\r\n\
             Priority: urgent\r\nMessage-ID: sip:ID@h\r\n"
        );
        assert_eq!(text(&["message-id", "x-own", "Expires"]), "\r\nmessage-id: sip:ID@h\r\nx-own: 7\r\n");
        assert!(of(&[]).is_none() && of(&["Expires"]).is_none());
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "ä".repeat(200);
        let value = shortened(format!("x{long}").as_bytes()).to_vec();
        assert_eq!(value.len(), 255);
        assert!(String::from_utf8(value).is_ok());
        assert_eq!(shortened(b"short"), b"short");
        assert_eq!(embedded_head(b"no head"), b"");
    }

    #[test]
    fn classes_are_told_apart_where_the_operator_wants_it() {
        let mut policy = Policy::new("h", &["example.org"]);
        let owner = Address::from_canonical(b"sip:bob@example.org");
        let flags = [Flags::URGENT, Flags::LARGE, Flags::LARGE.with(Flags::RETAINED), Flags::default()];
        let tally = Tally::of(flags.into_iter());
        let text =
            |policy: &Policy, groups: &[Vec<u8>]| String::from_utf8(body(policy, &owner, tally, groups)).unwrap();
        assert!(text(&policy, &[]).ends_with("\r\nText-Message: 3/1 (1/0)\r\n"));
        policy.summary.class_large = "Multimedia-Message".into();
        assert!(text(&policy, &[]).ends_with("\r\nText-Message: 2/0 (1/0)\r\nMultimedia-Message: 1/1 (0/0)\r\n"));
        let groups = vec![vec![b'x'; 9 * 1024]; 3];
        assert!(text(&policy, &groups).len() < GROUPS_OCTETS_MAX, "one of them fits");
    }
}
