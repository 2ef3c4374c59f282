//! Parameters: `;name[=value]`, of header values and of URIs.
//!
//! Knows quotes and white space; does not know what any parameter means.

use super::scan::{self, Class};
use crate::wire::sip::fault::{Fault, What};

/// One parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Param<'a> {
    /// Its name; compare without case.
    pub name: &'a [u8],
    /// What stands after `=`, quotes included ([`scan::unquote`] takes them off). `None`: a flag.
    pub value: Option<&'a [u8]>,
}

/// The parameters of a value, from the first `;` on. Iterating ends at one that is outside the grammar; [`Params::check`]
/// says whether there is one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Params<'a> {
    octets: &'a [u8],
}

impl<'a> Params<'a> {
    /// None at all.
    pub const EMPTY: Params<'static> = Params { octets: &[] };

    /// The parameters in `octets`, which are empty or begin with `;` (white space may stand before it).
    pub fn new(octets: &'a [u8]) -> Params<'a> {
        Params { octets: scan::trim(octets) }
    }

    /// The same, of octets that were trimmed before.
    pub(crate) fn of_trimmed(octets: &'a [u8]) -> Params<'a> {
        Params { octets }
    }

    /// As they stand on the wire, the first `;` included.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The value of the first parameter of that name; empty when it is a flag.
    pub fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        let found = (*self).into_iter().find(|param| param.name.eq_ignore_ascii_case(name))?;
        Some(found.value.unwrap_or_default())
    }

    /// True when there is a parameter of that name, with a value or without.
    pub fn has(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Walks all of them. The first that is outside the grammar is the fault; its offset counts from the first `;`.
    pub fn check(&self) -> Result<(), Fault> {
        self.each(|_| ())
    }

    /// Shows every parameter to `see`, and says whether all were within the grammar: one walk for reading and checking.
    #[inline]
    pub fn each(&self, mut see: impl FnMut(Param<'a>)) -> Result<(), Fault> {
        let mut iter = (*self).into_iter();
        while let Some(step) = iter.step() {
            match step {
                Ok(param) => see(param),
                Err(what) => return Err(Fault::new(scan::span_in(self.octets, iter.rest).at(), what)),
            }
        }
        Ok(())
    }
}

impl<'a> IntoIterator for Params<'a> {
    type Item = Param<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { rest: self.octets }
    }
}

/// Iterator over [`Params`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iter<'a> {
    #[inline]
    fn step(&mut self) -> Option<Result<Param<'a>, What>> {
        let (first, octets) = self.rest.split_first()?;
        match param(octets).filter(|_| *first == b';') {
            Some((param, rest)) => {
                self.rest = rest;
                Some(Ok(param))
            }
            None => Some(Err(what_is_wrong(self.rest))),
        }
    }
}

/// The parameter at the start of what stands behind a `;`, and what follows it: nothing, or the next `;`.
#[inline]
fn param(octets: &[u8]) -> Option<(Param<'_>, &[u8])> {
    let (name, rest) = Class::PARAM_NAME.run(scan::trim_start(octets));
    let rest = scan::trim_start(rest);
    let (value, rest) = match rest {
        [b'=', rest @ ..] => {
            let rest = scan::trim_start(rest);
            // A quoted value is only its quoted string.
            let (value, rest) = match rest.first() {
                Some(b'"') => scan::split(rest, scan::quoted_len(rest)?),
                _ => Class::PARAM_VALUE.run(rest),
            };
            (Some(value), scan::trim_start(rest))
        }
        _ => (None, rest),
    };
    let stands = !name.is_empty() && matches!(rest.first(), None | Some(b';'));
    stands.then_some((Param { name, value }, rest))
}

/// What to say of a parameter outside the grammar: nothing else in it matters when one of its quotes does not close.
#[cold]
fn what_is_wrong(octets: &[u8]) -> What {
    let Some(mut rest) = octets.strip_prefix(b";") else { return What::Param };
    while let Some(found) = scan::find_either(rest, b';', b'"') {
        let (_, quote) = scan::split(rest, found);
        if quote.first() == Some(&b';') {
            return What::Param;
        }
        match scan::quoted_len(quote) {
            Some(len) => rest = scan::split(quote, len).1,
            None => return What::QuoteOpen,
        }
    }
    What::Param
}

