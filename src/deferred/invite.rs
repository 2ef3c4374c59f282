//! The SIP requests of a push: what the clause asks of its INVITE, header by header (12.2.2.2-1).

use super::cx::Cx;
use super::identity::{Address, CONTACT_PREFIX, LARGE_PREFIX};
use super::respond;
use crate::base::arena::Key;
use crate::base::net::Flow;
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::session_timer::Wish;
use crate::wire::sip::fields::Refresher;
use crate::wire::sip::names::{Method, Name};
use crate::wire::sip::write::Request;
use bytes::Bytes;

/// Where a push goes.
#[derive(Clone, Debug)]
pub struct Toward {
    /// The way its requests take.
    pub flow: Flow,
    /// Through which core, where one registered the user.
    pub route: Option<Vec<u8>>,
}

/// What every INVITE of one push has in common, however often it is sent again.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whom it is for.
    pub owner: Address,
    /// Request-URI: the owner's address, or where a 3xx sent us.
    pub target: Vec<u8>,
    /// Through which core: what a core that registered the user called itself.
    pub route: Option<Vec<u8>>,
    /// Call-ID, the same for every repetition.
    pub call_id: Vec<u8>,
    /// Our tag.
    pub from_tag: [u8; 20],
    /// Of the INVITE last sent.
    pub cseq: u32,
    /// The session timer asked for; `None` when the other side does not know session timers (420).
    pub timer: Option<Wish>,
    /// Our Contact URI.
    pub contact: Vec<u8>,
    /// The way it goes.
    pub flow: Flow,
    /// The offer.
    pub sdp: Vec<u8>,
}

impl Call {
    /// A call for the push `key` to `owner`.
    pub fn new(cx: &mut Cx, key: Key, owner: &Address, flow: Flow) -> Call {
        let host = cx.policy.hostname.clone();
        let mut call_id = cx.dice.hex::<24>().to_vec();
        call_id.push(b'@');
        call_id.extend_from_slice(host.as_bytes());
        let (transport, sent_by) = cx.addresses.sent_by(&flow);
        let mut contact = b"sip:".to_vec();
        contact.extend_from_slice(CONTACT_PREFIX);
        contact.extend_from_slice(format!("{:04x}{:016x}", cx.core.0, key.to_u64()).as_bytes());
        contact.push(b'@');
        contact.extend_from_slice(sent_by.as_bytes());
        if transport == "TCP" {
            contact.extend_from_slice(b";transport=tcp");
        }
        let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        //= 12.2.2.2-1f: Session-Expires with the refresher parameter set to 'uac'
        let (interval_s, min_se_s) = (seconds(cx.policy.session_expires), seconds(cx.policy.min_se));
        let timer = Some(Wish::new(interval_s, min_se_s, Some(Refresher::Uac)));
        Call {
            owner: owner.clone(),
            //= 12.2.2.2-1a: Request-URI set to the served IM User identity
            target: owner.to_vec(),
            route: None,
            call_id,
            from_tag: cx.tag(),
            cseq: 1,
            timer,
            contact,
            flow,
            sdp: Vec::new(),
        }
    }

    /// The INVITE, with a fresh branch.
    pub fn invite(&self, cx: &mut Cx) -> Bytes {
        let from = self.from(cx);
        let identity = format!("<sip:Deferred@{}>", cx.policy.hostname);
        let mut to = b"<".to_vec();
        to.extend_from_slice(&self.owner);
        to.push(b'>');
        let ring = cx.policy.invite_expires.as_secs().to_string();
        let via = via(cx, &self.flow);
        let mut request =
            Request::new(Method::Invite, &self.target).line(Name::Via, &via).line(Name::MaxForwards, b"70");
        if let Some(route) = &self.route {
            request = request.line(Name::Route, route);
        }
        request =
            request.line(Name::From, &from).line(Name::To, &to).line(Name::PAssertedIdentity, identity.as_bytes());
        //= 12.2.2.2 (IMS): shall use IMS session mechanisms: the core's Route, and what its charging wants of who originates
        if self.route.is_some() || cx.addresses.has_core() {
            request = request.line(Name::PChargingVector, &charging_vector(cx, &self.call_id));
        }
        request = request
            .line(Name::CallId, &self.call_id)
            .line(Name::CSeq, format!("{} INVITE", self.cseq).as_bytes())
            //= 12.2.2.2-1d: '+g.oma.sip-im' in the Contact header field
            //= 12.2.2.2-1e: the feature tag "automata" in the Contact header field
            .line(Name::Contact, &self.contact_value())
            //= 12.2.2.2-1b: Accept-Contact with the IM feature-tag '+g.oma.sip-im'
            .line(Name::AcceptContact, b"*;+g.oma.sip-im")
            //= 12.2.2.2-1c: User-Agent to indicate the IM release version
            .line(Name::UserAgent, &cx.product)
            //= RFC 3261 13.2.1: Allow indicates what methods can be invoked within a dialog, on the UA sending the INVITE
            .line(Name::Allow, respond::ALLOW_WITHIN)
            .line(Name::Expires, ring.as_bytes());
        if let Some(timer) = &self.timer {
            request = timer.lines(request);
        }
        //= 12.2.2.2-1g: SDP body as an offer, 'sendonly'
        request.body(b"application/sdp", &self.sdp).finish()
    }

