//! Writing to somebody: a MESSAGE (pager mode), or a session for a file (large message mode, 12.2.2.1).

use crate::line::{Event, Line};
use crate::msrp::Chunk;
use crate::output::Output;
use crate::session::{End, Session};
use crate::sip::{Request, Sip, random_hex};
use crate::{Failure, Person, Said, address};
use clap::Args;
use deferd::wire::date;
use serde_json::json;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// What makes an INVITE one for large messages.
const LARGE_TAG: &str = "*;+g.oma.sip-im.large-message";

/// Chunks without an answer: enough to keep a loopback busy, little enough for anybody's buffers.
const WINDOW: usize = 16;

/// Most octets of standard input that are read for a MESSAGE: what the daemon takes as a SIP body.
const TEXT_MAX: u64 = 1 << 20;

/// What is written, and to whom.
#[derive(Args)]
pub(crate) struct Letter {
    /// To whom: bob@example.org.
    to: String,
    /// What: text, or - for standard input.
    #[arg(required_unless_present = "large", conflicts_with = "large")]
    text: Option<String>,
    /// A file, as a large message.
    #[arg(long, value_name = "FILE")]
    large: Option<PathBuf>,
    /// Its Subject.
    #[arg(long)]
    subject: Option<String>,
    /// Its Priority: emergency, urgent, normal, non-urgent.
    #[arg(long)]
    priority: Option<String>,
    /// How long it may wait, in seconds.
    #[arg(long, value_name = "SECONDS")]
    expires: Option<u32>,
    /// Ask for a report when it is deleted, or expires, before it was read (RFC 5438); it comes to you when you are online.
    #[arg(long, conflicts_with = "large")]
    report: bool,
    /// Its Content-Type; text/plain for text and *.txt, application/octet-stream for other files.
    #[arg(long = "type", value_name = "TYPE")]
    content_type: Option<String>,
    /// Octets a chunk of a large message.
    #[arg(long, value_name = "OCTETS", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    chunk: u32,
}

impl Letter {
    /// The headers that were asked for.
    fn headed(&self, mut request: Request) -> Request {
        let expires = self.expires.map(|seconds| seconds.to_string());
        for (name, value) in [("Subject", &self.subject), ("Priority", &self.priority), ("Expires", &expires)] {
            if let Some(value) = value {
                request = request.with(name, value.as_str());
            }
        }
        request
    }

    fn content_type(&self, otherwise: &str) -> Said<String> {
        let content_type = self.content_type.as_deref().unwrap_or(otherwise);
        match content_type.contains('/') && !content_type.contains(char::is_control) {
            true => Ok(content_type.to_owned()),
            false => Err(Failure::Usage(format!("{content_type:?} is no Content-Type"))),
        }
    }
}

/// Writes.
pub(crate) fn send(person: &Person, letter: &Letter, output: &mut Output) -> Said<()> {
    let to = address(&letter.to)?;
    match &letter.large {
        Some(file) => large(person, letter, &to, file, output),
        None => pager(person, letter, &to, output),
    }
}

fn pager(person: &Person, letter: &Letter, to: &str, output: &mut Output) -> Said<()> {
    let text = match letter.text.as_deref().unwrap_or_default() {
        "-" => {
            let mut text = Vec::new();
            let read = io::stdin().lock().take(TEXT_MAX + 1).read_to_end(&mut text);
            read.map_err(|error| Failure::failed(format!("standard input: {error}")))?;
            if text.len() as u64 > TEXT_MAX {
                return Err(Failure::failed("more than 1 MiB on standard input; send it with --large FILE"));
            }
            text
        }
        text => text.as_bytes().to_vec(),
    };
    let octets = text.len();
    let content_type = letter.content_type("text/plain;charset=UTF-8")?;
    let (content_type, text) = match letter.report {
        true => ("message/cpim".to_owned(), asking(&person.aor, to, &content_type, &text)),
        false => (content_type, text),
    };
    let mut line = Line::open(person)?;
    let request = line.request("MESSAGE", to, to).with("Accept-Contact", "*;+g.oma.sip-im");
    let request = letter.headed(request).with_body(&content_type, text);
    let answer = line.insist(&request, "the message")?;
    let said = format!("{}: {octets} octets for {to}", answer.outcome());
    output.say(&said, &json!({"event": "sent", "status": answer.status(), "to": to, "octets": octets}))
}

