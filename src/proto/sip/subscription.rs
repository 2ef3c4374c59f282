//! The notifier's side of a subscription (RFC 6665): its dialog, its NOTIFYs, and when it is over.
//!
//! Knows the headers every NOTIFY has. What is notified of, and when, is the event package's business.

use super::dialog::{Dialog, Status, Unusable};
use crate::wire::scan;
use crate::wire::sip::{Message, Method, Name, Request, fields};

/// How a subscription stands (RFC 6665 4.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It goes on for so many seconds.
    Active {
        /// Seconds left.
        expires_s: u32,
    },
    /// It is over.
    Terminated(Reason),
}

/// Why a subscription is over (RFC 6665 4.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Its time is over.
    Timeout,
    /// What it was about is no more, or will not change any more.
    NoResource,
    /// The subscriber may try again at once.
    Deactivated,
    /// Not allowed any more.
    Rejected,
    /// The subscriber may try again later.
    Probation,
}

impl Reason {
    fn text(self) -> &'static [u8] {
        match self {
            Reason::Timeout => b"timeout",
            Reason::NoResource => b"noresource",
            Reason::Deactivated => b"deactivated",
            Reason::Rejected => b"rejected",
            Reason::Probation => b"probation;retry-after=600",
        }
    }
}

/// A subscription as its notifier keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    dialog: Dialog,
    /// Value of Event: the package, and the id that tells subscriptions of one dialog apart.
    event: Box<[u8]>,
}

impl Subscription {
    /// The subscription that our 2xx with `local_tag` to `request` (a SUBSCRIBE, or a REFER) establishes.
    ///
    //= RFC 3515 2.4.4: the dialog identifiers of each NOTIFY must match those of the REFER as if it had been a SUBSCRIBE
    pub fn accept(request: &Message, local_tag: &[u8], event: &[u8]) -> Result<Subscription, Unusable> {
        Ok(Subscription { dialog: Dialog::uas(request, local_tag)?, event: event.into() })
    }

    /// The next NOTIFY, complete but for Via, Contact and body.
    ///
    //= RFC 6665 8.2.1: Event and Subscription-State: every NOTIFY carries both
    pub fn notify(&mut self, state: State) -> Request {
        notify_within(&mut self.dialog, &self.event, state)
    }

    /// One that was kept.
    pub fn resumed(dialog: Dialog, event: &[u8]) -> Subscription {
        Subscription { dialog, event: event.into() }
    }

    /// A SUBSCRIBE within its dialog.
    ///
    /// # Errors
    /// The status with which it is refused.
    pub fn refresh(&mut self, request: &Message) -> Result<(), Status> {
        let event = request.header(Name::Event).and_then(fields::Event::parse);
        let ours = fields::Event::parse(&self.event);
        //= RFC 6665 4.5.2: a SUBSCRIBE for a new subscription on an existing dialog: 403, where dialogs are not shared
        let same = event
            .zip(ours)
            .is_some_and(|(event, ours)| event.package.eq_ignore_ascii_case(ours.package) && event.id() == ours.id());
        if !same {
            return Err(Status(403));
        }
        self.dialog.accept(request)
    }

    /// Value of Event.
    pub fn event(&self) -> &[u8] {
        &self.event
    }

    /// Its dialog.
    pub fn dialog(&self) -> &Dialog {
        &self.dialog
    }

    /// Its dialog, for what is sent in it besides.
    pub fn dialog_mut(&mut self) -> &mut Dialog {
        &mut self.dialog
    }
}

/// A NOTIFY of a subscription that shares its dialog with something else: complete but for Via, Contact and body.
pub fn notify_within(dialog: &mut Dialog, event: &[u8], state: State) -> Request {
    let mut value = Vec::with_capacity(32);
    match state {
        State::Active { expires_s } => {
            value.extend_from_slice(b"active;expires=");
            scan::put_decimal(&mut value, u64::from(expires_s));
        }
        State::Terminated(reason) => {
            value.extend_from_slice(b"terminated;reason=");
            value.extend_from_slice(reason.text());
        }
    }
    dialog.request(Method::Notify).line(Name::Event, event).line(Name::SubscriptionState, &value)
}

