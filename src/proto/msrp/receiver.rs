//! What the peer's requests are answered on a session that only sends (RFC 4975 7.2, 7.3).
//!
//! Knows which requests are owed a response and keeps the responses until they are sent. Stores no content: a session
//! that offered `sendonly` takes none.

use crate::base::gather::Gather;
use crate::wire::msrp::cut::Fault;
use crate::wire::msrp::head::{FailureReport, Method, RequestHead};
use crate::wire::msrp::{uri, write};

/// Octets of responses that may wait for the connection. A response has about 250 octets, so this is some 260 requests
/// that the peer sent without reading; clients send one to bind and a few REPORTs, which are not answered.
pub const OWED_MAX: usize = 64 * 1024;

/// Where the peer's current request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Between requests, or in one that is not answered.
    Silent,
    /// In a SEND: 200 without content, 403 with.
    Send(FailureReport),
    /// Will be answered this whatever it carries.
    Settled(u16),
}

/// The peer's requests of one session.
#[derive(Debug)]
pub struct Receiver {
    standing: Standing,
    /// Octets of content of the current request.
    content: u64,
    tid: Vec<u8>,
    reply_to: Vec<u8>,
    /// Responses written and not yet sent.
    owed: Vec<u8>,
}

impl Default for Receiver {
    fn default() -> Receiver {
        Receiver::new()
    }
}

impl Receiver {
    /// Owing nothing.
    pub fn new() -> Receiver {
        Receiver { standing: Standing::Silent, content: 0, tid: Vec::new(), reply_to: Vec::new(), owed: Vec::new() }
    }

    /// A request begins. `refusal` is what is wrong with it already.
    pub fn begin(&mut self, head: &RequestHead, buf: &[u8], refusal: Option<u16>) {
        self.content = 0;
        self.standing = match (head.method, refusal) {
            //= RFC 4975 7.1.2: MUST NOT send MSRP responses to REPORT requests
            (Method::Report, _) => Standing::Silent,
            //= RFC 4975 7.1.4: Failure-Report no: MUST NOT send a transaction response
            _ if head.failure_report == FailureReport::No => Standing::Silent,
            (_, Some(status)) => Standing::Settled(status),
            (Method::Send, None) => Standing::Send(head.failure_report),
            (Method::Auth | Method::Other, None) => Standing::Settled(501),
        };
        if self.standing != Standing::Silent {
            self.tid.clear();
            self.tid.extend_from_slice(head.tid.of(buf));
            self.reply_to.clear();
            self.reply_to.extend_from_slice(reply_to(head, buf));
        }
    }

    /// Content of the current request.
    pub fn data(&mut self, octets: &[u8]) {
        self.content += octets.len() as u64;
    }

    /// The current request is over. The status it was answered, if it was.
    pub fn end(&mut self, local_path: &[u8]) -> Option<u16> {
        let status = match std::mem::replace(&mut self.standing, Standing::Silent) {
            Standing::Silent => return None,
            Standing::Settled(status) => status,
            Standing::Send(_) if self.content > 0 => 403,
            //= RFC 4975 7.1.4: partial: MUST NOT send a 200 transaction response
            Standing::Send(FailureReport::Partial) => return None,
            Standing::Send(_) => 200,
        };
        write::response(&mut self.owed, &self.tid, status, &self.reply_to, local_path);
        Some(status)
    }

    /// Responses to be sent, in order.
    pub fn owed(&self) -> &[u8] {
        &self.owed
    }

    /// They were sent.
    pub fn paid(&mut self) {
        self.owed.clear();
    }
}

/// Where the response to a request goes.
//= RFC 4975 7.2: for SEND the first (leftmost) URI of From-Path, for all other methods the full path
pub fn reply_to<'b>(head: &RequestHead, buf: &'b [u8]) -> &'b [u8] {
    let from_path = head.from_path.of(buf);
    if head.method == Method::Send { uri::leftmost(from_path) } else { from_path }
}

/// Answers a request that has no session (481), belongs to another connection (506), or is unintelligible (400). Returns
/// whether it was answered: a REPORT never is, nor what asked for silence.
pub fn respond_stateless(gather: &mut Gather, head: &RequestHead, buf: &[u8], status: u16) -> bool {
    let wanted = match head.failure_report {
        FailureReport::Yes => true,
        FailureReport::Partial => !(200..300).contains(&status),
        FailureReport::No => false,
    };
    if !wanted || head.method == Method::Report {
        return false;
    }
    // Whoever we are to the peer stands in its To-Path.
    let local = uri::leftmost(head.to_path.of(buf));
    gather.make(|out| write::response(out, head.tid.of(buf), status, reply_to(head, buf), local));
    true
}

/// Answers a request whose head is unintelligible with 400, where that can be addressed. Returns whether it was.
pub fn respond_fault(gather: &mut Gather, fault: &Fault, buf: &[u8]) -> bool {
    let head = RequestHead {
        tid: fault.tid,
        method: fault.method,
        to_path: fault.to_path,
        from_path: fault.from_path,
        failure_report: fault.failure_report,
        ..RequestHead::default()
    };
    fault.is_answerable() && respond_stateless(gather, &head, buf, 400)
}
