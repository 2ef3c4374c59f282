//! A user's client towards SIP: it publishes, flaps, and answers the INVITE of a push in every way a client may.

use super::core::{PATIENCE, Road, SipCore, T1, Who};
use super::media::{Conduct, Media};
use crate::ground::{Event, Ground, Person};
use crate::msrp;
use crate::net::{News, Owner};
use crate::oracle::erasing_call_id;
use bytes::Bytes;
use deferd::wire::sip::message::Message;
use deferd::wire::sip::names::{Method, Name};
use deferd::wire::sip::write::Request;
use std::net::{Ipv4Addr, SocketAddr};

/// Ports at which clients take connections: one per session.
const LISTEN: u16 = 9_000;
/// Ports from which they connect.
const DIAL: u16 = 30_000;

/// What a client says to an INVITE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reply {
    Ok,
    /// After ringing for so long.
    Ring(u64),
    /// Until it is cancelled.
    RingOn,
    Refuse(u16),
    Silent,
}

#[derive(Debug)]
struct Session {
    call_id: Vec<u8>,
    invite: Message,
    road: Road,
    active: bool,
    /// The 200, and whether its ACK has come.
    ok: Option<Bytes>,
    answered: bool,
    acked: bool,
    over: bool,
    media: Media,
}

/// One user.
#[derive(Debug)]
pub(crate) struct User {
    index: usize,
    /// Of presence and of settings: the tag last told, and whether nothing can have changed it since.
    etags: [Option<(String, bool)>; 2],
    under_way: [u32; 2],
    /// In which of the daemon's lives the last one was sent: repeated in the next, it may meet its own effect.
    sent_in: [u32; 2],
    sessions: Vec<Session>,
}

/// The address of a user.
pub(crate) fn address(index: usize) -> String {
    format!("sip:u{index}@example.com")
}

const EVENTS: [&str; 2] = ["presence", "poc-settings"];
const TYPES: [&str; 2] = ["application/pidf+xml", "application/poc-settings+xml"];

fn document(event: u8, value: bool) -> String {
    if event == 0 {
        let basic = if value { "open" } else { "closed" };
        return format!(
            "<?xml version=\"1.0\"?><presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"pres:u@example.com\">\
             <tuple id=\"a\"><status><basic>{basic}</basic></status></tuple></presence>"
        );
    }
    format!(
        "<?xml version=\"1.0\"?><poc-settings xmlns=\"urn:oma:params:xml:ns:poc:poc-settings\" \
         xmlns:im=\"urn:oma:xml:im:service-settings\"><entity id=\"x\"><im:deferred-settings>\
         <im:offline-delivery active=\"{value}\"/></im:deferred-settings></entity></poc-settings>"
    )
}

/// A REFER of a user's to the deletion function, for everything.
pub(crate) fn erase(g: &mut Ground, sip: &mut SipCore, user: usize) {
    let own = format!("<{}>", address(user));
    let request = g.oracle.erasing(user);
    let call_id = erasing_call_id(request);
    sip.send(g, Who::Eraser { request }, false, Method::Refer, "sip:Delete@im.example.com", |request| {
        request
            .line(Name::MaxForwards, b"70")
            .line(Name::From, format!("{own};tag=e").as_bytes())
            .line(Name::To, b"<sip:Delete@im.example.com>")
            .line(Name::PAssertedIdentity, own.as_bytes())
            .line(Name::CallId, call_id.as_bytes())
            .line(Name::CSeq, b"1 REFER")
            .line(Name::Contact, own.as_bytes())
            .line(Name::ReferTo, b"<sip:Deferred@im.example.com>")
            .line(Name::ReferSub, b"false")
    });
}

/// A PUBLISH that says somebody is there, for somebody who is nobody's user.
pub(crate) fn presence_of(who: &str) -> impl FnOnce(Request) -> Request {
    let own = format!("<{who}>");
    move |request| {
        request
            .line(Name::MaxForwards, b"70")
            .line(Name::From, format!("{own};tag=p").as_bytes())
            .line(Name::To, own.as_bytes())
            .line(Name::PAssertedIdentity, own.as_bytes())
            .line(Name::CallId, b"p@sim")
            .line(Name::CSeq, b"1 PUBLISH")
            .line(Name::Event, EVENTS[0].as_bytes())
            .line(Name::Expires, b"300")
            .body(TYPES[0].as_bytes(), document(0, true).as_bytes())
    }
}

