//! Being there: publishes presence (and the service settings), takes what is pushed, and says goodbye at the end.

use crate::line::{Event, Line, expires_of};
use crate::output::Output;
use crate::registration::Registration;
use crate::session::{End, Session, single};
use crate::sip::{Sip, uri_of};
use crate::{Failure, Person, Said};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a publication holds, in seconds: whoever ends this client by force is gone after that.
const EXPIRES_S: u64 = 300;

/// Publications that lapsed and were made anew, one after the other, before it is given up.
const ANEW_MAX: usize = 3;

/// One publication (RFC 3903).
struct Publication {
    event: &'static str,
    content_type: &'static str,
    document: String,
    /// SIP-ETag of its last answer.
    tag: String,
    refresh: Instant,
}

impl Publication {
    fn presence(aor: &str) -> Publication {
        let entity = aor.replacen("sip:", "pres:", 1);
        let (entity, contact) = (escaped(&entity), escaped(aor));
        let document = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
             <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"{entity}\">\r\n\
             <tuple id=\"im\"><status><basic>open</basic></status><contact>{contact}</contact></tuple>\r\n</presence>\r\n"
        );
        Publication::new("presence", "application/pidf+xml", document)
    }

    /// 12.2.2.2: whether what waits may be delivered.
    fn settings(delivery: bool) -> Publication {
        let document = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
             <poc-settings xmlns=\"urn:oma:params:xml:ns:poc:poc-settings\" xmlns:im=\"urn:oma:xml:im:service-settings\">\r\n\
             <entity id=\"im\"><im:deferred-settings><im:offline-delivery active=\"{delivery}\"/></im:deferred-settings></entity>\r\n\
             </poc-settings>\r\n"
        );
        Publication::new("poc-settings", "application/poc-settings+xml", document)
    }

    fn new(event: &'static str, content_type: &'static str, document: String) -> Publication {
        Publication { event, content_type, document, tag: String::new(), refresh: Instant::now() }
    }

    /// Makes it, or makes it last.
    fn publish(&mut self, line: &mut Line, aor: &str) -> Said<()> {
        for _ in 0..ANEW_MAX {
            let request = line.request("PUBLISH", aor, aor).with("Event", self.event);
            let request = request.with("Expires", EXPIRES_S.to_string()).with("Contact", line.contact());
            let request = match self.tag.is_empty() {
                true => request.with_body(self.content_type, self.document.as_bytes()),
                false => request.with("SIP-If-Match", self.tag.as_str()),
            };
            let answer = line.ask(&request)?;
            match answer.status() {
                Some(200) => {
                    self.tag = answer.value("sip-etag").to_owned();
                    let lasts = expires_of(&answer, EXPIRES_S).max(Duration::from_secs(2));
                    self.refresh = Instant::now() + lasts / 2;
                    return Ok(());
                }
                // The daemon has forgotten it: from the beginning.
                Some(412) if !self.tag.is_empty() => self.tag.clear(),
                _ => {
                    return Err(Failure::failed(format!(
                        "PUBLISH of {} was refused: {}",
                        self.event,
                        answer.outcome()
                    )));
                }
            }
        }
        Err(Failure::failed(format!("the daemon forgets the {} again and again", self.event)))
    }

    /// Takes it back.
    fn remove(&self, line: &mut Line, aor: &str) -> Said<()> {
        let request = line.request("PUBLISH", aor, aor).with("Event", self.event).with("Expires", "0");
        line.ask(&request.with("SIP-If-Match", self.tag.as_str())).map(drop)
    }
}

/// How somebody is there.
pub(crate) struct Manner {
    /// What the service settings say of offline delivery, if they are published.
    pub(crate) delivery: Option<bool>,
    /// A REGISTER says it, no PUBLISH of presence.
    pub(crate) register: bool,
    /// Until the first push has ended.
    pub(crate) once: bool,
    /// So long at most.
    pub(crate) wait: Option<Duration>,
}

/// All that says so, to be refreshed and taken back.
struct Standing {
    publications: Vec<Publication>,
    registration: Option<Registration>,
}

