//! Which octets of a message were spoken of: ranges that come in any order and any size (RFC 4975 7.1.3).

/// Gaps remembered at one time. A relay that reports honestly leaves a few; who leaves more is not believed about the rest.
const RANGES_MAX: usize = 32;

/// A set of octet positions as sorted ranges that neither touch nor overlap.
#[derive(Clone, Default, Debug)]
pub struct Coverage {
    /// First position and one past the last; positions count from 0.
    ranges: Vec<(u64, u64)>,
}

impl Coverage {
    /// Adds `start..end`. A range that would be one too many is dropped.
    pub fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let from = self.ranges.partition_point(|range| range.1 < start);
        let to = self.ranges.partition_point(|range| range.0 <= end);
        let touched = self.ranges.get(from..to).unwrap_or_default();
        let merged = match (touched.first(), touched.last()) {
            (Some(first), Some(last)) => (first.0.min(start), last.1.max(end)),
            _ if self.ranges.len() >= RANGES_MAX => return,
            _ => (start, end),
        };
        self.ranges.splice(from..to, [merged]);
    }

    /// True when every octet before `end` is in it.
    pub fn covers(&self, end: u64) -> bool {
        end == 0 || matches!(self.ranges.first(), Some(&(0, covered)) if covered >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_join_when_the_gap_closes() {
        let mut coverage = Coverage::default();
        coverage.add(10, 20);
        coverage.add(30, 40);
        coverage.add(0, 10);
        assert!(coverage.covers(20) && !coverage.covers(21));
        coverage.add(15, 35);
        assert!(coverage.covers(40));
        assert!(Coverage::default().covers(0));
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut coverage = Coverage::default();
        (0..10_000u64).for_each(|n| coverage.add(n * 2 + 1, n * 2 + 2));
        assert_eq!(coverage.ranges.len(), RANGES_MAX);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_of_booleans(adds in proptest::collection::vec((0u64..60, 0u64..20), 0..30)) {
            let mut coverage = Coverage::default();
            let mut plain = [false; 80];
            for (start, len) in adds {
                coverage.add(start, start + len);
                (start..start + len).for_each(|n| plain[n as usize] = true);
                let covered = plain.iter().take_while(|&&octet| octet).count() as u64;
                prop_assert!(coverage.covers(covered));
                prop_assert!(!coverage.covers(covered + 1));
            }
        }
    }
}
