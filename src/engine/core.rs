//! The hub: moves values between the rooms and decides nothing.

use super::effect::Effect;
use super::input::Input;
use super::setup::Setup;
use crate::base::clock::{Now, Tick};
use std::collections::VecDeque;

/// One core. `handle` inputs, then `turn` once, then drain `effects`; sleep until `deadline` or the next input.
pub struct Core {
    _setup: Setup,
    effects: VecDeque<Effect>,
}

impl Core {
    /// A core that has not begun.
    pub fn new(setup: Setup) -> Core {
        Core { _setup: setup, effects: VecDeque::new() }
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, _now: Now, _input: Input) {}

    /// Ends a batch of inputs: timers that are due, users that other cores left something for, commits that can begin.
    pub fn turn(&mut self, _now: Now) {}

    /// The next thing to do; call until `None` after each `turn`.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When `turn` is wanted even without input.
    pub fn deadline(&self) -> Option<Tick> {
        None
    }

    /// True when another core left something in shared memory: look once more before sleeping.
    pub fn has_mail(&self) -> bool {
        false
    }
}
