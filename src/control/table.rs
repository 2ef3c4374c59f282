//! Reading a TOML table key by key, so that every error is found and has its line.
//!
//! A derived deserialiser stops at the first error. Here each key is taken by name with its default, what is wrong is noted and
//! reading goes on; what nobody took is unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// For people: what is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// The text, and what was found wrong in it.
#[derive(Debug)]
pub struct Findings<'a> {
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Findings<'a> {
    /// Nothing yet.
    pub fn new(text: &'a str) -> Findings<'a> {
        Findings { text, problems: RefCell::default() }
    }

    /// Notes a problem at a place.
    pub fn note(&self, at: &Range<usize>, what: impl Into<String>) {
        let before = self.text.as_bytes().get(..at.start.min(self.text.len())).unwrap_or_default();
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        self.problems.borrow_mut().push(Problem { line, what: what.into() });
    }

    /// Everything noted, by line, none twice.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| (a.line, &a.what).cmp(&(b.line, &b.what)));
        problems.dedup();
        problems
    }
}

/// A value and where it stands. Defaults stand at their table's head.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// What.
    pub value: T,
    /// Where in the text.
    pub at: Range<usize>,
}

struct Item<'a> {
    at: Range<usize>,
    value: DeValue<'a>,
    value_at: Range<usize>,
}

/// A table that is being read.
pub struct Table<'a, 'f> {
    name: String,
    at: Range<usize>,
    items: BTreeMap<String, Item<'a>>,
    known: Vec<&'static str>,
    /// Keys that were taken, and where their values stand.
    places: BTreeMap<&'static str, Range<usize>>,
    findings: &'f Findings<'a>,
}

impl<'a, 'f> Table<'a, 'f> {
    /// The whole text; its syntax errors are noted.
    pub fn root(findings: &'f Findings<'a>) -> Table<'a, 'f> {
        let (table, errors) = DeTable::parse_recoverable(findings.text);
        for error in errors {
            findings.note(&error.span().unwrap_or_default(), error.message());
        }
        Table::new(String::new(), 0..0, table.into_inner(), findings)
    }

    fn new(name: String, at: Range<usize>, table: DeTable<'a>, findings: &'f Findings<'a>) -> Table<'a, 'f> {
        let item = |(key, value): (Spanned<std::borrow::Cow<'a, str>>, Spanned<DeValue<'a>>)| {
            let (at, value_at) = (key.span(), value.span());
            (key.into_inner().into_owned(), Item { at, value: value.into_inner(), value_at })
        };
        Table {
            name,
            at,
            items: table.into_iter().map(item).collect(),
            known: Vec::new(),
            places: BTreeMap::new(),
            findings,
        }
    }

    /// Where it stands.
    pub fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Notes a problem.
    pub fn note(&self, at: &Range<usize>, what: impl Into<String>) {
        self.findings.note(at, what);
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        let item = self.items.remove(key)?;
        self.places.insert(key, item.value_at.clone());
        Some(item)
    }

