//! Who was promised what, and who got what: the record of a load over many lives of a daemon, and its judge. Knows promises
//! 1 to 3 of the fault model; knows no sockets.
//!
//! The rules, of `manual/faults.md`: a message that got its 202 is delivered. It is delivered once, or again with the same
//! Message-ID and the same octets when the earlier copy was not acknowledged, or was acknowledged in a push that had not ended
//! when the daemon died. What was never sent is never delivered. Per user, m1 comes before m2 when m1's 202 had come before m2
//! was sent. What its user had deleted is not delivered once that was answered.

mod erasing;

pub use erasing::Erasure;

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{msrp::MsrpMessage, payload, sip::SipMessage};

/// The record; clones write into the same one.
#[derive(Clone)]
pub struct Ledger(Arc<Shared>);

struct Shared {
    start: Instant,
    book: Mutex<Book>,
    news: Condvar,
}

#[derive(Default)]
struct Book {
    sent: HashMap<String, Sent>,
    pushes: Vec<Push>,
    /// Each death of the daemon: no later than, no earlier than it.
    deaths: Vec<(Duration, Duration)>,
    faults: Vec<String>,
    erasings: Vec<erasing::Erasing>,
    accepted: usize,
    confirmed: usize,
}

struct Sent {
    user: String,
    request: SipMessage,
    at: Duration,
    accepted: Option<Duration>,
    refused: Option<u16>,
    confirmed: bool,
    /// Its user has asked for everything to be deleted.
    may_vanish: bool,
    /// And was told that it is.
    deleted: Option<Duration>,
}

impl Sent {
    /// It has to be delivered yet.
    fn is_owed(&self) -> bool {
        self.accepted.is_some() && !self.confirmed && !self.may_vanish
    }
}

struct Push {
    user: String,
    call_id: String,
    invited: Duration,
    established: bool,
    ended: Option<Duration>,
    heard: Vec<Heard>,
}

#[derive(Clone)]
struct Heard {
    key: String,
    message_id: String,
    octets: u64,
    acknowledged: bool,
}

/// A push in the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PushNo(usize);

/// What happened, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Messages sent, each counted once.
    pub sent: usize,
    /// Those that got a 202.
    pub accepted: usize,
    /// Those delivered and acknowledged.
    pub confirmed: usize,
    /// Deliveries, repeated ones included.
    pub delivered: usize,
    /// INVITEs.
    pub pushes: usize,
    /// Pushes that the daemon ended with BYE.
    pub ended: usize,
    /// Accepted, and not yet acknowledged.
    pub waiting: usize,
    /// Those whose user was told that they are deleted.
    pub deleted: usize,
    /// Pushes that were accepted and live.
    pub alive: usize,
    /// Deaths of the daemon.
    pub deaths: usize,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums { sent, accepted, confirmed, delivered, pushes, ended, waiting, deleted, alive, deaths } = self;
        write!(
            f,
            "{sent} sent, {accepted} accepted, {delivered} deliveries, {confirmed} confirmed, {pushes} pushes, {ended} ended with BYE, {waiting} messages wait, {deleted} deleted, {alive} pushes live, {deaths} deaths"
        )
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

impl Ledger {
    /// An empty record; its clock starts now.
    pub fn new() -> Ledger {
        Ledger(Arc::new(Shared { start: Instant::now(), book: Mutex::default(), news: Condvar::new() }))
    }

