//! The limit of `push`: blocking writers of prebuilt frames, to the same clients, on the daemon's processors.
//!
//! The frames are the daemon's own, captured from a push of the same message: same headers, same body, same chunks. Nothing is read
//! from a log, no answer is looked at, no window is kept: the answers are only taken out of the socket.

use crate::capture::{MARKED, replace};
use crate::clients::{Crowd, Kept, Pushed, Way, run_with};
use crate::deposit::STALL;
use crate::limit_ingest::listen;
use crate::msrp::{self, Kind};
use crate::outcome::{Failure, Progress};
use crate::pin;
use crate::sip::hex;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Instant;

/// Messages of one write: design 4 found 128 enough.
const BATCH: usize = 128;
/// Octets of one write at most: it stays in the second cache.
const BATCH_OCTETS: usize = 512 * 1024;

/// Prebuilt frames.
#[derive(Debug)]
pub struct Batch {
    octets: Vec<u8>,
    /// Octets of a message, all its chunks.
    message: usize,
    /// Chunks of a message.
    chunks: usize,
    /// Octets of a client's answer to one chunk.
    answer: usize,
}

/// Where one message lies in a batch, and the parts of its body.
#[derive(Debug)]
pub struct Bodies {
    pub from: usize,
    pub to: usize,
    pub parts: Vec<(usize, usize)>,
}

impl Batch {
    /// Of a captured push of one message.
    ///
    /// # Errors
    /// What was captured is not one whole message.
    pub fn of(kept: &Kept) -> Result<Batch, Failure> {
        let not_one = || Failure("the daemon's push of one message could not be captured; please report it".into());
        let (mut chunks, mut at, mut answer) = (Vec::new(), 0, 0);
        while let Ok(Some(frame)) = msrp::cut(&kept.frames[at..]) {
            chunks.push((kept.frames[at..at + frame.len].to_vec(), frame.tid.to_vec()));
            let mut out = Vec::new();
            msrp::answer(&mut out, frame.tid, &msrp::answer_middle(&kept.their_path, &kept.our_path));
            answer = out.len();
            at += frame.len;
        }
        if chunks.is_empty() || at != kept.frames.len() {
            return Err(not_one());
        }
        let count = BATCH.min(BATCH_OCTETS / at).max(1);
        let mut octets = Vec::with_capacity(count * at);
        for message in 0..count {
            for (nth, (frame, tid)) in chunks.iter().enumerate() {
                let mut frame = frame.clone();
                let digits = hex((message * chunks.len() + nth) as u32);
                let mut own = tid.clone();
                let end = own.len();
                own[end - 4..].copy_from_slice(&digits[4..]);
                replace(&mut frame, tid, &own);
                replace(&mut frame, &hex(MARKED[1]), &hex(message as u32));
                octets.extend_from_slice(&frame);
            }
        }
        Ok(Batch { octets, message: at, chunks: chunks.len(), answer })
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Where the bodies of its messages lie.
    pub fn bodies(&self) -> Vec<Bodies> {
        let mut all = Vec::with_capacity(self.messages());
        for from in (0..self.octets.len()).step_by(self.message) {
            let (to, mut parts, mut at) = (from + self.message, Vec::new(), from);
            while let Ok(Some(frame)) = msrp::cut(&self.octets[at..to]) {
                let begin = at + frame.body.as_ptr() as usize - self.octets[at..].as_ptr() as usize;
                parts.push((begin, begin + frame.body.len()));
                at += frame.len;
            }
            all.push(Bodies { from, to, parts });
        }
        all
    }

    /// Messages in it.
    pub fn messages(&self) -> usize {
        self.octets.len() / self.message
    }

    /// Octets of a message on the wire, heads and end-lines included.
    pub fn message_octets(&self) -> usize {
        self.message
    }
}

/// Sends `crowd.each` messages to every client of a crowd, whose way is replaced by the direct one.
///
/// # Errors
/// As [`run_with`], and broken connections.
pub fn run(
    crowd: &Crowd,
    kept: &Kept,
    batch: &Batch,
    cpus: &[usize],
    threads: usize,
    progress: &dyn Progress,
) -> Result<(Pushed, f64), Failure> {
    let each = crowd.each as usize;
    let whole = |streams: &[TcpStream], _, _| {
        send(streams, batch, each, |_, mut stream, _, count| stream.write_all(&batch.octets[..count * batch.message]))
    };
    run_with_sender(crowd, kept, batch, cpus, threads, progress, &whole)
}

/// What a thread sends on its connections: those of users `first`, `first + step`, ...
pub type Sender<'a> = &'a (dyn Fn(&[TcpStream], usize, usize) -> io::Result<()> + Sync);

/// As [`run`], with a sender of one's own.
///
/// # Errors
/// As there.
pub fn run_with_sender(
    crowd: &Crowd,
    kept: &Kept,
    batch: &Batch,
    cpus: &[usize],
    threads: usize,
    progress: &dyn Progress,
    send: Sender<'_>,
) -> Result<(Pushed, f64), Failure> {
    let fail = |error: io::Error| Failure(format!("the limit's sender: {error}; free ports, then try again"));
    // With room for all of them to knock at once.
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).map_err(fail)?;
    listener.set_nonblocking(false).map_err(fail)?;
    let addr = listener.local_addr().map_err(fail)?;
    let cycle = batch.messages() as u32;
    let way = Way::Direct { addr, their_path: kept.their_path.clone(), our_path: kept.our_path.clone(), cycle };
    let crowd = Crowd { way, slow: 0.0, silent: 0.0, keep: false, ..crowd.clone() };
    let mut seconds = 0.0;
    let took = &mut seconds;
    let users = crowd.users as usize;
    let pushed = run_with(&crowd, progress, move || {
        pin::pin(cpus);
        let mut streams = Vec::with_capacity(users);
        for _ in 0..users {
            streams.push(bound(&listener).map_err(fail)?);
        }
        let began = Instant::now();
        let mut shares: Vec<Vec<TcpStream>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
        let count = shares.len();
        streams.into_iter().enumerate().for_each(|(nth, stream)| shares[nth % count].push(stream));
        let ends: Vec<io::Result<()>> = thread::scope(|scope| {
            let senders: Vec<_> = shares
                .iter()
                .enumerate()
                .map(|(nth, streams)| {
                    scope.spawn(move || {
                        if let Some(cpu) = cpus.get(nth % cpus.len().max(1)) {
                            pin::pin(&[*cpu]);
                        }
                        send(streams, nth, count)
                    })
                })
                .collect();
            let panicked = || Err(io::Error::other("a thread panicked: please report it"));
            senders.into_iter().map(|sender| sender.join().unwrap_or_else(|_| panicked())).collect()
        });
        *took = began.elapsed().as_secs_f64();
        ends.into_iter().collect::<io::Result<()>>().map_err(fail)
    })?;
    Ok((pushed, seconds))
}

