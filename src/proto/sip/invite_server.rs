//! The INVITE server transaction. Knows states and times; the octets are its owner's.

use super::timing::{INVITE_ANSWER_MAX, Repeat, TRYING_AFTER, Timing};
use crate::base::clock::Tick;

/// INVITE server transaction (RFC 3261 17.2.1, RFC 6026 7.1).
///
/// ```text
///   proceeding ──2xx──▶ accepted ──────────────L──────────▶ gone
///      │ 300-699
///      ▼
///   completed ──ACK──▶ confirmed ──────────────I──────────▶ gone
///      └───────────────H: nobody acknowledged─────────────▶ gone
/// ```
/// One thing is added to the RFC's machine: in `accepted` it also repeats the 2xx at T1, 2*T1 .. T2 until the ACK is there,
/// over any transport. RFC 3261 13.3.1.4 gives that to the UAS core; the octets and the timers are here.
#[derive(Clone, Copy, Debug)]
pub struct InviteServer {
    state: State,
    reliable: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Proceeding { trying: Tick, answer_by: Tick },
    Accepted { repeat: Repeat, l: Tick, acked: bool },
    Completed { g: Repeat, h: Tick },
    Confirmed { i: Tick },
}

/// What becomes of a repeated INVITE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// Send the last response again; there is none yet: 100.
    Answer,
    /// It ends here.
    Absorb,
}

/// What becomes of an ACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ack {
    /// It is for the transaction user: a 2xx was acknowledged.
    Up,
    /// It ends here.
    Absorb,
    /// It ends here and so does the transaction.
    Gone,
}

/// What a timer wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fired {
    /// Nothing was due.
    Nothing,
    /// Send 100: the transaction user is silent.
    Trying,
    /// Send the last response again.
    Repeat,
    /// The transaction user never answered: answer 500 in its place.
    Answer500,
    /// The transaction is over.
    Gone {
        /// An ACK came.
        acked: bool,
    },
}

impl InviteServer {
    /// An INVITE has arrived.
    pub fn new(now: Tick, reliable: bool) -> InviteServer {
        let state = State::Proceeding { trying: now + TRYING_AFTER, answer_by: now + INVITE_ANSWER_MAX };
        InviteServer { state, reliable }
    }

    /// The same INVITE again.
    pub fn again(&self) -> Again {
        match self.state {
            State::Proceeding { .. } | State::Completed { .. } => Again::Answer,
            //= RFC 6026 8.7: retransmissions of an accepted INVITE are absorbed
            State::Accepted { .. } | State::Confirmed { .. } => Again::Absorb,
        }
    }

    /// The transaction user answers with `status`. True: it is to be sent, and kept; false: it comes too late.
    pub fn respond(&mut self, now: Tick, timing: &Timing, status: u16) -> bool {
        match (&mut self.state, status) {
            (State::Proceeding { trying, .. }, ..200) => {
                *trying = Tick::NEVER;
                true
            }
            (State::Proceeding { .. }, 200..300) => {
                //= RFC 3261 13.3.1.4: the 2xx is passed to the transport with an interval that starts at T1
                let repeat = Repeat::starting(now, timing.t1);
                //= RFC 6026 8.7: Timer L MUST be set to fire in 64*T1 for all transports
                self.state = State::Accepted { repeat, l: now + timing.patience(), acked: false };
                true
            }
            (State::Proceeding { .. }, _) => {
                //= RFC 3261 17.2.1: for unreliable transports timer G is set to fire in T1; timer H in 64*T1 for all
                let g = if self.reliable { Repeat::never() } else { Repeat::starting(now, timing.t1) };
                self.state = State::Completed { g, h: now + timing.patience() };
                true
            }
            (State::Accepted { .. }, 200..300) => true,
            _ => false,
        }
    }

    /// An ACK that matches this transaction, or acknowledges its 2xx from a branch of its own.
    pub fn ack(&mut self, now: Tick, timing: &Timing) -> Ack {
        match &mut self.state {
            State::Accepted { repeat, acked, .. } => {
                *repeat = Repeat::never();
                *acked = true;
                Ack::Up
            }
            State::Completed { .. } if self.reliable => Ack::Gone,
            State::Completed { .. } => {
                self.state = State::Confirmed { i: now + timing.i(self.reliable) };
                Ack::Absorb
            }
            State::Proceeding { .. } | State::Confirmed { .. } => Ack::Absorb,
        }
    }

    /// True until a final response was given: a CANCEL still means something.
    pub fn is_proceeding(&self) -> bool {
        matches!(self.state, State::Proceeding { .. })
    }

    /// True from a 2xx on.
    pub fn is_accepted(&self) -> bool {
        matches!(self.state, State::Accepted { .. })
    }

    /// When [`InviteServer::fire`] has work.
    pub fn deadline(&self) -> Tick {
        match self.state {
            State::Proceeding { trying, answer_by } => trying.min(answer_by),
            State::Accepted { repeat, l, .. } => repeat.at().min(l),
            State::Completed { g, h } => g.at().min(h),
            State::Confirmed { i } => i,
        }
    }

