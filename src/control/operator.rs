//! What an operator can ask of a running daemon, as JSON values: one object in, one out. Joins what the cores answer. Knows no socket.
//!
//! | `do` | further members | answer |
//! |---|---|---|
//! | `status` | | phase, cores, drained or not |
//! | `queue` | `user`, `from`, `limit` | what waits for a user |
//! | `users` | `top`, `by` (`messages`, `octets`) | who has most |
//! | `show` | `id`, `user` or nothing | one message |
//! | `why` | `user`, or `id` | what waits, what was tried last, when next |
//! | `push` | `user` | pushes now |
//! | `delete` | `id`, `user` or nothing, `report` | deletes one message as its user would; `report` (default true): its sender hears of it |
//! | `drain` | `on` | 503 for deposits, or no longer |
//! | `reload` | | reads the configuration again |
//! | `backup-begin`, `-hold`, `-end` | | holds the segments while their files are copied ([`super::copying`]) |
//!
//! Every answer has `ok`; where it is false, `error` says what to do.

use super::config::Config;
use super::copying::Caller;
use super::health::{Health, Phase};
use super::stored::{DomainUse, Stored};
use super::xcap::Names;
use crate::base::net::CoreId;
use crate::deferred::identity::Address;
use crate::deferred::inquiry::{Answer, Entry, LISTED_MAX, Question, Reasons, Seen, Shown, Standing, Waiting};
use crate::deferred::payload::Unfit;
use crate::deferred::refusals::{Refusal, Refused};
use crate::store::record::{Flags, Locator, MessageId, Stamp};
use crate::uring::mail::Mail;
use crate::wire::date;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A core answers within a turn or a few; a question about a million users takes a quarter of a second, one that waits for a bad
/// disk longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks for the oldest message: a million users cost a core a twentieth of a second each time.
const LOOK: Duration = Duration::from_secs(30);

/// Most characters of a body that are shown unless all of it is asked for.
const SHOWN: usize = 4_096;

/// The daemon, as an operator sees it.
#[derive(Debug)]
pub struct Operator {
    mail: Arc<Mail>,
    cores: u16,
    health: Arc<Health>,
    /// Where the configuration was read, and what is in force.
    path: PathBuf,
    config: Mutex<Config>,
    names: Arc<Names>,
    drained: AtomicBool,
    pub(super) copying: AtomicBool,
}

/// Why nothing came of a request, in words that end with the remedy.
pub(super) type Excuse = String;

impl Operator {
    /// For the daemon whose `cores` are behind `mail`, started with `config` read from `path`.
    pub fn new(mail: Arc<Mail>, cores: u16, health: Arc<Health>, path: PathBuf, config: Config) -> Operator {
        let names = Arc::new(Names::new(config.policy.aliases.clone()));
        let (drained, copying) = (AtomicBool::new(false), AtomicBool::new(false));
        Operator { mail, cores, health, path, config: Mutex::new(config), names, drained, copying }
    }

    /// Under which names users are known, for those that are no core. A reload changes it.
    pub fn names(&self) -> Arc<Names> {
        self.names.clone()
    }

    /// Does what a request of `caller` asks for.
    pub fn carry_out(&self, request: &Value, caller: &mut Caller) -> Value {
        let outcome = match request.get("do").and_then(Value::as_str) {
            Some("status") => Ok(self.status()),
            Some("queue") => self.queue(request),
            Some("users") => self.users(request),
            Some("show") => self.show(request),
            Some("why") => self.why(request),
            Some("push") => self.push(request),
            Some("delete") => self.delete(request),
            Some("drain") => self.drain(request),
            Some("reload") => self.reload(),
            Some("backup-begin") => self.backup_begin(caller),
            Some("backup-hold") => Ok(json!({})),
            Some("backup-end") => self.backup_end(caller),
            Some(other) => {
                Err(format!("'{other}' is not known to this version of deferd; use the deferctl that came with it"))
            }
            None => Err("the request has no member 'do'".into()),
        };
        match outcome {
            Ok(Value::Object(mut answer)) => {
                answer.insert("ok".into(), Value::Bool(true));
                Value::Object(answer)
            }
            Ok(answer) => json!({ "ok": true, "answer": answer }),
            Err(error) => json!({ "ok": false, "error": error }),
        }
    }

