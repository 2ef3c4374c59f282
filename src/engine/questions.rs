//! Hands an operator's questions to those who know, and their answers out.

use super::core::Core;
use super::effect::Effect;
use crate::deferred::inquiry::{Answer, Copying, Known, Question, ToCopy};
use crate::store::loader::Loaded;
use crate::store::log::Cut;

/// Lends the inquiries everything they may look at.
macro_rules! known {
    ($core:ident) => {
        &mut Known {
            users: &mut $core.users,
            pushes: &mut $core.pushes,
            presences: &mut $core.presences,
            dismissals: &mut $core.dismissals,
            reports: &$core.reports,
            bin: &$core.bin,
            summaries: &$core.summaries,
            larges: &$core.larges,
        }
    };
}

impl Core {
    pub(super) fn question(&mut self, ticket: u64, question: Question) {
        if let Question::Copying(step) = question {
            let answer = self.copying(step);
            return self.answer(ticket, answer);
        }
        self.inquiries.ask(&mut self.cx, known!(self), ticket, question);
        self.answers();
    }

    /// Somebody copies the files of the logs.
    fn copying(&mut self, step: Copying) -> Answer {
        let segments = &self.cx.segments;
        match step {
            Copying::Begin => segments.hold(),
            Copying::End if !segments.let_go() => return Answer::Failed,
            Copying::End => {}
            Copying::Cut if self.reclaim.is_going() => return Answer::Busy,
            Copying::Cut => return Answer::Cut(self.to_copy()),
        }
        Answer::Done
    }

    /// What there is to copy of the logs that this core looks after.
    fn to_copy(&self) -> Vec<ToCopy> {
        let Cut { ends, blank } = self.cx.log.cut();
        let mut found = self.cx.segments.list();
        found.retain(|(number, state)| {
            state.segment.log.0 % self.setup.cores == self.setup.core.0 && !blank.contains(number)
        });
        let to_copy = found.into_iter().map(|(segment, state)| {
            let (log, octets) = (state.segment.log, state.segment.octets);
            let end = ends.iter().find(|end| end.segment == segment && !state.is_sealed());
            let (durable, last) = end.map_or((octets, 0), |end| (end.at, end.group));
            ToCopy { log, segment, octets, durable, last }
        });
        to_copy.collect()
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
            self.answer(ticket, answer);
        }
    }

    pub(super) fn answer(&mut self, ticket: u64, answer: Answer) {
        self.effects.push_back(Effect::Answer { ticket, answer: Box::new(answer) });
    }
}
