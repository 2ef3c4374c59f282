//! What one side says over a connection's life, judged: order and sums of chunks, repeated headers, identifiers, messages
//! that do not mix. Knows frames; knows no octets.

use std::collections::{HashMap, HashSet};

use crate::msrp::{Frame, Kind, Violation, broken};

/// A message put together from its chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MsrpMessage {
    /// Its Message-ID.
    pub message_id: String,
    /// The Content-Type of every chunk.
    pub content_type: String,
    /// The whole body.
    pub body: Vec<u8>,
    /// How many chunks it came in.
    pub chunks: usize,
    /// The To-Path it was sent to.
    pub to_path: String,
    /// The From-Path it came from.
    pub from_path: String,
}

struct Open {
    message: MsrpMessage,
    repeated: Vec<Option<String>>,
    total: Option<u64>,
    /// The receiver said 413 to a chunk of it.
    unwanted: bool,
}

/// Judges everything one side says on one connection.
#[derive(Default)]
pub struct Judge {
    open: HashMap<String, Open>,
    /// Transaction identifiers, and the Message-ID of each.
    outstanding: HashMap<String, String>,
    done: HashSet<String>,
}

impl Judge {
    /// Nothing heard yet.
    pub fn new() -> Judge {
        Judge::default()
    }

    /// The other side answered this transaction: its identifier may come again. A 413 ends the message whose chunk it was,
    /// if that is under way: "MUST NOT send any further chunks with the same Message-ID" (RFC 4975 10.5), not even one with
    /// `#`. Every other message that is begun is ended by a chunk with `$` or `#`.
    pub fn answered(&mut self, tid: &str, status: u16) {
        let message_id = self.outstanding.remove(tid);
        // "Unsupported media type" is about the type: the message may come once more as another (RFC 4975 10.6).
        if status == 415
            && let Some(message_id) = &message_id
        {
            self.done.remove(message_id);
        }
        if status == 413
            && let Some(open) =
                self.open.values_mut().find(|open| message_id.as_ref() == Some(&open.message.message_id))
        {
            open.unwanted = true;
        }
    }

