//! 12.1.2 and 12.2.2.8: what waits for a user is listed in a document that an XCAP client reads, and that says what the store holds.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use deferd_kit::{
    WAIT,
    agents::Client,
    daemon::DaemonOptions,
    msrp_client::Reply,
    peer::Transport,
    scene::{ALICE, BOB, Scene},
    sdp::Setup,
};

use crate::{
    DEFERD,
    selection::{DEFERRED, expect_notify, refer, refer_quietly},
};

/// Where bob's document is.
const DOCUMENT: &str = "/xcap-root/org.openmobilealliance.deferred-list/users/sip:bob@example.org/deferred-list";

/// An HTTP answer.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    #[track_caller]
    fn etag(&self) -> String {
        let tag = self.field("ETag").unwrap_or_else(|| panic!("no ETag: {self:?}"));
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 20, "{tag}");
        tag.to_owned()
    }

    fn kind(&self) -> &str {
        self.field("Content-Type").unwrap_or_default()
    }

    /// The texts of all elements of a name, in order.
    fn texts(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let after = self.body.split(&open).skip(1);
        after.map(|text| text.split(&close).next().unwrap().to_owned()).collect()
    }

    /// The ids of the messages that are listed.
    #[track_caller]
    fn ids(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{self:?}");
        let id = |uri: String| {
            let id = uri.strip_prefix("sip:").and_then(|uri| uri.strip_suffix("@mailserver.example.org"));
            id.unwrap_or_else(|| panic!("{uri}")).to_owned()
        };
        self.texts("history-reference").into_iter().map(id).collect()
    }
}

/// What a daemon's XDMS says to curl.
fn curl(scene: &Scene, path: &str, more: &[&str]) -> Answer {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--include", "--globoff", "--path-as-is"])
        .args(more)
        .arg(format!("http://{}{path}", scene.http()))
        .output()
        .expect("curl runs; tools/test installs it");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rest = text.as_str();
    loop {
        let said = String::from_utf8_lossy(&output.stderr);
        let (head, body) = rest.split_once("\r\n\r\n").unwrap_or_else(|| panic!("curl said {rest:?} and {said}"));
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 100 {
            return Answer { status, head: head.to_owned(), body: body.to_owned() };
        }
        rest = body;
    }
}

/// The same for bob, whom a proxy has authenticated.
fn bobs(scene: &Scene, path: &str, more: &[&str]) -> Answer {
    let mut args = vec!["--header", "X-3GPP-Asserted-Identity: \"sip:bob@example.org\""];
    args.extend_from_slice(more);
    curl(scene, path, &args)
}

/// Bob's document.
fn document(scene: &Scene) -> Answer {
    bobs(scene, DOCUMENT, &[])
}

