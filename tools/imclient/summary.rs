//! The summary of what waits (RFC 3842): subscribes, tells every NOTIFY, and ends the subscription.

use crate::line::{Event, Line, expires_of};
use crate::output::Output;
use crate::sip::{Request, Sip};
use crate::{Failure, Person, Said};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a subscription holds, in seconds, until it is refreshed.
const EXPIRES_S: u64 = 600;

/// Subscribes: once for how it is now (RFC 6665 4.4.3), or until `wait` is over.
pub(crate) fn summary(person: &Person, once: bool, wait: Option<Duration>, output: &mut Output) -> Said<()> {
    let mut line = Line::open(person)?;
    let expires = if once { 0 } else { EXPIRES_S };
    let first = line
        .request("SUBSCRIBE", &person.aor, &person.aor)
        .with("Contact", line.contact())
        .with("Event", "message-summary")
        .with("Accept", "application/simple-message-summary")
        .with("Expires", expires.to_string());
    let ok = line.insist(&first, "the subscription")?;
    if once {
        let until = Instant::now() + line.patience;
        return match next_notify(&mut line, &first, Some(until))? {
            Some(notify) => tell(&notify, output),
            None => Err(Failure::failed("subscribed, but no NOTIFY came")),
        };
    }
    let until = wait.map(|wait| Instant::now() + wait);
    let lasts = |answer: &Sip| Instant::now() + expires_of(answer, EXPIRES_S).max(Duration::from_secs(2)) / 2;
    let mut refresh = lasts(&ok);
    let mut cseq = 1;
    loop {
        match next_notify(&mut line, &first, Some(until.map_or(refresh, |until| until.min(refresh))))? {
            Some(notify) => {
                tell(&notify, output)?;
                if notify.value("subscription-state").starts_with("terminated") {
                    return Err(Failure::failed("the daemon ended the subscription"));
                }
            }
            None if until.is_some_and(|until| Instant::now() >= until) => break,
            None => {
                cseq += 1;
                let again = again(&line, cseq, &first, &ok, EXPIRES_S);
                refresh = lasts(&line.insist(&again, "the subscription")?);
            }
        }
    }
    let end = again(&line, cseq + 1, &first, &ok, 0);
    line.insist(&end, "the end of the subscription")?;
    // The last NOTIFY wants its answer; what it says was said before.
    let until = Instant::now() + line.patience;
    while let Some(notify) = next_notify(&mut line, &first, Some(until))? {
        if notify.value("subscription-state").starts_with("terminated") {
            break;
        }
    }
    Ok(())
}

/// A SUBSCRIBE within the subscription.
fn again(line: &Line, cseq: u32, first: &Request, ok: &Sip, expires: u64) -> Request {
    line.within("SUBSCRIBE", cseq, first, ok)
        .with("Contact", line.contact())
        .with("Event", "message-summary")
        .with("Expires", expires.to_string())
}

/// The next NOTIFY of the subscription, answered; `None` when none came until then.
fn next_notify(line: &mut Line, first: &Request, until: Option<Instant>) -> Said<Option<Sip>> {
    loop {
        match line.next(until)? {
            Some(Event::Sip(sip)) if sip.method() == "NOTIFY" && sip.value("call-id") == first.value("Call-ID") => {
                line.answer(&sip, "200 OK", "", "")?;
                return Ok(Some(sip));
            }
            Some(Event::Sip(sip)) if sip.status().is_none() && sip.method() != "ACK" => {
                line.answer(&sip, "481 Call/Transaction Does Not Exist", "", "")?;
            }
            Some(Event::Lost(why)) => return Err(Failure::failed(why)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Tells what a NOTIFY says.
fn tell(notify: &Sip, output: &mut Output) -> Said<()> {
    let body = String::from_utf8_lossy(&notify.body).into_owned();
    let (text, object) = read(&body);
    output.say(&text, &object)
}

/// A summary as text and as an object: counts, and a list of headers for each message that is new since the last NOTIFY.
fn read(body: &str) -> (String, Value) {
    let mut groups = body.split("\r\n\r\n").filter(|group| !group.trim().is_empty());
    let head = groups.next().unwrap_or_default();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let counts = field("Text-Message:").unwrap_or("0/0 (0/0)");
    let numbers: Vec<u64> =
        counts.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let new: Vec<Value> = groups
        .map(|group| {
            let lines = group.lines().filter_map(|line| line.split_once(':'));
            lines.map(|(name, value)| (name.to_owned(), json!(value.trim()))).collect::<serde_json::Map<_, _>>().into()
        })
        .collect();
    let text = format!("waiting: {}; {} new, {} old", field("Messages-Waiting:").unwrap_or("?"), number(0), number(1));
    let mut shown = vec![text];
    for group in &new {
        let fields = group.as_object().into_iter().flatten();
        let fields = fields.map(|(name, value)| format!("{name}: {}", value.as_str().unwrap_or_default()));
        shown.push(format!("  {}", fields.collect::<Vec<_>>().join("; ")));
    }
    let object = json!({
        "event": "summary",
        "waiting": field("Messages-Waiting:") == Some("yes"),
        "account": field("Message-Account:"),
        "new": number(0),
        "old": number(1),
        "urgent_new": number(2),
        "urgent_old": number(3),
        "messages": new,
    });
    (shown.join("\n"), object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_headers_are_told() {
        let body = "Messages-Waiting: yes\r\nMessage-Account: sip:bob@e\r\nText-Message: 2/8 (1/3)\r\n\r\n\
                    From: <sip:alice@e>\r\nSubject: a: b\r\n";
        let (text, object) = read(body);
        assert!(text.starts_with("waiting: yes; 2 new, 8 old\n  "), "{text}");
        assert_eq!((object["urgent_new"].as_u64(), object["urgent_old"].as_u64()), (Some(1), Some(3)));
        assert_eq!(object["messages"][0]["Subject"], "a: b");
        let (text, object) = read("Messages-Waiting: no\r\n");
        assert_eq!((text.as_str(), object["new"].as_u64()), ("waiting: no; 0 new, 0 old", Some(0)));
    }
}
