//! Names of transactions: for the transaction user, for the peer, and on the wire.

use crate::base::arena::Key;
use crate::base::dice::Dice;
use crate::base::net::CoreId;
use crate::base::split::SplitMap;
use crate::wire::sip::{Message, Method, Name, Via};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::ops::Deref;

/// Which server transaction. Stale once it is gone; never another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerKey(pub(super) Key);

/// Which client transaction. Stale once it is gone; never another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientKey(pub(super) Key);

impl ServerKey {
    /// As one number, for a letter.
    pub fn to_u64(self) -> u64 {
        self.0.to_u64()
    }

    /// Back from [`ServerKey::to_u64`].
    pub fn from_u64(raw: u64) -> ServerKey {
        ServerKey(Key::from_u64(raw))
    }
}

impl ClientKey {
    /// As one number, for a letter.
    pub fn to_u64(self) -> u64 {
        self.0.to_u64()
    }

    /// Back from [`ClientKey::to_u64`].
    pub fn from_u64(raw: u64) -> ClientKey {
        ClientKey(Key::from_u64(raw))
    }
}

/// A branch of ours: the cookie, our core's number as 4 hex digits, 16 random hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Branch([u8; 27]);

impl Branch {
    /// A fresh one of `core`.
    pub fn new(core: CoreId, dice: &mut Dice) -> Branch {
        let mut octets = [0; 27];
        let random: [u8; 16] = dice.hex();
        let parts = Via::COOKIE.iter().copied().chain(core_digits(core)).chain(random);
        octets.iter_mut().zip(parts).for_each(|(place, octet)| *place = octet);
        Branch(octets)
    }
}

impl Deref for Branch {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A core's number as the 4 lower-case hex digits with which its branches and tags begin.
pub fn core_digits(core: CoreId) -> [u8; 4] {
    [12, 8, 4, 0].map(|shift| {
        let digit = (core.0 >> shift & 15) as u8;
        if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
    })
}

/// The core whose number stands in these 4 hex digits.
pub fn core_of_digits(digits: &[u8]) -> Option<CoreId> {
    let mut number = 0u16;
    for &digit in digits.get(..4)? {
        let value = (digit as char).to_digit(16)?;
        number = number << 4 | value as u16;
    }
    Some(CoreId(number))
}

/// The core that made this branch; `None` when none of us did.
pub fn core_of_branch(branch: &[u8]) -> Option<CoreId> {
    core_of_digits(branch.strip_prefix(Via::COOKIE)?)
}

/// 128 bits that stand for the parts of a message by which transactions are matched. Two that are equal are the same: by
/// chance that errs once in 2^64 even with 2^32 transactions alive, and on purpose only who knows the key can make it err.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Print(u128);

impl Print {
    /// Of what has no parts to be matched by.
    pub(super) const NOTHING: Print = Print(0);
}

/// Already a hash: tables take it as it is.
impl Hash for Print {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0 as u64);
    }
}

/// The hasher of tables whose keys are [`Print`]s.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|&octet| self.0 = self.0.rotate_left(8) ^ u64::from(octet));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A table by print.
pub(super) type ByPrint<V> = SplitMap<Print, V, BuildHasherDefault<AsIs>>;

/// Makes prints.
///
/// The key is drawn by the standard library, as it is for every `HashMap`, so that a peer cannot choose branches that fall
/// into one place of a table. Nothing that can be observed depends on it: prints are compared, never ordered or sent.
#[derive(Clone, Debug)]
pub(super) struct Printer {
    key: [u64; 2],
}

impl Printer {
    pub(super) fn new() -> Printer {
        let state = RandomState::new();
        Printer { key: [state.hash_one(0u8), state.hash_one(1u8)] }
    }