impl<'a> Iterator for Iter<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        self.step()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_found_without_case_and_through_white_space() {
        let params = Params::new(b" ;\r\n  TAG = 98asjd8 ; q=0.33;lr;x=\"a;b=\\\"c\"");
        assert_eq!(params.get(b"tag"), Some(&b"98asjd8"[..]));
        assert_eq!(params.get(b"q"), Some(&b"0.33"[..]));
        assert_eq!(params.get(b"lr"), Some(&b""[..]));
        assert_eq!(params.get(b"x"), Some(&b"\"a;b=\\\"c\""[..]));
        assert_eq!(params.get(b"b"), None);
        assert!(params.has(b"LR") && !params.has(b"maddr"));
        assert_eq!(params.check(), Ok(()));
        assert_eq!(params.into_iter().count(), 4);
    }

    #[test]
    fn separators_without_parameters_are_faults() {
        let fault = |octets| Params::new(octets).check().map_err(|fault| (fault.at, fault.what));
        assert_eq!(fault(b";;,;,,"), Err((0, What::Param)));
        assert_eq!(fault(b";lr;;;"), Err((3, What::Param)));
        assert_eq!(fault(b";lr;"), Err((3, What::Param)));
        assert_eq!(fault(b"lr"), Err((0, What::Param)));
        assert_eq!(fault(b";a=b c"), Err((0, What::Param)));
        assert_eq!(fault(b";a=\"b\"c"), Err((0, What::Param)));
        assert_eq!(fault(b";a=\"b"), Err((0, What::QuoteOpen)));
        assert_eq!(fault(b""), Ok(()));
    }

    /// The same the slow way: cut at every `;` outside quotes first, then look at what lies between.
    fn cut_first(mut octets: &[u8]) -> Result<Vec<Param<'_>>, What> {
        let mut found = Vec::new();
        while let Some(rest) = octets.strip_prefix(b";") {
            let mut end = 0;
            while let Some(&octet) = rest.get(end).filter(|octet| **octet != b';') {
                end += if octet == b'"' { scan::quoted_len(&rest[end..]).ok_or(What::QuoteOpen)? } else { 1 };
            }
            let (param, after) = rest.split_at(end);
            octets = after;
            let (name, value) = match param.iter().position(|octet| *octet == b'=') {
                Some(at) => (&param[..at], Some(scan::trim(&param[at + 1..]))),
                None => (param, None),
            };
            let name = scan::trim(name);
            let stands = value.is_none_or(|value| match value.first() {
                Some(b'"') => scan::quoted_len(value) == Some(value.len()),
                _ => !value.iter().any(|octet| *octet <= b' ' || b"\"<>,".contains(octet)),
            });
            if name.is_empty() || !name.iter().all(|octet| Class::PARAM_NAME.has(*octet)) || !stands {
                return Err(What::Param);
            }
            found.push(Param { name, value });
        }
        if octets.is_empty() { Ok(found) } else { Err(What::Param) }
    }

    proptest! {
        #[test]
        fn one_walk_finds_what_cutting_first_finds(
            octets in "(;?[ \t]?(a|tag|[a-z\\[]{7,18}|<)?[ ]?(=[ ]?([a-z0-9=@:/]{0,20}|\"(b|;|\\\\\")*\"?|,)[ ]?)?){0,5}"
        ) {
            let params = Params::new(octets.as_bytes());
            let mut walked = Vec::new();
            let outcome = params.each(|param| walked.push(param)).map_err(|fault| fault.what);
            prop_assert_eq!(outcome.map(|()| walked), cut_first(params.as_bytes()));
        }

        #[test]
        fn any_octets_are_walked_to_an_end(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            let params = Params::new(&octets);
            let walked = params.into_iter().count();
            prop_assert!(walked <= octets.len());
            let _ = params.check();
        }
    }
}
