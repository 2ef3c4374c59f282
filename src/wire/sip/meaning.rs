//! What the parts of a message must mean together: the headers every message carries, and the length of its body.
//!
//! Knows nothing of lines; `read` has found the places already. The first fault is kept, later ones are not.

use super::address::NameAddr;
use super::fault::{Fault, First, What};
use super::message::{Message, Start};
use super::names::{Method, Name};
use crate::base::limits::Limits;
use crate::base::span::Span;
use crate::wire::scan::{self, Class};

/// What every message must carry (RFC 3261 8.1.1), and what its parts say.
pub(super) fn identity(buf: &[u8], message: &mut Message, fault: &mut First) {
    const ALL: u128 = Name::Via.bit() | Name::From.bit() | Name::To.bit() | Name::CallId.bit() | Name::CSeq.bit();
    if message.seen & ALL != ALL {
        let required = [
            (Name::Via, What::ViaMissing),
            (Name::From, What::FromMissing),
            (Name::To, What::ToMissing),
            (Name::CallId, What::CallIdMissing),
            (Name::CSeq, What::CSeqMissing),
        ];
        if let Some((_, what)) = required.into_iter().find(|(name, _)| message.seen & name.bit() == 0) {
            fault.note(Fault::new(0, what));
        }
    }
    let mut tag = |name: Name, place: Span| {
        if message.seen & name.bit() == 0 {
            return None;
        }
        match NameAddr::read(place.of(buf)) {
            Ok((address, tag)) if !address.is_star() => tag.map(|tag| scan::span_in(buf, tag)),
            Ok(_) => {
                fault.note(Fault::new(place.at(), What::Address));
                None
            }
            Err(found) => {
                fault.note(found.shifted(place.at()));
                None
            }
        }
    };
    let (from_tag, to_tag) = (tag(Name::From, message.from), tag(Name::To, message.to));
    message.from_tag = from_tag;
    message.to_tag = to_tag;
    let call_id = message.call_id.of(buf);
    if message.seen & Name::CallId.bit() != 0 && (call_id.is_empty() || !Class::VISIBLE.has_all(call_id)) {
        fault.note(Fault::new(message.call_id.at(), What::CallId));
    }
    let Start::Request { method, method_at, .. } = message.start else { return };
    if message.seen & Name::CSeq.bit() != 0 && message.cseq_method_at.of(buf) != method_at.of(buf) {
        //= RFC 4475 3.1.2.18: an unknown method that does not match its CSeq is a 501
        let what = if method == Method::Other { What::UnknownMethod } else { What::CSeqMethod };
        fault.note(Fault::new(message.cseq_method_at.at(), what));
    }
    if message.seen & Name::Contact.bit() != 0 {
        let contacts = message.lines.iter().filter(|entry| entry.name == Name::Contact);
        for value in contacts.flat_map(|entry| scan::List::new(entry.value.of(buf))) {
            if let Err(found) = NameAddr::parse(value) {
                fault.note(found.shifted(scan::span_in(buf, value).at()));
            }
        }
    }
}

/// The body: how long it may be, is declared and is (RFC 3261 18.3).
pub(super) fn body(buf: &[u8], head: usize, stream: bool, limits: &Limits, message: &mut Message, fault: &mut First) {
    let there = buf.len().saturating_sub(head);
    let declared = message.declared.map(|octets| octets as usize);
    if declared.unwrap_or(there) > limits.sip_body_octets {
        fault.note(Fault::new(head, What::BodyTooLarge));
    }
    message.body = match declared {
        Some(declared) if declared > there => {
            //= RFC 3261 18.3: a datagram that ends before its body does is a 400
            fault.note(Fault::new(buf.len(), What::BodyShorterThanDeclared));
            Span::new(head, there)
        }
        Some(declared) => Span::new(head, declared),
        None => {
            if stream {
                fault.note(Fault::new(head, What::ContentLengthMissing));
            }
            Span::new(head, there)
        }
    };
}
