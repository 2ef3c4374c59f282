//! The people around the daemon: a sender who deposits, an IM client that publishes and takes pushes, and the SIP/IP core
//! that stands between.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{
    call::Call,
    log::Log,
    msrp::MsrpMessage,
    msrp_client::MsrpClient,
    peer::{Inbox, SipPeer, Transport},
    sdp::Setup,
    sip::{SipMessage, uri_of, user_of},
    unique,
};

/// What the feature tag of OMA IM looks like in Contact and Accept-Contact.
pub const IM_TAG: &str = "+g.oma.sip-im";

/// One who sends pager-mode messages.
pub struct Sender {
    /// The socket.
    pub peer: SipPeer,
    /// The address of record.
    pub aor: String,
    to: SocketAddr,
    log: Log,
}

/// A request and its final response.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was sent.
    pub request: SipMessage,
    /// What came back.
    pub response: SipMessage,
}

impl Sender {
    /// A sender with a socket of its own to the daemon at `to`.
    #[track_caller]
    pub fn new(log: &Log, transport: Transport, aor: &str, to: SocketAddr) -> Sender {
        let who = user_of(aor);
        let peer = match transport {
            Transport::Udp => SipPeer::udp(log, who, "deferd", to.ip()),
            Transport::Tcp => SipPeer::tcp(log, who, "deferd", to),
        };
        Sender { peer, aor: aor.into(), to, log: log.clone() }
    }

    /// A request to `to` in this sender's name, with everything a core adds.
    pub fn request(&self, method: &str, to: &str) -> SipMessage {
        SipMessage::request(method, to)
            .with("Via", self.peer.via())
            .with("Max-Forwards", "70")
            .with("From", format!("<{}>;tag={}", self.aor, unique()))
            .with("To", format!("<{to}>"))
            .with("Call-ID", format!("{}@kit", unique()))
            .with("CSeq", format!("1 {method}"))
            .with("P-Asserted-Identity", format!("<{}>", self.aor))
    }

    /// A MESSAGE, not sent yet.
    pub fn text(&self, to: &str, body: &str) -> SipMessage {
        self.request("MESSAGE", to).with("Accept-Contact", format!("*;{IM_TAG}")).with_body("text/plain", body)
    }

    /// Sends a request as it is and waits for the final response.
    #[track_caller]
    pub fn exchange(&self, request: SipMessage) -> Exchange {
        let response = self.peer.exchange(self.to, &request);
        Exchange { request, response }
    }

    /// Sends octets as they are.
    pub fn send_raw(&self, octets: &[u8]) {
        self.peer.link(self.to).send(octets);
    }

    /// Deposits: sends and insists on 202; returns what was sent.
    #[track_caller]
    pub fn deposit(&self, request: SipMessage) -> SipMessage {
        let exchange = self.exchange(request);
        if exchange.response.code() != 202 {
            self.log.fail(format!("a deposit is answered 202, not {}", exchange.response.start));
        }
        exchange.request
    }

    /// Deposits a text.
    #[track_caller]
    pub fn message(&self, to: &str, body: &str) -> SipMessage {
        self.deposit(self.text(to, body))
    }
}

/// An IM client: publishes, takes calls.
pub struct Client {
    /// The socket.
    pub peer: SipPeer,
    /// Whatever reaches the client, over its own socket or through the core.
    pub inbox: Inbox,
    /// The address of record.
    pub aor: String,
    /// The Contact it gives.
    pub contact: String,
    to: SocketAddr,
    log: Log,
    /// Entity tags by event package.
    tags: Vec<(String, String)>,
}

impl Client {
    /// A client with a socket of its own to the daemon at `to`.
    #[track_caller]
    pub fn new(log: &Log, transport: Transport, aor: &str, to: SocketAddr) -> Client {
        let user = user_of(aor);
        let peer = match transport {
            Transport::Udp => SipPeer::udp(log, user, "deferd", to.ip()),
            Transport::Tcp => SipPeer::tcp(log, user, "deferd", to),
        };
        Client::over(log, peer, aor, to)
    }

    /// A client on a socket that is there already.
    pub fn over(log: &Log, peer: SipPeer, aor: &str, to: SocketAddr) -> Client {
        let user = user_of(aor);
        let parameter = if peer.transport() == Transport::Tcp { ";transport=tcp" } else { "" };
        let contact = format!("<sip:{user}@{}{parameter}>;{IM_TAG}", peer.local());
        let inbox = peer.inbox.clone();
        Client { peer, inbox, aor: aor.into(), contact, to, log: log.clone(), tags: Vec::new() }
    }

