//! What the daemon says and hears in SIP: a 202 only for what is durable, one push per user at a time.

use super::{Call, Oracle, number};
use bytes::{Bytes, BytesMut};
use deferd::base::limits::Limits;
use deferd::base::net::{ConnId, CoreId};
use deferd::wire::sip::cut::{Cut, Found};
use deferd::wire::sip::message::Message as SipMessage;
use deferd::wire::sip::names::Method;

/// Without an answer the transaction of an INVITE ends by itself after 64*T1, some of which may have passed before it was seen
/// to leave.
const UNANSWERED_US: u64 = 21_000_000;

impl Oracle {
    /// The daemon sends SIP on a stream: whole messages.
    pub(crate) fn sip_stream(&mut self, now: u64, core: CoreId, conn: ConnId, octets: &[u8]) {
        let limits = Limits::default();
        let mut cut = Cut::new(&limits);
        let mut rest = octets;
        while !rest.is_empty() {
            let len = match cut.next(rest) {
                Ok(Found::KeepAlive { len, .. }) => len,
                Ok(Found::Message { len, .. }) => {
                    self.sip_down(now, Some((core, conn)), &rest[..len]);
                    len
                }
                other => return self.violation(format!("a send that is not whole SIP messages: {other:?}")),
            };
            rest = &rest[len..];
        }
    }

    /// The daemon sends a SIP message.
    pub(crate) fn sip_down(&mut self, now: u64, via: Option<(CoreId, ConnId)>, octets: &[u8]) {
        self.count += 1;
        let message = match SipMessage::parse(Bytes::copy_from_slice(octets), &Limits::default()) {
            Ok(message) => message,
            Err(fault) => return self.violation(format!("not SIP: {:?}", fault.fault)),
        };
        let call_id = message.call_id().to_vec();
        if !message.is_request() {
            if message.status() == 202
                && message.cseq().1 == Method::Message
                && let Some(number) = number(&call_id)
            {
                self.accept(number);
            }
            if message.status() == 200
                && message.cseq().1 == Method::Bye
                && let Some(user) = self.calls.get(&call_id).filter(|call| call.left).map(|call| call.user)
            {
                self.settle(user);
            }
            if message.status() == 200 && message.cseq().1 == Method::Refer {
                self.erasure_told(&call_id);
            }
            return;
        }
        match message.method() {
            Method::Invite if message.to_tag().is_none() => self.invite(now, via, &call_id, &message),
            Method::Bye => {
                let standing = self.calls.get(&call_id).filter(|call| call.open && call.answered);
                if let Some(user) = standing.map(|call| call.user) {
                    self.settle(user);
                }
                self.call_over(&call_id);
            }
            // With this the daemon has given the call up.
            Method::Cancel => self.call_over(&call_id),
            _ => {}
        }
    }

    pub(super) fn accept(&mut self, number: u32) {
        let count = self.count;
        let Some(message) = self.messages.get_mut(&number) else {
            return self.violation(format!("202 for message {number}, which nobody sent"));
        };
        message.accepted.get_or_insert(count);
        if message.stored.is_empty() {
            self.violation(format!("message {number} was answered 202 and is not durable"));
        }
    }

    fn invite(&mut self, now: u64, via: Option<(CoreId, ConnId)>, call_id: &[u8], message: &SipMessage) {
        let uri = String::from_utf8_lossy(message.request_uri()).into_owned();
        let user = uri.strip_prefix("sip:u").and_then(|rest| rest.split('@').next()?.parse::<usize>().ok());
        let Some(user) = user else { return self.violation(format!("an INVITE for {uri}")) };
        let other = self.calls.iter().find(|(id, call)| {
            // Without a SIP core an INVITE to where the user was is given up for one to where the user is; and on a stream
            // that does not drain it may have waited longer than its transaction.
            let counts = call.answered || !self.flows_die && call.via.is_none();
            counts
                && call.user == user
                && call.open
                && id.as_slice() != call_id
                && now < call.tried.saturating_add(UNANSWERED_US)
        });
        if let Some((id, call)) = other {
            let (id, since) = (String::from_utf8_lossy(id).into_owned(), call.tried);
            self.violation(format!("a second push for u{user} while {id}, tried at {since}, is under way"));
        }
        // A repetition changes nothing: Timer B runs from the first. Another CSeq is another attempt.
        let cseq = message.cseq().0;
        if self.calls.get(call_id).is_none_or(|call| call.cseq != cseq) {
            self.calls.insert(
                call_id.to_vec(),
                Call { user, cseq, open: true, tried: now, answered: false, left: false, orphan: false, via },
            );
        }
    }

    /// The last word of a user's session leaves: what was acknowledged in it is over for good.
    fn settle(&mut self, user: usize) {
        let theirs = self.messages.values_mut().filter(|message| message.user == user);
        theirs.for_each(|message| message.settled |= message.acknowledged.is_some());
    }

    fn call_over(&mut self, call_id: &[u8]) {
        if let Some(call) = self.calls.get_mut(call_id) {
            call.open = false;
            let user = call.user;
            for session in self.sessions.values_mut().filter(|session| session.user == user) {
                session.over = true;
            }
        }
    }

    /// A core hears octets on a SIP connection.
    pub(crate) fn sip_up_stream(&mut self, now: u64, core: CoreId, conn: ConnId, octets: &[u8]) {
        let (cut, buffer) =
            self.heard.entry((core, conn)).or_insert_with(|| (Cut::new(&Limits::default()), BytesMut::new()));
        buffer.extend_from_slice(octets);
        let mut whole = Vec::new();
        while let Ok(found) = cut.next(buffer) {
            match found {
                Found::More => break,
                Found::KeepAlive { len, .. } => _ = buffer.split_to(len),
                Found::Message { len, .. } => whole.push(buffer.split_to(len)),
            }
        }
        whole.iter().for_each(|octets| self.sip_up(now, octets));
    }

    /// A core hears a SIP message.
    pub(crate) fn sip_up(&mut self, now: u64, octets: &[u8]) {
        self.count += 1;
        let Ok(message) = SipMessage::parse_datagram(Bytes::copy_from_slice(octets), &Limits::default()) else {
            return;
        };
        let call_id = message.call_id().to_vec();
        if message.is_request()
            && message.method() == Method::Message
            && let Some(heard) = number(&call_id).and_then(|number| self.messages.get_mut(&number))
            && heard.gone
        {
            // A start knows a message again while the segment is there that it lay in. Delivered, and all of it gone: it is new.
            (heard.gone, heard.acknowledged, heard.twin) = (false, None, true);
            (heard.accepted, heard.sent, heard.settled) = (None, self.count, false);
        }
        let refused = !message.is_request() && message.status() >= 300 && message.cseq().1 == Method::Invite;
        let is_bye = message.is_request() && message.method() == Method::Bye;
        if let Some(call) = self.calls.get_mut(&call_id).filter(|call| is_bye && call.open && call.answered) {
            call.left = true;
        }
        if refused || is_bye {
            self.call_over(&call_id);
        } else if !message.is_request()
            && message.cseq().1 == Method::Invite
            && let Some(call) = self.calls.get_mut(&call_id)
            && now < call.tried.saturating_add(if call.via.is_some() { UNANSWERED_US / 2 } else { UNANSWERED_US })
        {
            // It lives as long as the dialog does.
            call.tried = u64::MAX / 2;
            call.answered |= message.status() >= 200;
        }
    }
}
