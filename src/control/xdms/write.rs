//! How one user's document is brought to the XDMS: conditionally, so that nobody's write is lost unseen (RFC 4825 7.11).
//!
//! ```text
//!   mark ──▶ make ──▶ tag known? ──yes──▶ PUT If-Match ──2xx──▶ done
//!                        │ no              │ 412: GET, and again
//!                        ▼                 │ 404: PUT If-None-Match: *
//!                       GET ──200─▶ the same? done : PUT If-Match
//!                        └──404─▶ PUT If-None-Match: *
//! ```

use super::Shared;
use super::client::{Client, Only, Said};
use super::queue::Outcome;
use crate::control::xcap;
use crate::deferred::identity::Address;
use crate::deferred::inquiry::{Answer, Question};
use crate::uring::mail::Mail;
use bytes::Bytes;
use hyper::StatusCode;
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// Writes of one attempt: somebody else who writes this document as often is a second server, and waiting is better.
const WRITES: u32 = 4;

/// How often it is asked whether a mark is durable, and how long.
const MARK_POLL: Duration = Duration::from_millis(5);
const MARK_POLLS: u32 = 400;

/// A home core has answered by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tags remembered, twice: about 200 octets each. Who is not among them costs a GET before the PUT.
const TAGS: usize = 32_768;

/// A document as the XDMS has it, by its tag and ours.
#[derive(Clone, Debug)]
struct Known {
    theirs: String,
    ours: String,
}

/// The tags told last.
#[derive(Debug, Default)]
pub(super) struct Tags {
    lately: HashMap<Address, Known>,
    before: HashMap<Address, Known>,
}

impl Tags {
    fn find(&self, owner: &Address) -> Option<Known> {
        self.lately.get(owner).or_else(|| self.before.get(owner)).cloned()
    }

    fn keep(&mut self, owner: &Address, known: Option<Known>) {
        self.before.remove(owner);
        self.lately.remove(owner);
        if let Some(known) = known {
            if self.lately.len() >= TAGS {
                self.before = std::mem::take(&mut self.lately);
            }
            self.lately.insert(owner.clone(), known);
        }
    }
}

/// A writer: one user at a time.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) mail: Arc<Mail>,
    pub(super) cores: u16,
    pub(super) most: usize,
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
}

impl Writer {
    /// Brings a user's document to the XDMS as it is now.
    pub(super) async fn write(&mut self, owner: &Address) -> Outcome {
        let mut polls = 0;
        loop {
            match self.ask(Question::Mark { owner: owner.clone() }).await {
                Some(Answer::Done) => break,
                // Nothing is listed here, and nothing was ever listed there.
                Some(Answer::Unknown) => return Outcome::Unchanged,
                Some(Answer::Busy) if polls < MARK_POLLS => polls += 1,
                _ => return Outcome::Failed,
            }
            tokio::time::sleep(MARK_POLL).await;
        }
        // Made after the mark is durable: whatever changes from now on is told.
        let made = self.ask(Question::Document { owner: owner.clone(), most: self.most }).await;
        let Some(Answer::Document(document)) = made else { return Outcome::Failed };
        let (ours, octets) = (document.revision.to_string(), xcap::whole(&document));
        let is_empty = document.histories.is_empty();
        let outcome = self.bring(owner, &ours, &octets, is_empty).await;
        if document.left_out > 0 && outcome == Outcome::Written {
            self.shared.tally.cut();
        }
        if is_empty && matches!(outcome, Outcome::Written | Outcome::Unchanged) {
            // Lost, it costs one look at the XDMS after the next start.
            let _ = self.ask(Question::Settled { owner: owner.clone() }).await;
        }
        outcome
    }

    async fn bring(&mut self, owner: &Address, ours: &str, octets: &Bytes, is_empty: bool) -> Outcome {
        let known = self.tags().find(owner);
        if known.as_ref().is_some_and(|known| known.ours == ours) {
            return Outcome::Unchanged;
        }
        let mut only = known.map(|known| Only::If(known.theirs));
        for _ in 0..WRITES {
            let condition = match only.take() {
                Some(only) => only,
                None => match self.look(owner, ours, octets).await {
                    // There is no list to make empty.
                    Ok(Only::New) if is_empty => return Outcome::Unchanged,
                    Ok(only) => only,
                    Err(outcome) => return outcome,
                },
            };
            let Some(said) = self.client.put(owner, octets.clone(), &condition).await else {
                // Taken or not: the next attempt looks.
                self.tags().keep(owner, None);
                return Outcome::Silent;
            };
            match said.status {
                status if status.is_success() => {
                    self.tags().keep(owner, said.tag.map(|theirs| Known { theirs, ours: ours.to_owned() }));
                    return Outcome::Written;
                }
                StatusCode::PRECONDITION_FAILED => {
                    // Somebody else wrote it, or ours was taken and its answer lost.
                    self.shared.tally.conflict();
                    self.tags().keep(owner, None);
                }
                StatusCode::NOT_FOUND if matches!(condition, Only::If(_)) => {
                    self.tags().keep(owner, None);
                    only = Some(Only::New);
                }
                _ => return self.refused(owner, &said),
            }
        }
        Outcome::Failed
    }

