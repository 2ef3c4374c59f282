//! The few byte scanners everyone here shares: white space, tokens, quotes, numbers, lists.
//!
//! Header values are scanned where they lie, folds included: inside a header a CR LF is always followed by white space (the
//! reader of messages saw to that), so CR and LF simply count as white space here (LWS, RFC 3261 25.1).

use crate::base::span::Span;
use memchr::{memchr, memchr2, memchr3};

/// What an octet may be part of, a bit each: one load answers, whatever the question.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let alphanumeric = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    mark(&mut classes, alphanumeric, Class::TOKEN.0 | Class::PARAM_NAME.0 | Class::HOST.0);
    mark(&mut classes, b"-.!%*_+`'~", Class::TOKEN.0 | Class::PARAM_NAME.0);
    mark(&mut classes, b"[]/:&+$()", Class::PARAM_NAME.0);
    mark(&mut classes, b"-._", Class::HOST.0);
    mark(&mut classes, b"0123456789", Class::DIGIT.0);
    mark(&mut classes, b"0123456789abcdefABCDEF:.", Class::IPV6.0);
    let mut octet = u8::MAX;
    while octet > b' ' {
        let no_control = octet != 0x7f;
        let no_bracket = !matches!(octet, b'<' | b'>' | b'"');
        let bits = [
            if no_control { Class::VISIBLE.0 } else { 0 },
            if no_control && no_bracket { Class::URI.0 } else { 0 },
            if no_bracket && !matches!(octet, b',' | b';') { Class::PARAM_VALUE.0 } else { 0 },
        ];
        mark(&mut classes, &[octet], bits[0] | bits[1] | bits[2]);
        octet -= 1;
    }
    classes
};

/// A set of octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class(u8);

impl Class {
    /// RFC 3261 25.1 `token`.
    pub const TOKEN: Class = Class(1);
    /// Names of header parameters are tokens; those of URI parameters may also hold `paramchar` (RFC 3261 25.1).
    pub const PARAM_NAME: Class = Class(2);
    /// RFC 3261 25.1 `hostname`, and IPv4 addresses. Underscores are none by the RFC, and common all the same.
    pub const HOST: Class = Class(4);
    /// All but white space, control characters, quotes and angle brackets, which are in no URI at all.
    pub const URI: Class = Class(8);
    /// All but white space and control characters.
    pub const VISIBLE: Class = Class(16);
    /// What a parameter's value that is not quoted is made of: no white space, separator, quote or bracket.
    pub const PARAM_VALUE: Class = Class(32);
    /// Decimal digits.
    pub const DIGIT: Class = Class(64);
    /// What an IPv6 address is made of.
    pub const IPV6: Class = Class(128);

    /// True when this octet is in it.
    #[inline]
    pub fn has(self, octet: u8) -> bool {
        CLASSES.get(usize::from(octet)).is_some_and(|classes| classes & self.0 != 0)
    }

    /// True when all of them are.
    #[inline]
    pub fn has_all(self, octets: &[u8]) -> bool {
        let (fours, rest) = octets.as_chunks::<4>();
        fours.iter().all(|four| self.has_four(four)) && rest.iter().all(|&octet| self.has(octet))
    }

    /// One test for four octets, two instructions each.
    #[inline]
    fn has_four(self, four: &[u8; 4]) -> bool {
        let [a, b, c, d] = four.map(|octet| CLASSES.get(usize::from(octet)).copied().unwrap_or(0));
        a & b & c & d & self.0 != 0
    }

    /// The octets of this class at the start, and the rest.
    #[inline]
    pub fn run(self, octets: &[u8]) -> (&[u8], &[u8]) {
        let (fours, _) = octets.as_chunks::<4>();
        let mut len = fours.iter().take_while(|four| self.has_four(four)).count() * 4;
        while octets.get(len).is_some_and(|&octet| self.has(octet)) {
            len += 1;
        }
        split(octets, len)
    }
}

#[allow(clippy::indexing_slicing)] // the compiler runs this
const fn mark(classes: &mut [u8; 256], set: &[u8], bits: u8) {
    let mut at = 0;
    while at < set.len() {
        classes[set[at] as usize] |= bits;
        at += 1;
    }
}

/// Where `octet` stands first. For the short pieces that headers are made of: eight octets at a time without a call, which
/// is over before `memchr` has begun. What is long is `memchr`'s.
#[inline]
pub fn find(octets: &[u8], octet: u8) -> Option<usize> {
    find_with(octets, |word| zeros(word, octet), |one| one == octet, |long| memchr(octet, long))
}

/// Where one of the two stands first; as [`find`].
#[inline]
pub fn find_either(octets: &[u8], one: u8, two: u8) -> Option<usize> {
    let in_word = |word| zeros(word, one) | zeros(word, two);
    find_with(octets, in_word, |octet| octet == one || octet == two, |long| memchr2(one, two, long))
}

