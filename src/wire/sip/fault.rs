//! What can be wrong with a peer's octets, and how SIP answers it.

use std::fmt;

/// A finding in a peer's octets: where, and what. Data, not text; the protocol's answer is [`Fault::status`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fault {
    /// Offset of the first octet that is wrong, counted from the start of what was given to the parser.
    pub at: u32,
    /// The finding.
    pub what: What,
}

/// The first finding in a message; what is found after it is not kept.
#[derive(Default, Debug)]
pub(super) struct First(Option<Fault>);

impl First {
    /// Off the way of a good message.
    #[cold]
    pub(super) fn note(&mut self, fault: Fault) {
        self.0.get_or_insert(fault);
    }

    pub(super) fn into_fault(self) -> Option<Fault> {
        self.0
    }
}

/// The findings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum What {
    /// Nothing but keep-alive octets where a message was expected.
    Empty,
    /// The first line is neither a Request-Line nor a Status-Line.
    StartLine,
    /// SIP, but a version that is not 2.0.
    Version,
    /// A response whose code lies outside 100 to 699.
    StatusCode,
    /// A CR without LF or a LF without CR.
    LineEnd,
    /// No blank line after the headers.
    HeadNotEnded,
    /// Start-line and headers are longer than `limits.sip_head_octets`.
    HeadTooLong,
    /// More headers than `limits.sip_headers`.
    TooManyHeaders,
    /// A header line without a colon, or whose name is not a token.
    HeaderName,
    /// A header that may stand once stands twice.
    HeaderTwice,
    /// No (readable) Via.
    ViaMissing,
    /// No From.
    FromMissing,
    /// No To.
    ToMissing,
    /// No Call-ID.
    CallIdMissing,
    /// No CSeq.
    CSeqMissing,
    /// A Via value outside the grammar.
    Via,
    /// A Call-ID with white space, or an empty one.
    CallId,
    /// A CSeq outside the grammar or above 2^32-1.
    CSeq,
    /// The method of the CSeq is not that of the Request-Line.
    CSeqMethod,
    /// The same, for a method that is unknown as well.
    UnknownMethod,
    /// A name-addr or addr-spec outside the grammar.
    Address,
    /// A quoted string that does not end.
    QuoteOpen,
    /// Unquoted characters in a display name that may only stand in quotes.
    DisplayName,
    /// A URI with `?`, `,` or the like that must stand in angle brackets and does not.
    BracketsMissing,
    /// A parameter outside the grammar.
    Param,
    /// A URI outside the grammar.
    Uri,
    /// A Request-URI with a `?headers` part (RFC 3261 19.1.1 forbids it there).
    UriHeaders,
    /// A URI scheme that we do not serve.
    UriScheme,
    /// No Content-Length on a stream.
    ContentLengthMissing,
    /// A Content-Length that is not a number.
    ContentLength,
    /// Two Content-Lengths that disagree.
    ContentLengthTwice,
    /// The body is shorter than its Content-Length.
    BodyShorterThanDeclared,
    /// The body is longer than `limits.sip_body_octets`.
    BodyTooLarge,
}

impl Fault {
    /// The finding `what` at octet `at`.
    pub fn new(at: usize, what: What) -> Fault {
        Fault { at: u32::try_from(at).unwrap_or(u32::MAX), what }
    }

    /// The same finding, seen from `by` octets earlier.
    pub fn shifted(self, by: usize) -> Fault {
        Fault::new((self.at as usize).saturating_add(by), self.what)
    }

    /// The status a request with this fault is answered with. A response with a fault is dropped.
    pub fn status(self) -> u16 {
        match self.what {
            What::Version => 505,
            What::UnknownMethod => 501,
            What::UriScheme => 416,
            What::BodyTooLarge => 413,
            What::HeadTooLong | What::TooManyHeaders => 513,
            _ => 400,
        }
    }

    /// A few words for the reason phrase or a Warning (RFC 3261 21.4.1 suggests to say which header was wrong).
    pub fn words(self) -> &'static str {
        match self.what {
            What::Empty => "Empty message",
            What::StartLine => "Bad start-line",
            What::Version => "Version not supported",
            What::StatusCode => "Bad status code",
            What::LineEnd => "Bare CR or LF",
            What::HeadNotEnded => "Headers not ended",
            What::HeadTooLong => "Headers too long",
            What::TooManyHeaders => "Too many headers",
            What::HeaderName => "Bad header name",
            What::HeaderTwice => "Single-value header repeated",
            What::ViaMissing => "Missing Via",
            What::FromMissing => "Missing From",
            What::ToMissing => "Missing To",
            What::CallIdMissing => "Missing Call-ID",
            What::CSeqMissing => "Missing CSeq",
            What::Via => "Bad Via",
            What::CallId => "Bad Call-ID",
            What::CSeq => "Bad CSeq",
            What::CSeqMethod => "CSeq method mismatch",
            What::UnknownMethod => "Unknown method",
            What::Address => "Bad address",
            What::QuoteOpen => "Unterminated quoted string",
            What::DisplayName => "Bad display name",
            What::BracketsMissing => "URI needs angle brackets",
            What::Param => "Bad parameter",
            What::Uri => "Bad URI",
            What::UriHeaders => "Headers in Request-URI",
            What::UriScheme => "Unsupported URI scheme",
            What::ContentLengthMissing => "Missing Content-Length",
            What::ContentLength => "Bad Content-Length",
            What::ContentLengthTwice => "Conflicting Content-Length",
            What::BodyShorterThanDeclared => "Body shorter than Content-Length",
            What::BodyTooLarge => "Body too large",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at octet {}", self.words(), self.at)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_knows_its_answer() {
        assert_eq!(Fault::new(3, What::Version).status(), 505);
        assert_eq!(Fault::new(3, What::UriScheme).status(), 416);
        assert_eq!(Fault::new(3, What::HeaderTwice).status(), 400);
        assert_eq!(Fault::new(3, What::BodyTooLarge).shifted(4).at, 7);
        assert_eq!(Fault::new(3, What::Via).to_string(), "Bad Via at octet 3");
    }
}
