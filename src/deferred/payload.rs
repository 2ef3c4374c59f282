//! Which form a session's messages take (12.2.2.5): what the client accepts, in the order that the operator wants.
//!
//! Knows types and sizes; touches no octets of a message: that is [`super::rewrap`].
//!
//! ```text
//!   wrapped   multipart/mixed { message/sip }   as it is stored: goes out as it lies
//!   bare      message/sip                       the request inside, as it lies
//!   cpim      message/cpim                      what was CPIM as it lies; anything else is written anew
//! ```

use super::policy::{Payload, Policy};
use crate::proto::sip::offer::{Accepts, Answer, Profile};
use crate::wire::params::Param;
use crate::wire::sip::address::NameAddr;
use memchr::memmem;

/// A form in which a message goes out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Form {
    /// As it is stored.
    #[default]
    Wrapped,
    /// The request alone.
    Bare,
    /// CPIM (RFC 3862).
    Cpim,
}

/// Why a message is not sent in this session. It stays new: the next client may take it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// Larger than the client's `max-size`, or answered 413.
    TooLarge,
    /// In no form that the client accepts.
    Type,
}

/// What is inside a stored message, for the choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored<'a> {
    /// The type of its part: `message/sip`, or `message/sipfrag` where the request is not whole.
    pub part: &'a [u8],
    /// Its second part is `message/msrp`.
    pub large: bool,
    /// The type of what its sender wrote, innermost.
    pub content: &'a [u8],
}

/// What one session's client takes.
#[derive(Clone, Default, Debug)]
pub struct Choice {
    accepts: Accepts,
    max_size: Option<u64>,
    is_rcs: bool,
    /// In order; what was refused is taken out.
    forms: Vec<Form>,
    /// The form that all pager messages take, whatever is inside; `None`: each is looked into.
    usual: Option<Form>,
}

/// The types that a stored pager message may have inside its part.
const PARTS: [&[u8]; 2] = [b"message/sip", b"message/sipfrag"];

impl Choice {
    /// What a client that said this is sent. `profile`: what we offered; `is_rcs`: what its Contact says ([`is_rcs`]).
    ///
    //= RFC 4975 8.6: MUST NOT send a type that the peer has not signalled in accept-types or accept-wrapped-types
    pub fn new(policy: &Policy, profile: Profile, answer: &Answer, is_rcs: bool) -> Choice {
        let oma = if policy.pager_bare { [Form::Bare, Form::Wrapped] } else { [Form::Wrapped, Form::Bare] };
        let mut forms = match (policy.payload, profile) {
            (Payload::Cpim, _) | (_, Profile::Cpim) => vec![Form::Cpim],
            (Payload::Oma, _) | (_, Profile::Oma) => oma.to_vec(),
            // Clients of CPM and RCS know nothing but CPIM, whatever else they say they accept.
            (Payload::Auto, _) if is_rcs => [&[Form::Cpim][..], &oma].concat(),
            (Payload::Auto, _) => [&oma[..], &[Form::Cpim]].concat(),
        };
        let accepts = answer.accepts.clone();
        forms.retain(|&form| match form {
            Form::Wrapped => PARTS.iter().any(|part| accepts.takes(b"multipart/mixed", &[part])),
            Form::Bare => PARTS.iter().any(|part| accepts.takes(part, &[])),
            Form::Cpim => accepts.takes(b"message/cpim", &[]),
        });
        let mut choice = Choice { accepts, max_size: answer.max_size, is_rcs, forms, usual: None };
        choice.settle();
        choice
    }

    fn settle(&mut self) {
        let wraps_all = self.accepts.takes(b"multipart/mixed", &PARTS);
        self.usual = self.forms.first().copied().filter(|&form| form == Form::Wrapped && wraps_all);
    }

    /// True for a client of CPM or RCS.
    pub fn is_rcs(&self) -> bool {
        self.is_rcs
    }

    /// True when the client takes no form at all.
    pub fn is_hopeless(&self) -> bool {
        self.forms.is_empty()
    }

    /// The form that all pager messages take, if it is one.
    #[inline]
    pub fn usual(&self) -> Option<Form> {
        self.usual
    }

