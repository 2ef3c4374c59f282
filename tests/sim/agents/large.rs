//! Senders of large messages: a session of their own, chunks in any order, and now and then somebody who gives up.

use super::core::{SipCore, Who};
use super::user;
use crate::ground::{Ground, Person};
use crate::msrp::{self, Reader};
use crate::net::{News, Owner};
use deferd::wire::sip::message::Message;
use deferd::wire::sip::names::{Method, Name};
use std::net::{Ipv4Addr, SocketAddr};

/// Ports of our MSRP connections, one a session.
const DIAL: u16 = 1_024;

/// How a session of a sender's ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// The last chunk was answered 200.
    Kept(u32),
    /// It was refused for good: too large, or no room.
    Refused(u32),
    /// Nobody knows: it is sent again.
    Lost(u32),
}

#[derive(Debug)]
struct Session {
    message: u32,
    own_path: String,
    peer_path: String,
    frames: Vec<Vec<u8>>,
    /// Of the chunk whose answer decides.
    last: String,
    stream: Option<usize>,
    reader: Reader,
    /// What a BYE needs: Request-URI, From, To, Call-ID.
    dialog: [String; 4],
    over: bool,
}

/// All such sessions.
#[derive(Debug, Default)]
pub(crate) struct Larges {
    sessions: Vec<Session>,
}

fn home(at: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, 8), DIAL + at as u16))
}

fn text(octets: Option<&[u8]>) -> String {
    String::from_utf8_lossy(octets.unwrap_or_default()).into_owned()
}

impl Larges {
    /// An INVITE for a message: each try is another request of the same session.
    pub(crate) fn invite(g: &mut Ground, sip: &mut SipCore, message: u32, sender: usize, to: usize, tries: u32) {
        let user = user::address(to);
        let from = format!("<sip:s{sender}@example.com>;tag=s{sender}");
        let asserted = format!("<sip:s{sender}@example.com>");
        let own = format!("msrp://10.0.0.8:9/l{message}t{tries};tcp");
        let sdp = format!(
            "v=0\r\no=s {message} 1 IN IP4 10.0.0.8\r\ns=-\r\nc=IN IP4 10.0.0.8\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
             a=sendonly\r\na=accept-types:*\r\na=setup:active\r\na=path:{own}\r\n"
        );
        sip.send(g, Who::Large { message }, true, Method::Invite, &user, |request| {
            request
                .line(Name::MaxForwards, b"70")
                .line(Name::From, from.as_bytes())
                .line(Name::To, format!("<{user}>").as_bytes())
                .line(Name::PAssertedIdentity, asserted.as_bytes())
                .line(Name::CallId, format!("m{message:06}@sim").as_bytes())
                .line(Name::CSeq, format!("{tries} INVITE").as_bytes())
                .line(Name::Contact, b"<sip:s@10.0.0.9:5060;transport=tcp>")
                .line(Name::AcceptContact, b"*;+g.oma.sip-im.large-message")
                .body(b"application/sdp", sdp.as_bytes())
        });
    }

    /// Its 200: ACK, and a connection.
    pub(crate) fn accepted(
        &mut self,
        g: &mut Ground,
        sip: &mut SipCore,
        message: u32,
        ok: &Message,
        media: &str,
        body: &[u8],
    ) {
        let contact = text(ok.header(Name::Contact));
        let uri = contact.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
        let dialog = [uri, text(Some(ok.from())), text(Some(ok.to())), text(Some(ok.call_id()))];
        let cseq = ok.cseq().0;
        Larges::within(g, sip, &dialog, Method::Ack, cseq);
        let sdp = text(Some(ok.body()));
        let peer_path = sdp.lines().find_map(|line| line.strip_prefix("a=path:")).unwrap_or_default().to_owned();
        let own_path = format!("msrp://10.0.0.8:9/l{message}t{cseq};tcp");
        let (mut chunks, mut at) = (Vec::new(), 0);
        while at < body.len() || chunks.is_empty() {
            let len = g.between(1, 6_000).min((body.len() - at) as u64) as usize;
            chunks.push((at, at + len));
            at += len;
        }
        if g.between(0, 3) == 0 {
            let (one, other) = (g.between(0, chunks.len() as u64 - 1), g.between(0, chunks.len() as u64 - 1));
            chunks.swap(one as usize, other as usize);
        }
        let mut last = String::new();
        let frames = chunks.iter().map(|&(from, to)| {
            let tid = String::from_utf8_lossy(&g.dice.hex::<12>()).into_owned();
            let flag = if to == body.len() { '$' } else { '+' };
            let head = format!(
                "MSRP {tid} SEND\r\nTo-Path: {peer_path}\r\nFrom-Path: {own_path}\r\nMessage-ID: m{message:06}\r\n\
                 Byte-Range: {}-*/{}\r\nContent-Type: {media}\r\n\r\n",
                from + 1,
                body.len()
            );
            let end = format!("\r\n-------{tid}{flag}\r\n");
            last.clone_from(&tid);
            [head.as_bytes(), body.get(from..to).unwrap_or_default(), end.as_bytes()].concat()
        });
        let mut frames: Vec<Vec<u8>> = frames.collect();
        // Somebody who does not finish, at a time when nobody minds.
        if !g.calm && g.chance(g.plan.rude / 2) {
            frames.truncate(g.between(0, frames.len() as u64 - 1) as usize);
        }
        g.oracle.large(last.clone(), message);
        let (reader, at) = (Reader::default(), self.sessions.len());
        let stream = None;
        self.sessions.push(Session { message, own_path, peer_path, frames, last, stream, reader, dialog, over: false });
        if let Some(to) = msrp::host_port(&self.sessions[at].peer_path) {
            let hop = g.hop();
            g.later(hop, crate::ground::Event::Knock { owner: Owner::Large, from: home(at), to });
        }
    }

