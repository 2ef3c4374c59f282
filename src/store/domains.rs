//! What the users of each served domain have stored together. Knows names and counts; who may store how much is policy's.
//!
//! Every core counts in a row of its own, so that no two write one cache line; who wants to know a domain's sum adds the rows up. A
//! message may be counted in on one core and out on another: a row alone means nothing and may be below zero.
//!
//! The sum is read before a message is counted in, so as many messages as there are other cores may pass a quota at the same
//! instant: it is exceeded by at most that.

use crate::base::net::CoreId;
use crate::base::spread::SpreadMap;
use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicI64, Ordering};

/// A served domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DomainId(u16);

#[derive(Debug, Default)]
struct Count {
    messages: AtomicI64,
    octets: AtomicI64,
}

/// The served domains, shared by all cores.
#[derive(Debug, Default)]
pub struct Domains {
    /// The operator chose what stands in it; what a peer writes is only looked up.
    names: SpreadMap<Box<[u8]>, DomainId>,
    rows: Vec<CachePadded<Box<[Count]>>>,
}

impl Domains {
    /// These, in lower case; at most 65,536. What is stored for users of others is not counted.
    pub fn new(names: &[String], cores: u16) -> Domains {
        let names = names.iter().map(|name| name.as_bytes());
        let names: SpreadMap<Box<[u8]>, DomainId> =
            names.zip(0..).map(|(name, id)| (name.into(), DomainId(id))).collect();
        let most = names.values().map(|id| usize::from(id.0) + 1).max().unwrap_or(0);
        let row = |_| CachePadded::new((0..most).map(|_| Count::default()).collect());
        Domains { names, rows: (0..cores.max(1)).map(row).collect() }
    }

    /// The domain of a canonical address; `None` for one without, or of a domain that is not served.
    pub fn of(&self, address: &[u8]) -> Option<DomainId> {
        let at = memchr::memrchr(b'@', address)?;
        let host = address.get(at + 1..)?;
        // Hardly any has something behind its host.
        let host_alone = || {
            let end = host.iter().position(|octet| matches!(octet, b':' | b';' | b'?'))?;
            self.names.get(host.get(..end)?)
        };
        self.names.get(host).or_else(host_alone).copied()
    }

    /// So much more is stored, or reserved. For `core` alone.
    pub fn add(&self, core: CoreId, domain: DomainId, messages: u64, octets: u64) {
        self.change(core, domain, messages as i64, octets as i64);
    }

    /// So much is gone. For `core` alone.
    pub fn sub(&self, core: CoreId, domain: DomainId, messages: u64, octets: u64) {
        self.change(core, domain, -(messages as i64), -(octets as i64));
    }

    fn change(&self, core: CoreId, domain: DomainId, messages: i64, octets: i64) {
        if let Some(count) = self.rows.get(core.index()).and_then(|row| row.get(usize::from(domain.0))) {
            count.messages.fetch_add(messages, Ordering::Relaxed);
            count.octets.fetch_add(octets, Ordering::Relaxed);
        }
    }

    /// All served domains.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], DomainId)> {
        self.names.iter().map(|(name, id)| (&name[..], *id))
    }

    /// Messages and octets of a domain.
    pub fn usage(&self, domain: DomainId) -> (u64, u64) {
        let counts = self.rows.iter().filter_map(|row| row.get(usize::from(domain.0)));
        let (messages, octets) = counts.fold((0i64, 0i64), |sum, count| {
            (sum.0 + count.messages.load(Ordering::Relaxed), sum.1 + count.octets.load(Ordering::Relaxed))
        });
        (u64::try_from(messages).unwrap_or(0), u64::try_from(octets).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_core_counts_in_another_counts_out() {
        let domains = Domains::new(&["a.example".into(), "b.example".into()], 2);
        let (a, b) = (domains.of(b"sip:u@a.example"), domains.of(b"sip:v@b.example:5060"));
        assert!(a != b && domains.of(b"sip:u@c.example").is_none() && domains.of(b"tel:+1").is_none());
        let a = a.map(|a| {
            domains.add(CoreId(0), a, 3, 300);
            domains.sub(CoreId(1), a, 2, 200);
            domains.usage(a)
        });
        assert_eq!((a, b.map(|b| domains.usage(b))), (Some((1, 100)), Some((0, 0))));
    }
}
