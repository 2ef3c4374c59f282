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
];

/// Runs the scenario that `request` names, once.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Outcome, Failure> {
    let _ = progress;
    // push, storm and ingest: one arm each.
    Err(Failure(format!("no scenario is named {}; `deferd-perf list` names them", request.scenario)))
}
