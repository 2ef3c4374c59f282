//! The daemon's part in `deferctl backup`: segments are held back while their files are copied, and it is said which they are and how
//! much of each is durable. The copying itself is not done here.
//!
//! ```text
//!   backup-begin ──▶ no segment goes ──▶ each core's cut ──▶ (files are copied; backup-hold now and then) ──▶ backup-end
//! ```
//! The connection is the lease: when it ends, however, segments may go again.
//!
//! Why the cuts need not be made at one instant: each holds all that its log had made durable by then, so whatever was answered before
//! `backup-begin` is in one of them. Of what comes while the cuts are made some is in, some is not, each message whole or
//! not at all. A tombstone that names a record behind another log's cut names nothing, and never will name anything: the copy's manifest
//! has the cut segments sealed where they were cut, and numbers of segments never come again.

use super::operator::{Excuse, Operator};
use crate::deferred::inquiry::{Answer, Copying, Question, ToCopy};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A segment on its way out is gone within a few turns, unless the disk hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether it is.
const PAUSE: Duration = Duration::from_millis(5);

/// Who is at the other end of a connection, and what is held for them.
#[derive(Debug, Default)]
pub struct Caller {
    copies: bool,
}

impl Operator {
    /// Holds the segments, and says which there are.
    pub(super) fn backup_begin(&self, caller: &mut Caller) -> Result<Value, Excuse> {
        if self.copying.swap(true, Ordering::AcqRel) {
            return Err("a backup is under way already; wait for its end".into());
        }
        caller.copies = true;
        self.ask(&Question::Copying(Copying::Begin))?;
        let data_dir = self.data_dir()?;
        let until = Instant::now() + PATIENCE;
        loop {
            let answers = self.ask(&Question::Copying(Copying::Cut))?;
            if !answers.iter().any(|answer| matches!(answer, Answer::Busy)) {
                let segments =
                    answers.iter().flat_map(|answer| if let Answer::Cut(list) = answer { &list[..] } else { &[] });
                return Ok(json!({ "data_dir": data_dir, "segments": segments.map(to_copy).collect::<Vec<_>>() }));
            }
            if Instant::now() > until {
                return Err("a segment is being removed and does not go; look at the disk below data_dir".into());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The copy is whole, or given up. Says whether all files stayed as they were.
    pub(super) fn backup_end(&self, caller: &mut Caller) -> Result<Value, Excuse> {
        if !caller.copies {
            return Err("no backup is under way on this connection".into());
        }
        match self.let_go(caller)? {
            true => Ok(json!({ "held": true })),
            false => {
                Err("the disk was full and a segment had to go meanwhile: the copy is not whole, make another".into())
            }
        }
    }

    /// The connection has ended.
    pub fn gone(&self, caller: &mut Caller) {
        if caller.copies {
            let _ = self.let_go(caller);
        }
    }

    fn let_go(&self, caller: &mut Caller) -> Result<bool, Excuse> {
        caller.copies = false;
        let answers = self.ask(&Question::Copying(Copying::End));
        self.copying.store(false, Ordering::Release);
        Ok(answers?.iter().any(|answer| matches!(answer, Answer::Done)))
    }
}

fn to_copy(segment: &ToCopy) -> Value {
    json!({
        "log": segment.log.0, "segment": segment.segment.0,
        "octets": segment.octets, "durable": segment.durable, "last": segment.last,
    })
}