/// The next client, when its first SEND has come and was answered.
fn bound(listener: &TcpListener) -> io::Result<TcpStream> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    let (mut got, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        match msrp::cut(&got) {
            Ok(Some(frame)) if frame.kind == Kind::Send => {
                let mut out = Vec::new();
                msrp::answer(&mut out, frame.tid, &msrp::answer_middle(frame.from_path, frame.to_path));
                stream.write_all(&out)?;
                return Ok(stream);
            }
            Ok(None) => {
                let read = stream.read(&mut chunk)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                got.extend_from_slice(&chunk[..read]);
            }
            _ => return Err(io::Error::other("a client did not begin with a SEND")),
        }
    }
}

/// A batch to each in turn, until everybody has everything and has answered it. `write` sends so many messages from a number on to
/// the nth.
pub fn send(
    streams: &[TcpStream],
    batch: &Batch,
    each: usize,
    write: impl Fn(usize, &TcpStream, usize, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut answered = vec![0usize; streams.len()];
    let mut buffer = vec![0u8; 128 * 1024];
    let mut sent = 0;
    while sent < each {
        let count = batch.messages().min(each - sent);
        for (nth, (stream, answered)) in streams.iter().zip(&mut answered).enumerate() {
            write(nth, stream, sent, count)?;
            // What is there already, without waiting.
            // SAFETY: the buffer is ours and as long as we say; the descriptor is open.
            let read =
                unsafe { libc::recv(stream.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
            *answered += usize::try_from(read).unwrap_or(0);
        }
        sent += count;
    }
    let all = each * batch.chunks * batch.answer;
    for (stream, answered) in streams.iter().zip(&mut answered) {
        let mut from = stream;
        while *answered < all {
            match from.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => *answered += read,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let body =
            format!("--b\r\nContent-Type: message/sip\r\n\r\nCall-ID: m-{:08x}-{:08x}\r\n--b--", MARKED[0], MARKED[1]);
        let (first, second) = body.split_at(30);
        let total = body.len();
        let frame = |tid: &str, from: usize, part: &str, flag: char| {
            format!(
                "MSRP {tid} SEND\r\nTo-Path: msrp://c:1/cdead0001;tcp\r\nFrom-Path: msrp://d:2/s;tcp\r\nMessage-ID: 0123456789\r\n\
                 Byte-Range: {from}-{}/{total}\r\nContent-Type: a/b\r\n\r\n{part}\r\n-------{tid}{flag}\r\n",
                from + part.len() - 1
            )
        };
        let frames = frame("00aa00bb00cc00dd0001", 1, first, '+') + &frame("00aa00bb00cc00dd0002", 31, second, '$');
        Kept {
            sip: Vec::new(),
            frames: frames.into_bytes(),
            their_path: b"msrp://d:2/s;tcp".to_vec(),
            our_path: b"msrp://c:1/cdead0001;tcp".to_vec(),
        }
    }

    #[test]
    fn a_batch_is_the_captured_message_many_times_with_numbers_of_its_own() {
        let batch = Batch::of(&kept()).unwrap();
        assert_eq!((batch.messages(), batch.chunks), (BATCH, 2));
        let (mut at, mut frames) = (0, 0usize);
        while at < batch.octets.len() {
            let frame = msrp::cut(&batch.octets[at..]).unwrap().unwrap();
            assert!(frame.tid.ends_with(format!("{frames:04x}").as_bytes()));
            if frame.flag == b'$' {
                let number = format!("Call-ID: m-{:08x}-{:08x}", MARKED[0], frames / 2);
                assert!(String::from_utf8_lossy(&batch.octets[at..at + frame.len]).contains(&number[20..]));
            }
            at += frame.len;
            frames += 1;
        }
        assert_eq!(frames, 2 * BATCH);
        assert!(Batch::of(&Kept::default()).is_err());
    }

    #[test]
    fn clients_take_the_limit_whole_and_answer_it() {
        struct Nobody;
        impl Progress for Nobody {
            fn phase(&self, _name: &str, _total: u64) {}
            fn done(&self, _done: u64) {}
        }
        let mut kept = kept();
        // One whole chunk, so that its number is in the first.
        let text = String::from_utf8(kept.frames.clone()).unwrap();
        let body = format!(
            "{}{}",
            &text[text.find("--b").unwrap()..][..30],
            text.rsplit("\r\n\r\nContent").next().map_or("", |_| "")
        );
        let body = format!("{body}Call-ID: m-{:08x}-{:08x}\r\n", MARKED[0], MARKED[1]);
        kept.frames = format!(
            "MSRP 00aa00bb00cc00dd0001 SEND\r\nTo-Path: msrp://c:1/cdead0001;tcp\r\nFrom-Path: msrp://d:2/s;tcp\r\nMessage-ID: 0123\r\n\
             Byte-Range: 1-{}/{}\r\nContent-Type: a/b\r\n\r\n{body}\r\n-------00aa00bb00cc00dd0001$\r\n",
            body.len(),
            body.len()
        )
        .into_bytes();
        let batch = Batch::of(&kept).unwrap();
        let crowd = Crowd {
            to: ([127, 0, 0, 1], 9).into(),
            way: Way::Sip,
            first_user: 0,
            users: 5,
            first_seq: 0,
            each: 300,
            sip_connections: 1,
            setup: crate::outcome::Setup::Active,
            slow: 0.0,
            silent: 0.0,
            pace: crate::deposit::Pace::Peak,
            publish_seq: 0,
            cpus: pin::allowed(),
            pin: false,
            keep: false,
        };
        let (pushed, _) = run(&crowd, &kept, &batch, &pin::allowed(), 2, &Nobody).unwrap();
        assert_eq!((pushed.messages, pushed.errors, pushed.first_error), (1500, 0, None));
        assert_eq!(pushed.octets, 1500 * body.len() as u64);
        let scratch = crate::daemon::Scratch::new(None, "test").unwrap();
        for interleave in [true, false] {
            let stored = crate::limit_log::Stored::write(&scratch, &crowd, &batch, interleave).unwrap();
            let (pushed, _) = stored.run(&crowd, &kept, &pin::allowed(), 2, &Nobody).unwrap();
            assert_eq!((pushed.messages, pushed.errors, pushed.first_error), (1500, 0, None));
            assert_eq!(pushed.octets, 1500 * body.len() as u64);
        }
    }
}
