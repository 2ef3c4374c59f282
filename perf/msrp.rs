//! MSRP as a client reads and answers it: whole frames, every header, every length; one response each, made of three copies.
//!
//! Shares no code with the daemon. A frame that is not exactly as RFC 4975 says is an error, not a guess.

use memchr::{memchr, memmem};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Send,
    Report,
    /// A response with this status.
    Response(u16),
}

/// One whole frame at the start of some octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub tid: &'a [u8],
    pub to_path: &'a [u8],
    pub from_path: &'a [u8],
    /// First octet of the message in this frame, from 1, and the message's length.
    pub start: u64,
    pub total: u64,
    /// Empty where there is none.
    pub body: &'a [u8],
    /// `$`, `+` or `#`.
    pub flag: u8,
    /// Octets in all.
    pub len: usize,
}

/// Why octets are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMsrp {
    StartLine,
    /// To-Path and From-Path come first, in this order.
    Paths,
    Header,
    /// No Message-ID, or one longer than 32 octets.
    MessageId,
    /// A SEND without a Byte-Range, or one whose numbers do not fit together.
    ByteRange,
    /// The body is not followed by its end-line where the range says it ends.
    EndLine,
}

/// Longest start-line and headers that is waited for.
const HEAD_MAX: usize = 4096;

/// The first frame; `None` while it is not all there.
#[inline]
pub fn cut(octets: &[u8]) -> Result<Option<Frame<'_>>, NotMsrp> {
    let Some(rest) = octets.strip_prefix(b"MSRP ") else {
        return if b"MSRP ".starts_with(octets) { Ok(None) } else { Err(NotMsrp::StartLine) };
    };
    let Some(end) = memchr(b'\n', rest) else { return more(octets) };
    let line = rest[..end].strip_suffix(b"\r").ok_or(NotMsrp::StartLine)?;
    let blank = memchr(b' ', line).filter(|at| (4..=32).contains(at)).ok_or(NotMsrp::StartLine)?;
    let (tid, what) = (&line[..blank], &line[blank + 1..]);
    let kind = match what {
        b"SEND" => Kind::Send,
        b"REPORT" => Kind::Report,
        [a, b, c, ..] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => {
            Kind::Response(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => return Err(NotMsrp::StartLine),
    };
    let mut frame = Frame { kind, tid, to_path: b"", from_path: b"", start: 0, total: 0, body: b"", flag: 0, len: 0 };
    let (mut has_id, mut range, mut typed) = (false, None, false);
    let mut at = 5 + end + 1;
    for nth in 0.. {
        let rest = &octets[at..];
        let Some(end) = memchr(b'\n', rest) else { return more(octets) };
        let line = rest[..end].strip_suffix(b"\r").ok_or(NotMsrp::Header)?;
        at += end + 1;
        if nth < 2 {
            let (name, place): (&[u8], _) = match nth {
                0 => (b"To-Path: ", &mut frame.to_path),
                _ => (b"From-Path: ", &mut frame.from_path),
            };
            *place = line.strip_prefix(name).ok_or(NotMsrp::Paths)?;
        } else if line.is_empty() {
            // Content follows.
            if kind == Kind::Send && (!has_id || !typed) {
                return Err(if has_id { NotMsrp::Header } else { NotMsrp::MessageId });
            }
            return with_body(octets, at, frame, range.ok_or(NotMsrp::ByteRange)?);
        } else if let Some(end) = line.strip_prefix(b"-------") {
            frame.flag = end_of(end, tid)?;
            if let Some((start, end, total)) = range {
                // Bodiless: 1-0/0.
                if kind == Kind::Send && (start, end, total) != (1, Some(0), 0) {
                    return Err(NotMsrp::ByteRange);
                }
                (frame.start, frame.total) = (start, total);
            }
            if kind == Kind::Send && !has_id {
                return Err(NotMsrp::MessageId);
            }
            frame.len = at;
            return Ok(Some(frame));
        } else if let Some(id) = line.strip_prefix(b"Message-ID: ") {
            has_id = (4..=32).contains(&id.len());
        } else if let Some(value) = line.strip_prefix(b"Byte-Range: ") {
            range = Some(byte_range(value).ok_or(NotMsrp::ByteRange)?);
        } else if line.starts_with(b"Content-Type: ") {
            typed = true;
        } else if memchr(b':', line).is_none_or(|at| at == 0) {
            return Err(NotMsrp::Header);
        }
    }
    Ok(None)
}

fn more(octets: &[u8]) -> Result<Option<Frame<'_>>, NotMsrp> {
    if octets.len() > HEAD_MAX { Err(NotMsrp::Header) } else { Ok(None) }
}

