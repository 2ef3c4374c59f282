//! What is known of a user's registrations: which are alive, whether a client behind one takes instant messages, and through which core
//! the user is reached. As values, and as octets in a state record.

use crate::base::clock::Wall;

/// Bindings of one user that are remembered: as many as publications. The oldest gives way.
const MAX: usize = 16;

/// One binding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Binding {
    /// The Contact's URI: the client's own, or that of the core that registered the user with us.
    pub(super) contact: Box<[u8]>,
    pub(super) until: Wall,
    /// A client behind it takes instant messages.
    pub(super) capable: bool,
    /// A core says so, not the user.
    pub(super) third_party: bool,
}

/// A user's bindings.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Bindings {
    /// The latest last.
    list: Vec<Binding>,
    /// A core said that the user is not registered any more: whatever was published before counts for nothing.
    pub(super) gone: bool,
}

impl Bindings {
    /// True when nothing needs to be kept.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty() && !self.gone
    }

    /// Takes a binding in; true when there was none that lived under its name. A user has one core: another's binding takes the
    /// place of the last.
    pub(super) fn set(&mut self, now: Wall, mut binding: Binding) -> bool {
        self.expire(now);
        let same = |other: &Binding| {
            if binding.third_party { other.third_party } else { !other.third_party && other.contact == binding.contact }
        };
        let before = self.list.iter().position(same).map(|at| self.list.remove(at));
        // Another device of the user registers: that of before takes messages still.
        binding.capable |= binding.third_party && before.as_ref().is_some_and(|before| before.capable);
        if self.list.len() == MAX {
            self.list.remove(0);
        }
        self.list.push(binding);
        self.gone = false;
        before.is_none()
    }

    /// A core says that the user is gone.
    pub(super) fn core_says_gone(&mut self) {
        self.list.clear();
        self.gone = true;
    }

    /// The user takes a binding back, or, without a Contact, all.
    pub(super) fn remove(&mut self, contact: Option<&[u8]>) {
        self.list.retain(|binding| binding.third_party || contact.is_some_and(|contact| *binding.contact != *contact));
    }

    /// Lets go what is over.
    pub(super) fn expire(&mut self, now: Wall) {
        self.list.retain(|binding| binding.until > now);
    }

    /// When the next is over.
    pub(super) fn deadline(&self) -> Option<Wall> {
        self.list.iter().map(|binding| binding.until).min()
    }

    /// True when a client that takes instant messages is registered.
    pub(super) fn is_capable(&self, now: Wall) -> bool {
        self.list.iter().any(|binding| binding.capable && binding.until > now)
    }

    /// Those of the user's own, alive.
    pub(super) fn own(&self, now: Wall) -> impl Iterator<Item = &Binding> {
        self.list.iter().filter(move |binding| !binding.third_party && binding.until > now)
    }

    /// The core through which the user is reached, as a Route value.
    pub(super) fn route(&self, now: Wall) -> Option<Vec<u8>> {
        let core = self.list.iter().find(|binding| binding.third_party && binding.until > now)?;
        let loose = core.contact.split(|&octet| octet == b';').skip(1).any(|param| param.eq_ignore_ascii_case(b"lr"));
        let lr: &[u8] = if loose { b"" } else { b";lr" };
        Some([b"<", &core.contact[..], lr, b">"].concat())
    }

    /// `gone, number of bindings`, then each: time, flags, length, Contact.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.gone.into());
        out.push(self.list.len() as u8);
        for binding in &self.list {
            out.extend_from_slice(&binding.until.0.to_le_bytes());
            out.push(u8::from(binding.capable) | u8::from(binding.third_party) << 1);
            out.extend_from_slice(&(binding.contact.len() as u16).to_le_bytes());
            out.extend_from_slice(&binding.contact);
        }
    }

    /// Back from [`Bindings::encode`], and what stands behind it.
    pub(super) fn decode(octets: &[u8]) -> Option<(Bindings, &[u8])> {
        let (&[gone, count], mut rest) = octets.split_first_chunk::<2>()?;
        let mut list = Vec::new();
        for _ in 0..count {
            let (until, after) = rest.split_first_chunk::<8>()?;
            let (&flags, after) = after.split_first()?;
            let (len, after) = after.split_first_chunk::<2>()?;
            let (contact, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            list.push(Binding {
                contact: contact.into(),
                until: Wall(u64::from_le_bytes(*until)),
                capable: flags & 1 != 0,
                third_party: flags & 2 != 0,
            });
            rest = after;
        }
        (gone <= 1 && list.len() <= MAX).then_some((Bindings { list, gone: gone == 1 }, rest))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn binding(contact: &str, until: u64, capable: bool, third_party: bool) -> Binding {
        Binding { contact: contact.as_bytes().into(), until: Wall(until), capable, third_party }
    }

    #[test]
    fn a_user_has_one_core_and_several_devices() {
        let mut bindings = Bindings::default();
        assert!(bindings.set(Wall(0), binding("sip:scscf1", 100, true, true)));
        assert!(
            !bindings.set(Wall(1), binding("sip:scscf2:5060;transport=tcp", 200, false, true)),
            "the user was there"
        );
        assert!(bindings.is_capable(Wall(2)), "another device registered, the first takes messages still");
        assert_eq!(bindings.route(Wall(2)).as_deref(), Some(&b"<sip:scscf2:5060;transport=tcp;lr>"[..]));
        assert!(bindings.set(Wall(3), binding("sip:b@pc", 150, false, false)));
        assert!(bindings.set(Wall(3), binding("sip:b@tablet", 160, false, false)));
        assert!(!bindings.set(Wall(4), binding("sip:b@pc", 170, false, false)));
        assert_eq!((bindings.own(Wall(5)).count(), bindings.deadline()), (2, Some(Wall(160))));
        bindings.remove(Some(b"sip:b@pc"));
        assert_eq!(bindings.own(Wall(5)).count(), 1);
        bindings.remove(None);
        assert_eq!((bindings.own(Wall(5)).count(), bindings.is_empty()), (0, false));
        assert!(!bindings.is_capable(Wall(200)) && bindings.route(Wall(200)).is_none());
        bindings.core_says_gone();
        assert!(bindings.gone && bindings.deadline().is_none());
        assert!(bindings.set(Wall(6), binding("sip:scscf1;lr", 300, false, true)), "it was gone, and comes anew");
        assert!(!bindings.is_capable(Wall(7)) && !bindings.gone);
        assert_eq!(bindings.route(Wall(7)).as_deref(), Some(&b"<sip:scscf1;lr>"[..]));
    }

    #[test]
    fn what_is_kept_is_read_back_and_is_bounded() {
        let mut bindings = Bindings::default();
        for number in 0..40 {
            bindings.set(Wall(0), binding(&format!("sip:b@pc{number}"), 100 + number, number % 2 == 0, false));
        }
        assert_eq!(bindings.own(Wall(1)).count(), MAX);
        let mut octets = Vec::new();
        bindings.encode(&mut octets);
        let (read, rest) = Bindings::decode(&octets).unwrap();
        assert_eq!((read, rest), (bindings, &b""[..]));
        for cut in 0..octets.len() {
            assert_eq!(Bindings::decode(&octets[..cut]), None, "{cut}");
        }
    }
}
