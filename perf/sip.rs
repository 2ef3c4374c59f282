//! SIP, as far as load and clients speak it: templates with places for numbers, and messages read loosely but not blindly.
//!
//! Shares no code with the daemon: what both sides misread in the same way would look right. Made for speed: the octets of a
//! request are laid out once, then only digits change.

use memchr::memmem;

/// Octets of a number in a template.
pub const DIGITS: usize = 8;

/// In the text of a template: who it is for.
pub const USER: &str = "UUUUUUUU";
/// In the text of a template: which of the user's messages.
pub const SEQ: &str = "SSSSSSSS";
/// In the text of a template: which of its connection's messages; it comes back in the answer's Via.
pub const INDEX: &str = "XXXXXXXX";

/// What comes before [`USER`], [`SEQ`] and [`INDEX`] in the branch of a request of ours.
pub const BRANCH: &[u8] = b"branch=z9hG4bK";

/// `number` as eight lower-case hex digits.
#[inline]
pub fn hex(number: u32) -> [u8; DIGITS] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; DIGITS];
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = HEX[(number >> (28 - 4 * at)) as usize & 15];
    }
    digits
}

/// The number of eight hex digits at the start; `None` for anything else.
#[inline]
pub fn number(octets: &[u8]) -> Option<u32> {
    octets.get(..DIGITS)?.iter().try_fold(0u32, |sum, octet| {
        let digit = match octet {
            b'0'..=b'9' => octet - b'0',
            b'a'..=b'f' => octet - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u32::from(digit))
    })
}

/// Octets with places for three numbers.
#[derive(Clone, Debug)]
pub struct Template {
    octets: Vec<u8>,
    /// Where each of user, sequence and index stands.
    places: [Vec<usize>; 3],
}

impl Template {
    /// Of a text in which [`USER`], [`SEQ`] and [`INDEX`] stand where the numbers go.
    pub fn new(octets: Vec<u8>) -> Template {
        let places = [USER, SEQ, INDEX].map(|mark| memmem::find_iter(&octets, mark.as_bytes()).collect());
        Template { octets, places }
    }

    /// The same with `new` where `old` of the same length stands.
    pub fn with(&self, old: &[u8], new: &[u8]) -> Template {
        let mut octets = self.octets.clone();
        crate::capture::replace(&mut octets, old, new);
        Template { octets, places: self.places.clone() }
    }

    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Appends it with these numbers.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, user: u32, seq: u32, index: u32) {
        let at = out.len();
        out.extend_from_slice(&self.octets);
        if let Some(written) = out.get_mut(at..) {
            self.patch(written, user, seq, index);
        }
    }

    /// Puts other numbers into octets that this template wrote.
    #[inline]
    pub fn patch(&self, written: &mut [u8], user: u32, seq: u32, index: u32) {
        for (places, number) in self.places.iter().zip([user, seq, index]) {
            let digits = hex(number);
            for place in places {
                written[*place..*place + DIGITS].copy_from_slice(&digits);
            }
        }
    }
}

/// A MESSAGE to a user with `size` octets of text, and `life_s` to live where that is said. `transport` is the Via's.
pub fn message(transport: &str, size: usize, life_s: Option<u32>) -> Template {
    let expires = life_s.map(|life_s| format!("Expires: {life_s}\r\n")).unwrap_or_default();
    let sentence = b"all work and no play makes jack a dull boy. ";
    let text: Vec<u8> = sentence.iter().copied().cycle().take(size).collect();
    let mut octets = format!(
        "MESSAGE sip:u{USER}@example.org SIP/2.0\r\n\
         Via: SIP/2.0/{transport} 127.0.0.1:5099;{}{USER}{SEQ}{INDEX};rport\r\n\
         Max-Forwards: 68\r\n\
         From: \"Alice Example\" <sip:alice@example.org>;tag=8f1d2c77\r\n\
         To: <sip:u{USER}@example.org>\r\n\
         Call-ID: m-{USER}-{SEQ}-8c1f2d6e@perf.example.org\r\n\
         CSeq: 1 MESSAGE\r\n\
         P-Asserted-Identity: <sip:alice@example.org>\r\n\
         User-Agent: IM-client/OMA1.0 perf/1\r\n\
         {expires}Content-Type: text/plain\r\n\
         Content-Length: {size}\r\n\r\n",
        String::from_utf8_lossy(BRANCH)
    )
    .into_bytes();
    octets.extend_from_slice(&text);
    Template::new(octets)
}