    /// True for a key that was read and is in the text, right or wrong.
    pub fn is_there(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Where the value of a key that was read stands; the table's head when it is not there.
    pub fn place(&self, key: &str) -> Range<usize> {
        self.places.get(key).cloned().unwrap_or_else(|| self.at())
    }

    /// Those of `keys` that are not there.
    pub fn missing(&self, keys: &[&'static str]) -> Vec<&'static str> {
        keys.iter().copied().filter(|key| !self.is_there(key)).collect()
    }

    /// A table inside this one; empty when it is not there.
    pub fn table(&mut self, key: &'static str) -> Table<'a, 'f> {
        let name = self.full(key);
        let (at, table) = match self.take(key) {
            None => (self.at.clone(), DeTable::new()),
            Some(Item { value: DeValue::Table(table), at, .. }) => (at, table),
            Some(item) => {
                self.note(&item.at, format!("{name} is a table: write [{name}] and its keys below"));
                (item.at, DeTable::new())
            }
        };
        Table::new(name, at, table, self.findings)
    }

    /// A key's value as `read` makes it of a string; `None` when the key is missing or wrong (noted).
    pub fn text<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, &'static str>) -> Option<Found<T>> {
        let item = self.take(key)?;
        let name = self.full(key);
        let Some(text) = item.value.as_str() else {
            self.note(&item.value_at, format!("{name} is of type {}, but should be a string", item.value.type_str()));
            return None;
        };
        match read(text) {
            Ok(value) => Some(Found { value, at: item.value_at }),
            Err(what) => {
                self.note(&item.value_at, format!("{name} = \"{text}\" {what}"));
                None
            }
        }
    }

    /// As [`Table::text`], with a default; the empty string is the default too.
    pub fn text_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Found<T> {
        let found = self.text(key, |text| if text.is_empty() { Ok(None) } else { read(text).map(Some) });
        match found {
            Some(Found { value: Some(value), at }) => Found { value, at },
            Some(Found { value: None, at }) => Found { value: default, at },
            None => Found { value: default, at: self.at.clone() },
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, key: &'static str, default: T, words: &[(&str, T)]) -> T {
        let Some(item) = self.take(key) else { return default };
        let found = item.value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        match found {
            Some((_, value)) => *value,
            None => {
                let choices: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                self.note(&item.value_at, format!("{} is one of {}", self.full(key), choices.join(", ")));
                default
            }
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(item) = self.take(key) else { return default };
        item.value.as_bool().unwrap_or_else(|| {
            self.note(&item.value_at, format!("{} is true or false, without quotes", self.full(key)));
            default
        })
    }

    /// A whole number within a range.
    pub fn number(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> Found<u64> {
        let fallback = Found { value: default, at: self.at.clone() };
        let Some(item) = self.take(key) else { return fallback };
        let number = item.value.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        self.within(key, number, item.value_at, range, "a whole number").unwrap_or(fallback)
    }

    /// A size within a range: a string with its unit, or a number of octets.
    pub fn size(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> Found<u64> {
        let fallback = Found { value: default, at: self.at.clone() };
        let Some(item) = self.take(key) else { return fallback };
        if let Some(text) = item.value.as_str() {
            return match super::units::size(text) {
                Ok(octets) => {
                    self.within(key, Some(octets), item.value_at, range, "a size in octets").unwrap_or(fallback)
                }
                Err(what) => {
                    self.note(&item.value_at, format!("{} = \"{text}\" {what}", self.full(key)));
                    fallback
                }
            };
        }
        let number = item.value.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        self.within(key, number, item.value_at, range, "a size such as \"10MiB\"").unwrap_or(fallback)
    }

    fn within(
        &self,
        key: &str,
        number: Option<u64>,
        at: Range<usize>,
        range: RangeInclusive<u64>,
        kind: &str,
    ) -> Option<Found<u64>> {
        if let Some(value) = number.filter(|number| range.contains(number)) {
            return Some(Found { value, at });
        }
        let (least, most) = range.into_inner();
        let bounds = if most == u64::MAX { format!("of at least {least}") } else { format!("from {least} to {most}") };
        self.note(&at, format!("{} is {kind} {bounds}", self.full(key)));
        None
    }

    /// A list of strings, each as `read` makes it. What is wrong is noted and left out; a value twice is an error too.
    pub fn list<T: PartialEq>(
        &mut self,
        key: &'static str,
        default: &[&str],
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Vec<Found<T>> {
        let name = self.full(key);
        let Some(item) = self.take(key) else {
            let at = self.at.clone();
            let values = default.iter().filter_map(|text| read(text).ok());
            return values.map(|value| Found { value, at: at.clone() }).collect();
        };
        let DeValue::Array(array) = item.value else {
            self.note(
                &item.value_at,
                format!("{name} is of type {}, but should be a list of strings", item.value.type_str()),
            );
            return Vec::new();
        };
        let mut list: Vec<Found<T>> = Vec::new();
        for entry in array {
            let at = entry.span();
            let Some(text) = entry.get_ref().as_str() else {
                self.note(&at, format!("{name} holds strings, not {}", entry.get_ref().type_str()));
                continue;
            };
            match read(text) {
                Ok(value) if list.iter().any(|found| found.value == value) => {
                    self.note(&at, format!("{name} has \"{text}\" twice"));
                }
                Ok(value) => list.push(Found { value, at }),
                Err(what) => self.note(&at, format!("{name}: \"{text}\" {what}")),
            }
        }
        list
    }

    /// Ends reading: whatever nobody took is unknown.
    pub fn end(self) {
        for (key, item) in &self.items {
            let name = self.full(key);
            let near = self.known.iter().map(|known| (distance(key, known), *known)).min();
            let hint = match near {
                Some((steps, known)) if steps <= 1 + key.len() / 4 => format!("; did you mean {known}?"),
                _ => String::new(),
            };
            self.note(&item.at, format!("unknown key {name}{hint}"));
        }
    }
}

/// Letters to change, add or remove until `a` is `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let best = (corner + usize::from(x != y)).min(left + 1).min(*cell + 1);
            corner = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_that_tell_two_words_apart() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }

    #[test]
    fn what_nobody_took_is_unknown_and_has_its_line() {
        let findings = Findings::new("[a]\nx = 1\n\nlisen = 2\n");
        let mut root = Table::root(&findings);
        let mut a = root.table("a");
        assert_eq!(a.number("x", 5, 0..=9).value, 1);
        assert_eq!(a.number("listen", 5, 0..=9).value, 5);
        a.end();
        root.end();
        let problems = findings.into_problems();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].to_string(), "line 4: unknown key a.lisen; did you mean listen?");
    }
}
