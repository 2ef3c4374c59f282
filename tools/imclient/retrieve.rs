//! Fetching what waits (12.1.1): an INVITE to `Deferred@`, with a list of ids or without.

use crate::line::Line;
use crate::output::Output;
use crate::send::hang_up;
use crate::session::{End, Session};
use crate::sip::uri_of;
use crate::{Failure, Person, Said};
use serde_json::json;

/// A list of URIs (RFC 4826).
pub(crate) fn resource_list(uris: &[String]) -> String {
    let entry = |uri: &String| format!("  <entry uri=\"{}\"/>\r\n", uri.replace('&', "&amp;"));
    let entries: String = uris.iter().map(entry).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<resource-lists xmlns=\"urn:ietf:params:xml:ns:resource-lists\">\r\n \
         <list>\r\n{entries} </list>\r\n</resource-lists>\r\n"
    )
}

/// Fetches these messages, or all.
pub(crate) fn retrieve(person: &Person, ids: &[String], output: &mut Output) -> Said<()> {
    let uris: Vec<String> = ids.iter().map(|id| person.message(id)).collect::<Said<_>>()?;
    let mut line = Line::open(person)?;
    let end = End::new(&line)?;
    //= 12.1.1-4: an SDP offer with the media direction a=recvonly
    let sdp = end.sdp(&line, "recvonly");
    //= 12.1.1-3: the Request-URI is Deferred@hostname
    let service = person.deferred();
    let invite = line
        .request("INVITE", &service, &service)
        .with("Contact", line.contact())
        .with("Accept-Contact", "*;+g.oma.sip-im")
        .with("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, OPTIONS");
    let invite = match uris.is_empty() {
        //= 12.1.1-2: without a list for all deferred messages
        true => invite.with_body("application/sdp", sdp.as_bytes()),
        false => {
            //= 12.1.1-1b: the URI-list contains the Message-ID of the one deferred message
            //= 12.1.1-1c: or the Message-IDs of the selected ones
            // RFC 5366: the list beside the offer.
            let body = format!(
                "--im\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--im\r\nContent-Type: application/resource-lists+xml\r\n\
                 Content-Disposition: recipient-list\r\n\r\n{}\r\n--im--\r\n",
                resource_list(&uris)
            );
            invite.with("Require", "recipient-list-invite").with_body("multipart/mixed;boundary=im", body)
        }
    };
    //= 12.1.1-5: the INVITE is sent to the Deferred Messaging Function
    let ok = line.insist(&invite, "the retrieval")?;
    line.acknowledge(&invite, &ok)?;
    // Ids say their host; where none does, it is the service's.
    let host = uris.first().and_then(|uri| uri.rsplit('@').next()).unwrap_or(&person.service).to_owned();
    let taken = Session::connect(&line, &end, &ok).and_then(|mut session| {
        session.hello()?;
        session.receive(&mut line, &host, &sdp, output)
    });
    if taken.is_err() {
        // What went wrong before is what counts; the daemon need not wait for us.
        let _ = hang_up(&mut line, &invite, &ok);
    }
    let came = taken?;
    output
        .say(&format!("retrieved: {} messages", came.len()), &json!({"event": "retrieved", "messages": came.len()}))?;
    let named = |uri: &String| uri_of(uri).trim_start_matches("sip:").split('@').next().unwrap_or_default().to_owned();
    let missing: Vec<String> = uris.iter().map(named).filter(|id| !came.contains(id)).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(format!("not there: {}", missing.join(", ")))),
    }
}
