//! The story the demo tells: five messages wait, bob comes back, they are pushed, they are what was sent.
//!
//! It knows the order of events and what each must look like; sockets are the agents' business.

use super::agents::{Event, Failure, Frame, Line, PATIENCE, Sip, listen_msrp, listen_sip, random_hex};
use super::ladder::{Ladder, Tone, Who, grouped};
use super::letters::{Coming, Letter, compare, letters, publish, request};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What was measured on the way.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) messages: usize,
    pub(super) body_octets: u64,
    /// Octets of whole embedded requests that were compared.
    pub(super) compared_octets: u64,
    pub(super) chunks: usize,
    /// For each message: from the first octet sent to its 202.
    pub(super) accepts: Vec<Duration>,
    pub(super) publish_to_first_send: Duration,
    pub(super) publish_to_bye: Duration,
}

/// Plays it against the daemon that takes SIP at `daemon`.
pub(super) fn play(daemon: SocketAddr, ladder: &mut Ladder) -> Result<Played, Failure> {
    ladder.chapter("bob is offline: three people write to him (sizes in octets)");
    ladder.head("alice, carol, dave");
    let letters = letters();
    let mut sent = Vec::with_capacity(letters.len());
    let mut accepts = Vec::with_capacity(letters.len());
    for (number, letter) in letters.iter().enumerate().map(|(at, letter)| (at + 1, letter)) {
        let (request, took) = deposit(daemon, letter, number, ladder)?;
        sent.push(request);
        accepts.push(took);
    }
    ladder.chapter("bob comes back: what waits is pushed");
    ladder.head("alice, carol, dave");
    let mut bob = Bob::arrive(daemon, ladder)?;
    while !bob.done {
        bob.next(ladder)?;
    }
    let compared_octets = compare(&letters, &sent, &bob.came)?;
    let first_send = bob.first_send.ok_or_else(|| Failure::new("a SEND with a message", "BYE at once"))?;
    Ok(Played {
        messages: letters.len(),
        body_octets: letters.iter().map(|letter| letter.body.len() as u64).sum(),
        compared_octets,
        chunks: bob.chunks,
        accepts,
        publish_to_first_send: first_send - bob.published,
        publish_to_bye: bob.published.elapsed(),
    })
}

/// Sends one letter; its octets and how long the 202 took.
fn deposit(
    daemon: SocketAddr,
    letter: &Letter,
    number: usize,
    ladder: &mut Ladder,
) -> Result<(Vec<u8>, Duration), Failure> {
    let lost = |error: io::Error| Failure::new(format!("202 to the MESSAGE of {}", letter.author), error.to_string());
    let mut line = if letter.tcp { Line::tcp(daemon) } else { Line::udp(daemon) }.map_err(lost)?;
    let request = request(letter, number, &line).map_err(lost)?;
    let transport = if letter.tcp { "TCP" } else { "UDP" };
    let label = format!("MESSAGE {number} {} {transport} {}", letter.author, grouped(letter.body.len() as u64));
    ladder.arrow(Who::Senders, Who::Deferd, &label, Tone::Ask);
    let began = Instant::now();
    let answer = line.ask(&request).map_err(lost)?;
    let took = began.elapsed();
    let good = answer.status() == Some(202);
    ladder.arrow(Who::Deferd, Who::Senders, status_of(&answer), if good { Tone::Good } else { Tone::Bad });
    if good {
        Ok((request, took))
    } else {
        Err(Failure::new(format!("202 Accepted to message {number} of {}", letter.author), answer.start))
    }
}

fn status_of(answer: &Sip) -> &str {
    answer.start.strip_prefix("SIP/2.0 ").unwrap_or(&answer.start)
}