    /// What is there, and so under which condition to write.
    async fn look(&mut self, owner: &Address, ours: &str, octets: &Bytes) -> Result<Only, Outcome> {
        let said = self.client.get(owner, octets.len() + 1).await.ok_or(Outcome::Silent)?;
        match said.status {
            StatusCode::OK => {
                // Without a tag nothing can be compared; RFC 4825 8.3 demands one.
                let Some(theirs) = said.tag else {
                    tracing::warn!("the XDMS gives no ETag (RFC 4825 8.3): documents cannot be written to it safely");
                    return Err(Outcome::Refused);
                };
                if said.body == *octets {
                    self.tags().keep(owner, Some(Known { theirs, ours: ours.to_owned() }));
                    return Err(Outcome::Unchanged);
                }
                Ok(Only::If(theirs))
            }
            StatusCode::NOT_FOUND => Ok(Only::New),
            _ => Err(self.refused(owner, &said)),
        }
    }

    /// An answer that is no success.
    fn refused(&self, owner: &Address, said: &Said) -> Outcome {
        let status = said.status.as_u16();
        match said.status {
            //= RFC 4825 11: 409: which condition the document does not meet
            StatusCode::CONFLICT => {
                let why = xcap_error(&said.body);
                tracing::error!(user = ?owner, %why, "the XDMS refuses the document's content: its schema is not the one deferd writes by");
                Outcome::Refused
            }
            _ if said.status.is_server_error() || matches!(status, 408 | 429) => {
                tracing::debug!(user = ?owner, status, "the XDMS cannot take the document now");
                Outcome::Failed
            }
            _ => {
                tracing::error!(user = ?owner, status, "the XDMS refuses the document; look at xdms.root and at the rights of this daemon there");
                Outcome::Refused
            }
        }
    }

    async fn ask(&self, question: Question) -> Option<Answer> {
        xcap::ask_home(&self.mail, self.cores, &question, PATIENCE).await
    }

    fn tags(&self) -> MutexGuard<'_, Tags> {
        self.shared.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The condition that an `application/xcap-error+xml` names, and its phrase; else the first words of whatever it is.
fn xcap_error(body: &[u8]) -> String {
    use crate::wire::xml::{Step, Walk};
    let mut walk = Walk::new(body);
    if let Ok(walk) = &mut walk {
        while let Ok(Some(step)) = walk.step() {
            if let Step::Open(element) = step
                && element.local_name() != b"xcap-error"
            {
                let name = String::from_utf8_lossy(element.local_name()).into_owned();
                let phrase = element.attribute(b"phrase").ok().flatten();
                return phrase.map_or(name.clone(), |phrase| {
                    format!("{name}: {}", phrase.chars().take(200).collect::<String>())
                });
            }
        }
    }
    String::from_utf8_lossy(body).chars().filter(|letter| !letter.is_control()).take(200).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_told_in_the_words_of_the_xdms() {
        let error = "<?xml version=\"1.0\"?><xcap-error xmlns=\"urn:ietf:params:xml:ns:xcap-error\">\
                     <schema-validation-error phrase=\"no element &lt;size&gt;\"/></xcap-error>";
        assert_eq!(xcap_error(error.as_bytes()), "schema-validation-error: no element <size>");
        assert_eq!(xcap_error(b"<xcap-error><no-parent/></xcap-error>"), "no-parent");
        assert_eq!(xcap_error(b"no\r\nway"), "noway");
        assert_eq!(xcap_error(&[b'x'; 10_000]).len(), 200);
    }

    #[test]
    fn tags_are_kept_within_their_bound() {
        let user = |n: usize| Address::from_canonical(format!("sip:{n}@example.org").as_bytes());
        let known = || Some(Known { theirs: "\"t\"".into(), ours: "o".into() });
        let mut tags = Tags::default();
        (0..3 * TAGS).for_each(|n| tags.keep(&user(n), known()));
        assert!(tags.lately.len() + tags.before.len() <= 2 * TAGS);
        assert!(tags.find(&user(0)).is_none() && tags.find(&user(3 * TAGS - 1)).is_some());
        tags.keep(&user(3 * TAGS - 1), None);
        assert!(tags.find(&user(3 * TAGS - 1)).is_none());
    }
}