    fn within(g: &mut Ground, sip: &mut SipCore, dialog: &[String; 4], method: Method, cseq: u32) {
        let [uri, from, to, call_id] = dialog;
        sip.send(g, Who::Nobody, true, method, uri, |request| {
            request
                .line(Name::MaxForwards, b"70")
                .line(Name::From, from.as_bytes())
                .line(Name::To, to.as_bytes())
                .line(Name::CallId, call_id.as_bytes())
                .cseq(cseq, method)
        });
    }

    /// News of a connection; what it means for a message.
    pub(crate) fn news(&mut self, g: &mut Ground, sip: &mut SipCore, stream: usize, news: News) -> Option<Ended> {
        match news {
            News::Connected => {
                let here = g.net.streams[stream].agent;
                let at = (0..self.sessions.len()).find(|&at| home(at) == here)?;
                let session = &mut self.sessions[at];
                session.stream = Some(stream);
                let tid = String::from_utf8_lossy(&g.dice.hex::<12>()).into_owned();
                g.write(stream, &msrp::binding(&tid, &session.peer_path, &session.own_path));
                let whole = session.frames.iter().any(|frame| {
                    let tid = session.last.as_bytes();
                    frame.get(5..5 + tid.len()) == Some(tid)
                });
                for frame in std::mem::take(&mut session.frames) {
                    g.write(stream, &frame);
                }
                if !whole {
                    session.over = true;
                    g.reset(stream);
                    return Some(Ended::Lost(session.message));
                }
                None
            }
            News::Refused(from) => {
                let at = (0..self.sessions.len()).find(|&at| home(at) == from)?;
                let session = &mut self.sessions[at];
                (!std::mem::replace(&mut session.over, true)).then_some(Ended::Lost(session.message))
            }
            News::Octets(octets) => {
                let session = self.sessions.iter_mut().find(|session| session.stream == Some(stream))?;
                let mut frames = Vec::new();
                if let Err(fault) = session.reader.feed(&octets, &mut frames) {
                    g.oracle.violation(format!("a sender reads what is not MSRP: {fault}"));
                }
                let answers = frames.iter().filter_map(|frame| Some((frame.tid.as_str(), frame.status()?)));
                let mut ended = None;
                for (tid, status) in answers {
                    ended = ended.or(match status {
                        200 if tid == session.last => Some(Ended::Kept(session.message)),
                        200 => None,
                        413 => Some(Ended::Refused(session.message)),
                        _ => Some(Ended::Lost(session.message)),
                    });
                }
                let ended = ended.filter(|_| !std::mem::replace(&mut session.over, true))?;
                let dialog = session.dialog.clone();
                Larges::within(g, sip, &dialog, Method::Bye, 1_000);
                g.leave(stream);
                session.stream = None;
                Some(ended)
            }
            News::Fin | News::Reset => {
                if news == News::Fin {
                    g.leave(stream);
                }
                let session = self.sessions.iter_mut().find(|session| session.stream == Some(stream))?;
                session.stream = None;
                (!std::mem::replace(&mut session.over, true)).then_some(Ended::Lost(session.message))
            }
            News::Accepted(_) => None,
        }
    }
}

/// When a sender whose message was lost tries again.
pub(crate) fn again(g: &mut Ground, message: u32) {
    let delay = g.between(500_000, 10_000_000);
    g.person(delay, Person::Again { message });
}