/// What leads to a message's numbers inside a pushed body: the Call-ID is delivered unaltered.
pub const CALL_ID: &[u8] = b"Call-ID: m-";

/// A PUBLISH of presence: the user is there and takes messages.
pub fn publish() -> Template {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"pres:u{USER}@example.org\">\r\n\
         <tuple id=\"im\"><status><basic>open</basic></status></tuple>\r\n</presence>\r\n"
    );
    let head = format!(
        "PUBLISH sip:u{USER}@example.org SIP/2.0\r\n\
         Via: SIP/2.0/TCP 127.0.0.1:5099;{}{USER}{SEQ}{INDEX};rport\r\n\
         Max-Forwards: 68\r\n\
         From: <sip:u{USER}@example.org>;tag=p{USER}\r\n\
         To: <sip:u{USER}@example.org>\r\n\
         Call-ID: p-{USER}-{SEQ}@perf.example.org\r\n\
         CSeq: 1 PUBLISH\r\n\
         P-Asserted-Identity: <sip:u{USER}@example.org>\r\n\
         Event: presence\r\n\
         Expires: 3600\r\n\
         Content-Type: application/pidf+xml\r\n\
         Content-Length: {}\r\n\r\n",
        String::from_utf8_lossy(BRANCH),
        body.len()
    );
    Template::new((head + &body).into_bytes())
}

/// One message at the start of some octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Octets of start-line, headers and blank line.
    pub head: usize,
    /// Octets in all.
    pub len: usize,
}

/// Why octets are no SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSip;

/// Finds where the first message ends; `None` while it is not all there.
pub fn cut(octets: &[u8]) -> Result<Option<Cut>, NotSip> {
    let Some(end) = memmem::find(octets, b"\r\n\r\n") else {
        return if octets.len() > 64 * 1024 { Err(NotSip) } else { Ok(None) };
    };
    let head = end + 4;
    let body = match value(&octets[..head], b"Content-Length") {
        Some(digits) => decimal(digits).ok_or(NotSip)?,
        None => return Err(NotSip),
    };
    let len = head + body;
    Ok((octets.len() >= len).then_some(Cut { head, len }))
}

/// The value of the first header of that name (as the daemon writes it), without blanks around it.
pub fn value<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = head;
    loop {
        let end = memchr::memchr(b'\n', rest)?;
        rest = &rest[end + 1..];
        if rest.len() > name.len() && rest[name.len()] == b':' && rest[..name.len()].eq_ignore_ascii_case(name) {
            let line = &rest[name.len() + 1..];
            let end = memchr::memchr(b'\r', line)?;
            return Some(line[..end].trim_ascii());
        }
    }
}

/// A number in decimal digits, nothing else.
pub fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 12 {
        return None;
    }
    digits.iter().try_fold(0usize, |sum, octet| octet.is_ascii_digit().then(|| sum * 10 + usize::from(octet - b'0')))
}

/// The status of a response, 0 for anything else.
#[inline]
pub fn status(octets: &[u8]) -> u16 {
    match octets {
        [b'S', b'I', b'P', b'/', b'2', b'.', b'0', b' ', a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => 0,
    }
}

/// An answer to a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// [`INDEX`] of the request.
    pub index: u32,
    pub len: usize,
}

/// Reads answers one after the other. All answers of one kind are laid out alike: what was found in one is looked for at the same
/// place in the next, and searched for only when it is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    len: usize,
    branch_at: usize,
}