/// Asks until the document lists so many messages: what leaves a list does so when its tombstone is durable.
#[track_caller]
fn listing(scene: &Scene, count: usize) -> Answer {
    let deadline = Instant::now() + WAIT;
    loop {
        let answer = document(scene);
        if answer.ids().len() == count {
            return answer;
        }
        assert!(Instant::now() < deadline, "{count} were to be listed, and there are {answer:?}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn metric(scene: &Scene, name: &str) -> u64 {
    let metrics = curl(scene, "/metrics", &[]).body;
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {metrics}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

//= 12.2.2.3-6: SHALL store metadata as described in 12.2.2.8
//= 12.2.2.8: shall update the metadata XML document with a new <history> element (made from the record when it is asked for)
//= RFC 4825 8.3: GET operations can be conditional
#[test]
fn what_waits_is_listed_as_it_was_deposited() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    let empty = document(&scene);
    assert_eq!((empty.status, empty.ids().len()), (200, 0));
    assert_eq!(empty.kind(), "application/vnd.oma.im.deferred-list+xml");
    assert!(empty.body.contains("<history-list xmlns=\"urn:oma:xml:im:history-list\">"), "{}", empty.body);

    let request = alice.text(BOB, "lunch & <dinner>?").with("Subject", "one & <two>");
    alice.deposit(request.with("Date", "Sat, 31 Jan 2026 09:15:02 GMT"));
    alice.message(BOB, "second");
    let list = document(&scene);
    assert_eq!(list.ids().len(), 2);
    assert_eq!(list.texts("date")[0], "2026-01-31T09:15:02Z");
    assert_eq!(list.texts("subject"), ["one &amp; &lt;two&gt;"]);
    assert_eq!(list.texts("size"), ["17", "6"]);
    assert_eq!(list.texts("from"), [ALICE, ALICE]);
    assert_eq!(list.texts("to"), [BOB, BOB]);
    assert_eq!(list.texts("auth-id"), [ALICE, ALICE]);
    let stamps = list.texts("time-stamp");
    assert!(stamps[0] <= stamps[1] && stamps[0].as_str() > "2026-02", "{stamps:?}");
    let expiries = list.texts("expiry");
    assert!(expiries.iter().all(|expiry| expiry > &stamps[1]), "{expiries:?}");
    let order: Vec<usize> =
        ["history-reference", "date", "size", "expiry", "subject", "pager", "time-stamp", "from", "to", "auth-id"]
            .iter()
            .map(|name| list.body.find(&format!("<{name}>")).unwrap())
            .collect();
    assert!(order.is_sorted(), "{}", list.body);
    // An id begins with its stamp's millisecond, in ten digits; two of one millisecond differ by chance alone.
    let at: Vec<String> = list.ids().iter().map(|id| id[..10].to_owned()).collect();
    assert!(at.is_sorted(), "ids ascend with their stamps, and so does the list: {at:?}");

    // Unchanged, it is not sent again; and a HEAD is a GET without the body.
    assert_eq!(document(&scene).etag(), list.etag());
    let tag = list.etag();
    let unchanged = bobs(&scene, DOCUMENT, &["--header", &format!("If-None-Match: \"x\", {tag}")]);
    assert_eq!((unchanged.status, unchanged.body.as_str(), unchanged.etag()), (304, "", tag.clone()));
    assert_eq!(bobs(&scene, DOCUMENT, &["--header", "If-None-Match: *"]).status, 304);
    assert_eq!(bobs(&scene, DOCUMENT, &["--header", "If-None-Match: \"x\""]).status, 200);
    assert_eq!(bobs(&scene, DOCUMENT, &["--header", &format!("If-Match: \"x\", {tag}")]).status, 200);
    assert_eq!(bobs(&scene, DOCUMENT, &["--header", "If-Match: *"]).status, 200);
    assert_eq!(bobs(&scene, DOCUMENT, &["--header", &format!("If-Match: {}", empty.etag())]).status, 412);
    let head = bobs(&scene, DOCUMENT, &["--head"]);
    assert_eq!((head.status, head.body.as_str(), head.etag()), (200, "", tag));
    assert_eq!(head.field("Content-Length").unwrap(), list.body.len().to_string());
    assert_ne!(empty.etag(), list.etag());
    assert!(metric(&scene, "deferd_xcap_requests_total{status=\"304\"}") >= 2);
    assert_eq!(metric(&scene, "deferd_xcap_documents_total"), 2, "each was made once");
}

/// Every id that a document has ever had is remembered with its tag.
#[derive(Default)]
struct Tags(Vec<(String, Vec<String>)>);

impl Tags {
    /// The same list has the same tag, another list one that never was.
    #[track_caller]
    fn see(&mut self, answer: &Answer) {
        let (tag, ids) = (answer.etag(), answer.ids());
        match self.0.last() {
            Some((last, list)) if *list == ids => assert_eq!(*last, tag, "nothing has changed"),
            _ => {
                assert!(self.0.iter().all(|(other, _)| *other != tag), "{tag} is a tag of before");
                self.0.push((tag, ids));
            }
        }
    }
}

//= 12.2.2.7-4: SHALL update metadata as described in 12.2.2.8
//= 12.2.2.8: by removing the corresponding <history> element
//= 12.1.2: the IM Client shall retrieve the XML documents of the Deferred Metadata in the IM XDMS
//= RFC 4825 8.5: effectively, there is a single etag for the entire document
#[test]
fn the_document_follows_the_store_through_its_life() {
    let scene = &mut Scene::with(DaemonOptions::new(DEFERD).line("policy", "retrieved = \"retain\""));
    let mut tags = Tags::default();
    let alice = scene.alice();
    let bob = scene.bob();
    tags.see(&document(scene));
    let first = alice.message(BOB, "one");
    tags.see(&listing(scene, 1));
    let more = ["two", "three"].map(|text| alice.message(BOB, text));
    let three = listing(scene, 3);
    tags.see(&three);
    tags.see(&document(scene));

    // Deleted by its user, whose REFER was answered: it is not listed any more, and by its id another can be deleted.
    let ids = three.ids();
    let uri = |id: &str| format!("sip:{id}@mailserver.example.org");
    assert_eq!(bob.exchange(&refer_quietly(&bob, &uri(&ids[1]))).code(), 200);
    let two = document(scene);
    assert_eq!(two.ids(), [ids[0].clone(), ids[2].clone()]);
    tags.see(&two);

    // Restarted, with another number of cores: the same list, and a tag that never was.
    scene.daemon.restart(2);
    let after = document(scene);
    assert_eq!(after.ids(), two.ids());
    assert!(tags.0.iter().all(|(tag, _)| *tag != after.etag()));
    assert_eq!(after.body, two.body, "the same messages say the same");
    tags.0.push((after.etag(), after.ids()));

    // Expired while nobody was there.
    let alice = scene.alice();
    alice.deposit(alice.text(BOB, "soon over").with("Expires", "4"));
    tags.see(&listing(scene, 3));
    tags.see(&listing(scene, 2));

    // Pushed, and confirmed.
    let mut bob2 = scene.bob();
    scene.push_brings(&mut bob2, &[first, more[1].clone()]);
    let none = listing(scene, 0);
    tags.see(&none);
    assert_eq!(tags.0.len(), 8, "{:?}", tags.0);
}

/// Retained messages stay listed: they are there to be had again.
#[test]
fn what_is_retained_stays_listed() {
    let scene = Scene::with(DaemonOptions::new(DEFERD).line("policy", "after_push = \"retain\""));
    let deposits = ["one", "two"].map(|text| scene.alice().message(BOB, text));
    let before = listing(&scene, 2);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
    let after = document(&scene);
    assert_eq!((after.ids(), after.etag()), (before.ids(), before.etag()), "nothing has changed");
    let all = refer(&bob, DEFERRED);
    assert_eq!(bob.exchange(&all).code(), 200);
    expect_notify(&bob, &all);
    assert!(document(&scene).ids().is_empty());
}

/// A message that a client has been sent and has not confirmed is listed still.
#[test]
fn what_is_on_its_way_is_listed() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "one");
    let before = listing(&scene, 1);
    let mut bob = scene.bob();
    bob.publish_presence(true);
    let (mut call, msrp) = (bob.expect_invite(), bob.msrp(Setup::Active));
    msrp.set_policy(|_, _| vec![Reply::Silence]);
    call.answer(&msrp, Setup::Active);
    msrp.expect_sends(1);
    assert_eq!(document(&scene).etag(), before.etag());
    bob.publish_presence(false);
    call.bye();
    assert_eq!(listing(&scene, 1).etag(), before.etag());
}