    /// The server transaction to which a request belongs (RFC 3261 17.2.3). An ACK and a CANCEL have the print of their INVITE.
    pub(super) fn server(&self, message: &Message, via: &Via<'_>) -> Print {
        let mut hasher = self.hasher();
        match via.branch {
            Some(branch) if via.has_cookie() => {
                //= RFC 3261 17.2.3: branch, sent-by, and method, except for ACK
                // A branch is compared as it stands: a retransmission, an ACK or a CANCEL repeats it octet for octet, and
                // clients that draw from both cases mean different ones.
                put(&mut hasher, branch);
                put_sent_by(&mut hasher, via);
            }
            _ => put_rfc_2543(&mut hasher, message),
        }
        put_method(&mut hasher, message);
        print(&hasher)
    }

    /// What a merged request has in common with the first of its kind (RFC 3261 8.2.2.2): From tag, Call-ID and CSeq. An ACK
    /// has that of its INVITE.
    pub(super) fn call(&self, message: &Message) -> Print {
        let mut hasher = self.hasher();
        put_maybe(&mut hasher, message.from_tag());
        put(&mut hasher, message.call_id());
        hasher.write_u32(message.cseq().0);
        put_method(&mut hasher, message);
        print(&hasher)
    }

    /// The client transaction of a request of ours, or the one to which a response belongs (RFC 3261 17.1.3): branch and the
    /// method in CSeq. The sent-by must be the one we wrote, too: else the response is not ours (18.1.2).
    pub(super) fn client(&self, message: &Message, via: &Via<'_>) -> Print {
        let mut hasher = self.hasher();
        put_maybe(&mut hasher, via.branch);
        put_sent_by(&mut hasher, via);
        put(&mut hasher, message.cseq_method_bytes());
        print(&hasher)
    }

    fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key[0], self.key[1])
    }
}

/// A To tag that is the same for the same request: for answers for which nothing is remembered. Core and 16 hex digits.
///
//= RFC 3261 8.2.7: a stateless UAS MUST generate To header tags such that the same tag is generated for the same request
pub fn stateless_tag(core: CoreId, message: &Message) -> [u8; 20] {
    // A fixed key, so that a run repeats octet for octet; no dialog ever hangs on such a tag.
    let mut hasher = SipHasher13::new();
    put(&mut hasher, message.call_id());
    put_maybe(&mut hasher, message.from_tag());
    put_maybe(&mut hasher, message.top_via().branch);
    hasher.write_u32(message.cseq().0);
    let number = hasher.finish();
    let digits = (0..4u16).flat_map(|quarter| core_digits(CoreId((number >> (16 * quarter)) as u16)));
    let mut tag = [b'0'; 20];
    tag.iter_mut().zip(core_digits(core).into_iter().chain(digits)).for_each(|(place, digit)| *place = digit);
    tag
}

//= RFC 3261 17.2.3: Request-URI, To tag, From tag, Call-ID, CSeq, and top Via header field
fn put_rfc_2543(hasher: &mut SipHasher13, message: &Message) {
    put(hasher, message.request_uri());
    put_maybe(hasher, message.from_tag());
    put(hasher, message.call_id());
    hasher.write_u32(message.cseq().0);
    put_maybe(hasher, message.values(Name::Via).next());
    // The To tag of an ACK is that of our response, which the INVITE did not have yet: compared with the response instead.
    if !matches!(message.method(), Method::Invite | Method::Ack | Method::Cancel) {
        put_maybe(hasher, message.to_tag());
    }
}

fn put_method(hasher: &mut SipHasher13, message: &Message) {
    match message.method() {
        Method::Ack | Method::Cancel => hasher.write_u8(Method::Invite as u8),
        Method::Other => put(hasher, message.method_bytes()),
        known => hasher.write_u8(known as u8),
    }
}

/// Host without regard to case, port with its default.
fn put_sent_by(hasher: &mut SipHasher13, via: &Via<'_>) {
    hasher.write_usize(via.host.len());
    let mut lower = [0; 64];
    for part in via.host.chunks(lower.len()) {
        let places = lower.iter_mut().zip(part);
        places.for_each(|(place, octet)| *place = octet.to_ascii_lowercase());
        hasher.write(lower.get(..part.len()).unwrap_or_default());
    }
    let default = if via.transport.eq_ignore_ascii_case(b"TLS") { 5061 } else { 5060 };
    hasher.write_u16(via.port.unwrap_or(default));
}

