//! The scenarios by name. Knows which there are and who runs them, nothing of what they do.

use crate::outcome::{Failure, Outcome, Progress, Request};

/// A scenario as a person chooses it.
pub struct Scenario {
    pub name: &'static str,
    /// What it measures, in one line.
    pub measures: &'static str,
}

/// All of them, in the order of the contract.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "push", measures: "deep queues: 1,000 messages a user, pushed from the log" },
    Scenario { name: "storm", measures: "everyone comes back: 3 messages a user, all PUBLISH at once" },
    Scenario { name: "ingest", measures: "durable SIP MESSAGEs, answered after the commit" },
    Scenario { name: "recovery", measures: "a start with everything stored, from a cold disk until ready" },
    Scenario { name: "memory", measures: "resident octets per stored message and per user with a queue" },
    Scenario { name: "scale", measures: "push and ingest with more and more messages stored" },
    Scenario { name: "expiry", measures: "how soon messages are gone whose time is over, a hundred thousand a second" },
    Scenario { name: "reclaim", measures: "how much later deposits are answered while segments are had back" },
    Scenario { name: "idle", measures: "processor time with users stored and no traffic" },
];

/// Runs the scenario that `request` names, once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    match request.scenario {
        "push" => crate::push::run(request, progress),
        "storm" => crate::storm::run(request, progress),
        "ingest" => crate::ingest::run(request, progress),
        "recovery" => crate::recovery::run(request, progress),
        "memory" => crate::memory::run(request, progress),
        "scale" => crate::scale::run(request, progress),
        "expiry" => crate::expiry::run(request, progress),
        "reclaim" => crate::reclaim::run(request, progress),
        "idle" => crate::idle::run(request, progress),
        other => Err(Failure(format!("no scenario is named {other}; `deferd-perf list` names them"))),
    }
}