//= RFC 3325 7: if the id privacy type is requested, the identity must not be passed on
#[test]
fn who_wants_privacy_is_not_named() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    alice.deposit(alice.text(BOB, "guess who").with("Privacy", "id"));
    let list = document(&scene);
    assert_eq!(list.ids().len(), 1);
    assert_eq!(list.texts("from"), ["sip:anonymous@anonymous.invalid"]);
    assert!(list.texts("auth-id").is_empty());
    assert!(!list.body.contains("alice"), "{}", list.body);
}

//= RFC 4825 8.3: if the node-selector is a no-match or invalid, the server returns a 404 response
//= RFC 4825 8: a prefix not defined in an xmlns() expression: MUST reject with a 400
//= RFC 4825 8: extension-selectors that the server does not understand: MUST reject with a 404
#[test]
fn a_node_of_the_document_can_be_had_alone() {
    let scene = Scene::new(DEFERD);
    let alice = scene.alice();
    (1..=3).for_each(|n| _ = alice.deposit(alice.text(BOB, "text").with("Subject", format!("number {n}"))));
    let list = listing(&scene, 3);
    let node = |selector: &str| bobs(&scene, &format!("{DOCUMENT}/~~/{selector}"), &[]);
    for selector in [
        "history-list/history[2]/subject",
        "history-list/history%5b2%5d/subject",
        "*/*[2]/subject",
        "*[1]/*[2]/*[5]",
        "%68istory-list/history[2]/subject",
        "h:history-list/i:history[2]/h:subject?xmlns(h=urn:oma:xml:im:history-list)xmlns(i=urn:oma:xml:im:history-list)",
        "h:history-list/history[2]/subject?xmlns(h=urn:oma%3Axml:im:history-list)%20other(x)",
    ] {
        let answer = node(selector);
        assert_eq!((answer.status, answer.body.as_str()), (200, "<subject>number 2</subject>"), "{selector}");
        assert_eq!(answer.kind(), "application/xcap-el+xml");
        assert_eq!(answer.etag(), list.etag(), "one tag for all of the document");
    }
    let third = node("history-list/history[3]").body;
    assert!(
        list.body.contains(&third) && third.starts_with("<history>\r\n") && third.ends_with("</history>"),
        "{third}"
    );
    let root = node("history-list").body;
    assert!(list.body.ends_with(&format!("{root}\r\n")), "{root}");
    let spaces = node("history-list/history[1]/namespace::*");
    assert_eq!(spaces.kind(), "application/xcap-ns+xml");
    assert_eq!(spaces.body, "<history xmlns=\"urn:oma:xml:im:history-list\"/>");
    for (selector, status) in [
        ("history-list/history", 404),
        ("history-list/history[4]", 404),
        ("history-list/history[0]", 404),
        ("history-list/history[1]/@id", 404),
        ("history-list/history[@id=%22x%22]", 404),
        ("history-list/history[1][@id=%27x%27]", 404),
        ("history", 404),
        ("nothing", 404),
        ("", 404),
        ("history-list//subject", 404),
        ("history-list/history[last()]", 404),
        ("h:history-list", 400),
        ("h:history-list?xmlns(i=urn:oma:xml:im:history-list)", 400),
        ("h:history-list?xmlns(h=urn:other)", 404),
        ("history-list?xmlns(", 400),
        ("history-list/%zz", 400),
        ("history-list/%ff", 400),
    ] {
        assert_eq!(node(selector).status, status, "{selector}");
    }
    // Conditions hold for nodes as for the document; a node that is not there is 404 all the same.
    let same = format!("If-None-Match: {}", list.etag());
    let one = format!("{DOCUMENT}/~~/history-list/history[1]");
    assert_eq!(bobs(&scene, &one, &["--header", &same]).status, 304);
    assert_eq!(bobs(&scene, &one, &["--header", "If-Match: \"x\""]).status, 412);
    assert_eq!(bobs(&scene, &format!("{DOCUMENT}/~~/history-list/history[9]"), &["--header", &same]).status, 404);
    assert_eq!(metric(&scene, "deferd_xcap_documents_total"), 1, "read node by node it is made once");
}

