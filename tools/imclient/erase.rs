//! Deleting what waits (12.1.3): a REFER to `Delete@` for one message, several, or all; the NOTIFY says what became of it.

use crate::line::{Event, Line};
use crate::output::Output;
use crate::retrieve::resource_list;
use crate::sip::random_hex;
use crate::{Failure, Person, Said};
use serde_json::json;
use std::time::Instant;

/// Deletes these messages, or all.
pub(crate) fn erase(person: &Person, ids: &[String], output: &mut Output) -> Said<()> {
    let uris: Vec<String> = ids.iter().map(|id| person.message(id)).collect::<Said<_>>()?;
    let mut line = Line::open(person)?;
    //= 12.1.3.2-2: the Request-URI is Delete@hostname, whatever is to be deleted
    //= 12.1.3.3-2: the same
    //= 12.1.3.4-2: the same
    let service = format!("sip:Delete@{}", person.service);
    //= 12.1.3.2-1: a REFER according to RFC 3515
    //= 12.1.3.3-1: the same
    //= 12.1.3.4-1: the same
    let refer = line.request("REFER", &service, &service).with("Contact", line.contact());
    let refer = match &uris[..] {
        //= 12.1.3.4-3: Refer-To set to the Deferred Messaging Function
        [] => refer.with("Refer-To", format!("<{}>", person.deferred())),
        //= 12.1.3.2-3: Refer-To set to the message-ID
        [one] => refer.with("Refer-To", format!("<{one}>")),
        //= 12.1.3.3-3: a MIME resource-lists body with the list of the selected multiple message-IDs
        //= 12.1.3.3-4: Refer-To with a pointer to the list in the body
        //= 12.1.3.3-5: Refer-Sub set to "true"
        //= 12.1.3.3-6: "multiple-refer" in Require
        // RFC 5368: the list in the body, a pointer to it in Refer-To.
        many => {
            let content_id = format!("{}@im.invalid", random_hex(6));
            refer
                .with("Refer-To", format!("<cid:{content_id}>"))
                .with("Refer-Sub", "true")
                .with("Require", "multiple-refer")
                .with("Content-Disposition", "recipient-list")
                .with("Content-ID", format!("<{content_id}>"))
                .with_body("application/resource-lists+xml", resource_list(many))
        }
    };
    line.insist(&refer, "the deletion")?;
    let outcome = notified(&mut line, refer.value("Call-ID"))?;
    let status: u16 = outcome.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let partly = outcome.contains("not found");
    let what = if uris.is_empty() { "all messages".to_owned() } else { format!("{} of them", uris.len()) };
    if !(200..300).contains(&status) || partly {
        return Err(Failure::failed(format!("deletion: {outcome}")));
    }
    output.say(
        &format!("deleted, {what}: {outcome}"),
        &json!({"event": "deleted", "status": status, "asked": uris.len()}),
    )
}

/// What the NOTIFY of that REFER says, in a line.
fn notified(line: &mut Line, call_id: &str) -> Said<String> {
    let deadline = Instant::now() + line.patience;
    loop {
        match line.next(Some(deadline))? {
            Some(Event::Sip(sip)) if sip.method() == "NOTIFY" && sip.value("call-id") == call_id => {
                //= 12.1.3.2-4: the NOTIFY is answered 200
                line.answer(&sip, "200 OK", "", "")?;
                let fragment = crate::sip::Sip::head(&sip.body).map_err(Failure::failed)?;
                match fragment.status() {
                    Some(100..200) => {}
                    Some(_) => return Ok(fragment.outcome()),
                    None => return Err(Failure::failed("the NOTIFY says no status")),
                }
            }
            Some(Event::Sip(sip)) if sip.status().is_none() && sip.method() != "ACK" => {
                line.answer(&sip, "481 Call/Transaction Does Not Exist", "", "")?;
            }
            Some(Event::Lost(why)) => return Err(Failure::failed(why)),
            Some(_) => {}
            None => return Err(Failure::failed("accepted, but no NOTIFY says what became of it")),
        }
    }
}
