//! The other way of being there: a REGISTER (RFC 3261 10.2). A daemon without a core in front takes it for presence.

use crate::line::{Line, expires_of};
use crate::sip::{Request, random_hex};
use crate::{Person, Said};
use std::time::{Duration, Instant};

/// How long it holds, in seconds, until it is refreshed.
const EXPIRES_S: u64 = 300;

/// One binding.
pub(crate) struct Registration {
    /// The same for all REGISTERs of a client.
    call_id: String,
    cseq: u32,
    /// When it is made to last.
    pub(crate) refresh: Instant,
}

impl Registration {
    /// Not sent yet.
    pub(crate) fn new() -> Registration {
        Registration { call_id: random_hex(10), cseq: 0, refresh: Instant::now() }
    }

    fn request(&mut self, line: &Line, person: &Person, expires: u64) -> Request {
        self.cseq += 1;
        let domain = person.aor.rsplit('@').next().unwrap_or_default();
        line.request("REGISTER", &format!("sip:{domain}"), &person.aor)
            .set("Call-ID", self.call_id.as_str())
            .set("CSeq", format!("{} REGISTER", self.cseq))
            .with("Contact", line.contact())
            .with("Expires", expires.to_string())
    }

    /// Makes it, or makes it last.
    pub(crate) fn register(&mut self, line: &mut Line, person: &Person) -> Said<()> {
        let request = self.request(line, person, EXPIRES_S);
        let answer = line.insist(&request, "the registration")?;
        let lasts = expires_of(&answer, EXPIRES_S).max(Duration::from_secs(2));
        self.refresh = Instant::now() + lasts / 2;
        Ok(())
    }

    /// Takes it back.
    pub(crate) fn remove(&mut self, line: &mut Line, person: &Person) -> Said<()> {
        let request = self.request(line, person, 0);
        line.ask(&request).map(drop)
    }
}
