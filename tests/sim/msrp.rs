//! A small reader of MSRP, on purpose not the daemon's: whole frames out of a stream.

use memchr::memmem;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) tid: String,
    /// `SEND`, `REPORT`, or the three digits of a response.
    pub(crate) kind: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// `$`, `+` or `#`.
    pub(crate) flag: u8,
}

impl Frame {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// The status, when it is a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.kind.parse().ok()
    }

    /// First octet of the message that this chunk carries, from 1, and the whole message's length where it is told.
    pub(crate) fn range(&self) -> (u64, Option<u64>) {
        let text = self.header("Byte-Range");
        let start = text.split('-').next().and_then(|start| start.parse().ok()).unwrap_or(1);
        (start, text.rsplit('/').next().and_then(|total| total.parse().ok()))
    }
}

/// Octets in, frames out.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    /// No end-line begins before here.
    scanned: usize,
}

impl Reader {
    /// Takes in octets; `Err` says what is not MSRP about them.
    pub(crate) fn feed(&mut self, octets: &[u8], out: &mut Vec<Frame>) -> Result<(), String> {
        self.buffer.extend_from_slice(octets);
        while let Some((frame, len)) = self.next()? {
            self.buffer.drain(..len);
            self.scanned = 0;
            out.push(frame);
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Frame, usize)>, String> {
        let Some(line_end) = memmem::find(&self.buffer, b"\r\n") else { return Ok(None) };
        let start = String::from_utf8_lossy(&self.buffer[..line_end]).into_owned();
        let mut words = start.split(' ');
        let (Some("MSRP"), Some(tid), Some(kind)) = (words.next(), words.next(), words.next()) else {
            return Err(format!("not a start-line: {start:?}"));
        };
        let border = format!("\r\n-------{tid}");
        let from = self.scanned.max(line_end);
        let Some(at) = memmem::find(&self.buffer[from..], border.as_bytes()).map(|at| at + from) else {
            self.scanned = self.buffer.len().saturating_sub(border.len()).max(line_end);
            return Ok(None);
        };
        let Some(&[flag, b'\r', b'\n']) = self.buffer.get(at + border.len()..at + border.len() + 3) else {
            self.scanned = at;
            return match self.buffer.len() < at + border.len() + 3 {
                true => Ok(None),
                false => Err(format!("{start}: its end-line's beginning stands inside the message")),
            };
        };
        if !b"$+#".contains(&flag) {
            return Err(format!("{start}: flag {flag}"));
        }
        let inner = &self.buffer[(line_end + 2).min(at)..at];
        let (head, body) = match memmem::find(inner, b"\r\n\r\n") {
            Some(blank) => (&inner[..blank], inner[blank + 4..].to_vec()),
            None => (inner, Vec::new()),
        };
        let head = String::from_utf8_lossy(head);
        let mut headers = Vec::new();
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(": ") else { return Err(format!("{start}: header {line:?}")) };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let frame = Frame { tid: tid.to_owned(), kind: kind.to_owned(), headers, body, flag };
        Ok(Some((frame, at + border.len() + 3)))
    }
}

/// The response to a request that came with these paths.
pub(crate) fn response(request: &Frame, own_path: &str, status: u16) -> Vec<u8> {
    let to = request.header("From-Path").split(' ').next().unwrap_or_default();
    let tid = &request.tid;
    format!("MSRP {tid} {status} said\r\nTo-Path: {to}\r\nFrom-Path: {own_path}\r\n-------{tid}$\r\n").into_bytes()
}

/// The SEND without a body that binds a connection.
pub(crate) fn binding(tid: &str, to: &str, own_path: &str) -> Vec<u8> {
    format!(
        "MSRP {tid} SEND\r\nTo-Path: {to}\r\nFrom-Path: {own_path}\r\nMessage-ID: {tid}\r\nByte-Range: 1-0/0\r\n\
         -------{tid}$\r\n"
    )
    .into_bytes()
}

/// A REPORT that nobody asked for: all of a message has failed.
pub(crate) fn report(tid: &str, to: &str, own_path: &str, message_id: &str) -> Vec<u8> {
    format!(
        "MSRP {tid} REPORT\r\nTo-Path: {to}\r\nFrom-Path: {own_path}\r\nMessage-ID: {message_id}\r\n\
         Byte-Range: 1-9/9\r\nStatus: 000 413\r\n-------{tid}$\r\n"
    )
    .into_bytes()
}

/// Host and port of `msrp://host:port/session;tcp`.
pub(crate) fn host_port(uri: &str) -> Option<std::net::SocketAddr> {
    uri.strip_prefix("msrp://")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_octets_come_in() {
        let mut octets =
            b"MSRP abcd SEND\r\nTo-Path: msrp://a:1/x;tcp\r\nFrom-Path: msrp://b:2/y;tcp\r\nMessage-ID: 9\r\n\
            Byte-Range: 1-9/9\r\nContent-Type: text/plain\r\n\r\nhe\r\n-----x\r\n-------abcd$\r\n"
                .to_vec();
        octets.extend(binding("ffff", "msrp://a:1/x;tcp", "msrp://b:2/y;tcp"));
        for step in [1, 3, octets.len()] {
            let (mut reader, mut out) = (Reader::default(), Vec::new());
            for part in octets.chunks(step) {
                reader.feed(part, &mut out).expect("it is MSRP");
            }
            assert_eq!(out.len(), 2);
            assert_eq!(out[0].body, b"he\r\n-----x");
            assert_eq!(out[1].header("message-id"), "ffff");
            assert_eq!(out[1].body, b"");
            assert_eq!(host_port(out[0].header("To-Path")), None);
        }
    }
}
