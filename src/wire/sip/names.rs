//! Methods and header names: octets to small numbers and back.
//!
//! Methods are case-sensitive tokens (RFC 3261 7.1), header names are not (7.3.1), and some have a compact form (7.3.3).

macro_rules! methods {
    ($($id:ident $text:literal)*) => {
        /// A request method. What is not in the list is [`Method::Other`]; its octets are in the message.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Method {
            $(#[doc = $text] $id,)*
            /// A method we have no name for.
            Other,
        }

        impl Method {
            /// As on the wire; empty for [`Method::Other`].
            pub fn as_bytes(self) -> &'static [u8] {
                match self { $(Method::$id => $text.as_bytes(),)* Method::Other => b"" }
            }

            /// As text, for logs and metrics; `OTHER` for [`Method::Other`].
            pub fn as_str(self) -> &'static str {
                match self { $(Method::$id => $text,)* Method::Other => "OTHER" }
            }

            /// From the wire. Case counts: `invite` is another method than `INVITE`.
            pub fn parse(octets: &[u8]) -> Method {
                $(const $id: &[u8] = $text.as_bytes();)*
                #[allow(non_upper_case_globals)]
                match octets { $($id => Method::$id,)* _ => Method::Other }
            }
        }
    };
}

#[allow(non_upper_case_globals)]
mod method {
    methods! {
        Invite "INVITE"
        Ack "ACK"
        Bye "BYE"
        Cancel "CANCEL"
        Options "OPTIONS"
        Register "REGISTER"
        Message "MESSAGE"
        Publish "PUBLISH"
        Subscribe "SUBSCRIBE"
        Notify "NOTIFY"
        Refer "REFER"
        Update "UPDATE"
        Prack "PRACK"
        Info "INFO"
    }
}
pub use method::Method;

macro_rules! header_names {
    ($($id:ident $text:literal $($compact:literal)?;)*) => {
        /// The name of a header field. What is not in the list is [`Name::Other`]; its octets are in the line.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Name {
            $(#[doc = $text] $id,)*
            /// A header we have no name for.
            Other,
        }

        /// Every spelling that is recognised: canonical and compact.
        const SPELLINGS: &[(&[u8], Name)] = &[
            $(($text.as_bytes(), Name::$id), $(($compact.as_bytes(), Name::$id),)?)*
        ];

        impl Name {
            /// The canonical spelling; empty for [`Name::Other`].
            pub fn as_bytes(self) -> &'static [u8] {
                match self { $(Name::$id => $text.as_bytes(),)* Name::Other => b"" }
            }
        }
    };
}

header_names! {
    Via "Via" "v";
    From "From" "f";
    To "To" "t";
    CallId "Call-ID" "i";
    CSeq "CSeq";
    MaxForwards "Max-Forwards";
    ContentLength "Content-Length" "l";
    ContentType "Content-Type" "c";
    ContentEncoding "Content-Encoding" "e";
    ContentDisposition "Content-Disposition";
    ContentLanguage "Content-Language";
    ContentId "Content-ID";
    ContentTransferEncoding "Content-Transfer-Encoding";
    MimeVersion "MIME-Version";
    Contact "Contact" "m";
    Route "Route";
    RecordRoute "Record-Route";
    Path "Path";
    ServiceRoute "Service-Route";
    Expires "Expires";
    MinExpires "Min-Expires";
    Date "Date";
    Timestamp "Timestamp";
    Event "Event" "o";
    SipETag "SIP-ETag";
    SipIfMatch "SIP-If-Match";
    SubscriptionState "Subscription-State";
    Accept "Accept";
    AcceptEncoding "Accept-Encoding";
    AcceptLanguage "Accept-Language";
    AcceptContact "Accept-Contact" "a";
    RejectContact "Reject-Contact" "j";
    RequestDisposition "Request-Disposition" "d";
    AllowEvents "Allow-Events" "u";
    Allow "Allow";
    Supported "Supported" "k";
    Require "Require";
    ProxyRequire "Proxy-Require";
    Unsupported "Unsupported";
    Warning "Warning";
    RetryAfter "Retry-After";
    Server "Server";
    UserAgent "User-Agent";
    Subject "Subject" "s";
    Priority "Priority";
    Privacy "Privacy";
    Organization "Organization";
    InReplyTo "In-Reply-To";
    ReplyTo "Reply-To";
    AlertInfo "Alert-Info";
    CallInfo "Call-Info";
    ErrorInfo "Error-Info";
    Authorization "Authorization";
    ProxyAuthorization "Proxy-Authorization";
    WwwAuthenticate "WWW-Authenticate";
    ProxyAuthenticate "Proxy-Authenticate";
    AuthenticationInfo "Authentication-Info";
    SecurityClient "Security-Client";
    SecurityServer "Security-Server";
    SecurityVerify "Security-Verify";
    Identity "Identity" "y";
    IdentityInfo "Identity-Info" "n";
    PAssertedIdentity "P-Asserted-Identity";
    PPreferredIdentity "P-Preferred-Identity";
    PAssertedService "P-Asserted-Service";
    PPreferredService "P-Preferred-Service";
    PAssociatedUri "P-Associated-URI";
    PCalledPartyId "P-Called-Party-ID";
    PServedUser "P-Served-User";
    PAccessNetworkInfo "P-Access-Network-Info";
    PVisitedNetworkId "P-Visited-Network-ID";
    PChargingVector "P-Charging-Vector";
    PChargingFunctionAddresses "P-Charging-Function-Addresses";
    SessionExpires "Session-Expires" "x";
    MinSE "Min-SE";
    ReferTo "Refer-To" "r";
    ReferSub "Refer-Sub";
    ReferredBy "Referred-By" "b";
    Replaces "Replaces";
    Join "Join";
    RSeq "RSeq";
    RAck "RAck";
    Reason "Reason";
    HistoryInfo "History-Info";
    Diversion "Diversion";
    ConversationId "Conversation-ID";
    ContributionId "Contribution-ID";
    InReplyToContributionId "InReplyTo-Contribution-ID";
    MessageId "Message-ID";
    SessionId "Session-ID";
    FlowTimer "Flow-Timer";
}