/// The text in a CPIM wrapper (RFC 3862) that asks for negative delivery notifications.
fn asking(from: &str, to: &str, content_type: &str, text: &[u8]) -> Vec<u8> {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let mut time = Vec::new();
    date::write_rfc3339(&mut time, now);
    let head = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nDateTime: {}\r\nNS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: {}\r\n\
         imdn.Disposition-Notification: negative-delivery\r\n\r\nContent-Type: {content_type}\r\n\r\n",
        String::from_utf8_lossy(&time),
        random_hex(8)
    );
    [head.as_bytes(), text].concat()
}

fn large(person: &Person, letter: &Letter, to: &str, file: &Path, output: &mut Output) -> Said<()> {
    let unread = |error: io::Error| Failure::failed(format!("{}: {error}", file.display()));
    let opened = File::open(file).map_err(unread)?;
    let total = opened.metadata().map_err(unread)?.len();
    if total == 0 {
        return Err(Failure::failed(format!("{} is empty", file.display())));
    }
    let is_text = file.extension().is_some_and(|extension| extension == "txt");
    let content_type = letter.content_type(if is_text { "text/plain" } else { "application/octet-stream" })?;

    let mut line = Line::open(person)?;
    let end = End::new(&line)?;
    let invite = line
        .request("INVITE", to, to)
        .with("Contact", line.contact())
        .with("Accept-Contact", LARGE_TAG)
        .with("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, OPTIONS");
    let invite = letter.headed(invite).with_body("application/sdp", end.sdp(&line, "sendonly"));
    let ok = line.insist(&invite, "the session")?;
    line.acknowledge(&invite, &ok)?;
    let sent = Session::connect(&line, &end, &ok)
        .and_then(|mut session| chunks(&mut line, &mut session, letter, &content_type, total, &opened));
    // Whatever became of it, the session ends here; after a failure the daemon keeps nothing.
    let bye = hang_up(&mut line, &invite, &ok);
    let chunks = sent?;
    bye?;
    let said = format!("200 OK: {total} octets for {to}, in {chunks} chunks");
    output.say(&said, &json!({"event": "sent", "status": 200, "to": to, "octets": total, "chunks": chunks}))
}

/// Ends a session of ours.
pub(crate) fn hang_up(line: &mut Line, invite: &Request, ok: &Sip) -> Said<()> {
    let bye = line.within("BYE", 2, invite, ok);
    match line.ask(&bye)?.status() {
        // 481: the daemon has hung up before us.
        Some(200..300 | 481) => Ok(()),
        _ => Err(Failure::failed("the daemon refuses to end the session")),
    }
}

/// Sends the file, at most [`WINDOW`] chunks ahead of their answers; how many chunks it were. The last 200 says that it is kept.
fn chunks(
    line: &mut Line,
    session: &mut Session,
    letter: &Letter,
    content_type: &str,
    total: u64,
    mut file: &File,
) -> Said<u64> {
    let message_id = random_hex(8);
    let mut waiting: HashSet<String> = HashSet::new();
    let (mut at, mut count) = (0, 0);
    let mut body = vec![0; letter.chunk as usize];
    loop {
        while at < total && waiting.len() < WINDOW {
            let octets = u64::from(letter.chunk).min(total - at);
            let body = body.get_mut(..octets as usize).unwrap_or_default();
            let read = file.read_exact(body);
            read.map_err(|error| Failure::failed(format!("the file became shorter while it was sent: {error}")))?;
            let chunk = Chunk { message_id: &message_id, at, total, content_type, body };
            let (theirs, ours) = session.paths();
            let (tid, octets_out) = chunk.write(theirs, ours);
            session.write(&octets_out)?;
            waiting.insert(tid);
            (at, count) = (at + octets, count + 1);
        }
        if waiting.is_empty() {
            return Ok(count);
        }
        match line.next(Some(Instant::now() + line.patience))? {
            Some(Event::Frame(frame)) if frame.is_send() => session.write(&frame.answer("200 OK"))?,
            Some(Event::Frame(frame)) => match frame.status() {
                Some(200) => drop(waiting.remove(&frame.tid)),
                Some(_) => return Err(Failure::failed(format!("the message was refused: MSRP {}", frame.what))),
                None => {}
            },
            Some(Event::Sip(sip)) if sip.method() == "BYE" && sip.status().is_none() => {
                line.answer(&sip, "200 OK", "", "")?;
                return Err(Failure::failed(format!("the daemon hung up after {at} of {total} octets")));
            }
            Some(Event::Sip(_)) => {}
            Some(Event::Hangup(why) | Event::Lost(why)) => return Err(Failure::failed(why)),
            None => {
                let waited = line.patience.as_secs();
                return Err(Failure::failed(format!("{} chunks without an answer within {waited} s", waiting.len())));
            }
        }
    }
}