    /// The way of the call's next request: the connection to the SIP/IP core may be another than the INVITE's, which a
    /// long session outlives.
    pub fn way(&mut self, cx: &mut Cx) -> Flow {
        self.flow = cx.flow_to(Some(self.flow)).unwrap_or(self.flow);
        self.flow
    }

    /// `<sip:push-..@host>;+g.oma.sip-im;automata`.
    pub fn contact_value(&self) -> Vec<u8> {
        let mut contact = b"<".to_vec();
        contact.extend_from_slice(&self.contact);
        contact.extend_from_slice(b">;+g.oma.sip-im;automata");
        contact
    }

    fn from(&self, cx: &Cx) -> Vec<u8> {
        let mut from = format!("<sip:Deferred@{}>;tag=", cx.policy.hostname).into_bytes();
        from.extend_from_slice(&self.from_tag);
        from
    }
}

/// A Via for a new transaction on `flow`.
pub fn via(cx: &mut Cx, flow: &Flow) -> Vec<u8> {
    let branch = cx.sip.branch(&mut cx.dice);
    let (transport, sent_by) = cx.addresses.sent_by(flow);
    let mut via = format!("SIP/2.0/{transport} {sent_by};branch=").into_bytes();
    via.extend_from_slice(&branch);
    via.extend_from_slice(b";rport");
    via
}

/// What a core that bills for us wants to know: a value that is this request's alone, the same in every repetition, and whose we are.
/// For nobody but a core: RFC 7315 4.6.1.
///
//= RFC 7315 4.6: ICID MUST be a globally unique value; a locally unique value and the hostname
pub fn charging_vector(cx: &Cx, call_id: &[u8]) -> Vec<u8> {
    let mut vector = b"icid-value=\"".to_vec();
    vector.extend_from_slice(call_id);
    vector.extend_from_slice(b"\";orig-ioi=");
    let ioi = if cx.policy.orig_ioi.is_empty() { cx.policy.domains.first() } else { Some(&cx.policy.orig_ioi) };
    vector.extend_from_slice(ioi.unwrap_or(&cx.policy.hostname).as_bytes());
    vector
}

/// An in-dialog request, complete but for its body.
pub fn within(cx: &mut Cx, dialog: &mut Dialog, method: Method, flow: &Flow) -> Request {
    let via = via(cx, flow);
    dialog.request(method).line(Name::Via, &via).line(Name::UserAgent, &cx.product)
}

/// The ACK for a 2xx: a request of its own, outside transactions (RFC 3261 13.2.2.4).
pub fn ack(cx: &mut Cx, dialog: &Dialog, cseq: u32, flow: &Flow) -> Bytes {
    let via = via(cx, flow);
    dialog.ack(cseq).line(Name::Via, &via).finish()
}

/// The key of the session a Contact user part of ours names, and the core it lives on: `push-` or `defer-`, core (4 hex), key (16 hex).
pub fn contact_key(user: &[u8]) -> Option<(u16, Key)> {
    let rest = user.strip_prefix(CONTACT_PREFIX).or_else(|| user.strip_prefix(LARGE_PREFIX))?;
    let text = std::str::from_utf8(rest).ok()?;
    let (core, key) = (text.get(..4)?, text.get(4..)?);
    if key.len() != 16 {
        return None;
    }
    Some((u16::from_str_radix(core, 16).ok()?, Key::from_u64(u64::from_str_radix(key, 16).ok()?)))
}