impl Answers {
    /// The first answer; `None` while it is not all there.
    #[inline]
    pub fn next(&mut self, octets: &[u8]) -> Result<Option<Answer>, NotSip> {
        if self.len > 0
            && octets.len() >= self.len
            && octets[self.len - 4..self.len] == *b"\r\n\r\n"
            && octets[self.branch_at..].starts_with(BRANCH)
            && let status @ 200..=299 = status(octets)
            && let Some(index) = number(&octets[self.branch_at + BRANCH.len() + 2 * DIGITS..])
        {
            return Ok(Some(Answer { status, index, len: self.len }));
        }
        let Some(Cut { head, len }) = cut(octets)? else { return Ok(None) };
        let branch_at = memmem::find(&octets[..head], BRANCH).ok_or(NotSip)?;
        let status = status(octets);
        let index =
            number(&octets[branch_at + BRANCH.len() + 2 * DIGITS..head]).filter(|_| status > 0).ok_or(NotSip)?;
        if head == len && (200..300).contains(&status) {
            *self = Answers { len, branch_at };
        }
        Ok(Some(Answer { status, index, len }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, index: u32, tag: &str) -> Vec<u8> {
        let mut octets = Vec::new();
        Template::new(
            format!(
                "SIP/2.0 {status}\r\nVia: SIP/2.0/TCP 127.0.0.1:5099;branch=z9hG4bK{USER}{SEQ}{INDEX};rport=4\r\n\
                 To: <sip:u>;tag={tag}\r\nContent-Length: 0\r\n\r\n"
            )
            .into_bytes(),
        )
        .write(&mut octets, 1, 2, index);
        octets
    }

    #[test]
    fn numbers_come_back_as_they_were_written() {
        for n in [0, 1, 0xdead_beef, u32::MAX] {
            assert_eq!(number(&hex(n)), Some(n));
        }
        assert_eq!(number(b"0000000g"), None);
        assert_eq!(number(b"000"), None);
        assert_eq!(decimal(b"1024"), Some(1024));
        assert_eq!(decimal(b"10x"), None);
    }

    #[test]
    fn a_template_holds_its_numbers_wherever_they_stand() {
        let template = message("TCP", 300, None);
        let mut out = Vec::new();
        template.write(&mut out, 0xa1, 0xb2, 0xc3);
        let cut = cut(&out).unwrap().unwrap();
        assert_eq!((cut.len, out.len() - cut.head), (out.len(), 300));
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(text.starts_with("MESSAGE sip:u000000a1@example.org SIP/2.0\r\n"));
        assert!(text.contains("branch=z9hG4bK000000a1000000b2000000c3;rport"));
        assert!(text.contains("\r\nCall-ID: m-000000a1-000000b2-"));
        assert!(!text.contains(USER) && !text.contains(SEQ) && !text.contains(INDEX));
        template.patch(&mut out, 0xd4, 0xe5, 0xf6);
        assert!(String::from_utf8(out).unwrap().contains("branch=z9hG4bK000000d4000000e5000000f6;rport"));
    }

    #[test]
    fn answers_are_read_whole_or_not_at_all_wherever_reads_end() {
        let mut stream = answer("202 Accepted", 7, "a");
        stream.extend(answer("202 Accepted", 8, "b"));
        stream.extend(answer("202 Accepted", 9, "longer"));
        stream.extend(answer("503 Service Unavailable", 10, "c"));
        for end in 0..=stream.len() {
            let (mut answers, mut at, mut found) = (Answers::default(), 0, Vec::new());
            for until in [end, stream.len()] {
                while let Some(answer) = answers.next(&stream[at..until]).unwrap() {
                    found.push((answer.status, answer.index));
                    at += answer.len;
                }
            }
            assert_eq!(found, [(202, 7), (202, 8), (202, 9), (503, 10)]);
            assert_eq!(at, stream.len());
        }
        assert_eq!(Answers::default().next(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Err(NotSip));
    }

    #[test]
    fn headers_are_found_at_line_starts_only() {
        let head = b"INVITE sip:a SIP/2.0\r\nX-To: no\r\nto:  <sip:b>;tag=1 \r\n\r\n";
        assert_eq!(value(head, b"To"), Some(b"<sip:b>;tag=1".as_slice()));
        assert_eq!(value(head, b"From"), None);
    }
}
