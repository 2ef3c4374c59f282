//! 12.2.2.8 with an XDMS elsewhere: documents are brought there, whatever it answers, and however often the daemon dies.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use deferd_kit::{
    WAIT,
    daemon::DaemonOptions,
    scene::{BOB, Scene},
};

use crate::{
    DEFERD,
    selection::{DEFERRED, refer_quietly},
};

/// Where bob's document is there.
const DOCUMENT: &str = "/root/org.openmobilealliance.deferred-list/users/sip:bob@example.org/deferred-list";

/// What is done to a request before it is served.
#[derive(Clone, Debug)]
enum Trick {
    /// Answered with this status and body, and nothing else happens.
    Say(u16, &'static str),
    /// Somebody else writes the document first.
    Meddle,
    /// It is taken, and the connection closed without an answer.
    Swallow,
}

#[derive(Clone, Debug)]
struct Seen {
    method: String,
    head: String,
    status: u16,
    at: Instant,
}

impl Seen {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

#[derive(Debug, Default)]
struct Store {
    documents: BTreeMap<String, (u64, String)>,
    versions: u64,
    tricks: VecDeque<Trick>,
    seen: Vec<Seen>,
    /// Connections are closed at once.
    down: bool,
    /// Requests are served, and nobody is told before this is over.
    held: bool,
}

/// An XDMS on loopback: documents, entity tags, conditions as RFC 4825 and RFC 9110 have them, and tricks.
#[derive(Clone)]
struct Xdms {
    addr: SocketAddr,
    store: Arc<(Mutex<Store>, Condvar)>,
}

impl Xdms {
    fn start() -> Xdms {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let xdms = Xdms { addr: listener.local_addr().unwrap(), store: Arc::default() };
        let served = xdms.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                thread::spawn(move || served.serve(stream));
            }
        });
        xdms
    }

    /// A daemon that keeps it up to date.
    fn options(&self) -> DaemonOptions {
        DaemonOptions::new(DEFERD)
            .line("xdms", "mode = \"external\"")
            .line("xdms", &format!("root = \"http://{}/root/\"", self.addr))
            .line("xdms", "timeout = \"1s\"")
    }

    fn with<T>(&self, what: impl FnOnce(&mut Store) -> T) -> T {
        let out = what(&mut self.store.0.lock().unwrap());
        self.store.1.notify_all();
        out
    }

    fn play(&self, tricks: &[Trick]) {
        self.with(|store| store.tricks.extend(tricks.iter().cloned()));
    }

    fn seen(&self) -> Vec<Seen> {
        self.with(|store| store.seen.clone())
    }

    /// Waits until what it holds is as wanted.
    #[track_caller]
    fn until<T>(&self, what: &str, mut wanted: impl FnMut(&Store) -> Option<T>) -> T {
        let deadline = Instant::now() + 2 * WAIT;
        let mut store = self.store.0.lock().unwrap();
        loop {
            if let Some(found) = wanted(&store) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} was expected of {store:#?}");
            store = self.store.1.wait_timeout(store, left).unwrap().0;
        }
    }

    /// Waits until a document lists so many messages.
    #[track_caller]
    fn lists(&self, path: &str, count: usize) -> String {
        let listed = |text: &str| text.matches("<history>").count();
        self.until(&format!("{count} messages in {path}"), |store| {
            let (_, text) = store.documents.get(path)?;
            (listed(text) == count).then(|| text.clone())
        })
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if reader.read_exact(&mut body).is_err() || self.with(|store| store.down) {
                return;
            }
            let Some(answer) = self.answer(&head, String::from_utf8(body).unwrap()) else { return };
            drop(self.store.1.wait_while(self.store.0.lock().unwrap(), |store| store.held).unwrap());
            if (&stream).write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, head: &str, body: String) -> Option<String> {
        self.with(|store| {
            let trick = store.tricks.pop_front();
            if let Some(Trick::Meddle) = trick {
                store.versions += 1;
                let version = store.versions;
                store.documents.insert(DOCUMENT.into(), (version, "<somebody-elses/>".into()));
            }
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let mut seen = Seen { method: method.into(), head: head.into(), status: 0, at: Instant::now() };
            let found = store.documents.get(path).cloned();
            let tag = found.as_ref().map(|(version, _)| format!("\"v{version}\""));
            let holds = match (seen.field("If-Match"), seen.field("If-None-Match")) {
                (Some(wanted), _) => tag.as_deref() == Some(wanted),
                (None, Some("*")) => found.is_none(),
                (None, Some(_)) => panic!("{head}"),
                (None, None) => method == "GET",
            };
            let (status, text) = match (&trick, method) {
                (Some(Trick::Say(status, text)), _) => (*status, (*text).to_owned()),
                (_, "GET") => found.map_or((404, String::new()), |(_, text)| (200, text)),
                // As a server does that looks for the document first.
                (_, "PUT") if found.is_none() && seen.field("If-Match").is_some() => (404, String::new()),
                (_, "PUT") if !holds => (412, String::new()),
                (_, "PUT") => {
                    store.versions += 1;
                    store.documents.insert(path.into(), (store.versions, body));
                    (if found.is_some() { 200 } else { 201 }, String::new())
                }
                _ => (405, String::new()),
            };
            seen.status = status;
            store.seen.push(seen);
            let tag =
                store.documents.get(path).map_or(String::new(), |(version, _)| format!("ETag: \"v{version}\"\r\n"));
            let swallowed = matches!(trick, Some(Trick::Swallow));
            (!swallowed).then(|| format!("HTTP/1.1 {status} X\r\n{tag}Content-Length: {}\r\n\r\n{text}", text.len()))
        })
    }
}