    /// A request to its own address, with everything a core adds.
    pub fn request(&self, method: &str) -> SipMessage {
        self.request_to(method, &self.aor)
    }

    /// A request to any address, with everything a core adds.
    pub fn request_to(&self, method: &str, uri: &str) -> SipMessage {
        SipMessage::request(method, uri)
            .with("Via", self.peer.via())
            .with("Max-Forwards", "70")
            .with("From", format!("<{}>;tag={}", self.aor, unique()))
            .with("To", format!("<{uri}>"))
            .with("Call-ID", format!("{}@kit", unique()))
            .with("CSeq", format!("1 {method}"))
            .with("P-Asserted-Identity", format!("<{}>", self.aor))
            .with("User-Agent", "IM-client/OMA1.0 kit/1.0")
    }

    /// A PUBLISH without a body and without an entity tag.
    pub fn publication(&self, event: &str) -> SipMessage {
        self.request("PUBLISH").with("Event", event).with("Expires", "3600")
    }

    /// A settings PUBLISH, not sent yet.
    pub fn settings(&self, active: bool) -> SipMessage {
        self.publication("poc-settings").with_body("application/poc-settings+xml", settings_document(active))
    }

    /// A presence PUBLISH, not sent yet.
    pub fn presence(&self, open: bool) -> SipMessage {
        self.publication("presence").with_body("application/pidf+xml", pidf_document(&self.aor, open))
    }

    /// Sends a request and waits for its final response.
    #[track_caller]
    pub fn exchange(&self, request: &SipMessage) -> SipMessage {
        self.peer.exchange(self.to, request)
    }

    /// Sends octets as they are.
    pub fn send_raw(&self, octets: &[u8]) {
        self.peer.link(self.to).send(octets);
    }

    /// The entity tag of the last success for this event.
    pub fn tag(&self, event: &str) -> Option<&str> {
        self.tags.iter().find(|(found, _)| found == event).map(|(_, tag)| tag.as_str())
    }

    /// Sends a PUBLISH, with the entity tag from last time if there is one; insists on 200 with Expires and a fresh tag.
    #[track_caller]
    pub fn publish(&mut self, request: SipMessage) -> SipMessage {
        let event = request.header("Event").unwrap_or_default().to_string();
        let request = match self.tag(&event) {
            Some(tag) => request.with("SIP-If-Match", tag),
            None => request,
        };
        let old = self.tag(&event).map(str::to_string);
        let response = self.exchange(&request);
        let fresh = response.header("SIP-ETag").filter(|tag| old.as_deref() != Some(tag)).map(str::to_string);
        let (200, Some(fresh), Some(_)) = (response.code(), fresh, response.header("Expires")) else {
            self.log.fail(format!("a PUBLISH is answered 200 with Expires and a fresh SIP-ETag:\n{response:?}"));
        };
        self.tags.retain(|(found, _)| *found != event);
        if request.header("Expires") != Some("0") {
            self.tags.push((event, fresh));
        }
        response
    }

    /// Comes online or goes.
    #[track_caller]
    pub fn publish_presence(&mut self, open: bool) -> SipMessage {
        self.publish(self.presence(open))
    }

    /// Switches the delivery of deferred messages on or off.
    #[track_caller]
    pub fn publish_settings(&mut self, active: bool) -> SipMessage {
        self.publish(self.settings(active))
    }

    /// Repeats the last publication of this event without a body.
    #[track_caller]
    pub fn refresh(&mut self, event: &str) -> SipMessage {
        self.publish(self.publication(event))
    }

    /// Waits for the push INVITE.
    #[track_caller]
    pub fn expect_invite(&self) -> Call {
        let invite = self.inbox.expect_request("INVITE");
        Call::new(invite, &self.inbox, &self.log, &self.contact)
    }

    /// Whether an INVITE comes within this time: for the tests in which none may come.
    #[track_caller]
    pub fn invite_within(&self, limit: Duration) -> Option<Call> {
        let invite = self.inbox.find(limit, |message| message.method() == "INVITE")?;
        Some(Call::new(invite, &self.inbox, &self.log, &self.contact))
    }