/// Places of the hash table: a power of two, more than twice as many as spellings, so that most names meet no other.
const PLACES: usize = 512;
const _: () = assert!(SPELLINGS.len() * 2 < PLACES && SPELLINGS.len() < 255);

/// Marks an empty place.
const NOBODY: u8 = u8::MAX;

/// Length, first and last letter tell most names apart. Case does not count: bit 5 is what case changes in a letter.
const fn place(name: &[u8]) -> usize {
    let (first, last) = match name {
        [first, .., last] => (*first | 0x20, *last | 0x20),
        [only] => (*only | 0x20, 0),
        [] => (0, 0),
    };
    (name.len().wrapping_mul(59) ^ (first as usize).wrapping_mul(17) ^ (last as usize).wrapping_mul(13)) & (PLACES - 1)
}

/// Open addressing, filled by the compiler: place -> index into [`SPELLINGS`].
#[allow(clippy::indexing_slicing)] // the compiler runs this
static TABLE: [u8; PLACES] = {
    let mut table = [NOBODY; PLACES];
    let mut index = 0;
    while index < SPELLINGS.len() {
        let mut at = place(SPELLINGS[index].0);
        while table[at] != NOBODY {
            at = (at + 1) & (PLACES - 1);
        }
        table[at] = index as u8;
        index += 1;
    }
    table
};

/// Equality of short strings in two loads each: most names arrive in their canonical spelling, and a call of the general
/// comparison costs more than the comparison.
#[inline]
fn is_same(one: &[u8], two: &[u8]) -> bool {
    if one.len() != two.len() {
        return false;
    }
    if let (Some(a), Some(b), Some(y), Some(z)) =
        (one.first_chunk::<8>(), two.first_chunk::<8>(), one.last_chunk::<8>(), two.last_chunk::<8>())
    {
        return a == b && y == z && (one.len() <= 16 || one == two);
    }
    if let (Some(a), Some(b), Some(y), Some(z)) =
        (one.first_chunk::<4>(), two.first_chunk::<4>(), one.last_chunk::<4>(), two.last_chunk::<4>())
    {
        return a == b && y == z;
    }
    one.iter().zip(two).all(|(a, b)| a == b)
}

impl Name {
    /// How many names there are, [`Name::Other`] included.
    pub const COUNT: usize = Name::Other as usize + 1;

    /// From the wire, in any case, long or compact.
    #[inline]
    pub fn parse(octets: &[u8]) -> Name {
        let mut at = place(octets);
        while let Some(&index) = TABLE.get(at) {
            let Some(&(spelling, name)) = SPELLINGS.get(usize::from(index)) else { break };
            if is_same(spelling, octets) || spelling.eq_ignore_ascii_case(octets) {
                return name;
            }
            at = (at + 1) & (PLACES - 1);
        }
        Name::Other
    }

    /// This name's bit in a set of names.
    #[inline]
    pub(crate) const fn bit(self) -> u128 {
        1 << self as u8
    }
}

const _: () = assert!(Name::COUNT <= 128, "a set of names is one u128");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found_in_every_case() {
        for &(spelling, name) in SPELLINGS {
            assert_eq!(Name::parse(spelling), name);
            assert_eq!(Name::parse(&spelling.to_ascii_lowercase()), name);
            assert_eq!(Name::parse(&spelling.to_ascii_uppercase()), name);
            assert_eq!(Name::parse(name.as_bytes()), name);
            assert_eq!(Name::parse(&[spelling, b"x"].concat()), Name::Other);
        }
    }

    #[test]
    fn what_is_unknown_is_other() {
        for unknown in [&b""[..], b"q", b"C%6Fntact", b"NewFangledHeader", b"V\xedA", b"\xff"] {
            assert_eq!(Name::parse(unknown), Name::Other);
        }
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(Method::parse(b"INVITE"), Method::Invite);
        assert_eq!(Method::parse(b"invite"), Method::Other);
        assert_eq!(Method::parse(b"IN%56ITE"), Method::Other);
        assert_eq!(Method::parse(Method::Message.as_bytes()), Method::Message);
        assert_eq!(Method::parse(b""), Method::Other);
    }

    #[test]
    fn the_table_has_short_walks() {
        let walks = |spelling: &[u8]| {
            let mut at = place(spelling);
            let mut steps = 1;
            while SPELLINGS[usize::from(TABLE[at])].0 != spelling {
                at = (at + 1) & (PLACES - 1);
                steps += 1;
            }
            steps
        };
        let longest = SPELLINGS.iter().map(|(spelling, _)| walks(spelling)).max();
        assert!(longest <= Some(8), "{longest:?}");
        for hot in [&b"Via"[..], b"From", b"To", b"Call-ID", b"CSeq", b"Content-Length", b"Max-Forwards"] {
            assert!(walks(hot) <= 2, "{}: {}", String::from_utf8_lossy(hot), walks(hot));
        }
    }
}
