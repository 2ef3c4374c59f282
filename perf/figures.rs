//! The figures by name: what they are called before a person, in which unit, which way is better, and what the goal is. Knows
//! nothing of how a figure comes to be.

/// Which way a figure improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// Says how it came about, not whether it is good.
    Neither,
}

/// A figure that a scenario may give.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Name in the JSON; a member of an object is named with a dot.
    pub key: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub better: Better,
}

const fn figure(key: &'static str, title: &'static str, unit: &'static str, better: Better) -> Figure {
    Figure { key, title, unit, better }
}

/// In the order in which a table shows them.
pub const FIGURES: &[Figure] = &[
    figure("ratio", "ratio to the limit", "", Better::Higher),
    figure("messages_per_s", "messages", "/s", Better::Higher),
    figure("limit_messages_per_s", "limit: messages", "/s", Better::Neither),
    figure("users_per_s", "users", "/s", Better::Higher),
    figure("limit_users_per_s", "limit: users", "/s", Better::Neither),
    figure("octets_per_s", "octets", "B/s", Better::Higher),
    figure("syscalls_per_message", "syscalls a message", "", Better::Lower),
    figure("syscalls_per_user", "syscalls a user", "", Better::Lower),
    figure("copied_octets_per_message", "octets copied a message", "B", Better::Lower),
    figure("accept_us.p50", "accept, median", "us", Better::Lower),
    figure("accept_us.p99", "accept, p99", "us", Better::Lower),
    figure("accept_us.p999", "accept, p99.9", "us", Better::Lower),
    figure("accept_peak_us.p50", "accept at the peak, median", "us", Better::Neither),
    figure("accept_peak_us.p99", "accept at the peak, p99", "us", Better::Neither),
    figure("accept_peak_us.p999", "accept at the peak, p99.9", "us", Better::Neither),
    figure("publish_to_first_send_us.p50", "PUBLISH to first SEND, median", "us", Better::Lower),
    figure("publish_to_first_send_us.p99", "PUBLISH to first SEND, p99", "us", Better::Lower),
    figure("publish_to_first_send_us.p999", "PUBLISH to first SEND, p99.9", "us", Better::Lower),
    figure("publish_to_first_send_peak_us.p50", "the same at the peak, median", "us", Better::Neither),
    figure("publish_to_first_send_peak_us.p99", "the same at the peak, p99", "us", Better::Neither),
    figure("publish_to_first_send_peak_us.p999", "the same at the peak, p99.9", "us", Better::Neither),
    figure("daemon_cpu_us_per_message", "processor of the daemon a message", "us", Better::Lower),
    figure("limit_before_per_s", "limit, before", "/s", Better::Neither),
    figure("limit_after_per_s", "limit, after", "/s", Better::Neither),
    figure("limit_from_log_per_s", "limit from a log", "/s", Better::Neither),
    figure("limit_new_pages_per_s", "limit with new pages", "/s", Better::Neither),
    figure("ratio_new_pages", "ratio to the limit with new pages", "", Better::Higher),
    figure("ratio_from_log", "ratio to the limit from a log", "", Better::Higher),
    figure("syncs", "data syncs", "", Better::Neither),
    figure("group_mean", "messages a sync", "", Better::Neither),
    figure("ready_seconds", "until ready", "s", Better::Lower),
    figure("records_per_s", "records recovered", "/s", Better::Higher),
    figure("bytes", "octets on the disk", "B", Better::Neither),
    figure("fetched_bytes", "octets fetched from it", "B", Better::Neither),
    figure("bytes_per_message", "memory a message", "B", Better::Lower),
    figure("bytes_per_user", "memory a user with a queue", "B", Better::Lower),
    figure("flatness", "flatness", "", Better::Higher),
    figure("flatness_push", "flatness of push", "", Better::Higher),
    figure("flatness_ingest", "flatness of ingest", "", Better::Higher),
    figure("expiries_in_a_second", "expired in one second", "/s", Better::Higher),
    figure("expiry_lag_ms.p50", "expiry behind its second, median", "ms", Better::Lower),
    figure("expiry_lag_ms.p99", "expiry behind its second, p99", "ms", Better::Lower),
    figure("expiry_lag_ms.max", "expiry behind its second, the last", "ms", Better::Lower),
    figure("p99_ratio", "accepted at p99, to that without", "x", Better::Lower),
    figure("segments_had_back", "segments had back", "", Better::Neither),
    figure("copied_bytes", "copied forward", "B", Better::Neither),
    figure("cpu_percent", "processor while idle", "% of a core", Better::Lower),
    figure("rss_bytes", "resident", "B", Better::Lower),
    figure("rss_empty_bytes", "resident when empty", "B", Better::Neither),
    figure("rss_messages_bytes", "resident with the messages", "B", Better::Neither),
    figure("rss_users_bytes", "resident with the users", "B", Better::Neither),
    figure("calm_after_seconds", "calm after the deposits", "s", Better::Neither),
    figure("wakeups_per_s", "wake-ups while idle", "/s", Better::Lower),
];