impl User {
    /// The `index`-th.
    pub(crate) fn new(g: &mut Ground, index: usize) -> User {
        let delay = g.between(0, 8_000_000);
        g.person(delay, Person::Act(index));
        User { index, etags: [None, None], under_way: [0, 0], sent_in: [0, 0], sessions: Vec::new() }
    }

    fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 1, self.index as u8)
    }

    /// True for an address at which a session of this user's waits for the daemon.
    pub(crate) fn is_listener(&self, at: SocketAddr) -> bool {
        at.ip() == self.host() && self.session_at(at, LISTEN).is_some_and(|at| !self.sessions[at].over)
    }

    fn session_at(&self, at: SocketAddr, base: u16) -> Option<usize> {
        let index = usize::from(at.port().checked_sub(base)?);
        (index < self.sessions.len()).then_some(index)
    }

    /// True for a request to this user.
    pub(crate) fn is_meant(&self, message: &Message) -> bool {
        message.request_uri().starts_with(format!("sip:u{}@", self.index).as_bytes())
    }

    // ---- publications ----

    /// The user does something.
    pub(crate) fn act(&mut self, g: &mut Ground, sip: &mut SipCore) {
        if g.calm {
            // Somebody who is there and wants everything, and says so until everything is there.
            if g.oracle.waits_for(self.index, g.wall()) {
                self.publish(g, sip, 1, Some(true), false);
                self.publish(g, sip, 0, Some(true), false);
            }
            return g.person(30_000_000, Person::Act(self.index));
        }
        if g.chance(g.plan.erases) {
            erase(g, sip, self.index);
            let delay = g.between(300_000, 12_000_000);
            return g.person(delay, Person::Act(self.index));
        }
        let event = g.between(0, 1) as u8;
        match g.between(0, 9) {
            0..=4 => self.publish(g, sip, event, Some(true), false),
            5 => self.publish(g, sip, event, Some(false), false),
            6 | 7 => self.publish(g, sip, event, None, false),
            8 => self.publish(g, sip, event, None, true),
            _ => {
                self.publish(g, sip, 0, Some(true), false);
                self.publish(g, sip, 1, Some(true), false);
            }
        }
        let delay = g.between(300_000, 12_000_000);
        g.person(delay, Person::Act(self.index));
    }

    fn publish(&mut self, g: &mut Ground, sip: &mut SipCore, event: u8, value: Option<bool>, gone: bool) {
        let at = usize::from(event);
        let tag = self.etags[at].as_ref().map(|(tag, _)| tag.clone());
        if value.is_none() && tag.is_none() {
            return;
        }
        // A second one under way makes the tag uncertain: the daemon may see them in either order.
        if self.under_way[at] > 0 {
            self.etags[at] = self.etags[at].take().map(|(tag, _)| (tag, false));
        }
        self.under_way[at] += 1;
        self.sent_in[at] = g.life;
        let user = address(self.index);
        let own = format!("<{user}>");
        let body = value.map(|value| document(event, value));
        let call_id = format!("p{}-{event}-{}@sim", self.index, g.now);
        let who = Who::User { user: self.index, event };
        sip.send(g, who, false, Method::Publish, &user, |request| {
            let mut request = request
                .line(Name::MaxForwards, b"70")
                .line(Name::From, format!("{own};tag=p").as_bytes())
                .line(Name::To, own.as_bytes())
                .line(Name::PAssertedIdentity, own.as_bytes())
                .line(Name::CallId, call_id.as_bytes())
                .line(Name::CSeq, b"1 PUBLISH")
                .line(Name::Event, EVENTS[at].as_bytes())
                .line(Name::Expires, if gone { b"0" } else { b"7200" });
            if let Some(tag) = &tag {
                request = request.line(Name::SipIfMatch, tag.as_bytes());
            }
            match &body {
                Some(body) => request.body(TYPES[at].as_bytes(), body.as_bytes()),
                None => request,
            }
        });
    }

    /// The answer to a PUBLISH.
    pub(crate) fn published(&mut self, g: &mut Ground, event: u8, status: u16, message: Option<&Message>) {
        let at = usize::from(event);
        self.under_way[at] -= 1;
        match status {
            200 => {
                let header = |name| message.and_then(|message| message.header(name)).unwrap_or_default();
                let tag = String::from_utf8_lossy(header(Name::SipETag)).into_owned();
                let sure = self.under_way[at] == 0;
                self.etags[at] = (header(Name::Expires) != b"0").then_some((tag, sure));
            }
            412 => {
                if let Some((tag, true)) = &self.etags[at]
                    && self.sent_in[at] == g.life
                    && !g.oracle.has_rotted()
                {
                    g.oracle.violation(format!("a publication that was answered 200 is not known any more: {tag}"));
                }
                self.etags[at] = None;
            }
            // Taken or not: the tag we know may have been replaced by one that we were not told.
            408 | 503 => self.etags[at] = self.etags[at].take().map(|(tag, _)| (tag, false)),
            _ => g.oracle.violation(format!("a PUBLISH was answered {status}")),
        }
    }

    // ---- sessions ----

    /// A request of the daemon's.
    pub(crate) fn request(&mut self, g: &mut Ground, sip: &mut SipCore, message: Message, road: Road) {
        let known = self.sessions.iter().rposition(|session| session.call_id == message.call_id());
        match (message.method(), known) {
            (Method::Invite, known) if message.to_tag().is_none() => self.invited(g, sip, message, road, known),
            (_, None) => {
                sip.respond(g, &message, road, 481, |response| response);
            }
            (Method::Ack, Some(at)) => self.sessions[at].acked = true,
            (Method::Cancel, Some(at)) => {
                sip.respond(g, &message, road, 200, |response| response);
                let session = &mut self.sessions[at];
                if !session.answered {
                    session.answered = true;
                    session.over = true;
                    let (invite, road) = (session.invite.clone(), session.road);
                    sip.respond(g, &invite, road, 487, |response| response);
                }
            }
            (Method::Bye, Some(at)) => {
                sip.respond(g, &message, road, 200, |response| response);
                self.sessions[at].over = true;
                self.sessions[at].media.end(g);
            }
            (Method::Invite | Method::Update, Some(at)) => {
                let sdp = self.sdp(at);
                let is_invite = message.method() == Method::Invite;
                sip.respond(g, &message, road, 200, |response| {
                    if is_invite { response.body(b"application/sdp", sdp.as_bytes()) } else { response }
                });
            }
            _ => {
                sip.respond(g, &message, road, 405, |response| response);
            }
        }
    }

    fn invited(&mut self, g: &mut Ground, sip: &mut SipCore, invite: Message, road: Road, known: Option<usize>) {
        let at = self.sessions.len();
        let refusals = [486, 480, 503, 404, 422, 488, 603, 491, 500, 302];
        let reply = match g.between(0, 9) {
            _ if !g.chance(g.plan.rude) => Reply::Ok,
            0 => Reply::Silent,
            1 => Reply::RingOn,
            2 => Reply::Ring(g.between(10_000, 20_000_000)),
            3..=6 => Reply::Refuse(refusals[g.between(0, refusals.len() as u64 - 1) as usize]),
            _ => Reply::Ok,
        };
        // A client that asked for a longer session is content with the second INVITE.
        let reply = if known.is_some() && reply == Reply::Refuse(422) { Reply::Ok } else { reply };
        let active = g.between(0, 1) == 0;
        let conduct = Conduct::draw(g);
        let port = LISTEN + at as u16;
        let own = format!("msrp://{}:{port}/u{}s{at};tcp", self.host(), self.index);
        let offer = String::from_utf8_lossy(invite.body()).into_owned();
        let path = offer.lines().find_map(|line| line.strip_prefix("a=path:")).unwrap_or_default().to_owned();
        g.say(format_args!("u{} is invited, session {at}: {reply:?}, active {active}, {conduct:?}", self.index));
        if let Some(max) = conduct.max_size() {
            g.oracle.max_sizes.insert(own.clone(), max);
        }
        self.sessions.push(Session {
            call_id: invite.call_id().to_vec(),
            invite,
            road,
            active,
            ok: None,
            answered: false,
            acked: false,
            over: false,
            media: Media::new(own, path, conduct),
        });
        let invite = self.sessions[at].invite.clone();
        match reply {
            Reply::Silent => {}
            Reply::RingOn => _ = sip.respond(g, &invite, road, 180, |response| response),
            Reply::Ring(delay) => {
                sip.respond(g, &invite, road, 180, |response| response);
                g.person(delay, Person::Answer { user: self.index, session: at });
            }
            Reply::Refuse(status) => {
                self.sessions[at].answered = true;
                self.sessions[at].over = true;
                sip.respond(g, &invite, road, status, |response| match status {
                    422 => response.line(Name::MinSE, b"2400"),
                    302 => response.line(Name::Contact, address(self.index).as_bytes()),
                    503 => response.line(Name::RetryAfter, b"7"),
                    _ => response,
                });
            }
            Reply::Ok => self.answer(g, sip, at),
        }
    }

    /// The client answers 200, and connects when that is its part.
    pub(crate) fn answer(&mut self, g: &mut Ground, sip: &mut SipCore, at: usize) {
        let sdp = self.sdp(at);
        let contact = format!("<sip:u{}@{}:5060>", self.index, self.host());
        let session = &mut self.sessions[at];
        if session.answered {
            return;
        }
        session.answered = true;
        let (invite, road) = (session.invite.clone(), session.road);
        let octets = sip.respond(g, &invite, road, 200, |response| {
            response.line(Name::Contact, contact.as_bytes()).body(b"application/sdp", sdp.as_bytes())
        });
        let session = &mut self.sessions[at];
        session.ok = Some(octets);
        g.person(T1, Person::OkAgain { user: self.index, session: at, after: T1 });
        if session.active
            && let Some(to) = msrp::host_port(&session.media.peer_path)
        {
            let from = SocketAddr::from((self.host(), DIAL + at as u16));
            let hop = g.hop();
            g.later(hop, Event::Knock { owner: Owner::Media(self.index), from, to });
        }
    }

    /// RFC 3261 13.3.1.4: the 2xx is repeated until the ACK comes.
    pub(crate) fn ok_again(&mut self, g: &mut Ground, sip: &mut SipCore, at: usize, after: u64) {
        let session = &self.sessions[at];
        let Some(ok) = session.ok.clone().filter(|_| !session.acked && !session.over) else { return };
        if after > PATIENCE {
            return self.hang_up(g, sip, at);
        }
        sip.put(g, session.road, &ok);
        let next = after.min(4_000_000);
        g.person(next, Person::OkAgain { user: self.index, session: at, after: after * 2 });
    }

    /// The client says BYE.
    fn hang_up(&mut self, g: &mut Ground, sip: &mut SipCore, at: usize) {
        let session = &mut self.sessions[at];
        if session.over {
            return;
        }
        session.over = true;
        session.media.end(g);
        let invite = session.invite.clone();
        let contact = invite.header(Name::Contact).unwrap_or_default();
        let uri = String::from_utf8_lossy(contact).into_owned();
        let uri = uri.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
        let from = [invite.to(), b";tag=peer"].concat();
        sip.send(g, Who::Nobody, false, Method::Bye, &uri, |request| {
            request
                .line(Name::MaxForwards, b"70")
                .line(Name::From, &from)
                .line(Name::To, invite.from())
                .line(Name::CallId, invite.call_id())
                .line(Name::CSeq, b"1 BYE")
        });
    }

    fn sdp(&self, at: usize) -> String {
        let session = &self.sessions[at];
        let setup = if session.active { "active" } else { "passive" };
        let (host, port) = (self.host(), LISTEN + at as u16);
        let max = session.media.conduct.max_size().map(|max| format!("a=max-size:{max}\r\n")).unwrap_or_default();
        format!(
            "v=0\r\no=u {at} 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=message {port} TCP/MSRP *\r\n\
             a=recvonly\r\na=accept-types:multipart/mixed message/sip\r\na=accept-wrapped-types:*\r\n{max}\
             a=setup:{setup}\r\na=path:{}\r\n",
            session.media.own_path
        )
    }

    // ---- media ----

    /// News of a connection of one of the sessions.
    pub(crate) fn news(&mut self, g: &mut Ground, sip: &mut SipCore, stream: usize, news: News) {
        match news {
            News::Connected => {
                if let Some(at) = self.session_at(g.net.streams[stream].agent, DIAL) {
                    self.sessions[at].media.connected(g, stream);
                }
            }
            News::Accepted(here) => {
                if let Some(at) = self.session_at(here, LISTEN) {
                    self.sessions[at].media.accepted(stream);
                }
            }
            News::Refused(_) => {}
            News::Octets(octets) => {
                let session = self.sessions.iter().position(|session| session.media.stream == Some(stream));
                let Some(at) = session else { return };
                let index = self.index;
                if self.sessions[at].media.octets(g, index, at, &octets) {
                    self.hang_up(g, sip, at);
                }
            }
            News::Fin | News::Reset => {
                if news == News::Fin {
                    g.leave(stream);
                }
                for session in &mut self.sessions {
                    if session.media.stream == Some(stream) {
                        session.media.stream = None;
                    }
                }
            }
        }
    }

    /// Late answers go out.
    pub(crate) fn acknowledge(&mut self, g: &mut Ground, at: usize, octets: &[u8]) {
        if let Some(stream) = self.sessions[at].media.stream {
            g.write(stream, octets);
        }
    }
}