    /// Puts a question to every core. All answers but `Elsewhere`.
    pub(super) fn ask(&self, question: &Question) -> Result<Vec<Answer>, Excuse> {
        let waiting: Vec<_> =
            (0..self.cores).map(|core| (core, self.mail.ask(CoreId(core), question.clone()))).collect();
        let until = Instant::now() + PATIENCE;
        let mut answers = Vec::new();
        for (core, answer) in waiting {
            match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Answer::Elsewhere) => {}
                Ok(Answer::Overloaded) => return Err("too many questions are under way; ask again in a moment".into()),
                Ok(answer) => answers.push(answer),
                Err(_) => {
                    return Err(format!(
                        "core {core} does not answer: it is overloaded, waits for its disk, or ends; see /healthz and the log"
                    ));
                }
            }
        }
        Ok(answers)
    }

    /// The answer of the one core that knows.
    fn ask_home(&self, question: Question) -> Result<Answer, Excuse> {
        self.ask(&question)?.pop().ok_or_else(|| "no core is this user's home; this is a mistake of deferd's".into())
    }

    /// Looks now and then, on a thread of its own, how long the oldest message has waited: a question about all users, which costs each
    /// core 50 ns a user.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn watch(self: &Arc<Operator>) -> std::io::Result<()> {
        let operator = self.clone();
        let look = move || {
            loop {
                if let Ok(answers) = operator.ask(&Question::Oldest) {
                    let stamp = |answer: &Answer| if let Answer::Oldest(stamp) = answer { *stamp } else { None };
                    operator.health.saw_oldest(answers.iter().filter_map(stamp).min().map(Stamp::seconds));
                }
                std::thread::sleep(LOOK);
            }
        };
        std::thread::Builder::new().name("watch".into()).spawn(look).map(drop)
    }

    /// Where the logs lie.
    pub(super) fn data_dir(&self) -> Result<PathBuf, Excuse> {
        let path = self.config.lock().unwrap_or_else(PoisonError::into_inner).server.data_dir.clone();
        std::fs::canonicalize(&path).map_err(|error| format!("cannot find {}: {error}", path.display()))
    }

    fn status(&self) -> Value {
        json!({
            "phase": self.health.phase().word(),
            "cores": self.cores,
            "drained": self.drained.load(Ordering::Relaxed),
            "version": env!("CARGO_PKG_VERSION"),
            "troubles": self.health.troubles(),
            "oldest_waiting": self.health.oldest_s().map(time),
            "takes_deposits": self.health.phase() == Phase::Ready && !self.health.is_refusing(),
            "users": self.health.stored().map(Stored::users),
            "domains": self.health.stored().map(Stored::domains).unwrap_or_default().iter().map(domain).collect::<Vec<_>>(),
            "disk_free": self.health.stored().and_then(|stored| stored.space().ok()).map(|space| space.free),
        })
    }

    fn queue(&self, request: &Value) -> Result<Value, Excuse> {
        let owner = owner(request)?;
        let from = Stamp(number(request, "from")?.unwrap_or(0));
        let limit = number(request, "limit")?.unwrap_or(LISTED_MAX as u64);
        let limit = usize::try_from(limit).unwrap_or(LISTED_MAX);
        match self.ask_home(Question::Queue { owner: owner.clone(), from, limit })? {
            Answer::Queue(listing) => Ok(json!({
                "user": text(&owner),
                "messages": listing.messages,
                "octets": listing.octets,
                "entries": listing.entries.iter().map(entry).collect::<Vec<_>>(),
                "next": listing.next.map(|stamp| stamp.0),
            })),
            other => Err(said(&other)),
        }
    }

    fn users(&self, request: &Value) -> Result<Value, Excuse> {
        let limit = usize::try_from(number(request, "top")?.unwrap_or(20)).unwrap_or(usize::MAX);
        let by_octets = match request.get("by").and_then(Value::as_str) {
            None | Some("messages") => false,
            Some("octets") => true,
            Some(other) => return Err(format!("cannot order by '{other}': messages or octets")),
        };
        let mut all: Vec<Standing> = Vec::new();
        for answer in self.ask(&Question::Top { limit, by_octets })? {
            if let Answer::Top(standing) = answer {
                all.extend(standing);
            }
        }
        let much = |user: &Standing| if by_octets { user.octets } else { u64::from(user.messages) };
        all.sort_by(|a, b| much(b).cmp(&much(a)).then_with(|| a.owner.cmp(&b.owner)));
        all.truncate(limit);
        let user =
            |user: &Standing| json!({ "user": text(&user.owner), "messages": user.messages, "octets": user.octets });
        Ok(json!({ "users": all.iter().map(user).collect::<Vec<_>>() }))
    }

    /// Whose message this is: as the request says, else whoever has it.
    fn owner_of(&self, request: &Value, id: MessageId) -> Result<Address, Excuse> {
        if request.get("user").is_some_and(|user| !user.is_null()) {
            return owner(request);
        }
        for answer in self.ask(&Question::Find { id })? {
            if let Answer::Found(Some(owner)) = answer {
                return Ok(owner);
            }
        }
        Err(UNKNOWN.into())
    }

    fn show(&self, request: &Value) -> Result<Value, Excuse> {
        let id = id(request)?;
        let owner = self.owner_of(request, id)?;
        let all = request.get("all").and_then(Value::as_bool).unwrap_or(false);
        match self.ask_home(Question::Show { owner: owner.clone(), id })? {
            Answer::Show(message) => Ok(shown(&owner, &message, all)),
            other => Err(said(&other)),
        }
    }

    fn why(&self, request: &Value) -> Result<Value, Excuse> {
        let mut about = Map::new();
        let owner = match request.get("id").and_then(Value::as_str) {
            Some(_) => {
                let id = id(request)?;
                let owner = self.owner_of(request, id)?;
                match self.ask_home(Question::Show { owner: owner.clone(), id })? {
                    Answer::Show(message) => {
                        about.insert("message".into(), listed(&message.locator, message.standing, message.refused));
                        about.insert("id".into(), id.to_string().into());
                    }
                    other => return Err(said(&other)),
                }
                owner
            }
            None => owner(request)?,
        };
        match self.ask_home(Question::Why { owner: owner.clone() })? {
            Answer::Why(reasons) => {
                about.insert("user".into(), text(&owner).into());
                reasons_into(&mut about, &reasons);
                Ok(Value::Object(about))
            }
            other => Err(said(&other)),
        }
    }

    fn push(&self, request: &Value) -> Result<Value, Excuse> {
        let owner = owner(request)?;
        match self.ask_home(Question::Push { owner })? {
            Answer::Done => Ok(json!({ "pushing": true })),
            Answer::Unknown => Err("nothing waits to be pushed for this user".into()),
            Answer::Busy => Err("a push to this user is under way already; see 'why'".into()),
            Answer::Absent => {
                Err("nobody is there to be pushed to: no live publication, or deliveries are switched off; see 'why'"
                    .into())
            }
            other => Err(said(&other)),
        }
    }

    fn delete(&self, request: &Value) -> Result<Value, Excuse> {
        let id = id(request)?;
        let owner = self.owner_of(request, id)?;
        let report = request.get("report").and_then(Value::as_bool).unwrap_or(true);
        match self.ask_home(Question::Delete { owner: owner.clone(), id, report })? {
            Answer::Done => {
                let kept = self.config.lock().unwrap_or_else(PoisonError::into_inner).policy.bin_retention;
                Ok(json!({ "deleted": id.to_string(), "user": text(&owner), "in_bin_for_s": kept.as_secs() }))
            }
            Answer::Failed => {
                Err("the log takes nothing in (a failed disk): the message is still there; see /healthz".into())
            }
            other => Err(said(&other)),
        }
    }

    fn drain(&self, request: &Value) -> Result<Value, Excuse> {
        let on = request.get("on").and_then(Value::as_bool).unwrap_or(true);
        self.ask(&Question::Drain(on))?;
        self.drained.store(on, Ordering::Relaxed);
        self.health.drained(on);
        Ok(json!({ "drained": on }))
    }

    /// Reads the configuration again. What `[policy]` says holds from now on; anything else needs a restart, and is named.
    ///
    /// # Errors
    /// Everything that is wrong with the file; nothing has changed then.
    pub fn reload(&self) -> Result<Value, Excuse> {
        let path = self.path.display();
        let read = std::fs::read_to_string(&self.path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let new = Config::parse(&read).map_err(|problems| {
            let lines = problems.iter().map(|problem| format!("{path}:{}: {}", problem.line, problem.what));
            lines.collect::<Vec<_>>().join("\n")
        })?;
        let mut now = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut restart = now.differs(&new);
        let mut policy = new.policy.clone();
        // Ids, reports and Contacts carry the name: it cannot change under messages that are on their way.
        if policy.hostname != now.policy.hostname {
            restart.push("server.hostname");
            policy.hostname.clone_from(&now.policy.hostname);
        }
        let changed = policy != now.policy;
        if changed {
            self.ask(&Question::Policy(Arc::new(policy.clone())))?;
            self.names.become_these(policy.aliases.clone());
            now.policy = policy;
        }
        Ok(json!({ "policy_changed": changed, "needs_restart": restart }))
    }
}

