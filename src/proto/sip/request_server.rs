//! The non-INVITE server transaction. Knows states and times; the octets are its owner's.

use super::timing::Timing;
use crate::base::clock::Tick;

/// Non-INVITE server transaction (RFC 3261 17.2.2, RFC 4320).
///
/// ```text
///   trying ──3.5 s: 100──▶ proceeding ──200-699──▶ completed ──J──▶ gone
///      ├───────200-699────────────────────────────────▲
///      └───────64*T1: the client has given up───────────────────────▶ gone   (proceeding likewise)
/// ```
/// Over streams J is zero: the transaction ends with its final response.
#[derive(Clone, Copy, Debug)]
pub struct RequestServer {
    state: State,
    reliable: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `trying` is when 100 is due; never again once it was sent.
    Open {
        trying: Tick,
        stale: Tick,
    },
    Completed {
        j: Tick,
    },
}

/// What becomes of a response of the transaction user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Respond {
    /// Send it and keep it for repetitions.
    Send,
    /// Send it; the transaction is over.
    SendLast,
    /// It must not be sent: a second final one, or one that RFC 4320 forbids.
    Drop,
}

/// What a timer wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fired {
    /// Nothing was due.
    Nothing,
    /// Send 100: the transaction user is silent.
    Trying,
    /// The transaction is over.
    Gone,
}

impl RequestServer {
    /// A request has arrived.
    pub fn new(now: Tick, timing: &Timing, reliable: bool) -> RequestServer {
        //= RFC 4320 4.1: MUST respond 100, without regard to transport, when Timer E would be reset to T2
        let state = State::Open { trying: now + timing.e_reaches_t2(), stale: now + timing.patience() };
        RequestServer { state, reliable }
    }

    /// The transaction user answers with `status`.
    pub fn respond(&mut self, now: Tick, timing: &Timing, status: u16) -> Respond {
        let State::Open { trying, .. } = &mut self.state else { return Respond::Drop };
        match status {
            //= RFC 4320 4.1: no 100 over an unreliable transport before Timer E has reached T2
            100 if self.reliable || *trying <= now => {
                *trying = Tick::NEVER;
                Respond::Send
            }
            //= RFC 4320 4.1: MUST NOT send any provisional response but 100 to a non-INVITE request
            //= RFC 4320 4.2: MUST NOT send 408 to a non-INVITE request
            ..200 | 408 => Respond::Drop,
            _ if self.reliable => Respond::SendLast,
            _ => {
                self.state = State::Completed { j: now + timing.j(self.reliable) };
                Respond::Send
            }
        }
    }

    /// True until a final response was given.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// When [`RequestServer::fire`] has work.
    pub fn deadline(&self) -> Tick {
        match self.state {
            State::Open { trying, stale } => trying.min(stale),
            State::Completed { j } => j,
        }
    }

    /// Time has passed. Call until it says [`Fired::Nothing`] or [`Fired::Gone`].
    pub fn fire(&mut self, now: Tick) -> Fired {
        match &mut self.state {
            //= RFC 4320 4.2: an element that cannot respond in time will not send a final response at all
            State::Open { stale, .. } if *stale <= now => Fired::Gone,
            State::Open { trying, .. } if *trying <= now => {
                *trying = Tick::NEVER;
                Fired::Trying
            }
            State::Completed { j } if *j <= now => Fired::Gone,
            _ => Fired::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Tick {
        Tick(ms * 1_000)
    }

    #[test]
    fn a_silent_user_is_covered_by_a_100_at_3500_ms_and_forgotten_at_32_s() {
        for reliable in [true, false] {
            let mut machine = RequestServer::new(ms(0), &Timing::default(), reliable);
            assert_eq!(machine.deadline(), ms(3_500));
            assert_eq!(machine.fire(ms(3_499)), Fired::Nothing);
            assert_eq!(machine.fire(ms(3_500)), Fired::Trying);
            assert_eq!(machine.fire(ms(3_500)), Fired::Nothing);
            assert_eq!(machine.deadline(), ms(32_000));
            assert_eq!(machine.fire(ms(32_000)), Fired::Gone);
        }
    }

    #[test]
    fn a_final_response_is_kept_for_j_over_datagrams_and_not_at_all_over_streams() {
        let timing = Timing::default();
        let mut machine = RequestServer::new(ms(0), &timing, false);
        assert_eq!(machine.respond(ms(10), &timing, 202), Respond::Send);
        assert!(!machine.is_open());
        assert_eq!(machine.respond(ms(10), &timing, 500), Respond::Drop);
        assert_eq!(machine.fire(ms(32_009)), Fired::Nothing);
        assert_eq!(machine.fire(machine.deadline()), Fired::Gone);
        assert_eq!(machine.deadline(), ms(32_010));
        let mut machine = RequestServer::new(ms(0), &timing, true);
        assert_eq!(machine.respond(ms(10), &timing, 202), Respond::SendLast);
    }

    //= RFC 4320 4.1: no provisional response but 100, and that not too early over datagrams
    //= RFC 4320 4.2: no 408 to a non-INVITE request
    #[test]
    fn what_rfc_4320_forbids_is_not_sent() {
        let timing = Timing::default();
        let mut machine = RequestServer::new(ms(0), &timing, false);
        assert_eq!(machine.respond(ms(10), &timing, 100), Respond::Drop, "too early over a datagram");
        assert_eq!(machine.respond(ms(10), &timing, 183), Respond::Drop);
        assert_eq!(machine.respond(ms(10), &timing, 408), Respond::Drop);
        assert!(machine.is_open());
        assert_eq!(machine.respond(ms(3_500), &timing, 100), Respond::Send);
        let mut machine = RequestServer::new(ms(0), &timing, true);
        assert_eq!(machine.respond(ms(10), &timing, 100), Respond::Send, "at any time over a stream");
        assert_eq!(machine.deadline(), ms(32_000));
    }
}
