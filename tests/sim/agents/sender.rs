//! Senders: every message is unlike every other, some come twice, some are in a hurry to die.

use super::core::{SipCore, Who};
use super::large::{self, Ended, Larges};
use super::user;
use crate::ground::{Ground, Person};
use crate::net::News;
use crate::oracle::Message;
use deferd::wire::sip::names::{Method, Name};

/// All senders.
#[derive(Debug)]
pub(crate) struct Senders {
    sent: u32,
    texts: Vec<Text>,
    larges: Larges,
}

#[derive(Debug)]
struct Text {
    user: usize,
    sender: usize,
    body: Vec<u8>,
    expires: Option<u32>,
    /// Over a session of its own.
    large: bool,
    /// As `message/cpim`, with a wish to hear of a failure.
    asking: bool,
    tries: u32,
    /// 202, or an answer that ends the matter.
    settled: bool,
}

/// What every body may hold that a careless server would take for its own.
const TRAPS: [&str; 4] =
    ["\r\n-------ffffffffffffffff0000$\r\n", "--dmf-0123456789abcdef", "\r\n\r\nMSRP aaaa SEND\r\n", "\r\n-------$"];

/// The head of a message whose sender wants to hear of a failure (RFC 5438).
pub(crate) fn asking_head(sender: usize, user: usize, number: u32) -> String {
    format!(
        "From: <sip:s{sender}@example.com>\r\nTo: <sip:u{user}@example.com>\r\nDateTime: 2024-01-01T00:00:00Z\r\n\
         NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: {number}\r\n\
         imdn.Disposition-Notification: negative-delivery\r\n\r\nContent-Type: text/plain\r\n\r\n"
    )
}

impl Senders {
    /// The plan's senders.
    pub(crate) fn new(g: &mut Ground) -> Senders {
        for sender in 0..g.plan.senders {
            let delay = g.between(0, 1_000_000);
            g.person(delay, Person::Send(sender));
        }
        Senders { sent: 0, texts: Vec::new(), larges: Larges::default() }
    }

    /// True once every message of the plan has been sent and has an answer.
    pub(crate) fn is_done(&self, g: &Ground) -> bool {
        self.sent >= g.plan.messages && self.texts.iter().all(|text| text.settled)
    }

    /// A sender's time has come.
    pub(crate) fn send(&mut self, g: &mut Ground, sip: &mut SipCore, sender: usize) {
        if self.sent >= g.plan.messages {
            return;
        }
        let number = self.sent;
        self.sent += 1;
        let user = g.between(0, g.plan.users as u64 - 1) as usize;
        let sizes = [0, 7, 300, 767, 768, 1_300, 2_048, 2_049, 5_000, 20_000];
        let size = sizes[g.between(0, sizes.len() as u64 - 1) as usize];
        let asking = g.chance(g.plan.asking);
        let mut body = format!("{number} to {user}: ").into_bytes();
        if asking {
            body = [asking_head(sender, user, number).as_bytes(), &body].concat();
        }
        let size = if asking { size.max(body.len()) } else { size };
        while body.len() < size {
            body.extend_from_slice(&g.dice.hex::<16>());
            if g.between(0, 30) == 0 {
                body.extend_from_slice(TRAPS[g.between(0, 3) as usize].as_bytes());
            }
        }
        body.truncate(size);
        let large = g.plan.large > 0 && !body.is_empty() && g.chance(g.plan.large);
        let mortal = g.chance(g.plan.mortal) && !large;
        let expires = mortal.then(|| g.between(1, 40) as u32);
        let mut message = Message::new(number, user, body.clone());
        message.large = large;
        message.expires_us = expires.map(|seconds| g.true_wall() + u64::from(seconds) * 1_000_000);
        g.oracle.sent(g.now, message);
        self.texts.push(Text { user, sender, body, expires, large, asking, tries: 0, settled: false });
        self.transmit(g, sip, number);
        if g.chance(g.plan.twins) {
            let delay = g.between(0, 3_000_000);
            g.person(delay, Person::Again { message: number });
        }
        // So that all are sent in three quarters of the time.
        let mean = g.plan.busy_us * 3 / 4 * g.plan.senders as u64 / u64::from(g.plan.messages);
        let delay = if g.between(0, 3) == 0 { 0 } else { g.between(0, mean * 8 / 3) };
        g.person(delay, Person::Send(sender));
    }