#[inline]
fn with_body<'a>(
    octets: &'a [u8],
    at: usize,
    mut frame: Frame<'a>,
    (start, end, total): (u64, Option<u64>, u64),
) -> Result<Option<Frame<'a>>, NotMsrp> {
    let tid = frame.tid;
    let rest = &octets[at..];
    let len = match end {
        Some(end) if end + 1 >= start && end <= total => (end + 1 - start) as usize,
        Some(_) => return Err(NotMsrp::ByteRange),
        // `*`: the end-line says where it ends.
        None => {
            let mut mark = b"\r\n-------".to_vec();
            mark.extend_from_slice(tid);
            match memmem::find(rest, &mark) {
                Some(len) => len,
                None => return Ok(None),
            }
        }
    };
    let end = len + 2 + 7 + tid.len() + 1 + 2;
    if rest.len() < end {
        return Ok(None);
    }
    let tail = rest[len..end].strip_prefix(b"\r\n-------").ok_or(NotMsrp::EndLine)?;
    let tail = tail.strip_suffix(b"\r\n").ok_or(NotMsrp::EndLine)?;
    frame.flag = end_of(tail, tid)?;
    (frame.start, frame.total, frame.body, frame.len) = (start, total, &rest[..len], at + end);
    let last = start + len as u64 == total + 1;
    if (frame.flag == b'$') != last && frame.flag != b'#' {
        return Err(NotMsrp::ByteRange);
    }
    Ok(Some(frame))
}

/// Transaction id and flag.
fn end_of(line: &[u8], tid: &[u8]) -> Result<u8, NotMsrp> {
    match line.strip_prefix(tid) {
        Some([flag @ (b'$' | b'+' | b'#')]) => Ok(*flag),
        _ => Err(NotMsrp::EndLine),
    }
}