/// The one who comes back.
struct Bob {
    line: TcpStream,
    events: Receiver<Event>,
    sink: std::sync::mpsc::Sender<Event>,
    tag: String,
    /// The address in our path; held so that nobody else takes the port.
    _held: TcpListener,
    path: String,
    session: Option<TcpStream>,
    published: Instant,
    publish_answered: bool,
    acked: bool,
    first_send: Option<Instant>,
    chunks: usize,
    came: Vec<Coming>,
    at: HashMap<String, usize>,
    done: bool,
}

impl Bob {
    /// Connects and publishes that bob is there.
    fn arrive(daemon: SocketAddr, ladder: &mut Ladder) -> Result<Bob, Failure> {
        let plain = |error: io::Error| Failure::new("bob's connections", error.to_string());
        let mut line = TcpStream::connect_timeout(&daemon, PATIENCE).map_err(plain)?;
        line.set_nodelay(true).map_err(plain)?;
        let here = line.local_addr().map_err(plain)?;
        let held = TcpListener::bind((here.ip(), 0)).map_err(plain)?;
        let port = held.local_addr().map_err(plain)?.port();
        let (sink, events) = channel();
        listen_sip(line.try_clone().map_err(plain)?, sink.clone());
        ladder.arrow(Who::Bob, Who::Deferd, "PUBLISH presence open", Tone::Ask);
        let published = Instant::now();
        line.write_all(publish(here).as_bytes()).map_err(plain)?;
        Ok(Bob {
            line,
            events,
            sink,
            tag: random_hex(4),
            _held: held,
            path: format!("msrp://{}:{port}/{};tcp", here.ip(), random_hex(10)),
            session: None,
            published,
            publish_answered: false,
            acked: false,
            first_send: None,
            chunks: 0,
            came: Vec::new(),
            at: HashMap::new(),
            done: false,
        })
    }

    /// Waits for the next thing and does what is to be done about it.
    fn next(&mut self, ladder: &mut Ladder) -> Result<(), Failure> {
        let event = self.events.recv_timeout(PATIENCE).map_err(|_| Failure::new(self.awaited(), "nothing for 10 s"))?;
        match event {
            Event::Sip(sip) => match (sip.status(), sip.method()) {
                (Some(_), "PUBLISH") => self.publish_answered(&sip, ladder),
                (None, "INVITE") => self.invited(&sip, ladder),
                (None, "ACK") => {
                    ladder.arrow(Who::Deferd, Who::Bob, "ACK", Tone::Good);
                    self.acked = true;
                    Ok(())
                }
                (None, "BYE") => {
                    ladder.arrow(Who::Deferd, Who::Bob, "BYE", Tone::Ask);
                    ladder.arrow(Who::Bob, Who::Deferd, "200 OK", Tone::Good);
                    self.write(&sip.answer("200 OK", &self.tag, "", ""))?;
                    self.done = true;
                    Ok(())
                }
                _ => Err(Failure::new(self.awaited(), sip.start)),
            },
            Event::Msrp(frame, at) => self.framed(frame, at, ladder),
            Event::Ended(which, failure) => Err(Failure::new(self.awaited(), format!("{which}: {}", failure.came))),
        }
    }

    /// What the story stands still for, in words.
    fn awaited(&self) -> String {
        if !self.publish_answered {
            "200 to the PUBLISH, or the push INVITE".into()
        } else if self.session.is_none() {
            "the push INVITE on the connection of the PUBLISH".into()
        } else if !self.acked {
            "ACK".into()
        } else {
            let whole = self.came.iter().filter(|coming| coming.complete).count();
            format!("more SENDs after {whole} whole messages, or BYE")
        }
    }

    fn write(&mut self, octets: &[u8]) -> Result<(), Failure> {
        self.line.write_all(octets).map_err(|error| Failure::new("bob's SIP connection", error.to_string()))
    }

