//! The client's side of a push: an INVITE that arrived, its answer, the ACK, the end. One value a dialog.

use crate::{
    WAIT,
    log::Log,
    msrp_client::MsrpClient,
    peer::{Inbox, Received},
    sdp::{Answer, Sdp, Setup},
    sip::{SipMessage, param, uri_of},
    unique,
};

/// An INVITE and what became of it.
pub struct Call {
    /// The INVITE and the way back.
    pub invite: Received,
    inbox: Inbox,
    log: Log,
    contact: String,
    /// Our tag.
    pub tag: String,
    cseq: u32,
}

impl Call {
    /// A call for a client whose Contact this is.
    pub fn new(invite: Received, inbox: &Inbox, log: &Log, contact: &str) -> Call {
        Call { invite, inbox: inbox.clone(), log: log.clone(), contact: contact.into(), tag: unique(), cseq: 1 }
    }

    /// The request.
    pub fn request(&self) -> &SipMessage {
        &self.invite.message
    }

    /// The offer, judged.
    #[track_caller]
    pub fn offer(&self) -> Sdp {
        let request = self.request();
        if request.header("Content-Type").map(str::to_ascii_lowercase).as_deref() != Some("application/sdp") {
            self.log.fail(format!("the INVITE carries application/sdp, not {:?}", request.header("Content-Type")));
        }
        match Sdp::read(&request.body) {
            Ok(sdp) => sdp,
            Err(why) => self.log.fail(format!("the offer is not well-formed SDP: {why}")),
        }
    }

    /// The daemon's `a=path`.
    #[track_caller]
    pub fn offered_path(&self) -> String {
        match self.offer().attribute("path") {
            Some(path) => path.to_string(),
            None => self.log.fail("the offer has no a=path"),
        }
    }

    /// A response of this call, to be sent with [`Call::send`].
    pub fn response(&self, code: u16, reason: &str) -> SipMessage {
        let response = SipMessage::response(self.request(), code, reason, &self.tag);
        if code < 300 { response.with("Contact", self.contact.clone()) } else { response }
    }

    /// Sends a response to the INVITE.
    pub fn send(&self, response: &SipMessage) {
        self.inbox.respond(&self.invite, response);
    }

    /// A response without a body.
    pub fn respond(&self, code: u16, reason: &str) {
        self.send(&self.response(code, reason));
    }

    /// Refuses, and waits for the ACK that ends the transaction (RFC 3261 17.1.1.3: the INVITE's own branch).
    #[track_caller]
    pub fn refuse(&self, response: &SipMessage) -> SipMessage {
        self.send(response);
        let ack = self.expect_ack();
        if ack.branch() != self.request().branch() {
            self.log.fail("the ACK of a refusal has the INVITE's branch");
        }
        ack
    }

    /// 200 with this SDP, as an OMA client writes it; session timer with the refresher that was offered.
    pub fn accept_with(&self, sdp: &[u8]) -> SipMessage {
        let mut ok = self.response(200, "OK");
        if let Some(interval) = self.request().header("Session-Expires") {
            let refresher = param(&format!("x;{}", interval.split_once(';').map_or("", |(_, rest)| rest)), "refresher")
                .unwrap_or("uac")
                .to_string();
            let seconds = interval.split(';').next().unwrap_or("1800").trim().to_string();
            ok = ok.with("Require", "timer").with("Session-Expires", format!("{seconds};refresher={refresher}"));
        }
        ok.with("Server", "IM-client/OMA1.0 kit/1.0").with_body("application/sdp", sdp)
    }

    /// Accepts: 200 with an answer of this kind, checks the ACK, and connects when the client is the active side.
    #[track_caller]
    pub fn answer(&self, client: &MsrpClient, setup: Setup) -> SipMessage {
        self.answer_with(client, &Answer::new(client.path(), setup))
    }

    /// The same with an answer of one's own.
    #[track_caller]
    pub fn answer_with(&self, client: &MsrpClient, answer: &Answer) -> SipMessage {
        self.send(&self.accept_with(&answer.write()));
        let ack = self.expect_ack();
        if ack.branch() == self.request().branch() {
            self.log.fail("the ACK of a 2xx is a transaction of its own: a fresh branch");
        }
        if answer.setup == Setup::Active {
            client.connect(&self.offered_path());
        }
        ack
    }

