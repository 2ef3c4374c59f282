//! Early dialogs of an INVITE of ours, and the provisional responses in them that want to be acknowledged (RFC 3261 12.1, 13.2.2;
//! RFC 3262 4, 5).
//!
//! Knows tags, RSeq and which description counts as the answer. The transactions are the endpoint's, the call is its owner's.

use super::dialog::Dialog;
use crate::wire::scan;
use crate::wire::sip::fields::has_token;
use crate::wire::sip::{Message, Method, Name, Request};
use bytes::Bytes;

/// Forks that are told apart. A user has a handful of devices; what rings beyond these gets no PRACK, and its own timers end it.
pub const FORKS_MAX: usize = 16;

/// One early dialog.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Fork {
    dialog: Dialog,
    /// RSeq of its last reliable provisional response.
    rseq: Option<u32>,
    /// The description of the first reliable response that had one: the answer to our offer.
    answer: Option<Bytes>,
}

/// What an early dialog leaves to the confirmed one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confirmed {
    /// Its numbers go on.
    pub dialog: Dialog,
    /// The answer came already: whatever the 2xx carries is not looked at.
    pub answer: Option<Bytes>,
}

/// The early dialogs of one INVITE.
///
/// ```text
///   101-199 with a tag ──▶ fork ──Require: 100rel, RSeq n──▶ PRACK n ──RSeq n+1──▶ PRACK n+1 ... ──2xx──▶ the dialog
///                                                               └── n again, n+2: ignored
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Early {
    forks: Vec<Fork>,
}

impl Early {
    /// A provisional response to our `invite`. The PRACK it wants, complete but for Via.
    pub fn provisional(&mut self, invite: &Message, response: &Message) -> Option<Request> {
        let tag = response.to_tag().filter(|tag| !tag.is_empty())?;
        if !(101..200).contains(&response.status()) {
            return None;
        }
        let at = match self.forks.iter().position(|fork| fork.dialog.remote_tag() == tag) {
            Some(at) => at,
            None if self.forks.len() < FORKS_MAX => {
                let dialog = Dialog::uac(invite, response).ok()?;
                self.forks.push(Fork { dialog, rseq: None, answer: None });
                self.forks.len() - 1
            }
            None => return None,
        };
        let fork = self.forks.get_mut(at)?;
        if !has_token(response, Name::Require, b"100rel") {
            return None;
        }
        let rseq = response.header(Name::RSeq).and_then(rseq)?;
        //= RFC 3262 4: retransmissions of that response MUST be discarded
        //= RFC 3262 4: if the RSeq is not one higher than the last, it MUST NOT be acknowledged with a PRACK
        if fork.rseq.is_some_and(|last| last.checked_add(1) != Some(rseq)) {
            return None;
        }
        fork.rseq = Some(rseq);
        //= RFC 3262 5: a description in a reliable provisional response to an INVITE with an offer is the answer
        let is_sdp = response.content_type().is_some_and(is_sdp);
        if is_sdp && !response.body().is_empty() && fork.answer.is_none() {
            fork.answer = Some(Bytes::copy_from_slice(response.body()));
        }
        //= RFC 3262 7.2: RAck: the RSeq, then the CSeq of the response that is acknowledged
        let mut rack = Vec::with_capacity(32);
        scan::put_decimal(&mut rack, u64::from(rseq));
        rack.push(b' ');
        scan::put_decimal(&mut rack, u64::from(response.cseq().0));
        rack.extend_from_slice(b" INVITE");
        Some(fork.dialog.request(Method::Prack).line(Name::RAck, &rack))
    }

    /// What the dialog that a 2xx with this tag confirms has been so far.
    pub fn confirmed(&self, tag: &[u8]) -> Option<Confirmed> {
        let fork = self.forks.iter().find(|fork| fork.dialog.remote_tag() == tag)?;
        Some(Confirmed { dialog: fork.dialog.clone(), answer: fork.answer.clone() })
    }

    /// The early dialog a request of the peer's belongs to, and whether our offer has its answer there.
    pub fn of(&mut self, request: &Message) -> Option<(&mut Dialog, bool)> {
        let fork = self.forks.iter_mut().find(|fork| fork.dialog.matches(request))?;
        let answered = fork.answer.is_some();
        Some((&mut fork.dialog, answered))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.forks.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.forks.is_empty()
    }
}

/// RSeq: 1 to 2^32 - 1 (RFC 3262 7.1).
fn rseq(value: &[u8]) -> Option<u32> {
    scan::decimal_u32(scan::trim(value)).filter(|&number| number > 0)
}