impl Standing {
    /// Makes everything last whose time has come; when the next one's comes.
    fn refresh(&mut self, line: &mut Line, person: &Person) -> Said<Option<Instant>> {
        let now = Instant::now();
        for publication in self.publications.iter_mut().filter(|publication| publication.refresh <= now) {
            publication.publish(line, &person.aor)?;
        }
        if let Some(registration) = self.registration.as_mut().filter(|registration| registration.refresh <= now) {
            registration.register(line, person)?;
        }
        let all = self.publications.iter().map(|publication| publication.refresh);
        Ok(all.chain(self.registration.iter().map(|registration| registration.refresh)).min())
    }

    /// Says goodbye.
    fn remove(&mut self, line: &mut Line, person: &Person) -> Said<()> {
        if let Some(registration) = &mut self.registration {
            registration.remove(line, person)?;
        }
        self.publications.iter().try_for_each(|publication| publication.remove(line, &person.aor))
    }
}

/// Comes online, takes what is pushed for as long as it is meant.
pub(crate) fn online(person: &Person, manner: &Manner, output: &mut Output) -> Said<()> {
    let mut line = Line::open(person)?;
    let until = manner.wait.map(|wait| Instant::now() + wait);
    // The settings first: what they forbid must not begin.
    let mut publications: Vec<Publication> = manner.delivery.map(Publication::settings).into_iter().collect();
    publications.extend((!manner.register).then(|| Publication::presence(&person.aor)));
    let mut standing = Standing { publications, registration: manner.register.then(Registration::new) };
    standing.refresh(&mut line, person)?;
    let said = match manner.delivery {
        Some(true) => format!("{} is online, with offline delivery", person.aor),
        Some(false) => format!("{} is online, without offline delivery", person.aor),
        None => format!("{} is online", person.aor),
    };
    output.say(&said, &json!({"event": "online", "user": person.aor, "offline_delivery": manner.delivery}))?;
    let outcome = stay(&mut line, person, &mut standing, manner.once, until, output);
    // Where the daemon is gone, there is nobody to say goodbye to; what went wrong before is what counts.
    let goodbye = standing.remove(&mut line, person);
    outcome.and(goodbye)
}

fn stay(
    line: &mut Line,
    person: &Person,
    standing: &mut Standing,
    once: bool,
    until: Option<Instant>,
    output: &mut Output,
) -> Said<()> {
    loop {
        if until.is_some_and(|until| Instant::now() >= until) {
            return match once {
                true => Err(Failure::failed("nothing was pushed in that time")),
                false => Ok(()),
            };
        }
        let refresh = standing.refresh(line, person)?;
        match line.next([until, refresh].into_iter().flatten().min())? {
            Some(Event::Sip(sip)) if sip.status().is_none() => match sip.method() {
                "INVITE" => {
                    pushed(line, &sip, output)?;
                    if once {
                        return Ok(());
                    }
                }
                "MESSAGE" => single(line, &sip, output)?,
                "ACK" => {}
                "OPTIONS" => {
                    line.answer(&sip, "200 OK", "Allow: INVITE, ACK, BYE, MESSAGE, UPDATE, OPTIONS\r\n", "")?
                }
                _ => line.answer(&sip, "481 Call/Transaction Does Not Exist", "", "")?,
            },
            Some(Event::Lost(why)) => return Err(Failure::failed(why)),
            // Late answers, and the end of a session that is over.
            Some(_) | None => {}
        }
    }
}

/// One push, from its INVITE to its BYE.
fn pushed(line: &mut Line, invite: &Sip, output: &mut Output) -> Said<()> {
    let end = End::new(line)?;
    let sdp = end.sdp(line, "recvonly");
    let more = format!("Contact: {}\r\nContent-Type: application/sdp\r\n", line.contact());
    line.answer(invite, "200 OK", &more, &sdp)?;
    let mut session = Session::connect(line, &end, invite)?;
    session.hello()?;
    // From: <sip:Deferred@host>, the host of all ids.
    let from = uri_of(invite.value("from"));
    let host = from.rsplit('@').next().and_then(|host| host.split([':', ';']).next()).unwrap_or_default().to_owned();
    let ids = session.receive(line, &host, &sdp, output)?;
    output.say(&format!("pushed: {} messages", ids.len()), &json!({"event": "pushed", "messages": ids.len()}))
}

/// For an attribute or a text of XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
