//! The offer of a push and what its answer means (12.2.2.2-1g; RFC 3264, 4975 8, 6135).
//!
//! Knows which attributes a push needs and which answers can be pushed to. Knows no dialog and opens no connection.

use crate::wire::msrp::uri::{self, MsrpUri, Scheme, UriFault};
use crate::wire::sdp::{Description, Media, MsrpStream, SdpFault};
pub use crate::wire::sdp::{Direction, Setup};

/// What a session of ours may carry at the root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Profile {
    /// Whatever of the two the client takes.
    #[default]
    Any,
    /// The forms of 12.2.2.5 and no other.
    Oma,
    /// CPIM and nothing else.
    Cpim,
}

impl Profile {
    /// The value of `a=accept-types`.
    pub fn accept_types(self) -> &'static [u8] {
        match self {
            Profile::Any => b"multipart/mixed message/cpim message/sip message/sipfrag",
            Profile::Oma => b"multipart/mixed message/sip message/sipfrag",
            Profile::Cpim => b"message/cpim",
        }
    }
}

/// MSRP over plain TCP.
const PROTO: &[u8] = b"TCP/MSRP";

/// Our side of a push session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// `sess-id` of the o-line: NTP seconds at the session's birth will do.
    pub session_id: u64,
    /// `sess-version`, from 1. The same again: nothing changed (RFC 4975 8.4).
    pub version: u64,
    /// Our host as the client reaches it: an address, IPv6 without brackets, or a name.
    pub host: Vec<u8>,
    /// Our MSRP port.
    pub port: u16,
    /// Our URI, as [`Offer::path`] makes it.
    pub path: Vec<u8>,
    /// What the session may carry.
    pub profile: Profile,
}

impl Offer {
    /// Our URI for a session whose id is 20 random hex digits: 80 bits (RFC 4975 14.1).
    pub fn path(host: &[u8], port: u16, session_id: &[u8; 20]) -> Vec<u8> {
        uri::local(host, port, session_id)
    }

    /// The offer of a push.
    //= 12.2.2.2-1g: SDP offer, sendonly
    //= RFC 6135 4.1: a globally reachable server offers actpass
    pub fn write(&self) -> Vec<u8> {
        self.describe(Direction::SendOnly, Some(Setup::ActPass))
    }

    /// The answer to a later offer of the peer's, in a session that is up. `ours` is who connects as it was agreed.
    //= RFC 4975 8.4: the answerer MUST respond with a path that is valid at the time
    pub fn write_answer(&self, offer: &[u8], ours: Setup) -> Result<Vec<u8>, AnswerFault> {
        let description = Description::parse(offer).map_err(AnswerFault::Sdp)?;
        let media = description.message().ok_or(AnswerFault::Refused)?;
        let direction = if description.direction(media).receives() { Direction::SendOnly } else { Direction::Inactive };
        let mut out = Vec::with_capacity(512);
        self.stream(direction, Some(ours)).write_answer(&mut out, &description);
        Ok(out)
    }

    /// The same, where `last` is what we said before: what differs from it is the next version.
    //= RFC 3264 8: if the version in the origin line does not increment, the SDP MUST be identical to the one with that version
    pub fn write_next_answer(&mut self, offer: &[u8], ours: Setup, last: &[u8]) -> Result<Vec<u8>, AnswerFault> {
        let same = self.write_answer(offer, ours)?;
        if same == last {
            return Ok(same);
        }
        self.version += 1;
        self.write_answer(offer, ours)
    }

    /// What we said last, as an offer within the session: who connects is open again, nothing else changes.
    //= RFC 3264 8: the offer of a session that is up has all m= lines of the description before it, in their order
    pub fn write_again(&mut self, last: &[u8]) -> Vec<u8> {
        let open = relined(last, b"a=setup:", |_| Setup::ActPass.name().to_vec());
        if open == last {
            return open;
        }
        self.version += 1;
        let version = self.version.to_string();
        relined(&open, b"o=", |value| {
            let mut words: Vec<&[u8]> = value.split(|&octet| octet == b' ').collect();
            if let Some(word) = words.get_mut(2) {
                *word = version.as_bytes();
            }
            words.join(&b' ')
        })
    }