    /// The form of a message.
    ///
    /// # Errors
    /// The client takes none that it could have.
    pub fn form(&self, stored: &Stored<'_>) -> Result<Form, Unfit> {
        let takes = |form: &&Form| match (form, stored.large) {
            (Form::Wrapped, false) => self.accepts.takes(b"multipart/mixed", &[stored.part]),
            (Form::Wrapped, true) => self.accepts.takes(b"multipart/mixed", &[stored.part, b"message/msrp"]),
            (Form::Bare, large) => !large && self.accepts.takes(stored.part, &[]),
            (Form::Cpim, _) => self.accepts.takes(b"message/cpim", &[stored.content]),
        };
        self.forms.iter().find(takes).copied().ok_or(Unfit::Type)
    }

    /// True when a body of so many octets is within what the client wants.
    #[inline]
    pub fn fits(&self, octets: usize) -> bool {
        self.max_size.is_none_or(|most| octets as u64 <= most)
    }

    /// The client refused this form after all (415). False when no other is left.
    ///
    //= RFC 4975 10.6: 415: the sender should not send any further messages with the same content-type in this session
    pub fn strike(&mut self, refused: Form) -> bool {
        self.forms.retain(|&form| form != refused);
        self.settle();
        !self.forms.is_empty()
    }
}

/// What our offers and answers say by this policy.
pub fn profile(policy: &Policy) -> Profile {
    match policy.payload {
        Payload::Auto => Profile::Any,
        Payload::Oma => Profile::Oma,
        Payload::Cpim => Profile::Cpim,
    }
}