fn is_sdp(content_type: &[u8]) -> bool {
    let media = content_type.split(|&octet| octet == b';').next().unwrap_or_default();
    scan::trim(media).eq_ignore_ascii_case(b"application/sdp")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;

    fn read(text: &str) -> Message {
        Message::parse_datagram(Bytes::from(text.replace('\n', "\r\n")), &Limits::default()).unwrap()
    }

    fn invite() -> Message {
        read(
            "INVITE sip:bob@example.com SIP/2.0\nVia: SIP/2.0/UDP d;branch=z9hG4bKq\nFrom: <sip:Deferred@example.com>;tag=d1\n\
             To: <sip:bob@example.com>\nCall-ID: c1\nCSeq: 7 INVITE\nContent-Length: 0\n\n",
        )
    }

    fn provisional(tag: &str, more: &str, body: &str) -> Message {
        read(&format!(
            "SIP/2.0 183 Session Progress\nVia: SIP/2.0/UDP d;branch=z9hG4bKq\nFrom: <sip:Deferred@example.com>;tag=d1\n\
             To: <sip:bob@example.com>;tag={tag}\nCall-ID: c1\nCSeq: 7 INVITE\nContact: <sip:{tag}@pc>\nRecord-Route: <sip:p1;lr>\n\
             {more}Content-Length: {}\n\n{body}",
            body.len()
        ))
    }

    fn reliable(tag: &str, rseq: u32) -> Message {
        provisional(tag, &format!("Require: 100rel\nRSeq: {rseq}\n"), "")
    }

    fn written(request: Request) -> Message {
        let octets = request.line(Name::Via, b"SIP/2.0/UDP d;branch=z9hG4bKs").finish();
        Message::parse_datagram(octets, &Limits::default()).unwrap()
    }

    //= RFC 3262 4: retransmissions of that response MUST be discarded
    //= RFC 3262 4: if the RSeq is not one higher than the last, it MUST NOT be acknowledged with a PRACK
    //= RFC 3262 7.2: RAck: the RSeq, then the CSeq of the response that is acknowledged
    #[test]
    fn each_reliable_response_is_acknowledged_once_and_in_order() {
        let mut early = Early::default();
        assert!(early.provisional(&invite(), &provisional("b1", "", "")).is_none(), "an ordinary 183");
        let first = written(early.provisional(&invite(), &reliable("b1", 4_711)).unwrap());
        assert_eq!((first.method(), first.cseq()), (Method::Prack, (8, Method::Prack)));
        assert_eq!(first.header(Name::RAck), Some(&b"4711 7 INVITE"[..]));
        assert_eq!((first.request_uri(), first.to_tag()), (&b"sip:b1@pc"[..], Some(&b"b1"[..])));
        assert_eq!(first.header(Name::Route), Some(&b"<sip:p1;lr>"[..]));
        for ignored in [4_711, 4_713, 1] {
            assert!(early.provisional(&invite(), &reliable("b1", ignored)).is_none(), "{ignored}");
        }
        let second = written(early.provisional(&invite(), &reliable("b1", 4_712)).unwrap());
        assert_eq!((second.cseq().0, second.header(Name::RAck)), (9, Some(&b"4712 7 INVITE"[..])));
        assert_eq!(early.confirmed(b"b1").unwrap().dialog.local_seq(), Some(9));
    }

    #[test]
    fn each_fork_counts_by_itself_and_there_are_not_too_many() {
        let mut early = Early::default();
        for number in 0..FORKS_MAX + 3 {
            let prack = early.provisional(&invite(), &reliable(&format!("b{number}"), 1));
            assert_eq!(prack.map(|prack| written(prack).cseq().0), (number < FORKS_MAX).then_some(8));
        }
        assert!(early.provisional(&invite(), &reliable("b2", 2)).is_some());
        assert_eq!(early.len(), FORKS_MAX);
        assert_eq!(early.confirmed(b"nobody"), None);
    }

    #[test]
    fn what_cannot_be_acknowledged_is_not() {
        let mut early = Early::default();
        for more in ["Require: 100rel\n", "Require: 100rel\nRSeq: 0\n", "Require: 100rel\nRSeq: x\n", "RSeq: 1\n"] {
            assert!(early.provisional(&invite(), &provisional("b1", more, "")).is_none(), "{more}");
        }
        let untagged = read(
            "SIP/2.0 183 What\nVia: SIP/2.0/UDP d;branch=z9hG4bKq\nFrom: <sip:Deferred@example.com>;tag=d1\nTo: <sip:bob@example.com>\n\
             Call-ID: c1\nCSeq: 7 INVITE\nRequire: 100rel\nRSeq: 1\nContent-Length: 0\n\n",
        );
        assert!(early.provisional(&invite(), &untagged).is_none());
    }

    //= RFC 3262 5: a description in a reliable provisional response to an INVITE with an offer is the answer
    #[test]
    fn the_first_reliable_description_is_the_answer() {
        let mut early = Early::default();
        let sdp = "Content-Type: application/sdp\n";
        early.provisional(&invite(), &provisional("b1", sdp, "v=preview"));
        assert_eq!(early.confirmed(b"b1").unwrap().answer, None, "not reliable: a preview");
        early.provisional(&invite(), &provisional("b1", &format!("Require: 100rel\nRSeq: 1\n{sdp}"), "v=answer"));
        early.provisional(&invite(), &provisional("b1", &format!("Require: 100rel\nRSeq: 2\n{sdp}"), "v=other"));
        assert_eq!(early.confirmed(b"b1").unwrap().answer.as_deref(), Some(&b"v=answer"[..]));
    }
}
