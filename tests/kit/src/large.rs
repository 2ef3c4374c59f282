//! A sender of large messages (12.2.2.1): sets up the session, sends what it likes in chunks of any kind, hangs up.

use crate::{
    agents::Client,
    msrp::Frame,
    msrp_client::MsrpClient,
    sdp::{Answer, Sdp, Setup},
    sip::{SipMessage, uri_of},
    unique,
};

/// What makes an INVITE one for large messages.
pub const LARGE_TAG: &str = "*;+g.oma.sip-im.large-message";

/// A session in which a sender deposits large messages.
pub struct Large {
    /// Who sends.
    pub client: Client,
    /// The INVITE.
    pub request: SipMessage,
    /// Its 200.
    pub ok: SipMessage,
    /// The sender's MSRP endpoint.
    pub msrp: MsrpClient,
    /// The daemon's `a=path`.
    pub path: String,
    cseq: std::cell::Cell<u32>,
}

/// One SEND with content.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Message-ID.
    pub id: &'a str,
    /// Where it begins in the message, counted from 0.
    pub at: usize,
    /// How long the message is; None: `*`.
    pub total: Option<usize>,
    /// Its octets.
    pub body: &'a [u8],
    /// `$`, `+` or `#`.
    pub flag: char,
    /// Content-Type.
    pub content_type: &'a str,
    /// Further header lines, each with its CRLF, in front of Content-Type.
    pub more: &'a str,
}

impl<'a> Chunk<'a> {
    /// A whole message.
    pub fn whole(id: &'a str, body: &'a [u8]) -> Chunk<'a> {
        Chunk { id, at: 0, total: Some(body.len()), body, flag: '$', content_type: "text/plain", more: "" }
    }

    /// These octets of a message; the last of it, if they reach its end.
    pub fn of(id: &'a str, body: &'a [u8], from: usize, to: usize) -> Chunk<'a> {
        let flag = if to == body.len() { '$' } else { '+' };
        Chunk { at: from, body: &body[from..to], flag, ..Chunk::whole(id, body) }.with_total(body.len())
    }

    fn with_total(self, total: usize) -> Chunk<'a> {
        Chunk { total: Some(total), ..self }
    }

    /// As octets.
    pub fn write(&self, tid: &str, to_path: &str, from_path: &str) -> Vec<u8> {
        let end = if self.body.len() > 2048 { "*".into() } else { (self.at + self.body.len()).to_string() };
        let total = self.total.map_or("*".into(), |total| total.to_string());
        let mut out = format!(
            "MSRP {tid} SEND\r\nTo-Path: {to_path}\r\nFrom-Path: {from_path}\r\nMessage-ID: {}\r\n\
             Byte-Range: {}-{end}/{total}\r\n{}Content-Type: {}\r\n\r\n",
            self.id,
            self.at + 1,
            self.more,
            self.content_type
        )
        .into_bytes();
        out.extend_from_slice(self.body);
        out.extend_from_slice(format!("\r\n-------{tid}{}\r\n", self.flag).as_bytes());
        out
    }
}

impl Large {
    /// The offer of a sender that connects.
    pub fn offer(msrp: &MsrpClient) -> Answer {
        Answer { direction: Some("sendonly"), accept_types: "*".into(), ..Answer::new(msrp.path(), Setup::Active) }
    }

    /// An INVITE for large messages, not sent yet.
    pub fn invite(client: &Client, to: &str, sdp: &[u8]) -> SipMessage {
        client
            .request_to("INVITE", to)
            .with("Contact", client.contact.clone())
            .with("Accept-Contact", LARGE_TAG)
            .with("Supported", "timer")
            .with_body("application/sdp", sdp)
    }

    /// Sets up a session and binds it.
    #[track_caller]
    pub fn open(client: Client, to: &str) -> Large {
        Large::open_with(client, to, |request| request)
    }

    /// The same with an INVITE that was changed.
    #[track_caller]
    pub fn open_with(client: Client, to: &str, change: impl FnOnce(SipMessage) -> SipMessage) -> Large {
        let large = Large::call(client, to, change);
        large.msrp.connect(&large.path);
        large
    }

    /// A session that is answered and acknowledged, and has no connection.
    #[track_caller]
    pub fn call(client: Client, to: &str, change: impl FnOnce(SipMessage) -> SipMessage) -> Large {
        let msrp = client.msrp(Setup::Active);
        let request = change(Large::invite(&client, to, &Large::offer(&msrp).write()));
        let ok = client.exchange(&request);
        assert_eq!(ok.code(), 200, "{request:?}\n{ok:?}");
        let path = Sdp::read(&ok.body).expect("SDP").attribute("path").expect("a path").to_string();
        let large = Large { client, request, ok, msrp, path, cseq: std::cell::Cell::new(1) };
        large.client.send_raw(&large.within_numbered("ACK", 1).write());
        large
    }

    fn within_numbered(&self, method: &str, cseq: u32) -> SipMessage {
        let target = uri_of(self.ok.header("Contact").unwrap_or_default()).to_string();
        self.client
            .request_to(method, &target)
            .set("From", self.request.header("From").unwrap_or_default())
            .set("To", self.ok.header("To").unwrap_or_default())
            .set("Call-ID", self.request.call_id())
            .set("CSeq", format!("{cseq} {method}"))
            .without("P-Asserted-Identity")
    }

    /// A request of the sender's in the dialog, not sent yet.
    pub fn within(&self, method: &str) -> SipMessage {
        self.cseq.set(self.cseq.get() + 1);
        self.within_numbered(method, self.cseq.get())
    }

    /// Sends one chunk; its transaction id.
    pub fn chunk(&self, chunk: &Chunk<'_>) -> String {
        let tid = unique();
        self.msrp.write(&chunk.write(&tid, &self.path, self.msrp.path()));
        tid
    }

    /// Sends a message in chunks of this length; their transaction ids.
    pub fn send(&self, id: &str, body: &[u8], chunk: usize) -> Vec<String> {
        let starts = (0..body.len()).step_by(chunk);
        starts.map(|from| self.chunk(&Chunk::of(id, body, from, (from + chunk).min(body.len())))).collect()
    }

    /// Waits for the answer to a transaction.
    #[track_caller]
    pub fn expect(&self, tid: &str, status: u16) -> Frame {
        self.msrp.expect_frame(&format!("{status} to {tid}"), |frame| frame.tid == tid && frame.status() == status)
    }

    /// Sends a message in chunks of this length and waits until the last is answered 200: it is kept.
    #[track_caller]
    pub fn deposit(&self, id: &str, body: &[u8], chunk: usize) -> String {
        let last = self.send(id, body, chunk).pop().unwrap_or_default();
        self.expect(&last, 200);
        last
    }

    /// Hangs up: BYE, and its 200.
    #[track_caller]
    pub fn bye(&self) {
        let response = self.client.exchange(&self.within("BYE"));
        assert_eq!(response.code(), 200, "{response:?}");
    }

    /// Waits for the daemon's BYE and answers it.
    #[track_caller]
    pub fn expect_bye(&self) -> SipMessage {
        let call_id = self.request.call_id().to_string();
        let inbox = &self.client.inbox;
        let bye = inbox.expect("the BYE", |message| message.method() == "BYE" && message.call_id() == call_id);
        inbox.respond(&bye, &SipMessage::response(&bye.message, 200, "OK", "x"));
        bye.message
    }
}