    /// An MSRP endpoint of this client.
    pub fn msrp(&self, setup: Setup) -> MsrpClient {
        let (who, ip) = (format!("{} (msrp)", user_of(&self.aor)), self.peer.local().ip());
        match setup {
            Setup::Active => MsrpClient::active(&self.log, &who, ip),
            Setup::Passive | Setup::Absent => MsrpClient::passive(&self.log, &who, ip),
        }
    }

    /// A whole push from INVITE to BYE: exactly `count` messages, each SEND answered 200.
    #[track_caller]
    pub fn take_push(&self, count: usize) -> Vec<MsrpMessage> {
        self.take_push_as(Setup::Active, count)
    }

    /// The same as active, passive or plain RFC 4975 answerer.
    #[track_caller]
    pub fn take_push_as(&self, setup: Setup, count: usize) -> Vec<MsrpMessage> {
        let (call, msrp) = (self.expect_invite(), self.msrp(setup));
        call.answer(&msrp, setup);
        msrp.expect_messages(count);
        call.expect_bye();
        msrp.judge();
        let messages = msrp.messages();
        if messages.len() != count {
            self.log.fail(format!("{count} messages waited and {} were pushed", messages.len()));
        }
        messages
    }
}

/// The SIP/IP core as the daemon sees it: its outbound proxy. What the daemon sends to a user goes to that user's client.
pub struct SipCore {
    peer: Arc<SipPeer>,
    /// What went to nobody.
    pub inbox: Inbox,
    routes: Arc<Mutex<Vec<(String, Inbox)>>>,
}

impl SipCore {
    /// A core on a free port of 127.0.0.1; with `record_route` it stays in every dialog's path.
    pub fn new(log: &Log, transport: Transport, record_route: bool) -> SipCore {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = Arc::new(match transport {
            Transport::Udp => SipPeer::udp(log, "core", "deferd", ip),
            Transport::Tcp => SipPeer::tcp_listener(log, "core", "deferd", ip),
        });
        let core = SipCore { inbox: Inbox::new(log, "core"), routes: Arc::default(), peer };
        let (from, lost, routes) = (core.peer.inbox.clone(), core.inbox.clone(), core.routes.clone());
        let (route, alive) = (core.record_route(), Arc::downgrade(&core.peer));
        thread::spawn(move || {
            let mut dialogs: Vec<(String, String)> = Vec::new();
            while alive.strong_count() > 0 {
                let Some(mut received) = from.find(Duration::from_millis(200), |_| true) else { continue };
                let message = &mut received.message;
                let call_id = message.call_id().to_string();
                let known = dialogs.iter().find(|(found, _)| *found == call_id).map(|(_, user)| user.clone());
                let user = known.unwrap_or_else(|| user_of(uri_of(message.uri())).to_string());
                if message.method() == "INVITE" {
                    dialogs.push((call_id, user.clone()));
                    if record_route {
                        message.headers.insert(0, ("Record-Route".into(), route.clone()));
                    }
                }
                let routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
                match routes.iter().find(|(found, _)| *found == user) {
                    Some((_, inbox)) => inbox.put(received),
                    None => lost.put(received),
                }
            }
        });
        core
    }

    /// The value of `sip.outbound_proxy`.
    pub fn proxy(&self) -> String {
        format!("{}:{}", self.peer.transport().name().to_ascii_lowercase(), self.peer.local())
    }

    /// What the core writes into Record-Route.
    pub fn record_route(&self) -> String {
        let parameter = if self.peer.transport() == Transport::Tcp { ";transport=tcp" } else { "" };
        format!("<sip:{}{parameter};lr>", self.peer.local())
    }

    /// From now on this client gets what is for its user.
    pub fn route(&self, client: &Client) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let user = user_of(&client.aor).to_string();
        routes.retain(|(found, _)| *found != user);
        routes.push((user, client.inbox.clone()));
    }
}

/// IM service settings (12.2.2.2).
pub fn settings_document(active: bool) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <poc-settings xmlns=\"urn:oma:params:xml:ns:poc:poc-settings\" xmlns:im=\"urn:oma:xml:im:service-settings\">\r\n \
         <entity id=\"do39s8zksn2d98x\">\r\n  \
         <im:deferred-settings><im:offline-delivery active=\"{active}\"/></im:deferred-settings>\r\n \
         </entity>\r\n</poc-settings>\r\n"
    )
}

