//! How much may be unanswered: a window that begins small and grows while answers come in time ([`crate::manual::peers`]).
//!
//! Real clients differ: some lose frames when eight or more arrive in one read, one stops at about 64 KiB in flight,
//! most take 64 and more. So nothing is assumed and everything is tried, doubling.
//!
//! ```text
//!   4 messages ──a window full of answers in time──▶ 8 ──▶ 16 ──▶ ... ──▶ the configured window
//!       ▲                                                                     │
//!       └── 1 message, and never more than half of what was too much ◀──late──┘
//! ```

use std::time::Duration;

/// Messages that may be unanswered at a session's birth.
pub const MESSAGES_START: u32 = 4;

/// Octets that may be unanswered at a session's birth, and at least: one known client stops at about 64 KiB.
pub const OCTETS_START: usize = 64 * 1024;

/// An answer within this time is in time: a phone that wakes its radio needs a few hundred milliseconds.
pub const IN_TIME: Duration = Duration::from_secs(1);

/// The window of one session.
#[derive(Clone, Debug)]
pub struct Window {
    messages: u32,
    octets: usize,
    messages_max: u32,
    octets_max: usize,
    /// Answered in time since the last growth.
    messages_since: u32,
    octets_since: usize,
    fell: bool,
}

impl Window {
    /// Grows up to the two bounds. `cautious`: one message at a time, whatever the answers.
    pub fn new(messages_max: u32, octets_max: usize, cautious: bool) -> Window {
        let messages_max = if cautious { 1 } else { messages_max.max(1) };
        let octets_max = if cautious { octets_max.min(OCTETS_START) } else { octets_max };
        Window {
            messages: MESSAGES_START.min(messages_max),
            octets: OCTETS_START.min(octets_max),
            messages_max,
            octets_max,
            messages_since: 0,
            octets_since: 0,
            fell: false,
        }
    }

    /// Messages that may be unanswered now.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Octets that may be unanswered now. One chunk may always be, however long.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// An answer came: `octets` of a chunk, `messages` of 1 when it was the message's last one.
    pub fn answered(&mut self, messages: u32, octets: usize, in_time: bool) {
        if !in_time {
            self.messages_since = 0;
            self.octets_since = 0;
            return;
        }
        self.messages_since += messages;
        self.octets_since += octets;
        if self.messages_since >= self.messages || self.octets_since >= self.octets {
            self.messages = self.messages.saturating_mul(2).min(self.messages_max);
            self.octets = self.octets.saturating_mul(2).min(self.octets_max);
            self.messages_since = 0;
            self.octets_since = 0;
        }
    }

    /// An answer is late or lost: one at a time, and from there at most to half of what was tried.
    pub fn fall(&mut self) {
        self.fell = true;
        self.messages_max = (self.messages / 2).max(1);
        self.octets_max = (self.octets / 2).max(OCTETS_START.min(self.octets_max));
        self.messages = 1;
        self.octets = OCTETS_START.min(self.octets_max);
        self.messages_since = 0;
        self.octets_since = 0;
    }

    /// True when answers were late or lost: the user's next session begins cautiously.
    pub fn fell(&self) -> bool {
        self.fell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_up_to_its_bounds() {
        let mut window = Window::new(1_024, 1 << 20, false);
        let mut seen = vec![window.messages()];
        for _ in 0..3_000 {
            window.answered(1, 1_000, true);
            if seen.last() != Some(&window.messages()) {
                seen.push(window.messages());
            }
        }
        assert_eq!(seen, [4, 8, 16, 32, 64, 128, 256, 512, 1_024]);
        assert_eq!(window.octets(), 1 << 20);
    }

    #[test]
    fn a_late_answer_goes_back_to_one_and_halves_the_ceiling() {
        let mut window = Window::new(64, 1 << 20, false);
        (0..12).for_each(|_| window.answered(1, 10, true));
        assert_eq!(window.messages(), 16);
        window.fall();
        assert_eq!((window.messages(), window.fell()), (1, true));
        (0..100).for_each(|_| window.answered(1, 10, true));
        assert_eq!(window.messages(), 8);
        (0..100).for_each(|_| window.fall());
        assert_eq!((window.messages(), window.octets()), (1, OCTETS_START));
    }

    #[test]
    fn a_cautious_window_stays_at_one() {
        let mut window = Window::new(64, 1 << 20, true);
        (0..100).for_each(|_| window.answered(1, 100_000, true));
        assert_eq!((window.messages(), window.octets()), (1, OCTETS_START));
    }

    #[test]
    fn slow_answers_do_not_let_it_grow() {
        let mut window = Window::new(64, 1 << 20, false);
        (0..100).for_each(|n| window.answered(1, 10, n % 3 == 0));
        assert_eq!(window.messages(), 4);
    }
}
