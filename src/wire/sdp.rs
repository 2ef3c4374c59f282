//! Session descriptions (RFC 8866) as far as MSRP needs them: v, o, s, c, t, m and a lines.
//!
//! Knows lines and attributes. What an offer of ours says and whether an answer suits is `proto/sip/offer`.

use super::msrp::write::decimal;

/// Most lines read. A description of one MSRP stream has a dozen; clients that offer voice and video beside it stay
/// below two hundred.
pub const LINES_MAX: usize = 512;

/// Why octets are no session description.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SdpFault {
    /// The first line is not `v=0`.
    Version,
    /// A line is not `letter=value`; its number, from 1.
    Line(u16),
    /// An m-line is not `media port proto formats`; its number.
    Media(u16),
    /// A c-line is not `IN IP4|IP6 address`; its number.
    Connection(u16),
    /// More than [`LINES_MAX`] lines.
    TooLong,
}

/// `a=name:value` or `a=name`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute<'a> {
    /// Name.
    pub name: &'a [u8],
    /// What follows the colon; empty without one.
    pub value: &'a [u8],
}

/// An m-line and what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media<'a> {
    /// `message`, `audio`, ...
    pub kind: &'a [u8],
    /// Port; 0 refuses the stream.
    pub port: u16,
    /// `TCP/MSRP`, ...
    pub proto: &'a [u8],
    /// `*`, ...
    pub formats: &'a [u8],
    /// Address of its own c-line.
    pub address: Option<&'a [u8]>,
    /// In order.
    pub attributes: Vec<Attribute<'a>>,
}

/// A description taken apart; it borrows from its text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Description<'a> {
    /// Value of the o-line. The same octets again: nothing changed (RFC 4975 8.4).
    pub origin: &'a [u8],
    /// Address of the session's c-line.
    pub address: Option<&'a [u8]>,
    /// Attributes of the session.
    pub attributes: Vec<Attribute<'a>>,
    /// Streams in order.
    pub media: Vec<Media<'a>>,
}

impl<'a> Description<'a> {
    /// Takes a description apart. Lines may end in CRLF or LF; unknown letters are passed over.
    pub fn parse(text: &'a [u8]) -> Result<Description<'a>, SdpFault> {
        let mut description = Description::default();
        let mut begun = false;
        for (n, line) in text.split(|&octet| octet == b'\n').enumerate() {
            let number = u16::try_from(n + 1).unwrap_or(u16::MAX);
            if n >= LINES_MAX {
                return Err(SdpFault::TooLong);
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let Some(([letter, b'='], value)) = line.split_first_chunk::<2>() else {
                return Err(SdpFault::Line(number));
            };
            if !begun {
                if *letter != b'v' || value != b"0" {
                    return Err(SdpFault::Version);
                }
                begun = true;
                continue;
            }
            description.line(*letter, value, number)?;
        }
        if begun { Ok(description) } else { Err(SdpFault::Version) }
    }

    fn line(&mut self, letter: u8, value: &'a [u8], number: u16) -> Result<(), SdpFault> {
        match letter {
            b'o' => self.origin = value,
            b'c' => {
                let address = connection(value).ok_or(SdpFault::Connection(number))?;
                match self.media.last_mut() {
                    Some(media) => media.address = Some(address),
                    None => self.address = Some(address),
                }
            }
            b'm' => self.media.push(media(value).ok_or(SdpFault::Media(number))?),
            b'a' => {
                let attribute = attribute(value);
                match self.media.last_mut() {
                    Some(media) => media.attributes.push(attribute),
                    None => self.attributes.push(attribute),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The first `message` stream that is not refused.
    pub fn message(&self) -> Option<&Media<'a>> {
        self.media.iter().find(|media| media.kind.eq_ignore_ascii_case(b"message") && media.port != 0)
    }

    /// An attribute of a stream, or of the session when the stream has none. Names compare case-insensitively.
    pub fn attribute(&self, media: &Media<'a>, name: &[u8]) -> Option<&'a [u8]> {
        let named = |list: &[Attribute<'a>]| {
            list.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name)).map(|attribute| attribute.value)
        };
        named(&media.attributes).or_else(|| named(&self.attributes))
    }

    /// Which way a stream flows, as its writer sees it; sendrecv when nothing is said (RFC 8866 6.7).
    pub fn direction(&self, media: &Media<'a>) -> Direction {
        let said = |list: &[Attribute<'a>]| list.iter().find_map(|attribute| Direction::named(attribute.name));
        said(&media.attributes).or_else(|| said(&self.attributes)).unwrap_or(Direction::SendRecv)
    }
}

/// Which way a stream flows, as the one who writes it sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// From the writer only.
    SendOnly,
    /// To the writer only.
    RecvOnly,
    /// Held.
    Inactive,
}

impl Direction {
    fn named(name: &[u8]) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|direction| name.eq_ignore_ascii_case(direction.name()))
    }

    /// The attribute's name.
    pub fn name(self) -> &'static [u8] {
        match self {
            Direction::SendRecv => b"sendrecv",
            Direction::SendOnly => b"sendonly",
            Direction::RecvOnly => b"recvonly",
            Direction::Inactive => b"inactive",
        }
    }

    /// True when the writer takes what we send.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// True when the writer sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }
}

/// Who connects (RFC 4145 4, RFC 6135).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Setup {
    /// The writer does.
    Active,
    /// The other side does.
    Passive,
    /// Either; only in offers.
    ActPass,
}