    /// Waits for the ACK and judges its dialog fields (RFC 3261 13.2.2.4).
    #[track_caller]
    pub fn expect_ack(&self) -> SipMessage {
        let call_id = self.request().call_id().to_string();
        let ack =
            self.inbox.expect("the ACK", |message| message.method() == "ACK" && message.call_id() == call_id).message;
        let same = ack.cseq() == self.request().cseq()
            && ack.tag("From") == self.request().tag("From")
            && ack.tag("To") == Some(self.tag.as_str());
        if !same {
            self.log.fail(format!("the ACK has the INVITE's CSeq and the dialog's tags:\n{ack:?}"));
        }
        ack
    }

    /// Waits for the daemon's BYE and answers 200.
    #[track_caller]
    pub fn expect_bye(&self) -> SipMessage {
        let bye = self.expect_in_dialog("BYE");
        self.inbox.respond(&bye, &SipMessage::response(&bye.message, 200, "OK", &self.tag));
        bye.message
    }

    /// Waits for a request of this dialog and judges its fields (RFC 3261 12.2.1.1).
    #[track_caller]
    pub fn expect_in_dialog(&self, method: &str) -> Received {
        let call_id = self.request().call_id().to_string();
        let received = self
            .inbox
            .expect(&format!("the {method}"), |message| message.method() == method && message.call_id() == call_id);
        let message = &received.message;
        let right = message.cseq() > self.request().cseq()
            && message.tag("From") == self.request().tag("From")
            && message.tag("To") == Some(self.tag.as_str())
            && message.uri() == uri_of(&self.contact);
        if !right {
            self.log.fail(format!(
                "a request of the dialog has a higher CSeq, its tags, and goes to our Contact {}:\n{message:?}",
                self.contact
            ));
        }
        received
    }

    /// A request of ours in this dialog, with a fresh branch.
    pub fn request_in_dialog(&mut self, method: &str) -> SipMessage {
        self.cseq += 1;
        let invite = self.request();
        let target = uri_of(invite.header("Contact").unwrap_or_default()).to_string();
        let link = &self.invite.link;
        let to = invite.header("To").unwrap_or_default();
        let from = if param(to, "tag").is_some() { to.to_string() } else { format!("{to};tag={}", self.tag) };
        SipMessage::request(method, &target)
            .with("Via", format!("SIP/2.0/{} {};branch=z9hG4bK{};rport", link.transport().name(), link.local, unique()))
            .with("Max-Forwards", "70")
            .with("From", from)
            .with("To", invite.header("From").unwrap_or_default())
            .with("Call-ID", invite.call_id())
            .with("CSeq", format!("{} {method}", self.cseq))
            .with("Contact", self.contact.clone())
    }

    /// Sends a request of ours and waits for its final response.
    #[track_caller]
    pub fn exchange(&mut self, request: &SipMessage) -> SipMessage {
        self.invite.link.send(&request.write());
        let branch = request.branch().to_string();
        let what = format!("a final response to {}", request.start);
        self.inbox.expect(&what, |message| message.code() >= 200 && message.branch() == branch).message
    }

    /// Acknowledges the 200 to an INVITE of ours in this dialog, with a description or without.
    pub fn acknowledge(&mut self, invite: &SipMessage, sdp: Option<&[u8]>) {
        let ack = self.request_in_dialog("ACK").set("CSeq", format!("{} ACK", invite.cseq()));
        self.cseq -= 1;
        let ack = match sdp {
            Some(sdp) => ack.with_body("application/sdp", sdp),
            None => ack,
        };
        self.invite.link.send(&ack.write());
    }

    /// Hangs up: BYE, and its 200.
    #[track_caller]
    pub fn bye(&mut self) {
        let bye = self.request_in_dialog("BYE");
        let response = self.exchange(&bye);
        if response.code() != 200 {
            self.log.fail(format!("a BYE of the dialog is answered 200, not {}", response.code()));
        }
    }

    /// Waits for CANCEL and answers it and the INVITE (RFC 3261 9.2).
    #[track_caller]
    pub fn expect_cancel(&self) -> SipMessage {
        let branch = self.request().branch().to_string();
        let cancel =
            self.inbox.expect("the CANCEL", |message| message.method() == "CANCEL" && message.branch() == branch);
        self.inbox.respond(&cancel, &SipMessage::response(&cancel.message, 200, "OK", &self.tag));
        cancel.message
    }

    /// How long anything of this call may take.
    pub fn patience(&self) -> std::time::Duration {
        WAIT
    }
}