    fn publish_answered(&mut self, sip: &Sip, ladder: &mut Ladder) -> Result<(), Failure> {
        let tag = sip.value("sip-etag");
        let good = sip.status() == Some(200) && !tag.is_empty() && sip.header("expires").is_some();
        let label = format!("{}, SIP-ETag {tag}", status_of(sip));
        ladder.arrow(Who::Deferd, Who::Bob, &label, if good { Tone::Good } else { Tone::Bad });
        self.publish_answered = true;
        if good {
            Ok(())
        } else {
            Err(Failure::new("200 to the PUBLISH, with SIP-ETag and Expires", sip.start.clone()))
        }
    }

    /// Checks the offer, answers it, connects and says so.
    fn invited(&mut self, invite: &Sip, ladder: &mut Ladder) -> Result<(), Failure> {
        let offer = String::from_utf8_lossy(&invite.body).into_owned();
        let attribute = |name: &str| offer.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let path = attribute("a=path:").to_owned();
        ladder.arrow(Who::Deferd, Who::Bob, "INVITE, sendonly", Tone::Ask);
        let checks = [
            (
                "From: Deferred@im.example.org",
                invite.value("from").to_ascii_lowercase().contains("sip:deferred@im.example.org"),
            ),
            ("a Contact with automata", invite.value("contact").contains("automata")),
            ("application/sdp", invite.value("content-type").starts_with("application/sdp")),
            ("a=sendonly", offer.lines().any(|line| line.trim() == "a=sendonly")),
            ("multipart/mixed among a=accept-types", attribute("a=accept-types:").contains("multipart/mixed")),
        ];
        for (what, holds) in checks {
            if !holds {
                return Err(Failure::new(format!("an INVITE with {what}"), format!("{}\n{offer}", invite.start)));
            }
        }
        let Some(target) =
            path.strip_prefix("msrp://").and_then(|rest| rest.split('/').next()?.parse::<SocketAddr>().ok())
        else {
            return Err(Failure::new("a=path with address and port", path));
        };
        let here = self.line.local_addr().map_err(|error| Failure::new("bob's address", error.to_string()))?;
        let port = self.path.split(':').nth(2).and_then(|rest| rest.split('/').next()).unwrap_or("9");
        let sdp = format!(
            "v=0\r\no=bob 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=message {port} TCP/MSRP *\r\na=recvonly\r\n\
             a=accept-types:multipart/mixed message/sip message/sipfrag message/cpim\r\na=accept-wrapped-types:*\r\n\
             a=setup:active\r\na=path:{path}\r\n",
            ip = here.ip(),
            path = self.path
        );
        let more = format!("Contact: <sip:bob@{here};transport=tcp>\r\nContent-Type: application/sdp\r\n");
        ladder.arrow(Who::Bob, Who::Deferd, "200 OK, recvonly, active", Tone::Good);
        self.write(&invite.answer("200 OK", &self.tag, &more, &sdp))?;

        let plain = |error: io::Error| Failure::new(format!("an MSRP connection to {target}"), error.to_string());
        let mut session = TcpStream::connect_timeout(&target, PATIENCE).map_err(plain)?;
        session.set_nodelay(true).map_err(plain)?;
        listen_msrp(session.try_clone().map_err(plain)?, self.sink.clone());
        // RFC 4975 5.4: the active side sends at once, if only to say which session this is.
        let tid = random_hex(8);
        let hello = format!(
            "MSRP {tid} SEND\r\nTo-Path: {path}\r\nFrom-Path: {}\r\nMessage-ID: {}\r\nByte-Range: 1-0/0\r\n-------{tid}$\r\n",
            self.path,
            random_hex(8)
        );
        ladder.arrow(Who::Bob, Who::Deferd, "connects, SEND empty", Tone::Ask);
        session.write_all(hello.as_bytes()).map_err(plain)?;
        self.session = Some(session);
        Ok(())
    }