    /// The same message once more, as another transaction.
    pub(crate) fn again(&mut self, g: &mut Ground, sip: &mut SipCore, number: u32) {
        // Expires counts from receipt, and the clock may stand earlier now.
        let expires = self.texts.get(number as usize).and_then(|text| text.expires);
        let expires_us = expires.map(|seconds| g.true_wall() + u64::from(seconds) * 1_000_000);
        g.oracle.sent_again(number, expires_us);
        self.transmit(g, sip, number);
    }

    fn transmit(&mut self, g: &mut Ground, sip: &mut SipCore, number: u32) {
        let Some(text) = self.texts.get_mut(number as usize) else { return };
        text.tries += 1;
        if text.large {
            return Larges::invite(g, sip, number, text.sender, text.user, text.tries);
        }
        let (sender, user) = (text.sender, user::address(text.user));
        let from = format!("<sip:s{sender}@example.com>;tag=s{sender}");
        let asserted = format!("<sip:s{sender}@example.com>");
        let large = text.body.len() > 1_000;
        let (body, expires) = (&text.body, text.expires);
        let media: &[u8] = if text.asking { b"message/cpim" } else { b"text/plain" };
        sip.send(g, Who::Sender { message: number }, large, Method::Message, &user, |request| {
            let mut request = request
                .line(Name::MaxForwards, b"70")
                .line(Name::From, from.as_bytes())
                .line(Name::To, format!("<{user}>").as_bytes())
                .line(Name::PAssertedIdentity, asserted.as_bytes())
                .line(Name::CallId, format!("m{number:06}@sim").as_bytes())
                .line(Name::CSeq, b"1 MESSAGE");
            if let Some(expires) = expires {
                request = request.line(Name::Expires, expires.to_string().as_bytes());
            }
            request.body(media, body)
        });
    }

    /// The answer to the INVITE of a large message.
    pub(crate) fn large_answered(
        &mut self,
        g: &mut Ground,
        sip: &mut SipCore,
        number: u32,
        status: u16,
        answer: Option<&deferd::wire::sip::message::Message>,
    ) {
        let Some(text) = self.texts.get(number as usize) else { return };
        match answer.filter(|_| status == 200) {
            Some(ok) => {
                let media = if text.asking { "message/cpim" } else { "text/plain" };
                self.larges.accepted(g, sip, number, ok, media, &text.body);
            }
            None => self.answered(g, sip, number, status),
        }
    }

    /// News of a connection over which a large message goes.
    pub(crate) fn news(&mut self, g: &mut Ground, sip: &mut SipCore, stream: usize, news: News) {
        let Some(ended) = self.larges.news(g, sip, stream, news) else { return };
        let (Ended::Kept(number) | Ended::Refused(number) | Ended::Lost(number)) = ended;
        let Some(text) = self.texts.get_mut(number as usize) else { return };
        if !matches!(ended, Ended::Lost(_)) {
            text.settled = true;
        } else if !text.settled && (g.calm || text.tries < 4) {
            large::again(g, number);
        } else {
            text.settled = true;
        }
    }

    /// The answer to a message: whoever was refused tries again after a while, as people do.
    pub(crate) fn answered(&mut self, g: &mut Ground, _sip: &mut SipCore, number: u32, status: u16) {
        let Some(text) = self.texts.get_mut(number as usize) else { return };
        if status == 202 || status == 480 {
            text.settled = true;
        } else if !text.settled && (g.calm || text.tries < 4) && matches!(status, 408 | 503) {
            let delay = g.between(500_000, 10_000_000);
            g.person(delay, Person::Again { message: number });
        } else if matches!(status, 408 | 503) {
            text.settled = true;
        } else {
            panic!("message {number} was answered {status}");
        }
    }
}