/// However it is asked for: a document is for its user alone, and only for whom a trusted proxy vouches for.
#[test]
fn nobody_reads_another_users_document() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "for bob alone");
    assert_eq!(document(&scene).ids().len(), 1);
    let asserting = |asserted: &str, path: &str| {
        let field = format!("X-3GPP-Asserted-Identity: {asserted}");
        curl(&scene, path, &["--header", &field])
    };
    // One or more identities, bare or quoted; however the address is written, it is bob's.
    for asserted in [
        "\"sip:bob@example.org\"",
        "sip:bob@example.org",
        "<sip:bob@example.org>",
        "\"tel:+15551234\", \"sip:bob@example.org\"",
        "sip:bob@EXAMPLE.org;user=phone, sip:other@example.org",
        "sips:b%6fb@example.org",
    ] {
        assert_eq!(asserting(asserted, DOCUMENT).ids().len(), 1, "{asserted}");
    }
    let base = "/xcap-root/org.openmobilealliance.deferred-list/users";
    for xui in ["sip:bob%40example.org", "sip%3Abob%40example.org", "sip:b%6Fb@example.org", "sips:bob@example.org;x=y"]
    {
        let answer = asserting("sip:bob@example.org", &format!("{base}/{xui}/deferred-list"));
        assert_eq!(answer.ids().len(), 1, "{xui}");
    }
    for (asserted, xui) in [
        ("\"sip:carol@example.org\"", "sip:bob@example.org"),
        ("sip:carol@example.org", "sip:carol@example.org%2F..%2Fsip:bob@example.org"),
        ("sip:carol@example.org", "sip:carol@example.org%00sip:bob@example.org"),
        ("sip:carol@example.org", "sip:bob%2540example.org"),
        ("sip:BOB@example.org", "sip:bob@example.org"),
        ("sip:bob@example.org", "sip:alice@example.org"),
        ("sip:bob@example.org.evil.test", "sip:bob@example.org"),
        ("\"sip:carol@example.org, sip:bob@example.org\"", "sip:bob@example.org"),
        ("\"sip:bob@example.org", "sip:bob@example.org"),
        ("bob@example.org", "bob@example.org"),
        ("*", "sip:bob@example.org"),
        ("", "sip:bob@example.org"),
        ("sip:example.org", "sip:example.org"),
    ] {
        let answer = asserting(asserted, &format!("{base}/{xui}/deferred-list"));
        assert_eq!(answer.status, 403, "{asserted} {xui}: {answer:?}");
        assert!(answer.field("ETag").is_none());
    }
    let up = asserting(
        "sip:carol@example.org",
        &format!("{base}/sip:carol@example.org/../sip:bob@example.org/deferred-list"),
    );
    assert_eq!(up.status, 404, "nothing is resolved: carol has no such document");
    assert_eq!(curl(&scene, DOCUMENT, &[]).status, 403, "nobody vouches");
    assert_eq!(curl(&scene, &format!("{DOCUMENT}/~~/history-list"), &[]).status, 403);
    for bad in ["%", "%4", "%zz", "sip:b%ffb@example.org"] {
        assert_eq!(asserting("sip:bob@example.org", &format!("{base}/{bad}/deferred-list")).status, 400, "{bad}");
    }
    // Of a domain that is not served there is no document, whoever asks.
    let stranger = "sip:bob@elsewhere.test";
    assert_eq!(asserting(stranger, &format!("{base}/{stranger}/deferred-list")).status, 404);

    let far = Scene::with(DaemonOptions::new(DEFERD).line("http", "trusted = [\"192.0.2.1\"]"));
    assert_eq!(document(&far).status, 403, "the loopback address is not trusted there");
}

