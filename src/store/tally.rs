//! How many of a user's messages are of which kind, kept while they come and go: what a summary of them says costs no look at the
//! list. Knows flags and no meaning of theirs.

use super::record::Flags;

/// The flags that are counted: eight kinds of message.
const COUNTED: [Flags; 3] = [Flags::URGENT, Flags::RETAINED, Flags::LARGE];

/// Messages by kind. 32 octets, of the users who have more than one message.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally([u32; 1 << COUNTED.len()]);

impl Tally {
    /// Of these messages.
    pub fn of(flags: impl Iterator<Item = Flags>) -> Tally {
        let mut tally = Tally::default();
        flags.for_each(|flags| tally.add(flags));
        tally
    }

    /// One more of this kind.
    pub fn add(&mut self, flags: Flags) {
        let kind = &mut self.0[kind(flags)];
        *kind = kind.saturating_add(1);
    }

    /// One less.
    pub fn sub(&mut self, flags: Flags) {
        let kind = &mut self.0[kind(flags)];
        *kind = kind.saturating_sub(1);
    }

    /// How many have all flags of `with` and none of `without`.
    pub fn count(&self, with: Flags, without: Flags) -> u64 {
        let kinds = (0..self.0.len()).filter(|&at| {
            let flags = flags(at);
            flags.has(with) && flags.0 & without.0 == 0
        });
        kinds.map(|at| u64::from(self.0[at])).sum()
    }
}

fn kind(flags: Flags) -> usize {
    COUNTED.iter().enumerate().map(|(bit, &flag)| usize::from(flags.has(flag)) << bit).sum()
}

fn flags(kind: usize) -> Flags {
    let held = COUNTED.iter().enumerate().filter(|(bit, _)| kind >> bit & 1 == 1);
    held.fold(Flags::default(), |flags, (_, &flag)| flags.with(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_by_their_flags() {
        let urgent_old = Flags::URGENT.with(Flags::RETAINED).with(Flags::DASH7);
        let mut tally =
            Tally::of([Flags::default(), Flags::REPORT, Flags::URGENT, urgent_old, Flags::LARGE].into_iter());
        assert_eq!(tally.count(Flags::default(), Flags::RETAINED), 4);
        assert_eq!(tally.count(Flags::default(), Flags::RETAINED.with(Flags::LARGE)), 3);
        assert_eq!(tally.count(Flags::URGENT, Flags::RETAINED), 1);
        assert_eq!(tally.count(Flags::URGENT.with(Flags::RETAINED), Flags::default()), 1);
        tally.sub(urgent_old);
        tally.add(Flags::RETAINED);
        assert_eq!(tally.count(Flags::RETAINED, Flags::default()), 1);
        assert_eq!(tally.count(Flags::RETAINED.with(Flags::URGENT), Flags::default()), 0);
    }
}