const UNKNOWN: &str = "no such message waits here: delivered, deleted, expired, or never taken in; 'deferctl log explain ID' looks at the log";

fn said(answer: &Answer) -> Excuse {
    match answer {
        Answer::Unknown => UNKNOWN.into(),
        Answer::Damaged(damage) => format!("the record does not pass its checks ({damage:?}); run 'deferctl verify'"),
        other => format!("an answer that was not expected: {other:?}; this is a mistake of deferd's"),
    }
}

fn owner(request: &Value) -> Result<Address, Excuse> {
    let user = request.get("user").and_then(Value::as_str).ok_or("the request has no member 'user'")?;
    let uri = if user.contains(':') { user.to_owned() } else { format!("sip:{user}") };
    Address::of_uri(uri.as_bytes()).ok_or_else(|| format!("'{user}' names no user: sip:user@domain or tel:+number"))
}

fn id(request: &Value) -> Result<MessageId, Excuse> {
    let id = request.get("id").and_then(Value::as_str).ok_or("the request has no member 'id'")?;
    // As it stands in a list or a Refer-To: with scheme and host.
    let bare = id.trim_start_matches('<').trim_end_matches('>');
    let bare = bare.strip_prefix("sip:").or_else(|| bare.strip_prefix("sips:")).unwrap_or(bare);
    let bare = bare.split('@').next().unwrap_or(bare);
    MessageId::parse(bare.as_bytes()).ok_or_else(|| format!("'{id}' is no message id: 26 digits and small letters"))
}