//= 12.2.2.8: update the metadata XML document in the IM XDMS (conditionally: RFC 4825 7.11)
#[test]
fn an_xdms_elsewhere_is_kept_up_to_date() {
    let xdms = Xdms::start();
    let scene = Scene::with(xdms.options());
    let alice = scene.alice();
    let first = alice.message(BOB, "one");
    let text = xdms.lists(DOCUMENT, 1);
    assert!(text.contains("<history-list xmlns=\"urn:oma:xml:im:history-list\">"), "{text}");
    let second = alice.message(BOB, "two");
    xdms.lists(DOCUMENT, 2);
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &[first, second]);
    xdms.lists(DOCUMENT, 0);
    let seen = xdms.seen();
    let exchanges: Vec<(&str, u16)> = seen.iter().map(|seen| (seen.method.as_str(), seen.status)).collect();
    assert_eq!(exchanges[..2], [("GET", 404), ("PUT", 201)], "looked for, and made");
    assert!(
        exchanges[2..].iter().all(|exchange| *exchange == ("PUT", 200)),
        "its tag is known from then on: {exchanges:?}"
    );
    assert_eq!(seen[1].field("If-None-Match"), Some("*"));
    assert_eq!(seen[2].field("If-Match"), Some("\"v1\""));
    assert_eq!(seen[1].field("Content-Type"), Some("application/vnd.oma.im.deferred-list+xml"));
    assert_eq!(seen[1].field("X-3GPP-Asserted-Identity"), Some("\"sip:Deferred@mailserver.example.org\""));
    // The documents are elsewhere: not here as well.
    let mut stream = TcpStream::connect(scene.http()).unwrap();
    write!(stream, "GET /xcap-root/xcap-caps/global/index HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

/// What happens to a user in quick succession is written together.
#[test]
fn changes_are_gathered() {
    let xdms = Xdms::start();
    let scene = Scene::with(xdms.options());
    let alice = scene.alice_tcp();
    (0..200).for_each(|number| _ = alice.message(BOB, &format!("text {number}")));
    xdms.lists(DOCUMENT, 200);
    let puts = xdms.seen().iter().filter(|seen| seen.method == "PUT").count();
    assert!((1..=100).contains(&puts), "{puts} writes of 200 changes");
}

//= RFC 4825 11: 409: which condition the document does not meet
#[test]
fn an_xdms_that_refuses_is_dealt_with_by_the_book() {
    let xdms = Xdms::start();
    let scene = Scene::with(xdms.options());
    let alice = scene.alice();
    // 500 and a lost answer: again, after a while; what was taken without an answer is found there.
    xdms.play(&[Trick::Say(404, ""), Trick::Say(500, ""), Trick::Say(503, "")]);
    alice.message(BOB, "one");
    xdms.lists(DOCUMENT, 1);
    let seen = xdms.seen();
    let statuses: Vec<u16> = seen.iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [404, 500, 503, 404, 201], "{seen:#?}");
    assert!(seen[2].at - seen[1].at >= Duration::from_millis(900), "a pause");
    assert!(seen[3].at - seen[2].at >= Duration::from_millis(1_900), "and a longer one");

    // Written by somebody else: looked at, and written over, for the store is right.
    xdms.play(&[Trick::Meddle, Trick::Meddle]);
    alice.message(BOB, "two");
    xdms.lists(DOCUMENT, 2);
    let statuses: Vec<u16> = xdms.seen()[5..].iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [412, 200, 200], "PUT, GET, PUT");

    // Gone: made anew, without another look.
    xdms.with(|store| store.documents.clear());
    alice.message(BOB, "three");
    xdms.lists(DOCUMENT, 3);
    let seen = xdms.seen();
    assert_eq!(seen[8..].iter().map(|seen| seen.status).collect::<Vec<_>>(), [404, 201]);
    assert_eq!(seen[9].field("If-None-Match"), Some("*"));

    // Taken, and the answer lost.
    xdms.play(&[Trick::Swallow]);
    alice.message(BOB, "four");
    xdms.lists(DOCUMENT, 4);
    let after = xdms.until("the next look", |store| {
        let after = &store.seen[10..];
        after.iter().any(|seen| seen.method == "GET").then(|| after.to_vec())
    });
    let after: Vec<_> = after.iter().map(|seen| (seen.method.as_str(), seen.status)).collect();
    // On a connection that had been used it is sent again at once, which its condition makes harmless.
    let at_once = [("PUT", 200), ("PUT", 412), ("GET", 200)];
    assert!(after == at_once || after == [("PUT", 200), ("GET", 200)], "found to be as it should be: {after:?}");

    // Refused for what is in it: said in the log, and offered again when it is another.
    let error = "<?xml version=\"1.0\"?><xcap-error xmlns=\"urn:ietf:params:xml:ns:xcap-error\"><schema-validation-error phrase=\"no size\"/></xcap-error>";
    xdms.play(&[Trick::Say(409, error)]);
    alice.message(BOB, "five");
    let deadline = Instant::now() + WAIT;
    while !scene.stderr().contains("schema-validation-error: no size") {
        assert!(Instant::now() < deadline, "{}", scene.stderr());
        thread::park_timeout(Duration::from_millis(10));
    }
    alice.message(BOB, "six");
    xdms.lists(DOCUMENT, 6);
}

