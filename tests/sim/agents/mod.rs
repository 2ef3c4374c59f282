//! The people outside: the SIP core that carries everybody's requests, senders, and users with their clients.

pub(crate) mod core;
pub(crate) mod large;
pub(crate) mod media;
pub(crate) mod sender;
pub(crate) mod user;

use self::core::{Heard, SipCore, Who};
use self::sender::Senders;
use self::user::User;
use crate::ground::{Ground, Person};
use crate::net::{News, Owner};
use deferd::wire::sip::names::Method;
use std::net::SocketAddr;

/// Everybody.
#[derive(Debug)]
pub(crate) struct People {
    pub(crate) sip: SipCore,
    pub(crate) senders: Senders,
    pub(crate) users: Vec<User>,
}

impl People {
    /// As many as the plan says; their first timers are set.
    pub(crate) fn new(g: &mut Ground) -> People {
        let users = (0..g.plan.users).map(|index| User::new(g, index)).collect();
        let senders = Senders::new(g);
        People { sip: SipCore::new(), senders, users }
    }

    /// Who listens at an address for connections of the daemon's.
    pub(crate) fn listener(&self, at: SocketAddr) -> Option<Owner> {
        if SipCore::is_listener(at) {
            return Some(Owner::Sip);
        }
        self.users.iter().position(|user| user.is_listener(at)).map(Owner::Media)
    }

    /// A person's time has come.
    pub(crate) fn act(&mut self, g: &mut Ground, person: Person) {
        match person {
            Person::Send(sender) => self.senders.send(g, &mut self.sip, sender),
            Person::Again { message } => self.senders.again(g, &mut self.sip, message),
            Person::Repeat { branch } => {
                if let Some((who, status)) = self.sip.repeat(g, branch) {
                    self.answered(g, who, status, None);
                }
            }
            Person::Act(user) => self.users[user].act(g, &mut self.sip),
            Person::Answer { user, session } => self.users[user].answer(g, &mut self.sip, session),
            Person::OkAgain { user, session, after } => self.users[user].ok_again(g, &mut self.sip, session, after),
            Person::Acknowledge { user, session, octets } => self.users[user].acknowledge(g, session, &octets),
            Person::Listen { stream } => g.deafen(stream, false),
        }
    }

    /// A datagram for one of us.
    pub(crate) fn datagram(&mut self, g: &mut Ground, to: SocketAddr, octets: Vec<u8>) {
        let heard = self.sip.datagram(g, to, octets);
        self.heard(g, heard);
    }

    /// News of a connection.
    pub(crate) fn news(&mut self, g: &mut Ground, owner: Owner, stream: usize, news: News) {
        match owner {
            Owner::Sip => {
                let heard = self.sip.news(g, stream, news);
                self.heard(g, heard);
            }
            Owner::Large => self.senders.news(g, &mut self.sip, stream, news),
            Owner::Media(user) => {
                if let Some(user) = self.users.get_mut(user) {
                    user.news(g, &mut self.sip, stream, news);
                }
            }
        }
    }

    fn heard(&mut self, g: &mut Ground, heard: Vec<Heard>) {
        for heard in heard {
            match heard {
                Heard::Answer { who, message } => {
                    let status = message.status();
                    self.answered(g, who, status, Some(&message));
                }
                Heard::Lost { who } => self.answered(g, who, 503, None),
                Heard::Request { message, way } => {
                    let user = self.users.iter_mut().find(|user| user.is_meant(&message));
                    match user {
                        // A report: some are not taken, and come again.
                        _ if message.method() == Method::Message => {
                            g.oracle.reported(reported(message.body()));
                            let status = if g.chance(200) { 480 } else { 200 };
                            self.sip.respond(g, &message, way, status, |response| response);
                        }
                        Some(user) => user.request(g, &mut self.sip, message, way),
                        None => _ = self.sip.respond(g, &message, way, 404, |response| response),
                    }
                }
            }
        }
    }

    fn answered(
        &mut self,
        g: &mut Ground,
        who: Who,
        status: u16,
        message: Option<&deferd::wire::sip::message::Message>,
    ) {
        match who {
            Who::Sender { message: number, .. } => self.senders.answered(g, &mut self.sip, number, status),
            Who::Large { message: number } => {
                self.senders.large_answered(g, &mut self.sip, number, status, message);
            }
            Who::Eraser { request } => g.oracle.erased(request, status),
            Who::User { user, event } => self.users[user].published(g, event, status, message),
            Who::Nobody => {}
        }
    }
}

/// Which message a report is about: the names senders give are numbers.
fn reported(body: &[u8]) -> Option<u32> {
    let body = std::str::from_utf8(body).ok()?;
    body.split_once("<message-id>")?.1.split_once('<')?.0.parse().ok()
}
