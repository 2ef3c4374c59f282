//! If-Match and If-None-Match (RFC 9110 13), as far as a GET needs them.

use crate::wire::scan;
use hyper::header::{self, HeaderMap, HeaderName};

/// What becomes of a request that would be answered 200.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is.
    Go,
    /// 304: the client has it.
    Unchanged,
    /// 412: it is not what the client believes.
    Failed,
}

/// The conditions of a request.
#[derive(Debug)]
pub(super) struct Conditions<'a>(&'a HeaderMap);

impl<'a> Conditions<'a> {
    /// As they stand in its head.
    pub(super) fn of(headers: &'a HeaderMap) -> Conditions<'a> {
        Conditions(headers)
    }

    /// What they say of a document that exists and has this tag, which is a strong one.
    ///
    //= RFC 4825 8.3: GET operations can be conditional
    pub(super) fn verdict(&self, tag: &str) -> Verdict {
        // RFC 9110 13.2.2: If-Match first. A weak tag matches nothing there (8.8.3.2).
        if self.names(&header::IF_MATCH, tag, false) == Some(false) {
            return Verdict::Failed;
        }
        match self.names(&header::IF_NONE_MATCH, tag, true) {
            Some(true) => Verdict::Unchanged,
            _ => Verdict::Go,
        }
    }

    /// Whether a list of tags has this one; `None` without such a header.
    fn names(&self, name: &HeaderName, tag: &str, weakly: bool) -> Option<bool> {
        let mut values = self.0.get_all(name).iter().peekable();
        values.peek()?;
        let is_it = |value: &[u8]| {
            let value = value.strip_prefix(b"W/").filter(|_| weakly).unwrap_or(value);
            value == b"*"
                || value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) == Some(tag.as_bytes())
        };
        Some(values.flat_map(|value| scan::List::new(value.as_bytes())).any(is_it))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn verdict(fields: &[(HeaderName, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
        }
        Conditions::of(&headers).verdict("abc")
    }

    #[test]
    fn a_client_that_has_the_document_is_not_sent_it_again() {
        let of = |value| verdict(&[(header::IF_NONE_MATCH, value)]);
        for same in ["\"abc\"", "W/\"abc\"", "*", "\"x\", \"abc\"", "\"a,b\" , \"abc\"", "\"x\",W/\"abc\""] {
            assert_eq!(of(same), Verdict::Unchanged, "{same}");
        }
        for other in ["\"abd\"", "abc", "\"abc", "\"\"", "", "W/abc", "\"abc,\""] {
            assert_eq!(of(other), Verdict::Go, "{other}");
        }
        assert_eq!(verdict(&[]), Verdict::Go);
        assert_eq!(
            verdict(&[(header::IF_NONE_MATCH, "\"x\""), (header::IF_NONE_MATCH, "\"abc\"")]),
            Verdict::Unchanged
        );
    }

    #[test]
    fn a_client_that_insists_on_another_is_refused() {
        let of = |value| verdict(&[(header::IF_MATCH, value)]);
        for same in ["\"abc\"", "*", "\"x\", \"abc\""] {
            assert_eq!(of(same), Verdict::Go, "{same}");
        }
        for other in ["\"abd\"", "W/\"abc\"", "abc", ""] {
            assert_eq!(of(other), Verdict::Failed, "{other}");
        }
        assert_eq!(verdict(&[(header::IF_MATCH, "\"x\""), (header::IF_NONE_MATCH, "\"abc\"")]), Verdict::Failed);
        assert_eq!(verdict(&[(header::IF_MATCH, "\"abc\""), (header::IF_NONE_MATCH, "\"abc\"")]), Verdict::Unchanged);
    }
}