/// True when this answer to a NOTIFY ends the subscription, whatever the notifier had in mind.
///
//= RFC 6665 4.2.2: a NOTIFY that draws one of these ends the subscription; others leave it
pub fn is_ended_by(status: u16) -> bool {
    matches!(status, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;

    fn refer(contact: &str) -> Message {
        let text = format!(
            "REFER sip:Delete@example.com SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:Delete@example.com>\r\nCall-ID: c@h\r\nCSeq: 7 REFER\r\nRecord-Route: <sip:p1;lr>\r\n{contact}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text), &Limits::default()).unwrap()
    }

    //= RFC 3515 2.4.4: the dialog identifiers of each NOTIFY must match those of the REFER as if it had been a SUBSCRIBE
    //= RFC 6665 8.2.1: Event and Subscription-State: every NOTIFY carries both
    #[test]
    fn a_notify_belongs_to_the_dialog_of_its_request() {
        let mut subscription = Subscription::accept(&refer("Contact: <sip:a@pc>\r\n"), b"t9", b"refer").unwrap();
        let states = [
            (State::Active { expires_s: 60 }, "active;expires=60"),
            (State::Terminated(Reason::NoResource), "terminated;reason=noresource"),
            (State::Terminated(Reason::Timeout), "terminated;reason=timeout"),
            (State::Terminated(Reason::Deactivated), "terminated;reason=deactivated"),
            (State::Terminated(Reason::Rejected), "terminated;reason=rejected"),
            (State::Terminated(Reason::Probation), "terminated;reason=probation;retry-after=600"),
        ];
        for (seq, (state, value)) in (1..).zip(states) {
            let notify = subscription.notify(state).line(Name::Via, b"SIP/2.0/TCP s;branch=z9hG4bKn").finish();
            let notify = Message::parse(notify, &Limits::default()).unwrap();
            assert_eq!((notify.method(), notify.cseq().0), (Method::Notify, seq));
            assert_eq!((notify.from_tag(), notify.to_tag()), (Some(&b"t9"[..]), Some(&b"1"[..])));
            assert_eq!((notify.call_id(), notify.request_uri()), (&b"c@h"[..], &b"sip:a@pc"[..]));
            assert_eq!(notify.header(Name::Event), Some(&b"refer"[..]));
            assert_eq!(notify.header(Name::SubscriptionState), Some(value.as_bytes()));
            assert_eq!(notify.header(Name::Route), Some(&b"<sip:p1;lr>"[..]));
        }
        assert_eq!(subscription.dialog().local_tag(), b"t9");
        assert_eq!(Subscription::accept(&refer(""), b"t9", b"refer"), Err(Unusable::Contact));
    }

    //= RFC 6665 4.2.2: a NOTIFY that draws one of these ends the subscription; others leave it
    #[test]
    fn some_answers_end_a_subscription() {
        for status in [404, 405, 410, 416, 480, 481, 485, 489, 501, 604] {
            assert!(is_ended_by(status), "{status}");
        }
        for status in [200, 202, 400, 408, 486, 500, 503, 603] {
            assert!(!is_ended_by(status), "{status}");
        }
    }

    //= RFC 6665 4.5.2: a SUBSCRIBE for a new subscription on an existing dialog: 403, where dialogs are not shared
    #[test]
    fn a_refresh_is_in_order_and_of_the_same_event() {
        let subscribe = |seq: u32, event: &str, contact: &str| {
            let text = format!(
                "SUBSCRIBE sip:a@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx{seq}\r\nFrom: <sip:a@h>;tag=1\r\n\
                 To: <sip:a@h>\r\nCall-ID: c@h\r\nCSeq: {seq} SUBSCRIBE\r\nEvent: {event}\r\n\
                 Contact: <{contact}>\r\nContent-Length: 0\r\n\r\n"
            );
            Message::parse(Bytes::from(text), &Limits::default()).unwrap()
        };
        let first = subscribe(4, "message-summary;id=7", "sip:a@pc1");
        let mut subscription = Subscription::accept(&first, b"t", b"message-summary;id=7").unwrap();
        assert_eq!(subscription.refresh(&subscribe(5, "Message-Summary;id=7", "sip:a@pc2")), Ok(()));
        assert_eq!(subscription.dialog().remote_target(), b"sip:a@pc2");
        for other in ["presence;id=7", "message-summary", "message-summary;id=8"] {
            assert_eq!(subscription.refresh(&subscribe(6, other, "sip:a@pc3")), Err(Status(403)), "{other}");
        }
        assert_eq!(subscription.refresh(&subscribe(5, "message-summary;id=7", "sip:a@pc3")), Err(Status(500)));
        assert_eq!(subscription.dialog().remote_target(), b"sip:a@pc2");
    }
}