impl Setup {
    /// Reads the value of `a=setup`. `holdconn` and strangers are as if absent (RFC 6135 4).
    pub fn read(value: &[u8]) -> Option<Setup> {
        [Setup::Active, Setup::Passive, Setup::ActPass]
            .into_iter()
            .find(|setup| value.trim_ascii().eq_ignore_ascii_case(setup.name()))
    }

    /// The attribute's value.
    pub fn name(self) -> &'static [u8] {
        match self {
            Setup::Active => b"active",
            Setup::Passive => b"passive",
            Setup::ActPass => b"actpass",
        }
    }
}

/// A description of one MSRP stream to be written.
#[derive(Clone, Copy, Debug)]
pub struct MsrpStream<'a> {
    /// `sess-id` of the o-line.
    pub session_id: u64,
    /// `sess-version`: the same number again means nothing changed.
    pub version: u64,
    /// Our host: an address (IPv6 without brackets) or a name.
    pub host: &'a [u8],
    /// Port of our path; 0 refuses the stream, or says what would be accepted (488).
    pub port: u16,
    /// `TCP/MSRP`.
    pub proto: &'a [u8],
    /// Which way, at media level: a widely deployed client fails without it there.
    pub direction: Direction,
    /// Value of `a=accept-types`.
    pub accept_types: &'a [u8],
    /// Value of `a=accept-wrapped-types`; empty leaves the line out.
    pub wrapped_types: &'a [u8],
    /// Value of `a=max-size`.
    pub max_size: Option<u64>,
    /// Who connects.
    pub setup: Option<Setup>,
    /// Our URIs; empty leaves the line out.
    pub path: &'a [u8],
}