/// True when a Contact's feature tags are those of a CPM or RCS client. `+g.oma.sip-im` alone says nothing: both have it.
pub fn is_rcs(contact: &[u8]) -> bool {
    let mut found = false;
    let Ok(address) = NameAddr::parse(contact) else { return false };
    let says = |param: &Param<'_>, word: &[u8]| {
        memmem::find(&param.value.unwrap_or_default().to_ascii_lowercase(), word).is_some()
    };
    let look = address.params.each(|param| {
        let name = param.name.to_ascii_lowercase();
        found |= match name.as_slice() {
            b"+g.3gpp.icsi-ref" => says(&param, b"oma.cpm"),
            b"+g.3gpp.iari-ref" => says(&param, b"ims.iari.rcs"),
            name => name.starts_with(b"+g.gsma.rcs"),
        };
    });
    look.is_ok() && found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"<sip:bob@192.0.2.1>;+g.oma.sip-im";
    const CPM: &[u8] =
        b"<sip:bob@192.0.2.1>;+g.oma.sip-im;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.session\"";

    fn answer(types: &str, wrapped: &str) -> Answer {
        Answer {
            peer_path: Vec::new(),
            connect_to: None,
            setup: None,
            max_size: Some(5_000),
            accepts: Accepts::read(types.as_bytes(), wrapped.as_bytes()),
            direction: crate::proto::sip::offer::Direction::RecvOnly,
        }
    }

    fn choose(payload: Payload, bare: bool, types: &str, wrapped: &str, contact: &[u8]) -> Choice {
        let mut policy = Policy::new("h", &["d"]);
        (policy.payload, policy.pager_bare) = (payload, bare);
        Choice::new(&policy, profile(&policy), &answer(types, wrapped), is_rcs(contact))
    }

    const PAGER: Stored<'_> = Stored { part: b"message/sip", large: false, content: b"text/plain" };

    //= RFC 4975 8.6: MUST NOT send a type that the peer has not signalled in accept-types or accept-wrapped-types
    #[test]
    fn the_first_form_that_the_client_takes_is_chosen() {
        use Form::{Bare, Cpim, Wrapped};
        use Payload::{Auto, Oma};
        let all = "multipart/mixed message/cpim message/sip message/sipfrag";
        type Row = (Payload, bool, &'static str, &'static str, &'static [u8], Result<Form, Unfit>);
        let table: &[Row] = &[
            (Auto, false, all, "*", PLAIN, Ok(Wrapped)),
            (Auto, false, "*", "", PLAIN, Ok(Wrapped)),
            (Auto, false, "Multipart/* message/*", "", PLAIN, Ok(Wrapped)),
            (Auto, false, "multipart/mixed;x=y", "Message/SIP;version=2.0", PLAIN, Ok(Wrapped)),
            (Auto, true, all, "*", PLAIN, Ok(Bare)),
            (Auto, true, "multipart/mixed", "*", PLAIN, Ok(Wrapped)),
            (Auto, false, "message/sip message/cpim", "text/plain", PLAIN, Ok(Bare)),
            (Auto, false, "multipart/mixed message/cpim", "text/plain", PLAIN, Ok(Cpim)),
            (Auto, false, "message/cpim text/plain", "", PLAIN, Ok(Cpim)),
            (Auto, false, "message/cpim", "text/*", PLAIN, Ok(Cpim)),
            (Auto, false, "message/cpim", "image/png", PLAIN, Err(Unfit::Type)),
            (Auto, false, "message/cpim", "", PLAIN, Err(Unfit::Type)),
            (Auto, false, "text/plain", "*", PLAIN, Err(Unfit::Type)),
            (Auto, false, "", "", PLAIN, Err(Unfit::Type)),
            (Auto, false, all, "*", CPM, Ok(Cpim)),
            (Auto, false, "multipart/mixed", "*", CPM, Ok(Wrapped)),
            (Oma, false, all, "*", CPM, Ok(Wrapped)),
            (Oma, false, "message/cpim", "*", PLAIN, Err(Unfit::Type)),
            (Payload::Cpim, false, all, "*", PLAIN, Ok(Cpim)),
            (Payload::Cpim, true, "multipart/mixed message/sip", "*", PLAIN, Err(Unfit::Type)),
        ];
        for (payload, bare, types, wrapped, contact, expected) in table {
            let choice = choose(*payload, *bare, types, wrapped, contact);
            assert_eq!(choice.form(&PAGER), *expected, "{payload:?} {bare} {types:?} {wrapped:?}");
            assert!(!choice.is_hopeless() || expected.is_err(), "{types:?}");
            assert!(choice.usual().is_none_or(|usual| Ok(usual) == *expected), "{types:?}");
        }
    }

    #[test]
    fn each_message_has_the_form_that_fits_what_is_inside() {
        let fragment = Stored { part: b"message/sipfrag", ..PAGER };
        let large = Stored { part: b"message/sipfrag", large: true, content: b"image/png" };
        let choice = choose(Payload::Auto, false, "multipart/mixed message/cpim", "message/sip image/png", PLAIN);
        assert_eq!((choice.usual(), choice.form(&PAGER)), (None, Ok(Form::Wrapped)));
        assert_eq!((choice.form(&fragment), choice.form(&large)), (Err(Unfit::Type), Ok(Form::Cpim)));
        let choice = choose(Payload::Auto, true, "multipart/mixed message/sip message/sipfrag", "message/msrp", PLAIN);
        assert_eq!((choice.form(&PAGER), choice.form(&large)), (Ok(Form::Bare), Ok(Form::Wrapped)));
        assert!(choice.fits(5_000) && !choice.fits(5_001));
    }

    //= RFC 4975 10.6: 415: the sender should not send any further messages with the same content-type in this session
    #[test]
    fn a_form_that_was_refused_is_not_chosen_again() {
        let mut choice = choose(Payload::Auto, false, "*", "", PLAIN);
        assert_eq!(choice.usual(), Some(Form::Wrapped));
        assert!(choice.strike(Form::Wrapped));
        assert_eq!((choice.usual(), choice.form(&PAGER)), (None, Ok(Form::Bare)));
        assert!(choice.strike(Form::Bare));
        assert_eq!(choice.form(&PAGER), Ok(Form::Cpim));
        assert!(!choice.strike(Form::Cpim));
        assert!(choice.is_hopeless());
    }

    #[test]
    fn rcs_clients_are_known_by_their_feature_tags() {
        for contact in [
            CPM,
            b"<sip:b@h>;+g.3gpp.iari-ref=\"urn%3Aurn-7%3A3gpp-application.ims.iari.rcse.im\"",
            b"<sip:b@h>;+G.3GPP.ICSI-REF=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.OMA.CPM.msg\"",
            b"<sip:b@h>;expires=1;+g.gsma.rcs.cpm.pager-large",
        ] {
            assert!(is_rcs(contact), "{}", contact.escape_ascii());
        }
        for contact in [PLAIN, b"<sip:b@h;+g.gsma.rcs=1>", b"", b"<sip:b@h>;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3Amsg\""] {
            assert!(!is_rcs(contact), "{}", contact.escape_ascii());
        }
    }
}