    fn framed(&mut self, frame: Frame, at: Instant, ladder: &mut Ladder) -> Result<(), Failure> {
        if frame.what != "SEND" {
            let good = frame.what.starts_with("200");
            ladder.arrow(Who::Deferd, Who::Bob, &frame.what, if good { Tone::Good } else { Tone::Bad });
            return if good { Ok(()) } else { Err(Failure::new("MSRP 200 to bob's empty SEND", frame.what)) };
        }
        if frame.value("to-path") != self.path {
            return Err(Failure::new(format!("To-Path: {}", self.path), frame.value("to-path")));
        }
        let range = frame.value("byte-range").to_owned();
        let label = match frame.body.is_empty() {
            true => "SEND, empty".to_owned(),
            false => {
                let next = self.came.len();
                let number = self.at.get(frame.value("message-id")).copied().unwrap_or(next) + 1;
                format!("SEND {number}: {range} {}", frame.flag)
            }
        };
        ladder.arrow(Who::Deferd, Who::Bob, &label, Tone::Ask);
        ladder.arrow(Who::Bob, Who::Deferd, "200 OK", Tone::Good);
        if frame.body.is_empty() {
            return Ok(());
        }
        self.first_send.get_or_insert(at);
        self.chunks += 1;
        self.take(frame, &range)
    }

    /// Puts a chunk where its Byte-Range says.
    fn take(&mut self, frame: Frame, range: &str) -> Result<(), Failure> {
        let wrong = |what: &str| Failure::new(what, format!("Byte-Range: {range}, {} octets", frame.body.len()));
        let (span, total) = range.split_once('/').ok_or_else(|| wrong("start-end/total"))?;
        let start: usize =
            span.split('-').next().and_then(|start| start.parse().ok()).ok_or_else(|| wrong("a start"))?;
        let id = frame.value("message-id").to_owned();
        let index = *self.at.entry(id.clone()).or_insert(self.came.len());
        if index == self.came.len() {
            let content_type = frame.value("content-type").to_owned();
            self.came.push(Coming { message_id: id, content_type, body: Vec::new(), complete: false });
        }
        let Some(coming) = self.came.get_mut(index) else { return Ok(()) };
        if coming.complete || start != coming.body.len() + 1 {
            return Err(wrong("the next octets of a message that is not whole yet"));
        }
        coming.body.extend_from_slice(&frame.body);
        match frame.flag {
            '+' => Ok(()),
            '$' if total == "*" || total.parse() == Ok(coming.body.len()) => {
                coming.complete = true;
                Ok(())
            }
            '$' => Err(wrong("as many octets as the total says")),
            _ => Err(Failure::new("a message to its end", "an abort (#)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, Trick};
    use super::super::ladder::Look;
    use super::*;

    fn played(trick: Trick) -> Result<Played, Failure> {
        let look = Look { colour: false, unicode: true, width: 100 };
        let mut ladder = Ladder::new(look, Instant::now(), Box::new(io::sink()));
        play(fake::start(trick), &mut ladder)
    }

    #[test]
    fn a_daemon_that_does_its_job_passes() {
        let played = played(Trick::None).unwrap();
        assert_eq!((played.messages, played.accepts.len()), (5, 5));
        assert!(played.chunks > 5 && played.compared_octets > played.body_octets);
        assert!(played.publish_to_first_send <= played.publish_to_bye);
    }

    #[test]
    fn a_daemon_that_changes_loses_or_swaps_something_fails() {
        let table = [
            (Trick::FlipAnOctet, "message 3 as alice sent it"),
            (Trick::LoseTheLast, "5 whole messages"),
            (Trick::SwapTwo, "message 1 as alice sent it"),
            (Trick::Refuse, "202 Accepted to message 1"),
        ];
        for (trick, expected) in table {
            let failure = played(trick).unwrap_err();
            assert!(failure.expected.contains(expected), "{trick:?}: {failure:?}");
        }
        // What stood out then, the ACK on the other connection or more SENDs, is chance.
        let failure = played(Trick::HangUp).unwrap_err();
        assert!(failure.came.starts_with("MSRP: "), "{failure:?}");
    }
}
