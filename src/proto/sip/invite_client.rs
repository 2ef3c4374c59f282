//! The INVITE client transaction. Knows states and times; the octets are its owner's.

use super::timing::{Repeat, Timing};
use crate::base::clock::Tick;
use std::time::Duration;

/// INVITE client transaction (RFC 3261 17.1.1, RFC 6026 7.2), with the fate of its CANCEL (RFC 3261 9.1).
///
/// ```text
///   calling ──1xx──▶ proceeding ──2xx──▶ accepted ──M──▶ gone
///     │ │ └────────────2xx────────────────▲
///     │ └──300-699──▶ completed ──D──▶ gone      (from proceeding likewise)
///     └──B──▶ gone: timeout                      (proceeding: 64*T1 after its CANCEL)
/// ```
#[derive(Clone, Copy, Debug)]
pub struct InviteClient {
    state: State,
    cancel: Cancel,
    reliable: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Calling { a: Repeat, b: Tick },
    Proceeding { give_up: Tick },
    Accepted { m: Tick },
    Completed { d: Tick },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cancel {
    No,
    /// Wanted, and waiting for a provisional response.
    Wanted,
    Sent,
}

/// What a response means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response {
    /// It is for the transaction user.
    Up,
    /// It is for the transaction user, and the CANCEL that waited for it goes out now.
    UpThenCancel,
    /// It is for the transaction user; acknowledge it. The transaction stays to repeat the ACK.
    UpAndAck,
    /// The same, and the transaction is over.
    UpAndAckLast,
    /// Repeat the ACK; the user has had this one.
    AckAgain,
    /// It ends here.
    Absorb,
}

/// What a timer wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fired {
    /// Nothing was due.
    Nothing,
    /// Send the INVITE again.
    Repeat,
    /// No answer: the transaction is over, and the user is told.
    Timeout,
    /// The transaction is over.
    Gone,
}

impl InviteClient {
    /// An INVITE goes out.
    pub fn new(now: Tick, timing: &Timing, reliable: bool) -> InviteClient {
        //= RFC 3261 17.1.1.2: over an unreliable transport timer A MUST start with T1; timer B with 64*T1 for any
        let a = if reliable { Repeat::never() } else { Repeat::starting(now, timing.t1) };
        InviteClient { state: State::Calling { a, b: now + timing.patience() }, cancel: Cancel::No, reliable }
    }

    /// A response came.
    pub fn response(&mut self, now: Tick, timing: &Timing, status: u16) -> Response {
        match (self.state, status) {
            (State::Calling { .. } | State::Proceeding { .. }, ..200) => {
                if matches!(self.state, State::Calling { .. }) {
                    self.state = State::Proceeding { give_up: Tick::NEVER };
                }
                if self.cancel != Cancel::Wanted {
                    return Response::Up;
                }
                self.cancel_sent(now, timing);
                Response::UpThenCancel
            }
            (State::Calling { .. } | State::Proceeding { .. }, 200..300) => {
                //= RFC 6026 8.4: MUST transition to "Accepted", and Timer M MUST be started with 64*T1
                self.state = State::Accepted { m: now + timing.patience() };
                Response::Up
            }
            (State::Calling { .. } | State::Proceeding { .. }, _) if self.reliable => Response::UpAndAckLast,
            (State::Calling { .. } | State::Proceeding { .. }, _) => {
                self.state = State::Completed { d: now + timing.d(self.reliable) };
                Response::UpAndAck
            }
            //= RFC 6026 8.4: any 2xx received while in "Accepted" MUST be passed up to the TU
            (State::Accepted { .. }, 200..300) => Response::Up,
            (State::Completed { .. }, 300..) => Response::AckAgain,
            _ => Response::Absorb,
        }
    }

    /// The user no longer wants it. True: send the CANCEL now; false: later, or never.
    pub fn cancel(&mut self, now: Tick, timing: &Timing) -> bool {
        match self.state {
            //= RFC 3261 9.1: if no provisional response has been received, the CANCEL MUST NOT be sent
            State::Calling { .. } => {
                self.cancel = Cancel::Wanted;
                false
            }
            State::Proceeding { .. } if self.cancel == Cancel::No => {
                self.cancel_sent(now, timing);
                true
            }
            _ => false,
        }
    }

    fn cancel_sent(&mut self, now: Tick, timing: &Timing) {
        self.cancel = Cancel::Sent;
        //= RFC 3261 9.1: no final response in 64*T1: the client SHOULD consider the original transaction cancelled
        self.state = State::Proceeding { give_up: now + timing.patience() };
    }