    fn now(&self) -> Duration {
        self.0.start.elapsed()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that is wrong whatever else happens.
    pub fn fault(&self, what: impl Into<String>) {
        let what = format!("{:.3} s: {}", self.now().as_secs_f64(), what.into());
        self.book().faults.push(what);
        self.0.news.notify_all();
    }

    /// Write this down before the first octet leaves; a repetition changes nothing.
    pub fn sending(&self, user: &str, request: &SipMessage) {
        let at = self.now();
        let mut book = self.book();
        let sent = Sent {
            user: user.into(),
            request: request.clone(),
            at,
            accepted: None,
            refused: None,
            confirmed: false,
            may_vanish: book.is_erasing(user),
            deleted: None,
        };
        book.sent.entry(request.call_id().to_string()).or_insert(sent);
    }

    /// Its final response came.
    pub fn answered(&self, call_id: &str, code: u16) {
        let now = self.now();
        let mut book = self.book();
        let Some(sent) = book.sent.get_mut(call_id) else { return };
        if code == 202 {
            let fresh = sent.accepted.is_none();
            sent.accepted.get_or_insert(now);
            book.accepted += usize::from(fresh);
        } else {
            sent.refused = Some(code);
        }
        self.0.news.notify_all();
    }

    /// An INVITE came. Faults when another push of this user lives.
    pub fn invited(&self, user: &str, call_id: &str) -> PushNo {
        let invited = self.now();
        let mut book = self.book();
        let other = book.pushes.iter().rfind(|push| push.user == user && push.established && push.ended.is_none());
        let fault = other.filter(|other| !book.died_between(other.invited, invited)).map(|other| {
            format!("{user} is pushed twice at once: {call_id} while {} of {:?} lives", other.call_id, other.invited)
        });
        book.faults.extend(fault);
        let push = Push {
            user: user.into(),
            call_id: call_id.into(),
            invited,
            established: false,
            ended: None,
            heard: Vec::new(),
        };
        book.pushes.push(push);
        PushNo(book.pushes.len() - 1)
    }

    /// Its ACK came.
    pub fn established(&self, push: PushNo) {
        self.book().pushes[push.0].established = true;
    }

    /// Its BYE came.
    pub fn ended(&self, call_id: &str) {
        let now = self.now();
        for push in self.book().pushes.iter_mut().filter(|push| push.call_id == call_id) {
            push.ended.get_or_insert(now);
        }
        self.0.news.notify_all();
    }

    /// A whole message came; the number is for [`Ledger::acknowledged`].
    pub fn heard(&self, push: PushNo, message: &MsrpMessage) -> usize {
        let mut hasher = DefaultHasher::new();
        (&message.content_type, &message.body).hash(&mut hasher);
        let octets = hasher.finish();
        let mut book = self.book();
        let user = book.pushes[push.0].user.clone();
        let inner = payload::pager(message);
        let key = inner.as_ref().map(|inner| inner.call_id().to_string()).unwrap_or_default();
        let fault = match (&inner, book.sent.get(&key)) {
            (Err(why), _) => Some(why.clone()),
            (Ok(_), None) => Some("nobody sent it".into()),
            (Ok(_), Some(sent)) if sent.user != user => Some(format!("it is for {}", sent.user)),
            (Ok(_), Some(sent)) => payload::pager_is(message, &sent.request).err(),
        };
        let fault = fault.map(|why| format!("{} to {user} ({key}): {why}", message.message_id));
        book.faults.extend(fault);
        let heard = &mut book.pushes[push.0].heard;
        heard.push(Heard { key, message_id: message.message_id.clone(), octets, acknowledged: false });
        heard.len() - 1
    }

    /// All its 200s are written.
    pub fn acknowledged(&self, push: PushNo, number: usize) {
        let mut book = self.book();
        book.pushes[push.0].heard[number].acknowledged = true;
        let key = book.pushes[push.0].heard[number].key.clone();
        if let Some(sent) = book.sent.get_mut(&key) {
            let fresh = !sent.confirmed;
            sent.confirmed = true;
            book.confirmed += usize::from(fresh);
        }
        self.0.news.notify_all();
    }

    /// Kills the daemon through `kill`, which returns when it is dead, and writes it down.
    pub fn death(&self, kill: impl FnOnce()) {
        let before = self.now();
        kill();
        let after = self.now();
        let mut book = self.book();
        book.deaths.push((before, after));
        book.erasings_end();
        drop(book);
        self.0.news.notify_all();
    }

    /// How often the daemon has died.
    pub fn deaths(&self) -> usize {
        self.book().deaths.len()
    }

    /// How many messages for this user were accepted and not yet acknowledged.
    pub fn waiting_for(&self, user: &str) -> usize {
        let book = self.book();
        book.sent.values().filter(|sent| sent.user == user && sent.is_owed()).count()
    }

    /// What happened so far.
    pub fn sums(&self) -> Sums {
        self.book().sums()
    }

    /// Whether nothing was wrong so far, of what is seen at once.
    pub fn is_sound(&self) -> bool {
        self.book().faults.is_empty()
    }

    /// Waits until `done`, at most `limit`; false when it did not come about.
    pub fn wait(&self, limit: Duration, mut done: impl FnMut(&Sums) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut book = self.book();
        loop {
            if done(&book.sums()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            book = self.0.news.wait_timeout(book, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The verdict, when all is quiet: everything that breaks a promise.
    pub fn judge(&self) -> Result<Sums, String> {
        let book = self.book();
        let mut faults = book.faults.clone();
        for (key, sent) in &book.sent {
            if sent.is_owed() {
                faults.push(format!("lost: {key} to {}, sent at {:?}, got its 202", sent.user, sent.at));
            }
        }
        for push in book.pushes.iter().filter(|push| book.is_alive(push)) {
            faults.push(format!("no BYE: push {} to {} of {:?}", push.call_id, push.user, push.invited));
        }
        book.judge_repetitions(&mut faults);
        book.judge_order(&mut faults);
        book.judge_deletions(&mut faults);
        if faults.is_empty() {
            return Ok(book.sums());
        }
        let shown = faults.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
        Err(format!("{} faults ({}):\n  {shown}\ndeaths: {:?}", faults.len(), book.sums(), book.deaths))
    }
}

impl Book {
    fn sums(&self) -> Sums {
        Sums {
            sent: self.sent.len(),
            accepted: self.accepted,
            confirmed: self.confirmed,
            delivered: self.pushes.iter().map(|push| push.heard.len()).sum(),
            pushes: self.pushes.len(),
            ended: self.pushes.iter().filter(|push| push.ended.is_some()).count(),
            waiting: self.sent.values().filter(|sent| sent.is_owed()).count(),
            deleted: self.sent.values().filter(|sent| sent.deleted.is_some()).count(),
            alive: self.pushes.iter().filter(|push| self.is_alive(push)).count(),
            deaths: self.deaths.len(),
        }
    }

    /// Whether the daemon may have died between two moments.
    fn died_between(&self, earlier: Duration, later: Duration) -> bool {
        self.deaths.iter().any(|(before, after)| *after > earlier && *before < later)
    }

    fn is_alive(&self, push: &Push) -> bool {
        push.established && push.ended.is_none() && !self.died_after(push.invited)
    }

    fn died_after(&self, moment: Duration) -> bool {
        self.deaths.iter().any(|(_, after)| *after > moment)
    }

    fn judge_repetitions(&self, faults: &mut Vec<String>) {
        let mut seen: HashMap<&str, Vec<(&Push, &Heard)>> = HashMap::new();
        for push in &self.pushes {
            for heard in push.heard.iter().filter(|heard| !heard.key.is_empty()) {
                let earlier = seen.entry(heard.key.as_str()).or_default();
                for (before, copy) in earlier.iter() {
                    let what = format!(
                        "{} to {} (Message-ID {}), pushed at {:?} and again at {:?}",
                        heard.key, push.user, heard.message_id, before.invited, push.invited
                    );
                    if copy.message_id != heard.message_id {
                        faults.push(format!("stored twice: {what}, the first time as {}", copy.message_id));
                    } else if copy.octets != heard.octets {
                        faults.push(format!("other octets: {what}"));
                    }
                    let excused = before.ended.is_none() && self.died_between(before.invited, push.invited);
                    if copy.acknowledged && !excused {
                        faults.push(format!("again after its 200 in a push that ended: {what}"));
                    }
                }
                earlier.push((push, heard));
            }
        }
    }

    /// In one push, and over the first deliveries of all pushes, nothing comes before what was accepted before it was sent.
    fn judge_order(&self, faults: &mut Vec<String>) {
        let mut first: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut seen: std::collections::HashSet<&str> = std::collections::HashSet::new();
        for push in &self.pushes {
            let keys: Vec<&str> = push.heard.iter().map(|heard| heard.key.as_str()).collect();
            self.in_order(&push.user, &keys, faults);
            let fresh = keys.into_iter().filter(|key| seen.insert(key));
            first.entry(push.user.as_str()).or_default().extend(fresh);
        }
        for (user, keys) in first {
            self.in_order(user, &keys, faults);
        }
    }

    fn in_order(&self, user: &str, keys: &[&str], faults: &mut Vec<String>) {
        let mut latest: Option<(&str, Duration)> = None;
        for key in keys {
            let Some(sent) = self.sent.get(*key) else { continue };
            if let (Some((other, at)), Some(accepted)) = (latest, sent.accepted)
                && accepted < at
            {
                faults.push(format!("order: {user} got {other} (sent at {at:?}) before {key} (202 at {accepted:?})"));
            }
            if latest.is_none_or(|(_, at)| at < sent.at) {
                latest = Some((key, sent.at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: &str = "sip:bob@example.org";

    fn request(call_id: &str) -> SipMessage {
        SipMessage::request("MESSAGE", BOB)
            .with("Via", "SIP/2.0/TCP 127.0.0.1:5;branch=z9hG4bKa")
            .with("Max-Forwards", "70")
            .with("From", "<sip:a@example.org>;tag=1")
            .with("To", format!("<{BOB}>"))
            .with("Call-ID", call_id)
            .with("CSeq", "1 MESSAGE")
            .with("Date", "Thu, 21 Feb 2002 13:02:03 GMT")
            .with_body("text/plain", "x")
    }

    fn deposited(ledger: &Ledger, call_id: &str) {
        ledger.sending(BOB, &request(call_id));
        ledger.answered(call_id, 202);
        std::thread::sleep(Duration::from_millis(1));
    }

    fn pushed(call_id: &str, message_id: &str) -> MsrpMessage {
        let inner = String::from_utf8(request(call_id).write()).unwrap();
        MsrpMessage {
            message_id: message_id.into(),
            content_type: "multipart/mixed;boundary=b".into(),
            body: format!("--b\r\nContent-Type: message/sip\r\n\r\n{inner}\r\n--b--").into_bytes(),
            chunks: 1,
            to_path: String::new(),
            from_path: String::new(),
        }
    }

    fn push(ledger: &Ledger, number: usize, ids: &[&str], acknowledged: bool, bye: bool) {
        std::thread::sleep(Duration::from_millis(1));
        let push = ledger.invited(BOB, &number.to_string());
        ledger.established(push);
        for id in ids {
            let heard = ledger.heard(push, &pushed(id, &format!("id-{id}")));
            if acknowledged {
                ledger.acknowledged(push, heard);
            }
        }
        if bye {
            ledger.ended(&number.to_string());
        }
    }

    fn verdict(play: impl FnOnce(&Ledger)) -> String {
        let ledger = Ledger::new();
        play(&ledger);
        ledger.judge().err().unwrap_or_default()
    }

    #[test]
    fn a_load_without_fault_is_praised() {
        let verdict = verdict(|ledger| {
            deposited(ledger, "m1");
            deposited(ledger, "m2");
            push(ledger, 1, &["m1", "m2"], false, true);
            push(ledger, 2, &["m1"], true, false);
            ledger.death(|| std::thread::sleep(Duration::from_millis(1)));
            push(ledger, 3, &["m1", "m2"], true, true);
        });
        assert_eq!(verdict, "");
    }

    #[test]
    fn what_is_being_deleted_may_be_gone_or_come() {
        let verdict = verdict(|ledger| {
            deposited(ledger, "m1");
            let first = ledger.erasing(BOB);
            deposited(ledger, "m2");
            // Not answered: it may come to pass, or not.
            ledger.death(|| std::thread::sleep(Duration::from_millis(1)));
            push(ledger, 1, &["m1"], true, true);
            ledger.erased(first);
        });
        assert_eq!(verdict, "");
    }

    #[test]
    fn each_broken_promise_is_found() {
        let lost = verdict(|ledger| deposited(ledger, "m1"));
        assert!(lost.contains("lost: m1"), "{lost}");
        let again = verdict(|ledger| {
            deposited(ledger, "m1");
            push(ledger, 1, &["m1"], true, true);
            ledger.death(|| ());
            push(ledger, 2, &["m1"], true, true);
        });
        assert!(again.contains("again after its 200"), "{again}");
        let order = verdict(|ledger| {
            deposited(ledger, "m1");
            deposited(ledger, "m2");
            push(ledger, 1, &["m2", "m1"], true, true);
        });
        assert!(order.contains("order: "), "{order}");
        let strange = verdict(|ledger| push(ledger, 1, &["m1"], true, true));
        assert!(strange.contains("nobody sent it"), "{strange}");
        let deleted = verdict(|ledger| {
            deposited(ledger, "m1");
            let erasure = ledger.erasing(BOB);
            ledger.erased(erasure);
            std::thread::sleep(Duration::from_millis(1));
            push(ledger, 1, &["m1"], true, true);
        });
        assert!(deleted.contains("deleted: m1"), "{deleted}");
        let kept = verdict(|ledger| {
            ledger.erased(ledger.erasing(BOB));
            deposited(ledger, "m1");
        });
        assert!(kept.contains("lost: m1"), "{kept}");
        let silent = verdict(|ledger| push(ledger, 1, &[], true, false));
        assert!(silent.contains("no BYE"), "{silent}");
        let twice = verdict(|ledger| {
            push(ledger, 1, &[], true, false);
            push(ledger, 2, &[], true, true);
            ledger.ended("1");
        });
        assert!(twice.contains("pushed twice at once"), "{twice}");
    }
}
