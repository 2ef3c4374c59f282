//! The non-INVITE client transaction. Knows states and times; the octets are its owner's.

use super::timing::{Repeat, Timing};
use crate::base::clock::Tick;

/// Non-INVITE client transaction (RFC 3261 17.1.2).
///
/// ```text
///   trying ──1xx──▶ proceeding ──200-699──▶ completed ──K──▶ gone
///      ├────────200-699───────────────────────▲
///      └────────F──▶ gone: timeout            (proceeding likewise)
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestClient {
    state: State,
    reliable: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Trying { e: Repeat, f: Tick },
    Completed { k: Tick },
}

/// What a response means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response {
    /// It is for the transaction user.
    Up,
    /// It is for the transaction user; the transaction stays to absorb repetitions.
    UpFinal,
    /// It is for the transaction user, and the transaction is over.
    UpLast,
    /// It ends here.
    Absorb,
}

/// What a timer wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fired {
    /// Nothing was due.
    Nothing,
    /// Send the request again.
    Repeat,
    /// No answer: the transaction is over, and the user is told.
    Timeout,
    /// The transaction is over.
    Gone,
}

impl RequestClient {
    /// A request goes out.
    pub fn new(now: Tick, timing: &Timing, reliable: bool) -> RequestClient {
        //= RFC 3261 17.1.2.2: timer F MUST fire in 64*T1; over an unreliable transport timer E MUST fire in T1
        let e = if reliable { Repeat::never() } else { Repeat::starting(now, timing.t1) };
        RequestClient { state: State::Trying { e, f: now + timing.patience() }, reliable }
    }

    /// A response came.
    pub fn response(&mut self, now: Tick, timing: &Timing, status: u16) -> Response {
        let State::Trying { e, .. } = &mut self.state else { return Response::Absorb };
        if status < 200 {
            //= RFC 3261 17.1.2.2: when it fires in "Proceeding", timer E MUST be reset with a value of T2
            e.settle(timing.t2);
            return Response::Up;
        }
        if self.reliable {
            return Response::UpLast;
        }
        self.state = State::Completed { k: now + timing.k(self.reliable) };
        Response::UpFinal
    }

    /// True until a final response came.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Trying { .. })
    }

    /// When [`RequestClient::fire`] has work.
    pub fn deadline(&self) -> Tick {
        match self.state {
            State::Trying { e, f } => e.at().min(f),
            State::Completed { k } => k,
        }
    }

    /// Time has passed. Call until it says anything but [`Fired::Repeat`].
    pub fn fire(&mut self, now: Tick, timing: &Timing) -> Fired {
        match &mut self.state {
            State::Trying { f, .. } if *f <= now => Fired::Timeout,
            State::Completed { k } if *k <= now => Fired::Gone,
            State::Trying { e, .. } if e.is_due(now) => {
                e.again(now, timing.t2);
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

    fn run(machine: &mut RequestClient, until: u64) -> Vec<(u64, Fired)> {
        let mut seen = Vec::new();
        while machine.deadline() <= ms(until) {
            let at = machine.deadline();
            let fired = machine.fire(at, &Timing::default());
            seen.push((at.0 / 1_000, fired));
            if fired != Fired::Repeat {
                break;
            }
        }
        seen
    }

    //= RFC 3261 17.1.2.2: timer E from T1, timer F after 64*T1
    #[test]
    fn an_unanswered_request_is_repeated_by_e_and_ended_by_f() {
        let mut machine = RequestClient::new(ms(0), &Timing::default(), false);
        let seen = run(&mut machine, 60_000);
        let times: Vec<u64> = seen.iter().map(|s| s.0).collect();
        assert_eq!(times, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500, 32_000]);
        assert_eq!(seen.last().map(|s| s.1), Some(Fired::Timeout));
        let mut machine = RequestClient::new(ms(0), &Timing::default(), true);
        assert_eq!(run(&mut machine, 60_000), [(32_000, Fired::Timeout)]);
    }

    #[test]
    fn a_provisional_response_slows_e_to_t2_and_leaves_f() {
        let timing = Timing::default();
        let mut machine = RequestClient::new(ms(0), &timing, false);
        assert_eq!(machine.response(ms(100), &timing, 100), Response::Up);
        let seen = run(&mut machine, 13_000);
        assert_eq!(seen, [500, 4_500, 8_500, 12_500].map(|at| (at, Fired::Repeat)));
        assert_eq!(run(&mut machine, 60_000).last(), Some(&(32_000, Fired::Timeout)));
    }

    #[test]
    fn a_final_response_goes_up_once_and_k_absorbs_the_rest() {
        let timing = Timing::default();
        let mut machine = RequestClient::new(ms(0), &timing, false);
        assert_eq!(machine.response(ms(100), &timing, 200), Response::UpFinal);
        assert_eq!(machine.response(ms(200), &timing, 200), Response::Absorb);
        assert!(!machine.is_open());
        assert_eq!(run(&mut machine, 60_000), [(5_100, Fired::Gone)]);
        let mut machine = RequestClient::new(ms(0), &timing, true);
        assert_eq!(machine.response(ms(100), &timing, 200), Response::UpLast);
    }
}