/// An XDMS that is down, or silent, holds up nobody but itself, and is caught up with when it is back.
#[test]
fn deposits_and_pushes_do_not_wait_for_an_xdms() {
    let xdms = Xdms::start();
    xdms.with(|store| store.down = true);
    let scene = Scene::with(xdms.options());
    let alice = scene.alice();
    let deposits: Vec<_> = (0..5).map(|number| alice.message(BOB, &format!("text {number}"))).collect();
    let carol = "sip:carol@example.org";
    alice.message(carol, "for carol");
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
    let late = alice.message(BOB, "late");
    xdms.with(|store| store.down = false);
    let text = xdms.lists(DOCUMENT, 1);
    assert!(text.contains(&format!("<size>{}</size>", late.body.len())), "{text}");
    xdms.lists(&DOCUMENT.replace("bob", "carol"), 1);
}

/// One that takes what it is given and does not answer in time: nobody waits for it, and in the end it has everything.
#[test]
fn an_xdms_that_answers_late_delays_no_message_and_loses_none() {
    let xdms = Xdms::start();
    xdms.with(|store| store.held = true);
    let scene = Scene::with(xdms.options());
    let alice = scene.alice();
    let first = alice.message(BOB, "one");
    xdms.until("a request that waits for its answer", |store| (!store.seen.is_empty()).then_some(()));
    let carol = "sip:carol@example.org";
    let deposits: Vec<_> =
        std::iter::once(first).chain((0..5).map(|number| alice.message(BOB, &format!("text {number}")))).collect();
    alice.message(carol, "for carol");
    let mut bob = scene.bob();
    scene.push_brings(&mut bob, &deposits);
    // The daemon has given up on an answer, and asked again.
    xdms.until("another request", |store| (store.seen.len() > 1).then_some(()));
    let late = alice.message(BOB, "late");
    scene.push_brings(&mut bob, &[late]);
    bob.publish_presence(false);
    let stays = alice.message(BOB, "and this one stays");
    xdms.with(|store| {
        store.held = false;
        store.tricks.extend([Trick::Say(500, ""), Trick::Say(503, "")]);
    });
    xdms.until("what the store has", |store| {
        let (_, text) = store.documents.get(DOCUMENT)?;
        let size = format!("<size>{}</size>", stays.body.len());
        (text.matches("<history>").count() == 1 && text.contains(&size)).then_some(())
    });
    xdms.lists(&DOCUMENT.replace("bob", "carol"), 1);
}