/// `start-end/total`; an end of `*` is `None`, a total of `*` is none that this side can check.
fn byte_range(value: &[u8]) -> Option<(u64, Option<u64>, u64)> {
    let dash = memchr(b'-', value)?;
    let slash = memchr(b'/', value)?;
    let end = value.get(dash + 1..slash)?;
    let end = if end == b"*" { None } else { Some(decimal(end)?) };
    Some((decimal(&value[..dash]).filter(|start| *start > 0)?, end, decimal(&value[slash + 1..])?))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

/// What every 200 of a session has between its two transaction ids.
pub fn answer_middle(their_path: &[u8], our_path: &[u8]) -> Box<[u8]> {
    let mut middle = b" 200 OK\r\nTo-Path: ".to_vec();
    middle.extend_from_slice(their_path);
    middle.extend_from_slice(b"\r\nFrom-Path: ");
    middle.extend_from_slice(our_path);
    middle.extend_from_slice(b"\r\n-------");
    middle.into_boxed_slice()
}

/// Appends a 200.
#[inline]
pub fn answer(out: &mut Vec<u8>, tid: &[u8], middle: &[u8]) {
    out.reserve(2 * tid.len() + middle.len() + 8);
    out.extend_from_slice(b"MSRP ");
    out.extend_from_slice(tid);
    out.extend_from_slice(middle);
    out.extend_from_slice(tid);
    out.extend_from_slice(b"$\r\n");
}

/// The SEND without content that binds a connection to its session (RFC 4975 5.4).
pub fn bind(their_path: &[u8], our_path: &[u8], tid: &[u8]) -> Vec<u8> {
    let mut out = b"MSRP ".to_vec();
    for part in [
        tid,
        b" SEND\r\nTo-Path: ",
        their_path,
        b"\r\nFrom-Path: ",
        our_path,
        b"\r\nMessage-ID: ",
        tid,
        b"\r\nByte-Range: 1-0/0\r\n-------",
        tid,
        b"$\r\n",
    ] {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: &[u8] = b"MSRP d93kswow SEND\r\nTo-Path: msrp://b:1/x;tcp\r\nFrom-Path: msrp://a:2/y;tcp\r\nMessage-ID: 12339sdqwer\r\n\
        Byte-Range: 1-16/19\r\nContent-Type: text/plain\r\n\r\nHi, I'm Alice!\r\n\r\n-------d93kswow+\r\n";

    #[test]
    fn a_chunk_is_read_whole_or_not_at_all() {
        for end in 0..CHUNK.len() {
            assert_eq!(cut(&CHUNK[..end]), Ok(None), "{end}");
        }
        let frame = cut(CHUNK).unwrap().unwrap();
        assert_eq!(
            (frame.kind, frame.tid, frame.flag, frame.len),
            (Kind::Send, b"d93kswow".as_slice(), b'+', CHUNK.len())
        );
        assert_eq!((frame.start, frame.total, frame.body), (1, 19, b"Hi, I'm Alice!\r\n".as_slice()));
        assert_eq!((frame.to_path, frame.from_path), (b"msrp://b:1/x;tcp".as_slice(), b"msrp://a:2/y;tcp".as_slice()));
    }

    #[test]
    fn what_does_not_fit_together_is_an_error() {
        let text = String::from_utf8(CHUNK.to_vec()).unwrap();
        for (old, new, why) in [
            ("MSRP ", "MSRQ ", NotMsrp::StartLine),
            (" SEND", " TAKE", NotMsrp::StartLine),
            ("To-Path", "To-Part", NotMsrp::Paths),
            ("Message-ID: 12339sdqwer", "Message-ID: 1", NotMsrp::MessageId),
            ("Byte-Range: 1-16/19", "Byte-Range: 1-16/9", NotMsrp::ByteRange),
            ("Byte-Range: 1-16/19", "Byte-Range: 0-15/19", NotMsrp::ByteRange),
            ("Byte-Range: 1-16/19", "X-Range: 1-16/19", NotMsrp::ByteRange),
            ("Byte-Range: 1-16/19", "Byte-Range: 1-15/19", NotMsrp::EndLine),
            ("-------d93kswow+", "-------d93kswoq+", NotMsrp::EndLine),
            ("-------d93kswow+", "-------d93kswow$", NotMsrp::ByteRange),
            ("Content-Type: text/plain\r\n", "", NotMsrp::Header),
        ] {
            assert_eq!(cut(text.replace(old, new).as_bytes()), Err(why), "{new}");
        }
        assert!(matches!(cut(&[b"MSRP abcd SEND\r\n".as_slice(), &[b'x'; 5000]].concat()), Err(NotMsrp::Header)));
    }

    #[test]
    fn an_open_range_ends_where_its_end_line_is() {
        let open = String::from_utf8(CHUNK.to_vec()).unwrap().replace("1-16/19", "1-*/19");
        assert_eq!(cut(open.as_bytes()).unwrap().unwrap().body, b"Hi, I'm Alice!\r\n");
    }

    #[test]
    fn what_is_written_is_read() {
        let frame = bind(b"msrp://a:2/y;tcp", b"msrp://b:1/x;tcp", b"a786hjs2");
        let got = cut(&frame).unwrap().unwrap();
        assert_eq!((got.kind, got.body.len(), got.flag, got.len), (Kind::Send, 0, b'$', frame.len()));
        let mut out = Vec::new();
        answer(&mut out, got.tid, &answer_middle(got.from_path, got.to_path));
        let response = cut(&out).unwrap().unwrap();
        assert_eq!(
            (response.kind, response.tid, response.len),
            (Kind::Response(200), b"a786hjs2".as_slice(), out.len())
        );
        assert_eq!(response.to_path, b"msrp://b:1/x;tcp");
    }
}
