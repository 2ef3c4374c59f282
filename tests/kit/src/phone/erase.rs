//! A user who tidies up: now and then everything that waits is deleted, also while it is being pushed.

use super::Owner;
use crate::ledger::Erasure;
use std::time::Duration;

/// A REFER on its way.
pub(super) struct Errand {
    erasure: Erasure,
    branch: String,
    /// Of the daemon, when it was sent.
    deaths: usize,
}

impl Owner {
    /// Sends a REFER for everything, and does not wait for its answer.
    pub(super) fn erase(&mut self) {
        let Some(client) = &self.line.client else { return };
        let request = client
            .request_to("REFER", "sip:Delete@mailserver.example.org")
            .with("Contact", client.contact.clone())
            .with("Refer-To", "<sip:Deferred@mailserver.example.org>")
            .with("Refer-Sub", "false");
        let deaths = self.ledger.deaths();
        let erasure = self.ledger.erasing(&self.aor);
        self.errands.push(Errand { erasure, branch: request.branch().to_string(), deaths });
        client.send_raw(&request.write());
    }

    /// Takes the answers that have come.
    pub(super) fn errands(&mut self) {
        let Some(inbox) = self.line.client.as_ref().map(|client| client.inbox.clone()) else { return };
        let deaths = self.ledger.deaths();
        let mut left = Vec::new();
        for errand in std::mem::take(&mut self.errands) {
            let mine = |message: &crate::sip::SipMessage| message.code() >= 200 && message.branch() == errand.branch;
            match inbox.find(Duration::ZERO, mine).map(|received| received.message) {
                Some(answer) if answer.code() == 200 => self.ledger.erased(errand.erasure),
                Some(answer) if answer.code() == 503 => self.ledger.not_erased(errand.erasure),
                Some(answer) => self.ledger.fault(format!("{}: REFER: {}", self.aor, answer.start)),
                // The daemon that it was sent to is dead, and the next one has never heard of it.
                None if errand.deaths != deaths => {}
                None => left.push(errand),
            }
        }
        self.errands = left;
    }
}
