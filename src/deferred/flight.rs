//! The messages of one push that are loaded, queued or sent, and not answered. Knows places, not octets.

use super::payload::Form;
use crate::store::record::{Locator, Place};
use std::collections::VecDeque;

/// Numbered as they are taken. Answers come mostly in that order, so a ring finds them where a table would have to look in memory
/// that nobody has touched since the message was taken.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Each with the form it goes out in, once that is known. `None` once it has ended.
    ring: VecDeque<Option<(Locator, Form)>>,
    /// Number of the ring's first.
    first: u64,
    len: usize,
}

impl Flight {
    /// Takes a message; its number.
    pub(super) fn begin(&mut self, locator: Locator) -> u64 {
        self.ring.push_back(Some((locator, Form::default())));
        self.len += 1;
        self.next() - 1
    }

    /// The number that the next will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// The message of this number goes out in this form.
    pub(super) fn takes_form(&mut self, number: u64, form: Form) {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(Some((_, has))) = at.and_then(|at| self.ring.get_mut(at)) {
            *has = form;
        }
    }

    /// The form of the message of this number.
    pub(super) fn form(&self, number: u64) -> Option<Form> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.ring.get(at)?.as_ref().map(|(_, form)| *form)
    }

    /// The message of this number has ended, one way or the other; `None` when it had before.
    pub(super) fn end(&mut self, number: u64) -> Option<Locator> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let (locator, _) = self.ring.get_mut(at)?.take()?;
        self.len -= 1;
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.first += 1;
        }
        Some(locator)
    }

    /// True while the message of this number has not ended.
    pub(super) fn has(&self, number: u64) -> bool {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.ring.get(at)).is_some_and(Option::is_some)
    }

    /// The number of the message of this place.
    pub(super) fn find(&self, place: Place) -> Option<u64> {
        let is_it = |one: &Option<(Locator, Form)>| one.is_some_and(|(locator, _)| locator.place() == place);
        Some(self.first + self.ring.iter().position(is_it)? as u64)
    }

    /// All that have not ended do so unfinished, in the order in which they were taken. What comes next has numbers of its own.
    pub(super) fn give_back(&mut self) -> Vec<Locator> {
        self.first = self.next();
        self.len = 0;
        self.ring.drain(..).flatten().map(|(locator, _)| locator).collect()
    }

    /// True when the message of this place is in it. Looks from the youngest on, through a window of messages at most.
    pub(super) fn contains(&self, place: Place) -> bool {
        self.len > 0 && self.ring.iter().rev().flatten().any(|(locator, _)| locator.place() == place)
    }

    /// True when there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SegmentNo;
    use crate::store::record::{Flags, Stamp};

    #[test]
    fn a_message_ends_once_in_whatever_order_and_is_found_until_then() {
        let mut flight = Flight::default();
        let place = |offset| Place { segment: SegmentNo(1), offset };
        let numbers: Vec<u64> = (0..5)
            .map(|n| flight.begin(Locator::new(place(n), Stamp(u64::from(n)), 9, 64, Flags::default())))
            .collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        assert_eq!((flight.find(place(3)), flight.find(place(9))), (Some(3), None));
        assert!(flight.end(3).is_some() && flight.find(place(3)).is_none());
        assert!(flight.has(2) && !flight.has(3) && !flight.has(5));
        flight.takes_form(2, Form::Cpim);
        flight.takes_form(3, Form::Cpim);
        assert_eq!([1, 2, 3, 5].map(|n| flight.form(n)), [Some(Form::Wrapped), Some(Form::Cpim), None, None]);
        for n in [2usize, 0, 1, 4] {
            assert!(flight.contains(place(n as u32)));
            assert_eq!(flight.end(numbers[n]).map(|locator| locator.place()), Some(place(n as u32)));
            assert_eq!(flight.end(numbers[n]), None);
            assert!(!flight.contains(place(n as u32)));
        }
        assert!(flight.is_empty() && flight.ring.is_empty());
        assert_eq!((flight.next(), flight.end(99)), (5, None));
    }

    #[test]
    fn what_is_given_back_has_no_number_any_more() {
        let mut flight = Flight::default();
        let place = |offset| Place { segment: SegmentNo(1), offset };
        let locator = |n| Locator::new(place(n), Stamp(u64::from(n)), 9, 64, Flags::default());
        (0..4).for_each(|n| _ = flight.begin(locator(n)));
        flight.end(1);
        let back: Vec<Place> = flight.give_back().iter().map(Locator::place).collect();
        assert_eq!(back, [place(0), place(2), place(3)]);
        assert!(flight.is_empty() && !flight.has(2) && !flight.contains(place(2)));
        assert_eq!((flight.begin(locator(2)), flight.end(2)), (4, None));
        assert!(flight.has(4));
    }
}
