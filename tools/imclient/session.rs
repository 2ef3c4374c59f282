//! One MSRP session, seen from the client: it connects, takes messages, shows them, and only then confirms them.

use crate::letter::Received;
use crate::line::{Event, Line, read_more, resolve};
use crate::msrp::{self, Frame};
use crate::output::Output;
use crate::sip::{Sip, random_hex};
use crate::{Failure, Said};
use std::collections::HashMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Instant;

/// Octets of all messages of a session that are not whole yet: a few of the largest that a daemon keeps (100 MiB).
const PENDING_MAX: usize = 256 << 20;

/// Our end of a session, before there is a connection.
pub(crate) struct End {
    /// Our `a=path`.
    pub(crate) path: String,
    port: u16,
    /// Keeps the port from others: the path names it.
    _held: TcpListener,
}

impl End {
    /// On the address by which the daemon reaches us.
    pub(crate) fn new(line: &Line) -> Said<End> {
        let none = |error: std::io::Error| Failure::failed(format!("no port for MSRP: {error}"));
        let held = TcpListener::bind((line.here.ip(), 0)).map_err(none)?;
        let here = held.local_addr().map_err(none)?;
        Ok(End { path: format!("msrp://{here}/{};tcp", random_hex(10)), port: here.port(), _held: held })
    }

    /// An offer or an answer of somebody who connects; `direction` is `recvonly` or `sendonly`.
    pub(crate) fn sdp(&self, line: &Line, direction: &str) -> String {
        let ip = line.here.ip();
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=message {} TCP/MSRP *\r\n\
             a={direction}\r\na=accept-types:multipart/mixed message/sip message/sipfrag message/cpim text/plain\r\n\
             a=accept-wrapped-types:*\r\na=setup:active\r\na=path:{}\r\n",
            self.port, self.path
        )
    }
}

/// A message that is coming in.
struct Coming {
    content_type: String,
    body: Vec<u8>,
}

/// A session with a connection.
pub(crate) struct Session {
    socket: TcpStream,
    ours: String,
    theirs: String,
    call_id: String,
    coming: HashMap<String, Coming>,
    pending: usize,
}

impl Session {
    /// Connects to the `a=path` of `described`; frames are put into the line's events.
    pub(crate) fn connect(line: &Line, end: &End, described: &Sip) -> Said<Session> {
        let theirs = described.attribute("path").ok_or_else(|| Failure::failed("the daemon's SDP has no a=path"))?;
        let place = msrp::authority(&theirs).and_then(resolve);
        let place = place.ok_or_else(|| Failure::failed(format!("nobody can connect to {theirs:?}")))?;
        let lost = |error: std::io::Error| Failure::failed(format!("no MSRP connection to {place}: {error}"));
        let socket = TcpStream::connect_timeout(&place, line.patience).map_err(lost)?;
        socket.set_nodelay(true).map_err(lost)?;
        socket.set_write_timeout(Some(line.patience)).map_err(lost)?;
        read_frames(socket.try_clone().map_err(lost)?, line.sink());
        Ok(Session {
            socket,
            ours: end.path.clone(),
            theirs,
            call_id: described.value("call-id").to_owned(),
            coming: HashMap::new(),
            pending: 0,
        })
    }

    /// Says which session the connection is for.
    pub(crate) fn hello(&mut self) -> Said<()> {
        self.write(&msrp::hello(&self.theirs, &self.ours))
    }

    /// The daemon's path and ours.
    pub(crate) fn paths(&self) -> (&str, &str) {
        (&self.theirs, &self.ours)
    }

    /// Sends octets as they are.
    pub(crate) fn write(&mut self, octets: &[u8]) -> Said<()> {
        let sent = self.socket.write_all(octets);
        sent.map_err(|error| Failure::failed(format!("the MSRP connection cannot be written to: {error}")))
    }

    /// Takes, shows and confirms messages until the daemon hangs up; their ids. `host` is what their ids are shown with, `sdp` what a
    /// re-INVITE is answered with.
    pub(crate) fn receive(&mut self, line: &mut Line, host: &str, sdp: &str, output: &mut Output) -> Said<Vec<String>> {
        let mut ids = Vec::new();
        let mut hangup = None;
        loop {
            let event = line.next(Some(Instant::now() + line.patience))?;
            match event {
                Some(Event::Frame(frame)) if frame.is_send() => ids.extend(self.take(&frame, host, output)?),
                Some(Event::Frame(frame)) => match frame.status() {
                    Some(200) | None => {}
                    Some(_) => return Err(Failure::failed(format!("the session was refused: MSRP {}", frame.what))),
                },
                Some(Event::Sip(sip)) if sip.status().is_none() => {
                    if self.asked(line, &sip, sdp, output)? {
                        return Ok(ids);
                    }
                }
                Some(Event::Sip(_)) => {}
                // The BYE comes another way and may be a moment behind.
                Some(Event::Hangup(why)) => hangup = Some(why),
                Some(Event::Lost(why)) => return Err(Failure::failed(why)),
                None => {
                    let waited = line.patience.as_secs();
                    let why = hangup.unwrap_or_else(|| "nothing came".into());
                    return Err(Failure::failed(format!(
                        "no BYE within {waited} s after {} messages: {why}",
                        ids.len()
                    )));
                }
            }
        }
    }