    /// The answer to an offer of a sender's: we receive, whatever it is, up to `max_size` octets a message, and do not connect.
    pub fn write_receiver(&self, offer: &[u8], max_size: u64) -> Result<Vec<u8>, AnswerFault> {
        let description = Description::parse(offer).map_err(AnswerFault::Sdp)?;
        let media = description.message().ok_or(AnswerFault::Refused)?;
        let direction = if description.direction(media).sends() { Direction::RecvOnly } else { Direction::Inactive };
        let mut out = Vec::with_capacity(512);
        self.receiver(direction, Some(Setup::Passive), max_size).write_answer(&mut out, &description);
        Ok(out)
    }

    /// What we would have accepted of a sender, for a 488.
    pub fn write_receiver_capabilities(&self, max_size: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        MsrpStream { port: 0, path: b"", ..self.receiver(Direction::RecvOnly, None, max_size) }.write(&mut out);
        out
    }

    fn receiver(&self, direction: Direction, setup: Option<Setup>, max_size: u64) -> MsrpStream<'_> {
        MsrpStream { accept_types: b"*", wrapped_types: b"", max_size: Some(max_size), ..self.stream(direction, setup) }
    }

    /// What we would have accepted, for a 488: the same with port 0.
    pub fn write_capabilities(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        MsrpStream { port: 0, path: b"", setup: None, ..self.stream(Direction::SendOnly, None) }.write(&mut out);
        out
    }

    fn describe(&self, direction: Direction, setup: Option<Setup>) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.stream(direction, setup).write(&mut out);
        out
    }

    fn stream(&self, direction: Direction, setup: Option<Setup>) -> MsrpStream<'_> {
        MsrpStream {
            session_id: self.session_id,
            version: self.version,
            host: &self.host,
            port: self.port,
            proto: PROTO,
            direction,
            accept_types: self.profile.accept_types(),
            wrapped_types: b"*",
            max_size: None,
            setup,
            path: &self.path,
        }
    }
}