/// The XDMS may be wrong about anybody when the daemon died: about those who have messages, and about those who have none any more.
#[test]
fn after_a_crash_the_xdms_is_brought_up_to_date() {
    let xdms = Xdms::start();
    let mut scene = Scene::with(xdms.options());
    let carols = DOCUMENT.replace("bob", "carol");
    let daves = DOCUMENT.replace("bob", "dave");
    let alice = scene.alice();
    for to in [BOB, "sip:carol@example.org", "sip:dave@example.org"] {
        alice.message(to, "one");
    }
    for path in [DOCUMENT, carols.as_str(), daves.as_str()] {
        xdms.lists(path, 1);
    }
    // From now on the XDMS hears nothing; bob loses his message, carol gets another, dave stays as he is.
    xdms.with(|store| store.down = true);
    let bob = scene.bob();
    assert_eq!(bob.exchange(&refer_quietly(&bob, DEFERRED)).code(), 200);
    alice.message("sip:carol@example.org", "two");
    scene.daemon.restart(2);
    let before = xdms.seen().len();
    xdms.with(|store| store.down = false);
    xdms.lists(DOCUMENT, 0);
    xdms.lists(&carols, 2);
    let dave = xdms.until("a look at dave's", |store| {
        let mut seen = store.seen[before..].iter();
        seen.find(|seen| seen.head.contains("dave")).cloned()
    });
    assert_eq!(dave.method, "GET", "what is as it should be is not written again");
    // An empty list that was taken is settled: after another start nobody asks for it.
    // (The first start may come before that is on the disk.)
    let settled = (0..3).any(|_| {
        let before = xdms.seen().len();
        scene.daemon.restart(1);
        let others = |store: &Store| {
            let names = |name| store.seen[before..].iter().any(|seen| seen.head.contains(name));
            (names("carol") && names("dave")).then(|| store.seen[before..].to_vec())
        };
        let seen = xdms.until("a look at carol's and dave's", others);
        assert!(seen.iter().all(|seen| seen.method == "GET"), "nothing has changed: {seen:#?}");
        seen.iter().all(|seen| !seen.head.contains("bob"))
    });
    assert!(settled, "{:#?}", xdms.seen());
}