/// With its length in front, so that two neighbours never read as two others.
fn put(hasher: &mut SipHasher13, octets: &[u8]) {
    hasher.write_usize(octets.len());
    hasher.write(octets);
}

fn put_maybe(hasher: &mut SipHasher13, octets: Option<&[u8]>) {
    match octets {
        Some(octets) => put(hasher, octets),
        None => hasher.write_usize(usize::MAX),
    }
}

fn print(hasher: &SipHasher13) -> Print {
    Print(hasher.finish128().as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use bytes::Bytes;

    fn message(via: &str, from_tag: &str, call_id: &str) -> Message {
        let text = format!(
            "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@example.com>{from_tag}\r\n\
             To: <sip:bob@example.com>\r\nCall-ID: {call_id}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse_datagram(Bytes::from(text), &Limits::default()).unwrap_or_else(|bad| panic!("{:?}", bad.fault))
    }

    #[test]
    fn sent_by_is_compared_without_case_and_with_its_default_port() {
        let printer = Printer::new();
        let print = |via: &str| {
            let message = message(via, ";tag=1", "c");
            printer.server(&message, &message.top_via())
        };
        let one = print("SIP/2.0/UDP pc.example.net;branch=z9hG4bKa");
        assert_eq!(one, print("SIP/2.0/UDP PC.Example.NET:5060;branch=z9hG4bKa;rport"));
        assert_eq!(one, print("SIP/2.0/TCP pc.example.net;rport;branch=z9hG4bKa"));
        assert_ne!(one, print("SIP/2.0/TLS pc.example.net;branch=z9hG4bKa"), "5061 is the default of TLS");
        assert_ne!(one, print("SIP/2.0/UDP pc.example.net:5061;branch=z9hG4bKa"));
        assert_ne!(one, print("SIP/2.0/UDP pc.example.org;branch=z9hG4bKa"));
        assert_ne!(one, print("SIP/2.0/UDP pc.example.net;branch=z9hG4bKA"));
        let long = "h".repeat(300);
        let (low, high) = (
            format!("SIP/2.0/UDP {long};branch=z9hG4bKa"),
            format!("SIP/2.0/UDP {};branch=z9hG4bKa", long.to_uppercase()),
        );
        assert_eq!(print(&low), print(&high));
        assert_ne!(print(&low), one);
    }

    //= RFC 3261 17.2.3: branch, sent-by, and method, except for ACK
    #[test]
    fn neighbours_are_not_mistaken_for_one_another() {
        let printer = Printer::new();
        let via = "SIP/2.0/UDP pc;branch=z9hG4bKa";
        let calls = [(";tag=ab", "c"), (";tag=a", "bc"), ("", "abc"), (";tag=abc", "c")];
        let prints: Vec<Print> = calls.iter().map(|(tag, call)| printer.call(&message(via, tag, call))).collect();
        for (place, print) in prints.iter().enumerate() {
            assert!(prints.iter().skip(place + 1).all(|other| other != print));
        }
    }

    //= RFC 3261 8.2.7: the same To tag is generated for the same request
    #[test]
    fn a_stateless_tag_is_the_same_for_the_same_request_on_any_day() {
        let request = message("SIP/2.0/UDP pc;branch=z9hG4bKa", ";tag=1", "c");
        let tag = stateless_tag(CoreId(0x2a), &request);
        assert_eq!(tag, stateless_tag(CoreId(0x2a), &request));
        assert_eq!(core_of_digits(&tag), Some(CoreId(0x2a)));
        assert_ne!(tag, stateless_tag(CoreId(0x2a), &message("SIP/2.0/UDP pc;branch=z9hG4bKb", ";tag=1", "c")));
    }

    #[test]
    fn keys_travel_as_numbers() {
        let raw = 0x0000_0007_0000_0003;
        assert_eq!(ServerKey::from_u64(raw).to_u64(), raw);
        assert_eq!(ClientKey::from_u64(raw).to_u64(), raw);
    }
}