    /// Answers a request; true when it was the BYE.
    fn asked(&self, line: &mut Line, request: &Sip, sdp: &str, output: &mut Output) -> Said<bool> {
        let ours = request.value("call-id") == self.call_id;
        match request.method() {
            "ACK" => {}
            "MESSAGE" => single(line, request, output)?,
            "BYE" if ours => {
                line.answer(request, "200 OK", "", "")?;
                return Ok(true);
            }
            "INVITE" if ours => {
                let more = format!("Contact: {}\r\nContent-Type: application/sdp\r\n", line.contact());
                line.answer(request, "200 OK", &more, sdp)?;
            }
            "UPDATE" if ours => line.answer(request, "200 OK", &format!("Contact: {}\r\n", line.contact()), "")?,
            "INVITE" => line.answer(request, "486 Busy Here", "", "")?,
            _ => line.answer(request, "481 Call/Transaction Does Not Exist", "", "")?,
        }
        Ok(false)
    }

    /// Puts a chunk where it belongs; the message's id when it is whole and was shown.
    fn take(&mut self, frame: &Frame, host: &str, output: &mut Output) -> Said<Option<String>> {
        if frame.value("to-path") != self.ours {
            self.write(&frame.answer("481 No Such Session"))?;
            return Ok(None);
        }
        let id = frame.value("message-id").to_owned();
        if frame.body.is_empty() && frame.value("content-type").is_empty() {
            self.write(&frame.answer("200 OK"))?;
            return Ok(None);
        }
        let (start, total) = frame.range().unwrap_or((1, None));
        let content_type = frame.value("content-type").to_owned();
        let coming = self.coming.entry(id.clone()).or_insert_with(|| Coming { content_type, body: Vec::new() });
        if start != coming.body.len() as u64 + 1 {
            return Err(Failure::failed(format!("message {id}: octet {start} came after {}", coming.body.len())));
        }
        self.pending += frame.body.len();
        if self.pending > PENDING_MAX {
            return Err(Failure::failed("messages of more than 256 MiB before one was whole"));
        }
        coming.body.extend_from_slice(&frame.body);
        match frame.flag {
            '+' => {
                self.write(&frame.answer("200 OK"))?;
                return Ok(None);
            }
            '#' => {
                self.forget(&id);
                self.write(&frame.answer("200 OK"))?;
                return Ok(None);
            }
            _ => {}
        }
        let Some(whole) = self.forget(&id) else { return Ok(None) };
        if total.is_some_and(|total| total != whole.body.len() as u64) {
            return Err(Failure::failed(format!("message {id} ended after {} octets", whole.body.len())));
        }
        // First shown, then confirmed: what is confirmed is deleted there.
        output.message(&id, host, &Received::read(&whole.content_type, &whole.body))?;
        self.write(&frame.answer("200 OK"))?;
        Ok(Some(id))
    }

    fn forget(&mut self, id: &str) -> Option<Coming> {
        let coming = self.coming.remove(id)?;
        self.pending = self.pending.saturating_sub(coming.body.len());
        Some(coming)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The reader has a handle of its own on the socket; this ends it.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// Shows a MESSAGE that came by itself, and then answers it.
pub(crate) fn single(line: &mut Line, message: &Sip, output: &mut Output) -> Said<()> {
    let id = message.value("call-id").split('@').next().unwrap_or_default();
    output.message(id, "", &Received::of(message))?;
    line.answer(message, "200 OK", "", "")
}

/// Reads a connection's frames until it ends.
fn read_frames(mut socket: TcpStream, sink: SyncSender<Event>) {
    thread::spawn(move || {
        let mut ahead = Vec::new();
        let why = loop {
            match Frame::cut(&ahead) {
                Ok(Some((frame, len))) => {
                    ahead.drain(..len);
                    if sink.send(Event::Frame(frame)).is_err() {
                        return;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(what) => break format!("what came is no MSRP: {what}"),
            }
            if let Err(why) = read_more(&mut socket, &mut ahead) {
                break why;
            }
        };
        let _ = sink.send(Event::Hangup(why));
    });
}