impl MsrpStream<'_> {
    /// Appends the description.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"v=0\r\no=dmf ");
        decimal(out, self.session_id);
        out.push(b' ');
        decimal(out, self.version);
        out.push(b' ');
        write_address(out, self.host);
        out.extend_from_slice(b"\r\ns=-\r\nc=");
        write_address(out, self.host);
        out.extend_from_slice(b"\r\nt=0 0\r\n");
        self.write_media(out);
    }

    /// Appends the m-line and its attributes only: for an answer among refused streams.
    pub fn write_media(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"m=message ");
        decimal(out, u64::from(self.port));
        out.push(b' ');
        out.extend_from_slice(self.proto);
        out.extend_from_slice(b" *\r\na=");
        out.extend_from_slice(self.direction.name());
        out.extend_from_slice(b"\r\n");
        line(out, b"a=accept-types:", self.accept_types);
        line(out, b"a=accept-wrapped-types:", self.wrapped_types);
        if let Some(octets) = self.max_size {
            out.extend_from_slice(b"a=max-size:");
            decimal(out, octets);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(setup) = self.setup {
            line(out, b"a=setup:", setup.name());
        }
        line(out, b"a=path:", self.path);
    }

    /// Appends an answer to `offer`: the same streams in the same order, all refused but its first `message` one.
    //= RFC 3264 6: the answer MUST contain exactly the same number of m= lines, in the same order
    pub fn write_answer(&self, out: &mut Vec<u8>, offer: &Description<'_>) {
        let taken = offer.media.iter().position(|media| media.kind.eq_ignore_ascii_case(b"message") && media.port != 0);
        let Some(taken) = taken else { return MsrpStream { port: 0, path: b"", ..*self }.write(out) };
        let mut whole = Vec::with_capacity(512);
        self.write(&mut whole);
        // Everything up to the m-line is the session's part.
        let session = memchr::memmem::find(&whole, b"\r\nm=").map_or(0, |at| at + 2);
        out.extend_from_slice(whole.get(..session).unwrap_or_default());
        for (n, media) in offer.media.iter().enumerate() {
            if n == taken {
                out.extend_from_slice(whole.get(session..).unwrap_or_default());
                continue;
            }
            for part in [&b"m="[..], media.kind, b" 0 ", media.proto, b" ", media.formats, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// `IN IP4 address`; a name is of kind IP4 (RFC 8866 5.7 leaves it to us).
fn write_address(out: &mut Vec<u8>, host: &[u8]) {
    out.extend_from_slice(if host.contains(&b':') { b"IN IP6 " } else { b"IN IP4 " });
    out.extend_from_slice(host);
}

fn connection(value: &[u8]) -> Option<&[u8]> {
    let mut words = words(value);
    let (net, kind, address) = (words.next()?, words.next()?, words.next()?);
    let known = kind.eq_ignore_ascii_case(b"IP4") || kind.eq_ignore_ascii_case(b"IP6");
    (net.eq_ignore_ascii_case(b"IN") && known).then_some(address)
}

fn media(value: &[u8]) -> Option<Media<'_>> {
    let mut words = words(value);
    let (kind, port, proto) = (words.next()?, words.next()?, words.next()?);
    let formats = words.next()?;
    // `port/count` is legal for layered streams; MSRP has one.
    let port = port.split(|&octet| octet == b'/').next()?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(Media { kind, port, proto, formats, address: None, attributes: Vec::new() })
}

fn attribute(value: &[u8]) -> Attribute<'_> {
    match memchr::memchr(b':', value) {
        Some(colon) => Attribute {
            name: value.get(..colon).unwrap_or_default(),
            value: value.get(colon + 1..).unwrap_or_default().trim_ascii(),
        },
        None => Attribute { name: value.trim_ascii(), value: b"" },
    }
}

/// Words between blanks; the last of four takes all the rest.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.splitn(4, |&octet| octet == b' ').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OFFER: &[u8] = b"v=0\no=alice 1 2 IN IP6 ::1\r\ns= -\nc=IN IP6 2001:db8::7\nt=0 0\na=sendrecv\n\
        m=audio 4000 RTP/AVP 0 8\na=rtpmap:0 PCMU/8000\nm=message 0 TCP/MSRP *\n\
        m=message 7394 TCP/MSRP *\r\nc=IN IP4 192.0.2.9\na=recvonly\na=accept-types:message/cpim text/plain\n\
        a=path: msrp://alice.example.com:7394/2s93i9ek2a;tcp\r\n";

    #[test]
    fn the_first_message_stream_that_is_not_refused_counts() {
        let description = Description::parse(OFFER).unwrap();
        assert_eq!(description.media.len(), 3);
        assert_eq!(description.address, Some(&b"2001:db8::7"[..]));
        let media = description.message().unwrap();
        assert_eq!((media.port, media.proto, media.formats), (7394, &b"TCP/MSRP"[..], &b"*"[..]));
        assert_eq!(media.address, Some(&b"192.0.2.9"[..]));
        assert_eq!(description.direction(media), Direction::RecvOnly);
        assert_eq!(description.direction(&description.media[0]), Direction::SendRecv);
        let path = description.attribute(media, b"path");
        assert_eq!(path, Some(&b"msrp://alice.example.com:7394/2s93i9ek2a;tcp"[..]));
        assert_eq!(description.attribute(media, b"max-size"), None);
    }

    #[test]
    fn what_is_no_description_says_where() {
        for (text, fault) in [
            (&b""[..], SdpFault::Version),
            (b"v=1\r\n", SdpFault::Version),
            (b"o=x\r\n", SdpFault::Version),
            (b"v=0\r\nnonsense\r\n", SdpFault::Line(2)),
            (b"v=0\r\nm=message 70000 TCP/MSRP *\r\n", SdpFault::Media(2)),
            (b"v=0\r\nm=message 1 TCP/MSRP\r\n", SdpFault::Media(2)),
            (b"v=0\r\nc=IN IP9 x\r\n", SdpFault::Connection(2)),
        ] {
            assert_eq!(Description::parse(text).unwrap_err(), fault, "{text:?}");
        }
        let long = [&b"v=0\n"[..], &b"a=x\n".repeat(LINES_MAX)].concat();
        assert_eq!(Description::parse(&long).unwrap_err(), SdpFault::TooLong);
    }

    //= RFC 3264 6: exactly the same number of m= lines, in the same order
    #[test]
    fn an_answer_has_the_offers_streams_in_the_offers_order() {
        let offer = Description::parse(OFFER).unwrap();
        let ours = MsrpStream {
            session_id: 7,
            version: 1,
            host: b"::1",
            port: 2855,
            proto: b"TCP/MSRP",
            direction: Direction::SendOnly,
            accept_types: b"*",
            wrapped_types: b"",
            max_size: None,
            setup: Some(Setup::Passive),
            path: b"msrp://[::1]:2855/abc;tcp",
        };
        let mut out = Vec::new();
        ours.write_answer(&mut out, &offer);
        let expected = "v=0\r\no=dmf 7 1 IN IP6 ::1\r\ns=-\r\nc=IN IP6 ::1\r\nt=0 0\r\nm=audio 0 RTP/AVP 0 8\r\n\
            m=message 0 TCP/MSRP *\r\nm=message 2855 TCP/MSRP *\r\na=sendonly\r\na=accept-types:*\r\n\
            a=setup:passive\r\na=path:msrp://[::1]:2855/abc;tcp\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
