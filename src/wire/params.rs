//! Parameters: `;name[=value]`, of header values and of URIs.
//!
//! Knows quotes and white space; does not know what any parameter means.

use super::scan;
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
        if self.rest.is_empty() {
            return None;
        }
        let Some(param) = self.rest.strip_prefix(b";") else { return Some(Err(What::Param)) };
        // Up to the next `;` that is not in quotes.
        let mut end = 0;
        loop {
            let ahead = param.get(end..).unwrap_or_default();
            match scan::find_either(ahead, b';', b'"') {
                None => end = param.len(),
                Some(found) if ahead.get(found) == Some(&b'"') => {
                    end += found;
                    match scan::quoted_len(ahead.get(found..).unwrap_or_default()) {
                        Some(len) => end += len,
                        None => return Some(Err(What::QuoteOpen)),
                    }
                    continue;
                }
                Some(found) => end += found,
            }
            break;
        }
        let (param, rest) = scan::split(param, end);
        let (name, value) = match scan::split_once(param, b'=') {
            Some((name, value)) => (scan::trim(name), Some(scan::trim(value))),
            None => (scan::trim(param), None),
        };
        // A quoted value is only its quoted string; any other has no white space, quote or bracket inside.
        let value_stands = match value {
            None => true,
            Some(value @ [b'"', ..]) => scan::quoted_len(value) == Some(value.len()),
            Some(value) => !value
                .iter()
                .fold(false, |bad, &octet| bad | (octet <= b' ') | matches!(octet, b'"' | b'<' | b'>' | b',')),
        };
        if name.is_empty() || !name.iter().all(|&octet| scan::is_param_name_octet(octet)) || !value_stands {
            return Some(Err(What::Param));
        }
        self.rest = rest;
        Some(Ok(Param { name, value }))
    }
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

    proptest! {
        #[test]
        fn any_octets_are_walked_to_an_end(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            let params = Params::new(&octets);
            let walked = params.into_iter().count();
            prop_assert!(walked <= octets.len());
            let _ = params.check();
        }
    }
}