    /// One more frame of this side; a message when it is complete.
    pub fn hear(&mut self, frame: &Frame) -> Result<Option<MsrpMessage>, Violation> {
        let fault = |rule, found: String| broken(frame.at, rule, found.as_bytes());
        let Kind::Request(method) = &frame.kind else { return Ok(None) };
        let message_id = frame.header("Message-ID").unwrap_or_default().to_string();
        if method != "REPORT"
            && frame.header("Failure-Report") != Some("no")
            && self.outstanding.insert(frame.tid.clone(), message_id.clone()).is_some()
        {
            return fault("a transaction identifier is unique among those outstanding", frame.tid.clone());
        }
        if method != "SEND" {
            return Ok(None);
        }
        let (to_path, from_path) = (frame.headers[0].1.clone(), frame.headers[1].1.clone());
        if self.open.get(&from_path).is_some_and(|open| open.unwanted && open.message.message_id != message_id) {
            self.open.remove(&from_path);
        }
        let Some(content) = &frame.content else {
            if self.open.contains_key(&from_path) && frame.flag != '#' {
                return fault("a session never puts one message into another", frame.tid.clone());
            }
            self.open.remove(&from_path);
            return Ok(None);
        };
        let Some(range) = frame.range() else { return fault("a SEND of ours has a Byte-Range", frame.tid.clone()) };
        let repeated = ["Success-Report", "Failure-Report", "Content-Type"]
            .map(|name| frame.header(name).map(str::to_string))
            .to_vec();
        let mut open = match self.open.remove(&from_path) {
            Some(open) if open.message.message_id != message_id => {
                return fault(
                    "a session never puts one message into another",
                    format!("{message_id} in {}", open.message.message_id),
                );
            }
            Some(open) => open,
            None if self.done.contains(&message_id) => {
                return fault("a delivered message is not sent again on this connection", message_id);
            }
            None => {
                let content_type = frame.header("Content-Type").unwrap_or_default().to_string();
                let message = MsrpMessage {
                    message_id,
                    content_type,
                    body: Vec::new(),
                    chunks: 0,
                    to_path,
                    from_path: from_path.clone(),
                };
                Open { message, repeated: repeated.clone(), total: range.total, unwanted: false }
            }
        };
        if open.repeated != repeated || open.total != range.total {
            return fault(
                "all chunks repeat report headers, Content-Type and total",
                format!("{repeated:?} {range:?}"),
            );
        }
        if range.start != open.message.body.len() as u64 + 1 {
            return fault(
                "chunks follow one another without gap or overlap",
                format!("{range:?} after {} octets", open.message.body.len()),
            );
        }
        open.message.body.extend_from_slice(content);
        open.message.chunks += 1;
        match frame.flag {
            '$' => {
                self.done.insert(open.message.message_id.clone());
                Ok(Some(open.message))
            }
            '+' => {
                self.open.insert(from_path, open);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether a message was begun and not ended, by either side.
    pub fn is_open(&self) -> bool {
        self.open.values().any(|open| !open.unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msrp::read_all;

    const A: &str = "msrp://a.example.com:2855/s1;tcp";
    const B: &str = "msrp://[::1]:7777/s2;tcp";

    fn chunk(tid: &str, id: &str, start: usize, len: usize, flag: char) -> Vec<u8> {
        let body = "x".repeat(len);
        format!("MSRP {tid} SEND\r\nTo-Path: {B}\r\nFrom-Path: {A}\r\nMessage-ID: {id}\r\nByte-Range: {start}-*/5000\r\nContent-Type: text/plain\r\n\r\n{body}\r\n-------{tid}{flag}\r\n").into_bytes()
    }

    #[test]
    fn a_message_ends_with_a_flag_or_with_a_413() {
        let stream = [chunk("aaaa1", "first", 1, 2048, '+'), chunk("aaaa2", "second", 1, 5000, '$')].concat();
        let frames = read_all(&stream).unwrap();
        for (status, fine) in [(413, true), (400, false), (200, false)] {
            let mut judge = Judge::new();
            judge.hear(&frames[0]).unwrap();
            judge.answered("aaaa1", status);
            assert_eq!(judge.is_open(), !fine);
            let heard = judge.hear(&frames[1]).map(|message| message.map(|message| message.message_id));
            match heard {
                Ok(id) => assert!(fine && id.as_deref() == Some("second"), "{status}"),
                Err(violation) => {
                    assert!(!fine);
                    assert_eq!(violation.rule, "a session never puts one message into another");
                }
            }
        }
        let ended = [chunk("aaaa1", "first", 1, 2048, '+'), chunk("aaaa3", "first", 2049, 0, '#')].concat();
        let mut judge = Judge::new();
        read_all(&ended).unwrap().iter().for_each(|frame| assert_eq!(judge.hear(frame).unwrap(), None));
        assert!(!judge.is_open());
        assert!(judge.hear(&frames[1]).unwrap().is_some());
    }

    #[test]
    fn chunks_become_one_message_and_a_gap_is_seen() {
        let stream = [chunk("aaaa1", "87652491", 1, 2048, '+'), chunk("aaaa2", "87652491", 2049, 2952, '$')].concat();
        let mut judge = Judge::new();
        let heard: Vec<_> = read_all(&stream).unwrap().iter().map(|frame| judge.hear(frame).unwrap()).collect();
        assert_eq!(heard[0], None);
        assert_eq!(heard[1].as_ref().map(|message| (message.body.len(), message.chunks)), Some((5000, 2)));
        let gap = [chunk("aaaa1", "87652491", 1, 2048, '+'), chunk("aaaa2", "87652491", 2050, 2951, '$')].concat();
        let (mut judge, frames) = (Judge::new(), read_all(&gap).unwrap());
        judge.hear(&frames[0]).unwrap();
        assert_eq!(judge.hear(&frames[1]).unwrap_err().rule, "chunks follow one another without gap or overlap");
        assert_eq!(
            judge.hear(&frames[0]).unwrap_err().rule,
            "a transaction identifier is unique among those outstanding"
        );
    }
}
