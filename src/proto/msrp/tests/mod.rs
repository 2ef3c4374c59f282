//! Sessions against a tiny reader of MSRP that shares no code with `wire`.

mod peer;
mod push;

use super::session::*;
use crate::base::clock::Tick;
use crate::base::dice::Dice;
use crate::base::gather::Gather;
use crate::base::span::Span;
use crate::wire::msrp::cut::{Cut, Piece};
use bytes::Bytes;
use std::time::Duration;

const OURS: &str = "msrp://imserver.com:2855/9di4eae923wzd0x7b2m6;tcp";
const THEIRS: &str = "msrp://user2.imserver.com:7777/iau39soe2843zq7w1k5e;tcp";

fn setup() -> SessionSetup {
    SessionSetup {
        local_path: Bytes::from_static(OURS.as_bytes()),
        peer_path: Bytes::from_static(THEIRS.as_bytes()),
        active: true,
        chunk_max: 8192,
        window_messages: 1024,
        window_octets: 1 << 20,
        tx_timeout: Duration::from_secs(30),
        max_size: None,
        cautious: false,
    }
}

fn session(setup: SessionSetup) -> Session {
    Session::new(setup, &mut Dice::from_seed([7; 32]))
}

/// Active, connected, and its binding SEND answered.
fn bound(setup: SessionSetup) -> Session {
    let mut session = session(setup);
    session.connected(Tick(0));
    let frames = drain(&mut session, Tick(0));
    assert_eq!(frames.len(), 1);
    assert_eq!(answer(&mut session, Tick(0), &frames[0].tid, 200), [SessionEvent::Bound]);
    session
}

fn message(token: u64, body: &[u8]) -> Outgoing {
    let page = Bytes::from([b"page before ", body, b" and behind text/plain"].concat());
    let mut message_id = *b"01jq8z4m7v5c2t9x3h00000000";
    message_id[18..].copy_from_slice(format!("{token:08}").as_bytes());
    Outgoing {
        more: 0,
        token,
        message_id,
        content_type: Span::new(page.len() - 10, 10),
        body: Span::new(12, body.len()),
        page,
        has_dash7: body.windows(7).any(|window| window == b"-------"),
        text: false,
    }
}

#[derive(Debug)]
struct Frame {
    tid: String,
    word: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    flag: char,
}

impl Frame {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1)
    }
}

/// Reads frames by RFC 4975 section 9, slowly and strictly.
fn read(stream: &[u8]) -> Vec<Frame> {
    let find = |from: usize, what: &[u8]| {
        from + stream[from..].windows(what.len()).position(|window| window == what).expect("it is there")
    };
    let line = |from: usize| {
        let end = find(from, b"\r\n");
        (std::str::from_utf8(&stream[from..end]).expect("a text line"), end + 2)
    };
    let mut frames = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let (start, mut next) = line(at);
        let words: Vec<_> = start.splitn(3, ' ').collect();
        assert_eq!(words[0], "MSRP");
        let (tid, word) = (words[1].to_owned(), words[2].to_owned());
        let end = format!("-------{tid}");
        let mut headers: Vec<(String, String)> = Vec::new();
        let (body, flag) = loop {
            let (text, after) = line(next);
            if text.is_empty() {
                assert_eq!(headers.last().map(|header| header.0.as_str()), Some("Content-Type"));
                let close = find(after, format!("\r\n{end}").as_bytes());
                let body = stream[after..close].to_vec();
                assert!(!body.windows(end.len()).any(|window| window == end.as_bytes()), "an id inside the body");
                let flag = char::from(stream[close + 2 + end.len()]);
                next = close + 2 + end.len() + 1;
                assert_eq!(&stream[next..next + 2], b"\r\n");
                next += 2;
                break (Some(body), flag);
            }
            next = after;
            if let Some(flag) = text.strip_prefix(&end) {
                assert_eq!(flag.len(), 1);
                break (None, flag.chars().next().expect("a flag"));
            }
            let (name, value) = text.split_once(": ").expect("a header");
            headers.push((name.to_owned(), value.to_owned()));
        };
        assert_eq!((headers[0].0.as_str(), headers[1].0.as_str()), ("To-Path", "From-Path"));
        assert!("$+#".contains(flag));
        frames.push(Frame { tid, word, headers, body, flag });
        at = next;
    }
    frames
}

fn drain(session: &mut Session, now: Tick) -> Vec<Frame> {
    let mut gather = Gather::new();
    let added = session.fill(now, &mut gather, 256 * 1024);
    assert_eq!(added, gather.len());
    read(&gather.to_vec())
}

fn answer(session: &mut Session, now: Tick, tid: &str, status: u16) -> Vec<SessionEvent> {
    let mut events = Vec::new();
    session.response(now, tid.as_bytes(), status, &mut events);
    events
}

fn turn(session: &mut Session, now: Tick) -> Vec<SessionEvent> {
    let mut events = Vec::new();
    session.turn(now, &mut events);
    events
}

/// Hands a peer's octets in as a connection does.
fn hear(session: &mut Session, now: Tick, octets: &str) -> Vec<SessionEvent> {
    let (mut cut, mut rest, mut events) = (Cut::new(8192), octets.as_bytes(), Vec::new());
    loop {
        let len = match cut.next(rest).expect("well-formed") {
            Piece::More => return events,
            Piece::Response { head, len } => {
                session.response(now, head.tid.of(rest), head.status, &mut events);
                len
            }
            Piece::Request { head, len } => {
                session.request(now, &head, rest, &mut events);
                len
            }
            Piece::Data { len } => {
                session.data(&rest[..len]);
                len
            }
            Piece::End { flag, len } => {
                session.end(now, flag, &mut events);
                len
            }
        };
        rest = &rest[len..];
    }
}

fn peer(start: &str, headers: &str, body: Option<&str>) -> String {
    let body = body.map_or_else(String::new, |body| format!("Content-Type: text/plain\r\n\r\n{body}\r\n"));
    format!(
        "MSRP peer1234 {start}\r\nTo-Path: {OURS}\r\nFrom-Path: {THEIRS}\r\nMessage-ID: peers1\r\n{headers}{body}-------peer1234$\r\n"
    )
}