fn number(request: &Value, name: &str) -> Result<Option<u64>, Excuse> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("'{name}' is no number")),
    }
}

fn domain(domain: &DomainUse) -> Value {
    json!({ "domain": domain.name, "messages": domain.messages, "octets": domain.octets })
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// RFC 3339, UTC.
fn time(unix_seconds: u64) -> String {
    let mut out = Vec::new();
    date::write_rfc3339(&mut out, unix_seconds);
    text(&out)
}

fn word(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::New => "new",
        Waiting::InFlight => "in flight",
        Waiting::Leaving => "leaving",
        Waiting::Retained => "retained",
        Waiting::Refused => "refused",
        Waiting::TooLarge => "too large for the last client",
        Waiting::Unaccepted => "of no type the last client takes",
    }
}

/// What a client made of a message, in words.
fn refused(refused: Refused) -> Value {
    let why = match refused.last {
        Refusal::Damaged => "the stored record does not pass its checks; 'deferctl verify' looks at it".to_owned(),
        Refusal::Unintelligible => "the client could not read it (400 or 423)".to_owned(),
        Refusal::Unfit(Unfit::TooLarge) => "larger than the client wants (max-size)".to_owned(),
        Refusal::Unfit(Unfit::Type) => "in no form that the client accepts (accept-types)".to_owned(),
        Refusal::Declined(413) => "too large for the client (413)".to_owned(),
        Refusal::Declined(415) => "of a type that the client does not take (415)".to_owned(),
        Refusal::Declined(status) => format!("the client answered {status}"),
    };
    json!({ "attempts": refused.attempts, "why": why })
}

