//! The limit of `push` for whoever has to read what he sends: the frames of [`crate::limit_push`], whose bodies lie in a file as the
//! daemon's log has them, each looked at and checked before it is sent.
//!
//! ```text
//!   file   │ m0 of u0 │ m0 of u1 │ ... │ m1 of u0 │ m1 of u1 │ ...      as they were deposited, or user after user
//!   write  │ head │ body of m0 │ end, head │ body of m1 │ ...           one user's, by reference
//! ```
//! The other limit sends the same half megabyte again and again: it never leaves the processor's cache. No engine that pushes from a
//! log can do that. Between the two limits lies what memory costs, and between this one and the daemon what the daemon does.

use crate::clients::{Crowd, Kept, Pushed};
use crate::daemon::Scratch;
use crate::limit_push::{self, Batch};
use crate::outcome::{Failure, Progress};
use crc_fast::CrcAlgorithm;
use memmap2::Mmap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, IoSlice, Write};
use std::net::TcpStream;
use std::path::PathBuf;

/// What a log keeps beside a body: a record's head, addresses, header lines. The daemon's is near this.
const BESIDE: usize = 256;

/// Bodies in a file, mapped.
pub struct Stored<'a> {
    batch: &'a Batch,
    /// Stretches of a message of the batch: what is sent from the batch itself, and then a part of the body.
    messages: Vec<Vec<Stretch>>,
    /// The sum of each message's body.
    sums: Vec<u32>,
    /// Octets of a body, and from one to the next in the file.
    body: usize,
    stride: usize,
    users: usize,
    each: usize,
    interleave: bool,
    mapping: Mmap,
    path: PathBuf,
}

/// Octets of the batch, then octets of the body; both from and to.
#[derive(Clone, Copy, Default)]
struct Stretch {
    frame: (usize, usize),
    body: (usize, usize),
}

impl Stored<'_> {
    /// Writes the bodies of `crowd` where the daemon has its log.
    ///
    /// # Errors
    /// No room on the disk.
    pub fn write<'a>(
        scratch: &Scratch,
        crowd: &Crowd,
        batch: &'a Batch,
        interleave: bool,
    ) -> Result<Stored<'a>, Failure> {
        let path = scratch.path().join("bodies");
        let fail = |error: io::Error| Failure(format!("{}: {error}; make room there", path.display()));
        let cut = batch.bodies();
        let bodies: Vec<Vec<u8>> = cut.iter().map(|message| joined(batch, message)).collect();
        let body = bodies.first().map_or(0, Vec::len);
        let stride = (body + BESIDE).next_multiple_of(8);
        let (users, each) = (crowd.users as usize, crowd.each as usize);
        let made = (|| {
            let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
            let mut out = BufWriter::with_capacity(1 << 20, &file);
            let beside = vec![0x55; stride - body];
            for at in 0..users * each {
                let message = if interleave { at / users } else { at % each };
                out.write_all(&beside)?;
                out.write_all(&bodies[message % bodies.len()])?;
            }
            out.flush()?;
            drop(out);
            // SAFETY: nobody but us has the file, and from now on it is only read.
            unsafe { Mmap::map(&file) }
        })();
        let messages = cut.iter().map(stretches).collect();
        let sums = bodies.iter().map(|body| sum(body)).collect();
        let mapping = made.map_err(fail)?;
        Ok(Stored { batch, messages, sums, body, stride, users, each, interleave, mapping, path })
    }

    /// Sends them all, as [`limit_push::run`] does with frames that are whole.
    ///
    /// # Errors
    /// As there.
    pub fn run(
        &self,
        crowd: &Crowd,
        kept: &Kept,
        cpus: &[usize],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<(Pushed, f64), Failure> {
        let send = |streams: &[TcpStream], first: usize, step: usize| {
            limit_push::send(streams, self.batch, self.each, |nth, stream, from, count| {
                self.write_to(stream, first + nth * step, from, count)
            })
        };
        limit_push::run_with_sender(crowd, kept, self.batch, cpus, threads, progress, &send)
    }

    /// `count` messages of a user from number `from` on, in one write.
    fn write_to(&self, mut stream: &TcpStream, user: usize, from: usize, count: usize) -> io::Result<()> {
        let mut pieces = Vec::with_capacity(2 * count * self.messages.first().map_or(1, Vec::len));
        for nth in 0..count {
            // A write begins where the batch begins.
            let number = from + nth;
            let at = if self.interleave { number * self.users + user } else { user * self.each + number };
            let end = (at + 1) * self.stride;
            let body = &self.mapping[end - self.body..end];
            if sum(body) != self.sums[nth] {
                return Err(io::Error::other("a body is not what was written"));
            }
            for stretch in &self.messages[nth] {
                pieces.push(IoSlice::new(&self.batch.octets()[stretch.frame.0..stretch.frame.1]));
                if stretch.body.1 > stretch.body.0 {
                    pieces.push(IoSlice::new(&body[stretch.body.0..stretch.body.1]));
                }
            }
        }
        let mut rest = &mut pieces[..];
        while !rest.is_empty() {
            let most = rest.len().min(libc::UIO_MAXIOV as usize);
            let written = stream.write_vectored(&rest[..most])?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }
}

impl Drop for Stored<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// As the daemon has it over its records.
fn sum(body: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, body) as u32
}

/// A whole body.
fn joined(batch: &Batch, message: &limit_push::Bodies) -> Vec<u8> {
    message.parts.iter().flat_map(|&(from, to)| &batch.octets()[from..to]).copied().collect()
}

/// Of one message: what lies between the parts of its body, and the parts.
fn stretches(message: &limit_push::Bodies) -> Vec<Stretch> {
    let (mut at, mut done, mut out) = (message.from, 0, Vec::new());
    for &(from, to) in &message.parts {
        out.push(Stretch { frame: (at, from), body: (done, done + (to - from)) });
        (at, done) = (to, done + (to - from));
    }
    out.push(Stretch { frame: (at, message.to), body: (0, 0) });
    out
}
