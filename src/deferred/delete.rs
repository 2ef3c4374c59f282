//! IM Server deleting Deferred Messages (12.2.2.7, 12.1.3): a REFER to `Delete@` names one message, several, or all.
//!
//! Knows what the request means and in which order its sender hears of it: the tombstones durable, then the 200, the reports, the
//! NOTIFY. How messages go is in [`super::dismiss`].

use super::bin::Bin;
use super::cx::{Cx, Reader, Reply};
use super::dismiss::{Because, Dismissals, Leaving};
use super::find::{self, Search, Sought};
use super::identity::{self, Address, Resource};
use super::invite;
use super::push::Pushes;
use super::report::Reports;
use super::respond::{self, Refusal};
use super::users::Users;
use crate::base::arena::{Arena, Key};
use crate::base::net::Flow;
use crate::proto::sip::dialog::Dialog;
use crate::proto::sip::referral::{self, Referral, Target};
use crate::proto::sip::subscription::{self, Reason, State, Subscription};
use crate::store::directory::UserId;
use crate::store::loader::Loaded;
use crate::store::reason;
use crate::store::record::Locator;
use crate::wire::resource_lists;
use crate::wire::sip::message::Message;
use crate::wire::sip::names::{Method, Name};
use crate::wire::sip::write::{Request, Response};
use crate::wire::sipfrag;
use bytes::Bytes;

/// Deletions under way on one core. Each is a read and a commit long; more at one time are somebody's flood.
const DELETIONS_MAX: usize = 1_024;

/// What a session that ends while its REFER is carried out may have said meanwhile, in numbers of its dialog: a refresh, its
/// repetition, a BYE.
const NUMBERS_SPARED: u32 = 8;

/// A REFER from one of our users.
#[derive(Debug)]
pub struct Asked {
    /// Where the answer goes.
    pub reply: Reply,
    /// The request.
    pub message: Message,
    /// How it came.
    pub flow: Flow,
    /// Who asks.
    pub owner: Address,
    /// It came within the dialog of this session.
    pub within: Option<Key>,
}

/// The session whose dialog a REFER came in.
#[derive(Debug)]
struct Inside {
    key: Key,
    /// As it was then.
    dialog: Dialog,
    contact: Vec<u8>,
    /// Value of Event in its NOTIFY.
    event: Vec<u8>,
}

/// A REFER being carried out.
///
/// ```text
///   searching ──ids found──▶ dismissing ──durable──▶ waiting ──▶ 200, NOTIFY ──▶ (gone)
///       └── nothing found ──▶ 404, or 200 and NOTIFY 404 ──▶ (gone)
/// ```
/// It waits for what was on its way out already when the request came: delivered, expired, or deleted by an earlier request, with
/// a tombstone that is not durable yet. To answer before would promise what a crash in between takes back.
#[derive(Debug)]
struct Deletion {
    reply: Reply,
    message: Message,
    flow: Flow,
    /// Held until it is over.
    user: UserId,
    subscribes: bool,
    inside: Option<Inside>,
    /// One message was named by itself.
    single: bool,
    search: Option<Search>,
    /// How many were named; 0 for all.
    named: usize,
    missing: usize,
    /// On their way out by somebody else's doing.
    leaving: Vec<Locator>,
}

/// All deletions under way on this core.
#[derive(Default)]
pub struct Deletions {
    live: Arena<Deletion>,
    /// Those that wait for nothing but what was leaving before them.
    waiting: Vec<Key>,
    /// NOTIFYs whose turn comes when the reports are on their way.
    notices: Vec<(Bytes, Flow)>,
}

/// What a REFER needs besides itself.
pub struct House<'a> {
    /// What waits.
    pub users: &'a mut Users,
    /// Who is being sent something.
    pub pushes: &'a mut Pushes,
    /// What goes.
    pub dismissals: &'a mut Dismissals,
    /// What is owed.
    pub reports: &'a Reports,
    /// Where what is deleted goes.
    pub bin: &'a Bin,
}

impl Deletions {
    /// A REFER from a user about messages of their own.
    pub fn refer(&mut self, cx: &mut Cx, house: House<'_>, asked: Asked) {
        if let Err(refusal) = self.take_in(cx, house, &asked) {
            cx.counts.refused += 1;
            let octets = refusal.response(cx, &asked.message, asked.flow.peer());
            cx.respond(asked.reply, refusal.status, octets);
        }
    }