    /// True until a final response came.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Calling { .. } | State::Proceeding { .. })
    }

    /// When [`InviteClient::fire`] has work.
    pub fn deadline(&self) -> Tick {
        match self.state {
            State::Calling { a, b } => a.at().min(b),
            State::Proceeding { give_up } => give_up,
            State::Accepted { m } => m,
            State::Completed { d } => d,
        }
    }

    /// Time has passed. Call until it says anything but [`Fired::Repeat`].
    pub fn fire(&mut self, now: Tick) -> Fired {
        match &mut self.state {
            State::Calling { b, .. } if *b <= now => Fired::Timeout,
            State::Proceeding { give_up } if *give_up <= now => Fired::Timeout,
            State::Accepted { m } if *m <= now => Fired::Gone,
            State::Completed { d } if *d <= now => Fired::Gone,
            //= RFC 3261 17.1.1.2: timer A is doubled each time it fires, without a bound but timer B
            State::Calling { a, .. } if a.is_due(now) => {
                a.again(now, Duration::MAX);
                Fired::Repeat
            }
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

    fn run(machine: &mut InviteClient, until: u64) -> Vec<(u64, Fired)> {
        let mut seen = Vec::new();
        while machine.deadline() <= ms(until) {
            let at = machine.deadline();
            let fired = machine.fire(at);
            seen.push((at.0 / 1_000, fired));
            if fired != Fired::Repeat {
                break;
            }
        }
        seen
    }

    #[test]
    fn an_unanswered_invite_is_repeated_by_a_and_ended_by_b() {
        let mut machine = InviteClient::new(ms(0), &Timing::default(), false);
        let seen = run(&mut machine, 60_000);
        let times: Vec<u64> = seen.iter().map(|s| s.0).collect();
        assert_eq!(times, [500, 1_500, 3_500, 7_500, 15_500, 31_500, 32_000]);
        assert_eq!(seen.last().map(|s| s.1), Some(Fired::Timeout));
        let mut machine = InviteClient::new(ms(0), &Timing::default(), true);
        assert_eq!(run(&mut machine, 60_000), [(32_000, Fired::Timeout)]);
    }

    #[test]
    fn a_provisional_response_stops_a_and_b() {
        let timing = Timing::default();
        let mut machine = InviteClient::new(ms(0), &timing, false);
        assert_eq!(machine.response(ms(100), &timing, 100), Response::Up);
        assert_eq!(machine.response(ms(200), &timing, 180), Response::Up);
        assert_eq!(machine.deadline(), Tick::NEVER);
        assert!(machine.is_open());
    }

    #[test]
    fn every_2xx_goes_up_until_m() {
        let timing = Timing::default();
        for reliable in [true, false] {
            let mut machine = InviteClient::new(ms(0), &timing, reliable);
            assert_eq!(machine.response(ms(100), &timing, 200), Response::Up);
            assert_eq!(machine.response(ms(600), &timing, 200), Response::Up);
            assert_eq!(machine.response(ms(600), &timing, 486), Response::Absorb);
            assert_eq!(machine.response(ms(600), &timing, 180), Response::Absorb);
            assert!(!machine.cancel(ms(600), &timing));
            assert_eq!(run(&mut machine, 60_000), [(32_100, Fired::Gone)]);
        }
    }

    #[test]
    fn a_refusal_is_acknowledged_each_time_until_d() {
        let timing = Timing::default();
        let mut machine = InviteClient::new(ms(0), &timing, false);
        assert_eq!(machine.response(ms(0), &timing, 180), Response::Up);
        assert_eq!(machine.response(ms(100), &timing, 486), Response::UpAndAck);
        assert_eq!(machine.response(ms(600), &timing, 486), Response::AckAgain);
        assert_eq!(machine.response(ms(600), &timing, 200), Response::Absorb);
        assert!(!machine.is_open());
        assert_eq!(run(&mut machine, 60_000), [(32_100, Fired::Gone)]);
        let mut machine = InviteClient::new(ms(0), &timing, true);
        assert_eq!(machine.response(ms(100), &timing, 486), Response::UpAndAckLast);
    }

    #[test]
    fn a_cancel_waits_for_a_provisional_response_and_then_for_64_t1() {
        let timing = Timing::default();
        let mut machine = InviteClient::new(ms(0), &timing, false);
        assert!(!machine.cancel(ms(10), &timing));
        assert_eq!(machine.response(ms(1_000), &timing, 100), Response::UpThenCancel);
        assert_eq!(machine.response(ms(1_100), &timing, 180), Response::Up);
        assert!(!machine.cancel(ms(1_200), &timing), "once");
        assert_eq!(run(&mut machine, 60_000), [(33_000, Fired::Timeout)]);
        let mut machine = InviteClient::new(ms(0), &timing, false);
        machine.response(ms(1_000), &timing, 180);
        assert!(machine.cancel(ms(2_000), &timing));
        assert_eq!(machine.response(ms(2_100), &timing, 487), Response::UpAndAck);
    }
}