/// A presence document with one tuple (RFC 3863).
pub fn pidf_document(aor: &str, open: bool) -> String {
    let basic = if open { "open" } else { "closed" };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"{}\">\r\n \
         <tuple id=\"t1\"><status><basic>{basic}</basic></status><contact>{aor}</contact></tuple>\r\n</presence>\r\n",
        aor.replacen("sip:", "pres:", 1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{msrp, payload};

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A push played by hand: what the daemon will do, the kit's own pieces doing it.
    #[test]
    fn a_client_takes_a_whole_push() {
        for setup in [Setup::Active, Setup::Passive] {
            let log = Log::new();
            let daemon = SipPeer::udp(&log, "deferd", "bob", HOME);
            let far = MsrpClient::passive(&log, "deferd", HOME);
            let client = Client::new(&log, Transport::Udp, "sip:bob@example.org", daemon.local());
            let link = daemon.link(client.peer.local());
            let offer = crate::sdp::Answer {
                direction: Some("sendonly"),
                ..crate::sdp::Answer::new(far.path(), Setup::Passive)
            };
            let invite = SipMessage::request("INVITE", "sip:bob@example.org")
                .with("Via", daemon.via())
                .with("Max-Forwards", "70")
                .with("From", "<sip:Deferred@example.org>;tag=d1")
                .with("To", "<sip:bob@example.org>")
                .with("Call-ID", unique())
                .with("CSeq", "1 INVITE")
                .with("Contact", format!("<sip:push@{}>", daemon.local()))
                .with_body("application/sdp", offer.write());
            link.send(&invite.write());
            let taken = thread::scope(|scope| {
                let taker = scope.spawn(|| client.take_push_as(setup, 1));
                let ok = daemon.expect_final(&invite);
                let target = uri_of(ok.header("Contact").unwrap()).to_string();
                let in_dialog = |method: &str, cseq: u32| {
                    SipMessage::request(method, &target)
                        .with("Via", daemon.via())
                        .with("Max-Forwards", "70")
                        .with("From", "<sip:Deferred@example.org>;tag=d1")
                        .with("To", ok.header("To").unwrap())
                        .with("Call-ID", ok.call_id())
                        .with("CSeq", format!("{cseq} {method}"))
                };
                link.send(&in_dialog("ACK", 1).write());
                let path = crate::sdp::Sdp::read(&ok.body).unwrap().attribute("path").unwrap().to_string();
                match setup {
                    Setup::Active => far.expect_bound(),
                    _ => far.connect(&path),
                }
                far.write(&msrp::send(&unique(), &path, far.path(), "id0001", "text/plain", b"hello"));
                far.expect_status("the answer", 200);
                let bye = in_dialog("BYE", 2);
                link.send(&bye.write());
                assert_eq!(daemon.expect_final(&bye).code(), 200);
                taker.join().unwrap()
            });
            assert_eq!(taken[0].body, b"hello");
        }
    }

    #[test]
    fn the_core_gives_a_users_requests_to_the_users_client() {
        for transport in [Transport::Udp, Transport::Tcp] {
            let log = Log::new();
            let core = SipCore::new(&log, transport, true);
            let at: SocketAddr = core.proxy()[4..].parse().unwrap();
            let client = Client::new(&log, Transport::Udp, "sip:bob@example.org", at);
            core.route(&client);
            let daemon = Sender::new(&log, transport, "sip:Deferred@example.org", at);
            let request = daemon.request("INVITE", "sip:bob@example.org").with("Contact", "<sip:x@127.0.0.1>");
            daemon.send_raw(&request.write());
            let call = client.expect_invite();
            assert_eq!(call.request().header("Record-Route"), Some(core.record_route().as_str()));
            call.respond(486, "Busy Here");
            assert_eq!(daemon.peer.expect_final(&request).header("Record-Route"), Some(core.record_route().as_str()));
        }
    }

    #[test]
    fn what_a_sender_writes_is_judged_well_formed() {
        let log = Log::new();
        let sender = Sender::new(&log, Transport::Udp, "sip:alice@example.org", SocketAddr::new(HOME, 5060));
        let text =
            sender.text("sip:bob@example.org", "Watson, come here.").with("Date", "Thu, 21 Feb 2002 13:02:03 GMT");
        SipMessage::read(&text.write()).unwrap();
        assert!(payload::is_sip_date(text.header("Date").unwrap()));
    }
}