//= RFC 4825 8: an application usage not understood by the server: MUST reject with a 404
//= RFC 4825 8.1: a server receiving a POST for an XCAP resource SHOULD return a 405
//= RFC 4825 8.2: a namespace-selector: MUST reject with a 405 and an Allow header including GET
//= RFC 4825 9: for data that is likely to be dynamic servers SHOULD indicate a no-cache directive
#[test]
fn the_document_is_the_servers_to_write() {
    let scene = Scene::new(DEFERD);
    scene.alice().message(BOB, "stays");
    let before = listing(&scene, 1);
    assert_eq!(before.field("Cache-Control"), Some("private, no-cache"));
    let text = "x".repeat(40_000);
    for path in [DOCUMENT.to_owned(), format!("{DOCUMENT}/~~/history-list/history[1]")] {
        let put = bobs(&scene, &path, &["--request", "PUT", "--data", &text]);
        assert_eq!(put.status, 403, "{put:?}");
        assert!(put.body.contains("REFER"), "it says how a message is deleted: {put:?}");
        assert_eq!(bobs(&scene, &path, &["--request", "DELETE"]).status, 403);
    }
    let spaces = format!("{DOCUMENT}/~~/history-list/namespace::*");
    for method in ["PUT", "DELETE"] {
        let answer = bobs(&scene, &spaces, &["--request", method]);
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET, HEAD")));
    }
    for method in ["POST", "PATCH", "OPTIONS"] {
        let answer = bobs(&scene, DOCUMENT, &["--request", method, "--data", "x"]);
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let user = "/xcap-root/org.openmobilealliance.deferred-list/users/sip:bob@example.org";
    for nothing in [
        "/xcap-root",
        "/xcap-root/",
        "/xcap-root/resource-lists/users/sip:bob@example.org/index",
        "/xcap-root/org.openmobilealliance.deferred-list/global/index",
        "/xcap-root/org.openmobilealliance.deferred-list/users",
        user,
        &format!("{user}/"),
        &format!("{user}/index"),
        &format!("{user}/deferred-list/"),
        &format!("{user}/deferred-list/x"),
        &format!("{user}/x/../deferred-list"),
        "/xcap-root/~~/history-list",
        "/xcap-rootless/org.openmobilealliance.deferred-list",
    ] {
        assert_eq!(bobs(&scene, nothing, &[]).status, 404, "{nothing}");
    }
    assert_eq!(document(&scene).etag(), before.etag(), "and nothing has changed");
}

//= RFC 4825 12: "xcap-caps" MUST be listed in the <auids> element, its namespace in the <namespaces> element
#[test]
fn what_the_server_can_is_told() {
    let scene = Scene::new(DEFERD);
    let caps = curl(&scene, "/xcap-root/xcap-caps/global/index", &[]);
    assert_eq!((caps.status, caps.kind()), (200, "application/xcap-caps+xml"));
    assert_eq!(caps.texts("auid"), ["xcap-caps", "org.openmobilealliance.deferred-list"]);
    assert_eq!(caps.texts("namespace"), ["urn:ietf:params:xml:ns:xcap-caps", "urn:oma:xml:im:history-list"]);
    let tag = format!("If-None-Match: {}", caps.field("ETag").unwrap());
    assert_eq!(curl(&scene, "/xcap-root/xcap-caps/global/index", &["--header", &tag]).status, 304);
    let first = curl(&scene, "/xcap-root/xcap-caps/global/index/~~/xcap-caps/auids/auid[1]", &[]);
    assert_eq!((first.kind(), first.body.as_str()), ("application/xcap-el+xml", "<auid>xcap-caps</auid>"));
    assert_eq!(first.field("ETag"), caps.field("ETag"), "one tag for all of the document");
    assert_eq!(curl(&scene, "/xcap-root/xcap-caps/users/sip:bob@example.org/index", &[]).status, 404);
    assert_eq!(curl(&scene, "/xcap-root/xcap-caps/global/index", &["--request", "DELETE"]).status, 403);
}

/// The list of messages has no attributes, by the schema as far as it is known; the capabilities say where their schema is.
//= RFC 4825 8.3: an XML attribute: its value is returned, as "application/xcap-att+xml"
#[test]
fn an_attribute_of_a_document_can_be_had_alone() {
    let scene = Scene::new(DEFERD);
    const INDEX: &str = "/xcap-root/xcap-caps/global/index";
    const BINDING: &str = "?xmlns(xsi=http://www.w3.org/2001/XMLSchema-instance)";
    let caps = curl(&scene, INDEX, &[]);
    let path = format!("{INDEX}/~~/xcap-caps/@xsi:schemaLocation{BINDING}");
    let location = curl(&scene, &path, &[]);
    assert_eq!((location.status, location.kind()), (200, "application/xcap-att+xml"), "{location:?}");
    assert_eq!(location.body, "\"urn:ietf:params:xml:ns:xcap-caps urn:ietf:params:xml:schema:xcap-caps\"");
    assert!(caps.body.contains(&format!(" xsi:schemaLocation={}>", location.body)), "{caps:?}");
    assert_eq!(location.field("ETag"), caps.field("ETag"), "one tag for all of the document");
    let tag = format!("If-None-Match: {}", caps.field("ETag").unwrap());
    assert_eq!(curl(&scene, &path, &["--header", &tag]).status, 304);
    assert_eq!(curl(&scene, &path, &["--header", "If-Match: \"x\""]).status, 412);
    assert_eq!(curl(&scene, &path, &["--head"]).kind(), "application/xcap-att+xml");
    for method in ["PUT", "DELETE"] {
        assert_eq!(curl(&scene, &path, &["--request", method]).status, 403, "{method}");
    }
    let of = |selector: &str| curl(&scene, &format!("{INDEX}/~~/{selector}"), &[]).status;
    // An attribute without a prefix is in no namespace; namespace declarations are no attributes.
    for (selector, status) in [
        ("xcap-caps/@schemaLocation".to_owned(), 404),
        ("xcap-caps/@xmlns".to_owned(), 404),
        ("xcap-caps/@xsi:schemaLocation".to_owned(), 400),
        (format!("xcap-caps/@xsi:nil{BINDING}"), 404),
        (format!("xcap-caps/auids/@xsi:schemaLocation{BINDING}"), 404),
        (format!("xcap-caps[@xsi:schemaLocation=%22x%22]/auids{BINDING}"), 404),
    ] {
        assert_eq!(of(&selector), status, "{selector}");
    }
    let one = format!(
        "xcap-caps[@xsi:schemaLocation={}]/auids/auid[2]{BINDING}",
        location.body.replace('"', "%22").replace(' ', "%20")
    );
    let auid = curl(&scene, &format!("{INDEX}/~~/{one}"), &[]);
    assert_eq!(auid.body, "<auid>org.openmobilealliance.deferred-list</auid>", "{auid:?}");
    let bob = bobs(&scene, &format!("{DOCUMENT}/~~/history-list/@xsi:schemaLocation{BINDING}"), &[]);
    assert_eq!(bob.status, 404, "his list has none");
}

/// Long lists are made a batch a turn, on whichever core is the user's home, while others go on.
#[test]
fn a_long_list_is_whole_and_has_its_bound() {
    const MESSAGES: usize = 700;
    let mut options = DaemonOptions::new(DEFERD).line("xdms", "max_messages = 650");
    options.cores = 2;
    let scene = Scene::with(options);
    let alice = scene.alice_tcp();
    let carol = "sip:carol@example.org";
    for number in 0..MESSAGES {
        alice.deposit(alice.text(BOB, &format!("text {number}")).with("Subject", format!("number {number}")));
    }
    alice.message(carol, "one");
    let list = listing(&scene, 650);
    assert_eq!(list.field("Warning"), Some("199 deferd \"50 later messages are not listed\""));
    let subjects: Vec<String> = (0..650).map(|number| format!("number {number}")).collect();
    assert_eq!(list.texts("subject"), subjects);
    let last = bobs(&scene, &format!("{DOCUMENT}/~~/history-list/history[650]/subject"), &[]);
    assert_eq!(last.body, "<subject>number 649</subject>");
    // Written to while it is read, it is what it was at one moment: from the first message on, without a gap.
    let reading = thread::scope(|scope| {
        let reader = scope.spawn(|| (0..10).map(|_| document(&scene)).collect::<Vec<_>>());
        (0..20).for_each(|number| _ = alice.message(BOB, &format!("late {number}")));
        reader.join().unwrap()
    });
    assert!(reading.iter().all(|answer| answer.texts("subject") == subjects));
    let client: Client = scene.client(Transport::Tcp, carol, scene.daemon.sip());
    let hers = curl(
        &scene,
        "/xcap-root/org.openmobilealliance.deferred-list/users/sip:carol@example.org/deferred-list",
        &["--header", "X-3GPP-Asserted-Identity: sip:carol@example.org"],
    );
    assert_eq!((hers.ids().len(), hers.texts("to")), (1, vec![client.aor.clone()]));
}
