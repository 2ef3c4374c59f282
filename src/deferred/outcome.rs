//! What a final response to a push INVITE means for the messages that wait ([`crate::manual::peers`]).

use std::time::Duration;

/// What the push does about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The session is there.
    Answered,
    /// Follow the Contact, once (3xx).
    Redirected,
    /// Begin again with a longer session interval (422).
    LongerInterval,
    /// Begin again without the option the client does not know (420).
    FewerOptions,
    /// Try again in a moment: both sides asked at once (491).
    Glare,
    /// Nothing until the next trigger.
    GiveUp,
    /// The client takes none of what was offered: offer CPIM alone, once; then nothing until it publishes anew (415, 488, 606).
    OtherTypes,
    /// The SIP/IP core does not know the user: offline until they publish again.
    Gone,
    /// Offline or overloaded: retry by backoff, or when Retry-After says.
    Later,
    /// The user declined: only a fresh trigger counts, and not before the backoff is over.
    Busy,
}

/// Time that a declined push is not repeated (486, 600, 603).
pub const BUSY_BACKOFF: Duration = Duration::from_secs(600);

/// After these the push waits for a trigger.
const BACKOFF: [Duration; 3] = [Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// A client that says "in a year" is asked again after a day all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// How long a declined push is not repeated: as long as the client asks, or the usual time.
//= RFC 3261 20.33: Retry-After says when the called party anticipates being available again
pub fn busy(retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(BUSY_BACKOFF, |asked| asked.min(RETRY_AFTER_MAX))
}

/// The table of [`crate::manual::peers`].
pub fn of_status(status: u16) -> Outcome {
    match status {
        200..=299 => Outcome::Answered,
        300..=399 => Outcome::Redirected,
        // No credentials are configured for any realm, so there is nothing to answer a challenge with.
        401 | 403 | 405 | 407 | 501 => Outcome::GiveUp,
        404 | 410 | 604 => Outcome::Gone,
        415 | 488 | 606 => Outcome::OtherTypes,
        420 => Outcome::FewerOptions,
        422 => Outcome::LongerInterval,
        486 | 600 | 603 => Outcome::Busy,
        491 => Outcome::Glare,
        _ => Outcome::Later,
    }
}

/// When the `attempt`-th failure in a row (from 0) is followed by another try; `None`: only by a trigger.
pub fn backoff(attempt: usize, retry_after: Option<Duration>) -> Option<Duration> {
    match retry_after {
        Some(asked) => Some(asked.min(RETRY_AFTER_MAX)),
        None => BACKOFF.get(attempt).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_has_its_action() {
        let table = [
            (200, Outcome::Answered),
            (302, Outcome::Redirected),
            (401, Outcome::GiveUp),
            (407, Outcome::GiveUp),
            (403, Outcome::GiveUp),
            (405, Outcome::GiveUp),
            (501, Outcome::GiveUp),
            (404, Outcome::Gone),
            (410, Outcome::Gone),
            (604, Outcome::Gone),
            (408, Outcome::Later),
            (480, Outcome::Later),
            (487, Outcome::Later),
            (500, Outcome::Later),
            (503, Outcome::Later),
            (504, Outcome::Later),
            (415, Outcome::OtherTypes),
            (488, Outcome::OtherTypes),
            (606, Outcome::OtherTypes),
            (420, Outcome::FewerOptions),
            (422, Outcome::LongerInterval),
            (423, Outcome::Later),
            (494, Outcome::Later),
            (486, Outcome::Busy),
            (600, Outcome::Busy),
            (603, Outcome::Busy),
            (491, Outcome::Glare),
        ];
        for (status, outcome) in table {
            assert_eq!(of_status(status), outcome, "{status}");
        }
    }

    #[test]
    fn retries_end_after_ten_minutes_and_retry_after_is_honoured() {
        assert_eq!(backoff(0, None), Some(Duration::from_secs(30)));
        assert_eq!(backoff(2, None), Some(Duration::from_secs(600)));
        assert_eq!(backoff(3, None), None);
        assert_eq!(backoff(9, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(backoff(0, Some(Duration::from_secs(1 << 40))), Some(RETRY_AFTER_MAX));
        assert_eq!(busy(None), BUSY_BACKOFF);
        assert_eq!(busy(Some(Duration::from_secs(3_600))), Duration::from_secs(3_600));
        assert_eq!(busy(Some(Duration::from_secs(1 << 40))), RETRY_AFTER_MAX);
    }
}