/// The figure named `key`; one that no table names is shown, but not judged.
pub fn named(key: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.key == key)
}

/// The figure that a scenario is judged by first.
pub fn main_figure(scenario: &str) -> &'static str {
    match scenario {
        "recovery" => "ready_seconds",
        "memory" => "bytes_per_message",
        "scale" => "flatness",
        "expiry" => "expiry_lag_ms.p99",
        "reclaim" => "p99_ratio",
        "idle" => "cpu_percent",
        _ => "ratio",
    }
}

/// What a figure is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    pub key: &'static str,
    pub bound: Bound,
}

/// Where the goal lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Under(f64),
}

impl Bound {
    /// Whether `value` is good enough.
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
            Bound::Under(bound) => value < bound,
        }
    }

    /// The bound, whichever side it is on.
    pub fn value(self) -> f64 {
        let (Bound::AtLeast(value) | Bound::AtMost(value) | Bound::Under(value)) = self;
        value
    }

    /// The sign before it.
    pub fn sign(self) -> &'static str {
        match self {
            Bound::AtLeast(_) => "≥",
            Bound::AtMost(_) => "≤",
            Bound::Under(_) => "<",
        }
    }
}

/// What the project set itself for `scenario` with texts of `size` octets and `messages` stored ones: sizes and counts that it
/// names no goal for have none.
pub fn goals(scenario: &str, size: usize, messages: u64) -> Vec<Goal> {
    let goal = |key, bound| Goal { key, bound };
    match scenario {
        "push" => {
            let ratio = match size {
                1024 => Some(0.90),
                200 | 8192 => Some(0.80),
                _ => None,
            };
            let mut goals: Vec<Goal> = ratio.map(|ratio| goal("ratio", Bound::AtLeast(ratio))).into_iter().collect();
            goals.push(goal("syscalls_per_message", Bound::Under(0.05)));
            goals
        }
        "storm" => {
            vec![goal("ratio", Bound::AtLeast(0.70)), goal("publish_to_first_send_us.p99", Bound::Under(5_000.0))]
        }
        "ingest" if size == 1024 => {
            vec![goal("ratio", Bound::AtLeast(0.80)), goal("accept_us.p99", Bound::Under(5_000.0))]
        }
        "ingest" => vec![goal("accept_us.p99", Bound::Under(5_000.0))],
        // Fewer messages than ten million ready in that time would prove nothing.
        "recovery" if messages >= 10_000_000 => vec![goal("ready_seconds", Bound::Under(10.0))],
        "memory" => {
            vec![goal("bytes_per_message", Bound::AtMost(64.0)), goal("bytes_per_user", Bound::AtMost(200.0))]
        }
        "scale" => vec![goal("flatness", Bound::AtLeast(0.9))],
        "expiry" => vec![
            goal("expiries_in_a_second", Bound::AtLeast(100_000.0)),
            goal("expiry_lag_ms.p99", Bound::Under(1_000.0)),
        ],
        "reclaim" => vec![goal("p99_ratio", Bound::AtMost(2.0))],
        "idle" => vec![goal("cpu_percent", Bound::Under(1.0))],
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_names_a_figure_that_can_be_judged() {
        for scenario in crate::scenarios::SCENARIOS {
            let found = goals(scenario.name, 1024, 10_000_000);
            assert!(!found.is_empty(), "{} has a goal", scenario.name);
            for goal in found {
                let figure = named(goal.key).unwrap();
                let expected = if matches!(goal.bound, Bound::AtLeast(_)) { Better::Higher } else { Better::Lower };
                assert_eq!(figure.better, expected, "{}", goal.key);
            }
            assert!(named(main_figure(scenario.name)).is_some());
        }
    }

    #[test]
    fn a_goal_of_under_is_not_met_by_the_bound_itself() {
        assert!(!Bound::Under(0.05).is_met_by(0.05));
        assert!(Bound::AtMost(64.0).is_met_by(64.0));
        assert!(Bound::AtLeast(0.9).is_met_by(0.9));
        assert!(!Bound::AtLeast(0.9).is_met_by(0.899));
    }

    #[test]
    fn only_the_sizes_that_have_a_goal_are_judged_by_it() {
        let ratio = |size| goals("push", size, 1).into_iter().find(|goal| goal.key == "ratio").map(|goal| goal.bound);
        assert_eq!(ratio(1024), Some(Bound::AtLeast(0.90)));
        assert_eq!(ratio(200), Some(Bound::AtLeast(0.80)));
        assert_eq!(ratio(8192), Some(Bound::AtLeast(0.80)));
        assert_eq!(ratio(4096), None);
    }
}
