//! The chain of segments under a log: the one that is written, the next, the reserve, and how new ones are asked for.

use super::{Group, Log, LogEvent, Refused, Room};
use crate::base::clock::Tick;
use crate::store::disk::{DiskFault, DiskOp, SegmentNo};
use crate::store::layout::{SEGMENT_HEAD, SegmentHead};
use crate::store::segments::Segment;
use bytes::{Bytes, BytesMut};
use std::time::Duration;

/// A failed preparation is tried again at most this often.
const RETRY: Duration = Duration::from_secs(1);

/// A file of that number is there already: what an earlier try left behind. The number is not tried again.
const EEXIST: i32 = 17;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Wanted,
    Preparing(u64),
    Ready,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Seg {
    pub(super) room: Room,
    pub(super) state: State,
}

impl Log {
    /// Lets the next turn try once more to prepare a segment after one could not be had; at most once a second.
    pub fn retry_prepare(&mut self, now: Tick) {
        if self.disk_full && !self.may_prepare && now - self.retried >= RETRY {
            self.retried = now;
            self.may_prepare = true;
        }
    }

    /// Leaves the active segment for one with `needed` octets of room.
    pub(super) fn roll(&mut self, needed: u64, essential: bool) -> Result<(), Refused> {
        if self.active.is_some_and(|seg| seg.state != State::Ready) {
            // Groups wait for it; only one segment at a time is waited for.
            return Err(Refused::Full);
        }
        let fits = |seg: &Option<Seg>| seg.is_some_and(|seg| seg.room.at + needed <= seg.room.end);
        let left = self.active.map(|seg| seg.room.segment);
        let next_serves =
            fits(&self.next) && (!self.disk_full || self.next.is_some_and(|seg| seg.state == State::Ready));
        if next_serves {
            self.active = self.next.take();
            self.on_reserve = false;
        } else if (!self.disk_full || !self.spare.is_empty())
            && self.next.is_none()
            && let Some(seg) = self.wanted()
        {
            self.active = Some(seg);
            self.on_reserve = false;
        } else if essential && fits(&self.reserve) && self.reserve.is_some_and(|seg| seg.state == State::Ready) {
            self.active = self.reserve.take();
            self.on_reserve = true;
        } else {
            return Err(Refused::DiskFull);
        }
        // Never come back to: it has its last group.
        let index = self.index.take().filter(|index| Some(index.segment()) == left);
        self.hints.extend(left.map(|left| (left, self.group, index)));
        self.leaving.extend(left);
        Ok(())
    }

    /// Seals the segments that were left and says so, with their hints, as soon as all in them is durable.
    pub(super) fn seal(&mut self, out: &mut Vec<DiskOp>) {
        let durable = self.durable_group;
        if !self.leaving.is_empty() {
            self.seal_left();
        }
        while self.hints.front().is_some_and(|(_, last, _)| *last <= durable)
            && let Some((segment, last, index)) = self.hints.pop_front()
        {
            let (ticket, log) = (self.ticket(), self.setup.core);
            let octets = index.map_or_else(Bytes::new, |index| index.finish());
            out.push(DiskOp::WriteHint { ticket, log, segment, last, octets });
        }
    }

    /// A segment of a new number, or one that recovery found unused.
    fn wanted(&mut self) -> Option<Seg> {
        if let Some(room) = self.spare.pop() {
            return Some(Seg { room, state: State::Ready });
        }
        if self.disk_full && !self.may_prepare {
            return None;
        }
        // A number whose preparation found no room has no file: it is good for the next try.
        let segment = self.unused.take().or_else(|| self.segments.fresh())?;
        let room = Room { segment, at: SEGMENT_HEAD as u64, end: self.setup.segment_octets };
        Some(Seg { room, state: State::Wanted })
    }

    /// Takes a segment that was recycled: it is written before a new one is prepared.
    pub fn offer(&mut self, room: Room) {
        self.spare.push(room);
        self.spare.sort_unstable_by_key(|room| std::cmp::Reverse(room.segment));
    }

    /// One of them, for whom the disk has no room.
    pub fn give_spare(&mut self) -> Option<SegmentNo> {
        self.spare.pop().map(|room| room.segment)
    }

