//! Hands an operator's questions to those who know, and their answers out.

use super::core::Core;
use super::effect::Effect;
use crate::deferred::inquiry::{Known, Question};
use crate::store::loader::Loaded;

/// Lends the inquiries everything they may look at.
macro_rules! known {
    ($core:ident) => {
        &mut Known { users: &mut $core.users, pushes: &mut $core.pushes, presences: &mut $core.presences }
    };
}

impl Core {
    pub(super) fn question(&mut self, ticket: u64, question: Question) {
        self.inquiries.ask(&mut self.cx, known!(self), ticket, question);
        self.answers();
    }

    pub(super) fn inquired(&mut self, job: u64, records: Vec<Loaded>) {
        self.inquiries.loaded(&mut self.cx, known!(self), job, records);
        self.answers();
    }

    pub(super) fn inquiries_turn(&mut self) {
        self.inquiries.turn(&mut self.cx, known!(self));
        self.answers();
    }

    fn answers(&mut self) {
        while let Some((ticket, answer)) = self.inquiries.answer() {
            self.effects.push_back(Effect::Answer { ticket, answer: Box::new(answer) });
        }
    }
}