    /// Time has passed. Call until it says [`Fired::Nothing`] or [`Fired::Gone`].
    pub fn fire(&mut self, now: Tick, timing: &Timing) -> Fired {
        match &mut self.state {
            State::Proceeding { trying, answer_by } => {
                if *answer_by <= now {
                    return Fired::Answer500;
                }
                if *trying > now {
                    return Fired::Nothing;
                }
                *trying = Tick::NEVER;
                Fired::Trying
            }
            State::Accepted { l, acked, .. } if *l <= now => Fired::Gone { acked: *acked },
            State::Completed { h, .. } if *h <= now => Fired::Gone { acked: false },
            State::Confirmed { i } if *i <= now => Fired::Gone { acked: true },
            State::Accepted { repeat, .. } if repeat.is_due(now) => {
                repeat.again(now, timing.t2);
                Fired::Repeat
            }
            State::Completed { g, .. } if g.is_due(now) => {
                g.again(now, timing.t2);
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

    /// All that the timers want up to `until`, with the millisecond at which they wanted it.
    fn run(machine: &mut InviteServer, until: u64) -> Vec<(u64, Fired)> {
        let timing = Timing::default();
        let mut seen = Vec::new();
        while machine.deadline() <= ms(until) {
            let at = machine.deadline();
            match machine.fire(at, &timing) {
                Fired::Nothing => panic!("a deadline with nothing to do"),
                gone @ Fired::Gone { .. } => {
                    seen.push((at.0 / 1_000, gone));
                    break;
                }
                fired => {
                    if fired == Fired::Answer500 {
                        assert!(machine.respond(at, &timing, 500));
                    }
                    seen.push((at.0 / 1_000, fired));
                }
            }
        }
        seen
    }

    #[test]
    fn a_silent_user_is_covered_by_a_100_after_200_ms() {
        let mut machine = InviteServer::new(ms(0), false);
        assert_eq!(run(&mut machine, 1_000), [(200, Fired::Trying)]);
        let mut machine = InviteServer::new(ms(0), false);
        assert!(machine.respond(ms(100), &Timing::default(), 180));
        assert_eq!(run(&mut machine, 1_000), []);
    }

    #[test]
    fn a_user_that_never_answers_is_answered_for() {
        let mut machine = InviteServer::new(ms(0), true);
        let seen = run(&mut machine, 300_000);
        assert_eq!(seen, [(200, Fired::Trying), (180_000, Fired::Answer500), (212_000, Fired::Gone { acked: false })]);
    }

    //= RFC 3261 17.2.1: over datagrams a final response is repeated by timer G until timer H
    #[test]
    fn a_refusal_is_repeated_by_g_until_h_over_datagrams() {
        let timing = Timing::default();
        let mut machine = InviteServer::new(ms(0), false);
        assert!(machine.respond(ms(0), &timing, 486));
        assert_eq!(machine.again(), Again::Answer);
        assert!(!machine.respond(ms(0), &timing, 200), "one final response");
        let seen = run(&mut machine, 40_000);
        let times: Vec<u64> = seen.iter().map(|s| s.0).collect();
        assert_eq!(times, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500, 32_000]);
        assert_eq!(seen.last().map(|s| s.1), Some(Fired::Gone { acked: false }));
    }

    #[test]
    fn over_a_stream_a_refusal_is_not_repeated_but_its_ack_is_awaited() {
        let timing = Timing::default();
        let mut machine = InviteServer::new(ms(0), true);
        assert!(machine.respond(ms(0), &timing, 486));
        assert_eq!(run(&mut machine.clone(), 40_000), [(32_000, Fired::Gone { acked: false })]);
        assert_eq!(machine.ack(ms(40), &timing), Ack::Gone);
    }

    #[test]
    fn an_ack_ends_the_repetition_and_timer_i_the_transaction() {
        let timing = Timing::default();
        let mut machine = InviteServer::new(ms(0), false);
        assert_eq!(machine.ack(ms(0), &timing), Ack::Absorb, "an ACK for nothing");
        assert!(machine.respond(ms(0), &timing, 486));
        assert_eq!(machine.ack(ms(100), &timing), Ack::Absorb);
        assert_eq!(machine.ack(ms(200), &timing), Ack::Absorb);
        assert_eq!(machine.again(), Again::Absorb);
        assert_eq!(run(&mut machine, 40_000), [(5_100, Fired::Gone { acked: true })]);
    }

    //= RFC 3261 13.3.1.4: the 2xx is repeated with an interval that starts at T1 and doubles
    //= RFC 6026 8.7: retransmissions of an accepted INVITE are absorbed until timer L
    #[test]
    fn a_2xx_is_repeated_until_acknowledged_and_absorbs_invites_until_l() {
        let timing = Timing::default();
        for reliable in [true, false] {
            let mut machine = InviteServer::new(ms(0), reliable);
            assert!(machine.respond(ms(0), &timing, 200));
            assert!(machine.respond(ms(0), &timing, 200), "the user may repeat it, too");
            assert!(!machine.respond(ms(0), &timing, 486));
            assert_eq!(machine.again(), Again::Absorb);
            assert_eq!(run(&mut machine, 1_500), [(500, Fired::Repeat), (1_500, Fired::Repeat)]);
            assert_eq!(machine.ack(ms(1_600), &timing), Ack::Up);
            assert_eq!(machine.ack(ms(1_700), &timing), Ack::Up);
            assert_eq!(run(&mut machine, 40_000), [(32_000, Fired::Gone { acked: true })]);
        }
    }

    #[test]
    fn a_2xx_nobody_acknowledges_ends_with_that_finding() {
        let timing = Timing::default();
        let mut machine = InviteServer::new(ms(0), true);
        assert!(machine.respond(ms(0), &timing, 200));
        assert_eq!(run(&mut machine, 40_000).last(), Some(&(32_000, Fired::Gone { acked: false })));
    }
}