fn listed(locator: &Locator, standing: Waiting, by_client: Option<Refused>) -> Value {
    let flags = [
        (Flags::URGENT, "urgent"),
        (Flags::REPORT, "report wanted"),
        (Flags::LARGE, "large"),
        (Flags::PRIVATE, "private"),
        (Flags::MISSED, "expired"),
    ];
    let flags: Vec<&str> = flags.iter().filter(|(flag, _)| locator.flags().has(*flag)).map(|(_, name)| *name).collect();
    json!({
        "standing": word(standing),
        "refused": by_client.map(refused),
        "accepted": time(locator.stamp().seconds()),
        "expires": time(u64::from(locator.expiry_s())),
        "octets": locator.octets(),
        "flags": flags,
        "segment": locator.place().segment.0,
        "at": locator.place().octets(),
        "stamp": locator.stamp().0,
    })
}

fn entry(entry: &Entry) -> Value {
    let mut listed = listed(&entry.locator, entry.standing, entry.refused);
    if let Value::Object(members) = &mut listed {
        match &entry.id {
            Ok(id) => members.insert("id".into(), id.to_string().into()),
            Err(damage) => members.insert("damage".into(), format!("{damage:?}").into()),
        };
    }
    listed
}

fn shown(owner: &Address, message: &Shown, all: bool) -> Value {
    let mut answer = listed(&message.locator, message.standing, message.refused);
    if let Value::Object(members) = &mut answer {
        let body = text(&message.body);
        let cut = body.char_indices().nth(SHOWN).map(|(at, _)| at).filter(|_| !all);
        members.insert("id".into(), message.id.to_string().into());
        members.insert("user".into(), text(owner).into());
        members.insert("content_type".into(), text(&message.body_type).into());
        members.insert("body_octets".into(), message.body.len().into());
        members.insert("cut".into(), cut.is_some().into());
        members.insert("body".into(), cut.and_then(|at| body.get(..at)).unwrap_or(&body).into());
    }
    answer
}

fn reasons_into(about: &mut Map<String, Value>, reasons: &Reasons) {
    about.insert("messages".into(), reasons.messages.into());
    about.insert("octets".into(), reasons.octets.into());
    about.insert("to_be_pushed".into(), reasons.has_new.into());
    about.insert("too_large".into(), reasons.too_large.into());
    about.insert("unaccepted".into(), reasons.unaccepted.into());
    about.insert("large".into(), reasons.large.into());
    about.insert("receiving_large".into(), reasons.receiving.into());
    let summaries = reasons.summaries.iter();
    let summaries = summaries.map(|one| json!({ "until": time(one.until.seconds()), "failures": one.failures }));
    about.insert("summaries".into(), Value::Array(summaries.collect()));
    about.insert("first_expires".into(), reasons.expires_s.map(|at| time(u64::from(at))).into());
    about.insert("pushing".into(), reasons.pushing.into());
    about.insert("presence".into(), reasons.presence.as_ref().map_or(Value::Null, seen));
    about.insert("because".into(), because(reasons).into());
}

fn seen(seen: &Seen) -> Value {
    json!({
        "online": seen.online,
        "wants_deliveries": seen.wants,
        "failures": seen.failures,
        "last_attempt": seen.last_attempt.map(|at| time(at.seconds())),
        "last_outcome": seen.last_outcome,
        "next_attempt": seen.next_attempt.map(|at| time(at.seconds())),
        "waits_for_publish": seen.waits_for_trigger,
    })
}

/// The reason in one sentence.
fn because(reasons: &Reasons) -> &'static str {
    let Some(presence) = &reasons.presence else {
        return match reasons.messages {
            0 => "nothing waits, and nothing was published",
            _ => "the user has published nothing: offline",
        };
    };
    if reasons.pushing.is_some() {
        "a push is under way"
    } else if !reasons.has_new {
        "nothing waits to be pushed"
    } else if !presence.online {
        "no live publication says that a client is there"
    } else if !presence.wants {
        "the user's settings switch deliveries off"
    } else if presence.waits_for_trigger {
        "the last attempts failed: the next PUBLISH is waited for"
    } else if reasons.too_large + reasons.unaccepted == reasons.messages {
        "the last client takes none so large, or none of these types: another PUBLISH is waited for"
    } else if presence.next_attempt.is_some() {
        "the last attempt failed or was moments ago: the next has its time"
    } else {
        "a push begins at once"
    }
}
