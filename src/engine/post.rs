//! A core's letters: those it reads, those that come back, and those that say what became of what was asked by one.

use super::conns::Written;
use super::core::Core;
use super::effect::Effect;
use super::letters::Letter;
use crate::base::net::{ConnId, CoreId};
use crate::deferred::cx::Reply;
use crate::deferred::respond;
use crate::proto::sip::endpoint::ServerKey;

impl Core {
    pub(super) fn letter(&mut self, letter: Letter) {
        match letter {
            Letter::Owed(owed) => self.reports.owe(&mut self.cx, *owed),
            Letter::Gone { core, conn } => self.cx.sip.flow_failed(self.cx.now.tick, core, conn),
            Letter::Cancel(reply) => self.taken_back(reply),
            Letter::Request { reply, message, flow } => self.serve(reply, message, flow),
            Letter::Stray { message, flow } => self.cx.sip.receive(self.cx.now.tick, message, flow),
            Letter::Respond { from, txn, status, octets } => {
                let sent = self.cx.sip.respond(self.cx.now.tick, txn, status, octets);
                // The client took it back meanwhile, or has been answered 500: a session that nobody knows of is not one.
                if !sent && (200..300).contains(&status) {
                    let reply = Reply { core: self.cx.core, txn };
                    self.effects.push_back(Effect::Letter { to: from, letter: Letter::Cancel(reply) });
                }
            }
            Letter::Question { ticket, question } => self.question(ticket, *question),
            Letter::Write { from, conn, octets } => match self.conns.write(conn, octets) {
                Written::Queued => {
                    self.conns.written_by(conn, from);
                    self.pump(conn);
                }
                Written::Gone => self.tell_gone(from, conn),
                Written::Overflow => {
                    self.cx.counts.overloads += 1;
                    self.hang_up(conn, true);
                }
            },
        }
    }

    /// The other core's box is full: its answer is ours to give.
    pub(super) fn undelivered(&mut self, letter: Letter) {
        match letter {
            Letter::Request { reply, message, flow } => {
                self.cx.counts.overloads += 1;
                let refusal = respond::Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S);
                self.refuse(reply, &message, &flow, &refusal);
            }
            // Sent from here, then: where there is a SIP/IP core, any of us reaches it.
            Letter::Owed(owed) => self.reports.owe(&mut self.cx, *owed),
            _ => {}
        }
    }

    /// A connection is gone: other cores that have had something written on it need not wait for timer B to know.
    pub(super) fn tell_writers(&mut self, conn: ConnId) {
        for to in self.conns.take_writers(conn) {
            self.tell_gone(to, conn);
        }
    }

    fn tell_gone(&mut self, to: CoreId, conn: ConnId) {
        self.effects.push_back(Effect::Letter { to, letter: Letter::Gone { core: self.cx.core, conn } });
    }

    /// The client takes an INVITE back, and nothing final has been said to it yet. Where another core decides, or has decided and its
    /// answer is under way, the client is answered here and now: it is the order on this core that counts. The other hears so at once, and
    /// once more when its answer comes too late: this letter may overtake the one with the INVITE.
    pub(super) fn cancelled(&mut self, txn: ServerKey) {
        let reply = Reply { core: self.cx.core, txn };
        match self.elsewhere.get(&txn) {
            Some(&to) => {
                self.cx.counts.refused += 1;
                self.cx.sip.terminate(self.cx.now.tick, txn);
                self.effects.push_back(Effect::Letter { to, letter: Letter::Cancel(reply) });
            }
            // What is decided here is decided at once, but for the retrievals that read first.
            None => self.retrievals.cancel(&mut self.cx, &mut self.users, reply),
        }
    }

    /// A client of another core has taken its INVITE back, and has never heard of a session.
    fn taken_back(&mut self, reply: Reply) {
        self.retrievals.cancel(&mut self.cx, &mut self.users, reply);
        self.pushes.cancel(&mut self.cx, reply);
        self.larges.cancel(&mut self.cx, reply);
    }
}