/// A description with the values of the lines that begin with `start` replaced.
fn relined(sdp: &[u8], start: &[u8], value: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(sdp.len() + 16);
    for line in sdp.split_inclusive(|&octet| octet == b'\n') {
        match line.strip_prefix(start) {
            Some(rest) => {
                out.extend_from_slice(start);
                out.extend_from_slice(&value(rest.trim_ascii_end()));
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// Why an answer cannot be pushed to. All end in BYE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AnswerFault {
    /// No session description.
    Sdp(SdpFault),
    /// No `message` stream, or all with port 0.
    Refused,
    /// Another transport than we offered.
    Protocol,
    /// No `a=path`.
    NoPath,
    /// A URI of the path is none.
    Path(UriFault),
    /// A URI of the path has no port.
    NoPort,
    /// A URI of the path is `msrps`, or not over TCP.
    Transport,
    /// The peer does not receive.
    Direction(Direction),
}

/// What the peer wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Value of its `a=path`: all URIs, literally, one space between them.
    pub peer_path: Vec<u8>,
    /// Where we connect: host (IPv6 without brackets) and port of the leftmost URI. `None`: the peer connects.
    pub connect_to: Option<(Vec<u8>, u16)>,
    /// Who connects, as the peer said; `None` when it said nothing we know.
    pub setup: Option<Setup>,
    /// Largest message it wants, octets.
    pub max_size: Option<u64>,
    /// Which types it takes.
    pub accepts: Accepts,
    /// Which way, as the peer sees it.
    pub direction: Direction,
}

impl Answer {
    /// True when relays stand between us and the peer: then a 200 is the next hop's only ([`crate::manual::peers`]).
    pub fn is_relayed(&self) -> bool {
        uri::uris(&self.peer_path).count() > 1
    }
}

/// Judges the answer to [`Offer::write`].
pub fn judge_answer(sdp: &[u8]) -> Result<Answer, AnswerFault> {
    let answer = judge(sdp)?;
    //= RFC 3264 6.1: a stream offered sendonly is answered recvonly or inactive
    if answer.direction.receives() { Ok(answer) } else { Err(AnswerFault::Direction(answer.direction)) }
}

/// Judges the answer to a later offer of ours: `direction` says whether to pause or to go on.
pub fn judge_next_answer(sdp: &[u8]) -> Result<Answer, AnswerFault> {
    judge(sdp)
}

/// Judges an offer of the peer's, the first or a later one: `direction` says whether we may send.
pub fn judge_offer(sdp: &[u8]) -> Result<Answer, AnswerFault> {
    let mut offer = judge(sdp)?;
    // Whoever offers is the one who connects (RFC 4975 5.4), unless it says that it will not, which no offer may (RFC 6135 4.2.1).
    if offer.setup != Some(Setup::Passive) {
        offer.connect_to = None;
    }
    Ok(offer)
}

fn judge(sdp: &[u8]) -> Result<Answer, AnswerFault> {
    let description = Description::parse(sdp).map_err(AnswerFault::Sdp)?;
    let media = description.message().ok_or(AnswerFault::Refused)?;
    if !media.proto.eq_ignore_ascii_case(PROTO) {
        return Err(AnswerFault::Protocol);
    }
    let path = description.attribute(media, b"path").filter(|path| !path.is_empty()).ok_or(AnswerFault::NoPath)?;
    let (peer_path, first_hop) = judge_path(path)?;
    let setup = description.attribute(media, b"setup").and_then(Setup::read);
    //= RFC 4975 8.5: without more, the party that sent the offer connects
    let connect_to = (setup != Some(Setup::Active)).then_some(first_hop);
    Ok(Answer {
        peer_path,
        connect_to,
        setup,
        max_size: max_size(&description, media),
        accepts: Accepts::read(
            description.attribute(media, b"accept-types").unwrap_or_default(),
            description.attribute(media, b"accept-wrapped-types").unwrap_or_default(),
        ),
        direction: description.direction(media),
    })
}

/// Host and port.
type Hop = (Vec<u8>, u16);

/// The path with single spaces, and the first hop's host and port.
//= RFC 4975 8.2: MSRP URIs included in an SDP offer or answer MUST include explicit port numbers
fn judge_path(path: &[u8]) -> Result<(Vec<u8>, Hop), AnswerFault> {
    let mut out = Vec::with_capacity(path.len());
    let mut first = None;
    for (n, text) in uri::uris(path).enumerate() {
        let uri = MsrpUri::parse(text).map_err(AnswerFault::Path)?;
        let port = uri.port.ok_or(AnswerFault::NoPort)?;
        if uri.scheme != Scheme::Msrp || !uri.transport.eq_ignore_ascii_case(b"tcp") {
            return Err(AnswerFault::Transport);
        }
        if n >= crate::wire::msrp::head::PATH_URIS_MAX || text.iter().any(|octet| !octet.is_ascii_graphic()) {
            return Err(AnswerFault::Path(UriFault::Host));
        }
        if n > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(text);
        first.get_or_insert_with(|| (uri.host.to_vec(), port));
    }
    first.map(|hop| (out, hop)).ok_or(AnswerFault::NoPath)
}

/// `max-size`, or `maxsize` as one network writes it. Zero is no bound anybody means.
fn max_size(description: &Description<'_>, media: &Media<'_>) -> Option<u64> {
    let value = description.attribute(media, b"max-size").or_else(|| description.attribute(media, b"maxsize"))?;
    std::str::from_utf8(value).ok()?.parse().ok().filter(|&octets| octets > 0)
}

/// Content types a peer takes (RFC 4975 8.6).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Accepts {
    /// From accept-types: lower case, without parameters.
    types: Vec<Vec<u8>>,
    /// From accept-wrapped-types.
    wrapped: Vec<Vec<u8>>,
}

impl Accepts {
    /// Reads the two attributes' values.
    pub fn read(accept_types: &[u8], wrapped_types: &[u8]) -> Accepts {
        Accepts { types: entries(accept_types), wrapped: entries(wrapped_types) }
    }

    /// True when a message of type `root` may be sent whose parts are of the types `wrapped`. Parameters and case are ignored.
    //= RFC 4975 8.6: MUST NOT send a top-level type not in accept-types, nor a type in neither list
    pub fn takes(&self, root: &[u8], wrapped: &[&[u8]]) -> bool {
        lists(&self.types, root) && wrapped.iter().all(|part| lists(&self.types, part) || lists(&self.wrapped, part))
    }
}

/// Splits at spaces outside quoted strings and drops parameters.
fn entries(list: &[u8]) -> Vec<Vec<u8>> {
    let mut quoted = false;
    let words = list.split(move |&octet| {
        quoted ^= octet == b'"';
        octet == b' ' && !quoted
    });
    words.map(|entry| essence(entry).to_ascii_lowercase()).filter(|entry| !entry.is_empty()).collect()
}

/// `type/subtype` without parameters.
fn essence(entry: &[u8]) -> &[u8] {
    entry.split(|&octet| octet == b';').next().unwrap_or_default().trim_ascii()
}

fn lists(list: &[Vec<u8>], media_type: &[u8]) -> bool {
    let wanted = essence(media_type);
    list.iter().any(|entry| match entry.as_slice() {
        b"*" | b"*/*" => true,
        entry => match entry.strip_suffix(b"/*") {
            Some(family) => wanted
                .split_at_checked(family.len())
                .is_some_and(|(start, rest)| start.eq_ignore_ascii_case(family) && rest.starts_with(b"/")),
            None => entry.eq_ignore_ascii_case(wanted),
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ours() -> Offer {
        Offer {
            session_id: 3_954_441_600,
            version: 1,
            host: b"192.0.2.10".to_vec(),
            port: 2855,
            path: b"msrp://192.0.2.10:2855/9di4eae923wzd0x7b2m6;tcp".to_vec(),
            profile: Profile::Any,
        }
    }

    //= RFC 6135 4.1: a globally reachable server offers actpass
    #[test]
    fn the_offer_is_sendonly_and_actpass() {
        let expected = "v=0\r\no=dmf 3954441600 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
            m=message 2855 TCP/MSRP *\r\na=sendonly\r\n\
            a=accept-types:multipart/mixed message/cpim message/sip message/sipfrag\r\na=accept-wrapped-types:*\r\n\
            a=setup:actpass\r\na=path:msrp://192.0.2.10:2855/9di4eae923wzd0x7b2m6;tcp\r\n";
        assert_eq!(String::from_utf8(ours().write()).unwrap(), expected);
        let six = Offer { host: b"2001:db8::1".to_vec(), ..ours() };
        assert!(String::from_utf8(six.write()).unwrap().contains("c=IN IP6 2001:db8::1\r\n"));
        assert_eq!(
            Offer::path(b"2001:db8::1", 2855, b"9di4eae923wzd0x7b2m6"),
            b"msrp://[2001:db8::1]:2855/9di4eae923wzd0x7b2m6;tcp"
        );
        for (profile, types) in [
            (Profile::Oma, "a=accept-types:multipart/mixed message/sip message/sipfrag\r\n"),
            (Profile::Cpim, "a=accept-types:message/cpim\r\n"),
        ] {
            assert!(String::from_utf8(Offer { profile, ..ours() }.write()).unwrap().contains(types), "{profile:?}");
        }
        let capabilities = String::from_utf8(ours().write_capabilities()).unwrap();
        assert!(capabilities.contains("m=message 0 TCP/MSRP *\r\n") && !capabilities.contains("a=path"));
    }

    fn answer(lines: &str) -> Result<Answer, AnswerFault> {
        judge_answer(
            format!("v=0\r\no=b 1 1 IN IP4 b.example.com\r\ns= -\r\nc=IN IP4 b.example.com\r\nt=0 0\r\n{lines}")
                .as_bytes(),
        )
    }

    //= RFC 4975 8.5: without more, the party that sent the offer connects
    #[test]
    fn without_setup_we_connect_to_the_leftmost_uri() {
        let answer = answer(
            "m=message 8493 TCP/MSRP *\r\na=accept-types:message/cpim text/plain\r\na=maxsize:5000\r\n\
             a=path:msrp://relay.example.com:9000/r;tcp  msrp://bob.example.com:8493/si438dsaodes;tcp\r\n",
        )
        .unwrap();
        assert_eq!(answer.connect_to, Some((b"relay.example.com".to_vec(), 9000)));
        assert_eq!(
            answer.peer_path,
            b"msrp://relay.example.com:9000/r;tcp msrp://bob.example.com:8493/si438dsaodes;tcp"
        );
        assert_eq!((answer.setup, answer.max_size, answer.direction), (None, Some(5000), Direction::SendRecv));
        assert!(answer.is_relayed());
        assert!(answer.accepts.takes(b"Message/CPIM; charset=x", &[b"text/plain"]));
        assert!(!answer.accepts.takes(b"multipart/mixed", &[]));
        assert!(!answer.accepts.takes(b"message/cpim", &[b"message/sip"]));
    }

    #[test]
    fn an_active_peer_connects_and_holdconn_is_as_absent() {
        let path = "a=path:msrp://b:1/s;tcp\r\n";
        let active = answer(&format!("m=message 9 TCP/MSRP *\r\na=recvonly\r\na=setup:active\r\n{path}")).unwrap();
        assert_eq!(active.connect_to, None);
        let hold = answer(&format!("m=message 9 TCP/MSRP *\r\na=setup:holdconn\r\n{path}")).unwrap();
        assert_eq!((hold.setup, hold.connect_to), (None, Some((b"b".to_vec(), 1))));
    }

    //= RFC 3264 6.1: a stream offered sendonly is answered recvonly or inactive
    //= RFC 4975 8.2: MSRP URIs included in an SDP offer or answer MUST include explicit port numbers
    #[test]
    fn answers_that_cannot_be_pushed_to_say_why() {
        let path = "a=path:msrp://b:1/s;tcp\r\n";
        let table = [
            ("".to_owned(), AnswerFault::Refused),
            (format!("m=message 0 TCP/MSRP *\r\n{path}"), AnswerFault::Refused),
            (format!("m=message 1 TCP/TLS/MSRP *\r\n{path}"), AnswerFault::Protocol),
            ("m=message 1 TCP/MSRP *\r\n".to_owned(), AnswerFault::NoPath),
            ("m=message 1 TCP/MSRP *\r\na=path:msrp://b/s;tcp\r\n".to_owned(), AnswerFault::NoPort),
            ("m=message 1 TCP/MSRP *\r\na=path:msrps://b:1/s;tcp\r\n".to_owned(), AnswerFault::Transport),
            ("m=message 1 TCP/MSRP *\r\na=path:sip:b\r\n".to_owned(), AnswerFault::Path(UriFault::Scheme)),
            (format!("m=message 1 TCP/MSRP *\r\na=inactive\r\n{path}"), AnswerFault::Direction(Direction::Inactive)),
            (format!("a=sendonly\r\nm=message 1 TCP/MSRP *\r\n{path}"), AnswerFault::Direction(Direction::SendOnly)),
        ];
        for (lines, fault) in table {
            assert_eq!(answer(&lines).unwrap_err(), fault, "{lines}");
        }
        assert_eq!(judge_answer(b"").unwrap_err(), AnswerFault::Sdp(SdpFault::Version));
    }

    //= RFC 4975 8.6: no top-level type that is not in accept-types, no type that is in neither list
    #[test]
    fn wildcards_take_what_they_cover() {
        let any = Accepts::read(b"*", b"");
        assert!(any.takes(b"multipart/mixed", &[b"message/sip", b"message/msrp"]));
        let family = Accepts::read(b"multipart/* text/plain;format=\"a b\"", b"message/*");
        assert!(family.takes(b"multipart/mixed;boundary=\"x\"", &[b"message/sip", b"TEXT/plain"]));
        assert!(!family.takes(b"message/sip", &[]));
        assert!(!family.takes(b"multipartish/mixed", &[]));
        assert!(!Accepts::default().takes(b"text/plain", &[]));
    }

    //= RFC 3264 8: if the version in the origin line does not increment, the SDP MUST be identical to the one with that version
    //= RFC 3264 8: the offer of a session that is up has all m= lines of the description before it, in their order
    #[test]
    fn what_changes_has_the_next_version_and_what_does_not_is_the_same() {
        let offer = |direction: &str| {
            format!(
                "v=0\r\no=b 1 2 IN IP4 b\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\nm=message 1 TCP/MSRP *\r\na={direction}\r\n\
                 a=path:msrp://b:1/s;tcp\r\n"
            )
        };
        let mut ours = ours();
        let first = ours.write_answer(offer("recvonly").as_bytes(), Setup::Passive).unwrap();
        let again = ours.write_next_answer(offer("recvonly").as_bytes(), Setup::Passive, &first).unwrap();
        assert_eq!((again, ours.version), (first.clone(), 1));
        let held = ours.write_next_answer(offer("inactive").as_bytes(), Setup::Passive, &first).unwrap();
        assert_eq!(ours.version, 2);
        let text = String::from_utf8(held.clone()).unwrap();
        assert!(text.contains("o=dmf 3954441600 2 IN IP4 192.0.2.10\r\n") && text.contains("a=inactive\r\n"), "{text}");
        let open = ours.write_again(&held);
        let text = text.replace(" 2 IN", " 3 IN").replace("a=setup:passive", "a=setup:actpass");
        assert_eq!(String::from_utf8(open.clone()).unwrap(), text);
        assert!(text.contains("m=audio 0 RTP/AVP 0\r\nm=message 2855"), "{text}");
        assert_eq!((ours.write_again(&open), ours.version), (open, 3));
    }

    #[test]
    fn who_offers_connects_unless_it_says_that_it_will_not() {
        let offer = |setup: &str| {
            let text = format!("v=0\r\nm=message 1 TCP/MSRP *\r\n{setup}a=path:msrp://b:1/s;tcp\r\n");
            judge_offer(text.as_bytes()).unwrap().connect_to
        };
        for setup in ["", "a=setup:active\r\n", "a=setup:actpass\r\n"] {
            assert_eq!(offer(setup), None, "{setup}");
        }
        assert_eq!(offer("a=setup:passive\r\n"), Some((b"b".to_vec(), 1)));
    }

    //= RFC 4975 8.4: the answer carries a path that is valid at the time
    #[test]
    fn a_hold_is_answered_inactive_and_the_end_of_it_sendonly() {
        let hold = b"v=0\r\no=b 1 2 IN IP4 b\r\ns=-\r\nt=0 0\r\nm=message 1 TCP/MSRP *\r\na=inactive\r\na=path:msrp://b:1/s;tcp\r\n";
        assert_eq!(judge_offer(hold).unwrap().direction, Direction::Inactive);
        let answer = ours().write_answer(hold, Setup::Passive).unwrap();
        assert!(String::from_utf8(answer).unwrap().contains("a=inactive\r\n"));
        let on = b"v=0\r\no=b 1 3 IN IP4 b\r\ns=-\r\nt=0 0\r\nm=message 1 TCP/MSRP *\r\na=recvonly\r\na=path:msrp://b:1/s;tcp\r\n";
        let answer = String::from_utf8(ours().write_answer(on, Setup::Passive).unwrap()).unwrap();
        assert!(answer.contains("a=sendonly\r\n") && answer.contains("a=setup:passive\r\n"));
        assert!(answer.contains("a=path:msrp://192.0.2.10:2855/9di4eae923wzd0x7b2m6;tcp\r\n"));
    }
}