    fn take_in(&mut self, cx: &mut Cx, house: House<'_>, asked: &Asked) -> Result<(), Refusal> {
        let Asked { reply, message, flow, owner, within } = asked;
        //= RFC 4488 4: Require: norefersub is rejected with 420 unless it is supported
        let unknown = respond::unsupported(message, referral::OPTIONS);
        if !unknown.is_empty() {
            return Err(Refusal::of(420).with(Name::Unsupported, unknown));
        }
        let referral = Referral::read(message).map_err(|status| match status.0 {
            415 => Refusal::of(415).with(Name::Accept, resource_lists::MEDIA_TYPE),
            status => Refusal::of(status),
        })?;
        //= RFC 3515 2.4.2 (603): if the approval sought is immediately denied, the UA MAY decline the request
        if !cx.policy.user_delete {
            let warning = respond::warning(cx, "messages are not deleted by their users here");
            return Err(Refusal::of(603).with(Name::Warning, warning));
        }
        // Where a NOTIFY is to go, the request must say how.
        if referral.subscribes && within.is_none() {
            Subscription::accept(message, b"x", b"refer").map_err(|unusable| Refusal::of(unusable.status().0))?;
        }
        if self.live.len() >= DELETIONS_MAX {
            cx.counts.overloads += 1;
            return Err(Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S));
        }
        if cx.log.is_poisoned() {
            return Err(Refusal::of(503).retry_after(respond::STORAGE_RETRY_AFTER_S));
        }
        let (single, wanted) = match &referral.target {
            Target::One(uri) if is_all(cx, uri) => (false, None),
            Target::One(uri) => (true, Some(vec![find::id_of(&cx.policy, uri)])),
            //= 12.1.3.3-3: a MIME resource-lists body with the list of the selected multiple message-IDs
            Target::Several(list) => (false, Some(find::ids_of(&cx.policy, list.iter()))),
        };
        let named = wanted.as_ref().map_or(0, Vec::len);
        let user = cx.directory.enter(owner).map_err(|_| {
            cx.counts.overloads += 1;
            Refusal::of(503).retry_after(respond::OVERLOAD_RETRY_AFTER_S)
        })?;
        let (message, subscribes) = (message.clone(), referral.subscribes);
        let inside = within.and_then(|key| house.pushes.inside(key, &message, subscribes));
        let (reply, flow) = (*reply, *flow);
        let (search, missing, leaving) = (None, 0, Vec::new());
        let deletion =
            Deletion { reply, message, flow, user, subscribes, inside, single, search, named, missing, leaving };
        let key = self.live.insert(deletion);
        let queue = house.users.look(cx, user);
        match wanted {
            //= 12.1.3.4-3: Refer-To set to the Deferred Messaging Function: all stored messages are deleted
            None => {
                let all = queue.map(|queue| queue.iter().copied().collect()).unwrap_or_default();
                self.dismiss(cx, house, key, all);
            }
            Some(ids) => {
                let search = Search::new(owner, Sought::Ids(ids), queue);
                if let Some(deletion) = self.live.get_mut(key) {
                    deletion.search = Some(search);
                }
                self.search(cx, house, key);
            }
        }
        Ok(())
    }

    fn search(&mut self, cx: &mut Cx, house: House<'_>, key: Key) {
        let Some(deletion) = self.live.get_mut(key) else { return };
        let Some(search) = &mut deletion.search else { return };
        if !search.step(cx, Reader::Deletion(key), house.users.queue(deletion.user)) {
            return;
        }
        let Some(search) = deletion.search.take() else { return };
        let (found, missing) = search.finish();
        deletion.missing = missing;
        self.dismiss(cx, house, key, found);
    }

    /// The disk gave a batch of those that may be meant.
    pub fn loaded(&mut self, cx: &mut Cx, house: House<'_>, key: Key, records: Vec<Loaded>) {
        let Some(deletion) = self.live.get_mut(key) else { return };
        let Some(search) = &mut deletion.search else { return };
        search.loaded(records, house.users.queue(deletion.user));
        self.search(cx, house, key);
    }

    fn dismiss(&mut self, cx: &mut Cx, house: House<'_>, key: Key, found: Vec<Locator>) {
        let House { users, pushes, dismissals, reports, bin } = house;
        let Some(deletion) = self.live.get_mut(key) else { return };
        let mut gone = Vec::with_capacity(found.len());
        for locator in found {
            match standing(users, pushes, deletion.user, &locator) {
                Standing::Here => gone.push(locator),
                Standing::Leaving => deletion.leaving.push(locator),
                // Delivered or deleted while we were looking: like what was never there.
                Standing::Gone => deletion.missing += usize::from(deletion.named > 0),
            }
        }
        cx.counts.deleted += gone.len() as u64;
        let (user, because, binned) = (deletion.user, Because::Asked(key), bin.is_open(cx));
        let leaving = Leaving { user, gone, reason: reason::Reason::DeletedByUser, because, binned };
        dismissals.begin(cx, users, pushes, reports, leaving);
    }

    /// What a REFER named is durably gone, or cannot be.
    pub fn dismissed(&mut self, cx: &mut Cx, house: House<'_>, asked: Key, durable: bool) {
        if durable && self.live.get(asked).is_some_and(|deletion| !deletion.leaving.is_empty()) {
            self.waiting.push(asked);
        } else {
            self.over(cx, house.users, house.pushes, asked, durable);
        }
    }

    /// The next deletion for which nothing is leaving any more, if there is one: it is answered, or lets go what was spared.
    pub fn resume(&mut self, cx: &mut Cx, house: House<'_>) -> bool {
        let next = self.waiting.iter().position(|&key| {
            self.live.get(key).is_none_or(|deletion| {
                let leaves = |locator: &Locator| {
                    standing(house.users, house.pushes, deletion.user, locator) == Standing::Leaving
                };
                !deletion.leaving.iter().any(leaves)
            })
        });
        let Some(key) = next.map(|next| self.waiting.swap_remove(next)) else { return false };
        let Some(deletion) = self.live.get_mut(key) else { return true };
        let left = std::mem::take(&mut deletion.leaving);
        if cx.log.is_poisoned() {
            // Whether their tombstones were the last that became durable is not known here.
            self.over(cx, house.users, house.pushes, key, false);
        } else {
            self.dismiss(cx, house, key, left);
        }
        true
    }

    fn over(&mut self, cx: &mut Cx, users: &mut Users, pushes: &mut Pushes, asked: Key, durable: bool) {
        let Some(deletion) = self.live.remove(asked) else { return };
        cx.directory.leave(deletion.user);
        users.close_if_empty(cx, deletion.user);
        let peer = deletion.flow.peer();
        if !durable {
            cx.counts.refused += 1;
            let octets = respond::storage_failed(cx, &deletion.message, peer);
            return cx.respond(deletion.reply, 503, octets);
        }
        let none_found = deletion.named > 0 && deletion.missing == deletion.named;
        // Whoever hears of it by NOTIFY is told there; a list is idempotent.
        if none_found && deletion.single && !deletion.subscribes {
            cx.counts.refused += 1;
            let octets = respond::plain(cx, &deletion.message, 404, peer);
            return cx.respond(deletion.reply, 404, octets);
        }
        self.accept(cx, pushes, deletion, none_found);
    }

    /// 200, and the NOTIFY where one is wanted.
    ///
    //= 12.2.2.7-2: shall send a 200 OK as a response to the REFER request
    //= RFC 7647 5: an element accepting a REFER request MUST NOT reply with a 202 response code
    fn accept(&mut self, cx: &mut Cx, pushes: &mut Pushes, deletion: Deletion, none_found: bool) {
        let Deletion { reply, message, flow, subscribes, inside, named, missing, .. } = deletion;
        let tag = cx.tag();
        let contact = inside.as_ref().map_or_else(|| contact(cx, &flow), |inside| inside.contact.clone());
        let mut response = Response::to(&message, 200, flow.peer())
            .record_route()
            .to_tag(&tag)
            .line(Name::Server, &cx.product)
            .line(Name::Contact, &contact)
            .line(Name::Supported, respond::SUPPORTED);
        if !subscribes {
            //= RFC 4488 4: MUST insert the Refer-Sub header field set to "false" in the 2xx response
            response = response.line(Name::ReferSub, b"false");
        }
        let octets = response.finish();
        cx.respond(reply, 200, octets);
        if !subscribes {
            return;
        }
        //= 12.2.2.7-5: shall send a NOTIFY request to the client according to the rules and procedures of RFC 3515
        let over = State::Terminated(Reason::NoResource);
        let notify = match inside {
            //= RFC 3515 2.4.4: NOTIFYs of a REFER within a dialog are sent within that dialog
            Some(inside) => pushes.notify_within(inside, over),
            None => {
                let Ok(mut subscription) = Subscription::accept(&message, &tag, b"refer") else { return };
                subscription.notify(over)
            }
        };
        let Some(flow) = cx.flow_to(Some(flow)) else { return };
        let mut fragment = Vec::with_capacity(96);
        let warning =
            (missing > 0 && !none_found).then(|| respond::warning(cx, &format!("{missing} of {named} not found")));
        sipfrag::write_status(&mut fragment, if none_found { 404 } else { 200 }, warning.as_deref());
        let via = invite::via(cx, &flow);
        let notify = notify
            .line(Name::Via, &via)
            .line(Name::Contact, &contact)
            .line(Name::UserAgent, &cx.product)
            .body(sipfrag::MEDIA_TYPE, &fragment)
            .finish();
        self.notices.push((notify, flow));
    }

    /// Sends the NOTIFYs that waited for what comes before them.
    //= 12.2.2.7: the order is: delete, 200 OK, delivery report, metadata, NOTIFY
    pub fn notify(&mut self, cx: &mut Cx) {
        for (notify, flow) in self.notices.drain(..) {
            // Its answer changes nothing: the subscription is over either way (RFC 6665 4.2.2).
            if cx.sip.request(cx.now.tick, Method::Notify, notify, flow).is_err() {
                cx.counts.overloads += 1;
            }
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

/// Where a message stands for whoever wants it gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Here,
    /// Had, expired or deleted, and its tombstone is not durable yet.
    Leaving,
    Gone,
}

fn standing(users: &Users, pushes: &Pushes, user: UserId, locator: &Locator) -> Standing {
    let Some(now) = users.queue(user).and_then(|queue| queue.at(locator.stamp())) else { return Standing::Gone };
    let leaves = users.now(user, locator).is_none() || pushes.has_delivered(user, now.place());
    if leaves { Standing::Leaving } else { Standing::Here }
}

impl Pushes {
    /// A REFER within the dialog of a session: whose messages it is about.
    ///
    //= 12.1.3: within a session, too, its user may delete what is stored for them
    pub fn referred(&mut self, message: &Message, key: Key) -> Result<Address, Refusal> {
        let push = self.live.get_mut(key).ok_or_else(|| Refusal::of(481))?;
        let dialog = push.dialog.as_mut().filter(|dialog| dialog.matches(message)).ok_or_else(|| Refusal::of(481))?;
        dialog.in_order(message).map_err(|status| Refusal::of(status.0))?;
        if push.stage.is_over() { Err(Refusal::of(481)) } else { Ok(push.call.owner.clone()) }
    }

    fn inside(&mut self, key: Key, message: &Message, subscribes: bool) -> Option<Inside> {
        let push = self.live.get_mut(key)?;
        //= RFC 3515 2.4.6: NOTIFYs of the second and later REFERs in a dialog MUST include an id, the REFER's CSeq number
        let event = match push.referred {
            true => format!("refer;id={}", message.cseq().0).into_bytes(),
            false => b"refer".to_vec(),
        };
        push.referred |= subscribes;
        Some(Inside { key, dialog: push.dialog.clone()?, contact: push.call.contact_value(), event })
    }

    /// The NOTIFY of such a REFER, complete but for Via, Contact and body. The session may be over: its dialog lasts as long as the
    /// subscription in it (RFC 5057 4.1).
    fn notify_within(&mut self, mut inside: Inside, state: State) -> Request {
        if let Some(dialog) = self.live.get_mut(inside.key).and_then(|push| push.dialog.as_mut()) {
            return subscription::notify_within(dialog, &inside.event, state);
        }
        inside.dialog.leap(NUMBERS_SPARED);
        subscription::notify_within(&mut inside.dialog, &inside.event, state)
    }
}

/// True when a Refer-To names the function itself, and so everything in it.
fn is_all(cx: &Cx, uri: &[u8]) -> bool {
    let own = |host: &[u8]| cx.addresses.is_own_host(host);
    // Headers of the URI would be headers of a request that nobody sends.
    let uri = uri.split(|&octet| octet == b'?').next().unwrap_or_default();
    matches!(identity::resource(&cx.policy, uri, own), Ok(Resource::Deferred))
}

/// `<sip:Delete@host>`: a URI that leads to us from wherever the client is.
//= RFC 7647 3: a UA accepting a REFER that creates a subscription MUST populate its Contact header field with a GRUU
fn contact(cx: &Cx, flow: &Flow) -> Vec<u8> {
    let (transport, sent_by) = cx.addresses.sent_by(flow);
    let parameter = if transport == "TCP" { ";transport=tcp" } else { "" };
    format!("<sip:Delete@{sent_by}{parameter}>;+g.oma.sip-im;automata").into_bytes()
}
