//! What stands behind seven hyphens in a message that passes by: an MSRP end-line made of it would end the message early.
//!
//! A large message is never in memory as a whole, so what its end-lines must avoid is noted while it comes.

use memchr::memmem::Finder;
use std::sync::LazyLock;

static SEVEN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"-------"));

/// Longest transaction id (RFC 4975 9): what of a word is remembered.
const WORD_MAX: usize = 32;

/// Words remembered: a kilobyte. A message with more of them is one of which nothing is known.
const WORDS_MAX: usize = 32;

/// Notes what stands behind seven hyphens.
#[derive(Debug, Default)]
pub(super) struct Hyphens {
    /// Where the next octets would go on.
    at: u64,
    /// Hyphens directly before that.
    run: usize,
    /// The word that begins there.
    word: Option<Vec<u8>>,
    words: Vec<Vec<u8>>,
    any: bool,
    /// Something may have been overlooked.
    unsure: bool,
}

impl Hyphens {
    /// Octets of the message from `at` on.
    pub(super) fn see(&mut self, at: u64, octets: &[u8]) {
        if at != self.at {
            self.interrupted();
        }
        self.at = at + octets.len() as u64;
        let mut rest = octets;
        while !rest.is_empty() {
            if let Some(word) = &mut self.word {
                let of_word = |octet: &u8| octet.is_ascii_alphanumeric() || b".-+%=".contains(octet);
                let room = WORD_MAX - word.len();
                let len = rest.iter().take(room).take_while(|octet| of_word(octet)).count();
                let (taken, after) = rest.split_at(len);
                word.extend_from_slice(taken);
                rest = after;
                if len == room || !rest.is_empty() {
                    self.end_word();
                }
            } else if self.run > 0 {
                let more = rest.iter().take_while(|&&octet| octet == b'-').count();
                self.run += more;
                rest = rest.get(more..).unwrap_or_default();
                self.any |= self.run >= 7;
                if !rest.is_empty() {
                    self.word = (self.run >= 7).then(Vec::new);
                    self.run = 0;
                }
            } else if let Some(found) = SEVEN.find(rest) {
                self.run = 7;
                self.any = true;
                rest = rest.get(found + 7..).unwrap_or_default();
            } else {
                self.run = rest.iter().rev().take_while(|&&octet| octet == b'-').count();
                rest = &[];
            }
        }
    }

    /// All octets were seen, the last of them is number `end`.
    pub(super) fn finish(&mut self, end: u64) {
        if self.at == end {
            self.end_word();
        } else {
            self.interrupted();
        }
    }

    /// What goes on elsewhere than it stopped may hide something at the seam.
    fn interrupted(&mut self) {
        self.unsure |= self.run > 0 || self.word.is_some();
        (self.run, self.word) = (0, None);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take().filter(|word| !word.is_empty()) else { return };
        if self.words.len() < WORDS_MAX {
            self.words.push(word);
        } else {
            self.unsure = true;
        }
    }

    /// True when the message may have seven hyphens in it.
    pub(super) fn any(&self) -> bool {
        self.any || self.unsure
    }

    /// True when seven hyphens and `tid` do not stand in it.
    pub(super) fn allow(&self, tid: &[u8]) -> bool {
        !self.unsure && !self.words.iter().any(|word| word.starts_with(tid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pieces: &[(u64, &str)], end: u64) -> Hyphens {
        let mut hyphens = Hyphens::default();
        pieces.iter().for_each(|(at, text)| hyphens.see(*at, text.as_bytes()));
        hyphens.finish(end);
        hyphens
    }

    #[test]
    fn a_word_behind_seven_hyphens_is_noted_wherever_it_is_cut() {
        let text = "x------ -------dkei38sd$ and ---------abcd+\r\n-------\r\nlast -------tail";
        for cut in 0..text.len() {
            let hyphens = seen(&[(0, &text[..cut]), (cut as u64, &text[cut..])], text.len() as u64);
            assert!(hyphens.any());
            for (tid, free) in
                [("dkei38sd", false), ("dkei", false), ("dkei38sdx", true), ("abcd", false), ("last", true)]
            {
                assert_eq!(hyphens.allow(tid.as_bytes()), free, "{tid} cut at {cut}");
            }
            assert!(!hyphens.allow(b"tail"));
        }
        let none = seen(&[(0, "-- ------ -- a-b")], 16);
        assert!(!none.any() && none.allow(b"abcd"));
    }

    #[test]
    fn a_seam_that_was_not_seen_is_not_trusted() {
        // The second half comes first.
        let unsure = seen(&[(9, "dkei38sd and so on"), (0, "xx-------")], 27);
        assert!(unsure.any() && !unsure.allow(b"dkei38sd"));
        let sure = seen(&[(9, "dkei38sd and so on"), (0, "xx.......")], 27);
        assert!(!sure.any() && sure.allow(b"dkei38sd"));
        let many = "-------abcd ".repeat(100);
        assert!(!seen(&[(0, &many)], many.len() as u64).allow(b"else"));
    }
}