    pub(super) fn set_disk_full(&mut self, full: bool) {
        if std::mem::replace(&mut self.disk_full, full) != full {
            self.segments.set_short(full);
        }
    }

    /// How many segments wait to be written.
    pub fn spares(&self) -> usize {
        self.spare.len()
    }

    /// Asks for what is missing, in this order: a segment to write, the reserve, and once that is begun the next: filling it takes as
    /// long as writing some tens of megabytes, and at 200,000 messages a second of 1 KiB a segment lasts 200 ms.
    pub(super) fn prepare(&mut self, out: &mut Vec<DiskOp>) {
        if self.active.is_none() {
            self.active = self.wanted();
            self.on_reserve = false;
        }
        let ready = self.active.is_some_and(|seg| seg.state == State::Ready);
        if ready && self.reserve.is_none() {
            self.reserve = self.wanted();
        }
        let begun = self.active.is_some_and(|seg| seg.room.at > SEGMENT_HEAD as u64) || self.on_reserve;
        if ready && begun && self.next.is_none() {
            self.next = self.wanted();
        }
        if self.disk_full && !self.may_prepare {
            return;
        }
        for which in 0..3 {
            let seg = match which {
                0 => self.active,
                1 => self.reserve,
                _ => self.next,
            };
            let Some(mut seg) = seg.filter(|seg| seg.state == State::Wanted) else { continue };
            let (ticket, segment) = (self.ticket(), seg.room.segment);
            let (log, salt) = (self.setup.core, self.segments.salt(segment));
            let mut header = BytesMut::with_capacity(SEGMENT_HEAD);
            SegmentHead { log, segment, salt, octets: seg.room.end, recycled: false }.encode(&mut header);
            out.push(DiskOp::Prepare { ticket, log, segment, octets: seg.room.end, header });
            self.segments.insert(segment, Segment { log, salt, octets: seg.room.end });
            self.may_prepare = !self.disk_full;
            seg.state = State::Preparing(ticket);
            match which {
                0 => self.active = Some(seg),
                1 => self.reserve = Some(seg),
                _ => self.next = Some(seg),
            }
            if self.disk_full {
                return;
            }
        }
    }

    pub(super) fn prepared(&mut self, ticket: u64, outcome: Result<(), DiskFault>) -> Option<LogEvent> {
        let place = [&mut self.active, &mut self.next, &mut self.reserve]
            .into_iter()
            .find(|seg| seg.is_some_and(|seg| seg.state == State::Preparing(ticket)))?;
        let Err(fault) = outcome else {
            if let Some(seg) = place {
                seg.state = State::Ready;
            }
            self.set_disk_full(false);
            self.may_prepare = true;
            return None;
        };
        let segment = place.take()?.room.segment;
        self.segments.remove(segment);
        self.set_disk_full(true);
        self.may_prepare = false;
        // What was to lie there is lost; what goes before it is not. Groups behind it can only lie in the same segment.
        let lost = |group: &Group| group.segment == segment;
        let failed = self.open.iter().chain(&self.closed).any(lost);
        self.closed.retain(|group| !lost(group));
        if self.open.as_ref().is_some_and(lost) {
            self.open = None;
        }
        self.index.take_if(|index| index.segment() == segment);
        self.hints.retain(|(left, ..)| *left != segment);
        if !failed {
            // No place in it was ever given out.
            self.unused = self.unused.or((fault != DiskFault::Errno(EEXIST)).then_some(segment));
            return None;
        }
        let left = self.open.iter().chain(&self.closed);
        self.waiting =
            left.map(|group| group.gather.len()).sum::<usize>() + self.flight.as_ref().map_or(0, |f| f.octets);
        self.group =
            self.closed.back().map_or(self.flight.as_ref().map_or(self.durable_group, |f| f.group), |g| g.head.number);
        let survivor = self.closed.back().map(|group| group.last).or(self.flight.as_ref().map(|flight| flight.last));
        Some(LogEvent::Failed { after: survivor.unwrap_or(self.durable), up_to: self.last, fault })
    }
}