#[inline]
fn find_with(
    octets: &[u8],
    in_word: impl Fn(u64) -> u64,
    is_it: impl Fn(u8) -> bool,
    in_long: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    let (mut at, mut rest) = (0, octets);
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        if at == SHORT {
            return Some(at + in_long(rest)?);
        }
        // The lowest bit set marks an octet that is meant; those above it may err, and are not looked at.
        let found = in_word(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        (at, rest) = (at + 8, after);
    }
    Some(at + rest.iter().position(|&octet| is_it(octet))?)
}

/// The highest bit of the lowest octet of `word` that is `octet`, and perhaps of some above it; 0 when there is none.
#[inline]
fn zeros(word: u64, octet: u8) -> u64 {
    const LOW: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = LOW << 7;
    let word = word ^ (LOW * u64::from(octet));
    word.wrapping_sub(LOW) & !word & HIGH
}

/// Up to here [`find`] looks itself: four words; most names, values and URIs are shorter.
const SHORT: usize = 32;

/// True for a whole, non-empty token.
#[inline]
pub fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && Class::TOKEN.has_all(octets)
}

/// True for linear white space, the CR and LF of a fold included.
#[inline]
pub fn is_lws(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without white space at either end.
#[inline]
pub fn trim(octets: &[u8]) -> &[u8] {
    trim_end(trim_start(octets))
}

/// Without white space at the start.
#[inline]
pub fn trim_start(mut octets: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = octets
        && is_lws(*first)
    {
        octets = rest;
    }
    octets
}

/// Without white space at the end.
#[inline]
pub fn trim_end(mut octets: &[u8]) -> &[u8] {
    while let [rest @ .., last] = octets
        && is_lws(*last)
    {
        octets = rest;
    }
    octets
}

/// The first `at` octets and the rest; everything and nothing when there are fewer.
#[inline]
pub fn split(octets: &[u8], at: usize) -> (&[u8], &[u8]) {
    octets.split_at_checked(at).unwrap_or((octets, &[]))
}

/// What stands before the first `octet` and what stands after it.
#[inline]
pub fn split_once(octets: &[u8], octet: u8) -> Option<(&[u8], &[u8])> {
    let at = find(octets, octet)?;
    let (before, after) = octets.split_at_checked(at)?;
    Some((before, after.get(1..)?))
}

/// A whole decimal number, leading zeros allowed. `None`: not only digits, none at all, or above 2^64-1.
#[inline]
pub fn decimal(octets: &[u8]) -> Option<u64> {
    if octets.is_empty() {
        return None;
    }
    octets.iter().try_fold(0u64, |sum, &octet| {
        let digit = octet.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// A whole decimal number of at most 2^32-1.
#[inline]
pub fn decimal_u32(octets: &[u8]) -> Option<u32> {
    decimal(octets).and_then(|number| u32::try_from(number).ok())
}

/// Appends a number in decimal.
pub fn put_decimal(out: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        return out.push(b'0' + number as u8);
    }
    // 2^64 has 20 digits.
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Length of the quoted string at the start, both quotes included; `None` when it does not end (RFC 3261 25.1
/// `quoted-string`: a backslash takes the next octet with it).
pub fn quoted_len(octets: &[u8]) -> Option<usize> {
    if octets.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        let rest = octets.get(at..)?;
        let found = find_either(rest, b'"', b'\\')?;
        at += found + 1;
        if rest.get(found) == Some(&b'"') {
            return Some(at);
        }
        // The octet after a backslash stands for itself.
        at += 1;
    }
}

/// A quoted string without its quotes and backslashes; anything else as it is. Allocates only when there are backslashes.
pub fn unquote(octets: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let Some(inner) = octets.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return octets.into();
    };
    if memchr::memchr(b'\\', inner).is_none() {
        return inner.into();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut octets = inner.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b'\\' => out.extend(octets.next()),
            other => out.push(other),
        }
    }
    out.into()
}

/// Where `part`, a piece of `owner`, lies in it. The span of nothing when it is no piece of it.
#[inline]
pub fn span_in(owner: &[u8], part: &[u8]) -> Span {
    let at = (part.as_ptr() as usize).wrapping_sub(owner.as_ptr() as usize);
    if at <= owner.len() && part.len() <= owner.len() - at { Span::new(at, part.len()) } else { Span::EMPTY }
}

/// The values of a comma-separated list, trimmed, empty ones left out. Commas in quoted strings and in angle brackets
/// separate nothing.
#[derive(Clone, Debug)]
pub struct List<'a> {
    rest: &'a [u8],
}

impl<'a> List<'a> {
    /// The values in `octets`.
    pub fn new(octets: &'a [u8]) -> List<'a> {
        List { rest: octets }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = value_end(self.rest);
            let (value, rest) = split(self.rest, end);
            self.rest = rest.get(1..).unwrap_or_default();
            let value = trim(value);
            if !value.is_empty() {
                return Some(value);
            }
        }
        None
    }
}

/// Where the first value of a list ends: at its comma, or at the end. A quote or bracket that does not close reaches to
/// the end.
#[inline]
pub fn value_end(list: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let Some(rest) = list.get(at..) else { return list.len() };
        let Some(found) = memchr3(b',', b'"', b'<', rest) else { return list.len() };
        at += found;
        let rest = rest.get(found..).unwrap_or_default();
        let len = match rest.first() {
            Some(b'"') => quoted_len(rest),
            Some(b'<') => find(rest, b'>').map(|end| end + 1),
            _ => return at,
        };
        match len {
            Some(len) => at += len,
            None => return list.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_split_at_commas_that_separate() {
        let values = |list: &'static [u8]| List::new(list).collect::<Vec<_>>();
        assert_eq!(values(b"a, b ,c"), [&b"a"[..], b"b", b"c"]);
        assert_eq!(values(b"\"x, \\\" y\" <sip:a,b@c>, <sip:d>"), [&b"\"x, \\\" y\" <sip:a,b@c>"[..], b"<sip:d>"]);
        assert_eq!(values(b",, a,,"), [&b"a"[..]]);
        assert_eq!(values(b"a, \"open, b"), [&b"a"[..], b"\"open, b"]);
        assert_eq!(values(b"<open, b"), [&b"<open, b"[..]]);
        assert!(values(b" \t").is_empty());
    }

    #[test]
    fn numbers_have_ends() {
        assert_eq!(decimal(b"0068"), Some(68));
        assert_eq!(decimal(b""), None);
        assert_eq!(decimal(b"-1"), None);
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"36893488147419103232"), None);
        assert_eq!(decimal_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(decimal_u32(b"4294967296"), None);
        let mut out = Vec::new();
        for number in [0, 7, 10, u64::MAX] {
            out.clear();
            put_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn quotes_close_where_they_close() {
        assert_eq!(quoted_len(b"\"\\\\\" x"), Some(4));
        assert_eq!(quoted_len(b"\"a\\\""), None);
        assert_eq!(quoted_len(b"a"), None);
        assert_eq!(&*unquote(b"\"J \\\\\\\"\""), b"J \\\"");
        assert_eq!(&*unquote(b"plain"), b"plain");
        assert_eq!(&*unquote(b"\"plain\""), b"plain");
    }

    #[test]
    fn tokens_are_what_the_grammar_says() {
        assert!(is_token(b"!interesting-Method0123456789_*+`.%indeed'~"));
        for not in [&b""[..], b"a b", b"a,b", b"a\"", b"a\x80", b"a@b", b"a\0"] {
            assert!(!is_token(not));
        }
    }

    #[test]
    fn classes_hold_what_their_names_say() {
        for octet in 0..=u8::MAX {
            let is_visible = octet > b' ' && octet != 0x7f;
            let is_bracket = b"<>\"".contains(&octet);
            let is_alphanumeric = octet.is_ascii_alphanumeric();
            assert_eq!(Class::TOKEN.has(octet), is_alphanumeric || b"-.!%*_+`'~".contains(&octet), "{octet}");
            let is_param_name = is_alphanumeric || b"-.!%*_+`'~[]/:&+$()".contains(&octet);
            assert_eq!(Class::PARAM_NAME.has(octet), is_param_name, "{octet}");
            assert_eq!(Class::HOST.has(octet), is_alphanumeric || b"-._".contains(&octet), "{octet}");
            assert_eq!(Class::URI.has(octet), is_visible && !is_bracket, "{octet}");
            assert_eq!(Class::VISIBLE.has(octet), is_visible, "{octet}");
            let is_value = octet > b' ' && !is_bracket && !b",;".contains(&octet);
            assert_eq!(Class::PARAM_VALUE.has(octet), is_value, "{octet}");
            assert_eq!(Class::DIGIT.has(octet), octet.is_ascii_digit(), "{octet}");
            assert_eq!(Class::IPV6.has(octet), octet.is_ascii_hexdigit() || b":.".contains(&octet), "{octet}");
        }
    }

    proptest! {
        #[test]
        fn a_run_ends_before_the_first_that_is_no_part_of_it(octets in "[a-z]{0,20}[ a-z,]{0,3}[a-z]{0,20}") {
            let octets = octets.as_bytes();
            let len = octets.iter().position(|&octet| !Class::TOKEN.has(octet)).unwrap_or(octets.len());
            prop_assert_eq!(Class::TOKEN.run(octets), octets.split_at(len));
            prop_assert_eq!(Class::TOKEN.has_all(octets), len == octets.len());
        }

        #[test]
        fn what_is_found_is_the_first(
            octets in proptest::collection::vec(prop_oneof![Just(b';'), Just(b'='), any::<u8>()], 0..80), one: u8, two: u8
        ) {
            for (one, two) in [(b';', b'='), (one, two), (0, 0xff), (0x80, 0x7f)] {
                let expected = octets.iter().position(|&octet| octet == one || octet == two);
                prop_assert_eq!(find_either(&octets, one, two), expected);
                prop_assert_eq!(find(&octets, one), octets.iter().position(|&octet| octet == one));
            }
        }

        #[test]
        fn scanners_take_anything(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = List::new(&octets).count();
            let _ = (quoted_len(&octets), unquote(&octets), trim(&octets).len(), decimal(&octets));
            let inner = trim(&octets);
            prop_assert_eq!(span_in(&octets, inner).of(&octets), inner);
            prop_assert_eq!(span_in(&octets, b"elsewhere"), Span::EMPTY);
        }
    }
}
